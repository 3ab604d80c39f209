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
    assert_eq!(read["greenlight.id"], json!(event.token));
}

#[test]
fn rfc5424_escapes_and_carries_structured_data() {
    let event = one(
        json!({"message": "hello", "host": "h", "app": "a", "fields": {"why": "a \"b\" \\ [c]"}}),
        Format::Rfc5424,
    );
    let token = &event.token;
    let expected = format!(
        "<134>1 2023-11-14T22:13:20.000Z h a - greenlight [greenlight@32473 id=\"{token}\" run=\"{}\" \
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
        (json!({"message": "{crc}"}), "can't stand in it"),
        (json!({"message": "{int:5..1}"}), "the smaller end first"),
        (json!({"message": "{hex:32}"}), "1 to 31 digits"),
        (json!({"message": "{pad:0}"}), "how many bytes"),
        (json!({"message": "{time-x}"}), "such as {time-5m}"),
        (json!({"message": "{time:soon}"}), "known are rfc3339"),
        (json!({"message": "x", "format": "raw"}), "must name {token}"),
        (json!({"message": "{token}", "format": "raw", "sweep": true}), "the whole payload"),
        (json!({"format": "rfc5424", "header": "rfc3164"}), "leave `header` out"),
        (json!({"sizes": [100]}), "without a filler"),
        (json!({"sizes": [0]}), "not within"),
        (json!({"sizes": [262_144], "count": 1_000}), "more than 64 MiB"),
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
fn every_word_is_made_again_and_stays_within_its_bounds() {
    let message = "{stream}|{time-5m:epoch}|{time+1h:%Y}|{host}|{pick:a|b}|{int:-3..3}|{int:1..9}|{hex:8}|{pad:5}";
    let events = Events::new(&spec(json!({ "message": message })), Format::Plain).expect("right");
    let mut seen = std::collections::BTreeSet::new();
    for seq in 0..500 {
        let at = Wall::from_secs(1_700_000_000);
        let text = events.render(&run(), "s", seq, at).message;
        assert_eq!(text, events.render(&run(), "s", seq, at).message);
        let text = text.rsplit_once(' ').expect("a token").0.to_owned();
        let parts: Vec<_> = text.split('|').collect();
        assert_eq!(parts[..3], ["s", "1699999700", "2023"], "{text}");
        assert!(parts[3].starts_with("canary-") && matches!(parts[4], "a" | "b"));
        assert!((-3..=3).contains(&parts[5].parse::<i64>().expect("a number")), "{text}");
        assert!((1..=9).contains(&parts[6].parse::<i64>().expect("a number")), "{text}");
        assert!(parts[7].len() == 8 && parts[7].bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
        assert!(parts[8].len() == 5 && !parts[8].bytes().all(|b| b == parts[8].as_bytes()[0]));
        seen.insert((parts[5].to_owned(), parts[6].to_owned()));
    }
    assert!(seen.len() > 55, "all pairs come up: {}", seen.len());
}

#[test]
fn a_sweep_has_each_case_and_every_size_to_the_byte() {
    for format in ["json", "rfc5424", "rfc3164", "cef", "leef2", "gelf", "otlp", "plain"] {
        let events =
            Events::new(&spec(json!({"sweep": true, "format": format, "count": 1})), Format::Json)
                .expect("a right spec");
        let made: Vec<_> = (0..events.count())
            .map(|seq| events.render(&run(), "s", seq, Wall::from_secs(1_700_000_000)))
            .collect();
        let sizes: Vec<_> = made.iter().map(|event| event.payload.len()).collect();
        for size in [1_024, 1_471, 1_472, 1_473, 2_048, 8_192] {
            assert_eq!(sizes.iter().filter(|own| **own == size).count(), 1, "{format}: {sizes:?}");
        }
        for words in ["\"double\"", "東京", "second line"] {
            assert!(made.iter().any(|event| event.message.contains(words)), "{format} {words}");
        }
        assert!(made.iter().any(|event| event.message == event.token), "next to nothing");
        let marked =
            made.iter().filter(|event| event.payload.windows(3).any(|w| w == b"\xef\xbb\xbf"));
        assert_eq!(marked.count(), usize::from(format == "rfc5424"));
    }
    let lines = WayIn { format: Format::Rfc5424, line_delimited: true };
    let events = Events::over(&spec(json!({"sweep": true})), lines).expect("a right spec");
    for seq in 0..events.count() {
        assert!(!events.render(&run(), "s", seq, Wall(0)).payload.contains(&b'\n'));
    }
}

#[test]
fn the_fast_path_gives_the_same_bytes() {
    let spec =
        spec(json!({"sweep": true, "sizes": [1200, 1500], "fields": {"a": "{user} {int:1..9}"}}));
    let mut out = Vec::new();
    for format in [Format::Json, Format::Rfc5424, Format::Cef, Format::Otlp] {
        let events = Events::new(&spec, format).expect("a right spec");
        let run = run();
        let mut renderer = events.renderer(&run, "s");
        for seq in 0..100 {
            let at = Wall(1_700_000_000_123_000_000 + i64::try_from(seq).unwrap() * 7_000_000);
            let event = events.render(&run, "s", seq, at);
            out.clear();
            let marks = renderer.render_into(seq, at, &mut out);
            assert_eq!((marks.crc, marks.at), (event.crc, event.time));
            assert_eq!(out, event.payload, "{format:?} {seq}");
            assert_eq!(renderer.token(), event.token.as_bytes());
        }
    }
}

#[test]
fn a_warm_renderer_allocates_nothing() {
    for format in [Format::Json, Format::Rfc5424, Format::Cef, Format::Gelf, Format::Otlp] {
        let message = "{time:clf} {user} {host} {address} {pick:a|b} {int:1..9} {hex:4} {pad:60}";
        let events = Events::new(&spec(json!({ "message": message })), format).expect("right");
        let run = run();
        let mut renderer = events.renderer(&run, "s");
        let mut out = Vec::with_capacity(4_096);
        renderer.render_into(SEQ_MAX, Wall::from_secs(1_700_000_000), &mut out);
        let counted = allocation_counter::measure(|| {
            for seq in 0..1_000 {
                out.clear();
                renderer.render_into(seq, Wall(1_700_000_000_000_000_000), &mut out);
            }
        });
        assert_eq!(counted.count_total, 0, "{format:?}");
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
fn padding_does_not_compress_away() {
    use std::io::Write as _;
    let compressed = |texts: &[String]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for text in texts {
            encoder.write_all(text.as_bytes()).expect("memory");
        }
        let size: usize = texts.iter().map(String::len).sum();
        encoder.finish().expect("memory").len() as f64 / size as f64
    };
    // By hand, and by the sizes of a round: what is padded is most of each event.
    for spec in [json!({"message": "{pad:2000}"}), json!({"sizes": [2_048]})] {
        let events = Events::new(&self::spec(spec), Format::Json).expect("a right spec");
        let messages: Vec<String> =
            (0..200).map(|seq| events.render(&run(), "s", seq, Wall(0)).message).collect();
        let share = compressed(&messages);
        // Sixteen letters are half of their bits.
        assert!(share > 0.45, "{share} is left of 200 padded events");
    }
    let same = vec!["b".repeat(2_000); 200];
    assert!(compressed(&same) < 0.01, "a filler of one byte would be nothing");
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
                let found = Token::find_all(&event.payload).next();
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
