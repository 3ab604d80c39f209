//! Times as formats write them, made without allocating.

use crate::time::Wall;

/// How a time is written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::journey) enum Shape {
    /// RFC 3339 with milliseconds.
    Rfc3339,
    /// RFC 3164, 4.1.2: `Mmm dd hh:mm:ss`, the day with a space before one digit. It has no place
    /// for a zone, so it is always UTC.
    Rfc3164,
    /// The time of web servers' logs: `10/Oct/2000:13:55:36 -0700`.
    Clf,
    /// Seconds, milliseconds or nanoseconds since 1970.
    Epoch,
    EpochMs,
    EpochNs,
    /// Seconds since 1970 with milliseconds behind a point, as GELF has it.
    EpochDecimal,
    /// As strftime has it.
    Pattern(String),
}

/// An instant, and where it is told.
#[derive(Clone, Copy)]
pub(in crate::journey) struct Moment {
    pub(in crate::journey) at: Wall,
    /// Seconds east of UTC.
    pub(in crate::journey) zone: i32,
}

const SHAPES: &str = "rfc3339, rfc3164, clf, epoch, epoch_ms, epoch_ns, epoch_decimal, or a \
                      pattern such as %Y-%m-%d %H:%M:%S%.3f%z";
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const NANOS: i64 = 1_000_000_000;

impl Shape {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "rfc3339" => Self::Rfc3339,
            "rfc3164" => Self::Rfc3164,
            "clf" => Self::Clf,
            "epoch" => Self::Epoch,
            "epoch_ms" => Self::EpochMs,
            "epoch_ns" => Self::EpochNs,
            "epoch_decimal" => Self::EpochDecimal,
            pattern if pattern.contains('%') => {
                let shape = Self::Pattern(pattern.to_owned());
                let mut sample = Vec::new();
                let sample_at = Moment { at: Wall(0), zone: 0 };
                if !shape.pattern(pattern, sample_at, &mut sample) {
                    return Err(format!("'{pattern}' is no pattern of a time"));
                }
                shape
            }
            _ => return Err(format!("'{text}' is no way to write a time; known are {SHAPES}")),
        })
    }

    pub(super) fn is_plain(&self) -> bool {
        !matches!(self, Self::Pattern(_))
    }

    pub(super) fn write(&self, moment: Moment, out: &mut Vec<u8>) {
        let number = |number: i64, out: &mut Vec<u8>| {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        };
        let at = moment.at.0;
        match self {
            Self::Rfc3339 => {
                let civil = Civil::of(moment);
                let mut text = *b"0000-00-00T00:00:00.000";
                decimal(&mut text[0..4], civil.year);
                decimal(&mut text[5..7], civil.month);
                decimal(&mut text[8..10], civil.day);
                civil.clock(&mut text[11..19]);
                decimal(&mut text[20..23], civil.milli);
                out.extend_from_slice(&text);
                zone(moment.zone, Some(b':'), out);
            }
            Self::Rfc3164 => {
                let civil = Civil::of(Moment { zone: 0, ..moment });
                let mut text = *b"Mmm 00 00:00:00";
                text[..3].copy_from_slice(civil.month_name());
                decimal(&mut text[4..6], civil.day);
                if civil.day < 10 {
                    text[4] = b' ';
                }
                civil.clock(&mut text[7..15]);
                out.extend_from_slice(&text);
            }
            Self::Clf => {
                let civil = Civil::of(moment);
                let mut text = *b"00/Mmm/0000:00:00:00 ";
                decimal(&mut text[0..2], civil.day);
                text[3..6].copy_from_slice(civil.month_name());
                decimal(&mut text[7..11], civil.year);
                civil.clock(&mut text[12..20]);
                out.extend_from_slice(&text);
                let east = moment.zone;
                if east == 0 {
                    out.extend_from_slice(b"+0000");
                } else {
                    zone(east, None, out);
                }
            }
            Self::Epoch => number(at.div_euclid(NANOS), out),
            Self::EpochMs => number(at.div_euclid(1_000_000), out),
            Self::EpochNs => number(at, out),
            Self::EpochDecimal => {
                number(at.div_euclid(NANOS), out);
                let mut text = *b".000";
                decimal(&mut text[1..4], at.rem_euclid(NANOS) as u32 / 1_000_000);
                out.extend_from_slice(&text);
            }
            Self::Pattern(pattern) => {
                self.pattern(pattern, moment, out);
            }
        }
    }

    /// False where the pattern can't be written.
    fn pattern(&self, pattern: &str, moment: Moment, out: &mut Vec<u8>) -> bool {
        let offset = jiff::tz::Offset::from_seconds(moment.zone).unwrap_or(jiff::tz::Offset::UTC);
        let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(moment.at.0)) else {
            return false;
        };
        let zoned = at.to_zoned(jiff::tz::TimeZone::fixed(offset));
        match jiff::fmt::strtime::format(pattern, &zoned) {
            Ok(text) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            Err(_) => false,
        }
    }
}

struct Civil {
    year: u32,
    month: u32,
    day: u32,
    second_of_day: u32,
    milli: u32,
}

impl Civil {
    /// H. Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
    fn of(moment: Moment) -> Self {
        let local = moment.at.0.saturating_add(i64::from(moment.zone).saturating_mul(NANOS));
        let seconds = local.div_euclid(NANOS);
        // Of what nanoseconds since 1970 can hold, all years are of our era.
        let days = (seconds.div_euclid(86_400) + 719_468) as u32;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: year_of_era + era * 400 + u32::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            second_of_day: seconds.rem_euclid(86_400) as u32,
            milli: local.rem_euclid(NANOS) as u32 / 1_000_000,
        }
    }

    fn month_name(&self) -> &'static [u8; 3] {
        MONTHS.get(self.month as usize - 1).copied().unwrap_or(b"Jan")
    }

    /// Into `00:00:00`.
    fn clock(&self, text: &mut [u8]) {
        let second = self.second_of_day;
        for (at, value) in [(0, second / 3600), (3, second / 60 % 60), (6, second % 60)] {
            if let Some(place) = text.get_mut(at..at + 2) {
                decimal(place, value);
            }
        }
    }
}

/// Year, month and day, where the zone is.
pub(in crate::journey) fn date(at: Wall, zone: i32) -> (i64, i64, i64) {
    let civil = Civil::of(Moment { at, zone });
    (civil.year.into(), civil.month.into(), civil.day.into())
}

/// Fills the whole place with the last digits of a number, which has four at most. A tenth by
/// multiplication: code that is compiled for size would divide for each digit, which takes longer
/// than all the rest.
fn decimal(place: &mut [u8], value: u32) {
    let mut value = value & 0x3fff;
    for digit in place.iter_mut().rev() {
        let tenth = (value * 6_554) >> 16;
        *digit = b'0' + (value - 10 * tenth) as u8;
        value = tenth;
    }
}

fn zone(east: i32, between: Option<u8>, out: &mut Vec<u8>) {
    if east == 0 {
        out.push(b'Z');
        return;
    }
    out.push(if east < 0 { b'-' } else { b'+' });
    let minutes = east.unsigned_abs() / 60;
    let mut two = [0; 2];
    decimal(&mut two, minutes / 60);
    out.extend_from_slice(&two);
    out.extend(between);
    decimal(&mut two, minutes % 60);
    out.extend_from_slice(&two);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(shape: &Shape, at: i64, zone: i32) -> String {
        let mut out = Vec::new();
        shape.write(Moment { at: Wall(at), zone }, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_instant_reads_as_the_library_writes_it() {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
        // What nanoseconds since 1970 can hold, and minutes of zone.
        let any = (-9_200_000_000_i64..9_200_000_000, 0..NANOS, -1_080..1_080_i32);
        runner
            .run(&any, |(second, nano, minutes)| {
                let at = second * NANOS + nano;
                let east = minutes * 60;
                let moment = jiff::Timestamp::from_nanosecond(i128::from(at)).expect("an instant");
                let offset = jiff::tz::Offset::from_seconds(east).expect("an offset");
                let zoned = moment.to_zoned(jiff::tz::TimeZone::fixed(offset));
                for (shape, pattern) in [
                    (
                        Shape::Rfc3339,
                        if east == 0 {
                            "%Y-%m-%dT%H:%M:%S.%3fZ"
                        } else {
                            "%Y-%m-%dT%H:%M:%S.%3f%:z"
                        },
                    ),
                    (Shape::Clf, "%d/%b/%Y:%H:%M:%S %z"),
                ] {
                    let ours = text(&shape, at, east);
                    prop_assert_eq!(&ours, &zoned.strftime(pattern).to_string());
                    let own = Shape::parse(pattern).expect("a pattern");
                    prop_assert_eq!(text(&own, at, east), ours);
                }
                let utc = moment.strftime("%b %e %H:%M:%S").to_string();
                prop_assert_eq!(text(&Shape::Rfc3164, at, east), utc);
                prop_assert_eq!(
                    text(&Shape::EpochMs, at, east),
                    at.div_euclid(1_000_000).to_string()
                );
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        eprintln!("property times: {} inputs", runner.config().cases);
    }

    #[test]
    fn what_is_no_time_is_told() {
        for (text, words) in [("soon", "known are rfc3339"), ("%!", "no pattern")] {
            let error = Shape::parse(text).expect_err("a mistake");
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(text(&Shape::EpochDecimal, 1_700_000_000_123_456_789, 0), "1700000000.123");
    }
}
