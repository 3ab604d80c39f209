//! /proc/meminfo: how the memory is used.

use std::sync::Arc;

use super::text::{KernelFile, Named, fields, lines, number};
use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;

/// The file's names and ours, those that say something about a bottleneck.
const FIELDS: [(&[u8], &str); 17] = [
    (b"MemTotal:", "total"),
    (b"MemAvailable:", "available"),
    (b"MemFree:", "free"),
    (b"Buffers:", "buffers"),
    (b"Cached:", "cached"),
    (b"Dirty:", "dirty"),
    (b"Writeback:", "writeback"),
    (b"AnonPages:", "anonymous"),
    (b"Shmem:", "shared"),
    (b"SReclaimable:", "slab_reclaimable"),
    (b"SUnreclaim:", "slab_unreclaimable"),
    (b"SwapTotal:", "swap_total"),
    (b"SwapFree:", "swap_free"),
    (b"CommitLimit:", "commit_limit"),
    (b"Committed_AS:", "committed"),
    (b"HardwareCorrupted:", "hardware_corrupted"),
    // Since Linux 4.15; of all sizes together.
    (b"Hugetlb:", "huge_pages"),
];
const TOTAL: usize = 0;
const AVAILABLE: usize = 1;
const SWAP_SIZE: usize = 11;
const COMMIT_LIMIT: usize = 13;
const COMMITTED: usize = 14;
const CORRUPTED: usize = 15;
const HUGE_PAGES: usize = 16;

/// Bytes by field.
type Reading = [Option<u64>; FIELDS.len()];

fn place(name: &[u8]) -> Option<usize> {
    FIELDS.iter().position(|(field, _)| *field == name)
}

fn bytes(rest: &[u8]) -> Option<u64> {
    let mut words = fields(rest);
    let value = words.next().and_then(number)?;
    value.checked_mul(1024).filter(|_| words.next() == Some(b"kB"))
}

fn taken(found: &[(usize, Option<u64>)]) -> Result<Reading, &'static str> {
    let mut reading = Reading::default();
    for (place, bytes) in found {
        if let Some(field) = reading.get_mut(*place) {
            *field = *bytes;
        }
    }
    match reading[TOTAL] {
        None | Some(0) => Err("does not say how much memory there is"),
        Some(_) => Ok(reading),
    }
}

/// The share that new work could get. More available than there is makes no sense. What is set aside as
/// huge pages was given away on purpose: a database may have nine tenths of its node so, and no other work
/// ever had them. What ZFS caches it gives back, though the kernel takes it for used.
fn available(reading: &Reading, given_back: u64) -> Slot {
    match (reading[TOTAL], reading[AVAILABLE]) {
        (Some(total), Some(available)) if total > 0 && available <= total => {
            let ordinary = total.saturating_sub(reading[HUGE_PAGES].unwrap_or(0));
            match ordinary {
                0 => Slot::MISSING,
                _ => {
                    let available = available.saturating_add(given_back).min(ordinary);
                    Slot::Number(available as f64 / ordinary as f64)
                }
            }
        }
        _ => Slot::MISSING,
    }
}

/// What the cache of ZFS (ARC) would shrink by for others (kstat `arcstats`: lines of a name, a type and
/// a number). None where the text is no such list.
fn shrinkable(text: &[u8]) -> Option<u64> {
    let value = |wanted: &[u8]| {
        lines(text).find_map(|line| {
            let mut words = fields(line);
            (words.next() == Some(wanted)).then(|| words.nth(1).and_then(number)).flatten()
        })
    };
    Some(value(b"size")?.saturating_sub(value(b"c_min")?))
}

/// The share of the commit limit that is promised; more than all where nothing enforces it.
fn committed(reading: &Reading) -> Slot {
    match (reading[COMMIT_LIMIT], reading[COMMITTED]) {
        (Some(limit), Some(committed)) if limit > 0 => {
            Slot::Number(committed as f64 / limit as f64)
        }
        _ => Slot::MISSING,
    }
}

pub(super) struct Source {
    file: KernelFile,
    lines: Named,
    names: [Arc<str>; FIELDS.len()],
    now: Reading,
    /// Not there where the module is not.
    zfs: KernelFile,
    given_back: u64,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::at_once(paths.procfs.join("meminfo")),
            lines: Named::new(place, bytes),
            names: FIELDS.map(|(_, name)| Arc::from(name)),
            now: Reading::default(),
            zfs: KernelFile::at_once(paths.procfs.join("spl/kstat/zfs/arcstats")),
            given_back: 0,
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if tick.all {
            let cached = self.zfs.read(&mut tick.buffer).and_then(shrinkable);
            self.given_back = cached.unwrap_or(0);
        }
        let Some(text) = self.file.read(&mut tick.buffer) else { return false };
        match taken(self.lines.read(text)) {
            Ok(now) => self.now = now,
            Err(what) => self.file.garbled(what),
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::MEMORY_AVAILABLE, &[], available(&self.now, self.given_back));
        sink.put(&metric::MEMORY_COMMITTED, &[], committed(&self.now));
        sink.put(&metric::MEMORY_CORRUPTED, &[], Slot::of(self.now[CORRUPTED]));
        sink.put(&metric::SWAP_SIZE, &[], Slot::of(self.now[SWAP_SIZE]));
        for (name, bytes) in self.names.iter().zip(self.now) {
            sink.put(&metric::MEMORY_BYTES, &[name], Slot::of(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, fixture, mangled, sample};
    use crate::node::{Frame, Sampler, Signal};

    fn parse(text: &[u8]) -> Result<Reading, &'static str> {
        taken(Named::new(place, bytes).read(text))
    }

    #[test]
    fn a_recorded_file() {
        let reading = parse(&fixture("idle/proc/meminfo")).unwrap();
        assert_eq!(reading[TOTAL], Some(25_253_692 * 1024));
        assert_eq!(reading[AVAILABLE], Some(24_120_448 * 1024));
        assert!(reading.iter().all(Option::is_some), "{reading:?}");
        assert_eq!(available(&reading, 0), Slot::Number(24_120_448.0 / 25_253_692.0));
        assert_eq!(committed(&reading), Slot::Number(1_105_436.0 / 14_723_992.0));
        assert_eq!(reading[SWAP_SIZE], Some(2_097_148 * 1024));
        assert_eq!(reading[CORRUPTED], Some(0));
    }

    #[test]
    fn what_huge_pages_have_is_not_missed_and_what_zfs_caches_is_given_back() {
        let text = b"MemTotal: 1000 kB\nMemAvailable: 50 kB\nHugetlb: 900 kB\n";
        let reading = parse(text).unwrap();
        assert_eq!(available(&reading, 0), Slot::Number(0.5));
        assert_eq!(available(&reading, 25 * 1024), Slot::Number(0.75));
        assert_eq!(available(&reading, u64::MAX), Slot::Number(1.0));
        let all = parse(b"MemTotal: 9 kB\nMemAvailable: 9 kB\nHugetlb: 9 kB\n").unwrap();
        assert_eq!(available(&all, 0), Slot::MISSING);

        let arc = b"9 1 0x01 147 39984 4318279441 350735478\nname type data\nhits 4 912\n\
            c 4 8000000\nc_min 4 1000000\nc_max 4 9000000\nsize 4 7000000\n";
        assert_eq!(shrinkable(arc), Some(6_000_000));
        for text in ["", "size 4 7\n", "size 4\nc_min 4 1\n", "size 4 x\nc_min 4 1\n"] {
            assert_eq!(shrinkable(text.as_bytes()), None, "{text:?}");
        }
        mangled("arcstats", arc, |text| {
            let _ = shrinkable(text);
        });

        let copy = Copy::of("idle");
        let zfs = copy.paths().procfs.join("spl/kstat/zfs");
        std::fs::create_dir_all(zfs).unwrap();
        copy.write("proc/spl/kstat/zfs/arcstats", "size 4 20000000000\nc_min 4 800000000\n");
        copy.write("proc/meminfo", "MemTotal: 25000000 kB\nMemAvailable: 2000000 kB\n");
        let mut frame = Frame::default();
        sample(&mut Sampler::new(&copy.paths(), &Cells::new()), 0, &mut frame);
        match frame.find("node.memory.available", None) {
            Some(Signal::Number(share)) => assert!((0.82..0.84).contains(&share), "{share}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_absent_and_never_zero() {
        // Kernels before 3.14 have no MemAvailable.
        let reading = parse(b"MemTotal: 1000 kB\nMemFree: 500 kB\n").unwrap();
        assert_eq!(available(&reading, 0), Slot::MISSING);
        let reading = parse(b"MemTotal: 1000 kB\nMemAvailable: 1001 kB\n").unwrap();
        assert_eq!(available(&reading, 0), Slot::MISSING);
        assert_eq!(committed(&reading), Slot::MISSING);
        assert_eq!(parse(b"MemTotal: 18446744073709551615 kB\n"), parse(b""));
        for text in ["", "MemTotal: 1000", "MemTotal: 0 kB\n", "MemTotal: x kB\n", "MemTotal:\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let lines = std::cell::RefCell::new(Named::new(place, bytes));
        mangled("meminfo", &fixture("idle/proc/meminfo"), |text| {
            let reading = taken(lines.borrow_mut().read(text));
            assert_eq!(reading, parse(text), "what was read before says nothing");
            if let Ok(reading) = reading
                && let Slot::Number(ratio) = available(&reading, 0)
            {
                assert!((0.0..=1.0).contains(&ratio));
            }
        });
    }
}
