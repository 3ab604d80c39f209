//! A journey's counts against a bound: loss, duplicates, completeness.

use super::sentence::{number, span};
use super::weigh::{measured, weigh};
use super::window::{Coverage, Window, most_attempts};
use super::{Bound, Criterion, Finding, Function, Gate, Verdict, Why};
use crate::catalogue::Unit;
use crate::journey::Stage;
use crate::series::{Attempts, JourneyRecord, RoundPoint, StageCount};
use crate::time::Now;

/// The sums of one stage over the window.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    decided: u64,
    undecided: u64,
    gone: u64,
    flawed: u64,
    duplicate: u64,
}

impl Sums {
    fn of<'a>(rounds: impl Iterator<Item = &'a RoundPoint>, stage: Stage) -> Self {
        let mut sums = Self::default();
        for count in rounds.flat_map(|round| &round.stages).filter(|(other, _)| *other == stage) {
            let count = &count.1;
            sums.decided = sums.decided.saturating_add(count.decided());
            sums.undecided = sums.undecided.saturating_add(count.undecided());
            sums.gone = sums.gone.saturating_add(count.gone());
            sums.flawed = sums.flawed.saturating_add(count.flawed());
            sums.duplicate = sums.duplicate.saturating_add(count.duplicate);
        }
        sums
    }

    /// The function's value if `best` more events had gone perfectly.
    fn value(&self, function: Function, best: u64) -> Option<f64> {
        let count = self.decided.saturating_add(best);
        let share = |part: u64| (count > 0).then(|| part as f64 / count as f64);
        match function {
            Function::Loss => share(self.gone),
            Function::Complete => share(count.saturating_sub(self.flawed)),
            Function::Duplicates => (count > 0).then_some(self.duplicate as f64),
            _ => None,
        }
    }
}

/// The first stage, in their order, where a decided event is not `ok`, or more things came than were
/// expected.
pub(super) fn first_failing_stage(record: &JourneyRecord, window: Window<'_>) -> Option<Stage> {
    first_where(record, window, |stage, count| {
        count.flawed() > 0 || (stage.counts_things() && count.duplicate > 0)
    })
}

fn first_where(
    record: &JourneyRecord,
    window: Window<'_>,
    fails: impl Fn(Stage, &StageCount) -> bool,
) -> Option<Stage> {
    record
        .rounds
        .iter()
        .filter(|round| window.holds(round.at))
        .flat_map(|round| &round.stages)
        .filter(|(stage, count)| fails(*stage, count))
        .map(|(stage, _)| *stage)
        .min()
}

pub(super) fn judge(
    gate: &Gate,
    criterion: &Criterion,
    record: &JourneyRecord,
    stage: Option<Stage>,
    bound: Option<Bound>,
    now: Now,
) -> Finding {
    let window = Window::ending(now, criterion.window());
    let rounds = record.rounds.iter().map(|round| round.at).take_while(|at| *at <= window.now);
    let attempts = Attempts::of(record.cadence.interval, rounds);
    let coverage = Coverage::of(window, &record.cadence, &attempts);
    let stages: Vec<Stage> = match stage {
        Some(stage) => vec![stage],
        None => record.stages.clone(),
    };
    let all = stages.into_iter().map(|stage| {
        let mut finding = judge_stage(gate, criterion, record, stage, bound, window, &coverage);
        finding.worst = Some((record.journey.to_string(), stage.word().to_owned()));
        finding
    });
    let worst = all.reduce(|one, other| {
        let margin = |finding: &Finding| finding.margin.unwrap_or(f64::INFINITY);
        let worse = other.verdict > one.verdict
            || other.verdict == one.verdict && margin(&other) < margin(&one);
        if worse { other } else { one }
    });
    let Some(mut finding) = worst else {
        return Finding::open("no_evidence", "the journey declares no stage");
    };
    if matches!(finding.verdict, Verdict::Warn | Verdict::Fail) {
        finding.first_failing_stage = match criterion.function {
            Function::Loss => first_where(record, window, |_, count| count.gone() > 0),
            Function::Duplicates => first_where(record, window, |_, count| count.duplicate > 0),
            _ => first_failing_stage(record, window),
        };
    }
    finding
}

fn judge_stage(
    gate: &Gate,
    criterion: &Criterion,
    record: &JourneyRecord,
    stage: Stage,
    bound: Option<Bound>,
    window: Window<'_>,
    coverage: &Coverage,
) -> Finding {
    let unit = criterion.unit();
    let rounds = || record.rounds.iter().filter(|round| window.holds(round.at));
    let sums = Sums::of(rounds(), stage);
    let seen = rounds().count() as u64;
    // Rounds of which nothing is known: those that could not begin, and those that were due and
    // never came.
    let blind = (rounds().filter(|round| round.inconclusive).count() as u64)
        .saturating_add(coverage.missed);
    let a_round = rounds()
        .flat_map(|round| &round.stages)
        .filter(|(other, _)| *other == stage)
        .map(|(_, count)| count.expected)
        .max();
    let unseen_rounds = if coverage.full {
        blind
    } else {
        most_attempts(window.over, record.cadence.interval)
            .saturating_sub(seen)
            .saturating_add(blind)
    };
    let at_least = criterion.at_least.max(1);
    let unseen = unseen_rounds
        .saturating_mul(a_round.unwrap_or(1).max(1))
        .saturating_add(sums.undecided)
        .max(at_least.saturating_sub(sums.decided));
    let events = sums.decided.saturating_add(sums.undecided);
    let share_of_rounds = |count: u64| {
        let due = seen.saturating_add(coverage.missed);
        if due == 0 { 0.0 } else { count as f64 / due as f64 }
    };
    let share_of_events = if events == 0 { 0.0 } else { sums.undecided as f64 / events as f64 };
    // A blind round hides all its events, an inconclusive event only itself.
    let share = share_of_rounds(blind) + (1.0 - share_of_rounds(blind)) * share_of_events;

    let shown = bound.or(criterion.warn);
    let numbers = |bound: Option<Bound>| Finding {
        samples: sums.decided,
        window_seconds: Some(criterion.over.as_secs_f64()),
        covered_seconds: Some(coverage.covered.as_secs_f64()),
        ..measured(sums.value(criterion.function, 0), bound, unit)
    };
    let text = |severity: &str, bound: Bound| {
        let value = sums.value(criterion.function, 0);
        let value = value.map_or_else(|| "nothing".to_owned(), |value| number(value, unit));
        let what = match criterion.function {
            Function::Loss => format!("{} of {} events did not arrive", sums.gone, sums.decided),
            Function::Duplicates => {
                format!("{} duplicates of {} events", sums.duplicate, sums.decided)
            }
            _ => format!("{} of {} events are not ok", sums.flawed, sums.decided),
        };
        Why::new(
            "beyond_threshold",
            format!(
                "{what} at stage {}: {value} is {severity} limit of {}",
                stage.word(),
                number(bound.limit(), unit)
            ),
        )
    };
    let certain = bound.filter(|bound| {
        sums.decided > 0
            && sums.value(criterion.function, unseen).is_some_and(|value| !bound.holds(value))
    });
    let (verdict, reason) = if let Some(bound) = certain {
        (Verdict::Fail, Some(text("beyond the", bound)))
    } else if !coverage.full {
        let text = format!("{} of {} are covered", span(coverage.covered), span(window.over));
        (Verdict::Open, Some(Why::new("window_not_covered", text)))
    } else if share > gate.max_inconclusive {
        let text = format!(
            "{} of what was due at stage {} is not known, more than {}",
            number(share, Unit::Ratio),
            stage.word(),
            number(gate.max_inconclusive, Unit::Ratio)
        );
        (Verdict::Error, Some(Why::new("too_many_inconclusive", text)))
    } else if sums.decided < at_least {
        let text = format!(
            "{} of at least {at_least} decided events at stage {}",
            sums.decided,
            stage.word()
        );
        (Verdict::Open, Some(Why::new("too_few_samples", text)))
    } else {
        weigh(criterion, bound, |_| sums.value(criterion.function, 0), text)
    };
    let shown = if verdict == Verdict::Warn { criterion.warn } else { shown };
    Finding { verdict, reason, ..numbers(shown) }
}
