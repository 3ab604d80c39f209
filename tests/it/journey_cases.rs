//! The case files of the walk: what was told and when, and the counts that follow.
//!
//! One thought a file, in `tests/cases/journey`. Defaults: an event stage or thing stage is looked
//! at, `within` 10, `give_up` 30, `poll` 5; spans are seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::journey::recheck::Rechecking;
use greenlight::journey::reconcile::Expectation;
use greenlight::journey::walk::{StageSpec, Step, Things, Walk, WalkSpec};
use greenlight::journey::{Arrival, Event, Fate, Horizon, Look, Receipt, Stage};
use greenlight::outcome::{Fault, FaultCode, Reason, ReasonCode};
use greenlight::spec::{Diagnostics, Sources, decode, yaml};
use greenlight::time::{Mono, Wall};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Case {
    thought: String,
    count: u64,
    #[serde(default)]
    first_seq: u64,
    /// Between the intended sends of two events; or each one's own.
    #[serde(default)]
    pace: f64,
    #[serde(default)]
    due: Vec<f64>,
    #[serde(default)]
    things: Things,
    /// How many are given out to be sent, where a restart comes before all are due.
    given_out: Option<u64>,
    stages: BTreeMap<Stage, StageCase>,
    timeline: Vec<Told>,
    expect: Expect,
    #[serde(default)]
    rechecks: Vec<Recheck>,
}

/// A stage asked again after the round's end.
#[derive(Deserialize)]
struct Recheck {
    stage: Stage,
    looks: Vec<Glance>,
    /// None where it showed nothing that could be asked for again.
    expect: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Glance {
    #[serde(default)]
    sees: Vec<Value>,
    #[serde(default)]
    horizon: Far,
}

#[derive(Deserialize)]
#[serde(default)]
struct StageCase {
    within: f64,
    give_up: f64,
    poll: f64,
    exactly: u64,
    resolved: Option<f64>,
    fields: Map<String, Value>,
    time: Option<String>,
}

impl Default for StageCase {
    fn default() -> Self {
        Self {
            within: 10.0,
            give_up: 30.0,
            poll: 5.0,
            exactly: 1,
            resolved: None,
            fields: Map::new(),
            time: None,
        }
    }
}

#[derive(Deserialize)]
struct Told {
    at: f64,
    #[serde(default)]
    sent: Vec<u64>,
    #[serde(default)]
    accepted: Vec<u64>,
    #[serde(default)]
    not_sent: Vec<u64>,
    #[serde(default)]
    refused: Vec<u64>,
    #[serde(default)]
    unknown: Vec<u64>,
    #[serde(default)]
    fault: Vec<u64>,
    #[serde(default)]
    text: String,
    look: Option<Stage>,
    began: Option<f64>,
    #[serde(default)]
    sees: Vec<Value>,
    #[serde(default)]
    horizon: Far,
    #[serde(default)]
    restart: bool,
    #[serde(default)]
    tick: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Far {
    #[default]
    Complete,
    Partial,
    Blind,
}

#[derive(Deserialize)]
struct Copy {
    seq: Option<u64>,
    copy: Option<String>,
    order: Option<(String, u64)>,
    text: Option<String>,
    fields: Option<Map<String, Value>>,
    #[serde(default)]
    ended: bool,
    #[serde(default)]
    dead_letter: bool,
    wrong: Option<String>,
}

#[derive(Deserialize)]
struct Expect {
    done: bool,
    #[serde(default)]
    under_way: u64,
    first_failing_stage: Option<Stage>,
    stages: BTreeMap<Stage, Map<String, Value>>,
}

#[test]
fn the_walk_holds_every_case() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/journey");
    let mut wrong = Vec::new();
    let mut cases = 0;
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    for path in files {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let case = read(&path);
        assert!(!case.thought.is_empty());
        let outcome = std::panic::catch_unwind(|| run(&case));
        let thought = &case.thought;
        match outcome {
            Ok(found) if found.is_empty() => {}
            Ok(found) => wrong.push(format!("{name} ({thought}):\n  {}", found.join("\n  "))),
            Err(_) => wrong.push(format!("{name} ({thought}): panicked")),
        }
        cases += 1;
    }
    eprintln!("cases of the walk: {cases}");
    assert!(cases >= 40, "only {cases} cases were found");
    assert!(wrong.is_empty(), "{} of {cases} cases fail:\n{}", wrong.len(), wrong.join("\n"));
}

fn read(path: &std::path::Path) -> Case {
    let text = std::fs::read_to_string(path).expect("a readable case");
    let mut sources = Sources::default();
    let source = sources.add(path.display().to_string(), text.clone());
    let mut diagnostics = Diagnostics::new();
    let case = yaml::parse(source, &text, &mut diagnostics)
        .and_then(|node| decode::<Case>(&node, &mut diagnostics));
    case.filter(|_| diagnostics.is_empty())
        .unwrap_or_else(|| panic!("{}", diagnostics.render(&sources, false)))
}

/// What differs from what the case expects.
fn run(case: &Case) -> Vec<String> {
    let began = 1_000.0;
    let at = |seconds: f64| Mono(((began + seconds) * 1e9).round() as i64);
    let due = match case.due.is_empty() {
        true => (0..case.count).map(|unit| case.pace * unit as f64).collect(),
        false => case.due.clone(),
    };
    let mut walk = Walk::new(WalkSpec {
        stages: case.stages.iter().map(|(stage, spec)| stage_spec(*stage, spec)).collect(),
        first_seq: case.first_seq,
        count: case.count,
        began: at(0.0),
        due: due.into_iter().map(Duration::from_secs_f64).collect(),
        things: case.things,
    });
    let events = Events::new(&EventSpec::default(), Format::Json).expect("a right spec");
    let event = |seq: u64| events.render(&run_from([3; 8]), "case", seq, Wall(0));
    let mut given_out = 0;
    for step in walk.next(at(0.0)) {
        given_out += sends(&step);
    }
    let mut last = 0.0;
    for told in &case.timeline {
        // What is stored between any two things that are told is the whole state.
        let stored = serde_json::to_string(&walk).expect("a state that can be stored");
        walk = serde_json::from_str(&stored).expect("a state that can be read");
        last = told.at;
        if told.restart {
            walk.resumed();
        }
        if told.tick {
            walk.tick(at(told.at));
        }
        for (seq, receipt) in receipts(told, at(told.at)) {
            walk.receipt(seq, receipt);
        }
        if let Some(stage) = told.look {
            let look = look(&told.sees, told.horizon, at(told.at), &event);
            walk.look(stage, look, at(told.began.unwrap_or(told.at)), event);
        }
        let steps = walk.next(at(told.at));
        assert!(matches!(steps.last(), Some(Step::Wait(_) | Step::Done)), "{steps:?}");
        if let Some(Step::Wait(until)) = steps.last() {
            assert!(*until > at(told.at), "waits for the past");
        }
        given_out += steps.iter().map(sends).sum::<u64>();
    }
    let mut wrong = compare(case, &walk);
    // After a restart nothing is sent again, and before it each event is given out once.
    if given_out != case.given_out.unwrap_or(case.count) {
        wrong.push(format!("{given_out} of {} events were given out to be sent", case.count));
    }
    if matches!(walk.next(at(last)).last(), Some(Step::Done)) != case.expect.done {
        wrong.push(format!("done is {}", !case.expect.done));
    }
    wrong.extend(case.rechecks.iter().flat_map(|recheck| again(recheck, case, &walk, &event)));
    wrong
}

/// What differs from what the case expects of a look back.
fn again(
    recheck: &Recheck,
    case: &Case,
    walk: &Walk,
    event: &impl Fn(u64) -> Event,
) -> Vec<String> {
    let word = recheck.stage.word();
    let shown = walk.shown(recheck.stage);
    let expected = match (shown.count(), &recheck.expect) {
        (0, None) => return Vec::new(),
        (1.., Some(expected)) => expected,
        _ => return vec![format!("{word} had shown {shown:?}")],
    };
    // What is stored between the round and the look back is all that is known of it.
    let stored = serde_json::to_string(&shown).expect("it can be stored");
    let mut rechecking = Rechecking::new(serde_json::from_str(&stored).expect("it can be read"));
    let expectation = stage_spec(recheck.stage, &case.stages[&recheck.stage]).expect;
    let mut result = None;
    for (at, glance) in recheck.looks.iter().enumerate() {
        assert!(result.is_none(), "it was told before the last look: {result:?}");
        let look = look(&glance.sees, glance.horizon, Mono(0), event);
        rechecking.look(&look, &expectation, event);
        result = rechecking.result(&"run".into(), at + 1 == recheck.looks.len());
    }
    let result = result.expect("the last look ends it");
    assert_eq!(result.expected(), shown.count(), "each event has one fate");
    let found = serde_json::to_value(&result).expect("JSON");
    let keys = ["kept", "vanished", "changed", "inconclusive", "reason"];
    assert!(expected.keys().all(|key| keys.contains(&key.as_str())), "an unknown key");
    keys.into_iter()
        .filter(|key| {
            let default = if *key == "reason" { Value::Null } else { 0.into() };
            expected.get(*key).unwrap_or(&default) != &found[key]
        })
        .map(|key| format!("{word} again: {key} is {}", found[key]))
        .collect()
}

fn look(sees: &[Value], horizon: Far, seen: Mono, event: &impl Fn(u64) -> Event) -> Look {
    Look {
        arrivals: sees.iter().map(|sees| arrival(sees, seen, event)).collect(),
        horizon: match horizon {
            Far::Complete => Horizon::Complete,
            Far::Partial => Horizon::Partial(Fault::new(FaultCode::Blind, "half")),
            Far::Blind => Horizon::Blind(Fault::new(FaultCode::Blind, "nothing")),
        },
    }
}

fn sends(step: &Step) -> u64 {
    match step {
        Step::Send { seqs } => seqs.len() as u64,
        _ => 0,
    }
}

fn stage_spec(stage: Stage, spec: &StageCase) -> StageSpec {
    StageSpec {
        stage,
        within: Duration::from_secs_f64(spec.within),
        give_up: Duration::from_secs_f64(spec.give_up),
        poll: Duration::from_secs_f64(spec.poll),
        expect: Expectation {
            fields: spec.fields.clone(),
            time: spec.time.clone(),
            ..Expectation::default()
        },
        exactly: spec.exactly,
        resolved: spec.resolved.map(Duration::from_secs_f64),
        rule: None,
        has_confirmer: !matches!(stage, Stage::Sent | Stage::Accepted),
    }
}

fn receipts(told: &Told, at: Mono) -> Vec<(u64, Receipt)> {
    let reason = |code| Reason::new(code, told.text.clone());
    let fault = Fault::new(FaultCode::Exhausted, told.text.clone());
    [
        (&told.sent, Receipt::Sent { at }),
        (&told.accepted, Receipt::Accepted { at }),
        (&told.not_sent, Receipt::NotSent(reason(ReasonCode::Refused))),
        (&told.refused, Receipt::Refused(reason(ReasonCode::Rejected))),
        (&told.unknown, Receipt::Unknown(reason(ReasonCode::Timeout))),
        (&told.fault, Receipt::Fault(fault)),
    ]
    .into_iter()
    .flat_map(|(seqs, receipt)| seqs.iter().map(move |seq| (*seq, receipt.clone())))
    .collect()
}

/// A bare number is a whole copy of that event, under a name of its own.
fn arrival(sees: &Value, seen: Mono, event: &impl Fn(u64) -> Event) -> Arrival {
    let copy: Copy = match sees.as_u64() {
        Some(seq) => serde_json::from_value(serde_json::json!({ "seq": seq })),
        None => serde_json::from_value(sees.clone()),
    }
    .unwrap_or_else(|error| panic!("{sees}: {error}"));
    let message = copy.seq.map(|seq| event(seq).message).unwrap_or_default();
    let text = copy.text.map(|text| match text.as_str() {
        "whole" => message.clone(),
        "cut" => message[..message.len() / 2].to_owned(),
        "mangled" => message.replacen("login", "LOGIN", 1),
        other => panic!("no such text: {other}"),
    });
    let name = copy.copy.or_else(|| copy.order.as_ref().map(|(scope, at)| format!("{scope}@{at}")));
    Arrival {
        seq: copy.seq,
        copy: name.unwrap_or_else(|| format!("copy of {:?}", copy.seq)),
        seen,
        order: copy.order,
        text,
        fields: copy.fields,
        ended: copy.ended,
        dead_letter: copy.dead_letter,
        stamped: None,
        wrong: copy.wrong.map(|text| Reason::new(ReasonCode::ValueMismatch, text)),
    }
}

fn compare(case: &Case, walk: &Walk) -> Vec<String> {
    let tally = walk.tally();
    let mut wrong = Vec::new();
    if walk.under_way() != case.expect.under_way {
        wrong.push(format!("{} under way", walk.under_way()));
    }
    if tally.first_failing_stage() != case.expect.first_failing_stage {
        wrong.push(format!("first failing stage is {:?}", tally.first_failing_stage()));
    }
    for (stage, expected) in &case.expect.stages {
        let found = tally.stage(*stage).expect("a stage of the walk");
        let mut said = |what: &str, found: &Value, expected: Option<&Value>| {
            if expected.is_some_and(|expected| expected != found) {
                wrong.push(format!("{} {what} is {found}", stage.word()));
            }
        };
        for fate in Fate::ALL {
            let nought = Value::from(0_u64);
            let expected = expected.get(fate.word()).unwrap_or(&nought);
            said(fate.word(), &Value::from(found.count(fate)), Some(expected));
        }
        said("duplicate", &found.duplicate.into(), expected.get("duplicate"));
        said("resurrected", &found.resurrected.into(), expected.get("resurrected"));
        said("reason", &found.reason.clone().into(), expected.get("reason"));
        if let Some(expected) = expected.get("after_alert")
            && serde_json::json!(found.after_alert) != *expected
        {
            wrong.push(format!("{} after the alert: {:?}", stage.word(), found.after_alert));
        }
        if let Some(expected) = expected.get("latencies").and_then(Value::as_array) {
            let near = |(a, b): (&f64, &Value)| (a - b.as_f64().unwrap_or(-1.0)).abs() < 1e-6;
            let same = found.latencies.len() == expected.len()
                && found.latencies.iter().zip(expected).all(near);
            if !same {
                wrong.push(format!("{} latencies are {:?}", stage.word(), found.latencies));
            }
        }
        assert_eq!(found.fates.values().sum::<u64>(), found.expected, "fates sum to expected");
        for key in expected.keys() {
            let known = ["duplicate", "resurrected", "reason", "latencies", "after_alert"]
                .contains(&key.as_str())
                || Fate::ALL.iter().any(|fate| fate.word() == key);
            assert!(known, "the case expects an unknown '{key}'");
        }
    }
    wrong
}
