//! The packet filter's table of connections: its fill, and what found no place in it
//! (Documentation/networking/nf_conntrack-sysctl.rst). Absent where nothing is tracked.

use super::text::{KernelFile, Setting, single, statistics};
use super::{Namespace, Paths, Sink, Slot, Tick, network_folder};
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
    /// Settings and the count are those of this process's own network namespace, whosever procfs it is;
    /// the limit is one for all.
    elsewhere: bool,
    now: Reading,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self::seen_from(paths, Namespace::of(paths))
    }

    fn seen_from(paths: &Paths, namespace: Namespace) -> Self {
        let file = |name: &str| paths.procfs.join("sys/net/netfilter").join(name);
        Self {
            statistics: KernelFile::short_lines(network_folder(paths).join("stat/nf_conntrack")),
            count: KernelFile::at_once(file("nf_conntrack_count")),
            most: Setting::new(file("nf_conntrack_max")),
            elsewhere: namespace == Namespace::Other,
            now: Reading::default(),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.now = Reading::default();
        let wanted: [&[u8]; 4] = [b"insert_failed", b"drop", b"early_drop", b"entries"];
        match self.statistics.read(&mut tick.buffer).map(|text| statistics(text, &wanted)) {
            Some(Some([insert_failed, drops, early_drops, entries])) => {
                // The whole table's on every line.
                self.now.entries = entries.map(|column| column.largest).filter(|_| self.elsewhere);
                self.now.insert_failed = insert_failed.map(|column| column.sum);
                self.now.drops = drops.map(|column| column.sum);
                self.now.early_drops = early_drops.map(|column| column.sum);
            }
            Some(None) => self.statistics.garbled("holds no statistics of processors"),
            None => {}
        }
        if !self.elsewhere {
            let count = self.count.read(&mut tick.buffer).map(single);
            if count == Some(None) {
                self.count.garbled("holds no number");
            }
            self.now.entries = count.flatten();
        }
        // 0 is a table without a limit.
        self.now.limit = self.most.read(tick.at, &mut tick.buffer, single, "holds no number");
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let Reading { entries, limit, insert_failed, drops, early_drops } = self.now;
        let counting = if self.elsewhere { &self.statistics } else { &self.count };
        sink.under(counting.fault().or(self.most.fault()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, exported, sample};
    use crate::node::{Frame, Sampler};

    /// As in a container with the host's procfs and a network of its own.
    #[test]
    fn connections_are_those_of_the_namespace_that_is_shown() {
        let copy = Copy::of("idle");
        copy.write("proc/sys/net/netfilter/nf_conntrack_count", "7\n");
        let line = |entries, drops| format!("{entries:08x} 00000000 {drops:08x}\n");
        let heading = "entries  insert_failed drop\n";
        let text = format!("{heading}{}{}", line(100, 2), line(100, 3));
        copy.write("proc/net/stat/nf_conntrack", text);
        for (namespace, entries) in [(Namespace::Recorded, 7.0), (Namespace::Other, 100.0)] {
            let source = Source::seen_from(&copy.paths(), namespace);
            let mut sampler = Sampler::with(vec![Box::new(source)], &Cells::new());
            let mut frame = Frame::default();
            sample(&mut sampler, 0, &mut frame);
            let ours = |metric: &str| exported(&frame, metric, &[]);
            assert_eq!(ours("greenlight_node_conntrack_entries"), Some(entries));
            assert_eq!(ours("greenlight_node_conntrack_drops_total"), Some(5.0));
        }
    }
}
