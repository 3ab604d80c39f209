//! What waits to be sent: the root queueing discipline of each interface (tc(8),
//! uapi/linux/pkt_sched.h and gen_stats.h). Those below it are in its figures already.

use crate::client::netlink::{Netlink, Trouble, attributes, u32_at};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;

const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;

/// The parent of what is the root; that of received packets has another.
const TC_H_ROOT: u32 = 0xffff_ffff;

/// `struct tcmsg`.
const HEADER: usize = 20;

/// One for each interface, and a few thousand more of those that share between classes.
const QUEUES_LIMIT: usize = 4096;

/// `struct gnet_stats_queue`, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) packets: u32,
    pub(super) bytes: u32,
    pub(super) drops: u32,
    /// How often a packet had to wait for the rate that was set.
    pub(super) overlimits: u32,
}

/// The interface and its queue; None for what is no root, and where nothing ever waits.
fn told(body: &[u8]) -> Option<(u32, Queue)> {
    let interface = u32_at(body, 4)?;
    if u32_at(body, 12)? != TC_H_ROOT {
        return None;
    }
    let mut queue = None;
    for (attribute, value) in attributes(body.get(HEADER..)?) {
        match attribute {
            TCA_KIND if value.split(|byte| *byte == 0).next() == Some(b"noqueue") => return None,
            TCA_STATS2 => {
                let found = attributes(value).find(|(kind, _)| *kind == TCA_STATS_QUEUE);
                queue = found.and_then(|(_, value)| {
                    Some(Queue {
                        packets: u32_at(value, 0)?,
                        bytes: u32_at(value, 4)?,
                        drops: u32_at(value, 8)?,
                        overlimits: u32_at(value, 16)?,
                    })
                });
            }
            _ => {}
        }
    }
    Some((interface, queue?))
}

/// The queues of all interfaces that have one.
pub(super) fn list(netlink: &mut Netlink, queues: &mut Vec<(u32, Queue)>) -> Result<(), Trouble> {
    queues.clear();
    netlink.dump(RTM_GETQDISC, &[0; HEADER], |kind, body| {
        if kind == RTM_NEWQDISC && queues.len() < QUEUES_LIMIT {
            queues.extend(told(body));
        }
    })
}

#[cfg(test)]
mod tests;
