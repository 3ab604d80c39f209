//! The report as Markdown (GitHub's dialect), for tickets and merge requests.

use super::quantity::{count, quantity};
use super::sections::{
    because, beside, capital, checks_sentence, evidence, fate_count, groups, node, notes,
    other_fates, tally, troubled, use_case, value_and_threshold, worst,
};
use super::text::{brief, clean};
use super::{glyph, verdict};
use crate::gate::Verdict;
use crate::journey::Fate;
use crate::ledger::{Document, GateRow, JourneyRow};

pub fn report(document: &Document, banner: Option<&str>) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!("# {}: {}", document.decision.headline(), escape(&document.node.name)));
    line("");
    if let Some(banner) = banner {
        line(&format!("> {}", escape(banner)));
        line("");
    }
    line(&format!("**{}.** {}.", capital(&because(document)), capital(&tally(document))));
    line("");
    line(&format!("- Node: {}", escape(&node(document))));
    line(&format!("- From {} to {}", escape(&document.started_at), escape(&document.finished_at)));
    line(&format!("- Plan: `{}`", code(&document.plan.digest)));
    line(&format!("- Made by {} {}", escape(&document.tool.name), escape(&document.tool.version)));
    line("");
    line("## Gates");
    line("");
    if document.gates.is_empty() {
        line("The plan has no gate.");
    } else {
        line("| | Gate | Level | Requirement | Value | Threshold | Why |");
        line("|---|---|---|---|---:|---:|---|");
        for (_, gates) in groups(document) {
            for gate in gates {
                line(&row(gate));
            }
        }
    }
    for journey in &document.journeys {
        journey_table(journey, &mut line);
    }
    if !document.checks.is_empty() {
        line("");
        line("## Checks");
        line("");
        line(&format!("{}.", capital(&escape(&checks_sentence(document)))));
        for (check, (target, note)) in
            document.checks.iter().flat_map(|check| notes(check).map(move |note| (check, note)))
        {
            let told = format!("{} on {target}: {note}", check.id);
            line("");
            line(&format!("- {}", escape(&brief(&told))));
        }
        let mut first = true;
        for check in &document.checks {
            for target in troubled(check) {
                let Some(last) = &target.last else { continue };
                if std::mem::take(&mut first) {
                    line("");
                    line("| Check | Kind | Target | Outcome | Why |");
                    line("|---|---|---|---|---|");
                }
                let why = last.reason.as_ref();
                let why =
                    why.map(|why| format!("`{}`: {}", code(&why.code), escape(&brief(&why.text))));
                line(&format!(
                    "| {} | {} | {} | {} | {} |",
                    escape(&check.id),
                    escape(&check.kind),
                    escape(&target.target),
                    last.outcome,
                    why.unwrap_or_default()
                ));
            }
        }
    }
    out
}

fn row(gate: &GateRow) -> String {
    let (value, threshold) = value_and_threshold(gate);
    let refs = match gate.refs.is_empty() {
        true => String::new(),
        false => format!(" ({})", escape(&gate.refs.join(", "))),
    };
    let mut why = Vec::new();
    if let Some(reason) = &gate.reason {
        why.push(format!("`{}`: {}", code(&reason.code), escape(&brief(&reason.text))));
    }
    if let Some(stage) = gate.first_failing_stage {
        why.push(format!("first failing stage: {}", stage.word()));
    }
    if let Some(worst) = worst(gate) {
        why.push(format!("worst: {}", escape(&worst)));
    }
    why.extend(evidence(gate));
    if let Some(fix) = gate.fix.as_ref().filter(|_| gate.verdict == Verdict::Fail) {
        why.push(format!("to do: {}", escape(fix)));
    }
    format!(
        "| {} {} | `{}`<br>{}{refs} | {} | {} | {} | {} | {} |",
        glyph(gate.verdict),
        verdict(gate.verdict),
        code(&gate.id),
        escape(&gate.title),
        gate.level.word(),
        escape(&gate.criterion),
        value.unwrap_or_else(|| String::from("–")),
        threshold.unwrap_or_else(|| String::from("–")),
        why.join("; ")
    )
}

fn journey_table(journey: &JourneyRow, line: &mut impl FnMut(&str)) {
    let rounds = if journey.rounds == 1 { "round" } else { "rounds" };
    line("");
    line(&format!("## Journey `{}`", code(&journey.id)));
    line("");
    let failing = journey.first_failing_stage;
    let failing_text =
        failing.map(|stage| format!(" The first failing stage is **{}**.", stage.word()));
    line(&format!("{} {rounds}.{}", count(journey.rounds), failing_text.unwrap_or_default()));
    if let Some(of) = &journey.usecase {
        line("");
        line(&format!("{}.", escape(&use_case(of))));
    }
    line("");
    line("| Stage | Expected | Ok | Late | Lost | Others | Duplicates | p50 | p95 | p99 |");
    line("|---|---:|---:|---:|---:|---|---:|---:|---:|---:|");
    for stage in &journey.stages {
        let latency =
            |p: Option<f64>| p.map_or_else(|| String::from("–"), |p| quantity(p, Some("seconds")));
        let mark = if Some(stage.name) == failing { "✗ " } else { "" };
        line(&format!(
            "| {mark}{} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            stage.name.word(),
            count(stage.expected),
            count(fate_count(stage, Fate::Ok)),
            count(fate_count(stage, Fate::Late)),
            count(fate_count(stage, Fate::Lost)),
            other_fates(stage).unwrap_or_default(),
            count(stage.duplicate),
            latency(stage.latency_seconds.p50),
            latency(stage.latency_seconds.p95),
            latency(stage.latency_seconds.p99),
        ));
    }
    let mut first = true;
    for stage in &journey.stages {
        let reason = stage.reason.iter().map(|reason| (true, brief(reason)));
        for (bad, text) in reason.chain(beside(stage)) {
            if std::mem::take(&mut first) {
                line("");
            }
            let mark = if bad { "✗ " } else { "" };
            line(&format!("- {mark}{}: {}", stage.name.word(), escape(&text)));
        }
    }
}

/// Text that Markdown shows as it is: in a table's cell, in one line, without links or HTML.
pub(super) fn escape(text: &str) -> String {
    let text = clean(text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('<', _) => out.push_str("&lt;"),
            ('>', _) => out.push_str("&gt;"),
            ('&', _) => out.push_str("&amp;"),
            // A mention or the number of an issue would notify somebody.
            ('@', _) => out.push_str("&#64;"),
            ('#', Some('0'..='9')) => out.push_str("&#35;"),
            // A bare address would become a link.
            (':', Some('/')) => out.push_str("&#58;"),
            ('\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~', _) => {
                out.push('\\');
                out.push(c);
            }
            (c, _) => out.push(c),
        }
    }
    out.replace("www.", "www&#46;")
}

/// Text between backquotes, in a table's cell.
fn code(text: &str) -> String {
    clean(text).replace('`', "'").replace('|', "\\|")
}
