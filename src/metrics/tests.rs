use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::catalogue::agent::{
    CHECK_ATTEMPT, CHECK_FAILURES, CHECK_SUCCESS, DECISION, METRIC_ROWS_DROPPED,
};

fn registry() -> Registry {
    Registry::new(|_| Vec::new())
}

fn text(registry: &Registry, format: Format) -> String {
    let mut out = Vec::new();
    registry.write(format, &mut out);
    String::from_utf8(out).expect("the exposition is UTF-8")
}

#[test]
fn both_formats_tell_the_same() {
    let mut registry = registry();
    registry.set(&DECISION, &[], 2.0);
    registry.add(&CHECK_FAILURES, &["core", "a:1", "refused"], 1.0);
    registry.add(&CHECK_FAILURES, &["core", "a:1", "refused"], 2.5);
    assert_eq!(
        text(&registry, Format::Text),
        "# HELP greenlight_decision The decision: 0 go, 1 go_with_waivers, 2 incomplete, 3 no_go.\n\
         # TYPE greenlight_decision gauge\n\
         greenlight_decision 2\n\
         # HELP greenlight_check_failures_total Failed attempts by reason.\n\
         # TYPE greenlight_check_failures_total counter\n\
         greenlight_check_failures_total{check=\"core\",target=\"a:1\",reason=\"refused\"} 3.5\n"
    );
    assert_eq!(
        text(&registry, Format::OpenMetrics),
        "# TYPE greenlight_decision gauge\n\
         # HELP greenlight_decision The decision: 0 go, 1 go_with_waivers, 2 incomplete, 3 no_go.\n\
         greenlight_decision 2\n\
         # TYPE greenlight_check_failures counter\n\
         # HELP greenlight_check_failures Failed attempts by reason.\n\
         greenlight_check_failures_total{check=\"core\",target=\"a:1\",reason=\"refused\"} 3.5\n\
         # EOF\n"
    );
}

#[test]
fn a_histogram_counts_at_or_below_its_boundaries() {
    let mut registry = Registry::new(|metric| match *metric == CHECK_ATTEMPT {
        // One of its own, one twice, one that is no number.
        true => vec![0.003, 0.0001, 0.003, f64::NAN],
        false => Vec::new(),
    });
    for value in [0.0001, 0.002, 0.003, 0.0031, 1.0, 61.0, f64::NAN] {
        registry.observe(&CHECK_ATTEMPT, &["c", "t"], value);
    }
    let text = text(&registry, Format::Text);
    let bucket = |le: &str| {
        let line = format!(
            "greenlight_check_attempt_duration_seconds_bucket{{check=\"c\",target=\"t\",le=\"{le}\"}} "
        );
        text.lines().find_map(|l| l.strip_prefix(&line)).map(str::to_string)
    };
    assert_eq!(bucket("0.0001").as_deref(), Some("1"));
    assert_eq!(bucket("0.0025").as_deref(), Some("2"));
    assert_eq!(bucket("0.003").as_deref(), Some("3"));
    assert_eq!(bucket("0.005").as_deref(), Some("4"));
    assert_eq!(bucket("1.0").as_deref(), Some("5"));
    assert_eq!(bucket("60.0").as_deref(), Some("5"));
    assert_eq!(bucket("+Inf").as_deref(), Some("6"));
    assert!(text.contains("_count{check=\"c\",target=\"t\"} 6\n"), "{text}");
    assert!(text.contains("_sum{check=\"c\",target=\"t\"} 62.0082\n"), "{text}");
    assert_eq!(text.matches("le=").count(), CHECK_ATTEMPT_BOUNDARIES + 1 + 1);
}

const CHECK_ATTEMPT_BOUNDARIES: usize = crate::catalogue::LATENCY.len();

#[test]
fn at_most_eight_boundaries_are_added() {
    let many: Vec<f64> = (1..=20).map(|n| 100.0 + f64::from(n)).collect();
    assert_eq!(
        boundaries(&CHECK_ATTEMPT, many).len(),
        CHECK_ATTEMPT_BOUNDARIES + EXTRA_BOUNDARIES_LIMIT
    );
    assert_eq!(boundaries(&DECISION, vec![1.0]), Vec::<f64>::new());
}

#[test]
fn what_is_not_known_is_absent() {
    let mut registry = registry();
    let row = registry.row(&CHECK_SUCCESS, &["c", "t"]).expect("a row");
    assert_eq!(text(&registry, Format::Text), "");
    assert!(registry.set_row(row, 1.0));
    assert_eq!(registry.get(&CHECK_SUCCESS, &["c", "t"]), Some(1.0));
    assert!(registry.clear_row(row));
    assert_eq!(text(&registry, Format::Text), "");
    assert!(registry.set_row(row, f64::NAN));
    assert_eq!(registry.get(&CHECK_SUCCESS, &["c", "t"]), None);
    // Clearing what never was makes nothing.
    registry.clear(&CHECK_SUCCESS, &["other", "t"]);
    assert_eq!(registry.rows(), 1);
}

#[test]
fn the_handle_of_a_removed_row_sets_nothing() {
    let mut registry = registry();
    let old = registry.row(&CHECK_SUCCESS, &["c", "gone"]).expect("a row");
    registry.set_row(old, 1.0);
    registry.remove(&CHECK_SUCCESS, &["c", "gone"]);
    // The slot is used again, by another row.
    let new = registry.row(&CHECK_SUCCESS, &["c", "new"]).expect("a row");
    assert_eq!((new.family, new.slot), (old.family, old.slot));
    assert!(!registry.set_row(old, 0.0));
    assert!(!registry.add_row(old, 1.0));
    assert!(!registry.observe_row(old, 1.0));
    assert!(!registry.clear_row(old));
    assert_eq!(registry.get(&CHECK_SUCCESS, &["c", "new"]), None);
    assert!(registry.set_row(new, 1.0));
    assert_eq!(registry.get(&CHECK_SUCCESS, &["c", "new"]), Some(1.0));
    assert_eq!(registry.get(&CHECK_SUCCESS, &["c", "gone"]), None);
}

#[test]
fn targets_that_vanish_take_their_rows_along() {
    let mut registry = registry();
    for target in ["a", "b"] {
        registry.set(&CHECK_SUCCESS, &["c", target], 1.0);
        registry.add(&CHECK_FAILURES, &["c", target, "refused"], 1.0);
        registry.observe(&CHECK_ATTEMPT, &["c", target], 0.1);
    }
    registry.set(&DECISION, &[], 0.0);
    registry.retain(|_, labels| labels.get("target").is_none_or(|target| target == "a"));
    let text = text(&registry, Format::Text);
    assert!(!text.contains("target=\"b\""), "{text}");
    assert_eq!(registry.rows(), 4);
    assert!(text.contains("greenlight_decision 0\n"), "{text}");
}

#[test]
fn other_boundaries_start_a_histogram_anew_and_only_that() {
    let mut registry = registry();
    registry.observe(&CHECK_ATTEMPT, &["c", "t"], 0.1);
    registry.set(&DECISION, &[], 0.0);
    registry.set_boundaries(|_| Vec::new());
    assert_eq!(registry.rows(), 2);
    registry.set_boundaries(|metric| match *metric == CHECK_ATTEMPT {
        true => vec![0.003],
        false => Vec::new(),
    });
    assert_eq!(registry.rows(), 1);
    registry.observe(&CHECK_ATTEMPT, &["c", "t"], 0.001);
    let text = text(&registry, Format::Text);
    assert!(text.contains("le=\"0.003\"} 1\n"), "{text}");
    assert!(text.contains("_count{check=\"c\",target=\"t\"} 1\n"), "{text}");
}

#[test]
fn rows_beyond_the_limit_are_counted_not_kept() {
    let mut registry = registry();
    for n in 0..ROWS_LIMIT + 3 {
        registry.set(&CHECK_SUCCESS, &["c", &n.to_string()], 1.0);
    }
    assert_eq!(text(&registry, Format::Text).matches("greenlight_check_success{").count(), 2_000);
    let dropped = registry.get(&METRIC_ROWS_DROPPED, &["greenlight_check_success"]);
    assert_eq!(dropped, Some(3.0));
}

#[test]
fn labels_that_are_too_few_make_no_row() {
    let mut registry = registry();
    assert_eq!(registry.row(&CHECK_SUCCESS, &["c"]), None);
    assert_eq!(registry.row(&DECISION, &["c"]), None);
}

#[test]
fn a_counter_never_falls() {
    let mut registry = registry();
    registry.add(&CHECK_FAILURES, &["c", "t", "refused"], 2.0);
    registry.add(&CHECK_FAILURES, &["c", "t", "refused"], -1.0);
    registry.add(&CHECK_FAILURES, &["c", "t", "refused"], f64::NAN);
    assert_eq!(registry.get(&CHECK_FAILURES, &["c", "t", "refused"]), Some(2.0));
}

#[test]
fn numbers_read_back_as_they_were() {
    let mut registry = registry();
    for value in [
        0.0,
        -0.0,
        0.1,
        1.0 / 3.0,
        1e-9,
        5e-324,
        1e15,
        9_007_199_254_740_993.0,
        f64::MAX,
        -2.5,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        registry.set(&DECISION, &[], value);
        let text = text(&registry, Format::Text);
        let written = text.lines().last().and_then(|line| line.split(' ').next_back());
        let written = written.expect("a sample");
        assert_eq!(written.parse(), Ok(value), "{written}");
    }
}

/// The rules of names that promtool can't see in a family without rows.
#[test]
fn the_catalogue_keeps_the_rules_of_names() {
    let mut names = BTreeSet::new();
    for metric in catalogue::all() {
        let name = metric.name;
        assert!(names.insert(name), "{name} is declared twice");
        assert!(name.starts_with("greenlight_"), "{name}");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert!(!name.ends_with("_count") && !name.ends_with("_sum"), "{name}");
        assert!(metric.help.trim().ends_with('.'), "{name}: HELP is a sentence");
        assert!(!metric.labels.contains(&"le"), "{name}");
        if let Kind::Histogram(base) = metric.kind {
            assert!(base.is_sorted() && base.iter().all(|b| b.is_finite()), "{name}");
        }
    }
}

/// Reads the labels of a line as Prometheus does.
fn unescape(line: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        let mut value = String::new();
        loop {
            match chars.next().expect("a closing quote") {
                '"' => break,
                '\\' => match chars.next().expect("an escaped character") {
                    'n' => value.push('\n'),
                    c => value.push(c),
                },
                c => value.push(c),
            }
        }
        values.push(value);
    }
    values
}

#[test]
fn any_label_value_reads_back() {
    let inputs = std::cell::Cell::new(0_u32);
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(&(any::<String>(), any::<String>()), |(check, target)| {
            inputs.set(inputs.get() + 1);
            let mut registry = registry();
            registry.set(&CHECK_SUCCESS, &[&check, &target], 1.0);
            registry.set(&CHECK_SUCCESS, &[&check, &target], 0.0);
            prop_assert_eq!(registry.rows(), 1);
            let text = text(&registry, Format::Text);
            let line = text.split('\n').nth(2).unwrap_or_default();
            prop_assert_eq!(unescape(line), vec![check, target]);
            Ok(())
        })
        .expect("labels read back");
    eprintln!("property any_label_value_reads_back: {} inputs", inputs.get());
}
