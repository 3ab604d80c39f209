use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::spec::{Period, Quantity, Secret, Share, Size, Sources, compile, yaml};

fn read<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<String>) {
    let mut sources = Sources::default();
    let source = sources.add("plan.yaml", text);
    let mut diagnostics = Diagnostics::new();
    let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
    let value = decode(&node, &mut diagnostics);
    (value, lines(&diagnostics))
}

/// `line:column message [expected] [hint]`.
fn lines(diagnostics: &Diagnostics) -> Vec<String> {
    let line = |d: &&Diagnostic| {
        let place = d.span.map(|s| format!("{}:{}", s.line, s.column)).unwrap_or_default();
        let expected = d.expected.as_ref().map(|e| format!(" | {e}")).unwrap_or_default();
        let hint = d.hint.as_ref().map(|h| format!(" | {h}")).unwrap_or_default();
        format!("{place} {}{expected}{hint}", d.message)
    };
    diagnostics.sorted().iter().map(line).collect()
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Framing {
    Octet,
    Newline,
    Marked(String),
    Sized { limit: Size },
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Inner {
    host: String,
    port: u16,
    #[serde(default)]
    tls: bool,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Outer {
    name: String,
    every: Period,
    timeout: Option<Period>,
    #[serde(default)]
    share: Option<Share>,
    #[serde(default)]
    below: Option<Quantity>,
    #[serde(default)]
    framing: Option<Framing>,
    #[serde(default)]
    inner: Vec<Inner>,
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    #[serde(default)]
    pair: Option<(u8, String)>,
    #[serde(default)]
    free: serde_json::Value,
    #[serde(default)]
    password: Option<Secret>,
}

#[test]
fn a_right_value_is_read() {
    let (value, mistakes) = read::<Outer>(
        "name: NO\nevery: 1h30m\nshare: 0.05\nbelow: 5ms\nframing: octet\n\
         inner:\n  - { host: 1.0, port: 0x16 }\n  - { host: b, port: 1, tls: true }\n\
         ports: { a: 1, 2: 2 }\npair: [3, four]\n\
         free: { a: 1, b: [1.5, NO, yes, null, '3', true, 1e3, -7], c: ~ }\n\
         password: { env: TOKEN }\n",
    );
    assert_eq!(mistakes, Vec::<String>::new());
    let value = value.expect("read");
    assert_eq!(value.name, "NO");
    assert_eq!(value.every.to_string(), "90m");
    assert_eq!(value.timeout, None);
    assert_eq!(value.share, Some(Share(0.05)));
    assert_eq!(value.framing, Some(Framing::Octet));
    assert_eq!(value.inner[0], Inner { host: "1.0".into(), port: 22, tls: false });
    assert_eq!(value.ports["2"], 2);
    assert_eq!(value.pair, Some((3, "four".into())));
    assert_eq!(
        value.free,
        json!({"a": 1, "b": [1.5, "NO", "yes", null, "3", true, 1000.0, -7], "c": null})
    );
    assert_eq!(value.password, Some(Secret::env("TOKEN")));
}

#[test]
fn every_mistake_has_its_own_place() {
    let (value, mistakes) = read::<Outer>(
        "name: [a]\nevery: 5\ntimeout: 5x\nshare: 120%\nframing: octett\n\
         inner:\n  - { host: a, port: 70000 }\n  - { host: a, prt: 1 }\n  - nothing\n\
         ports: { a: x, b: 1, c: y }\npair: [1]\ncolour: red\n",
    );
    assert!(value.is_none());
    assert_eq!(
        mistakes,
        [
            "1:7 found a list | a string",
            "2:8 `5` has no unit; write `5s`",
            "3:10 `x` is no unit of time; write `ns`, `us`, `ms`, `s`, `m`, `h`, `d` or `w`",
            "4:8 `120%` is more than the whole",
            "5:10 unknown word `octett` | `octet`, `newline`, `marked` or `sized` | did you mean `octet`?",
            "7:22 found `70000` | a whole number from 0 to 65535",
            "8:5 `port` is missing",
            "8:16 unknown key `prt` | `host`, `port` or `tls` | did you mean `port`?",
            "9:5 found `nothing` | a map with `host`, `port`, `tls`",
            "10:13 found `x` | a whole number from 0 to 65535",
            "10:25 found `y` | a whole number from 0 to 65535",
            "11:7 found a list | a list of 2 items",
            "12:1 unknown key `colour` | `name`, `every`, `timeout`, `share`, `below`, `framing`, \
             `inner`, `ports`, `pair`, `free` or `password`",
        ]
    );
}

#[test]
fn every_missing_field_is_named() {
    let (value, mistakes) =
        read::<Vec<Outer>>("- timeout: 3s\n- name: x\n  every: bad\n- every: 1s\n");
    assert!(value.is_none());
    assert_eq!(
        mistakes,
        [
            "1:3 `name` is missing",
            "1:3 `every` is missing",
            "3:10 `bad` is no period; write one like `5s` or `1h30m`",
            "4:3 `name` is missing",
        ]
    );
}

#[test]
fn a_kind_that_needs_nothing_may_be_empty() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Empty {}
    assert_eq!(read::<Option<Inner>>(""), (Some(None), vec![]));
    assert_eq!(read::<Empty>("").0, Some(Empty {}));
    let (value, mistakes) = read::<Inner>("");
    assert!(value.is_none());
    assert_eq!(mistakes, ["1:1 `host` is missing", "1:1 `port` is missing"]);
    assert_eq!(read::<Empty>("{ a: 1 }").1, ["1:3 unknown key `a` | no keys"]);
}

#[test]
fn variants_are_words_or_maps_of_one_key() {
    let sized = Framing::Sized { limit: Size(1024) };
    assert_eq!(read::<Framing>("{ sized: { limit: 1KiB } }"), (Some(sized), vec![]));
    assert_eq!(read::<Framing>("marked: x"), (Some(Framing::Marked("x".into())), vec![]));
    assert_eq!(read::<Framing>("octet:"), (Some(Framing::Octet), vec![]));
    let cases = [
        ("marked", "1:1 `marked` needs a value | `marked: …`"),
        ("octet: 5", "1:8 `octet` takes no value | `octet` alone"),
        ("[octet]", "1:1 found a list | one of `octet`, `newline`, `marked` or `sized`"),
        (
            "{ octet: , newline: }",
            "1:1 found a map | one of `octet`, `newline`, `marked` or `sized`",
        ),
        ("sized: { limit: 5 }", "1:17 `5` has no unit; write `5B`"),
        ("sized: { }", "1:8 `limit` is missing"),
    ];
    for (text, mistake) in cases {
        let (value, mistakes) = read::<Framing>(text);
        assert_eq!((value, mistakes), (None, vec![mistake.to_owned()]), "{text}");
    }
}

#[test]
fn whole_numbers_keep_to_their_range() {
    assert_eq!(read::<u64>("18446744073709551615").0, Some(u64::MAX));
    assert_eq!(read::<i8>("-128").0, Some(-128));
    assert_eq!(read::<f64>("1").0, Some(1.0));
    assert_eq!(read::<f64>("-1.5e3").0, Some(-1500.0));
    for (text, mistake) in [
        ("18446744073709551616", "1:1 found `18446744073709551616` | a whole number, 0 or more"),
        ("-1", "1:1 found `-1` | a whole number, 0 or more"),
        ("1.5", "1:1 found `1.5` | a whole number, 0 or more"),
        ("'5'", "1:1 found `5` | a whole number, 0 or more"),
        ("true", "1:1 found `true` | a whole number, 0 or more"),
    ] {
        assert_eq!(read::<u64>(text), (None, vec![mistake.to_owned()]));
    }
    for text in [".inf", ".nan", "nan", "inf", "1e999", "x", "+", "."] {
        assert_eq!(read::<f64>(text), (None, vec![format!("1:1 found `{text}` | a number")]));
    }
    assert_eq!(read::<bool>("yes").1, ["1:1 found `yes` | `true` or `false`"]);
}

#[test]
fn what_a_kind_refuses_is_at_its_node() {
    let text = "tcp: { host: a, port: 0 }";
    let mut sources = Sources::default();
    let source = sources.add("plan.yaml", text);
    let mut diagnostics = Diagnostics::new();
    let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
    let spec = node.get("tcp").expect("tcp");
    let refused = compile(spec, &mut diagnostics, |spec: Inner| {
        if spec.port == 0 { Err("port 0 is no port") } else { Ok(()) }.map_err(str::to_owned)
    });
    assert!(refused.is_none());
    assert_eq!(lines(&diagnostics), ["1:6 port 0 is no port"]);
    let (made, json) =
        compile(spec, &mut diagnostics, |spec: Inner| Ok(spec.host)).expect("compiles");
    assert_eq!(
        (made.as_str(), json.to_string().as_str()),
        ("a", r#"{"host":"a","port":0,"tls":false}"#)
    );
}

#[test]
fn a_secret_in_clear_is_never_shown() {
    #[derive(Debug, Deserialize)]
    struct Login {
        #[serde(rename = "user")]
        _user: String,
        #[serde(rename = "password")]
        _password: Secret,
    }
    for text in [
        "{ user: 5, password: hunter2 }",
        "user: [hunter2]\npassword: { value: hunter2 }",
        "user: a\npassword: { env: [hunter2] }",
        "user: a\npassword: [hunter2]",
        "user: a\npassword: { env: A, file: hunter2 }",
        "{ user: a, pasword: hunter2 }",
        "{ pasword: hunter2, usr: x }",
        "{ user: [], password: hunter2, b: 1 }",
    ] {
        let mut sources = Sources::default();
        let source = sources.add("plan.yaml", text);
        let mut diagnostics = Diagnostics::new();
        let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
        assert!(decode::<Login>(&node, &mut diagnostics).is_none(), "{text}");
        let mut shown = diagnostics.render(&sources, false);
        shown.push_str(&diagnostics.to_json(&sources).to_string());
        // A list where a name was wanted is no secret and may be shown.
        let allowed = usize::from(text.starts_with("user: [hunter2]"));
        assert!(shown.matches("hunter2").count() <= allowed, "{text}\n{shown}");
    }
}

#[test]
fn the_secrets_of_a_plan_are_handed_over() {
    let mut diagnostics = Diagnostics::new();
    let mut sources = Sources::default();
    let text = "- { command: [vault, read] }\n- { file: /x }\n";
    let source = sources.add("plan.yaml", text);
    let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
    decode::<Vec<Secret>>(&node, &mut diagnostics).expect("reads");
    let secrets = diagnostics.take_secrets();
    assert_eq!(secrets.len(), 2);
    assert!(secrets[0].is_command());
}

#[test]
fn hundreds_of_mistakes_end() {
    let many = (0..500).map(|n| format!("- {{ host: a, port: p{n} }}\n")).collect::<String>();
    let (value, mistakes) = read::<Vec<Inner>>(&many);
    assert!(value.is_none());
    assert_eq!(mistakes.len(), MISTAKES + 1, "{:?}", mistakes.last());
}

#[test]
fn nothing_that_can_be_written_panics() {
    let runs = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    // Words of the types above, so that what is generated comes near to being right.
    let pieces = prop::sample::select(vec![
        "name", "every", "timeout", "inner", "ports", "framing", "pair", "free", "password", ":",
        ": ", "\n", "\n  ", "\n  - ", "- ", "{", "}", "[", "]", ", ", "5s", "x", "'", "\"", "&a ",
        "*a", "5", "true", "~", "host: a", "port: 1", "sized", "env", "|\n", "#", "é", "!!str ",
    ]);
    let texts = prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat());
    runner
        .run(&texts, |text| {
            runs.set(runs.get() + 1);
            let mut sources = Sources::default();
            let source = sources.add("plan.yaml", text.as_str());
            let mut diagnostics = Diagnostics::new();
            let node = yaml::parse(source, &text, &mut diagnostics);
            if let Some(node) = node {
                let before = diagnostics.len();
                let value = decode::<Outer>(&node, &mut diagnostics);
                prop_assert_eq!(value.is_none(), diagnostics.len() > before);
            } else {
                prop_assert!(!diagnostics.is_empty());
            }
            let shown = diagnostics.render(&sources, false);
            prop_assert_eq!(shown.is_empty(), diagnostics.is_empty());
            Ok(())
        })
        .expect("no input panics");
    eprintln!("property nothing_that_can_be_written_panics: {} inputs", runs.get());
}
