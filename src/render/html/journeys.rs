//! Journeys as waterfalls: where the time goes, stage by stage, and where events are lost.

use maud::{Markup, html};

use super::number;
use super::specimen::specimen;
use crate::gate::Verdict;
use crate::journey::{Fate, Stage};
use crate::ledger::{Document, JourneyRow, StageRow};
use crate::render::glyph;
use crate::render::quantity::{count, quantity};
use crate::render::sections::{beside, capital, fate_count, use_case};
use crate::render::text::clean;

/// Fates with a column of their own; the others have one where some stage has them.
const ALWAYS: [Fate; 3] = [Fate::Ok, Fate::Late, Fate::Lost];

pub(super) fn journeys(document: &Document) -> Markup {
    html! {
        @if !document.journeys.is_empty() {
            section.journeys {
                h2 {
                    "Journeys "
                    small { "from the intended send to the arrival at each stage" }
                }
                @for row in &document.journeys { (journey(row)) }
            }
        }
    }
}

fn journey(journey: &JourneyRow) -> Markup {
    let failing = journey.first_failing_stage;
    // A journey without a decided event has shown nothing yet.
    let decided = journey.stages.iter().any(|stage| stage.expected > 0);
    let of = match (failing, decided) {
        (Some(_), _) => Verdict::Fail,
        (None, true) => Verdict::Pass,
        (None, false) => Verdict::Open,
    };
    html! {
        article.journey.{ "v-" (of.word()) } {
            h3 {
                span.sign aria-hidden="true" { (glyph(of)) }
                (clean(&journey.id)) " "
                span.n {
                    (count(journey.rounds)) @if journey.rounds == 1 { " round" } @else { " rounds" }
                    @if let Some(stage) = failing { ", first fails at " b { (stage.word()) } }
                }
            }
            @if let Some(of) = &journey.usecase { p.usecase { (use_case(of)) } }
            (waterfall(journey))
            (table(journey))
            (notes(journey))
            @if let Some(of) = &journey.specimen { (specimen(&journey.id, of)) }
        }
    }
}

/// The end of the axis: the slowest stage's p95, or its median where there is no p95.
fn end(journey: &JourneyRow) -> f64 {
    let latest = |stage: &StageRow| {
        let latency = stage.latency_seconds;
        latency.p95.or(latency.p50).filter(|p| p.is_finite()).unwrap_or(0.0)
    };
    journey.stages.iter().map(latest).fold(0.0, f64::max)
}

fn waterfall(journey: &JourneyRow) -> Markup {
    let end = end(journey);
    let share = |seconds: f64| (100.0 * seconds / end).clamp(0.0, 100.0);
    let mut before = 0.0_f64;
    html! {
        @if end > 0.0 {
            div.waterfall {
                @for stage in &journey.stages {
                    @let latency = stage.latency_seconds;
                    @let first = Some(stage.name) == journey.first_failing_stage;
                    div.bar.first[first].after[after(stage.name, journey)] {
                        span.stage { (stage.name.word()) }
                        div.track {
                            @if let Some(p50) = latency.p50 {
                                @let from = share(before.min(p50));
                                @let to = share(p50);
                                @let tail = share(latency.p95.unwrap_or(p50)) - to;
                                i style={ "left:" (percent(from)) ";width:" (percent(to - from)) } {}
                                u style={ "left:" (percent(to)) ";width:" (percent(tail.max(0.0))) } {}
                            }
                        }
                        span.time {
                            @match (latency.p50, latency.p95) {
                                (Some(p50), Some(p95)) => {
                                    b { (seconds(p50)) } " / " (seconds(p95))
                                },
                                (Some(p50), None) => b { (seconds(p50)) },
                                // An acknowledgement tells nothing of when the event was handed over.
                                _ if fate_count(stage, Fate::Ok) > 0 => span.zero { "not timed" },
                                _ => span.zero { "nothing arrived" },
                            }
                        }
                    }
                    @let () = before = before.max(latency.p50.unwrap_or(0.0));
                }
                div.bar.axis {
                    span.stage {}
                    div.track { span { "0" } span { (seconds(end)) } }
                    span.time { "p50 / p95" }
                }
            }
        }
    }
}

/// Whether a stage is behind the first failing one: what it lacks was lost before.
fn after(stage: Stage, journey: &JourneyRow) -> bool {
    journey.first_failing_stage.is_some_and(|failing| stage > failing)
}

fn table(journey: &JourneyRow) -> Markup {
    let others: Vec<Fate> = Fate::ALL
        .into_iter()
        .filter(|fate| !ALWAYS.contains(fate))
        .filter(|fate| journey.stages.iter().any(|stage| fate_count(stage, *fate) > 0))
        .collect();
    let columns = || ALWAYS.into_iter().chain(others.iter().copied());
    let unwanted = |stage: &StageRow, fate| fate != Fate::Ok && fate_count(stage, fate) > 0;
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "Stage" }
                        th.num { "Expected" }
                        @for fate in columns() {
                            th.num { (capital(&fate.word().replace('_', "-"))) }
                        }
                        th.num { "Duplicate" }
                        th.num { "p99" }
                        th.num title="with 95 % confidence" { "Loss at most" }
                    }
                }
                tbody {
                    @for stage in &journey.stages {
                        @let first = Some(stage.name) == journey.first_failing_stage;
                        tr.first[first] {
                            td { (stage.name.word()) @if first { " " span.mark { "first failing" } } }
                            td.num { (number(stage.expected)) }
                            @for fate in columns() {
                                td.num.bad[unwanted(stage, fate)].ours[matches!(fate, Fate::Unknown | Fate::Inconclusive)] { (number(fate_count(stage, fate))) }
                            }
                            td.num.bad[stage.duplicate > 0] { (number(stage.duplicate)) }
                            td.num { (stage.latency_seconds.p99.map_or_else(dash, seconds)) }
                            td.num {
                                (stage.loss_upper_bound_95.map_or_else(dash, |share| quantity(share, Some("ratio"))))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Why a stage is not as it should be, and what it showed when it was asked again.
fn notes(journey: &JourneyRow) -> Markup {
    let lines: Vec<(&StageRow, bool, String)> = journey
        .stages
        .iter()
        .flat_map(|stage| {
            // Behind the first failing stage, what is lacking was lost before.
            let first = !after(stage.name, journey);
            let reason = stage.reason.iter().map(move |reason| (first, clean(reason)));
            reason.chain(beside(stage)).map(move |(bad, text)| (stage, bad, text))
        })
        .collect();
    html! {
        @if !lines.is_empty() {
            ul.notes {
                @for (stage, bad, text) in &lines {
                    li { b.bad[*bad] { (stage.name.word()) } " " (text) }
                }
            }
        }
    }
}

fn dash() -> String {
    String::from("–")
}

fn seconds(value: f64) -> String {
    quantity(value, Some("seconds"))
}

fn percent(share: f64) -> String {
    format!("{share:.2}%")
}
