//! What the benchmarks share: an agent that is started and asked.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) type Answer<T> = Result<T, Box<dyn std::error::Error>>;

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

/// Over a connection of its own, as Prometheus asks; the body.
pub(crate) fn get(address: &str, path: &str) -> Answer<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.to_owned().into());
    }
    Ok(body.to_owned())
}
