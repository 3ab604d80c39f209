//! The wall clock is set while everything is under way: nothing that lasts is measured by it.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::demo::Platform;
use crate::journey::Fate;
use crate::ledger::Document;
use crate::metrics::Format;
use crate::plan::packs;
use crate::time::{Mono, Wall};

const PATIENCE: Duration = Duration::from_secs(90);
const DAY: i64 = 86_400_000_000_000;
/// Nobody listens there: notifications wait.
const NOWHERE: &str = "http://127.0.0.1:9/";
/// A Wednesday.
const NOON: i64 = 1_893_585_600;

/// Besides the demo: a gate that must hold without interruption, and a check of Thursdays.
const STEADY: &str = "
checks:
  - { id: up, tcp: {}, targets: ['${port}'], every: 2s }
  - { id: thursdays, tcp: {}, targets: ['${port}'], every: 1s, allowed_times: [Thu] }
gates:
  - id: steady
    require: { ratio: check.success, where: { check: up }, over: 10s, at_least: 3, above: 99%, stable_for: 6s }
";

fn set_by(nanos: i64) {
    clock::SET_BY.store(clock::SET_BY.load(Relaxed) + nanos, Relaxed);
}

struct Watched {
    agent: Agent,
    platform: Platform,
    hook: String,
    /// What the gate said at each judging, since it passed first.
    steady: Vec<&'static str>,
}

impl Watched {
    async fn start(state: &std::path::Path, platform: Platform, port: u16) -> Self {
        let slow = [("every", "2s"), ("within", "40s"), ("give_up", "50s"), ("window", "8s")];
        let slow = slow.map(|(name, value)| (format!("demo_{name}"), value.to_owned()));
        let port = [("port".to_owned(), format!("127.0.0.1:{port}"))];
        let inputs = Inputs {
            texts: vec![
                ("demo.yaml".to_owned(), packs::built_in("demo").expect("a pack").to_owned()),
                ("steady.yaml".to_owned(), STEADY.to_owned()),
            ],
            vars: platform.plan_vars().into_iter().chain(slow).chain(port).collect(),
            ..Inputs::default()
        };
        let paths = Paths::default();
        let plan = Plan::compile(&inputs, &node::plan_facts(&paths))
            .unwrap_or_else(|invalid| panic!("{}", invalid.render(false)));
        let listen = Listen { address: "127.0.0.1:0".to_owned(), web_config: None };
        let options = Options {
            inputs,
            paths,
            state: Some(state.to_owned()),
            listen: Some(listen),
            banner: None,
        };
        let agent = Agent::start(Arc::new(plan), options).await.expect("it starts");
        let hook = format!("{}/api/v1/webhook/alertmanager", agent.url().expect("it listens"));
        Self { agent, platform, hook, steady: Vec::new() }
    }

    /// The sum of a metric over the rows that have this label.
    async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.agent.metrics(Format::Text).await).expect("UTF-8");
        let rows = text.lines().filter(|row| row.starts_with(name) && row.contains(label));
        rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn document(&self) -> Arc<Document> {
        self.agent.snapshot().await.expect("it judges").document.clone()
    }

    /// Judges once a second until something holds; every judging of the steady gate is kept.
    async fn until(&mut self, what: &str, holds: impl AsyncFn(&Self, &Document) -> bool) {
        let mut judged = self.agent.judged();
        let deadline = Mono::now().plus(PATIENCE);
        loop {
            assert!(Mono::now() < deadline, "not within {PATIENCE:?}: {what}");
            let _ = tokio::time::timeout(PATIENCE, judged.changed()).await;
            judged.mark_unchanged();
            let document = self.document().await;
            let steady = document.gates.iter().find(|gate| gate.id == "steady").expect("a gate");
            let word = steady.verdict.word();
            if !self.steady.is_empty() || word == "pass" {
                self.steady.push(word);
            }
            if holds(self, &document).await {
                return;
            }
        }
    }

    /// A round of every journey is under way, its alert was raised, and nobody has been told.
    async fn mid_round(&mut self) {
        self.platform.notify(NOWHERE);
        self.until("a round of each journey is under way", async |own, _| {
            let journeys = ["demo-kafka", "demo-syslog", "demo-http"];
            let under_way =
                journeys.map(|id| own.metric("greenlight_journey_events_under_way", id));
            futures_util::future::join_all(under_way).await.iter().all(|count| *count > 0.0)
        })
        .await;
    }

    async fn rounds_end(&mut self) {
        self.platform.notify(&self.hook.clone());
        let before = rounds(&*self.document().await);
        self.until("two more rounds of each journey have ended", async |_, document| {
            rounds(document).iter().zip(&before).all(|(now, before)| *now >= before + 2)
        })
        .await;
    }

    /// Every event of every round has arrived everywhere, in time.
    async fn nothing_is_wrong(&self) {
        let document = self.document().await;
        for journey in &document.journeys {
            for stage in &journey.stages {
                let fine = stage.fates.get(&Fate::Ok).copied().unwrap_or_default();
                assert!(stage.expected > 0, "{} {:?}", journey.id, stage.name);
                assert_eq!(
                    (fine, stage.duplicate),
                    (stage.expected, 0),
                    "{} {:?}: {:?}",
                    journey.id,
                    stage.name,
                    stage.fates
                );
            }
        }
        assert!(self.steady.iter().all(|word| *word == "pass"), "{:?}", self.steady);
    }
}

fn rounds(document: &Document) -> Vec<u64> {
    document.journeys.iter().map(|journey| journey.rounds).collect()
}

async fn all() {
    let state = tempfile::tempdir().expect("a directory");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let platform = Platform::start(None).await.expect("a platform");
    set_by(Wall::from_secs(NOON).0 - clock::now().wall.0);
    let began = Mono::now();
    let mut watched = Watched::start(state.path(), platform, port).await;
    watched.platform.notify(&watched.hook.clone());
    watched.until("the gate holds", async |own, _| !own.steady.is_empty()).await;
    let thursdays = "check=\"thursdays\"";
    let attempts = "greenlight_check_attempts_total";
    assert_eq!(watched.metric(attempts, thursdays).await, 0.0, "it is Wednesday");

    for days in [1, -1] {
        watched.mid_round().await;
        set_by(days * DAY);
        watched.rounds_end().await;
        watched.nothing_is_wrong().await;
        if days > 0 {
            watched
                .until("it is Thursday", async |own, _| own.metric(attempts, thursdays).await > 1.0)
                .await;
        }
    }
    // The one that was in flight may have ended since.
    let on_thursday = watched.metric(attempts, thursdays).await;
    watched.rounds_end().await;
    assert!(watched.metric(attempts, thursdays).await <= on_thursday + 1.0, "Wednesday again");

    // Every tick was run or missed, and there were as many as time has passed.
    let up = "check=\"up\"";
    let ticks = watched.metric(attempts, up).await
        + watched.metric("greenlight_scheduler_missed_ticks_total", up).await;
    let due = Mono::now().since(began).as_secs_f64() / 2.0;
    assert!((ticks - due).abs() <= 2.0, "{ticks} ticks, {due} were due");

    // In the time between two runs too.
    watched.mid_round().await;
    let Watched { agent, platform, .. } = watched;
    let counted = rounds(&agent.stop().await.expect("its last word").document);
    set_by(-DAY);
    let mut watched = Watched::start(state.path(), platform, port).await;
    watched.mid_round().await;
    watched.rounds_end().await;
    watched.nothing_is_wrong().await;
    let document = watched.agent.stop().await.expect("its last word").document.clone();
    assert!(rounds(&document).iter().zip(&counted).all(|(now, before)| now > before));
    watched.platform.stop().await;
    set_by(-clock::SET_BY.load(Relaxed));
}

#[test]
fn a_clock_that_is_set_disturbs_nothing_that_lasts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(all());
}
