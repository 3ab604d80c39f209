//! Mounted filesystems: space, inodes, and whether one has turned read-only.
//!
//! What is mounted comes from mountinfo, space from statvfs. statvfs can hang for ever, so it
//! runs in cells: one for all local filesystems, one more for each of the others. A value that is
//! too old is absent.

mod mounts;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

pub(super) use mounts::Mounted;
use mounts::{Mount, chosen};

use super::growth::History;
use super::text::KernelFile;
use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;
use crate::lanes::{CELLS_LIMIT, Cells, Rounds};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// Filesystems shown; each has about fifty rows.
const FILESYSTEMS_LIMIT: usize = 256;

/// A statvfs that takes longer hangs.
const STATVFS_DEADLINE: Duration = Duration::from_secs(2);

/// How often space is asked for: waking a cell costs more than all of the other sources' reading.
const STATVFS_EVERY: Duration = Duration::from_secs(5);

/// A question that has no answer for longer hangs.
const HUNG_AFTER: Duration = Duration::from_secs(5);

/// Those in cells of their own are asked so many at a time, those left out first the next time: a node
/// may mount a hundred of them, and other sources need cells too.
const ALONE_AT_ONCE: usize = 16;

/// Cells that are left to others, however many filesystems hang.
const LEFT_FREE: usize = 8;

/// An older value is none: all have been asked by then, unless cells hang.
const STALE_AFTER: Duration = Duration::from_secs(90);

/// How often mountinfo is read though the kernel announces no change: a filesystem that turns
/// itself read-only is not announced.
const MOUNTINFO_EVERY: Duration = Duration::from_secs(10);

/// node-mixin's NodeFilesystemSpaceFillingUp looks at filesystems with less available than these:
/// below the first it warns of a day, below the second four hours are critical.
const FILLING: [f64; 2] = [0.40, 0.20];

/// How long a tick waits for new filesystems, so that their first frame has values.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// Filesystems whose statvfs asks no other machine and no other process: they share a cell.
const LOCAL: [&str; 13] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "tmpfs", "vfat",
    "xfs", "zfs",
];

/// What statvfs says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Space {
    pub(super) size: f64,
    pub(super) available: f64,
    pub(super) inodes: f64,
    pub(super) inodes_free: f64,
}

fn statvfs(path: &std::path::Path) -> Result<Space, Errno> {
    let answer = nix::sys::statvfs::statvfs(path)?;
    // The C library's types differ in width between targets; as numbers they are all the same.
    let unit = answer.fragment_size() as f64;
    Ok(Space {
        size: answer.blocks() as f64 * unit,
        available: answer.blocks_available() as f64 * unit,
        inodes: answer.files() as f64,
        inodes_free: answer.files_available() as f64,
    })
}

type Ask = Arc<dyn Fn(&std::path::Path) -> Result<Space, Errno> + Send + Sync>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One filesystem, as the cells see it.
struct Watch {
    path: PathBuf,
    answer: Mutex<Option<(Mono, Result<Space, Errno>)>>,
    /// The local cell hangs on it; it is not asked again until that returns.
    stuck: AtomicBool,
}

impl Watch {
    fn look(&self, ask: &Ask) {
        let answer = ask(&self.path);
        *locked(&self.answer) = Some((Mono::now(), answer));
        self.stuck.store(false, Relaxed);
    }
}

/// One filesystem, as the frame sees it.
struct Filesystem {
    mount: Mount,
    labels: [Arc<str>; 3],
    watch: Arc<Watch>,
    /// In a cell of its own: its resource and its work.
    alone: Option<(Arc<str>, Rounds)>,
    since: Mono,
    /// Since when a question has had no answer.
    waiting: Option<Mono>,
    was_writable: bool,
    /// Some filesystems have no size or no fixed number of inodes: nothing to judge.
    has_size: bool,
    has_inodes: bool,
    space: Result<Option<Space>, Arc<Fault>>,
    error: Option<(Errno, Arc<Fault>)>,
    hung: Arc<Fault>,
    readonly: Slot,
    history: History,
}

impl Filesystem {
    /// Made read-only by whoever mounted it, so that neither space nor writing is expected.
    fn sealed(&self) -> bool {
        self.mount.super_readonly && self.mount.mount_readonly && !self.was_writable
    }

    /// Whether statvfs has not answered for too long; while nobody has asked, nothing is known.
    fn hangs(&self, unasked: &Arc<Fault>) -> Slot {
        match &self.space {
            Ok(None) => Slot::Nothing,
            Err(fault) if Arc::ptr_eq(fault, &self.hung) => Slot::Number(1.0),
            Err(fault) if Arc::ptr_eq(fault, unasked) => Slot::MISSING,
            Ok(Some(_)) | Err(_) => Slot::Number(0.0),
        }
    }

    /// Time until it is full, where less than this is available.
    fn full_in(&self, space: Space, below: f64) -> Slot {
        if space.available >= below * space.size {
            return Slot::Number(super::growth::FAR);
        }
        self.history.full_in(space.available).map_or(Slot::Nothing, Slot::Number)
    }

    /// Takes the newest answer; true where it changes what there is to judge.
    fn take(&mut self, at: Mono, unasked: &Arc<Fault>) -> bool {
        let answer = *locked(&self.watch.answer);
        let (size, inodes) = (self.has_size, self.has_inodes);
        let answered = answer.map(|(when, _)| when);
        self.waiting = self.waiting.filter(|asked| answered.is_none_or(|when| when < *asked));
        let dead = match answer {
            _ if self.waiting.is_some_and(|asked| at.since(asked) > HUNG_AFTER) => {
                self.space = Err(Arc::clone(&self.hung));
                false
            }
            _ if at.since(answered.unwrap_or(self.since)) > STALE_AFTER => {
                // After the machine was suspended, the question has only just been asked.
                let asked = self.waiting.is_some();
                self.space = if asked { Ok(None) } else { Err(Arc::clone(unasked)) };
                false
            }
            None => {
                self.space = Ok(None);
                false
            }
            Some((_, Ok(space))) => {
                self.space = Ok(Some(space));
                self.history.take(at, space.available);
                self.has_size = space.size > 0.0;
                self.has_inodes = space.inodes > 0.0;
                false
            }
            Some((_, Err(errno))) => {
                let fault = match &self.error {
                    Some((known, fault)) if *known == errno => Arc::clone(fault),
                    _ => Arc::new(refusal(&self.watch.path, errno)),
                };
                self.error = Some((errno, Arc::clone(&fault)));
                self.space = Err(fault);
                // What a filesystem answers that has lost its device, its server or its process.
                [Errno::EIO, Errno::ESTALE, Errno::ENOTCONN, Errno::ENODEV, Errno::ENXIO]
                    .contains(&errno)
            }
        };
        let turned = self.mount.super_readonly && (!self.mount.mount_readonly || self.was_writable);
        let readonly = dead || turned || self.mount.dead;
        self.readonly = Slot::Number(f64::from(u8::from(readonly)));
        (size, inodes) != (self.has_size, self.has_inodes)
    }
}

fn refusal(path: &std::path::Path, errno: Errno) -> Fault {
    let path = path.display();
    match errno {
        Errno::EACCES | Errno::EPERM => {
            Fault::new(FaultCode::Permission, format!("statvfs of {path} is not allowed: {errno}"))
        }
        Errno::ENOENT => Fault::new(
            FaultCode::Unreadable,
            format!("{path} can't be seen from here; point --path.rootfs at the host's root"),
        ),
        _ => Fault::new(FaultCode::Unreadable, format!("statvfs of {path} failed: {errno}")),
    }
}

/// The local filesystems' cell.
struct Local {
    resource: Arc<str>,
    work: Rounds,
    watches: Vec<Arc<Watch>>,
    /// The one being asked.
    current: Arc<AtomicUsize>,
}

impl Local {
    /// `generation` makes it another resource than the cell that may still hang.
    fn new(generation: u64, watches: Vec<Arc<Watch>>, ask: &Ask) -> Self {
        let current = Arc::new(AtomicUsize::new(usize::MAX));
        let (all, place, ask) = (watches.clone(), Arc::clone(&current), Arc::clone(ask));
        Self {
            resource: Arc::from(format!("statvfs of local filesystems, group {generation}")),
            work: Arc::new(move || {
                for (index, watch) in all.iter().enumerate() {
                    place.store(index, Relaxed);
                    watch.look(&ask);
                }
                place.store(usize::MAX, Relaxed);
            }),
            watches,
            current,
        }
    }
}

pub(super) struct Source {
    files: [KernelFile; 2],
    /// Which of the two files answers.
    own: bool,
    rootfs: PathBuf,
    cells: Cells,
    ask: Ask,
    source: Arc<str>,
    seen: Vec<u8>,
    read_at: Option<Mono>,
    asked_at: Option<Mono>,
    filesystems: Vec<Filesystem>,
    /// Which of those in cells of their own is asked first.
    first: usize,
    /// Why some could not be asked.
    unasked: Arc<Fault>,
    local: Option<Local>,
    generation: u64,
    over: usize,
    /// Where some are not looked at, nobody knows whether one of them is full: they are one more, of
    /// which nothing is known.
    beyond: (Arc<str>, Option<Arc<Fault>>),
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells) -> Self {
        Self::asking(paths, cells, Arc::new(statvfs))
    }

    fn asking(paths: &Paths, cells: &Cells, ask: Ask) -> Self {
        Self {
            // A service manager gives us a view of our own, with mounts made read-only and folders
            // hidden; process 1 sees the node's. Where that is refused, our own must do.
            files: ["1/mountinfo", "self/mountinfo"]
                .map(|file| KernelFile::new(paths.procfs.join(file))),
            own: false,
            rootfs: paths.rootfs.clone(),
            cells: cells.clone(),
            ask,
            source: Arc::from("filesystems"),
            seen: Vec::new(),
            read_at: None,
            asked_at: None,
            filesystems: Vec::new(),
            first: 0,
            unasked: Arc::new(Fault::new(
                FaultCode::Exhausted,
                "others hang in all the cells that could ask this filesystem",
            )),
            local: None,
            generation: 0,
            over: 0,
            beyond: (Arc::from("more"), None),
        }
    }

    fn file(&self) -> &KernelFile {
        let [first, second] = &self.files;
        if self.own { second } else { first }
    }

    /// Reads mountinfo; true where filesystems came or went.
    fn mounts(&mut self, tick: &mut Tick) -> bool {
        let fresh = self.read_at.is_some_and(|read| tick.at.since(read) < MOUNTINFO_EVERY);
        // Asked in any case: the answer is about the time since the question before.
        let announced = self.file().may_have_changed();
        if fresh && !announced {
            return false;
        }
        self.read_at = Some(tick.at);
        let [first, second] = &mut self.files;
        let (text, file) = match first.read(&mut tick.buffer) {
            Some(text) => {
                self.own = false;
                (text, first)
            }
            None => {
                self.own = true;
                let Some(text) = second.read(&mut tick.buffer) else { return false };
                (text, second)
            }
        };
        if !text.is_empty() && text == self.seen {
            return false;
        }
        let mut chosen = chosen(text);
        if chosen.is_empty() && !mounts::tells(text) {
            file.garbled("names no mount");
            return false;
        }
        tick.mounted = Mounted::of(text);
        self.seen.clear();
        self.seen.extend_from_slice(text);
        let over = chosen.len().saturating_sub(FILESYSTEMS_LIMIT);
        chosen.truncate(FILESYSTEMS_LIMIT);
        let beyond = over != self.over;
        if beyond {
            self.over = over;
            let text =
                format!("{over} filesystems more than {FILESYSTEMS_LIMIT} are not looked at");
            let fault = Arc::new(Fault::new(FaultCode::Unsupported, text));
            self.beyond.1 = Some(fault).filter(|_| over > 0);
        }

        let mut known = std::mem::take(&mut self.filesystems);
        let before = known.len();
        let (mut kept, mut resealed) = (0, false);
        for mount in chosen {
            let same = |fs: &Filesystem| {
                let (a, b) = (&fs.mount, &mount);
                (&a.point, a.device, &a.kind) == (&b.point, b.device, &b.kind)
            };
            let filesystem = match known.iter().position(same) {
                Some(index) => {
                    let mut filesystem = known.swap_remove(index);
                    let sealed = filesystem.sealed();
                    filesystem.was_writable |= !filesystem.mount.super_readonly;
                    filesystem.mount = mount;
                    resealed |= sealed != filesystem.sealed();
                    kept += 1;
                    filesystem
                }
                None => self.watched(mount, tick.at),
            };
            self.filesystems.push(filesystem);
        }
        let changed = beyond || kept != before || kept != self.filesystems.len();
        if changed {
            self.group();
        }
        // Being sealed decides what is judged, as coming and going does.
        changed || resealed
    }

    fn watched(&self, mount: Mount, at: Mono) -> Filesystem {
        let path = self.rootfs.join(mount.point.trim_start_matches('/'));
        let watch =
            Arc::new(Watch { path, answer: Mutex::new(None), stuck: AtomicBool::new(false) });
        let local = LOCAL.contains(&mount.kind.as_str());
        let hung = format!("statvfs of {} has not answered for {HUNG_AFTER:?}", mount.point);
        Filesystem {
            labels: [&mount.point, &mount.source, &mount.kind].map(|text| Arc::from(&**text)),
            alone: (!local).then(|| alone(&watch, &self.ask)),
            watch,
            since: at,
            waiting: None,
            was_writable: !mount.super_readonly,
            mount,
            has_size: true,
            has_inodes: true,
            space: Ok(None),
            error: None,
            hung: Arc::new(Fault::new(FaultCode::Hung, hung)),
            readonly: Slot::Nothing,
            history: History::new(),
        }
    }

    /// Puts the filesystems that have no cell of their own into one.
    fn group(&mut self) {
        self.generation += 1;
        let watches: Vec<_> = self
            .filesystems
            .iter()
            .filter(|filesystem| filesystem.alone.is_none())
            .map(|filesystem| Arc::clone(&filesystem.watch))
            .collect();
        self.local = (!watches.is_empty()).then(|| Local::new(self.generation, watches, &self.ask));
    }

    /// Starts what does not hang. What finds no cell is asked first the next time.
    fn ask_all(&mut self, at: Mono) {
        self.ask_local(at);
        let local = self.local.as_ref();
        let busy = local.and_then(|local| self.cells.busy_for(&local.resource, at));
        if busy.is_some_and(|busy| busy > STATVFS_DEADLINE) {
            self.set_apart();
            self.ask_local(at);
        }
        let count = self.filesystems.len();
        let (mut asked, first) = (0, self.first);
        for place in (first..count).chain(0..first.min(count)) {
            let Some(filesystem) = self.filesystems.get_mut(place) else { continue };
            let Some((resource, work)) = &filesystem.alone else { continue };
            if filesystem.watch.stuck.load(Relaxed) {
                continue;
            }
            let taken = self.cells.in_use() + LEFT_FREE >= CELLS_LIMIT;
            if asked == ALONE_AT_ONCE || taken {
                self.first = place;
                break;
            }
            match self.cells.post(resource, STATVFS_DEADLINE, work) {
                Ok(true) => {
                    asked += 1;
                    filesystem.waiting.get_or_insert(at);
                }
                // What it was asked before has no answer yet.
                Ok(false) => {}
                Err(_) => {
                    self.first = place;
                    break;
                }
            }
        }
    }

    /// The local filesystems, unless they are still being asked.
    fn ask_local(&mut self, at: Mono) {
        let Some(local) = &self.local else { return };
        if self.cells.queue(&local.resource, STATVFS_DEADLINE, &local.work) == Ok(true) {
            for filesystem in self.filesystems.iter_mut().filter(|fs| fs.alone.is_none()) {
                filesystem.waiting.get_or_insert(at);
            }
        }
    }

    /// The local cell hangs: the filesystem that it hangs on gets a cell of its own, and the rest
    /// go on in a new one.
    fn set_apart(&mut self) {
        let Some(local) = &self.local else { return };
        let Some(culprit) = local.watches.get(local.current.load(Relaxed)) else { return };
        culprit.stuck.store(true, Relaxed);
        for filesystem in &mut self.filesystems {
            if Arc::ptr_eq(&filesystem.watch, culprit) {
                filesystem.alone = Some(alone(&filesystem.watch, &self.ask));
            } else if filesystem.alone.is_none() {
                // It was asked behind the one that hangs.
                filesystem.waiting = None;
            }
        }
        self.group();
    }
}

fn alone(watch: &Arc<Watch>, ask: &Ask) -> (Arc<str>, Rounds) {
    let resource = Arc::from(format!("statvfs of {}", watch.path.display()));
    let (watch, ask) = (Arc::clone(watch), Arc::clone(ask));
    (resource, Arc::new(move || watch.look(&ask)))
}

impl super::Source for Source {
    fn begin(&mut self, at: Mono) {
        // Ticks come a little early or late.
        let early = STATVFS_EVERY - Duration::from_millis(500);
        if self.asked_at.is_some_and(|asked| at.since(asked) >= early) {
            self.ask_all(at);
            self.asked_at = Some(at);
        }
    }

    fn read(&mut self, tick: &mut Tick) -> bool {
        let changed = self.mounts(tick);
        if changed {
            self.ask_all(tick.at);
            self.cells.wake();
            self.asked_at = Some(tick.at);
            let until = Mono::now().plus(FIRST_LOOK);
            let waiting =
                |fs: &Filesystem| fs.waiting.is_some() && locked(&fs.watch.answer).is_none();
            while self.filesystems.iter().any(waiting) && Mono::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let (at, unasked) = (tick.at, &self.unasked);
        self.filesystems.iter_mut().fold(changed, |changed, fs| fs.take(at, unasked) | changed)
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file().fault());
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(self.over as f64));
        for filesystem in &self.filesystems {
            let [point, device, kind] = &filesystem.labels;
            let place = [point];
            let labels = [point, device, kind];
            sink.under(self.file().fault());
            sink.put(&metric::FS_READONLY, &place, filesystem.readonly);
            let space = filesystem.space.as_ref().err();
            let unasked = space.filter(|fault| Arc::ptr_eq(fault, &self.unasked));
            sink.under(self.file().fault().or(unasked));
            sink.put(&metric::FS_HUNG, &place, filesystem.hangs(&self.unasked));
            sink.under(self.file().fault().or(space));
            let space = filesystem.space.as_ref().ok().copied().flatten();
            let slot = |of: fn(&Space) -> f64| {
                space.as_ref().map_or(Slot::Nothing, |space| Slot::Number(of(space)))
            };
            if filesystem.has_size && !filesystem.sealed() {
                sink.put(&metric::FS_AVAILABLE, &place, slot(|s| s.available / s.size));
                let [filling, scarce] = FILLING
                    .map(|below| space.map_or(Slot::Nothing, |s| filesystem.full_in(s, below)));
                sink.put(&metric::FS_FULL_IN, &place, filling);
                sink.put(&metric::FS_SCARCE_FULL_IN, &place, scarce);
            }
            if filesystem.has_inodes && !filesystem.sealed() {
                let ratio = slot(|s| s.inodes_free / s.inodes);
                sink.put(&metric::FS_INODES_AVAILABLE, &place, ratio);
            }
            sink.put(&metric::FS_SIZE, &labels, slot(|s| s.size));
            sink.put(&metric::FS_AVAILABLE_BYTES, &labels, slot(|s| s.available));
            sink.put(&metric::FS_INODES, &labels, slot(|s| s.inodes));
            sink.put(&metric::FS_INODES_FREE, &labels, slot(|s| s.inodes_free));
        }
        if let (name, Some(fault)) = &self.beyond {
            sink.under(Some(fault));
            for metric in [
                &metric::FS_READONLY,
                &metric::FS_HUNG,
                &metric::FS_AVAILABLE,
                &metric::FS_INODES_AVAILABLE,
                &metric::FS_FULL_IN,
                &metric::FS_SCARCE_FULL_IN,
            ] {
                sink.put(metric, &[name], Slot::MISSING);
            }
        }
    }
}

#[cfg(test)]
mod tests;
