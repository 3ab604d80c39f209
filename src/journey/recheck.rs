//! Hours and days later: is what a stage had shown of a round still there, and as it was?
//!
//! What is kept of a round is two bits an event; its texts are rendered again. An event is gone
//! only where two looks in a row saw everything and not it: a search that answers from a copy that
//! lags is no loss.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reconcile::{Expectation, inspect};
use super::{Event, Fate, Horizon, Look, Run};

/// Looks that saw everything and not the event, before it is called gone.
const PROOFS: u32 = 2;
/// So many events are named in a reason.
const NAMED: usize = 10;

/// The events of a round that a stage has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    first_seq: u64,
    seen: Bits,
    /// Of those, the ones that were right when they were seen: only these can have changed.
    whole: Bits,
}

/// Set bits, in words of 64.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, place: usize) {
        let word = place / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (place % 64);
        }
    }

    fn has(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|place| self.has(*place))
    }
}

impl Expected {
    pub(super) fn new(first_seq: u64) -> Self {
        Self { first_seq, ..Self::default() }
    }

    pub(super) fn add(&mut self, place: usize, flaw: Option<Fate>) {
        // What lay in the dead-letter place was never here.
        if flaw == Some(Fate::DeadLettered) {
            return;
        }
        self.seen.set(place);
        if flaw.is_none() {
            self.whole.set(place);
        }
    }

    pub fn count(&self) -> u64 {
        self.seen.count()
    }

    fn place(&self, seq: u64) -> Option<usize> {
        let place = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        self.seen.has(place).then_some(place)
    }

    fn seq(&self, place: usize) -> u64 {
        self.first_seq.saturating_add(place as u64)
    }
}

/// One re-check under way: it is told of looks until it can say what they come to.
#[derive(Clone, Debug)]
pub struct Rechecking {
    expected: Expected,
    found: Bits,
    /// Found, and no longer what it was: how. A copy that is right settles it.
    changed: BTreeMap<usize, String>,
    right: Bits,
    complete: u32,
    blind: Option<String>,
}

/// What re-checks came to; the events of several add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rechecked {
    /// How many rounds were asked for again.
    pub rounds: u64,
    pub kept: u64,
    /// Seen before, and not there any more.
    pub vanished: u64,
    /// There, and no longer what was seen before.
    pub changed: u64,
    /// It could not be told.
    pub inconclusive: u64,
    /// Not seen before: they had been given up, and came after all.
    #[serde(default)]
    pub found: u64,
    /// Which events went, or why it could not be told; of several re-checks, the first.
    pub reason: Option<String>,
}

impl Rechecked {
    /// Nobody could look: why.
    pub fn inconclusive(expected: &Expected, why: impl Into<String>) -> Self {
        Self {
            rounds: 1,
            inconclusive: expected.count(),
            reason: Some(why.into()),
            ..Self::default()
        }
    }

    pub fn expected(&self) -> u64 {
        [self.kept, self.vanished, self.changed, self.inconclusive]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Events that the stage had and that are not there as they were.
    pub fn failed(&self) -> u64 {
        self.vanished.saturating_add(self.changed)
    }

    pub fn add(&mut self, other: &Self) {
        // A loss speaks before a look that failed.
        if self.reason.is_none() || (self.failed() == 0 && other.failed() > 0) {
            self.reason.clone_from(&other.reason);
        }
        for (ours, theirs) in [
            (&mut self.rounds, other.rounds),
            (&mut self.kept, other.kept),
            (&mut self.vanished, other.vanished),
            (&mut self.changed, other.changed),
            (&mut self.inconclusive, other.inconclusive),
            (&mut self.found, other.found),
        ] {
            *ours = ours.saturating_add(theirs);
        }
    }
}

impl Rechecking {
    pub fn new(expected: Expected) -> Self {
        Self {
            expected,
            found: Bits::default(),
            changed: BTreeMap::new(),
            right: Bits::default(),
            complete: 0,
            blind: None,
        }
    }

    /// What one look saw. `rendered` renders an event of the round again.
    pub fn look(
        &mut self,
        look: &Look,
        expectation: &Expectation,
        rendered: impl Fn(u64) -> Event,
    ) {
        for arrival in &look.arrivals {
            let Some((seq, place)) =
                arrival.seq.and_then(|seq| Some((seq, self.expected.place(seq)?)))
            else {
                continue;
            };
            if arrival.dead_letter || self.right.has(place) {
                continue;
            }
            self.found.set(place);
            let flaw = self
                .expected
                .whole
                .has(place)
                .then(|| inspect(arrival, &rendered(seq), expectation))
                .flatten();
            match flaw {
                Some(flaw) => {
                    self.changed.entry(place).or_insert(flaw.text);
                }
                None => {
                    self.right.set(place);
                    self.changed.remove(&place);
                }
            }
        }
        match &look.horizon {
            Horizon::Complete => self.complete += 1,
            Horizon::Partial(fault) | Horizon::Blind(fault) => {
                self.complete = 0;
                self.blind = Some(fault.to_string());
            }
        }
    }

    /// What it came to; None while another look may tell more. `last` says that there is none.
    pub fn result(&self, run: &Run, last: bool) -> Option<Rechecked> {
        let missing: Vec<u64> = self
            .expected
            .seen
            .places()
            .filter(|place| !self.found.has(*place))
            .map(|place| self.expected.seq(place))
            .collect();
        let proven = self.complete >= PROOFS;
        let settled = proven || (missing.is_empty() && self.changed.is_empty());
        if !settled && !last {
            return None;
        }
        let gone = if proven { missing.len() as u64 } else { 0 };
        let untold = missing.len() as u64 - gone;
        let changed = self.changed.len() as u64;
        let expected = self.expected.count();
        let mut result = Rechecked {
            rounds: 1,
            kept: expected.saturating_sub(gone).saturating_sub(untold).saturating_sub(changed),
            vanished: gone,
            changed,
            inconclusive: untold,
            ..Rechecked::default()
        };
        result.reason = if gone > 0 {
            Some(format!("{gone} of {expected} are gone: {} of run {run}", named(&missing)))
        } else if let Some(text) = self.changed.values().next() {
            Some(format!("{changed} of {expected} changed in run {run}: {text}"))
        } else if untold > 0 {
            let why = self.blind.as_deref().unwrap_or("only one look saw everything");
            Some(format!("{untold} of {expected} could not be told: {why}"))
        } else {
            None
        };
        Some(result)
    }
}

fn named(seqs: &[u64]) -> String {
    let first: Vec<String> = seqs.iter().take(NAMED).map(u64::to_string).collect();
    let more = if seqs.len() > NAMED { ", …" } else { "" };
    format!("sequence {}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_kept_exactly() {
        let mut bits = Bits::default();
        for place in [0, 63, 64, 9_999] {
            bits.set(place);
        }
        assert_eq!(bits.places().collect::<Vec<_>>(), [0, 63, 64, 9_999]);
        assert_eq!(bits.count(), 4);
        assert!(!bits.has(1) && !bits.has(100_000));
        let text = serde_json::to_string(&bits).expect("JSON");
        assert_eq!(serde_json::from_str::<Bits>(&text).expect("bits"), bits);
    }

    /// Said as plainly as can be: gone by two looks in a row at the end that saw everything.
    #[test]
    fn random_looks_count_as_the_reference_says() {
        use proptest::prelude::*;

        use crate::journey::event::{EventSpec, Events, Format, run_from};
        use crate::journey::{Arrival, Horizon, Look};
        use crate::outcome::{Fault, FaultCode};
        use crate::time::{Mono, Wall};

        let events = Events::new(&EventSpec::default(), Format::Json).expect("a right spec");
        let render = |seq| events.render(&run_from([1; 8]), "s", seq, Wall(0));
        // Of each look: which events it shows, and whether it saw all.
        let look = (any::<[bool; 6]>(), any::<bool>());
        let world = (any::<[bool; 6]>(), prop::collection::vec(look, 1..6));
        let mut runner = proptest::test_runner::TestRunner::default();
        runner
            .run(&world, |(had, looks)| {
                let mut expected = Expected::new(10);
                for (place, _) in had.iter().enumerate().filter(|(_, had)| **had) {
                    expected.add(place, None);
                }
                let mut rechecking = Rechecking::new(expected.clone());
                let mut told = None;
                let mut taken = 0;
                for (at, (shows, all)) in looks.iter().enumerate() {
                    let arrivals = (0..6).filter(|place| shows[*place]).map(|place| Arrival {
                        seq: Some(10 + place as u64),
                        copy: place.to_string(),
                        seen: Mono(0),
                        order: None,
                        text: None,
                        fields: None,
                        ended: false,
                        dead_letter: false,
                        stamped: None,
                        wrong: None,
                    });
                    let horizon = if *all {
                        Horizon::Complete
                    } else {
                        Horizon::Partial(Fault::new(FaultCode::Blind, "half"))
                    };
                    let look = Look { arrivals: arrivals.collect(), horizon };
                    rechecking.look(&look, &Expectation::default(), render);
                    taken = at + 1;
                    told = rechecking.result(&"r".into(), taken == looks.len());
                    if told.is_some() {
                        break;
                    }
                }
                let told = told.expect("the last look ends it");
                let seen = |place: usize| looks[..taken].iter().any(|(shows, _)| shows[place]);
                let missing = (0..6).filter(|place| had[*place] && !seen(*place)).count() as u64;
                let last_two = taken >= 2 && looks[taken - 2..taken].iter().all(|(_, all)| *all);
                let gone = if last_two { missing } else { 0 };
                prop_assert_eq!(told.vanished, gone);
                prop_assert_eq!(told.inconclusive, missing - gone);
                prop_assert_eq!((told.expected(), told.changed), (expected.count(), 0));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        eprintln!("property looks back: {} inputs", runner.config().cases);
    }

    #[test]
    fn several_add_up_and_a_loss_speaks_first() {
        let mut expected = Expected::new(1);
        expected.add(0, None);
        expected.add(1, Some(Fate::Misparsed));
        expected.add(2, Some(Fate::DeadLettered));
        let mut sum = Rechecked::inconclusive(&expected, "no answer");
        assert_eq!((sum.expected(), sum.inconclusive), (2, 2));
        let gone = Rechecked {
            rounds: 1,
            kept: 4,
            vanished: 1,
            reason: Some("gone".into()),
            ..Rechecked::default()
        };
        sum.add(&gone);
        sum.add(&Rechecked { reason: Some("later".into()), ..gone });
        assert_eq!((sum.rounds, sum.kept, sum.failed(), sum.expected()), (3, 8, 2, 12));
        assert_eq!(sum.reason.as_deref(), Some("gone"));
    }
}
