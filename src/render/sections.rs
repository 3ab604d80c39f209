//! What every form says: the sentence below the decision, gates by severity, what was measured.

use super::quantity::{against, count, quantity};
use super::text::{brief, clean, plural};
use super::{SEVERITY, verdict};
use crate::gate::{Level, Verdict, Why};
use crate::journey::Fate;
use crate::ledger::{
    CheckRow, Decision, Document, GateRow, RecheckRow, StageRow, TargetRow, UseCaseRow,
};

/// Whether a gate of this verdict counts for the decision: mandatory, or conditional and not
/// excused.
pub(super) fn counts(gate: &GateRow) -> bool {
    gate.level != Level::Optional
}

/// Why the decision is what it is.
pub(super) fn because(document: &Document) -> String {
    let blocking =
        |verdict| document.gates.iter().filter(move |g| counts(g) && g.verdict == verdict);
    let number = |verdict| blocking(verdict).count();
    let (fail, error) = (number(Verdict::Fail), number(Verdict::Error));
    let (open, waived) = (number(Verdict::Open), number(Verdict::Waived));
    let mut parts: Vec<String> = Vec::new();
    for (n, one, many) in [
        (fail, "fails", "fail"),
        (error, "could not be measured", "could not be measured"),
        (open, "is still open", "are still open"),
    ] {
        let what = match (n, parts.is_empty()) {
            (0, _) => continue,
            (1, true) => String::from("1 mandatory gate"),
            (n, true) => format!("{n} mandatory gates"),
            (n, false) => n.to_string(),
        };
        parts.push(format!("{what} {}", if n == 1 { one } else { many }));
    }
    match document.decision {
        Decision::Go => String::from("every mandatory gate holds"),
        Decision::GoWithWaivers => {
            format!("every mandatory gate holds, {waived} of them by a waiver")
        }
        Decision::Incomplete if document.gates.is_empty() => {
            String::from("the plan has no gate: nothing was decided")
        }
        _ => parts.join(", "),
    }
}

/// The gates of each verdict that some gate has, what needs a person first; mandatory before
/// optional, else in the plan's order.
pub(super) fn groups(document: &Document) -> Vec<(Verdict, Vec<&GateRow>)> {
    SEVERITY
        .into_iter()
        .map(|verdict| {
            let mut gates: Vec<&GateRow> =
                document.gates.iter().filter(|gate| gate.verdict == verdict).collect();
            gates.sort_by_key(|gate| gate.level == Level::Optional);
            (verdict, gates)
        })
        .filter(|(_, gates)| !gates.is_empty())
        .collect()
}

/// The same in two parts: the gates that count for the decision, and the optional ones.
pub(super) fn parts(document: &Document) -> [Vec<(Verdict, Vec<&GateRow>)>; 2] {
    [true, false].map(|counting| {
        groups(document)
            .into_iter()
            .map(|(of, gates)| {
                (of, gates.into_iter().filter(|gate| counts(gate) == counting).collect::<Vec<_>>())
            })
            .filter(|(_, gates)| !gates.is_empty())
            .collect()
    })
}

/// Whether the reason says all that the sentence says.
pub(super) fn repeats(gate: &GateRow) -> bool {
    gate.reason.as_ref().is_some_and(|reason| {
        reason.code == "not_measured" || reason.text.contains(&gate.criterion)
    })
}

/// `2 fail, 1 open, 12 pass`.
pub(super) fn tally(document: &Document) -> String {
    let parts: Vec<String> = groups(document)
        .into_iter()
        .map(|(of, gates)| format!("{} {}", gates.len(), verdict(of)))
        .collect();
    match parts.is_empty() {
        true => String::from("no gates"),
        false => format!("{}: {}", plural(document.gates.len(), "gate"), parts.join(", ")),
    }
}

/// The value and the threshold, as far as there are any.
pub(super) fn value_and_threshold(gate: &GateRow) -> (Option<String>, Option<String>) {
    let unit = gate.unit.as_deref();
    match (gate.value, gate.threshold) {
        (Some(value), Some(threshold)) => {
            let (value, threshold) = against(value, threshold, unit);
            (Some(value), Some(threshold))
        }
        (value, threshold) => {
            (value.map(|v| quantity(v, unit)), threshold.map(|v| quantity(v, unit)))
        }
    }
}

/// `12.3 ms against 5 ms, margin -7.3 ms, 118 samples, worst: core-latency on 10.0.0.7`; None
/// where nothing was measured.
pub(super) fn measured(gate: &GateRow) -> Option<String> {
    let (value, threshold) = value_and_threshold(gate);
    let mut parts = Vec::new();
    match (value, threshold) {
        (Some(value), Some(threshold)) => parts.push(format!("{value} against {threshold}")),
        (Some(value), None) => parts.push(value),
        (None, _) => {}
    }
    parts.extend(evidence(gate));
    if let Some(worst) = worst(gate) {
        parts.push(format!("worst: {worst}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How much there was to judge from: samples, and the window where it is not covered.
pub(super) fn evidence(gate: &GateRow) -> Vec<String> {
    let mut parts = Vec::new();
    if gate.samples > 0 {
        let word = if gate.samples == 1 { "sample" } else { "samples" };
        parts.push(format!("{} {word}", count(gate.samples)));
    }
    if let (Some(window), Some(covered)) = (gate.window_seconds, gate.covered_seconds)
        && covered < window
    {
        let (window, covered) = (whole_seconds(window), whole_seconds(covered));
        parts.push(format!("{covered} of {window} covered"));
    }
    parts
}

fn whole_seconds(seconds: f64) -> String {
    quantity(seconds.round(), Some("seconds"))
}

/// `timeout: no answer within 2 s`.
pub(super) fn why(why: &Why) -> String {
    format!("{}: {}", clean(&why.code), brief(&why.text))
}

/// The check and target that decided.
pub(super) fn worst(gate: &GateRow) -> Option<String> {
    gate.worst.as_ref().map(|worst| format!("{} on {}", worst.check, worst.target))
}

/// Fates beside ok, late and lost: `3 reordered, 1 corrupted`.
pub(super) fn other_fates(stage: &StageRow) -> Option<String> {
    let parts: Vec<String> = Fate::ALL
        .into_iter()
        .filter(|fate| !matches!(fate, Fate::Ok | Fate::Late | Fate::Lost))
        .filter_map(|fate| {
            let n = fate_count(stage, fate);
            (n > 0).then(|| format!("{} {}", count(n), fate.word().replace('_', "-")))
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a stage told beside its events, each with whether it is bad.
pub(super) fn beside(stage: &StageRow) -> Vec<(bool, String)> {
    let lines = clock(stage).into_iter().chain(rule(stage)).chain(twin(stage)).chain(edges(stage));
    let lines = lines.chain(alert_to_person(stage)).chain(exhibit(stage));
    lines.chain(rechecks(stage)).collect()
}

/// `a picture of "97", drawn at …: 1000 × 500 pixels, …`: nothing is judged by it.
fn exhibit(stage: &StageRow) -> Option<(bool, String)> {
    stage.exhibit.as_ref().map(|exhibit| (false, clean(&exhibit.to_string())))
}

/// `Brute force over SSH (T1110.001)`.
pub(super) fn use_case(of: &UseCaseRow) -> String {
    match of.attack.as_slice() {
        [] => brief(&of.title),
        attack => format!("{} ({})", brief(&of.title), attack.join(", ")),
    }
}

/// `its benign twin: 12 rounds, 1 false alarm`.
fn twin(stage: &StageRow) -> Option<(bool, String)> {
    let twin = stage.twin.as_ref()?;
    let many = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut parts = vec![plural(many(twin.rounds), "round")];
    if twin.rounds > 0 {
        parts.push(match twin.false_alarms {
            0 => String::from("no false alarm"),
            alarms => plural(many(alarms), "false alarm"),
        });
    }
    if twin.inconclusive > 0 {
        parts.push(format!("{} inconclusive", count(twin.inconclusive)));
    }
    let why = twin.reason.as_ref().map(|why| format!(": {}", brief(why))).unwrap_or_default();
    Some((twin.false_alarms > 0, format!("its benign twin: {}{why}", parts.join(", "))))
}

/// What followed from the rule behind the alert.
fn rule(stage: &StageRow) -> Option<(bool, String)> {
    stage.rule.as_ref().map(|text| (false, brief(text)))
}

/// `at the edges of the look-back: 12 rounds, none missed inside, 1 alert from outside`.
fn edges(stage: &StageRow) -> Option<(bool, String)> {
    let edges = stage.edges.as_ref()?;
    let many = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut parts = vec![plural(many(edges.rounds), "round")];
    if edges.missed > 0 {
        parts.push(format!("{} missed inside", count(edges.missed)));
    }
    if edges.rounds > 0 {
        parts.push(match edges.beyond {
            0 => String::from("no alert from outside"),
            alerts => format!("{} from outside", plural(many(alerts), "alert")),
        });
    }
    if edges.inconclusive > 0 {
        parts.push(format!("{} inconclusive", count(edges.inconclusive)));
    }
    let why = edges.reason.as_ref().map(|why| format!(": {}", brief(why))).unwrap_or_default();
    let text = format!("at the edges of the look-back: {}{why}", parts.join(", "));
    Some((edges.beyond + edges.missed > 0, text))
}

/// `from the alert to here: p50 1.2 s, at most 3.4 s`.
fn alert_to_person(stage: &StageRow) -> Option<(bool, String)> {
    let latency = stage.alert_to_person_seconds?;
    let text = match (latency.p50, latency.max) {
        (Some(p50), Some(max)) => {
            let [p50, max] = [p50, max].map(|seconds| quantity(seconds, Some("seconds")));
            format!("from the alert to here: p50 {p50}, at most {max}")
        }
        _ => String::from("from the alert to here: nobody heard of it"),
    };
    Some((latency.max.is_none(), text))
}

/// `asked again after 1h: 12 rounds, 118 kept, 2 vanished: …`, each with whether it is bad.
fn rechecks(stage: &StageRow) -> Vec<(bool, String)> {
    let sentence = |row: &RecheckRow| {
        let mut parts = vec![plural(usize::try_from(row.rounds).unwrap_or(usize::MAX), "round")];
        for (n, word) in [
            (row.kept, "kept"),
            (row.vanished, "vanished"),
            (row.changed, "changed"),
            (row.inconclusive, "inconclusive"),
            (row.found, "came after all"),
        ] {
            if n > 0 {
                parts.push(format!("{} {word}", count(n)));
            }
        }
        let why = row.reason.as_ref().map(|why| format!(": {}", brief(why))).unwrap_or_default();
        let after = quantity(row.after_seconds, Some("seconds"));
        let text = format!("asked again after {after}: {}{why}", parts.join(", "));
        (row.failed() > 0, text)
    };
    stage.rechecks.iter().map(sentence).collect()
}

/// `clock between 89.2 s and 90.4 s ahead of ours`.
fn clock(stage: &StageRow) -> Option<(bool, String)> {
    let clock = stage.clock_offset_seconds?;
    let (Some(lower), Some(upper)) = (clock.lower, clock.upper) else {
        let text = "its clock: no one offset fits its events; it was set, or the field is no time of \
                    the stage";
        return Some((true, text.to_owned()));
    };
    let [lower, upper] = [lower, upper].map(|bound| quantity(bound, Some("seconds")));
    let events = plural(usize::try_from(clock.events).unwrap_or(usize::MAX), "event");
    Some((false, format!("its clock less ours: between {lower} and {upper}, by {events}")))
}

pub(super) fn fate_count(stage: &StageRow, fate: Fate) -> u64 {
    stage.fates.get(&fate).copied().unwrap_or(0)
}

/// Targets of all checks by what came of their last attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    pub(super) success: usize,
    pub(super) failure: usize,
    pub(super) inconclusive: usize,
    pub(super) none: usize,
}

impl Attempts {
    pub(super) fn of<'a>(targets: impl IntoIterator<Item = &'a TargetRow>) -> Self {
        let mut attempts = Self::default();
        for target in targets {
            match outcome(target) {
                Some("success") => attempts.success += 1,
                Some("failure") => attempts.failure += 1,
                Some(_) => attempts.inconclusive += 1,
                None => attempts.none += 1,
            }
        }
        attempts
    }

    /// `35 succeeded, 1 failed`.
    pub(super) fn sentence(self) -> String {
        let parts: Vec<String> = [
            (self.failure, "failed"),
            (self.inconclusive, "inconclusive"),
            (self.none, "not attempted yet"),
            (self.success, "succeeded"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
        parts.join(", ")
    }
}

/// The word of the last attempt's outcome.
pub(super) fn outcome(target: &TargetRow) -> Option<&str> {
    target.last.as_ref().map(|last| last.outcome.as_ref())
}

/// What the newest attempts of a check had to say besides, with the target.
pub(super) fn notes(check: &CheckRow) -> impl Iterator<Item = (&str, &str)> {
    check.targets.iter().flat_map(|target| {
        let notes = target.last.iter().flat_map(|last| &last.notes);
        notes.map(|note| (target.target.as_str(), note.as_str()))
    })
}

/// The targets of a check whose last attempt did not succeed.
pub(super) fn troubled(check: &CheckRow) -> impl Iterator<Item = &TargetRow> {
    check.targets.iter().filter(|target| outcome(target).is_some_and(|word| word != "success"))
}

/// `12 checks on 37 targets: 35 succeeded, 2 failed`.
pub(super) fn checks_sentence(document: &Document) -> String {
    let targets = document.checks.iter().flat_map(|check| &check.targets);
    let number = targets.clone().count();
    format!(
        "{} on {}: {}",
        plural(document.checks.len(), "check"),
        plural(number, "target"),
        Attempts::of(targets).sentence()
    )
}

/// `ingest-1 (role=ingest, zone=a)`.
pub(super) fn node(document: &Document) -> String {
    let labels: Vec<String> =
        document.node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    match labels.is_empty() {
        true => document.node.name.to_string(),
        false => format!("{} ({})", document.node.name, labels.join(", ")),
    }
}

/// The first letter large, where it begins a word and not a name such as `p99`.
pub(super) fn capital(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(letter) if first.chars().all(char::is_alphabetic) => {
            letter.to_uppercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
