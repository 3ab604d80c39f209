//! All tracks of an agent: opened as checks run, kept as long as some gate looks back, bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Cadence, Selection, Track, TrackKey, Value};
use crate::catalogue::Metric;
use crate::time::Mono;

/// The most points of all tracks together: 16 MB at 16 bytes each, far above what a plan of
/// hundreds of targets and windows of an hour needs.
pub const POINTS_LIMIT: usize = 1_000_000;

/// The most tracks: against label values without a bound.
pub const TRACKS_LIMIT: usize = 10_000;

/// Some criterion looks at these series, and so far back.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub selection: Selection,
    pub window: Duration,
}

/// The recent values of all series that some gate judges.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    demands: Vec<Demand>,
    tracks: BTreeMap<TrackKey, Track>,
    points: usize,
    cut: u64,
    /// Metrics of which a track was refused: what is known of them is not all there is.
    refused: BTreeSet<&'static str>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    points: usize,
    tracks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { points: POINTS_LIMIT, tracks: TRACKS_LIMIT }
    }
}

impl Tracks {
    pub fn new(demands: Vec<Demand>) -> Self {
        Self { demands, ..Self::default() }
    }

    /// With smaller limits than the built-in ones.
    #[must_use]
    pub fn limited(mut self, points: usize, tracks: usize) -> Self {
        self.limits = Limits { points, tracks };
        self
    }

    /// The demands of a new plan; tracks that nobody asks for any more are dropped.
    pub fn demand(&mut self, demands: Vec<Demand>) {
        self.demands = demands;
        self.refused.clear();
        let demands = &self.demands;
        self.tracks.retain(|key, _| window_of(demands, key).is_some());
        self.points = self.tracks.values().map(|track| track.points.len()).sum();
    }

    /// Whether any criterion looks at this metric: a cheap question before a key is made.
    pub fn wants(&self, metric: &Metric) -> bool {
        self.demands.iter().any(|demand| demand.selection.metric == metric)
    }

    /// How far back some criterion looks at this series.
    pub fn window(&self, key: &TrackKey) -> Option<Duration> {
        window_of(&self.demands, key)
    }

    /// Makes the track, empty: from now on its silence is seen. Call it for every target that a
    /// check has, before the first attempt; a track that exists keeps its points and since when it
    /// is due, and takes over the rest.
    pub fn open(&mut self, key: &TrackKey, cadence: Cadence) -> bool {
        if let Some(track) = self.tracks.get_mut(key) {
            track.cadence = Cadence { since: track.cadence.since, ..cadence };
            return true;
        }
        if self.window(key).is_none() {
            return false;
        }
        if self.tracks.len() >= self.limits.tracks {
            self.refused.insert(key.metric.name);
            return false;
        }
        self.tracks.insert(key.clone(), Track::new(key.clone(), cadence));
        true
    }

    /// Records what an attempt left, if some criterion looks at it. `at` is when the attempt
    /// began, `now` when it is recorded.
    pub fn push(&mut self, key: &TrackKey, cadence: Cadence, at: Mono, value: Value, now: Mono) {
        let Some(window) = self.window(key) else { return };
        if !self.open(key, cadence) {
            return;
        }
        let Some(track) = self.tracks.get_mut(key) else { return };
        track.fit(window);
        track.push(at, value);
        self.points = (self.points + 1).saturating_sub(track.forget(window, now));
        if self.points > self.limits.points {
            self.cut_largest();
        }
    }

    /// Takes the oldest quarter from the longest track. Its window then begins later than it
    /// should and is not covered until it has filled again: open, never a silent pass.
    fn cut_largest(&mut self) {
        let Some(track) = self.tracks.values_mut().max_by_key(|track| track.points.len()) else {
            return;
        };
        let count = track.points.len().div_ceil(4);
        track.points.drain(..count);
        self.points = self.points.saturating_sub(count);
        self.cut = self.cut.saturating_add(count as u64);
    }

    /// The tracks that a criterion looks at, in the order of their keys.
    pub fn select(&self, selection: &Selection) -> Vec<&Track> {
        let first = TrackKey {
            metric: selection.metric,
            check: Arc::from(""),
            target: Arc::from(""),
            labels: Vec::new(),
        };
        self.tracks
            .range(first..)
            .take_while(|(key, _)| key.metric == selection.metric)
            .filter(|(key, _)| selection.matches(key))
            .map(|(_, track)| track)
            .collect()
    }

    /// Whether tracks of this metric were refused because there are too many.
    pub fn incomplete(&self, metric: &Metric) -> bool {
        self.refused.contains(metric.name)
    }

    /// Drops the tracks of targets or checks that are no more.
    pub fn retain(&mut self, keep: impl Fn(&TrackKey) -> bool) {
        self.tracks.retain(|key, _| keep(key));
        self.points = self.tracks.values().map(|track| track.points.len()).sum();
    }

    pub fn get(&self, key: &TrackKey) -> Option<&Track> {
        self.tracks.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Track> {
        self.tracks.values()
    }

    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Points held.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Points that were cut because there were too many.
    pub fn cut(&self) -> u64 {
        self.cut
    }
}

fn window_of(demands: &[Demand], key: &TrackKey) -> Option<Duration> {
    demands.iter().filter(|demand| demand.selection.matches(key)).map(|demand| demand.window).max()
}
