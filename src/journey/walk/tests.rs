use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::time::Wall;

const GIVE_UP: i64 = 30;

fn spec(stage: Stage) -> StageSpec {
    StageSpec {
        stage,
        within: Duration::from_secs(10),
        give_up: Duration::from_secs(30),
        poll: Duration::from_secs(5),
        expect: Expectation::default(),
        exactly: 1,
        resolved: None,
        rule: None,
        has_confirmer: !matches!(stage, Stage::Sent | Stage::Accepted),
    }
}

fn walk(stages: &[Stage], count: u64) -> Walk {
    Walk::new(WalkSpec {
        stages: stages.iter().map(|stage| spec(*stage)).collect(),
        first_seq: 0,
        count,
        began: Mono(0),
        due: Vec::new(),
        things: Things::Any,
    })
}

fn event(seq: u64) -> Event {
    let events = Events::new(&EventSpec::default(), Format::Json).expect("a right spec");
    events.render(&run_from([1; 8]), "s", seq, Wall(0))
}

fn copy(seq: u64, name: u64, seen: i64) -> Arrival {
    Arrival {
        seq: Some(seq),
        copy: name.to_string(),
        seen: Mono::from_secs(seen),
        order: None,
        text: None,
        fields: None,
        ended: false,
        dead_letter: false,
        stamped: None,
        wrong: None,
    }
}

/// Hours after its end, from what was stored of it then.
#[test]
fn what_a_look_back_finds_is_late_and_not_lost() {
    let mut walk = walk(&[Stage::Sent, Stage::Stored], 5);
    walk.next(Mono(0));
    let refused = Receipt::Refused(Reason::new(ReasonCode::Rejected, "no"));
    let sent = || Receipt::Sent { at: Mono(0) };
    for (seq, receipt) in [sent(), sent(), sent(), refused, sent()].into_iter().enumerate() {
        walk.receipt(seq as u64, receipt);
    }
    assert_eq!(
        walk.lacking(Stage::Stored),
        BTreeSet::from([0, 1, 2, 4]),
        "what was refused is none"
    );
    let look = |arrivals| Look { arrivals, horizon: Horizon::Complete };
    walk.look(Stage::Stored, look(vec![copy(0, 0, 1)]), Mono::from_secs(30), event);
    assert_eq!(walk.next(Mono::from_secs(31)), [Step::Done]);
    assert_eq!(walk.lacking(Stage::Stored), BTreeSet::from([1, 2, 4]));
    assert_eq!(walk.lacking(Stage::Sent), BTreeSet::new(), "nobody looks there");
    let before = walk.tally();

    let stored = serde_json::to_string(&walk).expect("it can be stored");
    let mut walk: Walk = serde_json::from_str(&stored).expect("it can be read");
    walk.rebase(Mono(0));
    walk.resumed();
    assert_eq!(walk.tally(), before, "reading it changes nothing");
    walk.look(Stage::Stored, look(vec![copy(2, 2, 7_200)]), Mono::from_secs(7_200), event);
    let after = walk.tally();
    let of = |tally: &Tally, fate| tally.stage(Stage::Stored).map(|stage| stage.count(fate));
    let fates = [Fate::Ok, Fate::Late, Fate::Lost, Fate::Refused];
    assert_eq!(fates.map(|fate| of(&before, fate)), [Some(1), Some(0), Some(3), Some(1)]);
    assert_eq!(fates.map(|fate| of(&after, fate)), [Some(1), Some(1), Some(2), Some(1)]);
    let stored = after.stage(Stage::Stored).expect("a stage");
    assert_eq!((stored.resurrected, &stored.latencies[..]), (1, &[1.0, 7_200.0][..]));
    // Nobody looked as far: what was lost stays lost, and is none that nobody could see.
    walk.look(
        Stage::Stored,
        Look::blind(Fault::new(FaultCode::Blind, "no")),
        Mono::from_secs(7_201),
        event,
    );
    assert_eq!(walk.tally(), after);
}

#[test]
fn sends_come_first_then_looks_as_often_as_the_poll_says() {
    let mut walk = walk(&[Stage::Sent, Stage::Stored], 2);
    let steps = walk.next(Mono(0));
    assert_eq!(steps.first(), Some(&Step::Send { seqs: vec![0, 1] }));
    assert!(!steps.contains(&Step::Look(Stage::Stored)), "nothing is there to be seen yet");
    for seq in [0, 1] {
        walk.receipt(seq, Receipt::Sent { at: Mono::from_secs(1) });
    }
    let now = Mono::from_secs(1);
    assert_eq!(walk.next(now).first(), Some(&Step::Look(Stage::Stored)));
    assert!(matches!(walk.next(now).first(), Some(Step::Wait(_))), "one look at a time");
    let nothing = || Look { arrivals: Vec::new(), horizon: Horizon::Complete };
    walk.look(Stage::Stored, nothing(), now, event);
    assert_eq!(walk.next(now), [Step::Wait(Mono::from_secs(6))]);
    // The last look does not wait for its turn: it begins when the events are given up.
    walk.look(Stage::Stored, nothing(), Mono::from_secs(27), event);
    assert_eq!(walk.next(Mono::from_secs(28)), [Step::Wait(Mono::from_secs(GIVE_UP))]);
    assert_eq!(walk.next(Mono::from_secs(30)).first(), Some(&Step::Look(Stage::Stored)));
    walk.look(Stage::Stored, nothing(), Mono::from_secs(30), event);
    assert_eq!(walk.next(Mono::from_secs(31)), [Step::Done]);
    assert_eq!(walk.tally().stage(Stage::Stored).map(|t| t.count(Fate::Lost)), Some(2));
    assert_eq!(walk.under_way(), 0);
}

/// A number is as expected while the first of two steps is sent, and says nothing of both.
#[test]
fn a_number_is_read_when_every_step_is_sent() {
    let mut walk = Walk::new(WalkSpec {
        stages: [Stage::Sent, Stage::Alerted, Stage::Shown].map(spec).into(),
        first_seq: 0,
        count: 2,
        began: Mono(0),
        due: vec![Duration::ZERO, Duration::from_secs(8)],
        things: Things::Whole,
    });
    walk.next(Mono(0));
    walk.receipt(0, Receipt::Sent { at: Mono(0) });
    let steps = walk.next(Mono::from_secs(1));
    assert!(steps.contains(&Step::Look(Stage::Alerted)), "an alert may come before the last step");
    assert!(!steps.contains(&Step::Look(Stage::Shown)), "{steps:?}");
    let steps = walk.next(Mono::from_secs(8));
    assert_eq!(steps.first(), Some(&Step::Send { seqs: vec![1] }));
    assert!(!steps.contains(&Step::Look(Stage::Shown)), "{steps:?}");
    walk.receipt(1, Receipt::Sent { at: Mono::from_secs(8) });
    assert!(walk.next(Mono::from_secs(8)).contains(&Step::Look(Stage::Shown)));
}

#[test]
fn a_reading_that_never_comes_right_is_told() {
    let mut walk = walk(&[Stage::Sent, Stage::Shown], 1);
    walk.next(Mono(0));
    walk.receipt(0, Receipt::Sent { at: Mono(0) });
    walk.saw(Stage::Shown, "it shows 3 instead of 7");
    let began = Mono::from_secs(GIVE_UP);
    walk.look(Stage::Shown, Look { arrivals: vec![], horizon: Horizon::Complete }, began, event);
    let reason = walk.tally().stage(Stage::Shown).and_then(|tally| tally.reason.clone());
    let expected = "1 of 1 did not arrive within 30s: it shows 3 instead of 7";
    assert_eq!(reason.as_deref(), Some(expected));
}

/// An alert that came, or none, under what followed from its rule: how many are expected, with which
/// fate, and why.
fn ruled(means: Means, came: bool, stored: bool) -> (u64, Option<Fate>, String) {
    let rule = Followed { within: Duration::from_secs(10), means, text: "the rule said so".into() };
    let mut alerted = spec(Stage::Alerted);
    alerted.rule = Some(rule);
    let mut walk = Walk::new(WalkSpec {
        stages: vec![spec(Stage::Sent), spec(Stage::Stored), alerted],
        first_seq: 0,
        count: 1,
        began: Mono(0),
        due: Vec::new(),
        things: Things::Whole,
    });
    walk.next(Mono(0));
    walk.receipt(0, Receipt::Sent { at: Mono(0) });
    let whole = |arrivals| Look { arrivals, horizon: Horizon::Complete };
    let event_of = |seq| event(seq);
    let text = Some(String::from_utf8(event(0).payload.to_vec()).expect("text"));
    let seen = stored.then(|| Arrival { text, ..copy(0, 0, 1) }).into_iter().collect();
    walk.look(Stage::Stored, whole(seen), Mono::from_secs(GIVE_UP), event_of);
    let alert = came.then(|| Arrival { seq: None, ..copy(0, 1, 2) }).into_iter().collect();
    walk.look(Stage::Alerted, whole(alert), Mono::from_secs(GIVE_UP), event_of);
    assert_eq!(walk.next(Mono::from_secs(GIVE_UP + 1)), [Step::Done], "{means:?}");
    let tally = walk.tally();
    let alerted = tally.stage(Stage::Alerted).expect("a stage");
    assert_eq!(alerted.rule.as_deref(), Some("the rule said so"));
    let fate = Fate::ALL.into_iter().find(|fate| alerted.count(*fate) > 0);
    (alerted.expected, fate, alerted.reason.clone().unwrap_or_default())
}

#[test]
fn an_alert_and_its_absence_mean_what_followed_from_the_rule() {
    let late = "1 of 1 did not arrive within 30s";
    for (means, came, expected, fate, reason) in [
        (Means::Due, true, 1, Some(Fate::Ok), String::new()),
        (Means::Due, false, 1, Some(Fate::Lost), late.to_owned()),
        (Means::Off, true, 1, Some(Fate::Ok), String::new()),
        (Means::Off, false, 1, Some(Fate::Lost), format!("the rule said so; {late}")),
        (Means::Unsure, true, 1, Some(Fate::Ok), String::new()),
        (Means::Unsure, false, 1, Some(Fate::Inconclusive), "the rule said so".into()),
        (Means::Untold, true, 1, Some(Fate::Inconclusive), "the rule said so".into()),
        (Means::Untold, false, 1, Some(Fate::Inconclusive), "the rule said so".into()),
        // Neither a loss nor a pass.
        (Means::Held, false, 0, None, String::new()),
    ] {
        assert_eq!(ruled(means, came, true), (expected, fate, reason), "{means:?} {came}");
    }
    // What did not get there is lost before any rule saw it.
    for means in [Means::Due, Means::Unsure, Means::Untold] {
        assert_eq!(ruled(means, false, false).1, Some(Fate::Lost), "{means:?}");
    }
}

#[test]
fn the_size_at_which_a_stage_cuts_is_told() {
    let spec = EventSpec { sizes: vec![700, 1_100, 1_400], ..EventSpec::default() };
    let events = Events::new(&spec, Format::Json).expect("a right spec");
    let event = |seq| events.render(&run_from([1; 8]), "s", seq, Wall(0));
    let mut walk = walk(&[Stage::Sent, Stage::Stored], 3);
    walk.next(Mono(0));
    let mut arrivals = Vec::new();
    for seq in 0..3 {
        walk.receipt(seq, Receipt::Sent { at: Mono(0) });
        let mut text = String::from_utf8(event(seq).payload.to_vec()).expect("text");
        text.truncate(720);
        arrivals.push(Arrival { text: Some(text), ..copy(seq, seq, 1) });
    }
    let look = Look { arrivals, horizon: Horizon::Complete };
    walk.look(Stage::Stored, look, Mono::from_secs(1), event);
    let tally = walk.tally();
    let stored = tally.stage(Stage::Stored).expect("a stage");
    assert_eq!((stored.count(Fate::Ok), stored.count(Fate::Truncated)), (1, 2), "{stored:?}");
    let reason = stored.reason.as_deref().expect("a reason");
    let front = "truncated above 700 bytes; the smallest of those cut has 1100: event 1 was cut";
    assert!(reason.starts_with(front), "{reason}");
}

#[test]
fn a_round_ends_even_if_nobody_answers() {
    let mut walk = walk(&[Stage::Sent, Stage::Stored, Stage::Alerted], 3);
    let mut now = Mono(0);
    let mut steps = 0;
    while walk.next(now) != [Step::Done] {
        let Some(Step::Wait(until)) = walk.next(now).last().cloned() else {
            panic!("neither waits nor is done")
        };
        assert!(until > now);
        now = until;
        steps += 1;
        assert!(steps < 100, "never ends");
    }
    let tally = walk.tally();
    assert_eq!(tally.stage(Stage::Stored).map(|t| t.count(Fate::Unknown)), Some(3));
    assert_eq!(tally.first_failing_stage(), None);
}

#[test]
fn an_alert_must_have_the_fields_that_were_promised() {
    for (severity, fate) in [("critical", Fate::Ok), ("info", Fate::Misparsed)] {
        let mut alerted = spec(Stage::Alerted);
        alerted.expect.fields.insert("labels.severity".into(), "critical".into());
        alerted.expect.fields.insert("labels.seq".into(), "exists".into());
        let mut walk = Walk::new(WalkSpec {
            stages: vec![spec(Stage::Sent), alerted],
            first_seq: 0,
            count: 1,
            began: Mono(0),
            due: Vec::new(),
            things: Things::Any,
        });
        walk.next(Mono(0));
        walk.receipt(0, Receipt::Sent { at: Mono(0) });
        let labels = serde_json::json!({ "labels": { "severity": severity, "seq": "0" } });
        let alert = Arrival { seq: None, fields: labels.as_object().cloned(), ..copy(0, 0, 2) };
        for at in [2, GIVE_UP] {
            let look = Look { arrivals: vec![alert.clone()], horizon: Horizon::Complete };
            walk.look(Stage::Alerted, look, Mono::from_secs(at), event);
        }
        walk.tick(Mono::from_secs(GIVE_UP + 1));
        let tally = walk.tally();
        let stage = tally.stage(Stage::Alerted).expect("it is declared");
        assert_eq!(stage.count(fate), 1, "{severity}: {stage:?}");
        assert_eq!(stage.duplicate, 0);
    }
}

#[test]
fn a_reboot_moves_the_round_with_its_clock() {
    let mut walk = walk(&[Stage::Sent, Stage::Stored], 1);
    walk.next(Mono(0));
    walk.receipt(0, Receipt::Sent { at: Mono::from_secs(1) });
    walk.rebase(Mono::from_secs(-100));
    walk.look(
        Stage::Stored,
        Look { arrivals: vec![copy(0, 0, -95)], horizon: Horizon::Complete },
        Mono::from_secs(-95),
        event,
    );
    let tally = walk.tally();
    assert_eq!(tally.stage(Stage::Sent).map(|t| t.latencies.clone()), Some(vec![1.0]));
    assert_eq!(tally.stage(Stage::Stored).map(|t| t.latencies.clone()), Some(vec![5.0]));
}

#[test]
fn copies_without_end_do_not_fill_the_memory() {
    let mut walk = walk(&[Stage::Sent, Stage::Stored], 1);
    walk.next(Mono(0));
    walk.receipt(0, Receipt::Sent { at: Mono(0) });
    let arrivals = (0..200_000).map(|name| copy(0, name, 1)).collect();
    let began = Mono::from_secs(1);
    walk.look(Stage::Stored, Look { arrivals, horizon: Horizon::Complete }, began, event);
    let tally = walk.tally();
    assert_eq!(tally.stage(Stage::Stored).map(|t| t.duplicate), Some(COPIES_LIMIT as u64));
}

/// What a way in answered, and what a platform then did with one event at one stage.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sent,
    NotSent,
    Unknown,
    Fault,
}

/// One look: when, how far it saw, and how it shuffles what it shows.
#[derive(Clone, Debug)]
struct Glance {
    at: i64,
    sees_all: bool,
    rotate: usize,
}

#[derive(Clone, Debug)]
struct World {
    ways: Vec<Way>,
    /// For each of two stages and each event: when its copies appear there.
    copies: Vec<Vec<Vec<i64>>>,
    glances: Vec<Glance>,
}

fn world() -> impl Strategy<Value = World> {
    (1_usize..12).prop_flat_map(|count| {
        let way = prop_oneof![
            6 => Just(Way::Sent),
            1 => Just(Way::NotSent),
            2 => Just(Way::Unknown),
            1 => Just(Way::Fault),
        ];
        let copies = prop::collection::vec(1_i64..45, 0..3);
        let glance = (1_i64..60, any::<bool>(), 0_usize..7)
            .prop_map(|(at, sees_all, rotate)| Glance { at, sees_all, rotate });
        (
            prop::collection::vec(way, count),
            prop::collection::vec(prop::collection::vec(copies, count), 2),
            prop::collection::vec(glance, 0..12),
        )
            .prop_map(|(ways, copies, mut glances)| {
                glances.sort_by_key(|glance| glance.at);
                World { ways, copies, glances }
            })
    })
}

const STAGES: [Stage; 3] = [Stage::Sent, Stage::Parsed, Stage::Stored];

/// Plays a world; `reversed` shows each look's arrivals in another order.
fn play(world: &World, reversed: bool) -> Walk {
    let mut walk = walk(&STAGES, world.ways.len() as u64);
    walk.next(Mono(0));
    let reason = Reason::new(ReasonCode::Timeout, "no");
    for (seq, way) in world.ways.iter().enumerate() {
        let receipt = match way {
            Way::Sent => Receipt::Sent { at: Mono(0) },
            Way::NotSent => Receipt::NotSent(reason.clone()),
            Way::Unknown => Receipt::Unknown(reason.clone()),
            Way::Fault => Receipt::Fault(Fault::new(FaultCode::Exhausted, "no")),
        };
        walk.receipt(seq as u64, receipt);
    }
    for (stage, copies) in STAGES[1..].iter().zip(&world.copies) {
        for glance in &world.glances {
            let mut arrivals = Vec::new();
            for (seq, appears) in copies.iter().enumerate() {
                // A blind look may show anything of what is there, here every second event.
                let hidden = !glance.sees_all && seq % 2 == 0;
                let not_there = matches!(world.ways[seq], Way::NotSent | Way::Fault);
                for (n, at) in appears.iter().enumerate() {
                    if *at <= glance.at && !hidden && !not_there {
                        arrivals.push(copy(seq as u64, (seq * 10 + n) as u64, glance.at));
                    }
                }
            }
            if !arrivals.is_empty() {
                let middle = glance.rotate % arrivals.len();
                arrivals.rotate_left(middle);
            }
            if reversed {
                arrivals.reverse();
            }
            let fault = Fault::new(FaultCode::Blind, "half");
            let horizon = if glance.sees_all { Horizon::Complete } else { Horizon::Partial(fault) };
            walk.look(*stage, Look { arrivals, horizon }, Mono::from_secs(glance.at), event);
        }
    }
    walk.tick(Mono::from_secs(1_000));
    walk
}

/// The same, said as plainly as can be: event by event, without any state.
fn reference(world: &World) -> BTreeMap<Stage, BTreeMap<Fate, u64>> {
    let mut counts: BTreeMap<Stage, BTreeMap<Fate, u64>> = BTreeMap::new();
    let shown = |stage: usize, seq: usize| -> Option<i64> {
        let seen = world.glances.iter().filter(|g| g.sees_all || seq % 2 == 1).map(|g| g.at);
        let first = world.copies[stage][seq].iter().min()?;
        seen.filter(|at| at >= first).min()
    };
    for (seq, way) in world.ways.iter().enumerate() {
        let never = match way {
            Way::NotSent => Some(Fate::Refused),
            Way::Fault => Some(Fate::Inconclusive),
            Way::Sent | Way::Unknown => None,
        };
        let seen_anywhere = (0..2).any(|stage| shown(stage, seq).is_some());
        let sent = matches!(way, Way::Sent) || seen_anywhere;
        let mut gone = false;
        for (at, stage) in STAGES.iter().enumerate() {
            let fate = if let Some(never) = never {
                never
            } else if at == 0 {
                if sent { Fate::Ok } else { Fate::Unknown }
            } else {
                let complete = world.glances.iter().any(|g| g.sees_all && g.at >= GIVE_UP);
                let own = match shown(at - 1, seq) {
                    Some(at) if at > 10 => Fate::Late,
                    Some(_) => Fate::Ok,
                    None if !sent => Fate::Unknown,
                    None if complete => Fate::Lost,
                    None => Fate::Inconclusive,
                };
                if gone { Fate::Lost } else { own }
            };
            gone |= fate == Fate::Lost;
            *counts.entry(*stage).or_default().entry(fate).or_default() += 1;
        }
    }
    counts
}

#[test]
fn random_worlds_count_as_the_reference_says() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1_024));
    runner
        .run(&world(), |world| {
            let walk = play(&world, false);
            let tally = walk.tally();
            let expected = reference(&world);
            let looked = world.glances.iter().any(|glance| glance.at >= GIVE_UP);
            for stage in &tally.stages {
                let sum: u64 = stage.fates.values().sum();
                prop_assert_eq!(sum, stage.expected);
                if looked {
                    prop_assert_eq!(sum, world.ways.len() as u64, "every fate is decided");
                    prop_assert_eq!(&stage.fates, &expected[&stage.stage], "{:?}", stage.stage);
                }
                let complete = world.glances.iter().any(|g| g.sees_all && g.at >= GIVE_UP);
                prop_assert!(complete || stage.count(Fate::Lost) == 0, "lost without a look");
            }
            // No copy is counted twice, and none is forgotten.
            for (at, stage) in STAGES[1..].iter().enumerate() {
                let shown: BTreeSet<(usize, usize)> = (0..world.ways.len())
                    .filter(|seq| matches!(world.ways[*seq], Way::Sent | Way::Unknown))
                    .flat_map(|seq| (0..world.copies[at][seq].len()).map(move |n| (seq, n)))
                    .filter(|(seq, n)| {
                        let since = world.copies[at][*seq][*n];
                        let sees = |g: &&Glance| g.sees_all || seq % 2 == 1;
                        world.glances.iter().filter(sees).any(|g| g.at >= since)
                    })
                    .collect();
                let events: BTreeSet<usize> = shown.iter().map(|(seq, _)| *seq).collect();
                let duplicates = tally.stage(*stage).map(|tally| tally.duplicate);
                prop_assert_eq!(duplicates, Some((shown.len() - events.len()) as u64));
            }
            prop_assert_eq!(&play(&world, true).tally(), &tally, "the order within a look");
            let stored = serde_json::to_string(&walk).expect("a state");
            prop_assert_eq!(serde_json::from_str::<Walk>(&stored).expect("a state"), walk);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    eprintln!("property walk against reference: {} inputs", runner.config().cases);
}

/// A wrong tenant's view may lag behind: what it sees later of what had been right is wrong then.
#[test]
fn what_a_wrong_tenant_sees_later_is_no_longer_right() {
    let mut walk = walk(&[Stage::Sent, Stage::Stored], 2);
    walk.next(Mono(0));
    for seq in 0..2 {
        walk.receipt(seq, Receipt::Sent { at: Mono(0) });
    }
    let look = |arrivals| Look { arrivals, horizon: Horizon::Complete };
    let (first, second) = (copy(0, 0, 1), copy(1, 1, 1));
    walk.look(Stage::Stored, look(vec![first, second.clone()]), Mono::from_secs(1), event);
    walk.look(Stage::Stored, look(vec![second.clone()]), Mono::from_secs(2), event);
    assert_eq!(walk.next(Mono::from_secs(3)), [Step::Done]);
    let stored = |walk: &Walk| {
        let tally = walk.tally();
        let stage = tally.stage(Stage::Stored).expect("it is declared");
        (stage.count(Fate::Ok), stage.count(Fate::Misparsed), stage.duplicate)
    };
    assert_eq!(stored(&walk), (2, 0, 0));
    // A look at an old copy says nothing new, but for this.
    let stale = Some(Reason::new(ReasonCode::StaleFeed, "it is old by now"));
    let later = Arrival { wrong: stale, ..second.clone() };
    walk.look(Stage::Stored, look(vec![later]), Mono::from_secs(9), event);
    assert_eq!(stored(&walk), (2, 0, 0));
    let exposed = Some(Reason::new(ReasonCode::Exposed, "the wrong tenant sees it too"));
    let later = Arrival { wrong: exposed, ..second };
    walk.look(Stage::Stored, look(vec![later]), Mono::from_secs(9), event);
    assert_eq!(stored(&walk), (1, 1, 0));
}
