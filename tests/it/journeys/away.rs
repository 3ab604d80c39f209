//! A broker that dies, comes back, or stays away, and one whose answers are swallowed: what can't
//! be known is never a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Fates, Journey, counts, ended_once, row, started_once, topics, until, written};
use crate::command::{Daemon, folder_with};
use crate::kafka::Between;
use crate::peers::own_kafka;
use crate::processor::{Act, Processor};

const EVENTS: u64 = 40;

#[test]
fn journeys_never_take_a_dead_broker_for_a_loss() {
    let kafka = own_kafka();
    let topics = topics(&kafka, "away");
    let swallow = Arc::new(AtomicBool::new(false));
    let swallows = swallow.clone();
    // So slow that a round is under way for a while.
    let _processor =
        Processor::start(&kafka, &topics, move |_| match swallows.load(Ordering::SeqCst) {
            true => Act::Lose,
            false => Act::Delay(Duration::from_millis(700)),
        });
    let journey = |id, every, timeout, within, give_up| Journey {
        id,
        topics: &topics,
        events: EVENTS,
        every,
        timeout,
        within,
        give_up,
    };
    let patient = journey("patient", "2s", "25s", "40s", "45s");
    let plan = format!(
        "node: {{ name: n1 }}\njourneys:\n{}gates:\n  - {{ id: whole, require: {{ complete: patient, over: 8s, above: 100% }} }}\n",
        patient.yaml(&kafka.brokers, &kafka.brokers)
    );
    let (folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let under_way = || daemon.metric("greenlight_journey_events_under_way", &[]) > Some(0.0);

    // Killed while the events of a round are with the processor, and while one is being sent.
    for (kill, pause) in [(1, 300), (2, 0)] {
        let before = row(&daemon, "patient")["rounds"].as_u64().expect("a count");
        until("a round ended", Duration::from_secs(60), || {
            row(&daemon, "patient")["rounds"].as_u64() > Some(before)
        });
        until("the next is under way", Duration::from_secs(20), under_way);
        std::thread::sleep(Duration::from_millis(pause));
        kafka.kill();
        kafka.start();
        let dead = row(&daemon, "patient")["rounds"].as_u64().expect("a count");
        until("rounds go on", Duration::from_secs(60), || {
            row(&daemon, "patient")["rounds"].as_u64() > Some(dead + 1)
        });
        let found = row(&daemon, "patient");
        for (stage, (fates, duplicate)) in counts(&found["stages"]) {
            let not_ok: Fates =
                fates.into_iter().filter(|(fate, _)| fate != "ok" && fate != "unknown").collect();
            assert_eq!((not_ok, duplicate), (Fates::new(), 0), "kill {kill}, {stage}: {found:#}");
        }
    }
    daemon.until_verdict("whole", "pass", Duration::from_secs(60));
    let found = row(&daemon, "patient");
    eprintln!("broker: 2 kills, {} rounds, {}", found["rounds"], found["stages"][2]["fates"]);
    drop(daemon);

    unanswered(&kafka, &topics);

    // Dead after the send, and away for good.
    let short = journey("short", "3s", "2s", "2s", "2s");
    let plan = format!(
        "node: {{ name: n1 }}\njourneys:\n{}gates:\n  - {{ id: whole, require: {{ complete: short, over: 4s, above: 100% }} }}\n",
        short.yaml(&kafka.brokers, &kafka.brokers)
    );
    let (folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    daemon.until_verdict("whole", "pass", Duration::from_secs(40));
    let of = |fate: &str| {
        let labels = ["stage=\"parsed\"", &format!("fate=\"{fate}\"")];
        daemon.metric("greenlight_journey_events_total", &labels).unwrap_or(0.0)
    };
    let inconclusive = of("inconclusive");
    swallow.store(true, Ordering::SeqCst);
    let before = written(&kafka, &topics.from);
    until("a round is sent", Duration::from_secs(20), || {
        written(&kafka, &topics.from) == before + i64::try_from(EVENTS).expect("few")
    });
    // Its receipts are on their way.
    std::thread::sleep(Duration::from_millis(150));
    kafka.kill();
    let (code, said) = ended_once(started_once("short", &plan));
    assert_eq!((code, &said["first_failing_stage"]), (Some(1), &"sent".into()), "{said:#}");
    for (stage, (fates, _)) in counts(&said["stages"]) {
        assert_eq!(fates, Fates::from([("refused".to_owned(), EVENTS)]), "{stage}: {said:#}");
    }
    let gate = {
        let mut found = serde_json::Value::Null;
        until("the round's fate", Duration::from_secs(60), || {
            found = daemon.json("/api/v1/gates")[0].clone();
            assert_ne!(
                found["verdict"], "fail",
                "nobody knows what became of the events: {found:#}"
            );
            of("inconclusive") > inconclusive && found["verdict"] == "error"
        });
        found
    };
    assert_eq!(of("inconclusive"), inconclusive + EVENTS as f64, "{gate:#}");
    assert_eq!(of("lost"), 0.0);
    let gate = daemon.until_verdict("whole", "fail", Duration::from_secs(60));
    assert_eq!(gate["first_failing_stage"], "sent", "{gate:#}");
    assert!(of("refused") >= EVENTS as f64 && of("lost") == 0.0, "refused, not lost");
    eprintln!(
        "broker away: {} inconclusive, {} refused, 0 lost",
        of("inconclusive"),
        of("refused")
    );
}

/// The broker's answer to a send never comes: what was stored all the same is seen, and of what was
/// not nobody claims anything.
fn unanswered(kafka: &crate::peers::Kafka, topics: &crate::processor::Topics) {
    let between = Between::start(kafka, true);
    let journey = Journey {
        id: "deaf",
        topics,
        events: EVENTS,
        every: "10s",
        timeout: "4s",
        within: "20s",
        give_up: "20s",
    };
    let short = Journey { id: "mute", give_up: "6s", within: "6s", ..journey };
    let front = format!("127.0.0.1:{}", kafka.front);
    let plan = format!(
        "journeys:\n{}{}",
        journey.yaml(&front, &kafka.brokers),
        short.yaml(&front, &kafka.brokers)
    );
    let (_folder, plan) = folder_with(&plan);
    for (id, passes, fate, code) in [("deaf", true, "ok", 0), ("mute", false, "unknown", 2)] {
        between.passes.store(passes, Ordering::SeqCst);
        between.armed.store(true, Ordering::SeqCst);
        let before = written(kafka, &topics.from);
        let (exit, said) = ended_once(started_once(id, &plan));
        let more = written(kafka, &topics.from) - before;
        assert_eq!(more, if passes { i64::try_from(EVENTS).expect("few") } else { 0 }, "{said:#}");
        for (stage, (fates, duplicate)) in counts(&said["stages"]) {
            let expected = Fates::from([(fate.to_owned(), EVENTS)]);
            assert_eq!((fates, duplicate), (expected, 0), "{id} {stage}: {said:#}");
        }
        assert_eq!(
            (exit, &said["first_failing_stage"]),
            (Some(code), &serde_json::Value::Null),
            "{said:#}"
        );
    }
    eprintln!("answers swallowed: {EVENTS} stored and ok, {EVENTS} not stored and unknown, 0 lost");
}
