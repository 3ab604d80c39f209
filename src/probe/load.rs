//! The record that a load left: whether the platform held it, with how much headroom, and that it
//! is not of another time.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::Metric;
use crate::catalogue::probe::{LOAD_AGE, LOAD_HEADROOM, LOAD_LOSS, LOAD_RATE};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample};
use crate::spec::units::Period;
use crate::time::Wall;

/// A record holds counts, not events; one of a hundred steps has 200 kB.
const RECORD_LIMIT: u64 = 4 * 1024 * 1024;
/// A platform changes; what it held longer ago is no proof.
const NO_OLDER: Period = Period(Duration::from_secs(30 * 86_400));
/// So far ahead of us may the clock of the node be that wrote it.
const AHEAD: f64 = 300.0;
/// So many findings are told.
const FINDINGS: usize = 3;

/// Reads the record that `greenlight load ... -o json=FILE` wrote: fails where the load was not
/// held, and is inconclusive where that could not be told, or the record is of another journey or
/// too old. The target is the file.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The journey that the load was of; any where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey: Option<String>,
    /// What is older proves nothing any more: 30d unless set.
    #[serde(default = "no_older")]
    pub no_older_than: Period,
}

fn no_older() -> Period {
    NO_OLDER
}

#[derive(Debug)]
pub struct Load {
    spec: Spec,
}

/// What is read of a record; the rest is for people.
#[derive(Debug, Deserialize)]
struct Record {
    version: u64,
    journey: String,
    ended_at: String,
    verdict: String,
    why: Vec<Finding>,
    proven_rate: Option<f64>,
    headroom: Headroom,
    stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    code: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Headroom {
    rate: Option<f64>,
    gb_per_day: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Stage {
    loss_upper_bound_95: Option<f64>,
}

impl Probe for Load {
    const KIND: &'static str = "load";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] =
        &[&LOAD_HEADROOM, &LOAD_RATE, &LOAD_LOSS, &LOAD_AGE];
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.no_older_than.0.is_zero() {
            return Err("`no_older_than` is 0s: no record is as new as that".into());
        }
        Ok(Self { spec })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        let path = Path::new(text);
        if path.is_absolute() && path.file_name().is_some() {
            return Ok(());
        }
        Err(format!("{text:?} is no file's path from the root on"))
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect { what: format!("reads {target}"), needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let path = PathBuf::from(&**on.target);
        let name = format!("record {}", on.target);
        let read = match on.clients.cells().run(&name, on.timeout, move || read(&path)).await {
            Ok(read) => read,
            Err(fault) => return fault.into(),
        };
        let text = match read {
            Ok(text) => text,
            Err(error) => return fault(FaultCode::Unreadable, format!("{}: {error}", on.target)),
        };
        let record: Record = match serde_json::from_slice(&text) {
            Ok(record) => record,
            Err(error) => {
                let text = format!("{} is no record of a load: {error}", on.target);
                return fault(FaultCode::Garbled, text);
            }
        };
        on.trace.note(format_args!("{record:?}"));
        let Some(now) = on.clients.wall() else {
            return fault(FaultCode::Unsupported, "nobody keeps the time here".to_owned());
        };
        self.judge(&record, now)
    }
}

fn fault(code: FaultCode, text: String) -> Reading {
    Fault::new(code, text).into()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(RECORD_LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

impl Load {
    fn judge(&self, record: &Record, now: Wall) -> Reading {
        if record.version != 1 {
            let text = format!("the record is of version {}, not 1", record.version);
            return fault(FaultCode::Garbled, text);
        }
        if let Some(journey) = self.spec.journey.as_ref().filter(|own| **own != record.journey) {
            let text = format!("the load was of journey {}, not {journey}", record.journey);
            return fault(FaultCode::Blind, text);
        }
        let Some(ended) = Wall::parse(&record.ended_at) else {
            let text = format!("the load ended at {:?}, which is no time", record.ended_at);
            return fault(FaultCode::Garbled, text);
        };
        let age = now.seconds() - ended.seconds();
        if age < -AHEAD {
            let text = format!("the load ended {:.0} s from now: a clock is wrong", -age);
            return fault(FaultCode::Garbled, text);
        }
        if age > self.spec.no_older_than.0.as_secs_f64() {
            let text = format!(
                "the load ended at {}, longer than {} ago",
                record.ended_at, self.spec.no_older_than
            );
            return fault(FaultCode::Blind, text);
        }
        let mut samples = vec![Sample::new(&LOAD_AGE, age.max(0.0))];
        let rooms = [record.headroom.rate, record.headroom.gb_per_day].into_iter().flatten();
        let least = rooms.reduce(f64::min);
        samples.extend(least.map(|headroom| Sample::new(&LOAD_HEADROOM, headroom)));
        samples.extend(record.proven_rate.map(|rate| Sample::new(&LOAD_RATE, rate)));
        let bounds = record.stages.iter().filter_map(|stage| stage.loss_upper_bound_95);
        samples.extend(bounds.reduce(f64::max).map(|bound| Sample::new(&LOAD_LOSS, bound)));
        let findings = record.why.iter().take(FINDINGS);
        let findings: Vec<String> =
            findings.map(|why| format!("{} ({})", why.text, why.code)).collect();
        let findings = findings.join("; ");
        match record.verdict.as_str() {
            "held" if least.is_some() => Reading::success(samples),
            "not_held" => Reading::failure(Reason::new(ReasonCode::NotHeld, findings), samples),
            "unclear" => fault(FaultCode::Blind, format!("it could not be told: {findings}")),
            other => fault(FaultCode::Garbled, format!("the verdict {other:?} makes no sense")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::outcome::Outcome;

    fn record(more: Value) -> Value {
        let mut record = json!({
            "version": 1,
            "journey": "lake",
            "ended_at": "2026-01-02T03:04:05.000Z",
            "verdict": "held",
            "why": [],
            "proven_rate": 1_300.0,
            "headroom": { "rate": 0.3, "gb_per_day": 0.25 },
            "stages": [ { "loss_upper_bound_95": 1e-6 }, { "loss_upper_bound_95": null } ],
        });
        if let (Some(record), Some(more)) = (record.as_object_mut(), more.as_object()) {
            record.extend(more.clone());
        }
        record
    }

    fn judged(more: Value) -> Reading {
        let spec = json!({ "journey": "lake", "no_older_than": "1h" });
        let load = Load::new(serde_json::from_value(spec).expect("a spec")).expect("it is whole");
        let record = serde_json::from_value(record(more)).expect("a record");
        load.judge(&record, Wall::parse("2026-01-02T03:14:05Z").expect("a time"))
    }

    #[test]
    fn a_record_passes_only_where_the_load_was_held_lately_and_by_this_journey() {
        let good = judged(json!({}));
        assert_eq!(good.outcome, Outcome::Success);
        let value = |metric: &'static Metric| {
            good.samples.iter().find(|sample| sample.metric == metric).map(|sample| sample.value)
        };
        assert_eq!(value(&LOAD_HEADROOM), Some(0.25), "the smaller of the two");
        assert_eq!(value(&LOAD_RATE), Some(1_300.0));
        assert_eq!((value(&LOAD_LOSS), value(&LOAD_AGE)), (Some(1e-6), Some(600.0)));
        for (more, outcome, part) in [
            (
                json!({ "verdict": "not_held", "why": [{"code": "lost", "text": "stored: 1 of 9"}] }),
                "failure",
                "stored: 1 of 9 (lost)",
            ),
            (
                json!({ "verdict": "unclear", "why": [{"code": "budget", "text": "used up"}] }),
                "inconclusive",
                "used up",
            ),
            (json!({ "verdict": "perhaps" }), "inconclusive", "no sense"),
            (
                json!({ "headroom": { "rate": null, "gb_per_day": null } }),
                "inconclusive",
                "no sense",
            ),
            (json!({ "journey": "pond" }), "inconclusive", "journey pond"),
            (json!({ "version": 2 }), "inconclusive", "version 2"),
            (json!({ "ended_at": "2026-01-02T02:04:05Z" }), "inconclusive", "longer than 1h ago"),
            (json!({ "ended_at": "2026-01-03T03:04:05Z" }), "inconclusive", "a clock is wrong"),
            (json!({ "ended_at": "lately" }), "inconclusive", "no time"),
        ] {
            let reading = judged(more.clone());
            assert_eq!(reading.outcome.word(), outcome, "{more}");
            let said = reading.outcome.why().map(|(_, text)| text.to_owned());
            assert!(said.as_deref().is_some_and(|said| said.contains(part)), "{more}: {said:?}");
        }
    }
}
