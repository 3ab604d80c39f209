//! Memory filled, stalled on, swapped and killed for: the four criteria of S4, each alone, and the
//! memory gates of `linux-node`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Agent, is_green, is_red};
use crate::machine::{Group, Process, Tmpfs, Undo, alone, sh, until};

const PLAN: &str = "include: [ 'pack:linux-node', 'pack:partner-platform' ]";
const S4: &str = "partner.cluster.memory";

/// What a group may hold, and what is pushed through it.
const LIMIT: u64 = 24 << 20;
const MORE: u64 = 64 << 20;

/// A Python program inside the group, ended with what this returns; `size` is [`MORE`].
fn python(group: &Group, code: &str) -> Process {
    let code = format!("import mmap, os, sys, time\nsize = {MORE}\n{code}");
    let mut inside = group.inside("exec python3 -c \"$0\"", &code);
    Process::start(inside.stdout(Stdio::null()))
}

/// Reads a file that does not fit, page by page: the pages that it just lost are read again.
const REREAD: &str = "
file = os.open('FILE', os.O_RDWR | os.O_CREAT | os.O_TRUNC)
for _ in range(size >> 20): os.write(file, b'x' * (1 << 20))
os.fsync(file)
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
memory = mmap.mmap(file, size, prot=mmap.PROT_READ)
memory.madvise(mmap.MADV_RANDOM)
end = time.time() + 120
while time.time() < end:
    for page in range(0, size, 4096): memory[page]
";

/// Writes memory that does not fit, again and again: most of it is swapped out and in.
const SWAP: &str = "
memory = mmap.mmap(-1, size)
end = time.time() + 120
while time.time() < end:
    for page in range(0, size, 4096): memory[page] = 1
";

/// As [`SWAP`], without anywhere to swap to: it is killed.
const GROW: &str = "
memory = mmap.mmap(-1, size)
for page in range(0, size, 4096): memory[page] = 1
";

/// What S4 says once it is red, which must be by the criterion with this threshold.
#[track_caller]
fn s4_red(agent: &Agent, threshold: f64) -> f64 {
    let row = agent.red(S4, None);
    assert_eq!(row["threshold"], threshold, "another criterion decides: {row:#}");
    row["value"].as_f64().unwrap_or_else(|| panic!("no value: {row:#}"))
}

/// Two agents watch the same faults, so that each criterion of S4 decides once by itself: where
/// memory is swapped or a process is killed, work stalls too. One takes any stall for a fault, the
/// other takes none.
#[test]
fn stalls_swapping_and_kills_turn_the_memory_gates_red_and_green_again() {
    let _alone = alone();
    let strict = Agent::start(PLAN, &["memory_stalled_most=0.1%"], &[]);
    let lax = Agent::start(PLAN, &["memory_stalled_most=100%"], &[]);
    let psi = strict.gate("node.memory.pressure")["verdict"] != "not_applicable";
    assert!(psi, "this kernel has no pressure: boot it with psi=1");
    let gates = [
        S4,
        "node.memory.oom",
        "node.memory.pressure",
        "node.memory.major-faults",
        "node.memory.swap",
    ];
    strict.green(&gates);
    lax.green(&[S4]);

    // Stalls alone.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("greenlight-it-{}-reread", std::process::id()));
    let _file = Undo(|| drop(fs::remove_file(&file)));
    let group = Group::of_memory("reread", LIMIT);
    let reading = python(&group, &REREAD.replace("FILE", file.to_str().unwrap()));
    strict.red("node.memory.major-faults", None);
    let stalled = s4_red(&strict, 0.001);
    assert!(stalled > 0.001 && stalled <= 1.0, "{stalled}");
    drop((reading, group));
    strict.green(&gates);

    // A kill, within a group that can't swap.
    lax.green(&[S4]);
    let group = Group::of_memory("kill", LIMIT);
    let mut grown = python(&group, GROW);
    let status = grown.0.wait().unwrap();
    assert!(!status.success(), "it was not killed: is there swap on this machine?");
    let kills = s4_red(&lax, 0.0);
    assert!(kills >= 1.0, "{kills}");
    strict.red("node.memory.oom", None);
    assert_eq!(strict.gate("node.memory.swap")["verdict"], "pass", "nothing was swapped");
    drop((grown, group));
    strict.green(&gates);

    // Swapping.
    lax.green(&[S4]);
    let swap = Swap::on();
    let group = Group::of_memory("swap", LIMIT);
    let swapping = python(&group, SWAP);
    strict.red("node.memory.swap", None);
    strict.red("node.memory.pressure", None);
    // Kills have the same threshold, but nobody kills a hundred in a second.
    let pages = s4_red(&lax, 0.0);
    assert!(pages > 100.0, "{pages} pages swapped in");
    drop((swapping, group, swap));
    strict.green(&gates);
    lax.green(&[S4]);
}

/// A file to swap to, by a loop device, so that any filesystem will do.
struct Swap {
    device: String,
    file: std::path::PathBuf,
}

impl Swap {
    fn on() -> Self {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("greenlight-it-{}-swap", std::process::id()));
        let name = file.display();
        sh(&format!("dd if=/dev/zero of={name} bs=1M count=96 status=none; chmod 600 {name}"));
        let device = sh(&format!("losetup -f --show {name}"));
        let this = Self { device, file };
        sh(&format!("mkswap -q {0}; swapon {0}", this.device));
        this
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        for undo in ["swapoff", "losetup -d"] {
            let _ = Command::new("sh").args(["-c", &format!("{undo} {}", self.device)]).status();
        }
        let _ = fs::remove_file(&self.file);
    }
}

/// Share of the memory that is available, as the kernel says it.
fn available() -> (f64, f64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes = |key: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let total = kilobytes("MemTotal:");
    (kilobytes("MemAvailable:") / total, total * 1024.0)
}

/// Memory filled for real: six hundredths of it, with the thresholds three below what is there.
/// Other tests start and end servers meanwhile, so the thresholds are taken anew where that moved
/// them too far.
#[test]
fn memory_filled_turns_its_gates_red_and_green_again() {
    let _alone = alone();
    let mut seen = Vec::new();
    for _ in 0..5 {
        match filled() {
            Ok(()) => return,
            Err(row) => seen.push(format!("{row:#}")),
        }
    }
    panic!("never green, red and green again: {}", seen.join("\n"));
}

fn filled() -> Result<(), Value> {
    const WITHIN: Duration = Duration::from_secs(25);
    const GATES: [&str; 2] = [S4, "node.memory.available"];
    let (share, total) = available();
    let least = |below: f64| format!("{:.2}%", (share - below) * 100.0);
    let agent = Agent::start(
        PLAN,
        &[
            &format!("memory_available_least={}", least(0.03)),
            &format!("node_memory_available_least={}", least(0.03)),
            &format!("node_memory_available_warn={}", least(0.025)),
            // Not the subject here.
            "memory_stalled_most=100%",
        ],
        &[],
    );
    for gate in GATES {
        agent.wait(gate, WITHIN, is_green)?;
    }
    let mounted = Tmpfs::new("size=50%");
    let at = mounted.name();
    let mut file = fs::File::create(mounted.path().join("full")).unwrap();
    let mebibyte = vec![1; 1 << 20];
    let mut left = total * 0.06;
    while left > 0.0 {
        file.write_all(&mebibyte).unwrap();
        left -= mebibyte.len() as f64;
    }
    drop(file);
    for gate in GATES {
        let row = agent.wait(gate, WITHIN, is_red)?;
        let [value, threshold] =
            ["value", "threshold"].map(|key| row[key].as_f64().unwrap_or(f64::NAN));
        assert!(value < threshold && threshold < share, "{row:#}");
    }
    drop(mounted);
    until("unmounted", || !fs::read_to_string("/proc/self/mounts").unwrap().contains(&at));
    for gate in GATES {
        agent.wait(gate, WITHIN, is_green)?;
    }
    Ok(())
}
