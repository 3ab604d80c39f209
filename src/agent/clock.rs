//! The only place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now, Wall};

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now() -> Now {
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    };
    Now { mono: Mono::now(), wall: Wall(wall) }
}

/// A tokio sleep that ends at a monotonic instant.
pub async fn sleep_until(at: Mono) {
    tokio::time::sleep(at.since(Mono::now())).await;
}
