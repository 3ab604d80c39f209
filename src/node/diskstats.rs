//! /proc/diskstats: what the block devices did, and how long requests took.

use std::path::PathBuf;
use std::sync::Arc;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Step, Tick};
use crate::catalogue::node as metric;
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// Devices shown: a storage node has ninety disks, and volumes on them. Each has about a hundred rows, and
/// of half an hour 100 KB.
const DEVICES_LIMIT: usize = 256;

/// Lines remembered, partitions included; what follows is counted as over the limit.
const LINES_LIMIT: usize = 2048;

/// The unit of sectors in this file, whatever the device's own (Documentation/block/stat.rst).
const SECTOR: f64 = 512.0;

const MILLISECOND: f64 = 1e-3;

/// More than this many requests under way, or seconds a request, is a counter that jumped.
const SANE: f64 = 1e6;

/// Devices of these names exist unused on every machine; they are shown while they carry a mount.
const IDLE_NAMES: [&[u8]; 6] = [b"loop", b"ram", b"zram", b"nbd", b"fd", b"sr"];

/// The columns after the name (Documentation/admin-guide/iostats.rst), those that are used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    reads: u64,
    sectors_read: u64,
    read_ms: u64,
    writes: u64,
    sectors_written: u64,
    write_ms: u64,
    in_flight: u64,
    busy_ms: u64,
    queue_ms: u64,
    /// Since Linux 5.5.
    flushes: Option<u64>,
    flush_ms: Option<u64>,
}

/// Which device a line is of: its numbers and its name.
fn device<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> Option<((u64, u64), &'a [u8])> {
    let numbers = (number(words.next()?)?, number(words.next()?)?);
    Some((numbers, words.next()?))
}

impl Counters {
    fn of<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut columns = [None; 17];
        for (column, word) in columns.iter_mut().zip(words) {
            *column = Some(number(word)?);
        }
        let [
            reads,
            _,
            sectors_read,
            read_ms,
            writes,
            _,
            sectors_written,
            write_ms,
            in_flight,
            busy_ms,
            queue_ms,
            _,
            _,
            _,
            _,
            flushes,
            flush_ms,
        ] = columns;
        Some(Self {
            reads: reads?,
            sectors_read: sectors_read?,
            read_ms: read_ms?,
            writes: writes?,
            sectors_written: sectors_written?,
            write_ms: write_ms?,
            in_flight: in_flight?,
            busy_ms: busy_ms?,
            queue_ms: queue_ms?,
            flushes,
            flush_ms,
        })
    }
}

/// Mean time of what completed between two readings, in seconds.
fn mean(before: [u64; 2], now: [u64; 2]) -> Slot {
    let [requests, milliseconds] = now;
    let [requests_before, milliseconds_before] = before;
    let requests = requests.checked_sub(requests_before);
    let milliseconds = milliseconds.checked_sub(milliseconds_before);
    match (requests, milliseconds) {
        (Some(0), Some(_)) => Slot::Nothing,
        (Some(requests), Some(time)) => sane(time as f64 * MILLISECOND / requests as f64),
        _ => Slot::RESET,
    }
}

fn sane(value: f64) -> Slot {
    if value > SANE { Slot::RESET } else { Slot::Number(value) }
}

/// What is judged of one device: busy, queue, await, await of reads, of writes. `stalled` is for
/// how long requests have been under way without one completing.
fn derive(step: Step, before: Option<&Counters>, now: &Counters, stalled: f64) -> [Slot; 5] {
    let (Some(_), Some(before)) = (step.seconds, before) else { return [Slot::Nothing; 5] };
    let busy = step.share(Some(before.busy_ms), Some(now.busy_ms), MILLISECOND);
    let queue = match step.rate(Some(before.queue_ms), Some(now.queue_ms)) {
        Slot::Number(rate) => sane(rate * MILLISECOND),
        slot => slot,
    };
    let sums =
        |c: &Counters| [c.reads.saturating_add(c.writes), c.read_ms.saturating_add(c.write_ms)];
    // A sum may grow though one of its parts went backwards.
    let reads = mean([before.reads, before.read_ms], [now.reads, now.read_ms]);
    let writes = mean([before.writes, before.write_ms], [now.writes, now.write_ms]);
    let both = match (reads, writes) {
        (Slot::RESET, _) | (_, Slot::RESET) => Slot::RESET,
        // A hung device completes nothing: that must not look like one that is idle.
        (Slot::Nothing, Slot::Nothing) => Slot::Number(stalled),
        _ => mean(sums(before), sums(now)),
    };
    [busy, queue, both, reads, writes]
}

/// Mean time of the flushes that completed between two readings. Where none did, nothing had to
/// wait, unless the device hangs.
fn flush_await(step: Step, before: Option<&Counters>, now: &Counters, stalled: f64) -> Slot {
    let (Some(_), Some(before)) = (step.seconds, before) else { return Slot::Nothing };
    let pair = |c: &Counters| Some([c.flushes?, c.flush_ms?]);
    let (Some(before), Some(now)) = (pair(before), pair(now)) else { return Slot::MISSING };
    match mean(before, now) {
        Slot::Nothing => Slot::Number(stalled),
        slot => slot,
    }
}

/// A line of the file, remembered from tick to tick.
struct Device {
    name: Arc<str>,
    device: (u64, u64),
    /// Not a partition.
    whole: bool,
    idle_name: bool,
    shown: bool,
    /// Of one that is shown; nobody wants to know what the others count.
    now: Option<Counters>,
    before: Option<Counters>,
    /// Seconds for which requests have been under way without one completing.
    stalled: f64,
}

impl Device {
    fn take(&mut self, counters: Option<Counters>, step: Step) {
        self.before = std::mem::replace(&mut self.now, counters);
        let idle = |now: &Counters, before: &Counters| {
            let waiting = (1.0..SANE).contains(&(now.in_flight as f64));
            waiting && (now.reads, now.writes) == (before.reads, before.writes)
        };
        let idle = self.now.as_ref().zip(self.before.as_ref()).is_some_and(|(n, b)| idle(n, b));
        self.stalled = match step.seconds {
            Some(seconds) if idle => self.stalled + seconds,
            _ => 0.0,
        };
    }
}

/// Whether this kernel tells how long flushes take (Linux 5.5); None where no line is there.
pub(super) fn tells_flushes(text: &[u8]) -> Option<bool> {
    lines(text).find_map(|line| {
        let mut words = fields(line);
        device(&mut words)?;
        Counters::of(words).map(|counters| counters.flushes.is_some())
    })
}

pub(super) struct Source {
    file: KernelFile,
    /// /sys/block: what is listed there is no partition.
    blocks: PathBuf,
    operations: [Arc<str>; 3],
    source: Arc<str>,
    devices: Vec<Device>,
    over: usize,
    /// Of those beyond the limit nobody knows whether one is slow: they are one more, of which nothing
    /// is known.
    beyond: (Arc<str>, Option<Arc<Fault>>),
    before_at: Option<Mono>,
    step: Step,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::short_lines(paths.procfs.join("diskstats")),
            blocks: paths.sysfs.join("block"),
            operations: ["read", "write", "flush"].map(Arc::from),
            source: Arc::from("disks"),
            devices: Vec::new(),
            over: 0,
            beyond: (Arc::from("more"), None),
            before_at: None,
            step: Step::between(None, Mono::default()),
        }
    }

    fn known(blocks: &std::path::Path, device: (u64, u64), bytes: &[u8]) -> Device {
        let name = String::from_utf8_lossy(bytes);
        // sysfs writes a slash in a device's name as an exclamation mark.
        let whole = !blocks.is_dir() || blocks.join(name.replace('/', "!")).exists();
        let after = |prefix: &&[u8]| bytes.strip_prefix(*prefix);
        let idle_name = IDLE_NAMES
            .iter()
            .filter_map(after)
            .any(|rest| rest.first().is_some_and(u8::is_ascii_digit));
        Device {
            name: Arc::from(name),
            device,
            whole,
            idle_name,
            shown: false,
            now: None,
            before: None,
            stalled: 0.0,
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        let Some(text) = self.file.read(&mut tick.buffer) else {
            self.before_at = None;
            return false;
        };
        self.step = Step::between(self.before_at, tick.at);
        let mut changed = false;
        let (mut count, mut shown, mut over) = (0, 0, 0);
        for line in lines(text) {
            let mut words = fields(line);
            let Some((numbers, name)) = device(&mut words) else { continue };
            if count == LINES_LIMIT {
                over += 1;
                continue;
            }
            // The file keeps its order, so the device is nearly always where it was.
            let same = |device: &Device| device.device == numbers && device.name.as_bytes() == name;
            let rest = self.devices.get(count..).unwrap_or_default();
            match rest.iter().position(same) {
                Some(further) => {
                    changed |= further > 0;
                    self.devices.drain(count..count + further);
                }
                None => {
                    self.devices.insert(count, Self::known(&self.blocks, numbers, name));
                    changed = true;
                }
            }
            let Some(device) = self.devices.get_mut(count) else { continue };
            let wanted = device.whole
                && (!device.idle_name || tick.mounted.carries(device.device, &device.name));
            let fits = wanted && shown < DEVICES_LIMIT;
            let counters = if fits { Counters::of(words) } else { None };
            if fits && counters.is_none() {
                // A line that makes no sense: the device is none.
                self.devices.remove(count);
                changed = true;
                continue;
            }
            over += usize::from(wanted && !fits);
            shown += usize::from(fits);
            changed |= device.shown != fits;
            device.shown = fits;
            device.take(counters, self.step);
            count += 1;
        }
        if count == 0 && self.devices.iter().any(|device| device.shown) {
            // Devices go one by one; an empty file is a truncated reading.
            self.file.garbled("is empty");
            self.before_at = None;
            return false;
        }
        changed |= self.devices.len() > count;
        self.devices.truncate(count);
        changed |= (self.over > 0) != (over > 0);
        if over != self.over {
            self.over = over;
            let text = format!("{over} disks more than {DEVICES_LIMIT} are not looked at");
            let fault = Arc::new(Fault::new(FaultCode::Unsupported, text));
            self.beyond.1 = Some(fault).filter(|_| over > 0);
        }
        self.before_at = Some(tick.at);
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(self.over as f64));
        let [read, write, flush] = &self.operations;
        for device in self.devices.iter().filter(|device| device.shown) {
            let (name, Some(now)) = (&device.name, &device.now) else { continue };
            let [busy, queue, both, reads, writes] =
                derive(self.step, device.before.as_ref(), now, device.stalled);
            sink.put(&metric::DISK_BUSY, &[name], busy);
            sink.put(&metric::DISK_QUEUE, &[name], queue);
            sink.put(&metric::DISK_AWAIT, &[name], both);
            sink.put(&metric::DISK_READ_AWAIT, &[name], reads);
            sink.put(&metric::DISK_WRITE_AWAIT, &[name], writes);
            // A kernel before 5.5 has no such figure, and no such slot.
            if now.flushes.is_some() {
                let flushes = flush_await(self.step, device.before.as_ref(), now, device.stalled);
                sink.put(&metric::DISK_FLUSH_AWAIT, &[name], flushes);
            }
            for (operation, requests, milliseconds) in [
                (read, Some(now.reads), Some(now.read_ms)),
                (write, Some(now.writes), Some(now.write_ms)),
                (flush, now.flushes, now.flush_ms),
            ] {
                let labels = [name, operation];
                sink.put(&metric::DISK_REQUESTS, &labels, Slot::of(requests));
                let seconds = Slot::scaled(milliseconds, MILLISECOND);
                sink.put(&metric::DISK_REQUEST_SECONDS, &labels, seconds);
            }
            for (operation, sectors) in [(read, now.sectors_read), (write, now.sectors_written)] {
                let bytes = Slot::Number(sectors as f64 * SECTOR);
                sink.put(&metric::DISK_BYTES, &[name, operation], bytes);
            }
            let seconds = |milliseconds: u64| Slot::Number(milliseconds as f64 * MILLISECOND);
            sink.put(&metric::DISK_BUSY_SECONDS, &[name], seconds(now.busy_ms));
            sink.put(&metric::DISK_QUEUE_SECONDS, &[name], seconds(now.queue_ms));
            sink.put(&metric::DISK_IN_FLIGHT, &[name], Slot::of(Some(now.in_flight)));
        }
        if let (name, Some(fault)) = &self.beyond {
            sink.under(Some(fault));
            for metric in [
                &metric::DISK_BUSY,
                &metric::DISK_QUEUE,
                &metric::DISK_AWAIT,
                &metric::DISK_READ_AWAIT,
                &metric::DISK_WRITE_AWAIT,
                &metric::DISK_FLUSH_AWAIT,
            ] {
                sink.put(metric, &[name], Slot::MISSING);
            }
        }
    }
}

#[cfg(test)]
mod tests;
