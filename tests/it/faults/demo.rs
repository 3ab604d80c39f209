//! The demo's two gates of the node. Those of its stages are in [`crate::demo`].

use std::fs;

use super::{Agent, without_pressure};
use crate::machine::{alone, burnt};

const GATES: [&str; 2] = ["demo.node.cpu", "demo.node.memory"];

/// The processors are burnt for real. A share of memory that no test may take from a machine is
/// recorded: the kernel's file, with another number in it.
#[test]
fn the_demos_node_gates_turn_red_and_green_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let procfs = without_pressure(folder.path());
    let meminfo = folder.path().join("proc/meminfo");
    fs::remove_file(&meminfo).unwrap();
    // In place and of one length: the agent keeps the file open and never sees a half of it.
    let available = |kilobytes: u32| {
        let text = format!("MemTotal: 25000000 kB\nMemAvailable: {kilobytes:>10} kB\n");
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(false).open(&meminfo).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    available(20_000_000);
    let agent =
        Agent::start("include: [ 'pack:demo' ]", &["demo_window=6s"], &["--path.procfs", &procfs]);
    agent.green(&GATES);

    available(2_000_000);
    let row = agent.red("demo.node.memory", None);
    assert_eq!(row["value"], 0.08, "{row:#}");
    available(20_000_000);

    burnt(2, || drop(agent.red("demo.node.cpu", None)));
    agent.green(&GATES);
}
