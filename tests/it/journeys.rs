//! The agent's journeys over a platform that Greenlight did not write: the real binary, a real
//! broker, and a processor between two topics that does wrong exactly what a test asks for.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::command::{Daemon, folder_with};
use crate::peers::{Kafka, kafka};
use crate::processor::{Act, Processor, Topics};

mod afterwards;
mod away;
mod disk;
mod kills;
mod rechecks;
mod spared;

const BINARY: &str = env!("CARGO_BIN_EXE_greenlight");
/// Partitions of every topic here: order holds within one, so more than one.
const PARTITIONS: i32 = 2;

/// A journey's topics, with a name of their own.
fn topics(kafka: &Kafka, name: &str) -> Topics {
    let topics = Topics {
        from: format!("{name}-raw"),
        to: format!("{name}-done"),
        dead_letter: Some(format!("{name}-dead")),
    };
    for topic in [Some(&topics.from), Some(&topics.to), topics.dead_letter.as_ref()] {
        kafka.topic(topic.expect("all three"), PARTITIONS);
    }
    topics
}

/// One journey of a plan: sent to one topic, seen in the other.
struct Journey<'a> {
    id: &'a str,
    topics: &'a Topics,
    events: u64,
    every: &'a str,
    timeout: &'a str,
    /// Of `parsed`.
    within: &'a str,
    give_up: &'a str,
}

impl Journey<'_> {
    fn yaml(&self, way_in: &str, brokers: &str) -> String {
        let Journey { id, topics, events, every, timeout, within, give_up } = self;
        let Topics { from, to, dead_letter } = topics;
        let dead_letter = dead_letter.as_deref().expect("there is one");
        format!(
            "  - id: {id}\n    every: {every}\n    timeout: {timeout}\n    \
             send: {{ kafka: {{ brokers: '{way_in}', topic: {from} }} }}\n    \
             events: {{ count: {events} }}\n    stages:\n      \
             - parsed: {{ kafka: {{ brokers: '{brokers}', topic: {to}, dead_letter: {dead_letter}, text: message }}, \
             within: {within}, give_up: {give_up}, poll: 100ms, \
             expect: {{ fields: {{ enriched.asset.owner: soc-test }} }} }}\n"
        )
    }
}

/// How many events a topic holds.
fn written(kafka: &Kafka, topic: &str) -> i64 {
    let asker: BaseConsumer = kafka.config().create().expect("a valid configuration");
    let end = |partition| {
        let (low, high) = asker
            .fetch_watermarks(topic, partition, Duration::from_secs(20))
            .expect("kafka answers");
        high - low
    };
    (0..PARTITIONS).map(end).sum()
}

fn until(what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The row of a journey in `/api/v1/journeys`.
fn row(daemon: &Daemon, id: &str) -> Value {
    let rows = daemon.json("/api/v1/journeys");
    let rows = rows.as_array().expect("an array");
    rows.iter().find(|row| row["id"] == id).expect("the journey is there").clone()
}

pub(crate) type Fates = BTreeMap<String, u64>;

/// By stage: the fates that any event had, and the duplicates.
pub(crate) fn counts(stages: &Value) -> BTreeMap<String, (Fates, u64)> {
    let stage = |stage: &Value| {
        let name = stage["name"].as_str().or(stage["stage"].as_str()).expect("a name");
        let fates: Fates = stage["fates"]
            .as_object()
            .expect("fates")
            .iter()
            .map(|(fate, count)| (fate.clone(), count.as_u64().expect("a count")))
            .filter(|(_, count)| *count > 0)
            .collect();
        let sum: u64 = fates.values().sum();
        assert_eq!(Some(sum), stage["expected"].as_u64(), "the fates sum to expected: {stage}");
        (name.to_owned(), (fates, stage["duplicate"].as_u64().expect("a count")))
    };
    stages.as_array().expect("stages").iter().map(stage).collect()
}

pub(crate) fn started_once(id: &str, plan: &str) -> Child {
    Command::new(BINARY)
        .args(["once", id, "-c", plan, "-o", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// What `once` says and exits with.
pub(crate) fn ended_once(child: Child) -> (Option<i32>, Value) {
    let output = child.wait_with_output().expect("own child");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    (output.status.code(), json)
}

const EVENTS: u64 = 12;
pub(crate) const FATES: [&str; 11] = [
    "ok",
    "late",
    "refused",
    "lost",
    "reordered",
    "corrupted",
    "truncated",
    "misparsed",
    "dead_lettered",
    "unknown",
    "inconclusive",
];

/// One thing that the processor does wrong, and what must be counted for it at `parsed`.
struct Wrong {
    id: &'static str,
    act: Act,
    seqs: &'static [u64],
    fate: &'static str,
    duplicate: u64,
    /// The fate once everything has come, where that is another.
    mended: Option<&'static str>,
}

const fn wrong(id: &'static str, act: Act, seqs: &'static [u64], fate: &'static str) -> Wrong {
    Wrong { id, act, seqs, fate, duplicate: 0, mended: None }
}

/// `within` is 1500 ms and `give_up` 4 s.
const WRONGS: [Wrong; 10] = [
    wrong("clean", Act::Pass, &[], "ok"),
    wrong("lose", Act::Lose, &[3, 9], "lost"),
    Wrong { duplicate: 3, ..wrong("repeat", Act::Repeat, &[4, 5, 10], "ok") },
    wrong("swap", Act::Swap, &[6], "reordered"),
    wrong("delay", Act::Delay(Duration::from_millis(2500)), &[2, 7], "late"),
    Wrong {
        mended: Some("late"),
        ..wrong("resurrect", Act::Delay(Duration::from_millis(5500)), &[5], "lost")
    },
    wrong("mangle", Act::Mangle, &[1, 8], "corrupted"),
    wrong("truncate", Act::Truncate, &[11], "truncated"),
    wrong("misparse", Act::Misparse, &[1, 6, 12], "misparsed"),
    wrong("bury", Act::DeadLetter, &[3, 4], "dead_lettered"),
];

impl Wrong {
    /// What so many rounds must come to, if `fate` is that of the events that were meant.
    fn expected(&self, rounds: u64, fate: &str) -> BTreeMap<String, (Fates, u64)> {
        let all = BTreeMap::from([("ok".to_owned(), EVENTS * rounds)]);
        let mut parsed = Fates::new();
        let meant = self.seqs.len() as u64;
        *parsed.entry("ok".to_owned()).or_default() += (EVENTS - meant) * rounds;
        *parsed.entry(fate.to_owned()).or_default() += meant * rounds;
        parsed.retain(|_, count| *count > 0);
        BTreeMap::from([
            ("sent".to_owned(), (all.clone(), 0)),
            ("accepted".to_owned(), (all, 0)),
            ("parsed".to_owned(), (parsed, self.duplicate * rounds)),
        ])
    }

    fn first_failing(&self) -> Value {
        if self.fate == "ok" { Value::Null } else { "parsed".into() }
    }
}

/// How many rounds the daemon has counted, once all is as expected of so many; what comes after
/// `give_up` is awaited.
fn counted_exactly(daemon: &Daemon, wrong: &Wrong) -> u64 {
    let metric = |name: &str, stage: &str, fate: &str| {
        let labels = [
            format!("journey=\"{}\"", wrong.id),
            format!("stage=\"{stage}\""),
            format!("fate=\"{fate}\""),
        ];
        let asked = if fate.is_empty() { &labels[..2] } else { &labels[..] };
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        daemon.metric(&format!("greenlight_journey_{name}_total"), &asked).unwrap_or(0.0)
    };
    let mended = if wrong.mended.is_some() { wrong.seqs.len() as u64 } else { 0 };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let before = row(daemon, wrong.id);
        let count = before["rounds"].as_u64().expect("a count");
        let resurrected = metric("resurrected", "parsed", "");
        let duplicates = metric("duplicates", "parsed", "");
        let events: Vec<(String, Fates)> = ["sent", "accepted", "parsed"]
            .iter()
            .map(|stage| {
                let fates = FATES
                    .iter()
                    .map(|fate| ((*fate).to_owned(), metric("events", stage, fate) as u64));
                ((*stage).to_owned(), fates.filter(|(_, count)| *count > 0).collect())
            })
            .collect();
        // What is served is a second old at most, and the counters are of now: both are awaited.
        // What is counted wrongly never comes right, since nothing is taken back.
        let tally = wrong.expected(count, wrong.mended.unwrap_or(wrong.fate));
        // What was lost once stays counted as lost there.
        let counters = wrong.expected(count, wrong.fate);
        let agree = count > 0
            && counts(&before["stages"]) == tally
            && resurrected == (mended * count) as f64
            && duplicates == (wrong.duplicate * count) as f64
            && events.iter().all(|(stage, fates)| *fates == counters[stage].0);
        if !agree {
            assert!(
                Instant::now() < deadline,
                "{}: {events:?}, {resurrected} resurrected, {duplicates} duplicates: {before:#}",
                wrong.id
            );
            continue;
        }
        assert_eq!(before["first_failing_stage"], wrong.first_failing(), "{before:#}");
        return count;
    }
}

/// Everything that a processor can do to an event is counted as that, once, where it happened,
/// and nothing else is.
#[test]
fn journeys_count_each_fault_of_a_foreign_processor_exactly() {
    let kafka = kafka();
    let mut plan = String::from("node: { name: n1 }\njourneys:\n");
    let mut processors = Vec::new();
    for wrong in &WRONGS {
        let topics = topics(kafka, &format!("exactly-{}", wrong.id));
        let journey = Journey {
            id: wrong.id,
            topics: &topics,
            events: EVENTS,
            every: "10s",
            timeout: "4s",
            within: "1500ms",
            give_up: "4s",
        };
        plan += &journey.yaml(&kafka.brokers, &kafka.brokers);
        let act = |seq| if wrong.seqs.contains(&seq) { wrong.act } else { Act::Pass };
        processors.push(Processor::start(kafka, &topics, act));
    }
    plan += "gates:\n";
    for wrong in &WRONGS {
        plan += &format!(
            "  - {{ id: {0}.gate, require: {{ complete: {0}, over: 12s, above: 100% }} }}\n",
            wrong.id
        );
    }
    let (folder, plan) = folder_with(&plan);

    let rounds: Vec<Child> = WRONGS.iter().map(|wrong| started_once(wrong.id, &plan)).collect();
    for (wrong, round) in WRONGS.iter().zip(rounds) {
        let (code, said) = ended_once(round);
        let found = counts(&said["stages"]);
        assert_eq!(found, wrong.expected(1, wrong.fate), "once {}: {said:#}", wrong.id);
        assert_eq!(said["first_failing_stage"], wrong.first_failing(), "{}", wrong.id);
        assert_eq!(code, Some(i32::from(wrong.id != "clean")), "{}: {said:#}", wrong.id);
    }
    // What comes after `once` has ended must not come into a round of the daemon.
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let mut rounds = 0;
    for wrong in &WRONGS {
        let count = counted_exactly(&daemon, wrong);
        rounds += count;
        let verdict = if wrong.fate == "ok" { "pass" } else { "fail" };
        let gate =
            daemon.until_verdict(&format!("{}.gate", wrong.id), verdict, Duration::from_secs(30));
        assert_eq!(gate["first_failing_stage"], wrong.first_failing(), "{gate:#}");
    }
    eprintln!(
        "faults: {} kinds, {} rounds, {} events, none counted wrongly",
        WRONGS.len(),
        rounds + WRONGS.len() as u64,
        (rounds + WRONGS.len() as u64) * EVENTS
    );
}
