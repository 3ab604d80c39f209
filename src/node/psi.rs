//! /proc/pressure: the share of time in which tasks stalled for want of a resource.
//!
//! Always from the growth of `total` over the second; the kernel's own averages are smoothed over
//! at least ten. Compiled in and switched off by default on RHEL 8 and newer: then it is absent
//! as unsupported, and no gate may take that for "no pressure".

use std::sync::Arc;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Step, Tick};
use crate::catalogue::{Metric, node as metric};
use crate::time::Mono;

/// Microseconds of stall since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    some: Option<u64>,
    /// For the processor only since Linux 5.13; for interrupts it is the only one.
    full: Option<u64>,
}

fn parse(text: &[u8]) -> Option<Reading> {
    let mut reading = Reading::default();
    for line in lines(text) {
        let mut words = fields(line);
        let field = match words.next() {
            Some(b"some") => &mut reading.some,
            Some(b"full") => &mut reading.full,
            _ => continue,
        };
        *field = words.find_map(|word| word.strip_prefix(b"total=")).and_then(number);
    }
    (reading != Reading::default()).then_some(reading)
}

/// One file and what is judged of it.
struct Resource {
    name: Arc<str>,
    file: KernelFile,
    some: Option<&'static Metric>,
    full: Option<&'static Metric>,
    now: Reading,
    before: Reading,
    before_at: Option<Mono>,
    step: Step,
}

/// Its place.
const MEMORY: usize = 1;

pub(super) struct Source {
    resources: [Resource; 4],
    shares: [Arc<str>; 2],
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = paths.procfs.join("pressure");
        let resource = |name: &str, some, full| Resource {
            name: Arc::from(name),
            file: KernelFile::at_once(folder.join(name)),
            some,
            full,
            now: Reading::default(),
            before: Reading::default(),
            before_at: None,
            step: Step::between(None, Mono::default()),
        };
        Self {
            resources: [
                // At the level of the whole system "full" means nothing for the processor
                // (Documentation/accounting/psi.rst) and reads 0.
                resource("cpu", Some(&metric::PSI_CPU_SOME), None),
                resource("memory", Some(&metric::PSI_MEMORY_SOME), Some(&metric::PSI_MEMORY_FULL)),
                resource("io", Some(&metric::PSI_IO_SOME), Some(&metric::PSI_IO_FULL)),
                resource("irq", None, Some(&metric::PSI_IRQ_FULL)),
            ],
            shares: ["some", "full"].map(Arc::from),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        for resource in &mut self.resources {
            let Some(reading) = resource.file.read(&mut tick.buffer).map(parse) else {
                resource.before_at = None;
                continue;
            };
            let Some(now) = reading else {
                resource.file.garbled("holds no total");
                resource.before_at = None;
                continue;
            };
            resource.before = std::mem::replace(&mut resource.now, now);
            resource.step = Step::between(resource.before_at.replace(tick.at), tick.at);
        }
        let memory = self.resources.get(MEMORY);
        tick.pressure = memory.is_some_and(|memory| memory.before_at.is_some());
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        const MICROSECOND: f64 = 1e-6;
        let [some, full] = &self.shares;
        for resource in &self.resources {
            let Resource { name, now, before, step, .. } = resource;
            sink.under(resource.file.fault());
            if let Some(metric) = resource.some {
                sink.put(metric, &[], step.share(before.some, now.some, MICROSECOND));
                let total = Slot::scaled(now.some, MICROSECOND);
                sink.put(&metric::PRESSURE_SECONDS, &[name, some], total);
            }
            if let Some(metric) = resource.full {
                sink.put(metric, &[], step.share(before.full, now.full, MICROSECOND));
                let total = Slot::scaled(now.full, MICROSECOND);
                sink.put(&metric::PRESSURE_SECONDS, &[name, full], total);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::mangled;

    const IO: &[u8] = b"some avg10=0.02 avg60=0.08 avg300=0.20 total=8657436\n\
        full avg10=0.02 avg60=0.08 avg300=0.19 total=7998863\n";

    #[test]
    fn totals_are_read_and_averages_are_not() {
        assert_eq!(parse(IO), Some(Reading { some: Some(8_657_436), full: Some(7_998_863) }));
        // Before Linux 5.13 the processor has no second line.
        let cpu = parse(b"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(cpu, Some(Reading { some: Some(0), full: None }));
    }

    #[test]
    fn what_is_no_pressure() {
        for text in ["", "some total=1", "some avg10=1\n", "some total=x\n", "none total=1\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        mangled("pressure", IO, |text| {
            let _ = parse(text);
        });
    }
}
