//! The samples of one window as one population, and what a function makes of them when some are
//! not known.

use super::window::{Coverage, Window, most_attempts};
use super::{Bound, Function};
use crate::series::{Keep, Totals, Track, Value, grown};

/// What the window of one track shows, or of several together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    /// Numbers, however many.
    pub found: u64,
    /// Ascending, where the function asks for their ranks.
    pub numbers: Vec<f64>,
    /// Where the function asks for it.
    pub mean: f64,
    /// The sum of the numbers as shares, each 0 to 1, where the function asks for it.
    pub shares: f64,
    /// Growth of a counter over the window, where the function asks for it.
    pub growth: f64,
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
}

/// More samples than this are not imagined: enough to outvote any window that memory can hold.
const UNSEEN_LIMIT: u64 = 1 << 40;

/// What a function asks of the numbers.
fn asks(function: Function) -> Keep {
    match function {
        Function::Mean => Keep::Sum,
        Function::Ratio => Keep::Shares,
        Function::Increase => Keep::Growth,
        Function::Min | Function::Max | Function::Quantile(_) => Keep::Ranks,
        Function::Last
        | Function::Absent
        | Function::Fresh
        | Function::Loss
        | Function::Duplicates
        | Function::Complete => Keep::Count,
    }
}

impl Samples {
    /// By what the track keeps of the window as it moves; point by point where it can't.
    pub(super) fn of(
        track: &Track,
        window: Window<'_>,
        coverage: &Coverage,
        function: Function,
    ) -> Self {
        let keep = asks(function);
        let kept = match window.load {
            None => track.totals(window.over, keep, window.now, |totals| {
                let attempts = totals.numbers + totals.nothing + totals.failed;
                Self {
                    looked: attempts,
                    due: (attempts + totals.inconclusive) as f64,
                    inconclusive: totals.inconclusive as f64,
                    ..Self::summed(totals, keep)
                }
            }),
            Some(_) => None,
        };
        match kept {
            Some(samples) => {
                let (most, conclusive) = (u64::from(samples.found > 0), samples.looked as f64);
                samples.completed(track, window, coverage, most, conclusive)
            }
            None => Self::counted(track, window, coverage, keep),
        }
    }

    fn summed(totals: &Totals, keep: Keep) -> Self {
        let mut samples = Self { found: totals.numbers, failed: totals.failed, ..Self::default() };
        match keep {
            Keep::Count => {}
            Keep::Sum => samples.mean = totals.sum.over(totals.numbers),
            Keep::Shares => samples.shares = totals.sum.over(1),
            Keep::Growth => samples.growth = totals.sum.over(1),
            Keep::Ranks => samples.numbers.clone_from(&totals.ranks),
        }
        samples
    }

    /// Looks at every point.
    pub(super) fn counted(
        track: &Track,
        window: Window<'_>,
        coverage: &Coverage,
        keep: Keep,
    ) -> Self {
        let points = track.points();
        let mut totals = Totals::default();
        let mut looked = 0_u64;
        let mut due = 0_u64;
        let mut most = 0_u64;
        let mut inconclusive = 0.0;
        let mut conclusive = 0.0;
        let mut base: Option<f64> = None;
        // Ascending by time: of what is older than the window only the newest number matters.
        let end = points.before(|at| at <= window.now);
        let start = points.before(|at| at < window.start);
        for point in (0..start).rev().filter_map(|place| points.get(place)) {
            if let Value::Number(number) = point.value() {
                base = Some(number);
                break;
            }
        }
        let mut next = start;
        while let Some(at) = points.get(next).filter(|_| next < end).map(|point| point.at) {
            let attempt = next;
            let within = window.holds(at);
            let mut yielded = 0_u64;
            let mut blind = 0_u64;
            while let Some(point) = points.get(next).filter(|point| point.at == at) {
                next += 1;
                match point.value() {
                    Value::Number(number) => {
                        if within {
                            yielded += 1;
                            match keep {
                                Keep::Count => {}
                                Keep::Sum => totals.sum.add(number),
                                Keep::Shares => totals.sum.add(number.clamp(0.0, 1.0)),
                                Keep::Growth => {
                                    totals.sum.add(base.map_or(0.0, |base| grown(base, number)));
                                }
                                Keep::Ranks => totals.ranks.push(number),
                            }
                        }
                        base = Some(number);
                    }
                    Value::Failed if within => totals.failed += 1,
                    Value::Inconclusive => blind += 1,
                    Value::Nothing | Value::Failed => {}
                }
            }
            if within {
                let share = blind as f64 / (next - attempt) as f64;
                due += 1;
                inconclusive += share;
                conclusive += 1.0 - share;
                looked += u64::from(share < 1.0);
                most = most.max(yielded);
                totals.numbers += yielded;
            }
        }
        totals.ranks.sort_unstable_by(f64::total_cmp);
        let seen = Self { looked, due: due as f64, inconclusive, ..Self::summed(&totals, keep) };
        seen.completed(track, window, coverage, most, conclusive)
    }

    /// Adds what was due and not seen. `most` is the most samples that an attempt yielded.
    fn completed(
        mut self,
        track: &Track,
        window: Window<'_>,
        coverage: &Coverage,
        most: u64,
        conclusive: f64,
    ) -> Self {
        self.due += coverage.missed as f64;
        self.inconclusive += coverage.missed as f64;
        let attempts = if coverage.full {
            self.inconclusive.ceil()
        } else {
            (most_attempts(window.over, track.cadence().interval) as f64 - conclusive).ceil()
        };
        // `as` saturates: a negative number of attempts is none.
        let attempts = attempts as u64;
        let one_each = matches!(track.key.metric.series, Some("check.success" | "check.duration"));
        self.unseen = match (attempts, most) {
            (0, _) => Some(0),
            (_, 0) if !one_each => None,
            (attempts, most) => Some(attempts.saturating_mul(most.max(1)).min(UNSEEN_LIMIT)),
        };
        self
    }

    /// One population of several.
    pub(super) fn pool(all: &[Self]) -> Self {
        let mut pool = Self { unseen: Some(0), ..Self::default() };
        pool.found = all.iter().fold(0, |sum, one| sum.saturating_add(one.found));
        for one in all {
            pool.numbers.extend(&one.numbers);
            // Each mean by its weight, so that the sum of finite numbers stays finite.
            pool.mean += one.mean * (one.found as f64 / pool.found.max(1) as f64);
            pool.shares += one.shares;
            pool.growth += one.growth;
            pool.failed = pool.failed.saturating_add(one.failed);
            pool.looked = pool.looked.saturating_add(one.looked);
            pool.due += one.due;
            pool.inconclusive += one.inconclusive;
            pool.unseen = match (pool.unseen, one.unseen) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more).min(UNSEEN_LIMIT)),
                _ => None,
            };
        }
        pool.numbers.sort_unstable_by(f64::total_cmp);
        pool
    }

    /// How many there are: each failed attempt is one.
    pub(super) fn count(&self) -> u64 {
        self.found.saturating_add(self.failed)
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
            Function::Mean => Some(extreme(best).unwrap_or(self.mean)),
            Function::Ratio => {
                let (good, bad) = match bound {
                    Bound::Below(_) => (0.0, 1.0),
                    Bound::Above(_) => (1.0, 0.0),
                };
                Some((self.shares + bad * self.failed as f64 + good * best as f64) / count as f64)
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

#[cfg(test)]
mod tests;
