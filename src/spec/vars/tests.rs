use proptest::prelude::*;

use super::*;
use crate::spec::{Period, Sources, decode, yaml};

fn filled(text: &str) -> (Node, Vec<String>) {
    let lookup = |name: &str| match name {
        "tick" => Some("5s".to_owned()),
        "n" => Some("3".to_owned()),
        "sneaky" => Some("${tick}: [x".to_owned()),
        "empty" => Some(String::new()),
        "huge" => Some("x".repeat(TEXT_LIMIT + 1)),
        _ => None,
    };
    let mut diagnostics = Diagnostics::new();
    let source = Sources::default().add("x", text);
    let mut node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
    substitute(&mut node, &lookup, &["tick", "n", "sneaky"], &mut diagnostics);
    let mistakes = diagnostics
        .sorted()
        .into_iter()
        .map(|d| {
            format!(
                "{}{}",
                d.message,
                d.hint.as_ref().map(|h| format!(" | {h}")).unwrap_or_default()
            )
        })
        .collect();
    (node, mistakes)
}

#[test]
fn variables_stand_in_values_only() {
    for (text, value) in [
        ("a: ${tick}", "5s"),
        ("a: x${n}y${n}", "x3y3"),
        ("a: $${tick}", "${tick}"),
        ("a: $$${n}", "$${n}"),
        ("a: $n $ {n}", "$n $ {n}"),
        ("a: ${sneaky}", "${tick}: [x"),
        ("a: \"x${empty}\"", "x"),
    ] {
        let (node, mistakes) = filled(text);
        assert_eq!(mistakes, Vec::<String>::new(), "{text}");
        assert_eq!(node.get("a").and_then(Node::as_str), Some(value), "{text}");
    }
    let (node, _) = filled("${n}: [1, {b: '${n}'}]");
    let list = node.get("${n}").and_then(Node::as_list).expect("the key is as it was");
    assert_eq!(list[1].get("b").and_then(Node::as_str), Some("3"));
}

#[test]
fn a_variable_alone_may_become_any_type() {
    let mut diagnostics = Diagnostics::new();
    let (node, _) =
        filled("{ every: \"${tick}\", count: '${n}', text: \"${n}\", part: \"${n}0\" }");
    let every: Option<Period> = decode(node.get("every").expect("every"), &mut diagnostics);
    assert_eq!(every.map(|every| every.to_string()), Some("5s".into()));
    assert_eq!(decode(node.get("count").expect("count"), &mut diagnostics), Some(3_u8));
    assert_eq!(decode(node.get("text").expect("text"), &mut diagnostics), Some("3".to_owned()));
    assert!(diagnostics.is_empty());
    assert_eq!(decode::<u8>(node.get("part").expect("part"), &mut diagnostics), None);
}

#[test]
fn what_can_not_be_put_in_is_a_mistake() {
    for (text, mistake) in [
        ("a: ${tik}", "the variable `tik` is not set | did you mean `tick`?"),
        ("a: ${nobody}", "the variable `nobody` is not set"),
        (
            "a: ${tick",
            "`${` without `}` | a variable is `${name}`; for the characters themselves write `$${`",
        ),
        ("a: ${a b}", "`a b` is no name of a variable"),
        ("a: ${}", "`` is no name of a variable"),
        ("a: ${huge}", "too long with its variables put in"),
        ("a: x${huge}", "too long with its variables put in"),
    ] {
        assert_eq!(filled(text).1, [mistake], "{text}");
    }
}

#[test]
fn no_text_panics() {
    let runs = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let texts = prop_oneof![
        prop::string::string_regex("[${}a-cé ]{0,40}").expect("a pattern"),
        any::<String>()
    ];
    runner
        .run(&texts, |text| {
            runs.set(runs.get() + 1);
            let known = |name: &str| (name.len() < 3).then(|| name.to_uppercase());
            if let Ok((put, _)) = put_in(&text, &known) {
                let untouched = !text.contains("${");
                prop_assert!(!untouched || put == text);
            }
            Ok(())
        })
        .expect("no input panics");
    eprintln!("property no_text_panics: {} inputs", runs.get());
}
