//! Stands in for a node that could not be read, so that the rest of its map is read all the same.
//! What is made of it is thrown away.

use super::{Identity, Mistake, Reader};

/// Texts to try where a type reads text of its own: one of them suits a name, a period, a size, a
/// share, an address, a URL.
const TEXTS: [&str; 8] = ["x", "1s", "1B", "50%", "1", "127.0.0.1", "127.0.0.1:1", "http://x/"];

/// How many stand-ins there are to try.
pub(super) const TURNS: usize = TEXTS.len();

/// A type that needs itself can't be made up; no spec nests this deep.
const DEPTH: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct Fake {
    turn: usize,
    depth: usize,
    /// What it stands in for; None inside of another.
    instead_of: Option<InsteadOf>,
}

#[derive(Clone, Copy)]
pub(super) enum InsteadOf {
    Node(Identity),
    Field(Identity, &'static str),
}

impl Fake {
    pub(super) fn new(turn: usize, instead_of: InsteadOf) -> Self {
        Self { turn, depth: 0, instead_of: Some(instead_of) }
    }

    pub(super) fn deeper(self) -> Result<Self, Mistake> {
        if self.depth >= DEPTH {
            return Err(Mistake::Unfit);
        }
        Ok(Self { depth: self.depth + 1, instead_of: None, ..self })
    }

    pub(super) fn text(self) -> &'static str {
        TEXTS.get(self.turn).copied().unwrap_or_default()
    }

    /// The next one is tried in its place, until all were.
    pub(super) fn failed(self, reader: &Reader<'_>, mistake: Mistake) -> Mistake {
        let next = self.turn + 1;
        match self.instead_of {
            None => return mistake,
            Some(InsteadOf::Node(node)) => {
                reader.bad.borrow_mut().insert(node, next);
            }
            Some(InsteadOf::Field(map, field)) => {
                reader.missing.borrow_mut().insert((map, field), next);
            }
        }
        Mistake::Again
    }
}
