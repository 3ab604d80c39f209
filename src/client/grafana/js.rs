//! What a browser's language does with numbers and texts, where it differs from ours.

use regex::Regex;

/// A number as `String(x)` writes it.
pub(super) fn text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let (digits, exponent) = digits(value);
    let sign = if value < 0.0 { "-" } else { "" };
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The point stands after that many digits.
    let point = exponent + 1;
    if (-5..=21).contains(&point) {
        return format!("{sign}{}", placed(&digits, point));
    }
    let mark = if exponent < 0 { '-' } else { '+' };
    let (first, rest) = digits.split_at(1);
    let rest = if length > 1 { format!(".{rest}") } else { String::new() };
    format!("{sign}{first}{rest}e{mark}{}", exponent.abs())
}

/// The shortest digits that mean this number, and the exponent of the first.
pub(super) fn digits(value: f64) -> (String, i32) {
    let written = format!("{:e}", value.abs());
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

/// Digits with their point, zeros put where there are no digits.
pub(super) fn placed(digits: &str, point: i32) -> String {
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else if point >= length {
        format!("{digits}{}", zeros(point - length))
    } else {
        let (whole, part) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{part}")
    }
}

/// The first `keep` digits, the last one rounded half up, and whether a digit came in front.
pub(super) fn rounded(digits: &str, keep: usize) -> (String, bool) {
    if keep >= digits.len() {
        return (digits.to_owned(), false);
    }
    let up = digits.as_bytes().get(keep).is_some_and(|digit| *digit >= b'5');
    let mut kept: Vec<u8> = digits.as_bytes().get(..keep).unwrap_or_default().to_vec();
    if up {
        for digit in kept.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return (String::from_utf8(kept).unwrap_or_default(), false);
            }
            *digit = b'0';
        }
        kept.insert(0, b'1');
        return (String::from_utf8(kept).unwrap_or_default(), true);
    }
    (String::from_utf8(kept).unwrap_or_default(), false)
}

/// `Math.round`: a half goes up, below zero too.
pub(super) fn round(value: f64) -> f64 {
    let away = value.round();
    if value - value.trunc() == -0.5 { value.ceil() } else { away }
}

/// `Number(text)`; NaN where it is none.
pub(super) fn number(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let digits =
            text.strip_prefix(prefix).or_else(|| text.strip_prefix(&prefix.to_uppercase()));
        if let Some(digits) = digits {
            return u64::from_str_radix(digits, radix).map_or(f64::NAN, |value| value as f64);
        }
    }
    match text.trim_start_matches(['+', '-']) {
        "Infinity" if text.len() <= "-Infinity".len() => {
            if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
        bare if bare
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) =>
        {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// `parseFloat(text)`: the number that a text begins with.
pub(super) fn leading(text: &str) -> f64 {
    let text = text.trim_start();
    let mut end = 0;
    let mut best = f64::NAN;
    for (at, letter) in text.char_indices() {
        if !matches!(letter, '0'..='9' | '.' | 'e' | 'E' | '+' | '-') {
            break;
        }
        end = at + letter.len_utf8();
        if let Some(Ok(value)) = text.get(..end).map(str::parse::<f64>) {
            best = value;
        }
    }
    if text.trim_start_matches(['+', '-']).starts_with("Infinity") && end <= 1 {
        return if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    best
}

/// A pattern of a dashboard: `/…/flags`, else one that a whole text must match.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    pub(super) global: bool,
}

impl Pattern {
    /// The error says that the pattern can't be computed: looking around, or back at a group.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let cannot = || format!("the pattern {text:?} can't be computed here");
        let (body, flags) = match text.strip_prefix('/') {
            Some(rest) => rest.rsplit_once('/').ok_or_else(cannot)?,
            None => return Self::build(&format!("^{text}$"), "").ok_or_else(cannot),
        };
        if !flags.bytes().all(|flag| b"gims".contains(&flag)) {
            return Err(cannot());
        }
        Self::build(body, flags).ok_or_else(cannot)
    }

    /// One without slashes that may match anywhere.
    pub(super) fn anywhere(text: &str) -> Result<Self, String> {
        Self::build(text, "").ok_or_else(|| format!("the pattern {text:?} can't be computed here"))
    }

    fn build(body: &str, flags: &str) -> Option<Self> {
        let regex = regex::RegexBuilder::new(body)
            .case_insensitive(flags.contains('i'))
            .multi_line(flags.contains('m'))
            .dot_matches_new_line(flags.contains('s'))
            .size_limit(1 << 18)
            .build()
            .ok()?;
        Some(Self { regex, global: flags.contains('g') })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub(super) fn regex(&self) -> &Regex {
        &self.regex
    }

    /// `text.replace(pattern, with)`, where `with` has `$1`, `$&` and `$$`.
    pub(super) fn replace(&self, text: &str, with: &str) -> String {
        let with = |found: &regex::Captures<'_>| expanded(with, found);
        if self.global {
            self.regex.replace_all(text, with).into_owned()
        } else {
            self.regex.replace(text, with).into_owned()
        }
    }
}

fn expanded(template: &str, found: &regex::Captures<'_>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        // Two digits where there are so many groups, else one.
        let group = (1..=digits).rev().find_map(|length| {
            let number: usize = rest.get(..length)?.parse().ok()?;
            (number > 0 && number < found.len()).then_some((number, length))
        });
        if let Some((number, length)) = group {
            text.push_str(found.get(number).map_or("", |group| group.as_str()));
            rest = rest.get(length..).unwrap_or_default();
        } else if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('&') {
            text.push_str(found.get(0).map_or("", |whole| whole.as_str()));
            rest = after;
        } else {
            text.push('$');
        }
    }
    text.push_str(rest);
    text
}
