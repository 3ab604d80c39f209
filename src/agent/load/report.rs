//! What a load comes to.

use std::time::Duration;

use super::leg::{Counts, Leg};
use super::{Histogram, Load, Percentiles};
use crate::journey::Stage;
use crate::journey::load::{
    Ended, Evidence, Order, Shape, Slope, Step, Verdict, Why, judge, overall,
};
use crate::journey::tally::{StageTally, Tally};
use crate::time::{Mono, Now};

const DAY: f64 = 86_400.0;

/// Percentiles with the number of events that they are of.
pub type Latency = Option<(Percentiles, u64)>;

#[derive(Debug)]
pub struct Report {
    pub began: Now,
    pub sending: Duration,
    pub ended: Ended,
    pub counts: Counts,
    pub tally: Tally,
    pub latencies: Vec<(Stage, Latency)>,
    pub steps: Vec<StepReport>,
    /// How often the platform asked to slow down.
    pub pauses: u64,
    /// Accepted or sent a second, until the last receipt.
    pub achieved: f64,
    /// Payload bytes of an event.
    pub size: f64,
    /// Events a second that were held.
    pub proven: Option<f64>,
    /// Of a burst: how long after it the last of its events was through.
    pub drained: Option<Duration>,
    pub verdict: Verdict,
    pub why: Vec<Why>,
    pub reasons: Vec<String>,
}

/// One step of a load.
#[derive(Debug)]
pub struct StepReport {
    pub step: Step,
    pub sending: Duration,
    pub counts: Counts,
    pub tally: Tally,
    pub latencies: Vec<(Stage, Latency)>,
    pub way_in: Option<Slope>,
    pub last_stage: Option<Slope>,
    pub achieved: f64,
    pub stalled: Duration,
    /// Seconds in which this node was short of processors.
    pub starved: u64,
    pub verdict: Verdict,
    pub why: Vec<Why>,
}

impl Report {
    /// Gigabytes (10^9 bytes) of payload in a day at so many events a second.
    pub fn gb_per_day(&self, rate: f64) -> f64 {
        self.size * rate * DAY / 1e9
    }
}

impl Leg {
    /// Whether it was held, by what is known of it.
    pub(super) fn judged(
        &self,
        ended: &Ended,
        span: Duration,
        order: &Order,
        undrained: Option<Duration>,
        stages: &[StageTally],
    ) -> (Verdict, Vec<Why>) {
        judge(&Evidence {
            ended,
            rate: self.step.rate,
            span,
            waiting: self.counts.due.saturating_sub(self.counts.handed_over),
            not_sent: self.counts.not_sent,
            slopes: &[
                ("the way in", self.way_in.slope()),
                ("the last stage", self.last_stage.slope()),
            ],
            stalled: self.stalled,
            starved: Duration::from_secs(self.starved),
            queues: order.shape == Shape::Burst,
            undrained,
            duplicates: order.duplicates,
            stages,
        })
    }

    fn report(
        &self,
        ended: &Ended,
        until: Duration,
        order: &Order,
        undrained: Option<Duration>,
        began: Mono,
    ) -> StepReport {
        let tally = self.volume.tally();
        let sending = until.saturating_sub(self.from);
        let (verdict, why) = self.judged(ended, sending, order, undrained, &tally.stages);
        // A single event has no rate; what was taken is spread over the time it was due in.
        let took = self.last_receipt.since(began.plus(self.from)).max(sending.min(self.step.span));
        StepReport {
            step: self.step,
            sending,
            counts: self.counts.clone(),
            latencies: latencies(&tally, &[self]),
            tally,
            way_in: self.way_in.slope(),
            last_stage: self.last_stage.slope(),
            achieved: self.counts.taken() as f64 / took.as_secs_f64().max(1e-3),
            stalled: self.stalled,
            starved: self.starved,
            verdict,
            why,
        }
    }
}

/// Of each stage, over all these steps.
fn latencies(tally: &Tally, legs: &[&Leg]) -> Vec<(Stage, Latency)> {
    let of = |stage: Stage| {
        let mut all = Histogram::default();
        for leg in legs.iter().filter_map(|leg| leg.volume.latencies(stage)) {
            all.merge(leg);
        }
        (stage, all.percentiles().map(|percentiles| (percentiles, all.count())))
    };
    tally.stages.iter().map(|tally| of(tally.stage)).collect()
}

impl Load<'_> {
    pub(super) fn report(mut self) -> Report {
        for leg in &mut self.legs {
            leg.volume.decide(true);
        }
        let began = self.began.mono;
        let (ended, at) = self.ended.take().unwrap_or((Ended::Interrupted, Mono::now()));
        let sending = at.since(began);
        // A step of which nothing was handed over is none.
        let begun = self.legs.iter().rposition(|leg| leg.counts.handed_over > 0);
        let begun = begun.map_or(1, |last| last + 1);
        let legs: Vec<&Leg> = self.legs.iter().take(begun).collect();
        let looks = !self.cycles.is_empty();
        let burst = self.order.shape == Shape::Burst;
        let drained = legs.first().filter(|_| burst).and_then(|leg| leg.drained(began, looks));
        let in_time = drained.is_some_and(|after| after <= self.order.drain);
        let steps: Vec<StepReport> = legs
            .iter()
            .enumerate()
            .map(|(n, leg)| {
                let last = n + 1 == begun;
                // What was begun after a step had begun tells that it was whole.
                let (ended, until) = if last { (&ended, sending) } else { (&Ended::Whole, leg.to) };
                let undrained = (burst && n == 1 && !in_time).then_some(self.order.drain);
                leg.report(ended, until, &self.order, undrained, began)
            })
            .collect();
        let mut tally = Tally::default();
        for step in &steps {
            tally.add(&step.tally);
        }
        let counts: Counts = steps.iter().map(|step| &step.counts).sum();
        let answered = legs.iter().map(|leg| leg.last_receipt).max().unwrap_or(began);
        let took = answered.since(began).max(sending.min(self.arrivals.span()));
        let mut report = Report {
            began: self.began,
            sending,
            latencies: latencies(&tally, &legs),
            achieved: counts.taken() as f64 / took.as_secs_f64().max(1e-3),
            size: counts.bytes as f64 / (counts.handed_over - counts.held_back).max(1) as f64,
            pauses: self.sparing.times,
            ended,
            counts,
            tally,
            steps,
            proven: None,
            drained,
            verdict: Verdict::Unclear,
            why: Vec::new(),
            reasons: self.reasons,
        };
        let verdicts: Vec<(f64, Verdict)> =
            report.steps.iter().map(|step| (step.step.rate, step.verdict)).collect();
        let (verdict, proven, mut why) =
            overall(&self.order, &verdicts, |rate| report.gb_per_day(rate));
        let shown = report.steps.iter().filter(|step| step.verdict != Verdict::Held);
        why.extend(shown.flat_map(|step| step.why.clone()));
        (report.verdict, report.proven, report.why) = (verdict, proven, why);
        report
    }
}
