//! The texts that a plan was read from, and places in them.

use super::Diagnostics;

/// Which text a place is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// One file, pack or standard input.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the operator knows it: the path, `pack:NAME` or `-`.
    pub name: String,
    pub text: String,
}

/// Every text that the plan was read from; only ever added to, so that a place stays valid.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
}

impl Sources {
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        let id = SourceId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(Source { name: name.into(), text: text.into() });
        id
    }

    /// Adds what a file holds; bytes that are no text are a mistake that names their place.
    pub fn add_bytes(
        &mut self,
        name: impl Into<String>,
        bytes: &[u8],
        diagnostics: &mut Diagnostics,
    ) -> Option<SourceId> {
        let name = name.into();
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(self.add(name, text)),
            Err(error) => {
                let at = error.valid_up_to();
                let line = 1 + bytes.iter().take(at).filter(|b| **b == b'\n').count();
                diagnostics
                    .error_in(name, format!("byte {} (line {line}) is not UTF-8 text", at + 1))
                    .expected("a YAML file in UTF-8");
                None
            }
        }
    }

    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.list.get(usize::try_from(id.0).ok()?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.list.iter()
    }

    /// `file:line:column`.
    pub fn place(&self, span: Span) -> String {
        let name = self.get(span.source).map_or("?", |source| source.name.as_str());
        format!("{name}:{}:{}", span.line, span.column)
    }
}

/// Some words of a source: line and column of their first character, from 1, and their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub source: SourceId,
    pub line: u32,
    pub column: u32,
    pub start: usize,
    pub end: usize,
}
