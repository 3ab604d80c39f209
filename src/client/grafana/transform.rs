//! Transformations: what a panel does to its frames before it shows them.

use serde_json::{Map, Value};

use super::frame::{Cell, Field, Frame, Kind, frame_name, guess, shown_name};
use super::js::{self, Pattern};
use super::matching::{Matcher, by_query, strings};
use super::reduce::{Reducer, reduce};

mod calculate;
mod combine;
mod group;
mod rows;

type Run = fn(Vec<Frame>, &Options<'_>) -> Result<Vec<Frame>, String>;

/// What is computed. The rest is inconclusive.
const KNOWN: &[(&str, Run)] = &[
    ("calculateField", calculate::calculate),
    ("concatenate", combine::concatenate),
    ("convertFieldType", convert),
    ("filterByRefId", filter_by_query),
    ("filterByValue", rows::filter),
    ("filterFieldsByName", filter_by_name),
    ("groupBy", group::group),
    ("joinByField", combine::join),
    ("labelsToFields", labels_to_fields),
    ("limit", rows::limit),
    ("merge", combine::merge),
    ("organize", organize),
    ("reduce", group::reduce_all),
    ("renameByRegex", rename_by_pattern),
    ("seriesToColumns", combine::join),
    ("seriesToRows", rows::series_to_rows),
    ("sortBy", rows::sort),
];

#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(id, _)| *id)
}

/// A transformation's options.
pub(super) struct Options<'a>(&'a Value);

impl<'a> Options<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    fn list(&self, key: &str) -> &'a [Value] {
        self.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn map(&self, key: &str) -> Option<&'a Map<String, Value>> {
        self.get(key).and_then(Value::as_object)
    }

    fn reducers(&self, key: &str) -> Result<Vec<Reducer>, String> {
        strings(self.get(key)).iter().map(|id| Reducer::of(id)).collect()
    }
}

/// Does one after the other. The error names the one that can't be computed.
pub(super) fn transform(mut frames: Vec<Frame>, list: &Value) -> Result<Vec<Frame>, String> {
    for step in list.as_array().into_iter().flatten() {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let disabled = step.get("disabled").and_then(Value::as_bool) == Some(true);
        if disabled || text("topic").is_some_and(|topic| topic != "series") {
            continue;
        }
        let id = text("id").unwrap_or_default();
        let known = KNOWN.iter().find(|(known, _)| *known == id);
        let Some((_, run)) = known else {
            return Err(format!("the transformation {id:?} is not computed"));
        };
        let none = Value::Null;
        let options = Options(step.get("options").unwrap_or(&none));
        let run = |frames| run(frames, &options);
        frames = filtered(frames, step.get("filter"), run)
            .map_err(|why| format!("the transformation {id:?}: {why}"))?;
    }
    Ok(frames)
}

/// Only some frames are transformed; the others are put back behind the first of them.
fn filtered(
    frames: Vec<Frame>,
    filter: Option<&Value>,
    run: impl FnOnce(Vec<Frame>) -> Result<Vec<Frame>, String>,
) -> Result<Vec<Frame>, String> {
    let options = filter.and_then(|filter| filter.get("options")).filter(|options| match options {
        Value::String(text) => !text.is_empty(),
        other => !other.is_null(),
    });
    let Some(options) = options else { return run(frames) };
    let id = filter.and_then(|filter| filter.get("id")).and_then(Value::as_str);
    let (Some("byRefId"), Some(wanted)) = (id, options.as_str()) else {
        return Err("its filter of frames is not known".into());
    };
    let (mut meant, mut others, mut insert) = (Vec::new(), Vec::new(), 0);
    for (at, frame) in frames.into_iter().enumerate() {
        if by_query(&frame, wanted)? {
            meant.push(frame);
        } else {
            if insert == 0 {
                insert = at;
            }
            others.push(frame);
        }
    }
    let mut after = run(meant)?;
    let behind = after.split_off(insert.min(after.len()));
    after.extend(others);
    after.extend(behind);
    Ok(after)
}

fn name_in(frames: &[Frame], frame: usize, at: usize) -> String {
    let owner = &frames[frame];
    shown_name(&owner.fields[at], Some((owner, at)), Some(frames))
}

fn name_alone(frame: &Frame, at: usize) -> String {
    shown_name(&frame.fields[at], Some((frame, at)), None)
}

/// Keeps the columns that are included and not excluded; a frame without any is left out.
fn keep(
    frames: &[Frame],
    include: Option<&Matcher>,
    exclude: Option<&Matcher>,
) -> Result<Vec<Frame>, String> {
    let mut kept = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let mut fields = Vec::new();
        for at in 0..frame.fields.len() {
            if let Some(exclude) = exclude
                && exclude.matches(frames, index, at)?
            {
                continue;
            }
            let included = match include {
                Some(include) => include.matches(frames, index, at)?,
                None => true,
            };
            if included {
                fields.push(frame.fields[at].clone());
            }
        }
        if !fields.is_empty() {
            kept.push(Frame { fields, ..bare(frame) });
        }
    }
    Ok(kept)
}

/// A frame without its columns.
fn bare(frame: &Frame) -> Frame {
    Frame {
        name: frame.name.clone(),
        ref_id: frame.ref_id.clone(),
        typed: frame.typed,
        length: frame.length,
        ..Frame::default()
    }
}

fn filter_by_name(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let by_variable = options.flag("byVariable") == Some(true);
    let matcher = |key: &str| -> Result<Option<Matcher>, String> {
        let Some(choice) = options.get(key) else { return Ok(None) };
        let choice = Options(choice);
        if let (true, Some(variable)) =
            (by_variable, choice.text("variable").filter(|text| !text.is_empty()))
        {
            let bare = variable.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let names = bare.unwrap_or(variable).split(',').map(str::to_owned);
            return Ok(Some(Matcher::names(names)));
        }
        let named = !choice.list("names").is_empty();
        let pattern = choice.text("pattern").filter(|pattern| !pattern.is_empty());
        Ok(match (named, pattern) {
            (false, None) => None,
            (true, None) => Some(Matcher::names(strings(choice.get("names")))),
            (false, Some(_)) => Some(Matcher::of("byRegexp", choice.get("pattern"))?),
            (true, Some(_)) => Some(Matcher::of("byRegexpOrNames", Some(choice.0))?),
        })
    };
    let (include, exclude) = (matcher("include")?, matcher("exclude")?);
    if include.is_none() && exclude.is_none() {
        return Ok(frames);
    }
    keep(&frames, include.as_ref(), exclude.as_ref())
}

fn filter_by_query(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let choice = |key: &str| options.text(key).filter(|text| !text.is_empty());
    let (include, exclude) = (choice("include"), choice("exclude"));
    let mut kept = Vec::new();
    for frame in frames {
        let out = exclude.map(|wanted| by_query(&frame, wanted)).transpose()? == Some(true);
        let within = include.map(|wanted| by_query(&frame, wanted)).transpose()?.unwrap_or(true);
        if within && !out {
            kept.push(frame);
        }
    }
    Ok(kept)
}

fn organize(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let chosen = |key: &str| {
        let map = options.map(key)?;
        let truthy = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let names: Vec<String> =
            map.iter().filter(|(_, value)| truthy(value)).map(|(name, _)| name.clone()).collect();
        (!names.is_empty()).then(|| Matcher::names(names))
    };
    let (include, exclude) = (chosen("includeByName"), chosen("excludeByName"));
    let mut frames = if include.is_none() && exclude.is_none() {
        frames
    } else {
        keep(&frames, include.as_ref(), exclude.as_ref())?
    };
    if options.text("orderByMode").is_some_and(|mode| mode != "manual") {
        return Err("it orders columns by collation".into());
    }
    let places = options.map("indexByName");
    let place = |name: &str| {
        let place = places.and_then(|places| places.get(name)).and_then(Value::as_i64);
        place.unwrap_or(i64::MAX)
    };
    let orders: Vec<Vec<usize>> = (0..frames.len())
        .map(|index| {
            let mut order: Vec<usize> = (0..frames[index].fields.len()).collect();
            order.sort_by_cached_key(|at| place(&name_in(&frames, index, *at)));
            order
        })
        .collect();
    for (frame, order) in frames.iter_mut().zip(orders) {
        frame.fields = order.into_iter().map(|at| frame.fields[at].clone()).collect();
    }
    let names = options.map("renameByName").filter(|names| !names.is_empty());
    for frame in frames.iter_mut().filter(|_| names.is_some()) {
        let new = |at: usize| {
            let new = names.and_then(|names| names.get(&name_alone(frame, at)));
            new.and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
        };
        let all: Vec<Option<String>> = (0..frame.fields.len()).map(new).collect();
        rename(frame, all);
    }
    Ok(frames)
}

fn rename(frame: &mut Frame, names: Vec<Option<String>>) {
    for (field, name) in frame.fields.iter_mut().zip(names) {
        if let Some(name) = name {
            let several = field.known.borrow().as_ref().is_some_and(|(_, several)| *several);
            *field.known.borrow_mut() = Some((name.clone(), several));
            field.config.insert("displayName".into(), name.into());
        }
    }
}

fn rename_by_pattern(mut frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let pattern = Pattern::of(options.text("regex").unwrap_or("(.*)"))?;
    let with = options.text("renamePattern").unwrap_or("$1");
    for frame in &mut frames {
        let new = |at: usize| {
            let name = name_alone(frame, at);
            pattern.matches(&name).then(|| pattern.replace(&name, with))
        };
        let all: Vec<Option<String>> = (0..frame.fields.len()).map(new).collect();
        rename(frame, all);
    }
    Ok(frames)
}

fn convert(mut frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    for conversion in options.list("conversions") {
        let conversion = Options(conversion);
        let Some(target) = conversion.text("targetField").filter(|name| !name.is_empty()) else {
            continue;
        };
        let matcher = Matcher::names([target.to_owned()]);
        let to = conversion.text("destinationType").unwrap_or_default();
        for index in 0..frames.len() {
            for at in 0..frames[index].fields.len() {
                if matcher.matches(&frames, index, at)? {
                    let converted = converted(&frames[index].fields[at], to, &conversion)?;
                    frames[index].fields[at] = converted;
                }
            }
        }
    }
    Ok(frames)
}

fn converted(field: &Field, to: &str, how: &Options<'_>) -> Result<Field, String> {
    let kind = Kind::of(to);
    let values = match to {
        "number" => field.values.iter().map(to_number).collect(),
        "boolean" => {
            let truth = |cell: &Cell| match cell {
                Cell::Absent | Cell::Null => false,
                Cell::Number(number) => *number != 0.0 && !number.is_nan(),
                Cell::Text(text) => !text.is_empty(),
                Cell::Bool(truth) => *truth,
                Cell::List(_) => true,
            };
            field.values.iter().map(|cell| Cell::Bool(truth(cell))).collect()
        }
        "string" if matches!(field.kind, Kind::Number | Kind::Boolean) => {
            field.values.iter().map(|cell| Cell::Text(cell.text())).collect()
        }
        // Numbers are taken for milliseconds as they are.
        "time"
            if matches!(field.values.first(), Some(Cell::Number(_)))
                && how.text("dateFormat") != Some("X") =>
        {
            field.values.clone()
        }
        "" => return Ok(field.clone()),
        other => {
            return Err(format!("a column of the kind {:?} made a {other:?}", field.kind));
        }
    };
    Ok(Field { kind, ..field.with(values) })
}

fn to_number(cell: &Cell) -> Cell {
    let number = match cell {
        Cell::Absent | Cell::Null => return Cell::Null,
        Cell::Text(text) => match text.replace(',', "") {
            bare if bare.is_empty() => return Cell::Null,
            bare => js::number(&bare),
        },
        other => other.as_number(),
    };
    if number.is_finite() { Cell::Number(number) } else { Cell::Null }
}

fn labels_to_fields(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let wanted = strings(options.get("keepLabels"));
    if options.text("mode") == Some("rows") {
        return Ok(labels_to_rows(&frames, options.get("keepLabels").map(|_| wanted.as_slice())));
    }
    let value_label = options.text("valueLabel");
    let mut done = Vec::new();
    for mut frame in frames {
        let mut columns: Vec<(String, Vec<String>)> = Vec::new();
        for field in &mut frame.fields {
            let Some(labels) = field.labels.take() else { continue };
            field.config.remove("displayName");
            field.config.remove("displayNameFromDS");
            for (name, value) in labels {
                if !wanted.is_empty() && !wanted.contains(&name) {
                    continue;
                }
                if value_label == Some(name.as_str()) {
                    field.name = value;
                    continue;
                }
                match columns.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, values)) if values.contains(&value) => {}
                    Some((_, values)) => values.push(value),
                    None => columns.push((name, vec![value])),
                }
            }
        }
        for (name, values) in columns {
            for value in values {
                let cells = vec![Cell::Text(value); frame.length];
                frame.fields.push(Field::new(&name, Kind::String, cells));
            }
        }
        done.push(frame);
    }
    Ok(done)
}

fn labels_to_rows(frames: &[Frame], wanted: Option<&[String]>) -> Vec<Frame> {
    let mut done = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        for (at, field) in frame.fields.iter().enumerate() {
            let Some(labels) = &field.labels else { continue };
            let text = |text: &str| Cell::Text(text.into());
            let (keys, values): (Vec<Cell>, Vec<Cell>) = match wanted {
                Some(wanted) => wanted
                    .iter()
                    .map(|name| (text(name), field.label(name).map_or(Cell::Absent, text)))
                    .unzip(),
                None => labels.iter().map(|(name, value)| (text(name), text(value))).unzip(),
            };
            if keys.is_empty() {
                continue;
            }
            let length = keys.len();
            let fields = vec![
                Field::new("label", Kind::String, keys),
                Field::new("value", Kind::String, values),
            ];
            let name = Some(name_in(frames, index, at)).filter(|name| !name.is_empty());
            done.push(Frame { name, fields, length, ..bare(frame) });
        }
    }
    done
}
