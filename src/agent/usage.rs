//! What this process takes of the node.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

pub(super) struct Usage {
    /// Bytes resident now.
    pub(super) resident: u64,
    /// Processor time in user and kernel mode.
    pub(super) cpu: Duration,
}

/// None where the kernel does not say.
pub(super) fn own() -> Option<Usage> {
    // proc(5): the second field of statm is the resident set, in pages.
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = |value: nix::sys::time::TimeVal| {
        Duration::from_secs(u64::try_from(value.tv_sec()).unwrap_or(0))
            + Duration::from_micros(u64::try_from(value.tv_usec()).unwrap_or(0))
    };
    Some(Usage {
        resident: pages.saturating_mul(u64::try_from(page).ok()?),
        cpu: time(usage.user_time()) + time(usage.system_time()),
    })
}
