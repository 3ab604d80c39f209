//! HTTP/1.1 as a client, phase by phase, with a limit on everything.
//!
//! A probe opens a fresh connection for each attempt, so that its phases are real; a sender keeps
//! one [`Connection`] for the requests of a batch.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST,
    HeaderMap, HeaderValue, LOCATION, USER_AGENT,
};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};

use super::{Clients, tls};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;
pub use api::{Api, Auth, expect_success, json};
use dial::{Dialled, Stream};
use watch::{Watch, Watched};

mod api;
mod dial;
mod watch;

/// No answer's body is read beyond this where a plan names no other limit: a page or a query's
/// answer is far smaller, and a stream without an end must not fill the memory.
pub const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// As in most user agents (the WHATWG's fetch stops at 20, curl's and Go's default is 10).
const REDIRECT_LIMIT: u32 = 10;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of one JSON document.
    pub fn post_json(url: Url, document: &serde_json::Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { method: Method::POST, url, headers, body: document.to_string().into() }
    }
}

/// How it is asked.
#[derive(Clone, Debug)]
pub struct How<'a> {
    /// All waiting ends here.
    pub deadline: Instant,
    pub tls: &'a tls::Options,
    /// The value of the header `Authorization`; it never goes to another origin.
    pub authorization: Option<HeaderValue>,
    pub follow: bool,
    pub max_body: usize,
}

impl<'a> How<'a> {
    /// An attempt may take `timeout`; we stop a little before, so that we can still tell what it
    /// waited for.
    pub fn within(timeout: Duration, tls: &'a tls::Options) -> Self {
        let slack = (timeout / 20).min(Duration::from_millis(250));
        Self {
            deadline: Instant::now() + timeout.saturating_sub(slack),
            tls,
            authorization: None,
            follow: false,
            max_body: BODY_LIMIT,
        }
    }
}

/// How long each part took; None where it did not happen. Summed over redirects.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phases {
    pub resolve: Option<Duration>,
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    /// Writing the request.
    pub request: Option<Duration>,
    /// From the request's last byte to the answer's first.
    pub first_byte: Option<Duration>,
    /// From the answer's first byte to its last.
    pub body: Option<Duration>,
}

impl Phases {
    /// The phases that happened, by the names that metrics carry.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        [
            ("resolve", self.resolve),
            ("connect", self.connect),
            ("tls", self.tls),
            ("request", self.request),
            ("first_byte", self.first_byte),
            ("body", self.body),
        ]
        .into_iter()
        .filter_map(|(name, took)| took.map(|took| (name, took)))
    }

    fn add(&mut self, other: &Self) {
        let sum = |a: &mut Option<Duration>, b: Option<Duration>| {
            if let Some(b) = b {
                *a = Some(a.unwrap_or_default() + b);
            }
        };
        sum(&mut self.resolve, other.resolve);
        sum(&mut self.connect, other.connect);
        sum(&mut self.tls, other.tls);
        sum(&mut self.request, other.request);
        sum(&mut self.first_byte, other.first_byte);
        sum(&mut self.body, other.body);
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Where the answer came from, after redirects.
    pub url: Url,
    pub redirects: u32,
    pub phases: Phases,
    /// Seconds until the server's certificate runs out, where there was one.
    pub expires_in: Option<i64>,
}

impl Response {
    /// How the body is encoded, where it is. Only `identity` is ever asked for, but a server may
    /// send what it wants (RFC 9110, 12.5.3).
    pub fn encoding(&self) -> Option<&str> {
        let encoding = self.headers.get(CONTENT_ENCODING)?.to_str().unwrap_or("something unknown");
        (!encoding.eq_ignore_ascii_case("identity")).then_some(encoding)
    }

    /// The body's beginning as a line of text for a message.
    pub fn excerpt(&self) -> String {
        excerpt(&self.body)
    }
}

/// The beginning of outside bytes as one printable line.
pub fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let mut text: String = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes))
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text.trim().to_owned()
}

/// Shorter ones are words of any text; to take them out would make another answer of it.
const SHORTEST: usize = 4;

/// The body without the credentials that we sent: a server that says back what it was asked would
/// else put them into a reason, a report or the debug view.
fn unsaid(body: Bytes, authorization: Option<&HeaderValue>) -> Bytes {
    let Some(sent) = authorization.and_then(|value| value.to_str().ok()) else { return body };
    let credentials = sent.split_once(' ').map_or(sent, |(_, credentials)| credentials);
    let decoded = STANDARD.decode(credentials).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let password = decoded.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, word)| word);
    let mut body = body;
    for secret in [Some(credentials), password].into_iter().flatten() {
        let secret = secret.as_bytes();
        if secret.len() >= SHORTEST && body.windows(secret.len()).any(|window| window == secret) {
            body = replaced(&body, secret, b"[secret]").into();
        }
    }
    body
}

fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(place) = rest.windows(what.len()).position(|window| window == what) {
        let (before, after) = rest.split_at(place);
        out.extend_from_slice(before);
        out.extend_from_slice(with);
        rest = after.get(what.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// A request that got no full answer.
#[derive(Debug)]
pub struct Failed {
    pub trouble: Trouble,
    /// Whether a byte of the request may have reached the server. Where not, nothing happened.
    pub written: bool,
    /// The status, where at least the head of an answer came.
    pub status: Option<StatusCode>,
    pub phases: Phases,
    pub expires_in: Option<i64>,
}

impl Failed {
    fn early(trouble: Trouble) -> Self {
        Self { trouble, written: false, status: None, phases: Phases::default(), expires_in: None }
    }
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        failed.trouble
    }
}

/// Reads an `http://` or `https://` URL; the error says what is wrong with it.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("{text:?} is no URL ({error}); write http://HOST[:PORT]/PATH"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme of {text:?} is neither http nor https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("{text:?} names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a URL must not hold credentials: they would be shown wherever the target is; \
                    write them under `auth:`"
                .into(),
        );
    }
    Ok(url)
}

/// One request over a fresh connection; follows redirects where `how` says so.
pub async fn fetch(
    clients: &Clients,
    request: Request,
    how: &How<'_>,
    trace: &Trace,
) -> Result<Response, Failed> {
    let mut how = how.clone();
    let mut request = request;
    let mut redirects = 0;
    let mut before = Phases::default();
    loop {
        let answered = once(clients, &request, &how, trace).await;
        let mut response = match answered {
            Ok(response) => response,
            Err(mut failed) => {
                before.add(&failed.phases);
                failed.phases = before;
                return Err(failed);
            }
        };
        before.add(&response.phases);
        response.phases = before;
        response.redirects = redirects;
        let next = if how.follow { redirect(&response, &request) } else { Ok(None) };
        let next = match next {
            Ok(Some(next)) if redirects < REDIRECT_LIMIT => next,
            Ok(Some(_)) => {
                return Err(refuse(
                    &response,
                    ReasonCode::UnexpectedStatus,
                    format!(
                        "more than {REDIRECT_LIMIT} redirects; the last led to {}",
                        request.url
                    ),
                ));
            }
            Ok(None) => return Ok(response),
            Err(text) => return Err(refuse(&response, ReasonCode::ProtocolError, text)),
        };
        trace.note(format_args!("redirected to {}", next.url));
        if next.url.origin() != request.url.origin() {
            how.authorization = None;
        }
        request = next;
        redirects += 1;
    }
}

fn refuse(response: &Response, code: ReasonCode, text: String) -> Failed {
    Failed {
        trouble: Trouble::reason(code, text),
        written: true,
        status: Some(response.status),
        phases: response.phases,
        expires_in: response.expires_in,
    }
}

async fn once(
    clients: &Clients,
    request: &Request,
    how: &How<'_>,
    trace: &Trace,
) -> Result<Response, Failed> {
    let mut connection = Connection::open(clients, &request.url, how, trace).await?;
    connection.exchange(request, how, trace).await
}

/// Where a redirect leads, by RFC 9110, 15.4. None where the answer is no redirect.
fn redirect(response: &Response, request: &Request) -> Result<Option<Request>, String> {
    let status = response.status.as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers.get(LOCATION) else { return Ok(None) };
    let location = location.to_str().map_err(|_| "the redirect's Location is no text")?;
    let url = request
        .url
        .join(location)
        .map_err(|error| format!("the redirect's Location {location:?} is no URL: {error}"))?;
    let url = parse_url(url.as_str())?;
    let mut next = request.clone();
    let becomes_get = match status {
        303 => next.method != Method::HEAD,
        301 | 302 => next.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        next.method = Method::GET;
        next.body = Bytes::new();
        next.headers.remove(CONTENT_TYPE);
        next.headers.remove(CONTENT_LENGTH);
    }
    if url.origin() != request.url.origin() {
        next.headers.remove(AUTHORIZATION);
        next.headers.remove(COOKIE);
        next.headers.remove(HOST);
    }
    next.url = url;
    Ok(Some(next))
}

/// One open connection to one origin.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    _driver: AbortOnDropHandle<()>,
    watch: Arc<Watch>,
    peer: SocketAddr,
    /// What opening it took; handed to the first answer.
    opening: Phases,
    expires_in: Option<i64>,
}

impl Connection {
    /// Opens a connection to the origin of `url`.
    pub async fn open(
        clients: &Clients,
        url: &Url,
        how: &How<'_>,
        trace: &Trace,
    ) -> Result<Self, Failed> {
        let Dialled { stream, peer, phases, expires_in } =
            dial::dial(clients, url, how.deadline, how.tls, trace).await?;
        let watch = Arc::new(Watch::default());
        let made = match stream {
            Stream::Plain(stream) => drive(Watched::new(stream, watch.clone())).await,
            Stream::Secured(stream) => drive(Watched::new(*stream, watch.clone())).await,
        };
        let (sender, driver) = made.map_err(|error| Failed {
            phases,
            expires_in,
            ..Failed::early(broken(peer, &error))
        })?;
        Ok(Self { sender, _driver: driver, watch, peer, opening: phases, expires_in })
    }

    /// Whether another request can be sent.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one request, whose URL must be of this connection's origin, and reads its answer.
    pub async fn exchange(
        &mut self,
        request: &Request,
        how: &How<'_>,
        trace: &Trace,
    ) -> Result<Response, Failed> {
        let mut phases = std::mem::take(&mut self.opening);
        let expires_in = self.expires_in;
        let peer = self.peer;
        let outgoing = outgoing(request, how).map_err(|text| Failed {
            phases,
            expires_in,
            ..Failed::early(Trouble::reason(ReasonCode::ProtocolError, text))
        })?;
        self.watch.restart();
        let watch = self.watch.clone();
        let fail = |trouble, phases: Phases, status| Failed {
            trouble,
            written: watch.written(),
            status,
            phases,
            expires_in,
        };

        let answered = timeout_at(how.deadline, async {
            self.sender.ready().await?;
            self.sender.send_request(outgoing).await
        })
        .await;
        phases.request = self.watch.request();
        phases.first_byte = self.watch.first_byte();
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(fail(broken(peer, &error), phases, None)),
            Err(_) => {
                let text = if self.watch.written() {
                    format!("{peer} took the request and answered nothing in time")
                } else {
                    format!("{peer} did not take the request in time")
                };
                return Err(fail(Trouble::reason(ReasonCode::Timeout, text), phases, None));
            }
        };

        let (head, body) = response.into_parts();
        trace.note(format_args!("{peer} answered {}", head.status));
        let read = timeout_at(how.deadline, read(body, how.max_body)).await;
        phases.body = self.watch.since_first_byte();
        let status = Some(head.status);
        let body = match read {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => {
                let text = format!("the answer of {peer} is larger than {} bytes", how.max_body);
                return Err(fail(Trouble::reason(ReasonCode::TooLarge, text), phases, status));
            }
            Ok(Err(Unread::Broken(error))) => {
                return Err(fail(broken(peer, &error), phases, status));
            }
            Err(_) => {
                let text = format!("{peer} began its answer and did not end it in time");
                return Err(fail(Trouble::reason(ReasonCode::Timeout, text), phases, status));
            }
        };
        let body = unsaid(body, how.authorization.as_ref());
        trace.note(format_args!("{} bytes of body: {}", body.len(), excerpt(&body)));
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
            url: request.url.clone(),
            redirects: 0,
            phases,
            expires_in,
        })
    }
}

async fn drive<S>(
    stream: S,
) -> Result<(SendRequest<Full<Bytes>>, AbortOnDropHandle<()>), hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error is told to whoever waits for an answer, too.
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok((sender, AbortOnDropHandle::new(driver)))
}

/// The request as hyper wants it: the target in origin form (RFC 9112, 3.2.1), `Host` set.
fn outgoing(request: &Request, how: &How<'_>) -> Result<hyper::Request<Full<Bytes>>, String> {
    let url = &request.url;
    let target = Uri::try_from(&url[Position::BeforePath..Position::AfterQuery])
        .map_err(|error| format!("{url} can't be asked for: {error}"))?;
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort])
        .map_err(|error| format!("{url} names no host that can be asked: {error}"))?;
    let mut out = hyper::Request::new(Full::new(request.body.clone()));
    *out.method_mut() = request.method.clone();
    *out.uri_mut() = target;
    let headers = out.headers_mut();
    headers.insert(HOST, host);
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("greenlight/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(authorization) = &how.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    for name in request.headers.keys() {
        headers.remove(name);
        for value in request.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    Ok(out)
}

enum Unread {
    TooLarge,
    Broken(hyper::Error),
}

async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Unread> {
    // A declared length is believed before a byte is read: nothing is allocated for a liar.
    if body.size_hint().lower() > limit as u64 {
        return Err(Unread::TooLarge);
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Unread::Broken)?;
        if let Ok(data) = frame.into_data() {
            if read.len().saturating_add(data.len()) > limit {
                return Err(Unread::TooLarge);
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// What a connection that broke means.
fn broken(peer: SocketAddr, error: &hyper::Error) -> Trouble {
    if error.is_parse_too_large() {
        return Trouble::reason(
            ReasonCode::TooLarge,
            format!("the head of the answer of {peer} is too large"),
        );
    }
    if error.is_parse() {
        return Trouble::reason(
            ReasonCode::ProtocolError,
            format!("what {peer} answered is not HTTP: {}", Chain(error)),
        );
    }
    Trouble::reason(
        ReasonCode::ConnectionLost,
        format!("{peer} closed the connection before the answer was whole: {}", Chain(error)),
    )
}

/// An error with its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
