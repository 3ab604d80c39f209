//! Network interfaces: what they carried, lost and damaged, and whether they are up.
//!
//! What they carry is read from procfs second by second: the kernel writes that without its network
//! lock, and wakes nobody up for it. What they are comes by netlink where that shows the namespace
//! that is asked for; else (in a container that is given the host's procfs) from sysfs, and what that
//! lacks is absent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::text::{KernelFile, lines, single};
use super::{Namespace, Paths, Sink, Slot, Step, Tick, network_folder};
use crate::catalogue::node as metric;
use crate::client::netlink::{Netlink, Protocol, Trouble};
use crate::lanes::{Cells, Rounds};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

mod queues;
mod rtnl;
mod sysfs;
mod traffic;

use queues::Queue;
use rtnl::{Make, Name, Told};
use sysfs::{Attributes, Slaves, Watch};
use traffic::{Direction, lost, parse};

/// Devices shown: a network card may show each of its virtual functions.
const DEVICES_LIMIT: usize = 256;

/// Interfaces shown if there are not as many devices, those that are judged first: a node full of containers
/// has hundreds of virtual ones.
const LINKS_LIMIT: usize = 64;

/// Lines remembered; what follows is counted as over the limit.
const LINES_LIMIT: usize = 4096;

/// Carrier and MTU change rarely, and reading them takes the kernel's network lock. Cells are asked
/// every five seconds, a little early or late: it is every ten.
const ATTRIBUTES_EVERY: Duration = Duration::from_secs(9);

/// Where netlink tells of carrier and MTU, speed and duplex are left. A device agrees on them as its carrier
/// comes, and then they are asked for at once; only virtual ones are given others without that.
const SPEED_EVERY: Duration = Duration::from_secs(59);

/// What netlink told longer ago than this is not known any more.
const TOLD_AT_LAST: Duration = Duration::from_secs(40);

/// Attributes that are due for so long are none: sysfs hangs.
const STALE_AFTER: Duration = Duration::from_secs(21);

const ATTRIBUTES_DEADLINE: Duration = Duration::from_secs(5);

/// Interfaces that come and go with a single container or virtual machine, where only their names tell
/// it. Their totals are shown, but what they drop says nothing of the node, and gates over them would
/// never be covered.
const TRANSIENT: [&str; 6] = ["veth", "cali", "lxc", "tap", "vnet", "eni"];

/// What is known of an interface in this second besides its totals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Detail {
    missed: Option<u64>,
    /// Checksum, frame and FIFO errors.
    errors: Option<[u64; 3]>,
    carrier_changes: Option<u64>,
    carrier: Option<f64>,
    up: Option<bool>,
    mtu: Option<f64>,
    bond: Option<Slaves>,
    queue: Option<Queue>,
}

/// Counters of sysfs that netlink would have told.
struct Files {
    missed: KernelFile,
    carrier_changes: KernelFile,
}

/// An interface, remembered from tick to tick.
struct Link {
    name: Arc<str>,
    index: Option<u32>,
    /// It has a device behind it.
    real: bool,
    /// Its carrier and its speed say something of the node: a device, a bond, or (carrier only)
    /// the wire of a container that we are in.
    wired: bool,
    paced: bool,
    /// It is a container's, whatever its name is.
    of_container: bool,
    shown: bool,
    now: [Direction; 2],
    before: [Direction; 2],
    read_at: Option<Mono>,
    step: Step,
    /// Drops that count, since it is watched.
    lost: u64,
    detail: Detail,
    files: Option<Files>,
    watch: Arc<Watch>,
    attributes: Option<(Mono, Attributes)>,
    /// Which of the slots that not every interface has are put.
    form: Form,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Form {
    speed: bool,
    duplex: bool,
    bond: bool,
    queue: bool,
}

impl Link {
    fn judged(&self) -> bool {
        let transient = || TRANSIENT.iter().any(|prefix| self.name.starts_with(prefix));
        self.real || !self.of_container && !transient()
    }

    /// Takes what netlink told. True where its carrier came or went since, or it was switched on or off.
    fn learn(&mut self, detail: Detail) -> bool {
        let wire = |of: &Detail| (of.carrier, of.carrier_changes, of.up);
        let before = std::mem::replace(&mut self.detail, detail);
        self.shown && wire(&before) != wire(&self.detail)
    }

    fn carry(&mut self, at: Mono, now: [Direction; 2]) {
        self.step = Step::between(self.read_at.replace(at), at);
        self.before = std::mem::replace(&mut self.now, now);
        let directions = self.before.iter().zip(&self.now);
        let lost = directions.map(|(before, now)| lost(self.step, before, now)).sum();
        self.lost = self.lost.saturating_add(lost);
    }

    /// The larger direction's share of the speed; each direction has all of it.
    fn throughput(&self, speed: f64) -> Slot {
        let rates = [0, 1].map(|n: usize| {
            let bytes = |of: &[Direction; 2]| of.get(n).map(|direction| direction.bytes);
            self.step.rate(bytes(&self.before), bytes(&self.now))
        });
        match rates {
            [Slot::Number(receive), Slot::Number(transmit)] => {
                Slot::Number(receive.max(transmit) / speed)
            }
            [slot @ (Slot::Nothing | Slot::Absent(_)), _] | [_, slot] => slot,
        }
    }
}

/// Where all but the counters of /proc/net/dev comes from.
enum Way {
    /// Decided at the first reading.
    Unknown,
    Netlink(rtnl::Line),
    /// What netlink would have told besides is absent for this reason.
    Files(Arc<Fault>),
}

pub(super) struct Source {
    path: PathBuf,
    file: KernelFile,
    way: Way,
    /// The lines of this second.
    counted: Vec<(Name, [Direction; 2])>,
    /// The last trouble of netlink, and what is said of it.
    trouble: Option<(Trouble, Arc<Fault>)>,
    /// Why what netlink told is not known any more.
    untold: Option<Arc<Fault>>,
    late: Arc<Fault>,
    /// Interfaces that netlink had not told of in the second before.
    strangers: usize,
    /// Why the queues are not known, and what of.
    unqueued: Option<(Trouble, Arc<Fault>)>,
    folder: PathBuf,
    cells: Cells,
    resource: Arc<str>,
    work: Option<Rounds>,
    asked: Option<Mono>,
    at: Mono,
    directions: [Arc<str>; 2],
    kinds: [Arc<str>; 3],
    states: [Arc<str>; 2],
    source: Arc<str>,
    stale: Arc<Fault>,
    links: Vec<Link>,
    over: usize,
    /// Of devices beyond the limit nobody knows what they lose: they are one more, of which nothing is known.
    beyond: (Arc<str>, Option<Arc<Fault>>),
}

impl Source {
    pub(super) fn new(paths: &Paths, cells: &Cells) -> Self {
        let folder = paths.sysfs.join("class/net");
        let stale = format!("{} has not answered for more than {STALE_AFTER:?}", folder.display());
        let path = network_folder(paths).join("dev");
        Self {
            file: KernelFile::new(path.clone()),
            path,
            way: Way::Unknown,
            counted: Vec::new(),
            trouble: None,
            untold: None,
            late: Arc::new(Fault::new(
                FaultCode::Hung,
                "the kernel did not tell of its interfaces in time: its network lock is held",
            )),
            strangers: 0,
            unqueued: None,
            folder,
            cells: cells.clone(),
            resource: Arc::from("sysfs of the interfaces"),
            work: None,
            asked: None,
            at: Mono::default(),
            directions: ["receive", "transmit"].map(Arc::from),
            kinds: ["crc", "frame", "fifo"].map(Arc::from),
            states: ["configured", "active"].map(Arc::from),
            source: Arc::from("links"),
            stale: Arc::new(Fault::new(FaultCode::Hung, stale)),
            links: Vec::new(),
            over: 0,
            beyond: (Arc::from("more"), None),
        }
    }

    /// `machine`: there are devices here, so that this is no container itself.
    fn known(folder: &Path, name: &[u8], told: Option<&Told>, machine: bool) -> Link {
        let name: Arc<str> = Arc::from(String::from_utf8_lossy(name));
        let folder = folder.join(&*name);
        let index = told.map(|told| told.index);
        let device = folder.join("device").exists();
        let bond = folder.join("bonding").exists();
        let make = told.map(|told| told.make);
        Link {
            name,
            index,
            real: make.map_or(device, |make| make == Make::Device),
            wired: make.map_or(device || bond, |make| make != Make::Other),
            paced: make.map_or(device || bond, |make| matches!(make, Make::Device | Make::Bond)),
            of_container: machine
                && make == Some(Make::Veth)
                && told.is_some_and(|t| t.reaches_out),
            shown: false,
            now: Default::default(),
            before: Default::default(),
            read_at: None,
            step: Step::between(None, Mono::default()),
            lost: 0,
            detail: Detail::default(),
            files: told.is_none().then(|| Files {
                missed: KernelFile::new(folder.join("statistics/rx_missed_errors")),
                carrier_changes: KernelFile::new(folder.join("carrier_changes")),
            }),
            watch: Arc::new(Watch::new(folder, index)),
            attributes: None,
            form: Form::default(),
        }
    }

    /// Shows the devices, then what else is judged, then the others, as far as they fit.
    fn choose(&mut self) {
        // The loopback is none.
        let kind = |link: &Link| match () {
            () if &*link.name == "lo" => 3,
            () if link.real => 0,
            () if link.judged() => 1,
            () => 2,
        };
        let count = |of| self.links.iter().filter(|link| kind(link) == of).count();
        let devices = count(0).min(DEVICES_LIMIT);
        let judged = count(1).min(LINKS_LIMIT.saturating_sub(devices));
        let mut left = [devices, judged, LINKS_LIMIT.saturating_sub(devices + judged), 0];
        let over = count(0) - devices;
        let text = format!("{over} interfaces more than {DEVICES_LIMIT} are not looked at");
        let fault = || Arc::new(Fault::new(FaultCode::Unsupported, text));
        self.beyond.1 = (over > 0).then(fault);
        self.over = 0;
        for link in &mut self.links {
            let kind = kind(link);
            let left = &mut left[kind];
            link.shown = *left > 0;
            *left -= usize::from(link.shown);
            self.over += usize::from(!link.shown && kind != 3);
        }
    }

    /// How often sysfs is asked.
    fn every(&self) -> Duration {
        match self.way {
            Way::Netlink(_) => SPEED_EVERY,
            Way::Files(_) | Way::Unknown => ATTRIBUTES_EVERY,
        }
    }

    /// Asks sysfs for what is shown now.
    fn ask_anew(&mut self, at: Mono) {
        let shown = self.links.iter().filter(|link| link.shown);
        let watches: Vec<_> = shown.map(|link| Arc::clone(&link.watch)).collect();
        let work: Rounds = Arc::new(move || watches.iter().for_each(|watch| watch.look()));
        let asked = self.cells.post(&self.resource, ATTRIBUTES_DEADLINE, &work);
        // Where it still asks for those of before, it is tried again with the next second.
        self.asked = (asked == Ok(true)).then_some(at);
        self.work = Some(work);
    }

    /// Puts an interface in its place; true where it came, or others before it went.
    fn place(
        links: &mut Vec<Link>,
        count: usize,
        folder: &Path,
        name: &[u8],
        told: Option<&Told>,
        machine: bool,
    ) -> bool {
        // The kernel keeps its order, so the interface is nearly always where it was.
        let index = told.map(|told| told.index);
        let same = |link: &Link| link.name.as_bytes() == name && link.index == index;
        match links.get(count..).unwrap_or_default().iter().position(same) {
            Some(0) => false,
            Some(further) => {
                links.drain(count..count + further);
                true
            }
            None => {
                links.insert(count, Self::known(folder, name, told, machine));
                true
            }
        }
    }

    /// Reads /proc/net/dev. None where it could not be read.
    fn count(&mut self, tick: &mut Tick) -> Option<()> {
        let text = self.file.read(&mut tick.buffer)?;
        let lines = lines(text).filter_map(parse).take(LINES_LIMIT);
        self.counted.clear();
        self.counted.extend(lines.filter_map(|(name, now)| Some((Name::of(name)?, now))));
        if self.counted.is_empty() {
            // Every network namespace has at least its loopback.
            self.file.garbled("names no interface");
            return None;
        }
        Some(())
    }

    /// Takes what was counted, with what sysfs tells. True where interfaces came or went.
    fn files(&mut self, tick: &mut Tick) -> bool {
        let mut changed = false;
        for (count, (name, now)) in self.counted.iter().enumerate() {
            changed |= Self::place(&mut self.links, count, &self.folder, name.bytes(), None, false);
            if let Some(link) = self.links.get_mut(count) {
                link.carry(tick.at, *now);
            }
        }
        changed |= self.links.len() > self.counted.len();
        self.links.truncate(self.counted.len());
        for link in self.links.iter_mut().filter(|link| link.shown) {
            let Some(files) = &mut link.files else { continue };
            let mut value = |file: &mut KernelFile| file.read(&mut tick.buffer).and_then(single);
            let sysfs = link.watch.answer().map(|(_, attributes)| attributes).unwrap_or_default();
            link.detail = Detail {
                missed: value(&mut files.missed),
                errors: None,
                carrier_changes: value(&mut files.carrier_changes),
                carrier: sysfs.carrier,
                up: sysfs.up,
                mtu: sysfs.mtu,
                bond: sysfs.bond,
                queue: None,
            };
        }
        changed
    }

    /// Takes what was counted, with what netlink told last. What it has not told of is left out: nobody
    /// knows what that is. None where netlink can't be asked at all.
    fn netlink(&mut self, at: Mono) -> Option<bool> {
        let Self { way: Way::Netlink(line), links, counted, .. } = self else { return None };
        let mut answer = line.answer();
        let strangers = strangers(counted, &answer.links);
        if strangers > 0 && strangers != self.strangers {
            drop(answer);
            line.ask_now();
            answer = line.answer();
        }
        let machine = answer.links.iter().any(|one| one.make == Make::Device);
        let (mut changed, mut count, mut rewired) = (false, 0, false);
        self.strangers = 0;
        for (place, (name, now)) in counted.iter().enumerate() {
            let Some(one) = told_of(&answer.links, place, name) else {
                self.strangers += 1;
                continue;
            };
            let name = name.bytes();
            changed |= Self::place(links, count, &self.folder, name, Some(one), machine);
            if let Some(link) = links.get_mut(count) {
                link.carry(at, *now);
                rewired |= link.learn(detail(one, &answer.links));
            }
            count += 1;
        }
        changed |= links.len() > count;
        links.truncate(count);
        if rewired {
            self.asked = None;
        }

        let unqueued = answer.queues_trouble;
        if self.unqueued.as_ref().map(|(before, _)| *before) != unqueued {
            let fault = |trouble: Trouble| (trouble, Arc::new(trouble.fault("the queues")));
            self.unqueued = unqueued.map(fault);
        }
        let (trouble, told_at) = (answer.trouble, answer.at);
        drop(answer);
        if let Some(trouble) = trouble
            && self.trouble.as_ref().is_none_or(|(before, _)| *before != trouble)
        {
            self.trouble = Some((trouble, Arc::new(trouble.fault("the interfaces"))));
        }
        let fault = self.trouble.as_ref().filter(|_| trouble.is_some()).map(|(_, fault)| fault);
        let old = at.since(told_at) > TOLD_AT_LAST;
        self.untold = fault.or(old.then_some(&self.late)).cloned();
        if let (Some(trouble), Some(fault)) = (trouble, &self.untold)
            && trouble.is_lasting()
        {
            self.way = Way::Files(Arc::clone(fault));
            self.untold = None;
            return None;
        }
        Some(changed)
    }
}

/// What was told of the interface of a name. The file and netlink have the kernel's own order, so it is
/// nearly always at the same place.
fn told_of<'a>(told: &'a [Told], place: usize, name: &Name) -> Option<&'a Told> {
    told.get(place)
        .filter(|one| one.name == *name)
        .or_else(|| told.iter().find(|one| one.name == *name))
}

/// How many of the interfaces were not told of.
fn strangers(counted: &[(Name, [Direction; 2])], told: &[Told]) -> usize {
    let known = |place: usize, name: &Name| told_of(told, place, name).is_some();
    counted.iter().enumerate().filter(|(place, (name, _))| !known(*place, name)).count()
}

/// What netlink told of an interface, and of those that it is the master of.
fn detail(one: &Told, all: &[Told]) -> Detail {
    let bond = (one.make == Make::Bond).then(|| {
        let slaves = all.iter().filter(|other| other.master == Some(one.index));
        slaves.fold((0, 0), |(configured, active), slave| {
            let up = slave.slave_up.or(slave.up).unwrap_or(false);
            (configured + 1, active + u32::from(up))
        })
    });
    Detail {
        missed: one.counters.map(|counters| counters.missed),
        errors: one.counters.map(|counters| [counters.crc, counters.frame, counters.fifo]),
        carrier_changes: one.carrier_changes,
        carrier: one.carrier.map(|carrier| f64::from(u8::from(carrier))),
        up: one.up,
        mtu: one.mtu.map(f64::from),
        bond,
        queue: one.queue,
    }
}

/// Whether packets of any interface wait in a queue that the kernel tells of. Where it can't be
/// told from here there may be some.
pub(super) fn has_queues(paths: &Paths) -> bool {
    match Namespace::of(paths) {
        Namespace::Recorded => false,
        Namespace::Other => true,
        Namespace::Own => {
            let mut found = Vec::new();
            match queues::list(&mut Netlink::new(Protocol::Route), &mut found) {
                Ok(()) => !found.is_empty(),
                Err(trouble) => !trouble.is_lasting(),
            }
        }
    }
}

impl super::Source for Source {
    fn begin(&mut self, at: Mono) {
        if self.asked.is_none_or(|asked| at.since(asked) >= self.every())
            && let Some(work) = &self.work
            && self.cells.queue(&self.resource, ATTRIBUTES_DEADLINE, work) == Ok(true)
        {
            self.asked = Some(at);
        }
        if let Way::Unknown = self.way {
            self.way = match Namespace::of_file(&self.path) {
                Namespace::Own => Way::Netlink(rtnl::Line::new(&self.cells)),
                namespace => Way::Files(Arc::new(namespace.fault(&self.path))),
            };
        }
        if let Way::Netlink(line) = &mut self.way {
            line.ask(at, self.links.len());
        }
    }

    fn read(&mut self, tick: &mut Tick) -> bool {
        self.at = tick.at;
        if self.count(tick).is_none() {
            for link in &mut self.links {
                link.read_at = None;
            }
            return false;
        }
        let mut changed = match self.netlink(tick.at) {
            Some(changed) => changed,
            None => self.files(tick),
        };
        if changed {
            self.choose();
            self.ask_anew(tick.at);
        }
        for link in &mut self.links {
            link.attributes = link.watch.answer();
            let sysfs = link.attributes.map(|(_, attributes)| attributes).unwrap_or_default();
            let form = Form {
                speed: link.paced && sysfs.speed.is_some(),
                duplex: link.paced && sysfs.half_duplex.is_some(),
                bond: link.detail.bond.is_some(),
                // What was there and can't be told now is absent, and not gone.
                queue: match &self.way {
                    Way::Files(_) => link.real,
                    _ => link.detail.queue.is_some() || self.unqueued.is_some() && link.form.queue,
                },
            };
            changed |= link.shown && form != link.form;
            link.form = form;
        }
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(self.over as f64));
        let (lacking, untold) = match &self.way {
            Way::Files(why) => (Some(why), None),
            _ => (self.untold.as_ref(), self.untold.as_ref()),
        };
        let file = self.file.fault();
        let stale_after = self.every() + STALE_AFTER;
        for link in self.links.iter().filter(|link| link.shown) {
            let name = &link.name;
            sink.passing = !link.real && !link.wired;
            sink.under(file);
            let [receive, transmit] = &link.now;
            let both = |of: fn(&Direction) -> u64| {
                Slot::of(Some(of(receive).saturating_add(of(transmit))))
            };
            let detail = &link.detail;
            if link.judged() {
                // What a tunnel could not send (no peer, no route) was not damaged by any wire.
                let sent = if link.wired { transmit.errors } else { 0 };
                let errors = receive.errors.saturating_add(sent);
                sink.put(&metric::LINK_ERRORS, &[name], Slot::of(Some(errors)));
                sink.put(&metric::LINK_DROPS, &[name], both(|d| d.drops));
                sink.put(&metric::LINK_LOST, &[name], Slot::of(Some(link.lost)));
                sink.under(file.or(untold));
                sink.put(&metric::LINK_MISSED, &[name], Slot::of(detail.missed));
                if link.wired {
                    let changes = Slot::of(detail.carrier_changes);
                    sink.put(&metric::LINK_CARRIER_CHANGES, &[name], changes);
                }
            }
            if link.judged() && link.form.queue {
                let unknown = self.unqueued.as_ref().map(|(_, fault)| fault);
                sink.under(file.or(lacking).or(unknown));
                let of =
                    |of: fn(&Queue) -> u32| Slot::of(detail.queue.as_ref().map(|q| of(q).into()));
                sink.put(&metric::QDISC_DROPS, &[name], of(|queue| queue.drops));
                sink.put(&metric::QDISC_OVERLIMITS, &[name], of(|queue| queue.overlimits));
                sink.put(&metric::QDISC_PACKETS, &[name], of(|queue| queue.packets));
                sink.put(&metric::QDISC_BACKLOG, &[name], of(|queue| queue.bytes));
            }
            sink.under(file);
            for (word, direction) in self.directions.iter().zip(&link.now) {
                let labels = [name, word];
                sink.put(&metric::NETWORK_BYTES, &labels, Slot::of(Some(direction.bytes)));
                sink.put(&metric::NETWORK_PACKETS, &labels, Slot::of(Some(direction.packets)));
                sink.put(&metric::NETWORK_ERRORS, &labels, Slot::of(Some(direction.errors)));
                sink.put(&metric::NETWORK_DROPS, &labels, Slot::of(Some(direction.drops)));
            }
            let gauge = |value: Option<f64>| value.map_or(Slot::Nothing, Slot::Number);
            let fresh = link.attributes.filter(|(at, _)| self.at.since(*at) <= stale_after);
            let stale = (link.attributes.is_some() && fresh.is_none()).then_some(&self.stale);
            sink.under(match self.way {
                Way::Files(_) => file.or(stale),
                _ => file.or(untold),
            });
            sink.put(&metric::NETWORK_CARRIER, &[name], gauge(detail.carrier));
            let up = detail.up.map(|up| f64::from(u8::from(up)));
            sink.put(&metric::NETWORK_UP, &[name], gauge(up));
            sink.put(&metric::NETWORK_MTU, &[name], gauge(detail.mtu));
            if let Some((configured, active)) = detail.bond {
                let missing = configured.saturating_sub(active);
                sink.put(&metric::BOND_MISSING, &[name], Slot::Number(f64::from(missing)));
                for (state, count) in self.states.iter().zip([configured, active]) {
                    sink.put(&metric::BOND_SLAVES, &[name, state], Slot::Number(f64::from(count)));
                }
            }
            sink.under(file.or(lacking));
            for (n, kind) in self.kinds.iter().enumerate() {
                let count = detail.errors.and_then(|errors| errors.get(n).copied());
                sink.put(&metric::NETWORK_ERROR_KINDS, &[name, kind], Slot::of(count));
            }
            sink.under(file.or(stale));
            let fresh = fresh.map(|(_, attributes)| attributes).unwrap_or_default();
            sink.put(&metric::NETWORK_SPEED, &[name], gauge(fresh.speed));
            if link.form.speed {
                let share = fresh.speed.map_or(Slot::Nothing, |speed| link.throughput(speed));
                sink.put(&metric::LINK_THROUGHPUT, &[name], share);
            }
            if link.form.duplex {
                let half = fresh.half_duplex.map(|half| f64::from(u8::from(half)));
                sink.put(&metric::LINK_HALF_DUPLEX, &[name], gauge(half));
            }
        }
        sink.passing = false;
        if let (name, Some(fault)) = &self.beyond {
            sink.under(Some(fault));
            for metric in [
                &metric::LINK_ERRORS,
                &metric::LINK_DROPS,
                &metric::LINK_LOST,
                &metric::LINK_MISSED,
                &metric::LINK_CARRIER_CHANGES,
            ] {
                sink.put(metric, &[name], Slot::MISSING);
            }
        }
    }
}

#[cfg(test)]
mod tests;
