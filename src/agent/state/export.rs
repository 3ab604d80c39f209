//! What the state exports: metrics of gates, checks and the agent itself, and the document's parts.

use std::collections::BTreeMap;

use super::{State, export};
use crate::agent::usage;
use crate::catalogue::agent as metric;
use crate::gate::{self, Gate, Verdict};
use crate::journey::tally::{StageTally, Tally};
use crate::journey::{Fate, Stage};
use crate::ledger::{
    self, CheckRow, Document, Followed, Judged, LastAttempt, RecheckRow, TargetRow, UseCaseRow,
};
use crate::metrics::{Registry, Row};
use crate::outcome::{Observation, Outcome};
use crate::plan::{Check, Journey};
use crate::spec::units::Period;
use crate::time::Now;

/// Where a gate is exported.
pub(super) struct GateRows {
    verdict: Option<Row>,
    samples: Option<Row>,
    value: Option<Row>,
}

impl GateRows {
    fn of(gate: &Gate, registry: &mut Registry) -> Self {
        Self {
            verdict: registry.row(&metric::GATE_VERDICT, &[&gate.id, gate.level.word()]),
            samples: registry.row(&metric::GATE_SAMPLES, &[&gate.id]),
            value: registry.row(&metric::GATE_VALUE, &[&gate.id]),
        }
    }
}

impl State {
    /// What does not change while a plan is in force.
    pub(super) fn say_what_is_in_force(&mut self) {
        let registry = &mut self.registry;
        let revision = option_env!("GREENLIGHT_REVISION").unwrap_or("unknown");
        registry.set(&metric::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), revision], 1.0);
        registry.set(&metric::NODE_INFO, &[&self.plan.node.name], 1.0);
        registry.set(&metric::PLAN_INFO, &[&self.plan.digest], 1.0);
        if registry.get(&metric::PLAN_RELOAD_SUCCESS, &[]).is_none() {
            registry.set(&metric::PLAN_RELOAD_SUCCESS, &[], 1.0);
        }
        for gate in &self.plan.gates {
            let thresholds = gate.require.criteria();
            // A group has many thresholds and no one of its own.
            let [criterion] = thresholds.as_slice() else { continue };
            for (severity, limit) in criterion.thresholds() {
                registry.set(&metric::GATE_THRESHOLD, &[&gate.id, severity], limit);
            }
        }
        // A counter that is there from the start shows its first increase to Prometheus.
        for journey in &self.plan.journeys {
            for stage in &journey.stages {
                let word = stage.stage.word();
                for fate in Fate::ALL {
                    registry.add(
                        &crate::catalogue::journey::EVENTS,
                        &[&journey.id, word, fate.word()],
                        0.0,
                    );
                }
                registry.add(&crate::catalogue::journey::DUPLICATES, &[&journey.id, word], 0.0);
                registry.add(&crate::catalogue::journey::RESURRECTED, &[&journey.id, word], 0.0);
                for after in &stage.recheck {
                    let after = Period(*after).to_string();
                    for result in ["kept", "vanished", "changed", "inconclusive", "found"] {
                        let labels = [&*journey.id, word, &after, result];
                        registry.add(&crate::catalogue::journey::RECHECKED, &labels, 0.0);
                    }
                }
            }
        }
        for check in &self.plan.checks {
            registry.add(&metric::SCHEDULER_MISSED, &[&check.id], 0.0);
        }
    }

    pub(super) fn export_observation(&mut self, seen: &Observation) {
        let labels = [&*seen.check, &*seen.target];
        let registry = &mut self.registry;
        registry.add(&metric::CHECK_ATTEMPTS, &labels, 1.0);
        registry.set(&metric::CHECK_LAST_ATTEMPT, &labels, seen.at.wall.seconds());
        let took = seen.took.as_secs_f64();
        registry.set(&metric::CHECK_DURATION, &labels, took);
        match &seen.reading.outcome {
            Outcome::Success => {
                registry.set(&metric::CHECK_SUCCESS, &labels, 1.0);
                registry.observe(&metric::CHECK_ATTEMPT, &labels, took);
            }
            Outcome::Failure(reason) => {
                registry.set(&metric::CHECK_SUCCESS, &labels, 0.0);
                let code = reason.code.word();
                registry.add(&metric::CHECK_FAILURES, &[labels[0], labels[1], code], 1.0);
            }
            Outcome::Inconclusive(fault) => {
                registry.clear(&metric::CHECK_SUCCESS, &labels);
                let code = fault.code.word();
                registry.add(&metric::CHECK_INCONCLUSIVE, &[labels[0], labels[1], code], 1.0);
            }
        }
        for sample in &seen.reading.samples {
            let mut all = labels.to_vec();
            all.extend(sample.labels.iter().map(|label| &**label));
            export(registry, sample.metric, &all, sample.value);
        }
    }

    pub(super) fn export_findings(&mut self) {
        let decision = self.decision();
        let registry = &mut self.registry;
        registry.set(&metric::DECISION, &[], f64::from(decision.number()));
        if self.gate_rows.len() != self.plan.gates.len() {
            let rows = |gate: &Gate| GateRows::of(gate, registry);
            self.gate_rows = self.plan.gates.iter().map(rows).collect();
        }
        for (rows, finding) in self.gate_rows.iter().zip(&self.findings) {
            let verdict = f64::from(finding.verdict.number());
            let samples = finding.samples as f64;
            let values = [(rows.verdict, Some(verdict)), (rows.samples, Some(samples))];
            for (row, value) in values.into_iter().chain([(rows.value, finding.value)]) {
                let Some(row) = row else { continue };
                match value {
                    Some(value) => registry.set_row(row, value),
                    None => registry.clear_row(row),
                };
            }
        }
    }

    pub(super) fn export_self(&mut self) {
        let store = self.store.status().borrow().clone();
        self.export_bounded();
        let registry = &mut self.registry;
        registry.set(&metric::RUNNER_IN_FLIGHT, &[], self.running.len() as f64);
        let limit = super::super::scheduler::IN_FLIGHT_LIMIT as f64;
        registry.set(&metric::RUNNER_IN_FLIGHT_LIMIT, &[], limit);
        registry.set(&metric::STORE_UP, &[], f64::from(u8::from(store.up)));
        registry.set(&metric::STORE_BYTES, &[], store.bytes as f64);
        registry.set(&metric::STORE_BYTES_LIMIT, &[], store.bytes_limit as f64);
        registry.set(&metric::STORE_ERRORS, &[], store.errors as f64);
        if let Some(usage) = usage::own() {
            registry.set(&metric::PROCESS_RESIDENT, &[], usage.resident as f64);
            registry.set(&metric::PROCESS_CPU, &[], usage.cpu.as_secs_f64());
        }
    }

    /// The document of what was judged last.
    pub(in crate::agent) fn document(&self) -> Document {
        let now = self.judged;
        let gates = self
            .plan
            .gates
            .iter()
            .zip(&self.findings)
            .zip(&self.texts)
            .map(|((gate, finding), texts)| Judged { gate, finding: finding.clone(), texts })
            .collect();
        ledger::assemble(ledger::Parts {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: ledger::Plan {
                digest: self.plan.digest.clone(),
                sources: self.plan.sources.clone(),
            },
            node: ledger::Node {
                name: self.plan.node.name.clone(),
                labels: self.plan.node.labels.clone(),
            },
            started: self.started.wall,
            finished: now.wall,
            gates,
            journeys: self.followed(),
            checks: self.check_rows(),
            load_windows: self.load.iter().map(|w| ledger::LoadRow::of(w, now)).collect(),
        })
    }

    fn followed(&self) -> Vec<Followed> {
        let total = |journey: &Journey| {
            let sum = self.totals.get(&journey.id).cloned().unwrap_or_default();
            // A journey that no round has ended of shows its stages all the same.
            let stages = journey.stages.iter().map(|plan| plan.stage);
            let stages = stages
                .map(|stage| sum.stage(stage).cloned().unwrap_or_else(|| StageTally::new(stage)));
            let mut rechecks: BTreeMap<Stage, Vec<RecheckRow>> = BTreeMap::new();
            for plan in &journey.stages {
                for after in &plan.recheck {
                    let of = (journey.id.clone(), plan.stage, *after);
                    let result = self.rechecked.get(&of).cloned().unwrap_or_default();
                    let row = RecheckRow::of(*after, &result);
                    rechecks.entry(plan.stage).or_default().push(row);
                }
            }
            Followed {
                id: journey.id.to_string(),
                usecase: journey.usecase.as_ref().map(|chosen| UseCaseRow {
                    name: chosen.name.clone(),
                    title: chosen.case.title.clone(),
                    attack: chosen.case.attack.clone(),
                }),
                tally: Tally { rounds: sum.rounds, stages: stages.collect() },
                rechecks,
                specimen: self.specimens.get(&journey.id).cloned(),
            }
        };
        self.plan.journeys.iter().map(total).collect()
    }

    fn check_rows(&self) -> Vec<CheckRow> {
        let row = |check: &Check| CheckRow {
            id: check.id.to_string(),
            kind: check.probe.kind().to_owned(),
            targets: check
                .resolve(&self.plan.peers)
                .into_iter()
                .map(|target| TargetRow {
                    last: self.last.get(&(check.id.clone(), target.clone())).map(|last| {
                        LastAttempt {
                            notes: last.notes.clone(),
                            ..LastAttempt::of(last.at, &last.outcome)
                        }
                    }),
                    target: target.to_string(),
                })
                .collect(),
        };
        self.plan.checks.iter().map(row).collect()
    }

    /// Which of a finding's checks and journeys do not run at this hour, in words.
    fn resting(&self, finding: &gate::Finding, now: Now) -> Option<String> {
        let checks = finding.checks.iter().filter_map(|id| Some((id, self.plan.check(id)?)));
        let checks = checks.map(|(id, check)| (id, &check.allowed_times));
        let journeys = finding.journeys.iter().filter_map(|id| Some((id, self.plan.journey(id)?)));
        let journeys = journeys.map(|(id, journey)| (id, &journey.allowed_times));
        let (id, times) = checks.chain(journeys).find(|(_, times)| !times.allow(now.wall))?;
        Some(format!("{id} runs only in its allowed times, {times}"))
    }

    /// What the judge could not know: why a series of the node is not there, why no round can
    /// begin, and that nothing is to run at this hour.
    pub(super) fn explain(&self, gate: &gate::Gate, finding: &mut gate::Finding, now: Now) {
        if !matches!(finding.verdict, Verdict::Error | Verdict::Open) {
            return;
        }
        if let Some(text) = self.resting(finding, now) {
            finding.verdict = Verdict::Open;
            finding.reason = Some(gate::Why::new("outside_allowed_times", text));
            return;
        }
        if !finding.journeys.is_empty()
            && let Err(why) = self.store.state()
        {
            let text = format!("no round can begin, for its run must be on disk first: {why}");
            finding.reason = Some(gate::Why::new("store", text));
            return;
        }
        if finding.verdict != Verdict::Error {
            return;
        }
        let missing = gate.require.criteria().into_iter().find_map(|criterion| {
            let gate::Subject::Series(selection) = &criterion.subject else { return None };
            let series = selection.metric.series?;
            Some((series, self.fault_of_the_node(series)?))
        });
        if let Some((series, fault)) = missing {
            let text = format!("{series} can't be measured on this node: {}", fault.text);
            finding.reason = Some(gate::Why::new(fault.code.word(), text));
        }
    }
}
