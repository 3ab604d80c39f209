//! What the benign twin of a round came to: whether it brought about what it must not.

use super::tally::{StageTally, Tally, TwinTally};
use super::{Fate, Stage};
use crate::outcome::{Reason, ReasonCode};

/// Puts what the twin came to into the round's tally, at each stage at which it must bring nothing
/// about. That nothing came says something only of a twin that got there.
pub fn judge(twin: &Tally, round: &mut Tally) {
    let away = twin.stages.iter().find_map(kept_away);
    for seen in twin.stages.iter().filter(|stage| stage.stage.counts_things()) {
        let Some(stage) = round.stages.iter_mut().find(|stage| stage.stage == seen.stage) else {
            continue;
        };
        let judged = judge_stage(seen, away.as_deref());
        if judged.false_alarms > 0 && stage.reason.is_none() {
            stage.reason = Some(unexpected(seen.stage, judged.false_alarms).to_string());
        }
        stage.twin = Some(judged);
    }
}

fn judge_stage(seen: &StageTally, away: Option<&str>) -> TwinTally {
    let came = came(seen);
    let told = |false_alarms| TwinTally { rounds: 1, false_alarms, ..TwinTally::default() };
    if came > 0 {
        return told(came);
    }
    let unknown = |text| TwinTally { inconclusive: 1, reason: Some(text), ..TwinTally::default() };
    match away {
        Some(why) => unknown(format!("the benign twin did not get through: {why}")),
        None if seen.count(Fate::Lost) > 0 => told(0),
        None => unknown(match &seen.reason {
            Some(why) => format!("whether the benign twin alerted can't be told: {why}"),
            None => String::from("whether the benign twin alerted can't be told"),
        }),
    }
}

/// Things that came, however.
pub(super) fn came(seen: &StageTally) -> u64 {
    let here = [Fate::Ok, Fate::Late, Fate::Misparsed];
    here.iter().map(|fate| seen.count(*fate)).fold(seen.duplicate, u64::saturating_add)
}

/// Why events of the twin did not get as far as the stage, where some did not.
pub(super) fn kept_away(stage: &StageTally) -> Option<String> {
    if stage.stage.counts_things() {
        return None;
    }
    let gone = [Fate::Refused, Fate::DeadLettered, Fate::Lost, Fate::Unknown, Fate::Inconclusive];
    let (fate, count) =
        gone.iter().map(|fate| (fate, stage.count(*fate))).find(|(_, count)| *count > 0)?;
    let why = stage.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let (word, of) = (stage.stage.word(), stage.expected);
    Some(format!("{count} of its {of} events {} at {word}{why}", fate.word()))
}

fn unexpected(stage: Stage, count: u64) -> Reason {
    let what = if stage == Stage::Alerted { "alert" } else { "notification" };
    let text = match count {
        1 => format!("unexpected {what} for the benign twin"),
        _ => format!("{count} unexpected {what}s for the benign twin"),
    };
    Reason::new(ReasonCode::FalseAlarm, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The twin's tally, with one fate at each stage.
    fn twin(fates: &[(Stage, Fate)]) -> Tally {
        let stages = fates.iter().map(|(stage, fate)| {
            let mut tally = StageTally::new(*stage);
            tally.decide(*fate);
            tally
        });
        Tally { rounds: 1, stages: stages.collect() }
    }

    fn judged(stored: Fate, alerted: Fate) -> (TwinTally, Tally) {
        let mut round = twin(&[(Stage::Stored, Fate::Ok), (Stage::Alerted, Fate::Ok)]);
        judge(&twin(&[(Stage::Stored, stored), (Stage::Alerted, alerted)]), &mut round);
        assert_eq!(round.stage(Stage::Stored).unwrap().twin, None);
        (round.stage(Stage::Alerted).unwrap().twin.clone().unwrap(), round)
    }

    #[test]
    fn what_comes_of_a_twin_is_a_failure_of_its_own() {
        for alerted in [Fate::Ok, Fate::Late, Fate::Misparsed] {
            for stored in [Fate::Ok, Fate::Lost, Fate::Unknown] {
                let (twin, round) = judged(stored, alerted);
                assert_eq!((twin.rounds, twin.false_alarms, twin.inconclusive), (1, 1, 0));
                assert_eq!(round.first_failing_stage(), Some(Stage::Alerted));
                let reason = round.stage(Stage::Alerted).unwrap().reason.clone().unwrap();
                assert_eq!(reason, "false_alarm: unexpected alert for the benign twin");
            }
        }
    }

    #[test]
    fn silence_says_something_only_where_the_twin_was_and_somebody_looked() {
        for (stored, alerted, rounds) in [
            (Fate::Ok, Fate::Lost, 1),
            (Fate::Late, Fate::Lost, 1),
            (Fate::Misparsed, Fate::Lost, 1),
            (Fate::Lost, Fate::Lost, 0),
            (Fate::Refused, Fate::Refused, 0),
            (Fate::DeadLettered, Fate::Lost, 0),
            (Fate::Unknown, Fate::Unknown, 0),
            (Fate::Inconclusive, Fate::Lost, 0),
            (Fate::Ok, Fate::Inconclusive, 0),
            (Fate::Ok, Fate::Unknown, 0),
        ] {
            let (twin, round) = judged(stored, alerted);
            assert_eq!((twin.rounds, twin.inconclusive), (rounds, 1 - rounds), "{stored:?}");
            assert_eq!(twin.false_alarms, 0);
            assert_eq!(twin.reason.is_some(), rounds == 0);
            assert_eq!(round.first_failing_stage(), None);
        }
    }

    #[test]
    fn twins_of_rounds_add_up() {
        let mut sum = Tally::default();
        for (stored, alerted) in
            [(Fate::Ok, Fate::Lost), (Fate::Ok, Fate::Ok), (Fate::Lost, Fate::Lost)]
        {
            sum.add(&judged(stored, alerted).1);
        }
        let twin = sum.stage(Stage::Alerted).unwrap().twin.clone().unwrap();
        assert_eq!((twin.rounds, twin.false_alarms, twin.inconclusive), (2, 1, 1));
        assert!(twin.reason.unwrap().contains("1 of its 1 events lost at stored"));
    }
}
