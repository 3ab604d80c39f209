//! What the ways in over HTTP share: one connection a batch, requests of a bounded size, and what
//! a status says where the protocol above it says nothing more.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::Method;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::SendContext;
use crate::client::http::{Auth, Connection, Failed, How, Request, Response, excerpt, parse_url};
use crate::client::tls;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};
use crate::probe::http::headers;
use crate::time::Mono;

/// One request may always take this long, as long as the batch has the time: a share of the whole
/// alone would leave each of many requests only milliseconds.
const REQUEST_FLOOR: Duration = Duration::from_secs(2);
/// An answer names each event of a request at most; a receiver that says more is not listened to.
const ANSWER_LIMIT: usize = 1024 * 1024;
/// Requests stay below what receivers take by default: nginx 1 MiB, Splunk HEC 1 MB (until 9),
/// Loki 4 MB a second.
const REQUEST_LIMIT: usize = 900 * 1000;
/// After a 429 that names no time, the next request waits this long, doubled each time up to the
/// second number.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// Where events are posted, and who we are there.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) to: Url,
    headers: HeaderMap,
    auth: Option<Auth>,
    tls: tls::Options,
    gzip: bool,
}

impl Endpoint {
    pub(super) fn new(
        to: &str,
        written: &BTreeMap<String, String>,
        auth: Option<Auth>,
        tls: &tls::Options,
        gzip: bool,
    ) -> Result<Self, String> {
        tls.validate()?;
        if let Some(auth) = &auth {
            auth.validate()?;
        }
        let headers = headers(written)?;
        Ok(Self { to: parse_url(to)?, headers, auth, tls: tls.clone(), gzip })
    }

    /// The same at a path under `to`; where `to` ends with it already, that is it.
    pub(super) fn under(mut self, path: &str) -> Self {
        let base = self.to.path().trim_end_matches('/').to_owned();
        if !base.ends_with(path) {
            self.to.set_path(&format!("{base}{path}"));
        }
        self
    }

    pub(super) fn header(&mut self, name: &'static str, value: &str) -> Result<(), String> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("{value:?} holds characters that no header can carry"))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(())
    }
}

/// What came of one request.
#[derive(Debug)]
pub(super) enum Posted {
    /// A whole answer.
    Answered(Box<Response>),
    /// The head of an answer, and a body that never came whole.
    Cut { status: u16, why: String },
    /// No answer at all; this holds for every event in it.
    Nothing(Receipt),
}

/// Posts each pack of events over one connection; `judge` says what an answer means for them.
pub(super) async fn post_each<'e>(
    endpoint: &Endpoint,
    on: SendContext<'_>,
    timeout: Option<Duration>,
    kind: &'static str,
    packs: impl ExactSizeIterator<Item = (&'e [Event], String)>,
    judge: impl Fn(Posted, &'e [Event]) -> Vec<Receipt>,
) -> Vec<Receipt> {
    let mut line = match Line::new(endpoint, on, timeout) {
        Ok(line) => line,
        Err(fault) => {
            return packs
                .flat_map(|(events, _)| vec![Receipt::Fault(fault.clone()); events.len()])
                .collect();
        }
    };
    let mut waiting = packs.len();
    let mut receipts = Vec::new();
    for (events, body) in packs {
        let posted = line.post(body.into_bytes(), kind, HeaderMap::new(), waiting).await;
        receipts.extend(judge(posted, events));
        waiting -= 1;
    }
    receipts
}

/// One connection at a time, opened when it is needed.
pub(super) struct Line<'a> {
    open: Option<Connection>,
    endpoint: &'a Endpoint,
    how: How<'a>,
    on: SendContext<'a>,
    /// Asked to slow down: nothing is posted before this.
    paused: Option<Instant>,
    pause: Duration,
}

impl<'a> Line<'a> {
    /// All within `timeout`, or within the batch's time where that is shorter.
    pub(super) fn new(
        endpoint: &'a Endpoint,
        on: SendContext<'a>,
        timeout: Option<Duration>,
    ) -> Result<Self, Fault> {
        let timeout = timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let mut how = How::within(timeout, &endpoint.tls);
        how.max_body = ANSWER_LIMIT;
        how.authorization = endpoint.auth.as_ref().map(Auth::header).transpose()?;
        Ok(Self { open: None, endpoint, how, on, paused: None, pause: PAUSES.0 })
    }

    pub(super) fn trace(&self) -> &'a crate::spec::trace::Trace {
        self.on.trace
    }

    /// Another value of `Authorization` than the endpoint's.
    pub(super) fn authorize(&mut self, value: HeaderValue) {
        self.how.authorization = Some(value);
    }

    pub(super) fn left(&self) -> Duration {
        self.how.deadline.saturating_duration_since(Instant::now())
    }

    /// Posts `body` to the endpoint; `waiting` requests, this one included, share the time left.
    pub(super) async fn post(
        &mut self,
        body: Vec<u8>,
        kind: &'static str,
        extra: HeaderMap,
        waiting: usize,
    ) -> Posted {
        if let Err(receipt) = self.wait_out().await {
            return Posted::Nothing(receipt);
        }
        let left = self.left();
        if left.is_zero() {
            return Posted::Nothing(Receipt::NotSent(Reason::new(
                ReasonCode::Timeout,
                format!("what came before took {} all the time there was", self.endpoint.to),
            )));
        }
        let share = left / u32::try_from(waiting).unwrap_or(u32::MAX).max(1);
        let share = share.max(REQUEST_FLOOR).min(left);
        let how = How { deadline: Instant::now() + share, ..self.how.clone() };
        let mut headers = self.endpoint.headers.clone();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        for (name, value) in &extra {
            headers.insert(name, value.clone());
        }
        let body = if self.endpoint.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            gzip(&body)
        } else {
            body
        };
        let url = self.endpoint.to.clone();
        let request = Request { method: Method::POST, url, headers, body: Bytes::from(body) };
        let posted = self.exchange(&request, &how).await;
        self.heed(&posted);
        posted
    }

    /// Another request over the same connection, to another place of the same origin.
    pub(super) async fn ask(&mut self, url: Url, document: &Value, headers: HeaderMap) -> Posted {
        let mut request = Request::post_json(url, document);
        request.headers.extend(headers);
        let how = self.how.clone();
        self.exchange(&request, &how).await
    }

    /// A kept connection that proves closed before a byte has left is replaced: then nothing was
    /// handed over, so that is no second try.
    async fn exchange(&mut self, request: &Request, how: &How<'_>) -> Posted {
        let (clients, trace) = (self.on.clients, self.on.trace);
        if let Some(mut kept) = self.open.take().filter(Connection::is_open) {
            match kept.exchange(request, how, trace).await {
                Ok(response) => {
                    self.open = Some(kept);
                    return Posted::Answered(Box::new(response));
                }
                Err(failed) if failed.written || Instant::now() >= how.deadline => {
                    return unanswered(failed);
                }
                Err(_) => trace.note(format_args!("the kept connection was closed")),
            }
        }
        let mut fresh = match Connection::open(clients, &request.url, how, trace).await {
            Ok(fresh) => fresh,
            Err(failed) => return unanswered(failed),
        };
        match fresh.exchange(request, how, trace).await {
            Ok(response) => {
                self.open = Some(fresh);
                Posted::Answered(Box::new(response))
            }
            Err(failed) => unanswered(failed),
        }
    }

    /// Notes what the receiver asked for.
    fn heed(&mut self, posted: &Posted) {
        let (status, after) = match posted {
            Posted::Answered(response) => (response.status.as_u16(), retry_after(response)),
            Posted::Cut { status, .. } => (*status, None),
            Posted::Nothing(_) => return,
        };
        let pause = match (status, after) {
            (429 | 503, Some(after)) => after,
            (429, None) => {
                let pause = self.pause;
                self.pause = (pause * 2).min(PAUSES.1);
                pause
            }
            _ => {
                self.pause = PAUSES.0;
                return;
            }
        };
        self.on.trace.note(format_args!("asked to slow down: waits {pause:.1?}"));
        self.paused = Some(Instant::now() + pause);
    }

    /// Waits as long as the receiver asked to. Where that is longer than there is time, it has
    /// refused what comes now, too.
    async fn wait_out(&mut self) -> Result<(), Receipt> {
        let Some(until) = self.paused else { return Ok(()) };
        if until >= self.how.deadline {
            let wait = until.saturating_duration_since(Instant::now());
            let text =
                format!("{} asked to wait {wait:.1?} and more; not posted", self.endpoint.to);
            let reason = Reason::new(ReasonCode::Throttled, text).waiting(Some(wait));
            return Err(Receipt::Refused(reason));
        }
        self.paused = None;
        tokio::time::sleep_until(until).await;
        Ok(())
    }
}

/// The seconds form of RFC 9110, 10.2.3; a date would need the other side's clock.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    // A day stands for "not while this batch lasts".
    Some(Duration::from_secs(seconds.min(86_400)))
}

fn unanswered(failed: Failed) -> Posted {
    if let Some(status) = failed.status {
        let why = excerpt(failed.trouble.to_string().as_bytes());
        return Posted::Cut { status: status.as_u16(), why };
    }
    Posted::Nothing(match failed.trouble {
        Trouble::Fault(fault) => Receipt::Fault(fault),
        Trouble::Reason(reason) if failed.written => Receipt::Unknown(reason),
        Trouble::Reason(reason) => Receipt::NotSent(reason),
    })
}

/// What a status that is not 2xx says of every event in the request.
pub(super) fn refused(status: u16, said: &str, to: &Url) -> Receipt {
    let reason =
        |code, what: &str| Reason::new(code, format!("{to} answered {status}{what}: {said}"));
    match status {
        401 | 403 => Receipt::Refused(reason(ReasonCode::AuthFailed, "")),
        404 | 410 => Receipt::Refused(reason(ReasonCode::NotFound, "")),
        413 => Receipt::Refused(reason(
            ReasonCode::TooLarge,
            ", too large; send smaller events or fewer in a request",
        )),
        429 => Receipt::Refused(reason(ReasonCode::Throttled, ", slow down")),
        // A gateway that heard nothing, or nonsense, from the server behind it (RFC 9110, 15.6.3
        // and 15.6.5): that server may have taken them.
        502 | 504 => Receipt::Unknown(reason(ReasonCode::UnexpectedStatus, "")),
        _ => Receipt::Refused(reason(ReasonCode::Rejected, "")),
    }
}

/// An answer of 2xx that must say what became of each event, whole; else what holds for all.
pub(super) fn expect_answer(posted: Posted, to: &Url) -> Result<Box<Response>, Receipt> {
    match posted {
        Posted::Answered(response) if response.status.is_success() => Ok(response),
        Posted::Answered(response) => {
            let mut said = response.excerpt();
            if let Some(after) = response.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()) {
                said = format!("{said} (Retry-After: {})", excerpt(after.as_bytes()));
            }
            Err(match refused(response.status.as_u16(), &said, to) {
                Receipt::Refused(reason) => {
                    Receipt::Refused(reason.waiting(retry_after(&response)))
                }
                other => other,
            })
        }
        Posted::Cut { status, why } if (200..300).contains(&status) => {
            let text = format!("{to} answered {status} and never said of which events: {why}");
            Err(Receipt::Unknown(Reason::new(ReasonCode::ConnectionLost, text)))
        }
        Posted::Cut { status, why } => Err(refused(status, &why, to)),
        Posted::Nothing(receipt) => Err(receipt),
    }
}

/// An answer that makes no sense: the events may or may not have been taken.
pub(super) fn nonsense(what: &str, said: &[u8], to: &Url) -> Receipt {
    let text = format!("{to} {what}: {}", excerpt(said));
    Receipt::Unknown(Reason::new(ReasonCode::ProtocolError, text))
}

pub(super) fn accepted() -> Receipt {
    Receipt::Accepted { at: Mono::now() }
}

/// What the plan says of requests, as a number that can be.
pub(super) fn most(per_request: Option<u64>, default: usize) -> Result<usize, String> {
    let most = per_request.map_or(Ok(default), usize::try_from).unwrap_or(usize::MAX);
    if most == 0 { Err("`per_request` is 0; give 1 or more".into()) } else { Ok(most) }
}

/// Events in requests of at most `most` events and a bounded size, with `between` them.
pub(super) fn packed<'e>(
    events: &'e [Event],
    most: usize,
    between: &str,
    mut item: impl FnMut(&Event) -> String,
) -> Vec<(&'e [Event], String)> {
    let mut packs = Vec::new();
    let (mut body, mut count, mut rest) = (String::new(), 0, events);
    for event in events {
        let item = item(event);
        if count > 0 && (count >= most || body.len() + item.len() > REQUEST_LIMIT) {
            let (whole, others) = rest.split_at(count);
            packs.push((whole, std::mem::take(&mut body)));
            (rest, count) = (others, 0);
        }
        if count > 0 {
            body.push_str(between);
        }
        body.push_str(&item);
        count += 1;
    }
    if count > 0 {
        packs.push((rest, body));
    }
    packs
}

pub(super) fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
}

/// The payload as text; what is no UTF-8 is replaced, and so seen as corrupted.
pub(super) fn text(event: &Event) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&event.payload)
}

/// The event as one line of JSON: its payload where that is an object, else its message and fields.
pub(super) fn document(event: &Event) -> String {
    let object = serde_json::from_slice::<serde_json::Map<String, Value>>(&event.payload);
    if object.is_ok() && !event.payload.contains(&b'\n') {
        return text(event).into_owned();
    }
    let mut object = object.unwrap_or_else(|_| {
        let mut object = serde_json::Map::with_capacity(event.fields.len() + 2);
        object.insert("@timestamp".into(), event.time.rfc3339().into());
        object.insert("message".into(), event.message.as_str().into());
        object
    });
    for (name, value) in &event.fields {
        object.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    Value::Object(object).to_string()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    // Writing into memory can't fail.
    drop(encoder.write_all(bytes));
    encoder.finish().unwrap_or_default()
}

/// A fault of ours for every event.
pub(super) fn all_fault(count: usize, code: FaultCode, text: String) -> Vec<Receipt> {
    vec![Receipt::Fault(Fault::new(code, text)); count]
}

#[cfg(test)]
pub(super) mod cases;
