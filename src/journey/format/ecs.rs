//! The Elastic Common Schema, 8.17, nested: "Base fields", "Event fields", "User agent fields".

use serde_json::{Map, Value};

use super::tree::{Tree, flat};
use super::{Ingredients, time};
use crate::journey::layout::Layout;
use crate::journey::template::{Shape, Word};

pub(super) fn write(layout: &mut Layout, of: &Ingredients<'_>) {
    let mut root = vec![
        (String::from("@timestamp"), Tree::Word(time(Shape::Rfc3339))),
        (String::from("message"), Tree::Message),
    ];
    let own = [
        ("ecs.version", Tree::text("8.17.0")),
        ("event.id", Tree::Word(Word::Token)),
        ("event.kind", Tree::text("event")),
        ("event.created", Tree::Word(time(Shape::Rfc3339))),
    ];
    let all = own.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(flat(of));
    for (name, value) in all {
        place(&mut root, &name, value);
    }
    Tree::Object(root).write(layout);
}

/// Puts a value where its dotted name says; a later one takes the place of an earlier.
fn place(members: &mut Vec<(String, Tree)>, name: &str, value: Tree) {
    let (front, rest) = match name.split_once('.') {
        Some((front, rest)) => (front, Some(rest)),
        None => (name, None),
    };
    let at = match members.iter().position(|(own, _)| own == front) {
        Some(at) => at,
        None => {
            members.push((front.to_owned(), Tree::Object(Vec::new())));
            members.len() - 1
        }
    };
    let Some((_, slot)) = members.get_mut(at) else { return };
    match (rest, slot) {
        (None, slot) => *slot = value,
        (Some(rest), Tree::Object(inner)) => place(inner, rest, value),
        // Refused by `check`.
        (Some(_), _) => {}
    }
}

/// A name can't be both a value and the front of another.
pub(super) fn check(fields: &Map<String, Value>) -> Result<(), String> {
    const OWN: [&str; 9] = [
        "ecs.version",
        "event.id",
        "event.kind",
        "event.created",
        "host.name",
        "service.name",
        "user_agent.synthetic.type",
        "@timestamp",
        "message",
    ];
    let names = || fields.keys().map(String::as_str).chain(OWN);
    for name in fields.keys() {
        if name.split('.').any(str::is_empty) {
            return Err(format!("field '{name}': a name in it is empty"));
        }
        let clash = names().find(|other| {
            let inside = |long: &str, short: &str| {
                long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'))
            };
            inside(other, name) || inside(name, other)
        });
        if let Some(other) = clash {
            return Err(format!(
                "field '{name}' can't stand beside '{other}': one would be inside the other"
            ));
        }
    }
    Ok(())
}
