//! One round under way, with what is sent beside it: what the walks say is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use super::ruled::Ruling;
use super::sides::{Beside, Mark, Side, Strand, astray, marks, new_walk, renderer, sought, turns};
use super::{Hands, LOOK_TIMEOUT, Left, clock, json, new_run, prepare, rechecks};
use crate::agent::record::{Record, RoundNews};
use crate::confirm::LookContext;
use crate::journey::exhibit::Exhibit;
use crate::journey::offset::Offset;
use crate::journey::rule::Memory;
use crate::journey::specimen::{Specimen, Specimens};
use crate::journey::tally::Tally;
use crate::journey::walk::Step;
use crate::journey::{Event, Look, Run, Stage, edges, twin};
use crate::outcome::{Fault, FaultCode};
use crate::plan::Journey;
use crate::send::SendContext;
use crate::spec::trace::Trace;
use crate::store::RoundRecord;
use crate::time::{Mono, Now};

/// Events are due so long after their round is ready: putting it on disk takes less, and so is no
/// part of any latency.
const LEAD: Duration = Duration::from_millis(20);

/// Everything of a round that a restart needs to go on with it.
#[derive(Serialize, Deserialize)]
pub(super) struct Progress {
    #[serde(flatten)]
    pub(super) own: Strand,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    twin: Option<Beside>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside: Option<Beside>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outside: Option<Beside>,
    /// What followed from the rule when the round began.
    #[serde(default)]
    ruling: Ruling,
    /// When the round was begun: monotonic and wall, in nanoseconds.
    began: (i64, i64),
    /// By stage and event, how old the feed was that enriched it; None where it does not show.
    #[serde(default)]
    pub(super) feed_ages: BTreeMap<Stage, BTreeMap<u64, Option<f64>>>,
    /// By stage, how far its clock is off.
    #[serde(default)]
    pub(super) clocks: BTreeMap<Stage, Clock>,
    /// By stage, the events that a wrong tenant saw.
    #[serde(default)]
    pub(super) exposed: BTreeMap<Stage, BTreeSet<u64>>,
    /// By stage, a picture of what it showed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) exhibits: BTreeMap<Stage, Exhibit>,
    /// When its first event was to be sent, on the wall clock: events are rendered again from it.
    pub(super) intended: i64,
    /// What it is evidence of.
    #[serde(default)]
    pub(super) of: String,
}

/// What is known of a clock, and by which events.
type Clock = (Option<Offset>, BTreeSet<u64>);

/// One round under way.
pub(super) struct Round<'a> {
    pub(super) journey: &'a Journey,
    pub(super) run: Run,
    pub(super) began: Now,
    /// When the last of its fates was decided.
    pub(super) ended: Option<Now>,
    /// What looks back know of it, where it ended without all of its events.
    pub(super) kept: Option<Arc<str>>,
    pub(super) progress: Progress,
    /// Not stored: after a restart the later stages show only what they showed since.
    specimens: Specimens,
    /// A stage is looked at for one side at a time: what reads a file is not read twice at once.
    turns: BTreeMap<Stage, Arc<Mutex<()>>>,
    /// Until when the platform asked to be left alone.
    pub(super) spared: Option<Mono>,
}

impl<'a> Round<'a> {
    /// Looks where each stage stands, and puts the round on disk: only then may an event be sent.
    pub(super) async fn begin(
        journey: &'a Journey,
        memory: Memory,
        hands: &Hands,
        trace: &Trace,
    ) -> Result<Self, Fault> {
        prepare(journey, &hands.clients, trace).await?;
        let began = clock::now();
        let run = new_run()?;
        let ruling = Ruling::read(journey, memory, &hands.clients, trace).await;
        let ages = ruling.ages().map(|ages| ages.map(Some)).unwrap_or_default();
        let twin = journey.twin.as_ref().map(|_| Duration::ZERO);
        let mut beside = Vec::with_capacity(Side::BESIDE.len());
        for (side, aged) in Side::BESIDE.into_iter().zip([twin].into_iter().chain(ages)) {
            beside.push(match aged {
                Some(aged) => {
                    let run = new_run()?;
                    let marks = marks(journey, side, &run, began, hands, trace).await;
                    Some((side, run, marks, aged))
                }
                None => None,
            });
        }
        let own = marks(journey, Side::Own, &run, began, hands, trace).await;
        let now = clock::now();
        let intended = Now { mono: now.mono.plus(LEAD), wall: now.wall.plus(LEAD) };
        let strand =
            |side, marks| Strand { walk: new_walk(journey, side, &ruling, intended.mono), marks };
        let mut beside = beside.into_iter().map(|beside| {
            let (side, run, marks, aged) = beside?;
            Some(Beside { run, strand: strand(side, marks), aged })
        });
        let progress = Progress {
            own: strand(Side::Own, own),
            twin: beside.next().flatten(),
            inside: beside.next().flatten(),
            outside: beside.next().flatten(),
            feed_ages: BTreeMap::new(),
            clocks: BTreeMap::new(),
            exposed: BTreeMap::new(),
            exhibits: BTreeMap::new(),
            began: (began.mono.0, began.wall.0),
            intended: intended.wall.0,
            ruling: ruling.clone(),
            of: journey.evidence.to_string(),
        };
        let specimens = Specimens::default();
        let turns = turns(journey);
        let (ended, kept, spared) = (None, None, None);
        let round = Self { journey, run, began, ended, kept, progress, specimens, turns, spared };
        hands.store.begin_round(round.record()).await?;
        clock::sleep_until(intended.mono).await;
        Ok(round)
    }

    /// A round that an earlier run of the agent left under way.
    pub(super) fn resumed(journey: &'a Journey, left: Left) -> Self {
        let Left { run, began, mut progress } = left;
        // After a reboot the monotonic clock is another one. In the same boot nothing moves, also
        // where the wall clock was set meanwhile.
        let prepared = progress.own.walk.began().since(Mono(progress.began.0));
        let beside = [&mut progress.twin, &mut progress.inside, &mut progress.outside];
        let beside = beside.into_iter().flatten().map(|beside| &mut beside.strand);
        for strand in [&mut progress.own].into_iter().chain(beside) {
            strand.walk.rebase(began.mono.plus(prepared));
            strand.walk.resumed();
        }
        progress.began.0 = began.mono.0;
        let specimens = Specimens::default();
        let turns = turns(journey);
        let (ended, kept, spared) = (None, None, None);
        Self { journey, run, began, ended, kept, progress, specimens, turns, spared }
    }

    fn beside(&self, side: Side) -> Option<&Beside> {
        match side {
            Side::Own => None,
            Side::Twin => self.progress.twin.as_ref(),
            Side::Inside => self.progress.inside.as_ref(),
            Side::Outside => self.progress.outside.as_ref(),
        }
    }

    fn strand(&self, side: Side) -> &Strand {
        self.beside(side).map_or(&self.progress.own, |beside| &beside.strand)
    }

    fn strand_mut(&mut self, side: Side) -> &mut Strand {
        let Progress { own, twin, inside, outside, .. } = &mut self.progress;
        let beside = match side {
            Side::Own => None,
            Side::Twin => twin.as_mut(),
            Side::Inside => inside.as_mut(),
            Side::Outside => outside.as_mut(),
        };
        beside.map_or(own, |beside| &mut beside.strand)
    }

    fn run_of(&self, side: Side) -> &Run {
        self.beside(side).map_or(&self.run, |beside| &beside.run)
    }

    fn aged(&self, side: Side) -> Duration {
        self.beside(side).map(|beside| beside.aged).unwrap_or_default()
    }

    fn sides(&self) -> impl Iterator<Item = Side> + use<> {
        let there = Side::BESIDE.map(|side| self.beside(side).is_some().then_some(side));
        [Side::Own].into_iter().chain(there.into_iter().flatten())
    }

    /// When its alert was seen.
    pub(super) fn alerted(&self) -> Option<Mono> {
        let sides = [Side::Own].into_iter().chain(self.beside(Side::Inside).map(|_| Side::Inside));
        sides.filter_map(|side| self.strand(side).walk.last_seen(Stage::Alerted)).max()
    }

    fn record(&self) -> RoundRecord {
        RoundRecord {
            run: self.run.clone(),
            journey: self.journey.id.clone(),
            began: self.began,
            first_seq: self.progress.own.walk.first_seq(),
            count: self.progress.own.walk.count(),
            progress: json(&self.progress),
        }
    }

    /// Does what the walk says until every fate is decided.
    pub(super) async fn walk_to_end(&mut self, hands: &Hands, trace: &Trace) {
        let _ = hands
            .records
            .send(Record::Round(RoundNews::Begun {
                journey: self.journey.id.clone(),
                at: self.began,
                count: self.progress.own.walk.count(),
            }))
            .await;
        let mut looks = FuturesUnordered::new();
        loop {
            let mut wait: Option<Mono> = None;
            let mut done = true;
            let mut told = false;
            let now = Mono::now();
            let steps: Vec<(Side, Step)> = self
                .sides()
                .flat_map(|side| {
                    let steps = self.strand_mut(side).walk.next(now);
                    steps.into_iter().map(move |step| (side, step))
                })
                .collect();
            for (side, step) in steps {
                match step {
                    Step::Send { seqs } => {
                        self.send(side, &seqs, hands, trace).await;
                        told = true;
                    }
                    Step::Look(stage) => {
                        if let Some(look) = self.look(side, stage, hands, trace) {
                            looks.push(look);
                        }
                    }
                    Step::Wait(until) => {
                        wait = Some(wait.map_or(until, |wait| wait.min(until)));
                        done = false;
                    }
                    Step::Done => {}
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
                () = sleep => {}
            }
        }
        self.ended = Some(clock::now());
        self.draw(hands, trace).await;
        let news = self.news(None, Some(self.specimen(hands)));
        let _ = hands.records.send(Record::Round(news)).await;
        self.keep_end(&self.tally(), hands);
        let Progress { own, intended, .. } = &self.progress;
        rechecks::expect(self.journey, &self.run, self.began, *intended, &own.walk, hands).await;
    }

    async fn send(&mut self, side: Side, seqs: &[u64], hands: &Hands, trace: &Trace) {
        let events: Vec<_> = {
            let render = self.renderer(side);
            seqs.iter().map(|seq| render(*seq)).collect()
        };
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
            self.strand_mut(side).walk.receipt(event.seq, receipt);
        }
        self.keep(hands);
    }

    pub(super) fn look<'b>(
        &self,
        side: Side,
        stage: Stage,
        hands: &'b Hands,
        trace: &'b Trace,
    ) -> Option<impl Future<Output = Seen> + use<'b>> {
        let plan = self.journey.stage(stage)?;
        let confirmer = plan.confirmer.clone()?;
        let strand = self.strand(side);
        let mark = strand.marks.get(&stage).cloned();
        let sent = strand.walk.sent();
        let mut sought = sought(self.journey, side, self.run_of(side), plan, sent, self.began);
        sought.aged += self.aged(side);
        let turn = self.turns.get(&stage).cloned();
        Some(async move {
            let _turn = match &turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            let now = clock::now();
            if !stage.counts_things() {
                sought.aged += astray(now.mono.since(sought.began.mono));
            }
            let mut value = match mark {
                Some(Mark::Set(value)) => value,
                Some(Mark::Blind(text)) => {
                    let look = Look::blind(Fault::new(FaultCode::Blind, text));
                    return Seen { side, stage, began: now.mono, look, mark: None };
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
                Ok(look) => Seen { side, stage, began: now.mono, look, mark: Some(value) },
                // The mark may be half changed: the next look starts from the old one.
                Err(_) => Seen {
                    side,
                    stage,
                    began: now.mono,
                    look: Look::blind(Fault::new(FaultCode::Blind, "the look took too long")),
                    mark: None,
                },
            }
        })
    }

    async fn seen(&mut self, seen: Seen, hands: &Hands) {
        self.tell_blind(&seen, hands).await;
        let arrived = !seen.look.arrivals.is_empty();
        self.take_in(seen);
        if arrived {
            self.keep(hands);
        }
    }

    pub(super) async fn tell_blind(&self, seen: &Seen, hands: &Hands) {
        if matches!(seen.look.horizon, crate::journey::Horizon::Blind(_)) {
            let news = RoundNews::BlindLook { journey: self.journey.id.clone(), stage: seen.stage };
            let _ = hands.records.send(Record::Round(news)).await;
        }
    }

    pub(super) fn take_in(&mut self, mut seen: Seen) {
        if seen.side == Side::Own {
            self.judge_feeds(seen.stage, &mut seen.look);
            self.bound_clock(seen.stage, &seen.look);
            self.note_exposed(seen.stage, &seen.look);
            self.specimens.take(seen.stage, &seen.look.arrivals);
        }
        if let Some(mark) = seen.mark {
            let strand = self.strand_mut(seen.side);
            if let Some(saw) = mark.get(crate::confirm::reading::SAW).and_then(Value::as_str) {
                strand.walk.saw(seen.stage, saw);
            }
            strand.marks.insert(seen.stage, Mark::Set(mark));
        }
        let (journey, run) = (self.journey, self.run_of(seen.side).clone());
        let aged = self.aged(seen.side);
        let render = renderer(journey, seen.side, &run, self.progress.intended, aged);
        self.strand_mut(seen.side).walk.look(seen.stage, seen.look, seen.began, render);
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = self.progress.own.walk.tally();
        if let Some(twin) = &self.progress.twin {
            twin::judge(&twin.strand.walk.tally(), &mut tally);
        }
        let walked = |side| self.beside(side).map(|beside| beside.strand.walk.tally());
        match (&self.progress.ruling.edges, walked(Side::Inside).zip(walked(Side::Outside))) {
            (Some(Ok(edges)), Some((inside, outside))) => {
                edges::judge(*edges, &inside, &outside, &mut tally);
            }
            (Some(Err(why)), _) => edges::untold(why, &mut tally),
            _ => {}
        }
        for stage in &mut tally.stages {
            stage.clock = self.progress.clocks.get(&stage.stage).and_then(|(offset, _)| *offset);
            stage.exposed = self.progress.exposed.get(&stage.stage).map(|seqs| seqs.len() as u64);
            stage.exhibit = self.progress.exhibits.get(&stage.stage).cloned();
            let ages = self.progress.feed_ages.get(&stage.stage);
            stage.feed_ages = ages.into_iter().flat_map(BTreeMap::values).copied().collect();
        }
        tally
    }

    /// One event as each stage showed it.
    pub(super) fn specimen(&self, hands: &Hands) -> Specimen {
        let secrets: Vec<String> = hands
            .secrets
            .iter()
            .filter_map(|secret| Some(secret.reveal().ok()?.expose().to_owned()))
            .collect();
        let render = self.renderer(Side::Own);
        self.specimens.of(&self.progress.own.walk, &self.run, &secrets, render)
    }

    /// Puts the round's state where a restart finds it.
    fn keep(&self, hands: &Hands) {
        hands.store.round_progress(&self.run, json(&self.progress));
    }

    /// Renders any event of a side again.
    fn renderer(&self, side: Side) -> impl Fn(u64) -> Event + '_ {
        let aged = self.aged(side);
        renderer(self.journey, side, self.run_of(side), self.progress.intended, aged)
    }
}

pub(super) struct Seen {
    pub(super) side: Side,
    pub(super) stage: Stage,
    pub(super) began: Mono,
    pub(super) look: Look,
    pub(super) mark: Option<Value>,
}
