//! How the fields of a log source are written down: data, compiled in from `probes/sigma`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::atom::{Event, TEXT, text_of};
use super::refusal::{Refusal, Why};
use super::rule::LogSource;
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::spec::{Diagnostics, Sources, decode, yaml};
use crate::time::Wall;

/// Name and text of each file that ships with the binary.
const BUILT_IN: &[(&str, &str)] = &[
    ("cloud", include_str!("../../probes/sigma/cloud.yaml")),
    ("linux", include_str!("../../probes/sigma/linux.yaml")),
    ("web", include_str!("../../probes/sigma/web.yaml")),
    ("windows", include_str!("../../probes/sigma/windows.yaml")),
];
/// What stands for all fields that have no place of their own, as `name=value`.
const PAIRS: &str = "*";

/// How one log source writes its events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    pub(super) name: String,
    /// The log sources that it is for; the words that are given must be the rule's.
    sources: Vec<LogSource>,
    /// Lines of text with `<field>` in them; the first that has a place for each field is taken.
    /// Without any it is JSON.
    #[serde(default)]
    text: Vec<String>,
    /// Values of JSON that are always there, by their dotted place.
    #[serde(default)]
    constants: Map<String, Value>,
    /// The dotted place in JSON under which other fields stand.
    #[serde(default)]
    rest: String,
    #[serde(default)]
    fields: BTreeMap<String, Place>,
}

/// One field in a layout.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Place {
    /// Its dotted places in JSON.
    to: Vec<String>,
    /// What it is where a rule leaves it open.
    default: Option<Value>,
    /// What it looks like in a line, as a regular expression.
    pattern: Option<String>,
    /// Says what kind of event it is: a twin differs in something else where it can.
    kind: bool,
}

/// Other places for fields, from a file of the operator's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// A field's name in rules, and its dotted places in JSON.
    pub fields: BTreeMap<String, Vec<String>>,
}

/// All layouts, and what an operator wants otherwise.
#[derive(Debug)]
pub struct Layouts {
    list: Vec<Layout>,
    mapping: Mapping,
}

/// An event as a step of a use case writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    pub format: &'static str,
    pub message: String,
    pub fields: Map<String, Value>,
}

impl Layouts {
    /// The text of a mapping is the operator's; what is wrong with it is told.
    pub fn new(mapping: Option<(&str, &str)>) -> Result<Self, String> {
        let mut sources = Sources::default();
        let mut diagnostics = Diagnostics::new();
        let mut list = Vec::new();
        for (name, text) in BUILT_IN {
            let id = sources.add(format!("sigma:{name}"), *text);
            let node = yaml::parse(id, text, &mut diagnostics);
            let read: Option<Vec<Layout>> = node.and_then(|node| decode(&node, &mut diagnostics));
            list.extend(read.unwrap_or_default());
        }
        let mapping = mapping.and_then(|(name, text)| {
            let id = sources.add(name, text);
            yaml::parse(id, text, &mut diagnostics).and_then(|node| decode(&node, &mut diagnostics))
        });
        if diagnostics.is_empty() {
            return Ok(Self { list, mapping: mapping.unwrap_or_default() });
        }
        Err(diagnostics.render(&sources, false))
    }

    /// The layout whose words agree most with a rule's log source; the last is for all others.
    pub(super) fn of(&self, source: &LogSource) -> Option<&Layout> {
        let agrees = |layout: &&Layout| {
            let each = layout.sources.iter().filter_map(|own| agreement(own, source));
            each.max()
        };
        let ranked = self.list.iter().filter_map(|layout| Some((agrees(&layout)?, layout)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, layout)| layout)
    }

    /// JSON of the fields under their own names: for log sources of which nothing is known.
    pub(super) fn plain(&self) -> Option<&Layout> {
        self.list
            .iter()
            .find(|layout| layout.sources.iter().any(|own| *own == LogSource::default()))
    }

    pub(super) fn named(&self, name: &str) -> Option<&Layout> {
        self.list.iter().find(|layout| layout.name == name)
    }

    fn places(&self, layout: &Layout, field: &str) -> Vec<String> {
        if let Some(places) = self.mapping.fields.get(field) {
            return places.clone();
        }
        match layout.fields.get(field) {
            Some(place) if !place.to.is_empty() => place.to.clone(),
            _ if field == TEXT => vec![TEXT.to_owned()],
            _ => vec![format!("{}{field}", layout.rest)],
        }
    }

    /// Writes an event down. `title` is for people who meet it.
    pub(super) fn render(
        &self,
        layout: &Layout,
        event: &Event,
        title: &str,
    ) -> Result<Rendered, Refusal> {
        if layout.text.is_empty() {
            self.json(layout, event, title)
        } else {
            layout.line(event).map(|(message, _)| Rendered {
                format: "raw",
                message,
                fields: Map::new(),
            })
        }
    }

    /// What a rule's fields are in the event as it is sent: rendered to its bytes and read again.
    pub(super) fn read_back(
        &self,
        layout: &Layout,
        event: &Event,
        rendered: &Rendered,
        fields: &[&str],
    ) -> Result<Event, Refusal> {
        let payload = payload_of(rendered)?;
        if layout.text.is_empty() {
            let document: Value = serde_json::from_str(&payload)
                .map_err(|error| wrong(format!("what is sent is no JSON: {error}")))?;
            let mut seen = Event::new();
            for field in fields {
                let value = self.places(layout, field).iter().find_map(|at| at_path(&document, at));
                if let Some(value) = value {
                    seen.insert((*field).to_owned(), value.clone());
                }
            }
            // Keywords are looked for in all that is sent, what is always there included.
            if fields.contains(&TEXT) {
                everything(&document, &mut seen);
            }
            return Ok(seen);
        }
        let (_, template) = layout.line(event)?;
        let mut seen = layout.parsed(&template, &payload)?;
        for (name, value) in &mut seen {
            // A line has no types: a store gives a number its own.
            if let (Some(Value::Number(_)), Some(text)) = (event.get(name), value.as_str())
                && let Ok(number) = serde_json::from_str::<serde_json::Number>(text)
            {
                *value = Value::Number(number);
            }
        }
        seen.retain(|name, value| {
            event.contains_key(name) || (fields.contains(&name.as_str()) && *value != "-")
        });
        seen.insert(TEXT.to_owned(), Value::from(payload));
        Ok(seen)
    }

    fn json(&self, layout: &Layout, event: &Event, title: &str) -> Result<Rendered, Refusal> {
        let mut fields = Map::new();
        let mut message = String::new();
        for (path, value) in &layout.constants {
            put(&mut fields, path, value.clone(), false)?;
        }
        for (field, value) in event {
            for path in self.places(layout, field) {
                if path == TEXT {
                    message = text_of(value);
                } else {
                    // Values at the top are templates, which braces of a rule are no words of.
                    let value = match value {
                        Value::String(text) if !path.contains('.') => Value::from(braced(text)),
                        other => other.clone(),
                    };
                    put(&mut fields, &path, value, true)?;
                }
            }
        }
        if message.is_empty() {
            message = format!("synthetic event for the rule {}, {{seq}}", braced(title));
        } else {
            message = braced(&message);
        }
        message.push_str(" {token}");
        Ok(Rendered { format: "json", message, fields })
    }
}

/// How many words agree; None where one does not.
fn agreement(own: &LogSource, source: &LogSource) -> Option<u32> {
    let mut agreed = 0;
    let words = [
        (&own.category, &source.category, 2),
        (&own.service, &source.service, 2),
        (&own.product, &source.product, 1),
    ];
    for (own, theirs, weight) in words {
        match own {
            Some(own) if Some(own) == theirs.as_ref() => agreed += weight,
            Some(_) => return None,
            None => {}
        }
    }
    Some(agreed)
}

fn wrong(text: impl Into<String>) -> Refusal {
    Refusal::new(Why::Rendering, text)
}

/// Braces are words of a template; twice they are themselves.
pub(super) fn braced(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The bytes that are sent of it: those of the first event of some run.
fn payload_of(rendered: &Rendered) -> Result<String, Refusal> {
    let spec = EventSpec {
        count: 1,
        format: Some(if rendered.format == "raw" { Format::Raw } else { Format::Json }),
        message: rendered.message.clone(),
        fields: rendered.fields.clone(),
        ..EventSpec::default()
    };
    let events = Events::new(&spec, Format::Json).map_err(wrong)?;
    let event = events.render(&run_from([7; 8]), "sigma", 1, Wall::from_secs(1_750_000_000));
    String::from_utf8(event.payload.to_vec()).map_err(|_| wrong("what is sent is no text"))
}

fn put(
    fields: &mut Map<String, Value>,
    path: &str,
    value: Value,
    replace: bool,
) -> Result<(), Refusal> {
    let (front, rest) = match path.split_once('.') {
        Some((front, rest)) if !front.is_empty() && !rest.is_empty() => (front, Some(rest)),
        _ => (path, None),
    };
    match rest {
        None => {
            if replace || !fields.contains_key(front) {
                fields.insert(front.to_owned(), value);
            }
            Ok(())
        }
        Some(rest) => {
            let inner = fields.entry(front.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => put(inner, rest, value, replace),
                _ => Err(wrong(format!("`{path}` can't stand inside `{front}`, which is a value"))),
            }
        }
    }
}

fn at_path<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = document.get(path) {
        return Some(found);
    }
    let (front, rest) = path.split_once('.')?;
    at_path(document.get(front)?, rest)
}

/// Every value of a document by its dotted place, for keywords.
fn everything(document: &Value, seen: &mut Event) {
    let mut left = vec![(String::new(), document)];
    while let Some((at, value)) = left.pop() {
        match value {
            Value::Object(members) => {
                let name =
                    |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
                left.extend(members.iter().map(|(key, value)| (name(key), value)));
            }
            Value::Array(items) => left.extend(items.iter().map(|item| (format!("{at}[]"), item))),
            scalar => {
                seen.entry(format!("/{at}")).or_insert_with(|| scalar.clone());
            }
        }
    }
}

/// Which of the names that share a place an event has.
fn shown<'a>(event: &Event, names: &'a str) -> Option<&'a str> {
    names.split('|').find(|name| event.contains_key(*name))
}

/// A line's parts: text, and the fields in it.
enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

fn parts(line: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some((before, (name, after))) =
        rest.split_once('<').and_then(|(before, after)| Some((before, after.split_once('>')?)))
    {
        // `<38>` of a syslog header is no field.
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let end = before.len() + name.len() + 2;
            parts.push(Part::Text(rest.get(..end).unwrap_or_default()));
        } else {
            parts.push(Part::Text(before));
            parts.push(Part::Field(name));
        }
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts
}

impl Layout {
    pub(super) fn default_of(&self, field: &str) -> Option<Value> {
        self.fields.get(field).and_then(|place| place.default.clone())
    }

    pub(super) fn is_kind(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|place| place.kind)
    }

    /// The line of an event, and which of the layout's it is.
    fn line(&self, event: &Event) -> Result<(String, String), Refusal> {
        let mut lacks = String::new();
        for line in &self.text {
            let parts = parts(line);
            // Of the names that share a place an event has one.
            let own = |name: &str| {
                let here = |part: &Part<'_>| matches!(part, Part::Field(own) if shown(event, own) == Some(name));
                parts.iter().any(here)
            };
            let takes_all = parts.iter().any(|part| matches!(part, Part::Field(PAIRS)));
            if let Some(strange) = event.keys().find(|name| !takes_all && !own(name)) {
                lacks.clone_from(strange);
                continue;
            }
            let mut text = String::with_capacity(line.len() + 64);
            for part in &parts {
                match part {
                    Part::Text(literal) => text.push_str(literal),
                    Part::Field(PAIRS) => {
                        let rest = event.iter().filter(|(name, _)| !own(name));
                        let pairs: Vec<String> =
                            rest.map(|(name, value)| pair(name, value)).collect();
                        text.push_str(&braced(&pairs.join(" ")));
                    }
                    Part::Field(names) => {
                        let first = names.split('|').next().unwrap_or_default();
                        let value = shown(event, names).and_then(|name| event.get(name).cloned());
                        let value = value.or_else(|| self.default_of(first));
                        let value = value.as_ref().map_or_else(|| String::from("-"), text_of);
                        text.push_str(&braced(&value));
                    }
                }
            }
            if text.contains(['\n', '\r', '\0']) {
                return Err(wrong("a value has a line's end in it"));
            }
            return Ok((text, line.clone()));
        }
        Err(wrong(format!("`{lacks}` has no place in a line of {}", self.name)))
    }

    /// The fields of a line, read by what the layout says of each.
    fn parsed(&self, template: &str, line: &str) -> Result<Event, Refusal> {
        let mut pattern = String::from("(?s)^");
        let mut names = Vec::new();
        for part in parts(template) {
            match part {
                Part::Text(text) => {
                    // Words in braces are whatever they are.
                    let mut rest = text;
                    while let Some((before, (_, after))) = rest
                        .split_once('{')
                        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
                    {
                        pattern.push_str(&regex::escape(before));
                        pattern.push_str(".*?");
                        rest = after;
                    }
                    pattern.push_str(&regex::escape(rest));
                }
                Part::Field(name) => {
                    let first = name.split('|').next().unwrap_or_default();
                    let own = self.fields.get(first).and_then(|place| place.pattern.as_deref());
                    pattern.push_str(&format!("({})", own.unwrap_or(".*?")));
                    names.push(name);
                }
            }
        }
        pattern.push('$');
        let regex = regex::Regex::new(&pattern)
            .map_err(|error| wrong(format!("the layout {} can't be read: {error}", self.name)))?;
        let found = regex
            .captures(line)
            .ok_or_else(|| wrong(format!("the line can't be read as {} has it", self.name)))?;
        let mut seen = Event::new();
        for (name, group) in names.into_iter().zip(found.iter().skip(1)) {
            let text = group.map_or("", |group| group.as_str());
            if name == PAIRS {
                seen.extend(pairs(text));
            } else {
                seen.extend(name.split('|').map(|name| (name.to_owned(), Value::from(text))));
            }
        }
        Ok(seen)
    }
}

/// Names whose values the kernel writes in hex where they hold more than plain characters
/// (`audit_log_untrustedstring`).
fn is_untrusted(name: &str) -> bool {
    let argument = name.strip_prefix('a').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    argument || matches!(name, "name" | "exe" | "comm" | "cwd" | "proctitle" | "key" | "path")
}

fn pair(name: &str, value: &Value) -> String {
    let text = text_of(value);
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\''));
    if is_untrusted(name) {
        if plain {
            return format!("{name}=\"{text}\"");
        }
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        return format!("{name}={hex}");
    }
    if plain { format!("{name}={text}") } else { format!("{name}='{text}'") }
}

fn pairs(text: &str) -> Vec<(String, Value)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, next) = match quote {
            Some(quote) => {
                let inner = after.get(1..).unwrap_or_default();
                inner.split_once(quote).unwrap_or((inner, ""))
            }
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        let name = name.trim();
        let unhexed = (quote.is_none() && is_untrusted(name)).then(|| unhex(value)).flatten();
        pairs.push((name.to_owned(), Value::from(unhexed.unwrap_or_else(|| value.to_owned()))));
        rest = next;
    }
    pairs
}

fn unhex(text: &str) -> Option<String> {
    if text.is_empty() || text.len() % 2 == 1 {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}
