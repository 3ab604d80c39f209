//! Alerts where they stand in an index, in a plugin or behind an API, by answers that are whole,
//! broken and mutated.

use std::sync::atomic::{AtomicU64, Ordering};

use greenlight::confirm::json_api::JsonApi;
use greenlight::confirm::search::{Elasticsearch, OpenSearch};
use greenlight::confirm::splunk::Splunk;
use proptest::prelude::*;

use super::answers::recorded;
use super::*;

const RULE: &str = "SSH brute force";

/// Looks once more, with what it says where there is none.
async fn seen<C: Confirmer>(spec: Value) -> (Look, String) {
    let mut watch = Watch::<C>::new(spec, round(3));
    watch.timeout = PATIENCE;
    let look = watch.look().await;
    (look, watch.saw().to_owned())
}

fn names(look: &Look) -> Vec<(&str, &str, String)> {
    let fields = look.arrivals.iter().map(|arrival| (arrival, arrival.fields.as_ref()));
    fields
        .map(|(arrival, fields)| {
            let fields = fields.expect("fields");
            let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
            (arrival.copy.as_str(), text("name"), fields["severity"].to_string())
        })
        .collect()
}

#[tokio::test]
async fn alerts_in_an_index_are_the_rounds_by_name_and_by_time() {
    let server = scripted(vec![Act::json(recorded("elastic-security.json"))]).await;
    let spec = |server: &Server, index: &str, alerts: Value| json!({"url": server.url("/"), "index": index, "alerts": alerts});
    let alerts = json!({"of": "elastic_security"});
    let (look, _) =
        seen::<Elasticsearch>(spec(&server, ".alerts-security.alerts-*", alerts.clone())).await;
    assert_eq!(horizon(&look), "complete", "{:?}", look.horizon);
    assert_eq!(names(&look), [("a1", RULE, "\"high\"".into())]);
    assert_eq!(look.arrivals[0].wrong, None);
    let asked: Value = serde_json::from_str(&server.seen()[0].body).expect("JSON");
    assert_eq!(asked["query"]["range"]["@timestamp"]["gte"], "2023-11-14T22:12:20.000Z");

    let closed = recorded("elastic-security.json").replace("\"open\"", "\"closed\"");
    let server = scripted(vec![Act::json(closed)]).await;
    let (look, _) = seen::<Elasticsearch>(spec(&server, "alerts", alerts)).await;
    let wrong = look.arrivals[0].wrong.as_ref().expect("nobody sees it");
    assert!(wrong.text.contains("closed already"), "{wrong}");
    closed_alerts_have_ended().await;

    // Two rules of Wazuh speak of one event: the rule is named by its id.
    let wazuh = || Act::json(recorded("wazuh.json"));
    let server = scripted(vec![wazuh(), wazuh()]).await;
    let alerts = json!({"of": "wazuh"});
    let (look, _) = seen::<OpenSearch>(spec(&server, "wazuh-alerts-*", alerts)).await;
    assert_eq!(saw(&look), ("complete", 2));
    let alerts = json!({"of": "wazuh", "match": {"rule.id": "5712", "rule.groups": "sshd"}});
    let (look, _) = seen::<OpenSearch>(spec(&server, "wazuh-alerts-*", alerts)).await;
    assert_eq!(names(&look)[0].2, "10");
    // It names nobody: then its time decides.
    for (text, expected) in [("2023-11-14T22:13:22", 2), ("2023-11-14T21:13:22", 0)] {
        let nameless = recorded("wazuh.json").replace("gl00000001", "nobody");
        let server = scripted(vec![Act::json(nameless.replace("2023-11-14T22:13:22", text))]).await;
        let spec = spec(&server, "wazuh-alerts-*", json!({"of": "wazuh"}));
        assert_eq!(saw(&seen::<OpenSearch>(spec).await.0), ("complete", expected), "{text}");
    }

    let made = Act::Answer(201, Vec::new(), r#"{"sid":"1"}"#.into());
    let done = json!({"entry": [{"content": {"dispatchState": "DONE", "isDone": true, "resultCount": 2}}]});
    let results = Act::json(recorded("splunk-notable.json"));
    let server = scripted(vec![made, Act::json(done.to_string()), results]).await;
    let spec = json!({
        "url": server.url(""), "search": "index=notable | head 100", "alerts": {"of": "splunk_notable"},
    });
    let (look, _) = seen::<Splunk>(spec).await;
    assert_eq!(names(&look), [("notable~12~A/12:34", RULE, "\"high\"".into())]);

    let hits = recorded("elastic-security.json");
    let server = scripted(vec![Act::json(hits), Act::status(503), Act::json("[]")]).await;
    let spec = json!({
        "url": server.url("/api/detection_engine/signals/search"), "headers": {"kbn-xsrf": "x"},
        "body": {"query": {"match_all": {}}}, "items": ".hits.hits[]", "fields": "._source", "id": "._id",
        "alerts": {"of": "elastic_security", "match": {"source.ip": "192.0.2.10"}},
    });
    assert_eq!(names(&seen::<JsonApi>(spec.clone()).await.0), [("a1", RULE, "\"high\"".into())]);
    assert_eq!(saw(&seen::<JsonApi>(spec.clone()).await.0), ("blind", 0));
    assert_eq!(saw(&seen::<JsonApi>(spec).await.0), ("blind", 0), "no hits to read");
}

/// One that was open and is closed has ended, once; one that never was open has not.
async fn closed_alerts_have_ended() {
    let open = recorded("elastic-security.json");
    let closed = open.replace("\"open\"", "\"closed\"");
    let states = [&closed, &closed, &open, &open, &closed];
    let server = scripted(states.map(|body| Act::json(body.clone())).into()).await;
    let spec = json!({"url": server.url("/"), "index": "a", "alerts": {"of": "elastic_security"}});
    let mut watch = Watch::<Elasticsearch>::new(spec, round(3));
    watch.timeout = PATIENCE;
    let mut seen = Vec::new();
    for _ in states {
        let look = watch.look().await;
        assert_eq!(saw(&look), ("complete", 1));
        seen.push((look.arrivals[0].ended, look.arrivals[0].wrong.is_some()));
    }
    let (never, raised, over) = ((false, true), (false, false), (true, false));
    assert_eq!(seen, [never, never, raised, raised, over]);
}

fn fired(server: &Server, more: Value) -> Value {
    let mut spec = json!({"url": server.url(""), "fired": {"search": RULE}});
    spec["fired"]
        .as_object_mut()
        .expect("an object")
        .extend(more.as_object().cloned().unwrap_or_default());
    spec
}

#[tokio::test]
async fn splunk_shows_what_a_saved_search_fired_and_says_why_there_is_none() {
    let fire = || recorded("splunk-fired.json");
    let found = || Act::json(recorded("splunk-notable.json"));
    let searches = || Act::json(recorded("splunk-saved-searches.json"));
    let server = scripted(vec![Act::json(fire()), found()]).await;
    let wanted = json!({"match": {"severity": "4", "src": "192.0.2.10"}});
    let (look, _) = seen::<Splunk>(fired(&server, wanted)).await;
    let name = "scheduler__admin__search__RMD5b1_at_1700000003_7_17.0";
    assert_eq!(horizon(&look), "complete", "{:?}", look.horizon);
    assert_eq!(names(&look), [(name, RULE, "4".into())]);
    let asked: Vec<String> = server.seen().iter().map(|one| one.path.clone()).collect();
    assert!(asked[0].starts_with("/servicesNS/-/-/alerts/fired_alerts/-?"), "{asked:?}");
    let job = "/services/search/v2/jobs/scheduler__admin__search__RMD5b1_at_1700000003_7/results?";
    assert!(asked[1].starts_with(job), "of the others nothing is asked: {asked:?}");

    // Which round it is stands in what the search had found; where that is gone, its time tells.
    let other = recorded("splunk-notable.json").replace(RUN, OTHER);
    let nobody = r#"{"preview":false,"messages":[],"results":[{"count":"63"}]}"#;
    let late = fire().replace("1700000003,", "1699999000,");
    let mut more: Value = serde_json::from_str(&fire()).expect("JSON");
    more["paging"]["total"] = 9.into();
    let mut newest = more.clone();
    newest["entry"].as_array_mut().expect("a list").truncate(2);
    let strange = fire().replace("\"trigger_time\":1700000003,", "");
    for (what, acts, expected) in [
        ("another round's", vec![Act::json(fire()), Act::json(other), searches()], ("complete", 0)),
        ("nobody's", vec![Act::json(fire()), Act::json(nobody)], ("complete", 1)),
        ("gone results", vec![Act::json(fire()), Act::status(404)], ("partial", 1)),
        ("before the round", vec![Act::json(late), searches()], ("complete", 0)),
        ("more, that are older", vec![Act::json(more.to_string()), found()], ("complete", 1)),
        ("more, that may be new", vec![Act::json(newest.to_string()), found()], ("partial", 1)),
        ("no time", vec![Act::json(strange), searches()], ("partial", 0)),
        ("refused", vec![Act::status(403)], ("denied", 0)),
        ("no list", vec![Act::json("{}")], ("blind", 0)),
        ("cut off", vec![Act::Reset], ("blind", 0)),
    ] {
        let server = scripted(acts).await;
        let look = seen::<Splunk>(fired(&server, json!({}))).await.0;
        assert_eq!(saw(&look), expected, "{what}: {:?}", look.horizon);
    }

    let none = || Act::json(r#"{"entry":[],"paging":{"total":0},"messages":[]}"#);
    let off = recorded("splunk-saved-searches.json").replacen("false", "true", 1);
    for (what, acts, expected) in [
        ("raised none", vec![none(), searches()], "is enabled and raised none"),
        ("off", vec![none(), Act::json(off)], "is disabled"),
        ("gone", vec![none(), Act::status(404)], "can't be read"),
    ] {
        let server = scripted(acts).await;
        let (look, said) = seen::<Splunk>(fired(&server, json!({}))).await;
        assert_eq!(saw(&look), ("complete", 0), "{what}");
        assert!(said.contains(expected), "{what}: {said}");
    }
}

fn alerting(server: &Server) -> Value {
    json!({"url": server.url("/"), "alerting": {"monitor": "ssh-logins", "match": {"severity": "2"}}})
}

#[tokio::test]
async fn opensearch_alerting_shows_its_alerts_and_says_why_there_is_none() {
    let alerts = || recorded("opensearch-alerts.json");
    let none = || Act::json(r#"{"alerts":[],"totalAlerts":0}"#);
    let monitors = || Act::json(recorded("opensearch-monitors.json"));
    let stats = || Act::json(recorded("opensearch-alerting-stats.json"));
    let server = scripted(vec![Act::json(alerts()), none(), monitors(), stats(), none()]).await;
    let mut watch = Watch::<OpenSearch>::new(alerting(&server), round(3));
    watch.timeout = PATIENCE;
    let look = watch.look().await;
    assert_eq!(names(&look), [("eQURa3gBKo1jAh6qUo49", RULE, "\"2\"".into())]);
    // It is not there any more: it has ended, which only a complete look can say.
    let look = watch.look().await;
    assert_eq!(saw(&look), ("complete", 1));
    assert!(look.arrivals[0].ended);

    let off = recorded("opensearch-monitors.json").replace("\"enabled\":true", "\"enabled\":false");
    let failing = alerts().replace("null,\"alert_history\"", "\"no index\",\"alert_history\"");
    let failing = || Act::json(failing.replace("ACTIVE", "ERROR"));
    let gone = recorded("opensearch-monitors.json").replace("ssh-logins", "other");
    for (what, acts, expected) in [
        (
            "raised none",
            vec![none(), monitors(), stats(), none()],
            "ran last at 2023-11-14T22:13:21",
        ),
        ("off", vec![none(), Act::json(off), stats(), none()], "is disabled"),
        ("gone", vec![none(), Act::json(gone), stats(), none()], "there is no monitor"),
        ("never ran", vec![none(), monitors(), Act::json("{}"), none()], "never ran"),
        ("fails", vec![none(), monitors(), stats(), failing()], "fails: no index"),
        ("unread", vec![none(), Act::status(403)], "can't be read"),
    ] {
        let server = scripted(acts).await;
        let (look, said) = seen::<OpenSearch>(alerting(&server)).await;
        assert_eq!(saw(&look), ("complete", 0), "{what}");
        assert!(said.contains(expected), "{what}: {said}");
    }
    let server = scripted(vec![failing()]).await;
    let (look, _) = seen::<OpenSearch>(alerting(&server)).await;
    assert!(look.arrivals[0].wrong.as_ref().expect("it failed").text.contains("no index"));
    for act in [Act::status(404), Act::status(503), Act::json("{}"), Act::Reset] {
        let server = scripted(vec![act]).await;
        assert_eq!(saw(&seen::<OpenSearch>(alerting(&server)).await.0), ("blind", 0));
    }
    let more = alerts().replace("\"totalAlerts\":3", "\"totalAlerts\":4");
    let server = scripted(vec![Act::json(more)]).await;
    assert_eq!(saw(&seen::<OpenSearch>(alerting(&server)).await.0), ("partial", 1));
}

/// What was cut off or mangled brings no panic, no alert that is not the round's, and, where it was
/// cut, no complete look without the alert.
#[test]
fn property_answers_with_alerts() {
    static TRIED: AtomicU64 = AtomicU64::new(0);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bodies = [
        "elastic-security.json",
        "wazuh.json",
        "opensearch-alerts.json",
        "splunk-notable.json",
        "splunk-fired.json",
    ]
    .map(|name| recorded(name).into_bytes());
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(which in 0..5_usize, at: prop::sample::Index, byte: u8, cut: bool)| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let mut body = bodies[which].clone();
        let place = at.index(body.len() - 2);
        if cut { body.truncate(place); } else { body[place] = byte; }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = Act::Raw([head.as_bytes(), &body].concat());
        let look = runtime.block_on(async {
            match which {
                0 | 1 => {
                    let server = scripted(vec![answer]).await;
                    let of = if which == 0 { "elastic_security" } else { "wazuh" };
                    let spec = json!({"url": server.url("/"), "index": "a", "alerts": {"of": of}});
                    seen::<OpenSearch>(spec).await.0
                }
                2 => {
                    let server = scripted(vec![answer]).await;
                    seen::<OpenSearch>(alerting(&server)).await.0
                }
                4 => {
                    let found = Act::json(recorded("splunk-notable.json"));
                    let server = scripted(vec![answer, found]).await;
                    seen::<Splunk>(fired(&server, json!({}))).await.0
                }
                _ => {
                    let made = Act::Answer(201, Vec::new(), r#"{"sid":"1"}"#.into());
                    let done = json!({"entry": [{"content": {"dispatchState": "DONE", "isDone": true, "resultCount": 2}}]});
                    let server = scripted(vec![made, Act::json(done.to_string()), answer]).await;
                    let alerts = json!({"of": "splunk_notable"});
                    seen::<Splunk>(json!({"url": server.url(""), "search": "index=notable", "alerts": alerts})).await.0
                }
            }
        });
        prop_assert!(look.arrivals.len() <= 3, "{:?}", look.arrivals.len());
        if cut {
            prop_assert_ne!(horizon(&look), "complete", "{} cut at {}", which, place);
        }
    });
    eprintln!("property answers with alerts: {} inputs", TRIED.load(Ordering::Relaxed));
}
