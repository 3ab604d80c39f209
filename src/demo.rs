//! The embedded reference platform: a whole pipeline in this process, small but real, over real
//! loopback sockets, for `greenlight demo` and for tests.
//!
//! Events come in by Kafka, syslog and HTTP, and pass a broker (librdkafka's mock cluster), a
//! parser, an enricher, a store with a search API, a detector of Sigma rules with an
//! Alertmanager-shaped API that notifies a webhook, and a dashboard. Everything it answers names it "embedded".
//!
//! One stage can be broken on purpose. Nothing but this room knows of that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::journey::Stage;
use crate::outcome::{Fault, FaultCode};
use broker::Broker;
use detector::Detector;
use lake::Lake;

mod api;
mod broker;
mod collect;
mod detector;
mod lake;
mod notify;
mod pipeline;

/// The topic into which all ways in write, and those behind it.
const RAW: &str = "raw";
const PARSED: &str = "parsed";
const ENRICHED: &str = "enriched";
/// Connections that are still open when the platform stops get this long.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// The running platform.
pub struct Platform {
    state: Arc<State>,
    vars: Vec<(String, String)>,
    tasks: JoinSet<&'static str>,
    stop: CancellationToken,
    /// Ways in that refuse connections hold their ports, so that nobody else answers there.
    _held: Vec<socket2::Socket>,
}

/// What its parts share.
struct State {
    broker: Broker,
    lake: Mutex<Lake>,
    detector: Mutex<Detector>,
    webhook: Mutex<Option<String>>,
    broken: Option<Stage>,
}

impl State {
    /// Whether this stage is the one that is broken.
    fn broken(&self, stage: Stage) -> bool {
        self.broken == Some(stage)
    }

    fn lake(&self) -> MutexGuard<'_, Lake> {
        locked(&self.lake)
    }
}

/// A panic while a lock was held left plain data behind, never half of an invariant.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Platform {
    /// Starts every part on ports of its own, one of them broken where a stage is given.
    pub async fn start(broken: Option<Stage>) -> Result<Self, Fault> {
        let broker = Broker::start(broken == Some(Stage::Accepted))?;
        let mut platform = Self {
            vars: Vec::new(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            _held: Vec::new(),
            state: Arc::new(State {
                broker,
                lake: Mutex::new(Lake::default()),
                detector: Mutex::new(Detector::new(&detector::RULES).map_err(unread)?),
                webhook: Mutex::new(None),
                broken,
            }),
        };
        platform.ways_in().await?;
        platform.say("demo_kafka", platform.state.broker.address().to_owned());
        let (listener, address) = listen().await?;
        for (name, path) in [
            ("demo_store", "store"),
            ("demo_alertmanager", "alertmanager"),
            ("demo_prometheus", "prometheus"),
            ("demo_grafana", "grafana"),
        ] {
            platform.say(name, format!("http://{address}/{path}"));
        }
        let router = api::router(Arc::clone(&platform.state));
        platform.spawn("api", serve(listener, router, platform.stop.clone()));
        platform.spawn("pipeline", pipeline::run(Arc::clone(&platform.state)));
        platform.spawn("notifier", notify::run(Arc::clone(&platform.state)));
        Ok(platform)
    }

    async fn ways_in(&mut self) -> Result<(), Fault> {
        let front = self.state.broker.front_address().to_owned();
        if self.state.broken(Stage::Sent) {
            let mut closed = || -> Result<std::net::SocketAddr, Fault> {
                let (socket, address) = closed_port()?;
                self._held.push(socket);
                Ok(address)
            };
            let (kafka, syslog, http) = (closed()?, closed()?, closed()?);
            self.say("demo_kafka_in", kafka.to_string());
            self.say("demo_syslog", format!("tcp://{syslog}"));
            self.say("demo_http", format!("http://{http}/events"));
            return Ok(());
        }
        self.say("demo_kafka_in", front);
        let (listener, address) = listen().await?;
        self.say("demo_syslog", format!("tcp://{address}"));
        self.spawn("syslog collector", collect::syslog(listener, Arc::clone(&self.state)));
        let (listener, address) = listen().await?;
        self.say("demo_http", format!("http://{address}/events"));
        let router = collect::http(Arc::clone(&self.state));
        self.spawn("http collector", serve(listener, router, self.stop.clone()));
        Ok(())
    }

    fn say(&mut self, name: &str, value: String) {
        self.vars.push((name.to_owned(), value));
    }

    /// The addresses, as variables of the plan in `probes/demo.yaml`.
    pub fn plan_vars(&self) -> Vec<(String, String)> {
        self.vars.clone()
    }

    /// Where alerts are notified from now on.
    pub fn notify(&self, url: &str) {
        *locked(&self.state.webhook) = Some(url.to_owned());
    }

    /// Which Sigma rules are put to events from now on; none are those it comes with.
    pub fn detect(&self, rules: &[&str]) -> Result<(), Fault> {
        let rules = if rules.is_empty() { &detector::RULES } else { rules };
        *locked(&self.state.detector) = Detector::new(rules).map_err(unread)?;
        Ok(())
    }

    /// Runs a part until the platform stops; one that ends sooner is told of.
    fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = part => {
                    tracing::error!(part = name, "a part of the embedded platform ended by itself");
                }
            }
            name
        });
    }

    /// Ends every part and closes every port.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the embedded platform failed");
                }
            }
        };
        if tokio::time::timeout(STOPS_WITHIN, all).await.is_err() {
            self.tasks.shutdown().await;
        }
        if let Err(fault) = self.state.broker.stop(STOPS_WITHIN).await {
            tracing::warn!(%fault, "the embedded broker did not end");
        }
    }
}

fn unread(error: String) -> Fault {
    Fault::new(FaultCode::Unsupported, format!("a rule of the embedded platform: {error}"))
}

async fn listen() -> Result<(TcpListener, std::net::SocketAddr), Fault> {
    let failed = |error: std::io::Error| {
        Fault::new(
            FaultCode::LocalNetwork,
            format!("the embedded platform can't listen on 127.0.0.1: {error}"),
        )
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// A port that is bound and does not listen: connections to it are refused.
fn closed_port() -> Result<(socket2::Socket, std::net::SocketAddr), Fault> {
    let bound = || -> std::io::Result<_> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok((socket, address.ok_or(std::io::ErrorKind::AddrNotAvailable)?))
    };
    bound().map_err(|error| {
        Fault::new(FaultCode::LocalNetwork, format!("can't bind to 127.0.0.1: {error}"))
    })
}

async fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the embedded platform can't serve");
    }
}

#[cfg(test)]
mod tests;
