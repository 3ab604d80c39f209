//! A broker that dies, comes back, or stays away, and one whose answers are swallowed: what can't
//! be known is never a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{Fates, Journey, counts, ended_once, row, started_once, topics, until, written};
use crate::command::{Daemon, folder_with};
use crate::kafka::Between;
use crate::peers::{Kafka, own_kafka};
use crate::processor::{Act, Processor, Topics};

const EVENTS: u64 = 40;

fn journey<'a>(id: &'a str, topics: &'a Topics) -> Journey<'a> {
    Journey {
        id,
        topics,
        events: EVENTS,
        every: "2s",
        timeout: "25s",
        within: "40s",
        give_up: "45s",
    }
}

fn rounds(daemon: &Daemon, id: &str) -> u64 {
    row(daemon, id)["rounds"].as_u64().expect("a count")
}

#[test]
fn journeys_lose_nothing_while_their_broker_dies_and_comes_back() {
    let kafka = own_kafka();
    let topics = topics(&kafka, "back");
    // So slow that a round is under way for a while.
    let slow = Act::Delay(Duration::from_millis(700));
    let _processor = Processor::start(&kafka, &topics, move |_| slow);
    let journey = journey("back", &topics);
    let plan = format!("journeys:\n{}", journey.yaml(&kafka.brokers, &kafka.brokers));
    let (folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let under_way = || daemon.metric("greenlight_journey_events_under_way", &[]) > Some(0.0);

    // Killed while the events of a round are with the processor, and while one is being sent.
    for (kill, pause) in [(1, 300), (2, 0)] {
        let before = rounds(&daemon, "back");
        until("a round ended", Duration::from_secs(60), || rounds(&daemon, "back") > before);
        until("the next is under way", Duration::from_secs(20), under_way);
        std::thread::sleep(Duration::from_millis(pause));
        kafka.kill();
        assert!(under_way(), "it was killed in the middle of a round");
        kafka.start();
        let dead = rounds(&daemon, "back");
        // The one that was under way, and one that was not.
        until("rounds go on", Duration::from_secs(90), || rounds(&daemon, "back") > dead + 1);
        let found = row(&daemon, "back");
        for (stage, (fates, duplicate)) in counts(&found["stages"]) {
            let not_ok: Fates =
                fates.into_iter().filter(|(fate, _)| fate != "ok" && fate != "unknown").collect();
            assert_eq!((not_ok, duplicate), (Fates::new(), 0), "kill {kill}, {stage}: {found:#}");
        }
    }
    let seen = row(&daemon, "back");
    let last = rounds(&daemon, "back");
    until("a later round", Duration::from_secs(30), || rounds(&daemon, "back") > last);
    let later = row(&daemon, "back");
    let of = |row: &Value, stage: &str, fate: &str| {
        counts(&row["stages"])[stage].0.get(fate).copied().unwrap_or(0)
    };
    for stage in ["sent", "accepted", "parsed"] {
        let more = of(&later, stage, "ok") - of(&seen, stage, "ok");
        let due =
            (later["rounds"].as_u64().unwrap_or(0) - seen["rounds"].as_u64().unwrap_or(0)) * EVENTS;
        assert_eq!(more, due, "later rounds are ok at {stage}: {later:#}");
    }
    let blind = daemon.metric("greenlight_journey_blind_looks_total", &[]).unwrap_or(0.0);
    let unknown = of(&later, "parsed", "unknown");
    eprintln!(
        "broker killed and back: 2 kills, {} rounds, {} events, {unknown} unknown, {blind} blind looks, the rest ok",
        later["rounds"],
        last * EVENTS
    );
    drop(daemon);
    unanswered(&kafka, &topics);
}

#[test]
fn journeys_judge_a_broker_that_stays_away_by_what_is_known() {
    let kafka = own_kafka();
    let topics = topics(&kafka, "away");
    let swallow = Arc::new(AtomicBool::new(false));
    let swallows = swallow.clone();
    let _processor =
        Processor::start(&kafka, &topics, move |_| match swallows.load(Ordering::SeqCst) {
            true => Act::Lose,
            false => Act::Pass,
        });
    // A round that goes blind takes `give_up` and 20 s more; with the pause before it that must be
    // less than three intervals, or the window is not covered and its gate open.
    let journey = Journey {
        every: "12s",
        timeout: "2s",
        within: "2s",
        give_up: "2s",
        ..journey("away", &topics)
    };
    let plan = format!(
        "journeys:\n{}gates:\n  - {{ id: whole, require: {{ complete: away, over: 13s, above: 100% }} }}\n",
        journey.yaml(&kafka.brokers, &kafka.brokers)
    );
    let (folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    daemon.until_verdict("whole", "pass", Duration::from_secs(60));
    let of = |stage: &str, fate: &str| {
        let labels = [&*format!("stage=\"{stage}\""), &*format!("fate=\"{fate}\"")];
        daemon.metric("greenlight_journey_events_total", &labels).unwrap_or(0.0)
    };
    until("no round is under way", Duration::from_secs(20), || {
        daemon.metric("greenlight_journey_events_under_way", &[]) == Some(0.0)
            && written(&kafka, &topics.to) == written(&kafka, &topics.from)
    });
    swallow.store(true, Ordering::SeqCst);
    let healthy = of("accepted", "ok");
    let before = written(&kafka, &topics.from);
    let all = before + i64::try_from(EVENTS).expect("few");
    until("a round is sent", Duration::from_secs(20), || written(&kafka, &topics.from) == all);
    // Its acknowledgements are on their way.
    std::thread::sleep(Duration::from_millis(150));
    kafka.kill();

    // `once` meets nobody: the events could not be handed over.
    let (code, said) = ended_once(started_once("away", &plan));
    assert_eq!((code, &said["first_failing_stage"]), (Some(1), &"sent".into()), "{said:#}");
    for (stage, (fates, _)) in counts(&said["stages"]) {
        assert_eq!(fates, Fates::from([("refused".to_owned(), EVENTS)]), "{stage}: {said:#}");
    }
    // The daemon's round was taken, and nobody can see what became of it.
    let mut gate = Value::Null;
    until("the round's fate", Duration::from_secs(60), || {
        gate = daemon.json("/api/v1/gates")[0].clone();
        assert_ne!(gate["verdict"], "fail", "nobody knows what became of the events: {gate:#}");
        gate["verdict"] == "error"
    });
    assert_eq!(of("parsed", "inconclusive"), EVENTS as f64, "{gate:#}");
    assert_eq!(of("accepted", "ok"), healthy + EVENTS as f64, "{gate:#}");
    assert_eq!(gate["first_failing_stage"], Value::Null, "{gate:#}");
    // The next ones can't even be handed over: that is known.
    let gate = daemon.until_verdict("whole", "fail", Duration::from_secs(60));
    assert_eq!(gate["first_failing_stage"], "sent", "{gate:#}");
    let refused = of("sent", "refused");
    assert!(refused >= EVENTS as f64 && of("parsed", "lost") == 0.0, "refused, not lost");
    eprintln!("broker away: {EVENTS} inconclusive, {} refused, 0 lost", refused + EVENTS as f64);
}

/// The broker's answer to a send never comes: what was stored all the same is seen, and of what was
/// not nobody claims anything.
fn unanswered(kafka: &Kafka, topics: &Topics) {
    let between = Between::start(kafka, true);
    let deaf = Journey { timeout: "4s", ..journey("deaf", topics) };
    let mute = Journey { timeout: "4s", within: "6s", give_up: "6s", ..journey("mute", topics) };
    let front = format!("127.0.0.1:{}", kafka.front);
    let plan = format!(
        "journeys:\n{}{}",
        deaf.yaml(&front, &kafka.brokers),
        mute.yaml(&front, &kafka.brokers)
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
        assert_eq!((exit, &said["first_failing_stage"]), (Some(code), &Value::Null), "{said:#}");
    }
    eprintln!("answers swallowed: {EVENTS} stored and ok, {EVENTS} not stored and unknown, 0 lost");
}
