//! Rules: how many a detection engine has loaded, which of them are off or fail, and how long ago
//! each ran.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe};
use crate::client::http::{Api, Auth, parse_url};
use crate::client::rules::{Engine, rules, writeback_index};
use crate::client::search::check_index;
use crate::client::tls;
use crate::journey::rule::Rule;
use crate::outcome::{Fault, FaultCode, Reading, Sample};
use crate::time::Wall;

/// So many rules are named in a note.
const NAMED: usize = 20;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Which engine lists its rules at the targets: base URLs of Prometheus (or of
    /// `https://GRAFANA/api/prometheus/grafana`), of Grafana, of OpenSearch, of Kibana, of Splunk's
    /// management port, or of the store that ElastAlert 2 writes to.
    pub engine: Engine,
    /// ElastAlert's `writeback_index`.
    #[serde(default = "writeback_index")]
    pub index: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct Rules {
    spec: Spec,
}

impl Probe for Rules {
    const KIND: &'static str = "rules";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[
        &probe::RULES_COUNT,
        &probe::RULES_DISABLED,
        &probe::RULES_FAILING,
        &probe::RULES_RUN_AGE,
    ];
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn new(spec: Spec) -> Result<Self, String> {
        check_index(&spec.index)?;
        spec.tls.validate()?;
        if let Some(auth) = &spec.auth {
            auth.validate()?;
        }
        Ok(Self { spec })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        parse_url(text).map(drop)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect { what: format!("asks {target} for its rules"), needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let Spec { engine, index, auth, tls } = &self.spec;
        let blind = |text: String| Reading::from(Fault::new(FaultCode::Blind, text));
        let api = match Api::new(on.target, auth.clone(), tls.clone()) {
            Ok(api) => api,
            Err(text) => return blind(text),
        };
        let asked = rules(*engine, index, None, &api, on.clients, on.timeout, on.trace).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(trouble) => return trouble.blind().into(),
        };
        if let Some(why) = answer.lacking {
            return blind(why);
        }
        let Some(now) = on.clients.wall() else { return blind("there is no clock".into()) };
        told(&answer.rows, now)
    }
}

/// The figures, and by name what is off, fails or never ran.
fn told(rules: &[Rule], now: Wall) -> Reading {
    let disabled: Vec<String> =
        rules.iter().filter(|rule| !rule.enabled).map(|rule| rule.name.clone()).collect();
    let on = || rules.iter().filter(|rule| rule.enabled);
    let failing: Vec<String> = on()
        .filter_map(|rule| match &rule.failing {
            Some(why) => Some(format!("{} ({why})", rule.name)),
            None if rule.ran.is_none() => Some(format!("{} (never ran)", rule.name)),
            None => None,
        })
        .collect();
    let age = |ran: Wall| now.0.saturating_sub(ran.0).max(0) as f64 / 1e9;
    let oldest = on().filter_map(|rule| Some((age(rule.ran?), &rule.name)));
    let oldest = oldest.max_by(|a, b| a.0.total_cmp(&b.0));
    let mut samples = vec![
        Sample::new(&probe::RULES_COUNT, rules.len() as f64),
        Sample::new(&probe::RULES_DISABLED, disabled.len() as f64),
        Sample::new(&probe::RULES_FAILING, failing.len() as f64),
    ];
    samples.extend(oldest.iter().map(|(age, _)| Sample::new(&probe::RULES_RUN_AGE, *age)));
    let mut notes = Vec::new();
    for (what, names) in [("off", disabled), ("failing", failing)] {
        if !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
            notes.push(format!("{} rules are {what}: {}", names.len(), shown.join(", ")));
        }
    }
    notes.extend(oldest.map(|(age, name)| format!("{name} ran last, {age:.0} s ago")));
    Reading { notes, ..Reading::success(samples) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_fails_or_never_ran_is_counted_and_named() {
        let rule = |name: &str, enabled, failing: Option<&str>, ran: Option<i64>| Rule {
            name: name.into(),
            enabled,
            failing: failing.map(str::to_owned),
            ran: ran.map(Wall::from_secs),
            ..Rule::default()
        };
        let rules = [
            rule("a", true, None, Some(90)),
            rule("b", true, Some("no field"), Some(95)),
            rule("c", true, None, None),
            rule("d", false, None, Some(1)),
        ];
        let reading = told(&rules, Wall::from_secs(100));
        let values: Vec<f64> = reading.samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values, [4.0, 1.0, 2.0, 10.0]);
        assert_eq!(
            reading.notes,
            [
                "1 rules are off: d",
                "2 rules are failing: b (no field), c (never ran)",
                "a ran last, 10 s ago"
            ]
        );
        assert_eq!(told(&[], Wall::default()).samples.len(), 3, "no rule, no age");
    }
}
