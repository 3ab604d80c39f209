//! Synthetic events: what an operator writes of them, and how one is rendered.
//!
//! Rendering is a pure function of (spec, run, stream, sequence, intended time): the bytes that
//! should arrive can be made again at any later time and are never stored.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::template::Template;
pub use super::token::{
    RUN_LEN, SEQ_MAX, TOKEN_LEN, Token, contains_run, is_run, run_from, stream_code,
};
use super::{Event, Run};
use crate::time::Wall;

/// The header that carries the token where the transport has headers.
pub const ID_HEADER: &str = "greenlight-id";
/// The structured data of RFC 5424; 32473 is the enterprise number kept for examples (RFC 5612).
pub const SD_ID: &str = "greenlight@32473";
/// The structured data of the fields that the plan adds.
const EXTRA_SD_ID: &str = "event@32473";
/// local0.info: of no real subsystem.
const PRIORITY: u8 = 16 * 8 + 6;
/// A round is held in memory, stored each second and searched in one look; volume is another
/// matter than correctness.
pub const COUNT_LIMIT: u64 = 10_000;
/// What many receivers still take whole: rsyslog cuts at 8 KiB.
const MESSAGE_LIMIT: usize = 8_192;
/// More fields than this trip the field limits of stores.
const FIELDS_LIMIT: usize = 100;

/// How an event is written down.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// A syslog message of RFC 5424 with structured data.
    Rfc5424,
    /// The message alone.
    Plain,
}

/// The events of a journey's round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct EventSpec {
    /// How many events a round has.
    pub count: u64,
    /// How they are written down; the way in decides where this is not given.
    pub format: Option<Format>,
    /// The text, with {seq}, {token}, {run}, {time}, and {user}, {address} and {port}, which vary
    /// from event to event. The token is added at the end of a text that does not name it.
    pub message: String,
    /// Further fields; text values may hold the same words in braces.
    pub fields: Map<String, Value>,
    /// The host that the events name as theirs.
    pub host: String,
    /// The program that the events name as theirs.
    pub app: String,
}

impl Default for EventSpec {
    fn default() -> Self {
        Self {
            count: 10,
            format: None,
            message: String::from(
                "synthetic login of {user} from {address} port {port}, event {seq} of {run} {token}",
            ),
            fields: Map::new(),
            host: String::from("greenlight"),
            app: String::from("greenlight"),
        }
    }
}

/// An [`EventSpec`] that was found right, ready to render.
#[derive(Clone, Debug)]
pub struct Events {
    count: u64,
    format: Format,
    message: Template,
    fields: Vec<(String, FieldValue)>,
    host: String,
    app: String,
}

#[derive(Clone, Debug)]
enum FieldValue {
    Text(Template),
    Fixed(Value),
}

impl Events {
    /// Checks what the types can't say. `default` is the format of the way in.
    pub fn new(spec: &EventSpec, default: Format) -> Result<Self, String> {
        let format = spec.format.unwrap_or(default);
        if !(1..=COUNT_LIMIT).contains(&spec.count) {
            return Err(format!("count is {}; a round has 1 to {COUNT_LIMIT} events", spec.count));
        }
        if spec.message.len() > MESSAGE_LIMIT {
            return Err(format!("the message is longer than {MESSAGE_LIMIT} bytes; shorten it"));
        }
        if spec.fields.len() > FIELDS_LIMIT {
            return Err(format!("more than {FIELDS_LIMIT} fields; leave some out"));
        }
        for (what, name, limit) in [("host", &spec.host, 255), ("app", &spec.app, 48)] {
            if name.is_empty() || name.len() > limit || !printable(name) {
                return Err(format!(
                    "{what} '{name}' is not 1 to {limit} printable ASCII characters without spaces \
                     (RFC 5424)"
                ));
            }
        }
        let mut fields = Vec::with_capacity(spec.fields.len());
        for (name, value) in &spec.fields {
            check_name(name, format)?;
            let value = match value {
                Value::String(text) => FieldValue::Text(
                    Template::parse(text).map_err(|e| format!("field '{name}': {e}"))?,
                ),
                other => FieldValue::Fixed(other.clone()),
            };
            fields.push((name.clone(), value));
        }
        let message = Template::parse(&spec.message).map_err(|e| format!("message: {e}"))?;
        Ok(Self {
            count: spec.count,
            format,
            message: message.with_token(),
            fields,
            host: spec.host.clone(),
            app: spec.app.clone(),
        })
    }

    /// How many events a round has.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// One event. The same arguments give the same bytes.
    pub fn render(&self, run: &Run, stream: &str, seq: u64, intended: Wall) -> Event {
        let token = Token::new(run, stream, seq).render();
        let time = intended.rfc3339();
        let values = super::template::Values { run, token: &token, seq, time: &time };
        let message = self.message.fill(&values);
        let crc = crc32fast::hash(message.as_bytes());
        let mut fields = Map::new();
        for (name, value) in [
            ("host.name", Value::from(self.host.as_str())),
            ("service.name", Value::from(self.app.as_str())),
            // ECS's own mark of synthetic traffic, by which it can be left out and purged.
            ("user_agent.synthetic.type", Value::from("test")),
            ("greenlight.run", Value::from(&**run)),
            ("greenlight.stream", Value::from(stream)),
            ("greenlight.seq", Value::from(seq)),
            ("greenlight.crc", Value::from(crc)),
        ] {
            fields.insert(String::from(name), value);
        }
        for (name, value) in &self.fields {
            let value = match value {
                FieldValue::Text(template) => Value::from(template.fill(&values)),
                FieldValue::Fixed(value) => value.clone(),
            };
            fields.insert(name.clone(), value);
        }
        let payload = match self.format {
            Format::Json => json(&time, &message, &fields),
            Format::Rfc5424 => self.rfc5424(&time, &message, &fields),
            Format::Plain => message.clone(),
        };
        Event { seq, time: intended, token, message, crc, fields, payload: Bytes::from(payload) }
    }

    fn rfc5424(&self, time: &str, message: &str, fields: &Map<String, Value>) -> String {
        let mut text = format!("<{PRIORITY}>1 {time} {} {} - greenlight ", self.host, self.app);
        let ours = fields.iter().filter_map(|(name, value)| Some((name.strip_prefix(OWN)?, value)));
        element(&mut text, SD_ID, ours);
        let extra = self.fields.iter().filter_map(|(name, _)| fields.get_key_value(name));
        element(&mut text, EXTRA_SD_ID, extra.map(|(name, value)| (name.as_str(), value)));
        text.push(' ');
        text.push_str(message);
        text
    }
}

/// The front of the names of Greenlight's own fields.
const OWN: &str = "greenlight.";

fn json(time: &str, message: &str, fields: &Map<String, Value>) -> String {
    let mut object = Map::with_capacity(fields.len() + 2);
    object.insert(String::from("@timestamp"), Value::from(time));
    object.insert(String::from("message"), Value::from(message));
    object.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(object).to_string()
}

/// One SD-ELEMENT; nothing where it would have no parameter.
fn element<'a>(text: &mut String, id: &str, params: impl Iterator<Item = (&'a str, &'a Value)>) {
    let mut params = params.peekable();
    if params.peek().is_none() {
        return;
    }
    text.push('[');
    text.push_str(id);
    for (name, value) in params {
        text.push(' ');
        text.push_str(name);
        text.push_str("=\"");
        let value = match value {
            Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        for c in value.chars() {
            // RFC 5424, 6.3.3: these three must be escaped in a PARAM-VALUE.
            if matches!(c, '"' | '\\' | ']') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push(']');
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_name(name: &str, format: Format) -> Result<(), String> {
    if name.is_empty() {
        return Err(String::from("a field has an empty name"));
    }
    if name.starts_with(OWN) || name == "greenlight" {
        return Err(format!("field '{name}': names under 'greenlight.' are Greenlight's own"));
    }
    if matches!(name, "@timestamp" | "message") {
        return Err(format!("field '{name}' is written by Greenlight itself; leave it out"));
    }
    // RFC 5424, SD-NAME.
    let sd_name = name.len() <= 32 && printable(name) && !name.contains(['=', ']', '"']);
    if format == Format::Rfc5424 && !sd_name {
        return Err(format!(
            "field '{name}': a name in RFC 5424 has at most 32 printable ASCII characters and no \
             '=', ']' or '\"'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
