//! /proc/schedstat: how long tasks waited for a processor though they could run.
//!
//! It is there where the kernel was built with CONFIG_SCHEDSTATS, and counts without being
//! switched on.

use std::sync::Arc;

use super::stat::CPUS_LIMIT;
use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Step, Tick};
use crate::catalogue::node as metric;
use crate::time::Mono;

/// The field of a processor's line with the time that tasks waited, in nanoseconds
/// (Documentation/scheduler/sched-stats.rst: the eighth; the same in versions 14 to 17).
const WAITING: usize = 7;

const NANOSECOND: f64 = 1e-9;

/// Processors with what tasks have waited for them. False where the text is no schedstat.
fn parse(text: &[u8], into: &mut Vec<(u64, u64)>) -> bool {
    into.clear();
    let mut versioned = false;
    for line in lines(text) {
        let mut words = fields(line);
        let Some(word) = words.next() else { continue };
        versioned |= word == b"version";
        let Some(id) = word.strip_prefix(b"cpu").and_then(number) else { continue };
        let Some(waiting) = words.nth(WAITING).and_then(number) else { continue };
        if into.len() < CPUS_LIMIT {
            into.push((id, waiting));
        }
    }
    versioned && !into.is_empty()
}

pub(super) struct Source {
    file: KernelFile,
    names: Vec<(u64, Arc<str>)>,
    now: Vec<(u64, u64)>,
    before: Vec<(u64, u64)>,
    before_at: Option<Mono>,
    wait: Slot,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::new(paths.procfs.join("schedstat")),
            names: Vec::new(),
            now: Vec::new(),
            before: Vec::new(),
            before_at: None,
            wait: Slot::Nothing,
        }
    }

    /// Seconds of waiting in a second, for each processor that was there before as well.
    fn waited(&self, step: Step) -> Slot {
        if step.seconds.is_none() {
            return Slot::Nothing;
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for ((id, now), (before_id, before)) in self.now.iter().zip(&self.before) {
            if id != before_id {
                return Slot::Nothing;
            }
            match step.rate(Some(*before), Some(*now)) {
                Slot::Number(rate) => sum += rate * NANOSECOND,
                other => return other,
            }
            count += 1.0;
        }
        if count == 0.0 { Slot::Nothing } else { Slot::Number(sum / count) }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.wait = Slot::Nothing;
        let Some(text) = self.file.read(&mut tick.buffer) else {
            self.before_at = None;
            return false;
        };
        std::mem::swap(&mut self.now, &mut self.before);
        if !parse(text, &mut self.now) {
            self.file.garbled("names no processor");
            self.before_at = None;
            return false;
        }
        let step = Step::between(self.before_at.replace(tick.at), tick.at);
        self.wait = self.waited(step);
        let same = self.names.len() == self.now.len()
            && self.names.iter().zip(&self.now).all(|((id, _), (now, _))| id == now);
        if !same {
            self.names = self.now.iter().map(|(id, _)| (*id, Arc::from(id.to_string()))).collect();
        }
        !same
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::CPU_WAIT, &[], self.wait);
        for (index, (_, name)) in self.names.iter().enumerate() {
            let waiting = self.now.get(index).map(|(_, waiting)| *waiting);
            sink.put(&metric::CPU_WAIT_SECONDS, &[name], Slot::scaled(waiting, NANOSECOND));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{fixture, mangled};

    fn read(text: &[u8]) -> Option<Vec<(u64, u64)>> {
        let mut cpus = Vec::new();
        parse(text, &mut cpus).then_some(cpus)
    }

    #[test]
    fn a_recorded_file() {
        let cpus = read(&fixture("idle/proc/schedstat")).unwrap();
        assert_eq!(cpus, [(0, 113_861_212), (1, 98_421_990)]);
    }

    #[test]
    fn what_is_no_schedstat() {
        for text in ["", "version 15\n", "cpu0 0 0 0 0 0 0 1 2 3\n", "version 15\ncpu0 1 2\n"] {
            assert_eq!(read(text.as_bytes()), None, "{text:?}");
        }
        mangled("schedstat", &fixture("idle/proc/schedstat"), |text| {
            if let Some(cpus) = read(text) {
                assert!(cpus.len() <= CPUS_LIMIT);
            }
        });
    }
}
