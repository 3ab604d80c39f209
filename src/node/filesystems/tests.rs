use std::path::Path;
use std::sync::atomic::AtomicU32;

use super::mounts::{parse, unescaped};
use super::*;
use crate::node::tests::{Copy, fixture, mangled};
use crate::node::{Frame, Sampler, Signal};
use crate::time::Now;

const MOUNTINFO: &str = "proc/1/mountinfo";

fn half_full(_: &Path) -> Result<Space, Errno> {
    Ok(Space { size: 1000.0, available: 500.0, inodes: 100.0, inodes_free: 90.0 })
}

struct Node {
    copy: Copy,
    sampler: Sampler,
    frame: Frame,
    at: i64,
    cells: Cells,
}

impl Node {
    fn new(ask: impl Fn(&Path) -> Result<Space, Errno> + Send + Sync + 'static) -> Self {
        Self::on(Cells::new(), ask)
    }

    fn on(
        cells: Cells,
        ask: impl Fn(&Path) -> Result<Space, Errno> + Send + Sync + 'static,
    ) -> Self {
        let copy = Copy::of("idle");
        let source = Source::asking(&copy.paths(), &cells, Arc::new(ask));
        let sampler = Sampler::with(vec![Box::new(source)], &cells);
        Self { copy, sampler, frame: Frame::default(), at: 0, cells }
    }

    /// Samples at the real time, which the cells go by.
    fn sample(&mut self) -> &Frame {
        self.at += 1;
        self.sampler.sample(Now { mono: Mono::now(), ..Now::default() }, &mut self.frame);
        &self.frame
    }

    fn signal(&self, series: &str, point: &str) -> Option<Signal<'_>> {
        self.frame.find(series, Some(point))
    }

    fn points(&self) -> Vec<String> {
        let of = |def: &crate::node::SlotDef| def.metric.series == Some("node.fs.readonly");
        let shown = self.frame.iter().filter(|(def, _)| of(def));
        shown.map(|(def, _)| def.instance().unwrap().to_string()).collect()
    }
}

#[test]
fn one_a_device_and_none_that_is_pseudo() {
    let mut node = Node::new(half_full);
    node.sample();
    // The bound part of sdb, /run/user, docker's overlay and the tmpfs under /old are not there.
    assert_eq!(node.points(), ["/", "/data one", "/media/disc", "/mnt/share", "/old", "/run"]);
    let device = |point: &str| {
        let (def, _) = node
            .frame
            .iter()
            .find(|(def, _)| def.metric.name.ends_with("size_bytes") && &*def.labels[0] == point)
            .unwrap();
        (def.labels[1].to_string(), def.labels[2].to_string())
    };
    assert_eq!(device("/data one"), ("/dev/sdb".into(), "xfs".into()));
    assert_eq!(device("/old"), ("/dev/nvme0n1".into(), "ext4".into()));
    // The first frame has values already.
    assert_eq!(node.signal("node.fs.available", "/"), Some(Signal::Number(0.5)));
    assert_eq!(node.signal("node.fs.inodes_available", "/"), Some(Signal::Number(0.9)));
}

/// Each pod has a few mounts of its own, which come and go with it: a node with a hundred of them would
/// have more filesystems than are looked at.
#[test]
fn mounts_of_containers_are_none_of_the_nodes() {
    let text = String::from_utf8(fixture(&format!("idle/{MOUNTINFO}"))).unwrap();
    let mut more = text.clone();
    for (n, point) in [
        "/run/k3s/containerd/io.containerd.grpc.v1.cri/sandboxes/9c1f/shm",
        "/run/k0s/containerd/io.containerd.grpc.v1.cri/sandboxes/9c1f/shm",
        "/var/snap/microk8s/common/run/containerd/io.containerd.grpc.v1.cri/sandboxes/9c1f/shm",
        "/var/snap/microk8s/common/var/lib/kubelet/pods/4f0e/volumes/kubernetes.io~projected/t",
        "/var/lib/k0s/kubelet/pods/4f0e/volumes/kubernetes.io~secret/t",
        "/run/containers/storage/overlay-containers/9c1f/userdata/shm",
        "/srv/images/overlay-containers/9c1f/userdata/shm",
    ]
    .iter()
    .enumerate()
    {
        more += &format!("{0} 25 0:{0} / {point} rw - tmpfs shm rw,size=65536k\n", 900 + n);
    }
    assert_eq!(chosen(more.as_bytes()), chosen(text.as_bytes()));
}

#[test]
fn mounted_read_only_is_no_fault_and_turned_read_only_is() {
    let mut node = Node::new(half_full);
    node.sample();
    fn readonly<'a>(node: &'a Node, point: &str) -> Signal<'a> {
        node.signal("node.fs.readonly", point).unwrap()
    }
    let [no, yes] = [Signal::Number(0.0), Signal::Number(1.0)];
    // A disc was mounted so: it can't fill up either, so its space is not judged.
    assert_eq!(readonly(&node, "/media/disc"), no);
    assert_eq!(node.signal("node.fs.available", "/media/disc"), None);
    assert_eq!(readonly(&node, "/"), no);

    // An error turned the filesystem, its mount is still writable: known even after a restart.
    node.copy.replace(MOUNTINFO, "/dev/sda1 rw", "/dev/sda1 ro");
    node.sample();
    assert_eq!(readonly(&node, "/"), yes);
    // ext4 of newer kernels only says so.
    node.copy.replace(MOUNTINFO, "/dev/nvme0n1 rw", "/dev/nvme0n1 rw,emergency_ro");
    node.sample();
    assert_eq!(readonly(&node, "/old"), yes);
    // Somebody remounted it: it was writable before.
    node.copy.replace(MOUNTINFO, "one rw,noatime", "one ro,noatime");
    node.copy.replace(MOUNTINFO, "/dev/sdb rw", "/dev/sdb ro");
    node.sample();
    assert_eq!(readonly(&node, "/data one"), yes);
    assert!(node.signal("node.fs.available", "/data one").is_some());
    node.copy.replace(MOUNTINFO, "one ro,noatime", "one rw,noatime");
    node.copy.replace(MOUNTINFO, "/dev/sdb ro", "/dev/sdb rw");
    node.sample();
    assert_eq!(readonly(&node, "/data one"), no);
}

#[test]
fn a_dead_filesystem_is_not_writable_and_has_no_space() {
    let mut node = Node::new(|path: &Path| match path.file_name().and_then(|n| n.to_str()) {
        Some("share") => Err(Errno::ESTALE),
        Some("old") => Err(Errno::EACCES),
        _ => half_full(path),
    });
    node.sample();
    assert_eq!(node.signal("node.fs.readonly", "/mnt/share"), Some(Signal::Number(1.0)));
    let code = |series, point| match node.signal(series, point) {
        Some(Signal::Absent(fault)) => fault.code,
        other => panic!("{series} of {point} is {other:?}"),
    };
    assert_eq!(code("node.fs.available", "/mnt/share"), FaultCode::Unreadable);
    // What we may not ask is our fault, not the filesystem's.
    assert_eq!(code("node.fs.available", "/old"), FaultCode::Permission);
    assert_eq!(node.signal("node.fs.readonly", "/old"), Some(Signal::Number(0.0)));
}

#[test]
fn filesystems_without_size_or_inodes_are_not_judged_by_them() {
    let mut node = Node::new(|path: &Path| {
        let mut space = half_full(path)?;
        if path.ends_with("old") {
            space.inodes = 0.0;
        }
        if path.ends_with("share") {
            space = Space::default();
        }
        Ok(space)
    });
    node.sample();
    assert_eq!(node.signal("node.fs.available", "/old"), Some(Signal::Number(0.5)));
    assert_eq!(node.signal("node.fs.inodes_available", "/old"), None);
    assert_eq!(node.signal("node.fs.available", "/mnt/share"), None);
    assert!(node.signal("node.fs.inodes_available", "/").is_some());
}

/// A local filesystem that hangs, and then a remote one: each costs one thread and its own values.
#[test]
fn a_hanging_statvfs_costs_its_own_values_only() {
    static HANG: AtomicBool = AtomicBool::new(true);
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let cells = Cells::new();
    let mut node = Node::on(cells.clone(), |path: &Path| {
        if path.ends_with("old") || path.ends_with("share") {
            CALLS.fetch_add(1, Relaxed);
            while HANG.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        } else if path.to_string_lossy().contains("/srv/homes/") {
            std::thread::sleep(Duration::from_millis(20));
        }
        half_full(path)
    });
    // More of other machines than there are cells: they take turns, and none of them hangs.
    let homes: Vec<String> = (0..40).map(|n| format!("/srv/homes/{n}")).collect();
    let mut text = String::from_utf8(fixture(&format!("idle/{MOUNTINFO}"))).unwrap();
    for (n, home) in homes.iter().enumerate() {
        text += &format!("{0} 27 0:{0} / {home} rw - nfs4 10.0.0.9:{home} rw\n", 900 + n);
    }
    node.copy.write(MOUNTINFO, text);
    let began = std::time::Instant::now();
    let mut slowest = Duration::ZERO;
    let mut answered = std::collections::BTreeSet::new();
    while began.elapsed() < HUNG_AFTER + Duration::from_secs(2) {
        let tick = std::time::Instant::now();
        node.sample();
        slowest = slowest.max(tick.elapsed());
        for home in &homes {
            match node.signal("node.fs.hung", home) {
                Some(Signal::Number(0.0)) => drop(answered.insert(home)),
                Some(Signal::Nothing) => {}
                other => panic!("{home} is {other:?}"),
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(slowest < Duration::from_secs(1), "a tick took {slowest:?}");
    for point in ["/old", "/mnt/share"] {
        match node.signal("node.fs.available", point) {
            Some(Signal::Absent(fault)) => assert_eq!(fault.code, FaultCode::Hung),
            other => panic!("{point} is {other:?}"),
        }
        assert_eq!(node.signal("node.fs.hung", point), Some(Signal::Number(1.0)), "{point}");
    }
    // "/run" comes after "/old" in the same cell, and is alive all the same.
    for point in ["/", "/data one", "/run"] {
        assert_eq!(node.signal("node.fs.available", point), Some(Signal::Number(0.5)), "{point}");
        assert_eq!(node.signal("node.fs.hung", point), Some(Signal::Number(0.0)), "{point}");
    }
    // Two turns; one of those asked hangs.
    assert!(answered.len() >= 2 * ALONE_AT_ONCE - 1, "{answered:?}");
    assert_eq!(cells.hung(Mono::now()), 2);
    assert_eq!(CALLS.load(Relaxed), 2, "no second while the first hangs");

    HANG.store(false, Relaxed);
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while ["/old", "/mnt/share"]
        .iter()
        .any(|point| node.signal("node.fs.available", point) != Some(Signal::Number(0.5)))
    {
        assert!(std::time::Instant::now() < until, "they did not come back");
        std::thread::sleep(Duration::from_millis(20));
        node.sample();
    }
    assert_eq!(cells.hung(Mono::now()), 0);
}

/// What was answered before the machine was suspended is old when it wakes, and nobody hangs.
#[test]
fn after_a_suspended_hour_nothing_hangs() {
    let mut node = Node::new(half_full);
    node.sample();
    let hour = Now { mono: Mono::now().plus(Duration::from_secs(3600)), ..Now::default() };
    node.sampler.sample(hour, &mut node.frame);
    for point in ["/", "/run", "/mnt/share"] {
        assert_eq!(node.signal("node.fs.hung", point), Some(Signal::Nothing), "{point}");
        assert_eq!(node.signal("node.fs.available", point), Some(Signal::Nothing), "{point}");
    }
}

/// Where others hang in every cell, it is not known whether this one does.
#[test]
fn what_can_not_be_asked_is_not_said_to_hang() {
    let cells = Cells::new();
    let mut node = Node::on(cells.clone(), half_full);
    node.sample();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    for n in 0..CELLS_LIMIT {
        let released = Arc::clone(&released);
        let work: Rounds = Arc::new(move || {
            let _ = locked(&released).recv();
        });
        assert_eq!(cells.post(&Arc::from(format!("{n}")), STATVFS_DEADLINE, &work), Ok(true));
    }
    let hour = Now { mono: Mono::now().plus(Duration::from_secs(3600)), ..Now::default() };
    node.sampler.sample(hour, &mut node.frame);
    match node.signal("node.fs.hung", "/") {
        Some(Signal::Absent(fault)) => assert_eq!(fault.code, FaultCode::Exhausted),
        other => panic!("{other:?}"),
    }
    drop(release);
}

#[test]
fn filesystems_over_the_limit_are_counted() {
    let mut node = Node::new(half_full);
    let text: String = (0..FILESYSTEMS_LIMIT + 3)
        .map(|n| format!("{n} 1 9:{n} / /m{n} rw - ext4 /dev/md{n} rw\n"))
        .collect();
    node.copy.write(MOUNTINFO, text);
    node.sample();
    // Of those beyond nobody knows whether one is full.
    assert_eq!(node.points().len(), FILESYSTEMS_LIMIT + 1);
    let series = ["available", "readonly", "hung", "inodes_available", "full_in", "scarce_full_in"];
    for series in series.map(|name| format!("node.fs.{name}")) {
        match node.frame.find(&series, Some("more")) {
            Some(Signal::Absent(fault)) => assert!(fault.text.starts_with("3 filesystems more")),
            other => panic!("{series} is {other:?}"),
        }
    }
    let over = node.frame.iter().find(|(def, _)| def.metric.name.ends_with("over_limit")).unwrap();
    assert_eq!(over.1, Signal::Number(3.0));
}

#[test]
fn lines_of_mountinfo() {
    let mount = parse(
        br"28 27 8:16 /a\040b /data\011\134one ro,noatime shared:9 master:2 - xfs /dev/sdb rw,ro",
    )
    .unwrap();
    assert_eq!((mount.device, mount.root.as_str()), ((8, 16), "/a b"));
    assert_eq!(mount.point, "/data\t\\one");
    assert_eq!((mount.mount_readonly, mount.super_readonly, mount.dead), (true, true, false));
    for line in [
        "",
        "28 27 8:16 / /data rw shared:9 xfs /dev/sdb rw",
        "28 27 816 / /data rw - xfs /dev/sdb rw",
        "28 27 8:16 / data rw - xfs /dev/sdb rw",
        "28 27 8:16 / /data rw - xfs /dev/sdb",
    ] {
        assert_eq!(parse(line.as_bytes()), None, "{line:?}");
    }
    assert_eq!(unescaped(br"\400\9\04"), r"\400\9\04");
    mangled("mountinfo", &fixture("idle/proc/1/mountinfo"), |text| {
        let chosen = chosen(text);
        let mut points: Vec<_> = chosen.iter().map(|mount| &mount.point).collect();
        points.dedup();
        assert_eq!(points.len(), chosen.len());
        let _ = Mounted::of(text);
    });
}

#[test]
fn a_container_sees_its_overlay_and_one_bound_file() {
    let text = b"1 0 0:99 / / rw - overlay overlay rw,lowerdir=/x\n\
        2 1 8:1 /c/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n\
        3 1 8:1 /c/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";
    let points: Vec<_> = chosen(text).into_iter().map(|mount| mount.point).collect();
    assert_eq!(points, ["/", "/etc/hosts"]);
}

#[test]
fn where_process_1_is_hidden_our_own_view_must_do() {
    let copy = Copy::of("idle");
    copy.remove(MOUNTINFO);
    std::fs::create_dir(copy.paths().procfs.join("self")).unwrap();
    copy.write("proc/self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
    let cells = Cells::new();
    let source = Source::asking(&copy.paths(), &cells, Arc::new(half_full));
    let sampler = Sampler::with(vec![Box::new(source)], &cells);
    let mut node = Node { copy, sampler, frame: Frame::default(), at: 0, cells };
    node.sample();
    assert_eq!(node.points(), ["/"]);
}

#[test]
fn what_is_left_decides_whether_filling_is_judged() {
    static LEFT: AtomicU32 = AtomicU32::new(500);
    let mut node = Node::new(|_: &Path| {
        Ok(Space { available: f64::from(LEFT.load(Relaxed)), ..half_full(Path::new("/"))? })
    });
    fn pass(node: &mut Node, seconds: i64) {
        node.at += seconds;
        // The answers are as new as the question: the clock of this test runs ahead of theirs.
        let mono = Mono::from_secs(node.at - 10_000_000);
        node.sampler.sample(Now { mono, ..Now::default() }, &mut node.frame);
        let began = Mono::now();
        while node.cells.in_use() > 0 {
            assert!(Mono::now().since(began) < Duration::from_secs(20), "no answer");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // A point is taken of the first tick that is a minute after the last point, whatever is known then.
    // The first point comes before the first minute; so each later one comes in the second tick of its
    // minute, when what the first tick asked for is known.
    pass(&mut node, 0);
    let mut minute = |left: u32| {
        LEFT.store(left, Relaxed);
        for seconds in [50, 11] {
            pass(&mut node, seconds);
        }
        ["node.fs.full_in", "node.fs.scarce_full_in"].map(|series| {
            node.frame.find(series, Some("/")).map(|signal| match signal {
                Signal::Number(value) => Some(value),
                _ => None,
            })
        })
    };
    let far = Some(Some(super::super::growth::FAR));
    assert_eq!(minute(500), [far, far], "more than 40 % is left");
    assert_eq!(minute(399), [Some(None), far], "nothing is known of its past");
    for left in (380..399).rev() {
        minute(left);
    }
    let [filling, scarce] = minute(379);
    assert_eq!(scarce, far);
    let filling = filling.flatten().unwrap();
    assert!((379.0 * 61.0 - filling).abs() < 400.0, "a byte a minute: {filling}");
    assert_eq!(minute(150)[1].flatten().map(|full| full < 379.0 * 61.0), Some(true));
}
