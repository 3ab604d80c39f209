use std::time::Duration;

use super::*;

const EDGES: Edges = Edges { inside: Duration::from_secs(60), outside: Duration::from_secs(400) };

/// One fate at each of these stages.
fn tally(fates: &[(Stage, Fate)]) -> Tally {
    let stages = fates.iter().map(|(stage, fate)| {
        let mut tally = StageTally::new(*stage);
        tally.decide(*fate);
        tally
    });
    Tally { rounds: 1, stages: stages.collect() }
}

fn judged(inside: Fate, stored: Fate, outside: Fate) -> (EdgeTally, Tally) {
    let mut round = tally(&[(Stage::Stored, Fate::Ok), (Stage::Alerted, Fate::Ok)]);
    let inside = tally(&[(Stage::Stored, Fate::Ok), (Stage::Alerted, inside)]);
    let outside = tally(&[(Stage::Stored, stored), (Stage::Alerted, outside)]);
    judge(EDGES, &inside, &outside, &mut round);
    (round.stage(Stage::Alerted).unwrap().edges.clone().unwrap(), round)
}

fn reason(round: &Tally) -> &str {
    round.stage(Stage::Alerted).unwrap().reason.as_deref().unwrap_or_default()
}

#[test]
fn an_alert_inside_and_none_outside_is_right() {
    let (told, round) = judged(Fate::Ok, Fate::Ok, Fate::Lost);
    assert_eq!((told.rounds, told.inconclusive, told.beyond, told.missed), (1, 0, 0, 0));
    let alerted = round.stage(Stage::Alerted).unwrap();
    assert_eq!((alerted.expected, alerted.count(Fate::Ok)), (2, 2), "one more is expected");
    assert_eq!((alerted.told_alarms(), round.first_failing_stage()), (Some(0), None));
    assert_eq!(reason(&round), "");
}

#[test]
fn what_is_missed_inside_fails_the_stage() {
    let (told, round) = judged(Fate::Lost, Fate::Ok, Fate::Lost);
    assert_eq!((told.rounds, told.missed), (1, 1));
    let alerted = round.stage(Stage::Alerted).unwrap();
    assert_eq!((alerted.expected, alerted.count(Fate::Lost)), (2, 1));
    assert_eq!(round.first_failing_stage(), Some(Stage::Alerted));
    assert!(reason(&round).starts_with("of events 1m old, just inside"), "{}", reason(&round));
    // Where nobody could look, nothing failed.
    let (told, round) = judged(Fate::Inconclusive, Fate::Ok, Fate::Lost);
    assert_eq!((told.missed, round.first_failing_stage()), (0, None));
}

#[test]
fn what_alerts_outside_is_named() {
    for seen in [Fate::Ok, Fate::Late] {
        let (told, round) = judged(Fate::Ok, Fate::Ok, seen);
        assert_eq!((told.rounds, told.beyond, told.inconclusive), (1, 1, 0));
        assert_eq!(round.first_failing_stage(), Some(Stage::Alerted));
        assert_eq!(round.stage(Stage::Alerted).unwrap().told_alarms(), Some(1));
        assert_eq!(
            reason(&round),
            "false_alarm: of events 400s old an alert came: the rule looks back further than it says"
        );
    }
}

#[test]
fn silence_outside_says_something_only_where_the_events_were_there_and_somebody_looked() {
    for (stored, outside) in
        [(Fate::Lost, Fate::Lost), (Fate::Unknown, Fate::Lost), (Fate::Ok, Fate::Inconclusive)]
    {
        let (told, round) = judged(Fate::Ok, stored, outside);
        assert_eq!((told.rounds, told.inconclusive), (0, 1), "{stored:?} {outside:?}");
        assert!(told.reason.is_some());
        let alerted = round.stage(Stage::Alerted).unwrap();
        assert_eq!((alerted.told_alarms(), alerted.untold_alarms()), (None, 1));
    }
    let mut round = tally(&[(Stage::Alerted, Fate::Ok)]);
    untold("it is disabled", &mut round);
    let told = round.stage(Stage::Alerted).unwrap().edges.clone().unwrap();
    assert_eq!((told.rounds, told.inconclusive), (0, 1));
    assert_eq!(told.reason.as_deref(), Some("no events were sent: it is disabled"));
}

#[test]
fn edges_of_rounds_add_up() {
    let mut sum = Tally::default();
    for (inside, stored, outside) in [
        (Fate::Ok, Fate::Ok, Fate::Lost),
        (Fate::Lost, Fate::Ok, Fate::Ok),
        (Fate::Ok, Fate::Lost, Fate::Lost),
    ] {
        sum.add(&judged(inside, stored, outside).1);
    }
    let told = sum.stage(Stage::Alerted).unwrap().edges.clone().unwrap();
    assert_eq!((told.rounds, told.inconclusive, told.beyond, told.missed), (2, 1, 1, 1));
}
