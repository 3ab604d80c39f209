//! A panel as a picture, by Grafana's image renderer: an exhibit that changes no number.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use greenlight::confirm::grafana::Grafana;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::confirm::{Watch, horizon, sought};
use super::server::{Act, Server};
use crate::command::{code, err, folder_with, greenlight, out};

/// A PNG of this size, whole.
fn png(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
    };
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let parts = [chunk(b"IHDR", &head), chunk(b"IDAT", b"pixels"), chunk(b"IEND", b"")];
    [&b"\x89PNG\r\n\x1a\n"[..], &parts.concat()].concat()
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A panel that is shifted by an hour, with variables, and shows 3; what it is drawn as is told.
async fn grafana(drawn: impl Fn(&str) -> Act + Send + Sync + 'static) -> Server {
    Server::start(move |request| {
        let path = request.path.split('?').next().unwrap();
        match (request.method.as_str(), path) {
            ("POST", "/in") => Act::status(200),
            ("GET", path) if path.starts_with("/g/api/dashboards/uid/") => Act::json(
                json!({"dashboard": {"time": {"from": "now-6h", "to": "now"},
                    "templating": {"list": [
                        {"name": "site", "type": "custom", "query": "s1,s2", "current": {"value": "s1"}},
                        {"name": "tenant", "type": "custom", "query": "a,b", "multi": true,
                         "includeAll": true, "current": {"text": ["All"], "value": ["$__all"]}},
                        {"name": "kind", "type": "custom", "query": "All : .*,x : x",
                         "current": {"text": "All", "value": ".*"}},
                    ]},
                    "panels": [{
                        "id": 2, "type": "stat", "title": "Logins", "options": {}, "timeShift": "1h",
                        "datasource": {"type": "prometheus", "uid": "P"},
                        "targets": [{"refId": "A", "expr": "x{site=\"$site\",t=~\"$tenant\",k=~\"$kind\"}"}],
                    }]}})
                .to_string(),
            ),
            ("POST", "/g/api/ds/query") => Act::json(
                json!({"results": {"A": {"frames": [{
                    "schema": {"fields": [{"name": "Value", "type": "number"}]},
                    "data": {"values": [[3]]},
                }]}}})
                .to_string(),
            ),
            ("GET", path) if path.starts_with("/g/render/d-solo/") => drawn(path),
            _ => Act::status(404),
        }
    })
    .await
}

#[tokio::test]
async fn grafana_draws_what_it_has_read() {
    let server = grafana(|_| Act::Raw(answer(&png(640, 320)))).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "a-token-of-grafana").unwrap();
    let json = json!({"url": server.url("/g"), "dashboard": "siem", "panel": "Logins",
                      "variables": {"site": "s 2&x"}, "auth": {"bearer": {"file": token}},
                      "render": {"width": 640, "height": 320, "theme": "dark"}});
    let mut watch = Watch::<Grafana>::new(json, sought(Some(3.0)));
    watch.timeout = Duration::from_secs(5);
    let drawn = watch.draw().await.unwrap();
    assert_eq!(
        (drawn.showed, drawn.png.unwrap_err()),
        (None, "the panel could not be read".into())
    );
    assert_eq!(watch.look().await.arrivals.len(), 1);
    let drawn = watch.draw().await.unwrap();
    assert_eq!(drawn.showed.as_deref(), Some("3"));
    assert_eq!(drawn.png.unwrap(), (png(640, 320).into(), 640, 320));
    let seen = server.seen();
    let asked = seen.iter().find(|request| request.path.ends_with("/ds/query")).unwrap();
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body["queries"][0]["expr"], "x{site=\"s 2&x\",t=~\"(a|b)\",k=~\".*\"}");
    // An hour ago each: the panel shifts what it is asked for itself.
    assert_eq!((&body["from"], &body["to"]), (&json!("1699974805000"), &json!("1699996405000")));
    let asked = seen.iter().find(|request| request.path.starts_with("/g/render/")).unwrap();
    assert_eq!(asked.header("authorization"), Some("Bearer a-token-of-grafana"));
    let (path, query) = asked.path.split_once('?').unwrap();
    assert_eq!(path, "/g/render/d-solo/siem");
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            "from=1699978405000",
            "height=320",
            "panelId=2",
            "scale=1",
            "theme=dark",
            "timeout=5",
            "to=1700000005000",
            "tz=UTC",
            "var-kind=.*",
            "var-site=s+2%26x",
            "var-tenant=%24__all",
            "width=640",
        ]
    );
}

#[tokio::test]
async fn what_is_no_picture_of_the_panel_is_said_and_changes_no_number() {
    let whole = png(1000, 500);
    let cut = answer(&whole[..whole.len() - 3]);
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 5 << 20).into_bytes();
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let login = vec![("location", "/login?redirectTo=%2Frender".to_owned())];
    let html = "<!DOCTYPE html><title>Grafana</title>".to_owned();
    let cases: Vec<(&str, Box<dyn Fn() -> Act + Send + Sync>, &str)> = vec![
        (
            "a page",
            Box::new(move || {
                Act::Answer(200, vec![("content-type", "image/png".into())], html.clone())
            }),
            "200 and no whole PNG (it does not begin as one): <!DOCTYPE html>",
        ),
        (
            "no renderer installed",
            Box::new(|| Act::Raw(answer(&png(1270, 260)))),
            "a picture of 1270 × 260 pixels instead of 1000 × 500",
        ),
        ("a cut one", Box::new(move || Act::Raw(cut.clone())), "no whole PNG (it is cut)"),
        ("nothing", Box::new(|| Act::Raw(answer(b""))), "no whole PNG (it does not begin as one)"),
        ("too large", Box::new(move || Act::Raw(large.clone())), "is larger than 4194304 bytes"),
        ("without an end", Box::new(|| Act::Endless(ENDLESS)), "is larger than 4194304 bytes"),
        ("never ended", Box::new(move || Act::Stall(endless.clone())), "did not end it in time"),
        (
            "a login",
            Box::new(move || Act::Answer(302, login.clone(), String::new())),
            "answered 302 and led to \"/login?redirectTo=%2Frender\": it does not let us render",
        ),
        ("refused", Box::new(|| Act::status(401)), "Grafana answered 401: this is 401"),
        ("broken", Box::new(|| Act::status(500)), "Grafana answered 500: this is 500"),
        ("cut off", Box::new(|| Act::Reset), "closed the connection"),
    ];
    for (what, act, expected) in cases {
        let server = grafana(move |_| act()).await;
        let json =
            json!({"url": server.url("/g"), "dashboard": "siem", "panel": "2", "render": {}});
        let mut watch = Watch::<Grafana>::new(json, sought(Some(3.0)));
        watch.timeout = Duration::from_secs(3);
        assert_eq!(watch.look().await.arrivals.len(), 1, "{what}");
        let drawn = watch.draw().await.unwrap();
        let why = drawn.png.unwrap_err();
        assert!(why.contains(expected), "{what}: {why}");
        assert_eq!(drawn.showed.as_deref(), Some("3"), "{what}");
    }
    // What is not asked for is not drawn, and a size that no renderer draws is no plan.
    let json = json!({"url": "http://g", "dashboard": "siem", "panel": "2"});
    assert!(Watch::<Grafana>::new(json, sought(None)).draw().await.is_none());
    for sides in [json!({"width": 99}), json!({"height": 3001})] {
        let mut json = json!({"url": "http://g", "dashboard": "siem", "panel": "2"});
        json["render"] = sides;
        let spec = serde_json::from_value(json).unwrap();
        assert!(<Grafana as greenlight::confirm::Confirmer>::new(spec).is_err());
    }
}

/// An answer that goes on for ever: its head once, and then its body, which looks the same.
const ENDLESS: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// A panel that shows 3, as expected, beside what its data source says of that.
#[tokio::test]
async fn a_panel_that_is_as_expected_is_held_against_its_data_source_too() {
    let server = grafana(|_| Act::status(404)).await;
    let source = Server::start(|request| {
        let value = match request.path.split('/').nth(1).unwrap() {
            "same" => "3",
            "other" => "2",
            _ => return Act::status(503),
        };
        let result = json!([{"metric": {}, "value": [1_700_000_000, value]}]);
        Act::json(
            json!({"status": "success", "data": {"resultType": "vector", "result": result}})
                .to_string(),
        )
    })
    .await;
    for (at, expected, said) in [
        ("same", ("complete", 1), ""),
        (
            "other",
            ("complete", 0),
            "it shows 3, as expected, and the data source itself has 2: the dashboard does not show its data",
        ),
        ("down", ("blind", 0), ""),
    ] {
        let direct = json!({"promql": {"url": source.url(&format!("/{at}")), "query": "x"}});
        let json = json!({"url": server.url("/g"), "dashboard": "siem", "panel": "2",
                          "direct": direct, "render": {}});
        let mut watch = Watch::<Grafana>::new(json, sought(Some(3.0)));
        watch.timeout = Duration::from_secs(5);
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), expected, "{at}: {:?}", look.horizon);
        assert_eq!(watch.saw(), said, "{at}");
        // Only what was as expected in the end is drawn whatever is read later.
        assert_eq!(watch.mark["read"]["met"], expected.1 == 1, "{at}");
    }
}

/// Three panels that show what was sent: one that is drawn, one whose renderer answers with a login, and one
/// whose renderer never answers.
#[tokio::test]
async fn a_report_names_the_picture_of_a_panel_and_one_that_fails_changes_no_verdict() {
    let picture = png(1000, 500);
    let server = grafana(move |path| match path {
        "/g/render/d-solo/drawn" => Act::Raw(answer(&picture)),
        "/g/render/d-solo/hung" => Act::Stall(Vec::new()),
        _ => Act::Answer(302, vec![("location", "/login".into())], String::new()),
    })
    .await;
    let mut plan = String::from("node: { name: n }\njourneys:\n");
    let mut gates = String::from("gates:\n");
    for name in ["drawn", "undrawn", "hung"] {
        plan.push_str(&format!(
            "  - {{ id: {name}, every: 2s, timeout: 1s, send: {{ http: {{ to: '{}' }} }}, events: {{ count: 3 }},\n      \
             stages: [ {{ shown: {{ grafana: {{ url: '{}', dashboard: {name}, panel: '2', render: {{}} }}, equals: sent, within: 1s }} }} ] }}\n",
            server.url("/in"),
            server.url("/g"),
        ));
        gates.push_str(&format!(
            "  - {{ id: g.{name}, title: t, require: {{ complete: {name}, over: 4s, at_least: 1, above: 100% }} }}\n"
        ));
    }
    let (folder, plan) = folder_with(&(plan + &gates));
    let state = folder.path().join("state");
    let (dir, html) = (state.display().to_string(), folder.path().join("report.html"));
    let to = format!("html={}", html.display());
    let ran = tokio::task::spawn_blocking(move || {
        let check = greenlight(&["check", "-c", &plan, "--state", &dir, "-o", "json", "-o", &to]);
        (check, greenlight(&["once", "drawn", "-c", &plan, "-o", "json"]))
    });
    let (check, once) = ran.await.unwrap();
    assert_eq!(code(&check), 0, "{}{}", out(&check), err(&check));
    let report: Value = serde_json::from_str(&out(&check)).unwrap();
    let exhibit = |name: &str| {
        let rows = report["journeys"].as_array().unwrap();
        let row = rows.iter().find(|row| row["id"] == name).unwrap();
        row["stages"].as_array().unwrap().last().unwrap()["exhibit"].clone()
    };
    let drawn = exhibit("drawn");
    assert_eq!((&drawn["showed"], &drawn["missing"]), (&json!("3"), &Value::Null), "{drawn}");
    let file = drawn["picture"]["file"].as_str().unwrap();
    let bytes = fs::read(state.join(file)).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        (drawn["picture"]["sha256"].as_str(), file),
        (Some(&*digest), &*format!("exhibits/{digest}.png"))
    );
    assert_eq!(drawn["picture"]["bytes"], bytes.len());
    assert_eq!(
        (&drawn["picture"]["width"], &drawn["picture"]["height"]),
        (&json!(1000), &json!(500))
    );
    let mode = fs::metadata(state.join(file)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777 & !0o640, 0, "{mode:o}");
    let undrawn = exhibit("undrawn");
    assert_eq!((&undrawn["showed"], &undrawn["picture"]), (&json!("3"), &Value::Null));
    let why = undrawn["missing"].as_str().unwrap();
    assert!(why.contains("answered 302 and led to \"/login\""), "{why}");
    let hung = exhibit("hung");
    assert_eq!((&hung["showed"], &hung["picture"]), (&json!("3"), &Value::Null));
    let why = hung["missing"].as_str().unwrap();
    assert!(why.contains("answered nothing in time"), "{why}");
    let html = fs::read_to_string(html).unwrap();
    for told in [file, "no picture of &quot;3&quot;: Grafana answered 302", "1000 × 500 pixels"] {
        assert!(html.contains(told), "{told}");
    }

    // Nothing outlives `once`, which says so.
    assert_eq!(code(&once), 0, "{}", err(&once));
    let once: Value = serde_json::from_str(&out(&once)).unwrap();
    let exhibit = &once["stages"].as_array().unwrap().last().unwrap()["exhibit"];
    assert_eq!(exhibit["picture"]["sha256"], *digest);
    assert_eq!(
        (&exhibit["picture"]["file"], &exhibit["missing"]),
        (&Value::Null, &json!("there is no state directory"))
    );
}
