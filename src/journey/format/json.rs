//! One JSON object (RFC 8259) with names of the Elastic Common Schema, dots in the names.

use super::tree::{Tree, flat};
use super::{Ingredients, time};
use crate::journey::layout::Layout;
use crate::journey::template::Shape;

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>) {
    let mut members = vec![
        (String::from("@timestamp"), Tree::Word(time(Shape::Rfc3339))),
        (String::from("message"), Tree::Message),
    ];
    members.extend(flat(of));
    Tree::Object(members).write(layout);
}
