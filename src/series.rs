//! Recent values that some gate asked for, and only those: how long they are kept is known when
//! the plan is compiled.
//!
//! A track is one series of one check on one target. Every attempt leaves at least one point in
//! each of its tracks, whatever came of it, so that coverage and absence can be judged from the
//! track alone. A journey leaves its rounds' counts beside them, in a [`JourneyRecord`].

use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::Metric;
use crate::journey::tally::StageTally;
use crate::journey::{Fate, Stage};
use crate::time::Mono;

mod attempts;
mod exact;
mod points;
mod running;
mod times;
mod tracks;

pub use attempts::{Attempts, on_time};
pub use exact::Exact;
pub use points::{Point, Points};
pub use running::{Keep, Totals, grown};
pub use tracks::{Demand, POINTS_LIMIT, Place, TRACKS_LIMIT, Tracks};

/// The check that the node's own series belong to: a gate says `where: { check: node }`.
pub const NODE_CHECK: &str = "node";

/// Whose values: a metric of one check on one target, and the values of its further labels.
///
/// For a journey's series, `check` is the journey and `target` the stage. For the node's series,
/// `check` is [`NODE_CHECK`] and `target` the instance (the device, the mount point), or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackKey {
    pub metric: &'static Metric,
    pub check: Arc<str>,
    pub target: Arc<str>,
    /// Values of the metric's labels after those that `check` and `target` stand for.
    pub labels: Vec<Arc<str>>,
}

/// Which labels of a metric a key's parts are exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelNames {
    /// None where the check is not exported: the node's series.
    pub check: Option<&'static str>,
    /// None where the target is not exported: a node's series of which there is one.
    pub target: Option<&'static str>,
    pub rest: &'static [&'static str],
}

impl LabelNames {
    /// The one place that knows: `[check, target, …]` and `[journey, stage, …]` carry both; any
    /// other metric is the node's, and its first label tells the instance.
    pub fn of(metric: &'static Metric) -> Self {
        match metric.labels {
            [check @ "check", target @ "target", rest @ ..]
            | [check @ "journey", target @ "stage", rest @ ..] => {
                Self { check: Some(check), target: Some(target), rest }
            }
            [target, rest @ ..] => Self { check: None, target: Some(target), rest },
            [] => Self { check: None, target: None, rest: &[] },
        }
    }
}

impl TrackKey {
    /// Whether it is of the attempts themselves, where their samples have labels of their own.
    pub fn is_whole(&self) -> bool {
        self.labels.is_empty() && !LabelNames::of(self.metric).rest.is_empty()
    }

    /// The names and values of the labels that the metric is exported with.
    pub fn exported_labels(&self) -> Vec<(&'static str, Arc<str>)> {
        let names = LabelNames::of(self.metric);
        let mut pairs = Vec::with_capacity(2 + names.rest.len());
        pairs.extend(names.check.map(|name| (name, self.check.clone())));
        pairs.extend(names.target.map(|name| (name, self.target.clone())));
        pairs.extend(names.rest.iter().copied().zip(self.labels.iter().cloned()));
        pairs
    }

    /// The value that a gate's `where:` compares with: of an exported label, else of `check` and
    /// `target`, which every series has.
    pub fn value_of(&self, name: &str) -> Option<&str> {
        let names = LabelNames::of(self.metric);
        if names.check == Some(name) {
            return Some(&self.check);
        }
        if names.target == Some(name) {
            return Some(&self.target);
        }
        if let Some(place) = names.rest.iter().position(|rest| *rest == name) {
            return self.labels.get(place).map(AsRef::as_ref);
        }
        match name {
            "check" => Some(&self.check),
            "target" => Some(&self.target),
            _ => None,
        }
    }
}

impl Hash for TrackKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.metric.name, &self.check, &self.target, &self.labels).hash(state);
    }
}

impl Ord for TrackKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.metric.name, &self.check, &self.target, &self.labels).cmp(&(
            other.metric.name,
            &other.check,
            &other.target,
            &other.labels,
        ))
    }
}

impl PartialOrd for TrackKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Which tracks of a series: a gate's `where:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub metric: &'static Metric,
    pub check: Option<String>,
    pub target: Option<String>,
    /// Label name and value.
    pub labels: Vec<(String, String)>,
}

impl Selection {
    pub fn all(metric: &'static Metric) -> Self {
        Self { metric, check: None, target: None, labels: Vec::new() }
    }

    /// The same, sorted by what the labels stand for: `where: { journey: j }` is the check of a
    /// journey's series.
    pub fn resolved(&self) -> Resolved<'_> {
        let names = LabelNames::of(self.metric);
        let mut resolved = Resolved {
            check: self.check.as_deref(),
            target: self.target.as_deref(),
            rest: Vec::new(),
        };
        for (name, value) in &self.labels {
            let name = name.as_str();
            if names.check == Some(name) {
                resolved.check = Some(value);
            } else if names.target == Some(name) {
                resolved.target = Some(value);
            } else if names.rest.contains(&name) {
                resolved.rest.push((name, value));
            } else if name == "check" {
                resolved.check = Some(value);
            } else if name == "target" {
                resolved.target = Some(value);
            } else {
                resolved.rest.push((name, value));
            }
        }
        resolved
    }

    /// A label that the series does not have selects nothing. The attempts themselves could have
    /// yielded a sample of any.
    pub fn matches(&self, key: &TrackKey) -> bool {
        let rest = if key.is_whole() { LabelNames::of(key.metric).rest } else { &[] };
        self.metric == key.metric
            && self.check.as_deref().is_none_or(|check| check == &*key.check)
            && self.target.as_deref().is_none_or(|target| target == &*key.target)
            && self.labels.iter().all(|(name, value)| {
                rest.contains(&name.as_str()) || key.value_of(name) == Some(value.as_str())
            })
    }
}

/// A selection's parts by what they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    pub check: Option<&'a str>,
    pub target: Option<&'a str>,
    pub rest: Vec<(&'a str, &'a str)>,
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

/// How often a track is due, since when, and how late a point may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// How often an attempt is due.
    pub interval: Duration,
    /// Since when attempts have been due.
    pub since: Mono,
    /// How long an attempt may stay undecided before its points appear: `give_up` for a journey,
    /// zero for everything that is decided within its interval.
    pub lag: Duration,
}

impl Cadence {
    pub fn every(interval: Duration, since: Mono) -> Self {
        Self { interval, since, lag: Duration::ZERO }
    }

    /// The longest time without an attempt that is no gap in the observation: three intervals, as
    /// the contract has it, after what an attempt may take to be decided.
    pub fn longest_gap(&self) -> Duration {
        self.interval.saturating_mul(3).saturating_add(self.lag)
    }
}

/// Room is made for so many points at once, an hour of seconds and more; beyond, it grows with them.
const ROOM_LIMIT: usize = 4_096;

/// The recent points of one series, oldest first.
#[derive(Clone, Debug)]
pub struct Track {
    pub key: TrackKey,
    cadence: Cadence,
    /// How far back some criterion looks.
    window: Duration,
    points: Points,
    attempts: Attempts,
    /// Some attempt left several points.
    several: bool,
    /// What it is of comes and goes with what uses it.
    passing: bool,
    /// Points that were forgotten, ever.
    gone: u64,
    /// Grows when a point takes its place before another.
    version: u64,
    /// Windows that are asked for again and again.
    running: RefCell<Vec<running::Running>>,
}

impl Track {
    pub fn new(key: TrackKey, cadence: Cadence, window: Duration) -> Self {
        Self {
            key,
            cadence,
            window,
            points: Points::default(),
            attempts: Attempts::default(),
            several: false,
            passing: false,
            gone: 0,
            version: 0,
            running: RefCell::default(),
        }
    }

    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Whether what it is of comes and goes with what uses it: while its window is not covered it can only
    /// speak against.
    pub fn passing(&self) -> bool {
        self.passing
    }

    pub fn cadence(&self) -> &Cadence {
        &self.cadence
    }

    /// When it was attempted, up to an instant: nearly always up to the newest there is.
    pub fn attempts(&self, now: Mono) -> Cow<'_, Attempts> {
        if self.attempts.newest.is_none_or(|newest| newest <= now) {
            return Cow::Borrowed(&self.attempts);
        }
        let seen = self.points.times().take_while(|at| *at <= now);
        Cow::Owned(Attempts::of(self.cadence.interval, seen))
    }

    /// Since when it is due stays as it is.
    fn take_over(&mut self, cadence: Cadence) {
        let before = self.cadence;
        self.cadence = Cadence { since: before.since, ..cadence };
        if before.interval != cadence.interval {
            self.attempts = self.all_attempts();
        }
    }

    fn all_attempts(&self) -> Attempts {
        Attempts::of(self.cadence.interval, self.points.times())
    }

    /// Criteria look back no further than this from now on; what was asked for may not be any more.
    fn look_back(&mut self, window: Duration) {
        self.window = window;
        self.running.borrow_mut().clear();
    }

    /// Adds a point, and forgets what no window can reach any more; returns how many went.
    fn take(&mut self, at: Mono, value: Value, now: Mono) -> usize {
        if self.points.len() == self.points.room() {
            // Room for what the window holds and for no more: growing by doubling would leave up
            // to half of it empty.
            self.points.make_room(self.room());
        }
        self.push(at, value);
        self.forget(now)
    }

    /// Points that the window holds where each attempt leaves one.
    fn room(&self) -> usize {
        let keep = self.window.saturating_add(self.cadence.longest_gap());
        let interval = self.cadence.interval.as_nanos().max(1);
        // The newest, and the one that goes when it comes.
        let room = (keep.as_nanos() / interval).saturating_add(2);
        usize::try_from(room).map_or(ROOM_LIMIT, |room| room.min(ROOM_LIMIT))
    }

    /// Adds a point in its place by time. What is no finite number was not measured.
    fn push(&mut self, at: Mono, value: Value) {
        let last = self.points.times().next_back();
        self.several |= last == Some(at);
        if last.is_some_and(|last| last > at) {
            let place = self.points.before(|before| before <= at);
            let before = place.checked_sub(1).and_then(|before| self.points.get(before));
            self.several |= before.is_some_and(|before| before.at == at);
            self.points.insert(place, at, value);
            self.version += 1;
            self.attempts = self.all_attempts();
        } else {
            self.points.insert(self.points.len(), at, value);
            self.attempts.push(self.cadence.interval, at);
        }
    }

    /// Forgets what no window can reach any more; returns how many points went. Three intervals
    /// more are kept, so that coverage is known at the window's very start.
    fn forget(&mut self, now: Mono) -> usize {
        let keep = self.window.saturating_add(self.cadence.longest_gap());
        let horizon = now.minus(keep);
        // Nearly always one or none: the others are not even looked at.
        let old = self.points.times().take_while(|at| *at < horizon).count();
        self.drop_oldest(old);
        if old > 0 && self.points.len() < self.points.room() / 4 {
            self.points.shrink_to(self.room().max(self.points.len() * 2));
        }
        old
    }

    fn drop_oldest(&mut self, count: usize) {
        if count > 0 {
            self.points.drop_oldest(count);
            self.gone = self.gone.saturating_add(count as u64);
            self.attempts.forget(self.points.times().next());
        }
    }
}

/// What the stages of one journey counted, round by round, oldest first.
#[derive(Clone, Debug)]
pub struct JourneyRecord {
    pub journey: Arc<str>,
    /// The stages that the journey declares, in their order.
    pub stages: Vec<Stage>,
    /// `lag` is the journey's longest `give_up`.
    pub cadence: Cadence,
    pub rounds: VecDeque<RoundPoint>,
}

/// More rounds than this are forgotten, oldest first: a round every 10 s for a day.
pub const ROUNDS_LIMIT: usize = 8_640;

impl JourneyRecord {
    pub fn new(journey: Arc<str>, stages: Vec<Stage>, cadence: Cadence) -> Self {
        Self { journey, stages, cadence, rounds: VecDeque::new() }
    }

    /// Adds a decided round in its place by time.
    pub fn push(&mut self, round: RoundPoint) {
        let place = self.rounds.partition_point(|other| other.at <= round.at);
        self.rounds.insert(place, round);
        if self.rounds.len() > ROUNDS_LIMIT {
            self.rounds.pop_front();
        }
    }

    /// Forgets what no window of this length can reach any more.
    pub fn forget(&mut self, window: Duration, now: Mono) {
        let horizon = now.minus(window.saturating_add(self.cadence.longest_gap()));
        let old = self.rounds.partition_point(|round| round.at < horizon);
        self.rounds.drain(..old);
    }
}

/// The counts of one decided round, stage by stage.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundPoint {
    /// When the last of its fates was decided, or when it could not begin.
    pub at: Mono,
    pub stages: Vec<(Stage, StageCount)>,
    /// The round could not be sent or followed at all, by our own fault: nothing was counted.
    pub inconclusive: bool,
}

/// Exactly one fate for each of the expected; further copies are counted apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageCount {
    pub expected: u64,
    /// How many there are of each fate.
    pub fates: Vec<(Fate, u64)>,
    pub duplicate: u64,
}

impl From<&StageTally> for StageCount {
    fn from(tally: &StageTally) -> Self {
        Self {
            expected: tally.expected,
            fates: tally.fates.iter().map(|(fate, count)| (*fate, *count)).collect(),
            duplicate: tally.duplicate,
        }
    }
}

impl StageCount {
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates
            .iter()
            .filter(|(other, _)| *other == fate)
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Of these nobody knows what became of them.
    pub fn undecided(&self) -> u64 {
        self.of(Fate::Unknown).saturating_add(self.of(Fate::Inconclusive))
    }

    pub fn decided(&self) -> u64 {
        self.expected.saturating_sub(self.undecided())
    }

    /// What certainly did not arrive. A refused event is no loss in transport and has a fate of
    /// its own; a gate on loss counts it all the same, or a platform that refuses everything
    /// would lose nothing.
    pub fn gone(&self) -> u64 {
        [Fate::Lost, Fate::Refused, Fate::DeadLettered]
            .into_iter()
            .fold(0, |sum, fate| sum.saturating_add(self.of(fate)))
    }

    /// Decided, and not `ok`.
    pub fn flawed(&self) -> u64 {
        self.decided().saturating_sub(self.of(Fate::Ok))
    }
}

#[cfg(test)]
mod tests;
