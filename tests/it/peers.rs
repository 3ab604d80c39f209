//! Real servers for the tests: each is started once (or once a test that breaks it), on loopback
//! and a port of its own, asked until it is ready, and killed by the kernel when this process
//! ends, however it ends. Their state and logs lie under `target/tmp/peers/PID`, and the next run
//! clears what ended runs left there.

#![allow(dead_code, reason = "each starter is used by the tests of its own area")]

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

mod elastalert;
mod kafka;
mod mail;
mod search;
mod sql;
mod syslog_ng;
mod ways;
pub(crate) use elastalert::ElastAlert;
pub(crate) use kafka::{Kafka, kafka, own_kafka};
pub(crate) use mail::Mail;
pub(crate) use search::{elasticsearch, opensearch};
pub(crate) use sql::{chdb, clickhouse, postgres};
pub(crate) use syslog_ng::SyslogNg;
pub(crate) use ways::{Shipper, rabbitmq, rsyslog_ways};

/// A server may take this long until it answers: a JVM on a machine that is compiling besides.
const READY: Duration = Duration::from_secs(120);

/// A port that nobody listens on, from below the range that the kernel gives to outgoing
/// connections, so that none of those takes it before the server does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(131);
    for _ in 0..10_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + start.wrapping_add(step) % 12_000;
        let port = u16::try_from(port).expect("below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between 20000 and 32000 is free")
}

/// A new folder of this run, named after what it is for.
pub(crate) fn folder(name: &str) -> PathBuf {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let run = RUN.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
        for old in fs::read_dir(&all).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(old.file_name()).exists() {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        all.join(std::process::id().to_string())
    });
    let folder = run.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// A running server. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    program: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; `package` is the Debian package that holds it. What it prints goes to
    /// `log`.
    pub(crate) fn start(program: &str, package: &str, arguments: &[&str], log: &Path) -> Self {
        let file = File::create(log).expect("the log can be written");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .env("PATH", path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor is left"))
            .stderr(file);
        require(program, package);
        let child = spawn(command);
        Self { child, program: program.to_string(), log: log.to_path_buf() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks until `ready` says yes; the end of the server or of the patience is the end of the
    /// test, with the server's last words.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) {
        let deadline = Instant::now() + READY;
        while !ready() {
            if let Some(status) = self.child.try_wait().expect("own child") {
                panic!("{} ended with {status}:\n{}", self.program, self.last_words());
            }
            assert!(
                Instant::now() < deadline,
                "{} was not ready after {READY:?}:\n{}",
                self.program,
                self.last_words()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a child from a thread that lives as long as this process: the kernel sends the parent's
/// death signal when the *thread* that forked has ended, and a test's thread ends with its test.
fn spawn(command: Command) -> Child {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("spawner".to_string())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread is left");
        Mutex::new(jobs)
    });
    let (answer, child) = mpsc::channel();
    spawner.lock().expect("no panic inside").send((command, answer)).expect("it never ends");
    child.recv().expect("it always answers").expect("setpriv (package util-linux) can be started")
}

/// Where Debian puts servers, besides this process's own PATH.
fn path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Fails the test where the program is missing, and says what to do.
pub(crate) fn require(program: &str, package: &str) {
    let found = path().split(':').any(|folder| Path::new(folder).join(program).is_file());
    assert!(
        found,
        "{program} is missing: run tests/run, or as root: apt-get install --no-install-recommends {package}"
    );
}

/// Runs a program to its end, with `input` on its standard input.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str], input: &str) -> Output {
    require(program, package);
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} can't be started: {e}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends before it has read everything is no fault of the test.
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output().expect("own child")
    })
}

/// Runs promtool: whether it was content, and all that it printed.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let output = run("promtool", "prometheus", arguments, input);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

/// GET, whatever the status: the body, or None where nobody answers.
pub(crate) fn get(url: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let mut answer = agent.get(url).call().ok()?;
    let body = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), body))
}

/// POST, whatever the status.
pub(crate) fn post(url: &str, content_type: &str, body: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let mut answer = agent.post(url).header("Content-Type", content_type).send(body).ok()?;
    let body = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), body))
}

/// PUT of JSON, whatever the status.
pub(crate) fn put(url: &str, body: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let mut answer = agent.put(url).header("Content-Type", "application/json").send(body).ok()?;
    let body = answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16(), body))
}

/// A Prometheus of the caller's own.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
    process: Process,
}

/// Starts Prometheus with this configuration and these further files (rules) beside it, which the
/// configuration names without a path.
pub(crate) fn prometheus(config: &str, files: &[(&str, &str)]) -> Prometheus {
    let folder = folder("prometheus");
    write_all(&folder, files);
    fs::write(folder.join("prometheus.yml"), config).expect("the folder can be written");
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut process = Process::start(
        "prometheus",
        "prometheus",
        &[
            &format!("--config.file={}", folder.join("prometheus.yml").display()),
            &format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
            &format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-lifecycle",
            "--web.enable-remote-write-receiver",
        ],
        &folder.join("prometheus.log"),
    );
    let ready = format!("{url}/-/ready");
    process.wait_until(|| get(&ready).is_some_and(|(status, _)| status == 200));
    Prometheus { url, folder, process }
}

impl Prometheus {
    /// Takes another configuration and other files, as its operator would: written, then reloaded.
    pub(crate) fn reload(&self, config: &str, files: &[(&str, &str)]) {
        write_all(&self.folder, files);
        fs::write(self.folder.join("prometheus.yml"), config).expect("the folder can be written");
        let answer = post(&format!("{}/-/reload", self.url), "text/plain", "");
        assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(200), "{answer:?}");
    }

    /// An instant query: the `result` of the answer.
    pub(crate) fn query(&self, promql: &str) -> serde_json::Value {
        let mut url = format!("{}/api/v1/query?query=", self.url);
        for byte in promql.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
                    url.push(char::from(byte));
                }
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        let (status, body) = get(&url).expect("prometheus answers");
        assert_eq!(status, 200, "{promql}: {body}");
        let answer: serde_json::Value = serde_json::from_str(&body).expect("prometheus sends JSON");
        answer["data"]["result"].clone()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// An Alertmanager of the caller's own.
pub(crate) struct Alertmanager {
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
    process: Process,
}

/// Starts Alertmanager with this configuration.
pub(crate) fn alertmanager(config: &str) -> Alertmanager {
    let folder = folder("alertmanager");
    fs::write(folder.join("alertmanager.yml"), config).expect("the folder can be written");
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut process = Process::start(
        "prometheus-alertmanager",
        "prometheus-alertmanager",
        &[
            &format!("--config.file={}", folder.join("alertmanager.yml").display()),
            &format!("--storage.path={}", folder.join("data").display()),
            &format!("--web.listen-address=127.0.0.1:{port}"),
            // Empty: no port for its own kind.
            "--cluster.listen-address=",
        ],
        &folder.join("alertmanager.log"),
    );
    let ready = format!("{url}/-/ready");
    process.wait_until(|| get(&ready).is_some_and(|(status, _)| status == 200));
    Alertmanager { url, folder, process }
}

impl Alertmanager {
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// An rsyslog that takes syslog over TCP, with octet counting or line by line, and writes one line
/// a message to a file.
pub(crate) struct Rsyslog {
    pub(crate) port: u16,
    pub(crate) written: PathBuf,
    process: Process,
}

pub(crate) fn rsyslog() -> Rsyslog {
    start_rsyslog(include_str!("../peers/rsyslog.conf"), "rsyslog")
}

/// The same over TLS; rsyslog's OpenSSL driver speaks TLS 1.3.
pub(crate) fn rsyslog_tls(certificate: &Path, key: &Path) -> Rsyslog {
    let text = include_str!("../peers/rsyslog-tls.conf")
        .replace("@CERTIFICATE@", &certificate.display().to_string())
        .replace("@KEY@", &key.display().to_string());
    start_rsyslog(&text, "rsyslog rsyslog-openssl")
}

fn start_rsyslog(config: &str, packages: &str) -> Rsyslog {
    let folder = folder("rsyslog");
    let port = free_port();
    let written = folder.join("messages");
    let text = config
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@PORT@", &port.to_string());
    let config = folder.join("rsyslog.conf");
    fs::write(&config, text).expect("the folder can be written");
    let [config, pid] = [&config, &folder.join("pid")].map(|path| path.display().to_string());
    let mut process = Process::start(
        "rsyslogd",
        packages,
        &["-n", "-f", &config, "-i", &pid],
        &folder.join("rsyslog.log"),
    );
    process.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    Rsyslog { port, written, process }
}

impl Rsyslog {
    /// What it has written so far, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.written).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_string).collect()
    }
}

fn write_all(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("the folder can be written");
    }
}

#[test]
fn peers_start_answer_and_end() {
    let prometheus = prometheus("global: { scrape_interval: 1s }\n", &[]);
    assert_eq!(prometheus.query("vector(1)")[0]["value"][1], "1");
    let (content, said) = promtool(&["check", "metrics"], "wrong{ 1\n");
    assert!(!content, "{said}");

    let receivers = "route: { receiver: none }\nreceivers: [ { name: none } ]\n";
    let alertmanager = alertmanager(receivers);
    let (status, body) = get(&format!("{}/api/v2/alerts", alertmanager.url)).expect("it answers");
    assert_eq!((status, body.trim()), (200, "[]"));

    let pid = alertmanager.process.pid();
    drop(alertmanager);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it ends with its handle");
}

#[test]
fn kafka_starts_and_makes_topics() {
    let kafka = kafka();
    kafka.topic("peers-smoke", 3);
    assert!(kafka.topics().contains(&"peers-smoke".to_string()));
}

#[test]
fn opensearch_and_elasticsearch_start_and_find_what_they_hold() {
    for search in [opensearch(), elasticsearch()] {
        search.index("peers-smoke", &[serde_json::json!({"message": "a b"})]);
        let (status, body) = get(&search.at("peers-smoke/_count")).expect("it answers");
        assert!(status == 200 && body.contains("\"count\":1"), "{body}");
    }
}
