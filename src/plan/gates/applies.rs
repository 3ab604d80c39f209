//! What a gate, a part of a group and a criterion hang on: facts, variables, names not yet given.

use serde_json::Value;

use super::{Known, WhenSpec, function, named};
use crate::gate::When;
use crate::spec::{Diagnostics, Fields, Node, Tree, decode};

/// Of a node that shows itself each fact is known, be it false.
pub const UNKNOWN_FACT: &str = "not known: what tells it can't be seen from here (a container needs the \
     host's /proc and /sys, by --path.procfs and --path.sysfs)";

/// What becomes of a part of a group by its own `when:`.
pub(super) enum Part {
    /// It is judged: the part without its `when:`.
    Judged(Node),
    /// It is about what this node does not have.
    Left,
    /// Nobody knows.
    Open(String),
}

/// Of a criterion and its twin for nodes that lack what it looks at, one is judged, and the
/// report's sentence names that one. None is a mistake.
pub(super) fn part(node: &Node, known: &Known<'_>, diagnostics: &mut Diagnostics) -> Option<Part> {
    if node.get("distinct").is_some() {
        return distinct(node, diagnostics);
    }
    let Some((at, entries)) = node.get("when").zip(node.as_map()) else {
        return Some(Part::Judged(node.clone()));
    };
    let spec = decode::<WhenSpec>(at, diagnostics)?;
    Some(match condition(at, &spec, known, diagnostics)? {
        When::True(_) => {
            let rest = entries.iter().filter(|(key, _)| key.text != "when").cloned().collect();
            Part::Judged(Node { span: node.span, value: Tree::Map(rest) })
        }
        When::False(_) => Part::Left,
        // What its own name lacks says it better.
        When::Unset(why) => Part::Open(needs(node, diagnostics).unwrap_or(why)),
    })
}

/// Names of which each must be another: `needs` says what is lacking where two are one. What is
/// still empty is told by the parts that are about it.
fn distinct(node: &Node, diagnostics: &mut Diagnostics) -> Option<Part> {
    let mut fields = Fields::new(node, "names that must differ", diagnostics)?;
    let names = fields.require::<Vec<String>>("distinct", diagnostics);
    let needs = fields.require::<String>("needs", diagnostics);
    fields.finish(&[], diagnostics);
    let (mut names, needs) = (names?, needs?);
    names.retain(|name| !name.is_empty());
    names.sort();
    let twice = names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next);
    Some(match twice {
        Some((name, _)) => Part::Open(format!("{needs}; `{name}` is named twice")),
        None => Part::Left,
    })
}

pub(super) fn condition(
    node: &Node,
    spec: &WhenSpec,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<When> {
    let wanted = spec.equals.as_deref().unwrap_or("true");
    let (what, value) = match (&spec.var, &spec.fact, &spec.decision, &spec.twin_of) {
        (Some(name), None, None, None) => (
            format!("the variable `{name}`"),
            known.vars.get(name).filter(|value| !value.is_null()).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            }),
        ),
        (None, Some(name), None, None) => {
            let value = known.facts.facts.get(name).cloned();
            known.asked.borrow_mut().insert(name.clone(), value.clone());
            (format!("the fact `{name}` of this node"), value)
        }
        // No decision can be recorded yet, so each is unset: open, and counted as mandatory.
        (None, None, Some(id), None) => (format!("the decision `{id}`"), None),
        (None, None, None, Some(id)) if id.is_empty() => ("the journey of `twin_of`".into(), None),
        (None, None, None, Some(id)) => {
            if !named(id, node, "journey", known.journey_ids(), diagnostics) {
                return None;
            }
            // One with mistakes of its own is told of where it stands.
            let journey = known.journeys.iter().find(|journey| *journey.id == **id)?;
            let sends = journey.twin.is_some();
            (format!("whether the journey `{id}` sends a benign twin"), Some(sends.to_string()))
        }
        _ => {
            diagnostics
                .error(node.span, "`when` names not exactly one thing")
                .expected("one of `var`, `fact`, `decision`, `twin_of`");
            return None;
        }
    };
    // A `yes` must not be taken for "does not apply".
    if let Some(value) = &value
        && spec.equals.is_none()
        && value != "true"
        && value != "false"
    {
        diagnostics
            .error(node.span, format!("{what} is `{value}`, neither true nor false"))
            .hint("name the value that is meant: `equals: VALUE`");
        return None;
    }
    Some(match value {
        // Of a node that shows itself each fact is known, be it false.
        None if spec.fact.is_some() => When::Unset(format!("{what} is {UNKNOWN_FACT}")),
        None => When::Unset(format!("{what} is not set")),
        Some(value) if value == wanted => When::True(format!("{what} is {value}")),
        Some(value) => When::False(format!("{what} is {value}, not {wanted}")),
    })
}

/// A pack can't know the names of a platform's checks and journeys, nor what was agreed: they stand
/// in variables that are empty at first. A criterion about nothing, or against nothing, with
/// `needs:`, is a part that nothing measures.
pub(super) fn needs(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let needs = node.get("needs")?;
    let empty = |node: &Node| {
        node.as_str() == Some("") || node.as_list().is_some_and(|list| list.is_empty())
    };
    let chosen = node.get("where").and_then(Node::as_map).unwrap_or_default();
    let mut named = node.as_map()?.iter().filter(|(key, _)| {
        function(&key.text).is_some() || matches!(key.text.as_str(), "below" | "above")
    });
    let nothing =
        named.any(|(_, value)| empty(value)) || chosen.iter().any(|(_, value)| empty(value));
    if nothing { decode::<String>(needs, diagnostics) } else { None }
}
