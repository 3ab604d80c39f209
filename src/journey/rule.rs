//! What a detection rule says of itself, and what follows for a round: by when its alert is due,
//! whether one can come at all, and how old an event may be that the rule still sees. Arithmetic
//! alone; `client/rules` asks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::units::Period;
use crate::time::Wall;
pub use cron::Cron;

mod cron;

/// What is stamped just outside of a look-back is older by this than the look-back: clocks of two
/// machines differ by less.
const OUTSIDE: Duration = Duration::from_secs(30);
/// A rule that has not run for so many times its interval is not on time.
const OVERDUE: u32 = 3;

/// One rule, as its engine tells of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub name: String,
    pub enabled: bool,
    /// Why its last run failed.
    pub failing: Option<String>,
    /// When it ran last, where the engine says so and it ever did.
    pub ran: Option<Wall>,
    /// From one run to the next, at the longest.
    pub every: Option<Duration>,
    /// A schedule that is no plain interval, in the engine's words.
    pub schedule: Option<String>,
    /// How far back a run looks.
    pub look_back: Option<Duration>,
    /// The newest that a run leaves to the next.
    pub delay: Duration,
    /// How long its condition must hold before it fires.
    pub holds: Duration,
    pub throttle: Option<Throttle>,
    /// Why the engine raises no alert now, where it says so itself.
    pub held: Option<Held>,
    /// The engine would say so: what it does not call held is free.
    pub tells_held: bool,
    /// That it is about to fire, or fires, in the engine's word.
    pub state: String,
}

/// After an alert the rule raises no other for so long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Throttle {
    pub lasts: Duration,
    /// Fields whose values are throttled apart; empty where the whole rule is.
    pub by: Vec<String>,
}

/// Why a rule raises no alert now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    pub why: String,
    /// None where it has no known end.
    pub until: Option<Wall>,
    /// All of the rule's alerts, not those of one value.
    pub whole: bool,
}

/// What the plan allows beside what the rule says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Until the events are where the rule looks.
    pub arrival: Duration,
    /// For a run, and until what it raised can be seen.
    pub run: Duration,
    /// The longest that a round waits.
    pub at_most: Duration,
}

/// What is known of the alerts that this journey brought about before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub alerted: Option<Wall>,
    /// Alerts of before then are not remembered.
    pub since: Wall,
}

/// What follows from a rule for a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    pub within: Duration,
    pub means: Means,
    /// What followed from what, in words.
    pub text: String,
}

/// What an alert that comes, and one that does not, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// It is due within the time.
    Due,
    /// The rule is off: that is why it does not come.
    Off,
    /// One that comes is an alert; of one that does not, nothing is known.
    Unsure,
    /// None is expected.
    Held,
    /// Nothing is known of when one is due, so nothing is judged.
    Untold,
}

/// How old events are when they are sent, just inside and just outside of a look-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edges {
    pub inside: Duration,
    pub outside: Duration,
}

impl Rule {
    /// What follows for a round that begins now.
    pub fn follow(&self, terms: &Terms, memory: &Memory, now: Wall) -> Followed {
        let (name, at_most) = (&self.name, Period(terms.at_most));
        let failing = match &self.failing {
            Some(why) => format!("; its last run failed: {why}"),
            None => String::new(),
        };
        let Some((due, parts)) = self.due(terms) else {
            let text = match self.enabled {
                true => format!("the rule {name:?} does not say how often it runs{failing}"),
                false => format!("the rule {name:?} is disabled"),
            };
            let means = if self.enabled { Means::Untold } else { Means::Off };
            return Followed { within: terms.at_most, means, text };
        };
        let within = due.min(terms.at_most);
        let followed = |means, text| Followed { within, means, text };
        let due_text = format!("due within {}: {parts}", Period(due));
        if !self.enabled {
            return followed(Means::Off, format!("the rule {name:?} is disabled"));
        }
        let late = now.plus(due);
        match self.held(memory, now) {
            Some(Held { why, until, whole: true }) if until.is_none_or(|until| until >= late) => {
                return followed(Means::Held, format!("the rule {name:?} raises no alert: {why}"));
            }
            Some(held) => {
                let text = format!("whether the rule {name:?} raises an alert can't be told: ");
                return followed(Means::Unsure, text + &held.why);
            }
            None => {}
        }
        if due > terms.at_most {
            let text = format!(
                "the rule {name:?} is {due_text}; a round waits {at_most} at most, and does not \
                 know of an alert after that"
            );
            return followed(Means::Unsure, text);
        }
        let overdue = self.overdue(now).unwrap_or_default();
        let back = match self.look_back {
            Some(back) => format!("; it looks back {}", Period(back)),
            None => String::new(),
        };
        followed(Means::Due, format!("the rule {name:?} is {due_text}{back}{overdue}{failing}"))
    }

    /// The longest from the last event to its alert, and what it is made of.
    fn due(&self, terms: &Terms) -> Option<(Duration, String)> {
        let every = self.every?;
        // What holds is seen by runs: by the first, and by one after the time is over.
        let runs = self.holds.as_nanos().div_ceil(every.as_nanos().max(1));
        let runs = u32::try_from(runs).unwrap_or(u32::MAX);
        let holds = if every.is_zero() { self.holds } else { every.saturating_mul(runs) };
        let parts = [
            (terms.arrival, "until the events are there"),
            (self.delay, "that it leaves to its next run"),
            (every, "until it runs"),
            (holds, "while its condition must hold"),
            (terms.run, "for the run"),
        ];
        let due = parts.iter().fold(Duration::ZERO, |sum, (part, _)| sum.saturating_add(*part));
        let said: Vec<String> = parts
            .iter()
            .filter(|(part, what)| !part.is_zero() || *what == "until it runs")
            .map(|(part, what)| match (&self.schedule, *what) {
                (Some(words), "until it runs") => format!("{} {what} ({words})", Period(*part)),
                _ => format!("{} {what}", Period(*part)),
            })
            .collect();
        Some((due, said.join(", ")))
    }

    /// Why no alert may be raised, as the engine says or as its throttle and our own alerts tell.
    fn held(&self, memory: &Memory, now: Wall) -> Option<Held> {
        let running = |until: &Wall| *until > now;
        if let Some(held) = &self.held {
            return held.until.is_none_or(|until| running(&until)).then(|| held.clone());
        }
        let throttle = self.throttle.as_ref().filter(|_| !self.tells_held)?;
        let lasts = Period(throttle.lasts);
        let by = match throttle.by.as_slice() {
            [] => String::new(),
            fields => format!(" by {}", fields.join(", ")),
        };
        if let Some(until) = memory.alerted.map(|at| at.plus(throttle.lasts)).filter(running) {
            let why = format!(
                "its throttle of {lasts}{by} holds until {}, since it raised one for this journey",
                until.rfc3339()
            );
            return Some(Held { why, until: Some(until), whole: throttle.by.is_empty() });
        }
        // What was before is not remembered, and may hold it still.
        let until = Some(memory.since.plus(throttle.lasts)).filter(running)?;
        let why = format!("an alert of before may hold its throttle of {lasts}{by}");
        Some(Held { why, until: Some(until), whole: false })
    }

    fn overdue(&self, now: Wall) -> Option<String> {
        let ran = self.ran?;
        let late = ran.plus(self.every?.saturating_mul(OVERDUE)).plus(self.delay) < now;
        late.then(|| format!("; it ran last at {}", ran.rfc3339()))
    }

    /// How old the events must be that `length` passes to send, so that every run which can be the
    /// first to see them all must find all of them, and so that no run may find any.
    pub fn edges(&self, terms: &Terms, length: Duration) -> Result<Edges, String> {
        let (name, Some(back)) = (&self.name, self.look_back) else {
            return Err(format!("the rule {:?} does not say how far it looks back", self.name));
        };
        if let Some(throttle) = &self.throttle {
            return Err(format!(
                "the rule {name:?} has a throttle of {}: after one alert it would raise no other",
                Period(throttle.lasts)
            ));
        }
        let Some(every) = self.every else {
            return Err(format!("the rule {name:?} does not say how often it runs"));
        };
        let seen = [length, terms.arrival, self.delay, every, terms.run];
        let seen = seen.into_iter().fold(Duration::ZERO, Duration::saturating_add);
        match back.checked_sub(seen).filter(|inside| !inside.is_zero()) {
            Some(inside) => Ok(Edges { inside, outside: back + OUTSIDE + length }),
            None => Err(format!(
                "the rule {name:?} looks back {}, and sees an event as late as {} after it was \
                 sent: nothing older is sure to be seen",
                Period(back),
                Period(seen)
            )),
        }
    }
}

impl Followed {
    /// Of a rule that could not be read.
    pub fn untold(at_most: Duration, why: &str) -> Self {
        let text = format!("when an alert is due can't be told: {why}");
        Self { within: at_most, means: Means::Untold, text }
    }

    /// What it means for events that must bring no alert: only of a rule that would raise one does
    /// silence say something.
    #[must_use]
    pub fn for_twin(self) -> Self {
        let means = if self.means == Means::Due { Means::Due } else { Means::Unsure };
        Self { means, ..self }
    }

    /// What it means for what is told of the alert, so much later.
    #[must_use]
    pub fn told_of(self, more: Duration) -> Self {
        // Why the alert did not come is said where it did not.
        let means = if self.means == Means::Off { Means::Due } else { self.means };
        Self { within: self.within.saturating_add(more), means, ..self }
    }
}

/// By when something is due: after a time, or when a rule's own timing says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    Period(Period),
    /// And so much more.
    Rule(Option<Period>),
}

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(more) = text.strip_prefix("rule") else { return text.parse().map(Self::Period) };
        if more.is_empty() {
            return Ok(Self::Rule(None));
        }
        let more = more.trim_start().strip_prefix('+').ok_or_else(|| {
            format!("`{text}` is no time to come within; write `rule` or `rule + 30s`")
        })?;
        more.trim_start().parse().map(|more| Self::Rule(Some(more)))
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Period(period) => period.fmt(f),
            Self::Rule(None) => f.write_str("rule"),
            Self::Rule(Some(more)) => write!(f, "rule + {more}"),
        }
    }
}

impl Serialize for Within {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Within {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Within".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a period such as `5s` or `1h30m`, or `rule`, or `rule + 30s`",
            "type": "string",
            "pattern": r"^(([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+|rule( *\+ *([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+)?)$",
            "examples": ["3m", "rule", "rule + 30s"]
        })
    }
}

#[cfg(test)]
mod tests;
