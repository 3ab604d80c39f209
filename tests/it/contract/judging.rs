//! How a gate is judged, through the real `check` and the real daemon with small windows.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Flaw, check, closed_port, open_port, platform, row, web};
use crate::command::{Daemon, folder_with, greenlight, out};

/// A check `port` of these targets, and gates.
fn plan(targets: &[u16], gates: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    format!(
        "checks: [ {{ id: port, tcp: {{}}, targets: [ {} ], every: 200ms, timeout: 150ms }} ]\ngates:\n{gates}",
        targets.join(", ")
    )
}

/// A gate over a second of attempts.
fn gate(id: &str, more: &str) -> String {
    format!(
        "- {{ id: {id}, {more}require: {{ ratio: check.success, over: 1s, at_least: 3, above: 99% }} }}\n"
    )
}

fn decided(code: i32, report: &Value, id: &str) -> (i32, String, String) {
    let verdict = row(&report["gates"], id)["verdict"].as_str().expect("a word").to_owned();
    (code, report["decision"].as_str().expect("a word").to_owned(), verdict)
}

fn is(found: (i32, String, String), code: i32, decision: &str, verdict: &str) {
    assert_eq!((found.0, &*found.1, &*found.2), (code, decision, verdict));
}

#[test]
fn contract_each_target_is_judged_by_itself_unless_pooled_is_written() {
    let (open, closed) = (open_port(), closed_port());
    let gates = "\
        - { id: each, require: { ratio: check.success, over: 1s, at_least: 3, above: 40% } }\n\
        - { id: pooled, require: { ratio: check.success, over: 1s, at_least: 3, above: 40%, pooled: true } }\n";
    let (code, report) = check(&plan(&[open, closed], gates), &[]);
    is(decided(code, &report, "each"), 1, "no_go", "fail");
    let each = row(&report["gates"], "each");
    assert_eq!(each["worst"]["check"], "port");
    assert_eq!(each["worst"]["target"], format!("127.0.0.1:{closed}"));
    assert_eq!(each["value"], 0.0);
    let pooled = row(&report["gates"], "pooled");
    assert_eq!(pooled["verdict"], "pass", "{pooled:#}");
    let value = pooled["value"].as_f64().expect("a number");
    assert!((0.4..=0.6).contains(&value), "half of all attempts: {value}");
}

#[test]
fn contract_a_target_of_which_no_sample_was_ever_seen_is_judged_too() {
    let (server, closed) = (web(|_| (200, "{}".to_owned())), closed_port());
    let plan = format!(
        "checks: [ {{ id: web, http: {{}}, targets: [ 'http://{server}/', 'http://127.0.0.1:{closed}/' ], every: 200ms }} ]\n\
         gates:\n\
         - {{ id: phase, require: {{ p99: http.phase, where: {{ check: web, phase: first_byte }}, over: 1s, at_least: 3, below: 1h }} }}\n\
         - {{ id: all, require: {{ max: http.phase, over: 1s, below: 1h, pooled: true }} }}\n\
         - {{ id: good, require: {{ max: http.phase, where: {{ target: 'http://{server}/' }}, over: 1s, below: 1h }} }}\n"
    );
    let (code, report) = check(&plan, &[]);
    is(decided(code, &report, "phase"), 1, "no_go", "fail");
    let phase = row(&report["gates"], "phase");
    assert_eq!(phase["worst"]["target"], format!("http://127.0.0.1:{closed}/"));
    assert_eq!(phase["reason"]["code"], "failed_attempts");
    assert_eq!(row(&report["gates"], "all")["verdict"], "fail");
    assert_eq!(row(&report["gates"], "good")["verdict"], "pass");
}

#[test]
fn contract_a_failed_attempt_is_beyond_every_threshold() {
    // Every second attempt fails; those that succeed are quick.
    let count = std::sync::atomic::AtomicU64::new(0);
    let server = web(move |_| {
        let odd = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 == 1;
        (if odd { 500 } else { 200 }, "{}".to_owned())
    });
    let plan = |below: &str| {
        format!(
            "checks: [ {{ id: web, http: {{}}, targets: [ 'http://{server}/' ], every: 100ms }} ]\n\
             gates:\n\
             - {{ id: p90, require: {{ p90: check.duration, over: 1500ms, at_least: 5, below: {below} }} }}\n\
             - {{ id: max, require: {{ max: check.duration, over: 1500ms, at_least: 5, below: {below} }} }}\n\
             - {{ id: p30, require: {{ p30: check.duration, over: 1500ms, at_least: 5, below: {below} }} }}\n"
        )
    };
    let (code, report) = check(&plan("1h"), &[]);
    is(decided(code, &report, "p90"), 1, "no_go", "fail");
    assert_eq!(row(&report["gates"], "max")["verdict"], "fail");
    assert_eq!(row(&report["gates"], "p30")["verdict"], "pass");
}

#[test]
fn contract_too_many_inconclusive_attempts_are_an_error() {
    let server = open_port();
    let plan = |more: &str| {
        format!(
            "checks: [ {{ id: a, http: {{ auth: {{ bearer: {{ file: FILE }} }} }}, targets: [ 'http://127.0.0.1:{server}/' ], every: 100ms }} ]\n\
             gates: [ {{ id: g, {more}require: {{ ratio: check.success, over: 2s, at_least: 3, above: 50% }} }} ]\n"
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    let run = |more: &str| {
        std::fs::write(&file, "s").expect("written");
        let gone = file.clone();
        // About a third of the attempts can read their secret.
        let remover = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1300));
            std::fs::remove_file(gone).expect("it was there");
        });
        let found =
            check(&plan(more).replace("FILE", &file.display().to_string()), &["--for", "4s"]);
        remover.join().expect("it ended");
        found
    };
    let (code, report) = run("");
    let gate = row(&report["gates"], "g");
    assert_eq!((code, &report["decision"]), (2, &"incomplete".into()), "{gate:#}");
    assert_eq!(gate["verdict"], "error");
    assert!(gate["reason"]["text"].as_str().is_some_and(|text| !text.is_empty()));
    let last = &report["checks"][0]["targets"][0]["last"];
    assert_eq!(
        (&last["outcome"], &last["reason"]["code"]),
        (&"inconclusive".into(), &"unreadable".into())
    );
}

#[test]
fn contract_a_window_is_open_until_covered_but_what_nothing_can_undo_is_judged_at_once() {
    let gates =
        "- { id: long, require: { ratio: check.success, over: 10m, at_least: 3, above: 100% } }\n";
    let (code, report) = check(&plan(&[open_port()], gates), &["--for", "2s"]);
    is(decided(code, &report, "long"), 2, "incomplete", "open");
    let gate = row(&report["gates"], "long");
    assert_eq!(gate["window_seconds"], 600.0);
    let covered = gate["covered_seconds"].as_f64().expect("a number");
    assert!((0.5..10.0).contains(&covered), "{covered}");
    let began = Instant::now();
    let (code, report) = check(&plan(&[closed_port()], gates), &[]);
    is(decided(code, &report, "long"), 1, "no_go", "fail");
    assert!(began.elapsed() < Duration::from_secs(6), "at once: {:?}", began.elapsed());
}

#[test]
fn contract_conditional_gates_are_open_not_applicable_or_mandatory() {
    let failing = closed_port();
    let of = |when: &str, vars: &str| {
        let gates = format!(
            "{}vars: {{ {vars} }}\n",
            gate("g", &format!("level: conditional, when: {{ {when} }}, "))
        );
        check(&plan(&[failing], &gates), &["--for", "4s"])
    };
    for (when, vars) in [("var: siem", ""), ("fact: no_such_fact", ""), ("decision: d1", "")] {
        let (code, report) = of(when, vars);
        is(decided(code, &report, "g"), 2, "incomplete", "open");
        let why =
            row(&report["gates"], "g")["reason"]["text"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains("not set") || why.contains("not known"), "{why}");
    }
    let (code, report) = of("var: siem", "siem: false");
    is(decided(code, &report, "g"), 0, "go", "not_applicable");
    let why = row(&report["gates"], "g")["reason"]["text"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("siem"), "the reason is given: {why}");
    let (code, report) = of("var: siem", "siem: true");
    is(decided(code, &report, "g"), 1, "no_go", "fail");
    assert_eq!(row(&report["gates"], "g")["level"], "conditional");
    // A fact of the node, by its value.
    let architecture = std::env::consts::ARCH;
    let (code, report) = of(&format!("fact: architecture, equals: {architecture}"), "");
    is(decided(code, &report, "g"), 1, "no_go", "fail");
    let (code, report) = of("fact: architecture, equals: abacus", "");
    is(decided(code, &report, "g"), 0, "go", "not_applicable");
}

#[test]
fn contract_warnings_and_optional_gates_are_counted_and_never_block() {
    let (open, closed) = (open_port(), closed_port());
    let gates = "\
        - { id: warned, require: { ratio: check.success, where: { check: port }, over: 1s, at_least: 3, above: 10%, warn: 60%, pooled: true } }\n\
        - { id: optional.fail, level: optional, require: { ratio: check.success, over: 1s, at_least: 3, above: 99% } }\n\
        - { id: optional.open, level: optional, require: { missing: nothing measures it } }\n";
    let (code, report) = check(&plan(&[open, closed], gates), &[]);
    is(decided(code, &report, "warned"), 0, "go", "warn");
    assert_eq!(row(&report["gates"], "optional.fail")["verdict"], "fail");
    assert_eq!(row(&report["gates"], "optional.open")["verdict"], "open");
    assert_eq!(report["counts"]["warn"], 1);
    assert_eq!(report["counts"]["fail"], 1);
    assert_eq!(report["counts"]["open"], 1);
}

#[test]
fn contract_a_mandatory_failure_goes_before_what_is_open() {
    let gates = format!("{}- {{ id: part, require: {{ missing: a part }} }}\n", gate("g", ""));
    let (code, report) = check(&plan(&[closed_port()], &gates), &["--for", "4s"]);
    is(decided(code, &report, "part"), 1, "no_go", "open");
    let (code, report) = check(&plan(&[open_port()], &gates), &["--for", "4s"]);
    is(decided(code, &report, "part"), 2, "incomplete", "open");
    assert_eq!(row(&report["gates"], "g")["verdict"], "pass");
}

#[test]
fn contract_stability_takes_its_time() {
    let gates = "- { id: g, require: { ratio: check.success, over: 1s, at_least: 3, above: 99%, stable_for: 3s } }\n";
    let began = Instant::now();
    // The default time is what that takes.
    let (code, report) = check(&plan(&[open_port()], gates), &[]);
    is(decided(code, &report, "g"), 0, "go", "pass");
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn contract_hysteresis_holds_a_failure_until_it_clears() {
    // The share of good answers is set from outside.
    let bad = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_bad = bad.clone();
    let count = std::sync::atomic::AtomicU64::new(0);
    let server = web(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let fails = is_bad.load(std::sync::atomic::Ordering::Relaxed) || number.is_multiple_of(4);
        (if fails { 500 } else { 200 }, "{}".to_owned())
    });
    let (folder, plan) = folder_with(&format!(
        "checks: [ {{ id: web, http: {{}}, targets: [ 'http://{server}/' ], every: 100ms }} ]\n\
         gates:\n\
         - {{ id: held, require: {{ ratio: check.success, over: 2s, at_least: 5, above: 50%, clears: 90% }} }}\n\
         - {{ id: plain, require: {{ ratio: check.success, over: 2s, at_least: 5, above: 50% }} }}\n"
    ));
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    daemon.until_verdict("held", "fail", Duration::from_secs(20));
    bad.store(false, std::sync::atomic::Ordering::Relaxed);
    // Three quarters succeed: enough to pass, not enough to clear.
    daemon.until_verdict("plain", "pass", Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(2));
    let gates = daemon.json("/api/v1/gates");
    assert_eq!(row(&gates, "plain")["verdict"], "pass");
    assert_eq!(row(&gates, "held")["verdict"], "fail", "{:#}", row(&gates, "held"));
}

#[test]
fn contract_check_goes_on_while_a_part_may_still_decide_a_gate() {
    let gates = format!(
        "- {{ id: can.pass, require: {{ any: [ {{ missing: a hand }}, {{ {ways} }} ] }} }}\n\
         - {{ id: can.fail, level: optional, require: {{ all: [ {{ missing: a hand }}, {{ {all} }} ] }} }}\n\
         - {{ id: cannot, level: optional, require: {{ all: [ {{ missing: a hand }}, {{ {ways} }} ] }} }}\n",
        ways = "ratio: check.success, over: 1s, at_least: 3, above: 40%, pooled: true",
        all = "ratio: check.success, over: 1s, at_least: 3, above: 60%, pooled: true",
    );
    let (code, report) = check(&plan(&[open_port(), closed_port()], &gates), &[]);
    is(decided(code, &report, "can.pass"), 0, "go", "pass");
    is(decided(code, &report, "can.fail"), 0, "go", "fail");
    is(decided(code, &report, "cannot"), 0, "go", "open");
    // With nothing else to wait for, it does not wait.
    let began = Instant::now();
    let (code, report) =
        check("gates: [ { id: g, require: { missing: a hand } } ]\n", &["--for", "1h"]);
    is(decided(code, &report, "g"), 2, "incomplete", "open");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Under the same id another question is another check: what was answered before says nothing of it,
/// neither to a running agent nor to the next one on the same state.
#[test]
fn contract_what_was_measured_under_another_plan_is_no_evidence() {
    let server = web(|_| (200, "{}".to_owned()));
    let platform = platform(Flaw::None);
    let plan = |status: u16, count: u64, above: &str| {
        format!(
            "checks: [ {{ id: w, http: {{ status: {status} }}, targets: [ 'http://{server}/' ], every: 2s }} ]\n{}\
             gates:\n\
             - {{ id: asks, require: {{ ratio: check.success, where: {{ check: w }}, over: 4s, above: 50% }} }}\n\
             - {{ id: sends, require: {{ complete: j, over: 3s, above: 100% }} }}\n\
             - {{ id: holds, require: {{ ratio: check.success, where: {{ check: other }}, over: 1s, above: {above}, stable_for: 2s }} }}\n",
            super::journey(platform).replace("count: 5", &format!("count: {count}"))
        )
        .replace("checks: [", &format!("checks: [ {{ id: other, tcp: {{}}, targets: [ '{server}' ], every: 200ms }},"))
    };
    let (folder, file) = folder_with(&plan(200, 5, "50%"));
    let state = folder.path().join("state");
    let verdicts = |report: &Value| {
        ["asks", "sends", "holds"].map(|id| row(&report["gates"], id)["verdict"].clone())
    };
    let daemon = Daemon::start(&file, &state, &[]);
    for id in ["asks", "sends", "holds"] {
        daemon.until_verdict(id, "pass", Duration::from_secs(30));
    }
    std::fs::write(&file, plan(404, 6, "40%")).expect("written");
    assert_eq!(daemon.post("/-/reload").0, 200);
    let now = daemon.json("/api/v1/ledger");
    assert!(verdicts(&now).iter().all(|verdict| verdict != "pass"), "{now:#}");
    assert_eq!(row(&now["gates"], "holds")["reason"]["code"], "not_stable_yet");
    // It answers to what is asked now, or not yet.
    let last = &row(&now["checks"], "w")["targets"][0]["last"];
    assert!(last.is_null() || last["outcome"] == "failure", "{last:#}");
    assert_ne!(daemon.metric("greenlight_check_success", &["check=\"w\""]), Some(1.0));
    assert_eq!(row(&now["checks"], "other")["targets"][0]["last"]["outcome"], "success");
    daemon.until_verdict("asks", "fail", Duration::from_secs(20));
    for id in ["sends", "holds"] {
        daemon.until_verdict(id, "pass", Duration::from_secs(30));
    }
    daemon.end(nix::sys::signal::Signal::SIGTERM);
    std::fs::write(&file, plan(200, 7, "50%")).expect("written");
    let state = state.display().to_string();
    let arguments = ["check", "-c", &file, "--state", &state, "-o", "json", "--for", "0s"];
    let next: Value = serde_json::from_str(&out(&greenlight(&arguments))).expect("a document");
    assert_eq!(verdicts(&next), ["open", "open", "open"], "{next:#}");
}

#[test]
fn contract_an_attempt_under_way_at_a_reload_is_evidence_of_the_plan_that_it_began_under() {
    let (asked, heard) = std::sync::mpsc::channel();
    let answers = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let held = answers.clone();
    let server = web(move |_| {
        // Who has heard of the first request has no ear for the others.
        let _ = asked.send(());
        while !held.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        (200, "{}".to_owned())
    });
    let plan = |status: u16| {
        format!(
            "checks: [ {{ id: w, http: {{ status: {status} }}, targets: [ 'http://{server}/' ], every: 5s, timeout: 4800ms }} ]\n\
             gates: [ {{ id: g, require: {{ last: check.success, where: {{ check: w }}, above: 100% }} }} ]\n"
        )
    };
    let (folder, file) = folder_with(&plan(200));
    let daemon = Daemon::start(&file, &folder.path().join("state"), &[]);
    heard.recv_timeout(Duration::from_secs(30)).expect("a request");
    std::fs::write(&file, plan(404)).expect("written");
    assert_eq!(daemon.post("/-/reload").0, 200);
    answers.store(true, std::sync::atomic::Ordering::Relaxed);
    // The next attempt is the first that says anything, and it fails.
    let deadline = Instant::now() + Duration::from_secs(60);
    let verdict = loop {
        let verdict = row(&daemon.json("/api/v1/gates"), "g")["verdict"].clone();
        if verdict != "open" {
            break verdict;
        }
        assert!(Instant::now() < deadline, "nothing was tried any more");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(verdict, "fail");
    daemon.end(nix::sys::signal::Signal::SIGTERM);
}

#[test]
fn contract_what_another_node_saw_is_no_evidence_of_this_one() {
    let platform = platform(Flaw::None);
    let plan = |node: &str| {
        format!(
            "node: {{ name: {node} }}\n{}checks: [ {{ id: port, tcp: {{}}, targets: [ '{platform}' ], every: 2s }} ]\n\
             gates:\n\
             - {{ id: tries, require: {{ ratio: check.success, over: 4s, above: 99% }} }}\n\
             - {{ id: sends, require: {{ complete: j, over: 3s, above: 100% }} }}\n\
             - {{ id: has, require: {{ min: node.memory.available, over: 3s, above: 0% }} }}\n",
            super::journey(platform)
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state").display().to_string();
    let (code, report) = check(&plan("a"), &["--state", &state]);
    is(decided(code, &report, "has"), 0, "go", "pass");
    // Its disk was copied to the next machine.
    let (code, report) = check(&plan("b"), &["--state", &state, "--for", "0s"]);
    for id in ["tries", "sends", "has"] {
        is(decided(code, &report, id), 2, "incomplete", "open");
    }
    assert!(report["journeys"].as_array().is_some_and(|all| all.iter().all(|j| j["rounds"] == 0)));
}

#[test]
fn contract_a_load_from_now_on_is_judged_when_it_has_ended() {
    let gates = "- { id: g, require: { ratio: check.success, over: 20s, at_least: 5, above: 99%, during: load } }\n";
    let began = Instant::now();
    let (code, report) = check(&plan(&[open_port()], gates), &["--load", "now/+3s"]);
    is(decided(code, &report, "g"), 0, "go", "pass");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let windows = report["load_windows"].as_array().expect("an array");
    assert_eq!(windows.len(), 1, "{windows:?}");
}

#[test]
fn contract_the_report_is_as_of_the_end_and_not_of_what_is_still_under_way() {
    // A round that nobody can look at goes on for long after the gate has passed.
    let slow = super::journey(platform(Flaw::Blind)).replace("within: 1s", "within: 30s");
    let slow = slow.replace("give_up: 2s", "give_up: 60s");
    let gates = format!("{}{slow}", gate("g", ""));
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state").display().to_string();
    let plan = plan(&[open_port()], &gates);
    let (code, report) = check(&plan, &["--state", &state]);
    is(decided(code, &report, "g"), 0, "go", "pass");
    let (_folder, file) = folder_with(&plan);
    let left = greenlight(&["report", "-c", &file, "--state", &state, "-o", "json"]);
    let left: Value = serde_json::from_str(&out(&left)).expect("a document");
    assert_eq!(left["decision"], "go", "what is left is the same: {left:#}");
}

#[test]
fn contract_a_gate_says_what_it_asks_for_where_nothing_was_seen_yet() {
    let gates = "- { id: nobody, require: { p99: check.duration, where: { target: elsewhere }, over: 1s, below: 20ms } }\n";
    let (code, report) = check(&plan(&[open_port()], gates), &["--for", "1s"]);
    is(decided(code, &report, "nobody"), 2, "incomplete", "open");
    let gate = row(&report["gates"], "nobody");
    assert_eq!((&gate["threshold"], &gate["unit"]), (&0.02.into(), &"seconds".into()), "{gate:#}");
    assert_eq!(gate["window_seconds"], 1.0, "{gate:#}");
    assert!(gate["value"].is_null() && gate["margin"].is_null(), "{gate:#}");
}
