//! The HTTP server: metrics, the API, the page, the webhook receiver, health and reload.
//!
//! Knows nothing of how an answer comes about: it asks the [`Backend`]. Binding and serving are
//! apart, so that an address is taken only after the plan is valid.

use std::collections::VecDeque;
use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use crate::client::inbox;
use crate::lanes::Fill;
use crate::ledger::{Document, LoadRow};
use crate::metrics::Format;
use crate::node::culprits::Capture;
use crate::node::sockets::Listing;
use crate::outcome::Fault;
use crate::render::history::History;

mod answer;
mod connections;
mod guard;
mod negotiate;
mod routes;
pub mod web_config;

pub use web_config::WebConfig;

/// Where `run` and `demo` listen by default.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9765";

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// What the server serves. Every answer comes from a snapshot or a queue: nothing here waits for
/// a probe.
pub trait Backend: Send + Sync + 'static {
    fn metrics(&self, format: Format) -> BoxFuture<'_, Vec<u8>>;
    /// What was judged last; None where nobody judges any more.
    fn shown(&self) -> BoxFuture<'_, Option<Shown>>;
    /// What listens on this node, and whose it is.
    fn listeners(&self) -> BoxFuture<'_, Result<Listing, Fault>>;
    /// What the page says above everything, of a platform that is not a real one.
    fn banner(&self) -> Option<String>;
    /// Why it is not ready yet, if it is not.
    fn ready(&self) -> Result<(), String>;
    fn healthy(&self) -> bool;
    /// What came of it in words; an error keeps the old plan in force.
    fn reload(&self) -> BoxFuture<'_, Result<String, String>>;
    fn webhook<'a>(
        &'a self,
        kind: inbox::Kind,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), WebhookError>>;
    /// Somebody declares when a load is on.
    fn declare_load(
        &self,
        declaration: Declaration,
    ) -> BoxFuture<'_, Result<LoadRow, WebhookError>>;
    /// One answered request: a route of a closed set, and a status class (`2xx`).
    fn count(&self, route: &'static str, class: &'static str);
}

/// What the API and the page show.
#[derive(Clone, Debug)]
pub struct Shown {
    pub ledger: Arc<Document>,
    /// The compiled plan, secrets as references.
    pub plan: Arc<serde_json::Value>,
    /// The recent values of each gate, for the page.
    pub history: Arc<History>,
    /// Who did it, each time that a threshold was crossed: the newest last.
    pub captures: Arc<VecDeque<Capture>>,
}

/// When a load is on, as it is posted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    pub start: String,
    pub end: String,
    /// Who declares it.
    #[serde(default)]
    pub source: Option<String>,
}

/// Why a notification or a declaration was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookError {
    /// It is not what it should be: the sender need not try again.
    Bad(String),
    /// It could not be kept: the sender should try again.
    Store(String),
}

/// A server that has its address and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    web: Web,
}

/// What `--web.config.file` sets up, replaced on reload for the connections made from then on; and
/// what the server bounds.
#[derive(Clone)]
pub struct Web {
    config: Arc<Mutex<Arc<WebConfig>>>,
    places: connections::Places,
    sign_ins: guard::SignIns,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Web {
    pub fn set(&self, config: WebConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub(crate) fn get(&self) -> Arc<WebConfig> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How full the server's places and queues are.
    pub fn fills(&self) -> Vec<Fill> {
        let mut fills = vec![self.places.fill()];
        fills.extend(self.sign_ins.fill());
        fills
    }
}

impl Server {
    /// Takes the address: `HOST:PORT`, or `:PORT` for all addresses of this node, IPv6 included;
    /// port 0 picks one.
    pub fn bind(listen: &str, web: WebConfig) -> Result<Self, String> {
        let listener = bind(listen)?;
        let address = listener
            .local_addr()
            .map_err(|error| format!("can't tell the address of {listen}: {error}"))?;
        let web = Web {
            config: Arc::new(Mutex::new(Arc::new(web))),
            places: connections::Places::default(),
            sign_ins: guard::SignIns::default(),
        };
        Ok(Self { listener, address, web })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://HOST:PORT`, as standard error says it.
    pub fn url(&self) -> String {
        let scheme = if self.web.get().tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The handle by which a reload replaces certificates and users.
    pub fn web(&self) -> Web {
        self.web.clone()
    }

    /// Serves until `stop`, then lets the requests under way end for a grace period.
    pub async fn serve(
        self,
        backend: Arc<dyn Backend>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|error| format!("can't serve on {}: {error}", self.address))?;
        connections::serve(listener, self.web, backend, stop).await;
        Ok(())
    }
}

fn bind(listen: &str) -> Result<TcpListener, String> {
    let why = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "can't listen on {listen}: the address is in use; does another greenlight run? name another one with --web.listen-address"
        ),
        _ => format!("can't listen on {listen}: {error}"),
    };
    if let Some(port) = listen.strip_prefix(':') {
        let port: u16 = port
            .parse()
            .map_err(|_| format!("can't listen on {listen}: a port is a number from 0 to 65535"))?;
        return match socket(SocketAddr::from(([0_u16; 8], port))) {
            Ok(listener) => Ok(listener),
            // A kernel without IPv6: all addresses are those of IPv4.
            Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
                socket(SocketAddr::from(([0_u8; 4], port))).map_err(why)
            }
            Err(error) => Err(why(error)),
        };
    }
    let addresses: Vec<SocketAddr> = listen
        .to_socket_addrs()
        .map_err(|error| format!("can't listen on {listen}: {error}; write HOST:PORT or :PORT"))?
        .collect();
    let mut last = None;
    for address in addresses {
        match socket(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| format!("can't listen on {listen}: the name has no address"), why))
}

fn socket(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
