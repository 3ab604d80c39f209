//! `load` through Apache Kafka and a processor that does wrong exactly what a test asks for, over
//! more events than one segment of the accounting holds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use super::platform::{Node, adds_up, count, fate, start};
use crate::peers::{kafka, own_kafka};
use crate::processor::{Act, Processor, Topics};

/// Segments hold ten thousand.
const EVENTS: u64 = 25_000;

fn topics(name: &str) -> Topics {
    let topics =
        Topics { from: format!("{name}-raw"), to: format!("{name}-done"), dead_letter: None };
    kafka().topic(&topics.from, 2);
    kafka().topic(&topics.to, 2);
    topics
}

/// The report of a load of so many events through a processor that acts on the nth event that it
/// sees.
async fn loaded(
    name: &str,
    events: u64,
    expect: &str,
    act: impl Fn(u64) -> Act + Send + 'static,
) -> (Option<i32>, Value) {
    let (topics, kafka) = (topics(name), kafka());
    let nth = AtomicU64::new(0);
    let processor = Processor::parsing(kafka, &topics, move |event| {
        event.map_or(Act::Lose, |_| act(nth.fetch_add(1, SeqCst) + 1))
    });
    let brokers = &kafka.brokers;
    let plan = format!(
        "journeys:\n  - id: lake\n    timeout: 30s\n    \
         send: {{ kafka: {{ brokers: '{brokers}', topic: {} }} }}\n    stages:\n      \
         - parsed: {{ kafka: {{ brokers: '{brokers}', topic: {}, text: message }}, \
         within: 40s, give_up: 40s, poll: 1s, expect: {{ {expect} }} }}\n",
        topics.from, topics.to
    );
    let rate = (events / 10).to_string();
    let arguments = ["--rate", &rate, "--for", "10s", "--budget", "100MB"];
    let (code, report, said) = start("lake", &plan, &Node::at_rest(), &arguments).ended().await;
    drop(processor);
    assert_eq!(count(&report, "accepted"), events, "{report:#}{said}");
    adds_up(&report);
    (code, report)
}

/// At `parsed`, after `sent` and `accepted`.
fn parsed(report: &Value) -> &Value {
    &report["stages"].as_array().expect("stages")[2]
}

/// What speaks against the load.
fn codes(report: &Value) -> BTreeSet<&str> {
    let why = report["why"].as_array().expect("an array");
    why.iter().filter_map(|why| why["code"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn load_over_several_segments_counts_each_event_once() {
    let (code, report) = loaded("load-whole", EVENTS, "", |_| Act::Pass).await;
    assert_eq!(fate(&report, "parsed", "ok"), EVENTS, "{report:#}");
    // Held, unless this machine is too busy to tell.
    match code {
        Some(0) => assert_eq!(report["verdict"], "held", "{report:#}"),
        _ => assert_eq!(codes(&report), BTreeSet::from(["generator_limited"]), "{report:#}"),
    }
    assert_eq!(report["reordering_judged"], true);
    let parsed = parsed(&report);
    let bound = parsed["loss_upper_bound_95"].as_f64().expect("a bound");
    assert!((bound - 3.0 / EVENTS as f64).abs() < 1e-12, "{parsed:#}");
    let n = (parsed["latency"]["n"].as_u64(), parsed["loss_n"].as_u64());
    assert_eq!(n, (Some(EVENTS), Some(EVENTS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_over_several_segments_counts_one_of_each_fault_exactly() {
    let (code, report) = loaded("load-faults", EVENTS, "", |n| match n {
        // In the first, the second and the third segment.
        4_000 => Act::Lose,
        11_000 => Act::Repeat,
        16_000 => Act::Swap,
        23_000 => Act::Mangle,
        _ => Act::Pass,
    })
    .await;
    assert_eq!((code, report["verdict"].as_str()), (Some(1), Some("not_held")), "{report:#}");
    let parsed = parsed(&report);
    let fates = |fate: &str| parsed["fates"][fate].as_u64().unwrap_or(0);
    assert_eq!((fates("lost"), parsed["duplicate"].as_u64()), (1, Some(1)), "{parsed:#}");
    assert_eq!((fates("reordered"), fates("corrupted")), (1, 1), "{parsed:#}");
    assert_eq!(fates("ok"), EVENTS - 3, "{parsed:#}");
    let mut codes = codes(&report);
    codes.remove("generator_limited");
    let expected = BTreeSet::from(["corrupted", "duplicate", "lost", "reordered"]);
    assert_eq!(codes, expected, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_not_held_where_one_event_was_enriched_by_an_old_feed() {
    let expect = "fresh: { field: enriched.feed.updated, within: 2h }";
    let (code, report) = loaded("load-feed", 500, expect, |n| {
        Act::Enrich("feed", "known", if n == 300 { 30 } else { 1 })
    })
    .await;
    assert_eq!((code, report["verdict"].as_str()), (Some(1), Some("not_held")), "{report:#}");
    let fates = |of: &str| fate(&report, "parsed", of);
    assert_eq!((fates("misparsed"), fates("ok")), (1, 499), "{report:#}");
    let said = report["reasons"].to_string();
    assert!(said.contains("feed was updated"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_over_a_broker_that_is_killed_and_started_claims_nothing_that_is_not_known() {
    let kafka = own_kafka();
    kafka.topic("load-restart", 2);
    let brokers = &kafka.brokers;
    let plan = format!(
        "journeys:\n  - id: lake\n    timeout: 20s\n    \
         send: {{ kafka: {{ brokers: '{brokers}', topic: load-restart }} }}\n    stages:\n      \
         - parsed: {{ kafka: {{ brokers: '{brokers}', topic: load-restart, text: message }}, \
         within: 30s, give_up: 30s, poll: 500ms }}\n"
    );
    let load = start("lake", &plan, &Node::at_rest(), &["--rate", "300", "--for", "20s"]);
    let broken = tokio::task::spawn_blocking(move || {
        // In the middle of the sending.
        let asker: BaseConsumer = kafka.config().create().expect("a valid configuration");
        let deadline = Instant::now() + Duration::from_secs(60);
        let written = |partition| {
            let ends = asker.fetch_watermarks("load-restart", partition, Duration::from_secs(20));
            ends.expect("kafka answers").1
        };
        while written(0) + written(1) < 600 {
            assert!(Instant::now() < deadline, "nothing is written");
            std::thread::sleep(Duration::from_millis(50));
        }
        kafka.kill();
        kafka.start();
        kafka
    });
    let kafka = broken.await.expect("it was started again");
    let (_, report, said) = load.ended().await;
    drop(kafka);
    adds_up(&report);
    assert!(count(&report, "accepted") > 0, "{report:#}{said}");
    assert_eq!(fate(&report, "parsed", "lost"), 0, "nothing that was acknowledged: {report:#}");
    let parsed = parsed(&report);
    assert_eq!(parsed["duplicate"], 0, "an idempotent producer makes none: {report:#}");
    let wrong = ["corrupted", "truncated", "misparsed", "reordered"];
    assert!(wrong.iter().all(|of| fate(&report, "parsed", of) == 0), "{parsed:#}");
}
