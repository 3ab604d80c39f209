//! Many rows become one, for each column or for each group of rows.

use serde_json::Value;

use super::{Cell, Field, Frame, Kind, Matcher, Reducer, guess, reduce, shown_name};
use super::{Options, bare, name_in};

/// One row for each column, or each column's reduced values in its place.
pub(super) fn reduce_all(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let reducers = match options.get("reducers") {
        Some(_) => options.reducers("reducers")?,
        None => vec![Reducer::of("max")?],
    };
    if reducers.is_empty() {
        return Ok(frames);
    }
    let in_place = options.text("mode") == Some("reduceFields");
    let matcher = match options.get("fields") {
        Some(fields) => {
            let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
            if id == "byValue" {
                return Err("columns chosen by their values".into());
            }
            Matcher::of(id, fields.get("options"))?
        }
        None if in_place && options.flag("includeTimeField") == Some(true) => Matcher::All,
        None => Matcher::NotTime,
    };
    if in_place {
        return in_their_place(&frames, &matcher, &reducers);
    }
    to_rows(&frames, &matcher, &reducers, options.flag("labelsToFields") == Some(true))
}

fn chosen(frames: &[Frame], index: usize, matcher: &Matcher) -> Result<Vec<usize>, String> {
    let mut chosen = Vec::new();
    for at in 0..frames[index].fields.len() {
        if matcher.matches(frames, index, at)? {
            chosen.push(at);
        }
    }
    Ok(chosen)
}

fn in_their_place(
    frames: &[Frame],
    matcher: &Matcher,
    reducers: &[Reducer],
) -> Result<Vec<Frame>, String> {
    let mut done = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let mut fields = Vec::new();
        for at in chosen(frames, index, matcher)? {
            let field = &frame.fields[at];
            for reducer in reducers {
                let kind = match reducer.id().as_str() {
                    "allValues" | "uniqueValues" => Kind::Other,
                    "first" | "firstNotNull" | "last" | "lastNotNull" => field.kind,
                    _ => Kind::Number,
                };
                let mut labels = field.labels.clone().unwrap_or_default();
                if reducers.len() > 1 {
                    labels.retain(|(name, _)| name != "reducer");
                    labels.push(("reducer".into(), reducer.title()));
                }
                let reduced = Field::new(&field.name, kind, vec![reduce(field, *reducer)?]);
                let config = field.config.clone();
                fields.push(Field { labels: Some(labels), config, ..reduced });
            }
        }
        if !fields.is_empty() {
            done.push(Frame { fields, length: 1, ..bare(frame) });
        }
    }
    Ok(done)
}

fn to_rows(
    frames: &[Frame],
    matcher: &Matcher,
    reducers: &[Reducer],
    with_labels: bool,
) -> Result<Vec<Frame>, String> {
    let mut labels: Vec<String> = Vec::new();
    let fields = frames.iter().flat_map(|frame| &frame.fields).filter(|_| with_labels);
    for (name, _) in fields.filter_map(|field| field.labels.as_ref()).flatten() {
        if !labels.contains(name) {
            labels.push(name.clone());
        }
    }
    let mut result: Option<Frame> = None;
    for (index, frame) in frames.iter().enumerate() {
        let columns = chosen(frames, index, matcher)?;
        let names = columns.iter().map(|at| match with_labels {
            true => frame.fields[*at].name.clone(),
            false => name_in(frames, index, *at),
        });
        let mut fields = vec![Field::new("Field", Kind::String, names.map(Cell::Text).collect())];
        for label in &labels {
            let value = |at: &usize| match frame.fields[*at].label(label) {
                Some(value) => Cell::Text(value.into()),
                None => Cell::Absent,
            };
            fields.push(Field::new(label, Kind::String, columns.iter().map(value).collect()));
        }
        for reducer in reducers {
            let mut values = Vec::new();
            for at in &columns {
                values.push(match reduce(&frame.fields[*at], *reducer)? {
                    Cell::Null => Cell::Number(f64::NAN),
                    value => value,
                });
            }
            let title = reducer.title();
            let kind = guess(&title, &values).unwrap_or(Kind::Other);
            fields.push(Field::new(&title, kind, values));
        }
        let length = columns.len();
        let frame = Frame { fields, length, ..bare(frame) };
        match &mut result {
            None => result = Some(frame),
            Some(base) => append(base, frame),
        }
    }
    let Some(mut result) = result else { return Ok(Vec::new()) };
    result.name = None;
    result.length = result.fields.first().map_or(0, |field| field.values.len());
    result.ref_id = Some(ref_id("reduce", frames));
    Ok(vec![result])
}

pub(super) fn ref_id(transformation: &str, frames: &[Frame]) -> String {
    let ids = frames.iter().map(|frame| frame.ref_id.clone().unwrap_or_default());
    format!("{transformation}-{}", ids.collect::<Vec<_>>().join("-"))
}

/// Puts rows behind those of a frame, column by column where name and kind are the same.
fn append(base: &mut Frame, more: Frame) {
    for (at, field) in base.fields.iter_mut().enumerate() {
        for (other, values) in more.fields.iter().enumerate() {
            let first = at == 0 && other == 0;
            if first || (field.kind == values.kind && field.name == values.name) {
                field.values.extend(values.values.iter().cloned());
            }
        }
    }
}

/// One row for each group of rows that have the same values in some columns.
pub(super) fn group(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let Some(settings) = options.map("fields") else { return Ok(frames) };
    let operation =
        |setting: &Value| setting.get("operation").and_then(Value::as_str).map(str::to_owned);
    let by: Vec<String> = settings
        .iter()
        .filter(|(_, setting)| operation(setting).as_deref() == Some("groupby"))
        .map(|(name, _)| name.clone())
        .collect();
    if by.is_empty() {
        return Ok(frames);
    }
    let matcher = Matcher::names(by);
    let mut done = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let keys = chosen(&frames, index, &matcher)?;
        if keys.is_empty() {
            continue;
        }
        // Columns of one name are one here.
        let name = |at: usize| shown_name(&frame.fields[at], None, None);
        let names: Vec<String> = (0..frame.fields.len()).map(name).collect();
        if (1..names.len()).any(|at| names[..at].contains(&names[at])) {
            return Err("two columns have one name".into());
        }
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for row in 0..frame.length {
            let key: Vec<String> = keys
                .iter()
                .map(|at| match frame.fields[*at].at(row) {
                    cell if cell.none() => String::new(),
                    cell => cell.text(),
                })
                .collect();
            let key = key.join(",");
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((key, vec![row])),
            }
        }
        let mut fields: Vec<Field> = keys
            .iter()
            .map(|at| {
                let field = &frame.fields[*at];
                let firsts = groups.iter().filter_map(|(_, rows)| rows.first());
                let values = firsts.map(|row| field.at(*row).clone()).collect();
                Field {
                    config: field.config.clone(),
                    ..Field::new(&field.name, field.kind, values)
                }
            })
            .collect();
        for (at, field) in frame.fields.iter().enumerate() {
            let setting = settings.get(&names[at]).or_else(|| settings.get(&field.name));
            let Some(setting) = setting.filter(|setting| setting.is_object()) else { continue };
            let setting_options = Options(setting);
            let reducers = setting_options.reducers("aggregations")?;
            let counted = reducers.len() == 1 && reducers[0].id() == "count";
            let meant = match operation(setting).as_deref() {
                Some("aggregate") => true,
                Some("groupby") => counted,
                _ => false,
            };
            for reducer in reducers.into_iter().filter(|_| meant) {
                let mut values = Vec::new();
                for (_, rows) in &groups {
                    let of = rows.iter().map(|row| field.at(*row).clone()).collect();
                    values.push(reduce(&field.with(of), reducer)?);
                }
                let name = format!("{} ({})", names[at], reducer.id());
                fields.push(Field::new(&name, reducer.kind(field.kind), values));
            }
        }
        let length = groups.len();
        done.push(Frame { ref_id: frame.ref_id.clone(), fields, length, ..Frame::default() });
    }
    Ok(done)
}
