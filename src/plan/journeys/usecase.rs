//! The use case that a journey's events are of: found, with its variables put in.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::load::Loaded;
use super::super::packs;
use super::{Journey, StagePlan};
use crate::journey::Stage;
use crate::journey::event::{EventSpec, Events, WayIn};
use crate::journey::usecase::UseCase;
use crate::spec::{Diagnostics, Fields, Node, Tree, decode, did_you_mean, vars};

/// Keys of a journey's events that a use case says itself.
const OWN: [&str; 6] = ["count", "message", "fields", "sizes", "sweep", "date_probe"];

/// A use case as a journey sends it.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub name: String,
    pub case: UseCase,
    /// What it was read from.
    node: Node,
}

/// The benign twin that is sent beside each round, and must bring no alert.
#[derive(Clone)]
pub struct Twin {
    pub events: Arc<Events>,
    chosen: Chosen,
    /// Whether it is that of the round's own use case.
    own: bool,
}

impl Twin {
    /// What the plan shows of it: another twin is another plan.
    pub(super) fn json(&self) -> Value {
        if self.own { json!(true) } else { self.chosen.json() }
    }

    pub(super) fn name(&self) -> &str {
        &self.chosen.name
    }

    /// What `must_not_alert` names: a use case, or `true` for the one that the events are of.
    pub(super) fn named(
        at: &Node,
        own: Option<&Chosen>,
        spec: &EventSpec,
        way_in: WayIn,
        loaded: &Loaded,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let (chosen, own) = if at.as_map().is_some() {
            let mut fields = Fields::new(at, "a benign twin", diagnostics)?;
            let name = fields.require_node("usecase", diagnostics);
            let vars = fields.take_node("vars");
            fields.finish(&[], diagnostics);
            (Chosen::named(&name?, vars.as_ref(), loaded, diagnostics)?, false)
        } else if decode::<bool>(at, diagnostics)? {
            let Some(own) = own else {
                diagnostics
                    .error(at.span, "the journey's events are of no use case, and have no twin")
                    .expected("`must_not_alert: { usecase: NAME }`");
                return None;
            };
            (own.clone(), true)
        } else {
            diagnostics.error(at.span, "what must not alert is not said").expected(
                "`true` for the twin of the journey's own use case, `{ usecase: NAME }`, or no \
                 such key",
            );
            return None;
        };
        if chosen.case.benign.is_empty() {
            diagnostics
                .error(at.span, format!("the use case `{}` has no `benign` twin", chosen.name));
            return None;
        }
        let events = Events::of_steps(&chosen.case, &chosen.case.benign, spec, way_in);
        let events = Arc::new(chosen.told("benign", events, diagnostics)?);
        Some(Self { events, chosen, own })
    }
}

impl Chosen {
    /// The use case that `at` names, with `vars` before its own.
    pub(super) fn named(
        at: &Node,
        vars: Option<&Node>,
        loaded: &Loaded,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let name = decode::<String>(at, diagnostics)?;
        let Some(node) = loaded.usecase(&name) else {
            let known = packs::USE_CASES.iter().map(|(name, _)| *name);
            diagnostics
                .error(at.span, format!("there is no use case `{name}`"))
                .expected(known.clone().collect::<Vec<_>>().join(", "))
                .did_you_mean(did_you_mean(&name, known));
            return None;
        };
        let mut node = node.clone();
        put_in(&mut node, vars, diagnostics)?;
        let case = decode::<UseCase>(&node, diagnostics)?;
        let before = diagnostics.len();
        case.check(&node, diagnostics);
        (diagnostics.len() == before).then_some(Self { name, case, node })
    }

    /// The events of its steps.
    pub(super) fn events(
        &self,
        at: &Node,
        spec: &EventSpec,
        way_in: WayIn,
        diagnostics: &mut Diagnostics,
    ) -> Option<Events> {
        let right = OWN.into_iter().filter_map(|key| at.get(key)).fold(true, |_, own| {
            diagnostics
                .error(own.span, "a use case says itself what its events are")
                .hint("leave it out, or change the use case: `usecases/NAME.yaml` beside the plan");
            false
        });
        if self.case.events.is_empty() {
            diagnostics.error(at.span, format!("the use case `{}` has no `events`", self.name));
            return None;
        }
        let events = Events::of_steps(&self.case, &self.case.events, spec, way_in);
        let events = self.told("events", events, diagnostics);
        events.filter(|_| right)
    }

    /// A mistake in a step is told where the step is written.
    fn told(
        &self,
        key: &str,
        events: Result<Events, (usize, String)>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Events> {
        match events {
            Ok(events) => Some(events),
            Err((step, text)) => {
                let steps = self.node.get(key).and_then(Node::as_list);
                let at = steps.and_then(|steps| steps.get(step)).unwrap_or(&self.node);
                diagnostics.error(at.span, text);
                None
            }
        }
    }

    /// With its variables put in: another text of it is another plan.
    pub(super) fn json(&self) -> Value {
        json!({ "name": self.name, "is": self.case })
    }

    /// `{alert}` in the values of a stage is the name of the alert.
    pub(super) fn name_alert(&self, stage: &mut Node) {
        if let Some(alert) = &self.case.alert {
            replace(stage, "{alert}", &alert.name);
        }
    }
}

fn replace(node: &mut Node, word: &str, with: &str) {
    match &mut node.value {
        Tree::Null => {}
        Tree::Scalar { text, .. } => *text = text.replace(word, with),
        Tree::List(items) => items.iter_mut().for_each(|item| replace(item, word, with)),
        Tree::Map(entries) => entries.iter_mut().for_each(|(_, node)| replace(node, word, with)),
    }
}

/// Puts the variables of a use case into its texts. The plan's and the environment's are none of
/// them: a use case says the same wherever it is used, but for what a journey gives it.
fn put_in(node: &mut Node, given: Option<&Node>, diagnostics: &mut Diagnostics) -> Option<()> {
    let own = match node.get("vars").filter(|vars| !vars.is_null()) {
        Some(vars) => decode::<BTreeMap<String, String>>(vars, diagnostics)?,
        None => BTreeMap::new(),
    };
    let mut values = own.clone();
    if let Some(given) = given.filter(|given| !given.is_null()) {
        for (name, value) in decode::<BTreeMap<String, String>>(given, diagnostics)? {
            if !own.contains_key(&name) {
                let at = given.get(&name).unwrap_or(given);
                diagnostics
                    .error(at.span, format!("the use case has no variable `{name}`"))
                    .did_you_mean(did_you_mean(&name, own.keys().map(String::as_str)));
                return None;
            }
            values.insert(name, value);
        }
    }
    let names: Vec<&str> = values.keys().map(String::as_str).collect();
    let before = diagnostics.len();
    if let Tree::Map(entries) = &mut node.value {
        for (_, node) in entries.iter_mut().filter(|(key, _)| key.text != "vars") {
            vars::substitute(node, &|name| values.get(name).cloned(), &names, diagnostics);
        }
    }
    (diagnostics.len() == before).then_some(())
}

/// Whether what the twin brings about would be seen, and known as its own.
pub(super) fn can_tell_of_twin(
    journey: &Journey,
    at: &Node,
    diagnostics: &mut Diagnostics,
) -> Option<()> {
    let alerts = |stage: &&StagePlan| matches!(stage.stage, Stage::Alerted | Stage::Notified);
    let mut right = false;
    for stage in journey.stages.iter().filter(alerts) {
        right = true;
        let Some(confirmer) = stage.confirmer.as_ref().filter(|seen| !seen.tells_whose()) else {
            continue;
        };
        let (kind, word) = (confirmer.kind(), stage.stage.word());
        diagnostics
            .error(
                at.span,
                format!(
                    "`{kind}` at {word} can't tell whose an alert is, the round's or its twin's"
                ),
            )
            .hint("see the alert by a way that shows its labels or its text");
        return None;
    }
    if !right {
        diagnostics
            .error(at.span, "the journey looks for no alert")
            .expected("a stage `alerted` or `notified`");
        return None;
    }
    Some(())
}
