//! Which files tell what of a group, in version 1 and in version 2, and what stands in them.

use std::path::{Path, PathBuf};

use crate::node::text::{fields, lines, number, once, single};

/// Events of the memory that are shown: kills, meeting the limit, and being slowed down above the
/// soft one, as version 2 names them. Version 1 has no soft limit of that kind.
pub(super) const EVENTS: [&str; 3] = ["oom_kill", "max", "high"];

/// What is known of one group since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Nanoseconds.
    pub(super) cpu: Option<u64>,
    /// Periods in which the group had anything to run under its quota, and those it was throttled in.
    pub(super) periods: Option<u64>,
    pub(super) throttled: Option<u64>,
    pub(super) memory: Option<u64>,
    /// Bytes read and written.
    pub(super) io: Option<u64>,
    /// In the order of [`EVENTS`].
    pub(super) events: [Option<u64>; EVENTS.len()],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Unified,
    Cpu,
    CpuAccounting,
    Memory,
    Blocks,
}

/// A tree of groups, and what its folders tell.
#[derive(Debug, PartialEq)]
pub(super) struct Hierarchy {
    pub(super) root: PathBuf,
    pub(super) controllers: Vec<Controller>,
}

/// The trees under `sysfs`. Version 1 has one for each controller, some of which may share one;
/// beside them there may be one of version 2 for what they lack (systemd's hybrid).
pub(super) fn hierarchies(sysfs: &Path) -> Vec<Hierarchy> {
    let folder = sysfs.join("fs/cgroup");
    if folder.join("cgroup.controllers").exists() {
        return vec![Hierarchy { root: folder, controllers: vec![Controller::Unified] }];
    }
    let mut found: Vec<Hierarchy> = Vec::new();
    let unified = folder.join("unified");
    if std::fs::read(unified.join("cgroup.controllers"))
        .is_ok_and(|text| !text.trim_ascii().is_empty())
    {
        found.push(Hierarchy { root: unified, controllers: vec![Controller::Unified] });
    }
    let first = [
        (Controller::Cpu, ["cpu", "cpu,cpuacct", "cpuacct,cpu"], "cpu.stat"),
        (Controller::CpuAccounting, ["cpuacct", "cpu,cpuacct", "cpuacct,cpu"], "cpuacct.usage"),
        (Controller::Memory, ["memory"; 3], "memory.usage_in_bytes"),
        (Controller::Blocks, ["blkio"; 3], "blkio.throttle.io_service_bytes"),
    ];
    for (controller, names, file) in first {
        let mut roots = names.iter().map(|name| folder.join(name));
        let Some(root) = roots.find(|root| root.join(file).exists()) else { continue };
        // `cpu` is a link to `cpu,cpuacct` where they share a tree.
        let root = std::fs::canonicalize(&root).unwrap_or(root);
        match found.iter_mut().find(|known| known.root == root) {
            Some(known) => known.controllers.push(controller),
            None => found.push(Hierarchy { root, controllers: vec![controller] }),
        }
    }
    found
}

/// How the groups of a node are had: `v1`, `v2` or `hybrid`.
pub(crate) fn version(sysfs: &Path) -> Option<&'static str> {
    let folder = sysfs.join("fs/cgroup");
    let old = ["cpu", "cpuacct", "memory", "blkio", "systemd"];
    match (folder.join("cgroup.controllers").exists(), folder.join("unified").exists()) {
        (true, _) => Some("v2"),
        (false, true) => Some("hybrid"),
        (false, false) => old.iter().any(|name| folder.join(name).exists()).then_some("v1"),
    }
}

/// Whether some tree can limit, and so throttle, what its groups take of the processors.
pub(crate) fn limits_cpu(sysfs: &Path) -> bool {
    hierarchies(sysfs).iter().any(|hierarchy| {
        let controllers = std::fs::read(hierarchy.root.join("cgroup.controllers"));
        let unified = controllers.is_ok_and(|text| {
            text.trim_ascii().split(|byte| *byte == b' ').any(|word| word == b"cpu")
        });
        unified || hierarchy.controllers.contains(&Controller::Cpu)
    })
}

impl Hierarchy {
    /// Whether its root is a group like any other: then a cgroup namespace hides what is above.
    /// Only the real root lacks a type (version 2) and has a release agent (version 1).
    pub(super) fn is_inside(&self) -> bool {
        if self.controllers.contains(&Controller::Unified) {
            self.root.join("cgroup.type").exists()
        } else {
            !self.root.join("release_agent").exists()
        }
    }

    /// Adds what the folder of a group tells; a file that is not there tells nothing.
    pub(super) fn read(&self, group: &Path, buffer: &mut Vec<u8>, counts: &mut Counts) {
        let mut file = |name: &str, take: &mut dyn FnMut(&[u8])| {
            if let Some(text) = once(&group.join(name), buffer) {
                take(text);
            }
        };
        for controller in &self.controllers {
            match controller {
                Controller::Unified => {
                    file("cpu.stat", &mut |text| {
                        let microseconds = keyed(text, b"usage_usec");
                        counts.cpu =
                            microseconds.and_then(|us| us.checked_mul(1000)).or(counts.cpu);
                        quota(text, counts);
                    });
                    file("memory.current", &mut |text| counts.memory = single(text));
                    file("memory.events", &mut |text| {
                        for (count, event) in counts.events.iter_mut().zip(EVENTS) {
                            *count = keyed(text, event.as_bytes());
                        }
                    });
                    file("io.stat", &mut |text| counts.io = io_unified(text));
                }
                Controller::Cpu => file("cpu.stat", &mut |text| quota(text, counts)),
                Controller::CpuAccounting => {
                    file("cpuacct.usage", &mut |text| counts.cpu = single(text));
                }
                Controller::Memory => {
                    file("memory.usage_in_bytes", &mut |text| counts.memory = single(text));
                    let [kills, limit, _] = &mut counts.events;
                    // Since Linux 4.13.
                    file("memory.oom_control", &mut |text| *kills = keyed(text, b"oom_kill"));
                    file("memory.failcnt", &mut |text| *limit = single(text));
                }
                Controller::Blocks => {
                    file("blkio.throttle.io_service_bytes", &mut |text| counts.io = io_old(text));
                    // Since Linux 4.16, with the groups below.
                    file("blkio.throttle.io_service_bytes_recursive", &mut |text| {
                        counts.io = io_old(text).or(counts.io);
                    });
                }
            }
        }
    }
}

fn quota(text: &[u8], counts: &mut Counts) {
    counts.periods = keyed(text, b"nr_periods").or(counts.periods);
    counts.throttled = keyed(text, b"nr_throttled").or(counts.throttled);
}

/// The value of a key in lines of `key value`.
pub(super) fn keyed(text: &[u8], key: &[u8]) -> Option<u64> {
    lines(text).find_map(|line| {
        let mut words = fields(line);
        (words.next() == Some(key)).then(|| words.next().and_then(number)).flatten()
    })
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 ...`; a device that was never used may have none.
pub(super) fn io_unified(text: &[u8]) -> Option<u64> {
    let mut sum = 0u64;
    for line in lines(text) {
        for word in fields(line).skip(1) {
            let bytes = word.strip_prefix(b"rbytes=").or_else(|| word.strip_prefix(b"wbytes="));
            if let Some(bytes) = bytes {
                sum = sum.checked_add(number(bytes)?)?;
            }
        }
    }
    Some(sum)
}

/// Lines of `8:0 Read 1`, and the sum of all in the last: `Total 3`.
pub(super) fn io_old(text: &[u8]) -> Option<u64> {
    keyed(text, b"Total")
}
