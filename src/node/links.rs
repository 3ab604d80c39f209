//! Network interfaces: /proc/net/dev for what they carried, sysfs for carrier, speed and MTU.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;
use crate::lanes::{Cells, Rounds};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// Interfaces shown, real ones first: a node full of containers has hundreds of virtual ones.
const LINKS_LIMIT: usize = 64;

/// Lines remembered; what follows is counted as over the limit.
const LINES_LIMIT: usize = 4096;

/// Carrier, speed and MTU change rarely, and reading them takes the kernel's network lock.
const ATTRIBUTES_EVERY: Duration = Duration::from_secs(10);

/// Attributes older than this are none: sysfs hangs.
const STALE_AFTER: Duration = Duration::from_secs(30);

const ATTRIBUTES_DEADLINE: Duration = Duration::from_secs(5);

/// Interfaces that come and go with a single container or virtual machine. Their totals are shown,
/// but what they drop says nothing of the node, and gates over them would never be covered.
const TRANSIENT: [&str; 6] = ["veth", "cali", "lxc", "tap", "vnet", "eni"];

/// Megabits to bytes.
const MEGABIT: f64 = 125_000.0;

/// The columns that are used (net/core/net-procfs.c); drops of receiving include those for want of
/// buffers in the device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Direction {
    bytes: u64,
    packets: u64,
    errors: u64,
    drops: u64,
}

fn parse(line: &[u8]) -> Option<(&[u8], [Direction; 2])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii();
    let mut columns = [0; 16];
    let mut words = fields(line.get(colon + 1..)?);
    for column in &mut columns {
        *column = number(words.next()?)?;
    }
    let [rb, rp, re, rd, _, _, _, _, tb, tp, te, td, ..] = columns;
    let direction = |bytes, packets, errors, drops| Direction { bytes, packets, errors, drops };
    // A name with a blank in it is the file's heading.
    let plain = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic());
    plain.then_some((name, [direction(rb, rp, re, rd), direction(tb, tp, te, td)]))
}

/// What sysfs says of an interface. The kernel refuses carrier and speed where it is down.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Attributes {
    carrier: Option<f64>,
    speed: Option<f64>,
    mtu: Option<f64>,
}

impl Attributes {
    fn read(folder: &Path) -> Self {
        let value = |name: &str| {
            let text = std::fs::read(folder.join(name)).ok()?;
            number(text.trim_ascii_end()).map(|value| value as f64)
        };
        Self {
            carrier: value("carrier").filter(|carrier| *carrier <= 1.0),
            // An unknown speed is -1, 0 or all ones, whatever the driver's mind.
            speed: value("speed")
                .filter(|megabits| (1.0..4e9).contains(megabits))
                .map(|megabits| megabits * MEGABIT),
            mtu: value("mtu"),
        }
    }
}

struct Watch {
    folder: PathBuf,
    answer: Mutex<Option<(Mono, Attributes)>>,
}

impl Watch {
    fn look(&self) {
        let answer = Attributes::read(&self.folder);
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((Mono::now(), answer));
    }

    fn answer(&self) -> Option<(Mono, Attributes)> {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the file, remembered from tick to tick.
struct Link {
    name: Arc<str>,
    /// It has a device behind it.
    real: bool,
    shown: bool,
    now: [Direction; 2],
    watch: Arc<Watch>,
    attributes: Option<(Mono, Attributes)>,
}

pub(super) struct Source {
    file: KernelFile,
    folder: PathBuf,
    cells: Cells,
    resource: Arc<str>,
    work: Option<Rounds>,
    asked: Option<Mono>,
    at: Mono,
    directions: [Arc<str>; 2],
    source: Arc<str>,
    stale: Arc<Fault>,
    links: Vec<Link>,
    over: usize,
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells) -> Self {
        let folder = paths.sysfs.join("class/net");
        let stale = format!("{} has not answered for {STALE_AFTER:?}", folder.display());
        Self {
            file: KernelFile::new(paths.procfs.join("net/dev")),
            folder,
            cells: cells.clone(),
            resource: Arc::from("sysfs of the interfaces"),
            work: None,
            asked: None,
            at: Mono::default(),
            directions: ["receive", "transmit"].map(Arc::from),
            source: Arc::from("links"),
            stale: Arc::new(Fault::new(FaultCode::Hung, stale)),
            links: Vec::new(),
            over: 0,
        }
    }

    fn known(folder: &Path, name: &[u8]) -> Link {
        let name: Arc<str> = Arc::from(String::from_utf8_lossy(name));
        let folder = folder.join(&*name);
        Link {
            name,
            real: folder.join("device").exists(),
            shown: false,
            now: Default::default(),
            watch: Arc::new(Watch { folder, answer: Mutex::new(None) }),
            attributes: None,
        }
    }

    /// Shows the real ones, then the others as far as they fit. The loopback is no link.
    fn choose(&mut self) -> bool {
        let real = self.links.iter().filter(|link| link.real).count().min(LINKS_LIMIT);
        let mut left = [LINKS_LIMIT - real, real];
        let mut changed = false;
        self.over = 0;
        for link in &mut self.links {
            let left = &mut left[usize::from(link.real)];
            let wanted = &*link.name != "lo";
            let shown = wanted && *left > 0;
            *left -= usize::from(shown);
            self.over += usize::from(wanted && !shown);
            changed |= link.shown != shown;
            link.shown = shown;
        }
        changed
    }

    fn ask(&mut self, changed: bool, at: Mono) {
        if changed {
            let shown = self.links.iter().filter(|link| link.shown);
            let watches: Vec<_> = shown.map(|link| Arc::clone(&link.watch)).collect();
            self.work = Some(Arc::new(move || watches.iter().for_each(|watch| watch.look())));
        }
        let due = self.asked.is_none_or(|asked| at.since(asked) >= ATTRIBUTES_EVERY);
        if let Some(work) = &self.work
            && (changed || due)
            && self.cells.post(&self.resource, ATTRIBUTES_DEADLINE, work) == Ok(true)
        {
            self.asked = Some(at);
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.at = tick.at;
        let Some(text) = self.file.read(&mut tick.buffer) else { return false };
        let mut changed = false;
        let mut count = 0;
        for (name, now) in lines(text).filter_map(parse).take(LINES_LIMIT) {
            // The file keeps its order, so the interface is nearly always where it was.
            let same = |link: &Link| link.name.as_bytes() == name;
            match self.links.get(count..).unwrap_or_default().iter().position(same) {
                Some(0) => {}
                Some(further) => {
                    self.links.drain(count..count + further);
                    changed = true;
                }
                None => {
                    self.links.insert(count, Self::known(&self.folder, name));
                    changed = true;
                }
            }
            if let Some(link) = self.links.get_mut(count) {
                link.now = now;
            }
            count += 1;
        }
        if count == 0 {
            // Every network namespace has at least its loopback.
            self.file.garbled("names no interface");
            return false;
        }
        changed |= self.links.len() > count;
        self.links.truncate(count);
        if changed {
            self.choose();
        }
        self.ask(changed, tick.at);
        for link in &mut self.links {
            link.attributes = link.watch.answer();
        }
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(self.over as f64));
        for link in self.links.iter().filter(|link| link.shown) {
            let name = &link.name;
            sink.under(self.file.fault());
            let [receive, transmit] = &link.now;
            let both = |of: fn(&Direction) -> u64| {
                Slot::of(Some(of(receive).saturating_add(of(transmit))))
            };
            if link.real || !TRANSIENT.iter().any(|prefix| name.starts_with(prefix)) {
                sink.put(&metric::LINK_ERRORS, &[name], both(|d| d.errors));
                sink.put(&metric::LINK_DROPS, &[name], both(|d| d.drops));
            }
            for (word, direction) in self.directions.iter().zip(&link.now) {
                let labels = [name, word];
                sink.put(&metric::NETWORK_BYTES, &labels, Slot::of(Some(direction.bytes)));
                sink.put(&metric::NETWORK_PACKETS, &labels, Slot::of(Some(direction.packets)));
                sink.put(&metric::NETWORK_ERRORS, &labels, Slot::of(Some(direction.errors)));
                sink.put(&metric::NETWORK_DROPS, &labels, Slot::of(Some(direction.drops)));
            }
            let fresh = link.attributes.filter(|(at, _)| self.at.since(*at) <= STALE_AFTER);
            if link.attributes.is_some() && fresh.is_none() && self.file.fault().is_none() {
                sink.under(Some(&self.stale));
            }
            let slot = |of: fn(&Attributes) -> Option<f64>| {
                fresh.and_then(|(_, a)| of(&a)).map_or(Slot::Nothing, Slot::Number)
            };
            sink.put(&metric::NETWORK_CARRIER, &[name], slot(|a| a.carrier));
            sink.put(&metric::NETWORK_SPEED, &[name], slot(|a| a.speed));
            sink.put(&metric::NETWORK_MTU, &[name], slot(|a| a.mtu));
        }
    }
}

#[cfg(test)]
mod tests;
