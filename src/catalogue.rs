//! Every metric, declared once: name, type, labels, unit, and its doc comment, which is the
//! HELP text and the row of the generated reference.
//!
//! A metric with a `series` name can be judged by gates under that name (`p99: icmp.rtt`).
//! Judged gauge-like series are exported as histograms over their single samples, so that
//! Prometheus can recompute a verdict from what it scraped.

pub mod agent;
pub mod journey;
pub mod node;
pub mod peaks;
pub mod probe;

/// How a metric is exposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Over the metric's fixed base boundaries, and at most eight more that gates name.
    Histogram(&'static [f64]),
}

/// The base unit of a value; what units a threshold of it may be written in follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    /// 0 to 1; `%` may be written.
    Ratio,
    /// A plain number.
    Count,
}

impl Unit {
    /// The contract's word in the report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Count => "count",
        }
    }
}

/// One row of the catalogue.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub labels: &'static [&'static str],
    /// The name under which gates judge it.
    pub series: Option<&'static str>,
    pub help: &'static str,
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Metric {}

/// Declares metrics:
/// `/// Help text.` newline `ICMP_RTT = Histogram(LATENCY) "greenlight_icmp_rtt_seconds" [check, target] Seconds as "icmp.rtt";`
macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $ident:ident = $kind:ident $(($buckets:expr))? $name:literal [$($label:ident),*] $unit:ident $(as $series:literal)?;)+) => {
        $($(#[doc = $doc])+
        pub static $ident: $crate::catalogue::Metric = $crate::catalogue::Metric {
            name: $name,
            kind: $crate::catalogue::Kind::$kind $(($buckets))?,
            unit: $crate::catalogue::Unit::$unit,
            labels: &[$(stringify!($label)),*],
            series: $crate::catalogue::metrics!(@series $($series)?),
            help: concat!($($doc),+),
        };)+

        /// The rows of this part of the catalogue.
        pub static ALL: &[&$crate::catalogue::Metric] = &[$(&$ident),+];
    };
    (@series $series:literal) => { Some($series) };
    (@series) => { None };
}
pub(crate) use metrics;

/// All rows, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    let peaks = peaks::all().map(|peak| &peak.metric);
    let of = |part: &'static [&'static Metric]| part.iter().copied();
    of(agent::ALL).chain(of(node::ALL)).chain(peaks).chain(of(probe::ALL)).chain(of(journey::ALL))
}

/// The metric that gates judge under this name.
pub fn series(name: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.series == Some(name))
}

/// Boundaries for latencies, in seconds: 1-2.5-5 from 100 µs to 60 s.
pub const LATENCY: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// Boundaries for what takes a pipeline seconds to minutes.
pub const PIPELINE: &[f64] =
    &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0];

/// Boundaries for ratios of 0 to 1.
pub const RATIO: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 0.99, 1.0];

/// Boundaries for shares of time that hurt long before they reach the half: stalls, steal, iowait.
pub const SHARE: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 0.95, 1.0];

/// Boundaries for ratios of what is left, which matter near the empty end.
pub const FREE: &[f64] =
    &[0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.4, 0.5, 0.75, 0.9, 0.95, 1.0];

/// Boundaries for tasks for each processor.
pub const PER_CORE: &[f64] = &[0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0];

/// Boundaries for how many wait in a queue.
pub const DEPTH: &[f64] = &[0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0];

/// Boundaries for events in a second, where none at all is the healthy value.
pub const RATE: &[f64] = &[0.0, 1.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 10_000.0, 100_000.0];

/// Boundaries for what is either so (1) or not (0).
pub const YES_NO: &[f64] = &[0.0, 1.0];
