//! When checks run: each at a phase of its own, missed ticks skipped and counted, at most so many
//! in flight, never two attempts of one check on one target.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::recorder::Record;
use super::{clock, runner};
use crate::client::Clients;
use crate::outcome::{CheckId, TargetName};
use crate::plan::{Check, Plan};
use crate::spec::trace::Trace;
use crate::time::{Mono, Schedule};

/// Attempts that may run at once. Each holds a socket or two, and a fleet's matrix should not open
/// a thousand at the same instant.
pub(super) const IN_FLIGHT_LIMIT: usize = 64;

type Key = (CheckId, TargetName);

/// Runs the plan's checks until `stop`, then lets attempts in flight end until `cancel`.
pub(super) async fn run(
    plan: Arc<Plan>,
    clients: Clients,
    records: mpsc::Sender<Record>,
    stop: CancellationToken,
    cancel: CancellationToken,
) {
    let mut lines: Vec<Line> = plan.checks.iter().map(|check| Line::new(check, &plan)).collect();
    let mut in_flight: HashSet<Key> = HashSet::new();
    let mut running: JoinSet<Key> = JoinSet::new();
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
            Some(done) = running.join_next(), if !running.is_empty() => {
                if let Ok(key) = done { in_flight.remove(&key); }
                continue;
            }
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
            for target in line.check.resolve(&plan.peers) {
                let key = (line.check.id.clone(), target.clone());
                if running.len() >= IN_FLIGHT_LIMIT || in_flight.contains(&key) {
                    *missed.entry(line.check.id.clone()).or_default() += 1;
                    continue;
                }
                in_flight.insert(key.clone());
                let (check, clients, records, cancel) =
                    (line.check.clone(), clients.clone(), records.clone(), cancel.clone());
                running.spawn(async move {
                    let _ = records
                        .send(Record::Begun { check: key.0.clone(), target: key.1.clone() })
                        .await;
                    let seen =
                        runner::attempt(&check, &target, &clients, &Trace::off(), &cancel).await;
                    // The recorder is gone only when the agent has ended.
                    let _ = records.send(Record::Observation(seen)).await;
                    key
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
