//! Mistakes in a plan, and what is none and yet worth a word: file, line, column, the offending words, what was expected, a hint.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::secret::Secret;
use super::source::{Sources, Span};

/// More mistakes than this are counted and not kept: nobody reads the thousandth, and a garbled
/// file must not fill the memory.
const KEPT: usize = 500;

/// A line longer than this (in bytes) is cut around the words, so that a file written on one line
/// stays readable.
const LINE_SHOWN: usize = 400;

/// One mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    pub span: Option<Span>,
    /// The name of the source, where there is no place in it.
    pub source: Option<String>,
    pub message: String,
    pub expected: Option<String>,
    pub hint: Option<String>,
    /// The words at `span` may be a secret: they are never shown.
    pub sensitive: bool,
}

impl Diagnostic {
    /// What would have been right.
    pub fn expected(&mut self, text: impl Into<String>) -> &mut Self {
        self.expected = Some(text.into());
        self
    }

    /// What to do about it.
    pub fn hint(&mut self, text: impl Into<String>) -> &mut Self {
        self.hint = Some(text.into());
        self
    }

    /// "did you mean `x`?", where something similar is known.
    pub fn did_you_mean(&mut self, candidate: Option<&str>) -> &mut Self {
        if let Some(candidate) = candidate {
            self.hint = Some(format!("did you mean `{candidate}`?"));
        }
        self
    }

    /// The words at the place may be a secret: the line is not shown.
    pub fn sensitive(&mut self) -> &mut Self {
        self.sensitive = true;
        self
    }
}

/// All mistakes of a plan, and the secrets that were met on the way.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Mistakes beyond `KEPT`, and the last of them.
    beyond: usize,
    last: Diagnostic,
    /// What a plan may say, and hardly anybody means.
    warnings: Vec<Diagnostic>,
    /// Words that may be secret, blotted out in every line that is shown.
    blots: Vec<Span>,
    secrets: Vec<Secret>,
}

impl Diagnostics {
    pub fn new() -> Self {
        Self::default()
    }

    /// A mistake at a place; `None` where there is none to name.
    pub fn error(
        &mut self,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let message = without_passwords(&message.into());
        self.push(Diagnostic { span: span.into(), message, ..Default::default() })
    }

    /// A mistake about a whole source (a file that can't be read).
    pub fn error_in(
        &mut self,
        source: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Diagnostic {
            source: Some(source.into()),
            message: message.into(),
            ..Default::default()
        })
    }

    /// No mistake: the plan holds, and does not do what it seems to.
    pub fn warn(
        &mut self,
        span: impl Into<Option<Span>>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let message = format!("warning: {}", without_passwords(&message.into()));
        let diagnostic = Diagnostic { span: span.into(), message, ..Default::default() };
        if self.warnings.len() >= KEPT {
            self.last = diagnostic;
            return &mut self.last;
        }
        let at = self.warnings.len();
        self.warnings.push(diagnostic);
        self.warnings.get_mut(at).unwrap_or(&mut self.last)
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        if self.list.len() >= KEPT {
            self.beyond = self.beyond.saturating_add(1);
            self.last = diagnostic;
            return &mut self.last;
        }
        let at = self.list.len();
        self.list.push(diagnostic);
        self.list.get_mut(at).unwrap_or(&mut self.last)
    }

    /// Never shows these words, whatever mistake stands in their line.
    pub fn blot(&mut self, span: Span) {
        self.blots.push(span);
    }

    pub(super) fn keep_secrets(&mut self, secrets: Vec<Secret>) {
        self.secrets.extend(secrets);
    }

    /// The secrets of everything that was decoded: what the agent loads before it starts.
    pub fn take_secrets(&mut self) -> Vec<Secret> {
        std::mem::take(&mut self.secrets)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many mistakes were made, the ones that were not kept included.
    pub fn len(&self) -> usize {
        self.list.len() + self.beyond
    }

    /// Takes over the mistakes of another collection.
    pub fn append(&mut self, other: Self) {
        for diagnostic in other.list {
            self.push(diagnostic);
        }
        self.beyond = self.beyond.saturating_add(other.beyond);
        self.warnings.extend(other.warnings);
        self.warnings.truncate(KEPT);
        self.blots.extend(other.blots);
        self.secrets.extend(other.secrets);
    }

    /// By place, each once: an anchor that is used twice makes its mistake once.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut list: Vec<&Diagnostic> = self.list.iter().collect();
        list.sort_by_key(|d| (d.span.map(|s| (s.source, s.start)), &d.source));
        list.dedup();
        list
    }

    /// For people: each mistake, and how many there are.
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        if self.is_empty() {
            return String::new();
        }
        let count = self.sorted().len() + self.beyond;
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        let mut out = self.listed(sources, colour);
        let _ = writeln!(out, "{count} {noun}");
        out
    }

    /// Each mistake with its line and its words underlined.
    pub fn listed(&self, sources: &Sources, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let sorted = self.sorted();
        let mut out = String::new();
        for diagnostic in &sorted {
            let _ = writeln!(out, "{}\n", self.render_one(diagnostic, sources, &renderer));
        }
        if self.beyond > 0 {
            let _ = writeln!(out, "{} more are not shown\n", self.beyond);
        }
        out
    }

    /// Each warning in the same way; of those at one place the first.
    pub fn warnings(&self, sources: &Sources) -> String {
        let mut list: Vec<&Diagnostic> = self.warnings.iter().collect();
        list.sort_by_key(|d| d.span.map(|s| (s.source, s.start)));
        list.dedup_by_key(|d| d.span);
        let shown = |what: &&Diagnostic| self.render_one(what, sources, &Renderer::plain());
        let shown: Vec<String> = list.iter().map(shown).collect();
        shown.join("\n\n")
    }

    fn render_one(&self, what: &Diagnostic, sources: &Sources, renderer: &Renderer) -> String {
        let place = match (what.span, &what.source) {
            (Some(span), _) => sources.place(span),
            (None, Some(name)) => name.clone(),
            (None, None) => String::from("plan"),
        };
        let level = Level::ERROR.with_name(place);
        let mut group = level
            .primary_title(what.message.as_str())
            .elements(Vec::<annotate_snippets::Element<'_>>::new());
        if let Some((line, number, words)) = self.line_of(what, sources) {
            group = group.element(
                Snippet::source(line)
                    .line_start(number)
                    .annotation(AnnotationKind::Primary.span(words)),
            );
        }
        if what.sensitive && what.span.is_some() {
            group = group.element(
                Level::NOTE.with_name("note").message("the line is not shown: it may be a secret"),
            );
        }
        if let Some(expected) = &what.expected {
            group = group.element(Level::NOTE.with_name("expected").message(expected.as_str()));
        }
        if let Some(hint) = &what.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// The first line of the words, with what may be secret blotted out, its number, and where the
    /// words stand in it.
    fn line_of(
        &self,
        what: &Diagnostic,
        sources: &Sources,
    ) -> Option<(String, usize, Range<usize>)> {
        let span = what.span.filter(|_| !what.sensitive)?;
        let text = sources.get(span.source)?.text.as_str();
        let at = floor(text, span.start);
        let mut from = text.get(..at)?.rfind(['\n', '\r']).map_or(0, |found| found + 1);
        let mut to = text.get(at..)?.find(['\n', '\r']).map_or(text.len(), |found| at + found);
        if to - from > LINE_SHOWN {
            from = from.max(floor(text, at.saturating_sub(LINE_SHOWN / 4)));
            to = to.min(floor(text, at + LINE_SHOWN / 2));
        }
        let words = at..floor(text, span.end).clamp(at, to.max(at));
        let mut blots: Vec<Range<usize>> = self
            .blots
            .iter()
            .filter(|blot| blot.source == span.source && blot.start < to && blot.end > from)
            .map(|blot| floor(text, blot.start.max(from))..floor(text, blot.end.min(to)))
            .collect();
        // However the line was cut: what stands before and behind may be what tells a password.
        let told = passwords(text.get(from..to)?);
        blots.extend(told.into_iter().map(|word| from + word.start..from + word.end));
        blots.sort_by_key(|blot| blot.start);
        // The line is put together anew, and the words' place in it follows the blots before.
        let mut line = String::new();
        let mut place = Vec::with_capacity(2);
        let mut done = from;
        let edges = [words.start, words.end];
        let mut copy = |line: &mut String, done: &mut usize, until: usize| {
            while let Some(edge) = edges.get(place.len()).filter(|edge| **edge <= until) {
                let edge = *edge;
                if edge > *done {
                    line.push_str(text.get(*done..edge).unwrap_or_default());
                    *done = edge;
                }
                place.push(line.len());
            }
            if until > *done {
                line.push_str(text.get(*done..until).unwrap_or_default());
                *done = until;
            }
        };
        for blot in blots {
            copy(&mut line, &mut done, blot.start);
            if blot.end > done {
                line.push_str("***");
                done = blot.end;
            }
        }
        copy(&mut line, &mut done, to);
        let start = place.first().copied().unwrap_or(0).min(line.len());
        let end = place.get(1).copied().unwrap_or(line.len()).clamp(start, line.len());
        Some((line, usize::try_from(span.line).unwrap_or(1), start..end))
    }

    /// For programs.
    pub fn to_json(&self, sources: &Sources) -> Value {
        let list = self.sorted().into_iter().map(|d| {
            let source = match d.span {
                Some(span) => sources.get(span.source).map(|source| source.name.clone()),
                None => d.source.clone(),
            };
            json!({
                "source": source,
                "line": d.span.map(|span| span.line),
                "column": d.span.map(|span| span.column),
                "message": d.message,
                "expected": d.expected,
                "hint": d.hint,
            })
        });
        Value::Array(list.collect())
    }
}

/// Where passwords stand that should not be written there: before the host of a URL, and behind the
/// name of the header that carries them.
fn passwords(line: &str) -> Vec<Range<usize>> {
    const HEADER: &str = "authorization";
    let mut found = Vec::new();
    for (at, scheme) in line.match_indices("://") {
        let from = at + scheme.len();
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`');
        let rest = line.get(from..).unwrap_or_default();
        let host = rest.find(ends).map_or(rest, |end| rest.get(..end).unwrap_or_default());
        if let Some((user, _)) = host.rsplit_once('@')
            && let Some(colon) = user.find(':')
        {
            found.push(from + colon + 1..from + user.len());
        }
    }
    let lower = line.to_ascii_lowercase();
    for (at, name) in lower.match_indices(HEADER) {
        let from = at + name.len();
        let value = lower
            .get(from..)
            .and_then(|rest| rest.trim_start_matches(['"', '\'', ' ']).strip_prefix(':'));
        if let Some(value) = value.map(str::trim_start).filter(|value| !value.is_empty()) {
            found.push(line.len() - value.len()..line.len());
        }
    }
    found
}

fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for word in passwords(text) {
        out.push_str(text.get(done..word.start).unwrap_or_default());
        out.push_str("***");
        done = word.end.max(done);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// The nearest place at or before `at` where a character begins.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests;
