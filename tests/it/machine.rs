//! What tests do to the machine that they run on, and undo when they end, also by a panic: mounts,
//! control groups, disks that are slow or fail. It needs root, and fails at once without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything is waited for; other tests keep the machine busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

#[track_caller]
pub(crate) fn root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes mounts, groups or namespaces: run it as root"
    );
}

/// Held by tests that disturb the whole machine: one of them at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a script; panics with what it said where it fails.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until something holds; panics with these words where it does not.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder for what is mounted or looped: its name tells `tests/left` whose it is, where a run is killed.
pub(crate) fn folder() -> tempfile::TempDir {
    let prefix = format!("greenlight-it-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().unwrap()
}

/// Tries for a while, and gives up quietly: devices let go of their files a moment after they were
/// told to.
pub(crate) fn patiently(command: &mut Command) {
    let until = Instant::now() + Duration::from_secs(20);
    while !command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        if Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Undoes something.
pub(crate) struct Undo<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A process that is killed and waited for.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|e| panic!("{command:?}: {e}; tests/run installs it")))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A control group with one limit: version 1 where it has the controller, else version 2.
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    /// The limit's file and what goes into it, for either version.
    pub(crate) fn new(name: &str, controller: &str, v1: [&str; 2], v2: [&str; 2]) -> Self {
        root();
        let top = Path::new("/sys/fs/cgroup");
        let own = top.join(controller);
        let (top, [file, limit]) =
            if own.join("cgroup.procs").exists() { (&*own, v1) } else { (top, v2) };
        let this = Self(top.join(format!("greenlight-it-{}-{name}", std::process::id())));
        fs::create_dir(&this.0).unwrap_or_else(|error| panic!("{}: {error}", this.0.display()));
        fs::write(this.0.join(file), limit).unwrap();
        this
    }

    /// One that may hold so many bytes.
    pub(crate) fn of_memory(name: &str, bytes: u64) -> Self {
        let bytes = bytes.to_string();
        Self::new(name, "memory", ["memory.limit_in_bytes", &bytes], ["memory.max", &bytes])
    }

    pub(crate) fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap()
    }

    /// A command that runs this script inside; `$0` is `argument`.
    pub(crate) fn inside(&self, script: &str, argument: &str) -> Command {
        let script = format!("echo $$ > {}/cgroup.procs; {script}", self.0.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script, argument]);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment after the last process is gone.
        patiently(Command::new("rmdir").arg(&self.0));
    }
}

/// A disk: a plain file, or one that nbdkit holds in memory and nbdfuse serves as a file.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    /// The loop device, once it is mounted.
    pub(crate) device: String,
    // In the order in which they end.
    fuse: Option<Process>,
    server: Option<Process>,
}

impl Disk {
    pub(crate) fn plain() -> Self {
        let this = Self::empty();
        fs::File::create(this.path("disk")).unwrap().set_len(256 << 20).unwrap();
        this
    }

    /// A disk that takes a fifth of a second for each write, whatever else is under way.
    pub(crate) fn slow() -> Self {
        Self::served(&["-t", "64", "--filter=delay", "memory", "64M", "delay-write=200ms"])
    }

    /// A disk that becomes slow by a file `rate` beside it, and fails while there is a file
    /// `inject`.
    pub(crate) fn faulty() -> Self {
        Self::served(&[
            "--filter=error",
            "--filter=rate",
            "memory",
            "256M",
            "error-file=inject",
            "error-rate=100%",
            "error=EIO",
            "burstiness=0.1",
            "rate-file=rate",
        ])
    }

    fn served(arguments: &[&str]) -> Self {
        let mut this = Self::empty();
        let [socket, disk] = ["socket", "disk"].map(|name| this.path(name));
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["-f", "-U", "socket"]).args(arguments).current_dir(this.folder.path());
        this.server = Some(Process::start(&mut nbdkit));
        until("nbdkit listens", || socket.exists());
        fs::write(&disk, "").unwrap();
        let mut nbdfuse = Command::new("nbdfuse");
        this.fuse = Some(Process::start(nbdfuse.arg(&disk).arg("--unix").arg(&socket)));
        until("nbdfuse mounts", || fs::metadata(&disk).is_ok_and(|disk| disk.len() > 0));
        this
    }

    fn empty() -> Self {
        root();
        let folder = folder();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder, device: String::new(), fuse: None, server: None }
    }

    /// With an ext4 filesystem on it: without a journal and without tables made later, so that an
    /// idle disk is idle.
    pub(crate) fn mounted(mut self) -> Self {
        self.device = sh(&format!("losetup -f --show {}", self.path("disk").display()));
        sh(&format!(
            "mkfs.ext4 -q -F -m 0 -O ^has_journal -E nodiscard,lazy_itable_init=1 {0}
             mount -o noinit_itable,errors=continue {0} {1}",
            self.device,
            self.data().display()
        ));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where it is mounted.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// As the kernel lists it.
    pub(crate) fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }

    /// Stops what serves it, or lets it go on: whoever asks meanwhile hangs.
    pub(crate) fn signal(&self, signal: Signal) {
        self.fuse.iter().chain(&self.server).for_each(|process| process.signal(signal));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        let _ = fs::remove_file(self.path("inject"));
        if !self.device.is_empty() {
            patiently(Command::new("umount").arg(self.data()));
            patiently(Command::new("losetup").args(["-d", &self.device]));
        }
        if self.fuse.is_some() {
            patiently(Command::new("fusermount3").arg("-u").arg(self.path("disk")));
        }
        drop((self.fuse.take(), self.server.take()));
    }
}

/// A small filesystem in memory.
pub(crate) struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    pub(crate) fn new(options: &str) -> Self {
        root();
        let this = Self(folder());
        sh(&format!("mount -t tmpfs -o {options} greenlight-test {}", this.name()));
        this
    }

    pub(crate) fn name(&self) -> String {
        self.0.path().display().to_string()
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        patiently(Command::new("umount").arg(self.path()));
    }
}

/// Runs so many threads of this work until `watch` ends.
pub(crate) fn meanwhile(
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

/// Burns all processors, with so many threads for each, until `watch` ends.
pub(crate) fn burnt(for_each: usize, watch: impl FnOnce()) {
    let processors = std::thread::available_parallelism().unwrap().get();
    let burn = |_: usize, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    meanwhile(processors * for_each, burn, watch);
}

/// By the names alone: what nobody made who is gone is never touched.
#[test]
fn what_a_killed_run_left_behind_is_named_and_removed_by_one_line() {
    root();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let ours = format!("greenlight-it-{}-", gone.id());
    let folder = std::env::temp_dir().join(format!("{ours}a b"));
    let at = folder.display();
    let _undo = Undo(|| drop(fs::remove_dir_all(&folder)));
    let device = sh(&format!(
        "mkdir '{at}'; mount -t tmpfs -o size=1m greenlight-test '{at}'
         truncate -s 64K '{at}/disk'; ip netns add {ours}0; losetup -f --show '{at}/disk'"
    ));
    // Of a run that goes on.
    let other = Tmpfs::new("size=1m");
    let look = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/left");
        let output = Command::new(script).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (clean, text) = look();
    assert!(!clean, "{text}");
    for name in [
        format!("the mount {at}\n"),
        format!("the loop device {device} of {at}/disk"),
        format!("the network namespace {ours}0\n"),
    ] {
        assert!(text.contains(&name), "{name:?} is not in\n{text}");
    }
    assert!(!text.contains(&other.name()), "{text}");
    sh(text.lines().last().unwrap());
    let (_, text) = look();
    assert!(!text.contains(&ours), "{text}");
    assert!(
        fs::metadata(other.path().join("..")).is_ok()
            && sh("cat /proc/mounts").contains(&other.name())
    );
}
