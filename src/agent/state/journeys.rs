//! What journeys leave: counters, latency tracks, rounds for the gates, totals for the report.

use std::sync::Arc;

use super::{State, Total};
use crate::catalogue::{Metric, journey as metric};
use crate::gate::journey_window;
use crate::journey::tally::{StageTally, Tally};
use crate::journey::{Fate, Run, Stage};
use crate::outcome::Fault;
use crate::series::{Cadence, RoundPoint, StageCount, TrackKey, Value};
use crate::time::{Mono, Now};

/// Rounds whose tally can still be mended.
const RECENT: usize = 16;

pub(super) fn latency_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::STAGE_LATENCY, journey, stage)
}

pub(super) fn feed_age_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::FEED_AGE, journey, stage)
}

fn key(metric: &'static Metric, journey: &Arc<str>, stage: Stage) -> TrackKey {
    TrackKey { metric, check: journey.clone(), target: stage.word().into(), labels: Vec::new() }
}

impl State {
    pub(super) fn round_begun(&mut self, journey: &str, at: Now, count: u64) {
        self.registry.set(&metric::LAST_ROUND, &[journey], at.wall.seconds());
        self.registry.set(&metric::UNDER_WAY, &[journey], count as f64);
    }

    /// A round that could not begin says nothing of the platform, and is no pass either.
    pub(super) fn round_not_begun(&mut self, journey: &Arc<str>, at: Now, fault: &Fault) {
        self.registry.add(&metric::ROUNDS_NOT_BEGUN, &[journey, fault.code.word()], 1.0);
        let point = RoundPoint { at: at.mono, stages: Vec::new(), inconclusive: true };
        if let Some(record) = self.journeys.iter_mut().find(|record| record.journey == *journey) {
            record.push(point);
        }
        let Some(cadence) = self.journey_cadence(journey, at.mono) else { return };
        for stage in self.stages_of(journey) {
            self.push(&latency_key(journey, stage), cadence, at.mono, Value::Inconclusive, at);
            if self.promises_fresh(journey, stage) {
                self.push(&feed_age_key(journey, stage), cadence, at.mono, Value::Inconclusive, at);
            }
        }
    }

    pub(super) fn blind_look(&mut self, journey: &str, stage: Stage) {
        self.registry.add(&metric::BLIND_LOOKS, &[journey, stage.word()], 1.0);
    }

    /// A round whose every fate is decided; or, where it is known already, one whose tally was
    /// mended by what came after it had been given up.
    pub(super) fn ended(
        &mut self,
        journey: &Arc<str>,
        run: &Run,
        at: Now,
        tally: &Tally,
        now: Now,
    ) {
        self.registry.set(&metric::UNDER_WAY, &[journey], 0.0);
        let before = self.add_round(journey, run, at, tally, now);
        self.count(journey, tally, before.as_ref());
        if before.is_none() {
            self.latencies(journey, at.mono, tally, now);
        }
    }

    /// Puts a round into the journey's total and into what gates judge. Returns what it was
    /// before, if it was known.
    pub(super) fn add_round(
        &mut self,
        journey: &Arc<str>,
        run: &Run,
        at: Now,
        tally: &Tally,
        now: Now,
    ) -> Option<Tally> {
        let before = self.replace_in_total(journey, run, tally);
        let counts = |tally: &Tally| -> Vec<_> {
            tally.stages.iter().map(|stage| (stage.stage, count_of(stage))).collect()
        };
        let window = journey_window(&self.plan.gates, journey).unwrap_or_default();
        if let Some(record) = self.journeys.iter_mut().find(|record| record.journey == *journey) {
            let mut point = RoundPoint { at: at.mono, stages: counts(tally), inconclusive: false };
            if let Some(before) = &before {
                // The mended round takes the place of the one that it was.
                let old = counts(before);
                if let Some(place) = record.rounds.iter().rposition(|round| round.stages == old)
                    && let Some(round) = record.rounds.remove(place)
                {
                    point.at = round.at;
                }
            }
            record.cadence.since = record.cadence.since.min(point.at);
            record.push(point);
            record.forget(window, now.mono);
        }
        before
    }

    /// Counters are never taken back: a mended tally adds what came, as `resurrected`.
    fn count(&mut self, journey: &Arc<str>, tally: &Tally, before: Option<&Tally>) {
        for stage in &tally.stages {
            let word = stage.stage.word();
            let earlier = before.and_then(|before| before.stage(stage.stage));
            if earlier.is_none() {
                for fate in Fate::ALL {
                    let labels = [&**journey, word, fate.word()];
                    self.registry.add(&metric::EVENTS, &labels, stage.count(fate) as f64);
                }
                for age in stage.feed_ages.iter().flatten() {
                    self.registry.observe(&metric::FEED_AGE, &[journey, word], *age);
                }
                for latency in &stage.latencies {
                    self.registry.observe(&metric::STAGE_LATENCY, &[journey, word], *latency);
                }
            }
            let more = |now: u64, was: u64| now.saturating_sub(was) as f64;
            let duplicates = more(stage.duplicate, earlier.map_or(0, |stage| stage.duplicate));
            self.registry.add(&metric::DUPLICATES, &[journey, word], duplicates);
            let back = more(stage.resurrected, earlier.map_or(0, |stage| stage.resurrected));
            self.registry.add(&metric::RESURRECTED, &[journey, word], back);
        }
    }

    /// The samples that `journey.latency` is judged by: what never arrived is beyond any threshold.
    fn latencies(&mut self, journey: &Arc<str>, at: Mono, tally: &Tally, now: Now) {
        let Some(cadence) = self.journey_cadence(journey, at) else { return };
        for stage in &tally.stages {
            let key = latency_key(journey, stage.stage);
            for latency in &stage.latencies {
                self.push(&key, cadence, at, Value::Number(*latency), now);
            }
            let sum = |fates: &[Fate]| fates.iter().map(|fate| stage.count(*fate)).sum::<u64>();
            for _ in 0..sum(&[Fate::Refused, Fate::Lost, Fate::DeadLettered]) {
                self.push(&key, cadence, at, Value::Failed, now);
            }
            for _ in 0..sum(&[Fate::Unknown, Fate::Inconclusive]) {
                self.push(&key, cadence, at, Value::Inconclusive, now);
            }
            if self.promises_fresh(journey, stage.stage) {
                self.feed_ages(journey, at, stage, cadence, now);
            }
        }
    }

    /// The samples that `journey.feed_age` is judged by: an event that does not show its feed's age
    /// is beyond any threshold, one that did not come says nothing of it.
    fn feed_ages(
        &mut self,
        journey: &Arc<str>,
        at: Mono,
        stage: &StageTally,
        cadence: Cadence,
        now: Now,
    ) {
        let key = feed_age_key(journey, stage.stage);
        for age in &stage.feed_ages {
            self.push(&key, cadence, at, age.map_or(Value::Failed, Value::Number), now);
        }
        for _ in 0..stage.expected.saturating_sub(stage.feed_ages.len() as u64) {
            self.push(&key, cadence, at, Value::Inconclusive, now);
        }
    }

    fn promises_fresh(&self, journey: &str, stage: Stage) -> bool {
        let plan = self.plan.journey(journey).and_then(|journey| journey.stage(stage));
        plan.is_some_and(|plan| plan.expect.fresh.is_some())
    }

    /// Puts the round's tally into the journey's total, in place of what it was before.
    fn replace_in_total(&mut self, journey: &Arc<str>, run: &Run, tally: &Tally) -> Option<Tally> {
        let total = self.totals.entry(journey.clone()).or_default();
        let place = total.recent.iter().position(|(other, _)| other == run);
        let before = place.and_then(|place| total.recent.remove(place)).map(|(_, tally)| tally);
        total.recent.push_back((run.clone(), tally.clone()));
        while total.recent.len() > RECENT {
            if let Some((_, settled)) = total.recent.pop_front() {
                total.settled.add(&settled);
            }
        }
        before
    }

    fn journey_cadence(&self, journey: &str, since: Mono) -> Option<Cadence> {
        let journey = self.plan.journey(journey)?;
        Some(Cadence { interval: journey.every, since, lag: journey.give_up() })
    }

    fn stages_of(&self, journey: &str) -> Vec<Stage> {
        self.plan
            .journey(journey)
            .map(|journey| journey.stages.iter().map(|plan| plan.stage).collect())
            .unwrap_or_default()
    }
}

impl Total {
    /// All rounds, the newest ones included.
    pub(super) fn sum(&self) -> Tally {
        let mut sum = self.settled.clone();
        for (_, tally) in &self.recent {
            sum.add(tally);
        }
        sum
    }
}

pub(super) fn count_of(stage: &StageTally) -> StageCount {
    StageCount {
        expected: stage.expected,
        fates: stage.fates.iter().map(|(fate, count)| (*fate, *count)).collect(),
        duplicate: stage.duplicate,
    }
}
