//! The file of peers, read anew when it has changed. A bad file leaves the last good members.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::record::{Record, Records};
use super::run_blocking;
use crate::lanes::Cells;
use crate::plan::Peers;

/// So often the file is looked at: one stat, in a cell.
const EVERY: Duration = Duration::from_secs(2);

/// Follows the file until `stop`.
pub(super) async fn follow(
    members: Arc<watch::Sender<Peers>>,
    cells: Cells,
    records: Records,
    stop: CancellationToken,
) {
    let peers = members.borrow().clone();
    // It was read when the plan was compiled; what happened since is told by the first stamp.
    let mut last = None;
    while peers.is_followed() {
        let own = peers.clone();
        let stamp = run_blocking(&cells, "peers.file_sd", move || own.stamp()).await.flatten();
        if last.as_ref() != Some(&stamp) {
            let read = match &stamp {
                Ok(_) => {
                    let own = peers.clone();
                    run_blocking(&cells, "peers.file_sd", move || own.read_anew()).await.flatten()
                }
                Err(text) => Err(text.clone()),
            };
            last = Some(stamp);
            let told = match read {
                Ok(read) => {
                    tracing::info!(members = read.len(), "the file of peers was read");
                    members.send_replace(read.clone());
                    Some(read)
                }
                Err(text) => {
                    tracing::error!(text, "the file of peers is bad, its last good members stay");
                    None
                }
            };
            let _ = records.send(Record::Peers(told)).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    stop.cancelled().await;
}
