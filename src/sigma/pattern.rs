//! Texts with the wildcards `*` and `?` and their escapes: read, matched, and texts made of them.

/// One place of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Any text, none too.
    Star,
    /// Any one character.
    One,
    Char(char),
}

/// A text with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Place>);

impl Pattern {
    /// `\*`, `\?` and `\\` are the characters themselves; any other backslash is one.
    pub(super) fn parse(text: &str) -> Self {
        let mut places = Vec::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            places.push(match c {
                '*' => Place::Star,
                '?' => Place::One,
                '\\' => match characters.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                    Some(escaped) => Place::Char(escaped),
                    None => Place::Char('\\'),
                },
                c => Place::Char(c),
            });
        }
        Self(places)
    }

    pub(super) fn literal(text: &str) -> Self {
        Self(text.chars().map(Place::Char).collect())
    }

    pub(super) fn starting(mut self) -> Self {
        self.0.push(Place::Star);
        self
    }

    pub(super) fn ending(mut self) -> Self {
        self.0.insert(0, Place::Star);
        self
    }

    pub(super) fn within(self) -> Self {
        self.starting().ending()
    }

    /// As a rule writes it.
    pub(super) fn written(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for place in &self.0 {
            match place {
                Place::Star => text.push('*'),
                Place::One => text.push('?'),
                Place::Char(c) => {
                    if matches!(c, '*' | '?' | '\\') {
                        text.push('\\');
                    }
                    text.push(*c);
                }
            }
        }
        text
    }

    /// The text itself, where it has no wildcards.
    pub(super) fn as_literal(&self) -> Option<String> {
        let one = |place: &Place| match place {
            Place::Char(c) => Some(*c),
            _ => None,
        };
        self.0.iter().map(one).collect()
    }

    pub(super) fn is_exact(&self) -> bool {
        !self.0.contains(&Place::Star)
    }

    pub(super) fn matches(&self, text: &str, cased: bool) -> bool {
        let text: Vec<char> = if cased { text.chars().collect() } else { lower(text) };
        let same = |place: Option<&Place>, c: char| match place {
            Some(Place::One) => true,
            Some(Place::Char(own)) if cased => *own == c,
            Some(Place::Char(own)) => own.to_lowercase().eq(std::iter::once(c)),
            _ => false,
        };
        // The usual way: on a mistake the last star takes one character more.
        let (mut at, mut place) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text.get(at) {
            let here = self.0.get(place);
            if here == Some(&Place::Star) {
                star = Some((place, at));
                place += 1;
            } else if same(here, *c) {
                at += 1;
                place += 1;
            } else if let Some((back, from)) = star {
                star = Some((back, from + 1));
                place = back + 1;
                at = from + 1;
            } else {
                return false;
            }
        }
        self.0.iter().skip(place).all(|place| *place == Place::Star)
    }

    /// Its parts between stars, with something in place of each `?`; whether the first part is the
    /// text's beginning, and the last its end.
    fn parts(&self, one: char) -> (Vec<String>, bool, bool) {
        let starts = self.0.first() != Some(&Place::Star);
        let ends = self.0.last() != Some(&Place::Star);
        let parts = self.0.split(|place| *place == Place::Star).filter(|part| !part.is_empty());
        let text = |part: &[Place]| {
            let char = |place: &Place| match place {
                Place::Char(c) => *c,
                _ => one,
            };
            part.iter().map(char).collect()
        };
        (parts.map(text).collect(), starts, ends)
    }
}

pub(super) fn lower(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// How a text is put together where patterns leave that open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Before what begins nowhere.
    pub(super) lead: &'static str,
    /// Between two parts.
    pub(super) between: &'static str,
    /// After what ends nowhere.
    pub(super) trail: &'static str,
    /// For `?`.
    pub(super) one: char,
    /// The parts in the other order.
    pub(super) back: bool,
}

/// The usual first. `auto` puts a folder before what looks like the end of a path.
pub(super) const MANNERS: [Manner; 14] = {
    const fn manner(lead: &'static str, between: &'static str, trail: &'static str) -> Manner {
        Manner { lead, between, trail, one: 'a', back: false }
    }
    [
        manner("auto", " ", ""),
        manner("auto", "", ""),
        manner("auto", " ", " greenlight"),
        manner("auto", "", "greenlight"),
        manner("", " ", ""),
        manner("", "", ""),
        manner("greenlight", "", ""),
        manner("greenlight ", " ", " greenlight"),
        manner("greenlight", "-", "-greenlight"),
        Manner { back: true, ..manner("auto", " ", "") },
        Manner { back: true, ..manner("", "", "") },
        Manner { one: '1', ..manner("auto", "", "") },
        Manner { one: ' ', ..manner("auto", "", "") },
        Manner { one: '0', back: true, ..manner("greenlight ", " ", " 1") },
    ]
};

/// No event has a longer text.
const TEXT_LIMIT: usize = 8_192;

/// A text made to match all of the patterns. Whether it does, the caller asks.
pub(super) fn merged(patterns: &[&Pattern], manner: &Manner) -> String {
    let mut head = String::new();
    let mut tail = String::new();
    let mut middles: Vec<(&Pattern, Vec<String>)> = Vec::new();
    for pattern in patterns {
        let (mut parts, starts, ends) = pattern.parts(manner.one);
        if starts && ends && pattern.is_exact() {
            return parts.concat();
        }
        if ends
            && let Some(part) = parts.pop()
            && part.len() > tail.len()
        {
            tail = part;
        }
        if starts && !parts.is_empty() {
            let part = parts.remove(0);
            if part.len() > head.len() {
                head = part;
            }
        }
        middles.push((pattern, parts));
    }
    if manner.back {
        middles.reverse();
    }
    let mut text = head.clone();
    if head.is_empty() {
        let first = middles.iter().flat_map(|(_, parts)| parts).next();
        text.push_str(match (manner.lead, first.unwrap_or(&tail).chars().next()) {
            ("auto", Some('\\')) => "C:\\Example",
            ("auto", Some('/')) => "/opt/example",
            ("auto", Some('.' | '@')) if first.is_none() => "greenlight",
            ("auto", _) => "",
            (lead, _) => lead,
        });
    }
    // What is put before the first part leads to it.
    let mut between = if head.is_empty() { "" } else { manner.between };
    for (pattern, parts) in middles {
        if text.len() > TEXT_LIMIT {
            break;
        }
        // What others brought along need not stand there twice.
        if pattern.matches(&format!("{text}{tail}"), false) {
            continue;
        }
        for part in parts {
            joined(&mut text, between, &part);
            between = manner.between;
        }
    }
    if tail.is_empty() {
        joined(&mut text, "", manner.trail);
    } else if !text.to_lowercase().ends_with(&tail.to_lowercase()) {
        joined(&mut text, between, &tail);
    }
    text
}

/// No two spaces, and none at a beginning.
fn joined(text: &mut String, between: &str, part: &str) {
    let spaced = text.is_empty() || text.ends_with(' ') || part.starts_with(' ');
    if !(spaced && between == " ") {
        text.push_str(between);
    }
    text.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_over_a_mistaken_beginning() {
        for (pattern, text, matches) in [
            ("*ab?d", "abcabxd", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "ac", false),
            (r"\*.exe", "*.exe", true),
            (r"\*.exe", "a.exe", false),
            (r"C:\\*\cmd.exe", r"C:\Windows\cmd.exe", true),
            (r"\\\\host", r"\\host", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(Pattern::parse(pattern).matches(text, false), matches, "{pattern} {text}");
        }
        assert!(!Pattern::parse("Abc").matches("abc", true));
        assert!(Pattern::parse("Abc").matches("aBC", false));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [r"C:\\a\*b*", r"\\\\x\?", "plain", r"end\"] {
            let pattern = Pattern::parse(text);
            assert_eq!(Pattern::parse(&pattern.written()), pattern, "{text}");
        }
    }

    #[test]
    fn one_text_is_made_of_several_patterns() {
        let patterns = ["*\\powershell.exe", "*power*", "C:\\\\*"].map(Pattern::parse);
        let all: Vec<&Pattern> = patterns.iter().collect();
        let text = merged(&all, &MANNERS[0]);
        assert!(all.iter().all(|pattern| pattern.matches(&text, false)), "{text}");
    }
}
