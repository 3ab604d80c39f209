use super::*;
use crate::spec::{Period, Sources, yaml};

const KINDS: [&str; 3] = ["icmp", "tcp", "http"];

/// Reads a check as the plan does, and returns its kind and the mistakes.
fn check(text: &str) -> (Option<String>, Vec<String>) {
    let mut sources = Sources::default();
    let source = sources.add("plan.yaml", text);
    let mut diagnostics = Diagnostics::new();
    let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
    let kind = Fields::new(&node, "a check", &mut diagnostics).and_then(|mut fields| {
        fields.require::<String>("id", &mut diagnostics);
        fields.take::<Period>("every", &mut diagnostics);
        let kind = fields.take_one_of(&KINDS, &mut diagnostics);
        fields.finish(&["note"], &mut diagnostics);
        kind.map(|(kind, _, _)| kind)
    });
    let mistakes = diagnostics.sorted().into_iter().map(|d| {
        let place = d.span.map(|s| format!("{}:{}", s.line, s.column)).unwrap_or_default();
        let hint = d.hint.as_ref().map(|hint| format!(" | {hint}")).unwrap_or_default();
        format!("{place} {}{hint}", d.message)
    });
    (kind, mistakes.collect())
}

#[test]
fn a_check_is_read_key_by_key() {
    assert_eq!(check("{ id: a, icmp: , note: x }"), (Some("icmp".into()), vec![]));
    assert_eq!(check("{ id: a, every: , tcp: {} }"), (Some("tcp".into()), vec![]));
    let cases: [(&str, &[&str]); 7] = [
        ("{ icmp: {} }", &["1:1 a check lacks `id`"]),
        ("{ id: a }", &["1:1 a check has no key that names its kind"]),
        ("{ id: a, icpm: {} }", &["1:10 unknown key `icpm` | did you mean `icmp`?"]),
        (
            "{ id: a, icmp: {}, tcp: {} }",
            &[
                "1:20 a check is of one kind, not `icmp` and `tcp` | leave one out, or write two of them",
            ],
        ),
        (
            "{ id: a, evry: 5s, tcp: {} , notes: y }",
            &[
                "1:10 unknown key `evry` | did you mean `every`?",
                "1:30 unknown key `notes` | did you mean `note`?",
            ],
        ),
        ("{ id: [], every: 5, tcp: }", &["1:7 found a list", "1:18 `5` has no unit; write `5s`"]),
        ("[a]", &["1:1 found a list"]),
    ];
    for (text, mistakes) in cases {
        assert_eq!(check(text).1, mistakes, "{text}");
    }
}

#[test]
fn what_is_taken_is_gone() {
    let text = "{ a: 1, b: 2 }";
    let mut diagnostics = Diagnostics::new();
    let source = Sources::default().add("x", text);
    let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
    let mut fields = Fields::new(&node, "a thing", &mut diagnostics).expect("a map");
    assert_eq!(fields.spanned("b").map(|span| span.column), Some(12));
    assert_eq!(fields.take::<u8>("b", &mut diagnostics), Some(2));
    assert_eq!(fields.spanned("b"), None);
    assert!(fields.take_node("b").is_none());
    assert_eq!(fields.take_node("a").and_then(|n| n.as_str().map(str::to_owned)), Some("1".into()));
    fields.finish(&[], &mut diagnostics);
    assert!(diagnostics.is_empty());
}
