//! GELF, as Graylog takes it: over UDP in chunks, over TCP with a zero byte after each message,
//! or over HTTP, which alone answers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::post::{Endpoint, Posted, accepted, expect_answer, gzip, post_each};
use super::syslog::receipt;
use super::{SendContext, Sender};
use crate::client::address::HostPort;
use crate::client::datagram::{Handed, Socket};
use crate::client::http::Auth;
use crate::client::syslog::{Address, Connection, Framing, frame};
use crate::client::tls;
use crate::journey::{Event, Receipt};
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::probe::Effect;
use crate::spec::Period;
use crate::time::Mono;

/// The first two bytes of a chunk, and what stands before its data (GELF via UDP).
const MAGIC: [u8; 2] = [0x1e, 0x0f];
const HEAD: usize = 12;
/// No message has more chunks; Graylog drops one that says so.
const CHUNKS_LIMIT: usize = 128;
/// What Graylog's own clients use within a network without jumbo frames.
const CHUNK: u64 = 1420;
/// Informational, of syslog's levels.
const LEVEL: u8 = 6;

/// Sends one GELF 1.1 message an event, its fields as additional fields.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// "udp://host:port", "tcp://host:port", "tls://host:port", or the URL of an HTTP input, as
    /// "http://host:12201/gelf".
    pub to: String,
    /// Compress each message, over UDP and HTTP; TCP has no compression.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
    /// The size of a UDP datagram, from 64 to 8192 bytes; 1420 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    /// Headers to send, over HTTP.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Who we are, over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How the receiver's certificate is checked, for tls:// and https://.
    #[serde(default)]
    pub tls: tls::Options,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

pub struct Gelf {
    to: To,
    gzip: bool,
    timeout: Option<Duration>,
}

enum To {
    Udp { to: HostPort, chunk: usize },
    Stream { to: Address, tls: tls::Options },
    Http(Box<Endpoint>),
}

impl Sender for Gelf {
    const KIND: &'static str = "gelf";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = false;

    fn acknowledges(&self) -> bool {
        matches!(self.to, To::Http(_))
    }

    fn new(spec: Spec) -> Result<Self, String> {
        spec.tls.validate()?;
        let timeout = spec.timeout.map(|timeout| timeout.0);
        let http = spec.to.starts_with("http://") || spec.to.starts_with("https://");
        if !http && (!spec.headers.is_empty() || spec.auth.is_some()) {
            return Err("`headers` and `auth` have a use over http:// and https:// only".into());
        }
        let to = if http {
            let gzip = spec.gzip;
            let endpoint = Endpoint::new(&spec.to, &spec.headers, spec.auth, &spec.tls, gzip)?;
            To::Http(Box::new(endpoint))
        } else if let Some(to) = spec.to.strip_prefix("udp://") {
            let chunk = spec.chunk_size.unwrap_or(CHUNK);
            if !(64..=8192).contains(&chunk) {
                return Err(format!("`chunk_size` is {chunk}; give 64 to 8192 bytes"));
            }
            To::Udp { to: HostPort::parse(to)?, chunk: usize::try_from(chunk).unwrap_or(HEAD) }
        } else {
            if spec.gzip {
                return Err("GELF over TCP has no compression; leave `gzip` out".into());
            }
            let to = Address::parse(&spec.to).map_err(|_| {
                format!(
                    "{:?} is no address; write udp://host:port, tcp://host:port, tls://host:port \
                     or http://host:port/gelf",
                    spec.to
                )
            })?;
            To::Stream { to, tls: spec.tls }
        };
        Ok(Self { to, gzip: spec.gzip, timeout })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let to = match &self.to {
            To::Udp { to, .. } => format!("udp://{}:{}", to.host, to.port),
            To::Stream { to, .. } => to.to_string(),
            To::Http(endpoint) => endpoint.to.to_string(),
        };
        vec![Effect { what: format!("sends {count} GELF messages to {to}"), needs: None }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let messages = events.iter().map(message);
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let within = timeout.mul_f64(0.9);
        match &self.to {
            To::Http(endpoint) => {
                let judge = |posted, _: &[Event]| {
                    vec![match posted {
                        // The status is the whole answer: 202 has no body.
                        Posted::Cut { status, .. } if (200..300).contains(&status) => accepted(),
                        posted => expect_answer(posted, &endpoint.to)
                            .map_or_else(|not| not, |_| accepted()),
                    }]
                };
                let each = events.chunks(1).zip(messages);
                post_each(endpoint, on, self.timeout, "application/json", each, judge).await
            }
            To::Stream { to, tls } => {
                // JSON holds no zero byte: it is escaped.
                let framed = messages.map(|text| frame(Framing::Nul, text.as_bytes()));
                let framed: Vec<Bytes> = framed.filter_map(Result::ok).collect();
                let began = Mono::now();
                match Connection::open(on.clients, to, tls, within / 2, on.trace).await {
                    Ok(connection) => {
                        let left = within.saturating_sub(Mono::now().since(began));
                        let known = connection.deliver(&framed, left, on.trace).await;
                        known.into_iter().map(receipt).collect()
                    }
                    Err(not) => vec![receipt(Handed::Not(not)); events.len()],
                }
            }
            To::Udp { to, chunk } => self.datagrams(to, *chunk, messages, within, on).await,
        }
    }
}

impl Gelf {
    async fn datagrams(
        &self,
        to: &HostPort,
        chunk: usize,
        messages: impl ExactSizeIterator<Item = String> + Send,
        within: Duration,
        on: SendContext<'_>,
    ) -> Vec<Receipt> {
        let count = messages.len();
        let mut split: Vec<Result<Vec<Bytes>, String>> = Vec::with_capacity(count);
        for text in messages {
            let bytes = if self.gzip { gzip(text.as_bytes()) } else { text.into_bytes() };
            let mut id = [0; 8];
            if getrandom::fill(&mut id).is_err() {
                let text = "no random bytes for the name of a message".to_owned();
                return super::post::all_fault(count, FaultCode::Exhausted, text);
            }
            split.push(chunks(bytes.into(), chunk, id));
        }
        let whole: Vec<Vec<Bytes>> = split.iter().filter_map(|one| one.clone().ok()).collect();
        let began = Mono::now();
        let mut known = match Socket::udp(on.clients, to, within / 2).await {
            Ok(socket) => {
                let left = within.saturating_sub(Mono::now().since(began));
                socket.deliver(&whole, left, on.trace).await
            }
            Err(not) => vec![Handed::Not(not); whole.len()],
        }
        .into_iter();
        let one = |one: Result<_, String>| match one {
            Ok(_) => known.next().unwrap_or_else(|| {
                Handed::Not(Trouble::reason(ReasonCode::Timeout, "there was no time for it"))
            }),
            Err(text) => Handed::Not(Trouble::reason(ReasonCode::TooLarge, text)),
        };
        split.into_iter().map(one).map(receipt).collect()
    }
}

/// One GELF 1.1 message: the payload where it is one already.
fn message(event: &Event) -> String {
    let payload = serde_json::from_slice::<Map<String, Value>>(&event.payload);
    if payload.is_ok_and(|payload| payload.contains_key("short_message")) {
        return String::from_utf8_lossy(&event.payload).into_owned();
    }
    let mut gelf = Map::new();
    gelf.insert("version".into(), "1.1".into());
    let host = event.fields.get("host.name").cloned().unwrap_or_else(|| "greenlight".into());
    gelf.insert("host".into(), host);
    gelf.insert("short_message".into(), event.message.as_str().into());
    gelf.insert("timestamp".into(), (event.time.0.div_euclid(1_000_000) as f64 / 1e3).into());
    gelf.insert("level".into(), LEVEL.into());
    gelf.insert("_greenlight_id".into(), event.token.as_str().into());
    for (name, value) in &event.fields {
        // The format's own rule for names; values are text or numbers.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name == "host.name" || name == "id" || !name.chars().all(legal) {
            continue;
        }
        let value = match value {
            Value::String(_) | Value::Number(_) => value.clone(),
            other => other.to_string().into(),
        };
        gelf.insert(format!("_{name}"), value);
    }
    Value::Object(gelf).to_string()
}

/// The datagrams of one message: itself where it fits, else chunks of `size` bytes at most.
fn chunks(message: Bytes, size: usize, id: [u8; 8]) -> Result<Vec<Bytes>, String> {
    if message.len() <= size {
        return Ok(vec![message]);
    }
    let room = size.saturating_sub(HEAD).max(1);
    let count = message.len().div_ceil(room);
    let all = u8::try_from(count).ok().filter(|_| count <= CHUNKS_LIMIT);
    let Some(all) = all else {
        return Err(format!(
            "{} bytes need {count} chunks of {size}, and GELF has at most {CHUNKS_LIMIT}; raise \
             `chunk_size`, set `gzip`, or use tcp://",
            message.len()
        ));
    };
    let chunk = |(number, part): (u8, &[u8])| {
        let mut chunk = BytesMut::with_capacity(size);
        chunk.put_slice(&MAGIC);
        chunk.put_slice(&id);
        chunk.put_u8(number);
        chunk.put_u8(all);
        chunk.put_slice(part);
        chunk.freeze()
    };
    Ok((0..all).zip(message.chunks(room)).map(chunk).collect())
}

#[cfg(test)]
mod tests;
