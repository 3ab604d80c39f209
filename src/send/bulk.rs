//! Elasticsearch and OpenSearch: the `_bulk` API, which answers for each document.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::post::{Endpoint, accepted, document, expect_answer, most, nonsense, packed, post_each};
use super::{SendContext, Sender};
use crate::client::http::{Auth, excerpt};
use crate::client::tls;
use crate::journey::{Event, Receipt};
use crate::outcome::{Reason, ReasonCode};
use crate::probe::Effect;
use crate::spec::Period;

/// Documents in a request where the plan does not say.
const PER_REQUEST: usize = 500;

/// Creates one document an event, whose `_id` is the event's token, so that no event is stored
/// twice. To remove them again: delete by query where `greenlight.run` exists.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The cluster's base URL, as `https://search:9200`.
    pub to: String,
    /// The index, alias or data stream.
    pub index: String,
    /// The ingest pipeline to go through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The most documents in a request; 500 by default.
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

pub struct Bulk {
    endpoint: Endpoint,
    index: String,
    per_request: usize,
    timeout: Option<Duration>,
}

impl Sender for Bulk {
    const KIND: &'static str = "bulk";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        let bad = |c: char| c.is_whitespace() || matches!(c, '*' | '?' | ',' | '/' | '\\' | '#');
        if spec.index.is_empty() || spec.index.contains(bad) {
            return Err(format!("{:?} is no index, alias or data stream", spec.index));
        }
        let endpoint = Endpoint::new(&spec.to, &spec.headers, spec.auth, &spec.tls, spec.gzip)?;
        let mut endpoint = endpoint.under("/_bulk");
        if let Some(pipeline) = &spec.pipeline {
            endpoint.to.query_pairs_mut().append_pair("pipeline", pipeline);
        }
        Ok(Self {
            endpoint,
            index: spec.index,
            per_request: most(spec.per_request, PER_REQUEST)?,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        vec![Effect {
            what: format!(
                "creates {count} documents in {} through {}",
                self.index, self.endpoint.to
            ),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        // A data stream takes `create` only, and with an id of its own it tells a second copy.
        let item = |event: &Event| {
            let action = json!({"create": {"_index": self.index, "_id": event.token}});
            format!("{action}\n{}\n", document(event))
        };
        let packs = packed(events, self.per_request, "", item);
        let to = &self.endpoint.to;
        let judge = |posted, events: &[Event]| match expect_answer(posted, to) {
            Ok(response) => judge(&response.body, events, to),
            Err(receipt) => vec![receipt; events.len()],
        };
        post_each(
            &self.endpoint,
            on,
            self.timeout,
            "application/x-ndjson",
            packs.into_iter(),
            judge,
        )
        .await
    }
}

/// What the answer says of each document: a status of 200 says nothing of any.
fn judge(body: &[u8], events: &[Event], to: &Url) -> Vec<Receipt> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let Some(items) = answer.as_ref().and_then(|answer| answer.get("items")?.as_array()) else {
        let receipt = nonsense("answered without `items`, so of no document", body, to);
        return vec![receipt; events.len()];
    };
    let outcomes = items.iter().filter_map(|item| item.get("create"));
    let by_id: HashMap<&str, &Value> =
        outcomes.filter_map(|outcome| Some((outcome.get("_id")?.as_str()?, outcome))).collect();
    let one = |event: &Event| match by_id.get(event.token.as_str()) {
        Some(outcome) => one(outcome, to),
        None => nonsense(&format!("did not answer for document {}", event.token), body, to),
    };
    events.iter().map(one).collect()
}

fn one(outcome: &Value, to: &Url) -> Receipt {
    let status = outcome.get("status").and_then(Value::as_u64);
    let error = outcome.get("error");
    let word = |key: &str| error.and_then(|error| error.get(key)?.as_str()).unwrap_or_default();
    let said = excerpt(format!("{}: {}", word("type"), word("reason")).as_bytes());
    let refused = |code| {
        let status = status.unwrap_or_default();
        Receipt::Refused(Reason::new(code, format!("{to} answered {status} for it: {said}")))
    };
    match status {
        Some(200 | 201) if error.is_none() => accepted(),
        // Nobody else has this id: a copy of it is stored already.
        Some(409) if word("type") == "version_conflict_engine_exception" => accepted(),
        Some(413) => refused(ReasonCode::TooLarge),
        Some(429) => refused(ReasonCode::Throttled),
        Some(401 | 403) => refused(ReasonCode::AuthFailed),
        Some(404) => refused(ReasonCode::NotFound),
        // 503: the primary shard was away, or was lost with the write under way.
        Some(status) if (400..500).contains(&status) => refused(ReasonCode::Rejected),
        _ => {
            let status = status.map_or("no status".into(), |status| status.to_string());
            let text = format!("{to} answered {status} for it: {said}");
            Receipt::Unknown(Reason::new(ReasonCode::UnexpectedStatus, text))
        }
    }
}

#[cfg(test)]
mod tests;
