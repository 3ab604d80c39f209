//! OpenTelemetry: logs by OTLP over HTTP in JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::post::{Endpoint, Posted, accepted, expect_answer, most, nonsense, packed, post_each};
use super::{SendContext, Sender};
use crate::client::http::{Auth, excerpt};
use crate::client::tls;
use crate::journey::event::ID_HEADER;
use crate::journey::{Event, Receipt};
use crate::outcome::{Reason, ReasonCode};
use crate::probe::Effect;
use crate::spec::Period;

/// Records in a request where the plan does not say.
const PER_REQUEST: usize = 100;
/// INFO, of the data model's severity numbers.
const SEVERITY: u8 = 9;

/// Exports one log record an event: the message is its body, the fields are its attributes.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The collector's base URL, as `http://collector:4318`; `/v1/logs` is added.
    pub to: String,
    /// Attributes of the resource, beside `service.name` and `host.name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resource: BTreeMap<String, String>,
    /// The most records in a request; 100 by default. With 1, each event has an answer of its own:
    /// OTLP does not say which records of a request were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<u64>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
    /// Compress the requests (Content-Encoding: gzip).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

#[derive(Debug)]
pub struct Otlp {
    endpoint: Endpoint,
    resource: BTreeMap<String, String>,
    per_request: usize,
    timeout: Option<Duration>,
}

impl Sender for Otlp {
    const KIND: &'static str = "otlp";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;
    const OWN_FORMAT: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        let endpoint = Endpoint::new(&spec.to, &spec.headers, spec.auth, &spec.tls, spec.gzip)?;
        Ok(Self {
            endpoint: endpoint.under("/v1/logs"),
            resource: spec.resource,
            per_request: most(spec.per_request, PER_REQUEST)?,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        vec![Effect {
            what: format!("exports {count} log records to {}", self.endpoint.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let packs = packed(events, self.per_request, ",", |event| record(event).to_string());
        let bodies = packs.into_iter().map(|(events, records)| {
            let resource = self.resource(events);
            let body = format!(
                "{{\"resourceLogs\":[{{\"resource\":{resource},\"scopeLogs\":[{{\"scope\":\
                 {{\"name\":\"greenlight\"}},\"logRecords\":[{records}]}}]}}]}}"
            );
            (events, body)
        });
        let judge = |posted, events: &[Event]| {
            vec![judge(posted, events.len(), &self.endpoint.to); events.len()]
        };
        post_each(&self.endpoint, on, self.timeout, "application/json", bodies, judge).await
    }
}

impl Otlp {
    fn resource(&self, events: &[Event]) -> Value {
        let fields = events.first().map(|event| &event.fields);
        let own = ["service.name", "host.name"]
            .into_iter()
            .filter_map(|name| Some(attribute(name, fields?.get(name)?)));
        let given =
            self.resource.iter().map(|(name, value)| attribute(name, &value.as_str().into()));
        json!({"attributes": own.chain(given).collect::<Vec<_>>()})
    }
}

/// 64-bit integers are strings in OTLP's JSON (the protocol buffers' own mapping).
fn record(event: &Event) -> Value {
    let mut attributes = vec![attribute(ID_HEADER, &event.token.as_str().into())];
    attributes.extend(event.fields.iter().map(|(name, value)| attribute(name, value)));
    json!({
        "timeUnixNano": event.time.0.to_string(),
        "observedTimeUnixNano": event.time.0.to_string(),
        "severityNumber": SEVERITY,
        "severityText": "INFO",
        "body": {"stringValue": event.message},
        "attributes": attributes,
    })
}

fn attribute(name: &str, value: &Value) -> Value {
    json!({"key": name, "value": any_value(value)})
}

fn any_value(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => json!({"intValue": integer.to_string()}),
            None => json!({"doubleValue": number}),
        },
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    }
}

/// What the answer says of all the records of one request.
fn judge(posted: Posted, count: usize, to: &Url) -> Receipt {
    let response = match expect_answer(posted, to) {
        Ok(response) => response,
        Err(receipt) => return receipt,
    };
    // An empty message is an empty answer, or `{}`.
    if response.body.iter().all(u8::is_ascii_whitespace) {
        return accepted();
    }
    let Ok(Value::Object(answer)) = serde_json::from_slice(&response.body) else {
        return nonsense("answered with no response of OTLP in JSON", &response.body, to);
    };
    let partial = match answer.get("partialSuccess") {
        None | Some(Value::Null) => return accepted(),
        Some(Value::Object(partial)) => partial,
        Some(_) => return nonsense("has a partialSuccess that is none", &response.body, to),
    };
    let rejected = match partial.get("rejectedLogRecords") {
        None | Some(Value::Null) => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_u64(),
    };
    let said = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    let said = excerpt(said.as_bytes());
    match rejected {
        None => nonsense("refused a number of records that is none", &response.body, to),
        // The message alone is a warning.
        Some(0) => accepted(),
        Some(rejected) if rejected >= count as u64 => {
            let text = format!("{to} answered 200 and refused all {count} records: {said}");
            Receipt::Refused(Reason::new(ReasonCode::Rejected, text))
        }
        Some(rejected) => {
            let text = format!(
                "{to} refused {rejected} of {count} records and does not say which \
                 (`per_request: 1` finds out): {said}"
            );
            Receipt::Unknown(Reason::new(ReasonCode::Rejected, text))
        }
    }
}

#[cfg(test)]
mod tests;
