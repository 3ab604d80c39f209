//! Bursts of two seconds between scrapes 15 s apart: how many of twenty are in the next scrape and
//! named with their process, and what looking for them costs: `cargo bench --bench bursts`.
//!
//! Nothing here is a test: machines are noisy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenlight::gate::{self, Evidence, Gate, Standing};
use greenlight::node::Paths;
use greenlight::node::culprits::Resource;
use greenlight::node::processes::Processes;
use greenlight::plan::{Facts, Plan, load::Inputs};
use greenlight::series::{Cadence, TrackKey, Tracks, Value};
use greenlight::time::{Mono, Now, Wall};

mod running;

use running::{Answer, get, median, start_agent};

const TRIES: usize = 20;
const SCRAPE: Duration = Duration::from_secs(15);
const BURST: Duration = Duration::from_secs(2);
/// Processes beside which the cost of a look is measured.
const PROCESSES: usize = 200;
const INTERFACES: usize = 200;
/// Seconds in the window that is judged.
const WINDOW: i64 = 900;

fn main() -> Answer<()> {
    looks()?;
    judging()?;
    bursts()
}

/// What one reading of the process table costs.
fn looks() -> Answer<()> {
    let mut sleepers = Vec::new();
    for _ in 0..PROCESSES {
        sleepers.push(Command::new("sleep").arg("60").spawn()?);
    }
    let mut table = Processes::new(&Paths::default());
    for resources in [&[Resource::Cpu][..], &[Resource::Io], &Resource::ALL] {
        table.first(resources, Mono::now());
        let mut costs = Vec::new();
        for _ in 0..50 {
            let began = Instant::now();
            table.second(resources, Mono::now());
            costs.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let words: Vec<&str> = resources.iter().map(|resource| resource.word()).collect();
        println!(
            "a look at {PROCESSES} processes and more for {}: {:.2} ms",
            words.join(", "),
            median(costs)
        );
    }
    for sleeper in &mut sleepers {
        sleeper.kill()?;
        sleeper.wait()?;
    }
    Ok(())
}

/// What a second's judging costs with many instances.
fn judging() -> Answer<()> {
    let text = "include: [ 'pack:linux-node' ]\n".to_owned();
    let inputs = Inputs { texts: vec![("bench".to_owned(), text)], ..Inputs::default() };
    let plan = Plan::compile(&inputs, &Facts::default()).map_err(|why| why.render(false))?;
    let gates: Vec<&Gate> = plan.gates.iter().collect();
    let mut tracks = Tracks::new(gate::demands(gates.iter().copied()));
    let series = ["node.link.errors", "node.link.drops"];
    let second = |n: i64| Now { mono: Mono::from_secs(n), wall: Wall::from_secs(n) };
    let mut keys = Vec::new();
    for name in series {
        let metric = greenlight::catalogue::series(name).ok_or("no such series")?;
        for n in 0..INTERFACES {
            keys.push(TrackKey {
                metric,
                check: "node".into(),
                target: format!("eth{n}").as_str().into(),
                labels: Vec::new(),
            });
        }
    }
    let cadence = Cadence::every(Duration::from_secs(1), Mono::from_secs(0));
    for at in 0..=WINDOW {
        for key in &keys {
            let at = Mono::from_secs(at);
            tracks.push(key, cadence, at, Value::Number(5.0), at);
        }
    }
    let evidence = Evidence { tracks: &tracks, journeys: &[], load: &[] };
    let mut costs = Vec::new();
    for n in 0..20 {
        let began = Instant::now();
        for gate in &gates {
            gate::judge(gate, &evidence, &Standing::default(), second(WINDOW + n % 2));
        }
        costs.push(began.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "judging linux-node with {INTERFACES} interfaces, {} points: {:.2} ms a second",
        tracks.points(),
        median(costs)
    );
    Ok(())
}

fn bursts() -> Answer<()> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bursts");
    fs::create_dir_all(&folder)?;
    let plan = folder.join("plan.yaml");
    fs::write(&plan, "include: [ 'pack:linux-node' ]\n")?;
    let (cpu, io) = (folder.join("burst-cpu"), folder.join("burst-io"));
    fs::copy("/usr/bin/yes", &cpu)?;
    fs::copy("/usr/bin/dd", &io)?;
    let binary = Path::new(env!("CARGO_BIN_EXE_greenlight"));
    let mut agent = start_agent(binary, &plan, &folder)?;
    let cpus = std::thread::available_parallelism()?.get();
    std::thread::sleep(Duration::from_secs(3));
    let (mut seen, mut named) = ([0, 0], [0, 0]);
    for n in 0..TRIES {
        let scraped = Instant::now();
        std::thread::sleep(Duration::from_millis(n as u64 * 1_000 / TRIES as u64));
        let since = greenlight::agent::clock::now().wall.rfc3339();
        burst(cpus * 2, |_| Command::new(&cpu))?;
        burst(4, |n| {
            let mut command = Command::new(&io);
            command.arg("if=/dev/zero").arg(format!("of={}", folder.join(n.to_string()).display()));
            command.args(["bs=256k", "count=100000", "oflag=direct"]);
            command
        })?;
        std::thread::sleep(SCRAPE.saturating_sub(scraped.elapsed()));
        let text = get(&agent.address, "/metrics")?;
        let captures: serde_json::Value =
            serde_json::from_str(&get(&agent.address, "/api/v1/captures")?)?;
        let names = ["burst-cpu", "burst-io"];
        let peaks =
            ["greenlight_node_cpu_busy_peak_ratio ", "greenlight_node_disk_busy_peak_ratio{"];
        for (place, (name, peak)) in names.into_iter().zip(peaks).enumerate() {
            let own = text.lines().filter(|line| line.starts_with(peak));
            let worst = own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            seen[place] += usize::from(worst.fold(0.0, f64::max) > 0.7);
            let found = captures.as_array().into_iter().flatten().any(|capture| {
                capture["at"].as_str().is_some_and(|at| *at >= *since)
                    && capture["culprits"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|culprit| culprit["name"] == name)
            });
            named[place] += usize::from(found);
        }
    }
    agent.end();
    println!("bursts of the processors: {} of {TRIES} seen, {} named", seen[0], named[0]);
    println!("bursts of a disk: {} of {TRIES} seen, {} named", seen[1], named[1]);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn burst(count: usize, make: impl Fn(usize) -> Command) -> Answer<()> {
    let mut all = Vec::new();
    for n in 0..count {
        all.push(make(n).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    std::thread::sleep(BURST);
    for child in &mut all {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
