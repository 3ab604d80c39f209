use serde_json::json;

use super::*;
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::outcome::{Reason, ReasonCode};
use crate::time::{Mono, Wall};

fn event(format: Format) -> Event {
    let spec = EventSpec {
        message: String::from("login of \"ü\" {seq} {token}"),
        ..EventSpec::default()
    };
    let events = Events::new(&spec, format).expect("a right spec");
    events.render(&run_from([1; 8]), "s", 3, Wall::from_secs(1_700_000_000))
}

pub(super) fn arrival(text: Option<&str>, fields: Option<Value>) -> Arrival {
    Arrival {
        seq: Some(3),
        copy: String::from("a"),
        seen: Mono(0),
        order: None,
        text: text.map(String::from),
        fields: fields.map(|fields| fields.as_object().expect("an object").clone()),
        ended: false,
        dead_letter: false,
        stamped: None,
        wrong: None,
    }
}

fn expect(fields: Value) -> Expectation {
    serde_json::from_value(json!({"fields": fields})).expect("an expectation")
}

fn fate(arrival: &Arrival, event: &Event, expectation: &Expectation) -> Option<Fate> {
    inspect(arrival, event, expectation).map(|flaw| flaw.fate)
}

#[test]
fn a_whole_copy_has_no_flaw_however_it_is_shown() {
    for format in [Format::Json, Format::Rfc5424, Format::Plain] {
        let event = event(format);
        let payload = String::from_utf8(event.payload.to_vec()).expect("text");
        let none = Expectation::default();
        for text in [&payload, &event.message, &format!("<13>host {}\n", event.message)] {
            assert_eq!(inspect(&arrival(Some(text), None), &event, &none), None, "{text}");
        }
        let crc = json!({"message": event.message, "greenlight": {"crc": event.crc.to_string()}});
        assert_eq!(inspect(&arrival(None, Some(crc)), &event, &none), None);
        assert_eq!(inspect(&arrival(None, None), &event, &none), None);
    }
}

#[test]
fn every_true_prefix_is_truncated_and_every_changed_byte_corrupted() {
    let mut tried = 0;
    for format in [Format::Json, Format::Rfc5424, Format::Plain] {
        let event = event(format);
        let none = Expectation::default();
        for end in 0..event.message.len() {
            let cut = String::from_utf8_lossy(&event.message.as_bytes()[..end]).into_owned();
            for text in [cut.clone(), format!("{cut}\n")] {
                assert_eq!(
                    fate(&arrival(Some(&text), None), &event, &none),
                    Some(Fate::Truncated),
                    "'{text}'"
                );
                tried += 1;
            }
            if end > 20 {
                let text = format!("Nov 14 host app: {cut}");
                assert_eq!(fate(&arrival(Some(&text), None), &event, &none), Some(Fate::Truncated));
            }
            let mut mangled = event.message.clone().into_bytes();
            mangled[end] = if mangled[end] == b'Z' { b'Y' } else { b'Z' };
            let mangled = String::from_utf8_lossy(&mangled).into_owned();
            assert_eq!(
                fate(&arrival(Some(&mangled), None), &event, &none),
                Some(Fate::Corrupted),
                "'{mangled}'"
            );
            tried += 1;
        }
        for end in 0..event.payload.len() {
            let cut = String::from_utf8_lossy(&event.payload[..end]).into_owned();
            // Behind the message too, and after a header of the transport's.
            for text in [cut.clone(), format!("{cut}\n"), format!("Nov 14 host app: {cut}")] {
                if end > 20 {
                    let arrival = arrival(Some(&text), None);
                    assert_eq!(fate(&arrival, &event, &none), Some(Fate::Truncated), "'{text}'");
                    tried += 1;
                }
            }
        }
    }
    eprintln!("property cut and changed bytes: {tried} inputs");
}

#[test]
fn a_wrong_checksum_is_corruption() {
    let event = event(Format::Json);
    let fields = json!({"message": event.message, "greenlight.crc": event.crc ^ 1});
    assert_eq!(
        fate(&arrival(None, Some(fields)), &event, &Expectation::default()),
        Some(Fate::Corrupted)
    );
}

#[test]
fn fields_are_looked_up_flat_and_nested() {
    let fields = json!({"a.b": {"c": 1}, "a": {"d": {"e": 3}}, "x": {"y": {}}});
    let fields = fields.as_object().expect("an object");
    for (path, value) in [("a.b.c", Some(json!(1))), ("a.d.e", Some(json!(3))), ("x.z", None)] {
        assert_eq!(lookup(fields, path).cloned(), value, "{path}");
    }
}

#[test]
fn missing_and_wrong_fields_are_misparsed() {
    let event = event(Format::Json);
    let with = |fields: Value| arrival(Some(&event.message), Some(fields));
    for (fields, expected, wanted) in [
        (json!({"o": {"w": "soc"}}), json!({"o.w": "soc"}), None),
        (json!({"o": {"w": "noc"}}), json!({"o.w": "soc"}), Some("'noc' instead of 'soc'")),
        (json!({"o": {}}), json!({"o.w": "exists"}), Some("has no field o.w")),
        (json!({"o": null}), json!({"o": "exists"}), Some("has no field o")),
        (json!({"o": 0}), json!({"o": "exists"}), None),
        (json!({"greenlight.seq": "3"}), json!({"greenlight.seq": "sent"}), None),
        (
            json!({"greenlight": {"seq": 4}}),
            json!({"greenlight.seq": "sent"}),
            Some("instead of '3'"),
        ),
        (json!({"n": 1.0}), json!({"n": 1}), None),
        (json!({"tags": ["a", "b"]}), json!({"tags": "b"}), None),
        (json!({"t": "true"}), json!({"t": true}), None),
    ] {
        let flaw = inspect(&with(fields.clone()), &event, &expect(expected));
        assert_eq!(
            flaw.as_ref().map(|flaw| flaw.fate),
            wanted.map(|_| Fate::Misparsed),
            "{fields}"
        );
        if let (Some(flaw), Some(words)) = (flaw, wanted) {
            assert!(flaw.text.contains(words), "{}", flaw.text);
        }
    }
    let bare = arrival(Some(&event.message), None);
    assert_eq!(fate(&bare, &event, &expect(json!({"a": 1}))), Some(Fate::Misparsed));
}

#[test]
fn a_field_lost_with_its_text_there_is_the_parsers_fault() {
    let event = event(Format::Json);
    let promised = expect(json!({"greenlight.id": "sent"}));
    // The field came through, under whichever name.
    for fields in [
        json!({"greenlight.id": event.token}),
        json!({"greenlight": {"id": event.token}}),
        json!({"greenlight_id": event.token}),
        json!({"greenlightId": event.token}),
    ] {
        let copy = arrival(Some(&event.message), Some(fields.clone()));
        assert_eq!(inspect(&copy, &event, &promised), None, "{fields}");
    }
    // The text came through alone: misparsed, and it says who lost the field.
    let copy = arrival(Some(&event.message), Some(json!({"user": "x"})));
    let flaw = inspect(&copy, &event, &promised).expect("a flaw");
    assert_eq!(flaw.fate, Fate::Misparsed);
    assert!(flaw.text.contains("no field greenlight.id, though its text names"), "{}", flaw.text);
    // The field came through and the text did not: that is no parser's loss of the field.
    let copy = arrival(None, Some(json!({"greenlight.id": event.token})));
    assert_eq!(inspect(&copy, &event, &promised), None);
}

#[test]
fn escaped_texts_are_whole_and_their_prefixes_cut() {
    for format in [Format::Cef, Format::Leef1, Format::Gelf, Format::Otlp, Format::Ocsf] {
        let spec = EventSpec {
            message: String::from("a=b \"c\" \\ ] | {seq} {token} end"),
            format: Some(format),
            ..EventSpec::default()
        };
        let events = Events::new(&spec, format).expect("a right spec");
        let event = events.render(&run_from([1; 8]), "s", 3, Wall::from_secs(1_700_000_000));
        let payload = String::from_utf8(event.payload.to_vec()).expect("text");
        let none = Expectation::default();
        // A relay that wrote a header of its own before it.
        let relayed = format!("<13>relay {payload}");
        assert_eq!(inspect(&arrival(Some(&relayed), None), &event, &none), None, "{format:?}");
        let end = payload.find(" end").expect("the end of the text");
        let cut = format!("<13>relay {}", &payload[..end - 3]);
        assert_eq!(fate(&arrival(Some(&cut), None), &event, &none), Some(Fate::Truncated), "{cut}");
        let changed = payload.replace("a=b", "a=c").replace("a\\=b", "a\\=c");
        assert_eq!(fate(&arrival(Some(&changed), None), &event, &none), Some(Fate::Corrupted));
    }
}

#[test]
fn the_order_of_precedence_is_the_contracts() {
    let event = event(Format::Json);
    let expectation = expect(json!({"a": 1}));
    let mut copy = arrival(Some("something else"), Some(json!({})));
    copy.wrong = Some(Reason::new(ReasonCode::ValueMismatch, "says 3"));
    copy.dead_letter = true;
    assert_eq!(fate(&copy, &event, &expectation), Some(Fate::Corrupted));
    copy.text = Some(event.message[..9].to_owned());
    assert_eq!(fate(&copy, &event, &expectation), Some(Fate::Truncated));
    copy.text = Some(event.message.clone());
    assert_eq!(fate(&copy, &event, &expectation), Some(Fate::DeadLettered));
    copy.dead_letter = false;
    assert_eq!(fate(&copy, &event, &Expectation::default()), Some(Fate::Misparsed));
}

#[test]
fn reordering_is_rfc_4737s() {
    let order = |seqs: &[u64]| {
        let copies = seqs.iter().enumerate();
        reordered(copies.map(|(at, seq)| (0, at as u64, *seq)))
    };
    assert!(order(&[1, 2, 3]).is_empty());
    // One early event: it alone is in order, those it overtook are reordered.
    assert_eq!(order(&[1, 4, 2, 3, 5]), [2, 3]);
    // One late event is one reordered event.
    assert_eq!(order(&[1, 3, 4, 2]), [2]);
    // Gaps are no reordering: neither at the head nor in the middle.
    assert!(order(&[3, 4, 7, 9]).is_empty());
    assert_eq!(order(&[2, 1]), [1]);
    // Positions count, not the order of being told; scopes are apart.
    assert_eq!(reordered([(0, 9, 2), (0, 5, 1), (1, 0, 3), (1, 1, 0)]), [0]);
}

#[test]
fn fields_may_be_forbidden_or_match_a_pattern() {
    let event = event(Format::Json);
    let copy = |extra: Value| {
        let mut fields: Map<String, Value> = serde_json::from_slice(&event.payload).unwrap();
        fields.insert("geo".into(), extra);
        arrival(None, Some(Value::Object(fields)))
    };
    let absent = expect(json!({"geo": "absent"}));
    assert_eq!(fate(&copy(Value::Null), &event, &absent), None);
    assert_eq!(fate(&copy(json!("DE")), &event, &absent), Some(Fate::Misparsed));
    let pattern = expect(json!({"geo": {"matches": "^[A-Z]{2}$"}}));
    assert_eq!(fate(&copy(json!("DE")), &event, &pattern), None);
    assert_eq!(fate(&copy(json!(["x", "DE"])), &event, &pattern), None);
    assert_eq!(fate(&copy(json!("Germany")), &event, &pattern), Some(Fate::Misparsed));
    assert_eq!(fate(&copy(Value::Null), &event, &pattern), Some(Fate::Misparsed));
    assert!(pattern.validate().is_ok());
    assert!(expect(json!({"geo": {"matches": "("}})).validate().is_err());
}

#[test]
fn what_is_cut_behind_the_message_is_truncated_too() {
    let event = event(Format::Json);
    let none = Expectation::default();
    let payload = String::from_utf8(event.payload.to_vec()).expect("text");
    let written = serde_json::to_string(&event.message).expect("JSON");
    let behind = payload.find(&written).expect("it holds its message") + written.len();
    for end in behind..payload.len() {
        let cut = arrival(Some(&payload[..end]), None);
        assert_eq!(fate(&cut, &event, &none), Some(Fate::Truncated), "{end}");
        let parsed = json!({"message": event.message});
        let cut = arrival(Some(&payload[..end]), Some(parsed));
        assert_eq!(fate(&cut, &event, &none), Some(Fate::Truncated), "{end}");
    }
    assert_eq!(fate(&arrival(Some(&format!("{payload}\n")), None), &event, &none), None);
}

#[test]
fn a_checksum_is_compared_where_no_text_is_shown() {
    let event = event(Format::Json);
    let none = Expectation::default();
    let crc = |crc: u32| arrival(None, Some(json!({"greenlight.crc": crc})));
    assert_eq!(fate(&crc(event.crc), &event, &none), None);
    assert_eq!(fate(&crc(event.crc ^ 1), &event, &none), Some(Fate::Corrupted));
}

#[test]
fn what_differs_is_shown_however_far_behind_it_stands() {
    let spec = EventSpec { message: "{pad:500} one\ntwo {token}".into(), ..EventSpec::default() };
    let events = Events::new(&spec, Format::Json).expect("a right spec");
    let event = events.render(&run_from([1; 8]), "s", 3, Wall::from_secs(1_700_000_000));
    let none = Expectation::default();
    let escaped = format!("<13>host {}", event.message.replace('\n', "#012"));
    let flaw = inspect(&arrival(Some(&escaped), None), &event, &none).expect("it is another text");
    assert_eq!(flaw.fate, Fate::Corrupted);
    let token = &event.token;
    assert!(flaw.text.contains(&format!("one#012two {token}' instead of '…")), "{}", flaw.text);
    assert!(flaw.text.ends_with(&format!("one\\ntwo {token}'")), "{}", flaw.text);
    let obeyed = inspect(&arrival(Some("\u{1b}[2J"), None), &event, &none).expect("another text");
    assert!(obeyed.text.contains("reads '\\u{1b}[2J' instead"), "{}", obeyed.text);
    let other = inspect(&arrival(Some("nothing of it"), None), &event, &none).expect("other");
    assert!(other.text.contains("reads 'nothing of it' instead of '"), "{}", other.text);
}
