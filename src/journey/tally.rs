//! The counts of rounds, per stage and fate, and what follows from them: percentiles, the bound
//! on the loss, the first stage that fails.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::exhibit::Exhibit;
use super::offset::Offset;
use super::{Fate, Stage};

/// What became of the events of one round, or of many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub rounds: u64,
    /// In the order of the stages.
    pub stages: Vec<StageTally>,
}

/// The counts at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTally {
    pub stage: Stage,
    /// Events (at `alerted`, `notified` and `shown`: things) whose fate is decided; the sum of
    /// `fates`.
    pub expected: u64,
    pub fates: BTreeMap<Fate, u64>,
    /// Further copies.
    pub duplicate: u64,
    /// How many of `fates` arrived after they had been given up.
    pub resurrected: u64,
    /// Seconds from the intended send to the arrival, of all that arrived, the late ones too; the
    /// newest [`LATENCIES_LIMIT`].
    pub latencies: Vec<f64>,
    /// Seconds since the feed that enriched each event was updated, where the stage promises one;
    /// None where an event does not show it. Of one round: sums of rounds have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feed_ages: Vec<Option<f64>>,
    /// How far the stage's clock is off, where it writes when it saw an event: of the newest round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Offset>,
    /// How many a wrong tenant saw, where one was asked: of the newest round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<u64>,
    /// At `notified`: seconds from each alert that was seen to its notification; None where it did
    /// not come. The newest [`LATENCIES_LIMIT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_alert: Vec<Option<f64>>,
    /// What the benign twins of the rounds brought about here, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<TwinTally>,
    /// What came of copies at the edges of the rule's look-back, where they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgeTally>,
    /// What followed from the rule behind the alert: of the newest round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A picture of what it showed, where the plan asks for one: of the newest round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhibit: Option<Exhibit>,
    /// What was wrong with the first that failed.
    pub reason: Option<String>,
}

/// What came of events that must bring nothing about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TwinTally {
    /// Rounds whose twin is known to have brought something about here, or nothing.
    pub rounds: u64,
    /// Rounds of which that can't be told: the twin did not get through, or nobody could look.
    pub inconclusive: u64,
    /// Alerts, or notifications, that were the twin's.
    pub false_alarms: u64,
    /// Why it was inconclusive first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of events at the edges of a rule's look-back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EdgeTally {
    /// Rounds of which it is known whether events just outside of it brought an alert.
    pub rounds: u64,
    /// Rounds of which that can't be told.
    pub inconclusive: u64,
    /// Alerts of events just outside: the rule looks back further than it says.
    pub beyond: u64,
    /// Alerts that did not come of events just inside; they are among the stage's fates.
    pub missed: u64,
    /// Why it was inconclusive first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One full round of the largest size, or as much of many small ones: a p99.9 needs 10,000.
pub const LATENCIES_LIMIT: usize = 10_000;

/// Percentiles of the latency, nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Fate {
    /// Whether the platform did wrong. Unknown and inconclusive are not known to be its fault:
    /// they are no pass, but they name no stage.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Unknown | Self::Inconclusive)
    }

    /// Whether an event with this fate is gone for every later stage too.
    pub const fn carries_on(self) -> bool {
        matches!(self, Self::Refused | Self::DeadLettered | Self::Lost)
    }
}

impl Tally {
    pub fn stage(&self, stage: Stage) -> Option<&StageTally> {
        self.stages.iter().find(|tally| tally.stage == stage)
    }

    /// The first stage at which an event or thing failed, by [`Fate::is_failure`], or one came that
    /// must not, or more things came than were expected.
    pub fn first_failing_stage(&self) -> Option<Stage> {
        let fails = |tally: &&StageTally| {
            tally.failed() > 0 || tally.false_alarms() > 0 || tally.too_many() > 0
        };
        self.stages.iter().find(fails).map(|tally| tally.stage)
    }

    /// The first stage that showed further copies.
    pub fn first_repeating_stage(&self) -> Option<Stage> {
        self.stages.iter().find(|tally| tally.duplicate > 0).map(|tally| tally.stage)
    }

    /// Adds the counts of further rounds.
    pub fn add(&mut self, other: &Self) {
        self.rounds = self.rounds.saturating_add(other.rounds);
        for theirs in &other.stages {
            match self.stages.iter_mut().find(|ours| ours.stage == theirs.stage) {
                Some(ours) => ours.add(theirs),
                None => self.stages.push(theirs.clone()),
            }
        }
        self.stages.sort_by_key(|tally| tally.stage);
    }

    /// One of the rounds that are counted here was `was`, and is `is` now.
    pub fn mend(&mut self, was: &Self, is: &Self) {
        for ours in &mut self.stages {
            if let (Some(was), Some(is)) = (was.stage(ours.stage), is.stage(ours.stage)) {
                ours.mend(was, is);
            }
        }
    }
}

impl StageTally {
    pub fn new(stage: Stage) -> Self {
        Self {
            stage,
            expected: 0,
            fates: BTreeMap::new(),
            duplicate: 0,
            resurrected: 0,
            latencies: Vec::new(),
            feed_ages: Vec::new(),
            clock: None,
            exposed: None,
            after_alert: Vec::new(),
            twin: None,
            edges: None,
            rule: None,
            exhibit: None,
            reason: None,
        }
    }

    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or(0)
    }

    /// How many failed, by [`Fate::is_failure`].
    pub fn failed(&self) -> u64 {
        self.sum(Fate::is_failure)
    }

    /// Things that must not have come.
    pub fn false_alarms(&self) -> u64 {
        let twin = self.twin.as_ref().map_or(0, |twin| twin.false_alarms);
        twin.saturating_add(self.edges.as_ref().map_or(0, |edges| edges.beyond))
    }

    /// How many things came that must not, where that can be told of all that was sent beside the
    /// round: one that came is told whatever else is not.
    pub fn told_alarms(&self) -> Option<u64> {
        let twin = self.twin.as_ref().map(|twin| twin.rounds > 0);
        let edges = self.edges.as_ref().map(|edges| edges.rounds > 0);
        let told = twin.into_iter().chain(edges);
        let all = (twin.is_some() || edges.is_some()) && told.into_iter().all(|told| told);
        let alarms = self.false_alarms();
        (all || alarms > 0).then_some(alarms)
    }

    /// Twins, and copies outside of a look-back, of which that can't be told.
    pub fn untold_alarms(&self) -> u64 {
        let twin = self.twin.as_ref().map_or(0, |twin| twin.inconclusive);
        twin.saturating_add(self.edges.as_ref().map_or(0, |edges| edges.inconclusive))
    }

    /// Things beyond those that were expected. Further copies of an event are counted apart and fail
    /// no stage; two alerts where one was expected do.
    pub fn too_many(&self) -> u64 {
        if self.stage.counts_things() { self.duplicate } else { 0 }
    }

    /// How many are known to be either there or not: all but unknown and inconclusive.
    pub fn known(&self) -> u64 {
        self.sum(|fate| !matches!(fate, Fate::Unknown | Fate::Inconclusive))
    }

    fn sum(&self, of: impl Fn(Fate) -> bool) -> u64 {
        let counts = self.fates.iter().filter(|(fate, _)| of(**fate)).map(|(_, n)| *n);
        counts.fold(0, u64::saturating_add)
    }

    pub(super) fn decide(&mut self, fate: Fate) {
        self.expected = self.expected.saturating_add(1);
        let count = self.fates.entry(fate).or_default();
        *count = count.saturating_add(1);
    }

    fn add(&mut self, other: &Self) {
        self.expected = self.expected.saturating_add(other.expected);
        for (fate, n) in &other.fates {
            let count = self.fates.entry(*fate).or_default();
            *count = count.saturating_add(*n);
        }
        self.duplicate = self.duplicate.saturating_add(other.duplicate);
        self.resurrected = self.resurrected.saturating_add(other.resurrected);
        // A clock moves: bounds of long ago say nothing of now.
        self.clock = other.clock.or(self.clock);
        self.exposed = other.exposed.or(self.exposed);
        self.latencies.extend(&other.latencies);
        let over = self.latencies.len().saturating_sub(LATENCIES_LIMIT);
        self.latencies.drain(..over);
        self.after_alert.extend(&other.after_alert);
        let over = self.after_alert.len().saturating_sub(LATENCIES_LIMIT);
        self.after_alert.drain(..over);
        if let Some(theirs) = &other.twin {
            self.twin.get_or_insert_default().add(theirs);
        }
        if let Some(theirs) = &other.edges {
            self.edges.get_or_insert_default().add(theirs);
        }
        // A rule may be changed: what followed long ago says nothing of now.
        self.rule = other.rule.clone().or_else(|| self.rule.take());
        self.exhibit = other.exhibit.clone().or_else(|| self.exhibit.take());
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
        }
    }

    fn mend(&mut self, was: &Self, is: &Self) {
        // Where it is not in, there is nothing to mend: a journey left the plan and came back.
        if was.fates.iter().any(|(fate, n)| self.count(*fate) < *n) {
            return;
        }
        let exchanged = |ours: u64, was: u64, is: u64| ours.saturating_sub(was).saturating_add(is);
        for fate in Fate::ALL {
            let now = exchanged(self.count(fate), was.count(fate), is.count(fate));
            match now {
                0 => drop(self.fates.remove(&fate)),
                now => drop(self.fates.insert(fate, now)),
            }
        }
        self.expected = exchanged(self.expected, was.expected, is.expected);
        self.duplicate = exchanged(self.duplicate, was.duplicate, is.duplicate);
        self.resurrected = exchanged(self.resurrected, was.resurrected, is.resurrected);
        exchange(&mut self.latencies, &was.latencies, &is.latencies);
        exchange(&mut self.after_alert, &was.after_alert, &is.after_alert);
        // What is of the newest round, or of the first, is this one's where it says the same.
        for_this(&mut self.clock, &was.clock, &is.clock);
        for_this(&mut self.exposed, &was.exposed, &is.exposed);
        for_this(&mut self.reason, &was.reason, &is.reason);
    }

    /// Seconds to what has come since this round was told of as `was`.
    pub fn come_since(&self, was: &Self) -> Vec<f64> {
        difference(&was.latencies, &self.latencies).1
    }

    /// None where nothing arrived: never a zero.
    pub fn latency(&self) -> Option<Percentiles> {
        Percentiles::of(self.latencies.clone())
    }

    /// From an alert to its notification; None where none was notified.
    pub fn alert_to_person(&self) -> Option<Percentiles> {
        Percentiles::of(self.after_alert.iter().flatten().copied().collect())
    }

    /// The share that may not arrive in truth, at 95 % confidence, given how many did not (lost,
    /// refused or dead-lettered, as a gate on loss counts them); None before anything is known.
    pub fn loss_upper_bound_95(&self) -> Option<f64> {
        upper_bound_95(self.sum(Fate::carries_on), self.known())
    }
}

/// Takes out of a list of many rounds what one of them no longer has, and puts in what it has now.
fn exchange<T: Copy + PartialEq>(all: &mut Vec<T>, was: &[T], is: &[T]) {
    let (gone, come) = difference(was, is);
    for one in gone {
        if let Some(place) = all.iter().position(|other| *other == one) {
            all.remove(place);
        }
    }
    all.extend(come);
    let over = all.len().saturating_sub(LATENCIES_LIMIT);
    all.drain(..over);
}

/// What was and is not, and what is and was not. Both are in the same order but for a few.
fn difference<T: Copy + PartialEq>(was: &[T], is: &[T]) -> (VecDeque<T>, Vec<T>) {
    let mut gone: VecDeque<T> = was.iter().copied().collect();
    let mut come = Vec::new();
    for one in is {
        match gone.iter().position(|other| other == one) {
            Some(place) => drop(gone.remove(place)),
            None => come.push(*one),
        }
    }
    (gone, come)
}

fn for_this<T: Clone + PartialEq>(ours: &mut T, was: &T, is: &T) {
    if ours == was {
        ours.clone_from(is);
    }
}

impl TwinTally {
    fn add(&mut self, other: &Self) {
        self.rounds = self.rounds.saturating_add(other.rounds);
        self.inconclusive = self.inconclusive.saturating_add(other.inconclusive);
        self.false_alarms = self.false_alarms.saturating_add(other.false_alarms);
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
        }
    }
}

impl EdgeTally {
    fn add(&mut self, other: &Self) {
        self.rounds = self.rounds.saturating_add(other.rounds);
        self.inconclusive = self.inconclusive.saturating_add(other.inconclusive);
        self.beyond = self.beyond.saturating_add(other.beyond);
        self.missed = self.missed.saturating_add(other.missed);
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
        }
    }
}

impl Percentiles {
    fn of(mut sorted: Vec<f64>) -> Option<Self> {
        sorted.sort_by(f64::total_cmp);
        let rank = |quantile: f64| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            p50: rank(0.50)?,
            p95: rank(0.95)?,
            p99: rank(0.99)?,
            max: sorted.last().copied()?,
        })
    }
}

/// The one-sided 95 % upper bound on a share of which `hits` of `n` were seen: 3/n where none was
/// (the rule of three), else exact (Clopper and Pearson 1934), and Wilson's interval for so many
/// hits that both agree to three digits.
pub fn upper_bound_95(hits: u64, n: u64) -> Option<f64> {
    /// The 95 % point of the normal distribution, one-sided.
    const Z: f64 = 1.644_853_626_951;
    /// Beyond this many hits the exact sum costs more than it tells.
    const EXACT_HITS: u64 = 1_000;
    if n == 0 {
        return None;
    }
    if hits == 0 {
        return Some((3.0 / n as f64).min(1.0));
    }
    if hits >= n {
        return Some(1.0);
    }
    if hits > EXACT_HITS {
        let (n, share) = (n as f64, hits as f64 / n as f64);
        let centre = share + Z * Z / (2.0 * n);
        let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        return Some(((centre + spread) / (1.0 + Z * Z / n)).min(1.0));
    }
    // The share at which so few hits would be seen in one of twenty tries only.
    let (mut low, mut high) = (hits as f64 / n as f64, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(hits, n, middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

/// The binomial probability of at most `hits` of `n`, each with chance `p`.
fn at_most(hits: u64, n: u64, p: f64) -> f64 {
    if p >= 1.0 {
        return 0.0;
    }
    let odds = p.ln() - (-p).ln_1p();
    let mut term = n as f64 * (-p).ln_1p();
    let mut sum = term.exp();
    for i in 0..hits {
        term += ((n - i) as f64).ln() - ((i + 1) as f64).ln() + odds;
        sum += term.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_textbooks() {
        assert_eq!(upper_bound_95(0, 0), None);
        assert_eq!(upper_bound_95(0, 2), Some(1.0));
        assert_eq!(upper_bound_95(0, 3_000), Some(0.001));
        assert_eq!(upper_bound_95(5, 5), Some(1.0));
        // Exact one-sided bounds: the 0.95 point of the beta distribution (hits + 1, n - hits).
        for (hits, n, expected) in
            [(1, 10, 0.394_163), (1, 100, 0.046_559), (5, 100, 0.102_253), (10, 1_000, 0.016_903)]
        {
            let bound = upper_bound_95(hits, n).expect("a bound");
            assert!((bound - expected).abs() < 2e-6, "{hits} of {n}: {bound}");
        }
        let (exact, wilson) = (upper_bound_95(1_000, 100_000), upper_bound_95(1_001, 100_000));
        let (exact, wilson) = (exact.expect("a bound"), wilson.expect("a bound"));
        assert!((exact - wilson).abs() < 1e-4 && exact > 0.01, "{exact} {wilson}");
    }

    #[test]
    fn rounds_add_up_and_the_first_failing_stage_is_named() {
        let mut parsed = StageTally::new(Stage::Parsed);
        parsed.decide(Fate::Ok);
        parsed.decide(Fate::Unknown);
        parsed.latencies = vec![0.5];
        let mut stored = StageTally::new(Stage::Stored);
        stored.decide(Fate::Lost);
        stored.decide(Fate::Late);
        stored.reason = Some(String::from("first"));
        let one = Tally { rounds: 1, stages: vec![stored, parsed] };
        let mut sum = Tally::default();
        assert_eq!(sum.first_failing_stage(), None);
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.rounds, 2);
        assert_eq!(sum.first_failing_stage(), Some(Stage::Stored));
        let parsed = sum.stage(Stage::Parsed).expect("a stage");
        assert_eq!((parsed.expected, parsed.known(), parsed.failed()), (4, 2, 0));
        assert_eq!(parsed.latency().map(|p| p.max), Some(0.5));
        let stored = sum.stage(Stage::Stored).expect("a stage");
        assert_eq!((stored.count(Fate::Lost), stored.failed(), stored.latency()), (2, 4, None));
    }

    #[test]
    fn a_mended_round_takes_the_place_of_what_it_was() {
        let round = |fates: &[Fate], latencies: &[f64], reason: &str| {
            let mut stored = StageTally::new(Stage::Stored);
            fates.iter().for_each(|fate| stored.decide(*fate));
            stored.latencies = latencies.to_vec();
            stored.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
            Tally { rounds: 1, stages: vec![stored] }
        };
        use Fate::{Late, Lost, Ok};
        let other = round(&[Ok, Lost], &[0.5], "another");
        let was = round(&[Ok, Lost, Lost], &[0.5], "2 of 3 not here");
        let mut is = round(&[Ok, Lost, Late], &[0.5, 3600.0], "1 of 3 not here");
        is.stages[0].resurrected = 1;
        for first in [&was, &other] {
            let mut sum = Tally::default();
            sum.add(first);
            sum.add(if first == &was { &other } else { &was });
            let reason = if first == &was { &is } else { &other }.stages[0].reason.clone();
            sum.mend(&was, &is);
            let stored = sum.stage(Stage::Stored).expect("a stage");
            let fates = [Ok, Late, Lost].map(|fate| stored.count(fate));
            assert_eq!((sum.rounds, stored.expected, fates), (2, 5, [2, 1, 2]));
            assert_eq!((stored.resurrected, stored.loss_upper_bound_95().is_some()), (1, true));
            assert_eq!(
                (stored.latencies.as_slice(), &stored.reason),
                (&[0.5, 0.5, 3600.0][..], &reason)
            );
        }
        assert_eq!(is.stages[0].come_since(&was.stages[0]), [3600.0]);
        // The journey left the plan meanwhile and came back: this round is not in.
        let mut anew = other.clone();
        anew.mend(&was, &is);
        assert_eq!(anew, other);
    }

    #[test]
    fn percentiles_are_nearest_rank_and_latencies_bounded() {
        let mut tally = StageTally::new(Stage::Stored);
        tally.latencies = (1..=100).rev().map(f64::from).collect();
        let Percentiles { p50, p95, p99, max } = tally.latency().expect("percentiles");
        assert_eq!((p50, p95, p99, max), (50.0, 95.0, 99.0, 100.0));
        let mut other = StageTally::new(Stage::Stored);
        other.latencies = vec![7.0; LATENCIES_LIMIT - 1];
        tally.add(&other);
        assert_eq!(tally.latencies.len(), LATENCIES_LIMIT);
        assert_eq!(tally.latencies.first(), Some(&1.0), "the oldest go first");
    }
}
