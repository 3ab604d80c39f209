//! A platform of the tests' own, of which it is known exactly what it takes, refuses and drops.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use greenlight::journey::event::Token;
use serde_json::Value;

use crate::command::{BINARY, folder_with};
use crate::http::server::{Act, Received, Server};

/// What became of an event, by its number in the order of arrival.
pub(super) type Rule = fn(u64) -> Fate;

pub(super) enum Fate {
    Stored,
    /// Shown twice, each copy with an id of its own.
    Twice,
    /// Shown once, and to who asks again twice.
    Again,
    /// Taken with a good answer, and gone.
    Dropped,
    Refused,
    /// Asked to slow down, for so many seconds.
    Throttled(Option<u64>),
}

/// Takes events at `/in` and shows at `/search` what it stored.
pub(super) struct Platform {
    server: Server,
    stored: Arc<Mutex<Vec<String>>>,
}

impl Platform {
    /// `each` is what one event costs it, one after the other.
    pub(super) async fn start(rule: Rule, each: Duration) -> Self {
        let stored = Arc::new(Mutex::new(Vec::<String>::new()));
        let shown = stored.clone();
        let again = Mutex::new(Vec::<String>::new());
        let state = Mutex::new((0_u64, Instant::now()));
        let server = Server::start(move |request: &Received| {
            if request.path.starts_with("/search") {
                let run = request.path.split("run=").nth(1).expect("a run");
                let mut stored = shown.lock().expect("no panic");
                let of_run: Vec<&str> =
                    stored.iter().filter(|body| body.contains(run)).map(String::as_str).collect();
                let answer = Act::json(format!("[{}]", of_run.join(",")));
                stored.append(&mut again.lock().expect("no panic"));
                return answer;
            }
            let (pause, fate) = {
                let mut state = state.lock().expect("no panic");
                state.0 += 1;
                state.1 = state.1.max(Instant::now()) + each;
                (state.1.saturating_duration_since(Instant::now()), rule(state.0))
            };
            let answer = match fate {
                Fate::Refused => Act::status(500),
                Fate::Throttled(after) => {
                    let after = after.map(|after| ("retry-after", after.to_string()));
                    Act::Answer(429, after.into_iter().collect(), "slow down".into())
                }
                Fate::Twice => {
                    let mut stored = shown.lock().expect("no panic");
                    for copy in ["a", "b"] {
                        let mut event: Value =
                            serde_json::from_str(&request.body).expect("a JSON event");
                        event["copy"] = copy.into();
                        stored.push(event.to_string());
                    }
                    Act::status(201)
                }
                Fate::Again => {
                    let mut event: Value = serde_json::from_str(&request.body).expect("JSON");
                    shown.lock().expect("no panic").push(request.body.clone());
                    event["copy"] = "b".into();
                    again.lock().expect("no panic").push(event.to_string());
                    Act::status(201)
                }
                Fate::Dropped => Act::status(201),
                Fate::Stored => {
                    assert!(Token::find_all(&request.body).next().is_some(), "a token");
                    shown.lock().expect("no panic").push(request.body.clone());
                    Act::status(201)
                }
            };
            if each.is_zero() { answer } else { Act::After(pause, Box::new(answer)) }
        })
        .await;
        Self { server, stored }
    }

    /// How many events were posted.
    pub(super) fn posts(&self) -> usize {
        self.server.seen().iter().filter(|request| request.path == "/in").count()
    }

    pub(super) fn stored(&self) -> u64 {
        self.stored.lock().expect("no panic").len() as u64
    }

    /// A load on a node that is at rest.
    pub(super) fn load(&self, arguments: &[&str]) -> Running {
        self.load_on(&Node::at_rest(), arguments)
    }

    /// A load on a node of which the kernel says this.
    pub(super) fn load_on(&self, node: &Node, arguments: &[&str]) -> Running {
        let plan = format!(
            "journeys:\n  - id: web\n    timeout: 10s\n    send: {{ http: {{ to: '{}' }} }}\n    \
             stages:\n      - stored: {{ json_api: {{ url: '{}', items: '.[]', id: '.copy // \"only\"' }}, \
             within: 12s, give_up: 12s, poll: 1s }}\n",
            self.server.url("/in"),
            self.server.url("/search?run={run}")
        );
        start("web", &plan, node, arguments)
    }
}

/// Starts a load of a plan's journey.
pub(super) fn start(id: &str, plan: &str, node: &Node, arguments: &[&str]) -> Running {
    let (folder, plan) = folder_with(plan);
    let child = Command::new(BINARY)
        .args(["load", id, "-o", "json", "-c", &plan, "--path.procfs"])
        .arg(&node.folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    Running { _folder: folder, child }
}

/// What a kernel says of its processors: the machine that runs the tests may be short of them.
pub(super) struct Node {
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(super) fn at_rest() -> Self {
        Self::stalled(0)
    }

    /// A node where tasks wait for a processor for so much of each second, in percent.
    pub(super) fn stalled(percent: u64) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("load-node-{}-{}", std::process::id(), NUMBER.fetch_add(1, SeqCst));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(folder.join("pressure")).expect("a folder can be made");
        // In place and always as long, for who reads it keeps it open.
        let file = File::create(folder.join("pressure/cpu")).expect("it can be written");
        let began = Instant::now();
        let write = move || {
            let micros = began.elapsed().as_micros() as u64 * percent / 100;
            let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={micros:015}\n");
            file.write_all_at(text.as_bytes(), 0).expect("it can be written");
        };
        write();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(SeqCst) {
                thread::sleep(Duration::from_millis(20));
                write();
            }
        });
        Self { folder, stop, thread: Some(thread) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(super) struct Running {
    _folder: tempfile::TempDir,
    pub(super) child: Child,
}

impl Running {
    pub(super) async fn ended(self) -> (Option<i32>, Value, String) {
        let Self { _folder, child } = self;
        let output: Output = tokio::task::spawn_blocking(|| child.wait_with_output())
            .await
            .expect("it is waited for")
            .expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {said}"));
        (output.status.code(), report, said)
    }
}

pub(super) fn count(report: &Value, name: &str) -> u64 {
    report["counts"][name].as_u64().unwrap_or_else(|| panic!("{name}: {report:#}"))
}

/// The fate's count at a stage.
pub(super) fn fate(report: &Value, stage: &str, fate: &str) -> u64 {
    let rows = report["stages"].as_array().expect("stages");
    let row = rows.iter().find(|row| row["stage"] == stage).expect("the stage");
    row["fates"][fate].as_u64().unwrap_or(0)
}

/// Every event that was handed over has one receipt, and one fate at each stage.
pub(super) fn adds_up(report: &Value) {
    let handed = count(report, "handed_over");
    let receipts = ["accepted", "sent", "refused", "not_sent", "unknown", "fault"];
    assert_eq!(receipts.iter().map(|name| count(report, name)).sum::<u64>(), handed, "{report:#}");
    for row in report["stages"].as_array().expect("stages") {
        assert_eq!(row["expected"].as_u64(), Some(handed), "{row}");
        let fates = row["fates"].as_object().expect("fates");
        assert_eq!(fates.values().filter_map(Value::as_u64).sum::<u64>(), handed, "{row}");
    }
}
