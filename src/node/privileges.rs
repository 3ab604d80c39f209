//! What this process may do, and what of the node it can't see without more: tested, not assumed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::processes::Processes;
use super::{Frame, Paths, Sampler, Signal, TICK};
use crate::lanes::Cells;
use crate::outcome::FaultCode;
use crate::time::Now;

/// By their numbers (include/uapi/linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What reads a file that its owner keeps to himself.
const READ: &str = "CAP_DAC_READ_SEARCH";
/// What sees into other users' processes.
const LOOK_INTO: &str = "CAP_SYS_PTRACE";
/// The setting that lets a group open ICMP sockets without a capability (icmp(7)).
const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// What this process may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    pub user: u32,
    effective: u64,
    /// Whether one of its groups may open ICMP sockets.
    ping: bool,
}

impl Rights {
    /// Those of this process; in a container too, it is itself that is asked, not the host.
    pub fn own() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range");
        Self::of(&status, &range.unwrap_or_default())
    }

    fn of(status: &str, range: &str) -> Self {
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("")
        };
        let numbers = |text: &str| -> Vec<u32> {
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let effective = u64::from_str_radix(field("CapEff").trim(), 16).unwrap_or(0);
        // Real, effective, saved, filesystem.
        let of_process = numbers(field("Gid")).get(1).copied();
        let groups = of_process.into_iter().chain(numbers(field("Groups")));
        let ping = match numbers(range).as_slice() {
            [from, to] => groups.into_iter().any(|group| (*from..=*to).contains(&group)),
            _ => false,
        };
        let user = numbers(field("Uid")).get(1).copied().unwrap_or(u32::MAX);
        Self { user, effective, ping }
    }

    pub fn has(&self, capability: &str) -> bool {
        CAPABILITIES
            .iter()
            .position(|own| *own == capability)
            .is_some_and(|bit| self.effective >> bit & 1 == 1)
    }

    /// Those it has, in the kernel's order.
    pub fn held(&self) -> Vec<&'static str> {
        CAPABILITIES.into_iter().filter(|capability| self.has(capability)).collect()
    }

    /// Whether one of the ways that a need names is open to this process. None where it names
    /// none that can be tested here.
    pub fn meet(&self, needs: &str) -> Option<bool> {
        let capabilities = named(needs);
        if needs.contains(PING_GROUPS) {
            return Some(self.ping || capabilities.iter().any(|own| self.has(own)));
        }
        if capabilities.is_empty() {
            return None;
        }
        Some(capabilities.iter().any(|own| self.has(own)))
    }
}

/// The capabilities that a text names, in its order.
pub fn named(text: &str) -> Vec<&'static str> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter_map(|word| CAPABILITIES.into_iter().find(|own| *own == word)).collect()
}

/// Something of this node that can't be seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unseen {
    /// The series or metric, or what it is in words.
    pub what: String,
    /// Devices, mount points, interfaces; of one that is all of the node, none.
    pub instances: Vec<String>,
    /// Why, and so what is lost.
    pub why: String,
    /// What would lift it; null where no right does.
    pub needs: Option<&'static str>,
}

/// So many instances are named.
const INSTANCES: usize = 5;

/// Takes two seconds of the node as the agent would, and tells what was not in them. Blocks for a
/// little more than a second.
pub fn unseen(paths: &Paths, now: impl Fn() -> Now, pause: impl Fn(Duration)) -> Vec<Unseen> {
    let cells = Cells::new();
    let mut sampler = Sampler::new(paths, &cells);
    let mut frame = Frame::default();
    sampler.sample(now(), &mut frame);
    pause(TICK);
    sampler.sample(now(), &mut frame);
    let mut all: BTreeMap<(&str, String), Unseen> = BTreeMap::new();
    for (def, signal) in frame.iter() {
        let Signal::Absent(fault) = signal else { continue };
        let what = def.metric.series.unwrap_or(def.metric.name);
        let entry = all.entry((what, fault.text.clone())).or_insert_with(|| {
            let needs = match (named(&fault.text).first(), fault.code) {
                (Some(capability), _) => Some(*capability),
                (None, FaultCode::Permission) => Some(READ),
                (None, _) => None,
            };
            let why = format!("{}: {}", fault.code.word(), fault.text);
            Unseen { what: what.to_owned(), instances: Vec::new(), why, needs }
        });
        if let Some(instance) = def.instance()
            && entry.instances.len() < INSTANCES
            && !entry.instances.iter().any(|own| **own == **instance)
        {
            entry.instances.push(instance.to_string());
        }
    }
    let mut all: Vec<Unseen> = all.into_values().collect();
    if let Some(why) = Processes::new(paths).blind() {
        all.push(Unseen {
            what: "who did it".to_owned(),
            instances: Vec::new(),
            why,
            needs: Some(LOOK_INTO),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    // written from proc(5)
    const STATUS: &str = "Name:\tgreenlight\nUid:\t65534\t65534\t65534\t65534\n\
         Gid:\t65534\t65534\t65534\t65534\nGroups:\t100 1000 \nCapEff:\t0000000000082000\n";

    #[test]
    fn rights_are_read_from_the_process() {
        let rights = Rights::of(STATUS, "1\t0\n");
        assert_eq!(rights.user, 65_534);
        assert_eq!(rights.held(), ["CAP_NET_RAW", "CAP_SYS_PTRACE"]);
        assert!(!rights.has("CAP_SYS_ADMIN"));
        let none = Rights::of("", "");
        assert!(none.held().is_empty());
        for (range, may) in
            [("1\t0", false), ("0\t2147483647", true), ("1000\t1000", true), ("", false)]
        {
            let rights = Rights::of(&STATUS.replace("82000", "00000"), range);
            assert_eq!(
                rights.meet("net.ipv4.ping_group_range, or CAP_NET_RAW"),
                Some(may),
                "{range}"
            );
        }
        assert_eq!(rights.meet("CAP_SYS_ADMIN"), Some(false));
        assert_eq!(rights.meet("CAP_SYS_ADMIN or CAP_SYS_PTRACE"), Some(true));
        assert_eq!(rights.meet("a quiet room"), None);
        assert_eq!(named("as CAP_NET_RAW, not CAP_NOTHING"), ["CAP_NET_RAW"]);
    }

    #[test]
    fn the_kernels_last_capability_is_known() {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        let last: usize = last.trim().parse().unwrap();
        assert!(last < CAPABILITIES.len(), "this kernel has more: {last}");
    }
}
