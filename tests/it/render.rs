//! The report's forms, each held by what it shows of the same documents.

use std::collections::BTreeMap;

use greenlight::gate::{Level, Verdict, Why};
use greenlight::journey::specimen::{Is, Part, Shown, Specimen, Text};
use greenlight::journey::tally::{EdgeTally, TwinTally};
use greenlight::journey::{Fate, Stage};
use greenlight::ledger::{
    CheckRow, ClockRow, Document, GateRow, JourneyRow, LastAttempt, Latency, Node, Plan,
    RecheckRow, StageRow, TargetRow, Tool, UseCaseRow, VERSION, Worst, decide,
};
use greenlight::render::history::History;
use greenlight::render::{Form, Options, page, report};
use serde_json::Value;

/// A gate that nobody measured yet; tests change what they are about.
fn gate(id: &str, title: &str, level: Level, verdict: Verdict) -> GateRow {
    GateRow {
        id: id.into(),
        title: title.into(),
        level,
        verdict,
        refs: Vec::new(),
        criterion: String::from("the newest node.up is at or above 1, on this node"),
        value: None,
        unit: None,
        threshold: None,
        margin: None,
        samples: 0,
        window_seconds: None,
        covered_seconds: None,
        worst: None,
        reason: None,
        first_failing_stage: None,
        checks: Vec::new(),
        journeys: Vec::new(),
        promql: None,
        promql_missing: None,
        why: None,
        fix: None,
    }
}

fn measured(mut gate: GateRow, unit: &str, value: f64, threshold: f64, below: bool) -> GateRow {
    gate.unit = Some(unit.into());
    gate.value = Some(value);
    gate.threshold = Some(threshold);
    gate.margin = Some(if below { threshold - value } else { value - threshold });
    gate.samples = 118;
    gate.window_seconds = Some(900.0);
    gate.covered_seconds = Some(900.0);
    gate
}

fn stage(name: Stage, fates: &[(Fate, u64)], p50: Option<f64>) -> StageRow {
    let mut counts: BTreeMap<Fate, u64> = Fate::ALL.into_iter().map(|fate| (fate, 0)).collect();
    counts.extend(fates.iter().copied());
    StageRow {
        name,
        expected: fates.iter().map(|(_, n)| n).sum(),
        fates: counts,
        duplicate: 0,
        latency_seconds: Latency {
            p50,
            p95: p50.map(|p| p * 1.4),
            p99: p50.map(|p| p * 1.8),
            max: p50.map(|p| p * 2.0),
        },
        loss_upper_bound_95: Some(0.0025),
        reason: None,
        clock_offset_seconds: None,
        alert_to_person_seconds: None,
        twin: None,
        edges: None,
        rule: None,
        exhibit: None,
        rechecks: Vec::new(),
    }
}

fn last(outcome: &str, reason: Option<(&str, &str)>) -> Option<LastAttempt> {
    Some(LastAttempt {
        at: String::from("2026-11-22T18:19:58.120Z"),
        outcome: outcome.into(),
        reason: reason.map(|(code, text)| Why::new(code, text)),
        notes: Vec::new(),
    })
}

/// One of everything: each verdict, a failing journey and a good one, checks of each outcome.
/// An event that was cut at `parsed` and lost at `stored`.
fn specimen() -> Specimen {
    let sent = "<13>1 2026-11-22T18:19:58.250Z host app - - - login of root from 203.0.113.9 gl0a1b2c3d7, event 7";
    let text = |text: &str| Text { text: text.into(), bytes: text.len() as u64 };
    let part = |is, text: &str| Part { is, text: text.into() };
    let shown = |name, fate, after_seconds| Shown {
        name,
        fate: Some(fate),
        after_seconds,
        text: None,
        fields: None,
        difference: Vec::new(),
    };
    Specimen {
        run: "gl0a1b2c3d".into(),
        seq: 7,
        token: "gl0a1b2c3d7".into(),
        sent_at: "2026-11-22T18:19:58.250Z".into(),
        sent: text(sent),
        stages: vec![
            Shown {
                text: Some(Text {
                    bytes: 5_000,
                    ..text("login of <b>root</b> from 203.0.113.9 gl0a1b2c3d7, ev")
                }),
                fields: Some(text(
                    r#"{"greenlight.seq":7,"host.name":"host","password":"[redacted]"}"#,
                )),
                difference: vec![
                    part(Is::Same, "login of "),
                    part(Is::Missing, "root"),
                    part(Is::Added, "<b>root</b>"),
                    part(Is::Same, " from 203.0.113.9 gl0a1b2c3d7, "),
                    part(Is::Missing, "event 7"),
                    part(Is::Added, "ev"),
                ],
                ..shown(Stage::Parsed, Fate::Truncated, Some(0.42))
            },
            Shown {
                text: Some(text("login of root from 203.0.113.9 gl0a1b2c3d7, event 7")),
                ..shown(Stage::Enriched, Fate::Ok, Some(0.8))
            },
            shown(Stage::Stored, Fate::Lost, None),
        ],
    }
}

pub(crate) fn sample() -> Document {
    use Level::{Conditional, Mandatory, Optional};
    use Verdict::{Error, Fail, NotApplicable, Open, Pass, Waived, Warn};

    let mut latency = measured(
        gate(
            "net.latency.core",
            "Latency between nodes is within the agreed threshold",
            Mandatory,
            Fail,
        ),
        "seconds",
        0.0123,
        0.005,
        true,
    );
    latency.criterion = String::from(
        "p99 of icmp.rtt is at or below 5 ms, over 15 m, from at least 100 samples, on each target of core-latency",
    );
    latency.refs = vec![String::from("N5")];
    latency.worst =
        Some(Worst { check: String::from("core-latency"), target: String::from("10.0.0.7") });
    latency.reason =
        Some(Why::new("threshold", "12.3 ms is above 5 ms on 10.0.0.7; 3 of 4 targets hold"));
    latency.why = Some(String::from("Replication stalls above 5 ms."));
    latency.fix = Some(String::from(
        "Compare the path with `greenlight once core-latency --debug`; look for a detour or a saturated link.",
    ));
    latency.checks = vec![String::from("core-latency")];

    let mut journey = measured(
        gate(
            "journey.ssh.loss",
            "No synthetic event is lost on its way to the lake",
            Mandatory,
            Fail,
        ),
        "ratio",
        0.01,
        0.0,
        true,
    );
    journey.criterion = String::from(
        "the share of events lost, refused or dead-lettered on journey ssh-bruteforce at the worst of its stages is at or below 0 %, over 1 h, from at least 100 events",
    );
    journey.first_failing_stage = Some(Stage::Stored);
    journey.journeys = vec![String::from("ssh-bruteforce")];
    journey.reason = Some(Why::new("lost", "12 of 1200 events did not reach stage stored"));
    journey.refs = vec![String::from("C7"), String::from("A1")];

    let mut mtu = gate("net.mtu", "Every path carries jumbo frames", Mandatory, Error);
    mtu.criterion =
        String::from("the share of attempts that succeed is at or above 100 %, over 10 m");
    mtu.reason = Some(Why::new(
        "inconclusive",
        "8 of 40 attempts could not measure: permission: CAP_NET_RAW is missing; run the agent with it or see `greenlight plan --privileges`",
    ));
    mtu.samples = 32;
    mtu.refs = vec![String::from("N3")];

    let mut sso =
        gate("portal.sso", "Single sign-on works from the dashboard to billing", Conditional, Open);
    sso.reason = Some(Why::new("undecided", "`when: sso` is not set"));

    let mut ram = measured(
        gate("node.memory.available", "Memory is left for a burst", Mandatory, Warn),
        "ratio",
        0.1704,
        0.15,
        false,
    );
    ram.criterion = String::from(
        "the smallest node.memory.available is at or above 15 % (a warning unless it is at or above 20 %), over 15 m, on this node",
    );
    ram.reason = Some(Why::new("warn", "17 % is below 20 %"));

    let mut waived = gate("backup.restore", "A restore was rehearsed", Mandatory, Waived);
    waived.reason = Some(Why::new("waived", "J. Doe accepts the risk until 2026-12-31"));
    let mut absent =
        gate("mail.templates", "Mail templates are translated", Conditional, NotApplicable);
    absent.reason = Some(Why::new("when", "`mail` is false"));

    let mut gates = vec![
        measured(
            gate("node.cpu.pressure", "No processor pressure", Mandatory, Pass),
            "ratio",
            0.012,
            0.1,
            true,
        ),
        latency,
        journey,
        mtu,
        sso,
        ram,
        waived,
        absent,
        measured(
            gate("disk.data.free", "The data disk has room for a month", Mandatory, Pass),
            "bytes",
            512.0 * 1024.0 * 1024.0 * 1024.0,
            300.0 * 1024.0 * 1024.0 * 1024.0,
            false,
        ),
        measured(
            gate("api.availability", "The API answers", Optional, Pass),
            "ratio",
            0.999_987,
            0.999,
            false,
        ),
    ];
    for (id, title) in [
        ("partner.c1", "C1 Ingestion and collectors"),
        ("partner.c2", "C2 Data processors"),
        ("partner.c5", "C5 Framework of models"),
        ("partner.r4", "R4 Scaling plans"),
        ("partner.g1", "G1 Administrative access with a second factor"),
    ] {
        let mut open = gate(id, title, Optional, Open);
        open.criterion = String::from("not measured yet: what it takes is not built");
        open.reason = Some(Why::new("missing", "not measured yet: what it takes is not built"));
        gates.push(open);
    }

    let ok = |n| [(Fate::Ok, n)];
    let broken = vec![
        stage(Stage::Sent, &ok(1200), Some(0.002)),
        stage(Stage::Accepted, &ok(1200), Some(0.031)),
        stage(Stage::Parsed, &[(Fate::Ok, 1197), (Fate::Reordered, 3)], Some(0.42)),
        stage(Stage::Enriched, &[(Fate::Ok, 1195), (Fate::Late, 5)], Some(0.8)),
        StageRow {
            duplicate: 2,
            loss_upper_bound_95: Some(0.0174),
            reason: Some("12 of 1200 not here within 3m: sequence 4, 9, 77, …".into()),
            clock_offset_seconds: Some(ClockRow {
                lower: Some(-0.212),
                upper: Some(1.04),
                events: 1188,
            }),
            rechecks: vec![RecheckRow {
                after_seconds: 86_400.0,
                rounds: 9,
                kept: 898,
                vanished: 2,
                changed: 0,
                inconclusive: 0,
                found: 0,
                reason: Some("2 of 100 are gone: sequence 3, 7 of run gl0a1b2c3d".into()),
            }],
            ..stage(Stage::Stored, &[(Fate::Ok, 1188), (Fate::Lost, 12)], Some(2.1))
        },
        StageRow {
            twin: Some(TwinTally {
                rounds: 11,
                inconclusive: 1,
                false_alarms: 2,
                reason: Some(
                    "the benign twin did not get through: 1 of its 2 events lost at stored".into(),
                ),
            }),
            edges: Some(EdgeTally { rounds: 11, beyond: 1, missed: 1, ..EdgeTally::default() }),
            rule: Some(
                "the rule \"SSH\" is due within 110s: 20s until the events are there, 1m until it runs, \
                 30s for the run; it looks back 10m"
                    .into(),
            ),
            ..stage(Stage::Alerted, &[(Fate::Ok, 11), (Fate::Lost, 1)], Some(9.4))
        },
        StageRow {
            alert_to_person_seconds: Some(Latency {
                p50: Some(1.6),
                p95: Some(2.1),
                p99: Some(2.1),
                max: Some(2.1),
            }),
            twin: Some(TwinTally { rounds: 12, ..TwinTally::default() }),
            ..stage(Stage::Notified, &[(Fate::Ok, 11), (Fate::Lost, 1)], Some(11.0))
        },
        StageRow {
            latency_seconds: Latency::default(),
            loss_upper_bound_95: None,
            ..stage(Stage::Shown, &[(Fate::Inconclusive, 12)], None)
        },
    ];
    let good = vec![
        stage(Stage::Sent, &ok(60), Some(0.0004)),
        stage(Stage::Stored, &ok(60), Some(0.25)),
        stage(Stage::Shown, &ok(12), Some(3.0)),
    ];
    let target = |target: &str, last| TargetRow { target: target.into(), last };
    let mut counts: BTreeMap<Verdict, u64> = Verdict::ALL.into_iter().map(|v| (v, 0)).collect();
    for gate in &gates {
        *counts.get_mut(&gate.verdict).unwrap() += 1;
    }
    Document {
        version: VERSION,
        tool: Tool { name: String::from("greenlight"), version: String::from("0.1.0") },
        plan: Plan {
            digest: String::from("9f2c1ab87d6e5f40312233445566778899aabbccddeeff00112233445566778"),
            sources: vec![String::from("plan.yaml"), String::from("pack:linux-node")],
        },
        node: Node {
            name: String::from("ingest-1"),
            labels: [("role", "ingest"), ("zone", "a")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        },
        started_at: String::from("2026-11-22T18:05:03.000Z"),
        finished_at: String::from("2026-11-22T18:20:03.412Z"),
        decision: decide(gates.iter().map(|gate| (gate.level, gate.verdict))),
        counts,
        gates,
        load_windows: Vec::new(),
        journeys: vec![
            JourneyRow {
                id: String::from("ssh-bruteforce"),
                rounds: 12,
                first_failing_stage: Some(Stage::Stored),
                usecase: Some(UseCaseRow {
                    name: String::from("ssh-bruteforce"),
                    title: String::from("Brute force over SSH"),
                    attack: vec![String::from("T1110.001")],
                }),
                stages: broken,
                specimen: Some(specimen()),
            },
            JourneyRow {
                id: String::from("heartbeat"),
                rounds: 12,
                first_failing_stage: None,
                usecase: None,
                stages: good,
                specimen: None,
            },
        ],
        checks: vec![
            CheckRow {
                id: String::from("core-latency"),
                kind: String::from("icmp"),
                targets: vec![
                    target("10.0.0.5", last("success", None)),
                    target("10.0.0.6", last("success", None)),
                    target(
                        "10.0.0.7",
                        last(
                            "failure",
                            Some(("timeout", "no answer to 3 of 20 echoes within 2 s")),
                        ),
                    ),
                    target("10.0.0.8", None),
                ],
            },
            CheckRow {
                id: String::from("jumbo"),
                kind: String::from("path_mtu"),
                targets: vec![target(
                    "lake-1",
                    last("inconclusive", Some(("permission", "CAP_NET_RAW is missing"))),
                )],
            },
            CheckRow {
                id: String::from("api"),
                kind: String::from("http"),
                targets: vec![target("https://lake:9200/", last("success", None))],
            },
        ],
    }
}

/// The same with text that tries to be more than text, wherever text comes from outside.
fn hostile() -> Document {
    const EVIL: &str = "</style><script>alert(1)</script>\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}1m | a\r\nb `c` \u{202e}d ]]> <!-- @here #1 https://evil.example/ \"' &amp; \0";
    let mut document = sample();
    document.node.name = format!("node{EVIL}");
    document.node.labels.insert(String::from("label"), EVIL.into());
    document.plan.sources.push(EVIL.into());
    for gate in &mut document.gates {
        gate.id.push_str(EVIL);
        gate.title.push_str(EVIL);
        gate.criterion.push_str(EVIL);
        gate.reason = Some(Why::new(EVIL, EVIL));
        gate.worst = Some(Worst { check: EVIL.into(), target: EVIL.into() });
        gate.refs.push(EVIL.into());
        gate.fix = Some(EVIL.into());
        gate.why = Some(EVIL.into());
    }
    for journey in &mut document.journeys {
        journey.id.push_str(EVIL);
    }
    for check in &mut document.checks {
        check.id.push_str(EVIL);
        for target in &mut check.targets {
            target.target.push_str(EVIL);
            if let Some(last) = &mut target.last {
                last.reason = Some(Why::new(EVIL, EVIL));
            }
        }
    }
    document
}

fn plain(form: Form) -> String {
    report(&sample(), form, &Options::default())
}

#[test]
fn render_terminal_reads_well_at_80_columns() {
    insta::assert_snapshot!(plain(Form::Terminal));
}

#[test]
fn render_terminal_fits_every_width_and_shows_every_gate() {
    for document in [sample(), hostile()] {
        for width in [74, 80, 100, 120] {
            for verbose in [false, true] {
                let options = Options { width: Some(width), verbose, ..Options::default() };
                let text = report(&document, Form::Terminal, &options);
                for line in text.lines() {
                    assert!(line.chars().count() <= width, "{width}: {line:?}");
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                }
            }
        }
    }
    let text = plain(Form::Terminal);
    for gate in sample().gates {
        assert!(text.contains(&gate.id), "{} is missing", gate.id);
    }
}

#[test]
fn render_terminal_colours_are_ours_alone() {
    let options = Options { colour: true, verbose: true, ..Options::default() };
    let text = report(&hostile(), Form::Terminal, &options);
    let ours = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert!(ours.is_match(&text));
    let rest = ours.replace_all(&text, "");
    assert!(!rest.chars().any(|c| c.is_control() && c != '\n'));
    // What is shown is the same with colours and without.
    let without = report(&hostile(), Form::Terminal, &Options { colour: false, ..options });
    assert!(rest == without, "colours change what is shown");
}

#[test]
fn render_markdown_is_a_table_that_holds() {
    insta::assert_snapshot!(plain(Form::Markdown));
    let text = report(&hostile(), Form::Markdown, &Options::default());
    // Between backquotes Markdown takes nothing for more than text.
    let live = regex::Regex::new("`[^`\n]*`").unwrap().replace_all(&text, "");
    assert!(!live.contains("<script") && !live.contains("@here") && !live.contains("https://"));
    // No cell of any row is broken: as many bars as the head of its table has.
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut columns = 0;
    for line in text.lines() {
        match (line.starts_with('|'), columns) {
            (false, _) => columns = 0,
            (true, 0) => columns = bars(line),
            (true, n) => assert_eq!(bars(line), n, "{line}"),
        }
    }
}

#[test]
fn render_junit_says_what_each_verdict_means() {
    insta::assert_snapshot!(plain(Form::Junit));
    for document in [sample(), hostile()] {
        let xml = report(&document, Form::Junit, &Options::default());
        let read = quick_junit::Report::deserialize_from_str(&xml).expect("valid JUnit");
        let suite = &read.test_suites[0];
        let n = |verdict| usize::try_from(document.counts[&verdict]).unwrap();
        assert_eq!(suite.tests, document.gates.len());
        assert_eq!(suite.failures, n(Verdict::Fail));
        assert_eq!(suite.errors, n(Verdict::Error) + n(Verdict::Open));
        assert_eq!(suite.skipped, n(Verdict::Waived) + n(Verdict::NotApplicable));
        assert!(!xml.chars().any(|c| c.is_control() && c != '\n'), "control characters");
    }
}

#[test]
fn render_json_is_the_contracts_document() {
    let text = plain(Form::Json);
    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), sample());
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["decision"], "no_go");
    assert_eq!(json["counts"]["not_applicable"], 1);
    assert_eq!(json["gates"][1]["worst"]["target"], "10.0.0.7");
    assert_eq!(json["gates"][3]["value"], Value::Null, "what nobody measured is null");
    assert_eq!(json["journeys"][0]["stages"][4]["fates"]["lost"], 12);
    assert_eq!(json["journeys"][0]["stages"][7]["latency_seconds"]["p95"], Value::Null);
}

/// The elements of an HTML document, each closed where it should be. Panics where not.
fn elements(html: &str) -> Vec<String> {
    const VOID: [&str; 5] = ["meta", "link", "br", "hr", "img"];
    let mut open: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    let tag = regex::Regex::new(r#"<(/?)([a-zA-Z0-9]+)((?:[^<>"]|"[^"]*")*)>"#).unwrap();
    // Style and script hold no markup of ours.
    let raw = regex::Regex::new("(?s)<(style|script)>.*?</(?:style|script)>").unwrap();
    let html = raw.replace_all(html, "");
    for found in tag.captures_iter(&html) {
        let name = found[2].to_ascii_lowercase();
        if &found[1] == "/" {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "closed out of turn");
        } else {
            seen.push(format!("{name}{}", &found[3]));
            if !VOID.contains(&name.as_str()) && !found[3].ends_with('/') {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    seen
}

#[test]
fn render_html_holds_every_gate_and_loads_nothing() {
    for document in [sample(), hostile()] {
        let html = report(&document, Form::Html, &Options::default());
        assert!(html.starts_with("<!DOCTYPE html>"));
        let elements = elements(&html);
        let gates = elements.iter().filter(|e| e.starts_with("article class=\"gate")).count();
        assert_eq!(gates, document.gates.len());
        // Neither a script nor anything that a browser would fetch.
        for element in &elements {
            assert!(!element.starts_with("script"), "{element}");
            for attribute in [" src=", " srcset=", " data=", " action=", " onload=", " onclick="] {
                assert!(!element.contains(attribute), "{element}");
            }
            if let Some((_, href)) = element.split_once("href=\"") {
                assert!(href.starts_with('#') || href.starts_with("data:,"), "{element}");
            }
        }
        let style = &html[html.find("<style>").unwrap()..html.find("</style>").unwrap()];
        assert!(!style.contains("url(") && !style.contains("@import"));
        assert!(!html.contains("<script>alert") && !html.contains('\u{1b}'));
    }
    let html = report(&sample(), Form::Html, &Options::default());
    assert!(!html.contains("http://"));
    for text in [
        "NO-GO",
        "2 mandatory gates fail, 1 could not be measured, 1 is still open.",
        "Latency between nodes is within the agreed threshold",
        "p99 of icmp.rtt",
        "12.3 ms",
        "against 5 ms",
        "7.3 ms beyond",
        "core-latency on 10.0.0.7",
        "3 of 4 targets hold",
        "look for a detour",
        "first failing",
        "ingest-1",
        "2026-11-22 18:20:03 UTC",
        // Every printed sheet says of what it is.
        "@top-left{content:\"NO-GO · ingest-1\"}",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("@media print"));
}

#[test]
fn render_says_of_an_embedded_platform_that_it_is_one() {
    let banner = String::from("embedded reference platform");
    let options = Options { banner: Some(banner.clone()), ..Options::default() };
    for form in [Form::Terminal, Form::Markdown, Form::Junit, Form::Html] {
        assert!(report(&sample(), form, &options).contains(&banner), "{}", form.word());
        assert!(!plain(form).contains(&banner), "{}", form.word());
        assert_eq!(Form::parse(form.word()), Some(form));
    }
    assert!(page::page(&sample(), &History::default(), Some(&banner)).contains(&banner));
    assert_eq!(Form::parse("pdf"), None);
}

fn values(document: &Document) -> impl Iterator<Item = (&str, Option<f64>)> {
    document.gates.iter().map(|gate| (gate.id.as_str(), gate.value))
}

#[test]
fn render_page_renews_itself_and_draws_recent_values() {
    let mut history = History::default();
    let mut document = sample();
    for n in 0..200 {
        for gate in &mut document.gates {
            gate.value = gate.value.map(|value| value + f64::from(n % 7) * 1e-4);
        }
        history.push(values(&document));
    }
    let html = page::page(&document, &history, None);
    let elements = elements(&html);
    let numbers = document.gates.iter().filter(|gate| gate.value.is_some()).count();
    let sparks = elements.iter().filter(|e| e.contains("class=\"spark\"")).count();
    assert_eq!(sparks, numbers);
    assert!(elements.iter().any(|e| e.starts_with("main")));
    assert_eq!(html.matches("<script>").count(), 1);
    // The policy lets this script run and no other.
    let script = html.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    use base64::Engine as _;
    use sha2::Digest as _;
    let hash =
        base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(script.as_bytes()));
    assert!(page::content_security_policy().contains(&format!("'sha256-{hash}'")));
    // Gates that are no more are forgotten.
    document.gates.truncate(1);
    history.push(values(&document));
    let fewer = page::page(&sample(), &history, None);
    assert_eq!(fewer.matches("class=\"spark\"").count(), 1);
}

#[test]
fn render_of_a_plan_without_gates_says_that_nothing_was_decided() {
    let mut document = sample();
    document.gates.clear();
    document.journeys.clear();
    document.checks.clear();
    document.counts.clear();
    document.decision = decide([]);
    for form in Form::ALL {
        let text = report(&document, form, &Options::default());
        let says = match form {
            Form::Json => "\"incomplete\"",
            _ => "INCOMPLETE",
        };
        assert!(text.contains(says), "{}: {text}", form.word());
    }
    elements(&report(&document, Form::Html, &Options::default()));
}
