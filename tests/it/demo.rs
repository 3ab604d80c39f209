//! The demo as a newcomer runs it: GO where all is well, and with each stage broken NO-GO that
//! names exactly that stage, with exact counts.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const STAGES: [&str; 8] =
    ["sent", "accepted", "parsed", "enriched", "stored", "alerted", "notified", "shown"];
/// Events a round of each journey; what counts things counts one.
const JOURNEYS: [(&str, u64); 3] = [("demo-kafka", 7), ("demo-syslog", 11), ("demo-http", 13)];
/// The contract's.
const LONGEST: Duration = Duration::from_secs(60);
/// Each runs a whole agent and platform; more at once on two cores would be late.
const AT_ONCE: usize = 3;

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
            let found = compare(broken, code, took, &report);
            wrong.extend(found.into_iter().map(|text| format!("broken {broken:?}: {text}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn once(broken: Option<&str>) -> (Option<i32>, Duration, Value) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenlight"));
    command.args(["demo", "--once", "-o", "json", "--web.listen-address", "127.0.0.1:0"]);
    if let Some(stage) = broken {
        command.args(["--break", stage]);
    }
    let done = command.stdin(Stdio::null()).output().expect("the demo starts");
    let report = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
        panic!("no report ({error}): {}", String::from_utf8_lossy(&done.stderr))
    });
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("embedded"), "it does not say what it is: {said}");
    (done.status.code(), began.elapsed(), report)
}

/// The stages of a journey: only a way in that acknowledges has `accepted`.
fn stages(journey: &str) -> Vec<&'static str> {
    STAGES.into_iter().filter(|stage| journey != "demo-syslog" || *stage != "accepted").collect()
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

    for (id, count) in JOURNEYS {
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
        }
    }
    wrong
}
