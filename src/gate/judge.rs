//! From evidence to a verdict: pure, and closed by default. Whatever is missing is `open`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::time_in;
use super::newest::{fresh, last};
use super::samples::Samples;
use super::sentence::{measured as measured_words, sentence, span};
use super::weigh::decide;
use super::window::{Coverage, Window};
use super::{
    Bound, Criterion, During, Evidence, Finding, Function, Gate, Held, Part, Requirement, Standing,
    Subject, Verdict, When, Why, events,
};
use crate::catalogue::journey::FALSE_ALARMS;
use crate::outcome::ReasonCode;
use crate::series::{LabelNames, NODE_CHECK, Selection, Track};
use crate::time::{Mono, Now};

/// The most that a standing remembers: targets of all criteria of one gate.
const PARTS_LIMIT: usize = 10_000;

/// Two judgings at most so far apart (or the window, if longer) join to one unbroken time.
/// A pause of the agent that is longer than three intervals uncovers the window anyway.
const JOINS: Duration = Duration::from_secs(60);

/// Judges one gate.
pub fn judge(
    gate: &Gate,
    evidence: &Evidence<'_>,
    standing: &Standing,
    now: Now,
) -> (Finding, Standing) {
    let nothing = Standing::default();
    let standing = match standing.parts.is_empty() || standing.of == sentence(gate) {
        true => standing,
        false => &nothing,
    };
    let mut judging = Judging { gate, evidence, before: standing, after: BTreeMap::new(), now };
    let mut finding = judging.requirement(&gate.require, "0");
    let parts = judging.remember();
    (finding.checks, finding.journeys) = subjects(&gate.require, evidence);
    match &gate.when {
        Some(When::False(why)) => {
            finding.verdict = Verdict::NotApplicable;
            finding.reason = Some(Why::new("condition_false", why.clone()));
            finding.first_failing_stage = None;
        }
        Some(When::Unset(why)) => {
            finding.verdict = Verdict::Open;
            finding.reason = Some(Why::new(UNSET, why.clone()));
            finding.first_failing_stage = None;
            finding.undecided = false;
        }
        Some(When::True(_)) | None => {}
    }
    let of = if parts.is_empty() { String::new() } else { sentence(gate) };
    (finding, Standing { of, parts })
}

/// The code of what another node runs.
const ELSEWHERE: &str = "elsewhere";

/// The code of a part that nothing measures yet.
const NOT_MEASURED: &str = "not_measured";

/// The code of a condition of which nobody said whether it holds.
const UNSET: &str = "condition_unset";

/// The code of what asks for a load that nobody declared: true of all targets alike.
const NO_LOAD: &str = "no_load";

/// A requirement of which a part is not measured yet is open and names that part, whatever good the
/// measured parts say: nothing is judged by half.
fn not_measured(parts: &[Finding]) -> Option<Finding> {
    let reasons = parts.iter().filter_map(|part| part.reason.as_ref());
    let mut texts: Vec<&str> = Vec::new();
    for reason in reasons.filter(|reason| reason.code == NOT_MEASURED) {
        // What several parts lack is said once.
        if !texts.contains(&reason.text.as_str()) {
            texts.push(&reason.text);
        }
    }
    (!texts.is_empty()).then(|| Finding {
        undecided: parts.iter().any(Finding::may_change),
        ..Finding::open(NOT_MEASURED, texts.join("; "))
    })
}

/// Whether the way that another node looks at was taken is not known here: of a gate that no way of this
/// node's own satisfies, nothing can be said.
fn known_elsewhere(elsewhere: &[Finding], here: &[Finding]) -> Option<Finding> {
    let reason = elsewhere.iter().find_map(|part| part.reason.as_ref())?;
    let text = format!("no part that is judged here holds, and of another {}", reason.text);
    let undecided = here.iter().any(Finding::may_change);
    Some(Finding { undecided, ..Finding::open(ELSEWHERE, text) })
}

/// Of many criteria, the reason says which one speaks, and of which target.
fn named(criterion: &Criterion, mut finding: Finding) -> Finding {
    if let Some(reason) = &mut finding.reason {
        let place = match (&criterion.subject, &finding.worst) {
            (Subject::Series(_), Some((check, target))) if check == NODE_CHECK => {
                if target.is_empty() { String::new() } else { format!(" on {target}") }
            }
            (Subject::Series(_), Some((check, target))) => format!(" on {target} of {check}"),
            _ => String::new(),
        };
        reason.text = format!("{}{place}: {}", measured_words(criterion), reason.text);
    }
    finding
}

/// The checks and journeys that a requirement is about: named by it, or found.
fn subjects(require: &Requirement, evidence: &Evidence<'_>) -> (Vec<String>, Vec<String>) {
    let mut checks = Vec::new();
    let mut journeys = Vec::new();
    let add = |to: &mut Vec<String>, id: &str| {
        if !to.iter().any(|other| other == id) {
            to.push(id.to_owned());
        }
    };
    for criterion in require.criteria() {
        match &criterion.subject {
            Subject::Journey { journey, .. } => add(&mut journeys, journey),
            Subject::Series(selection) => {
                let list = match LabelNames::of(selection.metric).check {
                    Some("journey") => &mut journeys,
                    _ => &mut checks,
                };
                match selection.resolved().check {
                    Some(check) => add(list, check),
                    None if LabelNames::of(selection.metric).check.is_none() => {
                        add(list, NODE_CHECK)
                    }
                    None => {
                        for track in evidence.tracks.select(selection) {
                            add(list, &track.key.check);
                        }
                    }
                }
            }
        }
    }
    (checks, journeys)
}

struct Judging<'a> {
    gate: &'a Gate,
    evidence: &'a Evidence<'a>,
    before: &'a Standing,
    after: BTreeMap<String, Part>,
    now: Now,
}

impl Judging<'_> {
    fn requirement(&mut self, require: &Requirement, path: &str) -> Finding {
        // All parts are judged, so that each keeps its standing; then one decides.
        let mut judged = |parts: &[Requirement]| -> Vec<Finding> {
            let each = parts.iter().enumerate();
            each.map(|(n, part)| self.requirement(part, &format!("{path}.{n}"))).collect()
        };
        let decides = match require {
            Requirement::Criterion(criterion) => {
                let finding = self.criterion(criterion, path);
                // Where there is but one, the gate says it all.
                let among = !matches!(self.gate.require, Requirement::Criterion(_));
                Some(if among { named(criterion, finding) } else { finding })
            }
            Requirement::Missing(what) => Some(Finding::open(NOT_MEASURED, what.clone())),
            Requirement::Elsewhere { node, member: true, .. } => Some(Finding {
                verdict: Verdict::NotApplicable,
                ..Finding::open(ELSEWHERE, format!("{node} runs and judges this for the fleet"))
            }),
            Requirement::Elsewhere { node, member: false, .. } => Some(Finding::open(
                ELSEWHERE,
                format!(
                    "{node} is to run and judge this for the fleet, of which this node is none: its \
                     name is not under `nodes`"
                ),
            )),
            Requirement::All(parts) => {
                let parts = judged(parts);
                // A part that fails fails the whole, whatever the missing ones would have said.
                let failed = parts.iter().any(|part| part.verdict == Verdict::Fail);
                not_measured(&parts).filter(|_| !failed).or_else(|| worst(parts))
            }
            // Where one way is enough and was taken, another that is missing does not matter.
            Requirement::Any(parts) => {
                let (elsewhere, here): (Vec<_>, Vec<_>) = judged(parts)
                    .into_iter()
                    .partition(|part| part.verdict == Verdict::NotApplicable);
                if here.is_empty() || here.iter().any(|part| part.verdict <= Verdict::Warn) {
                    best(if here.is_empty() { elsewhere } else { here })
                } else {
                    not_measured(&here)
                        .or_else(|| known_elsewhere(&elsewhere, &here))
                        .or_else(|| best(here))
                }
            }
        };
        decides.unwrap_or_else(|| Finding::open("no_criterion", "nothing is required"))
    }

    /// What is asked for is told also where nothing was seen yet.
    fn criterion(&mut self, criterion: &Criterion, path: &str) -> Finding {
        let finding = self.subject(criterion, path);
        let bound = criterion.fails().or(criterion.warn);
        let limit = bound.map(Bound::limit).filter(|limit| limit.is_finite());
        // The newest sample and its age are of no window.
        let windowed = !matches!(criterion.function, Function::Last | Function::Fresh);
        let over = windowed.then_some(criterion.over.as_secs_f64());
        Finding {
            unit: finding.unit.or_else(|| limit.map(|_| criterion.unit())),
            threshold: finding.threshold.or(limit),
            window_seconds: finding.window_seconds.or(over),
            ..finding
        }
    }

    fn subject(&mut self, criterion: &Criterion, path: &str) -> Finding {
        match &criterion.subject {
            _ if criterion.fails().or(criterion.warn).is_none() => {
                Finding::open("no_threshold", "the criterion has no threshold")
            }
            _ if matches!(criterion.function, Function::Fresh | Function::Absent)
                && matches!(criterion.fails().or(criterion.warn), Some(Bound::Above(_))) =>
            {
                Finding::open("no_threshold", "an age and an absence have an upper bound only")
            }
            Subject::Series(selection) => self.series(criterion, selection, path),
            Subject::Journey { journey, stage } => {
                let key = format!("{path}\u{1f}{journey}");
                let found =
                    self.evidence.journeys.iter().find(|record| *record.journey == **journey);
                match found {
                    Some(record) => {
                        let bound = self.bound(criterion, &key);
                        let finding =
                            events::judge(self.gate, criterion, record, *stage, bound, self.now);
                        self.settle(criterion, &key, finding)
                    }
                    None => Finding::open(
                        "no_evidence",
                        format!("no round of journey {journey} was seen yet"),
                    ),
                }
            }
        }
    }

    fn series(&mut self, criterion: &Criterion, selection: &Selection, path: &str) -> Finding {
        let tracks = self.evidence.tracks.select(selection);
        let gone: Vec<_> = self.evidence.tracks.departed(selection).collect();
        let name = selection.metric.series.unwrap_or(selection.metric.name);
        if tracks.is_empty() && gone.is_empty() {
            let text = format!("no attempt that measures {name} was seen yet");
            return Finding::open("no_evidence", text);
        }
        if self.evidence.tracks.incomplete(selection.metric) {
            let text = format!("there are more series of {name} than the agent keeps");
            return Finding::open("too_many_series", text);
        }
        if criterion.pooled && !tracks.is_empty() {
            let key = format!("{path}\u{1f}pooled");
            let bound = self.bound(criterion, &key);
            let finding = self.pooled(criterion, &tracks, bound);
            let finding = self.settle(criterion, &key, finding);
            return finding;
        }
        let mut findings = Vec::with_capacity(tracks.len());
        // What comes and goes with its users holds nothing up before its window is covered, unless there is
        // nothing else.
        let mut young = Vec::new();
        for track in &tracks {
            let key = part_of(path, track);
            let bound = self.bound(criterion, &key);
            let mut finding = self.track(criterion, track, bound);
            finding.worst = Some((track.key.check.to_string(), track.key.target.to_string()));
            if LabelNames::of(track.key.metric).check == Some("journey") {
                finding.first_failing_stage = self.failing_stage(criterion, track, &finding);
            }
            if *track.key.metric == FALSE_ALARMS
                && let (Verdict::Fail, Some(reason)) = (finding.verdict, &mut finding.reason)
            {
                ReasonCode::FalseAlarm.word().clone_into(&mut reason.code);
                reason.text = format!("unexpected for the benign twin: {}", reason.text);
            }
            let finding = self.settle(criterion, &key, finding);
            let holds_up = finding.verdict != Verdict::Open || !track.passing();
            if holds_up { &mut findings } else { &mut young }.push(finding);
        }
        for (since, track) in gone {
            // What came back by the same name has a standing of its own.
            let back = tracks.iter().any(|living| living.key == track.key);
            let key = part_of(path, track);
            let bound = if back { criterion.fails() } else { self.bound(criterion, &key) };
            let Some(finding) = self.of_gone(criterion, track, since, bound) else { continue };
            let finding = if back { finding } else { self.settle(criterion, &key, finding) };
            findings.extend(Some(finding).filter(|finding| finding.verdict != Verdict::Open));
        }
        worst_target(if findings.is_empty() { young } else { findings }).unwrap_or_else(|| {
            let text = format!("nothing measures {name} any more");
            Finding::open("no_evidence", text)
        })
    }

    /// What is gone speaks by what the window still holds of it, and only against. Where only the newest sample
    /// is judged, a device speaks as it was last seen: one that dies is taken away. What was mounted, somebody
    /// unmounted, and how an interface was does not matter any more.
    fn of_gone(
        &self,
        criterion: &Criterion,
        track: &Track,
        since: Mono,
        bound: Option<Bound>,
    ) -> Option<Finding> {
        let device = LabelNames::of(track.key.metric).target == Some("device");
        let mut finding = match criterion.function {
            Function::Fresh => return None,
            Function::Last if !device => return None,
            Function::Last => last(criterion, track, bound, Now { mono: since, ..self.now }),
            _ => {
                let window = self.window(criterion);
                let from = window.start.max(track.cadence().since);
                let covered = since.since(from).min(window.over);
                // More than it left will not come.
                let coverage = Coverage { full: true, covered, missed: 0, under_way: false };
                let samples = Samples::of(track, window, &coverage, criterion.function);
                decide(self.gate, criterion, &samples, &coverage, bound)
            }
        };
        if !matches!(finding.verdict, Verdict::Warn | Verdict::Fail) {
            return None;
        }
        if let Some(reason) = &mut finding.reason {
            reason.text.push_str(&format!("; gone for {}", span(self.now.mono.since(since))));
        }
        finding.worst = Some((track.key.check.to_string(), track.key.target.to_string()));
        Some(finding)
    }

    /// A criterion that asks for load is open where none was declared in its window.
    fn no_load(&self, criterion: &Criterion) -> Option<Finding> {
        let window = self.window(criterion);
        let load = window.load?;
        if !time_in(load, window.start, window.now).is_zero() {
            return None;
        }
        let text = match load.iter().find(|span| span.start > self.now.mono) {
            None => "no load window was declared in the window".to_owned(),
            Some(next) => format!(
                "no load window was declared in the window; the next begins in {}",
                span(next.start.since(self.now.mono))
            ),
        };
        Some(Finding {
            window_seconds: Some(criterion.over.as_secs_f64()),
            ..Finding::open(NO_LOAD, text)
        })
    }

    /// The part of the past that the criterion looks at.
    fn window(&self, criterion: &Criterion) -> Window<'_> {
        let load = criterion.during.map(|During::Load| self.evidence.load);
        Window::ending(self.now, criterion.window()).under(load)
    }

    /// The first failing stage behind a latency that fails: of the journey's own counts where
    /// they tell, else the stage that was slow.
    fn failing_stage(
        &self,
        criterion: &Criterion,
        track: &Track,
        finding: &Finding,
    ) -> Option<crate::journey::Stage> {
        if !matches!(finding.verdict, Verdict::Warn | Verdict::Fail) {
            return None;
        }
        let stage = crate::journey::Stage::parse(&track.key.target);
        let record = self.evidence.journeys.iter().find(|record| record.journey == track.key.check);
        record
            .and_then(|record| {
                events::first_failing_stage(record, Window::ending(self.now, criterion.over))
            })
            .filter(|first| stage.is_none_or(|stage| *first <= stage))
            .or(stage)
    }

    /// The bound that fails now: once failing, the one that clears.
    fn bound(&self, criterion: &Criterion, key: &str) -> Option<Bound> {
        let failing = self.before.parts.get(key).is_some_and(|part| part.failing);
        match criterion.clears {
            Some(clears) if failing => Some(clears),
            _ => criterion.fails(),
        }
    }

    fn track(&self, criterion: &Criterion, track: &Track, bound: Option<Bound>) -> Finding {
        if let Some(open) = self.no_load(criterion) {
            return open;
        }
        let window = self.window(criterion);
        let coverage = Coverage::by(track, window);
        match criterion.function {
            Function::Last => last(criterion, track, bound, self.now),
            Function::Fresh => fresh(self.gate, criterion, &[track], bound, self.now),
            Function::Loss | Function::Duplicates | Function::Complete => {
                Finding::open("no_criterion", "this function is for journeys")
            }
            _ => {
                let samples = Samples::of(track, window, &coverage, criterion.function);
                decide(self.gate, criterion, &samples, &coverage, bound)
            }
        }
    }

    fn pooled(&self, criterion: &Criterion, tracks: &[&Track], bound: Option<Bound>) -> Finding {
        if let Some(open) = self.no_load(criterion) {
            return open;
        }
        let window = self.window(criterion);
        match criterion.function {
            Function::Last => {
                let all = tracks.iter().map(|track| last(criterion, track, bound, self.now));
                worst(all.collect()).unwrap_or_else(|| Finding::open("no_evidence", "no attempt"))
            }
            Function::Fresh => fresh(self.gate, criterion, tracks, bound, self.now),
            _ => {
                let each: Vec<Coverage> =
                    tracks.iter().map(|track| Coverage::by(track, window)).collect();
                let of = |(track, seen): (&&Track, &Coverage)| {
                    Samples::of(track, window, seen, criterion.function)
                };
                let samples: Vec<Samples> = tracks.iter().zip(&each).map(of).collect();
                let samples = Samples::pool(&samples);
                let coverage = Coverage {
                    full: each.iter().all(|coverage| coverage.full),
                    covered: each.iter().map(|coverage| coverage.covered).min().unwrap_or_default(),
                    missed: 0,
                    under_way: each.iter().any(|coverage| coverage.under_way),
                };
                decide(self.gate, criterion, &samples, &coverage, bound)
            }
        }
    }

    /// Applies what needs a memory, and keeps it: hysteresis and "without interruption".
    fn settle(&mut self, criterion: &Criterion, key: &str, mut finding: Finding) -> Finding {
        let before = self.before.parts.get(key).cloned().unwrap_or_default();
        let mut part = Part::default();
        if criterion.clears.is_some() {
            part.failing = match finding.verdict {
                Verdict::Fail => true,
                Verdict::Pass | Verdict::Warn => false,
                // Nothing was learnt: it stays what it was.
                _ => before.failing,
            };
            if before.failing
                && finding.verdict == Verdict::Fail
                && let (Some(value), Some(bound), Some(reason)) =
                    (finding.value, criterion.fails(), finding.reason.as_mut())
                && bound.holds(value)
            {
                reason.code = "not_cleared".to_owned();
                reason.text.push_str("; it failed before and has not cleared");
            }
        }
        if let Some(stable) = criterion.stable_for
            && matches!(finding.verdict, Verdict::Pass | Verdict::Warn)
        {
            let joins = criterion.window().max(JOINS);
            let held = continued(before.held, self.now, joins);
            part.held = Some(held);
            let so_far = Duration::from_nanos(held.nanos);
            if so_far < stable {
                finding.verdict = Verdict::Open;
                finding.reason = Some(Why::new(
                    "not_stable_yet",
                    format!("it has held for {} of {}", span(so_far), span(stable)),
                ));
            }
        }
        if part != Part::default() && self.after.len() < PARTS_LIMIT {
            self.after.insert(key.to_owned(), part);
        }
        finding
    }

    /// What is remembered: of what was judged, and that a target which is out of sight failed.
    fn remember(mut self) -> BTreeMap<String, Part> {
        let judged: Vec<String> = self.after.keys().cloned().collect();
        for (key, part) in &self.before.parts {
            if part.failing
                && self.after.len() < PARTS_LIMIT
                && judged.binary_search(key).is_err()
                && !self.seen(key)
            {
                self.after.insert(key.clone(), Part { failing: true, held: None });
            }
        }
        self.after
    }

    /// Whether the part belongs to a track that is there; then it was judged, and forgotten on
    /// purpose.
    fn seen(&self, key: &str) -> bool {
        let mut words = key.split('\u{1f}').skip(1);
        match (words.next(), words.next()) {
            (Some("pooled"), None) | (None, _) => true,
            (Some(journey), None) => {
                self.evidence.journeys.iter().any(|record| &*record.journey == journey)
            }
            (Some(check), Some(target)) => self
                .evidence
                .tracks
                .iter()
                .any(|track| &*track.key.check == check && &*track.key.target == target),
        }
    }
}

/// What a standing remembers a track by.
fn part_of(path: &str, track: &Track) -> String {
    let mut key = format!("{path}\u{1f}{}\u{1f}{}", track.key.check, track.key.target);
    for label in &track.key.labels {
        key.push('\u{1f}');
        key.push_str(label);
    }
    key
}

/// The time held so far, and the step since the judging before, where that is short enough to be
/// believed. What an earlier boot left, the store has placed on the clock of this one.
fn continued(before: Option<Held>, now: Now, joins: Duration) -> Held {
    let joins = u64::try_from(joins.as_nanos()).unwrap_or(u64::MAX);
    let nanos =
        before.map_or(0, |held| match u64::try_from(now.mono.0.saturating_sub(held.mono)) {
            Ok(forward) if forward <= joins => held.nanos.saturating_add(forward),
            _ => 0,
        });
    Held { nanos, mono: now.mono.0, wall: now.wall.0 }
}

/// The highest verdict, then the smallest margin: it decides and is named.
fn worst(findings: Vec<Finding>) -> Option<Finding> {
    findings.into_iter().reduce(|one, other| if is_worse(&other, &one) { other } else { one })
}

/// The lowest verdict, then the largest margin.
fn best(findings: Vec<Finding>) -> Option<Finding> {
    findings.into_iter().reduce(|one, other| {
        if other.verdict < one.verdict || other.verdict == one.verdict && is_worse(&one, &other) {
            other
        } else {
            one
        }
    })
}

/// The worst target, and in the words of its reason how many more there are like it.
fn worst_target(findings: Vec<Finding>) -> Option<Finding> {
    let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
    let mut worst = worst(findings)?;
    let more = verdicts.iter().filter(|verdict| **verdict == worst.verdict).count() - 1;
    if let (Some(reason), true) = (worst.reason.as_mut(), more > 0)
        && reason.code != NO_LOAD
    {
        reason.text.push_str(&format!(" (and {more} more)"));
    }
    Some(worst)
}

fn is_worse(one: &Finding, other: &Finding) -> bool {
    // Relative to the threshold, so that parts in different units compare. No margin means that
    // there is no finite value: failed attempts decide, which no number is worse than.
    let margin = |finding: &Finding| {
        let scale = finding.threshold.map_or(1.0, f64::abs);
        let scale = if scale > 0.0 { scale } else { 1.0 };
        finding.margin.map_or(f64::NEG_INFINITY, |margin| margin / scale)
    };
    let covered = |finding: &Finding| finding.covered_seconds.unwrap_or(f64::INFINITY);
    one.verdict
        .cmp(&other.verdict)
        .then_with(|| match one.verdict {
            Verdict::Open => covered(other).total_cmp(&covered(one)),
            _ => std::cmp::Ordering::Equal,
        })
        .then_with(|| margin(other).total_cmp(&margin(one)))
        .is_gt()
}

impl Finding {
    /// Whether more time may still decide it: not where a part is not measured at all and all others
    /// have spoken, nor where a condition is not set.
    pub fn may_change(&self) -> bool {
        let settled = [NOT_MEASURED, UNSET, ELSEWHERE];
        match self.verdict {
            Verdict::Open => {
                let reason = self.reason.as_ref();
                self.undecided || !reason.is_some_and(|why| settled.contains(&&*why.code))
            }
            Verdict::Error => true,
            _ => false,
        }
    }
}
