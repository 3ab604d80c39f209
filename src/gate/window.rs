//! What a window shows: whether it is covered, how many attempts were due, what was not seen.

use std::time::Duration;

use super::load::{Span, holds, time_in};
use crate::series::{Attempts, Cadence, Track, on_time};
use crate::time::{Mono, Now};

/// The part of the past that a criterion looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub start: Mono,
    pub now: Mono,
    pub over: Duration,
    /// Only the times of load in it, where the criterion says so.
    pub load: Option<&'a [Span]>,
}

impl<'a> Window<'a> {
    pub(super) fn ending(now: Now, over: Duration) -> Self {
        Self { start: now.mono.minus(over), now: now.mono, over, load: None }
    }

    pub(super) fn under(self, load: Option<&'a [Span]>) -> Self {
        Self { load, ..self }
    }

    pub(super) fn holds(&self, at: Mono) -> bool {
        at >= self.start && at <= self.now && self.load.is_none_or(|load| holds(load, at))
    }

    /// Whether the load goes on: what it will show is not known yet, unless it has been on for
    /// the whole of the window.
    fn under_way(&self, load: &[Span]) -> bool {
        let goes_on = load.iter().any(|span| span.start <= self.now && span.end > self.now);
        goes_on && time_in(load, self.start, self.now) < self.over
    }
}

/// How far the window was observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Coverage {
    /// Observed from the window's start to now, with no gap above the longest that is allowed.
    pub full: bool,
    /// The unbroken observation that reaches to now, at most the window.
    pub covered: Duration,
    /// Attempts that were due in the window's shorter gaps and were not made.
    pub missed: u64,
    /// The load that is to be judged goes on.
    pub under_way: bool,
}

impl Coverage {
    pub(super) fn by(track: &Track, window: Window<'_>) -> Self {
        Self::of(window, track.cadence(), &track.attempts(window.now))
    }

    /// `attempts` are those up to now, those before the window too.
    pub(super) fn of(window: Window<'_>, cadence: &Cadence, attempts: &Attempts) -> Self {
        let longest = cadence.longest_gap();
        let mut seen = match window.load {
            Some(load) => Seen::under_load(window, load, cadence),
            None => Seen::all(window, cadence),
        };
        let mut missed = 0;
        let mut gap = |last: Mono, at: Mono, first: bool, tail: bool| {
            let gap = at.since(last);
            if gap > longest {
                seen.broken(last, at);
                if window.load.is_none() {
                    missed = 0;
                }
            } else {
                missed += missed_in(window, cadence, last, gap, first, tail);
            }
        };
        if let Some(at) = attempts.first {
            gap(cadence.since, at, true, false);
        }
        for (last, at) in &attempts.late {
            let last = (*last).max(cadence.since);
            // Nothing can have been missed before that.
            if *at >= last.plus(on_time(cadence.interval)) {
                gap(last, *at, false, false);
            }
        }
        let newest = attempts.newest.map_or(cadence.since, |at| at.max(cadence.since));
        gap(newest, window.now, attempts.newest.is_none(), true);
        seen.coverage(missed)
    }
}

/// What of the window was observed, as one attempt after the other is looked at.
enum Seen<'a> {
    /// All of it is asked for: the unbroken observation begins here.
    All { window: Window<'a>, from: Mono },
    /// The times of load only: what nobody saw besides them does not matter.
    UnderLoad { window: Window<'a>, load: &'a [Span], unseen: Duration },
}

impl<'a> Seen<'a> {
    fn all(window: Window<'a>, cadence: &Cadence) -> Self {
        // What is decided late is evidence of an earlier time: a window that begins when the
        // attempts did would show the quick fates and miss the slow ones, which are the bad ones.
        Self::All { window, from: cadence.since.plus(cadence.lag) }
    }

    fn under_load(window: Window<'a>, load: &'a [Span], cadence: &Cadence) -> Self {
        // Before attempts were due, nobody looked.
        let unseen = time_in(load, window.start, cadence.since.min(window.now));
        Self::UnderLoad { window, load, unseen }
    }

    /// Nobody looked between two attempts.
    fn broken(&mut self, last: Mono, at: Mono) {
        match self {
            Self::All { from, .. } => *from = at.max(*from),
            Self::UnderLoad { window, load, unseen } => {
                *unseen += time_in(load, last.max(window.start), at);
            }
        }
    }

    fn coverage(self, missed: u64) -> Coverage {
        match self {
            Self::All { window, from } => Coverage {
                full: from <= window.start,
                covered: window.now.since(from).min(window.over),
                missed,
                under_way: false,
            },
            Self::UnderLoad { window, load, unseen } => {
                let under_way = window.under_way(load);
                let all = time_in(load, window.start, window.now);
                Coverage {
                    full: unseen.is_zero() && !under_way && !all.is_zero(),
                    covered: all.saturating_sub(unseen).min(window.over),
                    missed,
                    under_way,
                }
            }
        }
    }
}

/// The attempts that were due strictly between two instants of observation and inside the window.
/// At most a few: the gap is no longer than the longest allowed.
fn missed_in(
    window: Window<'_>,
    cadence: &Cadence,
    last: Mono,
    gap: Duration,
    first: bool,
    tail: bool,
) -> u64 {
    let interval = cadence.interval.as_nanos().max(1);
    let gap = gap.saturating_sub(cadence.lag).as_nanos();
    let due = if tail {
        // The newest attempt due may still be running.
        (gap / interval).saturating_sub(u128::from(!first))
    } else if first {
        // From when attempts were due to the first of them: it has a phase of its own.
        gap / interval
    } else {
        // Rounded, so that a tick which came a little late is no missed one.
        ((gap + interval / 2) / interval).saturating_sub(1)
    };
    (1..=due.min(4))
        .filter(|step| {
            let ahead = u64::try_from(interval.saturating_mul(*step)).unwrap_or(u64::MAX);
            let due = last.plus(Duration::from_nanos(ahead));
            due >= window.start && window.load.is_none_or(|load| holds(load, due))
        })
        .count() as u64
}

/// The most attempts that a window of this length can hold.
pub(super) fn most_attempts(over: Duration, interval: Duration) -> u64 {
    let count = over.as_nanos() / interval.as_nanos().max(1);
    u64::try_from(count).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(over: u64, since: i64, lag: u64, now: i64, attempts: &[i64]) -> (bool, u64, u64) {
        let cadence = Cadence {
            interval: Duration::from_secs(10),
            since: Mono::from_secs(since),
            lag: Duration::from_secs(lag),
        };
        let now = Now { mono: Mono::from_secs(now), ..Now::default() };
        let window = Window::ending(now, Duration::from_secs(over));
        let seen = attempts.iter().map(|at| Mono::from_secs(*at));
        let seen = seen.take_while(|at| *at <= window.now);
        let found = Coverage::of(window, &cadence, &Attempts::of(cadence.interval, seen));
        (found.full, found.covered.as_secs(), found.missed)
    }

    #[test]
    fn a_window_is_covered_from_its_start_to_now_with_no_gap_above_three_intervals() {
        let every_ten: Vec<i64> = (0..20).map(|n| n * 10 + 3).collect();
        for (what, over, since, lag, now, attempts, expected) in [
            ("steady", 100, 0, 0, 195, &every_ten[..], (true, 100, 0)),
            ("exactly from the start", 100, 95, 0, 195, &every_ten[10..], (true, 100, 0)),
            ("one second short", 100, 96, 0, 195, &every_ten[10..], (false, 99, 0)),
            ("nothing yet", 100, 95, 0, 195, &[], (false, 0, 0)),
            ("stopped 30 s ago", 100, 0, 0, 223, &every_ten[..], (true, 100, 2)),
            ("stopped 31 s ago", 100, 0, 0, 224, &every_ten[..], (false, 0, 0)),
            ("two missed", 50, 0, 0, 65, &[3, 13, 23, 53, 63], (true, 50, 2)),
            ("a long gap", 50, 0, 0, 65, &[3, 13, 54, 64], (false, 11, 0)),
            ("a late tick is no missed one", 50, 0, 0, 60, &[3, 13, 27, 33, 43, 53], (true, 50, 0)),
            ("missed before the window", 20, 0, 0, 60, &[3, 33, 43, 53], (true, 20, 0)),
            ("decided late: not yet", 50, 0, 40, 80, &[45, 55, 65, 75], (false, 40, 0)),
            ("decided late: covered", 50, 0, 40, 90, &[45, 55, 65, 75, 85], (true, 50, 0)),
            (
                "the future is not looked at",
                50,
                0,
                0,
                60,
                &[3, 13, 23, 33, 43, 53, 99],
                (true, 50, 0),
            ),
            (
                "older points were forgotten",
                50,
                -900,
                0,
                100,
                &[25, 35, 45, 55, 65, 75, 85, 95],
                (true, 50, 0),
            ),
        ] {
            assert_eq!(coverage(over, since, lag, now, attempts), expected, "{what}");
        }
    }

    #[test]
    fn no_interval_and_no_window_are_no_trouble() {
        assert_eq!(most_attempts(Duration::from_secs(60), Duration::from_secs(15)), 5);
        assert_eq!(most_attempts(Duration::MAX, Duration::ZERO), u64::MAX);
    }
}
