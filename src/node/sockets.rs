//! Sockets of this node: how full the accept queues of its listeners are, and how many of its local
//! ports the busiest destination takes. By netlink, since procfs tells neither a queue's limit nor
//! a destination without all sockets; so of this process's network namespace only.
//!
//! Cells ask, each question as rarely as its cost demands: on a node with a hundred thousand
//! connections the kernel needs a tenth of a second to tell of them.

mod diag;
mod listing;
mod ports;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Namespace, Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;
use crate::client::netlink::{Netlink, Protocol, Trouble};
use crate::lanes::{Cells, Rounds};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

use diag::{Asker, Question, Socket};
pub use listing::Listing;
pub(super) use ports::Destination;
use ports::{Counter, Ports, Unknown};

/// A reading may take this share of the time until the next.
const READING_SHARE: u32 = 400;

/// How often the accept queues are read; what overflowed is counted by the kernel besides. A second of
/// the node comes a little early at times.
const QUEUES_EVERY: Duration = Duration::from_millis(4_500);

/// A connection that is closed here keeps its port for a minute, and the kernel walks its whole table of
/// connections, empty as it may be. Cells are asked every five seconds, a little early or late: it is
/// every thirty.
const PORTS_EVERY: Duration = Duration::from_secs(29);

/// The first readings are waited for, so that they are there from the beginning.
const FIRST_DEADLINE: Duration = Duration::from_secs(1);

const DEADLINE: Duration = Duration::from_secs(15);

/// So many readings may be late before the newest is too old.
const LATE: u32 = 3;
const LATE_AT_LEAST: Duration = Duration::from_secs(30);

/// Listeners shown.
const SHOWN_LIMIT: usize = 64;

/// Listeners looked at; what follows is counted as over the limit.
const LISTENERS_LIMIT: usize = 4096;

/// Whether the kernel can be asked for sockets. Where it can't be told from here it may be.
pub(super) fn can_be_asked(paths: &Paths) -> bool {
    match Namespace::of(paths) {
        Namespace::Recorded => false,
        Namespace::Other => true,
        Namespace::Own => {
            let asked = asker().ask(Question::Listening, |_| {});
            // The modules inet_diag and tcp_diag are not there.
            let lacks = |trouble: Trouble| {
                trouble.is_lasting() || trouble == Trouble::Refused(nix::errno::Errno::ENOENT)
            };
            !asked.is_err_and(lacks)
        }
    }
}

fn asker() -> Asker {
    Asker::new(Netlink::new(Protocol::SockDiag))
}

/// The accept queue of one address; of several listeners there (SO_REUSEPORT) the fullest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Queue {
    address: SocketAddr,
    waiting: u32,
    most: u32,
}

impl Queue {
    fn of(socket: &Socket) -> Self {
        let address = SocketAddr::new(socket.local, socket.port);
        Self { address, waiting: socket.waiting, most: socket.most }
    }

    /// The kernel takes one more than the limit, and then no more.
    fn fill(&self) -> f64 {
        f64::from(self.waiting) / (f64::from(self.most) + 1.0)
    }
}

/// All accept queues.
#[derive(Debug, Default)]
struct Queues {
    listeners: usize,
    fullest: f64,
    /// Ordered by port and address.
    each: Vec<Queue>,
    over: usize,
}

impl Queues {
    fn read(asker: &mut Asker) -> Result<Self, Trouble> {
        let mut this = Self::default();
        asker.ask(Question::Listening, |socket| {
            let queue = Queue::of(&socket);
            this.listeners += 1;
            this.fullest = queue.fill().max(this.fullest);
            if this.each.len() < LISTENERS_LIMIT {
                this.each.push(queue);
            } else {
                this.over += 1;
            }
        })?;
        this.each.sort_unstable_by(|one, other| {
            let key = |queue: &Queue| (queue.address.port(), queue.address.ip());
            key(one).cmp(&key(other)).then(other.fill().total_cmp(&one.fill()))
        });
        this.each.dedup_by_key(|queue| queue.address);
        Ok(this)
    }
}

/// The newest answer to a question.
pub(super) struct Answer<T, E> {
    at: Option<Mono>,
    took: Duration,
    outcome: Result<(), E>,
    told: Arc<T>,
}

impl<T: Default, E> Default for Answer<T, E> {
    fn default() -> Self {
        Self { at: None, took: Duration::ZERO, outcome: Ok(()), told: Arc::default() }
    }
}

pub(super) type Told<T, E> = Arc<Mutex<Answer<T, E>>>;

/// A panic while a lock was held left plain data behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question that is asked again and again, in a cell.
pub(super) struct Pace<T, E> {
    resource: Arc<str>,
    every: Duration,
    work: Rounds,
    answer: Told<T, E>,
    asked: Option<Mono>,
    stale: Arc<Fault>,
    /// The last fault made and what of, so that a lasting one costs nothing.
    made: Option<(E, Arc<Fault>)>,
    pub(super) fault: Option<Arc<Fault>>,
}

impl<T, E> Pace<T, E>
where
    T: Send + Sync + 'static,
    E: Copy + PartialEq + Send + 'static,
{
    pub(super) fn new(
        resource: &str,
        every: Duration,
        answer: &Told<T, E>,
        read: impl FnMut() -> Result<T, E> + Send + 'static,
    ) -> Self {
        let read = Mutex::new(read);
        let to = Arc::clone(answer);
        let work = Arc::new(move || {
            let began = Mono::now();
            let told = (locked(&read))();
            let now = Mono::now();
            let mut answer = locked(&to);
            (answer.at, answer.took) = (Some(now), now.since(began));
            answer.outcome = told.map(|told| answer.told = Arc::new(told));
        });
        let stale = format!("{resource} have not been told in time");
        Self {
            resource: resource.into(),
            every,
            work,
            answer: Arc::clone(answer),
            asked: None,
            stale: Arc::new(Fault::new(FaultCode::Hung, stale)),
            made: None,
            fault: None,
        }
    }

    fn pause(&self) -> Duration {
        locked(&self.answer).took.saturating_mul(READING_SHARE).max(self.every)
    }

    /// Asks again where it is time to.
    pub(super) fn begin(&mut self, cells: &Cells, at: Mono) {
        if self.asked.is_some_and(|asked| at.since(asked) >= self.pause())
            && cells.queue(&self.resource, DEADLINE, &self.work) == Ok(true)
        {
            self.asked = Some(at);
        }
    }

    /// What was told last, or None before there is an answer.
    pub(super) fn turn(&mut self, cells: &Cells, at: Mono, why: fn(E) -> Fault) -> Option<Arc<T>> {
        if self.asked.is_none() {
            self.asked = Some(at);
            let work = Arc::clone(&self.work);
            // Where it does not end in time, its answer comes later.
            let _ = cells.run_blocking(&self.resource, FIRST_DEADLINE, move || work());
        }
        let pause = self.pause();
        let answer = locked(&self.answer);
        let answered = answer.at?;
        let patience = pause.saturating_mul(LATE).max(LATE_AT_LEAST);
        self.fault = match answer.outcome {
            _ if at.since(answered) > patience => Some(Arc::clone(&self.stale)),
            Ok(()) => None,
            Err(error) => {
                if self.made.as_ref().is_none_or(|(made, _)| *made != error) {
                    self.made = Some((error, Arc::new(why(error))));
                }
                self.made.as_ref().map(|(_, fault)| Arc::clone(fault))
            }
        };
        Some(Arc::clone(&answer.told))
    }
}

/// The sockets of a node, for all who ask. Cheap to clone.
#[derive(Clone)]
pub struct Sockets {
    paths: Paths,
    ports: Told<Ports, Unknown>,
    listing: Arc<Mutex<listing::Cache>>,
}

impl Sockets {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { paths: paths.clone(), ports: Told::default(), listing: Arc::default() }
    }

    /// The destinations that most local ports were used for at the last reading.
    pub(super) fn destinations(&self) -> Vec<Destination> {
        locked(&self.ports).told.largest.clone()
    }
}

pub(super) struct Source {
    cells: Cells,
    paths: Paths,
    /// Why nothing can be told; decided at the first reading.
    blind: Option<Option<Arc<Fault>>>,
    queues_pace: Pace<Queues, Trouble>,
    ports_pace: Pace<Ports, Unknown>,
    /// None before the first answer.
    queues: Option<Arc<Queues>>,
    ports: Option<Arc<Ports>>,
    /// The addresses shown and their labels, as the layout has them.
    shown: Vec<(SocketAddr, Arc<str>)>,
    /// Of the ports that nobody asks for by number: what listens there comes and goes.
    passing: Option<(u16, u16)>,
    source: Arc<str>,
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells, sockets: &Sockets) -> Self {
        let mut queues = asker();
        let mut ports = Counter::new(asker());
        let procfs = paths.procfs.clone();
        Self {
            cells: cells.clone(),
            paths: paths.clone(),
            blind: None,
            queues_pace: Pace::new("the listeners", QUEUES_EVERY, &Told::default(), move || {
                Queues::read(&mut queues)
            }),
            ports_pace: Pace::new("the connections", PORTS_EVERY, &sockets.ports, move || {
                ports.count(&procfs)
            }),
            queues: None,
            ports: None,
            shown: Vec::new(),
            passing: None,
            source: Arc::from("listeners"),
        }
    }

    fn is_shown(&self, queue: &Queue) -> bool {
        let port = queue.address.port();
        !self.passing.is_some_and(|(first, last)| (first..=last).contains(&port))
    }

    /// Gives the listeners that stay their labels; true where they are others than before.
    fn choose(&mut self) -> bool {
        let Some(queues) = &self.queues else { return false };
        let wanted = || queues.each.iter().filter(|queue| self.is_shown(queue)).take(SHOWN_LIMIT);
        let same = wanted().map(|queue| &queue.address).eq(self.shown.iter().map(|(own, _)| own));
        if same {
            return false;
        }
        self.shown = wanted()
            .map(|queue| (queue.address, Arc::from(queue.address.to_string().as_str())))
            .collect();
        true
    }
}

impl super::Source for Source {
    fn begin(&mut self, at: Mono) {
        self.queues_pace.begin(&self.cells, at);
        self.ports_pace.begin(&self.cells, at);
    }

    fn read(&mut self, tick: &mut Tick) -> bool {
        let paths = &self.paths;
        let blind = self.blind.get_or_insert_with(|| match Namespace::of(paths) {
            Namespace::Own => None,
            other => Some(Arc::new(other.fault(&network_folder(paths).join("dev")))),
        });
        if blind.is_some() {
            return false;
        }
        if self.passing.is_none() {
            let file = paths.procfs.join("sys/net/ipv4/ip_local_port_range");
            self.passing = std::fs::read(file).ok().and_then(|text| ports::range(&text));
        }
        let why = |trouble: Trouble| trouble.fault("the listeners");
        self.queues = self.queues_pace.turn(&self.cells, tick.at, why);
        self.ports = self.ports_pace.turn(&self.cells, tick.at, ports::why);
        self.choose()
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let blind = self.blind.as_ref().and_then(Option::as_ref);
        sink.under(blind.or(self.queues_pace.fault.as_ref()));
        let queues = self.queues.as_deref();
        let number = |value: Option<f64>| value.map_or(Slot::Nothing, Slot::Number);
        sink.put(&metric::LISTEN_QUEUE, &[], number(queues.map(|queues| queues.fullest)));
        let listeners = queues.map(|queues| queues.listeners as f64);
        sink.put(&metric::LISTENERS, &[], number(listeners));
        let over = queues.map(|queues| {
            let staying = queues.each.iter().filter(|queue| self.is_shown(queue)).count();
            (staying.saturating_sub(SHOWN_LIMIT) + queues.over) as f64
        });
        sink.put(&metric::OVER_LIMIT, &[&self.source], number(over));
        let each = queues.map(|queues| queues.each.as_slice()).unwrap_or_default();
        let mut each = each.iter().filter(|queue| self.is_shown(queue));
        for (address, label) in &self.shown {
            let own = each.next().filter(|queue| queue.address == *address);
            let of = |value: fn(&Queue) -> u32| number(own.map(|queue| f64::from(value(queue))));
            sink.put(&metric::LISTENER_QUEUE, &[label], of(|queue| queue.waiting));
            sink.put(&metric::LISTENER_QUEUE_LIMIT, &[label], of(|queue| queue.most));
        }

        sink.under(blind.or(self.ports_pace.fault.as_ref()));
        let ports = self.ports.as_deref();
        let of = |value: fn(&Ports) -> u32| number(ports.map(|ports| f64::from(value(ports))));
        sink.put(&metric::PORTS, &[], of(Ports::used));
        sink.put(&metric::PORTS_LIMIT, &[], of(|ports| ports.pool));
        sink.put(&metric::PORTS_USED, &[], number(ports.map(Ports::share)));
    }
}

#[cfg(test)]
pub(super) mod tests;
