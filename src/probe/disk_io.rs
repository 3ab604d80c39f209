//! Disk I/O: latency, requests a second and bandwidth of a disk, past the page cache.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk_sync::{TIME_LEAST, directory, left, loads, needs, quantiles, reading, waiting};
use super::{Attempt, Effect, Probe};
use crate::catalogue::Metric;
use crate::catalogue::probe::{
    DISK_IO_BANDWIDTH, DISK_IO_ENGINE, DISK_IO_IOPS, DISK_IO_LATENCY, DISK_IO_SAMPLES,
    DISK_PROBE_PRESSURE, DISK_PROBE_REQUESTS,
};
use crate::client::disk::{self, Disk, Dose, Measured, Profile, Speed, scratch};
use crate::outcome::{Fault, FaultCode, Reading, Sample, Trouble};
use crate::spec::units::{Period, Size};
use crate::time::Mono;

const MEBIBYTE: usize = 1 << 20;

/// What is done, in this order: the file is first written through, as what was never written is
/// read without any disk. Small blocks one at a time tell the latency, sixteen at a time how many
/// the disk can take, large ones its bandwidth (node_exporter has no such figure; fio's usual
/// profiles).
const PROFILES: [Profile; 6] = [
    profile("sequential_write", true, false, MEBIBYTE, 4),
    profile("sequential_read", false, false, MEBIBYTE, 4),
    profile("random_read", false, true, 4096, 1),
    profile("random_write", true, true, 4096, 1),
    profile("random_read_deep", false, true, 4096, 16),
    profile("random_write_deep", true, true, 4096, 16),
];

const fn profile(
    name: &'static str,
    write: bool,
    random: bool,
    block: usize,
    depth: usize,
) -> Profile {
    Profile { name, write, random, sync: false, block, depth }
}

/// Random requests of a profile: enough for a p99 on a node that serves, and for a p99.9 alone.
const GENTLE_REQUESTS: u64 = 1_000;
const EXCLUSIVE_REQUESTS: u64 = 10_000;

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// One thread and a queue in the kernel.
    IoUring,
    /// A thread for each request under way.
    Psync,
}

/// Latency, requests a second and bandwidth of a disk past the page cache (O_DIRECT): 4 KiB random
/// reads and writes one at a time and sixteen at a time, 1 MiB sequential ones four at a time. The
/// target is a directory; the file in it has no name, so that nothing can be left behind. Gentle
/// unless `exclusive` is set: it works a fifth of the time and stops when others suffer. Run it
/// rarely (`every: 1h`).
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Nobody else needs the disk yet: measure at full speed and don't give way. For acceptance
    /// before the node goes live.
    #[serde(default)]
    pub exclusive: bool,
    /// The most time that an attempt works: 20 s unless set.
    #[serde(default = "usual_time")]
    pub time: Period,
    /// The size of the file, which is written through once: 64 MiB, the most, unless set. A
    /// hundredth of what is free is the most too.
    #[serde(default = "usual_bytes")]
    pub bytes: Size,
    /// `io_uring` or `psync`. Where it is not set, io_uring, and psync where that is forbidden.
    #[serde(default)]
    pub engine: Option<Engine>,
}

fn usual_time() -> Period {
    Period(Duration::from_secs(20))
}

fn usual_bytes() -> Size {
    Size(scratch::SIZE_MOST)
}

#[derive(Debug)]
pub struct DiskIo {
    spec: Spec,
}

impl DiskIo {
    fn requests(&self, profile: &Profile, size: u64) -> u64 {
        match (profile.random, self.spec.exclusive) {
            (false, _) => size / profile.block as u64,
            (true, false) => GENTLE_REQUESTS,
            (true, true) => EXCLUSIVE_REQUESTS,
        }
    }

    async fn measure(&self, on: &Attempt<'_>, samples: &mut Vec<Sample>) -> Result<(), Trouble> {
        let began = Mono::now();
        let gentle = !self.spec.exclusive;
        let path = Path::new(&**on.target);
        let within = waiting(on.timeout)?;
        let cells = on.clients.cells();
        let disk = Disk::open(cells, path, self.spec.bytes.0, true, gentle, within).await?;
        let scratch = disk.scratch();
        on.trace.note(format_args!("{} bytes, aligned to {}", scratch.size, scratch.align));
        on.trace.note(format_args!("before: {}", disk.guard().before.words()));
        let started = Mono::now();
        let time = left(on.timeout, began)?.min(self.spec.time.0);
        let mut speed = Speed { bandwidth: 0.0, iops: 0.0 };
        let mut area = scratch.size - scratch.size % MEBIBYTE as u64;
        for (index, profile) in PROFILES.into_iter().enumerate() {
            let wanted = self.spec.engine.map(|engine| match engine {
                Engine::IoUring => disk::Engine::Uring,
                Engine::Psync => disk::Engine::Psync,
            });
            let (engine, why) = disk::engine(&profile, wanted);
            if let Some(why) = why {
                on.trace.note(format_args!("{why}: psync stands in"));
                if wanted == Some(disk::Engine::Uring) {
                    return Err(Trouble::fault(FaultCode::Unsupported, why));
                }
            }
            let rest = time.saturating_sub(Mono::now().since(started));
            let phases = u32::try_from(PROFILES.len() - index).unwrap_or(1);
            let dose = Dose {
                requests: self.requests(&profile, area),
                time: rest / phases.max(1),
                rate: None,
                gentle,
                area,
            };
            let (measured, result) = disk.run(profile, dose, engine).await;
            on.trace.note(format_args!(
                "{} by {}: {}",
                profile.name,
                engine.word(),
                measured.latencies
            ));
            on.trace.note(format_args!("during: {}", measured.watched.during.words()));
            if index == 0 {
                for known in [disk::Engine::Uring, disk::Engine::Psync] {
                    let ran = f64::from(u8::from(known == engine));
                    samples.push(Sample::labelled(&DISK_IO_ENGINE, &[known.word()], ran));
                }
                loads(&disk.guard().before, &measured.watched.during, samples);
                // Only what was written is read from the disk.
                area = area.min(measured.bytes);
            }
            let rate = export(&profile, &measured, samples);
            result?;
            match profile.name {
                "sequential_write" => speed.bandwidth = rate * profile.block as f64,
                "random_write_deep" => speed.iops = rate,
                _ => {}
            }
            if area < MEBIBYTE as u64 {
                return Err(Fault::new(
                    FaultCode::Exhausted,
                    "not even a mebibyte could be written in this time: raise `time`, `timeout` and `every`",
                )
                .into());
            }
        }
        on.clients.speeds().learn(disk.device(), speed);
        Ok(())
    }
}

/// What was measured, as samples; returns the requests a second.
fn export(profile: &Profile, measured: &Measured, samples: &mut Vec<Sample>) -> f64 {
    let (name, latencies) = ([profile.name], &measured.latencies);
    quantiles(&DISK_IO_LATENCY, &name, latencies, samples);
    let count = latencies.count() as f64;
    samples.push(Sample::labelled(&DISK_IO_SAMPLES, &name, count));
    let total = latencies.total();
    if total <= 0.0 {
        return 0.0;
    }
    // While so many are under way, so many end in the mean time of one (Little 1961): rests
    // between bursts are in no latency, and so not in this.
    let rate = count / total * profile.depth as f64;
    samples.push(Sample::labelled(&DISK_IO_IOPS, &name, rate));
    let bandwidth = rate * profile.block as f64;
    samples.push(Sample::labelled(&DISK_IO_BANDWIDTH, &name, bandwidth));
    rate
}

impl Probe for DiskIo {
    const KIND: &'static str = "disk_io";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[
        &DISK_IO_LATENCY,
        &DISK_IO_SAMPLES,
        &DISK_IO_IOPS,
        &DISK_IO_BANDWIDTH,
        &DISK_IO_ENGINE,
        &DISK_PROBE_PRESSURE,
        &DISK_PROBE_REQUESTS,
    ];
    /// It works the disk: a few times an hour tell how fast it is.
    const EVERY: Duration = Duration::from_secs(15 * 60);
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn new(spec: Spec) -> Result<Self, String> {
        if !(MEBIBYTE as u64..=scratch::SIZE_MOST).contains(&spec.bytes.0) {
            return Err(format!("bytes is 1 MiB to 64 MiB, got {}", spec.bytes));
        }
        if spec.time.0 < TIME_LEAST {
            return Err(format!("time is at least 1s, got {}", spec.time));
        }
        Ok(Self { spec })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        directory(text)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        let bytes = |write: bool| -> u64 {
            let those = PROFILES.iter().filter(|profile| profile.write == write);
            those.map(|p| self.requests(p, self.spec.bytes.0) * p.block as u64).sum()
        };
        let pace = if self.spec.exclusive {
            "as fast as the disk takes them, without giving way to others"
        } else {
            "a fifth of the time, and stops when others suffer"
        };
        vec![Effect {
            what: format!(
                "writes up to {} and reads up to {} bytes of a file without a name in {target} past \
                 the page cache, without a sync (at most {}): {pace}",
                bytes(true),
                bytes(false),
                self.spec.time,
            ),
            needs: Some(needs(target)),
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let mut samples = Vec::new();
        let trouble = self.measure(&on, &mut samples).await.err();
        reading(trouble, samples)
    }
}
