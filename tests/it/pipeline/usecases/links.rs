//! Each link between the store and the person broken, all at once and each for a journey of its own:
//! the journey names exactly that stage, and why. And deadlines that follow from the rule.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use serde_json::{Value, json};

use super::{GIVE_UP, agent, alertmanager, first_rounds, is_clean, pipeline};
use crate::machine::until;
use crate::peers::{ElastAlert, Mail, free_port, opensearch, post};
use crate::pipeline::{Pipeline, WARM, connect, topic};

/// A journey with a rule, and mostly a way of Alertmanager's, of its own.
struct Link {
    id: &'static str,
    alerted: By,
    notified: By,
    /// None where nothing is broken.
    broken: Option<Broken>,
}

#[derive(Clone, Copy)]
enum By {
    ElastAlert,
    Alertmanager,
    Webhook,
    /// Whose mailbox.
    Mail(&'static str),
}

/// What the journey must say.
#[derive(Clone, Copy)]
struct Broken {
    stage: &'static str,
    /// The fate of the round's alert or notification; none where there are too many of them.
    fate: Option<&'static str>,
    says: &'static str,
}

const fn lost(stage: &'static str, says: &'static str) -> Option<Broken> {
    Some(Broken { stage, fate: Some("lost"), says })
}

const fn suppressed(says: &'static str) -> Option<Broken> {
    Some(Broken { stage: "alerted", fate: Some("misparsed"), says })
}

const fn twice(stage: &'static str) -> Option<Broken> {
    Some(Broken { stage, fate: None, says: "" })
}

const fn alarmed(says: &'static str) -> Option<Broken> {
    Some(Broken { stage: "alerted", fate: Some("ok"), says })
}

const fn link(id: &'static str, alerted: By, notified: By, broken: Option<Broken>) -> Link {
    Link { id, alerted, notified, broken }
}

const fn held(says: &'static str) -> Option<Broken> {
    Some(Broken { stage: "alerted", fate: Some(NOT_EXPECTED), says })
}

/// In place of a fate: nothing is expected, and nothing came.
const NOT_EXPECTED: &str = "none";
/// So often the rules run, as the plan says of ElastAlert, which has no API: a machine that does much
/// besides included.
const RUNS: &str = "4s";
/// Journeys whose alert is due when its rule says so; those with copies at the edges of its look-back.
const RULED: [&str; 3] = ["edges", "deep", "held"];
const EDGES: [&str; 2] = ["edges", "deep"];

const LINKS: [Link; 18] = [
    link("whole", By::Alertmanager, By::Webhook, None),
    link("mail", By::ElastAlert, By::Mail("soc"), None),
    link("disabled", By::ElastAlert, By::Webhook, lost("alerted", "the rule did not run")),
    link("field", By::ElastAlert, By::Webhook, lost("alerted", "over 0 hits with 0 matches")),
    link("throttled", By::ElastAlert, By::Webhook, lost("alerted", "the rule is silenced until")),
    link("twofold", By::Alertmanager, By::Webhook, twice("alerted")),
    link("silenced", By::Alertmanager, By::Webhook, suppressed("is silenced")),
    link("resolved", By::Alertmanager, By::Webhook, None),
    link("open", By::Alertmanager, By::Webhook, suppressed("it came and was not resolved within")),
    link("inhibited", By::Alertmanager, By::Webhook, suppressed("is inhibited")),
    link("unrouted", By::ElastAlert, By::Webhook, lost("notified", "")),
    link("full", By::ElastAlert, By::Mail("full"), lost("notified", "")),
    link("refused", By::ElastAlert, By::Webhook, lost("notified", "")),
    link("again", By::ElastAlert, By::Webhook, twice("notified")),
    link("wide", By::ElastAlert, By::Webhook, alarmed("unexpected alert for the benign twin")),
    link("edges", By::ElastAlert, By::Webhook, None),
    link("deep", By::ElastAlert, By::Webhook, alarmed("the rule looks back further than it says")),
    link("held", By::ElastAlert, By::Webhook, held("is silenced until")),
];

/// A rule for each: sudo that was asked for the user -1 by the journey's own user; one asks for any
/// number, as the twin does.
fn rules() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for Link { id, .. } in &LINKS {
        let (field, more) = match *id {
            "disabled" => ("user.name", "is_enabled: false"),
            "field" => ("user", ""),
            "resolved" => ("user.name", "alertmanager_resolve_time: { seconds: 15 }"),
            "throttled" | "held" => ("user.name", "realert: { minutes: 30 }"),
            "deep" => (
                "user.name",
                "alertmanager_fields: { run: greenlight.run }\nbuffer_time: { minutes: 10 }",
            ),
            // Alertmanager keeps one of two alerts with the same labels.
            "wide" | "edges" => ("user.name", "alertmanager_fields: { run: greenlight.run }"),
            _ => ("user.name", ""),
        };
        let user = if *id == "wide" { "#" } else { "#-" };
        let rule = |name: &str| {
            format!(
                "import: ../base.yaml\nname: {name}\ntype: any\nfilter:\n\
                 - prefix: {{ sudo.user: '{user}' }}\n- term: {{ {field}: canary-{id} }}\n\
                 alertmanager_alertname: link-{id}\n{more}\n"
            )
        };
        all.push((format!("{id}.yaml"), rule(&format!("link-{id}"))));
        if *id == "twofold" {
            all.push((format!("{id}-again.yaml"), rule("another's rule of the same")));
        }
    }
    all
}

/// Takes every notification, and says that it can't.
fn refusing() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    port
}

/// What a rule that is throttled tells of before the round.
fn forerunner(id: &str, pipeline: &Pipeline) {
    let now = jiff::Timestamp::now();
    let line = format!(
        "<134>1 {now:.6} canary-web-1 sudo - - [greenlight@32473 run=\"{WARM}\" stream=\"main\" seq=\"0\" crc=\"0\"] canary-{id} : TTY=pts/1 ; PWD=/ ; USER=#-1 ; COMMAND=/usr/bin/id"
    );
    let mut stream = connect(pipeline.tcp).expect("it listens");
    write!(stream, "{} {line}", line.len()).expect("it takes it");
}

fn journey(link: &Link, pipeline: &Pipeline, elastalert: &str, alerts: &str, imap: u16) -> String {
    let id = link.id;
    let by = |by| match by {
        By::ElastAlert => format!(
            "elastalert: {{ url: '{}', index: {elastalert}, rule: link-{id} }}",
            opensearch().url
        ),
        By::Alertmanager => {
            format!("alertmanager: {{ url: '{alerts}', match: {{ alertname: link-{id} }} }}")
        }
        By::Webhook => {
            format!("webhook: {{ from: alertmanager, match: {{ alertname: link-{id} }} }}")
        }
        By::Mail(user) => format!(
            "imap: {{ url: 'imap://127.0.0.1:{imap}', user: {user}, password: {{ env: MAILBOX_PASSWORD }}, clear: true, match: {{ subject: link-{id} }} }}"
        ),
    };
    let stage = format!("within: {GIVE_UP}, give_up: {GIVE_UP}, poll: 1s");
    // An event is there within 15 s, and its alert 4 + 8 s later.
    let given = match id {
        "deep" => format!("{{ every: {RUNS}, look_back: 1m }}"),
        "held" => "{}".to_owned(),
        _ => format!("{{ every: {RUNS} }}"),
    };
    let (before, alert, told) = match RULED.contains(&id) {
        true => (
            "within: 15s, give_up: 32s, poll: 1s".to_owned(),
            format!("within: rule + 8s, give_up: 32s, rule: {given}, poll: 1s"),
            "within: rule + 8s, give_up: 32s, poll: 1s".to_owned(),
        ),
        false => {
            // Alertmanager itself lets an alert go after five minutes.
            let resolved = match id {
                "resolved" => ", resolved: 60s",
                "open" => ", resolved: 5s",
                _ => "",
            };
            (stage.clone(), format!("{stage}{resolved}"), format!("{stage}{resolved}"))
        }
    };
    let timeout = if RULED.contains(&id) { "15s" } else { "20s" };
    let edges = if EDGES.contains(&id) { "edges: true" } else { "" };
    let (store, index) = (pipeline.shape.stores[1], topic(pipeline.id));
    let twin = if id == "wide" { "must_not_alert: true" } else { "" };
    format!(
        "  - id: {id}\n    every: 40s\n    timeout: {timeout}\n    send: {{ {} }}\n    \
         events: {{ usecase: privilege-escalation, vars: {{ user: canary-{id} }} }}\n    {twin}\n    {edges}\n    stages:\n      \
         - stored: {{ opensearch: {{ url: 'http://127.0.0.1:{store}', index: {index} }}, {before} }}\n      \
         - alerted: {{ {}, {alert} }}\n      - notified: {{ {}, {told} }}\n",
        pipeline.by_tcp(),
        by(link.alerted),
        by(link.notified),
    )
}

#[test]
fn each_broken_link_behind_the_store_is_named_by_its_stage_and_why() {
    let agent_port = free_port();
    let mail = Mail::start();
    let config = include_str!("../../../peers/siem/links.yml")
        .replace("@REFUSING@", &refusing().to_string());
    let alertmanager = alertmanager(&config, agent_port, &mail);
    let (pipeline, elastalert) = thread::scope(|scope| {
        let url = &alertmanager.url;
        let elastalert = scope.spawn(|| ElastAlert::start(&topic("links"), url, &rules()));
        let pipeline = pipeline("links", String::new());
        (pipeline, elastalert.join().expect("it starts"))
    });
    let tell = |path: &str, what: Value| {
        let url = format!("{}/api/v2/{path}", alertmanager.url);
        let answer = post(&url, "application/json", &what.to_string());
        assert!(answer.as_ref().is_some_and(|(status, _)| *status == 200), "{answer:?}");
    };
    let (since, long) = ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    tell(
        "silences",
        json!({
            "matchers": [{"name": "alertname", "value": "link-silenced", "isRegex": false, "isEqual": true}],
            "startsAt": since, "endsAt": long, "createdBy": "a test", "comment": "a test",
        }),
    );
    tell("alerts", json!([{"labels": {"alertname": "maintenance"}, "endsAt": long}]));
    let throttled = ["throttled", "held"];
    throttled.iter().for_each(|id| forerunner(id, &pipeline));
    until("the alerts that throttle the next", || {
        let told = elastalert.told();
        let of = |id: &&str| told.iter().any(|alert| alert["rule_name"] == format!("link-{id}"));
        throttled.iter().all(of)
    });
    // A rule of which no run is written down is not known yet to who asks for its timing.
    until("a run of each rule that is asked for", || {
        ["edges", "deep", "held"].iter().all(|id| elastalert.has_run(&format!("link-{id}")))
    });
    let journeys: String = LINKS
        .iter()
        .map(|link| journey(link, &pipeline, &elastalert.index, &alertmanager.url, mail.imap))
        .collect();
    let (_folder, agent) = agent(agent_port, &journeys, |_| {});
    let rows = first_rounds(&agent, LINKS.len());
    let wrong: Vec<_> =
        LINKS.iter().filter(|link| !is_named(&rows[link.id], link.broken)).collect();
    let wrong: Vec<_> = wrong.iter().map(|link| (link.id, &rows[link.id])).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", elastalert.last_words());
}

/// Whether the row says this, and nothing against the stages before.
fn is_named(row: &Value, broken: Option<Broken>) -> bool {
    let stages = row["stages"].as_array().expect("stages");
    // Copies at the edges, where they are sent, got there, and those inside alerted.
    let edges = stages.iter().map(|row| &row["edges"]).find(|edges| !edges.is_null());
    if edges.is_some_and(|edges| edges["rounds"] != 1 || edges["missed"] != 0) {
        return false;
    }
    let Some(Broken { stage, fate, says }) = broken else {
        return is_clean(row) && edges.is_none_or(|edges| edges["beyond"] == 0);
    };
    let place = stages.iter().position(|row| row["name"] == stage).expect("it is there");
    let broken = &stages[place];
    let clean = |row: &Value| row["duplicate"] == 0 && row["fates"]["ok"] == row["expected"];
    let counted = match fate {
        Some(NOT_EXPECTED) => broken["duplicate"] == 0 && broken["expected"] == 0,
        Some(fate) => broken["duplicate"] == 0 && broken["fates"][fate] == broken["expected"],
        None => broken["duplicate"] == 1 && broken["fates"]["ok"] == broken["expected"],
    };
    // Two where one was due are counted beside the fates, and fail their stage all the same.
    let failing = if fate == Some(NOT_EXPECTED) { Value::Null } else { stage.into() };
    row["first_failing_stage"] == failing
        && stages[..place].iter().all(clean)
        && counted
        && [&broken["reason"], &broken["rule"]]
            .iter()
            .any(|why| says.is_empty() || why.as_str().is_some_and(|why| why.contains(says)))
}
