//! The rule behind an alert, where a stage's deadline follows from it: by the way in which the alert
//! is seen, or as the plan names it. It is read and never touched.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AnyConfirmer;
use crate::client::http::{Api, Auth};
use crate::client::rules::{Engine, Place, rule, writeback_index};
use crate::client::search::check_index;
use crate::client::{Clients, tls};
use crate::journey::rule::{Rule, Throttle};
use crate::outcome::Fault;
use crate::probe::Effect;
use crate::spec::trace::Trace;
use crate::spec::units::Period;

/// Which rule it is, and what it does not say of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// Which engine runs the rule, where the alert is not seen at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// The engine's base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The rule's name there; default the name by which the alert is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// ElastAlert's `writeback_index`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    pub tls: tls::Options,
    /// How often it runs, where the engine does not say (ElastAlert's `run_every`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// How far back it looks, where the engine does not say (ElastAlert's `buffer_time`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look_back: Option<Period>,
    /// How long its condition must hold, where the engine does not say.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub holds: Option<Period>,
    /// For how long it raises no other alert, where the engine does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Period>,
}

/// A [`Spec`] that was found right, with the place where the rule is read.
#[derive(Clone, Debug)]
pub struct Behind {
    spec: Spec,
    place: Option<Place>,
}

impl Behind {
    pub fn new(spec: Spec, confirmer: &dyn AnyConfirmer) -> Result<Self, String> {
        let own = confirmer.rule();
        let name = spec.name.clone().or_else(|| own.as_ref().map(|own| own.name.clone()));
        if name.as_ref().is_some_and(String::is_empty) {
            return Err("the rule's name is empty".into());
        }
        let place = match (spec.engine, &spec.url) {
            (Some(engine), Some(url)) => {
                let Some(name) = &name else {
                    return Err("`rule` lacks the `name` that it has at its engine".into());
                };
                let index = spec.index.clone().unwrap_or_else(writeback_index);
                check_index(&index)?;
                let api = Api::new(url, spec.auth.clone(), spec.tls.clone())?;
                Some(Place { index, ..Place::new(engine, api, name) })
            }
            (None, None) => own.zip(name).map(|(own, name)| Place { name, ..own }),
            _ => return Err("`engine` and `url` of a rule go together".into()),
        };
        if place.is_none() && spec.every.is_none() {
            return Err(format!(
                "`{}` does not know of the rule behind the alert: name it by `rule: {{ engine: ..., \
                 url: ..., name: ... }}`, or write how often it runs, `rule: {{ every: 5m }}`",
                confirmer.kind()
            ));
        }
        if [spec.every, spec.look_back].iter().flatten().any(|period| period.0.is_zero()) {
            return Err("a rule runs at times, and looks back for a time: 0s is none".into());
        }
        Ok(Self { spec, place })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What is run at the engine; None where the plan says all of the rule.
    pub fn engine(&self) -> Option<Engine> {
        self.place.as_ref().map(|place| place.engine)
    }

    pub fn effects(&self) -> Option<Effect> {
        let Place { api, name, .. } = self.place.as_ref()?;
        let what = format!("asks {} what the rule {name:?} says of itself", api.base());
        Some(Effect { what, needs: None })
    }

    /// What it says of itself. What the plan says goes before.
    pub async fn read(
        &self,
        clients: &Clients,
        timeout: Duration,
        trace: &Trace,
    ) -> Result<Rule, Fault> {
        let mut read = match &self.place {
            Some(place) => rule(place, clients, timeout, trace).await?,
            None => Rule {
                name: self.spec.name.clone().unwrap_or_else(|| "of the plan".into()),
                enabled: true,
                ..Rule::default()
            },
        };
        let Spec { every, look_back, holds, throttle, .. } = &self.spec;
        if let Some(every) = every {
            read.every = Some(every.0);
            read.schedule = None;
        }
        read.look_back = look_back.map(|back| back.0).or(read.look_back);
        read.holds = holds.map_or(read.holds, |holds| holds.0);
        if let Some(throttle) = throttle {
            read.throttle = Some(Throttle { lasts: throttle.0, by: Vec::new() });
        }
        Ok(read)
    }
}
