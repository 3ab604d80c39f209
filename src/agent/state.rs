//! All that the agent knows: what was measured, what it was judged to be, and what is exported.

mod bounded;
mod culprits;
mod export;
mod journeys;
mod node;
mod peaks;
mod recovered;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) use bounded::Bounded;

use super::captures::Captures;
use super::record::{Judged, Record, RoundNews, Snapshot};
use super::seconds::{Patience, Second};
use crate::catalogue::{self, Kind, Metric, agent as metric};
use crate::gate::{
    self, Criterion, Evidence, Finding, Function, Gate, LoadWindow, Standing, Verdict,
};
use crate::journey::recheck::Rechecked;
use crate::journey::specimen::Specimen;
use crate::journey::tally::Tally;
use crate::ledger::{self, Decision, Texts};
use crate::metrics::{Format, Registry, Row};
use crate::outcome::{CheckId, Observation, Outcome, TargetName};
use crate::plan::{Check, Peers, Plan, StagePlan};
use crate::render::history::History;
use crate::series::{Cadence, JourneyRecord, LabelNames, TrackKey, Tracks, Value};
use crate::spec::units::Period;
use crate::store::{Recovered, Store, StoredPoint, StoredTrack, VerdictChange};
use crate::time::{Mono, Now, Wall};

/// `report` beside a running agent shows what is no older than this.
const ARCHIVE: Duration = Duration::from_secs(60);
/// Bytes of an exposition, before the first is known.
const EXPOSED: usize = 64 << 10;
/// Gates are judged at least so often, as often as Prometheus asks; and no second of the node is taken
/// in later than by then.
const JUDGE_AT_LEAST_EVERY: Duration = Duration::from_secs(15);

pub(super) struct State {
    plan: Arc<Plan>,
    store: Store,
    bounded: Bounded,
    started: Now,
    registry: Registry,
    /// What the document says of each gate of the plan, in its order.
    texts: Vec<Texts>,
    tracks: Tracks,
    journeys: Vec<JourneyRecord>,
    /// All rounds of a journey.
    totals: BTreeMap<Arc<str>, Tally>,
    /// What looks back came to, by journey, stage and how long after a round.
    rechecked: BTreeMap<journeys::LookBack, Rechecked>,
    /// One event of each journey as each stage showed it: of the newest round in which one failed,
    /// else of the newest.
    specimens: BTreeMap<Arc<str>, Specimen>,
    standings: BTreeMap<String, Standing>,
    findings: Vec<Finding>,
    /// When each was made.
    paced: Vec<Paced>,
    /// When gates were judged last.
    judged: Now,
    last: BTreeMap<(CheckId, TargetName), Last>,
    running: BTreeSet<(CheckId, TargetName)>,
    history: Arc<History>,
    frame: node::Rows,
    /// The newest second, which says what this node does not offer.
    newest: Option<Second>,
    captures: Captures,
    /// When a load was declared to be on, oldest declaration first.
    load: Vec<LoadWindow>,
    /// Verdicts that turned before anybody could be named.
    unnamed: Vec<culprits::Unnamed>,
    /// When a report was left in the archive, and what it decided.
    archived: Option<(Mono, Decision)>,
    /// The last judging was done.
    closed: bool,
    /// Where each gate of the plan is exported, in its order; made with the first scrape.
    gate_rows: Vec<export::GateRows>,
    /// Where each place with a limit is.
    fill_rows: Vec<(&'static str, [Option<Row>; 3])>,
    /// Bytes of the last exposition.
    exposed: usize,
}

/// The newest outcome of one check on one target.
struct Last {
    at: Wall,
    outcome: Outcome,
    notes: Vec<String>,
}

impl State {
    pub(super) fn new(
        plan: Arc<Plan>,
        recovered: &Recovered,
        store: Store,
        bounded: Bounded,
        now: Now,
    ) -> Self {
        let boundaries = gate::promql::extra_boundaries(&plan.gates);
        let mut state = Self {
            store,
            bounded,
            started: now,
            registry: Registry::new(|metric| of_metric(&boundaries, metric)),
            texts: texts(&plan, &boundaries),
            tracks: Tracks::new(gate::demands(&plan.gates)),
            journeys: Vec::new(),
            totals: BTreeMap::new(),
            rechecked: BTreeMap::new(),
            specimens: BTreeMap::new(),
            standings: recovered.standings.clone(),
            findings: Vec::new(),
            paced: Vec::new(),
            judged: now,
            last: BTreeMap::new(),
            running: BTreeSet::new(),
            history: Arc::new(History::default()),
            frame: node::Rows::default(),
            newest: None,
            captures: Captures::default(),
            load: recovered.load.clone(),
            unnamed: Vec::new(),
            archived: None,
            closed: false,
            gate_rows: Vec::new(),
            fill_rows: Vec::new(),
            exposed: EXPOSED,
            plan,
        };
        // The points first: a track is due since the oldest of them, not since this start.
        state.recover_points(recovered, now);
        state.open(now);
        state.recover_rounds(recovered, now);
        state.say_what_is_in_force();
        state.judge(now);
        state
    }

    /// How often a track is due, by what the plan says of its check or journey.
    fn cadence_of(&self, key: &TrackKey, since: Mono) -> Option<Cadence> {
        if key.metric.labels.first() == Some(&"journey") {
            let journey = self.plan.journey(&key.check)?;
            let after = key.value_of("after").and_then(|after| after.parse::<Period>().ok());
            let lag = journey.give_up() + after.unwrap_or_default().0;
            return Some(Cadence { interval: journey.every, since, lag });
        }
        if LabelNames::of(key.metric).check.is_none() {
            return Some(Cadence::every(crate::node::TICK, since));
        }
        Some(Cadence::every(self.plan.check(&key.check)?.every, since))
    }

    /// Makes the tracks of everything that is due, so that silence is seen from the beginning.
    fn open(&mut self, now: Now) {
        for check in self.plan.checks.iter().filter(|check| check.elsewhere.is_none()) {
            for target in check.resolve(&self.plan.peers) {
                for metric in of_check(check) {
                    let key = TrackKey {
                        metric,
                        check: check.id.clone(),
                        target: target.clone(),
                        labels: Vec::new(),
                    };
                    self.tracks.open(&key, Cadence::every(check.every, now.mono));
                }
            }
        }
        let before = std::mem::take(&mut self.journeys);
        for journey in self.plan.journeys.iter().filter(|journey| journey.elsewhere.is_none()) {
            let cadence =
                Cadence { interval: journey.every, since: now.mono, lag: journey.give_up() };
            let stages: Vec<_> = journey.stages.iter().map(|plan| plan.stage).collect();
            for stage in &stages {
                let key = journeys::latency_key(&journey.id, *stage);
                self.tracks.open(&key, cadence);
                if journey.stage(*stage).is_some_and(|plan| plan.expect.fresh.is_some()) {
                    self.tracks.open(&journeys::feed_age_key(&journey.id, *stage), cadence);
                }
                if journey.stage(*stage).is_some_and(StagePlan::has_clock) {
                    self.tracks.open(&journeys::clock_key(&journey.id, *stage), cadence);
                }
                if journey.stage(*stage).is_some_and(StagePlan::has_hidden) {
                    self.tracks.open(&journeys::exposed_key(&journey.id, *stage), cadence);
                }
                if journey.watches_twin(*stage) {
                    self.tracks.open(&journeys::false_alarms_key(&journey.id, *stage), cadence);
                }
                for after in journey.stage(*stage).iter().flat_map(|plan| &plan.recheck) {
                    let late = Cadence { lag: cadence.lag + *after, ..cadence };
                    let of = (journey.id.clone(), *stage, *after);
                    self.tracks.open(&journeys::vanished_key(&of), late);
                }
            }
            if journey.tells_people() {
                self.tracks.open(&journeys::alert_to_person_key(&journey.id), cadence);
            }
            // Over a reload a journey with the same stages goes on counting.
            match before
                .iter()
                .find(|record| record.journey == journey.id && record.stages == stages)
            {
                Some(record) => {
                    let cadence = Cadence { since: record.cadence.since, ..cadence };
                    self.journeys.push(JourneyRecord { cadence, ..record.clone() });
                }
                None => self.journeys.push(JourneyRecord::new(journey.id.clone(), stages, cadence)),
            }
        }
    }

    pub(super) fn apply(&mut self, record: Record, now: Now) {
        match record {
            Record::Culprits(found) => self.culprits(found, now),
            Record::Begun { check, target } => drop(self.running.insert((check, target))),
            Record::Observation(seen) => self.observation(seen, now),
            Record::Missed { check, count } => {
                self.registry.add(&metric::SCHEDULER_MISSED, &[&check], count as f64);
            }
            Record::Round(news) => self.round(news, now),
            Record::Load(window) => self.declare(window),
            Record::Plan(plan) => self.take_in(plan, now),
            Record::Peers(peers) => self.take_in_peers(peers, now),
            Record::Reloaded { success } => {
                self.registry.set(&metric::PLAN_RELOAD_SUCCESS, &[], f64::from(u8::from(success)));
            }
            Record::TaskRestarted { task } => {
                self.registry.add(&metric::TASK_RESTARTS, &[task], 1.0)
            }
            Record::Request { route, code } => {
                self.registry.add(&metric::HTTP_REQUESTS, &[route, code], 1.0);
            }
            // Answered by the recorder, which alone can publish.
            Record::Settle(_) | Record::Last(_) => {}
        }
    }

    /// A load is on, was, or will be.
    fn declare(&mut self, window: LoadWindow) {
        tracing::info!(
            start = window.start.wall.rfc3339(),
            end = window.end.wall.rfc3339(),
            source = window.source,
            "a load is declared"
        );
        if !self.load.contains(&window) {
            self.load.push(window);
        }
        let surplus = self.load.len().saturating_sub(crate::store::LOAD_WINDOWS);
        self.load.drain(..surplus);
    }

    /// A new plan: series, standings and tallies carry over by what they are of. What was asked or
    /// expected otherwise under the same id is no evidence any more.
    fn take_in(&mut self, plan: Arc<Plan>, now: Now) {
        let old = std::mem::replace(&mut self.plan, plan);
        self.findings.clear();
        self.paced.clear();
        // The next second finds its way into the new plan's tracks.
        self.frame.generation = None;
        let boundaries = gate::promql::extra_boundaries(&self.plan.gates);
        self.registry.set_boundaries(|metric| of_metric(&boundaries, metric));
        self.texts = texts(&self.plan, &boundaries);
        self.tracks.demand(gate::demands(&self.plan.gates));
        let plan = self.plan.clone();
        self.forget_targets();
        let same = |id: &str| match (old.journey(id), plan.journey(id)) {
            (Some(old), Some(new)) => old.evidence == new.evidence,
            _ => false,
        };
        self.journeys.retain(|record| same(&record.journey));
        self.totals.retain(|journey, _| same(journey));
        self.specimens.retain(|journey, _| same(journey));
        self.rechecked.retain(|(journey, stage, after), _| {
            let stage = plan.journey(journey).and_then(|journey| journey.stage(*stage));
            same(journey) && stage.is_some_and(|stage| stage.recheck.contains(after))
        });
        self.standings.retain(|gate, _| plan.gates.iter().any(|own| own.id == *gate));
        self.history = Arc::new(History::default());
        self.tracks
            .retain(|key| recovered::evidence_of(&old, key) == recovered::evidence_of(&plan, key));
        // Nor is what it answered last shown as an answer to the new question.
        let asks_the_same = |id: &str| {
            old.check(id).map(|check| &check.evidence)
                == plan.check(id).map(|check| &check.evidence)
        };
        self.last.retain(|(check, _), _| asks_the_same(check));
        self.registry.retain(|metric, labels| {
            let answers = metric.kind == Kind::Gauge && *metric != metric::CHECK_LAST_ATTEMPT;
            if answers && labels.get("check").is_some_and(|id| !asks_the_same(id)) {
                return false;
            }
            // What gates export comes back with the judging below, with the levels and thresholds
            // that they have now.
            labels.get("gate").is_none()
                && *metric != metric::NODE_INFO
                && *metric != metric::PEERS_FILE_SUCCESS
                && labels.get("journey").is_none_or(|journey| plan.journey(journey).is_some())
                && labels.get("digest").is_none()
                && labels
                    .get("check")
                    .is_none_or(|id| plan.check(id).is_some() || plan.journey(id).is_some())
        });
        self.gate_rows.clear();
        self.open(now);
        self.say_what_is_in_force();
        // The newest report is to be one of the plan in force.
        self.archived = None;
        self.judge(now);
    }

    /// The members of the file of peers, read anew; none where it is bad and they stay.
    fn take_in_peers(&mut self, peers: Option<Peers>, now: Now) {
        self.registry.set(&metric::PEERS_FILE_SUCCESS, &[], f64::from(u8::from(peers.is_some())));
        // A last word of the plan before says nothing of this one's peers.
        let Some(peers) = peers.filter(|peers| peers.same_source(&self.plan.peers)) else { return };
        self.plan = Arc::new(self.plan.with_peers(peers));
        self.forget_targets();
        self.open(now);
        // No report shows the new targets under verdicts on the old ones.
        self.judge(now);
    }

    /// Drops what is known of targets that no check has any more.
    fn forget_targets(&mut self) {
        let plan = self.plan.clone();
        let is_due = |check: &str, target: &str| plan.is_due(check, target);
        self.last.retain(|(check, target), _| is_due(check, target));
        self.running.retain(|(check, target)| is_due(check, target));
        self.tracks.retain(|key| {
            key.metric.labels.first() != Some(&"check") || is_due(&key.check, &key.target)
        });
        self.registry.retain(|_, labels| match (labels.get("check"), labels.get("target")) {
            (Some(check), Some(target)) => is_due(check, target),
            _ => true,
        });
    }

    fn observation(&mut self, seen: Observation, now: Now) {
        self.running.remove(&(seen.check.clone(), seen.target.clone()));
        let Some(check) = self.plan.check(&seen.check).cloned() else { return };
        // It was begun before a reload, which took its target from the plan, or asks for something else.
        if !self.plan.is_due(&seen.check, &seen.target) || seen.evidence != check.evidence {
            return;
        }
        self.export_observation(&seen);
        let cadence = Cadence::every(check.every, now.mono);
        let took = seen.took.as_secs_f64();
        for metric in of_check(&check) {
            if !self.tracks.wants(metric) {
                continue;
            }
            let own: Vec<(Vec<Arc<str>>, f64)> = if *metric == metric::CHECK_SUCCESS {
                vec![(Vec::new(), 1.0)]
            } else if *metric == metric::CHECK_ATTEMPT {
                vec![(Vec::new(), took)]
            } else {
                seen.reading
                    .samples
                    .iter()
                    .filter(|sample| sample.metric == metric)
                    .map(|sample| (sample.labels.clone(), sample.value))
                    .collect()
            };
            self.points(metric, &seen, own, cadence, now);
        }
        self.last.insert(
            (seen.check, seen.target),
            Last { at: seen.at.wall, outcome: seen.reading.outcome, notes: seen.reading.notes },
        );
    }

    /// Every attempt leaves a point in each of its tracks, whatever came of it.
    fn points(
        &mut self,
        metric: &'static Metric,
        seen: &Observation,
        own: Vec<(Vec<Arc<str>>, f64)>,
        cadence: Cadence,
        now: Now,
    ) {
        let key = |labels: Vec<Arc<str>>| TrackKey {
            metric,
            check: seen.check.clone(),
            target: seen.target.clone(),
            labels,
        };
        let mut left: Vec<(TrackKey, Value)> = Vec::with_capacity(own.len() + 1);
        let mark = match &seen.reading.outcome {
            Outcome::Success => None,
            Outcome::Failure(_) => Some(Value::Failed),
            Outcome::Inconclusive(_) => Some(Value::Inconclusive),
        };
        // A failed attempt is one sample beyond every threshold; what it measured all the same
        // stands beside it, except its duration and success, which are what failed.
        let of_attempt = *metric == metric::CHECK_SUCCESS || *metric == metric::CHECK_ATTEMPT;
        if mark.is_none() || !of_attempt {
            left.extend(own.into_iter().map(|(labels, value)| (key(labels), Value::Number(value))));
        }
        let further = metric.labels.len() > 2;
        let siblings = || -> Vec<TrackKey> {
            self.tracks
                .iter()
                .filter(|track| {
                    track.key.metric == metric
                        && track.key.check == seen.check
                        && track.key.target == seen.target
                        && !track.key.is_whole()
                })
                .map(|track| track.key.clone())
                .collect()
        };
        if let (Some(mark), true) = (mark, further) {
            left.extend(siblings().into_iter().map(|key| (key, mark)));
        }
        // Where samples have labels of their own, the attempts have a track beside theirs.
        if further || mark.is_some() || left.is_empty() {
            left.push((key(Vec::new()), mark.unwrap_or(Value::Nothing)));
        }
        for (key, value) in left {
            self.push(&key, cadence, seen.at.mono, value, now);
        }
    }

    /// One point into memory, and to the store.
    fn push(&mut self, key: &TrackKey, cadence: Cadence, at: Mono, value: Value, now: Now) {
        if self.tracks.window(key).is_none() {
            return;
        }
        self.tracks.push(key, cadence, at, value, now.mono);
        let track = StoredTrack::of(key);
        let track = Arc::new(match recovered::evidence_of(&self.plan, key) {
            Some(what) => track.evidence_of(what),
            None => track,
        });
        self.store.points([StoredPoint { track, at, value }], now);
    }

    fn round(&mut self, news: RoundNews, now: Now) {
        match news {
            RoundNews::Begun { journey, at, count } => self.round_begun(&journey, at, count),
            RoundNews::NotBegun { journey, at, fault } => {
                self.round_not_begun(&journey, at, &fault)
            }
            RoundNews::BlindLook { journey, stage } => self.blind_look(&journey, stage),
            RoundNews::Spared { journey, count } => {
                self.registry.add(&catalogue::journey::ROUNDS_SPARED, &[&journey], count as f64);
            }
            RoundNews::Ended { journey, evidence, at, tally, before, specimen } => {
                // A round ends under the plan that it began with, of which it is evidence alone.
                if self.plan.journey(&journey).is_some_and(|own| own.evidence == evidence) {
                    match before {
                        None => self.ended(&journey, at, &tally, now),
                        Some(before) => self.mended(&journey, at, (&before, &tally), now),
                    }
                    if let Some(specimen) = specimen {
                        self.keep_specimen(&journey, *specimen);
                    }
                }
            }
            RoundNews::Rechecked { journey, evidence, stage, after, at, result } => {
                let of = (journey, stage, after);
                self.counted_back(&of, &result);
                // As with the round itself: of what the plan asks no more it is no evidence.
                if self.plan.journey(&of.0).is_some_and(|own| own.evidence == evidence) {
                    self.looked_back(&of, at, &result, now);
                }
            }
        }
    }

    /// Judges every gate.
    pub(super) fn judge(&mut self, now: Now) {
        self.judge_those(now, |_| true);
        self.note(now);
    }

    /// Judges the gates whose pace it is.
    pub(super) fn judge_due(&mut self, now: Now) {
        self.judge_those(now, |paced| paced.is_due(now.mono));
        self.note(now);
    }

    /// Judges those that were not judged with the others, as of then: who asks sees all gates as of
    /// one instant.
    pub(super) fn judge_rest(&mut self) {
        let now = self.judged;
        self.judge_those(now, |paced| paced.judged != Some(now.mono));
    }

    fn judge_those(&mut self, now: Now, those: impl Fn(&Paced) -> bool) {
        if self.closed {
            return;
        }
        let plan = self.plan.clone();
        if self.paced.len() != plan.gates.len() {
            let paced = |gate| Paced { judged: None, window: shortest_window(gate) };
            self.paced = plan.gates.iter().map(paced).collect();
        }
        self.tracks.forget_departed(now.mono);
        let mut findings = std::mem::take(&mut self.findings);
        let load = gate::spans(&self.load);
        for (index, gate) in plan.gates.iter().enumerate() {
            let Some(paced) = self.paced.get_mut(index) else { continue };
            if !those(paced) && findings.len() > index {
                continue;
            }
            paced.judged = Some(now.mono);
            let evidence = Evidence { tracks: &self.tracks, journeys: &self.journeys, load: &load };
            let standing = self.standings.get(&gate.id).cloned().unwrap_or_default();
            let (mut finding, next) = gate::judge(gate, &evidence, &standing, now);
            self.explain(gate, &mut finding, now);
            let named = self.attribute(gate, &mut finding, now);
            if next != standing {
                self.store.standing(&gate.id, &next);
                self.standings.insert(gate.id.clone(), next);
            }
            let before = findings.get(index).map(|finding: &Finding| finding.verdict);
            if before.is_some_and(|before| before != finding.verdict) {
                let text = finding.reason.as_ref().map(|why| why.text.as_str()).unwrap_or_default();
                let from = before.map_or("none", Verdict::word);
                tracing::info!(gate = gate.id, from, to = finding.verdict.word(), text, "verdict");
                self.store.verdict_change(VerdictChange {
                    gate: gate.id.clone(),
                    from: before.map(Verdict::word),
                    to: finding.verdict.word(),
                    at: now.wall,
                    text: text.to_owned(),
                });
                if !named {
                    self.look_into(gate, &finding, now);
                    self.name_later(&gate.id, now);
                }
            }
            match findings.get_mut(index) {
                Some(before) => *before = finding,
                None => findings.push(finding),
            }
        }
        self.findings = findings;
    }

    /// Nothing is tried any more: what was found stands.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// What is kept of each judging.
    fn note(&mut self, now: Now) {
        self.judged = now;
        self.name_what_turned(now);
        let plan = self.plan.clone();
        let values = self.findings.iter().map(|finding| finding.value);
        let ids = plan.gates.iter().map(|gate| gate.id.as_str());
        Arc::make_mut(&mut self.history).push(ids.zip(values));
        self.archive(now);
    }

    pub(super) fn judged(&self) -> Judged {
        Judged { at: self.judged }
    }

    /// When the next seconds of the node are of interest.
    pub(super) fn patience(&self) -> Patience {
        let shortest = self.paced.iter().map(|paced| paced.window).min().unwrap_or(Duration::MAX);
        let seconds = pace(shortest).as_secs();
        let seconds = if self.captures.is_looking() { 1 } else { seconds };
        Patience { seconds: seconds as usize, crossing: self.captures.ready() }
    }

    fn decision(&self) -> Decision {
        let gates = self.plan.gates.iter().zip(&self.findings);
        ledger::decide(gates.map(|(gate, finding)| (gate.level, finding.verdict)))
    }

    /// Leaves the report where `report` finds it: each minute, and when the decision changes.
    fn archive(&mut self, now: Now) {
        if self.closed {
            return;
        }
        let decision = self.decision();
        let is_new = self
            .archived
            .is_none_or(|(at, before)| before != decision || now.mono.since(at) >= ARCHIVE);
        if is_new {
            self.store.archive_report(now, &self.document());
            self.archived = Some((now.mono, decision));
        }
    }

    /// What was judged last.
    pub(super) fn snapshot(&self) -> Snapshot {
        let undecided = self.findings.iter().filter(|finding| finding.may_change()).count();
        Snapshot {
            plan: self.plan.json.clone(),
            document: Arc::new(self.document()),
            undecided,
            running: self
                .running
                .iter()
                .map(|(check, target)| format!("{check} {target}"))
                .collect(),
            history: self.history.clone(),
            captures: self.captured(),
            store: self.store.state(),
        }
    }

    /// The exposition, with each gate as it was judged last.
    pub(super) fn write_metrics(&mut self, format: Format) -> Vec<u8> {
        self.export_self();
        self.export_node();
        self.export_findings();
        // A little more than the last time: room that is made later is copied into.
        let mut text = Vec::with_capacity(self.exposed + self.exposed / 16);
        self.registry.write(format, &mut text);
        self.exposed = text.len();
        text
    }
}

/// When a gate was judged last, and its shortest window.
struct Paced {
    judged: Option<Mono>,
    window: Duration,
}

impl Paced {
    fn is_due(&self, now: Mono) -> bool {
        // Seconds come a little early or late.
        let pace = pace(self.window).saturating_sub(Duration::from_millis(500));
        self.judged.is_none_or(|judged| now.since(judged) >= pace)
    }
}

/// A gate is judged as often as its answer can be another: what a window of a minute held a quarter of
/// a minute ago it holds now. Besides, it is judged whenever somebody asks for the report.
fn pace(window: Duration) -> Duration {
    (window / 4).clamp(Duration::from_secs(1), JUDGE_AT_LEAST_EVERY)
}

fn shortest_window(gate: &Gate) -> Duration {
    let criteria = gate.require.criteria().into_iter();
    // Of the newest attempt it only matters what it is when somebody asks.
    let windows = criteria.filter(|criterion| criterion.function != Function::Last);
    windows.map(Criterion::window).min().unwrap_or(Duration::MAX)
}

/// The series that every check has, and those of its kind.
fn of_check(check: &Check) -> impl Iterator<Item = &'static Metric> + use<> {
    [&metric::CHECK_SUCCESS, &metric::CHECK_ATTEMPT]
        .into_iter()
        .chain(check.metrics.iter().copied())
        .filter(|metric| metric.series.is_some())
}

/// A sample goes where its metric's type says.
fn export(registry: &mut Registry, metric: &'static Metric, labels: &[&str], value: f64) {
    match metric.kind {
        Kind::Histogram(_) => registry.observe(metric, labels, value),
        Kind::Gauge => registry.set(metric, labels, value),
        Kind::Counter => registry.add(metric, labels, value),
    }
}

fn texts(plan: &Plan, boundaries: &gate::promql::Boundaries) -> Vec<Texts> {
    plan.gates.iter().map(|gate| Texts::of(gate, boundaries)).collect()
}

fn of_metric(boundaries: &gate::promql::Boundaries, metric: &Metric) -> Vec<f64> {
    boundaries.get(metric.name).cloned().unwrap_or_default()
}
