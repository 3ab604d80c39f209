//! Sigma rules made into use cases: an event that matches, a twin that does not, and the alert that
//! is expected.
//!
//! `rule` reads what a file has, `condition` and `atom` what it asks for, `solve` looks for an event
//! that meets it (`pattern` and `generate` make its texts), `evaluator` is the independent judge,
//! `layout` writes the event down as its log source does, and `make` puts all that together for one
//! event, `multi` for several.

mod atom;
mod condition;
mod evaluator;
mod generate;
mod layout;
mod make;
mod multi;
mod pattern;
mod refusal;
mod rule;
mod solve;
mod usecase;

pub use atom::{Event, Vars};
pub use layout::{Layouts, Mapping, Rendered};
pub use refusal::{Refusal, Why};
pub use rule::{LogSource, Rule, read};
pub use usecase::{Origin, Step, UseCase};

use make::Prepared;
use multi::Made;
use rule::Body;

/// Makes a use case of a rule. `find` gives the rules that a correlation names, by name or id; `url`
/// is where the rule is published.
pub fn make<'a>(
    rule: &Rule,
    url: Option<String>,
    vars: &Vars,
    layouts: &Layouts,
    find: impl Fn(&str) -> Option<&'a Rule>,
) -> Result<UseCase, Refusal> {
    made(rule, url, vars, layouts, find).map_err(|refusal| refusal.at(rule.span))
}

fn made<'a>(
    rule: &Rule,
    url: Option<String>,
    vars: &Vars,
    layouts: &Layouts,
    find: impl Fn(&str) -> Option<&'a Rule>,
) -> Result<UseCase, Refusal> {
    let (made, rewritten) = match &rule.body {
        Body::Correlation(correlation) => {
            (multi::correlated(correlation, vars, layouts, find)?, Vec::new())
        }
        Body::Detection { timeframe, .. } => {
            let prepared = Prepared::new(rule, vars)?;
            let made = match &prepared.aggregate {
                Some(aggregate) => {
                    multi::aggregated(rule, &prepared, aggregate, *timeframe, layouts)?
                }
                None => Made::single(prepared.pair(layouts, &[])?),
            };
            (made, prepared.evaluator.rewritten.into_iter().collect())
        }
    };
    const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
    let level = rule.level.as_deref().unwrap_or_default();
    let severity = LEVELS.into_iter().find(|own| own.eq_ignore_ascii_case(level));
    Ok(UseCase {
        attack: rule.attack.clone(),
        source: rule.source.clone(),
        rule: Origin {
            title: rule.title.clone(),
            id: rule.id.clone(),
            author: rule.author.clone(),
            url: url.or_else(|| rule.references.first().cloned()),
            license: rule.license.clone(),
        },
        events: made.events,
        benign: made.benign,
        severity,
        layout: made.layout,
        notes: made.notes,
        rewritten,
    })
}

/// Whether an event matches a rule, by the evaluator: for whoever detects with rules.
pub struct Detector(Prepared);

impl Detector {
    /// A rule over single events.
    pub fn new(rule: &Rule, vars: &Vars) -> Result<Self, Refusal> {
        Prepared::new(rule, vars).map(Self)
    }

    pub fn matches(&self, event: &Event) -> bool {
        self.0.evaluator.matches(event)
    }
}
