//! Where two texts differ, word by word: the longest common subsequence of their words.

use serde::{Deserialize, Serialize};

/// Words of one text that are compared; both are short, since what is kept of a text is.
const WORDS_LIMIT: usize = 1_024;

/// A stretch of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Part {
    pub is: Is,
    pub text: String,
}

/// What a stretch is, seen from what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Is {
    Same,
    /// Sent, and not shown.
    Missing,
    /// Shown, and not sent.
    Added,
}

/// What was sent, and what of it was shown; empty where both are one.
pub(super) fn parts(sent: &str, shown: &str) -> Vec<Part> {
    if sent == shown {
        return Vec::new();
    }
    let (a, b) = (words(sent), words(shown));
    // common[i][j]: of the words from i and from j on; a row for each i.
    let width = b.len() + 1;
    let mut common = vec![0_u16; (a.len() + 1) * width];
    let at = |common: &[u16], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    for (i, left) in a.iter().enumerate().rev() {
        for (j, right) in b.iter().enumerate().rev() {
            let longest = if left == right {
                at(&common, i + 1, j + 1).saturating_add(1)
            } else {
                at(&common, i + 1, j).max(at(&common, i, j + 1))
            };
            if let Some(cell) = common.get_mut(i * width + j) {
                *cell = longest;
            }
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut push = |is: Is, word: &str| match parts.last_mut() {
        Some(last) if last.is == is => last.text.push_str(word),
        _ => parts.push(Part { is, text: word.to_owned() }),
    };
    let (mut i, mut j) = (0, 0);
    loop {
        match (a.get(i), b.get(j)) {
            (Some(left), Some(right)) if left == right => {
                push(Is::Same, left);
                (i, j) = (i + 1, j + 1);
            }
            (Some(left), right)
                if right.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) =>
            {
                push(Is::Missing, left);
                i += 1;
            }
            (_, Some(right)) => {
                push(Is::Added, right);
                j += 1;
            }
            (_, None) => break,
        }
    }
    parts
}

/// Runs of letters and digits, and every other character by itself; the last holds what is beyond
/// the limit.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if words.len() + 1 >= WORDS_LIMIT {
            words.push(rest);
            break;
        }
        let end = if first.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        words.push(word);
        rest = behind;
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(sent: &str, shown: &str) -> String {
        let mark = |part: Part| match part.is {
            Is::Same => part.text,
            Is::Missing => format!("[-{}-]", part.text),
            Is::Added => format!("{{+{}+}}", part.text),
        };
        parts(sent, shown).into_iter().map(mark).collect()
    }

    #[test]
    fn what_is_missing_and_what_came_is_marked() {
        assert_eq!(parts("same text", "same text"), []);
        assert_eq!(
            told("login of root, event 7", "login of root, ev"),
            "login of root, [-event 7-]{+ev+}"
        );
        assert_eq!(told("a b c", "a c"), "a [-b -]c");
        assert_eq!(told("a c", "host a c"), "{+host +}a c");
        assert_eq!(told("login ok", "LOGIN ok"), "[-login-]{+LOGIN+} ok");
        assert_eq!(told("", "x"), "{+x+}");
        assert_eq!(told("x", ""), "[-x-]");
        assert_eq!(told("Zürich 東京", "Z?rich 東京"), "[-Zürich-]{+Z?rich+} 東京");
    }

    #[test]
    fn both_texts_can_be_made_of_the_parts() {
        let mut runner = proptest::test_runner::TestRunner::default();
        let text = || "[ab ,é]{0,40}|.{0,60}";
        runner
            .run(&(text(), text()), |(sent, shown)| {
                let parts = parts(&sent, &shown);
                let without = |not: Is| -> String {
                    parts.iter().filter(|p| p.is != not).map(|p| p.text.as_str()).collect()
                };
                if sent == shown {
                    prop_assert!(parts.is_empty());
                } else {
                    prop_assert_eq!(without(Is::Added), sent);
                    prop_assert_eq!(without(Is::Missing), shown);
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        eprintln!("property differences: {} inputs", runner.config().cases);
        let long = "word ".repeat(5_000);
        assert!(!parts(&long, "word").is_empty(), "a long text costs no more than the limit");
    }
}
