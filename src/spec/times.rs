//! When something may run: `22:00-06:00`, `Mon-Fri 22:00-06:00`, `Sat,Sun`. Always UTC, so that
//! every node of a fleet means the same hours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Wall;

/// In the order of the week; 1970-01-01 was a Thursday.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const EPOCH_DAY: i64 = 3;
const EVERY_DAY: u8 = 0b111_1111;
const MINUTES_OF_DAY: u16 = 24 * 60;

/// Some hours of some days; past midnight they belong to the day they began on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// A bit a day, Monday the lowest.
    days: u8,
    /// Minutes since midnight; `until` is the first minute outside.
    from: u16,
    until: u16,
}

/// All hours in which it may run; none written means always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct AllowedTimes(#[schemars(length(min = 1))] Vec<Hours>);

impl AllowedTimes {
    pub fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    pub fn allow(&self, at: Wall) -> bool {
        self.is_always() || self.0.iter().any(|hours| hours.hold(at))
    }
}

impl fmt::Display for AllowedTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Hours::to_string).collect();
        write!(f, "{} UTC", all.join(" and "))
    }
}

impl Hours {
    fn hold(&self, at: Wall) -> bool {
        let minutes = at.0.div_euclid(60_000_000_000);
        let day = minutes.div_euclid(i64::from(MINUTES_OF_DAY)) + EPOCH_DAY;
        let Ok(minute) = u16::try_from(minutes.rem_euclid(i64::from(MINUTES_OF_DAY))) else {
            return false;
        };
        let on = |day: i64| self.days & (1 << day.rem_euclid(7)) != 0;
        if self.from < self.until {
            on(day) && (self.from..self.until).contains(&minute)
        } else {
            (on(day) && minute >= self.from) || (on(day - 1) && minute < self.until)
        }
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}; write hours in UTC like `22:00-06:00`, `Mon-Fri 22:00-06:00` or `Sat,Sun`"
            )
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, hours) = match words.as_slice() {
            [one] if one.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(*one)),
            [one] => (Some(*one), None),
            [days, hours] => (Some(*days), Some(*hours)),
            _ => return Err(wrong(&format!("`{text}` is no time of the week"))),
        };
        let days = days.map_or(Ok(EVERY_DAY), |days| {
            days_of(days).ok_or_else(|| wrong(&format!("`{days}` names no days")))
        })?;
        let (from, until) = match hours {
            None => (0, MINUTES_OF_DAY),
            Some(hours) => hours
                .split_once('-')
                .and_then(|(from, until)| Some((minute(from)?, minute(until)?)))
                .filter(|(from, until)| from != until && *from < MINUTES_OF_DAY)
                .ok_or_else(|| wrong(&format!("`{hours}` are no hours")))?,
        };
        Ok(Self { days, from, until })
    }
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn days_of(text: &str) -> Option<u8> {
    let place = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        let count = (last + DAYS.len() - first) % DAYS.len();
        for day in first..=first + count {
            days |= 1 << (day % DAYS.len());
        }
    }
    Some(days)
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= MINUTES_OF_DAY).then_some(at)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |f: &mut fmt::Formatter<'_>| {
            let [from, until] = [self.from, self.until].map(|at| (at / 60, at % 60));
            write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, until.0, until.1)
        };
        if self.days != EVERY_DAY {
            let named = DAYS.iter().enumerate().filter(|(day, _)| self.days & (1 << day) != 0);
            let names: Vec<&str> = named.map(|(_, name)| *name).collect();
            f.write_str(&names.join(","))?;
            if (self.from, self.until) == (0, MINUTES_OF_DAY) {
                return Ok(());
            }
            f.write_str(" ")?;
        }
        hours(f)
    }
}

impl Serialize for Hours {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Hours {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hours".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Hours in UTC, such as `22:00-06:00`, `Mon-Fri 22:00-06:00` or `Sat,Sun`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Wall {
        Wall::parse(text).unwrap()
    }

    #[test]
    fn hours_hold_in_their_days_and_past_midnight() {
        // 2026-11-23 was a Monday.
        for (hours, instant, holds) in [
            ("08:00-09:30", "2026-11-23T08:00:00Z", true),
            ("08:00-09:30", "2026-11-23T09:29:59Z", true),
            ("08:00-09:30", "2026-11-23T09:30:00Z", false),
            ("00:00-24:00", "2026-11-23T23:59:59Z", true),
            ("Mon-Fri 22:00-06:00", "2026-11-23T22:00:00Z", true),
            ("Mon-Fri 22:00-06:00", "2026-11-23T05:59:00Z", false),
            ("Mon-Fri 22:00-06:00", "2026-11-28T05:59:00Z", true),
            ("Mon-Fri 22:00-06:00", "2026-11-28T22:00:00Z", false),
            ("Sat,Sun", "2026-11-29T12:00:00Z", true),
            ("Sat,Sun", "2026-11-30T00:00:00Z", false),
            ("Fri-Mon 10:00-11:00", "2026-11-23T10:30:00Z", true),
            ("fri-mon 10:00-11:00", "2026-11-24T10:30:00Z", false),
            ("Thu", "1970-01-01T00:00:00Z", true),
            ("Wed", "1969-12-31T23:59:59Z", true),
        ] {
            let parsed: Hours = hours.parse().unwrap();
            assert_eq!(parsed.hold(at(instant)), holds, "{hours} at {instant}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{hours}");
        }
        assert!(AllowedTimes::default().allow(at("2026-11-23T08:00:00Z")));
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        for text in [
            "",
            "8-9",
            "08:00",
            "08:00-08:00",
            "24:00-06:00",
            "08:60-09:00",
            "Mon Tue 1",
            "Foo",
            "25:00-26:00",
            "+1:00-02:00",
        ] {
            let said = text.parse::<Hours>().unwrap_err();
            assert!(said.contains("Mon-Fri 22:00-06:00"), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", nanos in any::<i64>()) {
            if let Ok(hours) = text.parse::<Hours>() {
                hours.hold(Wall(nanos));
                prop_assert_eq!(hours.to_string().parse(), Ok(hours));
            }
        }

        #[test]
        fn outside_and_inside_are_each_others_opposite(nanos in any::<i64>(), from in 0_u16..1440, until in 0_u16..1440) {
            prop_assume!(from != until);
            let one = Hours { days: EVERY_DAY, from, until };
            let other = Hours { days: EVERY_DAY, from: until, until: from };
            prop_assert_ne!(one.hold(Wall(nanos)), other.hold(Wall(nanos)));
        }
    }
}
