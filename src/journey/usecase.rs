//! Use cases: what a detection must notice, as data. The events of a sequence with their timing, the
//! alert that must come of them, and a benign twin that must bring none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{COUNT_LIMIT, Format, Header};
use super::rule::Within;
use crate::spec::units::Period;
use crate::spec::{Diagnostics, Node};

/// A round ends before the next is due: nobody waits for a sequence of hours.
const LENGTH_LIMIT: Duration = Duration::from_secs(3_600);
const STEPS_LIMIT: usize = 1_000;

/// A file of `usecases/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UseCase {
    /// What happens, in words.
    pub title: String,
    /// The techniques of MITRE ATT&CK: `[T1110.001]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attack: Vec<String>,
    /// The log source, in Sigma's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<LogSource>,
    /// The public rule whose alert is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// What `${name}` in the texts stands for; a journey's `events: { vars: ... }` goes before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// How the events are written down; the journey's `format` goes before, and the way in decides
    /// where neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A syslog header before a format that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// The host that the events name as theirs; default the journey's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The program that the events name as theirs; default the journey's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The steps, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<StepSpec>,
    /// What must come of the events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// The steps of the twin, which must bring no alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub benign: Vec<StepSpec>,
}

/// What writes such events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct LogSource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// Where a rule comes from, as its licence asks it to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rule {
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

/// Some events that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StepSpec {
    /// How many events.
    #[serde(default = "one")]
    pub times: u64,
    /// From one event to the next.
    #[serde(default = "at_once")]
    pub every: Period,
    /// From the last event of the step before to the first of this one.
    #[serde(default = "at_once")]
    pub after: Period,
    /// The text, with the same words in braces as a journey's `message`.
    pub message: String,
    /// Further fields; text values may hold the same words in braces.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// The host that these events name as theirs; default the use case's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The program that these events name as theirs; default the use case's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// What must come of a use case: defaults of the stages `alerted` and `notified`, where `{alert}`
/// in a value stands for the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alert {
    /// What the platform calls it.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// How long after the last event it may take; `rule` where that follows from the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
    /// How many a round.
    #[serde(default = "one")]
    pub exactly: u64,
}

/// How grave an alert is, in Sigma's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

fn one() -> u64 {
    1
}

fn at_once() -> Period {
    Period(Duration::ZERO)
}

impl UseCase {
    /// Tells what the types can't say. `node` is what it was read from.
    pub fn check(&self, node: &Node, diagnostics: &mut Diagnostics) {
        let at = |key: &str| node.get(key).unwrap_or(node).span;
        if self.title.trim().is_empty() {
            diagnostics.error(at("title"), "the title is empty");
        }
        for technique in self.attack.iter().filter(|technique| !is_technique(technique)) {
            diagnostics
                .error(at("attack"), format!("`{technique}` is no technique of MITRE ATT&CK"))
                .expected("`T` and four digits, or a part of one such as `T1110.001`");
        }
        if self.events.is_empty() && self.benign.is_empty() {
            diagnostics.error(node.span, "a use case without `events` and without `benign`");
        }
        match &self.alert {
            None if !self.events.is_empty() => {
                diagnostics
                    .error(node.span, "what must come of the events is not said")
                    .expected("`alert: { name: ... }`");
            }
            Some(alert) if alert.name.trim().is_empty() => {
                diagnostics.error(at("alert"), "the alert has no name");
            }
            Some(alert) if alert.exactly == 0 => {
                diagnostics
                    .error(at("alert"), "events of which no alert must come are its twin's")
                    .expected("`exactly: 1` or more, and such events under `benign`");
            }
            _ => {}
        }
        for (key, steps) in [("events", &self.events), ("benign", &self.benign)] {
            check_steps(steps, node.get(key).unwrap_or(node), diagnostics);
        }
    }
}

fn check_steps(steps: &[StepSpec], node: &Node, diagnostics: &mut Diagnostics) {
    if steps.len() > STEPS_LIMIT {
        diagnostics.error(node.span, format!("more than {STEPS_LIMIT} steps"));
        return;
    }
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.times == 0) {
        let at = node.as_list().and_then(|list| list.get(at)).unwrap_or(node);
        diagnostics
            .error(at.span, format!("`{}` is sent 0 times", step.message))
            .expected("`times: 1` or more, or no such step");
    }
    let count = steps.iter().fold(0_u64, |sum, step| sum.saturating_add(step.times));
    if count > COUNT_LIMIT {
        diagnostics.error(
            node.span,
            format!("the steps have {count} events; a round has 1 to {COUNT_LIMIT}"),
        );
    } else if length(steps) > LENGTH_LIMIT {
        diagnostics.error(
            node.span,
            format!(
                "the steps take {}, longer than {}",
                Period(length(steps)),
                Period(LENGTH_LIMIT)
            ),
        );
    }
}

/// `T1110`, `T1110.001`.
fn is_technique(word: &str) -> bool {
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(word) = word.strip_prefix('T') else { return false };
    match word.split_once('.') {
        Some((whole, part)) => digits(whole, 4) && digits(part, 3),
        None => digits(word, 4),
    }
}

fn length(steps: &[StepSpec]) -> Duration {
    steps.iter().fold(Duration::ZERO, |end, step| {
        let between = u32::try_from(step.times.saturating_sub(1)).unwrap_or(u32::MAX);
        end.saturating_add(step.after.0).saturating_add(step.every.0.saturating_mul(between))
    })
}

/// When each event of each step is due after the beginning: ascending.
pub(super) fn due(steps: &[StepSpec]) -> impl Iterator<Item = Vec<Duration>> + '_ {
    let mut end = Duration::ZERO;
    steps.iter().map(move |step| {
        let mut at = end.saturating_add(step.after.0);
        let times = step.times.min(COUNT_LIMIT);
        (0..times)
            .map(|_| {
                end = at;
                at = at.saturating_add(step.every.0);
                end
            })
            .collect()
    })
}

#[cfg(test)]
mod tests;
