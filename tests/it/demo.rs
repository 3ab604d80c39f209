//! The demo as a newcomer runs it: GO where all is well, and with each stage broken NO-GO that
//! names exactly that stage, with exact counts.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenlight::ledger;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{BINARY, Daemon};
use crate::peers::promtool;

const STAGES: [&str; 8] =
    ["sent", "accepted", "parsed", "enriched", "stored", "alerted", "notified", "shown"];
/// One mandatory gate for each.
const GATES: [&str; 8] = [
    "demo.sent",
    "demo.accepted",
    "demo.parsed",
    "demo.enriched",
    "demo.stored",
    "demo.alerted",
    "demo.notified",
    "demo.shown",
];
/// Events a round of each journey; what counts things counts one.
const JOURNEYS: [(&str, u64); 3] = [("demo-kafka", 7), ("demo-syslog", 11), ("demo-http", 13)];
/// Events a round of each use case, which no dashboard shows; their twins have fewer.
const USE_CASES: [(&str, u64); 3] =
    [("demo-ssh-bruteforce", 10), ("demo-new-admin-account", 2), ("demo-log-cleared", 1)];
/// The contract's.
const LONGEST: Duration = Duration::from_secs(60);
/// `partner-platform` has so many lines.
const PARTNER_LINES: usize = 32;
/// Each runs a whole agent and platform, which mostly wait.
const AT_ONCE: usize = 9;

#[test]
fn the_demo_is_go_and_each_broken_stage_is_named() {
    let mut runs: Vec<Option<&str>> = STAGES.into_iter().map(Some).collect();
    runs.push(None);
    let mut wrong = Vec::new();
    for group in runs.chunks(AT_ONCE) {
        let started: Vec<_> = group
            .iter()
            .map(|broken| {
                (
                    *broken,
                    std::thread::spawn({
                        let broken = *broken;
                        move || once(broken)
                    }),
                )
            })
            .collect();
        for (broken, run) in started {
            let (code, took, report) = run.join().expect("a run of the demo");
            let mut found = compare(broken, code, took, &report);
            found.extend(partner(&report));
            wrong.extend(found.into_iter().map(|text| format!("broken {broken:?}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn once(broken: Option<&str>) -> (Option<i32>, Duration, Value) {
    let began = Instant::now();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command = Command::new(BINARY);
    command.args(["demo", "--once", "-o", "terminal", "--web.listen-address", "127.0.0.1:0"]);
    let files = ["json", "html", "markdown", "junit"];
    for format in files {
        command.arg("-o").arg(format!("{format}={}", folder.path().join(format).display()));
    }
    if let Some(stage) = broken {
        command.args(["--break", stage]);
    }
    let done = command.stdin(Stdio::null()).output().expect("the demo starts");
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let read = |format| {
        let text = fs::read_to_string(folder.path().join(format));
        text.unwrap_or_else(|error| panic!("no report ({error}): {said}"))
    };
    let report = serde_json::from_str(&read("json")).expect("JSON");
    let printed = files.map(|format| (format, read(format))).into_iter();
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    for (what, text) in printed.chain([("terminal", shown), ("standard error", said.clone())]) {
        assert!(text.contains("embedded"), "{what} does not say what it is: {text}");
    }
    (done.status.code(), took, report)
}

/// Nothing but the stages blocks: the node's gates and the partner's lines are optional, and a line
/// that the demo can't prove is open with the reason.
fn partner(report: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut lines, mut open) = (0, 0);
    for gate in report["gates"].as_array().into_iter().flatten() {
        let id = gate["id"].as_str().unwrap_or_default();
        if GATES.contains(&id) == (gate["level"] == "optional") {
            wrong.push(format!("{id} is {}", gate["level"]));
        }
        if id.starts_with("partner.") {
            lines += 1;
            // What the machine does beside, which runs other tests, may turn a line of its own red.
            let disturbed = id.starts_with("partner.cluster.") && gate["verdict"] != "pass";
            open += usize::from(gate["verdict"] == "open" || disturbed);
            let told = gate["reason"]["text"].as_str().is_some_and(|text| !text.is_empty());
            if gate["verdict"] == "open" && !told {
                wrong.push(format!("{id} is open without a reason"));
            }
        }
    }
    if lines != PARTNER_LINES || open < PARTNER_LINES - 2 {
        wrong.push(format!("{lines} lines of the partner's, {open} of them open"));
    }
    wrong
}

/// The stages of a journey: only a way in that acknowledges has `accepted`.
fn stages(journey: &str) -> Vec<&'static str> {
    let by_syslog = ["demo-syslog", "demo-ssh-bruteforce"].contains(&journey);
    let use_case = USE_CASES.iter().any(|(id, _)| *id == journey);
    let lacks = |stage: &str| (by_syslog && stage == "accepted") || (use_case && stage == "shown");
    STAGES.into_iter().filter(|stage| !lacks(stage)).collect()
}

/// What becomes of the events at a stage, where another one is broken.
fn fate(broken: &str, stage: &str) -> &'static str {
    let at = |word: &str| STAGES.iter().position(|stage| *stage == word);
    if at(stage) < at(broken) {
        return "ok";
    }
    match (broken, stage) {
        ("sent" | "accepted", _) => "refused",
        // The store shows them, and shows that they lack what the enricher should have added.
        ("enriched", "enriched" | "stored") => "misparsed",
        _ => "lost",
    }
}

fn compare(broken: Option<&str>, code: Option<i32>, took: Duration, report: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, text: String| {
        if !holds {
            wrong.push(text);
        }
    };
    check(took < LONGEST, format!("it took {took:?}"));
    let (decision, expected) = if broken.is_some() { ("no_go", 1) } else { ("go", 0) };
    check(report["decision"] == decision, format!("the decision is {}", report["decision"]));
    check(code == Some(expected), format!("the exit code is {code:?}"));

    let gates: BTreeMap<&str, &Value> = report["gates"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|gate| gate["level"] == "mandatory")
        .filter_map(|gate| Some((gate["id"].as_str()?.strip_prefix("demo.")?, gate)))
        .collect();
    check(gates.len() == STAGES.len(), format!("{} mandatory gates", gates.len()));
    for (stage, gate) in &gates {
        let fails = broken.is_some_and(|broken| fate(broken, stage) != "ok");
        let (verdict, first) = if fails { ("fail", broken) } else { ("pass", None) };
        let said = (&gate["verdict"], gate["first_failing_stage"].as_str());
        check(said == (&Value::from(verdict), first), format!("gate {stage} is {said:?}"));
    }

    for (id, count) in JOURNEYS.into_iter().chain(USE_CASES) {
        let journeys = report["journeys"].as_array().into_iter().flatten();
        let Some(journey) = journeys.into_iter().find(|journey| journey["id"] == id) else {
            check(false, format!("no journey {id}"));
            continue;
        };
        let passes = broken.filter(|broken| stages(id).contains(broken));
        let first = journey["first_failing_stage"].as_str();
        check(first == passes, format!("{id} first fails at {first:?}"));
        let rounds = journey["rounds"].as_u64().unwrap_or(0);
        check(rounds >= 2, format!("{id} had {rounds} rounds"));
        let shown: Vec<&str> = journey["stages"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|stage| stage["name"].as_str())
            .collect();
        check(shown == stages(id), format!("{id} has the stages {shown:?}"));
        for stage in journey["stages"].as_array().into_iter().flatten() {
            let name = stage["name"].as_str().unwrap_or_default();
            let things = ["alerted", "notified", "shown"].contains(&name);
            let each = if things { 1 } else { count };
            let fate = passes.map_or("ok", |broken| fate(broken, name));
            let counted = &stage["fates"][fate];
            let whole = *counted == rounds * each && stage["expected"] == *counted;
            check(whole, format!("{id} at {name}: {} in {rounds} rounds", stage["fates"]));
            check(stage["duplicate"] == 0, format!("{id} at {name}: {}", stage["duplicate"]));
            let twin = &stage["twin"];
            let watched = ["alerted", "notified"].contains(&name);
            if !watched || !USE_CASES.iter().any(|(own, _)| *own == id) {
                check(twin.is_null(), format!("{id} at {name} has a twin: {twin}"));
                continue;
            }
            // A twin that does not get to the store brings no alert, and proves nothing.
            let away = ["sent", "accepted", "parsed", "stored"];
            let told = passes.is_none_or(|broken| !away.contains(&broken));
            let (quiet, untold) = if told { (rounds, 0) } else { (0, rounds) };
            check(
                twin["rounds"] == quiet && twin["inconclusive"] == untold,
                format!("the twin of {id} at {name}: {twin}"),
            );
            check(twin["false_alarms"] == 0, format!("the twin of {id} at {name}: {twin}"));
        }
        let title = &journey["usecase"]["title"];
        let use_case = USE_CASES.iter().any(|(own, _)| *own == id);
        check(title.is_string() == use_case, format!("{id} is of the use case {title}"));
    }
    let verdict = |id: &str| {
        let gates = report["gates"].as_array().into_iter().flatten();
        gates.into_iter().find(|gate| gate["id"] == id).map(|gate| &gate["verdict"])
    };
    let alerts = broken.is_none_or(|broken| ["notified", "shown"].contains(&broken));
    let heard = match broken {
        // The detector does not look into the store.
        None | Some("stored" | "shown") => "pass",
        Some("notified") => "fail",
        // What brings no alert is told to nobody.
        Some(_) => "error",
    };
    for (id, expected) in [
        ("demo.usecases.alerted", if alerts { "pass" } else { "fail" }),
        ("demo.usecases.heard", heard),
    ] {
        check(
            verdict(id) == Some(&Value::from(expected)),
            format!("{id} is {:?}, expected {expected}", verdict(id)),
        );
    }
    if broken.is_none() {
        check(verdict("demo.usecases.twins") == Some(&"pass".into()), "twins".to_owned());
    }
    wrong
}

#[test]
fn demo_stays_up_with_its_page_until_it_is_interrupted() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("report.json");
    let mut command = Command::new(BINARY);
    command
        .args(["demo", "--web.listen-address", "127.0.0.1:0", "-o"])
        .arg(format!("json={}", file.display()));
    let demo = Daemon::listening(command);
    demo.until_verdict("demo.shown", "pass", LONGEST);

    let (status, page) = demo.get("/");
    assert_eq!(status, 200);
    assert!(page.contains("embedded") && page.contains("demo-kafka"), "{page}");
    let (status, metrics) = demo.get("/metrics");
    assert_eq!(status, 200);
    let (good, said) = promtool(&["check", "metrics"], &metrics);
    assert!(good, "{said}");
    assert!(metrics.contains("greenlight_gate_verdict{gate=\"demo.shown\""), "{metrics}");

    let schema = serde_json::to_value(ledger::schema()).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let document = demo.json("/api/v1/ledger");
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    let gates = |document: &Value| document["gates"].as_array().map(Vec::len);
    assert_eq!(gates(&document), gates(&demo.json("/api/v1/plan")));

    let (code, log) = demo.end(Signal::SIGINT);
    assert_eq!(code, Some(0), "{log}");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("it was written")).expect("JSON");
    assert!(validator.is_valid(&report));
}
