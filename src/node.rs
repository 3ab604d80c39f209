//! The node's second: every signal taken together, as the slots of a frame.
//!
//! One file a source. A source reads its kernel file into fields of its own, then puts them into
//! the frame; the same `put` describes the slots when instances come or go and fills them every
//! second, so that the two can't disagree. Once the layout stands, a tick allocates nothing.
//!
//! Absence is carried slot by slot and never as 0: what a kernel does not offer, a file that could
//! not be read and a counter that went backwards each leave the slot empty, with the reason.

mod cgroups;
mod clock;
mod conntrack;
pub mod culprits;
mod disk_health;
mod diskstats;
mod facts;
mod filesystems;
mod growth;
mod hardware;
mod limits;
mod links;
mod loadavg;
mod mdstat;
mod meminfo;
mod neighbours;
mod owners;
pub mod privileges;
pub mod processes;
mod protocols;
mod psi;
mod schedstat;
mod settings;
pub mod sockets;
mod sockstat;
mod softnet;
mod stat;
mod sysctl;
mod text;
mod total;
mod vmstat;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use crate::catalogue::{Kind, Metric};
use crate::client::kernel;
use crate::lanes::Cells;
use crate::outcome::{Fault, FaultCode};
use crate::time::{Mono, Now};

pub use clock::ReadClock;
pub use facts::facts;
use sockets::Sockets;
use text::Seldom;

/// How often the node is sampled.
pub const TICK: Duration = Duration::from_secs(1);

/// How often all is read: what only counts up loses nothing by it, and what a table overflows with is
/// counted by the kernel too. Three times between two usual scrapes, for what is read that rarely is cold.
const ALL_EVERY: Duration = Duration::from_secs(5);

/// Readings further apart than this (the machine was suspended, the lane stood still) are no
/// second any more: nothing is derived from them.
const GAP_LIMIT: Duration = Duration::from_secs(30);

/// Readings closer than this are of the same instant.
const GAP_LEAST: Duration = Duration::from_millis(1);

/// Where the kernel's files are; in a container, where the host's are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            procfs: PathBuf::from("/proc"),
            sysfs: PathBuf::from("/sys"),
            rootfs: PathBuf::from("/"),
        }
    }
}

/// Where procfs shows the network namespace that is watched: this process's own, or, where the
/// host's procfs is mounted elsewhere, that of its first process (`net` there is the reader's own).
fn network_folder(paths: &Paths) -> PathBuf {
    let first = paths.procfs.join("1/net");
    let elsewhere = paths.procfs != Paths::default().procfs;
    if elsewhere && first.join("dev").exists() { first } else { paths.procfs.join("net") }
}

/// Why what sysfs would tell is not known, where none of the node is there: whether it has the hardware is
/// not known either.
fn unmounted(sysfs: &Path) -> Option<Arc<Fault>> {
    (!sysfs.join("devices/system/cpu").exists()).then(|| {
        let text = format!(
            "{} shows nothing of this node: mount the host's /sys, and name it with --path.sysfs",
            sysfs.display()
        );
        Arc::new(Fault::new(FaultCode::Unreadable, text))
    })
}

/// Whose network namespace a file of procfs shows: netlink tells of this process's own alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Own,
    Other,
    /// The file is no kernel's.
    Recorded,
}

impl Namespace {
    fn of(paths: &Paths) -> Self {
        Self::of_file(&network_folder(paths).join("dev"))
    }

    /// Each namespace has a file of its own, whose number in procfs is the same through every
    /// mount of it.
    fn of_file(file: &Path) -> Self {
        let own = Path::new("/proc/thread-self/net/dev");
        let inode = |path: &Path| std::fs::metadata(path).map(|file| file.ino()).ok();
        if !statfs(file).is_ok_and(|of| of.filesystem_type() == PROC_SUPER_MAGIC) {
            Self::Recorded
        } else if inode(file).is_some() && inode(file) == inode(own) {
            Self::Own
        } else {
            Self::Other
        }
    }

    /// Why what only netlink tells is not known.
    fn fault(self, file: &Path) -> Fault {
        let text = format!(
            "{} is of another network namespace than this process, and only netlink tells this: \
             run in the host's network namespace (hostNetwork, --network host)",
            file.display()
        );
        Fault::new(FaultCode::Unsupported, text)
    }
}

/// What a slot holds. `Absent` points into the frame's table of faults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Slot {
    Number(f64),
    /// There was nothing to measure: no request completed, or this is the first reading.
    Nothing,
    Absent(u16),
}

impl Slot {
    /// A counter went backwards: entry 0 of every frame's faults.
    const RESET: Self = Self::Absent(0);
    /// The kernel's file has no such field: entry 1 of every frame's faults.
    const MISSING: Self = Self::Absent(1);

    fn of(field: Option<u64>) -> Self {
        Self::scaled(field, 1.0)
    }

    fn scaled(field: Option<u64>, factor: f64) -> Self {
        field.map_or(Self::MISSING, |value| Self::Number(value as f64 * factor))
    }
}

/// The value of one slot of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal<'a> {
    Number(f64),
    /// There was nothing to measure in this second.
    Nothing,
    /// It could not be measured.
    Absent(&'a Fault),
}

/// What one slot is.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotDef {
    pub metric: &'static Metric,
    /// Values of the metric's labels, in their declared order.
    pub labels: Vec<Arc<str>>,
    /// Its instance comes and goes with what uses it, as a container's network does: it holds no gate up
    /// before it has been there for a whole window.
    pub passing: bool,
}

impl SlotDef {
    /// Whether gates can judge it; the rest is only exported.
    pub fn judged(&self) -> bool {
        self.metric.series.is_some()
    }

    /// Whether each second is one sample of a histogram; the rest is set as it stands.
    pub fn sampled(&self) -> bool {
        matches!(self.metric.kind, Kind::Histogram(_))
    }

    /// The device, mount point or interface; None for a signal of the whole node.
    pub fn instance(&self) -> Option<&Arc<str>> {
        self.labels.first()
    }
}

/// The slots of a frame. Replaced only when instances come or go.
#[derive(Debug, Default, PartialEq)]
pub struct Layout {
    /// Grows by one with every change; 0 is the empty layout before the first sample.
    pub generation: u64,
    pub slots: Vec<SlotDef>,
}

/// One second of the node. Its buffers are reused from tick to tick.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub at: Now,
    pub layout: Arc<Layout>,
    slots: Vec<Slot>,
    faults: Vec<Arc<Fault>>,
}

impl Frame {
    /// Every slot with its value, in the order of the layout.
    pub fn iter(&self) -> impl Iterator<Item = (&SlotDef, Signal<'_>)> {
        self.layout.slots.iter().zip(self.slots.iter().map(|slot| self.signal(*slot)))
    }

    /// The value of one slot, by its place in the layout.
    pub fn get(&self, index: usize) -> Option<Signal<'_>> {
        self.slots.get(index).map(|slot| self.signal(*slot))
    }

    /// The value of a series, for the whole node or for one instance.
    pub fn find(&self, series: &str, instance: Option<&str>) -> Option<Signal<'_>> {
        self.iter()
            .find(|(def, _)| {
                def.metric.series == Some(series)
                    && def.instance().map(|instance| &**instance) == instance
            })
            .map(|(_, signal)| signal)
    }

    fn signal(&self, slot: Slot) -> Signal<'_> {
        match slot {
            Slot::Number(value) => Signal::Number(value),
            Slot::Nothing => Signal::Nothing,
            Slot::Absent(index) => {
                self.faults.get(usize::from(index)).map_or(Signal::Nothing, |f| Signal::Absent(f))
            }
        }
    }
}

/// What the sources share in one tick.
#[derive(Default)]
struct Tick {
    /// When this source is read: a busy node may delay the later ones.
    at: Mono,
    /// When the tick began, on both clocks.
    now: Now,
    /// Whether all is read in this second, and not only what is judged second by second.
    all: bool,
    /// For the text of kernel files.
    buffer: Vec<u8>,
    /// Processors online, from `stat`.
    cpus: usize,
    /// Tasks that exist, from `loadavg`.
    tasks: Option<u64>,
    /// Whether the kernel tells how long tasks stalled for want of memory, from `psi`.
    pressure: bool,
    /// Devices that carry a mounted filesystem, from `filesystems`.
    mounted: filesystems::Mounted,
}

/// One file of the kernel, or one family of them.
trait Source: Send {
    /// Queues in the cells what may hang; it is done while the rest is read. Called where all is read,
    /// so that the cells, too, are woken up as rarely.
    fn begin(&mut self, _at: Mono) {}
    /// Takes the reading; true where instances came or went.
    fn read(&mut self, tick: &mut Tick) -> bool;
    /// Puts the reading, slot by slot. Which slots are put depends on the instances only.
    fn put(&self, sink: &mut Sink<'_>);
    /// Whose cost it is.
    #[cfg(test)]
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// Takes the slots of the sources, and their description where the layout is being made.
struct Sink<'a> {
    defs: Option<Vec<SlotDef>>,
    slots: &'a mut Vec<Slot>,
    faults: &'a mut Vec<Arc<Fault>>,
    over: Option<Slot>,
    /// Whether what is put now is of an instance that comes and goes.
    passing: bool,
}

impl<'a> Sink<'a> {
    fn new(
        defs: Option<Vec<SlotDef>>,
        slots: &'a mut Vec<Slot>,
        faults: &'a mut Vec<Arc<Fault>>,
    ) -> Self {
        Self { defs, slots, faults, over: None, passing: false }
    }

    /// Takes all that the sources put, and returns the descriptions.
    fn take(mut self, sources: &[Box<dyn Source>]) -> Option<Vec<SlotDef>> {
        for source in sources {
            self.under(None);
            source.put(&mut self);
        }
        self.defs
    }

    fn put(&mut self, metric: &'static Metric, labels: &[&Arc<str>], slot: Slot) {
        if let Some(defs) = &mut self.defs {
            let labels = labels.iter().map(|label| Arc::clone(label)).collect();
            defs.push(SlotDef { metric, labels, passing: self.passing });
        }
        let slot = match self.over.unwrap_or(slot) {
            // No kernel file yields these, but a division might.
            Slot::Number(value) if !value.is_finite() => Slot::RESET,
            slot => slot,
        };
        self.slots.push(slot);
    }

    /// While a source has a fault, whatever it puts is absent for that reason.
    fn under(&mut self, fault: Option<&Arc<Fault>>) {
        self.over = fault.map(|fault| self.absent(fault));
    }

    fn absent(&mut self, fault: &Arc<Fault>) -> Slot {
        let known = self.faults.iter().position(|known| Arc::ptr_eq(known, fault));
        let index = known.unwrap_or_else(|| {
            self.faults.push(Arc::clone(fault));
            self.faults.len() - 1
        });
        // More faults than instances there can't be.
        Slot::Absent(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

/// The time since the reading before, and what grew in it.
#[derive(Clone, Copy)]
struct Step {
    seconds: Option<f64>,
}

impl Step {
    fn between(before: Option<Mono>, at: Mono) -> Self {
        let span = before.map(|before| at.since(before));
        let span = span.filter(|span| (GAP_LEAST..=GAP_LIMIT).contains(span));
        Self { seconds: span.map(|span| span.as_secs_f64()) }
    }

    /// Growth in a second. Backwards is a reset, a wrapped counter or another device: its second
    /// is left out.
    fn rate(self, before: Option<u64>, now: Option<u64>) -> Slot {
        let Some(now) = now else { return Slot::MISSING };
        let (Some(seconds), Some(before)) = (self.seconds, before) else { return Slot::Nothing };
        match now.checked_sub(before) {
            Some(growth) => Slot::Number(growth as f64 / seconds),
            None => Slot::RESET,
        }
    }

    /// The share of the time that a counter of time grew by; `unit` is its unit in seconds. A
    /// little over 1 comes of the two clocks being read one after the other; far over it, the
    /// counter jumped.
    fn share(self, before: Option<u64>, now: Option<u64>, unit: f64) -> Slot {
        match self.rate(before, now) {
            Slot::Number(rate) if rate * unit > 1.5 => Slot::RESET,
            Slot::Number(rate) => Slot::Number((rate * unit).min(1.0)),
            slot => slot,
        }
    }
}

/// The beginning of each frame: what was put where all was read last.
#[derive(Default)]
struct Kept {
    slots: Vec<Slot>,
    faults: Vec<Arc<Fault>>,
}

/// Takes frames. Lives in a lane: it blocks, for well under a millisecond.
pub struct Sampler {
    /// Read in each second.
    sources: Vec<Box<dyn Source>>,
    /// Read where all is, after the others. In between, what they put stands as it was kept: nothing of
    /// them is touched, for all that is touched once a second is cold.
    seldom: Vec<Box<dyn Source>>,
    kept: Kept,
    tick: Tick,
    layout: Arc<Layout>,
    common: [Arc<Fault>; 2],
    all_due: Seldom,
    sockets: Sockets,
    /// Woken up once for all that the sources ask of them.
    cells: Cells,
}

impl Sampler {
    /// Reads nothing yet. `cells` is where statfs and sysfs may hang.
    pub fn new(paths: &Paths, cells: &Cells) -> Self {
        Self::with_clock(paths, cells, Box::new(kernel::clock_state))
    }

    /// The same with another source for the state of the clock.
    pub fn with_clock(paths: &Paths, cells: &Cells, clock: ReadClock) -> Self {
        let sockets = Sockets::new(paths);
        let sources: Vec<Box<dyn Source>> = vec![
            // First: the two clocks that it compares were read just before.
            Box::new(clock::Source::new(clock)),
            Box::new(stat::Source::new(paths)),
            Box::new(schedstat::Source::new(paths)),
            Box::new(meminfo::Source::new(paths)),
            Box::new(psi::Source::new(paths)),
            // After the pressure: where that is told, what memory is short of is known from it.
            Box::new(vmstat::Source::new(paths)),
            Box::new(filesystems::Source::new(paths, cells)),
            // After the filesystems: what is mounted decides which devices are shown.
            Box::new(diskstats::Source::new(paths)),
            Box::new(disk_health::Source::new(paths, cells)),
            Box::new(links::Source::new(paths, cells)),
            Box::new(cgroups::Source::new(paths, cells)),
            Box::new(sockets::Source::new(paths, cells, &sockets)),
        ];
        let seldom: Vec<Box<dyn Source>> = vec![
            Box::new(loadavg::Source::new(paths)),
            // After the load: that file counts the tasks.
            Box::new(limits::Source::new(paths)),
            Box::new(mdstat::Source::new(paths)),
            Box::new(hardware::Source::new(paths)),
            Box::new(settings::Source::new(paths)),
            Box::new(sysctl::Source::new(paths)),
            Box::new(softnet::Source::new(paths)),
            Box::new(protocols::Source::new(paths)),
            Box::new(sockstat::Source::new(paths)),
            Box::new(neighbours::Source::new(paths, cells)),
            Box::new(conntrack::Source::new(paths)),
        ];
        Self { sockets, seldom, ..Self::with(sources, cells) }
    }

    /// What it learns of this node's sockets.
    pub fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// Only what tells whether this node is short of processors.
    pub fn of_processors(paths: &Paths) -> Self {
        let sources: Vec<Box<dyn Source>> =
            vec![Box::new(stat::Source::new(paths)), Box::new(psi::Source::new(paths))];
        Self::with(sources, &Cells::new())
    }

    /// `cells` are those that the sources ask in.
    fn with(sources: Vec<Box<dyn Source>>, cells: &Cells) -> Self {
        Self {
            sources,
            seldom: Vec::new(),
            kept: Kept::default(),
            tick: Tick::default(),
            all_due: Seldom::every(ALL_EVERY),
            sockets: Sockets::new(&Paths::default()),
            cells: cells.clone(),
            layout: Arc::new(Layout::default()),
            common: [
                Arc::new(Fault::new(FaultCode::Garbled, "a counter of the kernel went backwards")),
                Arc::new(Fault::new(FaultCode::Unsupported, "this kernel does not report it")),
            ],
        }
    }

    /// Takes one second. `now` is the instant of the call.
    pub fn sample(&mut self, now: Now, frame: &mut Frame) {
        let entry = Mono::now();
        let mut changed = self.layout.generation == 0;
        self.tick.now = now;
        self.tick.all = self.all_due.now(now.mono);
        let seldom = if self.tick.all { self.seldom.as_mut_slice() } else { &mut [] };
        if self.tick.all {
            for source in self.sources.iter_mut().chain(seldom.iter_mut()) {
                source.begin(now.mono);
            }
            self.cells.wake();
        }
        for source in self.sources.iter_mut().chain(seldom) {
            self.tick.at = now.mono.plus(Mono::now().since(entry));
            changed |= source.read(&mut self.tick);
        }

        let mut defs = changed.then(Vec::new);
        if changed || self.tick.all {
            self.kept.slots.clear();
            self.kept.faults.clear();
            self.kept.faults.extend(self.common.iter().cloned());
            let sink = Sink::new(defs, &mut self.kept.slots, &mut self.kept.faults);
            defs = sink.take(&self.seldom);
        }
        frame.at = now;
        frame.slots.clear();
        frame.slots.reserve(self.layout.slots.len());
        frame.slots.extend_from_slice(&self.kept.slots);
        frame.faults.clear();
        frame.faults.extend(self.kept.faults.iter().cloned());
        defs = Sink::new(defs, &mut frame.slots, &mut frame.faults).take(&self.sources);
        if let Some(slots) = defs {
            self.layout = Arc::new(Layout { generation: self.layout.generation + 1, slots });
        }
        frame.layout = Arc::clone(&self.layout);
    }
}

#[cfg(test)]
mod tests;
