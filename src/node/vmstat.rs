//! /proc/vmstat: page faults, swapping, reclaim and kills for want of memory.

use std::sync::Arc;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Step, Tick};
use crate::catalogue::node as metric;
use crate::time::Mono;

/// Beginnings of the counters of refaults, in the order of [`Reading::refaults`].
const REFAULTS: [&[u8]; 3] = [b"refault", b"activate", b"restore"];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    major_faults: Option<u64>,
    swap_in: Option<u64>,
    swap_out: Option<u64>,
    /// Direct reclaim, summed over the zones: one counter until Linux 4.7, one a zone since.
    stalls: Option<u64>,
    /// Since Linux 4.13.
    oom_kills: Option<u64>,
    /// Pages read again after they were taken away: all, those in use when they came back, those
    /// in use when they were taken (since Linux 4.20). One counter each until Linux 5.8, one for
    /// files and one for anonymous memory since.
    refaults: [Option<u64>; 3],
}

fn is_wanted(name: &[u8]) -> bool {
    matches!(name, b"pgmajfault" | b"pswpin" | b"pswpout" | b"oom_kill")
        || name.starts_with(b"workingset_")
        || name.starts_with(b"allocstall")
}

fn parse(text: &[u8]) -> Option<Reading> {
    let mut reading = Reading::default();
    // Two of three lines are told by their first letter.
    for line in lines(text).filter(|line| matches!(line.first(), Some(b'p' | b'o' | b'w' | b'a'))) {
        let mut words = fields(line);
        let (Some(key), Some(value)) = (words.next(), words.next().and_then(number)) else {
            continue;
        };
        match key {
            b"pgmajfault" => reading.major_faults = Some(value),
            b"pswpin" => reading.swap_in = Some(value),
            b"pswpout" => reading.swap_out = Some(value),
            b"oom_kill" => reading.oom_kills = Some(value),
            _ if key.starts_with(b"workingset_") => {
                for (kind, sum) in REFAULTS.iter().zip(&mut reading.refaults) {
                    if key.get(b"workingset_".len()..).is_some_and(|key| key.starts_with(kind)) {
                        *sum = Some(sum.unwrap_or(0).saturating_add(value));
                    }
                }
            }
            _ if key.starts_with(b"allocstall") => {
                reading.stalls = Some(reading.stalls.unwrap_or(0).saturating_add(value));
            }
            _ => {}
        }
    }
    (reading != Reading::default()).then_some(reading)
}

impl Reading {
    /// Pages that work went on with and had to wait for. A refault alone may be a large file that is
    /// read a second time; the kernel counts a page as restored where it was in use when it was
    /// taken, which is what pressure counts too (Documentation/admin-guide/cgroup-v2.rst).
    fn missed(&self) -> Option<u64> {
        let [_, activated, restored] = self.refaults;
        restored.or(activated)
    }
}

pub(super) struct Source {
    file: KernelFile,
    directions: [Arc<str>; 2],
    refaults: [Arc<str>; 3],
    now: Reading,
    before: Reading,
    before_at: Option<Mono>,
    step: Step,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::same_lines(paths.procfs.join("vmstat"), is_wanted),
            directions: ["in", "out"].map(Arc::from),
            refaults: ["all", "activated", "restored"].map(Arc::from),
            now: Reading::default(),
            before: Reading::default(),
            before_at: None,
            step: Step::between(None, Mono::default()),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        let Some(reading) = self.file.read(&mut tick.buffer).map(parse) else {
            self.before_at = None;
            return false;
        };
        let Some(now) = reading else {
            self.file.garbled("holds none of the counters that are looked for");
            self.before_at = None;
            return false;
        };
        self.before = std::mem::replace(&mut self.now, now);
        self.step = Step::between(self.before_at.replace(tick.at), tick.at);
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        let (before, now, step) = (&self.before, &self.now, self.step);
        let major = step.rate(before.major_faults, now.major_faults);
        sink.put(&metric::MAJOR_FAULT_RATE, &[], major);
        sink.put(&metric::STALL_RATE, &[], step.rate(before.stalls, now.stalls));
        sink.put(&metric::SWAP_IN_RATE, &[], step.rate(before.swap_in, now.swap_in));
        sink.put(&metric::SWAP_OUT_RATE, &[], step.rate(before.swap_out, now.swap_out));
        sink.put(&metric::REFAULT_RATE, &[], step.rate(before.missed(), now.missed()));
        for (kind, refaults) in self.refaults.iter().zip(now.refaults) {
            sink.put(&metric::REFAULTS, &[kind], Slot::of(refaults));
        }
        sink.put(&metric::OOM_KILLS, &[], Slot::of(now.oom_kills));
        sink.put(&metric::MAJOR_FAULTS, &[], Slot::of(now.major_faults));
        sink.put(&metric::ALLOCATION_STALLS, &[], Slot::of(now.stalls));
        let [inward, outward] = &self.directions;
        sink.put(&metric::SWAP_PAGES, &[inward], Slot::of(now.swap_in));
        sink.put(&metric::SWAP_PAGES, &[outward], Slot::of(now.swap_out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{fixture, mangled};

    #[test]
    fn a_recorded_file_and_an_older_kernel() {
        let reading = parse(&fixture("idle/proc/vmstat")).unwrap();
        assert_eq!(
            reading,
            Reading {
                major_faults: Some(2270),
                swap_in: Some(11),
                swap_out: Some(12),
                stalls: Some(1 + 2 + 3 + 4 + 5),
                oom_kills: Some(7),
                refaults: [Some(274_996 + 3), Some(193_861 + 2), Some(339 + 1)],
            }
        );
        assert_eq!(reading.missed(), Some(340));
        // Until Linux 5.8 one counter each; until 4.20 none of those restored.
        let older = parse(b"workingset_refault 9\nworkingset_activate 4\n").unwrap();
        assert_eq!((older.refaults, older.missed()), ([Some(9), Some(4), None], Some(4)));
        // Linux 3.10: one counter of stalls, none of kills.
        let older = parse(b"pgmajfault 5\nallocstall 3\n").unwrap();
        assert_eq!((older.stalls, older.oom_kills), (Some(3), None));
    }

    #[test]
    fn what_is_no_vmstat() {
        for text in ["", "pgmajfault 5", "pgmajfault x\n", "pgmajfault\n", "\0\0\0\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        mangled("vmstat", &fixture("idle/proc/vmstat"), |text| {
            let _ = parse(text);
        });
    }
}
