//! Panels of a real Grafana: its answers were recorded while this test asked it, and our requests must
//! be the same again. What it stores is known: `events_total` grows by 30, 15 and 45 each 15 s (`web`
//! of s1, `db` of s2, `auth log` of s.3), a search has a document each 30 s and a table a row each
//! minute of the last hour.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};

use super::*;
use crate::client::http::Api;

const RECORDED: &str = include_str!("../../../../tests/fixtures/grafana/recorded.jsonl");
const NOW: Wall = Wall(1_700_000_005_000_000_000);

/// What was asked once, with its answer; and what was answered last to the queries of a panel.
struct Recorded {
    exchanges: Vec<Value>,
    last: Mutex<Value>,
}

/// What was asked, and what was answered.
fn exchanges() -> Vec<Value> {
    let mut lines = RECORDED.lines();
    assert!(lines.next().unwrap().starts_with("recorded from Grafana 9.3.2"));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A server that answers what was asked once as it was answered then, and nothing else.
async fn server() -> (String, Arc<Recorded>) {
    let recorded = Arc::new(Recorded { exchanges: exchanges(), last: Mutex::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer).with_state(recorded.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}"), recorded)
}

async fn answer(
    State(recorded): State<Arc<Recorded>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    let (ask, body) = (format!("{method} {uri}"), serde_json::from_slice::<Value>(&body).ok());
    let same = |one: &&Value| one["ask"] == ask && one.get("body") == body.as_ref();
    let Some(found) = recorded.exchanges.iter().find(same) else {
        let body = body.unwrap_or_default();
        return (StatusCode::NOT_IMPLEMENTED, format!("never asked: {ask} {body}"));
    };
    if method == Method::POST {
        *recorded.last.lock().unwrap() = found["answer"].clone();
    }
    let status = u16::try_from(found["status"].as_u64().unwrap()).unwrap();
    (StatusCode::from_u16(status).unwrap(), found["answer"].to_string())
}

type Pairs = &'static [(&'static str, &'static str)];

/// A panel, the values given to variables, the series, the row, what it shows, and its number.
const CASES: &[(&str, Pairs, &str, Pairs, &str, f64)] = &[
    ("Rate", &[], "", &[], "6.0 req/s", 6.0),
    ("Rate", &[("site", "s.3")], "", &[], "3.0 req/s", 3.0),
    ("Depth", &[], "", &[], "7", 7.0),
    ("Depth", &[("queue", "out")], "", &[], "1.54 K", 1536.0),
    ("By job", &[], "web of in", &[], "600", 600.0),
    ("By job", &[("step", "1m")], "auth log of in", &[], "180", 180.0),
    ("Totals", &[], "Events", &[("job", "db")], "7200", 7200.0),
    ("Totals", &[("site", "s.3")], "Events", &[], "21600", 21600.0),
    ("Two totals", &[], "Events", &[("site", "s2")], "7200", 7200.0),
    ("Two totals", &[], "Series", &[("site", "s2")], "1", 1.0),
    ("In the range", &[], "", &[], "7 K", 7200.0),
    // 31 steps of two minutes.
    ("Per interval", &[], "", &[], "7440", 7440.0),
    ("With gaps", &[], "", &[], "25%", 0.25),
    ("Depths", &[], "out", &[], "1.50 KiB", 1536.0),
    ("Share", &[], "", &[], "33.3%", 1.0 / 3.0),
    ("Mixed", &[], "stored", &[], "60", 60.0),
    ("Failed logins", &[], "", &[], "90", 90.0),
    ("Failed logins", &[("site", "s.3")], "", &[], "30", 30.0),
    ("Logins by user", &[], "Count", &[("user", "eve mallory")], "20", 20.0),
    ("Bytes by action", &[], "failed Sum bytes", &[], "5.27 KiB", 5400.0),
    ("Users", &[], "Max", &[("user", "ann")], "116", 116.0),
    ("Newest size", &[], "p95.0 bytes", &[], "119", 118.5),
    ("Stored", &[], "", &[], "60", 60.0),
    ("Stored", &[("site", "s2")], "", &[], "20", 20.0),
    ("By site", &[], "size", &[("site", "s2")], "253.00 KiB", 259_072.0),
    ("By site", &[], "n", &[("site", "s.3")], "20", 20.0),
    ("Stored over time", &[], "failed", &[], "48", 48.0),
    ("Mean size", &[], "", &[], "29 KiB", 29_696.0),
    ("Bars of sites", &[], "n", &[("site", "s2")], "460", 460.0),
    ("Words", &[], "o'neil", &[], "6", 6.0),
    ("Chosen source", &[], "", &[], "7", 7.0),
    ("Shifted", &[], "", &[], "6600", 6600.0),
    ("No value", &[], "", &[], "0", 0.0),
    ("Mapped", &[], "", &[], "none", f64::NAN),
    ("Depends", &[], "", &[], "14400", 14_400.0),
    ("Searched", &[], "", &[], "60", 60.0),
    ("Shared sum", &[], "", &[], "1.44 K", 1440.0),
    ("Any metric", &[], "out", &[], "1536", 1536.0),
    ("Escaped once", &[], "", &[], "21600", 21_600.0),
    ("By least step", &[], "", &[], "2.0 req/s", 2.0),
    ("Range as a table", &[], "Value", &[("job", "db")], "6405", 6405.0),
    ("Each label", &[], "web in s1", &[], "14400", 14_400.0),
    ("Series of a name", &[], "", &[], "14400", 14_400.0),
    ("Of OpenSearch", &[], "Count", &[("user", "bob")], "30", 30.0),
    ("Wide", &[], "size", &[], "205 KiB", 209_920.0),
    ("Since then", &[], "", &[], "60", 60.0),
    ("Listed", &[], "", &[], "60", 60.0),
    ("By steps", &[], "Count", &[], "10", 10.0),
    ("Named by words", &[], "s.3,s1,s2 and 7 free words", &[], "3", 3.0),
];

/// What shows no number, and why.
const OTHERS: &[(&str, &str)] = &[
    ("Nothing", "no data"),
    // Grafana escapes a pattern once, and Prometheus' texts want it twice: people see that, too.
    ("Escaped too little", "the panel shows an error"),
    ("Bad expression", "the panel shows an error"),
    ("Bad statement", "the panel shows an error"),
    ("Bad search", "the panel shows an error"),
    ("Gone source", "the panel shows an error"),
    ("One of two is bad", "the panel shows an error"),
    ("Missing", "has no panel \"Missing\""),
];

async fn seen(
    url: &str,
    panel: &str,
    given: Pairs,
    series: &str,
    row: Pairs,
) -> Result<Panel, Trouble> {
    let map = |pairs: Pairs| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let (given, row) = (map(given), map(row));
    let api = Api::new(url, None, Default::default()).unwrap();
    let asked = Asked {
        dashboard: "siem",
        panel,
        variables: &given,
        back: None,
        reduce: None,
        series: Some(series).filter(|series| !series.is_empty()),
        row: &row,
        now: NOW,
    };
    let timeout = Duration::from_secs(20);
    let read = read(&api, &Clients::default(), &asked, timeout, &Trace::off()).await;
    read.map(|(panel, _)| panel)
}

#[tokio::test]
async fn panels_of_a_real_grafana_show_the_number_that_is_stored() {
    let (url, _) = server().await;
    let mut wrong = String::new();
    for (panel, given, series, row, text, number) in CASES {
        let shown = seen(&url, panel, given, series, row).await;
        let is = match &shown {
            Ok(Panel::Shows(shown)) => {
                let same = |is: f64| (is - number).abs() <= 1e-9 * number.abs();
                shown.text == *text && shown.number.map_or(number.is_nan(), same)
            }
            _ => false,
        };
        if !is {
            let _ = writeln!(wrong, "{panel} {given:?} {series}: {shown:?}, not {text} ({number})");
        }
    }
    for (panel, why) in OTHERS {
        let said = match seen(&url, panel, &[], "", &[]).await {
            Ok(Panel::NoData(names)) if names.is_empty() => "no data".to_owned(),
            Ok(Panel::Broken(why)) => why,
            other => format!("{other:?}"),
        };
        if !said.contains(why) {
            let _ = writeln!(wrong, "{panel}: {said}, not {why}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What the browser's own package makes of what was recorded, but for Prometheus' tables, which are
/// made elsewhere; and what was recorded, damaged in each of its places.
#[tokio::test]
async fn what_was_recorded_is_shown_as_grafanas_own_package_shows_it() {
    let (url, recorded) = server().await;
    let answered = |place: &str| {
        let mut all = exchanges().into_iter();
        all.find_map(|one| one["answer"].pointer(place).cloned()).unwrap()
    };
    let (dashboard, shared) = (answered("/dashboard"), answered("/result/model"));
    let (mut asks, mut wanted, mut damaged) = (Vec::new(), Vec::new(), 0);
    for (name, given, series, row, text, _) in CASES {
        assert!(matches!(seen(&url, name, given, series, row).await, Ok(Panel::Shows(_))));
        let answer = recorded.last.lock().unwrap().clone();
        let panel = find(&dashboard, name).unwrap();
        let panel = if panel.get("libraryPanel").is_some() { &shared } else { panel };
        damaged += damage(panel, &answer);
        let kind = panel["type"].as_str().unwrap_or_default();
        let reduction = match kind {
            "stat" | "gauge" | "bargauge" => panel["options"]["reduceOptions"].clone(),
            "timeseries" => {
                let calcs = &panel["options"]["legend"]["calcs"];
                json!({"calcs": [calcs[0]], "values": false, "fields": ""})
            }
            _ if panel["targets"][0]["datasource"]["type"] == "prometheus" => continue,
            _ => json!({"calcs": [], "values": true, "fields": format!("/^{series}$/")}),
        };
        let frames = answer["results"].as_object().unwrap().values();
        let frames: Vec<&Value> =
            frames.filter_map(|result| result["frames"].as_array()).flatten().collect();
        asks.push(json!({
            "op": "show", "frames": frames, "transformations": panel["transformations"],
            "fieldConfig": panel["fieldConfig"], "reduceOptions": reduction,
        }));
        // A table's rows are named by their texts, and a stat's only value by anything.
        let titled = matches!(kind, "stat" | "gauge" | "bargauge" | "timeseries");
        wanted.push((Some(*series).filter(|series| titled && !series.is_empty()), *text));
    }
    for ((ask, answer), (title, text)) in asks.iter().zip(oracle::answers(&asks)).zip(wanted) {
        let shown = answer["ok"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let is =
            |one: &Value| one["text"] == text && title.is_none_or(|title| one["title"] == title);
        assert!(shown.iter().any(is), "{title:?} {text}: {answer} of {ask}");
    }
    eprintln!("property recorded panels: {} shown alike, {damaged} damaged", asks.len());
    assert!(asks.len() >= 40 && damaged >= 2000);
}

fn damage(panel: &Value, answer: &Value) -> usize {
    let asked = json!({"queries": panel.get("targets").cloned().unwrap_or_else(|| json!([]))});
    let mut damaged = 0;
    for at in 0..nodes(answer) {
        let with = [Value::Null, json!([]), json!("x"), json!(-1.5)];
        let mut answer = answer.clone();
        replace(&mut answer, &mut { at }, &with[at % with.len()]);
        drop(frames(&answer, &asked).map(|frames| shown(panel, frames, Choice::default())));
        damaged += 1;
    }
    damaged
}
