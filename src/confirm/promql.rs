//! A query of Prometheus that shows what was sent: a number that must be reached, or any answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::alert::{self, Alert};
use super::{Confirmer, LookContext, reading};
use crate::client::alertmanager::check_labels;
use crate::client::http::{Api, Auth, Request};
use crate::client::rules::{Engine, Place, rules};
use crate::client::{promql, tls};
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::probe::Effect;
use crate::time::Wall;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of a Prometheus, or of what speaks its API.
    pub url: String,
    /// The expression; {run} stands for the round. With `equals:` on the stage it must yield one
    /// series whose value is that; without, any series will do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// In place of a query: labels of an alert that must fire (`ALERTS` with `alertstate` firing),
    /// `alertname` among them; {run} is the round's name. An alert counts where it names the round,
    /// or names none and became active after the round began.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alert: BTreeMap<String, String>,
    /// How far the value may be from the expected one: `increase` and `rate` extrapolate.
    #[serde(default)]
    pub tolerance: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct Promql {
    query: String,
    alert: BTreeMap<String, String>,
    tolerance: f64,
    api: Api,
}

impl Confirmer for Promql {
    const KIND: &'static str = "promql";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        match (spec.query.trim().is_empty(), spec.alert.is_empty()) {
            (true, true) => return Err("`query` is empty, and no `alert` is named".into()),
            (false, false) => return Err("`query` and `alert` are two ways; give one".into()),
            _ => check_labels(&spec.alert)?,
        }
        reading::check_tolerance(spec.tolerance)?;
        let api = Api::new(&spec.url, spec.auth, spec.tls)?;
        Ok(Self { query: spec.query, alert: spec.alert, tolerance: spec.tolerance, api })
    }

    fn tells_whose(&self) -> bool {
        !self.alert.is_empty()
    }

    fn effects(&self) -> Vec<Effect> {
        let what = match self.alert.is_empty() {
            true => format!("asks {} for `{}`", self.api.base(), self.query),
            false => format!("asks {} for its alerts", self.api.base()),
        };
        vec![Effect { what, needs: None }]
    }

    fn ends(&self) -> bool {
        !self.alert.is_empty()
    }

    fn rule(&self) -> Option<Place> {
        let name = self.alert.get("alertname")?;
        Some(
            Place::of_alert(&self.api, name)
                .unwrap_or_else(|| Place::new(Engine::Prometheus, self.api.clone(), name)),
        )
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        if !self.alert.is_empty() {
            return self.alerts(mark, on).await;
        }
        let query = self.query.replace("{run}", &on.sought.run);
        let asked = promql::instant(&self.api, on.clients, &query, on.timeout, on.trace).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        let blind = |text: String| Fault::new(FaultCode::Blind, text);
        let horizon = match answer.partial {
            Some(why) => Horizon::Partial(blind(why)),
            None => Horizon::Complete,
        };
        let values: Vec<f64> = answer.series.iter().map(|series| series.value).collect();
        let arrivals = match (on.sought.equals, values.as_slice()) {
            (_, []) => {
                reading::remember(mark, "the query yields no series", on.trace);
                Vec::new()
            }
            (None, _) => vec![reading::arrival()],
            (Some(expected), [value]) => {
                reading::compare(*value, expected, self.tolerance, mark, on.trace)
            }
            (Some(_), several) => {
                return Look::blind(blind(format!(
                    "`{query}` yields {} series, and one is compared; write sum(...) around it",
                    several.len()
                )));
            }
        };
        Look { arrivals, horizon }
    }
}

impl Promql {
    async fn alerts(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let request = Request::get(self.api.at("api/v1/alerts", &[]));
        let asked = self.api.ask_json(on.clients, request, on.timeout / 2, on.trace).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(trouble.blind()),
        };
        let Some(found) = answer.pointer("/data/alerts").and_then(Value::as_array) else {
            let text = format!("{} did not answer as Prometheus does", self.api.base());
            return Look::blind(Fault::new(FaultCode::Blind, text));
        };
        let wanted = alert::filled(&self.alert, &on);
        let empty = Map::new();
        let is_meant = |fields: &&Map<String, Value>| {
            let labels = fields.get("labels").and_then(Value::as_object).unwrap_or(&empty);
            alert::matches(labels, &wanted)
        };
        let meant = found.iter().filter_map(Value::as_object).filter(is_meant);
        let (firing, others): (Vec<_>, Vec<_>) = meant.partition(|fields| {
            // Grafana says Alerting.
            let state = fields.get("state").and_then(Value::as_str).unwrap_or_default();
            state.eq_ignore_ascii_case("firing") || state.to_lowercase().starts_with("alerting")
        });
        let lacking = (firing.len() > alert::LIMIT)
            .then(|| format!("more than {} alerts fire that match", alert::LIMIT));
        let shown = firing.into_iter().take(alert::LIMIT).map(shown);
        let mut look = alert::look(shown.collect::<Vec<_>>(), lacking, &on);
        alert::ended(&mut look, mark);
        if look.arrivals.is_empty() {
            // Grafana lists what is well, too.
            let mut states = others.iter().filter_map(|fields| fields.get("state")?.as_str());
            let state = states.find(|state| !state.eq_ignore_ascii_case("normal"));
            let why = self.why_none(state, &on).await;
            reading::remember(mark, &why, on.trace);
        }
        look
    }

    /// What is known of the rule: it only explains.
    async fn why_none(&self, state: Option<&str>, on: &LookContext<'_>) -> String {
        let name = self.alert.get("alertname").map_or("", |name| name);
        let asked =
            rules(Engine::Prometheus, "", None, &self.api, on.clients, on.timeout / 2, on.trace);
        let rules = match asked.await {
            Ok(answer) => answer.rows,
            Err(trouble) => return format!("no alert, and the rule can't be read: {trouble}"),
        };
        let Some(rule) = rules.iter().find(|rule| rule.name == name) else {
            return format!("no rule is called {name:?}");
        };
        match (&rule.failing, state) {
            _ if !rule.enabled => format!("the rule {name:?} is paused"),
            (Some(why), _) => format!("the rule {name:?} fails: {why}"),
            (None, Some(state)) if rule.holds.is_zero() => format!("the alert {name:?} is {state}"),
            (None, Some(state)) => {
                format!("the alert {name:?} is {state}; its rule waits {:?}", rule.holds)
            }
            (None, None) => format!(
                "the rule {name:?} is loaded, {}, and its condition does not hold",
                rule.ran.map_or("never ran".into(), |ran| format!("ran last at {}", ran.rfc3339()))
            ),
        }
    }
}

fn shown(fields: &Map<String, Value>) -> Alert {
    let label = |name: &str| fields.get("labels").and_then(|labels| labels.get(name)).cloned();
    let active = fields.get("activeAt").and_then(Value::as_str).unwrap_or_default();
    let labels = fields.get("labels").map(Value::to_string).unwrap_or_default();
    let alert = Alert::new(format!("{labels}/{active}"), Wall::parse(active), fields.clone());
    alert.named(label("alertname").as_ref(), label("severity").as_ref())
}
