//! Whose sockets they are: each process shows what it has open, to whoever may look into it
//! (proc(5), /proc/PID/fd). There is no other way from a socket to its process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::text::number;

/// A name in a cgroup's path may be long.
const CGROUP_CHARS: usize = 120;

/// What /proc/PID/cgroup and comm hold is shorter.
const TEXT_LIMIT: usize = 2_048;

/// Who holds the sockets that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holders {
    /// By the socket's inode, in the order in which the processes were looked at.
    pub(super) pids: HashMap<u64, Vec<u32>>,
    /// Processes that may not be looked into.
    pub(super) closed: usize,
    /// More was open than is looked at.
    pub(super) cut: bool,
}

/// Looks into the processes one after the other, until as many holders are known of each socket
/// (`each`) or as many open files were seen (`limit`). The inodes are sorted.
pub(super) fn holders(
    procfs: &Path,
    pids: impl Iterator<Item = u32>,
    inodes: &[u64],
    each: usize,
    limit: usize,
) -> Holders {
    let mut holders = Holders::default();
    let mut lacking = inodes.len();
    let mut left = limit;
    for pid in pids {
        if lacking == 0 {
            break;
        }
        let entries = match fs::read_dir(procfs.join(pid.to_string()).join("fd")) {
            Ok(entries) => entries,
            Err(error) => {
                holders.closed += usize::from(error.kind() == ErrorKind::PermissionDenied);
                continue;
            }
        };
        for entry in entries.flatten() {
            if left == 0 {
                holders.cut = true;
                return holders;
            }
            left -= 1;
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let inode = target
                .as_os_str()
                .as_encoded_bytes()
                .strip_prefix(b"socket:[")
                .and_then(|rest| number(rest.strip_suffix(b"]")?));
            let Some(inode) = inode.filter(|inode| inodes.binary_search(inode).is_ok()) else {
                continue;
            };
            let known = holders.pids.entry(inode).or_default();
            if known.len() < each && known.last() != Some(&pid) {
                known.push(pid);
                lacking -= usize::from(known.len() == each);
            }
        }
    }
    holders
}

/// Where a process belongs: its cgroup in the unified hierarchy, else in systemd's, else in the
/// first (cgroups(7)).
pub(super) fn cgroup(procfs: &Path, pid: u32) -> Option<String> {
    let text = small(procfs, pid, "cgroup")?;
    let of = |wanted: &dyn Fn(&str) -> bool| {
        text.lines()
            .filter_map(|line| line.split_once(':')?.1.split_once(':'))
            .find(|(names, path)| wanted(names) && *path != "/")
            .map(|(_, path)| path)
    };
    let path = of(&|names| names.is_empty())
        .or_else(|| of(&|names| names == "name=systemd"))
        .or_else(|| of(&|_| true))
        .unwrap_or("/");
    Some(path.chars().filter(|c| !c.is_control()).take(CGROUP_CHARS).collect())
}

/// What a process calls itself, as far as it can be shown.
pub(super) fn name(procfs: &Path, pid: u32) -> Option<String> {
    let text = small(procfs, pid, "comm")?;
    Some(
        text.trim_end_matches('\n').chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
    )
}

/// The kernel hands out such a file in one reading.
fn small(procfs: &Path, pid: u32, file: &str) -> Option<String> {
    let mut text = [0; TEXT_LIMIT];
    let mut file = File::open(procfs.join(pid.to_string()).join(file)).ok()?;
    let length = file.read(&mut text).ok()?;
    Some(String::from_utf8_lossy(text.get(..length)?).into_owned())
}
