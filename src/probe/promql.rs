//! PromQL: what an instant query yields now, as a series to judge.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe};
use crate::client::http::{Api, Auth, parse_url};
use crate::client::{promql, tls};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The expression.
    pub query: String,
    /// What is expected of the answer, besides being one.
    #[serde(default)]
    pub expect: Expect,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Any answer will do; gates judge its values.
    #[default]
    Any,
    /// At least one series.
    Some,
    /// No series, as of an alert's expression while all is well.
    None,
}

pub struct Promql {
    query: String,
    expect: Expect,
    auth: Option<Auth>,
    tls: tls::Options,
}

impl Probe for Promql {
    const KIND: &'static str = "promql";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&probe::PROMQL_VALUE];
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.query.trim().is_empty() {
            return Err("`query` is empty".into());
        }
        spec.tls.validate()?;
        if let Some(auth) = &spec.auth {
            auth.validate()?;
        }
        Ok(Self { query: spec.query, expect: spec.expect, auth: spec.auth, tls: spec.tls })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        parse_url(text).map(drop)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect { what: format!("asks {target} for `{}`", self.query), needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let api = match Api::new(on.target, self.auth.clone(), self.tls.clone()) {
            Ok(api) => api,
            Err(text) => return Fault::new(FaultCode::Blind, text).into(),
        };
        let asked = promql::instant(&api, on.clients, &self.query, on.timeout, on.trace).await;
        let answer = match asked {
            Ok(answer) => answer,
            // A query that is wrong stays wrong: that is no missing evidence, but a mistake.
            Err(Trouble::Reason(reason)) if reason.code == ReasonCode::QueryRefused => {
                return reason.into();
            }
            Err(trouble) => return trouble.blind().into(),
        };
        if let Some(why) = answer.partial {
            let text = format!("{} read only a part of the data: {why}", on.target);
            return Fault::new(FaultCode::Blind, text).into();
        }
        let samples = answer
            .series
            .iter()
            .filter(|series| !series.value.is_nan())
            .map(|series| Sample::new(&probe::PROMQL_VALUE, series.value))
            .collect();
        match (self.expect, answer.series.first()) {
            (Expect::Some, None) => Reason::new(
                ReasonCode::NoData,
                format!("`{}` yields no series, and should yield one", self.query),
            )
            .into(),
            (Expect::None, Some(first)) => Reading::failure(
                Reason::new(
                    ReasonCode::ValueMismatch,
                    format!(
                        "`{}` yields {} series, and should yield none; the first is {} = {}",
                        self.query,
                        answer.series.len(),
                        first.labels,
                        first.value
                    ),
                ),
                samples,
            ),
            _ => Reading::success(samples),
        }
    }
}
