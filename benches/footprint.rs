//! What the agent costs, measured on the release binary as a whole and printed beside Debian's
//! node_exporter, pair by pair: `cargo bench --bench footprint`. With `-- --clean` it is built from
//! nothing too, which takes minutes.
//!
//! Figures are medians; the limits are those that the project has set itself. Nothing here is a
//! test: machines are noisy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod exporters;
mod running;

use exporters::{processor_time, resident, row, samples, scrape, start_node_exporter};
use running::{Answer, Running, median, start_agent};

/// Scrapes whose processor time is taken together: one alone is below the kernel's clock tick.
const SCRAPES: u32 = 2_000;
/// Starts of which the median is printed.
const STARTS: usize = 11;
/// So long the agent runs before its memory is read.
const SETTLE: Duration = Duration::from_secs(15);

fn main() -> Answer<()> {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_greenlight"));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("footprint");
    fs::create_dir_all(&folder)?;
    let plan = folder.join("plan.yaml");
    fs::write(&plan, "include: [ 'pack:linux-node' ]\n")?;

    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine: {}", load.trim_end());
    println!("{:<52} {:>12} {:>12}", "figure", "measured", "bar");
    let size = fs::metadata(&binary)?.len() as f64 / 1e6;
    row("stripped binary, MB", size, Some(25.0));

    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    // Written again as it is, it counts as changed.
    fs::write(&own, fs::read(&own)?)?;
    row("release build, ours alone, minutes", build(None)?, Some(2.0));
    if std::env::args().any(|argument| argument == "--clean") {
        let target = folder.join("clean");
        let _ = fs::remove_dir_all(&target);
        row("release build from nothing, minutes", build(Some(&target))?, Some(10.0));
        fs::remove_dir_all(&target)?;
    }

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut agent = start_agent(&binary, &plan, &folder)?;
        scrape(&agent.address)?;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
        agent.end();
    }
    row("start to first answered scrape, ms", median(starts), Some(300.0));

    let mut agent = start_agent(&binary, &plan, &folder)?;
    std::thread::sleep(SETTLE);
    let ours = cost(&agent)?;
    row("resident memory with linux-node, MB", ours.resident / 1e6, Some(15.0));
    row("samples of a scrape", ours.samples, None);
    row("processor time of a scrape, ms", ours.scrape * 1e3, None);
    row("processor time per 700 samples, ms", ours.scrape * 1e3 * 700.0 / ours.samples, Some(0.6));
    row("idle, share of one core in %", ours.idle * 100.0, None);
    agent.end();

    match start_node_exporter("prometheus-node-exporter", 29_100) {
        Ok(mut peer) => {
            std::thread::sleep(SETTLE);
            let theirs = cost(&peer)?;
            row("node_exporter: resident memory, MB", theirs.resident / 1e6, None);
            row("node_exporter: samples of a scrape", theirs.samples, None);
            row("node_exporter: time of a scrape, ms", theirs.scrape * 1e3, None);
            row("ratio of memory, ours to theirs", ours.resident / theirs.resident, None);
            let each = |cost: &Cost| cost.scrape / cost.samples;
            row("ratio of time per sample", each(&ours) / each(&theirs), None);
            peer.end();
        }
        Err(error) => println!("node_exporter was not measured: {error}"),
    }
    Ok(())
}

/// Minutes by the clock on the wall; of whatever else the machine does they are made too.
fn build(target: Option<&Path>) -> Answer<f64> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--locked", "--quiet"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let began = Instant::now();
    let status = cargo.status()?;
    if status.success() {
        Ok(began.elapsed().as_secs_f64() / 60.0)
    } else {
        Err(format!("the build ended with {status}").into())
    }
}

struct Cost {
    resident: f64,
    samples: f64,
    /// Seconds of processor time a scrape.
    scrape: f64,
    /// Seconds of processor time a second, without scrapes.
    idle: f64,
}

fn cost(running: &Running) -> Answer<Cost> {
    let body = scrape(&running.address)?;
    let pid = running.child.id();
    let (before, began) = (processor_time(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let idle = (processor_time(pid)? - before) / began.elapsed().as_secs_f64();
    let (before, began) = (processor_time(pid)?, Instant::now());
    for _ in 0..SCRAPES {
        scrape(&running.address)?;
    }
    let spent = processor_time(pid)? - before - idle * began.elapsed().as_secs_f64();
    Ok(Cost {
        resident: resident(pid)?,
        samples: samples(&body),
        scrape: (spent / f64::from(SCRAPES)).max(0.0),
        idle,
    })
}
