//! Real faults, on the real kernel: each gate red while the fault lasts, green when it is gone.
//! They need root, and fail at once without it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::machine::{
    Disk, Group, PATIENCE, Process, Tmpfs, Undo, burnt, meanwhile, patiently, root, sh, until,
};
use crate::netns::{Netns, wire};

impl Watched {
    /// Samples every second until the gate has the verdict.
    pub(super) fn until(&mut self, gate: &str, verdict: Verdict) -> Finding {
        self.until_all(&[(gate, verdict)]);
        self.judge().remove(gate).unwrap()
    }

    /// Samples every second until this holds of the gate.
    fn until_it(&mut self, gate: &str, holds: impl Fn(&Finding) -> bool) -> Finding {
        let began = Instant::now();
        loop {
            let at = Instant::now();
            self.sample(real_now());
            let finding = self.judge().remove(gate).unwrap();
            if holds(&finding) {
                return finding;
            }
            assert!(began.elapsed() < PATIENCE, "{gate}: {finding:?}");
            std::thread::sleep(node::TICK.saturating_sub(at.elapsed()));
        }
    }

    pub(super) fn until_all(&mut self, wanted: &[(&str, Verdict)]) {
        let began = Instant::now();
        loop {
            let at = Instant::now();
            self.sample(real_now());
            let findings = self.judge();
            if wanted.iter().all(|(gate, verdict)| findings[*gate].verdict == *verdict) {
                return;
            }
            for (gate, verdict) in wanted {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{gate} is not {verdict:?} after {PATIENCE:?}: {:?}",
                    findings[*gate]
                );
            }
            std::thread::sleep(node::TICK.saturating_sub(at.elapsed()));
        }
    }
}

#[test]
fn a_full_and_a_read_only_filesystem_are_red_until_they_are_mended() {
    let tmpfs = Tmpfs::new("size=8m,nr_inodes=200");
    let (point, at) = (tmpfs.path(), tmpfs.name());
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    let ours = |finding: &Finding| {
        let worst = finding.worst.as_ref().map(|(check, target)| (check.as_str(), target.as_str()));
        assert_eq!(worst, Some(("node", at.as_str())), "{finding:?}");
    };
    watched.until_all(&[
        ("node.fs.space", Verdict::Pass),
        ("node.fs.inodes", Verdict::Pass),
        ("node.fs.writable", Verdict::Pass),
    ]);

    fs::write(point.join("full"), vec![1; 8 << 20]).unwrap_or_default();
    ours(&watched.until("node.fs.space", Verdict::Fail));
    fs::remove_file(point.join("full")).unwrap();
    watched.until("node.fs.space", Verdict::Pass);

    for n in 0..198 {
        fs::write(point.join(n.to_string()), "").unwrap_or_default();
    }
    ours(&watched.until("node.fs.inodes", Verdict::Fail));
    sh(&format!("rm {at}/*"));
    watched.until("node.fs.inodes", Verdict::Pass);

    sh(&format!("mount -o remount,ro {at}"));
    ours(&watched.until("node.fs.writable", Verdict::Fail));
    sh(&format!("mount -o remount,rw {at}"));
    watched.until("node.fs.writable", Verdict::Pass);
}

/// A process in a namespace, so that its /proc shows the namespace's interfaces.
pub(super) struct Inside(Process);

impl Inside {
    pub(super) fn id(&self) -> u32 {
        self.0.0.id()
    }

    pub(super) fn of(namespace: &Netns) -> Self {
        let mut sleep = Command::new("ip");
        sleep.args(["netns", "exec", namespace.name(), "sleep", "1000"]);
        let this = Self(Process::start(&mut sleep));
        // `ip` becomes `sleep` once it is inside.
        let comm = format!("/proc/{}/comm", this.id());
        until("inside", || fs::read_to_string(&comm).unwrap().trim() == "sleep");
        this
    }
}

/// Sends frames of a protocol that nobody speaks: the receiver drops each, and counts it.
fn unwanted(namespace: &Netns, interface: &str, count: u32) {
    namespace.sh(&format!(
        "python3 -c \"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('{interface}', 0))
frame = b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0\\1' + b'\\x88\\xb5' + b'greenlight' * 5
for _ in range({count}): s.send(frame)
\""
    ));
}

#[test]
fn dropped_packets_are_counted_exactly_and_turn_their_gate_red() {
    root();
    let (near, far) = wire(1500, 1500);
    let inside = Inside::of(&far);
    let view = View::new(inside.id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    watched.until("node.link.drops", Verdict::Pass);
    let drops = |watched: &Watched| number(&watched.frame, "node.link.drops", Some("e0"));
    let bytes = |watched: &Watched, what: &str| exported(&watched.frame, what, &["e0", "receive"]);
    let [dropped, packets] =
        [drops(&watched), bytes(&watched, "greenlight_node_network_packets_total")];

    unwanted(&near, "e0", 7);
    watched.sample(real_now());
    assert_eq!(drops(&watched) - dropped, 7.0);
    assert!(bytes(&watched, "greenlight_node_network_packets_total") - packets >= 7.0);
    assert_eq!(watched.judge()["node.link.drops"].verdict, Verdict::Pass);

    unwanted(&near, "e0", 7000);
    let finding = watched.until("node.link.drops", Verdict::Fail);
    assert_eq!(finding.worst, Some(("node".into(), "e0".into())));
    watched.until("node.link.drops", Verdict::Pass);
}

#[test]
fn damaged_packets_turn_their_gate_red() {
    root();
    let (near, far) = wire(1500, 1500);
    let address = far.sh("ip -4 -o addr show dev e0").split_whitespace().nth(3).unwrap().to_owned();
    let address = address.split('/').next().unwrap().to_owned();
    far.sh("ip link add vx0 type vxlan id 7 dev e0 dstport 4789 && ip link set vx0 up");
    let inside = Inside::of(&far);
    let view = View::new(inside.id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    watched.until("node.link.errors", Verdict::Pass);
    let before = number(&watched.frame, "node.link.errors", Some("vx0"));
    near.send_damaged(&address, 9);
    let finding = watched.until("node.link.errors", Verdict::Fail);
    assert_eq!(finding.worst, Some(("node".into(), "vx0".into())));
    assert_eq!(number(&watched.frame, "node.link.errors", Some("vx0")) - before, 9.0);
    watched.until("node.link.errors", Verdict::Pass);
}

#[test]
fn a_kill_for_want_of_memory_turns_its_gate_red() {
    root();
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    watched.until("node.memory.oom", Verdict::Pass);
    let group = Group::of_memory("oom", 32 << 20);
    let before = number(&watched.frame, "node.oom.kills", None);
    let status = group.inside("exec tail /dev/zero", "").stdout(Stdio::null()).status().unwrap();
    assert!(!status.success(), "it was not killed");
    watched.until("node.memory.oom", Verdict::Fail);
    assert!(number(&watched.frame, "node.oom.kills", None) > before);
    watched.until("node.memory.oom", Verdict::Pass);
}

#[test]
fn burnt_processors_turn_their_gates_red() {
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    let psi = node::facts(&view.paths())["psi"] == "true";
    let waiting = if psi { "node.cpu.pressure" } else { "node.cpu.queue" };
    burnt(4, || {
        watched.until_all(&[("node.cpu.busy", Verdict::Fail), (waiting, Verdict::Fail)]);
    });
    // Idle they are green; other tests may keep them busy until all of those are done.
    let began = Instant::now();
    while began.elapsed() < PATIENCE * 5 {
        watched.sample(real_now());
        let verdicts = watched.verdicts();
        if verdicts["node.cpu.busy"] <= Verdict::Warn && verdicts[waiting] <= Verdict::Warn {
            return;
        }
        std::thread::sleep(node::TICK);
    }
    panic!("still red: {:#?}", watched.not_green());
}

/// A group that may take a fifth of a processor and wants one.
#[test]
fn a_throttled_group_turns_its_gate_red_and_is_named() {
    let quota = [["cpu.cfs_quota_us", "20000"], ["cpu.max", "20000 100000"]];
    let group = Group::new("throttled", "cpu", quota[0], quota[1]);
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    assert_eq!(node::facts(&view.paths())["cgroup_quota"], "true");
    watched.until("node.cpu.throttled-groups", Verdict::Pass);
    let burner = Process::start(&mut group.inside("while :; do :; done", ""));
    let finding = watched.until("node.cpu.throttled-groups", Verdict::Fail);
    assert!(finding.value.unwrap() > 0.25, "{finding:?}");
    let throttled =
        exported(&watched.frame, "greenlight_node_cgroup_throttled_ratio", &[group.name()]);
    assert!(throttled > 0.25 && throttled <= 1.0, "{throttled}");
    drop(burner);
    watched.until("node.cpu.throttled-groups", Verdict::Pass);
}

/// The limits are those of the whole machine, so the thresholds are scaled and not the limits.
#[test]
fn leaked_files_and_tasks_turn_their_gates_red() {
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    watched.sample(real_now());
    let [files, tasks] =
        ["node.files.used", "node.tasks.used"].map(|series| number(&watched.frame, series, None));
    let limit = exported(&watched.frame, "greenlight_node_open_files_limit", &[]);
    let tasks_limit = exported(&watched.frame, "greenlight_node_tasks_limit", &[]);
    // What other tests open meanwhile must not decide: thousands against their hundreds.
    let percent = |share: f64| format!("{:.6}%", share * 100.0);
    let (files_most, tasks_most) =
        (percent(files + 4000.0 / limit), percent(tasks + 500.0 / tasks_limit));
    let mut vars = SCALED.to_vec();
    vars.extend([
        ("node_files_most", files_most.as_str()),
        ("node_files_warn", files_most.as_str()),
        ("node_tasks_most", tasks_most.as_str()),
        ("node_tasks_warn", tasks_most.as_str()),
    ]);
    let mut watched = Watched::new(&view.paths(), &vars);
    watched.until_all(&[("node.files", Verdict::Pass), ("node.tasks", Verdict::Pass)]);
    let leak = "import os, threading, time\n\
        files = [os.open('/dev/null', os.O_RDONLY) for _ in range(9000)]\n\
        for _ in range(1000): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n\
        time.sleep(600)";
    let limited = ["-c", "ulimit -n 12000; exec python3 -c \"$0\"", leak];
    let leaking = Process::start(Command::new("sh").args(limited));
    watched.until_all(&[("node.files", Verdict::Fail), ("node.tasks", Verdict::Fail)]);
    let open = exported(&watched.frame, "greenlight_node_open_files", &[]);
    assert!(open / limit - files > 8000.0 / limit, "{open} files are open");
    drop(leaking);
    watched.until_all(&[("node.files", Verdict::Pass), ("node.tasks", Verdict::Pass)]);
}

/// A write to a frozen filesystem hangs until it is thawed.
#[test]
fn a_hung_task_turns_its_gate_red() {
    root();
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    let timeout = Path::new("/proc/sys/kernel/hung_task_timeout_secs");
    if node::facts(&view.paths())["hung_tasks"] == "false" {
        // Kernels before 6.13 don't count them: then the gate must say that it can't be judged.
        watched.until("node.tasks.hung", Verdict::NotApplicable);
        return;
    }
    let folder = crate::machine::folder();
    let at = folder.path().display();
    sh(&format!(
        "truncate -s 16M {at}/disk; mkfs.ext4 -q {at}/disk; mkdir {at}/data; \
         mount -o loop {at}/disk {at}/data"
    ));
    let before = fs::read_to_string(timeout).unwrap();
    let _undo = Undo(|| {
        let _ = fs::write(timeout, &before);
        let point = format!("{at}/data");
        let _ = Command::new("fsfreeze").args(["-u", &point]).stderr(Stdio::null()).status();
        patiently(Command::new("umount").arg(&point));
    });
    watched.until("node.tasks.hung", Verdict::Pass);
    fs::write(timeout, "5").unwrap();
    sh(&format!("fsfreeze -f {at}/data"));
    let mut writer =
        Command::new("sh").args(["-c", &format!("echo x > {at}/data/x")]).spawn().unwrap();
    watched.until("node.tasks.hung", Verdict::Fail);
    assert!(number(&watched.frame, "node.procs.hung", None) >= 1.0);
    sh(&format!("fsfreeze -u {at}/data"));
    writer.wait().unwrap();
    watched.until("node.tasks.hung", Verdict::Pass);
}

#[test]
fn a_slow_disk_turns_its_gates_red() {
    let disk = Disk::slow().mounted();
    let view = View::new(std::process::id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    // Disks of other tests come and go meanwhile.
    let ours = |finding: &Finding| finding.worst == Some(("node".into(), disk.name().into()));

    let write = |n: usize, stop: &AtomicBool| {
        let mut file = fs::File::create(disk.data().join(n.to_string())).unwrap();
        while !stop.load(Ordering::Relaxed) {
            std::io::Write::write_all(&mut file, &[1; 4096]).unwrap();
            file.sync_all().unwrap();
        }
    };
    meanwhile(3, write, || {
        let finding =
            watched.until_it("node.disk.latency", |it| it.verdict == Verdict::Fail && ours(it));
        assert!(finding.value.is_some_and(|value| value > 0.15), "{finding:?}");
        if node::facts(&view.paths())["psi"] == "true" {
            watched.until("node.io.pressure", Verdict::Fail);
        }
    });
    watched.until_it("node.disk.latency", |it| it.verdict != Verdict::Fail || !ours(it));
}
