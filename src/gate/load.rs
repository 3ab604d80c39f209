//! Load windows: stretches of time in which somebody declares that a load was on. A criterion with
//! `during: load` takes samples from them only.
//!
//! Samples are on the monotonic clock and declarations on the wall clock. A window is put on both
//! when it is declared and stays where it is on the monotonic one: a wall clock that jumps later
//! moves no window onto other samples.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::units::Period;
use crate::time::{Mono, Now, Wall};

/// What a criterion takes its samples from, where not from its whole window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum During {
    /// Declared load windows: `check --load`, or `POST /api/v1/load`.
    Load,
}

/// One stretch of declared load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadWindow {
    pub start: Now,
    pub end: Now,
    /// Who declared it.
    pub source: String,
}

/// A longer load is declared in parts; a slip of the year is a mistake.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Further from now than that nothing is kept that it could select.
const FARTHEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// A source is a name, not a text.
const SOURCE_CHARS: usize = 100;

impl LoadWindow {
    /// Puts a declaration on both clocks, or says what is wrong with it.
    pub fn new(start: Wall, end: Wall, source: &str, now: Now) -> Result<Self, String> {
        if end <= start {
            return Err(format!(
                "the load would end at {} and begin at {}: the end must come after the start",
                end.rfc3339(),
                start.rfc3339()
            ));
        }
        let between = |one: Wall, other: Wall| {
            Duration::from_nanos(u64::try_from(one.0.saturating_sub(other.0)).unwrap_or(0))
        };
        if between(end, start) > LONGEST {
            return Err("a load window is at most 7 days long: declare it in parts".to_owned());
        }
        if between(start, now.wall) > FARTHEST || between(now.wall, end) > FARTHEST {
            return Err("a load window is within 31 days of now".to_owned());
        }
        let named = !source.trim().is_empty() && source.chars().count() <= SOURCE_CHARS;
        if !named || source.chars().any(char::is_control) {
            return Err(format!(
                "the source of a load is a name of 1 to {SOURCE_CHARS} characters in one line"
            ));
        }
        let on_both = |wall: Wall| Now { mono: now.mono_of(wall), wall };
        Ok(Self { start: on_both(start), end: on_both(end), source: source.to_owned() })
    }
}

/// Reads an instant as people and scripts write it: RFC 3339, `now`, or a span from a base: `+10m`,
/// `-90s`, also with `now` before it.
fn instant(text: &str, base: Wall, now: Wall) -> Result<Wall, String> {
    let wrong = || {
        format!(
            "`{text}` is no instant: write RFC 3339 (2026-01-31T10:00:00Z), `now`, `+10m` or `-10m`"
        )
    };
    let (base, rest) = match text.strip_prefix("now") {
        Some("") => return Ok(now),
        Some(rest) => (now, rest),
        None => (base, text),
    };
    if let Some(ahead) = rest.strip_prefix('+') {
        return Ok(base.plus(ahead.parse::<Period>().map_err(|_| wrong())?.0));
    }
    if let Some(ago) = rest.strip_prefix('-') {
        return Ok(base.minus(ago.parse::<Period>().map_err(|_| wrong())?.0));
    }
    Wall::parse(text).ok_or_else(wrong)
}

/// A declaration in words. A start without a date is from now, an end from the start.
pub fn declare(start: &str, end: &str, source: &str, now: Now) -> Result<LoadWindow, String> {
    let start = instant(start.trim(), now.wall, now.wall)?;
    let end = instant(end.trim(), start, now.wall)?;
    LoadWindow::new(start, end, source, now)
}

/// A stretch of load on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Mono,
    pub end: Mono,
}

/// All stretches, ascending; those that touch are one.
pub fn spans<'a>(windows: impl IntoIterator<Item = &'a LoadWindow>) -> Vec<Span> {
    let all = windows.into_iter().map(|w| Span { start: w.start.mono, end: w.end.mono });
    let mut all: Vec<Span> = all.filter(|span| span.start < span.end).collect();
    all.sort_by_key(|span| span.start);
    let mut merged: Vec<Span> = Vec::with_capacity(all.len());
    for span in all {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

/// Whether a load was on at this instant.
pub(super) fn holds(load: &[Span], at: Mono) -> bool {
    load.iter().any(|span| at >= span.start && at <= span.end)
}

/// How long a load was on between two instants.
pub(super) fn time_in(load: &[Span], from: Mono, to: Mono) -> Duration {
    load.iter().map(|span| span.end.min(to).since(span.start.max(from))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Now {
        Now { mono: Mono::from_secs(second), wall: Wall::from_secs(1_000_000 + second) }
    }

    fn window(start: i64, end: i64) -> LoadWindow {
        LoadWindow::new(at(start).wall, at(end).wall, "test", at(0)).expect("a window")
    }

    #[test]
    fn windows_that_touch_are_one_stretch() {
        let all = [window(50, 60), window(10, 20), window(20, 30), window(12, 15)];
        let spans = spans(&all);
        let seconds: Vec<_> =
            spans.iter().map(|s| (s.start.0 / 1_000_000_000, s.end.0 / 1_000_000_000)).collect();
        assert_eq!(seconds, [(10, 30), (50, 60)]);
        assert_eq!(time_in(&spans, Mono::from_secs(25), Mono::from_secs(55)).as_secs(), 10);
        assert!(holds(&spans, Mono::from_secs(30)) && !holds(&spans, Mono::from_secs(31)));
    }

    #[test]
    fn a_clock_that_jumps_after_the_declaration_moves_nothing() {
        let declared = window(10, 20);
        // An hour later by the wall clock, at the same instant of the monotonic one.
        let jumped = Now { mono: Mono::from_secs(5), wall: Wall::from_secs(1_003_605) };
        assert_ne!(jumped.mono_of(declared.start.wall), declared.start.mono);
        assert_eq!(spans([&declared])[0].start, Mono::from_secs(10));
    }

    #[test]
    fn instants_are_read_as_they_are_written() {
        let now = at(0);
        for (start, end, seconds) in [
            ("now", "+10m", (0, 600)),
            ("-5m", "now", (-300, 0)),
            ("now-5m", "+1m", (-300, -240)),
            ("+1h", "now+2h", (3600, 7200)),
            ("1970-01-12T13:46:40Z", "1970-01-12T13:46:50+00:00", (0, 10)),
        ] {
            let window =
                declare(start, end, "x", now).unwrap_or_else(|e| panic!("{start}/{end}: {e}"));
            let of = |at: Now| at.mono.0 / 1_000_000_000;
            assert_eq!((of(window.start), of(window.end)), seconds, "{start}/{end}");
        }
        for (start, end) in [
            ("", "now"),
            ("now", ""),
            ("soon", "+1m"),
            ("now", "+1"),
            ("now", "10m"),
            ("now+", "+1m"),
        ] {
            assert!(declare(start, end, "x", now).is_err(), "{start}/{end}");
        }
    }

    #[test]
    fn what_can_be_no_load_is_refused() {
        let day = 24 * 3600;
        for (start, end, source, part) in [
            (10, 10, "x", "after the start"),
            (20, 10, "x", "after the start"),
            (0, 8 * day, "x", "7 days"),
            (40 * day, 41 * day, "x", "31 days"),
            (-41 * day, -40 * day, "x", "31 days"),
            (0, 10, " ", "name"),
            (0, 10, "a\nb", "name"),
        ] {
            let error = LoadWindow::new(at(start).wall, at(end).wall, source, at(0)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
