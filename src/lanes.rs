//! The only file that makes threads: lanes for what takes its time, cells for what may never
//! return.
//!
//! Asynchronous code touches sockets only. What blocks for a bounded time and keeps state
//! (SQLite, the node's sampler, a blocking library) has a [`Lane`]: one named thread behind a
//! bounded queue. What may hang for ever (statfs on a dead mount, a sysfs read) runs in one of
//! the [`Cells`]: one detached thread a resource, a bounded number of them, and no second while
//! the first hangs. Tokio's own blocking pool is not used: dropping a runtime waits for it, so one
//! hung call would keep the daemon from stopping.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// More cells than this at once mean that the node itself is lost; further resources are refused
/// instead of filling it with threads.
pub const CELLS_LIMIT: usize = 32;

/// An idle cell's thread waits so long for other work before it ends: longer than the node waits
/// between its questions, so that none of them starts a thread.
const CELL_LINGERS: Duration = Duration::from_secs(12);

/// What panics when nothing is queued must not spin.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Stands for "never" in a heartbeat.
const NEVER: i64 = i64::MIN;

/// A panic while a lock was held left plain data behind, never half of an invariant.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One named thread with state of its own, behind a bounded queue.
///
/// Closing it, or dropping it, lets the thread finish what is queued and end.
pub struct Lane<J> {
    name: &'static str,
    limit: usize,
    queue: Mutex<Option<SyncSender<J>>>,
    pulse: Arc<Pulse>,
    ended: Mutex<Option<(oneshot::Receiver<()>, JoinHandle<()>)>>,
}

/// What the thread tells of itself.
struct Pulse {
    queued: AtomicUsize,
    dropped: AtomicU64,
    panics: AtomicU64,
    /// When the turn in progress began, or NEVER.
    began: AtomicI64,
    /// When the last turn ended, or NEVER.
    turned: AtomicI64,
}

impl Pulse {
    /// Does something, and keeps the heartbeat by it. None where it panicked.
    fn count<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        self.began.store(Mono::now().0, Relaxed);
        let done = catch_unwind(AssertUnwindSafe(work));
        if done.is_err() {
            self.panics.fetch_add(1, Relaxed);
        }
        self.turned.store(Mono::now().0, Relaxed);
        self.began.store(NEVER, Relaxed);
        done.ok()
    }
}

/// How full something with a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// What it is: one of a few words, for it becomes a label.
    pub queue: &'static str,
    pub length: usize,
    pub limit: usize,
    /// What found no room, ever.
    pub dropped: u64,
}

/// A job that a lane did not take, and why.
pub struct Refused<J> {
    pub job: J,
    pub fault: Fault,
}

impl<J> fmt::Debug for Refused<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl<J: Send + 'static> Lane<J> {
    /// Starts the thread. `turn` is called with each job; a panic in it is contained and counted,
    /// and the state must stand it (SQLite rolls back a transaction that is dropped).
    pub fn start<S: Send + 'static>(
        name: &'static str,
        limit: usize,
        state: S,
        turn: impl FnMut(&mut S, J) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_with(name, limit, state, turn, |_| None)
    }

    /// The same; while nothing is queued, `idle` is called, and called again after as long as it
    /// says, or only after the next job. It must return soon, for a job waits for it.
    pub fn start_with<S: Send + 'static>(
        name: &'static str,
        limit: usize,
        mut state: S,
        mut turn: impl FnMut(&mut S, J) + Send + 'static,
        mut idle: impl FnMut(&mut S) -> Option<Duration> + Send + 'static,
    ) -> io::Result<Self> {
        let limit = limit.max(1);
        let (queue, jobs) = mpsc::sync_channel(limit);
        let (ending, ended) = oneshot::channel();
        let pulse = Arc::new(Pulse {
            queued: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            began: AtomicI64::new(NEVER),
            turned: AtomicI64::new(NEVER),
        });
        let own = Arc::clone(&pulse);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                let job = match jobs.try_recv() {
                    Ok(job) => job,
                    Err(TryRecvError::Disconnected) => break,
                    Err(TryRecvError::Empty) => {
                        let rest = own.count(|| idle(&mut state));
                        let job = match rest.unwrap_or(Some(AFTER_PANIC)) {
                            Some(Duration::ZERO) => Err(RecvTimeoutError::Timeout),
                            Some(rest) => jobs.recv_timeout(rest),
                            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                        };
                        match job {
                            Ok(job) => job,
                            Err(RecvTimeoutError::Timeout) => continue,
                            Err(RecvTimeoutError::Disconnected) => break,
                        }
                    }
                };
                own.queued.fetch_sub(1, Relaxed);
                own.count(|| turn(&mut state, job));
            }
            drop(state);
            // Nobody may be waiting any more.
            let _ = ending.send(());
        })?;
        Ok(Self {
            name,
            limit,
            queue: Mutex::new(Some(queue)),
            pulse,
            ended: Mutex::new(Some((ended, thread))),
        })
    }

    /// Queues a job. Never blocks: where the queue is full the job comes back, and is counted.
    pub fn try_send(&self, job: J) -> Result<(), Refused<J>> {
        let queue = locked(&self.queue);
        let Some(sender) = queue.as_ref() else {
            return Err(self.refused(job, FaultCode::Cancelled, "is closed"));
        };
        // Before the send, so that the thread never takes away what was not yet added.
        self.pulse.queued.fetch_add(1, Relaxed);
        match sender.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job)) => {
                Err(self.returned(job, FaultCode::Exhausted, "has a full queue"))
            }
            Err(TrySendError::Disconnected(job)) => {
                Err(self.returned(job, FaultCode::Cancelled, "has ended"))
            }
        }
    }

    /// Queues a job that carries the way back for an answer, and waits for it until the deadline.
    pub async fn ask<R>(
        &self,
        deadline: Duration,
        job: impl FnOnce(oneshot::Sender<R>) -> J,
    ) -> Result<R, Fault> {
        let (answer, answered) = oneshot::channel();
        self.try_send(job(answer)).map_err(|refused| refused.fault)?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Fault::new(
                FaultCode::Panicked,
                format!("lane {} dropped a job without an answer", self.name),
            )),
            Err(_) => Err(Fault::new(
                FaultCode::Hung,
                format!("lane {} did not answer within {deadline:?}", self.name),
            )),
        }
    }

    fn returned(&self, job: J, code: FaultCode, what: &str) -> Refused<J> {
        self.pulse.queued.fetch_sub(1, Relaxed);
        self.refused(job, code, what)
    }

    fn refused(&self, job: J, code: FaultCode, what: &str) -> Refused<J> {
        self.pulse.dropped.fetch_add(1, Relaxed);
        let fault = Fault::new(code, format!("lane {} {what} (limit {})", self.name, self.limit));
        Refused { job, fault }
    }

    /// Takes no more jobs, lets the thread do what is queued, and waits for its end. After the
    /// deadline the thread is left to itself: it does not keep the process from exiting.
    pub async fn close(&self, deadline: Duration) -> Result<(), Fault> {
        drop(locked(&self.queue).take());
        let ended = locked(&self.ended).take();
        let Some((ended, thread)) = ended else { return Ok(()) };
        match tokio::time::timeout(deadline, ended).await {
            Ok(Ok(())) => {
                // It has said its last word, so this returns at once.
                let _ = thread.join();
                Ok(())
            }
            Ok(Err(_)) => Err(Fault::new(
                FaultCode::Panicked,
                format!("lane {} ended with a panic", self.name),
            )),
            Err(_) => Err(Fault::new(
                FaultCode::Hung,
                format!("lane {} did not finish its queue within {deadline:?}", self.name),
            )),
        }
    }
}

impl<J> Lane<J> {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Jobs that wait.
    pub fn queued(&self) -> usize {
        self.pulse.queued.load(Relaxed)
    }

    /// The most jobs that may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Jobs that were not taken.
    pub fn dropped(&self) -> u64 {
        self.pulse.dropped.load(Relaxed)
    }

    pub fn fill(&self) -> Fill {
        Fill { queue: self.name, length: self.queued(), limit: self.limit, dropped: self.dropped() }
    }

    /// Jobs that panicked.
    pub fn panics(&self) -> u64 {
        self.pulse.panics.load(Relaxed)
    }

    /// The heartbeat: when the last turn ended.
    pub fn last_turn(&self) -> Option<Mono> {
        match self.pulse.turned.load(Relaxed) {
            NEVER => None,
            at => Some(Mono(at)),
        }
    }

    /// How long the turn in progress has taken so far; None while the lane is idle.
    pub fn busy_for(&self, now: Mono) -> Option<Duration> {
        match self.pulse.began.load(Relaxed) {
            NEVER => None,
            at => Some(now.since(Mono(at))),
        }
    }
}

/// Work that a cell does again and again: handing it over allocates nothing.
pub type Rounds = Arc<dyn Fn() + Send + Sync>;

/// Hands the answer over, once the resource is free again: who has it may ask again at once.
type Delivery = Box<dyn FnOnce()>;

/// Work for a cell.
enum Work {
    Once(Box<dyn FnOnce() -> Delivery + Send>),
    Again(Rounds),
}

/// Detached threads for what may hang for ever. Cheap to clone; all clones share the limit.
#[derive(Clone, Default)]
pub struct Cells {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// One entry a resource whose work is queued or running.
    busy: Vec<Busy>,
    /// What is urgent comes first.
    queue: VecDeque<(Arc<str>, Work)>,
    /// How much of it has a thread coming for it alone.
    urgent: usize,
    /// Threads that wait for work.
    idle: usize,
    /// Work that was refused because all cells were in use.
    refused: u64,
}

struct Busy {
    resource: Arc<str>,
    since: Mono,
    deadline: Duration,
}

impl Cells {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` for `resource` and waits for it until the deadline. After that the work is
    /// left alone in its thread, and further work for the resource is refused until it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        resource: &str,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, answered) = oneshot::channel();
        self.hand_over(
            &Arc::from(resource),
            deadline,
            once(work, move |value| drop(answer.send(value))),
        )?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(panicked(resource)),
            Err(_) => Err(hung(resource, deadline)),
        }
    }

    /// As [`Cells::run`], for a lane: blocks its thread until the deadline.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        resource: &str,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.hand_over(
            &Arc::from(resource),
            deadline,
            once(work, move |value| drop(answer.send(value))),
        )?;
        match answered.recv_timeout(deadline) {
            Ok(value) => Ok(value),
            Err(RecvTimeoutError::Disconnected) => Err(panicked(resource)),
            Err(RecvTimeoutError::Timeout) => Err(hung(resource, deadline)),
        }
    }

    /// Starts `work` for `resource` and does not wait; the work leaves its result where it likes.
    /// False while the work before still runs. Allocates nothing once a thread is there.
    pub fn post(
        &self,
        resource: &Arc<str>,
        deadline: Duration,
        work: &Rounds,
    ) -> Result<bool, Fault> {
        unless_busy(self.hand_over(resource, deadline, Work::Again(Arc::clone(work))))
    }

    /// The same for one of several that share a cell: nobody is woken up for it before [`Cells::wake`].
    /// Where one of them hangs, the others wait for the wake after that.
    pub fn queue(
        &self,
        resource: &Arc<str>,
        deadline: Duration,
        work: &Rounds,
    ) -> Result<bool, Fault> {
        let mut state = locked(&self.shared.state);
        let taken = state.take_in(resource, deadline);
        if taken.is_ok() {
            state.queue.push_back((Arc::clone(resource), Work::Again(Arc::clone(work))));
        }
        unless_busy(taken)
    }

    /// Wakes one thread up for all that is queued, unless one comes anyway.
    pub fn wake(&self) {
        let state = locked(&self.shared.state);
        if state.queue.is_empty() || state.urgent > 0 {
            return;
        }
        let idle = state.idle > 0;
        // Whoever is woken up takes the lock first.
        drop(state);
        if idle {
            self.shared.work.notify_one();
        } else if let Err(error) = self.start() {
            // It waits for the next wake, and what it would have left grows old, which is seen.
            tracing::debug!(%error, "no thread could be started for a cell");
        }
    }

    /// How long the work of this resource has been running; None where none is.
    pub fn busy_for(&self, resource: &str, now: Mono) -> Option<Duration> {
        let state = locked(&self.shared.state);
        state.busy.iter().find(|busy| &*busy.resource == resource).map(|busy| now.since(busy.since))
    }

    /// Cells in use whose work has outlived its deadline.
    pub fn hung(&self, now: Mono) -> usize {
        let state = locked(&self.shared.state);
        state.busy.iter().filter(|busy| now.since(busy.since) > busy.deadline).count()
    }

    /// Cells in use, of at most [`CELLS_LIMIT`].
    pub fn in_use(&self) -> usize {
        locked(&self.shared.state).busy.len()
    }

    pub fn fill(&self) -> Fill {
        let state = locked(&self.shared.state);
        let (length, dropped) = (state.busy.len(), state.refused);
        Fill { queue: "cells", length, limit: CELLS_LIMIT, dropped }
    }

    /// Before all that is queued, and with a thread of its own.
    fn hand_over(&self, resource: &Arc<str>, deadline: Duration, work: Work) -> Result<(), Fault> {
        let mut state = locked(&self.shared.state);
        state.take_in(resource, deadline).map_err(|fault| match work {
            Work::Once(_) if fault.code == FaultCode::Hung => {
                Fault { text: format!("{resource} still hangs from an earlier reading"), ..fault }
            }
            _ => fault,
        })?;
        state.queue.push_front((Arc::clone(resource), work));
        state.urgent += 1;
        if state.urgent <= state.idle {
            drop(state);
            self.shared.work.notify_one();
            return Ok(());
        }
        // Every waiting thread already has work coming.
        if let Err(error) = self.start() {
            state.queue.pop_front();
            state.urgent -= 1;
            state.busy.pop();
            return Err(Fault::new(
                FaultCode::Exhausted,
                format!("no thread could be started to read {resource}: {error}"),
            ));
        }
        Ok(())
    }

    fn start(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        Builder::new().name("cell".to_owned()).spawn(move || live(&shared)).map(drop)
    }
}

impl State {
    /// Marks the resource as busy, where it is free and there is room.
    fn take_in(&mut self, resource: &Arc<str>, deadline: Duration) -> Result<(), Fault> {
        if self.busy.iter().any(|busy| busy.resource == *resource) {
            // Without a text for repeated work, which asks `busy_for` for what it wants to say.
            return Err(Fault { code: FaultCode::Hung, text: String::new() });
        }
        if self.busy.len() >= CELLS_LIMIT {
            self.refused += 1;
            return Err(Fault::new(
                FaultCode::Exhausted,
                format!("all {CELLS_LIMIT} cells hang, so {resource} could not be read"),
            ));
        }
        self.busy.push(Busy { resource: Arc::clone(resource), since: Mono::now(), deadline });
        Ok(())
    }
}

/// False where the work before still runs.
fn unless_busy(handed_over: Result<(), Fault>) -> Result<bool, Fault> {
    match handed_over {
        Ok(()) => Ok(true),
        Err(fault) if fault.code == FaultCode::Hung => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Work with an answer. The one who waits learns of a panic from the answer that never comes.
fn once<T: 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    deliver: impl FnOnce(T) + Send + 'static,
) -> Work {
    Work::Once(Box::new(move || {
        let value = catch_unwind(AssertUnwindSafe(work));
        Box::new(move || {
            if let Ok(value) = value {
                deliver(value);
            }
        })
    }))
}

/// A cell's thread: takes work while there is any.
fn live(shared: &Shared) {
    let mut state = locked(&shared.state);
    loop {
        let Some((resource, work)) = state.queue.pop_front() else {
            state.idle += 1;
            let (woken, waited) = shared
                .work
                .wait_timeout_while(state, CELL_LINGERS, |state| state.queue.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                return;
            }
            continue;
        };
        state.urgent = state.urgent.saturating_sub(1);
        drop(state);
        let delivery = match work {
            Work::Once(work) => Some(work()),
            Work::Again(work) => {
                // What it would have left stays old, which is seen.
                let _ = catch_unwind(AssertUnwindSafe(|| work()));
                None
            }
        };
        locked(&shared.state).busy.retain(|busy| busy.resource != resource);
        if let Some(delivery) = delivery {
            delivery();
        }
        state = locked(&shared.state);
    }
}

fn hung(resource: &str, deadline: Duration) -> Fault {
    Fault::new(FaultCode::Hung, format!("{resource} did not answer within {deadline:?}"))
}

fn panicked(resource: &str) -> Fault {
    Fault::new(FaultCode::Panicked, format!("reading {resource} panicked"))
}

#[cfg(test)]
mod tests;
