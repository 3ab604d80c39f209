//! The report as JSON field by field, as JUnit, and the HTTP that serves it.

use std::time::Duration;

use serde_json::Value;

use super::{Flaw, check, closed_port, journey, open_port, platform, row};
use crate::command::{Daemon, code, err, folder_with, greenlight, out};

/// A plan in which every verdict that this plan language can bring about is there.
fn every_verdict() -> String {
    format!(
        "node: {{ name: n1, labels: {{ zone: a }} }}\nvars: {{ off: false }}\n\
         checks:\n\
         - {{ id: up, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 200ms }}\n\
         - {{ id: down, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 200ms }}\n\
         {}\
         gates:\n\
         - {{ id: g.pass, title: It passes, refs: [ N5, S4 ], require: {{ p99: tcp.connect, where: {{ check: up }}, over: 1s, at_least: 3, below: 5s }} }}\n\
         - {{ id: g.warn, require: {{ ratio: check.success, where: {{ check: up }}, over: 1s, at_least: 3, below: 100%, warn: 50% }} }}\n\
         - {{ id: g.fail, require: {{ ratio: check.success, where: {{ check: down }}, over: 1s, at_least: 3, above: 99% }} }}\n\
         - {{ id: g.open, level: optional, require: {{ missing: nobody measures it }} }}\n\
         - {{ id: g.not_applicable, when: {{ var: off }}, require: {{ ratio: check.success, over: 1s, above: 99% }} }}\n\
         - {{ id: g.journey, require: {{ loss: j, over: 4s, at_least: 5, below: 0 }} }}\n",
        open_port(),
        closed_port(),
        journey(platform(Flaw::Loses(1)))
    )
}

fn is_rfc3339_utc(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape.starts_with("0000-00-00T00:00:00")
        && text.ends_with('Z')
        && shape["0000-00-00T00:00:00".len()..]
            .trim_end_matches('Z')
            .trim_matches('0')
            .replace('.', "")
            .is_empty()
}

fn number_or_null(value: &Value) -> bool {
    value.is_number() || value.is_null()
}

fn text_or_null(value: &Value) -> bool {
    value.is_string() || value.is_null()
}

fn is_why(value: &Value) -> bool {
    value.is_null() || (value["code"].is_string() && value["text"].is_string())
}

fn is_gate(gate: &Value) {
    let fields = gate.as_object().expect("an object");
    for field in ["id", "title", "level", "verdict", "criterion"] {
        assert!(fields[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {gate:#}");
    }
    for field in ["value", "threshold", "margin", "window_seconds", "covered_seconds"] {
        assert!(number_or_null(fields.get(field).expect(field)), "{field}: {gate:#}");
    }
    for field in ["unit", "promql", "first_failing_stage"] {
        assert!(text_or_null(fields.get(field).expect(field)), "{field}: {gate:#}");
    }
    assert!(fields["samples"].is_u64(), "{gate:#}");
    for field in ["refs", "checks", "journeys"] {
        let list = fields[field].as_array().expect(field);
        assert!(list.iter().all(Value::is_string), "{gate:#}");
    }
    let worst = fields.get("worst").expect("worst");
    assert!(worst.is_null() || (worst["check"].is_string() && worst["target"].is_string()));
    assert!(is_why(fields.get("reason").expect("reason")), "{gate:#}");
    let judged = ["pass", "warn"].contains(&gate["verdict"].as_str().expect("a word"));
    assert_eq!(judged, fields["reason"].is_null() || gate["verdict"] == "warn", "{gate:#}");
}

#[test]
fn contract_the_report_has_every_field_with_its_type() {
    let (code, report) = check(&every_verdict(), &["--for", "12s"]);
    assert_eq!((code, &report["decision"]), (1, &"no_go".into()));
    assert_eq!(report["version"], 1);
    assert_eq!(report["tool"]["name"], "greenlight");
    assert_eq!(report["tool"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["plan"]["digest"].as_str().is_some_and(|digest| digest.len() == 64));
    assert_eq!(report["plan"]["sources"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["node"], serde_json::json!({ "name": "n1", "labels": { "zone": "a" } }));
    for field in ["started_at", "finished_at"] {
        assert!(is_rfc3339_utc(&report[field]), "{}", report[field]);
    }
    let gates = report["gates"].as_array().expect("an array");
    assert_eq!(gates.len(), 6, "every gate of the plan");
    gates.iter().for_each(is_gate);
    let verdict = |id: &str| row(&report["gates"], id)["verdict"].clone();
    for (id, expected) in [
        ("g.pass", "pass"),
        ("g.warn", "warn"),
        ("g.fail", "fail"),
        ("g.open", "open"),
        ("g.not_applicable", "not_applicable"),
        ("g.journey", "fail"),
    ] {
        assert_eq!(verdict(id), expected, "{:#}", row(&report["gates"], id));
    }
    let total: u64 = report["counts"]
        .as_object()
        .expect("an object")
        .values()
        .map(|count| count.as_u64().expect("a count"))
        .sum();
    assert_eq!(total, 6);
    assert_eq!(report["counts"]["fail"], 2);

    let pass = row(&report["gates"], "g.pass");
    assert_eq!((&pass["unit"], &pass["threshold"]), (&"seconds".into(), &5.0.into()));
    let value = pass["value"].as_f64().expect("a number");
    assert!(value > 0.0 && value < 1.0, "seconds: {value}");
    assert!((pass["margin"].as_f64().expect("a number") - (5.0 - value)).abs() < 1e-9);
    assert_eq!(
        (&pass["refs"], &pass["title"]),
        (&serde_json::json!(["N5", "S4"]), &"It passes".into())
    );
    assert_eq!(pass["checks"], serde_json::json!(["up"]));
    assert!(pass["promql"].is_string(), "{pass:#}");
    assert_eq!(row(&report["gates"], "g.journey")["journeys"], serde_json::json!(["j"]));
    assert_eq!(row(&report["gates"], "g.journey")["first_failing_stage"], "stored");
    // Nobody measured it: null, never 0.
    let open = row(&report["gates"], "g.open");
    assert!(open["value"].is_null() && open["margin"].is_null(), "{open:#}");
    assert_eq!(open["samples"], 0);

    for check in report["checks"].as_array().expect("an array") {
        assert_eq!(check["kind"], "tcp");
        for target in check["targets"].as_array().expect("an array") {
            let last = &target["last"];
            assert!(target["target"].is_string() && is_rfc3339_utc(&last["at"]), "{check:#}");
            assert!(is_why(&last["reason"]));
            assert_eq!(last["outcome"] == "success", last["reason"].is_null());
        }
    }
    let journey = row(&report["journeys"], "j");
    super::journeys::holds(journey);
}

#[test]
fn contract_junit_says_what_each_verdict_means() {
    let (_folder, plan) = folder_with(&every_verdict());
    let output = greenlight(&["check", "-c", &plan, "-o", "junit", "--for", "12s"]);
    assert_eq!(code(&output), 1, "{}", err(&output));
    let xml = out(&output);
    assert!(xml.starts_with("<?xml"), "{xml}");
    for (id, inside) in [
        ("g.pass", None),
        ("g.warn", None),
        ("g.fail", Some("<failure")),
        ("g.journey", Some("<failure")),
        ("g.open", Some("<error")),
        ("g.not_applicable", Some("<skipped")),
    ] {
        let at = xml.find(&format!("name=\"{id}\"")).unwrap_or_else(|| panic!("{id}: {xml}"));
        let case = xml[at..].split("<testcase").next().unwrap_or_default();
        for word in ["<failure", "<error", "<skipped"] {
            assert_eq!(case.contains(word), inside == Some(word), "{id} {word}: {case}");
        }
    }
}

#[test]
fn contract_http_serves_the_arrays_of_the_report_and_takes_notifications() {
    let (folder, plan) = folder_with(&format!(
        "checks:\n\
         - {{ id: port, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 200ms }}\n\
         gates: [ {{ id: g, require: {{ ratio: check.success, over: 1s, at_least: 3, above: 99% }} }} ]\n",
        open_port()
    ));
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    daemon.until_verdict("g", "pass", Duration::from_secs(20));
    let ledger = daemon.json("/api/v1/ledger");
    for list in ["gates", "checks", "journeys"] {
        let alone = daemon.json(&format!("/api/v1/{list}"));
        assert!(alone.is_array(), "{list}: {alone}");
        let ids = |list: &Value| -> Vec<Value> {
            list.as_array().expect("an array").iter().map(|row| row["id"].clone()).collect()
        };
        assert_eq!(ids(&alone), ids(&ledger[list]), "{list}");
    }
    is_gate(&daemon.json("/api/v1/gates")[0]);
    assert_eq!(daemon.json("/api/v1/plan")["checks"][0]["id"], "port");
    let url = |path: &str| format!("http://{}{path}", daemon.address);
    let post = |kind: &str, body: &str| {
        let answer = ureq::post(url(&format!("/api/v1/webhook/{kind}")))
            .config()
            .http_status_as_error(false)
            .build()
            .content_type("application/json")
            .send(body)
            .expect("it answers");
        answer.status().as_u16()
    };
    let alert = r#"{"version":"4","status":"firing","receiver":"r","groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"","groupKey":"k","truncatedAlerts":0,"alerts":[{"status":"firing","labels":{"alertname":"A"},"annotations":{},"startsAt":"2026-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"f"}]}"#;
    assert_eq!(post("alertmanager", alert), 200);
    assert_eq!(post("grafana", alert), 200);
    assert_eq!(post("json", r#"{"any":"thing"}"#), 200);
    assert_eq!(post("json", "no json"), 400);
    assert_eq!(post("pager", "{}"), 404);
    for (method, path, status) in
        [("GET", "/nothing", 404), ("GET", "/-/reload", 405), ("DELETE", "/metrics", 405)]
    {
        let (got, body) = crate::command::fetch(method, &daemon.address, path);
        let error: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        assert_eq!(got, status, "{path}");
        assert!(is_why(&error["error"]) && error["error"].is_object(), "{error}");
    }
    let (status, body) = daemon.post("/-/reload");
    assert_eq!(status, 200, "{body}");
}

#[test]
fn contract_users_are_asked_for_with_a_web_configuration() {
    let (folder, plan) = folder_with("");
    let hash = bcrypt::hash("right", 4).expect("a hash");
    let web = folder.path().join("web.yaml");
    std::fs::write(&web, format!("basic_auth_users:\n  admin: '{hash}'\n")).expect("written");
    let web = web.display().to_string();
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &["--web.config.file", &web]);
    let ask = |authorization: Option<&str>| {
        let mut request = ureq::get(format!("http://{}/metrics", daemon.address))
            .config()
            .http_status_as_error(false)
            .build();
        if let Some(user) = authorization {
            use base64::Engine;
            let encoded = base64::engine::general_purpose::STANDARD.encode(user);
            request = request.header("authorization", format!("Basic {encoded}"));
        }
        request.call().expect("it answers").status().as_u16()
    };
    assert_eq!(ask(None), 401);
    assert_eq!(ask(Some("admin:wrong")), 401);
    assert_eq!(ask(Some("nobody:right")), 401);
    assert_eq!(ask(Some("admin:right")), 200);
}
