use super::super::post::cases::{events, hold};
use super::*;

#[test]
fn property_answers_of_otlp() {
    let to: Url = "http://h:4318/v1/logs".parse().unwrap();
    let collector = include_str!("../../../tests/fixtures/send/otlp.txt");
    let partial = include_str!("../../../tests/fixtures/send/otlp-partial.txt");
    for fixture in [collector, partial] {
        hold("otlp", fixture, 3, false, |posted, events| {
            vec![judge(posted, events.len(), &to); events.len()]
        });
    }
}

#[test]
fn records_are_those_of_the_json_mapping() {
    let event = events(2).remove(1);
    let record = record(&event);
    assert_eq!(record["timeUnixNano"], "1790000000123456789", "64 bits are text");
    assert_eq!(record["body"]["stringValue"], event.message);
    let attributes = record["attributes"].as_array().unwrap();
    let of = |key: &str| &attributes.iter().find(|a| a["key"] == key).unwrap()["value"];
    assert_eq!(of("greenlight-id")["stringValue"], event.token);
    assert_eq!(of("greenlight.seq"), &json!({"intValue": "1"}));
    assert_eq!(any_value(&json!(1.5)), json!({"doubleValue": 1.5}));
    assert_eq!(any_value(&json!(true)), json!({"boolValue": true}));
    assert_eq!(any_value(&json!([1])), json!({"stringValue": "[1]"}));
}
