//! RFC 5424 and RFC 3164, and their headers before other formats.

use super::{FieldValue, Ingredients, MARKS, PRIORITY, time};
use crate::journey::layout::{Escape, Layout};
use crate::journey::template::{Shape, Word};

/// The structured data of Greenlight's own fields; 32473 is the enterprise number kept for examples
/// (RFC 5612).
const SD_ID: &str = "greenlight@32473";
/// That of the fields that the plan adds.
const EXTRA_SD_ID: &str = "event@32473";
/// RFC 3164, 4.1.3: the TAG has at most 32 letters and digits.
const TAG_LIMIT: usize = 32;

/// RFC 5424, SD-NAME: at most 32 printable ASCII characters but `=`, `]` and `"`.
pub(super) fn is_sd_name(name: &str) -> bool {
    name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !name.contains(['=', ']', '"'])
}

pub(super) fn rfc5424(layout: &mut Layout, of: &Ingredients<'_>) {
    front_5424(layout, of);
    element(layout, SD_ID, MARKS.map(|(name, word)| (name, Param::Word(word))));
    let fields = of.fields.iter().map(|(name, value)| (name.as_str(), Param::Field(value)));
    if !of.fields.is_empty() {
        element(layout, EXTRA_SD_ID, fields);
    }
    layout.literal(" ").byte_order_mark().message(Escape::None);
}

/// `<PRI>Mmm dd hh:mm:ss HOST TAG: ` (4.1), and the marks as the text's first words: there is no
/// other place.
pub(super) fn rfc3164(layout: &mut Layout, of: &Ingredients<'_>) {
    header_3164(layout, of, true);
    for (name, word) in MARKS {
        layout.literal(&format!("greenlight_{name}=")).word(word, Escape::None).literal(" ");
    }
    for (name, value) in of.fields {
        layout.literal(&format!("{name}=\""));
        value.write(layout, Escape::SdParam);
        layout.literal("\" ");
    }
    layout.message(Escape::None);
}

pub(super) fn header_3164(layout: &mut Layout, of: &Ingredients<'_>, tagged: bool) {
    layout
        .literal(&format!("<{PRIORITY}>"))
        .word(time(Shape::Rfc3164), Escape::None)
        .literal(&format!(" {} ", of.host));
    if tagged {
        let tag: String =
            of.app.chars().filter(char::is_ascii_alphanumeric).take(TAG_LIMIT).collect();
        layout.literal(if tag.is_empty() { "greenlight" } else { &tag }).literal(": ");
    }
}

pub(super) fn header_5424(layout: &mut Layout, of: &Ingredients<'_>) {
    front_5424(layout, of);
    element(layout, SD_ID, [("id", Param::Word(Word::Token))]);
    layout.literal(" ");
}

/// All before the structured data.
fn front_5424(layout: &mut Layout, of: &Ingredients<'_>) {
    layout
        .literal(&format!("<{PRIORITY}>1 "))
        .word(time(Shape::Rfc3339), Escape::None)
        .literal(&format!(" {} {} - greenlight ", of.host, of.app));
}

enum Param<'a> {
    Word(Word),
    Field(&'a FieldValue),
}

fn element<'a>(
    layout: &mut Layout,
    id: &str,
    params: impl IntoIterator<Item = (&'a str, Param<'a>)>,
) {
    layout.literal("[").literal(id);
    for (name, value) in params {
        layout.literal(&format!(" {name}=\""));
        match value {
            Param::Word(word) => drop(layout.word(word, Escape::SdParam)),
            Param::Field(value) => value.write(layout, Escape::SdParam),
        }
        layout.literal("\"");
    }
    layout.literal("]");
}
