//! One event of a round as it was sent and as each stage showed it, side by side: the first that
//! failed, or, where none did, the first.
//!
//! Which event that is, is known at the round's end only, so what the looks show is kept until
//! then: the first copy of each event at each stage, cut, and all of a round together within a
//! limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::walk::Walk;
use super::{Arrival, Event, Fate, Stage};

mod diff;

pub use diff::{Is, Part};

/// What is kept of one text. Longer ones are cut there; how long they are is said.
const TEXT_LIMIT: usize = 2_048;
/// What is kept of a round's looks until its end.
const ROUND_LIMIT: usize = 128 * 1_024;
/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";
/// A shorter value is no secret, and would be found everywhere.
const SHORTEST_SECRET: usize = 4;
/// Fields whose values are nobody's business, by what their names hold.
const SECRET_NAMES: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "authorization",
    "cookie",
    "api_key",
    "apikey",
    "private_key",
];

/// One event, as it was sent and as each stage showed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Specimen {
    pub run: String,
    pub seq: u64,
    pub token: String,
    /// When it was meant to be sent: RFC 3339, UTC.
    pub sent_at: String,
    /// The payload, without the transport's framing.
    pub sent: Text,
    /// In their order, those that are looked at.
    pub stages: Vec<Shown>,
}

/// A text, cut where it is long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Text {
    pub text: String,
    /// How long it is whole.
    pub bytes: u64,
}

/// What one stage showed of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Shown {
    pub name: Stage,
    pub fate: Option<Fate>,
    /// From the intended send; null where it was not seen.
    pub after_seconds: Option<f64>,
    /// Null where it was not seen, or showed no text.
    pub text: Option<Text>,
    /// The fields as JSON, cut where they are long.
    pub fields: Option<Text>,
    /// Where the text differs from what was sent: its parts, in their order. Empty where what was
    /// sent stands in it whole.
    pub difference: Vec<Part>,
}

impl Specimen {
    /// The first stage that shows it otherwise than it was, or not at all.
    pub fn fails_at(&self) -> Option<Stage> {
        let fails = |shown: &&Shown| shown.fate.is_some_and(Fate::is_failure);
        self.stages.iter().find(fails).map(|shown| shown.name)
    }
}

/// What the looks of one round have shown so far.
#[derive(Debug, Default)]
pub struct Specimens {
    /// A thing (an alert, a notification, a reading) has no sequence number.
    kept: BTreeMap<(Stage, Option<u64>), Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    text: Option<Text>,
    fields: Option<Text>,
}

impl Specimens {
    /// Takes in what a look showed.
    pub fn take(&mut self, stage: Stage, arrivals: &[Arrival]) {
        for arrival in arrivals {
            if self.bytes >= ROUND_LIMIT {
                return;
            }
            let key = (stage, arrival.seq.filter(|_| !stage.counts_things()));
            // A thing may still come right: the newest says most. Of an event the first is judged.
            if self.kept.contains_key(&key) && !stage.counts_things() {
                continue;
            }
            let text = arrival.text.as_deref().map(Text::cut);
            let fields = arrival.fields.as_ref().map(|fields| {
                let shown = Value::Object(without_secrets(fields));
                Text::cut(&shown.to_string())
            });
            let size = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.text.len());
            self.bytes += size(&text) + size(&fields);
            self.kept.insert(key, Kept { text, fields });
        }
    }

    /// The event that says most, with all that was kept of it. `secrets` are taken out wherever
    /// they stand.
    pub fn of(
        &self,
        walk: &Walk,
        run: &str,
        secrets: &[String],
        rendered: impl Fn(u64) -> Event,
    ) -> Specimen {
        let has = |seq: u64| self.kept.keys().any(|(_, kept)| *kept == Some(seq));
        let seq = walk.exemplar(has);
        let event = rendered(seq);
        let hide = |mut text: Text| {
            for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
                text.text = text.text.replace(secret.as_str(), REDACTED);
            }
            text
        };
        let payload = String::from_utf8_lossy(&event.payload);
        let stages = walk.shown_of(seq).into_iter().map(|(name, fate, after)| {
            let thing = name.counts_things();
            let kept = self.kept.get(&(name, (!thing).then_some(seq)));
            let text = kept.and_then(|kept| kept.text.clone());
            let difference = match &text {
                Some(text) if !thing => difference(text, &event, &payload),
                _ => Vec::new(),
            };
            let hidden =
                |part: Part| Part { text: hide(Text { text: part.text, bytes: 0 }).text, ..part };
            Shown {
                name,
                fate,
                after_seconds: after.map(|nanos| nanos as f64 / 1e9),
                text: text.map(hide),
                fields: kept.and_then(|kept| kept.fields.clone()).map(hide),
                difference: difference.into_iter().map(hidden).collect(),
            }
        });
        Specimen {
            run: run.to_owned(),
            seq,
            token: event.token.clone(),
            sent_at: event.time.rfc3339(),
            sent: hide(Text::cut(&payload)),
            stages: stages.collect(),
        }
    }
}

impl Text {
    fn cut(whole: &str) -> Self {
        let mut end = whole.len().min(TEXT_LIMIT);
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        let text = whole.get(..end).unwrap_or_default().to_owned();
        Self { text, bytes: whole.len() as u64 }
    }

    pub fn is_cut(&self) -> bool {
        self.bytes > self.text.len() as u64
    }
}

/// Against the message, or against the whole payload where that is nearer: some stages show the
/// one, some the other.
fn difference(shown: &Text, event: &Event, payload: &str) -> Vec<Part> {
    let written = event.written.as_deref().unwrap_or(&event.message);
    if shown.text.contains(&event.message) || shown.text.contains(written) {
        return Vec::new();
    }
    let against = |whole: &str| {
        let whole = Text::cut(whole);
        // What is not kept can't be compared: both end there.
        let whole = if shown.is_cut() || whole.is_cut() {
            let end = shown.text.chars().count().min(whole.text.chars().count());
            whole.text.chars().take(end).collect()
        } else {
            whole.text
        };
        diff::parts(&whole, &shown.text)
    };
    let (message, payload) = (against(&event.message), against(payload));
    let off = |parts: &[Part]| -> usize {
        parts.iter().filter(|part| part.is != Is::Same).map(|part| part.text.len()).sum()
    };
    if off(&payload) < off(&message) { payload } else { message }
}

fn without_secrets(fields: &Map<String, Value>) -> Map<String, Value> {
    let hide = |(name, value): (&String, &Value)| {
        let lower = name.to_lowercase();
        let shown = match value {
            _ if SECRET_NAMES.iter().any(|secret| lower.contains(secret)) => REDACTED.into(),
            Value::Object(inner) => Value::Object(without_secrets(inner)),
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::Object(inner) => Value::Object(without_secrets(inner)),
                    other => other.clone(),
                })
                .collect(),
            other => other.clone(),
        };
        (name.clone(), shown)
    };
    fields.iter().map(hide).collect()
}

#[cfg(test)]
mod tests;
