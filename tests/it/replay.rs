//! `replay` against a listener: what arrives, what is counted, and the exit code.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Output};

use greenlight::journey::event::Token;
use greenlight::time::Wall;
use serde_json::Value;

fn replay(port: u16, lines: &[u8], more: &[&str]) -> Output {
    replay_of("timeout: 5s", port, lines, more)
}

/// `says` is what else the journey says.
fn replay_of(says: &str, port: u16, lines: &[u8], more: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let (plan, recorded) = (folder.path().join("plan.yaml"), folder.path().join("recorded.log"));
    let text = format!(
        "journeys:\n  - id: web\n    {says}\n    send: {{ syslog: {{ to: 'tcp://127.0.0.1:{port}', framing: lf }} }}\n    \
         stages:\n      - stored: {{ json_api: {{ url: 'http://127.0.0.1:9/', items: . }} }}\n"
    );
    std::fs::write(&plan, text).expect("a plan");
    std::fs::write(&recorded, lines).expect("a recording");
    Command::new(env!("CARGO_BIN_EXE_greenlight"))
        .arg("replay")
        .arg(&recorded)
        .args(["--journey", "web", "-o", "json", "-c"])
        .arg(&plan)
        .args(more)
        .output()
        .expect("greenlight runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn recorded_lines_arrive_with_new_times_their_distances_and_a_token() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        // The connections of one replay: each batch has its own.
        while Token::find_all(&all).count() < 4 {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.read_to_string(&mut all).expect("text");
        }
        all
    });
    let mut lines = b"2023-11-14T22:13:20.000Z first\n2023-11-14T22:13:50.500Z second\n".to_vec();
    lines.extend(b"no time at all\n\n\xff\xfe\x00binary\n");
    lines.extend(vec![b'x'; 300_000]);
    lines.extend(b"\n1700000060 {last}\n");
    let output = replay(port, &lines, &["--speed", "100"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for (name, count) in [
        ("lines", 7),
        ("sent", 4),
        ("empty", 1),
        ("binary", 1),
        ("too_long", 1),
        ("without_time", 1),
        ("refused", 0),
    ] {
        assert_eq!(report["counts"][name], count, "{name}: {report}");
    }
    let all = reader.join().expect("the listener");
    let run = report["run"].as_str().expect("a run");
    let tokens: Vec<_> = Token::find_all(&all).filter(|token| *token.run == *run).collect();
    assert_eq!(tokens.iter().map(|token| token.seq).collect::<Vec<_>>(), [1, 2, 3, 7]);
    let at = |word: &str| {
        let line = all.lines().find(|line| line.contains(word)).expect("the line");
        Wall::parse(line.split(' ').next().expect("a time")).expect("a time").seconds()
    };
    // 30.5 recorded seconds, a hundred times as fast.
    assert!((at("second") - at("first") - 0.305).abs() < 0.002, "{all}");
    assert!(at("first") > 1_700_086_400.0, "moved to now");
}

#[test]
fn nobody_listening_is_failure_and_no_speed_is_wrong_usage() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let output = replay(port, b"a\nb\n", &["--rate", "1000"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["counts"]["not_sent"], 2, "{report}");
    assert!(!report["reasons"].as_array().expect("reasons").is_empty());
    let nothing = replay(port, b"\n", &[]);
    assert_eq!(nothing.status.code(), Some(2), "nothing was sent");
    let wrong = replay(port, b"a\n", &["--speed", "0"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", String::from_utf8_lossy(&wrong.stderr));
}

/// Recorded lines are as real a load as any: they keep to what the journey may do.
#[test]
fn a_replay_keeps_to_its_journeys_times_and_budget_and_waits_where_it_is_asked_to() {
    let quiet = replay_of("allowed_times: [ 'Mon 00:00-00:01' ]", 9, b"a\n", &[]);
    // But for the one minute of the week in which it is allowed, and nobody listens.
    let code = quiet.status.code();
    let said = String::from_utf8_lossy(&quiet.stderr).into_owned();
    assert!(code == Some(1) || (code == Some(2) && said.contains("allowed times")), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("text");
        all
    });
    let lines = "a line of some length\n".repeat(100);
    let more = "every: 1d\n    events: { count: 1 }\n    budget: 1kB";
    let spent = replay_of(more, port, lines.as_bytes(), &["--rate", "100000"]);
    let report = json(&spent);
    assert_eq!(spent.status.code(), Some(2), "{report}");
    let said = String::from_utf8_lossy(&spent.stderr).into_owned();
    assert!(said.contains("the budget of web, 1kB, is used up"), "{said}");
    // 21 characters, a space and a token of 30.
    assert_eq!((&report["counts"]["lines"], &report["counts"]["sent"]), (&19.into(), &19.into()));
    assert_eq!(Token::find_all(&reader.join().expect("the listener")).count(), 19);
}
