//! A piece of a load that is looked for like a round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

use crate::agent::rounds::LOOK_TIMEOUT;
use crate::client::Clients;
use crate::confirm::{LookContext, Sought};
pub(super) use crate::journey::event::FIRST_SEQ;
use crate::journey::{Arrival, Event, Run};
use crate::outcome::{Fault, FaultCode};
use crate::plan::{Journey, StagePlan};
use crate::spec::trace::Trace;
use crate::time::{Mono, Now};

/// So many further copies are told apart; beyond, none is counted.
const COPIES_LIMIT: usize = 100_000;

/// Some events in a row with a run of their own.
pub(super) struct Segment {
    pub(super) id: u64,
    /// The step that it belongs to: none has events of two.
    pub(super) leg: usize,
    pub(super) run: Run,
    pub(super) began: Now,
    /// What its step's number of an event is above its own.
    pub(super) base: u64,
    /// Microseconds from `began` to each event's intended time.
    pub(super) offsets: Vec<u32>,
    /// Certainly taken.
    pub(super) taken: u64,
    /// Certainly not.
    pub(super) never: u64,
    pub(super) answered: u64,
    pub(super) sealed: bool,
    pub(super) watches: Vec<Watch>,
}

/// What is known of a segment at one stage.
pub(super) struct Watch {
    pub(super) mark: Value,
    /// Of each event the hash of the first copy's name; 0 where none was seen.
    pub(super) copies: Vec<u32>,
    pub(super) seen: u64,
    /// When the last copy was seen that was new.
    pub(super) newest: Mono,
    pub(super) closed: bool,
}

/// One stage is looked at one segment after the other, so that a platform has one question at once.
pub(super) struct Cycle<'a> {
    pub(super) plan: &'a StagePlan,
    pub(super) queue: VecDeque<u64>,
    pub(super) began: Mono,
    /// Events that were taken when it began.
    pub(super) taken: u64,
    pub(super) whole: bool,
    pub(super) busy: bool,
    pub(super) next: Mono,
    /// Further copies: (segment, event, hash of the copy's name).
    further: BTreeSet<(u64, u64, u32)>,
    pub(super) seen: u64,
    /// Numbers for the scopes of segments: looks tell of one segment after the other, so that the
    /// order within each is known and that between two is not.
    scopes: BTreeMap<(u64, String), u32>,
    /// Of segments that are gone. A later one's events have higher numbers, so that it may use them.
    free: Vec<u32>,
}

impl<'a> Cycle<'a> {
    pub(super) fn new(plan: &'a StagePlan, began: Mono) -> Self {
        Self {
            plan,
            queue: VecDeque::new(),
            began,
            taken: 0,
            whole: true,
            busy: false,
            next: began,
            further: BTreeSet::new(),
            seen: 0,
            scopes: BTreeMap::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn scope(&mut self, segment: u64, scope: &str) -> u32 {
        let key = (segment, scope.to_owned());
        if let Some(known) = self.scopes.get(&key) {
            return *known;
        }
        let new = u32::try_from(self.scopes.len() + self.free.len()).unwrap_or(u32::MAX);
        let number = self.free.pop().unwrap_or(new);
        self.scopes.insert(key, number);
        number
    }

    /// A segment is gone.
    pub(super) fn forget(&mut self, segment: u64) {
        self.further.retain(|(id, ..)| *id != segment);
        let free = &mut self.free;
        self.scopes.retain(|(id, _), number| {
            if *id == segment {
                free.push(*number);
            }
            *id != segment
        });
    }
}

impl Segment {
    pub(super) fn new(
        id: u64,
        leg: usize,
        run: Run,
        began: Now,
        base: u64,
        watches: Vec<Watch>,
    ) -> Self {
        Self {
            id,
            leg,
            run,
            began,
            base,
            offsets: Vec::new(),
            taken: 0,
            never: 0,
            answered: 0,
            sealed: false,
            watches,
        }
    }

    pub(super) fn offset(&self, seq: u64) -> Option<Duration> {
        let place = usize::try_from(seq.checked_sub(FIRST_SEQ)?).ok()?;
        self.offsets.get(place).map(|micros| Duration::from_micros(u64::from(*micros)))
    }

    pub(super) fn last_due(&self) -> Mono {
        let offset = self.offsets.last().copied().unwrap_or(0);
        self.began.mono.plus(Duration::from_micros(u64::from(offset)))
    }

    /// The same bytes whenever it is asked for.
    pub(super) fn event(&self, journey: &Journey, seq: u64) -> Event {
        let intended = self.began.wall.plus(self.offset(seq).unwrap_or_default());
        journey.events.render(&self.run, &journey.id, seq, intended)
    }

    /// The event that arrived, and whether for the first time; None where this copy is known.
    pub(super) fn copy(
        &mut self,
        index: usize,
        arrival: &Arrival,
        cycle: &mut Cycle<'_>,
    ) -> Option<(u64, bool)> {
        let seq = arrival.seq?;
        self.offset(seq)?;
        let place = usize::try_from(seq.checked_sub(FIRST_SEQ)?).ok()?;
        let watch = self.watches.get_mut(index)?;
        if watch.copies.len() <= place {
            watch.copies.resize(place + 1, 0);
        }
        let known = watch.copies.get_mut(place)?;
        let hash = crc32fast::hash(arrival.copy.as_bytes()).max(1);
        if *known == 0 {
            *known = hash;
            watch.seen += 1;
            watch.newest = watch.newest.max(arrival.seen);
            cycle.seen += 1;
            return Some((seq, true));
        }
        let room = cycle.further.len() < COPIES_LIMIT;
        let further = *known != hash && room && cycle.further.insert((self.id, seq, hash));
        if further {
            watch.newest = watch.newest.max(arrival.seen);
        }
        further.then_some((seq, false))
    }
}

impl Watch {
    pub(super) fn new(mark: Value) -> Self {
        Self { mark, copies: Vec::new(), seen: 0, newest: Mono(0), closed: false }
    }
}

pub(super) fn sought(journey: &Journey, plan: &StagePlan, run: &Run, began: Now) -> Sought {
    Sought {
        journey: journey.id.clone(),
        run: run.clone(),
        stage: plan.stage,
        first_seq: FIRST_SEQ,
        count: 0,
        sent: 0,
        equals: None,
        named: false,
        aged: journey.events.told_around(),
        began,
    }
}

/// Where the stage stands before anything is sent. What can't be looked at is no place to send to.
pub(super) async fn begin_mark(
    journey: &Journey,
    plan: &StagePlan,
    run: &Run,
    began: Now,
    clients: &Clients,
    trace: &Trace,
) -> Result<Value, Fault> {
    let Some(confirmer) = plan.confirmer.clone() else { return Ok(Value::Null) };
    let sought = sought(journey, plan, run, began);
    let on = LookContext { sought: &sought, timeout: LOOK_TIMEOUT, clients, trace, now: began };
    match tokio::time::timeout(LOOK_TIMEOUT, confirmer.begin(on)).await {
        Ok(begun) => begun,
        Err(_) => Err(Fault::new(
            FaultCode::Blind,
            format!("{} gave no answer before the load began", plan.stage.word()),
        )),
    }
}
