//! HTTP: events POSTed to an endpoint, each with a request of its own or a batch in one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::post::{Endpoint, Line, Posted, accepted, expect_answer, gzip, is_json, nonsense};
use super::{SendContext, Sender};
use crate::client::http::Auth;
use crate::client::tls;
use crate::journey::event::ID_HEADER;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;
use crate::spec::{Period, Secret};

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
    /// Sign each request, as webhooks do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<Sign>,
    /// Compress the requests (Content-Encoding: gzip).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
    #[serde(default)]
    pub tls: tls::Options,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
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

/// HMAC-SHA256 (RFC 2104) over the bytes of the body as they go out, compressed where `gzip` is
/// on, in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// The key that both sides know.
    pub secret: Secret,
    /// The header that carries the signature.
    #[serde(default = "signature_header")]
    pub header: String,
    /// What stands before the signature in the header, "sha256=" as GitHub has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    #[serde(default)]
    pub encoding: Encoding,
}

fn signature_header() -> String {
    "X-Signature-256".into()
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    #[default]
    Hex,
    Base64,
}

/// Multi-Status (RFC 4918, 13): the answer is of parts, in words that only its receiver knows.
const MULTI: u16 = 207;

pub struct Http {
    endpoint: Endpoint,
    batch: Batch,
    sign: Option<(HeaderName, Sign)>,
    gzip: bool,
    timeout: Option<Duration>,
}

impl Sender for Http {
    const KIND: &'static str = "http";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        let sign = match spec.sign {
            None => None,
            Some(sign) => {
                let name = HeaderName::from_bytes(sign.header.as_bytes())
                    .map_err(|_| format!("`sign`: {:?} is no header's name", sign.header))?;
                HeaderValue::from_str(&sign.prefix)
                    .map_err(|_| format!("`sign`: no header can carry {:?}", sign.prefix))?;
                Some((name, sign))
            }
        };
        // What is signed is what goes out, so this compresses before it signs.
        let endpoint = Endpoint::new(&spec.to, &spec.headers, spec.auth, &spec.tls, false)?;
        let timeout = spec.timeout.map(|timeout| timeout.0);
        Ok(Self { endpoint, batch: spec.batch, sign, gzip: spec.gzip, timeout })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let requests = match self.batch {
            Batch::One => format!("in {count} requests"),
            Batch::Ndjson | Batch::Array => "in one request".into(),
        };
        vec![Effect {
            what: format!("posts {count} events {requests} to {}", self.endpoint.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let mut line = match Line::new(&self.endpoint, on, self.timeout) {
            Ok(line) => line,
            Err(fault) => return vec![Receipt::Fault(fault); events.len()],
        };
        let kind = match self.batch {
            Batch::Ndjson => "application/x-ndjson",
            Batch::Array => "application/json",
            Batch::One => {
                let mut receipts = Vec::with_capacity(events.len());
                for (index, event) in events.iter().enumerate() {
                    let waiting = events.len() - index;
                    receipts.push(self.one(event, &mut line, waiting).await);
                }
                return receipts;
            }
        };
        let receipt = match self.body(events) {
            Ok(body) => self.post(body, kind, HeaderMap::new(), &mut line, 1).await,
            Err(fault) => Receipt::Fault(fault),
        };
        vec![receipt; events.len()]
    }
}

impl Http {
    async fn one(&self, event: &Event, line: &mut Line<'_>, waiting: usize) -> Receipt {
        let kind = if is_json(&event.payload) { "application/json" } else { "text/plain" };
        let mut headers = HeaderMap::new();
        if let Ok(token) = HeaderValue::from_str(&event.token) {
            headers.insert(HeaderName::from_static(ID_HEADER), token);
        }
        self.post(event.payload.to_vec(), kind, headers, line, waiting).await
    }

    async fn post(
        &self,
        body: Vec<u8>,
        kind: &'static str,
        mut headers: HeaderMap,
        line: &mut Line<'_>,
        waiting: usize,
    ) -> Receipt {
        let body = if self.gzip {
            let encoding = HeaderValue::from_static("gzip");
            headers.insert(hyper::header::CONTENT_ENCODING, encoding);
            gzip(&body)
        } else {
            body
        };
        if let Some((name, sign)) = &self.sign {
            match signature(sign, &body) {
                Ok(value) => drop(headers.insert(name.clone(), value)),
                Err(fault) => return Receipt::Fault(fault),
            }
        }
        let to = &self.endpoint.to;
        match line.post(body, kind, headers, waiting).await {
            // The head of the answer decides, even if its body never came whole.
            Posted::Cut { status, .. } if (200..300).contains(&status) && status != MULTI => {
                accepted()
            }
            posted => match expect_answer(posted, to) {
                Ok(response) if response.status.as_u16() == MULTI => {
                    nonsense("answered 207, which says nothing of the whole", &response.body, to)
                }
                Ok(_) => accepted(),
                Err(not) => not,
            },
        }
    }

    fn body(&self, events: &[Event]) -> Result<Vec<u8>, Fault> {
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
        Ok(body)
    }
}

fn signature(sign: &Sign, body: &[u8]) -> Result<HeaderValue, Fault> {
    let secret = sign.secret.reveal()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let tag = hmac::sign(&key, body);
    let encoded = match sign.encoding {
        Encoding::Hex => tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        Encoding::Base64 => STANDARD.encode(tag.as_ref()),
    };
    HeaderValue::from_str(&format!("{}{encoded}", sign.prefix))
        .map_err(|_| Fault::new(FaultCode::Unsupported, "the signature's header can't be carried"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard_and_of_github() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let sign = |secret: &str, body: &str, prefix: &str, encoding| {
            std::fs::write(&key, secret).unwrap();
            let sign = Sign {
                secret: Secret::file(key.to_str().unwrap()),
                header: signature_header(),
                prefix: prefix.into(),
                encoding,
            };
            signature(&sign, body.as_bytes()).unwrap().to_str().unwrap().to_owned()
        };
        // RFC 4231, 4.3 (test case 2).
        assert_eq!(
            sign("Jefe", "what do ya want for nothing?", "", Encoding::Hex),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        // The example in GitHub's guide "Validating webhook deliveries".
        assert_eq!(
            sign("It's a Secret to Everybody", "Hello, World!", "sha256=", Encoding::Hex),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
        assert_eq!(
            sign("Jefe", "what do ya want for nothing?", "", Encoding::Base64),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
        );
    }
}
