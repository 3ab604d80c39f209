//! The judge of what was made: the crate `sigma-rust`, which knows nothing of how it was made.
//!
//! It reads the rule as it is written. Where it lacks a modifier, or reads one otherwise than the
//! specification does, the selection concerned is written for it in simpler tests, and what was
//! changed is told.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::atom::{Atom, Event, How, Test, text_of};
use super::condition::{Expr, Named};
use super::pattern::Pattern;
use super::refusal::{Refusal, Why};

/// A selection as it is written and as it was read.
pub(super) struct Selection<'a> {
    pub(super) name: &'a str,
    pub(super) written: &'a Value,
    pub(super) read: &'a Expr<Atom>,
}

/// A rule that events can be put to.
pub(super) struct Evaluator {
    rule: sigma_rust::Rule,
    /// What had to be written in other words.
    pub(super) rewritten: BTreeSet<&'static str>,
}

impl Evaluator {
    pub(super) fn new(
        selections: &[Selection<'_>],
        written: &str,
        condition: &Named,
    ) -> Result<Self, Refusal> {
        let mut rewritten = BTreeSet::new();
        let mut detection = Map::new();
        // Under which text each selection stands in the condition, where that is not its name.
        let mut stands: Vec<(&str, String)> = Vec::new();
        for selection in selections {
            let mut why = BTreeSet::new();
            let in_words = in_other_words(selection.written, &mut why);
            match in_words {
                Some(value) if why.is_empty() => {
                    detection.insert(selection.name.to_owned(), value);
                }
                _ => {
                    rewritten.append(&mut why);
                    let mut simple = Simple { name: selection.name, out: &mut detection, made: 0 };
                    let text = simple.write(selection.read);
                    stands.push((selection.name, text));
                }
            }
        }
        // Names and operators only, which the evaluator's reader takes apart by bytes.
        let plain =
            written.is_ascii() && !written.contains('|') && !forbids_names(written, selections);
        let text = if stands.is_empty() && plain {
            written.to_owned()
        } else {
            if stands.is_empty() {
                rewritten.insert("condition");
            }
            spelled(condition, &stands)
        };
        detection.insert(String::from("condition"), Value::from(text));
        let rule = json!({ "title": "rule", "logsource": {}, "detection": detection });
        let rule = serde_json::from_value(rule).map_err(|error| {
            Refusal::new(Why::Evaluator, format!("the evaluator can't read it: {error}"))
        })?;
        Ok(Self { rule, rewritten })
    }

    pub(super) fn matches(&self, event: &Event) -> bool {
        sigma_rust::Event::try_from(Value::Object(event.clone()))
            .is_ok_and(|event| sigma_rust::check_rule(&self.rule, &event))
    }
}

/// It counts names that begin with `_` among `them`, and knows no number but 1.
fn forbids_names(written: &str, selections: &[Selection<'_>]) -> bool {
    let lower = written.to_ascii_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let counted = words.windows(2).any(|pair| {
        pair.last() == Some(&"of")
            && !pair
                .first()
                .is_some_and(|first| matches!(first.trim_start_matches('('), "1" | "all"))
    });
    let own = selections.iter().any(|selection| selection.name.starts_with('_'));
    counted || (own && lower.contains("them"))
}

/// A selection as the evaluator reads it; `why` gets what it can't read so.
fn in_other_words(value: &Value, why: &mut BTreeSet<&'static str>) -> Option<Value> {
    match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            // Its keywords are whole values; the specification's are found anywhere in the event.
            let within =
                |item: &Value| Value::from(Pattern::parse(&text_of(item)).within().written());
            Some(Value::Array(items.iter().map(within).collect()))
        }
        Value::Array(items) => {
            let each: Option<Vec<Value>> = items
                .iter()
                .map(|item| item.is_object().then(|| in_other_words(item, why)).flatten())
                .collect();
            if each.is_none() {
                why.insert("mixed list");
            }
            each.map(Value::Array)
        }
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, value) in fields {
                out.insert(key.clone(), as_it_reads(key, value, why)?);
            }
            Some(Value::Object(out))
        }
        _ => {
            why.insert("single keyword");
            None
        }
    }
}

fn as_it_reads(key: &str, value: &Value, why: &mut BTreeSet<&'static str>) -> Option<Value> {
    let mut lacks = |what: &'static str| {
        why.insert(what);
        None
    };
    let modifiers: Vec<&str> = key.split('|').skip(1).collect();
    let has = |word: &str| modifiers.iter().any(|own| own.eq_ignore_ascii_case(word));
    let values: &[Value] = match value {
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    };
    if key.starts_with('|') {
        return lacks("keywords");
    }
    if values.iter().any(Value::is_null) {
        return lacks("null");
    }
    for word in ["windash", "expand", "neq", "i", "m", "s"] {
        if has(word) {
            return lacks(match word {
                "windash" => "windash",
                "expand" => "expand",
                "neq" => "neq",
                _ => "flags of re",
            });
        }
    }
    if has("all") && has("base64offset") {
        return lacks("base64offset with all");
    }
    if has("lt") || has("lte") || has("gt") || has("gte") {
        return if values.iter().all(Value::is_number) {
            Some(value.clone())
        } else {
            lacks("order of text")
        };
    }
    let text =
        ["contains", "startswith", "endswith", "re", "cidr", "base64", "base64offset", "fieldref"];
    if text.into_iter().any(has) {
        let quoted = |value: &Value| Value::from(text_of(value));
        return Some(match value {
            Value::Array(items) => Value::Array(items.iter().map(quoted).collect()),
            one => quoted(one),
        });
    }
    Some(value.clone())
}

/// The condition over names, with quantifiers spelled out.
fn spelled(condition: &Named, stands: &[(&str, String)]) -> String {
    match condition {
        Expr::One(name) => {
            let other = stands.iter().find(|(own, _)| own == name);
            other.map_or_else(|| name.clone(), |(_, text)| text.clone())
        }
        Expr::Not(inner) => format!("not ({})", spelled(inner, stands)),
        Expr::All(parts) => joined(parts.iter().map(|part| spelled(part, stands)), " and "),
        Expr::Any(parts) => joined(parts.iter().map(|part| spelled(part, stands)), " or "),
    }
}

/// Two by two: the evaluator's reader recurses once for each operator in a row.
fn joined(parts: impl Iterator<Item = String>, word: &str) -> String {
    let mut parts: Vec<String> = parts.collect();
    while parts.len() > 1 {
        let pair = |pair: &[String]| match pair {
            [one] => one.clone(),
            pair => format!("({})", pair.join(word)),
        };
        parts = parts.chunks(2).map(pair).collect();
    }
    parts.pop().unwrap_or_default()
}

/// A selection in single tests, each under a name of its own.
struct Simple<'a> {
    name: &'a str,
    out: &'a mut Map<String, Value>,
    made: usize,
}

impl Simple<'_> {
    fn write(&mut self, truth: &Expr<Atom>) -> String {
        match truth {
            Expr::One(atom) => {
                self.made += 1;
                let name = format!("{}__{}", self.name, self.made);
                self.out.insert(name.clone(), written(atom));
                name
            }
            Expr::Not(inner) => format!("not ({})", self.write(inner)),
            Expr::All(parts) => {
                let each: Vec<String> = parts.iter().map(|part| self.write(part)).collect();
                joined(each.into_iter(), " and ")
            }
            Expr::Any(parts) => {
                let each: Vec<String> = parts.iter().map(|part| self.write(part)).collect();
                joined(each.into_iter(), " or ")
            }
        }
    }
}

/// One test as a selection that the evaluator reads.
fn written(atom: &Atom) -> Value {
    let field = &atom.field;
    let of = |modifiers: &str, value: Value| json!({ format!("{field}{modifiers}"): value });
    match &atom.test {
        Test::Like { pattern, cased } => {
            of(if *cased { "|cased" } else { "" }, pattern.written().into())
        }
        Test::Equals(value) => of("", value.clone()),
        Test::Regex { source, .. } => of("|re", source.as_str().into()),
        Test::Cidr(cidr) => of("|cidr", format!("{}/{}", cidr.network(), cidr.bits).into()),
        Test::Order(op, bound) => of(&format!("|{}", op.word()), bound.clone()),
        Test::Exists(wanted) => of("|exists", (*wanted).into()),
        Test::Ref { other, how, cased } => {
            let how = match how {
                How::Is => "",
                How::Contains => "|contains",
                How::Starts => "|startswith",
                How::Ends => "|endswith",
            };
            let cased = if *cased { "|cased" } else { "" };
            of(&format!("|fieldref{how}{cased}"), other.as_str().into())
        }
        Test::Keyword(pattern) => json!([pattern.written()]),
    }
}
