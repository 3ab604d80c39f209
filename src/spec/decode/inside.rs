//! What is inside of a place: the items of a list, the entries of a map, what stands under a word.

use std::slice::Iter;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::at::{At, Place};
use super::fake::{self, Fake, InsteadOf};
use super::{Identity, Mistake, Reader, identity};
use crate::spec::secret;
use crate::spec::yaml::{Key, Node, Tree};

/// The items of a list; bad ones are left out, for the whole is refused in the end.
pub(super) struct Items<'a, 'd> {
    reader: &'a Reader<'d>,
    rest: Iter<'a, Node>,
    /// So many of these, where the list is made up.
    fakes: Option<(Fake, usize)>,
}

impl<'a, 'd> Items<'a, 'd> {
    pub(super) fn new(reader: &'a Reader<'d>, items: &'a [Node]) -> Self {
        Self { reader, rest: items.iter(), fakes: None }
    }

    pub(super) fn fake(reader: &'a Reader<'d>, fake: Fake, len: usize) -> Self {
        Self { reader, rest: [].iter(), fakes: Some((fake, len)) }
    }

    fn next(&mut self) -> Result<Option<At<'a, 'd>>, Mistake> {
        let reader = self.reader;
        if let Some((fake, left)) = &mut self.fakes {
            if *left == 0 {
                return Ok(None);
            }
            *left -= 1;
            return Ok(Some(At { reader, place: Place::Fake(fake.deeper()?) }));
        }
        for node in self.rest.by_ref() {
            if !reader.is_bad(node) {
                return Ok(Some(At { reader, place: Place::Node(node) }));
            }
            reader.left_out();
        }
        Ok(None)
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        match self.next()? {
            Some(at) => at.read(seed).map(Some),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a map whose keys are free.
pub(super) struct Entries<'a, 'd> {
    reader: &'a Reader<'d>,
    rest: Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
}

impl<'a, 'd> Entries<'a, 'd> {
    pub(super) fn new(reader: &'a Reader<'d>, entries: &'a [(Key, Node)]) -> Self {
        Self { reader, rest: entries.iter(), value: None }
    }

    /// The next name, as a node of its own.
    fn next(&mut self) -> Option<(Node, &'a Node)> {
        for (key, node) in self.rest.by_ref() {
            if self.reader.is_bad(node) {
                self.reader.left_out();
                continue;
            }
            self.value = Some(node);
            let value = Tree::Scalar { text: key.text.clone(), plain: true };
            return Some((Node { span: key.span, value }, node));
        }
        None
    }

    /// The name lay on the stack: what is remembered is the entry.
    fn name_failed(&self, name: &Node, node: &Node) {
        self.reader.bad.borrow_mut().remove(&identity(name));
        self.reader.bad.borrow_mut().insert(identity(node), 0);
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let Some((name, node)) = self.next() else { return Ok(None) };
        let read = At { reader: self.reader, place: Place::Node(&name) }.read(seed);
        if read.is_err() {
            self.name_failed(&name, node);
        }
        read.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let Some(node) = self.value.take() else { return Err(Mistake::Again) };
        At { reader: self.reader, place: Place::Node(node) }.read(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a map whose keys are a struct's fields.
pub(super) struct Fields<'a, 'd> {
    reader: &'a Reader<'d>,
    map: Whole,
    fields: &'static [&'static str],
    rest: Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
    /// Fields that the map lacks: each gets a stand-in, so that the next one is found.
    lacking: Vec<&'static str>,
    field: Option<&'static str>,
}

/// The map that the fields are of.
#[derive(Clone, Copy)]
enum Whole {
    Node(Identity),
    Fake(Fake),
}

impl<'a, 'd> Fields<'a, 'd> {
    pub(super) fn new(
        reader: &'a Reader<'d>,
        map: Identity,
        fields: &'static [&'static str],
        entries: &'a [(Key, Node)],
    ) -> Self {
        let lacking = fields.iter().copied().filter(|field| {
            reader.missing.borrow().contains_key(&(map, *field))
                && !entries.iter().any(|(key, _)| key.text == *field)
        });
        let lacking = lacking.collect();
        let (map, rest) = (Whole::Node(map), entries.iter());
        Self { reader, map, fields, rest, value: None, lacking, field: None }
    }

    /// Lacks all of them.
    pub(super) fn fake(
        reader: &'a Reader<'d>,
        fake: Fake,
        fields: &'static [&'static str],
    ) -> Self {
        let (map, rest) = (Whole::Fake(fake), [].iter());
        let lacking = fields.iter().rev().copied().collect();
        Self { reader, map, fields, rest, value: None, lacking, field: None }
    }

    fn next(&mut self) -> Option<&'static str> {
        let reader = self.reader;
        for (key, node) in self.rest.by_ref() {
            let Some(field) = self.fields.iter().copied().find(|field| *field == key.text) else {
                continue;
            };
            let turn = reader.bad.borrow().get(&identity(node)).copied();
            if turn.is_some_and(|turn| turn >= fake::TURNS) {
                // No stand-in fits: as if the field were not there, and nobody complains of that.
                reader.left_out();
                if let Whole::Node(map) = self.map {
                    reader.missing.borrow_mut().insert((map, field), fake::TURNS);
                }
                continue;
            }
            self.value = Some(node);
            return Some(field);
        }
        if let Whole::Node(map) = self.map {
            let missing = reader.missing.borrow();
            self.lacking.retain(|field| missing.get(&(map, *field)) < Some(&fake::TURNS));
        }
        self.field = self.lacking.pop();
        self.field
    }

    fn value(&mut self) -> Result<At<'a, 'd>, Mistake> {
        let reader = self.reader;
        let (turn, instead_of) = if let Some(node) = self.value.take() {
            let Some(turn) = reader.bad.borrow().get(&identity(node)).copied() else {
                return Ok(At { reader, place: Place::Node(node) });
            };
            (turn, InsteadOf::Node(identity(node)))
        } else {
            let Some(field) = self.field.take() else { return Err(Mistake::Again) };
            match self.map {
                Whole::Fake(fake) => {
                    return Ok(At { reader, place: Place::Fake(fake.deeper()?) });
                }
                Whole::Node(map) => {
                    let turn = reader.missing.borrow().get(&(map, field)).copied();
                    (turn.unwrap_or(0), InsteadOf::Field(map, field))
                }
            }
        };
        reader.left_out();
        Ok(At { reader, place: Place::Fake(Fake::new(turn, instead_of)) })
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let Some(field) = self.next() else { return Ok(None) };
        let name: StrDeserializer<'_, Mistake> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        self.value()?.read(seed)
    }
}

/// The variant that a word names, and what stands under the word.
pub(super) struct Variant<'a, 'd> {
    pub(super) at: At<'a, 'd>,
    pub(super) word: &'a str,
    pub(super) content: Option<&'a Node>,
    pub(super) hidden: bool,
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Mistake> {
        let word: StrDeserializer<'_, Mistake> = self.word.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'a, 'd> Variant<'a, 'd> {
    fn content(&self) -> Result<At<'a, 'd>, Mistake> {
        let reader = self.at.reader;
        let node = match self.at.place {
            Place::Fake(fake) => return Ok(At { reader, place: Place::Fake(fake.deeper()?) }),
            Place::Node(node) => node,
        };
        let content = self.content.ok_or_else(|| {
            reader.reject(node, format!("`{}` needs a value", self.word), |d| {
                d.expected(format!("`{}: …`", self.word));
            })
        })?;
        if reader.is_bad(content) {
            // Known to be bad: so is what holds it.
            reader.left_out();
            return Err(Mistake::Unfit);
        }
        let fits = match &content.value {
            Tree::Scalar { .. } => self.word != secret::COMMAND,
            Tree::List(_) => self.word == secret::COMMAND,
            Tree::Map(_) | Tree::Null => false,
        };
        if self.hidden && !fits {
            return Err(reader.no_variant(node, true, &[]));
        }
        Ok(At { reader, place: Place::Node(content) })
    }

    fn alone(&self) -> Result<(), Mistake> {
        match self.content {
            None => Ok(()),
            Some(node) if node.is_null() => Ok(()),
            Some(node) => {
                Err(self.at.reader.reject(node, format!("`{}` takes no value", self.word), |d| {
                    d.expected(format!("`{}` alone", self.word));
                }))
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        self.alone()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mistake> {
        self.content()?.read(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.content()?.enter(|at| de::Deserializer::deserialize_tuple(at, len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.content()?.enter(|at| de::Deserializer::deserialize_struct(at, "", fields, visitor))
    }
}
