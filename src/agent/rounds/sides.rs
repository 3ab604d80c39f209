//! What is sent in one round: its own events, the benign twin's, and copies at the edges of the rule's
//! look-back. Each under a run of its own, and each a walk of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use super::ruled::Ruling;
use super::{Hands, LOOK_TIMEOUT};
use crate::confirm::{LookContext, Sought};
use crate::journey::event::{Events, FIRST_SEQ};
use crate::journey::reconcile::Expectation;
use crate::journey::walk::{StageSpec, Things, Walk, WalkSpec};
use crate::journey::{Event, Run, Stage};
use crate::outcome::Fault;
use crate::plan::{Equals, Journey, StagePlan};
use crate::spec::trace::Trace;
use crate::time::{Mono, Now, Wall};

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Own,
    /// Must bring no alert.
    Twin,
    /// The own events, just young enough for the rule, and just too old.
    Inside,
    Outside,
}

impl Side {
    pub(super) const BESIDE: [Self; 3] = [Self::Twin, Self::Inside, Self::Outside];

    /// Whether an alert of these must not come.
    fn is_never(self) -> bool {
        matches!(self, Self::Twin | Self::Outside)
    }
}

/// Events that are sent under one run, and where they are looked for.
#[derive(Serialize, Deserialize)]
pub(super) struct Strand {
    pub(super) walk: Walk,
    /// What each stage's confirmer remembers.
    pub(super) marks: BTreeMap<Stage, Mark>,
}

/// Events that are sent beside the round's own.
#[derive(Serialize, Deserialize)]
pub(super) struct Beside {
    pub(super) run: Run,
    #[serde(flatten)]
    pub(super) strand: Strand,
    /// How old they are when they are sent, by the time that they tell.
    #[serde(default)]
    pub(super) aged: Duration,
}

/// So many times as long as a round was looked for may the clock be off of what stamps its events, up to
/// a little more than an hour, as summer time makes it: what is not found is looked for ever further
/// away.
const FURTHER: u32 = 20;
pub(in crate::agent) const FURTHEST: Duration = Duration::from_secs(3_900);

pub(super) fn astray(took: Duration) -> Duration {
    took.saturating_mul(FURTHER).min(FURTHEST)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Mark {
    Set(Value),
    /// It could not be told where the stage stood when the round began, so that an older event
    /// could be taken for one of its own: all looks are blind. The text says why.
    Blind(String),
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

/// Where each stage stands before the first event is sent.
pub(super) async fn marks(
    journey: &Journey,
    side: Side,
    run: &Run,
    began: Now,
    hands: &Hands,
    trace: &Trace,
) -> BTreeMap<Stage, Mark> {
    let beginnings = stages(journey, side).filter_map(|plan| {
        let confirmer = plan.confirmer.clone()?;
        // What was before is no matter of how old events will be.
        let sought = sought(journey, side, run, plan, 0, began);
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
    futures_util::future::join_all(beginnings).await.into_iter().collect()
}

/// Where nobody is beside the round, there is nothing to wait for.
pub(super) fn turns(journey: &Journey) -> BTreeMap<Stage, Arc<Mutex<()>>> {
    let several = journey.twin.is_some() || journey.edges;
    let shared = stages(journey, Side::Twin).filter(|_| several);
    shared.map(|plan| (plan.stage, Arc::default())).collect()
}

pub(super) fn new_walk(journey: &Journey, side: Side, ruling: &Ruling, began: Mono) -> Walk {
    let events = events(journey, side);
    let things = match (side, &journey.usecase) {
        (side, _) if side.is_never() => Things::Never,
        (_, Some(_)) => Things::Whole,
        (_, None) => Things::Any,
    };
    Walk::new(WalkSpec {
        stages: stages(journey, side).map(|plan| stage_spec(plan, side, ruling)).collect(),
        first_seq: FIRST_SEQ,
        count: events.count(),
        began,
        due: events.due(),
        things,
    })
}

pub(super) fn events(journey: &Journey, side: Side) -> &Events {
    match (side, &journey.twin) {
        (Side::Twin, Some(twin)) => &twin.events,
        _ => &journey.events,
    }
}

/// A dashboard shows the events of all, and says nothing of one; of the copies at the edges it is
/// asked whether they alert.
fn stages(journey: &Journey, side: Side) -> impl Iterator<Item = &StagePlan> {
    let last = match side {
        Side::Own => Stage::Shown,
        Side::Twin => Stage::Notified,
        Side::Inside | Side::Outside => Stage::Alerted,
    };
    journey.stages.iter().filter(move |plan| plan.stage <= last)
}

pub(super) fn sought(
    journey: &Journey,
    side: Side,
    run: &Run,
    plan: &StagePlan,
    sent: u64,
    began: Now,
) -> Sought {
    Sought {
        journey: journey.id.clone(),
        run: run.clone(),
        stage: plan.stage,
        first_seq: FIRST_SEQ,
        count: events(journey, side).count(),
        sent,
        equals: plan.equals.map(|equals| match equals {
            Equals::Sent => sent as f64,
            Equals::Number(number) => number,
        }),
        // The copy inside brings an alert about that may name none.
        named: side != Side::Own || journey.edges,
        aged: events(journey, side).told_around(),
        began,
    }
}

/// Renders the events of a side, which are so old when they are sent.
pub(super) fn renderer<'a>(
    journey: &'a Journey,
    side: Side,
    run: &'a Run,
    intended: i64,
    aged: Duration,
) -> impl Fn(u64) -> Event + 'a {
    let told = Wall(intended).minus(aged);
    move |seq| events(journey, side).render(run, &journey.id, seq, told)
}

/// What a stage shows of events beside the round is of no interest, but for whether it does.
fn stage_spec(plan: &StagePlan, side: Side, ruling: &Ruling) -> StageSpec {
    let own = side == Side::Own;
    let rule = ruling.of(plan).map(|rule| if side.is_never() { rule.for_twin() } else { rule });
    let within = rule.as_ref().map_or(plan.within, |rule| rule.within);
    StageSpec {
        stage: plan.stage,
        within,
        // An alert that its rule raises too late is still told from one that it never raises.
        give_up: if rule.is_some() { plan.give_up.min(within * 3) } else { plan.give_up },
        rule,
        poll: plan.poll,
        expect: if own { plan.expect.clone() } else { Expectation::default() },
        exactly: if own || side == Side::Inside { plan.exactly } else { 1 },
        resolved: plan.resolved.filter(|_| own),
        has_confirmer: plan.confirmer.is_some(),
    }
}

#[cfg(test)]
mod tests;
