//! The stages are looked at, one segment after the other, and what was seen is counted.

use serde_json::Value;

use super::segment::{Segment, sought};
use super::{Load, Looks};
use crate::agent::clock;
use crate::agent::rounds::LOOK_TIMEOUT;
use crate::confirm::LookContext;
use crate::journey::load::{Ended, Shape};
use crate::journey::reconcile::inspect;
use crate::journey::{Arrival, Horizon, Look, Stage};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// What one look yielded.
pub(super) struct Seen {
    cycle: usize,
    segment: u64,
    look: Look,
    mark: Option<Value>,
}

impl<'a> Load<'a> {
    /// Begins the looks that are due: one a stage.
    pub(super) fn look(&mut self, now: Mono, looks: &mut Looks<'a>) {
        let taken = self.counts().taken();
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
                cycle.taken = taken;
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

    pub(super) fn seen(&mut self, seen: Seen) {
        let Seen { cycle: index, segment, look, mark } = seen;
        let whole = match &look.horizon {
            Horizon::Complete => true,
            Horizon::Partial(fault) | Horizon::Blind(fault) => {
                let why = fault.to_string();
                self.because(why);
                false
            }
        };
        let Some(cycle) = self.cycles.get_mut(index) else { return };
        cycle.busy = false;
        cycle.whole &= whole;
        if let Some(place) = self.segments.iter().position(|s| s.id == segment) {
            if let Some(watch) = self.segments.get_mut(place).and_then(|s| s.watches.get_mut(index))
                && let Some(mark) = mark
            {
                watch.mark = mark;
            }
            for text in self.take(index, place, look.arrivals) {
                self.because(text);
            }
        }
        let Some(cycle) = self.cycles.get(index) else { return };
        if !cycle.queue.is_empty() {
            return;
        }
        let (stage, began, whole) = (cycle.plan.stage, cycle.began, cycle.whole);
        let (taken, all_seen) = (cycle.taken, cycle.seen);
        if whole {
            for leg in &mut self.legs {
                leg.volume.complete(stage, began);
            }
            if index + 1 == self.cycles.len() && self.ended.is_none() {
                self.leg_at(began).last_stage.add(began, taken.saturating_sub(all_seen));
            }
        }
        self.close(index, whole.then_some(began));
    }

    /// Counts what was seen of a segment at a stage; the words for what was wrong with it.
    fn take(&mut self, index: usize, place: usize, mut arrivals: Vec<Arrival>) -> Vec<String> {
        let last = index + 1 == self.cycles.len();
        let (Some(cycle), Some(segment)) =
            (self.cycles.get_mut(index), self.segments.get_mut(place))
        else {
            return Vec::new();
        };
        let Some(leg) = self.legs.get_mut(segment.leg) else { return Vec::new() };
        let stage = cycle.plan.stage;
        // In the order of their scope's positions, as reordering is judged by.
        arrivals.sort_by(|a, b| a.order.cmp(&b.order));
        let mut flaws = Vec::new();
        for mut arrival in arrivals {
            let Some((seq, first)) = segment.copy(index, &arrival, cycle) else { continue };
            let flaw = first.then(|| {
                let event = segment.event(self.journey, seq);
                if let Some(fresh) = cycle.plan.expect.fresh.as_ref()
                    && !arrival.dead_letter
                {
                    let seen = self.began.wall_of(arrival.seen);
                    fresh.judge(&mut arrival, seen);
                }
                inspect(&arrival, &event, &cycle.plan.expect)
            });
            let flaw = flaw.flatten();
            let scope = arrival.order.as_ref().filter(|_| self.lots.in_order);
            let scope = scope.map(|(scope, _)| cycle.scope(segment.id, scope));
            let fate = flaw.as_ref().map(|flaw| flaw.fate);
            leg.volume.seen(stage, segment.base + seq, arrival.seen, scope, fate);
            if first && last {
                leg.seen += 1;
                leg.last_seen = leg.last_seen.max(arrival.seen);
            }
            flaws.extend(flaw.map(|flaw| flaw.text));
        }
        flaws
    }

    /// Segments need no look where all that was sent is there and a look after the last arrival had
    /// the chance to see further copies, or a complete look came after its last event was given up.
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
            let looked = complete.is_some_and(|began| began >= watch.newest);
            let here = expected == 0 || (watch.seen >= expected && looked);
            watch.closed |= answered && (here || given_up);
        }
        // The last one is kept: the next takes its marks from it.
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|s| s.watches.iter().all(|watch| watch.closed))
        {
            let Some(gone) = self.segments.pop_front() else { return };
            for cycle in &mut self.cycles {
                cycle.forget(gone.id);
            }
        }
    }

    /// A step of a ramp is over: where it can be seen already that it was not held, the next one
    /// would only harm.
    pub(super) fn look_back(&mut self, now: Mono) {
        let elapsed = now.since(self.began.mono);
        if self.order.shape != Shape::Ramp {
            return;
        }
        let over = self.legs.iter().position(|leg| !leg.passed && elapsed >= leg.to);
        let Some(leg) = over.and_then(|over| self.legs.get_mut(over)) else { return };
        leg.passed = true;
        let slow = |stage: Stage| {
            let spec = self.counted.iter().find(|counted| counted.stage == stage);
            let p99 = leg.volume.latency(stage).map(|latency| latency.p99);
            spec.zip(p99).is_some_and(|(spec, p99)| p99 > spec.within.as_secs_f64())
        };
        let late = self.counted.iter().any(|counted| slow(counted.stage));
        // Whoever was slow: it is not held either way.
        let (_, why) = leg.judged(&Ended::Whole, leg.step.span, &self.order, None, &[]);
        let grew = why.iter().any(|why| why.code == "backlog");
        if late || grew || leg.counts.untaken() > 0 {
            self.end(Ended::Knee);
        }
    }
}
