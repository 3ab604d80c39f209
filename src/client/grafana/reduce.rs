//! How a column becomes one value.

use super::frame::{Cell, Field, Kind};

/// Every reducer: its id, its name as a legend or a table has it, and whether what it yields has the
/// unit of the column.
const REDUCERS: &[(&str, &str, bool)] = &[
    ("lastNotNull", "Last *", true),
    ("last", "Last", true),
    ("firstNotNull", "First *", true),
    ("first", "First", true),
    ("min", "Min", true),
    ("max", "Max", true),
    ("mean", "Mean", true),
    ("median", "Median", true),
    ("variance", "Variance", true),
    ("stdDev", "StdDev", true),
    ("sum", "Total", true),
    ("count", "Count", false),
    ("countAll", "Count all", false),
    ("range", "Range", true),
    ("delta", "Delta", true),
    ("step", "Step", true),
    ("diff", "Difference", true),
    ("logmin", "Min (above zero)", true),
    ("allIsZero", "All Zeros", true),
    ("allIsNull", "All Nulls", false),
    ("changeCount", "Change Count", false),
    ("distinctCount", "Distinct Count", false),
    ("diffperc", "Difference percent", false),
    ("allValues", "All values", false),
    ("uniqueValues", "All unique values", false),
];
/// Names of before.
const ALIASES: &[(&str, &str)] = &[("current", "lastNotNull"), ("avg", "mean"), ("total", "sum")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reducer {
    /// Its place in the table.
    Named(usize),
    Percentile(u8),
}

impl Reducer {
    /// The error names what is not known.
    pub fn of(id: &str) -> Result<Self, String> {
        let id = ALIASES.iter().find(|(alias, _)| *alias == id).map_or(id, |(_, id)| id);
        if let Some(at) = REDUCERS.iter().position(|(known, ..)| *known == id) {
            return Ok(Self::Named(at));
        }
        let percent = id.strip_prefix('p').filter(|p| !p.starts_with(['0', '+']));
        match percent.and_then(|percent| percent.parse().ok()) {
            Some(percent @ 1..=99) => Ok(Self::Percentile(percent)),
            _ => Err(format!("the reducer {id:?} is not known")),
        }
    }

    fn row(self) -> Option<&'static (&'static str, &'static str, bool)> {
        match self {
            Self::Named(at) => REDUCERS.get(at),
            Self::Percentile(_) => None,
        }
    }

    pub(super) fn id(self) -> String {
        match self {
            Self::Percentile(percent) => format!("p{percent}"),
            Self::Named(_) => self.row().map_or("", |row| row.0).into(),
        }
    }

    pub(super) fn title(self) -> String {
        let Self::Percentile(percent) = self else {
            return self.row().map_or("", |row| row.1).into();
        };
        let ending = match (percent, percent % 10) {
            (4..=20, _) => "th",
            (_, 1) => "st",
            (_, 2) => "nd",
            (_, 3) => "rd",
            _ => "th",
        };
        format!("{percent}{ending} %")
    }

    pub(super) fn keeps_unit(self) -> bool {
        self.row().is_none_or(|row| row.2)
    }

    /// The kind of a column of such values.
    pub(super) fn kind(self, of: Kind) -> Kind {
        match self.id().as_str() {
            "count" | "distinctCount" | "changeCount" | "countAll" => Kind::Number,
            "allIsNull" | "allIsZero" => Kind::Boolean,
            _ => of,
        }
    }
}

/// All ids, for the documents.
#[cfg(test)]
pub(super) fn known() -> Vec<String> {
    let named = REDUCERS.iter().map(|row| row.0.to_owned());
    named.chain((1..100).map(|percent| format!("p{percent}"))).collect()
}

/// What becomes of the nulls of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    Ignored,
    Zero,
    Counted,
}

impl Nulls {
    pub(super) fn of(mode: Option<&str>) -> Self {
        match mode {
            None | Some("connected" | "") => Self::Ignored,
            Some("null as zero") => Self::Zero,
            Some(_) => Self::Counted,
        }
    }
}

/// A column's value by its reducer. The error says what can't be computed.
pub(super) fn reduce(field: &Field, reducer: Reducer) -> Result<Cell, String> {
    if field.values.is_empty() {
        return Ok(match reducer.id().as_str() {
            "sum" | "count" | "countAll" => Cell::Number(0.0),
            "allIsZero" => Cell::Bool(false),
            "allIsNull" => Cell::Bool(true),
            _ => Cell::Absent,
        });
    }
    let mode = field.config.get("nullValueMode").and_then(serde_json::Value::as_str);
    by(&field.values, field.kind, reducer, Nulls::of(mode))
}

pub(super) fn by(
    values: &[Cell],
    kind: Kind,
    reducer: Reducer,
    nulls: Nulls,
) -> Result<Cell, String> {
    let Reducer::Named(_) = reducer else { return sorted(values, kind, reducer, nulls) };
    if kind.counts() && values.iter().any(|v| !v.none() && v.number().is_none()) {
        return Err("a column of numbers holds something else".into());
    }
    let with_zero = |cell: &Cell| match nulls {
        Nulls::Zero if *cell == Cell::Null => Cell::Number(0.0),
        _ => cell.clone(),
    };
    let counted = || values.iter().filter(|v| nulls != Nulls::Ignored || **v != Cell::Null);
    Ok(match reducer.id().as_str() {
        "last" => values.last().cloned().unwrap_or(Cell::Absent),
        "first" => values.first().cloned().unwrap_or(Cell::Absent),
        // Taken as they stand, whatever nulls are taken for.
        "lastNotNull" => values.iter().rev().find(|v| v.there()).cloned().unwrap_or(Cell::Null),
        "firstNotNull" => values.iter().find(|v| v.there()).cloned().unwrap_or(Cell::Null),
        "median" => return sorted(values, kind, reducer, nulls),
        "variance" => Cell::Number(variance(values, kind)),
        "stdDev" => Cell::Number(variance(values, kind).sqrt()),
        "countAll" => Cell::Number(values.len() as f64),
        "allValues" => Cell::List(values.to_vec()),
        "uniqueValues" => Cell::List(distinct(values.iter().cloned())),
        "distinctCount" => Cell::Number(distinct(counted().map(with_zero)).len() as f64),
        "changeCount" => {
            let seen: Vec<Cell> = counted().map(with_zero).collect();
            let changes = seen.windows(2).filter(|two| !two[0].same(&two[1], false)).count();
            Cell::Number(changes as f64)
        }
        id => Standard::of(values, kind, nulls).get(id),
    })
}

fn distinct(values: impl Iterator<Item = Cell>) -> Vec<Cell> {
    let mut seen: Vec<Cell> = Vec::new();
    let mut numbers = std::collections::BTreeSet::new();
    for value in values {
        let new = match &value {
            // A zero is a zero, whatever its sign, and a NaN a NaN.
            Cell::Number(number) if number.is_nan() => numbers.insert(u64::MAX),
            Cell::Number(number) => numbers.insert((number + 0.0).to_bits()),
            other => !seen.iter().any(|known| known.same(other, true)),
        };
        if new {
            seen.push(value);
        }
    }
    seen
}

fn variance(values: &[Cell], kind: Kind) -> f64 {
    if !kind.counts() {
        return 0.0;
    }
    let (mut squares, mut mean, mut count) = (0.0, 0.0, 0.0);
    for value in values.iter().filter_map(Cell::number) {
        count += 1.0;
        let before = mean;
        mean += (value - before) / count;
        squares += (value - before) * (value - mean);
    }
    if count > 0.0 { squares / count } else { 0.0 }
}

/// What needs the values in order: the median and the percentiles.
fn sorted(values: &[Cell], kind: Kind, reducer: Reducer, nulls: Nulls) -> Result<Cell, String> {
    if !kind.counts() && values.iter().any(|value| !value.none()) {
        return Err(format!("{} of what is not numbers can't be computed", reducer.id()));
    }
    let mut numbers = Vec::new();
    let mut absent = 0;
    for value in values {
        match value {
            Cell::Null | Cell::Absent if reducer.row().is_some() => match nulls {
                Nulls::Ignored => {}
                Nulls::Zero => numbers.push(0.0),
                Nulls::Counted => return Err(format!("{} of nulls", reducer.id())),
            },
            Cell::Null if nulls == Nulls::Ignored => {}
            Cell::Null if nulls == Nulls::Zero => numbers.push(0.0),
            Cell::Null => return Err(format!("{} of nulls", reducer.id())),
            Cell::Absent => absent += 1,
            Cell::Number(number) if !number.is_nan() => numbers.push(*number),
            // The browser's order of a NaN among numbers is that of its sorting.
            _ => return Err(format!("{} of a column with NaN can't be computed", reducer.id())),
        }
    }
    numbers.sort_by(f64::total_cmp);
    let count = numbers.len() + absent;
    let at = |index: usize| numbers.get(index).map_or(Cell::Absent, |n| Cell::Number(*n));
    if let Reducer::Percentile(percent) = reducer {
        if count == 0 {
            return Ok(Cell::Absent);
        }
        let index = super::js::round((count - 1) as f64 * (f64::from(percent) / 100.0));
        return Ok(at(index as usize));
    }
    let middle = count / 2;
    if count % 2 == 1 {
        return Ok(at(middle));
    }
    let before = middle.checked_sub(1).map_or(Cell::Absent, at);
    Ok(Cell::Number((before.as_number() + at(middle).as_number()) / 2.0))
}

/// What one walk over a column finds.
struct Standard {
    sum: f64,
    max: f64,
    min: f64,
    above_zero: f64,
    first: Option<Cell>,
    last: Option<Cell>,
    count: f64,
    numbers: f64,
    all_null: bool,
    all_zero: bool,
    step: f64,
    delta: f64,
    rising: bool,
}

impl Standard {
    fn of(values: &[Cell], kind: Kind, nulls: Nulls) -> Self {
        let mut found = Self {
            sum: 0.0,
            max: -f64::MAX,
            min: f64::MAX,
            above_zero: f64::MAX,
            first: None,
            last: None,
            count: 0.0,
            numbers: 0.0,
            all_null: true,
            all_zero: true,
            step: f64::MAX,
            delta: 0.0,
            rising: true,
        };
        for value in values {
            let value = match (value.none(), nulls) {
                (true, Nulls::Ignored) => continue,
                (true, Nulls::Zero) => Cell::Number(0.0),
                _ => value.clone(),
            };
            found.count += 1.0;
            if value.there() {
                found.take(value, kind);
            }
        }
        found
    }

    fn take(&mut self, cell: Cell, kind: Kind) {
        if let (true, Some(value)) = (kind.counts(), cell.number()) {
            self.sum += value;
            self.all_null = false;
            self.numbers += 1.0;
            if let Some(before) = self.last.as_ref().and_then(Cell::number) {
                let step = value - before;
                self.step = self.step.min(step);
                if before > value {
                    self.rising = false;
                } else {
                    if self.rising {
                        self.delta += step;
                    }
                    self.rising = true;
                }
            }
            self.max = self.max.max(value);
            self.min = self.min.min(value);
            if value > 0.0 {
                self.above_zero = self.above_zero.min(value);
            }
        }
        self.all_zero &= cell.number() == Some(0.0);
        if self.first.is_none() {
            self.first = Some(cell.clone());
        }
        self.last = Some(cell);
    }

    fn get(&self, id: &str) -> Cell {
        let some = |value: f64, none: f64| if value == none { None } else { Some(value) };
        let number = |value: Option<f64>| value.map_or(Cell::Null, Cell::Number);
        let (max, min) = (some(self.max, -f64::MAX), some(self.min, f64::MAX));
        let ends = || Some((self.first.as_ref()?.number()?, self.last.as_ref()?.number()?));
        match id {
            "sum" => Cell::Number(self.sum),
            "max" => number(max),
            "min" => number(min),
            // The browser leaves what it began with where nothing is above zero.
            "logmin" => Cell::Number(self.above_zero),
            "mean" if self.numbers > 0.0 => Cell::Number(self.sum / self.numbers),
            "count" => Cell::Number(self.count),
            "range" => number(max.zip(min).map(|(max, min)| max - min)),
            "delta" => Cell::Number(self.delta),
            "step" => number(some(self.step, f64::MAX)),
            "diff" => number(ends().map(|(first, last)| last - first)),
            "diffperc" => {
                Cell::Number(ends().map_or(0.0, |(first, last)| (last - first) / first * 100.0))
            }
            "allIsNull" => Cell::Bool(self.all_null),
            "allIsZero" => Cell::Bool(self.all_zero && !self.all_null),
            _ => Cell::Null,
        }
    }
}
