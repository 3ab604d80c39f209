//! Notifications that arrived at the agent's own webhook receiver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Confirmer, LookContext, recognise};
use crate::client::inbox::{Kind, Notification, Status};
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;

#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// Who sends the notifications: the last part of the receiver's path,
    /// `/api/v1/webhook/{alertmanager,grafana,json}`; any of them where nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Kind>,
    /// Labels that the notification must have; of `json` its top-level values are labels too.
    #[serde(rename = "match")]
    pub labels: BTreeMap<String, String>,
}

pub struct Webhook {
    spec: Spec,
}

impl Confirmer for Webhook {
    const KIND: &'static str = "webhook";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        Ok(Self { spec })
    }

    fn effects(&self) -> Vec<Effect> {
        let from = self.spec.from.map_or("{alertmanager,grafana,json}", Kind::word);
        let what = format!("takes notifications at /api/v1/webhook/{from} of this agent");
        vec![Effect { what, needs: None }]
    }

    async fn begin(&self, _on: LookContext<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let (inbox, sought) = (on.clients.inbox(), on.sought);
        let found = inbox.find(self.spec.from, &self.spec.labels, sought.began.wall);
        on.trace.note(format_args!("{} notifications match since the round began", found.len()));
        let horizon = match inbox.complete_since() {
            Some(since) if since > sought.began.wall => Horizon::Partial(Fault::new(
                FaultCode::Exhausted,
                format!(
                    "so many notifications came that those before {} were dropped",
                    since.rfc3339()
                ),
            )),
            _ => Horizon::Complete,
        };
        let arrivals = found
            .into_iter()
            .filter(|n| n.status == Status::Firing)
            .filter(|n| {
                recognise::is_ours(n.texts(), Some(n.starts.unwrap_or(n.received.wall)), sought)
            })
            .map(arrival)
            .collect();
        Look { arrivals, horizon }
    }
}

fn arrival(notification: Notification) -> Arrival {
    let mut fields = Map::new();
    fields.insert("labels".into(), json!(notification.labels));
    fields.insert("annotations".into(), json!(notification.annotations));
    Arrival {
        seq: None,
        copy: notification.copy,
        seen: notification.received.mono,
        order: None,
        text: Some(notification.text),
        fields: Some(fields),
        dead_letter: false,
        wrong: None,
    }
}
