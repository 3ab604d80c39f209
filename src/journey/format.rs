//! How an event is written down: one file a format, each by its specification.
//!
//! Every format carries the token twice where it can: in a field and in the text. A stage that
//! shows the text without the field has lost it in parsing; where both are gone, the event itself
//! is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::layout::{Escape, Layout};
use super::template::{Shape, Template, Values, Word};

mod cef;
mod ecs;
mod gelf;
mod json;
mod leef;
mod ocsf;
mod otlp;
mod syslog;
mod tree;

/// How an event is written down.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object with names of the Elastic Common Schema, dots in the names.
    #[default]
    Json,
    /// The same, nested as the Elastic Common Schema has it.
    Ecs,
    /// A syslog message of RFC 5424 with structured data.
    Rfc5424,
    /// A syslog message of RFC 3164; the marks stand as `name=value` before the text.
    Rfc3164,
    /// ArcSight's Common Event Format.
    Cef,
    /// QRadar's Log Event Extended Format 1.0, with tabs between its fields.
    Leef1,
    /// The same, 2.0, with `^` between its fields.
    Leef2,
    /// Graylog's Extended Log Format 1.1.
    Gelf,
    /// An authentication event of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// One LogRecord of OpenTelemetry as JSON, for the way in that wraps it.
    Otlp,
    /// The message alone.
    Plain,
    /// The message alone, which is the whole payload and must name {token} itself.
    Raw,
}

/// A syslog header before a format that has none of its own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    #[default]
    None,
    /// `<134>Mmm dd hh:mm:ss host `, as RFC 3164 has it; CEF and LEEF stand in place of the tag.
    Rfc3164,
    /// The header of RFC 5424 with the token in its structured data.
    Rfc5424,
}

#[derive(Clone, Debug)]
pub(super) enum FieldValue {
    Text(Template),
    Fixed(Value),
}

impl FieldValue {
    /// As text, for formats without types.
    fn write(&self, layout: &mut Layout, escape: Escape) {
        match self {
            Self::Text(template) => layout.template(template, escape),
            Self::Fixed(Value::String(text)) => layout.escaped(text, escape),
            Self::Fixed(other) => layout.escaped(&other.to_string(), escape),
        };
    }

    pub(super) fn value(&self, values: &Values<'_>) -> Value {
        match self {
            Self::Text(template) => Value::from(template.fill(values)),
            Self::Fixed(value) => value.clone(),
        }
    }
}

/// What is written of an event beside its text.
pub(super) struct Ingredients<'a> {
    pub(super) host: &'a str,
    pub(super) app: &'a str,
    pub(super) fields: &'a [(String, FieldValue)],
}

/// The front of the names of Greenlight's own fields.
pub(super) const OWN: &str = "greenlight.";
/// Greenlight's own fields under [`OWN`].
const MARKS: [(&str, Word); 5] = [
    ("id", Word::Token),
    ("run", Word::Run),
    ("stream", Word::Stream),
    ("seq", Word::Seq),
    ("crc", Word::Crc),
];
/// local0.info: of no real subsystem.
const PRIORITY: u8 = 16 * 8 + 6;

fn time(shape: Shape) -> Word {
    Word::Time { shift: 0, shape }
}

impl Format {
    pub(super) fn layout(self, header: Header, of: &Ingredients<'_>) -> Layout {
        let mut layout = Layout::default();
        let tagged = matches!(self, Self::Cef | Self::Leef1 | Self::Leef2);
        match header {
            Header::None => {}
            Header::Rfc3164 => syslog::header_3164(&mut layout, of, !tagged),
            Header::Rfc5424 => syslog::header_5424(&mut layout, of),
        }
        match self {
            Self::Json => json::write(&mut layout, of),
            Self::Ecs => ecs::write(&mut layout, of),
            Self::Rfc5424 => syslog::rfc5424(&mut layout, of),
            Self::Rfc3164 => syslog::rfc3164(&mut layout, of),
            Self::Cef => cef::write(&mut layout, of),
            Self::Leef1 => leef::write(&mut layout, of, leef::Version::One),
            Self::Leef2 => leef::write(&mut layout, of, leef::Version::Two),
            Self::Gelf => gelf::write(&mut layout, of),
            Self::Ocsf => ocsf::write(&mut layout, of),
            Self::Otlp => otlp::write(&mut layout, of),
            Self::Plain | Self::Raw => drop(layout.message(Escape::None)),
        }
        layout
    }

    /// Whether it has a syslog header of its own, or takes none.
    pub(super) fn takes_header(self) -> bool {
        !matches!(self, Self::Rfc5424 | Self::Rfc3164 | Self::Otlp | Self::Raw)
    }

    /// The header where the plan does not say: what receivers of CEF and LEEF over syslog expect.
    pub(super) fn header_over_syslog(self) -> Header {
        if matches!(self, Self::Cef | Self::Leef1 | Self::Leef2) {
            Header::Rfc3164
        } else {
            Header::None
        }
    }

    /// Whether a line feed in the text is one in the payload too.
    pub(super) fn keeps_line_feeds(self) -> bool {
        matches!(self, Self::Rfc5424 | Self::Rfc3164 | Self::Plain | Self::Raw)
    }

    /// Puts a space for what the format has no way to write.
    pub(super) fn tame(self, text: &mut [u8]) {
        let held: &[u8] = match self {
            Self::Leef1 => b"\t\r\n",
            Self::Leef2 => b"^\t\r\n",
            _ => return,
        };
        for byte in text.iter_mut().filter(|byte| held.contains(byte)) {
            *byte = b' ';
        }
    }

    pub(super) fn check_fields(self, fields: &Map<String, Value>) -> Result<(), String> {
        for name in fields.keys() {
            if name.is_empty() {
                return Err(String::from("a field has an empty name"));
            }
            if name.starts_with(OWN) || name == "greenlight" {
                return Err(format!(
                    "field '{name}': names under 'greenlight.' are Greenlight's own"
                ));
            }
            if matches!(name.as_str(), "@timestamp" | "message") {
                return Err(format!(
                    "field '{name}' is written by Greenlight itself; leave it out"
                ));
            }
            let wrong = match self {
                Self::Rfc5424 if !syslog::is_sd_name(name) => Some(
                    "a name in RFC 5424 has at most 32 printable ASCII characters and no '=', ']' \
                     or '\"'",
                ),
                Self::Rfc3164 if !syslog::is_sd_name(name) => {
                    Some("write at most 32 printable ASCII characters and no '=', ']' or '\"'")
                }
                Self::Cef if !cef::is_key(name) => Some(
                    "a key in CEF is letters and digits only, and none that is written already",
                ),
                Self::Leef1 | Self::Leef2 if !leef::is_key(name) => Some(
                    "a key in LEEF has letters, digits, '_' and '.', and is none that is \
                          written already",
                ),
                Self::Gelf if !gelf::is_name(name) => {
                    Some("a name in GELF has letters, digits, '_', '.' and '-', and is not 'id'")
                }
                Self::Plain | Self::Raw => Some("the format has no fields; leave it out"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(format!("field '{name}': {wrong}"));
            }
        }
        match self {
            Self::Ecs => ecs::check(fields),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
