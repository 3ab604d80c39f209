//! What the node's frame says, against independent sources for the same instant.
//!
//! A total is read before and after the other source: what that says must lie between. So a figure
//! that is right is never called wrong because time went on.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greenlight::lanes::Cells;
use greenlight::node::{Frame, Paths, Sampler, Signal};
use greenlight::time::{Mono, Now, Wall};

mod network;
mod node;

const PATIENCE: Duration = Duration::from_secs(90);

/// Debian's node_exporter on a free port, ended with the test.
pub(crate) struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    pub(crate) fn start() -> Self {
        let address = format!("127.0.0.1:{}", crate::contract::closed_port());
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("node_exporter: {error}; tests/run installs it"));
        let this = Self { child, address };
        let began = Instant::now();
        while std::net::TcpStream::connect(&this.address).is_err() {
            assert!(began.elapsed() < PATIENCE, "node_exporter does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        this
    }

    /// Every sample by its name with labels, as it stands in the exposition.
    pub(crate) fn scrape(&self) -> BTreeMap<String, f64> {
        let url = format!("http://{}/metrics", self.address);
        let answer = Command::new("curl").args(["-sSf", "-m", "60", &url]).output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        let text = String::from_utf8(answer.stdout).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sampler of this machine.
pub(crate) struct Node {
    sampler: Sampler,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { sampler: Sampler::new(&Paths::default(), &Cells::new()) }
    }

    pub(crate) fn sample(&mut self) -> Frame {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let wall = Wall(i64::try_from(wall.as_nanos()).unwrap());
        let mut frame = Frame::default();
        self.sampler.sample(Now { mono: Mono::now(), wall }, &mut frame);
        frame
    }
}

/// The value of a row of the frame.
pub(crate) fn value(frame: &Frame, metric: &str, labels: &[&str]) -> Option<f64> {
    frame.iter().find_map(|(def, signal)| {
        let same =
            def.metric.name == metric && def.labels.iter().map(|l| &**l).eq(labels.iter().copied());
        match signal {
            Signal::Number(value) if same => Some(value),
            _ => None,
        }
    })
}

/// A figure of the machine from /proc or /sys, read by nobody but this test.
pub(crate) fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}
