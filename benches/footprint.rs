//! What the agent costs, measured on the release binary as a whole and printed beside Debian's
//! node_exporter, pair by pair: `cargo bench --bench footprint`. With `-- --clean` it is built from
//! nothing too, which takes minutes.
//!
//! Figures are medians; the limits are those that the project has set itself. Nothing here is a
//! test: machines are noisy.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

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

    println!("{:<44} {:>12} {:>12}", "figure", "measured", "limit");
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

    match start_node_exporter() {
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

fn row(what: &str, value: f64, limit: Option<f64>) {
    let limit = limit.map(|limit| format!("{limit:.1}")).unwrap_or_default();
    println!("{what:<44} {value:>12.3} {limit:>12}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn start_agent(binary: &Path, plan: &Path, folder: &Path) -> Answer<Running> {
    let state = folder.join("state");
    let _ = fs::remove_dir_all(&state);
    let mut child = Command::new(binary)
        .args(["run", "--web.listen-address", "127.0.0.1:0", "--log.level", "error", "-c"])
        .arg(plan)
        .arg("--state")
        .arg(&state)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?).lines();
    let address = loop {
        let line = lines.next().ok_or("the agent ended")??;
        if let Some((_, address)) = line.split_once("listening on http://") {
            break address.trim().to_owned();
        }
    };
    // What it says later must not fill the pipe.
    std::thread::Builder::new().spawn(move || lines.for_each(drop))?;
    Ok(Running { child, address })
}

fn start_node_exporter() -> Answer<Running> {
    let address = "127.0.0.1:29100".to_owned();
    let child = Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={address}"))
        .arg("--no-collector.systemd")
        .stderr(Stdio::null())
        .spawn()?;
    let running = Running { child, address };
    let deadline = Instant::now() + Duration::from_secs(10);
    while scrape(&running.address).is_err() {
        if Instant::now() > deadline {
            return Err("it did not answer within 10 s".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(running)
}

/// One scrape over a connection of its own, as Prometheus asks; the body.
fn scrape(address: &str) -> Answer<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.to_owned().into());
    }
    Ok(body.to_owned())
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
    let samples = body.lines().filter(|line| line.contains(' ') && !line.starts_with('#')).count();
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
        samples: samples as f64,
        scrape: (spent / f64::from(SCRAPES)).max(0.0),
        idle,
    })
}

/// Seconds in user and kernel mode, all threads: fields 14 and 15 of /proc/PID/stat, in ticks of
/// 10 ms (proc(5)).
fn processor_time(pid: u32) -> Answer<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Answer<f64> { Ok(fields.get(at).ok_or("a short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn resident(pid: u32) -> Answer<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
    Ok(kib * 1024.0)
}
