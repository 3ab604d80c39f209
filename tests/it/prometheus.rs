//! A real Prometheus beside a running agent: what it scrapes is what the agent says, the rules
//! that `greenlight rules` writes fire and resolve, and each gate's second opinion agrees.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{Daemon, code, err, folder_with, greenlight, out};
use crate::peers::{self, promtool};

/// Attempts, scrapes and evaluations come once a second or more often; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is this; None stands for no series.
fn until_answer(prometheus: &peers::Prometheus, query: &str, wanted: Option<&str>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let result = prometheus.query(query);
        let series = result.as_array().expect("an instant vector");
        let answer = match series.as_slice() {
            [] => None,
            [one] => one["value"][1].as_str(),
            _ => panic!("{query}: {result:#}"),
        };
        if answer == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{query}: {answer:?} instead of {wanted:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn alert(name: &str, label: &str, state: &str) -> String {
    format!("ALERTS{{alertname=\"{name}\",{label},alertstate=\"{state}\"}}")
}

fn promql_of(agent: &Daemon, gate: &str) -> String {
    let gates = agent.json("/api/v1/gates");
    let rows = gates.as_array().expect("an array");
    let row = rows.iter().find(|row| row["id"] == gate).expect("the gate is there");
    row["promql"].as_str().unwrap_or_else(|| panic!("{row:#}")).to_owned()
}

/// The samples of these families as the agent shows them: the series, and its value.
fn shown(agent: &Daemon, families: &[&str]) -> Vec<(String, f64)> {
    let (_, text) = agent.get("/metrics");
    let lines = text.lines().filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        families.contains(&name)
    });
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            (series.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

#[test]
fn prometheus_shows_what_the_agent_says_and_its_rules_fire_and_resolve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let open = listener.local_addr().expect("it has an address").port();
    let closed = peers::free_port();
    let gate = |check: &str| {
        format!(
            "{{ id: {check}.open, title: Port {check} is open, require: {{ ratio: check.success, where: {{ check: {check} }}, over: 5s, at_least: 5, above: 100% }} }}"
        )
    };
    let check = |id: &str, port: u16| {
        format!("{{ id: {id}, tcp: {{}}, targets: [ '127.0.0.1:{port}' ], every: 250ms }}")
    };
    let plan = format!(
        "node: {{ name: watched-1 }}\nnodes: [ watched-1 ]\nchecks: [ {}, {} ]\ngates: [ {}, {} ]\n",
        check("good", open),
        check("bad", closed),
        gate("good"),
        gate("bad"),
    );
    let (folder, plan) = folder_with(&plan);
    let rules = greenlight(&["rules", "-c", &plan]);
    assert_eq!(code(&rules), 0, "{}", err(&rules));
    let rules = out(&rules);
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, &rules).expect("it can be written");
    let (good, said) =
        promtool(&["check", "rules", "--lint-fatal", &file.display().to_string()], "");
    assert!(good && said.contains("5 rules found"), "{said}\n{rules}");
    // Five minutes are long for a test: the one thing of the file that is changed.
    assert_eq!(rules.matches("for: 5m").count(), 1, "{rules}");
    let rules = rules.replace("for: 5m", "for: 2s");

    let state = folder.path().join("state");
    let agent = Daemon::start(&plan, &state, &[]);
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ rules.yml ]\n\
         scrape_configs: [ {{ job_name: greenlight, static_configs: [ {{ targets: [ '{}' ] }} ] }} ]\n",
        agent.address
    );
    let prometheus = peers::prometheus(&config, &[("rules.yml", &rules)]);

    // One passes and one fails, here and there.
    agent.until_verdict("good.open", "pass", PATIENCE);
    agent.until_verdict("bad.open", "fail", PATIENCE);
    let firing = alert("GreenlightGateFailing", "gate=\"bad.open\"", "firing");
    until_answer(&prometheus, &firing, Some("1"));
    let labels = &prometheus.query(&firing)[0]["metric"];
    assert_eq!((&labels["level"], &labels["severity"]), (&"mandatory".into(), &"critical".into()));
    let never = "ALERTS{alertname=\"GreenlightGateFailing\",gate=\"good.open\"}";
    assert_eq!(prometheus.query(never), Value::Array(vec![]));
    let families = [
        "greenlight_gate_verdict",
        "greenlight_gate_value",
        "greenlight_gate_threshold",
        "greenlight_decision",
        "greenlight_check_success",
        "greenlight_node_info",
        "greenlight_plan_info",
        "greenlight_build_info",
    ];
    let shown = shown(&agent, &families);
    for family in families {
        assert!(shown.iter().any(|(series, _)| series.starts_with(family)), "{family}: {shown:?}");
    }
    for (series, value) in &shown {
        until_answer(&prometheus, series, Some(&value.to_string()));
    }
    eprintln!("prometheus: {} series agree with the agent's own", shown.len());
    // The second opinion, of raw counters.
    until_answer(&prometheus, &promql_of(&agent, "good.open"), Some("1"));
    until_answer(&prometheus, &promql_of(&agent, "bad.open"), Some("0"));

    // Mended: the alert ends, and both opinions turn.
    let _mended = TcpListener::bind(("127.0.0.1", closed)).expect("it is free");
    agent.until_verdict("bad.open", "pass", PATIENCE);
    until_answer(&prometheus, &firing, None);
    until_answer(&prometheus, &promql_of(&agent, "bad.open"), Some("1"));
    until_answer(&prometheus, "greenlight_decision", Some("0"));

    // A dead agent is an alert.
    drop(agent);
    let gone = |state| alert("GreenlightAgentGone", "node=\"watched-1\"", state);
    until_answer(&prometheus, &gone("firing"), Some("1"));
    assert_eq!(prometheus.query(never), Value::Array(vec![]), "nobody says that it fails");
}
