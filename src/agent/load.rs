//! One load: events of a journey at the rates of its steps, sent when they are due whatever the
//! platform does, and followed through its stages.
//!
//! What the stages look for are rounds: a load is cut into segments, each with a run of its own and
//! no more events than a round has, for confirmers read no more in a look.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::clock;
use super::rounds::{LOOK_TIMEOUT, clear_away, new_run, prepare};
use crate::client::Clients;
use crate::journey::event::run_from;
use crate::journey::load::{Arrivals, Cursor, Ended, Order, Refusals, Slope, Sparing, Step};
use crate::journey::volume::{Counted, Histogram};
use crate::journey::{Stage, tally::Percentiles};
use crate::node::Paths;
use crate::outcome::Fault;
use crate::plan::Journey;
use crate::send::Lots;
use crate::spec::trace::Trace;
use crate::time::{Mono, Now, Wall};

mod guard;
mod leg;
mod looking;
mod report;
mod segment;
mod sending;

use guard::Guard;
pub use leg::Counts;
use leg::Leg;
use looking::Seen;
pub use report::{Latency, Report, StepReport};
use segment::{Cycle, Segment, Watch, begin_mark};
use sending::Answer;

/// Later than this the loop was not on time; below, it is the timer's grain.
const STALL: Duration = Duration::from_millis(50);
/// A step has so many moments, within these bounds: enough for a slope.
const MOMENTS: u32 = 60;
const MOMENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// So many reasons are told.
const REASONS: usize = 5;
/// Events that are rendered to know how large they are.
const SAMPLED: u64 = 64;

#[derive(Debug)]
pub struct Moment<'a> {
    pub step: Step,
    pub counts: &'a Counts,
    pub elapsed: Duration,
    /// The sending is over; what is left is to look.
    pub looking: bool,
    /// Of the receipts, from the intended send.
    pub p99: Option<f64>,
    /// Of what waits for its receipt.
    pub slope: Option<Slope>,
    /// At the last stage that is looked at.
    pub seen: Option<(Stage, u64)>,
    /// Given up so far.
    pub lost: u64,
}

struct Load<'a> {
    journey: &'a Journey,
    clients: &'a Clients,
    trace: &'a Trace,
    order: Order,
    arrivals: Arrivals,
    /// What is due by now.
    due: Cursor,
    /// What is handed over next.
    next: Cursor,
    lots: Lots,
    began: Now,
    counted: Vec<Counted>,
    legs: Vec<Leg>,
    segments: VecDeque<Segment>,
    opened: u64,
    cycles: Vec<Cycle<'a>>,
    told: (u64, u64),
    refusals: Refusals,
    sparing: Sparing,
    guard: Guard,
    starved: u64,
    /// The largest payload so far: so much of the budget is kept for each event under way.
    largest: usize,
    under_way: u64,
    last_batch: Mono,
    last_due: Mono,
    ended: Option<(Ended, Mono)>,
    reasons: Vec<String>,
}

type Sends<'a> = FuturesUnordered<BoxFuture<'a, Answer>>;
type Looks<'a> = FuturesUnordered<BoxFuture<'a, Seen>>;

/// The mean size of a journey's payloads and the largest, of some that are rendered for it.
pub fn sizes(journey: &Journey) -> (f64, usize) {
    let run = run_from([0xff; 8]);
    let size = |seq| journey.events.render(&run, &journey.id, seq, Wall::default()).payload.len();
    let sizes: Vec<usize> = (1..=SAMPLED).map(size).collect();
    let mean = sizes.iter().sum::<usize>() as f64 / SAMPLED as f64;
    (mean, sizes.into_iter().max().unwrap_or_default())
}

/// Sends until the time is over or `stop`, and looks until every fate is decided or `cancel`.
pub async fn send(
    journey: &Journey,
    order: Order,
    node: &Paths,
    stop: &CancellationToken,
    cancel: &CancellationToken,
    mut tell: impl FnMut(&Moment<'_>),
) -> Result<Report, Fault> {
    let (clients, trace) = (Clients::default(), Trace::off());
    prepare(journey, &clients, &trace).await?;
    let guard = Guard::start(node)?;
    let mut load = Load::begin(journey, order, guard, &clients, &trace).await?;
    let (mut sends, mut looks) = (Sends::new(), Looks::new());
    let shortest = load.arrivals.steps().iter().map(|step| step.span).min();
    let moment = (shortest.unwrap_or_default() / MOMENTS).clamp(MOMENT.0, MOMENT.1);
    let mut next_moment = load.began.mono;
    let mut wake = load.began.mono;
    loop {
        let now = Mono::now();
        if now > wake.plus(STALL) && load.ended.is_none() {
            let late = now.since(wake);
            load.leg_at(now).stalled += late;
        }
        load.dispatch(now, &mut sends)?;
        load.look(now, &mut looks);
        if now >= next_moment {
            next_moment = now.plus(moment);
            load.moment(now);
            load.show(now, &mut tell);
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
    let report = load.report();
    drop((sends, looks));
    clear_away(journey, &clients).await;
    Ok(report)
}

impl<'a> Load<'a> {
    async fn begin(
        journey: &'a Journey,
        order: Order,
        guard: Guard,
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
            .map(|plan| Cycle::new(plan, began.mono))
            .collect();
        let run = new_run()?;
        let mut watches = Vec::with_capacity(cycles.len());
        for cycle in &cycles {
            watches.push(Watch::new(
                begin_mark(journey, cycle.plan, &run, began, clients, trace).await?,
            ));
        }
        let began = clock::now();
        let arrivals = Arrivals::new(order.steps(), order.spacing, order.seed);
        let lots = journey.sender.lots();
        Ok(Self {
            journey,
            clients,
            trace,
            order,
            due: arrivals.cursor(),
            next: arrivals.cursor(),
            lots,
            began,
            legs: Leg::all(arrivals.steps(), &counted, began.mono),
            counted,
            segments: VecDeque::from([Segment::new(0, 0, run, began, 0, watches)]),
            opened: 1,
            cycles,
            told: (0, 0),
            refusals: Refusals::default(),
            sparing: Sparing::default(),
            guard,
            starved: 0,
            largest: sizes(journey).1,
            under_way: 0,
            last_batch: began.mono.minus(lots.linger),
            last_due: began.mono,
            ended: None,
            reasons: Vec::new(),
            arrivals,
        })
    }

    fn end(&mut self, ended: Ended) {
        if self.ended.is_some() {
            return;
        }
        let now = Mono::now();
        self.ended = Some((ended, now));
        if let Some(segment) = self.segments.back_mut() {
            segment.sealed = true;
        }
        // Nothing more will come: the last looks need not wait for their turn.
        for cycle in &mut self.cycles {
            cycle.next = now;
        }
    }

    /// The step that is on at an instant; the last one where all are over.
    fn step_at(&self, at: Mono) -> usize {
        let elapsed = at.since(self.began.mono);
        let on = self.legs.iter().position(|leg| elapsed < leg.to);
        on.unwrap_or(self.legs.len().saturating_sub(1))
    }

    #[allow(clippy::indexing_slicing, reason = "an order has one step at least")]
    fn leg_at(&mut self, at: Mono) -> &mut Leg {
        let step = self.step_at(at);
        &mut self.legs[step]
    }

    fn counts(&self) -> Counts {
        self.legs.iter().map(|leg| &leg.counts).sum()
    }

    fn because(&mut self, why: String) {
        if self.reasons.len() < REASONS && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }

    /// Samples the backlog, and ends what would harm.
    fn moment(&mut self, now: Mono) {
        for leg in &mut self.legs {
            leg.volume.decide(false);
        }
        if self.ended.is_some() {
            return;
        }
        let counts = self.counts();
        let starved = self.guard.starved();
        let more = starved.saturating_sub(std::mem::replace(&mut self.starved, starved));
        let leg = self.leg_at(now);
        leg.way_in.add(now, counts.waiting());
        leg.starved += more;
        // What was throttled is spared by pauses; the share is of what was refused otherwise.
        let untaken = counts.untaken() - counts.throttled;
        let answered = counts.answered() - counts.throttled;
        let (told, told_untaken) = std::mem::replace(&mut self.told, (answered, untaken));
        if let Some(why) = self.refusals.tell(answered - told, untaken - told_untaken) {
            return self.end(Ended::Aborted(why));
        }
        if let Some(why) = self.guard.tell() {
            return self.end(Ended::Limited(why));
        }
        let oldest = self.next.peek().map_or(now, |due| self.began.mono.plus(due.at));
        if now.since(oldest) > self.journey.timeout + self.journey.give_up() {
            let why = "events wait for their turn for longer than they are waited for";
            return self.end(Ended::Aborted(why.to_owned()));
        }
        if !self.journey.allowed_times.allow(clock::now().wall) {
            return self.end(Ended::Aborted("its allowed times are over".to_owned()));
        }
        self.look_back(now);
    }

    fn show(&self, now: Mono, tell: &mut impl FnMut(&Moment<'_>)) {
        let Some(leg) = self.legs.get(self.step_at(now)) else { return };
        let counts = self.counts();
        let receipts = |stage| leg.volume.latency(stage);
        let lost = self.legs.iter().map(|leg| leg.volume.lost()).sum();
        tell(&Moment {
            step: leg.step,
            counts: &counts,
            elapsed: now.since(self.began.mono),
            looking: self.ended.is_some(),
            p99: [Stage::Accepted, Stage::Sent].into_iter().find_map(receipts).map(|l| l.p99),
            slope: leg.way_in.slope(),
            seen: self.cycles.last().map(|cycle| (cycle.plan.stage, cycle.seen)),
            lost,
        });
    }

    fn wake(&self, now: Mono) -> Mono {
        let looks = self.cycles.iter().filter(|cycle| !cycle.busy).map(|cycle| cycle.next);
        let soonest = looks.min().unwrap_or_else(|| now.plus(MOMENT.1));
        let Some(next) = self.next.peek().filter(|_| self.ended.is_none()) else { return soonest };
        let due = self.began.mono.plus(next.at).max(self.last_batch.plus(self.lots.linger));
        // Where there is no room for a further lot, a receipt wakes sooner.
        soonest.min(if due <= now { now.plus(self.lots.linger) } else { due })
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
}
