//! OpenSearch Alerting: its monitors. An alert that is active raises no other of its trigger.

use std::time::Duration;

use super::*;
use crate::client::http::excerpt;
use crate::journey::rule::{Cron, Held, Throttle};

impl Asking<'_> {
    pub(super) async fn opensearch(&self, name: Option<&str>) -> Result<Answer<Rule>, Trouble> {
        let query = match name {
            Some(name) => json!({"match_phrase": {"monitor.name": name}}),
            None => json!({"match_all": {}}),
        };
        let body = json!({"size": PAGE, "track_total_hits": true, "query": query});
        let answer = self.post("_plugins/_alerting/monitors/_search", &body).await?;
        let hits = self.list(&answer, "/hits/hits")?;
        let stats = self.get("_plugins/_alerting/stats", &[]).await?;
        let jobs: Vec<&Value> = stats
            .get("nodes")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|nodes| nodes.values())
            .filter_map(|node| node.get("jobs_info"))
            .collect();
        let errors = self.alerts("ERROR").await?;
        // What is active matters to who waits for an alert.
        let active = if name.is_some() { self.alerts("ACTIVE").await? } else { Vec::new() };
        let mut found = Answer::default();
        for hit in hits {
            let id = text(hit, "_id");
            let source = hit.get("_source").unwrap_or(&Value::Null);
            // Older versions nest it.
            let monitor = source.get("monitor").unwrap_or(source);
            let of = |alert: &&Value| text(alert, "monitor_id") == id;
            let ran =
                jobs.iter().filter_map(|node| node.get(id)?.get("last_execution_time")?.as_i64());
            let error = errors.iter().find(of);
            let (every, schedule) = schedule(monitor, self.clients.wall().unwrap_or_default());
            push(
                &mut found,
                Rule {
                    name: text(monitor, "name").to_owned(),
                    enabled: monitor["enabled"] == true,
                    failing: error.map(|error| excerpt(text(error, "error_message").as_bytes())),
                    ran: ran.max().map(|millis| Wall(millis.saturating_mul(1_000_000))),
                    every,
                    schedule,
                    look_back: monitor.get("inputs").and_then(look_back),
                    throttle: throttle(monitor),
                    held: active.iter().find(of).map(held),
                    tells_held: name.is_some(),
                    ..Rule::default()
                },
            );
        }
        let total = answer.pointer("/hits/total/value").and_then(Value::as_u64);
        if total.is_none_or(|total| total > hits.len() as u64) {
            found.lacks(format!("{} monitors were read, and there are more", hits.len()));
        }
        Ok(found)
    }

    async fn alerts(&self, state: &str) -> Result<Vec<Value>, Trouble> {
        let query = [("alertState", state), ("size", "1000")];
        let answer = self.get("_plugins/_alerting/monitors/alerts", &query).await?;
        Ok(answer.get("alerts").and_then(Value::as_array).cloned().unwrap_or_default())
    }
}

fn schedule(monitor: &Value, now: Wall) -> (Option<Duration>, Option<String>) {
    if let Some(period) = monitor.pointer("/schedule/period") {
        let number = period.get("interval").and_then(Value::as_u64);
        return (number.and_then(|number| units(number, text(period, "unit"))), None);
    }
    let Some(cron) = monitor.pointer("/schedule/cron") else { return (None, None) };
    let words = text(cron, "expression");
    let every = Cron::parse(words).ok().map(|cron| cron.longest_gap(now));
    (every, Some(excerpt(words.as_bytes())))
}

fn units(number: u64, unit: &str) -> Option<Duration> {
    let seconds = match unit {
        "SECONDS" => 1,
        "MINUTES" => 60,
        "HOURS" => 3_600,
        "DAYS" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// The latest beginning of a range of time in the monitor's queries: all of them must hold.
fn look_back(inputs: &Value) -> Option<Duration> {
    let (mut rest, mut found) = (vec![inputs], None);
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str() {
                        Some(text) if matches!(key.as_str(), "gte" | "gt" | "from") => {
                            let back = back_from(text).filter(|back| !back.is_zero());
                            found = found.into_iter().chain(back).min();
                        }
                        _ => rest.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The longest throttle of an action.
fn throttle(monitor: &Value) -> Option<Throttle> {
    let triggers = monitor.get("triggers").and_then(Value::as_array)?;
    // Newer versions nest a trigger under its kind.
    let inner = |trigger: &Value| {
        trigger
            .get("actions")
            .cloned()
            .or_else(|| trigger.as_object()?.values().find_map(|kind| kind.get("actions").cloned()))
    };
    let actions = triggers.iter().filter_map(inner).filter_map(|actions| match actions {
        Value::Array(actions) => Some(actions),
        _ => None,
    });
    let lasts = |action: &Value| {
        let throttle = action.get("throttle").filter(|_| action["throttle_enabled"] == true)?;
        units(throttle.get("value")?.as_u64()?, text(throttle, "unit"))
    };
    let lasts = actions.flatten().filter_map(|action| lasts(&action)).max()?;
    Some(Throttle { lasts, by: Vec::new() })
}

fn held(alert: &Value) -> Held {
    let since = alert.get("start_time").and_then(millis).unwrap_or_default().rfc3339();
    let trigger = excerpt(text(alert, "trigger_name").as_bytes());
    let why = format!("the alert of {trigger:?} is active since {since} and raises no other");
    // A trigger for each bucket or document may raise another.
    Held { why, until: None, whole: false }
}
