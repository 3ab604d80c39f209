use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::*;
use crate::node::tests::{Copy, mangled};
use crate::node::{Frame, Sampler, Signal};
use crate::time::Now;

/// Written from the NVM Express Base Specification 1.4, figure 194: 90 % spare, 12 % used, 258
/// media errors.
fn page(warning: u8) -> [u8; kernel::NVME_HEALTH] {
    let mut page = [0; kernel::NVME_HEALTH];
    (page[0], page[3], page[4], page[5]) = (warning, 90, 10, 12);
    (page[160], page[161]) = (2, 1);
    page
}

struct Node {
    copy: Copy,
    sampler: Sampler,
    frame: Frame,
    cells: Cells,
    look: Arc<Look>,
}

impl Node {
    fn new(
        ask: impl Fn(&Path) -> Result<[u8; kernel::NVME_HEALTH], Errno> + Send + Sync + 'static,
    ) -> Self {
        let copy = Copy::of("idle");
        let cells = Cells::new();
        let source = Source::asking(&copy.paths(), &cells, Arc::new(ask));
        let look = Arc::clone(&source.look);
        let sampler = Sampler::with(vec![Box::new(source)], &cells);
        let mut this = Self { copy, sampler, frame: Frame::default(), cells, look };
        this.sample(0);
        this
    }

    /// So many seconds after now, once the cell has looked.
    fn sample(&mut self, ahead: u64) {
        let now = Now { mono: Mono::now().plus(Duration::from_secs(ahead)), ..Now::default() };
        self.sampler.sample(now, &mut self.frame);
        let until = Mono::now().plus(Duration::from_secs(20));
        while self.cells.in_use() > 0 && Mono::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.sampler.sample(now, &mut self.frame);
    }

    fn signal(&self, series: &str, device: &str) -> Option<Signal<'_>> {
        self.frame.find(series, Some(device))
    }
}

#[test]
fn counters_states_and_health_of_a_recorded_node() {
    let mut node = Node::new(|path| {
        assert!(path.ends_with("dev/nvme0"));
        Ok(page(0))
    });
    let number = |value| Some(Signal::Number(value));
    assert_eq!(node.signal("node.disk.errors", "sda"), number(3.0));
    assert_eq!(node.signal("node.disk.errors", "sdb"), None, "it counts none");
    assert_eq!(node.signal("node.fs.errors", "sda1"), number(0.0));
    assert_eq!(node.signal("node.nvme.not_live", "nvme0"), number(0.0));
    assert_eq!(node.signal("node.nvme.warning", "nvme0"), number(0.0));
    assert_eq!(node.signal("node.nvme.used", "nvme0"), number(0.12));
    assert_eq!(node.signal("node.nvme.spare", "nvme0"), number(0.9));
    assert_eq!(node.signal("node.nvme.media_errors", "nvme0"), number(258.0));

    node.copy.write("sys/block/sda/device/ioerr_cnt", "0x1f\n");
    node.copy.write("sys/class/nvme/nvme0/state", "resetting\n");
    node.copy.write("sys/fs/ext4/sda1/errors_count", "2\n");
    node.sample(15);
    assert_eq!(node.signal("node.disk.errors", "sda"), number(31.0));
    assert_eq!(node.signal("node.nvme.not_live", "nvme0"), number(1.0));
    assert_eq!(node.signal("node.fs.errors", "sda1"), number(2.0));
    let generation = node.frame.layout.generation;
    node.copy.remove("sys/block/sda/device/ioerr_cnt");
    node.copy.write("sys/fs/ext4/sda1/errors_count", "many\n");
    node.sample(30);
    assert_eq!(node.frame.layout.generation, generation + 1);
    assert_eq!(node.signal("node.disk.errors", "sda"), None);
    match node.signal("node.fs.errors", "sda1") {
        Some(Signal::Absent(fault)) => assert_eq!(fault.code, FaultCode::Garbled),
        other => panic!("{other:?}"),
    }
}

/// The volumes of clouds and of QEMU say 0 of 0.
#[test]
fn a_device_that_has_no_spare_blocks_lacks_none() {
    let with = |spare: u8, threshold: u8| {
        let mut page = page(0);
        (page[3], page[4]) = (spare, threshold);
        Health::of(&page).unwrap().spare
    };
    assert_eq!(with(0, 0), 1.0);
    assert_eq!(with(0, 10), 0.0, "they are gone");
    assert_eq!(with(5, 0), 0.05);
}

#[test]
fn health_that_may_not_be_read_names_the_capability() {
    let node = Node::new(|_| Err(Errno::EACCES));
    match node.signal("node.nvme.warning", "nvme0") {
        Some(Signal::Absent(fault)) => {
            assert_eq!(fault.code, FaultCode::Permission);
            assert!(fault.text.contains("CAP_SYS_ADMIN"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    // The state needs no right.
    assert_eq!(node.signal("node.nvme.not_live", "nvme0"), Some(Signal::Number(0.0)));
}

#[test]
fn a_controller_that_hangs_costs_one_thread_and_its_values_grow_old() {
    static HANG: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let mut node = Node::new(|_| {
        CALLS.fetch_add(1, Relaxed);
        while HANG.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(page(1))
    });
    assert_eq!(node.signal("node.nvme.warning", "nvme0"), Some(Signal::Number(1.0)));
    // The page is kept for a minute; then it is asked for again, and hangs.
    HANG.store(true, Relaxed);
    locked(&node.look.asked).clear();
    for ahead in [11, 22, 40, 60] {
        let now = Now { mono: Mono::now().plus(Duration::from_secs(ahead)), ..Now::default() };
        node.sampler.sample(now, &mut node.frame);
    }
    match node.signal("node.nvme.not_live", "nvme0") {
        Some(Signal::Absent(fault)) => assert_eq!(fault.code, FaultCode::Hung),
        other => panic!("{other:?}"),
    }
    assert!(node.cells.in_use() <= 1 && CALLS.load(Relaxed) <= 2);
    HANG.store(false, Relaxed);
}

#[test]
fn pages_and_counters_of_any_bytes() {
    mangled("nvme health", &page(4), |bytes| {
        if let Some(health) = Health::of(bytes) {
            assert!((0.0..=2.55).contains(&health.used) && health.media_errors >= 0.0);
        }
    });
    mangled("ioerr_cnt", b"0x1f", |bytes| {
        let _ = whole(&String::from_utf8_lossy(bytes));
    });
    assert_eq!(whole("0x1f"), Some(31));
    assert_eq!(whole("17"), Some(17));
    for text in ["", "0x", "0x+1", "-1", "0xfffffffffffffffff"] {
        assert_eq!(whole(text), None, "{text}");
    }
}

#[test]
fn of_devices_beyond_the_limit_nothing_is_known() {
    let mut node = Node::new(|_| Ok(page(0)));
    let paths = node.copy.paths();
    let put = |folder: PathBuf, text: &str| {
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        fs::write(folder, text).unwrap();
    };
    let found = |folder: &str| names(&paths.sysfs.join(folder)).len();
    let controllers = LIMIT + 2 - found("class/nvme");
    for number in 0..controllers {
        put(paths.sysfs.join(format!("class/nvme/nvme{}/state", 100 + number)), "live\n");
    }
    for number in 0..LIMIT + 3 {
        let disk = paths.sysfs.join(format!("block/sd{number:03}/device/ioerr_cnt"));
        put(disk, "0x0\n");
    }
    node.sample(15);
    let series = ["node.disk.errors", "node.nvme.not_live", "node.nvme.warning"];
    for series in series.into_iter().chain(["node.nvme.used", "node.nvme.media_errors"]) {
        match node.signal(series, BEYOND) {
            Some(Signal::Absent(fault)) => assert!(fault.text.contains("devices more than 256")),
            other => panic!("{series} is {other:?}"),
        }
    }
    assert_eq!(node.signal("node.disk.errors", "sd089"), Some(Signal::Number(0.0)));
    assert_eq!(node.signal("node.fs.errors", BEYOND), None);
}
