//! A detection engine in small: it reads what was parsed, raises one alert for three failed logins
//! of a run, and closes it some seconds later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greenlight::time::Wall;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use serde_json::{Value, json};

use super::Detection;
use crate::peers::{self, Kafka};
use crate::processor::consumer;

/// So many failed logins are an attack.
const ATTEMPTS: u32 = 3;
/// So long an alert is open.
const OPEN: Duration = Duration::from_secs(2);

/// So long after its events a late alert is raised.
const LATE: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(super) struct Rule {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rule {
    pub(super) fn start(
        kafka: &Kafka,
        topic: &str,
        alertmanager: &str,
        broken: Arc<Mutex<Option<Detection>>>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let engine = Engine {
            consumer: consumer(&kafka.config(), topic),
            url: format!("{alertmanager}/api/v2/alerts"),
            broken,
            seen: BTreeMap::new(),
            late: Vec::new(),
            open: Vec::new(),
        };
        let thread = thread::spawn(move || engine.run(&stopped));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Engine {
    consumer: BaseConsumer,
    url: String,
    broken: Arc<Mutex<Option<Detection>>>,
    /// Logins of a run.
    seen: BTreeMap<String, u32>,
    /// What is to be raised, and closed, and when.
    late: Vec<(Instant, Vec<Value>)>,
    open: Vec<(Instant, Value)>,
}

impl Engine {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.raise();
            self.close();
            let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(50)) else { continue };
            let event: Value =
                serde_json::from_slice(message.payload().unwrap_or_default()).unwrap_or_default();
            drop(message);
            let Some(run) = event["greenlight.run"].as_str() else { continue };
            let logins = self.seen.entry(run.to_owned()).or_default();
            *logins += 1;
            if *logins == ATTEMPTS {
                self.detect(run, &event);
            }
        }
    }

    fn broken(&self) -> Option<Detection> {
        *self.broken.lock().expect("no panic inside")
    }

    fn detect(&mut self, run: &str, event: &Value) {
        let broken = self.broken();
        let attack = event["event.outcome"] == "failure";
        let raised = if attack {
            broken != Some(Detection::RaisesNothing)
        } else {
            broken == Some(Detection::RaisesForBenign)
        };
        if !raised {
            return;
        }
        let wrong = broken == Some(Detection::RaisesWrongSeverity);
        let mut labels = json!({
            "alertname": "SSHBruteForce",
            "scenario": if attack { "attack" } else { "benign" },
            "severity": if wrong { "info" } else { "critical" },
            "host": event["host.name"],
            "greenlight_run": run,
        });
        if broken == Some(Detection::NotifiesNobody) {
            labels["mute"] = json!("yes");
        }
        let mut all = vec![labels.clone()];
        if broken == Some(Detection::RaisesTwice) {
            labels["rule"] = json!("the same rule, loaded twice");
            all.push(labels);
        }
        let late = broken == Some(Detection::RaisesLate);
        let due = Instant::now() + if late { LATE } else { Duration::ZERO };
        self.late.push((due, all));
        self.raise();
    }

    fn raise(&mut self) {
        let now = Instant::now();
        for (due, all) in std::mem::take(&mut self.late) {
            if due > now {
                self.late.push((due, all));
                continue;
            }
            self.post(&all, wall() + 3600);
            self.open.extend(all.into_iter().map(|labels| (now + OPEN, labels)));
        }
    }

    fn close(&mut self) {
        if self.broken() == Some(Detection::NeverCloses) {
            return;
        }
        let now = Instant::now();
        let (due, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|(due, _)| *due <= now);
        self.open = open;
        let due: Vec<Value> = due.into_iter().map(|(_, labels)| labels).collect();
        if !due.is_empty() {
            self.post(&due, wall());
        }
    }

    fn post(&self, all: &[Value], ends: i64) {
        let ends = Wall::from_secs(ends).rfc3339();
        let alerts: Vec<Value> =
            all.iter().map(|labels| json!({ "labels": labels, "endsAt": ends })).collect();
        let body = Value::from(alerts).to_string();
        // Alertmanager is gone where the test is over.
        if let Some((status, text)) = peers::post(&self.url, "application/json", &body) {
            assert!((200..300).contains(&status), "{status}: {text}");
        }
    }
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("seconds")
}
