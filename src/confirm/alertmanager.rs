//! Alerts that Alertmanager holds: raised, once, and not suppressed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Confirmer, LookContext, alert, reading};
use crate::client::alertmanager::{self as client, alerts, check_labels};
use crate::client::http::{Api, Auth};
use crate::client::rules::Place;
use crate::client::tls;
use crate::journey::Look;
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::time::Wall;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of an Alertmanager (or `https://GRAFANA/api/alertmanager/grafana`).
    pub url: String,
    /// Labels that the alert must have; {run} is the round's name. An alert counts where it names
    /// the round, or names none and began after the round did.
    #[serde(default, rename = "match")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct Alertmanager {
    labels: BTreeMap<String, String>,
    api: Api,
}

impl Confirmer for Alertmanager {
    const KIND: &'static str = "alertmanager";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        check_labels(&spec.labels)?;
        Ok(Self { labels: spec.labels, api: Api::new(&spec.url, spec.auth, spec.tls)? })
    }

    fn effects(&self) -> Vec<Effect> {
        vec![Effect { what: format!("asks {} for its alerts", self.api.base()), needs: None }]
    }

    fn ends(&self) -> bool {
        true
    }

    fn rule(&self) -> Option<Place> {
        Place::of_alert(&self.api, self.labels.get("alertname")?)
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let labels = alert::filled(&self.labels, &on);
        match alerts(&self.api, on.clients, &labels, on.timeout, on.trace).await {
            Ok(found) => {
                let there = there(&found);
                let mut look = alert::look(found.into_iter().map(shown), None, &on);
                // Alertmanager shows no alert that is resolved.
                alert::ended(&mut look, mark);
                if look.arrivals.is_empty() {
                    reading::remember(mark, &there, on.trace);
                }
                look
            }
            Err(trouble) => Look::blind(Trouble::blind(trouble)),
        }
    }
}

/// What is there where none is the round's: it only explains.
fn there(found: &[client::Alert]) -> String {
    let Some(first) = found.first() else { return "no alert with these labels is there".into() };
    let (began, is) = (first.starts.map(Wall::rfc3339), first.describe());
    format!(
        "{} with these labels are there, and none is the round's: each names another, or began before it; \
         one began at {}: {is}",
        found.len(),
        began.unwrap_or_else(|| "a time that it does not tell".into())
    )
}

fn shown(found: client::Alert) -> alert::Alert {
    let wrong = found.suppressed.as_deref().map(|by| {
        format!("the alert was raised and is {by}, so nobody is told: {}", found.describe())
    });
    let fields = json!({
        "labels": found.labels,
        "annotations": found.annotations,
        "receivers": found.receivers,
        "generator_url": found.generator_url,
    });
    let fields = fields.as_object().cloned().unwrap_or_default();
    let label = |name| fields.get("labels").and_then(|labels| labels.get(name)).cloned();
    let (name, severity) = (label("alertname"), label("severity"));
    let copy = format!("{}/{}", found.fingerprint, found.starts_text);
    let shown = alert::Alert::new(copy, found.starts, fields);
    alert::Alert { wrong, ..shown }.named(name.as_ref(), severity.as_ref())
}
