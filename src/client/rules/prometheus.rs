//! The rules API of Prometheus. It tells nothing of how far back a query looks, and throttles nothing:
//! an alert that is firing raises no other under its labels.

use serde_json::Value;

use super::{Asking, push, seconds, text};
use crate::client::Answer;
use crate::client::http::excerpt;
use crate::journey::rule::{Held, Rule};
use crate::outcome::Trouble;
use crate::time::Wall;

impl Asking<'_> {
    pub(super) async fn prometheus(&self) -> Result<Answer<Rule>, Trouble> {
        let mut found = Answer::default();
        self.groups("api/v1/rules", |_, rule| push(&mut found, rule)).await?;
        Ok(found)
    }

    /// Each alerting rule, with the name of its group.
    pub(super) async fn groups(
        &self,
        path: &str,
        mut each: impl FnMut(&str, Rule),
    ) -> Result<(), Trouble> {
        let answer = self.get(path, &[("type", "alert")]).await?;
        for group in self.list(&answer, "/data/groups")? {
            let every = group.get("interval").and_then(seconds);
            let rules = self.list(group, "/rules")?;
            for rule in rules.iter().filter(|rule| rule["type"] == "alerting") {
                let error = text(rule, "lastError");
                let failing = match text(rule, "health") {
                    "ok" | "unknown" | "nodata" | "" => None,
                    health if error.is_empty() => Some(health.to_owned()),
                    _ => Some(excerpt(error.as_bytes())),
                };
                let read = Rule {
                    name: text(rule, "name").to_owned(),
                    enabled: rule["isPaused"] != true,
                    failing,
                    // Before its first run it names the year 1.
                    ran: Wall::parse(text(rule, "lastEvaluation")).filter(|ran| ran.0 > 0),
                    every,
                    holds: rule.get("duration").and_then(seconds).unwrap_or_default(),
                    held: firing(rule),
                    tells_held: true,
                    state: text(rule, "state").to_owned(),
                    ..Rule::default()
                };
                each(text(group, "name"), read);
            }
        }
        Ok(())
    }
}

/// One that fires already, since when; under other labels another may be raised.
fn firing(rule: &Value) -> Option<Held> {
    let alerts = rule.get("alerts").and_then(Value::as_array)?;
    let fires = |alert: &&Value| {
        let state = text(alert, "state").to_lowercase();
        state == "firing" || state.starts_with("alerting")
    };
    let since = alerts.iter().filter(fires).map(|alert| text(alert, "activeAt")).min()?;
    let since = excerpt(since.as_bytes());
    let why = format!("an alert of it is active since {since} and raises no other of its labels");
    Some(Held { why, until: None, whole: false })
}
