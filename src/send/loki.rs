//! Loki: the push API in JSON, with the fields as structured metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::post::{
    Endpoint, Posted, accepted, expect_answer, most, packed, post_each, refused, text,
};
use super::{SendContext, Sender};
use crate::client::http::Auth;
use crate::client::tls;
use crate::journey::event::ID_HEADER;
use crate::journey::{Event, Receipt};
use crate::outcome::{Reason, ReasonCode};
use crate::probe::Effect;
use crate::spec::Period;

/// Lines in a request where the plan does not say.
const PER_REQUEST: usize = 500;

/// Pushes one line an event into one stream. The token is in the line and in the structured
/// metadata, never a label: each value of a label is a stream of its own.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Loki's base URL, as `http://loki:3100`.
    pub to: String,
    /// The labels of the stream; `{app: greenlight}` by default.
    #[serde(default = "labels")]
    pub labels: BTreeMap<String, String>,
    /// The tenant (header X-Scope-OrgID), where Loki has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Send the event's own fields as structured metadata; needs Loki 3, or 2.9 where it is on.
    #[serde(default = "yes")]
    pub metadata: bool,
    /// The most lines in a request; 500 by default. With 1, each event has an answer of its own:
    /// Loki does not say which lines of a request it refused.
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

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".into(), "greenlight".into())])
}

fn yes() -> bool {
    true
}

#[derive(Debug)]
pub struct Loki {
    endpoint: Endpoint,
    labels: BTreeMap<String, String>,
    metadata: bool,
    per_request: usize,
    timeout: Option<Duration>,
}

impl Sender for Loki {
    const KIND: &'static str = "loki";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.labels.is_empty() {
            return Err("`labels` is empty; a stream has at least one label".into());
        }
        for name in spec.labels.keys() {
            // The data model of Prometheus, which Loki shares.
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || !name.chars().all(legal)
                || name.starts_with(|c: char| c.is_ascii_digit())
            {
                return Err(format!("{name:?} is no label's name; use letters, digits and '_'"));
            }
        }
        let endpoint = Endpoint::new(&spec.to, &spec.headers, spec.auth, &spec.tls, spec.gzip)?;
        let mut endpoint = endpoint.under("/loki/api/v1/push");
        if let Some(tenant) = &spec.tenant {
            endpoint.header("x-scope-orgid", tenant)?;
        }
        Ok(Self {
            endpoint,
            labels: spec.labels,
            metadata: spec.metadata,
            per_request: most(spec.per_request, PER_REQUEST)?,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        vec![Effect { what: format!("pushes {count} lines to {}", self.endpoint.to), needs: None }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let packs = packed(events, self.per_request, ",", |event| self.entry(event).to_string());
        let stream = json!(self.labels);
        let bodies = packs.into_iter().map(|(events, entries)| {
            let body = format!("{{\"streams\":[{{\"stream\":{stream},\"values\":[{entries}]}}]}}");
            (events, body)
        });
        let judge = |posted, events: &[Event]| {
            vec![judge(posted, events.len(), &self.endpoint.to); events.len()]
        };
        post_each(&self.endpoint, on, self.timeout, "application/json", bodies, judge).await
    }
}

impl Loki {
    fn entry(&self, event: &Event) -> Value {
        // Each has an instant of its own: Loki's answers are read on from an instant, and one that
        // bears more entries than an answer holds could not be passed.
        let place = i64::try_from(event.seq).unwrap_or(0);
        let (time, line) = (event.time.0.saturating_add(place).to_string(), text(event));
        if !self.metadata {
            return json!([time, line]);
        }
        let mut metadata = serde_json::Map::new();
        metadata.insert(ID_HEADER.replace('-', "_"), event.token.as_str().into());
        for (name, value) in &event.fields {
            if let Some(own) = name.strip_prefix("greenlight.") {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                metadata.insert(format!("greenlight_{own}"), value.into());
            }
        }
        json!([time, line, metadata])
    }
}

/// What the answer says of all the lines of one request.
fn judge(posted: Posted, count: usize, to: &Url) -> Receipt {
    let (status, said, whole) = match &posted {
        Posted::Answered(response) => {
            let whole = String::from_utf8_lossy(&response.body).into_owned();
            (response.status.as_u16(), response.excerpt(), whole)
        }
        Posted::Cut { status, why } => (*status, why.clone(), why.clone()),
        Posted::Nothing(receipt) => return receipt.clone(),
    };
    match status {
        200 | 204 => accepted(),
        // Ingestion is blocked, and clients that retry are kept quiet with a status that looks
        // like success (`block_ingestion_status_code`).
        201..300 => {
            let text = format!("{to} answered {status}, so it stored nothing: {said}");
            Receipt::Refused(Reason::new(ReasonCode::Rejected, text))
        }
        // The lines that are valid are stored all the same, and so are those that came before a
        // stream's limit; the answer names no line.
        400 | 429 if count > 1 && !all_refused(status, &whole, count) => {
            let text = format!(
                "{to} answered {status}, refused some lines of {count} and does not say which \
                 (`per_request: 1` finds out): {said}"
            );
            Receipt::Unknown(Reason::new(ReasonCode::Rejected, text))
        }
        _ => expect_answer(posted, to).map_or_else(|not| not, |_| refused(status, &said, to)),
    }
}

/// Whether the answer is about the whole request: a tenant's rate is checked before any line is
/// taken, a distributor counts what it finds wrong alike ("3 errors like: "), and ingesters count, at
/// the end of what may be a long answer, what they ignored ("total ignored: 3 out of 3").
fn all_refused(status: u16, said: &str, count: usize) -> bool {
    let tenant = status == 429 && said.to_ascii_lowercase().starts_with("ingestion rate limit");
    let alike = said.split_once(" errors like: ").and_then(|(n, _)| n.parse::<usize>().ok());
    let ignored = said.split_once("total ignored: ").and_then(|(_, rest)| {
        let (ignored, rest) = rest.split_once(" out of ")?;
        let total = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((ignored.parse::<usize>().ok()?, total.parse::<usize>().ok()?))
    });
    tenant
        || alike == Some(count)
        || ignored.is_some_and(|(ignored, total)| ignored == count && total == count)
}

#[cfg(test)]
mod tests;
