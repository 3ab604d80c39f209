//! The error queue of a socket (ip(7), IP_RECVERR): which ICMP message a packet of ours met, and
//! which router sent it. Needs no capability.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

/// One entry: what came back for a packet of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub errno: Errno,
    pub origin: Origin,
    pub kind: u8,
    pub code: u8,
    /// The next hop's MTU, where the message is "too big"; 0 where the router left it out.
    pub info: u32,
    /// Who sent the message; None where it came from this node's own stack.
    pub offender: Option<IpAddr>,
    /// The front of our packet as the message quoted it, without its IP header.
    pub quoted: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This node's own stack, before anything was sent.
    Local,
    Icmp,
    Icmp6,
    Other(u8),
}

/// What an entry means for the packet that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The packet was larger than the next hop takes; None where the MTU was left out (RFC 1191
    /// section 5: routers from before it send 0).
    TooBig(Option<u32>),
    PortUnreachable,
    /// A packet filter said so.
    Prohibited,
    Unreachable,
    TtlExceeded,
    Other,
}

impl Entry {
    pub fn said(&self) -> Said {
        match (self.origin, self.kind, self.code) {
            (Origin::Local, _, _) if self.errno == Errno::EMSGSIZE => Said::TooBig(self.mtu()),
            // RFC 792 and RFC 1812 section 5.2.7.1.
            (Origin::Icmp, 3, 4) => Said::TooBig(self.mtu()),
            (Origin::Icmp, 3, 3) => Said::PortUnreachable,
            (Origin::Icmp, 3, 9 | 10 | 13) => Said::Prohibited,
            (Origin::Icmp, 3, _) => Said::Unreachable,
            (Origin::Icmp, 11, _) => Said::TtlExceeded,
            // RFC 4443 section 3.
            (Origin::Icmp6, 2, _) => Said::TooBig(self.mtu()),
            (Origin::Icmp6, 1, 4) => Said::PortUnreachable,
            (Origin::Icmp6, 1, 1 | 5 | 6) => Said::Prohibited,
            (Origin::Icmp6, 1, _) => Said::Unreachable,
            (Origin::Icmp6, 3, _) => Said::TtlExceeded,
            _ => Said::Other,
        }
    }

    fn mtu(&self) -> Option<u32> {
        (self.info > 0).then_some(self.info)
    }

    fn words(&self) -> &'static str {
        match (self.origin, self.kind, self.code) {
            (Origin::Icmp, 3, 0) | (Origin::Icmp6, 1, 0) => "no route to the network",
            (Origin::Icmp, 3, 1) | (Origin::Icmp6, 1, 3) => "host unreachable",
            (Origin::Icmp, 3, 2) => "protocol unreachable",
            (Origin::Icmp, 3, 3) | (Origin::Icmp6, 1, 4) => "port unreachable",
            (Origin::Icmp, 3, 4) => "fragmentation needed",
            (Origin::Icmp, 3, 9 | 10 | 13) | (Origin::Icmp6, 1, 1) => "prohibited by a filter",
            (Origin::Icmp6, 1, 5) => "source address refused by policy",
            (Origin::Icmp6, 1, 6) => "route rejects it",
            (Origin::Icmp6, 2, _) => "packet too big",
            (Origin::Icmp, 11, _) | (Origin::Icmp6, 3, _) => "hop limit exceeded",
            (Origin::Icmp, 3, _) | (Origin::Icmp6, 1, _) => "unreachable",
            _ => "other message",
        }
    }
}

/// As a person reads it: `icmp 3/4 (fragmentation needed, mtu 1400) from 10.0.0.1`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Local => write!(f, "this node's own stack: {}", self.errno.desc())?,
            Origin::Other(origin) => {
                write!(f, "origin {origin} {}/{}: {}", self.kind, self.code, self.errno.desc())?;
            }
            Origin::Icmp => write!(f, "icmp {}/{} ({}", self.kind, self.code, self.words())?,
            Origin::Icmp6 => write!(f, "icmpv6 {}/{} ({}", self.kind, self.code, self.words())?,
        }
        let closing = if matches!(self.origin, Origin::Icmp | Origin::Icmp6) { ")" } else { "" };
        match (self.said(), self.mtu()) {
            (Said::TooBig(_), Some(mtu)) => write!(f, ", mtu {mtu}{closing}")?,
            _ => f.write_str(closing)?,
        }
        match self.offender {
            Some(offender) => write!(f, " from {offender}"),
            None => Ok(()),
        }
    }
}

/// Asks the kernel to queue what comes back for this socket's packets.
pub fn arm(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
    }
    Ok(())
}

/// What a message quotes of our packet beyond this is cut: an echo's header and token, or a UDP
/// payload's token, lie within.
const QUOTED_LIMIT: usize = 64;

/// Takes the oldest entry off the queue; None where it is empty. Never waits. The kernel keeps the
/// error of the next entry pending (SO_ERROR), and that fails the next send or read: read all of
/// them first.
pub fn next(socket: &impl AsFd) -> Result<Option<Entry>, Errno> {
    let mut quoted = [0u8; QUOTED_LIMIT];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, [u8; 64]);
    let mut parts = [IoSliceMut::new(&mut quoted)];
    let message = match recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(other) => return Err(other),
    };
    let length = message.bytes.min(QUOTED_LIMIT);
    let mut found = None;
    for control in message.cmsgs()? {
        let (error, offender) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, from) => (error, from.and_then(v4)),
            ControlMessageOwned::Ipv6RecvErr(error, from) => (error, from.and_then(v6)),
            _ => continue,
        };
        found = Some((error, offender));
    }
    let Some((error, offender)) = found else { return Ok(None) };
    Ok(Some(Entry {
        errno: Errno::from_raw(i32::try_from(error.ee_errno).unwrap_or(0)),
        origin: match error.ee_origin {
            libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
            libc::SO_EE_ORIGIN_ICMP => Origin::Icmp,
            libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmp6,
            other => Origin::Other(other),
        },
        kind: error.ee_type,
        code: error.ee_code,
        info: error.ee_info,
        offender: if error.ee_origin == libc::SO_EE_ORIGIN_LOCAL { None } else { offender },
        quoted: quoted.get(..length).unwrap_or_default().to_vec(),
    }))
}

fn v4(from: libc::sockaddr_in) -> Option<IpAddr> {
    (i32::from(from.sin_family) == libc::AF_INET)
        .then(|| IpAddr::V4(Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr))))
}

/// A dual-stack socket reports IPv4 routers as mapped addresses.
fn v6(from: libc::sockaddr_in6) -> Option<IpAddr> {
    (i32::from(from.sin6_family) == libc::AF_INET6)
        .then(|| IpAddr::V6(Ipv6Addr::from(from.sin6_addr.s6_addr)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(origin: Origin, kind: u8, code: u8, info: u32) -> Entry {
        let offender = (origin != Origin::Local).then(|| IpAddr::from([10, 0, 0, 1]));
        Entry { errno: Errno::EMSGSIZE, origin, kind, code, info, offender, quoted: Vec::new() }
    }

    #[test]
    fn entries_mean_what_the_rfcs_say() {
        let table = [
            (entry(Origin::Icmp, 3, 4, 1400), Said::TooBig(Some(1400))),
            (entry(Origin::Icmp, 3, 4, 0), Said::TooBig(None)),
            (entry(Origin::Icmp, 3, 3, 0), Said::PortUnreachable),
            (entry(Origin::Icmp, 3, 13, 0), Said::Prohibited),
            (entry(Origin::Icmp, 3, 1, 0), Said::Unreachable),
            (entry(Origin::Icmp, 11, 0, 0), Said::TtlExceeded),
            (entry(Origin::Icmp, 12, 0, 0), Said::Other),
            (entry(Origin::Icmp6, 2, 0, 1280), Said::TooBig(Some(1280))),
            (entry(Origin::Icmp6, 1, 4, 0), Said::PortUnreachable),
            (entry(Origin::Icmp6, 1, 1, 0), Said::Prohibited),
            (entry(Origin::Icmp6, 1, 3, 0), Said::Unreachable),
            (entry(Origin::Icmp6, 3, 0, 0), Said::TtlExceeded),
            (entry(Origin::Local, 0, 0, 1500), Said::TooBig(Some(1500))),
            (entry(Origin::Other(4), 0, 0, 0), Said::Other),
        ];
        for (entry, said) in table {
            assert_eq!(entry.said(), said, "{entry}");
        }
    }

    #[test]
    fn an_entry_reads_as_a_sentence() {
        assert_eq!(
            entry(Origin::Icmp, 3, 4, 1400).to_string(),
            "icmp 3/4 (fragmentation needed, mtu 1400) from 10.0.0.1"
        );
        assert_eq!(
            entry(Origin::Icmp6, 1, 1, 0).to_string(),
            "icmpv6 1/1 (prohibited by a filter) from 10.0.0.1"
        );
        assert_eq!(
            entry(Origin::Local, 0, 0, 1500).to_string(),
            "this node's own stack: Message too long, mtu 1500"
        );
    }

    /// A closed UDP port on loopback answers with ICMP 3/3, and the entry quotes what was sent.
    #[test]
    fn a_refused_datagram_is_in_the_queue() {
        for ipv6 in [false, true] {
            let host: IpAddr =
                if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
            let closed = {
                let holder = std::net::UdpSocket::bind((host, 0)).unwrap();
                holder.local_addr().unwrap()
            };
            let socket = std::net::UdpSocket::bind((host, 0)).unwrap();
            arm(&socket, ipv6).unwrap();
            assert_eq!(next(&socket), Ok(None));
            socket.connect(closed).unwrap();
            socket.send(b"greenlight").unwrap();
            let entry = (0..100)
                .find_map(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    next(&socket).unwrap()
                })
                .expect("an entry within a second");
            assert_eq!(entry.said(), Said::PortUnreachable, "{entry}");
            assert_eq!(entry.offender, Some(host));
            assert_eq!(entry.errno, Errno::ECONNREFUSED);
            assert_eq!(entry.quoted, b"greenlight");
            assert_eq!(next(&socket), Ok(None));
            assert!(socket.take_error().unwrap().is_none(), "reading the entry takes the error");
        }
    }
}
