//! Judging, held by case files: `tests/cases/gate/*.yaml`. A case is a gate as a plan writes it,
//! what was seen, and what the verdict must be at which instants; the standing is carried from one
//! to the next, through its stored form.
//!
//! What was seen is written in words: `FROM-TO VALUE...` is one attempt at each interval between
//! the two instants (in seconds), each leaving these values: a number, `failed`, `inconclusive` or
//! `nothing`. A round of a journey is `AT STAGE fate=count ...; STAGE ...`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenlight::catalogue;
use greenlight::gate::{self, Evidence, Finding, Gate, Standing};
use greenlight::journey::{Fate, Stage};
use greenlight::plan::{Facts, Plan, load::Inputs};
use greenlight::series::{Cadence, JourneyRecord, RoundPoint, StageCount, TrackKey, Tracks, Value};
use greenlight::spec::{Diagnostics, Period, Sources, decode, yaml};
use greenlight::time::{Mono, Now, Wall};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The plan's text of the gate, without its id.
    gate: String,
    #[serde(default)]
    vars: BTreeMap<String, String>,
    #[serde(default)]
    tracks: Vec<TrackCase>,
    #[serde(default)]
    journeys: Vec<JourneyCase>,
    /// Declared load, as `FROM-TO` in seconds.
    #[serde(default)]
    load: Vec<String>,
    expect: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrackCase {
    series: String,
    #[serde(default)]
    check: Option<String>,
    target: String,
    every: Period,
    #[serde(default)]
    since: i64,
    #[serde(default)]
    points: Vec<String>,
    /// When it was seen to be gone.
    #[serde(default)]
    gone: Option<i64>,
    /// It comes and goes with what uses it.
    #[serde(default)]
    passing: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JourneyCase {
    id: String,
    every: Period,
    #[serde(default)]
    give_up: Period,
    #[serde(default)]
    since: i64,
    stages: Vec<Stage>,
    rounds: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Seconds on the monotonic clock.
    at: i64,
    /// Seconds on the wall clock, where it does not go along.
    #[serde(default)]
    wall: Option<i64>,
    verdict: String,
    #[serde(default)]
    value: Option<f64>,
    #[serde(default)]
    samples: Option<u64>,
    #[serde(default)]
    threshold: Option<f64>,
    /// The check and the target.
    #[serde(default)]
    worst: Option<String>,
    /// The reason's code.
    #[serde(default)]
    reason: Option<String>,
    /// Part of the reason's text.
    #[serde(default)]
    says: Option<String>,
    #[serde(default)]
    stage: Option<Stage>,
    #[serde(default)]
    covered: Option<f64>,
}

const JOURNEY: &str = "journeys: [ { id: ssh, every: 10s, send: { http: { to: 'http://127.0.0.1:1/' } }, stages: [ { notified: { webhook: {} } } ] } ]\n";

impl Case {
    fn gate(&self) -> Gate {
        let vars: Vec<String> =
            self.vars.iter().map(|(name, value)| format!("{name}: '{value}'")).collect();
        let journey = if self.journeys.is_empty() { "" } else { JOURNEY };
        let text = format!(
            "vars: {{ {} }}\n{journey}gates: [ {{ id: g, {} }} ]\n",
            vars.join(", "),
            self.gate.trim()
        );
        let inputs = Inputs { texts: vec![("case".to_owned(), text)], ..Inputs::default() };
        match Plan::compile(&inputs, &Facts::default()) {
            Ok(mut plan) => plan.gates.remove(0),
            Err(invalid) => panic!("{}: {}", self.name, invalid.render(false)),
        }
    }

    /// What was known at `now`: nothing of what came later.
    fn evidence(&self, gate: &Gate, now: Mono) -> (Tracks, Vec<JourneyRecord>) {
        let mut tracks = Tracks::new(gate::demands([gate]));
        for track in &self.tracks {
            let metric = catalogue::series(&track.series)
                .unwrap_or_else(|| panic!("{}: no series {}", self.name, track.series));
            let key = TrackKey {
                metric,
                check: Arc::from(track.check.as_deref().unwrap_or("c")),
                target: Arc::from(track.target.as_str()),
                labels: Vec::new(),
            };
            let cadence = Cadence::every(track.every.0, Mono::from_secs(track.since));
            if cadence.since > now {
                continue;
            }
            let place = tracks.open(&key, cadence);
            place.filter(|_| track.passing).into_iter().for_each(|place| tracks.passes(place));
            for line in &track.points {
                for (at, values) in attempts(line, track.every.0) {
                    for value in values.iter().filter(|_| at <= now) {
                        tracks.push(&key, cadence, at, *value, at);
                    }
                }
            }
            if track.gone.is_some_and(|gone| Mono::from_secs(gone) <= now) {
                tracks.depart(|other| *other != key);
                tracks.forget_departed(now);
            }
        }
        let journeys = self.journeys.iter().map(|journey| journey.record(now)).collect();
        (tracks, journeys)
    }

    fn load(&self) -> Vec<gate::Span> {
        let seconds = |text: &str| Mono::from_secs(text.parse().unwrap());
        let span = |text: &String| {
            let (from, to) = text.split_once('-').unwrap();
            gate::Span { start: seconds(from), end: seconds(to) }
        };
        self.load.iter().map(span).collect()
    }

    fn run(&self) -> Result<(), String> {
        let gate = self.gate();
        let mut standing = Standing::default();
        for expected in &self.expect {
            let mono = Mono::from_secs(expected.at);
            let wall = expected.wall.unwrap_or(1_700_000_000 + expected.at);
            let now = Now { mono, wall: Wall::from_secs(wall) };
            let (tracks, journeys) = self.evidence(&gate, mono);
            let evidence = Evidence { tracks: &tracks, journeys: &journeys, load: &self.load() };
            // As the store keeps it.
            let stored = serde_json::to_string(&standing).unwrap();
            let (finding, after) =
                gate::judge(&gate, &evidence, &serde_json::from_str(&stored).unwrap(), now);
            standing = after;
            expected.check(&finding).map_err(|what| {
                format!("{}, at {}: {what}\n  {finding:?}", self.name, expected.at)
            })?;
        }
        Ok(())
    }
}

impl JourneyCase {
    fn record(&self, now: Mono) -> JourneyRecord {
        let cadence = Cadence {
            interval: self.every.0,
            since: Mono::from_secs(self.since),
            lag: self.give_up.0,
        };
        let mut record =
            JourneyRecord::new(Arc::from(self.id.as_str()), self.stages.clone(), cadence);
        for line in &self.rounds {
            let (range, rest) = line.split_once(' ').unwrap();
            for at in instants(range, self.every.0).into_iter().filter(|at| *at <= now) {
                let inconclusive = rest == "inconclusive";
                let stages = if inconclusive { Vec::new() } else { stages(rest) };
                record.push(RoundPoint { at, stages, inconclusive });
            }
        }
        record
    }
}

fn stages(text: &str) -> Vec<(Stage, StageCount)> {
    let stage = |text: &str| {
        let mut words = text.split_whitespace();
        let stage = Stage::parse(words.next().unwrap()).unwrap();
        let mut count = StageCount::default();
        for word in words {
            let (name, number) = word.split_once('=').unwrap();
            let number: u64 = number.parse().unwrap();
            if name == "duplicate" {
                count.duplicate = number;
            } else {
                let fate = Fate::ALL.into_iter().find(|fate| fate.word() == name).unwrap();
                count.expected += number;
                count.fates.push((fate, number));
            }
        }
        (stage, count)
    };
    text.split(';').map(stage).collect()
}

fn attempts(line: &str, every: Duration) -> Vec<(Mono, Vec<Value>)> {
    let mut words = line.split_whitespace();
    let range = words.next().unwrap();
    let values: Vec<Value> = words
        .flat_map(|word| {
            // `0.001*20` is twenty of them.
            let (value, times) = word.split_once('*').unwrap_or((word, "1"));
            let times = times.parse().unwrap();
            let value = match value {
                "failed" => Value::Failed,
                "inconclusive" => Value::Inconclusive,
                "nothing" => Value::Nothing,
                number => Value::Number(number.parse().unwrap()),
            };
            vec![value; times]
        })
        .collect();
    instants(range, every).into_iter().map(|at| (at, values.clone())).collect()
}

fn instants(range: &str, every: Duration) -> Vec<Mono> {
    // A first minus is the sign of an instant of an earlier boot.
    let dash = range[1..].find('-').map(|at| at + 1);
    let (from, to) = dash.map_or((range, range), |at| (&range[..at], &range[at + 1..]));
    let to = Mono::from_secs(to.parse().unwrap());
    let mut at = Mono::from_secs(from.parse().unwrap());
    let mut all = Vec::new();
    while at <= to {
        all.push(at);
        at = at.plus(every);
    }
    all
}

impl Expected {
    fn check(&self, finding: &Finding) -> Result<(), String> {
        let same = |what: &str, expected: Option<String>, found: String| match expected {
            Some(expected) if expected != found => {
                Err(format!("the {what} is {found}, not {expected}"))
            }
            _ => Ok(()),
        };
        let number = |number: Option<f64>| number.map_or("null".to_owned(), |n| format!("{n:.9}"));
        let reason = finding.reason.clone();
        same("verdict", Some(self.verdict.clone()), finding.verdict.word().to_owned())?;
        same("value", self.value.map(|n| number(Some(n))), number(finding.value))?;
        same("threshold", self.threshold.map(|n| number(Some(n))), number(finding.threshold))?;
        same("coverage", self.covered.map(|n| number(Some(n))), number(finding.covered_seconds))?;
        same("count", self.samples.map(|n| n.to_string()), finding.samples.to_string())?;
        let worst = finding.worst.as_ref().map(|(check, target)| format!("{check} {target}"));
        same("worst", self.worst.clone(), worst.unwrap_or_default())?;
        same("reason", self.reason.clone(), reason.clone().map_or("none".into(), |why| why.code))?;
        let stage = finding.first_failing_stage.map_or("none", Stage::word);
        same("stage", self.stage.map(|stage| stage.word().to_owned()), stage.to_owned())?;
        if let Some(says) = &self.says {
            let text = reason.map(|why| why.text).unwrap_or_default();
            if !text.contains(says.as_str()) {
                return Err(format!("the reason does not say `{says}`: {text}"));
            }
        }
        // What every finding must be, whatever the case says.
        let pass = finding.verdict.word() == "pass";
        if pass != finding.reason.is_none() {
            return Err("a pass has no reason, and everything else has one".to_owned());
        }
        if pass && finding.samples == 0 && finding.unit.map(|unit| unit.word()) != Some("count") {
            return Err("a pass from no sample".to_owned());
        }
        Ok(())
    }
}

#[test]
fn gate_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/gate");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut count = 0;
    let mut judgings = 0;
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let mut sources = Sources::default();
        let mut diagnostics = Diagnostics::default();
        let text = std::fs::read_to_string(file).unwrap();
        let source = sources.add(name.as_str(), text.as_str());
        let node = yaml::parse(source, &text, &mut diagnostics);
        let cases: Option<Vec<Case>> =
            node.as_ref().and_then(|node| decode(node, &mut diagnostics));
        assert!(diagnostics.is_empty(), "{}", diagnostics.render(&sources, false));
        for case in cases.unwrap() {
            assert!(!case.expect.is_empty(), "{name}: {} expects nothing", case.name);
            count += 1;
            judgings += case.expect.len();
            wrong.extend(case.run().err().map(|what| format!("{name}: {what}")));
        }
    }
    eprintln!("gate cases: {count} in {} files, {judgings} judgings", files.len());
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 40, "only {count} cases");
}
