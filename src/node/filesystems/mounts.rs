//! What is mounted, from mountinfo, and which of it is worth showing.

use crate::node::text::{fields, lines, number};

/// Filesystems that hold nothing of their own, or are always full.
const PSEUDO: [&str; 31] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fusectl",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "udf",
    "cramfs",
];

/// Mounts below these belong to the system, a session or a container.
const HIDDEN: [&str; 10] = [
    "/dev",
    "/proc",
    "/sys",
    "/run/credentials",
    "/run/user",
    "/run/containerd",
    "/run/containers",
    "/var/lib/docker",
    "/var/lib/containers/storage",
    "/var/lib/kubelet/pods",
];

/// Folders with what belongs to a single container, wherever a distribution keeps them: containerd's
/// (k3s, k0s and MicroK8s have it elsewhere), kubelet's, and those of CRI-O and Podman.
const WITHIN: [&str; 3] = ["/containerd/io.containerd.", "/kubelet/pods/", "/overlay-containers/"];

/// One line of mountinfo (Documentation/filesystems/proc.rst, 3.5).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mount {
    pub(super) device: (u64, u64),
    pub(super) root: String,
    pub(super) point: String,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) mount_readonly: bool,
    /// Of the filesystem itself, behind all its mounts.
    pub(super) super_readonly: bool,
    /// ext4 since Linux 6.15 says so instead of turning the superblock read-only; others say
    /// that they were shut down.
    pub(super) dead: bool,
}

/// A name with its octal escapes (space, tab, newline, backslash) undone.
pub(super) fn unescaped(field: &[u8]) -> String {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = match after {
            [a, b, c, ..] if *first == b'\\' => [a, b, c].into_iter().try_fold(0u32, |sum, d| {
                let digit = d.checked_sub(b'0').filter(|digit| *digit < 8)?;
                Some(sum * 8 + u32::from(digit))
            }),
            _ => None,
        };
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn has_option(options: &[u8], wanted: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == wanted)
}

pub(super) fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = fields(line).skip(2);
    let mut device = words.next()?.split(|byte| *byte == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let root = unescaped(words.next()?);
    let point = unescaped(words.next()?);
    let options = words.next()?;
    words.find(|word| *word == b"-")?;
    let kind = unescaped(words.next()?);
    let source = unescaped(words.next()?);
    let of_super = words.next()?;
    if !point.starts_with('/') || point.contains('\0') {
        return None;
    }
    Some(Mount {
        device,
        root,
        point,
        kind,
        source,
        mount_readonly: has_option(options, b"ro"),
        super_readonly: has_option(of_super, b"ro"),
        dead: has_option(of_super, b"emergency_ro") || has_option(of_super, b"shutdown"),
    })
}

fn below(point: &str, folder: &str) -> bool {
    point.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether it is mountinfo at all.
pub(super) fn tells(text: &[u8]) -> bool {
    lines(text).any(|line| parse(line).is_some())
}

/// The filesystems worth showing: one a device, by its shortest mount point, whole ones before
/// parts that were bound elsewhere.
pub(super) fn chosen(text: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in lines(text).filter_map(parse) {
        // What is mounted later at the same point hides the earlier.
        mounts.retain(|earlier| earlier.point != mount.point);
        mounts.push(mount);
    }
    mounts.retain(|mount| {
        // A container's own root is an overlay.
        (!PSEUDO.contains(&mount.kind.as_str()) || (mount.kind == "overlay" && mount.point == "/"))
            && !HIDDEN.iter().any(|folder| below(&mount.point, folder))
            && !WITHIN.iter().any(|folder| mount.point.contains(folder))
    });
    mounts.sort_by(|a, b| {
        let key = |m: &Mount| (m.root != "/", m.point.len());
        key(a).cmp(&key(b)).then_with(|| a.point.cmp(&b.point))
    });
    let mut devices = Vec::new();
    mounts.retain(|mount| {
        let first = !devices.contains(&mount.device);
        if first {
            devices.push(mount.device);
        }
        first
    });
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    mounts
}

/// Which block devices carry a mount.
#[derive(Debug, Default, PartialEq)]
pub(in crate::node) struct Mounted {
    devices: Vec<(u64, u64)>,
    /// btrfs and overlays have a device number of their own, and the block device as source.
    sources: Vec<String>,
}

impl Mounted {
    pub(in crate::node) fn carries(&self, device: (u64, u64), name: &str) -> bool {
        self.devices.contains(&device) || self.sources.iter().any(|source| source == name)
    }

    pub(super) fn of(text: &[u8]) -> Self {
        let mut mounted = Self::default();
        for mount in lines(text).filter_map(parse) {
            mounted.devices.push(mount.device);
            mounted.sources.extend(mount.source.strip_prefix("/dev/").map(str::to_owned));
        }
        mounted
    }
}
