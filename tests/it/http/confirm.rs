//! The confirmers that are made on the HTTP client.

use std::time::Duration;

use greenlight::client::Clients;
use greenlight::client::inbox::Kind;
use greenlight::confirm::{self, Confirmer, Drawn, LookContext, Sought};
use greenlight::journey::{Horizon, Look, Run, Stage};
use greenlight::outcome::FaultCode;
use greenlight::spec::trace::Trace;
use greenlight::time::{Mono, Now, Wall};
use serde_json::{Value, json};

use super::kinds::{events, spec};
use super::server::{Act, Server};
use crate::peers;

const RUN: &str = "gl00000001";
const OTHER: &str = "gl00000002";
const SHORT: Duration = Duration::from_millis(800);
/// The wall clock when the round begins, in seconds.
const BEGAN: i64 = 1_700_000_000;

pub(crate) fn sought(equals: Option<f64>) -> Sought {
    Sought {
        journey: "logins".into(),
        run: Run::from(RUN),
        stage: Stage::Stored,
        first_seq: 0,
        count: 3,
        sent: 3,
        equals,
        named: false,
        aged: Duration::ZERO,
        began: Now { mono: Mono::now(), wall: Wall::from_secs(BEGAN) },
    }
}

/// One confirmer at work on one round.
pub(crate) struct Watch<C> {
    confirmer: C,
    pub(crate) clients: Clients,
    pub(crate) sought: Sought,
    pub(crate) timeout: Duration,
    pub(crate) mark: Value,
}

impl<C: Confirmer> Watch<C> {
    pub(crate) fn new(json: Value, sought: Sought) -> Self {
        let confirmer = C::new(spec(json)).unwrap_or_else(|why| panic!("refused: {why}"));
        let clients = Clients::default();
        Self { confirmer, clients, sought, timeout: SHORT, mark: Value::Null }
    }

    pub(crate) async fn begin(&mut self) -> Result<(), FaultCode> {
        let trace = Trace::off();
        let begun = Confirmer::begin(&self.confirmer, self.context(&trace)).await;
        self.mark = begun.map_err(|fault| fault.code)?;
        Ok(())
    }

    pub(crate) async fn look(&mut self) -> Look {
        let mut mark = std::mem::take(&mut self.mark);
        let trace = Trace::off();
        let look = Confirmer::look(&self.confirmer, &mut mark, self.context(&trace)).await;
        self.mark = mark;
        look
    }

    pub(crate) async fn draw(&self) -> Option<Drawn> {
        let trace = Trace::off();
        Confirmer::draw(&self.confirmer, &self.mark, self.context(&trace)).await
    }

    fn context<'a>(&'a self, trace: &'a Trace) -> LookContext<'a> {
        let later = Duration::from_secs(5);
        let began = self.sought.began;
        LookContext {
            sought: &self.sought,
            timeout: self.timeout,
            clients: &self.clients,
            trace,
            now: Now { mono: began.mono.plus(later), wall: began.wall.plus(later) },
        }
    }

    pub(crate) fn saw(&self) -> &str {
        self.mark["saw"].as_str().unwrap_or_default()
    }
}

/// How far a look could see, in a word.
pub(crate) fn horizon(look: &Look) -> &'static str {
    match &look.horizon {
        Horizon::Complete => "complete",
        Horizon::Partial(fault) if fault.code == FaultCode::Blind => "partial",
        Horizon::Partial(_) => "partial for another reason",
        Horizon::Blind(fault) => fault.code.word(),
    }
}

fn seqs(look: &Look) -> Vec<(Option<u64>, &str)> {
    look.arrivals.iter().map(|arrival| (arrival.seq, arrival.copy.as_str())).collect()
}

fn hits(sources: &[Value]) -> String {
    let hits: Vec<Value> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| json!({"_id": format!("d{index}"), "_source": source}))
        .collect();
    json!({"timed_out": false, "hits": {"total": {"value": hits.len()}, "hits": hits}}).to_string()
}

fn search(url: &str) -> Value {
    json!({
        "url": url,
        "body": {"query": {"term": {"run": "{run}"}}, "range": ["{from}", "{to_ms}"]},
        "items": ".hits.hits[]",
        "fields": "._source",
        "text": "._source.message",
        "id": "._id",
        "truncated": ".timed_out or .hits.total.value > (.hits.hits | length)",
    })
}

#[tokio::test]
async fn json_api_finds_the_rounds_events_in_hits() {
    let (ours, other) = (events(RUN, 3), events(OTHER, 1));
    let source = |event: &greenlight::journey::Event| -> Value {
        serde_json::from_slice(&event.payload).unwrap()
    };
    let lost_text = json!({"greenlight": {"run": RUN, "seq": 1}});
    let body = hits(&[source(&ours[0]), source(&other[0]), lost_text, source(&ours[0]), json!({})]);
    let server = Server::start(move |_| Act::json(body.clone())).await;
    let mut watch = Watch::<confirm::json_api::JsonApi>::new(
        search(&server.url("/{run}/_search")),
        sought(None),
    );
    watch.begin().await.unwrap();
    let look = watch.look().await;
    assert_eq!(horizon(&look), "complete");
    assert_eq!(seqs(&look), [(Some(0), "d0"), (Some(1), "d2"), (Some(0), "d3")]);
    assert_eq!(look.arrivals[0].text.as_deref(), Some(ours[0].message.as_str()));
    assert_eq!(look.arrivals[0].fields, source(&ours[0]).as_object().cloned());
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/gl00000001/_search"));
    let asked: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(asked["query"]["term"]["run"], RUN);
    assert_eq!(asked["range"], json!(["2023-11-14T22:12:20.000Z", "1700000065000"]));

    // Hits that are plain lines, and nothing that tells copies apart.
    let lines: Vec<&str> =
        [&ours[2], &ours[2], &ours[1]].iter().map(|e| e.message.as_str()).collect();
    let body = json!({"lines": lines}).to_string();
    let server = Server::start(move |_| Act::json(body.clone())).await;
    let json = json!({"url": server.url("/?q={run}"), "items": ".lines[]"});
    let look = Watch::<confirm::json_api::JsonApi>::new(json, sought(None)).look().await;
    assert_eq!(seqs(&look), [(Some(2), "0"), (Some(2), "1"), (Some(1), "0")]);
    assert_eq!(look.arrivals[0].text.as_deref(), Some(lines[0]));
    assert_eq!(server.seen()[0].method, "GET");
}

#[tokio::test]
async fn json_api_never_takes_what_it_could_not_see_for_nothing() {
    let ours = events(RUN, 2);
    let body = hits(&[json!({"message": ours[0].message}), json!({"message": ours[1].message})]);
    let with = |change: fn(&mut Value)| {
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        change(&mut answer);
        answer.to_string()
    };
    let timed_out = with(|answer| answer["timed_out"] = true.into());
    let more = with(|answer| answer["hits"]["total"]["value"] = 5.into());
    let no_hits = with(|answer| answer["hits"] = json!({}));
    for (act, limit, expected, arrivals) in [
        (Act::json(body.clone()), 3, "complete", 2),
        (Act::json(body.clone()), 2, "partial", 2),
        (Act::json(timed_out), 9, "partial", 2),
        (Act::json(more), 9, "partial", 2),
        (Act::json(no_hits), 9, "blind", 0),
        (Act::json("<html>login</html>"), 9, "blind", 0),
        (Act::json("{}"), 9, "blind", 0),
        (Act::status(404), 9, "blind", 0),
        (Act::status(429), 9, "blind", 0),
        (Act::status(500), 9, "blind", 0),
        (Act::Stall(Vec::new()), 9, "blind", 0),
        (Act::Reset, 9, "blind", 0),
    ] {
        let act = std::sync::Mutex::new(Some(act));
        let server = Server::start(move |_| act.lock().unwrap().take().unwrap()).await;
        let mut json = search(&server.url("/"));
        json["limit"] = limit.into();
        let look = Watch::<confirm::json_api::JsonApi>::new(json, sought(None)).look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), (expected, arrivals));
    }
    let nobody = format!("http://127.0.0.1:{}/", peers::free_port());
    let look = Watch::<confirm::json_api::JsonApi>::new(search(&nobody), sought(None)).look().await;
    assert_eq!(horizon(&look), "blind");
}

#[tokio::test]
async fn promql_confirms_the_number_that_was_sent() {
    let server = Server::start(|request| {
        let value = request.path.split("seen_").nth(1).unwrap_or_default().to_owned();
        let of = |v: &str| json!({"metric": {}, "value": [1, v]});
        let result = match value.as_str() {
            "none" => json!([]),
            "two" => json!([of("1"), of("2")]),
            "bad" => return Act::status(400),
            number => json!([of(number)]),
        };
        Act::json(
            json!({"status": "success", "data": {"resultType": "vector", "result": result}})
                .to_string(),
        )
    })
    .await;
    let url = server.url("");
    let watch = |query: &str, tolerance: f64, equals: Option<f64>| {
        let json = json!({"url": url, "query": query, "tolerance": tolerance});
        Watch::<confirm::promql::Promql>::new(json, sought(equals))
    };
    for (query, tolerance, equals, expected, saw) in [
        ("{run}_seen_3", 0.0, Some(3.0), ("complete", 1), ""),
        ("{run}_seen_2", 0.0, Some(3.0), ("complete", 0), "it shows 2 instead of 3"),
        ("{run}_seen_2.5", 0.5, Some(3.0), ("complete", 1), ""),
        ("{run}_seen_4", 0.5, Some(3.0), ("complete", 0), "it shows 4 instead of 3"),
        ("{run}_seen_NaN", 0.5, Some(3.0), ("complete", 0), "it shows NaN instead of 3"),
        ("{run}_seen_none", 0.0, Some(3.0), ("complete", 0), "the query yields no series"),
        ("{run}_seen_none", 0.0, None, ("complete", 0), "the query yields no series"),
        ("{run}_seen_two", 0.0, Some(3.0), ("blind", 0), ""),
        ("{run}_seen_two", 0.0, None, ("complete", 1), ""),
        ("{run}_seen_bad", 0.0, None, ("blind", 0), ""),
    ] {
        let mut watch = watch(query, tolerance, equals);
        watch.begin().await.unwrap();
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), expected, "{query} {equals:?}");
        assert_eq!(watch.saw(), saw, "{query} {equals:?}");
        let again = watch.look().await;
        assert_eq!(seqs(&look), seqs(&again), "one reading, however often it is looked at");
    }
    assert!(server.seen()[0].path.contains("query=gl00000001_seen_3"));
}

#[tokio::test]
async fn alertmanager_confirms_only_this_rounds_alerts() {
    let alert = |fingerprint: &str, labels: Value, started: i64, state: &str| {
        json!({
            "labels": labels, "annotations": {"summary": "s"}, "fingerprint": fingerprint,
            "startsAt": Wall::from_secs(BEGAN + started).rfc3339(),
            "status": {"state": state, "inhibitedBy": if state == "active" { vec![] } else { vec!["x"] }},
        })
    };
    let name = |run: &str| json!({"alertname": "Login", "run": run});
    let all = json!([
        alert("a", name(RUN), -500, "active"),
        alert("b", name(OTHER), 2, "active"),
        alert("c", json!({"alertname": "Login"}), 2, "active"),
        alert("d", json!({"alertname": "Login"}), -2, "active"),
        alert("e", name(RUN), 3, "suppressed"),
        alert("f", json!({"alertname": "Other", "run": RUN}), 3, "active"),
    ])
    .to_string();
    let server = Server::start(move |_| Act::json(all.clone())).await;
    let json = json!({"url": server.url(""), "match": {"alertname": "Login"}});
    let mut watch = Watch::<confirm::alertmanager::Alertmanager>::new(json.clone(), sought(None));
    watch.begin().await.unwrap();
    let look = watch.look().await;
    assert_eq!(horizon(&look), "complete");
    let seen: Vec<(&str, bool)> =
        look.arrivals.iter().map(|a| (&a.copy[..1], a.wrong.is_some())).collect();
    assert_eq!(seen, [("a", false), ("c", false), ("e", true)]);
    assert!(look.arrivals.iter().all(|arrival| arrival.seq.is_none()));
    let wrong = look.arrivals[2].wrong.as_ref().unwrap();
    assert!(wrong.text.contains("inhibited by x"), "{wrong}");
    assert_eq!(look.arrivals[0].fields.as_ref().unwrap()["labels"], name(RUN));

    // What is there instead is told: an alert that fires since before the round tells nobody of it.
    for (labels, why) in [
        (
            json!({"run": OTHER}),
            "1 with these labels are there, and none is the round's: each names another, or began before it; one began at 2023-11-14T22:13:22.000Z: {alertname=\"Login\"",
        ),
        (json!({"alertname": "None"}), "no alert with these labels is there"),
    ] {
        let json = json!({"url": server.url(""), "match": labels});
        let mut watch = Watch::<confirm::alertmanager::Alertmanager>::new(json, sought(None));
        assert_eq!(watch.look().await.arrivals, []);
        assert!(watch.saw().starts_with(why), "{}", watch.saw());
    }

    let down = Server::start(|_| Act::status(502)).await;
    let json = json!({"url": down.url("")});
    let look = Watch::<confirm::alertmanager::Alertmanager>::new(json, sought(None)).look().await;
    assert_eq!(horizon(&look), "blind");
}

#[tokio::test]
async fn webhook_confirms_what_arrived_since_the_round_began() {
    let mut watch = Watch::<confirm::webhook::Webhook>::new(
        json!({"match": {"alertname": "Login"}}),
        sought(None),
    );
    watch.begin().await.unwrap();
    assert_eq!((horizon(&watch.look().await), watch.look().await.arrivals.len()), ("complete", 0));
    let (clients, began) = (watch.clients.clone(), watch.sought.began);
    let put = |second: i64, status: &str, run: Option<&str>, fingerprint: &str| {
        let mut labels = json!({"alertname": "Login"});
        if let Some(run) = run {
            labels["run"] = run.into();
        }
        let starts = Wall::from_secs(BEGAN + second).rfc3339();
        let body = json!({"receiver": "gl", "groupKey": "k", "alerts": [
            {"status": status, "labels": labels, "fingerprint": fingerprint, "startsAt": starts}
        ]});
        let wall = Wall::from_secs(BEGAN + second);
        let now = Now { mono: began.mono_of(wall), wall };
        clients.inbox().put(Kind::Alertmanager, body.to_string().as_bytes(), now).unwrap();
    };
    assert_eq!(watch.saw(), "no notification with these labels came since the round began");
    put(-5, "firing", Some(RUN), "early");
    put(1, "firing", Some(OTHER), "first");
    assert_eq!(watch.look().await.arrivals, []);
    assert!(watch.saw().starts_with("1 with these labels came, and none is the round's"));
    put(1, "firing", Some(RUN), "ours");
    put(1, "firing", Some(OTHER), "anothers");
    put(2, "firing", None, "nobodys");
    put(3, "resolved", Some(RUN), "ours");
    put(4, "firing", Some(RUN), "ours");
    let look = watch.look().await;
    let copies: Vec<(&str, bool)> =
        look.arrivals.iter().map(|a| (a.copy.split('/').nth(1).unwrap(), a.ended)).collect();
    assert_eq!(copies, [("ours", false), ("nobodys", false), ("ours", true), ("ours", false)]);
    assert!(look.arrivals.iter().all(|arrival| arrival.seen > watch.sought.began.mono));
}

/// A Grafana that shows `shown` in its one panel.
async fn grafana(shown: impl Fn(usize) -> Value + Send + Sync + 'static) -> Server {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    Server::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/g/api/dashboards/uid/siem") => Act::json(
            json!({"meta": {}, "dashboard": {"uid": "siem", "time": {"from": "now-1h"}, "panels": [
                {"id": 1, "type": "row", "panels": [
                    {"id": 2, "type": "stat", "title": "Failed logins", "datasource": {"uid": "P"},
                     "targets": [{"refId": "A", "expr": "sum(x{site=\"$site\"})"}],
                     "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}},
                ]},
                {"id": 3, "type": "table", "title": "Table", "transformations": [{"id": "x"}],
                 "targets": [{"refId": "A"}]},
            ]}})
            .to_string(),
        ),
        ("POST", "/g/api/ds/query") => {
            let body = shown(asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            match body {
                Value::Number(status) => Act::status(status.as_u64().unwrap().try_into().unwrap()),
                body => Act::json(body.to_string()),
            }
        }
        _ => Act::Answer(404, Vec::new(), json!({"message": "Dashboard not found"}).to_string()),
    })
    .await
}

fn frame(values: Value) -> Value {
    json!({"results": {"A": {"status": 200, "frames": [{
        "schema": {"fields": [{"name": "Time", "type": "time"}, {"name": "Value", "type": "number"}]},
        "data": {"values": [[1, 2], values]},
    }]}}})
}

#[tokio::test]
async fn grafana_compares_what_the_panel_shows() {
    for (answer, equals, expected, saw) in [
        (frame(json!([1, 3])), Some(3.0), ("complete", 1), ""),
        (frame(json!([3, null])), Some(3.0), ("complete", 1), ""),
        (frame(json!([1, 2])), Some(3.0), ("complete", 0), "it shows 2 instead of 3"),
        (frame(json!([1, 2])), None, ("complete", 1), ""),
        (frame(json!([])), Some(3.0), ("complete", 0), "it shows no data"),
        (
            json!({"results": {"A": {"error": "bad query"}}}),
            Some(3.0),
            ("complete", 0),
            "the panel shows an error: bad query",
        ),
        (json!(500), Some(3.0), ("blind", 0), ""),
        (json!(401), Some(3.0), ("denied", 0), ""),
        (json!({"unexpected": 1}), Some(3.0), ("blind", 0), ""),
    ] {
        let shown = answer.clone();
        let server = grafana(move |_| shown.clone()).await;
        let json = json!({"url": server.url("/g"), "dashboard": "siem", "panel": "Failed logins",
                          "variables": {"site": "s1"}});
        let mut watch = Watch::<confirm::grafana::Grafana>::new(json, sought(equals));
        watch.begin().await.unwrap();
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), expected, "{answer}: {:?}", look.horizon);
        assert_eq!(watch.saw(), saw, "{answer}");
        let seen = server.seen();
        let asked = seen.iter().find(|request| request.path.ends_with("/ds/query")).unwrap();
        let asked: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(asked["queries"][0]["expr"], "sum(x{site=\"s1\"})");
        assert_eq!(asked["to"], "1700000005000");
        assert_eq!(asked["from"], "1699996405000");
    }
}

#[tokio::test]
async fn grafana_can_compare_by_how_much_a_panel_grew() {
    let server = grafana(|nth| frame(Value::from(vec![0, [100, 101, 103][nth.min(2)]]))).await;
    let json = json!({"url": server.url("/g"), "dashboard": "siem", "panel": "2", "delta": true});
    let mut watch = Watch::<confirm::grafana::Grafana>::new(json.clone(), sought(Some(3.0)));
    watch.begin().await.unwrap();
    assert_eq!(watch.look().await.arrivals.len(), 0);
    assert_eq!(watch.saw(), "it shows 1 instead of 3");
    assert_eq!(watch.look().await.arrivals.len(), 1);

    // What it showed before can't be read: the round does not begin.
    let server = grafana(|_| json!(503)).await;
    let mut json = json;
    json["url"] = server.url("/g").into();
    let mut watch = Watch::<confirm::grafana::Grafana>::new(json, sought(Some(3.0)));
    assert_eq!(watch.begin().await, Err(FaultCode::Blind));
}

/// A dashboard whose panel comes from the library, speaks of variables, and shows a table.
#[tokio::test]
async fn grafana_reads_a_library_panel_with_the_values_of_its_variables() {
    let server = Server::start(|request| {
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let table = |frames: Value| Act::json(json!({"results": {"A": {"frames": frames}}}).to_string());
        match (request.method.as_str(), request.path.split('?').next().unwrap()) {
            ("GET", "/api/dashboards/uid/siem") => Act::json(
                json!({"dashboard": {"time": {"from": "now-1h", "to": "now"},
                    "panels": [{"id": 4, "libraryPanel": {"uid": "shared", "name": "By host"}}],
                    "templating": {"list": [
                        {"name": "tenant", "type": "query", "multi": true, "includeAll": true,
                         "datasource": {"type": "postgres", "uid": "S"}, "regex": "/^t/",
                         "query": "SELECT name FROM tenants WHERE site = '$site'",
                         "current": {"value": ["$__all"]}},
                        {"name": "site", "type": "query", "current": {"value": "gone"},
                         "datasource": {"type": "prometheus", "uid": "P"},
                         "query": {"query": "label_values(up{job=\"siem\"}, site)"}},
                    ]}}})
                .to_string(),
            ),
            ("GET", "/api/library-elements/shared") => Act::json(
                json!({"result": {"uid": "shared", "model": {
                    "type": "table", "title": "By host", "options": {},
                    "datasource": {"type": "postgres", "uid": "S"},
                    "targets": [{"refId": "A", "format": "table", "rawSql": "SELECT … IN ($tenant)"}],
                    "transformations": [{"id": "organize", "options": {"renameByName": {"n": "Events"}}}],
                    "fieldConfig": {"defaults": {"unit": "short"}},
                }}})
                .to_string(),
            ),
            ("GET", "/api/frontend/settings") => Act::json(json!({"datasources": {
                "Lake": {"uid": "S", "type": "postgres"}}}).to_string()),
            ("GET", "/api/datasources/uid/P/resources/api/v1/label/site/values") => {
                Act::json(json!({"status": "success", "data": ["s1", "s2"]}).to_string())
            }
            ("POST", "/api/ds/query") => match body["queries"][0]["rawSql"].as_str().unwrap() {
                "SELECT name FROM tenants WHERE site = 's1'" => table(json!([{
                    "schema": {"fields": [{"name": "name", "type": "string"}]},
                    "data": {"values": [["t1", "other", "t2"]]}}])),
                "SELECT … IN ('t1','t2')" => table(json!([{
                    "schema": {"fields": [{"name": "host", "type": "string"}, {"name": "n", "type": "number"}]},
                    "data": {"values": [["a", "b"], [7, 1700]]}}])),
                other => panic!("{other}"),
            },
            _ => Act::status(404),
        }
    })
    .await;
    let json = json!({"url": server.url(""), "dashboard": "siem", "panel": "By host",
                      "row": {"host": "b"}, "series": "Events"});
    let mut watch = Watch::<confirm::grafana::Grafana>::new(json.clone(), sought(Some(1700.0)));
    let look = watch.look().await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1), "{:?}", look.horizon);
    let mut json = json;
    json["row"] = json!({});
    let mut watch = Watch::<confirm::grafana::Grafana>::new(json.clone(), sought(Some(1700.0)));
    assert_eq!(horizon(&watch.look().await), "unsupported", "which row is not said");
    json["reduce"] = "sum".into();
    let mut watch = Watch::<confirm::grafana::Grafana>::new(json.clone(), sought(Some(1700.0)));
    assert_eq!(watch.look().await.arrivals.len(), 0);
    assert_eq!(watch.saw(), "it shows 1707 (\"1.71 K\") instead of 1700");
    json["reduce"] = "average".into();
    assert!(confirm::grafana::Grafana::new(spec(json)).is_err());
}

#[tokio::test]
async fn grafana_says_what_is_missing_and_what_it_cannot_see() {
    let server = grafana(|_| frame(json!([1, 3]))).await;
    for (dashboard, panel, expected, saw) in [
        ("other", "x", "complete", "there is no dashboard other"),
        ("siem", "Logins", "complete", "has no panel \"Logins\"; it has \"Failed logins\""),
        ("siem", "Table", "unsupported", ""),
    ] {
        let json = json!({"url": server.url("/g"), "dashboard": dashboard, "panel": panel});
        let mut watch = Watch::<confirm::grafana::Grafana>::new(json, sought(Some(3.0)));
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), (expected, 0), "{panel}");
        assert!(watch.saw().contains(saw), "{}", watch.saw());
    }
    let proxy = Server::start(|_| Act::status(404)).await;
    let json = json!({"url": proxy.url(""), "dashboard": "siem", "panel": "2"});
    let look = Watch::<confirm::grafana::Grafana>::new(json, sought(Some(3.0))).look().await;
    assert_eq!(horizon(&look), "blind", "a 404 that is not Grafana's");
    assert!(
        confirm::grafana::Grafana::new(spec(
            json!({"url": proxy.url(""), "dashboard": "My board", "panel": "2"})
        ))
        .is_err()
    );
}
