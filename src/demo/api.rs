//! What the platform answers: the store's search, Alertmanager v2, Prometheus' query and Grafana's
//! dashboard, each as far as a confirmer asks; Grafana's in the shape that a real one's answers have.

use std::sync::Arc;

use axum::extract::{Path, Query, RawQuery, State as Shared};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::State;
use super::lake::Alert;
use crate::journey::Stage;

/// The dashboard, and its metric: stored failed logins, by `run` and `way_in`.
const DASHBOARD: &str = "embedded-siem";
const METRIC: &str = "embedded_failed_logins";
/// One page of a search.
const PAGE_LIMIT: usize = 1_000;

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/store/search", get(search))
        .route("/alertmanager/api/v2/alerts", get(alerts))
        .route("/prometheus/api/v1/query", get(query))
        .route("/grafana/api/dashboards/uid/{uid}", get(dashboard))
        .route("/grafana/api/ds/query", post(panel))
        .with_state(state)
}

#[derive(Deserialize)]
struct Search {
    run: String,
    #[serde(default)]
    from: usize,
    size: Option<usize>,
}

async fn search(Shared(state): Shared<Arc<State>>, Query(ask): Query<Search>) -> Json<Value> {
    let size = ask.size.unwrap_or(PAGE_LIMIT).min(PAGE_LIMIT);
    Json(state.lake().search(&ask.run, ask.from, size))
}

async fn alerts(
    Shared(state): Shared<Arc<State>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let pairs = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let mut labels = Vec::new();
    for (name, value) in pairs {
        if name == "filter" {
            let label = matchers(&value).filter(|found| found.len() == 1);
            labels.extend(label.ok_or_else(|| {
                let text = format!("the embedded platform can't read the filter {value}");
                (StatusCode::BAD_REQUEST, Json(json!(text)))
            })?);
        }
    }
    let lake = state.lake();
    Ok(Json(lake.alerts(&labels).into_iter().map(alert).collect()))
}

fn alert(alert: &Alert) -> Value {
    json!({
        "labels": alert.labels,
        "annotations": alert.annotations(),
        "startsAt": alert.starts.rfc3339(),
        "updatedAt": alert.starts.rfc3339(),
        "endsAt": alert.ends().rfc3339(),
        "fingerprint": alert.fingerprint(),
        "generatorURL": "",
        "receivers": [{"name": "embedded-webhook"}],
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []},
    })
}

#[derive(Deserialize)]
struct Ask {
    query: String,
}

async fn query(
    Shared(state): Shared<Arc<State>>,
    Query(ask): Query<Ask>,
) -> (StatusCode, Json<Value>) {
    match evaluate(&state, &ask.query) {
        Ok(value) => {
            let at = state.lake().now().seconds();
            let result = json!([{"metric": {}, "value": [at, value.to_string()]}]);
            let data = json!({"resultType": "vector", "result": result});
            (StatusCode::OK, Json(json!({"status": "success", "data": data})))
        }
        Err(error) => {
            let body = json!({"status": "error", "errorType": "bad_data", "error": error});
            (StatusCode::BAD_REQUEST, Json(body))
        }
    }
}

/// The one expression that the embedded platform knows: its metric, bare or summed, with labels.
fn evaluate(state: &State, expression: &str) -> Result<u64, String> {
    let inner = expression.trim();
    let inner = inner.strip_prefix("sum(").and_then(|i| i.strip_suffix(')')).unwrap_or(inner);
    let labels = inner.strip_prefix(METRIC).and_then(|rest| match rest.trim() {
        "" => Some(Vec::new()),
        rest => matchers(rest.strip_prefix('{')?.strip_suffix('}')?),
    });
    let labels = labels.ok_or_else(|| {
        format!("the embedded platform knows {METRIC}{{run=\"...\",way_in=\"...\"}} and its sum")
    })?;
    Ok(state.lake().failed_logins(&labels))
}

/// `name="value"` with commas between.
fn matchers(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .filter(|matcher| !matcher.trim().is_empty())
        .map(|matcher| {
            let (name, value) = matcher.trim().split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            let plain = !value.contains(['"', '\\']) && !name.ends_with(['!', '~']);
            plain.then(|| (name.trim().to_owned(), value.to_owned()))
        })
        .collect()
}

/// One panel for each way in.
async fn dashboard(Path(uid): Path<String>) -> (StatusCode, Json<Value>) {
    if uid != DASHBOARD {
        return (StatusCode::NOT_FOUND, Json(json!({"message": "Dashboard not found"})));
    }
    let source = json!({"type": "prometheus", "uid": "embedded"});
    let panels: Vec<Value> = (1..)
        .zip(["kafka", "syslog", "http"])
        .map(|(id, way_in)| {
            json!({
                "id": id,
                "type": "stat",
                "title": format!("Failed logins by {way_in}"),
                "datasource": source,
                "targets": [{
                    "refId": "A",
                    "expr": format!("sum({METRIC}{{way_in=\"{way_in}\"}})"),
                    "instant": true,
                    "range": false,
                }],
                "options": {"reduceOptions": {"calcs": ["lastNotNull"]}},
            })
        })
        .collect();
    let dashboard = json!({
        "uid": DASHBOARD,
        "title": "Embedded reference platform",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": []},
        "panels": panels,
    });
    (StatusCode::OK, Json(json!({"dashboard": dashboard, "meta": {"slug": DASHBOARD}})))
}

async fn panel(
    Shared(state): Shared<Arc<State>>,
    Json(ask): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut results = serde_json::Map::new();
    let mut status = StatusCode::OK;
    for query in ask.get("queries").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| query.get(key).and_then(Value::as_str).unwrap_or_default();
        let result = match evaluate(&state, text("expr")) {
            // A panel that forgets the newer half: plausible, and wrong.
            Ok(value) if state.broken(Stage::Shown) => frame(&state, value / 2),
            Ok(value) => frame(&state, value),
            Err(error) => {
                status = StatusCode::BAD_REQUEST;
                json!({"status": 400, "error": error})
            }
        };
        results.insert(text("refId").to_owned(), result);
    }
    (status, Json(json!({"results": results})))
}

fn frame(state: &State, value: u64) -> Value {
    let at = state.lake().now().0.div_euclid(1_000_000);
    json!({"status": 200, "frames": [{
        "schema": {"refId": "A", "fields": [
            {"name": "Time", "type": "time"},
            {"name": "Value", "type": "number", "labels": {}},
        ]},
        "data": {"values": [[at], [value]]},
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_read_plainly_or_not_at_all() {
        let read = |text: &str| matchers(text).map(|found| found.len());
        for (text, expected) in [
            ("a=\"b\"", Some(1)),
            ("a=\"b\", c=\"d\"", Some(2)),
            ("", Some(0)),
            ("a!=\"b\"", None),
            ("a=~\"b\"", None),
            ("a=b", None),
            ("a=\"b\\\"\"", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
