//! What comes after a round has ended well: further copies, and a wrong tenant's late view.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::http::server::{Act, Received, Server};

/// The first look sees all, the second that nothing more came: it takes a third to see what these
/// stores show then.
const LATER: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn journeys_count_copies_and_exposures_that_come_after_all_were_seen() {
    let (held, asked) = (Mutex::new(Vec::<Value>::new()), Mutex::new(BTreeMap::new()));
    let server = Server::start(move |request: &Received| {
        let mut held = held.lock().expect("no test panicked");
        if request.method == "POST" {
            held.push(serde_json::from_str(&request.body).expect("JSON"));
            return Act::status(201);
        }
        let (place, run) = request.path.split_once("?run=").expect("a run");
        let shown: Vec<Value> =
            held.iter().filter(|event| event["greenlight.run"] == run).cloned().collect();
        let mut asked = asked.lock().expect("no test panicked");
        let times = asked.entry(request.path.clone()).or_insert(0);
        *times += u64::from(!shown.is_empty());
        let later = *times >= LATER;
        let named = |copy: &str| {
            let of = |event: &Value| json!({"id": copy, "event": event});
            shown.iter().map(of).collect::<Vec<_>>()
        };
        let answer = match place {
            "/twice" if later => [named("a"), named("b")].concat(),
            "/hidden" if !later => Vec::new(),
            _ => named("a"),
        };
        Act::json(json!(answer).to_string())
    })
    .await;
    let see = |place: &str| {
        let url = server.url(place);
        format!("json_api: {{ url: '{url}?run={{run}}', items: '.[]', fields: .event, id: .id }}")
    };
    let journey = |id: &str, stage: &str| {
        format!(
            "  - id: {id}\n    every: 3s\n    timeout: 500ms\n    send: {{ http: {{ to: '{}' }} }}\n    \
             events: {{ count: 2 }}\n    stages:\n      - stored: {{ {stage}, within: 1s, give_up: 1s, poll: 100ms }}\n",
            server.url("/in")
        )
    };
    let exposed = format!("{}, must_not_see: {{ {} }}", see("/seen"), see("/hidden"));
    let (folder, plan) = folder_with(&format!(
        "node: {{ name: n1 }}\njourneys:\n{}{}gates:\n  \
         - {{ id: once, require: {{ duplicates: twice, over: 6s, at_least: 1, below: 0 }} }}\n  \
         - {{ id: apart, require: {{ max: journey.exposed, where: {{ journey: apart }}, over: 6s, below: 0 }} }}\n",
        journey("twice", &see("/twice")),
        journey("apart", &exposed)
    ));
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let patience = Duration::from_secs(60);
    daemon.until_verdict("once", "fail", patience);
    daemon.until_verdict("apart", "fail", patience);
    let rows = [row(&daemon, "twice"), row(&daemon, "apart")];
    let stored = rows.each_ref().map(|row| counts(&row["stages"])["stored"].clone());
    assert!(stored[0].1 >= 2 && stored[0].1 % 2 == 0, "{:#}", rows[0]);
    assert_eq!(stored[0].0.keys().collect::<Vec<_>>(), ["ok"], "{:#}", rows[0]);
    assert!(stored[1].0.contains_key("misparsed"), "{:#}", rows[1]);
    assert_eq!(rows[1]["first_failing_stage"], "stored", "{:#}", rows[1]);
    let copies = daemon.metric("greenlight_journey_duplicates_total", &["\"twice\"", "\"stored\""]);
    assert!(copies.is_some_and(|copies| copies >= 2.0), "{copies:?}");
}

/// A store that stamps by a clock of its own, which is 90 s behind, is asked for a minute around the
/// round at first: an event is not lost because it stands elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn journeys_find_events_that_a_store_with_another_clock_stamped() {
    let held = Mutex::new(Vec::<(f64, Value)>::new());
    let server = Server::start(move |request: &Received| {
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
        let mut held = held.lock().expect("no test panicked");
        if request.method == "POST" {
            held.push((now() - 90.0, serde_json::from_str(&request.body).expect("JSON")));
            return Act::status(201);
        }
        let (_, from) = request.path.split_once("?from=").expect("a time");
        let from: f64 = from.parse().expect("a number");
        let shown = held.iter().filter(|(at, _)| *at >= from).map(|(_, event)| event);
        Act::json(json!(shown.collect::<Vec<_>>()).to_string())
    })
    .await;
    let (_folder, plan) = folder_with(&format!(
        "journeys:\n  - id: web\n    send: {{ http: {{ to: '{}' }} }}\n    events: {{ count: 1 }}\n    \
         stages:\n      - stored: {{ json_api: {{ url: '{}?from={{from_s}}', items: '.[]' }}, within: 20s, poll: 200ms }}\n",
        server.url("/in"),
        server.url("/seen")
    ));
    let once = move || Command::new(BINARY).args(["once", "web", "-c", &plan]).output();
    let output = tokio::task::spawn_blocking(once).await.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(0) && said.contains("1 ok"), "{said}");
}
