//! "Metrics every agent has": names, labels and values, read by a strict reader; and the alert
//! rules made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Flaw, closed_port, journey, open_port, platform};
use crate::command::{Daemon, code, err, folder_with, greenlight, out};

type Labels = BTreeMap<String, String>;

/// One scrape in the text format, read as strictly as its description reads.
struct Scrape {
    types: BTreeMap<String, String>,
    samples: Vec<(String, Labels, f64)>,
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// The labels between braces, and what stands after them.
fn labels(text: &str) -> (Labels, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Labels::new(), text) };
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let (name, after) = rest.split_once("=\"").expect("a label and its value");
        assert!(is_name(name) && !name.contains(':'), "{text}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("the value ends") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("an escape").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    other => panic!("the escape \\{other}: {text}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "a label twice: {text}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn read(text: &str) -> Scrape {
    assert!(text.ends_with('\n'));
    let mut scrape = Scrape { types: BTreeMap::new(), samples: Vec::new() };
    let mut family = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().expect("a word"), words.next().expect("a name"));
            assert!(is_name(name), "{line}");
            match what {
                "HELP" => assert!(words.next().is_some_and(|help| !help.is_empty()), "{line}"),
                "TYPE" => {
                    let kind = words.next().expect("a type").to_owned();
                    assert!(["counter", "gauge", "histogram"].contains(&&*kind), "{line}");
                    assert!(scrape.types.insert(name.to_owned(), kind).is_none(), "{line}");
                    name.clone_into(&mut family);
                }
                other => panic!("{other}: {line}"),
            }
            continue;
        }
        let end = line.find(['{', ' ']).expect("a name and a value");
        let name = &line[..end];
        assert!(is_name(name), "{line}");
        let own = name.strip_prefix(&*family).unwrap_or_else(|| panic!("no family: {line}"));
        assert!(["", "_bucket", "_sum", "_count"].contains(&own), "{line}");
        let (labels, rest) = labels(&line[end..]);
        let value = rest.strip_prefix(' ').expect("a blank");
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(seen.insert((name.to_owned(), labels.clone())), "a sample twice: {line}");
        scrape.samples.push((name.to_owned(), labels, value));
    }
    scrape
}

impl Scrape {
    fn of(&self, name: &str) -> Vec<(&Labels, f64)> {
        let own = self.samples.iter().filter(|(other, _, _)| other == name);
        own.map(|(_, labels, value)| (labels, *value)).collect()
    }

    fn value(&self, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let fits = |labels: &Labels| {
            wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|own| own == value))
        };
        let found: Vec<f64> =
            self.of(name).into_iter().filter(|(l, _)| fits(l)).map(|(_, v)| v).collect();
        assert!(found.len() < 2, "{name} {wanted:?} is there {} times", found.len());
        found.first().copied()
    }
}

fn plan() -> String {
    format!(
        "node: {{ name: n1 }}\n\
         checks:\n\
         - {{ id: up, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 200ms }}\n\
         - {{ id: down, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 200ms }}\n\
         - {{ id: blind, http: {{ auth: {{ bearer: {{ file: FILE }} }} }}, targets: [ 'http://127.0.0.1:{}/' ], every: 200ms }}\n\
         {}\
         gates:\n\
         - {{ id: g.pass, require: {{ p99: tcp.connect, where: {{ check: up }}, over: 1s, at_least: 3, below: 5s, warn: 4s }} }}\n\
         - {{ id: g.fail, level: optional, require: {{ ratio: check.success, where: {{ check: down }}, over: 1s, at_least: 3, above: 99% }} }}\n\
         - {{ id: g.error, require: {{ ratio: check.success, where: {{ check: blind }}, over: 1s, at_least: 3, above: 99% }} }}\n\
         - {{ id: g.open, require: {{ missing: nobody measures it }} }}\n\
         - {{ id: g.not_applicable, when: {{ fact: architecture, equals: abacus }}, require: {{ missing: x }} }}\n",
        open_port(),
        closed_port(),
        open_port(),
        journey(platform(Flaw::Repeats(1)))
    )
}

#[test]
fn contract_every_agent_has_its_metrics_with_exactly_their_labels() {
    let (folder, file) = folder_with("");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s").expect("written");
    let text = plan().replace("FILE", &secret.display().to_string());
    std::fs::write(&file, &text).expect("written");
    let daemon = Daemon::start(&file, &folder.path().join("state"), &[]);
    // From now on nobody can say whether the third check would succeed.
    let within = Duration::from_secs(20);
    let until = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + within;
        while !done() {
            assert!(std::time::Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let blind = |name: &str| daemon.metric(name, &["\"blind\""]);
    until("a success first", &|| blind("greenlight_check_success") == Some(1.0));
    std::fs::remove_file(&secret).expect("it was there");
    until("then nothing", &|| blind("greenlight_check_success").is_none());
    until("the journey's round", &|| {
        daemon.metric("greenlight_journey_duplicates_total", &["stored"]) >= Some(1.0)
    });
    daemon.until_verdict("g.pass", "pass", within);
    daemon.until_verdict("g.fail", "fail", within);
    daemon.until_verdict("g.error", "error", within);
    let digest = daemon.json("/api/v1/plan")["digest"].as_str().expect("a text").to_owned();
    let scrape = read(&daemon.get("/metrics").1);

    let exact: [(&str, &str, &[&str]); 17] = [
        ("greenlight_gate_verdict", "gauge", &["gate", "level"]),
        ("greenlight_gate_value", "gauge", &["gate"]),
        ("greenlight_gate_threshold", "gauge", &["gate", "severity"]),
        ("greenlight_gate_samples", "gauge", &["gate"]),
        ("greenlight_decision", "gauge", &[]),
        ("greenlight_check_success", "gauge", &["check", "target"]),
        ("greenlight_check_duration_seconds", "gauge", &["check", "target"]),
        ("greenlight_check_failures_total", "counter", &["check", "reason", "target"]),
        ("greenlight_check_inconclusive_total", "counter", &["check", "fault", "target"]),
        ("greenlight_check_last_attempt_timestamp_seconds", "gauge", &["check", "target"]),
        ("greenlight_journey_events_total", "counter", &["fate", "journey", "stage"]),
        ("greenlight_journey_duplicates_total", "counter", &["journey", "stage"]),
        ("greenlight_journey_resurrected_total", "counter", &["journey", "stage"]),
        ("greenlight_journey_last_round_timestamp_seconds", "gauge", &["journey"]),
        ("greenlight_node_info", "gauge", &["node"]),
        ("greenlight_plan_info", "gauge", &["digest"]),
        ("greenlight_plan_reload_success", "gauge", &[]),
    ];
    for (name, kind, names) in exact {
        assert_eq!(scrape.types.get(name).map(String::as_str), Some(kind), "{name}");
        let samples = scrape.of(name);
        assert!(!samples.is_empty(), "{name} has no sample");
        for (labels, _) in samples {
            assert_eq!(labels.keys().collect::<Vec<_>>(), names, "{name}");
        }
    }
    assert_eq!(scrape.types["greenlight_journey_stage_latency_seconds"], "histogram");
    for part in ["_sum", "_count"] {
        let name = format!("greenlight_journey_stage_latency_seconds{part}");
        assert!(scrape.of(&name).iter().all(|(l, _)| l.keys().eq(["journey", "stage"])));
        assert!(!scrape.of(&name).is_empty());
    }
    let build = scrape.of("greenlight_build_info");
    assert_eq!(build.len(), 1);
    assert_eq!(build[0].0.get("version").map(String::as_str), Some(env!("CARGO_PKG_VERSION")));

    for (gate, level, number) in [
        ("g.pass", "mandatory", 0.0),
        ("g.not_applicable", "conditional", 1.0),
        ("g.open", "mandatory", 4.0),
        ("g.error", "mandatory", 5.0),
        ("g.fail", "optional", 6.0),
    ] {
        let labels = [("gate", gate), ("level", level)];
        assert_eq!(scrape.value("greenlight_gate_verdict", &labels), Some(number), "{gate}");
    }
    assert_eq!(scrape.value("greenlight_decision", &[]), Some(2.0), "incomplete");
    let threshold = |gate: &str, severity: &str| {
        scrape.value("greenlight_gate_threshold", &[("gate", gate), ("severity", severity)])
    };
    assert_eq!(threshold("g.pass", "fail"), Some(5.0));
    assert_eq!(threshold("g.pass", "warn"), Some(4.0));
    assert_eq!(threshold("g.fail", "fail"), Some(0.99));
    assert_eq!(threshold("g.fail", "warn"), None);
    assert_eq!(threshold("g.open", "fail"), None);
    assert_eq!(scrape.value("greenlight_gate_value", &[("gate", "g.open")]), None);
    assert_eq!(scrape.value("greenlight_gate_value", &[("gate", "g.fail")]), Some(0.0));
    assert!(scrape.value("greenlight_gate_samples", &[("gate", "g.pass")]) >= Some(3.0));

    let check = |name: &str, check: &str| scrape.value(name, &[("check", check)]);
    assert_eq!(check("greenlight_check_success", "up"), Some(1.0));
    assert_eq!(check("greenlight_check_success", "down"), Some(0.0));
    assert_eq!(check("greenlight_check_success", "blind"), None);
    let down = [("check", "down"), ("reason", "refused")];
    assert!(scrape.value("greenlight_check_failures_total", &down) >= Some(3.0));
    let blind = [("check", "blind"), ("fault", "unreadable")];
    assert!(scrape.value("greenlight_check_inconclusive_total", &blind) >= Some(1.0));
    for name in ["up", "down", "blind"] {
        let at = check("greenlight_check_last_attempt_timestamp_seconds", name);
        assert!(at.is_some_and(|seconds| seconds > 1_600_000_000.0), "{at:?}");
        let took = check("greenlight_check_duration_seconds", name);
        assert!(took.is_some_and(|seconds| (0.0..5.0).contains(&seconds)), "{took:?}");
    }
    assert_eq!(scrape.value("greenlight_plan_info", &[("digest", &digest)]), Some(1.0));
    assert_eq!(scrape.value("greenlight_plan_reload_success", &[]), Some(1.0));
    // Every fate is there from the first scrape on, so that an increase is seen.
    let fates = scrape.of("greenlight_journey_events_total");
    assert_eq!(fates.len(), 3 * 11, "three stages, each fate");

    // Another level, no warning, another name: what was true before is gone.
    std::fs::write(&secret, "s").expect("written");
    std::fs::write(
        &file,
        text.replace("id: g.fail, level: optional", "id: g.fail, level: mandatory")
            .replace(", warn: 4s", "")
            .replace("name: n1", "name: n2"),
    )
    .expect("written");
    daemon.signal(Signal::SIGHUP);
    until("the new plan", &|| daemon.metric("greenlight_node_info", &["n2"]).is_some());
    let scrape = read(&daemon.get("/metrics").1);
    assert_eq!(scrape.of("greenlight_node_info").len(), 1);
    assert_eq!(scrape.of("greenlight_plan_info").len(), 1);
    let levels: Vec<_> = scrape
        .of("greenlight_gate_verdict")
        .into_iter()
        .filter(|(labels, _)| labels["gate"] == "g.fail")
        .map(|(labels, _)| labels["level"].clone())
        .collect();
    assert_eq!(levels, ["mandatory"]);
    let warn = [("gate", "g.pass"), ("severity", "warn")];
    assert_eq!(scrape.value("greenlight_gate_threshold", &warn), None);

    // What is served as OpenMetrics says so, and ends as it must.
    let mut answer = ureq::get(format!("http://{}/metrics", daemon.address))
        .header("accept", "application/openmetrics-text; version=1.0.0")
        .call()
        .expect("it answers");
    let content = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(content.starts_with("application/openmetrics-text; version=1.0.0"), "{content}");
    let open = answer.body_mut().read_to_string().expect("text");
    assert!(open.ends_with("# EOF\n"));
    assert!(open.contains("# TYPE greenlight_check_failures counter"), "without _total");
    let (status, said) = daemon.end(Signal::SIGINT);
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn contract_promtool_takes_what_a_running_agent_exports() {
    let (folder, file) = folder_with("");
    let text = plan().replace("FILE", "/no/such/secret").replace("- { id: blind", "- { id: blind2");
    let text: String =
        text.lines().filter(|l| !l.contains("blind")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&file, text).expect("written");
    let daemon = Daemon::start(&file, &folder.path().join("state"), &[]);
    daemon.until_verdict("g.fail", "fail", Duration::from_secs(20));
    let (fine, said) = crate::peers::promtool(&["check", "metrics"], &daemon.get("/metrics").1);
    assert!(fine && said.trim().is_empty(), "{said}");
}

#[test]
fn contract_rules_cover_each_gate_and_each_node() {
    let (_folder, plan) = folder_with(
        "nodes: [ n1, n2 ]\n\
         checks: [ { id: c, tcp: {}, targets: [ 'h:1' ], every: 15s } ]\n\
         gates:\n\
         - { id: g.one, require: { ratio: check.success, over: 1m, above: 99% } }\n\
         - { id: g.two, level: optional, require: { missing: x } }\n",
    );
    let output = greenlight(&["rules", "-c", &plan]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let rules = out(&output).replace("\\\"", "\"");
    let file = std::path::Path::new(&plan).with_file_name("rules.yml");
    std::fs::write(&file, output.stdout).expect("written");
    let (fine, said) = crate::peers::promtool(&["check", "rules", &file.display().to_string()], "");
    assert!(fine, "{said}");
    for gate in ["g.one", "g.two"] {
        assert!(rules.matches(gate).count() >= 2, "failing and not judged: {rules}");
    }
    for node in ["n1", "n2"] {
        assert!(rules.contains(&format!("greenlight_node_info{{node=\"{node}\"}}")), "{rules}");
    }
    assert!(rules.contains("absent("), "a vanished agent is an alert: {rules}");
    assert!(rules.contains("greenlight_check_last_attempt_timestamp_seconds{check=\"c\"}) > 45"));
}

#[test]
fn contract_a_gate_that_fills_its_window_is_no_alert_yet() {
    let plan = "journeys:\n  - id: j\n    every: 1m\n    send: { file: { path: /tmp/j.log } }\n    \
                stages: [ { stored: { file: { path: /tmp/j.log }, within: 10m, give_up: 20m } } ]\n\
                gates: [ { id: g, require: { loss: j, over: 5m, below: 1% } } ]\n";
    let (_folder, file) = folder_with(plan);
    let rules = out(&greenlight(&["rules", "-c", &file]));
    let waits: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("for: ")).collect();
    // Open for the window, one interval and `give_up`, after each start; the second is the agent's.
    assert_eq!(waits, ["28m", "5m"], "{rules}");
}
