use super::*;
use crate::spec::yaml;

const PLAN: &str = "checks:\n  - id: a\n    evry: 5s\n    targets: [x]\n";

#[test]
fn a_mistake_is_shown_with_its_line() {
    let mut sources = Sources::default();
    let source = sources.add("plan.yaml", PLAN);
    let mut diagnostics = Diagnostics::new();
    let node = yaml::parse(source, PLAN, &mut diagnostics).expect("reads");
    let check = &node.get("checks").and_then(yaml::Node::as_list).expect("a list")[0];
    let span = check.as_map().expect("a map")[1].0.span;
    diagnostics
        .error(span, "unknown key `evry`")
        .expected("`id`, `every`")
        .hint("did you mean `every`?");
    let shown = diagnostics.render(&sources, false);
    assert_eq!(
        shown,
        "plan.yaml:3:5: unknown key `evry`\n  |\n3 |     evry: 5s\n  |     ^^^^\n  |\n  \
         = expected: `id`, `every`\n  = hint: did you mean `every`?\n\n\
         1 mistake\n"
    );
    assert!(!shown.contains('\u{1b}'));
    assert!(diagnostics.render(&sources, true).contains('\u{1b}'));
    assert_eq!(
        diagnostics.to_json(&sources),
        json!([{"source": "plan.yaml", "line": 3, "column": 5, "message": "unknown key `evry`",
                "expected": "`id`, `every`", "hint": "did you mean `every`?"}])
    );
}

#[test]
fn mistakes_are_in_the_order_of_their_places_each_once() {
    let mut sources = Sources::default();
    let source = sources.add("a", "one two three");
    let at = |start, end| Span { source, line: 1, column: start as u32 + 1, start, end };
    let mut diagnostics = Diagnostics::new();
    diagnostics.error(at(8, 13), "third");
    diagnostics.error(at(0, 3), "first");
    diagnostics.error(at(8, 13), "third");
    diagnostics.error_in("b.yaml", "not found");
    let order: Vec<&str> = diagnostics.sorted().iter().map(|d| d.message.as_str()).collect();
    assert_eq!(order, ["not found", "first", "third"]);
    let shown = diagnostics.render(&sources, false);
    assert!(shown.starts_with("b.yaml: not found\n"), "{shown}");
    assert!(shown.ends_with("3 mistakes\n"), "{shown}");
}

#[test]
fn blotted_words_never_show() {
    let text = "{ pass: hunter2, usr: hunter2, x: 1 }";
    let mut sources = Sources::default();
    let source = sources.add("a", text);
    let at = |start, end| Span { source, line: 1, column: start as u32 + 1, start, end };
    let mut diagnostics = Diagnostics::new();
    diagnostics.blot(at(8, 15));
    diagnostics.blot(at(22, 29));
    diagnostics.error(at(17, 20), "unknown key `usr`");
    let shown = diagnostics.render(&sources, false);
    assert!(shown.contains("{ pass: ***, usr: ***, x: 1 }\n"), "{shown}");
    assert!(shown.contains("|              ^^^\n"), "{shown}");
}

#[test]
fn passwords_where_they_do_not_belong_never_show() {
    for (text, shown) in [
        ("[ 'http://me:hunter2@a:1/x' ]", "[ 'http://me:***@a:1/x' ]"),
        (
            "to: amqp://me:hunter2@a # twice: ftp://b:hunter2@c",
            "to: amqp://me:***@a # twice: ftp://b:***@c",
        ),
        ("{ Authorization: \"Bearer hunter2\" }", "{ Authorization: ***"),
        ("{ 'authorization' : hunter2 }", "{ 'authorization' : ***"),
        ("mail: http://a/b?to=me:x@y, time: 10:00", "mail: http://a/b?to=me:x@y, time: 10:00"),
    ] {
        let mut sources = Sources::default();
        let source = sources.add("a", text);
        let mut diagnostics = Diagnostics::new();
        let all = Span { source, line: 1, column: 1, start: 0, end: text.len() };
        diagnostics.error(all, format!("`{text}` is wrong"));
        let said = diagnostics.render(&sources, false);
        assert_eq!(said.matches(shown).count(), 2, "the message and the line: {said}");
        let json = diagnostics.to_json(&sources).to_string();
        assert!(!said.contains("hunter2") && !json.contains("hunter2"), "{said}{json}");
    }
}

#[test]
fn a_place_that_is_not_there_is_no_panic() {
    let mut sources = Sources::default();
    let source = sources.add("a", "é");
    let mut diagnostics = Diagnostics::new();
    for (start, end) in [(1, 1), (0, 99), (99, 5), (2, 2)] {
        diagnostics.error(Span { source, line: 7, column: 9, start, end }, "odd");
    }
    assert!(diagnostics.render(&sources, false).contains("4 mistakes"));
}

#[test]
fn no_flood_of_mistakes_fills_the_memory() {
    let mut diagnostics = Diagnostics::new();
    for n in 0..KEPT + 7 {
        diagnostics.error_in("a", format!("mistake {n}")).hint("x");
    }
    assert_eq!(diagnostics.len(), KEPT + 7);
    let shown = diagnostics.render(&Sources::default(), false);
    assert!(shown.contains("7 more are not shown"));
    assert!(shown.ends_with("507 mistakes\n"));
}

#[test]
fn a_very_long_line_is_cut_around_the_words() {
    let text = format!("[{}here,{}]", "é, ".repeat(5_000), "é, ".repeat(5_000));
    let mut sources = Sources::default();
    let source = sources.add("a", text.as_str());
    let start = text.find("here").expect("there");
    let mut diagnostics = Diagnostics::new();
    diagnostics.error(Span { source, line: 1, column: 9, start, end: start + 4 }, "found");
    let shown = diagnostics.render(&sources, false);
    assert!(shown.contains("here") && shown.contains("^^^^") && shown.len() < 2_000, "{shown}");
}
