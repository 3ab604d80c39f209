//! The Open Cybersecurity Schema Framework 1.3.0, class Authentication (3002): a logon.
//! `type_uid` is `class_uid` times 100 plus `activity_id`; times are milliseconds since 1970; what
//! the schema has no place for stands in `unmapped`.

use super::tree::{Tree, flat};
use super::{Ingredients, time};
use crate::journey::layout::Layout;
use crate::journey::template::{Shape, Word};

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>) {
    let further = flat(of)
        .into_iter()
        .filter(|(name, _)| !matches!(name.as_str(), "host.name" | "service.name"));
    let number = |number: u64| Tree::Fixed(number.into());
    let root = Tree::object([
        ("activity_id", number(1)),
        ("category_uid", number(3)),
        ("class_uid", number(3_002)),
        ("type_uid", number(300_201)),
        ("severity_id", number(1)),
        ("time", Tree::Number(time(Shape::EpochMs))),
        ("message", Tree::Message),
        (
            "metadata",
            Tree::object([
                ("version", Tree::text("1.3.0")),
                (
                    "product",
                    Tree::object([
                        ("name", Tree::text(of.app)),
                        ("vendor_name", Tree::text("Greenlight")),
                    ]),
                ),
                ("uid", Tree::Word(Word::Token)),
                ("correlation_uid", Tree::Word(Word::Token)),
                ("original_time", Tree::Word(time(Shape::Rfc3339))),
                ("sequence", Tree::Number(Word::Seq)),
                ("labels", Tree::List(vec![Tree::text("synthetic")])),
            ]),
        ),
        ("user", Tree::object([("name", Tree::Word(Word::User))])),
        ("device", Tree::object([("hostname", Tree::text(of.host)), ("type_id", number(1))])),
        (
            "src_endpoint",
            Tree::object([("ip", Tree::Word(Word::Address)), ("port", Tree::Number(Word::Port))]),
        ),
        ("unmapped", Tree::Object(further.collect())),
    ]);
    root.write(layout);
}
