//! The node's second, taken in a lane of its own: procfs answers at once nearly always, and where
//! it does not, only the lane waits. The lane keeps the time itself, so that a second wakes nobody
//! else up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::seconds::Seconds;
use crate::lanes::Lane;
use crate::node::{Sampler, TICK};
use crate::time::{Mono, Now};

const CLOSING: Duration = Duration::from_secs(1);

pub(super) struct Sampling {
    lane: Lane<Infallible>,
}

struct Ticking {
    sampler: Sampler,
    seconds: Arc<Seconds>,
    due: Mono,
}

impl Ticking {
    /// Takes a second where one is due. Returns how long until the next.
    fn turn(&mut self) -> Duration {
        let now = Mono::now();
        if now < self.due {
            return self.due.since(now);
        }
        // Seconds that went by while the machine slept were not seen; they are not made up for.
        while self.due <= now {
            let missed = now.since(self.due).as_secs();
            self.due = self.due.plus(TICK * u32::try_from(missed).unwrap_or(u32::MAX)).plus(TICK);
        }
        let mut second = self.seconds.blank();
        // The instant is read here: the lane may be woken late. Whole microseconds take half the room.
        let now = clock::now();
        let now = Now { mono: now.mono.whole_micros(), ..now };
        self.sampler.sample(now, &mut second.frame);
        self.seconds.put(second);
        self.due.since(Mono::now())
    }
}

/// Starts the lane, which takes the first second at once.
pub(super) fn start(sampler: Sampler, seconds: Arc<Seconds>) -> Result<Sampling, String> {
    let ticking = Ticking { sampler, seconds, due: Mono::now() };
    let nothing_else = |_: &mut Ticking, job: Infallible| match job {};
    let lane = Lane::start_with("sampler", 1, ticking, nothing_else, |own| Some(own.turn()));
    let lane = lane.map_err(|error| format!("no thread for the sampler: {error}"))?;
    Ok(Sampling { lane })
}

impl Sampling {
    pub(super) async fn stop(&mut self) {
        if let Err(fault) = self.lane.close(CLOSING).await {
            tracing::warn!(%fault, "the sampler did not end");
        }
    }
}
