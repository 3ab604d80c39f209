//! Synthetic events followed through stages, counted exactly.
//!
//! This file holds the words; `event` renders events (`template` the words in their texts, `format`
//! how they are written down; `usecase` sequences of them, as data), `walk` is the sans-I/O state machine of one round, `reconcile` the
//! rules of counting, `rule` what a detection rule says of itself and what follows, `edges` copies at
//! those of its look-back, `recheck` the look back hours later,
//! `specimen` what each stage showed of one event, `exhibit` a picture of what a stage showed, `offset` how far a stage's clock is off, `volume` the same counting for millions of
//! events.

use crate::outcome::words;

pub mod edges;
pub mod event;
pub mod exhibit;
pub mod fields;
mod format;
pub mod fresh;
mod layout;
pub mod load;
pub mod offset;
pub mod recheck;
pub mod reconcile;
pub mod replay;
pub mod rule;
pub mod specimen;
pub mod tally;
mod template;
mod token;
pub mod twin;
pub mod usecase;
pub mod volume;
pub mod walk;

words! {
    /// The stages, in their order.
    Stage {
        Sent = "sent",
        Accepted = "accepted",
        Parsed = "parsed",
        Enriched = "enriched",
        Stored = "stored",
        Alerted = "alerted",
        Notified = "notified",
        Shown = "shown",
    }
}

impl Stage {
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.word() == word)
    }

    /// At these stages the thing expected is counted (an alert, a notification, a reading), not
    /// the event.
    pub const fn counts_things(self) -> bool {
        matches!(self, Self::Alerted | Self::Notified | Self::Shown)
    }
}

words! {
    /// What became of one event at one stage, in the order of precedence: where several hold, the
    /// first. The contract's words.
    Fate {
        Corrupted = "corrupted",
        Truncated = "truncated",
        Misparsed = "misparsed",
        DeadLettered = "dead_lettered",
        Refused = "refused",
        Lost = "lost",
        Late = "late",
        Reordered = "reordered",
        Ok = "ok",
        /// Sent without an answer: neither sent nor lost.
        Unknown = "unknown",
        /// We could not look.
        Inconclusive = "inconclusive",
    }
    told [
        Ok Late Refused Lost Reordered Corrupted
        Truncated Misparsed DeadLettered Unknown Inconclusive
    ]
}

/// The run of one round: short, random, unique. The front of every token.
pub type Run = std::sync::Arc<str>;

/// One event of a round, rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub seq: u64,
    /// The time that its text and its envelope name: when it is meant to be sent, or, of a date
    /// probe, a day that shows more.
    pub time: crate::time::Wall,
    /// Compact, lower-case letters and digits, starts with a letter, at most 32 characters.
    pub token: String,
    /// The human text, token included; `crc` is over these bytes.
    pub message: String,
    pub crc: u32,
    /// The text as it stands inside the payload, where its format escapes some of it.
    pub written: Option<String>,
    /// Set where the time was chosen so that a day and a month, or a lost offset, show: the
    /// offset in seconds east of UTC.
    pub date_probe: Option<i32>,
    /// Structured fields for formats that have them, `greenlight.run` and its kin included.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// The bytes as they go out, in the journey's format and without the transport's framing.
    pub payload: bytes::Bytes,
}

/// What came of handing one event to the way in.
#[derive(Clone, Debug, PartialEq)]
pub enum Receipt {
    /// Certainly not handed over.
    NotSent(crate::outcome::Reason),
    /// Handed over, on a way in that never acknowledges.
    Sent { at: crate::time::Mono },
    /// Handed over and acknowledged.
    Accepted { at: crate::time::Mono },
    /// Handed over and refused by the way in.
    Refused(crate::outcome::Reason),
    /// Handed over, and no answer came: it may or may not have been taken.
    Unknown(crate::outcome::Reason),
    /// Our own fault, certainly not handed over: the event was never sent and is no loss.
    Fault(crate::outcome::Fault),
}

/// One copy of something expected, seen at a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The sequence number, where an event was seen; None where a thing was (an alert, a
    /// notification, a reading).
    pub seq: Option<u64>,
    /// Tells copies apart and the same copy seen twice: a broker's partition and offset, a
    /// document's id, an alert's fingerprint and start.
    pub copy: String,
    /// When we saw it.
    pub seen: crate::time::Mono,
    /// The place within the scope that the transport orders (topic-partition, offset), where it
    /// orders.
    pub order: Option<(String, u64)>,
    /// The text as the stage showed it.
    pub text: Option<String>,
    /// The fields as the stage showed them.
    pub fields: Option<serde_json::Map<String, serde_json::Value>>,
    /// The end of a thing that was seen before under the same `copy`: an alert that is resolved.
    pub ended: bool,
    /// Seen in the dead-letter place instead of the stage's own.
    pub dead_letter: bool,
    /// When the stage itself took it, by its own clock, where it writes that beside the event.
    pub stamped: Option<offset::Stamp>,
    /// What the confirmer itself found wrong with it (an alert that is suppressed, a panel that
    /// shows another number).
    pub wrong: Option<crate::outcome::Reason>,
}

/// How far a look could see.
#[derive(Clone, Debug, PartialEq)]
pub enum Horizon {
    /// Everything that had arrived when the look began was seen.
    Complete,
    /// Some of it was seen; what was not seen may be there.
    Partial(crate::outcome::Fault),
    /// Nothing could be seen. "I could not look" is never "it is not there".
    Blind(crate::outcome::Fault),
}

/// What one look of a confirmer yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    pub arrivals: Vec<Arrival>,
    pub horizon: Horizon,
}

impl Look {
    pub fn blind(fault: crate::outcome::Fault) -> Self {
        Self { arrivals: Vec::new(), horizon: Horizon::Blind(fault) }
    }
}
