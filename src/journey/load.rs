//! Proving volume: the shapes of a load, when its events are due, when a platform must be spared,
//! and whether it held.
//!
//! A load is steps of a rate, one after the other; each is counted and judged by itself, and the
//! shape says what follows from them.

use std::time::Duration;

pub mod arrivals;
pub mod backlog;
pub mod sparing;
pub mod verdict;

pub use arrivals::{Arrivals, Cursor, Due, Spacing, Step};
pub use backlog::{Backlog, Slope};
pub use sparing::{Refusals, Sparing};
pub use verdict::{Evidence, Verdict, Why, judge, overall};

/// How the rate goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A trickle: does anything come through at all.
    Smoke,
    /// Up in steps, to the knee: the last step that is held.
    Ramp,
    /// The same rate all the time.
    Soak,
    /// A multiple of the rate for a time, and the rate itself until that has drained.
    Burst,
}

impl Shape {
    pub const ALL: [Self; 4] = [Self::Smoke, Self::Ramp, Self::Soak, Self::Burst];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Ramp => "ramp",
            Self::Soak => "soak",
            Self::Burst => "burst",
        }
    }
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub shape: Shape,
    /// Events a second: of a ramp the last step's, of a burst what it comes on top of.
    pub rate: f64,
    /// How long all of it is; of a burst, how long the burst.
    pub span: Duration,
    /// Of a ramp.
    pub steps: u32,
    /// Of a burst: so many times the rate.
    pub peak: f64,
    /// How long the rest after a burst is, in which it must have drained.
    pub drain: Duration,
    pub spacing: Spacing,
    /// The same seed gives the same arrivals.
    pub seed: u64,
    /// Payload bytes.
    pub budget: u64,
    pub agreed: Agreed,
    /// So many further copies are borne.
    pub duplicates: u64,
}

/// What the platform was agreed to take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreed {
    /// Events a second; the order's rate where nothing is said.
    pub rate: Option<f64>,
    /// Payload, in gigabytes (10^9 bytes) a day.
    pub gb_per_day: Option<f64>,
}

impl Order {
    pub fn steps(&self) -> Vec<Step> {
        match self.shape {
            Shape::Smoke | Shape::Soak => vec![Step { rate: self.rate, span: self.span }],
            Shape::Ramp => {
                let count = self.steps.max(1);
                let step = |n: u32| Step {
                    rate: self.rate * f64::from(n) / f64::from(count),
                    span: self.span / count,
                };
                (1..=count).map(step).collect()
            }
            Shape::Burst => vec![
                Step { rate: self.rate * self.peak, span: self.span },
                Step { rate: self.rate, span: self.drain },
            ],
        }
    }

    pub fn agreed_rate(&self) -> f64 {
        self.agreed.rate.unwrap_or(self.rate)
    }
}

/// How the sending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was handed over.
    Whole,
    /// Its time and some more was over, and events were still waiting for their turn.
    Behind,
    /// Further steps of a ramp would only harm: this one was not held.
    Knee,
    /// The budget was used up.
    Budget,
    /// To spare the platform.
    Aborted(String),
    /// To spare this node, which was short of what it takes to send and to look.
    Limited(String),
    Interrupted,
}

impl Ended {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Behind => "behind",
            Self::Knee => "knee",
            Self::Budget => "budget",
            Self::Aborted(_) => "aborted",
            Self::Limited(_) => "generator_limited",
            Self::Interrupted => "interrupted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn order(shape: Shape) -> Order {
        Order {
            shape,
            rate: 100.0,
            span: Duration::from_secs(10),
            steps: 5,
            peak: 3.0,
            drain: Duration::from_secs(20),
            spacing: Spacing::Constant,
            seed: 1,
            budget: 1_000_000,
            agreed: Agreed::default(),
            duplicates: 0,
        }
    }

    #[test]
    fn a_shape_is_its_steps() {
        let steps = |shape| {
            let steps = order(shape).steps();
            steps.into_iter().map(|s| (s.rate, s.span.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(steps(Shape::Soak), [(100.0, 10)]);
        assert_eq!(steps(Shape::Smoke), [(100.0, 10)]);
        assert_eq!(steps(Shape::Ramp), [(20.0, 2), (40.0, 2), (60.0, 2), (80.0, 2), (100.0, 2)]);
        assert_eq!(steps(Shape::Burst), [(300.0, 10), (100.0, 20)]);
    }
}
