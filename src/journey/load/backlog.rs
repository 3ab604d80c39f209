//! What waits, and whether it grows.

use crate::time::Mono;

/// Fewer samples than that have no slope.
const SLOPE_OF: usize = 8;
/// A long load keeps every other sample: the slope needs no more.
const SAMPLES: usize = 4_096;
/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_964;

/// How many events wait, as time goes on.
#[derive(Debug, Default)]
pub struct Backlog {
    samples: Vec<(Mono, u64)>,
}

/// By how many events a second a backlog grows: the estimate and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
    /// The samples that it is of.
    pub samples: usize,
}

impl Backlog {
    pub fn add(&mut self, at: Mono, waiting: u64) {
        self.samples.push((at, waiting));
        if self.samples.len() > SAMPLES {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Over the second half, by least squares: at the start a backlog fills to its level.
    pub fn slope(&self) -> Option<Slope> {
        let half = self.samples.get(self.samples.len() / 2..)?;
        let (first, _) = *half.first()?;
        if half.len() < SLOPE_OF {
            return None;
        }
        let n = half.len() as f64;
        let points: Vec<(f64, f64)> =
            half.iter().map(|(at, n)| (at.since(first).as_secs_f64(), *n as f64)).collect();
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let width = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        if width <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / width;
        let rest =
            points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum::<f64>();
        let freedom = n - 2.0;
        let spread = student(freedom) * (rest / freedom / width).sqrt();
        Some(Slope {
            estimate: slope,
            low: slope - spread,
            high: slope + spread,
            samples: half.len(),
        })
    }
}

/// The 97.5 % point of Student's distribution, by its expansion around the normal one
/// (Abramowitz and Stegun, 26.7.5): right to a thousandth from six degrees of freedom on.
fn student(freedom: f64) -> f64 {
    let terms = [
        (Z.powi(3) + Z) / 4.0,
        (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0,
        (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0,
    ];
    terms.iter().zip(1..).fold(Z, |sum, (term, power)| sum + term / freedom.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slope(of: impl Fn(i64) -> u64) -> Slope {
        let mut backlog = Backlog::default();
        for second in 0..60 {
            backlog.add(Mono::from_secs(second), of(second));
        }
        backlog.slope().expect("enough samples")
    }

    #[test]
    fn a_backlog_grows_or_does_not_and_noise_is_told_from_both() {
        let grows = slope(|second| second as u64 * 7);
        assert!((grows.estimate - 7.0).abs() < 1e-6 && grows.low > 6.99, "{grows:?}");
        let still = slope(|_| 40);
        assert!(still.estimate.abs() < 1e-6 && still.low <= 0.0, "{still:?}");
        assert!(slope(|second| 100_000 / (second as u64 + 1)).high < 0.0);
        // Up and down by a hundred: whatever the estimate, nothing is known of the sign.
        let noise = slope(|second| if second % 3 == 0 { 200 } else { 100 });
        assert!(noise.low < 0.0 && noise.high > 0.0, "{noise:?}");
        let both = slope(|second| 50 * second as u64 + if second % 3 == 0 { 100 } else { 0 });
        assert!(both.low > 0.0 && both.low < 50.0 && both.high > 50.0, "{both:?}");
    }

    #[test]
    fn a_long_load_keeps_a_bounded_number_of_samples() {
        let mut long = Backlog::default();
        for second in 0..20_000 {
            long.add(Mono::from_secs(second), 3 * second as u64);
        }
        assert!(long.samples.len() <= SAMPLES + 1);
        assert!((long.slope().expect("a slope").estimate - 3.0).abs() < 1e-6);
        assert_eq!(Backlog::default().slope(), None);
    }

    #[test]
    fn students_points_are_the_tables() {
        for (freedom, point) in [(6.0, 2.4469), (10.0, 2.2281), (30.0, 2.0423), (1e6, 1.9600)] {
            assert!((student(freedom) - point).abs() < 2e-3, "{freedom}: {}", student(freedom));
        }
    }
}
