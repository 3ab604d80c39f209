//! What a plain scalar is, by the core schema of YAML 1.2 (10.3.2), finite numbers only.

use serde::de::Visitor;

use super::Mistake;

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

pub(super) fn integer(text: &str) -> Option<i128> {
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits(unsigned, 10)?;
    text.parse().ok()
}

fn digits(text: &str, radix: u32) -> Option<i128> {
    if text.is_empty() || !text.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    i128::from_str_radix(text, radix).ok()
}

pub(super) fn float(text: &str) -> Option<f64> {
    if let Some(integer) = integer(text) {
        return Some(integer as f64);
    }
    let decimal = text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    text.parse().ok().filter(|number: &f64| decimal && number.is_finite())
}

/// Where anything is taken: a number where it looks like one.
pub(super) fn infer<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Mistake> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return visitor.visit_unit();
    }
    if let Some(value) = boolean(text) {
        return visitor.visit_bool(value);
    }
    if let Some(number) = integer(text) {
        if let Ok(number) = u64::try_from(number) {
            return visitor.visit_u64(number);
        }
        if let Ok(number) = i64::try_from(number) {
            return visitor.visit_i64(number);
        }
    }
    match float(text) {
        Some(number) => visitor.visit_f64(number),
        None => visitor.visit_str(text),
    }
}

/// "a whole number from 0 to 255".
pub(super) fn range(min: i128, max: u128) -> String {
    match (min, max) {
        (0, max) if max > u128::from(u32::MAX) => String::from("a whole number, 0 or more"),
        (_, max) if max > u128::from(u32::MAX) => String::from("a whole number"),
        (min, max) => format!("a whole number from {min} to {max}"),
    }
}
