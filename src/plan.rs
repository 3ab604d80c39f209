//! Everything one agent will do: config and packs, compiled and validated, with a digest.
//!
//! The only room that knows every spec. Compiling reports all mistakes at once; nothing binds,
//! sends or writes before it has succeeded.

mod checks;
mod gates;
mod journeys;
pub mod load;
pub mod packs;
mod peers;
pub mod reference;
pub mod schema;
mod share;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use checks::{Check, Targets};
pub use gates::UNKNOWN_FACT;
pub use journeys::{Chosen, Equals, Journey, StagePlan, Twin};
pub use peers::{PEERS_LIMIT, Peer, Peers};

use crate::catalogue;
use crate::gate::{Gate, Selection, Subject};
use crate::outcome::Fault;
use crate::render::rules::Watched;
use crate::series::{LabelNames, NODE_CHECK};
use crate::spec::secret::Secret;
use crate::spec::selector::Labels;
use crate::spec::units::Period;
use crate::spec::{AllowedTimes, Diagnostics, Fields, Node, Sources, decode};

/// The plan in force.
#[derive(Clone)]
pub struct Plan {
    /// SHA-256 of the canonical plan, in hex.
    pub digest: String,
    /// The files and packs it was made of, in the order they were read.
    pub sources: Vec<String>,
    pub node: NodeName,
    /// What the series of the node itself are evidence of.
    pub evidence: Arc<str>,
    /// The declared fleet; this node where the plan declares none.
    pub nodes: Vec<String>,
    pub peers: Peers,
    pub checks: Vec<Check>,
    pub journeys: Vec<Journey>,
    pub gates: Vec<Gate>,
    /// The facts that gates hang on, as they were when it was compiled.
    pub facts: BTreeMap<String, Option<String>>,
    /// What it says and hardly means, with its lines; empty where there is nothing.
    pub warnings: String,
    /// Everything secret that the kinds use; loaded before anything starts.
    pub secrets: Vec<Secret>,
    /// The compiled plan as `plan -o json` shows it, secrets as references.
    pub json: Arc<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    pub name: String,
    pub labels: Labels,
}

/// What compiling needs to know of this node; read once by the caller, so that compiling is pure
/// but for the files it includes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub hostname: String,
    pub facts: BTreeMap<String, String>,
}

/// This node, and the declared fleet that it is part of.
#[derive(Clone, Copy)]
struct Fleet<'a> {
    node: &'a str,
    nodes: &'a [String],
}

/// Why there is no plan: every mistake, ready to print.
#[derive(Debug)]
pub struct Invalid {
    pub sources: Sources,
    pub diagnostics: Diagnostics,
}

impl Invalid {
    /// For who wanted to start with it.
    pub fn render(&self, colour: bool) -> String {
        format!("{}; nothing was started\n", self.mistakes(colour))
    }

    /// What comes of them is for the caller to say.
    pub fn mistakes(&self, colour: bool) -> String {
        let text = self.diagnostics.render(&self.sources, colour);
        format!("{} in the plan", text.trim_end())
    }
}

impl Plan {
    /// Compiles what `inputs` name. All mistakes, or the plan.
    pub fn compile(inputs: &load::Inputs, facts: &Facts) -> Result<Self, Box<Invalid>> {
        let mut diagnostics = Diagnostics::default();
        let mut loaded = load::load(inputs, &mut diagnostics);
        loaded.substitute(&mut diagnostics);
        loaded.read_usecases(&mut diagnostics);
        let plan = assemble(&loaded, facts, &mut diagnostics);
        match plan {
            Some(plan) if diagnostics.is_empty() => {
                Ok(Self { warnings: diagnostics.warnings(&loaded.sources), ..plan })
            }
            _ => Err(Box::new(Invalid { sources: loaded.sources, diagnostics })),
        }
    }

    /// Runs the commands of secrets that have given none yet, and says what can't be read; an
    /// attempt that needs it says so itself. Blocks: call it before the runtime, or in a cell.
    pub fn load_secrets(&self) -> Vec<Fault> {
        let mut lacking: Vec<Fault> = Vec::new();
        for fault in self.secrets.iter().filter_map(|secret| secret.load().err()) {
            if !lacking.contains(&fault) {
                lacking.push(fault);
            }
        }
        lacking
    }

    /// Whether the command of a secret has still to be run.
    pub fn lacks_secrets(&self) -> bool {
        self.secrets.iter().any(|secret| secret.is_command() && secret.reveal().is_err())
    }

    /// The same plan with other members of its peers, which are no part of its digest.
    #[must_use]
    pub fn with_peers(&self, peers: Peers) -> Self {
        Self { peers, ..self.clone() }
    }

    /// Whether this check is to try this target.
    pub fn is_due(&self, check: &str, target: &str) -> bool {
        self.check(check)
            .is_some_and(|check| check.resolve(&self.peers).iter().any(|own| **own == *target))
    }

    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| &*check.id == id)
    }

    pub fn journey(&self, id: &str) -> Option<&Journey> {
        self.journeys.iter().find(|journey| &*journey.id == id)
    }

    /// How long `check` runs by default: what the slowest gate needs for a covered window: the
    /// window, one interval, and `give_up` where it judges a journey.
    pub fn covering_time(&self) -> Duration {
        self.gates.iter().map(|gate| self.covering_time_of(gate)).max().unwrap_or_default()
    }

    /// Each gate with what it is judged from and how often that is due: what the alert rules need.
    pub fn watched(&self) -> Vec<Watched<'_>> {
        self.gates.iter().map(|gate| self.watched_by(gate)).collect()
    }

    fn watched_by<'a>(&'a self, gate: &'a Gate) -> Watched<'a> {
        let open_for = self.covering_time_of(gate);
        let mut watched = Watched { gate, checks: Vec::new(), journeys: Vec::new(), open_for };
        let journey = |id: Option<&str>| {
            let all = self.journeys.iter().filter(move |own| id.is_none_or(|id| *own.id == *id));
            all.map(|own| (own.id.to_string(), own.every)).collect::<Vec<_>>()
        };
        for criterion in gate.require.criteria() {
            match &criterion.subject {
                Subject::Journey { journey: id, .. } => watched.journeys.extend(journey(Some(id))),
                Subject::Series(selection) => match LabelNames::of(selection.metric).check {
                    Some("journey") => {
                        watched.journeys.extend(journey(selection.check.as_deref()));
                    }
                    Some(_) => {
                        let checks = self.checks.iter().filter(|check| {
                            check.yields(selection.metric)
                                && selection.check.as_deref().is_none_or(|id| *id == *check.id)
                        });
                        watched.checks.extend(checks.map(|own| (own.id.to_string(), own.every)));
                    }
                    // The node's own series come with every scrape of its agent.
                    None => {}
                },
            }
        }
        watched.checks.sort();
        watched.checks.dedup();
        watched.journeys.sort();
        watched.journeys.dedup();
        watched
    }

    fn covering_time_of(&self, gate: &Gate) -> Duration {
        let mut longest = Duration::ZERO;
        for criterion in gate.require.criteria() {
            let window = criterion.window() + criterion.stable_for.unwrap_or_default();
            let more = match &criterion.subject {
                Subject::Journey { journey, .. } => self.journey_time(journey),
                Subject::Series(selection)
                    if selection.metric.labels.first() == Some(&"journey") =>
                {
                    let later = self.longest_recheck(selection);
                    later
                        + match &selection.check {
                            Some(journey) => self.journey_time(journey),
                            None => self
                                .journeys
                                .iter()
                                .map(|j| self.journey_time(&j.id))
                                .max()
                                .unwrap_or_default(),
                        }
                }
                Subject::Series(selection) => self
                    .checks
                    .iter()
                    .filter(|check| check.yields(selection.metric))
                    .filter(|check| selection.check.as_deref().is_none_or(|id| *id == *check.id))
                    .map(|check| check.every)
                    .max()
                    .unwrap_or(Duration::from_secs(1)),
            };
            longest = longest.max(window + more);
        }
        longest
    }

    /// How long after a round what a selection of look-backs is about comes at the latest.
    fn longest_recheck(&self, selection: &Selection) -> Duration {
        if *selection.metric != catalogue::journey::VANISHED {
            return Duration::ZERO;
        }
        let resolved = selection.resolved();
        let chosen = resolved.rest.iter().find(|(name, _)| *name == "after");
        if let Some(after) = chosen.and_then(|(_, after)| after.parse::<Period>().ok()) {
            return after.0;
        }
        let of = |journey: &&Journey| resolved.check.is_none_or(|id| *id == *journey.id);
        let stages = self.journeys.iter().filter(of).flat_map(|journey| &journey.stages);
        stages.flat_map(|stage| stage.recheck.iter().copied()).max().unwrap_or_default()
    }

    fn journey_time(&self, id: &str) -> Duration {
        let Some(journey) = self.journey(id) else { return Duration::ZERO };
        journey.every + journey.give_up()
    }
}

/// An id stands for one thing of its kind: None where it is there already, which is told of things
/// with other mistakes too.
fn once(
    node: &Node,
    kind: &str,
    seen: &mut BTreeSet<String>,
    diagnostics: &mut Diagnostics,
) -> Option<()> {
    let Some(at) = node.get("id") else { return Some(()) };
    let Some(id) = at.as_str() else { return Some(()) };
    if id.trim().is_empty() {
        diagnostics.error(at.span, format!("the id of a {kind} is empty"));
        return None;
    }
    if seen.insert(id.to_owned()) {
        return Some(());
    }
    diagnostics.error(node.span, format!("a {kind} `{id}` is there already"));
    None
}

/// The key `allowed_times` of checks and journeys.
fn allowed_times(fields: &mut Fields, diagnostics: &mut Diagnostics) -> AllowedTimes {
    let Some(node) = fields.take_node("allowed_times") else { return AllowedTimes::default() };
    let times = decode::<AllowedTimes>(&node, diagnostics).unwrap_or_default();
    if node.as_list().is_some_and(|list| list.is_empty()) {
        diagnostics
            .error(node.span, "`allowed_times` holds no time: it would never run")
            .expected("hours in UTC, such as `[ \"22:00-06:00\" ]`, or no such key");
    }
    times
}

/// What is written only where it was said.
fn when_and_where(map: &mut serde_json::Map<String, Value>, times: &AllowedTimes, shared: bool) {
    if !times.is_always() {
        map.insert("allowed_times".into(), json!(times));
    }
    if shared {
        map.insert("shared".into(), json!(true));
    }
}

/// The keys of the plan file.
pub const TOP_LEVEL: [&str; 8] =
    ["vars", "node", "nodes", "include", "peers", "checks", "journeys", "gates"];

fn assemble(loaded: &load::Loaded, facts: &Facts, diagnostics: &mut Diagnostics) -> Option<Plan> {
    let node = load::node_name(loaded, facts, diagnostics);
    let nodes = load::declared_nodes(loaded, diagnostics);
    let peers = peers::compile(loaded, diagnostics);
    let fleet = Fleet { node: &node.name, nodes: &nodes };
    let checks = checks::compile(loaded, fleet, diagnostics);
    let journeys = journeys::compile(loaded, fleet, diagnostics);
    let known = gates::Known {
        checks: &checks,
        journeys: &journeys,
        vars: &loaded.vars,
        facts,
        asked: RefCell::default(),
        member: nodes.contains(&node.name),
        check_ids: loaded.ids("checks"),
        journey_ids: loaded.ids("journeys"),
    };
    let gates = gates::compile(loaded, &known, diagnostics);
    let asked = known.asked.take();
    if !diagnostics.is_empty() {
        return None;
    }
    // `--var a=2` and `vars: { a: 2 }` say the same: a variable is put in as text.
    let set = loaded.vars.iter().filter(|(_, value)| !value.is_null());
    let texts = set.map(|(name, value)| (name, load::text(value)));
    let mut body = json!({
        "vars": texts.collect::<BTreeMap<_, _>>(),
        "nodes": nodes,
        "peers": peers.json(),
        "checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        "journeys": journeys.iter().map(Journey::json).collect::<Vec<_>>(),
        "gates": gates.iter().map(gates::json).collect::<Vec<_>>(),
    });
    // What a gate says of itself follows from what was written, and from what its node has.
    let mut written = body.clone();
    for gate in written["gates"].as_array_mut().into_iter().flatten() {
        gate.as_object_mut().map(|gate| gate.remove("criterion"));
    }
    let digest = digest(&written);
    // Only shown: the members of selectors are no part of the digest, and a fleet that is only this
    // node is the default, whose name is none either.
    let nodes = if nodes.is_empty() { vec![node.name.clone()] } else { nodes };
    if let Some(body) = body.as_object_mut() {
        body.insert("vars".into(), json!(loaded.vars));
        body.insert("nodes".into(), json!(nodes));
        body.insert("peers".into(), peers.json_with_members());
    }
    let mut whole = json!({
        "version": 1,
        "digest": digest,
        "sources": loaded.names(),
        "node": { "name": node.name, "labels": node.labels },
    });
    if let (Some(whole), Value::Object(body)) = (whole.as_object_mut(), body) {
        whole.extend(body);
        whole.insert("effects".into(), effects(&checks, &journeys));
        whole.insert("purge".into(), purge(&journeys));
    }
    Some(Plan {
        digest,
        sources: loaded.names(),
        evidence: evidence(&node.name, &json!(NODE_CHECK)),
        node,
        nodes,
        peers,
        checks,
        journeys,
        gates: gates.into_iter().map(|compiled| compiled.gate).collect(),
        facts: asked,
        warnings: String::new(),
        secrets: diagnostics.take_secrets(),
        json: Arc::new(whole),
    })
}

/// Every side effect, check by check and journey by journey.
fn effects(checks: &[Check], journeys: &[Journey]) -> Value {
    let of_checks = checks.iter().flat_map(|check| {
        check.effects().into_iter().map(move |effect| {
            json!({ "check": &*check.id, "every": check.every_text(), "what": effect.what, "needs": effect.needs })
        })
    });
    let of_journeys = journeys.iter().flat_map(|journey| {
        journey.effects().into_iter().map(move |(when, effect)| {
            json!({ "journey": &*journey.id, "every": when, "what": effect.what, "needs": effect.needs })
        })
    });
    Value::Array(of_checks.chain(of_journeys).collect())
}

/// How what the journeys leave behind is deleted.
fn purge(journeys: &[Journey]) -> Value {
    let of = |journey: &Journey| {
        let id = journey.id.clone();
        journey.purges().into_iter().map(move |(stage, kind, how)| {
            json!({ "journey": &*id, "stage": stage.word(), "kind": kind, "how": how })
        })
    };
    journeys.iter().flat_map(of).collect()
}

/// A short name of what something is evidence of: what one node saw says nothing of another, whose
/// state may be a copy of its.
fn evidence(node: &str, of: &Value) -> Arc<str> {
    digest(&json!([node, of])).get(..16).unwrap_or_default().into()
}

/// SHA-256 over the JSON with its keys sorted, so that the order in which a plan is written says
/// nothing.
fn digest(body: &Value) -> String {
    let hash = Sha256::digest(canonical(body).to_string().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> =
                map.iter().map(|(k, v)| (k.clone(), canonical(v))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
