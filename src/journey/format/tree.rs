//! A JSON document in which some values are fresh in each event.

use serde_json::Value;

use super::{FieldValue, Ingredients, MARKS, OWN};
use crate::journey::layout::{Escape, Layout};
use crate::journey::template::{Template, Word};

pub(super) enum Tree {
    Object(Vec<(String, Self)>),
    List(Vec<Self>),
    Fixed(Value),
    Text(Template),
    /// A word between quotes.
    Word(Word),
    /// A word that makes a number, without quotes.
    Number(Word),
    Message,
}

impl Tree {
    pub(super) fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Fixed(Value::from(text))
    }

    pub(super) fn of(value: &FieldValue) -> Self {
        match value {
            FieldValue::Text(template) => Self::Text(template.clone()),
            FieldValue::Fixed(value) => Self::Fixed(value.clone()),
        }
    }

    /// Greenlight's own fields.
    pub(super) fn marks() -> [(String, Self); 5] {
        MARKS.map(|(name, word)| {
            let number = matches!(word, Word::Seq | Word::Crc);
            (name.to_owned(), if number { Self::Number(word) } else { Self::Word(word) })
        })
    }

    pub(super) fn write(&self, layout: &mut Layout) {
        match self {
            Self::Object(members) => {
                layout.literal("{");
                for (index, (name, value)) in members.iter().enumerate() {
                    layout.literal(if index > 0 { ",\"" } else { "\"" });
                    layout.escaped(name, Escape::Json).literal("\":");
                    value.write(layout);
                }
                layout.literal("}");
            }
            Self::List(items) => {
                layout.literal("[");
                for (index, item) in items.iter().enumerate() {
                    layout.literal(if index > 0 { "," } else { "" });
                    item.write(layout);
                }
                layout.literal("]");
            }
            Self::Fixed(value) => drop(layout.literal(&value.to_string())),
            Self::Text(template) => {
                layout.literal("\"").template(template, Escape::Json).literal("\"");
            }
            Self::Word(word) => {
                layout.literal("\"").word(word.clone(), Escape::Json).literal("\"");
            }
            Self::Number(word) => drop(layout.word(word.clone(), Escape::None)),
            Self::Message => drop(layout.literal("\"").message(Escape::Json).literal("\"")),
        }
    }
}

/// The members with the names of the Elastic Common Schema, dots in the names.
pub(super) fn flat(of: &Ingredients<'_>) -> Vec<(String, Tree)> {
    let mut members = vec![
        (String::from("host.name"), Tree::text(of.host)),
        (String::from("service.name"), Tree::text(of.app)),
        // ECS's own mark of synthetic traffic, by which it can be left out and purged.
        (String::from("user_agent.synthetic.type"), Tree::text("test")),
    ];
    members.extend(Tree::marks().map(|(name, value)| (format!("{OWN}{name}"), value)));
    for (name, value) in of.fields {
        let value = Tree::of(value);
        match members.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => *own = value,
            None => members.push((name.clone(), value)),
        }
    }
    members
}
