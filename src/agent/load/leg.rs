//! One step of a load, counted by itself.

use std::iter::Sum;
use std::time::Duration;

use crate::journey::load::{Backlog, Step};
use crate::journey::volume::{Counted, Volume};
use crate::time::Mono;

use super::segment::FIRST_SEQ;

/// Where a step, or a load, stands.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub due: u64,
    pub handed_over: u64,
    pub bytes: u64,
    pub accepted: u64,
    pub sent: u64,
    pub refused: u64,
    /// Of the refused: because the platform asked to slow down.
    pub throttled: u64,
    /// Of the throttled: due in a pause that it had asked for, and so never sent.
    pub held_back: u64,
    pub not_sent: u64,
    pub unknown: u64,
    pub fault: u64,
}

impl Counts {
    pub(super) fn answered(&self) -> u64 {
        self.taken() + self.untaken() + self.fault
    }

    pub fn taken(&self) -> u64 {
        self.accepted + self.sent
    }

    pub(super) fn untaken(&self) -> u64 {
        self.refused + self.not_sent + self.unknown
    }

    /// Handed over, and no receipt yet.
    pub fn in_flight(&self) -> u64 {
        self.handed_over.saturating_sub(self.answered())
    }

    /// Due, and no receipt yet.
    pub fn waiting(&self) -> u64 {
        self.due.saturating_sub(self.answered())
    }
}

impl<'a> Sum<&'a Counts> for Counts {
    fn sum<I: Iterator<Item = &'a Counts>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            due: sum.due + one.due,
            handed_over: sum.handed_over + one.handed_over,
            bytes: sum.bytes + one.bytes,
            accepted: sum.accepted + one.accepted,
            sent: sum.sent + one.sent,
            refused: sum.refused + one.refused,
            throttled: sum.throttled + one.throttled,
            held_back: sum.held_back + one.held_back,
            not_sent: sum.not_sent + one.not_sent,
            unknown: sum.unknown + one.unknown,
            fault: sum.fault + one.fault,
        })
    }
}

pub(super) struct Leg {
    pub(super) step: Step,
    /// When it begins and ends by the plan, from the beginning of the load.
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) counts: Counts,
    pub(super) volume: Volume,
    /// What waits for its receipt, and what waits to be seen at the last stage.
    pub(super) way_in: Backlog,
    pub(super) last_stage: Backlog,
    pub(super) stalled: Duration,
    /// Seconds in which this node was short of processors.
    pub(super) starved: u64,
    /// Events seen at the last stage that is looked at, and when the newest was.
    pub(super) seen: u64,
    pub(super) last_seen: Mono,
    pub(super) last_receipt: Mono,
    /// Whether it was looked at in passing, to spare the platform the next one.
    pub(super) passed: bool,
}

impl Leg {
    pub(super) fn all(steps: &[Step], counted: &[Counted], began: Mono) -> Vec<Self> {
        let mut from = Duration::ZERO;
        let leg = |step: &Step| {
            let to = from + step.span;
            let leg = Self {
                step: *step,
                from,
                to,
                counts: Counts::default(),
                volume: Volume::new(counted, FIRST_SEQ),
                way_in: Backlog::default(),
                last_stage: Backlog::default(),
                stalled: Duration::ZERO,
                starved: 0,
                seen: 0,
                last_seen: began,
                last_receipt: began,
                passed: false,
            };
            from = to;
            leg
        };
        steps.iter().map(leg).collect()
    }

    /// How long after its end the last of its events was through; None while one is not.
    pub(super) fn drained(&self, began: Mono, looks: bool) -> Option<Duration> {
        let (whole, at) = if looks {
            (self.seen >= self.counts.taken(), self.last_seen)
        } else {
            (self.counts.waiting() == 0, self.last_receipt)
        };
        (whole && self.counts.taken() > 0).then(|| at.since(began.plus(self.to)))
    }
}
