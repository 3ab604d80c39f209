//! The disk probes on real filesystems: fast, slow, failing, nearly full, and killed in between.
//! They need root, and fail at once without it.

mod partner;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Daemon, folder_with};
use crate::machine::{Disk, PATIENCE, until};

impl Disk {
    /// One attempt of a check of this kind in the filesystem.
    fn once(&self, kind: &str) -> Value {
        once(&self.data(), kind)
    }

    fn is_empty(&self) -> bool {
        let names = fs::read_dir(self.data()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "lost+found").count() == 0
    }
}

fn plan(directory: &Path, kind: &str) -> String {
    format!(
        "checks: [ {{ id: disk, {kind}, targets: [ '{}' ], every: 1m, timeout: 40s }} ]",
        directory.display()
    )
}

fn greenlight() -> Command {
    Command::new(env!("CARGO_BIN_EXE_greenlight"))
}

fn once(directory: &Path, kind: &str) -> Value {
    parsed(&mut greenlight(), directory, kind)
}

/// `command` runs greenlight; the arguments are added.
fn parsed(command: &mut Command, directory: &Path, kind: &str) -> Value {
    let (_folder, file) = folder_with(&plan(directory, kind));
    let output =
        command.args(["once", "disk", "--debug", "-o", "json", "-c", &file]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    value["targets"][0].clone()
}

fn value(seen: &Value, series: &str, labels: &[&str]) -> Option<f64> {
    let samples = seen["samples"].as_array().unwrap();
    let found = samples.iter().find(|sample| {
        let name = sample["series"].as_str().or(sample["metric"].as_str());
        let own: Vec<_> = sample["labels"].as_array().unwrap().iter().collect();
        name == Some(series) && own.iter().map(|l| l.as_str().unwrap()).eq(labels.iter().copied())
    });
    found?["value"].as_f64()
}

#[track_caller]
fn is(seen: &Value, outcome: &str, code: &str) {
    assert_eq!(seen["outcome"], outcome, "{seen:#}");
    assert_eq!(seen["reason"]["code"], code, "{seen:#}");
    assert!(seen["reason"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{seen:#}");
}

fn noted(seen: &Value, what: &str) -> bool {
    let notes = seen["debug"].as_array().unwrap();
    notes.iter().any(|note| note["text"].as_str().is_some_and(|text| text.contains(what)))
}

#[test]
fn syncs_are_timed_one_by_one_and_nothing_is_left() {
    let disk = Disk::plain().mounted();
    let seen = disk.once("disk_sync: { exclusive: true, bytes: 2MB }");
    assert_eq!(seen["outcome"], "success", "{seen:#}");
    let count = value(&seen, "greenlight_disk_sync_samples", &[]).unwrap();
    assert_eq!(count, (2_000_000 / 2300) as f64);
    let samples = seen["samples"].as_array().unwrap();
    let single = samples.iter().filter(|sample| sample["series"] == "disk_sync.latency").count();
    assert_eq!(single as f64, count);
    let at = |quantile, bound| value(&seen, "disk_sync.quantile", &[quantile, bound]).unwrap();
    assert!(at("0.99", "lower") <= at("0.99", "estimate"));
    assert!(at("0.5", "estimate") <= at("0.99", "estimate"));
    assert!(at("0.99", "estimate") <= at("1", "estimate"));
    assert_eq!(value(&seen, "disk_sync.quantile", &["0.999", "estimate"]), None, "too few");
    assert!(value(&seen, "disk_sync.rate", &[]).unwrap() > 0.0);
    assert!(noted(&seen, "before: ") && noted(&seen, "during: "), "{seen:#}");
    assert!(disk.is_empty());
}

#[test]
fn a_gentle_probe_keeps_to_its_pace() {
    let disk = Disk::plain().mounted();
    let seen = disk.once("disk_sync: { time: 2s }");
    // Others on the machine may make it give way; it never goes faster.
    if seen["outcome"] == "success" {
        let count = value(&seen, "greenlight_disk_sync_samples", &[]).unwrap();
        assert!((1.0..=101.0).contains(&count), "{count} in two seconds, of 50 in each");
        assert_eq!(value(&seen, "disk_sync.rate", &[]), None, "a pace of our own is no figure");
    } else {
        is(&seen, "inconclusive", "gave_way");
    }
}

#[test]
fn six_profiles_past_the_cache_and_what_the_volume_needs_of_them() {
    let disk = Disk::plain().mounted();
    let profiles = [
        "sequential_write",
        "sequential_read",
        "random_read",
        "random_write",
        "random_read_deep",
        "random_write_deep",
    ];
    for engine in ["io_uring", "psync"] {
        let seen =
            disk.once(&format!("disk_io: {{ exclusive: true, bytes: 2MiB, engine: {engine} }}"));
        assert_eq!(seen["outcome"], "success", "{seen:#}");
        assert_eq!(value(&seen, "greenlight_disk_io_engine", &[engine]), Some(1.0));
        for profile in profiles {
            let p99 = value(&seen, "disk_io.latency", &[profile, "0.99", "estimate"]).unwrap();
            let [iops, bandwidth] = ["disk_io.iops", "disk_io.bandwidth"]
                .map(|series| value(&seen, series, &[profile]).unwrap());
            assert!(p99 > 0.0 && iops > 0.0, "{profile}: {seen:#}");
            let block = if profile.starts_with("random") { 4096.0 } else { 1_048_576.0 };
            assert!((bandwidth / iops - block).abs() < 1e-6, "{profile}");
        }
        assert!(disk.is_empty());
    }

    // A gate over what is left, judged by the whole agent: 20 kB/s and a week of it are no load.
    let text = format!(
        "checks:
  - {{ id: disk, disk_io: {{ exclusive: true, bytes: 2MiB, time: 2s }}, targets: [ '{0}' ], every: 10s }}
  - id: volume
    sizing: {{ eps: 100, event_bytes: 200B, retention: 1h }}
    targets: [ '{0}' ]
    every: 1s
gates:
  - id: fits
    title: The agreed volume fits
    level: mandatory
    require: {{ min: sizing.storage_headroom, over: 3s, at_least: 2, above: 20% }}
  - id: fast
    title: The disk takes the agreed volume
    level: mandatory
    require: {{ min: sizing.bandwidth_headroom, over: 3s, at_least: 2, above: 20% }}
",
        disk.data().display()
    );
    let (folder, file) = folder_with(&text);
    let daemon = Daemon::start(&file, &folder.path().join("state"), &[]);
    daemon.until_verdict("fits", "pass", PATIENCE);
    daemon.until_verdict("fast", "pass", PATIENCE);
    drop(daemon);
    let seen = disk.once("sizing: { per_day: 1TB, retention: 30d, replicas: 2 }");
    assert_eq!(seen["outcome"], "success", "{seen:#}");
    assert_eq!(value(&seen, "sizing.storage_needed", &[]), Some(60e12));
    assert!(value(&seen, "sizing.storage_headroom", &[]).unwrap() < -1000.0);
    assert_eq!(value(&seen, "sizing.bandwidth_headroom", &[]), None, "nothing was measured");
}

/// A filter of system calls that refuses io_uring, as containers have it.
#[test]
fn where_io_uring_is_forbidden_psync_stands_in_and_says_so() {
    let disk = Disk::plain().mounted();
    let forbid = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
setup = 425
code = [(0x20, 0, 0, 0), (0x15, 0, 1, setup), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
filters = b''.join(struct.pack('HBBI', *line) for line in code)
memory = ctypes.create_string_buffer(filters)
program = struct.pack('HxxxxxxP', len(code), ctypes.addressof(memory))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";
    let mut command = Command::new("python3");
    command.args(["-c", forbid, env!("CARGO_BIN_EXE_greenlight")]);
    let seen = parsed(&mut command, &disk.data(), "disk_io: { exclusive: true, bytes: 1MiB }");
    assert_eq!(seen["outcome"], "success", "{seen:#}");
    assert_eq!(value(&seen, "greenlight_disk_io_engine", &["psync"]), Some(1.0));
    assert_eq!(value(&seen, "greenlight_disk_io_engine", &["io_uring"]), Some(0.0));
    assert!(noted(&seen, "io_uring is forbidden"), "{seen:#}");
    // Where a plan asks for it by name, nothing stands in.
    let mut command = Command::new("python3");
    command.args(["-c", forbid, env!("CARGO_BIN_EXE_greenlight")]);
    let kind = "disk_io: { exclusive: true, bytes: 1MiB, engine: io_uring }";
    is(&parsed(&mut command, &disk.data(), kind), "inconclusive", "unsupported");
}

#[test]
fn a_nearly_full_filesystem_is_not_written_to() {
    let disk = Disk::plain().mounted();
    let free = nix::sys::statvfs::statvfs(&disk.data()).unwrap();
    let size = free.blocks_available() as u64 * free.fragment_size() as u64;
    let filler = fs::File::create(disk.data().join("filler")).unwrap();
    let most = i64::try_from(size / 100 * 95).unwrap();
    nix::fcntl::fallocate(&filler, nix::fcntl::FallocateFlags::empty(), 0, most).unwrap();
    for kind in ["disk_sync: {}", "disk_io: {}", "disk_sync: { exclusive: true }"] {
        let seen = disk.once(kind);
        is(&seen, "inconclusive", "exhausted");
        assert!(seen["reason"]["text"].as_str().unwrap().contains("% free"), "{seen:#}");
    }
    // procfs has no such files, and no room either.
    let seen = once(Path::new("/proc"), "disk_sync: {}");
    assert_eq!(seen["outcome"], "inconclusive", "{seen:#}");
}

#[test]
fn a_failing_disk_is_a_failure_with_its_reason() {
    let disk = Disk::faulty().mounted();
    let healthy = disk.once("disk_sync: { exclusive: true, bytes: 500kB }");
    assert_eq!(healthy["outcome"], "success", "{healthy:#}");
    fs::write(disk.path("inject"), "").unwrap();
    for kind in ["disk_sync: { exclusive: true }", "disk_io: { exclusive: true }"] {
        let seen = disk.once(kind);
        is(&seen, "failure", "io_error");
        assert!(seen["reason"]["text"].as_str().unwrap().contains("Input/output"), "{seen:#}");
    }
}

/// The disk becomes slow while it is measured: a gentle probe gives way within a second.
#[test]
fn a_probe_stops_when_the_disk_suffers() {
    // What other tests do to the machine may make it give way before, or make it late.
    let mut took = Vec::new();
    for _ in 0..8 {
        let Some(after) = stopped() else { continue };
        if after < Duration::from_secs(1) {
            return;
        }
        took.push(after);
    }
    panic!("never within a second: {took:?}");
}

/// How long after the disk became slow the probe ended; None where it had before.
fn stopped() -> Option<Duration> {
    let disk = Disk::faulty().mounted();
    let (_folder, file) = folder_with(&plan(&disk.data(), "disk_sync: { time: 20s }"));
    let began = Instant::now();
    let mut child = greenlight()
        .args(["once", "disk", "--debug", "-o", "json", "-c", &file])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The time before is a second; then it writes.
    until("the probe writes", || began.elapsed() > Duration::from_secs(4));
    let early = child.try_wait().unwrap().is_some();
    fs::write(disk.path("rate"), "200K").unwrap();
    let slow = Instant::now();
    let output = child.wait_with_output().unwrap();
    let after = slow.elapsed();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seen = &seen["targets"][0];
    let code = seen["reason"]["code"].as_str().unwrap_or_default();
    assert!(["gave_way", "slow_io"].contains(&code), "{seen:#}");
    assert_eq!(seen["outcome"] == "failure", code == "slow_io", "{seen:#}");
    assert!(after < Duration::from_secs(10), "it went on for {after:?}");
    eprintln!("stopped {after:?} after the disk became slow: {}", seen["reason"]["text"]);
    fs::remove_file(disk.path("rate")).unwrap();
    assert!(disk.is_empty());
    (!early).then_some(after)
}

/// The process behind the disk stops: the attempt ends all the same, and says what hung.
#[test]
fn a_disk_that_hangs_is_a_failure_within_seconds() {
    // What other tests do to the machine may make it give way before.
    let mut tries = (0..4).map(|_| hung());
    let seen = tries.find(|seen| seen["reason"]["code"] != "gave_way").expect("it gives way");
    is(&seen, "failure", "slow_io");
}

/// One attempt on a disk that hangs after seconds.
fn hung() -> Value {
    let disk = Disk::faulty().mounted();
    let (_folder, file) = folder_with(&plan(&disk.data(), "disk_sync: { time: 20s }"));
    let began = Instant::now();
    let mut child = greenlight()
        .args(["once", "disk", "-o", "json", "-c", &file])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A process with a thread in the kernel ends only when that returns; what it says comes before.
    let mut pipe = child.stdout.take().unwrap();
    let (send, said) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 65_536];
        while let Ok(read @ 1..) = io::Read::read(&mut pipe, &mut chunk) {
            let _ = send.send(chunk[..read].to_vec());
        }
    });
    until("the probe writes", || began.elapsed() > Duration::from_secs(4));
    disk.signal(Signal::SIGSTOP);
    let slow = Instant::now();
    let mut text = Vec::new();
    let seen: Option<Value> = loop {
        match said.recv_timeout(Duration::from_secs(25)) {
            Ok(chunk) => text.extend(chunk),
            Err(_) => break None,
        }
        if let Ok(seen) = serde_json::from_slice(&text) {
            break Some(seen);
        }
    };
    let after = slow.elapsed();
    disk.signal(Signal::SIGCONT);
    child.wait().unwrap();
    reader.join().unwrap();
    let seen = seen.unwrap_or_else(|| panic!("no answer after {after:?}"));
    assert!(after < Duration::from_secs(15), "{after:?}");
    eprintln!("ended {after:?} after the disk hung: {}", seen["targets"][0]["reason"]["text"]);
    seen["targets"][0].clone()
}

#[test]
fn a_killed_probe_leaves_no_file_and_no_bytes() {
    let disk = Disk::plain().mounted();
    let free = || {
        let space = nix::sys::statvfs::statvfs(&disk.data()).unwrap();
        space.blocks_free() as u64 * space.fragment_size() as u64
    };
    let before = free();
    let (_folder, file) = folder_with(&plan(&disk.data(), "disk_sync: { time: 30s }"));
    let mut child = greenlight().args(["once", "disk", "-c", &file]).spawn().unwrap();
    let files = format!("/proc/{}/fd", child.id());
    let ours = || -> io::Result<bool> {
        let at = disk.data();
        Ok(fs::read_dir(&files)?.flatten().any(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|to| to.starts_with(&at) && to.to_string_lossy().ends_with("(deleted)"))
        }))
    };
    until("the probe has its file", || ours().unwrap_or(false));
    assert!(free() < before, "the file takes room");
    assert!(disk.is_empty(), "and has no name");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(disk.is_empty());
    until("the room is free again", || free() == before);
}

#[test]
fn one_prober_a_device_at_a_time() {
    let disk = Disk::plain().mounted();
    let (_folder, file) = folder_with(&plan(&disk.data(), "disk_sync: { time: 30s }"));
    let mut first = greenlight().args(["once", "disk", "-c", &file]).spawn().unwrap();
    let name = format!("@greenlight-disk-{}", {
        let device = nix::sys::stat::stat(&disk.data()).unwrap().st_dev;
        format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device))
    });
    until("the first has the device", || {
        fs::read_to_string("/proc/net/unix").unwrap().lines().any(|line| line.ends_with(&name))
    });
    let (_other, short) = folder_with(&format!(
        "checks: [ {{ id: disk, disk_sync: {{ time: 1s }}, targets: [ '{}' ], every: 1m, timeout: 5s }} ]",
        disk.data().display()
    ));
    let output = greenlight().args(["once", "disk", "-o", "json", "-c", &short]).output().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    is(&seen["targets"][0], "inconclusive", "exhausted");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn effects_say_bytes_and_syncs_and_specs_are_checked() {
    let (_folder, file) = folder_with(&plan(Path::new("/var/lib"), "disk_sync: {}"));
    let output = greenlight().args(["plan", "-c", &file]).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["2300000 bytes", "1000 syncs", "at most 50 a second", "without a name in /var/lib"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    for (kind, target, what) in [
        ("disk_sync: { bytes: 1kB }", "/tmp", "230 kB"),
        ("disk_sync: { time: 10ms }", "/tmp", "at least 1s"),
        ("disk_io: { bytes: 1GiB }", "/tmp", "1 MiB to 64 MiB"),
        ("disk_io: { engine: libaio }", "/tmp", "io_uring"),
        ("disk_sync: {}", "tmp", "whole path"),
        ("sizing: { retention: 1d }", "/tmp", "give `eps`"),
        ("disk_sync: { exclsive: true }", "/tmp", "exclusive"),
    ] {
        let (_folder, file) = folder_with(&plan(Path::new(target), kind));
        let output = greenlight().args(["plan", "-c", &file]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{kind}: {said}");
        assert!(said.contains(what), "{kind}: {said}");
    }
}
