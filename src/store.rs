//! What outlives the process: points of windows, standings, rounds, verdict changes, reports.
//! SQLite in WAL mode, written by one named lane.
//!
//! Two classes of writes. What must be there before something happens in the world (a round's
//! token and sequence range, a notification that is answered with 200) is committed and synced
//! before the call returns. All else is buffered and written every few seconds in one transaction:
//! kill -9 at any instant loses at most that last interval of samples, no round, and never
//! corrupts.
//!
//! A disk that is full or read-only degrades the store to memory: it says so, keeps a bounded
//! backlog, tries again by itself every few seconds, and catches up.
//!
//! Nothing here reads the wall clock: it comes with what is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::gate::{LoadWindow, Standing};
use crate::journey::{Run, Stage};
use crate::lanes::{Fill, Lane};
use crate::ledger::Document;
use crate::outcome::{Fault, FaultCode};
use crate::series::{self, TrackKey};
use crate::time::{Mono, Now, Wall};
use pending::Pending;
use writer::{Job, Writer};

mod exhibits;
mod lock;
mod packed;
mod pending;
mod reader;
mod recover;
mod schema;
mod tables;
mod writer;

pub use reader::Reader;

/// How long a committed write may take. A disk that needs longer is as good as none: the round
/// does not begin.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);
/// How often a store that is down tries again.
const RETRY: Duration = Duration::from_secs(3);
/// Jobs that may wait for the lane: rounds that begin and notifications, a few a second at most.
const JOBS_LIMIT: usize = 256;
/// A turn of the lane that takes longer means that the disk hangs.
const HUNG: Duration = Duration::from_secs(30);

/// Load windows that are kept, the newest: a load a day for most of a year.
pub const LOAD_WINDOWS: usize = 256;

/// What the store may use, and how often it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most the database and its log may take on disk.
    pub bytes: u64,
    /// Points and tallies older than this are deleted: the longest window that a gate has.
    pub age: Duration,
    /// How often what is buffered is written: the most that kill -9 loses.
    pub flush: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two days of a hundred points a second, at about 6 bytes each, and as much again.
            bytes: 256 << 20,
            age: Duration::from_secs(48 * 3600),
            flush: Duration::from_secs(5),
        }
    }
}

/// What a point is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredTrack {
    /// The catalogue's name of the series, or of the metric where it has none.
    pub series: &'static str,
    pub check: Arc<str>,
    pub target: Arc<str>,
    /// Values of the metric's further labels.
    pub labels: Vec<Arc<str>>,
}

impl StoredTrack {
    pub fn of(key: &TrackKey) -> Self {
        Self {
            series: key.metric.series.unwrap_or(key.metric.name),
            check: key.check.clone(),
            target: key.target.clone(),
            labels: key.labels.clone(),
        }
    }

    /// Keeps with the check or journey what its points are evidence of.
    pub fn evidence_of(self, what: &str) -> Self {
        Self { check: format!("{}{SEPARATOR}{what}", self.check).into(), ..self }
    }

    /// The check or journey, and what the points are evidence of, where that was kept.
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self.check.rsplit_once(SEPARATOR) {
            Some((check, evidence)) => (check, Some(evidence)),
            None => (&self.check, None),
        }
    }
}

/// No id and no digest holds it.
const SEPARATOR: char = '\u{1f}';

/// One point of a series that some gate asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPoint {
    pub track: Arc<StoredTrack>,
    pub at: Mono,
    pub value: series::Value,
}

/// A round, as it is on disk before its first event is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundRecord {
    pub run: Run,
    pub journey: Arc<str>,
    pub began: Now,
    pub first_seq: u64,
    pub count: u64,
    /// What the walk needs to go on from here.
    pub progress: Value,
}

/// A round that had not ended when the last process did.
pub type OpenRound = RoundRecord;

/// A round that ended, and its counts.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedRound {
    pub run: Run,
    pub journey: Arc<str>,
    pub at: Now,
    pub tally: Value,
    /// Its walk, where a look back may find what it lacks.
    pub progress: Option<Value>,
}

/// What a stage had shown of a round, to be asked for again.
#[derive(Clone, Debug, PartialEq)]
pub struct DueRecheck {
    pub run: Run,
    pub journey: Arc<str>,
    pub stage: Stage,
    /// How long after the round's end.
    pub after: Duration,
    /// When the round began.
    pub began: Now,
    pub due: Now,
    /// What is needed to know its events again.
    pub expected: Value,
}

/// A look back that is done, and what it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct DoneRecheck {
    pub run: Run,
    pub journey: Arc<str>,
    pub stage: Stage,
    pub after: Duration,
    pub at: Now,
    pub result: Value,
}

/// A gate's verdict became another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictChange {
    pub gate: String,
    pub from: Option<&'static str>,
    pub to: &'static str,
    pub at: Wall,
    pub text: String,
}

/// What the process before left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Within the asked age, oldest first. `at` is on today's monotonic clock; of an earlier boot
    /// it is computed from the wall clock.
    pub points: Vec<StoredPoint>,
    pub standings: BTreeMap<String, Standing>,
    pub rounds: Vec<OpenRound>,
    pub ended: Vec<EndedRound>,
    /// The soonest due first.
    pub due: Vec<DueRecheck>,
    pub rechecked: Vec<DoneRecheck>,
    /// Declared load windows, the oldest declaration first.
    pub load: Vec<LoadWindow>,
    /// Received since the oldest open round began, oldest first; when, on today's clock.
    pub notifications: Vec<(Now, Value)>,
    /// The newest report, where there is one.
    pub report: Option<Value>,
    pub marks: BTreeMap<String, String>,
    /// Where a database that could not be read was moved.
    pub aside: Option<PathBuf>,
}

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the last write reached the disk; false without a directory.
    pub up: bool,
    /// What the database and its log take on disk.
    pub bytes: u64,
    pub bytes_limit: u64,
    /// Writes that failed.
    pub errors: u64,
    /// Buffered entries that were dropped because the backlog was full.
    pub dropped: u64,
    /// Pictures that are kept, and how many went for newer ones.
    pub exhibits: usize,
    pub exhibits_dropped: u64,
    /// Why it is down, or what was moved aside.
    pub text: String,
}

/// Why a state directory can't be used at all. What may pass (a full disk) is none of these.
#[derive(Debug)]
pub enum StoreError {
    /// Another process writes here.
    Locked { dir: PathBuf, holder: String },
    /// A newer version wrote it.
    Newer { path: PathBuf, found: i64, known: i64 },
    /// There is nothing to read.
    Missing { dir: PathBuf },
    /// The place can't be a state directory, or can't be read.
    Unusable { path: PathBuf, text: String },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { dir, holder } => write!(
                f,
                "the state directory {} is in use by {holder}; stop that one, or give this one \
                 another `--state`",
                dir.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "{} was written by a newer greenlight (version {found} of its tables, this one \
                 knows {known}); run that greenlight, or move the file away to start anew",
                path.display()
            ),
            Self::Missing { dir } => write!(
                f,
                "{} holds no state; `greenlight run` and `greenlight check --state` make it",
                dir.display()
            ),
            Self::Unusable { path, text } => {
                write!(f, "the state in {} can't be used: {text}", path.display())
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// The one writer of a state directory. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// None without a directory: everything lives in memory, with whoever has it.
    disk: Option<Arc<Disk>>,
    status: watch::Receiver<Status>,
}

struct Disk {
    lane: Lane<Job>,
    shared: Arc<Shared>,
}

/// What the callers and the lane share. The lock is never held over I/O.
struct Shared {
    pending: Mutex<Pending>,
    status: watch::Sender<Status>,
    /// Wall clock minus monotonic clock, in nanoseconds, as it last came by.
    offset: AtomicI64,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, now: Now) {
        self.offset.store(now.wall.0.saturating_sub(now.mono.0), Relaxed);
    }

    /// The wall clock, by the offset that last came by.
    fn wall(&self) -> Wall {
        Wall(Mono::now().0.saturating_add(self.offset.load(Relaxed)))
    }
}

impl Store {
    /// Opens the state directory, makes it where it is not there, and reads what was left in it.
    /// Blocks; called before anything runs. A directory that can't be written is no error: the
    /// store is down, says so, and keeps trying.
    pub fn open(dir: &Path, limits: Limits, now: Now) -> Result<(Self, Recovered), StoreError> {
        let (status, receiver) =
            watch::channel(Status { bytes_limit: limits.bytes, ..Status::default() });
        let shared =
            Arc::new(Shared { pending: Mutex::default(), status, offset: AtomicI64::new(0) });
        shared.saw(now);
        let (writer, recovered) = Writer::open(dir, limits, now, Arc::clone(&shared))?;
        let turn = |writer: &mut Writer, job| {
            writer.turn(job);
            writer.write_if_due();
        };
        let lane = Lane::start_with("store", JOBS_LIMIT, writer, turn, |writer| {
            Some(writer.write_if_due())
        });
        let lane = lane.map_err(|error| StoreError::Unusable {
            path: dir.to_owned(),
            text: format!("its thread could not be started: {error}"),
        })?;
        let disk = Arc::new(Disk { lane, shared });
        Ok((Self { disk: Some(disk), status: receiver }, recovered))
    }

    /// No directory: nothing outlives the process.
    pub fn memory() -> (Self, Recovered) {
        let text = String::from("there is no state directory");
        let (_, status) = watch::channel(Status { text, ..Status::default() });
        (Self { disk: None, status }, Recovered::default())
    }

    /// Reads a state directory, beside its writer or without one.
    pub fn read_only(dir: &Path) -> Result<Reader, StoreError> {
        Reader::open(dir)
    }

    /// How the store is, and every change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Why nothing can be written, where there is a directory to write to.
    pub fn state(&self) -> Result<(), String> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if let Some(busy) = disk.lane.busy_for(Mono::now()).filter(|busy| *busy > HUNG) {
            return Err(format!("a write has been hanging for {} s", busy.as_secs()));
        }
        let status = self.status.borrow();
        if status.up { Ok(()) } else { Err(status.text.clone()) }
    }

    /// How full the lane and the backlog are; nothing without a directory.
    pub fn fills(&self) -> Vec<Fill> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let pending = disk.shared.pending();
        let status = self.status.borrow();
        let backlog = Fill {
            queue: "store_backlog",
            length: pending.points.len(),
            limit: pending::POINTS,
            dropped: pending.dropped.saturating_add(status.dropped),
        };
        let exhibits = Fill {
            queue: "exhibits",
            length: status.exhibits,
            limit: exhibits::KEPT,
            dropped: status.exhibits_dropped,
        };
        vec![disk.lane.fill(), backlog, exhibits]
    }

    fn later(&self, now: Option<Now>, add: impl FnOnce(&mut Pending)) {
        let Some(disk) = &self.disk else { return };
        if let Some(now) = now {
            disk.shared.saw(now);
        }
        add(&mut disk.shared.pending());
    }

    async fn at_once(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), Fault>>) -> Job,
    ) -> Result<(), Fault> {
        let Some(disk) = &self.disk else { return Ok(()) };
        match disk.lane.ask(COMMIT_DEADLINE, job).await {
            Ok(result) => result,
            Err(fault) => Err(Fault::new(FaultCode::Store, fault.text)),
        }
    }

    /// On disk, synced, when it returns: only then may the first event be sent.
    pub async fn begin_round(&self, round: RoundRecord) -> Result<(), Fault> {
        if let Some(disk) = &self.disk {
            disk.shared.saw(round.began);
        }
        self.at_once(|answer| Job::Begin(Box::new(round), answer)).await
    }

    /// On disk when it returns: only then is the sender told that it was received.
    pub async fn put_notification(&self, at: Now, notification: Value) -> Result<(), Fault> {
        if let Some(disk) = &self.disk {
            disk.shared.saw(at);
        }
        self.at_once(|answer| Job::Notify(at, notification, answer)).await
    }

    /// On disk when it returns: a load that was declared is not forgotten by a restart.
    pub async fn declare_load(&self, window: LoadWindow, now: Now) -> Result<(), Fault> {
        if let Some(disk) = &self.disk {
            disk.shared.saw(now);
        }
        self.at_once(|answer| Job::Load(Box::new(window), answer)).await
    }

    /// Keeps a picture under the SHA-256 of what it holds: its file in the state directory, on disk when
    /// this returns; None without a directory.
    pub async fn keep_exhibit(&self, sha256: &str, png: Bytes) -> Result<Option<String>, Fault> {
        if self.disk.is_none() {
            return Ok(None);
        }
        let name = format!("{sha256}.png");
        let file = format!("{}/{name}", exhibits::FOLDER);
        self.at_once(|answer| Job::Exhibit(name, png, answer)).await?;
        Ok(Some(file))
    }

    pub fn points(&self, points: impl IntoIterator<Item = StoredPoint>, now: Now) {
        self.later(Some(now), |pending| {
            for point in points {
                pending.point(now.wall_of(point.at), point);
            }
        });
    }

    pub fn standing(&self, gate: &str, standing: &Standing) {
        self.later(None, |pending| pending.standing(gate, standing.clone()));
    }

    pub fn verdict_change(&self, change: VerdictChange) {
        self.later(None, |pending| pending.change(change));
    }

    /// A better text for a change that was told before: who did it is known a second later.
    pub fn mend_verdict(&self, gate: &str, at: Wall, text: &str) {
        self.later(None, |pending| pending.mend(gate, at, text));
    }

    /// What the walk of an open round needs to go on; the newest is kept.
    pub fn round_progress(&self, run: &Run, progress: Value) {
        self.later(None, |pending| pending.progress(run, progress));
    }

    /// The round is decided. Called again it mends the tally. `progress` is kept, beyond its age,
    /// as long as a look back at the round is due.
    pub fn end_round(
        &self,
        run: &Run,
        journey: &Arc<str>,
        at: Now,
        tally: Value,
        progress: Option<Value>,
    ) {
        let ended = EndedRound { run: run.clone(), journey: journey.clone(), at, tally, progress };
        self.later(Some(at), |pending| pending.end(ended));
    }

    /// What is to be asked for again, wherever the process is then.
    pub fn recheck_due(&self, recheck: DueRecheck, now: Now) {
        self.later(Some(now), |pending| pending.due(recheck));
    }

    /// A look back is done, or can't be any more.
    pub fn recheck_done(&self, recheck: DoneRecheck) {
        self.later(Some(recheck.at), |pending| pending.rechecked(recheck));
    }

    pub fn archive_report(&self, at: Now, document: &Document) {
        match serde_json::to_string(document) {
            Ok(json) => self.later(Some(at), |pending| {
                pending.report(at.wall, document.plan.digest.clone(), json);
            }),
            Err(error) => tracing::error!(%error, "the report could not be archived"),
        }
    }

    /// A value under a name, for whoever wants to find it again.
    pub fn mark(&self, key: &str, value: &str) {
        self.later(None, |pending| pending.mark(key, value));
    }

    /// Writes everything that is buffered; used when the agent drains.
    pub async fn flush(&self) -> Result<(), Fault> {
        self.at_once(Job::Flush).await
    }

    /// Writes everything, and closes the database.
    pub async fn close(&self) -> Result<(), Fault> {
        let flushed = self.flush().await;
        if let Some(disk) = &self.disk {
            disk.lane.close(COMMIT_DEADLINE).await?;
        }
        flushed
    }
}

#[cfg(test)]
mod tests;
