//! Latencies without end in fixed room: buckets a 64th of their value wide, so that a percentile
//! is at most 1.6 % too high, never too low. No value is cut off.

use crate::journey::tally::Percentiles;

/// Buckets to each doubling.
const SUB: u64 = 64;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Nanoseconds up to `i64::MAX`.
const BUCKETS: usize = (63 - SUB_BITS as usize + 1) * SUB as usize;

#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Nanoseconds; what arrived before it was intended counts as none.
    pub fn add(&mut self, nanos: i64) {
        let value = u64::try_from(nanos).unwrap_or(0);
        if let Some(bucket) = self.buckets.get_mut(index(value)) {
            *bucket = bucket.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.max = self.max.max(value);
    }

    /// Adds what another holds.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours = ours.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Seconds, nearest rank; None where nothing was added.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = 0_u64;
        let at = self.buckets.iter().position(|bucket| {
            below = below.saturating_add(*bucket);
            below >= rank
        })?;
        Some(upper(at).min(self.max) as f64 / 1e9)
    }

    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50: self.quantile(0.5)?,
            p95: self.quantile(0.95)?,
            p99: self.quantile(0.99)?,
            max: self.max as f64 / 1e9,
        })
    }
}

fn index(value: u64) -> usize {
    let shift = (63 - (value | 1).leading_zeros()).saturating_sub(SUB_BITS);
    let index = u64::from(shift) * SUB + (value >> shift);
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB {
        return index;
    }
    let shift = index / SUB - 1;
    ((SUB + index % SUB + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_holds_its_value_and_is_narrow() {
        proptest!(|(value in 0..i64::MAX as u64)| {
            let top = upper(index(value));
            prop_assert!(top >= value, "{value} {top}");
            prop_assert!((top - value) as f64 <= value as f64 / 64.0 + 1.0, "{value} {top}");
            prop_assert!(index(value) < BUCKETS);
        });
    }

    #[test]
    fn quantiles_are_nearest_rank_within_a_64th() {
        let mut histogram = Histogram::default();
        assert!(histogram.percentiles().is_none());
        for millis in (1..=1_000).rev() {
            histogram.add(millis * 1_000_000);
        }
        let Percentiles { p50, p95, p99, max } = histogram.percentiles().expect("values");
        for (found, exact) in [(p50, 0.5), (p95, 0.95), (p99, 0.99), (max, 1.0)] {
            assert!(found >= exact && found <= exact * (1.0 + 1.0 / 64.0), "{found} {exact}");
        }
        assert_eq!((histogram.count(), max), (1_000, 1.0));
    }
}
