//! Numbers with their units: `1h30m`, `64KiB`, `5%`, and thresholds of any of them.
//!
//! A number without its unit is a mistake: nobody should have to guess whether `5` are seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::catalogue::Unit;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

/// So many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// A part of a whole, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Default)]
pub struct Share(pub f64);

/// A threshold: a number with the unit that its series asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    Number(f64),
    Percent(f64),
    Time { negative: bool, period: Period },
    Bytes { negative: bool, size: Size },
}

/// Units of time in nanoseconds, the largest first.
const TIME: [(&str, u64); 9] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// Units of size in bytes, the largest first.
const BYTES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// The longest period: what fits the nanoseconds of an instant, about 292 years.
const LONGEST: u64 = i64::MAX.unsigned_abs();

const TIME_UNITS: &str = "`ns`, `us`, `ms`, `s`, `m`, `h`, `d` or `w`";
const BYTES_UNITS: &str = "`B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` or `TiB`";

/// A number at the front of a text: its digits before and behind the point.
struct Front<'a> {
    whole: &'a str,
    fraction: &'a str,
    rest: &'a str,
}

fn front(text: &str) -> Option<Front<'_>> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at_checked(digits(text))?;
    if whole.is_empty() {
        return None;
    }
    let Some(behind) = rest.strip_prefix('.') else {
        return Some(Front { whole, fraction: "", rest });
    };
    let (fraction, rest) = behind.split_at_checked(digits(behind))?;
    if fraction.is_empty() { None } else { Some(Front { whole, fraction, rest }) }
}

impl Front<'_> {
    /// This number of units of `unit`, exactly.
    fn times(&self, unit: u64) -> Result<u64, Inexact> {
        let whole: u64 = self.whole.parse().map_err(|_| Inexact::TooLarge)?;
        let whole = whole.checked_mul(unit).ok_or(Inexact::TooLarge)?;
        let fraction = self.fraction.trim_end_matches('0');
        if fraction.is_empty() {
            return Ok(whole);
        }
        // No unit has more than 15 decimal places of its smallest part.
        let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 18);
        let scale = 10_u128.pow(places.ok_or(Inexact::TooFine)?);
        let digits: u128 = fraction.parse().map_err(|_| Inexact::TooFine)?;
        let parts = digits * u128::from(unit);
        if !parts.is_multiple_of(scale) {
            return Err(Inexact::TooFine);
        }
        let parts = u64::try_from(parts / scale).map_err(|_| Inexact::TooLarge)?;
        whole.checked_add(parts).ok_or(Inexact::TooLarge)
    }
}

enum Inexact {
    TooLarge,
    TooFine,
}

/// What to say where a unit should stand: people write a space before it.
fn no_unit(text: &str, rest: &str, what: &str, units: &str) -> String {
    let unit = rest.trim_start();
    let known = |(name, _): &(&str, u64)| *name == unit;
    if unit != rest && TIME.iter().chain(&BYTES).any(known) {
        let closed: String = text.split_whitespace().collect();
        format!("`{text}` has a space in it; write `{closed}`")
    } else {
        format!("`{rest}` is no {what}; write {units}")
    }
}

fn unit_at_front(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` is negative; a period is not"));
        }
        let mut nanos: u64 = 0;
        let mut rest = text;
        let mut smaller_than = u64::MAX;
        loop {
            let Some(number) = front(rest) else {
                return Err(format!("`{text}` is no period; write one like `5s` or `1h30m`"));
            };
            let (unit, behind) = unit_at_front(number.rest);
            if unit.is_empty() {
                return Err(format!("`{text}` has no unit; write `{text}s`"));
            }
            let Some((_, factor)) = TIME.iter().find(|(name, _)| *name == unit) else {
                return Err(no_unit(text, unit, "unit of time", TIME_UNITS));
            };
            if *factor >= smaller_than {
                return Err(format!("`{text}`: the larger unit goes first, and each only once"));
            }
            smaller_than = *factor;
            let part = number.times(*factor).map_err(|inexact| match inexact {
                Inexact::TooLarge => format!("`{text}` is longer than 292 years"),
                Inexact::TooFine => format!("`{text}` is finer than a nanosecond"),
            })?;
            nanos = nanos
                .checked_add(part)
                .filter(|nanos| *nanos <= LONGEST)
                .ok_or_else(|| format!("`{text}` is longer than 292 years"))?;
            if behind.is_empty() {
                return Ok(Self(Duration::from_nanos(nanos)));
            }
            rest = behind;
        }
    }
}

/// The shorter of one unit and several: `90m`, `1h1s`, `1500ms`. Numbers that nobody can read are
/// written in several.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        let mut several = String::new();
        let mut left = nanos;
        for (unit, factor) in TIME.iter().filter(|(unit, _)| *unit != "µs") {
            if left >= *factor {
                several.push_str(&format!("{}{unit}", left / factor));
                left %= factor;
            }
        }
        let single = TIME
            .iter()
            .find(|(_, factor)| nanos.is_multiple_of(*factor))
            .map(|(unit, factor)| format!("{}{unit}", nanos / factor));
        f.write_str(
            &single.filter(|single| single.len() <= several.len().min(8)).unwrap_or(several),
        )
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('-') {
            return Err(format!("`{text}` is negative; a size is not"));
        }
        let Some(number) = front(text) else {
            return Err(format!("`{text}` is no size; write one like `64KiB` or `1.5GB`"));
        };
        if number.rest.is_empty() {
            return Err(format!("`{text}` has no unit; write `{text}B`"));
        }
        let Some((_, factor)) = BYTES.iter().find(|(name, _)| *name == number.rest) else {
            return Err(no_unit(text, number.rest, "unit of size", BYTES_UNITS));
        };
        number.times(*factor).map(Self).map_err(|inexact| match inexact {
            Inexact::TooLarge => format!("`{text}` is more than 16777215TiB"),
            Inexact::TooFine => format!("`{text}` is not a whole number of bytes"),
        })
    }
}

/// The shortest whole number with a unit.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shortest = BYTES
            .iter()
            .filter(|(_, factor)| self.0.is_multiple_of(*factor) && self.0 > 0)
            .map(|(unit, factor)| format!("{}{unit}", self.0 / factor))
            .min_by_key(String::len);
        f.write_str(shortest.as_deref().unwrap_or("0B"))
    }
}

/// A decimal number, finite, as JSON would have it.
fn number(text: &str) -> Option<f64> {
    let fine = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    let value: f64 = text.parse().ok().filter(|value: &f64| fine && value.is_finite())?;
    // There is one zero.
    Some(if value == 0.0 { 0.0 } else { value })
}

/// A hundredth, nearest to the decimal number that was written: 99.9 % is 0.999, where a division
/// would make it 0.9990000000000001.
fn hundredth(percent: f64) -> f64 {
    format!("{percent}e-2").parse().unwrap_or(percent / 100.0)
}

/// A hundred times that, in the same way.
fn hundredfold(share: f64) -> f64 {
    format!("{share}e2").parse().unwrap_or(share * 100.0)
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = match text.strip_suffix('%') {
            Some(percent) => number(percent).map(hundredth),
            None => number(text),
        };
        let Some(value) = value else {
            return Err(format!("`{text}` is no share; write one like `5%` or `0.05`"));
        };
        if value < 0.0 {
            Err(format!("`{text}` is negative; a share is not"))
        } else if value > 1.0 && text.ends_with('%') {
            Err(format!("`{text}` is more than the whole"))
        } else if value > 1.0 {
            Err(format!("`{text}` is more than the whole; write `{text}%`"))
        } else {
            Ok(Self(value))
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.to_string();
        let percent = format!("{}%", hundredfold(self.0));
        let same = percent.parse() == Ok(*self);
        f.write_str(if same && percent.len() <= plain.len() { &percent } else { &plain })
    }
}

impl Quantity {
    /// The threshold in base units of a series of this unit, or why it can't be one.
    pub fn value_in(self, unit: Unit) -> Result<f64, String> {
        let zero = matches!(self, Self::Number(0.0));
        match (unit, self) {
            (_, Self::Number(_)) if zero => Ok(0.0),
            (Unit::Seconds, Self::Time { negative, period }) => {
                Ok(signed(negative, period.0.as_secs_f64()))
            }
            (Unit::Seconds, Self::Number(_)) => {
                Err(format!("`{self}` has no unit; write `{self}s` or `{self}ms`"))
            }
            (Unit::Bytes, Self::Bytes { negative, size }) => Ok(signed(negative, size.0 as f64)),
            (Unit::Bytes, Self::Number(_)) => {
                Err(format!("`{self}` has no unit; write `{self}B` or `{self}MiB`"))
            }
            (Unit::Ratio, Self::Percent(percent)) => ratio(self, hundredth(percent)),
            (Unit::Ratio, Self::Number(value)) => ratio(self, value),
            (Unit::Count, Self::Number(value)) => Ok(value),
            (Unit::Seconds, _) => Err(format!("`{self}` is no time; write one like `5ms`")),
            (Unit::Bytes, _) => Err(format!("`{self}` is no size; write one like `64KiB`")),
            (Unit::Ratio, _) => Err(format!("`{self}` is no share; write one like `5%` or `0.05`")),
            (Unit::Count, _) => Err(format!("`{self}` has a unit; this is a plain number")),
        }
    }
}

fn signed(negative: bool, value: f64) -> f64 {
    if negative { -value } else { value }
}

fn ratio(written: Quantity, value: f64) -> Result<f64, String> {
    if (-1.0..=1.0).contains(&value) {
        Ok(value)
    } else if let Quantity::Number(_) = written {
        Err(format!("`{written}` is more than the whole; write `{written}%`"))
    } else {
        Err(format!("`{written}` is more than the whole"))
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(value) = number(text) {
            return Ok(Self::Number(value));
        }
        if let Some(percent) = text.strip_suffix('%').and_then(number) {
            return Ok(Self::Percent(percent));
        }
        let (negative, positive) = match text.strip_prefix('-') {
            Some(positive) => (true, positive),
            None => (false, text),
        };
        let Some(front) = front(positive) else {
            return Err(format!(
                "`{text}` is no number; write one like `5ms`, `64KiB`, `5%` or `3`"
            ));
        };
        if BYTES.iter().any(|(unit, _)| *unit == front.rest) {
            return Ok(Self::Bytes { negative, size: positive.parse()? });
        }
        let (unit, _) = unit_at_front(front.rest);
        if TIME.iter().any(|(name, _)| *name == unit) {
            return Ok(Self::Time { negative, period: positive.parse()? });
        }
        let units = format!("{TIME_UNITS}, {BYTES_UNITS}, or `%`");
        Err(no_unit(text, front.rest, "unit", &units))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |negative| if negative { "-" } else { "" };
        match self {
            Self::Number(value) => write!(f, "{value}"),
            Self::Percent(value) => write!(f, "{value}%"),
            Self::Time { negative, period } => write!(f, "{}{period}", sign(*negative)),
            Self::Bytes { negative, size } => write!(f, "{}{size}", sign(*negative)),
        }
    }
}

/// As text in YAML and JSON, and its schema. Shares and thresholds may be written as numbers too.
macro_rules! as_text {
    ($($type:ident $types:tt $pattern:literal $what:literal $examples:tt),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $what,
                    "type": $types,
                    "pattern": $pattern,
                    "examples": $examples
                })
            }
        }
    )+};
}

as_text! {
    Period "string" r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+$"
        "a period such as `5s` or `1h30m`" ["5s", "1h30m", "250ms"],
    Size "string" r"^[0-9]+(\.[0-9]+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
        "a size such as `64KiB` or `1.5GB`" ["64KiB", "1.5GB"],
    Share ["string", "number"] r"^[0-9.eE+-]+%?$"
        "a share such as `5%` or `0.05`" ["5%", 0.05],
    Quantity ["string", "number"]
        r"^-?([0-9.eE+-]+%?|[0-9]+(\.[0-9]+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+)$"
        "a number with its unit, such as `5ms`, `64KiB`, `5%` or `3`" ["5ms", "64KiB", "5%", 3]
}

#[cfg(test)]
mod tests;
