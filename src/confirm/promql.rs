//! A query of Prometheus that shows what was sent: a number that must be reached, or any answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Confirmer, LookContext, reading};
use crate::client::http::{Api, Auth};
use crate::client::{promql, tls};
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::probe::Effect;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of a Prometheus, or of what speaks its API.
    pub url: String,
    /// The expression; {run} stands for the round. With `equals:` on the stage it must yield one
    /// series whose value is that; without, any series will do.
    pub query: String,
    /// How far the value may be from the expected one: `increase` and `rate` extrapolate.
    #[serde(default)]
    pub tolerance: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct Promql {
    query: String,
    tolerance: f64,
    api: Api,
}

impl Confirmer for Promql {
    const KIND: &'static str = "promql";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.query.trim().is_empty() {
            return Err("`query` is empty".into());
        }
        reading::check_tolerance(spec.tolerance)?;
        let api = Api::new(&spec.url, spec.auth, spec.tls)?;
        Ok(Self { query: spec.query, tolerance: spec.tolerance, api })
    }

    fn tells_whose(&self) -> bool {
        false
    }

    fn effects(&self) -> Vec<Effect> {
        let what = format!("asks {} for `{}`", self.api.base(), self.query);
        vec![Effect { what, needs: None }]
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let query = self.query.replace("{run}", &on.sought.run);
        let asked = promql::instant(&self.api, on.clients, &query, on.timeout, on.trace).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        let blind = |text: String| Fault::new(FaultCode::Blind, text);
        let horizon = match answer.partial {
            Some(why) => Horizon::Partial(blind(why)),
            None => Horizon::Complete,
        };
        let values: Vec<f64> = answer.series.iter().map(|series| series.value).collect();
        let arrivals = match (on.sought.equals, values.as_slice()) {
            (_, []) => {
                reading::remember(mark, "the query yields no series", on.trace);
                Vec::new()
            }
            (None, _) => vec![reading::arrival()],
            (Some(expected), [value]) => {
                reading::compare(*value, expected, self.tolerance, mark, on.trace)
            }
            (Some(_), several) => {
                return Look::blind(blind(format!(
                    "`{query}` yields {} series, and one is compared; write sum(...) around it",
                    several.len()
                )));
            }
        };
        Look { arrivals, horizon }
    }
}
