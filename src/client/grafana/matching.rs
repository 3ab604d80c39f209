//! Which columns of which frames a dashboard means: by name, by kind, by query.

use std::collections::BTreeSet;

use serde_json::Value;

use super::frame::{Field, Frame, Kind, shown_name};
use super::js::Pattern;
use super::reduce::{Reducer, reduce};

/// The kinds of matchers.
#[cfg(test)]
pub(super) const MATCHERS: &[&str] = &[
    "numeric",
    "time",
    "first",
    "firstTimeField",
    "byType",
    "byName",
    "byNames",
    "byRegexp",
    "byRegexpOrNames",
    "byFrameRefID",
    "byValue",
];

pub(super) enum Matcher {
    All,
    NotTime,
    Kind(Kind),
    First,
    FirstTime,
    Names { names: BTreeSet<String>, exclude: bool },
    Pattern(Option<Pattern>),
    Either(Box<Self>, Box<Self>),
    Query(String),
    Reduced { reducer: Option<Reducer>, op: String, value: Value },
}

pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Matcher {
    pub(super) fn names(names: impl IntoIterator<Item = String>) -> Self {
        Self::Names { names: names.into_iter().collect(), exclude: false }
    }

    /// The error says which matcher can't be computed.
    pub(super) fn of(id: &str, options: Option<&Value>) -> Result<Self, String> {
        let text = options.and_then(Value::as_str);
        let get = |key: &str| options.and_then(|options| options.get(key));
        let get_text = |key: &str| get(key).and_then(Value::as_str);
        let pattern = |text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            let pattern = text.map(Pattern::of).transpose()?;
            if pattern.as_ref().is_some_and(|pattern| pattern.global) {
                // The browser goes on from its last match then.
                return Err(format!("the pattern {:?} has the flag g", text.unwrap_or_default()));
            }
            Ok(Self::Pattern(pattern))
        };
        Ok(match id {
            "numeric" => Self::Kind(Kind::Number),
            "time" => Self::Kind(Kind::Time),
            "first" => Self::First,
            "firstTimeField" => Self::FirstTime,
            "byType" => match text.unwrap_or("number") {
                kind @ ("number" | "time" | "string" | "boolean") => Self::Kind(Kind::of(kind)),
                other => return Err(format!("columns of the type {other:?}")),
            },
            "byName" => Self::names(text.map(str::to_owned)),
            "byNames" => Self::Names {
                names: strings(get("names")).into_iter().collect(),
                exclude: get_text("mode") == Some("exclude"),
            },
            "byRegexp" => pattern(text)?,
            "byRegexpOrNames" => Self::Either(
                Box::new(Self::names(strings(get("names")))),
                Box::new(pattern(get_text("pattern"))?),
            ),
            "byFrameRefID" => Self::Query(text.unwrap_or_default().into()),
            "byValue" => {
                let reducer = get_text("reducer").filter(|id| !id.is_empty());
                Self::Reduced {
                    reducer: reducer.map(Reducer::of).transpose()?,
                    op: get_text("op").filter(|op| !op.is_empty()).unwrap_or("eq").into(),
                    value: get("value").cloned().unwrap_or(Value::Null),
                }
            }
            other => return Err(format!("the matcher {other:?} of columns is not known")),
        })
    }

    pub(super) fn matches(
        &self,
        frames: &[Frame],
        frame: usize,
        at: usize,
    ) -> Result<bool, String> {
        let owner = frames.get(frame);
        let field = owner.and_then(|owner| owner.fields.get(at));
        match (owner, field) {
            (Some(owner), Some(field)) => self.matches_field(frames, owner, at, field),
            _ => Ok(false),
        }
    }

    pub(super) fn matches_field(
        &self,
        frames: &[Frame],
        owner: &Frame,
        at: usize,
        field: &Field,
    ) -> Result<bool, String> {
        let all = Some(frames);
        Ok(match self {
            Self::All => true,
            Self::NotTime => field.kind != Kind::Time,
            Self::Kind(kind) => field.kind == *kind,
            Self::First => at == 0,
            Self::FirstTime => owner.time() == Some(at),
            Self::Names { names, exclude } => {
                let meant = names.contains(&field.name)
                    || names.contains(&shown_name(field, Some((owner, at)), all))
                    || usual(names, owner, field);
                meant != *exclude
            }
            Self::Pattern(pattern) => {
                let name = shown_name(field, Some((owner, at)), all);
                pattern.as_ref().is_some_and(|pattern| pattern.matches(&name))
            }
            Self::Either(a, b) => {
                a.matches_field(frames, owner, at, field)?
                    || b.matches_field(frames, owner, at, field)?
            }
            Self::Query(ref_id) => owner.ref_id.as_ref() == Some(ref_id),
            Self::Reduced { reducer: None, .. } => false,
            Self::Reduced { reducer: Some(reducer), op, value } => {
                let left = reduce(field, *reducer)?;
                if matches!(reducer.id().as_str(), "allIsNull" | "allIsZero") {
                    return Ok(left == super::frame::Cell::Bool(true));
                }
                let (Some(left), Some(right)) = (left.number(), value.as_f64()) else {
                    return Err("a column is meant by a value that is no number".into());
                };
                match op.as_str() {
                    "eq" => left == right,
                    "neq" => left != right,
                    "gt" => left > right,
                    "gte" => left >= right,
                    "lt" => left < right,
                    "lte" => left <= right,
                    other => return Err(format!("the comparison {other:?} is not known")),
                }
            }
        })
    }
}

/// The names that columns had before they were named by their data source.
fn usual(names: &BTreeSet<String>, frame: &Frame, field: &Field) -> bool {
    if names.contains("Value") {
        return field.label("__name__").is_some_and(|name| name == field.name);
    }
    let time = names.contains("Time") || names.contains("time");
    time && !frame.typed && field.kind == Kind::Time
}

/// Which frames are meant by their query: one id, several between `|`, or a pattern.
pub(super) fn by_query(frame: &Frame, wanted: &str) -> Result<bool, String> {
    let id = frame.ref_id.as_deref().unwrap_or_default();
    if wanted.starts_with('/') {
        return Ok(Pattern::of(wanted)?.matches(id));
    }
    if wanted.contains('|') {
        return Ok(wanted.split('|').any(|one| one == id));
    }
    Ok(frame.ref_id.as_deref() == Some(wanted))
}
