//! One LogRecord of OpenTelemetry, in the JSON of OTLP 1.5 ("JSON Protobuf Encoding"): names in
//! lowerCamelCase, 64-bit integers as text, enums as numbers, ids in hexadecimal digits.

use serde_json::Value;

use super::tree::{Tree, flat};
use super::{Ingredients, time};
use crate::journey::layout::Layout;
use crate::journey::template::Shape;

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>) {
    let attributes = flat(of).into_iter().map(|(name, value)| {
        Tree::object([("key", Tree::text(&name)), ("value", any_value(value))])
    });
    let root = Tree::object([
        ("timeUnixNano", Tree::Word(time(Shape::EpochNs))),
        ("observedTimeUnixNano", Tree::Word(time(Shape::EpochNs))),
        // SEVERITY_NUMBER_INFO.
        ("severityNumber", Tree::Fixed(9.into())),
        ("severityText", Tree::text("INFO")),
        ("body", Tree::object([("stringValue", Tree::Message)])),
        ("attributes", Tree::List(attributes.collect())),
    ]);
    root.write(layout);
}

/// An AnyValue: one member that names the type.
fn any_value(value: Tree) -> Tree {
    let kind = match &value {
        Tree::Number(_) => return number(value),
        Tree::Fixed(Value::Bool(_)) => "boolValue",
        Tree::Fixed(Value::Number(number)) if number.is_f64() => "doubleValue",
        Tree::Fixed(Value::Number(number)) => {
            return Tree::object([("intValue", Tree::text(&number.to_string()))]);
        }
        Tree::Fixed(Value::Array(items)) => {
            let items = items.iter().map(|item| any_value(Tree::Fixed(item.clone())));
            let list = Tree::object([("values", Tree::List(items.collect()))]);
            return Tree::object([("arrayValue", list)]);
        }
        Tree::Fixed(Value::Object(members)) => {
            let pairs = members.iter().map(|(name, value)| {
                let value = any_value(Tree::Fixed(value.clone()));
                Tree::object([("key", Tree::text(name)), ("value", value)])
            });
            let list = Tree::object([("values", Tree::List(pairs.collect()))]);
            return Tree::object([("kvlistValue", list)]);
        }
        // An AnyValue without a member is null.
        Tree::Fixed(Value::Null) => return Tree::Object(Vec::new()),
        _ => "stringValue",
    };
    Tree::object([(kind, value)])
}

fn number(value: Tree) -> Tree {
    let quoted = match value {
        Tree::Number(word) => Tree::Word(word),
        other => other,
    };
    Tree::object([("intValue", quoted)])
}
