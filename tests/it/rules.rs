//! The rule file that `greenlight rules` writes, held by promtool: it is valid, and a failing
//! gate, an unjudged gate and a vanished agent each raise their alert, and nothing else does.

use std::time::Duration;

use greenlight::catalogue::agent::CHECK_SUCCESS;
use greenlight::gate::{
    Bound, Criterion, Function, Gate, Level, Requirement, Selection, Subject, Verdict,
};
use greenlight::render::rules::{Watched, render};

use crate::peers::{folder, promtool};

fn gate(id: &str, level: Level) -> Gate {
    let criterion = Criterion {
        function: Function::Ratio,
        subject: Subject::Series(Selection {
            check: Some("core \"lat\" \\ency".to_owned()),
            ..Selection::all(&CHECK_SUCCESS)
        }),
        over: Duration::from_secs(300),
        at_least: 1,
        fail: Some(Bound::Above(0.99)),
        warn: None,
        clears: None,
        stable_for: None,
        pooled: false,
        during: None,
    };
    Gate {
        id: id.to_owned(),
        title: "Ports: \"open\" {{ .Labels }}\nand quick".to_owned(),
        level,
        require: Requirement::Criterion(criterion),
        when: None,
        refs: Vec::new(),
        why: None,
        fix: Some("see C:\\path # no comment\u{7f}".to_owned()),
        waivable: true,
        max_inconclusive: 0.05,
    }
}

fn watched(gate: &Gate) -> Watched<'_> {
    Watched {
        gate,
        checks: vec![("core \"lat\" \\ency".to_owned(), Duration::from_secs(15))],
        journeys: vec![("ssh".to_owned(), Duration::from_secs(60))],
        open_for: Duration::from_secs(540),
    }
}

#[test]
fn promtool_takes_the_rules() {
    let gates = [gate("net.latency", Level::Mandatory), gate("a\\b\"c", Level::Optional)];
    let all: Vec<Watched<'_>> = gates.iter().map(watched).collect();
    for (gates, nodes) in [
        (&all[..], &["n1".to_owned(), "n\"2".to_owned()][..]),
        (&all[..], &[]),
        (&[], &["n1".to_owned()]),
        (&[], &[]),
    ] {
        let text = render(gates, nodes);
        let file = folder("rules").join("rules.yml");
        std::fs::write(&file, &text).unwrap();
        let (good, said) =
            promtool(&["check", "rules", "--lint-fatal", &file.display().to_string()], "");
        assert!(good, "{said}\n{text}");
        let count = gates.len() * 2 + nodes.len();
        assert!(said.contains(&format!("{count} rules found")), "{count}: {said}");
    }
}

/// One alert that promtool must find, or none.
fn expectation(at: &str, alert: &str, firing: &[&str]) -> String {
    let mut text = format!(
        "      - eval_time: {at}\n        alertname: {alert}\n        exp_alerts:{}\n",
        if firing.is_empty() { " []" } else { "" }
    );
    for labels in firing {
        text.push_str(&format!("          - exp_labels: {labels}\n"));
    }
    text
}

#[test]
fn each_trouble_raises_its_alert() {
    let folder = folder("rules");
    let mut good = gate("good", Level::Mandatory);
    let mut bad = gate("bad", Level::Mandatory);
    let mut blind = gate("blind", Level::Optional);
    let mut silent = gate("silent", Level::Mandatory);
    let mut both = gate("both", Level::Mandatory);
    for gate in [&mut good, &mut bad, &mut blind, &mut silent, &mut both] {
        gate.title = gate.id.clone();
        gate.fix = None;
    }
    let of = |gate, check: &str| Watched {
        gate,
        checks: vec![(check.to_owned(), Duration::from_secs(15))],
        journeys: Vec::new(),
        open_for: Duration::from_secs(315),
    };
    // What is tried far more often than it is scraped.
    let quick = gate("quick", Level::Mandatory);
    let often = Watched {
        gate: &quick,
        checks: vec![("often".to_owned(), Duration::from_millis(200))],
        journeys: Vec::new(),
        open_for: Duration::from_secs(300),
    };
    let rules = render(
        &[
            of(&good, "busy"),
            of(&bad, "busy"),
            of(&blind, "busy"),
            of(&silent, "stopped"),
            of(&both, "idle"),
            often,
        ],
        &["n1".to_owned(), "n2".to_owned()],
    );
    // Annotations are compared too; they are not what this test is about.
    let bare: String = rules
        .lines()
        .filter(|line| {
            let key = line.trim_start();
            !["annotations:", "summary:", "description:", "fix:", "why:"]
                .iter()
                .any(|word| key.starts_with(word))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(folder.join("rules.yml"), bare).unwrap();

    let verdict = |gate: &str, level: &str, values: &str| {
        format!(
            "      - series: 'greenlight_gate_verdict{{gate=\"{gate}\",level=\"{level}\"}}'\n        values: '{values}'\n"
        )
    };
    let number = |verdict: Verdict| verdict.number();
    let (pass, open, fail) = (number(Verdict::Pass), number(Verdict::Open), number(Verdict::Fail));
    let mut test = String::from(
        "rule_files: [ rules.yml ]\nevaluation_interval: 5s\ntests:\n  - interval: 15s\n    input_series:\n",
    );
    // 15 minutes of passing; then one fails for a while, one is open, one check stops, and at 30
    // minutes one agent is gone.
    test.push_str(&verdict("good", "mandatory", &format!("{pass}x300")));
    test.push_str(&verdict("bad", "mandatory", &format!("{pass}x59 {fail}x60 {pass}x180")));
    test.push_str(&verdict("blind", "optional", &format!("{pass}x59 {open}x60 {pass}x180")));
    test.push_str(&verdict("silent", "mandatory", &format!("{pass}x300")));
    // What is not tried any more is open soon: by both an agent is told of once.
    test.push_str(&verdict(
        "both",
        "mandatory\",instance=\"a\",job=\"g\",zone=\"z",
        &format!("{pass}x70 {open}x230"),
    ));
    // Of two agents that do the same, one has stopped trying.
    let tries = "0+15x300".to_owned();
    for (check, instance, values) in [
        ("busy", "a", tries.clone()),
        ("stopped", "a", format!("0+15x60 {}x240", 900)),
        ("stopped", "b", tries.clone()),
        ("idle", "a\",job=\"g\",zone=\"z", format!("0+15x60 {}x240", 900)),
        ("often", "a", tries),
    ] {
        test.push_str(&format!(
            "      - series: 'greenlight_check_last_attempt_timestamp_seconds{{check=\"{check}\",instance=\"{instance}\",target=\"t\"}}'\n        values: '{values}'\n"
        ));
    }
    for (node, values) in [("n1", "1x300"), ("n2", "1x120 stale")] {
        test.push_str(&format!(
            "      - series: 'greenlight_node_info{{node=\"{node}\"}}'\n        values: '{values}'\n"
        ));
    }
    test.push_str("    alert_rule_test:\n");
    let failing = "{ gate: bad, level: mandatory, severity: critical }";
    let blind = "{ gate: blind, level: optional, severity: warning }";
    let silent = "{ gate: silent, instance: a, level: mandatory, severity: critical }";
    let both = "{ gate: both, instance: a, job: g, zone: z, level: mandatory, severity: critical }";
    let gone = "{ node: n2, severity: critical }";
    for (at, fails, unjudged, agents) in [
        ("10m", &[][..], &[][..], &[][..]),
        ("16m", &[failing], &[], &[]),
        // Open for less than its window and three intervals is no trouble yet.
        ("20m", &[failing], &[], &[]),
        ("22m", &[failing], &[blind, silent, both], &[]),
        ("29m", &[failing], &[blind, silent, both], &[]),
        ("31m", &[], &[silent, both], &[]),
        ("37m", &[], &[silent, both], &[gone]),
    ] {
        test.push_str(&expectation(at, "GreenlightGateFailing", fails));
        test.push_str(&expectation(at, "GreenlightGateNotJudged", unjudged));
        test.push_str(&expectation(at, "GreenlightAgentGone", agents));
    }
    let file = folder.join("test.yml");
    std::fs::write(&file, &test).unwrap();
    let (good, said) = promtool(&["test", "rules", &file.display().to_string()], "");
    assert!(good, "{said}\n{rules}");
}
