use super::super::post::cases::{answer, events, hold, word};
use super::*;

fn hec(ack: bool) -> SplunkHec {
    let spec = json!({"to": "https://h:8088", "token": {"env": "T"}, "ack": ack, "index": "main"});
    SplunkHec::new(serde_json::from_value(spec).unwrap()).unwrap()
}

#[test]
fn property_answers_of_splunk_hec() {
    let fixture = include_str!("../../../tests/fixtures/send/splunk_hec.txt");
    let hec = hec(false);
    hold("splunk_hec", fixture, 3, true, |posted, events| {
        vec![hec.taken(posted).receipt(&hec.acks); events.len()]
    });
}

#[test]
fn an_answer_without_the_acknowledgement_that_was_asked_for_is_none() {
    let hec = hec(true);
    let taken = hec.taken(answer(200, r#"{"text":"Success","code":0}"#));
    let receipt = taken.receipt(&hec.acks);
    assert_eq!(word(&receipt), "unknown:protocol_error");
    let Receipt::Unknown(reason) = receipt else { panic!("{receipt:?}") };
    assert!(reason.text.contains("`ack: false`"), "{reason}");
    let open = hec.taken(answer(200, r#"{"text":"Success","code":0,"ackId":7}"#));
    assert_eq!(word(&open.receipt(&hec.acks)), "unknown:timeout");
}

#[test]
fn the_envelope_is_splunks_and_the_channel_a_guid() {
    let hec = hec(true);
    assert_eq!(hec.endpoint.to.path(), "/services/collector/event");
    assert_eq!(hec.acks.path(), "/services/collector/ack");
    let event = events(1).remove(0);
    let item = hec.item(&event);
    assert_eq!(item["time"], "1790000000.123");
    assert_eq!((&item["index"], &item["host"]), (&json!("main"), &json!("greenlight")));
    assert_eq!(item["event"]["message"], event.message);
    assert_eq!(item["fields"]["greenlight_id"], event.token);
    assert_eq!(item["fields"]["greenlight_seq"], "0");
    let channel = hec.channel.clone().unwrap();
    let channel = channel.to_str().unwrap();
    let parts: Vec<usize> = channel.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{channel}");
    assert_eq!(channel.as_bytes()[14], b'4', "{channel}");
    assert!(b"89ab".contains(&channel.as_bytes()[19]), "{channel}");
}
