//! When attempts were made: all that coverage asks of them. Those that came in time say nothing that
//! their neighbours don't, so only the late ones are kept.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    pub first: Option<Mono>,
    pub newest: Option<Mono>,
    /// An attempt that came late, after the one before it.
    pub late: VecDeque<(Mono, Mono)>,
}

/// So long after an attempt none can have been missed yet: half an interval more than one.
pub fn on_time(interval: Duration) -> Duration {
    interval.saturating_add(interval / 2)
}

impl Attempts {
    /// Of instants in ascending order.
    pub fn of(interval: Duration, instants: impl IntoIterator<Item = Mono>) -> Self {
        let mut attempts = Self::default();
        instants.into_iter().for_each(|at| attempts.push(interval, at));
        attempts
    }

    /// The newest so far.
    pub(super) fn push(&mut self, interval: Duration, at: Mono) {
        match self.newest {
            Some(last) if at >= last.plus(on_time(interval)) => self.late.push_back((last, at)),
            Some(_) => {}
            None => self.first = Some(at),
        }
        self.newest = Some(at);
    }

    /// Those before this one are forgotten.
    pub(super) fn forget(&mut self, first: Option<Mono>) {
        let Some(first) = first else {
            *self = Self::default();
            return;
        };
        self.first = Some(first);
        while self.late.front().is_some_and(|(before, _)| *before < first) {
            self.late.pop_front();
        }
    }
}
