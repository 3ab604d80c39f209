//! One load: events of a journey at a rate, sent when they are due whatever the platform does, and
//! followed through its stages.
//!
//! What the stages look for are rounds: a load is cut into segments, each with a run of its own and
//! no more events than a round has, for confirmers read no more in a look.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::clock;
use super::rounds::{LOOK_TIMEOUT, new_run};
use crate::client::Clients;
use crate::confirm::LookContext;
use crate::journey::load::{Backlog, Constant, Ended, Evidence, Refusals, Verdict, judge};
use crate::journey::reconcile::inspect;
use crate::journey::tally::{Percentiles, Tally};
use crate::journey::volume::{Counted, Volume};
use crate::journey::{Horizon, Look, Receipt, Stage};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::plan::Journey;
use crate::send::SendContext;
use crate::spec::trace::Trace;
use crate::time::{Mono, Now};

mod segment;

use segment::{Cycle, FIRST_SEQ, Segment, Watch, begin_mark, sought};

/// Events of one run: half of what a look reads, so that each may be there twice.
const SEGMENT: usize = 10_000;
/// A slow load begins a new segment after that, so that looks need not reach far back.
const SEGMENT_SPAN: Duration = Duration::from_secs(600);
/// Batches that are under way at once, and what one holds.
const BATCHES: usize = 32;
const BATCH: u64 = 100;
const BATCH_BYTES: usize = 1024 * 1024;
/// Events wait so long for others that go with them.
const LINGER: Duration = Duration::from_millis(20);
/// Later than this the loop was not on time; below, it is the timer's grain.
const STALL: Duration = Duration::from_millis(50);
/// Moments are so far apart.
const MOMENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// So many reasons are told.
const REASONS: usize = 5;

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub rate: f64,
    pub span: Duration,
    /// Payload bytes.
    pub budget: u64,
}

/// Where a load stands.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub due: u64,
    pub handed_over: u64,
    pub bytes: u64,
    pub accepted: u64,
    pub sent: u64,
    pub refused: u64,
    pub not_sent: u64,
    pub unknown: u64,
    pub fault: u64,
}

impl Counts {
    fn answered(&self) -> u64 {
        self.taken() + self.untaken() + self.fault
    }

    pub fn taken(&self) -> u64 {
        self.accepted + self.sent
    }

    fn untaken(&self) -> u64 {
        self.refused + self.not_sent + self.unknown
    }

    /// Handed over, and no receipt yet.
    pub fn in_flight(&self) -> u64 {
        self.handed_over.saturating_sub(self.answered())
    }
}

#[derive(Debug)]
pub struct Moment<'a> {
    pub counts: &'a Counts,
    pub elapsed: Duration,
    /// The sending is over; what is left is to look.
    pub looking: bool,
    /// Of the receipts, from the intended send.
    pub p99: Option<f64>,
    pub slope: Option<f64>,
    /// By stage: seen of what should be there.
    pub seen: Option<(Stage, u64)>,
}

#[derive(Debug)]
pub struct Report {
    pub began: Now,
    pub sending: Duration,
    pub ended: Ended,
    pub counts: Counts,
    pub tally: Tally,
    pub latencies: Vec<(Stage, Option<Percentiles>)>,
    pub slope: Option<f64>,
    /// Accepted or sent a second, until the last receipt.
    pub achieved: f64,
    pub verdict: Verdict,
    pub why: Vec<String>,
    pub reasons: Vec<String>,
}

struct Answer {
    segment: u64,
    first: u64,
    count: u64,
    receipts: Vec<Receipt>,
}

struct Seen {
    cycle: usize,
    segment: u64,
    look: Look,
    mark: Option<Value>,
}

struct Load<'a> {
    journey: &'a Journey,
    clients: &'a Clients,
    trace: &'a Trace,
    order: Order,
    arrivals: Constant,
    began: Now,
    volume: Volume,
    segments: VecDeque<Segment>,
    opened: u64,
    cycles: Vec<Cycle<'a>>,
    counts: Counts,
    told: (u64, u64),
    refusals: Refusals,
    backlog: Backlog,
    stalled: Duration,
    last_batch: Mono,
    last_due: Mono,
    last_receipt: Mono,
    ended: Option<(Ended, Mono)>,
    reasons: Vec<String>,
}

type Sends<'a> = FuturesUnordered<BoxFuture<'a, Answer>>;
type Looks<'a> = FuturesUnordered<BoxFuture<'a, Seen>>;

/// Sends until the time is over or `stop`, and looks until every fate is decided or `cancel`.
pub async fn send(
    journey: &Journey,
    order: Order,
    stop: &CancellationToken,
    cancel: &CancellationToken,
    mut tell: impl FnMut(&Moment<'_>),
) -> Result<Report, Fault> {
    let (clients, trace) = (Clients::default(), Trace::off());
    let mut load = Load::begin(journey, order, &clients, &trace).await?;
    let (mut sends, mut looks) = (Sends::new(), Looks::new());
    let moment = (order.span / 60).clamp(MOMENT.0, MOMENT.1);
    let mut next_moment = load.began.mono;
    let mut wake = load.began.mono;
    loop {
        let now = Mono::now();
        if now > wake.plus(STALL) && load.ended.is_none() {
            load.stalled += now.since(wake);
        }
        load.dispatch(now, &mut sends)?;
        load.look(now, &mut looks);
        if now >= next_moment {
            next_moment = now.plus(moment);
            load.moment(now);
            tell(&load.shown(now));
        }
        if load.is_over(now, &sends) {
            break;
        }
        wake = load.wake(now).min(next_moment);
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            () = stop.cancelled(), if load.ended.is_none() => load.end(Ended::Interrupted),
            Some(answer) = sends.next(), if !sends.is_empty() => load.answered(answer),
            Some(seen) = looks.next(), if !looks.is_empty() => load.seen(seen),
            () = clock::sleep_until(wake) => {}
        }
    }
    load.end(Ended::Interrupted);
    Ok(load.report())
}

impl<'a> Load<'a> {
    async fn begin(
        journey: &'a Journey,
        order: Order,
        clients: &'a Clients,
        trace: &'a Trace,
    ) -> Result<Self, Fault> {
        let followed = || journey.stages.iter().filter(|plan| !plan.stage.counts_things());
        let counted: Vec<Counted> = followed()
            .map(|plan| Counted { stage: plan.stage, within: plan.within, give_up: plan.give_up })
            .collect();
        let began = clock::now();
        let cycles: Vec<Cycle<'a>> = followed()
            .filter(|plan| plan.confirmer.is_some())
            .map(|plan| Cycle {
                plan,
                queue: VecDeque::new(),
                began: began.mono,
                whole: true,
                busy: false,
                next: began.mono,
                further: BTreeSet::new(),
                seen: 0,
            })
            .collect();
        let run = new_run()?;
        let mut watches = Vec::with_capacity(cycles.len());
        for cycle in &cycles {
            watches.push(Watch::new(
                begin_mark(journey, cycle.plan, &run, began, clients, trace).await?,
            ));
        }
        let began = clock::now();
        Ok(Self {
            journey,
            clients,
            trace,
            order,
            arrivals: Constant { rate: order.rate, span: order.span },
            began,
            volume: Volume::new(&counted, FIRST_SEQ),
            segments: VecDeque::from([Segment::new(0, run, began, 0, watches)]),
            opened: 1,
            cycles,
            counts: Counts::default(),
            told: (0, 0),
            refusals: Refusals::default(),
            backlog: Backlog::default(),
            stalled: Duration::ZERO,
            last_batch: began.mono.minus(LINGER),
            last_due: began.mono,
            last_receipt: began.mono,
            ended: None,
            reasons: Vec::new(),
        })
    }

    fn end(&mut self, ended: Ended) {
        if self.ended.is_none() {
            self.ended = Some((ended, Mono::now()));
            if let Some(segment) = self.segments.back_mut() {
                segment.sealed = true;
            }
        }
    }

    /// Hands over what is due, as far as there is room for batches.
    fn dispatch(&mut self, now: Mono, sends: &mut Sends<'a>) -> Result<(), Fault> {
        while self.ended.is_none() {
            let elapsed = now.since(self.began.mono);
            self.counts.due = self.arrivals.due_by(elapsed);
            let handed = self.counts.handed_over;
            if handed >= self.arrivals.total() {
                self.end(Ended::Whole);
                break;
            }
            if elapsed > self.order.span + self.journey.timeout {
                self.end(Ended::Behind);
                break;
            }
            let ready = self.counts.due.saturating_sub(handed);
            let lingers = ready < BATCH
                && now < self.last_batch.plus(LINGER)
                && self.counts.due < self.arrivals.total();
            if ready == 0 || lingers || sends.len() >= BATCHES {
                break;
            }
            self.batch(ready.min(BATCH), sends)?;
            self.last_batch = now;
        }
        Ok(())
    }

    fn batch(&mut self, count: u64, sends: &mut Sends<'a>) -> Result<(), Fault> {
        self.segment_for(self.due_at(self.counts.handed_over))?;
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let first = segment.offsets.len() as u64 + FIRST_SEQ;
        let room = (SEGMENT - segment.offsets.len().min(SEGMENT)) as u64;
        let mut events = Vec::new();
        let (mut bytes, mut over) = (0, None);
        for seq in (first..).take(usize::try_from(count.min(room)).unwrap_or(0)) {
            let due = self.began.mono.plus(self.arrivals.due(self.counts.handed_over));
            let offset = due.since(segment.began.mono).as_micros();
            segment.offsets.push(u32::try_from(offset).unwrap_or(u32::MAX));
            let event = segment.event(self.journey, seq);
            let size = event.payload.len();
            if self.counts.bytes + size as u64 > self.order.budget {
                segment.offsets.pop();
                over = Some(Ended::Budget);
                break;
            }
            if self.volume.intend(due).is_none() {
                segment.offsets.pop();
                over = Some(Ended::Aborted("more events are under way than can be counted".into()));
                break;
            }
            self.counts.handed_over += 1;
            self.counts.bytes += size as u64;
            self.last_due = due;
            bytes += size;
            events.push(event);
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        let id = segment.id;
        if let Some(ended) = over {
            self.end(ended);
        }
        if events.is_empty() {
            return Ok(());
        }
        let (sender, timeout) = (self.journey.sender.clone(), self.journey.timeout);
        let (clients, trace) = (self.clients, self.trace);
        sends.push(Box::pin(async move {
            let on = SendContext { timeout, clients, trace };
            let limit = timeout + Duration::from_millis(500);
            let receipts = tokio::time::timeout(limit, sender.send(&events, on)).await;
            Answer {
                segment: id,
                first,
                count: events.len() as u64,
                receipts: receipts.unwrap_or_default(),
            }
        }));
        Ok(())
    }

    fn due_at(&self, n: u64) -> Mono {
        self.began.mono.plus(self.arrivals.due(n))
    }

    /// Opens the next segment where the last one is full or too old for an event that is due then.
    fn segment_for(&mut self, due: Mono) -> Result<(), Fault> {
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        let old = due.since(last.began.mono) > SEGMENT_SPAN;
        if last.offsets.len() < SEGMENT && (!old || last.offsets.is_empty()) {
            return Ok(());
        }
        last.sealed = true;
        // What is sent from here on stands behind what was read so far.
        let watches = last.watches.iter().map(|watch| Watch::new(watch.mark.clone())).collect();
        let began = Now { mono: due, wall: self.began.wall_of(due) };
        let base = last.base + last.offsets.len() as u64;
        let segment = Segment::new(self.opened, new_run()?, began, base, watches);
        self.opened += 1;
        self.segments.push_back(segment);
        Ok(())
    }

    fn answered(&mut self, answer: Answer) {
        self.last_receipt = Mono::now();
        let mut receipts = answer.receipts.into_iter();
        for seq in answer.first..answer.first.saturating_add(answer.count) {
            let receipt = receipts.next().unwrap_or_else(|| {
                Receipt::Unknown(Reason::new(
                    ReasonCode::Timeout,
                    "the send was cut off before it had an answer",
                ))
            });
            let (mut taken, mut never) = (0, 0);
            let why = match &receipt {
                Receipt::Accepted { .. } => {
                    self.counts.accepted += 1;
                    taken = 1;
                    None
                }
                Receipt::Sent { .. } => {
                    self.counts.sent += 1;
                    taken = 1;
                    None
                }
                Receipt::Refused(reason) => {
                    self.counts.refused += 1;
                    never = 1;
                    Some(reason.to_string())
                }
                Receipt::NotSent(reason) => {
                    self.counts.not_sent += 1;
                    never = 1;
                    Some(reason.to_string())
                }
                Receipt::Unknown(reason) => {
                    self.counts.unknown += 1;
                    Some(reason.to_string())
                }
                Receipt::Fault(fault) => {
                    self.counts.fault += 1;
                    never = 1;
                    Some(fault.to_string())
                }
            };
            if let Some(why) = why {
                self.because(why);
            }
            if let Some(segment) = self.segments.iter_mut().find(|s| s.id == answer.segment) {
                segment.taken += taken;
                segment.never += never;
                segment.answered += 1;
                self.volume.receipt(segment.base + seq, &receipt);
            }
        }
    }

    fn because(&mut self, why: String) {
        if self.reasons.len() < REASONS && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }

    /// Begins the looks that are due: one a stage.
    fn look(&mut self, now: Mono, looks: &mut Looks<'a>) {
        for (index, cycle) in self.cycles.iter_mut().enumerate() {
            if cycle.busy || (cycle.queue.is_empty() && now < cycle.next) {
                continue;
            }
            if cycle.queue.is_empty() {
                let open = |segment: &&Segment| {
                    segment.watches.get(index).is_some_and(|watch| !watch.closed)
                };
                cycle.queue = self.segments.iter().filter(open).map(|s| s.id).collect();
                cycle.began = now;
                cycle.whole = true;
                cycle.next = now.plus(cycle.plan.poll);
            }
            let Some(id) = cycle.queue.pop_front() else { continue };
            let Some(segment) = self.segments.iter().find(|segment| segment.id == id) else {
                continue;
            };
            let (Some(watch), Some(confirmer)) =
                (segment.watches.get(index), cycle.plan.confirmer.clone())
            else {
                continue;
            };
            let mut sought = sought(self.journey, cycle.plan, &segment.run, segment.began);
            sought.count = segment.offsets.len() as u64;
            sought.sent = segment.taken;
            let mut mark = watch.mark.clone();
            let (clients, trace) = (self.clients, self.trace);
            cycle.busy = true;
            looks.push(Box::pin(async move {
                let now = clock::now();
                let on =
                    LookContext { sought: &sought, timeout: LOOK_TIMEOUT, clients, trace, now };
                let look = tokio::time::timeout(LOOK_TIMEOUT, confirmer.look(&mut mark, on)).await;
                match look {
                    Ok(look) => Seen { cycle: index, segment: id, look, mark: Some(mark) },
                    // The mark may be half changed: the next look starts from the old one.
                    Err(_) => Seen {
                        cycle: index,
                        segment: id,
                        look: Look::blind(Fault::new(FaultCode::Blind, "the look took too long")),
                        mark: None,
                    },
                }
            }));
        }
    }

    fn seen(&mut self, seen: Seen) {
        let whole = match &seen.look.horizon {
            Horizon::Complete => true,
            Horizon::Partial(fault) | Horizon::Blind(fault) => {
                let why = fault.to_string();
                self.because(why);
                false
            }
        };
        let Some(cycle) = self.cycles.get_mut(seen.cycle) else { return };
        cycle.busy = false;
        cycle.whole &= whole;
        let stage = cycle.plan.stage;
        let mut flaws = Vec::new();
        if let Some(segment) = self.segments.iter_mut().find(|s| s.id == seen.segment) {
            if let (Some(mark), Some(watch)) = (seen.mark, segment.watches.get_mut(seen.cycle)) {
                watch.mark = mark;
            }
            for arrival in seen.look.arrivals {
                let Some((seq, first)) = segment.copy(seen.cycle, &arrival, cycle) else {
                    continue;
                };
                let flaw = first.then(|| {
                    let event = segment.event(self.journey, seq);
                    inspect(&arrival, &event, &cycle.plan.expect)
                });
                let flaw = flaw.flatten();
                self.volume.seen(
                    stage,
                    segment.base + seq,
                    arrival.seen,
                    None,
                    flaw.as_ref().map(|flaw| flaw.fate),
                );
                flaws.extend(flaw.map(|flaw| flaw.text));
            }
        }
        if cycle.queue.is_empty() {
            let began = cycle.whole.then_some(cycle.began);
            if let Some(began) = began {
                self.volume.complete(stage, began);
            }
            self.close(seen.cycle, began);
        }
        for text in flaws {
            self.because(text);
        }
    }

    /// Segments need no look where all that was sent is there, or a complete look came after its
    /// last event was given up.
    fn close(&mut self, index: usize, complete: Option<Mono>) {
        let Some(cycle) = self.cycles.get(index) else { return };
        let give_up = cycle.plan.give_up;
        for segment in &mut self.segments {
            let count = segment.offsets.len() as u64;
            let answered = segment.sealed && segment.answered == count;
            let expected = count.saturating_sub(segment.never);
            let last = segment.last_due();
            let Some(watch) = segment.watches.get_mut(index) else { continue };
            let given_up = complete.is_some_and(|began| began >= last.plus(give_up));
            watch.closed |= answered && (watch.seen >= expected || given_up);
        }
        // The last one is kept: the next takes its marks from it.
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|s| s.watches.iter().all(|watch| watch.closed))
        {
            let gone = self.segments.pop_front();
            for cycle in &mut self.cycles {
                cycle.further.retain(|(id, ..)| gone.as_ref().is_none_or(|gone| gone.id != *id));
            }
        }
    }

    /// Samples the backlog, and ends what would harm.
    fn moment(&mut self, now: Mono) {
        self.volume.decide(false);
        if self.ended.is_some() {
            return;
        }
        self.backlog.add(now, self.counts.due.saturating_sub(self.counts.answered()));
        let (answered, untaken) = (self.counts.answered(), self.counts.untaken());
        let (told, told_untaken) = std::mem::replace(&mut self.told, (answered, untaken));
        if let Some(why) = self.refusals.tell(answered - told, untaken - told_untaken) {
            return self.end(Ended::Aborted(why));
        }
        let oldest = self.due_at(self.counts.handed_over);
        if now.since(oldest) > self.journey.give_up() {
            let why = "events wait for their turn for longer than they are waited for";
            return self.end(Ended::Aborted(why.to_owned()));
        }
        if !self.journey.allowed_times.allow(clock::now().wall) {
            self.end(Ended::Aborted("its allowed times are over".to_owned()));
        }
    }

    fn shown(&self, now: Mono) -> Moment<'_> {
        Moment {
            counts: &self.counts,
            elapsed: now.since(self.began.mono),
            looking: self.ended.is_some(),
            p99: [Stage::Accepted, Stage::Sent]
                .into_iter()
                .find_map(|stage| self.volume.latency(stage))
                .map(|latency| latency.p99),
            slope: self.backlog.slope(),
            seen: self.cycles.last().map(|cycle| (cycle.plan.stage, cycle.seen)),
        }
    }

    fn wake(&self, now: Mono) -> Mono {
        let looks = self.cycles.iter().filter(|cycle| !cycle.busy).map(|cycle| cycle.next);
        let soonest = looks.min().unwrap_or_else(|| now.plus(MOMENT.1));
        if self.ended.is_some() {
            return soonest;
        }
        let due = self.due_at(self.counts.handed_over).max(self.last_batch.plus(LINGER));
        // Where there is no room for a further batch, a receipt wakes sooner.
        soonest.min(if due <= now { now.plus(LINGER) } else { due })
    }

    /// Whether nothing more is to be learnt.
    fn is_over(&self, now: Mono, sends: &Sends<'a>) -> bool {
        if self.ended.is_none() || !sends.is_empty() {
            return false;
        }
        let closed = |s: &Segment| s.watches.iter().all(|watch| watch.closed);
        if self.segments.iter().all(closed) {
            return true;
        }
        // Nobody can look for so long: what is not known then stays so.
        let slowest = self.cycles.iter().map(|c| c.plan.give_up + c.plan.poll * 2).max();
        now > self.last_due.plus(slowest.unwrap_or_default() + LOOK_TIMEOUT * 2)
    }

    fn report(mut self) -> Report {
        self.volume.decide(true);
        let tally = self.volume.tally();
        let (ended, at) = self.ended.take().unwrap_or((Ended::Interrupted, Mono::now()));
        let sending = at.since(self.began.mono);
        let slope = self.backlog.slope();
        let waiting = self.counts.due.saturating_sub(self.counts.handed_over);
        let (verdict, why) = judge(&Evidence {
            ended: &ended,
            rate: self.order.rate,
            span: sending,
            waiting,
            slope,
            stalled: self.stalled,
            stages: &tally.stages,
        });
        let latency = |stage: Stage| (stage, self.volume.latency(stage));
        // A single event has no rate; what was taken is spread over the time it was due in.
        let took = self.last_receipt.since(self.began.mono).max(self.order.span.min(sending));
        Report {
            began: self.began,
            sending,
            latencies: tally.stages.iter().map(|tally| latency(tally.stage)).collect(),
            achieved: self.counts.taken() as f64 / took.as_secs_f64().max(1e-3),
            ended,
            counts: self.counts,
            tally,
            slope,
            verdict,
            why,
            reasons: self.reasons,
        }
    }
}
