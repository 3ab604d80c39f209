//! Notifications that arrived at the agent's own webhook receiver.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::alert::{self, Alert};
use super::{Confirmer, LookContext, reading};
use crate::client::inbox::{Kind, Notification, Status};
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;
use crate::time::Wall;

#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// Who sends the notifications: the last part of the receiver's path,
    /// `/api/v1/webhook/{alertmanager,grafana,json}`; any of them where nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Kind>,
    /// Labels that the notification must have; of `json` its top-level values are labels too. {run}
    /// is the round's name.
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

    fn ends(&self) -> bool {
        true
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let (inbox, sought) = (on.clients.inbox(), on.sought);
        let labels = alert::filled(&self.spec.labels, &on);
        let found = inbox.find(self.spec.from, &labels, sought.began.mono);
        on.trace.note(format_args!("{} notifications match since the round began", found.len()));
        // One that does not say when its alert began came after the round did.
        let after = on.span(Duration::ZERO).1;
        let count = found.len();
        let mut look = alert::look(shown(found, after), None, &on);
        if look.arrivals.is_empty() {
            // It only explains.
            let came = match count {
                0 => "no notification with these labels came since the round began".into(),
                _ => format!(
                    "{count} with these labels came, and none is the round's: each names another, or its \
                     alert began before the round"
                ),
            };
            reading::remember(mark, &came, on.trace);
        }
        if let Some(fault) = inbox.closed() {
            look.horizon = Horizon::Blind(fault);
        } else if let Some(since) = inbox.complete_since()
            && since.mono > sought.began.mono
        {
            look.horizon = Horizon::Partial(Fault::new(
                FaultCode::Exhausted,
                format!(
                    "so many notifications came that those before {} were dropped",
                    since.wall.rfc3339()
                ),
            ));
        }
        look
    }
}

/// Those that tell of an alert that fires, and the ends of such.
fn shown(found: Vec<Notification>, after: Wall) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::with_capacity(found.len());
    for notification in found {
        let began = Some(notification.starts.unwrap_or(after));
        let fields = json!({
            "labels": notification.labels,
            "annotations": notification.annotations,
        });
        let fields = fields.as_object().cloned().unwrap_or_default();
        let label = |name: &str| notification.labels.get(name).map(|text| Value::from(&**text));
        let (name, severity) = (label("alertname").or_else(|| label("name")), label("severity"));
        let alert = Alert {
            seen: notification.received.mono,
            text: Some(notification.text),
            ended: notification.status == Status::Resolved,
            ..Alert::new(notification.copy, began, fields).named(name.as_ref(), severity.as_ref())
        };
        if !alert.ended {
            alerts.push(alert);
            continue;
        }
        // What has no names of its own ends all that came before it.
        let raised = alert.copy.strip_prefix("resolved/").and_then(|copy| copy.rsplit_once('#'));
        let copies: Vec<String> = match raised {
            Some((copy, _)) => vec![format!("firing/{copy}#0")],
            None => alerts.iter().filter(|one| !one.ended).map(|one| one.copy.clone()).collect(),
        };
        alerts.extend(copies.into_iter().map(|copy| Alert {
            copy,
            fields: alert.fields.clone(),
            text: alert.text.clone(),
            wrong: None,
            ..alert
        }));
    }
    alerts
}
