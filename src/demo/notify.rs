//! The notifier: tells the webhook of each alert, in Alertmanager's form (version 4).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::lake::Alert;
use super::{State, locked};
use crate::client::Clients;
use crate::client::http::{How, Request, fetch, parse_url};
use crate::client::tls;
use crate::journey::Stage;
use crate::spec::trace::Trace;

/// Alerts are looked for so often, and a webhook that does not answer is tried again.
const EVERY: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Notifies until it is dropped.
pub(super) async fn run(state: Arc<State>) {
    let clients = Clients::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if state.broken(Stage::Notified) {
            continue;
        }
        let Some(url) = locked(&state.webhook).clone() else { continue };
        let Some(alert) = state.lake().unnotified() else { continue };
        match post(&clients, &url, &alert).await {
            Ok(()) => state.lake().notified(&alert),
            Err(error) => {
                tracing::warn!(%error, url, "the embedded platform can't notify");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn post(clients: &Clients, url: &str, alert: &Alert) -> Result<(), String> {
    let request = Request::post_json(parse_url(url)?, &message(alert));
    let tls = tls::Options::default();
    let how = How::within(TIMEOUT, &tls);
    let answer = fetch(clients, request, &how, &Trace::off()).await;
    let answer = answer.map_err(|failed| failed.trouble.to_string())?;
    if answer.status.is_success() { Ok(()) } else { Err(format!("answered {}", answer.status)) }
}

fn message(alert: &Alert) -> Value {
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{run=\"{}\"}}", alert.labels.get("greenlight_run").map_or("", |r| r)),
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "embedded-webhook",
        "groupLabels": {"alertname": alert.labels.get("alertname")},
        "commonLabels": alert.labels,
        "commonAnnotations": alert.annotations(),
        "externalURL": "http://embedded.invalid",
        "alerts": [{
            "status": "firing",
            "labels": alert.labels,
            "annotations": alert.annotations(),
            "startsAt": alert.starts.rfc3339(),
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": alert.fingerprint(),
        }],
    })
}
