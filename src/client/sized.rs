//! Packets of an exact size that no router may fragment, and what became of each: the pieces that
//! the discovery of a path's MTU is made of (RFC 8899's probe packets).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::error_queue::{self, Entry, Origin, Said};
use super::{icmp, local, tcp::errno};
use crate::outcome::{Fault, FaultCode};
use crate::spec::trace::Trace;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// An ICMP echo request; the reply proves that it arrived.
    Echo,
    /// A UDP datagram to this port; an answer from it, or the target's own "port unreachable",
    /// proves that it arrived.
    Udp(u16),
}

impl Carrier {
    /// Bytes of the carrier's header: both have eight.
    const HEADER: u32 = 8;
}

/// The header of an IP packet without options or extensions.
pub const fn ip_header(ipv6: bool) -> u32 {
    if ipv6 { 40 } else { 20 }
}

/// The smallest packet that carries a token: any link takes it (RFC 791: 68 bytes).
pub const fn smallest(ipv6: bool) -> u32 {
    if ipv6 { 88 } else { 68 }
}

/// The largest packet that the headers can say, and the same for both families.
pub const LARGEST: u32 = 65_535;

/// What became of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived whole.
    Arrived {
        after: Duration,
        proof: Proof,
    },
    /// A router on the way said that it is too big, and what it takes.
    TooBig {
        mtu: Option<u32>,
        router: Option<IpAddr>,
    },
    /// This node's own interface takes no more than this.
    TooBigHere {
        mtu: Option<u32>,
    },
    /// This node's own link dropped it: its queue was full, or the far end of a virtual link
    /// refused it (the kernel says ENOBUFS to a socket with an error queue, ip(7)).
    DroppedHere,
    /// The network answered that there is no way.
    Unreachable(String),
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The target sent it back.
    Returned,
    /// The target said that nobody listens on the port. Linux sends about one such answer a
    /// second to each asker (net.ipv4.icmp_ratelimit).
    PortUnreachable,
}

/// Sends one packet of `bytes`, IP header included, and waits for what comes of it. Every packet
/// has a socket of its own, so that no late answer to another one is taken for its own.
pub async fn send(
    to: IpAddr,
    carrier: Carrier,
    bytes: u32,
    wait: Duration,
    trace: &Trace,
) -> Result<Outcome, Fault> {
    let ipv6 = to.is_ipv6();
    let doing = format!("sending {bytes} bytes to {to}");
    let ours = |code: Errno| {
        local::fault(code, &doing, to).unwrap_or_else(|| {
            Fault::new(FaultCode::LocalNetwork, format!("{doing}: {}", code.desc().to_lowercase()))
        })
    };
    let (socket, way) = match carrier {
        Carrier::Echo => icmp::open(to)?,
        Carrier::Udp(_) => {
            let socket =
                Socket::new(Domain::for_address((to, 0).into()), Type::DGRAM, Some(Protocol::UDP))
                    .map_err(|error| ours(errno(&error)))?;
            socket.set_nonblocking(true).map_err(|error| ours(errno(&error)))?;
            (socket, icmp::Way::Datagram)
        }
    };
    let unsupported = |what: &str, error: std::io::Error| {
        Fault::new(FaultCode::Unsupported, format!("{doing}: this kernel refuses {what}: {error}"))
    };
    icmp::never_fragment(&socket, ipv6).map_err(|error| unsupported("IP_PMTUDISC_PROBE", error))?;
    error_queue::arm(&socket, ipv6).map_err(|error| unsupported("IP_RECVERR", error))?;
    let port = match carrier {
        Carrier::Echo => 0,
        Carrier::Udp(port) => port,
    };
    if let Err(error) = icmp::connect(&socket, to, port) {
        return no_way(errno(&error), &doing, to);
    }

    let size = bytes.saturating_sub(ip_header(ipv6)).saturating_sub(Carrier::HEADER);
    let payload = payload(usize::try_from(size).unwrap_or(0))?;
    let sent = Sent { ipv6, carrier, way, identifier: icmp::identifier(), payload };
    let packet = match carrier {
        Carrier::Echo => icmp::request(ipv6, sent.identifier, SEQUENCE, &sent.payload),
        Carrier::Udp(_) => sent.payload.clone(),
    };
    let began = Instant::now();
    // Tokio's datagram socket fits any datagram descriptor, and can wait for the error queue.
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| ours(errno(&error)))?;
    match SockRef::from(&socket).send(&packet) {
        Ok(_) => {
            trace.note(format_args!("sent {bytes} bytes to {to} ({carrier:?}, {})", way.word()));
        }
        Err(error) if errno(&error) == Errno::EMSGSIZE => {
            let mtu = match error_queue::next(&socket) {
                Ok(Some(entry)) => {
                    trace.note(format_args!("error queue: {entry}"));
                    entry_mtu(&entry)
                }
                _ => None,
            };
            trace.note(format_args!("{bytes} bytes are too many for this node's interface"));
            return Ok(Outcome::TooBigHere { mtu });
        }
        Err(error) if errno(&error) == Errno::ENOBUFS => {
            trace.note(format_args!("{bytes} bytes to {to} were dropped by this node's own link"));
            return Ok(Outcome::DroppedHere);
        }
        Err(error) => return no_way(errno(&error), &doing, to),
    }
    // An answer is as large as what it answers; what is larger is not one.
    let mut buffer = vec![0; packet.len() + ANSWER_EXTRA];
    loop {
        if let Some(outcome) = sent.look(&socket, to, began, &mut buffer, &doing, trace)? {
            return Ok(outcome);
        }
        match timeout_at(began + wait, socket.ready(Interest::READABLE | Interest::ERROR)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(ours(errno(&error))),
            Err(_) => {
                trace.note(format_args!("no answer to {bytes} bytes within {wait:.1?}"));
                return Ok(Outcome::Silent);
            }
        }
    }
}

/// An IP header with options (RFC 791), which a raw socket shows, and one byte to see an excess.
const ANSWER_EXTRA: usize = 60 + 1;

/// One packet a socket: the sequence number tells nothing further.
const SEQUENCE: u16 = 1;

/// Random bytes at the front of each payload, by which an answer is known.
const TOKEN: usize = 8;

fn payload(size: usize) -> Result<Vec<u8>, Fault> {
    let mut payload = vec![0x67; size];
    if let Some(token) = payload.get_mut(..TOKEN.min(size)) {
        getrandom::fill(token).map_err(|error| {
            Fault::new(FaultCode::Unsupported, format!("this node gives no random bytes: {error}"))
        })?;
    }
    Ok(payload)
}

/// A connect or send that failed at once.
fn no_way(code: Errno, doing: &str, to: IpAddr) -> Result<Outcome, Fault> {
    match (local::fault(code, doing, to), code) {
        (Some(fault), _) => Err(fault),
        (None, Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Ok(Outcome::Unreachable(format!(
            "{doing}: {}; look at `ip route get {to}`",
            code.desc().to_lowercase()
        ))),
        (None, _) => Err(Fault::new(
            FaultCode::LocalNetwork,
            format!("{doing}: {}", code.desc().to_lowercase()),
        )),
    }
}

fn entry_mtu(entry: &Entry) -> Option<u32> {
    match entry.said() {
        Said::TooBig(mtu) => mtu,
        _ => None,
    }
}

struct Sent {
    ipv6: bool,
    carrier: Carrier,
    way: icmp::Way,
    identifier: u16,
    payload: Vec<u8>,
}

/// More entries or packets than this at one look are left for the next.
const LOOK_LIMIT: usize = 64;

impl Sent {
    /// Reads all that has come, until something decides.
    fn look(
        &self,
        socket: &UdpSocket,
        to: IpAddr,
        began: Instant,
        buffer: &mut [u8],
        doing: &str,
        trace: &Trace,
    ) -> Result<Option<Outcome>, Fault> {
        // Readiness is cleared when a source has run dry, and only then.
        for _ in 0..LOOK_LIMIT {
            let taken = socket.try_io(Interest::ERROR, || match error_queue::next(socket) {
                Ok(Some(entry)) => Ok(entry),
                Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                Err(code) => Err(code.into()),
            });
            match taken {
                Ok(entry) => {
                    trace.note(format_args!("error queue: {entry}"));
                    if let Some(outcome) = self.judge(&entry, to, began, doing)? {
                        return Ok(Some(outcome));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let text = format!("{doing}: reading the error queue: {error}");
                    return Err(Fault::new(FaultCode::Garbled, text));
                }
            }
        }
        for _ in 0..LOOK_LIMIT {
            match socket.try_recv(buffer) {
                Ok(length) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    if self.is_answer(packet) {
                        let after = began.elapsed();
                        trace.note(format_args!("answered after {after:.1?}, {length} bytes"));
                        return Ok(Some(Outcome::Arrived { after, proof: Proof::Returned }));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The error of an entry that came since the queue was read; reading it took it, and
                // the next look finds the entry.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        match self.carrier {
            Carrier::Udp(_) => packet == self.payload,
            Carrier::Echo => {
                let inner = match self.way {
                    icmp::Way::Raw if !self.ipv6 => icmp::without_ip_header(packet),
                    _ => Some(packet),
                };
                inner.and_then(|inner| icmp::echo(self.ipv6, inner)).is_some_and(|echo| {
                    echo.reply && self.is_ours(&echo) && echo.payload == self.payload
                })
            }
        }
    }

    /// The kernel sets the identifier of a datagram socket, and hands over only its own.
    fn is_ours(&self, echo: &icmp::Echo<'_>) -> bool {
        echo.sequence == SEQUENCE
            && (self.way == icmp::Way::Datagram || echo.identifier == self.identifier)
    }

    /// What an entry means for this packet; None where it is about another one.
    fn judge(
        &self,
        entry: &Entry,
        to: IpAddr,
        began: Instant,
        doing: &str,
    ) -> Result<Option<Outcome>, Fault> {
        if entry.origin == Origin::Local {
            return Ok(matches!(entry.said(), Said::TooBig(_))
                .then(|| Outcome::TooBigHere { mtu: entry_mtu(entry) }));
        }
        if !self.quotes_us(&entry.quoted) {
            return Ok(None);
        }
        if let Some(fault) = local::prohibited(entry, doing, to) {
            return Err(fault);
        }
        Ok(match entry.said() {
            Said::TooBig(mtu) => Some(Outcome::TooBig { mtu, router: entry.offender }),
            Said::PortUnreachable
                if entry.offender == Some(to) && matches!(self.carrier, Carrier::Udp(_)) =>
            {
                Some(Outcome::Arrived { after: began.elapsed(), proof: Proof::PortUnreachable })
            }
            Said::PortUnreachable | Said::Prohibited | Said::Unreachable | Said::TtlExceeded => {
                Some(Outcome::Unreachable(local::words(entry, to)))
            }
            Said::Other => None,
        })
    }

    /// A router quotes at least the first eight bytes behind the IP header (RFC 792): the echo's
    /// header, or UDP's, behind which the kernel shows as much of the payload as there is.
    fn quotes_us(&self, quoted: &[u8]) -> bool {
        match self.carrier {
            Carrier::Udp(_) => {
                let length = quoted.len().min(TOKEN);
                quoted.get(..length) == self.payload.get(..length)
            }
            Carrier::Echo => icmp::echo(self.ipv6, quoted).is_some_and(|echo| self.is_ours(&echo)),
        }
    }
}
