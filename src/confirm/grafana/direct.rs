//! The data source asked beside its dashboard: whether the dashboard is wrong, or the data is.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::address::HostPort;
use crate::client::http::{Api, Auth, Request};
use crate::client::postgres::{Database, rows};
use crate::client::search::check_index;
use crate::client::{promql, tls};
use crate::confirm::LookContext;
use crate::confirm::search::filled;
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::spec::Secret;

/// The port that PostgreSQL listens on.
const PORT: u16 = 5432;

/// The same number from the data source itself, which must be as expected too: a panel that shows what
/// its data is not is wrong, and where the panel is not as expected, it tells a wrong dashboard from wrong
/// data. {run} stands for the round.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direct {
    /// An expression that yields one series.
    Promql {
        url: String,
        query: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth: Option<Auth>,
        #[serde(default)]
        tls: tls::Options,
    },
    /// How many documents of OpenSearch or Elasticsearch match.
    Search {
        url: String,
        index: String,
        /// In the cluster's query language.
        query: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth: Option<Auth>,
        #[serde(default)]
        tls: tls::Options,
    },
    /// A query that yields one row of one number. `$1` is the round's name, as text; it must be
    /// named, if only as `$1 IS NOT NULL`.
    Postgres {
        server: String,
        database: String,
        user: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<Secret>,
        query: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<tls::Options>,
    },
}

/// Whom to ask, and what.
pub(super) enum Beside {
    Promql(Api, String),
    Search(Api, String, Value),
    Postgres(Database, String),
}

impl Beside {
    pub(super) fn new(direct: Direct) -> Result<Self, String> {
        Ok(match direct {
            Direct::Promql { url, query, auth, tls } => {
                if query.trim().is_empty() {
                    return Err("`query` of `direct` is empty".into());
                }
                Self::Promql(Api::new(&url, auth, tls)?, query)
            }
            Direct::Search { url, index, query, auth, tls } => {
                check_index(&index)?;
                Self::Search(Api::new(&url, auth, tls)?, index, query)
            }
            Direct::Postgres { server, database: name, user, password, query, tls } => {
                if let Some(tls) = &tls {
                    tls.validate()?;
                }
                if !query.contains("$1") {
                    return Err("`query` of `direct` does not name $1, the round".into());
                }
                let at = HostPort::parse(&server)
                    .or_else(|why| HostPort::parse(&format!("{server}:{PORT}")).map_err(|_| why))?;
                let query = query.trim().trim_end_matches(';').to_owned();
                Self::Postgres(Database { at, name, user, password, tls }, query)
            }
        })
    }

    pub(super) fn what(&self) -> String {
        match self {
            Self::Promql(api, query) => format!("asks {} for `{query}`", api.base()),
            Self::Search(api, index, _) => format!("counts documents of {index} on {}", api.base()),
            Self::Postgres(database, query) => {
                let HostPort { host, port } = &database.at;
                format!(
                    "runs a query in a read-only transaction of {} on {host}:{port}: {query}",
                    database.name
                )
            }
        }
    }

    /// The number that the data source itself has.
    pub(super) async fn read(&self, on: &LookContext<'_>) -> Result<f64, Trouble> {
        let run: &str = &on.sought.run;
        let wrong = |text: String| Trouble::fault(FaultCode::Unsupported, text);
        match self {
            Self::Promql(api, query) => {
                let query = query.replace("{run}", run);
                let answer = promql::instant(api, on.clients, &query, on.timeout, on.trace).await?;
                match answer.series.as_slice() {
                    // A counter that is not born yet stands at 0.
                    [] => Ok(0.0),
                    [one] => Ok(one.value),
                    several => Err(wrong(format!("it yields {} series", several.len()))),
                }
            }
            Self::Search(api, index, query) => {
                let query = json!({ "query": filled(query, run) });
                let request = Request::post_json(api.at(&format!("{index}/_count"), &[]), &query);
                let answer = api.ask_json(on.clients, request, on.timeout, on.trace).await?;
                let failed = answer.get("_shards").and_then(|shards| shards.get("failed"));
                let count = answer.get("count").and_then(Value::as_f64);
                match (count, failed.and_then(Value::as_u64)) {
                    (Some(count), Some(0)) => Ok(count),
                    _ => Err(Trouble::reason(
                        ReasonCode::ProtocolError,
                        format!("{} counted only a part", api.base()),
                    )),
                }
            }
            Self::Postgres(database, query) => {
                let answer =
                    rows(database, on.clients, query, run, 2, on.timeout, on.trace).await?;
                let number = |value: &Value| match value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(text) => text.parse().ok(),
                    _ => None,
                };
                let only = match answer.rows.as_slice() {
                    [row] if row.len() == 1 => row.values().next().and_then(number),
                    _ => None,
                };
                only.ok_or_else(|| wrong("it yields not one row of one number".into()))
            }
        }
    }
}
