//! Recent values that some gate asked for, and only those: how long they are kept is known when
//! the plan is compiled.
//!
//! A track is one series of one check on one target. Every attempt leaves at least one point in
//! each of its tracks, whatever came of it, so that coverage and absence can be judged from the
//! track alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::Metric;
use crate::time::Mono;

/// Whose values: a metric of one check on one target, and the values of its further labels.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackKey {
    pub metric: &'static Metric,
    pub check: Arc<str>,
    pub target: Arc<str>,
    /// Values of the metric's labels after `check` and `target`.
    pub labels: Vec<Arc<str>>,
}

/// What one attempt left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    /// The attempt succeeded and yielded no sample of this series (a query with an empty answer).
    Nothing,
    /// The attempt failed: a sample beyond every threshold.
    Failed,
    /// The attempt could not measure.
    Inconclusive,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: Mono,
    pub value: Value,
}

/// The recent points of one series, oldest first.
#[derive(Clone, Debug)]
pub struct Track {
    pub key: TrackKey,
    /// How often an attempt is due.
    pub interval: Duration,
    /// Since when attempts have been due.
    pub since: Mono,
    pub points: VecDeque<Point>,
}
