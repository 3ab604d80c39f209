use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(second: i64) -> Now {
    Now { mono: Mono::from_secs(second), wall: Wall::from_secs(1_700_000_000 + second) }
}

fn alert(name: &str, fingerprint: &str) -> Value {
    json!({
        "status": "firing", "fingerprint": fingerprint, "startsAt": "2023-11-14T22:13:20Z",
        "labels": {"alertname": name, "severity": "critical"},
        "annotations": {"summary": format!("about {name}")},
        "generatorURL": "http://prometheus/graph",
    })
}

fn group(alerts: &[Value]) -> Vec<u8> {
    json!({
        "version": "4", "receiver": "greenlight", "groupKey": "{}:{}", "status": "firing",
        "title": "2 firing", "alerts": alerts,
    })
    .to_string()
    .into_bytes()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn alertmanagers_delivery_is_found_by_label_and_time() {
    let inbox = Inbox::default();
    let found = inbox
        .put(Kind::Alertmanager, &group(&[alert("Disk", "a"), alert("Login", "b")]), at(10))
        .unwrap();
    assert_eq!(found.len(), 2);
    let asked = labels(&[("alertname", "Login"), ("severity", "critical")]);
    let hits = inbox.find(Some(Kind::Alertmanager), &asked, at(10).mono);
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].annotations["summary"], "about Login");
    assert_eq!(hits[0].starts, Some(Wall::from_secs(1_700_000_000)));
    assert!(hits[0].texts().any(|text| text.contains("http://prometheus/graph")));
    // The title speaks of both alerts: it is in neither's text.
    assert!(hits[0].texts().all(|text| !text.contains("2 firing")));
    assert_eq!(inbox.find(Some(Kind::Alertmanager), &asked, at(11).mono), []);
    assert_eq!(inbox.find(Some(Kind::Grafana), &asked, at(10).mono), []);
    let other = labels(&[("alertname", "Login"), ("severity", "info")]);
    let newest =
        |labels, second| inbox.newest(Kind::Alertmanager, Status::Firing, labels, at(second).mono);
    assert_eq!(newest(&other, 20), None);
    assert_eq!(newest(&asked, 20).as_ref(), hits.first());
    assert_eq!(newest(&asked, 9), None, "it came after that");
}

#[test]
fn a_group_that_grew_is_no_repetition_and_the_same_group_twice_is() {
    let inbox = Inbox::default();
    let copy = |bytes: &[u8]| inbox.put(Kind::Alertmanager, bytes, at(1)).unwrap()[0].copy.clone();
    let first = copy(&group(&[alert("Login", "a")]));
    let grown = copy(&group(&[alert("Login", "a"), alert("Login", "b")]));
    assert_eq!(first, grown);
    let again = copy(&group(&[alert("Login", "a")]));
    assert_ne!(first, again);
    let mut elsewhere: Value = serde_json::from_slice(&group(&[alert("Login", "a")])).unwrap();
    elsewhere["receiver"] = "pager".into();
    assert_ne!(copy(elsewhere.to_string().as_bytes()), first);
}

#[test]
fn any_json_has_its_scalars_as_labels() {
    let inbox = Inbox::default();
    let body =
        br#"[{"rule": "brute force", "level": 9, "deep": {"x": 1}, "labels": {"team": "soc"}},
                    {"rule": "other", "state": "ok"}]"#;
    let found = inbox.put(Kind::Json, body, at(5)).unwrap();
    let asked = labels(&[("rule", "brute force"), ("level", "9"), ("team", "soc")]);
    assert_eq!(inbox.find(Some(Kind::Json), &asked, at(0).mono), found[..1]);
    assert_eq!(found[0].status, Status::Firing);
    assert_eq!(found[1].status, Status::Resolved);
    assert!(found[0].text.contains(r#""deep":{"x":1}"#));
    assert_ne!(found[0].copy, found[1].copy);
}

#[test]
fn what_is_no_delivery_is_refused_whole_and_says_why() {
    let inbox = Inbox::default();
    let bad_alert = group(&[alert("Login", "a"), json!({"status": "maybe"})]);
    for (kind, bytes, shown) in [
        (Kind::Alertmanager, &b"{"[..], "no JSON"),
        (Kind::Alertmanager, b"[]", "an array"),
        (Kind::Alertmanager, b"{}", "`alerts`"),
        (Kind::Grafana, br#"{"alerts": [1]}"#, "a number"),
        (Kind::Alertmanager, &bad_alert, "maybe"),
        (Kind::Json, b"7", "a number"),
        (Kind::Json, b"[{}, null]", "null"),
        (Kind::Json, b"\xff\xfe", "no JSON"),
    ] {
        let why = inbox.put(kind, bytes, at(1)).unwrap_err();
        assert!(why.contains(shown), "{why}");
    }
    let huge = format!("{{\"a\": \"{}\"}}", "x".repeat(BODY_LIMIT));
    assert!(inbox.put(Kind::Json, huge.as_bytes(), at(1)).unwrap_err().contains("larger"));
    let deep = "[".repeat(100_000);
    assert!(inbox.put(Kind::Json, deep.as_bytes(), at(1)).is_err());
    assert!(inbox.is_empty());
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let inbox = Inbox::default();
    for second in 0..i64::try_from(COUNT_LIMIT).unwrap() + 7 {
        inbox.put(Kind::Json, br#"{"a": 1}"#, at(second)).unwrap();
    }
    assert_eq!((inbox.len(), inbox.dropped()), (COUNT_LIMIT, 7));
    assert_eq!(inbox.complete_since(), Some(at(7)));
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(BODY_LIMIT / 2));
    for _ in 0..100 {
        inbox.put(Kind::Json, large.as_bytes(), at(0)).unwrap();
    }
    assert!(inbox.lock().bytes <= BYTES_LIMIT && inbox.len() > 4);
}

#[test]
fn what_was_stored_can_be_put_back() {
    let before = Inbox::default();
    let found = before.put(Kind::Alertmanager, &group(&[alert("Login", "a")]), at(3)).unwrap();
    let stored = serde_json::to_string(&found).unwrap();
    let after = Inbox::default();
    assert_eq!(after.complete_since(), None);
    after.restore(serde_json::from_str(&stored).unwrap());
    assert_eq!(after.find(None, &labels(&[]), at(3).mono), found);
}

#[test]
fn garbage_never_panics() {
    let inbox = Inbox::default();
    let tried = std::cell::Cell::new(0);
    let words = prop_oneof![
        Just("alerts"),
        Just("status"),
        Just("firing"),
        Just("labels"),
        Just("startsAt"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just(","),
        Just("\""),
        Just("1e999"),
        Just("null"),
        Just("\\ud800"),
        Just("2023-99-99T00:00:00Z"),
    ];
    let soup = prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes());
    let bytes = prop_oneof![soup, prop::collection::vec(any::<u8>(), 0..300)];
    proptest!(ProptestConfig::with_cases(3000), |(bytes in bytes, cut in 0_usize..400)| {
        let whole = group(&[alert("Login", "a")]);
        let cut = whole.get(..cut).unwrap_or(&whole).to_vec();
        for kind in [Kind::Alertmanager, Kind::Grafana, Kind::Json] {
            drop(inbox.put(kind, &bytes, at(1)));
            drop(inbox.put(kind, &cut, at(1)));
            tried.set(tried.get() + 2);
        }
    });
    eprintln!("property inbox: {} inputs", tried.get());
    assert!(inbox.len() <= COUNT_LIMIT && tried.get() >= 18_000);
}
