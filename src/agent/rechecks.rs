//! Looks back: what a stage had shown of a round is asked for again, hours and days later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::clock;
use super::record::{Record, RoundNews};
use super::rounds::{self, FURTHEST, Hands, LOOK_TIMEOUT, ROUND_OF};
use crate::confirm::{LookContext, Sought};
use crate::journey::recheck::{Expected, Rechecked, Rechecking};
use crate::journey::{Horizon, Look, Run, Stage};
use crate::lanes::Fill;
use crate::outcome::{Fault, FaultCode};
use crate::plan::{Journey, Plan};
use crate::spec::trace::Trace;
use crate::store::{DoneRecheck, DueRecheck, EndedRound};
use crate::time::{Mono, Now, Wall};

/// Looks back that may be due: thirty journeys' rounds of a day, every five minutes.
const LIMIT: usize = 10_000;
/// Events of the rounds in which a look back may find more: some 20 MB.
const LACKING_LIMIT: usize = 100_000;
/// A platform isn't flooded with looks after a night in which nobody asked.
const AT_ONCE: usize = 4;
/// Looks of one re-check, before what they could not tell is called inconclusive.
const LOOKS: u32 = 6;
/// Between two looks of one re-check.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));
/// How often it is tried again outside of a journey's allowed times.
const RESTING: Duration = Duration::from_secs(60);

/// What is needed to know a round's events again, beside its numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Promise {
    events: Expected,
    /// When the first event was to be sent, on the wall clock.
    intended: i64,
    count: u64,
    first_seq: u64,
    /// Of [`Journey::promise`].
    plan: String,
    /// What the round is evidence of; an older version did not say, and then it is of nothing.
    #[serde(default)]
    evidence: Arc<str>,
}

type Key = (Run, Stage, Duration);

/// A round that ended without all of its events, as it is known now.
#[derive(Clone)]
pub(super) struct Lacking {
    /// When it ended.
    pub(super) at: Now,
    pub(super) events: usize,
    /// What it is evidence of, as the plan was then.
    pub(super) evidence: Arc<str>,
    /// What a restart finds too, as JSON.
    pub(super) progress: Arc<str>,
}

/// What is due, and when. It outlives a plan: rounds end under the plan that they began with.
#[derive(Clone, Default)]
pub(super) struct Rechecks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    due: Mutex<BTreeMap<Key, DueRecheck>>,
    more: Notify,
    dropped: AtomicU64,
    /// Each with something due.
    lacking: Mutex<BTreeMap<Run, Lacking>>,
    forgotten: AtomicU64,
}

impl Rechecks {
    /// What an earlier run left.
    pub(super) fn recovered(left: Vec<DueRecheck>, ended: &[EndedRound]) -> Self {
        let rechecks = Self::default();
        for due in left {
            rechecks.put(due);
        }
        for round in ended {
            let Some(progress) = &round.progress else { continue };
            if rechecks.due().keys().any(|(run, ..)| *run == round.run) {
                let events = progress["own"]["walk"]["receipts"].as_array().map_or(0, Vec::len);
                let progress = progress.to_string().into();
                let evidence = round.tally[ROUND_OF].as_str().unwrap_or_default().into();
                rechecks.keep(&round.run, Lacking { at: round.at, events, evidence, progress });
            }
        }
        rechecks
    }

    pub(super) fn fills(&self) -> [Fill; 2] {
        let (length, dropped) = (self.due().len(), self.0.dropped.load(Relaxed));
        let due = Fill { queue: "rechecks", length, limit: LIMIT, dropped };
        let lacking = self.lacking_rounds();
        let length = lacking.values().map(|lacking| lacking.events).sum();
        let dropped = self.0.forgotten.load(Relaxed);
        [due, Fill { queue: "rechecks_lacking", length, limit: LACKING_LIMIT, dropped }]
    }

    fn lacking_rounds(&self) -> MutexGuard<'_, BTreeMap<Run, Lacking>> {
        self.0.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a round that lacks something, until nothing is due of it any more.
    pub(super) fn lacking(&self, run: &Run) -> Option<Lacking> {
        self.lacking_rounds().get(run).cloned()
    }

    /// False where it found no room: what was lost there stays lost, whatever is found.
    pub(super) fn keep(&self, run: &Run, lacking: Lacking) -> bool {
        let mut all = self.lacking_rounds();
        let held: usize = all.values().map(|lacking| lacking.events).sum();
        if !all.contains_key(run) && held.saturating_add(lacking.events) > LACKING_LIMIT {
            self.0.forgotten.fetch_add(1, Relaxed);
            return false;
        }
        all.insert(run.clone(), lacking);
        true
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<Key, DueRecheck>> {
        self.0.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False where it found no room.
    fn put(&self, due: DueRecheck) -> bool {
        let mut all = self.due();
        let key = (due.run.clone(), due.stage, due.after);
        if all.len() >= LIMIT && !all.contains_key(&key) {
            self.0.dropped.fetch_add(1, Relaxed);
            return false;
        }
        all.insert(key, due);
        self.0.more.notify_one();
        true
    }

    fn next(&self, busy: &BTreeSet<Key>) -> Option<DueRecheck> {
        let all = self.due();
        let free = all.iter().filter(|(key, _)| !busy.contains(*key));
        free.map(|(_, due)| due).min_by_key(|due| due.due.mono).cloned()
    }

    fn postpone(&self, key: &Key, until: Mono) {
        if let Some(due) = self.due().get_mut(key) {
            due.due.mono = until;
        }
    }

    fn done(&self, key: &Key) {
        let mut due = self.due();
        due.remove(key);
        if !due.keys().any(|(run, ..)| *run == key.0) {
            self.lacking_rounds().remove(&key.0);
        }
    }
}

/// A round has ended: what its stages showed is due again, where the plan says so.
pub(super) async fn expect(
    journey: &Journey,
    run: &Run,
    began: Now,
    intended: i64,
    walk: &crate::journey::walk::Walk,
    hands: &Hands,
) {
    let lacks = hands.rechecks.lacking(run).is_some();
    for plan in journey.stages.iter().filter(|plan| !plan.recheck.is_empty()) {
        let events = walk.shown(plan.stage);
        if events.count() == 0 && (!lacks || walk.lacking(plan.stage).is_empty()) {
            continue;
        }
        let Some(plan_of) = journey.promise(plan.stage) else { continue };
        let promise = Promise {
            events,
            intended,
            count: walk.count(),
            first_seq: walk.first_seq(),
            plan: plan_of,
            evidence: journey.evidence.clone(),
        };
        for after in &plan.recheck {
            let now = clock::now();
            let due = DueRecheck {
                run: run.clone(),
                journey: journey.id.clone(),
                stage: plan.stage,
                after: *after,
                began,
                due: Now { mono: now.mono.plus(*after), wall: now.wall.plus(*after) },
                expected: serde_json::to_value(&promise).unwrap_or_default(),
            };
            if hands.rechecks.put(due.clone()) {
                hands.store.recheck_due(due, now);
            } else {
                let why = format!("more than {LIMIT} looks back are due already");
                tell(&due, Rechecked::inconclusive(&promise.events, why), hands).await;
            }
        }
    }
}

/// Does what is due, until `stop`. What is under way then stays due.
pub(super) async fn run(plan: Arc<Plan>, hands: Hands) {
    let mut busy = BTreeSet::new();
    let mut looks = FuturesUnordered::new();
    loop {
        let next = if busy.len() < AT_ONCE { hands.rechecks.next(&busy) } else { None };
        let due = async {
            match &next {
                Some(next) => clock::sleep_until(next.due.mono).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = hands.stop.cancelled() => return,
            Some((key, result)) = looks.next(), if !busy.is_empty() => {
                busy.remove(&key);
                finish(&key, result, &hands).await;
            }
            () = due => {
                let Some(due) = next else { continue };
                let key = (due.run.clone(), due.stage, due.after);
                let resting = plan
                    .journey(&due.journey)
                    .is_some_and(|journey| !journey.allowed_times.allow(clock::now().wall));
                if resting {
                    hands.rechecks.postpone(&key, Mono::now().plus(RESTING));
                    continue;
                }
                busy.insert(key.clone());
                let (plan, hands) = (&plan, &hands);
                looks.push(async move { (key, look_back(due, plan, hands).await) });
            }
            // A round that ended may be due sooner than what is waited for.
            () = hands.rechecks.0.more.notified() => {}
        }
    }
}

async fn finish(key: &Key, (due, result): (DueRecheck, Option<Rechecked>), hands: &Hands) {
    hands.rechecks.done(key);
    let mut stored = serde_json::to_value(&result).unwrap_or_default();
    if let Some(fields) = stored.as_object_mut() {
        fields.insert(ROUND_OF.to_owned(), serde_json::Value::from(&*evidence(&due)));
    }
    hands.store.recheck_done(DoneRecheck {
        run: due.run.clone(),
        journey: due.journey.clone(),
        stage: due.stage,
        after: due.after,
        at: clock::now(),
        result: stored,
    });
    if let Some(result) = result {
        tell(&due, result, hands).await;
    }
}

/// What the round was evidence of that is looked back at.
fn evidence(due: &DueRecheck) -> Arc<str> {
    due.expected["evidence"].as_str().unwrap_or_default().into()
}

async fn tell(due: &DueRecheck, result: Rechecked, hands: &Hands) {
    let news = RoundNews::Rechecked {
        journey: due.journey.clone(),
        evidence: evidence(due),
        stage: due.stage,
        after: due.after,
        at: clock::now(),
        result,
    };
    let _ = hands.records.send(Record::Round(news)).await;
}

/// Looks until it can be told what became of what was there, and at least once wholly for what was
/// not; None where the plan no longer asks.
async fn look_back(due: DueRecheck, plan: &Plan, hands: &Hands) -> (DueRecheck, Option<Rechecked>) {
    let promise = serde_json::from_value::<Promise>(due.expected.clone());
    let asked = plan
        .journey(&due.journey)
        .and_then(|journey| Some((journey, journey.stage(due.stage)?)))
        .filter(|(_, stage)| stage.recheck.contains(&due.after));
    let (Some((journey, stage)), Ok(promise)) = (asked, promise) else {
        return (due, None);
    };
    if journey.promise(due.stage).as_deref() != Some(promise.plan.as_str()) {
        let why = "the journey's events, what is expected of them or where they are looked for, are \
                   others than they were";
        return (due, Some(Rechecked::inconclusive(&promise.events, why)));
    }
    let Some(confirmer) = stage.confirmer.clone() else { return (due, None) };
    let sought = Sought {
        journey: due.journey.clone(),
        run: due.run.clone(),
        stage: due.stage,
        first_seq: promise.first_seq,
        count: promise.count,
        sent: promise.count,
        equals: None,
        named: false,
        // However far off it was found, it is looked for there.
        aged: journey.events.told_around() + FURTHEST,
        began: due.began,
    };
    let pause = (due.after / 20).clamp(PAUSE.0, PAUSE.1);
    let mut rechecking = Rechecking::new(promise.events);
    let (mut found, mut looked) = (0, hands.rechecks.lacking(&due.run).is_none());
    for look in 1..=LOOKS {
        if look > 1 {
            tokio::time::sleep(pause).await;
        }
        let asking = async {
            let trace = Trace::off();
            let on = || LookContext {
                sought: &sought,
                timeout: LOOK_TIMEOUT,
                clients: &hands.clients,
                trace: &trace,
                now: clock::now(),
            };
            match confirmer.begin(on()).await {
                Ok(mut mark) => confirmer.look(&mut mark, on()).await,
                Err(fault) => Look::blind(fault),
            }
        };
        let began = Mono::now();
        let seen = tokio::time::timeout(LOOK_TIMEOUT * 2, asking).await.unwrap_or_else(|_| {
            Look::blind(Fault::new(FaultCode::Blind, "the look took too long"))
        });
        let render =
            |seq| journey.events.render(&due.run, &journey.id, seq, Wall(promise.intended));
        rechecking.look(&seen, &stage.expect, render);
        looked |= seen.horizon == Horizon::Complete;
        found += rounds::looked_back(journey, &due, (began, seen), hands).await;
        let last = look == LOOKS;
        if let Some(result) = rechecking.result(&due.run, last).filter(|_| looked || last) {
            return (due, Some(Rechecked { found, ..result }));
        }
    }
    (due, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::record::Records;
    use crate::client::Clients;
    use crate::plan::Facts;
    use crate::plan::load::Inputs;
    use crate::store::Store;
    use tokio_util::sync::CancellationToken;

    fn plan(more: &str) -> Plan {
        plan_at("http://127.0.0.1:9", more)
    }

    fn plan_at(url: &str, more: &str) -> Plan {
        let text = format!(
            "journeys:\n- {{ id: j, send: {{ http: {{ to: 'http://h/' }} }}, stages: [ stored: {{ json_api: {{ url: '{url}/', items: '.[]' }}, recheck: [ 1s ]{more} }} ] }}\n"
        );
        let inputs = Inputs { texts: vec![("p.yaml".into(), text)], ..Inputs::default() };
        Plan::compile(&inputs, &Facts::default()).unwrap_or_else(|e| panic!("{}", e.render(false)))
    }

    fn hands() -> Hands {
        Hands {
            clients: Clients::default(),
            records: Records::new(16).0,
            store: Store::memory().0,
            rechecks: Rechecks::default(),
            secrets: [].into(),
            stop: CancellationToken::new(),
            cancel: CancellationToken::new(),
        }
    }

    fn due(plan: &Plan, run: &str, seconds: i64) -> DueRecheck {
        let expected = serde_json::json!({
            "events": {"first_seq": 1, "seen": [7], "whole": [7]}, "intended": 0, "count": 3, "first_seq": 1,
            "plan": plan.journeys[0].promise(Stage::Stored),
        });
        let at = Mono::from_secs(seconds);
        DueRecheck {
            run: run.into(),
            journey: "j".into(),
            stage: Stage::Stored,
            after: Duration::from_secs(1),
            began: Now::default(),
            due: Now { mono: at, wall: Wall::default() },
            expected,
        }
    }

    #[test]
    fn what_is_due_is_bounded_and_the_soonest_comes_first() {
        let plan = plan("");
        let rechecks = Rechecks::default();
        for n in 0..LIMIT {
            assert!(rechecks.put(due(&plan, &format!("r{n}"), 100 - (n as i64 % 50))));
        }
        assert!(rechecks.put(due(&plan, "r7", 7)), "the same again takes no room");
        assert!(!rechecks.put(due(&plan, "one more", 1)));
        let [fill, _] = rechecks.fills();
        assert_eq!((fill.length, fill.limit, fill.dropped), (LIMIT, LIMIT, 1));
        let first = rechecks.next(&BTreeSet::new()).expect("there are many");
        assert_eq!(&*first.run, "r7");
        let key = (first.run.clone(), first.stage, first.after);
        let next = rechecks.next(&BTreeSet::from([key.clone()])).expect("there are many");
        assert_eq!(next.due.mono, Mono::from_secs(51), "what is under way is not begun twice");
        rechecks.done(&key);
        assert_eq!(rechecks.fills()[0].length, LIMIT - 1);
    }

    #[tokio::test]
    async fn under_another_plan_nothing_is_claimed() {
        let (was, hands) = (plan(""), hands());
        let other = plan(", expect: { fields: { a: b } }");
        let (_, told) = look_back(due(&was, "r", 0), &other, &hands).await;
        let told = told.expect("it is told that nobody can tell");
        assert_eq!((told.inconclusive, told.expected()), (3, 3));
        assert!(told.reason.is_some_and(|why| why.contains("are others than they were")));
        // Nor where another place is looked at, which never had them.
        let (_, told) = look_back(due(&was, "r", 0), &plan_at("http://h", ""), &hands).await;
        assert_eq!(told.map(|told| (told.vanished, told.inconclusive)), Some((0, 3)));
        // A plan that no longer asks is not answered.
        let silent = Plan::compile(&Inputs::default(), &Facts::default());
        let silent = silent.unwrap_or_else(|e| panic!("{}", e.render(false)));
        assert_eq!(look_back(due(&was, "r", 0), &silent, &hands).await.1, None);
        // A place where nobody answers has lost nothing that is known.
        let (_, told) = look_back(due(&was, "r", 0), &was, &hands).await;
        assert_eq!(told.map(|told| (told.vanished, told.inconclusive)), Some((0, 3)));
    }
}
