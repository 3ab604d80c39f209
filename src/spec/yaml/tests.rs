use proptest::prelude::*;

use super::*;
use crate::spec::Sources;

fn read(text: &str) -> (Option<Node>, Diagnostics, Sources) {
    let mut sources = Sources::default();
    let source = sources.add("plan.yaml", text);
    let mut diagnostics = Diagnostics::new();
    let node = parse(source, text, &mut diagnostics);
    (node, diagnostics, sources)
}

fn words(text: &str, span: Span) -> &str {
    &text[span.start..span.end]
}

#[test]
fn every_node_knows_its_words() {
    let text = "vars:\n  ä: été # note\n  list: [ 'ö', {a: 1.0} ]\nnothing:\n";
    let (node, diagnostics, _) = read(text);
    assert!(diagnostics.is_empty());
    let node = node.expect("reads");
    let vars = node.get("vars").expect("vars");
    let place = |span: Span| (span.line, span.column);
    let (key, value) = &vars.as_map().expect("a map")[0];
    assert_eq!((words(text, key.span), place(key.span)), ("ä", (2, 3)));
    assert_eq!((words(text, value.span), place(value.span)), ("été", (2, 6)));
    let list = vars.get("list").and_then(Node::as_list).expect("a list");
    assert_eq!((words(text, list[0].span), place(list[0].span)), ("'ö'", (3, 11)));
    let one = list[1].get("a").expect("a");
    assert_eq!((one.as_str(), words(text, one.span)), (Some("1.0"), "1.0"));
    assert!(node.get("nothing").expect("nothing").is_null());
    assert_eq!(node.get("absent"), None);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_keep_their_places() {
    let text = "\u{feff}a: 1\r\nb: [x,\r\n  yy]\r\n";
    let node = read(text).0.expect("reads");
    let list = node.get("b").and_then(Node::as_list).expect("a list");
    assert_eq!(words(text, list[1].span), "yy");
    assert_eq!((list[1].span.line, list[1].span.column), (3, 3));
}

#[test]
fn an_empty_file_is_nothing() {
    for text in ["", "\n\n", "# a comment\n", "---\n", "--- # x\n...\n"] {
        let (node, diagnostics, _) = read(text);
        assert!(diagnostics.is_empty(), "{text:?}");
        assert!(node.expect("reads").is_null(), "{text:?}");
    }
}

#[test]
fn mistakes_of_the_syntax_have_a_place() {
    let deep = "[".repeat(100);
    let deep_block = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>();
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                  e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let long_laughs = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(1_000));
    let cases: Vec<(&str, u32, &str)> = vec![
        ("a: 1\na: 2\n", 2, "the key `a` is written twice"),
        ("a: 1\nb: \"x\nc: 2\n", 2, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a: *nobody\n", 1, "not valid YAML"),
        ("a: &x [*x]\n", 1, "this alias stands inside of what it stands for"),
        ("? [a]\n: b\n", 1, "this can't be a key"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: !secret x\n", 1, "the tag `secret` means nothing here"),
        ("a: x\0y\n", 1, "control character U+0000"),
        ("a: 1\nb: \u{1b}[31m\n", 2, "control character U+001B"),
        (&deep, 1, "nested too deeply"),
        (&deep_block, 64, "nested too deeply"),
        (laughs, 6, "too many values, aliases expanded"),
        (&long_laughs, 2, "too much text, aliases expanded"),
    ];
    for (text, line, message) in cases {
        let (_, diagnostics, sources) = read(text);
        let found = diagnostics.sorted();
        let first = found.first().unwrap_or_else(|| panic!("no mistake in {text:.60}"));
        assert!(first.message.starts_with(message), "{text:.60}: {first:?}");
        assert_eq!(first.span.map(|span| span.line), Some(line), "{text:.60}: {first:?}");
        assert!(diagnostics.render(&sources, false).contains("mistake"));
    }
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let (node, diagnostics, _) = read(&"a".repeat(BYTES_LIMIT + 1));
    assert!(node.is_none());
    assert!(diagnostics.sorted()[0].message.contains("1048577 bytes"));
}

#[test]
fn the_largest_files_are_read_quickly() {
    let one_line = format!("[{}]", "é,".repeat(190_000));
    let many_lines = "- é\n".repeat(190_000);
    for text in [one_line, many_lines] {
        let began = std::time::Instant::now();
        let (node, diagnostics, _) = read(&text);
        assert!(diagnostics.is_empty(), "{:?}", diagnostics.sorted());
        assert_eq!(node.expect("reads").as_list().map(<[Node]>::len), Some(190_000));
        assert!(began.elapsed().as_secs() < 20, "took {:?}", began.elapsed());
    }
}

#[test]
fn a_mistake_beside_a_password_does_not_show_it() {
    let (_, diagnostics, sources) = read("a: 1\npassword: \"hunter2\n");
    assert!(!diagnostics.is_empty());
    let shown = diagnostics.render(&sources, false);
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn no_text_and_no_bytes_panic() {
    let runs = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let yaml = prop::string::string_regex("[-:?,\\[\\]{}#&*!|>'\"%@` \t\r\n0-9a-cé~<=]{0,80}");
    let anything = prop_oneof![
        4 => yaml.expect("a pattern"),
        1 => any::<String>(),
        1 => prop::collection::vec(any::<u8>(), 0..80)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    runner
        .run(&anything, |text| {
            runs.set(runs.get() + 1);
            let (node, diagnostics, sources) = read(&text);
            prop_assert!(node.is_some() || !diagnostics.is_empty());
            for found in diagnostics.sorted() {
                let span = found.span.expect("a place");
                prop_assert!(text.get(span.start..span.end).is_some(), "{:?}", found);
                prop_assert!(found.message != "this is no YAML that can be read", "{:?}", text);
            }
            diagnostics.render(&sources, true);
            Ok(())
        })
        .expect("no input panics");
    let mut sources = Sources::default();
    let mut diagnostics = Diagnostics::new();
    assert!(sources.add_bytes("x", b"a: 1\nb: \xff\n", &mut diagnostics).is_none());
    assert_eq!(diagnostics.sorted()[0].message, "byte 9 (line 2) is not UTF-8 text");
    eprintln!("property no_text_and_no_bytes_panic: {} inputs", runs.get());
}
