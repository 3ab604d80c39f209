//! Alertmanager: which alerts fire, and whether alerts get there at all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe};
use crate::client::alertmanager::{Alert, alerts, check_labels, silences};
use crate::client::http::{Api, Auth, parse_url};
use crate::client::tls;
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample, Trouble};
use crate::time::Mono;

/// So many suppressed alerts, and silences, are listed in the report.
const NAMED: usize = 50;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Labels that an alert must have to be counted; without any, every alert counts; the
    /// watchdog is none of those that should not fire.
    #[serde(default, rename = "match")]
    pub labels: BTreeMap<String, String>,
    /// What should be the case.
    pub expect: Expect,
    /// Labels of an alert that always fires, such as the Watchdog of kube-prometheus. While it is
    /// missing, no silence of the others proves anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watchdog: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// No such alert fires.
    None,
    /// At least one such alert fires.
    Firing,
}

pub struct Alertmanager {
    spec: Spec,
}

impl Probe for Alertmanager {
    const KIND: &'static str = "alertmanager";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[
        &probe::ALERTMANAGER_FIRING,
        &probe::ALERTMANAGER_SUPPRESSED,
        &probe::ALERTMANAGER_WATCHDOG,
    ];
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn new(spec: Spec) -> Result<Self, String> {
        check_labels(&spec.labels)?;
        check_labels(&spec.watchdog)?;
        spec.tls.validate()?;
        if let Some(auth) = &spec.auth {
            auth.validate()?;
        }
        Ok(Self { spec })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        parse_url(text).map(drop)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect { what: format!("asks {target} for its alerts"), needs: None }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let Spec { labels, watchdog, auth, tls, expect } = &self.spec;
        let api = match Api::new(on.target, auth.clone(), tls.clone()) {
            Ok(api) => api,
            Err(text) => return Fault::new(FaultCode::Blind, text).into(),
        };
        let until = Mono::now().plus(on.timeout);
        if !watchdog.is_empty() {
            match alerts(&api, on.clients, watchdog, on.timeout, on.trace).await {
                Ok(found) if found.iter().any(|alert| alert.suppressed.is_none()) => {}
                Ok(found) => {
                    let by = found.first().and_then(|alert| alert.suppressed.as_deref());
                    let text = format!(
                        "the alert that should always fire is {} ({watchdog:?}): no other alert \
                         of {} can be trusted to be there either",
                        by.unwrap_or("not there"),
                        on.target
                    );
                    let samples = vec![Sample::new(&probe::ALERTMANAGER_WATCHDOG, 0.0)];
                    return Reading::failure(Reason::new(ReasonCode::AlertMismatch, text), samples);
                }
                Err(trouble) => return trouble.blind().into(),
            }
        }
        let left = until.since(Mono::now());
        let mut found = match alerts(&api, on.clients, labels, left, on.trace).await {
            Ok(found) => found,
            Err(trouble) => return Trouble::blind(trouble).into(),
        };
        // It must fire, and is none of those that must not.
        if *expect == Expect::None && !watchdog.is_empty() {
            found.retain(|alert| !alert.has(watchdog));
        }
        let (suppressed, firing): (Vec<&Alert>, Vec<&Alert>) =
            found.iter().partition(|alert| alert.suppressed.is_some());
        let mut notes: Vec<String> =
            suppressed.iter().take(NAMED).map(|alert| told(alert)).collect();
        // They only explain: a silence that silences nothing now may hide what comes next.
        let left = until.since(Mono::now()) / 2;
        match silences(&api, on.clients, left, on.trace).await {
            Ok(all) => notes.extend(
                all.iter().take(NAMED).map(|one| format!("silence {} of {}", one.id, one.told)),
            ),
            Err(trouble) => notes.push(format!("silences can't be read: {}", trouble.blind())),
        }
        let mut samples = vec![
            Sample::new(&probe::ALERTMANAGER_FIRING, firing.len() as f64),
            Sample::new(&probe::ALERTMANAGER_SUPPRESSED, suppressed.len() as f64),
        ];
        if !watchdog.is_empty() {
            samples.push(Sample::new(&probe::ALERTMANAGER_WATCHDOG, 1.0));
        }
        let mismatch = |text: String| {
            Reading::failure(Reason::new(ReasonCode::AlertMismatch, text), samples.clone())
        };
        let reading = match (expect, firing.first(), suppressed.first()) {
            (Expect::None, Some(first), _) => mismatch(format!(
                "{} alerts fire, and none should; one is {}",
                firing.len(),
                first.describe()
            )),
            (Expect::Firing, None, Some(first)) => mismatch(format!(
                "the alert that should fire is {}, so nobody is told: {}",
                first.suppressed.as_deref().unwrap_or_default(),
                first.describe()
            )),
            (Expect::Firing, None, None) => {
                mismatch(format!("no alert fires that matches {labels:?}"))
            }
            _ => Reading::success(samples),
        };
        Reading { notes, ..reading }
    }
}

/// A suppressed alert, for the report.
fn told(alert: &Alert) -> String {
    let by = alert.suppressed.as_deref().unwrap_or_default();
    format!("an alert is {by}: {}", alert.describe())
}
