//! Checks: a probe, its targets, a schedule.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Loaded;
use super::peers::Peers;
use super::{Fleet, share};
use crate::catalogue::{self, Metric};
use crate::outcome::{CheckId, TargetName};
use crate::probe::{AnyProbe, Effect, kinds};
use crate::spec::selector::Selector;
use crate::spec::units::Period;
use crate::spec::{AllowedTimes, Diagnostics, Fields, Node};

/// A check can't be due more often than this; bursts belong to one attempt (`count`).
const EVERY_LEAST: Duration = Duration::from_millis(100);
/// The one target of a kind that names none.
const SELF: &str = "self";

#[derive(Clone)]
pub struct Check {
    pub id: CheckId,
    pub probe: Arc<dyn AnyProbe>,
    pub targets: Targets,
    pub every: Duration,
    pub timeout: Duration,
    pub metrics: &'static [&'static Metric],
    /// Outside of these it does not run, and what is judged from it is open.
    pub allowed_times: AllowedTimes,
    /// The node that runs it instead of this one.
    pub elsewhere: Option<String>,
    shared: bool,
    spec: Value,
    /// What its attempts are evidence of: those of a check that asked or expected something else,
    /// under the same id, are none of this one; nor are those of another node.
    pub evidence: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    Listed(Vec<TargetName>),
    /// Resolved at run time; its members are no part of the digest.
    Peers(Selector),
}

impl Check {
    /// The targets as they are now.
    pub fn resolve(&self, peers: &Peers) -> Vec<TargetName> {
        match &self.targets {
            Targets::Listed(names) => names.clone(),
            Targets::Peers(selector) => peers.select(selector),
        }
    }

    /// Whether gates can judge this series from this check.
    pub fn yields(&self, metric: &Metric) -> bool {
        *metric == catalogue::agent::CHECK_SUCCESS
            || *metric == catalogue::agent::CHECK_ATTEMPT
            || self.metrics.contains(&metric)
    }

    pub fn every_text(&self) -> String {
        Period(self.every).to_string()
    }

    pub fn effects(&self) -> Vec<Effect> {
        match &self.targets {
            Targets::Listed(names) => {
                names.iter().flat_map(|name| self.probe.effects(name)).collect()
            }
            Targets::Peers(_) => self.probe.effects("each selected peer"),
        }
    }

    pub fn json(&self) -> Value {
        let targets = match &self.targets {
            Targets::Listed(names) => json!(names),
            Targets::Peers(selector) => json!({ "peers": selector }),
        };
        let mut value = json!({
            "id": &*self.id,
            "targets": targets,
            "every": Period(self.every).to_string(),
            "timeout": Period(self.timeout).to_string(),
        });
        if let Some(map) = value.as_object_mut() {
            map.insert(self.probe.kind().into(), self.spec.clone());
            super::when_and_where(map, &self.allowed_times, self.shared);
        }
        value
    }
}

pub(super) fn compile(
    loaded: &Loaded,
    fleet: Fleet<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Check> {
    let mut seen = BTreeSet::new();
    loaded
        .items("checks", diagnostics)
        .into_iter()
        .filter_map(|node| {
            let check = one(node, fleet, diagnostics);
            super::once(node, "check", &mut seen, diagnostics)?;
            check
        })
        .collect()
}

fn one(node: &Node, fleet: Fleet<'_>, diagnostics: &mut Diagnostics) -> Option<Check> {
    let table = kinds();
    let mut fields = Fields::new(node, "a check", diagnostics)?;
    let id = fields.require::<String>("id", diagnostics);
    let every = fields.take::<Period>("every", diagnostics).map(|period| period.0);
    let timeout_node = fields.take_node("timeout");
    let timeout = timeout_node
        .as_ref()
        .and_then(|node| crate::spec::decode::<Period>(node, diagnostics))
        .map(|period| period.0);
    let targets = fields.take_node("targets");
    let allowed_times = super::allowed_times(&mut fields, diagnostics);
    let shared = fields.take::<bool>("shared", diagnostics).unwrap_or(false);
    let names: Vec<&str> = table.iter().map(|entry| entry.kind).collect();
    let kind = fields.take_one_of(&names, diagnostics);
    fields.finish(&[], diagnostics);

    let (kind, key, spec_node) = kind?;
    let entry = table.into_iter().find(|entry| entry.kind == kind)?;
    let every = every.unwrap_or(entry.every);
    let compiled = (entry.compile)(&spec_node, diagnostics);
    if every < EVERY_LEAST {
        diagnostics
            .error(node.span, format!("`every: {}` is too often", Period(every)))
            .expected("100ms or more");
    }
    if let (Some(timeout), Some(node)) = (timeout, &timeout_node)
        && timeout > every
    {
        diagnostics
            .error(
                node.span,
                format!(
                    "the timeout {} is longer than `every`, {}",
                    Period(timeout),
                    Period(every)
                ),
            )
            .hint("two attempts of one check never run at once: ticks would be missed");
    }
    if let (Some(Duration::ZERO), Some(node)) = (timeout, &timeout_node) {
        diagnostics.error(node.span, "no attempt can succeed within 0s").expected("1ms or more");
    }
    let targets = match (entry.targets, &targets) {
        (true, Some(node)) => {
            self::targets(node, compiled.as_ref().map(|(probe, _)| &**probe), diagnostics)
        }
        (true, None) => {
            diagnostics
                .error(key.span, format!("a `{kind}` check needs `targets`"))
                .expected("a list of targets, or `{ peers: { label: value } }`");
            None
        }
        (false, Some(node)) => {
            diagnostics.error(node.span, format!("a `{kind}` check has no targets"));
            None
        }
        (false, None) => Some(Targets::Listed(vec![SELF.into()])),
    };
    let (probe, spec) = compiled?;
    let id = id?;
    // A timeout that is not written follows from `every`, which says nothing of the target.
    let written = timeout.map(|timeout| Period(timeout).to_string());
    Some(Check {
        evidence: super::evidence(fleet.node, &json!([probe.kind(), spec, written])),
        elsewhere: share::elsewhere(shared, &id, fleet.node, fleet.nodes),
        id: id.into(),
        probe,
        targets: targets?,
        every,
        // An attempt that takes all of its time must not cost the next tick.
        timeout: timeout.unwrap_or(entry.timeout.min(every * 4 / 5)),
        metrics: entry.metrics,
        allowed_times,
        shared,
        spec,
    })
}

fn targets(
    node: &Node,
    probe: Option<&dyn AnyProbe>,
    diagnostics: &mut Diagnostics,
) -> Option<Targets> {
    let Some(list) = node.as_list() else {
        if node.as_str().is_some() {
            diagnostics
                .error(node.span, "`targets` is no list")
                .expected("a list of targets, or `{ peers: { label: value } }`");
            return None;
        }
        let mut fields = Fields::new(node, "targets", diagnostics)?;
        let selector = fields.require::<Selector>("peers", diagnostics);
        fields.finish(&[], diagnostics);
        return selector.map(Targets::Peers);
    };
    if list.is_empty() {
        diagnostics.error(node.span, "no target is listed").expected("at least one");
        return None;
    }
    let mut names: Vec<TargetName> = Vec::with_capacity(list.len());
    let mut whole = true;
    for item in list {
        let Some(name) = crate::spec::decode::<String>(item, diagnostics) else {
            whole = false;
            continue;
        };
        if let Some(probe) = probe
            && let Err(expected) = probe.target(&name)
        {
            diagnostics
                .error(item.span, format!("`{name}` is no target of a `{}` check", probe.kind()))
                .expected(expected);
            whole = false;
        }
        if names.iter().any(|other| **other == *name) {
            diagnostics.error(item.span, format!("the target `{name}` is listed twice"));
            whole = false;
        }
        names.push(name.into());
    }
    whole.then_some(Targets::Listed(names))
}
