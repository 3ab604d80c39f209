//! Data frames: what the data sources answer, and what transformations make of it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::js;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// There is none: a frame shorter than its neighbours has been filled up.
    Absent,
    Null,
    Number(f64),
    Text(String),
    Bool(bool),
    List(Vec<Self>),
}

impl Cell {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            // Shown as JSON, counted as a text.
            Value::Object(_) => Self::Text(value.to_string()),
        }
    }

    pub(super) fn none(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }

    /// Neither nothing nor a NaN.
    pub(super) fn there(&self) -> bool {
        !self.none() && !matches!(self, Self::Number(number) if number.is_nan())
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// As `String(value)` writes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Absent => "undefined".into(),
            Self::Null => "null".into(),
            Self::Number(number) => js::text(*number),
            Self::Text(text) => text.clone(),
            Self::Bool(truth) => truth.to_string(),
            Self::List(items) => {
                let texts = items.iter().map(|i| if i.none() { String::new() } else { i.text() });
                texts.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// What arithmetic takes it for.
    pub(super) fn as_number(&self) -> f64 {
        match self {
            Self::Absent => f64::NAN,
            Self::Null => 0.0,
            Self::Number(number) => *number,
            Self::Text(text) => js::number(text),
            Self::Bool(truth) => f64::from(u8::from(*truth)),
            Self::List(_) => js::number(&self.text()),
        }
    }

    /// `===`, but that a NaN is itself where `nan` says so.
    pub(super) fn same(&self, other: &Self, nan: bool) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a == b || (nan && a.is_nan() && b.is_nan()),
            // No two lists are one.
            (Self::List(_), Self::List(_)) => false,
            (a, b) => a == b,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Time,
    Number,
    String,
    Boolean,
    Other,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "time" => Self::Time,
            "number" => Self::Number,
            "string" => Self::String,
            "boolean" => Self::Boolean,
            _ => Self::Other,
        }
    }

    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Number | Self::Time)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) labels: Option<Vec<(String, String)>>,
    pub(super) config: Map<String, Value>,
    pub(super) values: Vec<Cell>,
    /// Its shown name as it was first asked for, and whether there were several frames then: the
    /// browser remembers it through a transformation.
    pub(super) known: RefCell<Option<(String, bool)>>,
}

impl Field {
    pub(super) fn new(name: &str, kind: Kind, values: Vec<Cell>) -> Self {
        let known = RefCell::new(None);
        Self { name: name.into(), kind, labels: None, config: Map::new(), values, known }
    }

    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let labels = self.labels.as_ref()?;
        labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn at(&self, row: usize) -> &Cell {
        self.values.get(row).unwrap_or(&Cell::Absent)
    }

    pub(super) fn with(&self, values: Vec<Cell>) -> Self {
        Self { values, ..self.clone() }
    }
}

/// The name of a query, which its frames bear.
pub(super) fn ref_id(query: &Value) -> &str {
    query.get("refId").and_then(Value::as_str).unwrap_or("A")
}

#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) name: Option<String>,
    pub(super) ref_id: Option<String>,
    /// Whether it says which version of a type it has.
    pub(super) typed: bool,
    /// Single events that a metric counted, beside its series.
    pub(super) exemplars: bool,
    pub(super) fields: Vec<Field>,
    pub(super) length: usize,
}

impl Frame {
    pub(super) fn of(json: &Value) -> Result<Self, String> {
        let schema = json.get("schema").ok_or("a frame has no fields")?;
        let fields =
            schema.get("fields").and_then(Value::as_array).ok_or("a frame has no fields")?;
        let data = json.get("data");
        let columns = match data.and_then(|data| data.get("values")) {
            Some(values) => values.as_array().ok_or("a frame has no values")?.as_slice(),
            None if data.is_none() => &[],
            None => return Err("a frame has no values".into()),
        };
        let length =
            columns.iter().filter_map(Value::as_array).map(Vec::len).max().unwrap_or_default();
        let text =
            |from: &Value, key: &str| from.get(key).and_then(Value::as_str).map(str::to_owned);
        let mut read = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            let column = columns.get(index).and_then(Value::as_array);
            let mut values: Vec<Cell> = column.into_iter().flatten().map(Cell::of).collect();
            values.resize(length, Cell::Absent);
            let entities = data.and_then(|data| data.get("entities")?.get(index)?.as_object());
            for (name, places) in entities.into_iter().flatten() {
                let cell = match name.as_str() {
                    "NaN" => Cell::Number(f64::NAN),
                    "Inf" => Cell::Number(f64::INFINITY),
                    "NegInf" => Cell::Number(f64::NEG_INFINITY),
                    _ => Cell::Absent,
                };
                for place in places.as_array().into_iter().flatten().filter_map(Value::as_u64) {
                    let place = usize::try_from(place).ok().and_then(|at| values.get_mut(at));
                    if let Some(place) = place {
                        *place = cell.clone();
                    }
                }
            }
            let enums = data.and_then(|data| data.get("enums")?.get(index)?.as_array());
            if enums.is_some_and(|names| !names.is_empty()) {
                return Err("a column is an enumeration".into());
            }
            let name = text(field, "name").unwrap_or_default();
            let kind = match text(field, "type") {
                Some(kind) if matches!(kind.as_str(), "enum" | "frame" | "nestedFrames") => {
                    return Err(format!("a column of the type {kind:?}"));
                }
                Some(kind) => Kind::of(&kind),
                None => guess(&name, &values).unwrap_or(Kind::Other),
            };
            let labels = field.get("labels").and_then(Value::as_object).map(|labels| {
                let pairs =
                    labels.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.into())));
                pairs.collect()
            });
            let config =
                field.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
            read.push(Field { labels, config, ..Field::new(&name, kind, values) });
        }
        Ok(Self {
            name: text(schema, "name").filter(|name| !name.is_empty()),
            ref_id: text(schema, "refId"),
            typed: schema.get("meta").is_some_and(|meta| meta.get("typeVersion").is_some()),
            exemplars: schema.pointer("/meta/custom/resultType").and_then(Value::as_str)
                == Some("exemplar"),
            fields: read,
            length,
        })
    }

    pub(super) fn time(&self) -> Option<usize> {
        self.fields.iter().position(|field| field.kind == Kind::Time)
    }
}

/// The kind that a column's name or its first value tells.
pub(super) fn guess(name: &str, values: &[Cell]) -> Option<Kind> {
    if matches!(name.to_lowercase().as_str(), "date" | "time") {
        return Some(Kind::Time);
    }
    Some(match values.iter().find(|value| !value.none())? {
        Cell::Number(_) => Kind::Number,
        Cell::Bool(_) => Kind::Boolean,
        Cell::Text(text) => match text.to_lowercase().trim() {
            "nan" => Kind::Number,
            "true" | "false" if matches!(text.get(1..2), Some("r" | "R" | "a" | "A")) => {
                Kind::Boolean
            }
            bare if numeric(bare) => Kind::Number,
            _ => Kind::String,
        },
        _ => Kind::Other,
    })
}

fn numeric(text: &str) -> bool {
    let bare = text.strip_prefix('-').unwrap_or(text);
    bare.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && bare.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'-' | b'+'))
        && bare.parse::<f64>().is_ok()
}

const VALUE: &str = "Value";

/// The name that a column is shown under. `all` are the frames it stands among, where they are looked
/// at.
pub(super) fn shown_name(
    field: &Field,
    frame: Option<(&Frame, usize)>,
    all: Option<&[Frame]>,
) -> String {
    let several = all.is_some_and(|all| all.len() > 1);
    if let Some((name, then)) = &*field.known.borrow()
        && !name.is_empty()
        && *then == several
    {
        return name.clone();
    }
    let name = name_of(field, frame, all, &[]);
    *field.known.borrow_mut() = Some((name.clone(), several));
    name
}

/// The name that a column has beside those of `all`, were it called a value: by its labels, without those
/// that they have in `common`.
pub(super) fn name_beside(
    field: &Field,
    frame: &Frame,
    all: &[Frame],
    common: &[(String, String)],
) -> String {
    let value = Field { name: VALUE.into(), ..field.clone() };
    // It stands nowhere among the frame's columns.
    name_of(&value, Some((frame, usize::MAX)), Some(all), common)
}

/// The labels that all of these have.
pub(super) fn common_labels<'a>(
    mut fields: impl Iterator<Item = &'a Field>,
) -> Vec<(String, String)> {
    let labels = |field: &'a Field| field.labels.as_deref().unwrap_or_default();
    let mut common = fields.next().map(labels).unwrap_or_default().to_vec();
    for field in fields {
        common.retain(|pair| labels(field).contains(pair));
    }
    common
}

fn name_of(
    field: &Field,
    frame: Option<(&Frame, usize)>,
    all: Option<&[Frame]>,
    common: &[(String, String)],
) -> String {
    if let Some(given) = field.setting("displayName") {
        return given.into();
    }
    if let Some(given) = field.setting("displayNameFromDS").filter(|_| frame.is_some()) {
        return given.into();
    }
    if field.kind == Kind::Time && field.labels.is_none() {
        return field.name.clone();
    }
    let mut parts: Vec<String> = Vec::new();
    let frame_name = frame.and_then(|(frame, _)| frame.name.clone());
    let differ = all.is_some_and(|all| all.windows(2).any(|two| two[0].name != two[1].name));
    let mut named = false;
    if let (true, Some(name)) = (differ, &frame_name) {
        parts.push(name.clone());
        named = true;
    }
    if !field.name.is_empty() && field.name != VALUE {
        parts.push(field.name.clone());
    }
    let mut labelled = false;
    if let (Some(labels), Some((frame, _))) = (&field.labels, frame) {
        let around = all.unwrap_or(std::slice::from_ref(frame));
        match single_label(around) {
            None => {
                let own =
                    |pair: &&(String, String)| !common.iter().any(|(name, _)| *name == pair.0);
                let text = written(labels.iter().filter(own));
                if !text.is_empty() {
                    parts.push(text);
                    labelled = true;
                }
            }
            Some(only) => {
                if let Some(value) = field.label(&only).filter(|value| !value.is_empty()) {
                    parts.push(value.into());
                    labelled = true;
                }
            }
        }
    }
    if let (false, false, true, Some(name)) = (named, labelled, field.name == VALUE, frame_name) {
        parts.push(name);
    }
    let name = match (parts.is_empty(), field.name.is_empty()) {
        (false, _) => parts.join(" "),
        (true, false) => field.name.clone(),
        (true, true) => VALUE.into(),
    };
    if name == field.name { unique(field, frame) } else { name }
}

pub(super) fn written<'a>(labels: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let mut labels: Vec<_> = labels.into_iter().collect();
    if labels.is_empty() {
        return String::new();
    }
    labels.sort();
    let pairs = labels.iter().map(|(name, value)| format!("{name}=\"{value}\""));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// A number behind names that a frame has twice.
fn unique(field: &Field, frame: Option<(&Frame, usize)>) -> String {
    let mut count = 0;
    if let Some((frame, own)) = frame {
        let mut seen = false;
        for (at, other) in frame.fields.iter().enumerate() {
            if at == own {
                seen = true;
                if count > 0 {
                    count += 1;
                    break;
                }
            } else if other.name == field.name {
                count += 1;
                if seen {
                    break;
                }
            }
        }
    }
    if count > 0 { format!("{} {count}", field.name) } else { field.name.clone() }
}

fn single_label(frames: &[Frame]) -> Option<String> {
    let labels = frames.iter().flat_map(|frame| &frame.fields).filter_map(|f| f.labels.as_ref());
    let names: BTreeSet<&String> = labels.flatten().map(|(name, _)| name).collect();
    match names.len() {
        1 => names.into_iter().next().cloned(),
        _ => None,
    }
}

/// The name of a frame, as its legend would have it.
pub(super) fn frame_name(frame: &Frame) -> String {
    if let Some(name) = &frame.name {
        return name.clone();
    }
    let names: Vec<String> = frame
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| field.kind != Kind::Time)
        .map(|(at, field)| shown_name(field, Some((frame, at)), None))
        .collect();
    names.join(", ")
}
