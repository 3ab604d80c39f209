use super::*;
use crate::gate::{Requirement, When};
use Level::{Conditional, Mandatory, Optional};
use Verdict::{Error, Fail, NotApplicable, Open, Pass, Waived, Warn};

fn gate(id: &str, level: Level) -> Gate {
    Gate {
        id: id.to_owned(),
        title: format!("title of {id}"),
        level,
        require: Requirement::Missing("a hand that measures".to_owned()),
        when: (level == Conditional).then(|| When::Unset("variable x".to_owned())),
        refs: vec!["N5".to_owned()],
        why: Some("it matters".to_owned()),
        fix: None,
        waivable: true,
        max_inconclusive: 0.05,
    }
}

#[test]
fn the_decision_is_the_contracts() {
    for (gates, decision) in [
        (&[][..], Decision::Incomplete),
        (&[(Mandatory, Pass)], Decision::Go),
        (&[(Mandatory, Warn), (Optional, Fail), (Optional, Open)], Decision::Go),
        (&[(Mandatory, Pass), (Conditional, NotApplicable)], Decision::Go),
        (&[(Mandatory, Pass), (Optional, Waived)], Decision::Go),
        (&[(Mandatory, Pass), (Mandatory, Waived)], Decision::GoWithWaivers),
        (&[(Mandatory, Waived), (Conditional, Open)], Decision::Incomplete),
        (&[(Mandatory, Error)], Decision::Incomplete),
        (&[(Mandatory, Open), (Mandatory, Fail), (Mandatory, Waived)], Decision::NoGo),
        (&[(Conditional, Fail)], Decision::NoGo),
        (&[(Optional, Fail)], Decision::Go),
    ] {
        assert_eq!(decide(gates.iter().copied()), decision, "{gates:?}");
    }
    assert_eq!(Decision::ALL.map(Decision::number), [0, 1, 2, 3]);
    assert_eq!(Decision::ALL.map(Decision::exit_code), [0, 0, 2, 1]);
}

fn document() -> Document {
    let judged = gate("net.latency", Mandatory);
    let other = gate("ram", Optional);
    let finding = Finding {
        verdict: Fail,
        value: Some(f64::INFINITY),
        unit: Some(crate::catalogue::Unit::Seconds),
        threshold: Some(0.005),
        margin: Some(f64::NAN),
        samples: 120,
        window_seconds: Some(900.0),
        covered_seconds: Some(900.0),
        worst: Some(("core".to_owned(), "lake-1".to_owned())),
        reason: Some(Why::new("failed_attempts", "2 of 120")),
        first_failing_stage: Some(Stage::Stored),
        checks: vec!["core".to_owned()],
        journeys: vec![],
        undecided: false,
    };
    let mut stored = StageTally::new(Stage::Stored);
    stored.expected = 100;
    stored.fates = BTreeMap::from([(Fate::Ok, 99), (Fate::Lost, 1)]);
    stored.duplicate = 2;
    stored.latencies = vec![0.5];
    let tally = Tally { rounds: 1, stages: vec![StageTally::new(Stage::Sent), stored] };
    let texts = |gate: &Gate, promql| Texts { promql, ..Texts::of(gate, &Boundaries::new()) };
    let judged_texts = texts(&judged, Ok("up".to_owned()));
    let other_texts = texts(&other, Err("nothing measures it".to_owned()));
    assemble(Parts {
        tool_version: "0.1.0".to_owned(),
        plan: Plan { digest: "abc".to_owned(), sources: vec!["a.yaml".to_owned()] },
        node: Node { name: "n".to_owned(), labels: BTreeMap::new() },
        started: Wall::from_secs(1_700_000_000),
        finished: Wall::from_secs(1_700_000_060),
        gates: vec![
            Judged { gate: &judged, finding, texts: &judged_texts },
            Judged {
                gate: &other,
                finding: Finding::open("not_measured", "a hand"),
                texts: &other_texts,
            },
        ],
        journeys: vec![Followed { id: "ssh".to_owned(), tally, ..Followed::default() }],
        load_windows: Vec::new(),
        checks: vec![CheckRow {
            id: "core".to_owned(),
            kind: "icmp".to_owned(),
            targets: vec![
                TargetRow { target: "never".to_owned(), last: None },
                TargetRow {
                    target: "lake-1".to_owned(),
                    last: Some(LastAttempt::of(
                        Wall::from_secs(1_700_000_059),
                        &Outcome::Failure(crate::outcome::Reason::new(
                            crate::outcome::ReasonCode::Timeout,
                            "no answer in 1 s",
                        )),
                    )),
                },
            ],
        }],
    })
}

#[test]
fn the_document_is_the_contracts_json() {
    let json = serde_json::to_value(document()).unwrap();
    let keys = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        keys(&json),
        "version tool plan node started_at finished_at decision counts gates journeys checks"
    );
    assert_eq!(
        keys(&json["gates"][0]),
        "id title level verdict refs criterion value unit threshold margin samples window_seconds \
         covered_seconds worst reason first_failing_stage checks journeys promql promql_missing why fix"
    );
    assert_eq!(
        keys(&json["journeys"][0]["stages"][1]),
        "name expected fates duplicate latency_seconds loss_upper_bound_95"
    );
    assert_eq!(json["decision"], "no_go");
    assert_eq!(json["started_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(json["counts"]["fail"], 1);
    assert_eq!(json["counts"]["not_applicable"], 0);
    assert_eq!(json["gates"][0]["level"], "mandatory");
    assert_eq!(json["gates"][0]["unit"], "seconds");
    assert_eq!(json["gates"][0]["worst"], serde_json::json!({"check": "core", "target": "lake-1"}));
    assert_eq!(json["gates"][0]["first_failing_stage"], "stored");
    assert_eq!(json["gates"][1]["reason"]["code"], "not_measured");
    assert_eq!(json["journeys"][0]["first_failing_stage"], "stored");
    assert_eq!(json["journeys"][0]["stages"][1]["fates"]["lost"], 1);
    assert_eq!(json["journeys"][0]["stages"][1]["fates"]["late"], 0);
    assert_eq!(json["journeys"][0]["stages"][1]["latency_seconds"]["max"], 0.5);
    let bound = json["journeys"][0]["stages"][1]["loss_upper_bound_95"].as_f64().unwrap();
    assert!((0.04..0.05).contains(&bound), "{bound}");
    assert_eq!(json["checks"][0]["targets"][1]["last"]["reason"]["code"], "timeout");
}

#[test]
fn what_nobody_measured_is_null_and_never_zero() {
    let json = serde_json::to_value(document()).unwrap();
    for place in [
        "/gates/0/value",
        "/gates/0/margin",
        "/gates/1/value",
        "/gates/1/unit",
        "/gates/1/worst",
        "/gates/1/promql",
        "/gates/1/window_seconds",
        "/journeys/0/stages/0/loss_upper_bound_95",
        "/journeys/0/stages/0/latency_seconds/p99",
        "/journeys/0/stages/0/latency_seconds/max",
        "/checks/0/targets/0/last",
    ] {
        assert_eq!(json.pointer(place), Some(&serde_json::Value::Null), "{place}");
    }
}

#[test]
fn the_document_validates_reads_back_and_takes_further_fields() {
    let schema = serde_json::to_value(schema()).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut json = serde_json::to_value(document()).unwrap();
    assert!(validator.is_valid(&json), "{:?}", validator.iter_errors(&json).collect::<Vec<_>>());
    json["gates"][0]["signature"] = serde_json::json!("later");
    assert!(validator.is_valid(&json));
    let back: Document = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back, document());
    json["decision"] = serde_json::json!("maybe");
    assert!(!validator.is_valid(&json));
    assert!(serde_json::from_value::<Document>(json).is_err());
}
