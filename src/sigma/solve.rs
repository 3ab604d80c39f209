//! An event that meets a truth: one branch of it is followed, and what it asks of each field is
//! merged into one value.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::Value;

use super::atom::{Atom, Event, How, Test, text_of};
use super::condition::Expr;
use super::generate;
use super::pattern::{MANNERS, Pattern, merged};

/// Steps of the search after which a rule is given up.
const STEPS_LIMIT: usize = 60_000;
/// Groups inside and after each other that one branch goes through: it recurses this deep.
const DEPTH_LIMIT: usize = 1_500;
/// More patterns than this no text meets that an event has room for.
const PATTERNS_LIMIT: usize = 300;
/// Characters that may be looked at, so that a rule of thousands of values ends too.
const WORK_LIMIT: u64 = 60_000_000;
/// Events that fulfil it and are refused by who asked before it is given up.
const OFFERS_LIMIT: usize = 40;

/// What one branch asks: each test, and whether it must hold.
pub(super) type Branch<'a> = Vec<(&'a Atom, bool)>;

/// Values that fields have where a rule leaves them open.
pub(super) type Defaults<'a> = &'a dyn Fn(&str) -> Option<Value>;

/// Looks for events that make the truth hold, and gives each to `accept` with the branch that it
/// follows, until that takes one.
pub(super) fn search<'a, T>(
    truth: &'a Expr<Atom>,
    holds: bool,
    defaults: Defaults<'_>,
    mut accept: impl FnMut(&Event, &Branch<'a>) -> Option<T>,
) -> Result<T, bool> {
    let mut search = Search {
        branch: Vec::new(),
        values: BTreeMap::new(),
        defaults,
        steps: 0,
        depth: 0,
        offers: 0,
        work: Cell::new(WORK_LIMIT),
        accept: &mut accept,
    };
    let goals = Goals::Goal { truth, holds, then: &Goals::Done };
    // The other way round it says whether there was anything to offer.
    search.follow(&goals).ok_or(search.offers > 0)
}

/// What is still to be met, as a list on the stack.
enum Goals<'a, 'g> {
    Done,
    Goal { truth: &'a Expr<Atom>, holds: bool, then: &'g Goals<'a, 'g> },
}

struct Search<'a, 's, T> {
    branch: Branch<'a>,
    /// What each field that is asked about is.
    values: BTreeMap<&'a str, Option<Value>>,
    defaults: Defaults<'s>,
    steps: usize,
    depth: usize,
    offers: usize,
    work: Cell<u64>,
    accept: &'s mut dyn FnMut(&Event, &Branch<'a>) -> Option<T>,
}

impl<'a, T> Search<'a, '_, T> {
    fn follow(&mut self, goals: &Goals<'a, '_>) -> Option<T> {
        self.depth += 1;
        let found = self.followed(goals);
        self.depth -= 1;
        found
    }

    fn is_over(&self) -> bool {
        self.steps > STEPS_LIMIT
            || self.offers > OFFERS_LIMIT
            || self.depth > DEPTH_LIMIT
            || self.work.get() == 0
    }

    fn followed(&mut self, goals: &Goals<'a, '_>) -> Option<T> {
        self.steps += 1;
        if self.is_over() {
            return None;
        }
        let Goals::Goal { truth, holds, then } = goals else { return self.offer() };
        let (truth, holds) = (*truth, *holds);
        match (truth, holds) {
            (Expr::Not(inner), _) => {
                self.follow(&Goals::Goal { truth: inner, holds: !holds, then })
            }
            (Expr::One(atom), _) => self.take(vec![(atom, holds)], &[], then),
            (Expr::All(parts), true) | (Expr::Any(parts), false) => self.every(parts, holds, then),
            (Expr::All(parts), false) | (Expr::Any(parts), true) => {
                // What holds already costs nothing: it is tried first.
                let event = self.event();
                let met = |part: &&Expr<Atom>| meets(part, &event) == Some(holds);
                let easy = parts.iter().filter(met);
                let rest = parts.iter().filter(|part| !met(part));
                for part in easy.chain(rest) {
                    if let Some(found) = self.follow(&Goals::Goal { truth: part, holds, then }) {
                        return Some(found);
                    }
                    if self.is_over() {
                        return None;
                    }
                }
                None
            }
        }
    }

    /// All parts: first the single tests, then the groups, those that ask for something before
    /// those that forbid.
    fn every(&mut self, parts: &'a [Expr<Atom>], holds: bool, then: &Goals<'a, '_>) -> Option<T> {
        let mut leaves = Vec::new();
        let mut groups: Vec<&'a Expr<Atom>> = Vec::new();
        for part in parts {
            match part {
                Expr::One(atom) => leaves.push((atom, holds)),
                Expr::Not(inner) => match &**inner {
                    Expr::One(atom) => leaves.push((atom, !holds)),
                    _ => groups.push(part),
                },
                _ => groups.push(part),
            }
        }
        groups.sort_by_key(|part| matches!(part, Expr::Not(_)) == holds);
        let groups: Vec<_> = groups.into_iter().map(|part| (part, holds)).collect();
        self.take(leaves, &groups, then)
    }

    /// Takes tests into the branch, and goes on where their fields can have values.
    fn take(
        &mut self,
        leaves: Vec<(&'a Atom, bool)>,
        groups: &[(&'a Expr<Atom>, bool)],
        then: &Goals<'a, '_>,
    ) -> Option<T> {
        let before = self.branch.len();
        self.branch.extend(&leaves);
        let is_ref = |atom: &Atom| matches!(atom.test, Test::Ref { .. });
        let refs: Vec<_> = leaves.iter().copied().filter(|(atom, _)| is_ref(atom)).collect();
        let mut fields: Vec<&'a str> = Vec::new();
        for (atom, _) in leaves.iter().filter(|(atom, _)| !is_ref(atom)) {
            if !fields.contains(&atom.field.as_str()) {
                fields.push(&atom.field);
            }
        }
        let known: Vec<_> = fields.iter().map(|field| self.values.get(field).cloned()).collect();
        let mut found = None;
        // A second value where nothing comes of the first.
        for skip in 0..2 {
            let mut changed = skip == 0;
            let mut solvable = true;
            for (field, known) in fields.iter().zip(&known) {
                let fits = known.as_ref().is_some_and(|known| {
                    let own = leaves.iter().filter(|(atom, _)| atom.field == *field);
                    own.into_iter().all(|(atom, holds)| of_value(atom, known.as_ref()) == *holds)
                });
                if fits {
                    continue;
                }
                let Some(value) = self.value_for(field, skip) else {
                    solvable = false;
                    break;
                };
                changed |= self.values.insert(field, value.clone()) != Some(value);
            }
            if solvable && changed {
                found = self.refer(&refs, groups, then);
            }
            if found.is_some() || !solvable || self.is_over() {
                break;
            }
        }
        for (field, known) in fields.into_iter().zip(known) {
            match known {
                Some(known) => self.values.insert(field, known),
                None => self.values.remove(field),
            };
        }
        self.branch.truncate(before);
        found
    }

    fn groups(&mut self, groups: &[(&'a Expr<Atom>, bool)], then: &Goals<'a, '_>) -> Option<T> {
        // The last is put on first, so that the first is followed first.
        match groups.split_last() {
            None => self.follow(then),
            Some(((truth, holds), front)) => {
                self.depth += 1;
                let then = Goals::Goal { truth, holds: *holds, then };
                let found = if self.is_over() { None } else { self.groups(front, &then) };
                self.depth -= 1;
                found
            }
        }
    }

    /// Fields that must be as another field, or must not.
    fn refer(
        &mut self,
        refs: &[(&'a Atom, bool)],
        groups: &[(&'a Expr<Atom>, bool)],
        then: &Goals<'a, '_>,
    ) -> Option<T> {
        let Some(((atom, holds), rest)) = refs.split_first() else {
            return self.groups(groups, then);
        };
        let Test::Ref { other, how, .. } = &atom.test else { return None };
        let (field, other) = (atom.field.as_str(), other.as_str());
        let before = [field, other].map(|name| self.values.get(name).cloned());
        let known = |at: usize| before.get(at).cloned().flatten().flatten();
        let (mut own, mut their) = (known(0), known(1));
        if *holds {
            let shared = their.or(own).unwrap_or_else(|| Value::from("greenlight"));
            let text = text_of(&shared);
            own = match known(0) {
                Some(own) if how.pattern(&text).matches(&text_of(&own), false) => Some(own),
                _ if *how == How::Is => Some(shared.clone()),
                _ => Some(Value::from(text)),
            };
            their = Some(shared);
        } else {
            own = own.or_else(|| Some(Value::from("greenlight")));
            their = their.or_else(|| Some(Value::from("another")));
        }
        self.values.insert(field, own);
        self.values.insert(other, their);
        let event = self.event();
        let touched = |atom: &Atom| atom.field == field || atom.field == other;
        let right = self
            .branch
            .iter()
            .filter(|(atom, _)| touched(atom))
            .all(|(atom, holds)| atom.matches(&event) == *holds);
        let found = if right { self.refer(rest, groups, then) } else { None };
        for (name, before) in [field, other].into_iter().zip(before) {
            match before {
                Some(value) => self.values.insert(name, value),
                None => self.values.remove(name),
            };
        }
        found
    }

    fn value_for(&self, field: &str, skip: usize) -> Option<Option<Value>> {
        let tests = self.branch.iter().filter(|(atom, _)| atom.field == field);
        let (mut must, mut must_not) = (Vec::new(), Vec::new());
        for (atom, holds) in tests {
            if matches!(atom.test, Test::Ref { .. }) {
                continue;
            }
            if *holds { must.push(*atom) } else { must_not.push(*atom) }
        }
        value(&must, &must_not, (self.defaults)(field), skip, &self.work)
    }

    fn event(&self) -> Event {
        let there = self.values.iter().filter_map(|(name, value)| {
            value.as_ref().map(|value| ((*name).to_owned(), value.clone()))
        });
        there.collect()
    }

    fn offer(&mut self) -> Option<T> {
        let event = self.event();
        if !self.branch.iter().all(|(atom, holds)| atom.matches(&event) == *holds) {
            return None;
        }
        self.offers += 1;
        (self.accept)(&event, &self.branch)
    }
}

/// Whether a truth holds of an event that may still grow; None where that is open.
fn meets(truth: &Expr<Atom>, event: &Event) -> Option<bool> {
    match truth {
        Expr::One(atom) => {
            let known = event.contains_key(&atom.field) && !matches!(atom.test, Test::Keyword(_));
            known.then(|| atom.matches(event))
        }
        Expr::Not(inner) => meets(inner, event).map(|holds| !holds),
        Expr::All(parts) => {
            let each: Vec<_> = parts.iter().map(|part| meets(part, event)).collect();
            if each.contains(&Some(false)) {
                return Some(false);
            }
            each.iter().all(|part| *part == Some(true)).then_some(true)
        }
        Expr::Any(parts) => {
            let each: Vec<_> = parts.iter().map(|part| meets(part, event)).collect();
            if each.contains(&Some(true)) {
                return Some(true);
            }
            each.iter().all(|part| *part == Some(false)).then_some(false)
        }
    }
}

fn of_value(atom: &Atom, value: Option<&Value>) -> bool {
    match (&atom.test, value) {
        (Test::Exists(wanted), value) => value.is_some() == *wanted,
        (_, None) => false,
        (test, Some(value)) => test.holds(value),
    }
}

/// A value that passes all of `must` and none of `must_not`: the `skip`th that was thought of.
/// `Some(None)` is a field that is not there.
pub(super) fn value(
    must: &[&Atom],
    must_not: &[&Atom],
    default: Option<Value>,
    skip: usize,
    work: &Cell<u64>,
) -> Option<Option<Value>> {
    let right = |value: &Option<Value>| {
        let length = value.as_ref().and_then(Value::as_str).map_or(8, |text| text.len() + 8);
        let cost = (must.len() + must_not.len() + 1) as u64 * length as u64;
        work.set(work.get().saturating_sub(cost));
        must.iter().all(|atom| of_value(atom, value.as_ref()))
            && !must_not.iter().any(|atom| of_value(atom, value.as_ref()))
    };
    let mut seen = Vec::new();
    let mut left = skip;
    candidates(must, default, &mut |value| {
        if !right(&value) || seen.contains(&value) {
            return work.get() == 0;
        }
        seen.push(value);
        let enough = left == 0;
        left = left.saturating_sub(1);
        enough
    });
    seen.pop()
}

/// For a value that is thought of outside of a search.
pub(super) fn work() -> Cell<u64> {
    Cell::new(WORK_LIMIT / 10)
}

/// Gives what may pass `must` to `enough`, until that says so.
fn candidates(
    must: &[&Atom],
    default: Option<Value>,
    enough: &mut dyn FnMut(Option<Value>) -> bool,
) {
    let text = |text: String| Some(Value::from(text));
    if must.is_empty() || must.iter().all(|atom| matches!(atom.test, Test::Exists(_))) {
        let usual = ["greenlight", "192.0.2.10", "203.0.113.77", "benign"].map(Value::from);
        let some = default.into_iter().chain(usual).chain([Value::from(1), Value::from(true)]);
        for value in some.map(Some).chain([None]) {
            if enough(value) {
                return;
            }
        }
        return;
    }
    // The default where it happens to fit reads best.
    if default.is_some() && enough(default) {
        return;
    }
    for atom in must {
        let some: Vec<Value> = match &atom.test {
            Test::Equals(value) => vec![value.clone()],
            Test::Cidr(cidr) => cidr.some().into_iter().map(Value::from).collect(),
            Test::Order(_, bound) => numbers_near(bound),
            Test::Like { pattern, .. } => {
                pattern.as_literal().map(Value::from).into_iter().collect()
            }
            _ => Vec::new(),
        };
        for value in some {
            // A number may stand where a text that is one is asked for, and the other way round.
            let other = text_of(&value);
            if enough(Some(value)) || enough(text(other)) {
                return;
            }
        }
    }
    let likes: Vec<&Pattern> = must.iter().filter_map(|atom| pattern_of(&atom.test)).collect();
    let sources: Vec<&str> = must
        .iter()
        .filter_map(|atom| match &atom.test {
            Test::Regex { source, .. } => Some(source.as_str()),
            _ => None,
        })
        .collect();
    if likes.len() > PATTERNS_LIMIT {
        return;
    }
    for manner in &MANNERS {
        let plain = merged(&likes, manner);
        let no_regex = sources.is_empty() || !likes.is_empty();
        if no_regex && enough(text(plain.clone())) {
            return;
        }
        for variant in (0..12).take_while(|_| !sources.is_empty()) {
            let made: Vec<String> =
                sources.iter().filter_map(|source| generate::text(source, variant)).collect();
            let mut made = made.join(manner.between);
            if made.parse::<i64>().is_ok() && enough(made.parse::<i64>().ok().map(Value::from)) {
                return;
            }
            if manner.lead == "greenlight " {
                made = format!("{}{made}{}", manner.lead, manner.trail);
            }
            if likes.is_empty() {
                if enough(text(made)) {
                    return;
                }
                continue;
            }
            // Parts of a regular expression go where patterns leave room.
            let inner = Pattern::literal(&made).within();
            let mut all = likes.clone();
            all.push(&inner);
            let both = [
                merged(&all, manner),
                format!("{made}{}{plain}", manner.between),
                format!("{plain}{}{made}", manner.between),
                made.clone(),
            ];
            for made in both {
                if enough(text(made)) {
                    return;
                }
            }
        }
    }
}

fn pattern_of(test: &Test) -> Option<&Pattern> {
    match test {
        Test::Like { pattern, .. } | Test::Keyword(pattern) => Some(pattern),
        _ => None,
    }
}

/// Numbers around a bound, of its own type.
fn numbers_near(bound: &Value) -> Vec<Value> {
    if let Some(bound) = bound.as_i64() {
        let steps = [1, -1, 0, 10, -10, 1_000, -1_000];
        return steps.iter().map(|step| Value::from(bound.saturating_add(*step))).collect();
    }
    let bound = bound.as_f64().unwrap_or(0.0);
    [0.5, -0.5, 0.0, 10.0, -10.0].iter().map(|step| Value::from(bound + step)).collect()
}
