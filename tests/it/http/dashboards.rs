//! Numbers on dashboards against the data behind them.

use std::time::Duration;

use greenlight::confirm::grafana::Grafana;
use greenlight::confirm::saved_visualization::SavedVisualization;
use serde_json::{Value, json};

use super::confirm::{Watch, horizon, sought};
use super::server::{Act, Server};
use crate::peers;

const STAMP: &str = "2023-11-14T22:13:21.000Z";

/// Failed logins of three users, one that worked, and one of long ago.
fn logins() -> Vec<Value> {
    let login = |action: &str, user: &str, bytes: u32, at: &str| json!({"action": action, "user": user, "bytes": bytes, "@timestamp": at});
    vec![
        login("failed", "a", 10, STAMP),
        login("failed", "b", 20, STAMP),
        login("failed", "b", 30, STAMP),
        login("worked", "c", 40, STAMP),
        login("failed", "d", 50, "2020-01-01T00:00:00.000Z"),
    ]
}

#[tokio::test]
async fn a_wrong_dashboard_is_told_from_wrong_data() {
    let lake = peers::opensearch();
    lake.index("shown-direct", &logins());
    let grafana = |shown: u32| {
        Server::start(move |request| {
            match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/api/dashboards/uid/siem") => Act::json(
                json!({"dashboard": {"panels": [{
                    "id": 2, "type": "stat", "title": "Logins", "options": {},
                    "datasource": {"type": "prometheus", "uid": "P"}, "targets": [{"refId": "A", "expr": "x"}],
                }]}})
                .to_string(),
            ),
            ("POST", "/api/ds/query") => Act::json(
                json!({"results": {"A": {"frames": [{
                    "schema": {"fields": [{"name": "Value", "type": "number"}]},
                    "data": {"values": [[shown]]},
                }]}}})
                .to_string(),
            ),
            _ => Act::status(404),
        }
        })
    };
    let itself = |query: Value| json!({"search": {"url": lake.url, "index": "shown-direct", "query": query}});
    let failed = json!({"term": {"action": "failed"}});
    for (shown, direct, expected, saw) in [
        (
            3,
            itself(failed.clone()),
            4.0,
            "it shows 3 instead of 4; the data source itself has 4: the dashboard is wrong",
        ),
        (
            1,
            itself(json!({"term": {"action": "worked"}})),
            3.0,
            "it shows 1 instead of 3; the data source itself has 1, too: the data is wrong",
        ),
        (2, itself(failed.clone()), 3.0, "it shows 2 instead of 3; the data source itself has 4"),
        (
            2,
            itself(json!({"no_such": {}})),
            3.0,
            "it shows 2 instead of 3; the data source itself can't be asked: ",
        ),
        (4, itself(failed), 4.0, ""),
    ] {
        let server = grafana(shown).await;
        let json =
            json!({"url": server.url(""), "dashboard": "siem", "panel": "2", "direct": direct});
        let mut watch = Watch::<Grafana>::new(json, sought(Some(expected)));
        watch.timeout = Duration::from_secs(10);
        let look = watch.look().await;
        assert_eq!(
            (horizon(&look), look.arrivals.len()),
            ("complete", usize::from(saw.is_empty()))
        );
        assert!(watch.saw().starts_with(saw), "{}", watch.saw());
        assert_eq!(watch.saw().is_empty(), saw.is_empty());
    }
}

#[tokio::test]
async fn a_saved_visualization_is_asked_of_the_cluster_as_it_asks() {
    let lake = peers::opensearch();
    lake.index("shown-saved-1", &logins());
    // OpenSearch Dashboards, as its saved objects API is documented.
    let saved = |state: Value, query: Value| {
        Server::start(move |request| {
            match request.path.as_str() {
            "/s/api/saved_objects/visualization/v1" => Act::json(
                json!({
                    "attributes": {"visState": state.to_string(), "kibanaSavedObjectMeta": {
                        "searchSourceJSON": json!({"query": query, "indexRefName": "ref", "filter": [
                            {"meta": {"negate": true}, "query": {"match_phrase": {"user": "a"}}},
                        ]}).to_string(),
                    }},
                    "references": [{"name": "ref", "type": "index-pattern", "id": "p1"}],
                })
                .to_string(),
            ),
            "/s/api/saved_objects/index-pattern/p1" => Act::json(
                json!({"attributes": {"title": "shown-saved-*", "timeFieldName": "@timestamp"}})
                    .to_string(),
            ),
            path if path.starts_with("/s/") => Act::Answer(
                404,
                Vec::new(),
                json!({"statusCode": 404, "error": "Not Found"}).to_string(),
            ),
            _ => Act::status(404),
        }
        })
    };
    let metric = |kind: &str, field: Value| {
        json!({"type": "metric", "aggs": [
            {"id": "1", "type": kind, "schema": "metric", "params": {"field": field}},
        ]})
    };
    let failed = json!({"query": "action:failed", "language": "lucene"});
    let none = json!({"query": "action:nothing", "language": "lucene"});
    for (state, query, expected, outcome, saw) in [
        // Without the user a and what is of long ago.
        (metric("count", Value::Null), &failed, 2.0, ("complete", 1), ""),
        (metric("sum", json!("bytes")), &failed, 50.0, ("complete", 1), ""),
        (metric("cardinality", json!("user.keyword")), &failed, 1.0, ("complete", 1), ""),
        (
            metric("avg", json!("bytes")),
            &failed,
            26.0,
            ("complete", 0),
            "it shows 25 instead of 26",
        ),
        (metric("max", json!("bytes")), &none, 0.0, ("complete", 0), "it shows no data"),
        (
            metric("count", Value::Null),
            &json!({"query": "a: b", "language": "kuery"}),
            2.0,
            ("unsupported", 0),
            "",
        ),
        (metric("median", json!("bytes")), &failed, 2.0, ("unsupported", 0), ""),
    ] {
        let server = saved(state.clone(), query.clone()).await;
        let json = json!({"dashboards": server.url("/s"), "visualization": "v1", "url": lake.url, "from": "1h"});
        let mut watch = Watch::<SavedVisualization>::new(json, sought(Some(expected)));
        watch.timeout = Duration::from_secs(10);
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), outcome, "{state}: {:?}", look.horizon);
        assert_eq!(watch.saw(), saw, "{state}");
    }
    // It grows by what is sent, is gone, or is hidden by a proxy.
    let server = saved(metric("count", Value::Null), failed).await;
    let json = json!({"dashboards": server.url("/s"), "visualization": "v1", "url": lake.url, "from": "1h", "delta": true});
    let mut watch = Watch::<SavedVisualization>::new(json.clone(), sought(Some(1.0)));
    watch.timeout = Duration::from_secs(10);
    watch.begin().await.unwrap();
    lake.index("shown-saved-2", &logins()[1..2]);
    let look = watch.look().await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1), "{}", watch.saw());
    for (at, id, outcome, saw) in [
        ("/s", "v2", "complete", "there is no visualisation v2"),
        ("/elsewhere", "v1", "blind", ""),
    ] {
        let json = json!({"dashboards": server.url(at), "visualization": id, "url": lake.url, "from": "1h"});
        let mut watch = Watch::<SavedVisualization>::new(json, sought(Some(1.0)));
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), (outcome, 0));
        assert_eq!(watch.saw(), saw);
    }
}
