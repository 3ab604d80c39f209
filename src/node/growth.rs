//! How fast a filesystem fills, from its own past: a robust line through points of the last hours.
//!
//! The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968): a
//! log rotation or a deleted file in between bends it far less than a least-squares line.

use std::time::Duration;

use crate::time::Mono;

/// How far apart points are. node-mixin predicts from the last six hours.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// Six hours of points.
const POINTS: usize = 36;

/// All pairs of points.
const PAIRS: usize = POINTS * (POINTS - 1) / 2;

/// With less of the past than this no trend is known: no published figure exists.
const LEAST: Duration = Duration::from_secs(20 * 60);

/// While there is less than six hours, points are taken more often.
const EARLY_EVERY: Duration = Duration::from_secs(60);

/// What is further away than this, or never happens.
pub(super) const FAR: f64 = 30.0 * 86_400.0;

/// The available bytes of one filesystem over the last hours. Its memory is fixed.
pub(super) struct History {
    points: [(Mono, f64); POINTS],
    /// The oldest first; as many as are in use.
    count: usize,
    every: Duration,
    /// Bytes lost in a second; None until enough of the past is known.
    slope: Option<f64>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { points: [(Mono::default(), 0.0); POINTS], count: 0, every: EARLY_EVERY, slope: None }
    }

    /// Takes a reading, where one is due.
    pub(super) fn take(&mut self, at: Mono, available: f64) {
        let last = self.count.checked_sub(1).and_then(|last| self.points.get(last));
        if last.is_some_and(|(last, _)| at.since(*last) < self.every) {
            return;
        }
        if self.count == POINTS {
            self.make_room();
        }
        if let Some(point) = self.points.get_mut(self.count) {
            *point = (at, available);
            self.count += 1;
        }
        self.slope = self.fitted();
    }

    /// Every second point goes while the points are closer than they need to be; then the oldest.
    fn make_room(&mut self) {
        if self.every < EVERY {
            self.every = (self.every * 2).min(EVERY);
            let mut kept = 0;
            for index in (1..self.count).step_by(2) {
                self.points.swap(kept, index);
                kept += 1;
            }
            self.count = kept;
        } else {
            self.points.rotate_left(1);
            self.count -= 1;
        }
    }

    fn fitted(&self) -> Option<f64> {
        let points = self.points.get(..self.count)?;
        let (first, last) = (points.first()?, points.last()?);
        if last.0.since(first.0) < LEAST {
            return None;
        }
        let mut slopes = [0.0; PAIRS];
        let mut count = 0;
        for (index, (from, before)) in points.iter().enumerate() {
            for (to, after) in points.iter().skip(index + 1) {
                let seconds = to.since(*from).as_secs_f64();
                if let Some(slope) = slopes.get_mut(count).filter(|_| seconds > 0.0) {
                    *slope = (before - after) / seconds;
                    count += 1;
                }
            }
        }
        let slopes = slopes.get_mut(..count)?;
        let middle = count / 2;
        (count > 0).then(|| *slopes.select_nth_unstable_by(middle, f64::total_cmp).1)
    }

    /// Seconds until nothing is available; [`FAR`] for longer and for never, None until enough of
    /// the past is known.
    pub(super) fn full_in(&self, available: f64) -> Option<f64> {
        let slope = self.slope?;
        Some(if slope > 0.0 { (available / slope).clamp(0.0, FAR) } else { FAR })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn history(hours: i64, available: impl Fn(i64) -> f64) -> History {
        let mut history = History::new();
        for second in (0..=hours * HOUR).step_by(2) {
            history.take(Mono::from_secs(second), available(second));
        }
        history
    }

    #[test]
    fn a_line_is_followed_to_its_end() {
        // A gigabyte, a kilobyte less each second.
        let fall = |second: i64| 1e9 - 1000.0 * second as f64;
        for hours in [1, 3, 6, 9, 24] {
            let now = fall(hours * HOUR);
            let full = history(hours, fall).full_in(now).unwrap();
            assert!((full - now / 1000.0).abs() < 1.0, "{hours} h: {full}");
        }
        assert_eq!(history(3, |_| 5e8).full_in(5e8), Some(FAR));
        assert_eq!(history(3, |second| second as f64).full_in(9.0), Some(FAR), "it empties");
        assert_eq!(history(3, |second| 1e15 - second as f64).full_in(1e15), Some(FAR));
        assert_eq!(history(3, fall).full_in(0.0), Some(0.0));
    }

    #[test]
    fn too_short_a_past_tells_nothing() {
        let mut history = History::new();
        for minute in 0..20 {
            assert_eq!(history.full_in(1.0), None);
            history.take(Mono::from_secs(minute * 60), 100.0 - minute as f64);
        }
        assert_eq!(history.full_in(1.0), None);
        history.take(Mono::from_secs(20 * 60), 80.0);
        assert_eq!(history.full_in(80.0), Some(80.0 * 60.0));
    }

    #[test]
    fn what_is_deleted_in_between_does_not_hide_the_trend() {
        // Every two hours a rotation frees what an hour has filled.
        let saw = |second: i64| {
            let freed = (second / (2 * HOUR)) as f64 * 3.6e6;
            1e9 - 1000.0 * second as f64 + freed
        };
        let full = history(6, saw).full_in(1e9).unwrap();
        assert!((5e5..2.1e6).contains(&full), "{full}");
        // The past that is older than six hours is forgotten.
        let turned = history(14, |s| if s < 7 * HOUR { 1e9 - 1e4 * s as f64 } else { 7.48e8 });
        assert_eq!(turned.full_in(7.48e8), Some(FAR));
    }

    #[test]
    fn whatever_is_read_the_answer_is_a_time() {
        let tried = std::cell::Cell::new(0);
        proptest!(|(steps in prop::collection::vec((0i64..4000, 0.0..1e18f64), 0..300))| {
            let mut history = History::new();
            let mut at = 0;
            for (wait, available) in &steps {
                at += wait;
                history.take(Mono::from_secs(at), *available);
                if let Some(full) = history.full_in(*available) {
                    prop_assert!((0.0..=FAR).contains(&full));
                    prop_assert!(at >= 20 * 60);
                }
            }
            tried.set(tried.get() + 1);
        });
        eprintln!("property node growth: {} inputs", tried.get());
    }
}
