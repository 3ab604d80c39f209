use proptest::prelude::*;
use serde_json::json;

use super::*;

fn spec(json: Value) -> EventSpec {
    serde_json::from_value(json).expect("a spec")
}

fn one(json: Value, default: Format) -> Event {
    let events = Events::new(&spec(json), default).expect("a right spec");
    events.render(&run(), "ssh", 41, Wall::from_secs(1_700_000_000))
}

fn run() -> Run {
    run_from([5; 8])
}

#[test]
fn json_carries_the_marks_as_fields_and_the_token_in_the_text() {
    let event = one(json!({"fields": {"labels.user": "{user}", "n": 3}}), Format::Json);
    let read: Value = serde_json::from_slice(&event.payload).expect("JSON");
    assert_eq!(read["greenlight.run"], json!(&*run()));
    assert_eq!(read["greenlight.stream"], json!("ssh"));
    assert_eq!(read["greenlight.seq"], json!(41));
    assert_eq!(read["greenlight.crc"], json!(crc32fast::hash(event.message.as_bytes())));
    assert_eq!(read["@timestamp"], json!("2023-11-14T22:13:20.000Z"));
    assert_eq!(read["n"], json!(3));
    assert!(read["labels.user"].as_str().is_some_and(|user| user.starts_with("canary-")));
    let text = read["message"].as_str().expect("a message");
    let tokens: Vec<_> = Token::find_all(text).collect();
    assert_eq!(tokens, [Token::new(&run(), "ssh", 41)]);
    assert_eq!(Token::find_all(&event.payload).count(), 1, "one token an event");
}

#[test]
fn rfc5424_escapes_and_carries_structured_data() {
    let event = one(
        json!({"message": "hello", "host": "h", "app": "a", "fields": {"why": "a \"b\" \\ [c]"}}),
        Format::Rfc5424,
    );
    let token = &event.token;
    let expected = format!(
        "<134>1 2023-11-14T22:13:20.000Z h a - greenlight [greenlight@32473 run=\"{}\" \
         stream=\"ssh\" seq=\"41\" crc=\"{}\"][event@32473 why=\"a \\\"b\\\" \\\\ [c\\]\"] hello {token}",
        run(),
        event.crc
    );
    assert_eq!(String::from_utf8_lossy(&event.payload), expected);
}

#[test]
fn plain_is_the_message_alone_and_the_spec_outranks_the_way_in() {
    let event = one(
        json!({"format": "plain", "message": "{seq}/{run}/{time}/{{x}}/{token}"}),
        Format::Json,
    );
    assert_eq!(
        event.message,
        format!("41/{}/2023-11-14T22:13:20.000Z/{{x}}/{}", run(), event.token)
    );
    assert_eq!(event.payload, event.message.as_bytes());
}

#[test]
fn mistakes_are_told_in_words() {
    for (json, words) in [
        (json!({"count": 0}), "1 to 10000"),
        (json!({"count": 10_001}), "1 to 10000"),
        (json!({"message": "{nope}"}), "unknown word '{nope}'; known are {seq}"),
        (json!({"message": "a } b"}), "a lone brace at '} b'"),
        (json!({"message": "a {seq"}), "a lone brace"),
        (json!({"fields": {"greenlight.run": "x"}}), "Greenlight's own"),
        (json!({"fields": {"message": "x"}}), "leave it out"),
        (json!({"fields": {"a=b": "x"}, "format": "rfc5424"}), "at most 32 printable"),
        (json!({"fields": {"a": "{b}"}}), "field 'a': unknown word"),
        (json!({"host": "two words"}), "host 'two words'"),
        (json!({"app": ""}), "app ''"),
    ] {
        let error = Events::new(&spec(json.clone()), Format::Json).expect_err("a mistake");
        assert!(error.contains(words), "{json}: {error}");
    }
}

#[test]
fn content_varies_from_event_to_event() {
    let events = Events::new(&spec(json!({"message": "{user} {address} {port}"})), Format::Json)
        .expect("a right spec");
    let messages: std::collections::BTreeSet<String> = (0..100)
        .map(|seq| events.render(&run(), "s", seq, Wall(0)).message)
        .map(|message| message.rsplit_once(' ').expect("a token").0.to_owned())
        .collect();
    assert!(messages.len() > 95, "{} of 100 differ without their token", messages.len());
}

#[test]
fn any_message_and_field_can_be_made_again_and_read_back() {
    let mut runner = proptest::test_runner::TestRunner::default();
    let any = (".{0,80}", "[a-z.]{1,20}", ".{0,40}", any::<[u8; 8]>(), 0..SEQ_MAX);
    runner
        .run(&any, |(message, name, value, random, seq)| {
            let brace = |text: &str| text.replace('{', "{{").replace('}', "}}");
            let spec = EventSpec {
                message: brace(&message),
                fields: Map::from_iter([(name.clone(), Value::from(brace(&value)))]),
                ..EventSpec::default()
            };
            for format in [Format::Json, Format::Rfc5424, Format::Plain] {
                let Ok(events) = Events::new(&spec, format) else { continue };
                let at = Wall(1_700_000_000_123_456_789);
                let event = events.render(&run_from(random), "s", seq, at);
                prop_assert_eq!(&event, &events.render(&run_from(random), "s", seq, at));
                prop_assert!(event.message.starts_with(&message));
                let found = Token::find_all(&event.payload).last();
                prop_assert_eq!(found.map(|token| token.seq), Some(seq));
                if format == Format::Json {
                    let read: Value = serde_json::from_slice(&event.payload).expect("JSON");
                    prop_assert_eq!(&read["message"], &json!(event.message));
                    prop_assert_eq!(&read[&name], &json!(value));
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let tried = runner.config().cases;
    eprintln!("property event rendering: {tried} inputs, three formats each");
}
