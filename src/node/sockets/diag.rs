//! Sockets by netlink (sock_diag(7), uapi/linux/inet_diag.h): each request walks all sockets of one
//! protocol, and the kernel leaves out what is not asked for. Those of TCP are asked for in the older
//! of the two ways, which tells of both families in one walk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::client::netlink::{Netlink, Trouble, attributes, u32_at};

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Its number as a protocol of IP.
const UDP: u8 = 17;

/// `struct inet_diag_sockid`, all zero where it asks for no socket of its own, and `struct
/// inet_diag_msg`.
const NO_SOCKET: [u8; 48] = [0; 48];
const MESSAGE: usize = 72;

const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_SKV6ONLY: u16 = 11;

/// Of `struct inet_diag_bc_op`.
const SOURCE_AT_LEAST: u8 = 2;
const SOURCE_AT_MOST: u8 = 3;

/// By the numbers of TCP's states (include/net/tcp_states.h).
const LISTEN: u32 = 1 << 10;
const CLOSE: u32 = 1 << 7;
/// From the first packet of ours to the last minute; those half open are of listeners.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Sockets of TCP that listen.
    Listening,
    /// Sockets of UDP that are bound and have no peer.
    Bound,
    /// Connections of TCP whose local port is one of these, those that wait to be forgotten
    /// (TIME_WAIT) included.
    From { first: u16, last: u16 },
}

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) local: IpAddr,
    pub(super) port: u16,
    pub(super) remote: IpAddr,
    pub(super) remote_port: u16,
    /// Of a listener: connections that wait to be accepted, and how many may.
    pub(super) waiting: u32,
    pub(super) most: u32,
    pub(super) user: u32,
    /// 0 where nobody holds it any more.
    pub(super) inode: u32,
    /// Of IPv6 alone, where it is told.
    pub(super) only_v6: Option<bool>,
}

fn told(body: &[u8]) -> Option<Socket> {
    let family = *body.first()?;
    let port = |at: usize| body.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let address = |at: usize| match family {
        AF_INET => {
            let bytes: [u8; 4] = *body.get(at..)?.first_chunk()?;
            Some(IpAddr::V4(Ipv4Addr::from(bytes)))
        }
        AF_INET6 => {
            let bytes: [u8; 16] = *body.get(at..)?.first_chunk()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    };
    let only_v6 = attributes(body.get(MESSAGE..)?)
        .find(|(kind, _)| *kind == INET_DIAG_SKV6ONLY)
        .and_then(|(_, value)| value.first())
        .map(|only| *only != 0);
    Some(Socket {
        // A connection of IPv4 may be held by a socket of IPv6.
        local: address(8)?.to_canonical(),
        port: port(4)?,
        remote: address(24)?.to_canonical(),
        remote_port: port(6)?,
        waiting: u32_at(body, 56)?,
        most: u32_at(body, 60)?,
        user: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
        only_v6,
    })
}

/// Types and bodies of the requests that ask it.
fn requests(question: Question) -> Vec<(u16, Vec<u8>)> {
    let (first, last) = match question {
        Question::Listening => return vec![(TCPDIAG_GETSOCK, of_tcp(LISTEN))],
        Question::Bound => {
            let of = |family| (SOCK_DIAG_BY_FAMILY, of_udp(family));
            return [AF_INET, AF_INET6].map(of).into();
        }
        Question::From { first, last } => (first, last),
    };
    // Two comparisons, each with its port in a second word: the step on where it holds, and one
    // beyond the end where it does not.
    let step = |code: u8, beyond: u16, port: u16| {
        let [b0, b1] = beyond.to_ne_bytes();
        let [p0, p1] = port.to_ne_bytes();
        [code, 8, b0, b1, 0, 0, p0, p1]
    };
    let mut body = of_tcp(CONNECTED);
    let [size, kind] = [20, INET_DIAG_REQ_BYTECODE].map(u16::to_ne_bytes);
    body.extend(size.into_iter().chain(kind));
    body.extend(step(SOURCE_AT_LEAST, 20, first));
    body.extend(step(SOURCE_AT_MOST, 12, last));
    vec![(TCPDIAG_GETSOCK, body)]
}

/// `struct inet_diag_req`.
fn of_tcp(states: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(NO_SOCKET);
    body.extend(states.to_ne_bytes());
    body.extend([0; 4]);
    body
}

/// `struct inet_diag_req_v2`.
fn of_udp(family: u8) -> Vec<u8> {
    let mut body = vec![family, UDP, 0, 0];
    body.extend(CLOSE.to_ne_bytes());
    body.extend(NO_SOCKET);
    body
}

/// Asks the kernel, of both families.
pub(super) struct Asker {
    netlink: Netlink,
    asked: Option<Question>,
    requests: Vec<(u16, Vec<u8>)>,
}

impl Asker {
    pub(super) fn new(netlink: Netlink) -> Self {
        Self { netlink, asked: None, requests: Vec::new() }
    }

    /// What was told before an error must be thrown away.
    pub(super) fn ask(
        &mut self,
        question: Question,
        mut each: impl FnMut(Socket),
    ) -> Result<(), Trouble> {
        if self.asked != Some(question) {
            self.requests = requests(question);
            self.asked = Some(question);
        }
        for (wanted, body) in &self.requests {
            self.netlink.dump(*wanted, body, |kind, message| {
                if let Some(socket) = (kind == *wanted).then(|| told(message)).flatten() {
                    each(socket);
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
