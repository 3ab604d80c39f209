//! What a look found in a store, as arrivals: one place for all that read records.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Sought, recognise};
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::time::Mono;

/// More records than this of one round are not read in one look: a round has half as many events
/// at most.
pub(super) const RECORDS_LIMIT: usize = 20_000;

/// One record, as the store gave it.
pub(super) struct Record {
    pub(super) fields: Option<Map<String, Value>>,
    pub(super) text: Option<String>,
    /// What tells this record from every other one; None where the store has no such thing.
    pub(super) id: Option<String>,
}

/// The copies of the round's events among the records of one look.
pub(super) struct Found<'a> {
    sought: &'a Sought,
    arrivals: Vec<Arrival>,
    /// How often each event and id came so far: a store without ids tells copies apart by number.
    copies: BTreeMap<(u64, Option<String>), usize>,
    records: usize,
    narrowed: bool,
    /// Where the plan says that the text stands.
    text_at: Option<&'a str>,
    lacking: Option<Fault>,
}

impl<'a> Found<'a> {
    pub(super) fn new(sought: &'a Sought) -> Self {
        Self {
            sought,
            arrivals: Vec::new(),
            copies: BTreeMap::new(),
            records: 0,
            narrowed: false,
            text_at: None,
            lacking: None,
        }
    }

    /// An event that shows no text there is not the one that was sent.
    #[must_use]
    pub(super) fn with_text_at(self, text_at: Option<&'a str>) -> Self {
        Self { text_at, ..self }
    }

    /// Of a query that yields the round's records only: where not one of them shows an event, it
    /// is the query that hides them.
    pub(super) fn narrowed(sought: &'a Sought) -> Self {
        Self { narrowed: true, ..Self::new(sought) }
    }

    pub(super) fn take(&mut self, record: Record) {
        let text = record.text.clone().unwrap_or_default();
        self.take_showing(&text, record);
    }

    /// As [`Self::take`], where the events are named by what surrounds the record's text.
    pub(super) fn take_showing(&mut self, whole: &str, record: Record) {
        let Record { fields, text, id } = record;
        if self.records >= RECORDS_LIMIT {
            self.lacks(format!("there are more than {RECORDS_LIMIT} records of the round"));
            return;
        }
        self.records += 1;
        let wrong = self.text_at.filter(|_| text.is_none()).map(no_text);
        let mut named = recognise::events(whole, fields.as_ref(), self.sought);
        if named.is_empty() {
            // A text that was cut within its token ends so by itself alone.
            named = recognise::events(text.as_deref().unwrap_or_default(), None, self.sought);
        }
        for seq in named {
            let ordinal = self.copies.entry((seq, id.clone())).or_default();
            *ordinal += 1;
            let copy = match &id {
                // Shown twice, it is one record: pages may overlap.
                Some(_) if *ordinal > 1 => continue,
                Some(id) => id.clone(),
                None => (*ordinal - 1).to_string(),
            };
            self.arrivals.push(Arrival {
                seq: Some(seq),
                copy,
                seen: Mono::now(),
                order: None,
                text: text.clone(),
                fields: fields.clone(),
                ended: false,
                dead_letter: false,
                stamped: None,
                wrong: wrong.clone(),
            });
        }
    }

    /// Something was not seen. The first reason stands.
    pub(super) fn lacks(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.lacking.get_or_insert_with(|| Fault::new(FaultCode::Blind, why));
    }

    pub(super) fn look(self) -> Look {
        if self.narrowed && self.records > 0 && self.arrivals.is_empty() {
            return Look::blind(Fault::new(
                FaultCode::Blind,
                format!(
                    "{} records name the round, and none shows which event it is: neither its \
                     token nor greenlight.seq is among what is read",
                    self.records
                ),
            ));
        }
        let horizon = match self.lacking {
            Some(fault) => Horizon::Partial(fault),
            None => Horizon::Complete,
        };
        Look { arrivals: self.arrivals, horizon }
    }
}

/// What is wrong with an event whose text is not where the plan says.
pub(super) fn no_text(at: &str) -> Reason {
    Reason::new(ReasonCode::BodyMismatch, format!("it shows no text at `{at}`"))
}

/// A value as text: a string as it is, anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::confirm::recognise::tests::sought;
    use crate::journey::event::Token;

    #[test]
    fn a_text_that_is_cut_within_its_token_is_known_beside_fields_that_lack_it() {
        let sought = sought("gl00000001");
        let whole = Token::new(&sought.run, "s", 2).render();
        let cut = format!("hello {}", &whole[..whole.len() - 3]);
        let hit = json!({ "raw": cut, "parsed": { "level": "info" } });
        let mut found = Found::new(&sought);
        let record =
            Record { fields: hit["parsed"].as_object().cloned(), text: Some(cut), id: None };
        found.take_showing(&hit.to_string(), record);
        let seqs: Vec<_> = found.look().arrivals.iter().map(|arrival| arrival.seq).collect();
        assert_eq!(seqs, [Some(2)]);
    }
}
