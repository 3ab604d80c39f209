//! Slow disks, full and read-only filesystems and busy processors, on a kernel without pressure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Agent, Process, Undo, alone, root, sh, until, without_pressure};

/// A block device that takes a fifth of a second for each write, with a filesystem on it.
struct SlowDisk {
    point: PathBuf,
    device: String,
    folder: tempfile::TempDir,
    // In the order in which they end.
    mount: Option<Process>,
    _server: Process,
}

impl SlowDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = |name: &str| path(name).display().to_string();
        let server = Process::start(
            "nbdkit",
            &[
                "-f",
                "-t",
                "64",
                "-U",
                &text("socket"),
                "--filter=delay",
                "memory",
                "64M",
                "delay-write=200ms",
            ],
        );
        until("nbdkit listens", || path("socket").exists());
        fs::write(path("disk"), "").unwrap();
        fs::create_dir(path("data")).unwrap();
        let mount = Process::start("nbdfuse", &[&text("disk"), "--unix", &text("socket")]);
        let mut this = Self {
            point: path("data"),
            device: String::new(),
            folder,
            mount: Some(mount),
            _server: server,
        };
        let disk = this.folder.path().join("disk");
        until("nbdfuse mounts", || fs::metadata(&disk).is_ok_and(|disk| disk.len() > 0));
        this.device = sh(&format!("losetup -f --show {}", disk.display()));
        // Without a journal and without tables made later, so that an idle disk is idle.
        sh(&format!(
            "mkfs.ext4 -q -F -O ^has_journal -E nodiscard,lazy_itable_init=1 {0}
             mount -o noinit_itable {0} {1}",
            this.device,
            this.point.display()
        ));
        this
    }

    /// As the kernel lists it.
    fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let run = |program: &str, arguments: &[&str]| {
            let _ = Command::new(program).args(arguments).status();
        };
        run("umount", &[&self.point.display().to_string()]);
        if !self.device.is_empty() {
            run("losetup", &["-d", &self.device]);
        }
        run("fusermount3", &["-u", &self.folder.path().join("disk").display().to_string()]);
        drop(self.mount.take());
    }
}

/// A small filesystem in memory.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        sh(&format!("mount -t tmpfs -o size=8m,nr_inodes=200 greenlight-test {}", this.name()));
        this
    }

    fn name(&self) -> String {
        self.0.path().display().to_string()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Runs so many threads until it is dropped.
pub(super) fn meanwhile(
    threads: usize,
    work: impl Fn(usize, &AtomicBool) + Sync,
    watch: impl FnOnce(),
) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Undo(|| stop.store(true, Ordering::Relaxed));
        for n in 0..threads {
            let (work, stop) = (&work, &stop);
            scope.spawn(move || work(n, stop));
        }
        watch();
    });
}

const FILESYSTEMS: [&str; 3] = ["node.fs.space", "node.fs.inodes", "node.fs.writable"];
const DISKS: [&str; 4] =
    ["node.io.waiting", "node.disk.busy", "node.disk.queue", "node.disk.latency"];
const PROCESSORS: [&str; 2] = ["node.cpu.busy", "node.cpu.queue"];

#[test]
fn disks_filesystems_and_processors_turn_their_gates_red_and_green_again() {
    root();
    let _alone = alone();
    let disk = SlowDisk::new();
    let (space, inodes, readonly) = (Tmpfs::new(), Tmpfs::new(), Tmpfs::new());
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
        let mut file = fs::File::create(disk.point.join(n.to_string())).unwrap();
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
    let burn = |_: usize, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    let cores = std::thread::available_parallelism().unwrap().get();
    meanwhile(cores * 4, burn, || {
        for gate in PROCESSORS {
            agent.red(gate, None);
        }
    });
    agent.green(&PROCESSORS);
}
