//! Any search API that answers in JSON over HTTP: what is asked and how hits are read is written
//! in the plan, in jq.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::alert::{self, Alert, Shape};
use super::found::{Found, Record, plain};
use super::{Confirmer, LookContext, MARGIN};
use crate::client::assertion::Jq;
use crate::client::http::{Api, Auth, Request, excerpt};
use crate::client::tls;
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;
use crate::probe::http::headers;
use crate::time::Wall;

/// A round's hits are on fewer pages.
const PAGES_LIMIT: usize = 200;
const OFFSET: &str = "{offset}";
const CURSOR: &str = "{cursor}";

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Where to ask. Here and in `body` stand for the round that is looked for: {run}, its name;
    /// {from} and {to}, its time in RFC 3339; {from_s}, {from_ms}, {from_ns} and {to_s}, {to_ms},
    /// {to_ns} the same as numbers since 1970; and, where an answer holds only a part, {offset},
    /// how many hits came before, and {cursor}, what `next` yielded (nothing at first).
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
    /// jq on a hit: what tells copies apart, such as `._id`. Pages may overlap: with `next` or
    /// {offset} it must be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// jq on the answer: what leads to the next part, and null or nothing on the last: a link that
    /// begins with `http` or `/`, or the value of {cursor}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// jq on the answer: true where it holds only a part of the hits, and no next one leads on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<String>,
    /// So many hits are the most that one answer holds: as many of them are not all. With {offset}
    /// in the request, the next ones are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The hits are alerts: which of their fields say what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Shape>,
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
    next: Option<Jq>,
    truncated: Option<Jq>,
    limit: Option<u64>,
    alerts: Option<Shape>,
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
        if let Some(alerts) = &spec.alerts {
            alerts.validate()?;
        }
        let written = |word| spec.url.contains(word) || spec.body.to_string().contains(word);
        let pages = spec.next.is_some() || written(OFFSET);
        if pages && spec.id.is_none() && spec.alerts.is_none() {
            return Err(
                "the hits are on several pages, which may overlap, and nothing tells a hit that \
                        is shown twice from one that is there twice; name under `id` what does"
                    .into(),
            );
        }
        let optional = |text: &Option<String>| text.as_deref().map(Jq::compile).transpose();
        let mut sample = Words::new("gl00000000", Wall::default(), Wall::default());
        sample.0.extend([(OFFSET, String::from("0")), (CURSOR, String::new())]);
        let api = Api::new(&sample.fill_url(&spec.url), spec.auth, spec.tls)?;
        Ok(Self {
            method,
            headers,
            items: Jq::compile(&spec.items)?,
            fields: optional(&spec.fields)?,
            text: optional(&spec.text)?,
            id: optional(&spec.id)?,
            next: optional(&spec.next)?,
            truncated: optional(&spec.truncated)?,
            url: spec.url,
            body: spec.body,
            limit: spec.limit,
            alerts: spec.alerts,
            api,
        })
    }

    fn effects(&self) -> Vec<Effect> {
        vec![Effect {
            what: format!("sends one {} request to {} for each page", self.method, self.url),
            needs: None,
        }]
    }

    fn keeps(&self) -> bool {
        true
    }

    fn ends(&self) -> bool {
        self.alerts.as_ref().is_some_and(Shape::ends)
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let mut look = match self.seen(&on).await {
            Ok(look) => look,
            Err(fault) => return Look::blind(fault),
        };
        if Confirmer::ends(self) {
            alert::closed(&mut look, mark);
        }
        look
    }
}

impl JsonApi {
    async fn seen(&self, on: &LookContext<'_>) -> Result<Look, Fault> {
        let text_at = self.text.as_ref().map(Jq::text);
        let found = Found::new(on.sought).with_text_at(text_at);
        let mut seen = Seen { found, alerts: Vec::new() };
        self.pages(&mut seen, on).await?;
        let look = seen.found.look();
        if self.alerts.is_none() {
            return Ok(look);
        }
        let told = alert::look(seen.alerts, None, on);
        let whole = look.horizon == Horizon::Complete;
        Ok(Look { horizon: if whole { told.horizon } else { look.horizon }, ..told })
    }

    async fn pages(&self, seen: &mut Seen<'_>, on: &LookContext<'_>) -> Result<(), Fault> {
        let deadline = Instant::now() + on.timeout;
        let mut page = Page::default();
        for _ in 0..PAGES_LIMIT {
            let left = deadline.saturating_duration_since(Instant::now());
            let next = match self.page(&page, seen, left, on).await {
                Ok(next) => next,
                // What earlier pages showed stays seen.
                Err(fault) if page.offset > 0 => {
                    seen.found.lacks(fault.to_string());
                    return Ok(());
                }
                Err(fault) => return Err(fault),
            };
            let Some(next) = next else { return Ok(()) };
            if next == page {
                seen.found.lacks("the next page is the same one again");
                return Ok(());
            }
            page = next;
        }
        seen.found.lacks(format!("there are more than {PAGES_LIMIT} pages"));
        Ok(())
    }

    /// Reads one page; returns the next one, where there is one.
    async fn page(
        &self,
        page: &Page,
        seen: &mut Seen<'_>,
        timeout: Duration,
        on: &LookContext<'_>,
    ) -> Result<Option<Page>, Fault> {
        let blind = |text: String| Fault::new(FaultCode::Blind, text);
        let request = self.request(page, on).map_err(blind)?;
        let asked = request.url.clone();
        let answer = self.api.ask_json(on.clients, request, timeout, on.trace).await;
        let answer = answer.map_err(crate::outcome::Trouble::blind)?;
        let items = self.items.run(&answer).map_err(blind)?;
        on.trace.note(format_args!("{} hits", items.len()));
        for item in &items {
            self.take(item, seen, on).map_err(blind)?;
        }
        if let Some(said) = complaint(&answer) {
            seen.found.lacks(format!("{asked} says that its answer is not whole: {said}"));
        }
        let next = self.next(page, &asked, &answer, items.len()).map_err(blind)?;
        if next.is_none()
            && let Some(why) = self.lacking(&answer, items.len()).map_err(blind)?
        {
            seen.found.lacks(why);
        }
        Ok(next)
    }

    fn request(&self, page: &Page, on: &LookContext<'_>) -> Result<Request, String> {
        let (from, to) = on.reach(MARGIN);
        let mut words = Words::new(&on.sought.run, from, to);
        words.0.push((OFFSET, page.offset.to_string()));
        words.0.push((CURSOR, page.cursor.clone()));
        let url = match &page.link {
            Some(link) => link.clone(),
            None => Url::parse(&words.fill_url(&self.url))
                .map_err(|error| format!("{} is no URL: {error}", self.url))?,
        };
        let body = match &self.body {
            Value::Null => String::new(),
            Value::String(text) => words.fill(text),
            tree => words.fill_tree(tree).to_string(),
        };
        Ok(Request {
            method: self.method.clone(),
            url,
            headers: self.headers.clone(),
            body: body.into(),
        })
    }

    fn take(&self, item: &Value, seen: &mut Seen<'_>, on: &LookContext<'_>) -> Result<(), String> {
        let first = |program: &Option<Jq>| -> Result<Option<Value>, String> {
            let Some(program) = program else { return Ok(None) };
            Ok(program.run(item)?.into_iter().next().filter(|value| !value.is_null()))
        };
        let fields: Option<Map<String, Value>> = match first(&self.fields)? {
            Some(Value::Object(fields)) => Some(fields),
            Some(_) => None,
            None => item.as_object().cloned(),
        };
        let text = first(&self.text)?.as_ref().map(plain);
        let text = text.or_else(|| item.as_str().map(str::to_owned));
        let id = first(&self.id)?.as_ref().map(plain);
        if let Some(shape) = &self.alerts {
            if seen.alerts.len() >= alert::LIMIT {
                seen.found.lacks(format!("there are more than {} alerts", alert::LIMIT));
                return Ok(());
            }
            // What has no name of its own is told by what it says.
            let copy = id.unwrap_or_else(|| plain(item));
            let wanted = alert::filled(&shape.fields, on);
            seen.alerts.extend(shape.read(copy, text, fields.unwrap_or_default(), &wanted));
            return Ok(());
        }
        seen.found.take_showing(&plain(item), Record { fields, text, id });
        Ok(())
    }

    fn next(
        &self,
        page: &Page,
        asked: &Url,
        answer: &Value,
        hits: usize,
    ) -> Result<Option<Page>, String> {
        let offset = page.offset.saturating_add(hits);
        if let Some(program) = &self.next {
            let next = program.run(answer)?.into_iter().next();
            let next = next.filter(|next| !matches!(next, Value::Null | Value::Bool(false)));
            let next = next.map(|next| plain(&next)).filter(|next| !next.is_empty());
            let Some(next) = next else { return Ok(None) };
            if !next.starts_with("http") && !next.starts_with('/') {
                return Ok(Some(Page { offset, cursor: next, link: None }));
            }
            let link =
                asked.join(&next).map_err(|error| format!("{next:?} is no link: {error}"))?;
            // Our credentials are for the place that the plan names.
            if link.origin() != asked.origin() {
                return Err(format!("the next page is elsewhere: {link}"));
            }
            return Ok(Some(Page { offset, cursor: String::new(), link: Some(link) }));
        }
        // Without a limit only an empty page is the last one.
        let full = hits > 0 && self.limit.is_none_or(|limit| hits as u64 >= limit);
        let pages = self.url.contains(OFFSET) || self.body.to_string().contains(OFFSET);
        Ok((pages && full).then(|| Page { offset, ..page.clone() }))
    }

    /// Why the answer does not hold everything, where it does not.
    fn lacking(&self, answer: &Value, hits: usize) -> Result<Option<String>, String> {
        if let Some(limit) = self.limit
            && self.next.is_none()
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

/// By what search engines say, with a good status, that a part of them did not answer.
const PARTIAL: [&str; 3] = ["timed_out", "is_partial", "isPartial"];

/// What an answer that is no failure by its status says of one: such an answer may lack anything.
fn complaint(answer: &Value) -> Option<String> {
    let says = |value: &&Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) => true,
    };
    if let Some(said) = ["error", "errors"].iter().find_map(|key| answer.get(key).filter(says)) {
        return Some(excerpt(plain(said).as_bytes()));
    }
    if let Some(key) = PARTIAL.iter().find(|key| answer.get(**key) == Some(&Value::Bool(true))) {
        return Some(format!("`{key}` is true"));
    }
    let failed = answer.get("_shards")?.get("failed")?.as_u64().filter(|failed| *failed > 0)?;
    Some(format!("{failed} shards failed"))
}

/// What the pages held so far.
struct Seen<'a> {
    found: Found<'a>,
    /// Where the hits are alerts.
    alerts: Vec<Alert>,
}

/// Which part of the hits is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Page {
    offset: usize,
    cursor: String,
    link: Option<Url>,
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
            next: None,
            truncated: None,
            limit: None,
            alerts: None,
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
        // Without a name of its own, a hit on two pages would be two copies.
        let next = |id: Option<&str>| Spec {
            next: Some(".next".into()),
            id: id.map(str::to_owned),
            ..spec("http://h/{run}", ".hits[]")
        };
        for pages in [next(None), spec("http://h/{run}?at={offset}", ".hits[]")] {
            let why = JsonApi::new(pages).map(|_| ()).unwrap_err();
            assert!(why.contains("several pages"), "{why}");
        }
        assert!(JsonApi::new(next(Some("._id"))).is_ok());
    }

    #[test]
    fn an_answer_may_tell_of_an_error_whatever_its_status_is() {
        for (answer, said) in [
            (json!({"error": "shards failed", "hits": []}), Some("shards failed")),
            (json!({"error": {"type": "x"}}), Some("{\"type\":\"x\"}")),
            (json!({"errors": true}), Some("true")),
            (json!({"errors": ["a"]}), Some("[\"a\"]")),
            (json!({"error": null, "errors": []}), None),
            (json!({"error": "", "errors": false}), None),
            (json!({"errors": 0, "hits": [{"error": "of an event"}]}), None),
            (json!({"timed_out": true, "hits": {}}), Some("`timed_out` is true")),
            (json!({"isPartial": true}), Some("`isPartial` is true")),
            (json!({"timed_out": false, "_shards": {"failed": 1}}), Some("1 shards failed")),
            (json!({"timed_out": false, "_shards": {"failed": 0}, "is_partial": "x"}), None),
            (json!([{"error": "of an event"}]), None),
        ] {
            assert_eq!(complaint(&answer).as_deref(), said, "{answer}");
        }
    }
}
