//! The text of an event with its words in braces.

mod clock;
mod word;

pub(super) use clock::{Shape, date};
pub(super) use word::{Values, Word, pad};

/// A parsed text: literals and the words between them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Word(Word),
}

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
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            // Its place makes one {int:..} differ from the next in the same event.
            parts.push(Part::Word(Word::parse(word, parts.len() as u64)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn has(&self, word: &Word) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Word(own) if own == word))
    }

    /// The token stands in the text once at least.
    pub(super) fn with_token(mut self) -> Self {
        if !self.has(&Word::Token) {
            if !self.parts.is_empty() {
                self.parts.push(Part::Literal(String::from(" ")));
            }
            self.parts.push(Part::Word(Word::Token));
        }
        self
    }

    pub(super) fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                Part::Word(word) => word.write(values, out),
            }
        }
    }

    pub(super) fn fill(&self, values: &Values<'_>) -> String {
        let mut text = Vec::with_capacity(128);
        self.write(values, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
