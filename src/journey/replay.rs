//! Recorded log lines made new: the time at the front of a line is moved to now, and a token put
//! in. Everything else stays as it was.

use std::fmt::Write;

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use crate::time::Wall;

/// The time at the front of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub at: Wall,
    /// Where it stands in the line.
    start: usize,
    end: usize,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// RFC 3339 and its kin: what stands between date and clock, before the decimals and how many
    /// of those; the offset in seconds, and its text.
    Iso { between: char, point: char, decimals: usize, offset: i32, zone: String },
    /// RFC 3164: `Mmm dd hh:mm:ss`, without year and zone; `padded` with a zero.
    Rfc3164 { padded: bool },
    /// Seconds since 1970 with so many digits behind them, after a point or not.
    Epoch { point: bool, decimals: usize },
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// What an old recording without a year can be ahead of now, by clocks and zones.
const DAY: i64 = 86_400 * 1_000_000_000;

impl Stamp {
    /// Finds it after a syslog priority, the version of RFC 5424, or an opening bracket. `now`
    /// decides the year where none is written.
    pub fn find(line: &str, now: Wall) -> Option<Self> {
        let mut rest = line;
        if let Some((priority, after)) = rest.strip_prefix('<').and_then(|r| r.split_once('>'))
            && (1..=3).contains(&priority.len())
            && priority.bytes().all(|b| b.is_ascii_digit())
        {
            rest = after.strip_prefix("1 ").unwrap_or(after);
        }
        rest = rest.strip_prefix('[').unwrap_or(rest);
        let start = line.len() - rest.len();
        let (at, length, shape) =
            iso(rest).or_else(|| rfc3164(rest, now)).or_else(|| epoch(rest))?;
        Some(Self { at, start, end: start + length, shape })
    }

    /// The line with another time in the same place, written in the same way.
    pub fn moved(&self, line: &str, to: Wall) -> Option<String> {
        let (front, back) = (line.get(..self.start)?, line.get(self.end..)?);
        let mut out = String::with_capacity(line.len() + 8);
        out.push_str(front);
        self.shape.write(to, &mut out)?;
        out.push_str(back);
        Some(out)
    }
}

impl Shape {
    fn write(&self, at: Wall, out: &mut String) -> Option<()> {
        let nanos = |at: i64| at.rem_euclid(1_000_000_000);
        let decimals = |digits: usize, out: &mut String| {
            let text = format!("{:09}", nanos(at.0));
            out.push_str(text.get(..digits.min(9)).unwrap_or_default());
        };
        match self {
            Self::Iso { between, point, decimals: digits, offset, zone } => {
                let local = civil(at, *offset)?;
                let (date, time) = (local.date(), local.time());
                write!(out, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day()).ok()?;
                out.push(*between);
                write!(out, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second()).ok()?;
                if *digits > 0 {
                    out.push(*point);
                    decimals(*digits, out);
                }
                out.push_str(zone);
            }
            Self::Rfc3164 { padded } => {
                let local = civil(at, 0)?;
                let month = usize::try_from(local.month() - 1).ok()?;
                let (day, time) = (local.day(), local.time());
                out.push_str(MONTHS.get(month)?);
                let day = if *padded { format!(" {day:02}") } else { format!(" {day:>2}") };
                out.push_str(&day);
                write!(out, " {:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
                    .ok()?;
            }
            Self::Epoch { point, decimals: digits } => {
                write!(out, "{}", at.0.div_euclid(1_000_000_000)).ok()?;
                if *point {
                    out.push('.');
                }
                decimals(*digits, out);
            }
        }
        Some(())
    }
}

fn civil(at: Wall, offset: i32) -> Option<DateTime> {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(at.0)).ok()?;
    Some(Offset::from_seconds(offset).ok()?.to_datetime(stamp))
}

fn wall(local: DateTime, offset: i32, nanos: i64) -> Option<Wall> {
    let stamp = Offset::from_seconds(offset).ok()?.to_timestamp(local).ok()?;
    let at = i64::try_from(stamp.as_nanosecond()).ok()?;
    Some(Wall(at.checked_add(nanos)?))
}

/// Exactly so many digits at a place.
fn number(text: &str, at: usize, digits: usize) -> Option<i16> {
    let text = text.get(at..at + digits)?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `hh:mm:ss` at a place.
fn clock(text: &str, at: usize) -> Option<jiff::civil::Time> {
    let colons = text.get(at + 2..at + 3)? == ":" && text.get(at + 5..at + 6)? == ":";
    let part = |place: usize| number(text, at + place, 2).and_then(|n| i8::try_from(n).ok());
    if !colons {
        return None;
    }
    jiff::civil::Time::new(part(0)?, part(3)?, part(6)?, 0).ok()
}

/// How many digits a text begins with, and as nanoseconds behind the second the first nine of them.
fn decimals(text: &str) -> (usize, i64) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mut value = 0;
    for place in 0..9 {
        let digit = text.as_bytes().get(place).filter(|_| place < digits);
        value = value * 10 + digit.map_or(0, |digit| i64::from(digit - b'0'));
    }
    (digits, value)
}

fn iso(text: &str) -> Option<(Wall, usize, Shape)> {
    let dashes = text.get(4..5)? == "-" && text.get(7..8)? == "-";
    let between = text.get(10..11)?.chars().next().filter(|c| matches!(c, 'T' | 't' | ' '))?;
    if !dashes {
        return None;
    }
    let part = |at| number(text, at, 2).and_then(|n| i8::try_from(n).ok());
    let date = Date::new(number(text, 0, 4)?, part(5)?, part(8)?).ok()?;
    let time = clock(text, 11)?;
    let mut length = 19;
    let mut rest = text.get(length..)?;
    let mut shown = (0, 0);
    let mut point = '.';
    if let Some(mark) = rest.chars().next().filter(|c| matches!(c, '.' | ',')) {
        let (digits, nanos) = decimals(rest.get(1..)?);
        if (1..=9).contains(&digits) {
            (point, shown) = (mark, (digits, nanos));
            length += 1 + digits;
            rest = text.get(length..)?;
        }
    }
    let (zone, offset) = zone(rest);
    length += zone.len();
    let shape = Shape::Iso { between, point, decimals: shown.0, offset, zone: zone.to_owned() };
    Some((wall(date.to_datetime(time), offset, shown.1)?, length, shape))
}

/// `Z`, `+hh:mm` or `+hhmm`, and nothing for UTC.
fn zone(text: &str) -> (&str, i32) {
    if let Some(zulu) = text.get(..1).filter(|z| matches!(*z, "Z" | "z")) {
        return (zulu, 0);
    }
    let sign = match text.get(..1) {
        Some("+") => 1,
        Some("-") => -1,
        _ => return ("", 0),
    };
    let colon = usize::from(text.get(3..4) == Some(":"));
    let read = || {
        let (hours, minutes) = (number(text, 1, 2)?, number(text, 3 + colon, 2)?);
        (hours <= 23 && minutes <= 59).then_some(i32::from(hours) * 3_600 + i32::from(minutes) * 60)
    };
    match read() {
        Some(east) => (text.get(..5 + colon).unwrap_or_default(), sign * east),
        None => ("", 0),
    }
}

fn rfc3164(text: &str, now: Wall) -> Option<(Wall, usize, Shape)> {
    let month = MONTHS.iter().position(|name| text.get(..3) == Some(*name))?;
    let month = i8::try_from(month + 1).ok()?;
    let spaces = text.get(3..4)? == " " && text.get(6..7)? == " ";
    let day = text.get(4..6)?;
    let padded = day.starts_with('0');
    let day: i8 = day.trim_start_matches(' ').parse().ok().filter(|_| spaces)?;
    let time = clock(text, 7)?;
    // The newest year that does not lie ahead; 29 February asks for a leap year.
    let year = civil(now, 0)?.year();
    let shape = Shape::Rfc3164 { padded };
    (0..8).find_map(|back| {
        let date = Date::new(year - back, month, day).ok()?;
        let at = wall(date.to_datetime(time), 0, 0)?;
        (at.0 <= now.0.saturating_add(DAY)).then(|| (at, 15, shape.clone()))
    })
}

/// 10 digits are seconds, 13 milliseconds, 16 microseconds, 19 nanoseconds; from 2001 to 2286.
fn epoch(text: &str) -> Option<(Wall, usize, Shape)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !matches!(digits, 10 | 13 | 16 | 19) || text.starts_with('0') {
        return None;
    }
    let seconds: i64 = text.get(..10)?.parse().ok()?;
    let (mut length, mut shown, mut point) = (digits, decimals(text.get(10..digits)?), false);
    if digits == 10 && text.get(10..11) == Some(".") {
        let (more, nanos) = decimals(text.get(11..)?);
        if (1..=9).contains(&more) {
            (length, shown, point) = (11 + more, (more, nanos), true);
        }
    }
    let at = seconds.checked_mul(1_000_000_000)?.checked_add(shown.1)?;
    Some((Wall(at), length, Shape::Epoch { point, decimals: shown.0 }))
}

/// The line with the token: as a further member where the line is a JSON object, else at its end.
pub fn marked(line: &str, token: &str) -> String {
    let line = line.trim_end();
    match line.strip_suffix('}').filter(|_| line.starts_with('{')) {
        Some(inside) => {
            let between = if inside.trim_end().ends_with('{') { "" } else { "," };
            format!("{inside}{between}\"greenlight.id\":\"{token}\"}}")
        }
        None if line.is_empty() => token.to_owned(),
        None => format!("{line} {token}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Wall = Wall(1_790_000_000_000_000_000);

    #[test]
    fn times_at_the_front_are_found_and_moved_as_they_were_written() {
        let to = Wall::parse("2026-02-03T04:05:06.789012345Z").expect("a time");
        for (line, at, moved) in [
            ("2023-11-14T22:13:20Z x", "2023-11-14T22:13:20Z", "2026-02-03T04:05:06Z x"),
            ("2023-11-14 22:13:20,123 x", "2023-11-14T22:13:20.123Z", "2026-02-03 04:05:06,789 x"),
            (
                "[2023-11-14T22:13:20.5+02:00] x",
                "2023-11-14T20:13:20.5Z",
                "[2026-02-03T06:05:06.7+02:00] x",
            ),
            ("2023-11-14T22:13:20-0130 x", "2023-11-14T23:43:20Z", "2026-02-03T02:35:06-0130 x"),
            (
                "<34>1 2023-11-14T22:13:20.123456Z h a - - - x",
                "2023-11-14T22:13:20.123456Z",
                "<34>1 2026-02-03T04:05:06.789012Z h a - - - x",
            ),
            ("<34>Jul  4 01:02:03 h a: x", "2026-07-04T01:02:03Z", "<34>Feb  3 04:05:06 h a: x"),
            ("Dec 24 01:02:03 h a: x", "2025-12-24T01:02:03Z", "Feb  3 04:05:06 h a: x"),
            ("Jul 04 01:02:03 h", "2026-07-04T01:02:03Z", "Feb 03 04:05:06 h"),
            ("1700000000 x", "2023-11-14T22:13:20Z", "1770091506 x"),
            ("1700000000.25 x", "2023-11-14T22:13:20.25Z", "1770091506.78 x"),
            ("1700000000250|x", "2023-11-14T22:13:20.25Z", "1770091506789|x"),
            ("1700000000250000000", "2023-11-14T22:13:20.25Z", "1770091506789012345"),
        ] {
            let stamp = Stamp::find(line, NOW).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(Some(stamp.at), Wall::parse(at), "{line}");
            assert_eq!(stamp.moved(line, to).as_deref(), Some(moved), "{line}");
        }
        for line in
            ["", "x", "2023-13-14T22:13:20Z", "2023-11-14", "17000000001 x", "Foo 14 01:02:03"]
        {
            assert_eq!(Stamp::find(line, NOW), None, "{line}");
        }
    }

    #[test]
    fn any_line_is_found_again_where_it_was_moved_to() {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
        let line = prop_oneof![
            "\\PC{0,40}",
            "[<>\\[0-9TZ:. +-]{0,40}",
            "(<[0-9]{1,4}>)?(1 )?[12][0-9]{3}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9]([.,][0-9]{1,10})?(Z|[+-][0-2][0-9]:?[0-5][0-9])?\\PC{0,5}",
            "(Jan|Feb|Dec) [ 0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]\\PC{0,5}",
            "[12][0-9]{9}([0-9]{3})?(\\.[0-9]{1,3})? x",
        ];
        let found = std::cell::Cell::new(0);
        runner
            .run(&(line, 0_i64..1_790_000_000), |(line, second)| {
                let to = Wall(second.max(1_000_000_000) * 1_000_000_000);
                let Some(stamp) = Stamp::find(&line, NOW) else { return Ok(()) };
                found.set(found.get() + 1);
                let moved = stamp.moved(&line, to).expect("it can be written");
                let again = Stamp::find(&moved, to).expect("it is there again");
                prop_assert_eq!(again.at, to, "{} -> {}", line, moved);
                prop_assert_eq!(line.len() - stamp.end, moved.len() - again.end);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(found.get() > 500, "only {} lines had a time", found.get());
        eprintln!("property recorded lines: {} inputs", runner.config().cases);
    }

    #[test]
    fn the_token_goes_in_where_it_breaks_nothing() {
        for (line, marked_line) in [
            ("hello", "hello tok"),
            ("hello \r\n", "hello tok"),
            ("", "tok"),
            ("{}", "{\"greenlight.id\":\"tok\"}"),
            ("{\"a\":1}", "{\"a\":1,\"greenlight.id\":\"tok\"}"),
            ("{a} b", "{a} b tok"),
        ] {
            assert_eq!(marked(line, "tok"), marked_line, "{line}");
        }
    }
}
