//! /proc/loadavg: the kernel's load averages.

use std::sync::Arc;

use super::text::{KernelFile, decimal, fields, lines, number};
use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    loads: [f64; 3],
    tasks: u64,
}

fn parse(text: &[u8]) -> Option<Reading> {
    let mut words = fields(lines(text).next()?);
    let mut load = || decimal(words.next()?);
    let loads = [load()?, load()?, load()?];
    let mut tasks = words.next()?.split(|byte| *byte == b'/');
    Some(Reading { loads, tasks: tasks.nth(1).and_then(number)? })
}

pub(super) struct Source {
    file: KernelFile,
    periods: [Arc<str>; 3],
    now: Reading,
    cpus: usize,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::at_once(paths.procfs.join("loadavg")),
            periods: ["1m", "5m", "15m"].map(Arc::from),
            now: Reading::default(),
            cpus: 0,
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.cpus = tick.cpus;
        tick.tasks = None;
        let Some(text) = self.file.read(&mut tick.buffer) else { return false };
        match parse(text) {
            Some(now) => {
                self.now = now;
                tick.tasks = Some(now.tasks);
            }
            None => self.file.garbled("does not hold three averages and the tasks"),
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        let [minute, ..] = self.now.loads;
        let per_core = match self.cpus {
            0 => Slot::MISSING,
            cpus => Slot::Number(minute / cpus as f64),
        };
        sink.put(&metric::LOAD_PER_CORE, &[], per_core);
        for (period, load) in self.periods.iter().zip(self.now.loads) {
            sink.put(&metric::LOAD, &[period], Slot::Number(load));
        }
        sink.put(&metric::TASKS, &[], Slot::Number(self.now.tasks as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::mangled;

    #[test]
    fn the_three_averages_and_the_tasks() {
        let reading = parse(b"0.03 1.29 12.50 1/123 4567\n");
        assert_eq!(reading, Some(Reading { loads: [0.03, 1.29, 12.5], tasks: 123 }));
    }

    #[test]
    fn what_is_no_loadavg() {
        for text in [
            "",
            "0.03 1.29 12.50 1/123 4567",
            "0.03 1.29\n",
            "inf 1 1 1/1 1\n",
            "-1 1 1 1/1 1\n",
            "1 1 1 1 1\n",
            "1 1 1 1/x 1\n",
            "1e999 1 1 1/1 1\n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        mangled("loadavg", b"0.03 1.29 12.50 1/123 4567\n", |text| {
            let _ = parse(text);
        });
    }
}
