//! VictoriaLogs: the rows of the round.

use std::collections::BTreeMap;

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::found::{Found, RECORDS_LIMIT, Record, plain};
use super::{Confirmer, LookContext, MARGIN};
use crate::client::http::{Api, Auth};
use crate::client::tls;
use crate::client::victorialogs::{Asked, query};
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::probe::http::headers;

/// Asks VictoriaLogs for the round's rows.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// VictoriaLogs' base URL.
    pub url: String,
    /// A filter such as `{app="web"}`; `*`, all rows, where nothing is given. It is narrowed to the
    /// rows that hold the round's name in the field of the text or in that of the run.
    #[serde(default = "everything")]
    pub query: String,
    /// The field that holds the round's name, `greenlight.run` where nothing is given.
    #[serde(default = "run_field")]
    pub run: String,
    /// The field that holds the event's text, `_msg` where nothing is given.
    #[serde(default = "text_field")]
    pub text: String,
    /// Headers to send; `AccountID` and `ProjectID` name a tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

fn everything() -> String {
    String::from("*")
}

fn run_field() -> String {
    String::from("greenlight.run")
}

fn text_field() -> String {
    String::from("_msg")
}

pub struct VictoriaLogs {
    query: String,
    run: String,
    text: String,
    headers: HeaderMap,
    api: Api,
}

impl Confirmer for VictoriaLogs {
    const KIND: &'static str = "victorialogs";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        if spec.query.contains('|') {
            return Err("`query` is a filter: no pipe can follow it here".into());
        }
        let filters = [&spec.query, &spec.run, &spec.text];
        if filters.iter().any(|text| text.trim().is_empty()) {
            return Err("`query`, `run` and `text` can't be empty; leave them out instead".into());
        }
        Ok(Self {
            query: spec.query,
            run: spec.run,
            text: spec.text,
            headers: headers(&spec.headers)?,
            api: Api::new(&spec.url, spec.auth, spec.tls)?,
        })
    }

    fn effects(&self) -> Vec<Effect> {
        let what = format!("queries {} for the round's rows of {}", self.api.base(), self.query);
        vec![Effect { what, needs: None }]
    }

    fn purge(&self) -> Option<String> {
        Some(format!("wait for the retention of {} (-retentionPeriod)", self.api.base()))
    }

    fn keeps(&self) -> bool {
        true
    }

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let sought = on.sought;
        let (run, text) = (Value::from(self.run.as_str()), Value::from(self.text.as_str()));
        // A run is a word of its own, a token begins with it: `x*` matches both.
        let filter = format!("({}) ({run}:=\"{1}\" or {text}:\"{1}\"*)", self.query, sought.run);
        let (from, to) = on.reach(MARGIN);
        let asked = Asked {
            query: &filter,
            from: from.0.div_euclid(1_000_000_000),
            to: to.0.div_euclid(1_000_000_000),
            limit: RECORDS_LIMIT,
            keys: &[
                &self.text,
                "greenlight.seq",
                "greenlight_seq",
                "greenlight.id",
                "greenlight_id",
            ],
            headers: &self.headers,
        };
        let answer = match query(&self.api, on.clients, asked, on.timeout, on.trace).await {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        on.trace.note(format_args!("{} rows", answer.rows.len()));
        let mut found = Found::narrowed(sought);
        for row in answer.rows {
            let text = lookup(&row, &self.text).map(plain);
            found.take(Record { text, fields: Some(row), id: None });
        }
        if let Some(why) = answer.lacking {
            found.lacks(why);
        }
        found.look()
    }
}
