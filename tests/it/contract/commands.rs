//! Commands: flags, defaults, streams, addresses, signals, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{BINARY, check, closed_port, greenlight_with, open_port, row};
use crate::command::{Daemon, code, err, folder_with, greenlight, out};

fn tcp_plan(port: u16, over: &str) -> String {
    format!(
        "checks: [ {{ id: port, tcp: {{}}, targets: [ '127.0.0.1:{port}' ], every: 200ms }} ]\n\
         gates: [ {{ id: port.open, require: {{ ratio: check.success, where: {{ check: port }}, over: {over}, at_least: 3, above: 100% }} }} ]\n"
    )
}

#[test]
fn contract_every_command_has_its_flags_and_defaults() {
    let global = ["--log.level", "--log.format", "--path.procfs", "--path.sysfs", "--path.rootfs"];
    let commands: [(&str, &[&str]); 11] = [
        ("demo", &["--once", "--break", "-o,", "--web.listen-address"]),
        ("run", &["-c,", "--state", "--web.listen-address", "--web.config.file", "127.0.0.1:9765"]),
        ("check", &["-c,", "--for", "--state", "-o,", "/etc/greenlight"]),
        ("once", &["CHECK|JOURNEY", "-c,", "--debug", "-o,"]),
        ("plan", &["-c,", "--privileges", "-o,"]),
        ("report", &["-c,", "--state", "-o,"]),
        ("rules", &["-c,"]),
        ("schema", &[]),
        ("metrics", &[]),
        ("completions", &["SHELL"]),
        ("version", &[]),
    ];
    for (command, flags) in commands {
        let help = greenlight(&[command, "--help"]);
        assert_eq!(code(&help), 0, "{command}");
        for flag in flags.iter().chain(&global) {
            assert!(out(&help).contains(flag), "{command} --help says nothing of {flag}");
        }
    }
    for wrong in [
        &["run", "--no-such-flag"][..],
        &["once"],
        &["completions", "cmd.exe"],
        &["check", "-o", "pdf"],
        &["check", "--log.format", "xml"],
        &["report", "-o", "json="],
        &["check", "-c", "/dev/null", "-o", "json=/tmp/one", "-o", "html=/tmp/one"],
    ] {
        assert_eq!(code(&greenlight(wrong)), 64, "{wrong:?}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = greenlight(&["completions", shell]);
        assert_eq!(code(&script), 0);
        assert!(out(&script).contains("web.listen-address"), "{shell}");
    }
}

/// Starts `run` with an address and gives back what standard error says it listens on.
fn listening(address: &str) -> (std::process::Child, String) {
    let (folder, plan) = folder_with("");
    let mut child = Command::new(BINARY)
        .args(["run", "--web.listen-address", address, "-c", &plan, "--state"])
        .arg(folder.path().join("state"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let line = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("listening on"))
        .expect("it says where it listens");
    std::thread::spawn(move || {
        lines.for_each(drop);
        drop(folder);
    });
    let url = line.strip_prefix("listening on http://").expect("by the contract").to_owned();
    (child, url)
}

#[test]
fn contract_a_port_alone_listens_on_both_families_and_zero_picks_one() {
    let (mut child, url) = listening(":0");
    let port: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    assert_ne!(port, 0);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let (status, _) = crate::command::fetch("GET", &address, "/-/healthy");
        assert_eq!(status, 200, "{address}");
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("it runs");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{signal}");
        child = listening("[::1]:0").0;
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn contract_an_address_in_use_is_our_own_fault() {
    let (folder, plan) = folder_with("");
    let state = folder.path().join("state").display().to_string();
    let taken = format!("127.0.0.1:{}", open_port());
    let output =
        greenlight(&["run", "-c", &plan, "--state", &state, "--web.listen-address", &taken]);
    assert_eq!(code(&output), 70, "{}", err(&output));
    assert!(err(&output).contains(&taken), "{}", err(&output));
    let output =
        greenlight(&["run", "-c", &plan, "--state", &state, "--web.listen-address", "nonsense"]);
    assert_eq!(code(&output), 64, "{}", err(&output));
    // Nor is what somebody wrote into a file our fault.
    let web = folder.path().join("web.yaml").display().to_string();
    fs::write(&web, "tls_server_config: { cert_file: none.pem, key_file: none.key }\n")
        .expect("written");
    for file in [&*web, "/no/such/web.yaml"] {
        let output =
            greenlight(&["run", "-c", &plan, "--state", &state, "--web.config.file", file]);
        assert_eq!(code(&output), 78, "{}", err(&output));
        assert!(err(&output).contains(file) && !err(&output).contains("plan"), "{}", err(&output));
    }
    assert!(!std::path::Path::new(&state).exists(), "nothing was begun");
}

/// The binary with nobody who reads what it says on standard error: a full disk, or a pipe whose
/// reader went away.
fn unheard(arguments: &[&str]) -> [Command; 2] {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let (_, gone) = std::io::pipe().expect("a pipe");
    [Stdio::from(full), Stdio::from(gone)].map(|said| {
        let mut command = Command::new(BINARY);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        command
    })
}

#[test]
fn contract_what_is_decided_does_not_depend_on_who_reads_standard_error() {
    let (folder, plan) = folder_with(&tcp_plan(closed_port(), "1s"));
    let (_other, wrong) = folder_with("gates: [\n");
    for (arguments, code) in [
        (&["check", "-c", &plan][..], 1),
        (&["once", "port", "-c", &plan], 1),
        (&["plan", "-c", &wrong], 78),
        (&["no-such-command"], 64),
    ] {
        for mut command in unheard(arguments) {
            let ended = command.status().expect("it starts").code();
            assert_eq!(ended, Some(code), "{arguments:?}");
        }
    }
    let state = folder.path().join("state").display().to_string();
    for format in ["logfmt", "json"] {
        let address = format!("127.0.0.1:{}", closed_port());
        let arguments = ["run", "-c", &plan, "--state", &state, "--log.format", format];
        let [mut command, _] =
            unheard(&[&arguments[..], &["--web.listen-address", &address]].concat());
        let mut child = command.spawn().expect("it starts");
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline && child.try_wait().expect("ours").is_none());
            std::thread::sleep(Duration::from_millis(50));
        }
        // A verdict turns, which the log tells of.
        let failing = |body: &str| body.contains("greenlight_decision 3\n");
        while !failing(&crate::command::fetch("GET", &address, "/metrics").1) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(100));
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{format}");
    }
}

/// Runs under a terminal of its own (util-linux' script) and gives back all that it wrote there.
fn on_a_terminal(command: &str, no_colour: &str) -> String {
    let output = Command::new("script")
        .args(["-qec", command, "/dev/null"])
        .env("NO_COLOR", no_colour)
        .env("TERM", "xterm")
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .output()
        .expect("script (Debian: bsdutils)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn contract_colour_and_redrawing_are_for_terminals_without_no_color() {
    let (_folder, plan) = folder_with(&tcp_plan(open_port(), "1s"));
    let command = format!("{BINARY} check -c {plan}");
    let shown = on_a_terminal(&command, "");
    assert!(shown.contains('\u{1b}') && shown.contains("GO"), "{shown}");
    let plain = on_a_terminal(&command, "1");
    assert!(!plain.contains('\u{1b}') && plain.contains("GO"), "{plain}");
    // To a file: the report alone on standard output, progress on standard error, no escapes.
    let output = greenlight(&["check", "-c", &plan]);
    assert!(!out(&output).contains('\u{1b}') && !err(&output).contains('\u{1b}'));
    assert!(err(&output).contains("port.open"), "progress is told: {}", err(&output));
}

#[test]
fn contract_config_may_be_repeated_and_name_folders_files_and_standard_input() {
    let (folder, first) = folder_with("nodes: [ a ]\n");
    let more = folder.path().join("more");
    fs::create_dir(&more).expect("a folder");
    fs::write(more.join("b.yaml"), tcp_plan(1, "1s")).expect("written");
    fs::write(more.join("notes.txt"), "no plan").expect("written");
    let mut child = Command::new(BINARY)
        .args(["plan", "-o", "json", "-c", &first, "-c", "-", "-c"])
        .arg(&more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(b"nodes: [ b ]\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 0);
    let plan: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(plan["nodes"], serde_json::json!(["a", "b"]));
    assert_eq!(plan["checks"][0]["id"], "port");
    assert_eq!(plan["sources"].as_array().map(Vec::len), Some(3), "{}", plan["sources"]);
    // What an editor leaves is no part of it; a part that can't be read is missed.
    let folder = more.display().to_string();
    fs::write(more.join(".b.yaml"), "no: plan").expect("written");
    assert_eq!(code(&greenlight(&["plan", "-c", &folder])), 0);
    std::os::unix::fs::symlink("nowhere", more.join("c.yaml")).expect("linked");
    let output = greenlight(&["plan", "-c", &folder]);
    assert_eq!(code(&output), 78);
    assert!(err(&output).contains("c.yaml"), "{}", err(&output));
}

#[test]
fn contract_paths_are_honoured_by_facts_and_by_the_sampler() {
    let folder = tempfile::tempdir().expect("a folder");
    let (proc, root) = (folder.path().join("proc"), folder.path().join("root"));
    fs::create_dir_all(proc.join("sys/kernel")).expect("made");
    fs::create_dir_all(root.join("etc")).expect("made");
    fs::create_dir_all(folder.path().join("sys")).expect("made");
    fs::write(proc.join("sys/kernel/hostname"), "elsewhere\n").expect("written");
    fs::write(proc.join("loadavg"), "84.00 1.00 1.00 1/100 4242\n").expect("written");
    fs::write(proc.join("stat"), "cpu  1 0 1 9 0 0 0 0 0 0\ncpu0 1 0 1 4 0 0 0 0 0 0\ncpu1 0 0 0 5 0 0 0 0 0 0\nprocs_running 1\nprocs_blocked 0\n")
        .expect("written");
    fs::write(root.join("etc/os-release"), "ID=elsewhere-os\n").expect("written");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let plan = "gates:\n\
        - { id: load, require: { last: node.load.per_core, below: 50 } }\n\
        - { id: by.host, when: { fact: hostname, equals: elsewhere }, require: { last: node.load.per_core, below: 50 } }\n\
        - { id: by.os, when: { fact: os, equals: other-os }, require: { last: node.load.per_core, below: 50 } }\n";
    let (_, report) = check(
        plan,
        &[
            "--path.procfs",
            &path("proc"),
            "--path.sysfs",
            &path("sys"),
            "--path.rootfs",
            &path("root"),
        ],
    );
    assert_eq!(row(&report["gates"], "load")["value"], 42.0, "84 over two cores: {report:#}");
    assert_eq!(row(&report["gates"], "by.host")["verdict"], "pass");
    assert_eq!(row(&report["gates"], "by.os")["verdict"], "not_applicable");
}

#[test]
fn contract_logs_go_to_standard_error_in_the_format_that_was_asked_for() {
    let (folder, plan) = folder_with("");
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &["--log.format", "json", "--log.level", "debug"]);
    let (code, said) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    let logged: Vec<&str> = said.lines().filter(|l| !l.starts_with("listening on")).collect();
    assert!(!logged.is_empty(), "something is logged");
    for line in logged {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: no JSON: {line}"));
        assert!(entry["level"].is_string(), "{line}");
    }
}

#[test]
fn contract_check_runs_until_all_is_decided_or_its_time_has_passed() {
    // Never decided: the secret can't be read, so that nothing is ever measured.
    let plan = format!(
        "checks: [ {{ id: a, http: {{ auth: {{ bearer: {{ file: SECRET }} }} }}, targets: [ 'http://127.0.0.1:{}/' ], every: 200ms }} ]\n\
         gates: [ {{ id: g, require: {{ ratio: check.success, over: 2s, at_least: 1000, above: 50% }} }} ]\n",
        open_port()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    fs::write(&secret, "s").expect("written");
    let plan = plan.replace("SECRET", &secret.display().to_string());
    let began = Instant::now();
    let (code, report) = check(&plan, &[]);
    let took = began.elapsed();
    assert_eq!((code, &report["decision"]), (2, &"incomplete".into()));
    // The window, one interval, and what judging once a second takes.
    assert!((Duration::from_millis(2200)..Duration::from_secs(8)).contains(&took), "{took:?}");
    let began = Instant::now();
    assert_eq!(check(&plan, &["--for", "500ms"]).0, 2);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn contract_an_interrupted_check_prints_its_report_and_exits_2_for_each_signal() {
    let (_folder, plan) = folder_with(&tcp_plan(open_port(), "10m"));
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let child = Command::new(BINARY)
            .args(["check", "-c", &plan, "-o", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_millis(1500));
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(code(&output), 2, "{signal}");
        let report: Value = serde_json::from_str(&out(&output)).expect("a document");
        assert_eq!(report["decision"], "incomplete");
    }
}

#[test]
fn contract_plan_tells_every_side_effect_and_what_it_needs() {
    let plan = format!(
        "{}\nchecks: [ {{ id: ping, icmp: {{}}, targets: [ 127.0.0.1 ], every: 7s }} ]\n",
        super::journey("127.0.0.1:1".parse().expect("an address"))
    );
    let (_folder, file) = folder_with(&plan);
    let text = out(&greenlight(&["plan", "-c", &file]));
    for words in ["ping", "every 7s", "127.0.0.1", "http://127.0.0.1:1/events", "5"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let needs = greenlight(&["plan", "-c", &file, "--privileges"]);
    assert_eq!(code(&needs), 0);
    assert!(out(&needs).contains("ping"), "{}", out(&needs));
    let json = greenlight(&["plan", "-c", &file, "--privileges", "-o", "json"]);
    let json: Value = serde_json::from_str(&out(&json)).expect("JSON");
    let effects = json["effects"].as_array().expect("an array");
    assert!(effects.iter().any(|effect| effect["check"] == "ping" && effect["needs"].is_string()));
}

#[test]
fn contract_report_reads_beside_a_running_daemon() {
    let (folder, plan) = folder_with(&tcp_plan(open_port(), "1s"));
    let state = folder.path().join("state");
    let daemon = Daemon::start(&plan, &state, &[]);
    daemon.until_verdict("port.open", "pass", Duration::from_secs(20));
    let state = state.display().to_string();
    let deadline = Instant::now() + Duration::from_secs(20);
    let report = loop {
        let output = greenlight(&["report", "-c", &plan, "--state", &state, "-o", "json"]);
        if code(&output) == 0 {
            break serde_json::from_str::<Value>(&out(&output)).expect("a document");
        }
        assert!(Instant::now() < deadline, "{} {}", code(&output), err(&output));
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(report["decision"], "go");
    assert_eq!(row(&report["gates"], "port.open")["verdict"], "pass");
    // The daemon was not disturbed, and still is the one writer.
    assert_eq!(daemon.get("/-/healthy").0, 200);
    assert_eq!(daemon.metric("greenlight_store_up", &[]), Some(1.0));
    for format in ["terminal", "markdown", "junit", "html"] {
        let output = greenlight(&["report", "-c", &plan, "--state", &state, "-o", format]);
        assert_eq!(code(&output), 0, "{format}: {}", err(&output));
        assert!(out(&output).contains("port.open"), "{format}");
    }
}

#[test]
fn contract_a_report_without_evidence_of_the_plan_holds_every_gate_open() {
    let (folder, plan) = folder_with(&tcp_plan(open_port(), "1s"));
    let state = folder.path().join("state").display().to_string();
    let report = |plan: &str| {
        let output = greenlight(&["report", "-c", plan, "--state", &state, "-o", "json"]);
        assert_eq!(code(&output), 2, "{}", err(&output));
        assert!(err(&output).contains("no evidence for this plan"), "{}", err(&output));
        let report: Value = serde_json::from_str(&out(&output)).expect("a document");
        assert_eq!(report["decision"], "incomplete");
        let gates = report["gates"].as_array().expect("gates");
        assert_eq!(gates.len(), 1, "{report:#}");
        assert_eq!(gates[0]["verdict"], "open", "{report:#}");
    };
    report(&plan);
    let output = greenlight(&["check", "-c", &plan, "--state", &state]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = greenlight(&["report", "-c", &plan, "--state", &state]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    // What was measured under another plan says nothing of this one.
    let other = folder.path().join("other.yaml");
    std::fs::write(&other, tcp_plan(open_port(), "2s")).expect("written");
    report(&other.display().to_string());
    // What can't be read is no missing evidence.
    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).expect("made");
    std::fs::write(broken.join("greenlight.db"), "no database, and longer than a header of one")
        .expect("written");
    let broken = broken.display().to_string();
    let output = greenlight(&["report", "-c", &plan, "--state", &broken]);
    assert_eq!(code(&output), 70, "{}", err(&output));
    assert_eq!(out(&output), "");
}

/// A terminal that is closed ends what was started in it; what nohup keeps alive stays.
#[test]
fn contract_a_hangup_ends_check_with_its_report_unless_it_is_ignored() {
    let (folder, plan) = folder_with(&tcp_plan(open_port(), "10m"));
    let report = folder.path().join("report.json");
    let asked = format!("json={}", report.display());
    let mut child = Command::new("nohup")
        .args([BINARY, "check", "-c", &plan, "--for", "4s", "-o", &asked])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nohup is part of coreutils");
    std::thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGHUP)
        .expect("it runs");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("it is ours").is_none(), "it goes on");
    assert_eq!(child.wait().expect("it ends").code(), Some(2));
    assert!(report.exists());
}

#[test]
fn contract_once_and_plan_have_every_format() {
    let (_folder, plan) = folder_with(&tcp_plan(closed_port(), "1s"));
    for (arguments, code_of) in
        [(&["once", "port"][..], 1), (&["plan"][..], 0), (&["plan", "--privileges"][..], 0)]
    {
        for (format, begins) in [
            ("terminal", ""),
            ("json", "{"),
            ("markdown", "# greenlight "),
            ("junit", "<?xml"),
            ("html", "<!DOCTYPE html>"),
        ] {
            let all = [arguments, &["-c", &plan, "-o", format]].concat();
            let output = greenlight(&all);
            assert_eq!(code(&output), code_of, "{all:?}: {}", err(&output));
            assert!(out(&output).starts_with(begins), "{all:?}: {}", out(&output));
            assert!(!out(&output).trim().is_empty(), "{all:?}");
        }
    }
    let junit = out(&greenlight(&["once", "port", "-c", &plan, "-o", "junit"]));
    assert!(junit.contains(r#"failures="1""#), "{junit}");
    assert!(junit.contains("refused"), "{junit}");
    let planned = out(&greenlight(&["plan", "-c", &plan, "-o", "junit"]));
    assert!(planned.contains("port.open") && planned.contains("<skipped"), "{planned}");
    let selected = "checks: [ { id: port, tcp: {}, targets: { peers: { zone: a } } } ]\n";
    let (_folder, plan) = folder_with(selected);
    let output = greenlight(&["once", "port", "-c", &plan]);
    assert_eq!(code(&output), 2, "nothing was tried");
    assert!(err(&output).contains("no peer is selected"), "{}", err(&output));
}

#[test]
fn contract_demo_ends_with_0_after_a_signal() {
    let mut child = Command::new(BINARY)
        .args(["demo", "--web.listen-address", "127.0.0.1:0", "-o", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains("listening on"));
    let address = line.expect("it listens").replace("listening on http://", "");
    let rest = std::thread::spawn(move || lines.for_each(drop));
    let (status, page) = crate::command::fetch("GET", &address, "/");
    assert_eq!(status, 200);
    assert!(page.contains("embedded reference platform"));
    // A second one beside it on the same address is told so.
    let second = greenlight(&["demo", "--web.listen-address", &address]);
    assert_eq!(code(&second), 70, "{}", err(&second));
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGINT)
        .expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    rest.join().expect("it was read");
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
}

#[test]
fn contract_once_uses_secrets_of_every_kind_and_says_what_it_saw() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = seen.clone();
    let server = super::web(move |asked| {
        let field = asked
            .head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("authorization: bearer ").map(str::to_owned)
            })
            .unwrap_or_default();
        let known = field == "from-a-command";
        all.lock().expect("nobody panicked").push(field);
        (if known { 200 } else { 401 }, "{}".to_owned())
    });
    let plan = |secret: &str| {
        format!(
            "checks: [ {{ id: a, http: {{ auth: {{ bearer: {secret} }} }}, targets: [ 'http://{server}/' ] }} ]"
        )
    };
    let (_folder, file) = folder_with(&plan("{ command: [ echo, from-a-command ] }"));
    let output = greenlight(&["once", "a", "-c", &file, "-o", "json"]);
    assert_eq!(code(&output), 0, "{} {}", out(&output), err(&output));
    let (_folder, file) = folder_with(&plan("{ env: CONTRACT_WRONG }"));
    let output = greenlight_with(&["once", "a", "-c", &file], &[("CONTRACT_WRONG", "other")]);
    assert_eq!(code(&output), 1, "{} {}", out(&output), err(&output));
    // Not set, and a command that fails: nobody knows what the target would have said.
    // Nor what it would have said to one that is not empty.
    for secret in [
        "{ env: CONTRACT_NOT_SET }",
        "{ env: CONTRACT_EMPTY }",
        "{ command: [ \"false\" ] }",
        "{ command: [ \"true\" ] }",
        "{ file: /no/such }",
    ] {
        let (_folder, file) = folder_with(&plan(secret));
        let empty = [("CONTRACT_EMPTY", "")];
        let output = greenlight_with(&["once", "a", "-c", &file, "-o", "json"], &empty);
        assert_eq!(code(&output), 2, "{secret}: {} {}", out(&output), err(&output));
        let seen: Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(seen["targets"][0]["outcome"], "inconclusive");
        assert_eq!(seen["targets"][0]["reason"]["code"], "unreadable");
    }
    assert_eq!(seen.lock().expect("nobody panicked").len(), 2, "no secret, no request");
    let (_folder, file) = folder_with(&format!(
        "checks: [ {{ id: a, tcp: {{}}, targets: [ '127.0.0.1:{}', '127.0.0.1:{}' ] }} ]",
        open_port(),
        closed_port()
    ));
    assert_eq!(code(&greenlight(&["once", "a", "-c", &file])), 1, "one failure is a failure");
}
