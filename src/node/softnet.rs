//! /proc/net/softnet_stat: what each processor could not take off its queue of received packets.

use super::text::{KernelFile, fields, hex, lines};
use super::total::Total;
use super::{Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;

/// Summed over the processors; 32 bits each in the kernel, so a sum may go backwards once they
/// wrap, which is then a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    processors: usize,
    drops: u64,
    squeezes: u64,
}

/// One line a processor: processed, dropped, squeezed, and more (net/core/net-procfs.c).
fn parse(text: &[u8]) -> Option<Reading> {
    let mut sum = None;
    for line in lines(text) {
        let mut words = fields(line).skip(1);
        let drops = hex(words.next()?)?;
        let squeezes = hex(words.next()?)?;
        let before = sum.unwrap_or(Reading::default());
        sum = Some(Reading {
            processors: before.processors + 1,
            drops: before.drops.saturating_add(drops),
            squeezes: before.squeezes.saturating_add(squeezes),
        });
    }
    sum
}

pub(super) struct Source {
    file: KernelFile,
    drops: Total,
    squeezes: Total,
    now: Option<[u64; 2]>,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::short_lines(network_folder(paths).join("softnet_stat")),
            drops: Total::default(),
            squeezes: Total::default(),
            now: None,
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        let Some(text) = self.file.read(&mut tick.buffer) else { return false };
        match parse(text) {
            Some(Reading { processors, drops, squeezes }) => {
                self.now = Some([
                    self.drops.take(processors, drops),
                    self.squeezes.take(processors, squeezes),
                ]);
            }
            None => self.file.garbled("does not hold a line for each processor"),
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::SOFTNET_DROPS, &[], Slot::of(self.now.map(|[drops, _]| drops)));
        sink.put(&metric::SOFTNET_SQUEEZES, &[], Slot::of(self.now.map(|[_, squeezes]| squeezes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, fixture, mangled, sample};
    use crate::node::{Frame, Sampler, Signal};

    #[test]
    fn a_processor_that_goes_off_line_and_comes_back_dropped_nothing() {
        let copy = Copy::of("idle");
        let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
        let (mut frame, mut second) = (Frame::default(), 0);
        let mut drops = |each: &[u64]| {
            let line = |drops: &u64| format!("00000001 {drops:08x} 00000002 0 0\n");
            copy.write("proc/net/softnet_stat", each.iter().map(line).collect::<String>());
            sample(&mut sampler, second, &mut frame);
            second += 2;
            match frame.find("node.softnet.drops", None) {
                Some(Signal::Number(total)) => total,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(drops(&[7, 50]), 57.0);
        assert_eq!(drops(&[7]), 57.0);
        assert_eq!(drops(&[7, 50]), 57.0);
        assert_eq!(drops(&[8, 50]), 58.0);
    }

    #[test]
    fn the_processors_are_added_up() {
        let text = b"00006b2f 0000000a 00000002 0 0\n000059aa 00000001 0000000f 0 0\n";
        assert_eq!(parse(text), Some(Reading { processors: 2, drops: 11, squeezes: 17 }));
        for text in ["", "00006b2f 0000000a 00000002", "1 2\n", "1 x 2\n", "1 -1 2\n"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        let good = fixture("idle/proc/net/softnet_stat");
        assert!(parse(&good).is_some());
        mangled("softnet_stat", &good, |text| {
            let _ = parse(text);
        });
    }
}
