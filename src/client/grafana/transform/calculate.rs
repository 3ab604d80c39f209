//! A new column from others.

use serde_json::{Map, Value};

use super::combine::joined;
use super::{Cell, Field, Frame, Kind, Matcher, Options, Reducer, js, name_in, strings};
use crate::client::grafana::reduce::{Nulls, by};

pub(super) fn calculate(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let mode = options.text("mode").unwrap_or("reduceRow");
    let as_series = options.flag("timeSeries") != Some(false);
    let part = |key: &str| Options(options.get(key).unwrap_or(&Value::Null));
    let binary = part("binary");
    let fixed = match binary.get("right") {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(Value::Object(side)) => side.get("fixed").and_then(Value::as_str),
        _ => None,
    };
    // An empty text is the number 0 to the browser.
    let is_fixed = mode == "binary" && fixed.is_some_and(|text| !js::number(text).is_nan());
    let frames = if as_series && !is_fixed { as_columns(frames)? } else { frames };
    if mode == "index" {
        let share = part("index").flag("asPercentile") == Some(true);
        let with_index = |frame: Frame| {
            let length = frame.length;
            let of = |row: usize| if share { row as f64 / length as f64 } else { row as f64 };
            let values = (0..length).map(|row| Cell::Number(of(row))).collect();
            let mut field =
                Field::new(options.text("alias").unwrap_or("Row"), Kind::Number, values);
            if share {
                field.config.insert("unit".into(), "percentunit".into());
            }
            added(frame, field, options, false)
        };
        return Ok(frames.into_iter().map(with_index).collect());
    }
    let mut done = Vec::new();
    for index in 0..frames.len() {
        let values = match mode {
            "reduceRow" => Some(reduced_rows(&frames, index, &part("reduce"))?),
            "binary" => binary_operation(&frames, index, &binary)?,
            "unary" => unary(&frames, index, &part("unary"))?,
            "cumulativeFunctions" => cumulative(&frames, index, &part("cumulative"))?,
            other => return Err(format!("the mode {other:?} is not computed")),
        };
        let frame = frames[index].clone();
        let replace = options.flag("replaceFields") == Some(true);
        match values {
            None if replace => {}
            None => done.push(frame),
            Some(values) => {
                let name = name(&frames, mode, options, &binary)?;
                let mut field = Field::new(&name, Kind::Number, values);
                if let Some(alias) = options.text("alias").filter(|alias| !alias.is_empty()) {
                    field.config = Map::from_iter([("displayName".to_owned(), alias.into())]);
                }
                done.push(added(frame, field, options, as_series));
            }
        }
    }
    Ok(done)
}

fn added(mut frame: Frame, field: Field, options: &Options<'_>, with_time: bool) -> Frame {
    if options.flag("replaceFields") == Some(true) {
        let time = frame.time().filter(|_| with_time);
        frame.fields = time.map(|at| frame.fields[at].clone()).into_iter().collect();
    }
    frame.fields.push(field);
    frame
}

/// Series whose times have one name become the columns of one frame.
fn as_columns(frames: Vec<Frame>) -> Result<Vec<Frame>, String> {
    let names: Vec<Option<&str>> =
        frames.iter().map(|frame| Some(frame.fields.get(frame.time()?)?.name.as_str())).collect();
    let name = names.first().copied().flatten().filter(|name| !name.is_empty());
    let Some(name) = name.filter(|_| frames.len() > 1 && names.iter().all(|n| *n == names[0]))
    else {
        return Ok(frames);
    };
    let name = name.to_owned();
    joined(frames, Some(&name), "outer")
}

fn reduced_rows(
    frames: &[Frame],
    index: usize,
    options: &Options<'_>,
) -> Result<Vec<Cell>, String> {
    let include = strings(options.get("include"));
    let matcher =
        if include.is_empty() { Matcher::Kind(Kind::Number) } else { Matcher::names(include) };
    let reducer = Reducer::of(options.text("reducer").unwrap_or("sum"))?;
    let nulls = match options.text("nullValueMode") {
        Some("connected") => Nulls::Ignored,
        Some("null as zero") => Nulls::Zero,
        _ => Nulls::Counted,
    };
    let mut columns = Vec::new();
    for at in 0..frames[index].fields.len() {
        if matcher.matches(frames, index, at)? {
            columns.push(&frames[index].fields[at]);
        }
    }
    let mut values = Vec::new();
    for row in 0..frames[index].length {
        let cells: Vec<Cell> = columns.iter().map(|column| column.at(row).clone()).collect();
        if cells.is_empty() {
            return Err("no column is reduced".into());
        }
        values.push(by(&cells, Kind::Number, reducer, nulls)?);
    }
    Ok(values)
}

/// One side of an operation: a column by its name, or a number.
enum Side {
    Named(String),
    Fixed(String),
}

fn side(frames: &[Frame], value: Option<&Value>) -> Result<Side, String> {
    match value {
        None => Ok(Side::Fixed(String::new())),
        Some(Value::String(text)) => {
            let named = frames.iter().flat_map(|frame| &frame.fields).any(|f| f.name == *text);
            let number = !js::number(text).is_nan();
            Ok(if number && !named { Side::Fixed(text.clone()) } else { Side::Named(text.clone()) })
        }
        Some(side) => {
            let matcher = side.get("matcher").filter(|matcher| !matcher.is_null());
            let id = matcher.and_then(|matcher| matcher.get("id")).and_then(Value::as_str);
            let named = matcher.and_then(|matcher| matcher.get("options")).and_then(Value::as_str);
            match (id, named, side.get("fixed").and_then(Value::as_str)) {
                (Some("byName"), Some(name), _) => Ok(Side::Named(name.into())),
                (None, _, Some(fixed)) => Ok(Side::Fixed(fixed.into())),
                _ => Err("an operation on columns of a kind".into()),
            }
        }
    }
}

fn side_values(frames: &[Frame], index: usize, side: &Side) -> Option<Vec<Cell>> {
    let frame = &frames[index];
    let text = match side {
        Side::Fixed(text) => text,
        Side::Named(name) => {
            let at = (0..frame.fields.len()).find(|at| name_in(frames, index, *at) == *name);
            if let Some(field) = at.and_then(|at| frame.fields.get(at)) {
                return Some(field.values.clone());
            }
            name
        }
    };
    let number = js::leading(text);
    (!number.is_nan()).then(|| vec![Cell::Number(number); frame.length])
}

fn binary_operation(
    frames: &[Frame],
    index: usize,
    options: &Options<'_>,
) -> Result<Option<Vec<Cell>>, String> {
    let (left, right) = (side(frames, options.get("left"))?, side(frames, options.get("right"))?);
    let operation: fn(f64, f64) -> f64 = match options.text("operator").unwrap_or("+") {
        "+" => |a, b| a + b,
        "-" => |a, b| a - b,
        "*" => |a, b| a * b,
        "/" => |a, b| a / b,
        other => return Err(format!("the operator {other:?} is not known")),
    };
    let (Some(left), Some(right)) =
        (side_values(frames, index, &left), side_values(frames, index, &right))
    else {
        return Ok(None);
    };
    if left.iter().chain(&right).any(|cell| matches!(cell, Cell::Text(_) | Cell::List(_))) {
        return Err("an operation on what is not numbers".into());
    }
    let at = |cells: &[Cell], row: usize| cells.get(row).map_or(f64::NAN, Cell::as_number);
    let values =
        (0..left.len()).map(|row| Cell::Number(operation(at(&left, row), at(&right, row))));
    Ok(Some(values.collect()))
}

fn unary(
    frames: &[Frame],
    index: usize,
    options: &Options<'_>,
) -> Result<Option<Vec<Cell>>, String> {
    let name = options.text("fieldName").unwrap_or_default();
    let frame = &frames[index];
    let at = (0..frame.fields.len())
        .rfind(|at| frame.fields[*at].kind == Kind::Number && name_in(frames, index, *at) == name);
    let values = at.map(|at| &frame.fields[at].values).filter(|values| !values.is_empty());
    let Some(values) = values else { return Ok(None) };
    let finite = values.iter().filter_map(Cell::number).filter(|value| value.is_finite());
    let sum: f64 = finite.fold(0.0, |sum, value| sum + value);
    let operator = options.text("operator").unwrap_or("abs");
    let one = |cell: &Cell| {
        let value = cell.as_number();
        Ok(Cell::Number(match operator {
            "abs" => value.abs(),
            "round" => js::round(value),
            "floor" => value.floor(),
            "ceil" => value.ceil(),
            // A sum of 0 counts as 1.
            "percent" if sum == 0.0 => value,
            "percent" => value / sum,
            other => return Err(format!("the operator {other:?} is not computed")),
        }))
    };
    values.iter().map(one).collect::<Result<_, _>>().map(Some)
}

fn cumulative(
    frames: &[Frame],
    index: usize,
    options: &Options<'_>,
) -> Result<Option<Vec<Cell>>, String> {
    let matcher = match options.text("field").filter(|name| !name.is_empty()) {
        Some(name) => Matcher::names([name.to_owned()]),
        None => Matcher::Kind(Kind::Number),
    };
    let mean = match options.text("reducer").unwrap_or("sum") {
        "sum" => false,
        "mean" => true,
        other => return Err(format!("the reducer {other:?} is not computed")),
    };
    let frame = &frames[index];
    for at in 0..frame.fields.len() {
        if !matcher.matches(frames, index, at)? {
            continue;
        }
        let mut total = 0.0;
        let mut values = Vec::new();
        for row in 0..frame.length {
            match frame.fields[at].at(row) {
                Cell::Number(number) => total += number,
                cell if cell.none() => {}
                _ => return Err("a sum of what is not numbers".into()),
            }
            values.push(Cell::Number(if mean { total / (row + 1) as f64 } else { total }));
        }
        return Ok(Some(values));
    }
    Ok(None)
}

fn name(
    frames: &[Frame],
    mode: &str,
    options: &Options<'_>,
    binary: &Options<'_>,
) -> Result<String, String> {
    if let Some(alias) = options.text("alias").filter(|alias| !alias.is_empty()) {
        return Ok(alias.into());
    }
    let part = |key: &str| Options(options.get(key).unwrap_or(&Value::Null));
    Ok(match mode {
        "reduceRow" => Reducer::of(part("reduce").text("reducer").unwrap_or("sum"))?.title(),
        "binary" => {
            let text = |side: Side| match side {
                Side::Named(text) | Side::Fixed(text) => text,
            };
            let left = text(side(frames, binary.get("left"))?);
            let right = text(side(frames, binary.get("right"))?);
            if left.is_empty() || right.is_empty() || left.contains('$') || right.contains('$') {
                String::new()
            } else {
                format!("{left} {} {right}", binary.text("operator").unwrap_or("+"))
            }
        }
        mode => {
            let (of, key, word) = if mode == "unary" {
                (part("unary"), "fieldName", "operator")
            } else {
                (part("cumulative"), "field", "reducer")
            };
            let column = of.text(key).filter(|name| !name.is_empty());
            let column = column.map_or(String::new(), |name| format!("({name})"));
            let default = if mode == "unary" { "abs" } else { "sum" };
            let word = of.text(word).unwrap_or(default);
            let before = if mode == "unary" { "" } else { "cumulative " };
            format!("{before}{word}{column}")
        }
    })
}
