//! Text from outside, made fit for a terminal: no control sequences, lines of a width.

use unicode_width::UnicodeWidthChar as _;

/// The most characters of a reason in a report for people; the store and the JSON have the rest.
const BRIEF_LIMIT: usize = 600;

/// One line without anything that a terminal, a log or a reader's eye would take for more than
/// text: control characters and those that turn the direction of writing are spelt out.
pub fn clean(text: &str) -> String {
    spelt_out(text.trim())
}

/// The same, with the spaces at its ends.
pub(super) fn spelt_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            // Bidirectional controls (Trojan Source) and separators that break lines.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The lines of a text, each clean, with the spaces at its beginning.
pub(super) fn lines(text: &str) -> String {
    text.lines().map(|line| spelt_out(line.trim_end()) + "\n").collect()
}

/// A clean text of a length that a person reads.
pub(super) fn brief(text: &str) -> String {
    let text = clean(text);
    match text.char_indices().nth(BRIEF_LIMIT) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// The columns that a text takes, character by character: terminals differ in what they make of
/// sequences.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text in lines of at most `width` columns, broken at spaces where there are any. At least
/// one line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let limit = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        for (at, piece) in pieces(word, limit).into_iter().enumerate() {
            let gap = usize::from(!line.is_empty() && at == 0);
            if !line.is_empty() && self::width(&line) + gap + self::width(&piece) > limit {
                lines.push(std::mem::take(&mut line));
            } else if gap == 1 {
                line.push(' ');
            }
            line.push_str(&piece);
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A word that fits no line, in pieces that do.
fn pieces(word: &str, limit: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut taken = 0;
    for c in word.chars() {
        let columns = c.width().unwrap_or(0);
        if taken + columns > limit {
            pieces.push(String::new());
            taken = 0;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
        taken += columns;
    }
    pieces
}

/// The text cut to `width` columns, with an ellipsis where it was longer.
pub(super) fn cut(text: &str, width: usize) -> String {
    if self::width(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        if self::width(&out) + c.width().unwrap_or(0) + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// The text and spaces up to `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(self::width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Spaces up to `width` columns and the text.
pub(super) fn pad_left(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(self::width(text));
    format!("{}{text}", " ".repeat(missing))
}

/// `1 gate`, `3 gates`.
pub fn plural(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_sequences_are_spelt_out() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\u{7}"), "\\x1b[31mred\\x1b[0m\\x07");
        assert_eq!(clean("one\r\ntwo\tthree\n"), "one  two three");
        assert_eq!(clean("\u{9b}2J \u{202e}drow"), "\\x9b2J \\u{202e}drow");
        assert_eq!(brief(&"ü".repeat(1000)).chars().count(), BRIEF_LIMIT + 1);
        assert_eq!(brief(&"ü".repeat(600)).chars().count(), BRIEF_LIMIT);
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghijklmnop q", 8), ["abcdefgh", "ijklmnop", "q"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }

    #[test]
    fn any_text_fits_its_lines() {
        let inputs = std::cell::Cell::new(0_u32);
        let mut runner = proptest::test_runner::TestRunner::default();
        runner
            .run(&(any::<String>(), 8_usize..100), |(text, width)| {
                inputs.set(inputs.get() + 1);
                let cleaned = clean(&text);
                prop_assert!(!cleaned.chars().any(char::is_control));
                for line in wrap(&cleaned, width) {
                    prop_assert!(super::width(&line) <= width, "{:?}", line);
                }
                Ok(())
            })
            .expect("lines fit");
        eprintln!("property any_text_fits_its_lines: {} inputs", inputs.get());
    }
}
