//! The rules that a detection engine has loaded, and what each says of itself: Prometheus and what
//! speaks its API (Mimir, Thanos, vmalert), Grafana, OpenSearch Alerting, Elastic Security, Splunk,
//! ElastAlert 2. One file an engine.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{Api, Request};
use super::{Answer, Clients};
use crate::journey::rule::Rule;
use crate::outcome::{Fault, FaultCode, ReasonCode, Trouble, words};
use crate::spec::trace::Trace;
use crate::spec::units::Period;
use crate::time::Wall;

mod elastalert;
mod elastic;
mod grafana;
mod opensearch;
mod prometheus;
mod splunk;

/// Rules in one answer, and the most that are read.
const PAGE: u64 = 500;
pub const LIMIT: usize = 20_000;

words! {
    /// Which engine.
    Engine {
        /// Prometheus, and what speaks its API: Mimir, Thanos, vmalert, and Grafana under
        /// `/api/prometheus/grafana`.
        Prometheus = "prometheus",
        /// Grafana's own rules, at its base URL: how far back they look too.
        Grafana = "grafana",
        /// OpenSearch Alerting: its monitors.
        OpensearchAlerting = "opensearch_alerting",
        /// Elastic Security, at Kibana's URL.
        ElasticSecurity = "elastic_security",
        /// Splunk: its scheduled saved searches, at the management port.
        Splunk = "splunk",
        /// ElastAlert 2, at the store that it writes to: the rules that ran in the last day.
        Elastalert = "elastalert",
    }
}

/// The `writeback_index` that ElastAlert has where nothing is configured.
pub fn writeback_index() -> String {
    String::from("elastalert_status")
}

/// Where one rule is read.
#[derive(Clone, Debug)]
pub struct Place {
    pub engine: Engine,
    /// Where ElastAlert 2 writes to.
    pub index: String,
    pub api: Api,
    pub name: String,
}

impl Place {
    pub fn new(engine: Engine, api: Api, name: &str) -> Self {
        Self { engine, index: writeback_index(), api, name: name.to_owned() }
    }

    /// Of an alert that is seen at Grafana, by the ways of Prometheus and of Alertmanager that it has:
    /// one of its own rules.
    pub fn of_alert(api: &Api, name: &str) -> Option<Self> {
        let path = api.base().path().trim_end_matches('/');
        let ways = ["/api/prometheus/grafana", "/api/alertmanager/grafana"];
        let root = ways.iter().find_map(|way| path.strip_suffix(way))?;
        let mut base = api.base().clone();
        base.set_path(root);
        Some(Self::new(Engine::Grafana, api.based_at(base), name))
    }
}

/// What one rule says of itself, and what holds it. One that is not there, or that shares its name,
/// is none that can be read.
pub async fn rule(
    place: &Place,
    clients: &Clients,
    timeout: Duration,
    trace: &Trace,
) -> Result<Rule, Fault> {
    let Place { engine, index, api, name } = place;
    let asked = rules(*engine, index, Some(name), api, clients, timeout, trace).await;
    let answer = asked.map_err(Trouble::blind)?;
    let mut found = answer.rows.into_iter().filter(|rule| rule.name == *name);
    let blind = |text| Fault::new(FaultCode::Blind, text);
    match (found.next(), found.count(), answer.lacking) {
        (Some(rule), 0, _) => Ok(rule),
        (Some(_), more, _) => Err(blind(format!("{} rules are called {name:?}", more + 1))),
        (None, _, Some(why)) => Err(blind(format!("no rule is called {name:?}; but {why}"))),
        (None, ..) => Err(blind(format!("no rule is called {name:?} at {}", api.base()))),
    }
}

/// All alerting rules of an engine; of a name, at least those that are called so, and with what holds
/// them. `index` is where ElastAlert 2 writes to.
pub async fn rules(
    engine: Engine,
    index: &str,
    name: Option<&str>,
    api: &Api,
    clients: &Clients,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<Rule>, Trouble> {
    let asking = Asking { api, clients, trace, deadline: Instant::now() + timeout };
    let answer = match (engine, name) {
        (Engine::Prometheus, _) => asking.prometheus().await,
        (Engine::Grafana, _) => asking.grafana().await,
        (Engine::OpensearchAlerting, name) => asking.opensearch(name).await,
        (Engine::ElasticSecurity, name) => asking.elastic(name).await,
        (Engine::Splunk, name) => asking.splunk(name).await,
        (Engine::Elastalert, None) => asking.elastalert(index).await,
        (Engine::Elastalert, Some(name)) => asking.elastalert_of(index, name).await,
    }?;
    for rule in &answer.rows {
        trace.note(format_args!("{rule:?}"));
    }
    Ok(answer)
}

struct Asking<'a> {
    api: &'a Api,
    clients: &'a Clients,
    trace: &'a Trace,
    deadline: Instant,
}

impl Asking<'_> {
    async fn ask(&self, request: Request) -> Result<Value, Trouble> {
        self.api.ask_json(self.clients, request, self.left(), self.trace).await
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Trouble> {
        self.ask(Request::get(self.api.at(path, query))).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.ask(Request::post_json(self.api.at(path, &[]), body)).await
    }

    fn odd(&self, what: &str) -> Trouble {
        let text = format!("{} does not list its rules: {what}", self.api.base());
        Trouble::reason(ReasonCode::ProtocolError, text)
    }

    /// What an answer holds under this pointer.
    fn list<'v>(&self, answer: &'v Value, at: &str) -> Result<&'v Vec<Value>, Trouble> {
        let list = answer.pointer(at).and_then(Value::as_array);
        list.ok_or_else(|| self.odd(&format!("the answer has no {}", at.trim_start_matches('/'))))
    }
}

fn push(found: &mut Answer<Rule>, rule: Rule) {
    if found.rows.len() < LIMIT {
        found.rows.push(rule);
    } else {
        found.lacks(format!("there are more than {LIMIT} rules"));
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()?).ok()
}

fn millis(value: &Value) -> Option<Wall> {
    value.as_i64().map(|millis| Wall(millis.saturating_mul(1_000_000)))
}

/// `5m`, as most write an interval.
fn short(text: &str) -> Option<Duration> {
    text.parse::<Period>().ok().map(|period| period.0)
}

/// How far before now, or before the end of a run, this is: `now-6m`, `now-1d/d`, `{{period_end}}||-1h`.
/// What is rounded down reaches a unit further at most, which is not told.
fn back_from(text: &str) -> Option<Duration> {
    let text = text.trim();
    let math = text.strip_prefix("now").or_else(|| text.split_once("||").map(|(_, math)| math))?;
    let math = math.split('/').next().unwrap_or_default();
    if math.is_empty() {
        return Some(Duration::ZERO);
    }
    // Elasticsearch writes hours as h and as H.
    short(&math.strip_prefix('-')?.replace('H', "h"))
}
