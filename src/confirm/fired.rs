//! Splunk's fired alerts: each time that a saved search triggered, and what it had found then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::alert::{self, Alert};
use super::{LookContext, MARGIN, reading};
use crate::client::http::Api;
use crate::client::rules::{Engine, Place};
use crate::client::splunk::{FiredAlert, fired, results};
use crate::journey::Look;
use crate::outcome::Trouble;

/// So many alerts of a look are asked for what their search had found; a round brings about a few.
const LOOKED_INTO: usize = 20;

/// What a saved search fired (`alerts/fired_alerts`), in place of events. It is tracked where the
/// search's alert has the action "Add to Triggered Alerts".
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fired {
    /// The saved search's name.
    pub search: String,
    /// Fields that the alert must have, such as `severity` (1 to 6), or that a result of its search must
    /// have, and their values; {run} is the round's name.
    #[serde(default, rename = "match")]
    pub fields: BTreeMap<String, String>,
}

impl Fired {
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.search.is_empty() {
            true => Err("`search` of `fired` is empty; name the saved search".into()),
            false => Ok(()),
        }
    }

    pub(super) fn rule(&self, api: &Api) -> Place {
        Place::new(Engine::Splunk, api.clone(), &self.search)
    }

    pub(super) async fn look(&self, api: &Api, mark: &mut Value, on: LookContext<'_>) -> Look {
        let (from, _) = on.span(MARGIN);
        let asked = fired(api, on.clients, from, on.timeout / 2, on.trace).await;
        let mut answer = match asked {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        answer.rows.retain(|alert| alert.began >= from && alert.search == self.search);
        if answer.rows.len() > LOOKED_INTO {
            answer.rows.truncate(LOOKED_INTO);
            answer.lacks(format!("more than {LOOKED_INTO} alerts; the newest were read"));
        }
        let wanted = alert::filled(&self.fields, &on);
        let mut alerts = Vec::new();
        let each = on.timeout / 2 / u32::try_from(answer.rows.len().max(1)).unwrap_or(1);
        for fired in std::mem::take(&mut answer.rows) {
            let found = match results(api, on.clients, &fired.sid, each, on.trace).await {
                Ok(found) => found,
                Err(trouble) => {
                    // Its time still tells something.
                    answer.lacks(format!("what {:?} found can't be read: {trouble}", self.search));
                    Vec::new()
                }
            };
            if matches(&fired.fields, &found, &wanted) {
                alerts.push(shown(fired, found));
            }
        }
        let look = alert::look(alerts, answer.lacking, &on);
        if look.arrivals.is_empty() {
            let why = alert::why_none("saved search", &self.rule(api), &on).await;
            reading::remember(mark, &why, on.trace);
        }
        look
    }
}

fn matches(
    fields: &Map<String, Value>,
    found: &[Map<String, Value>],
    wanted: &BTreeMap<String, String>,
) -> bool {
    wanted.iter().all(|(name, value)| {
        let one = BTreeMap::from([(name.clone(), value.clone())]);
        alert::matches(fields, &one) || found.iter().any(|row| alert::matches(row, &one))
    })
}

fn shown(fired: FiredAlert, found: Vec<Map<String, Value>>) -> Alert {
    let FiredAlert { name, began, mut fields, .. } = fired;
    let (called, severity) =
        (fields.get("savedsearch_name").cloned(), fields.get("severity").cloned());
    // Where the round's name stands, and what a plan may expect of the alert.
    fields.insert("results".into(), found.into_iter().map(Value::Object).collect());
    Alert::new(name, Some(began), fields).named(called.as_ref(), severity.as_ref())
}
