//! Events in a row that are to be sent, and are not rendered yet.

use std::sync::Arc;
use std::time::Duration;

use super::{Events, Renderer};
use crate::journey::{Event, Run};
use crate::time::Wall;

/// Which events, and when each is meant to be sent. They are rendered where they are sent: one by
/// one into a buffer that is used again, where the way in can take them so.
#[derive(Clone, Debug)]
pub struct Lot {
    events: Arc<Events>,
    run: Run,
    stream: Arc<str>,
    /// From which the offsets count.
    began: Wall,
    first: u64,
    offsets: Vec<u32>,
}

impl Lot {
    /// `offsets` are microseconds from `began` to each event's intended time.
    pub fn new(
        events: Arc<Events>,
        run: Run,
        stream: Arc<str>,
        began: Wall,
        first: u64,
        offsets: Vec<u32>,
    ) -> Self {
        Self { events, run, stream, began, first, offsets }
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Each event's sequence number and intended time.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Wall)> + '_ {
        let intended = |offset: &u32| self.began.plus(Duration::from_micros(u64::from(*offset)));
        (self.first..).zip(self.offsets.iter().map(intended))
    }

    /// All of them, with all that any way in may want to know of them.
    pub fn events(&self) -> Vec<Event> {
        let render = |(seq, at)| self.events.render(&self.run, &self.stream, seq, at);
        self.iter().map(render).collect()
    }

    /// Renders their payloads alone.
    pub fn renderer(&self) -> Renderer<'_> {
        self.events.renderer(&self.run, &self.stream)
    }
}
