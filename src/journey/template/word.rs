//! The words that a text can hold in braces.

use super::clock::{Moment, Shape};
use crate::spec::units::Period;
use crate::time::Wall;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::journey) enum Word {
    Seq,
    Token,
    Run,
    Stream,
    /// The checksum of the text, in decimal digits.
    Crc,
    Time {
        /// Nanoseconds from the event's own time.
        shift: i64,
        shape: Shape,
    },
    User,
    Host,
    Address,
    Port,
    Pick {
        options: Vec<String>,
        place: u64,
    },
    Int {
        low: i64,
        high: i64,
        place: u64,
    },
    Hex {
        digits: u32,
        place: u64,
    },
    Pad {
        bytes: usize,
        place: u64,
    },
}

/// As they are written, for whoever wrote another.
const WORDS: &str = "{seq}, {token}, {run}, {stream}, {crc} (in fields), {time}, {time-5m}, \
                     {time:rfc3164}, {time:%d/%b/%Y}, {user}, {host}, {address}, {port}, \
                     {pick:a|b|c}, {int:1..100}, {hex:8}, {pad:64}";
const PICK_LIMIT: usize = 1_000;
/// 32 and more look like a secret, and are taken out by those who look for secrets.
const HEX_LIMIT: u32 = 31;
/// No payload is larger than the largest size of `sizes`.
const PAD_LIMIT: usize = 262_144;

/// What the words stand for in one event.
pub(in crate::journey) struct Values<'a> {
    pub(in crate::journey) run: &'a str,
    pub(in crate::journey) stream: &'a str,
    pub(in crate::journey) token: &'a [u8],
    pub(in crate::journey) seq: u64,
    pub(in crate::journey) time: Wall,
    /// Seconds east of UTC in which times are written.
    pub(in crate::journey) zone: i32,
    pub(in crate::journey) crc: u32,
    /// By run and sequence, so that the same event is always made the same way and no two events
    /// of a journey look alike to a filter of duplicates.
    pub(in crate::journey) variety: u32,
    pub(in crate::journey) byte_order_mark: bool,
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
/// Machines that nobody has.
const HOSTS: [&str; 4] = ["canary-web-1", "canary-web-2", "canary-db-1", "canary-mail-1"];

impl Word {
    /// Reads what stands between two braces.
    pub(super) fn parse(text: &str, place: u64) -> Result<Self, String> {
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        if name == "time" || name.starts_with("time+") || name.starts_with("time-") {
            let shift = shift(name.get("time".len()..).unwrap_or_default())
                .ok_or_else(|| format!("'{{{text}}}': write a shift such as {{time-5m}}"))?;
            let shape = Shape::parse(rest.unwrap_or("rfc3339"))
                .map_err(|error| format!("'{{{text}}}': {error}"))?;
            return Ok(Self::Time { shift, shape });
        }
        let wrong = |what: &str| Err(format!("'{{{text}}}': {what}"));
        Ok(match (name, rest) {
            ("seq", None) => Self::Seq,
            ("token", None) => Self::Token,
            ("run", None) => Self::Run,
            ("stream", None) => Self::Stream,
            ("crc", None) => Self::Crc,
            ("user", None) => Self::User,
            ("host", None) => Self::Host,
            ("address", None) => Self::Address,
            ("port", None) => Self::Port,
            ("pick", Some(list)) => {
                let options: Vec<String> = list.split('|').map(String::from).collect();
                if options.len() > PICK_LIMIT {
                    return wrong("that is too long a list to pick from");
                }
                Self::Pick { options, place }
            }
            ("int", Some(range)) => {
                let ends =
                    range.split_once("..").map(|(a, b)| (a.trim().parse(), b.trim().parse()));
                match ends {
                    Some((Ok(low), Ok(high))) if low <= high => Self::Int { low, high, place },
                    _ => return wrong("write a range such as {int:1..100}, the smaller end first"),
                }
            }
            ("hex", Some(digits)) => match digits.trim().parse() {
                Ok(digits @ 1..=HEX_LIMIT) => Self::Hex { digits, place },
                _ => return wrong("write 1 to 31 digits, as {hex:8}"),
            },
            ("pad", Some(bytes)) => match bytes.trim().parse() {
                Ok(bytes @ 1..=PAD_LIMIT) => Self::Pad { bytes, place },
                _ => return wrong("write how many bytes, 1 to 262144, as {pad:64}"),
            },
            _ => {
                return Err(format!(
                    "unknown word '{{{text}}}'; known are {WORDS}, and {{{{ for a brace itself"
                ));
            }
        })
    }

    /// Whether it is made of letters, digits, dots and dashes only, which no format escapes.
    pub(in crate::journey) fn is_plain(&self) -> bool {
        match self {
            Self::Stream | Self::Pick { .. } => false,
            Self::Time { shape, .. } => shape.is_plain(),
            _ => true,
        }
    }

    pub(in crate::journey) fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        let number = |number: u64, out: &mut Vec<u8>| {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        };
        let variety = values.variety;
        match self {
            Self::Seq => number(values.seq, out),
            Self::Token => out.extend_from_slice(values.token),
            Self::Run => out.extend_from_slice(values.run.as_bytes()),
            Self::Stream => out.extend_from_slice(values.stream.as_bytes()),
            Self::Crc => number(u64::from(values.crc), out),
            Self::Time { shift, shape } => {
                let at = values.time.0.saturating_add(*shift);
                shape.write(Moment { at: Wall(at), zone: values.zone }, out);
            }
            Self::User => out.extend_from_slice(pick(&USERS, u64::from(variety)).as_bytes()),
            Self::Host => out.extend_from_slice(pick(&HOSTS, u64::from(variety >> 27)).as_bytes()),
            // RFC 5737: addresses for documentation, of nobody.
            Self::Address => {
                out.extend_from_slice(b"198.51.100.");
                number(u64::from((variety >> 3) % 254 + 1), out);
            }
            Self::Port => number(u64::from(1024 + (variety >> 11) % 60_000), out),
            Self::Pick { options, place } => {
                out.extend_from_slice(pick(options, mix(variety, *place)).as_bytes());
            }
            Self::Int { low, high, place } => {
                let span = high.abs_diff(*low).saturating_add(1);
                let value = low.wrapping_add_unsigned(mix(variety, *place) % span);
                out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }
            Self::Hex { digits, place } => {
                for digit in 0..u64::from(*digits) {
                    let nibble = mix(variety, place.wrapping_add(digit << 32)) & 15;
                    let byte = char::from_digit(u32::try_from(nibble).unwrap_or(0), 16);
                    out.push(byte.and_then(|c| u8::try_from(c).ok()).unwrap_or(b'0'));
                }
            }
            Self::Pad { bytes, place } => pad(*bytes, mix(variety, *place), out),
        }
    }
}

/// So many letters, different in every event: a filler of one byte would be compressed away and
/// make every throughput a lie.
pub(in crate::journey) fn pad(bytes: usize, seed: u64, out: &mut Vec<u8>) {
    /// No digits and no vowels: neither numbers nor words that somebody masks.
    const LETTERS: &[u8; 16] = b"bcdfghjkmnpqrstv";
    let mut left = bytes;
    let mut state = seed;
    while left > 0 {
        state = splitmix(state);
        let letters = state.to_le_bytes().map(|byte| LETTERS[usize::from(byte & 15)]);
        out.extend_from_slice(letters.get(..left).unwrap_or(&letters));
        left = left.saturating_sub(letters.len());
    }
}

fn pick<S: AsRef<str>>(options: &[S], number: u64) -> &str {
    let count = (options.len() as u64).max(1);
    let index = usize::try_from(number % count).unwrap_or(0);
    options.get(index).map_or("", AsRef::as_ref)
}

fn mix(variety: u32, place: u64) -> u64 {
    splitmix(u64::from(variety).wrapping_add(place.wrapping_add(1) << 20))
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): the finisher of
/// SplitMix64.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// "" is no shift, "-5m" five minutes back.
fn shift(text: &str) -> Option<i64> {
    let Some(sign) = text.chars().next() else { return Some(0) };
    let span: Period = text.get(1..)?.parse().ok()?;
    let span = i64::try_from(span.0.as_nanos()).ok()?;
    Some(if sign == '-' { -span } else { span })
}
