//! Secrets: what can't be read keeps nobody from starting. Variables and files are read at each
//! use; a command that gave none is run again until it does.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::run_blocking;
use crate::lanes::Cells;
use crate::outcome::Fault;
use crate::plan::Plan;

/// So long until a command is run again; each time twice as long, a vault that is away for hours
/// is not asked at every turn.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_MOST: Duration = Duration::from_secs(300);

/// Loads what can be loaded, and says in the log what can't.
pub(super) async fn load(plan: &Arc<Plan>, cells: &Cells) {
    let own = plan.clone();
    match run_blocking(cells, "secrets", move || own.load_secrets()).await {
        Ok(lacking) => tell(&lacking),
        Err(text) => tracing::warn!(text, "secrets could not be read yet"),
    }
}

/// Says what could not be read. Each text names the reference, none a value.
pub(super) fn tell(lacking: &[Fault]) {
    for fault in lacking {
        tracing::warn!(
            text = fault.text,
            "a secret can't be read: what needs it is inconclusive until it can be"
        );
    }
}

/// Runs the commands that have given no secret, until all have or `stop`.
pub(super) async fn ask_again(plan: Arc<Plan>, cells: Cells, stop: CancellationToken) {
    let mut pause = AGAIN;
    while plan.lacks_secrets() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let own = plan.clone();
        let done = run_blocking(&cells, "secrets", move || own.load_secrets()).await;
        if done.is_ok() && !plan.lacks_secrets() {
            tracing::info!("all secrets of commands are there now");
        }
        pause = (pause * 2).min(AGAIN_MOST);
    }
    stop.cancelled().await;
}
