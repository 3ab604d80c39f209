//! A second of the node: into the metrics by handle, and into the tracks that gates look at.

use std::sync::Arc;

use super::State;
use super::culprits::Watch;
use super::peaks::{self, Rolling, Turn};
use crate::catalogue::agent::NODE_INFO;
use crate::catalogue::peaks as peak;
use crate::metrics::Row;
use crate::node::culprits::Cause;
use crate::node::{Frame, Signal, TICK};
use crate::series::{Cadence, NODE_CHECK, TrackKey, Value};
use crate::time::Now;

/// Where each slot of the frame's layout goes. Made anew when the layout or the plan changes.
#[derive(Default)]
pub(super) struct Rows {
    /// The generation of the layout that the slots are of.
    pub(super) generation: Option<u64>,
    slots: Vec<Slot>,
    turn: Turn,
}

struct Slot {
    row: Option<Row>,
    sampled: bool,
    /// Where some gate looks at the slot.
    key: Option<TrackKey>,
    peak: Option<Rolling>,
    /// Where one second may cross a gate's threshold.
    watch: Option<Watch>,
}

impl State {
    pub(super) fn frame(&mut self, frame: &Frame, now: Now) {
        if self.frame.generation != Some(frame.layout.generation) {
            self.lay_out(frame);
            self.frame.generation = Some(frame.layout.generation);
        }
        let mut slots = std::mem::take(&mut self.frame.slots);
        let rolling = slots.iter_mut().filter_map(|slot| slot.peak.as_mut());
        let span = self.frame.turn.to(frame.at.mono, rolling);
        let cadence = Cadence::every(TICK, now.mono);
        for (slot, (def, signal)) in slots.iter_mut().zip(frame.iter()) {
            if let Some(rolling) = &mut slot.peak {
                peaks::take(rolling, span, signal, &mut self.registry);
            }
            if let Some(watch) = &mut slot.watch
                && let Some((resource, value, threshold)) = watch.crossed(signal)
                && self.captures.wants(resource, frame.at.mono)
                && let Some(series) = def.metric.series
            {
                let instance = def.instance().map(|instance| instance.to_string());
                let value = Some(value);
                self.captures.wish(resource, Cause { series, instance, value, threshold });
            }
            if let Some(row) = slot.row {
                match signal {
                    Signal::Number(value) if slot.sampled => {
                        self.registry.observe_row(row, value);
                    }
                    Signal::Number(value) => {
                        self.registry.set_row(row, value);
                    }
                    // A histogram keeps what it has; a gauge or total that is not there is absent.
                    Signal::Nothing | Signal::Absent(_) if slot.sampled => {}
                    Signal::Nothing | Signal::Absent(_) => {
                        self.registry.clear_row(row);
                    }
                }
            }
            if let Some(key) = &slot.key {
                let value = match signal {
                    Signal::Number(value) => Value::Number(value),
                    Signal::Nothing => Value::Nothing,
                    Signal::Absent(_) => Value::Inconclusive,
                };
                self.push(key, cadence, frame.at.mono, value, now);
            }
        }
        self.frame.slots = slots;
        self.captures.turn(frame.at.mono);
        self.faults_of_the_node(frame);
    }

    fn lay_out(&mut self, frame: &Frame) {
        let node: Arc<str> = self.plan.node.name.as_str().into();
        let layout = frame.layout.clone();
        // Instances that went away take their rows with them.
        let peaks: Vec<_> = peak::all().collect();
        self.registry.retain(|metric, labels| {
            let own = peaks.iter().find(|peak| peak.metric == *metric).map(|peak| peak.of);
            let of = own.unwrap_or(metric);
            !metric.name.starts_with("greenlight_node_")
                || *metric == NODE_INFO
                || layout.slots.iter().any(|def| {
                    let pairs = || metric.labels.iter().zip(&def.labels);
                    def.metric == of
                        && pairs().all(|(name, value)| labels.get(name) == Some(&**value))
                })
        });
        // So do they with their tracks: a gate on what is gone would stay open for ever.
        self.tracks.retain(|key| {
            &*key.check != NODE_CHECK
                || layout.slots.iter().any(|def| {
                    def.metric == key.metric
                        && *def.instance().unwrap_or(&node) == key.target
                        && def.labels.iter().skip(1).eq(&key.labels)
                })
        });
        let before = std::mem::take(&mut self.frame.slots);
        let kept = peaks::kept(before.iter().filter_map(|slot| slot.peak.as_ref()));
        let mut slots = Vec::with_capacity(layout.slots.len());
        for def in &layout.slots {
            let labels: Vec<&str> = def.labels.iter().map(|label| &**label).collect();
            let row = self.registry.row(def.metric, &labels);
            let key = def.judged().then(|| TrackKey {
                metric: def.metric,
                check: NODE_CHECK.into(),
                target: def.instance().cloned().unwrap_or_else(|| node.clone()),
                labels: def.labels.iter().skip(1).cloned().collect(),
            });
            let key = key.filter(|key| self.tracks.window(key).is_some());
            let peak = peak::of(def.metric).and_then(|peak| {
                let row = self.registry.row(&peak.metric, &labels)?;
                Some(peaks::resume(row, peak, &kept))
            });
            let watch = key.as_ref().and_then(|key| Watch::new(&self.plan.gates, def, key));
            slots.push(Slot { row, sampled: def.sampled(), key, peak, watch });
        }
        self.frame.slots = slots;
    }

    /// What this node does not offer, by the series that misses it: gates name it as their reason.
    fn faults_of_the_node(&mut self, frame: &Frame) {
        self.node_faults.clear();
        for (def, signal) in frame.iter() {
            if let (Some(series), Signal::Absent(fault)) = (def.metric.series, signal) {
                self.node_faults.entry(series).or_insert_with(|| fault.clone());
            }
        }
    }
}
