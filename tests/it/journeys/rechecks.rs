//! A lake that loses what it had: asked again after a while, over a restart of the agent.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::*;
use crate::http::server::{Act, Received, Server};
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

/// The tallies of the rounds that have ended, as they are on disk.
fn on_disk(state: &Path) -> Vec<Value> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(db) = Connection::open_with_flags(state.join("greenlight.db"), flags) else {
        return Vec::new();
    };
    let Ok(mut statement) = db.prepare("SELECT tally FROM round WHERE tally IS NOT NULL") else {
        return Vec::new();
    };
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    rows.map(|row| serde_json::from_str(&row.expect("a row")).expect("JSON")).collect()
}

/// How many rows match: `round WHERE tally IS NULL` are under way, `recheck WHERE expected IS NOT
/// NULL` are due.
fn count_on_disk(state: &Path, rows: &str) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = Connection::open_with_flags(state.join("greenlight.db"), flags).expect("it is there");
    let sql = format!("SELECT count(*) FROM {rows}");
    db.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_or(u64::MAX, i64::cast_unsigned)
}

/// Events that a lake shows only hours after they were given up are late and not lost: in the tally,
/// what gates judge, the report and its sentences, over a kill -9 before and after. What it had
/// shown and shows no more stays as it was counted, and is gone; what never comes stays lost.
#[tokio::test(flavor = "multi_thread")]
async fn journeys_find_what_a_lake_shows_long_after_it_was_given_up() {
    const COUNT: u64 = 6;
    let (held, later) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (lake, shows) = (held.clone(), later.clone());
    let server = Server::start(move |request: &Received| {
        let mut held = held.lock().expect("no test panicked");
        if request.method == "POST" {
            held.push(serde_json::from_str::<Value>(&request.body).expect("JSON"));
            return Act::status(201);
        }
        // At first neither 2 nor 5; then neither 1, which was there, nor 5.
        let hidden = if later.load(SeqCst) { [1, 5] } else { [2, 5] };
        let shown =
            |event: &&Value| !hidden.contains(&event["greenlight.seq"].as_i64().unwrap_or(0));
        Act::json(json!(held.iter().filter(shown).collect::<Vec<_>>()).to_string())
    })
    .await;
    let plan = |every: &str| {
        format!(
            "node: {{ name: n1 }}\njourneys:\n  - id: slow\n    every: {every}\n    timeout: 2s\n    \
             send: {{ http: {{ to: '{}' }} }}\n    events: {{ count: {COUNT} }}\n    stages:\n      \
             - stored: {{ json_api: {{ url: '{}', items: '.[]' }}, within: 2s, give_up: 2s, poll: 100ms, \
             recheck: [ 20s ] }}\ngates:\n  \
             - {{ id: slow.loss, require: {{ loss: slow, over: 1h, below: 1% }} }}\n",
            server.url("/in"),
            server.url("/search?run={run}"),
        )
    };
    let ((folder, often), (_quiet, once)) = (folder_with(&plan("3s")), folder_with(&plan("1h")));
    let state = folder.path().join("state");
    let fates = |daemon: &Daemon| counts(&row(daemon, "slow")["stages"])["stored"].0.clone();
    let of = |fates: &Fates, fate: &str| fates.get(fate).copied().unwrap_or(0);
    let metric = |daemon: &Daemon, name: &str, label: &str| {
        daemon.metric(name, &["stage=\"stored\"", label]).unwrap_or(0.0) as u64
    };
    let loss = |daemon: &Daemon| daemon.json("/api/v1/gates")[0]["value"].as_f64();
    let patience = Duration::from_secs(60);

    let daemon = Daemon::start(&often, &state, &[]);
    until("rounds have ended on disk", patience, || on_disk(&state).len() >= 2);
    let (code, said) = daemon.end(Signal::SIGKILL);
    assert_eq!(code, None, "{said}");
    assert!(!lake.lock().expect("no test panicked").is_empty());

    // No further round is due: what is left of the earlier ones is walked to its end, and asked for
    // again when it is time. One that was cut off has events of which nobody knows whether they
    // were sent; the lake knows.
    let daemon = Daemon::start(&once, &state, &[]);
    until("all have ended", patience, || count_on_disk(&state, "round WHERE tally IS NULL") == 0);
    let rounds = row(&daemon, "slow")["rounds"].as_u64().expect("a count");
    let of_lake = |seq: i64| {
        let lake = lake.lock().expect("no test panicked");
        lake.iter().filter(|event| event["greenlight.seq"].as_i64() == Some(seq)).count() as u64
    };
    let (late, gone) = (of_lake(2), of_lake(1));
    let before = fates(&daemon);
    let missing = |fates: &Fates| of(fates, "lost") + of(fates, "unknown");
    assert!(late >= 2 && of(&before, "lost") >= late, "{late}: {before:?}");
    assert_eq!((of(&before, "late"), rounds * COUNT), (0, of(&before, "ok") + missing(&before)));
    let share = |fates: &Fates| {
        let lost = of(fates, "lost");
        Some(lost as f64 / (rounds * COUNT - of(fates, "unknown")) as f64)
    };
    until("gates know", patience, || loss(&daemon) == share(&before));
    shows.store(true, SeqCst);
    let due = || daemon.metric("greenlight_queue_length", &["queue=\"rechecks\""]);
    until("all are asked for again", patience, || due() == Some(0.0));
    // What was found of the last is told just after it is no longer due.
    let told_of = |daemon: &Daemon| {
        let stages = row(daemon, "slow")["stages"].as_array().cloned().unwrap_or_default();
        stages.last().and_then(|stored| stored["rechecks"][0]["rounds"].as_u64())
    };
    until("all is told", patience, || told_of(&daemon) == Some(rounds));
    let after = fates(&daemon);
    assert_eq!((of(&after, "ok"), of(&after, "late")), (of(&before, "ok"), late), "{after:?}");
    assert_eq!(missing(&after), missing(&before) - late, "{before:?} {after:?}");
    let told = |daemon: &Daemon| {
        let row = row(daemon, "slow");
        let stored =
            row["stages"].as_array().and_then(|stages| stages.last()).expect("stages").clone();
        assert_eq!(row["first_failing_stage"], "stored", "{row:#}");
        let again = &stored["rechecks"][0];
        let counts = ["rounds", "kept", "vanished", "found"].map(|key| again[key].as_u64());
        let expected = [rounds, of(&before, "ok") - gone, gone, late];
        assert_eq!(counts, expected.map(Some), "{again:#}");
        assert!(stored["latency_seconds"]["max"].as_f64() > Some(10.0), "{stored:#}");
    };
    told(&daemon);
    until("gates know what came", patience, || loss(&daemon) == share(&after));
    let resurrected = "greenlight_journey_resurrected_total";
    assert_eq!(metric(&daemon, resurrected, ""), late);
    let rechecked = "greenlight_journey_rechecked_events_total";
    assert_eq!(metric(&daemon, rechecked, "result=\"found\""), late);
    let events = "greenlight_journey_events_total";
    assert_eq!(metric(&daemon, events, "fate=\"late\""), 0, "what was counted is not taken back");
    let page = daemon.get("/").1;
    assert!(page.contains("came after all"), "the page says so");

    let mended = |tally: &&Value| tally["stages"].to_string().contains("\"late\":1");
    let on_disk = || on_disk(&state).iter().filter(mended).count() as u64;
    let due = || count_on_disk(&state, "recheck WHERE expected IS NOT NULL");
    until("it is on disk", patience, || on_disk() == late && due() == 0);
    daemon.end(Signal::SIGKILL);
    let daemon = Daemon::start(&once, &state, &[]);
    assert_eq!(fates(&daemon), after, "it stays mended");
    told(&daemon);
    assert_eq!(loss(&daemon), share(&after));
    assert_eq!(metric(&daemon, resurrected, ""), 0, "and once");
    daemon.end(Signal::SIGKILL);

    // Of what the plan asks now, neither the rounds of then nor looks back at them say anything.
    let other = plan("1h").replace("within: 2s", "within: 1s");
    let (_other, other) = folder_with(&other);
    let daemon = Daemon::start(&other, &state, &[]);
    assert_eq!(told_of(&daemon), Some(0), "{:#}", row(&daemon, "slow"));
    assert_eq!(of(&fates(&daemon), "late"), 0);
}
