//! Rules over several events: correlations, and the aggregates of old conditions.
//!
//! The evaluator proves each event. That they are so many, of so many values or in this order is
//! arithmetic, and is done here.

use std::time::Duration;

use serde_json::Value;

use super::atom::{Atom, Event, Test, Vars, text_of};
use super::condition::{Aggregate, Expr, Named, Op};
use super::layout::{Layouts, Rendered};
use super::make::{Pair, Prepared};
use super::pattern::Pattern;
use super::refusal::{Refusal, Why};
use super::rule::{Correlation, Rule};
use super::usecase::Step;

/// A round has no more.
const EVENTS_LIMIT: u64 = crate::journey::event::COUNT_LIMIT;
/// A round ends before its next begins.
const LENGTH_LIMIT: Duration = Duration::from_secs(1_800);
/// Each event of them stands for itself in the file.
const VALUES_LIMIT: u64 = 200;
/// Where an old rule gives no timeframe.
const TIMEFRAME: Duration = Duration::from_secs(300);

/// What a use case is made of.
pub(super) struct Made {
    pub(super) events: Vec<Step>,
    pub(super) benign: Vec<Step>,
    pub(super) layout: String,
    pub(super) notes: Vec<String>,
}

impl Made {
    pub(super) fn single(pair: Pair) -> Self {
        let mut notes = pair.notes;
        notes.push(format!("the twin differs in `{}`", pair.differs));
        Self {
            events: vec![Step::one(pair.sent)],
            benign: vec![Step::one(pair.twin)],
            layout: pair.layout,
            notes,
        }
    }
}

fn refused(text: impl Into<String>) -> Refusal {
    Refusal::new(Why::Correlation, text)
}

/// A field that must be there, or be this.
fn there(field: &str) -> Expr<Atom> {
    Expr::One(Atom { field: field.to_owned(), test: Test::Exists(true) })
}

fn is(field: &str, value: &Value) -> Expr<Atom> {
    let test = match value {
        Value::Number(_) | Value::Bool(_) => Test::Equals(value.clone()),
        other => Test::Like { pattern: Pattern::literal(&text_of(other)), cased: true },
    };
    Expr::One(Atom { field: field.to_owned(), test })
}

/// How many it takes, from a bound.
fn least(op: Op, bound: f64) -> Result<u64, Refusal> {
    let wanted = match op {
        Op::Gt => bound.floor() + 1.0,
        Op::Gte | Op::Eq => bound.ceil(),
        Op::Lt | Op::Lte | Op::Neq => {
            return Err(refused(
                "it asks for few events or none, which no event that is sent can make",
            ));
        }
    };
    if !(1.0..=EVENTS_LIMIT as f64).contains(&wanted) {
        return Err(refused(format!(
            "it takes {wanted} events, and a use case has 1 to {EVENTS_LIMIT}"
        )));
    }
    Ok(wanted as u64)
}

/// `selection | count() by source > 5`.
pub(super) fn aggregated(
    rule: &Rule,
    prepared: &Prepared,
    aggregate: &Aggregate,
    timeframe: Option<Duration>,
    layouts: &Layouts,
) -> Result<Made, Refusal> {
    let within = timeframe.unwrap_or(TIMEFRAME);
    let by: Vec<String> = aggregate.by.clone().into_iter().collect();
    match (aggregate.function.as_str(), &aggregate.field) {
        ("count", None) => {
            counted(prepared, least(aggregate.op, aggregate.bound)?, &by, within, layouts)
        }
        ("count", Some(field)) => {
            let least = least(aggregate.op, aggregate.bound)?;
            distinct(prepared, least, field, &by, within, layouts)
        }
        ("sum" | "min" | "max" | "avg", Some(field)) => {
            measured(prepared, field, (aggregate.op, aggregate.bound), &by, layouts)
        }
        ("near", _) => {
            let near = aggregate.near.as_ref().ok_or_else(|| refused("`near` names nothing"))?;
            let mut names = Vec::new();
            positive(near, &mut names)?;
            let mut others = Vec::new();
            for name in names {
                others.push(prepared.with(rule, name)?);
            }
            let mut each = vec![prepared];
            each.extend(&others);
            sequence(&each, &vec![Vec::new(); each.len()], false, within, layouts)
        }
        (other, _) => Err(refused(format!("the aggregate `{other}` is not made"))),
    }
}

/// The selections that must be there for a `near`; what must not be is left out.
fn positive<'a>(tree: &'a Named, names: &mut Vec<&'a str>) -> Result<(), Refusal> {
    match tree {
        Expr::One(name) => names.push(name),
        Expr::Not(_) => {}
        Expr::All(parts) => {
            for part in parts {
                positive(part, names)?;
            }
        }
        Expr::Any(parts) => {
            if let Some(first) = parts.first() {
                positive(first, names)?;
            }
        }
    }
    Ok(())
}

/// A correlation over other rules, `find` them by name or id.
pub(super) fn correlated<'a>(
    correlation: &Correlation,
    vars: &Vars,
    layouts: &Layouts,
    find: impl Fn(&str) -> Option<&'a Rule>,
) -> Result<Made, Refusal> {
    let mut each = Vec::new();
    for name in &correlation.rules {
        let rule = find(name).ok_or_else(|| {
            refused(format!("the rule `{name}` is not among those that are read"))
        })?;
        let prepared = Prepared::new(rule, vars).map_err(|mut refusal| {
            refusal.text = format!("rule `{name}`: {}", refusal.text);
            refusal
        })?;
        if prepared.aggregate.is_some() {
            return Err(refused(format!("the rule `{name}` counts events itself")));
        }
        each.push(prepared);
    }
    // A group's field has its own name in each rule.
    let groups = |rule: &str| -> Vec<String> {
        let own = |by: &String| {
            let alias = correlation.aliases.iter().find(|(alias, of, _)| alias == by && of == rule);
            alias.map_or_else(|| by.clone(), |(_, _, field)| field.clone())
        };
        correlation.by.iter().map(own).collect()
    };
    let by: Vec<Vec<String>> = correlation.rules.iter().map(|rule| groups(rule)).collect();
    let within = correlation.timespan;
    let first_by = by.first().cloned().unwrap_or_default();
    let bound = || -> Result<(Op, f64), Refusal> {
        // `gte: 3` with `lte: 10`: the lower one is what events can reach.
        let read = correlation.bounds.iter().filter_map(|(op, bound)| {
            Some((Op::parse(op)?, bound.as_f64().or_else(|| bound.as_str()?.parse().ok())?))
        });
        let mut read: Vec<(Op, f64)> = read.collect();
        read.sort_by_key(|(op, _)| matches!(op, Op::Lt | Op::Lte | Op::Neq));
        let first = read.first().copied();
        let (op, wanted) = first.ok_or_else(|| refused("its condition has no bound"))?;
        let number = least(op, wanted)? as f64;
        match read.iter().find(|(op, bound)| !op.holds(number, *bound)) {
            Some((op, bound)) => {
                Err(refused(format!("its bounds can't hold together: {} {bound}", op.word())))
            }
            None => Ok((op, wanted)),
        }
    };
    let field =
        || correlation.field.clone().ok_or_else(|| refused("its condition names no `field`"));
    let only = || match each.as_slice() {
        [only] => Ok(only),
        [first, ..] => Ok(first),
        [] => Err(refused("it names no rule")),
    };
    match correlation.kind.as_str() {
        "event_count" => {
            let (op, bound) = bound()?;
            counted(only()?, least(op, bound)?, &first_by, within, layouts)
        }
        "value_count" => {
            let (op, bound) = bound()?;
            distinct(only()?, least(op, bound)?, &field()?, &first_by, within, layouts)
        }
        "value_sum" | "value_avg" | "value_percentile" | "value_median" => {
            let read = correlation
                .bounds
                .iter()
                .find_map(|(op, bound)| Some((Op::parse(op)?, bound.as_f64()?)));
            let bound = read.ok_or_else(|| refused("its condition has no bound"))?;
            measured(only()?, &field()?, bound, &first_by, layouts)
        }
        "temporal" | "temporal_ordered" => {
            let each: Vec<&Prepared> = each.iter().collect();
            sequence(&each, &by, correlation.kind == "temporal_ordered", within, layouts)
        }
        other => Err(refused(format!("the type `{other}` is not made"))),
    }
}

/// So far apart that all of them are within a quarter of the time, and a second at most.
fn every(within: Duration, events: u64) -> Duration {
    let apart = (within / 4).min(LENGTH_LIMIT) / u32::try_from(events.max(1)).unwrap_or(u32::MAX);
    let millis = apart.as_millis().clamp(1, 1_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(1_000))
}

fn counted(
    prepared: &Prepared,
    least: u64,
    by: &[String],
    within: Duration,
    layouts: &Layouts,
) -> Result<Made, Refusal> {
    let asked: Vec<Expr<Atom>> = by.iter().map(|field| there(field)).collect();
    let pair = prepared.pair(layouts, &asked)?;
    if least == 1 {
        return Ok(Made::single(pair));
    }
    let mut notes = pair.notes.clone();
    notes.push(format!("the twin is one event less, of {least}"));
    let step = |event: Rendered, times| Step {
        times,
        every: every(within, least),
        after: Duration::ZERO,
        event,
    };
    Ok(Made {
        events: vec![step(pair.sent.clone(), least)],
        benign: vec![step(pair.sent, least - 1)],
        layout: pair.layout,
        notes,
    })
}

/// So many events that differ in one field.
fn distinct(
    prepared: &Prepared,
    least: u64,
    field: &str,
    by: &[String],
    within: Duration,
    layouts: &Layouts,
) -> Result<Made, Refusal> {
    if least > VALUES_LIMIT {
        return Err(refused(format!(
            "it takes {least} different values, and a use case has {VALUES_LIMIT} at most"
        )));
    }
    let mut asked: Vec<Expr<Atom>> = by.iter().map(|field| there(field)).collect();
    asked.push(there(field));
    let pair = prepared.pair(layouts, &asked)?;
    let layout = layouts.named(&pair.layout).ok_or_else(|| refused("its layout is gone"))?;
    let fields = prepared.fields();
    let mut events = vec![Step::one(pair.sent.clone())];
    let first = pair.event.get(field).cloned().unwrap_or(Value::Null);
    for number in 1..least * 4 {
        if events.len() as u64 == least {
            break;
        }
        let mut event: Event = pair.event.clone();
        event.insert(field.to_owned(), another(&first, number));
        if !prepared.evaluator.matches(&event) {
            continue;
        }
        if let Ok((sent, true)) = prepared.proven(layouts, layout, &event, &fields) {
            events.push(Step { after: every(within, least), ..Step::one(sent) });
        }
    }
    if (events.len() as u64) < least {
        return Err(refused(format!(
            "it takes {least} values of `{field}`, and {} were found that match",
            events.len()
        )));
    }
    let mut notes = pair.notes;
    notes.push(format!("the twin has one value of `{field}` less, of {least}"));
    let mut benign = events.clone();
    benign.pop();
    if benign.is_empty() {
        benign.push(Step::one(pair.twin));
    }
    Ok(Made { events, benign, layout: pair.layout, notes })
}

/// The value that comes so many after another.
fn another(first: &Value, number: u64) -> Value {
    if let Some(own) = first.as_i64() {
        return Value::from(own.saturating_add(i64::try_from(number).unwrap_or(i64::MAX)));
    }
    let text = text_of(first);
    if let Ok(core::net::IpAddr::V4(address)) = text.parse() {
        let next = u32::from(address).wrapping_add(u32::try_from(number).unwrap_or(0));
        return Value::from(core::net::Ipv4Addr::from(next).to_string());
    }
    // In front where the end is asked for, behind where the beginning is: one of them matches.
    match number % 2 {
        0 => Value::from(format!("{number}{text}")),
        _ => Value::from(format!("{text}{number}")),
    }
}

/// A sum, a mean, a largest or smallest: of one event it is the event's own value.
fn measured(
    prepared: &Prepared,
    field: &str,
    (op, bound): (Op, f64),
    by: &[String],
    layouts: &Layouts,
) -> Result<Made, Refusal> {
    let whole = |number: f64| -> Result<Value, Refusal> {
        if number.abs() < 9e15 {
            Ok(Value::from(number as i64))
        } else {
            Err(refused("its bound is too large"))
        }
    };
    let (hit, miss) = match op {
        Op::Gt => (bound.floor() + 1.0, bound.floor()),
        Op::Gte => (bound.ceil(), bound.ceil() - 1.0),
        Op::Eq => (bound, bound + 1.0),
        Op::Lt => (bound.ceil() - 1.0, bound.ceil()),
        Op::Lte => (bound.floor(), bound.floor() + 1.0),
        Op::Neq => (bound + 1.0, bound),
    };
    let mut asked: Vec<Expr<Atom>> = by.iter().map(|field| there(field)).collect();
    asked.push(is(field, &whole(hit)?));
    let pair = prepared.pair(layouts, &asked)?;
    let layout = layouts.named(&pair.layout).ok_or_else(|| refused("its layout is gone"))?;
    let mut event = pair.event.clone();
    event.insert(field.to_owned(), whole(miss)?);
    let (twin, _) = prepared.proven(layouts, layout, &event, &prepared.fields())?;
    let mut notes = pair.notes;
    notes.push(format!("the twin differs in `{field}`, on the other side of the bound"));
    Ok(Made {
        events: vec![Step::one(pair.sent)],
        benign: vec![Step::one(twin)],
        layout: pair.layout,
        notes,
    })
}

/// One event of each rule, all of one group. The twin lacks the last; in an ordered one it comes
/// first.
fn sequence(
    each: &[&Prepared],
    by: &[Vec<String>],
    ordered: bool,
    within: Duration,
    layouts: &Layouts,
) -> Result<Made, Refusal> {
    if each.len() < 2 {
        return Err(refused("a sequence has two events at least"));
    }
    let mut pairs: Vec<Pair> = Vec::new();
    let mut shared: Vec<Option<Value>> = Vec::new();
    for (prepared, by) in each.iter().zip(by) {
        shared.resize(by.len(), None);
        let asked: Vec<Expr<Atom>> = by
            .iter()
            .zip(&shared)
            .map(|(field, value)| {
                value.as_ref().map_or_else(|| there(field), |value| is(field, value))
            })
            .collect();
        let pair = prepared.pair(layouts, &asked).map_err(|mut refusal| {
            refusal.text = format!("one event of the sequence: {}", refusal.text);
            refusal
        })?;
        for (field, value) in by.iter().zip(&mut shared) {
            *value = pair.event.get(field).cloned();
        }
        pairs.push(pair);
    }
    let format = pairs.first().map(|pair| pair.sent.format);
    if pairs.iter().any(|pair| Some(pair.sent.format) != format) {
        return Err(refused("its events are of log sources that are written in different formats"));
    }
    let apart = every(within, each.len() as u64);
    let steps = |sent: Vec<Rendered>| -> Vec<Step> {
        let step = |(at, event)| Step {
            after: if at == 0 { Duration::ZERO } else { apart },
            ..Step::one(event)
        };
        sent.into_iter().enumerate().map(step).collect()
    };
    let sent: Vec<Rendered> = pairs.iter().map(|pair| pair.sent.clone()).collect();
    let mut other = sent.clone();
    let mut notes: Vec<String> = pairs.iter().flat_map(|pair| pair.notes.clone()).collect();
    if ordered && sent.first() != sent.last() {
        other.reverse();
        notes.push(String::from("the twin has the same events in the other order"));
    } else {
        other.pop();
        notes.push(String::from("the twin lacks the last event"));
    }
    let layout = pairs.first().map(|pair| pair.layout.clone()).unwrap_or_default();
    Ok(Made { events: steps(sent), benign: steps(other), layout, notes })
}
