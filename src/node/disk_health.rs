//! What disks say of their own health: errors that SCSI disks counted, the state and the health
//! page of NVMe controllers, errors that ext4 found in itself.
//!
//! sysfs attributes of drivers and commands to a controller can hang with it, so all of it is read
//! in a cell, rarely; what it found is put second by second.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::{Metric, node as metric};
use crate::client::kernel;
use crate::lanes::{Cells, Rounds};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// How often counters and states are read: each is one small file of sysfs, none of them changes in
/// bursts, and more often than this nobody scrapes. Cells are asked every five seconds, a little early
/// or late: it is every fifteen.
const EVERY: Duration = Duration::from_secs(14);

/// How often a controller is asked for its health: a command takes its time from requests.
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// What takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// An older reading is none.
const STALE_AFTER: Duration = Duration::from_secs(50);

/// How long the first tick waits, so that its frame has values.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// Devices of each kind that are shown.
const LIMIT: usize = 256;

/// Of those beyond the limit nobody knows how they are: they are one more, of which nothing is known.
const BEYOND: &str = "more";

fn beyond(over: usize) -> Option<Arc<Fault>> {
    let text = format!("{over} devices more than {LIMIT} are not asked for their health");
    (over > 0).then(|| Arc::new(Fault::new(FaultCode::Unsupported, text)))
}

/// No such attribute is longer.
const ATTRIBUTE_LIMIT: u64 = 256;

/// What an NVMe controller's health page says (NVM Express Base Specification 1.4, figure 194).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Health {
    warning: bool,
    /// Ratios; the vendor's estimate of what is used may exceed 1. A device without a threshold and
    /// without spare blocks has none that could run out: those of clouds and hypervisors are such.
    spare: f64,
    used: f64,
    media_errors: f64,
}

impl Health {
    fn of(page: &[u8]) -> Option<Self> {
        let byte = |at: usize| page.get(at).copied();
        let errors = page.get(160..176)?.iter().rev();
        Some(Self {
            warning: byte(0)? != 0,
            spare: match (byte(3)?, byte(4)?) {
                (0, 0) => 1.0,
                (spare, _) => f64::from(spare) / 100.0,
            },
            used: f64::from(byte(5)?) / 100.0,
            media_errors: errors.fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte)),
        })
    }
}

type Found<T> = Result<T, Arc<Fault>>;

/// A controller, when it was asked, and what it said.
type Asked = (Arc<str>, Mono, Found<Health>);

/// A figure of a health page, and how it is got.
type Figure = (&'static Metric, fn(&Health) -> f64);

struct Controller {
    name: Arc<str>,
    not_live: Found<bool>,
    health: Found<Health>,
}

/// What one look found.
#[derive(Default)]
struct Findings {
    /// Errors of SCSI and ATA disks.
    disks: Vec<(Arc<str>, Found<u64>)>,
    filesystems: Vec<(Arc<str>, Found<u64>)>,
    controllers: Vec<Controller>,
    over: usize,
}

type Ask = Arc<dyn Fn(&Path) -> Result<[u8; kernel::NVME_HEALTH], Errno> + Send + Sync>;

fn ask(controller: &Path) -> Result<[u8; kernel::NVME_HEALTH], Errno> {
    let errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    kernel::nvme_health(&fs::File::open(controller).map_err(errno)?)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names in a folder of sysfs, in order; none where it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// An attribute's text; None where this device has none of that name.
fn attribute(path: &Path) -> Option<Found<String>> {
    let mut text = String::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(ATTRIBUTE_LIMIT).read_to_string(&mut text));
    match read {
        Ok(_) => Some(Ok(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let code = match error.kind() {
                std::io::ErrorKind::PermissionDenied => FaultCode::Permission,
                _ => FaultCode::Unreadable,
            };
            let text = format!("{} could not be read: {error}", path.display());
            Some(Err(Arc::new(Fault::new(code, text))))
        }
    }
}

/// A whole number; the SCSI layer writes its counters with `0x`.
fn whole(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => super::text::number(text.as_bytes()),
    }
}

/// A drive without a disc in it answers with an error each time that it is asked for one.
fn is_optical(disk: &str) -> bool {
    disk.starts_with("sr")
}

fn count(path: &Path) -> Option<Found<u64>> {
    let text = attribute(path)?;
    Some(text.and_then(|text| {
        whole(&text).ok_or_else(|| {
            let text = format!("{} holds no number", path.display());
            Arc::new(Fault::new(FaultCode::Garbled, text))
        })
    }))
}

/// Where one kind of counter is, device by device.
fn counts(folder: &Path, file: &str, over: &mut usize) -> Vec<(Arc<str>, Found<u64>)> {
    let mut counts: Vec<_> = names(folder)
        .into_iter()
        .filter_map(|name| Some((Arc::from(&*name), count(&folder.join(&name).join(file))?)))
        .collect();
    let more = counts.len().saturating_sub(LIMIT);
    *over += more;
    counts.truncate(LIMIT);
    counts.extend(beyond(more).map(|fault| (Arc::from(BEYOND), Err(fault))));
    counts
}

/// What the cell works with.
struct Look {
    sysfs: PathBuf,
    /// /dev of the node.
    devices: PathBuf,
    ask: Ask,
    /// The health of each controller, and when it was asked.
    asked: Mutex<Vec<Asked>>,
    fresh: Mutex<Option<(Mono, Findings)>>,
}

impl Look {
    fn take(&self) {
        let mut over = 0;
        let mut disks = counts(&self.sysfs.join("block"), "device/ioerr_cnt", &mut over);
        disks.retain(|(name, _)| !is_optical(name));
        let filesystems = counts(&self.sysfs.join("fs/ext4"), "errors_count", &mut over);
        let folder = self.sysfs.join("class/nvme");
        let mut all = names(&folder);
        let more = all.len().saturating_sub(LIMIT);
        over += more;
        all.truncate(LIMIT);
        locked(&self.asked).retain(|(name, _, _)| all.iter().any(|known| **known == **name));
        let more = beyond(more).map(|fault| Controller {
            name: Arc::from(BEYOND),
            not_live: Err(Arc::clone(&fault)),
            health: Err(fault),
        });
        let controllers = all
            .into_iter()
            .filter_map(|name| {
                let state = attribute(&folder.join(&name).join("state"))?;
                let name: Arc<str> = Arc::from(name);
                let not_live = state.map(|state| state != "live");
                Some(Controller { health: self.health(&name), name, not_live })
            })
            .chain(more)
            .collect();
        let findings = Findings { disks, filesystems, controllers, over };
        *locked(&self.fresh) = Some((Mono::now(), findings));
    }

    fn health(&self, name: &Arc<str>) -> Found<Health> {
        let known = locked(&self.asked).iter().find(|(known, _, _)| known == name).cloned();
        if let Some((_, at, health)) = known
            && Mono::now().since(at) < HEALTH_EVERY
        {
            return health;
        }
        let path = self.devices.join(&**name);
        let health =
            (self.ask)(&path).map_err(|errno| Arc::new(refusal(&path, errno))).and_then(|page| {
                Health::of(&page).ok_or_else(|| {
                    Arc::new(Fault::new(FaultCode::Garbled, format!("{name} says nothing")))
                })
            });
        let mut asked = locked(&self.asked);
        asked.retain(|(known, _, _)| known != name);
        asked.push((Arc::clone(name), Mono::now(), health.clone()));
        health
    }
}

fn refusal(path: &Path, errno: Errno) -> Fault {
    let path = path.display();
    match errno {
        Errno::EACCES | Errno::EPERM => Fault::new(
            FaultCode::Permission,
            format!("reading the health of {path} needs CAP_SYS_ADMIN and the device: {errno}"),
        ),
        Errno::ENOENT => Fault::new(
            FaultCode::Unreadable,
            format!("{path} can't be seen from here; give the agent the host's /dev"),
        ),
        _ => Fault::new(FaultCode::Unreadable, format!("{path} does not tell its health: {errno}")),
    }
}

pub(super) struct Source {
    look: Arc<Look>,
    work: Rounds,
    resource: Arc<str>,
    source: Arc<str>,
    cells: Cells,
    asked_at: Option<Mono>,
    read_at: Option<Mono>,
    found: Findings,
    hung: Arc<Fault>,
    stale: bool,
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells) -> Self {
        Self::asking(paths, cells, Arc::new(ask))
    }

    fn asking(paths: &Paths, cells: &Cells, ask: Ask) -> Self {
        let look = Arc::new(Look {
            sysfs: paths.sysfs.clone(),
            devices: paths.rootfs.join("dev"),
            ask,
            asked: Mutex::new(Vec::new()),
            fresh: Mutex::new(None),
        });
        let looking = Arc::clone(&look);
        let hung = format!("what disks say of their health has not been read for {STALE_AFTER:?}");
        Self {
            look,
            work: Arc::new(move || looking.take()),
            resource: Arc::from("health of disks"),
            source: Arc::from("disk health"),
            cells: cells.clone(),
            asked_at: None,
            read_at: None,
            found: Findings::default(),
            hung: Arc::new(Fault::new(FaultCode::Hung, hung)),
            stale: false,
        }
    }

    /// Takes what the cell found; true where devices came or went.
    fn take(&mut self) -> bool {
        let Some((at, fresh)) = locked(&self.look.fresh).take() else { return false };
        self.read_at = Some(at);
        let before = std::mem::replace(&mut self.found, fresh);
        fn same(a: &[(Arc<str>, Found<u64>)], b: &[(Arc<str>, Found<u64>)]) -> bool {
            a.iter().map(|(name, _)| name).eq(b.iter().map(|(name, _)| name))
        }
        let now = &self.found;
        fn controllers(found: &Findings) -> impl Iterator<Item = &Arc<str>> {
            found.controllers.iter().map(|controller| &controller.name)
        }
        !same(&before.disks, &now.disks)
            || !same(&before.filesystems, &now.filesystems)
            || !controllers(&before).eq(controllers(now))
    }
}

impl super::Source for Source {
    fn begin(&mut self, at: Mono) {
        if self.asked_at.is_some_and(|asked| at.since(asked) >= EVERY) {
            // While it hangs, what is known grows old.
            let _ = self.cells.queue(&self.resource, DEADLINE, &self.work);
            self.asked_at = Some(at);
        }
    }

    fn read(&mut self, tick: &mut Tick) -> bool {
        if self.asked_at.is_none() {
            self.asked_at = Some(tick.at);
            let _ = self.cells.post(&self.resource, DEADLINE, &self.work);
            let until = Mono::now().plus(FIRST_LOOK);
            while locked(&self.look.fresh).is_none() && Mono::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let changed = self.take();
        self.stale = self.read_at.is_some_and(|read| tick.at.since(read) > STALE_AFTER);
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let stale = self.stale.then_some(&self.hung);
        let found = &self.found;
        sink.under(stale);
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(found.over as f64));
        for (metric, counts) in
            [(&metric::DISK_ERRORS, &found.disks), (&metric::FS_ERRORS, &found.filesystems)]
        {
            for (name, count) in counts {
                sink.under(stale.or(count.as_ref().err()));
                sink.put(metric, &[name], Slot::of(count.as_ref().ok().copied()));
            }
        }
        let yes = |yes: bool| f64::from(u8::from(yes));
        for controller in &found.controllers {
            let name = [&controller.name];
            sink.under(stale.or(controller.not_live.as_ref().err()));
            let not_live = controller.not_live.as_ref().is_ok_and(|not_live| *not_live);
            sink.put(&metric::NVME_NOT_LIVE, &name, Slot::Number(yes(not_live)));
            sink.under(stale.or(controller.health.as_ref().err()));
            let health = controller.health.as_ref().ok();
            let rows: [Figure; 4] = [
                (&metric::NVME_WARNING, |health| f64::from(u8::from(health.warning))),
                (&metric::NVME_USED, |health| health.used),
                (&metric::NVME_SPARE, |health| health.spare),
                (&metric::NVME_MEDIA_ERRORS, |health| health.media_errors),
            ];
            for (metric, of) in rows {
                sink.put(metric, &name, health.map_or(Slot::Nothing, |h| Slot::Number(of(h))));
            }
        }
    }
}

/// Which of these there are on the node, for the gates that judge them: None where sysfs can't
/// be seen.
pub(super) fn facts(paths: &Paths) -> Option<[(&'static str, bool); 3]> {
    let blocks = paths.sysfs.join("block");
    let there = |folder: &Path, file: &str| {
        names(folder).iter().any(|name| folder.join(name).join(file).exists())
    };
    blocks.is_dir().then(|| {
        [
            (
                "disk_errors",
                names(&blocks).iter().any(|name| {
                    !is_optical(name) && blocks.join(name).join("device/ioerr_cnt").exists()
                }),
            ),
            ("nvme", there(&paths.sysfs.join("class/nvme"), "state")),
            ("ext4", there(&paths.sysfs.join("fs/ext4"), "errors_count")),
        ]
    })
}

#[cfg(test)]
mod tests;
