//! One protocol a file. Knows no check, no journey and no verdict; says of every error whose
//! fault it is.

use std::sync::{Arc, OnceLock};

use crate::lanes::{Cells, Fill};
use crate::time::Wall;

pub mod address;
pub mod alertmanager;
pub mod amqp;
pub mod assertion;
pub mod clickhouse;
pub mod datagram;
pub mod disk;
pub mod error_queue;
pub mod grafana;
pub mod http;
pub mod icmp;
pub mod imap;
pub mod inbox;
pub mod kafka;
pub mod kernel;
pub mod local;
pub mod loki;
pub mod mail;
pub mod netlink;
pub mod postgres;
pub mod promql;
pub mod relp;
pub mod resolve;
pub mod rules;
pub mod search;
pub mod sized;
pub mod splunk;
pub mod stream;
pub mod syslog;
pub mod tail;
pub mod tcp;
pub mod tls;
pub mod uring;
pub mod victorialogs;

/// What a store answered to a query, page after page.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    pub rows: Vec<T>,
    /// Why these are not all, where they may not be.
    pub lacking: Option<String>,
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), lacking: None }
    }
}

impl<T> Answer<T> {
    pub fn lacks(&mut self, why: impl Into<String>) {
        self.lacking.get_or_insert_with(|| why.into());
    }
}

/// What probes, senders and confirmers share. Each part is made when it is first used, so that a
/// plan pays only for what it names. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clients {
    parts: Arc<Parts>,
}

#[derive(Default)]
struct Parts {
    resolver: OnceLock<resolve::Resolver>,
    tls: OnceLock<tls::Tls>,
    inbox: inbox::Inbox,
    kafka: kafka::Kafka,
    cells: Cells,
    speeds: disk::Speeds,
    clock: OnceLock<fn() -> Wall>,
}

impl Clients {
    pub fn resolver(&self) -> &resolve::Resolver {
        self.parts.resolver.get_or_init(resolve::Resolver::default)
    }

    pub fn tls(&self) -> &tls::Tls {
        self.parts.tls.get_or_init(tls::Tls::default)
    }

    /// What the agent's webhook receiver was sent.
    pub fn inbox(&self) -> &inbox::Inbox {
        &self.parts.inbox
    }

    /// The agent's clock, for what is to be compared with a time that others wrote down.
    pub fn keep_time(&self, clock: fn() -> Wall) {
        let _ = self.parts.clock.set(clock);
    }

    /// None where nobody keeps the time.
    pub fn wall(&self) -> Option<Wall> {
        self.parts.clock.get().map(|clock| clock())
    }

    /// How full everything is that they bound.
    pub fn fills(&self) -> Vec<Fill> {
        let mut fills = vec![self.parts.inbox.fill()];
        fills.extend(self.parts.kafka.fills());
        fills.push(Fill { queue: "client_cells", ..self.parts.cells.fill() });
        fills
    }

    /// How fast the disks are that were measured.
    pub fn speeds(&self) -> &disk::Speeds {
        &self.parts.speeds
    }

    /// Clusters of Kafka; none is talked to before it is used.
    pub fn kafka(&self) -> &kafka::Kafka {
        &self.parts.kafka
    }

    /// Where files are read: a disk may hang for ever.
    pub fn cells(&self) -> &Cells {
        &self.parts.cells
    }
}
