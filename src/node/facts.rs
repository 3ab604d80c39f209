//! What a node is: facts for `when:` of gates and for the report. Read at start and on reload.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::hardware::{governor_files, huge_pages_file};
use super::text::chosen;
use super::{Paths, cgroups, hardware};

/// Facts come from small files; more of one is not read.
const FACT_LIMIT: u64 = 256 << 10;

/// Disks looked at.
const DISKS_LIMIT: usize = 64;

/// Since Linux 6.13, with CONFIG_DETECT_HUNG_TASK.
const HUNG_TASKS: &str = "sys/kernel/hung_task_detect_count";
/// Only kernels that know of several memories (CONFIG_NUMA) have it.
const ZONE_RECLAIM: &str = "sys/vm/zone_reclaim_mode";
/// Interfaces that are looked at.
const LINKS_LIMIT: usize = 4096;

/// What is found of the node, by name. A fact that can't be found is not in the map.
pub fn facts(paths: &Paths) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.insert(name.to_owned(), value);
        }
    };
    let proc = |file: &str| small(&paths.procfs.join(file));
    fact("kernel", proc("sys/kernel/osrelease"));
    fact("architecture", Some(std::env::consts::ARCH.to_owned()));
    fact("boot_id", proc("sys/kernel/random/boot_id"));
    fact("hostname", proc("sys/kernel/hostname"));
    fact("uptime_seconds", proc("uptime").and_then(|t| t.split(' ').next().map(str::to_owned)));

    let release = ["etc/os-release", "usr/lib/os-release"];
    let release = release.iter().find_map(|file| small(&paths.rootfs.join(file)));
    for (name, key) in [("os", "ID"), ("os_version", "VERSION_ID"), ("os_name", "PRETTY_NAME")] {
        fact(name, release.as_deref().and_then(|text| assigned(text, key)));
    }

    let stat = proc("stat");
    let cpus = stat.map(|text| {
        let core = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        text.lines().filter(core).count()
    });
    fact("cpus", cpus.filter(|cpus| *cpus > 0).map(|cpus| cpus.to_string()));
    let memory = proc("meminfo").and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kilobytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes.checked_mul(1024)?.to_string())
    });
    fact("memory_bytes", memory);

    let info = proc("cpuinfo");
    let told = |key: &str| {
        let line = info.as_deref()?.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    // A processor of ARM has numbers for a name.
    let arm = || Some(format!("ARM {} {}", told("CPU implementer")?, told("CPU part")?));
    fact("cpu_model", told("model name").or_else(arm));
    fact("microcode", told("microcode"));
    fact("psi", pressure(paths, "cpu"));
    fact("psi_irq", pressure(paths, "irq"));
    fact("overcommit_memory", proc("sys/vm/overcommit_memory"));
    let swap = small(&paths.procfs.join("swaps"));
    fact("swap", swap.map(|text| (text.lines().count() > 1).to_string()));
    for (name, file) in
        [("schedstat", "schedstat"), ("hung_tasks", HUNG_TASKS), ("numa", ZONE_RECLAIM)]
    {
        fact(name, there(paths.procfs.join("stat"), || paths.procfs.join(file).exists()));
    }
    let corrupted = |text: &String| text.contains("HardwareCorrupted:").to_string();
    fact("memory_failure", proc("meminfo").as_ref().map(corrupted));

    let sysfs = &paths.sysfs;
    let cpus = || sysfs.join("devices/system/cpu");
    let throttles = || !hardware::throttle_files(sysfs, "core_throttle_count").is_empty();
    fact("thermal", there(cpus(), throttles));
    fact("ecc", there(cpus(), || !hardware::memory_files(sysfs, "ue_count").is_empty()));
    let governors = governor_files(sysfs);
    fact("cpufreq", there(cpus(), || !governors.is_empty()));
    fact("governor", same(governors.iter().filter_map(|file| small(file))));
    let huge_pages = small(&huge_pages_file(sysfs));
    let setting = huge_pages.as_ref().and_then(|text| chosen(text.as_bytes()));
    let tells = || huge_pages_file(sysfs).exists();
    fact("huge_pages", there(sysfs.join("kernel"), tells));
    fact("transparent_hugepages", setting.map(|word| String::from_utf8_lossy(word).into_owned()));
    let disks = disks(paths, DISKS_LIMIT);
    fact("disks", there(sysfs.join("block"), || true).map(|_| disks.len().to_string()));
    fact("disks_rotational", same(disks.into_iter().map(|disk| disk.rotational)));
    fact("cgroups", cgroups::version(sysfs).map(str::to_owned));
    fact("cgroup_quota", there(cpus(), || cgroups::limits_cpu(sysfs)));
    // What a node has none of is not judged.
    for (name, there) in super::disk_health::facts(paths).into_iter().flatten() {
        fact(name, Some(there.to_string()));
    }
    let blocks = paths.sysfs.join("block").is_dir();
    let arrays = proc("mdstat").is_some_and(|text| text.lines().any(|l| l.starts_with("md")));
    fact("md", blocks.then(|| arrays.to_string()));
    let flushes = proc("diskstats")
        .and_then(|text| super::diskstats::tells_flushes(format!("{text}\n").as_bytes()));
    fact("disk_flushes", flushes.map(|tells| tells.to_string()));
    for (name, found) in links(paths) {
        fact(name, Some(found.to_string()));
    }
    fact("qdisc", there(paths.procfs.join("stat"), || super::links::has_queues(paths)));
    fact("sockets", there(paths.procfs.join("stat"), || super::sockets::can_be_asked(paths)));
    // Not there where the packet filter tracks nothing (its module is not loaded).
    let tracked = paths.procfs.join("sys/net/netfilter/nf_conntrack_max").try_exists().ok();
    fact(
        "conntrack",
        tracked.filter(|_| paths.procfs.join("stat").exists()).map(|t| t.to_string()),
    );
    fact("virtualisation", virtualisation(paths, info.as_deref()));
    facts
}

/// Whether the kernel or the hardware has something, where it can be told: where the folder is not
/// there that it would be in, nothing is known.
fn there(folder: PathBuf, look: impl FnOnce() -> bool) -> Option<String> {
    folder.exists().then(|| look().to_string())
}

/// The value that all have, or `mixed`.
fn same(mut values: impl Iterator<Item = String>) -> Option<String> {
    let first = values.next()?;
    Some(if values.all(|value| value == first) { first } else { "mixed".to_owned() })
}

/// A disk as the kernel describes it.
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) model: String,
    /// 1 or 0.
    pub(super) rotational: String,
    pub(super) scheduler: String,
    pub(super) cache: String,
}

/// Devices with hardware, or what a hypervisor passes for it, behind them; by their names.
pub(super) fn disks(paths: &Paths, limit: usize) -> Vec<Disk> {
    let folder = paths.sysfs.join("block");
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| folder.join(name).join("device").exists()).collect();
    names.sort();
    names.truncate(limit);
    let describe = |name: String| {
        let text = |file: &str| small(&folder.join(&name).join(file)).unwrap_or_default();
        let scheduler = text("queue/scheduler");
        let word = chosen(scheduler.as_bytes()).map(String::from_utf8_lossy);
        Disk {
            model: text("device/model"),
            rotational: text("queue/rotational"),
            scheduler: word.map(|word| word.into_owned()).unwrap_or(scheduler),
            cache: text("queue/write_cache"),
            name,
        }
    };
    names.into_iter().map(describe).collect()
}

/// Whether the kernel tells pressure (PSI) of a resource: saturation is judged by it, and by other signals where
/// it does not. Opening the file is not enough: a kernel with PSI switched off refuses the read.
fn pressure(paths: &Paths, resource: &str) -> Option<String> {
    let answer = fs::read(paths.procfs.join("pressure").join(resource));
    let kind = answer.as_ref().map(|_| ()).map_err(std::io::Error::kind);
    match kind {
        Ok(()) => Some("true".to_owned()),
        Err(ErrorKind::NotFound | ErrorKind::Unsupported) if paths.procfs.join("stat").exists() => {
            Some("false".to_owned())
        }
        Err(_) => None,
    }
}

/// Whether any interface that is hardware, or a bond, tells its speed or its duplex, and whether
/// there is a bond: gates over these apply only where there are such.
fn links(paths: &Paths) -> impl Iterator<Item = (&'static str, bool)> {
    let folder = paths.sysfs.join("class/net");
    let mut found = [("link_speed", false), ("link_duplex", false), ("bond", false)];
    let Ok(entries) = fs::read_dir(folder) else {
        return found.into_iter().take(0);
    };
    for link in entries.flatten().take(LINKS_LIMIT).map(|entry| entry.path()) {
        let bond = link.join("bonding").exists();
        if !bond && !link.join("device").exists() {
            continue;
        }
        let number = |name: &str| small(&link.join(name))?.parse::<u64>().ok();
        let [speed, duplex, bonds] = &mut found;
        // As the kernel says that it knows none: -1, 0 or all ones.
        speed.1 |= number("speed").is_some_and(|speed| (1..4_000_000_000).contains(&speed));
        duplex.1 |= matches!(small(&link.join("duplex")).as_deref(), Some("half" | "full"));
        bonds.1 |= bond;
    }
    found.into_iter().take(3)
}

/// What the node runs on: the hypervisor's name, `vm` where one is there and does not say which,
/// `none` where the processor says that none is there.
fn virtualisation(paths: &Paths, cpuinfo: Option<&str>) -> Option<String> {
    let dmi = |file: &str| small(&paths.sysfs.join("class/dmi/id").join(file)).unwrap_or_default();
    let said = format!("{} {}", dmi("sys_vendor"), dmi("product_name"));
    let known = [
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("VMware", "vmware"),
        ("VirtualBox", "virtualbox"),
        ("Xen", "xen"),
        ("Microsoft Corporation Virtual", "hyperv"),
        ("Amazon EC2", "amazon"),
        ("Google", "google"),
        ("OpenStack", "openstack"),
        ("Nutanix", "nutanix"),
        ("Parallels", "parallels"),
    ];
    if let Some((_, name)) = known.iter().find(|(vendor, _)| said.contains(vendor)) {
        return Some((*name).to_owned());
    }
    if let Some(kind) = small(&paths.sysfs.join("hypervisor/type")) {
        return Some(kind);
    }
    let flags = cpuinfo?.lines().find(|line| line.starts_with("flags"))?;
    let vm = flags.split_whitespace().any(|flag| flag == "hypervisor");
    Some(if vm { "vm" } else { "none" }.to_owned())
}

/// The value of `KEY=value` or `KEY="value"`.
fn assigned(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn small(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(FACT_LIMIT).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{Copy, tree};

    #[test]
    fn facts_of_a_recorded_node() {
        let facts = facts(&tree("idle"));
        let fact = |name: &str| facts.get(name).map(String::as_str);
        assert_eq!(fact("kernel"), Some("6.1.0-56-amd64"));
        assert_eq!(fact("os"), Some("debian"));
        assert_eq!(fact("os_version"), Some("12"));
        assert_eq!(fact("cpus"), Some("2"));
        assert_eq!(fact("memory_bytes"), Some("25859780608"));
        assert_eq!(fact("boot_id"), Some("5e7a2d6c-1f0b-4c57-9a0e-6a3f5f3f9b11"));
        assert_eq!(fact("virtualisation"), Some("kvm"));
        assert_eq!(fact("psi"), Some("true"));
        assert_eq!(super::facts(&tree("rhel7")).get("psi").map(String::as_str), Some("false"));
        assert_eq!(fact("uptime_seconds"), Some("350735.47"));
    }

    #[test]
    fn a_processor_of_arm_is_named_by_its_numbers() {
        let copy = Copy::of("idle");
        let text = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm aes\n\
            CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n\
            CPU part\t: 0xd0c\nCPU revision\t: 1\n\n";
        copy.write("proc/cpuinfo", text);
        assert_eq!(facts(&copy.paths())["cpu_model"], "ARM 0x41 0xd0c");
    }

    #[test]
    fn what_is_not_there_is_no_fact() {
        let facts = facts(&tree("nothing-here"));
        assert_eq!(facts.keys().collect::<Vec<_>>(), ["architecture"]);
    }
}
