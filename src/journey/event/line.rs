//! The text of an event and what stands around it, found right and ready to be filled in.

use serde_json::{Map, Value};

use super::{Format, Header};
use crate::journey::format::{FieldValue, Ingredients};
use crate::journey::layout::Layout;
use crate::journey::template::{Template, Word};

/// What many receivers still take whole: rsyslog cuts at 8 KiB.
const MESSAGE_LIMIT: usize = 8_192;
/// More fields than this trip the field limits of stores.
const FIELDS_LIMIT: usize = 100;

/// As it was written.
pub(super) struct Text<'a> {
    pub message: &'a str,
    pub fields: &'a Map<String, Value>,
    pub host: &'a str,
    pub app: &'a str,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub message: Template,
    pub fields: Vec<(String, FieldValue)>,
    pub host: String,
    pub app: String,
    pub layout: Layout,
}

impl Line {
    pub(super) fn new(text: &Text<'_>, format: Format, header: Header) -> Result<Self, String> {
        if text.message.len() > MESSAGE_LIMIT {
            return Err(format!("the message is longer than {MESSAGE_LIMIT} bytes; shorten it"));
        }
        if text.fields.len() > FIELDS_LIMIT {
            return Err(format!("more than {FIELDS_LIMIT} fields; leave some out"));
        }
        for (what, name, limit) in [("host", text.host, 255), ("app", text.app, 48)] {
            if name.is_empty() || name.len() > limit || !printable(name) {
                return Err(format!(
                    "{what} '{name}' is not 1 to {limit} printable ASCII characters without spaces \
                     (RFC 5424)"
                ));
            }
        }
        format.check_fields(text.fields)?;
        let mut fields = Vec::with_capacity(text.fields.len());
        for (name, value) in text.fields {
            let value = match value {
                Value::String(text) => FieldValue::Text(
                    Template::parse(text).map_err(|e| format!("field '{name}': {e}"))?,
                ),
                other => FieldValue::Fixed(other.clone()),
            };
            fields.push((name.clone(), value));
        }
        let message = Template::parse(text.message).map_err(|e| format!("message: {e}"))?;
        if message.has(&Word::Crc) {
            return Err(String::from(
                "message: {crc} is the checksum of the message and can't stand in it",
            ));
        }
        if format == Format::Raw && !message.has(&Word::Token) {
            return Err(String::from(
                "message: a raw event is its message alone and must name {token}, or it is never \
                 found again",
            ));
        }
        let of = Ingredients { host: text.host, app: text.app, fields: &fields };
        let layout = format.layout(header, &of);
        Ok(Self {
            message: message.with_token(),
            fields,
            host: text.host.to_owned(),
            app: text.app.to_owned(),
            layout,
        })
    }
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
