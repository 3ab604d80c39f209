//! The worst second of the last two scrapes and a little more, for each of the node's series: a
//! burst between two scrapes stays visible until every scraper has seen it, and no scrape resets it.
//!
//! A ring of the worst values of spans of five seconds: a second is compared with eight numbers,
//! whatever the window, and nothing is allocated once the layout stands.

use std::collections::HashMap;
use std::time::Duration;

use crate::catalogue::peaks::{Peak, WINDOW_LEAST_SECONDS};
use crate::metrics::Row;
use crate::node::Signal;
use crate::time::Mono;

const SPAN: Duration = Duration::from_secs(5);
/// The spans that are whole, and the one that is being filled.
const SPANS: usize = (WINDOW_LEAST_SECONDS as usize).div_ceil(SPAN.as_secs() as usize) + 1;

/// The peak of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rolling {
    pub(super) row: Row,
    lowest: bool,
    /// The worst of each span; no number where nothing was measured in it.
    spans: [f64; SPANS],
}

impl Rolling {
    pub(super) fn new(row: Row, peak: &Peak) -> Self {
        Self { row, lowest: peak.lowest, spans: [f64::NAN; SPANS] }
    }

    /// Of what is no number and a number, the number.
    fn worse(&self, one: f64, other: f64) -> f64 {
        if self.lowest { one.min(other) } else { one.max(other) }
    }

    /// A second's value.
    pub(super) fn take(&mut self, place: usize, signal: Signal<'_>) {
        let Signal::Number(value) = signal else { return };
        let worst = self.worse(self.spans.get(place).copied().unwrap_or(f64::NAN), value);
        if let Some(span) = self.spans.get_mut(place) {
            *span = worst;
        }
    }

    pub(super) fn worst(&self) -> Option<f64> {
        let worst = self.spans.iter().copied().fold(f64::NAN, |one, other| self.worse(one, other));
        (!worst.is_nan()).then_some(worst)
    }
}

/// Where the ring stands: the same for all rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Spans since the clock began; None before the first second.
    span: Option<i64>,
}

impl Turn {
    /// Turns the ring to this instant. What is older than the window is forgotten.
    pub(super) fn to<'a>(&mut self, at: Mono, all: impl Iterator<Item = &'a mut Rolling>) -> usize {
        let length = i64::try_from(SPAN.as_nanos()).unwrap_or(i64::MAX);
        let now = at.0.div_euclid(length);
        let ring = i64::try_from(SPANS).unwrap_or(i64::MAX);
        let place = |span: i64| usize::try_from(span.rem_euclid(ring)).unwrap_or(0);
        if let Some(before) = self.span.filter(|before| *before != now) {
            // Backwards it never goes; were it to, all of it would be forgotten.
            let gone = if now > before { (now - before).min(ring) } else { ring };
            for rolling in all {
                for step in 0..gone {
                    if let Some(span) = rolling.spans.get_mut(place(now - step)) {
                        *span = f64::NAN;
                    }
                }
            }
        }
        self.span = Some(now);
        place(now)
    }
}

/// What rows have seen so far, by row: instances that come or go change nothing for the others.
pub(super) fn kept<'a>(all: impl Iterator<Item = &'a Rolling>) -> HashMap<Row, Rolling> {
    all.map(|rolling| (rolling.row, *rolling)).collect()
}

pub(super) fn resume(row: Row, peak: &Peak, kept: &HashMap<Row, Rolling>) -> Rolling {
    kept.get(&row).copied().unwrap_or_else(|| Rolling::new(row, peak))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{node, peaks};
    use crate::metrics::Registry;

    fn seconds(values: &[(i64, f64)], lowest: bool, at: i64) -> Option<f64> {
        let mut registry = Registry::new(|_| Vec::new());
        let peak = peaks::of(if lowest { &node::MEMORY_AVAILABLE } else { &node::CPU_BUSY });
        let peak = peak.expect("a peak");
        let row = registry.row(&peak.metric, &[]).expect("a row");
        let mut rolling = Rolling::new(row, peak);
        let mut turn = Turn::default();
        for (second, value) in values {
            let place = turn.to(Mono::from_secs(*second), std::iter::once(&mut rolling));
            rolling.take(place, Signal::Number(*value));
        }
        let place = turn.to(Mono::from_secs(at), std::iter::once(&mut rolling));
        rolling.take(place, Signal::Nothing);
        rolling.worst()
    }

    #[test]
    fn a_burst_is_seen_for_longer_than_two_scrapes_and_then_forgotten() {
        for phase in 0..40 {
            let burst = 100 + phase;
            let values: Vec<(i64, f64)> = (90..burst).map(|s| (s, 0.1)).collect();
            let with: Vec<_> = values.iter().copied().chain([(burst, 0.9)]).collect();
            let least = i64::from(WINDOW_LEAST_SECONDS);
            assert_eq!(seconds(&with, false, burst + least), Some(0.9), "phase {phase}");
            assert_eq!(seconds(&with, false, burst + least + 5), None, "phase {phase}");
            let quiet: Vec<_> =
                with.iter().copied().chain((1..=60).map(|s| (burst + s, 0.2))).collect();
            assert_eq!(seconds(&quiet, false, burst + 60), Some(0.2), "phase {phase}");
        }
    }

    #[test]
    fn of_what_is_left_the_smallest_is_the_worst() {
        assert_eq!(seconds(&[(1, 0.5), (2, 0.03), (3, 0.6)], true, 4), Some(0.03));
        assert_eq!(seconds(&[], true, 4), None);
    }
}
