//! What the points of a window come to, kept as the window moves: a second that comes and one that
//! goes are looked at, and not the quarter of an hour between them.
//!
//! It is a cache and no more: sums are [`Exact`], so that it says bit by bit what a look at every
//! point would say. Whatever it can't follow (a point out of order, points that were cut, a clock
//! that went back) makes it begin anew.

use std::time::Duration;

use super::{Exact, Track, Value};
use crate::time::Mono;

/// What is kept of the numbers in a window besides how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Count,
    Sum,
    /// The sum of what each is as a share: 0 to 1.
    Shares,
    /// Growth of a counter; a reset starts it anew.
    Growth,
    /// The numbers themselves, ascending.
    Ranks,
}

/// What the points of a window come to. Each point is one attempt's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub numbers: u64,
    pub nothing: u64,
    pub failed: u64,
    pub inconclusive: u64,
    /// Of what is kept: the sum, the shares or the growth.
    pub sum: Exact,
    pub ranks: Vec<f64>,
}

/// A counter that went down was reset and has grown from nothing since.
pub fn grown(from: f64, to: f64) -> f64 {
    if to >= from { to - from } else { to.max(0.0) }
}

/// One window that somebody asks for again and again. Points are counted since the track began.
#[derive(Clone, Debug)]
pub(super) struct Running {
    over: Duration,
    keep: Keep,
    version: u64,
    now: Mono,
    start: u64,
    end: u64,
    /// The newest number before the window and its place: growth begins there.
    base: Option<(u64, f64)>,
    /// The newest number of all.
    newest: Option<f64>,
    totals: Totals,
}

impl Running {
    fn new(over: Duration, keep: Keep, track: &Track) -> Self {
        Self {
            over,
            keep,
            version: track.version,
            now: Mono(i64::MIN),
            start: track.gone,
            end: track.gone,
            base: None,
            newest: None,
            totals: Totals::default(),
        }
    }

    /// Whether it can go on from where it stands.
    fn follows(&self, track: &Track, now: Mono) -> bool {
        self.version == track.version
            && now >= self.now
            && self.start >= track.gone
            && self.base.is_none_or(|(place, _)| place >= track.gone)
    }

    fn advance(&mut self, track: &Track, now: Mono) {
        if !self.follows(track, now) {
            *self = Self::new(self.over, self.keep, track);
        }
        self.now = now;
        let point = |place: u64| {
            let place = usize::try_from(place.saturating_sub(track.gone)).ok()?;
            track.points.get(place)
        };
        while let Some(point) = point(self.end).filter(|point| point.at <= now) {
            self.enter(point.value());
            self.end += 1;
        }
        let from = now.minus(self.over);
        while let Some(point) = point(self.start).filter(|point| point.at < from)
            && self.start < self.end
        {
            self.leave(point.value());
            self.start += 1;
        }
    }

    fn enter(&mut self, value: Value) {
        let totals = &mut self.totals;
        match value {
            Value::Number(number) => {
                totals.numbers += 1;
                match self.keep {
                    Keep::Count => {}
                    Keep::Sum => totals.sum.add(number),
                    Keep::Shares => totals.sum.add(number.clamp(0.0, 1.0)),
                    Keep::Growth => {
                        totals.sum.add(self.newest.map_or(0.0, |before| grown(before, number)));
                    }
                    Keep::Ranks => {
                        let place = totals.ranks.partition_point(|n| n.total_cmp(&number).is_lt());
                        totals.ranks.insert(place, number);
                    }
                }
                self.newest = Some(number);
            }
            Value::Nothing => totals.nothing += 1,
            Value::Failed => totals.failed += 1,
            Value::Inconclusive => totals.inconclusive += 1,
        }
    }

    fn leave(&mut self, value: Value) {
        let totals = &mut self.totals;
        match value {
            Value::Number(number) => {
                totals.numbers -= 1;
                match self.keep {
                    Keep::Count => {}
                    Keep::Sum => totals.sum.take(number),
                    Keep::Shares => totals.sum.take(number.clamp(0.0, 1.0)),
                    Keep::Growth => {
                        let before = self.base.map(|(_, before)| before);
                        totals.sum.take(before.map_or(0.0, |before| grown(before, number)));
                    }
                    Keep::Ranks => {
                        let place = totals.ranks.partition_point(|n| n.total_cmp(&number).is_lt());
                        if place < totals.ranks.len() {
                            totals.ranks.remove(place);
                        }
                    }
                }
                self.base = Some((self.start, number));
            }
            Value::Nothing => totals.nothing -= 1,
            Value::Failed => totals.failed -= 1,
            Value::Inconclusive => totals.inconclusive -= 1,
        }
    }
}

impl Track {
    /// What the points of the window that ends now come to. None where an attempt left several
    /// points: then attempts and points are not the same.
    pub fn totals<R>(
        &self,
        over: Duration,
        keep: Keep,
        now: Mono,
        read: impl FnOnce(&Totals) -> R,
    ) -> Option<R> {
        if self.several {
            return None;
        }
        let mut all = self.running.borrow_mut();
        let same = |running: &Running| running.over == over && running.keep == keep;
        let place = all.iter().position(same).unwrap_or_else(|| {
            all.push(Running::new(over, keep, self));
            all.len() - 1
        });
        let running = all.get_mut(place)?;
        running.advance(self, now);
        Some(read(&running.totals))
    }
}
