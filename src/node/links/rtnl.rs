//! Interfaces by netlink (rtnetlink(7), uapi/linux/if_link.h): what they are, how they are, and the
//! counters that /proc/net/dev does not tell apart. Asked now and then, and where one came or went.
//!
//! The kernel answers under its network lock, which a driver may hold for seconds while it resets
//! its device. So a cell asks, and the node's second waits, a moment only, where it must know what
//! has come.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queues::{self, Queue};
use crate::client::netlink::{Netlink, Protocol, Trouble, attributes, u16_at, u32_at, u64_at};
use crate::lanes::{Cells, Rounds};
use crate::node::text::Seldom;
use crate::time::Mono;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BOND_SLAVE_MII_STATUS: u16 = 2;

const ARPHRD_LOOPBACK: u16 = 772;

/// Somebody has switched it on.
const IFF_UP: u32 = 1;

/// RFC 2863, as the kernel numbers it.
const IF_OPER_UP: u8 = 6;

/// `struct ifinfomsg`.
const HEADER: usize = 16;

const LINKS_LIMIT: usize = 4096;

/// How often they are asked for though none came or went: every other time that cells are.
const EVERY: Duration = Duration::from_secs(10);

/// Of more interfaces than this the kernel tells for milliseconds, and holds its network lock meanwhile:
/// then it is every fifteen, which is once a usual scrape.
const MANY: usize = 64;
const MANY_EVERY: Duration = Duration::from_secs(13);

/// How long the node's second waits for the answer.
const WAIT: Duration = Duration::from_millis(100);

const DEADLINE: Duration = Duration::from_secs(5);

/// Asked again where something changed meanwhile.
const TRIES: usize = 3;

/// An interface's name: at most 15 bytes (IFNAMSIZ), so that a copy allocates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    bytes: [u8; 15],
    length: u8,
}

impl Name {
    pub(super) fn of(value: &[u8]) -> Option<Self> {
        let text = value.split(|byte| *byte == 0).next()?;
        let mut name = Self { bytes: [0; 15], length: u8::try_from(text.len()).ok()? };
        name.bytes.get_mut(..text.len())?.copy_from_slice(text);
        (!text.is_empty()).then_some(name)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What an interface is made of, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Make {
    /// A driver's own, without a kind: hardware, or what a hypervisor shows as such.
    #[default]
    Device,
    Bond,
    /// One end of a pair: the wire of a container.
    Veth,
    Other,
}

/// What the kernel says of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) name: Name,
    pub(super) index: u32,
    pub(super) make: Make,
    pub(super) mtu: Option<u32>,
    pub(super) up: Option<bool>,
    pub(super) carrier: Option<bool>,
    pub(super) carrier_changes: Option<u64>,
    pub(super) master: Option<u32>,
    /// Its other end is in another network namespace.
    pub(super) reaches_out: bool,
    /// As a slave of a bond: whether its link is up.
    pub(super) slave_up: Option<bool>,
    pub(super) queue: Option<Queue>,
    pub(super) counters: Option<Counters>,
}

/// Of `struct rtnl_link_stats64` what /proc/net/dev adds up with other things.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) missed: u64,
    pub(super) crc: u64,
    pub(super) frame: u64,
    pub(super) fifo: u64,
}

impl Counters {
    fn of(value: &[u8]) -> Option<Self> {
        let at = |place: usize| u64_at(value, place * 8);
        let fifo = at(14)?.saturating_add(at(18)?);
        Some(Self { missed: at(15)?, crc: at(12)?, frame: at(13)?, fifo })
    }
}

fn told(body: &[u8]) -> Option<Told> {
    let kind = u16_at(body, 2)?;
    let mut told = Told { index: u32_at(body, 4)?, ..Told::default() };
    if kind == ARPHRD_LOOPBACK {
        told.make = Make::Other;
    }
    let switched_on = u32_at(body, 8)? & IFF_UP != 0;
    for (attribute, value) in attributes(body.get(HEADER..)?) {
        let byte = value.first().copied();
        match attribute {
            IFLA_IFNAME => told.name = Name::of(value)?,
            IFLA_MTU => told.mtu = u32_at(value, 0),
            IFLA_MASTER => told.master = u32_at(value, 0),
            IFLA_OPERSTATE => told.up = byte.map(|state| state == IF_OPER_UP),
            // What is switched off may say anything.
            IFLA_CARRIER => told.carrier = byte.map(|c| c != 0).filter(|_| switched_on),
            IFLA_LINK_NETNSID => told.reaches_out = true,
            IFLA_STATS64 => told.counters = Counters::of(value),
            IFLA_CARRIER_CHANGES => told.carrier_changes = u32_at(value, 0).map(u64::from),
            IFLA_LINKINFO => {
                for (attribute, value) in attributes(value) {
                    match attribute {
                        IFLA_INFO_KIND => {
                            told.make = match value.split(|byte| *byte == 0).next() {
                                Some(b"bond" | b"team") => Make::Bond,
                                Some(b"veth") => Make::Veth,
                                // InfiniBand's, which its driver makes as others make a kind.
                                Some(b"ipoib") => Make::Device,
                                _ => Make::Other,
                            };
                        }
                        IFLA_INFO_SLAVE_DATA => {
                            let status = attributes(value)
                                .find(|(kind, _)| *kind == IFLA_BOND_SLAVE_MII_STATUS);
                            told.slave_up = status
                                .and_then(|(_, value)| value.first())
                                .map(|status| *status == 0);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!told.name.bytes().is_empty()).then_some(told)
}

/// Asks, in a cell.
struct Asker {
    netlink: Netlink,
    links: Vec<Told>,
    queues: Vec<(u32, Queue)>,
    /// Why the queues are not known: a kernel may have none at all.
    queues_trouble: Option<Trouble>,
}

impl Asker {
    fn new() -> Self {
        Self {
            netlink: Netlink::new(Protocol::Route),
            links: Vec::new(),
            queues: Vec::new(),
            queues_trouble: None,
        }
    }

    fn look(&mut self) -> Result<(), Trouble> {
        self.list()?;
        self.queue();
        Ok(())
    }

    fn list(&mut self) -> Result<(), Trouble> {
        for _ in 0..TRIES {
            let links = &mut self.links;
            links.clear();
            // An empty `struct ifinfomsg`: of any family.
            let outcome = self.netlink.dump(RTM_GETLINK, &[0; HEADER], |kind, body| {
                if kind == RTM_NEWLINK && links.len() < LINKS_LIMIT {
                    links.extend(told(body));
                }
            });
            if outcome != Err(Trouble::Changed) {
                return outcome;
            }
        }
        Err(Trouble::Changed)
    }

    /// Gives each interface its queue. Without them the interfaces stand as they are.
    fn queue(&mut self) {
        self.queues_trouble = queues::list(&mut self.netlink, &mut self.queues).err();
        if self.queues_trouble.is_some() {
            return;
        }
        self.queues.sort_unstable_by_key(|(interface, _)| *interface);
        for link in &mut self.links {
            let place = self.queues.binary_search_by_key(&link.index, |(interface, _)| *interface);
            let own = place.ok().and_then(|place| self.queues.get(place));
            link.queue = own.map(|(_, queue)| *queue);
        }
    }
}

/// What was told last.
#[derive(Default)]
pub(super) struct Answer {
    /// Grows with every answer.
    serial: u64,
    /// Why nothing was, though it was asked for.
    pub(super) trouble: Option<Trouble>,
    pub(super) at: Mono,
    pub(super) links: Vec<Told>,
    /// Why the queues are not known, if they are not.
    pub(super) queues_trouble: Option<Trouble>,
}

#[derive(Default)]
struct Exchange {
    answer: Mutex<Answer>,
    arrived: Condvar,
}

impl Exchange {
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lane's end of it.
pub(super) struct Line {
    exchange: Arc<Exchange>,
    work: Rounds,
    cells: Cells,
    resource: Arc<str>,
    due: Seldom,
    due_of_many: Seldom,
}

impl Line {
    pub(super) fn new(cells: &Cells) -> Self {
        let exchange = Arc::new(Exchange::default());
        let asker = Mutex::new(Asker::new());
        let to = Arc::clone(&exchange);
        let work: Rounds = Arc::new(move || {
            let mut asker = asker.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = asker.look();
            let mut answer = to.answer();
            answer.serial += 1;
            answer.trouble = outcome.err();
            if outcome.is_ok() {
                answer.at = Mono::now();
                answer.links.clone_from(&asker.links);
                answer.queues_trouble = asker.queues_trouble;
            }
            to.arrived.notify_one();
        });
        Self {
            exchange,
            work,
            cells: cells.clone(),
            resource: Arc::from("the interfaces by netlink"),
            due: Seldom::every(EVERY),
            due_of_many: Seldom::every(MANY_EVERY),
        }
    }

    /// Asks where it is time to, by how many are known: whoever waits for the answer takes it with the
    /// next second.
    pub(super) fn ask(&mut self, at: Mono, known: usize) {
        let due = if known > MANY { &mut self.due_of_many } else { &mut self.due };
        if due.now(at) {
            // Where the question before is not answered yet, its answer grows old, which is seen.
            let _ = self.cells.queue(&self.resource, DEADLINE, &self.work);
        }
    }

    /// Asks at once, and waits a moment for the answer.
    pub(super) fn ask_now(&mut self) {
        let before = self.exchange.answer().serial;
        if self.cells.post(&self.resource, DEADLINE, &self.work).is_ok() {
            let same = |answer: &mut Answer| answer.serial == before;
            drop(self.exchange.arrived.wait_timeout_while(self.exchange.answer(), WAIT, same));
        }
    }

    pub(super) fn answer(&self) -> MutexGuard<'_, Answer> {
        self.exchange.answer()
    }
}

#[cfg(test)]
pub(super) mod tests;
