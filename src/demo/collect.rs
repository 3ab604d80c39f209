//! The collectors: syslog over TCP (RFC 6587: counted octets or lines) and HTTP, both into the raw
//! topic.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::broker::Record;
use super::{RAW, State};
use crate::journey::Stage;
use crate::journey::event::ID_HEADER;

/// The largest message taken: eight times what rsyslog takes by default.
const MESSAGE_LIMIT: usize = 64 * 1024;
/// The digits of that limit, and the space after them.
const COUNT_LIMIT: u64 = 6;
/// Connections at once.
const CONNECTIONS: usize = 64;
/// A connection that sends nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Takes connections until it is dropped.
pub(super) async fn syslog(listener: TcpListener, state: Arc<State>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    if let Err(error) = read(stream, &state).await {
                        tracing::debug!(%error, "a syslog connection to the embedded collector");
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, or a client that is gone already: the next may come.
            Err(error) => {
                tracing::warn!(%error, "the embedded syslog collector can't accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn read(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Ok(message) = tokio::time::timeout(IDLE, frame(&mut stream)).await else {
            return Ok(());
        };
        let Some(message) = message? else { return Ok(()) };
        let record = raw(message, None);
        if let Err(error) = state.broker.produce(vec![record]).await {
            return Err(std::io::Error::other(error));
        }
    }
}

/// One message; None at the end of the stream.
async fn frame(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let wrong = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text.to_owned());
    let Some(first) = stream.fill_buf().await?.first().copied() else { return Ok(None) };
    if !first.is_ascii_digit() {
        let mut line = Vec::new();
        let mut limited = stream.take(MESSAGE_LIMIT as u64);
        limited.read_until(b'\n', &mut line).await?;
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() >= MESSAGE_LIMIT {
            return Err(wrong("a line is longer than the limit"));
        }
        return Ok(Some(line));
    }
    let mut length = Vec::new();
    let mut limited = (&mut *stream).take(COUNT_LIMIT);
    limited.read_until(b' ', &mut length).await?;
    let length = std::str::from_utf8(&length)
        .ok()
        .and_then(|text| text.strip_suffix(' '))
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|length| *length <= MESSAGE_LIMIT)
        .ok_or_else(|| wrong("no count of octets"))?;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

fn raw(payload: Vec<u8>, id: Option<Vec<u8>>) -> Record {
    Record { topic: RAW.to_owned(), partition: 0, key: Vec::new(), payload, id }
}

/// POST /events: one JSON object, an array of them, or one a line.
pub(super) fn http(state: Arc<State>) -> Router {
    Router::new().route("/events", post(take)).with_state(state)
}

async fn take(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    if state.broken(Stage::Accepted) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the embedded collector takes nothing\n");
    }
    let Some(events) = events(&body) else {
        return (StatusCode::BAD_REQUEST, "the embedded collector takes JSON objects\n");
    };
    let id = headers.get(ID_HEADER).map(|id| id.as_bytes().to_vec());
    let id = id.filter(|_| events.len() == 1);
    let records = events.into_iter().map(|event| raw(event, id.clone())).collect();
    match state.broker.produce(records).await {
        Ok(()) => (StatusCode::OK, "taken by the embedded collector\n"),
        Err(error) => {
            tracing::warn!(%error, "the embedded collector can't write to its broker");
            (StatusCode::SERVICE_UNAVAILABLE, "the embedded broker takes nothing\n")
        }
    }
}

/// The objects of a body, each as it stands there; None where one is none.
fn events(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let object = |line: &[u8]| serde_json::from_slice::<Value>(line).is_ok_and(|v| v.is_object());
    if object(body) {
        return Some(vec![body.to_vec()]);
    }
    if let Ok(Value::Array(items)) = serde_json::from_slice(body) {
        let texts =
            items.iter().map(|item| item.is_object().then(|| item.to_string().into_bytes()));
        return texts.collect();
    }
    let lines: Vec<Vec<u8>> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    (!lines.is_empty() && lines.iter().all(|line| object(line))).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_one_object_an_array_or_lines() {
        let read = |body: &str| events(body.as_bytes()).map(|events| events.len());
        for (body, expected) in [
            ("{\"a\":1}", Some(1)),
            ("[{\"a\":1},{\"b\":2}]", Some(2)),
            ("{\"a\":1}\n{\"b\":2}\n\n", Some(2)),
            ("[]", Some(0)),
            ("[1]", None),
            ("{\"a\":1}\nno", None),
            ("", None),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }
}
