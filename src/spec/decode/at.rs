//! The deserializer of one place. What depends on the type that is read is kept short here, for it
//! is compiled once for each of a hundred types; the rest asks no type.

use serde::de::{self, DeserializeSeed, Expected, Visitor};

use super::fake::Fake;
use super::inside::{Entries, Fields, Items, Variant};
use super::scalar;
use super::{Mistake, Reader, identity};
use crate::spec::yaml::{Node, Tree, shortened};
use crate::spec::{did_you_mean, one_of, secret};

#[derive(Clone, Copy)]
pub(super) struct At<'a, 'd> {
    pub(super) reader: &'a Reader<'d>,
    pub(super) place: Place<'a>,
}

/// A node, or what stands in for one that could not be read.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Node(&'a Node),
    Fake(Fake),
}

impl<'a, 'd> At<'a, 'd> {
    /// Reads what is here, and puts what is wrong with it at its place.
    pub(super) fn enter<T>(
        self,
        read: impl FnOnce(Self) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        let fakes = self.reader.fakes.get();
        read(self).map_err(|mistake| self.failed(mistake, fakes))
    }

    pub(super) fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mistake> {
        self.enter(|at| seed.deserialize(at))
    }

    fn failed(self, mistake: Mistake, fakes: usize) -> Mistake {
        match self.place {
            Place::Node(node) => self.reader.place(node, mistake, fakes),
            Place::Fake(fake) => fake.failed(self.reader, mistake),
        }
    }

    /// What stands in for a part of this place, where it is a stand-in itself.
    fn deeper(self) -> Result<Self, Mistake> {
        match self.place {
            Place::Node(_) => Ok(self),
            Place::Fake(fake) => Ok(Self { place: Place::Fake(fake.deeper()?), ..self }),
        }
    }

    fn text(self, expected: &dyn Expected) -> Result<&'a str, Mistake> {
        match self.place {
            Place::Fake(fake) => Ok(fake.text()),
            Place::Node(Node { value: Tree::Scalar { text, .. }, .. }) => Ok(text),
            Place::Node(node) => Err(self.reader.wrong(node, expected)),
        }
    }

    fn boolean(self) -> Result<bool, Mistake> {
        let node = match self.place {
            Place::Fake(_) => return Ok(false),
            Place::Node(node) => node,
        };
        let value = match &node.value {
            Tree::Scalar { text, plain: true } => scalar::boolean(text),
            _ => None,
        };
        value.ok_or_else(|| self.reader.wrong_as(node, "`true` or `false`".into()))
    }

    /// A whole number in a range.
    fn whole(self, min: i128, max: u128) -> Result<i128, Mistake> {
        let node = match self.place {
            Place::Fake(_) => return Ok(1),
            Place::Node(node) => node,
        };
        let number = match &node.value {
            Tree::Scalar { text, plain: true } => scalar::integer(text),
            _ => None,
        };
        let fits = |number: &i128| *number >= min && (*number < 0 || *number as u128 <= max);
        number.filter(fits).ok_or_else(|| self.reader.wrong_as(node, scalar::range(min, max)))
    }

    fn number(self) -> Result<f64, Mistake> {
        let node = match self.place {
            Place::Fake(_) => return Ok(1.0),
            Place::Node(node) => node,
        };
        let number = match &node.value {
            Tree::Scalar { text, plain: true } => scalar::float(text),
            _ => None,
        };
        number.ok_or_else(|| self.reader.wrong_as(node, "a number".into()))
    }

    fn nothing(self) -> Result<(), Mistake> {
        match self.place {
            Place::Fake(_) | Place::Node(Node { value: Tree::Null, .. }) => Ok(()),
            Place::Node(node) => Err(self.reader.wrong_as(node, "nothing".into())),
        }
    }

    fn list(self, len: Option<usize>) -> Result<Items<'a, 'd>, Mistake> {
        let node = match self.place {
            Place::Fake(fake) => return Ok(Items::fake(self.reader, fake, len.unwrap_or(0))),
            Place::Node(node) => node,
        };
        match (&node.value, len) {
            (Tree::List(items), None) => Ok(Items::new(self.reader, items)),
            (Tree::List(items), Some(len)) if items.len() == len => {
                Ok(Items::new(self.reader, items))
            }
            (_, None) => Err(self.reader.wrong_as(node, "a list".into())),
            (_, Some(len)) => Err(self.reader.wrong_as(node, format!("a list of {len} items"))),
        }
    }

    fn map(self) -> Result<Entries<'a, 'd>, Mistake> {
        match self.place {
            Place::Fake(_) => Ok(Entries::new(self.reader, &[])),
            Place::Node(Node { value: Tree::Map(entries), .. }) => {
                Ok(Entries::new(self.reader, entries))
            }
            Place::Node(node) => Err(self.reader.wrong_as(node, "a map (`key: value`)".into())),
        }
    }

    /// A kind that needs nothing may be written as `tcp:` with nothing behind it.
    fn fields(self, fields: &'static [&'static str]) -> Result<Fields<'a, 'd>, Mistake> {
        let node = match self.place {
            Place::Fake(fake) => return Ok(Fields::fake(self.reader, fake, fields)),
            Place::Node(node) => node,
        };
        let entries = match &node.value {
            Tree::Map(entries) => entries.as_slice(),
            Tree::Null => &[],
            _ => {
                let keys = if fields.is_empty() {
                    String::from("nothing")
                } else {
                    format!("a map with {}", one_of(fields).replace("` or `", "`, `"))
                };
                return Err(self.reader.wrong_as(node, keys));
            }
        };
        for (key, node) in entries {
            if !fields.contains(&key.text.as_str()) {
                self.reader.unknown_key(key, node, fields);
            }
        }
        Ok(Fields::new(self.reader, identity(node), fields, entries))
    }

    /// A word, or a map with the one word that names the variant.
    fn variant(
        self,
        name: &'static str,
        variants: &'static [&'static str],
    ) -> Result<Variant<'a, 'd>, Mistake> {
        let node = match self.place {
            Place::Fake(_) => {
                let word = variants.first().copied().ok_or(Mistake::Unfit)?;
                return Ok(Variant { at: self, word, content: None, hidden: false });
            }
            Place::Node(node) => node,
        };
        let hidden = name == secret::NAME;
        let (word, content) = match &node.value {
            Tree::Scalar { text, .. } if !hidden => (text.as_str(), None),
            Tree::Map(entries) => match entries.as_slice() {
                [(key, content)] => (key.text.as_str(), Some(content)),
                _ => return Err(self.reader.no_variant(node, hidden, variants)),
            },
            _ => return Err(self.reader.no_variant(node, hidden, variants)),
        };
        if variants.contains(&word) {
            return Ok(Variant { at: self, word, content, hidden });
        }
        if hidden {
            return Err(self.reader.no_variant(node, hidden, variants));
        }
        Err(self.reader.reject(node, format!("unknown word `{}`", shortened(word)), |d| {
            d.expected(one_of(variants)).did_you_mean(did_you_mean(word, variants.iter().copied()));
        }))
    }
}

/// The methods that read whole numbers, each with its own range.
macro_rules! whole {
    ($($method:ident $type:ident $visit:ident),+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            visitor.$visit(self.whole($type::MIN as i128, $type::MAX as u128)? as $type)
        })+
    };
}

/// The methods that read a text.
macro_rules! texts {
    ($($method:ident),+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            let text = self.text(&visitor)?;
            visitor.visit_str(text)
        })+
    };
}

impl<'de> de::Deserializer<'de> for At<'_, '_> {
    type Error = Mistake;

    whole! {
        deserialize_i8 i8 visit_i8, deserialize_i16 i16 visit_i16, deserialize_i32 i32 visit_i32, deserialize_i64 i64 visit_i64,
        deserialize_i128 i128 visit_i128, deserialize_u8 u8 visit_u8, deserialize_u16 u16 visit_u16, deserialize_u32 u32 visit_u32,
        deserialize_u64 u64 visit_u64, deserialize_u128 u128 visit_u128
    }

    texts! {
        deserialize_char, deserialize_str, deserialize_string, deserialize_bytes, deserialize_byte_buf,
        deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let node = match self.place {
            Place::Fake(fake) => return visitor.visit_str(fake.text()),
            Place::Node(node) => node,
        };
        match &node.value {
            Tree::Null => visitor.visit_unit(),
            Tree::Scalar { text, plain: true } => scalar::infer(text, visitor),
            Tree::Scalar { text, plain: false } => visitor.visit_str(text),
            Tree::List(items) => visitor.visit_seq(Items::new(self.reader, items)),
            Tree::Map(entries) => visitor.visit_map(Entries::new(self.reader, entries)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_bool(self.boolean()?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_f64(self.number()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_f64(self.number()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.place {
            Place::Fake(_) | Place::Node(Node { value: Tree::Null, .. }) => visitor.visit_none(),
            Place::Node(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.nothing()?;
        visitor.visit_unit()
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
        visitor.visit_newtype_struct(self.deeper()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_seq(self.list(None)?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_seq(self.list(Some(len))?)
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
        visitor.visit_map(self.map()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_map(self.fields(fields)?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_enum(self.variant(name, variants)?)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }
}

impl Reader<'_> {
    pub(super) fn no_variant(&self, node: &Node, hidden: bool, variants: &[&str]) -> Mistake {
        if hidden {
            self.diagnostics.borrow_mut().blot(node.span);
            return self.reject(node, "a secret is never written here".into(), |d| {
                d.sensitive()
                    .expected("`{env: NAME}`, `{file: PATH}` or `{command: [PROGRAM, ARGUMENT]}`");
            });
        }
        self.wrong_as(node, format!("one of {}", one_of(variants)))
    }
}
