//! /proc/net/stat/arp_cache and ndisc_cache: the tables of neighbours, one for the whole machine,
//! and their limit (Documentation/networking/ip-sysctl.rst, gc_thresh3).

use std::sync::Arc;

use super::text::{KernelFile, Setting, single, statistics};
use super::{Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Table {
    entries: Option<u64>,
    refused: Option<u64>,
    limit: Option<u64>,
}

struct Family {
    word: Arc<str>,
    statistics: KernelFile,
    threshold: Setting,
    now: Table,
    /// Not there where IPv6 is switched off, which is no fault.
    optional: bool,
}

impl Family {
    fn read(&mut self, tick: &mut Tick) {
        self.now = Table::default();
        let found = self.statistics.read(&mut tick.buffer);
        match found.map(|text| statistics(text, &[b"entries", b"table_fulls"])) {
            // The first is the whole table's on every line, the second each processor's own.
            Some(Some(rows)) => {
                let [entries, refused] = rows;
                self.now.entries = entries.map(|column| column.largest);
                self.now.refused = refused.map(|column| column.sum);
            }
            Some(None) => self.statistics.garbled("holds no statistics of processors"),
            None => {}
        }
        let limit = |text: &[u8]| single(text).filter(|limit| *limit > 0);
        self.now.limit = self.threshold.read(tick.at, &mut tick.buffer, limit, "holds no limit");
    }

    fn absent(&self) -> bool {
        self.optional && self.statistics.missing()
    }
}

pub(super) struct Source {
    families: [Family; 2],
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = network_folder(paths).join("stat");
        let families = [("ipv4", "arp_cache", false), ("ipv6", "ndisc_cache", true)];
        Self {
            families: families.map(|(word, file, optional)| Family {
                word: Arc::from(word),
                statistics: KernelFile::short_lines(folder.join(file)),
                threshold: Setting::new(
                    paths.procfs.join(format!("sys/net/{word}/neigh/default/gc_thresh3")),
                ),
                now: Table::default(),
                optional,
            }),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if !tick.all {
            return false;
        }
        for family in &mut self.families {
            family.read(tick);
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let present = || self.families.iter().filter(|family| !family.absent());
        let fault = present().find_map(|family| family.statistics.fault());
        sink.under(fault);
        let refused =
            present().try_fold(0u64, |sum, family| Some(sum.saturating_add(family.now.refused?)));
        sink.put(&metric::NEIGHBOURS_REFUSED, &[], Slot::of(refused));
        sink.under(fault.or_else(|| present().find_map(|family| family.threshold.fault())));
        let fill = present().try_fold(0f64, |most, family| {
            let Table { entries, limit, .. } = family.now;
            Some(most.max(entries? as f64 / limit? as f64))
        });
        sink.put(&metric::NEIGHBOURS_FILL, &[], fill.map_or(Slot::MISSING, Slot::Number));
        for family in &self.families {
            let labels = [&family.word];
            sink.under(family.statistics.fault());
            sink.put(&metric::NEIGHBOURS, &labels, Slot::of(family.now.entries));
            sink.under(family.threshold.fault());
            sink.put(&metric::NEIGHBOURS_LIMIT, &labels, Slot::of(family.now.limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::node::tests::{fixture, mangled};
    use crate::node::text::{Column, statistics};

    #[test]
    fn columns_are_found_by_their_heading() {
        let text = b"entries  allocs table_fulls\n0000000c 00000002 00000001\n0000000c 00000000 0000000a\n";
        let entries = Column { sum: 24, largest: 12 };
        let refused = Column { sum: 11, largest: 10 };
        assert_eq!(
            statistics(text, &[b"entries", b"table_fulls"]),
            Some([Some(entries), Some(refused)])
        );
        // A kernel before 3.15 has no such column.
        assert_eq!(statistics(b"entries\n00000001\n", &[b"table_fulls"]), None);
        for text in ["", "entries\n", "entries x\n", "entries\nxyz\n", "a entries\n00000001\n"] {
            assert_eq!(statistics(text.as_bytes(), &[b"entries"]), None, "{text:?}");
        }
        for (name, file) in [("arp_cache", "arp_cache"), ("nf_conntrack", "nf_conntrack")] {
            let good = fixture(&format!("idle/proc/net/stat/{file}"));
            assert!(statistics(&good, &[b"entries"]).is_some());
            mangled(name, &good, |text| {
                let _ = statistics(text, &[b"entries", b"drop", b"table_fulls"]);
            });
        }
    }
}
