//! Watches over a measurement: whether a request takes too long, whether others suffer from it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::scratch::Device;
use crate::time::Mono;

/// How often the guard looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is compared with the time before: the last so much of the measurement.
const WINDOW: Duration = Duration::from_millis(300);

/// How long the time before is.
pub const BEFORE: Duration = Duration::from_secs(1);

/// A request that takes longer is the disk's failure, and reason enough to stop.
pub const TOO_LONG: Duration = Duration::from_secs(1);

/// Pressure (PSI io full) may rise by so much beyond what the measurement's own waiting makes.
const PRESSURE_RISE: f64 = 0.05;

/// The device's mean time may double, and a doubling below this is noise: no published figure.
const AWAIT_NOISE: f64 = 0.005;

/// Requests that can be under way at once.
pub const DEPTH_MOST: usize = 16;

const NEVER: i64 = i64::MIN;

/// What workers and guard share.
pub struct Shared {
    stop: AtomicBool,
    /// When each worker's oldest request under way was started, or NEVER.
    began: [AtomicI64; DEPTH_MOST],
    /// Since when each worker has been waiting, or NEVER.
    waiting: [AtomicI64; DEPTH_MOST],
    /// Nanoseconds that all workers have waited until now, the waits under way left out.
    waited: AtomicU64,
    workers: u64,
    latencies: Mutex<Vec<u64>>,
    pub bytes: AtomicU64,
}

impl Shared {
    pub fn new(workers: usize) -> Self {
        let never = || std::array::from_fn(|_| AtomicI64::new(NEVER));
        Self {
            stop: AtomicBool::new(false),
            began: never(),
            waiting: never(),
            waited: AtomicU64::new(0),
            workers: u64::try_from(workers).unwrap_or(1).max(1),
            latencies: Mutex::new(Vec::new()),
            bytes: AtomicU64::new(0),
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub fn began(&self, worker: usize, at: Option<Mono>) {
        if let Some(began) = self.began.get(worker) {
            began.store(at.map_or(NEVER, |at| at.0), Relaxed);
        }
    }

    /// A request that has ended.
    pub fn ended(&self, took: Duration, bytes: u64) {
        let took = nanoseconds(took);
        self.bytes.fetch_add(bytes, Relaxed);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
    }

    /// A worker begins to wait for the disk.
    pub fn waits(&self, worker: usize, since: Mono) {
        if let Some(waiting) = self.waiting.get(worker) {
            waiting.store(since.0, Relaxed);
        }
    }

    /// It has waited.
    pub fn waited(&self, worker: usize, time: Duration) {
        if let Some(waiting) = self.waiting.get(worker) {
            waiting.store(NEVER, Relaxed);
        }
        self.waited.fetch_add(nanoseconds(time), Relaxed);
    }

    /// Nanoseconds that a worker has waited on average, until now. Several wait at the same time.
    fn own_waiting(&self, now: Mono) -> u64 {
        let waiting = self.waiting.iter().map(|since| since.load(Relaxed));
        let under_way = waiting.filter(|since| *since != NEVER);
        let under_way: u64 = under_way.map(|since| nanoseconds(now.since(Mono(since)))).sum();
        self.waited.load(Relaxed).saturating_add(under_way) / self.workers
    }

    pub fn take_latencies(&self) -> Vec<u64> {
        std::mem::take(&mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long the oldest request has been under way.
    fn overdue(&self, now: Mono) -> Duration {
        let began = self.began.iter().map(|began| began.load(Relaxed)).filter(|at| *at != NEVER);
        began.min().map_or(Duration::ZERO, |at| now.since(Mono(at)))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What the kernel says at one instant.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Mono,
    /// Microseconds of PSI io full; None where the kernel has none.
    stalled: Option<u64>,
    /// Requests completed, their milliseconds, and those under way; None where the filesystem has
    /// no block device of its own.
    device: Option<[u64; 3]>,
    own_waiting: u64,
}

fn stalled() -> Option<u64> {
    let text = fs::read_to_string("/proc/pressure/io").ok()?;
    let line = text.lines().find(|line| line.starts_with("full"))?;
    line.split("total=").nth(1)?.trim().parse().ok()
}

fn of_device(device: Device) -> Option<[u64; 3]> {
    let text = fs::read_to_string("/proc/diskstats").ok()?;
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        // Columns of Documentation/admin-guide/iostats.rst, behind major, minor and name.
        (number(0)? == device.major && number(1)? == device.minor).then_some(())?;
        let sum = |a: usize, b: usize| Some(number(a)?.saturating_add(number(b)?));
        Some([sum(3, 7)?, sum(6, 10)?, number(11)?])
    })
}

impl Reading {
    fn take(device: Device, shared: Option<&Shared>) -> Self {
        let at = Mono::now();
        Self {
            at,
            stalled: stalled(),
            device: of_device(device),
            own_waiting: shared.map_or(0, |shared| shared.own_waiting(at)),
        }
    }
}

/// What went on between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Share of the time in which all tasks at once waited for a disk.
    pub pressure: Option<f64>,
    /// Requests in a second at the device, ours among them.
    pub requests: Option<f64>,
    /// Their mean time in seconds; None where none completed.
    pub wait: Option<f64>,
    /// Share of the time in which the measurement itself waited.
    own: f64,
}

impl Load {
    fn between(from: &Reading, to: &Reading) -> Self {
        let seconds = to.at.since(from.at).as_secs_f64().max(1e-3);
        let stalled = || Some(to.stalled?.checked_sub(from.stalled?)? as f64 * 1e-6);
        let device = || {
            let ([done, ms, _], [before, ms_before, _]) = (to.device?, from.device?);
            Some((done.checked_sub(before)? as f64, ms.checked_sub(ms_before)? as f64 * 1e-3))
        };
        let device = device();
        Self {
            pressure: stalled().map(|stalled| (stalled / seconds).min(1.0)),
            requests: device.map(|(requests, _)| requests / seconds),
            wait: device.filter(|(requests, _)| *requests > 0.0).map(|(n, time)| time / n),
            own: to.own_waiting.saturating_sub(from.own_waiting) as f64 * 1e-9 / seconds,
        }
    }

    /// In words, for the trace.
    pub fn words(&self) -> String {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
        format!(
            "pressure (io full) {}, requests a second {}, mean time {}",
            or_unknown(self.pressure.map(|share| format!("{:.1} %", share * 100.0))),
            or_unknown(self.requests.map(|rate| format!("{rate:.0}"))),
            or_unknown(self.wait.map(|wait| format!("{:.3} ms", wait * 1e3))),
        )
    }
}

/// Why a measurement was stopped before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// A request took too long.
    TooLong(Duration),
    /// Others suffer.
    Suffering(String),
}

/// What the guard saw.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub during: Load,
    pub stop: Option<Stop>,
}

pub struct Guard {
    pub device: Device,
    pub before: Load,
    /// At full speed everybody suffers, and was told so.
    gentle: bool,
}

impl Guard {
    /// Takes the time before. Blocks for that long.
    pub fn new(device: Device, gentle: bool) -> Self {
        let from = Reading::take(device, None);
        std::thread::sleep(BEFORE);
        let before = Load::between(&from, &Reading::take(device, None));
        Self { device, before, gentle }
    }

    /// Watches until the workers are stopped, by us or by others. Blocks for so long.
    pub fn watch(&self, shared: &Arc<Shared>) -> Watched {
        let first = Reading::take(self.device, Some(shared));
        let mut past = vec![first];
        // What the device takes for requests of this kind is known after a window; a device whose
        // few readers were quick before is not suffering when it writes slowly.
        let mut usual = None;
        let mut stop = None;
        while !shared.is_stopped() {
            std::thread::sleep(LOOK_EVERY);
            let now = Reading::take(self.device, Some(shared));
            let overdue = shared.overdue(now.at);
            if overdue > TOO_LONG {
                stop = Some(Stop::TooLong(overdue));
                break;
            }
            past.push(now);
            let old = past.iter().rposition(|then| now.at.since(then.at) >= WINDOW);
            let Some(old) = old.filter(|_| self.gentle) else { continue };
            past.drain(..old);
            let Some(from) = past.first() else { continue };
            let load = Load::between(from, &now);
            let Some(known) = usual else {
                usual = load.wait.map(|wait| wait.max(self.before.wait.unwrap_or(0.0)));
                continue;
            };
            // A device that completes nothing tells no mean time.
            let hangs = now.device.is_some_and(|[_, _, under_way]| under_way > 0);
            let wait = load.wait.or_else(|| hangs.then_some(overdue.as_secs_f64()));
            stop = self.suffering(&load, wait, known).map(Stop::Suffering);
            if stop.is_some() {
                break;
            }
        }
        shared.stop();
        // What is under way may still show that it is the disk itself that does not answer.
        while matches!(stop, Some(Stop::Suffering(_))) {
            let overdue = shared.overdue(Mono::now());
            if overdue.is_zero() {
                break;
            }
            if overdue > TOO_LONG {
                stop = Some(Stop::TooLong(overdue));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let during = Load::between(&first, &Reading::take(self.device, Some(shared)));
        Watched { during, stop }
    }

    fn suffering(&self, load: &Load, wait: Option<f64>, usual: f64) -> Option<String> {
        if let (Some(now), Some(before)) = (load.pressure, self.before.pressure)
            && now > before + load.own.min(1.0) + PRESSURE_RISE
        {
            return Some(format!(
                "pressure (io full) rose from {:.1} to {:.1} %, of which the measurement's own \
                 waiting explains {:.1}",
                before * 100.0,
                now * 100.0,
                load.own * 100.0
            ));
        }
        let wait = wait.filter(|wait| *wait > usual * 2.0 && *wait > usual + AWAIT_NOISE)?;
        Some(format!(
            "requests at the device take {:.1} ms on average, and took {:.1} ms",
            wait * 1e3,
            usual * 1e3
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(pressure: Option<f64>) -> Guard {
        let before = Load { pressure, ..Load::default() };
        Guard { device: Device { major: 0, minor: 0 }, before, gentle: true }
    }

    #[test]
    fn what_is_suffering_and_what_is_our_own_waiting() {
        let load = |pressure, own| Load { pressure: Some(pressure), own, ..Load::default() };
        let suffers =
            |guard: &Guard, load: Load, wait| guard.suffering(&load, wait, 0.004).is_some();
        let calm = guard(Some(0.02));
        assert!(!suffers(&calm, load(0.06, 0.0), None));
        assert!(suffers(&calm, load(0.08, 0.0), None));
        // Half of the time it waits itself, and on an idle machine nobody else works then.
        assert!(!suffers(&calm, load(0.56, 0.5), None));
        assert!(suffers(&calm, load(0.60, 0.5), None));
        assert!(
            !suffers(&guard(None), load(0.9, 0.0), None),
            "no pressure before, none to compare"
        );
        assert!(!suffers(&calm, load(0.0, 0.0), Some(0.0089)), "a doubling below the noise");
        assert!(suffers(&calm, load(0.0, 0.0), Some(0.0091)));
        assert!(guard(None).suffering(&Load::default(), Some(0.019), 0.010).is_none());
    }

    #[test]
    fn loads_come_from_what_grew() {
        let reading = |at: i64, stalled, device| Reading {
            at: Mono::from_secs(at),
            stalled: Some(stalled),
            device: Some(device),
            own_waiting: 0,
        };
        let load = Load::between(&reading(1, 0, [5, 10, 0]), &reading(3, 500_000, [25, 50, 1]));
        assert_eq!(
            (load.pressure, load.requests, load.wait),
            (Some(0.25), Some(10.0), Some(0.002))
        );
        let idle = Load::between(&reading(1, 0, [5, 10, 0]), &reading(3, 0, [5, 10, 0]));
        assert_eq!((idle.requests, idle.wait), (Some(0.0), None));
        let reset = Load::between(&reading(1, 9, [5, 10, 0]), &reading(3, 0, [1, 1, 0]));
        assert_eq!((reset.pressure, reset.requests), (None, None));
        assert!(load.words().contains("25.0 %") && Load::default().words().contains("unknown"));
    }

    #[test]
    fn a_request_under_way_is_overdue_by_its_age() {
        let shared = Shared::new(2);
        assert_eq!(shared.overdue(Mono::from_secs(9)), Duration::ZERO);
        shared.began(3, Some(Mono::from_secs(2)));
        shared.began(0, Some(Mono::from_secs(5)));
        assert_eq!(shared.overdue(Mono::from_secs(9)), Duration::from_secs(7));
        shared.began(3, None);
        assert_eq!(shared.overdue(Mono::from_secs(9)), Duration::from_secs(4));
        // One of two has waited a second, the other waits for the third.
        shared.waited(0, Duration::from_secs(1));
        shared.waits(1, Mono::from_secs(6));
        assert_eq!(shared.own_waiting(Mono::from_secs(9)), 2_000_000_000);
        shared.waited(1, Duration::from_secs(3));
        assert_eq!(shared.own_waiting(Mono::from_secs(90)), 2_000_000_000);
    }
}
