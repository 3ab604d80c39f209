//! Journeys: one task each, that sends a round when it is due and walks it to its end.
//!
//! The walk decides; this file only does what it says: sends, looks, waits, stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::clock;
use super::rechecks::{self, Rechecks};
use super::recorder::{Record, Records, RoundNews};
use crate::client::Clients;
use crate::confirm::{LookContext, Sought};
use crate::journey::event::run_from;
use crate::journey::offset::Offset;
use crate::journey::specimen::{Specimen, Specimens};
use crate::journey::tally::Tally;
use crate::journey::walk::{StageSpec, Step, Walk, WalkSpec};
use crate::journey::{Event, Fate, Look, Run, Stage};
use crate::outcome::{Fault, FaultCode};
use crate::plan::{Equals, Journey, Plan, StagePlan};
use crate::send::SendContext;
use crate::spec::secret::Secret;
use crate::spec::trace::Trace;
use crate::store::{OpenRound, RoundRecord, Store};
use crate::time::{Mono, Now, Schedule, Wall};

mod beside;

/// A look that takes longer than this saw nothing.
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// What a sender made is deleted in this time, or left.
const CLEARING: Duration = Duration::from_secs(5);
/// Each round has a run of its own, so its events are counted from one.
const FIRST_SEQ: u64 = 1;
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
/// Rounds that an earlier run left are walked on with so many at once, so that a platform isn't
/// flooded with looks after a restart.
const LEFT_AT_ONCE: usize = 8;

/// Everything of a round that a restart needs to go on with it.
#[derive(Serialize, Deserialize)]
pub struct Progress {
    walk: Walk,
    /// What each stage's confirmer remembers.
    marks: BTreeMap<Stage, Mark>,
    /// When the round was begun: monotonic and wall, in nanoseconds.
    began: (i64, i64),
    /// By stage and event, how old the feed was that enriched it; None where it does not show.
    #[serde(default)]
    feed_ages: BTreeMap<Stage, BTreeMap<u64, Option<f64>>>,
    /// By stage, how far its clock is off.
    #[serde(default)]
    clocks: BTreeMap<Stage, Clock>,
    /// By stage, the events that a wrong tenant saw.
    #[serde(default)]
    exposed: BTreeMap<Stage, BTreeSet<u64>>,
    /// When its first event was to be sent, on the wall clock: events are rendered again from it.
    intended: i64,
}

/// What is known of a clock, and by which events.
type Clock = (Option<Offset>, BTreeSet<u64>);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Mark {
    Set(Value),
    /// It could not be told where the stage stood when the round began, so that an older event
    /// could be taken for one of its own: all looks are blind. The text says why.
    Blind(String),
}

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
    let things = journey.stages.iter().any(|plan| plan.stage.counts_things());
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
    let mut finished: Option<Round<'_>> = None;
    loop {
        let watch = async {
            match finished.as_mut() {
                Some(round) => round.watch_on(hands).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = hands.stop.cancelled() => return,
            () = clock::sleep_until(due) => {}
            () = watch => { finished = None; continue; }
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
        // A new round takes over the journey's task: the old one has been watched long enough.
        finished = None;
        let mut round = match Round::begin(journey, hands, &Trace::off()).await {
            Ok(round) => round,
            Err(fault) => {
                tracing::warn!(journey = &*journey.id, %fault, "a round could not begin");
                let news =
                    RoundNews::NotBegun { journey: journey.id.clone(), at: clock::now(), fault };
                let _ = hands.records.send(Record::Round(news)).await;
                continue;
            }
        };
        round.walk_to_end(hands, &Trace::off()).await;
        if hands.cancel.is_cancelled() {
            return;
        }
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
        finished = round.is_wanting().then_some(round);
    }
}

/// One round under way.
struct Round<'a> {
    journey: &'a Journey,
    run: Run,
    began: Now,
    progress: Progress,
    /// Not stored: after a restart the later stages show only what they showed since.
    specimens: Specimens,
    /// Until when the platform asked to be left alone.
    spared: Option<Mono>,
}

impl<'a> Round<'a> {
    /// Looks where each stage stands, and puts the round on disk: only then may an event be sent.
    async fn begin(journey: &'a Journey, hands: &Hands, trace: &Trace) -> Result<Self, Fault> {
        prepare(journey, &hands.clients, trace).await?;
        let began = clock::now();
        let run = new_run()?;
        let beginnings = journey.stages.iter().filter_map(|plan| {
            let confirmer = plan.confirmer.clone()?;
            let sought = sought(journey, &run, plan, 0, began);
            Some(async move {
                let on = LookContext {
                    sought: &sought,
                    timeout: LOOK_TIMEOUT,
                    clients: &hands.clients,
                    trace,
                    now: began,
                };
                let begun = tokio::time::timeout(LOOK_TIMEOUT, confirmer.begin(on)).await;
                (plan.stage, Mark::of(begun))
            })
        });
        let marks = futures_util::future::join_all(beginnings).await.into_iter().collect();
        let intended = clock::now();
        let walk = Walk::new(WalkSpec {
            stages: journey.stages.iter().map(stage_spec).collect(),
            first_seq: FIRST_SEQ,
            count: journey.events.count(),
            began: intended.mono,
            pace: Duration::ZERO,
        });
        let progress = Progress {
            walk,
            marks,
            feed_ages: BTreeMap::new(),
            clocks: BTreeMap::new(),
            exposed: BTreeMap::new(),
            began: (began.mono.0, began.wall.0),
            intended: intended.wall.0,
        };
        let specimens = Specimens::default();
        let round = Self { journey, run, began, progress, specimens, spared: None };
        hands.store.begin_round(round.record()).await?;
        Ok(round)
    }

    /// A round that an earlier run of the agent left under way.
    fn resumed(journey: &'a Journey, left: Left) -> Self {
        let Left { run, began, mut progress } = left;
        // After a reboot the monotonic clock is another one. In the same boot nothing moves, also
        // where the wall clock was set meanwhile.
        let prepared = progress.walk.began().since(Mono(progress.began.0));
        progress.walk.rebase(began.mono.plus(prepared));
        progress.walk.resumed();
        progress.began.0 = began.mono.0;
        let specimens = Specimens::default();
        Self { journey, run, began, progress, specimens, spared: None }
    }

    fn record(&self) -> RoundRecord {
        RoundRecord {
            run: self.run.clone(),
            journey: self.journey.id.clone(),
            began: self.began,
            first_seq: self.progress.walk.first_seq(),
            count: self.progress.walk.count(),
            progress: json(&self.progress),
        }
    }

    /// Does what the walk says until every fate is decided.
    async fn walk_to_end(&mut self, hands: &Hands, trace: &Trace) {
        let _ = hands
            .records
            .send(Record::Round(RoundNews::Begun {
                journey: self.journey.id.clone(),
                at: self.began,
                count: self.progress.walk.count(),
            }))
            .await;
        let mut looks = FuturesUnordered::new();
        loop {
            let mut wait = None;
            let mut done = false;
            let mut told = false;
            for step in self.progress.walk.next(Mono::now()) {
                match step {
                    Step::Send { seqs } => {
                        self.send(&seqs, hands, trace).await;
                        told = true;
                    }
                    Step::Look(stage) => {
                        if let Some(look) = self.look(stage, hands, trace) {
                            looks.push(look);
                        }
                    }
                    Step::Wait(until) => wait = Some(until),
                    Step::Done => done = true,
                }
            }
            if done {
                break;
            }
            if told {
                // The receipts change what is to be done next.
                continue;
            }
            let idle = looks.is_empty();
            let sleep = async {
                match wait {
                    Some(until) => clock::sleep_until(until).await,
                    // Every stage is being looked at: the next thing to come is a look.
                    None if idle => tokio::task::yield_now().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = hands.cancel.cancelled() => {
                    self.keep(hands);
                    return;
                }
                Some(seen) = looks.next(), if !idle => self.seen(seen, hands).await,
                () = sleep => self.progress.walk.tick(Mono::now()),
            }
        }
        self.tell(hands).await;
        hands.store.end_round(&self.run, &self.journey.id, clock::now(), json(&self.tally()));
        let Progress { walk, intended, .. } = &self.progress;
        rechecks::expect(self.journey, &self.run, self.began, *intended, walk, hands).await;
    }

    async fn send(&mut self, seqs: &[u64], hands: &Hands, trace: &Trace) {
        let events: Vec<_> = seqs.iter().map(|seq| self.render(*seq)).collect();
        let on = SendContext { timeout: self.journey.timeout, clients: &hands.clients, trace };
        let work = tokio::time::timeout(
            self.journey.timeout + Duration::from_millis(500),
            self.journey.sender.send(&events, on),
        );
        let receipts = tokio::select! {
            biased;
            () = hands.cancel.cancelled() => Vec::new(),
            done = work => done.unwrap_or_default(),
        };
        // An event without a receipt is of unknown outcome: it may have been taken.
        let mut receipts = receipts.into_iter();
        for event in &events {
            let receipt = receipts.next().unwrap_or_else(|| {
                crate::journey::Receipt::Unknown(crate::outcome::Reason::new(
                    crate::outcome::ReasonCode::Timeout,
                    "the send was cut off before it had an answer",
                ))
            });
            trace.note(format_args!("event {} {}: {receipt:?}", event.seq, event.token));
            if let crate::journey::Receipt::Refused(reason) = &receipt
                && reason.asks_to_slow_down()
            {
                // Where it does not say for how long, the next round is too soon.
                let wait = reason.wait.unwrap_or(self.journey.every * 2);
                self.spared = self.spared.max(Some(Mono::now().plus(wait)));
            }
            self.progress.walk.receipt(event.seq, receipt);
        }
        self.keep(hands);
    }

    fn look<'b>(
        &self,
        stage: Stage,
        hands: &'b Hands,
        trace: &'b Trace,
    ) -> Option<impl Future<Output = Seen> + use<'b>> {
        let plan = self.journey.stage(stage)?;
        let confirmer = plan.confirmer.clone()?;
        let mark = self.progress.marks.get(&stage).cloned();
        let sent = self.progress.walk.sent();
        let sought = sought(self.journey, &self.run, plan, sent, self.began);
        Some(async move {
            let now = clock::now();
            let mut value = match mark {
                Some(Mark::Set(value)) => value,
                Some(Mark::Blind(text)) => {
                    let look = Look::blind(Fault::new(FaultCode::Blind, text));
                    return Seen { stage, began: now.mono, look, mark: None };
                }
                None => Value::Null,
            };
            let on = LookContext {
                sought: &sought,
                timeout: LOOK_TIMEOUT,
                clients: &hands.clients,
                trace,
                now,
            };
            let look = tokio::time::timeout(LOOK_TIMEOUT, confirmer.look(&mut value, on)).await;
            match look {
                Ok(look) => Seen { stage, began: now.mono, look, mark: Some(value) },
                // The mark may be half changed: the next look starts from the old one.
                Err(_) => Seen {
                    stage,
                    began: now.mono,
                    look: Look::blind(Fault::new(FaultCode::Blind, "the look took too long")),
                    mark: None,
                },
            }
        })
    }

    async fn seen(&mut self, mut seen: Seen, hands: &Hands) {
        self.judge_feeds(seen.stage, &mut seen.look);
        self.bound_clock(seen.stage, &seen.look);
        self.note_exposed(seen.stage, &seen.look);
        if let Some(mark) = seen.mark {
            if let Some(saw) = mark.get(crate::confirm::reading::SAW).and_then(Value::as_str) {
                self.progress.walk.saw(seen.stage, saw);
            }
            self.progress.marks.insert(seen.stage, Mark::Set(mark));
        }
        let blind = matches!(seen.look.horizon, crate::journey::Horizon::Blind(_));
        if blind {
            let news = RoundNews::BlindLook { journey: self.journey.id.clone(), stage: seen.stage };
            let _ = hands.records.send(Record::Round(news)).await;
        }
        let arrived = !seen.look.arrivals.is_empty();
        self.specimens.take(seen.stage, &seen.look.arrivals);
        let render = renderer(self.journey, &self.run, self.progress.intended);
        self.progress.walk.look(seen.stage, seen.look, seen.began, render);
        if arrived {
            self.keep(hands);
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = self.progress.walk.tally();
        for stage in &mut tally.stages {
            stage.clock = self.progress.clocks.get(&stage.stage).and_then(|(offset, _)| *offset);
            stage.exposed = self.progress.exposed.get(&stage.stage).map(|seqs| seqs.len() as u64);
            let ages = self.progress.feed_ages.get(&stage.stage);
            stage.feed_ages = ages.into_iter().flat_map(BTreeMap::values).copied().collect();
        }
        tally
    }

    /// One event as each stage showed it.
    fn specimen(&self, hands: &Hands) -> Specimen {
        let secrets: Vec<String> = hands
            .secrets
            .iter()
            .filter_map(|secret| Some(secret.reveal().ok()?.expose().to_owned()))
            .collect();
        let render = renderer(self.journey, &self.run, self.progress.intended);
        self.specimens.of(&self.progress.walk, &self.run, &secrets, render)
    }

    /// Puts the round's state where a restart finds it.
    fn keep(&self, hands: &Hands) {
        hands.store.round_progress(&self.run, json(&self.progress));
    }

    async fn tell(&self, hands: &Hands) {
        let news = RoundNews::Ended {
            journey: self.journey.id.clone(),
            run: self.run.clone(),
            at: clock::now(),
            tally: self.tally(),
            specimen: Box::new(self.specimen(hands)),
        };
        let _ = hands.records.send(Record::Round(news)).await;
    }

    /// Whether something may still come: an event or thing that did not arrive, or of which
    /// nobody knows.
    fn is_wanting(&self) -> bool {
        let absent = [Fate::Lost, Fate::Unknown, Fate::Inconclusive];
        let tally = self.progress.walk.tally();
        tally.stages.iter().any(|stage| absent.iter().any(|fate| stage.count(*fate) > 0))
    }

    fn resurrected(&self) -> u64 {
        self.progress.walk.tally().stages.iter().map(|stage| stage.resurrected).sum()
    }

    fn render(&self, seq: u64) -> Event {
        renderer(self.journey, &self.run, self.progress.intended)(seq)
    }

    /// Looks on at a slow pace after the end, and mends the tally when something comes.
    async fn watch_on(&mut self, hands: &Hands) {
        let longest =
            self.journey.stages.iter().map(|stage| stage.give_up).max().unwrap_or_default();
        let until = Mono::now().plus(longest * AFTERWATCH);
        let pace = self.journey.stages.iter().map(|stage| stage.poll).max().unwrap_or(LOOK_TIMEOUT)
            * AFTERWATCH_PACE;
        while Mono::now() < until && self.is_wanting() {
            tokio::time::sleep(pace).await;
            let before = self.resurrected();
            for stage in self.journey.stages.iter().map(|plan| plan.stage) {
                if let Some(look) = self.look(stage, hands, &Trace::off()) {
                    let seen = look.await;
                    self.seen(seen, hands).await;
                }
            }
            if self.resurrected() > before {
                self.tell(hands).await;
                hands.store.end_round(
                    &self.run,
                    &self.journey.id,
                    clock::now(),
                    json(&self.tally()),
                );
            }
        }
    }
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
    let mut round = Round::begin(journey, &hands, trace).await?;
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
            (Some(journey), Ok(progress)) => {
                let left = Left { run: round.run, began: round.began, progress };
                sorted.entry(journey.id.clone()).or_default().push(left);
            }
            (_, progress) => {
                let why = progress.err().map(|error| error.to_string()).unwrap_or_default();
                tracing::warn!(
                    journey = &*round.journey,
                    run = &*round.run,
                    why,
                    "a round of an earlier run can't be gone on with"
                );
                store.end_round(&round.run, &round.journey, clock::now(), json(&Tally::default()));
            }
        }
    }
    sorted
}

fn sought(journey: &Journey, run: &Run, plan: &StagePlan, sent: u64, began: Now) -> Sought {
    Sought {
        journey: journey.id.clone(),
        run: run.clone(),
        stage: plan.stage,
        first_seq: FIRST_SEQ,
        count: journey.events.count(),
        sent,
        equals: plan.equals.map(|equals| match equals {
            Equals::Sent => sent as f64,
            Equals::Number(number) => number,
        }),
        began,
    }
}

/// Renders any event of a round again.
fn renderer<'a>(journey: &'a Journey, run: &'a Run, intended: i64) -> impl Fn(u64) -> Event + 'a {
    move |seq| journey.events.render(run, &journey.id, seq, Wall(intended))
}

struct Seen {
    stage: Stage,
    began: Mono,
    look: Look,
    mark: Option<Value>,
}

impl Mark {
    fn of(begun: Result<Result<Value, Fault>, tokio::time::error::Elapsed>) -> Self {
        match begun {
            Ok(Ok(value)) => Self::Set(value),
            Ok(Err(fault)) => Self::Blind(fault.to_string()),
            Err(_) => Self::Blind("no answer before the round began".to_owned()),
        }
    }
}

fn stage_spec(plan: &StagePlan) -> StageSpec {
    StageSpec {
        stage: plan.stage,
        within: plan.within,
        give_up: plan.give_up,
        poll: plan.poll,
        expect: plan.expect.clone(),
        exactly: plan.exactly,
        has_confirmer: plan.confirmer.is_some(),
    }
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
