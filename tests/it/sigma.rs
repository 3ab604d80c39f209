//! Sigma rules made into use cases: every modifier and form of a condition by rules of our own, what
//! is refused and why, how each log source writes its events, and rules that nobody wrote.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::sigma::{self, Layouts, Rendered, Vars, Why};
use greenlight::time::Wall;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::command::{code, err, greenlight, out};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sigma")
}

fn summary(arguments: &[&str]) -> (i32, Value) {
    let mut all = vec!["import", "sigma", "-o", "json"];
    all.extend(arguments);
    let output = greenlight(&all);
    let text = out(&output);
    let document = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", err(&output)));
    (code(&output), document)
}

#[test]
fn sigma_rules_become_use_cases_or_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("usecases");
    let to_name = to.display().to_string();
    let rules = fixtures().display().to_string();
    let vars = ["--var", "admins=canary-root", "--var", "admins=canary-adm"];
    let mut arguments = vec![rules.as_str(), "--to", to_name.as_str()];
    arguments.extend(vars);
    let (exit, document) = summary(&arguments);
    assert_eq!(exit, 1, "some are refused");
    let (mut made, mut refused) = (0, 0);
    for row in document["rules"].as_array().unwrap() {
        let file = row["file"].as_str().unwrap();
        let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
        if let Some(rest) = stem.strip_prefix("refused-") {
            let wanted = rest.split('-').next().unwrap();
            assert_eq!(row["became"], "refused", "{row:#}");
            assert_eq!(row["reason"]["code"], wanted, "{row:#}");
            assert!(row["line"].is_u64(), "{row:#}");
            refused += 1;
        } else if row["became"] == "part" {
            assert!(stem.starts_with("correlation-"), "{row:#}");
        } else {
            assert_eq!(row["became"], "made", "{row:#}");
            let text = fs::read_to_string(row["written"].as_str().unwrap()).unwrap();
            for key in ["title:", "rule:", "format:", "events:", "benign:", "alert:"] {
                assert!(
                    text.lines().any(|line| line.starts_with(key)),
                    "{stem} lacks {key}\n{text}"
                );
            }
            assert!(text.contains("{token}"), "{text}");
            assert!(text.contains("\"author\":\"Greenlight\""), "{text}");
            made += 1;
        }
    }
    assert!(made >= 60 && refused >= 9, "{made} made, {refused} refused");
    assert_eq!(document["made"], made);
    // Each word that a modifier or a condition can have stands in some rule that is made.
    let texts: String = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.display().to_string().contains("refused-"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for word in [
        "|contains",
        "|startswith",
        "|endswith",
        "|all",
        "|re",
        "|re|i",
        "|cidr",
        "|base64|",
        "|base64offset",
        "|wide",
        "|utf16|",
        "|utf16be",
        "|windash",
        "|lt:",
        "|lte:",
        "|gt:",
        "|gte:",
        "|exists",
        "|cased",
        "|fieldref",
        "|expand",
        "|neq",
        "'|all'",
        ": null",
        "1 of them",
        "1 of filter_*",
        "all of selection_*",
        "2 of selection_*",
        " or ",
        "and not ",
        "((",
        "| count() by",
        "| count(",
        "| near",
        "| sum(",
        "event_count",
        "value_count",
        "temporal",
        "temporal_ordered",
        "aliases:",
    ] {
        assert!(texts.contains(word), "no rule has `{word}`");
    }
    plan_takes(folder.path(), &to);
    let again = summary(&arguments);
    assert_eq!(again.1["made"], made, "what it wrote it may write anew");
    fs::write(to.join("contains.yaml"), "title: of somebody\n").unwrap();
    let output = greenlight(&["import", "sigma", &rules, "--to", &to_name]);
    assert_eq!(code(&output), 64);
    assert!(err(&output).contains("was not made by this command"), "{}", err(&output));
}

/// Each file that was written is a use case of a plan, with its twin.
fn plan_takes(folder: &Path, usecases: &Path) {
    let mut plan = String::from("journeys:\n");
    for entry in fs::read_dir(usecases).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        plan.push_str(&format!(
            "- id: '{name}'\n  every: 1h\n  send: {{ http: {{ to: 'http://127.0.0.1:1/' }} }}\n  \
             events: {{ usecase: '{name}' }}\n  must_not_alert: true\n  stages:\n  \
             - alerted: {{ alertmanager: {{ url: 'http://127.0.0.1:1/', \
             match: {{ alertname: '{{alert}}' }} }} }}\n"
        ));
    }
    let file = folder.join("plan.yaml");
    fs::write(&file, plan).unwrap();
    let output = greenlight(&["plan", "-c", &file.display().to_string(), "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
}

/// The first event of a fixture, as it is sent.
fn sent(name: &str) -> (String, String) {
    let text = fs::read_to_string(fixtures().join(format!("{name}.yml"))).unwrap();
    let layouts = Layouts::new(None).unwrap();
    let rules: Vec<_> = sigma::read(name, &text).into_iter().map(Result::unwrap).collect();
    let rule = rules.last().unwrap();
    let find = |wanted: &str| rules.iter().find(|rule| rule.name.as_deref() == Some(wanted));
    let made = sigma::make(rule, None, &Vars::new(), &layouts, find).unwrap();
    (payload(&made.events[0].event), payload(&made.benign[0].event))
}

fn payload(rendered: &Rendered) -> String {
    let spec = EventSpec {
        count: 1,
        format: Some(if rendered.format == "raw" { Format::Raw } else { Format::Json }),
        message: rendered.message.clone(),
        fields: rendered.fields.clone(),
        ..EventSpec::default()
    };
    let events = Events::new(&spec, Format::Json).unwrap();
    let event = events.render(&run_from([9; 8]), "sigma", 3, Wall::from_secs(1_700_000_000));
    String::from_utf8(event.payload.to_vec()).unwrap()
}

#[test]
fn sigma_events_are_written_as_their_log_source_writes_them() {
    let lines = [
        ("keywords", "<38>Nov 14 22:13:20 canary-web-1 sshd[", "]: fatal: buffer_get_string g"),
        ("keywords-all", "<86>Nov 14 22:13:20 canary-web-1 sudo[", "authentication failure"),
        ("keywords-filter", "<30>Nov 14 22:13:20 canary-web-1 app[", "segfault at"),
        (
            "source-auditd",
            "type=EXECVE msg=audit(1700000000.000:3): a0=\"nc\" a1=\"-l\" ",
            "a2=736F6D6520776F726473 greenlight=g",
        ),
        (
            "source-proxy",
            "192.0.2.10 - - [14/Nov/2023:22:13:20 +0000] \"POST /index.html HTTP/1.1\" 200 ",
            "EvilTool/",
        ),
        (
            "source-webserver",
            "192.0.2.10 - - [14/Nov/2023:22:13:20 +0000] \"GET ../../etc/passwd HTTP/1.1\" 200 ",
            "\"Mozilla/5.0 (compatible; Greenlight)\" g",
        ),
        ("source-dns", "14-Nov-2023 22:13:20.000 queries: info: client @0x", " IN TXT +E(0)K "),
    ];
    for (name, start, within) in lines {
        let (event, twin) = sent(name);
        assert!(event.starts_with(start) && event.contains(within), "{name}: {event}");
        assert!(twin != event, "{name}: {twin}");
    }
    let documents = [
        ("e2e-command", "/winlog/event_id", json!(1)),
        ("e2e-command", "/winlog/channel", json!("Microsoft-Windows-Sysmon/Operational")),
        ("e2e-command", "/winlog/event_data/Image", json!(r"C:\Example\whoami.exe")),
        ("e2e-command", "/process/executable", json!(r"C:\Example\whoami.exe")),
        ("e2e-service", "/winlog/event_id", json!(7045)),
        ("e2e-log-cleared", "/winlog/channel", json!("Security")),
        ("source-script", "/winlog/event_id", json!(4104)),
        ("source-registry", "/winlog/event_id", json!(13)),
        ("source-image-load", "/winlog/event_id", json!(7)),
        ("source-network", "/winlog/event_data/Initiated", json!("true")),
        ("source-network", "/destination/ip", json!("203.0.113.77")),
        ("source-cloudtrail", "/eventName", json!("StopLogging")),
        ("source-cloudtrail", "/eventTime", json!("2023-11-14T22:13:20Z")),
        ("source-cloudtrail", "/userIdentity/type", json!("Root")),
        ("source-unknown", "/door/state", json!("forced")),
    ];
    for (name, pointer, wanted) in documents {
        let (event, _) = sent(name);
        let document: Value = serde_json::from_str(&event).unwrap();
        let message = document["message"].as_str().unwrap();
        let token = document["greenlight.id"].as_str().unwrap();
        assert!(message.ends_with(token), "{event}");
        let value = document.pointer(pointer);
        assert_eq!(value, Some(&wanted), "{name} {pointer}: {event}");
    }
}

#[test]
fn sigma_fields_go_where_a_mapping_says() {
    let folder = tempfile::tempdir().unwrap();
    let mapping = folder.path().join("mapping.yaml");
    fs::write(&mapping, "fields: { Image: [exe.path, exe.name] }\n").unwrap();
    let rule = fixtures().join("e2e-command.yml").display().to_string();
    let to = folder.path().join("out").display().to_string();
    let mapping_name = mapping.display().to_string();
    let arguments = [
        rule.as_str(),
        "--to",
        &to,
        "--mapping",
        &mapping_name,
        "--link",
        "https://example.com/r/",
    ];
    let (exit, _) = summary(&arguments);
    assert_eq!(exit, 0);
    let text = fs::read_to_string(folder.path().join("out/e2e-command.yaml")).unwrap();
    assert!(text.contains(r#""exe":{"path":"C:\\Example\\whoami.exe","name":"#), "{text}");
    assert!(text.contains("https://example.com/r/e2e-command.yml"), "{text}");
    fs::write(&mapping, "field: {}\n").unwrap();
    let output = greenlight(&["import", "sigma", &rule, "--to", &to, "--mapping", &mapping_name]);
    assert_eq!(code(&output), 78, "{}", err(&output));
    assert!(err(&output).contains("did you mean `fields`?"), "{}", err(&output));
    let output = greenlight(&["import", "sigma", "/nowhere/rule.yml", "--to", &to]);
    assert_eq!(code(&output), 64, "{}", err(&output));
}

#[test]
fn sigma_rules_that_are_none_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let head = "title: x\nlogsource: { product: windows }\ndetection:\n";
    let bomb: String = (0..20)
        .map(|n| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 10].join(", ")))
        .collect::<String>()
        .replace("[*l-1, *l-1, *l-1, *l-1, *l-1, *l-1, *l-1, *l-1, *l-1, *l-1]", "[x]");
    let many = |count: usize| (0..count).map(|n| format!("      - value{n}\n")).collect::<String>();
    let not = "  sel:\n    a: 1\n  condition: ";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("garbage", (0..=255).cycle().take(4_000).collect(), "unreadable"),
        ("huge", vec![b'a'; 2 << 20], "unreadable"),
        ("bomb", bomb.into_bytes(), "unreadable"),
        ("nested", "[".repeat(5_000).into_bytes(), "unreadable"),
        ("flow", format!("{head}  sel: {}1{}\n", "{a: ".repeat(40), "}".repeat(40)).into_bytes(), "condition"),
        ("brackets", format!("{head}{not}{}sel{}\n", "(".repeat(900), ")".repeat(900)).into_bytes(), "condition"),
        ("nots", format!("{head}{not}{}sel\n", "not ".repeat(1_500)).into_bytes(), "condition"),
        ("unicode", format!("{head}{not}sel and ünknown\n").into_bytes(), "condition"),
        ("twice", format!("{head}  sel: {{ a: 1, a: 2 }}\n  condition: sel\n").into_bytes(), "unreadable"),
        ("list", b"- a\n- b\n".to_vec(), "not_a_rule"),
        ("empty-selection", format!("{head}  sel: {{}}\n  condition: sel\n").into_bytes(), "condition"),
        ("regex-size", format!("{head}  sel: {{ 'a|re': '(a{{1000}}){{1000}}' }}\n  condition: sel\n").into_bytes(), "regex"),
        ("none", format!("{head}  sel:\n    a|contains|all:\n{}  filter:\n    a|contains:\n{}  condition: sel and not filter\n", many(3_000), many(3_000)).into_bytes(), "no_event"),
    ];
    for (name, text, _) in &cases {
        fs::write(folder.path().join(format!("{name}.yml")), text).unwrap();
    }
    let at = folder.path().display().to_string();
    let (exit, document) = summary(&[&at, "--dry-run"]);
    assert_eq!(exit, 1);
    for row in document["rules"].as_array().unwrap() {
        let file = row["file"].as_str().unwrap();
        let (name, _, wanted) =
            cases.iter().find(|(name, ..)| file.ends_with(&format!("/{name}.yml"))).unwrap();
        assert_eq!(row["reason"]["code"], *wanted, "{row:#}");
        let placed = row["line"].is_u64() || matches!(*name, "garbage" | "huge");
        assert!(placed, "{row:#}");
    }
    let refused: u64 =
        document["refused"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(refused as usize, cases.len());
}

/// A value that a rule asks for, under some modifier; the generated rules are in forms that the
/// evaluator reads as they are written, so that it judges without our help.
fn constraint() -> impl Strategy<Value = (String, Value)> {
    let field = prop::sample::select(vec!["alpha", "beta", "gamma", "delta.inner"]);
    let word = "[a-zA-Z0-9 .:/-]{1,8}".prop_map(|word| word.trim().to_owned());
    let word = word.prop_filter("of some letters", |word| !word.is_empty());
    let words = prop::collection::vec(word.clone(), 1..4);
    let test = prop_oneof![
        (
            prop::sample::select(vec![
                "",
                "|contains",
                "|startswith",
                "|endswith",
                "|contains|all",
                "|contains|cased"
            ]),
            words
        )
            .prop_map(|(modifier, words)| (modifier, json!(words))),
        (0..100_i64).prop_map(|number| ("", json!(number))),
        prop::sample::select(vec![r"[a-f]{2,4}\d+", r"(?i)^run\s(now|later)$", r"x|y+z"])
            .prop_map(|regex| ("|re", json!(regex))),
        prop::sample::select(vec!["10.0.0.0/8", "192.0.2.0/28", "2001:db8::/64"])
            .prop_map(|network| ("|cidr", json!(network))),
        (prop::sample::select(vec!["|gt", "|gte", "|lt", "|lte"]), 0..1_000_i64)
            .prop_map(|(order, bound)| (order, json!(bound))),
        any::<bool>().prop_map(|there| ("|exists", json!(there))),
        "[a-z]{1,4}[*?][a-z]{0,4}".prop_map(|pattern| ("", json!(pattern))),
    ];
    (field, test).prop_map(|(field, (modifier, value))| (format!("{field}{modifier}"), value))
}

fn condition(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["sel_a", "sel_b", "other"]).prop_map(str::to_owned),
        prop::sample::select(vec!["1 of sel_*", "all of sel_*", "1 of them", "all of them"])
            .prop_map(str::to_owned),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = condition(depth - 1);
    prop_oneof![
        2 => leaf,
        1 => inner.clone().prop_map(|inner| format!("not ({inner})")),
        2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} and {b}")),
        2 => (inner.clone(), inner).prop_map(|(a, b)| format!("({a} or {b})")),
    ]
    .boxed()
}

/// The fields of an event of a log source that nobody knows, by their names.
fn flat(rendered: &Rendered) -> Value {
    let document: Value = serde_json::from_str(&payload(rendered)).unwrap();
    let mut event = serde_json::Map::new();
    for name in ["alpha", "beta", "gamma"] {
        event.extend(document.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    event.extend(document.pointer("/delta/inner").map(|v| ("delta.inner".to_owned(), v.clone())));
    Value::Object(event)
}

#[test]
fn sigma_property_events_match_and_twins_do_not() {
    let layouts = Layouts::new(None).unwrap();
    let map = || {
        prop::collection::vec(constraint(), 1..4).prop_map(|fields| {
            let fields: serde_json::Map<String, Value> = fields.into_iter().collect();
            Value::Object(fields)
        })
    };
    let group =
        || prop_oneof![3 => map(), 1 => prop::collection::vec(map(), 1..3).prop_map(Value::Array)];
    let rule = (group(), group(), group(), condition(3));
    let (made, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cases = 500;
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&rule, |(a, b, other, condition)| {
            let rule = json!({
                "title": "generated",
                "logsource": { "product": "example" },
                "detection": { "sel_a": a, "sel_b": b, "other": other, "condition": condition },
            })
            .to_string();
            let read = sigma::read("generated", &rule).remove(0).unwrap();
            match sigma::make(&read, None, &Vars::new(), &layouts, |_| None) {
                Ok(usecase) => {
                    let judge = sigma_rust::rule_from_yaml(&rule).unwrap();
                    let event = |rendered| {
                        sigma_rust::event_from_json(&flat(rendered).to_string()).unwrap()
                    };
                    let (hit, miss) = (&usecase.events[0].event, &usecase.benign[0].event);
                    prop_assert!(judge.is_match(&event(hit)), "{rule}\n{}", flat(hit));
                    prop_assert!(!judge.is_match(&event(miss)), "{rule}\n{}", flat(miss));
                    let (hit, miss) = (flat(hit), flat(miss));
                    let names: BTreeSet<&String> = hit
                        .as_object()
                        .unwrap()
                        .keys()
                        .chain(miss.as_object().unwrap().keys())
                        .collect();
                    let differ = names.into_iter().filter(|name| hit.get(name) != miss.get(name));
                    prop_assert_eq!(differ.count(), 1, "{}\n{}", hit, miss);
                    made.fetch_add(1, Ordering::Relaxed);
                }
                Err(refusal) => {
                    let known = matches!(refusal.why, Why::NoEvent | Why::NoTwin);
                    prop_assert!(known, "{rule}\n{refusal:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (made, refused) = (made.into_inner(), refused.into_inner());
    println!(
        "{} generated rules: {made} made, {refused} met by nothing or by everything",
        made + refused
    );
    // Conditions that contradict themselves are common where nobody means anything by them.
    assert!(made * 3 > cases as usize, "{made} of {cases} were made");
}
