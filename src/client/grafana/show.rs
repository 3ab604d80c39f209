//! From frames to what a panel shows of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::display::{Display, apply_options, display, display_calc};
use super::frame::{Cell, Field, Frame, Kind, shown_name};
use super::matching::{Matcher, strings};
use super::reduce::{Reducer, reduce};
use super::transform::transform;

/// The kinds of panels that are computed.
pub(super) const PANELS: &[&str] =
    &["barchart", "bargauge", "gauge", "stat", "table", "timeseries"];
/// What Grafana shows at most of a stat and its kin.
const VALUES: u64 = 25;
/// Reducers of a line that change with the gaps that the browser fills in.
const BY_GAPS: &[&str] = &["first", "last", "countAll", "allValues", "uniqueValues"];

/// Which number of a panel is meant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice<'a> {
    pub(super) reducer: Option<Reducer>,
    pub(super) series: Option<&'a str>,
    /// Texts that columns have in the row.
    pub(super) row: Option<&'a BTreeMap<String, String>>,
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shown {
    /// "No data", or nothing under the wanted name: then the names that there are.
    Nothing(Vec<String>),
    One(Display),
    /// The names of the series.
    Several(Vec<String>),
}

/// The error says what of the panel can't be computed.
pub(super) fn shown(
    panel: &Value,
    frames: Vec<Frame>,
    choice: Choice<'_>,
) -> Result<Shown, String> {
    let none = Value::Null;
    let list = panel.get("transformations").unwrap_or(&none);
    let mut frames = transform(frames, list)?;
    apply_options(&mut frames, panel.get("fieldConfig"))?;
    let options = panel.get("options").unwrap_or(&none);
    let kind = panel.get("type").and_then(Value::as_str).unwrap_or_default();
    let mut values = match kind {
        "stat" | "gauge" | "bargauge" => {
            let text = options.get("textMode").and_then(Value::as_str);
            if let Some(mode @ ("name" | "none")) = text.filter(|_| kind == "stat") {
                return Err(format!("the panel shows no number (text mode {mode:?})"));
            }
            single(&frames, panel, options, choice)?
        }
        "timeseries" => lines(&frames, options, choice)?,
        "barchart" => {
            let calcs = strings(options.get("legend").and_then(|legend| legend.get("calcs")));
            let rows = frames.iter().any(|frame| frame.length != 1);
            let reducer = calcs.first().filter(|_| rows && choice.row.is_none());
            let legend = reducer.map(|id| Reducer::of(id)).transpose()?;
            cells(&frames, Choice { reducer: choice.reducer.or(legend), ..choice })?
        }
        "table" => {
            let index = options.get("frameIndex").and_then(Value::as_u64).unwrap_or(0);
            let at = usize::try_from(index).unwrap_or(usize::MAX).min(frames.len());
            cells(frames.get(at..).map_or(&[], |rest| rest.get(..1).unwrap_or_default()), choice)?
        }
        other => return Err(format!("a panel of the type {other:?} is not computed")),
    };
    let mut names = Vec::new();
    if let Some(wanted) = choice.series {
        names.extend(values.iter().map(|(name, _)| name.clone()));
        if matches!(kind, "table" | "barchart") {
            names.extend(columns(&frames));
        }
        if names.iter().any(|name| name == wanted) {
            names.clear();
        }
        values.retain(|(name, _)| name == wanted);
    }
    Ok(match values.as_mut_slice() {
        [] => Shown::Nothing(names),
        [(_, one)] if one.text.is_empty() && one.number.is_none() => Shown::Nothing(names),
        [(_, one)] => Shown::One(one.clone()),
        several => Shown::Several(several.iter().map(|(name, _)| name.clone()).collect()),
    })
}

type Values = Vec<(String, Display)>;

/// The values of a stat, a gauge and a bar gauge, in their order.
pub(super) fn single(
    frames: &[Frame],
    panel: &Value,
    options: &Value,
    choice: Choice<'_>,
) -> Result<Values, String> {
    let reduction = options.get("reduceOptions");
    let get = |key: &str| reduction.and_then(|reduction| reduction.get(key));
    let reducers = match (choice.reducer, get("calcs")) {
        (Some(reducer), _) => vec![reducer],
        (None, None) => vec![Reducer::of("lastNotNull")?],
        (None, calcs) => match strings(calcs) {
            none if none.is_empty() => vec![Reducer::of("last")?],
            ids => ids.iter().map(|id| Reducer::of(id)).collect::<Result<_, _>>()?,
        },
    };
    let fields = get("fields").and_then(Value::as_str).filter(|fields| !fields.is_empty());
    let matcher = match fields {
        Some(_) => Matcher::of("byRegexp", get("fields"))?,
        None => Matcher::Kind(Kind::Number),
    };
    let limit = get("limit").and_then(Value::as_u64).filter(|limit| *limit > 0).unwrap_or(VALUES);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let each_row = get("values").and_then(Value::as_bool) == Some(true);
    let mut values: Values = Vec::new();
    'all: for (index, frame) in frames.iter().enumerate() {
        for (at, field) in frame.fields.iter().enumerate() {
            if !matcher.matches(frames, index, at)? {
                continue;
            }
            if each_row && choice.reducer.is_none() {
                for row in 0..field.values.len() {
                    let name = row_name(frame, at, row)?;
                    values.push((name, display(field.at(row), field.kind, &field.config)?));
                    if values.len() >= limit {
                        break 'all;
                    }
                }
                continue;
            }
            for reducer in &reducers {
                let value = reduce(field, *reducer)?;
                let name = shown_name(field, Some((frame, at)), Some(frames));
                values.push((name, display(&value, field.kind, &field.config)?));
            }
        }
    }
    if values.is_empty() {
        values.extend(nothing(panel)?);
    }
    Ok(values)
}

/// What stands there where there is no value: what the options say of nothing.
fn nothing(panel: &Value) -> Result<Option<(String, Display)>, String> {
    let defaults = panel.get("fieldConfig").and_then(|config| config.get("defaults"));
    let none = Map::new();
    let config = defaults.and_then(Value::as_object).unwrap_or(&none);
    let shown = display(&Cell::Null, Kind::Other, config)?;
    Ok((!shown.text.is_empty()).then(|| ("No data".to_owned(), shown)))
}

/// What one row of several is called: by its texts, and by the column where there are more.
fn row_name(frame: &Frame, at: usize, row: usize) -> Result<String, String> {
    let field = &frame.fields[at];
    if let Some(name) = field.setting("displayName") {
        return Ok(name.into());
    }
    let mut parts = Vec::new();
    let mut others = 0;
    for (_, beside) in frame.fields.iter().enumerate().filter(|(other, _)| *other != at) {
        match beside.kind {
            Kind::String => {
                let cell = match beside.at(row) {
                    cell if cell.none() => Cell::Text(String::new()),
                    cell => cell.clone(),
                };
                let number = beside.setting("unit").is_some() && !cell.as_number().is_nan();
                if number && cell != Cell::Text(String::new()) {
                    return Err("a row that is named by a number with a unit".into());
                }
                let text = display(&cell, beside.kind, &beside.config)?.text;
                if !text.is_empty() {
                    parts.push(text);
                }
            }
            Kind::Number => others += 1,
            _ => {}
        }
    }
    if others > 0 || parts.is_empty() {
        parts.push(shown_name(field, Some((frame, at)), None));
    }
    Ok(parts.join(" "))
}

/// Whether a line, a bar or a column is not drawn at all.
fn hidden(field: &Field) -> bool {
    let truth = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
    let custom = field.config.get("custom");
    let hide = field.config.get("custom.hideFrom").or_else(|| custom?.get("hideFrom"));
    truth(hide.and_then(|hide| hide.get("viz")))
        || truth(field.config.get("custom.hidden").or_else(|| custom?.get("hidden")))
}

/// Lines: what the legend says of each, else its last value.
fn lines(frames: &[Frame], options: &Value, choice: Choice<'_>) -> Result<Values, String> {
    let calcs = strings(options.get("legend").and_then(|legend| legend.get("calcs")));
    let reducer = match (choice.reducer, calcs.first()) {
        (Some(reducer), _) => reducer,
        (None, Some(id)) => Reducer::of(id)?,
        (None, None) => Reducer::of("lastNotNull")?,
    };
    if BY_GAPS.contains(&reducer.id().as_str()) {
        return Err(format!("the reducer {:?} of a line depends on its gaps", reducer.id()));
    }
    let mut values = Values::new();
    for frame in frames.iter().filter(|frame| frame.time().is_some()) {
        for (at, field) in frame.fields.iter().enumerate() {
            if field.kind != Kind::Number || hidden(field) {
                continue;
            }
            // What can't be drawn is a gap.
            let drawn = field.values.iter().map(|cell| match cell {
                Cell::Number(number) if !number.is_finite() => Cell::Null,
                cell => cell.clone(),
            });
            let drawn = field.with(drawn.collect());
            let shown = display_calc(&reduce(&drawn, reducer)?, &drawn, reducer)?;
            values.push((shown_name(field, Some((frame, at)), Some(frames)), shown));
        }
    }
    Ok(values)
}

/// Cells of a table and bars: a column's only value, or its values as they are to be reduced.
fn cells(frames: &[Frame], choice: Choice<'_>) -> Result<Values, String> {
    let mut values = Values::new();
    for frame in frames {
        let rows = rows(frames, frame, choice)?;
        for (at, field) in frame.fields.iter().enumerate() {
            let name = shown_name(field, Some((frame, at)), Some(frames));
            let asked = choice.series.map_or(field.kind == Kind::Number, |wanted| wanted == name);
            if !asked || hidden(field) {
                continue;
            }
            if let (None, [row]) = (choice.reducer, rows.as_slice()) {
                values.push((name, display(field.at(*row), field.kind, &field.config)?));
            } else if let Some(reducer) = choice.reducer {
                let of = field.with(rows.iter().map(|row| field.at(*row).clone()).collect());
                let value = reduce(&of, reducer)?;
                values.push((name, display_calc(&value, &of, reducer)?));
            } else if !rows.is_empty() {
                return Err(format!(
                    "the panel shows {} rows; choose one under `row`, or give `reduce`",
                    rows.len()
                ));
            }
        }
    }
    Ok(values)
}

fn columns(frames: &[Frame]) -> Vec<String> {
    let mut names = Vec::new();
    for frame in frames {
        for (at, field) in frame.fields.iter().enumerate().filter(|(_, field)| !hidden(field)) {
            names.push(shown_name(field, Some((frame, at)), Some(frames)));
        }
    }
    names
}

/// The rows that have the wanted texts.
fn rows(frames: &[Frame], frame: &Frame, choice: Choice<'_>) -> Result<Vec<usize>, String> {
    let mut rows: Vec<usize> = (0..frame.length).collect();
    for (name, wanted) in choice.row.into_iter().flatten() {
        let at = (0..frame.fields.len())
            .find(|at| shown_name(&frame.fields[*at], Some((frame, *at)), Some(frames)) == *name);
        let Some(field) = at.and_then(|at| frame.fields.get(at)) else {
            return Err(format!("the panel has no column {name:?} to choose a row by"));
        };
        let mut kept = Vec::new();
        for row in rows {
            let cell = field.at(row);
            let raw = cell.text() == *wanted;
            if raw || display(cell, field.kind, &field.config)?.text == *wanted {
                kept.push(row);
            }
        }
        rows = kept;
    }
    Ok(rows)
}
