//! One rule's event and its twin: found, proven by the evaluator, written down, read back and
//! proven again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::atom::{Atom, Event, TEXT, Test, Vars, selection, text_of};
use super::condition::{self, Aggregate, Expr, Named};
use super::evaluator::{Evaluator, Selection};
use super::layout::{Layout, Layouts, Rendered};
use super::refusal::{Refusal, Why};
use super::rule::{Body, LogSource, Rule};
use super::solve;

/// A truth of more parts than this is no rule that somebody wrote.
const PARTS_LIMIT: usize = 100_000;

/// A rule whose condition was read.
pub(super) struct Prepared {
    pub(super) truth: Expr<Atom>,
    pub(super) evaluator: Evaluator,
    pub(super) aggregate: Option<Aggregate>,
    pub(super) source: LogSource,
    title: String,
    selections: Vec<(String, Value, Expr<Atom>)>,
    names: Vec<String>,
}

/// An event that matches, and one that does not, as they are sent.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) event: Event,
    pub(super) sent: Rendered,
    pub(super) twin: Rendered,
    /// The field in which they differ.
    pub(super) differs: String,
    pub(super) layout: String,
    pub(super) notes: Vec<String>,
}

impl Prepared {
    pub(super) fn new(rule: &Rule, vars: &Vars) -> Result<Self, Refusal> {
        let Body::Detection { selections, conditions, .. } = &rule.body else {
            return Err(Refusal::new(
                Why::Correlation,
                "a correlation of correlations is not made",
            ));
        };
        let names: Vec<String> = selections.iter().map(|(name, _)| name.clone()).collect();
        let mut read = Vec::new();
        let mut aggregate = None;
        for text in conditions {
            let (tree, counted) = condition::parse(text, &names)?;
            if counted.is_some() && conditions.len() > 1 {
                return Err(Refusal::new(
                    Why::Correlation,
                    "several conditions, one of which counts",
                ));
            }
            aggregate = counted;
            read.push(tree);
        }
        // Only what the condition asks for has to be right: rules keep selections that they don't use.
        let mut used = BTreeSet::new();
        read.iter().for_each(|tree| names_of(tree, &mut used));
        if let Some(near) = aggregate.as_ref().and_then(|aggregate| aggregate.near.as_ref()) {
            names_of(near, &mut used);
        }
        let mut taken = Vec::new();
        for (name, value) in selections.iter().filter(|(name, _)| used.contains(name.as_str())) {
            let truth = selection(value, vars).map_err(|mut refusal| {
                refusal.text = format!("selection `{name}`: {}", refusal.text);
                refusal
            })?;
            taken.push((name.clone(), value.clone(), truth));
        }
        let logic = match conditions.as_slice() {
            [one] => one.split('|').next().unwrap_or_default().trim().to_owned(),
            // Spelled out: the evaluator takes one condition.
            _ => String::from("|"),
        };
        let tree = if read.len() == 1 { read.remove(0) } else { Expr::Any(read) };
        Self::of(rule, taken, names, &tree, &logic, aggregate)
    }

    fn of(
        rule: &Rule,
        selections: Vec<(String, Value, Expr<Atom>)>,
        names: Vec<String>,
        tree: &Named,
        written: &str,
        aggregate: Option<Aggregate>,
    ) -> Result<Self, Refusal> {
        let mut left = PARTS_LIMIT;
        let truth = filled(tree, &selections, &mut left)
            .ok_or_else(|| Refusal::new(Why::Condition, "the condition spells out to too much"))?;
        let own: Vec<Selection<'_>> = selections
            .iter()
            .map(|(name, written, read)| Selection { name, written, read })
            .collect();
        let evaluator = Evaluator::new(&own, written, tree)?;
        let (source, title) = (rule.source.clone(), rule.title.clone());
        Ok(Self { truth, evaluator, aggregate, source, title, selections, names })
    }

    /// The same rule asking for another condition over its selections.
    pub(super) fn with(&self, rule: &Rule, name: &str) -> Result<Self, Refusal> {
        let tree = Expr::One(name.to_owned());
        let selections = self.selections.iter().filter(|(own, ..)| own == name).cloned().collect();
        Self::of(rule, selections, self.names.clone(), &tree, name, None)
    }

    /// Every field that it looks at.
    pub(super) fn fields(&self) -> Vec<&str> {
        let mut fields = BTreeSet::new();
        for (_, _, truth) in &self.selections {
            fields_of(truth, &mut fields);
        }
        fields.into_iter().collect()
    }

    /// An event and its twin, with whatever is `asked` beside.
    pub(super) fn pair(&self, layouts: &Layouts, asked: &[Expr<Atom>]) -> Result<Pair, Refusal> {
        let layout = layouts
            .of(&self.source)
            .ok_or_else(|| Refusal::new(Why::Rendering, "no layout is for this log source"))?;
        let mut parts = vec![self.truth.clone()];
        parts.extend_from_slice(asked);
        let truth = Expr::All(parts);
        let defaults = |field: &str| layout.default_of(field);
        let mut last: Option<Refusal> = None;
        let found = solve::search(&truth, true, &defaults, |event, branch| {
            if !self.evaluator.matches(event) {
                let seen = serde_json::to_string(event).unwrap_or_default();
                last.get_or_insert_with(|| {
                    let text = format!("the evaluator says that this does not match: {seen}");
                    Refusal::new(Why::Evaluator, text)
                });
                return None;
            }
            match self.paired(layouts, layout, event, branch) {
                Ok(pair) => Some(pair),
                Err(refusal) => {
                    last = Some(refusal);
                    None
                }
            }
        });
        found.map_err(|_| {
            last.unwrap_or_else(|| {
                Refusal::new(Why::NoEvent, "no event was found that meets the condition")
            })
        })
    }

    fn paired(
        &self,
        layouts: &Layouts,
        layout: &Layout,
        event: &Event,
        branch: &solve::Branch<'_>,
    ) -> Result<Pair, Refusal> {
        let mut first: Option<Refusal> = None;
        let plain = layouts.plain().filter(|plain| plain.name != layout.name);
        for layout in [Some(layout), plain].into_iter().flatten() {
            match self.sent(layouts, layout, event, branch) {
                Ok(mut pair) => {
                    if let Some(refusal) = &first {
                        pair.notes.push(format!("written as {}: {}", layout.name, refusal.text));
                    }
                    return Ok(pair);
                }
                Err(refusal) => {
                    first.get_or_insert(refusal);
                }
            }
        }
        Err(first.unwrap_or_else(|| Refusal::new(Why::Rendering, "there is no layout for it")))
    }

    /// Written down by this layout, and proven from what is sent.
    fn sent(
        &self,
        layouts: &Layouts,
        layout: &Layout,
        event: &Event,
        branch: &solve::Branch<'_>,
    ) -> Result<Pair, Refusal> {
        let fields = self.fields();
        let (sent, matches) = self.proven(layouts, layout, event, &fields)?;
        if !matches {
            return Err(Refusal::new(Why::Rendering, "what is sent no longer matches"));
        }
        let mut refusal = Refusal::new(
            Why::NoTwin,
            "no event was found that differs in one field and does not match",
        );
        for (differs, twin) in twins(layout, event, branch) {
            if self.evaluator.matches(&twin) {
                continue;
            }
            match self.proven(layouts, layout, &twin, &fields) {
                // What says nothing else in its text must say something else all the same.
                Ok((twin, false)) if twin != sent => {
                    let (event, layout) = (event.clone(), layout.name.clone());
                    return Ok(Pair { event, sent, twin, differs, layout, notes: Vec::new() });
                }
                Ok(_) => {}
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }

    /// An event as it is sent, and whether the evaluator finds what it looks for in that.
    pub(super) fn proven(
        &self,
        layouts: &Layouts,
        layout: &Layout,
        event: &Event,
        fields: &[&str],
    ) -> Result<(Rendered, bool), Refusal> {
        let sent = layouts.render(layout, event, &self.title)?;
        let seen = layouts.read_back(layout, event, &sent, fields)?;
        let matches = self.evaluator.matches(&seen);
        Ok((sent, matches))
    }
}

fn names_of<'a>(tree: &'a Named, names: &mut BTreeSet<&'a str>) {
    match tree {
        Expr::One(name) => drop(names.insert(name.as_str())),
        Expr::Not(inner) => names_of(inner, names),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| names_of(part, names)),
    }
}

fn fields_of<'a>(truth: &'a Expr<Atom>, fields: &mut BTreeSet<&'a str>) {
    match truth {
        Expr::One(atom) => {
            fields.insert(&atom.field);
            if let Test::Ref { other, .. } = &atom.test {
                fields.insert(other);
            }
        }
        Expr::Not(inner) => fields_of(inner, fields),
        Expr::All(parts) | Expr::Any(parts) => {
            parts.iter().for_each(|part| fields_of(part, fields));
        }
    }
}

/// The condition with its selections in place of their names; None where that is too much.
fn filled(
    tree: &Named,
    selections: &[(String, Value, Expr<Atom>)],
    left: &mut usize,
) -> Option<Expr<Atom>> {
    let each = |parts: &[Named], left: &mut usize| {
        parts.iter().map(|part| filled(part, selections, left)).collect::<Option<Vec<_>>>()
    };
    Some(match tree {
        Expr::One(name) => {
            let (.., truth) = selections.iter().find(|(own, ..)| own == name)?;
            *left = left.checked_sub(size(truth))?;
            truth.clone()
        }
        Expr::Not(inner) => Expr::Not(Box::new(filled(inner, selections, left)?)),
        Expr::All(parts) => Expr::All(each(parts, left)?),
        Expr::Any(parts) => Expr::Any(each(parts, left)?),
    })
}

fn size(truth: &Expr<Atom>) -> usize {
    match truth {
        Expr::One(_) => 1,
        Expr::Not(inner) => 1 + size(inner),
        Expr::All(parts) | Expr::Any(parts) => 1 + parts.iter().map(size).sum::<usize>(),
    }
}

/// Events that differ from this one in one field, those first that are likely not to match: what
/// the branch asks for is something else, then what it forbids is there. What says which kind of
/// event it is comes last.
fn twins(layout: &Layout, event: &Event, branch: &solve::Branch<'_>) -> Vec<(String, Event)> {
    let mut asked: Vec<&str> = Vec::new();
    for (atom, _) in branch.iter().rev().filter(|(_, holds)| *holds) {
        if !asked.contains(&atom.field.as_str()) {
            asked.push(&atom.field);
        }
    }
    asked.sort_by_key(|field| layout.is_kind(field));
    let mut twins = Vec::new();
    let mut add = |field: &str, value: Option<Value>| {
        let mut twin = event.clone();
        match value {
            Some(value) => twin.insert(field.to_owned(), value),
            None => twin.remove(field),
        };
        if twin != *event && !twins.iter().any(|(_, other)| *other == twin) {
            twins.push((field.to_owned(), twin));
        }
    };
    for field in &asked {
        for value in others(layout, field, event.get(*field)) {
            add(field, Some(value));
        }
    }
    for field in &asked {
        add(field, None);
    }
    for (atom, _) in branch.iter().filter(|(_, holds)| !*holds) {
        let value = solve::value(&[*atom], &[], None, 0, &solve::work());
        add(&atom.field, value.flatten());
    }
    twins
}

/// Harmless values of the same sort.
fn others(layout: &Layout, field: &str, value: Option<&Value>) -> Vec<Value> {
    let mut values: Vec<Value> = layout.default_of(field).into_iter().collect();
    match value {
        Some(Value::Number(number)) => match number.as_i64() {
            Some(number) => {
                let steps = [1, -1, 1_000, -1_000];
                values.extend(steps.map(|step| Value::from(number.saturating_add(step))));
                values.push(Value::from(0));
            }
            None => values.extend([0.0, 1e6].map(Value::from)),
        },
        Some(Value::Bool(flag)) => values.push(Value::from(!flag)),
        other => {
            let text = other.map(text_of).unwrap_or_default();
            if field == TEXT {
                values.push(Value::from("nothing of note"));
            }
            if text.parse::<core::net::IpAddr>().is_ok() {
                values.extend(["198.51.100.7", "203.0.113.7", "2001:db8::7"].map(Value::from));
            }
            if let Ok(number) = text.parse::<i64>() {
                values.push(Value::from(number.saturating_add(1).to_string()));
            }
            if text.starts_with("C:\\") || text.starts_with('\\') {
                values.push(Value::from("C:\\Example\\benign.exe"));
            }
            if text.starts_with('/') {
                values.push(Value::from("/opt/example/benign"));
            }
            values.extend(["benign", "greenlight", "0", ""].map(Value::from));
        }
    }
    values
}
