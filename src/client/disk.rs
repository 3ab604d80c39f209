//! Measures a disk through a file on it, gently: how long writes, reads and syncs take.
//!
//! Everything that touches the disk runs in cells, as it may hang with it. A guard watches beside
//! the workers and stops them when a request takes too long or others suffer.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use nix::errno::Errno;
use tokio::time::Instant;

pub mod buffer;
pub mod guard;
pub mod latency;
pub mod scratch;

use super::kernel;
use super::uring::{Request, Ring};
use crate::lanes::Cells;
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::time::Mono;
use buffer::{Buffer, Random};
use guard::{DEPTH_MOST, Guard, Shared, Stop, Watched};
use latency::Latencies;
use scratch::{Device, Lease, Scratch};

/// Gentle work: so long of each period, and rest for what is left of it.
const WORK: Duration = Duration::from_millis(20);
const PERIOD: Duration = Duration::from_millis(100);

/// How long workers are waited for after they were stopped.
const GRACE: Duration = Duration::from_millis(500);

/// How often the lock of a device is tried while another prober has it.
const LEASE_EVERY: Duration = Duration::from_millis(100);

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Uring,
    /// pread and pwrite, one thread for each request under way.
    Psync,
}

impl Engine {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Psync => "psync",
        }
    }
}

/// What is done in one phase.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub name: &'static str,
    pub write: bool,
    pub random: bool,
    /// fdatasync after each write; the sync is what is timed.
    pub sync: bool,
    pub block: usize,
    pub depth: usize,
}

/// How much of it, and how gently.
#[derive(Clone, Copy, Debug)]
pub struct Dose {
    pub requests: u64,
    pub time: Duration,
    /// Requests in a second; None for bursts of work with rests between them.
    pub rate: Option<u32>,
    pub gentle: bool,
    /// Bytes of the file that are used, from its start.
    pub area: u64,
}

/// What one phase measured.
#[derive(Debug)]
pub struct Measured {
    pub latencies: Latencies,
    pub bytes: u64,
    /// From the first request to the last.
    pub took: Duration,
    pub watched: Watched,
}

/// What a device was measured to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Bytes in a second, written one behind the other.
    pub bandwidth: f64,
    /// Small random writes in a second.
    pub iops: f64,
}

/// The newest speed of each device, for who sizes by it.
#[derive(Default)]
pub struct Speeds {
    known: Mutex<BTreeMap<Device, Speed>>,
}

/// No node measures more devices.
const SPEEDS_LIMIT: usize = 64;

impl Speeds {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Device, Speed>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, device: Device) -> Option<Speed> {
        self.known().get(&device).copied()
    }

    pub fn learn(&self, device: Device, speed: Speed) {
        let mut known = self.known();
        if known.len() < SPEEDS_LIMIT || known.contains_key(&device) {
            known.insert(device, speed);
        }
    }
}

/// A device that is ours alone, with a file on it.
pub struct Disk {
    cells: Cells,
    directory: PathBuf,
    scratch: Arc<Scratch>,
    /// Held by every worker, so that one that hangs keeps it.
    lease: Arc<Lease>,
    guard: Arc<Guard>,
}

impl Disk {
    /// Waits for the device to be free, looks at what goes on there, and makes the file.
    pub async fn open(
        cells: &Cells,
        directory: &Path,
        most: u64,
        direct: bool,
        gentle: bool,
        within: Duration,
    ) -> Result<Self, Trouble> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let place = directory.display().to_string();
        let path = directory.to_owned();
        let device =
            cells.run(&format!("stat of {place}"), left(), move || Device::of(&path)).await??;
        let lease = loop {
            match Lease::take(device)? {
                Some(lease) => break Arc::new(lease),
                None if left() > LEASE_EVERY => tokio::time::sleep(LEASE_EVERY).await,
                None => {
                    return Err(Trouble::fault(
                        FaultCode::Exhausted,
                        format!(
                            "another prober measured the device of {place} all this time; one at a time"
                        ),
                    ));
                }
            }
        };
        let path = directory.to_owned();
        let (scratch, guard) = cells
            .run(&format!("file in {place}"), left(), move || {
                Scratch::new(&path, most, direct)
                    .map(|scratch| (scratch, Guard::new(device, gentle)))
            })
            .await??;
        Ok(Self {
            cells: cells.clone(),
            directory: directory.to_owned(),
            scratch: Arc::new(scratch),
            lease,
            guard: Arc::new(guard),
        })
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    pub fn device(&self) -> Device {
        self.guard.device
    }

    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Runs one phase. What was measured until an error or a stop is among what is returned.
    pub async fn run(
        &self,
        profile: Profile,
        dose: Dose,
        engine: Engine,
    ) -> (Measured, Result<(), Trouble>) {
        let threads = match engine {
            Engine::Uring => 1,
            Engine::Psync => profile.depth.min(DEPTH_MOST),
        };
        let shared = Arc::new(Shared::new(threads));
        let work = Arc::new(Work {
            profile,
            dose,
            engine,
            started: Mono::now(),
            claimed: AtomicU64::new(0),
            scratch: Arc::clone(&self.scratch),
            shared: Arc::clone(&shared),
            _lease: Arc::clone(&self.lease),
        });
        let place = self.directory.display();
        let most = dose.time + guard::TOO_LONG + GRACE;
        let workers = join_all((0..threads).map(|index| {
            let work = Arc::clone(&work);
            let name = format!("disk probe of {place}, worker {index}");
            let cells = self.cells.clone();
            async move { cells.run(&name, most, move || work.run(index)).await }
        }));
        let watching = {
            let (guard, shared) = (Arc::clone(&self.guard), Arc::clone(&shared));
            let name = format!("disk probe of {place}, guard");
            let cells = self.cells.clone();
            async move { cells.run(&name, most + GRACE, move || guard.watch(&shared)).await }
        };
        tokio::pin!(workers, watching);
        // Whoever ends first ends the other; a worker that hangs is left to itself.
        let (results, watched) = tokio::select! {
            results = &mut workers => {
                shared.stop();
                (Some(results), watching.await)
            }
            watched = &mut watching => {
                shared.stop();
                (tokio::time::timeout(GRACE, workers).await.ok(), watched)
            }
        };
        let took = Mono::now().since(work.started);
        let (watched, blind) = match watched {
            Ok(watched) => (watched, None),
            Err(fault) => (Watched::default(), Some(fault)),
        };
        let latencies = Latencies::of(shared.take_latencies());
        let slowest = latencies.max().unwrap_or_default();
        let measured = Measured { latencies, bytes: shared.bytes.load(Relaxed), took, watched };
        let doing = format!("{} in {place}", profile.name);
        let mut result = match (results, &measured.watched.stop) {
            (_, Some(Stop::TooLong(age))) => Err(too_long(&doing, age.as_secs_f64())),
            _ if slowest > guard::TOO_LONG.as_secs_f64() => Err(too_long(&doing, slowest)),
            (_, Some(Stop::Suffering(what))) => Err(Trouble::fault(
                FaultCode::GaveWay,
                format!("{doing} was stopped: {what}; measured until then: {}", measured.latencies),
            )),
            (None, None) => Err(Trouble::fault(FaultCode::Hung, format!("{doing} does not end"))),
            (Some(results), None) => results.into_iter().try_for_each(|result| match result {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(scratch::trouble(&error, &doing)),
                Err(fault) => Err(fault.into()),
            }),
        };
        if let (Ok(()), Some(fault)) = (&result, blind) {
            result = Err(fault.into());
        }
        (measured, result)
    }
}

fn too_long(doing: &str, seconds: f64) -> Trouble {
    Trouble::reason(
        ReasonCode::SlowIo,
        format!(
            "{doing}: a request took {seconds:.2} s, and no disk may take longer than a second"
        ),
    )
}

/// The engine for requests of this depth: io_uring, or what stands in for it and why.
pub fn engine(profile: &Profile, wanted: Option<Engine>) -> (Engine, Option<String>) {
    if wanted == Some(Engine::Psync) || profile.sync {
        return (Engine::Psync, None);
    }
    match Ring::new(profile.depth, 512, 512) {
        Ok(_) => (Engine::Uring, None),
        Err(error) => {
            let why = match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EPERM) => {
                    "io_uring is forbidden (kernel.io_uring_disabled, or seccomp)"
                }
                Some(Errno::ENOSYS) => "this kernel has no io_uring",
                _ => "io_uring could not be set up",
            };
            (Engine::Psync, Some(format!("{why}: {error}")))
        }
    }
}

/// One phase, as its workers see it.
struct Work {
    profile: Profile,
    dose: Dose,
    engine: Engine,
    started: Mono,
    /// Requests that some worker has taken on.
    claimed: AtomicU64,
    scratch: Arc<Scratch>,
    shared: Arc<Shared>,
    _lease: Arc<Lease>,
}

impl Work {
    fn run(&self, index: usize) -> io::Result<()> {
        kernel::yield_to_others(self.dose.gentle);
        let result = match self.engine {
            Engine::Uring => self.queue(),
            Engine::Psync => self.one_by_one(index),
        };
        // The thread goes back to other work.
        kernel::yield_to_others(false);
        self.shared.began(index, None);
        if result.is_err() {
            self.shared.stop();
        }
        result
    }

    /// The number of the next request; None at the end.
    fn claim(&self) -> Option<u64> {
        let over = Mono::now().since(self.started) >= self.dose.time;
        if over || self.shared.is_stopped() {
            return None;
        }
        let number = self.claimed.fetch_add(1, Relaxed);
        (number < self.dose.requests).then_some(number)
    }

    fn blocks(&self) -> u64 {
        (self.dose.area.min(self.scratch.size) / self.profile.block as u64).max(1)
    }

    fn offset(&self, number: u64, random: &mut Random) -> u64 {
        let blocks = self.blocks();
        let block = if self.profile.random { random.below(blocks) } else { number % blocks };
        block * self.profile.block as u64
    }

    /// How long to rest before the next request.
    fn rest(&self, number: u64) -> Duration {
        let since = Mono::now().since(self.started);
        match self.dose.rate {
            Some(rate) => {
                let due = Duration::from_secs_f64(number as f64 / f64::from(rate.max(1)));
                due.saturating_sub(since)
            }
            None if self.dose.gentle => {
                let into = Duration::from_nanos(
                    u64::try_from(since.as_nanos() % PERIOD.as_nanos()).unwrap_or(0),
                );
                if into < WORK { Duration::ZERO } else { PERIOD - into }
            }
            None => Duration::ZERO,
        }
    }

    fn one_by_one(&self, index: usize) -> io::Result<()> {
        let Profile { write, sync, block, .. } = self.profile;
        let mut buffer = Buffer::new(block, self.scratch.align);
        let mut random = Random::new(self.seed(index));
        while let Some(number) = self.claim() {
            std::thread::sleep(self.rest(number));
            if self.shared.is_stopped() {
                break;
            }
            let offset = self.offset(number, &mut random);
            let file = &self.scratch.file;
            let began = Mono::now();
            self.shared.began(index, Some(began));
            self.shared.waits(index, began);
            if write {
                file.write_all_at(buffer.bytes(), offset)?;
            } else {
                file.read_exact_at(buffer.bytes_mut(), offset)?;
            }
            let written = Mono::now();
            if sync {
                file.sync_data()?;
            }
            let ended = Mono::now();
            self.shared.began(index, None);
            let timed = if sync { written } else { began };
            self.shared.ended(ended.since(timed), block as u64);
            self.shared.waited(index, ended.since(began));
        }
        Ok(())
    }

    fn queue(&self) -> io::Result<()> {
        let Profile { write, block, depth, .. } = self.profile;
        let mut ring = Ring::new(depth, block, self.scratch.align)?;
        let mut random = Random::new(self.seed(0));
        let mut next = self.claim();
        while next.is_some() || ring.under_way() > 0 {
            while let Some(number) = next {
                let rest = self.rest(number);
                if !rest.is_zero() {
                    // What is under way is waited for first, so that no rest is in its time.
                    if ring.under_way() > 0 {
                        break;
                    }
                    std::thread::sleep(rest);
                }
                let offset = self.offset(number, &mut random);
                if !ring.start(&self.scratch.file, Request { write, offset })? {
                    break;
                }
                next = self.claim();
            }
            let from = Mono::now();
            self.shared.began(0, ring.oldest());
            self.shared.waits(0, from);
            let mut failed = None;
            ring.finish(|(began, result)| match result {
                Ok(moved) if moved == block => {
                    self.shared.ended(Mono::now().since(began), block as u64);
                }
                Ok(_) => failed = Some(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => failed = Some(error),
            })?;
            self.shared.began(0, ring.oldest());
            self.shared.waited(0, Mono::now().since(from));
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    fn seed(&self, index: usize) -> u64 {
        self.started.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index as u64)
    }
}
