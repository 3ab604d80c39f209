//! The lane's side: owns the lock and the connection, writes, cleans up, and comes back after
//! the disk did.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, Transaction};
use serde_json::Value;
use tokio::sync::oneshot;

use super::exhibits;
use super::lock::{self, Lock};
use super::pending::Pending;
use super::recover;
use super::schema::{self, FILE};
use super::tables;
use super::{Limits, RETRY, Reader, Recovered, RoundRecord, Shared, StoreError};
use crate::gate::LoadWindow;
use crate::outcome::{Fault, FaultCode};
use crate::time::{Mono, Now};

/// Points written in one transaction: a backlog is written in several, so that the log stays
/// small.
const POINTS_A_TRANSACTION: usize = 20_000;
/// What waits is not written more often than this.
const PERIOD_LEAST: Duration = Duration::from_millis(10);
/// How often what is too old is looked for.
const CLEANING: Duration = Duration::from_secs(60);
/// How often tracks without points are looked for: it reads all points.
const TRACK_CLEANING: Duration = Duration::from_secs(3600);
/// Notifications are kept for this long where no round is open.
const NOTIFICATIONS_AGE: Duration = Duration::from_secs(3600);

pub(super) type Answer = oneshot::Sender<Result<(), Fault>>;

pub(super) enum Job {
    Flush(Answer),
    Begin(Box<RoundRecord>, Answer),
    Notify(Now, Value, Answer),
    Load(Box<LoadWindow>, Answer),
    /// A picture, and the name of its file.
    Exhibit(String, Bytes, Answer),
}

/// Why something was not written.
enum Failure {
    /// May pass by itself.
    Away(String),
    /// Will not: what was to be written is dropped.
    Broken(String),
}

impl Failure {
    fn text(self) -> String {
        match self {
            Self::Away(text) | Self::Broken(text) => text,
        }
    }
}

pub(super) struct Writer {
    dir: PathBuf,
    limits: Limits,
    shared: Arc<Shared>,
    lock: Option<Lock>,
    open: Option<Open>,
    tried: Option<Mono>,
    /// When what waits was written last by the clock.
    written: Mono,
    /// None before the first time.
    cleaned: Option<Mono>,
    pub(super) tracks_cleaned: Mono,
}

/// An open database, and what is known of it.
struct Open {
    db: Connection,
    boot: i64,
    tracks: tables::Tracks,
}

impl Writer {
    pub(super) fn open(
        dir: &Path,
        limits: Limits,
        now: Now,
        shared: Arc<Shared>,
    ) -> Result<(Self, Recovered), StoreError> {
        let mut writer = Self {
            dir: dir.to_owned(),
            limits,
            shared,
            lock: None,
            open: None,
            tried: None,
            written: Mono::now(),
            cleaned: None,
            tracks_cleaned: Mono::now(),
        };
        let mut aside = None;
        if let Err(text) = writer.connect(&mut aside)? {
            writer.down(text);
            // Nothing can be written, but what is there may be readable.
            let read = Reader::open(dir).ok();
            let recovered =
                read.and_then(|reader| recover::read(reader.connection(), limits.age, now).ok());
            return Ok((writer, recovered.unwrap_or_default()));
        }
        let recovered = match writer.open.as_ref() {
            Some(open) => recover::read(&open.db, limits.age, now),
            None => Ok(Recovered::default()),
        };
        let recovered = match recovered {
            Ok(recovered) => recovered,
            Err(error) if schema::is_corrupt(&error) => {
                aside = Some(writer.start_anew(&error.to_string())?);
                if let Err(text) = writer.connect(&mut aside)? {
                    writer.down(text);
                    return Ok((writer, Recovered { aside, ..Recovered::default() }));
                }
                Recovered::default()
            }
            Err(error) => {
                writer.down(plain(&error));
                writer.open = None;
                return Ok((writer, Recovered { aside, ..Recovered::default() }));
            }
        };
        let text = aside.as_deref().map(moved).unwrap_or_default();
        writer.up(text);
        Ok((writer, Recovered { aside, ..recovered }))
    }

    /// Makes the directory, takes the lock, opens the database. The inner error may pass.
    fn connect(&mut self, aside: &mut Option<PathBuf>) -> Result<Result<(), String>, StoreError> {
        let unusable = |text: String| StoreError::Unusable { path: self.dir.clone(), text };
        if let Err(error) = make(&self.dir) {
            return if self.dir.exists() || !passes(&error) {
                Err(unusable(error.to_string()))
            } else {
                Ok(Err(format!("{} can't be made: {error}", self.dir.display())))
            };
        }
        if self.lock.is_none() {
            match Lock::take(&self.dir, self.shared.wall()) {
                Ok(lock) => self.lock = Some(lock),
                Err(lock::Refusal::Held(holder)) => {
                    return Err(StoreError::Locked { dir: self.dir.clone(), holder });
                }
                Err(lock::Refusal::Io(error)) if passes(&error) => {
                    return Ok(Err(format!("{} can't be written: {error}", self.dir.display())));
                }
                Err(lock::Refusal::Io(error)) => return Err(unusable(error.to_string())),
            }
        }
        let path = self.dir.join(FILE);
        let opened = match open_with_boot(&path) {
            Err(schema::Refusal::Sqlite(error)) if schema::is_corrupt(&error) => {
                *aside = Some(self.start_anew(&error.to_string())?);
                open_with_boot(&path)
            }
            other => other,
        };
        match opened {
            Ok(open) => self.open = Some(open),
            Err(schema::Refusal::Newer(found)) => return Err(schema::newer(&path, found)),
            Err(schema::Refusal::Sqlite(error)) => return Ok(Err(plain(&error))),
        }
        Ok(Ok(()))
    }

    /// The database can't be read: it goes aside, and its evidence is missing from now on.
    fn start_anew(&mut self, why: &str) -> Result<PathBuf, StoreError> {
        self.open = None;
        let path = self.dir.join(FILE);
        let aside = schema::move_aside(&path, self.shared.wall()).map_err(|error| {
            let text = format!("it is corrupt ({why}) and can't be moved aside: {error}");
            StoreError::Unusable { path, text }
        })?;
        tracing::error!(why, aside = %aside.display(), "the state database is corrupt; starting anew");
        Ok(aside)
    }

    /// Writes what waits, or tries again, where it is time to. Returns how long until the next time.
    pub(super) fn write_if_due(&mut self) -> Duration {
        let now = Mono::now();
        let period = self.limits.flush.max(PERIOD_LEAST);
        let period = if self.shared.status.borrow().up { period } else { period.min(RETRY) };
        let due = self.written.plus(period);
        if now < due {
            return due.since(now);
        }
        self.written = now;
        // `flush` has said in the status what went wrong.
        let _ = self.flush();
        self.clean();
        period
    }

    pub(super) fn turn(&mut self, job: Job) {
        match job {
            Job::Flush(answer) => {
                // Who no longer waits needs no answer; so below.
                let _ = answer.send(self.flush().map_err(fault));
            }
            Job::Load(window, answer) => {
                let result = self.write_at_once(true, |open, transaction| {
                    tables::load(open.boot, transaction, &window)
                });
                let _ = answer.send(result.map_err(fault));
            }
            Job::Begin(round, answer) => {
                let result = self.write_at_once(true, |open, transaction| {
                    tables::begin(open.boot, transaction, &round)
                });
                let begun = result.is_ok();
                let awaited = answer.send(result.map_err(fault)).is_ok();
                if begun && awaited {
                    // The disk is at work anyway. Otherwise a process that is killed every few
                    // seconds would store no end of a round ever, and walk them all again at each
                    // start. `flush` says in the status what went wrong.
                    let _ = self.flush();
                }
                if begun && !awaited {
                    // The caller gave up and sends nothing: there is no such round.
                    let run = round.run.clone();
                    let gone = self.write_at_once(false, |_, transaction| {
                        transaction.execute("DELETE FROM round WHERE run = ?1", [&*run]).map(drop)
                    });
                    if let Err(failure) = gone {
                        tracing::warn!(text = failure.text(), "a round that never began is stored");
                    }
                }
            }
            Job::Exhibit(name, png, answer) => {
                let _ = answer.send(self.keep_exhibit(&name, &png));
            }
            Job::Notify(at, notification, answer) => {
                let result = self.write_at_once(false, |open, transaction| {
                    tables::notification(open.boot, transaction, at, &notification)
                });
                let _ = answer.send(result.map_err(fault));
            }
        }
    }

    /// In a transaction of its own. `sync`: on the disk itself when it returns. In WAL mode with
    /// synchronous=NORMAL a commit survives the death of the process, but a power cut may undo
    /// the last ones (sqlite.org/pragma.html#pragma_synchronous), and then events of a round that
    /// nobody remembers would be under way. FULL syncs the log with the commit.
    fn write_at_once(
        &mut self,
        sync: bool,
        write: impl Fn(&Open, &Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Failure> {
        self.ensure_open()?;
        let Some(open) = self.open.as_mut() else { return Err(Failure::Away("closed".into())) };
        let done = (|| {
            if sync {
                open.db.pragma_update(None, "synchronous", "FULL")?;
            }
            let transaction = open.db.unchecked_transaction()?;
            write(open, &transaction)?;
            transaction.commit()
        })();
        if sync {
            // Also after a failure; if this fails too, all is merely slower.
            let _ = open.db.pragma_update(None, "synchronous", "NORMAL");
        }
        match done {
            Ok(()) => {
                self.up_again();
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The database may be well where there is no room for a picture, so the store is not down for it.
    fn keep_exhibit(&self, name: &str, png: &[u8]) -> Result<(), Fault> {
        if self.lock.is_none() {
            return Err(Fault::new(FaultCode::Store, "the state directory is not ours"));
        }
        let kept = exhibits::keep(&self.dir, name, png);
        self.count_exhibits(*kept.as_ref().unwrap_or(&0));
        kept.map(drop).map_err(|error| {
            Fault::new(FaultCode::Store, format!("it could not be written: {error}"))
        })
    }

    fn count_exhibits(&self, gone: u64) {
        let count = exhibits::count(&self.dir);
        self.shared.status.send_if_modified(|status| {
            status.exhibits_dropped = status.exhibits_dropped.saturating_add(gone);
            gone > 0 || std::mem::replace(&mut status.exhibits, count) != count
        });
    }

    /// Writes what waits. What can't be written now waits on.
    fn flush(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut *self.shared.pending());
        let up = self.shared.status.borrow().up;
        if batch.is_empty() && up {
            return Ok(());
        }
        let written = self.write_all(&mut batch);
        match written {
            Ok(()) => {
                self.count_dropped(batch.dropped);
                self.up_again();
                self.keep_to_size();
                Ok(())
            }
            Err(failure) => {
                match &failure {
                    Failure::Away(_) => self.shared.pending().put_back(batch),
                    Failure::Broken(text) => {
                        tracing::error!(text, "what was to be stored could not be, and is dropped");
                    }
                }
                Err(failure)
            }
        }
    }

    fn write_all(&mut self, batch: &mut Pending) -> Result<(), Failure> {
        self.ensure_open()?;
        let mut first = true;
        let back = (!self.shared.status.borrow().up).then(|| self.shared.wall());
        while first || !batch.points.is_empty() {
            let Some(open) = self.open.as_mut() else { return Err(Failure::Away("closed".into())) };
            let count = batch.points.len().min(POINTS_A_TRANSACTION);
            let done = (|| {
                let Open { db, boot, tracks } = open;
                let transaction = db.transaction()?;
                if first {
                    tables::rest(*boot, &transaction, batch)?;
                    // A store that was down learns from this that it can be written again, also
                    // where nothing waits.
                    if let Some(at) = back {
                        tables::mark(&transaction, "came_back", &at.rfc3339())?;
                    }
                }
                let points = batch.points.iter().take(count);
                tables::put_points(*boot, tracks, &transaction, points)?;
                transaction.commit()
            })();
            if let Err(error) = done {
                // Ids that were given in the transaction that is gone.
                open.tracks.clear();
                return Err(self.failed(&error));
            }
            if first {
                *batch = Pending {
                    points: std::mem::take(&mut batch.points),
                    dropped: batch.dropped,
                    ..Pending::default()
                };
            }
            batch.points.drain(..count);
            first = false;
        }
        Ok(())
    }

    fn ensure_open(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        let now = Mono::now();
        if let Some(tried) = self.tried.filter(|tried| now.since(*tried) < RETRY / 2) {
            let text = self.shared.status.borrow().text.clone();
            tracing::trace!(?tried, "too early to try the state directory again");
            return Err(Failure::Away(text));
        }
        self.tried = Some(now);
        let mut aside = None;
        let connected = self.connect(&mut aside).map_err(|error| error.to_string()).flatten();
        connected.map_err(|text| {
            self.down(text.clone());
            Failure::Away(text)
        })
    }

    /// Notes an error, and decides what follows from it.
    fn failed(&mut self, error: &rusqlite::Error) -> Failure {
        let text = plain(error);
        if schema::is_corrupt(error) {
            let text = match self.start_anew(&text) {
                Ok(aside) => moved(&aside),
                Err(error) => error.to_string(),
            };
            self.tried = None;
            self.down(text.clone());
            return Failure::Away(text);
        }
        if !schema::may_pass(error) {
            self.count_error();
            return Failure::Broken(text);
        }
        if error.sqlite_error_code() != Some(rusqlite::ErrorCode::DiskFull) {
            // A descriptor of before the disk went away may never work again.
            self.open = None;
        }
        self.down(text.clone());
        Failure::Away(text)
    }

    fn down(&self, text: String) {
        let was_up = self.shared.status.borrow().up;
        self.shared.status.send_modify(|status| {
            status.up = false;
            status.errors = status.errors.saturating_add(1);
            status.text.clone_from(&text);
        });
        if was_up {
            tracing::error!(text, "the state directory can't be written; going on in memory");
        }
    }

    fn up(&self, text: String) {
        let bytes = self.bytes();
        self.shared.status.send_modify(|status| {
            status.up = true;
            status.bytes = bytes;
            status.text = text;
        });
    }

    /// A write has reached the disk.
    fn up_again(&self) {
        if self.shared.status.borrow().up {
            return;
        }
        tracing::info!("the state directory can be written again");
        self.up(String::new());
    }

    fn count_error(&self) {
        self.shared.status.send_modify(|status| status.errors = status.errors.saturating_add(1));
    }

    fn count_dropped(&self, more: u64) {
        if more > 0 {
            tracing::warn!(more, "the backlog was full; the oldest entries are not stored");
            self.shared.status.send_modify(|status| {
                status.dropped = status.dropped.saturating_add(more);
            });
        }
    }

    /// What the database and its log take.
    fn bytes(&self) -> u64 {
        let size =
            |name: &str| std::fs::metadata(self.dir.join(name)).map_or(0, |about| about.len());
        size(FILE).saturating_add(size(&format!("{FILE}-wal")))
    }

    /// Deletes what is too old, once a minute.
    fn clean(&mut self) {
        let now = Mono::now();
        if self.cleaned.is_some_and(|cleaned| now.since(cleaned) < CLEANING) {
            return;
        }
        self.cleaned = Some(now);
        let today = Now { mono: now, wall: self.shared.wall() };
        let tracks = now.since(self.tracks_cleaned) >= TRACK_CLEANING;
        let Some(open) = self.open.as_mut() else { return };
        let before = |age| tables::Before::of(open.boot, today, age);
        let (old, received) = (before(self.limits.age), before(NOTIFICATIONS_AGE));
        let done = tables::delete_old(&open.db, &old, &received)
            .and_then(|()| if tracks { tables::delete_unused_tracks(&open.db) } else { Ok(()) })
            .and_then(|()| tables::give_back(&open.db));
        if tracks {
            open.tracks.clear();
        }
        if let Err(error) = done {
            self.failed(&error);
            return;
        }
        if tracks {
            self.tracks_cleaned = now;
            match tables::exhibits(&open.db) {
                Ok(named) => exhibits::forget(&self.dir, &named, today.wall),
                Err(error) => drop(self.failed(&error)),
            }
        }
        self.count_exhibits(0);
        self.say_bytes();
    }

    /// Makes room where the database is about to outgrow its limit.
    fn keep_to_size(&mut self) {
        let target = self.limits.bytes / 4 * 3;
        self.say_bytes();
        // What is in use lies in the two files: asking the database how much that is takes as long as
        // writing a second does.
        if self.shared.status.borrow().bytes <= target {
            return;
        }
        let Some(open) = self.open.as_mut() else { return };
        // The log, which is written before the database, takes the rest.
        if let Err(error) = tables::keep_to(&open.db, target) {
            self.failed(&error);
        }
        self.say_bytes();
    }

    fn say_bytes(&self) {
        let bytes = self.bytes();
        let say = |status: &mut super::Status| std::mem::replace(&mut status.bytes, bytes) != bytes;
        self.shared.status.send_if_modified(say);
    }
}

fn fault(failure: Failure) -> Fault {
    Fault::new(FaultCode::Store, format!("the state could not be written: {}", failure.text()))
}

fn moved(aside: &Path) -> String {
    format!("the database was corrupt and lies in {} now", aside.display())
}

/// What an operator can do something about.
fn plain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => String::from("the disk is full"),
        Some(rusqlite::ErrorCode::ReadOnly) => String::from("the disk is read-only"),
        _ => error.to_string(),
    }
}

/// Readable for the agent and its group: reports and notifications are nobody else's.
fn make(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)
}

/// Whether a directory that can't be used may be usable later.
fn passes(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::StaleNetworkFileHandle
            | ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(nix::libc::EIO)
}

/// Opens the database, and finds or makes the id of this boot in it.
fn open_with_boot(path: &Path) -> Result<Open, schema::Refusal> {
    let db = schema::open(path)?;
    let name = recover::boot();
    db.execute("INSERT OR IGNORE INTO boot (name) VALUES (?1)", [&name])?;
    let boot = db.query_row("SELECT id FROM boot WHERE name = ?1", [&name], |row| row.get(0))?;
    Ok(Open { db, boot, tracks: tables::Tracks::default() })
}
