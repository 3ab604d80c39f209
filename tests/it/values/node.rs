//! Processors, memory, limits, groups and the clock.

use std::path::Path;

use super::*;
use crate::machine::{Group, Process, until};

/// Ours, its labels, node_exporter's, and by how much ours may lie outside of what was read before
/// and after.
type Pair = (&'static str, &'static [&'static str], &'static str, f64);

const PAIRS: &[Pair] = &[
    ("greenlight_node_context_switches_total", &[], "node_context_switches_total", 0.0),
    ("greenlight_node_forks_total", &[], "node_forks_total", 0.0),
    ("greenlight_node_boot_timestamp_seconds", &[], "node_boot_time_seconds", 1.0),
    ("greenlight_node_major_faults_total", &[], "node_vmstat_pgmajfault", 0.0),
    ("greenlight_node_oom_kills_total", &[], "node_vmstat_oom_kill", 0.0),
    ("greenlight_node_swap_pages_total", &["in"], "node_vmstat_pswpin", 0.0),
    ("greenlight_node_swap_pages_total", &["out"], "node_vmstat_pswpout", 0.0),
    ("greenlight_node_memory_bytes", &["commit_limit"], "node_memory_CommitLimit_bytes", 0.0),
    ("greenlight_node_memory_bytes", &["swap_total"], "node_memory_SwapTotal_bytes", 0.0),
    ("greenlight_node_memory_bytes", &["total"], "node_memory_MemTotal_bytes", 0.0),
    ("greenlight_node_open_files_limit", &[], "node_filefd_maximum", 1.0),
    ("greenlight_node_clock_offset_seconds", &[], "node_timex_offset_seconds", 1e-4),
    ("greenlight_node_clock_max_error_seconds", &[], "node_timex_maxerror_seconds", 0.0),
    (
        "greenlight_node_clock_estimated_error_seconds",
        &[],
        "node_timex_estimated_error_seconds",
        1e-3,
    ),
    ("greenlight_node_pressure_seconds_total", &["cpu", "some"], PSI_CPU, 0.0),
    ("greenlight_node_pressure_seconds_total", &["io", "some"], PSI_IO, 0.0),
    ("greenlight_node_pressure_seconds_total", &["io", "full"], PSI_IO_FULL, 0.0),
    ("greenlight_node_pressure_seconds_total", &["memory", "some"], PSI_MEMORY, 0.0),
    ("greenlight_node_pressure_seconds_total", &["memory", "full"], PSI_MEMORY_FULL, 0.0),
];
const PSI_CPU: &str = "node_pressure_cpu_waiting_seconds_total";
const PSI_IO: &str = "node_pressure_io_waiting_seconds_total";
const PSI_IO_FULL: &str = "node_pressure_io_stalled_seconds_total";
const PSI_MEMORY: &str = "node_pressure_memory_waiting_seconds_total";
const PSI_MEMORY_FULL: &str = "node_pressure_memory_stalled_seconds_total";

/// Twelve digits are what node_exporter prints of a large number.
fn between(before: f64, theirs: f64, after: f64, slack: f64) -> bool {
    let slack = slack + theirs.abs() * 1e-9;
    before - slack <= theirs && theirs <= after + slack
}

#[test]
fn processors_memory_and_clock_are_what_node_exporter_says() {
    let exporter = Exporter::start();
    // The first second of each, in which all is read.
    let before = Node::new().sample();
    let theirs = exporter.scrape();
    let after = Node::new().sample();
    let mut compared = 0;
    let mut wrong = Vec::new();
    let mut compare = |ours: &str, labels: &[&str], name: &str, slack: f64| {
        match (value(&before, ours, labels), theirs.get(name), value(&after, ours, labels)) {
            (Some(first), Some(theirs), Some(last)) => {
                compared += 1;
                if !between(first, *theirs, last, slack) {
                    wrong.push(format!("{ours}{labels:?}: {first}, {name} {theirs}, {last}"));
                }
            }
            // What neither has is not there: a kernel without pressure, without a counter.
            (None, None, None) => eprintln!("{ours}{labels:?}: not on this machine"),
            (first, theirs, last) => {
                wrong.push(format!("{ours}{labels:?}: {first:?}, {name} {theirs:?}, {last:?}"));
            }
        }
    };
    for (ours, labels, name, slack) in PAIRS {
        compare(ours, labels, name, *slack);
    }
    for cpu in 0..std::thread::available_parallelism().unwrap().get() {
        for mode in ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"] {
            let name = format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}}");
            // The idle modes may step back a little.
            let cpu = cpu.to_string();
            compare("greenlight_node_cpu_seconds_total", &[&cpu, mode], &name, 0.05);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{compared} figures lie between ours before and after");
    assert!(compared >= 20, "only {compared} were compared");

    // What rises and falls.
    let near = |ours: f64, theirs: f64, share: f64, what: &str| {
        assert!((ours - theirs).abs() <= theirs.abs() * share, "{what}: {ours}, theirs {theirs}");
    };
    let ours = |metric: &str, labels: &[&str]| {
        value(&after, metric, labels).unwrap_or_else(|| panic!("{metric}{labels:?} is absent"))
    };
    let open = ours("greenlight_node_open_files", &[]);
    near(open, theirs["node_filefd_allocated"], 0.5, "open files");
    let committed = ours("greenlight_node_memory_bytes", &["committed"]);
    near(committed, theirs["node_memory_Committed_AS_bytes"], 0.3, "committed");
    let loads = [&before, &after].map(|f| value(f, "greenlight_node_load_average", &["15m"]));
    assert!(loads.contains(&Some(theirs["node_load15"])), "{loads:?}, {}", theirs["node_load15"]);
    let number = |series: &str| match after.find(series, None) {
        Some(Signal::Number(value)) => value,
        other => panic!("{series} is {other:?}"),
    };
    assert_eq!(number("node.clock.unsynchronised"), 1.0 - theirs["node_timex_sync_status"]);
    // Theirs is 1 where nothing is adjusted.
    let frequency = ours("greenlight_node_clock_frequency_adjustment_ratio", &[]);
    assert!((frequency + 1.0 - theirs["node_timex_frequency_adjustment_ratio"]).abs() < 1e-6);
    assert_eq!(number("node.clock.steps"), 0.0);
}

#[test]
fn limits_settings_and_facts_are_what_the_files_and_tools_say() {
    let mut node = Node::new();
    let frame = node.sample();
    let ours = |metric: &str, labels: &[&str]| {
        value(&frame, metric, labels).unwrap_or_else(|| panic!("{metric}{labels:?} is absent"))
    };
    let limits = ["pid_max", "threads-max"]
        .map(|name| file(&format!("/proc/sys/kernel/{name}")).parse::<f64>().unwrap());
    let limit = limits[0].min(limits[1]);
    assert_eq!(ours("greenlight_node_tasks_limit", &[]), limit);
    let threads = Command::new("ps").args(["-eLo", "lwp="]).output().unwrap();
    let threads = String::from_utf8(threads.stdout).unwrap().lines().count() as f64;
    let tasks = ours("greenlight_node_tasks", &[]);
    // In a container `ps` sees its own; on a node they differ by what started meanwhile.
    assert!((tasks - threads).abs() < tasks * 0.3 + 100.0, "{tasks} tasks, ps shows {threads}");
    match frame.find("node.tasks.used", None) {
        Some(Signal::Number(used)) => assert!((used - tasks / limit).abs() < 1e-9),
        other => panic!("{other:?}"),
    }

    let facts = greenlight::node::facts(&Paths::default());
    let huge_pages = "/sys/kernel/mm/transparent_hugepage/enabled";
    if Path::new(huge_pages).exists() {
        let text = file(huge_pages);
        assert!(text.contains(&format!("[{}]", facts["transparent_hugepages"])), "{text}");
    }
    assert_eq!(facts["overcommit_memory"], file("/proc/sys/vm/overcommit_memory"));
    for (fact, path) in [
        ("schedstat", "/proc/schedstat"),
        ("hung_tasks", "/proc/sys/kernel/hung_task_detect_count"),
        ("cpufreq", "/sys/devices/system/cpu/cpu0/cpufreq"),
        ("thermal", "/sys/devices/system/cpu/cpu0/thermal_throttle"),
        ("ecc", "/sys/devices/system/edac/mc/mc0"),
    ] {
        assert_eq!(facts[fact], Path::new(path).exists().to_string(), "{fact}");
    }
    let model = Command::new("sh").args(["-c", "LC_ALL=C lscpu"]).output().unwrap();
    let model = String::from_utf8(model.stdout).unwrap();
    if let Some(fact) = facts.get("cpu_model") {
        assert!(model.contains(fact.as_str()), "{fact} is not in {model}");
    }
}

/// A group with a limit of memory: what it holds, and how often it met its limit.
#[test]
fn a_groups_memory_is_what_its_own_files_say() {
    let group = Group::of_memory("values", 2_000_000_000);
    let usage = ["memory.usage_in_bytes", "memory.current"].map(|name| group.0.join(name));
    let usage = usage.iter().find(|path| path.exists()).unwrap().display().to_string();
    let hold = "import time\nheld = b'x' * 800_000_000\ntime.sleep(600)";
    let holding = Process::start(&mut group.inside("exec python3 -c \"$0\"", hold));
    let bytes = || file(&usage).parse::<f64>().unwrap();
    until("the group holds what its process does", || bytes() >= 8e8);
    let frame = Node::new().sample();
    let ours = value(&frame, "greenlight_node_cgroup_memory_bytes", &[group.name()])
        .expect("a group of 800 MB is among the largest");
    let theirs = bytes();
    assert!((ours - theirs).abs() < theirs * 0.02, "{ours}, its own file says {theirs}");
    let events = |event: &str| {
        value(&frame, "greenlight_node_cgroup_memory_events_total", &[group.name(), event])
    };
    assert_eq!((events("oom_kill"), events("max")), (Some(0.0), Some(0.0)));
    drop(holding);
}
