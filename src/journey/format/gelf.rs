//! Graylog Extended Log Format 1.1, "GELF Payload Specification": `version`, `host` and
//! `short_message` are a must, `timestamp` is seconds with decimals, additional fields begin with
//! `_` and match `^[\w\.\-]*$`; `_id` is forbidden.

use super::tree::{Tree, flat};
use super::{Ingredients, time};
use crate::journey::layout::Layout;
use crate::journey::template::Shape;

pub(super) fn is_name(name: &str) -> bool {
    name != "id"
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>) {
    let mut members = vec![
        (String::from("version"), Tree::text("1.1")),
        (String::from("host"), Tree::text(of.host)),
        (String::from("short_message"), Tree::Message),
        (String::from("timestamp"), Tree::Number(time(Shape::EpochDecimal))),
        // Informational, as syslog counts.
        (String::from("level"), Tree::Fixed(6.into())),
    ];
    // `host` says it already.
    let further = flat(of).into_iter().filter(|(name, _)| name != "host.name");
    members.extend(further.map(|(name, value)| {
        let value = match value {
            // "String or number": anything else as the text of it.
            Tree::Fixed(value) if !value.is_string() && !value.is_number() => {
                Tree::text(&value.to_string())
            }
            value => value,
        };
        let underlined = match name.strip_prefix(super::OWN) {
            // As GELF's own are written; Graylog makes an underscore of a dot anyway.
            Some(mark) => format!("_greenlight_{mark}"),
            None => format!("_{name}"),
        };
        (underlined, value)
    }));
    Tree::Object(members).write(layout);
}
