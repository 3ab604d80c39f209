//! `once`: one attempt of a check on each target, or one round of a journey, with all it saw.

use std::fmt::Write;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::check::FORMATS;
use super::output::{self, Format, Output};
use super::run::runtime;
use super::{Failure, Global, PlanArgs, exit, say};
use crate::agent::{clock, rounds, runner};
use crate::client::Clients;
use crate::journey::specimen::Specimen;
use crate::journey::tally::{StageTally, Tally};
use crate::ledger::ClockRow;
use crate::outcome::{Observation, Outcome};
use crate::plan::{Check, Journey, Plan};
use crate::render::sheet::{Line, Sheet, Told};
use crate::render::specimen::plain;
use crate::spec::did_you_mean;
use crate::spec::trace::{Note, Trace};
use crate::time::Mono;

pub(super) struct How {
    pub(super) debug: bool,
    pub(super) any_time: bool,
}

pub(super) fn run(
    global: &Global,
    id: &str,
    plan: &PlanArgs,
    how: How,
    outputs: &[Output],
) -> Result<u8, Failure> {
    let outputs = output::wanted(outputs, &FORMATS)?;
    let (_, plan) = plan.compile(global)?;
    if !how.any_time {
        allowed_now(&plan, id)?;
    }
    // Blocks while a command runs; nothing else goes on yet.
    for fault in plan.load_secrets() {
        say(format_args!("greenlight: {}", fault.text));
    }
    let trace = if how.debug { Trace::on() } else { Trace::off() };
    let (code, lines, text, json) = if let Some(check) = plan.check(id) {
        let seen = runtime()?.block_on(attempts(check, &plan, &trace));
        if seen.is_empty() {
            say(format_args!("greenlight: {id} has no target: no peer is selected"));
        }
        let code = seen
            .iter()
            .map(|(seen, _)| code(&seen.reading.outcome))
            .max()
            .unwrap_or(exit::INCOMPLETE);
        (worst(&seen, code), check_lines(&seen), check_text(&seen), check_json(check, &seen))
    } else if let Some(journey) = plan.journey(id) {
        let began = Mono::now();
        let round = rounds::once(journey, &plan.secrets, &trace);
        let (tally, specimen) = runtime()?.block_on(round).map_err(|fault| Failure {
            code: exit::INCOMPLETE,
            text: format!("the round could not begin: {fault}"),
        })?;
        let notes = trace.take();
        (
            journey_code(&tally),
            journey_lines(&tally),
            journey_text(journey, &tally, how.debug.then_some(&specimen), began, &notes),
            journey_json(journey, &tally, &specimen, began, &notes),
        )
    } else {
        let ids = || {
            plan.checks
                .iter()
                .map(|check| &*check.id)
                .chain(plan.journeys.iter().map(|journey| &*journey.id))
        };
        let hint = match did_you_mean(id, ids()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("it has {}", ids().collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::usage(format!("the plan has no check and no journey `{id}`; {hint}")));
    };
    let sheet = Sheet { title: format!("greenlight once {id}"), lines, text };
    output::write(&outputs, |format, _| match format {
        Format::Json => format!("{json:#}"),
        form => sheet.render(form),
    })?;
    Ok(code)
}

/// What disturbs a platform is not begun by mistake either.
fn allowed_now(plan: &Plan, id: &str) -> Result<(), Failure> {
    let check = plan.check(id).map(|check| &check.allowed_times);
    let times = check.or_else(|| plan.journey(id).map(|journey| &journey.allowed_times));
    match times {
        Some(times) if !times.allow(clock::now().wall) => Err(Failure {
            code: exit::INCOMPLETE,
            text: format!("{id} runs only in its allowed times, {times}; `--any-time` runs it now"),
        }),
        _ => Ok(()),
    }
}

type Seen = (Observation, Vec<Note>);

async fn attempts(check: &Check, plan: &Plan, trace: &Trace) -> Vec<Seen> {
    let clients = Clients::default();
    clients.inbox().close();
    clients.keep_time(crate::agent::clock::wall);
    let mut seen = Vec::new();
    for target in check.resolve(&plan.peers) {
        let cancel = CancellationToken::new();
        let observation = runner::attempt(check, &target, &clients, trace, &cancel).await;
        seen.push((observation, trace.take()));
    }
    seen
}

fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Success => exit::SUCCESS,
        Outcome::Failure(_) => exit::FAILURE,
        Outcome::Inconclusive(_) => exit::INCOMPLETE,
    }
}

/// A failure on one target is a failure, whatever could not be measured on another.
fn worst(seen: &[Seen], highest: u8) -> u8 {
    let failed = seen.iter().any(|(seen, _)| matches!(seen.reading.outcome, Outcome::Failure(_)));
    if failed { exit::FAILURE } else { highest }
}

fn check_lines(seen: &[Seen]) -> Vec<Line> {
    let line = |(seen, _): &Seen| {
        let told = match &seen.reading.outcome {
            Outcome::Success => Told::Success,
            Outcome::Failure(_) => Told::Failure,
            Outcome::Inconclusive(_) => Told::Error,
        };
        let why = seen.reading.outcome.why();
        let why = why.map(|(code, text)| format!("{code}: {text}")).unwrap_or_default();
        Line { name: format!("{} {}", seen.check, seen.target), told, why }
    };
    seen.iter().map(line).collect()
}

fn check_text(seen: &[Seen]) -> String {
    let mut text = String::new();
    for (seen, notes) in seen {
        notes_text(&mut text, seen.at.mono, notes);
        let _ = writeln!(
            text,
            "{} {}: {} in {}",
            seen.check,
            seen.target,
            seen.reading.outcome.word(),
            milliseconds(seen.took.as_secs_f64())
        );
        if let Some((code, why)) = seen.reading.outcome.why() {
            let _ = writeln!(text, "  {code}: {why}");
        }
        for sample in &seen.reading.samples {
            let labels: String = sample.labels.iter().map(|label| format!(" {label}")).collect();
            let name = sample.metric.series.unwrap_or(sample.metric.name);
            let _ =
                writeln!(text, "  {name}{labels} {} {}", sample.value, sample.metric.unit.word());
        }
    }
    text
}

fn notes_text(text: &mut String, began: Mono, notes: &[Note]) {
    for (at, note) in notes {
        let _ = writeln!(text, "{:>12}  {note}", milliseconds(at.since(began).as_secs_f64()));
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3} ms", seconds * 1e3)
}

fn check_json(check: &Check, seen: &[Seen]) -> Value {
    let targets: Vec<Value> = seen
        .iter()
        .map(|(seen, notes)| {
            json!({
                "target": &*seen.target,
                "at": seen.at.wall.rfc3339(),
                "duration_seconds": seen.took.as_secs_f64(),
                "outcome": seen.reading.outcome.word(),
                "reason": seen.reading.outcome.why().map(|(code, text)| json!({ "code": code, "text": text })),
                "samples": seen.reading.samples.iter().map(|sample| json!({
                    "series": sample.metric.series,
                    "metric": sample.metric.name,
                    "labels": sample.labels,
                    "value": sample.value,
                    "unit": sample.metric.unit.word(),
                })).collect::<Vec<_>>(),
                "debug": notes_json(seen.at.mono, notes),
            })
        })
        .collect();
    json!({ "id": &*check.id, "kind": check.probe.kind(), "targets": targets })
}

fn notes_json(began: Mono, notes: &[Note]) -> Value {
    notes
        .iter()
        .map(|(at, note)| json!({ "after_seconds": at.since(began).as_secs_f64(), "text": note }))
        .collect()
}

fn stage_told(stage: &StageTally) -> Told {
    if stage.failed() > 0 || stage.duplicate > 0 || stage.false_alarms() > 0 {
        return Told::Failure;
    }
    let all_known =
        stage.known() == stage.expected && stage.expected > 0 && stage.untold_alarms() == 0;
    if all_known { Told::Success } else { Told::Error }
}

fn journey_code(tally: &Tally) -> u8 {
    let told = |told| tally.stages.iter().any(|stage| stage_told(stage) == told);
    match (told(Told::Failure), told(Told::Error) || tally.stages.is_empty()) {
        (true, _) => exit::FAILURE,
        (false, true) => exit::INCOMPLETE,
        (false, false) => exit::SUCCESS,
    }
}

fn fates(stage: &StageTally) -> String {
    let found = stage.fates.iter().filter(|(_, count)| **count > 0);
    let mut told: Vec<_> = found.map(|(fate, count)| format!("{count} {}", fate.word())).collect();
    if stage.duplicate > 0 {
        told.push(format!("{} duplicate", stage.duplicate));
    }
    told.join(", ")
}

fn journey_lines(tally: &Tally) -> Vec<Line> {
    let line = |stage: &StageTally| {
        let why = stage.reason.iter().fold(fates(stage), |told, why| format!("{told}; {why}"));
        Line { name: stage.stage.word().to_owned(), told: stage_told(stage), why }
    };
    tally.stages.iter().map(line).collect()
}

fn journey_text(
    journey: &Journey,
    tally: &Tally,
    specimen: Option<&Specimen>,
    began: Mono,
    notes: &[Note],
) -> String {
    let mut text = String::new();
    notes_text(&mut text, began, notes);
    if let Some(specimen) = specimen {
        text.push_str(&plain(specimen));
    }
    let _ = writeln!(text, "{}", journey.id);
    for stage in &tally.stages {
        let latency = stage
            .latency()
            .map(|p| format!("  p50 {}  max {}", milliseconds(p.p50), milliseconds(p.max)))
            .unwrap_or_default();
        let _ = writeln!(text, "  {:<9} {}{latency}", stage.stage.word(), fates(stage));
        if let Some(reason) = &stage.reason {
            let _ = writeln!(text, "            {reason}");
        }
        if let Some(rule) = &stage.rule {
            let _ = writeln!(text, "            {rule}");
        }
        if let Some(exhibit) = &stage.exhibit {
            let _ = writeln!(text, "            {exhibit}");
        }
        if let Some(edges) = &stage.edges {
            let came = match (edges.beyond, edges.missed, &edges.reason) {
                (0, 0, Some(reason)) => reason.as_str(),
                (0, 0, None) => "as the rule says",
                (0, ..) => "what is inside brought no alert",
                _ => "what is outside brought an alert",
            };
            let _ = writeln!(text, "            the edges of the look-back: {came}");
        }
        if let Some(twin) = &stage.twin {
            let came = match (twin.false_alarms, &twin.reason) {
                (0, Some(reason)) => reason.as_str(),
                (0, None) => "brought nothing about",
                _ => "brought about what it must not",
            };
            let _ = writeln!(text, "            the benign twin: {came}");
        }
    }
    match (tally.first_failing_stage(), tally.first_repeating_stage()) {
        (Some(stage), _) => {
            let _ = writeln!(text, "first failing stage: {}", stage.word());
        }
        (None, Some(stage)) => {
            let first = stage.word();
            let _ = writeln!(text, "no stage failed, but further copies came, first at {first}");
        }
        (None, None) if journey_code(tally) == exit::SUCCESS => {
            text.push_str("every event arrived at every stage\n")
        }
        (None, None) => text.push_str("no stage failed, but not every event could be followed\n"),
    }
    text
}

fn journey_json(
    journey: &Journey,
    tally: &Tally,
    specimen: &Specimen,
    began: Mono,
    notes: &[Note],
) -> Value {
    json!({
        "id": &*journey.id,
        "first_failing_stage": tally.first_failing_stage(),
        "stages": tally.stages.iter().map(|stage| json!({
            "name": stage.stage,
            "expected": stage.expected,
            "fates": stage.fates,
            "duplicate": stage.duplicate,
            "latency_seconds": stage.latency(),
            "clock_offset_seconds": stage.clock.map(ClockRow::from),
            "twin": stage.twin,
            "edges": stage.edges,
            "rule": stage.rule,
            "exhibit": stage.exhibit,
            "reason": stage.reason,
        })).collect::<Vec<_>>(),
        "specimen": specimen,
        "debug": notes_json(began, notes),
    })
}
