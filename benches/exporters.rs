//! Both exporters from outside: what a scrape holds, and what they take of the machine.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::running::{Answer, Running, get};

pub(crate) fn row(what: &str, value: f64, limit: Option<f64>) {
    let limit = limit.map(|limit| format!("{limit:.3}")).unwrap_or_default();
    println!("{what:<52} {value:>12.3} {limit:>12}");
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

pub(crate) fn scrape(address: &str) -> Answer<String> {
    get(address, "/metrics")
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
