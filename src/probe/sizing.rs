//! Sizing: whether a filesystem holds the agreed volume for the agreed time, and whether the disk
//! that was measured takes it as fast as it comes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk_sync::directory;
use super::{Attempt, Effect, Probe};
use crate::catalogue::Metric;
use crate::catalogue::probe::{
    SIZING_BANDWIDTH, SIZING_BANDWIDTH_HEADROOM, SIZING_BYTES, SIZING_IOPS, SIZING_IOPS_HEADROOM,
    SIZING_STORAGE_HEADROOM,
};
use crate::client::disk::scratch::{self, Device};
use crate::outcome::{Reading, Sample, Trouble};
use crate::spec::units::{Period, Size};

const DAY: f64 = 86_400.0;

/// What one write carries where nothing else is agreed: 128 KiB, the kernel's usual readahead and
/// about what log stores write at once.
const REQUEST: u64 = 128 << 10;

/// What the agreed volume needs of storage, requests a second and bandwidth, and how much is left
/// beyond that. The target is the directory that the data will lie in. Storage is judged against
/// the whole size of its filesystem, speed against what the newest `disk_io` check has measured on
/// the same device; where none has, only the need is told.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Events in a second on average, over the whole platform; with `event_bytes`.
    #[serde(default)]
    pub eps: Option<f64>,
    /// Mean size of an event, as it is stored before compression.
    #[serde(default)]
    pub event_bytes: Option<Size>,
    /// Bytes a day, instead of `eps` and `event_bytes`: 432GB.
    #[serde(default)]
    pub per_day: Option<Size>,
    /// How long events are kept: 30d.
    pub retention: Period,
    /// Copies of each event, the first among them: 1 unless set.
    #[serde(default = "one")]
    pub replicas: u32,
    /// How many times smaller events are stored than they are: 1 (not at all) unless set.
    #[serde(default = "same")]
    pub compression: f64,
    /// Nodes that share the volume evenly: 1 unless set.
    #[serde(default = "one")]
    pub nodes: u32,
    /// How many times the average the busiest minutes bring, for the speed: 1 unless set; twice to
    /// five times is usual.
    #[serde(default = "same")]
    pub peak: f64,
    /// What one write to the disk carries: 128 KiB unless set.
    #[serde(default = "request")]
    pub request_bytes: Size,
}

fn one() -> u32 {
    1
}

fn same() -> f64 {
    1.0
}

fn request() -> Size {
    Size(REQUEST)
}

#[derive(Debug)]
pub struct Sizing {
    spec: Spec,
    need: Need,
}

/// What one node needs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Need {
    bytes: f64,
    bandwidth: f64,
    iops: f64,
}

impl Need {
    fn of(spec: &Spec) -> Result<Self, String> {
        let per_day = match (spec.eps, spec.event_bytes, spec.per_day) {
            // GB/day = EPS x B x 8.64e-5: so many seconds has a day, so many bytes a gigabyte.
            (Some(eps), Some(bytes), None) => eps * bytes.0 as f64 * DAY,
            (None, None, Some(per_day)) => per_day.0 as f64,
            _ => return Err("give `eps` and `event_bytes`, or `per_day` alone".into()),
        };
        if !(per_day.is_finite() && per_day > 0.0) {
            return Err("the volume must be more than nothing".into());
        }
        if spec.replicas == 0 || spec.nodes == 0 || spec.request_bytes.0 == 0 {
            return Err("replicas, nodes and request_bytes are at least 1".into());
        }
        // Encrypted or compressed input grows a little; a hundredfold either way is a mistake.
        if !(0.1..=100.0).contains(&spec.compression) {
            return Err(format!("compression is 0.1 to 100, got {}", spec.compression));
        }
        if !(1.0..=1000.0).contains(&spec.peak) {
            return Err(format!("peak is 1 to 1000, got {}", spec.peak));
        }
        // What a node stores of a day: disk = rate x replicas x retention, as Kafka's
        // documentation has it for a topic, shared by the nodes and compressed.
        let stored = per_day * f64::from(spec.replicas) / spec.compression / f64::from(spec.nodes);
        let bandwidth = stored / DAY * spec.peak;
        Ok(Self {
            bytes: stored * spec.retention.0.as_secs_f64() / DAY,
            bandwidth,
            iops: bandwidth / spec.request_bytes.0 as f64,
        })
    }
}

/// The share of what is there that is left beyond the need; negative where it is not enough.
fn headroom(need: f64, there: f64) -> f64 {
    1.0 - need / there
}

impl Probe for Sizing {
    const KIND: &'static str = "sizing";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[
        &SIZING_BYTES,
        &SIZING_BANDWIDTH,
        &SIZING_IOPS,
        &SIZING_STORAGE_HEADROOM,
        &SIZING_BANDWIDTH_HEADROOM,
        &SIZING_IOPS_HEADROOM,
    ];
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn new(spec: Spec) -> Result<Self, String> {
        let need = Need::of(&spec)?;
        Ok(Self { spec, need })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        directory(text)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect { what: format!("asks the size of the filesystem of {target}"), needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let path = PathBuf::from(&**on.target);
        let name = format!("size of {}", on.target);
        let work = move || look(&path);
        let looked = match on.clients.cells().run(&name, on.timeout, work).await {
            Ok(looked) => looked,
            Err(fault) => return fault.into(),
        };
        let (size, device) = match looked {
            Ok(looked) => looked,
            Err(trouble) => return trouble.into(),
        };
        let need = self.need;
        on.trace.note(format_args!(
            "{need:?} for {} of retention; the filesystem has {size} bytes",
            self.spec.retention
        ));
        let mut samples = vec![
            Sample::new(&SIZING_BYTES, need.bytes),
            Sample::new(&SIZING_BANDWIDTH, need.bandwidth),
            Sample::new(&SIZING_IOPS, need.iops),
            Sample::new(&SIZING_STORAGE_HEADROOM, headroom(need.bytes, size)),
        ];
        match on.clients.speeds().of(device) {
            Some(speed) => {
                on.trace.note(format_args!("measured: {speed:?}"));
                let bandwidth = headroom(need.bandwidth, speed.bandwidth);
                samples.push(Sample::new(&SIZING_BANDWIDTH_HEADROOM, bandwidth));
                samples.push(Sample::new(&SIZING_IOPS_HEADROOM, headroom(need.iops, speed.iops)));
            }
            None => on.trace.note(format_args!(
                "no `disk_io` check has measured this device yet: nothing is known of its speed"
            )),
        }
        Reading::success(samples)
    }
}

/// The size of the filesystem in bytes, and its device.
fn look(directory: &Path) -> Result<(f64, Device), Trouble> {
    let device = Device::of(directory)?;
    let (size, _) = scratch::space(directory)?;
    Ok((size, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(text: &str) -> Result<Need, String> {
        Need::of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_volume_comes_from_events_or_from_days() {
        // 10 000 events a second of 500 bytes are 432 GB a day.
        let by_events =
            need(r#"{"eps": 10000, "event_bytes": "500B", "retention": "30d"}"#).unwrap();
        let by_days = need(r#"{"per_day": "432GB", "retention": "30d"}"#).unwrap();
        assert_eq!(by_events, by_days);
        assert_eq!(by_events.bytes, 432e9 * 30.0);
        assert_eq!(by_events.bandwidth, 5e6);
        assert_eq!(by_events.iops, 5e6 / 131_072.0);

        let shared = need(
            r#"{"per_day": "432GB", "retention": "7d", "replicas": 2, "compression": 4, "nodes": 3,
                "peak": 5, "request_bytes": "64KiB"}"#,
        )
        .unwrap();
        assert!((shared.bytes - 432e9 * 7.0 * 2.0 / 4.0 / 3.0).abs() < 1.0);
        assert!((shared.bandwidth - 5e6 * 5.0 * 2.0 / 4.0 / 3.0).abs() < 1e-3);
        assert!((shared.iops - shared.bandwidth / 65_536.0).abs() < 1e-9);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, what) in [
            (r#"{"retention": "1d"}"#, "give `eps`"),
            (r#"{"eps": 5, "retention": "1d"}"#, "give `eps`"),
            (r#"{"eps": 5, "event_bytes": "9B", "per_day": "1GB", "retention": "1d"}"#, "alone"),
            (r#"{"eps": -5, "event_bytes": "9B", "retention": "1d"}"#, "more than nothing"),
            (r#"{"per_day": "1GB", "retention": "1d", "replicas": 0}"#, "at least 1"),
            (r#"{"per_day": "1GB", "retention": "1d", "compression": 0}"#, "compression"),
            (r#"{"per_day": "1GB", "retention": "1d", "peak": 0.5}"#, "peak"),
        ] {
            let said = need(text).unwrap_err();
            assert!(said.contains(what), "{text}: {said}");
        }
    }

    #[test]
    fn headroom_is_what_is_left() {
        assert_eq!(headroom(80.0, 100.0), 1.0 - 0.8);
        assert!(headroom(150.0, 100.0) < 0.0);
    }
}
