//! Schedules of cron, as Splunk and OpenSearch Alerting take them: five fields. What is asked of one
//! is the longest time between two runs.

use std::time::Duration;

use jiff::civil::Date;

use crate::time::Wall;

/// So many days ahead are looked at: a schedule of once a year is told.
const AHEAD: i64 = 800;
const DAY_MINUTES: i64 = 24 * 60;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Which minutes, hours, days, months and weekdays: bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Where days of the month and of the week are both named, either is enough.
    either: bool,
}

impl Cron {
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("{text:?} is no schedule of five fields"));
        };
        let wrong = |field: &str| format!("{field:?} in {text:?} is no field of a schedule");
        let read = |field: &str, from, to, names: &[&str]| {
            set(field, from, to, names).ok_or_else(|| wrong(field))
        };
        let weekday = read(weekdays, 0, 7, &DAYS)?;
        Ok(Self {
            minutes: read(minutes, 0, 59, &[])?,
            hours: read(hours, 0, 23, &[])?,
            days: read(days, 1, 31, &[])?,
            months: read(months, 1, 12, &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: (weekday | (weekday >> 7)) & 0x7f,
            either: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }

    fn is_on(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        let day = if self.either { day || weekday } else { day && weekday };
        day && has(self.months, date.month())
    }

    /// The longest time between two runs from today on. An engine may not say at which offset from
    /// UTC it reads a schedule: at any it is the same.
    pub fn longest_gap(&self, now: Wall) -> Duration {
        let minutes = |minutes: i64| Duration::from_secs(minutes.unsigned_abs() * 60);
        let whole = AHEAD * DAY_MINUTES;
        let today = jiff::Timestamp::from_second(now.0.div_euclid(1_000_000_000))
            .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
        let Ok(mut date) = today else { return minutes(whole) };
        let times: Vec<i64> = (0..24_i8)
            .filter(|hour| has(self.hours, *hour))
            .flat_map(|hour| {
                let minutes = (0..60_i8).filter(|minute| has(self.minutes, *minute));
                minutes.map(move |minute| i64::from(hour) * 60 + i64::from(minute))
            })
            .collect();
        let (Some(first), Some(end)) = (times.first(), times.last()) else {
            return minutes(whole);
        };
        let inside = times.windows(2).map(|two| match two {
            [a, b] => b - a,
            _ => 0,
        });
        let (mut last, mut longest) = (0, inside.max().unwrap_or(0));
        for day in 0..AHEAD {
            if self.is_on(date) {
                longest = longest.max(day * DAY_MINUTES + first - last);
                last = day * DAY_MINUTES + end;
            }
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
        minutes(longest.max(whole - last))
    }
}

fn has(bits: u64, place: i8) -> bool {
    u32::try_from(place).ok().and_then(|place| bits.checked_shr(place)).is_some_and(|b| b & 1 == 1)
}

/// `*`, `*/5`, `1-5`, `mon-fri`, `10-50/10`, and lists of those.
fn set(field: &str, from: u64, to: u64, names: &[&str]) -> Option<u64> {
    let number = |text: &str| -> Option<u64> {
        let lower = text.to_ascii_lowercase();
        // Months count from one, days of the week from zero.
        let named = names.iter().zip(from..).find(|(name, _)| **name == lower);
        let number = named.map(|(_, n)| n).or_else(|| text.parse().ok())?;
        (from..=to).contains(&number).then_some(number)
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (from, to),
            (_, Some((first, last))) => (number(first)?, number(last)?),
            // `5/15` goes on to the end.
            (one, None) => (number(one)?, if part.contains('/') { to } else { number(one)? }),
        };
        if first > last {
            return None;
        }
        (first..=last).step_by(step).for_each(|n| bits |= 1 << n);
    }
    Some(bits)
}
