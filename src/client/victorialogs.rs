//! VictoriaLogs' query API: JSON lines, read to their end.

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
    pub headers: &'a HeaderMap,
}

/// All rows of a query, `limit` of them at most. An answer has no order and no mark at its end but
/// that of HTTP; a server that fails in the middle breaks the connection off. Pages are taken of
/// the rows in order, and counted after the last one: rows that came meanwhile would move others
/// from one page to another.
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
    loop {
        let offset = answer.rows.len();
        let text = format!(
            "{} | sort by (_time, _stream_id, _msg) offset {offset} limit {PAGE}",
            asked.query
        );
        let page = match ask(&text).await {
            Ok(page) => page,
            // What earlier pages showed stays seen.
            Err(trouble) if offset > 0 => {
                answer.lacking = Some(trouble.to_string());
                return Ok(answer);
            }
            Err(trouble) => return Err(trouble),
        };
        let got = page.len();
        answer.rows.extend(page);
        if got < PAGE {
            break;
        }
        if answer.rows.len() >= asked.limit {
            answer.rows.truncate(asked.limit);
            answer.lacking = Some(format!("{} rows or more match", asked.limit));
            return Ok(answer);
        }
    }
    if answer.rows.len() >= PAGE {
        let counted = ask(&format!("{} | stats count() rows", asked.query)).await;
        let rows = counted.map(|rows| rows.first().and_then(|row| number(row.get("rows")?)));
        let read = answer.rows.len() as u64;
        match rows {
            Ok(Some(rows)) if rows == read => {}
            Ok(rows) => {
                answer.lacking =
                    Some(format!("{read} rows were read of {rows:?}: more came meanwhile"));
            }
            Err(trouble) => answer.lacking = Some(trouble.to_string()),
        }
    }
    Ok(answer)
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
