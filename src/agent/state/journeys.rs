//! What journeys leave: counters, latency tracks, rounds for the gates, totals for the report.

use std::sync::Arc;
use std::time::Duration;

use super::State;
use crate::catalogue::{Metric, journey as metric};
use crate::gate::journey_window;
use crate::journey::offset::Offset;
use crate::journey::recheck::Rechecked;
use crate::journey::specimen::Specimen;
use crate::journey::tally::{StageTally, Tally};
use crate::journey::{Fate, Stage};
use crate::outcome::Fault;
use crate::plan::{Journey, StagePlan};
use crate::series::{Cadence, RoundPoint, StageCount, TrackKey, Value};
use crate::spec::units::Period;
use crate::time::{Mono, Now};

pub(super) fn latency_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::STAGE_LATENCY, journey, stage)
}

pub(super) fn feed_age_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::FEED_AGE, journey, stage)
}

pub(super) fn exposed_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::EXPOSED, journey, stage)
}

pub(super) fn false_alarms_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::FALSE_ALARMS, journey, stage)
}

pub(super) fn alert_to_person_key(journey: &Arc<str>) -> TrackKey {
    key(&metric::ALERT_TO_PERSON, journey, Stage::Notified)
}

pub(super) fn clock_key(journey: &Arc<str>, stage: Stage) -> TrackKey {
    key(&metric::CLOCK_OFFSET, journey, stage)
}

fn key(metric: &'static Metric, journey: &Arc<str>, stage: Stage) -> TrackKey {
    TrackKey { metric, check: journey.clone(), target: stage.word().into(), labels: Vec::new() }
}

/// A journey's stage, and how long after a round's end it was asked again.
pub(super) type LookBack = (Arc<str>, Stage, Duration);

pub(super) fn vanished_key((journey, stage, after): &LookBack) -> TrackKey {
    let labels = vec![Period(*after).to_string().into()];
    TrackKey { labels, ..key(&metric::VANISHED, journey, *stage) }
}

impl State {
    /// What a look back found, for dashboards and the log, whatever the plan asks by now.
    pub(super) fn counted_back(&mut self, (journey, stage, after): &LookBack, result: &Rechecked) {
        let span = Period(*after).to_string();
        for (word, count) in [
            ("kept", result.kept),
            ("vanished", result.vanished),
            ("changed", result.changed),
            ("inconclusive", result.inconclusive),
            ("found", result.found),
        ] {
            let labels = [&**journey, stage.word(), &span, word];
            self.registry.add(&metric::RECHECKED, &labels, count as f64);
        }
        if result.failed() > 0 {
            let why = result.reason.as_deref().unwrap_or_default();
            tracing::warn!(journey = &**journey, stage = stage.word(), after = span, why, "gone");
        }
    }

    /// A look back that nobody could make is a sample that says nothing.
    pub(super) fn looked_back(&mut self, of: &LookBack, at: Now, result: &Rechecked, now: Now) {
        let (journey, stage, after) = of;
        let gone = result.failed();
        let value = match result.inconclusive == 0 || gone > 0 {
            true => {
                let labels = [&**journey, stage.word(), &Period(*after).to_string()];
                self.registry.set(&metric::VANISHED, &labels, gone as f64);
                Value::Number(gone as f64)
            }
            false => Value::Inconclusive,
        };
        self.add_look_back(of, result);
        // Where the stage had shown nothing, nothing could go.
        if result.expected() == 0 {
            return;
        }
        let Some(cadence) = self.cadence_of(&vanished_key(of), at.mono) else { return };
        self.push(&vanished_key(of), cadence, at.mono, value, now);
    }

    pub(super) fn keep_specimen(&mut self, journey: &Arc<str>, specimen: Specimen) {
        let failed = |specimen: &Specimen| specimen.fails_at().is_some();
        match self.specimens.get(journey) {
            Some(kept) if failed(kept) && !failed(&specimen) => {}
            _ => drop(self.specimens.insert(journey.clone(), specimen)),
        }
    }

    pub(super) fn add_look_back(&mut self, of: &LookBack, result: &Rechecked) {
        let stage = self.plan.journey(&of.0).and_then(|journey| journey.stage(of.1));
        if stage.is_some_and(|stage| stage.recheck.contains(&of.2)) {
            self.rechecked.entry(of.clone()).or_default().add(result);
        }
    }

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
        if self.tells_people(journey) {
            let key = alert_to_person_key(journey);
            self.push(&key, cadence, at.mono, Value::Inconclusive, at);
        }
        for stage in self.stages_of(journey) {
            self.push(&latency_key(journey, stage), cadence, at.mono, Value::Inconclusive, at);
            if self.promises_fresh(journey, stage) {
                self.push(&feed_age_key(journey, stage), cadence, at.mono, Value::Inconclusive, at);
            }
            if self.shows_clock(journey, stage) {
                self.push(&clock_key(journey, stage), cadence, at.mono, Value::Inconclusive, at);
            }
            if self.has_hidden(journey, stage) {
                self.push(&exposed_key(journey, stage), cadence, at.mono, Value::Inconclusive, at);
            }
            if self.has_twin(journey, stage) {
                let key = false_alarms_key(journey, stage);
                self.push(&key, cadence, at.mono, Value::Inconclusive, at);
            }
        }
    }

    pub(super) fn blind_look(&mut self, journey: &str, stage: Stage) {
        self.registry.add(&metric::BLIND_LOOKS, &[journey, stage.word()], 1.0);
    }

    /// A round whose every fate is decided.
    pub(super) fn ended(&mut self, journey: &Arc<str>, at: Now, tally: &Tally, now: Now) {
        self.registry.set(&metric::UNDER_WAY, &[journey], 0.0);
        self.add_round(journey, at, tally, now);
        self.count(journey, tally);
        self.latencies(journey, at.mono, tally, now);
    }

    /// Puts a round into the journey's total and into what gates judge.
    pub(super) fn add_round(&mut self, journey: &Arc<str>, at: Now, tally: &Tally, now: Now) {
        self.totals.entry(journey.clone()).or_default().add(tally);
        let window = journey_window(&self.plan.gates, journey).unwrap_or_default();
        if let Some(record) = self.journeys.iter_mut().find(|record| record.journey == *journey) {
            record.cadence.since = record.cadence.since.min(at.mono);
            let stages = counts_of(tally);
            record.push(RoundPoint { at: at.mono, stages, inconclusive: false });
            record.forget(window, now.mono);
        }
    }

    /// Something came of a round that had ended then, after it had been given up: the round is
    /// another one, in the total and in what gates judge. Counters are never taken back, they count
    /// what came as resurrected; nor are the samples of a latency, which was beyond any threshold
    /// and still is long.
    pub(super) fn mended(
        &mut self,
        journey: &Arc<str>,
        at: Now,
        (was, is): (&Tally, &Tally),
        now: Now,
    ) {
        self.totals.entry(journey.clone()).or_default().mend(was, is);
        let record = self.journeys.iter_mut().find(|record| record.journey == *journey);
        let ended = |round: &&mut RoundPoint| round.at == at.mono && !round.inconclusive;
        if let Some(round) = record.and_then(|record| record.rounds.iter_mut().find(ended)) {
            round.stages = counts_of(is);
        }
        for stage in &is.stages {
            let Some(was) = was.stage(stage.stage) else { continue };
            let labels = [&**journey, stage.stage.word()];
            let more = |now: u64, was: u64| now.saturating_sub(was) as f64;
            let duplicates = more(stage.duplicate, was.duplicate);
            self.registry.add(&metric::DUPLICATES, &labels, duplicates);
            // That a wrong tenant saw it is known now only; what was said before stands beside it.
            if let Some(exposed) = stage.exposed.filter(|_| stage.exposed > was.exposed)
                && let Some(cadence) = self.journey_cadence(journey, at.mono)
            {
                self.registry.set(&metric::EXPOSED, &labels, exposed as f64);
                let value = Value::Number(exposed as f64);
                self.push(&exposed_key(journey, stage.stage), cadence, now.mono, value, now);
            }
            let back = more(stage.resurrected, was.resurrected);
            self.registry.add(&metric::RESURRECTED, &labels, back);
            for latency in stage.come_since(was) {
                self.registry.observe(&metric::STAGE_LATENCY, &labels, latency);
            }
        }
    }

    fn count(&mut self, journey: &Arc<str>, tally: &Tally) {
        for stage in &tally.stages {
            let word = stage.stage.word();
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
            for after in stage.after_alert.iter().flatten() {
                self.registry.observe(&metric::ALERT_TO_PERSON, &[journey, word], *after);
            }
            if stage.twin.is_some() || stage.edges.is_some() {
                let labels = [&**journey, word];
                let (alarms, untold) = (stage.false_alarms(), stage.untold_alarms());
                self.registry.add(&metric::FALSE_ALARMS_TOTAL, &labels, alarms as f64);
                self.registry.add(&metric::TWINS_UNTOLD, &labels, untold as f64);
            }
            let labels = [&**journey, word];
            self.registry.add(&metric::DUPLICATES, &labels, stage.duplicate as f64);
            self.registry.add(&metric::RESURRECTED, &labels, stage.resurrected as f64);
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
                let key = feed_age_key(journey, stage.stage);
                self.of_each(&key, at, &stage.feed_ages, stage.expected, cadence, now);
            }
            if self.shows_clock(journey, stage.stage) {
                self.clock_offset(journey, at, stage, cadence, now);
            }
            if self.has_hidden(journey, stage.stage) {
                // Of what did not come the wrong tenant was not asked.
                let value = match stage.exposed.filter(|_| !stage.latencies.is_empty()) {
                    Some(exposed) => Value::Number(exposed as f64),
                    None => Value::Inconclusive,
                };
                if let Value::Number(exposed) = value {
                    let labels = [&**journey, stage.stage.word()];
                    self.registry.set(&metric::EXPOSED, &labels, exposed);
                }
                self.push(&exposed_key(journey, stage.stage), cadence, at, value, now);
            }
            if self.has_twin(journey, stage.stage) {
                self.false_alarms(journey, at, stage, cadence, now);
            }
            if stage.stage == Stage::Notified && self.tells_people(journey) {
                let key = alert_to_person_key(journey);
                self.of_each(&key, at, &stage.after_alert, stage.expected, cadence, now);
            }
        }
    }

    /// The sample that `journey.false_alarms` is judged by: a twin of which nobody could tell says
    /// nothing.
    fn false_alarms(
        &mut self,
        journey: &Arc<str>,
        at: Mono,
        stage: &StageTally,
        cadence: Cadence,
        now: Now,
    ) {
        let value = match stage.told_alarms() {
            Some(alarms) => {
                let alarms = alarms as f64;
                let labels = [&**journey, stage.stage.word()];
                self.registry.set(&metric::FALSE_ALARMS, &labels, alarms);
                Value::Number(alarms)
            }
            None => Value::Inconclusive,
        };
        self.push(&false_alarms_key(journey, stage.stage), cadence, at, value, now);
    }

    /// What was measured of each event, as `journey.alert_to_person` and `journey.feed_age` are judged
    /// by it: an alert of which nobody heard, and an event that does not show its feed's age, is beyond
    /// any threshold; what did not come says nothing of it.
    fn of_each(
        &mut self,
        key: &TrackKey,
        at: Mono,
        measured: &[Option<f64>],
        expected: u64,
        cadence: Cadence,
        now: Now,
    ) {
        for one in measured {
            self.push(key, cadence, at, one.map_or(Value::Failed, Value::Number), now);
        }
        for _ in 0..expected.saturating_sub(measured.len() as u64) {
            self.push(key, cadence, at, Value::Inconclusive, now);
        }
    }

    /// The sample that `journey.clock_offset` is judged by: a clock that no one offset fits, and
    /// one that what arrived does not show, is beyond any threshold.
    fn clock_offset(
        &mut self,
        journey: &Arc<str>,
        at: Mono,
        stage: &StageTally,
        cadence: Cadence,
        now: Now,
    ) {
        let labels = [&**journey, stage.stage.word()];
        let bounds = stage.clock.filter(|clock| clock.fits());
        match bounds {
            Some(clock) => {
                let (lower, upper) = (clock.lower as f64 / 1e9, clock.upper as f64 / 1e9);
                self.registry.set(&metric::CLOCK_OFFSET_LOWER, &labels, lower);
                self.registry.set(&metric::CLOCK_OFFSET_UPPER, &labels, upper);
            }
            None => {
                self.registry.clear(&metric::CLOCK_OFFSET_LOWER, &labels);
                self.registry.clear(&metric::CLOCK_OFFSET_UPPER, &labels);
            }
        }
        let value = match (bounds.and_then(Offset::at_most), stage.latencies.is_empty()) {
            (Some(off), _) => {
                self.registry.observe(&metric::CLOCK_OFFSET, &labels, off);
                Value::Number(off)
            }
            (None, false) => Value::Failed,
            (None, true) => Value::Inconclusive,
        };
        self.push(&clock_key(journey, stage.stage), cadence, at, value, now);
    }

    fn has_hidden(&self, journey: &str, stage: Stage) -> bool {
        let plan = self.plan.journey(journey).and_then(|journey| journey.stage(stage));
        plan.is_some_and(StagePlan::has_hidden)
    }

    fn has_twin(&self, journey: &str, stage: Stage) -> bool {
        self.plan.journey(journey).is_some_and(|journey| journey.watches_twin(stage))
    }

    fn tells_people(&self, journey: &str) -> bool {
        self.plan.journey(journey).is_some_and(Journey::tells_people)
    }

    fn shows_clock(&self, journey: &str, stage: Stage) -> bool {
        let plan = self.plan.journey(journey).and_then(|journey| journey.stage(stage));
        plan.is_some_and(StagePlan::has_clock)
    }

    fn promises_fresh(&self, journey: &str, stage: Stage) -> bool {
        let plan = self.plan.journey(journey).and_then(|journey| journey.stage(stage));
        plan.is_some_and(|plan| plan.expect.fresh.is_some())
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

fn counts_of(tally: &Tally) -> Vec<(Stage, StageCount)> {
    tally.stages.iter().map(|stage| (stage.stage, StageCount::from(stage))).collect()
}
