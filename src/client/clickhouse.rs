//! ClickHouse over HTTP: the rows of one query, whole or not at all.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::Clients;
use super::http::{Api, Request, Response, excerpt, expect_success, fetch};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// The largest answer that is read: 20,000 rows of 1.6 KiB.
const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// The rows of a query. `parameters` stand in it as `{name:Type}`.
///
/// `wait_end_of_query` has the server keep its answer back until the query has ended, so that one
/// that fails is an error from the start, not rows with an exception behind them. That is looked
/// for all the same: a proxy may take the parameter away.
pub async fn query(
    api: &Api,
    clients: &Clients,
    sql: &str,
    parameters: &[(&str, &str)],
    timeout: Duration,
    trace: &Trace,
) -> Result<Vec<Map<String, Value>>, Trouble> {
    let mut url = api.base().clone();
    {
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("wait_end_of_query", "1").append_pair("default_format", "JSONEachRow");
        for (name, value) in parameters {
            pairs.append_pair(&format!("param_{name}"), value);
        }
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let body = Bytes::from(sql.to_owned());
    let request = Request { method: Method::POST, url, headers, body };
    trace.note(format_args!("{sql}"));
    let mut how = api.how(timeout)?;
    how.max_body = BODY_LIMIT;
    rows(&fetch(clients, request, &how, trace).await?)
}

fn rows(response: &Response) -> Result<Vec<Map<String, Value>>, Trouble> {
    if let Some(code) = response.headers.get("x-clickhouse-exception-code") {
        let code = code.to_str().unwrap_or_default();
        // 516 AUTHENTICATION_FAILED, 497 ACCESS_DENIED, 192 to 194 UNKNOWN_USER, WRONG_PASSWORD,
        // REQUIRED_PASSWORD (src/Common/ErrorCodes.cpp); it answers some of them with 500.
        let denied = matches!(code, "516" | "497" | "192" | "193" | "194");
        let code = if denied { ReasonCode::AuthFailed } else { ReasonCode::QueryRefused };
        return Err(Trouble::reason(code, response.excerpt()));
    }
    if !response.status.is_success() && response.body.starts_with(b"Code: ") {
        let text = response.excerpt();
        let denied = ["Code: 516,", "Code: 497,", "Code: 192,", "Code: 193,", "Code: 194,"]
            .iter()
            .any(|code| text.replace(". ", ", ").starts_with(code));
        let code = if denied { ReasonCode::AuthFailed } else { ReasonCode::QueryRefused };
        return Err(Trouble::reason(code, text));
    }
    expect_success(response)?;
    let wrong = |text: String| Trouble::reason(ReasonCode::ProtocolError, text);
    if let Some(encoding) = response.encoding() {
        return Err(wrong(format!("{} encodes its answer as {encoding}, unasked", response.url)));
    }
    let body = response.body.as_ref();
    if body.last().is_some_and(|last| *last != b'\n') {
        return Err(wrong(format!("the answer of {} ends within a row", response.url)));
    }
    let mut rows = Vec::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let row: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            wrong(format!(
                "{} gave a line that is no row ({error}): {}",
                response.url,
                excerpt(line)
            ))
        })?;
        // What newer servers write as the last row (`http_write_exception_in_output_format`).
        if let (1, Some(Value::String(text))) = (row.len(), row.get("exception"))
            && text.starts_with("Code: ")
        {
            return Err(Trouble::reason(ReasonCode::QueryRefused, excerpt(text.as_bytes())));
        }
        rows.push(row);
    }
    Ok(rows)
}
