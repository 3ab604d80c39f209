//! What is known from before, by an earlier run or under an earlier plan, and is evidence still: of
//! checks and journeys that asked and expected the same.

use std::sync::Arc;

use super::State;
use crate::agent::rounds::ROUND_OF;
use crate::catalogue;
use crate::plan::Plan;
use crate::series::{LabelNames, TrackKey};
use crate::store::Recovered;
use crate::time::Now;

impl State {
    /// Puts back what the store kept, so that windows go on over a restart.
    pub(super) fn recover_points(&mut self, recovered: &Recovered, now: Now) {
        for point in &recovered.points {
            let Some(metric) = catalogue::series(point.track.series) else { continue };
            let (check, evidence) = point.track.parts();
            let key = TrackKey {
                metric,
                check: check.into(),
                target: point.track.target.clone(),
                labels: point.track.labels.clone(),
            };
            let Some(cadence) = self.cadence_of(&key, point.at) else { continue };
            if evidence_of(&self.plan, &key).map(|own| &**own) != evidence {
                continue;
            }
            self.tracks.push(&key, cadence, point.at, point.value, now.mono);
        }
    }

    /// Rounds that had ended count in the windows and in the report; metrics start from zero, as a
    /// counter of a process does.
    pub(super) fn recover_rounds(&mut self, recovered: &Recovered, now: Now) {
        for ended in &recovered.ended {
            let of = ended.tally.get(ROUND_OF).and_then(serde_json::Value::as_str);
            let Some(journey) = self.plan.journey(&ended.journey) else { continue };
            if of != Some(&*journey.evidence) {
                continue;
            }
            let Ok(tally) = serde_json::from_value(ended.tally.clone()) else { continue };
            self.add_round(&ended.journey, ended.at, &tally, now);
        }
        for done in &recovered.rechecked {
            let of = done.result.get(ROUND_OF).and_then(serde_json::Value::as_str);
            let asked = self.plan.journey(&done.journey);
            if asked.is_none_or(|journey| of != Some(&*journey.evidence)) {
                continue;
            }
            let Ok(Some(result)) = serde_json::from_value(done.result.clone()) else { continue };
            self.add_look_back(&(done.journey.clone(), done.stage, done.after), &result);
        }
    }
}

/// What a track's points are evidence of.
pub(super) fn evidence_of<'a>(plan: &'a Plan, key: &TrackKey) -> Option<&'a Arc<str>> {
    match LabelNames::of(key.metric).check {
        Some("journey") => plan.journey(&key.check).map(|journey| &journey.evidence),
        Some(_) => plan.check(&key.check).map(|check| &check.evidence),
        None => Some(&plan.evidence),
    }
}
