//! What must be refused: a wrong password, a revoked token, a certificate that is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};

use super::http::{Statuses, headers};
use super::{Attempt, Effect, Probe};
use crate::client::address::HostPort;
use crate::client::http::{Auth, How, Request, fetch, parse_url};
use crate::client::kafka::{Cluster, Security, check_brokers, check_topic};
use crate::client::tls::{self, Admission};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Trouble};

/// Tries to get in where one must not. Refused is a success, let in a failure; a platform that
/// could not be asked, or answered something else, is inconclusive. One of the keys says how.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// A request that must be refused; the target is a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSpec>,
    /// A login to Kafka that must be refused; the target is "host:port", or several with commas
    /// between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,
    /// A TLS handshake, with no client certificate or a wrong one, that must be refused by an
    /// alert; the target is "host:port". For syslog, RELP and whatever else speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Options>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSpec {
    /// GET, or POST where something is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers to send.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The text to send as the request's body, such as one event: were it let in, it would be
    /// stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// The status, or a list of them, by which it refuses; 401 or 403 where nothing is given.
    #[serde(skip_serializing_if = "nothing")]
    pub status: Statuses,
    /// The credentials that must not open; none where nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    pub tls: tls::Options,
}

fn nothing(statuses: &Statuses) -> bool {
    statuses.0.is_empty()
}

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSpec {
    /// A topic that exists.
    pub topic: String,
    /// The login that must not open; without it, plain and without a login.
    #[serde(default)]
    pub security: Security,
}

pub struct Refused {
    way: Way,
}

enum Way {
    Http {
        method: Method,
        headers: HeaderMap,
        send: String,
        status: Vec<u16>,
        auth: Option<Auth>,
        tls: tls::Options,
    },
    Kafka {
        topic: String,
        security: Security,
    },
    Tls(tls::Options),
}

/// How a request is refused where the plan does not say (RFC 9110, 15.5.2 and 15.5.4).
const REFUSALS: [u16; 2] = [401, 403];

impl Probe for Refused {
    const KIND: &'static str = "refused";
    type Spec = Spec;
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn new(spec: Spec) -> Result<Self, String> {
        let way = match (spec.http, spec.kafka, spec.tls) {
            (Some(http), None, None) => {
                http.tls.validate()?;
                if let Some(auth) = &http.auth {
                    auth.validate()?;
                }
                let method = match (&http.method, &http.send) {
                    (Some(text), _) => Method::from_bytes(text.as_bytes())
                        .map_err(|_| format!("{text:?} is no HTTP method"))?,
                    (None, Some(_)) => Method::POST,
                    (None, None) => Method::GET,
                };
                if let Some(status) =
                    http.status.0.iter().find(|status| !(300..500).contains(*status))
                {
                    return Err(format!("{status} is no refusal; expected 300 to 499"));
                }
                let status =
                    if http.status.0.is_empty() { REFUSALS.to_vec() } else { http.status.0 };
                let headers = headers(&http.headers)?;
                Way::Http {
                    method,
                    headers,
                    send: http.send.unwrap_or_default(),
                    status,
                    auth: http.auth,
                    tls: http.tls,
                }
            }
            (None, Some(kafka), None) => {
                check_topic(&kafka.topic)?;
                // Whatever the target will be, the security must fit.
                Cluster::new("localhost:9092", &kafka.security)?;
                Way::Kafka { topic: kafka.topic, security: kafka.security }
            }
            (None, None, Some(tls)) => {
                tls.validate()?;
                Way::Tls(tls)
            }
            _ => return Err("say how it is tried with one of `http`, `kafka`, `tls`".into()),
        };
        Ok(Self { way })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        match &self.way {
            Way::Http { .. } => parse_url(text).map(drop),
            Way::Kafka { .. } => check_brokers(text),
            Way::Tls(_) => HostPort::parse(text).map(drop),
        }
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        let what = match &self.way {
            Way::Http { method, .. } => {
                format!("sends one {method} request to {target}, which must be refused")
            }
            Way::Kafka { topic, .. } => {
                format!(
                    "tries to ask {target} for topic {topic}, which must be refused; the broker logs it"
                )
            }
            Way::Tls(_) => format!("tries one TLS handshake with {target}, which must be refused"),
        };
        vec![Effect { what, needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let tried = match &self.way {
            Way::Http { .. } => self.http(&on).await,
            Way::Kafka { topic, security } => kafka(topic, security, &on).await,
            Way::Tls(options) => handshake(options, &on).await,
        };
        match tried {
            Ok(()) => Reading::success(Vec::new()),
            Err(Trouble::Reason(reason)) if reason.code == ReasonCode::NotRefused => reason.into(),
            // Neither refused nor let in: nothing is known.
            Err(trouble) => trouble.blind().into(),
        }
    }
}

fn let_in(text: String) -> Trouble {
    Trouble::Reason(Reason::new(ReasonCode::NotRefused, text))
}

impl Refused {
    async fn http(&self, on: &Attempt<'_>) -> Result<(), Trouble> {
        let Way::Http { method, headers, send, status, auth, tls } = &self.way else {
            return Ok(());
        };
        let url = parse_url(on.target).map_err(|text| Fault::new(FaultCode::Unsupported, text))?;
        let mut how = How::within(on.timeout, tls);
        how.authorization = auth.as_ref().map(Auth::header).transpose()?;
        let request = Request {
            method: method.clone(),
            url,
            headers: headers.clone(),
            body: send.clone().into(),
        };
        let response = fetch(on.clients, request, &how, on.trace).await?;
        let answered = format!("{} answered {}", on.target, response.status);
        if status.contains(&response.status.as_u16()) {
            return Ok(());
        }
        if response.status.is_success() {
            return Err(let_in(format!("{answered}, and should refuse: {}", response.excerpt())));
        }
        let text = format!("{answered}, which neither refuses nor lets in: {}", response.excerpt());
        Err(Trouble::fault(FaultCode::Blind, text))
    }
}

async fn kafka(topic: &str, security: &Security, on: &Attempt<'_>) -> Result<(), Trouble> {
    let cluster = Cluster::new(on.target, security)
        .map_err(|text| Fault::new(FaultCode::Unsupported, text))?;
    let within = on.timeout.mul_f64(0.9);
    match on.clients.kafka().ends(&cluster, topic, within).await {
        Err(Trouble::Reason(reason)) => match reason.code {
            ReasonCode::AuthFailed => Ok(()),
            // An alert is the broker's word; without one it is we who don't trust the broker.
            ReasonCode::TlsFailed | ReasonCode::CertificateInvalid
                if reason.text.contains(" alert ") =>
            {
                Ok(())
            }
            ReasonCode::NotFound => {
                Err(let_in(format!("{} let us in; it has no topic {topic}", on.target)))
            }
            _ => Err(reason.into()),
        },
        Err(trouble) => Err(trouble),
        Ok(_) => Err(let_in(format!("{} let us in and told of topic {topic}", on.target))),
    }
}

async fn handshake(options: &tls::Options, on: &Attempt<'_>) -> Result<(), Trouble> {
    let to = HostPort::parse(on.target).map_err(|text| Fault::new(FaultCode::Unsupported, text))?;
    match tls::admission(on.clients, &to, options, on.timeout.mul_f64(0.9), on.trace).await? {
        Admission::Refused(alert) => {
            on.trace.note(format_args!("refused by the alert {alert}"));
            Ok(())
        }
        Admission::LetIn => {
            Err(let_in(format!("{} went on after the TLS handshake, and should refuse", on.target)))
        }
    }
}
