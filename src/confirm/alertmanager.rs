//! Alerts that Alertmanager holds: raised, once, and not suppressed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Confirmer, LookContext, recognise};
use crate::client::alertmanager::{Alert, alerts, check_labels};
use crate::client::http::{Api, Auth};
use crate::client::tls;
use crate::journey::{Arrival, Look};
use crate::outcome::{Reason, ReasonCode, Trouble};
use crate::probe::Effect;
use crate::time::Mono;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of an Alertmanager (or `https://GRAFANA/api/alertmanager/grafana`).
    pub url: String,
    /// Labels that the alert must have. An alert counts where it names the round, or names none
    /// and began after the round did.
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

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        match alerts(&self.api, on.clients, &self.labels, on.timeout, on.trace).await {
            Ok(found) => {
                let told = found
                    .into_iter()
                    .map(|alert| (recognise::whose(alert.texts(), alert.starts, &on), alert));
                let (ours, horizon) = recognise::ours(told);
                Look { arrivals: ours.into_iter().map(arrival).collect(), horizon }
            }
            Err(trouble) => Look::blind(Trouble::blind(trouble)),
        }
    }
}

fn arrival(alert: Alert) -> Arrival {
    let wrong = alert.suppressed.as_deref().map(|by| {
        Reason::new(
            ReasonCode::AlertMismatch,
            format!("the alert was raised and is {by}, so nobody is told: {}", alert.describe()),
        )
    });
    let mut fields = Map::new();
    fields.insert("labels".into(), json!(alert.labels));
    fields.insert("annotations".into(), json!(alert.annotations));
    fields.insert("receivers".into(), json!(alert.receivers));
    Arrival {
        seq: None,
        copy: format!("{}/{}", alert.fingerprint, alert.starts_text),
        seen: Mono::now(),
        order: None,
        text: None,
        fields: Some(fields),
        dead_letter: false,
        stamped: None,
        wrong,
    }
}
