//! What arrived against what was sent: is this copy whole, and does it carry what the stage
//! promises? And reordering as RFC 4737 has it.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::mark_of;
use super::fields::{lookup, mark};
use super::fresh::Fresh;
use super::{Arrival, Event, Fate};

mod clock;

pub use clock::stamp;

/// What a stage promises to show of every event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Expectation {
    /// Dotted field path and the value it must have: `exists` for any value, `absent` for none,
    /// `sent` for the value of the event's own field of that name, `{matches: PATTERN}` for a text
    /// that a regular expression finds something in.
    pub fields: Map<String, Value>,
    /// Where the event's own time is shown: it must be the time that the event told, whatever way
    /// it is written. With `date_probe`, the usual names are tried where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Where the stage writes by its own clock when it saw the event: by it the clock's offset from
    /// ours is bounded. It must come after the send, so it is no copy of the event's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// How recently the feed that enriched the event must have been updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<Fresh>,
}

/// A pattern compiles to at most this (the crate's own default is 10 MiB).
const PATTERN_LIMIT: usize = 1024 * 1024;

impl Expectation {
    /// What the types can't say.
    pub fn validate(&self) -> Result<(), String> {
        for (path, expected) in &self.fields {
            if let Some(text) = pattern(expected) {
                compiled(text).map_err(|why| format!("`{path}`: {why}"))?;
            }
        }
        match &self.fresh {
            Some(fresh) if fresh.field.is_empty() || fresh.within.0.is_zero() => {
                Err("`fresh` needs a `field` and a `within` above 0s".into())
            }
            _ => Ok(()),
        }
    }
}

fn pattern(expected: &Value) -> Option<&str> {
    let map = expected.as_object().filter(|map| map.len() == 1)?;
    map.get("matches")?.as_str()
}

fn compiled(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_LIMIT)
        .build()
        .map_err(|error| format!("{text:?} is no regular expression: {error}"))
}

/// What is wrong with one copy, and the words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub fate: Fate,
    pub text: String,
}

/// So much of a foreign text is shown in a reason; the debug view has all of it.
const SHOWN_CHARS: usize = 120;
/// So many characters are shown before two texts part.
const BEFORE: usize = 20;
/// By so many first characters a cut or mangled message is found inside a longer text.
const ANCHOR: usize = 8;

/// What is wrong with this copy of `event`, by the contract's order of precedence; None where
/// nothing is.
pub fn inspect(arrival: &Arrival, event: &Event, expectation: &Expectation) -> Option<Flaw> {
    content(arrival, event)
        // What lies in the dead-letter place was not parsed by this stage: its fields are judged
        // nowhere.
        .or_else(|| {
            let wrong = arrival.wrong.as_ref().map(|reason| reason.text.clone());
            let misparsed = || {
                wrong
                    .or_else(|| broken_promise(arrival, event, expectation))
                    .or_else(|| clock::misread(arrival, event, expectation.time.as_deref()))
            };
            let text = (!arrival.dead_letter).then(misparsed).flatten()?;
            Some(Flaw { fate: Fate::Misparsed, text: format!("event {}: {text}", event.seq) })
        })
        .or_else(|| {
            arrival.dead_letter.then(|| Flaw {
                fate: Fate::DeadLettered,
                text: format!("event {} lies in the dead-letter place", event.seq),
            })
        })
}

/// Corrupted or truncated.
fn content(arrival: &Arrival, event: &Event) -> Option<Flaw> {
    let field = arrival.fields.as_ref().and_then(|fields| lookup(fields, "message"));
    let field = field.and_then(Value::as_str);
    let texts = [field, arrival.text.as_deref()];
    let written = event.written.as_deref();
    let shown = |text: &str| {
        shows(text, &event.message) || written.is_some_and(|written| text.contains(written))
    };
    let whole = texts.into_iter().flatten().any(shown);
    if whole {
        return cut_behind(arrival, event).or_else(|| checksum(arrival, event));
    }
    // The message field says most precisely where the text ends.
    let Some(text) = texts.into_iter().flatten().next() else {
        return checksum(arrival, event);
    };
    let cut = texts.into_iter().flatten().any(|text| is_cut(text, event));
    Some(if cut {
        Flaw {
            fate: Fate::Truncated,
            text: format!(
                "event {} was cut: '{}' instead of {} bytes",
                event.seq,
                excerpt(text),
                event.message.len()
            ),
        }
    } else {
        let (shown, sent) = parting(text, &event.message);
        Flaw {
            fate: Fate::Corrupted,
            text: format!("event {} reads '{shown}' instead of '{sent}'", event.seq),
        }
    })
}

/// A text and the message that should be in it, from a little before they part.
fn parting(text: &str, message: &str) -> (String, String) {
    let anchor: String = message.chars().take(ANCHOR).collect();
    let tails = text.match_indices(&anchor).filter_map(|(at, _)| text.get(at..));
    let same = |tail: &str| tail.chars().zip(message.chars()).take_while(|(a, b)| a == b).count();
    let (tail, common) =
        tails.map(|tail| (tail, same(tail))).max_by_key(|(_, same)| *same).unwrap_or((text, 0));
    let skipped = common.saturating_sub(BEFORE);
    let from_there = |text: &str| {
        let rest: String = text.chars().skip(skipped).collect();
        let front = if skipped > 0 { "…" } else { "" };
        format!("{front}{}", excerpt(&rest))
    };
    (from_there(tail), from_there(message))
}

/// A text that is the payload as it was sent, maybe after a header, and ends before it does: what
/// stood behind the message is gone, though the message is whole.
fn cut_behind(arrival: &Arrival, event: &Event) -> Option<Flaw> {
    let payload = event.payload.trim_ascii_end();
    let sent = std::str::from_utf8(payload).ok()?;
    let start = sent.chars().take(ANCHOR).collect::<String>();
    // Where it stands whole, what follows it is of another event; so may be what begins within a text.
    let text = arrival.text.as_deref().filter(|text| !start.is_empty() && !text.contains(sent))?;
    let text = text.trim_end_matches(|c: char| c.is_whitespace() || c == '\u{fffd}');
    let mut tails = text.match_indices(&start).filter_map(|(at, _)| Some((at, text.get(at..)?)));
    let (_, tail) = tails
        .find(|(at, tail)| is_front(tail, payload) && (*at == 0 || shows(tail, &event.message)))?;
    Some(Flaw {
        fate: Fate::Truncated,
        text: format!(
            "event {} was cut behind its message: {} of {} bytes",
            event.seq,
            tail.len(),
            payload.len()
        ),
    })
}

/// Whether the message stands whole in a text, plain or as it is written inside JSON.
fn shows(text: &str, message: &str) -> bool {
    if text.contains(message) {
        return true;
    }
    let quoted = Value::from(message).to_string();
    quoted.get(1..quoted.len() - 1).is_some_and(|escaped| text.contains(escaped))
}

/// Whether a text ends where the message, or the payload around it, goes on.
fn is_cut(text: &str, event: &Event) -> bool {
    // A cut in the middle of a character shows as the replacement character.
    let text = text.trim_end_matches(|c: char| c.is_whitespace() || c == '\u{fffd}');
    if is_front(text, event.message.as_bytes()) || is_front(text, &event.payload) {
        return true;
    }
    // After a header of the transport's: the message begins, and the text ends in its middle.
    let inside = |message: &str| {
        let anchor: String = message.chars().take(ANCHOR).collect();
        !anchor.is_empty()
            && text
                .match_indices(&anchor)
                .filter_map(|(at, _)| text.get(at..))
                .any(|tail| is_front(tail, message.as_bytes()))
    };
    inside(&event.message)
        || event.written.as_deref().is_some_and(inside)
        || std::str::from_utf8(&event.payload).is_ok_and(inside)
}

fn is_front(text: &str, whole: &[u8]) -> bool {
    text.len() < whole.len() && whole.starts_with(text.as_bytes())
}

fn checksum(arrival: &Arrival, event: &Event) -> Option<Flaw> {
    let shown = arrival.fields.as_ref().and_then(|fields| mark(fields, "crc"))?;
    (!same(shown, &Value::from(event.crc))).then(|| Flaw {
        fate: Fate::Corrupted,
        text: format!(
            "event {} carries the checksum {} instead of {}",
            event.seq,
            excerpt(&plain(shown)),
            event.crc
        ),
    })
}

/// The first field that is missing or wrong, in words. `event` is the event itself, or, of a thing
/// such as an alert, the round's first.
pub fn broken_promise(
    arrival: &Arrival,
    event: &Event,
    expectation: &Expectation,
) -> Option<String> {
    for (path, expected) in &expectation.fields {
        let Some(fields) = &arrival.fields else {
            return Some(format!("it shows no fields at all, so no {path}: it was not parsed"));
        };
        let own = || mark(fields, mark_of(path)?);
        let shown = lookup(fields, path).or_else(own).filter(|shown| !shown.is_null());
        if expected.as_str() == Some("absent") {
            match shown {
                Some(shown) => {
                    let shown = excerpt(&plain(shown));
                    return Some(format!("{path} is '{shown}', and must not be there"));
                }
                None => continue,
            }
        }
        let Some(shown) = shown else {
            // The token stands twice in an event for this: the one in the text came through.
            let came = mark_of(path).is_some() && names(arrival, event);
            let why =
                if came { ", though its text names the event: the parser lost it" } else { "" };
            return Some(format!("it has no field {path}{why}"));
        };
        if let Some(text) = pattern(expected) {
            let found =
                |one: &Value| compiled(text).is_ok_and(|pattern| pattern.is_match(&plain(one)));
            if !found(shown) && !shown.as_array().is_some_and(|all| all.iter().any(found)) {
                let shown = excerpt(&plain(shown));
                return Some(format!("{path} is '{shown}', which `{text}` does not match"));
            }
            continue;
        }
        let expected = match expected.as_str() {
            Some("exists") => continue,
            Some("sent") => sent(path, event).unwrap_or(expected),
            _ => expected,
        };
        let holds = same(shown, expected)
            || shown.as_array().is_some_and(|all| all.iter().any(|one| same(one, expected)));
        if !holds {
            return Some(format!(
                "{path} is '{}' instead of '{}'",
                excerpt(&plain(shown)),
                excerpt(&plain(expected))
            ));
        }
    }
    None
}

/// Whether the text that a stage shows holds the event's token.
fn names(arrival: &Arrival, event: &Event) -> bool {
    let field = arrival.fields.as_ref().and_then(|fields| lookup(fields, "message"));
    let texts = [arrival.text.as_deref(), field.and_then(Value::as_str)];
    texts.into_iter().flatten().any(|text| text.contains(&event.token))
}

/// What an event carries under that name, however its format writes the names of Greenlight's own.
fn sent<'a>(path: &str, event: &'a Event) -> Option<&'a Value> {
    let own = |path: &str| Some(event.fields.get(&format!("greenlight.{}", mark_of(path)?)))?;
    event.fields.get(path).or_else(|| own(path))
}

/// Equal, with numbers by value and a number written as text taken for the number: formats
/// without types (structured data) carry nothing else.
fn same(shown: &Value, expected: &Value) -> bool {
    if shown == expected {
        return true;
    }
    match (shown, expected) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::String(text), Value::Number(number))
        | (Value::Number(number), Value::String(text)) => text.parse().ok() == number.as_f64(),
        (Value::String(text), Value::Bool(truth)) | (Value::Bool(truth), Value::String(text)) => {
            *text == truth.to_string()
        }
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// The front of a foreign text, in one line that no terminal obeys.
fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(SHOWN_CHARS) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    let more = text.chars().nth(SHOWN_CHARS).is_some();
    if more { shown + "…" } else { shown }
}

/// The fate of an event that was seen.
pub(super) fn seen(flaw: Option<Fate>, late: bool, reordered: bool) -> Fate {
    match flaw {
        Some(flaw) => flaw,
        None if late => Fate::Late,
        None if reordered => Fate::Reordered,
        None => Fate::Ok,
    }
}

/// The fate of one that was given up: lost only where it was certainly sent, and a look that began
/// afterwards saw everything else.
pub(super) fn unseen(certainly_sent: bool, complete: bool) -> Fate {
    match (certainly_sent, complete) {
        (false, _) => Fate::Unknown,
        (true, true) => Fate::Lost,
        (true, false) => Fate::Inconclusive,
    }
}

/// The first by precedence of an own fate and one that is carried on. What is carried is decided,
/// whatever may still be seen.
pub(super) fn worse(own: Option<Fate>, carried: Option<Fate>) -> Option<Fate> {
    match (own, carried) {
        (Some(own), Some(carried)) => Some(own.min(carried)),
        (own, carried) => own.or(carried),
    }
}

/// Which events were reordered, by RFC 4737's Type-P-Reordered: in the order of the scope's
/// positions, one whose sequence number is smaller than the next expected. A gap moves the next
/// expected on, so that one lost event reorders nothing.
///
/// `copies` are first copies: (scope, position, sequence number).
pub fn reordered(copies: impl IntoIterator<Item = (u32, u64, u64)>) -> Vec<u64> {
    let mut scopes: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for (scope, position, seq) in copies {
        scopes.entry(scope).or_default().push((position, seq));
    }
    let mut found = Vec::new();
    for mut copies in scopes.into_values() {
        copies.sort_unstable();
        let mut next_expected = 0;
        for (_, seq) in copies {
            if seq < next_expected {
                found.push(seq);
            } else {
                next_expected = seq.saturating_add(1);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
