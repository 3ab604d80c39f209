//! Loki's query API: all entries of a log query, page by page.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use hyper::header::HeaderMap;
use serde::Deserialize;
use tokio::time::Instant;

use super::http::{Api, Request, Response, expect_success};
use super::{Answer, Clients};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Nanoseconds since 1970.
    pub at: i64,
    /// The stream's labels; Loki puts an entry's structured metadata among them.
    pub labels: BTreeMap<String, String>,
    pub line: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub query: &'a str,
    /// Nanoseconds since 1970; `to` is not included.
    pub from: i64,
    pub to: i64,
    /// Entries in one answer.
    pub page: u32,
    /// Entries in all.
    pub limit: usize,
    pub headers: &'a HeaderMap,
}

/// All entries, the oldest first, `limit` of them at most. A page that is full is followed by one
/// that begins with its last instant: Loki holds no two equal entries (same instant, stream and
/// line), so that what both pages hold is one.
pub async fn query(
    api: &Api,
    clients: &Clients,
    asked: Asked<'_>,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<Entry>, Trouble> {
    let deadline = Instant::now() + timeout;
    let mut answer = Answer::default();
    let mut known: HashSet<Entry> = HashSet::new();
    let mut from = asked.from;
    loop {
        let mut request = Request::get(api.at(
            "loki/api/v1/query_range",
            &[
                ("query", asked.query),
                ("start", &from.to_string()),
                ("end", &asked.to.to_string()),
                ("limit", &asked.page.to_string()),
                ("direction", "forward"),
            ],
        ));
        request.headers = asked.headers.clone();
        let left = deadline.saturating_duration_since(Instant::now());
        let read = match api.ask(clients, request, left, trace).await {
            Ok(response) => page(&response),
            Err(trouble) => Err(trouble),
        };
        let (entries, warnings) = match read {
            Ok(page) => page,
            // What earlier pages showed stays seen.
            Err(trouble) if !answer.rows.is_empty() => {
                answer.lacks(trouble.to_string());
                return Ok(answer);
            }
            Err(trouble) => return Err(trouble),
        };
        if let Some(warning) = warnings.first() {
            answer.lacks(format!("loki warns: {warning}"));
        }
        let got = entries.len();
        let last = entries.iter().map(|entry| entry.at).max();
        for entry in entries {
            if answer.rows.len() >= asked.limit {
                answer.lacks(format!("more than {} entries match", asked.limit));
                return Ok(answer);
            }
            if known.insert(entry.clone()) {
                answer.rows.push(entry);
            }
        }
        let full = usize::try_from(asked.page).is_ok_and(|page| got >= page);
        let Some(last) = last.filter(|_| full) else { return Ok(answer) };
        if last <= from {
            answer.lacks(format!(
                "{got} entries bear one instant, as many as one answer holds: there may be more"
            ));
            return Ok(answer);
        }
        from = last;
    }
}

#[derive(Deserialize)]
struct Page {
    status: String,
    data: Data,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    stream: BTreeMap<String, String>,
    values: Vec<Value>,
}

/// `[instant, line]`, and with structured metadata told apart a third.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Plain(String, String),
    WithMore(String, String, serde::de::IgnoredAny),
}

fn page(response: &Response) -> Result<(Vec<Entry>, Vec<String>), Trouble> {
    expect_success(response)?;
    let wrong = |text: String| Trouble::reason(ReasonCode::ProtocolError, text);
    if let Some(encoding) = response.encoding() {
        return Err(wrong(format!("{} encodes its answer as {encoding}, unasked", response.url)));
    }
    let page: Page = serde_json::from_slice(&response.body).map_err(|error| {
        wrong(format!(
            "{} gave no answer of a log query ({error}): {}",
            response.url,
            response.excerpt()
        ))
    })?;
    if page.status != "success" || page.data.result_type != "streams" {
        return Err(wrong(format!(
            "{} answered {} of {}, and should answer streams",
            response.url, page.status, page.data.result_type
        )));
    }
    let mut entries = Vec::new();
    for stream in page.data.result {
        for value in stream.values {
            let (Value::Plain(at, line) | Value::WithMore(at, line, _)) = value;
            let at = at.parse().map_err(|_| wrong(format!("{at:?} is no instant of an entry")))?;
            entries.push(Entry { at, labels: stream.stream.clone(), line });
        }
    }
    entries.sort_by_key(|entry| entry.at);
    Ok((entries, page.warnings.unwrap_or_default()))
}
