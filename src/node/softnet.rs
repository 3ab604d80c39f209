//! /proc/net/softnet_stat: what each processor could not take off its queue of received packets.

use super::text::{KernelFile, fields, hex, lines};
use super::{Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;

/// Summed over the processors; 32 bits each in the kernel, so a sum may go backwards once they
/// wrap, which is then a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
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
            drops: before.drops.saturating_add(drops),
            squeezes: before.squeezes.saturating_add(squeezes),
        });
    }
    sum
}

pub(super) struct Source {
    file: KernelFile,
    now: Reading,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::short_lines(network_folder(paths).join("softnet_stat")),
            now: Reading::default(),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if !tick.all {
            return false;
        }
        let Some(text) = self.file.read(&mut tick.buffer) else { return false };
        match parse(text) {
            Some(now) => self.now = now,
            None => self.file.garbled("does not hold a line for each processor"),
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::SOFTNET_DROPS, &[], Slot::of(Some(self.now.drops)));
        sink.put(&metric::SOFTNET_SQUEEZES, &[], Slot::of(Some(self.now.squeezes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{fixture, mangled};

    #[test]
    fn the_processors_are_added_up() {
        let text = b"00006b2f 0000000a 00000002 0 0\n000059aa 00000001 0000000f 0 0\n";
        assert_eq!(parse(text), Some(Reading { drops: 11, squeezes: 17 }));
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
