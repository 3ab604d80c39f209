//! A rule as its file has it: what it is called, what it looks at, and what it asks for.

use std::time::Duration;

use serde_json::Value;

use super::refusal::{Refusal, Why};
use crate::spec::yaml::{self, Node};
use crate::spec::{Diagnostics, Period, Sources, Span, decode};

/// Documents in one file; nobody keeps more rules in one.
const DOCUMENTS_LIMIT: usize = 2_000;

/// The log source, in Sigma's words.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A rule, read but for its condition.
#[derive(Clone, Debug)]
pub struct Rule {
    pub title: String,
    pub id: Option<String>,
    /// What correlations call it.
    pub name: Option<String>,
    pub author: Option<String>,
    pub license: Option<String>,
    pub references: Vec<String>,
    pub level: Option<String>,
    /// MITRE ATT&CK techniques, as `T1110.001`.
    pub attack: Vec<String>,
    pub source: LogSource,
    pub(super) span: Span,
    pub(super) body: Body,
}

impl Rule {
    /// The rules that a correlation alerts for, by name or id; none where each alerts by itself.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let names: &[String] = match &self.body {
            Body::Correlation(correlation) if !correlation.generate => &correlation.rules,
            _ => &[],
        };
        names.iter().map(String::as_str)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Detection {
        selections: Vec<(String, Value)>,
        conditions: Vec<String>,
        timeframe: Option<Duration>,
    },
    Correlation(Correlation),
}

#[derive(Clone, Debug)]
pub(super) struct Correlation {
    pub(super) kind: String,
    pub(super) rules: Vec<String>,
    pub(super) by: Vec<String>,
    pub(super) timespan: Duration,
    /// What the condition compares, and with what: `gte: 10`.
    pub(super) bounds: Vec<(String, Value)>,
    /// The field whose values are counted.
    pub(super) field: Option<String>,
    /// Names of a field in each rule: alias, rule, field.
    pub(super) aliases: Vec<(String, String, String)>,
    /// Whether the rules alert by themselves too.
    pub(super) generate: bool,
}

/// All rules of a file's text, or why a document of it is none.
pub fn read(name: &str, text: &str) -> Vec<Result<Rule, Refusal>> {
    let mut rules = Vec::new();
    let mut global: Option<Value> = None;
    for (line, document) in documents(text) {
        if rules.len() >= DOCUMENTS_LIMIT {
            let text = format!("the file has more than {DOCUMENTS_LIMIT} documents");
            rules.push(Err(Refusal::new(Why::Unreadable, text)));
            break;
        }
        // Lines before it keep their number.
        let padded = format!("{}{document}", "\n".repeat(line));
        match one(name, &padded, &mut global) {
            Ok(Some(rule)) => rules.push(Ok(rule)),
            Ok(None) => {}
            Err(refusal) => rules.push(Err(refusal)),
        }
    }
    rules
}

/// The documents of a stream, each with the number of lines before it. `---` at a line's start
/// begins one wherever it stands (YAML 1.2.2, 9.1.2).
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut all = vec![(0, String::new())];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        let begins =
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if begins {
            all.push((number, String::new()));
        }
        if let Some((_, document)) = all.last_mut()
            && line.trim_end() != "..."
        {
            document.push_str(line);
        }
    }
    let says = |text: &str| {
        let said = |line: &str| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#') && line != "---"
        };
        text.lines().any(said)
    };
    all.retain(|(_, document)| says(document));
    all
}

fn one(name: &str, text: &str, global: &mut Option<Value>) -> Result<Option<Rule>, Refusal> {
    let mut sources = Sources::default();
    let mut diagnostics = Diagnostics::new();
    let id = sources.add(name, text);
    let node = yaml::parse(id, text, &mut diagnostics);
    let first = diagnostics.sorted().first().map(|d| (d.message.clone(), d.span));
    let node = match (node, first) {
        (Some(node), None) => node,
        (_, said) => {
            let (message, span) = said.unwrap_or((String::from("this is no YAML"), None));
            let refusal = Refusal::new(Why::Unreadable, message);
            return Err(match span {
                Some(span) => refusal.at(span),
                None => refusal,
            });
        }
    };
    let value: Option<Value> = decode(&node, &mut diagnostics);
    let Some(mut value) = value else {
        return Err(Refusal::new(Why::Unreadable, "its values can't be read").at(node.span));
    };
    match value.get("action").and_then(Value::as_str) {
        Some("global") => {
            *global = Some(value);
            return Ok(None);
        }
        Some("reset") => {
            *global = None;
            return Ok(None);
        }
        _ => {}
    }
    if let Some(global) = global.as_ref() {
        value = overlaid(global.clone(), value);
    }
    rule(&node, &value).map(Some).map_err(|refusal| refusal.at(node.span))
}

/// Maps are merged, and what is written later stands.
fn overlaid(under: Value, over: Value) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) => {
            for (key, value) in over {
                let below = under.remove(&key).unwrap_or(Value::Null);
                under.insert(key, overlaid(below, value));
            }
            Value::Object(under)
        }
        (_, over) => over,
    }
}

fn rule(node: &Node, value: &Value) -> Result<Rule, Refusal> {
    let none = |text: &str| Refusal::new(Why::NotARule, text);
    if !value.is_object() {
        return Err(none("this is no map"));
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::trim).map(str::to_owned);
    let title =
        text("title").filter(|title| !title.is_empty()).ok_or_else(|| none("it has no `title`"))?;
    let strings = |value: Option<&Value>| -> Vec<String> {
        let items = match value {
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let body = match (value.get("detection"), value.get("correlation")) {
        (_, Some(correlation)) => {
            let span = node.get("correlation").map_or(node.span, |node| node.span);
            Body::Correlation(self::correlation(correlation).map_err(|refusal| refusal.at(span))?)
        }
        (Some(detection), None) => {
            let span = node.get("detection").map_or(node.span, |node| node.span);
            self::detection(detection).map_err(|refusal| refusal.at(span))?
        }
        (None, None) => return Err(none("it has neither `detection` nor `correlation`")),
    };
    let source = value.get("logsource");
    let word = |key: &str| {
        let word = source?.get(key)?.as_str()?.trim();
        (!word.is_empty()).then(|| word.to_ascii_lowercase())
    };
    Ok(Rule {
        title,
        id: text("id"),
        name: text("name"),
        author: text("author"),
        license: text("license"),
        references: strings(value.get("references")),
        level: text("level"),
        attack: strings(value.get("tags")).iter().filter_map(|tag| technique(tag)).collect(),
        source: LogSource {
            product: word("product"),
            category: word("category"),
            service: word("service"),
        },
        span: node.span,
        body,
    })
}

/// `attack.t1110.001` is T1110.001; tactics and groups are no techniques.
fn technique(tag: &str) -> Option<String> {
    let number = tag.trim().to_ascii_lowercase().strip_prefix("attack.t")?.to_owned();
    let (base, sub) = match number.split_once('.') {
        Some((base, sub)) => (base, Some(sub)),
        None => (number.as_str(), None),
    };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    (digits(base, 4) && sub.is_none_or(|sub| digits(sub, 3))).then(|| format!("T{number}"))
}

fn detection(value: &Value) -> Result<Body, Refusal> {
    let wrong = |text: &str| Refusal::new(Why::Condition, text);
    let Value::Object(entries) = value else { return Err(wrong("`detection` is no map")) };
    let conditions: Vec<String> = match entries.get("condition") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    if conditions.is_empty() {
        return Err(wrong("`detection` has no `condition`"));
    }
    let timeframe = match entries.get("timeframe") {
        None => None,
        Some(value) => Some(span_of(value).ok_or_else(|| wrong("`timeframe` is no time"))?),
    };
    let named = |(name, _): &(&String, &Value)| !matches!(name.as_str(), "condition" | "timeframe");
    let selections =
        entries.iter().filter(named).map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Body::Detection { selections, conditions, timeframe })
}

fn correlation(value: &Value) -> Result<Correlation, Refusal> {
    let wrong = |text: &str| Refusal::new(Why::Correlation, text);
    let strings = |key: &str| -> Vec<String> {
        match value.get(key) {
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(Value::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        }
    };
    let kind = value
        .get("type")
        .and_then(Value::as_str)
        .ok_or_else(|| wrong("`correlation` has no `type`"))?;
    let timespan = value.get("timespan").or_else(|| value.get("timeframe"));
    let timespan =
        timespan.and_then(span_of).ok_or_else(|| wrong("`correlation` has no `timespan`"))?;
    let (mut bounds, mut field) = (Vec::new(), None);
    match value.get("condition") {
        Some(Value::Object(condition)) => {
            for (key, value) in condition {
                if key == "field" {
                    field = value.as_str().map(str::to_owned);
                } else {
                    bounds.push((key.clone(), value.clone()));
                }
            }
        }
        None => {}
        Some(_) => return Err(wrong("a condition over the rules of a correlation is not read")),
    }
    let mut aliases = Vec::new();
    for (alias, fields) in value.get("aliases").and_then(Value::as_object).into_iter().flatten() {
        for (rule, field) in fields.as_object().into_iter().flatten() {
            let field = field.as_str().unwrap_or_default();
            aliases.push((alias.clone(), rule.clone(), field.to_owned()));
        }
    }
    let rules = strings("rules");
    if rules.is_empty() {
        return Err(wrong("`correlation` names no `rules`"));
    }
    let by = strings("group-by");
    let kind = kind.to_owned();
    let generate = value.get("generate").and_then(Value::as_bool).unwrap_or(false);
    Ok(Correlation { kind, rules, by, timespan, bounds, field, aliases, generate })
}

/// `30s`, `5m`, `1h`, `2d`; months are longer than a round may take anyway.
fn span_of(value: &Value) -> Option<Duration> {
    let text = value.as_str()?.trim();
    if let Some(months) = text.strip_suffix('M') {
        return Some(Duration::from_secs(months.parse::<u64>().ok()?.checked_mul(2_592_000)?));
    }
    text.parse::<Period>().ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_techniques() {
        assert_eq!(technique("attack.t1110.001").as_deref(), Some("T1110.001"));
        assert_eq!(technique("attack.T1059").as_deref(), Some("T1059"));
        for tag in ["attack.execution", "attack.g0032", "cve.2021-1", "attack.t1", "attack.t1110.1"]
        {
            assert_eq!(technique(tag), None, "{tag}");
        }
    }

    #[test]
    fn documents_keep_their_lines() {
        let text = "# head\n---\ntitle: a\n---\ntitle: b\ndetection: 1\n";
        let rules = read("x", text);
        assert_eq!(rules.len(), 2);
        let refusal = rules[1].as_ref().expect_err("it is no rule");
        assert_eq!(refusal.at, Some((6, 12)), "{refusal:?}");
    }
}
