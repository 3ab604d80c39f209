//! The confirmers that read stores: against the real server where there is one, against answers
//! with every fault where not, and against a peer that means harm.

use std::time::{Duration, Instant};

use greenlight::confirm::{Confirmer, Sought};
use greenlight::journey::{Event, Look};
use serde_json::{Value, json};

use crate::http::confirm::{Watch, horizon, sought};
use crate::http::kinds::events;
use crate::http::server::{Act, Server};

mod alerts;
mod answers;
mod elastalert;
mod feeds;
mod hostile;
mod mailbox;
mod pages;
mod postgres;
mod purge;
mod rules;
mod search;
mod sql;
mod tenants;
mod told;

const RUN: &str = "gl00000001";
const OTHER: &str = "gl00000002";
/// A cold server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A round of this many events.
fn round(count: u64) -> Sought {
    Sought { count, ..sought(None) }
}

/// What one look sees.
async fn look<C: Confirmer>(spec: Value, round: Sought) -> Look {
    let mut watch = Watch::<C>::new(spec, round);
    watch.timeout = PATIENCE;
    watch.begin().await.expect("it can begin");
    watch.look().await
}

/// Which events were seen, in order, each as often as it was.
fn seqs(look: &Look) -> Vec<u64> {
    let mut seqs: Vec<u64> = look.arrivals.iter().filter_map(|arrival| arrival.seq).collect();
    seqs.sort_unstable();
    seqs
}

/// How far it saw, and how many copies.
fn saw(look: &Look) -> (&'static str, usize) {
    (horizon(look), look.arrivals.len())
}

fn document(event: &Event) -> Value {
    serde_json::from_slice(&event.payload).expect("JSON")
}

/// Answers each request with the next act; the last one answers all that follow.
async fn scripted(acts: Vec<Act>) -> Server {
    let acts = std::sync::Mutex::new(acts.into_iter().collect::<std::collections::VecDeque<_>>());
    Server::start(move |_| {
        let mut acts = acts.lock().expect("no panic inside");
        acts.pop_front().unwrap_or_else(|| Act::status(500))
    })
    .await
}

/// An index of this test's own.
fn unique(name: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{name}-{}-{next}", std::process::id())
}
