//! Percentiles of what was measured, each with how sure it is.

use std::fmt;

/// The percentiles that are told. The last only from so many samples on that it means something.
const QUANTILES: [(&str, f64, usize); 4] =
    [("0.5", 0.5, 1), ("0.95", 0.95, 1), ("0.99", 0.99, 1), ("0.999", 0.999, 10_000)];

/// A percentile and its 95 % confidence interval, in seconds. None where too few samples bound it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    pub name: &'static str,
    pub estimate: f64,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
}

/// Latencies of one kind of request.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// Nanoseconds, ascending.
    sorted: Vec<u64>,
}

impl Latencies {
    pub fn of(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        Self { sorted: nanoseconds }
    }

    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Seconds, ascending.
    pub fn seconds(&self) -> impl Iterator<Item = f64> {
        self.sorted.iter().map(|ns| *ns as f64 * 1e-9)
    }

    pub fn total(&self) -> f64 {
        self.seconds().sum()
    }

    pub fn max(&self) -> Option<f64> {
        self.sorted.last().map(|ns| *ns as f64 * 1e-9)
    }

    /// The sample of this rank, 1 the smallest.
    fn ranked(&self, rank: usize) -> Option<f64> {
        self.sorted.get(rank.checked_sub(1)?).map(|ns| *ns as f64 * 1e-9)
    }

    pub fn quantiles(&self) -> Vec<Quantile> {
        let count = self.sorted.len();
        let enough = QUANTILES.iter().filter(|(_, _, least)| count >= *least);
        enough
            .filter_map(|(name, q, _)| {
                // Nearest rank; the tiny step back keeps 0.99 of 100 at rank 99.
                let rank = ((q * count as f64 - 1e-9).ceil() as usize).clamp(1, count);
                let (lower, upper) = ranks(count, *q);
                Some(Quantile {
                    name,
                    estimate: self.ranked(rank)?,
                    lower: lower.and_then(|rank| self.ranked(rank)),
                    upper: upper.and_then(|rank| self.ranked(rank)),
                })
            })
            .collect()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n {}", self.count())?;
        let ms = |seconds: f64| format!("{:.3} ms", seconds * 1e3);
        let bound = |seconds: Option<f64>| seconds.map_or_else(|| "?".to_owned(), ms);
        for q in self.quantiles() {
            let percent = q.name.parse::<f64>().unwrap_or_default() * 100.0;
            write!(f, ", p{percent} {} [{}, {}]", ms(q.estimate), bound(q.lower), bound(q.upper))?;
        }
        self.max().map_or(Ok(()), |max| write!(f, ", max {}", ms(max)))
    }
}

/// The ranks between which a percentile lies with 95 %: how many of n samples are below it is
/// binomial (order statistics; Conover, Practical Nonparametric Statistics, 3.2).
fn ranks(count: usize, q: f64) -> (Option<usize>, Option<usize>) {
    let (mut lower, mut below) = (None, 0.0);
    // In logarithms, as the first terms are far below what a number can hold.
    let mut term = count as f64 * (1.0 - q).ln();
    for i in 0..=count {
        // `below` is the chance of fewer than i samples below the percentile.
        if below <= 0.025 {
            lower = Some(i).filter(|rank| *rank > 0);
        }
        if below >= 0.975 {
            return (lower, Some(i));
        }
        below += term.exp();
        term += ((count - i) as f64 / (i + 1) as f64 * q / (1.0 - q)).ln();
    }
    (lower, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_of_known_sizes() {
        // For the median of a hundred samples every table of order statistics has 40 and 61.
        assert_eq!(ranks(100, 0.5), (Some(40), Some(61)));
        assert_eq!(ranks(1000, 0.99), (Some(983), Some(997)));
        assert_eq!(ranks(10_000, 0.99), (Some(9880), Some(9920)));
        assert_eq!(ranks(100, 0.99).1, None, "a hundred samples bound no p99 from above");
        assert_eq!(ranks(0, 0.5), (None, None));
    }

    #[test]
    fn p999_is_refused_below_ten_thousand_samples() {
        let of = |n: u64| Latencies::of((1..=n).rev().map(|i| i * 1000).collect());
        let names = |n| of(n).quantiles().iter().map(|q| q.name).collect::<Vec<_>>();
        assert_eq!(names(9_999), ["0.5", "0.95", "0.99"]);
        assert_eq!(names(10_000), ["0.5", "0.95", "0.99", "0.999"]);
        assert_eq!(names(0), [""; 0]);
        let latencies = of(1000);
        let q = &latencies.quantiles()[2];
        assert_eq!(
            (q.estimate, q.lower, q.upper),
            (990_000.0 * 1e-9, Some(983_000.0 * 1e-9), Some(997_000.0 * 1e-9))
        );
        assert!(latencies.to_string().starts_with("n 1000, p50 0.500 ms [0.469 ms, 0.532 ms]"));
    }

    #[test]
    fn a_percentile_lies_within_its_interval() {
        let tried = std::cell::Cell::new(0);
        proptest!(|(samples in prop::collection::vec(0u64..1_000_000_000_000, 1..600))| {
            for q in Latencies::of(samples).quantiles() {
                prop_assert!(q.lower.is_none_or(|lower| lower <= q.estimate));
                prop_assert!(q.upper.is_none_or(|upper| upper >= q.estimate));
            }
            tried.set(tried.get() + 1);
        });
        eprintln!("property disk latencies: {} inputs", tried.get());
    }
}
