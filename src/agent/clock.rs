//! The only place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now, Wall};

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now() -> Now {
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    };
    let wall = Wall(wall);
    #[cfg(test)]
    let wall = Wall(wall.0 + SET_BY.load(std::sync::atomic::Ordering::Relaxed));
    Now { mono: Mono::now(), wall }
}

/// By how many nanoseconds a test has set the wall clock.
#[cfg(test)]
pub(super) static SET_BY: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// The wall clock alone.
pub fn wall() -> Wall {
    now().wall
}

/// A tokio sleep that ends at a monotonic instant.
pub async fn sleep_until(at: Mono) {
    tokio::time::sleep(at.since(Mono::now())).await;
}
