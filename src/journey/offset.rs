//! How far a stage's clock is off from ours, by what it writes of when it saw an event.
//!
//! As NTP does it with one exchange: the stage stamped an event after we began to send it and
//! before we saw it there. So its clock less ours is at least the stamp less when we saw, and at
//! most the stamp less when we sent; over the events of a round the bounds are intersected.

use serde::{Deserialize, Serialize};

/// The stage's clock less ours, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    pub lower: i64,
    pub upper: i64,
    /// Events that it is known from.
    pub events: u64,
}

/// When something happened, as a clock wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds since 1970.
    pub at: i64,
    /// The last digit that was written, in nanoseconds: what is behind it was cut off or rounded.
    pub digit: i64,
}

impl Offset {
    /// By one event: when it was to be sent, and when it was seen, by our clock.
    pub fn of(stamp: Stamp, sent: i64, seen: i64) -> Self {
        Self {
            lower: stamp.at.saturating_sub(stamp.digit / 2).saturating_sub(seen),
            upper: stamp.at.saturating_add(stamp.digit).saturating_sub(sent),
            events: 1,
        }
    }

    /// What both say.
    pub fn and(self, other: Self) -> Self {
        Self {
            lower: self.lower.max(other.lower),
            upper: self.upper.min(other.upper),
            events: self.events.saturating_add(other.events),
        }
    }

    /// Whether any offset fits all events: a clock that was set in mid-round, or a field that is no
    /// time of the stage, has none.
    pub fn fits(self) -> bool {
        self.lower <= self.upper
    }

    /// At most so many seconds is the clock off, in either direction; None where no offset fits.
    pub fn at_most(self) -> Option<f64> {
        self.fits().then(|| self.lower.unsigned_abs().max(self.upper.unsigned_abs()) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    #[test]
    fn the_true_offset_lies_within_whatever_the_delays() {
        use proptest::prelude::*;
        let mut runner = proptest::test_runner::TestRunner::default();
        let digit = prop_oneof![Just(1), Just(1_000_000), Just(SECOND)];
        // When sent, how long until it was stamped, how long from there until it was seen.
        let event = (0..HOUR, 0..60 * SECOND, 0..60 * SECOND);
        let world =
            (-10 * HOUR..10 * HOUR, digit, any::<bool>(), prop::collection::vec(event, 1..40));
        runner
            .run(&world, |(offset, digit, rounds, events)| {
                let bounds = events.iter().map(|(sent, before, after)| {
                    let stamped = sent + before;
                    let by_its_clock = stamped + offset + if rounds { digit / 2 } else { 0 };
                    let at = by_its_clock.div_euclid(digit) * digit;
                    Offset::of(Stamp { at, digit }, *sent, stamped + after)
                });
                let all = bounds.reduce(Offset::and).expect("at least one");
                prop_assert!(all.fits());
                prop_assert!(all.lower <= offset && offset <= all.upper, "{all:?}");
                prop_assert_eq!(all.events, events.len() as u64);
                let narrowest = events.iter().map(|(_, before, after)| before + after).min();
                prop_assert!(all.upper - all.lower <= narrowest.unwrap_or(0) + 2 * digit);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        eprintln!("property clock offsets: {} inputs", runner.config().cases);
    }

    #[test]
    fn a_clock_that_was_set_has_no_one_offset() {
        let stamp = |at| Stamp { at, digit: 1 };
        let before = Offset::of(stamp(HOUR + SECOND), 0, 2 * SECOND);
        let after = Offset::of(stamp(HOUR), HOUR, HOUR + SECOND);
        assert_eq!((before.lower, before.upper), (HOUR - SECOND, HOUR + SECOND + 1));
        assert_eq!(before.at_most(), Some(3_601.000_000_001));
        assert!(after.fits() && !before.and(after).fits());
        assert_eq!(before.and(after).at_most(), None);
    }
}
