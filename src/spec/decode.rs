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

use serde::de::{self, DeserializeOwned, Expected, Unexpected};

use super::diagnostics::{Diagnostic, Diagnostics};
use super::secret;
use super::yaml::{Key, Node, shortened};
use super::{did_you_mean, one_of};
use at::{At, Place};

mod at;
mod fake;
mod inside;
mod scalar;

/// After so many mistakes in one value reading stops: each costs reading it once more.
const MISTAKES: usize = 100;
/// And never more than so many readings, stand-ins that did not fit included.
const READINGS: usize = 1_000;

/// Reads a value, or reports every mistake in it.
pub fn decode<T: DeserializeOwned>(node: &Node, diagnostics: &mut Diagnostics) -> Option<T> {
    let mut value = None;
    let read = readings(node, diagnostics, &mut |at| {
        value = Some(at.enter(T::deserialize)?);
        Ok(())
    });
    value.filter(|_| read)
}

/// Whether the last reading was without a mistake. It is here once for all types.
fn readings(
    node: &Node,
    diagnostics: &mut Diagnostics,
    read: &mut dyn FnMut(At<'_, '_>) -> Result<(), Mistake>,
) -> bool {
    let reader = Reader {
        diagnostics: RefCell::new(diagnostics),
        reported: Cell::new(0),
        fakes: Cell::new(0),
        bad: RefCell::default(),
        missing: RefCell::default(),
        unknown: RefCell::default(),
    };
    for _ in 0..READINGS {
        let at = At { reader: &reader, place: Place::Node(node) };
        match secret::collect(|| read(at)) {
            (Ok(()), secrets) if reader.reported.get() == 0 => {
                reader.diagnostics.borrow_mut().keep_secrets(secrets);
                return true;
            }
            // What was read holds stand-ins; every mistake is known now.
            (Ok(()), _) => return false,
            (Err(Mistake::Again), _) if reader.is_bad(node) => return false,
            (Err(_), _) if reader.reported.get() >= MISTAKES => break,
            (Err(_), _) => {}
        }
    }
    let text = "there are more mistakes here than can be named; mend these first";
    reader.diagnostics.borrow_mut().error(node.span, text);
    false
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

    /// Puts what is wrong with a node at its place. `fakes` were used before it was read.
    fn place(&self, node: &Node, mistake: Mistake, fakes: usize) -> Mistake {
        let genuine = self.fakes.get() == fakes;
        match mistake {
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
        }
    }

    /// A thing that can't be read is left out.
    fn left_out(&self) {
        self.fakes.set(self.fakes.get() + 1);
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

#[cfg(test)]
mod tests;
