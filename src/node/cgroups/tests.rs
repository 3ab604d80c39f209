use std::fs;
use std::path::PathBuf;

use super::files::{Controller, Counts, hierarchies, io_old, io_unified, keyed};
use super::walk::{GROUPS_LIMIT, Walker};
use super::*;
use crate::node::tests::{Copy, mangled};
use crate::node::{Frame, Sampler, Signal};
use crate::time::{Now, Wall};

const ID: &str = "3f2a9c81d4e7b6a5f0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b8c9d0e1f2a3";

/// A tree of groups, as the kernel shows it.
pub(in crate::node) struct Tree<'a> {
    copy: &'a Copy,
}

impl<'a> Tree<'a> {
    fn of(copy: &'a Copy) -> Self {
        Self { copy }
    }

    fn write(&self, file: &str, text: &str) {
        let path: PathBuf = self.copy.paths().sysfs.join("fs/cgroup").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A group of version 2: microseconds of processor time, periods and those throttled, bytes of
    /// memory, bytes of I/O.
    fn unified(&self, group: &str, cpu: u64, quota: (u64, u64), memory: u64, io: u64) {
        let (periods, throttled) = quota;
        self.write(&format!("{group}/cgroup.type"), "domain\n");
        self.write(
            &format!("{group}/cpu.stat"),
            &format!(
                "usage_usec {cpu}\nuser_usec {cpu}\nsystem_usec 0\nnr_periods {periods}\n\
                 nr_throttled {throttled}\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
            ),
        );
        self.write(&format!("{group}/memory.current"), &format!("{memory}\n"));
        self.write(
            &format!("{group}/memory.events"),
            "low 0\nhigh 2\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n",
        );
        self.write(
            &format!("{group}/io.stat"),
            &format!("8:0 rbytes={io} wbytes=1000 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n"),
        );
    }

    /// Lets the container of [`unified_node`] use a little of everything.
    pub(in crate::node) fn work(&self) {
        let container = format!("system.slice/docker-{ID}.scope");
        self.unified(&container, 2_500_000, (200, 40), 600, 1_000_500);
    }

    /// The same in version 1, in its four trees.
    fn old(&self, group: &str, cpu: u64, quota: (u64, u64), memory: u64, io: u64) {
        let (periods, throttled) = quota;
        self.write(
            &format!("cpu,cpuacct/{group}/cpu.stat"),
            &format!("nr_periods {periods}\nnr_throttled {throttled}\nthrottled_time 0\n"),
        );
        self.write(&format!("cpu,cpuacct/{group}/cpuacct.usage"), &format!("{}\n", cpu * 1000));
        self.write(&format!("memory/{group}/memory.usage_in_bytes"), &format!("{memory}\n"));
        self.write(&format!("memory/{group}/memory.failcnt"), "3\n");
        self.write(
            &format!("memory/{group}/memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        );
        self.write(
            &format!("blkio/{group}/blkio.throttle.io_service_bytes"),
            &format!("8:0 Read {io}\n8:0 Write 1000\n8:0 Total {0}\nTotal {0}\n", io + 1000),
        );
    }
}

/// A node of version 2 with a service, a container and a slice between.
pub(in crate::node) fn unified_node(copy: &Copy) -> Tree<'_> {
    let tree = Tree::of(copy);
    tree.write("cgroup.controllers", "cpuset cpu io memory pids\n");
    tree.write("cpu.stat", "usage_usec 1\n");
    tree.unified("system.slice", 9, (0, 0), 900, 9);
    tree.unified("system.slice/nginx.service", 1_000_000, (0, 0), 500, 10);
    tree.unified(&format!("system.slice/docker-{ID}.scope"), 2_000_000, (100, 10), 300, 500);
    tree
}

fn shown<'a>(view: &'a View, set: &str) -> Vec<&'a str> {
    view.shown(set).iter().map(|shown| &*shown.name).collect()
}

fn walker(copy: &Copy) -> Walker {
    Walker::new(hierarchies(&copy.paths().sysfs))
}

fn apart() {
    // Walks closer than a tenth of a second tell no rate.
    std::thread::sleep(Duration::from_millis(120));
}

#[test]
fn a_tree_of_version_2() {
    let copy = Copy::of("idle");
    let tree = unified_node(&copy);
    assert_eq!(version(&copy.paths().sysfs), Some("v2"));
    assert!(limits_cpu(&copy.paths().sysfs));
    let mut walker = walker(&copy);
    let first = walker.walk();
    assert_eq!((first.found, first.over, first.worst), (3, 0, None));
    assert_eq!(shown(&first, "memory"), ["container/3f2a9c81d4e7", "nginx.service"]);
    assert_eq!(shown(&first, "cpu"), [""; 0]);
    assert_eq!(first.shown("memory")[0].events, [Some(1), Some(3), Some(2)]);

    apart();
    tree.unified("system.slice/nginx.service", 1_050_000, (0, 0), 400, 10);
    let container = format!("system.slice/docker-{ID}.scope");
    tree.unified(&container, 2_000_000, (200, 40), 600, 1_000_500);
    let second = walker.walk();
    assert_eq!(second.worst, Some(0.3));
    assert_eq!(shown(&second, "cpu"), ["nginx.service"]);
    assert_eq!(shown(&second, "throttled"), ["container/3f2a9c81d4e7"]);
    assert_eq!(shown(&second, "io"), ["container/3f2a9c81d4e7"]);
    assert_eq!(second.shown("memory")[0].usage.memory, Some(600.0));
    let seconds = second.at.since(first.at).as_secs_f64();
    let cpu = second.shown("cpu")[0].usage.cpu.unwrap();
    assert!((cpu - 0.05 / seconds).abs() < 1e-6, "{cpu} in {seconds} s");
    let io = second.shown("io")[0].usage.io.unwrap();
    assert!((io - 1e6 / seconds).abs() < 1.0, "{io} in {seconds} s");
    assert!(second.layout > first.layout);

    // The same is shown, so nothing changes for what reads the names.
    apart();
    let third = walker.walk();
    assert_eq!(third.layout, second.layout);
    assert_eq!(third.worst, Some(0.0), "no period since");
    // A group that is gone takes its rows along.
    fs::remove_dir_all(copy.paths().sysfs.join("fs/cgroup").join(container)).unwrap();
    let fourth = walker.walk();
    assert_eq!(shown(&fourth, "memory"), ["nginx.service"]);
    assert_eq!(fourth.layout, third.layout + 1);
}

#[test]
fn the_trees_of_version_1() {
    let copy = Copy::of("idle");
    let tree = Tree::of(&copy);
    for root in ["cpu,cpuacct", "memory", "blkio"] {
        tree.write(&format!("{root}/release_agent"), "\n");
    }
    tree.old("", 1, (0, 0), 1, 1);
    tree.old(&format!("docker/{ID}"), 2_000_000, (100, 10), 300, 500);
    // systemd makes its slices in one tree and not in the other.
    tree.write("memory/system.slice/rsyslog.service/memory.usage_in_bytes", "700\n");
    let folder = copy.paths().sysfs.join("fs/cgroup");
    for link in ["cpu", "cpuacct"] {
        std::os::unix::fs::symlink("cpu,cpuacct", folder.join(link)).unwrap();
    }
    assert_eq!(version(&copy.paths().sysfs), Some("v1"));
    assert!(limits_cpu(&copy.paths().sysfs));
    let found = hierarchies(&copy.paths().sysfs);
    let controllers: Vec<_> = found.iter().map(|h| h.controllers.clone()).collect();
    assert_eq!(
        controllers,
        [
            vec![Controller::Cpu, Controller::CpuAccounting],
            vec![Controller::Memory],
            vec![Controller::Blocks]
        ]
    );
    assert!(found.iter().all(|hierarchy| !hierarchy.is_inside()));
    let mut walker = Walker::new(found);
    let first = walker.walk();
    assert_eq!(shown(&first, "memory"), ["container/3f2a9c81d4e7", "rsyslog.service"]);
    let container = &first.shown("memory")[0];
    assert_eq!(container.events, [Some(1), Some(3), None], "version 1 has no soft limit");

    apart();
    tree.old(&format!("docker/{ID}"), 2_100_000, (120, 20), 300, 50_500);
    let second = walker.walk();
    assert_eq!(second.worst, Some(0.5));
    for set in ["cpu", "throttled", "io"] {
        assert_eq!(shown(&second, set), ["container/3f2a9c81d4e7"], "{set}");
    }
}

#[test]
fn a_hybrid_takes_each_controller_from_where_it_is() {
    let copy = Copy::of("idle");
    let tree = Tree::of(&copy);
    tree.write("unified/cgroup.controllers", "\n");
    tree.old("", 1, (0, 0), 1, 1);
    tree.old("web", 1, (0, 0), 40, 1);
    assert_eq!(version(&copy.paths().sysfs), Some("hybrid"));
    // A unified tree without controllers tells nothing that the others don't.
    let all = |copy: &Copy| hierarchies(&copy.paths().sysfs).len();
    assert_eq!(all(&copy), 3);
    tree.write("unified/cgroup.controllers", "io\n");
    tree.write("unified/web/io.stat", "8:0 rbytes=5 wbytes=6\n");
    fs::remove_dir_all(copy.paths().sysfs.join("fs/cgroup/blkio")).unwrap();
    assert_eq!(all(&copy), 3);
    let mut walker = walker(&copy);
    walker.walk();
    apart();
    tree.write("unified/web/io.stat", "8:0 rbytes=50 wbytes=60\n");
    let view = walker.walk();
    assert_eq!((shown(&view, "io"), shown(&view, "memory")), (vec!["web"], vec!["web"]));
}

#[test]
fn a_container_that_sees_itself_only_is_told_what_to_do() {
    let copy = Copy::of("idle");
    let tree = unified_node(&copy);
    tree.write("cgroup.type", "domain\n");
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let mut frame = Frame::default();
    let now = |second: i64| Now { mono: Mono::from_secs(second), wall: Wall::from_secs(second) };
    sampler.sample(now(1), &mut frame);
    match frame.find("node.cgroup.throttled", None) {
        Some(Signal::Absent(fault)) => {
            assert_eq!(fault.code, FaultCode::Permission);
            assert!(fault.text.contains("--path.sysfs"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    // None at all is another reason.
    fs::remove_dir_all(copy.paths().sysfs.join("fs/cgroup")).unwrap();
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    sampler.sample(now(1), &mut frame);
    match frame.find("node.cgroup.throttled", None) {
        Some(Signal::Absent(fault)) => assert_eq!(fault.code, FaultCode::Unsupported),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_huge_tree_is_cut_at_its_limit_and_says_so() {
    let copy = Copy::of("idle");
    let tree = unified_node(&copy);
    for n in 0..GROUPS_LIMIT + 40 {
        tree.write(&format!("deep/g{n}/memory.current"), "1\n");
    }
    let view = walker(&copy).walk();
    assert_eq!(view.found, GROUPS_LIMIT);
    // The three of the tree, and `deep` itself, are there as well.
    assert_eq!(view.over, 40 + 4);
    assert!(shown(&view, "memory").contains(&"nginx.service"), "what is near the root comes first");
    // Nobody knows whether one of those is throttled.
    assert!(view.partial.as_ref().is_some_and(|fault| fault.text.contains("44 are left out")));
    eprintln!("{} groups walked in {:?}", view.found, view.took);
}

/// A tree that can't be listed any more is none in which nothing is throttled.
#[test]
fn a_tree_that_vanishes_tells_nothing_of_its_groups() {
    let copy = Copy::of("idle");
    unified_node(&copy);
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let mut frame = Frame::default();
    let mut worst = |second: i64| {
        // The walk itself is timed by the clock.
        let mono = Mono::now().plus(Duration::from_secs(second as u64 * 20));
        sampler.sample(Now { mono, wall: Wall(mono.0) }, &mut frame);
        std::thread::sleep(Duration::from_millis(300));
        sampler.sample(Now { mono, wall: Wall(mono.0) }, &mut frame);
        match frame.find("node.cgroup.throttled", None) {
            Some(Signal::Absent(fault)) => Err(fault.text.clone()),
            Some(Signal::Number(worst)) => Ok(Some(worst)),
            _ => Ok(None),
        }
    };
    assert_eq!(worst(0), Ok(None));
    assert_eq!(worst(1), Ok(Some(0.0)));
    fs::remove_dir_all(copy.paths().sysfs.join("fs/cgroup")).unwrap();
    let text = worst(2).unwrap_err();
    assert!(text.contains("fs/cgroup can't be listed"), "{text}");
}

#[test]
fn spoilt_files_of_a_group_are_absent_and_never_zero() {
    let copy = Copy::of("idle");
    let tree = unified_node(&copy);
    let group = "system.slice/nginx.service";
    for spoilt in ["", "x\n", "\u{0}\u{0}", "99999999999999999999999\n", &"9".repeat(100_000)] {
        for file in ["cpu.stat", "memory.current", "memory.events", "io.stat"] {
            tree.write(&format!("{group}/{file}"), spoilt);
        }
        let mut walker = walker(&copy);
        walker.walk();
        apart();
        let view = walker.walk();
        for set in ["cpu", "throttled", "memory", "io"] {
            assert!(!shown(&view, set).contains(&"nginx.service"), "{set} with {spoilt:.9}");
        }
    }
    fs::remove_dir_all(copy.paths().sysfs.join("fs/cgroup").join(group)).unwrap();
    assert_eq!(shown(&walker(&copy).walk(), "memory"), ["container/3f2a9c81d4e7"]);
}

#[test]
fn texts_of_groups() {
    assert_eq!(keyed(b"a 1\nnr_periods 7\n", b"nr_periods"), Some(7));
    assert_eq!(keyed(b"nr_periods_more 7\n", b"nr_periods"), None);
    assert_eq!(io_unified(b"8:0 rbytes=1 wbytes=2 rios=9\n8:16 \n"), Some(3));
    assert_eq!(io_unified(b""), Some(0), "nothing was read yet");
    assert_eq!(io_unified(b"8:0 rbytes=x wbytes=2\n"), None);
    assert_eq!(io_old(b"8:0 Read 1\n8:0 Total 1\nTotal 1\n"), Some(1));
    assert_eq!(Counts::default().memory, None);
    mangled("io.stat", b"8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n", |text| {
        let _ = io_unified(text);
    });
    mangled("cpu.stat", b"usage_usec 5\nnr_periods 7\nnr_throttled 1\n", |text| {
        let _ = (keyed(text, b"nr_throttled"), io_old(text));
    });
}
