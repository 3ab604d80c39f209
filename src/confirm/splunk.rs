//! Splunk: the events of the round, and the alerts that its saved searches fired.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::alert::{self, Shape};
use super::fired::Fired;
use super::found::{Found, RECORDS_LIMIT, Record, plain};
use super::{Confirmer, LookContext, MARGIN, purge};
use crate::client::http::{Api, Auth};
use crate::client::rules::{Engine, Place};
use crate::client::splunk::{Asked, search};
use crate::client::tls;
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;

/// Searches Splunk (9.0 or newer: the search API's version 2) for the round's events.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of a search head's management port, "https://splunk:8089".
    pub url: String,
    /// What to search among, such as `index=main sourcetype=syslog`. It is narrowed to events that
    /// hold the round's name, or, where it holds {run}, to what it says itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub search: String,
    /// In place of `search`: what a saved search fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fired: Option<Fired>,
    /// The field that holds the event's text, `_raw` where nothing is given.
    #[serde(default = "text_field")]
    pub text: String,
    /// The results are alerts: `{ of: splunk_notable }`, or which fields say what. The search may
    /// be of fired alerts then, such as `index=_audit action=alert_fired`, and needs no {run}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Shape>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

fn text_field() -> String {
    String::from("_raw")
}

pub struct Splunk {
    search: String,
    fired: Option<Fired>,
    text: String,
    alerts: Option<Shape>,
    api: Api,
}

impl Confirmer for Splunk {
    const KIND: &'static str = "splunk";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        let search = spec.search.trim();
        if let Some(fired) = spec.fired {
            if !search.is_empty() || spec.alerts.is_some() {
                return Err("`fired` has no use for a `search`, nor for `alerts`".into());
            }
            fired.validate()?;
            let api = Api::new(&spec.url, spec.auth, spec.tls)?;
            let (search, text) = Default::default();
            return Ok(Self { search, fired: Some(fired), text, alerts: None, api });
        }
        if search.is_empty() {
            return Err("`search` is empty; name an index at least, such as `index=main`".into());
        }
        if let Some(alerts) = &spec.alerts {
            alerts.validate()?;
        } else if search.contains('|') && !search.contains("{run}") {
            return Err("a search with pipes must say with {run} itself where the round's name \
                        belongs"
                .into());
        }
        let leads = search.starts_with('|') || search.split_whitespace().next() == Some("search");
        let search = if leads { search.to_owned() } else { format!("search {search}") };
        let api = Api::new(&spec.url, spec.auth, spec.tls)?;
        Ok(Self { search, fired: None, text: spec.text, alerts: spec.alerts, api })
    }

    fn effects(&self) -> Vec<Effect> {
        let what = match &self.fired {
            Some(Fired { search, .. }) => {
                format!("asks {} for what {search:?} fired, and its results", self.api.base())
            }
            None => format!("runs a search job on {}: {}", self.api.base(), self.search),
        };
        vec![Effect { what, needs: None }]
    }

    fn purge(&self) -> Option<String> {
        if self.alerts.is_some() || self.fired.is_some() {
            return None;
        }
        Some(format!(
            "as a user with the role can_delete (it hides events, and frees no space): {} | regex \
             _raw=\"{}\" | delete",
            self.search,
            purge::token_pattern()
        ))
    }

    fn keeps(&self) -> bool {
        true
    }

    fn rule(&self) -> Option<Place> {
        if let Some(fired) = &self.fired {
            return Some(fired.rule(&self.api));
        }
        let name = self.alerts.as_ref()?.fields.get("search_name")?;
        Some(Place::new(Engine::Splunk, self.api.clone(), name))
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        if let Some(fired) = &self.fired {
            return fired.look(&self.api, mark, on).await;
        }
        let sought = on.sought;
        let text = if self.alerts.is_some() || self.search.contains("{run}") {
            self.search.replace("{run}", &sought.run)
        } else {
            // A run is a term of its own, a token begins with it: the wildcard finds both.
            format!("{} {}*", self.search, sought.run)
        };
        let (from, to) = on.reach(MARGIN);
        let asked = Asked {
            search: &text,
            from: from.0.div_euclid(1_000_000_000),
            to: to.0.div_euclid(1_000_000_000),
            limit: RECORDS_LIMIT,
        };
        let answer = match search(&self.api, on.clients, asked, on.timeout, on.trace).await {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        on.trace.note(format_args!("{} results", answer.rows.len()));
        if let Some(shape) = &self.alerts {
            let wanted = alert::filled(&shape.fields, &on);
            let read = answer.rows.into_iter().filter_map(|row| {
                // A row of a report has no address of its own: what it says is its name.
                let copy = row_id(&row).unwrap_or_else(|| Value::from(row.clone()).to_string());
                shape.read(copy, lookup(&row, &self.text).map(plain), row, &wanted)
            });
            return alert::look(read.collect::<Vec<_>>(), answer.lacking, &on);
        }
        let mut found = Found::narrowed(sought);
        for result in answer.rows {
            found.take(Record {
                text: lookup(&result, &self.text).map(plain),
                id: row_id(&result),
                fields: Some(result),
            });
        }
        if let Some(why) = answer.lacking {
            found.lacks(why);
        }
        found.look()
    }
}

/// Bucket and address within it: Splunk's own name of an event.
fn row_id(row: &Map<String, Value>) -> Option<String> {
    let part = |name: &str| row.get(name).map(plain);
    Some(format!("{}/{}", part("_bkt")?, part("_cd")?))
}
