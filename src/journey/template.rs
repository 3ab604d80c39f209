//! The text of an event with its words in braces.

use super::Run;

/// A parsed text: literals and the words between them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    Word(Word),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Seq,
    Token,
    Run,
    Time,
    User,
    Address,
    Port,
}

const WORDS: [(&str, Word); 7] = [
    ("seq", Word::Seq),
    ("token", Word::Token),
    ("run", Word::Run),
    ("time", Word::Time),
    ("user", Word::User),
    ("address", Word::Address),
    ("port", Word::Port),
];

/// What the words stand for in one event.
pub(super) struct Values<'a> {
    pub(super) run: &'a Run,
    pub(super) token: &'a str,
    pub(super) seq: u64,
    pub(super) time: &'a str,
}

/// Names that no real account has, so that nobody is blamed for synthetic logins.
const USERS: [&str; 8] = [
    "canary-ada",
    "canary-bob",
    "canary-cleo",
    "canary-dan",
    "canary-eve",
    "canary-finn",
    "canary-gus",
    "canary-hana",
];

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.extend(from.chars().next());
                rest = after;
                continue;
            }
            let Some((word, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}'))
            else {
                return Err(format!(
                    "a lone brace at '{}'; write {{{{ or }}}} for a brace itself",
                    from.chars().take(20).collect::<String>()
                ));
            };
            let Some((_, known)) = WORDS.iter().find(|(name, _)| *name == word) else {
                let names: Vec<_> = WORDS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                return Err(format!(
                    "unknown word '{{{word}}}'; known are {}, and {{{{ for a brace itself",
                    names.join(", ")
                ));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Word(*known));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// The token stands in the text once at least.
    pub(super) fn with_token(mut self) -> Self {
        if !self.parts.contains(&Part::Word(Word::Token)) {
            if !self.parts.is_empty() {
                self.parts.push(Part::Literal(String::from(" ")));
            }
            self.parts.push(Part::Word(Word::Token));
        }
        self
    }

    pub(super) fn fill(&self, values: &Values<'_>) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(128);
        // By run and sequence, so that the same event is always made the same way and no two
        // events of a journey look alike to a filter of duplicates.
        let variety = crc32fast::hash(values.token.as_bytes());
        for part in &self.parts {
            // Writing to a String can't fail.
            let _ = match part {
                Part::Literal(literal) => text.write_str(literal),
                Part::Word(Word::Seq) => write!(text, "{}", values.seq),
                Part::Word(Word::Token) => text.write_str(values.token),
                Part::Word(Word::Run) => text.write_str(values.run),
                Part::Word(Word::Time) => text.write_str(values.time),
                Part::Word(Word::User) => {
                    let index = usize::try_from(variety % 8).unwrap_or(0);
                    text.write_str(USERS.get(index).copied().unwrap_or("canary"))
                }
                // RFC 5737: addresses for documentation, of nobody.
                Part::Word(Word::Address) => {
                    write!(text, "198.51.100.{}", (variety >> 3) % 254 + 1)
                }
                Part::Word(Word::Port) => write!(text, "{}", 1024 + (variety >> 11) % 60_000),
            };
        }
        text
    }
}
