//! A requirement as a sentence, and numbers as people write them.

use std::time::Duration;

use super::{Bound, Criterion, Function, Gate, Requirement, Subject};
use crate::catalogue::Unit;
use crate::series::{LabelNames, Selection};

/// What a gate demands, in words.
pub fn sentence(gate: &Gate) -> String {
    requirement(&gate.require, true)
}

fn requirement(require: &Requirement, outermost: bool) -> String {
    let joined = |parts: &[Requirement], with: &str| {
        let text = parts.iter().map(|part| requirement(part, false)).collect::<Vec<_>>().join(with);
        if outermost || parts.len() < 2 { text } else { format!("({text})") }
    };
    match require {
        // The same on every node, as the plan is.
        Requirement::Criterion(one) | Requirement::Elsewhere { criterion: one, .. } => {
            criterion(one)
        }
        Requirement::All(parts) => of_each(parts).unwrap_or_else(|| joined(parts, "; and ")),
        Requirement::Any(parts) => joined(parts, "; or "),
        Requirement::Missing(what) => format!("not measured yet: {what}"),
    }
}

/// The same criterion on several journeys is said once. None where the parts differ in more.
fn of_each(parts: &[Requirement]) -> Option<String> {
    let mut named = Vec::new();
    for part in parts {
        let (Requirement::Criterion(one) | Requirement::Elsewhere { criterion: one, .. }) = part
        else {
            return None;
        };
        let Subject::Journey { journey, .. } = &one.subject else { return None };
        named.push((one, journey.as_str()));
    }
    let names: Vec<&str> = named.iter().map(|(_, journey)| *journey).collect();
    let (last, front) = names.split_last().filter(|(_, front)| !front.is_empty())?;
    let all = format!("{} and {last} (each)", front.join(", "));
    let mut texts = named.into_iter().map(|(one, _)| {
        let mut one = one.clone();
        if let Subject::Journey { journey, .. } = &mut one.subject {
            journey.clone_from(&all);
        }
        criterion(&one)
    });
    let text = texts.next()?;
    texts.all(|other| other == text).then_some(text)
}

/// One criterion, in words.
pub fn criterion(criterion: &Criterion) -> String {
    let unit = criterion.unit();
    let mut text = condition(criterion, unit);
    if let (Some(warn), Some(_)) = (criterion.warn, criterion.fails()) {
        text.push_str(&format!(" (a warning unless it {})", bound(warn, unit)));
    }
    if !matches!(criterion.function, Function::Last | Function::Fresh) {
        text.push_str(&format!(", over {}", span(criterion.over)));
    }
    if criterion.during.is_some() {
        text.push_str(", while a load was declared to be on");
    }
    if criterion.at_least > 1 {
        let what = match criterion.subject {
            Subject::Journey { .. } => "events",
            Subject::Series(_) => "samples",
        };
        text.push_str(&format!(", from at least {} {what}", criterion.at_least));
    }
    if let Subject::Series(selection) = &criterion.subject {
        text.push_str(&format!(", {}", place(criterion, selection)));
    }
    if let Some(clears) = criterion.clears {
        text.push_str(&format!(", and once it failed it fails until it {}", bound(clears, unit)));
    }
    if let Some(stable) = criterion.stable_for {
        text.push_str(&format!(", for {} without interruption", span(stable)));
    }
    text
}

fn condition(criterion: &Criterion, unit: Unit) -> String {
    let limit = criterion.fails().or(criterion.warn);
    if criterion.function == Function::Absent && limit == Some(Bound::Below(0.0)) {
        return format!("no sample of {} is seen", subject(criterion));
    }
    let holds = limit.map_or_else(|| "has no threshold".to_owned(), |limit| bound(limit, unit));
    format!("{} {holds}", measured(criterion))
}

fn subject(criterion: &Criterion) -> String {
    match &criterion.subject {
        Subject::Series(selection) => {
            selection.metric.series.unwrap_or(selection.metric.name).to_owned()
        }
        Subject::Journey { journey, stage: Some(stage) } => {
            format!("journey {journey} at stage {}", stage.word())
        }
        Subject::Journey { journey, stage: None } => {
            format!("journey {journey} at the worst of its stages")
        }
    }
}

/// What a criterion looks at, in words: "the largest icmp.rtt".
pub(super) fn measured(criterion: &Criterion) -> String {
    let what = subject(criterion);
    match criterion.function {
        Function::Mean => format!("the mean of {what}"),
        Function::Min => format!("the smallest {what}"),
        Function::Max => format!("the largest {what}"),
        Function::Quantile(q) => format!("p{} of {what}", trimmed(q * 100.0)),
        Function::Ratio if what == "check.success" => {
            "the share of attempts that succeed".to_owned()
        }
        Function::Ratio => format!("the mean share of {what}"),
        Function::Increase => format!("the growth of {what}"),
        Function::Last => format!("the newest {what}"),
        Function::Absent => format!("the count of samples of {what}"),
        Function::Fresh => format!("the age of the newest sample of {what}"),
        Function::Loss => {
            format!("the share of events lost, refused or dead-lettered on {what}")
        }
        Function::Duplicates => format!("the count of duplicates on {what}"),
        Function::Complete => {
            format!("the share of events that arrive whole, in time and in order on {what}")
        }
    }
}

fn place(criterion: &Criterion, selection: &Selection) -> String {
    let names = LabelNames::of(selection.metric);
    let part = selection.resolved();
    let whole = if criterion.pooled { " taken together" } else { "" };
    let every = if criterion.pooled { "all" } else { "each" };
    let plural = if criterion.pooled { "s" } else { "" };
    let mut text = match (names.check, names.target) {
        (Some("journey"), _) => {
            let stage = match part.target {
                Some(stage) => format!("at stage {stage}"),
                None => format!("at {every} stage{plural}"),
            };
            match part.check {
                Some(journey) => format!("{stage} of journey {journey}{whole}"),
                None => format!("{stage} of {every} journey{plural}{whole}"),
            }
        }
        (Some(_), _) => {
            let target = match part.target {
                Some(target) => format!("on {target}"),
                None => format!("on {every} target{plural}"),
            };
            match part.check {
                Some(check) => format!("{target} of {check}{whole}"),
                None => format!("{target}{whole}"),
            }
        }
        (None, Some(label)) => match part.target {
            Some(instance) => format!("on {label} {instance} of this node"),
            None => format!("on {every} {label}{plural} of this node{whole}"),
        },
        (None, None) => "on this node".to_owned(),
    };
    for (name, value) in part.rest {
        text.push_str(&format!(", {name} {value}"));
    }
    text
}

fn bound(bound: Bound, unit: Unit) -> String {
    match bound {
        Bound::Below(limit) => format!("is at or below {}", number(limit, unit)),
        Bound::Above(limit) => format!("is at or above {}", number(limit, unit)),
    }
}

/// A value in the unit that people write it in.
pub fn number(value: f64, unit: Unit) -> String {
    // From which size on, divided by what, under which name.
    let scaled = |steps: &[(f64, f64, &str)], smallest: (f64, &str)| {
        let size = value.abs();
        let (step, name) = steps
            .iter()
            .find(|(from, ..)| size >= *from)
            .map_or(smallest, |(_, step, name)| (*step, *name));
        format!("{} {name}", trimmed(value / step))
    };
    match unit {
        _ if !value.is_finite() => value.to_string(),
        Unit::Seconds if value == 0.0 => "0 s".to_owned(),
        Unit::Seconds => scaled(
            &[
                (172_800.0, 86_400.0, "d"),
                (7_200.0, 3_600.0, "h"),
                (120.0, 60.0, "m"),
                (1.0, 1.0, "s"),
                (1e-3, 1e-3, "ms"),
                (1e-6, 1e-6, "µs"),
            ],
            (1e-9, "ns"),
        ),
        Unit::Bytes => scaled(
            &[
                (1_099_511_627_776.0, 1_099_511_627_776.0, "TiB"),
                (1_073_741_824.0, 1_073_741_824.0, "GiB"),
                (1_048_576.0, 1_048_576.0, "MiB"),
                (1_024.0, 1_024.0, "KiB"),
            ],
            (1.0, "B"),
        ),
        Unit::Ratio => format!("{} %", trimmed(value * 100.0)),
        Unit::Count => trimmed(value),
    }
}

/// A span of time: `15 m`, `90 s`, `250 ms`.
pub fn span(span: Duration) -> String {
    number(span.as_secs_f64(), Unit::Seconds)
}

/// Six significant digits, which hides the binary fraction's noise, and no trailing zeros.
fn trimmed(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = value.abs().log10().floor();
    if !(-9.0..15.0).contains(&digits) {
        return format!("{value:e}");
    }
    let places = (5.0 - digits).clamp(0.0, 15.0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::agent::CHECK_SUCCESS;
    use crate::catalogue::journey::STAGE_LATENCY;
    use crate::catalogue::probe::ICMP_RTT;
    use crate::journey::Stage;

    fn of(function: Function, subject: Subject) -> Criterion {
        Criterion {
            function,
            subject,
            over: Duration::from_secs(900),
            at_least: 1,
            fail: None,
            warn: None,
            clears: None,
            stable_for: None,
            pooled: false,
            during: None,
        }
    }

    #[test]
    fn what_is_asked_of_several_journeys_is_said_once() {
        let on = |journey: &str, limit| {
            let subject = Subject::Journey { journey: journey.into(), stage: Some(Stage::Stored) };
            let fail = Some(Bound::Above(limit));
            Requirement::Criterion(Criterion { fail, ..of(Function::Complete, subject) })
        };
        let said = |parts| requirement(&Requirement::All(parts), true);
        assert_eq!(
            said(vec![on("a", 1.0), on("b", 1.0), on("c", 1.0)]),
            "the share of events that arrive whole, in time and in order on journey a, b and c \
             (each) at stage stored is at or above 100 %, over 15 m"
        );
        let apart = said(vec![on("a", 1.0), on("b", 0.9)]);
        assert!(apart.contains("journey a at") && apart.contains("90 %"), "{apart}");
        assert!(!said(vec![on("a", 1.0)]).contains("each"));
    }

    #[test]
    fn a_criterion_reads_as_a_sentence() {
        let core =
            Selection { check: Some("core-latency".to_owned()), ..Selection::all(&ICMP_RTT) };
        let stage = Selection {
            check: Some("ssh".to_owned()),
            target: Some("stored".to_owned()),
            ..Selection::all(&STAGE_LATENCY)
        };
        let success = Subject::Series(Selection::all(&CHECK_SUCCESS));
        let journey = |stage| Subject::Journey { journey: "ssh".to_owned(), stage };
        for (criterion, sentence) in [
            (
                Criterion {
                    at_least: 100,
                    fail: Some(Bound::Below(0.005)),
                    ..of(Function::Quantile(0.99), Subject::Series(core.clone()))
                },
                "p99 of icmp.rtt is at or below 5 ms, over 15 m, from at least 100 samples, on each target of core-latency",
            ),
            (
                Criterion {
                    fail: Some(Bound::Above(0.999)),
                    warn: Some(Bound::Above(1.0)),
                    pooled: true,
                    stable_for: Some(Duration::from_secs(3600)),
                    ..of(Function::Ratio, success)
                },
                "the share of attempts that succeed is at or above 99.9 % (a warning unless it is at or above 100 %), over 15 m, on all targets taken together, for 60 m without interruption",
            ),
            (
                Criterion {
                    fail: Some(Bound::Below(5.0)),
                    clears: Some(Bound::Below(3.0)),
                    ..of(Function::Quantile(0.95), Subject::Series(stage))
                },
                "p95 of journey.latency is at or below 5 s, over 15 m, at stage stored of journey ssh, and once it failed it fails until it is at or below 3 s",
            ),
            (
                of(Function::Loss, journey(Some(Stage::Stored))),
                "the share of events lost, refused or dead-lettered on journey ssh at stage stored is at or below 0 %, over 15 m",
            ),
            (
                Criterion { at_least: 50, ..of(Function::Complete, journey(None)) },
                "the share of events that arrive whole, in time and in order on journey ssh at the worst of its stages is at or above 100 %, over 15 m, from at least 50 events",
            ),
            (
                of(Function::Fresh, Subject::Series(core.clone())),
                "the age of the newest sample of icmp.rtt is at or below 15 m, on each target of core-latency",
            ),
            (
                Criterion {
                    fail: Some(Bound::Below(0.005)),
                    during: Some(crate::gate::During::Load),
                    ..of(Function::Mean, Subject::Series(core.clone()))
                },
                "the mean of icmp.rtt is at or below 5 ms, over 15 m, while a load was declared to be on, on each target of core-latency",
            ),
            (
                of(Function::Absent, Subject::Series(core)),
                "no sample of icmp.rtt is seen, over 15 m, on each target of core-latency",
            ),
        ] {
            assert_eq!(super::criterion(&criterion), sentence);
        }
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        for (value, unit, text) in [
            (0.0, Unit::Seconds, "0 s"),
            (0.000_3, Unit::Seconds, "300 µs"),
            (0.007_2, Unit::Seconds, "7.2 ms"),
            (90.0, Unit::Seconds, "90 s"),
            (900.0, Unit::Seconds, "15 m"),
            (86_400.0, Unit::Seconds, "24 h"),
            (1_610_612_736.0, Unit::Bytes, "1.5 GiB"),
            (0.999, Unit::Ratio, "99.9 %"),
            (1.0 / 3.0, Unit::Ratio, "33.3333 %"),
            (1_000_000.0, Unit::Count, "1000000"),
            (-0.002, Unit::Seconds, "-2 ms"),
            (1e300, Unit::Count, "1e300"),
        ] {
            assert_eq!(number(value, unit), text);
        }
    }
}
