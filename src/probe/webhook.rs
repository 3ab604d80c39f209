//! Webhook: whether notifications still arrive at the agent's own receiver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe};
use crate::client::inbox::{Kind, Status};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample};
use crate::spec::Period;
use crate::time::Mono;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Who sends the notifications: the last part of the receiver's path,
    /// `/api/v1/webhook/{alertmanager,grafana,json}`.
    pub from: Kind,
    /// Labels that a notification must have; of `json` its top-level values are labels too.
    #[serde(default, rename = "match")]
    pub labels: BTreeMap<String, String>,
    /// What the notification tells: that an alert fires, or that it is `resolved`.
    #[serde(default)]
    pub status: Status,
    /// How old the newest one may be, such as the repeat interval of a watchdog and some more.
    pub within: Period,
}

pub struct Webhook {
    spec: Spec,
}

impl Probe for Webhook {
    const KIND: &'static str = "webhook";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&probe::WEBHOOK_AGE];
    const TARGETS: bool = false;

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.within.0.is_zero() {
            return Err("`within` is nothing: no notification can be so new".into());
        }
        Ok(Self { spec })
    }

    fn effects(&self, _target: &str) -> Vec<Effect> {
        let path = format!("/api/v1/webhook/{}", self.spec.from.word());
        vec![Effect { what: format!("takes notifications at {path} of this agent"), needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let Spec { from, labels, status, within } = &self.spec;
        let now = Mono::now();
        let inbox = on.clients.inbox();
        let newest = inbox.newest(*from, *status, labels, now);
        let fresh =
            newest.as_ref().is_some_and(|newest| now.since(newest.received.mono) <= within.0);
        if let (Some(fault), false) = (inbox.closed(), fresh) {
            return fault.into();
        }
        // What came before this start, nobody was there to take.
        let listened = inbox.listened(now);
        if !fresh && listened <= within.0 {
            let text = format!(
                "no {} notification of {} that matches {labels:?} has arrived in the {:.0} s since the \
                 agent started; it may take {within}",
                status.word(),
                from.word(),
                listened.as_secs_f64()
            );
            return Fault::new(FaultCode::Blind, text).into();
        }
        let Some(newest) = newest else {
            let text = format!(
                "no {} notification of {} that matches {labels:?} has arrived at all",
                status.word(),
                from.word()
            );
            return Reason::new(ReasonCode::NotArrived, text).into();
        };
        let age = now.since(newest.received.mono);
        on.trace.note(format_args!("the newest is {:.1} s old", age.as_secs_f64()));
        let samples = vec![Sample::new(&probe::WEBHOOK_AGE, age.as_secs_f64())];
        if fresh {
            return Reading::success(samples);
        }
        let text = format!(
            "the newest {} notification of {} is {:.0} s old, older than {within}",
            status.word(),
            from.word(),
            age.as_secs_f64()
        );
        Reading::failure(Reason::new(ReasonCode::NotArrived, text), samples)
    }
}
