//! Acceptance criteria, judged purely: `judge(gate, evidence, standing, now)`. No clock, no I/O.
//!
//! This file holds the words of a gate; `judge`, `sentence` and `promql` use them.

use std::time::Duration;

use crate::catalogue::Unit;
use crate::journey::Stage;
use crate::outcome::words;
pub use crate::series::Selection;
use crate::series::{Demand, JourneyRecord, Tracks};

mod events;
mod judge;
pub mod load;
mod newest;
pub mod promql;
mod samples;
pub mod sentence;
mod weigh;
mod window;

pub use judge::judge;
pub use load::{During, LoadWindow, Span, spans};
pub use sentence::sentence;

words! {
    Level {
        Mandatory = "mandatory",
        Optional = "optional",
        Conditional = "conditional",
    }
}

words! {
    /// In the order of `greenlight_gate_verdict`: the largest is the worst.
    Verdict {
        Pass = "pass",
        NotApplicable = "not_applicable",
        Waived = "waived",
        Warn = "warn",
        /// Evidence is missing, too little or expired.
        Open = "open",
        /// We could not measure.
        Error = "error",
        Fail = "fail",
    }
}

impl Verdict {
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
    /// `when`; Some(Unset) where its variable or fact has no value.
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
    /// Judged by another node of the fleet, which alone runs what it is about.
    Elsewhere {
        criterion: Criterion,
        node: String,
        /// Whether this node is of that fleet. To one that is not, it says nothing: where every node is
        /// called otherwise than under `nodes`, none runs it.
        member: bool,
    },
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
    /// Samples of these times only.
    pub during: Option<During>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Mean,
    Min,
    Max,
    /// 0 to 1: `p99` is 0.99; nearest rank.
    Quantile(f64),
    /// Share of attempts that succeeded, or the mean of a series of 0 to 1. A failed attempt counts
    /// as the worst of the two for the bound: 0 where the share must be high, 1 where low.
    Ratio,
    /// Growth of a counter over the window; a reset starts it anew.
    Increase,
    Last,
    /// No sample of the series in the window, though attempts looked.
    Absent,
    /// Age of the newest sample.
    Fresh,
    /// Journey: share of decided events that did not arrive (lost, refused or dead-lettered), at
    /// `stage` or at the worst stage.
    Loss,
    /// Journey: further copies of events, as a count.
    Duplicates,
    /// Journey: share of decided events whose fate is `ok`, at `stage` or at the worst stage.
    Complete,
}

impl Function {
    /// Whether it counts the events of a journey instead of looking at a series.
    pub fn is_of_journeys(self) -> bool {
        matches!(self, Self::Loss | Self::Duplicates | Self::Complete)
    }
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
        stage: Option<Stage>,
    },
}

/// What judging remembers of a gate: hysteresis and "without interruption" live here. Stored.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// The sentence that it is of: under another threshold nothing has held or failed yet.
    #[serde(default)]
    pub of: String,
    /// One entry for each criterion and target of which something is to be remembered.
    pub parts: std::collections::BTreeMap<String, Part>,
}

/// Of one criterion on one target.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    #[serde(default)]
    pub failing: bool,
    #[serde(default)]
    pub held: Option<Held>,
}

/// How long a condition has held without interruption, and when that was last seen.
///
/// The span is a sum of steps from one judging to the next, so that neither a restart nor a jump
/// of the wall clock adds to it or takes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    pub nanos: u64,
    pub mono: i64,
    pub wall: i64,
}

/// What a gate is judged from. Cheap: references only.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub tracks: &'a Tracks,
    pub journeys: &'a [JourneyRecord],
    /// When a load was on, ascending.
    pub load: &'a [Span],
}

/// A bounded code and the words for it.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Why {
    pub code: String,
    pub text: String,
}

impl Why {
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }
}

/// What judging came to. A number that nobody measured is None, never zero; every number is
/// finite and in base units.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub verdict: Verdict,
    pub value: Option<f64>,
    pub unit: Option<Unit>,
    pub threshold: Option<f64>,
    /// How far the value is on the good side of the threshold; negative beyond it.
    pub margin: Option<f64>,
    pub samples: u64,
    pub window_seconds: Option<f64>,
    pub covered_seconds: Option<f64>,
    /// The check and target (the journey and stage) that decided.
    pub worst: Option<(String, String)>,
    /// None for a pass.
    pub reason: Option<Why>,
    pub first_failing_stage: Option<Stage>,
    /// The checks and journeys that it was judged from, or would be.
    pub checks: Vec<String>,
    pub journeys: Vec<String>,
    /// A part that is not measured leaves it open, and another part may still decide it.
    pub undecided: bool,
}

impl Finding {
    pub fn open(code: &str, text: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Open,
            value: None,
            unit: None,
            threshold: None,
            margin: None,
            samples: 0,
            window_seconds: None,
            covered_seconds: None,
            worst: None,
            reason: Some(Why::new(code, text)),
            first_failing_stage: None,
            checks: Vec::new(),
            journeys: Vec::new(),
            undecided: false,
        }
    }
}

impl Gate {
    /// Whether it can block: mandatory, or conditional and not known to be not applicable.
    pub fn blocks(&self) -> bool {
        match self.level {
            Level::Mandatory => true,
            Level::Optional => false,
            Level::Conditional => !matches!(self.when, Some(When::False(_))),
        }
    }
}

impl Requirement {
    /// All criteria in it, in order.
    pub fn criteria(&self) -> Vec<&Criterion> {
        match self {
            Self::Criterion(criterion) | Self::Elsewhere { criterion, .. } => vec![criterion],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::criteria).collect(),
            Self::Missing(_) => Vec::new(),
        }
    }
}

impl Criterion {
    /// The bound that fails. Some functions have one that goes without saying: nothing lost, no
    /// duplicate, all complete, no sample, a sample as young as the window.
    pub fn fails(&self) -> Option<Bound> {
        self.fail.or_else(|| {
            if self.warn.is_some() {
                return None;
            }
            match self.function {
                Function::Loss | Function::Duplicates | Function::Absent => Some(Bound::Below(0.0)),
                Function::Complete => Some(Bound::Above(1.0)),
                Function::Fresh => Some(Bound::Below(self.over.as_secs_f64())),
                _ => None,
            }
        })
    }

    /// The bounds that are written or go without saying, with their severity.
    pub fn thresholds(&self) -> Vec<(&'static str, f64)> {
        let mut all = Vec::new();
        all.extend(self.warn.map(|bound| ("warn", bound.limit())));
        all.extend(self.fails().map(|bound| ("fail", bound.limit())));
        all
    }

    /// How far back it looks.
    pub fn window(&self) -> Duration {
        let age = match (self.function, self.fails().or(self.warn)) {
            (Function::Fresh, Some(bound)) => {
                Duration::try_from_secs_f64(bound.limit().max(0.0)).unwrap_or(Duration::MAX)
            }
            _ => Duration::ZERO,
        };
        self.over.max(age)
    }

    /// The unit of its value and thresholds.
    pub fn unit(&self) -> Unit {
        match (self.function, &self.subject) {
            (Function::Fresh, _) => Unit::Seconds,
            (Function::Absent | Function::Duplicates, _) => Unit::Count,
            (Function::Ratio | Function::Loss | Function::Complete, _) => Unit::Ratio,
            (_, Subject::Series(selection)) => selection.metric.unit,
            (_, Subject::Journey { .. }) => Unit::Ratio,
        }
    }
}

/// What the series must keep for these gates.
pub fn demands<'a>(gates: impl IntoIterator<Item = &'a Gate>) -> Vec<Demand> {
    let mut demands: Vec<Demand> = Vec::new();
    for criterion in gates.into_iter().flat_map(|gate| gate.require.criteria()) {
        let Subject::Series(selection) = &criterion.subject else { continue };
        let window = criterion.window();
        match demands.iter_mut().find(|demand| demand.selection == *selection) {
            Some(demand) => demand.window = demand.window.max(window),
            None => demands.push(Demand { selection: selection.clone(), window }),
        }
    }
    demands
}

/// How far back some gate looks at this journey: what its record must keep.
pub fn journey_window<'a>(
    gates: impl IntoIterator<Item = &'a Gate>,
    journey: &str,
) -> Option<Duration> {
    gates
        .into_iter()
        .flat_map(|gate| gate.require.criteria())
        .filter(|criterion| {
            matches!(&criterion.subject, Subject::Journey { journey: other, .. } if other == journey)
        })
        .map(Criterion::window)
        .max()
}
