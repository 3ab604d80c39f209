//! Storage that hangs, fails or fills, and controllers that are gone.

use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal as Kill;

use super::*;
use crate::machine::{Disk, PATIENCE, Undo, root, sh};

/// The process behind a FUSE mount stops: whoever asks it waits for ever.
#[test]
fn a_hung_mount_is_red_and_costs_one_thread() {
    let disk = Disk::faulty();
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    let point = disk.path("disk").display().to_string();
    watched.until("node.fs.answers", Verdict::Pass);
    assert_eq!(number(&watched.frame, "node.fs.hung", Some(&point)), 0.0);

    disk.signal(Kill::SIGSTOP);
    let finding = watched.until("node.fs.answers", Verdict::Fail);
    assert_eq!(finding.worst, Some(("node".into(), point.clone())));
    assert_eq!(watched.cells.hung(Mono::now()), 1, "one thread hangs");
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let began = Instant::now();
        watched.sample(real_now());
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(node::TICK);
    }
    assert!(slowest < node::TICK, "a tick took {slowest:?}");
    assert_eq!(watched.cells.hung(Mono::now()), 1, "no second while the first hangs");
    match watched.frame.find("node.fs.available", Some(&point)) {
        Some(Signal::Absent(fault)) => assert_eq!(fault.code.word(), "hung"),
        None => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(watched.frame.find("node.fs.available", Some("/")), Some(Signal::Number(_))));

    disk.signal(Kill::SIGCONT);
    watched.until("node.fs.answers", Verdict::Pass);
    assert_eq!(watched.cells.hung(Mono::now()), 0);
}

#[test]
fn a_failing_device_turns_the_filesystems_gate_red() {
    let disk = Disk::faulty().mounted();
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    watched.until("node.fs.errors", Verdict::Pass);

    fs::write(disk.path("inject"), "").unwrap();
    // What is written can't reach the device, and ext4 counts that.
    let fail = |n: u32| {
        let file = fs::File::create(disk.data().join(n.to_string()));
        let _ = file.and_then(|mut file| {
            std::io::Write::write_all(&mut file, &[1; 4096])?;
            file.sync_all()
        });
    };
    let until = Instant::now() + PATIENCE;
    let mut n = 0;
    loop {
        fail(n);
        n += 1;
        watched.sample(real_now());
        let finding = watched.judge().remove("node.fs.errors").unwrap();
        if finding.verdict == Verdict::Fail {
            assert_eq!(finding.worst, Some(("node".into(), disk.name().into())));
            break;
        }
        assert!(Instant::now() < until, "{finding:?}");
        std::thread::sleep(node::TICK);
    }
    fs::remove_file(disk.path("inject")).unwrap();
    watched.until("node.fs.errors", Verdict::Pass);
}

/// A filesystem in memory fills while hours pass for the sampler.
#[test]
fn a_filesystem_that_fills_is_red_before_it_is_full() {
    root();
    let mut node = Recorded::new(true, &SCALED);
    let point = node.folder.path().join("data one");
    sh(&format!("mount -t tmpfs -o size=64m greenlight-test '{}'", point.display()));
    let _undo = Undo(|| drop(Command::new("umount").arg(&point).status()));
    // 15 % is left, and nothing grows.
    fs::write(point.join("base"), vec![1; 54 << 20]).unwrap();
    let minutes = |node: &mut Recorded, count: u32, bytes: usize| {
        for _ in 0..count {
            let file = point.join("growing");
            let more = fs::File::options().create(true).append(true).open(file);
            std::io::Write::write_all(&mut more.unwrap(), &vec![1; bytes]).unwrap();
            node.pass(60, |_| {});
        }
    };
    minutes(&mut node, 30, 0);
    let verdict = |node: &mut Recorded| node.watched.judge().remove("node.fs.filling").unwrap();
    let ours = |finding: &Finding| finding.worst.as_ref().is_some_and(|(_, t)| t == "/data one");
    let found = verdict(&mut node);
    assert!(found.verdict == Verdict::Pass || !ours(&found), "{found:?}");
    // 64 KiB a minute, with less than 8 MiB left: full within two hours.
    minutes(&mut node, 50, 64 << 10);
    let found = verdict(&mut node);
    assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
    assert!(ours(&found), "{found:?}");
    assert!(found.value.is_some_and(|seconds| seconds < 4.0 * 3600.0), "{found:?}");
    fs::remove_file(point.join("base")).unwrap();
    minutes(&mut node, 2, 0);
    let found = verdict(&mut node);
    assert!(found.verdict != Verdict::Fail || !ours(&found), "{found:?}");
}

#[test]
fn a_controller_that_is_not_live_is_red() {
    let mut node = Recorded::new(true, &SCALED);
    let state = node.folder.path().join("sys/class/nvme/nvme0/state");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, "live\n").unwrap();
    let paths = {
        let root = node.folder.path().to_owned();
        Paths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root }
    };
    // The plan asks what there is.
    node.watched = Watched::new(&paths, &SCALED);
    let verdict = |node: &mut Recorded, gate: &str| node.watched.verdicts()[gate];
    node.pass(12, |_| {});
    assert_eq!(verdict(&mut node, "node.nvme.live"), Verdict::Pass);
    // There is no device whose health could be read, and that is no pass.
    assert_eq!(verdict(&mut node, "node.nvme.health"), Verdict::Error);
    for (text, expected) in [("resetting\n", Verdict::Fail), ("live\n", Verdict::Pass)] {
        fs::write(&state, text).unwrap();
        node.pass(12, |_| {});
        assert_eq!(verdict(&mut node, "node.nvme.live"), expected, "{text}");
    }
}

/// Whoever asks a disk for its health makes the kernel count an error, as smartd does.
#[test]
fn an_error_of_a_disk_now_and_then_warns() {
    let mut node = Recorded::new(true, &SCALED);
    node.settle();
    node.pass(1, |c| c.disk_errors += 3);
    node.until_seen("node.disk.errors", |_| {});
    let finding = node.watched.judge().remove("node.disk.errors").unwrap();
    assert!(finding.value.is_some_and(|errors| errors >= 1.0), "{finding:?}");
    assert_eq!(finding.verdict, Verdict::Warn, "{finding:?}");
}
