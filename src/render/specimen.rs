//! One event as it was sent and as each stage showed it: the lines that every form shows.

use super::quantity::quantity;
use super::text::{clean, pad, spelt_out};
use crate::journey::specimen::{Is, Shown, Specimen, Text};
use crate::journey::{Fate, Stage};

/// The columns of a stage's name in plain text.
const LABEL: usize = 10;

/// `event 7 of run gl…, token gl…, meant for 12:00:05Z`.
pub(super) fn title(specimen: &Specimen) -> String {
    let Specimen { run, seq, token, sent_at, .. } = specimen;
    format!("event {seq} of run {run}, token {token}, sent at {sent_at}")
}

/// `lost`, `ok after 1.2 s`.
pub(super) fn fate(shown: &Shown) -> String {
    let word = shown.fate.map_or("not decided", Fate::word).replace('_', "-");
    match shown.after_seconds {
        Some(after) => format!("{word} after {}", quantity(after, Some("seconds"))),
        None => word,
    }
}

/// What is said where a stage has no text to show.
pub(super) fn nothing(shown: &Shown) -> &'static str {
    match (shown.fate, shown.after_seconds) {
        (_, Some(_)) if shown.fields.is_some() => "it shows fields and no text",
        (_, Some(_)) => "it was seen, and what it showed was not kept",
        (Some(Fate::Unknown | Fate::Inconclusive), None) => "it could not be seen",
        _ => "it was not seen",
    }
}

/// How much of a text is not shown.
pub(super) fn more(text: &Text) -> Option<String> {
    let hidden = text.bytes.saturating_sub(text.text.len() as u64);
    text.is_cut().then(|| format!("… {} more", quantity(hidden as f64, Some("bytes"))))
}

/// The text with what is missing in `[-…-]` and what came to it in `{+…+}`.
pub(super) fn marked(shown: &Shown) -> Option<String> {
    let text = shown.text.as_ref()?;
    let mut marked = if shown.difference.is_empty() {
        clean(&text.text)
    } else {
        let part = |is: Is, text: &str| match is {
            Is::Same => text.to_owned(),
            Is::Missing => format!("[-{text}-]"),
            Is::Added => format!("{{+{text}+}}"),
        };
        let parts = shown.difference.iter().map(|of| part(of.is, &of.text));
        spelt_out(&parts.collect::<String>())
    };
    marked.extend(more(text));
    Some(marked)
}

/// Each line's stage and its text.
pub(super) fn lines(specimen: &Specimen) -> Vec<(String, String)> {
    let mut sent = clean(&specimen.sent.text);
    sent.extend(more(&specimen.sent));
    let mut lines = vec![(Stage::Sent.word().to_owned(), sent)];
    for shown in &specimen.stages {
        let text = marked(shown).unwrap_or_else(|| nothing(shown).to_owned());
        lines.push((shown.name.word().to_owned(), format!("{}: {text}", fate(shown))));
        if let Some(fields) = &shown.fields {
            let mut text = clean(&fields.text);
            text.extend(more(fields));
            lines.push((String::new(), text));
        }
    }
    lines
}

/// All of it as plain text.
pub fn plain(specimen: &Specimen) -> String {
    let mut text = format!("{}\n", clean(&title(specimen)));
    for (label, line) in lines(specimen) {
        text.push_str(&format!("  {}{line}\n", pad(&label, LABEL)));
    }
    text
}
