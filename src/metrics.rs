//! Retained metric families: rows are made when their labels first appear and then only set, so
//! that a second of the node or a scrape neither hashes nor allocates.
//!
//! Knows nothing of checks, gates or journeys. What nobody measured is absent: never 0, never NaN.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalogue::{self, Kind, Metric};

mod exposition;
#[cfg(test)]
mod tests;

pub use exposition::Format;

/// The most rows of one metric. A fleet of a hundred nodes with ten checks of each stays below;
/// what goes beyond is a label that should not be one, and is counted in
/// `greenlight_metric_rows_dropped_total`.
pub const ROWS_LIMIT: usize = 2_000;

/// The most boundaries that gates may add to a histogram's own.
pub const EXTRA_BOUNDARIES_LIMIT: usize = 8;

/// One row of one metric. A handle of a row that was removed sets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    family: usize,
    slot: usize,
    generation: u32,
}

/// All metrics of this agent.
#[derive(Debug)]
pub struct Registry {
    families: Vec<Family>,
    by_name: HashMap<&'static str, usize>,
    /// Where a row's labels are written for the look-up, again and again.
    scratch: String,
}

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    text: exposition::Names,
    /// Of a histogram: its boundaries, ascending, without the infinite one.
    boundaries: Vec<f64>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// From the labels as they are exposed, which are unambiguous, to the slot.
    index: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// None where the row was removed; the slot is then free.
    row: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// `check="a",target="b"`, escaped.
    exposed: Arc<str>,
    labels: Box<[Box<str>]>,
    value: Cell,
}

#[derive(Debug)]
enum Cell {
    Absent,
    Number(f64),
    Histogram { counts: Box<[u64]>, sum: f64 },
}

/// The labels of one row.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    names: &'static [&'static str],
    values: &'a [Box<str>],
}

impl<'a> Labels<'a> {
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|n| *n == name)?;
        self.values.get(at).map(|value| &**value)
    }
}

impl Registry {
    /// All families of the catalogue, in its order. `extra` names the boundaries that gates want
    /// of a histogram besides its own.
    pub fn new(extra: impl Fn(&Metric) -> Vec<f64>) -> Self {
        let mut registry =
            Self { families: Vec::new(), by_name: HashMap::new(), scratch: String::new() };
        for metric in catalogue::all() {
            registry.add_family(metric, extra(metric));
        }
        registry
    }

    /// Other boundaries, after a reload: a histogram whose boundaries change starts anew, all
    /// else goes on.
    pub fn set_boundaries(&mut self, extra: impl Fn(&Metric) -> Vec<f64>) {
        for family in &mut self.families {
            let boundaries = boundaries(family.metric, extra(family.metric));
            if boundaries != family.boundaries {
                family.text = exposition::Names::new(family.metric, &boundaries);
                family.boundaries = boundaries;
                for slot in 0..family.slots.len() {
                    family.remove(slot);
                }
            }
        }
    }

    /// The handle of a row, which is made if need be. None where the labels are not as many as
    /// the metric has, or the metric has reached its limit of rows (which is counted).
    pub fn row(&mut self, metric: &'static Metric, labels: &[&str]) -> Option<Row> {
        if labels.len() != metric.labels.len() {
            return None;
        }
        if let Some(row) = self.find(metric, labels) {
            return Some(row);
        }
        let at = match self.by_name.get(metric.name) {
            Some(at) => *at,
            None => self.add_family(metric, Vec::new()),
        };
        let family = self.families.get_mut(at)?;
        if family.index.len() >= ROWS_LIMIT {
            if *metric != catalogue::agent::METRIC_ROWS_DROPPED {
                self.add(&catalogue::agent::METRIC_ROWS_DROPPED, &[metric.name], 1.0);
            }
            return None;
        }
        Some(family.make(at, &self.scratch, labels))
    }

    /// The handle of a row that exists. Leaves its labels as they are exposed in `scratch`.
    fn find(&mut self, metric: &Metric, labels: &[&str]) -> Option<Row> {
        self.scratch.clear();
        exposition::labels(&mut self.scratch, metric.labels, labels);
        let at = *self.by_name.get(metric.name)?;
        let family = self.families.get(at)?;
        let slot = *family.index.get(self.scratch.as_str())?;
        Some(Row { family: at, slot, generation: family.slots.get(slot)?.generation })
    }

    /// Sets a gauge, or a counter to a total that somebody else counts (the kernel). What is not
    /// a number is absent.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        if let Some(row) = self.row(metric, labels) {
            self.set_row(row, value);
        }
    }

    /// Adds to a counter, which begins at 0; or to a gauge.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], by: f64) {
        if let Some(row) = self.row(metric, labels) {
            self.add_row(row, by);
        }
    }

    /// Counts a value in a histogram.
    pub fn observe(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        if let Some(row) = self.row(metric, labels) {
            self.observe_row(row, value);
        }
    }

    /// Makes a row absent, without forgetting it. A histogram starts anew.
    pub fn clear(&mut self, metric: &Metric, labels: &[&str]) {
        if let Some(row) = self.find(metric, labels) {
            self.clear_row(row);
        }
    }

    /// Forgets a row; its handles set nothing from now on.
    pub fn remove(&mut self, metric: &Metric, labels: &[&str]) {
        if let Some(row) = self.find(metric, labels)
            && let Some(family) = self.families.get_mut(row.family)
        {
            family.remove(row.slot);
        }
    }

    /// Forgets the rows of which `keep` says no: of targets that vanished, of the gates of an
    /// old plan.
    pub fn retain(&mut self, keep: impl Fn(&'static Metric, Labels<'_>) -> bool) {
        for family in &mut self.families {
            for at in 0..family.slots.len() {
                let gone =
                    family.slots.get(at).and_then(|slot| slot.row.as_ref()).is_some_and(|held| {
                        let names = family.metric.labels;
                        !keep(family.metric, Labels { names, values: &held.labels })
                    });
                if gone {
                    family.remove(at);
                }
            }
        }
    }

    /// As [`Registry::set`]. False where the row is gone.
    pub fn set_row(&mut self, row: Row, value: f64) -> bool {
        let Some(held) = self.held(row) else { return false };
        match held {
            Cell::Histogram { .. } => {}
            _ if value.is_nan() => *held = Cell::Absent,
            _ => *held = Cell::Number(value),
        }
        true
    }

    /// As [`Registry::add`]. False where the row is gone. A counter never falls.
    pub fn add_row(&mut self, row: Row, by: f64) -> bool {
        let counter = self.families.get(row.family).is_some_and(|f| f.metric.kind == Kind::Counter);
        let Some(held) = self.held(row) else { return false };
        if by.is_nan() || (counter && by < 0.0) {
            return true;
        }
        match held {
            Cell::Absent => *held = Cell::Number(by),
            Cell::Number(value) => *value += by,
            Cell::Histogram { .. } => {}
        }
        true
    }

    /// As [`Registry::observe`]. False where the row is gone. What is not a number is in no
    /// bucket.
    pub fn observe_row(&mut self, row: Row, value: f64) -> bool {
        let Some(family) = self.families.get_mut(row.family) else { return false };
        // Boundaries are inclusive: the first that is not below the value.
        let bucket = family.boundaries.partition_point(|boundary| *boundary < value);
        let Some(slot) = family.slots.get_mut(row.slot) else { return false };
        let Some(held) = slot.row.as_mut().filter(|_| slot.generation == row.generation) else {
            return false;
        };
        if let Cell::Histogram { counts, sum } = &mut held.value
            && !value.is_nan()
            && let Some(count) = counts.get_mut(bucket)
        {
            *count += 1;
            *sum += value;
        }
        true
    }

    /// As [`Registry::clear`]. False where the row is gone.
    pub fn clear_row(&mut self, row: Row) -> bool {
        let Some(held) = self.held(row) else { return false };
        match held {
            Cell::Histogram { counts, sum } => {
                counts.fill(0);
                *sum = 0.0;
            }
            _ => *held = Cell::Absent,
        }
        true
    }

    /// What a gauge or counter holds; None where it is absent or was never set.
    pub fn get(&self, metric: &Metric, labels: &[&str]) -> Option<f64> {
        let family = self.families.get(*self.by_name.get(metric.name)?)?;
        let mut exposed = String::new();
        exposition::labels(&mut exposed, metric.labels, labels);
        let slot = family.slots.get(*family.index.get(exposed.as_str())?)?;
        match slot.row.as_ref()?.value {
            Cell::Number(value) => Some(value),
            _ => None,
        }
    }

    /// Rows that are held, absent ones included.
    pub fn rows(&self) -> usize {
        self.families.iter().map(|family| family.index.len()).sum()
    }

    /// Rows of the metric that has the most.
    pub fn most_rows(&self) -> usize {
        self.families.iter().map(|family| family.index.len()).max().unwrap_or_default()
    }

    fn held(&mut self, row: Row) -> Option<&mut Cell> {
        let slot = self.families.get_mut(row.family)?.slots.get_mut(row.slot)?;
        if slot.generation != row.generation {
            return None;
        }
        slot.row.as_mut().map(|held| &mut held.value)
    }

    fn add_family(&mut self, metric: &'static Metric, extra: Vec<f64>) -> usize {
        let boundaries = boundaries(metric, extra);
        self.families.push(Family {
            metric,
            text: exposition::Names::new(metric, &boundaries),
            boundaries,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
        });
        self.by_name.insert(metric.name, self.families.len() - 1);
        self.families.len() - 1
    }
}

impl Family {
    fn make(&mut self, at: usize, exposed: &str, labels: &[&str]) -> Row {
        let exposed: Arc<str> = Arc::from(exposed);
        let value = match self.metric.kind {
            Kind::Histogram(_) => Cell::Histogram {
                counts: vec![0; self.boundaries.len() + 1].into_boxed_slice(),
                sum: 0.0,
            },
            Kind::Counter | Kind::Gauge => Cell::Absent,
        };
        let held = Held {
            exposed: exposed.clone(),
            labels: labels.iter().map(|label| Box::from(*label)).collect(),
            value,
        };
        let free = self.free.pop();
        let (slot, generation) = match free.and_then(|at| Some((at, self.slots.get_mut(at)?))) {
            Some((at, slot)) => {
                slot.row = Some(held);
                (at, slot.generation)
            }
            None => {
                self.slots.push(Slot { generation: 0, row: Some(held) });
                (self.slots.len() - 1, 0)
            }
        };
        self.index.insert(exposed, slot);
        Row { family: at, slot, generation }
    }

    fn remove(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at)
            && let Some(held) = slot.row.take()
        {
            slot.generation = slot.generation.wrapping_add(1);
            self.index.remove(&held.exposed);
            self.free.push(at);
        }
    }
}

/// A histogram's own boundaries and the extra ones, ascending, each once.
fn boundaries(metric: &Metric, mut extra: Vec<f64>) -> Vec<f64> {
    let Kind::Histogram(base) = metric.kind else { return Vec::new() };
    extra.retain(|boundary| boundary.is_finite() && !base.contains(boundary));
    extra.sort_by(f64::total_cmp);
    extra.dedup();
    extra.truncate(EXTRA_BOUNDARIES_LIMIT);
    let mut all: Vec<f64> = base.iter().copied().chain(extra).collect();
    all.sort_by(f64::total_cmp);
    all
}
