//! IBM QRadar Log Event Extended Format, "LEEF event components":
//! `LEEF:1.0|Vendor|Product|Version|EventID|` with tabs between the attributes,
//! `LEEF:2.0|Vendor|Product|Version|EventID|^|` with the delimiter that it names.
//!
//! LEEF has no escaping: what would end an attribute can't be in it, and is a space in the text
//! from the start (`Format::tame`), so that the checksum is of what goes out.

use super::{Ingredients, time};
use crate::journey::layout::{Escape, Layout};
use crate::journey::template::{Shape, Word};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Version {
    One,
    Two,
}

const KEYS: [(&str, Word); 8] = [
    ("usrName", Word::User),
    ("src", Word::Address),
    ("srcPort", Word::Port),
    ("greenlightId", Word::Token),
    ("greenlightRun", Word::Run),
    ("greenlightStream", Word::Stream),
    ("greenlightSeq", Word::Seq),
    ("greenlightCrc", Word::Crc),
];

pub(super) fn is_key(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let own = matches!(
        name,
        "devTime"
            | "devTimeFormat"
            | "sev"
            | "cat"
            | "identHostName"
            | "userAgentSyntheticType"
            | "msg"
    );
    name.bytes().all(legal) && !own && !KEYS.iter().any(|(key, _)| *key == name)
}

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>, version: Version) {
    let (front, between) = match version {
        Version::One => ("LEEF:1.0|Greenlight|greenlight|1|synthetic|", "\t"),
        Version::Two => ("LEEF:2.0|Greenlight|greenlight|1|synthetic|^|", "^"),
    };
    // Without devTimeFormat a receiver takes the time of arrival.
    layout
        .literal(front)
        .literal("devTime=")
        .word(time(Shape::Rfc3339), Escape::None)
        .literal(between)
        .literal("devTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
        .literal(between)
        .literal("sev=3")
        .literal(between)
        .literal("cat=synthetic")
        .literal(between)
        .literal(&format!("identHostName={}", tamed(of.host)))
        .literal(between)
        .literal("userAgentSyntheticType=test");
    for (key, word) in KEYS {
        layout.literal(between).literal(key).literal("=").word(word, Escape::Space);
    }
    for (name, value) in of.fields {
        layout.literal(between).literal(name).literal("=");
        value.write(layout, Escape::Space);
    }
    layout.literal(between).literal("msg=").message(Escape::None);
}

fn tamed(text: &str) -> String {
    text.replace(['^', '\t'], " ")
}
