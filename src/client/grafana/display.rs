//! A value as a panel writes it: with the options of its column, its unit and its mappings.

use serde_json::{Map, Value};

use super::format::{format, is_date};
use super::frame::{Cell, Field, Frame, Kind};
use super::js;
use super::matching::Matcher;

/// What a person sees of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Display {
    pub text: String,
    /// The number behind the text; where a mapping put another text in its place, the number that this
    /// says.
    pub number: Option<f64>,
}

type Applies = fn(Kind) -> bool;

/// Settings that change a number, its text or its name, and for which kinds of columns they are set by default.
const SETTINGS: &[(&str, Applies)] = &[
    ("unit", |_| true),
    ("decimals", |kind| kind == Kind::Number),
    ("displayName", |_| true),
    ("noValue", |_| true),
    ("mappings", |kind| kind != Kind::Time),
    ("nullValueMode", |_| true),
    ("custom", |_| true),
    // Of overrides alone: whether a line or a column is shown at all.
    ("custom.hideFrom", |_| false),
    ("custom.hidden", |_| false),
];

/// Gives every column the panel's options and its overrides.
pub(super) fn apply_options(frames: &mut [Frame], options: Option<&Value>) -> Result<(), String> {
    let defaults = options.and_then(|options| options.get("defaults"));
    let overrides = options.and_then(|options| options.get("overrides")).and_then(Value::as_array);
    let mut rules = Vec::new();
    for rule in overrides.into_iter().flatten() {
        let matcher = rule.get("matcher");
        let text = |key: &str| matcher.and_then(|m| m.get(key)).and_then(Value::as_str);
        if text("scope").is_some_and(|scope| scope != "series") {
            continue;
        }
        let properties = rule.get("properties").and_then(Value::as_array);
        let properties: Vec<&Value> = properties
            .into_iter()
            .flatten()
            .filter(|p| id(p).is_some_and(|id| SETTINGS.iter().any(|(known, _)| *known == id)))
            .collect();
        // One that changes nothing of these may mean columns in any way.
        if properties.is_empty() {
            continue;
        }
        let options = matcher.and_then(|matcher| matcher.get("options"));
        let matcher = Matcher::of(text("id").unwrap_or_default(), options)
            .map_err(|why| format!("an override of the panel: {why}"))?;
        rules.push((matcher, properties));
    }
    // The frames around a column are those of before.
    let before = frames.to_vec();
    for frame in frames.iter_mut() {
        for at in 0..frame.fields.len() {
            let Some(mut field) = frame.fields.get(at).cloned() else { continue };
            for (name, applies) in SETTINGS {
                let value = defaults.and_then(|defaults| defaults.get(*name));
                let unset = field.config.get(*name).is_none_or(Value::is_null);
                if let Some(value) = value.filter(|v| !v.is_null() && unset && applies(field.kind))
                {
                    field.config.insert((*name).into(), value.clone());
                }
            }
            for (matcher, properties) in &rules {
                if matcher.matches_field(&before, frame, at, &field)? {
                    properties.iter().for_each(|property| set(&mut field.config, property));
                }
            }
            if field.kind == Kind::Other {
                field.kind = super::frame::guess(&field.name, &field.values).unwrap_or(Kind::Other);
            }
            if let Some(place) = frame.fields.get_mut(at) {
                *place = field;
            }
        }
    }
    // Only now: until here the browser knows a column by the name that it had.
    frames.iter().flat_map(|frame| &frame.fields).for_each(|f| *f.known.borrow_mut() = None);
    Ok(())
}

fn id(property: &Value) -> Option<&str> {
    property.get("id").and_then(Value::as_str)
}

fn set(config: &mut Map<String, Value>, property: &Value) {
    let Some(id) = id(property) else { return };
    match property.get("value") {
        None | Some(Value::Null) => {
            config.remove(id);
        }
        Some(Value::Array(items)) => {
            let mut items = items.clone();
            let before = config.get(id).and_then(Value::as_array);
            items.extend(before.into_iter().flatten().cloned());
            config.insert(id.into(), items.into());
        }
        Some(value) => {
            config.insert(id.into(), value.clone());
        }
    }
}

/// The text of a value of a column. The error says what of it can't be computed.
pub(super) fn display(
    cell: &Cell,
    kind: Kind,
    config: &Map<String, Value>,
) -> Result<Display, String> {
    let setting = |key: &str| config.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    let mut unit = setting("unit");
    if kind == Kind::Time || unit.is_some_and(is_date) {
        return Err("a time, whose text depends on who looks".into());
    }
    match kind {
        Kind::Boolean if !unit.is_some_and(|unit| unit.starts_with("bool")) => unit = Some("bool"),
        Kind::String if unit.is_none() => unit = Some("string"),
        _ => {}
    }
    let mappings = config.get("mappings").and_then(Value::as_array);
    if let Some(text) = mapped(mappings.map_or(&[], Vec::as_slice), cell)? {
        let number = match js::number(&text) {
            number if number.is_nan() || text.trim().is_empty() => None,
            number => Some(number),
        };
        return Ok(Display { text, number });
    }
    let number = match cell {
        _ if unit == Some("string") => f64::NAN,
        Cell::Text(text) if text.is_empty() => f64::NAN,
        Cell::Absent | Cell::Null | Cell::List(_) => f64::NAN,
        other => other.as_number(),
    };
    if !number.is_nan() && !matches!(cell, Cell::Bool(_)) {
        let decimals = config.get("decimals").filter(|decimals| !decimals.is_null());
        let decimals = match decimals.map(|decimals| (decimals, decimals.as_i64())) {
            None => None,
            Some((_, Some(whole @ 0..=20))) => i32::try_from(whole).ok(),
            Some((other, _)) => return Err(format!("{other} decimals can't be computed")),
        };
        let text = format(unit.unwrap_or("none"), number, decimals)?;
        return Ok(Display { text, number: Some(number) });
    }
    let text = match cell {
        Cell::Absent | Cell::Null => String::new(),
        Cell::Number(number) if *number == 0.0 && number.is_sign_negative() => "-0".into(),
        Cell::List(items) => {
            let texts = items.iter().map(|i| if i.none() { String::new() } else { i.text() });
            texts.collect::<Vec<_>>().join(", ")
        }
        other => other.text(),
    };
    if text.is_empty() && !matches!(cell, Cell::List(_)) {
        let text = setting("noValue").unwrap_or_default().to_owned();
        let number = Some(js::number(&text)).filter(|n| !n.is_nan() && !text.trim().is_empty());
        return Ok(Display { text, number });
    }
    let number = if number.is_nan() { js::number(&text) } else { number };
    Ok(Display { text, number: Some(number).filter(|number| !number.is_nan()) })
}

/// The text that the first fitting mapping puts in place of a value.
fn mapped(mappings: &[Value], cell: &Cell) -> Result<Option<String>, String> {
    for mapping in mappings {
        let Some(options) = mapping.get("options") else { continue };
        let result = options.get("result");
        let said = |result: Option<&Value>| {
            let text = result.and_then(|result| result.get("text")).filter(|text| !text.is_null());
            Ok(text.map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_owned)))
        };
        match mapping.get("type").and_then(Value::as_str) {
            Some("value") if !cell.none() => {
                if let Some(found) = options.get(cell.text()).filter(|found| !found.is_null()) {
                    return said(Some(found));
                }
            }
            Some("range") if !cell.none() => {
                let value = match cell {
                    Cell::Number(number) => *number,
                    other => js::leading(&other.text()),
                };
                let bound = |key: &str| options.get(key).and_then(Value::as_f64);
                let below = bound("from").is_some_and(|from| value < from);
                let above = bound("to").is_some_and(|to| value > to);
                if !value.is_nan() && !below && !above {
                    return said(result);
                }
            }
            Some("regex") => {
                let Cell::Text(value) = cell else { continue };
                let pattern = options.get("pattern").and_then(Value::as_str).unwrap_or_default();
                let pattern = js::Pattern::of(pattern)?;
                if pattern.matches(value) {
                    let text = said(result)?;
                    return Ok(text.map(|text| pattern.replace(value, &text)));
                }
            }
            Some("special") => {
                let nan = matches!(cell, Cell::Number(number) if number.is_nan());
                let is = |truth: bool| match cell {
                    Cell::Bool(value) => *value == truth,
                    Cell::Text(text) => *text == truth.to_string(),
                    _ => false,
                };
                let fits = match options.get("match").and_then(Value::as_str) {
                    Some("null") => cell.none(),
                    Some("nan") => nan,
                    Some("null+nan") => nan || cell.none(),
                    Some("true") => is(true),
                    Some("false") => is(false),
                    Some("empty") => *cell == Cell::Text(String::new()),
                    _ => false,
                };
                if fits {
                    return said(result);
                }
            }
            Some("value" | "range") => {}
            other => {
                let other = other.unwrap_or_default();
                return Err(format!("the value mapping {other:?} is not known"));
            }
        }
    }
    Ok(None)
}

/// What of a legend or a table's foot a reduced value is written with: counts have no unit, and a
/// difference in percent has that one alone.
pub(super) fn display_calc(
    cell: &Cell,
    field: &Field,
    reducer: super::reduce::Reducer,
) -> Result<Display, String> {
    let mut config = field.config.clone();
    if reducer.id() == "diffperc" {
        config = Map::from_iter([("unit".to_owned(), Value::from("percent"))]);
    } else if !reducer.keeps_unit() {
        config.insert("unit".into(), "none".into());
    }
    display(cell, field.kind, &config)
}
