use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::gate::{Held, Part};

/// 2023-11-14 on both clocks: an hour after the start of the machine at the earliest.
fn now() -> Now {
    Now { mono: Mono::now(), wall: Wall::from_secs(1_700_000_000) }
}

fn later(now: Now, seconds: u64) -> Now {
    let span = Duration::from_secs(seconds);
    Now { mono: now.mono.plus(span), wall: now.wall.plus(span) }
}

fn limits() -> Limits {
    Limits { flush: Duration::from_millis(20), ..Limits::default() }
}

fn point(at: Mono, value: series::Value) -> StoredPoint {
    StoredPoint {
        track: Arc::new(StoredTrack {
            series: "icmp.rtt",
            check: "core".into(),
            target: "lake-1".into(),
            labels: vec!["a".into(), "ü\"".into()],
        }),
        at,
        value,
    }
}

fn round(run: &str, began: Now) -> RoundRecord {
    RoundRecord {
        run: run.into(),
        journey: "ssh".into(),
        began,
        first_seq: u64::MAX - 5,
        count: 5,
        progress: json!({"step": 0}),
    }
}

fn open(dir: &Path, now: Now) -> (Store, Recovered) {
    Store::open(dir, limits(), now).expect("opens")
}

/// Looks at the database past the store.
fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join(schema::FILE)).expect("a database")
}

fn count(dir: &Path, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    raw(dir).query_row(&sql, [], |row| row.get(0)).expect("a count")
}

#[tokio::test]
async fn what_was_stored_is_recovered() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (store, empty) = open(dir.path(), now);
    assert_eq!(empty, Recovered::default());
    assert_eq!(store.state(), Ok(()));

    let values = [
        series::Value::Number(0.004),
        series::Value::Nothing,
        series::Value::Failed,
        series::Value::Inconclusive,
    ];
    let points: Vec<StoredPoint> = values
        .into_iter()
        .map(|value| point(now.mono.minus(Duration::from_secs(9)), value))
        .collect();
    store.points(points.clone(), now);
    let part = Part { failing: true, held: None };
    let standing = Standing { of: "x".to_owned(), parts: [("x".to_owned(), part)].into() };
    store.standing("net.core", &Standing::default());
    store.standing("net.core", &standing);
    for run in ["open", "ended", "mended"] {
        store.begin_round(round(run, now)).await.expect("begins");
    }
    store.round_progress(&"open".into(), json!({"step": 1}));
    store.round_progress(&"open".into(), json!({"step": 2}));
    let journey: Arc<str> = "ssh".into();
    store.end_round(&"ended".into(), &journey, later(now, 1), json!({"ok": 5}), None);
    store.end_round(
        &"mended".into(),
        &journey,
        later(now, 2),
        json!({"ok": 4}),
        Some(json!({"walk": 1})),
    );
    store.flush().await.expect("flushes");
    store.end_round(&"mended".into(), &journey, later(now, 9), json!({"ok": 5}), None);
    store.verdict_change(VerdictChange {
        gate: "net.core".into(),
        from: Some("open"),
        to: "fail",
        at: now.wall,
        text: "slow".into(),
    });
    store.mark("drill", "1");
    store.mark("drill", "2");
    store.close().await.expect("closes");
    drop(store);

    let (_store, found) = open(dir.path(), later(now, 10));
    assert_eq!(found.points, points);
    assert_eq!(found.standings, [("net.core".to_owned(), standing)].into());
    assert_eq!(found.rounds, [RoundRecord { progress: json!({"step": 2}), ..round("open", now) }]);
    let ended = |run: &str, seconds| EndedRound {
        run: run.into(),
        journey: journey.clone(),
        at: later(now, seconds),
        tally: json!({"ok": 5}),
        progress: None,
    };
    assert_eq!(found.ended, [ended("ended", 1), ended("mended", 2)]);
    assert_eq!(found.marks, [("drill".to_owned(), "2".to_owned())].into());
    let changes = Store::read_only(dir.path()).expect("reads").verdict_changes(10).expect("reads");
    assert_eq!(changes[0]["gate"], "net.core");
    assert_eq!(changes[0]["to"], "fail");
}

#[tokio::test]
async fn after_another_boot_the_wall_clock_places_points() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = now();
    let (store, _) = open(dir.path(), before);
    store.points([point(before.mono, series::Value::Number(1.0))], before);
    store.begin_round(round("r", before)).await.expect("begins");
    store.close().await.expect("closes");
    drop(store);
    raw(dir.path()).execute("UPDATE boot SET name = 'another'", []).expect("updates");
    // Booted 20 s ago, and 60 s have passed.
    let after = Now { mono: Mono::from_secs(20), wall: before.wall.plus(Duration::from_secs(60)) };
    let (_store, found) = open(dir.path(), after);
    assert_eq!(found.points[0].at, Mono::from_secs(-40));
    assert_eq!(found.rounds[0].began, Now { mono: Mono::from_secs(-40), wall: before.wall });
}

#[tokio::test]
async fn what_is_buffered_is_written_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (store, _) = open(dir.path(), now);
    store.points([point(now.mono, series::Value::Number(1.0))], now);
    let until = Mono::now().plus(Duration::from_secs(5));
    while count(dir.path(), "instant") == 0 {
        assert!(Mono::now() < until, "nothing was written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_store_in_memory_keeps_nothing_and_refuses_nothing() {
    let (store, recovered) = Store::memory();
    assert_eq!(recovered, Recovered::default());
    store.begin_round(round("r", now())).await.expect("begins");
    store.points([point(Mono(0), series::Value::Failed)], now());
    store.close().await.expect("closes");
    assert_eq!(store.state(), Ok(()));
    assert!(!store.status().borrow().up);
}

fn due(run: &str, after: u64, at: Now) -> DueRecheck {
    DueRecheck {
        run: run.into(),
        journey: "ssh".into(),
        stage: Stage::Stored,
        after: Duration::from_secs(after),
        began: at,
        due: later(at, after),
        expected: json!({"seen": [7]}),
    }
}

#[tokio::test]
async fn what_is_to_be_asked_again_survives_until_it_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (store, _) = open(dir.path(), now);
    // In the order in which they come, not in that in which they are due; one twice.
    for recheck in [due("a", 86_400, now), due("a", 3_600, now), due("a", 3_600, now)] {
        store.recheck_due(recheck, now);
    }
    store.close().await.expect("closes");
    drop(store);
    // Days later it is still due, though points and tallies of then are gone.
    let days = later(now, 10 * 86_400);
    let (store, found) = open(dir.path(), days);
    assert_eq!(found.due, [due("a", 3_600, now), due("a", 86_400, now)]);
    assert_eq!(found.rechecked, []);
    let done = DoneRecheck {
        run: "a".into(),
        journey: "ssh".into(),
        stage: Stage::Stored,
        after: Duration::from_secs(3_600),
        at: days,
        result: json!({"kept": 3}),
    };
    store.recheck_done(done.clone());
    store.close().await.expect("closes");
    drop(store);
    let (_store, found) = open(dir.path(), days);
    assert_eq!((found.due, found.rechecked), (vec![due("a", 86_400, now)], vec![done]));
}

#[tokio::test]
async fn after_another_boot_what_is_due_is_placed_by_the_wall_clock() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (store, _) = open(dir.path(), now);
    store.recheck_due(due("a", 3_600, now), now);
    store.close().await.expect("closes");
    drop(store);
    raw(dir.path()).execute("UPDATE boot SET name = 'another'", []).expect("set");
    let booted = Now { mono: Mono::from_secs(5), wall: later(now, 600).wall };
    let (_store, found) = open(dir.path(), booted);
    assert_eq!(found.due[0].due.mono.since(booted.mono), Duration::from_secs(3_000));
}

#[tokio::test]
async fn old_points_and_tallies_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (store, _) = open(dir.path(), now);
    store.points((0..100).map(|n| point(now.mono, series::Value::Number(f64::from(n)))), now);
    store.begin_round(round("open", now)).await.expect("begins");
    store.begin_round(round("ended", now)).await.expect("begins");
    // Of one nothing is due, of another it is, but it lacks nothing.
    for (run, progress) in [("ended", None), ("done", Some(1)), ("waits", Some(2)), ("whole", None)]
    {
        store.end_round(&run.into(), &"ssh".into(), now, json!({}), progress.map(|n| json!(n)));
    }
    store.recheck_due(due("whole", 60, now), now);
    store.recheck_due(due("done", 60, now), now);
    store.recheck_due(due("waits", 60, now), now);
    store.recheck_done(DoneRecheck {
        run: "done".into(),
        journey: "ssh".into(),
        stage: Stage::Stored,
        after: Duration::from_secs(60),
        at: now,
        result: json!({}),
    });
    store.standing("g", &Standing::default());
    store.close().await.expect("closes");
    drop(store);
    assert_eq!(count(dir.path(), "instant"), 1, "points of one instant are one row");

    // Two days on, after a reboot: within one it is the monotonic clock that says how old they are.
    raw(dir.path()).execute("UPDATE boot SET name = 'another'", []).expect("updates");
    let two_days_on = Now { mono: Mono::now(), wall: later(now, 49 * 3600).wall };
    let (store, found) = open(dir.path(), two_days_on);
    assert_eq!((found.points.len(), found.rounds.len()), (0, 1));
    assert!(found.ended.iter().any(|round| &*round.run == "waits"), "it can still be mended");
    let until = Mono::now().plus(Duration::from_secs(5));
    while count(dir.path(), "instant") > 0 {
        assert!(Mono::now() < until, "nothing was deleted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.close().await.expect("closes");
    assert_eq!(count(dir.path(), "round"), 2, "the open one, and the one that may be mended");
    assert_eq!(count(dir.path(), "recheck"), 2, "what is still due stays");
    assert_eq!(count(dir.path(), "standing"), 1);
}

#[tokio::test]
async fn notifications_of_open_rounds_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let began = now();
    let (store, _) = open(dir.path(), began);
    for (seconds, name) in [(0, "before"), (20, "after"), (30, "last")] {
        store.put_notification(later(began, seconds), json!({"n": name})).await.expect("stored");
        if name == "before" {
            store.begin_round(round("r", later(began, 10))).await.expect("begins");
        }
    }
    store.close().await.expect("closes");
    drop(store);
    let (store, found) = open(dir.path(), later(began, 60));
    let after = |seconds, name| (later(began, seconds), json!({"n": name}));
    assert_eq!(found.notifications, [after(20, "after"), after(30, "last")]);
    store.close().await.expect("closes");
    let db = raw(dir.path());
    // A clock that is set a year on makes nothing of this boot older.
    let year = Duration::from_secs(365 * 86_400);
    let before = |seconds, set| {
        let at = later(began, seconds);
        tables::Before::of(1, Now { wall: at.wall.plus(set), ..at }, Duration::ZERO)
    };
    tables::delete_old(&db, &before(0, year), &before(25, year)).expect("deletes");
    assert_eq!(count(dir.path(), "notification"), 2, "only what came before the open round goes");
    db.execute(
        "UPDATE round SET ended_wall = wall, ended_mono = ?1, ended_boot = 1",
        [later(began, 40).mono.0],
    )
    .expect("ended");
    tables::delete_old(&db, &before(0, year), &before(25, year)).expect("deletes");
    assert_eq!((count(dir.path(), "notification"), count(dir.path(), "round")), (1, 1));
    // Of an earlier boot the wall clock is all there is.
    db.execute_batch("UPDATE notification SET boot = 7").expect("updates");
    tables::delete_old(&db, &before(0, year), &before(25, Duration::ZERO)).expect("deletes");
    assert_eq!(count(dir.path(), "notification"), 1);
    tables::delete_old(&db, &before(0, year), &before(25, year)).expect("deletes");
    assert_eq!(count(dir.path(), "notification"), 0);
}

/// A start after the wall clock was set, in the same boot: everything is as old as it is.
#[tokio::test]
async fn a_clock_that_is_set_between_two_runs_moves_nothing() {
    for days in [3, -3] {
        let dir = tempfile::tempdir().expect("a directory");
        let before = now();
        let (store, _) = open(dir.path(), before);
        store.points([point(before.mono, series::Value::Number(1.0))], before);
        for run in ["open", "ended"] {
            store.begin_round(round(run, before)).await.expect("begins");
        }
        store.end_round(&"ended".into(), &"ssh".into(), before, json!({}), None);
        let held = Held { nanos: 60, mono: before.mono.0, wall: before.wall.0 };
        let part = Part { failing: false, held: Some(held) };
        let standing = Standing { parts: [("p".to_owned(), part)].into(), ..Standing::default() };
        store.standing("g", &standing);
        let day = 86_400_000_000_000_i64;
        let set = Now { wall: Wall(before.wall.0 + days * day), ..later(before, 5) };
        store.put_notification(set, json!({"n": 1})).await.expect("stored");
        store.close().await.expect("closes");
        drop(store);

        let (store, found) = open(dir.path(), set);
        assert_eq!(found.points.iter().map(|p| p.at).collect::<Vec<_>>(), [before.mono]);
        assert_eq!((found.rounds[0].began, found.ended[0].at), (before, before));
        assert_eq!(found.notifications, [(set, json!({"n": 1}))], "{days} days");
        assert_eq!(found.standings["g"], standing);
        store.close().await.expect("closes");
        drop(store);

        // After a reboot the time that something held goes on from where the wall clock says.
        raw(dir.path()).execute("UPDATE boot SET name = 'another'", []).expect("updates");
        let booted =
            Now { mono: Mono::from_secs(20), wall: before.wall.plus(Duration::from_secs(60)) };
        let (_store, found) = open(dir.path(), booted);
        let held = found.standings["g"].parts["p"].held.expect("held");
        assert_eq!((held.nanos, Mono(held.mono)), (60, Mono::from_secs(-40)));
    }
}

#[tokio::test]
async fn the_database_keeps_to_its_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let bytes = 4 << 20;
    let small = Limits { bytes, flush: Duration::from_secs(3600), ..Limits::default() };
    let (store, _) = Store::open(dir.path(), small, now).expect("opens");
    store.begin_round(round("open", now)).await.expect("begins");
    store.standing("g", &Standing::default());
    let mut most = 0;
    let mut written = 0_u32;
    for _ in 0..20 {
        for _ in 0..15_000 {
            written += 1;
            // Each of an instant of its own, or a row would hold many.
            let at = Mono(now.mono.0 - 300_000 + i64::from(written));
            store.points([point(at, series::Value::Number(f64::from(written)))], now);
        }
        store.flush().await.expect("flushes");
        most = most.max(store.status().borrow().bytes);
    }
    assert!(most <= bytes, "it took {most} bytes of {bytes}");
    assert!(most > bytes / 4, "it took {most} bytes only: the limit was never near");
    store.close().await.expect("closes");
    drop(store);
    let (_store, found) = Store::open(dir.path(), small, now).expect("opens");
    let newest = found.points.last().map(|point| point.value);
    assert_eq!(newest, Some(series::Value::Number(f64::from(written))));
    assert!(found.points.len() < 300_000);
    assert_eq!((found.rounds.len(), found.standings.len()), (1, 1));
}

#[test]
fn an_empty_database_of_version_0_is_migrated() {
    let dir = tempfile::tempdir().expect("a directory");
    raw(dir.path()).execute_batch("PRAGMA user_version = 0; VACUUM").expect("made");
    let (store, found) = open(dir.path(), now());
    assert_eq!(found, Recovered::default());
    drop(store);
    let version: i64 =
        raw(dir.path()).query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    assert_eq!(version, i64::try_from(schema::STEPS.len()).expect("few steps"));
}

#[test]
fn each_step_is_applied_once_and_keeps_what_was_there() {
    let mut db = Connection::open_in_memory().expect("a database");
    let one = "CREATE TABLE a (x INTEGER)";
    let two = "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7";
    schema::migrate(&mut db, &[one]).expect("migrates");
    db.execute("INSERT INTO a (x) VALUES (1)", []).expect("inserts");
    for _ in 0..2 {
        schema::migrate(&mut db, &[one, two]).expect("migrates");
        assert_eq!(schema::version(&db).expect("a version"), 2);
    }
    let sum: i64 = db.query_row("SELECT x + y FROM a", [], |row| row.get(0)).expect("a row");
    assert_eq!(sum, 8);
    // A step that fails leaves the version before it.
    let broken = schema::migrate(&mut db, &[one, two, "ALTER TABLE nobody ADD z"]);
    assert!(matches!(broken, Err(schema::Refusal::Sqlite(_))));
    assert_eq!(schema::version(&db).expect("a version"), 2);
    assert!(matches!(schema::migrate(&mut db, &[one]), Err(schema::Refusal::Newer(2))));
}

#[test]
fn a_newer_version_is_refused_with_the_way_back() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), now()));
    // The lane lets go of the lock when it has ended.
    std::thread::sleep(Duration::from_millis(200));
    raw(dir.path()).execute_batch("PRAGMA user_version = 99").expect("set");
    for error in
        [Store::open(dir.path(), limits(), now()).err(), Store::read_only(dir.path()).err()]
    {
        let text = error.expect("refused").to_string();
        assert!(text.contains("version 99"), "{text}");
        assert!(text.contains("run that greenlight, or move the file away"), "{text}");
    }
    assert_eq!(count(dir.path(), "instant"), 0);
}

#[tokio::test]
async fn a_corrupt_database_is_moved_aside() {
    let whole = tempfile::tempdir().expect("a directory");
    let (store, _) = open(whole.path(), now());
    for n in 0..5_000 {
        store.points([point(now().mono, series::Value::Number(f64::from(n)))], now());
    }
    store.close().await.expect("closes");
    drop(store);
    let good = std::fs::read(whole.path().join(schema::FILE)).expect("read");
    let mut torn = good.clone();
    for byte in torn.iter_mut().skip(8_192) {
        *byte = 0xa5;
    }
    let cut = good[..good.len() / 2].to_vec();
    for (name, bytes) in [("garbage", vec![b'x'; 10_000]), ("torn", torn), ("cut", cut)] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(schema::FILE);
        std::fs::write(&path, &bytes).expect("written");
        let (store, found) = open(dir.path(), now());
        let aside = found.aside.clone().unwrap_or_else(|| panic!("{name}: not moved"));
        assert!(aside.display().to_string().ends_with(".corrupt-1700000000"), "{aside:?}");
        assert_eq!(std::fs::read(&aside).expect("kept").len(), bytes.len());
        assert_eq!(Recovered { aside: None, ..found }, Recovered::default(), "{name}");
        assert_eq!(store.state(), Ok(()));
        assert!(store.status().borrow().text.contains("was corrupt"));
        store.begin_round(round("r", now())).await.expect("begins");
        store.close().await.expect("closes");
        drop(store);
        assert_eq!(open(dir.path(), now()).1.rounds.len(), 1, "{name}");
    }
}

/// Tears a database while a store has it open. False where the store had written once more just
/// before: then it has all of it in memory, and nothing is torn for it.
async fn is_moved_aside_when_torn() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = open(dir.path(), now());
    store.points([point(now().mono, series::Value::Failed)], now());
    store.flush().await.expect("flushes");
    let path = dir.path().join(schema::FILE);
    // Empties the log into the file, so that the file is what is read.
    raw(dir.path()).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("done");
    let length = std::fs::metadata(&path).expect("there").len();
    std::fs::write(&path, vec![0xa5; usize::try_from(length).expect("small")]).expect("written");
    // What it still has in memory may carry it over the first writings.
    let aside = || {
        let entries = std::fs::read_dir(dir.path()).expect("listed").filter_map(Result::ok);
        entries.filter(|e| e.file_name().to_string_lossy().contains(".corrupt-")).count() > 0
    };
    let until = Mono::now().plus(Duration::from_secs(10));
    let mut n = 0;
    while Mono::now() < until {
        if store.begin_round(round(&format!("r{n}"), now())).await.is_ok() && aside() {
            return true;
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.state(), Ok(()), "it never came back");
    false
}

#[tokio::test]
async fn a_database_that_is_torn_while_it_is_open_is_moved_aside() {
    for _ in 0..5 {
        if is_moved_aside_when_torn().await {
            return;
        }
    }
    panic!("it was torn five times, and never moved aside");
}

#[test]
fn a_place_that_can_not_be_a_directory_is_an_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = Store::open(file.path(), limits(), now()).err().expect("refused");
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    let missing = Store::read_only(Path::new("/nowhere/at/all")).expect_err("refused");
    assert!(missing.to_string().contains("holds no state"), "{missing}");
}

#[test]
fn a_backlog_keeps_to_its_limits_and_to_the_newest() {
    let mut waiting = Pending::default();
    let number = |n: u32| series::Value::Number(f64::from(n));
    for n in 0..100_010 {
        waiting.point(Wall(0), point(Mono(0), number(n)));
    }
    assert_eq!((waiting.points.len(), waiting.dropped), (100_000, 10));
    waiting.progress(&"a".into(), json!(1));
    let mut newer = Pending::default();
    newer.point(Wall(0), point(Mono(0), number(7)));
    newer.progress(&"a".into(), json!(2));
    newer.mark("k", "new");
    let older = std::mem::replace(&mut waiting, newer);
    waiting.put_back(older);
    assert_eq!((waiting.points.len(), waiting.dropped), (100_000, 11));
    assert_eq!(waiting.points.back().map(|(_, point)| point.value), Some(number(7)));
    assert_eq!(waiting.progress[&Run::from("a")], json!(2));
    assert!(!waiting.is_empty());
}

#[test]
fn archived_reports_push_no_points_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = schema::open(&dir.path().join(schema::FILE)).map_err(drop).expect("opens");
    let bytes = 4_u64 << 20;
    let kept = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        db.query_row(&sql, [], |row| row.get::<_, i64>(0)).expect("a count")
    };
    // Half of the room for points, and thrice the room for reports.
    for _ in 0..2_048 {
        db.execute(
            "INSERT INTO instant (wall, mono, boot, points) VALUES (1, 1, 1, zeroblob(1000))",
            [],
        )
        .expect("writes");
    }
    let report = "ü".repeat(50_000);
    for wall in 0..120 {
        db.execute(
            "INSERT INTO report (wall, digest, json) VALUES (?1, '', ?2)",
            rusqlite::params![wall, report],
        )
        .expect("writes");
    }
    tables::keep_to(&db, bytes).expect("makes room");
    assert_eq!((kept("instant"), kept("report")), (2_048, 10));
    let newest: i64 =
        db.query_row("SELECT max(wall) FROM report", [], |row| row.get(0)).expect("one");
    assert_eq!(newest, 119);
    // What can't be had from them, the points give; the newest report stays in any case.
    tables::keep_to(&db, bytes / 16).expect("makes room");
    assert!(kept("instant") < 2_048 && kept("report") == 1, "{} left", kept("instant"));
}

/// A picture is kept while a round or a report names it, and goes in the hour after.
#[tokio::test]
async fn pictures_are_named_by_rounds_and_reports() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (store, _) = open(dir.path(), now);
    let digest = |letter: &str| letter.repeat(64);
    let file = store.keep_exhibit(&digest("a"), "png".into()).await.expect("is kept");
    let file = file.expect("there is a directory");
    assert_eq!(std::fs::read(dir.path().join(&file)).expect("it is there"), b"png");
    assert_eq!(store.status().borrow().exhibits, 1);
    let fill = store.fills().into_iter().find(|fill| fill.queue == "exhibits");
    assert_eq!(fill.map(|fill| (fill.length, fill.dropped)), Some((1, 0)));
    let named = |letter| json!({"stages": [{"exhibit": {"picture": {"sha256": digest(letter)}}}]});
    store.begin_round(round("open", now)).await.expect("begins");
    store.round_progress(&"open".into(), named("c"));
    store.end_round(&"ended".into(), &"ssh".into(), now, named("a"), None);
    store.close().await.expect("closes");
    drop(store);
    let db = raw(dir.path());
    let report = named("b").to_string();
    db.execute("INSERT INTO report (wall, digest, json) VALUES (1, 'd', ?1)", [report])
        .expect("inserts");
    let all = super::tables::exhibits(&db).expect("reads");
    assert_eq!(all, ["a", "b", "c"].map(digest).into());

    let (memory, _) = Store::memory();
    assert_eq!(memory.keep_exhibit(&digest("a"), "png".into()).await, Ok(None));
}

#[test]
fn the_hours_cleaning_deletes_pictures_that_nothing_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let now = now();
    let (status, _) = watch::channel(Status::default());
    let shared = Shared { pending: Mutex::default(), status, offset: AtomicI64::new(0) };
    let shared = Arc::new(shared);
    shared.saw(now);
    let (mut writer, _) =
        Writer::open(dir.path(), limits(), now, Arc::clone(&shared)).expect("opens");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - 2 * 3600);
    let [named, unnamed] = ["a", "b"].map(|letter| {
        let name = format!("{}.png", letter.repeat(64));
        super::exhibits::keep(dir.path(), &name, b"png").expect("is kept");
        let path = dir.path().join(super::exhibits::FOLDER).join(name);
        let file = std::fs::File::options().write(true).open(&path).expect("it is there");
        file.set_modified(long_ago).expect("its time can be set");
        path
    });
    shared.pending().end(EndedRound {
        run: "r".into(),
        journey: "ssh".into(),
        at: now,
        tally: json!({"sha256": "a".repeat(64)}),
        progress: None,
    });
    writer.tracks_cleaned = Mono::now().minus(Duration::from_secs(2 * 3600));
    let until = Mono::now().plus(Duration::from_secs(10));
    while unnamed.exists() {
        assert!(Mono::now() < until, "what nothing names is kept");
        std::thread::sleep(writer.write_if_due().min(Duration::from_millis(20)));
    }
    assert!(named.exists());
    assert_eq!(shared.status.borrow().exhibits, 1);
}
