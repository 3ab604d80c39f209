//! A burst of two seconds between two scrapes 15 s apart: seen in the next scrape, and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Daemon, folder_with};

const TRIES: usize = 3;
const SCRAPE: Duration = Duration::from_secs(15);
const BURST: Duration = Duration::from_secs(2);

/// A program under a name that nobody else has.
fn under_a_name(folder: &Path, program: &str, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::copy(program, &path).unwrap();
    path
}

struct Burst(Vec<Child>);

impl Drop for Burst {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Burst {
    fn of(count: usize, make: impl Fn(usize) -> Command) -> Self {
        let start = |n| make(n).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self((0..count).map(start).collect())
    }
}

/// The largest sample of a metric in a scrape.
fn largest(text: &str, name: &str) -> f64 {
    let own = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    own.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).fold(0.0, f64::max)
}

/// The captures of a resource that name a program, taken since an instant.
fn named(daemon: &Daemon, resource: &str, name: &str, since: &str) -> bool {
    let captures = daemon.json("/api/v1/captures");
    captures.as_array().into_iter().flatten().any(|capture| {
        let culprits = capture["culprits"].as_array().into_iter().flatten();
        capture["resource"] == resource
            && capture["at"].as_str().is_some_and(|at| at >= since)
            && culprits.into_iter().any(|culprit: &Value| culprit["name"] == name)
    })
}

#[test]
fn a_burst_of_two_seconds_is_in_the_next_scrape_and_has_a_name() {
    let (folder, plan) = folder_with("include: [ 'pack:linux-node' ]\n");
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let cpu = under_a_name(folder.path(), "/usr/bin/yes", "burst-cpu");
    let io = under_a_name(folder.path(), "/usr/bin/dd", "burst-io");
    // On a disk, whatever the folder for temporary files is on.
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get();
    // The first seconds open all files.
    std::thread::sleep(Duration::from_secs(3));
    for n in 0..TRIES {
        let scraped = Instant::now();
        let before = daemon.get("/metrics").1;
        assert!(before.contains("greenlight_node_cpu_busy_peak_ratio "), "{before}");
        // Each time at another phase of the agent's second.
        std::thread::sleep(Duration::from_millis(300 * n as u64));
        let since = greenlight::agent::clock::now().wall.rfc3339();
        let burst = Burst::of(cpus * 4, |_| Command::new(&cpu));
        std::thread::sleep(BURST);
        drop(burst);
        let burst = Burst::of(4, |n| {
            let file = disk.path().join(format!("{n}"));
            let mut command = Command::new(&io);
            command.arg("if=/dev/zero").arg(format!("of={}", file.display()));
            command.args(["bs=256k", "count=100000", "oflag=direct"]);
            command
        });
        std::thread::sleep(BURST);
        drop(burst);
        for file in fs::read_dir(disk.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        std::thread::sleep(SCRAPE.saturating_sub(scraped.elapsed()));
        let after = daemon.get("/metrics").1;
        let peak = largest(&after, "greenlight_node_cpu_busy_peak_ratio ");
        assert!(peak > 0.85, "try {n}: the processors peaked at {peak}");
        let peak = largest(&after, "greenlight_node_disk_busy_peak_ratio{");
        assert!(peak > 0.2, "try {n}: the disks peaked at {peak}");
        let captures = || daemon.json("/api/v1/captures");
        assert!(named(&daemon, "cpu", "burst-cpu", &since), "try {n}: {:#}", captures());
        assert!(named(&daemon, "io", "burst-io", &since), "try {n}: {:#}", captures());
    }
    let (code, _) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
}
