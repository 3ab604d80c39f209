//! A value against its bounds: a population of samples, and what every other way of judging shares.

use super::samples::Samples;
use super::sentence::{number, span};
use super::window::Coverage;
use super::{Bound, Criterion, During, Finding, Function, Gate, Verdict, Why};

/// Judges a population of samples.
pub(super) fn decide(
    gate: &Gate,
    criterion: &Criterion,
    samples: &Samples,
    coverage: &Coverage,
    bound: Option<Bound>,
) -> Finding {
    let unit = criterion.unit();
    let counted = match criterion.function {
        Function::Absent => samples.looked,
        _ => samples.count(),
    };
    let at_least = criterion.at_least.max(1);
    let shown = bound.or(criterion.warn);
    let value = shown.and_then(|bound| samples.value(criterion.function, bound, 0));
    let mut finding = measured(value, shown, unit);
    finding.samples = counted;
    finding.window_seconds = Some(criterion.over.as_secs_f64());
    finding.covered_seconds = Some(coverage.covered.as_secs_f64());
    let failed_text = match samples.failed {
        0 => String::new(),
        failed => format!("; {failed} of {} samples are failed attempts", samples.count()),
    };
    let beyond = |severity: &str, bound: Bound| {
        let name = match value.filter(|value| value.is_finite()) {
            Some(value) => {
                format!("{} is {severity} {}", number(value, unit), against(bound, unit))
            }
            None => format!("failed attempts decide against the {}", against(bound, unit)),
        };
        let code = match value {
            Some(value) if value.is_finite() => "beyond_threshold",
            _ => "failed_attempts",
        };
        Why::new(code, format!("{name}{failed_text}"))
    };
    // A failure that stands whatever the samples that nobody has would say: those that were
    // inconclusive, those still to come, and those short of the fewest that decide.
    let unseen = samples.unseen.map(|unseen| unseen.max(at_least.saturating_sub(counted)));
    let certain = bound.filter(|bound| {
        // Where nobody knows how many samples an attempt yields, imagine more than all others.
        let best = unseen.unwrap_or(1 << 40);
        samples
            .value(criterion.function, *bound, best)
            .is_some_and(|value| counted > 0 && !bound.holds(value))
    });
    let share = samples.inconclusive_share();
    let (verdict, reason) = if let Some(bound) = certain {
        (Verdict::Fail, Some(beyond("beyond the", bound)))
    } else if !coverage.full {
        let covered = span(coverage.covered);
        let (code, text) = match criterion.during {
            Some(During::Load) if coverage.under_way => {
                ("load_under_way", format!("the load goes on; {covered} of it are covered"))
            }
            Some(During::Load) => (
                "window_not_covered",
                format!("{covered} under load are covered, and not all that was declared"),
            ),
            None => (
                "window_not_covered",
                format!(
                    "{covered} of {} are covered",
                    span(criterion.over.max(criterion.window()))
                ),
            ),
        };
        (Verdict::Open, Some(Why::new(code, text)))
    } else if share > gate.max_inconclusive {
        let text = format!(
            "{} of the attempts due were inconclusive, more than {}",
            number(share, crate::catalogue::Unit::Ratio),
            number(gate.max_inconclusive, crate::catalogue::Unit::Ratio)
        );
        (Verdict::Error, Some(Why::new("too_many_inconclusive", text)))
    } else if counted < at_least {
        let text = format!("{counted} of at least {at_least} samples");
        (Verdict::Open, Some(Why::new("too_few_samples", text)))
    } else {
        weigh(criterion, bound, |bound| samples.value(criterion.function, bound, 0), beyond)
    };
    if verdict == Verdict::Warn
        && let Some(warn) = criterion.warn
    {
        finding = Finding {
            samples: finding.samples,
            window_seconds: finding.window_seconds,
            covered_seconds: finding.covered_seconds,
            ..measured(samples.value(criterion.function, warn, 0), Some(warn), unit)
        };
    }
    Finding { verdict, reason, ..finding }
}

/// Holds the value against the failing bound, then against the warning one.
pub(super) fn weigh(
    criterion: &Criterion,
    fails: Option<Bound>,
    value: impl Fn(Bound) -> Option<f64>,
    beyond: impl Fn(&str, Bound) -> Why,
) -> (Verdict, Option<Why>) {
    let holds = |bound: Bound| value(bound).map(|value| bound.holds(value));
    match (fails.map(|bound| (bound, holds(bound))), criterion.warn.map(|warn| (warn, holds(warn))))
    {
        (Some((bound, Some(false))), _) => (Verdict::Fail, Some(beyond("beyond the", bound))),
        (_, Some((warn, Some(false)))) => (Verdict::Warn, Some(beyond("beyond the warning", warn))),
        (Some((_, Some(true))), None | Some((_, Some(true)))) | (None, Some((_, Some(true)))) => {
            (Verdict::Pass, None)
        }
        _ => (Verdict::Open, Some(Why::new("too_few_samples", "there is nothing to judge by"))),
    }
}

pub(super) fn against(bound: Bound, unit: crate::catalogue::Unit) -> String {
    match bound {
        Bound::Below(limit) => format!("limit of at most {}", number(limit, unit)),
        Bound::Above(limit) => format!("limit of at least {}", number(limit, unit)),
    }
}

/// A finding with the numbers filled in, finite ones only.
pub(super) fn measured(
    value: Option<f64>,
    bound: Option<Bound>,
    unit: crate::catalogue::Unit,
) -> Finding {
    let value = value.filter(|value| value.is_finite());
    let margin = value.zip(bound).map(|(value, bound)| match bound {
        Bound::Below(limit) => limit - value,
        Bound::Above(limit) => value - limit,
    });
    Finding {
        value,
        unit: Some(unit),
        threshold: bound.map(Bound::limit).filter(|limit| limit.is_finite()),
        margin: margin.filter(|margin| margin.is_finite()),
        ..Finding::open("", "")
    }
}
