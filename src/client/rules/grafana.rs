//! Grafana's own rules: how far back they look, by the provisioning API, and how they fare, by the one
//! that is Prometheus'.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Asking, push, seconds, short, text};
use crate::client::Answer;
use crate::journey::rule::Rule;
use crate::outcome::Trouble;

impl Asking<'_> {
    pub(super) async fn grafana(&self) -> Result<Answer<Rule>, Trouble> {
        let answer = self.get("api/v1/provisioning/alert-rules", &[]).await?;
        let mut fares: BTreeMap<(String, String), Rule> = BTreeMap::new();
        self.groups("api/prometheus/grafana/api/v1/rules", |group, rule| {
            fares.insert((group.to_owned(), rule.name.clone()), rule);
        })
        .await?;
        let mut found = Answer::default();
        for rule in self.list(&answer, "")? {
            let name = text(rule, "title").to_owned();
            let place = (text(rule, "ruleGroup").to_owned(), name.clone());
            // One that was not loaded yet has no interval.
            let fare = fares.get(&place).cloned().unwrap_or_default();
            let (look_back, delay) = window(rule).unzip();
            push(
                &mut found,
                Rule {
                    name,
                    enabled: rule["isPaused"] != true,
                    holds: short(text(rule, "for")).unwrap_or(fare.holds),
                    look_back,
                    delay: delay.unwrap_or_default(),
                    ..fare
                },
            );
        }
        Ok(found)
    }
}

/// How far back its queries look, the shortest of them, and what they leave out at the end. What
/// computes with their results looks at nothing.
fn window(rule: &Value) -> Option<(Duration, Duration)> {
    let queries = rule.get("data").and_then(Value::as_array)?;
    let computed = ["__expr__", "-100"];
    let queries = queries.iter().filter(|data| !computed.contains(&text(data, "datasourceUid")));
    let range = |data: &Value| {
        let range = data.get("relativeTimeRange")?;
        let to = range.get("to").and_then(seconds).unwrap_or_default();
        Some((seconds(range.get("from")?)?, to)).filter(|(from, _)| !from.is_zero())
    };
    queries.filter_map(range).min()
}
