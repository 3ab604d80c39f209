//! Use cases on the embedded platform: a benign twin that alerts, and a sequence that is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use greenlight::demo::Platform;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Daemon, err, folder_with, greenlight, out};

/// A busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const GATE: &str = "demo.usecases.twins";
/// Gates of which a part is that the journey's own twin raises no alert.
const PARTNER: [&str; 2] = ["partner.core.detection", "partner.acceptance.use-case"];

const JOURNEY: &str = "demo-new-admin-account";

/// A rule without what tells the administrator's groups from others.
const TOO_WIDE: &str = "
title: New administrator account
logsource: { product: linux, service: auth }
detection:
  selection: { event.action: added-to-group }
  condition: selection
level: high
";

/// One account is made, and an administrator eight seconds later.
const CUT_OFF: &str = "
title: A new account is made an administrator, after a while
attack: [ T1098 ]
vars: { account: cut-off }
events:
  - message: \"new user: name=${account} [{token}]\"
    fields: { event.action: user-created, user.name: \"${account}\" }
  - after: 8s
    message: \"add '${account}' to group 'sudo' [{token}]\"
    fields: { event.action: added-to-group, user.name: \"${account}\", group.name: sudo }
alert: { name: New administrator account, within: 2s }
";

fn cut_off(vars: &[(String, String)]) -> String {
    let of = |name: &str| &vars.iter().find(|(own, _)| own == name).expect("a variable").1;
    let (http, store, alerts) = (of("demo_http"), of("demo_store"), of("demo_alertmanager"));
    format!(
        "journeys:\n  \
         - id: cut-off\n    \
           every: 15s\n    \
           timeout: 2s\n    \
           send: {{ http: {{ to: '{http}', batch: one }} }}\n    \
           events: {{ usecase: cut-off }}\n    \
           stages:\n    \
           - stored: {{ json_api: {{ url: '{store}/search?run={{run}}', items: '.hits.hits[]', fields: ._source, text: ._source.message, id: ._id }}, within: 2s, give_up: 3s }}\n    \
           - alerted: {{ alertmanager: {{ url: '{alerts}', match: {{ alertname: '{{alert}}' }} }}, give_up: 3s }}\n"
    )
}

fn stages(daemon: &Daemon, journey: &str) -> Value {
    let journeys = daemon.json("/api/v1/journeys");
    let rows = journeys.as_array().expect("an array");
    rows.iter().find(|row| row["id"] == journey).expect("the journey")["stages"].clone()
}

fn stage(stages: &Value, name: &str) -> Value {
    let rows = stages.as_array().expect("an array");
    rows.iter().find(|row| row["name"] == name).expect("the stage").clone()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_twin_that_alerts_is_red_and_a_sequence_that_is_cut_off_is_no_loss() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let platform = runtime.block_on(Platform::start(None)).expect("a platform");
    let vars = platform.plan_vars();

    let (folder, twins_plan) = folder_with(&format!(
        "include: [ 'pack:demo-usecases', 'pack:partner-platform' ]\n\
         vars: {{ usecase_journey: {JOURNEY}, partner_rounds_window: 12s }}\n"
    ));
    let quick =
        [("demo_usecases_every", "11s"), ("demo_usecases_give_up", "4s"), ("demo_window", "12s")];
    let all = vars.iter().map(|(name, value)| format!("{name}={value}"));
    let all: Vec<String> =
        all.chain(quick.map(|(name, value)| format!("{name}={value}"))).collect();
    let arguments: Vec<&str> = all.iter().flat_map(|var| ["--var", var.as_str()]).collect();
    let twins = Daemon::start(&twins_plan, &folder.path().join("state"), &arguments);
    platform.notify(&format!("http://{}/api/v1/webhook/alertmanager", twins.address));

    let (cut, plan) = folder_with(&cut_off(&vars));
    let cases = cut.path().join("usecases");
    std::fs::create_dir(&cases).expect("a folder");
    std::fs::write(cases.join("cut-off.yaml"), CUT_OFF).expect("a file");
    let state = cut.path().join("state");
    let killed = Daemon::start(&plan, &state, &[]);
    let under_way = |daemon: &Daemon| {
        daemon.metric("greenlight_journey_events_under_way", &["cut-off"]).unwrap_or(0.0) > 0.0
    };
    until("a round is under way", || under_way(&killed));
    let (code, said) = killed.end(Signal::SIGKILL);
    assert_eq!(code, None, "{said}");

    // What was not sent is not sent on: its alert is not missing, and none comes.
    let resumed = Daemon::start(&plan, &state, &[]);
    until("the round that was cut off has ended", || {
        stage(&stages(&resumed, "cut-off"), "alerted")["expected"] != 0
    });
    let shown = stages(&resumed, "cut-off");
    let alerted = stage(&shown, "alerted");
    assert_eq!(
        (&alerted["expected"], &alerted["fates"]["unknown"]),
        (&1.into(), &1.into()),
        "{shown:#}"
    );
    for row in shown.as_array().expect("an array") {
        let bad = ["lost", "refused", "late", "misparsed"].map(|fate| row["fates"][fate] == 0);
        assert!(bad.iter().all(|none| *none) && row["duplicate"] == 0, "{row:#}");
    }
    until("a whole round comes after it", || {
        stage(&stages(&resumed, "cut-off"), "alerted")["fates"]["ok"] != 0
    });
    drop(resumed);

    twins.until_verdict(GATE, "pass", PATIENCE);
    let alarms = |daemon: &Daemon| {
        daemon.metric("greenlight_journey_false_alarms_total", &[JOURNEY]).unwrap_or(0.0)
    };
    // No journey nor check stands in for a twin that is sent with it.
    for gate in PARTNER {
        let row = twins.until_verdict(gate, "open", PATIENCE);
        assert!(!row["reason"]["text"].to_string().contains("benign"), "{row:#}");
    }
    assert_eq!(alarms(&twins), 0.0);
    platform.detect(&[TOO_WIDE]).expect("a rule");
    let row = twins.until_verdict(GATE, "fail", PATIENCE);
    assert_eq!(row["reason"]["code"], "false_alarm", "{row:#}");
    assert_eq!(row["worst"]["check"], JOURNEY, "{row:#}");
    for gate in PARTNER {
        let row = twins.until_verdict(gate, "fail", PATIENCE);
        assert_eq!(
            (&row["reason"]["code"], &row["worst"]["check"]),
            (&"false_alarm".into(), &JOURNEY.into()),
            "{row:#}"
        );
    }
    assert!(
        row["reason"]["text"].as_str().is_some_and(|text| text.contains("benign twin")),
        "{row:#}"
    );
    assert!(alarms(&twins) >= 1.0);
    until("the report says so", || {
        let alerted = stage(&stages(&twins, JOURNEY), "alerted");
        alerted["reason"] == "false_alarm: unexpected alert for the benign twin"
            && alerted["twin"]["false_alarms"] != 0
    });
    platform.detect(&[]).expect("its own rules");
    twins.until_verdict(GATE, "pass", PATIENCE);
    // Other parts of them have no variables.
    for gate in PARTNER {
        twins.until_verdict(gate, "open", PATIENCE);
    }
    let (code, said) = twins.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    runtime.block_on(platform.stop());
    layer(&folder.path().join("state"), &twins_plan, &arguments);
}

/// What alerted as a layer of the ATT&CK Navigator, from the report that the agent left: whole by the
/// format's description (layer format 4.5), and with the report's own counts.
fn layer(state: &Path, plan: &str, vars: &[&str]) {
    let file = state.with_file_name("layer.json");
    let (state, shown) = (state.display().to_string(), file.display().to_string());
    let mut arguments =
        vec!["report", "-c", plan, "--state", &state, "--attack-layer", &shown, "-o", "json"];
    arguments.extend(vars);
    let output = greenlight(&arguments);
    let report: Value =
        serde_json::from_str(&out(&output)).unwrap_or_else(|e| panic!("{e}: {}", err(&output)));
    let text = std::fs::read_to_string(&file).expect("the layer is written");
    let layer: Value = serde_json::from_str(&text).expect("JSON");

    assert!(layer["name"].as_str().is_some_and(|name| !name.is_empty()), "{text}");
    assert_eq!(layer["versions"]["layer"], "4.5");
    assert_eq!(layer["domain"], "enterprise-attack");
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let colour =
        |value: &Value| value.as_str().is_some_and(|text| text.len() == 7 && text.starts_with('#'));
    let gradient = &layer["gradient"];
    assert!(
        gradient["colors"].as_array().is_some_and(|all| all.len() >= 2 && all.iter().all(colour)),
        "{text}"
    );
    assert!(gradient["minValue"].as_f64() < gradient["maxValue"].as_f64(), "{text}");
    for item in layer["legendItems"].as_array().expect("an array") {
        assert!(is_text(&item["label"]) && colour(&item["color"]), "{item}");
    }

    // By the report: of each technique, in time and expected.
    let mut expected: BTreeMap<String, (u64, u64, BTreeSet<String>)> = BTreeMap::new();
    for row in report["journeys"].as_array().expect("an array") {
        if row["usecase"].is_null() {
            continue;
        }
        let alerted = stage(&row["stages"], "alerted");
        for technique in row["usecase"]["attack"].as_array().expect("an array") {
            let technique = technique.as_str().expect("a text").to_owned();
            let (ok, all, journeys) = expected.entry(technique).or_default();
            *ok += alerted["fates"]["ok"].as_u64().expect("a count");
            *all += alerted["expected"].as_u64().expect("a count");
            journeys.insert(row["id"].as_str().expect("an id").to_owned());
        }
    }
    assert!(expected.len() >= 3 && expected.values().all(|(_, all, _)| *all > 0), "{expected:?}");
    let techniques = layer["techniques"].as_array().expect("an array");
    assert_eq!(techniques.len(), expected.len(), "each once: {text}");
    for technique in techniques {
        let id = technique["techniqueID"].as_str().expect("an id");
        let (main, sub) = id.strip_prefix('T').expect("T first").split_at(4);
        assert!(main.chars().all(|c| c.is_ascii_digit()), "{id}");
        let sub_is = |sub: &str| sub.len() == 4 && sub[1..].chars().all(|c| c.is_ascii_digit());
        assert!(sub.is_empty() || (sub.starts_with('.') && sub_is(sub)), "{id}");
        let (ok, all, journeys) = &expected[id];
        assert_eq!(technique["score"].as_f64(), Some((100 * ok / all) as f64), "{technique}");
        let comment = technique["comment"].as_str().expect("a comment");
        assert!(comment.starts_with(&format!("alerted {ok} of {all} within ")), "{comment}");
        let date = report["finished_at"].as_str().and_then(|at| at.get(..10)).expect("a date");
        assert!(comment.contains(date), "{comment}");
        let named = technique["metadata"].as_array().expect("an array").iter().map(|entry| {
            assert!(is_text(&entry["name"]) && is_text(&entry["value"]), "{entry}");
            entry["value"].as_str().unwrap_or_default().to_owned()
        });
        assert_eq!(&named.collect::<BTreeSet<_>>(), journeys, "{technique}");
        assert!(technique["enabled"].is_boolean() && technique["showSubtechniques"].is_boolean());
    }
    let alarmed = expected.iter().find(|(_, (_, _, all))| all.contains("demo-new-admin-account"));
    let alarmed = techniques
        .iter()
        .find(|one| Some(one["techniqueID"].as_str()) == alarmed.map(|(id, _)| Some(id.as_str())));
    let comment = alarmed.and_then(|one| one["comment"].as_str()).unwrap_or_default();
    assert!(comment.contains("false alarms of benign twins"), "{comment}");
}
