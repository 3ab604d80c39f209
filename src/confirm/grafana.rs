//! The number that a Grafana panel shows, against what was sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Confirmer, LookContext, reading};
use crate::client::grafana::{Asked, Panel, Reduce, read};
use crate::client::http::{Api, Auth};
use crate::client::tls;
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, Trouble};
use crate::probe::Effect;
use crate::spec::Period;

/// Under this key of the mark stands what the panel showed before the round.
const BEFORE: &str = "before";

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Grafana's base URL.
    pub url: String,
    /// The dashboard's uid: the part of its address after `/d/`.
    pub dashboard: String,
    /// The panel's title, or its id.
    pub panel: String,
    /// Values for the dashboard's variables, instead of those saved with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// How far back the panel looks; the panel's or the dashboard's own range where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Period>,
    /// How the panel's values become one number; the panel's own way where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<Reduce>,
    /// The name of the series, where the panel shows several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// How far the number may be from the expected one.
    #[serde(default)]
    pub tolerance: f64,
    /// Compare by how much the number has grown since the round began, for panels that show other
    /// traffic too.
    #[serde(default)]
    pub delta: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct Grafana {
    spec: Spec,
    api: Api,
}

impl Confirmer for Grafana {
    const KIND: &'static str = "grafana";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        reading::check_tolerance(spec.tolerance)?;
        let uid = spec.dashboard.bytes();
        // Grafana's own rule for uids; a title with blanks is the usual mistake.
        if spec.dashboard.is_empty()
            || !uid.into_iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            return Err(format!(
                "{:?} is no dashboard's uid; it is the part of its address after `/d/`",
                spec.dashboard
            ));
        }
        let api = Api::new(&spec.url, spec.auth.clone(), spec.tls.clone())?;
        Ok(Self { spec, api })
    }

    fn tells_whose(&self) -> bool {
        false
    }

    fn effects(&self) -> Vec<Effect> {
        let Spec { panel, dashboard, .. } = &self.spec;
        let what = format!(
            "runs the queries of the panel {panel:?} of {dashboard} on {}",
            self.api.base()
        );
        vec![Effect { what, needs: None }]
    }

    async fn begin(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        if !self.spec.delta {
            return Ok(Value::Null);
        }
        match self.read(&on).await.map_err(Trouble::blind)? {
            // A counter that is not born yet stands at 0.
            Panel::Number(before) => Ok(json!({ BEFORE: before.unwrap_or(0.0) })),
            // It is broken for a person, too: the round goes on, and will say so.
            Panel::Broken(why) => Ok(json!({ reading::SAW: why })),
        }
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let complete = |arrivals| Look { arrivals, horizon: Horizon::Complete };
        let shown = match self.read(&on).await {
            Ok(Panel::Number(shown)) => shown,
            Ok(Panel::Broken(why)) => {
                reading::remember(mark, &why, on.trace);
                return complete(Vec::new());
            }
            Err(trouble) => return Look::blind(trouble.blind()),
        };
        let Some(value) = shown else {
            reading::remember(mark, "it shows no data", on.trace);
            return complete(Vec::new());
        };
        let Some(expected) = on.sought.equals else { return complete(vec![reading::arrival()]) };
        let value = if self.spec.delta {
            let Some(before) = mark.get(BEFORE).and_then(Value::as_f64) else {
                reading::remember(mark, "what it showed before the round is not known", on.trace);
                return complete(Vec::new());
            };
            value - before
        } else {
            value
        };
        complete(reading::compare(value, expected, self.spec.tolerance, mark, on.trace))
    }
}

impl Grafana {
    async fn read(&self, on: &LookContext<'_>) -> Result<Panel, Trouble> {
        let asked = Asked {
            dashboard: &self.spec.dashboard,
            panel: &self.spec.panel,
            variables: &self.spec.variables,
            back: self.spec.from.map(|from| from.0),
            reduce: self.spec.reduce,
            series: self.spec.series.as_deref(),
            now: on.now.wall,
        };
        read(&self.api, on.clients, &asked, on.timeout, on.trace).await
    }
}
