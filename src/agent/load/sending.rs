//! What is due is handed over, and what came of it is counted.

use std::time::Duration;

use super::segment::{FIRST_SEQ, Segment, Watch};
use super::{Load, Sends};
use crate::agent::rounds::new_run;
use crate::journey::Receipt;
use crate::journey::event::Lot;
use crate::journey::load::{Due, Ended};
use crate::outcome::{Fault, Reason, ReasonCode};
use crate::send::{SendContext, SentLot};
use crate::time::{Mono, Now};

/// Events of one run: half of what a look reads, so that each may be there twice.
const SEGMENT: usize = 10_000;
/// A slow load begins a new segment after that, so that looks need not reach far back.
const SEGMENT_SPAN: Duration = Duration::from_secs(600);
/// Sizes vary a little: so much more than the largest so far is kept of the budget for an event
/// under way.
const SPARE: usize = 32;

/// What came of one lot.
pub(super) struct Answer {
    segment: u64,
    first: u64,
    count: u64,
    handed: Mono,
    sent: SentLot,
}

impl<'a> Load<'a> {
    /// Hands over what is due, as far as there is room for lots.
    pub(super) fn dispatch(&mut self, now: Mono, sends: &mut Sends<'a>) -> Result<(), Fault> {
        let elapsed = now.since(self.began.mono);
        while self.ended.is_none() {
            self.fall_due(elapsed);
            let Some(next) = self.next.peek() else {
                self.end(Ended::Whole);
                break;
            };
            if elapsed > self.arrivals.span() + self.journey.timeout {
                self.end(Ended::Behind);
                break;
            }
            let ready = self.due.taken() - self.next.taken();
            let most = u64::try_from(self.lots.most).unwrap_or(u64::MAX).max(1);
            let lingers = ready < most
                && now < self.last_batch.plus(self.lots.linger)
                && self.due.peek().is_some();
            if ready == 0 || lingers {
                break;
            }
            if self.segments.back().is_some_and(|segment| segment.leg != next.step) {
                self.look_back(now);
                if self.ended.is_some() {
                    break;
                }
            }
            self.segment_for(next)?;
            if self.sparing.holds(now) {
                self.hold_back(ready);
                continue;
            }
            let Some(room) = self.room_in_budget() else {
                self.end(Ended::Budget);
                break;
            };
            if room == 0 || sends.len() >= self.lots.at_once {
                break;
            }
            self.hand_over(ready.min(most).min(room), now, sends);
            self.last_batch = now;
        }
        Ok(())
    }

    /// Counts what is due by now, step by step.
    fn fall_due(&mut self, elapsed: Duration) {
        while let Some(due) = self.due.peek().filter(|due| due.at <= elapsed) {
            self.due.take();
            if let Some(leg) = self.legs.get_mut(due.step) {
                leg.counts.due += 1;
            }
        }
    }

    /// How many events the budget has room for; None where it never will have any.
    fn room_in_budget(&self) -> Option<u64> {
        let sent: u64 = self.legs.iter().map(|leg| leg.counts.bytes).sum();
        let each = (self.largest + SPARE) as u64;
        let left = self.order.budget.saturating_sub(sent);
        let room = left.saturating_sub(each.saturating_mul(self.under_way)) / each;
        (room > 0 || self.under_way > 0).then_some(room)
    }

    /// Takes the next event's turn: it has a number and a place from here on.
    fn intend(&mut self) -> Option<(u64, Due)> {
        let segment = self.segments.back_mut()?;
        let due = self.next.peek().filter(|due| due.step == segment.leg)?;
        if segment.offsets.len() >= SEGMENT {
            return None;
        }
        let leg = self.legs.get_mut(due.step)?;
        let at = self.began.mono.plus(due.at);
        if leg.volume.intend(at).is_none() {
            let why = "more events are under way than can be counted";
            self.end(Ended::Aborted(why.into()));
            return None;
        }
        let offset = at.since(segment.began.mono).as_micros();
        segment.offsets.push(u32::try_from(offset).unwrap_or(u32::MAX));
        leg.counts.handed_over += 1;
        self.next.take();
        self.last_due = at;
        Some((segment.offsets.len() as u64 - 1 + FIRST_SEQ, due))
    }

    fn hand_over(&mut self, count: u64, now: Mono, sends: &mut Sends<'a>) {
        let mut first = None;
        for _ in 0..count {
            let Some((seq, _)) = self.intend() else { break };
            first.get_or_insert(seq);
        }
        let (Some(first), Some(segment)) = (first, self.segments.back()) else { return };
        let place = usize::try_from(first - FIRST_SEQ).unwrap_or(usize::MAX);
        let offsets = segment.offsets.get(place..).unwrap_or_default().to_vec();
        let (id, count) = (segment.id, offsets.len() as u64);
        self.under_way += count;
        let lot = Lot::new(
            self.journey.events.clone(),
            segment.run.clone(),
            self.journey.id.clone(),
            segment.began.wall,
            first,
            offsets,
        );
        let (sender, timeout) = (self.journey.sender.clone(), self.journey.timeout);
        let (clients, trace) = (self.clients, self.trace);
        sends.push(Box::pin(async move {
            let on = SendContext { timeout, clients, trace };
            let limit = timeout + Duration::from_millis(500);
            let sent = tokio::time::timeout(limit, sender.send_lot(&lot, on)).await;
            Answer { segment: id, first, count, handed: now, sent: sent.unwrap_or_default() }
        }));
    }

    /// The platform asked for a pause: what is due in it is refused by its word.
    fn hold_back(&mut self, count: u64) {
        let receipt = Receipt::Refused(Reason::new(
            ReasonCode::Throttled,
            "held back, as the platform had asked to slow down",
        ));
        for _ in 0..count {
            let Some((seq, due)) = self.intend() else { return };
            let Some(segment) = self.segments.back_mut() else { return };
            segment.never += 1;
            segment.answered += 1;
            if let Some(leg) = self.legs.get_mut(due.step) {
                leg.volume.receipt(segment.base + seq, &receipt);
                leg.counts.refused += 1;
                leg.counts.throttled += 1;
                leg.counts.held_back += 1;
            }
        }
    }

    /// Opens the next segment where the last one is full, too old, or of another step.
    fn segment_for(&mut self, next: Due) -> Result<(), Fault> {
        let due = self.began.mono.plus(next.at);
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        let old = due.since(last.began.mono) > SEGMENT_SPAN && !last.offsets.is_empty();
        if last.offsets.len() < SEGMENT && !old && last.leg == next.step {
            return Ok(());
        }
        last.sealed = true;
        // What is sent from here on stands behind what was read so far.
        let watches = last.watches.iter().map(|watch| Watch::new(watch.mark.clone())).collect();
        let began = Now { mono: due, wall: self.began.wall_of(due) };
        let base = if last.leg == next.step { last.base + last.offsets.len() as u64 } else { 0 };
        let segment = Segment::new(self.opened, next.step, new_run()?, began, base, watches);
        self.opened += 1;
        self.segments.push_back(segment);
        Ok(())
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        let now = Mono::now();
        self.under_way = self.under_way.saturating_sub(answer.count);
        self.largest = self.largest.max(answer.sent.largest);
        let Some(place) = self.segments.iter().position(|s| s.id == answer.segment) else { return };
        let mut stop = None;
        let mut receipts = answer.sent.receipts.into_iter();
        for seq in answer.first..answer.first.saturating_add(answer.count) {
            let receipt = receipts.next().unwrap_or_else(|| {
                Receipt::Unknown(Reason::new(
                    ReasonCode::Timeout,
                    "the send was cut off before it had an answer",
                ))
            });
            let why = self.count(place, seq, &receipt);
            match &receipt {
                Receipt::Accepted { .. } | Receipt::Sent { .. } => {
                    self.sparing.taken(answer.handed);
                }
                Receipt::Refused(reason) if reason.asks_to_slow_down() => {
                    let more = self.sparing.asked(now, answer.handed, reason.wait);
                    stop = stop.or(more);
                }
                _ => {}
            }
            if let Some(why) = why {
                self.because(why);
            }
        }
        // Of one that was cut off it is not known how much went out.
        let most = (self.largest as u64).saturating_mul(answer.count);
        let bytes = if answer.sent.bytes == 0 { most } else { answer.sent.bytes as u64 };
        let leg = self.segments.get(place).and_then(|segment| self.legs.get_mut(segment.leg));
        if let Some(leg) = leg {
            leg.counts.bytes += bytes;
            leg.last_receipt = now;
        }
        if let Some(why) = stop {
            self.end(Ended::Aborted(why));
        }
    }

    /// The words why an event was not taken, where it was not.
    fn count(&mut self, place: usize, seq: u64, receipt: &Receipt) -> Option<String> {
        let segment = self.segments.get_mut(place)?;
        let leg = self.legs.get_mut(segment.leg)?;
        let counts = &mut leg.counts;
        segment.answered += 1;
        leg.volume.receipt(segment.base + seq, receipt);
        match receipt {
            Receipt::Accepted { .. } => {
                counts.accepted += 1;
                segment.taken += 1;
                None
            }
            Receipt::Sent { .. } => {
                counts.sent += 1;
                segment.taken += 1;
                None
            }
            Receipt::Refused(reason) => {
                counts.refused += 1;
                counts.throttled += u64::from(reason.asks_to_slow_down());
                segment.never += 1;
                Some(reason.to_string())
            }
            Receipt::NotSent(reason) => {
                counts.not_sent += 1;
                segment.never += 1;
                Some(reason.to_string())
            }
            Receipt::Unknown(reason) => {
                counts.unknown += 1;
                Some(reason.to_string())
            }
            Receipt::Fault(fault) => {
                counts.fault += 1;
                segment.never += 1;
                Some(fault.to_string())
            }
        }
    }
}
