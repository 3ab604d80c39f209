//! Journeys as `once`, `check` and the API tell of them: fates, stages, codes.

use serde_json::Value;

use super::{Flaw, check, journey, platform, row};
use crate::command::{Daemon, code, err, folder_with, greenlight, out};
use crate::journeys::FATES;

const STAGES: [&str; 8] =
    ["sent", "accepted", "parsed", "enriched", "stored", "alerted", "notified", "shown"];

/// What holds of every journey that is told of.
pub(super) fn holds(journey: &Value) {
    let stages = journey["stages"].as_array().expect("an array");
    let mut places = Vec::new();
    for stage in stages {
        let name = stage["name"].as_str().expect("a word");
        places.push(STAGES.iter().position(|other| *other == name).expect("a stage"));
        let fates = stage["fates"].as_object().expect("an object");
        assert!(fates.keys().all(|fate| FATES.contains(&fate.as_str())), "{fates:?}");
        let sum: u64 = fates.values().map(|count| count.as_u64().expect("a count")).sum();
        assert_eq!(Some(sum), stage["expected"].as_u64(), "the fates sum to it: {stage:#}");
        assert!(stage["duplicate"].is_u64());
        let latency = &stage["latency_seconds"];
        if fates.get("ok").and_then(Value::as_u64).unwrap_or(0) == 0 && name == "stored" {
            assert!(latency.is_null() || latency["p50"].is_null(), "nothing arrived: {stage:#}");
        }
    }
    assert!(places.is_sorted() && !places.is_empty(), "in the order of the words: {places:?}");
    assert!(journey["first_failing_stage"].is_null() || journey["first_failing_stage"].is_string());
}

fn once(flaw: Flaw) -> (i32, Value) {
    let (_folder, plan) = folder_with(&journey(platform(flaw)));
    let output = greenlight(&["once", "j", "-c", &plan, "--debug", "-o", "json"]);
    let seen: Value = serde_json::from_str(&out(&output))
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(&output), err(&output)));
    holds(&seen);
    (code(&output), seen)
}

fn stage<'a>(journey: &'a Value, name: &str) -> &'a Value {
    let stages = journey["stages"].as_array().expect("an array");
    stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("{journey:#}"))
}

#[test]
fn contract_once_says_of_a_journey_what_became_of_each_event() {
    let (code, healthy) = once(Flaw::None);
    assert_eq!(code, 0, "{healthy:#}");
    assert_eq!(healthy["first_failing_stage"], Value::Null);
    for name in ["sent", "accepted", "stored"] {
        assert_eq!(stage(&healthy, name)["fates"]["ok"], 5, "{healthy:#}");
        assert_eq!(stage(&healthy, name)["expected"], 5);
    }
    assert_eq!(healthy["stages"].as_array().map(Vec::len), Some(3));
    assert!(!healthy["debug"].as_array().expect("notes").is_empty());

    let (code, lost) = once(Flaw::Loses(3));
    assert_eq!((code, &lost["first_failing_stage"]), (1, &"stored".into()), "{lost:#}");
    assert_eq!(stage(&lost, "stored")["fates"]["lost"], 1);
    assert_eq!(stage(&lost, "stored")["fates"]["ok"], 4);
    assert_eq!(stage(&lost, "accepted")["fates"]["ok"], 5);

    let (code, refused) = once(Flaw::Refuses(2));
    assert_eq!((code, &refused["first_failing_stage"]), (1, &"accepted".into()), "{refused:#}");
    for name in ["accepted", "stored"] {
        assert_eq!(stage(&refused, name)["fates"]["refused"], 1, "at every later stage too");
    }
    assert_eq!(stage(&refused, "sent")["fates"]["ok"], 5);

    let (code, twice) = once(Flaw::Repeats(4));
    assert_eq!(code, 1, "{twice:#}");
    assert_eq!(stage(&twice, "stored")["duplicate"], 1);
    assert_eq!(stage(&twice, "stored")["fates"]["ok"], 5, "counted apart");

    // Nobody could look: neither there nor lost.
    let (code, blind) = once(Flaw::Blind);
    assert_eq!((code, &blind["first_failing_stage"]), (2, &Value::Null), "{blind:#}");
    assert_eq!(stage(&blind, "stored")["fates"]["inconclusive"], 5);
}

#[test]
fn contract_an_event_that_could_not_be_handed_over_is_refused_at_sent() {
    let nobody = format!("127.0.0.1:{}", super::closed_port()).parse().expect("an address");
    let (_folder, plan) = folder_with(&journey(nobody));
    let output = greenlight(&["once", "j", "-c", &plan, "-o", "json"]);
    assert_eq!(code(&output), 1, "{}", out(&output));
    let seen: Value = serde_json::from_str(&out(&output)).expect("JSON");
    holds(&seen);
    assert_eq!(seen["first_failing_stage"], "sent");
    for name in ["sent", "accepted", "stored"] {
        assert_eq!(stage(&seen, name)["fates"]["refused"], 5, "{seen:#}");
    }
}

#[test]
fn contract_accepted_is_there_only_where_the_way_in_acknowledges() {
    let journey = |send: &str| {
        format!(
            "journeys: [ {{ id: j, send: {{ {send} }}, stages: [ {{ stored: {{ json_api: {{ url: 'http://127.0.0.1:1/', items: '.[]' }} }} }} ] }} ]\n"
        )
    };
    for (send, stages) in [
        ("syslog: { to: 'tcp://127.0.0.1:1' }", &["sent", "stored"][..]),
        ("http: { to: 'http://127.0.0.1:1/' }", &["sent", "accepted", "stored"]),
        ("kafka: { brokers: '127.0.0.1:1', topic: t }", &["sent", "accepted", "stored"]),
    ] {
        let (code, report) = check(&journey(send), &["--for", "100ms"]);
        assert_eq!(code, 2, "no gate at all");
        let row = row(&report["journeys"], "j");
        let names: Vec<_> =
            row["stages"].as_array().expect("an array").iter().map(|s| &s["name"]).collect();
        assert_eq!(names, stages, "{send}");
        assert_eq!(row["rounds"], 0);
        for stage in row["stages"].as_array().expect("an array") {
            assert_eq!(stage["expected"], 0);
            assert!(stage["loss_upper_bound_95"].is_null(), "nothing was measured: {stage:#}");
            assert!(
                stage["latency_seconds"].is_null() || stage["latency_seconds"]["max"].is_null()
            );
        }
    }
}

#[test]
fn contract_the_api_the_report_and_the_metrics_agree_on_a_journey() {
    let gates = "gates:\n\
        - { id: arrives, require: { complete: j, over: 4s, at_least: 5, above: 100% } }\n\
        - { id: loss, require: { loss: j, over: 4s, at_least: 5, below: 0 } }\n";
    let plan = format!("{}{gates}", journey(platform(Flaw::Loses(2))));
    let (folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let gate = daemon.until_verdict("loss", "fail", std::time::Duration::from_secs(30));
    assert_eq!(gate["first_failing_stage"], "stored");
    assert_eq!(gate["journeys"], serde_json::json!(["j"]));
    assert_eq!(gate["unit"], "ratio");
    let told = daemon.json("/api/v1/journeys");
    let told = row(&told, "j");
    holds(told);
    assert!(told["rounds"].as_u64() >= Some(1));
    assert_eq!(told["first_failing_stage"], "stored");
    assert_eq!(row(&daemon.json("/api/v1/ledger")["journeys"], "j")["id"], "j");
    let bound = stage(told, "stored")["loss_upper_bound_95"].as_f64().expect("a number");
    assert!((0.2..=1.0).contains(&bound), "one of five is lost: {bound}");
    for percentile in ["p50", "p95", "p99", "max"] {
        let value = stage(told, "stored")["latency_seconds"][percentile].as_f64();
        assert!(value.is_some_and(|seconds| (0.0..10.0).contains(&seconds)), "{told:#}");
    }
    let lost = daemon.metric("greenlight_journey_events_total", &["\"j\"", "stored", "\"lost\""]);
    let ok = daemon.metric("greenlight_journey_events_total", &["\"j\"", "stored", "\"ok\""]);
    assert!(lost >= Some(1.0), "{lost:?}");
    assert_eq!(ok.map(|ok| ok / 4.0), lost, "four of five arrive in each round");
    let round = daemon.metric("greenlight_journey_last_round_timestamp_seconds", &["\"j\""]);
    assert!(round.is_some_and(|at| at > 1_600_000_000.0), "{round:?}");
}

#[test]
fn contract_what_nobody_can_look_at_is_an_error_in_the_time_that_a_check_takes() {
    // A store that answers to nobody; and notifications, which only the agent listens for.
    let told =
        journey(platform(Flaw::None)).replace("journeys:\n", "").replace("id: j\n", "id: k\n")
            + "      - notified: { webhook: {}, within: 1s, give_up: 2s, poll: 100ms }\n";
    let plan = format!(
        "{}{told}checks: [ {{ id: watchdog, webhook: {{ from: json, within: 1m }}, every: 1s }} ]\n\
         gates:\n\
         - {{ id: stored, require: {{ loss: j, over: 4s, at_least: 5, below: 0 }} }}\n\
         - {{ id: told, require: {{ loss: k, over: 4s, at_least: 1, below: 0 }} }}\n",
        journey(platform(Flaw::Blind))
    );
    let (code, report) = check(&plan, &[]);
    for (gate, id, name, events) in [("stored", "j", "stored", 5), ("told", "k", "notified", 1)] {
        let found = row(&report["gates"], gate);
        assert_eq!((code, &report["decision"]), (2, &"incomplete".into()), "{found:#}");
        assert_eq!(found["verdict"], "error", "{found:#}");
        assert_eq!(found["worst"]["target"], name);
        let told = row(&report["journeys"], id);
        holds(told);
        let inconclusive = stage(told, name)["fates"]["inconclusive"].as_u64();
        assert!(inconclusive >= Some(events), "{told:#}");
    }
    let (_folder, file) = folder_with(&plan);
    for id in ["k", "watchdog"] {
        let output = greenlight(&["once", id, "-c", &file]);
        assert_eq!(crate::command::code(&output), 2, "{}", out(&output));
        assert!(out(&output).contains("nobody listens"), "{}", out(&output));
    }
}

/// What comes after `give_up` is known also where the next rounds have begun meanwhile.
#[test]
fn contract_what_comes_after_give_up_mends_the_tally() {
    let (folder, plan) = folder_with(&journey(platform(Flaw::Holds(2))));
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let metric = |name: &str, fate: &str| {
        let name = format!("greenlight_journey_{name}_total");
        daemon.metric(&name, &["\"j\"", "\"stored\"", fate]).unwrap_or_default()
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(40);
    while metric("resurrected", "") == 0.0 || metric("events", "\"ok\"") < 9.0 {
        assert!(std::time::Instant::now() < end, "{:#}", daemon.json("/api/v1/journeys"));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(metric("resurrected", ""), 1.0);
    assert_eq!(metric("events", "\"lost\""), 1.0, "counters are never taken back");
    let told = daemon.json("/api/v1/journeys");
    let told = row(&told, "j");
    holds(told);
    let fates = &stage(told, "stored")["fates"];
    assert_eq!((&fates["lost"], &fates["late"]), (&0.into(), &1.into()), "{told:#}");
}
