//! The command line as its user meets it: exit codes, streams, formats, mistakes, the daemon's
//! life from its first line to its last.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_greenlight");

pub(crate) fn greenlight(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("standard output is UTF-8")
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("standard error is UTF-8")
}

/// A folder of this test, with a plan in it.
pub(crate) fn folder_with(plan: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("plan.yaml");
    fs::write(&file, plan).expect("the plan can be written");
    let name = file.display().to_string();
    (folder, name)
}

/// How long the agent may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `greenlight run`, killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
    said: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn start(plan: &str, state: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command
            .args(["run", "--web.listen-address", "127.0.0.1:0", "-c", plan, "--state"])
            .arg(state)
            .args(more);
        Self::listening(command)
    }

    /// Whatever says where it listens: `run`, and `demo` without `--once`.
    pub(crate) fn listening(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (tell, told) = mpsc::channel();
        let said = Arc::<Mutex<String>>::default();
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push_str(&line);
                heard.push('\n');
                if let Some((_, address)) = line.split_once("listening on http://") {
                    let _ = tell.send(address.trim().to_owned());
                }
            }
        });
        let mut this = Self { child, address: String::new(), said, reader: Some(reader) };
        match told.recv_timeout(PATIENCE) {
            Ok(address) => this.address = address,
            Err(_) => panic!("it does not listen: {}", this.so_far()),
        }
        this
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, signal).expect("it is there");
    }

    /// The exit code and all that it said, within a deadline.
    pub(crate) fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let Some(status) = self.ended() else {
            panic!("it did not end within {PATIENCE:?}: {}", self.so_far());
        };
        self.reader.take().expect("it ends once").join().expect("it is read to its end");
        (status.code(), self.so_far())
    }

    /// How it ended, if it did within the deadline.
    fn ended(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.child.try_wait().ok()?;
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn so_far(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        fetch("GET", &self.address, path)
    }

    pub(crate) fn post(&self, path: &str) -> (u16, String) {
        fetch("POST", &self.address, path)
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// The sum of a metric's samples whose line holds all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, body) = self.get("/metrics");
        let mut sum = None;
        for line in body.lines().filter(|line| line.starts_with(name)) {
            let rest = &line[name.len()..];
            if !(rest.starts_with('{') || rest.starts_with(' '))
                || !labels.iter().all(|l| line.contains(l))
            {
                continue;
            }
            let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
            sum = Some(sum.unwrap_or(0.0) + value);
        }
        sum
    }

    /// Waits until the gate has this verdict.
    pub(crate) fn until_verdict(&self, gate: &str, verdict: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let gates = self.json("/api/v1/gates");
            let gates = gates.as_array().expect("an array");
            let row =
                gates.iter().find(|row| row["id"] == gate).expect("the gate is there").clone();
            if row["verdict"] == verdict {
                return row;
            }
            assert!(Instant::now() < deadline, "{gate} did not become {verdict}: {row:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Not even a killed process ends while the kernel holds it, as a dead mount makes it do.
        if self.ended().is_none() {
            eprintln!("process {} was killed and does not end", self.child.id());
        }
    }
}

/// One request over a connection of its own.
pub(crate) fn fetch(method: &str, address: &str, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    .expect("it takes the request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

fn tcp_plan(port: u16, vars: &str) -> String {
    format!(
        "node: {{ name: n1 }}\nvars: {{ {vars} }}\n\
         checks: [ {{ id: port, tcp: {{}}, targets: [ '127.0.0.1:{port}' ], every: 200ms }} ]\n\
         gates: [ {{ id: port.open, refs: [ X1 ], require: {{ ratio: check.success, where: {{ check: port }}, over: 2s, at_least: 5, above: 100% }} }} ]\n"
    )
}

/// A port that somebody listens on, as long as the listener lives.
fn open_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    (listener, port)
}

#[test]
fn check_passes_fails_and_stays_incomplete_with_the_contracts_codes() {
    let (listener, port) = open_port();
    let (_folder, plan) = folder_with(&tcp_plan(port, ""));
    let green = greenlight(&["check", "-c", &plan, "-o", "json"]);
    assert_eq!(code(&green), 0, "{}", err(&green));
    let report: Value =
        serde_json::from_str(&out(&green)).expect("standard output is the document");
    assert_eq!(report["decision"], "go");
    assert_eq!(report["gates"][0]["verdict"], "pass");
    assert_eq!(report["gates"][0]["refs"][0], "X1");
    assert_eq!(report["counts"]["pass"], 1);
    assert_eq!(report["checks"][0]["targets"][0]["last"]["outcome"], "success");

    let short = greenlight(&["check", "-c", &plan, "--for", "500ms", "-o", "json"]);
    assert_eq!(code(&short), 2, "a window that is not covered is open");
    let report: Value = serde_json::from_str(&out(&short)).expect("a document");
    assert_eq!(
        (&report["decision"], &report["gates"][0]["verdict"]),
        (&"incomplete".into(), &"open".into())
    );

    drop(listener);
    let red = greenlight(&["check", "-c", &plan, "-o", "json"]);
    assert_eq!(code(&red), 1, "{}", err(&red));
    let report: Value = serde_json::from_str(&out(&red)).expect("a document");
    assert_eq!(report["decision"], "no_go");
    assert_eq!(report["gates"][0]["verdict"], "fail");
    assert_eq!(report["gates"][0]["worst"]["target"], format!("127.0.0.1:{port}"));
    assert_eq!(report["checks"][0]["targets"][0]["last"]["reason"]["code"], "refused");
}

#[test]
fn a_plan_without_gates_is_incomplete() {
    let (_folder, plan) = folder_with("");
    let output = greenlight(&["check", "-c", &plan, "--for", "1s"]);
    assert_eq!(code(&output), 2, "{}", out(&output));
}

#[test]
fn documents_go_where_they_are_sent_and_one_at_most_to_standard_output() {
    let (_listener, port) = open_port();
    let (folder, plan) = folder_with(&tcp_plan(port, ""));
    let file = |name: &str| folder.path().join(name).display().to_string();
    let output = greenlight(&[
        "check",
        "-c",
        &plan,
        "-o",
        "terminal",
        "-o",
        &format!("html={}", file("r.html")),
        "-o",
        &format!("junit={}", file("r.xml")),
        "-o",
        &format!("markdown={}", file("r.md")),
        "-o",
        &format!("json={}", file("r.json")),
    ]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("GO"), "{}", out(&output));
    assert!(!out(&output).contains('\u{1b}'), "no colour where it is no terminal");
    for (name, words) in [
        ("r.html", "<!DOCTYPE html>"),
        ("r.xml", "<testsuites"),
        ("r.md", "port.open"),
        ("r.json", "\"decision\""),
    ] {
        let text = fs::read_to_string(folder.path().join(name)).expect("the file was written");
        assert!(text.contains(words), "{name}: {text}");
    }
    let two = greenlight(&["check", "-c", &plan, "-o", "json", "-o", "markdown"]);
    assert_eq!(code(&two), 64, "{}", err(&two));
    let nowhere = greenlight(&["check", "-c", &plan, "-o", "json=/no/such/folder/r.json"]);
    assert_eq!(code(&nowhere), 64, "known before anything is measured: {}", err(&nowhere));
}

#[test]
fn wrong_usage_is_64_and_an_invalid_plan_is_78_with_every_mistake() {
    assert_eq!(code(&greenlight(&["chekc"])), 64);
    assert_eq!(code(&greenlight(&["check", "--for", "5"])), 64);
    assert_eq!(code(&greenlight(&["demo", "--break", "nothing"])), 64);
    assert_eq!(code(&greenlight(&["--help"])), 0);
    let (_folder, plan) = folder_with("chekcs: []\nchecks: [ { id: a, tpc: {} } ]\n");
    for command in ["check", "plan", "run", "rules", "report"] {
        let output = greenlight(&[command, "-c", &plan]);
        assert_eq!(code(&output), 78, "{command}: {}", err(&output));
        let text = err(&output);
        assert!(
            text.contains("plan.yaml:1:1")
                && text.contains("plan.yaml:2:")
                && text.contains("2 mistakes"),
            "{text}"
        );
        assert_eq!(out(&output), "");
    }
    let missing = greenlight(&["plan", "-c", "/no/such/plan.yaml"]);
    assert_eq!(code(&missing), 78);
    assert!(err(&missing).contains("no such file"), "{}", err(&missing));
    let (_folder, garbage) = folder_with("");
    fs::write(&garbage, [0_u8, 159, 146, 150, 255]).expect("it can be written");
    assert_eq!(code(&greenlight(&["plan", "-c", &garbage])), 78);
}

#[test]
fn standard_input_folders_and_variables_make_a_plan() {
    let (folder, _) = folder_with(&tcp_plan(1, "tick: 1s"));
    fs::write(folder.path().join("more.yaml"), "nodes: [ '${name}', b ]\n").expect("written");
    let path = folder.path().display().to_string();
    let output = greenlight(&["plan", "-c", &path, "--var", "name=a", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let plan: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(plan["nodes"], serde_json::json!(["a", "b"]));
    assert_eq!(plan["checks"][0]["id"], "port");
    let mut child = Command::new(BINARY)
        .args(["plan", "-c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(tcp_plan(1, "").as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = out(&output);
    assert!(text.contains("opens one TCP connection to 127.0.0.1:1"), "{text}");
}

#[test]
fn a_secret_is_shown_as_its_reference_and_a_plain_one_is_never_echoed() {
    let plan = |secret: &str| {
        format!(
            "checks: [ {{ id: a, http: {{ auth: {{ basic: {{ user: u, password: {secret} }} }} }}, targets: [ 'http://127.0.0.1:1/' ] }} ]"
        )
    };
    let (_folder, good) = folder_with(&plan("{ env: HOME }"));
    let output = greenlight(&["plan", "-c", &good, "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let home = std::env::var("HOME").unwrap_or_default();
    assert!(
        out(&output).contains("\"env\": \"HOME\"")
            && !out(&output).contains(&format!("\"{home}\""))
    );
    let (_folder, bad) = folder_with(&plan("hunter2"));
    let output = greenlight(&["plan", "-c", &bad]);
    assert_eq!(code(&output), 78);
    assert!(!err(&output).contains("hunter2"), "{}", err(&output));
}

#[test]
fn once_tells_success_failure_and_what_it_saw() {
    let (listener, port) = open_port();
    let (_folder, plan) = folder_with(&tcp_plan(port, ""));
    let output = greenlight(&["once", "port", "-c", &plan, "--debug", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let seen: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(seen["targets"][0]["outcome"], "success");
    assert!(!seen["targets"][0]["debug"].as_array().expect("notes").is_empty());
    drop(listener);
    let output = greenlight(&["once", "port", "-c", &plan]);
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("refused"), "{}", out(&output));
    let unknown = greenlight(&["once", "prot", "-c", &plan]);
    assert_eq!(code(&unknown), 64);
    assert!(err(&unknown).contains("did you mean `port`"), "{}", err(&unknown));
}

#[test]
fn what_a_plan_hardly_means_is_said_and_keeps_nobody_from_starting() {
    let (_folder, plan) = folder_with(&tcp_plan(1, "").replace("every: 200ms", "every: 1m"));
    let output = greenlight(&["plan", "-c", &plan, "-o", "json"]);
    let said = err(&output);
    assert_eq!(code(&output), 0, "{said}");
    for words in ["warning: a window of 2s", "is due every 1m", "plan.yaml:"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!out(&output).contains("warning:"), "a document is a document");
}

#[test]
fn the_daemon_serves_judges_reloads_and_ends_in_order() {
    let (_listener, port) = open_port();
    let (folder, plan) = folder_with(&tcp_plan(port, ""));
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &[]);
    assert_eq!(daemon.get("/-/healthy").0, 200);
    assert_eq!(daemon.get("/-/ready").0, 200);
    let row = daemon.until_verdict("port.open", "pass", Duration::from_secs(20));
    assert_eq!(row["value"], 1.0);
    assert_eq!(daemon.metric("greenlight_gate_verdict", &["port.open"]), Some(0.0));
    assert_eq!(daemon.metric("greenlight_decision", &[]), Some(0.0));
    assert_eq!(daemon.metric("greenlight_node_info", &["n1"]), Some(1.0));
    let before = daemon.json("/api/v1/plan")["digest"].clone();

    // A plan with mistakes keeps the old one in force, and a metric says so.
    fs::write(&plan, "chekcs: []").expect("written");
    let (status, body) = daemon.post("/-/reload");
    assert!(status >= 400 && body.contains("chekcs"), "{status}: {body}");
    assert!(body.contains("1 mistake in the plan; the old plan stays in force"), "{body}");
    assert!(!body.contains("nothing was started"), "{body}");
    assert_eq!(daemon.metric("greenlight_plan_reload_success", &[]), Some(0.0));
    assert_eq!(daemon.json("/api/v1/plan")["digest"], before);
    let attempts = daemon.metric("greenlight_check_attempts_total", &["port"]);

    // A valid one is in force at once; what was measured before still counts.
    fs::write(&plan, tcp_plan(port, "other: 1").replace("port.open", "port.renamed"))
        .expect("written");
    daemon.signal(Signal::SIGHUP);
    let row = {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let gates = daemon.json("/api/v1/gates");
            if gates[0]["id"] == "port.renamed" {
                break gates[0].clone();
            }
            assert!(Instant::now() < deadline, "the new plan is not in force: {gates}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!(row["verdict"], "pass", "the series carried over: {row:#}");
    assert_ne!(daemon.json("/api/v1/plan")["digest"], before);
    assert_eq!(daemon.metric("greenlight_plan_reload_success", &[]), Some(1.0));
    assert_eq!(daemon.metric("greenlight_gate_verdict", &["port.open"]), None);
    assert!(daemon.metric("greenlight_check_attempts_total", &["port"]) >= attempts);

    let (code, said) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    let report =
        greenlight(&["report", "-c", &plan, "--state", &state.display().to_string(), "-o", "json"]);
    let document: Value =
        serde_json::from_str(&out(&report)).unwrap_or_else(|e| panic!("{e}: {}", err(&report)));
    assert_eq!(document["gates"][0]["id"], "port.renamed");
}

#[test]
fn a_restart_continues_windows() {
    let (_listener, port) = open_port();
    // An interval of 2 s lets a restart pass without a gap in the window.
    let plan =
        tcp_plan(port, "").replace("over: 2s", "over: 20s").replace("every: 200ms", "every: 2s");
    let (folder, plan) = folder_with(&plan);
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &[]);
    daemon.until_verdict("port.open", "pass", Duration::from_secs(40));
    daemon.end(Signal::SIGTERM);
    let began = Instant::now();
    let daemon = Daemon::start(&plan, &state, &[]);
    let row = daemon.until_verdict("port.open", "pass", Duration::from_secs(20));
    let took = began.elapsed();
    eprintln!("pass again {took:?} after the restart");
    // Of a window of 20 s that is covered at once, most was measured before the restart.
    assert!(took < Duration::from_secs(10), "the window began anew: {took:?}: {row:#}");
}

#[test]
fn two_writers_of_one_state_directory_are_refused_by_name() {
    let (folder, plan) = folder_with("");
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &[]);
    let second = greenlight(&[
        "run",
        "-c",
        &plan,
        "--state",
        &state.display().to_string(),
        "--web.listen-address",
        "127.0.0.1:0",
    ]);
    assert_eq!(code(&second), 70, "{}", err(&second));
    assert!(err(&second).contains(&daemon.pid().to_string()), "{}", err(&second));
}

#[test]
fn an_interrupted_check_prints_its_report_and_exits_2() {
    let (_listener, port) = open_port();
    let (_folder, plan) = folder_with(&tcp_plan(port, "").replace("over: 2s", "over: 10m"));
    let child = Command::new(BINARY)
        .args(["check", "-c", &plan, "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_secs(2));
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGINT)
        .expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 2);
    let report: Value = serde_json::from_str(&out(&output)).expect("a document");
    assert_eq!(report["gates"][0]["verdict"], "open");
}

#[test]
fn systemd_hears_that_it_is_ready_alive_and_stopping() {
    let (folder, plan) = folder_with("");
    let path: PathBuf = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    // As long as systemd waits: then it kills the process.
    socket.set_read_timeout(Some(Duration::from_secs(6))).expect("a socket");
    let mut child = Command::new(BINARY)
        .args(["run", "--web.listen-address", "127.0.0.1:0", "-c", &plan, "--state"])
        .arg(folder.path().join("state"))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "6000000")
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let hear = || {
        let mut bytes = [0_u8; 256];
        match socket.recv(&mut bytes) {
            Ok(length) => String::from_utf8_lossy(&bytes[..length]).into_owned(),
            Err(error) => format!("nothing within 6 s: {error}"),
        }
    };
    let mut heard: Vec<String> = (0..3).map(|_| hear()).collect();
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM)
        .expect("it runs");
    while heard.len() < 12 && !heard.iter().any(|text| text.contains("STOPPING=1")) {
        heard.push(hear());
    }
    child.wait().expect("it ends");
    assert!(heard.iter().any(|text| text.contains("STOPPING=1")), "{heard:?}");
    assert!(heard[0].contains("READY=1"), "{heard:?}");
    assert!(heard.iter().filter(|text| text.contains("WATCHDOG=1")).count() >= 2, "{heard:?}");
}

#[test]
fn references_are_what_the_code_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let references: [(&[&str], &str); 3] = [
        (&["metrics"], "docs/metrics.md"),
        (&["schema"], "docs/plan.schema.json"),
        (&["schema", "-o", "markdown"], "docs/plan.md"),
    ];
    let mut stale = Vec::new();
    for (command, file) in references {
        let made = out(&greenlight(command));
        let path = root.join(file);
        if fs::read_to_string(&path).unwrap_or_default() != made {
            fs::create_dir_all(root.join("docs")).expect("it can be made");
            fs::write(&path, made).expect("it can be written");
            stale.push(file);
        }
    }
    assert!(stale.is_empty(), "{stale:?} were stale and have been written anew: commit them");
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&greenlight(&["completions", shell])).contains("greenlight"));
    }
    assert!(out(&greenlight(&["version"])).starts_with("greenlight 0."));
}

#[test]
fn packs_and_the_examples_of_the_docs_are_valid_by_the_schema() {
    let schema: Value = serde_json::from_str(&out(&greenlight(&["schema"]))).expect("JSON");
    let plans = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let of_use_cases = json!({ "$ref": "#/$defs/UseCase", "$defs": schema["$defs"] });
    let use_cases = jsonschema::validator_for(&of_use_cases).expect("the schema is a schema");
    let mut texts: Vec<(String, String)> = greenlight::plan::packs::BUILT_IN
        .iter()
        .map(|(name, text)| (format!("pack:{name}"), (*text).to_owned()))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["README.md", "docs/plan.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        for (number, example) in text.split("```yaml\n").skip(1).enumerate() {
            let example = example.split("```").next().unwrap_or_default();
            texts.push((format!("{file}, example {}", number + 1), example.to_owned()));
        }
    }
    assert!(texts.len() >= 6, "the docs hold examples");
    for (name, text) in texts {
        use greenlight::spec::{Diagnostics, Sources, decode, yaml};
        let mut sources = Sources::default();
        let mut diagnostics = Diagnostics::default();
        let source = sources.add(name.clone(), text.clone());
        let node = yaml::parse(source, &text, &mut diagnostics);
        let value: Option<Value> = node.and_then(|node| decode(&node, &mut diagnostics));
        let value =
            value.unwrap_or_else(|| panic!("{name}: {}", diagnostics.render(&sources, false)));
        // Of the two kinds of file only a use case has steps.
        let validator = if value.get("events").is_some() { &use_cases } else { &plans };
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}:\n{}", errors.join("\n"));
    }
}
