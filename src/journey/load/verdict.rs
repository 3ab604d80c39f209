//! Whether a platform held what it was asked to take, and why not.

use std::time::Duration;

use super::backlog::Slope;
use super::{Ended, Order, Shape};
use crate::journey::Fate;
use crate::journey::tally::StageTally;

/// By p99: one of a hundred may be late.
const LATE_SHARE: f64 = 0.01;
/// What waits at the end of a steady load is noise up to a second's worth of events; a backlog that
/// grew by more over the second half goes on growing.
const GROWTH: Duration = Duration::from_secs(1);
/// Where this process itself was late for more of the time, the load was another than was ordered:
/// however good it looks, it is not held, and what is slow is not known to be the platform.
const STALLED_SHARE: f64 = 0.1;
/// Nor where this node was short of processors for more of it.
const STARVED_SHARE: f64 = 0.25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Held,
    NotHeld,
    /// It could not be told.
    Unclear,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NotHeld => "not_held",
            Self::Unclear => "unclear",
        }
    }
}

/// One thing that speaks against a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// A fate's word, or another of a few.
    pub code: &'static str,
    pub text: String,
}

impl Why {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// What is known of one step when nothing more is to be learnt.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub ended: &'a Ended,
    pub rate: f64,
    pub span: Duration,
    /// Due and never handed over.
    pub waiting: u64,
    /// Handed over by nobody, for want of time or of an answer: it may be this node's fault.
    pub not_sent: u64,
    /// Of what waits, by where.
    pub slopes: &'a [(&'static str, Option<Slope>)],
    /// How long this process itself was late, and this node short of processors.
    pub stalled: Duration,
    pub starved: Duration,
    /// It is a burst or what follows one: that it queues up is no failure.
    pub queues: bool,
    /// What had not drained in this time.
    pub undrained: Option<Duration>,
    /// So many further copies are borne.
    pub duplicates: u64,
    pub stages: &'a [StageTally],
}

/// What was found so far.
struct Findings {
    /// Why it may be this node that was slow.
    limits: Vec<String>,
    failed: Vec<Why>,
    unclear: Vec<Why>,
}

impl Findings {
    fn fail(&mut self, code: &'static str, text: String) {
        self.failed.push(Why::new(code, text));
    }

    fn unclear(&mut self, code: &'static str, text: impl Into<String>) {
        self.unclear.push(Why::new(code, text));
    }

    /// What this node did late itself says nothing of the platform.
    fn slow(&mut self, code: &'static str, text: String) {
        if self.limits.is_empty() {
            self.fail(code, text);
        } else {
            self.unclear(code, text);
        }
    }
}

/// Whether the platform held the step, and why not. A failure that was seen stands whatever could
/// not be seen; nothing is held of which something is unknown, or while the generator was limited.
pub fn judge(evidence: &Evidence<'_>) -> (Verdict, Vec<Why>) {
    let mut found = Findings { limits: limits(evidence), failed: Vec::new(), unclear: Vec::new() };
    pace(evidence, &mut found);
    match evidence.ended {
        Ended::Aborted(why) => found.fail("aborted", why.clone()),
        Ended::Budget => found.unclear("budget", "the budget was used up before the end"),
        Ended::Interrupted => found.unclear("interrupted", "it was interrupted"),
        Ended::Whole | Ended::Behind | Ended::Knee | Ended::Limited(_) => {}
    }
    for tally in evidence.stages {
        fates(tally, evidence, &mut found);
    }
    if evidence.stages.iter().all(|tally| tally.known() == 0) {
        found.unclear("nothing_known", "no event's fate is known");
    }
    for text in std::mem::take(&mut found.limits) {
        found.unclear("generator_limited", format!("generator limited: {text}"));
    }
    let verdict = match (found.failed.is_empty(), found.unclear.is_empty()) {
        (false, _) => Verdict::NotHeld,
        (true, false) => Verdict::Unclear,
        (true, true) => Verdict::Held,
    };
    found.failed.append(&mut found.unclear);
    (verdict, found.failed)
}

/// Why it may be this node that was too slow; each keeps the step from a pass by itself.
fn limits(evidence: &Evidence<'_>) -> Vec<String> {
    let span = evidence.span.as_secs_f64();
    let (stalled, starved) = (evidence.stalled.as_secs_f64(), evidence.starved.as_secs_f64());
    let mut limits = Vec::new();
    if stalled > span * STALLED_SHARE {
        limits.push(format!("this process was late for {stalled:.1} s of {span:.1} s"));
    }
    if let Ended::Limited(why) = evidence.ended {
        limits.push(why.clone());
    } else if starved > span * STARVED_SHARE {
        limits.push(format!("this node was short of processors for {starved:.0} s of {span:.1} s"));
    }
    limits
}

/// Whether it kept up.
fn pace(evidence: &Evidence<'_>, found: &mut Findings) {
    let half = evidence.span.as_secs_f64() / 2.0;
    let grew = |slope: &Slope| {
        slope.low > 0.0 && slope.estimate * half > evidence.rate * GROWTH.as_secs_f64()
    };
    for (place, slope) in evidence.slopes {
        let Some(slope) = slope.filter(|slope| !evidence.queues && grew(slope)) else { continue };
        let Slope { estimate, low, high, .. } = slope;
        found.slow(
            "backlog",
            format!(
                "what waits at {place} grew by {estimate:.1} events a second \
                 ({low:.1} to {high:.1}, 95 %)"
            ),
        );
    }
    if *evidence.ended == Ended::Behind {
        let text = format!("{} events were due and waited until the end", evidence.waiting);
        found.slow("behind", text);
    }
    if let Some(after) = evidence.undrained {
        found.slow("not_drained", format!("the burst had not drained {after:.1?} later"));
    }
    for tally in evidence.stages.iter().filter(|_| !evidence.queues) {
        let late = tally.count(Fate::Late);
        if late as f64 > tally.known() as f64 * LATE_SHARE {
            let text = format!("{}: {late} of {} were late", tally.stage.word(), tally.known());
            found.slow("late", text);
        }
    }
}

/// What became of the events at a stage.
fn fates(tally: &StageTally, evidence: &Evidence<'_>, found: &mut Findings) {
    let stage = tally.stage.word();
    for fate in Fate::ALL {
        let count = tally.count(fate);
        let text = format!("{stage}: {count} of {} are {}", tally.expected, fate.word());
        match fate {
            _ if count == 0 => {}
            Fate::Ok | Fate::Late => {}
            Fate::Unknown | Fate::Inconclusive => found.unclear(fate.word(), text),
            Fate::Refused if count <= evidence.not_sent => found.slow(fate.word(), text),
            _ => found.fail(fate.word(), text),
        }
    }
    if tally.duplicate > evidence.duplicates {
        let text = format!("{stage}: {} came more often than once", tally.duplicate);
        found.fail("duplicate", text);
    }
}

/// What follows from the steps of a load: the verdict, the rate that was proven, and what speaks
/// against it beside the steps' own findings. `gb_per_day` is what a rate is in a day.
pub fn overall(
    order: &Order,
    steps: &[(f64, Verdict)],
    gb_per_day: impl Fn(f64) -> f64,
) -> (Verdict, Option<f64>, Vec<Why>) {
    let held = steps.iter().take_while(|(_, verdict)| *verdict == Verdict::Held).count();
    let first_not_held = steps.get(held).map(|(_, verdict)| *verdict);
    let proven = match order.shape {
        // The knee: the last step that was held, and all before it.
        Shape::Ramp => held.checked_sub(1).and_then(|last| steps.get(last)).map(|step| step.0),
        // A burst proves the rate that it came on top of.
        Shape::Burst => (held == order.steps().len()).then_some(order.rate),
        Shape::Smoke | Shape::Soak => {
            steps.first().filter(|_| first_not_held.is_none()).map(|step| step.0)
        }
    };
    let agreed = order.agreed_rate();
    // Rates of steps are made by division.
    let reaches = |rate: f64| rate >= agreed * (1.0 - 1e-9);
    let daily = order.agreed.gb_per_day;
    let Some(rate) = proven
        .filter(|rate| reaches(*rate) && daily.is_none_or(|least| gb_per_day(*rate) >= least))
    else {
        let mut why = Vec::new();
        if let Some(rate) = proven {
            if !reaches(rate) {
                let text = format!("{rate:.1} events a second were held of {agreed} agreed");
                why.push(Why::new("below_agreed", text));
            }
            if let Some(least) = daily.filter(|least| gb_per_day(rate) < *least) {
                let held = gb_per_day(rate);
                let text = format!("{held:.1} GB a day were held of {least} agreed");
                why.push(Why::new("below_agreed", text));
            }
        }
        // What was never asked for was not proven; what was asked for and not held, was not held.
        return (first_not_held.unwrap_or(Verdict::Unclear), proven, why);
    };
    (Verdict::Held, Some(rate), Vec::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::order;
    use super::*;
    use crate::journey::Stage;
    use crate::journey::load::Agreed;

    const TEN: Duration = Duration::from_secs(10);

    fn tally(fates: &[(Fate, u64)]) -> StageTally {
        let mut tally = StageTally::new(Stage::Stored);
        tally.fates = fates.iter().copied().collect::<BTreeMap<_, _>>();
        tally.expected = fates.iter().map(|(_, n)| n).sum();
        tally
    }

    /// A thousand events of which all arrived, one of a hundred late.
    fn good() -> Vec<StageTally> {
        vec![tally(&[(Fate::Ok, 990), (Fate::Late, 10)])]
    }

    fn slope(estimate: f64, low: f64) -> Option<Slope> {
        Some(Slope { estimate, low, high: 2.0 * estimate - low, samples: 20 })
    }

    struct Case {
        ended: Ended,
        slope: Option<Slope>,
        not_sent: u64,
        stalled: u64,
        starved: u64,
        queues: bool,
        undrained: Option<Duration>,
        stages: Vec<StageTally>,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                ended: Ended::Whole,
                slope: slope(0.0, -1.0),
                not_sent: 0,
                stalled: 0,
                starved: 0,
                queues: false,
                undrained: None,
                stages: good(),
            }
        }
    }

    impl Case {
        fn judged(&self) -> (Verdict, Vec<&'static str>) {
            let (verdict, why) = judge(&Evidence {
                ended: &self.ended,
                rate: 100.0,
                span: TEN,
                waiting: 7,
                not_sent: self.not_sent,
                slopes: &[("the way in", self.slope)],
                stalled: Duration::from_secs(self.stalled),
                starved: Duration::from_secs(self.starved),
                queues: self.queues,
                undrained: self.undrained,
                duplicates: 2,
                stages: &self.stages,
            });
            (verdict, why.iter().map(|why| why.code).collect())
        }
    }

    #[test]
    fn a_step_is_held_only_where_nothing_speaks_against_it() {
        use Verdict::{Held, NotHeld, Unclear};
        let with = |fates: &[(Fate, u64)]| vec![tally(fates)];
        let copies = |n: u64| {
            let mut stages = good();
            stages[0].duplicate = n;
            stages
        };
        let late = || with(&[(Fate::Ok, 989), (Fate::Late, 11)]);
        let lost = || with(&[(Fate::Ok, 999), (Fate::Lost, 1), (Fate::Unknown, 1)]);
        let refused = || with(&[(Fate::Ok, 999), (Fate::Refused, 1)]);
        let aborted = || Ended::Aborted("why".into());
        let limited = || Ended::Limited("no processor is left".into());
        let case = Case::default;
        let table: Vec<(Case, Verdict, &[&str])> = vec![
            (case(), Held, &[]),
            (Case { slope: None, ..case() }, Held, &[]),
            (Case { slope: slope(19.9, 15.0), stalled: 1, starved: 2, ..case() }, Held, &[]),
            // Large by chance is no growth.
            (Case { slope: slope(40.0, -1.0), ..case() }, Held, &[]),
            (Case { slope: slope(20.1, 15.0), ..case() }, NotHeld, &["backlog"]),
            (
                Case { slope: slope(20.1, 15.0), stalled: 2, ..case() },
                Unclear,
                &["backlog", "generator_limited"],
            ),
            (Case { ended: Ended::Behind, ..case() }, NotHeld, &["behind"]),
            (Case { stages: late(), ..case() }, NotHeld, &["late"]),
            (
                Case { stages: late(), starved: 3, ..case() },
                Unclear,
                &["late", "generator_limited"],
            ),
            (Case { stalled: 1, ..case() }, Held, &[]),
            // However good it looks.
            (Case { stalled: 2, ..case() }, Unclear, &["generator_limited"]),
            (Case { starved: 3, ..case() }, Unclear, &["generator_limited"]),
            (Case { ended: limited(), ..case() }, Unclear, &["generator_limited"]),
            // What was seen stands.
            (
                Case { stages: lost(), starved: 3, ..case() },
                NotHeld,
                &["lost", "unknown", "generator_limited"],
            ),
            (
                Case { stages: lost(), ended: Ended::Interrupted, ..case() },
                NotHeld,
                &["lost", "interrupted", "unknown"],
            ),
            (Case { stages: refused(), ..case() }, NotHeld, &["refused"]),
            (Case { stages: refused(), not_sent: 1, ..case() }, NotHeld, &["refused"]),
            (
                Case { stages: refused(), not_sent: 1, stalled: 2, ..case() },
                Unclear,
                &["refused", "generator_limited"],
            ),
            (Case { stages: copies(2), ..case() }, Held, &[]),
            (Case { stages: copies(3), ..case() }, NotHeld, &["duplicate"]),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::Reordered, 1)]), ..case() },
                NotHeld,
                &["reordered"],
            ),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::Misparsed, 1)]), ..case() },
                NotHeld,
                &["misparsed"],
            ),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::Truncated, 1)]), ..case() },
                NotHeld,
                &["truncated"],
            ),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::Corrupted, 1)]), ..case() },
                NotHeld,
                &["corrupted"],
            ),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::DeadLettered, 1)]), ..case() },
                NotHeld,
                &["dead_lettered"],
            ),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::Unknown, 1)]), ..case() },
                Unclear,
                &["unknown"],
            ),
            (
                Case { stages: with(&[(Fate::Ok, 9), (Fate::Inconclusive, 1)]), ..case() },
                Unclear,
                &["inconclusive"],
            ),
            (Case { stages: with(&[]), ..case() }, Unclear, &["nothing_known"]),
            (Case { ended: Ended::Budget, ..case() }, Unclear, &["budget"]),
            (Case { ended: Ended::Interrupted, ..case() }, Unclear, &["interrupted"]),
            (Case { ended: aborted(), ..case() }, NotHeld, &["aborted"]),
            // A burst may queue up, and must drain.
            (Case { queues: true, stages: late(), slope: slope(99.0, 90.0), ..case() }, Held, &[]),
            (Case { queues: true, undrained: Some(TEN), ..case() }, NotHeld, &["not_drained"]),
            (Case { queues: true, stages: lost(), ..case() }, NotHeld, &["lost", "unknown"]),
        ];
        for (n, (case, verdict, codes)) in table.into_iter().enumerate() {
            assert_eq!(case.judged(), (verdict, codes.to_vec()), "case {n}");
        }
    }

    #[test]
    fn the_knee_is_the_last_step_that_was_held_and_headroom_is_against_what_was_agreed() {
        use Verdict::{Held, NotHeld, Unclear};
        let ramp = |verdicts: &[Verdict], agreed: Agreed| {
            let order = Order { agreed, ..order(Shape::Ramp) };
            let steps: Vec<_> =
                order.steps().iter().map(|step| step.rate).zip(verdicts.iter().copied()).collect();
            // A gigabyte a day for each event a second.
            let (verdict, proven, why) = overall(&order, &steps, |rate| rate);
            (verdict, proven, why.len())
        };
        let all = Agreed::default();
        let rate = |rate| Agreed { rate: Some(rate), gb_per_day: None };
        assert_eq!(ramp(&[Held; 5], all), (Held, Some(100.0), 0));
        assert_eq!(ramp(&[Held, Held, NotHeld], all), (NotHeld, Some(40.0), 1));
        assert_eq!(ramp(&[Held, Held, NotHeld], rate(40.0)), (Held, Some(40.0), 0));
        assert_eq!(ramp(&[Held, Held, NotHeld], rate(41.0)), (NotHeld, Some(40.0), 1));
        assert_eq!(ramp(&[Held, Unclear], all), (Unclear, Some(20.0), 1));
        assert_eq!(ramp(&[NotHeld], all), (NotHeld, None, 0));
        assert_eq!(ramp(&[], all), (Unclear, None, 0));
        // One that was held after one that was not is no knee.
        assert_eq!(ramp(&[Held, NotHeld, Held], rate(30.0)), (NotHeld, Some(20.0), 1));
        let soak = |verdict, agreed| {
            let order = Order { agreed, ..order(Shape::Soak) };
            let (verdict, proven, why) = overall(&order, &[(100.0, verdict)], |rate| rate);
            (verdict, proven, why.len())
        };
        assert_eq!(soak(Held, rate(80.0)), (Held, Some(100.0), 0));
        assert_eq!(soak(Held, rate(120.0)), (Unclear, Some(100.0), 1));
        let volume = Agreed { rate: Some(50.0), gb_per_day: Some(101.0) };
        assert_eq!(soak(Held, volume), (Unclear, Some(100.0), 1));
        assert_eq!(soak(NotHeld, all), (NotHeld, None, 0));
        let burst = |steps: &[(f64, Verdict)]| {
            let (verdict, proven, _) = overall(&order(Shape::Burst), steps, |rate| rate);
            (verdict, proven)
        };
        assert_eq!(burst(&[(300.0, Held), (100.0, Held)]), (Held, Some(100.0)));
        assert_eq!(burst(&[(300.0, Held), (100.0, NotHeld)]), (NotHeld, None));
        assert_eq!(burst(&[(300.0, Unclear), (100.0, Held)]), (Unclear, None));
    }
}
