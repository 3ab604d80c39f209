use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::frame::{Cell, Frame};
use super::query::frames;
use super::*;

mod oracle;
mod prometheus;
mod recorded;

fn dashboard() -> Value {
    json!({
        "uid": "siem", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "site", "type": "custom", "multi": true, "query": "a, b, c", "current": {"value": ["a", "b"]}},
            {"name": "all", "type": "custom", "includeAll": true, "allValue": ".*", "query": "x", "current": {"value": ["$__all"]}},
            {"name": "DS", "type": "datasource", "current": {"value": "P1"}},
            {"name": "fixed", "type": "constant", "query": "seven"},
            {"name": "step", "type": "interval", "auto": true, "auto_count": 30, "auto_min": "10s", "current": {"value": "$__auto_interval_step"}},
        ]},
        "panels": [
            {"id": 1, "type": "row", "title": "Overview", "panels": [
                {"id": 4, "type": "stat", "title": "Failed logins", "datasource": {"type": "prometheus", "uid": "${DS}"},
                 "targets": [
                    {"refId": "A", "expr": "sum(x{site=~\"$site\", all=~\"${all}\", f=\"[[fixed]]\"}[$__range:$step])"},
                    {"refId": "B", "expr": "${site:csv}", "datasource": {"type": "prometheus", "uid": "P2"}},
                    {"refId": "C", "expr": "$site", "hide": true},
                 ],
                 "options": {"reduceOptions": {"calcs": ["max"]}}, "interval": "30s"},
            ]},
            {"id": 5, "type": "timeseries", "title": "4", "timeFrom": "5m", "maxDataPoints": 50,
             "datasource": "Old name", "targets": [{"refId": "A", "rawSql": "$__timeFilter(t) $__interval_ms '${site:sqlstring}'"}]},
            {"id": 6, "type": "stat", "title": "Shifted", "timeShift": "1h", "datasource": {"uid": "P1"}, "targets": [{"expr": "${__from} ${__to:date:seconds}"}]},
            {"id": 8, "type": "stat", "title": "Default", "targets": [{}]},
        ],
    })
}

fn given() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// The variables that need nobody to be asked, as the panel would have them.
fn variables(
    dashboard: &Value,
    range: Range,
    given: &BTreeMap<String, String>,
) -> Result<Variables, String> {
    let mut variables = Variables::new(range);
    for variable in variables::needed(dashboard, &[dashboard], given)? {
        let text = |key: &str| variable.get(key).and_then(Value::as_str).unwrap_or_default();
        let options = (text("type") == "custom").then(|| variables::custom(text("query")));
        let name = variables::name(variable).to_owned();
        let given = given.get(&name).map(String::as_str);
        let held = variables::held(variable, given, options.as_deref(), &range)?;
        variables.held.insert(name, held);
    }
    Ok(variables)
}

const NOW: Wall = Wall(1_700_000_000_000_000_000);

fn asked(panel: &str, sources: &Value, given: &BTreeMap<String, String>) -> Result<Value, String> {
    let dashboard = dashboard();
    let panel = find(&dashboard, panel).unwrap();
    let range = Range::of(&dashboard, panel, NOW)?;
    query(panel, &Sources::of(sources), &mut variables(&dashboard, range, given)?)
}

#[test]
fn panels_are_found_by_title_then_by_id_in_collapsed_rows_too() {
    let dashboard = dashboard();
    let id = |wanted| find(&dashboard, wanted).and_then(|panel| panel["id"].as_u64());
    assert_eq!(id("Failed logins"), Some(4));
    assert_eq!(id("4"), Some(5), "a title comes first");
    assert_eq!(id("6"), Some(6));
    assert_eq!(id("Overview"), None, "a row is no panel");
    assert_eq!(id("Nothing"), None);
    assert!(titles(&dashboard).contains(&"\"Failed logins\"".to_owned()));
    let of_library = json!({"panels": [{"id": 9, "libraryPanel": {"uid": "l", "name": "Shared"}}]});
    assert_eq!(find(&of_library, "Shared").unwrap()["id"], 9);
}

#[test]
fn a_query_is_what_the_browser_would_send() {
    let none = json!({});
    let body = asked("Failed logins", &none, &given()).unwrap();
    assert_eq!(body["from"], "1699996400000");
    assert_eq!(body["to"], "1700000000000");
    let first = &body["queries"][0];
    assert_eq!(first["expr"], "sum(x{site=~\"(a|b)\", all=~\".*\", f=\"seven\"}[$__range:2m])");
    assert_eq!(first["datasource"], json!({"type": "prometheus", "uid": "P1"}));
    assert_eq!((&first["intervalMs"], &first["maxDataPoints"]), (&json!(30_000), &json!(1000)));
    assert_eq!(body["queries"][1]["expr"], "a,b");
    assert_eq!(body["queries"][1]["datasource"]["uid"], "P2");
    assert_eq!(body["queries"].as_array().unwrap().len(), 2, "a hidden query is not sent");
    let one = BTreeMap::from([("site".to_owned(), "a.b".to_owned())]);
    let body = asked("Failed logins", &none, &one).unwrap();
    assert!(body["queries"][0]["expr"].as_str().unwrap().contains("site=~\"a\\\\.b\""), "{body}");

    let settings = json!({
        "defaultDatasource": "Metrics",
        "datasources": {
            "Old name": {"uid": "S1", "type": "postgres", "jsonData": {"timeInterval": "7s"}},
            "Metrics": {"uid": "M1", "type": "prometheus"},
        },
    });
    let body = asked("4", &settings, &given()).unwrap();
    assert_eq!(body["from"], "1699999700000", "the panel's own range");
    let first = &body["queries"][0];
    assert_eq!(first["datasource"], json!({"type": "postgres", "uid": "S1"}));
    assert_eq!(first["intervalMs"], 7000, "no less than the data source's");
    assert_eq!(first["rawSql"], "$__timeFilter(t) 7000 ''a','b''");
    let body = asked("Default", &settings, &given()).unwrap();
    assert_eq!(body["queries"][0]["datasource"]["uid"], "M1");
    assert!(asked("Default", &none, &given()).unwrap_err().contains("default"));

    let body = asked("Shifted", &none, &given()).unwrap();
    assert_eq!((&body["from"], &body["to"]), (&json!("1699992800000"), &json!("1699996400000")));
    assert_eq!(body["queries"][0]["expr"], "1699992800000 1699996400");
}

#[test]
fn variables_are_written_as_each_data_source_wants_them() {
    let list = |value: Value| {
        let variable =
            json!({"name": "v", "type": "custom", "multi": true, "current": {"value": value}});
        let values = value.as_array().unwrap();
        let options: Vec<_> = values
            .iter()
            .map(|v| (format!("T{}", v.as_str().unwrap()), v.as_str().unwrap().to_owned()))
            .collect();
        variables::held(&variable, None, Some(&options), &Range { from: 0, to: 1 }).unwrap()
    };
    let one = json!({"name": "v", "type": "custom", "current": {"value": "it's"}});
    let one = variables::held(&one, None, None, &Range { from: 0, to: 1 }).unwrap();
    let fill = |held: &variables::Held, text: &str, dialect| {
        let mut variables =
            Variables::new(Range { from: 1_700_000_000_123, to: 1_700_000_060_000 });
        variables.interval = Some(90_000);
        variables.held.insert("v".into(), held.clone());
        variables.fill_text(text, dialect)
    };
    let two = list(json!(["a.b", "c d"]));
    for (text, dialect, written) in [
        ("$v", Dialect::Matcher, "(a\\\\.b|c d)"),
        ("$v", Dialect::Sql, "'a.b','c d'"),
        ("$v", Dialect::Lucene, "(\"a.b\" OR \"c\\ d\")"),
        ("$v", Dialect::Words, "{a.b,c d}"),
        ("${v:regex}", Dialect::Sql, "(a\\.b|c d)"),
        ("[[v:pipe]]", Dialect::Sql, "a.b|c d"),
        ("${v:csv}", Dialect::Sql, "a.b,c d"),
        ("${v:raw}", Dialect::Sql, "a.b,c d"),
        ("${v:glob}", Dialect::Sql, "{a.b,c d}"),
        ("${v:json}", Dialect::Sql, "[\"a.b\",\"c d\"]"),
        ("${v:lucene}", Dialect::Sql, "(\"a.b\" OR \"c\\ d\")"),
        ("${v:singlequote}", Dialect::Sql, "'a.b','c d'"),
        ("${v:doublequote}", Dialect::Sql, "\"a.b\",\"c d\""),
        ("${v:sqlstring}", Dialect::Words, "'a.b','c d'"),
        ("${v:percentencode}", Dialect::Sql, "%7Ba.b%2Cc%20d%7D"),
        ("${v:queryparam}", Dialect::Sql, "var-v=a.b&var-v=c%20d"),
        ("${v:text}", Dialect::Sql, "Ta.b + Tc d"),
        ("$vv ${w} $1", Dialect::Sql, "$vv ${w} $1"),
        (
            "$__interval $__interval_ms ${__from:date}",
            Dialect::Lucene,
            "1m 90000 2023-11-14T22:13:20.123Z",
        ),
        ("$__rate_interval ${__range}", Dialect::Matcher, "$__rate_interval ${__range}"),
        ("$__timeGroup(t, $__interval)", Dialect::Sql, "$__timeGroup(t, 1m)"),
    ] {
        assert_eq!(fill(&two, text, dialect).as_deref(), Ok(written), "{text} {dialect:?}");
    }
    assert_eq!(
        fill(&one, "${v:sqlstring} ${v:singlequote}", Dialect::Sql).unwrap(),
        "'it''s' 'it\\'s'"
    );
    for (held, text, dialect, why) in [
        (&two, "$v", Dialect::Unknown, "data source"),
        (&one, "$v", Dialect::Sql, "apostrophe"),
        (&one, "${v:json}", Dialect::Sql, "JSON"),
        (&one, "${v:distributed}", Dialect::Sql, "distributed"),
        (&one, "${v.length}", Dialect::Sql, "length"),
        (&one, "${__user.login}", Dialect::Sql, "__user"),
        (&one, "$__range", Dialect::Sql, "__range"),
        (&one, "${__from:date:YYYY}", Dialect::Sql, "__from"),
    ] {
        let said = fill(held, text, dialect).unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn values_of_variables_are_those_that_are_chosen_and_still_there() {
    let range = Range { from: 0, to: 3_600_000 };
    let held = |variable: Value, options: Option<&[variables::Choice]>| {
        variables::held(&variable, None, options, &range).map(|held| held.values)
    };
    let options = variables::custom("a, Bee : b,c\\,d");
    assert_eq!(options[1], ("Bee".to_owned(), "b".to_owned()));
    assert_eq!(options[2].1, "c,d");
    let of = |current: Value| json!({"name": "v", "type": "query", "includeAll": true, "current": {"value": current}});
    assert_eq!(held(of(json!("b")), Some(&options)).unwrap(), ["b"]);
    assert_eq!(held(of(json!("gone")), Some(&options)).unwrap(), ["a"]);
    assert_eq!(held(of(json!("$__all")), Some(&options)).unwrap(), ["a", "b", "c,d"]);
    assert!(held(of(json!("$__all")), None).unwrap_err().contains("not known"));
    let mut sorted = of(json!("gone"));
    sorted["sort"] = 1.into();
    assert!(held(sorted, Some(&options)).unwrap_err().contains("any more"));
    let interval = json!({"type": "interval", "query": "1m,5m", "current": {"value": "5m"}});
    assert_eq!(held(interval, None).unwrap(), ["5m"]);
    assert_eq!(held(json!({"type": "textbox", "query": "q"}), None).unwrap(), ["q"]);
    assert!(held(json!({"type": "groupby"}), None).unwrap_err().contains("groupby"));

    let found = |pattern: &str| variables::matching(variables::custom("web-1,web-2,db-1"), pattern);
    let values =
        |pattern: &str| found(pattern).unwrap().into_iter().map(|c| c.1).collect::<Vec<_>>();
    assert_eq!(values("/web/"), ["web-1", "web-2"]);
    assert_eq!(values("/(\\w+)-/"), ["web", "db"]);
    assert_eq!(values("/(?<text>\\w+)-(?<value>\\d)/"), ["1", "2"]);
    assert!(found("/(?=x)/").unwrap_err().contains("pattern"));

    let chained = json!({"templating": {"list": [
        {"name": "b", "type": "query", "query": "label_values(x{a=\"$a\"}, b)"},
        {"name": "a", "type": "custom", "query": "1"},
        {"name": "me", "type": "query", "query": "$you"}, {"name": "you", "type": "query", "query": "$me"},
    ]}});
    let order = variables::needed(&chained, &[&json!("$b")], &given()).unwrap();
    assert_eq!(order.iter().map(|v| variables::name(v)).collect::<Vec<_>>(), ["a", "b"]);
    assert!(
        variables::needed(&chained, &[&json!("$me")], &given()).unwrap_err().contains("itself")
    );
    assert_eq!(
        variables::filters(
            &json!({"templating": {"list": [{"name": "f", "type": "adhoc", "filters": [{}]}]}})
        ),
        Some("f")
    );
}

/// What a variable's query becomes, and why some are not computed.
#[test]
fn queries_of_variables_are_asked_or_refused_by_name() {
    let ask = |source: &str, query: Value| {
        let variable = json!({"datasource": {"type": source, "uid": "U"}, "query": query});
        let variables = Variables::new(Range { from: 1_500, to: 3_001 });
        values::ask(&variable, &variables, &Sources::default())
    };
    let asked = ask("prometheus", json!({"query": "label_values(up{a=\"b,c\"}, job)"})).unwrap();
    let values::Ask::List { path, query, matching: None } = asked else { panic!("{asked:?}") };
    assert_eq!(path, "api/datasources/uid/U/resources/api/v1/label/job/values");
    let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
    assert_eq!(query, [("start", "1"), ("end", "4"), ("match[]", "up{a=\"b,c\"}")]);
    let found = r#"{"find": "terms", "field": "user", "orderBy": "doc_count", "size": 3}"#;
    let asked = ask("elasticsearch", json!(found)).unwrap();
    let values::Ask::Table(body) = asked else { panic!("{asked:?}") };
    let settings = &body["queries"][0]["bucketAggs"][0]["settings"];
    let meant = json!({"min_doc_count": "1", "size": "3", "order": "desc", "orderBy": "_count"});
    assert_eq!(settings, &meant);
    let numbers = answer(&[series("a", &json!([1, 2]))]);
    let terms = values::Ask::Table(body);
    assert!(values::taken(&terms, &numbers).unwrap_err().contains("no texts"));
    let wide = json!({"queries": [{"rawSql": "SELECT a, b"}]});
    let several = values::taken(&values::Ask::Table(wide), &numbers);
    assert!(several.unwrap_err().contains("several columns"));
    for (source, query, why) in [
        ("prometheus", "label_values(up, job name)", "no label"),
        ("prometheus", "label_names(up)", "names of some"),
        ("prometheus", "", "no query"),
        ("elasticsearch", r#"{"find": "fields"}"#, "not of terms"),
        ("elasticsearch", r#"{"find": "terms", "field": "a", "orderBy": "x"}"#, "order by"),
        ("elasticsearch", r#"{"find": "terms", "field": "a", "size": "all"}"#, "size"),
        ("influxdb", "SHOW TAG VALUES", "influxdb"),
    ] {
        let said = ask(source, json!(query)).unwrap_err();
        assert!(said.contains(why), "{query}: {said}");
    }
}

fn answer(frames: &[Value]) -> Value {
    json!({"results": {"A": {"frames": frames}}})
}

fn series(host: &str, values: &Value) -> Value {
    json!({
        "schema": {"fields": [
            {"name": "Time", "type": "time"},
            {"name": "Value", "type": "number", "labels": {"host": host}},
        ]},
        "data": {"values": [[1000, 2000], values]},
    })
}

fn seen(panel: Value, answer: &Value, choice: Choice<'_>) -> Result<Shown, String> {
    let source = json!({"uid": "P", "type": "prometheus"});
    let asked =
        json!({"queries": [{"refId": "A", "datasource": source, "format": panel["format"]}]});
    shown(&panel, frames(answer, &asked)?, choice)
}

fn text(shown: Result<Shown, String>) -> String {
    match shown {
        Ok(Shown::One(shown)) => shown.text,
        Ok(Shown::Nothing(names)) if names.is_empty() => "nothing".into(),
        Ok(Shown::Nothing(names)) => format!("nothing but {}", names.join(" | ")),
        Ok(Shown::Several(names)) => names.join(" | "),
        Err(why) => format!("cannot: {why}"),
    }
}

#[test]
fn each_kind_of_panel_shows_its_own_number() {
    let one = answer(&[series("a", &json!([1500, 2500.5]))]);
    let two = answer(&[series("a", &json!([1, 2])), series("b", &json!([3, null]))]);
    let none = Choice::default();
    let b = Choice { series: Some("b"), ..none };
    let stat = json!({"type": "stat", "options": {"reduceOptions": {"calcs": ["sum"]}},
                      "fieldConfig": {"defaults": {"unit": "short", "noValue": "0"}}});
    assert_eq!(text(seen(stat.clone(), &one, none)), "4.00 K");
    assert_eq!(text(seen(stat.clone(), &two, none)), "a | b");
    assert_eq!(text(seen(stat.clone(), &two, b)), "3");
    let other = Choice { series: Some("c"), ..none };
    assert_eq!(text(seen(stat.clone(), &two, other)), "nothing but a | b");
    assert_eq!(text(seen(stat, &answer(&[]), none)), "0", "what the panel says of nothing");
    let mut gauge = json!({"type": "gauge", "options": {}});
    assert_eq!(text(seen(gauge.clone(), &one, none)), "2501", "the last value");
    assert_eq!(text(seen(gauge.clone(), &answer(&[]), none)), "nothing");
    gauge["transformations"] = json!([{"id": "reduce", "options": {"reducers": ["max"]}}]);
    assert_eq!(text(seen(gauge.clone(), &two, none)), "3");
    gauge["transformations"] = json!([{"id": "histogram", "options": {}}]);
    assert_eq!(
        text(seen(gauge, &two, none)),
        "cannot: the transformation \"histogram\" is not computed"
    );

    let lines = json!({"type": "timeseries", "options": {"legend": {"calcs": ["count", "mean"]}},
                       "fieldConfig": {"defaults": {"unit": "bytes"}}});
    assert_eq!(text(seen(lines.clone(), &one, none)), "2", "a count has no unit");
    let mean = Choice { reducer: Some(Reducer::of("mean").unwrap()), ..none };
    assert_eq!(text(seen(lines.clone(), &one, mean)), "1.95 KiB");
    let last = Choice { reducer: Some(Reducer::of("last").unwrap()), ..none };
    assert!(text(seen(lines.clone(), &one, last)).contains("gaps"));
    let mut hidden = lines;
    hidden["fieldConfig"]["overrides"] = json!([{"matcher": {"id": "byName", "options": "a"},
        "properties": [{"id": "custom.hideFrom", "value": {"viz": true}}]}]);
    assert_eq!(text(seen(hidden, &two, none)), "1", "the line that is left");

    let table = json!({"type": "table", "format": "table", "options": {}});
    let row = BTreeMap::from([("host".to_owned(), "b".to_owned())]);
    let rows = answer(&[
        json!({"schema": {"fields": [{"name": "Time", "type": "time"}, {"name": "Value", "type": "number", "labels": {"host": "a"}}]}, "data": {"values": [[1], [7]]}}),
        json!({"schema": {"fields": [{"name": "Time", "type": "time"}, {"name": "Value", "type": "number", "labels": {"host": "b"}}]}, "data": {"values": [[1], [9]]}}),
    ]);
    assert!(text(seen(table.clone(), &rows, none)).contains("2 rows"));
    assert_eq!(text(seen(table.clone(), &rows, Choice { row: Some(&row), ..none })), "9");
    assert_eq!(text(seen(table.clone(), &rows, mean)), "8");
    let wrong = BTreeMap::from([("hots".to_owned(), "b".to_owned())]);
    assert!(text(seen(table, &rows, Choice { row: Some(&wrong), ..none })).contains("hots"));
    let bars = json!({"type": "barchart", "format": "table", "options": {}});
    assert_eq!(text(seen(bars, &rows, Choice { row: Some(&row), ..none })), "9");
    let other = json!({"type": "piechart", "options": {}});
    assert!(text(seen(other, &one, none)).contains("piechart"));
    let mapped = json!({"type": "stat", "options": {}, "fieldConfig": {"defaults": {"mappings": [
        {"type": "range", "options": {"from": 0, "to": 9, "result": {"text": "few"}}}]}}});
    let Ok(Shown::One(display)) = seen(mapped, &answer(&[series("a", &json!([1, 2]))]), none)
    else {
        panic!("it shows one value");
    };
    assert_eq!(display, Display { text: "few".into(), number: None });
}

/// Answers of each data source, and those answers damaged in each of their places.
#[test]
fn answers_of_the_data_sources_are_shown_as_their_panels_show_them() {
    let file = include_str!("../../../tests/fixtures/grafana/ds-query.jsonl");
    let mut damaged = 0;
    for line in file.lines().skip(1) {
        let case: Value = serde_json::from_str(line).unwrap();
        let row: BTreeMap<String, String> =
            serde_json::from_value(case["row"].clone()).unwrap_or_default();
        let choice = Choice { reducer: None, series: case["series"].as_str(), row: Some(&row) };
        let source = json!({"type": case["source"], "uid": "P"});
        let asked =
            json!({"queries": [{"refId": "A", "datasource": source, "format": case["format"]}]});
        let see = |answer: &Value| -> Result<Shown, String> {
            shown(&case["panel"], frames(answer, &asked)?, choice)
        };
        assert_eq!(text(see(&case["answer"])), case["shows"], "{}", case["case"]);
        for at in 0..nodes(&case["answer"]) {
            for with in [Value::Null, json!([]), json!({}), json!("x"), json!(-1.5), json!(true)] {
                let mut answer = case["answer"].clone();
                replace(&mut answer, &mut { at }, &with);
                drop(see(&answer));
                damaged += 1;
            }
        }
    }
    eprintln!("property grafana answers: {damaged} damaged");
    assert!(damaged >= 2000);
}

fn nodes(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Puts another value in the place of the one that comes after so many.
fn replace(tree: &mut Value, at: &mut usize, with: &Value) -> bool {
    if *at == 0 {
        *tree = with.clone();
        return true;
    }
    *at -= 1;
    match tree {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, at, with)),
        Value::Object(map) => map.values_mut().any(|item| replace(item, at, with)),
        _ => false,
    }
}

#[test]
fn frames_carry_what_json_cannot() {
    let frame = json!({
        "schema": {"fields": [{"name": "x", "type": "number"}]},
        "data": {"values": [[null, null, 3]], "entities": [{"NaN": [0], "NegInf": [1]}]},
    });
    let frame = Frame::of(&frame).unwrap();
    assert!(matches!(frame.fields[0].at(0), Cell::Number(value) if value.is_nan()));
    assert_eq!(frame.fields[0].at(1), &Cell::Number(f64::NEG_INFINITY));
    assert_eq!(frame.fields[0].at(7), &Cell::Absent);
    assert!(frames(&json!({}), &json!({})).is_err());
    let asked = json!({"queries": [{"refId": "A"}]});
    assert!(frames(&json!({"results": {"A": {"frames": [{}]}}}), &asked).is_err());
    assert!(frames(&json!({"results": {"A": {"frames": []}}}), &asked).unwrap().is_empty());
}

#[test]
fn periods_of_grafana() {
    let seconds = |text| range::period(text).map(|p| p.as_secs());
    assert_eq!(seconds("90s"), Some(90));
    assert_eq!(seconds(">5m"), Some(300));
    assert_eq!(seconds("2d"), Some(172_800));
    for text in ["", "h", "1x", "0s", "99999999999999999999s", "2024-01-01"] {
        assert_eq!(seconds(text), None, "{text}");
    }
    let of =
        |from: &str| Range::of(&json!({"time": {"from": from, "to": "now-1m"}}), &json!({}), NOW);
    assert_eq!(of("now-1h").unwrap().to, 1_699_999_940_000);
    for from in ["now/d", "2024-01-01T00:00:00Z"] {
        assert!(of(from).unwrap_err().contains("give `from`"));
    }
}

#[test]
fn errors_and_missing_dashboards_are_told_from_other_answers() {
    let error = json!({"results": {"A": {"error": "parse error"}}});
    assert_eq!(error_of(&error).unwrap(), "parse error");
    assert_eq!(
        error_of(&json!({"message": "Data source not found"})).unwrap(),
        "Data source not found"
    );
    assert_eq!(error_of(&json!({"results": {"A": {"frames": []}}})), None);
    assert!(says_dashboard(br#"{"message": "Dashboard not found"}"#));
    assert!(!says_dashboard(b"<html>404</html>") && !says_dashboard(br#"{"message": "no route"}"#));
}

#[test]
fn a_panel_that_is_repeated_wants_one_value() {
    let dashboard = json!({"panels": [
        {"id": 1, "type": "row", "repeat": "site"}, {"id": 2, "type": "stat"},
        {"id": 3, "type": "row"}, {"id": 4, "type": "stat"},
        {"id": 5, "type": "row", "repeat": "site", "panels": [{"id": 6, "type": "stat"}]},
        {"id": 7, "type": "stat", "repeat": "site"},
    ]});
    let mut all = Vec::new();
    panels(&dashboard, 0, &mut all);
    for panel in all {
        let wants = [2, 6, 7].contains(&panel["id"].as_u64().unwrap());
        let range = Range { from: 0, to: 1 };
        let none = Variables::new(range);
        assert_eq!(repeated(&dashboard, panel, &none).is_err(), wants, "{panel}");
    }
}

/// What the document lists is what the code has.
#[test]
fn the_document_says_what_is_computed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/dashboards.md");
    let document = std::fs::read_to_string(path).unwrap_or_default();
    let mut units = format::known();
    units.sort_unstable();
    let mut reducers = reduce::known();
    reducers.retain(|id| !id.starts_with('p'));
    let list = |names: &mut dyn Iterator<Item = String>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let own = |names: &[&str]| list(&mut names.iter().map(|name| (*name).to_owned()));
    let mut missing = String::new();
    for (what, listed) in [
        ("panels", own(show::PANELS)),
        ("variables", own(variables::KINDS)),
        ("formats", own(variables::FORMATS)),
        ("transformations", list(&mut transform::known().map(str::to_owned))),
        ("reducers", list(&mut reducers.into_iter())),
        ("matchers", own(matching::MATCHERS)),
        ("units", own(&units)),
    ] {
        let plain: Vec<&str> = document.split_whitespace().collect();
        if !plain.join(" ").contains(&listed) {
            let _ = writeln!(missing, "{what}:\n{listed}\n");
        }
    }
    assert!(missing.is_empty(), "docs/dashboards.md does not list\n{missing}");
}

#[test]
fn garbage_never_panics() {
    let tried = std::cell::Cell::new(0);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[$\\[{a:}.\\]]{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("number"),
            Just("now-"),
            Just("row"),
            Just("stat"),
            Just("time"),
            Just("timeseries"),
            Just("table"),
            Just("reduce"),
            Just("merge"),
            Just("joinByField"),
            Just("groupBy"),
            Just("calculateField"),
            Just("limit"),
            Just("custom"),
            Just("$__all"),
            Just("p50"),
        ]
        .prop_map(Value::from),
    ];
    let key = proptest::sample::select(vec![
        "panels",
        "rows",
        "targets",
        "datasource",
        "uid",
        "from",
        "interval",
        "results",
        "A",
        "frames",
        "schema",
        "fields",
        "data",
        "values",
        "type",
        "templating",
        "list",
        "name",
        "current",
        "value",
        "title",
        "options",
        "transformations",
        "id",
        "reducers",
        "fieldConfig",
        "defaults",
        "overrides",
        "mappings",
        "unit",
        "decimals",
        "labels",
        "config",
        "entities",
        "NaN",
        "limitField",
        "calcs",
        "reduceOptions",
        "query",
        "repeat",
        "custom",
    ]);
    let tree = leaf.prop_recursive(8, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    });
    let range = Range { from: 0, to: 60_000 };
    let asked = json!({"queries": [{"refId": "A"}]});
    proptest!(ProptestConfig::with_cases(2000), |(tree in tree, other in any::<u8>())| {
        tried.set(tried.get() + 1);
        let _ = (find(&tree, "stat"), error_of(&tree), Range::of(&tree, &tree, NOW));
        drop(variables(&tree, range, &given()));
        drop(query(&tree, &Sources::of(&tree), &mut Variables::new(range)));
        let wrapped = json!({"results": {"A": {"frames": [tree]}}});
        let good = answer(&[series("a", &json!([1, other]))]);
        for answer in [&tree, &wrapped, &good] {
            if let Ok(frames) = frames(answer, &asked) {
                for kind in show::PANELS {
                    let panel = json!({"type": kind, "transformations": [tree], "fieldConfig": tree, "options": tree});
                    drop(shown(&panel, frames.clone(), Choice::default()));
                }
                drop(transform::transform(frames, &json!([{"id": "groupBy", "options": tree}, {"id": "organize", "options": tree}])));
            }
        }
    });
    eprintln!("property grafana documents: {} inputs", tried.get());
    assert!(tried.get() >= 2000);
}
