//! Any search API that answers in JSON over HTTP: what is asked and how hits are read is written
//! in the plan, in jq.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::{Confirmer, LookContext, recognise};
use crate::client::assertion::Jq;
use crate::client::http::{Api, Auth, Request};
use crate::client::tls;
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;
use crate::probe::http::headers;
use crate::time::{Mono, Wall};

/// `{from}` and `{to}` reach so much further than the round, for clocks that differ.
const MARGIN: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Where to ask. Here and in `body` stand for the round that is looked for: {run}, its name;
    /// {from} and {to}, its time in RFC 3339; {from_s}, {from_ms}, {from_ns} and {to_s}, {to_ms},
    /// {to_ns} the same as numbers since 1970.
    pub url: String,
    /// GET, or POST where there is a body, where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What to send: a text as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
    /// jq: one value a hit, such as `.hits.hits[]`.
    pub items: String,
    /// jq on a hit: its fields, such as `._source`; the hit itself where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<String>,
    /// jq on a hit: the event's original text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// jq on a hit: what tells copies apart, such as `._id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// jq on the answer: true where it holds only a part of the hits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<String>,
    /// So many hits are the most that one answer holds: as many of them are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct JsonApi {
    url: String,
    method: Method,
    headers: HeaderMap,
    body: Value,
    items: Jq,
    fields: Option<Jq>,
    text: Option<Jq>,
    id: Option<Jq>,
    truncated: Option<Jq>,
    limit: Option<u64>,
    api: Api,
}

impl Confirmer for JsonApi {
    const KIND: &'static str = "json_api";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        let method = match &spec.method {
            Some(text) => Method::from_bytes(text.as_bytes())
                .map_err(|_| format!("{text:?} is no HTTP method"))?,
            None if spec.body.is_null() => Method::GET,
            None => Method::POST,
        };
        let mut headers = headers(&spec.headers)?;
        if !spec.body.is_null() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let optional = |text: &Option<String>| text.as_deref().map(Jq::compile).transpose();
        let sample = Words::new("gl00000000", Wall::default(), Wall::default());
        let api = Api::new(&sample.fill_url(&spec.url), spec.auth, spec.tls)?;
        Ok(Self {
            method,
            headers,
            items: Jq::compile(&spec.items)?,
            fields: optional(&spec.fields)?,
            text: optional(&spec.text)?,
            id: optional(&spec.id)?,
            truncated: optional(&spec.truncated)?,
            url: spec.url,
            body: spec.body,
            limit: spec.limit,
            api,
        })
    }

    fn effects(&self) -> Vec<Effect> {
        vec![Effect {
            what: format!("sends one {} request to {}", self.method, self.url),
            needs: None,
        }]
    }

    async fn begin(&self, _on: LookContext<'_>) -> Result<Value, Fault> {
        Ok(Value::Null)
    }

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        match self.seen(&on).await {
            Ok(look) => look,
            Err(fault) => Look::blind(fault),
        }
    }
}

impl JsonApi {
    async fn seen(&self, on: &LookContext<'_>) -> Result<Look, Fault> {
        let sought = on.sought;
        let words = Words::new(
            &sought.run,
            sought.began.wall.minus(MARGIN),
            on.now.wall.max(sought.began.wall).plus(MARGIN),
        );
        let blind = |text: String| Fault::new(FaultCode::Blind, text);
        let url = Url::parse(&words.fill_url(&self.url))
            .map_err(|error| blind(format!("{} is no URL: {error}", self.url)))?;
        let body = match &self.body {
            Value::Null => String::new(),
            Value::String(text) => words.fill(text),
            tree => words.fill_tree(tree).to_string(),
        };
        let request = Request {
            method: self.method.clone(),
            url,
            headers: self.headers.clone(),
            body: body.into(),
        };
        let answer = self.api.ask_json(on.clients, request, on.timeout, on.trace).await;
        let answer = answer.map_err(crate::outcome::Trouble::blind)?;
        let items = self.items.run(&answer).map_err(blind)?;
        on.trace.note(format_args!("{} hits", items.len()));
        let mut arrivals = Vec::new();
        let mut copies: BTreeMap<u64, usize> = BTreeMap::new();
        for item in &items {
            self.arrivals(item, on, &mut copies, &mut arrivals).map_err(blind)?;
        }
        let horizon = match self.lacking(&answer, items.len()).map_err(blind)? {
            Some(why) => Horizon::Partial(blind(why)),
            None => Horizon::Complete,
        };
        Ok(Look { arrivals, horizon })
    }

    fn arrivals(
        &self,
        item: &Value,
        on: &LookContext<'_>,
        copies: &mut BTreeMap<u64, usize>,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<(), String> {
        let first = |program: &Option<Jq>| -> Result<Option<Value>, String> {
            let Some(program) = program else { return Ok(None) };
            Ok(program.run(item)?.into_iter().next().filter(|value| !value.is_null()))
        };
        let fields: Option<Map<String, Value>> = match first(&self.fields)? {
            Some(Value::Object(fields)) => Some(fields),
            Some(_) => None,
            None => item.as_object().cloned(),
        };
        let text = first(&self.text)?.map(plain).or_else(|| item.as_str().map(str::to_owned));
        let id = first(&self.id)?.map(plain);
        let everything = plain(item.clone());
        for seq in recognise::events(&everything, fields.as_ref(), on.sought) {
            let ordinal = copies.entry(seq).or_default();
            arrivals.push(Arrival {
                seq: Some(seq),
                copy: id.clone().unwrap_or_else(|| ordinal.to_string()),
                seen: Mono::now(),
                order: None,
                text: text.clone(),
                fields: fields.clone(),
                dead_letter: false,
                wrong: None,
            });
            *ordinal += 1;
        }
        Ok(())
    }

    /// Why the answer does not hold everything, where it does not.
    fn lacking(&self, answer: &Value, hits: usize) -> Result<Option<String>, String> {
        if let Some(limit) = self.limit
            && hits as u64 >= limit
        {
            return Ok(Some(format!(
                "{hits} hits, as many as one answer holds: there may be more"
            )));
        }
        let Some(program) = &self.truncated else { return Ok(None) };
        let says = program.run(answer)?;
        let partial = says.iter().any(|value| !matches!(value, Value::Null | Value::Bool(false)));
        Ok(partial.then(|| format!("the answer is not whole: `{}` says so", program.text())))
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// What the words in braces stand for.
struct Words(Vec<(&'static str, String)>);

impl Words {
    fn new(run: &str, from: Wall, to: Wall) -> Self {
        Self(vec![
            ("{run}", run.to_owned()),
            ("{from}", from.rfc3339()),
            ("{to}", to.rfc3339()),
            ("{from_s}", from.0.div_euclid(1_000_000_000).to_string()),
            ("{from_ms}", from.0.div_euclid(1_000_000).to_string()),
            ("{from_ns}", from.0.to_string()),
            ("{to_s}", to.0.div_euclid(1_000_000_000).to_string()),
            ("{to_ms}", to.0.div_euclid(1_000_000).to_string()),
            ("{to_ns}", to.0.to_string()),
        ])
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
    }

    /// As [`Self::fill`], with the values encoded as a URL wants them.
    fn fill_url(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, value)| {
            text.replace(word, &byte_serialize(value.as_bytes()).collect::<String>())
        })
    }

    fn fill_tree(&self, tree: &Value) -> Value {
        match tree {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_tree(item)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), self.fill_tree(value))).collect()
            }
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_in_braces_are_filled_in_and_others_left() {
        let words =
            Words::new("gl1", Wall::from_secs(1_700_000_000), Wall::from_secs(1_700_000_060));
        let tree =
            json!({"query": "run:{run} {other}", "range": [{"gte": "{from}"}, "{to_ms}", 5]});
        assert_eq!(
            words.fill_tree(&tree),
            json!({
                "query": "run:gl1 {other}",
                "range": [{"gte": "2023-11-14T22:13:20.000Z"}, "1700000060000", 5]
            })
        );
        assert_eq!(
            words.fill_url("http://h/q?from={from}&run={run}"),
            "http://h/q?from=2023-11-14T22%3A13%3A20.000Z&run=gl1"
        );
    }

    #[test]
    fn mistakes_are_told_when_the_plan_is_read() {
        let spec = |url: &str, items: &str| Spec {
            url: url.into(),
            method: None,
            headers: BTreeMap::new(),
            body: Value::Null,
            items: items.into(),
            fields: None,
            text: None,
            id: None,
            truncated: None,
            limit: None,
            auth: None,
            tls: tls::Options::default(),
        };
        assert!(JsonApi::new(spec("http://h/{run}/_search?q={from}", ".hits[]")).is_ok());
        for (url, items, shown) in
            [("h:1/{run}", ".", "neither http"), ("http://h/", ".hits[", "jq program")]
        {
            let why = JsonApi::new(spec(url, items)).map(|_| ()).unwrap_err();
            assert!(why.contains(shown), "{why}");
        }
    }
}
