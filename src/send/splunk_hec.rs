//! Splunk: the HTTP Event Collector, with indexer acknowledgement where the token has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::post::{
    Endpoint, Line, Posted, accepted, expect_answer, is_json, most, nonsense, packed, refused, text,
};
use super::{SendContext, Sender};
use crate::client::http::excerpt;
use crate::client::tls;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::probe::Effect;
use crate::spec::{Period, Secret};

/// Events in a request where the plan does not say.
const PER_REQUEST: usize = 500;
/// How often an acknowledgement is asked for: at first, and at most.
const ASK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
const CHANNEL: &str = "x-splunk-request-channel";

/// Posts events to the HTTP Event Collector. To remove them again: search `greenlight_run=*` and
/// pipe it to `delete`.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The collector's base URL, as `https://splunk:8088`.
    pub to: String,
    /// The collector's token.
    pub token: Secret,
    /// Wait until the indexers have the events. The token must have indexer acknowledgement.
    /// Without it, accepted means what Splunk's own answer means: the request appears to be valid,
    /// and nothing of it has been indexed yet.
    #[serde(default)]
    pub ack: bool,
    /// The index, where it is not the token's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sourcetype: Option<String>,
    /// The most events in a request; 500 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<u64>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub tls: tls::Options,
    /// Compress the requests (Content-Encoding: gzip).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

pub struct SplunkHec {
    endpoint: Endpoint,
    acks: Url,
    token: Secret,
    /// The channel that acknowledgements belong to; None without them.
    channel: Option<HeaderValue>,
    envelope: Map<String, Value>,
    per_request: usize,
    timeout: Option<Duration>,
}

impl Sender for SplunkHec {
    const KIND: &'static str = "splunk_hec";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        let new = || Endpoint::new(&spec.to, &spec.headers, None, &spec.tls, spec.gzip);
        let channel = if spec.ack { Some(channel()?) } else { None };
        let mut envelope = Map::new();
        for (key, value) in
            [("index", &spec.index), ("source", &spec.source), ("sourcetype", &spec.sourcetype)]
        {
            if let Some(value) = value {
                envelope.insert(key.into(), value.as_str().into());
            }
        }
        Ok(Self {
            endpoint: new()?.under("/services/collector/event"),
            acks: new()?.under("/services/collector/ack").to,
            token: spec.token.clone(),
            channel,
            envelope,
            per_request: most(spec.per_request, PER_REQUEST)?,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let acks = if self.channel.is_some() { " and asks until they are indexed" } else { "" };
        vec![Effect {
            what: format!("posts {count} events to {}{acks}", self.endpoint.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let line = self.authorization().and_then(|value| {
            let mut line = Line::new(&self.endpoint, on, self.timeout)?;
            line.authorize(value);
            Ok(line)
        });
        let mut line = match line {
            Ok(line) => line,
            Err(fault) => return vec![Receipt::Fault(fault); events.len()],
        };
        let packs = packed(events, self.per_request, "", |event| self.item(event).to_string());
        let count = packs.len();
        let mut handed = Vec::with_capacity(count);
        for (index, (events, body)) in packs.into_iter().enumerate() {
            let headers = self.channel_header();
            let waiting = count - index + usize::from(self.channel.is_some());
            let posted = line.post(body.into_bytes(), "application/json", headers, waiting).await;
            handed.push((events.len(), self.taken(posted)));
        }
        self.confirm(&mut line, &mut handed).await;
        let all = handed.into_iter().map(|(count, taken)| vec![taken.receipt(&self.acks); count]);
        all.flatten().collect()
    }
}

/// What is known of one request.
enum Taken {
    Decided(Receipt),
    /// To be acknowledged under this number.
    Open(u64),
}

impl Taken {
    fn receipt(self, acks: &Url) -> Receipt {
        match self {
            Self::Decided(receipt) => receipt,
            Self::Open(id) => {
                let text = format!(
                    "{acks} did not say in time that the indexers have request {id}; they may yet"
                );
                Receipt::Unknown(Reason::new(ReasonCode::Timeout, text))
            }
        }
    }
}

impl SplunkHec {
    fn authorization(&self) -> Result<HeaderValue, Fault> {
        let token = self.token.reveal()?;
        let mut value =
            HeaderValue::from_str(&format!("Splunk {}", token.expose())).map_err(|_| {
                let text = "`token` holds characters that no header can carry";
                Fault::new(FaultCode::Unreadable, text)
            })?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn channel_header(&self) -> HeaderMap {
        let channel = self.channel.clone().map(|id| (HeaderName::from_static(CHANNEL), id));
        channel.into_iter().collect()
    }

    /// The event in Splunk's envelope: the token is an indexed field besides being in the event.
    fn item(&self, event: &Event) -> Value {
        let mut item = self.envelope.clone();
        // Seconds with milliseconds, the precision of the examples in Splunk's manual.
        let millis = event.time.0.div_euclid(1_000_000);
        let (whole, part) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
        item.insert("time".into(), format!("{whole}.{part:03}").into());
        if let Some(host) = event.fields.get("host.name") {
            item.insert("host".into(), host.clone());
        }
        let body = if is_json(&event.payload) {
            serde_json::from_slice(&event.payload).unwrap_or(Value::Null)
        } else {
            text(event).into()
        };
        item.insert("event".into(), body);
        let own = event.fields.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("greenlight.")?;
            // Indexed fields are text or lists of text.
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((format!("greenlight_{name}"), Value::from(value)))
        });
        let id = ("greenlight_id".to_owned(), Value::from(event.token.as_str()));
        item.insert("fields".into(), Value::Object(own.chain([id]).collect()));
        Value::Object(item)
    }

    fn taken(&self, posted: Posted) -> Taken {
        let to = &self.endpoint.to;
        let response = match posted {
            Posted::Answered(response) if !response.status.is_success() => {
                let status = response.status.as_u16();
                return Taken::Decided(judge_code(status, &response.body, to));
            }
            posted => match expect_answer(posted, to) {
                Ok(response) => response,
                Err(receipt) => return Taken::Decided(receipt),
            },
        };
        let answer: Option<Value> = serde_json::from_slice(&response.body).ok();
        let number = |key: &str| answer.as_ref().and_then(|answer| answer.get(key)?.as_u64());
        if number("code") != Some(0) {
            let what = "answered 200 without Splunk's code 0";
            return Taken::Decided(nonsense(what, &response.body, to));
        }
        if self.channel.is_none() {
            return Taken::Decided(accepted());
        }
        match number("ackId") {
            Some(id) => Taken::Open(id),
            None => {
                let text = format!(
                    "{to} gave no ackId: the token has no indexer acknowledgement; enable it, or \
                     write `ack: false` and take the answer alone for it"
                );
                Taken::Decided(Receipt::Unknown(Reason::new(ReasonCode::ProtocolError, text)))
            }
        }
    }

    /// Asks until all that is open is acknowledged or the time is over.
    async fn confirm(&self, line: &mut Line<'_>, handed: &mut [(usize, Taken)]) {
        let mut pause = ASK.0;
        loop {
            let open: BTreeSet<u64> = handed
                .iter()
                .filter_map(|(_, taken)| if let Taken::Open(id) = taken { Some(*id) } else { None })
                .collect();
            if open.is_empty() || line.left() <= pause {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ASK.1);
            let asked = json!({"acks": open});
            let posted = line.ask(self.acks.clone(), &asked, self.channel_header()).await;
            let response = match posted {
                Posted::Answered(response) if response.status.is_success() => response,
                // An answer that is missing decides nothing: the next may come.
                other => {
                    line.trace().note(format_args!("no acknowledgements: {other:?}"));
                    continue;
                }
            };
            let answer: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
            for (_, taken) in handed.iter_mut() {
                if let Taken::Open(id) = taken
                    && answer.get("acks").and_then(|acks| acks.get(id.to_string()))
                        == Some(&Value::Bool(true))
                {
                    *taken = Taken::Decided(accepted());
                }
            }
        }
    }
}

/// Splunk's own codes ("Possible error codes" of the HTTP Event Collector).
fn judge_code(status: u16, body: &[u8], to: &Url) -> Receipt {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let code = answer.as_ref().and_then(|answer| answer.get("code")?.as_u64());
    let text = answer.as_ref().and_then(|answer| answer.get("text")?.as_str());
    let said = match (code, text) {
        (Some(code), Some(text)) => format!("code {code}, {}", excerpt(text.as_bytes())),
        _ => excerpt(body),
    };
    let reason =
        |reason| Receipt::Refused(Reason::new(reason, format!("{to} answered {status}: {said}")));
    match code {
        // Disabled, missing, malformed or wrong token.
        Some(1..=4) => reason(ReasonCode::AuthFailed),
        Some(7) => reason(ReasonCode::NotFound),
        // 9: busy; 26 and 27: the queues or the acknowledgement channel are full.
        Some(9 | 26 | 27) => reason(ReasonCode::Throttled),
        _ => refused(status, &said, to),
    }
}

/// A channel's name is a GUID of the client's own (RFC 9562, version 4).
fn channel() -> Result<HeaderValue, String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{number:032x}");
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts: Vec<&str> = parts.iter().filter_map(|(from, to)| hex.get(*from..*to)).collect();
    HeaderValue::from_str(&parts.join("-")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
