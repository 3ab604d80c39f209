//! The one owner of all state: takes in what was measured, judges once a second, shows it to who
//! asks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::state::State;
use crate::gate::LoadWindow;
use crate::journey::recheck::Rechecked;
use crate::journey::specimen::Specimen;
use crate::journey::tally::Tally;
use crate::journey::{Run, Stage};
use crate::lanes::Fill;
use crate::ledger::Document;
use crate::metrics::Format;
use crate::node::Frame;
use crate::node::culprits::{Capture, Found};
use crate::outcome::{CheckId, Fault, Observation, TargetName};
use crate::plan::{Peers, Plan};
use crate::render::page::History;
use crate::time::Now;

/// How often all gates are judged.
const JUDGE: Duration = Duration::from_secs(1);
/// So long after a second of the node it is judged without the next.
const JUDGE_AT_LAST: Duration = Duration::from_millis(1_500);

/// The way to the recorder, behind a bounded queue. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    queue: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// The recorder has ended.
#[derive(Debug)]
pub struct Ended;

impl Records {
    pub fn new(limit: usize) -> (Self, mpsc::Receiver<Record>) {
        let (queue, receiver) = mpsc::channel(limit);
        (Self { queue, dropped: Arc::default() }, receiver)
    }

    /// Waits for room.
    pub async fn send(&self, record: Record) -> Result<(), Ended> {
        self.queue.send(record).await.map_err(|_| Ended)
    }

    /// Never waits: what finds no room is dropped, and counted.
    pub fn offer(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many found no room, for whoever has no other part in it.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }
}

/// What the recorder is told.
pub enum Record {
    /// A second of the node.
    Frame(Box<Frame>),
    /// Who took what in a second that crossed a threshold.
    Culprits(Vec<Found>),
    Begun {
        check: CheckId,
        target: TargetName,
    },
    Observation(Observation),
    /// Ticks that were skipped.
    Missed {
        check: CheckId,
        count: u64,
    },
    Round(RoundNews),
    /// Somebody declares when a load is on. On disk already.
    Load(LoadWindow),
    /// A new plan is in force.
    Plan(Arc<Plan>),
    /// The file of peers has changed: the members now, or that they stay because it is bad.
    Peers(Option<Peers>),
    Reloaded {
        success: bool,
    },
    TaskRestarted {
        task: &'static str,
    },
    Request {
        route: &'static str,
        code: &'static str,
    },
    /// Judge now and answer: everything sent before is in the answer.
    Settle(oneshot::Sender<Arc<Snapshot>>),
}

/// What a journey's task tells.
pub enum RoundNews {
    Begun {
        journey: Arc<str>,
        at: Now,
        count: u64,
    },
    NotBegun {
        journey: Arc<str>,
        at: Now,
        fault: Fault,
    },
    /// Rounds are left out, because the platform asked to slow down.
    Spared {
        journey: Arc<str>,
        count: u64,
    },
    BlindLook {
        journey: Arc<str>,
        stage: Stage,
    },
    Ended {
        journey: Arc<str>,
        run: Run,
        at: Now,
        /// Sent again, mended, where something came after it had been given up.
        tally: Tally,
        specimen: Box<Specimen>,
    },
    /// What a stage had shown was asked for again.
    Rechecked {
        journey: Arc<str>,
        stage: Stage,
        after: Duration,
        at: Now,
        result: Rechecked,
    },
}

/// What the recorder is asked.
pub enum Ask {
    Metrics {
        format: Format,
        reply: oneshot::Sender<Vec<u8>>,
    },
    /// What was judged last.
    Snapshot(oneshot::Sender<Arc<Snapshot>>),
}

/// Said once a second, so that who waits for a verdict knows when to ask.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    pub at: Now,
}

/// What everybody else may see of the state. Made for who asks: nobody does in most seconds.
pub struct Snapshot {
    pub plan: Arc<serde_json::Value>,
    pub document: Arc<Document>,
    /// Gates that more time may still decide.
    pub undecided: usize,
    /// What is being tried right now.
    pub running: Vec<String>,
    /// The recent values of each gate.
    pub history: Arc<History>,
    /// Who did it, each time that a threshold was crossed: the newest last.
    pub captures: Arc<VecDeque<Capture>>,
    /// Whether the state directory can be written, and why not.
    pub store: Result<(), String>,
}

pub async fn run(
    mut state: State,
    (mut records, dropped): (mpsc::Receiver<Record>, Arc<AtomicU64>),
    mut asks: mpsc::Receiver<Ask>,
    publish: watch::Sender<Judged>,
    stop: CancellationToken,
) {
    // Judged with each second of the node as it comes, which costs no wake-up of its own; by the
    // clock where none does.
    let mut judge = tokio::time::interval(JUDGE);
    judge.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ask) = asks.recv() => match ask {
                Ask::Metrics { format, reply } => {
                    state.show(fill("records", &records, dropped.load(Relaxed)));
                    // Who asks waits for room.
                    state.show(fill("asks", &asks, 0));
                    let mut text = Vec::with_capacity(64 * 1024);
                    state.write_metrics(format, &mut text);
                    let _ = reply.send(text);
                }
                Ask::Snapshot(reply) => {
                    state.judge_rest();
                    drop(reply.send(Arc::new(state.snapshot())));
                }
            },
            _ = judge.tick() => {
                state.judge_due(clock::now());
                publish.send_replace(state.judged());
            }
            Some(record) = records.recv() => match record {
                Record::Settle(reply) => {
                    state.judge(clock::now());
                    publish.send_replace(state.judged());
                    let _ = reply.send(Arc::new(state.snapshot()));
                }
                record => {
                    let is_second = matches!(record, Record::Frame(_));
                    state.apply(record, clock::now());
                    if is_second {
                        state.judge_due(clock::now());
                        publish.send_replace(state.judged());
                        judge.reset_after(JUDGE_AT_LAST);
                    }
                }
            },
            else => break,
        }
    }
}

fn fill<T>(queue: &'static str, receiver: &mpsc::Receiver<T>, dropped: u64) -> Fill {
    Fill { queue, length: receiver.len(), limit: receiver.max_capacity(), dropped }
}
