//! A byte stream to a peer: over TCP, over TLS, or through a local socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use super::{Clients, datagram, tcp, tls};
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::spec::trace::Trace;

pub enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
    Local(UnixStream),
}

impl Stream {
    /// Connects to the first of the host's addresses that answers; `to` names the peer in words.
    pub async fn open(
        clients: &Clients,
        (host, port): (&str, u16),
        secured: Option<&tls::Options>,
        within: Duration,
        to: &str,
        trace: &Trace,
    ) -> Result<Self, Trouble> {
        let deadline = Instant::now() + within;
        let resolved = timeout_at(deadline, clients.resolver().lookup(host)).await;
        let addresses = resolved.unwrap_or_else(|_| {
            Err(Trouble::fault(
                FaultCode::NameService,
                format!("the name service did not say in time what {host} is"),
            ))
        })?;
        let mut last = None;
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            // An address that swallows packets must leave time for the others.
            let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            let peer = SocketAddr::new(address, port);
            let stream = match tcp::connect(peer, None, share, trace).await {
                Ok((stream, _)) => stream,
                Err(not_open) => {
                    last = Some(not_open.into());
                    continue;
                }
            };
            // The messages go out one by one, as they would from a device; a socket that refuses
            // the option still works.
            drop(stream.set_nodelay(true));
            let Some(options) = secured else { return Ok(Self::Plain(stream)) };
            return Self::Plain(stream).secured(clients, host, options, deadline, to).await;
        }
        Err(last.unwrap_or_else(|| {
            Trouble::reason(ReasonCode::NameNotFound, format!("{host} has no address"))
        }))
    }

    /// Goes over to TLS, on a connection that began in clear.
    pub async fn secured(
        self,
        clients: &Clients,
        host: &str,
        options: &tls::Options,
        deadline: Instant,
        to: &str,
    ) -> Result<Self, Trouble> {
        let Self::Plain(stream) = self else { return Ok(self) };
        match timeout_at(deadline, clients.tls().handshake(stream, host, options)).await {
            Ok(Ok(secured)) => Ok(Self::Secured(Box::new(secured.stream))),
            Ok(Err(not_secured)) => Err(not_secured.trouble),
            Err(_) => {
                let text = format!("{to} did not finish the TLS handshake in time");
                Err(Trouble::reason(ReasonCode::Timeout, text))
            }
        }
    }

    /// Connects to a local stream socket.
    pub async fn open_local(path: &Path, within: Duration, to: &str) -> Result<Self, Trouble> {
        match tokio::time::timeout(within, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(Self::Local(stream)),
            Ok(Err(error)) => Err(datagram::not_local(to, &error)),
            Err(_) => {
                let text = format!("{to} did not take the connection in time");
                Err(Trouble::reason(ReasonCode::Timeout, text))
            }
        }
    }

    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Plain(stream) => SockRef::from(stream),
            Self::Secured(stream) => SockRef::from(stream.get_ref().0),
            Self::Local(stream) => SockRef::from(stream),
        }
    }

    pub fn is_secured(&self) -> bool {
        matches!(self, Self::Secured(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
            Self::Local(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
            Self::Local(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Self::Local(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Self::Local(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
