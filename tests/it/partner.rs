//! The gates of `pack:partner-platform` that are whole turn red and green on a real pipeline:
//! Apache Kafka, a parser with an error topic, a detection rule, Alertmanager that notifies the
//! agent, and Prometheus. Each criterion is broken alone, named, and mended.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{BINARY, Daemon, err, folder_with, greenlight, out};
use crate::peers::{self, Kafka, kafka};
use crate::processor::{Act, Processor, Topics};

mod alerting;
mod collectors;
mod enrichment;
mod rule;
mod service;
mod tenant;

use rule::Rule;

const PARSERS: &str = "partner.core.parsers";
const DETECTION: &str = "partner.core.detection";
const USE_CASE: &str = "partner.acceptance.use-case";
/// A round is sent every two seconds, given up after four, and counts for eight; the machine may
/// be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Topics of this test alone.
fn topics(kafka: &Kafka, name: &str) -> Topics {
    let topics = Topics {
        from: format!("{name}-raw"),
        to: format!("{name}-parsed"),
        dead_letter: Some(format!("{name}-errors")),
    };
    for topic in [Some(&topics.from), Some(&topics.to), topics.dead_letter.as_ref()] {
        kafka.topic(topic.expect("all three are named"), 2);
    }
    topics
}

/// One journey through the topics, with one stage that sees them.
fn journey(id: &str, kafka: &Kafka, from: &str, events: &str, stage: &str, rest: &str) -> String {
    let brokers = &kafka.brokers;
    format!(
        "  - id: {id}\n    every: 2s\n    timeout: 3s\n    send: {{ kafka: {{ brokers: '{brokers}', topic: {from} }} }}\n    \
         events: {{ {events} }}\n    stages:\n      - {stage}: {{ kafka: {{ brokers: '{brokers}', {rest}\n"
    )
}

const TIMES: &str = "within: 4s, give_up: 4s, poll: 200ms";

/// The agent of a plan that includes the pack.
fn agent(port: u16, vars: &str, checks: &str, journeys: &str) -> (tempfile::TempDir, Daemon) {
    let (folder, plan) = folder_with(&format!(
        "node: {{ name: partner-1 }}\ninclude: [ 'pack:partner-platform' ]\n\
         vars: {{ partner_rounds_window: 8s, partner_rounds_events: 3, {vars} }}\n\
         checks:\n{checks}journeys:{}\n{journeys}",
        if journeys.is_empty() { " []" } else { "" }
    ));
    let mut command = Command::new(BINARY);
    command
        .args(["run", "-c", &plan, "--web.listen-address", &format!("127.0.0.1:{port}"), "--state"])
        .arg(folder.path().join("state"));
    let agent = Daemon::listening(command);
    (folder, agent)
}

/// What a failing gate must name.
struct Named {
    /// The journey or the check that decided.
    by: &'static str,
    stage: Option<&'static str>,
    /// Words of its reason.
    says: &'static str,
}

/// Waits until the gate fails by exactly this.
fn until_red(agent: &Daemon, gate: &str, named: &Named) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let gates = agent.json("/api/v1/gates");
        let rows = gates.as_array().expect("an array");
        let row = rows.iter().find(|row| row["id"] == gate).expect("the gate is there");
        let stage = named.stage.map_or(Value::Null, Value::from);
        if row["verdict"] == "fail"
            && row["worst"]["check"] == named.by
            && row["first_failing_stage"] == stage
            && row["reason"]["text"].as_str().is_some_and(|text| text.contains(named.says))
        {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{gate} does not fail by {} at {:?}, saying {:?}: {row:#}\n{:#}",
            named.by,
            named.stage,
            named.says,
            agent.json("/api/v1/journeys"),
        );
        thread::sleep(Duration::from_millis(100));
    }
}

fn until_green(agent: &Daemon, gate: &str) {
    agent.until_verdict(gate, "pass", PATIENCE);
}

/// Breaks one thing after the other, each alone, and mends it.
fn red_and_green<Break: Copy + std::fmt::Debug>(
    agent: &Daemon,
    gate: &str,
    set: impl Fn(Option<Break>),
    cases: &[(Break, Named)],
) {
    until_green(agent, gate);
    for (what, named) in cases {
        let began = Instant::now();
        set(Some(*what));
        until_red(agent, gate, named);
        let red = began.elapsed();
        set(None);
        until_green(agent, gate);
        eprintln!(
            "{gate}: {what:?} was red after {:.1} s, and green {:.1} s after it was mended",
            red.as_secs_f64(),
            (began.elapsed() - red).as_secs_f64()
        );
    }
}

/// A parser's counters, at an address that Prometheus scrapes.
struct Counters {
    address: String,
    /// Grows at each scrape.
    grows: Arc<AtomicBool>,
}

fn counters() -> Counters {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address").to_string();
    let grows = Arc::new(AtomicBool::new(false));
    let growing = grows.clone();
    thread::spawn(move || {
        let mut errors = 0;
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.read(&mut [0; 4096]);
            errors += u64::from(growing.load(Ordering::Relaxed));
            let body = format!(
                "# TYPE parse_errors_total counter\nparse_errors_total{{source=\"sshd\"}} {errors}\n"
            );
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    Counters { address, grows }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Parser {
    WrongValue,
    WrongValueOfOneSource,
    ErrorsGrow,
    MalformedIsDropped,
    GoldenIsPutAside,
}

#[test]
fn parsers_gate_turns_red_for_each_criterion_and_green_again() {
    let kafka = kafka();
    let topics = topics(kafka, "partner-parsers");
    let broken: Arc<Mutex<Option<Parser>>> = Arc::default();
    let now = broken.clone();
    let _parser = Processor::parsing(kafka, &topics, move |event| {
        match (event, *now.lock().expect("no panic inside")) {
            (Some(_), Some(Parser::WrongValue)) => Act::Misparse,
            (Some(_), Some(Parser::GoldenIsPutAside)) => Act::DeadLetter,
            (Some(event), Some(Parser::WrongValueOfOneSource))
                if event["event.module"] == "auditd" =>
            {
                Act::Misparse
            }
            (None, Some(Parser::MalformedIsDropped)) => Act::Lose,
            (None, _) => Act::DeadLetter,
            (Some(_), _) => Act::Pass,
        }
    });
    let counters = counters();
    let prometheus = peers::prometheus(
        &format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs: [ {{ job_name: parser, static_configs: [ {{ targets: [ '{}' ] }} ] }} ]\n",
            counters.address
        ),
        &[],
    );
    let query = "sum(increase(parse_errors_total{source=\"sshd\"}[4s]))";
    let deadline = Instant::now() + PATIENCE;
    while prometheus.query(query) == Value::Array(vec![]) {
        assert!(Instant::now() < deadline, "prometheus does not scrape the parser");
        thread::sleep(Duration::from_millis(100));
    }
    let errors = topics.dead_letter.clone().expect("it is named");
    let golden = journey(
        "golden",
        kafka,
        &topics.from,
        "count: 3, fields: { event.outcome: failure }",
        "parsed",
        &format!(
            "topic: {}, dead_letter: {errors}, text: message }}, {TIMES}, \
             expect: {{ fields: {{ greenlight.seq: sent, event.outcome: failure, enriched.asset.owner: soc-test }} }} }}",
            topics.to
        ),
    );
    // Another source with a golden sample of its own.
    let audit = journey(
        "golden-audit",
        kafka,
        &topics.from,
        "count: 3, fields: { event.outcome: failure, event.module: auditd }",
        "parsed",
        &format!(
            "topic: {}, dead_letter: {errors}, text: message }}, {TIMES}, \
             expect: {{ fields: {{ greenlight.seq: sent, event.module: auditd, enriched.asset.owner: soc-test }} }} }}",
            topics.to
        ),
    );
    let malformed = journey(
        "malformed",
        kafka,
        &topics.from,
        "count: 2, format: plain, message: '<<< neither JSON nor syslog {token}'",
        "stored",
        &format!("topic: {errors} }}, {TIMES} }}"),
    );
    let (_folder, agent) = agent(
        peers::free_port(),
        "parser_journey: 'golden, golden-audit', parser_errors_check: parse-errors, malformed_journey: malformed",
        &format!(
            "  - {{ id: parse-errors, promql: {{ query: '{query}' }}, targets: [ '{}' ], every: 500ms }}\n",
            prometheus.url
        ),
        &(golden + &audit + &malformed),
    );
    let set = |what| {
        *broken.lock().expect("no panic inside") = what;
        counters.grows.store(what == Some(Parser::ErrorsGrow), Ordering::Relaxed);
    };
    let journey = |by, stage, says| Named { by, stage: Some(stage), says };
    red_and_green(
        &agent,
        PARSERS,
        set,
        &[
            (Parser::WrongValue, journey("golden", "parsed", "at stage parsed")),
            (
                Parser::WrongValueOfOneSource,
                journey("golden-audit", "parsed", "on journey golden-audit at stage parsed: "),
            ),
            (
                Parser::ErrorsGrow,
                Named { by: "parse-errors", stage: None, says: "the largest promql.value on " },
            ),
            (Parser::MalformedIsDropped, journey("malformed", "stored", "at stage stored")),
            (Parser::GoldenIsPutAside, journey("golden", "parsed", "at stage parsed")),
        ],
    );
}

/// What of the detection and its alert is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Detection {
    RaisesNothing,
    RaisesWrongSeverity,
    RaisesTwice,
    RaisesLate,
    NotifiesNobody,
    NeverCloses,
    LosesBenign,
    RaisesForBenign,
    /// Of the engine's rules one is not loaded, one too many is, one fails.
    LosesRule,
    HasUnknownRule,
    FailsRule,
}

#[test]
fn use_case_gate_turns_red_for_each_criterion_and_green_again() {
    let kafka = kafka();
    let topics = topics(kafka, "partner-use-case");
    let broken: Arc<Mutex<Option<Detection>>> = Arc::default();
    let now = broken.clone();
    let _parser = Processor::parsing(kafka, &topics, move |event| {
        let benign = event.is_some_and(|event| event["event.outcome"] == "success");
        let lost = *now.lock().expect("no panic inside") == Some(Detection::LosesBenign);
        if benign && lost { Act::Lose } else { Act::Pass }
    });
    let port = peers::free_port();
    let alertmanager = peers::alertmanager(&format!(
        "route:\n  receiver: agent\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n  \
         routes: [ {{ receiver: nobody, matchers: [ 'mute=\"yes\"' ], group_by: ['...'] }} ]\n\
         receivers:\n- name: nobody\n- name: agent\n  webhook_configs: [ {{ url: 'http://127.0.0.1:{port}/api/v1/webhook/alertmanager' }} ]\n"
    ));
    let _rule = Rule::start(kafka, &topics.to, &alertmanager.url, broken.clone());

    let parsed = &topics.to;
    let url = &alertmanager.url;
    let seen = format!("topic: {parsed}, text: message }}, {TIMES} }}");
    let labels = "match: { alertname: SSHBruteForce, scenario: attack }";
    let attack = journey(
        "attack",
        kafka,
        &topics.from,
        "count: 3, message: 'Failed password for {user} from {address} port {port} ssh2 {token}', fields: { event.outcome: failure }",
        "stored",
        &seen,
    ) + &format!(
        "      - alerted: {{ alertmanager: {{ url: '{url}', {labels} }}, within: 8s, give_up: 8s, poll: 200ms, exactly: 1, expect: {{ fields: {{ labels.severity: critical, labels.host: exists }} }} }}\n      \
         - notified: {{ webhook: {{ from: alertmanager, {labels} }}, within: 8s, give_up: 8s, poll: 200ms }}\n"
    );
    let benign = journey(
        "benign",
        kafka,
        &topics.from,
        "count: 3, message: 'Accepted password for {user} from {address} port {port} ssh2 {token}', fields: { event.outcome: success }",
        "stored",
        &seen,
    );
    let engine = peers::prometheus(alerting::ENGINE, &[("rules.yml", alerting::CATALOGUE)]);
    let (_folder, agent) = agent(
        port,
        "rules_check: engine, rules_expected: 2, usecase_alerted_within: 3500ms, usecase_journey: attack, benign_journey: benign, benign_alert_check: benign-alert, alert_closed_check: alert-closed",
        &format!(
            "  - {{ id: engine, rules: {{ engine: prometheus }}, targets: [ '{}' ], every: 500ms }}\n  \
             - {{ id: benign-alert, alertmanager: {{ match: {{ alertname: SSHBruteForce, scenario: benign }}, expect: none }}, targets: [ '{url}' ], every: 500ms }}\n  \
             - {{ id: alert-closed, webhook: {{ from: alertmanager, status: resolved, {labels}, within: 12s }}, every: 500ms }}\n",
            engine.url
        ),
        &(attack + &benign),
    );
    let set = |what| *broken.lock().expect("no panic inside") = what;
    let journey = |by, stage, says| Named { by, stage: Some(stage), says };
    let check = |by, says| Named { by, stage: None, says };
    // What never came is beyond every latency too: either part may be the one that is named.
    red_and_green(
        &agent,
        USE_CASE,
        set,
        &[
            (Detection::RaisesNothing, journey("attack", "alerted", "")),
            (Detection::RaisesWrongSeverity, journey("attack", "alerted", "")),
            (Detection::RaisesTwice, journey("attack", "alerted", "duplicates")),
            (Detection::RaisesLate, journey("attack", "alerted", "journey.latency")),
            (Detection::NotifiesNobody, journey("attack", "notified", "")),
            (Detection::LosesBenign, journey("benign", "stored", "at stage stored")),
            (Detection::RaisesForBenign, check("benign-alert", "")),
            (Detection::NeverCloses, check("alert-closed", "")),
        ],
    );
    let set = |what: Option<Detection>| {
        let rules = alerting::catalogue(what);
        engine.reload(alerting::ENGINE, &[("rules.yml", &rules)]);
        *broken.lock().expect("no panic inside") = what;
    };
    red_and_green(
        &agent,
        DETECTION,
        set,
        &[
            (Detection::LosesRule, check("engine", "rules.count")),
            (Detection::HasUnknownRule, check("engine", "rules.count")),
            (Detection::FailsRule, check("engine", "rules.failing")),
            (Detection::RaisesForBenign, check("benign-alert", "")),
        ],
    );
}

#[test]
fn partner_gates_without_their_variables_are_open_and_name_them() {
    let (_folder, plan) = folder_with("include: [ 'pack:partner-platform' ]\n");
    let output = greenlight(&["check", "-c", &plan, "--for", "1s", "-o", "json"]);
    let report: Value = serde_json::from_str(&out(&output))
        .unwrap_or_else(|error| panic!("{error}: {}", err(&output)));
    assert_eq!(report["decision"], "incomplete");
    for (gate, variables) in [
        (service::GATE, &["service_journey"][..]),
        (collectors::GATE, &collectors::VARIABLES),
        (enrichment::GATE, &["place_journey", "threat_journey", "asset_journey"]),
        (
            "partner.core.processors",
            &["consumer_lag_check", "throughput_check", "dead_letters_check"],
        ),
        (
            "partner.core.data-lake",
            &["data_lake_journey", "data_lake_check", "data_lake_recheck_journey"],
        ),
        (tenant::GATE, &["test_client_journey"]),
        (PARSERS, &["parser_journey", "parser_errors_check", "malformed_journey"]),
        (DETECTION, &["rules_check", "usecase_journey", "benign_journey", "benign_alert_check"]),
        (alerting::ALERTS, &["critical_alerts_check", "watchdog_check"]),
        (alerting::DASHBOARD, &["dashboard_journey"]),
        (
            USE_CASE,
            &["usecase_journey", "benign_journey", "benign_alert_check", "alert_closed_check"],
        ),
    ] {
        let rows = report["gates"].as_array().expect("an array");
        let row = rows.iter().find(|row| row["id"] == gate).expect("it is in the pack");
        assert_eq!(row["verdict"], "open", "{row:#}");
        let why = row["reason"]["text"].as_str().unwrap_or_default();
        for variable in variables {
            assert!(
                why.contains(&format!("set the variable {variable} "))
                    || why.contains(&format!("set the variables {variable} ")),
                "{variable}: {why}"
            );
        }
    }
}
