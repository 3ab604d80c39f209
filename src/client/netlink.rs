//! Netlink (uapi/linux/netlink.h, netlink(7)): one question to the kernel, and the messages that
//! answer it. Blocking, with a deadline, and with buffers that are kept from question to question.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// The kernel fills at most 32 KiB of an answer at once (net/netlink/af_netlink.c, netlink_dump).
const ANSWER_BYTES: usize = 32 << 10;

/// Of one answer, in all: a hundred thousand sockets take a fifth of it.
const DUMP_LIMIT: usize = 128 << 20;

/// Longer than any question asked here.
const REQUEST_LIMIT: usize = 512;

/// Waiting for the next part of an answer: the kernel has it ready, nearly always.
const PART_DEADLINE: Duration = Duration::from_secs(2);

const DUMP_DEADLINE: Duration = Duration::from_secs(5);

const HEADER: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links and queues: rtnetlink(7).
    Route,
    /// Sockets: sock_diag(7).
    SockDiag,
}

/// Why there is no whole answer. Small, so that the same trouble every second costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The kernel or the sandbox refused the socket, the question or the answer.
    Refused(Errno),
    /// No answer within the deadline.
    Silent,
    /// What was asked for changed while it was told (NLM_F_DUMP_INTR): some may be missing.
    Changed,
    /// The answer makes no sense, or never ends.
    Garbled,
}

impl Trouble {
    pub fn fault(self, what: &str) -> Fault {
        match self {
            Self::Refused(errno @ (Errno::EPERM | Errno::EACCES)) => Fault::new(
                FaultCode::Permission,
                format!("{what} may not be asked for by netlink: {}", errno.desc()),
            ),
            Self::Refused(
                errno @ (Errno::EOPNOTSUPP
                | Errno::EAFNOSUPPORT
                | Errno::EPROTONOSUPPORT
                | Errno::ENOENT
                | Errno::EINVAL),
            ) => Fault::new(
                FaultCode::Unsupported,
                format!(
                    "this kernel, or the sandbox around us, does not tell {what} by netlink: {}",
                    errno.desc()
                ),
            ),
            Self::Refused(errno) => Fault::new(
                FaultCode::Unreadable,
                format!("{what} could not be had by netlink: {}", errno.desc()),
            ),
            Self::Silent => Fault::new(
                FaultCode::Hung,
                format!("the kernel did not tell {what} within {DUMP_DEADLINE:?}"),
            ),
            Self::Changed => Fault::new(
                FaultCode::Unreadable,
                format!("{what} changed again and again while the kernel told them"),
            ),
            Self::Garbled => Fault::new(
                FaultCode::Garbled,
                format!("the kernel's answer about {what} makes no sense"),
            ),
        }
    }

    /// Whether asking again can't help: the kernel or the sandbox does not have it.
    pub fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::Refused(
                Errno::EPERM
                    | Errno::EACCES
                    | Errno::EOPNOTSUPP
                    | Errno::EAFNOSUPPORT
                    | Errno::EPROTONOSUPPORT
            )
        )
    }
}

/// A socket to the kernel, opened when it is first needed and anew after any trouble.
pub struct Netlink {
    protocol: Protocol,
    socket: Option<OwnedFd>,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Netlink {
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, socket: None, sequence: 0, request: Vec::new(), answer: Vec::new() }
    }

    /// Asks for all of a kind, and calls `each` with the type and the body of every message of
    /// the answer. What was told before an error must be thrown away.
    pub fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Trouble> {
        let outcome = self.ask(kind, body, each);
        if outcome.is_err() {
            // The rest of a broken answer must not be taken for the next one.
            self.socket = None;
        }
        outcome
    }

    fn ask(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Trouble> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(self.protocol).map_err(Trouble::Refused)?),
        };
        self.sequence = self.sequence.wrapping_add(1);
        write(&mut self.request, kind, self.sequence, body)?;
        send(socket.as_raw_fd(), &self.request, MsgFlags::empty()).map_err(Trouble::Refused)?;
        self.answer.resize(ANSWER_BYTES, 0);

        let asked = Mono::now();
        let mut walk = Walk { sequence: self.sequence, changed: false };
        let mut told = 0;
        loop {
            // With MSG_TRUNC the length is the message's own, also where it did not fit.
            let length = match recv(socket.as_raw_fd(), &mut self.answer, MsgFlags::MSG_TRUNC) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Trouble::Silent),
                Err(errno) => return Err(Trouble::Refused(errno)),
            };
            let part = self.answer.get(..length).ok_or(Trouble::Garbled)?;
            told += length;
            if walk.part(part, &mut each)? {
                return if walk.changed { Err(Trouble::Changed) } else { Ok(()) };
            }
            if length == 0 || told > DUMP_LIMIT {
                return Err(Trouble::Garbled);
            }
            if Mono::now().since(asked) > DUMP_DEADLINE {
                return Err(Trouble::Silent);
            }
        }
    }
}

fn open(protocol: Protocol) -> Result<OwnedFd, Errno> {
    let protocol = match protocol {
        Protocol::Route => SockProtocol::NetlinkRoute,
        Protocol::SockDiag => SockProtocol::NetlinkSockDiag,
    };
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let deadline = i64::try_from(PART_DEADLINE.as_millis()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(deadline))?;
    // Connected to the kernel, it takes nothing from other processes.
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn write(request: &mut Vec<u8>, kind: u16, sequence: u32, body: &[u8]) -> Result<(), Trouble> {
    let length = HEADER + body.len();
    let Some(length) = u32::try_from(length).ok().filter(|_| length <= REQUEST_LIMIT) else {
        return Err(Trouble::Refused(Errno::EMSGSIZE));
    };
    request.clear();
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend_from_slice(&sequence.to_ne_bytes());
    request.extend_from_slice(&0u32.to_ne_bytes());
    request.extend_from_slice(body);
    Ok(())
}

/// Goes through the parts of one answer.
struct Walk {
    sequence: u32,
    changed: bool,
}

impl Walk {
    /// True at the answer's end.
    fn part(&mut self, part: &[u8], each: &mut impl FnMut(u16, &[u8])) -> Result<bool, Trouble> {
        let mut rest = part;
        while !rest.is_empty() {
            let (message, after) = message(rest).ok_or(Trouble::Garbled)?;
            rest = after;
            // Of a question that was given up.
            if message.sequence != self.sequence {
                continue;
            }
            self.changed |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_DONE => {
                    // Since Linux 4.20 the end of a dump carries what became of it.
                    return match i32_at(message.body, 0) {
                        Some(error) if error < 0 => Err(refused(error)),
                        _ => Ok(true),
                    };
                }
                NLMSG_ERROR => {
                    return match i32_at(message.body, 0) {
                        Some(0) => Ok(true),
                        Some(error) => Err(refused(error)),
                        None => Err(Trouble::Garbled),
                    };
                }
                // NLMSG_NOOP and NLMSG_OVERRUN: the latter is told by ENOBUFS today.
                kind if kind < 0x10 => {}
                kind => each(kind, message.body),
            }
        }
        Ok(false)
    }
}

fn refused(error: i32) -> Trouble {
    match Errno::from_raw(error.saturating_neg()) {
        Errno::EINTR => Trouble::Changed,
        errno => Trouble::Refused(errno),
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER..length)?;
    let message = Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body,
    };
    Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// The attributes of a message or of an attribute (`struct nlattr`), as far as they make sense.
/// The two flags in an attribute's type are taken off.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The numbers of a message are in the machine's own order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
pub(crate) mod tests;
