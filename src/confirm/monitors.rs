//! OpenSearch Alerting: the alerts of its monitors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::alert::{self, Alert};
use super::{LookContext, reading};
use crate::client::http::{Api, Request, excerpt};
use crate::client::rules::{Engine, Place};
use crate::journey::Look;
use crate::outcome::{Fault, FaultCode};
use crate::time::Wall;

/// The most that one answer holds.
const SIZE: usize = 1_000;

/// Alerts of OpenSearch's Alerting plugin, in place of documents.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Monitors {
    /// The monitor's name.
    pub monitor: String,
    /// The trigger's name, where the monitor has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Further fields of the alert, such as `severity`, and their values; {run} is the round's
    /// name.
    #[serde(default, rename = "match")]
    pub fields: BTreeMap<String, String>,
}

impl Monitors {
    pub(super) fn rule(&self, api: &Api) -> Place {
        Place::new(Engine::OpensearchAlerting, api.clone(), &self.monitor)
    }

    pub(super) async fn look(&self, api: &Api, mark: &mut Value, on: LookContext<'_>) -> Look {
        let size = SIZE.to_string();
        let query = [("size", size.as_str()), ("sortString", "start_time"), ("sortOrder", "desc")];
        let request = Request::get(api.at("_plugins/_alerting/monitors/alerts", &query));
        let answer = match api.ask_json(on.clients, request, on.timeout / 2, on.trace).await {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(trouble.blind()),
        };
        let Some(found) = answer.get("alerts").and_then(Value::as_array) else {
            let text = format!("{} did not answer as OpenSearch Alerting does", api.base());
            return Look::blind(Fault::new(FaultCode::Blind, text));
        };
        let total = answer.get("totalAlerts").and_then(Value::as_u64);
        let lacking = total
            .is_none_or(|total| total > found.len() as u64)
            .then(|| format!("{} alerts were read, and there are more", found.len()));
        let wanted = alert::filled(&self.fields, &on);
        let ours = found.iter().filter_map(Value::as_object).filter(|fields| {
            let is = |key: &str, name: &str| fields.get(key).and_then(Value::as_str) == Some(name);
            is("monitor_name", &self.monitor)
                && self.trigger.as_ref().is_none_or(|trigger| is("trigger_name", trigger))
                && alert::matches(fields, &wanted)
        });
        let mut look = alert::look(ours.map(shown).collect::<Vec<_>>(), lacking, &on);
        // What is completed is moved to the history.
        alert::ended(&mut look, mark);
        if look.arrivals.is_empty() {
            let why = alert::why_none("monitor", &self.rule(api), &on).await;
            reading::remember(mark, &why, on.trace);
        }
        look
    }
}

fn shown(fields: &Map<String, Value>) -> Alert {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    let began = fields.get("start_time").and_then(Value::as_i64);
    let began = began.map(|millis| Wall(millis.saturating_mul(1_000_000)));
    let wrong = match text("state") {
        "ERROR" => {
            Some(format!("the trigger failed: {}", excerpt(text("error_message").as_bytes())))
        }
        _ => None,
    };
    let ended = matches!(text("state"), "COMPLETED" | "DELETED");
    let (name, severity) = (fields.get("trigger_name"), fields.get("severity"));
    let alert = Alert::new(text("id").to_owned(), began, fields.clone());
    Alert { wrong, ended, ..alert }.named(name, severity)
}
