//! What the tasks tell the recorder, what it is asked, and what it shows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::gate::LoadWindow;
use crate::journey::Stage;
use crate::journey::recheck::Rechecked;
use crate::journey::specimen::Specimen;
use crate::journey::tally::Tally;
use crate::ledger::Document;
use crate::metrics::Format;
use crate::node::culprits::{Capture, Found};
use crate::outcome::{CheckId, Fault, Observation, TargetName};
use crate::plan::{Peers, Plan};
use crate::render::history::History;
use crate::time::Now;

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
    /// The same, for the last time: what comes after it is kept and judges nothing any more.
    Last(oneshot::Sender<Arc<Snapshot>>),
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
        /// What it is evidence of.
        evidence: Arc<str>,
        at: Now,
        tally: Tally,
        /// What it had been told to be, where something came after it had been given up.
        before: Option<Box<Tally>>,
        specimen: Option<Box<Specimen>>,
    },
    /// What a stage had shown was asked for again.
    Rechecked {
        journey: Arc<str>,
        /// What the round was evidence of.
        evidence: Arc<str>,
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
    /// Whether anybody takes in what is measured and judges it.
    Alive(oneshot::Sender<()>),
}

/// Said whenever something was judged, so that who waits for a verdict knows when to ask.
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
