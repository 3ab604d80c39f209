use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::journey::reconcile::Expectation;
use crate::journey::walk::{StageSpec, Things, Walk, WalkSpec};
use crate::journey::{Arrival, Event, Horizon, Look};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::time::Wall;

const STAGES: [Stage; 4] = [Stage::Sent, Stage::Accepted, Stage::Parsed, Stage::Stored];

fn counted(stage: Stage) -> Counted {
    Counted { stage, within: Duration::from_secs(10), give_up: Duration::from_secs(30) }
}

fn event(seq: u64) -> Event {
    let events = Events::new(&EventSpec::default(), Format::Json).expect("a right spec");
    events.render(&run_from([1; 8]), "s", seq, Wall(0))
}

fn receipt(kind: u8) -> Receipt {
    let reason = Reason::new(ReasonCode::Timeout, "no");
    match kind {
        0 => Receipt::NotSent(reason),
        1 => Receipt::Refused(reason),
        2 => Receipt::Unknown(reason),
        3 => Receipt::Fault(Fault::new(FaultCode::Exhausted, "no")),
        4 => Receipt::Accepted { at: Mono::from_secs(12) },
        _ => Receipt::Accepted { at: Mono::from_secs(1) },
    }
}

/// A copy at a stage: which event, when it is seen, in which of two partitions.
type Copy = (u64, i64, u32);

fn world() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<Copy>>)> {
    (1_u64..40).prop_flat_map(|count| {
        let copy = (0..count, 1_i64..29, 0_u32..2);
        let copies = prop::collection::vec(copy, 0..80);
        (prop::collection::vec(0_u8..12, count as usize), prop::collection::vec(copies, 2))
    })
}

#[test]
fn it_counts_as_the_walk_does() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(500));
    runner
        .run(&world(), |(kinds, copies)| {
            let spec = |stage| StageSpec {
                stage,
                within: counted(stage).within,
                give_up: counted(stage).give_up,
                poll: Duration::from_secs(5),
                expect: Expectation::default(),
                exactly: 1,
                resolved: None,
                rule: None,
                has_confirmer: !matches!(stage, Stage::Sent | Stage::Accepted),
            };
            let mut walk = Walk::new(WalkSpec {
                stages: STAGES.map(spec).into(),
                first_seq: 0,
                count: kinds.len() as u64,
                began: Mono(0),
                due: Vec::new(),
                things: Things::Any,
            });
            walk.next(Mono(0));
            let mut volume = Volume::new(&STAGES.map(counted), 0);
            for (seq, kind) in kinds.iter().enumerate() {
                prop_assert_eq!(volume.intend(Mono(0)), Some(seq as u64));
                walk.receipt(seq as u64, receipt(*kind));
                volume.receipt(seq as u64, &receipt(*kind));
            }
            let end = Mono::from_secs(31);
            for (stage, copies) in STAGES[2..].iter().zip(&copies) {
                // A consumer reads in the order of positions, and the later the later.
                let mut copies = copies.clone();
                copies.retain(|(seq, _, _)| !matches!(kinds[*seq as usize], 0 | 1 | 3));
                copies.sort_by_key(|(_, at, _)| *at);
                let mut arrivals = Vec::new();
                for (position, (seq, at, scope)) in copies.iter().enumerate() {
                    // No two at once: which of them came first would be anybody's guess.
                    let seen = Mono::from_secs(*at).plus(Duration::from_nanos(position as u64));
                    volume.seen(*stage, *seq, seen, Some(*scope), None);
                    arrivals.push(Arrival {
                        seq: Some(*seq),
                        copy: position.to_string(),
                        seen,
                        order: Some((scope.to_string(), position as u64)),
                        text: None,
                        fields: None,
                        ended: false,
                        dead_letter: false,
                        stamped: None,
                        wrong: None,
                    });
                }
                walk.look(*stage, Look { arrivals, horizon: Horizon::Complete }, end, event);
                volume.complete(*stage, end);
            }
            walk.tick(Mono::from_secs(100));
            volume.decide(true);
            prop_assert_eq!(volume.in_flight(), 0);
            for (ours, theirs) in volume.tally().stages.iter().zip(&walk.tally().stages) {
                prop_assert_eq!(&ours.fates, &theirs.fates, "{:?}", ours.stage);
                prop_assert_eq!(ours.duplicate, theirs.duplicate, "{:?}", ours.stage);
                let (ours, theirs) = (volume.latency(ours.stage), theirs.latency());
                prop_assert_eq!(ours.map(|p| p.max), theirs.map(|p| p.max));
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    eprintln!("property volume against walk: {} inputs", runner.config().cases);
}

#[test]
fn blocks_are_decided_and_forgotten_and_late_comers_mend_the_tally() {
    let stages = [counted(Stage::Sent), counted(Stage::Stored)];
    let mut volume = Volume::new(&stages, 1);
    let count = 3 * BLOCK as u64;
    for n in 0..count {
        let seq = volume.intend(Mono::from_secs(n as i64 / 1_000)).expect("room");
        assert_eq!(seq, n + 1);
        volume.receipt(seq, &Receipt::Sent { at: Mono::from_secs(n as i64 / 1_000) });
        if seq != 5 {
            volume.seen(Stage::Stored, seq, Mono::from_secs(n as i64 / 1_000 + 1), Some(0), None);
        }
    }
    assert!(volume.bytes() as f64 / count as f64 <= 20.0, "{} bytes", volume.bytes());
    volume.decide(false);
    assert_eq!(volume.in_flight(), count, "no look could tell so far");
    volume.complete(Stage::Stored, Mono::from_secs(39));
    volume.decide(false);
    assert_eq!(volume.in_flight(), 2 * BLOCK as u64, "the first block is given up");
    let stored = |volume: &Volume| volume.tally().stage(Stage::Stored).cloned().expect("a stage");
    assert_eq!((stored(&volume).count(Fate::Lost), stored(&volume).count(Fate::Ok)), (1, 8_191));
    // Again after it was decided: a further copy; the lost one: late.
    volume.seen(Stage::Stored, 6, Mono::from_secs(50), Some(0), None);
    volume.seen(Stage::Stored, 5, Mono::from_secs(50), Some(0), None);
    volume.seen(Stage::Stored, 5, Mono::from_secs(51), Some(0), None);
    volume.seen(Stage::Stored, count + 1, Mono::from_secs(51), Some(0), None);
    volume.seen(Stage::Stored, 0, Mono::from_secs(51), Some(0), None);
    let tally = stored(&volume);
    assert_eq!((tally.count(Fate::Lost), tally.count(Fate::Late)), (0, 1));
    assert_eq!((tally.resurrected, tally.duplicate, tally.expected), (1, 2, 8_192));
    volume.decide(true);
    let tally = stored(&volume);
    assert_eq!(tally.count(Fate::Ok) + tally.count(Fate::Late), count);
    assert_eq!(tally.loss_upper_bound_95(), Some(3.0 / count as f64), "the rule of three");
}

#[test]
fn without_a_complete_look_nothing_is_lost() {
    let mut volume = Volume::new(&[counted(Stage::Sent), counted(Stage::Stored)], 0);
    volume.intend(Mono(0));
    volume.receipt(0, &Receipt::Sent { at: Mono(0) });
    volume.complete(Stage::Stored, Mono::from_secs(29));
    volume.decide(true);
    let stored = volume.tally().stage(Stage::Stored).cloned().expect("a stage");
    assert_eq!((stored.count(Fate::Lost), stored.count(Fate::Inconclusive)), (0, 1));
}
