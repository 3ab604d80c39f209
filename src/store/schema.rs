//! The tables, how they came to be, and how the database is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;
use crate::time::Wall;

/// The name of the database in the state directory.
pub(super) const FILE: &str = "greenlight.db";

/// Says whose database it is (`file` shows it): "GrLi".
const APPLICATION: i64 = 0x4772_4c69;

/// A reader holds the database for milliseconds only.
const BUSY: Duration = Duration::from_secs(2);

/// The log is cut back to this after a checkpoint.
pub(super) const LOG_LIMIT: i64 = 1 << 20;

/// Databases that were moved aside and are kept.
const ASIDE_KEPT: usize = 2;

/// Each step makes one version of the tables into the next; `user_version` counts them. A step
/// that has been released is never changed.
pub(super) const STEPS: &[&str] = &[
    "
    CREATE TABLE boot (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE track (
        id INTEGER PRIMARY KEY,
        series TEXT NOT NULL, chk TEXT NOT NULL, target TEXT NOT NULL, labels TEXT NOT NULL,
        UNIQUE (series, chk, target, labels)
    );
    CREATE TABLE point (
        id INTEGER PRIMARY KEY,
        track INTEGER NOT NULL, wall INTEGER NOT NULL, mono INTEGER NOT NULL,
        boot INTEGER NOT NULL, kind INTEGER NOT NULL, value REAL
    );
    CREATE TABLE standing (gate TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE verdict (
        id INTEGER PRIMARY KEY,
        gate TEXT NOT NULL, was TEXT, became TEXT NOT NULL, wall INTEGER NOT NULL,
        text TEXT NOT NULL
    );
    CREATE TABLE round (
        run TEXT PRIMARY KEY,
        journey TEXT NOT NULL, wall INTEGER NOT NULL, mono INTEGER NOT NULL,
        boot INTEGER NOT NULL, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,
        progress TEXT, ended_wall INTEGER, ended_mono INTEGER, ended_boot INTEGER, tally TEXT
    ) WITHOUT ROWID;
    CREATE INDEX round_ended ON round (ended_wall);
    CREATE TABLE notification (
        id INTEGER PRIMARY KEY, wall INTEGER NOT NULL, json TEXT NOT NULL
    );
    CREATE TABLE report (
        id INTEGER PRIMARY KEY,
        wall INTEGER NOT NULL, digest TEXT NOT NULL, json TEXT NOT NULL
    );
    CREATE TABLE mark (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE load (
        id INTEGER PRIMARY KEY,
        start_wall INTEGER NOT NULL, start_mono INTEGER NOT NULL,
        end_wall INTEGER NOT NULL, end_mono INTEGER NOT NULL,
        boot INTEGER NOT NULL, source TEXT NOT NULL,
        UNIQUE (start_wall, end_wall, source)
    );
",
    // What is older than these columns is of no boot: the wall clock places it.
    "
    ALTER TABLE notification ADD COLUMN mono INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE notification ADD COLUMN boot INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE standing ADD COLUMN boot INTEGER NOT NULL DEFAULT 0;
",
    // A look back at what a round's stage had shown: `expected` until it is done, then `result`.
    "
    CREATE TABLE recheck (
        run TEXT NOT NULL, stage TEXT NOT NULL, after INTEGER NOT NULL, journey TEXT NOT NULL,
        began_wall INTEGER NOT NULL, began_mono INTEGER NOT NULL,
        due_wall INTEGER NOT NULL, due_mono INTEGER NOT NULL, boot INTEGER NOT NULL,
        expected TEXT, done_wall INTEGER, done_mono INTEGER, done_boot INTEGER, result TEXT,
        PRIMARY KEY (run, stage, after)
    ) WITHOUT ROWID;
",
    // A row for each second and not for each point of it. No release has written the old table: its
    // windows begin anew.
    "
    CREATE TABLE instant (
        id INTEGER PRIMARY KEY,
        wall INTEGER NOT NULL, mono INTEGER NOT NULL, boot INTEGER NOT NULL,
        points BLOB NOT NULL
    );
    DROP TABLE point;
",
];

/// The version whose standings and notifications say of which boot they are.
pub(super) const WITH_BOOTS: i64 = 3;

/// The version that keeps the points of an instant in one row.
pub(super) const WITH_INSTANTS: i64 = 5;

/// Why a database could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    Newer(i64),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Opens for writing, and brings the tables to this version.
pub(super) fn open(path: &Path) -> Result<Connection, Refusal> {
    let mut db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY)?;
    // Works only before the first table is made, and says so by doing nothing later.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |r| r.get(0))?;
    if mode != "wal" {
        // A file system without shared memory: kill -9 is safe in any mode.
        tracing::warn!(mode, "the state database can't use a write-ahead log here");
    }
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    db.pragma_update(None, "foreign_keys", false)?;
    // Points are appended, so what a page cache saves is little against what a small agent weighs:
    // 256 KiB. A larger transaction goes to the log before it ends.
    db.pragma_update(None, "cache_size", -256)?;
    migrate(&mut db, STEPS)?;
    Ok(db)
}

/// Applies the steps that the database lacks, each in a transaction of its own.
pub(super) fn migrate(db: &mut Connection, steps: &[&str]) -> Result<(), Refusal> {
    let found = version(db)?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Refusal::Newer(found));
    }
    for (step, to) in steps.iter().zip(1_i64..).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = db.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", to)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.commit()?;
    }
    Ok(())
}

pub(super) fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn newer(path: &Path, found: i64) -> StoreError {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    StoreError::Newer { path: path.to_owned(), found, known }
}

/// Whether the file is no database, or no whole one.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether it may work again later without anybody changing the program.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
        )
    )
}

/// Moves a database that can't be read out of the way; its log goes with it.
pub(super) fn move_aside(path: &Path, now: Wall) -> std::io::Result<PathBuf> {
    let suffix = format!(".corrupt-{}", now.0.div_euclid(1_000_000_000));
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(path, &suffix);
    for part in ["-wal", "-shm"] {
        let from = with(path, part);
        if from.exists() {
            std::fs::rename(&from, with(&aside, part))?;
        }
    }
    std::fs::rename(path, &aside)?;
    forget_old_ones(path);
    Ok(aside)
}

/// Evidence for whoever asks why, but not without end.
fn forget_old_ones(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    let prefix = format!("{name}.corrupt-");
    let mut stamps: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
        .filter(|stamp| stamp.chars().all(|c| c.is_ascii_digit()))
        .collect();
    stamps.sort();
    let surplus = stamps.len().saturating_sub(ASIDE_KEPT);
    for stamp in stamps.into_iter().take(surplus) {
        for part in ["", "-wal", "-shm"] {
            // Gone already is as good.
            let _ = std::fs::remove_file(dir.join(format!("{prefix}{stamp}{part}")));
        }
    }
}
