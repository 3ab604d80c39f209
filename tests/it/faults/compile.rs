//! A real compile job on all processors: only gates of the processors turn red, and name it.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use super::{Agent, is_red};
use crate::machine::{PATIENCE, alone, meanwhile};

const PROCESSORS: [&str; 4] =
    ["node.cpu.busy", "node.cpu.pressure", "node.cpu.queue", "node.cpu.wait"];

/// What the machine that tests run on, or another test beside this one, is to blame for: no time
/// daemon, and filesystems, disks and interfaces that are made to fail. This job writes nothing, so
/// what a disk suffers is a server's that another test has started.
fn of_others(row: &serde_json::Value) -> bool {
    let id = row["id"].as_str().unwrap_or_default();
    let target = row["worst"]["target"].as_str().unwrap_or_default();
    let made = ["loop", "veth"].iter().any(|name| target.starts_with(name))
        || target.starts_with(&*std::env::temp_dir().to_string_lossy());
    let others = ["node.clock.", "node.disk.", "node.io."];
    others.iter().any(|gates| id.starts_with(gates)) || id == "node.load" || made
}

#[test]
fn a_compile_job_is_red_for_the_processors_only_and_is_named() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("job.c");
    let mut text = String::new();
    for n in 0..1500 {
        let _ = writeln!(
            text,
            "int f{n}(int *a, int m) {{ int s = {n}; for (int i = 0; i < m; i++) \
             for (int j = i; j < m; j++) s += a[i] * a[j] ^ (s >> {}); return s; }}",
            n % 31
        );
    }
    fs::write(&source, text).unwrap();
    let agent = Agent::start("include: [ 'pack:linux-node' ]", &[], &[]);
    let compile = |_: usize, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            let compiler = Command::new("cc")
                .args(["-O2", "-c", "-o", "/dev/null"])
                .arg(&source)
                .stdin(Stdio::null())
                .status()
                .unwrap_or_else(|error| panic!("cc: {error}; tests/run installs it"));
            assert!(compiler.success());
        }
    };
    let cores = thread::available_parallelism().unwrap().get();
    meanwhile(cores * 3, compile, || {
        let named = |row: &serde_json::Value| {
            is_red(row) && row["reason"]["text"].as_str().is_some_and(|text| text.contains("cc1"))
        };
        let row = agent.wait("node.cpu.busy", PATIENCE, named);
        row.unwrap_or_else(|row| panic!("the compiler is not named: {row:#}"));
        for _ in 0..10 {
            let rows = agent.daemon.json("/api/v1/gates");
            for row in rows.as_array().unwrap().iter().filter(|row| is_red(row)) {
                let id = row["id"].as_str().unwrap_or_default();
                assert!(PROCESSORS.contains(&id) || of_others(row), "{row:#}");
            }
            thread::sleep(std::time::Duration::from_secs(1));
        }
    });
}
