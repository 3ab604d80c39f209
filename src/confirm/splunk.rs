//! Splunk: the events of the round.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::found::{Found, RECORDS_LIMIT, Record, plain};
use super::{Confirmer, LookContext, purge};
use crate::client::http::{Api, Auth};
use crate::client::splunk::{Asked, search};
use crate::client::tls;
use crate::journey::Look;
use crate::journey::reconcile::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;

/// Events are looked for so far around the round, for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);

/// Searches Splunk (9.0 or newer: the search API's version 2) for the round's events.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of a search head's management port, "https://splunk:8089".
    pub url: String,
    /// What to search among, such as `index=main sourcetype=syslog`. It is narrowed to events that
    /// hold the round's name, or, where it holds {run}, to what it says itself.
    pub search: String,
    /// The field that holds the event's text, `_raw` where nothing is given.
    #[serde(default = "text_field")]
    pub text: String,
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
    text: String,
    api: Api,
}

impl Confirmer for Splunk {
    const KIND: &'static str = "splunk";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        let search = spec.search.trim();
        if search.is_empty() {
            return Err("`search` is empty; name an index at least, such as `index=main`".into());
        }
        if search.contains('|') && !search.contains("{run}") {
            return Err("a search with pipes must say with {run} itself where the round's name \
                        belongs"
                .into());
        }
        let leads = search.starts_with('|') || search.split_whitespace().next() == Some("search");
        let search = if leads { search.to_owned() } else { format!("search {search}") };
        Ok(Self { search, text: spec.text, api: Api::new(&spec.url, spec.auth, spec.tls)? })
    }

    fn effects(&self) -> Vec<Effect> {
        let what = format!("runs a search job on {}: {}", self.api.base(), self.search);
        vec![Effect { what, needs: None }]
    }

    fn purge(&self) -> Option<String> {
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

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let sought = on.sought;
        let text = if self.search.contains("{run}") {
            self.search.replace("{run}", &sought.run)
        } else {
            // A run is a term of its own, a token begins with it: the wildcard finds both.
            format!("{} {}*", self.search, sought.run)
        };
        let (from, to) = on.span(MARGIN);
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
        let mut found = Found::narrowed(sought);
        for result in answer.rows {
            // Bucket and address within it: Splunk's own name of an event.
            let part = |name: &str| result.get(name).map(plain);
            let id = part("_bkt").zip(part("_cd")).map(|(bucket, at)| format!("{bucket}/{at}"));
            found.take(Record {
                text: lookup(&result, &self.text).map(plain),
                id,
                fields: Some(result),
            });
        }
        if let Some(why) = answer.lacking {
            found.lacks(why);
        }
        found.look()
    }
}
