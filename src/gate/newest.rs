//! What is judged by the newest attempt or sample alone, at once: `last` and `fresh`.

use std::time::Duration;

use super::sentence::{number, span};
use super::weigh::{against, measured, weigh};
use super::window::{Coverage, Window};
use super::{Bound, Criterion, Finding, Gate, Verdict, Why};
use crate::series::{Track, Value};
use crate::time::Now;

/// The newest attempt alone.
pub(super) fn last(
    criterion: &Criterion,
    track: &Track,
    bound: Option<Bound>,
    now: Now,
) -> Finding {
    let unit = criterion.unit();
    let newest = track.points().times().rev().find(|at| *at <= now.mono);
    let Some(at) = newest else {
        return Finding::open("no_evidence", "no attempt was seen yet");
    };
    let age = now.mono.since(at);
    let attempt: Vec<Value> = track
        .points()
        .iter()
        .rev()
        .skip_while(|point| point.at > at)
        .take_while(|point| point.at == at)
        .map(|point| point.value())
        .collect();
    let numbers = attempt.iter().filter_map(|value| match value {
        Value::Number(number) => Some(*number),
        _ => None,
    });
    // Of several samples of one attempt, the worst.
    let pick = |bound: Bound| match bound {
        Bound::Below(_) => numbers.clone().max_by(f64::total_cmp),
        Bound::Above(_) => numbers.clone().min_by(f64::total_cmp),
    };
    let shown = bound.or(criterion.warn);
    let mut finding = measured(shown.and_then(pick), shown, unit);
    finding.samples = numbers.clone().count() as u64;
    let text = |severity: &str, bound: Bound| {
        let value = pick(bound).map_or_else(|| "nothing".to_owned(), |value| number(value, unit));
        Why::new("beyond_threshold", format!("{value} is {severity} {}", against(bound, unit)))
    };
    let stale = age > track.cadence().longest_gap();
    let (verdict, reason) = if stale {
        let text = format!("the newest attempt is {} old", span(age));
        (Verdict::Open, Some(Why::new("window_not_covered", text)))
    } else if attempt.contains(&Value::Failed) {
        finding.samples = finding.samples.saturating_add(1);
        let why = |bound: Option<Bound>| {
            let against = bound.map(|bound| format!(" against the {}", against(bound, unit)));
            let text = format!("the newest attempt failed{}", against.unwrap_or_default());
            Some(Why::new("failed_attempts", text))
        };
        match bound {
            Some(_) => (Verdict::Fail, why(bound)),
            None => (Verdict::Warn, why(criterion.warn)),
        }
    } else if finding.samples == 0 && attempt.contains(&Value::Inconclusive) {
        let text = "the newest attempt was inconclusive";
        (Verdict::Error, Some(Why::new("too_many_inconclusive", text)))
    } else if finding.samples < criterion.at_least.max(1) {
        let text = "the newest attempt yielded no sample";
        (Verdict::Open, Some(Why::new("too_few_samples", text)))
    } else {
        weigh(criterion, bound, pick, text)
    };
    if verdict == Verdict::Warn
        && let Some(warn) = criterion.warn
    {
        finding = Finding { samples: finding.samples, ..measured(pick(warn), Some(warn), unit) };
    }
    Finding { verdict, reason, ..finding }
}

/// The age of the newest sample; of several tracks taken together, of the newest of all.
pub(super) fn fresh(
    gate: &Gate,
    criterion: &Criterion,
    tracks: &[&Track],
    bound: Option<Bound>,
    now: Now,
) -> Finding {
    let unit = criterion.unit();
    let points = || {
        tracks
            .iter()
            .flat_map(|track| track.points().iter())
            .filter(move |point| point.at <= now.mono)
    };
    let newest = points()
        .filter(|point| matches!(point.value(), Value::Number(_)))
        .map(|point| point.at)
        .max();
    let age = newest.map(|at| now.mono.since(at).as_secs_f64());
    let shown = bound.or(criterion.warn);
    let mut finding = measured(age, shown, unit);
    finding.samples =
        points().filter(|point| matches!(point.value(), Value::Number(_))).count() as u64;
    let text = |severity: &str, bound: Bound| {
        let text = match age {
            Some(age) => format!(
                "the newest sample is {} old, {severity} {}",
                number(age, unit),
                against(bound, unit)
            ),
            None => format!("no sample for {}", number(bound.limit(), unit)),
        };
        Why::new("beyond_threshold", text)
    };
    // Who did not look for as long as the bound allows can't say that there was nothing.
    let looked = |bound: Bound| {
        let over = Duration::try_from_secs_f64(bound.limit().max(0.0)).unwrap_or(Duration::MAX);
        let window = Window::ending(now, over);
        let blind =
            points().any(|point| point.value() == Value::Inconclusive && window.holds(point.at));
        (tracks.iter().all(|track| Coverage::by(track, window).full), blind)
    };
    let holds = |bound: Bound| age.is_some_and(|age| bound.holds(age));
    let stale = match (bound, criterion.warn) {
        (Some(bound), _) if !holds(bound) => Some((bound, Verdict::Fail, "beyond the")),
        (_, Some(warn)) if !holds(warn) => Some((warn, Verdict::Warn, "beyond the warning")),
        _ => None,
    };
    let (verdict, reason) = match stale {
        Some((bound, verdict, severity)) => match looked(bound) {
            (false, _) => {
                let text = "nobody looked all the time, and no sample young enough was seen";
                (Verdict::Open, Some(Why::new("window_not_covered", text)))
            }
            (true, true) if gate.max_inconclusive < 1.0 => {
                let text = "attempts since were inconclusive: one of them could have been a sample";
                (Verdict::Error, Some(Why::new("too_many_inconclusive", text)))
            }
            (true, _) => (verdict, Some(text(severity, bound))),
        },
        None => (Verdict::Pass, None),
    };
    let few = finding.samples < criterion.at_least.max(1);
    let (verdict, reason) = if few && verdict <= Verdict::Warn {
        let text = format!("{} of at least {} samples", finding.samples, criterion.at_least);
        (Verdict::Open, Some(Why::new("too_few_samples", text)))
    } else {
        (verdict, reason)
    };
    if verdict == Verdict::Warn {
        finding = Finding { samples: finding.samples, ..measured(age, criterion.warn, unit) };
    }
    Finding { verdict, reason, ..finding }
}
