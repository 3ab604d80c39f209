//! What keeps a platform safe from its own proof: hours in which nothing disturbs it, one node that
//! asks for the whole fleet, and a budget for synthetic traffic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::command::{Daemon, code, err, folder_with, greenlight, out};

/// The name of a day that is neither today nor next to it, in UTC.
fn another_day() -> &'static str {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from((days + 3) % 7).unwrap()]
}

fn gate(document: &Value, id: &str) -> Value {
    let rows = document["gates"].as_array().unwrap();
    rows.iter().find(|row| row["id"] == id).unwrap().clone()
}

#[test]
fn nothing_runs_outside_its_allowed_times_and_its_gates_are_open() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let plan = |times: &str| {
        format!(
            "checks:\n- {{ id: disturbing, tcp: {{}}, targets: [ '{at}' ], every: 200ms, allowed_times: [ '{times}' ] }}\n\
             journeys:\n- id: noisy\n  every: 1s\n  allowed_times: [ '{times}' ]\n  send: {{ syslog: {{ to: 'tcp://{at}' }} }}\n  stages: [ {{ notified: {{ webhook: {{}}, within: 1s }} }} ]\n\
             gates:\n- {{ id: port, require: {{ ratio: check.success, where: {{ check: disturbing }}, over: 1s, above: 99% }} }}\n\
             - {{ id: journey, require: {{ complete: noisy, over: 2s, above: 100% }} }}\n"
        )
    };
    let (folder, file) = folder_with(&plan(&format!("{} 00:00-24:00", another_day())));
    let state = folder.path().join("state");
    let daemon = Daemon::start(&file, &state, &[]);
    std::thread::sleep(Duration::from_secs(3));
    let document = daemon.json("/api/v1/ledger");
    for id in ["port", "journey"] {
        let row = gate(&document, id);
        assert_eq!(row["verdict"], "open", "{row:#}");
        assert_eq!(row["reason"]["code"], "outside_allowed_times", "{row:#}");
        let text = row["reason"]["text"].as_str().unwrap();
        assert!(text.contains(another_day()) && text.contains("UTC"), "{text}");
    }
    assert!(listener.accept().is_err(), "something came outside the allowed times");
    // Nothing was missed, for nothing was due.
    assert_eq!(daemon.metric("greenlight_scheduler_missed_ticks_total", &[]), Some(0.0));

    // The same plan at any time: it does come.
    std::fs::write(&file, plan("00:00-24:00")).unwrap();
    assert_eq!(daemon.post("/-/reload").0, 200);
    daemon.until_verdict("port", "pass", Duration::from_secs(60));
    assert!(listener.accept().is_ok());

    let (_folder, file) = folder_with(&plan(another_day()));
    for id in ["disturbing", "noisy"] {
        let seen = greenlight(&["once", id, "-c", &file]);
        assert_eq!(code(&seen), 2, "{}", err(&seen));
        assert!(err(&seen).contains("--any-time"), "{}", err(&seen));
    }
    let seen = greenlight(&["once", "disturbing", "--any-time", "-c", &file]);
    assert_eq!(code(&seen), 0, "{}", err(&seen));
    let shown = out(&greenlight(&["plan", "-c", &file]));
    assert!(shown.contains(&format!("disturbing, only {} UTC", another_day())), "{shown}");

    let (_folder, file) = folder_with(&plan("22-06"));
    let refused = greenlight(&["plan", "-c", &file]);
    assert_eq!(code(&refused), 78);
    assert!(err(&refused).contains("Mon-Fri 22:00-06:00"), "{}", err(&refused));
}

#[test]
fn one_node_of_the_fleet_asks_for_all_and_the_others_say_which() {
    let names = ["n1", "n2", "n3"];
    let either = |other: &str| {
        format!(
            "- {{ id: query-or-{other}, level: optional, require: {{ any: [ {{ ratio: check.success, where: {{ check: query }}, over: 1s, above: 99% }}, \
             {{ ratio: check.success, where: {{ check: {other} }}, over: 1s, above: 99% }} ] }} }}\n"
        )
    };
    let mut askers = Vec::new();
    let mut same: Vec<(String, String, String)> = Vec::new();
    for name in names {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (folder, file) = folder_with(&format!(
            "node: {{ name: {name} }}\nnodes: [ n1, n2, n3 ]\n\
             checks:\n- {{ id: query, tcp: {{}}, targets: [ '${{at}}' ], every: 200ms, shared: true }}\n\
             - {{ id: own, tcp: {{}}, targets: [ '${{at}}' ], every: 200ms }}\n\
             - {{ id: shut, tcp: {{}}, targets: [ '127.0.0.1:1' ], every: 200ms }}\n\
             gates:\n- {{ id: shared, require: {{ ratio: check.success, where: {{ check: query }}, over: 1s, above: 99% }} }}\n\
             - {{ id: own, require: {{ ratio: check.success, where: {{ check: own }}, over: 1s, above: 99% }} }}\n{}{}",
            either("own"),
            either("shut")
        ));
        let at = format!("at={}", listener.local_addr().unwrap());
        let state = folder.path().join("state").display().to_string();
        let seen = greenlight(&[
            "check", "-c", &file, "--state", &state, "--var", &at, "--for", "30s", "-o", "json",
        ]);
        assert_eq!(code(&seen), 0, "{}", err(&seen));
        let document: Value = serde_json::from_str(&out(&seen)).unwrap();
        assert_eq!(gate(&document, "own")["verdict"], "pass");
        let row = gate(&document, "shared");
        assert_eq!(gate(&document, "query-or-own")["verdict"], "pass");
        // Who asks knows; to another it is open, whatever its own part says.
        let either = gate(&document, "query-or-shut");
        match row["verdict"].as_str().unwrap() {
            "pass" => {
                assert_eq!(either["verdict"], "pass", "{either:#}");
                askers.push((name, None));
            }
            "not_applicable" => {
                assert_eq!(either["verdict"], "open", "{either:#}");
                assert_eq!(either["reason"]["code"], "elsewhere");
                assert_eq!(row["reason"]["code"], "elsewhere");
                let text = row["reason"]["text"].as_str().unwrap().to_owned();
                askers.push((name, text.split(' ').next().map(str::to_owned)));
            }
            other => panic!("{name}: {other}: {row:#}"),
        }
        // Who runs it is no part of what is done.
        let fixed = ["--var", "at=127.0.0.1:1"];
        let plan = |command: &str, more: &[&str]| {
            let arguments = [&[command, "-c", &file][..], &fixed, more].concat();
            out(&greenlight(&arguments))
        };
        let shown: Value = serde_json::from_str(&plan("plan", &["-o", "json"])).unwrap();
        same.push((
            shown["digest"].as_str().unwrap().to_owned(),
            row["criterion"].as_str().unwrap().to_owned(),
            plan("rules", &[]),
        ));
    }
    // Who is called otherwise than the declared ones knows nothing of what they do.
    let (folder, file) = folder_with(
        "node: { name: n1.example }\nnodes: [ n1, n2, n3 ]\n\
         checks:\n- { id: query, tcp: {}, targets: [ '127.0.0.1:1' ], every: 200ms, shared: true }\n\
         gates:\n- { id: shared, require: { ratio: check.success, where: { check: query }, over: 1s, above: 99% } }\n",
    );
    let state = folder.path().join("state").display().to_string();
    let seen = greenlight(&["check", "-c", &file, "--state", &state, "--for", "30s", "-o", "json"]);
    assert_eq!(code(&seen), 2, "{}", err(&seen));
    let row = gate(&serde_json::from_str(&out(&seen)).unwrap(), "shared").clone();
    assert_eq!((&row["verdict"], &row["reason"]["code"]), (&json!("open"), &json!("elsewhere")));
    assert!(row["reason"]["text"].as_str().unwrap().contains("not under `nodes`"), "{row:#}");
    let chosen: Vec<&str> =
        askers.iter().filter(|(_, where_)| where_.is_none()).map(|(name, _)| *name).collect();
    let [chosen] = chosen.as_slice() else { panic!("{askers:?}") };
    assert!(
        askers.iter().all(|(name, at)| name == chosen || at.as_deref() == Some(chosen)),
        "{askers:?}"
    );
    assert!(same.iter().all(|one| *one == same[0]), "{same:#?}");
}

#[test]
fn a_journey_that_would_send_more_than_its_budget_is_a_mistake() {
    let plan = |more: &str| {
        format!(
            "journeys:\n- id: flood\n  every: 1s\n  {more}\n  send: {{ http: {{ to: 'http://127.0.0.1:1/' }} }}\n  events: {{ count: 5000 }}\n  stages: [ {{ notified: {{ webhook: {{}} }} }} ]\n"
        )
    };
    let (_folder, file) = folder_with(&plan("timeout: 1s"));
    let refused = greenlight(&["plan", "-c", &file]);
    assert_eq!(code(&refused), 78);
    for words in ["5000 events", "MB a day", "budget of 1GB", "raise `budget`"] {
        assert!(err(&refused).contains(words), "{words}: {}", err(&refused));
    }
    let (_folder, file) = folder_with(&plan("budget: 1TB"));
    let taken = greenlight(&["plan", "-c", &file]);
    assert_eq!(code(&taken), 0, "{}", err(&taken));
}
