//! The store and the alerts: what is in the platform's memory, bounded.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::journey::fields::lookup;
use crate::time::{Mono, Wall};

/// Hours of the demo's rounds.
const DOCUMENTS_LIMIT: usize = 50_000;
const ALERTS_LIMIT: usize = 500;
/// An alert is over so long after it began.
const ALERT_LASTS: std::time::Duration = std::time::Duration::from_secs(300);

#[derive(Default)]
pub(super) struct Lake {
    documents: VecDeque<Document>,
    next: u64,
    alerts: VecDeque<Alert>,
    /// The latest event time.
    now: Wall,
}

pub(super) struct Document {
    id: u64,
    run: String,
    source: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    pub(super) labels: BTreeMap<String, String>,
    /// The text of the event that raised it.
    pub(super) event: String,
    pub(super) starts: Wall,
    /// What is over is told by this, whatever the events say of the time.
    pub(super) raised: Mono,
    pub(super) notified: bool,
}

pub(super) fn text<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a str> {
    lookup(fields, path).and_then(Value::as_str)
}

pub(super) fn time(fields: &Map<String, Value>) -> Wall {
    text(fields, "@timestamp").and_then(Wall::parse).unwrap_or_default()
}

impl Lake {
    pub(super) fn store(&mut self, source: Map<String, Value>) {
        self.now = self.now.max(time(&source));
        let run = text(&source, "greenlight.run").unwrap_or_default().to_owned();
        self.documents.push_back(Document { id: self.next, run, source });
        self.next = self.next.saturating_add(1);
        if self.documents.len() > DOCUMENTS_LIMIT {
            self.documents.pop_front();
        }
    }

    pub(super) fn raise(&mut self, alert: Alert) {
        self.now = self.now.max(alert.starts);
        self.alerts.push_back(alert);
        if self.alerts.len() > ALERTS_LIMIT {
            self.alerts.pop_front();
        }
    }

    /// A page of a run's documents, shaped as OpenSearch answers: oldest first.
    pub(super) fn search(&self, run: &str, from: usize, size: usize) -> Value {
        let all: Vec<&Document> = self.documents.iter().filter(|d| d.run == run).collect();
        let hits: Vec<Value> = all
            .iter()
            .skip(from)
            .take(size)
            .map(|d| json!({"_id": d.id.to_string(), "_source": d.source}))
            .collect();
        json!({
            "platform": "embedded",
            "timed_out": false,
            "hits": {"total": {"value": all.len(), "relation": "eq"}, "hits": hits},
        })
    }

    /// How many stored failed logins have all these labels: a run, a way in.
    pub(super) fn failed_logins(&self, labels: &[(String, String)]) -> u64 {
        let matches = |document: &&Document| {
            text(&document.source, "event.outcome") == Some("failure")
                && labels.iter().all(|(name, value)| {
                    let shown = match name.as_str() {
                        "run" => Some(document.run.as_str()),
                        "way_in" => text(&document.source, "labels.way_in"),
                        _ => None,
                    };
                    shown == Some(value)
                })
        };
        self.documents.iter().filter(matches).count() as u64
    }

    /// The latest event's time: the platform's idea of now.
    pub(super) fn now(&self) -> Wall {
        self.now
    }

    /// Alerts that are not over, with all these labels.
    pub(super) fn alerts(&self, labels: &[(String, String)]) -> Vec<&Alert> {
        let has = |alert: &&Alert, (name, value): &(String, String)| {
            alert.labels.get(name).is_some_and(|shown| shown == value)
        };
        self.alerts
            .iter()
            .filter(|alert| alert.raised.plus(ALERT_LASTS) > Mono::now())
            .filter(|alert| labels.iter().all(|label| has(alert, label)))
            .collect()
    }

    /// The oldest alert that nobody was told of.
    pub(super) fn unnotified(&self) -> Option<Alert> {
        self.alerts.iter().find(|alert| !alert.notified).cloned()
    }

    pub(super) fn notified(&mut self, told: &Alert) {
        if let Some(alert) = self.alerts.iter_mut().find(|alert| alert.labels == told.labels) {
            alert.notified = true;
        }
    }
}

impl Alert {
    pub(super) fn ends(&self) -> Wall {
        self.starts.plus(ALERT_LASTS)
    }

    pub(super) fn fingerprint(&self) -> String {
        format!("{:016x}", u64::from(crc32fast::hash(format!("{:?}", self.labels).as_bytes())))
    }

    pub(super) fn annotations(&self) -> Value {
        let of = |label: &str| self.labels.get(label).map_or("", String::as_str);
        let summary =
            format!("{} in the embedded platform (run {})", of("alertname"), of("greenlight_run"));
        json!({"summary": summary, "event": self.event})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(run: &str, owner: bool) -> Map<String, Value> {
        let mut event = json!({
            "@timestamp": "2026-01-01T00:00:00Z",
            "greenlight.run": run,
            "labels.way_in": "http",
            "event": {"outcome": "failure"},
        });
        if owner {
            event["enriched"] = json!({"asset": {"owner": "soc-test"}});
        }
        event.as_object().cloned().unwrap()
    }

    #[test]
    fn documents_are_found_by_run_and_counted_by_label() {
        let mut lake = Lake::default();
        for run in ["a", "b", "a", "a"] {
            lake.store(event(run, true));
        }
        let found = lake.search("a", 1, 1);
        assert_eq!(found["hits"]["total"]["value"], 3);
        assert_eq!(found["hits"]["hits"][0]["_id"], "2");
        assert_eq!(found["hits"]["hits"].as_array().map(Vec::len), Some(1));
        let labels = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(lake.failed_logins(&labels(&[("way_in", "http")])), 4);
        assert_eq!(lake.failed_logins(&labels(&[("way_in", "http"), ("run", "b")])), 1);
        assert_eq!(lake.failed_logins(&labels(&[("other", "x")])), 0);
        for _ in 0..DOCUMENTS_LIMIT {
            lake.store(event("c", true));
        }
        assert_eq!(lake.documents.len(), DOCUMENTS_LIMIT);
    }
}
