//! What the ways that show alerts and notifications have in common: whose each is, the names under
//! which they are compared, and what a look at them yields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::found::plain;
use super::{LookContext, recognise};
use crate::journey::reconcile::lookup;
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::time::{Mono, Wall};

/// More alerts than this are not looked at in one look: a round brings about a few.
pub(super) const LIMIT: usize = 1_000;

/// One alert or notification, as a platform shows it.
pub(super) struct Alert {
    /// Tells it from every other one.
    pub(super) copy: String,
    /// When it began, where it says so.
    pub(super) began: Option<Wall>,
    pub(super) seen: Mono,
    /// All that is shown of it. Beside the platform's own names `name` and `severity` stand there,
    /// where [`Alert::named`] knew them.
    pub(super) fields: Map<String, Value>,
    pub(super) text: Option<String>,
    /// Why nobody hears of it, though it was raised.
    pub(super) wrong: Option<String>,
    /// Its end: it was raised before, under the same `copy`.
    pub(super) ended: bool,
}

impl Alert {
    pub(super) fn new(copy: String, began: Option<Wall>, fields: Map<String, Value>) -> Self {
        Self { copy, began, seen: Mono::now(), fields, text: None, wrong: None, ended: false }
    }

    /// Under one name, whatever the platform calls it: a use case expects an alert by these.
    pub(super) fn named(mut self, name: Option<&Value>, severity: Option<&Value>) -> Self {
        for (key, value) in [("name", name), ("severity", severity)] {
            if let Some(value) = value.filter(|value| !value.is_null()).cloned() {
                self.fields.entry(key).or_insert(value);
            }
        }
        self
    }
}

/// The round's alerts among these, and how far that can be told; `lacking` says why these may not
/// be all.
pub(super) fn look(
    alerts: impl IntoIterator<Item = Alert>,
    lacking: Option<String>,
    on: &LookContext<'_>,
) -> Look {
    let told = alerts.into_iter().map(|alert| {
        let texts = strings(&alert.fields).into_iter().chain(alert.text.as_deref());
        (recognise::whose(texts, alert.began, on), alert)
    });
    let (ours, told) = recognise::ours(told);
    let horizon = match lacking {
        Some(why) => Horizon::Partial(Fault::new(FaultCode::Blind, why)),
        None => told,
    };
    on.trace.note(format_args!("{} of them are the round's", ours.len()));
    Look { arrivals: ours.into_iter().map(arrival).collect(), horizon }
}

fn arrival(alert: Alert) -> Arrival {
    Arrival {
        seq: None,
        copy: alert.copy,
        seen: alert.seen,
        order: None,
        text: alert.text,
        fields: Some(alert.fields),
        ended: alert.ended,
        dead_letter: false,
        stamped: None,
        wrong: alert.wrong.map(|why| Reason::new(ReasonCode::AlertMismatch, why)),
    }
}

/// Every text among the fields, at any depth: a token may stand in any of them.
pub(super) fn strings(fields: &Map<String, Value>) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest: Vec<&Value> = fields.values().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => found.push(text.as_str()),
            Value::Array(items) => rest.extend(items),
            Value::Object(inner) => rest.extend(inner.values()),
            _ => {}
        }
    }
    found
}

/// What a plan's `match` asks for in this round: {run} is the round's name.
pub(super) fn filled(
    wanted: &BTreeMap<String, String>,
    on: &LookContext<'_>,
) -> BTreeMap<String, String> {
    let fill = |text: &String| text.replace("{run}", &on.sought.run);
    wanted.iter().map(|(name, text)| (name.clone(), fill(text))).collect()
}

/// Whether each of these dotted fields is there with its value, or with a list that holds it.
pub(super) fn matches(fields: &Map<String, Value>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(path, expected)| match lookup(fields, path) {
        Some(Value::Array(items)) => items.iter().any(|item| plain(item) == *expected),
        Some(value) => plain(value) == *expected,
        None => false,
    })
}

/// What was raised and is not there any more has ended. `mark` remembers what was raised; only a
/// complete look may be asked.
pub(super) fn ended(look: &mut Look, mark: &mut Value) {
    const RAISED: &str = "raised";
    let before = mark.get(RAISED).and_then(Value::as_array).cloned().unwrap_or_default();
    let is_raised = |copy: &str| look.arrivals.iter().any(|arrival| arrival.copy == copy);
    let gone: Vec<String> = before
        .iter()
        .filter_map(Value::as_str)
        .filter(|copy| !is_raised(copy))
        .map(str::to_owned)
        .collect();
    let complete = look.horizon == Horizon::Complete;
    let mut raised: Vec<Value> = before;
    for arrival in look.arrivals.iter().take(LIMIT) {
        let copy = Value::from(arrival.copy.as_str());
        if !raised.contains(&copy) && raised.len() < LIMIT {
            raised.push(copy);
        }
    }
    if complete {
        look.arrivals.extend(gone.into_iter().map(|copy| {
            let alert = Alert::new(copy, None, Map::new());
            arrival(Alert { ended: true, ..alert })
        }));
    }
    if !raised.is_empty() {
        if !mark.is_object() {
            *mark = Value::Object(Map::new());
        }
        if let Some(mark) = mark.as_object_mut() {
            mark.insert(RAISED.into(), raised.into());
        }
    }
}
