//! A collecting serde `Deserializer` over the spanned tree: every mistake is a diagnostic at its
//! own place, and reading goes on.
//!
//! serde stops at the first error, and a visitor that has stopped can't be asked again. So the
//! whole value is read anew after each mistake, with a stand-in (`fake`) where the bad node was;
//! fields, variants and their names are serde's own, from plain derives. Plans are small and
//! mistakes few, so reading again costs nothing that anybody notices; `MISTAKES` bounds it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::diagnostics::{Diagnostic, Diagnostics};
use super::secret;
use super::yaml::{Key, Node, Tree, shortened};
use super::{did_you_mean, one_of};
use fake::Fake;

mod fake;
mod scalar;

/// After so many mistakes in one value reading stops: each costs reading it once more.
const MISTAKES: usize = 100;
/// And never more than so many readings, stand-ins that did not fit included.
const READINGS: usize = 1_000;

/// Reads a value, or reports every mistake in it.
pub fn decode<T: DeserializeOwned>(node: &Node, diagnostics: &mut Diagnostics) -> Option<T> {
    let reader = Reader {
        diagnostics: RefCell::new(diagnostics),
        reported: Cell::new(0),
        fakes: Cell::new(0),
        bad: RefCell::default(),
        missing: RefCell::default(),
        unknown: RefCell::default(),
    };
    for _ in 0..READINGS {
        let (read, secrets) =
            secret::collect(|| reader.enter(node, |reader| T::deserialize(At { reader, node })));
        match read {
            Ok(value) if reader.reported.get() == 0 => {
                reader.diagnostics.borrow_mut().keep_secrets(secrets);
                return Some(value);
            }
            // What was read holds stand-ins; every mistake is known now.
            Ok(_) => return None,
            Err(Mistake::Again) if reader.is_bad(node) => return None,
            Err(_) if reader.reported.get() >= MISTAKES => break,
            Err(_) => {}
        }
    }
    let text = "there are more mistakes here than can be named; mend these first";
    reader.diagnostics.borrow_mut().error(node.span, text);
    None
}

/// Nodes are told apart by where they lie in memory: the tree does not move while it is read.
type Identity = usize;

fn identity<T>(thing: &T) -> Identity {
    std::ptr::from_ref(thing) as usize
}

struct Reader<'d> {
    diagnostics: RefCell<&'d mut Diagnostics>,
    reported: Cell<usize>,
    /// Stand-ins used in this reading: complaints about what holds one are not the operator's.
    fakes: Cell<usize>,
    /// Nodes that could not be read, and which stand-in is tried for each.
    bad: RefCell<BTreeMap<Identity, usize>>,
    /// Fields that a map lacks, and which stand-in is tried for each.
    missing: RefCell<BTreeMap<(Identity, &'static str), usize>>,
    /// Keys that were reported as unknown.
    unknown: RefCell<BTreeSet<Identity>>,
}

/// Why a reading ended.
#[derive(Debug)]
pub(super) enum Mistake {
    /// Reported or remembered; read again.
    Again,
    Custom(String),
    /// What was found, and what was expected.
    Type(String, String),
    Missing(&'static str),
    /// A stand-in did not fit.
    Unfit,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Again | Self::Unfit => f.write_str("a mistake that is reported already"),
            Self::Custom(text) => f.write_str(text),
            Self::Type(found, expected) => write!(f, "found {found}, expected {expected}"),
            Self::Missing(field) => write!(f, "`{field}` is missing"),
        }
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Custom(text.to_string())
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(found.to_string(), expected.to_string())
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(found.to_string(), expected.to_string())
    }
    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::Type(format!("{found} items"), expected.to_string())
    }
    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
    fn duplicate_field(field: &'static str) -> Self {
        Self::Custom(format!("`{field}` is given twice, under two of its names"))
    }
}

impl Reader<'_> {
    fn is_bad(&self, node: &Node) -> bool {
        self.bad.borrow().contains_key(&identity(node))
    }

    fn report(&self, node: &Node, message: String, more: impl FnOnce(&mut Diagnostic)) {
        self.reported.set(self.reported.get() + 1);
        more(self.diagnostics.borrow_mut().error(node.span, message));
    }

    /// Reports, and remembers that this node can't be read.
    fn reject(&self, node: &Node, message: String, more: impl FnOnce(&mut Diagnostic)) -> Mistake {
        if self.bad.borrow_mut().insert(identity(node), 0).is_some() {
            // Known already, so it is what holds the node that can't be read.
            return Mistake::Unfit;
        }
        self.report(node, message, more);
        Mistake::Again
    }

    /// Reads a node, and puts what is wrong with it at its place.
    fn enter<T>(
        &self,
        node: &Node,
        read: impl FnOnce(&Self) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        let fakes = self.fakes.get();
        let mistake = match read(self) {
            Ok(value) => return Ok(value),
            Err(mistake) => mistake,
        };
        let genuine = self.fakes.get() == fakes;
        Err(match mistake {
            Mistake::Again => Mistake::Again,
            Mistake::Missing(field) => {
                let first = !self.missing.borrow().contains_key(&(identity(node), field));
                if first {
                    self.missing.borrow_mut().insert((identity(node), field), 0);
                    self.report(node, format!("`{field}` is missing"), |_| {});
                } else {
                    // No stand-in fits: nothing more can be said of this map.
                    self.bad.borrow_mut().insert(identity(node), 0);
                }
                Mistake::Again
            }
            Mistake::Custom(text) if genuine => self.reject(node, text, |_| {}),
            Mistake::Type(found, expected) if genuine => {
                self.reject(node, format!("found {found}"), |d| {
                    d.expected(expected);
                })
            }
            Mistake::Custom(_) | Mistake::Type(..) | Mistake::Unfit => {
                self.bad.borrow_mut().insert(identity(node), 0);
                Mistake::Again
            }
        })
    }

    /// Tries the next stand-in in place of a bad node or a missing field; None when all were tried.
    fn stand_in<'de, S: DeserializeSeed<'de>>(
        &self,
        seed: S,
        turn: usize,
        next: impl FnOnce(),
    ) -> Result<S::Value, Mistake> {
        self.fakes.set(self.fakes.get() + 1);
        seed.deserialize(Fake { turn, depth: 0 }).map_err(|_| {
            next();
            Mistake::Again
        })
    }

    fn wrong(&self, node: &Node, expected: &dyn Expected) -> Mistake {
        self.wrong_as(node, expected.to_string())
    }

    fn wrong_as(&self, node: &Node, expected: String) -> Mistake {
        self.reject(node, format!("found {}", node.describe()), |d| {
            d.expected(expected);
        })
    }

    fn unknown_key(&self, key: &Key, node: &Node, fields: &[&str]) {
        if self.unknown.borrow_mut().insert(identity(key)) {
            self.reported.set(self.reported.get() + 1);
            unknown_key(&mut self.diagnostics.borrow_mut(), key, node, fields);
        }
    }
}

/// The mistake of a key that nobody asked for. Its value is not shown: under a misspelt
/// `password` it is one.
pub(super) fn unknown_key(diagnostics: &mut Diagnostics, key: &Key, node: &Node, known: &[&str]) {
    if node.span.source == key.span.source && node.span.start >= key.span.end {
        diagnostics.blot(node.span);
    }
    let diagnostic = diagnostics.error(key.span, format!("unknown key `{}`", shortened(&key.text)));
    if known.is_empty() {
        diagnostic.expected("no keys");
    } else {
        diagnostic.expected(one_of(known));
    }
    diagnostic.did_you_mean(did_you_mean(&key.text, known.iter().copied()));
}

/// The deserializer of one node.
#[derive(Clone, Copy)]
struct At<'a, 'd> {
    reader: &'a Reader<'d>,
    node: &'a Node,
}

impl<'de> de::Deserializer<'de> for At<'_, '_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Tree::Null => visitor.visit_unit(),
            Tree::Scalar { text, plain: true } => scalar::infer(text, visitor),
            Tree::Scalar { text, plain: false } => visitor.visit_str(text),
            Tree::List(items) => {
                visitor.visit_seq(Items { reader: self.reader, rest: items.iter() })
            }
            Tree::Map(entries) => visitor.visit_map(Entries {
                reader: self.reader,
                rest: entries.iter(),
                value: None,
            }),
        }
    }

    scalar::numbers! {
        deserialize_i8 i8 visit_i8, deserialize_i16 i16 visit_i16, deserialize_i32 i32 visit_i32, deserialize_i64 i64 visit_i64,
        deserialize_i128 i128 visit_i128, deserialize_u8 u8 visit_u8, deserialize_u16 u16 visit_u16, deserialize_u32 u32 visit_u32,
        deserialize_u64 u64 visit_u64, deserialize_u128 u128 visit_u128
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let Tree::Scalar { text, plain } = &self.node.value else {
            return Err(self.reader.wrong_as(self.node, "`true` or `false`".into()));
        };
        match scalar::boolean(text).filter(|_| *plain) {
            Some(value) => visitor.visit_bool(value),
            None => Err(self.reader.wrong_as(self.node, "`true` or `false`".into())),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let number = match &self.node.value {
            Tree::Scalar { text, plain: true } => scalar::float(text),
            _ => None,
        };
        match number {
            Some(number) => visitor.visit_f64(number),
            None => Err(self.reader.wrong_as(self.node, "a number".into())),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Tree::Scalar { text, .. } => visitor.visit_str(text),
            _ => Err(self.reader.wrong(self.node, &visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.node.value {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.node.value {
            Tree::Null => visitor.visit_unit(),
            _ => Err(self.reader.wrong_as(self.node, "nothing".into())),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Tree::List(items) => {
                visitor.visit_seq(Items { reader: self.reader, rest: items.iter() })
            }
            _ => Err(self.reader.wrong_as(self.node, "a list".into())),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Tree::List(items) if items.len() == len => self.deserialize_seq(visitor),
            _ => Err(self.reader.wrong_as(self.node, format!("a list of {len} items"))),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Tree::Map(entries) => visitor.visit_map(Entries {
                reader: self.reader,
                rest: entries.iter(),
                value: None,
            }),
            _ => Err(self.reader.wrong_as(self.node, "a map (`key: value`)".into())),
        }
    }

    /// A kind that needs nothing may be written as `tcp:` with nothing behind it.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let entries = match &self.node.value {
            Tree::Map(entries) => entries.as_slice(),
            Tree::Null => &[],
            _ => {
                let keys = if fields.is_empty() {
                    String::from("nothing")
                } else {
                    format!("a map with {}", one_of(fields).replace("` or `", "`, `"))
                };
                return Err(self.reader.wrong_as(self.node, keys));
            }
        };
        for (key, node) in entries {
            if !fields.contains(&key.text.as_str()) {
                self.reader.unknown_key(key, node, fields);
            }
        }
        let map = identity(self.node);
        let lacking = fields.iter().copied().filter(|field| {
            self.reader.missing.borrow().contains_key(&(map, *field))
                && !entries.iter().any(|(key, _)| key.text == *field)
        });
        visitor.visit_map(StructEntries {
            reader: self.reader,
            map,
            fields,
            rest: entries.iter(),
            value: None,
            lacking: lacking.collect(),
            field: None,
        })
    }

    /// A word, or a map with the one word that names the variant.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let hidden = name == secret::NAME;
        let (word, content) = match &self.node.value {
            Tree::Scalar { text, .. } if !hidden => (text.as_str(), None),
            Tree::Map(entries) => match entries.as_slice() {
                [(key, content)] => (key.text.as_str(), Some(content)),
                _ => return Err(self.no_variant(hidden, variants)),
            },
            _ => return Err(self.no_variant(hidden, variants)),
        };
        if !variants.contains(&word) {
            return Err(if hidden {
                self.no_variant(hidden, variants)
            } else {
                self.reader.reject(self.node, format!("unknown word `{}`", shortened(word)), |d| {
                    d.expected(one_of(variants))
                        .did_you_mean(did_you_mean(word, variants.iter().copied()));
                })
            });
        }
        let variant = Variant { reader: self.reader, node: self.node, word, content, hidden };
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }
}

impl At<'_, '_> {
    fn no_variant(self, hidden: bool, variants: &[&str]) -> Mistake {
        if hidden {
            self.reader.diagnostics.borrow_mut().blot(self.node.span);
            return self.reader.reject(self.node, "a secret is never written here".into(), |d| {
                d.sensitive()
                    .expected("`{env: NAME}`, `{file: PATH}` or `{command: [PROGRAM, ARGUMENT]}`");
            });
        }
        self.reader.wrong_as(self.node, format!("one of {}", one_of(variants)))
    }
}

/// The items of a list; bad ones are left out, for the whole is refused in the end.
struct Items<'a, 'd> {
    reader: &'a Reader<'d>,
    rest: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let reader = self.reader;
        for node in self.rest.by_ref() {
            if reader.is_bad(node) {
                reader.fakes.set(reader.fakes.get() + 1);
                continue;
            }
            return reader.enter(node, |reader| seed.deserialize(At { reader, node })).map(Some);
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a map whose keys are free.
struct Entries<'a, 'd> {
    reader: &'a Reader<'d>,
    rest: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let reader = self.reader;
        for (key, node) in self.rest.by_ref() {
            if reader.is_bad(node) {
                reader.fakes.set(reader.fakes.get() + 1);
                continue;
            }
            self.value = Some(node);
            let value = Tree::Scalar { text: key.text.clone(), plain: true };
            let name = Node { span: key.span, value };
            let read = reader.enter(&name, |reader| seed.deserialize(At { reader, node: &name }));
            if read.is_err() {
                // The name lay on the stack: what is remembered is the entry.
                reader.bad.borrow_mut().remove(&identity(&name));
                reader.bad.borrow_mut().insert(identity(node), 0);
            }
            return read.map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let Some(node) = self.value.take() else { return Err(Mistake::Again) };
        self.reader.enter(node, |reader| seed.deserialize(At { reader, node }))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a map whose keys are a struct's fields.
struct StructEntries<'a, 'd> {
    reader: &'a Reader<'d>,
    map: Identity,
    fields: &'static [&'static str],
    rest: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
    /// Fields that the map lacks: each gets a stand-in, so that the next one is found.
    lacking: Vec<&'static str>,
    field: Option<&'static str>,
}

impl<'de> MapAccess<'de> for StructEntries<'_, '_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        for (key, node) in self.rest.by_ref() {
            let Some(field) = self.fields.iter().copied().find(|field| *field == key.text) else {
                continue;
            };
            let turn = self.reader.bad.borrow().get(&identity(node)).copied();
            if turn.is_some_and(|turn| turn >= fake::TURNS) {
                // No stand-in fits: as if the field were not there, and nobody complains of that.
                self.reader.fakes.set(self.reader.fakes.get() + 1);
                self.reader.missing.borrow_mut().insert((self.map, field), fake::TURNS);
                continue;
            }
            self.value = Some(node);
            let name: StrDeserializer<'_, Mistake> = key.text.as_str().into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        let spent = |field: &'static str| {
            self.reader.missing.borrow().get(&(self.map, field)) >= Some(&fake::TURNS)
        };
        self.lacking.retain(|field| !spent(field));
        let Some(field) = self.lacking.pop() else { return Ok(None) };
        self.field = Some(field);
        let name: StrDeserializer<'_, Mistake> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let reader = self.reader;
        let Some(node) = self.value.take() else {
            let Some(field) = self.field.take() else { return Err(Mistake::Again) };
            let which = (self.map, field);
            let turn = reader.missing.borrow().get(&which).copied().unwrap_or(0);
            return reader.stand_in(seed, turn, || {
                reader.missing.borrow_mut().insert(which, turn + 1);
            });
        };
        let turn = reader.bad.borrow().get(&identity(node)).copied();
        match turn {
            None => reader.enter(node, |reader| seed.deserialize(At { reader, node })),
            Some(turn) => reader.stand_in(seed, turn, || {
                reader.bad.borrow_mut().insert(identity(node), turn + 1);
            }),
        }
    }
}

/// The variant that a word names, and what stands under the word.
struct Variant<'a, 'd> {
    reader: &'a Reader<'d>,
    node: &'a Node,
    word: &'a str,
    content: Option<&'a Node>,
    hidden: bool,
}

impl<'de, 'a, 'd> EnumAccess<'de> for Variant<'a, 'd> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Mistake> {
        let word: StrDeserializer<'_, Mistake> = self.word.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'a, 'd> Variant<'a, 'd> {
    fn content(&self) -> Result<&'a Node, Mistake> {
        self.content.ok_or_else(|| {
            self.reader.reject(self.node, format!("`{}` needs a value", self.word), |d| {
                d.expected(format!("`{}: …`", self.word));
            })
        })
    }

    fn enter<T>(&self, read: impl FnOnce(At<'a, 'd>) -> Result<T, Mistake>) -> Result<T, Mistake> {
        let node = self.content()?;
        let reader = self.reader;
        if reader.is_bad(node) {
            // Known to be bad: so is what holds it.
            reader.fakes.set(reader.fakes.get() + 1);
            return Err(Mistake::Unfit);
        }
        let fits = match &node.value {
            Tree::Scalar { .. } => self.word != secret::COMMAND,
            Tree::List(_) => self.word == secret::COMMAND,
            Tree::Map(_) | Tree::Null => false,
        };
        if self.hidden && !fits {
            return Err(At { reader, node: self.node }.no_variant(true, &[]));
        }
        reader.enter(node, |_| read(At { reader, node }))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        match self.content {
            None => Ok(()),
            Some(node) if node.is_null() => Ok(()),
            Some(node) => {
                Err(self.reader.reject(node, format!("`{}` takes no value", self.word), |d| {
                    d.expected(format!("`{}` alone", self.word));
                }))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mistake> {
        self.enter(|at| seed.deserialize(at))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.enter(|at| de::Deserializer::deserialize_tuple(at, len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.enter(|at| de::Deserializer::deserialize_struct(at, "", fields, visitor))
    }
}

#[cfg(test)]
mod tests;
