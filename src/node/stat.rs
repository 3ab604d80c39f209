//! /proc/stat: what the processors did, and how many tasks want them.

use std::sync::Arc;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Step, Tick};
use crate::catalogue::node as metric;
use crate::time::Mono;

/// Rows of eight modes each; machines with more processors show the first of them.
pub(super) const CPUS_LIMIT: usize = 256;

/// The busiest processor is looked for over so many readings: in a single second some processor is
/// busy by chance, the more often the more there are.
const HOT_READINGS: usize = 10;

/// Where all together are as busy as this, one that is busier is no bottleneck of its own.
const HOT_MEAN_MOST: f64 = 0.7;

/// In the file's order. Guest time follows and is part of user and nice already.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const SOFTIRQ: usize = 6;
const STEAL: usize = 7;

type Modes = [u64; MODES.len()];

/// One reading of the file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    total: Modes,
    cores: Vec<(u64, Modes)>,
    online: usize,
    context_switches: Option<u64>,
    boot_time: Option<u64>,
    forks: Option<u64>,
    running: Option<u64>,
    blocked: Option<u64>,
}

fn modes<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Modes> {
    let mut modes = Modes::default();
    for mode in &mut modes {
        *mode = number(fields.next()?)?;
    }
    Some(modes)
}

fn parse(text: &[u8], into: &mut Reading) -> Result<(), &'static str> {
    let mut total = None;
    into.cores.clear();
    into.online = 0;
    [into.context_switches, into.boot_time, into.forks, into.running, into.blocked] = [None; 5];
    for line in lines(text) {
        let mut words = fields(line);
        match words.next() {
            Some(b"cpu") => total = modes(words),
            Some(b"ctxt") => into.context_switches = words.next().and_then(number),
            Some(b"btime") => into.boot_time = words.next().and_then(number),
            Some(b"processes") => into.forks = words.next().and_then(number),
            Some(b"procs_running") => into.running = words.next().and_then(number),
            Some(b"procs_blocked") => into.blocked = words.next().and_then(number),
            Some(word) => {
                let Some(id) = word.strip_prefix(b"cpu").and_then(number) else { continue };
                let Some(modes) = modes(words) else { continue };
                into.online += 1;
                if into.cores.len() < CPUS_LIMIT {
                    into.cores.push((id, modes));
                }
            }
            None => {}
        }
    }
    into.total = total.ok_or("has no line of all processors")?;
    if into.online == 0 { Err("names no processor") } else { Ok(()) }
}

/// Idle and iowait may step back a little when a processor wakes (Documentation/filesystems/
/// proc.rst: iowait "may decrease in certain conditions"); they are held where they were.
/// Further back than three seconds, as node_exporter has it, the counters were reset.
fn hold(before: &Modes, now: &mut Modes, hertz: u64) {
    for mode in [IDLE, IOWAIT] {
        if now[mode] < before[mode] && before[mode] - now[mode] <= hertz.saturating_mul(3) {
            now[mode] = before[mode];
        }
    }
}

/// Shares of the time between two readings: busy, iowait, steal.
fn shares(before: &Modes, now: &Modes) -> [Slot; 3] {
    let mut grown = [0.0; MODES.len()];
    for (grown, (now, before)) in grown.iter_mut().zip(now.iter().zip(before)) {
        let Some(growth) = now.checked_sub(*before) else { return [Slot::RESET; 3] };
        *grown = growth as f64;
    }
    let all: f64 = grown.iter().sum();
    if all == 0.0 {
        return [Slot::Nothing; 3];
    }
    let busy = 1.0 - (grown[IDLE] + grown[IOWAIT]) / all;
    [busy.clamp(0.0, 1.0), grown[IOWAIT] / all, grown[STEAL] / all].map(Slot::Number)
}

/// The busiest processor where there is room on the others, and the one most busy with software
/// interrupts, between two readings of the same processors.
fn hottest(before: &Past, now: &Reading) -> [Slot; 2] {
    let Slot::Number(mean) = shares(&before.total, &now.total)[0] else {
        return [Slot::Nothing; 2];
    };
    let (mut busiest, mut softirq) = (0.0f64, 0.0f64);
    for ((id, now), (before_id, before)) in now.cores.iter().zip(&before.cores) {
        let [busy, ..] = shares(before, now);
        let Slot::Number(busy) = busy else { continue };
        if id != before_id {
            return [Slot::Nothing; 2];
        }
        let all: u64 =
            now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).sum();
        let interrupted = now[SOFTIRQ].saturating_sub(before[SOFTIRQ]);
        busiest = busiest.max(busy);
        softirq = softirq.max(interrupted as f64 / all as f64);
    }
    let busiest = if mean < HOT_MEAN_MOST { busiest } else { 0.0 };
    [busiest, softirq].map(Slot::Number)
}

/// What is kept of a reading.
#[derive(Default)]
struct Past {
    total: Modes,
    cores: Vec<(u64, Modes)>,
}

/// The last readings, oldest first from `next` on.
#[derive(Default)]
struct History {
    readings: [Past; HOT_READINGS],
    next: usize,
    count: usize,
}

impl History {
    /// The oldest reading that is kept.
    fn oldest(&self) -> Option<&Past> {
        let index = if self.count < HOT_READINGS { 0 } else { self.next };
        self.readings.get(index).filter(|_| self.count > 0)
    }

    fn push(&mut self, reading: &Reading) {
        if let Some(place) = self.readings.get_mut(self.next) {
            place.total = reading.total;
            place.cores.clone_from(&reading.cores);
        }
        self.next = (self.next + 1) % HOT_READINGS;
        self.count = (self.count + 1).min(HOT_READINGS);
    }

    fn clear(&mut self) {
        (self.next, self.count) = (0, 0);
    }
}

pub(super) struct Source {
    file: KernelFile,
    hertz: u64,
    modes: [Arc<str>; MODES.len()],
    source: Arc<str>,
    /// The names of the processors shown.
    names: Vec<(u64, Arc<str>)>,
    now: Reading,
    before: Reading,
    before_at: Option<Mono>,
    shares: [Slot; 3],
    history: History,
    hottest: [Slot; 2],
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
        Self {
            file: KernelFile::at_once(paths.procfs.join("stat")),
            // 100 on every Linux that people run (USER_HZ).
            hertz: hertz.and_then(|hertz| u64::try_from(hertz).ok()).unwrap_or(100).max(1),
            modes: MODES.map(Arc::from),
            source: Arc::from("cpu"),
            names: Vec::new(),
            now: Reading::default(),
            before: Reading::default(),
            before_at: None,
            shares: [Slot::Nothing; 3],
            history: History::default(),
            hottest: [Slot::Nothing; 2],
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.shares = [Slot::Nothing; 3];
        self.hottest = [Slot::Nothing; 2];
        let Some(text) = self.file.read(&mut tick.buffer) else {
            self.before_at = None;
            return false;
        };
        std::mem::swap(&mut self.now, &mut self.before);
        if let Err(what) = parse(text, &mut self.now) {
            self.file.garbled(what);
            self.before_at = None;
            return false;
        }
        tick.cpus = self.now.online;
        let stepped = Step::between(self.before_at, tick.at).seconds.is_some();
        if stepped {
            hold(&self.before.total, &mut self.now.total, self.hertz);
            self.shares = shares(&self.before.total, &self.now.total);
            for ((id, now), (before_id, before)) in
                self.now.cores.iter_mut().zip(&self.before.cores)
            {
                if id == before_id {
                    hold(before, now, self.hertz);
                }
            }
        }
        if !stepped || matches!(self.shares[0], Slot::Absent(_)) {
            self.history.clear();
        } else if let Some(oldest) = self.history.oldest() {
            self.hottest = hottest(oldest, &self.now);
        }
        self.history.push(&self.now);
        self.before_at = Some(tick.at);

        let same = self.names.len() == self.now.cores.len()
            && self.names.iter().zip(&self.now.cores).all(|((id, _), (now, _))| id == now);
        if !same {
            self.names =
                self.now.cores.iter().map(|(id, _)| (*id, Arc::from(id.to_string()))).collect();
        }
        !same
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.file.fault());
        let [busy, iowait, steal] = self.shares;
        sink.put(&metric::CPU_BUSY, &[], busy);
        sink.put(&metric::CPU_IOWAIT, &[], iowait);
        sink.put(&metric::CPU_STEAL, &[], steal);
        let [hottest, softirq] = self.hottest;
        sink.put(&metric::CPU_HOTTEST, &[], hottest);
        sink.put(&metric::CPU_SOFTIRQ_HOTTEST, &[], softirq);
        let per_core = 1.0 / self.now.online.max(1) as f64;
        // The sampler itself runs while it reads.
        let others = self.now.running.map(|running| running.saturating_sub(1));
        sink.put(&metric::RUN_QUEUE, &[], Slot::scaled(others, per_core));
        sink.put(&metric::BLOCKED, &[], Slot::of(self.now.blocked));
        sink.put(&metric::CPUS, &[], Slot::Number(self.now.online as f64));
        sink.put(&metric::CONTEXT_SWITCHES, &[], Slot::of(self.now.context_switches));
        sink.put(&metric::FORKS, &[], Slot::of(self.now.forks));
        sink.put(&metric::BOOT_TIME, &[], Slot::of(self.now.boot_time));
        let over = self.now.online.saturating_sub(self.now.cores.len());
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(over as f64));
        let tick = 1.0 / self.hertz as f64;
        for (index, (_, name)) in self.names.iter().enumerate() {
            // After a failed reading the fields are gone and the names stay.
            let modes = self.now.cores.get(index).map(|(_, modes)| modes);
            for (mode, word) in self.modes.iter().enumerate() {
                let ticks = modes.and_then(|modes| modes.get(mode)).copied();
                sink.put(&metric::CPU_SECONDS, &[name, word], Slot::scaled(ticks, tick));
            }
        }
    }
}

#[cfg(test)]
mod tests;
