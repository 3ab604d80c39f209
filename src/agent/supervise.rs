//! Tasks that must not end: one that panics or returns before a stop is started again, and counted.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::record::{Record, Records};

/// A task that dies at once must not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs what `make` makes until `stop`.
pub(super) async fn keep<F: Future<Output = ()>>(
    name: &'static str,
    stop: CancellationToken,
    records: Records,
    make: impl Fn() -> F,
) {
    loop {
        let ended = AssertUnwindSafe(make()).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        tracing::error!(
            task = name,
            panicked = ended.is_err(),
            "a task ended before its time and is started again"
        );
        let _ = records.send(Record::TaskRestarted { task: name }).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
