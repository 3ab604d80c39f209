use proptest::prelude::*;

use super::*;

fn dashboard() -> Value {
    json!({
        "uid": "siem", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "site", "type": "query", "current": {"value": ["a", "b"]}},
            {"name": "all", "type": "query", "current": {"value": ["$__all"]}},
            {"name": "DS", "type": "datasource", "current": {"value": "P1"}},
            {"name": "fixed", "type": "constant", "query": "seven"},
        ]},
        "panels": [
            {"id": 1, "type": "row", "title": "Overview", "panels": [
                {"id": 4, "type": "stat", "title": "Failed logins", "datasource": {"uid": "${DS}"},
                 "targets": [
                    {"refId": "A", "expr": "sum(x{site=~\"$site\", all=~\"${all}\", f=\"[[fixed]]\"}[$__range])"},
                    {"refId": "B", "expr": "${site:csv}", "hide": true, "datasource": {"uid": "P2"}},
                 ],
                 "options": {"reduceOptions": {"calcs": ["max"]}}, "interval": "30s"},
            ]},
            {"id": 5, "type": "timeseries", "title": "4", "timeFrom": "5m", "maxDataPoints": 50,
             "datasource": "Old name", "targets": [{"refId": "A"}]},
            {"id": 6, "type": "stat", "title": "Shifted", "timeShift": "1h", "targets": [{}]},
            {"id": 7, "type": "stat", "title": "Transformed", "transformations": [{"id": "x"}]},
            {"id": 8, "type": "stat", "title": "Default", "targets": [{}]},
        ],
    })
}

fn asked<'a>(panel: &'a str, variables: &'a BTreeMap<String, String>) -> Asked<'a> {
    Asked {
        dashboard: "siem",
        panel,
        variables,
        back: None,
        reduce: None,
        series: None,
        now: Wall::from_secs(1_700_000_000),
    }
}

#[test]
fn panels_are_found_by_title_then_by_id_in_collapsed_rows_too() {
    let dashboard = dashboard();
    let id = |wanted| find(&dashboard, wanted).and_then(|panel| panel["id"].as_u64());
    assert_eq!(id("Failed logins"), Some(4));
    assert_eq!(id("4"), Some(5), "a title comes first");
    assert_eq!(id("7"), Some(7));
    assert_eq!(id("Overview"), None, "a row is no panel");
    assert_eq!(id("Nothing"), None);
    assert!(titles(&dashboard).contains(&"\"Failed logins\"".to_owned()));
}

#[test]
fn a_query_is_what_the_browser_would_send() {
    let (dashboard, given) = (dashboard(), BTreeMap::new());
    let query_of =
        |panel: &str, asked: &Asked<'_>| query(&dashboard, find(&dashboard, panel).unwrap(), asked);
    let body = query_of("Failed logins", &asked("", &given)).unwrap();
    assert_eq!(body["from"], "1699996400000");
    assert_eq!(body["to"], "1700000000000");
    let first = &body["queries"][0];
    assert_eq!(first["expr"], "sum(x{site=~\"(a|b)\", all=~\".*\", f=\"seven\"}[$__range])");
    assert_eq!(first["datasource"], json!({"uid": "P1"}));
    assert_eq!((&first["intervalMs"], &first["maxDataPoints"]), (&json!(30_000), &json!(1000)));
    assert_eq!(body["queries"][1]["expr"], "a,b");
    assert_eq!(body["queries"][1]["datasource"]["uid"], "P2");

    let given = BTreeMap::from([("site".to_owned(), "c".to_owned())]);
    let mut one = asked("", &given);
    one.back = Some(Duration::from_secs(60));
    let body = query_of("Failed logins", &one).unwrap();
    assert!(body["queries"][0]["expr"].as_str().unwrap().contains("site=~\"c\""));
    assert_eq!(body["from"], "1699999940000");

    let body = query_of("4", &asked("", &given)).unwrap();
    assert_eq!(body["from"], "1699999700000", "the panel's own range");
    assert_eq!(body["queries"][0]["datasource"], json!({"uid": "Old name"}));
    assert_eq!(body["queries"][0]["intervalMs"], 6000);
    for (panel, shown) in
        [("Shifted", "shifted"), ("Transformed", "transformations"), ("Default", "default")]
    {
        let why = query_of(panel, &asked("", &given)).unwrap_err();
        assert!(why.contains(shown), "{why}");
    }
}

fn frame(fields: &Value, values: &Value) -> Value {
    json!({"schema": {"fields": fields}, "data": {"values": values}})
}

#[test]
fn numbers_are_reduced_as_the_panel_does_it() {
    let fields = json!([
        {"name": "time", "type": "time"}, {"name": "Value", "type": "number", "labels": {"a": "b"}},
    ]);
    let one = frame(&fields, &json!([[1, 2, 3, 4], [5, null, 3, null]]));
    let answer = json!({"results": {"A": {"frames": [one]}, "B": {"frames": [one]}}});
    let hidden = ["B".to_owned()];
    for (reduce, value) in [
        (Reduce::LastNotNull, 3.0),
        (Reduce::FirstNotNull, 5.0),
        (Reduce::Sum, 8.0),
        (Reduce::Mean, 4.0),
        (Reduce::Min, 3.0),
        (Reduce::Max, 5.0),
        (Reduce::Count, 2.0),
    ] {
        assert_eq!(numbers(&answer, &hidden, reduce, None), Ok(Shown::One(value)), "{reduce:?}");
    }
    let several = numbers(&answer, &[], Reduce::Sum, None).unwrap();
    assert!(matches!(several, Shown::Several(names) if names == ["{a=\"b\"}", "{a=\"b\"}"]));
    assert_eq!(numbers(&answer, &[], Reduce::Sum, Some("other")), Ok(Shown::Nothing));
    let empty = json!({"results": {"A": {"frames": [frame(&fields, &json!([[], []]))]}}});
    assert_eq!(numbers(&empty, &[], Reduce::LastNotNull, None), Ok(Shown::Nothing));
    assert_eq!(
        numbers(&json!({"results": {"A": {"frames": []}}}), &[], Reduce::Sum, None),
        Ok(Shown::Nothing)
    );
    assert!(numbers(&json!({}), &[], Reduce::Sum, None).is_err());
    assert!(numbers(&json!({"results": {"A": {"frames": [{}]}}}), &[], Reduce::Sum, None).is_err());
}

#[test]
fn a_panels_own_reduction_is_read() {
    let of =
        |calc: &str| Reduce::of_panel(&json!({"options": {"reduceOptions": {"calcs": [calc]}}}));
    assert_eq!(Reduce::of_panel(&json!({})), Ok(Reduce::LastNotNull));
    assert_eq!(of("mean"), Ok(Reduce::Mean));
    assert!(of("stdDev").unwrap_err().contains("stdDev"));
}

#[test]
fn periods_of_grafana() {
    let seconds = |text| period(text).map(|p| p.as_secs());
    assert_eq!(seconds("90s"), Some(90));
    assert_eq!(seconds(">5m"), Some(300));
    assert_eq!(seconds("2d"), Some(172_800));
    for text in ["", "h", "1x", "0s", "99999999999999999999s", "2024-01-01"] {
        assert_eq!(seconds(text), None, "{text}");
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
fn garbage_never_panics() {
    let tried = std::cell::Cell::new(0);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[$\\[{a:}.\\]]{0,12}".prop_map(Value::from),
        prop_oneof![Just("number"), Just("now-"), Just("row"), Just("stat")].prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("panels"),
        Just("rows"),
        Just("targets"),
        Just("datasource"),
        Just("uid"),
        Just("time"),
        Just("from"),
        Just("interval"),
        Just("results"),
        Just("frames"),
        Just("schema"),
        Just("fields"),
        Just("data"),
        Just("values"),
        Just("type"),
        Just("templating"),
        Just("list"),
        Just("name"),
        Just("current"),
        Just("value"),
        Just("title"),
        Just("options"),
    ];
    let tree = leaf.prop_recursive(8, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    });
    let given = BTreeMap::from([("a".to_owned(), "$a".to_owned())]);
    proptest!(ProptestConfig::with_cases(2000), |(tree in tree)| {
        tried.set(tried.get() + 1);
        let _ = find(&tree, "stat");
        drop(query(&tree, &tree, &asked("x", &given)));
        drop(query(&dashboard(), &json!({"targets": [tree], "datasource": {"uid": "P"}}), &asked("x", &given)));
        let _ = numbers(&tree, &[], Reduce::Mean, None);
        let _ = numbers(&json!({"results": {"A": {"frames": [tree]}}}), &[], Reduce::Mean, None);
        let _ = (error_of(&tree), hidden(&tree), Reduce::of_panel(&tree));
    });
    eprintln!("property grafana documents: {} inputs", tried.get());
    assert!(tried.get() >= 2000);
}
