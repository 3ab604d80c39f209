//! ICMP echo: sockets that need the least right, the packet itself, and a series of echoes.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};

use super::{kernel, local, tcp::errno};
use crate::outcome::{Fault, FaultCode};

/// What lifts the fault where no ICMP socket is permitted, and what `plan --privileges` says.
pub const NEEDS: &str = "the agent's group within net.ipv4.ping_group_range (one setting for IPv4 \
                         and IPv6), or CAP_NET_RAW";

/// Which socket the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel fills in identifier and checksum, and hands over only this socket's replies.
    Datagram,
    /// Every ICMP packet arrives here; the identifier tells ours.
    Raw,
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::Raw => "raw",
        }
    }
}

/// The unprivileged socket first, the raw one as a fallback.
pub fn open(to: IpAddr) -> Result<(Socket, Way), Fault> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let (socket, way) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, Way::Datagram),
        Err(_) => match Socket::new(domain, Type::RAW, Some(protocol)) {
            Ok(socket) => (socket, Way::Raw),
            Err(error) => return Err(not_open(&error, to)),
        },
    };
    socket.set_nonblocking(true).map_err(|error| not_open(&error, to))?;
    Ok((socket, way))
}

fn not_open(error: &io::Error, to: IpAddr) -> Fault {
    match errno(error) {
        Errno::EACCES | Errno::EPERM => Fault::new(
            FaultCode::Permission,
            format!("no ICMP socket is permitted here: it needs {NEEDS}"),
        ),
        other => local::fault(other, "opening an ICMP socket", to).unwrap_or_else(|| {
            Fault::new(FaultCode::Unsupported, format!("opening an ICMP socket: {error}"))
        }),
    }
}

/// Identifiers of raw sockets: each attempt has its own, so that concurrent checks of one target
/// never take each other's replies. (The kernel does the same for datagram sockets.)
static IDENTIFIER: AtomicU16 = AtomicU16::new(0);

pub fn identifier() -> u16 {
    // The process id sets apart two agents on one node.
    IDENTIFIER.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id() as u16)
}

/// Type, code, checksum, identifier, sequence (RFC 792, RFC 4443 section 4).
pub const HEADER: usize = 8;

/// An echo request. The kernel sets the checksum of ICMPv6 and of datagram sockets.
pub fn request(ipv6: bool, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + payload.len());
    packet.extend([if ipv6 { 128 } else { 8 }, 0, 0, 0]);
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(payload);
    if !ipv6 {
        let sum = checksum(&packet);
        packet.splice(2..4, sum.to_be_bytes());
    }
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let word = match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            [high] => u16::from_be_bytes([high, 0]),
            _ => 0,
        };
        sum = sum.saturating_add(u32::from(word));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !((sum & 0xffff) as u16)
}

/// An echo as it was received: a reply, or the front of a request that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    pub reply: bool,
    pub identifier: u16,
    pub sequence: u16,
    pub payload: &'a [u8],
}

/// Reads an ICMP packet; None where it is not an echo of this family.
pub fn echo(ipv6: bool, packet: &[u8]) -> Option<Echo<'_>> {
    let (head, payload) = packet.split_at_checked(HEADER)?;
    let [kind, 0, _, _, id_high, id_low, seq_high, seq_low] = *head else { return None };
    let reply = match (ipv6, kind) {
        (false, 0) | (true, 129) => true,
        (false, 8) | (true, 128) => false,
        _ => return None,
    };
    Some(Echo {
        reply,
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
        payload,
    })
}

/// What a raw IPv4 socket received, without its IP header.
pub fn without_ip_header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    if first >> 4 != 4 {
        return None;
    }
    packet.get(usize::from(first & 0x0f) * 4..)
}

/// What a raw socket lets in (classic BPF): replies with our identifier, and errors. Without it each
/// such socket is sent every ICMP packet of the node, and while it overflows ours are lost too. An IPv4
/// packet comes with its IP header, an ICMPv6 one without.
fn only_ours(ipv6: bool, identifier: u16) -> [SockFilter; 8] {
    use nix::libc::{
        BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JMP, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
    };
    let (request, reply) = if ipv6 { (128, 129) } else { (8, 0) };
    let header = if ipv6 { BPF_LDX | BPF_IMM } else { BPF_LDX | BPF_B | BPF_MSH };
    [
        (header, 0, 0, 0),
        (BPF_LD | BPF_B | BPF_IND, 0, 0, 0),
        (BPF_JMP | BPF_JEQ, 3, 0, request),
        (BPF_JMP | BPF_JEQ, 0, 3, reply),
        (BPF_LD | BPF_H | BPF_IND, 0, 0, 4),
        (BPF_JMP | BPF_JEQ, 1, 0, u32::from(identifier)),
        (BPF_RET, 0, 0, 0),
        (BPF_RET, 0, 0, u32::MAX),
    ]
    .map(|(code, then, otherwise, value)| SockFilter::new(code as u16, then, otherwise, value))
}

/// A series of echoes to one target, on a socket of its own: a reply that comes after the socket
/// is gone is counted nowhere.
pub struct Echoes {
    client: Client,
    to: IpAddr,
    identifier: PingIdentifier,
    way: Way,
}

/// What became of one echo request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Replied(Duration),
    /// A router or the host answered that it can't be reached.
    Unreachable(String),
    Silent,
    Fault(Fault),
}

impl Echoes {
    pub fn open(to: IpAddr) -> Result<Self, Fault> {
        let kind = if to.is_ipv6() { ICMP::V6 } else { ICMP::V4 };
        let client = Client::new(&Config::builder().kind(kind).build()).map_err(|error| {
            match error.kind() {
                // The library's error text replaces the errno here.
                io::ErrorKind::PermissionDenied => not_open(&Errno::EACCES.into(), to),
                _ => not_open(&error, to),
            }
        })?;
        let way = match client.get_socket().get_type() {
            Type::RAW => Way::Raw,
            _ => Way::Datagram,
        };
        let identifier = identifier();
        if way == Way::Raw {
            let socket = client.get_socket();
            SockRef::from(&kernel::borrowed(&socket))
                .attach_filter(&only_ours(to.is_ipv6(), identifier))
                .map_err(|error| not_open(&error, to))?;
        }
        Ok(Self { client, to, identifier: PingIdentifier(identifier), way })
    }

    pub fn way(&self) -> Way {
        self.way
    }

    /// Sends one request and waits for its answer.
    pub async fn echo(&self, sequence: u16, payload: &[u8], wait: Duration) -> Answer {
        let mut pinger = self.client.pinger(self.to, self.identifier).await;
        pinger.timeout(wait);
        match pinger.ping(PingSequence(sequence), payload).await {
            // On a raw socket an error message is returned like a reply.
            Ok((packet, took)) => match complaint(&packet) {
                None => Answer::Replied(took),
                Some(text) => Answer::Unreachable(text),
            },
            Err(SurgeError::Timeout { .. }) => Answer::Silent,
            Err(SurgeError::IOError(error)) => self.not_sent(&error),
            Err(other) => Answer::Fault(Fault::new(
                FaultCode::Garbled,
                format!("sending an ICMP echo to {}: {other}", self.to),
            )),
        }
    }

    fn not_sent(&self, error: &io::Error) -> Answer {
        let doing = format!("sending an ICMP echo to {}", self.to);
        match (local::fault(errno(error), &doing, self.to), errno(error)) {
            (Some(fault), _) => Answer::Fault(fault),
            (None, Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Answer::Unreachable(format!(
                "{doing}: {}; look at `ip route get {}`",
                errno(error).desc().to_lowercase(),
                self.to
            )),
            (None, _) => {
                Answer::Fault(Fault::new(FaultCode::LocalNetwork, format!("{doing}: {error}")))
            }
        }
    }
}

/// The error message in the place of a reply, in words.
fn complaint(packet: &IcmpPacket) -> Option<String> {
    match packet {
        IcmpPacket::V4(packet) => match packet.get_icmp_type().0 {
            0 => None,
            kind => Some(format!(
                "icmp {kind}/{} from {}",
                packet.get_icmp_code().0,
                packet.get_source()
            )),
        },
        IcmpPacket::V6(packet) => match packet.get_icmpv6_type().0 {
            129 => None,
            kind => Some(format!(
                "icmpv6 {kind}/{} from {}",
                packet.get_icmpv6_code().0,
                packet.get_source()
            )),
        },
    }
}

/// Binds an ICMP or UDP socket to one peer, so that only its packets and the errors about ours
/// arrive.
pub fn connect(socket: &Socket, to: IpAddr, port: u16) -> io::Result<()> {
    socket.connect(&std::net::SocketAddr::new(to, port).into())
}

/// Never fragment, and forget what the route cache believes of the path: each packet goes out and
/// is judged by the network (ip(7), IP_PMTUDISC_PROBE; a stale entry lives for 600 s).
pub fn never_fragment(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    use rustix::net::sockopt;
    if ipv6 {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::PROBE)?;
    } else {
        sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::PROBE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use proptest::test_runner::{Config as Cases, TestRunner};

    use super::*;

    #[test]
    fn requests_are_what_the_rfcs_say() {
        // Echo request, identifier 1, sequence 2, "abc"; the checksum by hand from RFC 1071.
        let packet = request(false, 1, 2, b"abc");
        assert_eq!(packet[..2], [8, 0]);
        assert_eq!(packet[4..], [0, 1, 0, 2, b'a', b'b', b'c']);
        assert_eq!(checksum(&packet), 0, "a packet with its checksum sums to zero");
        assert_eq!(request(true, 1, 2, b"")[..4], [128, 0, 0, 0]);
        assert_eq!(checksum(&[0xff; 65_536]), 0);
    }

    #[test]
    fn identifiers_differ() {
        let seen: std::collections::BTreeSet<u16> = (0..1000).map(|_| identifier()).collect();
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn property_echo_packets() {
        let inputs = Cell::new(0u32);
        let mut runner =
            TestRunner::new(Cases { cases: 4096, failure_persistence: None, ..Cases::default() });
        let bytes = proptest::collection::vec(any::<u8>(), 0..128);
        runner
            .run(&(any::<bool>(), any::<u16>(), any::<u16>(), bytes), |(v6, id, seq, bytes)| {
                inputs.set(inputs.get() + 1);
                let packet = request(v6, id, seq, &bytes);
                let read = Echo { reply: false, identifier: id, sequence: seq, payload: &bytes };
                prop_assert_eq!(echo(v6, &packet), Some(read));
                prop_assert_eq!(echo(!v6, &packet), None);
                // Bytes from outside: no panic, and nothing shorter than a header is an echo.
                let any = echo(v6, &bytes);
                prop_assert!(any.is_none() || bytes.len() >= HEADER);
                if let Some(inner) = without_ip_header(&bytes) {
                    prop_assert!(inner.len() <= bytes.len());
                }
                let mut datagram = vec![0x45; 20];
                datagram.extend(&packet);
                prop_assert_eq!(without_ip_header(&datagram), Some(packet.as_slice()));
                Ok(())
            })
            .unwrap();
        eprintln!("property echo_packets: {} inputs", inputs.get());
    }

    /// On loopback a raw socket is shown the requests of others, and the replies to them.
    #[tokio::test]
    async fn the_echoes_of_others_fill_no_socket() {
        for to in [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()] {
            let echoes = Echoes::open(to).expect("an ICMP socket (needs root or ping_group_range)");
            let (others, _) = open(to).unwrap();
            connect(&others, to, 0).unwrap();
            for sequence in 0..3000 {
                others.send(&request(to.is_ipv6(), identifier(), sequence, &[7; 56])).unwrap();
            }
            let answer = echoes.echo(1, &[7; 56], Duration::from_secs(5)).await;
            assert!(matches!(answer, Answer::Replied(_)), "{to}: {answer:?}");
        }
    }

    /// As this machine's tests run as root, the raw socket at least is there.
    #[tokio::test]
    async fn loopback_answers() {
        for to in [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()] {
            let echoes = Echoes::open(to).expect("an ICMP socket (needs root or ping_group_range)");
            let answer = echoes.echo(1, &[7; 56], Duration::from_secs(2)).await;
            assert!(
                matches!(answer, Answer::Replied(took) if took < Duration::from_secs(1)),
                "{answer:?}"
            );
        }
    }
}
