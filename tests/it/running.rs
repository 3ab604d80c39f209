//! What a running agent takes as it comes: queues that fill, secrets that can't be read yet, a file
//! of peers that changes.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::command::{BINARY, Daemon, code, err, folder_with, greenlight};
use crate::contract::{open_port, web};
use crate::machine::until;

const PATIENCE: Duration = Duration::from_secs(60);

fn post(daemon: &Daemon, path: &str, body: &str) {
    let answer = ureq::post(format!("http://{}{path}", daemon.address))
        .header("content-type", "application/json")
        .send(body)
        .expect("it answers");
    assert_eq!(answer.status().as_u16(), 200);
}

#[test]
fn every_bounded_queue_is_shown_and_a_full_one_counts_what_it_pushed_out() {
    let (folder, plan) = folder_with("");
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let queues = [
        "records",
        "asks",
        "sampler",
        "cells",
        "client_cells",
        "store",
        "store_backlog",
        "exhibits",
        "webhook",
        "kafka",
        "kafka_lanes",
        "connections",
    ];
    for queue in queues {
        let labels = [&*format!("queue=\"{queue}\"")];
        let value = |name: &str| {
            daemon.metric(name, &labels).unwrap_or_else(|| panic!("{name} says nothing of {queue}"))
        };
        let (length, limit) = (value("greenlight_queue_length"), value("greenlight_queue_limit"));
        assert!(limit >= 1.0 && (0.0..=limit).contains(&length), "{queue}: {length} of {limit}");
        assert_eq!(value("greenlight_queue_dropped_total"), 0.0, "{queue}");
    }
    // The one that holds this very request.
    assert!(daemon.metric("greenlight_queue_length", &["connections"]) >= Some(1.0));
    for (fill, limit) in [
        ("greenlight_series_points", "greenlight_series_points_limit"),
        ("greenlight_series_tracks", "greenlight_series_tracks_limit"),
        ("greenlight_metric_rows", "greenlight_metric_rows_limit"),
        ("greenlight_peers", "greenlight_peers_limit"),
        ("greenlight_runner_in_flight", "greenlight_runner_in_flight_limit"),
        ("greenlight_store_size_bytes", "greenlight_store_size_limit_bytes"),
    ] {
        let (fill, limit) = (daemon.metric(fill, &[]), daemon.metric(limit, &[]));
        assert!(fill.is_some() && fill < limit, "{fill:?} of {limit:?}");
    }
    assert_eq!(daemon.metric("greenlight_cells_hung", &[]), Some(0.0));

    // The inbox keeps 16 MiB of text; each of these has 1.6 MB in its label and its document.
    let large = format!("{{\"pad\": \"{}\"}}", "x".repeat(800_000));
    for _ in 0..14 {
        post(&daemon, "/api/v1/webhook/json", &large);
    }
    let webhook = |name: &str| daemon.metric(name, &["queue=\"webhook\""]).expect("it is shown");
    let (kept, dropped) =
        (webhook("greenlight_queue_length"), webhook("greenlight_queue_dropped_total"));
    assert_eq!((kept, dropped), (10.0, 4.0));
    assert_eq!(daemon.end(Signal::SIGTERM).0, Some(0));
}

#[test]
fn a_secret_that_can_not_be_read_yet_makes_its_checks_inconclusive_and_is_found_later() {
    let server = web(|asked| {
        let head = asked.head.to_ascii_lowercase();
        let known = head.contains("authorization: bearer from-the-vault");
        (if known { 200 } else { 401 }, "{}".to_owned())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let (secret, ran) = (folder.path().join("secret"), folder.path().join("ran"));
    let (secret, ran) = (secret.display().to_string(), ran.display().to_string());
    let check = |id: &str, reference: &str| {
        format!(
            "- {{ id: {id}, http: {{ auth: {{ bearer: {reference} }} }}, targets: [ 'http://{server}/' ], every: 200ms }}\n"
        )
    };
    let plan = format!(
        "checks:\n{}{}journeys:\n- id: j\n  every: 1s\n  timeout: 1s\n  \
         send: {{ http: {{ to: 'http://{server}/', auth: {{ bearer: {{ file: '{secret}' }} }} }} }}\n  \
         events: {{ count: 2 }}\n  stages: [ stored: {{ json_api: {{ url: 'http://{server}/', items: '.[]' }}, within: 500ms, give_up: 1s }} ]\n",
        check("by-file", &format!("{{ file: '{secret}' }}")),
        check(
            "by-command",
            &format!("{{ command: [ sh, -c, 'echo ran >> {ran}; cat {secret}', do-not-tell ] }}")
        ),
    );
    let file = folder.path().join("plan.yaml");
    fs::write(&file, plan).expect("written");
    let file = file.display().to_string();

    // A plan is valid whatever its secrets are: none is read, no command is run.
    let output = greenlight(&["plan", "-c", &file]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(!fs::exists(&ran).expect("it can be asked"), "the command was run");
    for id in ["by-file", "by-command", "j"] {
        let output = greenlight(&["once", id, "-c", &file]);
        assert_eq!(code(&output), 2, "{id}: {}", err(&output));
    }

    let daemon = Daemon::start(&file, &folder.path().join("state"), &[]);
    let success = |id: &str| daemon.metric("greenlight_check_success", &[&format!("\"{id}\"")]);
    for (id, names) in [("by-file", &*secret), ("by-command", "`sh`")] {
        let labels = [&*format!("\"{id}\""), "fault=\"unreadable\""];
        until(id, || daemon.metric("greenlight_check_inconclusive_total", &labels) >= Some(1.0));
        assert_eq!(success(id), None);
        let last = || {
            let checks = daemon.json("/api/v1/checks");
            crate::contract::row(&checks, id)["targets"][0]["last"].clone()
        };
        until("it is in the report", || !last().is_null());
        let last = last();
        assert_eq!(last["outcome"], "inconclusive");
        let text = last["reason"]["text"].as_str().expect("a text");
        assert!(text.contains(names) && !text.contains("do-not-tell"), "{text}");
    }
    let inconclusive = ["\"j\"", "\"sent\"", "\"inconclusive\""];
    until("the round is not sent, by our own fault", || {
        daemon.metric("greenlight_journey_events_total", &inconclusive) >= Some(2.0)
    });
    // A reload takes such a plan too.
    assert_eq!(daemon.post("/-/reload").0, 200);
    fs::write(&secret, "from-the-vault\n").expect("written");
    for id in ["by-file", "by-command"] {
        until(id, || success(id) == Some(1.0));
    }
    let (code, said) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    assert!(
        said.contains("is inconclusive until it can be") && !said.contains("do-not-tell"),
        "{said}"
    );
    assert!(!said.contains("from-the-vault"), "{said}");
}

#[test]
fn the_file_of_peers_is_followed_and_a_bad_one_keeps_the_last_good_members() {
    let ports = [open_port(), open_port(), open_port()];
    let [a, b, c] = ports.map(|port| format!("127.0.0.1:{port}"));
    let folder = tempfile::tempdir().expect("a folder");
    let (plan, peers) = (folder.path().join("plan.yaml"), folder.path().join("peers.yaml"));
    fs::write(
        &plan,
        "peers: { file_sd: peers.yaml }\n\
         checks: [ { id: up, tcp: {}, targets: { peers: { role: lake } }, every: 200ms } ]\n\
         gates: [ { id: g, require: { ratio: check.success, where: { check: up }, over: 2s, at_least: 2, above: 99% } } ]\n",
    )
    .expect("written");
    let members = |targets: &[&str]| {
        let targets = serde_json::to_string(targets).expect("JSON");
        fs::write(&peers, format!("- targets: {targets}\n  labels: {{ role: lake }}\n"))
            .expect("written");
    };
    members(&[&a]);
    let daemon = Daemon::start(&plan.display().to_string(), &folder.path().join("state"), &[]);
    let digest = daemon.json("/api/v1/plan")["digest"].clone();
    let up = |target: &str| {
        daemon.metric("greenlight_check_success", &[&format!("target=\"{target}\"")])
    };
    let said_good = || daemon.metric("greenlight_peers_file_success", &[]);
    until("the first member", || up(&a) == Some(1.0));
    assert_eq!((up(&b), said_good()), (None, Some(1.0)));

    members(&[&a, &b]);
    until("a second member", || up(&b) == Some(1.0) && up(&a) == Some(1.0));
    assert_eq!(daemon.metric("greenlight_peers", &[]), Some(2.0));
    let attempts = daemon.metric("greenlight_check_attempts_total", &[&a]).expect("counted");

    fs::write(&peers, "- targets: [ 'x:1' ]\n  labls: { role: lake }\n").expect("written");
    until("the bad file is told of", || said_good() == Some(0.0));
    until("the old members are tried on", || {
        daemon.metric("greenlight_check_attempts_total", &[&a]) > Some(attempts + 3.0)
    });
    fs::remove_file(&peers).expect("it was there");
    assert_eq!((up(&b), daemon.metric("greenlight_peers", &[])), (Some(1.0), Some(2.0)));

    members(&[&b, &c]);
    until("it is good again", || said_good() == Some(1.0) && up(&c) == Some(1.0));
    until("who left is forgotten", || up(&a).is_none());
    assert_eq!(daemon.metric("greenlight_check_attempts_total", &[&a]), None);
    let checks = daemon.json("/api/v1/checks");
    let targets = crate::contract::row(&checks, "up")["targets"].as_array().expect("rows").len();
    assert_eq!(targets, 2);
    daemon.until_verdict("g", "pass", PATIENCE);
    assert_eq!(daemon.json("/api/v1/plan")["digest"], digest, "members are no part of it");
    members(&[]);
    until("nobody is left, and nothing is known", || {
        let report = daemon.json("/api/v1/ledger");
        let up = crate::contract::row(&report["checks"], "up");
        let empty = up["targets"].as_array().is_some_and(Vec::is_empty);
        assert!(!empty || report["decision"] == "incomplete", "{report:#}");
        empty
    });
    let (code, said) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    assert!(said.contains("labls") && said.contains("last good members"), "{said}");
}

/// A reboot, as far as a process can tell one: a boot clock that begins anew, in a time namespace,
/// and another identity of the boot.
#[test]
fn after_a_reboot_the_windows_go_on_from_the_store() {
    crate::machine::root();
    // Ten attempts a window; a gap of up to three intervals is borne.
    let (folder, plan) = folder_with(&format!(
        "checks: [ {{ id: up, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 3s }} ]\n\
         gates: [ {{ id: g, require: {{ ratio: check.success, over: 30s, at_least: 8, above: 99% }} }} ]\n",
        open_port()
    ));
    let state = folder.path().join("state");
    let before = Daemon::start(&plan, &state, &[]);
    before.until_verdict("g", "pass", PATIENCE);
    assert_eq!(before.end(Signal::SIGTERM).0, Some(0));

    let uptime = fs::read_to_string("/proc/uptime").expect("it can be read");
    let uptime: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds");
    let boot = folder.path().join("boot_id");
    fs::write(&boot, "11111111-2222-3333-4444-555555555555\n").expect("written");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--time", "--boottime", &format!("-{:.0}", uptime - 5.0)]).args([
        "sh",
        "-ec",
        &format!(
            "mount --bind {} /proc/sys/kernel/random/boot_id
             read up rest </proc/uptime; [ ${{up%.*}} -lt 60 ]
             exec {BINARY} run -c {plan} --state {} --web.listen-address 127.0.0.1:0",
            boot.display(),
            state.display()
        ),
    ]);
    let began = Instant::now();
    let after = Daemon::listening(command);
    let row = after.until_verdict("g", "pass", Duration::from_secs(20));
    assert!(began.elapsed() < Duration::from_secs(20), "sooner than a window of its own");
    assert!(row["samples"].as_u64() >= Some(8), "{row:#}");
    // `unshare` became the shell, and the shell the agent.
    assert_eq!(after.end(Signal::SIGTERM).0, Some(0));
}
