//! Local ports by destination. The kernel gives a connection any port of a range
//! (net.ipv4.ip_local_port_range, without those reserved) that has no connection from the same
//! address to the same destination yet; once a destination has them all, nothing more connects to
//! it. A connection that was closed keeps its port for a minute (TIME_WAIT).

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::diag::{Asker, Question, Socket};
use crate::client::netlink::Trouble;
use crate::node::text::number;
use crate::outcome::{Fault, FaultCode};

/// Destinations that are counted at once.
const COUNTED: usize = 1024;

/// Destinations that are named.
const NAMED: usize = 3;

/// Of so many of a destination's connections it is known which they are, to find their owner.
const REMEMBERED: usize = 4;

/// More text than this is in none of the two files.
const TEXT_LIMIT: usize = 256 << 10;

/// What a port is used for: once for each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    from: IpAddr,
    to: SocketAddr,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    count: u32,
    inodes: [u32; REMEMBERED],
}

/// A destination and the ports that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Destination {
    pub(in crate::node) to: SocketAddr,
    pub(in crate::node) ports: u32,
    /// Of connections that somebody holds.
    pub(in crate::node) inodes: Vec<u64>,
}

/// The destinations that most ports are used for, in bounded memory (J. Misra, D. Gries: Finding
/// repeated elements, 1982). Exact while there are no more destinations than are counted; with
/// more, a figure is too large by what was given up, at most one in a thousand of all connections.
#[derive(Debug, Default)]
struct Tally {
    uses: HashMap<Pair, Uses>,
    given_up: u32,
}

impl Tally {
    fn clear(&mut self) {
        self.uses.clear();
        self.given_up = 0;
    }

    fn add(&mut self, pair: Pair, inode: u32) {
        if let Some(uses) = self.uses.get_mut(&pair) {
            uses.count += 1;
            if inode != 0
                && let Some(free) = uses.inodes.iter_mut().find(|inode| **inode == 0)
            {
                *free = inode;
            }
        } else if self.uses.len() < COUNTED {
            let mut uses = Uses { count: 1, ..Uses::default() };
            uses.inodes[0] = inode;
            self.uses.insert(pair, uses);
        } else {
            self.given_up += 1;
            self.uses.retain(|_, uses| {
                uses.count -= 1;
                uses.count > 0
            });
        }
    }

    /// Those with most first.
    fn largest(&self) -> Vec<Destination> {
        let mut largest: Vec<(&Pair, &Uses)> = Vec::with_capacity(NAMED + 1);
        for (pair, uses) in &self.uses {
            let place = largest
                .partition_point(|(other, more)| (more.count, pair.to) >= (uses.count, other.to));
            if place < NAMED {
                largest.insert(place, (pair, uses));
                largest.truncate(NAMED);
            }
        }
        let known = |uses: &Uses| {
            uses.inodes.iter().filter(|inode| **inode != 0).map(|inode| u64::from(*inode)).collect()
        };
        largest
            .into_iter()
            .map(|(pair, uses)| Destination {
                to: pair.to,
                ports: uses.count + self.given_up,
                inodes: known(uses),
            })
            .collect()
    }
}

/// What is used of the ports that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Ports {
    /// Of how many a connection to one destination can have one.
    pub(in crate::node) pool: u32,
    /// The destinations that most are used for, the most first.
    pub(in crate::node) largest: Vec<Destination>,
}

impl Ports {
    /// Of the destination with most.
    pub(super) fn used(&self) -> u32 {
        self.largest.first().map_or(0, |destination| destination.ports)
    }

    /// What that is of those that there are.
    pub(super) fn share(&self) -> f64 {
        match (self.used(), self.pool) {
            // Where all are reserved, nothing connects.
            (0, 0) => 0.0,
            (_, 0) => 1.0,
            (used, pool) => (f64::from(used) / f64::from(pool)).min(1.0),
        }
    }
}

/// Why the ports are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The files say of no range.
    Range,
    Trouble(Trouble),
}

pub(super) fn why(unknown: Unknown) -> Fault {
    match unknown {
        Unknown::Range => Fault::new(
            FaultCode::Unreadable,
            "the range of local ports (net.ipv4.ip_local_port_range) could not be read",
        ),
        Unknown::Trouble(trouble) => trouble.fault("the connections"),
    }
}

/// Counts, again and again.
pub(super) struct Counter {
    asker: Asker,
    tally: Tally,
    listening: Vec<u16>,
}

impl Counter {
    pub(super) fn new(asker: Asker) -> Self {
        Self { asker, tally: Tally::default(), listening: Vec::new() }
    }

    pub(super) fn count(&mut self, procfs: &Path) -> Result<Ports, Unknown> {
        let Self { asker, tally, listening } = self;
        let file = |name: &str| {
            let text = fs::read(procfs.join("sys/net/ipv4").join(name)).ok()?;
            (text.len() <= TEXT_LIMIT).then_some(text)
        };
        let (first, last) =
            file("ip_local_port_range").and_then(|text| range(&text)).ok_or(Unknown::Range)?;
        // Before Linux 2.6.35 there are none.
        let reserved =
            file("ip_local_reserved_ports").map_or(0, |text| reserved(&text, first, last));

        // What others opened is no use of a local port.
        listening.clear();
        let listener = |socket: Socket| listening.push(socket.port);
        asker.ask(Question::Listening, listener).map_err(Unknown::Trouble)?;
        listening.sort_unstable();
        tally.clear();
        asker
            .ask(Question::From { first, last }, |socket| {
                if listening.binary_search(&socket.port).is_err() {
                    let to = SocketAddr::new(socket.remote, socket.remote_port);
                    tally.add(Pair { from: socket.local, to }, socket.inode);
                }
            })
            .map_err(Unknown::Trouble)?;
        let pool = (u32::from(last) - u32::from(first) + 1).saturating_sub(reserved);
        Ok(Ports { pool, largest: tally.largest() })
    }
}

/// The first and the last, with blanks between them.
pub(super) fn range(text: &[u8]) -> Option<(u16, u16)> {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut port = || u16::try_from(number(words.next()?)?).ok();
    let (first, last) = (port()?, port()?);
    (first <= last).then_some((first, last))
}

/// How many of a range are reserved: `8080,9148-9150`.
fn reserved(text: &[u8], first: u16, last: u16) -> u32 {
    let port = |word: &[u8]| number(word.trim_ascii()).and_then(|port| u16::try_from(port).ok());
    let mut sum = 0;
    for part in text.split(|byte| *byte == b',') {
        let (from, to) = match part.iter().position(|byte| *byte == b'-') {
            Some(dash) => {
                let (from, to) = part.split_at(dash);
                (port(from), port(to.get(1..).unwrap_or_default()))
            }
            None => (port(part), port(part)),
        };
        if let (Some(from), Some(to)) = (from, to) {
            let (from, to) = (from.max(first), to.min(last));
            sum += if from <= to { u32::from(to) - u32::from(from) + 1 } else { 0 };
        }
    }
    sum
}

#[cfg(test)]
mod tests;
