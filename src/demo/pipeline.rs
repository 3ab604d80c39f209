//! From raw to stored: the parser, the enricher and the detector, each reading the topic that the
//! one before writes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::broker::Record;
use super::{ENRICHED, PARSED, RAW, State, locked};
use crate::journey::Stage;
use crate::journey::fields::lookup;

/// Moves what comes until it is dropped.
pub(super) async fn run(state: Arc<State>) {
    loop {
        let mut next = Vec::new();
        for record in state.broker.poll().await {
            next.extend(step(&state, record));
        }
        if next.is_empty() {
            continue;
        }
        if let Err(error) = state.broker.produce(next).await {
            tracing::error!(%error, "the embedded pipeline lost events of its own");
        }
    }
}

/// What one record becomes in the next topic.
fn step(state: &State, record: Record) -> Option<Record> {
    let (topic, fields) = match record.topic.as_str() {
        RAW if state.broken(Stage::Parsed) => return None,
        RAW => match parse(&record.payload) {
            Some(fields) => (PARSED, fields),
            None => {
                tracing::warn!("the embedded parser can't read an event");
                return None;
            }
        },
        PARSED => {
            let mut fields = object(&record.payload)?;
            if !state.broken(Stage::Enriched) {
                enrich(&mut fields);
            }
            (ENRICHED, fields)
        }
        _ => {
            let fields = object(&record.payload)?;
            let alerts = locked(&state.detector).take(&fields);
            let mut lake = state.lake();
            if !state.broken(Stage::Alerted) {
                alerts.into_iter().for_each(|alert| lake.raise(alert));
            }
            if !state.broken(Stage::Stored) {
                lake.store(fields);
            }
            return None;
        }
    };
    let payload = Value::Object(fields).to_string().into_bytes();
    Some(Record { topic: topic.to_owned(), payload, ..record })
}

fn object(payload: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// The fields of an event, JSON or RFC 5424, and what its text says of a login.
fn parse(raw: &[u8]) -> Option<Map<String, Value>> {
    let mut fields = match raw.first()? {
        b'{' => object(raw)?,
        b'<' => rfc5424(std::str::from_utf8(raw).ok()?)?,
        _ => return None,
    };
    let message = fields.get("message")?.as_str()?;
    if let Some((user, address)) = failed_login(message) {
        let (user, address) = (user.to_owned(), address.to_owned());
        fields.insert("event".into(), json!({"action": "ssh-login", "outcome": "failure"}));
        fields.insert("user".into(), json!({"name": user}));
        fields.insert("source".into(), json!({"ip": address}));
    }
    Some(fields)
}

/// The user and the address of sshd's "Failed password for [invalid user] USER from ADDRESS port".
fn failed_login(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("Failed password for ")?;
    let rest = rest.strip_prefix("invalid user ").unwrap_or(rest);
    let (user, rest) = rest.split_once(" from ")?;
    let (address, _) = rest.split_once(" port ")?;
    Some((user, address))
}

/// Whose machine it was and where the other end is: as a lookup in an asset list and a GeoIP
/// database would say.
fn enrich(fields: &mut Map<String, Value>) {
    let mut enriched = Map::new();
    enriched.insert("asset".into(), json!({"owner": "soc-test", "platform": "embedded"}));
    if let Some(address) = lookup(fields, "source.ip").and_then(Value::as_str) {
        // RFC 5737: the networks for documentation are in no real database; these entries are ours.
        let place = if address.starts_with("198.51.100.") { "ZZ" } else { "unknown" };
        enriched.insert("geo".into(), json!({"country_iso_code": place}));
    }
    fields.insert("enriched".into(), Value::Object(enriched));
}

/// The fields of a message of RFC 5424; parameters of structured data under their own names where
/// they are the event's, else under the element's.
fn rfc5424(text: &str) -> Option<Map<String, Value>> {
    let (priority, rest) = text.strip_prefix('<')?.split_once('>')?;
    let priority: u16 = priority.parse().ok().filter(|priority| *priority < 192)?;
    let mut words = rest.splitn(7, ' ');
    let mut word = || words.next();
    if word()? != "1" {
        return None;
    }
    let (time, host, app, process, id) = (word()?, word()?, word()?, word()?, word()?);
    let mut fields = Map::new();
    fields.insert("log.syslog.priority".into(), priority.into());
    for (name, value) in [
        ("@timestamp", time),
        ("host.name", host),
        ("service.name", app),
        ("process.name", process),
        ("log.syslog.msgid", id),
    ] {
        if value != "-" {
            fields.insert(name.into(), value.into());
        }
    }
    let message = structured_data(word()?, &mut fields)?;
    let message = message.strip_prefix(' ').unwrap_or(message);
    fields.insert("message".into(), message.strip_prefix('\u{feff}').unwrap_or(message).into());
    Some(fields)
}

/// Reads the structured data, and returns what stands behind it.
fn structured_data<'a>(text: &'a str, fields: &mut Map<String, Value>) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix('-') {
        return Some(rest);
    }
    let mut rest = text;
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']'])?;
        let (id, params) = element.split_at_checked(end)?;
        let prefix = match id {
            "greenlight@32473" => String::from("greenlight."),
            "event@32473" => String::new(),
            other => format!("{other}."),
        };
        let mut params = params;
        while let Some(param) = params.strip_prefix(' ') {
            let (name, value) = param.split_once("=\"")?;
            let (value, after) = param_value(value)?;
            fields.insert(format!("{prefix}{name}"), value.into());
            params = after;
        }
        rest = params.strip_prefix(']')?;
    }
    (rest.len() < text.len()).then_some(rest)
}

/// The value up to its closing quote, without the escapes, and what stands behind that.
fn param_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\' | ']') => value.push(escaped),
                // RFC 5424, 6.3.3: any other backslash is one.
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journey::event::{EventSpec, Events, Format, run_from};
    use crate::time::Wall;

    #[test]
    fn both_formats_become_the_same_fields() {
        let spec = EventSpec {
            message: "Failed password for {user} from {address} port {port} ssh2".into(),
            fields: Map::from_iter([("labels.way_in".into(), "a \"b\" \\ ]".into())]),
            ..EventSpec::default()
        };
        for format in [Format::Json, Format::Rfc5424] {
            let events = Events::new(&spec, format).unwrap();
            let event = events.render(&run_from([1; 8]), "s", 3, Wall::from_secs(1));
            let mut fields = parse(&event.payload).unwrap();
            enrich(&mut fields);
            let text = |path: &str| lookup(&fields, path).map(|v| v.as_str().unwrap().to_owned());
            assert_eq!(text("message"), Some(event.message));
            assert_eq!(text("labels.way_in").as_deref(), Some("a \"b\" \\ ]"));
            assert_eq!(text("greenlight.run").as_deref(), Some(&*run_from([1; 8])));
            assert_eq!(text("event.outcome").as_deref(), Some("failure"));
            assert_eq!(text("@timestamp").as_deref(), Some("1970-01-01T00:00:01.000Z"));
            assert_eq!(text("enriched.asset.owner").as_deref(), Some("soc-test"));
            assert_eq!(text("enriched.geo.country_iso_code").as_deref(), Some("ZZ"));
        }
    }

    #[test]
    fn what_is_no_event_is_not_read() {
        for raw in [
            "",
            "hello",
            "{\"a\":1}",
            "{\"message\":1}",
            "{",
            "<13>",
            "<999>1 - - - - - - m",
            "<13>2 - - - - - - m",
            "<13>1 - - - - -",
            "<13>1 - - - - - [a b=\"c] m",
            "<13>1 - - - - - x m",
        ] {
            assert_eq!(parse(raw.as_bytes()), None, "{raw}");
        }
        let bare = parse(b"<13>1 - - - - - - m [x]").unwrap();
        assert_eq!(bare.get("message"), Some(&json!("m [x]")));
        let empty = parse(b"<13>1 - h - - - [a@1][b@2 c=\"\\n\"]").unwrap();
        assert_eq!(empty.get("message"), Some(&json!("")));
        assert_eq!(empty.get("b@2.c"), Some(&json!("\\n")));
    }

    #[test]
    fn any_bytes_are_read_or_not_but_never_panic() {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
        let any = prop_oneof![
            any::<Vec<u8>>(),
            "<[0-9]{1,3}>1 .{0,40}".prop_map(String::into_bytes),
            "<13>1 - - - - - \\[.{0,40}".prop_map(String::into_bytes),
        ];
        runner
            .run(&any, |raw| {
                if let Some(fields) = parse(&raw) {
                    prop_assert!(fields.contains_key("message"));
                }
                Ok(())
            })
            .unwrap();
        eprintln!("property embedded parser: {} inputs", runner.config().cases);
    }
}
