//! The report as one HTML file: readable without a script, in light and dark, on paper and on a
//! telephone; it asks nobody for anything.
//!
//! Its blocks are also those of the page at `/`.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::history::History;
use super::quantity::{count, quantity};
use super::sections::{
    Attempts, because, capital, checks_sentence, counts, evidence, groups, notes, parts, repeats,
    troubled, value_and_threshold, worst,
};
use super::text::{brief, clean, plural};
use super::{glyph, verdict};
use crate::gate::Verdict;
use crate::ledger::{Document, GateRow};

mod journeys;
mod spark;
mod specimen;

const STYLE: &str = include_str!("style.css");

pub fn report(document: &Document, banner: Option<&str>) -> String {
    let body = html! {
        main {
            (body(document, &History::default(), banner))
        }
    };
    shell(document, policy(), &body).into_string()
}

/// A document around its body.
pub(super) fn shell(document: &Document, head: Markup, body: &Markup) -> Markup {
    let title =
        format!("{} · {} · Greenlight", document.decision.headline(), clean(&document.node.name));
    framed(&title, head, &head_of_sheets(document), body)
}

/// A body as a page of its own; `more` goes after the style that all pages have.
pub(super) fn framed(title: &str, head: Markup, more: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                (head)
                title { (title) }
                // An empty icon, so that no browser asks for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) (PreEscaped(more)) }
            }
            body { (body) }
        }
    }
}

/// Nothing is loaded from anywhere, whatever a reason's text says.
pub(super) fn policy() -> Markup {
    html! { meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"; }
}

/// What stands above every printed sheet: a sheet alone must say of what it is.
fn head_of_sheets(document: &Document) -> String {
    let name = format!("{} · {}", document.decision.headline(), document.node.name);
    let of = format!("{} · plan {}", readable(&document.finished_at), short(&document.plan.digest));
    format!("@page{{@top-left{{content:{}}}@top-right{{content:{}}}}}", quoted(&name), quoted(&of))
}

/// A string of CSS. What is no plain letter is written as its number, so that no text ends it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in clean(text).chars() {
        if c.is_alphanumeric() || " -.:·".contains(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\{:x} ", u32::from(c)));
        }
    }
    out + "\""
}

/// All blocks of a report.
pub(super) fn body(document: &Document, history: &History, banner: Option<&str>) -> Markup {
    html! {
        @if let Some(banner) = banner { p.banner role="note" { (clean(banner)) } }
        (hero(document))
        @let [counting, optional] = parts(document);
        @if document.gates.is_empty() || !counting.is_empty() {
            (gates("Gates", "", &counting, history, &document.node.name))
        }
        (journeys::journeys(document))
        @if !optional.is_empty() { (gates("Optional gates", OPTIONAL, &optional, history, &document.node.name)) }
        (checks(document))
        (foot(document))
    }
}

fn hero(document: &Document) -> Markup {
    html! {
        header.hero.{ "d-" (document.decision.word()) } {
            div.decision {
                p.kicker { "Go-live report · " (clean(&document.node.name)) }
                h1 { (document.decision.headline()) }
                p.because { (capital(&because(document))) "." }
            }
            dl.facts {
                div { dt { "Judged" } dd { (time(&document.finished_at)) } }
                div { dt { "Since" } dd { (time(&document.started_at)) } }
                div { dt { "Plan" } dd { code title=(clean(&document.plan.digest)) { (short(&document.plan.digest)) } } }
                @for (key, value) in &document.node.labels {
                    div { dt { (clean(key)) } dd { (clean(value)) } }
                }
            }
            (strip(document))
        }
    }
}

/// The share of each verdict, as a bar and in words.
fn strip(document: &Document) -> Markup {
    html! {
        @if !document.gates.is_empty() {
            div.strip aria-hidden="true" {
                @for (of, gates) in groups(document) {
                    span.{ "v-" (of.word()) } style={ "flex-grow:" (gates.len()) } {}
                }
            }
            ul.counts {
                @for (of, gates) in groups(document) {
                    li.{ "v-" (of.word()) } {
                        @let front = if gates.iter().any(|gate| counts(gate)) { "" } else { OPTIONAL };
                        a href={ "#" (front) (of.word()) } {
                            (sign(of)) b { (gates.len()) } " " (verdict(of))
                        }
                    }
                }
            }
        }
    }
}

fn sign(of: Verdict) -> Markup {
    html! { span.sign aria-hidden="true" { (glyph(of)) } }
}

/// Goes before the anchors of the optional gates.
const OPTIONAL: &str = "optional-";

fn gates(
    title: &str,
    anchor: &str,
    groups: &[(Verdict, Vec<&GateRow>)],
    history: &History,
    node: &str,
) -> Markup {
    let number: usize = groups.iter().map(|(_, gates)| gates.len()).sum();
    html! {
        section.gates {
            h2 { (title) " " small { (plural(number, "criterion").replace("criterions", "criteria")) } }
            @if groups.is_empty() { p.empty { "The plan has no gate." } }
            @for (of, gates) in groups {
                @let of = *of;
                div.group.{ "v-" (of.word()) } id={ (anchor) (of.word()) } {
                    h3 { (sign(of)) (capital(verdict(of))) " " span.n { (gates.len()) } }
                    @for row in gates { (gate(row, history, node)) }
                }
            }
        }
    }
}

/// One gate. What needs nobody's attention is set smaller, never left out.
fn gate(gate: &GateRow, history: &History, node: &str) -> Markup {
    let quiet = matches!(gate.verdict, Verdict::Pass | Verdict::NotApplicable)
        || (gate.verdict == Verdict::Open && !counts(gate));
    let told = !matches!(gate.verdict, Verdict::Pass | Verdict::NotApplicable);
    let number = gate.value.is_some() || gate.threshold.is_some() || gate.samples > 0;
    html! {
        article.gate.quiet[quiet].wide[!number].{ "v-" (gate.verdict.word()) }
            id={ "gate-" (clean(&gate.id)) } {
            div.what {
                h4 { (clean(&gate.title)) }
                p.id {
                    code { (clean(&gate.id)) }
                    span.level { (gate.level.word()) }
                    @for line in &gate.refs { span.ref { (clean(line)) } }
                }
                @if !repeats(gate) { p.criterion { (capital(&clean(&gate.criterion))) "." } }
                @if let Some(reason) = &gate.reason {
                    p.reason { b { (clean(&reason.code)) } " " (typed(&brief(&reason.text))) }
                }
                @if let Some(stage) = gate.first_failing_stage {
                    p.detail { b { "First failing stage " } (stage.word()) }
                }
                // Of the node there is but one.
                @if let Some(worst) = worst(gate)
                    && gate.worst.as_ref().is_some_and(|worst| worst.target != node) {
                    p.detail { b { "Worst " } (clean(&worst)) }
                }
                @if told {
                    @if let Some(why) = &gate.why { p.detail { b { "Why " } (typed(&clean(why))) } }
                    @if let Some(fix) = &gate.fix { p.detail { b { "To do " } (typed(&clean(fix))) } }
                }
            }
            @if number { (measure(gate, history)) }
        }
    }
}

/// The number: value, threshold, how far apart, from how much.
fn measure(gate: &GateRow, history: &History) -> Markup {
    let (value, threshold) = value_and_threshold(gate);
    let points = history.of(&gate.id);
    html! {
        div.measure {
            @match &value {
                Some(value) => p.value { (value) },
                None => p.value.unknown { "not measured" },
            }
            @if let Some(threshold) = &threshold {
                p.threshold {
                    span { "against " (threshold) }
                    @if let Some(margin) = margin(gate) { " " span { (margin) } }
                }
            }
            (meter(gate))
            (spark::line(&points, gate.threshold))
            @let evidence = evidence(gate);
            @if !evidence.is_empty() { p.evidence { (evidence.join(", ")) } }
        }
    }
}

fn margin(gate: &GateRow) -> Option<String> {
    let margin = gate.margin.filter(|margin| *margin != 0.0)?;
    let size = quantity(margin.abs(), gate.unit.as_deref());
    Some(if margin > 0.0 { format!("{size} to spare") } else { format!("{size} beyond") })
}

/// Where the value is on a scale with the threshold.
fn meter(gate: &GateRow) -> Markup {
    let scale = match (gate.value, gate.threshold) {
        (Some(value), Some(threshold)) if value >= 0.0 && threshold >= 0.0 => {
            let most = value.max(threshold);
            let whole = gate.unit.as_deref() == Some("ratio") && most <= 1.0 && most > 0.2;
            let end = if whole { 1.0 } else { most * 1.25 };
            (end > 0.0 && end.is_finite()).then(|| (100.0 * value / end, 100.0 * threshold / end))
        }
        _ => None,
    };
    html! {
        @if let Some((value, threshold)) = scale {
            div.meter aria-hidden="true" {
                i style={ "width:" (format!("{value:.1}")) "%" } {}
                s style={ "left:" (format!("{threshold:.1}")) "%" } {}
            }
        }
    }
}

fn checks(document: &Document) -> Markup {
    html! {
        @if !document.checks.is_empty() {
            section.checks {
                h2 { "Checks " small { (capital(&checks_sentence(document))) } }
                div.scroll {
                    table {
                        thead { tr { th { "Check" } th { "Kind" } th.num { "Targets" } th { "Last attempts" } } }
                        tbody {
                            @for check in &document.checks {
                                @let attempts = Attempts::of(&check.targets);
                                @let of = worst_of(attempts);
                                tr.{ "v-" (of.word()) } {
                                    td { (sign(of)) code { (clean(&check.id)) } }
                                    td { (clean(&check.kind)) }
                                    td.num { (check.targets.len()) }
                                    td { (attempts.sentence()) }
                                }
                                @for (target, note) in notes(check) {
                                    tr { td colspan="4" { b { (clean(target)) } " " (brief(note)) } }
                                }
                                @for target in troubled(check) {
                                    @if let Some(last) = &target.last {
                                        tr.trouble {
                                            td colspan="4" {
                                                b { (clean(&target.target)) }
                                                " " span.when { (last.outcome) " at " (time(&last.at)) }
                                                @if let Some(reason) = &last.reason {
                                                    br; code { (clean(&reason.code)) } " " (brief(&reason.text))
                                                }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The verdict whose colour and sign a check's row wears.
fn worst_of(attempts: Attempts) -> Verdict {
    match attempts {
        Attempts { failure: 1.., .. } => Verdict::Fail,
        Attempts { inconclusive: 1.., .. } => Verdict::Error,
        Attempts { none: 1.., .. } | Attempts { success: 0, .. } => Verdict::Open,
        _ => Verdict::Pass,
    }
}

fn foot(document: &Document) -> Markup {
    html! {
        footer {
            dl {
                div { dt { "Plan digest" } dd { code { (clean(&document.plan.digest)) } } }
                @if !document.plan.sources.is_empty() {
                    div { dt { "Made of" } dd { (clean(&document.plan.sources.join(", "))) } }
                }
                div { dt { "Tool" } dd { (clean(&document.tool.name)) " " (clean(&document.tool.version)) } }
            }
            p.legend {
                @for of in super::SEVERITY {
                    span.{ "v-" (of.word()) } { (sign(of)) (verdict(of)) }
                }
            }
        }
    }
}

/// Text in which what stands between backquotes is to be typed.
fn typed(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    // One backquote without its partner is a backquote.
    if parts.len().is_multiple_of(2) {
        return html! { (text) };
    }
    html! {
        @for (at, part) in parts.iter().enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn time(text: &str) -> Markup {
    html! { time datetime=(clean(text)) { (readable(text)) } }
}

/// `2026-11-22 18:20:03 UTC` of RFC 3339; other text as it is.
fn readable(text: &str) -> String {
    let text = clean(text);
    let parts = text.strip_suffix('Z').and_then(|text| text.split_once('T'));
    let readable =
        parts.map(|(day, time)| format!("{day} {} UTC", time.split('.').next().unwrap_or(time)));
    readable.unwrap_or_else(|| text.to_string())
}

/// The front of a digest: enough to tell two apart by eye.
fn short(digest: &str) -> String {
    clean(digest).chars().take(12).collect()
}

pub(super) fn number(value: u64) -> Markup {
    html! { @if value == 0 { span.zero { "0" } } @else { (count(value)) } }
}
