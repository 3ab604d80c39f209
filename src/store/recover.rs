//! Reads what the process before left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row};
use serde_json::Value;

use super::{
    DoneRecheck, DueRecheck, EndedRound, OpenRound, Recovered, StoredPoint, StoredTrack, packed,
    schema,
};
use crate::catalogue;
use crate::gate::{LoadWindow, Standing};
use crate::journey::Stage;
use crate::time::{Mono, Now, Wall};

/// The newest points that are read back. More would take longer than a start may, and no gate
/// looks at more of one track.
const POINTS: usize = 400_000;
/// The newest ended rounds that are read back, as many as a journey's record holds.
const ENDED: i64 = 10_000;
/// The newest notifications that are read back, as many as the inbox holds.
const NOTIFICATIONS: i64 = 4_096;

/// What identifies this boot; empty where the kernel does not say, which equals no boot.
pub(super) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Turns stored instants into today's.
struct Clock {
    now: Now,
    boot: Option<i64>,
}

impl Clock {
    /// Of this boot the monotonic instant holds; of an earlier one the wall clock is all there is.
    fn at(&self, wall: i64, mono: i64, boot: i64) -> Now {
        let wall = Wall(wall);
        let mono = if Some(boot) == self.boot { Mono(mono) } else { self.now.mono_of(wall) };
        Now { mono, wall }
    }
}

pub(super) fn read(db: &Connection, age: Duration, now: Now) -> rusqlite::Result<Recovered> {
    let name = boot();
    let id = db
        .query_row("SELECT id FROM boot WHERE name = ?1 AND name <> ''", [&name], |row| row.get(0))
        .map(Some)
        .or_else(none)?;
    let clock = Clock { now, boot: id };
    let since = now.mono.minus(age);
    let rounds = open_rounds(db, &clock)?;
    Ok(Recovered {
        points: points(db, &clock, since)?,
        standings: standings(db, &clock)?,
        ended: ended_rounds(db, &clock, since)?,
        due: due(db, &clock)?,
        rechecked: rechecked(db, &clock, since)?,
        load: load(db, &clock)?,
        notifications: match rounds.iter().map(|round| round.began.mono).min() {
            None => Vec::new(),
            Some(oldest) => notifications(db, &clock, oldest)?,
        },
        report: db
            .query_row("SELECT json FROM report ORDER BY id DESC LIMIT 1", [], |row| json(row, 0))
            .or_else(none)?,
        marks: rows(db, "SELECT key, value FROM mark", [], |row| Ok((row.get(0)?, row.get(1)?)))?
            .into_iter()
            .collect(),
        rounds,
        aside: None,
    })
}

fn none<T>(error: rusqlite::Error) -> rusqlite::Result<Option<T>> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(None),
        error => Err(error),
    }
}

fn rows<T, P: rusqlite::Params>(
    db: &Connection,
    sql: &str,
    params: P,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare(sql)?.query_map(params, read)?.collect()
}

/// None where the text is no JSON: a value that another version wrote.
fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Value>> {
    Ok(serde_json::from_str(&row.get::<_, String>(column)?).ok())
}

fn points(db: &Connection, clock: &Clock, since: Mono) -> rusqlite::Result<Vec<StoredPoint>> {
    if schema::version(db)? < schema::WITH_INSTANTS {
        return Ok(Vec::new());
    }
    let mut tracks: HashMap<i64, Arc<StoredTrack>> = HashMap::new();
    let sql = "SELECT id, series, chk, target, labels FROM track";
    for (id, name, check, target, labels) in rows(db, sql, [], |row| {
        let name: String = row.get(1)?;
        let labels: String = row.get(4)?;
        Ok((row.get(0)?, name, row.get::<_, String>(2)?, row.get::<_, String>(3)?, labels))
    })? {
        // What the catalogue no longer has, nobody can judge.
        let known = |metric: &&catalogue::Metric| {
            metric.series == Some(name.as_str()) || metric.name == name
        };
        let Some(metric) = catalogue::all().find(known) else { continue };
        let Ok(labels) = serde_json::from_str::<Vec<String>>(&labels) else { continue };
        let series = metric.series.unwrap_or(metric.name);
        let labels = labels.into_iter().map(Arc::from).collect();
        let (check, target) = (check.into(), target.into());
        tracks.insert(id, Arc::new(StoredTrack { series, check, target, labels }));
    }
    let mut instants = Vec::new();
    let mut count = 0;
    let mut statement =
        db.prepare("SELECT wall, mono, boot, points FROM instant ORDER BY id DESC")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()?.filter(|_| count < POINTS) {
        let at = clock.at(row.get(0)?, row.get(1)?, row.get(2)?).mono;
        // Too old; or the clock stood wrong when it was written, or stands wrong now.
        if at < since || at > clock.now.mono {
            continue;
        }
        let points = packed::points(row.get_ref(3)?.as_blob()?).filter_map(|(track, value)| {
            let track = Arc::clone(tracks.get(&track)?);
            Some(StoredPoint { track, at, value })
        });
        let points: Vec<StoredPoint> = points.collect();
        count += points.len();
        instants.push(points);
    }
    let mut points: Vec<StoredPoint> = instants.into_iter().rev().flatten().collect();
    points.sort_by_key(|point| point.at);
    Ok(points)
}

fn open_rounds(db: &Connection, clock: &Clock) -> rusqlite::Result<Vec<OpenRound>> {
    let sql = "SELECT run, journey, wall, mono, boot, first_seq, count, progress FROM round \
               WHERE ended_wall IS NULL ORDER BY wall";
    rows(db, sql, [], |row| {
        Ok(OpenRound {
            run: row.get::<_, String>(0)?.into(),
            journey: row.get::<_, String>(1)?.into(),
            began: clock.at(row.get(2)?, row.get(3)?, row.get(4)?),
            first_seq: unsigned(row.get(5)?),
            count: unsigned(row.get(6)?),
            progress: json(row, 7)?.unwrap_or(Value::Null),
        })
    })
}

fn ended_rounds(db: &Connection, clock: &Clock, since: Mono) -> rusqlite::Result<Vec<EndedRound>> {
    let sql = "SELECT run, journey, ended_wall, ended_mono, ended_boot, tally, progress FROM round \
               WHERE ended_wall IS NOT NULL ORDER BY ended_wall DESC LIMIT ?1";
    let mut ended = rows(db, sql, [ENDED], |row| {
        Ok(EndedRound {
            run: row.get::<_, String>(0)?.into(),
            journey: row.get::<_, String>(1)?.into(),
            at: clock.at(row.get(2)?, row.get(3)?, row.get(4)?),
            tally: json(row, 5)?.unwrap_or(Value::Null),
            progress: row
                .get::<_, Option<String>>(6)?
                .and_then(|text| serde_json::from_str(&text).ok()),
        })
    })?;
    ended.retain(|round| round.at.mono >= since || round.progress.is_some());
    ended.sort_by_key(|round| round.at.mono);
    Ok(ended)
}

/// The stage and the span that a look back is of; of another version's, None.
fn look_back(row: &Row<'_>) -> rusqlite::Result<Option<(Stage, Duration)>> {
    let stage = Stage::parse(&row.get::<_, String>(2)?);
    let after = u64::try_from(row.get::<_, i64>(3)?).ok().map(Duration::from_nanos);
    Ok(stage.zip(after))
}

fn due(db: &Connection, clock: &Clock) -> rusqlite::Result<Vec<DueRecheck>> {
    if !has_table(db, "recheck")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT run, journey, stage, after, began_wall, began_mono, due_wall, due_mono, boot, \
                      expected \
               FROM recheck WHERE expected IS NOT NULL ORDER BY due_wall";
    let found = rows(db, sql, [], |row| {
        let Some((stage, after)) = look_back(row)? else { return Ok(None) };
        Ok(Some(DueRecheck {
            run: row.get::<_, String>(0)?.into(),
            journey: row.get::<_, String>(1)?.into(),
            stage,
            after,
            began: clock.at(row.get(4)?, row.get(5)?, row.get(8)?),
            due: clock.at(row.get(6)?, row.get(7)?, row.get(8)?),
            expected: json(row, 9)?.unwrap_or(Value::Null),
        }))
    })?;
    Ok(found.into_iter().flatten().collect())
}

fn rechecked(db: &Connection, clock: &Clock, since: Mono) -> rusqlite::Result<Vec<DoneRecheck>> {
    if !has_table(db, "recheck")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT run, journey, stage, after, done_wall, done_mono, done_boot, result \
               FROM recheck WHERE expected IS NULL ORDER BY done_wall DESC LIMIT ?1";
    let found = rows(db, sql, [ENDED], |row| {
        let Some((stage, after)) = look_back(row)? else { return Ok(None) };
        Ok(Some(DoneRecheck {
            run: row.get::<_, String>(0)?.into(),
            journey: row.get::<_, String>(1)?.into(),
            stage,
            after,
            at: clock.at(row.get(4)?, row.get(5)?, row.get(6)?),
            result: json(row, 7)?.unwrap_or(Value::Null),
        }))
    })?;
    let mut found: Vec<DoneRecheck> = found.into_iter().flatten().collect();
    found.retain(|done| done.at.mono >= since);
    found.sort_by_key(|done| done.at.mono);
    Ok(found)
}

fn has_table(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(db.query_row(sql, [name], |row| row.get::<_, i64>(0))? > 0)
}

/// Of a state directory that only an older version wrote and nobody may change, there are none.
fn load(db: &Connection, clock: &Clock) -> rusqlite::Result<Vec<LoadWindow>> {
    if !has_table(db, "load")? {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT start_wall, start_mono, end_wall, end_mono, boot, source FROM load ORDER BY id";
    rows(db, sql, [], |row| {
        Ok(LoadWindow {
            start: clock.at(row.get(0)?, row.get(1)?, row.get(4)?),
            end: clock.at(row.get(2)?, row.get(3)?, row.get(4)?),
            source: row.get(5)?,
        })
    })
}

/// Columns that came later; of a database of before that can't be written now, what stands for them.
fn later<'a>(db: &Connection, columns: &'a str, before: &'a str) -> rusqlite::Result<&'a str> {
    Ok(if schema::version(db)? < schema::WITH_BOOTS { before } else { columns })
}

fn standings(db: &Connection, clock: &Clock) -> rusqlite::Result<BTreeMap<String, Standing>> {
    let sql = format!("SELECT gate, json, {} FROM standing", later(db, "boot", "0")?);
    let found = rows(db, &sql, [], |row| {
        let standing = serde_json::from_str::<Standing>(&row.get::<_, String>(1)?).ok();
        Ok((row.get::<_, String>(0)?, standing, row.get::<_, i64>(2)?))
    })?;
    let found = found.into_iter().filter_map(|(gate, standing, boot)| {
        let mut standing = standing?;
        for held in standing.parts.values_mut().filter_map(|part| part.held.as_mut()) {
            held.mono = clock.at(held.wall, held.mono, boot).mono.0;
        }
        Some((gate, standing))
    });
    Ok(found.collect())
}

fn notifications(
    db: &Connection,
    clock: &Clock,
    since: Mono,
) -> rusqlite::Result<Vec<(Now, Value)>> {
    let places = later(db, "mono, boot", "0, 0")?;
    let sql = format!("SELECT json, wall, {places} FROM notification ORDER BY id DESC LIMIT ?1");
    let found = rows(db, &sql, [NOTIFICATIONS], |row| {
        let at = clock.at(row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(json(row, 0)?.map(|json| (at, json)))
    })?;
    Ok(found.into_iter().rev().flatten().filter(|(at, _)| at.mono >= since).collect())
}

/// SQLite's integers are signed; sequence numbers keep their bits.
pub(super) fn unsigned(number: i64) -> u64 {
    number.cast_unsigned()
}
