//! Enrichment: what it must add, what it must not, and how old the data is that it adds.

use std::sync::Mutex;

use greenlight::time::Wall;

use super::*;
use crate::command::{Daemon, folder_with};

/// A platform that stores what it is sent, and enriches it as the path says.
async fn platform() -> Server {
    let stored: Mutex<Vec<(String, Value)>> = Mutex::new(Vec::new());
    let age = |seconds: i64| {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Wall::from_secs(i64::try_from(now.as_secs()).expect("small") - seconds).rfc3339()
    };
    Server::start(move |request| {
        let way = request.path.split('/').nth(1).unwrap_or_default().to_owned();
        let mut stored = stored.lock().expect("no panic inside");
        if request.method == "POST" {
            let event = serde_json::from_str(&request.body).expect("one event a request");
            stored.push((way, event));
            return Act::json("{}");
        }
        let enriched = |event: &Value| {
            let mut event = event.clone();
            match way.as_str() {
                "fresh" => {
                    event["threat"] = json!({"level": "high", "feed": {"updated": age(600)}})
                }
                "stale" => {
                    event["threat"] = json!({"level": "high", "feed": {"updated": age(90_000)}})
                }
                _ => event["threat"] = json!({"level": "high", "geo": "XX"}),
            }
            event
        };
        let hits: Vec<Value> = stored
            .iter()
            .filter(|(other, _)| *other == way)
            .map(|(_, event)| enriched(event))
            .collect();
        Act::json(json!({ "hits": hits }).to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_feed_is_told_by_the_event_and_by_its_gate() {
    let platform = platform().await;
    let mut plan = String::from("journeys:\n");
    for way in ["fresh", "stale", "bare"] {
        plan.push_str(&format!(
            "  - id: {way}\n    every: 1s\n    send: {{ http: {{ to: '{url}/in' }} }}\n    \
             events: {{ count: 2 }}\n    stages:\n      \
             - enriched: {{ json_api: {{ url: '{url}/search', items: '.hits[]' }}, within: 5s, \
             give_up: 5s, poll: 100ms, expect: {{ fields: {{ threat.level: {{ matches: '^hi' }}, \
             threat.geo: absent }}, fresh: {{ field: threat.feed.updated, within: 24h }} }} }}\n",
            url = platform.url(&format!("/{way}")),
        ));
    }
    plan.push_str("gates:\n");
    for way in ["fresh", "stale", "bare"] {
        plan.push_str(&format!(
            "  - id: {way}\n    require: {{ max: journey.feed_age, where: {{ journey: {way}, \
             stage: enriched }}, over: 5s, below: 24h }}\n"
        ));
    }
    let watched = tokio::task::spawn_blocking(move || {
        let (folder, plan) = folder_with(&plan);
        let daemon = Daemon::start(&plan, folder.path(), &[]);
        let passed = daemon.until_verdict("fresh", "pass", PATIENCE * 2);
        assert!(
            passed["value"].as_f64().is_some_and(|age| (600.0..86_400.0).contains(&age)),
            "{passed}"
        );
        daemon.until_verdict("stale", "fail", PATIENCE * 2);
        // What shows no age is beyond any threshold.
        daemon.until_verdict("bare", "fail", PATIENCE * 2);
        let count = |way: &str| {
            let labels = [format!("journey=\"{way}\"")];
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            daemon.metric("greenlight_journey_feed_age_seconds_count", &labels)
        };
        assert!(count("fresh") > Some(0.0) && count("stale") > Some(0.0));
        assert_eq!(count("bare").unwrap_or_default(), 0.0, "an age that nobody saw is none");
        daemon.json("/api/v1/journeys")
    });
    let journeys = watched.await.expect("it ended");
    let fates = |way: &str| {
        let journeys = journeys.as_array().expect("an array").iter();
        let journey =
            journeys.into_iter().find(|journey| journey["id"] == way).expect("it is there");
        let stages = journey["stages"].as_array().expect("an array");
        stages.iter().find(|stage| stage["name"] == "enriched").expect("it is there")["fates"]
            .clone()
    };
    let count = |way: &str, fate: &str| fates(way)[fate].as_u64().unwrap_or_default();
    assert!(count("fresh", "ok") > 0 && count("fresh", "misparsed") == 0, "{}", fates("fresh"));
    for way in ["stale", "bare"] {
        assert!(count(way, "misparsed") > 0 && count(way, "ok") == 0, "{}", fates(way));
    }
}
