//! Every use case and its twin through a whole SIEM of foreign programs: the pipeline with a parser
//! and an enricher, ElastAlert 2 with a rule from a public one for each, Alertmanager, the agent's own
//! webhook receiver and a mailbox; and Prometheus with a rule of its own beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use greenlight::journey::event::Token;
use serde_json::Value;

use super::{Pipeline, Shape, topic};
use crate::command::{BINARY, Daemon, folder_with};
use crate::peers::{self, Alertmanager, ElastAlert, Mail, Process, Prometheus};
use crate::peers::{folder, free_port, get, opensearch, put};

mod content;
mod links;
mod sigma;

/// A round is given up by then; a machine that does much besides needs most of it.
const GIVE_UP: &str = "25s";
/// When all rounds have ended.
const PATIENCE: Duration = Duration::from_secs(150);

/// A pipeline that knows what its texts say and where addresses are, on an index whose fields can be
/// asked for.
fn pipeline(id: &'static str, collector_rules: String) -> Pipeline {
    let index = opensearch().at(&topic(id));
    let made = put(&index, include_str!("../../peers/pipeline/index.json"));
    assert!(made.as_ref().is_some_and(|(status, _)| *status == 200), "{made:?}");
    let peers = here().join("tests/peers/pipeline").display().to_string();
    let indexer = |text: &str| text.replace("@PEERS@", &peers);
    let shape = Shape {
        collector_rules,
        indexer_modules: indexer(include_str!("../../peers/pipeline/parser-modules.conf")),
        indexer_rules: indexer(include_str!("../../peers/pipeline/parser.conf")),
        ..Shape::default()
    };
    Pipeline::start(id, shape)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names of the use cases that come with Greenlight, each with its file's text; those that are a
/// twin alone have no alert to wait for.
fn all() -> BTreeMap<String, String> {
    let mut all = texts(&here().join("probes/usecases"), "yaml");
    all.retain(|_, text| text.contains("\nevents:\n"));
    all
}

/// Those that are a twin alone.
fn twins() -> BTreeMap<String, String> {
    let mut all = texts(&here().join("probes/usecases"), "yaml");
    all.retain(|_, text| !text.contains("\nevents:\n"));
    all
}

/// The rules of ElastAlert, by the use case that they are for.
fn rules() -> BTreeMap<String, String> {
    texts(&here().join("tests/peers/elastalert/rules"), "yaml")
}

fn texts(folder: &Path, extension: &str) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files: Vec<PathBuf> = files.flatten().map(|entry| entry.path()).collect();
    let files = files.into_iter().filter(|file| file.extension().is_some_and(|e| e == extension));
    files
        .map(|file| {
            let name = file.file_stem().expect("it has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(file).expect("it can be read"))
        })
        .collect()
}

/// The value of a key at the beginning of a line, as these files have it.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no `{key}` in {text}"))
}

/// Alertmanager with one of the configurations, for an agent at this port.
fn alertmanager(config: &str, agent: u16, mail: &Mail) -> Alertmanager {
    let config =
        config.replace("@AGENT@", &agent.to_string()).replace("@SMTP@", &mail.smtp.to_string());
    peers::alertmanager(&config)
}

/// An agent with these journeys and what is put beside its plan, whose webhook receiver is at this
/// port.
fn agent(port: u16, journeys: &str, beside: impl FnOnce(&Path)) -> (tempfile::TempDir, Daemon) {
    let (folder, plan) = folder_with(&format!("node: {{ name: n1 }}\njourneys:\n{journeys}"));
    beside(folder.path());
    let mut command = Command::new(BINARY);
    command
        .env("MAILBOX_PASSWORD", "secret")
        .args(["run", "-c", &plan, "--web.listen-address", &format!("127.0.0.1:{port}"), "--state"])
        .arg(folder.path().join("state"));
    let agent = Daemon::listening(command);
    (folder, agent)
}

/// The rows of all journeys, each as it was when its first round had ended.
fn first_rounds(agent: &Daemon, expected: usize) -> BTreeMap<String, Value> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = BTreeMap::new();
    loop {
        let rows = agent.json("/api/v1/journeys");
        for row in rows.as_array().expect("an array") {
            let id = row["id"].as_str().expect("a name");
            if row["rounds"].as_u64().is_some_and(|rounds| rounds > 0) {
                found.entry(id.to_owned()).or_insert_with(|| row.clone());
            }
        }
        if found.len() == expected {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "of {expected} journeys only these had a round: {:?}",
            found.keys()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What Prometheus counts: failed logins in a file of the collector's, by mtail.
struct Counted {
    _mtail: Process,
    _prometheus: Prometheus,
}

impl Counted {
    fn start(file: &Path, alertmanager: &str) -> Self {
        let port = free_port();
        let log = folder("mtail").join("mtail.log");
        let mut mtail = Process::start(
            "mtail",
            "mtail",
            &[
                "-progs",
                &here().join("tests/peers/siem/failed-logins.mtail").display().to_string(),
                "-logs",
                &file.display().to_string(),
                "-address",
                "127.0.0.1",
                "-port",
                &port.to_string(),
                "-logtostderr",
            ],
            &log,
        );
        let metrics = format!("http://127.0.0.1:{port}/metrics");
        mtail.wait_until(|| get(&metrics).is_some_and(|(status, _)| status == 200));
        let config = include_str!("../../peers/siem/prometheus.yml")
            .replace("@MTAIL@", &port.to_string())
            .replace("@ALERTMANAGER@", alertmanager.trim_start_matches("http://"));
        let rules = ("rules.yml", include_str!("../../peers/siem/rules.yml"));
        Self { _mtail: mtail, _prometheus: peers::prometheus(&config, &[rules]) }
    }
}

/// Where ElastAlert says what it told of.
fn elastalert_of(elastalert: &ElastAlert) -> String {
    let (url, index) = (&opensearch().url, &elastalert.index);
    format!("elastalert: {{ url: '{url}', index: {index}, rule: '{{alert}}' }}")
}

fn stage() -> String {
    format!("within: {GIVE_UP}, give_up: {GIVE_UP}, poll: 1s")
}

/// A journey of a use case through the whole of it.
fn journey(name: &str, pipeline: &Pipeline, alerted: &str, told: &str) -> String {
    let stage = stage();
    let (tcp, store, index) = (pipeline.tcp, pipeline.shape.stores[1], topic(pipeline.id));
    format!(
        "  - id: {name}\n    every: 40s\n    timeout: 20s\n    \
         send: {{ syslog: {{ to: 'tcp://127.0.0.1:{tcp}' }} }}\n    events: {{ usecase: {name} }}\n    \
         must_not_alert: true\n    stages:\n      \
         - stored: {{ opensearch: {{ url: 'http://127.0.0.1:{store}', index: {index} }}, {stage} }}\n      \
         - alerted: {{ {alerted}, {stage} }}\n      \
         - notified: {{ {told}, {stage} }}\n"
    )
}

#[test]
fn every_use_case_is_alerted_and_told_of_once_and_no_twin_is() {
    let cases = all();
    let agent_port = free_port();
    let counted = folder("failed-logins").join("auth.log");
    let mut rules: Vec<(String, String)> =
        rules().into_iter().map(|(name, text)| (format!("{name}.yaml"), text)).collect();
    rules.extend(sigma::rules());
    let imported = sigma::names();
    let mail = Mail::start();
    let alertmanager =
        alertmanager(include_str!("../../peers/siem/alertmanager.yml"), agent_port, &mail);
    let (pipeline, elastalert) = std::thread::scope(|scope| {
        let url = &alertmanager.url;
        let elastalert = scope.spawn(|| ElastAlert::start(&topic("usecases"), url, &rules));
        let to_file = format!("action(type=\"omfile\" file=\"{}\")", counted.display());
        let pipeline = pipeline("usecases", to_file);
        (pipeline, elastalert.join().expect("it starts"))
    });
    let _counted = Counted::start(&counted, &alertmanager.url);
    let mut journeys = String::new();
    for (name, text) in &cases {
        let alerted = elastalert_of(&elastalert);
        // What is grave comes by mail too.
        let told = match ["severity: high", "severity: critical"].iter().any(|s| text.contains(s)) {
            true => format!(
                "imap: {{ url: 'imap://127.0.0.1:{}', user: soc, password: {{ env: MAILBOX_PASSWORD }}, clear: true, match: {{ subject: '{{alert}}' }} }}",
                mail.imap
            ),
            false => "webhook: { from: alertmanager, match: { alertname: '{alert}' } }".to_owned(),
        };
        journeys += &journey(name, &pipeline, &alerted, &told);
    }
    for name in &imported {
        let alerted = elastalert_of(&elastalert);
        let told = "webhook: { from: alertmanager, match: { alertname: '{alert}' } }";
        journeys += &sigma::journey(name, &pipeline, &alerted, told);
    }
    journeys += &format!(
        "  - id: counted\n    every: 40s\n    timeout: 20s\n    send: {{ {} }}\n    \
         events: {{ count: 12, host: canary-web-1, app: sshd, message: 'Failed password for {{user}} from 203.0.113.200 port {{port}} ssh2 [{{token}}]' }}\n    \
         stages:\n      \
         - alerted: {{ alertmanager: {{ url: '{url}', match: {{ alertname: FailedLogins, source: 203.0.113.200 }} }}, within: {GIVE_UP}, give_up: {GIVE_UP}, exactly: 1 }}\n      \
         - notified: {{ webhook: {{ from: alertmanager, match: {{ alertname: FailedLogins, source: 203.0.113.200 }} }}, within: {GIVE_UP}, give_up: {GIVE_UP} }}\n",
        pipeline.by_tcp(),
        url = alertmanager.url,
    );
    let (_folder, agent) =
        agent(agent_port, &journeys, |beside| sigma::import(&beside.join("usecases")));
    let rows = first_rounds(&agent, cases.len() + imported.len() + 1);
    let right =
        |(id, row): (&String, &Value)| is_clean(row) && (*id == "counted" || is_spared(row));
    let wrong: Vec<_> = rows.iter().filter(|row| !right(*row)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}\n{}", elastalert.told(), elastalert.last_words());
    drop(agent);
    let expected = rules
        .iter()
        .map(|(file, text)| (file.replace(".yaml", ""), value(text, "name").to_owned()));
    only_what_was_expected(&elastalert, &expected.collect(), &rows);
}

/// All events at all stages, once each.
fn is_clean(row: &Value) -> bool {
    let stages = row["stages"].as_array().expect("stages");
    row["first_failing_stage"].is_null()
        && stages.iter().all(|stage| {
            stage["duplicate"] == 0
                && stage["expected"].as_u64().is_some_and(|expected| expected > 0)
                && stage["fates"]["ok"] == stage["expected"]
        })
}

/// The twin got there, and brought nothing about.
fn is_spared(row: &Value) -> bool {
    let stages = row["stages"].as_array().expect("stages");
    let watched = stages.iter().filter(|stage| {
        let twin = &stage["twin"];
        twin["rounds"] == 1 && twin["inconclusive"] == 0 && twin["false_alarms"] == 0
    });
    watched.count() == 2
}

/// The round of a match: its field, or the token in the text where the event has no fields.
fn run_of(of: &Value) -> String {
    let field = of["greenlight.run"].as_str().filter(|run| !run.is_empty());
    let text = of["message"].as_str().unwrap_or_default();
    let token = Token::find_all(text).next().map(|token| token.run.to_string());
    field.map(str::to_owned).or(token).unwrap_or_else(|| panic!("no run in {of:#}"))
}

/// As ElastAlert itself says: the rule of each case told of the case's round once, and no rule of
/// anything else but of rounds that began later.
fn only_what_was_expected(
    elastalert: &ElastAlert,
    expected: &BTreeMap<String, String>,
    rows: &BTreeMap<String, Value>,
) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let at = |value: &Value| -> jiff::Timestamp { text(value).parse().expect("a time") };
    let mut told: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut when = BTreeMap::new();
    for alert in elastalert.told() {
        let of = &alert["match_body"];
        let (rule, run) = (text(&alert["rule_name"]), run_of(of));
        when.insert((rule.clone(), run.clone()), at(&of["@timestamp"]));
        *told.entry((rule, run)).or_default() += 1;
        assert_eq!(alert["alert_sent"], true, "{alert:#}");
    }
    for (case, rule) in expected {
        let own = &rows[case]["specimen"];
        assert_eq!(told.remove(&(rule.clone(), text(&own["run"]))), Some(1), "{case}: {told:#?}");
        // A twin's events are sent beside the round's, which takes seconds; the next round is sent
        // half a minute later.
        let later = at(&own["sent_at"]) + jiff::SignedDuration::from_secs(20);
        let early = told.keys().find(|key| key.0 == *rule && when[*key] < later);
        assert_eq!(early, None, "{case}: {told:#?}");
    }
}
