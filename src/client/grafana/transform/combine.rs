//! Several frames become one.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::group::ref_id;
use super::rows::sorted;
use super::{Cell, Field, Frame, Kind, Matcher, Options, js};

/// All columns of all frames in one, side by side.
pub(super) fn concatenate(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    if frames.len() < 2 {
        return Ok(frames);
    }
    let mode = options.text("frameNameMode").unwrap_or("field");
    let label = options.text("frameNameLabel").unwrap_or("frame");
    let length = frames.iter().map(|frame| frame.length).max().unwrap_or_default();
    let mut fields = Vec::new();
    for frame in &frames {
        for field in &frame.fields {
            let mut field = field.clone();
            *field.known.borrow_mut() = None;
            match (&frame.name, mode) {
                (None, _) | (_, "drop") => {}
                (Some(name), "label") => {
                    let mut labels = field.labels.take().unwrap_or_default();
                    labels.retain(|(known, _)| known != label);
                    labels.push((label.into(), name.clone()));
                    field.labels = Some(labels);
                }
                (Some(name), _) if field.name.is_empty() || field.name == "Value" => {
                    field.name.clone_from(name);
                }
                (Some(name), _) => field.name = format!("{name} · {}", field.name),
            }
            field.values.resize(length, Cell::Absent);
            fields.push(field);
        }
    }
    Ok(vec![Frame { fields, length, ..Frame::default() }])
}

/// Rows that agree in the columns that all frames have become one row.
pub(super) fn merge(frames: Vec<Frame>, _: &Options<'_>) -> Result<Vec<Frame>, String> {
    if frames.len() <= 1 {
        return Ok(frames);
    }
    let data: Vec<&Frame> = frames.iter().filter(|frame| !frame.fields.is_empty()).collect();
    let Some(last) = data.last() else { return Ok(frames.into_iter().take(1).collect()) };
    let mut columns: Vec<Field> = Vec::new();
    for field in data.iter().flat_map(|frame| &frame.fields) {
        if field.name.is_empty() {
            return Err("a column has no name".into());
        }
        if !columns.iter().any(|known| known.name == field.name) {
            let mut config = field.config.clone();
            config.remove("displayName");
            columns.push(Field { config, ..Field::new(&field.name, field.kind, Vec::new()) });
        }
    }
    // Of columns of one name in a frame the last is taken.
    let place = |frame: &Frame, name: &str| frame.fields.iter().rposition(|f| f.name == name);
    let common: Vec<&str> = last
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .filter(|name| data.iter().all(|frame| place(frame, name).is_some()))
        .collect();
    if common.is_empty() {
        return Ok(frames);
    }
    // A row is what it has of each column; rows are kept in the order in which they came.
    let mut rows: Vec<Vec<Option<Cell>>> = Vec::new();
    let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
    for frame in &data {
        let places: Vec<Option<usize>> = columns.iter().map(|c| place(frame, &c.name)).collect();
        for row in 0..frame.length {
            let key = common.iter().filter_map(|name| place(frame, name));
            let key: String = key.map(|at| frame.fields[at].at(row).text()).collect();
            let new: Vec<Option<Cell>> =
                places.iter().map(|at| at.map(|at| frame.fields[at].at(row).clone())).collect();
            let known = by_key.entry(key).or_default();
            let mut merged = false;
            for at in known.iter() {
                if mergeable(&rows[*at], &new) {
                    for (old, new) in rows[*at].iter_mut().zip(&new) {
                        if new.is_some() {
                            old.clone_from(new);
                        }
                    }
                    merged = true;
                }
            }
            if !merged {
                known.push(rows.len());
                rows.push(new);
            }
        }
    }
    let length = rows.len();
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.values.push(match cell {
                None => Cell::Absent,
                Some(Cell::Text(text)) if column.kind == Kind::Number => {
                    Cell::Number(js::leading(&text))
                }
                Some(Cell::Text(_)) if column.kind == Kind::Boolean => {
                    return Err("a column of truth values holds texts".into());
                }
                Some(cell) => cell,
            });
        }
    }
    let data: Vec<Frame> = data.into_iter().cloned().collect();
    let ref_id = Some(ref_id("merge", &data));
    Ok(vec![Frame { ref_id, fields: columns, length, ..Frame::default() }])
}

fn mergeable(old: &[Option<Cell>], new: &[Option<Cell>]) -> bool {
    old.iter().zip(new).all(|pair| match pair {
        (_, None) | (None | Some(Cell::Absent | Cell::Null), _) => true,
        (Some(old), Some(new)) => old.same(new, false),
    })
}

/// Frames are joined by a column: by the given one, else by their times.
pub(super) fn join(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let by = options.text("byField").filter(|name| !name.is_empty());
    joined(frames, by, options.get("mode").and_then(Value::as_str).unwrap_or("outer"))
}

pub(super) fn joined(
    frames: Vec<Frame>,
    by: Option<&str>,
    mode: &str,
) -> Result<Vec<Frame>, String> {
    if frames.len() < 2 {
        return Ok(frames);
    }
    let matcher = match by {
        Some(name) => Matcher::names([name.to_owned()]),
        None if frames[0].time().is_some() => Matcher::FirstTime,
        None => return Err("there is no time to join by".into()),
    };
    let mut tables: Vec<Vec<Vec<Cell>>> = Vec::new();
    let mut keeps_nulls: Vec<bool> = Vec::new();
    let mut spans: Vec<Option<i64>> = Vec::new();
    let mut fields: Vec<Field> = Vec::new();
    let mut dropped = false;
    for (index, frame) in frames.iter().enumerate() {
        let mut key = None;
        let mut others = Vec::new();
        for (at, field) in frame.fields.iter().enumerate() {
            if key.is_none() && matcher.matches(&frames, index, at)? {
                key = Some(field);
                continue;
            }
            let mut copy = field.clone();
            *copy.known.borrow_mut() = None;
            let mut labels = copy.labels.take().unwrap_or_default();
            if let Some(name) = &frame.name {
                if field.name == "Value" {
                    copy.name.clone_from(name);
                } else if !labels.iter().any(|(known, _)| known == "name") {
                    labels.push(("name".into(), name.clone()));
                }
            }
            copy.labels = Some(labels);
            others.push(copy);
        }
        let Some(key) = key else {
            dropped = true;
            continue;
        };
        if fields.is_empty() {
            fields.push(key.clone());
        }
        let mut table = vec![key.values.clone()];
        for other in others {
            let span = other.config.get("custom").and_then(|custom| custom.get("spanNulls"));
            let span = match span {
                Some(Value::Bool(true)) => Some(1),
                Some(Value::Number(number)) => number.as_i64(),
                _ => None,
            };
            keeps_nulls.push(span != Some(1));
            spans.push(span);
            table.push(other.values.clone());
            fields.push(other);
        }
        tables.push(table);
    }
    let ref_id = Some(ref_id("joinByField", &frames));
    let empty = Frame { ref_id: ref_id.clone(), ..Frame::default() };
    if tables.is_empty() {
        return Ok(vec![empty]);
    }
    if dropped && mode == "inner" {
        let fields = fields.iter().map(|field| field.with(Vec::new())).collect();
        return Ok(vec![Frame { fields, ..empty }]);
    }
    let columns = match mode {
        "inner" => tabular(tables, false),
        "outerTabular" => tabular(tables, true),
        _ => by_time(&tables, &keeps_nulls, &spans)?,
    };
    let length = columns.first().map_or(0, Vec::len);
    let fields = fields.iter().zip(columns).map(|(field, values)| field.with(values)).collect();
    Ok(vec![Frame { fields, length, ..empty }])
}

/// Every key once, in order; a column without a value for it has none there.
fn by_time(
    tables: &[Vec<Vec<Cell>>],
    keeps_nulls: &[bool],
    spans: &[Option<i64>],
) -> Result<Vec<Vec<Cell>>, String> {
    let same = tables.iter().all(|table| table[0] == tables[0][0]);
    if same {
        let mut columns = vec![tables[0][0].clone()];
        columns.extend(tables.iter().flat_map(|table| table[1..].iter().cloned()));
        if likely_rising(&columns[0])? {
            return Ok(columns);
        }
        let length = columns[0].len();
        let fields =
            columns.into_iter().map(|values| Field::new("", Kind::Number, values)).collect();
        let frame = sorted(&Frame { fields, length, ..Frame::default() }, 0, false)?;
        return Ok(frame.fields.into_iter().map(|field| field.values).collect());
    }
    let mut keys: BTreeMap<u64, f64> = BTreeMap::new();
    for key in tables.iter().flat_map(|table| &table[0]) {
        match key {
            Cell::Number(number) if !number.is_nan() => {
                // In the order of the numbers.
                let bits = (number + 0.0).to_bits();
                let order = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
                keys.insert(order, *number);
            }
            _ => return Err("it joins by what is not numbers; the order is the browser's".into()),
        }
    }
    let keys: Vec<f64> = keys.into_values().collect();
    let mut columns = vec![keys.iter().copied().map(Cell::Number).collect()];
    let mut at = 0;
    for table in tables {
        for values in &table[1..] {
            let mut column = vec![Cell::Absent; keys.len()];
            let mut nulls = Vec::new();
            for (key, value) in table[0].iter().zip(values) {
                let key = key.number().unwrap_or_default();
                let Ok(row) = keys.binary_search_by(|known| known.total_cmp(&(key + 0.0))) else {
                    return Err("it joins by zeros of two signs".into());
                };
                if *value == Cell::Null && !keeps_nulls[at] {
                    continue;
                }
                if *value == Cell::Null {
                    nulls.push(row);
                }
                column[row] = value.clone();
            }
            // A null reaches over what is absent beside it, unless the line ends there.
            if spans[at] != Some(-1) {
                spread(&mut column, &nulls);
            }
            columns.push(column);
            at += 1;
        }
    }
    Ok(columns)
}

fn spread(column: &mut [Cell], nulls: &[usize]) {
    let mut done: Option<usize> = None;
    for null in nulls {
        if done.is_some_and(|done| *null <= done) {
            continue;
        }
        for at in (0..*null).rev() {
            if !column[at].none() {
                break;
            }
            column[at] = Cell::Null;
        }
        for (at, cell) in column.iter_mut().enumerate().skip(*null + 1) {
            if !cell.none() {
                break;
            }
            *cell = Cell::Null;
            done = Some(at);
        }
    }
}

/// The browser looks at fifty places of a column only.
fn likely_rising(values: &[Cell]) -> Result<bool, String> {
    let first = values.iter().position(|value| !value.none());
    let last = values.iter().rposition(|value| !value.none());
    let (Some(first), Some(last)) = (first, last) else { return Ok(true) };
    let step = ((last - first + 1) / 50).max(1);
    let seen = values[first..=last].iter().step_by(step).filter(|value| !value.none());
    let mut before: Option<&Cell> = None;
    for value in seen {
        let risen = match (before, value) {
            (None, _) => true,
            (Some(Cell::Number(a)), Cell::Number(b)) => b > a,
            (Some(Cell::Text(a)), Cell::Text(b)) => b > a,
            _ => return Err("it joins by values of several kinds".into()),
        };
        if !risen {
            return Ok(false);
        }
        before = Some(value);
    }
    Ok(true)
}

/// Every pair of rows with one key, as a database joins; `outer` keeps the rows without a partner.
fn tabular(tables: Vec<Vec<Vec<Cell>>>, outer: bool) -> Vec<Vec<Cell>> {
    let mut tables = tables.into_iter();
    let Some(mut left) = tables.next() else { return Vec::new() };
    for right in tables {
        // By key, in the order of the browser's objects: whole numbers first.
        let mut order: Vec<String> = Vec::new();
        let mut index: HashMap<String, Vec<usize>> = HashMap::new();
        for (row, key) in right[0].iter().enumerate() {
            let key = key.text();
            let rows = index.entry(key.clone()).or_default();
            if rows.is_empty() {
                order.push(key);
            }
            rows.push(row);
        }
        order.sort_by_key(|key| whole(key).unwrap_or(u64::MAX));
        let (mut pairs, mut alone, mut met) = (Vec::new(), Vec::new(), Vec::new());
        for (row, key) in left[0].iter().enumerate() {
            match index.get(&key.text()).filter(|_| !key.none()) {
                Some(rows) => {
                    pairs.extend(rows.iter().map(|other| (Some(row), Some(*other))));
                    // Only texts are known again below.
                    if let Cell::Text(text) = key {
                        met.push(text.clone());
                    }
                }
                None => alone.push((Some(row), None)),
            }
        }
        if outer {
            pairs.extend(alone);
            for key in order.iter().filter(|key| !met.contains(key)) {
                pairs.extend(index[key].iter().map(|row| (None, Some(*row))));
            }
        }
        let take = |column: &Vec<Cell>, row: Option<usize>| match row {
            Some(row) => column.get(row).cloned().unwrap_or(Cell::Absent),
            None => Cell::Null,
        };
        let key = |(l, r): &(Option<usize>, Option<usize>)| match l {
            Some(_) => take(&left[0], *l),
            None => take(&right[0], *r),
        };
        let mut columns = vec![pairs.iter().map(key).collect::<Vec<Cell>>()];
        for column in &left[1..] {
            columns.push(pairs.iter().map(|(l, _)| take(column, *l)).collect());
        }
        for column in &right[1..] {
            columns.push(pairs.iter().map(|(_, r)| take(column, *r)).collect());
        }
        left = columns;
    }
    left
}

/// Names that an object puts first, in their order.
fn whole(key: &str) -> Option<u64> {
    let number: u64 = key.parse().ok()?;
    (number < u64::from(u32::MAX) && number.to_string() == key).then_some(number)
}
