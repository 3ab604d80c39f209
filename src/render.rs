//! Reports: pure functions of the ledger document, one file a form.
//!
//! Nothing here judges: every number and verdict is the document's. What came from outside (a
//! reason's text, a target's name) is escaped by the form that shows it.

use crate::gate::Verdict;
use crate::ledger::Document;

pub mod attack;
pub mod history;
pub mod html;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod page;
pub mod progress;
mod quantity;
pub mod rules;
mod sections;
pub mod sheet;
pub mod specimen;
pub mod terminal;
mod text;

pub use text::{clean, plural};

/// The forms of a report, as `-o` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Terminal,
    Json,
    Markdown,
    Junit,
    Html,
}

impl Form {
    pub const ALL: [Self; 5] =
        [Self::Terminal, Self::Json, Self::Markdown, Self::Junit, Self::Html];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Junit => "junit",
            Self::Html => "html",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.word() == word)
    }
}

/// How a report is shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of the terminal, in columns; 80 where it is not known.
    pub width: Option<usize>,
    /// Whether the terminal shows colours: never where it is none, or `NO_COLOR` is set.
    pub colour: bool,
    /// Every gate in full, on the terminal.
    pub verbose: bool,
    /// A note above everything: "embedded reference platform".
    pub banner: Option<String>,
}

/// The report in one of its forms, with a line feed at its end.
pub fn report(document: &Document, form: Form, options: &Options) -> String {
    match form {
        Form::Terminal => terminal::report(document, options),
        Form::Json => json::report(document),
        Form::Markdown => markdown::report(document, options.banner.as_deref()),
        Form::Junit => junit::report(document, options.banner.as_deref()),
        Form::Html => html::report(document, options.banner.as_deref()),
    }
}

/// A sign that tells a verdict without its colour.
pub const fn glyph(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::NotApplicable => "–",
        Verdict::Waived => "~",
        Verdict::Warn => "!",
        Verdict::Open => "○",
        Verdict::Error => "?",
        Verdict::Fail => "✗",
    }
}

/// A verdict as people say it.
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotApplicable => "not applicable",
        other => other.word(),
    }
}

/// The order in which verdicts are shown: what needs a person first.
const SEVERITY: [Verdict; 7] = [
    Verdict::Fail,
    Verdict::Error,
    Verdict::Open,
    Verdict::Warn,
    Verdict::Waived,
    Verdict::NotApplicable,
    Verdict::Pass,
];
