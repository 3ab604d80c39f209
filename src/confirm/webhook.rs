//! Notifications that arrived at the agent's own webhook receiver.

use std::collections::BTreeMap;
use std::time::Duration;

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

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let (inbox, sought) = (on.clients.inbox(), on.sought);
        let found = inbox.find(self.spec.from, &self.spec.labels, sought.began.mono);
        on.trace.note(format_args!("{} notifications match since the round began", found.len()));
        // One that does not say when its alert began came after the round did.
        let after = on.span(Duration::ZERO).1;
        let told = found
            .into_iter()
            .filter(|n| n.status == Status::Firing)
            .map(|n| (recognise::whose(n.texts(), Some(n.starts.unwrap_or(after)), &on), n));
        let (ours, told) = recognise::ours(told);
        let horizon = match inbox.complete_since() {
            Some(since) if since.mono > sought.began.mono => Horizon::Partial(Fault::new(
                FaultCode::Exhausted,
                format!(
                    "so many notifications came that those before {} were dropped",
                    since.wall.rfc3339()
                ),
            )),
            _ => told,
        };
        Look { arrivals: ours.into_iter().map(arrival).collect(), horizon }
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
        stamped: None,
        wrong: None,
    }
}
