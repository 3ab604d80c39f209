//! The statements that write and delete.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use super::pending::Pending;
use super::{LOAD_WINDOWS, RoundRecord, StoredPoint, StoredTrack, packed, recover};
use crate::gate::LoadWindow;
use crate::time::{Now, Wall};

/// Points of one instant are in one row up to so many bytes, and then in another.
const ROW_LIMIT: usize = 64 << 10;
/// Instants deleted at once: a few milliseconds' work.
const INSTANTS_A_DELETION: i64 = 1_000;
/// Reports and verdict changes that are kept.
const REPORTS_KEPT: i64 = 200;
/// Where room is short, reports have a quarter of it: what gates are judged by stays.
const REPORTS_SHARE: u64 = 4;
const CHANGES_KEPT: i64 = 20_000;
/// Tracks whose ids are remembered.
const TRACKS_LIMIT: usize = 20_000;
/// Pages given back to the file system at once.
const PAGES_A_VACUUM: u32 = 4_096;

pub(super) fn begin(
    boot: i64,
    transaction: &Transaction<'_>,
    round: &RoundRecord,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO round (run, journey, wall, mono, boot, first_seq, count, progress) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            &*round.run,
            &*round.journey,
            round.began.wall.0,
            round.began.mono.0,
            boot,
            round.first_seq.cast_signed(),
            round.count.cast_signed(),
            round.progress.to_string(),
        ])
        .map(drop)
}

pub(super) fn notification(
    boot: i64,
    transaction: &Transaction<'_>,
    at: Now,
    notification: &Value,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO notification (wall, mono, boot, json) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![at.wall.0, at.mono.0, boot, notification.to_string()])
        .map(drop)
}

/// A declared load window, once; the newest are kept.
pub(super) fn load(
    boot: i64,
    transaction: &Transaction<'_>,
    window: &LoadWindow,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO load \
                (start_wall, start_mono, end_wall, end_mono, boot, source) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            window.start.wall.0,
            window.start.mono.0,
            window.end.wall.0,
            window.end.mono.0,
            boot,
            window.source,
        ])?;
    let kept = i64::try_from(LOAD_WINDOWS).unwrap_or(i64::MAX);
    transaction
        .execute("DELETE FROM load WHERE id <= (SELECT max(id) FROM load) - ?1", [kept])
        .map(drop)
}

/// Everything but the points.
pub(super) fn rest(
    boot: i64,
    transaction: &Transaction<'_>,
    batch: &Pending,
) -> rusqlite::Result<()> {
    for (gate, standing) in &batch.standings {
        let json = serde_json::to_string(standing).unwrap_or_default();
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO standing (gate, json, boot) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![gate, json, boot])?;
    }
    for change in &batch.changes {
        transaction
            .prepare_cached(
                "INSERT INTO verdict (gate, was, became, wall, text) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![change.gate, change.from, change.to, change.at.0, change.text])?;
    }
    for (gate, at, text) in &batch.mended {
        transaction
            .prepare_cached("UPDATE verdict SET text = ?3 WHERE gate = ?1 AND wall = ?2")?
            .execute(params![gate, at.0, text])?;
    }
    for (run, progress) in &batch.progress {
        transaction
            .prepare_cached("UPDATE round SET progress = ?2 WHERE run = ?1 AND ended_wall IS NULL")?
            .execute(params![&**run, progress.to_string()])?;
    }
    for ended in batch.ended.values() {
        // A round that began while the disk was away is stored whole with its end. The first end
        // is when it was decided; a later one only mends the tally.
        transaction
            .prepare_cached(
                "INSERT INTO round (run, journey, wall, mono, boot, first_seq, count, \
                                    ended_wall, ended_mono, ended_boot, tally, progress) \
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (run) DO UPDATE SET progress = ?7, tally = ?6, \
                    ended_mono = coalesce(ended_mono, ?4), ended_boot = coalesce(ended_boot, ?5), \
                    ended_wall = coalesce(ended_wall, ?3)",
            )?
            .execute(params![
                &*ended.run,
                &*ended.journey,
                ended.at.wall.0,
                ended.at.mono.0,
                boot,
                ended.tally.to_string(),
                ended.progress.as_ref().map(Value::to_string),
            ])?;
    }
    for due in &batch.due {
        // A round that was walked to its end twice, since its end was not yet stored, is due once.
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO recheck (run, stage, after, journey, began_wall, began_mono, \
                                                due_wall, due_mono, boot, expected) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                &*due.run,
                due.stage.word(),
                nanos(due.after),
                &*due.journey,
                due.began.wall.0,
                due.began.mono.0,
                due.due.wall.0,
                due.due.mono.0,
                boot,
                due.expected.to_string(),
            ])?;
    }
    for done in &batch.rechecked {
        transaction
            .prepare_cached(
                "UPDATE recheck SET expected = NULL, done_wall = ?4, done_mono = ?5, \
                                    done_boot = ?6, result = ?7 \
                 WHERE run = ?1 AND stage = ?2 AND after = ?3",
            )?
            .execute(params![
                &*done.run,
                done.stage.word(),
                nanos(done.after),
                done.at.wall.0,
                done.at.mono.0,
                boot,
                done.result.to_string(),
            ])?;
    }
    for (wall, digest, json) in &batch.reports {
        transaction
            .prepare_cached("INSERT INTO report (wall, digest, json) VALUES (?1, ?2, ?3)")?
            .execute(params![wall.0, digest, json])?;
    }
    for (key, value) in &batch.marks {
        mark(transaction, key, value)?;
    }
    Ok(())
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn mark(transaction: &Transaction<'_>, key: &str, value: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO mark (key, value) VALUES (?1, ?2)")?
        .execute(params![key, value])
        .map(drop)
}

/// The ids of tracks that were written.
#[derive(Default)]
pub(super) struct Tracks {
    ids: HashMap<Arc<StoredTrack>, i64>,
    /// Those of the row before, in its order: the next second has the same.
    row: Vec<(Arc<StoredTrack>, i64)>,
}

impl Tracks {
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.row.clear();
    }

    /// The id of a row's track at its place.
    fn id(
        &mut self,
        place: usize,
        transaction: &Transaction<'_>,
        track: &Arc<StoredTrack>,
    ) -> rusqlite::Result<i64> {
        if let Some((_, id)) = self.row.get(place).filter(|(known, _)| Arc::ptr_eq(known, track)) {
            return Ok(*id);
        }
        let id = track_id(&mut self.ids, transaction, track)?;
        let known = (Arc::clone(track), id);
        match self.row.get_mut(place) {
            Some(before) => *before = known,
            None => self.row.push(known),
        }
        Ok(id)
    }
}

/// Writes points, those of one instant in one row: a second of the node is one.
pub(super) fn put_points<'a>(
    boot: i64,
    tracks: &mut Tracks,
    transaction: &Transaction<'_>,
    points: impl Iterator<Item = &'a (Wall, StoredPoint)>,
) -> rusqlite::Result<()> {
    let mut points = points.peekable();
    let mut bytes = Vec::new();
    let mut place = 0;
    while let Some((wall, point)) = points.next() {
        let id = tracks.id(place, transaction, &point.track)?;
        place += 1;
        packed::put(&mut bytes, id, point.value);
        let same = |next: &&(Wall, StoredPoint)| (next.0, next.1.at) == (*wall, point.at);
        if bytes.len() < ROW_LIMIT && points.peek().is_some_and(same) {
            continue;
        }
        transaction
            .prepare_cached(
                "INSERT INTO instant (wall, mono, boot, points) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![wall.0, point.at.0, boot, bytes])?;
        bytes.clear();
        place = 0;
    }
    Ok(())
}

fn track_id(
    tracks: &mut HashMap<Arc<StoredTrack>, i64>,
    transaction: &Transaction<'_>,
    track: &Arc<StoredTrack>,
) -> rusqlite::Result<i64> {
    if let Some(id) = tracks.get(track) {
        return Ok(*id);
    }
    let labels: Vec<&str> = track.labels.iter().map(|label| &**label).collect();
    let labels = serde_json::to_string(&labels).unwrap_or_default();
    let names = params![track.series, &*track.check, &*track.target, labels];
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO track (series, chk, target, labels) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(names)?;
    let id = transaction
        .prepare_cached(
            "SELECT id FROM track WHERE series = ?1 AND chk = ?2 AND target = ?3 AND labels = ?4",
        )?
        .query_row(names, |row| row.get(0))?;
    if tracks.len() >= TRACKS_LIMIT {
        tracks.clear();
    }
    tracks.insert(Arc::clone(track), id);
    Ok(id)
}

/// What came before an instant: of this boot by the monotonic clock, since the wall clock may have
/// been set; of an earlier one the wall clock is all there is.
pub(super) struct Before {
    boot: i64,
    at: Now,
}

impl Before {
    pub(super) fn of(boot: i64, now: Now, age: Duration) -> Self {
        Self { boot, at: Now { mono: now.mono.minus(age), wall: now.wall.minus(age) } }
    }

    /// The parameters ?1, ?2 and ?3 of the conditions below.
    fn params(&self) -> [i64; 3] {
        [self.boot, self.at.mono.0, self.at.wall.0]
    }
}

/// Deletes what is `old`, but no round of which a look back may still find more; notifications that
/// were `received` before that, but none that came since an open round began.
pub(super) fn delete_old(db: &Connection, old: &Before, received: &Before) -> rusqlite::Result<()> {
    while delete_old_points(db, old)? {}
    let sql = "DELETE FROM round \
               WHERE CASE WHEN ended_boot = ?1 THEN ended_mono < ?2 ELSE ended_wall < ?3 END \
                 AND (progress IS NULL OR NOT EXISTS \
                     (SELECT 1 FROM recheck WHERE run = round.run AND expected IS NOT NULL))";
    db.execute(sql, old.params())?;
    let sql = "DELETE FROM recheck \
               WHERE CASE WHEN done_boot = ?1 THEN done_mono < ?2 ELSE done_wall < ?3 END";
    db.execute(sql, old.params())?;
    let sql = "DELETE FROM notification \
               WHERE CASE WHEN boot = ?1 THEN mono < ?2 ELSE wall < ?3 END AND NOT EXISTS \
                   (SELECT 1 FROM round WHERE ended_wall IS NULL AND \
                    CASE WHEN round.boot = notification.boot THEN round.mono <= notification.mono \
                         ELSE round.wall <= notification.wall END)";
    db.execute(sql, received.params())?;
    for (table, kept) in [("report", REPORTS_KEPT), ("verdict", CHANGES_KEPT)] {
        let sql = format!("DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?1");
        db.execute(&sql, [kept])?;
    }
    Ok(())
}

/// Deletes the oldest reports as far as they take more than their share, then the oldest points,
/// then the oldest tallies, then reports, changes and notifications, until the database is no larger
/// than this. Never an open round, a look back that is due or a standing.
pub(super) fn keep_to(db: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let reports = format!(
        "DELETE FROM report WHERE id < (SELECT max(id) FROM report) AND id IN (SELECT id FROM \
         (SELECT id, sum(octet_length(json)) OVER (ORDER BY id DESC) AS size FROM report) \
         WHERE size > {})",
        bytes / REPORTS_SHARE
    );
    let points = format!(
        "DELETE FROM instant WHERE id < (SELECT min(id) FROM instant) + {INSTANTS_A_DELETION}"
    );
    let in_this_order = [
        reports.as_str(),
        points.as_str(),
        "DELETE FROM round WHERE run IN (SELECT run FROM round WHERE ended_wall IS NOT NULL \
         ORDER BY ended_wall LIMIT 100)",
        "DELETE FROM recheck WHERE expected IS NULL",
        "DELETE FROM report WHERE id < (SELECT max(id) FROM report)",
        "DELETE FROM verdict",
        "DELETE FROM notification",
    ];
    let mut deleted = false;
    while used(db)? > bytes {
        let mut some = false;
        for statement in in_this_order {
            if db.execute(statement, [])? > 0 {
                some = true;
                break;
            }
        }
        if !some {
            break;
        }
        deleted = true;
    }
    if deleted { give_back(db) } else { Ok(()) }
}

/// Deletes tracks that have no point left. The ids of tracks that are remembered are wrong then.
pub(super) fn delete_unused_tracks(db: &Connection) -> rusqlite::Result<()> {
    let mut used = HashSet::new();
    let mut statement = db.prepare("SELECT points FROM instant")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        used.extend(packed::points(row.get_ref(0)?.as_blob()?).map(|(track, _)| track));
    }
    let mut statement = db.prepare("SELECT id FROM track")?;
    let all = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    for unused in all.iter().filter(|track| !used.contains(*track)) {
        db.execute("DELETE FROM track WHERE id = ?1", [unused])?;
    }
    Ok(())
}

/// Deletes the oldest points as far as they are too old; whether there may be more. Points lie in
/// the order in which they were made, so no index is needed to find the old ones.
fn delete_old_points(db: &Connection, old: &Before) -> rusqlite::Result<bool> {
    let [boot, mono, wall] = old.params();
    let deleted = db.execute(
        "DELETE FROM instant WHERE id IN \
         (SELECT id FROM (SELECT id, boot, mono, wall FROM instant ORDER BY id LIMIT ?4) \
          WHERE CASE WHEN boot = ?1 THEN mono < ?2 ELSE wall < ?3 END)",
        params![boot, mono, wall, INSTANTS_A_DELETION],
    )?;
    Ok(i64::try_from(deleted) == Ok(INSTANTS_A_DELETION))
}

/// The digests of the pictures that rounds and reports name.
pub(super) fn exhibits(db: &Connection) -> rusqlite::Result<HashSet<String>> {
    const KEY: &str = "\"sha256\":\"";
    /// Of SHA-256 in hexadecimal digits.
    const DIGITS: usize = 64;
    let mut named = HashSet::new();
    for sql in [
        "SELECT tally FROM round WHERE instr(tally, '\"sha256\"')",
        "SELECT progress FROM round WHERE instr(progress, '\"sha256\"')",
        "SELECT json FROM report WHERE instr(json, '\"sha256\"')",
    ] {
        let mut statement = db.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text = row.get_ref(0)?.as_str()?;
            let digest = |(at, key): (usize, &str)| text.get(at + key.len()..)?.get(..DIGITS);
            named.extend(text.match_indices(KEY).filter_map(digest).map(str::to_owned));
        }
    }
    Ok(named)
}

/// Bytes of the pages that hold something.
fn used(db: &Connection) -> rusqlite::Result<u64> {
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
    Ok(recover::unsigned(pages.max(0))
        .saturating_mul(recover::unsigned(number("page_size")?.max(0))))
}

/// Gives free pages back to the file system and cuts the log back.
pub(super) fn give_back(db: &Connection) -> rusqlite::Result<()> {
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES_A_VACUUM})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    // A reader may hold it back; then the next time does it.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
