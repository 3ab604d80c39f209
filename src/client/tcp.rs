//! Opening a TCP connection, with what stood in the way told apart: the peer, a filter, the
//! route, or this node itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{error_queue, local};
use crate::outcome::{Fault, FaultCode, ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// Why a connection did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOpen {
    /// The peer is there and nobody listens.
    Refused(String),
    /// Nothing answered within the time.
    Silent(String),
    /// A packet filter on the way answered that it does not let this through.
    Prohibited(String),
    /// The network answered that there is no way to the host.
    Unreachable(String),
    /// Our own fault.
    Fault(Fault),
}

impl From<NotOpen> for Trouble {
    fn from(not_open: NotOpen) -> Self {
        match not_open {
            NotOpen::Refused(text) => Self::reason(ReasonCode::Refused, text),
            NotOpen::Silent(text) => Self::reason(ReasonCode::Filtered, text),
            NotOpen::Prohibited(text) | NotOpen::Unreachable(text) => {
                Self::reason(ReasonCode::Unreachable, text)
            }
            NotOpen::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl NotOpen {
    pub fn text(&self) -> &str {
        match self {
            Self::Refused(text)
            | Self::Silent(text)
            | Self::Prohibited(text)
            | Self::Unreachable(text) => text,
            Self::Fault(fault) => &fault.text,
        }
    }
}

/// Opens a connection and says how long the handshake took. `from` is the address of this node to
/// come from.
pub async fn connect(
    to: SocketAddr,
    from: Option<IpAddr>,
    within: Duration,
    trace: &Trace,
) -> Result<(TcpStream, Duration), NotOpen> {
    let doing = format!("connecting to {to}");
    let ours = |error: &io::Error| {
        NotOpen::Fault(local::fault(errno(error), &doing, to.ip()).unwrap_or_else(|| {
            Fault::new(FaultCode::LocalNetwork, format!("{doing}: {}", words(error)))
        }))
    };
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
        .map_err(|error| ours(&error))?;
    socket.set_nonblocking(true).map_err(|error| ours(&error))?;
    // Says who answered; where the kernel refuses it, only that is lost.
    if let Err(error) = error_queue::arm(&socket, to.is_ipv6()) {
        trace.note(format_args!("no error queue: {error}"));
    }
    if let Some(from) = from {
        bind(&socket, from, &doing)?;
    }
    let began = Instant::now();
    trace.note(format_args!("syn to {to}"));
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error) if errno(&error) == Errno::EINPROGRESS => {}
        Err(error) => return Err(refusal(&socket, &error, to, &doing, trace)),
    }
    let stream = TcpStream::from_std(socket.into()).map_err(|error| ours(&error))?;
    match timeout_at(began + within, stream.ready(Interest::WRITABLE)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(ours(&error)),
        Err(_) => {
            trace.note(format_args!("no answer within {within:.1?}"));
            return Err(NotOpen::Silent(format!(
                "{doing}: no answer within {within:.1?}; a packet filter may drop it, or the host is gone"
            )));
        }
    }
    let took = began.elapsed();
    if let Some(error) = stream.take_error().map_err(|error| ours(&error))? {
        return Err(refusal(&stream, &error, to, &doing, trace));
    }
    match (stream.local_addr(), stream.peer_addr()) {
        // Both ends chose the same port on this host and met (simultaneous open, RFC 9293
        // section 3.5): nobody listens there.
        (Ok(own), Ok(peer)) if own == peer => {
            Err(NotOpen::Refused(format!("{doing}: nobody listens: the socket met itself")))
        }
        (Ok(own), Ok(peer)) => {
            trace.note(format_args!("open in {took:.1?}: {own} to {peer}"));
            Ok((stream, took))
        }
        (_, Err(error)) => Err(refusal(&stream, &error, to, &doing, trace)),
        (Err(error), _) => Err(ours(&error)),
    }
}

fn bind(socket: &Socket, from: IpAddr, doing: &str) -> Result<(), NotOpen> {
    let address = SockAddr::from(SocketAddr::new(from, 0));
    socket.bind(&address).map_err(|error| {
        let fault = match errno(&error) {
            Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::EAFNOSUPPORT => Fault::new(
                FaultCode::LocalNetwork,
                format!("{doing} from {from}: this node has no such address, or not of the target's family"),
            ),
            other => local::fault(other, doing, from).unwrap_or_else(|| {
                Fault::new(FaultCode::LocalNetwork, format!("{doing} from {from}: {}", words(&error)))
            }),
        };
        NotOpen::Fault(fault)
    })
}

/// Whose fault a failed connect is: the error queue first, for it names the message and its
/// sender; the errno alone where the queue is empty.
fn refusal(
    socket: &impl std::os::fd::AsFd,
    error: &io::Error,
    to: SocketAddr,
    doing: &str,
    trace: &Trace,
) -> NotOpen {
    use error_queue::{Origin, Said};
    trace.note(format_args!("error: {}", words(error)));
    if let Ok(Some(entry)) = error_queue::next(socket) {
        trace.note(format_args!("error queue: {entry}"));
        if let Some(fault) = local::prohibited(&entry, doing, to.ip()) {
            return NotOpen::Fault(fault);
        }
        let text = format!("{doing}: {}", local::words(&entry, to.ip()));
        match (entry.origin, entry.said()) {
            (Origin::Icmp | Origin::Icmp6, Said::PortUnreachable) => {
                return NotOpen::Refused(text);
            }
            (Origin::Icmp | Origin::Icmp6, Said::Prohibited) => return NotOpen::Prohibited(text),
            (Origin::Icmp | Origin::Icmp6, _) => return NotOpen::Unreachable(text),
            _ => {}
        }
    }
    match errno(error) {
        Errno::ECONNREFUSED | Errno::ECONNRESET => {
            NotOpen::Refused(format!("{doing}: the peer refused it (reset)"))
        }
        Errno::ETIMEDOUT => NotOpen::Silent(format!("{doing}: no answer to any try")),
        code => match local::fault(code, doing, to.ip()) {
            Some(fault) => NotOpen::Fault(fault),
            None => match code {
                Errno::EHOSTUNREACH | Errno::ENETUNREACH => NotOpen::Unreachable(format!(
                    "{doing}: {}; look at `ip route get {}`",
                    words(error),
                    to.ip()
                )),
                _ => NotOpen::Fault(Fault::new(
                    FaultCode::LocalNetwork,
                    format!("{doing}: {}", words(error)),
                )),
            },
        },
    }
}

/// The errno of an error of the standard library.
pub fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}
