//! Who did it: what processes took of a resource, for the second in which a gate's threshold was
//! crossed. Taken when that happens and never otherwise, in a cell, since another process' files
//! may hang.

use serde::Serialize;

use crate::time::Mono;

/// What can be short, and whom to ask for when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Who burnt the processors.
    Cpu,
    /// Who read and wrote.
    Io,
    /// Who wrote what fills the filesystem.
    Space,
    /// Who holds the memory.
    Memory,
    /// Whose accept queue is the longest.
    Listener,
    /// Who connects so often that local ports run out.
    Ports,
}

impl Resource {
    pub const ALL: [Self; 6] =
        [Self::Cpu, Self::Io, Self::Space, Self::Memory, Self::Listener, Self::Ports];

    pub const fn place(self) -> usize {
        self as usize
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Space => "space",
            Self::Memory => "memory",
            Self::Listener => "listener",
            Self::Ports => "ports",
        }
    }

    /// The resource that a series of the node is about; None where no process is to blame, as for
    /// steal or damaged packets.
    pub fn of(series: &str) -> Option<Self> {
        const IO: [&str; 2] = ["node.cpu.iowait", "node.procs.blocked"];
        const NOBODY: [&str; 9] = [
            "node.cpu.steal",
            "node.cpu.throttles",
            "node.disk.errors",
            "node.fs.errors",
            "node.fs.hung",
            "node.fs.readonly",
            "node.memory.ecc.",
            "node.memory.corrupted",
            "node.swap.size",
        ];
        const PREFIXES: [(&str, Resource); 13] = [
            ("node.cpu.", Resource::Cpu),
            ("node.load.", Resource::Cpu),
            ("node.cgroup.throttled", Resource::Cpu),
            ("node.psi.cpu.", Resource::Cpu),
            ("node.psi.io.", Resource::Io),
            ("node.disk.", Resource::Io),
            ("node.fs.", Resource::Space),
            ("node.psi.memory.", Resource::Memory),
            ("node.memory.", Resource::Memory),
            ("node.swap.", Resource::Memory),
            ("node.oom.", Resource::Memory),
            ("node.listen.", Resource::Listener),
            ("node.ports.", Resource::Ports),
        ];
        if IO.contains(&series) {
            return Some(Self::Io);
        }
        if NOBODY.iter().any(|own| series.starts_with(own)) {
            return None;
        }
        let found = PREFIXES.iter().find(|(prefix, _)| series.starts_with(prefix));
        found.map(|(_, resource)| *resource)
    }
}

/// What was taken, by one process or several of one name in one cgroup.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usage {
    pub name: String,
    pub pid: Option<u32>,
    pub processes: usize,
    pub cgroup: Option<String>,
    pub amount: f64,
}

/// One who took much, or several processes of one name in one cgroup.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Culprit {
    pub name: String,
    /// Of several the one that took most; null where the owner could not be seen.
    pub pid: Option<u32>,
    pub processes: usize,
    /// Null where it had ended before it could be asked.
    pub cgroup: Option<String>,
    /// Processor seconds a second, bytes a second, bytes, or connections that wait.
    pub amount: f64,
    /// What it did, in words.
    pub text: String,
}

/// What was found out about one resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    pub resource: Resource,
    /// Who took most, the most first.
    pub culprits: Vec<Culprit>,
    /// Who could not be seen, and what is missing for it.
    pub missing: Option<String>,
}

impl Found {
    /// `most: rustc (pid 123, cgroup /user.slice) 93 % of one core, cc1 ...; ...`; empty where
    /// nobody was found and nothing is missing.
    pub fn text(&self) -> String {
        let who: Vec<&str> = self.culprits.iter().map(|culprit| culprit.text.as_str()).collect();
        match (who.is_empty(), &self.missing) {
            (true, None) => String::new(),
            (true, Some(missing)) => format!("nobody is named: {missing}"),
            (false, None) => format!("most: {}", who.join(", ")),
            (false, Some(missing)) => format!("most: {}; {missing}", who.join(", ")),
        }
    }
}

/// So many are named.
pub(super) const NAMED: usize = 3;

/// What a process did in words, with its name and its place.
pub(super) fn culprit(resource: Resource, usage: &Usage) -> Culprit {
    let mut place: Vec<String> = Vec::new();
    match (usage.processes, usage.pid) {
        (0 | 1, Some(pid)) => place.push(format!("pid {pid}")),
        (many, Some(pid)) => place.push(format!("{many} processes, most pid {pid}")),
        (_, None) => {}
    }
    place.extend(usage.cgroup.as_ref().map(|cgroup| format!("cgroup {cgroup}")));
    let did = match resource {
        Resource::Cpu => format!("{:.0} % of one core", usage.amount * 100.0),
        Resource::Io => format!("{} a second", bytes(usage.amount)),
        Resource::Space => format!("writes {} a second", bytes(usage.amount)),
        Resource::Memory => format!("{} resident", bytes(usage.amount)),
        Resource::Listener => format!("{} connections wait to be accepted", usage.amount),
        Resource::Ports => format!("{} local ports in use", usage.amount),
    };
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    Culprit {
        text: format!("{}{place} {did}", usage.name),
        name: usage.name.clone(),
        pid: usage.pid,
        processes: usage.processes,
        cgroup: usage.cgroup.clone(),
        amount: usage.amount,
    }
}

/// To a tenth of a unit: what was captured once is no figure to calculate with.
fn bytes(amount: f64) -> String {
    let units = [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1_024.0)];
    match units.into_iter().find(|(_, size)| amount >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", amount / size),
        None => format!("{amount:.0} B"),
    }
}

/// Why a resource is asked for: the series that crossed its threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    pub series: &'static str,
    pub instance: Option<String>,
    pub value: Option<f64>,
    /// The gate's bound that was crossed.
    pub threshold: Option<f64>,
}

/// One look at the processes, kept so that a burst between two scrapes can be named afterwards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capture {
    /// RFC 3339, UTC.
    pub at: String,
    #[serde(skip)]
    pub mono: Mono,
    /// Why it was taken.
    pub because: Cause,
    #[serde(flatten)]
    pub found: Found,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_belongs_to_the_resource_that_it_is_short_of() {
        for (series, resource) in [
            ("node.cpu.busy", Some(Resource::Cpu)),
            ("node.cpu.iowait", Some(Resource::Io)),
            ("node.cpu.steal", None),
            ("node.cpu.wait", Some(Resource::Cpu)),
            ("node.cpu.throttles", None),
            ("node.memory.ecc.corrected", None),
            ("node.load.per_core", Some(Resource::Cpu)),
            ("node.psi.io.full", Some(Resource::Io)),
            ("node.disk.await", Some(Resource::Io)),
            ("node.fs.available", Some(Resource::Space)),
            ("node.fs.readonly", None),
            ("node.fs.errors", None),
            ("node.disk.errors", None),
            ("node.memory.available", Some(Resource::Memory)),
            ("node.listen.overflows", Some(Resource::Listener)),
            ("node.listen.queue", Some(Resource::Listener)),
            ("node.ports.used", Some(Resource::Ports)),
            ("node.link.errors", None),
            ("icmp.rtt", None),
        ] {
            assert_eq!(Resource::of(series), resource, "{series}");
        }
        for (place, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource.place(), place);
        }
    }

    #[test]
    fn who_did_it_reads_as_a_sentence() {
        let usage = |name: &str, processes, cgroup: Option<&str>, amount| Usage {
            name: name.to_owned(),
            pid: Some(123),
            processes,
            cgroup: cgroup.map(str::to_owned),
            amount,
        };
        let found = Found {
            resource: Resource::Cpu,
            culprits: vec![
                culprit(Resource::Cpu, &usage("rustc", 1, Some("/build"), 0.93)),
                culprit(Resource::Cpu, &usage("cc1", 7, None, 0.5)),
            ],
            missing: None,
        };
        assert_eq!(
            found.text(),
            "most: rustc (pid 123, cgroup /build) 93 % of one core, \
             cc1 (7 processes, most pid 123) 50 % of one core"
        );
        let blind = Found { missing: Some("no right".to_owned()), culprits: vec![], ..found };
        assert_eq!(blind.text(), "nobody is named: no right");
    }
}
