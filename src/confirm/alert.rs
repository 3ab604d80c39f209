//! What the ways that show alerts and notifications have in common: whose each is, the names under
//! which they are compared, and what a look at them yields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::found::plain;
use super::{LookContext, MARGIN, recognise};
use crate::client::rules::{Engine, Place, rules};
use crate::journey::fields::lookup;
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble, words};
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

/// What is known of the rule that raised none: it only explains.
pub(super) async fn why_none(what: &str, place: &Place, on: &LookContext<'_>) -> String {
    let Place { engine, index, api, name } = place;
    // A search of Splunk is read by its name; a plugin lists all that it has.
    let named = (*engine == Engine::Splunk).then_some(name.as_str());
    let asked = rules(*engine, index, named, api, on.clients, on.timeout / 2, on.trace).await;
    let rules = match asked.map_err(Trouble::blind) {
        Ok(answer) => answer.rows,
        Err(fault) => return format!("no alert, and the {what} can't be read: {fault}"),
    };
    match rules.iter().find(|rule| rule.name == *name) {
        None => format!("there is no {what} {name:?}"),
        Some(rule) if !rule.enabled => format!("the {what} {name:?} is disabled"),
        Some(rule) => match (&rule.failing, rule.ran) {
            (Some(why), _) => format!("the {what} {name:?} fails: {why}"),
            (None, Some(ran)) => {
                format!("the {what} {name:?} ran last at {} and raised none", ran.rfc3339())
            }
            (None, None) if *engine == Engine::Splunk => {
                format!("the {what} {name:?} is enabled and raised none")
            }
            (None, None) => format!("the {what} {name:?} never ran"),
        },
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

/// Under this key of the mark stand the alerts that were raised.
const RAISED: &str = "raised";

fn raised(mark: &Value) -> Vec<Value> {
    mark.get(RAISED).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Keeps these too, a bounded number of them.
fn keep_raised<'a>(mut raised: Vec<Value>, new: impl Iterator<Item = &'a str>, mark: &mut Value) {
    for copy in new.map(Value::from) {
        if raised.len() < LIMIT && !raised.contains(&copy) {
            raised.push(copy);
        }
    }
    if raised.is_empty() {
        return;
    }
    if !mark.is_object() {
        *mark = Value::Object(Map::new());
    }
    if let Some(mark) = mark.as_object_mut() {
        mark.insert(RAISED.into(), raised.into());
    }
}

/// What was raised and is not there any more has ended. `mark` remembers what was raised; only a
/// complete look may be asked.
pub(super) fn ended(look: &mut Look, mark: &mut Value) {
    let before = raised(mark);
    let is_raised = |copy: &str| look.arrivals.iter().any(|arrival| arrival.copy == copy);
    let gone: Vec<String> = before
        .iter()
        .filter_map(Value::as_str)
        .filter(|copy| !is_raised(copy))
        .map(str::to_owned)
        .collect();
    keep_raised(before, look.arrivals.iter().map(|arrival| arrival.copy.as_str()), mark);
    if look.horizon == Horizon::Complete {
        look.arrivals.extend(gone.into_iter().map(|copy| {
            let alert = Alert::new(copy, None, Map::new());
            arrival(Alert { ended: true, ..alert })
        }));
    }
}

/// Of alerts that stay where they are when somebody closes them: one that was open has ended, and one
/// that never was is one that nobody hears of.
pub(super) fn closed(look: &mut Look, mark: &mut Value) {
    let before = raised(mark);
    for arrival in &mut look.arrivals {
        let was_open = before.iter().any(|copy| copy.as_str() == Some(&*arrival.copy));
        arrival.ended &= was_open;
        arrival.wrong.take_if(|_| arrival.ended);
    }
    let open = look.arrivals.iter().filter(|arrival| arrival.wrong.is_none());
    keep_raised(before, open.map(|arrival| arrival.copy.as_str()), mark);
}

/// What is found are alerts and not events: each counts that names the round, or names none and
/// began after the round did. Which of their fields say what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Shape {
    /// Whose alerts they are; it says what of the following is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Product>,
    /// The field with the name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The field with the severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The field with the time at which the alert was raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Fields that the alert must have, and their values; {run} is the round's name.
    #[serde(rename = "match")]
    pub fields: BTreeMap<String, String>,
}

words! {
    /// A product whose alerts stand in an index.
    Product {
        /// Elastic Security: `.alerts-security.alerts-*`.
        ElasticSecurity = "elastic_security",
        /// Wazuh: `wazuh-alerts-*` of its indexer.
        Wazuh = "wazuh",
        /// Splunk Enterprise Security: `index=notable`.
        SplunkNotable = "splunk_notable",
    }
}

impl Product {
    /// Its fields for name, severity and time.
    const fn fields(self) -> [&'static str; 3] {
        match self {
            Self::ElasticSecurity => {
                ["kibana.alert.rule.name", "kibana.alert.severity", "@timestamp"]
            }
            Self::Wazuh => ["rule.description", "rule.level", "timestamp"],
            Self::SplunkNotable => ["search_name", "severity", "_time"],
        }
    }
}

impl Shape {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.of.is_none() && self.time.is_none() {
            return Err("`alerts` needs `of`, or the field `time` that says when one began".into());
        }
        Ok(())
    }

    fn field(&self, at: usize) -> Option<&str> {
        let own = [&self.name, &self.severity, &self.time];
        let given = own.get(at).and_then(|own| own.as_deref());
        given.or_else(|| self.of.map(Product::fields)?.get(at).copied())
    }

    /// Whether an alert shows that it is over.
    pub(super) fn ends(&self) -> bool {
        self.of == Some(Product::ElasticSecurity)
    }

    /// Alerts since the round began, as a search of OpenSearch and Elasticsearch.
    pub(super) fn query(&self, on: &LookContext<'_>) -> Value {
        let (from, _) = on.span(MARGIN);
        let time = self.field(2).unwrap_or_default();
        json!({"range": {time: {"gte": from.rfc3339()}}})
    }

    /// One record as an alert; None where it is not the one that is looked for.
    pub(super) fn read(
        &self,
        copy: String,
        text: Option<String>,
        fields: Map<String, Value>,
        wanted: &BTreeMap<String, String>,
    ) -> Option<Alert> {
        if !matches(&fields, wanted) {
            return None;
        }
        let of = |at| self.field(at).and_then(|path| lookup(&fields, path)).cloned();
        let (name, severity, began) = (of(0), of(1), of(2).as_ref().and_then(wall));
        let ended = self.ends() && is_closed(&fields);
        let wrong = ended.then(|| "the alert was raised and is closed already".into());
        let alert = Alert::new(copy, began, fields).named(name.as_ref(), severity.as_ref());
        Some(Alert { text, wrong, ended, ..alert })
    }
}

/// By a person, or by something that closes what it raises.
fn is_closed(fields: &Map<String, Value>) -> bool {
    let status = lookup(fields, "kibana.alert.workflow_status").and_then(Value::as_str);
    status == Some("closed")
}

/// A time as text, or as seconds or milliseconds since 1970.
fn wall(value: &Value) -> Option<Wall> {
    if let Some(number) = value.as_f64() {
        let nanos = if number > 1e11 { number * 1e6 } else { number * 1e9 };
        return Some(Wall(nanos as i64));
    }
    let text = value.as_str()?;
    // Wazuh writes the offset without a colon.
    let colon = text.len().checked_sub(2).and_then(|at| text.split_at_checked(at));
    Wall::parse(text).or_else(|| colon.and_then(|(a, b)| Wall::parse(&format!("{a}:{b}"))))
}
