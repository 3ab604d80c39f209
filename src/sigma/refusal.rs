//! Why no use case is made of a rule: a bounded word for the summary, and a sentence.

use crate::outcome::words;

words! {
    /// Why a rule is refused.
    Why {
        /// No YAML that can be read.
        Unreadable = "unreadable",
        /// YAML, and no Sigma rule.
        NotARule = "not_a_rule",
        /// The condition, or what it names, is wrong.
        Condition = "condition",
        /// A modifier that is unknown, or does not go with the value.
        Modifier = "modifier",
        /// A placeholder that no variable fills.
        Placeholder = "placeholder",
        /// A regular expression beyond what can be generated or evaluated.
        Regex = "regex",
        /// A correlation, or an aggregate, that can't be made of events that are sent.
        Correlation = "correlation",
        /// No event was found that meets the condition.
        NoEvent = "no_event",
        /// No event was found that differs in one field and does not match.
        NoTwin = "no_twin",
        /// The evaluator can't read the rule.
        Evaluator = "evaluator",
        /// The event can't be written down so that it still matches.
        Rendering = "rendering",
    }
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub why: Why,
    pub text: String,
    /// Where in the file, as `line:column`.
    pub at: Option<(u32, u32)>,
}

impl Refusal {
    pub(super) fn new(why: Why, text: impl Into<String>) -> Self {
        Self { why, text: text.into(), at: None }
    }

    /// At this place, where none is known yet.
    pub(super) fn at(mut self, span: crate::spec::Span) -> Self {
        self.at = self.at.or(Some((span.line, span.column)));
        self
    }
}
