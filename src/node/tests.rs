use std::cell::Cell;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::time::Wall;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/node")
}

/// The bytes of one recorded file.
pub(super) fn fixture(file: &str) -> Vec<u8> {
    fs::read(fixtures().join(file)).unwrap()
}

/// A recorded node.
pub(super) fn tree(name: &str) -> Paths {
    let root = fixtures().join(name);
    Paths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root }
}

/// A copy of a recorded node that a test may change.
pub(super) struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    pub(super) fn of(name: &str) -> Self {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let target = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    copy(&entry.path(), &target);
                } else {
                    fs::copy(entry.path(), target).unwrap();
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        copy(&fixtures().join(name), folder.path());
        Self { folder }
    }

    pub(super) fn paths(&self) -> Paths {
        let root = self.folder.path().to_owned();
        Paths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root }
    }

    /// Overwrites in place: the sampler keeps its files open.
    pub(super) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(file), bytes).unwrap();
    }

    pub(super) fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap();
        assert!(text.contains(from), "{file} does not hold {from:?}");
        self.write(file, text.replace(from, to));
    }

    pub(super) fn remove(&self, file: &str) {
        fs::remove_file(self.folder.path().join(file)).unwrap();
    }
}

/// Gives a parser every truncation of a good text, the text with its bytes changed, repeated to
/// a huge size and with huge numbers, and bytes that are no text at all.
pub(super) fn mangled(name: &str, good: &[u8], parse: impl Fn(&[u8])) {
    let tried = Cell::new(0u32);
    let parse = |text: &[u8]| {
        tried.set(tried.get() + 1);
        parse(text);
    };
    for end in 0..=good.len() {
        parse(&good[..end]);
    }
    parse(&good.repeat(1 + 2_000_000 / good.len().max(1)));
    parse(&[0; 70_000]);
    parse(&[0xff; 70_000]);
    let digits = |to: &[u8]| {
        good.iter()
            .flat_map(|byte| if byte.is_ascii_digit() { to.to_vec() } else { vec![*byte] })
            .collect::<Vec<_>>()
    };
    parse(&digits(&[b'9'; 60]));
    parse(&digits(b"18446744073709551615"));
    parse(&digits(b""));
    parse(&digits(b"-1"));

    // A runner counts its cases over all that it runs.
    let runner = || TestRunner::new(Config::with_cases(400));
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30);
    runner()
        .run(&changes, |changes| {
            let mut text = good.to_vec();
            for (index, byte) in changes {
                let index = index.index(text.len());
                text[index] = byte;
            }
            parse(&text);
            Ok(())
        })
        .unwrap();
    runner()
        .run(&prop::collection::vec(any::<u8>(), 0..3000), |bytes| {
            parse(&bytes);
            Ok(())
        })
        .unwrap();
    // Words and numbers in lines, more like the real thing than random bytes.
    let words = "((cpu|cpu0|some|full|total=|eth0:|MemTotal:|sda|-|/|[0-9]{1,22}|[a-z:/=.,\\\\]{1,9})[ \t\n]){0,90}";
    runner()
        .run(&words, |text| {
            parse(text.as_bytes());
            Ok(())
        })
        .unwrap();
    eprintln!("property node {name}: {} inputs", tried.get());
}

fn at(seconds: i64) -> Now {
    Now { mono: Mono::from_secs(1000 + seconds), wall: Wall::from_secs(1_800_000_000 + seconds) }
}

/// Takes a second of a node whose clock is well.
pub(super) fn sample(sampler: &mut Sampler, second: i64, frame: &mut Frame) {
    sampler.sample(at(second), frame);
}

fn number(frame: &Frame, series: &str, instance: Option<&str>) -> f64 {
    match frame.find(series, instance) {
        Some(Signal::Number(value)) => value,
        other => panic!("{series} of {instance:?} is {other:?}"),
    }
}

fn near(value: f64, expected: f64) {
    // The clock goes on while the sources are read one after the other.
    assert!((value - expected).abs() <= expected.abs() * 0.05 + 1e-9, "{value} is not {expected}");
}

fn fault<'a>(frame: &'a Frame, series: &str, instance: Option<&str>) -> &'a Fault {
    match frame.find(series, instance) {
        Some(Signal::Absent(fault)) => fault,
        other => panic!("{series} of {instance:?} is {other:?}"),
    }
}

/// The value of a metric that is only exported.
pub(super) fn exported(frame: &Frame, metric: &str, labels: &[&str]) -> Option<f64> {
    frame.iter().find_map(|(def, signal)| {
        let same =
            def.metric.name == metric && def.labels.iter().map(|l| &**l).eq(labels.iter().copied());
        match signal {
            Signal::Number(value) if same => Some(value),
            _ => None,
        }
    })
}

fn sampled(copy: &Copy, change: impl FnOnce(&Copy)) -> (Frame, Frame) {
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let (mut first, mut second) = (Frame::default(), Frame::default());
    sampler.sample(at(0), &mut first);
    change(copy);
    sampler.sample(at(1), &mut second);
    (first, second)
}

/// Samples the recorded node until speed, duplex and bonds are known: a cell reads them.
fn settle(sampler: &mut Sampler, frame: &mut Frame) {
    for tick in 0.. {
        sampler.sample(at(0), frame);
        if frame.find("node.bond.missing", Some("bond0")).is_some() {
            return;
        }
        assert!(tick < 1000, "sysfs was never read");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_of_a_recorded_node() {
    let copy = Copy::of("idle");
    // Then what memory is short of is looked at in each second.
    copy.remove("proc/pressure/memory");
    let (first, second) = sampled(&copy, |copy| {
        // 200 ticks: 50 user, 10 steal, 100 idle, 40 iowait.
        copy.replace(
            "proc/stat",
            "cpu  40722 3 16803 253023 1243 5 112 197 0 0",
            "cpu  40772 3 16803 253123 1283 5 112 207 0 0",
        );
        copy.replace("proc/pressure/io", "total=8657436", "total=8907436");
        copy.replace("proc/vmstat", "pswpin 11", "pswpin 51");
        copy.replace("proc/vmstat", "oom_kill 7", "oom_kill 8");
        copy.replace(
            "proc/diskstats",
            "sda 87914 10816 8760122 38341 28200 117187 34631352 127010 2 18444 166632",
            "sda 87924 10816 8760202 38361 28230 117187 34631392 127310 0 18944 168632",
        );
        copy.replace("proc/net/dev", "13256    1    2", "13256    1    9");
    });
    // Nothing is derived from one reading, and that is not zero.
    for series in ["node.cpu.busy", "node.psi.io.some", "node.swap.in"] {
        assert_eq!(first.find(series, None), Some(Signal::Nothing), "{series}");
    }
    assert_eq!(first.find("node.disk.busy", Some("sda")), Some(Signal::Nothing));

    near(number(&second, "node.cpu.busy", None), 60.0 / 200.0);
    near(number(&second, "node.cpu.iowait", None), 40.0 / 200.0);
    near(number(&second, "node.cpu.steal", None), 10.0 / 200.0);
    near(number(&second, "node.load.per_core", None), 0.26);
    near(number(&second, "node.cpu.running_per_core", None), 1.0);
    near(number(&second, "node.procs.blocked", None), 1.0);
    near(number(&second, "node.memory.available", None), 24_120_448.0 / 25_253_692.0);
    near(number(&second, "node.psi.io.some", None), 0.25);
    near(number(&second, "node.psi.io.full", None), 0.0);
    near(number(&second, "node.swap.in", None), 40.0);
    near(number(&second, "node.oom.kills", None), 8.0);
    near(number(&second, "node.disk.busy", Some("sda")), 0.5);
    near(number(&second, "node.disk.queue", Some("sda")), 2.0);
    near(number(&second, "node.disk.await", Some("sda")), 0.008);
    near(number(&second, "node.disk.read_await", Some("sda")), 0.002);
    near(number(&second, "node.disk.write_await", Some("sda")), 0.010);
    near(number(&second, "node.link.drops", Some("eth0")), 13.0);
    near(number(&second, "node.link.errors", Some("eth0")), 4.0);
    // At a disk that did nothing, nothing had to wait; of reads in particular nothing is known.
    near(number(&second, "node.disk.await", Some("sdb")), 0.0);
    assert_eq!(second.find("node.disk.read_await", Some("sdb")), Some(Signal::Nothing));
    near(number(&second, "node.disk.busy", Some("sdb")), 0.0);

    // Interrupt pressure is not in this kernel; the others are.
    assert_eq!(fault(&second, "node.psi.irq.full", None).code, FaultCode::Unsupported);

    let exported = |metric, labels: &[&str]| exported(&second, metric, labels).unwrap();
    near(exported("greenlight_node_cpu_seconds_total", &["1", "iowait"]), 8.32);
    near(exported("greenlight_node_boot_timestamp_seconds", &[]), 1_795_374_898.0);
    near(exported("greenlight_node_memory_bytes", &["swap_free"]), 2_097_148.0 * 1024.0);
    near(exported("greenlight_node_disk_bytes_total", &["sda", "read"]), 8_760_202.0 * 512.0);
    near(exported("greenlight_node_disk_request_seconds_total", &["sda", "flush"]), 0.076);
    near(exported("greenlight_node_network_bytes_total", &["eth0", "transmit"]), 737_986.0);
    near(exported("greenlight_node_pressure_seconds_total", &["cpu", "some"]), 27.185_846);
    near(exported("greenlight_node_load_average", &["15m"]), 0.59);
}

#[test]
fn counters_that_go_backwards_leave_their_second_out() {
    let copy = Copy::of("idle");
    copy.remove("proc/pressure/memory");
    let (_, second) = sampled(&copy, |copy| {
        copy.replace("proc/stat", "cpu  40722", "cpu  4");
        copy.replace("proc/pressure/io", "total=8657436", "total=5");
        copy.replace("proc/vmstat", "pswpin 11", "pswpin 1");
        // io_ticks is 32 bits wide and wraps after 49 days.
        copy.replace("proc/diskstats", "127010 2 18444 166632", "127010 2 12 20");
        copy.replace("proc/diskstats", "sdb 1000 0 8000 4000", "sdb 10 0 80 40");
    });
    for (series, instance) in [
        ("node.cpu.busy", None),
        ("node.cpu.steal", None),
        ("node.psi.io.some", None),
        ("node.swap.in", None),
        ("node.disk.busy", Some("sda")),
        ("node.disk.queue", Some("sda")),
        ("node.disk.await", Some("sdb")),
        ("node.disk.read_await", Some("sdb")),
    ] {
        assert_eq!(fault(&second, series, instance).code, FaultCode::Garbled, "{series}");
    }
    // The other totals of the same files are not harmed.
    near(number(&second, "node.psi.io.full", None), 0.0);
    near(number(&second, "node.swap.out", None), 0.0);
    assert_eq!(second.find("node.disk.write_await", Some("sdb")), Some(Signal::Nothing));
}

#[test]
fn a_counter_that_jumps_is_no_second_either() {
    let (_, second) = sampled(&Copy::of("idle"), |copy| {
        copy.replace("proc/pressure/io", "total=8657436", "total=18446744073709551615");
        copy.replace("proc/diskstats", "127010 2 18444", "127010 2 18446744073709551615");
    });
    assert_eq!(fault(&second, "node.psi.io.some", None).code, FaultCode::Garbled);
    assert_eq!(fault(&second, "node.disk.busy", Some("sda")).code, FaultCode::Garbled);
}

#[test]
fn an_old_kernel_lacks_signals_and_says_so() {
    let (first, second) = sampled(&Copy::of("rhel7"), |_| {});
    for series in ["node.psi.cpu.some", "node.psi.memory.full", "node.psi.io.some"] {
        let fault = fault(&second, series, None);
        assert_eq!(fault.code, FaultCode::Unsupported, "{series}");
        assert!(fault.text.contains("/pressure/"), "{fault}");
    }
    assert_eq!(fault(&second, "node.oom.kills", None).code, FaultCode::Unsupported);
    near(number(&second, "node.memory.stalls", None), 0.0);
    near(number(&second, "node.memory.available", None), 12_211_004.0 / 16_266_528.0);
    near(number(&first, "node.load.per_core", None), 0.0);
    // Without /sys/block every device is taken for a whole one.
    assert!(second.find("node.disk.busy", Some("dm-0")).is_some());
    assert_eq!(exported(&second, "greenlight_node_disk_requests_total", &["sda", "flush"]), None);
    assert_eq!(exported(&second, "greenlight_node_memory_bytes", &["hardware_corrupted"]), None);
}

/// Every file of the tree, one after the other, is missing, empty, cut in its middle, binary,
/// huge: the frame keeps its form, the source's signals are absent, the others stand.
#[test]
fn spoilt_files_cost_their_own_signals_only() {
    let judged = [
        ("proc/stat", "node.cpu.busy", None),
        ("proc/loadavg", "node.load.per_core", None),
        ("proc/meminfo", "node.memory.available", None),
        ("proc/vmstat", "node.swap.in", None),
        ("proc/pressure/cpu", "node.psi.cpu.some", None),
        ("proc/pressure/memory", "node.psi.memory.full", None),
        ("proc/pressure/io", "node.psi.io.some", None),
        ("proc/diskstats", "node.disk.busy", Some("sda")),
        ("proc/net/dev", "node.link.drops", Some("eth0")),
        ("proc/1/mountinfo", "node.fs.readonly", Some("/")),
        ("proc/schedstat", "node.cpu.wait", None),
        ("proc/sys/fs/file-nr", "node.files.used", None),
        ("proc/sys/kernel/hung_task_detect_count", "node.procs.hung", None),
        ("proc/net/softnet_stat", "node.softnet.drops", None),
        ("proc/net/snmp", "node.tcp.retransmits", None),
        ("proc/net/netstat", "node.listen.overflows", None),
        ("proc/sys/net/ipv4/tcp_mem", "node.tcp.memory", None),
        ("proc/sys/net/ipv4/tcp_max_orphans", "node.tcp.orphans", None),
        ("proc/net/stat/arp_cache", "node.neighbours.refused", None),
        ("proc/net/stat/nf_conntrack", "node.conntrack.drops", None),
        ("proc/sys/net/netfilter/nf_conntrack_max", "node.conntrack.fill", None),
    ];
    type Spoil = fn(&Copy, &str);
    let spoil: [(&str, Spoil); 5] = [
        ("missing", |copy, file| copy.remove(file)),
        ("empty", |copy, file| copy.write(file, b"")),
        ("cut", |copy, file| {
            let text = fs::read(copy.folder.path().join(file)).unwrap();
            copy.write(file, &text[..3.min(text.len() - 1)]);
        }),
        ("binary", |copy, file| copy.write(file, [0xfe; 5000])),
        ("huge", |copy, file| copy.write(file, vec![b'9'; 3 << 20])),
    ];
    let mut tried = 0;
    for (file, series, instance) in judged {
        for (how, spoil) in spoil {
            let copy = Copy::of("idle");
            let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
            let mut frame = Frame::default();
            sampler.sample(at(0), &mut frame);
            spoil(&copy, file);
            let mut fresh = Sampler::new(&copy.paths(), &Cells::new());
            let mut other = Frame::default();
            fresh.sample(at(1), &mut other);
            match other.find(series, instance) {
                Some(Signal::Absent(fault)) => {
                    let code = fault.code;
                    let expected = [FaultCode::Unsupported, FaultCode::Garbled];
                    assert!(expected.contains(&code), "{file} {how}: {fault}");
                }
                // An instance of a file that was never read is not known.
                None => assert!(instance.is_some(), "{file} {how}"),
                other => panic!("{file} {how}: {series} is {other:?}"),
            }
            // One that was known stays, absent; a file that was removed is still open. Settings are
            // read every five seconds.
            sampler.sample(at(6), &mut frame);
            if how != "missing" {
                let signal = frame.find(series, instance);
                assert!(matches!(signal, Some(Signal::Absent(_))), "{file} {how}: {signal:?}");
            }
            for (_, other, instance) in judged.iter().filter(|(f, _, _)| *f != file) {
                let signal = frame.find(other, *instance);
                assert!(
                    matches!(signal, Some(Signal::Number(_) | Signal::Nothing)),
                    "{file} {how}: {other} is {signal:?}"
                );
            }
            tried += 1;
        }
    }
    assert_eq!(tried, judged.len() * spoil.len());
    eprintln!("spoilt files: {tried} trees");
}

#[test]
fn an_unreadable_tree_yields_a_frame_of_absences() {
    let refused: ReadClock = Box::new(|| Err(nix::errno::Errno::EPERM));
    let mut sampler = Sampler::with_clock(&tree("nothing-here"), &Cells::new(), refused);
    let mut frame = Frame::default();
    sampler.sample(at(0), &mut frame);
    assert_eq!(fault(&frame, "node.clock.offset", None).code, FaultCode::Permission);
    let mut absent = 0;
    // The clocks themselves are no file.
    let steps = &crate::catalogue::node::CLOCK_STEPS;
    for (def, signal) in frame.iter().filter(|(def, _)| def.judged() && def.metric != steps) {
        assert!(matches!(signal, Signal::Absent(_)), "{} is {signal:?}", def.metric.name);
        absent += 1;
    }
    assert!(absent >= 16, "only {absent} judged signals are declared");
}

#[test]
fn the_layout_changes_when_instances_come_or_go_and_only_then() {
    let copy = Copy::of("idle");
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let mut frame = Frame::default();
    sampler.sample(at(0), &mut frame);
    assert_eq!(frame.layout.generation, 1);
    settle(&mut sampler, &mut frame);
    let settled = frame.layout.generation;
    let first = Arc::clone(&frame.layout);
    sampler.sample(at(1), &mut frame);
    assert!(Arc::ptr_eq(&first, &frame.layout));

    let line = "eth2: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n";
    let text = String::from_utf8(fixture("idle/proc/net/dev")).unwrap();
    copy.write("proc/net/dev", format!("{text}{line}"));
    sampler.sample(at(2), &mut frame);
    assert_eq!(frame.layout.generation, settled + 1);
    assert!(frame.find("node.link.drops", Some("eth2")).is_some());

    // Mounts that are none of ours come and go all the time where containers live.
    let mounts = String::from_utf8(fixture("idle/proc/1/mountinfo")).unwrap();
    let pod = "90 30 0:90 / /run/containerd/x rw - tmpfs shm rw\n";
    copy.write("proc/1/mountinfo", format!("{mounts}{pod}"));
    sampler.sample(at(2), &mut frame);
    assert_eq!(frame.layout.generation, settled + 1);

    copy.write("proc/net/dev", text);
    sampler.sample(at(3), &mut frame);
    assert_eq!(frame.layout.generation, settled + 2);
    assert_eq!(frame.layout.slots, first.slots);
    assert_eq!(frame.find("node.link.drops", Some("eth2")), None);
    assert_eq!(frame.iter().count(), frame.layout.slots.len());
}

#[test]
fn judged_series_have_their_instance_first_and_nothing_else() {
    for metric in crate::catalogue::node::ALL.iter().filter(|metric| metric.series.is_some()) {
        let instance = ["device", "mountpoint", "interface", "cpu", "setting"];
        let fits = match metric.labels {
            [] => true,
            [label] => instance.contains(label),
            _ => false,
        };
        assert!(fits, "{}: {:?}", metric.name, metric.labels);
    }
    // What a frame holds fits its declaration, and no two slots are the same row.
    let copy = Copy::of("idle");
    let groups = cgroups::tests::unified_node(&copy);
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let mut frame = Frame::default();
    settle(&mut sampler, &mut frame);
    // Groups are shown by what they used between two walks.
    groups.work();
    let began = std::time::Instant::now();
    let mut second = 0;
    while frame.iter().all(|(def, _)| def.metric.name != "greenlight_node_cgroup_throttled_ratio") {
        assert!(began.elapsed() < Duration::from_secs(60), "no second walk");
        std::thread::sleep(Duration::from_millis(120));
        second += 10;
        sampler.sample(at(second), &mut frame);
    }
    let mut rows = std::collections::HashSet::new();
    for (def, _) in frame.iter() {
        assert_eq!(def.labels.len(), def.metric.labels.len(), "{}", def.metric.name);
        assert!(rows.insert((def.metric.name, def.labels.clone())), "{def:?} is there twice");
    }
    // Sockets are those of this machine, and no files.
    let _listener = sockets::tests::listener();
    let mut sampler = Sampler::new(&Paths::default(), &Cells::new());
    let began = std::time::Instant::now();
    while rows.iter().all(|(name, _)| *name != "greenlight_node_listener_queue_limit") {
        assert!(began.elapsed() < Duration::from_secs(60), "no listener is told of");
        sampler.sample(Now { mono: Mono::now(), ..Now::default() }, &mut frame);
        rows.extend(frame.iter().map(|(def, _)| (def.metric.name, def.labels.clone())));
        std::thread::sleep(Duration::from_millis(20));
    }
    // Every row of the catalogue is filled by some slot.
    for metric in crate::catalogue::node::ALL {
        assert!(rows.iter().any(|(name, _)| *name == metric.name), "{} is never set", metric.name);
    }
}

#[test]
fn a_tick_allocates_nothing_once_the_layout_stands() {
    let cells = Cells::new();
    for paths in [tree("idle"), tree("rhel7"), tree("nothing-here"), Paths::default()] {
        let mut sampler = Sampler::new(&paths, &cells);
        let mut frame = Frame::default();
        // Buffers find their size, cells their thread, links and faults their first reading, the
        // processors their last ten.
        for tick in 0..34 {
            sampler.sample(at(tick), &mut frame);
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut tick = 34;
        let least = if paths == Paths::default() { 16 } else { 32 };
        // A cell may need another thread while the machine is busy, and others may mount or plug
        // something on the real one: what is allocated for good is so in each of three rounds.
        let mut rounds = Vec::new();
        let warm = |counts: &[u64]| counts.iter().filter(|count| **count == 0).count() >= least;
        while rounds.len() < 3 && !rounds.last().is_some_and(|counts: &Vec<u64>| warm(counts)) {
            let mut counts = Vec::new();
            // Far enough for what is read every thirty seconds.
            for _ in 0..32 {
                let counted = allocation_counter::measure(|| sampler.sample(at(tick), &mut frame));
                counts.push(counted.count_total);
                tick += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            rounds.push(counts);
        }
        assert!(rounds.last().is_some_and(|counts| warm(counts)), "{paths:?}: {rounds:?}");
    }
}

/// Prints what each source costs, at the pace of a node: the caches are cold again in between.
#[test]
fn a_tick_costs_little() {
    let mut sampler = Sampler::new(&Paths::default(), &Cells::new());
    let mut frame = Frame::default();
    for tick in 0..4 {
        sampler.sample(Now { mono: Mono::now(), wall: at(tick).wall }, &mut frame);
        std::thread::sleep(Duration::from_millis(300));
    }
    let mut took = vec![Vec::new(); sampler.sources.len() + sampler.seldom.len()];
    for _ in 0..12 {
        let sources = sampler.sources.iter_mut().chain(&mut sampler.seldom);
        for (source, took) in sources.zip(&mut took) {
            sampler.tick.at = Mono::now();
            let began = cpu_time();
            source.begin(sampler.tick.at);
            sampler.cells.wake();
            source.read(&mut sampler.tick);
            took.push(cpu_time() - began);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let mut sum = 0;
    for (source, took) in sampler.sources.iter().chain(&sampler.seldom).zip(&mut took) {
        took.sort_unstable();
        let median = took[took.len() / 2];
        sum += median;
        let name =
            source.name().trim_start_matches("greenlight::node::").trim_end_matches("::Source");
        eprintln!("{name:<12} {:>5} µs", median / 1000);
    }
    eprintln!("{:<12} {:>5} µs", "together", sum / 1000);
    // Far above what it is, in a debug build on a busy machine.
    assert!(sum < 20_000_000, "a tick takes {sum} ns of processor time");
}

fn cpu_time() -> i64 {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    let time = nix::time::clock_gettime(clock).unwrap();
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}
