//! A second of the node: into the tracks that gates look at, into histograms and peaks; and the newest
//! into the other metrics when somebody scrapes them.

use std::sync::Arc;

use super::State;
use super::peaks::{self, Rolling, Turn};
use crate::agent::lookout::{Crossed, Watch};
use crate::agent::seconds::Second;
use crate::catalogue::agent::NODE_INFO;
use crate::catalogue::peaks as peak;
use crate::metrics::Row;
use crate::node::culprits::Cause;
use crate::node::{Frame, Signal, TICK};
use crate::outcome::Fault;
use crate::series::{Cadence, NODE_CHECK, Place, TrackKey, Value};
use crate::store::{StoredPoint, StoredTrack};
use crate::time::Now;

/// Where each slot of the frame's layout goes. Made anew when the layout or the plan changes.
#[derive(Default)]
pub(super) struct Rows {
    /// The generation of the layout that the slots are of.
    pub(super) generation: Option<u64>,
    /// Each slot's place in the exposition, where it has one and is no histogram.
    shown: Vec<Option<Row>>,
    /// Of which each second is wanted.
    wanted: Vec<Wanted>,
    /// What goes to the store, second after second.
    points: Vec<StoredPoint>,
    turn: Turn,
}

/// What becomes of one slot in each second.
struct Wanted {
    slot: usize,
    histogram: Option<Row>,
    /// Where some gate looks at the slot.
    looked_at: Option<LookedAt>,
    peak: Option<Rolling>,
}

/// The track of a slot, here and in the store.
struct LookedAt {
    key: TrackKey,
    stored: Arc<StoredTrack>,
    place: Option<Place>,
    passing: bool,
}

impl State {
    /// Takes in a second of the node.
    pub(in crate::agent) fn second(&mut self, mut second: Second, now: Now) {
        if self.frame.generation != Some(second.frame.layout.generation) {
            let watches = self.lay_out(&second.frame);
            self.bounded.seconds.watch(watches, &mut second);
            self.frame.generation = Some(second.frame.layout.generation);
        }
        let Second { frame, crossed } = &second;
        self.wish_for(frame, crossed);
        let mut all = std::mem::take(&mut self.frame.wanted);
        let rolling = all.iter_mut().filter_map(|wanted| wanted.peak.as_mut());
        let span = self.frame.turn.to(frame.at.mono, rolling);
        let cadence = Cadence::every(TICK, now.mono);
        let mut points = std::mem::take(&mut self.frame.points);
        for wanted in &mut all {
            let Some(signal) = frame.get(wanted.slot) else { continue };
            if let Some(rolling) = &mut wanted.peak {
                rolling.take(span, signal);
            }
            if let (Some(row), Signal::Number(value)) = (wanted.histogram, signal) {
                self.registry.observe_row(row, value);
            }
            if let Some(LookedAt { key, stored, place, passing }) = &mut wanted.looked_at {
                let value = match signal {
                    Signal::Number(value) => Value::Number(value),
                    Signal::Nothing => Value::Nothing,
                    Signal::Absent(_) => Value::Inconclusive,
                };
                if place.is_none_or(|place| !self.tracks.stands(place)) {
                    *place = self.tracks.open(key, cadence);
                    if let Some(place) = place.filter(|_| *passing) {
                        self.tracks.passes(place);
                    }
                }
                if let Some(place) = *place {
                    self.tracks.push_at(place, frame.at.mono, value, now.mono);
                }
                points.push(StoredPoint { track: Arc::clone(stored), at: frame.at.mono, value });
            }
        }
        self.frame.wanted = all;
        self.store.points(points.drain(..), now);
        self.frame.points = points;
        self.captures.turn(frame.at.mono);
        if let Some(before) = self.newest.replace(second) {
            self.bounded.seconds.give_back(before);
        }
    }

    /// The newest second as it stands, and the worst of the last ones. What is not there is absent.
    pub(super) fn export_node(&mut self) {
        let registry = &mut self.registry;
        let mut show = |row: Row, value: Option<f64>| match value {
            Some(value) => registry.set_row(row, value),
            None => registry.clear_row(row),
        };
        let signals = self.newest.iter().flat_map(|second| second.frame.iter());
        for (row, (_, signal)) in self.frame.shown.iter().zip(signals) {
            let value = match signal {
                Signal::Number(value) => Some(value),
                Signal::Nothing | Signal::Absent(_) => None,
            };
            row.map(|row| show(row, value));
        }
        for peak in self.frame.wanted.iter().filter_map(|wanted| wanted.peak.as_ref()) {
            show(peak.row, peak.worst());
        }
    }

    /// What crosses a threshold is looked into, where it was not just now.
    fn wish_for(&mut self, frame: &Frame, crossed: &[Crossed]) {
        for one in crossed {
            let Some(def) = frame.layout.slots.get(one.slot) else { continue };
            if let Some(series) = def.metric.series
                && self.captures.wants(one.resource, frame.at.mono, one.fresh)
            {
                let instance = def.instance().map(|instance| instance.to_string());
                let (value, threshold) = (Some(one.value), one.threshold);
                let cause = Cause { series, instance, value, threshold };
                self.captures.wish(one.resource, cause, one.fresh);
            }
        }
    }

    /// Finds the place of each slot. Returns those of which a second may cross a threshold.
    fn lay_out(&mut self, frame: &Frame) -> Vec<Watch> {
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
        // Their tracks depart: a gate on what is gone would stay open for ever, and evidence must not go with
        // the disk that it is of.
        self.tracks.depart(|key| {
            &*key.check != NODE_CHECK
                || layout.slots.iter().any(|def| {
                    def.metric == key.metric
                        && *def.instance().unwrap_or(&node) == key.target
                        && def.labels.iter().skip(1).eq(&key.labels)
                })
        });
        let before = std::mem::take(&mut self.frame.wanted);
        let kept = peaks::kept(before.iter().filter_map(|wanted| wanted.peak.as_ref()));
        let mut shown = Vec::with_capacity(layout.slots.len());
        let mut all = Vec::new();
        let mut watches = Vec::new();
        for (place, def) in layout.slots.iter().enumerate() {
            let labels: Vec<&str> = def.labels.iter().map(|label| &**label).collect();
            let row = self.registry.row(def.metric, &labels);
            let key = def.judged().then(|| TrackKey {
                metric: def.metric,
                check: NODE_CHECK.into(),
                target: def.instance().cloned().unwrap_or_else(|| node.clone()),
                labels: def.labels.iter().skip(1).cloned().collect(),
            });
            let peak = peak::of(def.metric).and_then(|peak| {
                let row = self.registry.row(&peak.metric, &labels)?;
                Some(peaks::resume(row, peak, &kept))
            });
            let key = key.filter(|key| self.tracks.window(key).is_some());
            let watch = key.as_ref().and_then(|key| Watch::new(place, &self.plan.gates, def, key));
            watches.extend(watch);
            let looked_at = key.map(|key| {
                let stored = Arc::new(StoredTrack::of(&key).evidence_of(&self.plan.evidence));
                LookedAt { key, stored, place: None, passing: def.passing }
            });
            let histogram = row.filter(|_| def.sampled());
            shown.push(row.filter(|_| !def.sampled()));
            if histogram.is_some() || looked_at.is_some() || peak.is_some() {
                all.push(Wanted { slot: place, histogram, looked_at, peak });
            }
        }
        (self.frame.shown, self.frame.wanted) = (shown, all);
        watches
    }

    /// Why this node does not offer a series: gates name it as their reason.
    pub(super) fn fault_of_the_node(&self, series: &str) -> Option<&Fault> {
        self.newest.as_ref()?.frame.iter().find_map(|(def, signal)| match signal {
            Signal::Absent(fault) if def.metric.series == Some(series) => Some(fault),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use crate::agent::{Agent, Options, node};
    use crate::metrics::Format;
    use crate::node::Paths;
    use crate::plan::{Plan, load::Inputs};

    const PLAN: &str = "
gates:
  - { id: young, require: { increase: node.link.errors, over: 4s, at_least: 1, below: 0 } }
  - { id: lasting, require: { increase: node.link.errors, over: 1h, at_least: 1, below: 0 } }
";

    async fn until(what: &str, holds: impl AsyncFn() -> bool) {
        let until = Instant::now() + Duration::from_secs(120);
        while !holds().await {
            assert!(Instant::now() < until, "{what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A container's network comes and holds nothing up, a device goes and leaves what it counted.
    #[tokio::test]
    async fn what_goes_leaves_its_evidence_and_what_only_passes_opens_no_gate() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let paths = Paths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root };
        for device in ["eth0", "eth1"] {
            let folder = paths.sysfs.join("class/net").join(device).join("device");
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::create_dir_all(paths.procfs.join("net")).unwrap();
        let dev = paths.procfs.join("net/dev");
        let links = |links: &[(&str, u64)]| {
            let line = |(name, errors): &(&str, u64)| {
                format!("{name}: 9 9 {errors} 0 0 0 0 0 9 9 0 0 0 0 0 0\n")
            };
            std::fs::write(&dev, links.iter().map(line).collect::<String>()).unwrap();
        };
        links(&[("lo", 0), ("eth0", 3), ("eth1", 0)]);
        let texts = vec![("plan".to_owned(), PLAN.to_owned())];
        let inputs = Inputs { texts, ..Inputs::default() };
        let plan = Plan::compile(&inputs, &node::plan_facts(&paths)).map_err(|e| e.render(false));
        let options = Options { inputs, paths, state: None, listen: None, banner: None };
        let agent = Agent::start(Arc::new(plan.unwrap()), options).await.unwrap();
        let verdict = async |gate: &str| {
            let document = agent.snapshot().await.unwrap().document.clone();
            let found = document.gates.iter().find(|one| one.id == gate).unwrap();
            let why = found.reason.as_ref().map(|reason| reason.text.clone());
            (found.verdict.word(), why.unwrap_or_default())
        };
        let shown = async |link: &str| {
            let text = String::from_utf8(agent.metrics(Format::Text).await).unwrap();
            let (name, label) = ("greenlight_node_link_errors_total{", format!("\"{link}\""));
            text.lines().any(|row| row.starts_with(name) && row.contains(&label))
        };
        until("covered", async || verdict("young").await.0 == "pass").await;
        assert_eq!(verdict("lasting").await.0, "open");

        links(&[("lo", 0), ("eth0", 3), ("eth1", 0), ("br-4f0e8c21", 7)]);
        until("the bridge is seen", async || shown("br-4f0e8c21").await).await;
        assert_eq!(verdict("young").await, ("pass", String::new()));

        links(&[("lo", 0), ("eth0", 3), ("eth1", 5)]);
        until("damage is seen", async || verdict("lasting").await.0 == "fail").await;
        links(&[("lo", 0), ("eth0", 3)]);
        until("the device is gone", async || !shown("eth1").await).await;
        let (word, why) = verdict("lasting").await;
        assert!(word == "fail" && why.contains("gone for"), "{word}: {why}");
        until("its window has passed", async || verdict("young").await.0 == "pass").await;
    }
}
