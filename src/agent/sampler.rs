//! The node's second, taken in a lane of its own: procfs answers at once nearly always, and where
//! it does not, only the lane waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clock;
use super::recorder::{Record, Records};
use crate::lanes::Lane;
use crate::node::{Frame, Sampler, TICK};

/// The lane is asked once a second; a second tick in the queue says that it stands still.
const QUEUE_LIMIT: usize = 2;
const CLOSING: Duration = Duration::from_secs(1);

pub(super) struct Sampling {
    stop: CancellationToken,
    ticker: JoinHandle<()>,
}

pub(super) struct Tick {
    records: Records,
}

/// Starts the lane; it does nothing before it is asked.
pub(super) fn lane(sampler: Sampler) -> Result<Arc<Lane<Tick>>, String> {
    let lane = Lane::start("sampler", QUEUE_LIMIT, sampler, |sampler, tick: Tick| {
        let mut frame = Frame::default();
        // The instant is read here: the lane may be woken late.
        sampler.sample(clock::now(), &mut frame);
        // A recorder that can't keep up loses seconds, which coverage then shows; it is never
        // waited for, so that the next second is taken in time.
        tick.records.offer(Record::Frame(Box::new(frame)));
    });
    lane.map(Arc::new).map_err(|error| format!("no thread for the sampler: {error}"))
}

/// Starts the ticker that asks the lane.
pub(super) fn start(lane: Arc<Lane<Tick>>, records: Records) -> Sampling {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let ticker = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        // Seconds that went by while the machine slept were not seen; they are not made up for.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stopped.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if lane.try_send(Tick { records: records.clone() }).is_err() {
                tracing::warn!("the sampler still hangs in an earlier second; this one is lost");
            }
        }
        if let Err(fault) = lane.close(CLOSING).await {
            tracing::warn!(%fault, "the sampler did not end");
        }
    });
    Sampling { stop, ticker }
}

impl Sampling {
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        let _ = (&mut self.ticker).await;
    }
}
