//! ArcSight Common Event Format, "Implementing ArcSight Common Event Format (CEF)", version 26:
//! `CEF:0|Device Vendor|Device Product|Device Version|Device Event Class ID|Name|Severity|`
//! and an extension of `key=value` with spaces between.

use super::{Ingredients, time};
use crate::journey::layout::{Escape, Layout};
use crate::journey::template::{Shape, Word};

/// None of its values holds a `|` or `\`, which a header escapes. Severity 3 of 10 is low.
const HEADER: &str = "CEF:0|Greenlight|greenlight|1|synthetic|Synthetic event|3|";
const KEYS: [(&str, Word); 9] = [
    ("externalId", Word::Token),
    ("suser", Word::User),
    ("src", Word::Address),
    ("spt", Word::Port),
    ("cs6Label=greenlightId cs6", Word::Token),
    ("cs5Label=greenlightRun cs5", Word::Run),
    ("cs4Label=greenlightStream cs4", Word::Stream),
    ("cn1Label=greenlightSeq cn1", Word::Seq),
    ("cn2Label=greenlightCrc cn2", Word::Crc),
];
const TAKEN: [&str; 18] = [
    "rt",
    "externalId",
    "suser",
    "src",
    "spt",
    "cs3",
    "cs4",
    "cs5",
    "cs6",
    "cn1",
    "cn2",
    "cs3Label",
    "cs4Label",
    "cs5Label",
    "cs6Label",
    "cn1Label",
    "cn2Label",
    "dvchost",
];

pub(super) fn is_key(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !TAKEN.contains(&name)
        && !matches!(name, "msg" | "deviceProcessName")
}

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>) {
    layout.literal(HEADER).literal("rt=").word(time(Shape::EpochMs), Escape::None);
    for (key, word) in KEYS {
        layout.literal(&format!(" {key}=")).word(word, Escape::CefExtension);
    }
    // CEF has no key of its own for synthetic traffic.
    layout.literal(" cs3Label=userAgentSyntheticType cs3=test dvchost=");
    layout.escaped(of.host, Escape::CefExtension);
    layout.literal(" deviceProcessName=").escaped(of.app, Escape::CefExtension);
    for (name, value) in of.fields {
        layout.literal(&format!(" {name}="));
        value.write(layout, Escape::CefExtension);
    }
    // Last, because it is the longest: what is cut is cut here.
    layout.literal(" msg=").message(Escape::CefExtension);
}
