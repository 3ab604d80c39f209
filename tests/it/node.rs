//! The node and its pack: a recorded node that is idle is green, and every gate of `linux-node`
//! turns red on its fault and green again when the fault is gone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenlight::client::kernel::ClockState;
use greenlight::gate::{self, Evidence, Finding, Span, Standing, Verdict};
use greenlight::lanes::Cells;
use greenlight::node::{self, Frame, Paths, ReadClock, Sampler, Signal};
use greenlight::plan::load::Inputs;
use greenlight::plan::{Facts, Plan};
use greenlight::series::{Cadence, NODE_CHECK, TrackKey, Tracks, Value};
use greenlight::time::{Mono, Now, Wall};

mod clock;
mod faults;
mod listeners;
mod network;
mod partner;
mod queues;
mod real;
mod sockets;
mod storage;
mod variants;

/// Every window of the pack, and the fewest samples, made small; no threshold is touched.
const SCALED: [(&str, &str); 16] = [
    ("node_window", "6s"),
    ("node_oom_window", "6s"),
    ("node_iowait_window", "6s"),
    ("node_blocked_window", "6s"),
    ("node_disk_queue_window", "6s"),
    ("node_errors_window", "6s"),
    ("node_link_window", "6s"),
    ("node_core_window", "6s"),
    ("node_hung_window", "6s"),
    ("node_clock_window", "6s"),
    // What happens once, and what is read every ten seconds.
    ("node_clock_steps_window", "24s"),
    ("node_hardware_window", "24s"),
    ("node_bond_window", "6s"),
    ("node_udp_window", "6s"),
    ("node_queue_window", "6s"),
    ("node_samples", "3"),
];

/// The pack over a node: samples it, and judges every gate.
struct Watched {
    plan: Plan,
    tracks: Tracks,
    standings: BTreeMap<String, Standing>,
    load: Vec<Span>,
    sampler: Sampler,
    cells: Cells,
    frame: Frame,
    since: Option<Mono>,
    now: Now,
}

impl Watched {
    fn new(paths: &Paths, vars: &[(&str, &str)]) -> Self {
        let cells = Cells::new();
        Self::with(paths, vars, Sampler::new(paths, &cells), cells)
    }

    /// `cells` are the sampler's.
    fn with(paths: &Paths, vars: &[(&str, &str)], sampler: Sampler, cells: Cells) -> Self {
        Self::over("include: [ 'pack:linux-node' ]", paths, vars, sampler, cells)
    }

    fn over(
        text: &str,
        paths: &Paths,
        vars: &[(&str, &str)],
        sampler: Sampler,
        cells: Cells,
    ) -> Self {
        let inputs = Inputs {
            texts: vec![("plan.yaml".into(), text.into())],
            vars: vars.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            ..Inputs::default()
        };
        let facts = Facts { hostname: "node-1".into(), facts: node::facts(paths) };
        let plan = Plan::compile(&inputs, &facts).unwrap_or_else(|e| panic!("{}", e.render(false)));
        let mut demands = gate::demands(&plan.gates);
        demands.retain(|demand| demand.selection.metric.series.is_some());
        Self {
            plan,
            tracks: Tracks::new(demands),
            standings: BTreeMap::new(),
            load: Vec::new(),
            sampler,
            cells,
            frame: Frame::default(),
            since: None,
            now: Now::default(),
        }
    }

    /// Takes one second of the node at this instant.
    fn sample(&mut self, now: Now) {
        self.now = now;
        let since = *self.since.get_or_insert(now.mono);
        let before = self.frame.layout.generation;
        self.sampler.sample(now, &mut self.frame);
        if self.frame.layout.generation != before {
            // As in the agent, tracks go with their instances: another test's disk, say.
            let layout = &self.frame.layout;
            self.tracks.retain(|key| {
                layout.slots.iter().any(|def| {
                    def.metric == key.metric
                        && def.instance().map_or("", |instance| instance) == &*key.target
                })
            });
        }
        for (def, signal) in self.frame.iter().filter(|(def, _)| def.judged()) {
            let key = TrackKey {
                metric: def.metric,
                check: Arc::from(NODE_CHECK),
                target: def.instance().cloned().unwrap_or_else(|| Arc::from("")),
                labels: Vec::new(),
            };
            let value = match signal {
                Signal::Number(value) => Value::Number(value),
                Signal::Nothing => Value::Nothing,
                Signal::Absent(_) => Value::Inconclusive,
            };
            let cadence = Cadence::every(node::TICK, since);
            self.tracks.push(&key, cadence, now.mono, value, now.mono);
        }
    }

    fn judge(&mut self) -> BTreeMap<String, Finding> {
        let mut findings = BTreeMap::new();
        for gate in &self.plan.gates {
            let standing = self.standings.entry(gate.id.clone()).or_default();
            let evidence = Evidence { tracks: &self.tracks, journeys: &[], load: &self.load };
            let (finding, after) = gate::judge(gate, &evidence, standing, self.now);
            *standing = after;
            findings.insert(gate.id.clone(), finding);
        }
        findings
    }

    fn verdicts(&mut self) -> BTreeMap<String, Verdict> {
        self.judge().into_iter().map(|(id, finding)| (id, finding.verdict)).collect()
    }

    /// The gates that are neither passed nor not applicable, with what they say.
    fn not_green(&mut self) -> Vec<String> {
        let green = |v: Verdict| matches!(v, Verdict::Pass | Verdict::NotApplicable);
        // Where little is left on the machine that tests run on, twenty minutes must be known; and
        // what other tests and builds write there is no fault of the made-up node.
        let young = |id: &str, v: Verdict| {
            id == "node.fs.filling" && matches!(v, Verdict::Open | Verdict::Warn)
        };
        let findings = self
            .judge()
            .into_iter()
            .filter(|(id, finding)| !green(finding.verdict) && !young(id, finding.verdict));
        findings.map(|(id, finding)| format!("{id}: {finding:?}")).collect()
    }
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The counters of a node that is made up second by second, in the kernel's units.
#[derive(Clone, Debug)]
struct Counters {
    user: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
    running: u64,
    blocked: u64,
    load: f64,
    available_kb: u64,
    /// Microseconds of stall: cpu some, memory some, memory full, io some, io full, irq full.
    pressure: [u64; 6],
    major_faults: u64,
    swap_in: u64,
    swap_out: u64,
    stalls: u64,
    oom_kills: u64,
    requests: u64,
    request_ms: u64,
    busy_ms: u64,
    queue_ms: u64,
    flushes: u64,
    flush_ms: u64,
    disk_errors: u64,
    array_lacks: bool,
    array_failed: bool,
    fs_errors: u64,
    errors: u64,
    drops: u64,
    root_readonly: bool,
    softirq: u64,
    /// Ticks that the second processor worked alone.
    hot: u64,
    /// Nanoseconds that tasks waited for each processor.
    wait: u64,
    refaults: u64,
    throttles: u64,
    corrected: u64,
    uncorrected: u64,
    committed_kb: u64,
    damaged_kb: u64,
    swap_kb: u64,
    open_files: u64,
    tasks: u64,
    hung: u64,
    /// Milliseconds by which the wall clock is off against the monotonic one.
    wall_ms: i64,
    clock: ClockState,
    network: network::Counters,
}

/// A second in which hardly anything happens, on two processors.
fn idle(c: &mut Counters) {
    c.user += 4;
    c.idle += 195;
    c.iowait += 1;
    (c.running, c.blocked, c.load, c.available_kb) = (1, 0, 0.05, 24_000_000);
    for stall in &mut c.pressure {
        *stall += 500;
    }
    c.major_faults += 1;
    c.requests += 5;
    c.request_ms += 10;
    c.busy_ms += 8;
    c.queue_ms += 10;
    c.flushes += 1;
    c.flush_ms += 2;
    c.drops += 1_200;
    (c.root_readonly, c.array_lacks, c.array_failed, c.swap_kb) = (false, false, false, 0);
    c.wait += 2_000_000;
    c.refaults += 3;
    (c.committed_kb, c.damaged_kb, c.open_files, c.tasks) = (1_100_000, 0, 677, 200);
    c.clock = ClockState { offset: -0.000_4, max_error: 0.02, synchronised: true, ..c.clock };
    network::idle(&mut c.network);
}

struct Recorded {
    folder: tempfile::TempDir,
    counters: Counters,
    watched: Watched,
    second: i64,
    clock: Arc<Mutex<ClockState>>,
}

impl Recorded {
    fn new(pressure: bool, vars: &[(&str, &str)]) -> Self {
        Self::over("include: [ 'pack:linux-node' ]", pressure, vars)
    }

    fn over(plan: &str, pressure: bool, vars: &[(&str, &str)]) -> Self {
        let folder = crate::machine::folder();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/node/idle");
        copied(&fixture, folder.path());
        // Health comes by an ioctl and not by a file: `storage` has it.
        fs::remove_dir_all(folder.path().join("sys/class/nvme")).unwrap();
        let stalls = folder.path().join("proc/pressure");
        if pressure {
            fs::write(stalls.join("irq"), "").unwrap();
        } else {
            fs::remove_dir_all(stalls).unwrap();
        }
        for mounted in ["data one", "media/disc", "mnt/share", "old", "run"] {
            fs::create_dir_all(folder.path().join(mounted)).unwrap();
        }
        let counters = Counters {
            user: 40_000,
            idle: 250_000,
            iowait: 1000,
            steal: 100,
            running: 1,
            blocked: 0,
            load: 0.05,
            available_kb: 24_000_000,
            pressure: [1_000_000; 6],
            major_faults: 1000,
            swap_in: 10,
            swap_out: 10,
            stalls: 10,
            oom_kills: 2,
            requests: 1000,
            request_ms: 5000,
            busy_ms: 4000,
            queue_ms: 5000,
            flushes: 10,
            flush_ms: 40,
            disk_errors: 3,
            array_lacks: false,
            array_failed: false,
            fs_errors: 0,
            errors: 3,
            drops: 100,
            root_readonly: false,
            softirq: 100,
            hot: 0,
            wait: 1_000_000,
            refaults: 300,
            throttles: 1,
            corrected: 2,
            uncorrected: 0,
            committed_kb: 1_100_000,
            damaged_kb: 0,
            swap_kb: 0,
            open_files: 677,
            tasks: 200,
            hung: 0,
            wall_ms: 0,
            clock: ClockState::default(),
            network: network::Counters::default(),
        };
        let root = folder.path().to_owned();
        let paths = Paths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root };
        fs::write(paths.procfs.join("sys/vm/overcommit_memory"), "2\n").unwrap();
        let clock = Arc::new(Mutex::new(ClockState::default()));
        let told = Arc::clone(&clock);
        let told: ReadClock = Box::new(move || Ok(*told.lock().unwrap()));
        let cells = Cells::new();
        let sampler = Sampler::with_clock(&paths, &cells, told);
        let watched = Watched::over(plan, &paths, vars, sampler, cells);
        let this = Self { folder, counters, watched, second: 0, clock };
        this.write();
        this
    }

    fn write(&self) {
        let c = &self.counters;
        let put = |file: &str, text: String| {
            fs::write(self.folder.path().join("proc").join(file), text).unwrap();
        };
        let (user, idle) = (c.user, c.idle);
        let modes = |user, idle, softirq| {
            format!("{user} 0 0 {idle} {} 0 {softirq} {} 0 0", c.iowait, c.steal)
        };
        // What one of them does more than the other is told by the counters of the second.
        let mut stat = format!(
            "cpu {}\ncpu0 {}\ncpu1 {}\nctxt 1\nbtime 1795374898\n",
            modes(user + c.hot / 2, idle - (c.hot + c.softirq) / 2, c.softirq / 2),
            modes(user, idle - c.softirq, c.softirq),
            modes(user + c.hot, idle - c.hot, 0),
        );
        let _ =
            writeln!(stat, "processes 9\nprocs_running {}\nprocs_blocked {}", c.running, c.blocked);
        put("stat", stat);
        put("loadavg", format!("{:.2} 0.10 0.10 1/{} 300\n", c.load * 2.0, c.tasks));
        put(
            "meminfo",
            format!(
                "MemTotal: 25000000 kB\nMemAvailable: {} kB\nCommitLimit: 14000000 kB\n\
                 Committed_AS: {} kB\nHardwareCorrupted: {} kB\nSwapTotal: {} kB\n",
                c.available_kb, c.committed_kb, c.damaged_kb, c.swap_kb
            ),
        );
        let waits = |cpu| format!("cpu{cpu} 0 0 0 0 0 0 212340987123 {} 9\n", c.wait);
        put("schedstat", format!("version 15\ntimestamp 1\n{}{}", waits(0), waits(1)));
        put("sys/fs/file-nr", format!("{}\t0\t2466170\n", c.open_files));
        put("sys/kernel/hung_task_detect_count", format!("{}\n", c.hung));
        let devices = "../sys/devices/system";
        let heat = "thermal_throttle/core_throttle_count";
        put(&format!("{devices}/cpu/cpu1/{heat}"), format!("{}\n", c.throttles));
        put(&format!("{devices}/edac/mc/mc0/ce_count"), format!("{}\n", c.corrected));
        put(&format!("{devices}/edac/mc/mc1/ue_count"), format!("{}\n", c.uncorrected));
        *self.clock.lock().unwrap() = c.clock;
        put(
            "vmstat",
            format!(
                "pswpin {}\npswpout {}\nallocstall_normal {}\npgmajfault {}\noom_kill {}\n\
                 workingset_refault_file 9000\nworkingset_restore_file {}\n",
                c.swap_in, c.swap_out, c.stalls, c.major_faults, c.oom_kills, c.refaults
            ),
        );
        let [cpu, memory_some, memory_full, io_some, io_full, irq] = c.pressure;
        let psi =
            |some, full| format!("some avg10=0.00 total={some}\nfull avg10=0.00 total={full}\n");
        if self.folder.path().join("proc/pressure").exists() {
            put("pressure/cpu", psi(cpu, 0));
            put("pressure/memory", psi(memory_some, memory_full));
            put("pressure/io", psi(io_some, io_full));
            put("pressure/irq", format!("full avg10=0.00 total={irq}\n"));
        }
        put(
            "diskstats",
            format!(
                "8 0 sda 5 0 40 9 {} 0 800 {} 0 {} {} 0 0 0 0 {} {}\n\
                 8 16 sdb 9 0 80 9 9 0 80 9 0 9 18 0 0 0 0 0 0\n",
                c.requests, c.request_ms, c.busy_ms, c.queue_ms, c.flushes, c.flush_ms
            ),
        );
        let (disks, up) = if c.array_lacks {
            ("sdd1[1](F) sdc1[0]", "[2/1] [U_]")
        } else if c.array_failed {
            // A spare took its place.
            ("sdd1[1] sdc1[0] sde1[2](F)", "[2/2] [UU]")
        } else {
            ("sdd1[1] sdc1[0]", "[2/2] [UU]")
        };
        put(
            "mdstat",
            format!(
                "Personalities : [raid1]\nmd0 : active raid1 {disks}\n      976 blocks {up}\n\n\
                 unused devices: <none>\n"
            ),
        );
        let sys = self.folder.path().join("sys");
        fs::write(sys.join("block/sda/device/ioerr_cnt"), format!("{:#x}\n", c.disk_errors))
            .unwrap();
        fs::write(sys.join("fs/ext4/sda1/errors_count"), format!("{}\n", c.fs_errors)).unwrap();
        put("net/dev", c.network.net_dev(c.errors, c.drops));
        c.network.write(self.folder.path());
        let root = if c.root_readonly { "ro" } else { "rw" };
        put(
            "1/mountinfo",
            format!(
                "27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 {root},errors=remount-ro\n\
                 28 27 8:16 / /data\\040one rw shared:9 - xfs /dev/sdb rw\n"
            ),
        );
    }

    /// Lets seconds pass, each of them idle and then made worse by the fault.
    fn pass(&mut self, seconds: i64, fault: impl Fn(&mut Counters)) {
        for _ in 0..seconds {
            idle(&mut self.counters);
            fault(&mut self.counters);
            self.write();
            self.second += 1;
            // Long before this machine booted, so that no answer of its filesystems looks old.
            let mono = Mono::from_secs(self.second - 10_000_000);
            let wall = Wall::from_secs(1_800_000_000 + self.second);
            let wall = Wall(wall.0 + self.counters.wall_ms * 1_000_000);
            self.watched.sample(Now { mono, wall });
            // A second here is far shorter than one: what cells were asked is waited for, and no
            // file changes while they read it.
            let patience = std::time::Instant::now() + Duration::from_secs(20);
            while self.watched.cells.in_use() > 0 && std::time::Instant::now() < patience {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    /// Lets as many seconds pass as the rarest readings are apart, until a gate passes no more.
    fn until_seen(&mut self, gate: &str, fault: fn(&mut Counters)) {
        let mut left = 0..12;
        while self.watched.judge()[gate].verdict == Verdict::Pass && left.next().is_some() {
            self.pass(1, fault);
        }
    }

    fn settle(&mut self) {
        // Speed, duplex and bonds are read by a cell, which takes its time.
        network::wait(self);
        self.pass(40, |_| {});
        let left = self.watched.not_green();
        assert!(left.is_empty(), "an idle node is not green: {left:#?}");
    }
}

/// The pack as it is shipped, over as long as its longest window.
#[test]
fn an_idle_recorded_node_is_green_with_linux_node() {
    for pressure in [true, false] {
        let mut node = Recorded::new(pressure, &[]);
        let covering = i64::try_from(node.watched.plan.covering_time().as_secs()).unwrap();
        assert_eq!(covering, 30 * 60 + 1);
        node.pass(60, |_| {});
        let early = node.watched.verdicts();
        assert!(early.values().all(|v| *v != Verdict::Fail), "{early:?}");
        assert_eq!(early["node.cpu.busy"], Verdict::Open);
        node.pass(covering + 1 - 60, |_| {});
        let left = node.watched.not_green();
        assert!(left.is_empty(), "pressure {pressure}: {left:#?}");
        // Of two gates for the same thing one applies.
        let verdicts = node.watched.verdicts();
        for (with, without) in [
            ("node.cpu.pressure", "node.cpu.queue"),
            ("node.memory.pressure", "node.memory.reclaim"),
            ("node.io.pressure", "node.io.waiting"),
        ] {
            let expected = [Verdict::Pass, Verdict::NotApplicable];
            let found = [verdicts[with], verdicts[without]];
            assert_eq!(found.contains(&expected[0]), found.contains(&expected[1]));
            assert_eq!(verdicts[with] == Verdict::Pass, pressure);
        }
    }
}

/// A compile job on all processors: only the gates of the processors may be red.
#[test]
fn a_recorded_compile_job_is_red_for_the_processors_only() {
    for pressure in [true, false] {
        let mut node = Recorded::new(pressure, &SCALED);
        node.settle();
        node.pass(17, |c| {
            c.user += 195;
            c.idle -= 195;
            (c.running, c.load, c.available_kb) = (9, 4.5, 15_000_000);
            c.wait += 3_000_000_000;
            c.pressure[0] += 900_000;
            c.pressure[3] += 30_000;
            c.major_faults += 40;
            c.requests += 60;
            c.request_ms += 300;
            c.busy_ms += 200;
            c.queue_ms += 300;
        });
        let verdicts = node.watched.verdicts();
        let red: Vec<&str> =
            verdicts.iter().filter(|(_, v)| **v == Verdict::Fail).map(|(id, _)| &**id).collect();
        let queue = if pressure { "node.cpu.pressure" } else { "node.cpu.queue" };
        assert_eq!(red, ["node.cpu.busy", queue, "node.cpu.wait", "node.load"]);
        node.settle();
    }
}

/// Each gate, its fault, and whether the fault shows with pressure, without, or with both.
#[test]
fn every_gate_of_linux_node_turns_red_and_green_again_on_a_recorded_fault() {
    type Fault = fn(&mut Counters);
    let busy: Fault = |c| {
        c.user += 195;
        c.idle -= 195;
    };
    let faults: [(&str, Fault); 43] = [
        ("node.cpu.busy", busy),
        ("node.cpu.steal", |c| {
            c.steal += 60;
            c.idle -= 60;
        }),
        ("node.cpu.pressure", |c| c.pressure[0] += 400_000),
        ("node.cpu.queue", |c| c.running = 7),
        ("node.load", |c| c.load = 2.5),
        ("node.memory.available", |c| c.available_kb = 2_000_000),
        ("node.memory.oom", |c| c.oom_kills += 1),
        ("node.memory.pressure", |c| c.pressure[1] += 100_000),
        ("node.memory.pressure", |c| c.pressure[2] += 20_000),
        ("node.memory.reclaim", |c| c.stalls += 5),
        ("node.memory.reclaim", |c| c.refaults += 800),
        ("node.cpu.wait", |c| c.wait += 500_000_000),
        ("node.cpu.hot-core", |c| {
            c.hot += 190;
        }),
        ("node.cpu.softirq", |c| c.softirq += 180),
        ("node.cpu.interrupts", |c| c.pressure[5] += 100_000),
        ("node.cpu.heat", |c| c.throttles += 1),
        ("node.memory.ecc", |c| c.uncorrected = 1),
        ("node.memory.ecc", |c| c.corrected += 3),
        ("node.memory.committed", |c| c.committed_kb = 13_900_000),
        ("node.memory.damaged", |c| c.damaged_kb = 4),
        ("node.files", |c| c.open_files = 2_300_000),
        ("node.tasks", |c| c.tasks = 32_000),
        ("node.tasks.hung", |c| c.hung += 1),
        ("node.clock.synchronised", |c| {
            (c.clock.synchronised, c.clock.max_error) = (false, 16.0);
        }),
        ("node.clock.offset", |c| c.clock.offset = -0.08),
        ("node.clock.steps", |c| c.wall_ms = 5000),
        ("node.memory.major-faults", |c| c.major_faults += 900),
        ("node.memory.swap", |c| c.swap_in += 3),
        ("node.memory.swap", |c| c.swap_out += 3),
        ("node.io.pressure", |c| c.pressure[3] += 300_000),
        ("node.io.pressure", |c| c.pressure[4] += 200_000),
        ("node.io.waiting", |c| {
            c.blocked = 2;
            c.iowait += 120;
            c.idle -= 120;
        }),
        ("node.disk.busy", |c| c.busy_ms += 990),
        ("node.disk.queue", |c| c.queue_ms += 20_000),
        ("node.disk.latency", |c| c.request_ms += 5000),
        ("node.disk.flush", |c| c.flush_ms += 500),
        ("node.disk.errors", |c| c.disk_errors += 4),
        ("node.md.degraded", |c| c.array_lacks = true),
        ("node.md.degraded", |c| c.array_failed = true),
        ("node.fs.errors", |c| c.fs_errors += 1),
        ("node.fs.writable", |c| c.root_readonly = true),
        ("node.link.errors", |c| c.errors += 3),
        ("node.link.drops", |c| c.drops += 9_000),
    ];

    let mut red = Vec::new();
    for pressure in [true, false] {
        let mut node = Recorded::new(pressure, &SCALED);
        for (gate, fault) in faults {
            node.settle();
            // What is read every ten seconds is seen after ten, and the busiest processor is that
            // of the last ten.
            node.pass(17, fault);
            node.until_seen(gate, fault);
            let mut findings = node.watched.judge();
            let found = findings.remove(gate).unwrap();
            if found.verdict == Verdict::NotApplicable {
                continue;
            }
            assert_eq!(found.verdict, Verdict::Fail, "{gate}: {found:?}");
            red.push(gate);
            // And the others stay as they were.
            findings.retain(|id, finding| {
                !matches!(finding.verdict, Verdict::Pass | Verdict::NotApplicable)
                    && id != "node.fs.filling"
            });
            assert!(findings.is_empty(), "{gate} is not alone: {findings:#?}");
        }
        node.settle();
    }
    // Space and inodes are filled for real in `faults`; the others are in `storage` and `network`.
    let mut all = Watched::new(&Paths::default(), &[]).verdicts();
    all.retain(|id, _| !red.contains(&&**id) && !network::GATES.contains(&&**id));
    // Quotas are met for real there too.
    let others = [
        "node.cpu.throttled-groups",
        "node.fs.answers",
        "node.fs.filling",
        "node.fs.inodes",
        "node.fs.space",
        "node.link.queues",
        "node.nvme.health",
        "node.nvme.live",
        "node.tcp.accept-queue",
        "node.tcp.ports",
    ];
    assert_eq!(all.keys().collect::<Vec<_>>(), others);
}

/// A signal that a kernel lacks, or that can't be read, is never a pass.
#[test]
fn what_can_not_be_read_is_an_error_and_never_a_pass() {
    let mut node = Recorded::new(true, &SCALED);
    node.settle();
    let vmstat = node.folder.path().join("proc/vmstat");
    for _ in 0..10 {
        node.pass(1, |_| {});
        fs::write(&vmstat, "pgmajfault 5\npswpin 0\npswpout 0\nallocstall_normal 0\n").unwrap();
        let mono = Mono::from_secs(node.second - 10_000_000).plus(Duration::from_millis(500));
        node.watched.sample(Now { mono, wall: Wall::default() });
    }
    let finding = node.watched.judge().remove("node.memory.oom").unwrap();
    assert_eq!(finding.verdict, Verdict::Error, "{finding:?}");
}

/// The real node, by a view of its own process: its mounts, and a namespace's interfaces.
struct View {
    folder: tempfile::TempDir,
}

impl View {
    /// `net` is the process whose network namespace is shown.
    fn new(net: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let link = |name: &str, to: String| {
            std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
        };
        for file in ["stat", "loadavg", "meminfo", "vmstat", "pressure", "diskstats", "sys"] {
            link(file, format!("/proc/{file}"));
        }
        link("self", format!("/proc/{}", std::process::id()));
        link("net", format!("/proc/{net}/net"));
        Self { folder }
    }

    fn paths(&self) -> Paths {
        Paths { procfs: self.folder.path().to_owned(), ..Paths::default() }
    }
}

fn real_now() -> Now {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Now { mono: Mono::now(), wall: Wall(i64::try_from(wall.as_nanos()).unwrap()) }
}

fn number(frame: &Frame, series: &str, instance: Option<&str>) -> f64 {
    match frame.find(series, instance) {
        Some(Signal::Number(value)) => value,
        other => panic!("{series} of {instance:?} is {other:?}"),
    }
}

fn exported(frame: &Frame, metric: &str, labels: &[&str]) -> f64 {
    crate::values::value(frame, metric, labels)
        .unwrap_or_else(|| panic!("{metric}{labels:?} is not in the frame"))
}
