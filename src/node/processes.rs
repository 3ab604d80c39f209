//! The process table, read twice: what each process took in between.
//!
//! A process that began shortly before the first reading counts with all that it ever took: it is
//! part of the burst that made the agent look, and may have ended before the second reading.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::culprits::{Found, NAMED, Resource, Usage, culprit};
use super::sockets::Sockets;
use super::text::{fields, lines, number};
use super::{Paths, owners};
use crate::time::Mono;

/// More processes than this are not looked at; the kernel's own default limit is 32,768.
const PROCESSES_LIMIT: usize = 16_384;
/// Of so many of those that took most the cgroup is asked for, so that processes of one name in
/// different services stay apart.
const CGROUPS_ASKED: usize = 32;
/// A process that began so long before the first reading belongs to the burst.
const YOUNG: Duration = Duration::from_secs(5);
/// A share of less time than this would make much of little.
const SHORTEST: Duration = Duration::from_millis(250);
/// Open files that are looked at for the owner of a socket.
const LINKS_LIMIT: usize = 50_000;
/// The listeners stand first in the kernel's tables; more text than this is not read.
const SOCKETS_TEXT: usize = 1 << 20;
/// `PF_KTHREAD` (include/linux/sched.h).
const OF_THE_KERNEL: u64 = 0x0020_0000;
/// `stat` and `io` of a process are shorter.
const TEXT_LIMIT: usize = 2_048;

/// One process, as one reading shows it.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: u32,
    parent: u64,
    /// When it began, in ticks since boot: with the pid, who it is.
    start: u64,
    name: [u8; 16],
    /// Processor time, in ticks.
    cpu: u64,
    /// That of its children which have ended and were waited for.
    children: u64,
    /// Resident pages.
    resident: u64,
    /// A thread of the kernel that does nothing now.
    rests: bool,
    io: Io,
}

/// What a process has read and written; None where that may not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Io {
    known: bool,
    read: u64,
    written: u64,
}

/// One process' part of it.
struct Part {
    pid: u32,
    name: [u8; 16],
    amount: f64,
    begin: Mono,
    end: Mono,
}

/// What children that have ended left to their parent.
struct Left {
    /// All that the parent inherited between the readings.
    grown: u64,
    /// The child that had taken most at the first reading, and what that was: the rest is its.
    heaviest: u32,
    known: u64,
    /// What its siblings had taken.
    others: u64,
}

/// Reads the process table of a node.
pub struct Processes {
    procfs: PathBuf,
    hertz: u64,
    page: u64,
    before: Vec<Process>,
    now: Vec<Process>,
    before_at: Mono,
    /// A process that began so long before the first reading belongs to the burst.
    grace: Duration,
    /// What can be told at the first reading already.
    early: Vec<Found>,
    /// Of those of the first reading that may have ended before the second.
    cgroups: HashMap<u32, String>,
    sockets: Option<Sockets>,
    buffer: Vec<u8>,
}

fn sysconf(name: nix::unistd::SysconfVar, usual: u64) -> u64 {
    let value = nix::unistd::sysconf(name).ok().flatten();
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(usual).max(1)
}

impl Processes {
    pub fn new(paths: &Paths) -> Self {
        Self {
            procfs: paths.procfs.clone(),
            hertz: sysconf(nix::unistd::SysconfVar::CLK_TCK, 100),
            page: sysconf(nix::unistd::SysconfVar::PAGE_SIZE, 4096),
            before: Vec::new(),
            now: Vec::new(),
            before_at: Mono::default(),
            grace: YOUNG,
            early: Vec::new(),
            cgroups: HashMap::new(),
            sockets: None,
            buffer: vec![0; TEXT_LIMIT],
        }
    }

    /// With what the sampler knows of the sockets.
    pub fn knowing(self, sockets: Sockets) -> Self {
        Self { sockets: Some(sockets), ..self }
    }

    /// The first reading.
    pub fn first(&mut self, resources: &[Resource], at: Mono) {
        self.read(resources);
        self.grace = YOUNG;
        self.remember(resources, at);
    }

    /// Makes this reading the earlier one. Who holds the memory and whose queue is full is known
    /// with it.
    fn remember(&mut self, resources: &[Resource], at: Mono) {
        let hidden = self.hidden();
        std::mem::swap(&mut self.before, &mut self.now);
        // A table of thousands of processes is not held for ever.
        self.now.clear();
        self.now.shrink_to(self.before.len());
        self.before_at = at;
        self.cgroups.clear();
        self.early.clear();
        if resources.contains(&Resource::Memory) {
            let parts = self.before.iter().map(|process| Part {
                pid: process.pid,
                name: process.name,
                amount: process.resident.saturating_mul(self.page) as f64,
                begin: at,
                end: at,
            });
            let parts: Vec<Part> = parts.collect();
            let usage = self.group(parts, None);
            self.early.push(found(Resource::Memory, &usage, hidden));
        }
        if resources.contains(&Resource::Listener) {
            let found = self.listeners();
            self.early.push(found);
        }
        if resources.contains(&Resource::Ports) {
            let found = self.ports();
            self.early.push(found);
        }
        let mut young: Vec<(u64, u32)> = self
            .before
            .iter()
            .filter(|process| self.is_young(process))
            .map(|process| (process.cpu.saturating_add(process.io.written >> 20), process.pid))
            .collect();
        young.sort_unstable_by(|one, other| other.cmp(one));
        for (_, pid) in young.into_iter().take(CGROUPS_ASKED) {
            if let Some(cgroup) = self.cgroup(pid) {
                self.cgroups.insert(pid, cgroup);
            }
        }
    }

    /// A further reading, and what was taken since the one before.
    pub fn second(&mut self, resources: &[Resource], at: Mono) -> Vec<Found> {
        self.read(resources);
        let mut all = std::mem::take(&mut self.early);
        let hertz = self.hertz as f64;
        for resource in resources {
            match resource {
                Resource::Cpu => {
                    let of = |process: &Process| Some((process.cpu, process.children));
                    let parts = self.parts(at, false, of);
                    let parts =
                        parts.into_iter().map(|part| Part { amount: part.amount / hertz, ..part });
                    let usage = self.group(parts.collect(), Some(at));
                    all.push(found(*resource, &usage, self.hidden()));
                }
                Resource::Io | Resource::Space => {
                    let writes_only = *resource == Resource::Space;
                    // What children that were waited for read and wrote is in the parent's own
                    // figures (kernel/exit.c, wait_task_zombie).
                    let parts = self.parts(at, true, |process| {
                        let read = if writes_only { 0 } else { process.io.read };
                        let own = process.io.written.saturating_add(read);
                        process.io.known.then_some((own, own))
                    });
                    let usage = self.group(parts, Some(at));
                    all.push(found(*resource, &usage, self.unseen()));
                }
                // Told at the first reading.
                Resource::Memory | Resource::Listener | Resource::Ports => {}
            }
        }
        // While the threshold stays crossed the next reading is held against this one.
        self.grace = Duration::ZERO;
        self.remember(resources, at);
        all
    }

    /// What of who did it can't be told here, if anything.
    pub(super) fn blind(mut self) -> Option<String> {
        self.read(&[Resource::Io]);
        self.unseen()
    }

    /// Whose reading and writing may not be seen.
    fn unseen(&self) -> Option<String> {
        // proc(5), hidepid: then those of other users are not there at all.
        if let Some(hidden) = self.hidden() {
            return Some(hidden);
        }
        let unseen = self.now.iter().filter(|process| !process.io.known).count();
        (unseen > 0).then(|| {
            format!(
                "what {unseen} of {} processes read and wrote is unknown, for that takes \
                 CAP_SYS_PTRACE",
                self.now.len()
            )
        })
    }

    /// Whether the processes of other users are hidden. The first process is there always.
    fn hidden(&self) -> Option<String> {
        let first = self.now.first().is_some_and(|process| process.pid == 1);
        (!first).then(|| {
            "the processes of other users are hidden (procfs is mounted with hidepid), and seeing \
             them takes CAP_SYS_PTRACE"
                .to_owned()
        })
    }

    fn is_young(&self, process: &Process) -> bool {
        self.began(process).plus(self.grace) >= self.before_at
    }

    fn began(&self, process: &Process) -> Mono {
        let nanos = u128::from(process.start) * 1_000_000_000 / u128::from(self.hertz);
        Mono(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// What each process took: since the first reading, or since it began. `of` is its own figure
    /// and that of the children it has waited for; where the first holds the second, what a child
    /// left is taken from it.
    fn parts(
        &self,
        at: Mono,
        holds_children: bool,
        of: impl Fn(&Process) -> Option<(u64, u64)>,
    ) -> Vec<Part> {
        let left = self.left_behind(&of);
        let mut parts = Vec::new();
        let mut add = |process: &Process, amount: u64, begin: Mono, end: Mono| {
            if amount > 0 {
                let (pid, name) = (process.pid, process.name);
                parts.push(Part { pid, name, amount: amount as f64, begin: begin.min(end), end });
            }
        };
        for process in &self.now {
            let Some((to, _)) = of(process) else { continue };
            let earlier = same(&self.before, process);
            match earlier.and_then(|earlier| Some((earlier, of(earlier)?.0))) {
                Some((earlier, from)) if !self.is_young(earlier) => {
                    let of_children = if holds_children {
                        left.get(&u64::from(process.pid)).map_or(0, |left| left.grown)
                    } else {
                        0
                    };
                    let own = to.saturating_sub(from).saturating_sub(of_children);
                    add(process, own, self.before_at, at);
                }
                _ if self.is_young(process) => add(process, to, self.began(process), at),
                // It changed who may look at it in between.
                _ => {}
            }
        }
        for process in &self.before {
            let Some((known, _)) = of(process).filter(|_| same(&self.now, process).is_none())
            else {
                continue;
            };
            let from = if self.is_young(process) { 0 } else { known };
            let begin = if self.is_young(process) { self.began(process) } else { self.before_at };
            // Its end is in what it left to its parent, where that has waited for it.
            let heir = left.get(&process.parent).filter(|left| left.heaviest == process.pid);
            match heir {
                Some(left) => {
                    let all = left.grown.saturating_sub(left.others).max(known);
                    add(process, all.saturating_sub(from), begin, at);
                }
                None => add(process, known.saturating_sub(from), begin, self.before_at),
            }
        }
        parts
    }

    /// By the parent's pid: what processes that ended between the readings left to their parents.
    fn left_behind(&self, of: &impl Fn(&Process) -> Option<(u64, u64)>) -> HashMap<u64, Left> {
        let mut all: HashMap<u64, Left> = HashMap::new();
        for process in &self.before {
            let Some((known, _)) = of(process).filter(|_| same(&self.now, process).is_none())
            else {
                continue;
            };
            let parents = u32::try_from(process.parent).ok().and_then(|pid| {
                let at = self.before.binary_search_by_key(&pid, |other| other.pid).ok()?;
                let before = self.before.get(at)?;
                Some((of(before)?.1, of(same(&self.now, before)?)?.1))
            });
            let Some((before, now)) = parents else { continue };
            let left = all.entry(process.parent).or_insert(Left {
                grown: now.saturating_sub(before),
                heaviest: process.pid,
                known,
                others: 0,
            });
            if left.heaviest == process.pid {
                continue;
            }
            if known > left.known {
                left.others = left.others.saturating_add(left.known);
                (left.heaviest, left.known) = (process.pid, known);
            } else {
                left.others = left.others.saturating_add(known);
            }
        }
        all
    }

    /// Those of one name in one cgroup together, who took most first. With an end the amounts are
    /// made those of a second.
    fn group(&self, mut parts: Vec<Part>, per_second: Option<Mono>) -> Vec<Usage> {
        parts.sort_by(|one, other| other.amount.total_cmp(&one.amount));
        let mut groups: Vec<(Usage, Mono, Mono)> = Vec::new();
        let mut known: HashMap<([u8; 16], Option<String>), usize> = HashMap::new();
        for (rank, part) in parts.into_iter().enumerate() {
            let cgroup = if rank < CGROUPS_ASKED {
                self.cgroup(part.pid).or_else(|| self.cgroups.get(&part.pid).cloned())
            } else {
                None
            };
            let place = *known.entry((part.name, cgroup.clone())).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((usage, begin, end)) => {
                    usage.amount += part.amount;
                    usage.processes += 1;
                    *begin = part.begin.min(*begin);
                    *end = part.end.max(*end);
                }
                None => {
                    let usage = Usage {
                        name: text(&part.name),
                        pid: Some(part.pid),
                        processes: 1,
                        cgroup,
                        amount: part.amount,
                    };
                    groups.push((usage, part.begin, part.end));
                }
            }
        }
        let mut usage: Vec<Usage> = groups
            .into_iter()
            .map(|(usage, begin, end)| match per_second {
                Some(_) => {
                    let span = end.since(begin).max(SHORTEST).as_secs_f64();
                    Usage { amount: usage.amount / span, ..usage }
                }
                None => usage,
            })
            .collect();
        usage.sort_by(|one, other| other.amount.total_cmp(&one.amount));
        usage.truncate(NAMED);
        usage
    }

    /// Reads the table into `now`, ascending by pid.
    fn read(&mut self, resources: &[Resource]) {
        let io = resources.iter().any(|r| matches!(r, Resource::Io | Resource::Space));
        self.now.clear();
        let Ok(entries) = fs::read_dir(&self.procfs) else { return };
        let mut path = PathBuf::new();
        for entry in entries.flatten() {
            if self.now.len() >= PROCESSES_LIMIT {
                break;
            }
            let name = entry.file_name();
            let pid = number(name.as_encoded_bytes()).and_then(|pid| u32::try_from(pid).ok());
            let Some(pid) = pid else { continue };
            path.clone_from(&self.procfs);
            path.push(&name);
            path.push("stat");
            let Some(stat) = slurp(&path, &mut self.buffer) else { continue };
            let Some(mut process) = stat_of(pid, stat) else { continue };
            if io {
                // Most processes are threads of the kernel, and most of those rest: as long as one
                // has taken no time it has moved nothing either.
                let before = same(&self.before, &process)
                    .filter(|before| process.rests && before.io.known && before.cpu == process.cpu);
                process.io = match before {
                    Some(before) => before.io,
                    None => {
                        path.set_file_name("io");
                        slurp(&path, &mut self.buffer).map(io_of).unwrap_or_default()
                    }
                };
            }
            self.now.push(process);
        }
        self.now.sort_unstable_by_key(|process| process.pid);
    }

    fn cgroup(&self, pid: u32) -> Option<String> {
        owners::cgroup(&self.procfs, pid)
    }

    /// The listening sockets of which most connections wait, and who owns them.
    fn listeners(&self) -> Found {
        let mut longest: Vec<(u64, u64, u16)> = Vec::new();
        let mut read = false;
        for name in ["tcp", "tcp6"] {
            let Ok(file) = File::open(self.procfs.join(self.net()).join(name)) else { continue };
            let mut text = Vec::new();
            if file.take(SOCKETS_TEXT as u64).read_to_end(&mut text).is_err() {
                continue;
            }
            read = true;
            longest
                .extend(lines(&text).skip(1).map_while(listener).filter(|(queue, ..)| *queue > 0));
        }
        longest.sort_unstable_by(|one, other| other.cmp(one));
        longest.truncate(NAMED);
        let owners = self.owners(longest.iter().map(|(_, inode, _)| *inode).collect());
        let usage: Vec<Usage> = longest
            .iter()
            .map(|(queue, inode, port)| {
                let owner = owners.get(inode);
                Usage {
                    name: match owner {
                        Some((_, name)) => format!("{name} on port {port}"),
                        None => format!("port {port}"),
                    },
                    pid: owner.map(|(pid, _)| *pid),
                    processes: 1,
                    cgroup: owner.and_then(|(pid, _)| self.cgroup(*pid)),
                    amount: *queue as f64,
                }
            })
            .collect();
        let missing = if !read {
            Some("the table of sockets could not be read".to_owned())
        } else if owners.len() < longest.len() {
            Some("whose sockets they are takes CAP_SYS_PTRACE to see".to_owned())
        } else {
            None
        };
        found(Resource::Listener, &usage, missing)
    }

    /// Where the network is told of: in a container the host's first process lives in the host's.
    fn net(&self) -> &'static str {
        if self.procfs == Path::new("/proc") { "net" } else { "1/net" }
    }

    /// The local ports of the destinations that take most, and who connects there.
    fn ports(&self) -> Found {
        let destinations = self.sockets.as_ref().map(Sockets::destinations).unwrap_or_default();
        let inodes: Vec<u64> =
            destinations.iter().flat_map(|to| to.inodes.iter().copied()).collect();
        let owners = self.owners(inodes);
        let mut missing = None;
        let usage: Vec<Usage> = destinations
            .iter()
            .map(|destination| {
                let owner = destination.inodes.iter().find_map(|inode| owners.get(inode));
                if owner.is_none() && !destination.inodes.is_empty() {
                    missing = Some("whose connections they are takes CAP_SYS_PTRACE to see".into());
                }
                Usage {
                    name: match owner {
                        Some((_, name)) => format!("{name} to {}", destination.to),
                        None => format!("connections to {}", destination.to),
                    },
                    pid: owner.map(|(pid, _)| *pid),
                    processes: 1,
                    cgroup: owner.and_then(|(pid, _)| self.cgroup(*pid)),
                    amount: f64::from(destination.ports),
                }
            })
            .collect();
        found(Resource::Ports, &usage, missing)
    }

    /// Whose sockets these are. The first process is asked last: systemd holds what it made for
    /// its services.
    fn owners(&self, mut inodes: Vec<u64>) -> HashMap<u64, (u32, String)> {
        inodes.sort_unstable();
        let pids = self.before.iter().rev().map(|process| process.pid);
        let holders = owners::holders(&self.procfs, pids, &inodes, 1, LINKS_LIMIT);
        let mut owners = HashMap::new();
        for (inode, pids) in holders.pids {
            let owner = pids.first().and_then(|pid| {
                let place = self.before.binary_search_by_key(pid, |process| process.pid).ok()?;
                Some((*pid, text(&self.before.get(place)?.name)))
            });
            owners.extend(owner.map(|owner| (inode, owner)));
        }
        owners
    }
}

fn found(resource: Resource, usage: &[Usage], missing: Option<String>) -> Found {
    let culprits = usage.iter().map(|usage| culprit(resource, usage)).collect();
    Found { resource, culprits, missing }
}

/// The same process in another reading.
fn same<'a>(reading: &'a [Process], process: &Process) -> Option<&'a Process> {
    let place = reading.binary_search_by_key(&process.pid, |other| other.pid).ok()?;
    reading.get(place).filter(|other| other.start == process.start)
}

/// One small file, in one reading.
fn slurp<'b>(path: &Path, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = File::open(path).ok()?.read_at(buffer, 0).ok()?;
    buffer.get(..length)
}

/// What a name is made of is up to the process: only what can be shown is kept.
fn text(name: &[u8; 16]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(name.get(..end).unwrap_or_default());
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// /proc/PID/stat (proc(5)): the name stands in parentheses and may hold any itself.
fn stat_of(pid: u32, line: &[u8]) -> Option<Process> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let own = line.get(open + 1..close)?;
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(own) {
        *to = *from;
    }
    // From field 3 on.
    let mut rest = fields(line.get(close + 1..)?);
    let asleep = matches!(rest.next()?, b"S" | b"I");
    let parent = number(rest.next()?)?;
    let flags = number(rest.nth(4)?)?;
    let (user, system) = (number(rest.nth(4)?)?, number(rest.next()?)?);
    let (user_children, system_children) = (number(rest.next()?)?, number(rest.next()?)?);
    let start = number(rest.nth(4)?)?;
    let resident = number(rest.nth(1)?)?;
    Some(Process {
        pid,
        parent,
        start,
        name,
        cpu: user.saturating_add(system),
        children: user_children.saturating_add(system_children),
        resident,
        rests: asleep && flags & OF_THE_KERNEL != 0,
        io: Io::default(),
    })
}

/// /proc/PID/io (proc(5)): what really went to and came from the storage. What is written to a
/// filesystem in memory is in `wchar` only.
fn io_of(text: &[u8]) -> Io {
    let mut io = Io { known: false, ..Io::default() };
    for line in lines(text) {
        let mut words = fields(line);
        let (key, value) = (words.next(), words.next().and_then(number));
        match (key, value) {
            (Some(b"read_bytes:"), Some(bytes)) => (io.read, io.known) = (bytes, true),
            (Some(b"write_bytes:"), Some(bytes)) => io.written = bytes,
            _ => {}
        }
    }
    io
}

/// A line of /proc/net/tcp as queue, inode and port. None at the first socket that does not
/// listen: the listeners stand first.
fn listener(line: &[u8]) -> Option<(u64, u64, u16)> {
    let hex = |field: &[u8]| u64::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok();
    let mut words = fields(line);
    let local = words.nth(1)?;
    let port = local.rsplit(|byte| *byte == b':').next().and_then(hex)?;
    // 0A is TCP_LISTEN (include/net/tcp_states.h).
    if words.nth(1)? != b"0A" {
        return None;
    }
    let queue = words.next()?.rsplit(|byte| *byte == b':').next().and_then(hex)?;
    let inode = number(words.nth(4)?)?;
    Some((queue, inode, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests;
