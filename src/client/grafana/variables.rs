//! A dashboard's variables, put into its queries as the browser does it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use super::js::Pattern;
use super::prometheus;
use super::range::Range;

/// The kinds of variables whose values are computed.
#[cfg(test)]
pub(super) const KINDS: &[&str] =
    &["constant", "custom", "datasource", "interval", "query", "textbox"];
/// How a value is written where a query asks for it: `${name:csv}`.
#[cfg(test)]
pub(super) const FORMATS: &[&str] = &[
    "csv",
    "doublequote",
    "glob",
    "json",
    "lucene",
    "percentencode",
    "pipe",
    "queryparam",
    "raw",
    "regex",
    "singlequote",
    "sqlstring",
    "text",
];
/// What the data source puts in itself.
const OF_PROMETHEUS: &[&str] = &[
    "__interval",
    "__interval_ms",
    "__rate_interval",
    "__rate_interval_ms",
    "__range",
    "__range_ms",
    "__range_s",
];
/// The value of a variable of which all are chosen.
const ALL: &str = "$__all";
/// Variables depend on one another no deeper than this.
const DEPTH: usize = 16;

// The pattern is a constant; were it wrong, every test here would say so.
static NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{(\w+)((?:\.[^:^{}\[\]]+|\[[^\]]*\])*)(?::([^}]+))?\}",
    )
    .ok()
});

/// What a variable stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    pub(super) values: Vec<String>,
    /// Whether it is a list, even of one.
    list: bool,
    /// Whether several can be chosen, or all.
    choosable: bool,
    /// Put in as it stands, whatever it is.
    verbatim: bool,
    /// Whether all are chosen, whatever that is.
    all: bool,
    text: String,
}

impl Held {
    /// What is chosen, as an address says it.
    fn chosen(&self) -> Vec<String> {
        if self.all { vec![ALL.to_owned()] } else { self.values.clone() }
    }
}

/// How a data source writes a variable where no format is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Prometheus' and Loki's matchers.
    Matcher,
    Sql,
    Lucene,
    /// What is no query: a title, a name of a data source.
    Words,
    /// A data source that is not known: what all of them write alike.
    Unknown,
}

impl Dialect {
    pub(super) fn of(kind: &str) -> Self {
        match kind {
            "loki" => Self::Matcher,
            kind if prometheus::is(kind) => Self::Matcher,
            "postgres" | "grafana-postgresql-datasource" | "mysql" | "mssql" => Self::Sql,
            "elasticsearch" | "grafana-opensearch-datasource" => Self::Lucene,
            "__expr__" => Self::Words,
            _ => Self::Unknown,
        }
    }
}

/// Everything that texts may speak of.
#[derive(Clone, Debug)]
pub(super) struct Variables {
    pub(super) held: BTreeMap<String, Held>,
    pub(super) range: Range,
    /// `$__interval`, once the panel's is known.
    pub(super) interval: Option<u64>,
}

impl Variables {
    pub(super) fn new(range: Range) -> Self {
        Self { held: BTreeMap::new(), range, interval: None }
    }

    /// Each name with what is chosen, as an address of the dashboard says it.
    pub(super) fn chosen(&self) -> Vec<(String, String)> {
        let one = |(name, held): (&String, &Held)| {
            let name = name.clone();
            held.chosen().into_iter().map(move |value| (name.clone(), value)).collect::<Vec<_>>()
        };
        self.held.iter().flat_map(one).collect()
    }

    /// Every text in a tree with its variables replaced. Of names that are not the dashboard's nothing
    /// is touched. The error says which can't be computed.
    pub(super) fn fill(&self, tree: &Value, dialect: Dialect) -> Result<Value, String> {
        Ok(match tree {
            Value::String(text) => self.fill_text(text, dialect)?.into(),
            Value::Array(items) => {
                items.iter().map(|item| self.fill(item, dialect)).collect::<Result<_, _>>()?
            }
            Value::Object(map) => {
                let mut filled = serde_json::Map::new();
                for (key, value) in map {
                    // A legend is words, whatever the query is.
                    let words = matches!(key.as_str(), "legendFormat" | "alias" | "datasource");
                    let dialect = if words { Dialect::Words } else { dialect };
                    filled.insert(key.clone(), self.fill(value, dialect)?);
                }
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    pub(super) fn fill_text(&self, text: &str, dialect: Dialect) -> Result<String, String> {
        let Some(names) = NAMES.as_ref().filter(|_| text.contains(['$', '['])) else {
            return Ok(text.to_owned());
        };
        let mut filled = String::new();
        let mut end = 0;
        for found in names.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            filled.push_str(text.get(end..whole.start()).unwrap_or_default());
            end = whole.end();
            filled.push_str(&self.one(&found, whole.as_str(), dialect)?);
        }
        filled.push_str(text.get(end..).unwrap_or_default());
        Ok(filled)
    }

    fn one(&self, found: &Captures<'_>, whole: &str, dialect: Dialect) -> Result<String, String> {
        let group = |at| found.get(at).map(|group| group.as_str());
        let name = group(1).or_else(|| group(2)).or_else(|| group(4)).unwrap_or_default();
        let format = group(3).or_else(|| group(6));
        let path = group(5).unwrap_or_default();
        if let Some(held) = self.held.get(name) {
            if !path.is_empty() {
                return Err(format!("the part {path:?} of the variable {name:?} is not computed"));
            }
            return written(name, held, format, dialect)
                .map_err(|why| format!("the variable {name:?}: {why}"));
        }
        if let Some(builtin) = name.strip_prefix("__") {
            return self.builtin(builtin, format, path, whole, dialect);
        }
        Ok(whole.to_owned())
    }

    /// What Grafana itself names.
    fn builtin(
        &self,
        name: &str,
        format: Option<&str>,
        path: &str,
        whole: &str,
        dialect: Dialect,
    ) -> Result<String, String> {
        let cannot = || Err(format!("the variable {whole} is not computed"));
        let macros = name.starts_with("time") || name.starts_with("unixEpoch");
        match (name, dialect) {
            ("from" | "to", _) => {
                let at = if name == "from" { self.range.from } else { self.range.to };
                match format {
                    None | Some("date:ms" | "raw") => Ok(at.to_string()),
                    Some("date:seconds") => Ok(at.div_euclid(1000).to_string()),
                    Some("date" | "date:iso") => match jiff::Timestamp::from_millisecond(at) {
                        Ok(at) => Ok(format!("{at:.3}")),
                        Err(_) => cannot(),
                    },
                    _ => cannot(),
                }
            }
            (_, Dialect::Words) => Ok(whole.to_owned()),
            (_, Dialect::Matcher)
                if OF_PROMETHEUS.contains(&whole.trim_matches(['$', '{', '}'])) =>
            {
                Ok(whole.to_owned())
            }
            ("interval", _) if path.is_empty() => match self.interval {
                Some(interval) => Ok(super::range::written(interval)),
                None => cannot(),
            },
            ("interval_ms", _) => match self.interval {
                Some(interval) => Ok(interval.to_string()),
                None => cannot(),
            },
            // Macros of the server.
            (_, Dialect::Sql) if macros && path.is_empty() && format.is_none() => {
                Ok(whole.to_owned())
            }
            _ => cannot(),
        }
    }
}

/// The names that a tree speaks of.
fn mentioned(tree: &Value, names: &mut BTreeSet<String>) {
    match tree {
        Value::String(text) => {
            for found in NAMES.iter().flat_map(|names| names.captures_iter(text)) {
                let name = found.get(1).or_else(|| found.get(2)).or_else(|| found.get(4));
                names.extend(name.map(|name| name.as_str().to_owned()));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| mentioned(item, names)),
        Value::Object(map) => map.values().for_each(|value| mentioned(value, names)),
        _ => {}
    }
}

/// The dashboard's variables that a tree needs, those before it that one depends on.
pub(super) fn needed<'a>(
    dashboard: &'a Value,
    trees: &[&Value],
    given: &BTreeMap<String, String>,
) -> Result<Vec<&'a Value>, String> {
    let list = dashboard.get("templating").and_then(|t| t.get("list")).and_then(Value::as_array);
    let list = list.map_or(&[] as &[Value], Vec::as_slice);
    let mut names = BTreeSet::new();
    trees.iter().for_each(|tree| mentioned(tree, &mut names));
    let mut found = Vec::new();
    for name in &names {
        visit(list, name, given, &mut found, 0)?;
    }
    Ok(found)
}

pub(super) fn name(variable: &Value) -> &str {
    variable.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn visit<'a>(
    list: &'a [Value],
    wanted: &str,
    given: &BTreeMap<String, String>,
    found: &mut Vec<&'a Value>,
    depth: usize,
) -> Result<(), String> {
    let Some(variable) = list.iter().find(|variable| name(variable) == wanted) else {
        return Ok(());
    };
    if found.iter().any(|known| name(known) == wanted) {
        return Ok(());
    }
    if depth > DEPTH {
        return Err(format!("the variable {wanted:?} depends on itself"));
    }
    let mut names = BTreeSet::new();
    if !given.contains_key(wanted) {
        for key in ["query", "regex", "datasource", "definition", "allValue"] {
            mentioned(variable.get(key).unwrap_or(&Value::Null), &mut names);
        }
    }
    for name in names.iter().filter(|name| *name != wanted) {
        visit(list, name, given, found, depth + 1)?;
    }
    if !found.iter().any(|known| name(known) == wanted) {
        found.push(variable);
    }
    Ok(())
}

/// Filters of a reader's own that a dashboard was saved with change queries in ways of their own.
pub(super) fn filters(dashboard: &Value) -> Option<&str> {
    let list = dashboard.get("templating")?.get("list")?.as_array()?;
    let full = |variable: &&Value| {
        let list = |key: &str| variable.get(key).and_then(Value::as_array);
        let kind = variable.get("type").and_then(Value::as_str);
        matches!(kind, Some("adhoc" | "groupby"))
            && ["filters", "baseFilters"]
                .iter()
                .any(|key| list(key).is_some_and(|filters| !filters.is_empty()))
    };
    list.iter().find(full).map(name)
}

/// One option of a variable: its text and its value.
pub(super) type Choice = (String, String);

/// What a variable is without asking anybody.
pub(super) fn held(
    variable: &Value,
    given: Option<&str>,
    options: Option<&[Choice]>,
    range: &Range,
) -> Result<Held, String> {
    let text = |key: &str| variable.get(key).and_then(Value::as_str);
    let flag = |key: &str| variable.get(key).and_then(Value::as_bool) == Some(true);
    let several = flag("multi");
    let kind = text("type").unwrap_or_default();
    let plain =
        |value: String| Held { text: value.clone(), values: vec![value], ..Held::default() };
    let choosable = several || flag("includeAll");
    if let Some(given) = given {
        return Ok(Held { list: several, choosable, ..plain(given.to_owned()) });
    }
    let current = variable.get("current").and_then(|current| current.get("value"));
    let (saved, list): (Vec<String>, bool) = match current {
        Some(Value::String(value)) => (vec![value.clone()], false),
        Some(Value::Number(value)) => (vec![value.to_string()], false),
        Some(Value::Array(values)) => {
            (values.iter().filter_map(Value::as_str).map(str::to_owned).collect(), true)
        }
        _ => (Vec::new(), false),
    };
    let first = saved.first().cloned().unwrap_or_default();
    match kind {
        "constant" => return Ok(plain(text("query").map_or(first, str::to_owned))),
        "textbox" => {
            let query = text("query").unwrap_or_default().to_owned();
            return Ok(plain(if current.is_some() { first } else { query }));
        }
        "interval" if first.starts_with("$__auto") => {
            let count = variable.get("auto_count").and_then(Value::as_u64).unwrap_or(30).max(1);
            let least = super::range::period(text("auto_min").unwrap_or("10s"));
            let least = least.ok_or("its least step is no period")?;
            return Ok(plain(super::range::written(range.step(count, Some(least)))));
        }
        "interval" if first.is_empty() => {
            let choices = text("query").unwrap_or_default();
            return Ok(plain(choices.split(',').next().unwrap_or_default().trim().to_owned()));
        }
        "interval" => return Ok(plain(first)),
        "custom" | "datasource" | "query" => {}
        other => return Err(format!("variables of the type {other:?} are not computed")),
    }
    if first == ALL {
        if kind == "datasource" {
            return Err("all data sources at once are not computed".into());
        }
        if let Some(all) = text("allValue").filter(|all| !all.is_empty()) {
            let held = Held { choosable, text: "All".into(), ..plain(all.to_owned()) };
            return Ok(Held { verbatim: true, all: true, ..held });
        }
        let options = options.ok_or("its values, which are all chosen, are not known")?;
        let values = options.iter().map(|(_, value)| value.clone()).collect();
        let held = Held { list: true, choosable, text: "All".into(), ..Held::default() };
        return Ok(Held { values, all: true, ..held });
    }
    let Some(options) = options else {
        if saved.is_empty() {
            return Err("no value is saved with it".into());
        }
        let text = saved.join(" + ");
        let list = list || several;
        return Ok(Held { values: saved, list, choosable, text, ..Held::default() });
    };
    // What is not among the values any more is left out; where nothing remains, the first is taken.
    let known = |value: &&String| options.iter().any(|(_, known)| known == *value);
    let mut values: Vec<String> = saved.iter().filter(known).cloned().collect();
    if values.is_empty() {
        values.extend(options.first().map(|(_, value)| value.clone()));
        let sorted = variable.get("sort").and_then(Value::as_i64).unwrap_or(0) != 0;
        if sorted && options.len() > 1 {
            return Err("its saved value is not among its values any more".into());
        }
    }
    let label = |value: &String| {
        options.iter().find(|(_, known)| known == value).map_or(value, |(label, _)| label).clone()
    };
    let text = values.iter().map(label).collect::<Vec<_>>().join(" + ");
    Ok(Held { values, list: several, choosable, text, ..Held::default() })
}

/// The values of a custom variable: `a, b : c` has the texts a and b and the values a and c.
pub(super) fn custom(query: &str) -> Vec<Choice> {
    let marked = query.replace("\\,", "\u{0}");
    let parts = marked.split(',').filter(|part| !part.is_empty());
    let one = |part: &str| {
        let part = part.replace('\u{0}', ",");
        let (label, value) = part.rsplit_once(" : ").unwrap_or((&part, &part));
        (label.trim().to_owned(), value.trim().to_owned())
    };
    parts.map(one).collect()
}

/// What a query has found, as a variable's pattern takes it.
pub(super) fn matching(choices: Vec<Choice>, pattern: &str) -> Result<Vec<Choice>, String> {
    if pattern.is_empty() {
        return Ok(unique(choices));
    }
    let pattern = Pattern::of(pattern)?;
    if pattern.global {
        return Err("its pattern has the flag g".into());
    }
    let mut kept = Vec::new();
    for (label, value) in choices {
        let Some(found) = pattern.regex().captures(&value) else { continue };
        let group =
            |name: &str| found.name(name).map(|m| m.as_str().to_owned()).filter(|t| !t.is_empty());
        let (by_text, by_value) = (group("text"), group("value"));
        kept.push(match (by_text, by_value) {
            (None, None) if found.len() > 1 => {
                let first = found.get(1).map_or("", |group| group.as_str()).to_owned();
                (first.clone(), first)
            }
            (None, None) => (label, value),
            (text, value) => {
                let either = text.clone().or_else(|| value.clone()).unwrap_or_default();
                (text.unwrap_or_else(|| either.clone()), value.unwrap_or(either))
            }
        });
    }
    Ok(unique(kept))
}

fn unique(choices: Vec<Choice>) -> Vec<Choice> {
    let mut seen = BTreeSet::new();
    choices.into_iter().filter(|(_, value)| seen.insert(value.clone())).collect()
}

fn written(
    name: &str,
    held: &Held,
    format: Option<&str>,
    dialect: Dialect,
) -> Result<String, String> {
    if held.verbatim && !matches!(format, Some("text" | "percentencode" | "queryparam")) {
        return Ok(held.values.concat());
    }
    let Some(format) = format else { return usual(held, dialect) };
    let values = &held.values;
    let each = |quote: &dyn Fn(&str) -> String| {
        values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(",")
    };
    Ok(match format {
        "csv" | "raw" => values.join(","),
        "pipe" => values.join("|"),
        "glob" => glob(values),
        "json" if held.list => Value::from(values.clone()).to_string(),
        // Some versions quote a single text, and some do not.
        "json" => return Err("as JSON it is written differently by versions of Grafana".into()),
        "regex" => alternatives(values, |value| escaped(value, "^$\\.*+?()[]{}|", "\\")),
        "lucene" => lucene(held),
        "singlequote" => each(&|value| format!("'{}'", value.replace('\'', "\\'"))),
        "doublequote" => each(&|value| format!("\"{}\"", value.replace('"', "\\\""))),
        "sqlstring" if values.iter().any(|value| value.contains('"')) => {
            return Err("a quotation mark is written differently by versions of Grafana".into());
        }
        "sqlstring" => each(&quoted),
        "percentencode" if held.list => percent(&format!("{{{}}}", values.join(","))),
        "percentencode" => percent(&values.concat()),
        "queryparam" => {
            let one = |value: &String| match value.as_str() {
                ALL => format!("var-{name}={ALL}"),
                value => format!("var-{name}={}", percent(value)),
            };
            held.chosen().iter().map(one).collect::<Vec<_>>().join("&")
        }
        "text" => held.text.clone(),
        other => return Err(format!("the format {other:?} is not computed")),
    })
}

fn usual(held: &Held, dialect: Dialect) -> Result<String, String> {
    let values = &held.values;
    let backs = |letters: &str| values.iter().any(|value| value.contains(|l| letters.contains(l)));
    Ok(match dialect {
        Dialect::Words => glob(values),
        Dialect::Lucene => lucene(held),
        Dialect::Sql if held.choosable => {
            values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(",")
        }
        Dialect::Sql if backs("'") => {
            return Err("an apostrophe is written differently by versions of Grafana".into());
        }
        Dialect::Sql => values.join(","),
        Dialect::Matcher if held.choosable || held.list => alternatives(values, |value| {
            escaped(&value.replace('\\', "\\\\\\\\"), "$^*{}[]'+?.()|", "\\\\")
        }),
        Dialect::Matcher if backs("\\'") => {
            return Err("a backslash is written differently by versions of Grafana".into());
        }
        Dialect::Matcher => values.concat(),
        Dialect::Unknown => {
            let all = [Dialect::Words, Dialect::Lucene, Dialect::Sql, Dialect::Matcher];
            let all: Vec<String> =
                all.into_iter().map(|dialect| usual(held, dialect)).collect::<Result<_, _>>()?;
            if all.windows(2).any(|two| two[0] != two[1]) {
                return Err("how the panel's data source writes it is not known".into());
            }
            values.concat()
        }
    })
}

fn glob(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        [] => String::new(),
        several => format!("{{{}}}", several.join(",")),
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn alternatives(values: &[String], escape: impl Fn(&str) -> String) -> String {
    let all: Vec<String> = values.iter().map(|value| escape(value)).collect();
    match all.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join("|")),
    }
}

fn escaped(value: &str, letters: &str, mark: &str) -> String {
    let mut text = String::new();
    for letter in value.chars() {
        if letters.contains(letter) {
            text.push_str(mark);
        }
        text.push(letter);
    }
    text
}

fn lucene(held: &Held) -> String {
    let escape = |value: &String| {
        if !super::js::number(value).is_nan() {
            return value.clone();
        }
        let mut text = String::new();
        for letter in value.chars() {
            if letter.is_whitespace() || "!*+-=<>&|()[]{}^~?:\\/\"".contains(letter) {
                text.push('\\');
            }
            text.push(letter);
        }
        text
    };
    match held.values.as_slice() {
        [] => "__empty__".into(),
        [one] if !held.list => escape(one),
        several => {
            let all: Vec<String> = several.iter().map(|v| format!("\"{}\"", escape(v))).collect();
            format!("({})", all.join(" OR "))
        }
    }
}

fn percent(text: &str) -> String {
    let mut written = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            let _ = write!(written, "%{byte:02X}");
        }
    }
    written
}
