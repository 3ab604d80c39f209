//! Use cases on the embedded platform: a benign twin that alerts, and a sequence that is cut off.

use std::time::{Duration, Instant};

use greenlight::demo::Platform;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Daemon, folder_with};

/// A busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const GATE: &str = "demo.usecases.twins";

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

    let (folder, plan) = folder_with("include: [ 'pack:demo-usecases' ]");
    let quick =
        [("demo_usecases_every", "11s"), ("demo_usecases_give_up", "4s"), ("demo_window", "12s")];
    let all = vars.iter().map(|(name, value)| format!("{name}={value}"));
    let all: Vec<String> =
        all.chain(quick.map(|(name, value)| format!("{name}={value}"))).collect();
    let arguments: Vec<&str> = all.iter().flat_map(|var| ["--var", var.as_str()]).collect();
    let twins = Daemon::start(&plan, &folder.path().join("state"), &arguments);
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
    let journey = "demo-new-admin-account";
    let alarms = |daemon: &Daemon| {
        daemon.metric("greenlight_journey_false_alarms_total", &[journey]).unwrap_or(0.0)
    };
    assert_eq!(alarms(&twins), 0.0);
    platform.detect(&[TOO_WIDE]).expect("a rule");
    let row = twins.until_verdict(GATE, "fail", PATIENCE);
    assert_eq!(row["reason"]["code"], "false_alarm", "{row:#}");
    assert_eq!(row["worst"]["check"], journey, "{row:#}");
    assert!(
        row["reason"]["text"].as_str().is_some_and(|text| text.contains("benign twin")),
        "{row:#}"
    );
    assert!(alarms(&twins) >= 1.0);
    until("the report says so", || {
        let alerted = stage(&stages(&twins, journey), "alerted");
        alerted["reason"] == "false_alarm: unexpected alert for the benign twin"
            && alerted["twin"]["false_alarms"] != 0
    });
    platform.detect(&[]).expect("its own rules");
    twins.until_verdict(GATE, "pass", PATIENCE);
    let (code, said) = twins.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    runtime.block_on(platform.stop());
}
