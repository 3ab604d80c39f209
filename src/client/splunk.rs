//! Splunk's search API: a job, awaited, and all of its results; and what its saved searches fired.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::http::{Api, Request, Response, expect_success};
use super::{Answer, Clients};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Wall;

/// Results in one answer; Splunk gives out 50,000 at most (`maxresultrows`).
const PAGE: usize = 1_000;
/// A job that nobody asks about ends after so many seconds.
const LIVES: &str = "60";
/// Between two questions whether the job is done.
const POLL: Duration = Duration::from_millis(200);
/// To end the job may take so long; it ends by itself after [`LIVES`].
const ENDING: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Begins with `search` or a pipe.
    pub search: &'a str,
    /// Seconds since 1970.
    pub from: i64,
    pub to: i64,
    /// Results in all.
    pub limit: usize,
}

/// Runs a search to its end and reads its results, `limit` of them at most.
pub async fn search(
    api: &Api,
    clients: &Clients,
    asked: Asked<'_>,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<Map<String, Value>>, Trouble> {
    let talk = Talk { api, clients, trace, deadline: Instant::now() + timeout };
    let form = Serializer::new(String::new())
        .append_pair("search", asked.search)
        .append_pair("earliest_time", &asked.from.to_string())
        .append_pair("latest_time", &asked.to.to_string())
        .append_pair("output_mode", "json")
        .append_pair("exec_mode", "normal")
        .append_pair("timeout", LIVES)
        .finish();
    let made: Made = talk.ask(Method::POST, "services/search/v2/jobs", &[], form).await?;
    // It comes back in a path.
    let sid: String = byte_serialize(made.sid.as_bytes()).collect();
    let job = format!("services/search/v2/jobs/{sid}");
    let answer = talk.results(&job, asked.limit).await;
    talk.end(&job).await;
    answer
}

/// One time that a saved search triggered.
#[derive(Debug)]
pub struct FiredAlert {
    /// Its own, and nobody else's.
    pub name: String,
    pub search: String,
    /// The job that found it.
    pub sid: String,
    pub began: Wall,
    pub fields: Map<String, Value>,
}

/// What saved searches fired since then, the newest first.
pub async fn fired(
    api: &Api,
    clients: &Clients,
    from: Wall,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<FiredAlert>, Trouble> {
    let talk = Talk { api, clients, trace, deadline: Instant::now() + timeout };
    let count = PAGE.to_string();
    let asked = [
        ("output_mode", "json"),
        ("count", count.as_str()),
        ("sort_key", "trigger_time"),
        ("sort_mode", "num"),
        ("sort_dir", "desc"),
    ];
    // A dash stands for whatever fired.
    let path = "servicesNS/-/-/alerts/fired_alerts/-";
    let listed: Listed = talk.ask(Method::GET, path, &asked, String::new()).await?;
    let mut answer = Answer { rows: Vec::new(), lacking: complaint(&listed.messages) };
    let read = listed.entry.len() as u64;
    for entry in listed.entry {
        match entry.fired() {
            Some(alert) => answer.rows.push(alert),
            None => answer.lacks("a fired alert has no time, no search or no job"),
        }
    }
    // What was not read is older than what was, where it is sorted as asked.
    let sorted = answer.rows.is_sorted_by(|a, b| a.began >= b.began);
    let reaches = sorted && answer.rows.last().is_some_and(|last| last.began < from);
    let total = listed.paging.map(|paging| paging.total);
    if !reaches && total.is_none_or(|total| total > read) {
        answer.lacks(format!("{read} fired alerts were read, and there may be more"));
    }
    Ok(answer)
}

/// What a job of before had found, the beginning of it.
pub async fn results(
    api: &Api,
    clients: &Clients,
    sid: &str,
    timeout: Duration,
    trace: &Trace,
) -> Result<Vec<Map<String, Value>>, Trouble> {
    let talk = Talk { api, clients, trace, deadline: Instant::now() + timeout };
    let sid: String = byte_serialize(sid.as_bytes()).collect();
    let path = format!("services/search/v2/jobs/{sid}/results");
    let asked = [("output_mode", "json"), ("count", "100")];
    let found: Results = talk.ask(Method::GET, &path, &asked, String::new()).await?;
    Ok(found.results)
}

#[derive(Deserialize)]
struct Listed {
    entry: Vec<Named>,
    paging: Option<Paging>,
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Paging {
    total: u64,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    content: Map<String, Value>,
}

impl Named {
    fn fired(self) -> Option<FiredAlert> {
        let text = |key: &str| self.content.get(key).and_then(Value::as_str).map(str::to_owned);
        let at = self.content.get("trigger_time")?;
        let at = at.as_i64().or_else(|| at.as_str()?.parse().ok())?;
        let (search, sid) = (text("savedsearch_name")?, text("sid")?);
        let began = Wall::from_secs(at);
        Some(FiredAlert { name: self.name, search, sid, began, fields: self.content })
    }
}

struct Talk<'a> {
    api: &'a Api,
    clients: &'a Clients,
    trace: &'a Trace,
    deadline: Instant,
}

impl Talk<'_> {
    async fn results(
        &self,
        job: &str,
        limit: usize,
    ) -> Result<Answer<Map<String, Value>>, Trouble> {
        let state = loop {
            let jobs: Jobs =
                self.ask(Method::GET, job, &[("output_mode", "json")], String::new()).await?;
            let Some(entry) = jobs.entry.into_iter().next() else {
                return Err(Trouble::reason(ReasonCode::NotFound, "splunk lost the search job"));
            };
            let state = entry.content;
            if state.is_failed || state.dispatch_state == "FAILED" {
                let why = state.complaint().unwrap_or_else(|| "it does not say why".into());
                let text = format!("the search failed: {why}");
                return Err(Trouble::reason(ReasonCode::QueryRefused, text));
            }
            if state.is_done {
                break state;
            }
            if Instant::now() + POLL >= self.deadline {
                let text = format!("the search was not done in time ({})", state.dispatch_state);
                return Err(Trouble::reason(ReasonCode::Timeout, text));
            }
            sleep(POLL).await;
        };
        let mut answer = Answer { rows: Vec::new(), lacking: state.complaint() };
        loop {
            let offset = answer.rows.len().to_string();
            let count = PAGE.to_string();
            let asked: &[(&str, &str)] =
                &[("output_mode", "json"), ("offset", &offset), ("count", &count)];
            let page: Result<Results, Trouble> =
                self.ask(Method::GET, &format!("{job}/results"), asked, String::new()).await;
            let page = match page {
                Ok(page) => page,
                // What earlier pages showed stays seen.
                Err(trouble) if !answer.rows.is_empty() => {
                    answer.lacks(trouble.to_string());
                    return Ok(answer);
                }
                Err(trouble) => return Err(trouble),
            };
            if page.preview {
                answer.lacks("the results are a preview");
            }
            if let Some(complaint) = complaint(&page.messages) {
                answer.lacks(complaint);
            }
            let got = page.results.len();
            answer.rows.extend(page.results);
            let read = answer.rows.len();
            if read >= limit && (state.result_count > read as u64 || read > limit) {
                answer.rows.truncate(limit);
                answer.lacks(format!("{} results; {limit} were read", state.result_count));
                return Ok(answer);
            }
            if got == 0 || read as u64 >= state.result_count {
                if (read as u64) < state.result_count {
                    answer
                        .lacks(format!("{read} of {} results were given out", state.result_count));
                }
                return Ok(answer);
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        form: String,
    ) -> Result<T, Trouble> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let request = self.request(method, path, query, form);
        let response = self.api.ask(self.clients, request, left, self.trace).await?;
        read(&response)
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)], form: String) -> Request {
        let mut headers = HeaderMap::new();
        if !form.is_empty() {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, kind);
        }
        Request { method, url: self.api.at(path, query), headers, body: Bytes::from(form) }
    }

    async fn end(&self, job: &str) {
        let request = self.request(Method::DELETE, job, &[("output_mode", "json")], String::new());
        // Whatever comes of it: the job ends by itself.
        drop(self.api.ask(self.clients, request, ENDING, self.trace).await);
    }
}

#[derive(Deserialize)]
struct Made {
    sid: String,
}

#[derive(Deserialize)]
struct Jobs {
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    content: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    dispatch_state: String,
    is_done: bool,
    #[serde(default)]
    is_failed: bool,
    #[serde(default)]
    result_count: u64,
    #[serde(default)]
    messages: Vec<Message>,
}

impl State {
    fn complaint(&self) -> Option<String> {
        complaint(&self.messages)
    }
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    preview: bool,
    #[serde(default)]
    messages: Vec<Message>,
    results: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Message {
    r#type: String,
    #[serde(default)]
    text: String,
}

/// The first message that says that something is missing: a peer that did not answer is a WARN or
/// an ERROR beside results that look whole.
fn complaint(messages: &[Message]) -> Option<String> {
    let grave = |message: &&Message| {
        ["WARN", "ERROR", "FATAL"].iter().any(|word| message.r#type.eq_ignore_ascii_case(word))
    };
    messages
        .iter()
        .find(grave)
        .map(|message| format!("splunk says {}: {}", message.r#type, message.text))
}

fn read<T: DeserializeOwned>(response: &Response) -> Result<T, Trouble> {
    expect_success(response)?;
    let wrong = |text: String| Trouble::reason(ReasonCode::ProtocolError, text);
    if let Some(encoding) = response.encoding() {
        return Err(wrong(format!("{} encodes its answer as {encoding}, unasked", response.url)));
    }
    serde_json::from_slice(&response.body).map_err(|error| {
        wrong(format!(
            "{} gave no answer of a search ({error}): {}",
            response.url,
            response.excerpt()
        ))
    })
}
