//! The routes of the contract.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::answer::{Refusal, json, typed};
use super::guard::{Caller, Guard};
use super::{Backend, Declaration, Shown, Web, WebhookError, negotiate};
use crate::client::inbox;
use crate::render::page;

/// A notification of a platform's alerts: what Alertmanager groups in one message stays far
/// below it.
const BODY_LIMIT: usize = 1024 * 1024;

/// From a request's head to its answer, its body included. A reload compiles the plan in a
/// fraction of it; a scraper gives up after 10 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

type Shared = State<Arc<dyn Backend>>;

/// All that answers requests.
pub(super) struct Site {
    router: Router,
    guard: Guard,
    backend: Arc<dyn Backend>,
}

impl Site {
    pub(super) fn new(backend: Arc<dyn Backend>, web: Web) -> Self {
        Self { router: router(Arc::clone(&backend)), guard: Guard::new(web), backend }
    }

    /// Answers one request, whatever it asks for, and counts it.
    pub(super) async fn answer(
        &self,
        request: axum::http::Request<Incoming>,
        peer: SocketAddr,
        tls: bool,
    ) -> Response {
        let route = route(request.uri().path());
        let answer = self.route(request, peer, tls);
        let mut response = match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(response) => response,
            Err(_) => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "timeout",
                format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
            )
            .into_response(),
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        for (name, value) in &self.guard.config().headers {
            headers.insert(name, value.clone());
        }
        self.backend.count(route, class(response.status()));
        response
    }

    async fn route(
        &self,
        request: axum::http::Request<Incoming>,
        peer: SocketAddr,
        tls: bool,
    ) -> Response {
        let caller = match self.guard.admit(request.headers(), peer, tls).await {
            Ok(caller) => caller,
            Err(refusal) => return refusal.into_response(),
        };
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller);
        match TowerToHyperService::new(self.router.clone()).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The route of a path, as a label: a closed set.
fn route(path: &str) -> &'static str {
    const EXACT: [&str; 13] = [
        "/",
        "/metrics",
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/api/v1/plan",
        "/api/v1/checks",
        "/api/v1/gates",
        "/api/v1/ledger",
        "/api/v1/journeys",
        "/api/v1/captures",
        "/api/v1/listeners",
        "/api/v1/load",
    ];
    match EXACT.into_iter().find(|exact| *exact == path) {
        Some(exact) => exact,
        None if path.starts_with("/api/v1/webhook/") => "/api/v1/webhook",
        None => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

fn router(backend: Arc<dyn Backend>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .route(
            "/api/v1/plan",
            get(async |State(b): Shared| shown(&*b, |all| json(&*all.plan)).await),
        )
        .route(
            "/api/v1/ledger",
            get(async |State(b): Shared| shown(&*b, |all| json(&*all.ledger)).await),
        )
        .route(
            "/api/v1/gates",
            get(async |State(b): Shared| shown(&*b, |all| json(&all.ledger.gates)).await),
        )
        .route(
            "/api/v1/checks",
            get(async |State(b): Shared| shown(&*b, |all| json(&all.ledger.checks)).await),
        )
        .route(
            "/api/v1/journeys",
            get(async |State(b): Shared| shown(&*b, |all| json(&all.ledger.journeys)).await),
        )
        .route(
            "/api/v1/captures",
            get(async |State(b): Shared| shown(&*b, |all| json(&*all.captures)).await),
        )
        .route("/api/v1/listeners", get(listeners))
        .route(
            "/api/v1/load",
            get(async |State(b): Shared| shown(&*b, |all| json(&all.ledger.load_windows)).await),
        )
        .route("/api/v1/load", post(load))
        .route("/api/v1/webhook/{kind}", post(webhook))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(backend)
}

/// What was judged last, or that nobody judges any more.
async fn shown(
    backend: &dyn Backend,
    answer: impl FnOnce(&Shown) -> Response,
) -> Result<Response, Refusal> {
    let text = "nobody judges any more; the log says why";
    let gone = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_healthy", text);
    backend.shown().await.as_ref().map(answer).ok_or_else(gone)
}

async fn front(State(backend): Shared) -> Result<Response, Refusal> {
    shown(&*backend, |all| front_of(all, backend.banner().as_deref())).await
}

fn front_of(all: &Shown, banner: Option<&str>) -> Response {
    let html = page::page(&all.ledger, &all.history, banner);
    let mut response = typed("text/html; charset=utf-8", html.into_bytes());
    let policy = HeaderValue::from_str(&page::content_security_policy());
    if let Ok(policy) = policy {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn metrics(State(backend): Shared, headers: HeaderMap) -> Response {
    let format = negotiate::format(&headers);
    let body = backend.metrics(format).await;
    let packed = negotiate::gzip(&headers).then(|| negotiate::compress(&body)).flatten();
    let gzip = packed.is_some();
    let mut response = typed(format.content_type(), packed.unwrap_or(body));
    let fields = response.headers_mut();
    fields.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if gzip {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

async fn healthy(State(backend): Shared) -> Result<Response, Refusal> {
    if backend.healthy() {
        return Ok(json(&serde_json::json!({ "status": "healthy" })));
    }
    let text = "a part of the agent has stopped; its log says which";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_healthy", text))
}

async fn ready(State(backend): Shared) -> Result<Response, Refusal> {
    match backend.ready() {
        Ok(()) => Ok(json(&serde_json::json!({ "status": "ready" }))),
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why)),
    }
}

async fn reload(
    State(backend): Shared,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    caller.may_change(&headers)?;
    match backend.reload().await {
        Ok(text) => Ok(json(&serde_json::json!({ "status": "reloaded", "text": text }))),
        Err(text) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "reload_failed", text)),
    }
}

async fn webhook(
    State(backend): Shared,
    Path(kind): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let Some(kind) = inbox::Kind::parse(&kind) else {
        let text = format!("no webhook receiver `{kind}`: use alertmanager, grafana or json");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", text));
    };
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let text = "the body is compressed: send it as it is";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", text));
    }
    let body = body_of(request).await?;
    backend.webhook(kind, body).await.map_err(not_taken)?;
    Ok(json(&serde_json::json!({ "status": "taken" })))
}

/// Declares a load window.
async fn load(
    State(backend): Shared,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    caller.may_change(&headers)?;
    let body = body_of(request).await?;
    let declaration: Declaration = serde_json::from_slice(&body).map_err(|error| {
        let text = format!(
            "a load window is {{\"start\": TIME, \"end\": TIME, \"source\": NAME}}: {error}"
        );
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", text)
    })?;
    let row = backend.declare_load(declaration).await.map_err(not_taken)?;
    Ok(json(&row))
}

async fn listeners(State(backend): Shared) -> Result<Response, Refusal> {
    let listing = backend.listeners().await.map_err(|fault| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, fault.code.word(), fault.text)
    })?;
    Ok(json(&listing))
}

async fn body_of(request: Request) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("the body has more than {BODY_LIMIT} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text))
        }
        Err(error) => {
            let text = format!("the body could not be read: {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_request", text))
        }
    }
}

fn not_taken(error: WebhookError) -> Refusal {
    match error {
        WebhookError::Bad(text) => Refusal::new(StatusCode::BAD_REQUEST, "bad_request", text),
        // The senders of the world try again after a 503.
        WebhookError::Store(text) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not_stored", text)
        }
    }
}

async fn not_found(request: Request) -> Refusal {
    let text = format!("nothing is served at {}", request.uri().path());
    Refusal::new(StatusCode::NOT_FOUND, "not_found", text)
}

/// The router adds `Allow`.
async fn method_not_allowed(method: Method, request: Request) -> Refusal {
    let text = format!("{} does not answer to {method}", request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}
