//! What is rendered reads back by a reader made from each specification alone.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::journey::Event;
use crate::journey::event::{EventSpec, Events, Token, run_from};
use crate::time::Wall;

const ALL: [Format; 12] = [
    Format::Json,
    Format::Ecs,
    Format::Rfc5424,
    Format::Rfc3164,
    Format::Cef,
    Format::Leef1,
    Format::Leef2,
    Format::Gelf,
    Format::Ocsf,
    Format::Otlp,
    Format::Plain,
    Format::Raw,
];
const AT: Wall = Wall(1_700_000_000_123_456_789);

/// What a reader found: the text, and the fields under the names that the format gives them.
#[derive(Debug, Default)]
struct Read {
    message: String,
    fields: BTreeMap<String, String>,
}

fn event(format: Format, header: Header, message: &str, field: Option<(&str, &str)>) -> Event {
    let brace = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let header = format.takes_header().then_some(header);
    let message = if format == Format::Raw {
        format!("{} {{token}}", brace(message))
    } else {
        brace(message)
    };
    let field = field.filter(|_| !matches!(format, Format::Plain | Format::Raw));
    let spec = EventSpec {
        format: Some(format),
        header,
        message,
        fields: field.map(|(k, v)| (k.to_owned(), Value::from(brace(v)))).into_iter().collect(),
        ..EventSpec::default()
    };
    let events = Events::new(&spec, Format::Json).expect("a right spec");
    events.render(&run_from([7; 8]), "s t\"]=^\\", 41, AT)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn flatten(front: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = if front.is_empty() { name.clone() } else { format!("{front}.{name}") };
                flatten(&name, value, into);
            }
        }
        other => drop(into.insert(front.to_owned(), plain(other))),
    }
}

fn read(format: Format, text: &str) -> Read {
    match format {
        Format::Json | Format::Ecs | Format::Ocsf => {
            let mut fields = BTreeMap::new();
            flatten("", &serde_json::from_str(text).expect("JSON"), &mut fields);
            Read { message: fields.remove("message").expect("a message"), fields }
        }
        Format::Gelf => {
            let object: Map<String, Value> = serde_json::from_str(text).expect("JSON");
            assert_eq!(object["version"], json!("1.1"));
            assert!(object["timestamp"].is_number() && object["host"].is_string());
            let fields = object.iter().filter_map(|(name, value)| {
                assert!(!value.is_object() && !value.is_array(), "{name}");
                Some((name.strip_prefix('_')?.to_owned(), plain(value)))
            });
            Read { message: plain(&object["short_message"]), fields: fields.collect() }
        }
        Format::Otlp => {
            let record: Value = serde_json::from_str(text).expect("JSON");
            let list = record["attributes"].as_array().expect("attributes");
            let fields = list.iter().map(|pair| {
                let (kind, value) =
                    pair["value"].as_object().expect("an AnyValue").iter().next().expect("a kind");
                assert!(kind != "intValue" || value.is_string(), "64-bit integers are text");
                (plain(&pair["key"]), plain(value))
            });
            assert_eq!(record["timeUnixNano"], json!(AT.0.to_string()));
            Read { message: plain(&record["body"]["stringValue"]), fields: fields.collect() }
        }
        Format::Rfc5424 => rfc5424(text),
        Format::Rfc3164 => {
            let rest = text.strip_prefix("<134>Nov 14 22:13:20 greenlight greenlight: ");
            let mut rest = rest.expect("a header");
            let mut fields = BTreeMap::new();
            for name in ["id", "run", "stream", "seq", "crc"] {
                rest = rest.strip_prefix(&format!("greenlight_{name}=")).expect("a mark");
                let end =
                    if name == "stream" { rest.find(" greenlight_seq") } else { rest.find(' ') };
                let (value, after) = rest.split_at(end.expect("a space"));
                fields.insert(format!("greenlight_{name}"), value.to_owned());
                rest = &after[1..];
            }
            if let Some(after) = rest.strip_prefix("extra=\"") {
                let (value, after) = quoted(after);
                fields.insert(String::from("extra"), value);
                rest = after.strip_prefix(' ').expect("a space");
            }
            Read { message: rest.to_owned(), fields }
        }
        Format::Cef => cef(text),
        Format::Leef1 => leef(text, "LEEF:1.0|", 4, '\t'),
        Format::Leef2 => leef(text, "LEEF:2.0|", 5, '^'),
        Format::Plain | Format::Raw => Read { message: text.to_owned(), ..Read::default() },
    }
}

/// RFC 5424, 6.3.3: up to the closing quote; what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            ']' => panic!("']' is not escaped"),
            c => value.push(c),
        }
    }
    panic!("no closing quote")
}

fn rfc5424(text: &str) -> Read {
    let rest =
        text.strip_prefix("<134>1 2023-11-14T22:13:20.123Z greenlight greenlight - greenlight ");
    let mut rest = rest.expect("a header");
    let mut fields = BTreeMap::new();
    while let Some(element) = rest.strip_prefix('[') {
        let (id, mut params) = element.split_at(element.find([' ', ']']).expect("an end"));
        while let Some(param) = params.strip_prefix(' ') {
            let (name, value) = param.split_once("=\"").expect("a parameter");
            let (value, after) = quoted(value);
            let front = if id == "greenlight@32473" { "greenlight." } else { "" };
            fields.insert(format!("{front}{name}"), value);
            params = after;
        }
        rest = params.strip_prefix(']').expect("a closed element");
    }
    let message = rest.strip_prefix(' ').expect("a space before the text");
    Read { message: message.strip_prefix('\u{feff}').unwrap_or(message).to_owned(), fields }
}

fn cef(text: &str) -> Read {
    let mut parts = text.splitn(8, '|');
    assert_eq!(parts.next(), Some("CEF:0"));
    let extension = parts.nth(6).expect("an extension");
    // A key begins the extension or follows a space, and ends at the first `=` without a backslash.
    let bytes = extension.as_bytes();
    let mut equals = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'=' => equals.push(at),
            b'\n' | b'\r' => panic!("a line end"),
            _ => {}
        }
        at += 1;
    }
    let key_start = |equal: usize| extension[..equal].rfind(' ').map_or(0, |space| space + 1);
    let mut fields = BTreeMap::new();
    for (index, equal) in equals.iter().enumerate() {
        let end = equals.get(index + 1).map_or(extension.len(), |next| key_start(*next) - 1);
        let mut value = String::new();
        let mut chars = extension[equal + 1..end].chars();
        while let Some(c) = chars.next() {
            value.push(match c {
                '\\' => match chars.next().expect("an escaped character") {
                    'n' => '\n',
                    'r' => '\r',
                    c => c,
                },
                c => c,
            });
        }
        fields.insert(extension[key_start(*equal)..*equal].to_owned(), value);
    }
    for (label, value) in
        [("cs6", "greenlightId"), ("cn1", "greenlightSeq"), ("cn2", "greenlightCrc")]
    {
        assert_eq!(fields[&format!("{label}Label")], value);
        let own = fields[label].clone();
        fields.insert(value.to_owned(), own);
    }
    Read { message: fields["msg"].clone(), fields }
}

fn leef(text: &str, front: &str, bars: usize, between: char) -> Read {
    let rest = text.strip_prefix(front).expect("a header");
    let attributes = rest.splitn(bars + 1, '|').last().expect("attributes");
    let pairs = attributes.split(between).map(|pair| pair.split_once('=').expect("a pair"));
    let fields: BTreeMap<_, _> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Read { message: fields["msg"].clone(), fields }
}

/// A field of ours under the name that the format gives it.
fn mark(read: &Read, name: &str) -> Option<String> {
    let names = crate::journey::event::spellings(name);
    let nested = names.iter().flat_map(|name| [name.clone(), format!("unmapped.{name}")]);
    nested.into_iter().find_map(|name| read.fields.get(name.trim_start_matches('_')).cloned())
}

#[test]
fn any_text_and_field_reads_back_in_every_format() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(400));
    let text = || prop_oneof![".{0,60}", "[\"\\\\\\]\\[=|^ \t\n\r{}a-z]{0,40}", "\\PC{0,30}"];
    runner
        .run(&(text(), text()), |(message, value)| {
            // A reader takes one at the front for the mark of the encoding.
            let message = message.trim_start_matches('\u{feff}');
            for format in ALL {
                let event = event(format, Header::None, message, Some(("extra", &value)));
                let payload = std::str::from_utf8(&event.payload).expect("UTF-8");
                let read = read(format, payload);
                prop_assert_eq!(&read.message, &event.message, "{:?}", format);
                prop_assert_eq!(crc32fast::hash(event.message.as_bytes()), event.crc);
                prop_assert!(Token::find_all(&event.message).any(|token| token.seq == 41));
                let shown = event.written.as_deref().unwrap_or(&event.message);
                prop_assert!(payload.contains(shown), "{:?}: {}", format, payload);
                if matches!(format, Format::Plain | Format::Raw) {
                    continue;
                }
                prop_assert_eq!(mark(&read, "id"), Some(event.token.clone()), "{:?}", format);
                prop_assert_eq!(mark(&read, "seq"), Some(String::from("41")));
                prop_assert_eq!(mark(&read, "crc"), Some(event.crc.to_string()));
                let spaced = |text: &str| text.replace(['^', '\t', '\n', '\r'], " ");
                let names = ["extra", "unmapped.extra"];
                let extra = names.iter().find_map(|name| read.fields.get(*name));
                let leef = matches!(format, Format::Leef1 | Format::Leef2);
                let expected = if leef { spaced(&value) } else { value.clone() };
                prop_assert_eq!(extra, Some(&expected), "{:?}", format);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    eprintln!("property formats: {} inputs, {} formats each", runner.config().cases, ALL.len());
}

#[test]
fn each_format_marks_itself_as_synthetic_and_has_the_token_twice() {
    for format in ALL {
        let event = event(format, Header::None, "hello", None);
        let text = std::str::from_utf8(&event.payload).expect("UTF-8");
        let tokens = Token::find_all(text).filter(|token| token.seq == 41).count();
        let fields = !matches!(format, Format::Plain | Format::Raw);
        assert!(if fields { tokens >= 2 } else { tokens == 1 }, "{format:?}: {text}");
        let synthetic = text.contains("synthetic.type") || text.contains("userAgentSyntheticType");
        let nested = format == Format::Ecs && text.contains(r#""synthetic":{"type":"test"}"#);
        let bare = matches!(format, Format::Rfc5424 | Format::Rfc3164);
        assert!(synthetic || nested || bare || !fields, "{format:?}: {text}");
    }
}

#[test]
fn headers_stand_before_formats_that_have_none() {
    let text = |format, header| {
        String::from_utf8(event(format, header, "x", None).payload.to_vec()).expect("UTF-8")
    };
    let cef = text(Format::Cef, Header::Rfc3164);
    assert!(cef.starts_with("<134>Nov 14 22:13:20 greenlight CEF:0|Greenlight|"), "{cef}");
    let json = text(Format::Json, Header::Rfc3164);
    assert!(
        json.starts_with("<134>Nov 14 22:13:20 greenlight greenlight: {\"@timestamp\""),
        "{json}"
    );
    let leef = text(Format::Leef2, Header::Rfc5424);
    let token = Token::new(&run_from([7; 8]), "s t\"]=^\\", 41);
    let front = format!(
        "<134>1 2023-11-14T22:13:20.123Z greenlight greenlight - greenlight \
         [greenlight@32473 id=\"{token}\"] LEEF:2.0|Greenlight|greenlight|1|synthetic|^|devTime="
    );
    assert!(leef.starts_with(&front), "{leef}");
    for (format, way_in) in [(Format::Cef, "<134>"), (Format::Json, "{\"@timestamp\"")] {
        let spec = EventSpec { format: Some(format), ..EventSpec::default() };
        let events = Events::new(&spec, Format::Rfc5424).expect("a right spec");
        let payload = events.render(&run_from([7; 8]), "s", 1, AT).payload;
        assert!(payload.starts_with(way_in.as_bytes()), "over syslog: {payload:?}");
    }
}

#[test]
fn ocsf_and_ecs_have_what_their_schemas_ask_for() {
    let ocsf: Value = serde_json::from_slice(&event(Format::Ocsf, Header::None, "x", None).payload)
        .expect("JSON");
    let number = |path: &str| ocsf.pointer(path).and_then(Value::as_u64);
    for required in ["/activity_id", "/category_uid", "/severity_id", "/time"] {
        assert!(number(required).is_some(), "{required}");
    }
    let class = number("/class_uid").expect("a class");
    assert_eq!(number("/type_uid"), Some(class * 100 + number("/activity_id").expect("one")));
    assert!(
        ocsf.pointer("/metadata/version").is_some() && ocsf.pointer("/metadata/product").is_some()
    );
    assert_eq!(number("/time"), Some(1_700_000_000_123));
    let ecs: Value =
        serde_json::from_slice(&event(Format::Ecs, Header::None, "x", None).payload).expect("JSON");
    assert!(ecs.pointer("/ecs/version").is_some() && ecs.pointer("/greenlight/id").is_some());
    assert_eq!(ecs.pointer("/event/id"), ecs.pointer("/greenlight/id"));
}

#[test]
fn names_that_a_format_cannot_write_are_mistakes() {
    let refused = |format: Format, name: &str, words: &str| {
        let spec = EventSpec {
            format: Some(format),
            message: String::from("{token}"),
            fields: Map::from_iter([(name.to_owned(), json!("x"))]),
            ..EventSpec::default()
        };
        let error = Events::new(&spec, Format::Json).expect_err("a mistake");
        assert!(error.contains(words), "{format:?} {name}: {error}");
    };
    refused(Format::Cef, "a.b", "letters and digits only");
    refused(Format::Cef, "msg", "written already");
    refused(Format::Leef2, "a b", "a key in LEEF");
    refused(Format::Gelf, "id", "not 'id'");
    refused(Format::Plain, "a", "no fields");
    refused(Format::Raw, "a", "no fields");
    refused(Format::Ecs, "host", "inside the other");
    refused(Format::Ecs, "message.a", "inside the other");
    refused(Format::Ecs, "a..b", "is empty");
}
