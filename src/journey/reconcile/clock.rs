//! The time that a stage shows of an event against the one that the event told: days taken for
//! months, and offsets that were lost.

use serde_json::{Map, Value};

use super::{excerpt, lookup, plain};
use crate::journey::offset::Stamp;
use crate::journey::{Arrival, Event};
use crate::time::Wall;

/// Where an event's own time is shown by most.
const USUAL: [&str; 5] = ["@timestamp", "timestamp", "_time", "time", "ts"];
/// Formats and stores of whole seconds cut the rest off.
const TOLERANCE: i64 = 1_000_000_000;
const SECOND: i64 = 1_000_000_000;
/// Offsets of all zones are multiples of a quarter of an hour, at most 14 hours; two can add up.
const QUARTER: i64 = 900 * SECOND;
const SHIFT_LIMIT: i64 = 28 * 3_600 * SECOND;

/// What is wrong with the time that this copy shows. `field` is where it must be; without one, and
/// without a date probe, nobody asked.
pub(super) fn misread(arrival: &Arrival, event: &Event, field: Option<&str>) -> Option<String> {
    if field.is_none() && event.date_probe.is_none() {
        return None;
    }
    let found = arrival.fields.as_ref().and_then(|fields| find(fields, field));
    let Some((name, value)) = found else {
        return field.map(|field| format!("it shows no time in {field}"));
    };
    let Some(shown) = instant(value) else {
        return Some(format!("{name} is '{}', which is no time", excerpt(&plain(value))));
    };
    let off = shown.saturating_sub(event.time.0);
    if off.unsigned_abs() < TOLERANCE.unsigned_abs() {
        return None;
    }
    let zone = event.date_probe.unwrap_or(0);
    let told =
        || format!("{name} is {} instead of {}", Wall(shown).rfc3339(), event.time.rfc3339());
    for zone in [zone, 0] {
        if let Some(swapped) = swapped(event.time, zone) {
            let off = shown.saturating_sub(swapped);
            if off.unsigned_abs() < TOLERANCE.unsigned_abs() {
                return Some(format!("day and month swapped: {}", told()));
            }
            if let Some(shift) = shift(off) {
                return Some(format!("day and month swapped and shifted by {shift}: {}", told()));
            }
        }
    }
    match shift(off) {
        Some(shift) => Some(format!("shifted by {shift}: {}", told())),
        None => Some(told()),
    }
}

fn find<'a>(
    fields: &'a Map<String, Value>,
    field: Option<&'a str>,
) -> Option<(&'a str, &'a Value)> {
    let at = |name: &'a str| Some((name, lookup(fields, name).filter(|value| !value.is_null())?));
    match field {
        Some(field) => at(field),
        None => USUAL.into_iter().find_map(at),
    }
}

/// Nanoseconds since 1970 of what a stage shows; a time without an offset is taken for UTC, as
/// stores do.
fn instant(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => return epoch(number.as_f64()?),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    if let Some(at) = Wall::parse(text) {
        return Some(at.0);
    }
    if let Ok(number) = text.parse::<f64>() {
        return epoch(number);
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    i64::try_from(at.as_nanosecond()).ok()
}

/// What a stage's clock wrote, and how finely; None where it is no time.
pub fn stamp(value: &Value) -> Option<Stamp> {
    let at = instant(value)?;
    let text = plain(value);
    let fraction = text
        .rsplit_once('.')
        .map_or(0, |(_, behind)| behind.bytes().take_while(u8::is_ascii_digit).count());
    // A bare number counts seconds or parts of them.
    let unit = match text.trim().parse::<f64>() {
        Ok(number) => scale(number)? as i64,
        Err(_) => SECOND,
    };
    let digits = u32::try_from(fraction).unwrap_or(u32::MAX);
    let digit = unit / 10_i64.checked_pow(digits).unwrap_or(i64::MAX);
    Some(Stamp { at, digit: digit.max(1) })
}

/// Seconds, milliseconds, microseconds or nanoseconds, by how large it is: each reads as a year
/// between 1973 and 5138 in one of them only.
fn epoch(number: f64) -> Option<i64> {
    Some((number * scale(number)?) as i64)
}

/// The nanoseconds of what such a number counts.
fn scale(number: f64) -> Option<f64> {
    Some(match number.abs() {
        size if !size.is_finite() || size >= 1e20 => return None,
        size if size < 1e11 => 1e9,
        size if size < 1e14 => 1e6,
        size if size < 1e17 => 1e3,
        _ => 1.0,
    })
}

/// The instant with day and month exchanged, where there is such a day.
fn swapped(at: Wall, zone: i32) -> Option<i64> {
    let offset = jiff::tz::Offset::from_seconds(zone).ok()?;
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(at.0)).ok()?;
    let civil = offset.to_datetime(stamp);
    let date = jiff::civil::Date::new(civil.year(), civil.day(), civil.month()).ok()?;
    if date == civil.date() {
        return None;
    }
    let stamp = offset.to_timestamp(date.to_datetime(civil.time())).ok()?;
    i64::try_from(stamp.as_nanosecond()).ok()
}

/// "+05:30", where a time is off by what a lost or doubled offset makes.
fn shift(off: i64) -> Option<String> {
    let quarters = (off as f64 / QUARTER as f64).round() as i64;
    let off_by = quarters.saturating_mul(QUARTER);
    let is_shift = quarters != 0
        && off_by.saturating_abs() <= SHIFT_LIMIT
        && off.abs_diff(off_by) < TOLERANCE.unsigned_abs();
    is_shift.then(|| {
        let minutes = off_by.saturating_abs() / SECOND / 60;
        let sign = if off < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journey::event::{EventSpec, Events, Format, run_from};
    use crate::journey::reconcile::tests::arrival;

    fn probe() -> Event {
        let spec = EventSpec { date_probe: true, ..EventSpec::default() };
        let events = Events::new(&spec, Format::Json).expect("a right spec");
        // The 25th: the probe goes back to the 12th of the 11th month.
        let now = Wall::parse("2026-11-25T10:20:30.250Z").expect("a time");
        events.render(&run_from([1; 8]), "s", 3, now)
    }

    #[test]
    fn what_a_probe_tells_and_what_a_stage_makes_of_it() {
        let event = probe();
        let payload: Value = serde_json::from_slice(&event.payload).expect("JSON");
        assert_eq!(payload["@timestamp"], json!("2026-11-12T15:50:30.250+05:30"));
        for (shown, expected) in [
            (json!("2026-11-12T15:50:30.250+05:30"), None),
            (json!("2026-11-12T10:20:30Z"), None),
            (json!("2026-11-12T10:20:30.250"), None),
            (json!(1_794_478_830), None),
            (json!(1_794_478_830_250_i64), None),
            (json!("1794478830.250"), None),
            (json!("2026-12-11T15:50:30.250+05:30"), Some("day and month swapped: @timestamp is")),
            (json!("2026-12-11T15:50:30.250Z"), Some("swapped and shifted by +05:30: @timestamp")),
            (json!("2026-11-12T15:50:30.250Z"), Some("shifted by +05:30: @timestamp")),
            (json!("2026-11-12 08:20:30"), Some("shifted by -02:00: @timestamp")),
            (
                json!("2026-11-25T10:20:30.250Z"),
                Some("@timestamp is 2026-11-25T10:20:30.250Z instead"),
            ),
            (json!("yesterday"), Some("'yesterday', which is no time")),
            (json!({"a": 1}), Some("which is no time")),
        ] {
            let copy = arrival(None, Some(json!({ "@timestamp": shown })));
            let found = misread(&copy, &event, None);
            match expected {
                None => assert_eq!(found, None, "{shown}"),
                Some(words) => {
                    assert!(
                        found.as_ref().is_some_and(|f| f.contains(words)),
                        "{shown}: {found:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_time_is_asked_for_where_it_was_promised_only() {
        let event = probe();
        let bare = arrival(None, Some(json!({"message": "x"})));
        assert_eq!(misread(&bare, &event, None), None, "this stage shows no time");
        let missing = misread(&bare, &event, Some("event.created"));
        assert_eq!(missing.as_deref(), Some("it shows no time in event.created"));
        let usual = Event { date_probe: None, ..probe() };
        let wrong = arrival(None, Some(json!({"@timestamp": "2001-01-01T00:00:00Z"})));
        assert_eq!(misread(&wrong, &usual, None), None, "nobody asked");
        assert!(misread(&wrong, &usual, Some("@timestamp")).is_some());
    }

    #[test]
    fn a_stamp_is_as_fine_as_it_is_written() {
        let second = Wall::parse("2023-11-14T22:13:20Z").expect("a time").0;
        let quarter = second + 250_000_000;
        for (shown, at, digit) in [
            (json!("2023-11-14T22:13:20Z"), second, SECOND),
            (json!("2023-11-14T22:13:20.25+00:00"), quarter, 10_000_000),
            (json!("2023-11-14 22:13:20.250000"), quarter, 1_000),
            (json!(1_700_000_000), second, SECOND),
            (json!("1700000000"), second, SECOND),
            (json!(1_700_000_000.25), quarter, 10_000_000),
            (json!(1_700_000_000_250_i64), quarter, 1_000_000),
            (json!("1700000000250.5"), quarter + 500_000, 100_000),
            (json!(1_700_000_000_250_000_000_i64), quarter, 1),
        ] {
            let found = stamp(&shown).expect("a time");
            assert_eq!(found.digit, digit, "{shown}");
            // Nanoseconds of a number are those of a double.
            assert!(found.at.abs_diff(at) < 1_000, "{shown}: {found:?}");
        }
        assert_eq!(stamp(&json!("soon")), None);
    }

    #[test]
    fn no_shown_value_breaks_it() {
        use proptest::prelude::*;
        let event = probe();
        let mut runner = proptest::test_runner::TestRunner::default();
        let value = prop_oneof![
            ".{0,40}".prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[-+0-9T:.Z ]{0,30}".prop_map(Value::from),
        ];
        runner
            .run(&value, |value| {
                let copy = arrival(None, Some(json!({ "time": value })));
                let _ = misread(&copy, &event, None);
                let _ = stamp(&value);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        eprintln!("property shown times: {} inputs", runner.config().cases);
    }
}
