//! What a look tells beside the fates: how old a feed was, how far a clock is off, what a wrong
//! tenant saw.

use super::clock;
use super::walking::Round;
use crate::journey::fields::lookup;
use crate::journey::offset::Offset;
use crate::journey::reconcile::stamp;
use crate::journey::{Look, Stage};
use crate::outcome::ReasonCode;
use crate::plan::StagePlan;

impl Round<'_> {
    /// Where the stage promises a fresh feed: how old it was for each event, by its first copy.
    pub(super) fn judge_feeds(&mut self, stage: Stage, look: &mut Look) {
        let Some(fresh) = self.journey.stage(stage).and_then(|plan| plan.expect.fresh.as_ref())
        else {
            return;
        };
        let now = clock::now();
        let (first, count) = (self.progress.own.walk.first_seq(), self.progress.own.walk.count());
        let ages = self.progress.feed_ages.entry(stage).or_default();
        for arrival in look.arrivals.iter_mut().filter(|arrival| !arrival.dead_letter) {
            let Some(seq) = arrival.seq else { continue };
            let age = fresh.judge(arrival, now.wall_of(arrival.seen));
            if seq.checked_sub(first).is_some_and(|place| place < count) {
                ages.entry(seq).or_insert(age);
            }
        }
    }

    /// Where the stage writes when it saw an event, in the field that the plan names or beside the
    /// event: between which bounds its clock is off. Both our
    /// instants are of the clock that the round began with, so that it may be set meanwhile.
    pub(super) fn bound_clock(&mut self, stage: Stage, look: &Look) {
        let Some(plan) = self.journey.stage(stage) else { return };
        let sent = self.progress.intended;
        for arrival in look.arrivals.iter().filter(|arrival| !arrival.dead_letter) {
            let shown = |field| arrival.fields.as_ref().and_then(|fields| lookup(fields, field));
            let stamped = match &plan.expect.clock {
                Some(field) => shown(field).and_then(stamp),
                None => arrival.stamped,
            };
            let Some(stamp) = stamped else { continue };
            let after = arrival.seen.0.saturating_sub(self.progress.own.walk.began().0);
            let one = Offset::of(stamp, sent, sent.saturating_add(after));
            // A store shows an event again at each look, and says nothing new of it.
            let (known, events) = self.progress.clocks.entry(stage).or_default();
            if arrival.seq.is_some_and(|seq| events.insert(seq)) {
                *known = Some(known.map_or(one, |known| known.and(one)));
            }
        }
    }

    /// What the wrong tenant saw of what was seen.
    pub(super) fn note_exposed(&mut self, stage: Stage, look: &Look) {
        if !self.journey.stage(stage).is_some_and(StagePlan::has_hidden) {
            return;
        }
        let exposed = self.progress.exposed.entry(stage).or_default();
        let saw = look.arrivals.iter().filter(|arrival| {
            arrival.wrong.as_ref().is_some_and(|wrong| wrong.code == ReasonCode::Exposed)
        });
        exposed.extend(saw.filter_map(|arrival| arrival.seq));
    }
}
