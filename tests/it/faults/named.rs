//! A red gate says who: who holds the memory, and who fills the disk.

use std::process::Command;

use super::{Agent, is_red};
use crate::machine::{PATIENCE, Process, alone};

/// Holds a gigabyte and a half, and writes one file over and over.
const HOARDER: &str = "
import ctypes, os, sys
ctypes.CDLL(None).prctl(15, b'hoarder', 0, 0, 0)
held = b'x' * 1_500_000_000
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
while True:
    os.lseek(file, 0, os.SEEK_SET)
    for _ in range(16):
        os.write(file, held[:1 << 20])
    os.fdatasync(file)
";

#[test]
fn who_holds_the_memory_and_who_fills_the_disk_is_named() {
    let _alone = alone();
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let file = folder.path().join("data");
    let hoarder = Process::start(Command::new("python3").args(["-c", HOARDER]).arg(&file));
    // No machine has as much as these ask for.
    let agent = Agent::start(
        "include: [ 'pack:linux-node' ]",
        &[
            "node_memory_available_least=100%",
            "node_memory_available_warn=100%",
            "node_fs_least=100%",
            "node_fs_warn=100%",
        ],
        &[],
    );
    let pid = format!("hoarder (pid {}", hoarder.0.id());
    for (gate, did) in [("node.memory.available", "GiB resident"), ("node.fs.space", "writes ")] {
        let named = |row: &serde_json::Value| {
            let text = row["reason"]["text"].as_str().unwrap_or_default();
            let own = text.find(&pid).and_then(|at| text.get(at..));
            is_red(row) && own.is_some_and(|own| own.contains(did))
        };
        if let Err(row) = agent.wait(gate, PATIENCE, named) {
            panic!("{gate} does not name {pid}: {row:#}");
        }
    }
}
