//! A lake that loses what it had: asked again after a while, over a restart of the agent.

use serde_json::json;

use super::*;
use crate::peers::{opensearch, post};

const INDEX: &str = "rechecks-kept";
const KEPT: u64 = 10;

fn plan() -> String {
    let url = &opensearch().url;
    format!(
        "node: {{ name: n1 }}\njourneys:\n  - id: lake\n    every: 40s\n    timeout: 10s\n    \
         send: {{ bulk: {{ to: '{url}', index: {INDEX} }} }}\n    events: {{ count: {KEPT} }}\n    \
         stages:\n      - stored: {{ opensearch: {{ url: '{url}', index: {INDEX} }}, within: 20s, \
         poll: 200ms, recheck: [ 15s, 1h ] }}\ngates:\n  - {{ id: lake.keeps, require: {{ max: journey.vanished, \
         where: {{ journey: lake, stage: stored, after: 15s }}, over: 40s, below: 0 }} }}\n"
    )
}

fn rechecked(daemon: &Daemon, result: &str) -> f64 {
    let labels = ["after=\"15s\"", "stage=\"stored\"", &format!("result=\"{result}\"")];
    daemon.metric("greenlight_journey_rechecked_events_total", &labels).unwrap_or(-1.0)
}

/// What was asked again after 15 s, of the row of `stored`.
fn after_15s(daemon: &Daemon) -> Value {
    let row = row(daemon, "lake");
    let stages = row["stages"].as_array().expect("stages");
    let stored = stages.iter().find(|stage| stage["name"] == "stored").expect("it is there");
    let rechecks = stored["rechecks"].as_array().expect("rechecks").clone();
    assert_eq!(rechecks.len(), 2, "{row:#}");
    rechecks.into_iter().find(|row| row["after_seconds"] == 15.0).expect("it is there")
}

/// Runs a query with a verb of OpenSearch's, and says how many documents it was about.
fn on_documents(verb: &str, body: &Value) -> u64 {
    let url = opensearch().at(&format!("{INDEX}/{verb}?refresh=true&conflicts=proceed"));
    let (status, body) = post(&url, "application/json", &body.to_string()).expect("it answers");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    answer["total"].as_u64().expect("a count")
}

/// A store that deletes two events and changes a third after all were confirmed is red for exactly
/// those, by name, though the agent was restarted in between; before, it was green.
#[test]
fn journeys_find_what_a_lake_lost_after_it_had_it() {
    let (folder, plan) = folder_with(&plan());
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &[]);
    let patience = Duration::from_secs(120);
    until("kept", patience, || rechecked(&daemon, "kept") >= KEPT as f64);
    assert_eq!((rechecked(&daemon, "vanished"), rechecked(&daemon, "changed")), (0.0, 0.0));
    let fill = daemon.metric("greenlight_queue_length", &["queue=\"rechecks\""]);
    assert!(fill.is_some_and(|due| due >= 1.0), "the look back of an hour is due: {fill:?}");
    daemon.until_verdict("lake.keeps", "pass", patience);

    let rounds = row(&daemon, "lake")["rounds"].as_u64().expect("a count");
    until("a round", patience, || row(&daemon, "lake")["rounds"].as_u64() > Some(rounds));
    let hit = |seqs: &[u64]| json!({"query": {"terms": {"greenlight.seq": seqs}}});
    // All rounds that have ended are whole there; none is under way for some time.
    let deleted = on_documents("_delete_by_query", &hit(&[3, 7]));
    let mut change = hit(&[5]);
    change["script"] = json!({"source": "ctx._source.message = ctx._source.message.toUpperCase()"});
    let changed = on_documents("_update_by_query", &change);
    assert_eq!((deleted, changed), ((rounds + 1) * 2, rounds + 1));
    let (code, said) = daemon.end(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");

    let daemon = Daemon::start(&plan, &state, &[]);
    until("gone", patience, || rechecked(&daemon, "vanished") >= 2.0);
    let gate = daemon.until_verdict("lake.keeps", "fail", patience);
    assert_eq!(gate["value"], 3.0, "{gate:#}");
    assert_eq!(gate["first_failing_stage"], "stored", "{gate:#}");
    let again = after_15s(&daemon);
    assert_eq!((&again["vanished"], &again["changed"]), (&json!(2), &json!(1)), "{again:#}");
    assert_eq!(again["inconclusive"], 0, "{again:#}");
    let reason = again["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("2 of 10 are gone: sequence 3, 7 of run gl"), "{reason}");
    let row = row(&daemon, "lake");
    assert_eq!(row["first_failing_stage"], "stored", "{row:#}");
    // The round itself was right: a fate is not taken back.
    let (fates, _) = &counts(&row["stages"])["stored"];
    assert_eq!(fates.keys().collect::<Vec<_>>(), ["ok"], "{row:#}");
    let page = daemon.get("/").1;
    assert!(page.contains("sequence 3, 7"), "the page names them");
}
