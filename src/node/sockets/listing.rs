//! The inventory of listeners: what listens where, how full its queue is, and whose it is. Made
//! when somebody asks; whose they are is found out anew only where other sockets listen than
//! before, and now and then, since a socket may be handed on.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::diag::{Question, Socket};
use super::{LISTENERS_LIMIT, Sockets, asker, locked};
use crate::node::cgroups::place;
use crate::node::text::number;
use crate::node::{Namespace, network_folder, owners};
use crate::outcome::{Fault, FaultCode};
use crate::time::{Mono, Now};

/// Who asks again so soon gets the same answer.
const FRESH: Duration = Duration::from_secs(1);

/// So long an owner is believed to stay the owner.
const OWNERS_FRESH: Duration = Duration::from_secs(60);

/// Processes named of one socket: a server's workers all hold it.
const OWNERS_EACH: usize = 8;

/// Open files looked at.
const LINKS_LIMIT: usize = 200_000;

/// Processes looked at.
const PROCESSES_LIMIT: usize = 16_384;

/// What listens on a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    /// RFC 3339, UTC.
    pub at: String,
    /// Ordered by protocol, port and address.
    pub listeners: Vec<Listener>,
    /// Sockets that are left out because there are too many.
    pub over_limit: usize,
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listener {
    pub protocol: &'static str,
    pub address: String,
    pub port: u16,
    /// Whether it takes IPv6 only; null where its address says it.
    pub ipv6_only: Option<bool>,
    /// Connections that wait to be accepted, and how many may; null for UDP.
    pub queue: Option<u32>,
    pub queue_limit: Option<u32>,
    /// The user that made it.
    pub user: u32,
    /// Processes that hold it.
    pub owners: Vec<Owner>,
    /// Why no owner, or not every one, is known.
    pub reason: Option<Why>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Owner {
    pub pid: u32,
    pub name: String,
    pub cgroup: Option<String>,
    /// The service or scope of systemd.
    pub unit: Option<String>,
    /// The first digits of the container's id.
    pub container: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    pub code: &'static str,
    pub text: String,
}

/// What was told last, and who owned it.
#[derive(Default)]
pub(super) struct Cache {
    listing: Option<(Mono, Listing)>,
    owners: Option<(Mono, Known)>,
}

/// Who holds what.
#[derive(Clone, Default)]
struct Known {
    inodes: Vec<u64>,
    owners: BTreeMap<u64, Vec<Owner>>,
    /// Processes that may not be looked into, or are hidden altogether.
    closed: usize,
    hidden: bool,
    cut: bool,
}

impl Known {
    /// Looks into all processes.
    fn of(sockets: &Sockets, inodes: Vec<u64>) -> Self {
        let procfs = &sockets.paths.procfs;
        let entries = fs::read_dir(procfs).into_iter().flatten().flatten();
        let mut pids: Vec<u32> = entries
            .filter_map(|entry| number(entry.file_name().as_encoded_bytes()))
            .filter_map(|pid| u32::try_from(pid).ok())
            .collect();
        pids.sort_unstable();
        let mut cut = pids.len() > PROCESSES_LIMIT;
        pids.truncate(PROCESSES_LIMIT);
        // The first process is there always.
        let hidden = pids.first() != Some(&1);
        let found = owners::holders(procfs, pids.into_iter(), &inodes, OWNERS_EACH, LINKS_LIMIT);
        cut |= found.cut;
        let owner = |pid: u32| {
            let cgroup = owners::cgroup(procfs, pid);
            let (unit, container) = cgroup.as_deref().map(place).unwrap_or_default();
            // Without a name it has ended meanwhile.
            Some(Owner { pid, name: owners::name(procfs, pid)?, cgroup, unit, container })
        };
        let owners = found.pids.into_iter().map(|(inode, pids)| {
            let owners: Vec<Owner> = pids.into_iter().filter_map(owner).collect();
            (inode, owners)
        });
        let owners = owners.filter(|(_, owners)| !owners.is_empty()).collect();
        Self { inodes, owners, closed: found.closed, hidden, cut }
    }

    /// Why a socket has no known owner.
    fn why(&self, inode: u64) -> Why {
        let (code, text) = if inode == 0 {
            (FaultCode::Unsupported, "it is the kernel's own and no process holds it".to_owned())
        } else if self.hidden {
            let text = "the processes of other users are hidden (procfs is mounted with hidepid), \
                        and seeing them takes CAP_SYS_PTRACE";
            (FaultCode::Permission, text.to_owned())
        } else if self.closed > 0 {
            let text = format!(
                "none of the processes that may be looked into holds it; {} may not be, for that \
                 takes CAP_SYS_PTRACE",
                self.closed
            );
            (FaultCode::Permission, text)
        } else if self.cut {
            let text = format!("more than {LINKS_LIMIT} files are open, and no more are looked at");
            (FaultCode::Exhausted, text)
        } else {
            let text = "no process that is seen from here holds it: it is of another pid namespace";
            (FaultCode::Unsupported, text.to_owned())
        };
        Why { code: code.word(), text }
    }
}

impl Sockets {
    /// What listens now. Blocks: the processes' files may hang, so only a cell asks.
    pub fn listing(&self, now: Now) -> Result<Listing, Fault> {
        let mut cache = locked(&self.listing);
        if let Some((at, listing)) = &cache.listing
            && now.mono.since(*at) < FRESH
        {
            return Ok(listing.clone());
        }
        let file = network_folder(&self.paths).join("dev");
        match Namespace::of_file(&file) {
            Namespace::Own => {}
            other => return Err(other.fault(&file)),
        }
        let mut asker = asker();
        let mut found: Vec<(&'static str, Socket)> = Vec::new();
        let mut over_limit = 0;
        for (protocol, question) in [("tcp", Question::Listening), ("udp", Question::Bound)] {
            let told = asker.ask(question, |socket| {
                if found.len() < LISTENERS_LIMIT {
                    found.push((protocol, socket));
                } else {
                    over_limit += 1;
                }
            });
            told.map_err(|trouble| trouble.fault("the listeners"))?;
        }
        found.sort_unstable_by_key(|(protocol, socket)| {
            (*protocol, socket.port, socket.local, socket.inode)
        });

        let wanted: HashSet<u64> = found
            .iter()
            .map(|(_, socket)| u64::from(socket.inode))
            .filter(|inode| *inode != 0)
            .collect();
        let mut inodes: Vec<u64> = wanted.into_iter().collect();
        inodes.sort_unstable();
        let known = match &cache.owners {
            Some((at, known)) if known.inodes == inodes && now.mono.since(*at) < OWNERS_FRESH => {
                known
            }
            _ => &cache.owners.insert((now.mono, Known::of(self, inodes))).1,
        };
        let listeners = found.iter().map(|(protocol, socket)| row(protocol, socket, known));
        let listing =
            Listing { at: now.wall.rfc3339(), listeners: listeners.collect(), over_limit };
        cache.listing = Some((now.mono, listing.clone()));
        Ok(listing)
    }
}

fn row(protocol: &'static str, socket: &Socket, known: &Known) -> Listener {
    let inode = u64::from(socket.inode);
    let owners = known.owners.get(&inode).cloned().unwrap_or_default();
    let reason = owners.is_empty().then(|| known.why(inode));
    let tcp = protocol == "tcp";
    Listener {
        protocol,
        address: socket.local.to_string(),
        port: socket.port,
        ipv6_only: socket.only_v6,
        queue: tcp.then_some(socket.waiting),
        queue_limit: tcp.then_some(socket.most),
        user: socket.user,
        owners,
        reason,
    }
}
