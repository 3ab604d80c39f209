//! All tracks of an agent: opened as checks run, kept as long as some gate looks back, bounded.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Cadence, LabelNames, Selection, Track, TrackKey, Value};
use crate::catalogue::Metric;
use crate::time::Mono;

/// The most points of all tracks together: 48 MB at 16 bytes each, far above what a plan of hundreds of
/// targets and windows of an hour needs, and what `linux-node` asks of 256 disks and as many filesystems.
pub const POINTS_LIMIT: usize = 3_000_000;

/// The most tracks: against label values without a bound.
pub const TRACKS_LIMIT: usize = 10_000;

/// The most that is kept of what is gone, 1.6 MB: where mounts come and go by the hundred, the oldest evidence
/// gives way.
const DEPARTED_POINTS_LIMIT: usize = 100_000;
const DEPARTED_LIMIT: usize = 1_000;

/// How long a device counts as it was last seen, where that is all that is judged of it: one that is dead is
/// taken away by the kernel itself. Half an hour, as long as the errors of disks count in `linux-node`.
const DEVICE_COUNTS: Duration = Duration::from_secs(30 * 60);

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
    /// By the metric's name, and for each in the order of their keys.
    families: Vec<(&'static str, Vec<Track>)>,
    /// Of what is gone (a disk, an interface), the first that went first: evidence stays until its window
    /// has passed. What is not there any more can't be green again, and can't hold a gate open either: these
    /// only speak against. What comes back by the same name begins a track of its own.
    departed: VecDeque<Departed>,
    /// Grows whenever a track comes or goes: places are of one layout.
    layout: u64,
    points: usize,
    cut: u64,
    /// Metrics of which a track was refused: what is known of them is not all there is.
    refused: BTreeSet<&'static str>,
    limits: Limits,
}

#[derive(Clone, Debug)]
struct Departed {
    since: Mono,
    track: Track,
}

impl Departed {
    /// How long it may still be judged.
    fn counts(&self) -> Duration {
        let device = LabelNames::of(self.track.key.metric).target == Some("device");
        self.track.window.max(if device { DEVICE_COUNTS } else { Duration::ZERO })
    }
}

/// Where a track is, for as long as none comes or goes: pushing there looks nothing up.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    family: usize,
    track: usize,
    layout: u64,
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
        self.refused.clear();
        self.keep(|track| match window_of(&demands, &track.key) {
            Some(window) => {
                track.look_back(window);
                true
            }
            None => false,
        });
        self.departed.retain_mut(|Departed { track, .. }| match window_of(&demands, &track.key) {
            Some(window) => {
                track.look_back(window);
                true
            }
            None => false,
        });
        self.demands = demands;
        self.count();
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
    pub fn open(&mut self, key: &TrackKey, cadence: Cadence) -> Option<Place> {
        let found = self.place(key);
        if let Some(track) = found.and_then(|place| self.at(place)) {
            track.take_over(cadence);
            return found;
        }
        let window = self.window(key)?;
        if self.len() >= self.limits.tracks {
            self.refused.insert(key.metric.name);
            return None;
        }
        self.layout += 1;
        let name = key.metric.name;
        let family = match self.families.binary_search_by(|(other, _)| (*other).cmp(name)) {
            Ok(family) => family,
            Err(family) => {
                self.families.insert(family, (name, Vec::new()));
                family
            }
        };
        let (_, tracks) = self.families.get_mut(family)?;
        let track = tracks.partition_point(|track| track.key < *key);
        tracks.insert(track, Track::new(key.clone(), cadence, window));
        Some(Place { family, track, layout: self.layout })
    }

    /// Where the track of this key is.
    pub fn place(&self, key: &TrackKey) -> Option<Place> {
        let name = key.metric.name;
        let family = self.families.binary_search_by(|(other, _)| (*other).cmp(name)).ok()?;
        let (_, tracks) = self.families.get(family)?;
        let track = tracks.binary_search_by(|track| track.key.cmp(key)).ok()?;
        Some(Place { family, track, layout: self.layout })
    }

    /// Whether tracks have neither come nor gone since the place was asked for.
    pub fn stands(&self, place: Place) -> bool {
        place.layout == self.layout
    }

    fn at(&mut self, place: Place) -> Option<&mut Track> {
        let standing = place.layout == self.layout;
        let (_, tracks) = self.families.get_mut(place.family).filter(|_| standing)?;
        tracks.get_mut(place.track)
    }

    /// Records what an attempt left, if some criterion looks at it. `at` is when the attempt
    /// began, `now` when it is recorded.
    pub fn push(&mut self, key: &TrackKey, cadence: Cadence, at: Mono, value: Value, now: Mono) {
        if let Some(place) = self.open(key, cadence) {
            self.push_at(place, at, value, now);
        }
    }

    /// The same where the track's place is known and stands.
    pub fn push_at(&mut self, place: Place, at: Mono, value: Value, now: Mono) {
        let Some(track) = self.at(place) else { return };
        let gone = track.take(at, value, now);
        self.points = (self.points + 1).saturating_sub(gone);
        if self.points > self.limits.points {
            self.cut_largest();
        }
    }

    /// Takes the oldest quarter from the longest track. Its window then begins later than it
    /// should and is not covered until it has filled again: open, never a silent pass.
    fn cut_largest(&mut self) {
        if let Some(Departed { track, .. }) = self.departed.pop_front() {
            self.points = self.points.saturating_sub(track.points.len());
            self.cut = self.cut.saturating_add(track.points.len() as u64);
            return;
        }
        let all = self.families.iter_mut().flat_map(|(_, tracks)| tracks);
        let Some(track) = all.max_by_key(|track| track.points.len()) else { return };
        let count = track.points.len().div_ceil(4);
        track.drop_oldest(count);
        self.points = self.points.saturating_sub(count);
        self.cut = self.cut.saturating_add(count as u64);
    }

    /// The tracks that a criterion looks at, in the order of their keys. Where no sample of a target has
    /// the labels that are asked for, its attempts stand for it: else one that never yielded any would
    /// be missed by nobody.
    pub fn select(&self, selection: &Selection) -> Vec<&Track> {
        let name = selection.metric.name;
        let family = self.families.binary_search_by(|(other, _)| (*other).cmp(name)).ok();
        let tracks = family.and_then(|family| self.families.get(family));
        let tracks = tracks.into_iter().flat_map(|(_, tracks)| tracks);
        let found: Vec<&Track> = tracks.filter(|track| selection.matches(&track.key)).collect();
        // The attempts come before the samples of their target.
        let speaks = |(place, track): &(usize, &&Track)| {
            let next = found.get(place + 1).map(|next| (&next.key.check, &next.key.target));
            !track.key.is_whole() || next != Some((&track.key.check, &track.key.target))
        };
        found.iter().enumerate().filter(speaks).map(|(_, track)| *track).collect()
    }

    /// Whether tracks of this metric were refused because there are too many.
    pub fn incomplete(&self, metric: &Metric) -> bool {
        self.refused.contains(metric.name)
    }

    /// Drops the tracks of targets or checks that are no more.
    pub fn retain(&mut self, keep: impl Fn(&TrackKey) -> bool) {
        self.keep(|track| keep(&track.key));
    }

    fn keep(&mut self, mut keep: impl FnMut(&mut Track) -> bool) {
        self.layout += 1;
        for (_, tracks) in &mut self.families {
            tracks.retain_mut(&mut keep);
        }
        self.count();
    }

    fn count(&mut self) {
        let departed = self.departed.iter().map(|Departed { track, .. }| track.points.len());
        self.points =
            departed.sum::<usize>() + self.iter().map(|track| track.points.len()).sum::<usize>();
    }

    /// Takes the tracks away of what is gone, and keeps what they hold until no window reaches it any more.
    pub fn depart(&mut self, stays: impl Fn(&TrackKey) -> bool) {
        self.layout += 1;
        for (_, tracks) in &mut self.families {
            let gone = tracks.extract_if(.., |track| !stays(&track.key));
            self.departed.extend(gone.filter_map(|mut track| {
                track.points.shrink_to(0);
                Some(Departed { since: track.attempts.newest?, track })
            }));
        }
        let mut held: usize = self.departed.iter().map(|one| one.track.points.len()).sum();
        while held > DEPARTED_POINTS_LIMIT || self.departed.len() > DEPARTED_LIMIT {
            let Some(Departed { track, .. }) = self.departed.pop_front() else { break };
            held = held.saturating_sub(track.points.len());
            self.cut = self.cut.saturating_add(track.points.len() as u64);
        }
        self.count();
    }

    /// Forgets what is gone for so long that nothing is judged by it any more.
    pub fn forget_departed(&mut self, now: Mono) {
        let before = self.departed.len();
        self.departed.retain(|gone| gone.since.plus(gone.counts()) >= now);
        if self.departed.len() != before {
            self.count();
        }
    }

    /// What is gone and a criterion still looks at, and the newest attempt of it.
    pub fn departed(&self, selection: &Selection) -> impl Iterator<Item = (Mono, &Track)> {
        let found = self.departed.iter().filter(|one| selection.matches(&one.track.key));
        found.map(|one| (one.since, &one.track))
    }

    /// Says of a track that what it is of comes and goes with what uses it.
    pub fn passes(&mut self, place: Place) {
        if let Some(track) = self.at(place) {
            track.passing = true;
        }
    }

    pub fn get(&self, key: &TrackKey) -> Option<&Track> {
        let place = self.place(key)?;
        self.families.get(place.family)?.1.get(place.track)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Track> {
        self.families.iter().flat_map(|(_, tracks)| tracks)
    }

    pub fn len(&self) -> usize {
        self.families.iter().map(|(_, tracks)| tracks.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
