//! Texts that a regular expression matches, made by a walk over its syntax tree.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Longer texts than this are of no use in an event.
const TEXT_LIMIT: usize = 4_096;
/// A tree of nested repetitions of nothing never grows the text.
const STEPS_LIMIT: u32 = 100_000;

/// A text that should match, one of many: `variant` chooses among alternatives, characters and
/// repetitions. Anchors and word boundaries are not looked at, so the caller asks whether it does.
pub(super) fn text(pattern: &str, variant: u32) -> Option<String> {
    let hir = regex_syntax::ParserBuilder::new().build().parse(pattern).ok()?;
    let mut made = Made { text: String::new(), state: variant, variant, steps: 0 };
    made.walk(&hir).then_some(made.text)
}

struct Made {
    text: String,
    state: u32,
    variant: u32,
    steps: u32,
}

impl Made {
    /// The first variants take the first of everything, the later ones anything.
    fn choose(&mut self, count: usize) -> usize {
        if self.variant < 2 || count < 2 {
            return 0;
        }
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(self.state >> 8).unwrap_or(0) % count
    }

    fn walk(&mut self, hir: &Hir) -> bool {
        self.steps += 1;
        if self.text.len() > TEXT_LIMIT || self.steps > STEPS_LIMIT {
            return false;
        }
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => true,
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => {
                    self.text.push_str(text);
                    true
                }
                Err(_) => false,
            },
            HirKind::Class(class) => match self.character(class) {
                Some(c) => {
                    self.text.push(c);
                    true
                }
                None => false,
            },
            HirKind::Repetition(repetition) => {
                // Once where it may be, so that what is asked for is seen; the second variant as
                // rarely as it may.
                let least = repetition.min;
                let wanted = if self.variant == 1 { least } else { least.max(1) };
                let more = if self.variant > 3 { self.choose(3) as u32 } else { 0 };
                let most = repetition.max.unwrap_or(u32::MAX);
                for _ in 0..wanted.saturating_add(more).min(most) {
                    if !self.walk(&repetition.sub) {
                        return false;
                    }
                }
                true
            }
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().all(|part| self.walk(part)),
            HirKind::Alternation(parts) => {
                let chosen = self.choose(parts.len());
                parts.get(chosen).is_some_and(|part| self.walk(part))
            }
        }
    }

    fn character(&mut self, class: &Class) -> Option<char> {
        let ranges: Vec<(char, char)> = match class {
            Class::Unicode(class) => class.iter().map(|r| (r.start(), r.end())).collect(),
            Class::Bytes(class) => {
                class.iter().map(|r| (char::from(r.start()), char::from(r.end()))).collect()
            }
        };
        let has = |c: char| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
        // What reads well, before whatever is first.
        const USUAL: [char; 14] =
            ['a', 'e', 'x', 'A', '1', '0', '7', 'f', 'z', ' ', '-', '_', '.', '/'];
        let usual: Vec<char> = USUAL.into_iter().filter(|c| has(*c)).collect();
        if !usual.is_empty() {
            let chosen = self.choose(usual.len());
            return usual.get(chosen).copied();
        }
        let printable = ('!'..='~').find(|c| has(*c));
        printable.or_else(|| ranges.first().map(|(low, _)| *low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_matches() {
        for pattern in [
            "abc",
            "(?i)foo|bar[0-9]{2,4}",
            r"\d{1,3}(\.\d{1,3}){3}",
            r"^[^a-z]+\s\S*$",
            r"cmd(\.exe)?\s+/c\s.*(del|rd)",
            r"[\x{2013}\x{2014}-]enc",
        ] {
            let regex = regex::Regex::new(pattern).expect("the pattern is right");
            let made = (0..8).filter_map(|variant| text(pattern, variant));
            let right = made.filter(|made| regex.is_match(made)).count();
            assert!(right >= 6, "{pattern}: {right} of 8");
        }
        assert_eq!(text("a{5000}", 0), None, "nothing that long");
        assert_eq!(text("(", 0), None);
    }
}
