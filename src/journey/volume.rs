//! The walk's counting for volume: millions of events in flight, a few bytes each.
//!
//! The walk keeps what a person may ask of each event; here only what its fate needs is kept, and
//! only until it is decided. The rules are the same (`reconcile`'s `seen`, `unseen` and `worse`),
//! and a test holds both against each other. What arrives must be told in the order of its scope's
//! positions, as a consumer reads it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::reconcile::{seen, unseen, worse};
use super::tally::{Percentiles, StageTally, Tally};
use super::{Fate, Receipt, Stage};
use crate::time::Mono;

mod histogram;

pub use histogram::Histogram;

/// Events are kept and forgotten in blocks of so many.
const BLOCK: usize = 8_192;
/// In blocks: 64 million events in flight.
const BLOCKS_LIMIT: usize = 8_192;
/// Events that were decided as not there are remembered, so that one that comes all the same is
/// told from a further copy; beyond so many it is taken for a further copy.
const ABSENT_LIMIT: usize = 1_000_000;
/// Stages where events are counted: sent to stored.
const STAGES_LIMIT: usize = 5;
/// Partitions of a topic and their like.
const SCOPES_LIMIT: usize = 10_000;

/// A stage that is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub stage: Stage,
    /// After that, counted from the intended send, what arrives is late.
    pub within: Duration,
    /// After that what has not arrived is lost, if a look can tell.
    pub give_up: Duration,
}

/// What is known of a stream of events.
#[derive(Debug)]
pub struct Volume {
    stages: Vec<State>,
    first_seq: u64,
    /// The sequence number of the first block's first event.
    front: u64,
    next: u64,
    blocks: VecDeque<Block>,
    /// (stage, sequence): decided as not there, the fate that was counted.
    absent: BTreeMap<(u8, u64), Fate>,
}

#[derive(Debug)]
struct State {
    spec: Counted,
    tally: StageTally,
    latency: Histogram,
    /// The next sequence number expected in each scope, by RFC 4737.
    expected: Vec<u64>,
    /// When the newest complete look began.
    complete: i64,
}

/// Some events in a row. What is kept of one is eight bytes, one for the receipt, and one a stage.
#[derive(Debug)]
struct Block {
    /// As [`Mono`].
    intended: Vec<i64>,
    receipts: Vec<u8>,
    /// One after the other, [`BLOCK`] each: the fate of the first copy, or none.
    seen: Vec<u8>,
}

const NONE: u8 = 0;
const NOT_SENT: u8 = 1;
const SENT: u8 = 2;
const ACCEPTED: u8 = 3;
const REFUSED: u8 = 4;
const UNKNOWN: u8 = 5;
const FAULT: u8 = 6;
/// Set with the receipt where it came after the stage's `within`.
const LATE: u8 = 8;

impl Volume {
    /// Counts at the stages in their order; those beyond `stored` count things and are left out.
    pub fn new(stages: &[Counted], first_seq: u64) -> Self {
        let events = stages.iter().filter(|spec| !spec.stage.counts_things());
        let state = |spec: &Counted| State {
            spec: *spec,
            tally: StageTally::new(spec.stage),
            latency: Histogram::default(),
            expected: Vec::new(),
            complete: i64::MIN,
        };
        Self {
            stages: events.take(STAGES_LIMIT).map(state).collect(),
            first_seq,
            front: first_seq,
            next: first_seq,
            blocks: VecDeque::new(),
            absent: BTreeMap::new(),
        }
    }

    /// The next event should be sent at `at`; its sequence number, or none where no more fit in.
    pub fn intend(&mut self, at: Mono) -> Option<u64> {
        if self.blocks.back().is_none_or(|block| block.intended.len() >= BLOCK) {
            if self.blocks.len() >= BLOCKS_LIMIT {
                return None;
            }
            self.blocks.push_back(Block {
                intended: Vec::with_capacity(BLOCK),
                receipts: vec![NONE; BLOCK],
                seen: vec![NONE; BLOCK.saturating_mul(self.stages.len())],
            });
        }
        self.blocks.back_mut()?.intended.push(at.0);
        let seq = self.next;
        self.next = self.next.saturating_add(1);
        Some(seq)
    }

    /// What came of handing an event over. The first receipt stands.
    pub fn receipt(&mut self, seq: u64, receipt: &Receipt) {
        let Some((at, unit)) = self.place(seq) else { return };
        let within = |stage: Stage| {
            self.stages.iter().find(|state| state.spec.stage == stage).map(|s| nanos(s.spec.within))
        };
        let limits = (within(Stage::Sent), within(Stage::Accepted));
        let Some(block) = self.blocks.get_mut(at) else { return };
        let intended = block.intended(unit);
        let Some(slot) = block.receipts.get_mut(unit) else { return };
        if *slot != NONE {
            return;
        }
        let timely = |code: u8, when: Mono, limit: Option<i64>| {
            let took = when.0.saturating_sub(intended);
            (code | if limit.is_some_and(|limit| took > limit) { LATE } else { 0 }, Some(took))
        };
        let (code, took) = match receipt {
            Receipt::NotSent(_) => (NOT_SENT, None),
            Receipt::Sent { at } => timely(SENT, *at, limits.0),
            Receipt::Accepted { at } => timely(ACCEPTED, *at, limits.1),
            Receipt::Refused(_) => (REFUSED, None),
            Receipt::Unknown(_) => (UNKNOWN, None),
            Receipt::Fault(_) => (FAULT, None),
        };
        *slot = code;
        let stage = if code & !LATE == SENT { Stage::Sent } else { Stage::Accepted };
        if let Some(took) = took
            && let Some(state) = self.stages.iter_mut().find(|state| state.spec.stage == stage)
        {
            state.latency.add(took);
        }
    }

    /// A copy was seen at a stage; `flaw` is what [`super::reconcile::inspect`] found.
    pub fn seen(
        &mut self,
        stage: Stage,
        seq: u64,
        at: Mono,
        scope: Option<u32>,
        flaw: Option<Fate>,
    ) {
        let Some(index) = self.stages.iter().position(|state| state.spec.stage == stage) else {
            return;
        };
        let place = self.place(seq);
        let Some(state) = self.stages.get_mut(index) else { return };
        let (Some((block, unit)), false) = (place, seq >= self.next) else {
            // Decided already, or never sent by us.
            if (self.first_seq..self.front).contains(&seq) {
                let code = u8::try_from(index).unwrap_or(u8::MAX);
                match self.absent.remove(&(code, seq)) {
                    Some(fate) => state.resurrect(fate, flaw),
                    None => state.tally.duplicate = state.tally.duplicate.saturating_add(1),
                }
            }
            return;
        };
        let Some(block) = self.blocks.get_mut(block) else { return };
        let took = at.0.saturating_sub(block.intended(unit));
        let Some(slot) = block.seen.get_mut(index.saturating_mul(BLOCK).saturating_add(unit))
        else {
            return;
        };
        if *slot != NONE {
            state.tally.duplicate = state.tally.duplicate.saturating_add(1);
            return;
        }
        let reordered = scope.is_some_and(|scope| state.overtaken(scope, seq));
        let late = took > nanos(state.spec.within);
        *slot = code(seen(flaw, late, reordered));
        state.latency.add(took);
    }

    /// A look that began then saw everything that had arrived at the stage.
    pub fn complete(&mut self, stage: Stage, began: Mono) {
        if let Some(state) = self.stages.iter_mut().find(|state| state.spec.stage == stage) {
            state.complete = state.complete.max(began.0);
        }
    }

    /// Decides what can be decided, and forgets it. `over` says that nothing more is told: what no
    /// complete look covers is inconclusive then.
    pub fn decide(&mut self, over: bool) {
        loop {
            let Some(block) = self.blocks.front() else { return };
            let last = block.intended.iter().copied().max().unwrap_or(i64::MIN);
            let full = block.intended.len() >= BLOCK;
            let answered = block.receipts.iter().take(block.intended.len()).all(|r| *r != NONE);
            let closed = self
                .stages
                .iter()
                .filter(|state| state.looks())
                .all(|state| state.complete >= last.saturating_add(nanos(state.spec.give_up)));
            if !(over || (full && answered && closed)) {
                return;
            }
            let Some(block) = self.blocks.pop_front() else { return };
            self.retire(&block);
            self.front = self.front.saturating_add(block.intended.len() as u64);
        }
    }

    fn retire(&mut self, block: &Block) {
        for unit in 0..block.intended.len() {
            let receipt = block.receipts.get(unit).copied().unwrap_or(NONE);
            let seq = self.front.saturating_add(unit as u64);
            let intended = block.intended(unit);
            let copy = |index: usize| block.seen.get(index * BLOCK + unit).copied().and_then(fate);
            let was_seen = (0..self.stages.len()).any(|index| copy(index).is_some());
            let handed = receipt & !LATE;
            let sent = matches!(handed, SENT | ACCEPTED) || (handed != NOT_SENT && was_seen);
            let mut carried = None;
            for (index, state) in self.stages.iter_mut().enumerate() {
                let own = match (state.looks(), copy(index)) {
                    _ if handed == REFUSED && state.spec.stage == Stage::Sent => Fate::Ok,
                    (_, copy) if matches!(handed, NOT_SENT | REFUSED) => {
                        worse(Some(Fate::Refused), copy).unwrap_or(Fate::Refused)
                    }
                    (true, Some(copy)) => copy,
                    _ if handed == FAULT => Fate::Inconclusive,
                    (true, None) => {
                        let deadline = intended.saturating_add(nanos(state.spec.give_up));
                        unseen(sent, state.complete >= deadline)
                    }
                    (false, _) => match (handed, state.spec.stage) {
                        (SENT, Stage::Sent) | (ACCEPTED, Stage::Accepted) => {
                            if receipt & LATE == 0 { Fate::Ok } else { Fate::Late }
                        }
                        (ACCEPTED, _) => Fate::Ok,
                        (UNKNOWN | NONE, _) if was_seen => Fate::Ok,
                        (UNKNOWN | NONE, _) => Fate::Unknown,
                        _ => Fate::Inconclusive,
                    },
                };
                let fate = worse(Some(own), carried).unwrap_or(own);
                carried = Some(fate).filter(|fate| fate.carries_on());
                state.tally.decide(fate);
                let absent = matches!(fate, Fate::Lost | Fate::Unknown | Fate::Inconclusive);
                if absent
                    && copy(index).is_none()
                    && state.looks()
                    && self.absent.len() < ABSENT_LIMIT
                {
                    self.absent.insert((u8::try_from(index).unwrap_or(u8::MAX), seq), fate);
                }
            }
        }
    }

    /// Events without a decided fate.
    pub fn in_flight(&self) -> u64 {
        self.next.saturating_sub(self.front)
    }

    /// Bytes that are kept for the events in flight.
    pub fn bytes(&self) -> usize {
        let block = |block: &Block| {
            block.intended.capacity() * size_of::<i64>()
                + block.receipts.capacity()
                + block.seen.capacity()
                + size_of::<Block>()
        };
        self.blocks.iter().map(block).sum()
    }

    /// What is decided so far. Latencies are in [`Self::latency`]: they are too many for a tally.
    pub fn tally(&self) -> Tally {
        Tally { rounds: 1, stages: self.stages.iter().map(|state| state.tally.clone()).collect() }
    }

    /// How many are decided as lost so far, at the stage that lost most.
    pub fn lost(&self) -> u64 {
        self.stages.iter().map(|state| state.tally.count(Fate::Lost)).max().unwrap_or(0)
    }

    /// From the intended send to the first copy, late ones included; None where nothing arrived.
    pub fn latency(&self, stage: Stage) -> Option<Percentiles> {
        self.latencies(stage)?.percentiles()
    }

    /// All of them.
    pub fn latencies(&self, stage: Stage) -> Option<&Histogram> {
        self.stages.iter().find(|state| state.spec.stage == stage).map(|state| &state.latency)
    }

    fn place(&self, seq: u64) -> Option<(usize, usize)> {
        let offset = usize::try_from(seq.checked_sub(self.front)?).ok()?;
        let (block, unit) = (offset / BLOCK, offset % BLOCK);
        (unit < self.blocks.get(block)?.intended.len()).then_some((block, unit))
    }
}

impl Block {
    fn intended(&self, unit: usize) -> i64 {
        self.intended.get(unit).copied().unwrap_or(0)
    }
}

impl State {
    /// At `sent` and `accepted` the receipts tell.
    fn looks(&self) -> bool {
        !matches!(self.spec.stage, Stage::Sent | Stage::Accepted)
    }

    /// RFC 4737: smaller than the next expected in its scope.
    fn overtaken(&mut self, scope: u32, seq: u64) -> bool {
        let Some(scope) = usize::try_from(scope).ok().filter(|scope| *scope < SCOPES_LIMIT) else {
            return false;
        };
        if self.expected.len() <= scope {
            self.expected.resize(scope + 1, 0);
        }
        let Some(next) = self.expected.get_mut(scope) else { return false };
        if seq < *next {
            return true;
        }
        *next = seq.saturating_add(1);
        false
    }

    /// What had been given up is there: the tally is mended.
    fn resurrect(&mut self, counted: Fate, flaw: Option<Fate>) {
        if let Some(count) = self.tally.fates.get_mut(&counted) {
            *count = count.saturating_sub(1);
        }
        self.tally.expected = self.tally.expected.saturating_sub(1);
        self.tally.decide(seen(flaw, true, false));
        self.tally.resurrected = self.tally.resurrected.saturating_add(1);
    }
}

/// A fate in a byte; [`NONE`] is none.
fn code(fate: Fate) -> u8 {
    let at = Fate::ALL.iter().position(|known| *known == fate);
    at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(NONE)
}

fn fate(code: u8) -> Option<Fate> {
    Fate::ALL.get(usize::from(code.checked_sub(1)?)).copied()
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
