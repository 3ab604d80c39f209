//! Settings that the packs for products judge: each gate is red while one differs from what the
//! product asks for. Ports, disks and room are met for real in `faults`.

use super::*;

/// A gate, a file of the recorded node, what is wrong in it, and what is right.
type Setting = (&'static str, &'static str, &'static str, &'static str);

const KUBERNETES: [Setting; 8] = [
    ("kubernetes.forwarding", "proc/sys/net/ipv4/ip_forward", "0", "1"),
    ("kubernetes.kernel", "proc/sys/vm/overcommit_memory", "2", "1"),
    ("kubernetes.kernel", "proc/sys/vm/panic_on_oom", "1", "0"),
    ("kubernetes.kernel", "proc/sys/kernel/panic_on_oops", "0", "1"),
    ("kubernetes.inotify", "proc/sys/fs/inotify/max_user_instances", "128", "512"),
    ("kubernetes.inotify", "proc/sys/fs/inotify/max_user_watches", "8192", "524288"),
    ("kubernetes.map-count", "proc/sys/vm/max_map_count", "65530", "262144"),
    ("kubernetes.conntrack", "proc/sys/net/netfilter/nf_conntrack_max", "65536", "131072"),
];

const DATABASE: [Setting; 4] = [
    (
        "database.governor",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "powersave",
        "performance",
    ),
    (
        "database.huge-pages",
        "sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
        "always madvise [never]",
    ),
    // With swap on.
    ("database.swap", "proc/sys/vm/swappiness", "60", "1"),
    ("database.zones", "proc/sys/vm/zone_reclaim_mode", "1", "0"),
];

const LOG: [Setting; 5] = [
    ("log.map-count", "proc/sys/vm/max_map_count", "65530", "262144"),
    ("log.swap", "proc/sys/vm/swappiness", "60", "1"),
    ("log.receive-buffer", "proc/sys/net/core/rmem_max", "212992", "17039360"),
    ("log.backlog", "proc/sys/net/core/somaxconn", "128", "4096"),
    ("log.inotify", "proc/sys/fs/inotify/max_user_watches", "8192", "524288"),
];

/// Settings are read every half a minute.
const SEEN: i64 = 31;

fn node(pack: &str) -> Recorded {
    Recorded::over(&format!("include: [ 'pack:{pack}' ]"), true, &SCALED)
}

fn set(node: &Recorded, file: &str, value: &str) {
    fs::write(node.folder.path().join(file), format!("{value}\n")).unwrap();
}

fn verdict(node: &mut Recorded, gate: &str) -> Verdict {
    node.watched.judge().remove(gate).unwrap_or_else(|| panic!("no gate {gate}")).verdict
}

#[test]
fn each_setting_that_differs_turns_its_gate_red_and_green_again() {
    let packs: [(&str, &[Setting]); 3] =
        [("kubernetes-node", &KUBERNETES), ("database-node", &DATABASE), ("log-node", &LOG)];
    for (pack, settings) in packs {
        let mut node = node(pack);
        let swapping = |c: &mut Counters| c.swap_kb = 2_000_000;
        for (_, file, _, right) in settings {
            set(&node, file, right);
        }
        node.pass(SEEN, swapping);
        for (gate, ..) in settings {
            assert_eq!(verdict(&mut node, gate), Verdict::Pass, "{gate}");
        }
        for (gate, file, wrong, right) in settings {
            set(&node, file, wrong);
            node.pass(SEEN, swapping);
            for (other, ..) in settings {
                let expected = if other == gate { Verdict::Fail } else { Verdict::Pass };
                assert_eq!(verdict(&mut node, other), expected, "{other} while {file} is {wrong}");
            }
            set(&node, file, right);
            node.pass(SEEN, swapping);
            assert_eq!(verdict(&mut node, gate), Verdict::Pass, "{gate}");
        }
    }
}

/// Of kubelet swap must be off; of a database and a log's node it may be on and hardly used.
#[test]
fn swap_is_red_where_it_is_on_and_used() {
    for (pack, gate, bears_it) in [
        ("kubernetes-node", "kubernetes.swap", false),
        ("database-node", "database.swap", true),
        ("log-node", "log.swap", true),
    ] {
        let mut node = node(pack);
        for (swappiness, swap_kb) in [("60", 0), ("60", 2_000_000), ("1", 2_000_000), ("1", 0)] {
            set(&node, "proc/sys/vm/swappiness", swappiness);
            node.pass(SEEN, |c| c.swap_kb = swap_kb);
            let fine = swap_kb == 0 || bears_it && swappiness == "1";
            let expected = if fine { Verdict::Pass } else { Verdict::Fail };
            assert_eq!(verdict(&mut node, gate), expected, "{swappiness}, {swap_kb} kB of swap");
        }
    }
}

/// A setting that a kernel does not have is no setting that is right.
#[test]
fn a_setting_that_is_not_there_is_open() {
    let mut node = node("log-node");
    fs::remove_file(node.folder.path().join("proc/sys/vm/max_map_count")).unwrap();
    node.pass(SEEN, |_| {});
    assert_eq!(verdict(&mut node, "log.map-count"), Verdict::Open);
}
