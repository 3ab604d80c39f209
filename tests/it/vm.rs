//! Faults that need another kernel than this machine's: a small machine under software emulation,
//! with Debian's kernel, this machine's root read-only, and the agent inside.
//!
//! What is done in it stands in `tests/vm/*.sh`; a scenario says `ok GATE red` and `ok GATE green`
//! on the serial line, and `FAILED` with the gate's row.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::BINARY;
use crate::machine::alone;

/// The boot takes a few seconds; the rest is waiting for verdicts, on a processor that is emulated.
const PATIENCE: Duration = Duration::from_secs(900);

/// What the scenarios need beyond what is built into the kernel; `modprobe` names what they need.
const MODULES: [&str; 16] = [
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_pci",
    "virtio_net",
    "nf_conntrack",
    "nft_ct",
    "dm-mod",
    "dm-delay",
    "brd",
    "ext4",
    "loop",
    "bonding",
    "veth",
    "raid1",
    "nvme",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command to its end; panics with what it said where it fails.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}; tests/run installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The kernel, and an image of the first files: busybox, the modules, the first script.
fn boot_files(folder: &Path) -> (PathBuf, PathBuf) {
    run(Command::new(root().join("tests/vm/fetch")).env_remove("CARGO_TARGET_DIR"));
    let fetched = root().join("target/vm");
    let version = fs::read_to_string(fetched.join("whole")).unwrap().trim().to_owned();
    let kernel = fetched.join("kernel");
    let first = folder.join("first");
    for name in ["bin", "modules", "proc", "sys", "dev", "host", "top", "all"] {
        fs::create_dir_all(first.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", first.join("bin/busybox")).unwrap();
    fs::copy(root().join("tests/vm/init"), first.join("init")).unwrap();
    run(Command::new("chmod").arg("+x").arg(first.join("init")));
    let mut order: Vec<String> = Vec::new();
    for module in MODULES {
        let shown = run(Command::new("modprobe").arg("-d").arg(&kernel).args([
            "-S",
            &version,
            "--show-depends",
            module,
        ]));
        for file in shown.lines().filter_map(|line| line.trim().strip_prefix("insmod ")) {
            let file = Path::new(file.split(' ').next().unwrap());
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if !order.contains(&name) {
                fs::copy(file, first.join("modules").join(&name)).unwrap();
                order.push(name);
            }
        }
    }
    fs::write(first.join("modules/order"), order.join("\n") + "\n").unwrap();
    let image = folder.join("first.gz");
    let pack = "cd \"$1\" && find . | cpio -o -H newc --quiet | gzip -1 >\"$2\"";
    run(Command::new("sh").args(["-ec", pack, "sh"]).arg(&first).arg(&image));
    (kernel.join(format!("boot/vmlinuz-{version}")), image)
}

/// What a scenario asks for that only the hardware does, by QEMU's machine protocol.
struct Hardware(BufReader<UnixStream>);

impl Hardware {
    fn of(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut hardware = Self(BufReader::new(stream));
        hardware.answer("QMP");
        hardware.command("qmp_capabilities", &json!({}));
        hardware
    }

    fn does(&mut self, words: &str) {
        match words.split_once(' ') {
            Some(("nvme", warning)) => self.command(
                "qom-set",
                &json!({
                    "path": "/machine/peripheral/nvme",
                    "property": "smart_critical_warning",
                    "value": warning.parse::<u8>().unwrap(),
                }),
            ),
            Some(("link", state)) => {
                self.command("set_link", &json!({ "name": "wire", "up": state == "on" }));
            }
            _ => panic!("the hardware can't do {words:?}"),
        }
    }

    fn command(&mut self, name: &str, arguments: &Value) {
        let command = json!({ "execute": name, "arguments": arguments });
        writeln!(self.0.get_mut(), "{command}").unwrap();
        self.answer("return");
    }

    /// Reads until an answer with this key; events come in between.
    fn answer(&mut self, key: &str) {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the machine is gone");
            let answer: Value = serde_json::from_str(&line).unwrap();
            assert!(answer.get("error").is_none(), "{answer}");
            if answer.get(key).is_some() {
                return;
            }
        }
    }
}

/// Runs a scenario of `tests/vm` and returns what it said.
fn scenario(name: &str) -> String {
    // An emulated machine takes all processors of this one.
    let _alone = alone();
    crate::machine::root();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (kernel, image) = boot_files(folder.path());
    // A debug binary is mostly debug information, and the machine reads slowly.
    let agent = folder.path().join("greenlight");
    run(Command::new("strip").arg("-o").arg(&agent).arg(BINARY));
    let vars = folder.path().join("vars");
    fs::write(&vars, crate::faults::SCALED.join("\n")).unwrap();
    let words = format!(
        "console=ttyS0 quiet systemd.show_status=false panic=-1 psi=0 scenario={} greenlight={} vars={}",
        root().join("tests/vm").join(name).display(),
        agent.display(),
        vars.display()
    );
    let disk = folder.path().join("nvme.img");
    fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let log = folder.path().join("serial.log");
    let control = folder.path().join("control");
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-m", "768", "-smp", "4"])
        .args([
            "-netdev",
            "user,id=net,restrict=on",
            "-device",
            "virtio-net-pci,netdev=net,id=wire",
        ])
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", control.display()))
        .args(["-display", "none", "-monitor", "none", "-no-reboot", "-serial"])
        .arg(format!("file:{}", log.display()))
        .args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ])
        .arg("-drive")
        .arg(format!("file={},if=none,id=disk,format=raw", disk.display()))
        .args(["-device", "nvme,drive=disk,serial=greenlight,id=nvme"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", &words])
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("qemu-system-x86_64: {e}; tests/run installs it"));
    let began = Instant::now();
    let mut hardware = None;
    let mut done = 0;
    let ended = loop {
        if machine.try_wait().unwrap().is_some() {
            break true;
        }
        let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let asked = said.lines().filter_map(|line| line.trim().strip_prefix("outside: "));
        for words in asked.skip(done).map(str::to_owned) {
            hardware.get_or_insert_with(|| Hardware::of(&control)).does(&words);
            done += 1;
        }
        if began.elapsed() > PATIENCE {
            break false;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let _ = machine.kill();
    let _ = machine.wait();
    let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    assert!(ended, "{name} did not end within {PATIENCE:?}:\n{said}");
    said
}

#[test]
fn faults_of_another_kernel_turn_their_gates_red_and_green_again() {
    let said = scenario("node.sh");
    assert!(!said.contains("FAILED") && said.contains("vm: ended"), "{said}");
    let seen: BTreeSet<&str> =
        said.lines().filter_map(|line| line.trim().strip_prefix("ok ")).collect();
    for gate in [
        "node.disk.latency",
        "node.disk.queue",
        "node.io.waiting",
        "node.cpu.hot-core",
        "node.cpu.wait",
        "node.cpu.queue",
        "node.cpu.throttled-groups",
        "node.memory.oom",
        "node.md.degraded",
        "node.link.bonds",
        "node.link.carrier",
        "node.link.duplex",
        "node.link.throughput",
        "node.conntrack",
        "node.neighbours",
        "node.nvme.health",
        "node.clock.synchronised",
        "node.clock.offset",
        "node.clock.steps",
        "node.memory.reclaim",
        "kubernetes.swap",
        "kubernetes.forwarding",
        "kubernetes.kernel",
        "kubernetes.inotify",
        "kubernetes.map-count",
        "kubernetes.conntrack",
        "database.huge-pages",
        "database.swap",
        "log.map-count",
        "log.swap",
        "log.receive-buffer",
        "log.backlog",
        "log.inotify",
    ] {
        for colour in ["red", "green"] {
            assert!(seen.contains(format!("{gate} {colour}").as_str()), "{gate} {colour}:\n{said}");
        }
    }
}

#[test]
fn the_unit_starts_reloads_is_watched_and_stops_under_systemd() {
    let said = scenario("unit.sh");
    assert!(!said.contains("FAILED") && said.contains("vm: ended"), "{said}");
    let seen: BTreeSet<&str> =
        said.lines().filter_map(|line| line.trim().strip_prefix("ok ")).collect();
    for step in [
        "started",
        "ready",
        "running",
        "dynamic user",
        "one capability",
        "state kept",
        "judged",
        "nothing hidden",
        "bad plan refused",
        "good plan taken",
        "same process",
        "restarted",
        "watchdog bites",
        "ready again",
        "stopped in order",
    ] {
        assert!(seen.contains(step), "{step}:\n{said}");
    }
    println!("{said}");
}
