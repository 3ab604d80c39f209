//! Slow disks, full and read-only filesystems and busy processors, on a kernel without pressure.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Agent, without_pressure};
use crate::machine::{Disk, Tmpfs, alone, burnt, meanwhile, sh};

const FILESYSTEMS: [&str; 3] = ["node.fs.space", "node.fs.inodes", "node.fs.writable"];
const DISKS: [&str; 4] =
    ["node.io.waiting", "node.disk.busy", "node.disk.queue", "node.disk.latency"];
const PROCESSORS: [&str; 2] = ["node.cpu.busy", "node.cpu.queue"];

#[test]
fn disks_filesystems_and_processors_turn_their_gates_red_and_green_again() {
    let _alone = alone();
    let disk = Disk::slow().mounted();
    let [space, inodes, readonly] = [(); 3].map(|()| Tmpfs::new("size=8m,nr_inodes=200"));
    let folder = tempfile::tempdir().unwrap();
    let procfs = without_pressure(folder.path());
    let agent = Agent::start(
        "include: [ 'pack:linux-node' ]",
        &[
            // A busy processor hides that it would wait: what other tests leave is enough.
            "node_iowait_most=0.1%",
            "node_disk_busy_most=80%",
        ],
        &["--path.procfs", &procfs],
    );
    agent.green(&FILESYSTEMS);
    agent.green(&DISKS);
    for gate in ["node.cpu.pressure", "node.memory.pressure", "node.io.pressure"] {
        assert_eq!(agent.gate(gate)["verdict"], "not_applicable", "{gate}");
    }

    // Three filesystems, each with a fault of its own, and a disk that many write to.
    let _ = fs::write(space.path().join("full"), vec![1; 8 << 20]);
    for n in 0..200 {
        let _ = fs::write(inodes.path().join(n.to_string()), "");
    }
    sh(&format!("mount -o remount,ro {}", readonly.name()));
    let write = |n: usize, stop: &AtomicBool| {
        let mut file = fs::File::create(disk.data().join(n.to_string())).unwrap();
        while !stop.load(Ordering::Relaxed) {
            std::io::Write::write_all(&mut file, &[1; 4096]).unwrap();
            file.sync_data().unwrap();
        }
    };
    meanwhile(24, write, || {
        agent.red("node.fs.space", Some(&space.name()));
        agent.red("node.fs.inodes", Some(&inodes.name()));
        agent.red("node.fs.writable", Some(&readonly.name()));
        for gate in &DISKS[1..] {
            agent.red(gate, Some(disk.name()));
        }
        let row = agent.red("node.disk.latency", Some(disk.name()));
        assert!(row["value"].as_f64().is_some_and(|seconds| seconds >= 0.2), "{row:#}");
        agent.red("node.io.waiting", None);
    });
    fs::remove_file(space.path().join("full")).unwrap();
    for entry in fs::read_dir(inodes.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    sh(&format!("mount -o remount,rw {}", readonly.name()));
    agent.green(&FILESYSTEMS);
    agent.green(&DISKS);

    agent.green(&PROCESSORS);
    burnt(4, || {
        for gate in PROCESSORS {
            agent.red(gate, None);
        }
    });
    agent.green(&PROCESSORS);
}
