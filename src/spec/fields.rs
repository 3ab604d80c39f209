//! Reads a map key by key, where a plain struct can't say what may stand in it: a check has one
//! key that names its kind.

use serde::de::DeserializeOwned;

use super::decode::{decode, unknown_key};
use super::diagnostics::Diagnostics;
use super::source::Span;
use super::yaml::{Key, Node, Tree};
use super::{did_you_mean, one_of};

/// The entries of a map that nobody has asked for yet.
#[derive(Debug)]
pub struct Fields {
    what: String,
    span: Span,
    rest: Vec<(Key, Node)>,
    asked: Vec<String>,
}

impl Fields {
    /// `what` is the thing that is read, with its article: "a check". Nothing at all is an empty
    /// map: `finish` and `require` say what it lacks.
    pub fn new(node: &Node, what: &str, diagnostics: &mut Diagnostics) -> Option<Self> {
        let rest = match &node.value {
            Tree::Map(entries) => entries.clone(),
            Tree::Null => Vec::new(),
            Tree::Scalar { .. } | Tree::List(_) => {
                diagnostics
                    .error(node.span, format!("found {}", node.describe()))
                    .expected(format!("{what}: a map (`key: value`)"));
                return None;
            }
        };
        Some(Self { what: what.to_owned(), span: node.span, rest, asked: Vec::new() })
    }

    /// Where the map stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Where the value under this key stands, while it has not been taken.
    pub fn spanned(&self, key: &str) -> Option<Span> {
        self.rest.iter().find(|(k, _)| k.text == key).map(|(_, node)| node.span)
    }

    /// What stands under this key, undecoded.
    pub fn take_node(&mut self, key: &str) -> Option<Node> {
        self.take_entry(key).map(|(_, node)| node)
    }

    fn take_entry(&mut self, key: &str) -> Option<(Key, Node)> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        let at = self.rest.iter().position(|(k, _)| k.text == key)?;
        Some(self.rest.remove(at))
    }

    /// The value under this key; None where it is absent, empty, or a mistake.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        key: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<T> {
        let node = self.take_node(key)?;
        if node.is_null() { None } else { decode(&node, diagnostics) }
    }

    /// The value under this key, which must be there.
    pub fn require<T: DeserializeOwned>(
        &mut self,
        key: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<T> {
        match self.take_node(key) {
            Some(node) => decode(&node, diagnostics),
            None => {
                diagnostics.error(self.span, format!("{} lacks `{key}`", self.what));
                None
            }
        }
    }

    /// What stands under this key, undecoded; a mistake where it is absent.
    pub fn require_node(&mut self, key: &str, diagnostics: &mut Diagnostics) -> Option<Node> {
        let node = self.take_node(key);
        if node.is_none() {
            diagnostics
                .error(self.span, format!("{} needs `{key}`", self.what))
                .expected(format!("the key `{key}`"));
        }
        node
    }

    /// The keys that nobody has asked for yet.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.rest.iter().map(|(key, _)| key)
    }

    /// The one key that names a kind, and what stands under it.
    pub fn take_one_of(
        &mut self,
        kinds: &[&str],
        diagnostics: &mut Diagnostics,
    ) -> Option<(String, Key, Node)> {
        let mut named: Vec<(Key, Node)> = Vec::new();
        for kind in kinds {
            named.extend(self.take_entry(kind));
        }
        named.sort_by_key(|(key, _)| key.span.start);
        let mut named = named.into_iter();
        match (named.next(), named.next()) {
            (Some((key, node)), None) => Some((key.text.clone(), key, node)),
            (Some((first, _)), Some((second, _))) => {
                let text = format!(
                    "{} is of one kind, not `{}` and `{}`",
                    self.what, first.text, second.text
                );
                diagnostics.error(second.span, text).hint("leave one out, or write two of them");
                None
            }
            (None, _) => {
                // A kind that is written wrong is one mistake, not two.
                let similar = self
                    .rest
                    .iter()
                    .position(|(key, _)| did_you_mean(&key.text, kinds.iter().copied()).is_some());
                match similar.map(|at| self.rest.remove(at)) {
                    Some((key, node)) => unknown_key(diagnostics, &key, &node, kinds),
                    None => {
                        diagnostics
                            .error(
                                self.span,
                                format!("{} has no key that names its kind", self.what),
                            )
                            .expected(one_of(kinds));
                    }
                }
                None
            }
        }
    }

    /// Every key that nobody asked for is a mistake. `known` are further keys that may stand here.
    pub fn finish(self, known: &[&str], diagnostics: &mut Diagnostics) {
        let mut all: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        for key in known {
            if !all.contains(key) {
                all.push(key);
            }
        }
        for (key, node) in &self.rest {
            if !known.contains(&key.text.as_str()) {
                unknown_key(diagnostics, key, node, &all);
            }
        }
    }
}

#[cfg(test)]
mod tests;
