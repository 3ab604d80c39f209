//! When to look who did it: as soon as a second crosses a gate's threshold, and when a gate turns.
//! The processes are read in a cell, twice and a second apart, for one that begins in one second
//! may be gone in the next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::record::{Record, Records};
use crate::lanes::{Cells, Rounds};
use crate::node::culprits::{Capture, Cause, Found, Resource};
use crate::node::processes::Processes;
use crate::time::{Mono, Now};

/// Looks that are remembered.
const KEPT: usize = 128;
/// The second reading comes with the next second of the node.
const APART: Duration = Duration::from_millis(900);
/// What is new is looked at at once, but not more often than this: a process that lives for two
/// seconds is in one of the readings, each of which is held against the one before.
const AGAIN: Duration = Duration::from_millis(1_900);
/// What stays crossed is looked at as often while much is saved, since something else may begin behind
/// it; then each look waits twice as long as the one before it.
const AGAIN_AT_LEAST: Duration = Duration::from_secs(60);
/// What readings may take of a processor's time.
const SHARE: u32 = 5_000;
/// And what they may have saved of it, for when much is new at once.
const CREDIT: i64 = 200_000_000;
/// Of which this is kept for what is new.
const RESERVE: i64 = 60_000_000;
/// A table so large that it is read more rarely than this names nobody who is still there.
const IN_DEBT_AT_MOST: Duration = Duration::from_secs(120);
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
    /// Nanoseconds of processor time that all readings took.
    spent: Arc<AtomicU64>,
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
        let spent = Arc::new(AtomicU64::new(0));
        let all = Arc::clone(&spent);
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
            all.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        };
        let name = "processes".into();
        Self { cells: cells.clone(), name, work: Arc::new(work), order, spent }
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

/// Of one resource: why it is to be looked at, when that was done last, and how long what goes on
/// waits for the next look.
#[derive(Default)]
struct Wish {
    cause: Option<Cause>,
    last: Option<Mono>,
    pause: Duration,
}

/// What readings may still take of the processors.
#[derive(Default)]
struct Credit {
    /// Nanoseconds; below 0 is debt.
    left: i64,
    /// What is earned until then, and paid of what was spent, is in it.
    counted: Option<(Mono, u64)>,
}

impl Credit {
    fn count(&mut self, at: Mono, spent: u64) {
        let Some((before, paid)) = self.counted.replace((at, spent)) else {
            self.left = CREDIT;
            return;
        };
        let earned = at.since(before) / SHARE;
        let earned = i64::try_from(earned.as_nanos()).unwrap_or(i64::MAX);
        let taken = i64::try_from(spent.saturating_sub(paid)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(earned).saturating_sub(taken).min(CREDIT);
    }

    /// How long until it is no debt any more.
    fn wait(&self) -> Duration {
        Duration::from_nanos(self.left.min(0).unsigned_abs()).saturating_mul(SHARE)
    }
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
    credit: Credit,
    /// When the last look began.
    looked: Mono,
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

    /// From when on something new is looked at, and what goes on: of each resource. Asked before a
    /// cause is made.
    pub(super) fn ready(&self) -> [[Mono; 2]; Resource::ALL.len()] {
        let paid = self.credit.counted.map_or(Mono::default(), |(at, _)| {
            at.plus(self.credit.wait()).min(self.looked.plus(IN_DEBT_AT_MOST))
        });
        std::array::from_fn(|place| {
            let Some(wish) = self.wishes.get(place) else { return [Mono(i64::MAX); 2] };
            [AGAIN, wish.pause.max(AGAIN)].map(|pause| match wish.last {
                _ if wish.cause.is_some() => Mono(i64::MAX),
                Some(last) => last.plus(pause).max(paid),
                None => paid,
            })
        })
    }

    /// Whether a look at this resource would come neither too soon nor too often.
    pub(super) fn wants(&self, resource: Resource, at: Mono, fresh: bool) -> bool {
        let [new, further] = self.ready().get(resource.place()).copied().unwrap_or_default();
        at >= if fresh { new } else { further }
    }

    pub(super) fn wish(&mut self, resource: Resource, cause: Cause, fresh: bool) {
        if let Some(wish) = self.wishes.get_mut(resource.place()) {
            if fresh {
                wish.pause = Duration::ZERO;
            }
            wish.cause.get_or_insert(cause);
        }
    }

    /// Whether the next second is waited for: by a look that begins or by its other reading.
    pub(super) fn is_looking(&self) -> bool {
        self.look.is_some() || self.wishes.iter().any(|wish| wish.cause.is_some())
    }

    /// Once a second: begins what is wished for, and ends what has begun.
    pub(super) fn turn(&mut self, at: Mono) {
        let Some(reader) = &self.reader else { return };
        self.credit.count(at, reader.spent.load(Relaxed));
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
                let longer = if self.credit.left > RESERVE { AGAIN } else { wish.pause * 2 };
                wish.pause = longer.clamp(AGAIN, AGAIN_AT_LEAST);
                causes.push((*resource, cause));
            }
        }
        self.looked = at;
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

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Resource = Resource::Cpu;

    fn at(seconds: i64) -> Mono {
        Mono::from_secs(seconds)
    }

    #[test]
    fn what_is_new_is_looked_at_at_once_and_what_goes_on_more_and_more_rarely() {
        let mut captures = Captures::default();
        assert!(captures.wants(CPU, at(0), false));
        captures.wishes[CPU.place()] =
            Wish { cause: None, last: Some(at(100)), pause: Duration::from_secs(8) };
        let wants = |second, fresh| captures.wants(CPU, at(second), fresh);
        assert!(!wants(101, true) && wants(102, true));
        assert!(!wants(107, false) && wants(108, false));
        let cause = Cause { series: "node.cpu.busy", instance: None, value: None, threshold: None };
        captures.wish(CPU, cause, true);
        assert!(captures.is_looking() && !captures.wants(CPU, at(1_000), true));
        assert_eq!(captures.wishes[CPU.place()].pause, Duration::ZERO, "it begins anew");
    }

    #[test]
    fn looks_take_no_more_of_the_processors_than_they_may() {
        let millis = |millis: u64| millis * 1_000_000;
        let mut captures = Captures::default();
        captures.credit.count(at(0), 0);
        captures.credit.count(at(1), millis(190));
        captures.looked = at(1);
        assert!(captures.wants(CPU, at(1), true), "it had saved as much");
        captures.credit.count(at(2), millis(210));
        assert!(!captures.wants(CPU, at(2), true));
        // 210 ms of which 200 and 0.4 were there: 9.6 ms at a 5,000th.
        assert!(!captures.wants(CPU, at(49), true) && captures.wants(CPU, at(51), true));
        captures.credit.count(at(3), millis(1_210));
        assert!(!captures.wants(CPU, at(120), true));
        assert!(captures.wants(CPU, at(121), true), "however much one takes");
        captures.credit.count(at(100_000), millis(1_210));
        assert_eq!(captures.credit.left, CREDIT, "no more is saved");
    }
}
