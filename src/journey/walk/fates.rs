//! From what was told to fates: one an event (or thing) and stage, none while it is under way.

use super::super::reconcile::{reordered, seen as seen_as, unseen, worse};
use super::super::rule::Means;
use super::super::tally::{LATENCIES_LIMIT, StageTally};
use super::super::{Fate, Stage};
use super::{Kept, Seen, StageState, Things, Walk};

type Fates = Vec<Option<Fate>>;

impl Walk {
    /// Stage by stage, because what is refused, dead-lettered or lost at one has that fate at
    /// every later one. An event that was seen all the same, beyond a stage that did not show it,
    /// keeps the carried fate by the contract's order of precedence.
    pub(super) fn fates(&self) -> Vec<Fates> {
        let mut all: Vec<Fates> = Vec::with_capacity(self.stages.len());
        let mut carried: Fates = vec![None; self.receipts.len()];
        for (at, state) in self.stages.iter().enumerate() {
            if state.counts_things() {
                let carried = self.carried_to_thing(&all, &carried);
                all.push(
                    (0..state.seen.len()).map(|unit| self.thing_fate(at, unit, carried)).collect(),
                );
                continue;
            }
            let reordered = self.reordered(state);
            let fates: Fates = (0..self.receipts.len())
                .map(|unit| {
                    let own = self.event_fate(at, unit, reordered.binary_search(&unit).is_ok());
                    worse(own, carried.get(unit).copied().flatten())
                })
                .collect();
            for (carried, fate) in carried.iter_mut().zip(&fates) {
                *carried = fate.filter(|fate| fate.carries_on());
            }
            all.push(fates);
        }
        self.resolve_unknown(&mut all);
        all
    }

    /// A send without an answer is unknown at the stages that receipts tell of, once no stage that
    /// somebody looks at can still show it.
    fn resolve_unknown(&self, all: &mut [Fates]) {
        for (unit, receipt) in self.receipts.iter().enumerate() {
            if *receipt != Some(Kept::Unknown) || self.was_seen(unit) {
                continue;
            }
            let open = self.stages.iter().zip(all.iter()).any(|(state, fates)| {
                state.spec.has_confirmer
                    && !state.counts_things()
                    && fates.get(unit).is_some_and(Option::is_none)
            });
            if open {
                continue;
            }
            for (state, fates) in self.stages.iter().zip(all.iter_mut()) {
                if !state.spec.has_confirmer
                    && !state.counts_things()
                    && let Some(fate) = fates.get_mut(unit)
                {
                    *fate = Some(Fate::Unknown);
                }
            }
        }
    }

    fn event_fate(&self, at: usize, unit: usize, reordered: bool) -> Option<Fate> {
        let state = self.stages.get(at)?;
        let receipt = self.receipts.get(unit).copied().flatten();
        let seen = state.seen.get(unit).copied().flatten();
        let told = match receipt {
            Some(Kept::NotSent) => Some(Fate::Refused),
            Some(Kept::Refused) if state.spec.stage == Stage::Sent => Some(Fate::Ok),
            Some(Kept::Refused) => Some(Fate::Refused),
            Some(Kept::Fault) if seen.is_none() => Some(Fate::Inconclusive),
            _ => None,
        };
        if told.is_some() {
            return worse(told, seen.and_then(|seen| seen.flaw));
        }
        if !state.spec.has_confirmer {
            return self.receipt_fate(state, unit, receipt);
        }
        match seen {
            Some(seen) => Some(self.seen_fate(state, seen, self.intended(unit), reordered)),
            None => self.unseen_fate(at, unit, receipt),
        }
    }

    /// At a stage that nobody looks at.
    fn receipt_fate(&self, state: &StageState, unit: usize, receipt: Option<Kept>) -> Option<Fate> {
        let timely = |at: i64| {
            let took = at.saturating_sub(self.intended(unit));
            Some(if took > super::nanos(state.spec.within) { Fate::Late } else { Fate::Ok })
        };
        match (receipt?, state.spec.stage) {
            (Kept::Sent(at), Stage::Sent) | (Kept::Accepted(at), Stage::Accepted) => timely(at),
            // When it was handed over is not known, only when that was acknowledged.
            (Kept::Accepted(_), Stage::Sent) => Some(Fate::Ok),
            // It was seen further on, so it was sent and taken.
            (Kept::Unknown, _) if self.was_seen(unit) => Some(Fate::Ok),
            (Kept::Unknown, _) => None,
            // The way in never answers, and nobody looks: a plan that declares this can't learn it.
            _ => Some(Fate::Inconclusive),
        }
    }

    fn seen_fate(&self, state: &StageState, seen: Seen, intended: i64, reordered: bool) -> Fate {
        let late = seen.at.saturating_sub(intended) > super::nanos(state.spec.within);
        seen_as(seen.flaw, late || seen.again, reordered)
    }

    fn unseen_fate(&self, at: usize, unit: usize, receipt: Option<Kept>) -> Option<Fate> {
        receipt?;
        let closed = self.closed(at, self.intended(unit))?;
        Some(unseen(self.certainly_sent(unit), matches!(closed, Closed::Complete)))
    }

    /// The fate that all things have because no event came so far: what all of the stage before
    /// have carried on, the first by precedence. Some(None) where nothing was ever sent.
    fn carried_to_thing(&self, before: &[Fates], carried: &Fates) -> Option<Fate> {
        if self.things == Things::Never {
            // What is not stored may alert all the same; what was never sent can't.
            let never = [Fate::Refused, Fate::Inconclusive];
            return self.events_to_thing(carried).filter(|fate| never.contains(fate));
        }
        if let Some(things) = self
            .stages
            .iter()
            .zip(before)
            .rfind(|(state, _)| state.counts_things())
            .map(|(_, fates)| fates)
        {
            return all_carried(things).or_else(|| self.events_to_thing(carried));
        }
        self.events_to_thing(carried)
    }

    fn events_to_thing(&self, carried: &Fates) -> Option<Fate> {
        // An event that was never sent, by our own fault, is none that could bring about a thing.
        let gone = |unit: usize| {
            self.receipts.get(unit).copied().flatten() == Some(Kept::Fault) && !self.was_seen(unit)
        };
        let could: Vec<usize> = (0..carried.len()).filter(|unit| !gone(*unit)).collect();
        if could.is_empty() {
            return (!carried.is_empty()).then_some(Fate::Inconclusive);
        }
        let fates = could.iter().map(|unit| carried.get(*unit).copied().flatten());
        fates.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    fn thing_fate(&self, at: usize, unit: usize, carried: Option<Fate>) -> Option<Fate> {
        let state = self.stages.get(at)?;
        let own = match state.seen.get(unit).copied().flatten() {
            // Whether it came in time can't be told, nor whether one should have come.
            _ if state.means() == Some(Means::Untold) => Some(Fate::Inconclusive),
            Some(seen) => match self.ended(state, seen) {
                Ended::InTime => Some(self.seen_fate(state, seen, self.last_intended(), false)),
                Ended::Awaited => None,
                Ended::TooLate => Some(Fate::Misparsed),
                Ended::Untold => Some(Fate::Inconclusive),
            },
            None => match self.closed(at, self.last_intended()) {
                None => None,
                Some(_) if state.wrong.is_some() => Some(Fate::Misparsed),
                Some(_) if state.means() == Some(Means::Unsure) => Some(Fate::Inconclusive),
                Some(closed) => {
                    let mut sent = (0..self.receipts.len()).map(|unit| self.certainly_sent(unit));
                    let due = match self.things {
                        // What a number should be is not known where a send has no answer.
                        Things::Any if state.spec.stage == Stage::Shown => {
                            sent.any(|sent| sent) && !self.has_unknown()
                        }
                        Things::Any => sent.any(|sent| sent),
                        Things::Whole | Things::Never => sent.all(|sent| sent),
                    };
                    Some(unseen(due, matches!(closed, Closed::Complete)))
                }
            },
        };
        worse(own, carried)
    }

    /// Whether a thing that came has ended again, where it must.
    fn ended(&self, state: &StageState, seen: Seen) -> Ended {
        let Some(within) = state.spec.resolved else { return Ended::InTime };
        let deadline = seen.at.saturating_add(super::nanos(within));
        match seen.ended {
            Some(at) if at <= deadline => Ended::InTime,
            Some(_) => Ended::TooLate,
            None if state.complete >= deadline => Ended::TooLate,
            None if self.now >= deadline.saturating_add(state.grace()) => Ended::Untold,
            None => Ended::Awaited,
        }
    }

    /// Handed over for certain, by its receipt or because it was seen.
    pub(super) fn certainly_sent(&self, unit: usize) -> bool {
        let receipt = self.receipts.get(unit).copied().flatten();
        matches!(receipt, Some(Kept::Sent(_) | Kept::Accepted(_)))
            || (receipt != Some(Kept::NotSent) && self.was_seen(unit))
    }

    /// Whether a send without an answer was not seen anywhere either.
    fn has_unknown(&self) -> bool {
        let unknown = |(unit, receipt): (usize, &Option<Kept>)| {
            *receipt == Some(Kept::Unknown) && !self.was_seen(unit)
        };
        self.receipts.iter().enumerate().any(unknown)
    }

    fn was_seen(&self, unit: usize) -> bool {
        let events = self.stages.iter().filter(|state| !state.counts_things());
        events.into_iter().any(|state| state.seen.get(unit).is_some_and(Option::is_some))
    }

    /// Whether what was intended then and is not seen here is given up, and on what evidence.
    fn closed(&self, at: usize, intended: i64) -> Option<Closed> {
        let state = self.stages.get(at)?;
        let deadline = intended.saturating_add(state.give_up());
        if state.complete >= deadline {
            return Some(Closed::Complete);
        }
        // A round that slept through its deadline (a suspended machine) is still looked at once.
        let blind = !state.spec.has_confirmer || state.looked >= deadline;
        let over = self.now >= deadline.saturating_add(state.grace());
        (blind && over).then_some(Closed::Blind)
    }

    /// Whether this event, or a thing of this stage, is counted as not there.
    pub(super) fn given_up(&self, at: usize, unit: usize) -> bool {
        self.closed(at, self.counted_from(at, unit)).is_some()
    }

    /// The first instant after `after` at which an event is given up here.
    pub(super) fn next_deadline(&self, at: usize, after: i64) -> Option<i64> {
        let state = self.stages.get(at)?;
        let units = if state.counts_things() { 1 } else { self.receipts.len() };
        let deadline = |unit| self.counted_from(at, unit).saturating_add(state.give_up());
        (0..units).map(deadline).find(|deadline| *deadline > after)
    }

    /// Seconds from each alert that was seen to its notification; None where that did not come.
    pub(super) fn after_alert(&self, fates: &[Fates]) -> Vec<Option<f64>> {
        let of = |stage| self.stages.iter().position(|state| state.spec.stage == stage);
        let (Some(alerted), Some(notified)) = (of(Stage::Alerted), of(Stage::Notified)) else {
            return Vec::new();
        };
        let seen = |at: usize, unit: usize| self.stages.get(at)?.seen.get(unit).copied().flatten();
        let decided = fates.get(notified).into_iter().flatten().enumerate();
        decided
            .filter_map(|(unit, fate)| {
                let told = !matches!(fate, None | Some(Fate::Unknown | Fate::Inconclusive));
                let alert = seen(alerted, unit).filter(|_| told)?;
                // Each was seen by a look or took its own way: the second may be seen first.
                let after = |told: Seen| told.at.saturating_sub(alert.at).max(0) as f64 / 1e9;
                Some(seen(notified, unit).map(after))
            })
            .collect()
    }

    /// Whether a stage needs no further look: all is decided, and a look after the last arrival
    /// had the chance to see further copies.
    pub(super) fn settled(&self, at: usize, fates: &Fates) -> bool {
        let Some(state) = self.stages.get(at) else { return true };
        if fates.iter().any(Option::is_none) {
            return false;
        }
        let last = state.seen.iter().flatten().map(|seen| seen.at).max();
        let Some(last) = last.filter(|_| state.spec.has_confirmer) else { return true };
        let over = self.last_intended().saturating_add(state.give_up());
        // A second alert comes with the rule's next run, not with the first.
        let watched = match self.things == Things::Whole && state.counts_things() {
            true => self.last_intended().saturating_add(super::nanos(state.spec.within)),
            false => self.last_intended(),
        };
        self.now >= over || state.complete >= last.max(watched)
    }

    /// Units whose first copies were reordered, ascending.
    fn reordered(&self, state: &StageState) -> Vec<usize> {
        let copies = state.seen.iter().enumerate().filter_map(|(unit, seen)| {
            let (scope, position) = seen.as_ref()?.order?;
            Some((scope, position, unit as u64))
        });
        let mut units: Vec<usize> =
            reordered(copies).into_iter().filter_map(|unit| usize::try_from(unit).ok()).collect();
        units.sort_unstable();
        units
    }

    /// The event that says most: at the first failing stage the first that failed, one that `has`
    /// something to show before one that has not; else the first that has.
    pub fn exemplar(&self, has: impl Fn(u64) -> bool) -> u64 {
        let fates = self.fates();
        let events = self.stages.iter().zip(&fates).filter(|(state, _)| !state.counts_things());
        let failing = events
            .map(|(_, fates)| {
                let failed =
                    |(_, fate): &(usize, &Option<Fate>)| fate.is_some_and(Fate::is_failure);
                fates.iter().enumerate().filter(failed).map(|(unit, _)| self.seq(unit))
            })
            .map(Iterator::collect::<Vec<_>>)
            .find(|failed| !failed.is_empty())
            .unwrap_or_default();
        let shown = |seqs: &[u64]| seqs.iter().copied().find(|seq| has(*seq));
        let all: Vec<u64> = (0..self.receipts.len()).map(|unit| self.seq(unit)).collect();
        shown(&failing)
            .or_else(|| failing.first().copied())
            .or_else(|| shown(&all))
            .unwrap_or(self.first_seq)
    }

    /// What became of one event at each stage that is looked at, and how many nanoseconds after
    /// its intended send it was seen; of things, the first.
    pub fn shown_of(&self, seq: u64) -> Vec<(Stage, Option<Fate>, Option<i64>)> {
        let fates = self.fates();
        let looked = self.stages.iter().zip(&fates).filter(|(state, _)| state.spec.has_confirmer);
        looked
            .map(|(state, fates)| {
                let things = state.counts_things();
                let unit = if things { Some(0) } else { self.unit(seq) };
                let fate = unit.and_then(|unit| fates.get(unit).copied().flatten());
                let seen = unit.and_then(|unit| state.seen.get(unit).copied().flatten());
                let intended = match unit {
                    _ if things => self.last_intended(),
                    unit => unit.map_or(0, |unit| self.intended(unit)),
                };
                let after = seen.map(|seen| seen.at.saturating_sub(intended).max(0));
                (state.spec.stage, fate, after)
            })
            .collect()
    }

    pub(super) fn count_stage(&self, state: &StageState, fates: &Fates) -> StageTally {
        let mut tally = StageTally::new(state.spec.stage);
        tally.duplicate = state.duplicate;
        tally.rule = state.spec.rule.as_ref().map(|rule| rule.text.clone());
        let mut missing = Vec::new();
        let mut late = 0_u64;
        for (unit, fate) in fates.iter().enumerate() {
            let Some(fate) = *fate else { continue };
            tally.decide(fate);
            match fate {
                Fate::Lost => missing.push(self.seq(unit)),
                Fate::Late => late = late.saturating_add(1),
                _ => {}
            }
            let things = state.counts_things();
            let intended = if things { self.last_intended() } else { self.intended(unit) };
            let receipt = if things { None } else { self.receipts.get(unit).copied().flatten() };
            let arrived = match (state.seen.get(unit).copied().flatten(), receipt) {
                (Some(seen), _) => {
                    tally.resurrected = tally.resurrected.saturating_add(u64::from(seen.again));
                    Some(seen.at)
                }
                (None, Some(Kept::Sent(at))) if state.spec.stage == Stage::Sent => Some(at),
                (None, Some(Kept::Accepted(at))) if state.spec.stage == Stage::Accepted => Some(at),
                _ => None,
            };
            if let Some(arrived) = arrived.filter(|_| tally.latencies.len() < LATENCIES_LIMIT) {
                tally.latencies.push(arrived.saturating_sub(intended).max(0) as f64 / 1e9);
            }
        }
        tally.reason = reason(state, &tally, &missing, late);
        tally
    }
}

/// Why the first that is not ok is not.
fn reason(state: &StageState, tally: &StageTally, missing: &[u64], late: u64) -> Option<String> {
    if tally.count(Fate::Ok) == tally.expected {
        let came = tally.expected.saturating_add(tally.too_many());
        return (came > tally.expected)
            .then(|| format!("{came} came where {} was expected", tally.expected));
    }
    let wrong = state.wrong.as_ref().filter(|_| tally.count(Fate::Misparsed) > 0);
    if let Some(text) = state.limit().filter(|_| tally.count(Fate::Truncated) > 0) {
        let first = state.reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        return Some(format!("{text}{first}"));
    }
    if let Some(text) = state.reason.clone().or_else(|| wrong.map(|(_, text)| text.clone())) {
        return Some(text);
    }
    if let Some(within) = state.spec.resolved.filter(|_| tally.count(Fate::Misparsed) > 0) {
        return Some(format!("it came and was not resolved within {within:?}"));
    }
    let (lost, of) = (missing.len(), tally.expected);
    if lost > 0 {
        let give_up = state.spec.give_up.max(state.spec.within);
        if state.counts_things() {
            let saw = state.saw.as_ref().map(|saw| format!(": {saw}")).unwrap_or_default();
            let off = state.spec.rule.as_ref().filter(|rule| rule.means == Means::Off);
            let off = off.map(|rule| format!("{}; ", rule.text)).unwrap_or_default();
            return Some(format!("{off}{lost} of {of} did not arrive within {give_up:?}{saw}"));
        }
        let first: Vec<String> = missing.iter().take(10).map(u64::to_string).collect();
        let more = if lost > first.len() { ", …" } else { "" };
        let first = first.join(", ");
        return Some(format!("{lost} of {of} not here within {give_up:?}: sequence {first}{more}"));
    }
    if late > 0 {
        return Some(format!("{late} of {of} came after {:?}", state.spec.within));
    }
    let blind = tally.count(Fate::Inconclusive) + tally.count(Fate::Unknown) > 0;
    let unsure = matches!(state.means(), Some(Means::Unsure | Means::Untold));
    let rule = state.spec.rule.as_ref().filter(|_| unsure).map(|rule| rule.text.clone());
    rule.or_else(|| state.blind.clone()).filter(|_| blind)
}

impl StageState {
    /// The largest event that passes here, as far as this round can tell.
    fn limit(&self) -> Option<String> {
        let (whole, cut) = (self.largest_whole, self.smallest_cut?);
        Some(if whole == 0 {
            format!("truncated, none came whole; the smallest of those cut has {cut} bytes")
        } else if whole < cut {
            format!("truncated above {whole} bytes; the smallest of those cut has {cut}")
        } else {
            format!("truncated from {cut} bytes on, though one of {whole} came whole")
        })
    }
}

/// Whether a thing has ended that must.
enum Ended {
    InTime,
    Awaited,
    TooLate,
    /// No look could tell.
    Untold,
}

/// On what evidence something is counted as not there.
#[derive(Clone, Copy)]
enum Closed {
    /// A look that began after it was due saw everything, and not this.
    Complete,
    /// No look could tell.
    Blind,
}

fn all_carried(fates: &Fates) -> Option<Fate> {
    let fates: Option<Vec<Fate>> =
        fates.iter().map(|fate| fate.filter(|fate| fate.carries_on())).collect();
    fates?.into_iter().min()
}
