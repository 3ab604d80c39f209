//! HTTP: one request over a fresh connection, timed phase by phase, its answer judged.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe};
use crate::client::assertion::{Jq, regex};
use crate::client::http::{
    Auth, BODY_LIMIT, How, Phases, Request, Response, fetch, json, parse_url,
};
use crate::client::tls;
use crate::outcome::{Reading, Reason, ReasonCode, Sample, Trouble};
use crate::spec::Size;
use crate::time::Mono;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// GET, HEAD, POST, ...
    pub method: String,
    /// Headers to send.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The text to send as the request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// The status that is expected, or a list of them; any 2xx where nothing is given.
    #[serde(skip_serializing_if = "Statuses::is_empty")]
    pub status: Statuses,
    /// Headers that the answer must have, each with a regular expression for its value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub expect_headers: BTreeMap<String, String>,
    /// What the body must hold.
    pub body: BodySpec,
    /// jq programs that must yield true for the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<String>,
    /// Whether redirects are followed, up to ten.
    pub follow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    pub tls: tls::Options,
    /// The largest body that is read.
    pub max_body: Size,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            headers: BTreeMap::new(),
            send: None,
            status: Statuses::default(),
            expect_headers: BTreeMap::new(),
            body: BodySpec::default(),
            json: Vec::new(),
            follow: false,
            auth: None,
            tls: tls::Options::default(),
            max_body: Size(BODY_LIMIT as u64),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct BodySpec {
    /// Texts that must be in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Regular expressions that must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regex: Vec<String>,
    /// Regular expressions that must not match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not: Vec<String>,
}

/// One status or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Statuses(pub Vec<u16>);

impl Statuses {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&self, status: u16) -> bool {
        if self.0.is_empty() { (200..300).contains(&status) } else { self.0.contains(&status) }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an HTTP status or a list of them")
            }

            fn visit_u64<E: de::Error>(self, status: u64) -> Result<Statuses, E> {
                let status = u16::try_from(status)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(status), &self))?;
                Ok(Statuses(vec![status]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Statuses, A::Error> {
                let mut all = Vec::new();
                while let Some(status) = items.next_element()? {
                    all.push(status);
                }
                Ok(Statuses(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl schemars::JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "array", "items": { "type": "integer", "minimum": 100, "maximum": 599 } },
            ]
        })
    }
}

pub struct Http {
    method: Method,
    headers: HeaderMap,
    send: String,
    status: Statuses,
    expect_headers: Vec<(HeaderName, regex::bytes::Regex)>,
    contains: Vec<(String, regex::bytes::Regex)>,
    regex: Vec<regex::bytes::Regex>,
    not: Vec<regex::bytes::Regex>,
    json: Vec<Jq>,
    follow: bool,
    auth: Option<Auth>,
    tls: tls::Options,
    max_body: usize,
}

impl Probe for Http {
    const KIND: &'static str = "http";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] =
        &[&probe::HTTP_DURATION, &probe::HTTP_PHASE, &probe::HTTP_TLS_EXPIRY];
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn new(spec: Spec) -> Result<Self, String> {
        spec.tls.validate()?;
        if let Some(auth) = &spec.auth {
            auth.validate()?;
        }
        if let Some(status) = spec.status.0.iter().find(|status| !(100..600).contains(*status)) {
            return Err(format!("{status} is no HTTP status (100 to 599)"));
        }
        let method = Method::from_bytes(spec.method.as_bytes())
            .map_err(|_| format!("{:?} is no HTTP method", spec.method))?;
        let all = |texts: &[String]| -> Result<Vec<_>, String> {
            texts.iter().map(|text| regex(text)).collect()
        };
        Ok(Self {
            method,
            headers: headers(&spec.headers)?,
            send: spec.send.unwrap_or_default(),
            status: spec.status,
            expect_headers: spec
                .expect_headers
                .iter()
                .map(|(name, text)| Ok((header_name(name)?, regex(text)?)))
                .collect::<Result<_, String>>()?,
            contains: spec
                .body
                .contains
                .into_iter()
                .map(|text| Ok((text.clone(), regex(&regex::escape(&text))?)))
                .collect::<Result<_, String>>()?,
            regex: all(&spec.body.regex)?,
            not: all(&spec.body.not)?,
            json: spec.json.iter().map(|text| Jq::compile(text)).collect::<Result<_, _>>()?,
            follow: spec.follow,
            auth: spec.auth,
            tls: spec.tls,
            max_body: usize::try_from(spec.max_body.0).unwrap_or(usize::MAX),
        })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        parse_url(text).map(drop)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        let with = if self.auth.is_some() { " with credentials" } else { "" };
        vec![Effect {
            what: format!("sends one {} request to {target}{with}", self.method),
            needs: None,
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let url = match parse_url(on.target) {
            Ok(url) => url,
            Err(text) => return Reason::new(ReasonCode::NameNotFound, text).into(),
        };
        let mut how = How::within(on.timeout, &self.tls);
        how.follow = self.follow;
        how.max_body = self.max_body;
        how.authorization = match self.auth.as_ref().map(Auth::header).transpose() {
            Ok(authorization) => authorization,
            Err(fault) => return fault.into(),
        };
        let request = Request {
            method: self.method.clone(),
            url,
            headers: self.headers.clone(),
            body: self.send.clone().into(),
        };
        let began = Mono::now();
        match fetch(on.clients, request, &how, on.trace).await {
            Ok(response) => {
                let mut samples = samples(&response.phases, response.expires_in);
                let took = Mono::now().since(began).as_secs_f64();
                samples.push(Sample::new(&probe::HTTP_DURATION, took));
                match self.judge(&response) {
                    Ok(()) => Reading::success(samples),
                    Err(reason) => Reading::failure(reason, samples),
                }
            }
            // The phases of an answer that never came whole are no latencies; the expiry of a
            // certificate that was refused is what one wants to know then.
            Err(failed) => match failed.trouble {
                Trouble::Reason(reason) => {
                    Reading::failure(reason, samples(&Phases::default(), failed.expires_in))
                }
                Trouble::Fault(fault) => fault.into(),
            },
        }
    }
}

impl Http {
    fn judge(&self, response: &Response) -> Result<(), Reason> {
        let wrong = |code, text: String| Err(Reason::new(code, text));
        let status = response.status.as_u16();
        if !self.status.take(status) {
            let expected = if self.status.is_empty() {
                "2xx".to_owned()
            } else {
                let all: Vec<String> = self.status.0.iter().map(u16::to_string).collect();
                all.join(" or ")
            };
            return wrong(
                ReasonCode::UnexpectedStatus,
                format!("{} instead of {expected}: {}", response.status, response.excerpt()),
            );
        }
        for (name, pattern) in &self.expect_headers {
            let mut values = response.headers.get_all(name).iter().peekable();
            if values.peek().is_none() {
                return wrong(
                    ReasonCode::HeaderMismatch,
                    format!("the answer has no header `{name}`"),
                );
            }
            if !values.any(|value| pattern.is_match(value.as_bytes())) {
                return wrong(
                    ReasonCode::HeaderMismatch,
                    format!("the header `{name}` does not match `{pattern}`"),
                );
            }
        }
        self.judge_body(response)
    }

    fn judge_body(&self, response: &Response) -> Result<(), Reason> {
        let mismatch = |text: String| Err(Reason::new(ReasonCode::BodyMismatch, text));
        let body = &response.body[..];
        let asks = !(self.contains.is_empty() && self.regex.is_empty() && self.not.is_empty());
        if let Some(encoding) = response.encoding()
            && (asks || !self.json.is_empty())
        {
            return mismatch(format!(
                "the body is encoded as {encoding}, though only plain ones were asked for"
            ));
        }
        for (text, pattern) in &self.contains {
            if !pattern.is_match(body) {
                return mismatch(format!("the body lacks {text:?}: {}", response.excerpt()));
            }
        }
        for pattern in &self.regex {
            if !pattern.is_match(body) {
                return mismatch(format!(
                    "the body does not match `{pattern}`: {}",
                    response.excerpt()
                ));
            }
        }
        for pattern in &self.not {
            if let Some(found) = pattern.find(body) {
                let found = crate::client::http::excerpt(found.as_bytes());
                return mismatch(format!("the body matches `{pattern}`, and should not: {found}"));
            }
        }
        if self.json.is_empty() {
            return Ok(());
        }
        let document = json(response)
            .map_err(|trouble| Reason::new(ReasonCode::JsonMismatch, trouble.to_string()))?;
        for program in &self.json {
            program.holds(&document).map_err(|text| Reason::new(ReasonCode::JsonMismatch, text))?;
        }
        Ok(())
    }
}

fn samples(phases: &Phases, expires_in: Option<i64>) -> Vec<Sample> {
    let phases = phases
        .iter()
        .map(|(name, took)| Sample::labelled(&probe::HTTP_PHASE, &[name], took.as_secs_f64()));
    let expiry = expires_in.map(|seconds| Sample::new(&probe::HTTP_TLS_EXPIRY, seconds as f64));
    phases.chain(expiry).collect()
}

/// Headers as they are written in a plan.
pub(crate) fn headers(written: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        if name.eq_ignore_ascii_case("authorization") {
            return Err("write credentials under `auth:`, as a secret, not as a header".into());
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of the header {name:?} can't be sent"))?;
        headers.insert(header_name(name)?, value);
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    name.parse().map_err(|_| format!("{name:?} is no header name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Diagnostics, Sources, yaml};

    fn compiled(text: &str) -> Result<serde_json::Value, String> {
        let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
        let source = sources.add("plan.yaml", text);
        let node = yaml::parse(source, text, &mut diagnostics).unwrap();
        let made = crate::spec::compile(&node, &mut diagnostics, Http::new);
        made.map(|(_, json)| json).ok_or_else(|| diagnostics.render(&sources, false))
    }

    #[test]
    fn a_spec_is_read_and_its_mistakes_are_told() {
        let json = compiled(
            "{ status: [200, 204], headers: { accept: text/html }, json: ['.up'], follow: true, \
             auth: { basic: { user: me, password: { env: PW } } }, tls: { insecure: true } }",
        )
        .unwrap();
        assert_eq!(json["status"], serde_json::json!([200, 204]));
        assert_eq!(json["auth"]["basic"]["password"], serde_json::json!({"env": "PW"}));
        assert_eq!(compiled("{ status: 301 }").unwrap()["status"], serde_json::json!([301]));
        compiled("{}").unwrap();
        for (text, shown) in [
            ("{ status: 20 }", "no HTTP status"),
            ("{ status: ok }", "HTTP status"),
            ("{ method: 'G T' }", "no HTTP method"),
            ("{ json: ['.a ='] }", "jq program"),
            ("{ body: { regex: ['('] } }", "regular expression"),
            ("{ headers: { 'a b': x } }", "no header name"),
            ("{ headers: { Authorization: x } }", "auth:"),
            ("{ tls: { cert: /x } }", "belong together"),
            ("{ stauts: 200 }", "stauts"),
        ] {
            let why = compiled(text).unwrap_err();
            assert!(why.contains(shown), "{text}: {why}");
        }
    }

    #[test]
    fn targets_are_urls() {
        let probe = Http::new(Spec::default()).unwrap();
        assert!(Probe::target(&probe, "https://lake:9200/_cluster/health").is_ok());
        assert!(Probe::target(&probe, "lake:9200").unwrap_err().contains("http"));
    }
}
