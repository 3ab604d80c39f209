//! One event as it was sent and as each stage showed it, below each other, the difference marked.

use maud::{Markup, html};

use crate::journey::Stage;
use crate::journey::specimen::{Is, Shown, Specimen, Text};
use crate::render::specimen::{fate, more, nothing, title};
use crate::render::text::{clean, spelt_out};

/// Open where something is wrong with it.
pub(super) fn specimen(journey: &str, specimen: &Specimen) -> Markup {
    let failing = specimen.fails_at();
    html! {
        details.specimen id={ "specimen-" (clean(journey)) } open[failing.is_some()] {
            summary { "One event, stage by stage" small { (clean(&title(specimen))) } }
            dl {
                dt { (Stage::Sent.word()) }
                dd { (raw(&specimen.sent)) }
                @for shown in &specimen.stages {
                    @let fails = shown.fate.is_some_and(crate::journey::Fate::is_failure);
                    dt.bad[fails] { (shown.name.word()) small { (fate(shown)) } }
                    dd { (text(shown)) }
                }
            }
        }
    }
}

fn text(shown: &Shown) -> Markup {
    html! {
        @match &shown.text {
            Some(whole) if shown.difference.is_empty() => (raw(whole)),
            Some(whole) => pre {
                @for part in &shown.difference {
                    @match part.is {
                        Is::Same => (spelt_out(&part.text)),
                        Is::Missing => del title="sent, and not shown" { (spelt_out(&part.text)) },
                        Is::Added => ins title="shown, and not sent" { (spelt_out(&part.text)) },
                    }
                }
                @if let Some(more) = more(whole) { span.zero { (more) } }
            },
            None => span.zero { (nothing(shown)) },
        }
        @if let Some(fields) = &shown.fields {
            details {
                summary { "fields" }
                (raw(fields))
            }
        }
    }
}

fn raw(text: &Text) -> Markup {
    html! { pre { (spelt_out(&text.text)) @if let Some(more) = more(text) { span.zero { (more) } } } }
}
