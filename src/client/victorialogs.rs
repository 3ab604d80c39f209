//! VictoriaLogs' query API: JSON lines, read to their end.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::form_urlencoded::Serializer;

use super::http::{Api, Request, Response, expect_success};
use super::{Answer, Clients};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// Rows in one answer.
const PAGE: usize = 2_000;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub query: &'a str,
    /// Seconds since 1970, the last one included.
    pub from: i64,
    pub to: i64,
    /// Rows in all.
    pub limit: usize,
    /// Fields by which rows of one instant and one stream are told apart.
    pub keys: &'a [&'a str],
    pub headers: &'a HeaderMap,
}

/// All rows of a query, `limit` of them at most. An answer has no order and no mark at its end but
/// that of HTTP; a server that fails in the middle breaks the connection off. Pages are taken of
/// the rows in order, and counted after the last one: rows that came meanwhile would move others
/// from one page to another. So would rows that no key tells apart, whose order is another with each
/// query: one that two pages show, and that is not where they meet, stands for one that none did.
pub async fn query(
    api: &Api,
    clients: &Clients,
    asked: Asked<'_>,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<Map<String, Value>>, Trouble> {
    let deadline = Instant::now() + timeout;
    let ask = async |text: &str| {
        let left = deadline.saturating_duration_since(Instant::now());
        let response = api.ask(clients, request(api, &asked, text), left, trace).await?;
        rows(&response)
    };
    let mut answer = Answer::default();
    let keys: String = asked.keys.iter().map(|key| format!(", {}", Value::from(*key))).collect();
    let (mut offset, mut told) = (0, HashSet::new());
    loop {
        let text = format!(
            "{} | sort by (_time, _stream_id, _msg{keys}) offset {offset} limit {PAGE}",
            asked.query
        );
        let page = match ask(&text).await {
            Ok(page) => page,
            // What earlier pages showed stays seen.
            Err(trouble) if offset > 0 => {
                answer.lacks(trouble.to_string());
                return Ok(answer);
            }
            Err(trouble) => return Err(trouble),
        };
        let got = page.len();
        let seam = answer.rows.last().map(mark);
        let mut marks = Vec::with_capacity(got);
        for row in page {
            let mark = mark(&row);
            if told.contains(&mark) && Some(mark) != seam {
                answer.lacks("two pages show one row: the order of the rows is not kept");
                continue;
            }
            marks.push(mark);
            answer.rows.push(row);
        }
        told.extend(marks);
        offset += got;
        if got < PAGE {
            break;
        }
        if offset >= asked.limit {
            answer.rows.truncate(asked.limit);
            answer.lacks(format!("{} rows or more match", asked.limit));
            return Ok(answer);
        }
    }
    if offset >= PAGE {
        let counted = ask(&format!("{} | stats count() rows", asked.query)).await;
        let rows = counted.map(|rows| rows.first().and_then(|row| number(row.get("rows")?)));
        let read = offset as u64;
        match rows {
            Ok(Some(rows)) if rows == read => {}
            Ok(rows) => {
                answer.lacks(format!("{read} rows were read of {rows:?}: more came meanwhile"));
            }
            Err(trouble) => answer.lacks(trouble.to_string()),
        }
    }
    Ok(answer)
}

/// What tells one row from another.
fn mark(row: &Map<String, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn request(api: &Api, asked: &Asked<'_>, text: &str) -> Request {
    let body = Serializer::new(String::new())
        .append_pair("query", text)
        .append_pair("start", &asked.from.to_string())
        .append_pair("end", &asked.to.to_string())
        .finish();
    let mut headers = asked.headers.clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let url = api.at("select/logsql/query", &[]);
    Request { method: Method::POST, url, headers, body: Bytes::from(body) }
}

fn rows(response: &Response) -> Result<Vec<Map<String, Value>>, Trouble> {
    expect_success(response)?;
    let wrong = |text: String| Trouble::reason(ReasonCode::ProtocolError, text);
    if let Some(encoding) = response.encoding() {
        return Err(wrong(format!("{} encodes its answer as {encoding}, unasked", response.url)));
    }
    let body = response.body.as_ref();
    if body.last().is_some_and(|last| *last != b'\n') {
        return Err(wrong(format!("the answer of {} ends within a line", response.url)));
    }
    body.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                let shown = super::http::excerpt(line);
                wrong(format!("{} gave a line that is no row ({error}): {shown}", response.url))
            })
        })
        .collect()
}
