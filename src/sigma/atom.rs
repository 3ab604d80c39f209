//! A selection taken apart: what it asks of one field, value by value.

use core::net::IpAddr;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::condition::{Expr, Op};
use super::pattern::Pattern;
use super::refusal::{Refusal, Why};

/// The free text of an event, which keywords are looked for in.
pub(super) const TEXT: &str = "message";
/// More values than this no list of a rule has.
const VALUES_LIMIT: usize = 20_000;

/// An event as a rule sees it: names of fields, and their values.
pub type Event = Map<String, Value>;
/// What stands for `%name%`.
pub type Vars = BTreeMap<String, Vec<String>>;

/// One test of one field.
#[derive(Clone, Debug)]
pub(super) struct Atom {
    pub(super) field: String,
    pub(super) test: Test,
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Like {
        pattern: Pattern,
        cased: bool,
    },
    /// A number or a boolean.
    Equals(Value),
    Regex {
        source: String,
        regex: regex::Regex,
    },
    Cidr(Cidr),
    Order(Op, Value),
    /// There, or not; `null` is not there.
    Exists(bool),
    /// As another field of the same event.
    Ref {
        other: String,
        how: How,
        cased: bool,
    },
    /// Anywhere in the event.
    Keyword(Pattern),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Is,
    Contains,
    Starts,
    Ends,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cidr {
    pub(super) base: IpAddr,
    pub(super) bits: u8,
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { base, bits })
    }

    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        }
    }

    fn free(&self) -> u32 {
        let width = if self.base.is_ipv4() { 32 } else { 128 };
        width - u32::from(self.bits)
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        let Ok(address) = text.parse::<IpAddr>() else { return false };
        let differs = Self::number(address) ^ Self::number(self.base);
        address.is_ipv4() == self.base.is_ipv4()
            && differs.checked_shr(self.free()).unwrap_or(0) == 0
    }

    /// Its first address: what stands in a rule may have bits set behind the network's own.
    pub(super) fn network(&self) -> IpAddr {
        let room = 1_u128.checked_shl(self.free()).map_or(u128::MAX, |room| room - 1);
        let low = Self::number(self.base) & !room;
        match self.base {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(low).unwrap_or(0).into()),
            IpAddr::V6(_) => IpAddr::V6(low.into()),
        }
    }

    /// Some addresses inside.
    pub(super) fn some(&self) -> Vec<String> {
        let room = 1_u128.checked_shl(self.free()).map_or(u128::MAX, |room| room - 1);
        let mask = !room;
        let low = Self::number(self.base) & mask;
        let steps = [10, 1, 2, 77, 300, 70_000, room / 2, room.saturating_sub(1), 0];
        let inside = steps.into_iter().filter(|step| *step <= room);
        inside
            .map(|step| match self.base {
                IpAddr::V4(_) => {
                    let number = u32::try_from((low | step) & u128::from(u32::MAX)).unwrap_or(0);
                    IpAddr::V4(number.into()).to_string()
                }
                IpAddr::V6(_) => IpAddr::V6((low | step).into()).to_string(),
            })
            .collect()
    }
}

/// A scalar as text, as it stands in an event.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Atom {
    pub(super) fn matches(&self, event: &Event) -> bool {
        let value = event.get(&self.field).filter(|value| !value.is_null());
        match (&self.test, value) {
            (Test::Keyword(pattern), _) => {
                event.values().any(|value| pattern.matches(&text_of(value), false))
            }
            (Test::Exists(wanted), value) => value.is_some() == *wanted,
            (_, None) => false,
            (Test::Ref { other, how, cased }, Some(value)) => {
                let Some(other) = event.get(other).filter(|other| !other.is_null()) else {
                    return false;
                };
                if *how == How::Is && !(value.is_string() && other.is_string()) {
                    return value == other;
                }
                how.pattern(&text_of(other)).matches(&text_of(value), *cased || *how == How::Is)
            }
            (test, Some(value)) => test.holds(value),
        }
    }
}

impl How {
    pub(super) fn pattern(self, text: &str) -> Pattern {
        let pattern = Pattern::literal(text);
        match self {
            Self::Is => pattern,
            Self::Contains => pattern.within(),
            Self::Starts => pattern.starting(),
            Self::Ends => pattern.ending(),
        }
    }
}

impl Test {
    /// Whether one value passes, for tests that look at nothing else.
    pub(super) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Like { pattern, cased } => pattern.matches(&text_of(value), *cased),
            Self::Equals(wanted) => wanted == value,
            Self::Regex { regex, .. } => regex.is_match(&text_of(value)),
            Self::Cidr(cidr) => value.as_str().is_some_and(|text| cidr.contains(text)),
            Self::Order(op, bound) => match (value, bound) {
                (Value::Number(left), Value::Number(right)) => {
                    let numbers = left.as_f64().zip(right.as_f64());
                    left.is_f64() == right.is_f64()
                        && numbers.is_some_and(|(left, right)| op.holds(left, right))
                }
                _ => false,
            },
            Self::Keyword(pattern) => pattern.matches(&text_of(value), false),
            Self::Exists(wanted) => *wanted,
            Self::Ref { .. } => false,
        }
    }
}

/// What a selection asks for.
pub(super) fn selection(value: &Value, vars: &Vars) -> Result<Expr<Atom>, Refusal> {
    match value {
        Value::Array(items) if items.is_empty() => {
            Err(Refusal::new(Why::Condition, "a selection is empty"))
        }
        Value::Array(items) => {
            Ok(Expr::Any(items.iter().map(|item| selection(item, vars)).collect::<Result<_, _>>()?))
        }
        Value::Object(fields) if fields.is_empty() => {
            Err(Refusal::new(Why::Condition, "a selection is empty"))
        }
        Value::Object(fields) => Ok(Expr::All(
            fields.iter().map(|(key, value)| field(key, value, vars)).collect::<Result<_, _>>()?,
        )),
        Value::Null => Err(Refusal::new(Why::Condition, "a selection is empty")),
        scalar => Ok(Expr::One(keyword(scalar))),
    }
}

fn keyword(scalar: &Value) -> Atom {
    let pattern = Pattern::parse(&text_of(scalar)).within();
    Atom { field: TEXT.to_owned(), test: Test::Keyword(pattern) }
}

/// What is under way through the modifiers.
#[derive(Clone)]
enum Piece {
    Value(Value),
    /// Text, in some encoding.
    Bytes(Vec<u8>),
    /// What is already as it must stand.
    Literal(String),
}

fn field(key: &str, value: &Value, vars: &Vars) -> Result<Expr<Atom>, Refusal> {
    let mut words = key.split('|');
    let name = words.next().unwrap_or_default().trim();
    let modifiers: Vec<String> = words.map(|word| word.trim().to_ascii_lowercase()).collect();
    let has = |word: &str| modifiers.iter().any(|own| own == word);
    let known = [
        "contains",
        "startswith",
        "endswith",
        "all",
        "re",
        "i",
        "m",
        "s",
        "cidr",
        "base64",
        "base64offset",
        "wide",
        "utf16",
        "utf16le",
        "utf16be",
        "windash",
        "lt",
        "lte",
        "gt",
        "gte",
        "exists",
        "cased",
        "fieldref",
        "expand",
        "neq",
    ];
    let bad = |text: String| Refusal::new(Why::Modifier, format!("`{key}`: {text}"));
    if let Some(strange) = modifiers.iter().find(|word| !known.contains(&word.as_str())) {
        return Err(bad(format!("the modifier `{strange}` is not known")));
    }
    let values: Vec<Value> = match value {
        Value::Array(items) => items.clone(),
        Value::Object(_) => return Err(bad(String::from("a map stands where values would"))),
        scalar => vec![scalar.clone()],
    };
    if values.is_empty() || values.len() > VALUES_LIMIT {
        return Err(bad(format!("it has {} values", values.len())));
    }
    if values.iter().any(|value| value.is_array() || value.is_object()) {
        return Err(bad(String::from("a list or a map stands among its values")));
    }
    if has("exists") {
        return match (values.as_slice(), modifiers.len()) {
            ([Value::Bool(wanted)], 1) => Ok(one(name, Test::Exists(*wanted))),
            _ => Err(bad(String::from("`exists` takes true or false, and no other modifier"))),
        };
    }
    let mut each = Vec::with_capacity(values.len());
    for value in values {
        let mut any = Vec::new();
        for piece in pieces(value, &modifiers, vars).map_err(|r| named(r, key))? {
            let test = test(piece, &modifiers).map_err(|r| named(r, key))?;
            any.push(if name.is_empty() { keyword_of(test, key)? } else { one(name, test) });
        }
        each.push(if any.len() == 1 { any.remove(0) } else { Expr::Any(any) });
    }
    let tests = match (each.len(), has("all")) {
        (1, _) => each.remove(0),
        (_, true) => Expr::All(each),
        (_, false) => Expr::Any(each),
    };
    Ok(if has("neq") { Expr::Not(Box::new(tests)) } else { tests })
}

fn named(mut refusal: Refusal, key: &str) -> Refusal {
    refusal.text = format!("`{key}`: {}", refusal.text);
    refusal
}

fn one(name: &str, test: Test) -> Expr<Atom> {
    Expr::One(Atom { field: name.to_owned(), test })
}

/// `'|all': [a, b]` is of no field: keywords, all of them.
fn keyword_of(test: Test, key: &str) -> Result<Expr<Atom>, Refusal> {
    let pattern = match test {
        Test::Like { pattern, .. } => pattern.within(),
        Test::Equals(value) => Pattern::literal(&text_of(&value)).within(),
        _ => {
            return Err(Refusal::new(
                Why::Modifier,
                format!("`{key}`: of no field, and more than a keyword"),
            ));
        }
    };
    Ok(one(TEXT, Test::Keyword(pattern)))
}

/// The value after the modifiers that change it: what any one of must be there.
fn pieces(value: Value, modifiers: &[String], vars: &Vars) -> Result<Vec<Piece>, Refusal> {
    let mut pieces = vec![Piece::Value(value)];
    for modifier in modifiers {
        let mut next = Vec::new();
        for piece in pieces {
            let text = match &piece {
                Piece::Value(value) => text_of(value),
                Piece::Literal(text) => text.clone(),
                Piece::Bytes(_) => String::new(),
            };
            match modifier.as_str() {
                "expand" => next.extend(expanded(&text, vars)?),
                "windash" => next.extend(dashes(&text).into_iter().map(|t| Piece::Value(t.into()))),
                "wide" | "utf16le" => next.push(Piece::Bytes(wide(&text, u16::to_le_bytes))),
                "utf16be" => next.push(Piece::Bytes(wide(&text, u16::to_be_bytes))),
                "utf16" => {
                    let mut bytes = vec![0xff, 0xfe];
                    bytes.extend(wide(&text, u16::to_le_bytes));
                    next.push(Piece::Bytes(bytes));
                }
                "base64" | "base64offset" => {
                    let bytes = match piece {
                        Piece::Bytes(bytes) => bytes,
                        _ => text.into_bytes(),
                    };
                    if modifier == "base64" {
                        next.push(Piece::Literal(STANDARD.encode(bytes)));
                    } else {
                        next.extend(offsets(&bytes).into_iter().map(Piece::Literal));
                    }
                }
                _ => next.push(piece),
            }
        }
        if next.len() > VALUES_LIMIT {
            return Err(Refusal::new(Why::Modifier, "it expands to too many values"));
        }
        pieces = next;
    }
    Ok(pieces)
}

fn wide<const N: usize>(text: &str, bytes: impl Fn(u16) -> [u8; N]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// The text in base64 at each of the three places where it can begin, without the characters that
/// hold bits of what stands around it.
fn offsets(bytes: &[u8]) -> Vec<String> {
    const START: [usize; 3] = [0, 2, 3];
    const END: [usize; 3] = [0, 3, 2];
    let mut texts = Vec::with_capacity(3);
    for (offset, start) in START.iter().enumerate() {
        let mut padded = vec![b' '; offset];
        padded.extend_from_slice(bytes);
        let encoded = STANDARD.encode(&padded);
        let end = END.get(padded.len() % 3).copied().unwrap_or(0);
        if let Some(text) = encoded.get(*start..encoded.len().saturating_sub(end))
            && !text.is_empty()
        {
            texts.push(text.to_owned());
        }
    }
    texts
}

/// The dash of an option in each way to write it.
fn dashes(text: &str) -> Vec<String> {
    const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];
    let mut before = None;
    let mut places = Vec::new();
    let characters: Vec<char> = text.chars().collect();
    for (at, c) in characters.iter().enumerate() {
        let word = |c: &char| c.is_alphanumeric() || *c == '_';
        let opens = before.is_none_or(|before: char| !word(&before));
        if DASHES.contains(c) && opens && characters.get(at + 1).is_some_and(word) {
            places.push(at);
        }
        before = Some(*c);
    }
    let mut texts = vec![text.to_owned()];
    for dash in DASHES {
        let mut other = characters.clone();
        for at in &places {
            if let Some(c) = other.get_mut(*at) {
                *c = dash;
            }
        }
        let other: String = other.into_iter().collect();
        if !texts.contains(&other) {
            texts.push(other);
        }
    }
    texts
}

/// `%name%` with what the variables give for it.
fn expanded(text: &str, vars: &Vars) -> Result<Vec<Piece>, Refusal> {
    let mut texts = vec![text.to_owned()];
    let mut names: Vec<&str> = text.split('%').skip(1).step_by(2).collect();
    names.retain(|name| !name.is_empty());
    for name in names {
        let values = vars.get(name).ok_or_else(|| {
            Refusal::new(
                Why::Placeholder,
                format!("`%{name}%` has no value; give one by --var {name}=VALUE"),
            )
        })?;
        let put = |text: &String| -> Vec<String> {
            values.iter().map(|value| text.replace(&format!("%{name}%"), value)).collect()
        };
        texts = texts.iter().flat_map(put).collect();
    }
    Ok(texts.into_iter().map(|text| Piece::Value(text.into())).collect())
}

fn test(piece: Piece, modifiers: &[String]) -> Result<Test, Refusal> {
    let has = |word: &str| modifiers.iter().any(|own| own == word);
    let bad = |text: &str| Refusal::new(Why::Modifier, text);
    let cased = has("cased");
    let how = match (has("contains"), has("startswith"), has("endswith")) {
        (false, false, false) => How::Is,
        (true, false, false) => How::Contains,
        (false, true, false) => How::Starts,
        (false, false, true) => How::Ends,
        _ => return Err(bad("it can't be contained, begin and end at once")),
    };
    let value = match piece {
        Piece::Bytes(_) => return Err(bad("`wide` and its kin stand before `base64` only")),
        Piece::Literal(text) => return Ok(Test::Like { pattern: how.pattern(&text), cased }),
        Piece::Value(value) => value,
    };
    let text = text_of(&value);
    if has("fieldref") {
        return Ok(Test::Ref { other: text, how, cased });
    }
    if has("re") {
        let flags: String = ["i", "m", "s"].into_iter().filter(|flag| has(flag)).collect();
        let source = if flags.is_empty() { text } else { format!("(?{flags}){text}") };
        let regex = regex::RegexBuilder::new(&source).size_limit(1 << 22).build();
        return match regex {
            Ok(regex) => Ok(Test::Regex { source, regex }),
            Err(error) => {
                let last = error.to_string().lines().last().unwrap_or_default().to_owned();
                Err(Refusal::new(Why::Regex, format!("the pattern can't be used: {last}")))
            }
        };
    }
    if has("cidr") {
        let cidr =
            Cidr::parse(&text).ok_or_else(|| bad("this is no network such as 10.0.0.0/8"))?;
        return Ok(Test::Cidr(cidr));
    }
    if let Some(op) = ["lt", "lte", "gt", "gte"].into_iter().find(|op| has(op)) {
        let number = match &value {
            Value::Number(_) => value.clone(),
            _ => text.parse::<i64>().map(Value::from).map_err(|_| bad("this is no number"))?,
        };
        return Op::parse(op).map(|op| Test::Order(op, number)).ok_or_else(|| bad("no order"));
    }
    Ok(match (&value, how) {
        (Value::Null, How::Is) => Test::Exists(false),
        (Value::Null, _) => return Err(bad("nothing can't be contained, begin or end")),
        (Value::Number(_) | Value::Bool(_), How::Is) => Test::Equals(value),
        (_, How::Is) => Test::Like { pattern: Pattern::parse(&text), cased },
        (_, How::Contains) => Test::Like { pattern: Pattern::parse(&text).within(), cased },
        (_, How::Starts) => Test::Like { pattern: Pattern::parse(&text).starting(), cased },
        (_, How::Ends) => Test::Like { pattern: Pattern::parse(&text).ending(), cased },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_at_each_place_is_found_in_what_holds_it() {
        let alternatives = offsets(b"/bin/bash");
        for before in ["", "x", "xy", "xyz"] {
            let whole = STANDARD.encode(format!("{before}/bin/bash and more"));
            assert!(alternatives.iter().any(|text| whole.contains(text.as_str())), "{before}");
        }
    }

    #[test]
    fn dashes_are_written_in_each_way() {
        assert_eq!(dashes(" -enc").len(), 5);
        assert_eq!(dashes("plain-word"), ["plain-word"]);
        assert!(dashes("/c -x").contains(&String::from("-c -x")));
    }

    #[test]
    fn addresses_of_a_network_are_inside() {
        for network in ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128", "0.0.0.0/0"] {
            let cidr = Cidr::parse(network).expect("it is a network");
            assert!(!cidr.some().is_empty());
            assert!(cidr.some().iter().all(|address| cidr.contains(address)), "{network}");
        }
        assert_eq!(Cidr::parse("10.0.0.0/40"), None);
    }
}
