//! Gates as written, compiled into the words that `gate` judges.

mod about;
mod applies;
mod during;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use about::{asks, measures};
use applies::Part;
pub use applies::UNKNOWN_FACT;

use super::load::Loaded;
use super::{Check, Facts, Journey};
use crate::catalogue::{self, Metric};
use crate::gate::{
    Bound, Criterion, Function, Gate, Level, Requirement, Selection, Subject, sentence,
};
use crate::journey::Stage;
use crate::series::{LabelNames, NODE_CHECK};
use crate::spec::units::{Period, Quantity, Share};
use crate::spec::{Diagnostics, Fields, Key, Node, Tree, decode, did_you_mean, one_of};

/// What gates may name.
pub(super) struct Known<'a> {
    pub checks: &'a [Check],
    pub journeys: &'a [Journey],
    pub vars: &'a BTreeMap<String, Value>,
    pub facts: &'a Facts,
    /// Those that some condition asked for.
    pub asked: RefCell<BTreeMap<String, Option<String>>>,
    /// Whether this node is one of those under `nodes`.
    pub member: bool,
    pub check_ids: Vec<String>,
    pub journey_ids: Vec<String>,
}

impl Known<'_> {
    /// Every id that is written, of those with mistakes too: one mistake is told once.
    fn check_ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.check_ids.iter().map(String::as_str)
    }

    fn journey_ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.journey_ids.iter().map(String::as_str)
    }

    /// The node that judges this, where nothing that it is about runs on this one.
    fn elsewhere(&self, criterion: &Criterion) -> Option<String> {
        let journey = |id: &str| {
            let journey = self.journeys.iter().find(|journey| &*journey.id == id);
            journey.and_then(|journey| journey.elsewhere.clone())
        };
        match &criterion.subject {
            Subject::Journey { journey: id, .. } => journey(id),
            Subject::Series(selection) => {
                match (LabelNames::of(selection.metric).check, &selection.check) {
                    (Some("journey"), Some(id)) => journey(id),
                    (Some("check"), Some(id)) => {
                        let check = self.checks.iter().find(|check| &*check.id == id.as_str());
                        check.and_then(|check| check.elsewhere.clone())
                    }
                    _ => None,
                }
            }
        }
    }
}

/// A gate and the canonical form of what was written.
pub(super) struct Compiled {
    pub gate: Gate,
    require: Value,
    when: Value,
}

/// The share of attempts due that may be inconclusive where the plan does not say (the contract).
const MAX_INCONCLUSIVE: f64 = 0.05;

/// The functions of a criterion, as keys; `p` and a number is a quantile.
pub(super) const FUNCTIONS: [&str; 15] = [
    "mean",
    "min",
    "max",
    "p50",
    "p90",
    "p95",
    "p99",
    "ratio",
    "increase",
    "last",
    "absent",
    "fresh",
    "loss",
    "duplicates",
    COMPLETE,
];
const COMPLETE: &str = "complete";

/// `when:` of a conditional gate: true when the named thing equals `equals` (default true).
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(super) struct WhenSpec {
    /// A variable of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub var: Option<String>,
    /// A fact of the node, such as `virtualisation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    /// A recorded decision, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// A journey, by its id: whether it sends a benign twin beside its rounds (`must_not_alert`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
}

pub(super) fn json(compiled: &Compiled) -> Value {
    let gate = &compiled.gate;
    json!({
        "id": gate.id,
        "title": gate.title,
        "level": gate.level,
        "require": compiled.require,
        "when": compiled.when,
        "refs": gate.refs,
        "why": gate.why,
        "fix": gate.fix,
        "waivable": gate.waivable,
        "max_inconclusive": gate.max_inconclusive,
        "criterion": sentence(gate),
    })
}

pub(super) fn compile(
    loaded: &Loaded,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Compiled> {
    let mut seen = BTreeSet::new();
    loaded
        .items("gates", diagnostics)
        .into_iter()
        .filter_map(|node| {
            let compiled = one(node, known, diagnostics);
            super::once(node, "gate", &mut seen, diagnostics)?;
            compiled
        })
        .collect()
}

fn one(node: &Node, known: &Known<'_>, diagnostics: &mut Diagnostics) -> Option<Compiled> {
    let mut fields = Fields::new(node, "a gate", diagnostics)?;
    let id = fields.require::<String>("id", diagnostics);
    let title = fields.take::<String>("title", diagnostics);
    let level = fields.take::<Level>("level", diagnostics);
    let refs = fields.take::<Vec<String>>("refs", diagnostics).unwrap_or_default();
    let why = fields.take::<String>("why", diagnostics);
    let fix = fields.take::<String>("fix", diagnostics);
    let waivable = fields.take::<bool>("waivable", diagnostics).unwrap_or(true);
    let max_inconclusive = fields
        .take::<Share>("max_inconclusive", diagnostics)
        .map_or(MAX_INCONCLUSIVE, |share| share.0);
    let when_node = fields.take_node("when");
    let require_node = fields.require_node("require", diagnostics);
    fields.finish(&[], diagnostics);

    let when_spec = when_node.as_ref().and_then(|node| decode::<WhenSpec>(node, diagnostics));
    let when = match (&when_node, &when_spec) {
        (Some(node), Some(spec)) => Some(applies::condition(node, spec, known, diagnostics)?),
        (Some(_), None) => return None,
        (None, _) => None,
    };
    let level = level.unwrap_or(if when.is_some() { Level::Conditional } else { Level::Mandatory });
    match (level, &when) {
        (Level::Conditional, None) => {
            diagnostics
                .error(node.span, "a conditional gate needs `when`")
                .expected("`when: { var: NAME }`, `{ fact: NAME }`, `{ decision: ID }` or `{ twin_of: JOURNEY }`");
        }
        (Level::Mandatory | Level::Optional, Some(_)) => {
            diagnostics
                .error(node.span, format!("a gate with `when` can't be {}", level.word()))
                .expected("`level: conditional`, or no `when`");
        }
        _ => {}
    }
    let require_node = require_node?;
    let require = requirement(&require_node, known, diagnostics, 0)?;
    let id = id?;
    Some(Compiled {
        gate: Gate {
            title: title.unwrap_or_else(|| id.clone()),
            id,
            level,
            require,
            when,
            refs,
            why,
            fix,
            waivable,
            max_inconclusive,
        },
        require: decode(&require_node, diagnostics).unwrap_or_default(),
        when: json!(when_spec),
    })
}

/// Groups deeper than this are a mistake, not a criterion.
const DEPTH_LIMIT: usize = 8;

fn requirement(
    node: &Node,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
    depth: usize,
) -> Option<Requirement> {
    if depth > DEPTH_LIMIT {
        diagnostics.error(node.span, format!("groups are nested deeper than {DEPTH_LIMIT}"));
        return None;
    }
    for (word, group) in [("all", Requirement::All as fn(_) -> _), ("any", Requirement::Any)] {
        let Some(parts) = node.get(word) else { continue };
        let mut fields = Fields::new(node, "a group of criteria", diagnostics)?;
        fields.take_node(word);
        fields.finish(&[], diagnostics);
        let Some(list) = parts.as_list().filter(|list| !list.is_empty()) else {
            diagnostics.error(parts.span, format!("`{word}` holds no list of criteria"));
            return None;
        };
        let mut one = |part: &Node| match applies::part(part, known, diagnostics)? {
            Part::Judged(part) => requirement(&part, known, diagnostics, depth + 1).map(Some),
            Part::Open(why) => Some(Some(Requirement::Missing(why))),
            Part::Left => Some(None),
        };
        let compiled: Vec<_> = list.iter().map(&mut one).collect();
        let parts: Vec<_> =
            compiled.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
        return Some(if parts.is_empty() {
            Requirement::Missing("no part of the group applies to this node".to_owned())
        } else {
            group(parts)
        });
    }
    if let Some(missing) = node.get("missing") {
        let mut fields = Fields::new(node, "a part that nothing measures", diagnostics)?;
        fields.take_node("missing");
        fields.finish(&[], diagnostics);
        return decode::<String>(missing, diagnostics).map(Requirement::Missing);
    }
    if let Some(needs) = applies::needs(node, diagnostics) {
        return Some(Requirement::Missing(needs));
    }
    if node.get("distinct").is_some() {
        diagnostics
            .error(node.span, "`distinct` demands nothing by itself")
            .hint("write it as a part of a group, beside what is about those names");
        return None;
    }
    match each_journey(node, known) {
        None => one_criterion(node, known, diagnostics),
        Some(each) if each.is_empty() => {
            diagnostics
                .error(node.span, "the criterion names no journey")
                .expected("the id of one, or a list of ids");
            None
        }
        Some(each) => {
            let compiled: Vec<_> =
                each.iter().map(|one| one_criterion(one, known, diagnostics)).collect();
            compiled.into_iter().collect::<Option<Vec<_>>>().map(Requirement::All)
        }
    }
}

fn one_criterion(
    node: &Node,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Requirement> {
    let criterion = criterion(node, known, diagnostics)?;
    Some(match known.elsewhere(&criterion) {
        Some(node) => Requirement::Elsewhere { criterion, node, member: known.member },
        None => Requirement::Criterion(criterion),
    })
}

/// A criterion on several journeys (a list, or ids with commas between, as a variable holds them)
/// is one criterion on each. None where it names one thing.
fn each_journey(node: &Node, known: &Known<'_>) -> Option<Vec<Node>> {
    let entries = node.as_map()?;
    let (at, (_, value)) = entries
        .iter()
        .enumerate()
        .find(|(_, (key, _))| function(&key.text).is_some_and(Function::is_of_journeys))?;
    let ids: Vec<Node> = match (value.as_list(), value.as_str()) {
        (Some(list), _) => list.to_vec(),
        (None, Some(text)) if text.contains(',') && !known.journey_ids().any(|id| id == text) => {
            let one = |id: &str| Node {
                span: value.span,
                value: Tree::Scalar { text: id.trim().to_owned(), plain: true },
            };
            text.split(',').map(one).collect()
        }
        _ => return None,
    };
    let on = |id: Node| {
        let mut entries = entries.to_vec();
        if let Some((_, value)) = entries.get_mut(at) {
            *value = id;
        }
        Node { span: node.span, value: Tree::Map(entries) }
    };
    Some(ids.into_iter().map(on).collect())
}

pub(super) fn function(key: &str) -> Option<Function> {
    Some(match key {
        "mean" => Function::Mean,
        "min" => Function::Min,
        "max" => Function::Max,
        "ratio" => Function::Ratio,
        "increase" => Function::Increase,
        "last" => Function::Last,
        "absent" => Function::Absent,
        "fresh" => Function::Fresh,
        "loss" => Function::Loss,
        "duplicates" => Function::Duplicates,
        COMPLETE => Function::Complete,
        _ => {
            let percent: f64 = key.strip_prefix('p')?.parse().ok()?;
            if !(percent > 0.0 && percent < 100.0) {
                return None;
            }
            Function::Quantile(percent / 100.0)
        }
    })
}

fn criterion(node: &Node, known: &Known<'_>, diagnostics: &mut Diagnostics) -> Option<Criterion> {
    let mut fields = Fields::new(node, "a criterion", diagnostics)?;
    let named: Vec<Key> =
        fields.keys().filter(|key| function(&key.text).is_some()).cloned().collect();
    let [key] = named.as_slice() else {
        diagnostics
            .error(
                node.span,
                if named.is_empty() {
                    "the criterion names no function"
                } else {
                    "the criterion names two functions"
                },
            )
            .expected(format!("one of {}, all, any, missing", FUNCTIONS.join(", ")));
        return None;
    };
    let function = function(&key.text)?;
    let subject_node = fields.take_node(&key.text)?;
    let where_node = fields.take_node("where");
    let over_node = fields.take_node("over").filter(|node| !node.is_null());
    let over = over_node.as_ref().and_then(|node| decode::<Period>(node, diagnostics));
    let at_least = fields.take::<u64>("at_least", diagnostics).unwrap_or(1);
    let below = fields.take_node("below");
    let above = fields.take_node("above");
    let warn = fields.take_node("warn");
    let clears = fields.take_node("clears");
    let stage_node = fields.take_node("stage");
    let during_node = fields.take_node("during");
    let sent_by = fields.take_node("sent_by");
    let of_kind = fields.take_node("of_kind");
    // Only said while the criterion is about nothing.
    fields.take_node("needs");
    let stable_for = fields.take::<Period>("stable_for", diagnostics).map(|period| period.0);
    let pooled = fields.take::<bool>("pooled", diagnostics).unwrap_or(false);
    fields.finish(
        &[
            "where",
            "over",
            "at_least",
            "below",
            "above",
            "warn",
            "clears",
            "stable_for",
            "pooled",
            "stage",
            "during",
            "sent_by",
            "of_kind",
        ],
        diagnostics,
    );

    let (subject, unit) = if function.is_of_journeys() {
        if let Some(node) = &where_node {
            diagnostics
                .error(node.span, format!("`{}` takes no `where`", key.text))
                .hint("write `stage: stored` for one stage");
        }
        let subject = journey_subject(&subject_node, stage_node.as_ref(), known, diagnostics);
        let unit = if function == Function::Duplicates {
            catalogue::Unit::Count
        } else {
            catalogue::Unit::Ratio
        };
        (subject, Some(unit))
    } else {
        if let Some(node) = &stage_node {
            diagnostics
                .error(node.span, format!("`{}` takes no `stage`", key.text))
                .hint("write `where: { journey: ..., stage: ... }`");
        }
        let metric = series(&subject_node, diagnostics);
        let selection = match metric {
            Some(metric) => selection(metric, where_node.as_ref(), known, diagnostics),
            None => {
                named_subjects(where_node.as_ref(), known, diagnostics);
                None
            }
        };
        let unit = match function {
            Function::Fresh => Some(catalogue::Unit::Seconds),
            Function::Ratio => Some(catalogue::Unit::Ratio),
            _ => metric.map(|metric| metric.unit),
        };
        (selection.map(Subject::Series), unit)
    };

    match (&sent_by, &subject) {
        (None, _) | (_, None) => {}
        (Some(at), Some(Subject::Journey { journey, .. })) => {
            about::sent_by(at, journey, known, diagnostics);
        }
        (Some(at), Some(Subject::Series(_))) => {
            diagnostics.error(at.span, format!("`{}` takes no `sent_by`", key.text));
        }
    }
    match (&of_kind, &subject) {
        (None, _) | (_, None) => {}
        (Some(at), Some(Subject::Series(Selection { check: Some(check), .. }))) => {
            about::of_kind(at, check, known, diagnostics);
        }
        (Some(at), _) => {
            diagnostics
                .error(at.span, "`of_kind` is about one check")
                .hint("name it: `where: { check: ... }`");
        }
    }
    // From here a mistake does not end the reading: the rest is looked at for others.
    let during = match (&during_node, &subject) {
        (Some(at), Some(subject)) => during::during(at, function, &key.text, subject, diagnostics),
        _ => None,
    };
    let bound = |node: &Node, up: bool, diagnostics: &mut Diagnostics| -> Option<Bound> {
        let quantity = decode::<Quantity>(node, diagnostics)?;
        match quantity.value_in(unit?) {
            Ok(value) => Some(if up { Bound::Above(value) } else { Bound::Below(value) }),
            Err(text) => {
                diagnostics.error(node.span, text);
                None
            }
        }
    };
    let up = above.is_some();
    let fail = match (&below, &above) {
        (Some(node), None) | (None, Some(node)) => bound(node, up, diagnostics),
        (Some(_), Some(node)) => {
            diagnostics
                .error(node.span, "`below` and `above` in one criterion")
                .hint("write two criteria under `all`");
            None
        }
        (None, None) if function == Function::Absent => None,
        (None, None) => {
            diagnostics
                .error(node.span, "the criterion has no threshold")
                .expected("`below` or `above`");
            None
        }
    };
    if function == Function::Fresh && up {
        diagnostics.error(node.span, "`fresh` is an age: it takes `below`");
    }
    if function == Function::Absent && fail.is_some() {
        diagnostics.error(node.span, "`absent` takes no threshold");
    }
    let warn = warn.and_then(|node| bound(&node, up, diagnostics));
    let clears = clears.and_then(|node| bound(&node, up, diagnostics));
    stricter("warn", warn, fail, node, diagnostics);
    stricter("clears", clears, fail, node, diagnostics);
    let windowless = matches!(function, Function::Last | Function::Fresh);
    let over = match over.map(|period| period.0) {
        Some(over) if over.is_zero() => {
            diagnostics.error(node.span, "a window can't be 0s");
            over
        }
        Some(over) => over,
        None if windowless => {
            fail.filter(|_| function == Function::Fresh).map_or_else(Default::default, |bound| {
                std::time::Duration::try_from_secs_f64(bound.limit()).unwrap_or_default()
            })
        }
        // What it says is no period, and that was told.
        None if over_node.is_some() => std::time::Duration::ZERO,
        None => {
            diagnostics
                .error(node.span, "the criterion has no window")
                .expected("`over`, such as `over: 15m`");
            std::time::Duration::ZERO
        }
    };
    let criterion = Criterion {
        function,
        subject: subject?,
        over,
        at_least,
        fail,
        warn,
        clears,
        stable_for,
        pooled,
        during,
    };
    about::window(&criterion, over_node.as_ref().unwrap_or(node), known, diagnostics);
    Some(criterion)
}

/// A warning beyond the failing threshold would never be seen; a failure would clear at once.
fn stricter(
    what: &str,
    bound: Option<Bound>,
    fail: Option<Bound>,
    node: &Node,
    diagnostics: &mut Diagnostics,
) {
    let (Some(bound), Some(fail)) = (bound, fail) else { return };
    if !fail.holds(bound.limit()) {
        diagnostics.error(node.span, format!("`{what}` lies beyond the failing threshold"));
    }
}

fn journey_subject(
    node: &Node,
    stage: Option<&Node>,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Subject> {
    let id = decode::<String>(node, diagnostics)?;
    let journey = named(&id, node, "journey", known.journey_ids(), diagnostics);
    let stage = match stage {
        None => None,
        Some(node) => {
            let stage = decode::<Stage>(node, diagnostics)?;
            let journey = known.journeys.iter().find(|journey| *journey.id == *id);
            if let Some(journey) = journey
                && journey.stage(stage).is_none()
            {
                diagnostics
                    .error(node.span, format!("the journey `{id}` has no stage `{}`", stage.word()))
                    .expected(
                        journey
                            .stages
                            .iter()
                            .map(|s| s.stage.word())
                            .collect::<Vec<_>>()
                            .join(", "),
                    );
                return None;
            }
            Some(stage)
        }
    };
    journey.then_some(Subject::Journey { journey: id, stage })
}

fn series(node: &Node, diagnostics: &mut Diagnostics) -> Option<&'static Metric> {
    let name = decode::<String>(node, diagnostics)?;
    let found = catalogue::series(&name);
    if found.is_none() {
        let names: Vec<&str> = catalogue::all().filter_map(|metric| metric.series).collect();
        let mistake = diagnostics.error(node.span, format!("there is no series `{name}`"));
        match did_you_mean(&name, names.iter().copied()) {
            Some(close) => mistake.hint(format!("did you mean `{close}`?")),
            None => mistake.hint("`greenlight metrics` lists them"),
        };
    }
    found
}

fn named<'a>(
    id: &str,
    node: &Node,
    what: &str,
    all: impl Iterator<Item = &'a str> + Clone,
    diagnostics: &mut Diagnostics,
) -> bool {
    if all.clone().any(|other| other == id) {
        return true;
    }
    let mistake = diagnostics.error(node.span, format!("there is no {what} `{id}` in the plan"));
    if let Some(close) = did_you_mean(id, all) {
        mistake.hint(format!("did you mean `{close}`?"));
    }
    false
}

/// The check and the journey that `where` names, looked at where the series is not known.
fn named_subjects(node: Option<&Node>, known: &Known<'_>, diagnostics: &mut Diagnostics) {
    let text = |word| node.and_then(|node| node.get(word)).and_then(|at| Some((at, at.as_str()?)));
    if let Some((at, id)) = text("check").filter(|(_, id)| *id != NODE_CHECK) {
        named(id, at, "check", known.check_ids(), diagnostics);
    }
    if let Some((at, id)) = text("journey") {
        named(id, at, "journey", known.journey_ids(), diagnostics);
    }
}

fn selection(
    metric: &'static Metric,
    node: Option<&Node>,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Selection> {
    let mut selection = Selection { metric, check: None, target: None, labels: Vec::new() };
    let Some(node) = node else { return Some(selection) };
    let labels = decode::<BTreeMap<String, String>>(node, diagnostics)?;
    let mut good = true;
    let stage = labels.get("stage").cloned();
    let names = LabelNames::of(metric);
    for (name, value) in labels {
        let at = node.get(&name).unwrap_or(node);
        let name = name.as_str();
        match names.check {
            Some("check") if name == "check" => {
                good &= named(&value, at, "check", known.check_ids(), diagnostics)
                    && measures(&value, metric, at, known, diagnostics);
                selection.check = Some(value);
            }
            Some("journey") if name == "journey" => {
                let stage = stage.as_deref();
                good &= named(&value, at, "journey", known.journey_ids(), diagnostics)
                    && asks(&value, stage, metric, at, known, diagnostics);
                selection.check = Some(value);
            }
            None if name == "check" && value == NODE_CHECK => selection.check = Some(value),
            _ if names.target == Some(name) || (name == "target" && names.check.is_none()) => {
                selection.target = Some(value);
            }
            _ if names.rest.contains(&name) => selection.labels.push((name.to_owned(), value)),
            _ => {
                let series = metric.series.unwrap_or(metric.name);
                diagnostics.error(at.span, format!("`{series}` has no label `{name}`")).expected(
                    match metric.labels {
                        [] => "no `where`: it has no labels".to_owned(),
                        labels => one_of(labels),
                    },
                );
                good = false;
            }
        }
    }
    good.then_some(selection)
}
