use std::time::Duration;

use serde_json::json;

use super::*;
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::journey::reconcile::Expectation;
use crate::journey::walk::{StageSpec, Things, WalkSpec};
use crate::journey::{Horizon, Look, Receipt};
use crate::time::{Mono, Wall};

const STAGES: [Stage; 3] = [Stage::Sent, Stage::Parsed, Stage::Stored];

fn event(seq: u64) -> Event {
    let events = Events::new(&EventSpec::default(), Format::Json).expect("a right spec");
    events.render(&run_from([1; 8]), "s", seq, Wall(0))
}

fn copy(seq: u64, text: &str, fields: Value) -> Arrival {
    Arrival {
        seq: Some(seq),
        copy: seq.to_string(),
        seen: Mono::from_secs(2),
        order: None,
        text: Some(text.into()),
        fields: fields.as_object().cloned(),
        ended: false,
        dead_letter: false,
        stamped: None,
        wrong: None,
    }
}

/// A round of four events: what each stage shows of them, and the specimen of it.
fn specimen(secrets: &[String], looks: &[(Stage, Vec<Arrival>)]) -> Specimen {
    let stage = |stage| StageSpec {
        stage,
        within: Duration::from_secs(10),
        give_up: Duration::from_secs(30),
        poll: Duration::from_secs(5),
        expect: Expectation::default(),
        exactly: 1,
        resolved: None,
        rule: None,
        has_confirmer: stage != Stage::Sent,
    };
    let mut walk = Walk::new(WalkSpec {
        stages: STAGES.into_iter().map(stage).collect(),
        first_seq: 0,
        count: 4,
        began: Mono(0),
        due: Vec::new(),
        things: Things::Any,
    });
    walk.next(Mono(0));
    for seq in 0..4 {
        walk.receipt(seq, Receipt::Sent { at: Mono(0) });
    }
    let mut specimens = Specimens::default();
    for (stage, arrivals) in looks {
        specimens.take(*stage, arrivals);
        let look = Look { arrivals: arrivals.clone(), horizon: Horizon::Complete };
        walk.look(*stage, look, Mono::from_secs(30), event);
    }
    walk.tick(Mono::from_secs(60));
    specimens.of(&walk, "run", secrets, event)
}

fn whole(seq: u64) -> Arrival {
    copy(seq, &event(seq).message, json!({ "n": seq }))
}

#[test]
fn the_first_that_failed_is_shown_as_each_stage_showed_it() {
    let cut = event(2).message[..20].to_owned();
    let parsed: Vec<_> = (0..4).map(whole).collect();
    let stored = vec![whole(0), copy(2, &cut, json!({})), whole(3)];
    let both = [(Stage::Parsed, parsed.clone()), (Stage::Stored, stored)];
    let shown = specimen(&[], &both);
    // Of the two that failed at `stored`, 1 is missing there and 2 is cut: 1 is the first.
    assert_eq!((shown.seq, shown.fails_at()), (1, Some(Stage::Stored)));
    assert_eq!(shown.sent.text, String::from_utf8_lossy(&event(1).payload));
    let [at_parsed, at_stored] = shown.stages.as_slice() else {
        panic!("two stages are looked at")
    };
    assert_eq!((at_parsed.fate, at_parsed.after_seconds), (Some(Fate::Ok), Some(2.0)));
    assert_eq!(at_parsed.difference, []);
    assert_eq!(at_parsed.text.as_ref().map(|text| text.text.as_str()), Some(&*event(1).message));
    assert_eq!((at_stored.fate, &at_stored.text), (Some(Fate::Lost), &None));

    let stored = vec![whole(0), whole(1), copy(2, &cut, json!({})), whole(3)];
    let shown = specimen(&[], &[(Stage::Parsed, parsed.clone()), (Stage::Stored, stored)]);
    assert_eq!((shown.seq, shown.fails_at()), (2, Some(Stage::Stored)));
    let last = shown.stages[1].difference.last().expect("it differs");
    assert!(last.is != Is::Same, "the end is missing: {:?}", shown.stages[1].difference);

    let all = specimen(&[], &[(Stage::Parsed, parsed.clone()), (Stage::Stored, parsed)]);
    assert_eq!((all.seq, all.fails_at()), (0, None));
}

#[test]
fn secrets_are_taken_out_and_long_texts_cut() {
    let message = event(0).message;
    let text = format!("Bearer hunter22 {message} {}", "x".repeat(5_000));
    let fields = json!({
        "http": { "Authorization": "Basic abc", "list": [{ "db_password": "p" }] },
        "user": "hunter22", "n": 1,
    });
    let parsed = vec![copy(0, &text, fields), whole(1), whole(2), whole(3)];
    let looks = [(Stage::Parsed, parsed), (Stage::Stored, (0..4).map(whole).collect())];
    let shown = specimen(&["hunter22".into(), "x".into()], &looks);
    let parsed = &shown.stages[0];
    let (text, fields) = (parsed.text.as_ref().unwrap(), parsed.fields.as_ref().unwrap());
    assert!(text.text.starts_with("Bearer [redacted] "), "{}", text.text);
    assert!(text.is_cut() && text.bytes > 5_000 && text.text.len() < 2_100);
    let fields: Value = serde_json::from_str(&fields.text).expect("JSON");
    let hidden = json!({
        "http": { "Authorization": "[redacted]", "list": [{ "db_password": "[redacted]" }] },
        "user": "[redacted]", "n": 1,
    });
    assert_eq!(fields, hidden);
    assert!(!serde_json::to_string(&shown).unwrap().contains("hunter22"));
}

#[test]
fn a_round_keeps_no_more_than_its_limit() {
    let mut specimens = Specimens::default();
    for seq in 0..10_000 {
        specimens.take(Stage::Parsed, &[copy(seq, &"y".repeat(50_000), json!({}))]);
    }
    assert!(specimens.bytes < ROUND_LIMIT + 2 * TEXT_LIMIT, "{}", specimens.bytes);
    assert!(specimens.kept.len() < 100);
}
