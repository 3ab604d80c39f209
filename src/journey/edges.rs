//! What copies of a round's events came to that were stamped just inside and just outside of the
//! rule's look-back: an alert must come of the one, and none of the other.

use super::rule::Edges;
use super::tally::{EdgeTally, StageTally, Tally};
use super::twin::{came, kept_away};
use super::{Fate, Stage};
use crate::outcome::{Reason, ReasonCode};
use crate::spec::units::Period;

/// Puts what both came to into the round's tally. The alert of the copy inside is one more that is
/// expected.
pub fn judge(edges: Edges, inside: &Tally, outside: &Tally, round: &mut Tally) {
    let Some(stage) = alerted(round) else { return };
    let mut told = EdgeTally::default();
    if let Some(seen) = inside.stage(Stage::Alerted) {
        let before = stage.count(Fate::Ok) == stage.expected;
        for (fate, count) in &seen.fates {
            (0..*count).for_each(|_| stage.decide(*fate));
        }
        stage.duplicate = stage.duplicate.saturating_add(seen.duplicate);
        told.missed = seen.failed();
        if seen.expected > seen.count(Fate::Ok) && before {
            let age = Period(edges.inside);
            let why = seen.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            stage.reason = Some(format!(
                "of events {age} old, just inside the rule's look-back, no alert came in time{why}"
            ));
        }
    }
    if let Some(seen) = outside.stage(Stage::Alerted) {
        told.beyond = came(seen);
        let away = outside.stages.iter().find_map(kept_away);
        match (told.beyond, away) {
            (0, Some(why)) => {
                told.inconclusive = 1;
                told.reason = Some(format!("the events outside did not get through: {why}"));
            }
            (0, None) if seen.count(Fate::Lost) == 0 => {
                told.inconclusive = 1;
                told.reason = seen.reason.clone().or_else(|| Some("nobody could look".into()));
            }
            _ => told.rounds = 1,
        }
        if told.beyond > 0 {
            let age = Period(edges.outside);
            let text = format!(
                "of events {age} old an alert came: the rule looks back further than it says"
            );
            let reason = Reason::new(ReasonCode::FalseAlarm, text).to_string();
            stage.reason.get_or_insert(reason);
        }
    }
    stage.edges = Some(told);
}

/// Where none were sent.
pub fn untold(why: &str, round: &mut Tally) {
    if let Some(stage) = alerted(round) {
        let reason = Some(format!("no events were sent: {why}"));
        stage.edges = Some(EdgeTally { inconclusive: 1, reason, ..EdgeTally::default() });
    }
}

fn alerted(round: &mut Tally) -> Option<&mut StageTally> {
    round.stages.iter_mut().find(|stage| stage.stage == Stage::Alerted)
}

#[cfg(test)]
mod tests;
