//! The samples of one window as one population, and what a function makes of them when some are
//! not known.

use super::window::{Coverage, Window, most_attempts};
use super::{Bound, Function};
use crate::series::{Track, Value};

/// What the window of one track shows, or of several together.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    /// Ascending, where the function asks for their ranks.
    pub numbers: Vec<f64>,
    pub failed: u64,
    /// Attempts that looked: whatever they found, it is known.
    pub looked: u64,
    /// Attempts that were due, seen or missed in a short gap.
    pub due: f64,
    /// Of those due, what was inconclusive or missed. An attempt of which a part could not be
    /// measured counts for that part.
    pub inconclusive: f64,
    /// The most samples that may still be missing from the full window; None where nobody can
    /// tell how many an attempt yields.
    pub unseen: Option<u64>,
    /// Growth of a counter over the window.
    pub growth: f64,
}

/// More samples than this are not imagined: enough to outvote any window that memory can hold.
const UNSEEN_LIMIT: u64 = 1 << 40;

impl Samples {
    pub(super) fn of(
        track: &Track,
        window: Window<'_>,
        coverage: &Coverage,
        function: Function,
    ) -> Self {
        let mut samples = Self::default();
        let mut most = 0_u64;
        let mut conclusive = 0.0;
        let mut base: Option<f64> = None;
        // Ascending by time: of what is older than the window only the newest number matters.
        let end = track.points.partition_point(|point| point.at <= window.now);
        let start = track.points.partition_point(|point| point.at < window.start);
        for point in track.points.iter().take(start).rev() {
            if let Value::Number(number) = point.value() {
                base = Some(number);
                break;
            }
        }
        samples.numbers.reserve(end.saturating_sub(start));
        let mut next = start;
        while let Some(at) = track.points.get(next).filter(|_| next < end).map(|point| point.at) {
            let attempt = next;
            let within = window.holds(at);
            let mut yielded = 0_u64;
            let mut blind = 0_u64;
            while let Some(point) = track.points.get(next).filter(|point| point.at == at) {
                next += 1;
                match point.value() {
                    Value::Number(number) => {
                        if within {
                            samples.numbers.push(number);
                            yielded += 1;
                            samples.growth += base.map_or(0.0, |base| grown(base, number));
                        }
                        base = Some(number);
                    }
                    Value::Failed if within => samples.failed += 1,
                    Value::Inconclusive => blind += 1,
                    Value::Nothing | Value::Failed => {}
                }
            }
            if within {
                let share = blind as f64 / (next - attempt) as f64;
                samples.due += 1.0;
                samples.inconclusive += share;
                conclusive += 1.0 - share;
                samples.looked += u64::from(share < 1.0);
                most = most.max(yielded);
            }
        }
        samples.rank(function);
        samples.due += coverage.missed as f64;
        samples.inconclusive += coverage.missed as f64;
        let attempts = if coverage.full {
            samples.inconclusive.ceil()
        } else {
            (most_attempts(window.over, track.cadence.interval) as f64 - conclusive).ceil()
        };
        // `as` saturates: a negative number of attempts is none.
        let attempts = attempts as u64;
        let one_each = matches!(track.key.metric.series, Some("check.success" | "check.duration"));
        samples.unseen = match (attempts, most) {
            (0, _) => Some(0),
            (_, 0) if !one_each => None,
            (attempts, most) => Some(attempts.saturating_mul(most.max(1)).min(UNSEEN_LIMIT)),
        };
        samples
    }

    /// One population of several.
    pub(super) fn pool(all: impl IntoIterator<Item = Self>, function: Function) -> Self {
        let mut pool = Self { unseen: Some(0), ..Self::default() };
        for one in all {
            pool.numbers.extend(one.numbers);
            pool.failed = pool.failed.saturating_add(one.failed);
            pool.looked = pool.looked.saturating_add(one.looked);
            pool.due += one.due;
            pool.inconclusive += one.inconclusive;
            pool.growth += one.growth;
            pool.unseen = match (pool.unseen, one.unseen) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more).min(UNSEEN_LIMIT)),
                _ => None,
            };
        }
        pool.rank(function);
        pool
    }

    /// Sorting is what judging costs most, and few functions ask for it.
    fn rank(&mut self, function: Function) {
        if matches!(function, Function::Min | Function::Max | Function::Quantile(_)) {
            self.numbers.sort_unstable_by(f64::total_cmp);
        }
    }

    /// How many there are: each failed attempt is one.
    pub(super) fn count(&self) -> u64 {
        (self.numbers.len() as u64).saturating_add(self.failed)
    }

    /// The share of attempts due that were inconclusive.
    pub(super) fn inconclusive_share(&self) -> f64 {
        if self.due > 0.0 { self.inconclusive / self.due } else { 0.0 }
    }

    /// What the function makes of these samples, of the failed attempts as samples beyond every
    /// threshold, and of `best` further samples that are as good as can be. Infinite where those
    /// decide; None where there is nothing to make it of.
    pub(super) fn value(&self, function: Function, bound: Bound, best: u64) -> Option<f64> {
        let (best_value, worst_value) = match bound {
            Bound::Below(_) => (f64::NEG_INFINITY, f64::INFINITY),
            Bound::Above(_) => (f64::INFINITY, f64::NEG_INFINITY),
        };
        let count = self.count().saturating_add(best);
        let extreme = |good: u64| {
            if self.failed > 0 {
                Some(worst_value)
            } else if good > 0 {
                Some(best_value)
            } else {
                None
            }
        };
        match function {
            Function::Absent => Some(self.count() as f64),
            _ if count == 0 => None,
            Function::Mean => Some(extreme(best).unwrap_or_else(|| mean(&self.numbers))),
            Function::Ratio => {
                let (good, bad) = match bound {
                    Bound::Below(_) => (0.0, 1.0),
                    Bound::Above(_) => (1.0, 0.0),
                };
                let sum: f64 = self.numbers.iter().map(|number| number.clamp(0.0, 1.0)).sum();
                Some((sum + bad * self.failed as f64 + good * best as f64) / count as f64)
            }
            Function::Increase => Some(match bound {
                // A counter only grows: what was not seen can't take growth back.
                Bound::Below(_) => extreme(0).unwrap_or(self.growth),
                Bound::Above(_) => extreme(best).unwrap_or(self.growth),
            }),
            Function::Min => self.ranked(1, bound, best),
            Function::Max => self.ranked(count, bound, best),
            Function::Quantile(q) => {
                // Nearest rank. The tiny step back keeps 0.99 of 100 at rank 99, whatever the
                // binary fraction makes of it.
                let rank = (q.clamp(0.0, 1.0) * count as f64 - 1e-9).ceil() as u64;
                self.ranked(rank, bound, best)
            }
            // These have their own rules, in `judge` and `events`.
            Function::Last
            | Function::Fresh
            | Function::Loss
            | Function::Duplicates
            | Function::Complete => None,
        }
    }

    /// The sample of this rank, 1 the smallest.
    fn ranked(&self, rank: u64, bound: Bound, best: u64) -> Option<f64> {
        let (below, above) = match bound {
            Bound::Below(_) => (best, self.failed),
            Bound::Above(_) => (self.failed, best),
        };
        let count = self.count().saturating_add(best);
        let rank = rank.clamp(1, count.max(1));
        if rank <= below {
            return Some(f64::NEG_INFINITY);
        }
        if rank > count.saturating_sub(above) {
            return Some(f64::INFINITY);
        }
        let place = usize::try_from(rank - below - 1).ok()?;
        self.numbers.get(place).copied()
    }
}

/// A counter that went down was reset and has grown from nothing since.
fn grown(from: f64, to: f64) -> f64 {
    if to >= from { to - from } else { to.max(0.0) }
}

fn mean(numbers: &[f64]) -> f64 {
    // Divided first, so that the sum of finite numbers stays finite.
    let count = numbers.len() as f64;
    numbers.iter().map(|number| number / count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(numbers: &[f64], failed: u64) -> Samples {
        let mut numbers = numbers.to_vec();
        numbers.sort_by(f64::total_cmp);
        Samples { numbers, failed, ..Samples::default() }
    }

    #[test]
    fn functions_of_numbers_failed_attempts_and_best_cases() {
        use Bound::{Above, Below};
        use Function::{Absent, Max, Mean, Min, Quantile, Ratio};
        let up = f64::INFINITY;
        let down = f64::NEG_INFINITY;
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (what, numbers, failed, best, function, bound, expected) in [
            ("mean", &[1.0, 2.0, 6.0][..], 0, 0, Mean, Below(5.0), Some(3.0)),
            ("mean with a failure", &[1.0], 1, 9, Mean, Below(5.0), Some(up)),
            ("mean with a failure, above", &[1.0], 1, 9, Mean, Above(5.0), Some(down)),
            ("mean that may get better", &[9.0], 0, 1, Mean, Below(5.0), Some(down)),
            ("nothing", &[], 0, 0, Mean, Below(5.0), None),
            ("max", &[1.0, 7.0], 0, 3, Max, Below(5.0), Some(7.0)),
            ("max above with a failure", &[1.0, 7.0], 1, 0, Max, Above(5.0), Some(7.0)),
            ("max with a failure", &[1.0, 7.0], 1, 0, Max, Below(9.0), Some(up)),
            ("min", &[1.0, 7.0], 0, 0, Min, Above(0.5), Some(1.0)),
            ("min above with a failure", &[1.0, 7.0], 1, 5, Min, Above(0.5), Some(down)),
            ("p99 of 100", &hundred, 0, 0, Quantile(0.99), Below(5.0), Some(99.0)),
            ("p50 of 100", &hundred, 0, 0, Quantile(0.5), Below(5.0), Some(50.0)),
            ("p100", &hundred, 0, 0, Quantile(1.0), Below(5.0), Some(100.0)),
            ("p0", &hundred, 0, 0, Quantile(0.0), Below(5.0), Some(1.0)),
            ("p99, one of 101 failed", &hundred, 1, 0, Quantile(0.99), Below(5.0), Some(100.0)),
            ("p99, two failed", &hundred, 2, 0, Quantile(0.99), Below(5.0), Some(up)),
            (
                "p99, two failed, 100 best",
                &hundred,
                2,
                100,
                Quantile(0.99),
                Below(5.0),
                Some(100.0),
            ),
            ("p1 above, two failed", &hundred, 2, 0, Quantile(0.01), Above(5.0), Some(down)),
            ("ratio", &[1.0, 1.0, 1.0], 1, 0, Ratio, Above(0.9), Some(0.75)),
            ("ratio, best", &[1.0, 1.0, 1.0], 1, 6, Ratio, Above(0.9), Some(0.9)),
            (
                "loss ratio, failure is the worst",
                &[0.0, 0.0, 0.0],
                1,
                0,
                Ratio,
                Below(0.1),
                Some(0.25),
            ),
            ("absent", &[3.0], 1, 5, Absent, Below(0.0), Some(2.0)),
        ] {
            assert_eq!(samples(numbers, failed).value(function, bound, best), expected, "{what}");
        }
    }

    #[test]
    fn a_reset_starts_the_growth_anew() {
        assert_eq!(grown(5.0, 7.0), 2.0);
        assert_eq!(grown(5.0, 1.0), 1.0);
    }
}
