//! The one owner of all state: takes in what was measured, judges what is due, shows it to who
//! asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::record::{Ask, Judged, Record};
use super::seconds::Seconds;
use super::state::State;
use crate::lanes::Fill;

/// So long after the seconds of the node were taken in last is looked whether they still come. Where
/// they do, they are what is judged by, and come more often than this.
const LOOK: Duration = Duration::from_secs(20);
/// Where none has come for so long, gates are judged without.
const JUDGE_AT_LAST: Duration = Duration::from_millis(1_500);

pub(super) async fn run(
    mut state: State,
    seconds: Arc<Seconds>,
    (mut records, dropped): (mpsc::Receiver<Record>, Arc<AtomicU64>),
    mut asks: mpsc::Receiver<Ask>,
    publish: watch::Sender<Judged>,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ask) = asks.recv() => {
                catch_up(&mut state, &seconds, &publish);
                match ask {
                    Ask::Metrics { format, reply } => {
                        state.show(fill("records", &records, dropped.load(Relaxed)));
                        // Who asks waits for room.
                        state.show(fill("asks", &asks, 0));
                        let _ = reply.send(state.write_metrics(format));
                    }
                    Ask::Snapshot(reply) => {
                        state.judge_rest();
                        drop(reply.send(Arc::new(state.snapshot())));
                    }
                    Ask::Alive(reply) => drop(reply.send(())),
                }
            }
            () = seconds.called() => {
                catch_up(&mut state, &seconds, &publish);
                look.reset();
            }
            _ = look.tick() => {
                catch_up(&mut state, &seconds, &publish);
                let now = clock::now();
                let silent = now.mono.since(state.judged().at.mono);
                if silent > JUDGE_AT_LAST {
                    tracing::warn!("no second of the node has come for {silent:?}: the sampler hangs");
                    state.judge_due(now);
                    publish.send_replace(state.judged());
                }
            }
            Some(record) = records.recv() => {
                catch_up(&mut state, &seconds, &publish);
                match record {
                    Record::Settle(reply) => {
                        state.judge(clock::now());
                        publish.send_replace(state.judged());
                        let _ = reply.send(Arc::new(state.snapshot()));
                    }
                    Record::Last(reply) => {
                        state.judge(clock::now());
                        state.close();
                        publish.send_replace(state.judged());
                        let _ = reply.send(Arc::new(state.snapshot()));
                    }
                    record => state.apply(record, clock::now()),
                }
                seconds.expect(state.patience());
            }
            else => break,
        }
    }
}

/// Takes in the seconds that wait, each judged as of when it was taken: what comes of them is the
/// same as if nobody had waited.
fn catch_up(state: &mut State, seconds: &Seconds, publish: &watch::Sender<Judged>) {
    let mut any = false;
    while let Some((second, newest)) = seconds.take() {
        let at = if newest { clock::now() } else { second.frame.at };
        state.second(second, at);
        state.judge_due(at);
        any = true;
    }
    if any {
        publish.send_replace(state.judged());
        seconds.expect(state.patience());
    }
}

fn fill<T>(queue: &'static str, receiver: &mpsc::Receiver<T>, dropped: u64) -> Fill {
    Fill { queue, length: receiver.len(), limit: receiver.max_capacity(), dropped }
}
