//! PostgreSQL: the rows of the round, by a query of the plan's.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::found::{Found, RECORDS_LIMIT, Record, plain};
use super::{Confirmer, LookContext, purge};
use crate::client::address::HostPort;
use crate::client::postgres::{Database, rows};
use crate::client::tls;
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::spec::Secret;

/// The port that PostgreSQL listens on.
const PORT: u16 = 5432;

/// Runs a query that selects the round's rows, in a transaction that can't write. A standby that
/// is behind its primary can't tell what is not there.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Where the server is: "host" or "host:port".
    pub server: String,
    pub database: String,
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// What to ask: one row an event, such as `SELECT * FROM events WHERE run = $1`. `$1` is the
    /// round's name, as text. Select no count and no LIMIT: a row that is not there is an event
    /// that is not there.
    pub query: String,
    /// The column that holds the event's text, `message` where nothing is given.
    #[serde(default = "text_column")]
    pub text: String,
    /// The column that tells rows apart; without it, equal rows are told apart by their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Encrypt, and check the server's certificate. `{}` trusts the system's authorities; without
    /// it, the connection is plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Options>,
}

fn text_column() -> String {
    String::from("message")
}

pub struct Postgres {
    database: Database,
    query: String,
    text: String,
    id: Option<String>,
}

impl Confirmer for Postgres {
    const KIND: &'static str = "postgres";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        if let Some(tls) = &spec.tls {
            tls.validate()?;
        }
        if !spec.query.contains("$1") {
            return Err("`query` selects every round's rows: it does not name $1".into());
        }
        let query = spec.query.trim().trim_end_matches(';').to_owned();
        let at = HostPort::parse(&spec.server)
            .or_else(|why| HostPort::parse(&format!("{}:{PORT}", spec.server)).map_err(|_| why))?;
        let database = Database {
            at,
            name: spec.database,
            user: spec.user,
            password: spec.password,
            tls: spec.tls,
        };
        Ok(Self { database, query, text: spec.text, id: spec.id })
    }

    fn effects(&self) -> Vec<Effect> {
        let HostPort { host, port } = &self.database.at;
        let what = format!(
            "runs a query in a read-only transaction of {} on {host}:{port}: {}",
            self.database.name, self.query
        );
        vec![Effect { what, needs: None }]
    }

    fn purge(&self) -> Option<String> {
        Some(purge::by_statement(&self.query, |table, column| {
            format!("DELETE FROM {table} WHERE {column} ~ '^{}$';", purge::run_pattern())
        }))
    }

    fn keeps(&self) -> bool {
        true
    }

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let (query, run) = (&self.query, &on.sought.run);
        let within = on.timeout.mul_f64(0.95);
        let asked =
            rows(&self.database, on.clients, query, run, RECORDS_LIMIT, within, on.trace).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        on.trace.note(format_args!("{} rows, {:?}", answer.rows.len(), answer.lacking));
        let mut found = Found::narrowed(on.sought);
        for row in answer.rows {
            found.take(Record {
                text: lookup(&row, &self.text).map(plain),
                id: self.id.as_ref().and_then(|id| lookup(&row, id)).map(plain),
                fields: Some(row),
            });
        }
        if let Some(why) = answer.lacking {
            found.lacks(why);
        }
        found.look()
    }
}
