//! The watchdog: no critical alert, and alerting that is alive, by a real Prometheus and a real
//! Alertmanager; and the catalogue of a detection engine's rules.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;

use super::*;

pub(super) const ALERTS: &str = "partner.cluster.alerts";
pub(super) const DASHBOARD: &str = "partner.acceptance.dashboard";

/// An engine that looks at its rules often.
pub(super) const ENGINE: &str =
    "global: { evaluation_interval: 500ms }\nrule_files: [ rules.yml ]\n";
pub(super) const CATALOGUE: &str = "groups:\n- name: catalogue\n  rules:\n  \
    - { alert: SSHBruteForce, expr: 'vector(1) == 2' }\n  \
    - { alert: PortScan, expr: 'vector(1) == 2' }\n";

/// The rules that the engine has loaded.
pub(super) fn catalogue(broken: Option<Detection>) -> String {
    let mut rules = CATALOGUE.to_owned();
    match broken {
        Some(Detection::LosesRule) => {
            let last = rules.rfind("  - ").expect("there are two");
            rules.truncate(last);
        }
        Some(Detection::HasUnknownRule) => {
            let _ = writeln!(rules, "  - {{ alert: Unknown, expr: 'vector(1) == 2' }}");
        }
        Some(Detection::FailsRule) => {
            rules = rules.replacen("vector(1) == 2", "count_values(\"in-valid\", vector(1))", 1);
        }
        _ => {}
    }
    rules
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Alerting {
    CriticalFires,
    WatchdogGone,
    WatchdogNotRouted,
}

/// The metrics that the rules look at.
fn switches(broken: Option<Alerting>) -> String {
    let mut text = String::from("switch{name=\"other\"} 0\n");
    if broken == Some(Alerting::CriticalFires) {
        text.push_str("switch{name=\"critical\"} 1\n");
    }
    match broken {
        Some(Alerting::WatchdogGone) => {}
        Some(Alerting::WatchdogNotRouted) => {
            text.push_str("switch{name=\"watchdog\",mute=\"yes\"} 1\n");
        }
        _ => text.push_str("switch{name=\"watchdog\"} 1\n"),
    }
    text
}

/// Serves them until the test ends.
fn serve(broken: Arc<Mutex<Option<Alerting>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let body = switches(*broken.lock().expect("no panic inside"));
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

const RULES: &str = "groups:\n- name: platform\n  rules:\n  \
    - { alert: Watchdog, expr: 'switch{name=\"watchdog\"} == 1', labels: { severity: none } }\n  \
    - { alert: NodeDown, expr: 'switch{name=\"critical\"} == 1', labels: { severity: critical } }\n";

#[test]
fn alerts_gate_turns_red_where_alerting_is_not_alive_and_green_again() {
    let broken: Arc<Mutex<Option<Alerting>>> = Arc::default();
    let metrics = serve(broken.clone());
    let port = peers::free_port();
    let alertmanager = peers::alertmanager(&format!(
        "route:\n  receiver: agent\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 500ms\n  \
         repeat_interval: 500ms\n  routes: [ {{ receiver: nobody, matchers: [ 'mute=\"yes\"' ] }} ]\n\
         receivers:\n- name: nobody\n- name: agent\n  webhook_configs: [ {{ url: 'http://127.0.0.1:{port}/api/v1/webhook/alertmanager' }} ]\n\
         inhibit_rules:\n- source_matchers: [ 'alertname=\"Maintenance\"' ]\n  target_matchers: [ 'severity=\"critical\"' ]\n"
    ));
    let url = &alertmanager.url;
    let at = url.strip_prefix("http://").expect("a URL");
    let _prometheus = peers::prometheus(
        &format!(
            "global: {{ scrape_interval: 300ms, evaluation_interval: 300ms }}\n\
             rule_files: [ rules.yml ]\n\
             alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: [ '{at}' ] }} ] }} ] }}\n\
             scrape_configs: [ {{ job_name: switches, static_configs: [ {{ targets: [ '127.0.0.1:{metrics}' ] }} ] }} ]\n"
        ),
        &[("rules.yml", RULES)],
    );
    let watchdog = "alertname: Watchdog";
    let (_folder, agent) = agent(
        port,
        "partner_window: 3s, critical_alerts_check: critical, watchdog_check: watchdog",
        &format!(
            "  - {{ id: critical, alertmanager: {{ match: {{ severity: critical }}, expect: none, watchdog: {{ {watchdog} }} }}, targets: [ '{url}' ], every: 300ms }}\n  \
             - {{ id: watchdog, webhook: {{ from: alertmanager, match: {{ {watchdog} }}, within: 4s }}, every: 300ms }}\n"
        ),
        "",
    );
    let set = |what| *broken.lock().expect("no panic inside") = what;
    let check = |by, says| Named { by, stage: None, says };
    red_and_green(
        &agent,
        ALERTS,
        set,
        &[
            (Alerting::CriticalFires, check("critical", "alertmanager.firing")),
            (Alerting::WatchdogGone, check("critical", "")),
            (Alerting::WatchdogNotRouted, check("watchdog", "")),
        ],
    );

    // A critical alert that another inhibits, or that somebody silenced, fires for nobody: the report
    // lists it.
    let maintenance = json!([{"labels": {"alertname": "Maintenance"}}]);
    let silence = json!({
        "matchers": [{"name": "severity", "value": "critical", "isRegex": false, "isEqual": true}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z",
        "createdBy": "test", "comment": "test",
    });
    for (path, body, lists) in [
        ("alerts", maintenance, "an alert is inhibited by"),
        ("silences", silence, "an alert is silenced by"),
    ] {
        let path = format!("{url}/api/v2/{path}");
        let answer = peers::post(&path, "application/json", &body.to_string());
        let (status, said) = answer.expect("alertmanager answers");
        assert_eq!(status, 200, "{said}");
        set(Some(Alerting::CriticalFires));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ledger = agent.json("/api/v1/ledger");
            let listed = ledger["checks"].to_string();
            if listed.contains(lists) && listed.contains("NodeDown") {
                let rows = ledger["gates"].as_array().expect("an array");
                let row = rows.iter().find(|row| row["id"] == ALERTS).expect("the gate is there");
                assert_eq!(row["verdict"], "pass", "{row:#}");
                break;
            }
            assert!(Instant::now() < deadline, "{listed}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}
