//! The spanned YAML tree, made from parser events.
//!
//! Scalars stay text until a type asks, so that `NO` is a string where a string is wanted and
//! `1.0` stays `1.0`.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::diagnostics::Diagnostics;
use super::source::{SourceId, Span};

/// A plan is text that people write; the largest pack has a few dozen KiB.
pub const BYTES_LIMIT: usize = 1 << 20;
/// The deepest sensible plan has about ten levels; the decoder recurses this deep.
pub const DEPTH_LIMIT: usize = 64;
/// Aliases count by what they expand to, so that a small file can't become a large tree.
pub const NODES_LIMIT: usize = 200_000;
/// All text of the tree, aliases expanded: a few times the largest file.
pub const TEXT_LIMIT: usize = 4 << 20;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Span,
    pub value: Tree,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    /// `plain`: written without quotes, so that it may become a number or a boolean.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub text: String,
    pub span: Span,
}

impl Node {
    /// What stands under this key, in a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    pub fn as_map(&self) -> Option<&[(Key, Self)]> {
        match &self.value {
            Tree::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Tree::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Tree::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Tree::Null)
    }

    /// What it is, for a message: "a list", "the text `x`".
    pub fn describe(&self) -> String {
        match &self.value {
            Tree::Null => String::from("nothing"),
            Tree::Scalar { text, .. } => format!("`{}`", shortened(text)),
            Tree::List(_) => String::from("a list"),
            Tree::Map(_) => String::from("a map"),
        }
    }
}

/// At most 60 characters of one line of it.
pub(super) fn shortened(text: &str) -> String {
    let mut line: String = text.chars().take_while(|c| *c != '\n').take(60).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

/// Reads one document. A mistake in the syntax ends it (`None`); keys written twice are mistakes
/// too, and reading goes on so that all are found.
pub fn parse(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Option<Node> {
    let lines = Lines::new(source, text);
    if text.len() > BYTES_LIMIT {
        diagnostics
            .error(lines.at(1, 0, 1), format!("the file has {} bytes", text.len()))
            .expected(format!("at most {BYTES_LIMIT} bytes"));
        return None;
    }
    let strange = |(_, c): &(usize, char)| {
        (c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) || *c == '\u{fffe}'
    };
    if let Some((at, c)) = text.char_indices().find(strange) {
        let span = lines.of_byte(at);
        diagnostics
            .error(span, format!("control character U+{:04X}", u32::from(c)))
            .expected("a YAML file in UTF-8; is this one?");
        return None;
    }
    // The parser holds assertions about its own states; one that fails must not end the agent.
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Builder::new(&lines, diagnostics).build(text)
    }));
    if let Ok(tree) = built {
        return tree;
    }
    diagnostics.error(lines.at(1, 0, 1), "this is no YAML that can be read");
    None
}

/// Turns the parser's places (line, column in characters) into spans.
struct Lines {
    source: SourceId,
    /// The byte at which each character begins, and the end.
    bytes: Vec<u32>,
    /// The character with which each line begins.
    starts: Vec<usize>,
}

impl Lines {
    fn new(source: SourceId, text: &str) -> Self {
        let text = text.get(..text.len().min(BYTES_LIMIT)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(text.len() + 1);
        let mut starts = vec![0];
        let mut characters = text.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            bytes.push(u32::try_from(at).unwrap_or(u32::MAX));
            let crlf = c == '\r' && characters.peek().is_some_and(|(_, next)| *next == '\n');
            if c == '\n' || (c == '\r' && !crlf) {
                starts.push(bytes.len());
            }
        }
        bytes.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        Self { source, bytes, starts }
    }

    fn byte(&self, character: usize) -> usize {
        let last = self.bytes.last().copied().unwrap_or(0);
        usize::try_from(self.bytes.get(character).copied().unwrap_or(last)).unwrap_or(0)
    }

    fn character(&self, mark: Marker) -> usize {
        let last = self.bytes.len().saturating_sub(1);
        let line = self.starts.get(mark.line().saturating_sub(1)).copied().unwrap_or(last);
        line.saturating_add(mark.col()).min(last)
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        let first = self.character(start);
        let past = self.character(end).max(first);
        Span {
            source: self.source,
            line: u32::try_from(start.line()).unwrap_or(u32::MAX).max(1),
            column: u32::try_from(start.col().saturating_add(1)).unwrap_or(u32::MAX),
            start: self.byte(first),
            end: self.byte(past),
        }
    }

    fn at(&self, line: usize, column: usize, length: usize) -> Span {
        let mark = |column| Marker::new(0, line, column);
        self.span(mark(column), mark(column + length))
    }

    fn of_byte(&self, at: usize) -> Span {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let character = self.bytes.partition_point(|byte| *byte < at);
        let line = self.starts.partition_point(|start| *start <= character);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        self.at(line, character.saturating_sub(start), 1)
    }
}

/// What a finished node weighs, its aliases expanded.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    text: usize,
    /// Levels, itself included.
    height: usize,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: HashMap<String, Span>, key: Waiting },
}

/// What a map waits for next.
enum Waiting {
    Key,
    ValueOf(Key),
    /// The key was a mistake: its value is read and dropped.
    ValueOfMistake,
}

struct Frame {
    open: Open,
    anchor: usize,
    start: Marker,
    weight: Weight,
}

struct Builder<'a> {
    lines: &'a Lines,
    diagnostics: &'a mut Diagnostics,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, Weight)>,
    total: Weight,
    root: Option<Node>,
}

/// The tree can't be finished; the mistake is reported.
struct Stop;

impl<'a> Builder<'a> {
    fn new(lines: &'a Lines, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            lines,
            diagnostics,
            stack: Vec::new(),
            anchors: HashMap::new(),
            total: Weight::default(),
            root: None,
        }
    }

    fn build(mut self, text: &str) -> Option<Node> {
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0_usize;
        while let Some(next) = parser.next_event() {
            let (event, span) = match next {
                Ok(event) => event,
                Err(error) => {
                    self.syntax(&error, text);
                    return None;
                }
            };
            let done = match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let at = self.lines.span(span.start, span.end);
                        self.diagnostics
                            .error(at, "a second document begins here")
                            .expected("one YAML document a file")
                            .hint("put it into a file of its own");
                        return None;
                    }
                    Ok(())
                }
                Event::Scalar(text, style, anchor, tag) => {
                    // `!!str` says "text", as quotes do.
                    let text_tag = tag.as_ref().is_some_and(|tag| tag.suffix == "str");
                    let plain = style == ScalarStyle::Plain && !text_tag;
                    self.tag(tag.as_deref(), span)
                        .and_then(|()| self.scalar(text.into_owned(), plain, anchor, span))
                }
                Event::SequenceStart(anchor, tag) => self
                    .tag(tag.as_deref(), span)
                    .and_then(|()| self.open(Open::List(Vec::new()), anchor, span)),
                Event::MappingStart(anchor, tag) => {
                    let map =
                        Open::Map { entries: Vec::new(), seen: HashMap::new(), key: Waiting::Key };
                    self.tag(tag.as_deref(), span).and_then(|()| self.open(map, anchor, span))
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span),
                Event::Alias(anchor) => self.alias(anchor, span),
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => Ok(()),
            };
            if done.is_err() {
                return None;
            }
        }
        let empty = Node { span: self.lines.at(1, 0, 0), value: Tree::Null };
        Some(self.root.unwrap_or(empty))
    }

    fn syntax(&mut self, error: &ScanError, text: &str) {
        let mark = *error.marker();
        let span = self.lines.at(mark.line(), mark.col(), 1);
        let line = text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        let diagnostic = self.diagnostics.error(span, format!("not valid YAML: {}", error.info()));
        if indent.contains('\t') {
            diagnostic.hint("indent with spaces: YAML allows no tabs there");
        } else if line.contains("${") && line.contains(['{', '[']) {
            diagnostic.hint("between { } or [ ] a variable needs quotes: \"${name}\"");
        }
        // Types are not known yet, so a line that speaks of secrets is not shown.
        let lower = line.to_lowercase();
        if ["pass", "secret", "token", "credential", "key"].iter().any(|w| lower.contains(w)) {
            diagnostic.sensitive();
        }
    }

    fn tag(
        &mut self,
        tag: Option<&saphyr_parser::Tag>,
        span: saphyr_parser::Span,
    ) -> Result<(), Stop> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                let at = self.lines.span(span.start, span.end);
                self.diagnostics
                    .error(at, format!("the tag `{}` means nothing here", tag.suffix))
                    .hint("leave the tag out");
                Err(Stop)
            }
            _ => Ok(()),
        }
    }

    fn weigh(&mut self, more: Weight, span: saphyr_parser::Span) -> Result<(), Stop> {
        self.total.nodes = self.total.nodes.saturating_add(more.nodes);
        self.total.text = self.total.text.saturating_add(more.text);
        let too_deep = self.stack.len().saturating_add(more.height) > DEPTH_LIMIT;
        let (what, expected) = if self.total.nodes > NODES_LIMIT {
            ("too many values, aliases expanded", format!("at most {NODES_LIMIT} values"))
        } else if self.total.text > TEXT_LIMIT {
            ("too much text, aliases expanded", format!("at most {TEXT_LIMIT} bytes"))
        } else if too_deep {
            ("nested too deeply", format!("at most {DEPTH_LIMIT} levels"))
        } else {
            return Ok(());
        };
        self.diagnostics.error(self.lines.span(span.start, span.end), what).expected(expected);
        Err(Stop)
    }

    fn scalar(
        &mut self,
        text: String,
        plain: bool,
        anchor: usize,
        span: saphyr_parser::Span,
    ) -> Result<(), Stop> {
        let weight = Weight { nodes: 1, text: text.len(), height: 1 };
        self.weigh(weight, span)?;
        let at = self.lines.span(span.start, span.end);
        if self.wants_key() {
            if anchor > 0 {
                let value = Tree::Scalar { text: text.clone(), plain };
                self.weigh(weight, span)?;
                self.anchors.insert(anchor, (Node { span: at, value }, weight));
            }
            self.key(text, at);
            return Ok(());
        }
        let null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        let value = if null { Tree::Null } else { Tree::Scalar { text, plain } };
        self.finished(Node { span: at, value }, weight, anchor, span)
    }

    fn open(&mut self, open: Open, anchor: usize, span: saphyr_parser::Span) -> Result<(), Stop> {
        let weight = Weight { nodes: 1, text: 0, height: 1 };
        self.weigh(weight, span)?;
        self.stack.push(Frame { open, anchor, start: span.start, weight });
        Ok(())
    }

    fn close(&mut self, span: saphyr_parser::Span) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let mut at = self.lines.span(frame.start, span.end);
        let value = match frame.open {
            Open::List(items) => {
                if let Some(last) = items.last() {
                    at.end = at.end.min(last.span.end.max(at.start + 1));
                }
                Tree::List(items)
            }
            Open::Map { entries, .. } => {
                if let (Some((first, _)), Some((_, last))) = (entries.first(), entries.last()) {
                    // A block map begins with its first key; its end lies behind blank lines.
                    if first.span.start < at.start {
                        at = Span { end: at.end, ..first.span };
                    }
                    at.end = at.end.min(last.span.end.max(at.start + 1));
                }
                Tree::Map(entries)
            }
        };
        self.finished(Node { span: at, value }, frame.weight, frame.anchor, span)
    }

    fn alias(&mut self, anchor: usize, span: saphyr_parser::Span) -> Result<(), Stop> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            let at = self.lines.span(span.start, span.end);
            self.diagnostics.error(at, "this alias stands inside of what it stands for");
            return Err(Stop);
        };
        let weight = *weight;
        let node = if self.total.nodes.saturating_add(weight.nodes) > NODES_LIMIT {
            None
        } else {
            Some(node.clone())
        };
        self.weigh(weight, span)?;
        let Some(node) = node else { return Err(Stop) };
        if self.wants_key() {
            let at = self.lines.span(span.start, span.end);
            match node.value {
                Tree::Scalar { text, .. } => self.key(text, at),
                _ => self.no_key(at),
            }
            return Ok(());
        }
        self.finished(node, weight, 0, span)
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { open: Open::Map { key: Waiting::Key, .. }, .. }))
    }

    fn key(&mut self, text: String, span: Span) {
        let Some(Frame { open: Open::Map { seen, key, .. }, .. }) = self.stack.last_mut() else {
            return;
        };
        if let Some(first) = seen.get(&text) {
            self.diagnostics
                .error(span, format!("the key `{}` is written twice", shortened(&text)))
                .hint(format!("it stands at line {}, column {} too", first.line, first.column));
            *key = Waiting::ValueOfMistake;
            return;
        }
        seen.insert(text.clone(), span);
        *key = Waiting::ValueOf(Key { text, span });
    }

    fn no_key(&mut self, span: Span) {
        self.diagnostics.error(span, "this can't be a key").expected("a word, then `:`");
        if let Some(Frame { open: Open::Map { key, .. }, .. }) = self.stack.last_mut() {
            *key = Waiting::ValueOfMistake;
        }
    }

    fn finished(
        &mut self,
        node: Node,
        weight: Weight,
        anchor: usize,
        span: saphyr_parser::Span,
    ) -> Result<(), Stop> {
        if anchor > 0 {
            // The copy that aliases are made from weighs as much again.
            self.weigh(Weight { height: 0, ..weight }, span)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        if self.wants_key() {
            self.no_key(node.span);
            return Ok(());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.weight.nodes = frame.weight.nodes.saturating_add(weight.nodes);
        frame.weight.text = frame.weight.text.saturating_add(weight.text);
        frame.weight.height = frame.weight.height.max(weight.height.saturating_add(1));
        match &mut frame.open {
            Open::List(items) => items.push(node),
            Open::Map { entries, key, .. } => {
                if let Waiting::ValueOf(key) = std::mem::replace(key, Waiting::Key) {
                    entries.push((key, node));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
