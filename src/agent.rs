//! The agent: sampler, scheduler and journeys feed one recorder, which owns all state and
//! publishes snapshots; the exporter and the reports only read those.

pub mod clock;
mod exporter;
pub mod recorder;
pub mod rounds;
pub mod runner;
mod sampler;
mod scheduler;
mod state;
mod supervise;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::client::Clients;
use crate::node::Paths;
use crate::plan::Plan;
use crate::plan::load::Inputs;
use crate::serve;
use crate::store::{Limits, Store};
use recorder::{Ask, Record, Snapshot};

/// Records that may wait for the recorder. When it is full the senders wait, and the scheduler's
/// missed ticks say so.
const RECORDS_LIMIT: usize = 1_024;
/// Questions to the recorder that may wait: scrapes, mostly.
const ASKS_LIMIT: usize = 64;
/// How long attempts and rounds in flight may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long flushing and closing may take after that.
const CLOSING: Duration = Duration::from_secs(5);

/// What an agent is started with, besides its plan.
pub struct Options {
    /// What the plan was made of, for a reload.
    pub inputs: Inputs,
    pub paths: Paths,
    /// The state directory; None lives in memory.
    pub state: Option<PathBuf>,
    /// The address to listen on; None serves nothing.
    pub listen: Option<serve::Config>,
    /// Said on the page and in the report: the embedded platform of the demo.
    pub banner: Option<String>,
}

/// A running agent.
pub struct Agent {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    asks: mpsc::Sender<Ask>,
    records: mpsc::Sender<Record>,
    store: Store,
    work: Arc<tokio::sync::Mutex<Work>>,
    server: Option<serve::Server>,
    sampler: sampler::Sampling,
    recorder: tokio::task::JoinHandle<()>,
    recorder_stop: CancellationToken,
    address: Option<std::net::SocketAddr>,
}

/// What one plan runs; a reload ends it and begins the next.
struct Work {
    plan: Arc<Plan>,
    stop: CancellationToken,
    cancel: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

/// What everything that works for a plan shares.
#[derive(Clone)]
struct Shared {
    inputs: Inputs,
    paths: Paths,
    clients: Clients,
    records: mpsc::Sender<Record>,
    store: Store,
    work: Arc<tokio::sync::Mutex<Work>>,
}

impl Agent {
    /// Opens the state, binds, and starts everything. The plan is valid already: nothing of this
    /// happens before.
    pub async fn start(plan: Arc<Plan>, options: Options) -> Result<Self, String> {
        let now = clock::now();
        let (store, recovered) = match &options.state {
            Some(dir) => Store::open(dir, Limits::default(), now).map_err(|error| error.to_string())?,
            None => Store::memory(),
        };
        let clients = Clients::default();
        let (records, record_queue) = mpsc::channel(RECORDS_LIMIT);
        let (asks, ask_queue) = mpsc::channel(ASKS_LIMIT);
        let state = state::State::new(plan.clone(), &recovered, store.clone(), now, options.banner);
        let (publish, snapshots) = watch::channel(Arc::new(state.snapshot(now)));
        let recorder_stop = CancellationToken::new();
        let recorder = tokio::spawn(recorder::run(state, record_queue, ask_queue, publish, recorder_stop.clone()));

        clients.inbox().restore(recovered.notifications);
        let work = Arc::new(tokio::sync::Mutex::new(Work {
            plan: plan.clone(),
            stop: CancellationToken::new(),
            cancel: CancellationToken::new(),
            tasks: tokio_util::task::TaskTracker::new(),
        }));
        let shared = Shared {
            inputs: options.inputs,
            paths: options.paths.clone(),
            clients,
            records: records.clone(),
            store: store.clone(),
            work: work.clone(),
        };
        let (server, address) = match &options.listen {
            Some(config) => {
                let backend = exporter::Exporter::new(shared.clone(), asks.clone(), snapshots.clone());
                let bound = serve::bind(config).await?;
                let address = bound.address();
                (Some(bound.serve(Arc::new(backend))), Some(address))
            }
            None => (None, None),
        };
        let sampler = sampler::start(options.paths, plan.node.name.clone(), records.clone())?;
        work.lock().await.begin(&shared, recovered.rounds);
        Ok(Self { snapshots, asks, records, store, work, server, sampler, recorder, recorder_stop, address })
    }

    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.address
    }

    /// The newest snapshot, and a way to wait for the next.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The exposition as a scrape would see it.
    pub async fn metrics(&self, format: crate::metrics::Format) -> Vec<u8> {
        ask_metrics(&self.asks, format).await
    }

    /// Takes in a new plan, if it is valid; keeps the old one if not, and says why.
    pub async fn reload(&self, shared: &Reload) -> Result<String, String> {
        shared.0.reload().await
    }

    /// Ends in the right order: no new ticks, what is in flight within the grace period, the
    /// store, and the exporter last.
    pub async fn stop(self) -> Arc<Snapshot> {
        self.work.lock().await.end(GRACE).await;
        self.sampler.stop().await;
        let last = self.settle().await;
        self.store.archive_report(clock::now(), &last.document);
        if tokio::time::timeout(CLOSING, self.store.close()).await.is_err() {
            tracing::error!("the store did not close in time; the last seconds may be lost");
        }
        if let Some(server) = self.server {
            server.shutdown(CLOSING).await;
        }
        self.recorder_stop.cancel();
        let _ = tokio::time::timeout(CLOSING, self.recorder).await;
        last
    }

    /// A snapshot that holds everything recorded so far.
    pub async fn settle(&self) -> Arc<Snapshot> {
        let (reply, answer) = oneshot::channel();
        // Behind every record that was sent before it.
        if self.records.send(Record::Settle(reply)).await.is_ok()
            && let Ok(snapshot) = answer.await
        {
            return snapshot;
        }
        self.snapshots.borrow().clone()
    }
}

async fn ask_metrics(asks: &mpsc::Sender<Ask>, format: crate::metrics::Format) -> Vec<u8> {
    let (reply, answer) = oneshot::channel();
    if asks.send(Ask::Metrics { format, reply }).await.is_err() {
        return Vec::new();
    }
    answer.await.unwrap_or_default()
}

/// A handle that can reload a running agent: the signal handler's.
#[derive(Clone)]
pub struct Reload(Shared);

impl Shared {
    async fn reload(&self) -> Result<String, String> {
        let facts = crate::plan::Facts {
            hostname: self.work.lock().await.plan.node.name.clone(),
            facts: crate::node::facts(&self.paths),
        };
        let compiled = Plan::compile(&self.inputs, &facts).map_err(|invalid| invalid.render(false));
        let outcome = match compiled {
            Ok(plan) => {
                let plan = Arc::new(plan);
                let mut work = self.work.lock().await;
                work.retire();
                *work = Work {
                    plan: plan.clone(),
                    stop: CancellationToken::new(),
                    // Rounds of the old plan are cancelled with those of the new one, at a stop.
                    cancel: work.cancel.clone(),
                    tasks: work.tasks.clone(),
                };
                let _ = self.records.send(Record::Plan(plan.clone())).await;
                work.begin(self, Vec::new());
                tracing::info!(digest = plan.digest, "the new plan is in force");
                Ok(plan.digest.clone())
            }
            Err(text) => {
                tracing::error!("the new plan is invalid, the old one stays in force:\n{text}");
                Err(text)
            }
        };
        let _ = self.records.send(Record::Reloaded { success: outcome.is_ok() }).await;
        outcome
    }
}

impl Work {
    fn begin(&mut self, shared: &Shared, left: Vec<crate::store::OpenRound>) {
        let (plan, stop, cancel) = (self.plan.clone(), self.stop.clone(), self.cancel.clone());
        let (clients, records) = (shared.clients.clone(), shared.records.clone());
        let scheduler = {
            let (plan, clients, records) = (plan.clone(), clients.clone(), records.clone());
            let (stop, cancel) = (stop.clone(), cancel.clone());
            move || scheduler::run(plan.clone(), clients.clone(), records.clone(), stop.clone(), cancel.clone())
        };
        self.tasks.spawn(supervise::keep("scheduler", stop.clone(), records.clone(), scheduler));
        let hands = rounds::Hands { clients, records: records.clone(), store: shared.store.clone(), stop: stop.clone(), cancel };
        let node: Arc<str> = plan.node.name.clone().into();
        let mut left = rounds::sort(left, &plan, &hands.store);
        for journey in &plan.journeys {
            let rounds = left.remove(&*journey.id).unwrap_or_default();
            let rounds = std::sync::Mutex::new(Some(rounds));
            let (journey, node, hands) = (journey.clone(), node.clone(), hands.clone());
            let journeys = move || {
                // What an earlier run left is walked on with once; a task started again begins anew.
                let left = rounds.lock().ok().and_then(|mut rounds| rounds.take()).unwrap_or_default();
                rounds::run(journey.clone(), node.clone(), left, hands.clone())
            };
            self.tasks.spawn(supervise::keep("journey", stop.clone(), records.clone(), journeys));
        }
    }

    /// No new ticks; rounds under way finish under the plan that they began with.
    fn retire(&self) {
        self.stop.cancel();
    }

    async fn end(&self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.cancel.cancel();
            let _ = tokio::time::timeout(CLOSING, self.tasks.wait()).await;
        }
    }
}

/// The report as JSON, for the routes that give a part of it.
pub fn part(document: &Value, name: &str) -> Value {
    document.get(name).cloned().unwrap_or(Value::Null)
}
