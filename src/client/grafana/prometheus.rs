//! What the browser makes of Prometheus' series before a panel has them: the names of a legend that is
//! left to Grafana, and tables.

use serde_json::Value;

use super::frame::{Cell, Field, Frame, Kind, common_labels, name_beside, ref_id};

/// Whether a data source is Prometheus, or one of those of clouds that are made of its package.
pub(super) fn is(kind: &str) -> bool {
    matches!(
        kind,
        "prometheus" | "grafana-amazonprometheus-datasource" | "grafana-azureprometheus-datasource"
    )
}

/// The frames of all queries to one Prometheus. Tables come last, one for each query.
pub(super) fn shaped(mut frames: Vec<Frame>, queries: &[&Value]) -> Result<Vec<Frame>, String> {
    let text = |query: &Value, key: &str| query.get(key).and_then(Value::as_str).map(str::to_owned);
    let of = |frame: &Frame, key: &str| {
        let query = queries.iter().find(|query| Some(ref_id(query)) == frame.ref_id.as_deref());
        query.and_then(|query| text(query, key))
    };
    name_by_labels(&mut frames, |frame| of(frame, "legendFormat").as_deref() == Some("__auto"));
    let (mut others, mut tables): (Vec<Frame>, Vec<(String, Vec<Frame>)>) = Default::default();
    for frame in frames {
        match of(&frame, "format").as_deref() {
            Some("table") if frame.exemplars => return Err("exemplars in a table".into()),
            Some("table") => {
                let ref_id = frame.ref_id.clone().unwrap_or_default();
                match tables.iter_mut().find(|(known, _)| *known == ref_id) {
                    Some((_, frames)) => frames.push(frame),
                    None => tables.push((ref_id, vec![frame])),
                }
            }
            // They are drawn as annotations.
            _ if frame.exemplars => {}
            Some("heatmap") => return Err("a heatmap of a histogram's buckets".into()),
            _ => others.push(frame),
        }
    }
    if let [(_, only)] = tables.as_mut_slice()
        && only.len() == 1
        && only.iter().all(|frame| frame.length == 0)
    {
        others.append(only);
        return Ok(others);
    }
    let several = tables.len() > 1;
    for (ref_id, frames) in tables {
        let name = if several { format!("Value #{ref_id}") } else { "Value".into() };
        others.push(table(frames, &name)?);
    }
    Ok(others)
}

/// A column that is called as its metric is named by the labels that tell it from the others.
fn name_by_labels(frames: &mut [Frame], automatic: impl Fn(&Frame) -> bool) {
    let metric = |field: &Field| field.label("__name__").is_some_and(|name| name == field.name);
    let mut names = Vec::new();
    for (at, frame) in frames.iter().enumerate().filter(|(_, frame)| automatic(frame)) {
        for (column, field) in frame.fields.iter().enumerate().filter(|(_, field)| metric(field)) {
            let beside = frames.iter().filter(|other| other.ref_id == frame.ref_id);
            let common = match beside.clone().count() {
                1 => Vec::new(),
                _ => common_labels(beside.flat_map(|one| &one.fields).filter(|one| metric(one))),
            };
            names.push((at, column, name_beside(field, frame, frames, &common)));
        }
    }
    for (at, column, name) in names {
        if let Some(field) = frames.get_mut(at).and_then(|frame| frame.fields.get_mut(column)) {
            field.config.insert("displayNameFromDS".into(), name.into());
        }
    }
}

/// Series as one table: the time, a column for each label, the value.
fn table(frames: Vec<Frame>, value: &str) -> Result<Frame, String> {
    let mut labels: Vec<String> = Vec::new();
    let mut series = Vec::new();
    for frame in &frames {
        let (time, value) = match frame.fields.as_slice() {
            [] => continue,
            [time, value] if time.kind == Kind::Time && value.kind == Kind::Number => (time, value),
            _ => return Err("a series is not a time and a number".into()),
        };
        let mut own: Vec<&String> = value.labels.iter().flatten().map(|(name, _)| name).collect();
        own.sort();
        for name in own {
            if !labels.contains(name) {
                labels.push(name.clone());
            }
        }
        series.push((frame.length, time, value));
    }
    if labels.iter().any(|name| name == "le") {
        return Err("a table of a histogram's buckets".into());
    }
    let times = series.iter().flat_map(|(_, time, _)| &time.values).cloned().collect();
    let mut fields = vec![Field::new("Time", Kind::Time, times)];
    for name in labels {
        let values = series.iter().flat_map(|(length, _, value)| {
            let text = value.label(&name).unwrap_or_default();
            std::iter::repeat_n(Cell::Text(text.to_owned()), *length)
        });
        fields.push(Field::new(&name, Kind::String, values.collect()));
    }
    let values = series.iter().flat_map(|(_, _, value)| &value.values).map(number);
    fields.push(Field::new(value, Kind::Number, values.collect::<Result<_, _>>()?));
    by_time(&mut fields);
    let length = series.iter().map(|(length, ..)| length).sum();
    let first = frames.first();
    let ref_id = first.and_then(|frame| frame.ref_id.clone());
    let typed = first.is_some_and(|frame| frame.typed);
    Ok(Frame { ref_id, typed, fields, length, ..Frame::default() })
}

fn number(value: &Cell) -> Result<Cell, String> {
    match value {
        // Older versions of Grafana show it as it is, newer ones as its contrary.
        Cell::Number(number) if *number == f64::NEG_INFINITY => {
            Err("a table with an infinity below zero".into())
        }
        Cell::Number(_) => Ok(value.clone()),
        _ => Ok(Cell::Number(f64::NAN)),
    }
}

/// Rows of several series stand in the order of their times.
fn by_time(fields: &mut [Field]) {
    let Some(times) = fields.first().map(|time| &time.values) else { return };
    let mut rows: Vec<usize> = (0..times.len()).collect();
    let at = |row: &usize| times.get(*row).map_or(f64::NAN, Cell::as_number);
    rows.sort_by(|a, b| at(a).partial_cmp(&at(b)).unwrap_or(std::cmp::Ordering::Equal));
    for field in fields.iter_mut() {
        field.values = rows.iter().map(|row| field.at(*row).clone()).collect();
    }
}
