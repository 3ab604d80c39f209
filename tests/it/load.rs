//! `during: load` from outside: declared by the command line and by the API, kept over a restart.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Daemon, code, err, folder_with, greenlight, out};

mod kafka;
mod platform;
mod record;
mod sent;
mod shapes;

const PLAN: &str = "node: { name: n1 }\n\
    gates:\n\
    - { id: quiet, require: { min: node.memory.available, over: 20s, at_least: 2, above: 0.001%, during: load } }\n";

fn report(arguments: &[&str]) -> (i32, Value) {
    let output = greenlight(arguments);
    let text = out(&output);
    let json =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", err(&output)));
    (code(&output), json)
}

#[test]
fn a_gate_under_load_is_open_without_one_and_decided_with_one() {
    let (_folder, plan) = folder_with(PLAN);
    let (code, without) = report(&["check", "-c", &plan, "--for", "4s", "-o", "json"]);
    let gate = &without["gates"][0];
    assert_eq!((code, gate["verdict"].as_str()), (2, Some("open")), "{gate:#}");
    assert_eq!(gate["reason"]["code"], "no_load");
    assert_eq!(gate["promql"], Value::Null);
    assert!(gate["promql_missing"].as_str().is_some_and(|why| why.starts_with("during load")));
    assert!(gate["criterion"].as_str().is_some_and(|text| text.contains("a load was declared")));
    assert_eq!(without["load_windows"], Value::Null);

    // It waits for the end of the load, and is then decided at once.
    let began = Instant::now();
    let (code, with) =
        report(&["check", "-c", &plan, "--load", "now+2s/+6s", "--for", "60s", "-o", "json"]);
    let gate = &with["gates"][0];
    assert_eq!((code, gate["verdict"].as_str()), (0, Some("pass")), "{gate:#}");
    assert!(began.elapsed() >= Duration::from_secs(8), "before the load had ended");
    let samples = gate["samples"].as_u64().expect("a number");
    assert!((2..=8).contains(&samples), "{samples} samples of 6 s of load");
    assert_eq!(with["load_windows"].as_array().map(Vec::len), Some(1), "{with:#}");
    assert_eq!(with["load_windows"][0]["source"], "check --load");
}

#[test]
fn a_load_that_can_be_none_is_wrong_usage() {
    let (_folder, plan) = folder_with(PLAN);
    for bad in [
        "",
        "now",
        "now/",
        "/now",
        "now/now",
        "now/-5m",
        "soon/later",
        "now/+10",
        "1/2",
        "2026-01-31T10:00:00Z/2026-01-31T09:00:00Z",
        "2026-01-31/2026-02-01",
    ] {
        let output = greenlight(&["check", "-c", &plan, "--load", bad]);
        assert_eq!(code(&output), 64, "{bad}: {}", err(&output));
        assert!(out(&output).is_empty());
    }
    // Where no sample can be selected, the plan says so.
    for (criterion, part) in [
        ("last: node.memory.available, above: 1%, during: load", "`during` selects samples"),
        ("fresh: node.memory.available, below: 1m, during: load", "`during` selects samples"),
        ("mean: node.memory.available, over: 1m, above: 1%, during: lunch", "load"),
    ] {
        let (_folder, plan) =
            folder_with(&format!("gates:\n- {{ id: g, require: {{ {criterion} }} }}\n"));
        let output = greenlight(&["plan", "-c", &plan]);
        assert_eq!(code(&output), 78, "{criterion}");
        assert!(err(&output).contains(part), "{criterion}: {}", err(&output));
    }
}

pub(crate) fn post(address: &str, body: &str) -> (u16, Value) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent
        .post(format!("http://{address}/api/v1/load"))
        .header("content-type", "application/json")
        .send(body)
        .expect("an answer");
    let text = answer.body_mut().read_to_string().expect("a body");
    (answer.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn a_declared_load_survives_a_kill_and_is_declared_once() {
    let (folder, plan) = folder_with(PLAN);
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &[]);
    let window = r#"{"start": "2026-01-02T03:04:05Z", "end": "2026-01-02T04:04:05Z"}"#;
    let (status, refused) = post(&daemon.address, window);
    // Years from the clock of the machine that runs this, or not: what is far away is refused.
    if status != 200 {
        assert_eq!((status, refused["error"]["code"].as_str()), (400, Some("bad_request")));
    }
    let (status, row) =
        post(&daemon.address, r#"{"start": "now", "end": "+10m", "source": "lab"}"#);
    assert_eq!(status, 200, "{row}");
    let again = format!(
        r#"{{"start": "{}", "end": "{}", "source": "lab"}}"#,
        row["start"].as_str().expect("a text"),
        row["end"].as_str().expect("a text")
    );
    let before = daemon.json("/api/v1/load");
    assert!(before.as_array().is_some_and(|rows| rows.contains(&row)), "{before}");
    let _ = daemon.end(Signal::SIGKILL);

    let daemon = Daemon::start(&plan, &state, &[]);
    assert_eq!(daemon.json("/api/v1/load"), before);
    assert_eq!(daemon.json("/api/v1/ledger")["load_windows"], before);
    assert_eq!(post(&daemon.address, &again).0, 200);
    let (code, _) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
}
