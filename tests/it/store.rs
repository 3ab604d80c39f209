//! The store against what happens to disks and processes: kill -9, a full disk, a read-only disk,
//! a second writer. The mounts need root.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greenlight::outcome::FaultCode;
use greenlight::series::Value;
use greenlight::store::{
    Limits, Recovered, RoundRecord, Store, StoreError, StoredPoint, StoredTrack,
};
use greenlight::time::{Mono, Now, Wall};
use serde_json::json;

/// Names the state directory for the process that is to be killed.
const CHILD: &str = "GREENLIGHT_TEST_STORE_CHILD";
/// Rounds of the kill test.
const KILLS: u64 = 50;
/// Points that go with each round: few, so that all of a test's stay below what is recovered.
const POINTS: u64 = 10;

fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Now { mono: Mono::now(), wall: Wall(i64::try_from(wall.as_nanos()).expect("before 2262")) }
}

fn limits() -> Limits {
    Limits { flush: Duration::from_millis(20), ..Limits::default() }
}

fn point(number: u64) -> StoredPoint {
    StoredPoint {
        track: Arc::new(StoredTrack {
            series: "icmp.rtt",
            check: "core".into(),
            target: "lake-1".into(),
            labels: Vec::new(),
        }),
        at: Mono::now(),
        value: Value::Number(number as f64),
    }
}

fn round(number: u64) -> RoundRecord {
    RoundRecord {
        run: format!("run-{number}").into(),
        journey: "ssh".into(),
        began: now(),
        first_seq: number * 10,
        count: 10,
        progress: json!({"sent": 0}),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn open(dir: &Path) -> (Store, Recovered) {
    Store::open(dir, limits(), now()).expect("opens")
}

fn numbers(found: &Recovered) -> Vec<u64> {
    let number = |point: &StoredPoint| match point.value {
        Value::Number(number) => number as u64,
        other => panic!("never written: {other:?}"),
    };
    found.points.iter().map(number).collect()
}

/// What the killed process does: rounds, points, progress and tallies as fast as it can, and says
/// what it knows to be on disk.
async fn write_until_killed(dir: &Path, rounds: u64) {
    let (store, found) = open(dir);
    let mut number = numbers(&found).last().copied().unwrap_or(0);
    let known = found.rounds.iter().map(|round| &round.run);
    let known = known.chain(found.ended.iter().map(|round| &round.run));
    let first = known.filter_map(|run| run.strip_prefix("run-")?.parse::<u64>().ok()).max();
    let first = first.map_or(0, |last| last + 1);
    let journey: Arc<str> = "ssh".into();
    println!("open");
    for round_number in (first..).take(usize::try_from(rounds).expect("few")) {
        let record = round(round_number);
        let run = record.run.clone();
        store.begin_round(record).await.expect("begins");
        println!("begun {round_number}");
        for _ in 0..POINTS {
            number += 1;
            store.points([point(number)], now());
        }
        store.round_progress(&run, json!({"sent": 10}));
        if round_number % 3 == 0 {
            store.end_round(&run, &journey, now(), json!({"ok": round_number}), None);
        }
        if round_number % 7 == 0 {
            store.flush().await.expect("flushes");
            println!("flushed {number}");
        }
    }
    store.close().await.expect("closes");
}

#[test]
fn store_child_writes_and_everything_is_there() {
    if let Ok(dir) = std::env::var(CHILD) {
        runtime().block_on(write_until_killed(Path::new(&dir), u64::MAX >> 1));
        return;
    }
    // Not killed, the same work leaves everything behind.
    let dir = tempfile::tempdir().expect("a directory");
    runtime().block_on(write_until_killed(dir.path(), 10));
    let (_store, found) = open(dir.path());
    assert_eq!(numbers(&found), (1..=10 * POINTS).collect::<Vec<u64>>());
    assert_eq!((found.rounds.len(), found.ended.len()), (6, 4));
    assert!(found.rounds.iter().all(|round| round.progress == json!({"sent": 10})));
}

struct Killed(Child);

impl Killed {
    fn start(dir: &Path) -> Self {
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "store::store_child_writes_and_everything_is_there", "--nocapture"])
            .env(CHILD, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        Self(child)
    }

    /// Kills after this much time of work; what it had said.
    fn after(mut self, work: Duration) -> Vec<String> {
        let mut lines = BufReader::new(self.0.stdout.take().expect("piped")).lines();
        // The harness says "running 1 test" first.
        let opened =
            lines.by_ref().map(|line| line.expect("text")).any(|line| line.ends_with("open"));
        assert!(opened, "the child did not open the store");
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(work);
        self.0.kill().expect("SIGKILL");
        self.0.wait().expect("ended");
        reader.join().expect("read")
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn store_survives_kill_nine_at_any_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut begun_in_all = 0;
    let mut flushed_in_all = 0;
    let mut moments: u64 = 0x9e37_79b9_7f4a_7c15;
    for kill in 0..KILLS {
        // xorshift: moments from 0 to 150 ms, the same in each run of the test.
        moments ^= moments << 13;
        moments ^= moments >> 7;
        moments ^= moments << 17;
        let work = Duration::from_micros(moments % 150_000);
        let said = Killed::start(dir.path()).after(work);

        let db = rusqlite::Connection::open(dir.path().join("greenlight.db")).expect("opens");
        let check: String =
            db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
        assert_eq!(check, "ok", "kill {kill} after {work:?}");
        drop(db);

        let (store, found) = open(dir.path());
        assert_eq!(found.aside, None, "kill {kill}");
        let is_open = |run: &str| found.rounds.iter().any(|round| &*round.run == run);
        let is_ended = |run: &str| found.ended.iter().any(|round| &*round.run == run);
        let points = numbers(&found);
        // Whole transactions in their order: what is there has no gap, whatever is missing.
        let gap = points.iter().zip(1..).find(|(found, due)| **found != *due);
        assert_eq!(gap, None, "kill {kill}: a gap in the points");
        let mut begun = Vec::new();
        for line in said {
            let mut words = line.split(' ');
            match (words.next(), words.next().and_then(|word| word.parse::<u64>().ok())) {
                (Some("begun"), Some(number)) => {
                    begun_in_all += 1;
                    begun.push(number);
                    let run = format!("run-{number}");
                    assert!(is_open(&run) || is_ended(&run), "kill {kill}: {run} is lost");
                }
                (Some("flushed"), Some(number)) => {
                    flushed_in_all += 1;
                    let last = points.last().copied().unwrap_or(0);
                    assert!(last >= number, "kill {kill}: {number} was flushed, {last} is there");
                    // Those that this process ended before it flushed.
                    for ended in begun.iter().filter(|round| **round % 3 == 0) {
                        let run = format!("run-{ended}");
                        let there = found.ended.iter().find(|round| *round.run == *run);
                        let tally = there.map(|round| round.tally.clone());
                        assert_eq!(tally, Some(json!({"ok": ended})), "kill {kill}: {run}");
                    }
                }
                _ => {}
            }
        }
        runtime().block_on(store.close()).expect("closes");
    }
    assert!(
        begun_in_all > 100 && flushed_in_all > 20,
        "{begun_in_all} begun, {flushed_in_all} flushed"
    );
    eprintln!("{KILLS} kills, {begun_in_all} rounds begun, {flushed_in_all} flushes, none lost");
}

#[test]
fn store_refuses_a_second_writer_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Killed::start(dir.path());
    let mut lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text").ends_with("open")));
    // It writes on, and nobody may block it.
    let drain = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let error = Store::open(dir.path(), limits(), now()).err().expect("refused");
    let text = error.to_string();
    assert!(matches!(error, StoreError::Locked { .. }), "{text}");
    assert!(text.contains(&format!("process {} (since 20", child.0.id())), "{text}");
    // A reader is no writer.
    Store::read_only(dir.path()).expect("reads").newest_report().expect("reads");
    child.0.kill().expect("SIGKILL");
    child.0.wait().expect("ended");
    drain.join().expect("read");
    let (store, _) = open(dir.path());
    let again = Store::open(dir.path(), limits(), now()).err().expect("refused");
    assert!(again.to_string().contains(&format!("process {} ", std::process::id())), "{again}");
    drop(store);
}

/// A small file system of its own.
struct Disk {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        assert!(
            nix::unistd::Uid::effective().is_root(),
            "this test mounts a file system and needs root: run it with sudo"
        );
        let dir = crate::machine::folder();
        let at = dir.path().join("disk");
        std::fs::create_dir(&at).expect("made");
        run("mount", &["-t", "tmpfs", "-o", "size=3m", "greenlight-test", path(&at)]);
        Self { at, _dir: dir }
    }

    fn remount(&self, mode: &str) {
        run("mount", &["-o", &format!("remount,{mode}"), path(&self.at)]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} did not happen in 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn store_goes_on_in_memory_while_the_disk_is_full() {
    let disk = Disk::new();
    runtime().block_on(async {
        let (store, _) = open(&disk.at);
        store.begin_round(round(0)).await.expect("begins");
        store.flush().await.expect("flushes");
        let filler = disk.at.join("filler");
        // Writes until nothing is left; the error is the point.
        let full = std::fs::write(&filler, vec![0; 8 << 20]).expect_err("full");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let mut number = 0;
        until("degrading", || {
            for _ in 0..500 {
                number += 1;
                store.points([point(number)], now());
            }
            store.state().is_err()
        })
        .await;
        assert_eq!(store.state(), Err("the disk is full".into()));
        let refused = store.begin_round(round(1)).await.expect_err("no disk");
        assert_eq!(refused.code, FaultCode::Store);
        assert!(refused.text.contains("the disk is full"), "{refused}");
        let status = store.status().borrow().clone();
        assert!(!status.up && status.errors > 0, "{status:?}");
        // What comes meanwhile is kept.
        for _ in 0..500 {
            number += 1;
            store.points([point(number)], now());
        }
        std::fs::remove_file(&filler).expect("removed");
        until("coming back", || store.state().is_ok()).await;
        store.begin_round(round(2)).await.expect("begins again");
        store.close().await.expect("closes");
        drop(store);
        let (_store, found) = open(&disk.at);
        assert_eq!(numbers(&found), (1..=number).collect::<Vec<u64>>());
        let runs: Vec<&str> = found.rounds.iter().map(|round| &*round.run).collect();
        assert_eq!(runs, ["run-0", "run-2"]);
    });
}

#[test]
fn store_reads_a_read_only_disk_and_comes_back() {
    let disk = Disk::new();
    runtime().block_on(async {
        let (store, _) = open(&disk.at);
        store.begin_round(round(0)).await.expect("begins");
        store.points([point(1)], now());
        store.close().await.expect("closes");
        drop(store);
        disk.remount("ro");
        let (store, found) = open(&disk.at);
        assert_eq!((found.rounds.len(), numbers(&found)), (1, vec![1]), "what is there is read");
        let text = store.state().expect_err("read-only");
        assert!(text.to_lowercase().contains("read-only"), "{text}");
        let refused = store.begin_round(round(1)).await.expect_err("no disk");
        assert_eq!(refused.code, FaultCode::Store);
        Store::read_only(&disk.at).expect("reads").newest_report().expect("reads");
        store.points([point(2)], now());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(store.state().is_err());
        disk.remount("rw");
        until("coming back", || store.state().is_ok()).await;
        store.begin_round(round(2)).await.expect("begins");
        store.close().await.expect("closes");
        drop(store);
        let (_store, found) = open(&disk.at);
        assert_eq!((found.rounds.len(), numbers(&found)), (2, vec![1, 2]));
    });
}
