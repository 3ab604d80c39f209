//! Rows are chosen, put in order, or told apart by a column.

use std::cmp::Ordering;

use serde_json::Value;

use super::group::ref_id;
use super::{Cell, Field, Frame, Kind, Options, Pattern, frame_name, js, name_alone, name_in};

/// What a filter asks of a value.
enum Test {
    Null(bool),
    /// Greater, or less, than a number; or the same.
    Size {
        greater: bool,
        equal: bool,
        than: f64,
    },
    Between(f64, f64),
    Equal {
        to: Value,
        negate: bool,
    },
    Within {
        text: String,
        negate: bool,
    },
    Pattern(Pattern),
}

impl Test {
    fn of(config: &Value) -> Result<Self, String> {
        let options = config.get("options");
        let option =
            |key: &str| options.and_then(|options| options.get(key)).unwrap_or(&Value::Null);
        let number = |value: &Value| match value {
            Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Ok(js::number(text)),
            other => Err(format!("it compares with {other}")),
        };
        let size = |greater, equal| {
            Ok::<_, String>(Self::Size { greater, equal, than: number(option("value"))? })
        };
        let bound = |value: &Value| match value {
            Value::String(text) => js::leading(text).trunc(),
            other => other.as_f64().unwrap_or(f64::NAN),
        };
        let text = || option("value").as_str().unwrap_or_default().to_owned();
        let id = config.get("id").and_then(Value::as_str).unwrap_or_default();
        Ok(match id {
            "isNull" => Self::Null(true),
            "isNotNull" => Self::Null(false),
            "greater" => size(true, false)?,
            "greaterOrEqual" => size(true, true)?,
            "lower" => size(false, false)?,
            "lowerOrEqual" => size(false, true)?,
            "between" => Self::Between(bound(option("from")), bound(option("to"))),
            "equal" | "notEqual" => {
                Self::Equal { to: option("value").clone(), negate: id == "notEqual" }
            }
            "substring" | "notSubstring" => {
                Self::Within { text: text().to_lowercase(), negate: id == "notSubstring" }
            }
            "regex" => Self::Pattern(Pattern::anywhere(&text())?),
            other => return Err(format!("the test {other:?} of values is not known")),
        })
    }

    fn passes(&self, cell: &Cell) -> Result<bool, String> {
        // What arithmetic makes of it; an absent value is no number.
        let number = cell.as_number();
        Ok(match self {
            Self::Null(wanted) => cell.none() == *wanted,
            Self::Size { .. } | Self::Between(..) if number.is_nan() => false,
            Self::Size { .. } | Self::Between(..) if matches!(cell, Cell::Text(_)) => {
                return Err("it compares the sizes of texts".into());
            }
            Self::Size { greater, equal, than } => {
                (*equal && number == *than)
                    || (if *greater { number > *than } else { number < *than })
            }
            Self::Between(from, to) => number > *from && number < *to,
            Self::Equal { to, negate } => {
                let same = match (cell, to) {
                    (cell, Value::Null) => cell.none(),
                    (cell, _) if cell.none() => false,
                    (Cell::Text(text), Value::String(to)) => text == to,
                    (Cell::Number(_) | Cell::Bool(_), Value::String(to)) => {
                        number == js::number(to)
                    }
                    (Cell::Number(_) | Cell::Bool(_) | Cell::Text(_), Value::Number(to)) => {
                        to.as_f64() == Some(number)
                    }
                    (Cell::Number(_) | Cell::Bool(_) | Cell::Text(_), Value::Bool(to)) => {
                        number == f64::from(u8::from(*to))
                    }
                    _ => return Err("it compares lists".into()),
                };
                same != *negate
            }
            Self::Within { text, negate } => match cell {
                _ if text.is_empty() => !*negate,
                Cell::Text(value) if !value.is_empty() => {
                    value.to_lowercase().contains(text) != *negate
                }
                _ => false,
            },
            Self::Pattern(pattern) => !cell.none() && pattern.matches(&cell.text()),
        })
    }
}

pub(super) fn filter(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let filters = options.list("filters");
    if filters.is_empty() || frames.is_empty() {
        return Ok(frames);
    }
    let all = options.text("match") == Some("all");
    let include = options.text("type").unwrap_or("include") == "include";
    let mut done = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let names: Vec<String> =
            (0..frame.fields.len()).map(|at| name_in(&frames, index, at)).collect();
        let mut tests = Vec::new();
        for filter in filters {
            let name = filter.get("fieldName").and_then(Value::as_str).unwrap_or_default();
            // The last column of that name; a filter of a column that is not there meets nothing.
            let at = names.iter().rposition(|known| known == name);
            let config = filter.get("config").unwrap_or(&Value::Null);
            tests.push(match at {
                Some(at) => Some((at, Test::of(config)?)),
                None => None,
            });
        }
        let mut rows = Vec::new();
        for row in 0..frame.length {
            let mut passes = false;
            for test in &tests {
                passes = match test {
                    Some((at, test)) => test.passes(frame.fields[*at].at(row))?,
                    None => false,
                };
                if passes != all {
                    break;
                }
            }
            if passes == include {
                rows.push(row);
            }
        }
        done.push(picked(frame, &rows));
        if let Some(frame) = done.last_mut() {
            frame.fields.iter().for_each(|field| *field.known.borrow_mut() = None);
            // The browser counts from the first frame here.
            let kept = rows.len();
            let passed = frame_length(&frames[index]) - kept;
            frame.length =
                if include { kept } else { frame_length(&frames[0]).saturating_sub(passed) };
        }
    }
    Ok(done)
}

fn frame_length(frame: &Frame) -> usize {
    frame.length
}

/// A frame of these rows.
fn picked(frame: &Frame, rows: &[usize]) -> Frame {
    let fields = frame.fields.iter();
    let take = |field: &Field| field.with(rows.iter().map(|row| field.at(*row).clone()).collect());
    Frame { fields: fields.map(take).collect(), length: rows.len(), ..super::bare(frame) }
}

pub(super) fn limit(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let limit = match options.get("limitField") {
        None => 10.0,
        Some(Value::String(text)) => js::leading(text).trunc(),
        Some(value) => value.as_f64().unwrap_or(f64::NAN),
    };
    if !(limit.fract() == 0.0 && limit.abs() < 1e9) {
        return Err(format!("{limit} rows"));
    }
    let size = limit.abs() as usize;
    let cut = |frame: Frame| {
        if (frame.length as f64) <= limit {
            return frame;
        }
        let kept = |field: &Field| {
            let all = field.values.len();
            // Below zero the last ones are meant; where there are fewer, those that the browser's
            // slices take.
            let from = match (limit >= 0.0, all.checked_sub(size)) {
                (true, _) => 0,
                (false, Some(from)) => from,
                (false, None) => (2 * all).saturating_sub(size),
            };
            let to = if limit >= 0.0 { size.min(all) } else { all };
            field.with(field.values.get(from..to).unwrap_or_default().to_vec())
        };
        let fields = frame.fields.iter().map(kept).collect();
        Frame { fields, length: size, ..super::bare(&frame) }
    };
    Ok(frames.into_iter().map(cut).collect())
}

pub(super) fn sort(frames: Vec<Frame>, options: &Options<'_>) -> Result<Vec<Frame>, String> {
    let Some(first) = options.list("sort").first() else { return Ok(frames) };
    let wanted = first.get("field").and_then(Value::as_str);
    let descending = first.get("desc").and_then(Value::as_bool) == Some(true);
    let given = first.get("index").and_then(Value::as_u64).and_then(|i| usize::try_from(i).ok());
    let mut done = Vec::new();
    for frame in frames {
        let named =
            || (0..frame.fields.len()).find(|at| Some(name_alone(&frame, *at).as_str()) == wanted);
        match given.or_else(named) {
            Some(at) => done.push(sorted(&frame, at, descending)?),
            None => done.push(frame),
        }
    }
    Ok(done)
}

pub(super) fn sorted(frame: &Frame, by: usize, descending: bool) -> Result<Frame, String> {
    let Some(field) = frame.fields.get(by) else { return Ok(frame.clone()) };
    let keys: Vec<Key> = (0..frame.length)
        .map(|row| Key::of(field.at(row), field.kind))
        .collect::<Result<_, _>>()?;
    let mut rows: Vec<usize> = (0..frame.length).collect();
    rows.sort_by(|a, b| {
        let (a, b) = if descending { (b, a) } else { (a, b) };
        keys[*a].compare(&keys[*b])
    });
    Ok(picked(frame, &rows))
}

/// What a value is sorted by.
enum Key {
    Number(f64),
    /// Nothing and an empty text come last.
    Empty,
    Letters(Vec<u8>),
}

impl Key {
    fn of(cell: &Cell, kind: Kind) -> Result<Self, String> {
        let cannot = || Err("it sorts by what has no order".to_owned());
        match (kind, cell) {
            (Kind::Number | Kind::Time, Cell::Number(number)) if !number.is_nan() => {
                Ok(Self::Number(*number))
            }
            (Kind::Number | Kind::Time, Cell::Null) => Ok(Self::Number(0.0)),
            (Kind::String, Cell::Null | Cell::Absent) => Ok(Self::Empty),
            (Kind::String, cell) => match cell.text() {
                text if text.is_empty() => Ok(Self::Empty),
                text => Ok(Self::Letters(letters(&text)?)),
            },
            (Kind::Boolean, Cell::Bool(true)) => Ok(Self::Letters(Vec::new())),
            (Kind::Boolean, Cell::Bool(false) | Cell::Null | Cell::Absent) => Ok(Self::Empty),
            _ => cannot(),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Letters(a), Self::Letters(b)) => a.cmp(b),
            (Self::Empty, Self::Letters(_)) => Ordering::Greater,
            (Self::Letters(_), Self::Empty) => Ordering::Less,
            _ => Ordering::Equal,
        }
    }
}

/// How English collates what is not a letter; letters follow, small and great ones alike.
const ORDER: &str = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789";

fn letters(text: &str) -> Result<Vec<u8>, String> {
    let place = |letter: char| {
        let at = ORDER.find(letter).or_else(|| {
            let letter = letter.is_ascii_alphabetic().then(|| letter.to_ascii_lowercase())?;
            Some(ORDER.len() + usize::from(u8::try_from(letter).ok()? - b'a'))
        });
        at.and_then(|at| u8::try_from(at).ok())
            .ok_or_else(|| format!("it sorts {text:?}, which needs a collation"))
    };
    text.chars().map(place).collect()
}

/// Several series in one frame, the newest row first, with a column that names the series.
pub(super) fn series_to_rows(frames: Vec<Frame>, _: &Options<'_>) -> Result<Vec<Frame>, String> {
    if frames.is_empty() {
        return Ok(frames);
    }
    let frames: Vec<Frame> = frames.into_iter().filter(|frame| frame.length > 0).collect();
    if !frames.iter().all(is_series) {
        return Ok(frames);
    }
    let (mut times, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut structure: Option<(Field, Field)> = None;
    for frame in &frames {
        // The last time column is taken, and the first or second other one.
        let time = frame.fields.iter().rposition(|field| field.kind == Kind::Time).unwrap_or(0);
        let value = usize::from(time == 0);
        if structure.is_none() {
            let other = frame.fields.iter().find(|field| field.kind != Kind::Time);
            let other = other.unwrap_or(&frame.fields[value]);
            let first = frame.time().unwrap_or(time);
            if frame.fields.first().is_some_and(|field| field.kind != Kind::Time) {
                return Err("the time is not the first column".into());
            }
            structure = Some((copied(&frame.fields[first], "Time"), copied(other, "Value")));
        }
        let kind = structure.as_ref().map(|(_, value)| value.kind);
        if kind != Some(frame.fields[value].kind) || kind != Some(Kind::Number) {
            return Err("a series is not of numbers".into());
        }
        let name = frame_name(frame);
        for row in 0..frame.length {
            times.push(frame.fields[time].at(row).clone());
            names.push(Cell::Text(name.clone()));
            values.push(frame.fields[value].at(row).clone());
        }
    }
    let length = times.len();
    let fields = match structure {
        None => Vec::new(),
        Some((time, value)) => {
            vec![time.with(times), Field::new("Metric", Kind::String, names), value.with(values)]
        }
    };
    let merged =
        Frame { ref_id: Some(ref_id("seriesToRows", &frames)), fields, length, ..Frame::default() };
    Ok(vec![sorted(&merged, 0, true)?])
}

fn copied(field: &Field, name: &str) -> Field {
    let mut config = field.config.clone();
    config.remove("displayName");
    config.remove("displayNameFromDS");
    Field { config, ..Field::new(name, field.kind, Vec::new()) }
}

/// Whether it has numbers and a time that only goes up.
fn is_series(frame: &Frame) -> bool {
    let rising = |field: &Field| {
        let first = field.values.iter().take(100).filter_map(Cell::number).collect::<Vec<_>>();
        field.kind == Kind::Time && first.windows(2).all(|two| two[1] > two[0])
    };
    frame.fields.len() >= 2
        && frame.fields.iter().any(|field| field.kind == Kind::Number)
        && frame.fields.iter().any(rising)
}
