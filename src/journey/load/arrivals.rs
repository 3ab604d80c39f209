//! When events are due, whatever the platform does: what is sent late is late from then on (no
//! coordinated omission).

use std::sync::Arc;
use std::time::Duration;

/// A rate that is kept for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Events a second.
    pub rate: f64,
    pub span: Duration,
}

/// How far apart events are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spacing {
    /// All as far as the one before.
    #[default]
    Constant,
    /// As of many sources that know nothing of each other: exponential gaps.
    Poisson,
}

impl Spacing {
    pub const ALL: [Self; 2] = [Self::Constant, Self::Poisson];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// All arrivals of a load; the same for the same seed.
#[derive(Clone, Debug)]
pub struct Arrivals {
    steps: Arc<[Step]>,
    spacing: Spacing,
    seed: u64,
}

/// One event's turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// Which step it belongs to.
    pub step: usize,
    /// From the beginning of the load.
    pub at: Duration,
}

impl Arrivals {
    pub fn new(steps: Vec<Step>, spacing: Spacing, seed: u64) -> Self {
        Self { steps: steps.into(), spacing, seed }
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How long the sending takes.
    pub fn span(&self) -> Duration {
        self.steps.iter().map(|step| step.span).sum()
    }

    /// How many there will be, about.
    pub fn expected(&self) -> f64 {
        self.steps.iter().map(|step| (step.rate * step.span.as_secs_f64()).max(1.0)).sum()
    }

    /// A walk over them, in their order; each cursor sees the same ones.
    pub fn cursor(&self) -> Cursor {
        let mut cursor = Cursor {
            arrivals: self.clone(),
            random: Random(self.seed),
            step: 0,
            from: Duration::ZERO,
            within: 0,
            at: 0.0,
            taken: 0,
        };
        cursor.at = cursor.gap();
        cursor.settle();
        cursor
    }
}

/// Walks over arrivals in constant memory.
#[derive(Clone, Debug)]
pub struct Cursor {
    arrivals: Arrivals,
    random: Random,
    step: usize,
    /// When the step begins.
    from: Duration,
    /// How many events of the step are taken.
    within: u64,
    /// When its next one is due, in seconds from its beginning.
    at: f64,
    taken: u64,
}

impl Cursor {
    /// The next event; None where there is none any more.
    pub fn peek(&self) -> Option<Due> {
        (self.step < self.arrivals.steps.len())
            .then(|| Due { step: self.step, at: self.from + Duration::from_secs_f64(self.at) })
    }

    /// Takes the next event.
    pub fn take(&mut self) -> Option<Due> {
        let due = self.peek()?;
        self.taken += 1;
        self.within += 1;
        self.at = match self.arrivals.spacing {
            // From the beginning each time, so that no rounding adds up.
            Spacing::Constant => self.within as f64 / self.rate(),
            Spacing::Poisson => self.at + self.gap(),
        };
        self.settle();
        Some(due)
    }

    /// Takes all that are due when so much time has passed.
    pub fn advance(&mut self, elapsed: Duration) {
        while self.peek().is_some_and(|due| due.at <= elapsed) {
            self.take();
        }
    }

    /// How many were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    fn rate(&self) -> f64 {
        self.arrivals.steps.get(self.step).map_or(1.0, |step| step.rate)
    }

    /// The distance to a step's first event, or of two of a Poisson process: it has no memory, so a
    /// step may begin anew.
    fn gap(&mut self) -> f64 {
        match self.arrivals.spacing {
            Spacing::Constant => 0.0,
            Spacing::Poisson => -(1.0 - self.random.unit()).ln() / self.rate(),
        }
    }

    /// On to the step in which the next event lies. A step of constant arrivals has one at least.
    fn settle(&mut self) {
        while let Some(step) = self.arrivals.steps.get(self.step) {
            let span = step.span.as_secs_f64();
            let whole = match self.arrivals.spacing {
                Spacing::Constant => (step.rate * span).floor().max(1.0) > self.within as f64,
                Spacing::Poisson => self.at < span,
            };
            if whole {
                return;
            }
            self.from += step.span;
            self.step += 1;
            self.within = 0;
            self.at = self.gap();
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, and the same on every machine.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(arrivals: &Arrivals) -> Vec<Due> {
        let mut cursor = arrivals.cursor();
        std::iter::from_fn(|| cursor.take()).collect()
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0.5_f64..2_000.0, 1_u64..3_000)
            .prop_map(|(rate, millis)| Step { rate, span: Duration::from_millis(millis) });
        prop::collection::vec(step, 1..5)
    }

    #[test]
    fn events_are_due_in_order_within_their_step_and_each_cursor_sees_the_same() {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
        let inputs = (steps(), any::<u64>(), any::<bool>(), 0.0_f64..1.2);
        runner
            .run(&inputs, |(steps, seed, poisson, at)| {
                let spacing = if poisson { Spacing::Poisson } else { Spacing::Constant };
                let arrivals = Arrivals::new(steps.clone(), spacing, seed);
                let dues = all(&arrivals);
                prop_assert_eq!(&dues, &all(&arrivals));
                prop_assert!(dues.is_sorted_by_key(|due| due.at));
                let elapsed = arrivals.span().mul_f64(at);
                let mut cursor = arrivals.cursor();
                cursor.advance(elapsed);
                let so_far = dues.iter().filter(|due| due.at <= elapsed).count() as u64;
                prop_assert_eq!(cursor.taken(), so_far);
                let mut from = Duration::ZERO;
                for (n, step) in steps.iter().enumerate() {
                    let own: Vec<_> = dues.iter().filter(|due| due.step == n).collect();
                    let end = from + step.span;
                    prop_assert!(own.iter().all(|due| due.at >= from && due.at <= end));
                    if !poisson {
                        let count = (step.rate * step.span.as_secs_f64()).floor().max(1.0);
                        prop_assert_eq!(own.len() as f64, count);
                    }
                    from = end;
                }
                Ok(())
            })
            .expect("in order");
    }

    #[test]
    fn constant_arrivals_are_as_far_apart_as_the_rate_says() {
        let step = Step { rate: 8.0, span: Duration::from_secs(1) };
        let dues = all(&Arrivals::new(vec![step], Spacing::Constant, 0));
        let millis: Vec<_> = dues.iter().map(|due| due.at.as_micros()).collect();
        assert_eq!(millis, [0, 125_000, 250_000, 375_000, 500_000, 625_000, 750_000, 875_000]);
    }

    #[test]
    fn poisson_gaps_are_exponential_and_counts_as_variable_as_they_should_be() {
        // 200,000 events at 1,000 a second.
        let step = Step { rate: 1_000.0, span: Duration::from_secs(200) };
        for seed in [1, 2, 3] {
            let dues = all(&Arrivals::new(vec![step], Spacing::Poisson, seed));
            let n = dues.len() as f64;
            // Five standard deviations of a Poisson count.
            assert!((n - 200_000.0).abs() < 5.0 * 200_000_f64.sqrt(), "{n}");
            let mut gaps: Vec<f64> = dues
                .windows(2)
                .map(|two| (two[1].at - two[0].at).as_secs_f64() * 1_000.0)
                .collect();
            gaps.sort_by(f64::total_cmp);
            // Kolmogorov's distance to 1 - exp(-x): 1.63 / sqrt(n) is exceeded once in a hundred.
            let count = gaps.len() as f64;
            let distance = gaps
                .iter()
                .enumerate()
                .map(|(i, gap)| ((i as f64 + 0.5) / count - (1.0 - (-gap).exp())).abs())
                .fold(0.0, f64::max);
            assert!(distance < 2.0 / count.sqrt(), "{distance}");
            // Of the counts of seconds the variance is the mean.
            let mut counts = vec![0_f64; 200];
            for due in &dues {
                counts[(due.at.as_secs() as usize).min(199)] += 1.0;
            }
            let mean = counts.iter().sum::<f64>() / 200.0;
            let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 199.0;
            assert!((0.6..1.5).contains(&(variance / mean)), "{variance} {mean}");
        }
        let of = |seed| all(&Arrivals::new(vec![step], Spacing::Poisson, seed));
        assert_ne!(of(1), of(2), "another seed, other arrivals");
    }
}
