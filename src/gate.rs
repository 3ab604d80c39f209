//! Acceptance criteria, judged purely: `judge(gate, evidence, standing, now)`. No clock, no I/O.
//!
//! This file holds the words of a gate; `judge`, `sentence` and `promql` use them.

use std::time::Duration;

use crate::catalogue::Metric;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Mandatory,
    Optional,
    Conditional,
}

impl Level {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mandatory => "mandatory",
            Self::Optional => "optional",
            Self::Conditional => "conditional",
        }
    }
}

/// In the order of `greenlight_gate_verdict`: the largest is the worst.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    NotApplicable,
    Waived,
    Warn,
    /// Evidence is missing, too little or expired.
    Open,
    /// We could not measure.
    Error,
    Fail,
}

impl Verdict {
    pub const ALL: [Self; 7] = [
        Self::Pass,
        Self::NotApplicable,
        Self::Waived,
        Self::Warn,
        Self::Open,
        Self::Error,
        Self::Fail,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotApplicable => "not_applicable",
            Self::Waived => "waived",
            Self::Warn => "warn",
            Self::Open => "open",
            Self::Error => "error",
            Self::Fail => "fail",
        }
    }

    /// The value of `greenlight_gate_verdict`.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// One gate of the plan, compiled.
#[derive(Clone, Debug)]
pub struct Gate {
    pub id: String,
    pub title: String,
    pub level: Level,
    pub require: Requirement,
    /// Decided when the plan is compiled for what only the plan knows; None where the gate has no
    /// `when`, Some(Unset) where its variable or fact has no value.
    pub when: Option<When>,
    pub refs: Vec<String>,
    pub why: Option<String>,
    pub fix: Option<String>,
    pub waivable: bool,
    /// The share of attempts due that may be inconclusive before the verdict is `error`.
    pub max_inconclusive: f64,
}

/// What a conditional gate's `when:` came to, and the words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Unset(String),
    False(String),
    True(String),
}

/// A tree of criteria.
#[derive(Clone, Debug)]
pub enum Requirement {
    Criterion(Criterion),
    /// Passes when every part passes; the worst part decides.
    All(Vec<Requirement>),
    /// Passes when one part passes; the best part decides.
    Any(Vec<Requirement>),
    /// A part that nothing measures yet: always open, with this text.
    Missing(String),
}

/// One measurable condition.
#[derive(Clone, Debug)]
pub struct Criterion {
    pub function: Function,
    pub subject: Subject,
    pub over: Duration,
    /// The fewest samples that decide.
    pub at_least: u64,
    pub fail: Option<Bound>,
    pub warn: Option<Bound>,
    /// Hysteresis: once failing, it fails until this bound holds.
    pub clears: Option<Bound>,
    /// It must hold for so long without interruption.
    pub stable_for: Option<Duration>,
    /// All targets as one population, instead of the worst of them.
    pub pooled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Mean,
    Min,
    Max,
    /// 0 to 1: `p99` is 0.99; nearest rank.
    Quantile(f64),
    /// Share of attempts that succeeded, or the mean of a 0/1 series; a failed attempt counts 0.
    Ratio,
    /// Growth of a counter over the window; a reset starts it anew.
    Increase,
    Last,
    /// No sample of the series in the window, though attempts looked.
    Absent,
    /// Age of the newest sample.
    Fresh,
    /// Journey: share of decided events that were lost, at `stage` or at any stage.
    Loss,
    /// Journey: further copies of events, as a count.
    Duplicates,
    /// Journey: share of decided events whose fate is `ok`, at `stage` or at every stage.
    Complete,
}

/// At or below, at or above: inclusive, like a histogram's boundary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    Below(f64),
    Above(f64),
}

impl Bound {
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value <= limit,
            Self::Above(limit) => value >= limit,
        }
    }

    pub fn limit(self) -> f64 {
        match self {
            Self::Below(limit) | Self::Above(limit) => limit,
        }
    }
}

/// What a criterion is about.
#[derive(Clone, Debug)]
pub enum Subject {
    Series(Selection),
    /// A journey; with a stage, that stage alone.
    Journey {
        journey: String,
        stage: Option<crate::journey::Stage>,
    },
}

/// Which tracks of a series.
#[derive(Clone, Debug)]
pub struct Selection {
    pub metric: &'static Metric,
    pub check: Option<String>,
    pub target: Option<String>,
    /// Label name and value.
    pub labels: Vec<(String, String)>,
}

/// What judging remembers of a gate: hysteresis and "without interruption" live here. Stored.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// One entry for each criterion, target by target, as `judge` needs it.
    pub parts: std::collections::BTreeMap<String, Part>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    pub failing: bool,
    /// Since when the condition has held without interruption (wall clock, nanoseconds).
    pub holds_since: Option<i64>,
}
