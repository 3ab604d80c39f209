//! The rules that a detection engine has loaded, and how each fares: Prometheus and what speaks its
//! API (Grafana, Mimir, Thanos, vmalert), OpenSearch Alerting, Elastic Security, ElastAlert 2.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{Api, Request, excerpt};
use super::{Answer, Clients};
use crate::outcome::{ReasonCode, Trouble, words};
use crate::spec::trace::Trace;
use crate::time::Wall;

/// Rules in one answer, and the most that are read.
const PAGE: u64 = 500;
pub const LIMIT: usize = 20_000;

words! {
    /// Which engine.
    Engine {
        /// Prometheus, and what speaks its API: Mimir, Thanos, vmalert, and Grafana under
        /// `/api/prometheus/grafana`.
        Prometheus = "prometheus",
        /// OpenSearch Alerting: its monitors.
        OpensearchAlerting = "opensearch_alerting",
        /// Elastic Security, at Kibana's URL.
        ElasticSecurity = "elastic_security",
        /// ElastAlert 2, at the store that it writes to: the rules that ran in the last day.
        Elastalert = "elastalert",
    }
}

/// The `writeback_index` that ElastAlert has where nothing is configured.
pub fn writeback_index() -> String {
    String::from("elastalert_status")
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    pub name: String,
    pub enabled: bool,
    /// Why its last run failed.
    pub failing: Option<String>,
    /// When it ran last, where the engine says so and it ever did.
    pub ran: Option<Wall>,
    /// How often it runs.
    pub every: Option<Duration>,
    /// How long its condition must hold before it fires.
    pub holds: Duration,
    /// That it is about to fire, or fires, in the engine's word.
    pub state: String,
}

/// All alerting rules of an engine. `index` is where ElastAlert 2 writes to.
pub async fn rules(
    engine: Engine,
    index: &str,
    api: &Api,
    clients: &Clients,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<Rule>, Trouble> {
    let asking = Asking { api, clients, trace, deadline: Instant::now() + timeout };
    let answer = match engine {
        Engine::Prometheus => asking.prometheus().await,
        Engine::OpensearchAlerting => asking.opensearch().await,
        Engine::ElasticSecurity => asking.elastic().await,
        Engine::Elastalert => asking.elastalert(index).await,
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
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.api.ask_json(self.clients, request, left, self.trace).await
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

    async fn prometheus(&self) -> Result<Answer<Rule>, Trouble> {
        let answer = self.get("api/v1/rules", &[("type", "alert")]).await?;
        let groups = answer.pointer("/data/groups").and_then(Value::as_array);
        let groups = groups.ok_or_else(|| self.odd("the answer has no groups"))?;
        let mut found = Answer::default();
        for group in groups {
            let rules = group.get("rules").and_then(Value::as_array);
            let rules = rules.ok_or_else(|| self.odd("a group has no rules"))?;
            let every = group.get("interval").and_then(seconds);
            for rule in rules.iter().filter(|rule| rule["type"] == "alerting") {
                let error = text(rule, "lastError");
                let failing = match text(rule, "health") {
                    "ok" | "unknown" | "nodata" | "" => None,
                    health if error.is_empty() => Some(health.to_owned()),
                    _ => Some(excerpt(error.as_bytes())),
                };
                push(
                    &mut found,
                    Rule {
                        name: text(rule, "name").to_owned(),
                        enabled: rule["isPaused"] != true,
                        failing,
                        // Before its first run it names the year 1.
                        ran: Wall::parse(text(rule, "lastEvaluation")).filter(|ran| ran.0 > 0),
                        every,
                        holds: rule.get("duration").and_then(seconds).unwrap_or_default(),
                        state: text(rule, "state").to_owned(),
                    },
                );
            }
        }
        Ok(found)
    }

    async fn opensearch(&self) -> Result<Answer<Rule>, Trouble> {
        let body = json!({"size": PAGE, "track_total_hits": true, "query": {"match_all": {}}});
        let answer = self.post("_plugins/_alerting/monitors/_search", &body).await?;
        let hits = answer.pointer("/hits/hits").and_then(Value::as_array);
        let hits = hits.ok_or_else(|| self.odd("the answer has no hits"))?;
        let stats = self.get("_plugins/_alerting/stats", &[]).await?;
        let jobs: Vec<&Value> = stats
            .get("nodes")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|nodes| nodes.values())
            .filter_map(|node| node.get("jobs_info"))
            .collect();
        let errors = [("alertState", "ERROR"), ("size", "1000")];
        let errors = self.get("_plugins/_alerting/monitors/alerts", &errors).await?;
        let errors = errors.get("alerts").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut found = Answer::default();
        for hit in hits {
            let id = text(hit, "_id");
            let source = hit.get("_source").unwrap_or(&Value::Null);
            // Older versions nest it.
            let monitor = source.get("monitor").unwrap_or(source);
            let period = monitor.pointer("/schedule/period");
            let unit = match period.map(|period| text(period, "unit")) {
                Some("MINUTES") => 60,
                Some("HOURS") => 3_600,
                Some("DAYS") => 86_400,
                _ => 0,
            };
            let number = period.and_then(|period| period.get("interval")?.as_u64());
            let ran =
                jobs.iter().filter_map(|node| node.get(id)?.get("last_execution_time")?.as_i64());
            let error = errors.iter().find(|alert| text(alert, "monitor_id") == id);
            push(
                &mut found,
                Rule {
                    name: text(monitor, "name").to_owned(),
                    enabled: monitor["enabled"] == true,
                    failing: error.map(|error| excerpt(text(error, "error_message").as_bytes())),
                    ran: ran.max().map(|millis| Wall(millis.saturating_mul(1_000_000))),
                    every: number.filter(|_| unit > 0).map(|n| Duration::from_secs(n * unit)),
                    ..Rule::default()
                },
            );
        }
        let total = answer.pointer("/hits/total/value").and_then(Value::as_u64);
        if total.is_none_or(|total| total > hits.len() as u64) {
            found.lacks(format!("{} monitors were read, and there are more", hits.len()));
        }
        Ok(found)
    }

    async fn elastic(&self) -> Result<Answer<Rule>, Trouble> {
        let mut found = Answer::default();
        for page in 1.. {
            let (page, per_page) = (u64::to_string(&page), PAGE.to_string());
            let query = [("page", page.as_str()), ("per_page", per_page.as_str())];
            let answer = self.get("api/detection_engine/rules/_find", &query).await?;
            let data = answer.get("data").and_then(Value::as_array);
            let data = data.ok_or_else(|| self.odd("the answer has no data"))?;
            for rule in data {
                let last = rule.pointer("/execution_summary/last_execution");
                let status = last.map(|last| text(last, "status")).unwrap_or_default();
                let said = last.map(|last| text(last, "message")).unwrap_or_default();
                let failing = matches!(status, "failed" | "partial failure" | "warning")
                    .then(|| format!("{status}: {}", excerpt(said.as_bytes())));
                push(
                    &mut found,
                    Rule {
                        name: text(rule, "name").to_owned(),
                        enabled: rule["enabled"] == true,
                        failing,
                        ran: last.and_then(|last| Wall::parse(text(last, "date"))),
                        every: short(text(rule, "interval")),
                        ..Rule::default()
                    },
                );
            }
            let total = answer.get("total").and_then(Value::as_u64);
            let total = total.ok_or_else(|| self.odd("the answer has no total"))?;
            if found.rows.len() as u64 >= total {
                return Ok(found);
            }
            if data.is_empty() || found.rows.len() >= LIMIT {
                found.lacks(format!("{} of {total} rules were given out", found.rows.len()));
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// It has no list of what it loaded: only of what ran.
    async fn elastalert(&self, index: &str) -> Result<Answer<Rule>, Trouble> {
        let body = json!({
            "size": 0,
            "query": {"range": {"@timestamp": {"gte": "now-1d"}}},
            "aggs": {"rules": {
                "terms": {"field": "rule_name", "size": LIMIT},
                "aggs": {"ran": {"max": {"field": "@timestamp"}}},
            }},
        });
        let answer = self.post(&format!("{index}_status/_search"), &body).await?;
        let failed = answer.pointer("/_shards/failed").and_then(Value::as_u64);
        if failed != Some(0) || answer["timed_out"] != false {
            return Err(self.odd("not every shard answered"));
        }
        let buckets = answer.pointer("/aggregations/rules/buckets").and_then(Value::as_array);
        let buckets = buckets.ok_or_else(|| self.odd("the answer has no buckets"))?;
        let mut found = Answer::default();
        for bucket in buckets {
            let ran = bucket.pointer("/ran/value").and_then(Value::as_f64);
            push(
                &mut found,
                Rule {
                    name: text(bucket, "key").to_owned(),
                    enabled: true,
                    ran: ran.map(|millis| Wall((millis * 1e6) as i64)),
                    ..Rule::default()
                },
            );
        }
        Ok(found)
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

/// `5m`, as Kibana writes an interval.
fn short(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit)?))
}
