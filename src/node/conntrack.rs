//! The packet filter's table of connections: its fill, and what found no place in it
//! (Documentation/networking/nf_conntrack-sysctl.rst). Absent where nothing is tracked.

use super::text::{KernelFile, Setting, single, statistics};
use super::{Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    entries: Option<u64>,
    limit: Option<u64>,
    insert_failed: Option<u64>,
    drops: Option<u64>,
    early_drops: Option<u64>,
}

pub(super) struct Source {
    statistics: KernelFile,
    count: KernelFile,
    most: Setting,
    now: Reading,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let file = |name: &str| paths.procfs.join("sys/net/netfilter").join(name);
        Self {
            statistics: KernelFile::short_lines(network_folder(paths).join("stat/nf_conntrack")),
            count: KernelFile::at_once(file("nf_conntrack_count")),
            most: Setting::new(file("nf_conntrack_max")),
            now: Reading::default(),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if !tick.all {
            return false;
        }
        self.now = Reading::default();
        let wanted: [&[u8]; 3] = [b"insert_failed", b"drop", b"early_drop"];
        match self.statistics.read(&mut tick.buffer).map(|text| statistics(text, &wanted)) {
            Some(Some([insert_failed, drops, early_drops])) => {
                self.now.insert_failed = insert_failed.map(|column| column.sum);
                self.now.drops = drops.map(|column| column.sum);
                self.now.early_drops = early_drops.map(|column| column.sum);
            }
            Some(None) => self.statistics.garbled("holds no statistics of processors"),
            None => {}
        }
        let count = self.count.read(&mut tick.buffer).map(single);
        if count == Some(None) {
            self.count.garbled("holds no number");
        }
        self.now.entries = count.flatten();
        // 0 is a table without a limit.
        self.now.limit = self.most.read(tick.at, &mut tick.buffer, single, "holds no number");
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let Reading { entries, limit, insert_failed, drops, early_drops } = self.now;
        sink.under(self.count.fault().or(self.most.fault()));
        let fill = match (entries, limit) {
            (Some(_), Some(0)) => Slot::Number(0.0),
            (Some(entries), Some(limit)) => Slot::Number(entries as f64 / limit as f64),
            _ => Slot::MISSING,
        };
        sink.put(&metric::CONNTRACK_FILL, &[], fill);
        sink.put(&metric::CONNTRACK_ENTRIES, &[], Slot::of(entries));
        sink.put(&metric::CONNTRACK_LIMIT, &[], Slot::of(limit));
        sink.under(self.statistics.fault());
        sink.put(&metric::CONNTRACK_DROPS, &[], Slot::of(drops));
        sink.put(&metric::CONNTRACK_EARLY_DROPS, &[], Slot::of(early_drops));
        sink.put(&metric::CONNTRACK_INSERT_FAILED, &[], Slot::of(insert_failed));
    }
}
