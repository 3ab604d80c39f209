//! When to look who did it: as soon as a second crosses a gate's threshold, and when a gate turns.
//! The processes are read in a cell, twice and a second apart, for one that begins in one second
//! may be gone in the next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::recorder::{Record, Records};
use crate::lanes::{Cells, Rounds};
use crate::node::culprits::{Capture, Cause, Found, Resource};
use crate::node::processes::Processes;
use crate::time::{Mono, Now};

/// Looks that are remembered.
const KEPT: usize = 128;
/// The second reading comes with the next second of the node.
const APART: Duration = Duration::from_millis(900);
/// While a threshold stays crossed the processes are read again each other second, each reading
/// held against the one before: a process that lives for two seconds is in one of them.
const AGAIN: Duration = Duration::from_millis(1_900);
/// And as much more rarely as a reading costs: it may take this share of a processor's time until
/// the next.
const SHARE: u32 = 500;
/// A table that is read more rarely than this names nobody who is still there.
const AGAIN_AT_LEAST: Duration = Duration::from_secs(30);
/// A reading that is older is none to hold another one against.
const STALE: Duration = Duration::from_secs(4);
/// After that the processes can't be read: one of them hangs in the kernel.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the cell is to do next.
#[derive(Default)]
struct Order {
    resources: Vec<Resource>,
    second: bool,
}

/// How the processes are read.
pub(super) struct Reader {
    cells: Cells,
    name: Arc<str>,
    work: Rounds,
    order: Arc<Mutex<Order>>,
    /// Nanoseconds of processor time that the last reading took.
    took: Arc<AtomicU64>,
}

/// The processor time of this thread.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

impl Reader {
    pub(super) fn new(processes: Processes, cells: &Cells, records: Records) -> Self {
        let order = Arc::new(Mutex::new(Order::default()));
        let table = Mutex::new(processes);
        let own = Arc::clone(&order);
        let took = Arc::new(AtomicU64::new(0));
        let last = Arc::clone(&took);
        let work = move || {
            let began = own_time();
            let (resources, second) = {
                let order = own.lock().unwrap_or_else(PoisonError::into_inner);
                (order.resources.clone(), order.second)
            };
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            if second {
                let found = table.second(&resources, Mono::now());
                // A full queue loses a name, never a second.
                records.offer(Record::Culprits(found));
            } else {
                table.first(&resources, Mono::now());
            }
            let took = own_time().saturating_sub(began);
            last.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        };
        let name = "processes".into();
        Self { cells: cells.clone(), name, work: Arc::new(work), order, took }
    }

    /// How long after a reading the next may come.
    fn pause(&self) -> Duration {
        let took = Duration::from_nanos(self.took.load(Relaxed));
        took.saturating_mul(SHARE).clamp(AGAIN, AGAIN_AT_LEAST)
    }

    /// False while the reading before still runs, or where none can begin.
    fn read(&self, resources: &[Resource], second: bool) -> bool {
        if self.cells.busy_for(&self.name, Mono::now()).is_some() {
            return false;
        }
        {
            let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            order.resources.clear();
            order.resources.extend_from_slice(resources);
            order.second = second;
        }
        matches!(self.cells.post(&self.name, DEADLINE, &self.work), Ok(true))
    }
}

/// Of one resource: why it is to be looked at, and when that was done last.
#[derive(Default)]
struct Wish {
    cause: Option<Cause>,
    last: Option<Mono>,
}

/// A look that is under way.
struct Look {
    causes: Vec<(Resource, Cause)>,
    /// All that is read: those with a cause, and those that were read before.
    resources: Vec<Resource>,
    began: Mono,
    second: bool,
}

/// Decides when to look, and keeps what was seen.
#[derive(Default)]
pub(super) struct Captures {
    reader: Option<Reader>,
    wishes: [Wish; Resource::ALL.len()],
    look: Option<Look>,
    /// The newest reading, and what was read of each process.
    reading: Option<(Mono, Vec<Resource>)>,
    kept: Arc<VecDeque<Capture>>,
}

impl Captures {
    pub(super) fn attach(&mut self, reader: Reader) {
        self.reader = Some(reader);
    }

    /// What was seen, the newest last.
    pub(super) fn kept(&self) -> Arc<VecDeque<Capture>> {
        Arc::clone(&self.kept)
    }

    /// The newest look at a resource since an instant.
    pub(super) fn newest(&self, resource: Resource, since: Mono) -> Option<&Capture> {
        let mut newest_first = self.kept.iter().rev();
        newest_first.find(|capture| capture.found.resource == resource && capture.mono >= since)
    }

    /// Whether another look at this resource would come too soon; asked before a cause is made.
    pub(super) fn wants(&self, resource: Resource, at: Mono) -> bool {
        let pause = self.reader.as_ref().map_or(AGAIN, Reader::pause);
        self.wishes.get(resource.place()).is_some_and(|wish| {
            wish.cause.is_none() && wish.last.is_none_or(|last| at.since(last) >= pause)
        })
    }

    pub(super) fn wish(&mut self, resource: Resource, cause: Cause) {
        if let Some(wish) = self.wishes.get_mut(resource.place()) {
            wish.cause.get_or_insert(cause);
        }
    }

    /// Once a second: begins what is wished for, and ends what has begun.
    pub(super) fn turn(&mut self, at: Mono) {
        let Some(reader) = &self.reader else { return };
        if let Some(look) = &mut self.look {
            if at.since(look.began) > DEADLINE {
                self.look = None;
                self.reading = None;
                tracing::warn!("the processes could not be read in time; nobody can be named");
            } else if !look.second && at.since(look.began) >= APART {
                look.second = reader.read(&look.resources, true);
            }
            return;
        }
        let wished = |resource: &Resource| self.is_wished(*resource);
        let mut resources: Vec<Resource> = Resource::ALL.into_iter().filter(wished).collect();
        if resources.is_empty() {
            return;
        }
        let before = self.reading.take().filter(|(when, _)| at.since(*when) < STALE);
        let mut second = false;
        if let Some((_, read)) = before {
            second = resources.iter().all(|resource| read.contains(resource));
            // What was read goes on being read, so that who alternates is not begun anew.
            resources.extend(read.into_iter().filter(|r| !self.is_wished(*r)));
        }
        if !reader.read(&resources, second) {
            return;
        }
        let mut causes = Vec::with_capacity(resources.len());
        for resource in &resources {
            let Some(wish) = self.wishes.get_mut(resource.place()) else { continue };
            if let Some(cause) = wish.cause.take() {
                wish.last = Some(at);
                causes.push((*resource, cause));
            }
        }
        self.look = Some(Look { causes, resources, began: at, second });
    }

    fn is_wished(&self, resource: Resource) -> bool {
        self.wishes.get(resource.place()).is_some_and(|wish| wish.cause.is_some())
    }

    /// What the cell has found.
    pub(super) fn found(&mut self, all: Vec<Found>, now: Now) {
        // What comes after it was given up has no cause any more.
        let Some(look) = self.look.take() else { return };
        self.reading = Some((now.mono, look.resources));
        let kept = Arc::make_mut(&mut self.kept);
        for found in all {
            let Some((_, because)) = look.causes.iter().find(|(r, _)| *r == found.resource) else {
                continue;
            };
            if found.culprits.is_empty() && found.missing.is_none() {
                continue;
            }
            tracing::debug!(series = because.series, text = found.text(), "a threshold is crossed");
            if kept.len() >= KEPT {
                kept.pop_front();
            }
            kept.push_back(Capture {
                at: now.wall_of(look.began).rfc3339(),
                mono: look.began,
                because: because.clone(),
                found,
            });
        }
    }
}
