//! What the benchmarks share: programs that are started, scraped and looked at from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

pub(crate) type Answer<T> = Result<T, Box<dyn std::error::Error>>;

pub(crate) fn row(what: &str, value: f64, limit: Option<f64>) {
    let limit = limit.map(|limit| format!("{limit:.3}")).unwrap_or_default();
    println!("{what:<52} {value:>12.3} {limit:>12}");
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn start_agent(binary: &Path, plan: &Path, folder: &Path) -> Answer<Running> {
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

/// With its defaults, but for systemd's units, which Debian's package asks for besides.
pub(crate) fn start_node_exporter(program: &str, port: u16) -> Answer<Running> {
    let address = format!("127.0.0.1:{port}");
    let child = Command::new(program)
        .arg(format!("--web.listen-address={address}"))
        .arg("--no-collector.systemd")
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let running = Running { child, address };
    let deadline = Instant::now() + Duration::from_secs(10);
    while scrape(&running.address).is_err() {
        if Instant::now() > deadline {
            return Err(format!("{program} did not answer within 10 s").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(running)
}

/// One scrape over a connection of its own, as Prometheus asks; the body.
pub(crate) fn scrape(address: &str) -> Answer<String> {
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

pub(crate) fn samples(body: &str) -> f64 {
    body.lines().filter(|line| line.contains(' ') && !line.starts_with('#')).count() as f64
}

/// Seconds of processor time of all threads, those that have ended too, to the nanosecond: the
/// process's own clock (clock_getcpuclockid(3)).
pub(crate) fn processor_time(pid: u32) -> Answer<f64> {
    let time = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?.now()?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

pub(crate) fn resident(pid: u32) -> Answer<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
    Ok(kib * 1024.0)
}
