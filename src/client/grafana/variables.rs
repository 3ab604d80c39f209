//! A dashboard's variables, put into its queries as the browser does it.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// Values by name; several where a variable has several selected.
pub(super) struct Variables(BTreeMap<String, Vec<String>>);

impl Variables {
    /// The saved values, with some replaced.
    pub(super) fn of(dashboard: &Value, given: &BTreeMap<String, String>) -> Self {
        let mut values = BTreeMap::new();
        let list = dashboard.get("templating").and_then(|t| t.get("list"));
        for variable in list.and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| variable.get(key).and_then(Value::as_str);
            let Some(name) = text("name") else { continue };
            let saved = match variable.get("current").and_then(|current| current.get("value")) {
                Some(Value::String(value)) => vec![value.clone()],
                Some(Value::Array(several)) => {
                    several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }
                _ => match text("query") {
                    Some(query) if matches!(text("type"), Some("constant" | "textbox")) => {
                        vec![query.to_owned()]
                    }
                    _ => continue,
                },
            };
            let all = saved.iter().any(|value| value == "$__all");
            let saved = if all {
                let value = text("allValue").filter(|value| !value.is_empty());
                vec![value.unwrap_or(".*").to_owned()]
            } else {
                saved
            };
            values.insert(name.to_owned(), saved);
        }
        for (name, value) in given {
            values.insert(name.clone(), vec![value.clone()]);
        }
        Self(values)
    }

    /// Every text in a tree with `$name`, `${name}`, `${name:format}` and `[[name]]` replaced. Of
    /// names that are not the dashboard's nothing is touched.
    pub(super) fn fill(&self, tree: &Value) -> Value {
        match tree {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), self.fill(value))).collect()
            }
            other => other.clone(),
        }
    }

    fn fill_text(&self, text: &str) -> String {
        if !text.contains(['$', '[']) {
            return text.to_owned();
        }
        // The pattern is a constant; were it wrong, the test below would say so.
        let Ok(pattern) =
            Regex::new(r"\$\{(\w+)(?:\.[^:}]*)?(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)")
        else {
            return text.to_owned();
        };
        let replaced = pattern.replace_all(text, |found: &regex::Captures<'_>| {
            let group = |index| found.get(index).map(|group| group.as_str());
            let name = group(1).or_else(|| group(3)).or_else(|| group(5)).unwrap_or_default();
            let format = group(2).or_else(|| group(4));
            match self.0.get(name) {
                Some(values) => written(values, format),
                None => found.get(0).map_or("", |whole| whole.as_str()).to_owned(),
            }
        });
        replaced.into_owned()
    }
}

/// Several values as the formats of Grafana's variables have them; by default as the alternatives
/// of a regular expression, which is what Prometheus' and Loki's matchers want.
fn written(values: &[String], format: Option<&str>) -> String {
    let quoted = |quote: char| {
        let all: Vec<String> =
            values.iter().map(|value| format!("{quote}{value}{quote}")).collect();
        all.join(",")
    };
    match format {
        Some("json") => Value::from(values.to_vec()).to_string(),
        Some("singlequote" | "sqlstring") => quoted('\''),
        Some("doublequote") => quoted('"'),
        Some("csv" | "raw") => values.join(","),
        Some("pipe") => values.join("|"),
        Some("glob") if values.len() > 1 => format!("{{{}}}", values.join(",")),
        _ if values.len() > 1 => format!("({})", values.join("|")),
        _ => values.join(""),
    }
}
