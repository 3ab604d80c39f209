//! The use case that is made of a rule, and the file that it stands in.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::layout::Rendered;
use super::rule::LogSource;
use crate::spec::Period;

/// Some events of a use case.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub times: u64,
    pub every: Duration,
    /// After the step before.
    pub after: Duration,
    pub event: Rendered,
}

impl Step {
    pub(super) fn one(event: Rendered) -> Self {
        Self { times: 1, every: Duration::ZERO, after: Duration::ZERO, event }
    }
}

/// What is kept of the rule, as its licence asks.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Origin {
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

/// What a rule became.
#[derive(Clone, Debug, PartialEq)]
pub struct UseCase {
    pub attack: Vec<String>,
    pub source: LogSource,
    pub rule: Origin,
    pub events: Vec<Step>,
    pub benign: Vec<Step>,
    pub severity: Option<&'static str>,
    /// How the events are written down.
    pub layout: String,
    /// What a reader should know of how it was made.
    pub notes: Vec<String>,
    /// What the evaluator reads in other words than the rule's.
    pub rewritten: Vec<&'static str>,
}

impl UseCase {
    /// As a file: YAML whose values are JSON, so that nothing in a rule can be anything but text.
    pub fn file(&self, within: Duration) -> String {
        let mut out = String::new();
        let title = self.rule.title.as_str();
        let _ =
            writeln!(out, "# Made of a Sigma rule by `greenlight import sigma`; {}.", self.layout);
        for note in &self.notes {
            let _ = writeln!(out, "# {}", note.replace(['\n', '\r'], " "));
        }
        let _ = writeln!(out, "title: {}", quoted(&json!(title)));
        if !self.attack.is_empty() {
            let _ = writeln!(out, "attack: {}", quoted(&json!(self.attack)));
        }
        let _ = writeln!(out, "source: {}", quoted(&json!(self.source)));
        let _ = writeln!(out, "rule: {}", quoted(&json!(self.rule)));
        if let Some(step) = self.events.first() {
            let _ = writeln!(out, "format: {}", step.event.format);
        }
        for (name, steps) in [("events", &self.events), ("benign", &self.benign)] {
            let _ = writeln!(out, "{name}:");
            for step in steps {
                let _ = writeln!(out, "  - {}", quoted(&written(step)));
            }
        }
        let mut alert = Map::new();
        alert.insert(String::from("name"), json!(title));
        if let Some(severity) = self.severity {
            alert.insert(String::from("severity"), json!(severity));
        }
        alert.insert(String::from("within"), json!(Period(within).to_string()));
        alert.insert(String::from("exactly"), json!(1));
        let _ = writeln!(out, "alert: {}", quoted(&Value::Object(alert)));
        out
    }
}

fn written(step: &Step) -> Value {
    let mut map = Map::new();
    if step.times != 1 {
        map.insert(String::from("times"), json!(step.times));
    }
    if !step.every.is_zero() {
        map.insert(String::from("every"), json!(Period(step.every).to_string()));
    }
    if !step.after.is_zero() {
        map.insert(String::from("after"), json!(Period(step.after).to_string()));
    }
    map.insert(String::from("message"), json!(step.event.message));
    if !step.event.fields.is_empty() {
        map.insert(String::from("fields"), Value::Object(step.event.fields.clone()));
    }
    Value::Object(map)
}

/// JSON is YAML, but for what a plan's variables are written with.
fn quoted(value: &Value) -> String {
    value.to_string().replace("${", "$${").replace('\u{7f}', "\\u007f")
}
