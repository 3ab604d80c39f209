//! Journeys: one task each, that sends a round when it is due and walks it to its end.
//!
//! When a round begins is decided here; `walking` takes one to its end.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::clock;
use super::rechecks::{self, Rechecks};
use super::record::{Record, Records, RoundNews};
use crate::client::Clients;
use crate::journey::event::run_from;
use crate::journey::rule::Memory;
use crate::journey::specimen::Specimen;
use crate::journey::tally::Tally;
use crate::journey::{Look, Run};
use crate::outcome::{Fault, FaultCode};
use crate::plan::{Journey, Plan};
use crate::send::SendContext;
use crate::spec::secret::Secret;
use crate::spec::trace::Trace;
use crate::store::{DueRecheck, OpenRound, Store};
use crate::time::{Mono, Now, Schedule};

mod beside;
mod ended;
mod exhibits;
mod ruled;
mod sides;
mod walking;

pub(super) use sides::FURTHEST;
use walking::{Progress, Round};

/// A look that takes longer than this saw nothing.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// The key beside a stored round's counts that says what they are evidence of.
pub(super) const ROUND_OF: &str = "of";
/// What a sender made is deleted in this time, or left.
const CLEARING: Duration = Duration::from_secs(5);
/// What `once` says that nobody hears.
const RECORDS: usize = 16;
/// How long a finished round is still watched for what comes after `give_up`, as a multiple of its
/// longest `give_up`.
const AFTERWATCH: u32 = 2;
/// A platform that asked to slow down is spared so many rounds in a row at most: with more, the
/// window of a gate would have a gap.
const SPARED: u32 = 1;
/// Looks of a finished round come so many times rarer.
const AFTERWATCH_PACE: u32 = 5;
/// Finished rounds that are watched at once. One that lacks something has taken its `give_up`, so that
/// rarely more than [`AFTERWATCH`] of them are.
const WATCHED_AT_ONCE: usize = 4;
/// Rounds that an earlier run left are walked on with so many at once, so that a platform isn't
/// flooded with looks after a restart.
const LEFT_AT_ONCE: usize = 8;

/// A round that an earlier run left under way.
pub struct Left {
    run: Run,
    /// On today's clocks.
    began: Now,
    progress: Progress,
}

/// What a journey's task needs.
#[derive(Clone)]
pub struct Hands {
    pub clients: Clients,
    pub records: Records,
    pub store: Store,
    pub(super) rechecks: Rechecks,
    /// Of the plan: what a stage shows is not to show them.
    pub secrets: Arc<[Secret]>,
    /// No new rounds.
    pub stop: CancellationToken,
    /// Leave the round as it stands; it is stored and goes on after a restart.
    pub cancel: CancellationToken,
}

/// Sends rounds of one journey until `stop`, and walks on with what an earlier run left: beside the
/// new rounds, for a restart must not silence a journey until what was cut off is given up. Only
/// where things are counted does one wait for the other, since a thing may not tell its round.
pub async fn run(journey: Journey, node: Arc<str>, left: Vec<Left>, hands: Hands) {
    let things = counts_things(&journey);
    let at_once = if things { 1 } else { LEFT_AT_ONCE };
    let walks: Vec<BoxFuture<'_, ()>> =
        left.into_iter().map(|left| resume(&journey, left, &hands).boxed()).collect();
    let resumed = stream::iter(walks).buffer_unordered(at_once).collect::<()>();
    if things {
        resumed.await;
        send_rounds(&journey, &node, &hands).await;
    } else {
        tokio::join!(resumed, send_rounds(&journey, &node, &hands));
    }
    clear_away(&journey, &hands.clients).await;
}

/// What the sender made for itself goes with its last round.
pub(super) async fn clear_away(journey: &Journey, clients: &Clients) {
    let trace = Trace::off();
    let on = SendContext { timeout: CLEARING, clients, trace: &trace };
    let cleared = tokio::time::timeout(CLEARING, journey.sender.clear_away(on)).await;
    if let Ok(Err(fault)) = cleared {
        tracing::warn!(journey = &*journey.id, %fault, "what it had made is left behind");
    }
}

/// What a look back saw of a round that had ended without all of its events; how many came after
/// all.
pub(super) async fn looked_back(
    journey: &Journey,
    due: &DueRecheck,
    (began, look): (Mono, Look),
    hands: &Hands,
) -> u64 {
    let lacking = hands.rechecks.lacking(&due.run);
    // A round of another question is counted nowhere.
    let Some(lacking) = lacking.filter(|kept| kept.evidence == journey.evidence) else { return 0 };
    let Ok(progress) = serde_json::from_str(&lacking.progress) else { return 0 };
    let left = Left { run: due.run.clone(), began: due.began, progress };
    let mut round = Round::resumed(journey, left);
    (round.ended, round.kept) = (Some(lacking.at), Some(lacking.progress));
    round.looked_back(due.stage, began, look, hands).await
}

async fn resume(journey: &Journey, left: Left, hands: &Hands) {
    if !hands.cancel.is_cancelled() {
        Round::resumed(journey, left).walk_to_end(hands, &Trace::off()).await;
    }
}

async fn send_rounds(journey: &Journey, node: &str, hands: &Hands) {
    if hands.cancel.is_cancelled() {
        return;
    }
    if journey.elsewhere.is_some() {
        return hands.stop.cancelled().await;
    }
    let schedule = Schedule::new(journey.every, node, &journey.id);
    let mut due = schedule.next_after(Mono::now());
    let mut finished = FuturesUnordered::new();
    let mut memory = Memory { alerted: None, since: clock::now().wall };
    loop {
        tokio::select! {
            biased;
            () = hands.stop.cancelled() => return,
            () = clock::sleep_until(due) => {}
            Some(()) = finished.next() => continue,
        }
        let now = Mono::now();
        let late = schedule.ticks_between(due, now);
        if late > 0 {
            let _ =
                hands.records.send(Record::Missed { check: journey.id.clone(), count: late }).await;
        }
        due = schedule.next_after(now);
        if !journey.allowed_times.allow(clock::now().wall) {
            continue;
        }
        // A thing may not tell its round: what comes from now on is the new one's.
        if counts_things(journey) {
            finished.clear();
        }
        let mut round = match Round::begin(journey, memory, hands, &Trace::off()).await {
            Ok(round) => round,
            Err(fault) => {
                tracing::warn!(journey = &*journey.id, %fault, "a round could not begin");
                let news =
                    RoundNews::NotBegun { journey: journey.id.clone(), at: clock::now(), fault };
                let _ = hands.records.send(Record::Round(news)).await;
                continue;
            }
        };
        walk_beside(&mut round, &mut finished, hands).await;
        if hands.cancel.is_cancelled() {
            return;
        }
        let alerted = round.alerted().map(|at| clock::now().wall_of(at));
        memory.alerted = alerted.or(memory.alerted);
        // Ticks that passed while the round was under way are missed, never queued.
        let now = Mono::now();
        let late = schedule.ticks_between(due.minus(Duration::from_nanos(1)), now);
        if late > 0 {
            let _ =
                hands.records.send(Record::Missed { check: journey.id.clone(), count: late }).await;
            due = schedule.next_after(now);
        }
        if let Some(until) = round.spared.filter(|until| *until > due) {
            let last = due.plus(journey.every * SPARED);
            let resumed = schedule.next_after(until.min(last).minus(Duration::from_nanos(1)));
            let count = schedule.ticks_between(due, resumed);
            tracing::info!(journey = &*journey.id, count, "rounds are left out, as was asked for");
            let news = RoundNews::Spared { journey: journey.id.clone(), count };
            let _ = hands.records.send(Record::Round(news)).await;
            due = resumed;
        }
        if finished.len() < WATCHED_AT_ONCE {
            finished.push(async move { round.watch_on(due, hands).await }.boxed());
        }
    }
}

/// A round to its end, and beside it the looks at those that ended before.
async fn walk_beside(
    round: &mut Round<'_>,
    finished: &mut FuturesUnordered<BoxFuture<'_, ()>>,
    hands: &Hands,
) {
    let trace = Trace::off();
    let mut walk = pin!(round.walk_to_end(hands, &trace));
    loop {
        tokio::select! {
            biased;
            () = &mut walk => return,
            Some(()) = finished.next() => {}
        }
    }
}

fn counts_things(journey: &Journey) -> bool {
    journey.stages.iter().any(|plan| plan.stage.counts_things())
}

/// One round outside the agent, for `once`: nothing is stored, nothing is judged.
pub async fn once(
    journey: &Journey,
    secrets: &[Secret],
    trace: &Trace,
) -> Result<(Tally, Specimen), Fault> {
    let (records, mut unheard) = Records::new(RECORDS);
    let hands = Hands {
        clients: Clients::default(),
        records,
        store: Store::memory().0,
        rechecks: Rechecks::default(),
        secrets: secrets.into(),
        stop: CancellationToken::new(),
        cancel: CancellationToken::new(),
    };
    hands.clients.inbox().close();
    let memory = Memory { alerted: None, since: clock::now().wall };
    let mut round = Round::begin(journey, memory, &hands, trace).await?;
    let listen = async { while unheard.recv().await.is_some() {} };
    tokio::select! {
        () = round.walk_to_end(&hands, trace) => {}
        () = listen => {}
    }
    clear_away(journey, &hands.clients).await;
    Ok((round.tally(), round.specimen(&hands)))
}

/// What an earlier run left under way, by journey. A round of a journey that the plan no longer
/// has, or that can't be read, ends here: nothing more can be known of it.
pub(super) fn sort(
    left: Vec<OpenRound>,
    plan: &Plan,
    store: &Store,
) -> BTreeMap<Arc<str>, Vec<Left>> {
    let mut sorted: BTreeMap<Arc<str>, Vec<Left>> = BTreeMap::new();
    for round in left {
        let progress = serde_json::from_value::<Progress>(round.progress);
        match (plan.journey(&round.journey), progress) {
            (Some(journey), Ok(progress)) if *progress.of == *journey.evidence => {
                let left = Left { run: round.run, began: round.began, progress };
                sorted.entry(journey.id.clone()).or_default().push(left);
            }
            (_, progress) => {
                let why = match progress {
                    Err(error) => error.to_string(),
                    Ok(_) => "the plan has another journey of this name, or none".to_owned(),
                };
                tracing::warn!(
                    journey = &*round.journey,
                    run = &*round.run,
                    why,
                    "a round of an earlier run can't be gone on with"
                );
                let tally = json(&Tally::default());
                store.end_round(&round.run, &round.journey, clock::now(), tally, None);
            }
        }
    }
    sorted
}

/// What the sender needs of its own is there before anybody looks.
pub(super) async fn prepare(
    journey: &Journey,
    clients: &Clients,
    trace: &Trace,
) -> Result<(), Fault> {
    let on = SendContext { timeout: journey.timeout, clients, trace };
    let prepared = tokio::time::timeout(journey.timeout, journey.sender.prepare(on)).await;
    prepared.unwrap_or_else(|_| {
        let text = format!("{} was not ready to be sent to in time", journey.sender.kind());
        Err(Fault::new(FaultCode::Blind, text))
    })
}

/// A run that no other has.
pub fn new_run() -> Result<Run, Fault> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| {
        Fault::new(FaultCode::Unsupported, format!("no random numbers: {error}"))
    })?;
    Ok(run_from(random))
}

/// What is made of plain maps and numbers can always be written.
fn json(what: &impl Serialize) -> Value {
    serde_json::to_value(what).unwrap_or_default()
}
