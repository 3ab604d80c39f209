//! HTTP: events POSTed to an endpoint, each with a request of its own or a batch in one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::{SendContext, Sender};
use crate::client::http::{Auth, Connection, Failed, How, Request, excerpt, parse_url};
use crate::client::tls;
use crate::journey::event::ID_HEADER;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};
use crate::probe::Effect;
use crate::probe::http::headers;
use crate::time::Mono;

/// One request may always take this long, as long as the batch has the time: a share of the whole
/// alone would leave each of many events only milliseconds.
const REQUEST_FLOOR: Duration = Duration::from_secs(2);

/// Receivers answer in a few words.
const ANSWER_LIMIT: usize = 256 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The URL that takes events.
    pub to: String,
    /// How events are put into requests.
    #[serde(default)]
    pub batch: Batch,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// A request for each event.
    #[default]
    One,
    /// One request, a line for each event.
    Ndjson,
    /// One request, a JSON array.
    Array,
}

pub struct Http {
    to: Url,
    batch: Batch,
    headers: HeaderMap,
    auth: Option<Auth>,
    tls: tls::Options,
}

impl Sender for Http {
    const KIND: &'static str = "http";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        spec.tls.validate()?;
        if let Some(auth) = &spec.auth {
            auth.validate()?;
        }
        Ok(Self {
            to: parse_url(&spec.to)?,
            batch: spec.batch,
            headers: headers(&spec.headers)?,
            auth: spec.auth,
            tls: spec.tls,
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let requests = match self.batch {
            Batch::One => format!("in {count} requests"),
            Batch::Ndjson | Batch::Array => "in one request".into(),
        };
        vec![Effect {
            what: format!("posts {count} events {requests} to {}", self.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let mut how = How::within(on.timeout, &self.tls);
        how.max_body = ANSWER_LIMIT;
        how.authorization = match self.auth.as_ref().map(Auth::header).transpose() {
            Ok(authorization) => authorization,
            Err(fault) => return vec![Receipt::Fault(fault); events.len()],
        };
        let mut line = Line { open: None, to: &self.to, on };
        if self.batch == Batch::One {
            return self.one_by_one(events, how, &mut line).await;
        }
        let body = match self.body(events) {
            Ok(body) => body,
            Err(fault) => return vec![Receipt::Fault(fault); events.len()],
        };
        let kind = match self.batch {
            Batch::Ndjson => "application/x-ndjson",
            Batch::Array | Batch::One => "application/json",
        };
        let receipt = line.post(&self.request(body, kind), &how).await;
        vec![receipt; events.len()]
    }
}

impl Http {
    async fn one_by_one(
        &self,
        events: &[Event],
        how: How<'_>,
        line: &mut Line<'_>,
    ) -> Vec<Receipt> {
        let until = how.deadline;
        let mut receipts = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                receipts.push(Receipt::NotSent(Reason::new(
                    ReasonCode::Timeout,
                    format!("the events before this one took {} all the time there was", self.to),
                )));
                continue;
            }
            let waiting = u32::try_from(events.len() - index).unwrap_or(u32::MAX).max(1);
            let share = (left / waiting).max(REQUEST_FLOOR).min(left);
            let how = How { deadline: Instant::now() + share, ..how.clone() };
            let kind = if is_json(&event.payload) { "application/json" } else { "text/plain" };
            let mut request = self.request(event.payload.clone(), kind);
            if let Ok(token) = HeaderValue::from_str(&event.token) {
                request.headers.insert(HeaderName::from_static(ID_HEADER), token);
            }
            receipts.push(line.post(&request, &how).await);
        }
        receipts
    }

    fn request(&self, body: Bytes, kind: &'static str) -> Request {
        let mut headers = self.headers.clone();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        Request { method: Method::POST, url: self.to.clone(), headers, body }
    }

    fn body(&self, events: &[Event]) -> Result<Bytes, Fault> {
        let mut body = Vec::new();
        if self.batch == Batch::Array {
            body.push(b'[');
        }
        for (index, event) in events.iter().enumerate() {
            let payload = &event.payload;
            if self.batch == Batch::Array {
                if index > 0 {
                    body.push(b',');
                }
                if is_json(payload) {
                    body.extend_from_slice(payload);
                } else {
                    let text = String::from_utf8_lossy(payload).into_owned();
                    body.extend_from_slice(serde_json::Value::String(text).to_string().as_bytes());
                }
            } else {
                if payload.contains(&b'\n') {
                    let text = "an event holds a line feed, which would break it in two in NDJSON; \
                                use another `batch` or another message";
                    return Err(Fault::new(FaultCode::Unsupported, text));
                }
                body.extend_from_slice(payload);
                body.push(b'\n');
            }
        }
        if self.batch == Batch::Array {
            body.push(b']');
        }
        Ok(body.into())
    }
}

fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
}

/// One connection at a time, opened when it is needed.
struct Line<'a> {
    open: Option<Connection>,
    to: &'a Url,
    on: SendContext<'a>,
}

impl Line<'_> {
    /// Posts once. A kept connection that proves closed before a byte has left is replaced: then
    /// nothing was handed over, so that is no second try.
    async fn post(&mut self, request: &Request, how: &How<'_>) -> Receipt {
        let (clients, trace) = (self.on.clients, self.on.trace);
        if let Some(mut kept) = self.open.take().filter(Connection::is_open) {
            match kept.exchange(request, how, trace).await {
                Ok(response) => {
                    self.open = Some(kept);
                    return judge(response.status.as_u16(), &response.excerpt(), self.to);
                }
                Err(failed) if failed.written || Instant::now() >= how.deadline => {
                    return receipt(failed, self.to);
                }
                Err(_) => trace.note(format_args!("the kept connection was closed")),
            }
        }
        let mut fresh = match Connection::open(clients, self.to, how, trace).await {
            Ok(fresh) => fresh,
            Err(failed) => return receipt(failed, self.to),
        };
        match fresh.exchange(request, how, trace).await {
            Ok(response) => {
                self.open = Some(fresh);
                judge(response.status.as_u16(), &response.excerpt(), self.to)
            }
            Err(failed) => receipt(failed, self.to),
        }
    }
}

/// What a status says of the events in the request.
fn judge(status: u16, said: &str, to: &Url) -> Receipt {
    let refused = |code, what: &str| {
        Receipt::Refused(Reason::new(code, format!("{to} answered {status}{what}: {said}")))
    };
    match status {
        200..300 => Receipt::Accepted { at: Mono::now() },
        429 => refused(ReasonCode::Throttled, ", slow down"),
        _ => refused(ReasonCode::Rejected, ""),
    }
}

fn receipt(failed: Failed, to: &Url) -> Receipt {
    // The head of the answer decides, even if its body never came whole.
    if let Some(status) = failed.status {
        return judge(status.as_u16(), &excerpt(failed.trouble.to_string().as_bytes()), to);
    }
    match failed.trouble {
        Trouble::Fault(fault) => Receipt::Fault(fault),
        Trouble::Reason(reason) if failed.written => Receipt::Unknown(reason),
        Trouble::Reason(reason) => Receipt::NotSent(reason),
    }
}
