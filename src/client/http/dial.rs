//! From a URL to an open stream: resolve, connect, TLS, each timed.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use url::Url;

use super::{Failed, Phases};
use crate::client::{Clients, tcp, tls};
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Mono;

pub(super) enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

pub(super) struct Dialled {
    pub(super) stream: Stream,
    pub(super) peer: SocketAddr,
    pub(super) phases: Phases,
    pub(super) expires_in: Option<i64>,
}

pub(super) async fn dial(
    clients: &Clients,
    url: &Url,
    deadline: Instant,
    options: &tls::Options,
    trace: &Trace,
) -> Result<Dialled, Failed> {
    let mut phases = Phases::default();
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);

    let began = Mono::now();
    let resolved = timeout_at(deadline, clients.resolver().lookup(host)).await;
    phases.resolve = Some(Mono::now().since(began));
    let addresses = resolved.unwrap_or_else(|_| {
        Err(Trouble::fault(
            FaultCode::NameService,
            format!("the name service did not say in time what {host} is"),
        ))
    });
    let addresses = addresses.map_err(|trouble| Failed { phases, ..Failed::early(trouble) })?;
    trace.note(format_args!("{host} is {addresses:?}"));

    let began = Mono::now();
    let mut last = None;
    let mut opened = None;
    for (index, address) in addresses.iter().enumerate() {
        let peer = SocketAddr::new(*address, port);
        // An address that swallows packets must leave time for the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1).max(1);
        match tcp::connect(peer, None, share, trace).await {
            Ok((stream, _)) => {
                opened = Some((stream, peer));
                break;
            }
            Err(not_open) => last = Some(Trouble::from(not_open)),
        }
    }
    phases.connect = Some(Mono::now().since(began));
    let Some((stream, peer)) = opened else {
        let trouble = last.unwrap_or_else(|| {
            Trouble::reason(ReasonCode::NameNotFound, format!("{host} has no address"))
        });
        return Err(Failed { phases, ..Failed::early(trouble) });
    };
    // Without it a small request waits for the acknowledgement of the one before (RFC 896); a
    // socket that refuses the option still works.
    drop(stream.set_nodelay(true));
    if url.scheme() != "https" {
        return Ok(Dialled { stream: Stream::Plain(stream), peer, phases, expires_in: None });
    }

    let began = Mono::now();
    let secured = timeout_at(deadline, clients.tls().handshake(stream, host, options)).await;
    phases.tls = Some(Mono::now().since(began));
    match secured {
        Ok(Ok(tls::Secured { stream, expires_in })) => {
            trace.note(format_args!("TLS is up with {peer}; certificate ends in {expires_in:?} s"));
            Ok(Dialled { stream: Stream::Secured(Box::new(stream)), peer, phases, expires_in })
        }
        Ok(Err(tls::NotSecured { trouble, expires_in, .. })) => {
            Err(Failed { phases, expires_in, ..Failed::early(trouble) })
        }
        Err(_) => {
            let text = format!("{peer} did not finish the TLS handshake in time");
            let trouble = Trouble::reason(ReasonCode::Timeout, text);
            Err(Failed { phases, ..Failed::early(trouble) })
        }
    }
}
