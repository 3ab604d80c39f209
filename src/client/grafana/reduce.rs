//! From the frames of Grafana's data sources to the number that a panel shows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the values of a series become one number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Reduce {
    #[default]
    LastNotNull,
    FirstNotNull,
    Sum,
    Mean,
    Min,
    Max,
    Count,
}

impl Reduce {
    /// What the panel is set to.
    pub(super) fn of_panel(panel: &Value) -> Result<Self, String> {
        let options = panel.get("options").and_then(|options| options.get("reduceOptions"));
        let calc = options
            .and_then(|options| options.get("calcs"))
            .and_then(Value::as_array)
            .and_then(|calcs| calcs.first())
            .and_then(Value::as_str);
        match calc {
            None | Some("lastNotNull" | "last") => Ok(Self::LastNotNull),
            Some("firstNotNull" | "first") => Ok(Self::FirstNotNull),
            Some("sum") => Ok(Self::Sum),
            Some("mean") => Ok(Self::Mean),
            Some("min") => Ok(Self::Min),
            Some("max") => Ok(Self::Max),
            Some("count") => Ok(Self::Count),
            Some(other) => Err(format!("the panel reduces by {other:?}; give `reduce`")),
        }
    }

    /// None where there is no value at all.
    fn apply(self, values: &[f64]) -> Option<f64> {
        let (first, last) = (values.first()?, values.last()?);
        let sum = || values.iter().sum::<f64>();
        Some(match self {
            Self::LastNotNull => *last,
            Self::FirstNotNull => *first,
            Self::Sum => sum(),
            Self::Mean => sum() / values.len() as f64,
            Self::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Count => values.len() as f64,
        })
    }
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// "No data".
    Nothing,
    One(f64),
    /// The names of the series.
    Several(Vec<String>),
}

/// Reduces every numeric column of an answer of `/api/ds/query`.
pub(super) fn numbers(
    answer: &Value,
    hidden: &[String],
    reduce: Reduce,
    wanted: Option<&str>,
) -> Result<Shown, String> {
    let results = answer.get("results").and_then(Value::as_object).ok_or("it has no results")?;
    let mut shown: Vec<(String, f64)> = Vec::new();
    for (_, result) in results.iter().filter(|(name, _)| !hidden.contains(name)) {
        for frame in result.get("frames").and_then(Value::as_array).into_iter().flatten() {
            columns(frame, reduce, &mut shown)?;
        }
    }
    if let Some(wanted) = wanted {
        shown.retain(|(name, _)| name == wanted);
    }
    match shown.as_slice() {
        [] => Ok(Shown::Nothing),
        [(_, value)] => Ok(Shown::One(*value)),
        several => Ok(Shown::Several(several.iter().map(|(name, _)| name.clone()).collect())),
    }
}

fn columns(frame: &Value, reduce: Reduce, shown: &mut Vec<(String, f64)>) -> Result<(), String> {
    let fields = frame.get("schema").and_then(|s| s.get("fields")).and_then(Value::as_array);
    let fields = fields.ok_or("a frame has no fields")?;
    let values = frame.get("data").and_then(|d| d.get("values")).and_then(Value::as_array);
    let values = values.ok_or("a frame has no values")?;
    for (index, field) in fields.iter().enumerate() {
        if field.get("type").and_then(Value::as_str) != Some("number") {
            continue;
        }
        // A null is no value, nor is what JSON can't write (NaN, listed apart under `entities`).
        let column = values.get(index).and_then(Value::as_array);
        let column: Vec<f64> = column.into_iter().flatten().filter_map(Value::as_f64).collect();
        if let Some(value) = reduce.apply(&column) {
            shown.push((name(frame, field), value));
        } else if reduce == Reduce::Count {
            shown.push((name(frame, field), 0.0));
        }
    }
    Ok(())
}

/// As the legend has it, roughly: the given name, else the labels, else the column's name.
fn name(frame: &Value, field: &Value) -> String {
    let config = field.get("config");
    let given = ["displayNameFromDS", "displayName"]
        .into_iter()
        .find_map(|key| config?.get(key)?.as_str().filter(|name| !name.is_empty()));
    if let Some(given) = given {
        return given.to_owned();
    }
    let labels = field.get("labels").and_then(Value::as_object).filter(|l| !l.is_empty());
    if let Some(labels) = labels {
        let pairs: Vec<String> = labels
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={:?}", value.as_str()?)))
            .collect();
        return format!("{{{}}}", pairs.join(", "));
    }
    let frame_name = frame.get("schema").and_then(|s| s.get("name")).and_then(Value::as_str);
    let column = field.get("name").and_then(Value::as_str);
    column.or(frame_name).unwrap_or_default().to_owned()
}
