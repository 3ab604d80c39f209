use super::super::post::cases::{events, hold};
use super::*;

#[test]
fn property_answers_of_loki() {
    let to: Url = "http://h:3100/loki/api/v1/push".parse().unwrap();
    let loki = include_str!("../../../tests/fixtures/send/loki.txt");
    let partial = include_str!("../../../tests/fixtures/send/loki-partial.txt");
    for fixture in [loki, partial] {
        hold("loki", fixture, 3, false, |posted, events| {
            vec![judge(posted, events.len(), &to); events.len()]
        });
    }
}

#[test]
fn the_token_is_in_the_line_and_the_metadata_and_no_label() {
    let spec: Spec = serde_json::from_value(json!({"to": "http://h:3100/"})).unwrap();
    let loki = Loki::new(spec).unwrap();
    assert_eq!(loki.endpoint.to.as_str(), "http://h:3100/loki/api/v1/push");
    let [event, next] = <[_; 2]>::try_from(events(2)).unwrap();
    let entry = loki.entry(&event);
    assert_eq!(entry[0], "1790000000123456789");
    assert_eq!(loki.entry(&next)[0], "1790000000123456790", "no two at one instant, in order");
    assert!(entry[1].as_str().unwrap().contains(&event.token));
    assert_eq!(entry[2]["greenlight_id"], event.token);
    assert_eq!(entry[2]["greenlight_seq"], "0", "metadata is text");
    assert_eq!(json!(loki.labels), json!({"app": "greenlight"}));
    for bad in [json!({}), json!({"a-b": "c"}), json!({"9": "c"})] {
        let spec = json!({"to": "http://h:3100", "labels": bad});
        let spec: Spec = serde_json::from_value(spec).unwrap();
        assert!(Loki::new(spec).is_err(), "{bad}");
    }
}
