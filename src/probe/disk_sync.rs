//! Disk sync: how long fdatasync takes after small writes one behind the other, as the log of
//! etcd, of a broker or of a database does it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::Metric;
use crate::catalogue::probe::{
    DISK_PROBE_PRESSURE, DISK_PROBE_REQUESTS, DISK_SYNC, DISK_SYNC_QUANTILE, DISK_SYNC_RATE,
    DISK_SYNC_SAMPLES,
};
use crate::client::disk::guard::Load;
use crate::client::disk::latency::Latencies;
use crate::client::disk::{Disk, Dose, Engine, Measured, Profile};
use crate::outcome::{Fault, FaultCode, Reading, Sample, Trouble};
use crate::spec::units::{Period, Size};
use crate::time::Mono;

/// etcd's own recommendation for fio: `--rw=write --fdatasync=1 --size=22m --bs=2300` (etcd,
/// "Disks" in the FAQ): the size of a usual entry of its log.
const BLOCK: usize = 2300;
const SIZE: u64 = 22 << 20;

/// On a node that serves, no more than this: a sync flushes the whole device's cache.
const GENTLE_RATE: u32 = 50;
const GENTLE_SYNCS: u64 = 1_000;

/// What making the file, looking at the time before and ending take of an attempt's time.
pub(super) const OVERHEAD: Duration = Duration::from_secs(2);

/// Time in which nothing could be measured.
pub(super) const TIME_LEAST: Duration = Duration::from_secs(1);

/// How long fdatasync takes after each of many small writes: the figure that etcd, brokers and
/// databases depend on. The target is a directory; the file in it has no name, so that nothing can
/// be left behind. Gentle unless `exclusive` is set: at most 50 syncs a second and 1,000 in an
/// attempt, and it stops when others suffer. Run it rarely (`every: 10m`).
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Nobody else needs the disk yet: measure at full speed and don't give way. For acceptance
    /// before the node goes live.
    #[serde(default)]
    pub exclusive: bool,
    /// The most time that an attempt writes: 20 s unless set.
    #[serde(default = "usual_time")]
    pub time: Period,
    /// The most bytes that an attempt writes: 22 MiB, as etcd recommends it, unless set.
    #[serde(default = "usual_bytes")]
    pub bytes: Size,
}

fn usual_time() -> Period {
    Period(Duration::from_secs(20))
}

fn usual_bytes() -> Size {
    Size(SIZE)
}

#[derive(Debug)]
pub struct DiskSync {
    spec: Spec,
}

impl DiskSync {
    fn syncs(&self) -> u64 {
        let most = self.spec.bytes.0 / BLOCK as u64;
        if self.spec.exclusive { most } else { most.min(GENTLE_SYNCS) }
    }

    async fn measure(
        &self,
        on: &Attempt<'_>,
    ) -> Result<(Disk, Measured, Option<Trouble>), Trouble> {
        let began = Mono::now();
        let gentle = !self.spec.exclusive;
        let disk = Disk::open(
            on.clients.cells(),
            Path::new(&**on.target),
            self.spec.bytes.0.min(SIZE),
            false,
            gentle,
            waiting(on.timeout)?,
        )
        .await?;
        let time = left(on.timeout, began)?.min(self.spec.time.0);
        let profile = Profile {
            name: "writes with fdatasync",
            write: true,
            random: false,
            sync: true,
            block: BLOCK,
            depth: 1,
        };
        let dose = Dose {
            requests: self.syncs(),
            time,
            rate: gentle.then_some(GENTLE_RATE),
            gentle,
            area: disk.scratch().size,
        };
        let (measured, result) = disk.run(profile, dose, Engine::Psync).await;
        Ok((disk, measured, result.err()))
    }
}

/// How long the device may be waited for, so that time to measure is left.
pub(super) fn waiting(timeout: Duration) -> Result<Duration, Fault> {
    let rest = timeout.checked_sub(OVERHEAD + TIME_LEAST).ok_or_else(|| too_short(timeout))?;
    Ok(rest.max(OVERHEAD))
}

/// The time that is left to measure.
pub(super) fn left(timeout: Duration, began: Mono) -> Result<Duration, Fault> {
    let spent = Mono::now().since(began) + OVERHEAD;
    timeout.checked_sub(spent).filter(|left| *left >= TIME_LEAST).ok_or_else(|| too_short(timeout))
}

fn too_short(timeout: Duration) -> Fault {
    Fault::new(
        FaultCode::Exhausted,
        format!(
            "the timeout of {} leaves no time to measure: raise the check's `timeout` and `every`",
            Period(timeout)
        ),
    )
}

/// The load besides, as it is exported: before the measurement, and during it.
pub(super) fn loads(before: &Load, during: &Load, samples: &mut Vec<Sample>) {
    for (phase, load) in [("before", before), ("during", during)] {
        for (metric, value) in
            [(&DISK_PROBE_PRESSURE, load.pressure), (&DISK_PROBE_REQUESTS, load.requests)]
        {
            samples.extend(value.map(|value| Sample::labelled(metric, &[phase], value)));
        }
    }
}

/// Each percentile with the bounds of its interval. `labels` come first.
pub(super) fn quantiles(
    metric: &'static Metric,
    labels: &[&str],
    latencies: &Latencies,
    samples: &mut Vec<Sample>,
) {
    let mut put = |name: &str, bound: &str, value: Option<f64>| {
        let all: Vec<&str> = labels.iter().copied().chain([name, bound]).collect();
        samples.extend(value.map(|value| Sample::labelled(metric, &all, value)));
    };
    for quantile in latencies.quantiles() {
        put(quantile.name, "estimate", Some(quantile.estimate));
        put(quantile.name, "lower", quantile.lower);
        put(quantile.name, "upper", quantile.upper);
    }
    put("1", "estimate", latencies.max());
}

/// The reading of an attempt: what was measured stays, whatever ended it.
pub(super) fn reading(trouble: Option<Trouble>, samples: Vec<Sample>) -> Reading {
    match trouble {
        None => Reading::success(samples),
        Some(Trouble::Reason(reason)) => Reading::failure(reason, samples),
        // What was measured while others suffered is no measurement of the disk.
        Some(Trouble::Fault(fault)) => Reading::inconclusive(fault),
    }
}

pub(super) fn needs(target: &str) -> String {
    format!("the right to write in {target}; without it this check is inconclusive")
}

/// Whether this can be the directory of a disk probe.
pub(super) fn directory(text: &str) -> Result<(), String> {
    if text.starts_with('/') {
        Ok(())
    } else {
        Err(format!("expected a directory by its whole path, got {text:?}"))
    }
}

impl Probe for DiskSync {
    const KIND: &'static str = "disk_sync";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[
        &DISK_SYNC,
        &DISK_SYNC_QUANTILE,
        &DISK_SYNC_SAMPLES,
        &DISK_SYNC_RATE,
        &DISK_PROBE_PRESSURE,
        &DISK_PROBE_REQUESTS,
    ];
    /// It works the disk: a few times an hour tell how fast it is.
    const EVERY: Duration = Duration::from_secs(15 * 60);
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.bytes.0 < 100 * BLOCK as u64 {
            return Err(format!("bytes is at least 230 kB, a hundred writes, got {}", spec.bytes));
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
        let syncs = self.syncs();
        let pace = if self.spec.exclusive {
            "as fast as the disk takes them, without giving way to others".to_owned()
        } else {
            format!("at most {GENTLE_RATE} a second, and stops when others suffer")
        };
        vec![Effect {
            what: format!(
                "writes up to {} bytes to a file without a name in {target} (at most {}), with up \
                 to {syncs} syncs, each of which flushes the device's cache: {pace}",
                syncs * BLOCK as u64,
                self.spec.time,
            ),
            needs: Some(needs(target)),
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let (disk, measured, trouble) = match self.measure(&on).await {
            Ok(done) => done,
            Err(trouble) => return trouble.into(),
        };
        let Measured { latencies, bytes, took, watched } = &measured;
        on.trace.note(format_args!("fdatasync by psync: {latencies}"));
        on.trace.note(format_args!("wrote {bytes} bytes in {took:?}"));
        on.trace.note(format_args!("before: {}", disk.guard().before.words()));
        on.trace.note(format_args!("during: {}", watched.during.words()));
        let mut samples: Vec<Sample> =
            latencies.seconds().map(|seconds| Sample::new(&DISK_SYNC, seconds)).collect();
        quantiles(&DISK_SYNC_QUANTILE, &[], latencies, &mut samples);
        samples.push(Sample::new(&DISK_SYNC_SAMPLES, latencies.count() as f64));
        if self.spec.exclusive && !took.is_zero() {
            let rate = latencies.count() as f64 / took.as_secs_f64();
            samples.push(Sample::new(&DISK_SYNC_RATE, rate));
        }
        loads(&disk.guard().before, &watched.during, &mut samples);
        reading(trouble, samples)
    }
}
