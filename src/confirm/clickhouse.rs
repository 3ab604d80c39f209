//! ClickHouse: the rows of the round, by a query of the plan's.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::found::{Found, Record, plain};
use super::{Confirmer, LookContext, purge};
use crate::client::clickhouse::query;
use crate::client::http::{Api, Auth};
use crate::client::tls;
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;

/// Runs a query that selects the round's rows.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The server's HTTP address, "https://lake:8443/"; `?database=` may follow.
    pub url: String,
    /// What to ask: one row an event, such as `SELECT * FROM events WHERE run = {run:String}`.
    /// `{run:String}` is the round's name as a parameter; servers before 19.14 know no parameters,
    /// for them write `'{run}'`. It must end without FORMAT. Select no count and no LIMIT: a row
    /// that is not there is an event that is not there. Where a profile cuts results
    /// (`result_overflow_mode = 'break'`), it can't be told.
    pub query: String,
    /// The column that holds the event's text, `message` where nothing is given.
    #[serde(default = "text_column")]
    pub text: String,
    /// The column that tells rows apart; without it, equal rows are told apart by their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

fn text_column() -> String {
    String::from("message")
}

pub struct ClickHouse {
    query: String,
    text: String,
    id: Option<String>,
    api: Api,
}

impl Confirmer for ClickHouse {
    const KIND: &'static str = "clickhouse";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        if !spec.query.contains("{run:") && !spec.query.contains("{run}") {
            return Err(
                "`query` selects every round's rows: it names neither {run:String} nor {run}"
                    .into(),
            );
        }
        let words = spec.query.split_whitespace();
        if words.into_iter().any(|word| word.eq_ignore_ascii_case("format")) {
            return Err("`query` names a FORMAT; leave it out".into());
        }
        Ok(Self {
            query: spec.query,
            text: spec.text,
            id: spec.id,
            api: Api::new(&spec.url, spec.auth, spec.tls)?,
        })
    }

    fn effects(&self) -> Vec<Effect> {
        let what = format!("runs a query on {}: {}", self.api.base(), self.query);
        vec![Effect { what, needs: None }]
    }

    fn purge(&self) -> Option<String> {
        Some(purge::by_statement(&self.query, |table, column| {
            let runs = purge::run_pattern();
            format!("ALTER TABLE {table} DELETE WHERE match({column}, '^{runs}$')")
        }))
    }

    fn keeps(&self) -> bool {
        true
    }

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let run = &on.sought.run;
        // A run is lower-case letters and digits: it can't end a quoted text.
        let sql = self.query.replace("{run}", run);
        let parameters: &[(&str, &str)] = if sql.contains("{run:") { &[("run", run)] } else { &[] };
        let rows = query(&self.api, on.clients, &sql, parameters, on.timeout, on.trace).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        on.trace.note(format_args!("{} rows", rows.len()));
        let mut found = Found::narrowed(on.sought);
        for row in rows {
            found.take(Record {
                text: lookup(&row, &self.text).map(plain),
                id: self.id.as_ref().and_then(|id| lookup(&row, id)).map(plain),
                fields: Some(row),
            });
        }
        found.look()
    }
}
