//! The agent: sampler, scheduler and journeys feed one recorder, which owns all state and
//! shows snapshots; the exporter and the reports only read those.

mod captures;
pub mod clock;
mod exporter;
mod facts;
pub mod load;
mod lookout;
pub mod node;
mod peers;
mod rechecks;
pub mod record;
mod recorder;
pub mod rounds;
pub mod runner;
mod sampler;
mod scheduler;
mod seconds;
mod secrets;
mod state;
mod supervise;
mod usage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Clients;
use crate::client::inbox::Notification;
use crate::gate::LoadWindow;
use crate::lanes::Cells;
use crate::ledger::Document;
use crate::node::processes::Processes;
use crate::node::{Paths, Sampler};
use crate::outcome::Fault;
use crate::plan::Plan;
use crate::plan::load::Inputs;
use crate::serve;
use crate::store::{Limits, Store};
use crate::time::Now;
use exporter::Exporter;
use record::{Ask, Judged, Record, Records, Snapshot};

/// Records that may wait for the recorder. When it is full the senders wait, and the scheduler's
/// missed ticks say so.
const RECORDS_LIMIT: usize = 1_024;
/// Questions to the recorder that may wait: scrapes, mostly.
const ASKS_LIMIT: usize = 64;
/// How long attempts and rounds in flight may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long flushing and closing may take after that.
const CLOSING: Duration = Duration::from_secs(5);
/// How long reading files and secrets may take: a command that yields a secret has 10 s.
const BLOCKING: Duration = Duration::from_secs(30);

/// The report of a plan that nothing was measured for: what needs evidence is open.
pub fn unproven(plan: Arc<Plan>) -> Document {
    let bounded = state::Bounded {
        cells: Cells::new(),
        clients: Clients::default(),
        seconds: Arc::new(seconds::Seconds::new()),
        web: None,
        rechecks: rechecks::Rechecks::default(),
    };
    let (store, nothing) = Store::memory();
    state::State::new(plan, &nothing, store, bounded, clock::now()).document()
}

/// What an agent is started with, besides its plan.
pub struct Options {
    /// What the plan was made of, for a reload.
    pub inputs: Inputs,
    pub paths: Paths,
    /// The state directory; None lives in memory.
    pub state: Option<PathBuf>,
    /// Where to listen; None serves nothing.
    pub listen: Option<Listen>,
    /// Said on the page and in the report: the embedded platform of the demo.
    pub banner: Option<String>,
}

/// Where the agent listens, and how.
pub struct Listen {
    pub address: String,
    /// TLS and users, in exporter-toolkit's format.
    pub web_config: Option<PathBuf>,
}

/// A running agent.
pub struct Agent {
    judged: watch::Receiver<Judged>,
    asks: mpsc::Sender<Ask>,
    records: Records,
    store: Store,
    shared: Shared,
    server: Option<Served>,
    sampler: sampler::Sampling,
    recorder: tokio::task::JoinHandle<()>,
    recorder_stop: CancellationToken,
}

/// The HTTP server: it ends last.
struct Served {
    address: std::net::SocketAddr,
    url: String,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

/// What one plan runs; a reload ends it and begins the next.
struct Work {
    plan: Arc<Plan>,
    stop: CancellationToken,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// What everything that works for a plan shares.
#[derive(Clone)]
struct Shared {
    inputs: Inputs,
    paths: Paths,
    clients: Clients,
    cells: Cells,
    records: Records,
    store: Store,
    in_flight: scheduler::InFlight,
    rechecks: rechecks::Rechecks,
    /// The server's certificates and users, and the file that they are read from.
    web: Option<(serve::Web, Option<PathBuf>)>,
    work: Arc<tokio::sync::Mutex<Work>>,
}

/// Does what may block for a while in a cell.
async fn run_blocking<T: Send + 'static>(
    cells: &Cells,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    cells.run(what, BLOCKING, work).await.map_err(|fault| format!("{what}: {}", fault.text))
}

/// Reads certificates and users, and takes the address.
async fn bind(cells: &Cells, listen: Listen) -> Result<(serve::Server, Listen), String> {
    let web = web_config(cells, listen.web_config.clone()).await?;
    let server = serve::Server::bind(&listen.address, web)?;
    Ok((server, listen))
}

async fn web_config(cells: &Cells, file: Option<PathBuf>) -> Result<serve::WebConfig, String> {
    match file {
        Some(file) => {
            run_blocking(cells, "web.config.file", move || serve::WebConfig::load(&file)).await?
        }
        None => Ok(serve::WebConfig::default()),
    }
}

impl Agent {
    /// Opens the state, binds, and starts everything. The plan is valid already: nothing of this
    /// happens before.
    pub async fn start(plan: Arc<Plan>, options: Options) -> Result<Self, String> {
        let cells = Cells::new();
        secrets::load(&plan, &cells).await;
        let bound = match options.listen {
            Some(listen) => Some(bind(&cells, listen).await?),
            None => None,
        };
        let now = clock::now();
        let (store, mut recovered) = match &options.state {
            Some(dir) => {
                Store::open(dir, Limits::default(), now).map_err(|error| error.to_string())?
            }
            None => Store::memory(),
        };
        let clients = Clients::default();
        clients.keep_time(clock::wall);
        if bound.is_none() {
            clients.inbox().close();
        }
        clients.inbox().restore(notifications(std::mem::take(&mut recovered.notifications)));
        let (records, record_queue) = Records::new(RECORDS_LIMIT);
        let (asks, ask_queue) = mpsc::channel(ASKS_LIMIT);
        let sampler = Sampler::new(&options.paths, &cells);
        let sockets = sampler.sockets();
        let seconds = Arc::new(seconds::Seconds::new());
        let rechecks =
            rechecks::Rechecks::recovered(std::mem::take(&mut recovered.due), &recovered.ended);
        let bounded = state::Bounded {
            cells: cells.clone(),
            clients: clients.clone(),
            seconds: seconds.clone(),
            web: bound.as_ref().map(|(server, _)| server.web()),
            rechecks: rechecks.clone(),
        };
        let mut state = state::State::new(plan.clone(), &recovered, store.clone(), bounded, now);
        let processes = Processes::new(&options.paths).knowing(sockets.clone());
        state.watch_processes(captures::Reader::new(processes, &cells, records.clone()));
        let (publish, judged) = watch::channel(state.judged());
        let recorder_stop = CancellationToken::new();
        let recorder = tokio::spawn(recorder::run(
            state,
            seconds.clone(),
            (record_queue, records.dropped()),
            ask_queue,
            publish,
            recorder_stop.clone(),
        ));
        let shared = Shared {
            inputs: options.inputs,
            paths: options.paths,
            clients,
            cells,
            records: records.clone(),
            store: store.clone(),
            in_flight: scheduler::InFlight::default(),
            rechecks,
            web: bound.as_ref().map(|(server, listen)| (server.web(), listen.web_config.clone())),
            work: Arc::new(tokio::sync::Mutex::new(Work {
                plan: plan.clone(),
                stop: CancellationToken::new(),
                cancel: CancellationToken::new(),
                tasks: TaskTracker::new(),
            })),
        };
        let server = bound.map(|(server, _)| {
            let backend = Exporter::new(
                shared.clone(),
                asks.clone(),
                judged.clone(),
                sockets,
                options.banner,
            );
            let stop = CancellationToken::new();
            let (address, url) = (server.address(), server.url());
            let task = tokio::spawn(server.serve(Arc::new(backend), stop.clone()));
            Served { address, url, stop, task }
        });
        let sampler = sampler::start(sampler, seconds)?;
        shared.work.lock().await.begin(&shared, recovered.rounds);
        Ok(Self { judged, asks, records, store, shared, server, sampler, recorder, recorder_stop })
    }

    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(|server| server.address)
    }

    /// `http://HOST:PORT`, where it listens.
    pub fn url(&self) -> Option<&str> {
        self.server.as_ref().map(|server| server.url.as_str())
    }

    /// A way to wait for the next judging.
    pub fn judged(&self) -> watch::Receiver<Judged> {
        self.judged.clone()
    }

    /// Whether the recorder answers; waits for as long as it does not.
    pub async fn is_alive(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Alive(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// What was judged last. An error where the recorder has ended.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        ask_snapshot(&self.asks).await.ok_or_else(ended)
    }

    /// The exposition as a scrape would see it.
    pub async fn metrics(&self, format: crate::metrics::Format) -> Vec<u8> {
        ask_metrics(&self.asks, format).await
    }

    /// Takes in a new plan, if it is valid; keeps the old one if not, and says why.
    pub async fn reload(&self) -> Result<String, String> {
        self.shared.reload().await
    }

    /// Declares that a load is on: what gates with `during: load` take their samples from.
    pub async fn declare_load(&self, window: LoadWindow) -> Result<(), String> {
        self.shared.declare_load(window).await
    }

    /// Ends in the right order: no new ticks, what is in flight within the grace period, the
    /// store, and the exporter last.
    pub async fn stop(mut self) -> Result<Arc<Snapshot>, String> {
        // As of now: while what is in flight ends, nothing is tried anew, and a window that is not
        // looked at any more would be open for no fault of anybody's.
        let last = self.ask_settled(Record::Last).await;
        if let Ok(last) = &last {
            self.store.archive_report(clock::now(), &last.document);
        }
        self.shared.work.lock().await.end(GRACE).await;
        self.sampler.stop().await;
        if tokio::time::timeout(CLOSING, self.store.close()).await.is_err() {
            tracing::error!("the store did not close in time; the last seconds may be lost");
        }
        if let Some(server) = self.server {
            server.stop.cancel();
            if tokio::time::timeout(CLOSING, server.task).await.is_err() {
                tracing::warn!("requests were cut off at the end");
            }
        }
        self.recorder_stop.cancel();
        let _ = tokio::time::timeout(CLOSING, self.recorder).await;
        last
    }

    /// A snapshot that holds everything recorded so far.
    pub async fn settle(&self) -> Result<Arc<Snapshot>, String> {
        self.ask_settled(Record::Settle).await
    }

    async fn ask_settled(
        &self,
        how: impl FnOnce(oneshot::Sender<Arc<Snapshot>>) -> Record,
    ) -> Result<Arc<Snapshot>, String> {
        let (reply, answer) = oneshot::channel();
        // Behind every record that was sent before it.
        self.records.send(how(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

fn ended() -> String {
    "the recorder has ended; see the log".to_owned()
}

async fn ask_snapshot(asks: &mpsc::Sender<Ask>) -> Option<Arc<Snapshot>> {
    let (reply, answer) = oneshot::channel();
    asks.send(Ask::Snapshot(reply)).await.ok()?;
    answer.await.ok()
}

async fn ask_metrics(asks: &mpsc::Sender<Ask>, format: crate::metrics::Format) -> Vec<u8> {
    let (reply, answer) = oneshot::channel();
    if asks.send(Ask::Metrics { format, reply }).await.is_err() {
        return Vec::new();
    }
    answer.await.unwrap_or_default()
}

impl Shared {
    /// On disk before anybody is told; judged by when it returns.
    async fn declare_load(&self, window: LoadWindow) -> Result<(), String> {
        let now = clock::now();
        self.store.declare_load(window.clone(), now).await.map_err(|fault| fault.text)?;
        let (reply, answer) = oneshot::channel();
        let told = self.records.send(Record::Load(window)).await.is_ok()
            && self.records.send(Record::Settle(reply)).await.is_ok()
            && answer.await.is_ok();
        if told { Ok(()) } else { Err(ended()) }
    }

    async fn reload(&self) -> Result<String, String> {
        let outcome = match self.read_anew(&BTreeMap::new()).await {
            Ok((plan, lacking, web)) => {
                if let Some((server, _)) = &self.web {
                    server.set(web);
                }
                if !plan.warnings.is_empty() {
                    tracing::warn!("of the new plan:\n{}", plan.warnings);
                }
                Ok(self.put_in_force(plan, &lacking).await)
            }
            Err(text) => {
                let text = format!("{}; the old plan stays in force\n", text.trim_end());
                tracing::error!("the reload failed:\n{text}");
                Err(text)
            }
        };
        let _ = self.records.send(Record::Reloaded { success: outcome.is_ok() }).await;
        outcome
    }

    /// Ends what the old plan runs and begins with the new one, whose digest it returns.
    async fn put_in_force(&self, plan: Plan, lacking: &[Fault]) -> String {
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
        // The attempts that need one that can't be read say so.
        secrets::tell(lacking);
        work.begin(self, Vec::new());
        tracing::info!(digest = plan.digest, "the new plan is in force");
        plan.digest.clone()
    }

    /// The plan, its secrets and the server's certificates, as the files are now. Of the facts, those
    /// that are true here stay so.
    async fn read_anew(
        &self,
        facts: &BTreeMap<String, Option<String>>,
    ) -> Result<(Plan, Vec<Fault>, serve::WebConfig), String> {
        let (inputs, paths) = (self.inputs.clone(), self.paths.clone());
        let before = facts.clone();
        let compiled = run_blocking(&self.cells, "plan", move || {
            let facts = facts::kept(node::plan_facts(&paths), &before);
            let plan = Plan::compile(&inputs, &facts).map_err(|invalid| invalid.mistakes(false))?;
            let lacking = plan.load_secrets();
            Ok::<_, String>((plan, lacking))
        });
        let (plan, lacking) = compiled.await??;
        let file = self.web.as_ref().and_then(|(_, file)| file.clone());
        Ok((plan, lacking, web_config(&self.cells, file).await?))
    }
}

impl Work {
    fn begin(&mut self, shared: &Shared, left: Vec<crate::store::OpenRound>) {
        let (plan, stop, cancel) = (self.plan.clone(), self.stop.clone(), self.cancel.clone());
        let (clients, records) = (shared.clients.clone(), shared.records.clone());
        let (members, peers) = watch::channel(plan.peers.clone());
        let members = Arc::new(members);
        let follow = {
            let (cells, records, stop) = (shared.cells.clone(), records.clone(), stop.clone());
            move || peers::follow(members.clone(), cells.clone(), records.clone(), stop.clone())
        };
        self.tasks.spawn(supervise::keep("peers", stop.clone(), records.clone(), follow));
        let ask = {
            let (plan, cells, stop) = (plan.clone(), shared.cells.clone(), stop.clone());
            move || secrets::ask_again(plan.clone(), cells.clone(), stop.clone())
        };
        self.tasks.spawn(supervise::keep("secrets", stop.clone(), records.clone(), ask));
        let notice = {
            let (shared, plan, stop) = (shared.clone(), plan.clone(), stop.clone());
            move || facts::follow(shared.clone(), plan.clone(), stop.clone())
        };
        self.tasks.spawn(supervise::keep("facts", stop.clone(), records.clone(), notice));
        let scheduler = {
            let (plan, clients, records) = (plan.clone(), clients.clone(), records.clone());
            let (stop, cancel) = (stop.clone(), cancel.clone());
            let in_flight = shared.in_flight.clone();
            move || {
                scheduler::run(
                    plan.clone(),
                    peers.clone(),
                    clients.clone(),
                    records.clone(),
                    in_flight.clone(),
                    stop.clone(),
                    cancel.clone(),
                )
            }
        };
        self.tasks.spawn(supervise::keep("scheduler", stop.clone(), records.clone(), scheduler));
        let hands = rounds::Hands {
            clients,
            records: records.clone(),
            store: shared.store.clone(),
            rechecks: shared.rechecks.clone(),
            secrets: plan.secrets.clone().into(),
            stop: stop.clone(),
            cancel,
        };
        let back = {
            let (plan, hands) = (plan.clone(), hands.clone());
            move || rechecks::run(plan.clone(), hands.clone())
        };
        self.tasks.spawn(supervise::keep("rechecks", stop.clone(), records.clone(), back));
        let node: Arc<str> = plan.node.name.clone().into();
        let mut left = rounds::sort(left, &plan, &hands.store);
        for journey in &plan.journeys {
            let rounds = left.remove(&*journey.id).unwrap_or_default();
            let rounds = std::sync::Mutex::new(Some(rounds));
            let (journey, node, hands) = (journey.clone(), node.clone(), hands.clone());
            let journeys = move || {
                // What an earlier run left is walked on with once; a task started again begins anew.
                let left =
                    rounds.lock().ok().and_then(|mut rounds| rounds.take()).unwrap_or_default();
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

/// Those that can be read; one of another version is no longer of any use.
fn notifications(stored: Vec<(Now, serde_json::Value)>) -> Vec<Notification> {
    let read = |(received, value)| {
        let mut notification: Notification = serde_json::from_value(value).ok()?;
        notification.received = received;
        Some(notification)
    };
    stored.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests;
