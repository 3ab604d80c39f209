use super::super::post::cases::{events, hold};
use super::super::post::document;
use super::*;

#[test]
fn property_answers_of_bulk() {
    let to: Url = "http://h:9200/_bulk".parse().unwrap();
    let fixture = include_str!("../../../tests/fixtures/send/bulk.txt");
    hold("bulk", fixture, 3, true, |posted, events| match expect_answer(posted, &to) {
        Ok(response) => judge(&response.body, events, &to),
        Err(receipt) => vec![receipt; events.len()],
    });
}

#[test]
fn documents_are_lines_whatever_the_format_is() {
    let mut event = events(1).remove(0);
    assert_eq!(document(&event).as_bytes(), &event.payload[..]);
    event.payload = "<134>1 a syslog message\nin two lines".into();
    let made: Value = serde_json::from_str(&document(&event)).unwrap();
    assert_eq!(made["message"], event.message);
    assert_eq!(made["@timestamp"], "2026-09-21T14:13:20.123Z");
    assert_eq!(made["greenlight.seq"], 0);
    assert!(!document(&event).contains('\n'));
}

#[test]
fn requests_are_bounded_by_count_and_by_size() {
    let events = events(10);
    let packs = packed(&events, 4, ",", |event| event.seq.to_string());
    let bodies: Vec<&str> = packs.iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(bodies, ["0,1,2,3", "4,5,6,7", "8,9"]);
    assert_eq!(packs.iter().map(|(events, _)| events[0].seq).collect::<Vec<_>>(), [0, 4, 8]);
    let large = packed(&events, 100, "", |_| "x".repeat(400_000));
    assert_eq!(large.iter().map(|(events, _)| events.len()).collect::<Vec<_>>(), [2; 5]);
    assert!(packed(&[], 4, "", |_| String::new()).is_empty());
    assert!(most(Some(0), 1).is_err() && most(None, 7) == Ok(7));
}
