//! Control groups: services and containers that were throttled, that met their memory limit, and
//! that use the most of the node. Version 1, version 2, and both at once.
//!
//! The tree is walked in a cell every ten seconds, or as much more rarely as it is large, and never
//! beyond a number of groups. What is shown is a few for each resource, by names that people
//! know; one that is shown stays for a while, so that labels don't come and go with every walk.

mod files;
mod name;
mod shown;
mod walk;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;
use crate::lanes::{Cells, Rounds};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

pub(super) use files::{limits_cpu, version};
pub(super) use name::place;
use shown::{Shown, View};
use walk::Walker;

/// How often the tree is walked at most. Cells are asked every five seconds, a little early or late: it is
/// every fifteen, which is once a usual scrape.
const WALK_EVERY: Duration = Duration::from_secs(13);

/// A walk may take this share of the time until the next, so that a tree of hundreds of groups
/// costs no more of a processor than a small one.
const WALK_SHARE: u32 = 1000;

/// A tree that is walked more rarely than this tells nothing of bursts any more.
const WALK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

const WALK_DEADLINE: Duration = Duration::from_secs(20);

/// The first walk is waited for, so that what is there is shown from the beginning.
const FIRST_WALK_DEADLINE: Duration = Duration::from_secs(1);

/// A view older than this is none: the walk hangs.
const STALE_AFTER: Duration = Duration::from_secs(180);

/// What the walks leave behind, for the sampler's tick.
struct Shared {
    walker: Mutex<Walker>,
    view: Mutex<Option<Arc<View>>>,
}

impl Shared {
    fn walk(&self) {
        let mut walker = self.walker.lock().unwrap_or_else(PoisonError::into_inner);
        let view = Arc::new(walker.walk());
        drop(walker);
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Some(view);
    }

    fn view(&self) -> Option<Arc<View>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) struct Source {
    cells: Cells,
    resource: Arc<str>,
    shared: Arc<Shared>,
    work: Rounds,
    asked: Option<Mono>,
    view: Option<Arc<View>>,
    fault: Option<Arc<Fault>>,
    /// Why nothing can be seen at all.
    blind: Option<Arc<Fault>>,
    stale: Arc<Fault>,
    source: Arc<str>,
    events: [Arc<str>; 3],
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells) -> Self {
        let hierarchies = files::hierarchies(&paths.sysfs);
        let blind = blind(&paths.sysfs, &hierarchies).map(Arc::new);
        let walker = Mutex::new(Walker::new(hierarchies));
        let shared = Arc::new(Shared { walker, view: Mutex::new(None) });
        let walked = Arc::clone(&shared);
        let stale = format!("the control groups could not be walked within {STALE_AFTER:?}");
        Self {
            cells: cells.clone(),
            resource: Arc::from("the control groups"),
            shared,
            work: Arc::new(move || walked.walk()),
            asked: None,
            view: None,
            fault: blind.clone(),
            blind,
            stale: Arc::new(Fault::new(FaultCode::Hung, stale)),
            source: Arc::from("cgroups"),
            events: files::EVENTS.map(Arc::from),
        }
    }

    /// Where it does not end in time, its view comes later.
    fn walk_first(&mut self, at: Mono) {
        self.asked = Some(at);
        let shared = Arc::clone(&self.shared);
        let walk = move || shared.walk();
        let _ = self.cells.run_blocking(&self.resource, FIRST_WALK_DEADLINE, walk);
    }
}

/// Why the tree tells nothing of the node: there is none, or it is that of a container.
fn blind(sysfs: &Path, hierarchies: &[files::Hierarchy]) -> Option<Fault> {
    let folder = sysfs.join("fs/cgroup");
    let folder = folder.display();
    if hierarchies.is_empty() {
        let text = format!("no control groups with a controller are mounted at {folder}");
        return Some(Fault::new(FaultCode::Unsupported, text));
    }
    let inside = hierarchies.iter().all(files::Hierarchy::is_inside);
    inside.then(|| {
        let text = format!(
            "{folder} shows the control groups of this container only; mount the host's /sys and \
             name it with --path.sysfs, or share the host's cgroup namespace"
        );
        Fault::new(FaultCode::Permission, text)
    })
}

impl super::Source for Source {
    fn begin(&mut self, at: Mono) {
        let took = self.view.as_ref().map_or(Duration::ZERO, |view| view.took);
        let pause = took.saturating_mul(WALK_SHARE).clamp(WALK_EVERY, WALK_AT_LEAST_EVERY);
        if self.asked.is_some_and(|asked| at.since(asked) >= pause)
            && self.cells.queue(&self.resource, WALK_DEADLINE, &self.work) == Ok(true)
        {
            self.asked = Some(at);
        }
    }

    fn read(&mut self, tick: &mut Tick) -> bool {
        if self.blind.is_some() {
            return false;
        }
        if self.asked.is_none() {
            self.walk_first(tick.at);
        }
        let view = self.shared.view();
        let layout = |view: &Option<Arc<View>>| view.as_ref().map(|view| view.layout);
        let changed = layout(&view) != layout(&self.view);
        let late = view.as_ref().is_none_or(|view| tick.at.since(view.at) > STALE_AFTER);
        // Before the first walk is done nothing is wrong yet.
        self.fault = (late && view.is_some()).then(|| Arc::clone(&self.stale));
        self.view = view;
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let number = |value: Option<f64>| value.map_or(Slot::Nothing, Slot::Number);
        let view = self.view.as_deref();
        let partial = view.and_then(|view| view.partial.as_ref());
        sink.under(self.fault.as_ref().or(partial));
        sink.put(&metric::CGROUP_THROTTLED_WORST, &[], number(view.and_then(|view| view.worst)));
        sink.under(self.fault.as_ref());
        sink.put(&metric::CGROUPS, &[], number(view.map(|view| view.found as f64)));
        let over = view.map(|view| view.over as f64);
        sink.put(&metric::OVER_LIMIT, &[&self.source], number(over));
        let Some(view) = view else { return };
        let shown = |set: &'static str| view.shown(set);
        for Shown { name, usage, .. } in shown("cpu") {
            sink.put(&metric::CGROUP_CPU, &[name], number(usage.cpu));
        }
        for Shown { name, usage, .. } in shown("throttled") {
            sink.put(&metric::CGROUP_THROTTLED, &[name], number(usage.throttled));
        }
        for Shown { name, usage, events } in shown("memory") {
            sink.put(&metric::CGROUP_MEMORY, &[name], number(usage.memory));
            for (event, count) in self.events.iter().zip(events) {
                sink.put(&metric::CGROUP_MEMORY_EVENTS, &[name, event], Slot::of(*count));
            }
        }
        for Shown { name, usage, .. } in shown("io") {
            sink.put(&metric::CGROUP_IO, &[name], number(usage.io));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
