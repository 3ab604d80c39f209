//! All gates of a plan with exactly one verdict each, the decision, and the document that says so:
//! the contract's JSON, word for word.
//!
//! Pure: [`assemble`] makes the document of what the agent knows, [`decide`] the decision.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gate::promql::{self, Boundaries};
use crate::gate::{Finding, Gate, Level, LoadWindow, Verdict, Why, sentence};
use crate::journey::exhibit::Exhibit;
use crate::journey::offset::Offset;
use crate::journey::recheck::Rechecked;
use crate::journey::specimen::Specimen;
use crate::journey::tally::{EdgeTally, Percentiles, StageTally, Tally, TwinTally};
use crate::journey::{Fate, Stage};
use crate::outcome::{Outcome, words};
use crate::time::{Now, Wall};

/// The version of the document's shape.
pub const VERSION: u32 = 1;

words! {
    /// In the order of `greenlight_decision`: the largest is the worst.
    Decision {
        Go = "go",
        GoWithWaivers = "go_with_waivers",
        Incomplete = "incomplete",
        NoGo = "no_go",
    }
}

impl Decision {
    /// As a report's headline writes it.
    pub const fn headline(self) -> &'static str {
        match self {
            Self::Go => "GO",
            Self::GoWithWaivers => "GO WITH WAIVERS",
            Self::Incomplete => "INCOMPLETE",
            Self::NoGo => "NO-GO",
        }
    }

    /// The value of `greenlight_decision`.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The exit code of `check`, `report` and `demo --once`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Go | Self::GoWithWaivers => 0,
            Self::NoGo => 1,
            Self::Incomplete => 2,
        }
    }
}

/// NO-GO if a mandatory gate fails; else INCOMPLETE if one is `error` or `open`, or there is no
/// gate at all; else GO WITH WAIVERS if one is waived; else GO.
///
/// A conditional gate counts as mandatory: what is known not to apply has the verdict
/// `not_applicable`, which blocks nothing.
pub fn decide(gates: impl IntoIterator<Item = (Level, Verdict)>) -> Decision {
    let mut any = false;
    let worst = gates
        .into_iter()
        .inspect(|_| any = true)
        .filter(|(level, _)| *level != Level::Optional)
        .map(|(_, verdict)| match verdict {
            Verdict::Fail => Decision::NoGo,
            Verdict::Error | Verdict::Open => Decision::Incomplete,
            Verdict::Waived => Decision::GoWithWaivers,
            Verdict::Pass | Verdict::Warn | Verdict::NotApplicable => Decision::Go,
        })
        .max()
        .unwrap_or(Decision::Go);
    if any { worst } else { Decision::Incomplete }
}

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Document {
    pub version: u32,
    pub tool: Tool,
    pub plan: Plan,
    pub node: Node,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    pub decision: Decision,
    /// How many gates have each verdict.
    pub counts: BTreeMap<Verdict, u64>,
    /// Every gate of the plan.
    pub gates: Vec<GateRow>,
    pub journeys: Vec<JourneyRow>,
    pub checks: Vec<CheckRow>,
    /// When a load was declared to be on; left out where it never was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_windows: Vec<LoadRow>,
}

/// One declared load window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LoadRow {
    /// RFC 3339, UTC, as it was declared.
    pub start: String,
    /// RFC 3339, UTC, as it was declared.
    pub end: String,
    /// Who declared it.
    pub source: String,
    /// How far the wall clock has jumped since it was declared, where it has by a second or more.
    /// Samples are taken from the time that was meant when it was declared.
    pub clock_jump_seconds: Option<f64>,
}

impl LoadRow {
    pub fn of(window: &LoadWindow, now: Now) -> Self {
        let start = now.wall_of(window.start.mono);
        let jump = start.seconds() - window.start.wall.seconds();
        Self {
            start: window.start.wall.rfc3339(),
            end: window.end.wall.rfc3339(),
            source: window.source.clone(),
            clock_jump_seconds: (jump.abs() >= 1.0).then_some(jump),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Plan {
    pub digest: String,
    pub sources: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// One gate. Numbers are in base units; what nobody measured is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GateRow {
    pub id: String,
    pub title: String,
    pub level: Level,
    pub verdict: Verdict,
    /// Lines of requirement documents.
    pub refs: Vec<String>,
    /// What is demanded, as a sentence.
    pub criterion: String,
    pub value: Option<f64>,
    /// The unit of value, threshold and margin: seconds, bytes, ratio or count.
    pub unit: Option<String>,
    pub threshold: Option<f64>,
    /// How far the value is on the good side of the threshold; negative beyond it.
    pub margin: Option<f64>,
    pub samples: u64,
    pub window_seconds: Option<f64>,
    pub covered_seconds: Option<f64>,
    /// Who decided.
    pub worst: Option<Worst>,
    /// Why it is no pass.
    pub reason: Option<Why>,
    pub first_failing_stage: Option<Stage>,
    pub checks: Vec<String>,
    pub journeys: Vec<String>,
    /// The same asked of Prometheus; null where PromQL can't say it.
    pub promql: Option<String>,
    /// Why `promql` is null.
    #[serde(default)]
    pub promql_missing: Option<String>,
    /// Why the gate is there.
    #[serde(default)]
    pub why: Option<String>,
    /// What to do when it fails.
    #[serde(default)]
    pub fix: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Worst {
    pub check: String,
    pub target: String,
}

/// One journey: what became of its events, stage by stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct JourneyRow {
    pub id: String,
    pub rounds: u64,
    pub first_failing_stage: Option<Stage>,
    /// What its events are of; left out where they are of no use case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usecase: Option<UseCaseRow>,
    pub stages: Vec<StageRow>,
    /// One event as it was sent and as each stage showed it; left out before a round has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specimen: Option<Specimen>,
}

/// What a detection must notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UseCaseRow {
    pub name: String,
    pub title: String,
    /// Techniques of MITRE ATT&CK.
    pub attack: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StageRow {
    pub name: Stage,
    /// Those whose fate is decided; the fates sum to it.
    pub expected: u64,
    pub fates: BTreeMap<Fate, u64>,
    /// Further copies.
    pub duplicate: u64,
    pub latency_seconds: Latency,
    /// With 95 % confidence no more than this share is lost; null where nothing was decided.
    pub loss_upper_bound_95: Option<f64>,
    /// What was wrong with the first that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stage's clock less this node's, as the newest round bounds it; left out where the plan
    /// names no field of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_seconds: Option<ClockRow>,
    /// At `notified`: seconds from an alert to its notification; left out where no stage sees one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_to_person_seconds: Option<Latency>,
    /// What the benign twins of the rounds brought about; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<TwinTally>,
    /// What came of copies at the edges of the rule's look-back; left out where none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgeTally>,
    /// What followed from the rule behind the alert in the newest round; left out where no deadline
    /// follows from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A picture of what it showed in the newest round; left out where the plan asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhibit: Option<Exhibit>,
    /// What was asked for again later; left out where the plan does not ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rechecks: Vec<RecheckRow>,
}

/// Bounds of a clock's offset: null where no one offset fits the round's events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClockRow {
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    /// Events that it is known from.
    pub events: u64,
}

impl From<Offset> for ClockRow {
    fn from(offset: Offset) -> Self {
        let bound = |nanos: i64| offset.fits().then_some(nanos as f64 / 1e9);
        Self { lower: bound(offset.lower), upper: bound(offset.upper), events: offset.events }
    }
}

/// What a stage had shown, asked for again so long after each round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RecheckRow {
    pub after_seconds: f64,
    pub rounds: u64,
    pub kept: u64,
    /// Seen before, and not there any more.
    pub vanished: u64,
    /// There, and no longer what was seen before.
    pub changed: u64,
    pub inconclusive: u64,
    /// Given up before, and come after all.
    #[serde(default)]
    pub found: u64,
    /// Which events went, or why it could not be told.
    pub reason: Option<String>,
}

impl RecheckRow {
    pub fn of(after: Duration, rechecked: &Rechecked) -> Self {
        Self {
            after_seconds: after.as_secs_f64(),
            rounds: rechecked.rounds,
            kept: rechecked.kept,
            vanished: rechecked.vanished,
            changed: rechecked.changed,
            inconclusive: rechecked.inconclusive,
            found: rechecked.found,
            reason: rechecked.reason.clone(),
        }
    }

    /// Events that the stage had and that are not there as they were.
    pub fn failed(&self) -> u64 {
        self.vanished.saturating_add(self.changed)
    }
}

/// Seconds from the intended send to the arrival; null where nothing arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Latency {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckRow {
    pub id: String,
    pub kind: String,
    pub targets: Vec<TargetRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TargetRow {
    pub target: String,
    /// The newest attempt; null where none was made yet.
    pub last: Option<LastAttempt>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LastAttempt {
    /// RFC 3339, UTC.
    pub at: String,
    /// success, failure or inconclusive.
    pub outcome: String,
    pub reason: Option<Why>,
    /// What a reader should know besides: which alerts are silenced, which rules are off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl LastAttempt {
    pub fn of(at: Wall, outcome: &Outcome) -> Self {
        Self {
            at: at.rfc3339(),
            outcome: outcome.word().to_owned(),
            reason: outcome.why().map(|(code, text)| Why::new(code, text)),
            notes: Vec::new(),
        }
    }
}

/// One gate and what judging it came to.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    pub gate: &'a Gate,
    pub finding: Finding,
    pub texts: &'a Texts,
}

/// What is said of a gate for as long as its plan is in force: made once, and not every second.
#[derive(Clone, Debug)]
pub struct Texts {
    pub criterion: String,
    /// The independent PromQL, or why there is none.
    pub promql: Result<String, String>,
}

impl Texts {
    pub fn of(gate: &Gate, boundaries: &Boundaries) -> Self {
        Self { criterion: sentence(gate), promql: promql::promql(gate, boundaries) }
    }
}

/// All that a document is made of.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub tool_version: String,
    pub plan: Plan,
    pub node: Node,
    pub started: Wall,
    pub finished: Wall,
    /// Every gate of the plan, in its order.
    pub gates: Vec<Judged<'a>>,
    pub journeys: Vec<Followed>,
    pub checks: Vec<CheckRow>,
    pub load_windows: Vec<LoadRow>,
}

/// What a journey has come to since the plan began.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    pub id: String,
    pub usecase: Option<UseCaseRow>,
    pub tally: Tally,
    pub rechecks: BTreeMap<Stage, Vec<RecheckRow>>,
    pub specimen: Option<Specimen>,
}

/// Makes the document.
pub fn assemble(parts: Parts<'_>) -> Document {
    let gates: Vec<GateRow> = parts.gates.into_iter().map(gate_row).collect();
    let mut counts: BTreeMap<Verdict, u64> =
        Verdict::ALL.into_iter().map(|verdict| (verdict, 0)).collect();
    for gate in &gates {
        *counts.entry(gate.verdict).or_default() += 1;
    }
    Document {
        version: VERSION,
        tool: Tool { name: "greenlight".to_owned(), version: parts.tool_version },
        plan: parts.plan,
        node: parts.node,
        started_at: parts.started.rfc3339(),
        finished_at: parts.finished.rfc3339(),
        decision: decide(gates.iter().map(|gate| (gate.level, gate.verdict))),
        counts,
        gates,
        journeys: parts.journeys.into_iter().map(journey_row).collect(),
        checks: parts.checks,
        load_windows: parts.load_windows,
    }
}

/// JSON knows no infinity: what is no finite number was not measured.
fn finite(number: Option<f64>) -> Option<f64> {
    number.filter(|number| number.is_finite())
}

fn gate_row(judged: Judged<'_>) -> GateRow {
    let Judged { gate, finding, texts } = judged;
    let (promql, promql_missing) = match texts.promql.clone() {
        Ok(promql) => (Some(promql), None),
        Err(why) => (None, Some(why)),
    };
    GateRow {
        id: gate.id.clone(),
        title: gate.title.clone(),
        level: gate.level,
        verdict: finding.verdict,
        refs: gate.refs.clone(),
        criterion: texts.criterion.clone(),
        value: finite(finding.value),
        unit: finding.unit.map(|unit| unit.word().to_owned()),
        threshold: finite(finding.threshold),
        margin: finite(finding.margin),
        samples: finding.samples,
        window_seconds: finite(finding.window_seconds),
        covered_seconds: finite(finding.covered_seconds),
        worst: finding.worst.map(|(check, target)| Worst { check, target }),
        reason: finding.reason,
        first_failing_stage: finding.first_failing_stage,
        checks: finding.checks,
        journeys: finding.journeys,
        promql,
        promql_missing,
        why: gate.why.clone(),
        fix: gate.fix.clone(),
    }
}

fn journey_row(mut followed: Followed) -> JourneyRow {
    let tally = &followed.tally;
    // A stage that lost what it had fails as one that never had it.
    let forgot = |(_, rows): &(&Stage, &Vec<RecheckRow>)| rows.iter().any(|row| row.failed() > 0);
    let forgot = followed.rechecks.iter().find(forgot).map(|(stage, _)| *stage);
    let failing = tally.first_failing_stage();
    JourneyRow {
        id: followed.id,
        rounds: tally.rounds,
        first_failing_stage: failing.into_iter().chain(forgot).min(),
        usecase: followed.usecase,
        stages: tally
            .stages
            .iter()
            .map(|stage| {
                stage_row(stage, followed.rechecks.remove(&stage.stage).unwrap_or_default())
            })
            .collect(),
        specimen: followed.specimen,
    }
}

fn stage_row(tally: &StageTally, rechecks: Vec<RecheckRow>) -> StageRow {
    let told = !tally.after_alert.is_empty();
    StageRow {
        name: tally.stage,
        expected: tally.expected,
        fates: Fate::ALL.into_iter().map(|fate| (fate, tally.count(fate))).collect(),
        duplicate: tally.duplicate,
        latency_seconds: Latency::of(tally.latency()),
        loss_upper_bound_95: tally.loss_upper_bound_95(),
        reason: tally.reason.clone(),
        clock_offset_seconds: tally.clock.map(ClockRow::from),
        alert_to_person_seconds: told.then(|| Latency::of(tally.alert_to_person())),
        twin: tally.twin.clone(),
        edges: tally.edges.clone(),
        rule: tally.rule.clone(),
        exhibit: tally.exhibit.clone(),
        rechecks,
    }
}

impl Latency {
    fn of(all: Option<Percentiles>) -> Self {
        let of = |part: fn(&Percentiles) -> f64| finite(all.as_ref().map(part));
        Self {
            p50: of(|latency| latency.p50),
            p95: of(|latency| latency.p95),
            p99: of(|latency| latency.p99),
            max: of(|latency| latency.max),
        }
    }
}

/// The JSON Schema of the document.
pub fn schema() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Document>()
}

#[cfg(test)]
mod tests;
