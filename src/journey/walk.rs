//! One round, from the first send to the last fate: a state machine without clock and I/O.
//!
//! Whoever drives it asks [`Walk::next`] what to do, does it, and tells what came of it:
//! [`Walk::receipt`], [`Walk::look`], [`Walk::tick`]. All of it serialises, so that a restart goes
//! on where the stored state left off. Fates are never stored: they follow from what was told
//! (`fates.rs`), whatever the order in which it was.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::recheck::Expected;
use super::reconcile::{Expectation, broken_promise, inspect};
use super::rule::{Followed, Means};
use super::tally::Tally;
use super::{Arrival, Event, Fate, Horizon, Look, Receipt, Stage};
use crate::outcome::ReasonCode;
use crate::time::Mono;

mod fates;

/// One stage of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSpec {
    pub stage: Stage,
    /// After that, counted from the intended send, what arrives is late.
    pub within: Duration,
    /// After that what has not arrived is lost, if a look can tell.
    pub give_up: Duration,
    /// How often to look.
    pub poll: Duration,
    pub expect: Expectation,
    /// How many things a round brings about, where things are counted.
    pub exactly: u64,
    /// Within this after it came, a thing must end again.
    #[serde(default)]
    pub resolved: Option<Duration>,
    /// Where `within` follows from a detection rule: what that makes of an alert, and of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Followed>,
    /// Whether somebody looks; at `sent` and `accepted` the receipts tell otherwise.
    pub has_confirmer: bool,
}

/// What a round is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct WalkSpec {
    /// In the order of the stages, each at most once.
    pub stages: Vec<StageSpec>,
    /// The round's events are `first_seq..first_seq + count`.
    pub first_seq: u64,
    pub count: u64,
    /// When the first event should be sent; every latency and deadline is counted from an event's
    /// intended send, so that a slow sender hides nothing.
    pub began: Mono,
    /// When each event should be sent after the first, ascending; empty is one burst.
    pub due: Vec<Duration>,
    pub things: Things,
}

/// What events have to do with the things that are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Things {
    /// Any of the events may bring them about.
    #[default]
    Any,
    /// All of the events together do: none is missing unless every event was certainly sent, and
    /// one too many is looked for until `within` is over.
    Whole,
    /// None must come of them, at any stage: each is looked at until it is given up, or shows one.
    Never,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hand these over; a receipt for each is awaited.
    Send { seqs: Vec<u64> },
    /// Look at this stage; [`Walk::look`] is awaited.
    Look(Stage),
    /// Nothing before this, unless something is told sooner.
    Wait(Mono),
    /// Every fate is decided. Looks are still welcome: they mend the tally.
    Done,
}

/// The round's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Walk {
    /// Nanoseconds, as [`Mono`]; every other instant below is counted from here.
    began: i64,
    /// By event; those beyond are due at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    due: Vec<i64>,
    #[serde(default)]
    things: Things,
    first_seq: u64,
    /// The latest instant that was told.
    now: i64,
    /// How many events were given out to be sent.
    issued: usize,
    /// One an event.
    receipts: Vec<Option<Kept>>,
    stages: Vec<StageState>,
    done: bool,
}

/// What is kept of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    NotSent,
    Sent(i64),
    Accepted(i64),
    Refused,
    Unknown,
    Fault,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StageState {
    spec: StageSpec,
    /// One an event, or one a thing: the first copy.
    seen: Vec<Option<Seen>>,
    /// Every copy that was seen, so that polling counts none twice.
    copies: BTreeSet<u64>,
    duplicate: u64,
    /// The newest thing that was seen and was wrong, and why, until it comes right.
    wrong: Option<(u64, String)>,
    /// The scopes of order that were seen; `Seen::order` holds the index.
    scopes: Vec<String>,
    /// When the latest answered look began, and the latest that saw everything.
    looked: i64,
    complete: i64,
    /// When the look that is under way was given out.
    looking: Option<i64>,
    next_look: i64,
    /// Why the first failing event failed here, and why the last look could not see.
    reason: Option<String>,
    blind: Option<String>,
    /// What the last look saw instead of the thing, where it can tell.
    #[serde(default)]
    saw: Option<String>,
    /// The bytes of the largest event that came through whole, and of the smallest that was cut.
    #[serde(default)]
    largest_whole: usize,
    #[serde(default)]
    smallest_cut: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    at: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    order: Option<(u32, u64)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    flaw: Option<Fate>,
    /// It had been given up.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    again: bool,
    /// Of a thing whose end is awaited: which it is, and when it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    copy: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ended: Option<i64>,
}

impl Seen {
    fn at(at: i64) -> Self {
        Self { at, order: None, flaw: None, again: false, copy: None, ended: None }
    }
}

/// Before any look.
const NEVER: i64 = i64::MIN;
/// After `give_up` a stage that can't be seen is tried again for as long as an event may take there,
/// at most so long, two attempts of ten seconds, and for two polls at least; then it is called
/// inconclusive. A blind stage may not keep its journey from being judged: rounds that took much
/// longer than they are due would leave a gap instead of an answer.
const GRACE: Duration = Duration::from_secs(20);
/// A look that was given out and not answered for so long is taken as blind: its attempt has a
/// deadline far below that, so whoever drives the walk lost it.
const LOOK_LIMIT: Duration = Duration::from_secs(120);
/// No stage is polled faster than this.
const POLL_LEAST: Duration = Duration::from_millis(10);
/// Copies remembered beyond one an event: a platform that repeats without end can't fill the
/// memory; what is beyond is not counted.
const COPIES_LIMIT: usize = 100_000;
/// Partitions of a topic and their like.
const SCOPES_LIMIT: usize = 10_000;

impl Walk {
    pub fn new(spec: WalkSpec) -> Self {
        let count = usize::try_from(spec.count).unwrap_or(usize::MAX);
        let count = count.min(usize::try_from(super::event::COUNT_LIMIT).unwrap_or(count));
        let stages = spec.stages.into_iter().map(|stage| {
            let held = stage.rule.as_ref().is_some_and(|rule| rule.means == Means::Held);
            let exactly = if held { 0 } else { stage.exactly };
            let things = usize::try_from(exactly).unwrap_or(count).min(count.max(1_000));
            StageState {
                seen: vec![None; if stage.stage.counts_things() { things } else { count }],
                spec: stage,
                copies: BTreeSet::new(),
                duplicate: 0,
                wrong: None,
                scopes: Vec::new(),
                looked: NEVER,
                complete: NEVER,
                looking: None,
                next_look: 0,
                reason: None,
                blind: None,
                saw: None,
                largest_whole: 0,
                smallest_cut: None,
            }
        });
        Self {
            began: spec.began.0,
            due: spec.due.into_iter().map(nanos).collect(),
            things: spec.things,
            first_seq: spec.first_seq,
            now: 0,
            issued: 0,
            receipts: vec![None; count],
            stages: stages.collect(),
            done: false,
        }
    }

    /// To be called on a state that was stored, before anything else: whatever was not answered
    /// when it was stored may or may not have been sent, and nothing is sent again.
    pub fn resumed(&mut self) {
        self.issued = self.receipts.len();
        for receipt in &mut self.receipts {
            receipt.get_or_insert(Kept::Unknown);
        }
        for stage in &mut self.stages {
            if stage.looking.take().is_some() {
                stage.next_look = 0;
            }
        }
    }

    /// The same round on another monotonic clock, after a reboot: all instants are counted from
    /// its beginning.
    pub fn rebase(&mut self, began: Mono) {
        self.began = began.0;
    }

    pub fn began(&self) -> Mono {
        Mono(self.began)
    }

    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    pub fn count(&self) -> u64 {
        self.receipts.len() as u64
    }

    pub fn done(&self) -> bool {
        self.done
    }

    /// Events that are known to have been handed over, by their receipt or because they were
    /// seen.
    pub fn sent(&self) -> u64 {
        (0..self.receipts.len()).filter(|unit| self.certainly_sent(*unit)).count() as u64
    }

    /// Events (not things) with a stage whose fate is not decided.
    pub fn under_way(&self) -> u64 {
        let fates = self.fates();
        let open = |unit: usize| {
            let events = self.stages.iter().zip(&fates).filter(|(s, _)| !s.counts_things());
            events.into_iter().any(|(_, fates)| fates.get(unit).is_some_and(Option::is_none))
        };
        (0..self.receipts.len()).filter(|unit| open(*unit)).count() as u64
    }

    /// What came of handing over one event. The first receipt of an event stands.
    pub fn receipt(&mut self, seq: u64, receipt: Receipt) {
        let began = self.began;
        let at = |at: Mono| at.0.saturating_sub(began);
        let (kept, failing) = match receipt {
            Receipt::NotSent(reason) => (Kept::NotSent, Some((Stage::Sent, reason.to_string()))),
            Receipt::Sent { at: when } => (Kept::Sent(at(when)), None),
            Receipt::Accepted { at: when } => (Kept::Accepted(at(when)), None),
            Receipt::Refused(reason) => {
                (Kept::Refused, Some((Stage::Accepted, reason.to_string())))
            }
            Receipt::Unknown(reason) => {
                (Kept::Unknown, Some((Stage::Sent, format!("no answer: {reason}"))))
            }
            Receipt::Fault(fault) => (Kept::Fault, Some((Stage::Sent, fault.to_string()))),
        };
        let Some(slot) = self.unit(seq).and_then(|unit| self.receipts.get_mut(unit)) else {
            return;
        };
        if slot.is_some() {
            return;
        }
        *slot = Some(kept);
        if let Some((stage, text)) = failing {
            // A journey that declares no `accepted` shows the refusal at its next stage.
            if let Some(stage) = self.stages.iter_mut().find(|state| state.spec.stage >= stage) {
                stage.reason.get_or_insert(text);
            }
        }
    }

    /// What a look at a stage saw, and when that look began. `expected` renders an event of this
    /// round again.
    pub fn look(&mut self, stage: Stage, look: Look, began: Mono, expected: impl Fn(u64) -> Event) {
        let began = began.0.saturating_sub(self.began);
        let Some(at) = self.stages.iter().position(|state| state.spec.stage == stage) else {
            return;
        };
        let mut arrivals = look.arrivals;
        // What one look brings has no order of its own; the first copy is the first by time, then
        // by place.
        arrivals.sort_by(|a, b| (a.seen, &a.order, &a.copy).cmp(&(b.seen, &b.order, &b.copy)));
        for arrival in arrivals {
            if stage.counts_things() {
                self.thing(at, arrival, &expected);
            } else {
                self.event(at, arrival, &expected);
            }
        }
        let done = self.done;
        let Some(state) = self.stages.get_mut(at) else { return };
        state.looking = None;
        state.next_look = began.saturating_add(nanos(state.spec.poll.max(POLL_LEAST)));
        // What a finished round counted as inconclusive stays that, unless it arrives.
        if !done {
            state.looked = state.looked.max(began);
            match look.horizon {
                Horizon::Complete => {
                    state.complete = state.complete.max(began);
                    state.blind = None;
                }
                Horizon::Partial(fault) | Horizon::Blind(fault) => {
                    state.blind = Some(fault.to_string());
                }
            }
        }
        // The look that can tell lost from late begins exactly when the first is given up.
        let deadline = self.next_deadline(at, began);
        if let (Some(state), Some(deadline)) = (self.stages.get_mut(at), deadline) {
            state.next_look = state.next_look.min(deadline);
        }
    }

    fn event(&mut self, at: usize, arrival: Arrival, expected: impl Fn(u64) -> Event) {
        let Some((seq, unit)) = arrival.seq.and_then(|seq| Some((seq, self.unit(seq)?))) else {
            return;
        };
        let again = self.given_up(at, unit);
        let seen_at = arrival.seen.0.saturating_sub(self.began);
        let Some(state) = self.stages.get_mut(at) else { return };
        if !state.remember(copy_id(Some(seq), &arrival.copy)) {
            state.exposed(unit, &arrival);
            return;
        }
        let order = state.place(arrival.order.as_ref());
        let Some(slot) = state.seen.get_mut(unit) else { return };
        match slot {
            None => {
                let event = expected(seq);
                let size = event.payload.len();
                let flaw = inspect(&arrival, &event, &state.spec.expect);
                match flaw.as_ref().map(|flaw| flaw.fate) {
                    Some(Fate::Truncated) => {
                        state.smallest_cut =
                            Some(state.smallest_cut.map_or(size, |smallest| smallest.min(size)));
                    }
                    Some(Fate::Corrupted) => {}
                    _ => state.largest_whole = state.largest_whole.max(size),
                }
                let fate = flaw.as_ref().map(|flaw| flaw.fate);
                *slot = Some(Seen { order, flaw: fate, again, ..Seen::at(seen_at) });
                if let Some(flaw) = flaw {
                    state.reason.get_or_insert(flaw.text);
                }
            }
            Some(first) => {
                state.duplicate = state.duplicate.saturating_add(1);
                // In its scope's order the copy that stands in front is the first one.
                if let (Some(ours), Some(theirs)) = (first.order, order)
                    && ours.0 == theirs.0
                    && theirs.1 < ours.1
                {
                    first.order = order;
                }
            }
        }
    }

    fn thing(&mut self, at: usize, arrival: Arrival, expected: impl Fn(u64) -> Event) {
        let again = self.given_up(at, 0);
        let seen_at = arrival.seen.0.saturating_sub(self.began);
        let first = self.first_seq;
        let Some(state) = self.stages.get_mut(at) else { return };
        if arrival.ended {
            state.end_of(copy_id(None, &arrival.copy), seen_at);
            return;
        }
        // A wrong thing may still come right (an alert while it is suppressed, a panel while the
        // last events are stored): it is judged when it is given up.
        let copy = copy_id(None, &arrival.copy);
        let promised = &state.spec.expect;
        let wrong = arrival.wrong.as_ref().map(ToString::to_string).or_else(|| {
            // Rendering an event is not free, and most stages promise no fields of a thing.
            if promised.fields.is_empty() {
                return None;
            }
            broken_promise(&arrival, &expected(first), promised)
        });
        if let Some(wrong) = wrong {
            state.wrong = Some((copy, wrong));
            return;
        }
        if state.wrong.as_ref().is_some_and(|(wrong, _)| *wrong == copy) {
            state.wrong = None;
        }
        if !state.remember(copy) {
            return;
        }
        match state.seen.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                let copy = state.spec.resolved.map(|_| copy);
                *slot = Some(Seen { again, copy, ..Seen::at(seen_at) });
            }
            None => state.duplicate = state.duplicate.saturating_add(1),
        }
    }

    /// What a look saw instead of what was expected: the reason, should it never come.
    pub fn saw(&mut self, stage: Stage, text: &str) {
        if let Some(state) = self.stages.iter_mut().find(|state| state.spec.stage == stage) {
            state.saw = Some(text.to_owned());
        }
    }

    /// Time goes on.
    pub fn tick(&mut self, now: Mono) {
        self.now = self.now.max(now.0.saturating_sub(self.began));
        let now = self.now;
        for stage in &mut self.stages {
            if let Some(since) = stage.looking
                && now.saturating_sub(since) > nanos(LOOK_LIMIT)
            {
                stage.looking = None;
                stage.looked = stage.looked.max(since);
                stage.blind = Some(String::from("blind: the look was never answered"));
            }
        }
        // Whoever sends answers for every event in its own time; if not, the round still ends.
        if !self.stages.is_empty()
            && self.stages.iter().all(|stage| now >= stage.end(self.last_intended()))
        {
            for receipt in &mut self.receipts {
                receipt.get_or_insert(Kept::Unknown);
            }
        }
    }

    /// What is to be done now. Each send and each look is given out once; the last step is
    /// [`Step::Wait`] or [`Step::Done`].
    pub fn next(&mut self, now: Mono) -> Vec<Step> {
        self.tick(now);
        if self.done {
            return vec![Step::Done];
        }
        let fates = self.fates();
        let settled: Vec<bool> =
            fates.iter().enumerate().map(|(at, fates)| self.settled(at, fates)).collect();
        let sent = self.receipts.iter().all(Option::is_some);
        if sent && settled.iter().all(|settled| *settled) {
            self.done = true;
            return vec![Step::Done];
        }
        let mut steps = Vec::new();
        // What is due already and still under way is awaited, not slept for.
        let mut wake = match self.last_end() {
            end if end > self.now => end,
            _ => self.now.saturating_add(nanos(LOOK_LIMIT)),
        };
        let due: Vec<u64> = (self.issued..self.receipts.len())
            .take_while(|unit| self.intended(*unit) <= self.now)
            .map(|unit| self.seq(unit))
            .collect();
        if !due.is_empty() {
            self.issued = self.issued.saturating_add(due.len());
            steps.push(Step::Send { seqs: due });
        }
        if self.issued < self.receipts.len() {
            wake = wake.min(self.intended(self.issued));
        }
        let begun = self.receipts.iter().any(Option::is_some);
        let (now, last) = (self.now, self.last_intended());
        for (state, settled) in self.stages.iter_mut().zip(settled) {
            if settled {
                continue;
            }
            // A number that is right for the first of several steps says nothing of them all.
            let begun = if state.spec.stage == Stage::Shown { sent } else { begun };
            if state.spec.has_confirmer && state.looking.is_none() && begun {
                if state.next_look <= now {
                    state.looking = Some(now);
                    steps.push(Step::Look(state.spec.stage));
                } else {
                    wake = wake.min(state.next_look);
                }
            }
            if let Some(since) = state.looking {
                wake = wake.min(since.saturating_add(nanos(LOOK_LIMIT)).saturating_add(1));
            }
            if state.end(last) > now {
                wake = wake.min(state.end(last));
            }
        }
        // Never in the past: whoever waits for this must not spin.
        let wake = wake.max(now.saturating_add(nanos(POLL_LEAST)));
        steps.push(Step::Wait(Mono(self.began.saturating_add(wake))));
        steps
    }

    /// The counts so far; final once the round is done, but for what arrives later still.
    pub fn tally(&self) -> Tally {
        let fates = self.fates();
        let counted = self.stages.iter().zip(&fates);
        let mut stages: Vec<_> =
            counted.map(|(state, fates)| self.count_stage(state, fates)).collect();
        if let Some(notified) = stages.iter_mut().find(|tally| tally.stage == Stage::Notified) {
            notified.after_alert = self.after_alert(&fates);
        }
        Tally { rounds: 1, stages }
    }

    /// The events that a stage has shown, for a look back.
    pub fn shown(&self, stage: Stage) -> Expected {
        let mut shown = Expected::new(self.first_seq);
        let state = self.stages.iter().find(|state| state.spec.stage == stage);
        for (unit, seen) in state.iter().flat_map(|state| state.seen.iter().enumerate()) {
            if let Some(seen) = seen {
                shown.add(unit, seen.flaw);
            }
        }
        shown
    }

    /// The events that were or may have been taken and that a stage has not shown.
    pub fn lacking(&self, stage: Stage) -> BTreeSet<u64> {
        let states = self.stages.iter().filter(|state| state.spec.stage == stage);
        let looked = states.filter(|state| state.spec.has_confirmer && !state.counts_things());
        let taken = |unit: &usize| {
            let receipt = self.receipts.get(*unit).copied().flatten();
            !matches!(receipt, None | Some(Kept::NotSent | Kept::Refused))
        };
        looked
            .flat_map(|state| state.seen.iter().enumerate())
            .filter(|(unit, seen)| seen.is_none() && taken(unit))
            .map(|(unit, _)| self.seq(unit))
            .collect()
    }

    /// When the last thing of a stage was seen.
    pub fn last_seen(&self, stage: Stage) -> Option<Mono> {
        let state = self.stages.iter().find(|state| state.spec.stage == stage)?;
        let at = state.seen.iter().flatten().map(|seen| seen.at).max()?;
        Some(Mono(self.began.saturating_add(at)))
    }

    fn unit(&self, seq: u64) -> Option<usize> {
        let unit = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        (unit < self.receipts.len()).then_some(unit)
    }

    fn seq(&self, unit: usize) -> u64 {
        self.first_seq.saturating_add(unit as u64)
    }

    /// When an event should be sent, counted from the beginning.
    fn intended(&self, unit: usize) -> i64 {
        self.due.get(unit).copied().unwrap_or(0)
    }

    /// From when an event or a thing of this stage is counted: things come of the last event.
    fn counted_from(&self, at: usize, unit: usize) -> i64 {
        let things = self.stages.get(at).is_some_and(StageState::counts_things);
        if things { self.last_intended() } else { self.intended(unit) }
    }

    fn last_intended(&self) -> i64 {
        self.intended(self.receipts.len().saturating_sub(1))
    }

    fn last_end(&self) -> i64 {
        let last = self.last_intended();
        self.stages.iter().map(|stage| stage.end(last)).max().unwrap_or(0)
    }
}

impl StageState {
    fn counts_things(&self) -> bool {
        self.spec.stage.counts_things()
    }

    fn means(&self) -> Option<Means> {
        self.spec.rule.as_ref().map(|rule| rule.means)
    }

    fn give_up(&self) -> i64 {
        nanos(self.spec.give_up.max(self.spec.within))
    }

    fn grace(&self) -> i64 {
        nanos(self.spec.within.min(GRACE).max(self.spec.poll.saturating_mul(2)))
    }

    /// When the last event's fate is decided here at the latest, if looks are answered.
    fn end(&self, last_intended: i64) -> i64 {
        let given_up = last_intended.saturating_add(self.give_up());
        let ended = given_up.saturating_add(nanos(self.spec.resolved.unwrap_or_default()));
        ended.saturating_add(self.grace())
    }

    /// A thing ended; the first that was told of it stands.
    fn end_of(&mut self, copy: u64, at: i64) {
        if let Some(seen) = self.seen.iter_mut().flatten().find(|seen| seen.copy == Some(copy)) {
            seen.ended.get_or_insert(at);
        }
    }

    /// A wrong tenant may see later what the right one has long seen.
    fn exposed(&mut self, unit: usize, arrival: &Arrival) {
        let wrong = arrival.wrong.as_ref().filter(|wrong| wrong.code == ReasonCode::Exposed);
        let seen = self.seen.get_mut(unit).and_then(Option::as_mut);
        if let (Some(wrong), Some(seen)) = (wrong, seen.filter(|seen| seen.flaw.is_none())) {
            seen.flaw = Some(Fate::Misparsed);
            self.reason.get_or_insert_with(|| wrong.text.clone());
        }
    }

    /// False for a copy that was seen before.
    fn remember(&mut self, copy: u64) -> bool {
        self.copies.len() < self.seen.len().saturating_add(COPIES_LIMIT) && self.copies.insert(copy)
    }

    fn place(&mut self, order: Option<&(String, u64)>) -> Option<(u32, u64)> {
        let (scope, position) = order?;
        let index = match self.scopes.iter().position(|known| known == scope) {
            Some(index) => index,
            None if self.scopes.len() < SCOPES_LIMIT => {
                self.scopes.push(scope.clone());
                self.scopes.len() - 1
            }
            None => return None,
        };
        Some((u32::try_from(index).ok()?, *position))
    }
}

/// Copies' names are the platform's and of any length, and one record may hold several events. The
/// hash must be the same after an update of this program, which the standard library's is not.
fn copy_id(seq: Option<u64>, copy: &str) -> u64 {
    let mut hash = sha2::Sha256::new();
    hash.update(copy.as_bytes());
    if let Some(seq) = seq {
        hash.update(seq.to_le_bytes());
    }
    let mut front = [0; 8];
    front.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    u64::from_le_bytes(front)
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
