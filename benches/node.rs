//! Greenlight with `linux-node` beside node_exporter on the same machine at the same time, both
//! with their defaults, scraped in turns, with a few interfaces and with two hundred:
//! `cargo bench --bench node`. Needs root, for the namespaces with the interfaces.
//!
//! `-- --every 3` scrapes more often than every 15 s (what is done between scrapes is told for 15 s
//! all the same), `--rounds N` as often as that, `--hour` for an hour.
//!
//! Figures are medians, the limits those that the project has set itself. Nothing here is a test:
//! machines are noisy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod exporters;
mod running;

use exporters::{processor_time, resident, row, samples, scrape, start_node_exporter};
use running::{Answer, Running, median, start_agent};

/// How often Prometheus scrapes what both are compared by.
const INTERVAL: f64 = 15.0;
const ROUNDS: usize = 20;
/// Scrapes in a row of which the 99th percentile is taken.
const IN_A_ROW: usize = 300;
/// So long both run before they are measured: the first seconds find their buffers.
const SETTLE: Duration = Duration::from_secs(15);
/// The release that the limits were made from, where Go is there to build it.
const UPSTREAM: &str = "github.com/prometheus/node_exporter@v1.12.1";

/// What is to be held, with so many interfaces.
struct Limits {
    interfaces: usize,
    /// Ours to theirs.
    scrape: f64,
    sample: f64,
    all: f64,
    p99_ms: f64,
}

const FEW: Limits =
    Limits { interfaces: 4, scrape: 1.0 / 15.0, sample: 1.0 / 8.0, all: 1.0, p99_ms: 2.0 };
const MANY: Limits =
    Limits { interfaces: 200, scrape: 1.0 / 30.0, sample: 1.0 / 8.0, all: 1.0 / 5.0, p99_ms: 5.0 };
const RESIDENT_MB: f64 = 15.0;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| -> Answer<Option<f64>> {
        let place = arguments.iter().position(|argument| argument == name);
        let value = place.and_then(|place| arguments.get(place + 1));
        Ok(value.map(|value| value.parse()).transpose()?)
    };
    let every = Duration::from_secs_f64(number("--every")?.unwrap_or(INTERVAL));
    let hour = arguments.iter().any(|argument| argument == "--hour");
    let rounds = if hour {
        (3_600.0 / every.as_secs_f64()) as usize
    } else {
        number("--rounds")?.map_or(ROUNDS, |rounds| rounds as usize)
    };
    if let Some(interfaces) = number("--inside")? {
        let limits = if interfaces as usize == MANY.interfaces { MANY } else { FEW };
        return compare(&limits, every, rounds);
    }
    let folder = folder()?;
    if let Err(error) = upstream(&folder) {
        println!("node_exporter 1.12.1 was not built: {error}");
    }
    for limits in [FEW, MANY] {
        let namespace = Namespace::with(limits.interfaces)?;
        println!("\n{} interfaces, scraped every {every:?}, {rounds} rounds", limits.interfaces);
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &namespace.name]).arg(std::env::current_exe()?);
        inside.args(["--inside", &limits.interfaces.to_string()]);
        inside.args(["--every", &every.as_secs_f64().to_string()]);
        inside.args(["--rounds", &rounds.to_string()]);
        ended(&mut inside)?;
    }
    Ok(())
}

fn folder() -> Answer<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("node");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A network namespace with pairs of veth interfaces in it; both go when this is dropped.
struct Namespace {
    name: String,
}

impl Namespace {
    fn with(interfaces: usize) -> Answer<Self> {
        let namespace = Self { name: format!("greenlight-bench-{}-0", std::process::id()) };
        let name = &namespace.name;
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        for pair in 0..interfaces / 2 {
            ip(&format!("-n {name} link add v{pair} type veth peer name w{pair}"))?;
            ip(&format!("-n {name} link set v{pair} up"))?;
            ip(&format!("-n {name} link set w{pair} up"))?;
        }
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Answer<()> {
    ended(Command::new("ip").args(arguments.split_whitespace()))
}

fn ended(command: &mut Command) -> Answer<()> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

/// Builds the upstream release once.
fn upstream(folder: &Path) -> Answer<()> {
    if folder.join("node_exporter").exists() {
        return Ok(());
    }
    ended(Command::new("go").args(["install", UPSTREAM]).env("GOBIN", folder))
}

/// One program and what was seen of it.
struct Measured {
    name: &'static str,
    running: Running,
    bytes: f64,
    samples: f64,
    resident_before: f64,
    resident_after: f64,
    /// Seconds of processor time of each scrape, and of the rest of each round for one second.
    scrapes: Vec<f64>,
    rest: Vec<f64>,
    /// Of the rest, that of threads that are no cells.
    lanes: Vec<f64>,
    /// Seconds that scrapes in a row took, and processor time of all of them, what is done meanwhile besides
    /// included.
    took: Vec<f64>,
    spent_in_a_row: f64,
}

impl Measured {
    fn of(name: &'static str, running: Running) -> Self {
        Self {
            name,
            running,
            bytes: 0.0,
            samples: 0.0,
            resident_before: 0.0,
            resident_after: 0.0,
            scrapes: Vec::new(),
            rest: Vec::new(),
            lanes: Vec::new(),
            took: Vec::new(),
            spent_in_a_row: 0.0,
        }
    }

    fn spent(&self) -> Answer<f64> {
        processor_time(self.running.child.id())
    }

    fn resident(&self) -> Answer<f64> {
        resident(self.running.child.id())
    }

    /// Of one that comes as long after the one before as a usual one does, and finds everything cold.
    fn scrape(&self) -> f64 {
        median(self.scrapes.clone())
    }

    /// Of one in a row, the others' in between: how the limits were measured.
    fn scrape_in_a_row(&self) -> f64 {
        self.spent_in_a_row / IN_A_ROW as f64
    }

    /// All processor time between one scrape and the next, and of that scrape.
    fn all(&self) -> f64 {
        median(self.rest.clone()) * INTERVAL + self.scrape()
    }

    /// The same without what is done in cells: looks at processes while a threshold is crossed, walks
    /// over control groups, files that may hang.
    fn without_cells(&self) -> f64 {
        median(self.lanes.clone()) * INTERVAL + self.scrape()
    }

    fn percentile(&self, share: f64) -> f64 {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        let place = (took.len() as f64 * share).ceil() as usize;
        took.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

fn compare(limits: &Limits, every: Duration, rounds: usize) -> Answer<()> {
    let folder = folder()?;
    let plan = folder.join("plan.yaml");
    fs::write(&plan, "include: [ 'pack:linux-node' ]\n")?;
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_greenlight"));
    let mut all = vec![Measured::of("greenlight", start_agent(&binary, &plan, &folder)?)];
    match start_node_exporter("prometheus-node-exporter", 29_100) {
        Ok(running) => all.push(Measured::of("node_exporter of Debian", running)),
        Err(error) => println!("node_exporter of Debian was not measured: {error}"),
    }
    let upstream = folder.join("node_exporter");
    if upstream.exists() {
        let running = start_node_exporter(&upstream.to_string_lossy(), 29_101)?;
        all.push(Measured::of("node_exporter 1.12.1", running));
    }
    std::thread::sleep(SETTLE);

    for measured in &mut all {
        let body = scrape(&measured.running.address)?;
        (measured.bytes, measured.samples) = (body.len() as f64, samples(&body));
        measured.resident_before = measured.resident()?;
    }
    let began = Instant::now();
    let mut before = Vec::new();
    for measured in &all {
        before.push((measured.spent()?, lanes(measured)?, Instant::now()));
    }
    for round in 1..=rounds {
        std::thread::sleep((every * u32::try_from(round)?).saturating_sub(began.elapsed()));
        for (measured, before) in all.iter_mut().zip(&mut before) {
            let (at, own, now) = (measured.spent()?, lanes(measured)?, Instant::now());
            let seconds = now.duration_since(before.2).as_secs_f64();
            measured.rest.push((at - before.0) / seconds);
            measured.lanes.push((own - before.1) / seconds);
            scrape(&measured.running.address)?;
            let after = measured.spent()?;
            measured.scrapes.push(after - at);
            *before = (after, lanes(measured)?, Instant::now());
        }
    }
    let elapsed = began.elapsed();
    for measured in &mut all {
        measured.spent_in_a_row = -measured.spent()?;
    }
    for _ in 0..IN_A_ROW {
        for measured in &mut all {
            let began = Instant::now();
            scrape(&measured.running.address)?;
            measured.took.push(began.elapsed().as_secs_f64());
        }
    }
    for measured in &mut all {
        measured.spent_in_a_row += measured.spent()?;
        measured.resident_after = measured.resident()?;
    }
    print(limits, &all, elapsed);
    Ok(())
}

/// Seconds of processor time of the threads that are no cells.
fn lanes(measured: &Measured) -> Answer<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{}/task", measured.running.child.id()))? {
        let task = task?.path();
        // One that has ended in between was a cell.
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
        if read("comm").trim_end() != "cell" {
            let text = read("schedstat");
            sum += text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
        }
    }
    Ok(sum * 1e-9)
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn print(limits: &Limits, all: &[Measured], elapsed: Duration) {
    let Some((ours, others)) = all.split_first() else { return };
    println!("load of the machine: {}", load());
    println!("{:<52} {:>12} {:>12}", "figure", "measured", "bar");
    for measured in all {
        let own = |limit: f64| (measured.name == ours.name).then_some(limit);
        let show = |what: &str, value: f64, limit| {
            row(&format!("{}: {what}", measured.name), value, limit);
        };
        show("bytes", measured.bytes, None);
        show("samples", measured.samples, None);
        show("processor time of a scrape in a row, ms", measured.scrape_in_a_row() * 1e3, None);
        show("the same of a sample, µs", measured.scrape_in_a_row() * 1e6 / measured.samples, None);
        show("processor time of a usual scrape, ms", measured.scrape() * 1e3, None);
        show("scrape p50, ms", measured.percentile(0.5) * 1e3, None);
        show("scrape p99, ms", measured.percentile(0.99) * 1e3, own(limits.p99_ms));
        show("all processor time in 15 s, ms", measured.all() * 1e3, None);
        show("the same without cells, ms", measured.without_cells() * 1e3, None);
        show("resident before, MB", measured.resident_before / 1e6, own(RESIDENT_MB));
        show("resident after, MB", measured.resident_after / 1e6, own(RESIDENT_MB));
        let growth = measured.resident_after - measured.resident_before;
        show("growth, MB an hour", growth / 1e6 * 3_600.0 / elapsed.as_secs_f64(), None);
    }
    for other in others {
        let against = |what: &str, ratio: f64, limit: f64| {
            row(&format!("ours to {}: {what}", other.name), ratio, Some(limit));
        };
        let scrape = ours.scrape_in_a_row() / other.scrape_in_a_row();
        against("scrape in a row", scrape, limits.scrape);
        against("sample", scrape * other.samples / ours.samples, limits.sample);
        against("usual scrape", ours.scrape() / other.scrape(), limits.scrape);
        against("all time", ours.all() / other.all(), limits.all);
        let quiet = ours.without_cells() / other.all();
        row(&format!("ours to {}: all time without cells", other.name), quiet, None);
    }
}
