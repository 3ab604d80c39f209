//! Datagrams to UDP and to local sockets: nothing answers but the kernel, and what it says of one
//! datagram comes with a later one.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::{Instant, timeout_at};

use super::address::{HostPort, lookup};
use super::tcp::errno;
use super::{Clients, local};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Mono;

/// After the last datagram, an ICMP answer is waited for so long: a round trip in a data centre.
const SETTLE: Duration = Duration::from_millis(60);

/// What is known of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Handed {
    /// All of it was taken, by a connection that ended in good order where there is one.
    Over { at: Mono },
    /// Certainly nothing of it left.
    Not(Trouble),
    /// It may or may not have been read.
    Perhaps(Reason),
}

/// A connected socket.
pub struct Socket {
    kind: Kind,
    to: String,
}

enum Kind {
    Udp(UdpSocket, SocketAddr),
    Local(UnixDatagram),
}

impl Socket {
    pub async fn udp(clients: &Clients, to: &HostPort, within: Duration) -> Result<Self, Trouble> {
        let shown = format!("udp://{}:{}", to.host, to.port);
        let addresses = lookup(clients, &to.host, None, within).await?;
        let mut last = None;
        for address in addresses {
            let peer = SocketAddr::new(address, to.port);
            let own: SocketAddr =
                if address.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
            let open = async {
                let socket = UdpSocket::bind(own).await?;
                // Only a connected socket is told of ICMP errors (udp(7)).
                socket.connect(peer).await?;
                Ok::<_, io::Error>(socket)
            };
            match open.await {
                Ok(socket) => return Ok(Self { kind: Kind::Udp(socket, peer), to: shown }),
                Err(error) => last = Some(trouble(&shown, Some(peer), &error)),
            }
        }
        Err(last.unwrap_or_else(|| {
            Trouble::reason(ReasonCode::NameNotFound, format!("{} has no address", to.host))
        }))
    }

    /// None where the socket is one of streams.
    pub fn local(path: &Path) -> Result<Option<Self>, Trouble> {
        let to = format!("unix://{}", path.display());
        let socket = UnixDatagram::unbound().map_err(|error| trouble(&to, None, &error))?;
        match socket.connect(path) {
            Ok(()) => Ok(Some(Self { kind: Kind::Local(socket), to })),
            Err(error) if errno(&error) == Errno::EPROTOTYPE => Ok(None),
            Err(error) => Err(not_local(&to, &error)),
        }
    }

    /// The local socket itself, for what a plain datagram can't carry.
    pub fn as_local(&self) -> Option<&UnixDatagram> {
        match &self.kind {
            Kind::Local(socket) => Some(socket),
            Kind::Udp(..) => None,
        }
    }

    async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Udp(socket, _) => socket.send(datagram).await,
            Kind::Local(socket) => socket.send(datagram).await,
        }
    }

    /// Sends each message's datagrams, and waits a little for the network's complaints; what is
    /// known of each message, in the same order.
    pub async fn deliver(
        &self,
        messages: &[Vec<Bytes>],
        within: Duration,
        trace: &Trace,
    ) -> Vec<Handed> {
        let deadline = Instant::now() + within.saturating_sub(SETTLE);
        let mut known: Vec<Handed> = Vec::with_capacity(messages.len());
        let mut ended = None;
        for datagrams in messages {
            match self.one(datagrams, deadline).await {
                Ok(()) => known.push(Handed::Over { at: Mono::now() }),
                Err(NotOne::This(not)) => known.push(Handed::Not(not)),
                Err(NotOne::All(not)) => {
                    trace.note(format_args!("after {} messages: {not}", known.len()));
                    ended = Some(not);
                    break;
                }
            }
        }
        let complaint = match (&ended, &self.kind) {
            (Some(Trouble::Reason(reason)), _) if reason.code != ReasonCode::Timeout => {
                Some(reason.clone())
            }
            (_, Kind::Udp(socket, peer)) => {
                tokio::time::sleep(SETTLE).await;
                let error = socket.take_error().ok().flatten();
                error.map(|error| match trouble(&self.to, Some(*peer), &error) {
                    Trouble::Reason(reason) => reason,
                    Trouble::Fault(fault) => Reason::new(ReasonCode::Unreachable, fault.text),
                })
            }
            _ => None,
        };
        if let Some(reason) = complaint {
            // It may be about any of them: routers and hosts send few such answers a second.
            trace.note(format_args!("the network says: {reason}"));
            for one in &mut known {
                if matches!(one, Handed::Over { .. }) {
                    *one = Handed::Perhaps(reason.clone());
                }
            }
        }
        if let Some(not) = ended {
            known.resize(messages.len(), Handed::Not(not));
        }
        known
    }

    async fn one(&self, datagrams: &[Bytes], deadline: Instant) -> Result<(), NotOne> {
        for datagram in datagrams {
            match timeout_at(deadline, self.send(datagram)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if errno(&error) == Errno::EMSGSIZE => {
                    let text = format!(
                        "{}: {} bytes do not fit into one datagram; shorten the message, or use a \
                         stream",
                        self.to,
                        datagram.len()
                    );
                    return Err(NotOne::This(Trouble::reason(ReasonCode::TooLarge, text)));
                }
                Ok(Err(error)) => {
                    let peer = match &self.kind {
                        Kind::Udp(_, peer) => Some(*peer),
                        Kind::Local(_) => None,
                    };
                    return Err(NotOne::All(trouble(&self.to, peer, &error)));
                }
                Err(_) => {
                    let text = format!("{}: it takes no more: its queue is full", self.to);
                    return Err(NotOne::All(Trouble::reason(ReasonCode::Timeout, text)));
                }
            }
        }
        Ok(())
    }
}

enum NotOne {
    This(Trouble),
    All(Trouble),
}

fn trouble(to: &str, peer: Option<SocketAddr>, error: &io::Error) -> Trouble {
    let code = errno(error);
    if let Some(fault) = peer.and_then(|peer| local::fault(code, to, peer.ip())) {
        return fault.into();
    }
    let words = code.desc().to_lowercase();
    match code {
        Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET => {
            Trouble::reason(ReasonCode::Refused, format!("{to}: nobody listens there"))
        }
        Errno::EHOSTUNREACH | Errno::ENETUNREACH => {
            Trouble::reason(ReasonCode::Unreachable, format!("{to}: {words}"))
        }
        _ => Trouble::fault(FaultCode::LocalNetwork, format!("{to}: {words}")),
    }
}

/// Why a local socket can't be connected to.
pub(super) fn not_local(to: &str, error: &io::Error) -> Trouble {
    match errno(error) {
        Errno::ENOENT | Errno::ENOTDIR => Trouble::reason(
            ReasonCode::NotFound,
            format!("{to} is not there: start the program that makes it"),
        ),
        Errno::EACCES | Errno::EPERM => Fault::new(
            FaultCode::Permission,
            format!(
                "{to} may not be written by this user; grant it, or put the agent in its group"
            ),
        )
        .into(),
        Errno::ENAMETOOLONG | Errno::EINVAL => Trouble::fault(
            FaultCode::Unsupported,
            format!("{to} is too long for a socket (unix(7))"),
        ),
        _ => trouble(to, None, error),
    }
}
