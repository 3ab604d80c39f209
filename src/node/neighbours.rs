//! /proc/net/stat/arp_cache and ndisc_cache: the tables of neighbours, one for the whole machine,
//! and their limit (Documentation/networking/ip-sysctl.rst, gc_thresh3).
//!
//! That file counts all entries. Since Linux 5.0 the limit is held against those alone that the kernel
//! may sweep out (net/core/neighbour.c: `gc_entries` in neigh_alloc); left out are those that are
//! permanent, learned from outside (NTF_EXT_LEARNED: EVPN) or, since 6.18, validated from there
//! (`exempt_from_gc` in neigh_update_gc_list), which overlays make by the thousand. NUD_NOARP ones count.
//! No file tells them apart, so a cell asks for them by netlink, which shows those of this namespace.

use std::sync::Arc;
use std::time::Duration;

use super::sockets::{Pace, Told};
use super::text::{KernelFile, Setting, number, single, statistics};
use super::{Namespace, Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;
use crate::client::netlink::{Netlink, Protocol, Trouble, attributes, u16_at, u32_at};
use crate::lanes::Cells;
use crate::outcome::Fault;
use crate::time::Mono;

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

/// `struct ndmsg` (uapi/linux/neighbour.h).
const HEADER: usize = 12;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NUD_PERMANENT: u16 = 0x80;
const NTF_EXT_LEARNED: u8 = 0x10;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_EXT_VALIDATED: u32 = 1 << 2;

/// The first release of Linux whose limit does not count all.
const EXEMPTS: u64 = 5;

/// How often those are asked for that don't count: who makes them does so once. Cells are asked every
/// five seconds, a little early or late: it is every thirty.
const EVERY: Duration = Duration::from_secs(29);

/// A table that is no fuller than this with all that it holds has room, whichever of them count.
const ROOM: f64 = 0.5;

/// Which table an entry is in that the limit does not count: 0 that of IPv4, 1 that of IPv6.
fn exempt(body: &[u8]) -> Option<usize> {
    let table = match *body.first()? {
        AF_INET => 0,
        AF_INET6 => 1,
        _ => return None,
    };
    let further = body.get(HEADER..).unwrap_or_default();
    let validated = || {
        let flags = attributes(further).find(|(kind, _)| *kind == NDA_FLAGS_EXT);
        let flags = flags.and_then(|(_, value)| u32_at(value, 0)).unwrap_or_default();
        flags & NTF_EXT_EXT_VALIDATED != 0
    };
    let exempt = u16_at(body, 8)? & NUD_PERMANENT != 0
        || body.get(10)? & NTF_EXT_LEARNED != 0
        || validated();
    exempt.then_some(table)
}

/// Whether a kernel of this release holds its limit against all entries.
fn counts_all(release: &[u8]) -> bool {
    let major = release.split(|byte| *byte == b'.').next().and_then(number);
    major.is_some_and(|major| major < EXEMPTS)
}

fn count(netlink: &mut Netlink) -> Result<[u64; 2], Trouble> {
    let mut counts = [0, 0];
    netlink.dump(RTM_GETNEIGH, &[0; HEADER], |kind, body| {
        let table = exempt(body).filter(|_| kind == RTM_NEWNEIGH);
        if let Some(count) = table.and_then(|table| counts.get_mut(table)) {
            *count += 1;
        }
    })?;
    Ok(counts)
}

/// How many entries of either table the limit does not count.
enum Exempt {
    /// Decided at the first reading.
    Undecided,
    /// This kernel counts all.
    Nothing,
    Asked(Pace<[u64; 2], Trouble>, Option<Arc<[u64; 2]>>),
    Untold(Arc<Fault>),
}

impl Exempt {
    fn of(paths: &Paths) -> Self {
        let release = std::fs::read(paths.procfs.join("sys/kernel/osrelease"));
        if release.is_ok_and(|release| counts_all(&release)) {
            return Self::Nothing;
        }
        match Namespace::of(paths) {
            Namespace::Recorded => Self::Nothing,
            Namespace::Other => {
                let file = network_folder(paths).join("dev");
                Self::Untold(Arc::new(Namespace::Other.fault(&file)))
            }
            Namespace::Own => {
                let mut netlink = Netlink::new(Protocol::Route);
                let read = move || count(&mut netlink);
                let pace = Pace::new("the neighbours", EVERY, &Told::default(), read);
                Self::Asked(pace, None)
            }
        }
    }

    /// None while they are not known.
    fn told(&self) -> Option<[u64; 2]> {
        match self {
            Self::Nothing => Some([0, 0]),
            Self::Asked(pace, told) => told.as_deref().filter(|_| pace.fault.is_none()).copied(),
            Self::Undecided | Self::Untold(_) => None,
        }
    }

    fn fault(&self) -> Option<&Arc<Fault>> {
        match self {
            Self::Asked(pace, _) => pace.fault.as_ref(),
            Self::Untold(fault) => Some(fault),
            Self::Undecided | Self::Nothing => None,
        }
    }
}

/// The fuller of both tables, by what their limits count. None where that is not known: then what they
/// hold in all tells it only while that is little.
fn fullest(tables: &[Table], exempt: Option<[u64; 2]>) -> Option<Slot> {
    let share = |exempt: [u64; 2]| {
        tables.iter().zip(exempt).try_fold(0f64, |most, (table, exempt)| {
            let Some(entries) = table.entries else { return Some(most) };
            Some(most.max(entries.saturating_sub(exempt) as f64 / table.limit? as f64))
        })
    };
    match (exempt, share(exempt.unwrap_or_default())) {
        (_, None) => Some(Slot::MISSING),
        (None, Some(share)) if share > ROOM => None,
        (_, Some(share)) => Some(Slot::Number(share)),
    }
}

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
    cells: Cells,
    paths: Paths,
    exempt: Exempt,
    families: [Family; 2],
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells) -> Self {
        let folder = network_folder(paths).join("stat");
        let families = [("ipv4", "arp_cache", false), ("ipv6", "ndisc_cache", true)];
        Self {
            cells: cells.clone(),
            paths: paths.clone(),
            exempt: Exempt::Undecided,
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
    fn begin(&mut self, at: Mono) {
        if let Exempt::Asked(pace, _) = &mut self.exempt {
            pace.begin(&self.cells, at);
        }
    }

    fn read(&mut self, tick: &mut Tick) -> bool {
        for family in &mut self.families {
            family.read(tick);
        }
        if let Exempt::Undecided = self.exempt {
            self.exempt = Exempt::of(&self.paths);
        }
        if let Exempt::Asked(pace, told) = &mut self.exempt {
            *told = pace.turn(&self.cells, tick.at, |trouble| trouble.fault("the neighbours"));
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
        let exempt = self.exempt.told();
        // A table that is not there holds nothing; the other must be known.
        let known = present().all(|family| family.now.entries.is_some());
        let tables = self.families.each_ref().map(|family| family.now);
        let fill = if known { fullest(&tables, exempt) } else { Some(Slot::MISSING) };
        let doubt = self.exempt.fault().filter(|_| fill.is_none());
        let threshold = || present().find_map(|family| family.threshold.fault());
        sink.under(fault.or_else(threshold).or(doubt));
        sink.put(&metric::NEIGHBOURS_FILL, &[], fill.unwrap_or(Slot::Nothing));
        for (family, exempt) in
            self.families.iter().zip(exempt.map_or([None; 2], |each| each.map(Some)))
        {
            let labels = [&family.word];
            sink.under(family.statistics.fault());
            sink.put(&metric::NEIGHBOURS, &labels, Slot::of(family.now.entries));
            sink.under(self.exempt.fault());
            let exempt = exempt.map_or(Slot::Nothing, |count| Slot::Number(count as f64));
            sink.put(&metric::NEIGHBOURS_EXEMPT, &labels, exempt);
            sink.under(family.threshold.fault());
            sink.put(&metric::NEIGHBOURS_LIMIT, &labels, Slot::of(family.now.limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{fixture, mangled};
    use crate::node::text::Column;

    /// An entry as the kernel tells it, with an attribute before its further flags.
    fn entry(family: u8, state: u16, flags: u8, further: u32) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0, 7, 0, 0, 0];
        body.extend(state.to_ne_bytes());
        body.extend([flags, 1]);
        for (kind, value) in [(1, 0x0100_000a), (NDA_FLAGS_EXT, further)] {
            body.extend([8u16, kind].map(u16::to_ne_bytes).concat());
            body.extend(u32::to_ne_bytes(value));
        }
        body
    }

    #[test]
    fn the_limit_does_not_count_what_the_kernel_never_sweeps_out() {
        let (reachable, noarp) = (0x02, 0x40);
        assert_eq!(exempt(&entry(AF_INET, NUD_PERMANENT, 0, 0)), Some(0));
        assert_eq!(exempt(&entry(AF_INET6, NUD_PERMANENT, 0, 0)), Some(1));
        assert_eq!(exempt(&entry(AF_INET, noarp, NTF_EXT_LEARNED, 0)), Some(0));
        assert_eq!(exempt(&entry(AF_INET6, reachable, 0, NTF_EXT_EXT_VALIDATED)), Some(1));
        // Managed by the kernel is not exempt, nor is what needs no question, nor a bridge's entry.
        assert_eq!(exempt(&entry(AF_INET, reachable, 0, 1)), None);
        assert_eq!(exempt(&entry(AF_INET, noarp, 0, 0)), None);
        assert_eq!(exempt(&entry(7, NUD_PERMANENT, 0, 0)), None);
        for end in 0..28 {
            let _ = exempt(&entry(AF_INET, reachable, 0, NTF_EXT_EXT_VALIDATED)[..end]);
        }

        assert!(counts_all(b"4.18.0-553.el8_10.x86_64\n") && counts_all(b"3.10.0-1160\n"));
        assert!(!counts_all(b"5.0.0\n") && !counts_all(b"10.2\n") && !counts_all(b"\n"));
        let table = |entries| Table { entries, refused: Some(0), limit: Some(1000) };
        let of = |entries: [u64; 2], exempt| fullest(&entries.map(|n| table(Some(n))), exempt);
        assert_eq!(of([5100, 40], Some([5000, 0])), Some(Slot::Number(0.1)));
        assert_eq!(of([5100, 40], Some([0, 40])), Some(Slot::Number(5.1)));
        assert_eq!(of([400, 950], Some([400, 0])), Some(Slot::Number(0.95)));
        // Where nobody can tell them apart, all of them are the most that count.
        assert_eq!(of([400, 500], None), Some(Slot::Number(0.5)));
        assert_eq!(of([400, 501], None), None);
        assert_eq!(
            fullest(&[table(None), table(Some(7))], Some([0, 0])),
            Some(Slot::Number(0.007))
        );
        let unlimited = Table { limit: None, ..table(Some(7)) };
        assert_eq!(fullest(&[unlimited], Some([0, 0])), Some(Slot::MISSING));
    }

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
