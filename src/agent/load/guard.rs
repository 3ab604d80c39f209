//! Whether this node is short of processors while it sends and looks: then what is slow may be its
//! own fault, and what is real on it suffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::agent::clock;
use crate::lanes::Lane;
use crate::node::{Frame, Paths, Sampler, Signal, TICK};
use crate::outcome::{Fault, FaultCode};

/// In a starved second tasks wait for a processor for more of it, or all processors are busy for
/// more of it. No published number exists.
const PRESSURE: f64 = 0.6;
const BUSY: f64 = 0.97;
/// So many starved seconds in a row end the load.
const ROW: u64 = 10;
const QUEUE_LIMIT: usize = 1;

type Job = oneshot::Sender<Second>;

/// Of one second: the share of it in which tasks waited, and in which processors were busy; None
/// where the kernel does not say.
#[derive(Clone, Copy, Debug)]
struct Second {
    pressure: Option<f64>,
    busy: Option<f64>,
}

impl Second {
    fn is_starved(self) -> bool {
        self.pressure.is_some_and(|share| share >= PRESSURE)
            || self.busy.is_some_and(|share| share >= BUSY)
    }
}

#[derive(Default)]
struct Seen {
    starved: AtomicU64,
    row: AtomicU64,
}

/// Takes this node's seconds until it is dropped.
pub(super) struct Guard {
    seen: Arc<Seen>,
    ticker: JoinHandle<()>,
}

impl Guard {
    pub(super) fn start(paths: &Paths) -> Result<Self, Fault> {
        let sampler = (Sampler::of_processors(paths), Frame::default());
        let lane = Lane::start("load-node", QUEUE_LIMIT, sampler, |(sampler, frame), job: Job| {
            sampler.sample(clock::now(), frame);
            let share = |series| match frame.find(series, None) {
                Some(Signal::Number(share)) => Some(share),
                _ => None,
            };
            let second =
                Second { pressure: share("node.psi.cpu.some"), busy: share("node.cpu.busy") };
            // Nobody may be waiting any more.
            let _ = job.send(second);
        })
        .map_err(|error| {
            Fault::new(FaultCode::Exhausted, format!("no thread to watch this node: {error}"))
        })?;
        let seen = Arc::new(Seen::default());
        let ours = seen.clone();
        let ticker = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Ok(second) = lane.ask(TICK, |answer| answer).await else { continue };
                if second.is_starved() {
                    ours.starved.fetch_add(1, Relaxed);
                    ours.row.fetch_add(1, Relaxed);
                } else {
                    ours.row.store(0, Relaxed);
                }
            }
        });
        Ok(Self { seen, ticker })
    }

    /// Starved seconds so far.
    pub(super) fn starved(&self) -> u64 {
        self.seen.starved.load(Relaxed)
    }

    /// The words why to stop, where this node is worn out.
    pub(super) fn tell(&self) -> Option<String> {
        let row = self.seen.row.load(Relaxed);
        (row >= ROW).then(|| format!("this node was short of processors for {row} s in a row"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_starved_by_pressure_or_by_busy_processors_and_never_by_what_is_not_told() {
        let starved = |pressure, busy| Second { pressure, busy }.is_starved();
        assert!(!starved(None, None) && !starved(Some(0.59), Some(0.96)));
        assert!(starved(Some(0.6), None) && starved(None, Some(0.97)));
    }
}
