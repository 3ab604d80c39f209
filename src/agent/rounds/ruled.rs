//! What follows for a round from the rule behind its alert, as it was when the round began.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LOOK_TIMEOUT, clock};
use crate::client::Clients;
use crate::journey::Stage;
use crate::journey::rule::{Edges, Followed, Means, Memory, Terms};
use crate::outcome::{Fault, FaultCode};
use crate::plan::{Journey, StagePlan};
use crate::spec::trace::Trace;

/// What the rule behind a round's alert makes of it. Empty where no deadline follows from a rule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ruling {
    followed: Option<Followed>,
    /// How old the copies at the edges of its look-back are, or why there are none; None where none
    /// are asked for.
    pub(super) edges: Option<Result<Edges, String>>,
}

impl Ruling {
    /// Reads the rule. Nothing of it is changed.
    pub(super) async fn read(
        journey: &Journey,
        memory: Memory,
        clients: &Clients,
        trace: &Trace,
    ) -> Self {
        let Some((plan, behind)) =
            journey.stage(Stage::Alerted).and_then(|plan| Some((plan, plan.rule.as_ref()?)))
        else {
            return Self::default();
        };
        let before = journey.stages.iter().filter(|plan| plan.stage < Stage::Alerted);
        let terms = Terms {
            arrival: before.map(|plan| plan.within).max().unwrap_or_default(),
            run: plan.by_rule.unwrap_or_default(),
            at_most: plan.give_up,
        };
        let reading = behind.read(clients, LOOK_TIMEOUT, trace);
        let read = tokio::time::timeout(LOOK_TIMEOUT, reading).await.unwrap_or_else(|_| {
            Err(Fault::new(FaultCode::Blind, "the rule's engine gave no answer in time"))
        });
        let now = clock::now().wall;
        let (followed, edges) = match &read {
            Ok(rule) => {
                let followed = rule.follow(&terms, &memory, now);
                let edges = match followed.means {
                    Means::Due => rule.edges(&terms, journey.events.length()),
                    _ => Err(followed.text.clone()),
                };
                (followed, edges)
            }
            Err(fault) => {
                let followed = Followed::untold(plan.give_up, &fault.to_string());
                let why = followed.text.clone();
                (followed, Err(why))
            }
        };
        trace.note(format_args!("{}", followed.text));
        let edges = journey.edges.then_some(edges);
        match &edges {
            Some(Ok(Edges { inside, outside })) => trace.note(format_args!(
                "copies of the events are sent as if they were {inside:?} and {outside:?} old"
            )),
            Some(Err(why)) => trace.note(format_args!("no copies at the edges: {why}")),
            None => {}
        }
        Self { followed: Some(followed), edges }
    }

    /// What it means for a stage whose deadline follows from the rule.
    pub(super) fn of(&self, plan: &StagePlan) -> Option<Followed> {
        let more = plan.by_rule?;
        let followed = self.followed.clone()?;
        Some(match plan.stage {
            Stage::Notified => {
                let told = followed.told_of(more);
                Followed { within: told.within.min(plan.give_up), ..told }
            }
            _ => followed,
        })
    }

    /// How old the copies on both sides are, where any are sent.
    pub(super) fn ages(&self) -> Option<[Duration; 2]> {
        let Edges { inside, outside } = self.edges.as_ref()?.as_ref().ok()?;
        Some([*inside, *outside])
    }
}
