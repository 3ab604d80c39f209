//! /proc/vmstat: page faults, swapping, reclaim and kills for want of memory.

use std::sync::Arc;

use super::text::{KernelFile, Named, fields, number};
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

/// The places of what is looked for; refaults follow, in their own order.
const MAJOR_FAULTS: usize = 0;
const SWAP_IN: usize = 1;
const SWAP_OUT: usize = 2;
const STALLS: usize = 3;
const KILLS: usize = 4;
const REFAULTS_FROM: usize = 5;

fn place(name: &[u8]) -> Option<usize> {
    match name {
        b"pgmajfault" => Some(MAJOR_FAULTS),
        b"pswpin" => Some(SWAP_IN),
        b"pswpout" => Some(SWAP_OUT),
        b"oom_kill" => Some(KILLS),
        _ if name.starts_with(b"allocstall") => Some(STALLS),
        _ => {
            let kind = name.strip_prefix(b"workingset_")?;
            let place = REFAULTS.iter().position(|refaults| kind.starts_with(refaults))?;
            Some(REFAULTS_FROM + place)
        }
    }
}

fn value(rest: &[u8]) -> Option<u64> {
    fields(rest).next().and_then(number)
}

/// None where nothing is there that is looked for.
fn taken(found: &[(usize, Option<u64>)]) -> Option<Reading> {
    let mut reading = Reading::default();
    for (place, value) in found {
        let Some(value) = *value else { continue };
        let sum = |sum: &mut Option<u64>| *sum = Some(sum.unwrap_or(0).saturating_add(value));
        match *place {
            MAJOR_FAULTS => reading.major_faults = Some(value),
            SWAP_IN => reading.swap_in = Some(value),
            SWAP_OUT => reading.swap_out = Some(value),
            STALLS => sum(&mut reading.stalls),
            KILLS => reading.oom_kills = Some(value),
            place => reading.refaults.get_mut(place - REFAULTS_FROM).into_iter().for_each(sum),
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
    lines: Named,
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
            file: KernelFile::same_lines(paths.procfs.join("vmstat"), |name| place(name).is_some()),
            lines: Named::new(place, value),
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
        // A stall of a second is seen by its pressure; these count up, and lose nothing.
        if tick.pressure && !tick.all {
            return false;
        }
        let Some(text) = self.file.read(&mut tick.buffer) else {
            self.before_at = None;
            return false;
        };
        let Some(now) = taken(self.lines.read(text)) else {
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
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, fixture, mangled, sample};
    use crate::node::{Frame, Sampler, Signal};

    fn parse(text: &[u8]) -> Option<Reading> {
        taken(Named::new(place, value).read(text))
    }

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
    fn without_pressure_it_is_read_in_each_second() {
        for (told, expected) in [(true, [None, Some(8.0)]), (false, [Some(40.0), Some(0.0)])] {
            let copy = Copy::of("idle");
            if !told {
                copy.remove("proc/pressure/memory");
            }
            let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
            let mut frame = Frame::default();
            sample(&mut sampler, 0, &mut frame);
            copy.replace("proc/vmstat", "pswpin 11", "pswpin 51");
            let seen = [1, 5].map(|second| {
                sample(&mut sampler, second, &mut frame);
                match frame.find("node.swap.in", None) {
                    Some(Signal::Number(rate)) => Some(rate.round()),
                    _ => None,
                }
            });
            assert_eq!(seen, expected, "pressure is told: {told}");
        }
    }

    #[test]
    fn what_is_no_vmstat() {
        for text in ["", "pgmajfault 5", "pgmajfault x\n", "pgmajfault\n", "\0\0\0\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        let lines = std::cell::RefCell::new(Named::new(place, value));
        mangled("vmstat", &fixture("idle/proc/vmstat"), |text| {
            assert_eq!(
                taken(lines.borrow_mut().read(text)),
                parse(text),
                "what was read before says nothing"
            );
        });
    }
}
