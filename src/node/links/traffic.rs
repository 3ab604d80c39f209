//! A line of /proc/net/dev, and which drops count.

use crate::node::text::{fields, number};
use crate::node::{Slot, Step};

/// Drops count as lost where a direction has so many in a second, and so large a share of its packets
/// (ceph-mixin CephNodeNetworkPacketDrops). Fewer are of packets that nobody wanted: a switch's own
/// protocols; a smaller share is what a busy link lives with.
const LOST_LEAST: f64 = 10.0;
const LOST_SHARE: f64 = 0.005;

/// The columns that are used (net/core/net-procfs.c); drops of receiving include those for want of
/// buffers in the device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Direction {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) errors: u64,
    pub(super) drops: u64,
}

pub(super) fn parse(line: &[u8]) -> Option<(&[u8], [Direction; 2])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii();
    let mut columns = [0; 16];
    let mut words = fields(line.get(colon + 1..)?);
    for column in &mut columns {
        *column = number(words.next()?)?;
    }
    let [rb, rp, re, rd, _, _, _, _, tb, tp, te, td, ..] = columns;
    let direction = |bytes, packets, errors, drops| Direction { bytes, packets, errors, drops };
    // A name with a blank in it is the file's heading.
    let plain = |byte: &u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    (!name.is_empty() && name.iter().all(plain))
        .then_some((name, [direction(rb, rp, re, rd), direction(tb, tp, te, td)]))
}

/// Drops that count, of those between two readings.
pub(super) fn lost(step: Step, before: &Direction, now: &Direction) -> u64 {
    if now.drops <= before.drops {
        return 0;
    }
    let packets = step.rate(Some(before.packets), Some(now.packets));
    match (step.rate(Some(before.drops), Some(now.drops)), packets) {
        (Slot::Number(drops), Slot::Number(packets))
            // Those that met a full ring are not among the packets.
            if drops >= LOST_LEAST && drops >= LOST_SHARE * (packets + drops) =>
        {
            now.drops.saturating_sub(before.drops)
        }
        _ => 0,
    }
}
