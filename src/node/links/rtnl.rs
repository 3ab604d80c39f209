//! Interfaces by netlink (rtnetlink(7), uapi/linux/if_link.h): every second the counters alone
//! (RTM_GETSTATS: a tenth of what RTM_GETLINK costs), the interfaces themselves where one came or
//! went, and now and then.
//!
//! The kernel answers under its network lock, which a driver may hold for seconds while it resets
//! its device. So a cell asks, and the node's second waits for it a moment only.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Direction;
use super::queues::{self, Queue};
use crate::client::netlink::{Netlink, Protocol, Trouble, attributes, u16_at, u32_at, u64_at};
use crate::lanes::{Cells, Rounds};
use crate::time::Mono;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_CARRIER_CHANGES: u16 = 35;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BOND_SLAVE_MII_STATUS: u16 = 2;
const IFLA_STATS_LINK_64: u16 = 1;

/// Counters are asked for apart.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

const ARPHRD_LOOPBACK: u16 = 772;

/// RFC 2863, as the kernel numbers it.
const IF_OPER_UP: u8 = 6;

/// `struct ifinfomsg` and `struct if_stats_msg`.
const LINK_HEADER: usize = 16;
const STATS_HEADER: usize = 12;

const LINKS_LIMIT: usize = 4096;

/// MTU, state and bonds change rarely.
const LINKS_EVERY: Duration = Duration::from_secs(5);

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
    fn of(value: &[u8]) -> Option<Self> {
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
    /// As a slave of a bond: whether its link is up.
    pub(super) slave_up: Option<bool>,
    pub(super) queue: Option<Queue>,
    pub(super) counters: Counters,
}

/// `struct rtnl_link_stats64`, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) directions: [Direction; 2],
    pub(super) missed: u64,
    pub(super) crc: u64,
    pub(super) frame: u64,
    pub(super) fifo: u64,
}

impl Counters {
    fn of(value: &[u8]) -> Option<Self> {
        let at = |place: usize| u64_at(value, place * 8);
        let missed = at(15)?;
        let direction = |bytes, packets, errors, drops| {
            Some(Direction {
                bytes: at(bytes)?,
                packets: at(packets)?,
                errors: at(errors)?,
                drops: at(drops)?,
            })
        };
        let mut receive = direction(2, 0, 4, 6)?;
        // As /proc/net/dev counts: a packet is gone either way (net/core/net-procfs.c).
        receive.drops = receive.drops.saturating_add(missed);
        let transmit = direction(3, 1, 5, 7)?;
        let fifo = at(14)?.saturating_add(at(18)?);
        Some(Self { directions: [receive, transmit], missed, crc: at(12)?, frame: at(13)?, fifo })
    }
}

fn told(body: &[u8]) -> Option<Told> {
    let kind = u16_at(body, 2)?;
    let mut told = Told { index: u32_at(body, 4)?, ..Told::default() };
    if kind == ARPHRD_LOOPBACK {
        told.make = Make::Other;
    }
    for (attribute, value) in attributes(body.get(LINK_HEADER..)?) {
        let byte = value.first().copied();
        match attribute {
            IFLA_IFNAME => told.name = Name::of(value)?,
            IFLA_MTU => told.mtu = u32_at(value, 0),
            IFLA_MASTER => told.master = u32_at(value, 0),
            IFLA_OPERSTATE => told.up = byte.map(|state| state == IF_OPER_UP),
            IFLA_CARRIER => told.carrier = byte.map(|carrier| carrier != 0),
            IFLA_CARRIER_CHANGES => told.carrier_changes = u32_at(value, 0).map(u64::from),
            IFLA_LINKINFO => {
                for (attribute, value) in attributes(value) {
                    match attribute {
                        IFLA_INFO_KIND => {
                            told.make = match value.split(|byte| *byte == 0).next() {
                                Some(b"bond" | b"team") => Make::Bond,
                                Some(b"veth") => Make::Veth,
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

fn counted(body: &[u8]) -> Option<(u32, Counters)> {
    let index = u32_at(body, 4)?;
    let (_, value) =
        attributes(body.get(STATS_HEADER..)?).find(|(kind, _)| *kind == IFLA_STATS_LINK_64)?;
    Some((index, Counters::of(value)?))
}

/// Asks, in a cell.
struct Asker {
    netlink: Netlink,
    links: Vec<Told>,
    links_at: Option<Mono>,
    queues: Vec<(u32, Queue)>,
    /// Why the queues are not known: a kernel may have none at all.
    queues_trouble: Option<Trouble>,
    counted: Vec<(u32, Counters)>,
}

impl Asker {
    fn new() -> Self {
        Self {
            netlink: Netlink::new(Protocol::Route),
            links: Vec::new(),
            links_at: None,
            queues: Vec::new(),
            queues_trouble: None,
            counted: Vec::new(),
        }
    }

    fn look(&mut self) -> Result<(), Trouble> {
        let outcome = self.read();
        if outcome.is_err() {
            self.links_at = None;
        }
        outcome
    }

    fn read(&mut self) -> Result<(), Trouble> {
        for _ in 0..TRIES {
            self.count()?;
            let now = Mono::now();
            let old = self.links_at.is_none_or(|read| now.since(read) >= LINKS_EVERY);
            if old || !self.joined() {
                self.list()?;
                self.queue();
                self.links_at = Some(now);
            }
            if self.joined() {
                return Ok(());
            }
        }
        Err(Trouble::Changed)
    }

    fn count(&mut self) -> Result<(), Trouble> {
        let mut body = [0; STATS_HEADER];
        if let Some(mask) = body.get_mut(8..) {
            mask.copy_from_slice(&(1u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
        }
        let counted_now = &mut self.counted;
        counted_now.clear();
        self.netlink.dump(RTM_GETSTATS, &body, |kind, body| {
            if kind == RTM_NEWSTATS && counted_now.len() < LINKS_LIMIT {
                counted_now.extend(counted(body));
            }
        })
    }

    fn list(&mut self) -> Result<(), Trouble> {
        // An empty `struct ifinfomsg`, of any family, and one attribute.
        let [size, kind] = [8u16, IFLA_EXT_MASK].map(u16::to_ne_bytes);
        let mut body = [0; LINK_HEADER + 8];
        let attribute = size.into_iter().chain(kind).chain(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        body.iter_mut().skip(LINK_HEADER).zip(attribute).for_each(|(to, byte)| *to = byte);
        for _ in 0..TRIES {
            let links = &mut self.links;
            links.clear();
            let outcome = self.netlink.dump(RTM_GETLINK, &body, |kind, body| {
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

    /// Gives each interface its counters; false where the two lists are not of the same ones.
    fn joined(&mut self) -> bool {
        if self.links.len() != self.counted.len() {
            return false;
        }
        for (place, (index, counters)) in self.counted.iter().enumerate() {
            // Both are told in the kernel's own order, so it is nearly always the same place.
            let here = self.links.get(place).is_some_and(|link| link.index == *index);
            let found = match here {
                true => Some(place),
                false => self.links.iter().position(|link| link.index == *index),
            };
            match found.and_then(|place| self.links.get_mut(place)) {
                Some(link) => link.counters = *counters,
                None => return false,
            }
        }
        true
    }
}

#[derive(Default)]
struct Answer {
    /// Grows with every answer.
    serial: u64,
    outcome: Option<Trouble>,
    at: Mono,
    links: Vec<Told>,
    queues_trouble: Option<Trouble>,
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
    asked: bool,
    seen: u64,
}

/// Why there is nothing new in this second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Silence {
    /// The kernel has not answered yet.
    Late,
    Trouble(Trouble),
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
            answer.at = Mono::now();
            answer.outcome = outcome.err();
            answer.links.clone_from(&asker.links);
            answer.queues_trouble = asker.queues_trouble;
            to.arrived.notify_one();
        });
        Self {
            exchange,
            work,
            cells: cells.clone(),
            resource: Arc::from("the interfaces by netlink"),
            asked: false,
            seen: 0,
        }
    }

    /// Asks. Not while the question before is not answered; too many cells hang at once otherwise.
    pub(super) fn ask(&mut self) {
        self.asked = self.cells.post(&self.resource, DEADLINE, &self.work).is_ok();
    }

    /// Waits a moment for the answer, and hands over what was told and when. Where it succeeds, it
    /// says why the queues are not known, if they are not.
    pub(super) fn hear(
        &mut self,
        mut take: impl FnMut(Mono, &[Told]),
    ) -> Result<Option<Trouble>, Silence> {
        if !std::mem::take(&mut self.asked) {
            return Err(Silence::Late);
        }
        let seen = self.seen;
        let (answer, waited) = self
            .exchange
            .arrived
            .wait_timeout_while(self.exchange.answer(), WAIT, |answer| answer.serial == seen)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Silence::Late);
        }
        self.seen = answer.serial;
        match answer.outcome {
            Some(trouble) => Err(Silence::Trouble(trouble)),
            None => {
                take(answer.at, &answer.links);
                Ok(answer.queues_trouble)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
