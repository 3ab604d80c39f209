//! Short texts beside an event: a key, a header.

use super::{Event, Values};
use crate::journey::template::Template;

/// A text with the words of an event's message in braces, filled from an event that was rendered
/// already.
#[derive(Clone, Debug, PartialEq)]
pub struct Label(Template);

impl Label {
    pub fn parse(text: &str) -> Result<Self, String> {
        Template::parse(text).map(Self)
    }

    pub fn of(&self, event: &Event) -> String {
        let field = |name: &str| event.fields.get(name).and_then(|value| value.as_str());
        self.0.fill(&Values {
            run: field("greenlight.run").unwrap_or_default(),
            stream: field("greenlight.stream").unwrap_or_default(),
            token: event.token.as_bytes(),
            seq: event.seq,
            time: event.time,
            zone: event.date_probe.unwrap_or_default(),
            crc: event.crc,
            // As in the event's own text, so that {user} is the same user.
            variety: crc32fast::hash(event.token.as_bytes()),
            byte_order_mark: false,
        })
    }
}
