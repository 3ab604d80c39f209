//! When checks run: each at a phase of its own, missed ticks skipped and counted, at most so many
//! in flight, never two attempts of one check on one target.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::record::{Record, Records};
use super::{clock, runner};
use crate::client::Clients;
use crate::outcome::{CheckId, TargetName};
use crate::plan::{Check, Peers, Plan};
use crate::spec::trace::Trace;
use crate::time::{Mono, Schedule};

/// Attempts that may run at once. Each holds a socket or two, and a fleet's matrix should not open
/// a thousand at the same instant.
pub(super) const IN_FLIGHT_LIMIT: usize = 64;

type Key = (CheckId, TargetName);

/// What is in flight, whichever plan began it: after a reload the old plan's attempts still end,
/// and the new one begins none beside them.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<HashSet<Key>>>);

impl InFlight {
    /// None where this is in flight already, or too many are.
    fn enter(&self, key: &Key) -> Option<Flight> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = all.len() < IN_FLIGHT_LIMIT && all.insert(key.clone());
        free.then(|| Flight { all: self.clone(), key: key.clone() })
    }
}

/// One attempt; it is in flight until this is dropped, however it ends.
struct Flight {
    all: InFlight,
    key: Key,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Runs the plan's checks, on the peers as they are at each tick, until `stop`, then lets attempts in flight end until `cancel`.
pub(super) async fn run(
    plan: Arc<Plan>,
    peers: watch::Receiver<Peers>,
    clients: Clients,
    records: Records,
    in_flight: InFlight,
    stop: CancellationToken,
    cancel: CancellationToken,
) {
    let here = plan.checks.iter().filter(|check| check.elsewhere.is_none());
    let mut lines: Vec<Line> = here.map(|check| Line::new(check, &plan)).collect();
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        let due = lines.iter().map(|line| line.due).min();
        let sleep = async {
            match due {
                Some(due) => clock::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            () = sleep => {}
        }
        let now = Mono::now();
        let mut missed: BTreeMap<CheckId, u64> = BTreeMap::new();
        for line in lines.iter_mut().filter(|line| line.due <= now) {
            // The tick that is run is the newest one; those before it went by unseen.
            let late = line.schedule.ticks_between(line.due, now);
            if late > 0 {
                *missed.entry(line.check.id.clone()).or_default() += late;
            }
            line.due = line.schedule.next_after(now);
            // Not missed: it was not due.
            if !line.check.allowed_times.allow(clock::now().wall) {
                continue;
            }
            let targets = line.check.resolve(&peers.borrow());
            for target in targets {
                let key = (line.check.id.clone(), target.clone());
                let Some(flight) = in_flight.enter(&key) else {
                    *missed.entry(line.check.id.clone()).or_default() += 1;
                    continue;
                };
                let (check, clients, records, cancel) =
                    (line.check.clone(), clients.clone(), records.clone(), cancel.clone());
                running.spawn(async move {
                    let _ = records.send(Record::Begun { check: key.0, target: key.1 }).await;
                    let seen =
                        runner::attempt(&check, &target, &clients, &Trace::off(), &cancel).await;
                    // The recorder is gone only when the agent has ended.
                    let _ = records.send(Record::Observation(seen)).await;
                    drop(flight);
                });
            }
        }
        for (check, count) in missed {
            let _ = records.send(Record::Missed { check, count }).await;
        }
    }
    while running.join_next().await.is_some() {}
}

struct Line {
    check: Check,
    schedule: Schedule,
    due: Mono,
}

impl Line {
    fn new(check: &Check, plan: &Plan) -> Self {
        let schedule = Schedule::new(check.every, &plan.node.name, &check.id);
        Self { check: check.clone(), due: schedule.next_after(Mono::now()), schedule }
    }
}
