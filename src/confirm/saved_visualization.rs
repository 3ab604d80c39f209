//! A saved visualisation of OpenSearch Dashboards or Kibana: its query, asked of the cluster.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Confirmer, LookContext, reading};
use crate::client::http::{Api, Auth, Request, expect_success, json as read_json};
use crate::client::search::check_index;
use crate::client::tls;
use crate::journey::{Horizon, Look};
use crate::outcome::{Fault, FaultCode, ReasonCode, Trouble};
use crate::probe::Effect;
use crate::spec::Period;

/// Under this key of the mark stands what it showed before the round.
const BEFORE: &str = "before";
/// The kinds of metrics that are computed, as both products name them.
const METRICS: &[&str] = &["avg", "cardinality", "count", "max", "min", "sum"];

/// Reads a saved visualisation of one metric (a count, a sum, an average, a smallest, a greatest or a
/// number of distinct values), asks the cluster what it asks, and compares the number. What it can't
/// ask in the same way (buckets, KQL, a saved search, another kind of metric) is inconclusive and
/// named.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of OpenSearch Dashboards or Kibana, with its space or tenant where it has one.
    pub dashboards: String,
    /// The id of the saved visualisation.
    pub visualization: String,
    /// The cluster's base URL.
    pub url: String,
    /// How far back it looks.
    pub from: Period,
    /// Which of its metrics, by the number that the visualisation gives it, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// How far the number may be from the expected one.
    #[serde(default)]
    pub tolerance: f64,
    /// Compare by how much the number has grown since the round began.
    #[serde(default)]
    pub delta: bool,
    /// Who we are to OpenSearch Dashboards or Kibana.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Who we are to the cluster, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct SavedVisualization {
    spec: Spec,
    saved: Api,
    cluster: Api,
}

/// What of a look is the visualisation's own fault: a person sees no number either.
enum Seen {
    Number(f64),
    Broken(String),
}

impl Confirmer for SavedVisualization {
    const KIND: &'static str = "saved_visualization";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        reading::check_tolerance(spec.tolerance)?;
        if !is_id(&spec.visualization) {
            return Err(format!("{:?} is no id of a saved visualisation", spec.visualization));
        }
        let saved = Api::new(&spec.dashboards, spec.auth.clone(), spec.tls.clone())?;
        let auth = spec.cluster_auth.clone().or_else(|| spec.auth.clone());
        let cluster = Api::new(&spec.url, auth, spec.tls.clone())?;
        Ok(Self { spec, saved, cluster })
    }

    fn effects(&self) -> Vec<Effect> {
        let what = format!(
            "reads the visualisation {} of {} and searches {} as it does",
            self.spec.visualization,
            self.saved.base(),
            self.cluster.base()
        );
        vec![Effect { what, needs: None }]
    }

    async fn begin(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        if !self.spec.delta {
            return Ok(Value::Null);
        }
        match self.read(&on).await.map_err(Trouble::blind)? {
            Seen::Number(before) => Ok(json!({ BEFORE: before })),
            Seen::Broken(why) => Ok(json!({ reading::SAW: why })),
        }
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let complete = |arrivals| Look { arrivals, horizon: Horizon::Complete };
        let value = match self.read(&on).await {
            Ok(Seen::Number(value)) => value,
            Ok(Seen::Broken(why)) => {
                reading::remember(mark, &why, on.trace);
                return complete(Vec::new());
            }
            Err(trouble) => return Look::blind(trouble.blind()),
        };
        let Some(expected) = on.sought.equals else { return complete(vec![reading::arrival()]) };
        let value = match (self.spec.delta, mark.get(BEFORE).and_then(Value::as_f64)) {
            (false, _) => value,
            (true, Some(before)) => value - before,
            (true, None) => {
                reading::remember(mark, "what it showed before the round is not known", on.trace);
                return complete(Vec::new());
            }
        };
        complete(reading::compare(value, expected, self.spec.tolerance, mark, on.trace))
    }
}

/// An id that stands in a path as it is.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

fn unsupported(text: impl Into<String>) -> Trouble {
    Trouble::fault(FaultCode::Unsupported, text)
}

impl SavedVisualization {
    /// A saved object's attributes and its references; None where there is none.
    async fn object(
        &self,
        kind: &str,
        id: &str,
        on: &LookContext<'_>,
    ) -> Result<Option<Value>, Trouble> {
        if !is_id(id) {
            return Err(unsupported(format!("the {kind} {id:?} can't be asked for")));
        }
        let request = Request::get(self.saved.at(&format!("api/saved_objects/{kind}/{id}"), &[]));
        let response = self.saved.ask(on.clients, request, on.timeout, on.trace).await?;
        if response.status == hyper::StatusCode::NOT_FOUND {
            let said: Option<Value> = serde_json::from_slice(&response.body).ok();
            // A proxy's own 404 says nothing of objects.
            if said.as_ref().and_then(|said| said.get("statusCode")).is_some() {
                return Ok(None);
            }
        }
        expect_success(&response)?;
        Ok(Some(read_json(&response)?))
    }

    async fn read(&self, on: &LookContext<'_>) -> Result<Seen, Trouble> {
        let id = &self.spec.visualization;
        let Some(object) = self.object("visualization", id, on).await? else {
            return Ok(Seen::Broken(format!("there is no visualisation {id}")));
        };
        let asked = Asked::of(&object, self.spec.metric.as_deref()).map_err(unsupported)?;
        let Some(pattern) = self.object("index-pattern", &asked.pattern, on).await? else {
            return Ok(Seen::Broken(format!("its index pattern {} is gone", asked.pattern)));
        };
        let attribute = |key: &str| pattern.get("attributes")?.get(key)?.as_str();
        let Some(index) = attribute("title") else {
            return Err(Trouble::reason(
                ReasonCode::ProtocolError,
                format!("{} sent no index pattern", self.saved.base()),
            ));
        };
        check_index(index).map_err(unsupported)?;
        let millis = |at: crate::time::Wall| at.0.div_euclid(1_000_000);
        let (from, to) = (millis(on.now.wall.minus(self.spec.from.0)), millis(on.now.wall));
        let body = asked.search(attribute("timeFieldName").filter(|f| !f.is_empty()), from, to);
        on.trace.note(format_args!("the visualisation asks {body}"));
        let place = self.cluster.at(&format!("{index}/_search"), &[("ignore_unavailable", "true")]);
        let request = Request::post_json(place, &body);
        let answer = self.cluster.ask_json(on.clients, request, on.timeout, on.trace).await?;
        let wrong = |text: &str| {
            let text = format!("{} {text}", self.cluster.base());
            Trouble::reason(ReasonCode::ProtocolError, text)
        };
        let failed = answer.get("_shards").and_then(|shards| shards.get("failed")?.as_u64());
        if failed != Some(0) || answer.get("timed_out") != Some(&Value::Bool(false)) {
            return Err(wrong("searched only a part"));
        }
        let value = match &asked.metric {
            None => answer.get("hits").and_then(|hits| hits.get("total")?.get("value")?.as_f64()),
            Some(_) => {
                let value =
                    answer.get("aggregations").and_then(|all| all.get("metric")?.get("value"));
                match value {
                    // Of no documents there is no average.
                    Some(Value::Null) => return Ok(Seen::Broken("it shows no data".into())),
                    value => value.and_then(Value::as_f64),
                }
            }
        };
        value.map(Seen::Number).ok_or_else(|| wrong("answered without the number"))
    }
}

/// What a visualisation asks.
#[derive(Debug, PartialEq)]
struct Asked {
    /// The id of its index pattern.
    pattern: String,
    /// The aggregation; None counts documents.
    metric: Option<Value>,
    must: Vec<Value>,
    must_not: Vec<Value>,
}

impl Asked {
    /// The error says what of it is not asked here.
    fn of(object: &Value, metric: Option<&str>) -> Result<Self, String> {
        let attributes = object.get("attributes").ok_or("it has no attributes")?;
        let inner = |text: Option<&Value>, what: &str| {
            let text = text.and_then(Value::as_str).unwrap_or("{}");
            serde_json::from_str::<Value>(text).map_err(|_| format!("its {what} can't be read"))
        };
        let state = inner(attributes.get("visState"), "state")?;
        let meta = attributes.get("kibanaSavedObjectMeta");
        let source = inner(meta.and_then(|meta| meta.get("searchSourceJSON")), "search")?;
        let reference = |name: &str| {
            let all = object.get("references").and_then(Value::as_array).into_iter().flatten();
            let mut named = all.filter(|one| one.get("name").and_then(Value::as_str) == Some(name));
            named.find_map(|one| one.get("id").and_then(Value::as_str))
        };
        if attributes.get("savedSearchRefName").is_some()
            || attributes.get("savedSearchId").is_some()
        {
            return Err("it is made of a saved search, which is not followed".into());
        }
        match state.get("type").and_then(Value::as_str).unwrap_or_default() {
            "metric" | "gauge" | "goal" => {}
            other => return Err(format!("a visualisation of the type {other:?} is not asked")),
        }
        let named = source.get("indexRefName").and_then(Value::as_str).and_then(reference);
        let pattern = named.or_else(|| source.get("index").and_then(Value::as_str));
        let mut must = Vec::new();
        let mut must_not = Vec::new();
        let query = source.get("query").unwrap_or(&Value::Null);
        let language = query.get("language").and_then(Value::as_str).unwrap_or("lucene");
        match (query.get("query"), language) {
            (None | Some(Value::Null), _) => {}
            (Some(Value::String(text)), _) if text.trim().is_empty() => {}
            (Some(Value::String(text)), "lucene") => {
                must.push(json!({"query_string": {"query": text, "analyze_wildcard": true}}));
            }
            (Some(Value::Object(query)), "lucene") => must.push(Value::Object(query.clone())),
            (_, other) => return Err(format!("its query is written in {other:?}")),
        }
        for filter in source.get("filter").and_then(Value::as_array).into_iter().flatten() {
            let meta = |key: &str| filter.get("meta").and_then(|meta| meta.get(key));
            if meta("disabled") == Some(&Value::Bool(true)) {
                continue;
            }
            let clause = filter.get("query").filter(|query| query.is_object()).cloned();
            let old = || {
                let keys = ["exists", "range", "match_all", "script", "geo_bounding_box"];
                let key = keys.into_iter().find(|key| filter.get(*key).is_some())?;
                Some(Value::Object(Map::from_iter([(key.to_owned(), filter.get(key)?.clone())])))
            };
            let clause = clause.or_else(old).ok_or("a filter of it has no query")?;
            let list =
                if meta("negate") == Some(&Value::Bool(true)) { &mut must_not } else { &mut must };
            list.push(clause);
        }
        Ok(Self {
            pattern: pattern.ok_or("it names no index pattern")?.to_owned(),
            metric: chosen(&state, metric)?,
            must,
            must_not,
        })
    }

    fn search(&self, time: Option<&str>, from: i64, to: i64) -> Value {
        let mut filter = self.must.clone();
        if let Some(time) = time {
            let range = json!({"gte": from, "lte": to, "format": "epoch_millis"});
            filter.push(json!({"range": {time: range}}));
        }
        let query = json!({"bool": {"filter": filter, "must_not": self.must_not}});
        let mut body = json!({"size": 0, "track_total_hits": true, "query": query});
        if let (Some(metric), Some(body)) = (&self.metric, body.as_object_mut()) {
            body.insert("aggs".into(), json!({ "metric": metric }));
        }
        body
    }
}

/// The visualisation's one metric, or the one that is meant; None is the count of documents.
fn chosen(state: &Value, wanted: Option<&str>) -> Result<Option<Value>, String> {
    let all = state.get("aggs").and_then(Value::as_array).into_iter().flatten();
    let on = all.filter(|agg| agg.get("enabled") != Some(&Value::Bool(false)));
    let text = |agg: &Value, key: &str| {
        agg.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (metrics, others): (Vec<&Value>, Vec<&Value>) =
        on.partition(|agg| text(agg, "schema") == "metric");
    if !others.is_empty() {
        return Err("it shows a number for each bucket".into());
    }
    let meant: Vec<&Value> = match wanted {
        Some(id) => metrics.into_iter().filter(|agg| text(agg, "id") == id).collect(),
        None => metrics,
    };
    let [agg] = meant.as_slice() else {
        return Err(format!("it shows {} numbers; name one under `metric`", meant.len()));
    };
    let kind = text(agg, "type");
    if !METRICS.contains(&kind.as_str()) {
        return Err(format!("the metric {kind:?} is not asked"));
    }
    if kind == "count" {
        return Ok(None);
    }
    let params = agg.get("params");
    if params
        .and_then(|p| p.get("json"))
        .and_then(Value::as_str)
        .is_some_and(|j| !j.trim().is_empty())
    {
        return Err("its metric has parameters of its own".into());
    }
    let field = params.and_then(|params| params.get("field")).and_then(Value::as_str);
    let field = field.ok_or("its metric names no field")?;
    Ok(Some(json!({ kind: {"field": field} })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(state: &Value, source: &Value) -> Value {
        json!({
            "attributes": {
                "visState": state.to_string(),
                "kibanaSavedObjectMeta": {"searchSourceJSON": source.to_string()},
            },
            "references": [{"name": "ref", "type": "index-pattern", "id": "p1"}],
        })
    }

    fn metric(aggs: &Value) -> Value {
        json!({"type": "metric", "aggs": aggs})
    }

    #[test]
    fn a_visualisation_asks_what_it_says() {
        let count = json!([{"id": "1", "enabled": true, "type": "count", "schema": "metric", "params": {}}]);
        let source = json!({
            "indexRefName": "ref",
            "query": {"query": "action:failed", "language": "lucene"},
            "filter": [
                {"meta": {"disabled": true}, "query": {"match_all": {}}},
                {"meta": {"negate": true}, "query": {"match_phrase": {"host": "b"}}},
                {"meta": {}, "exists": {"field": "user"}},
            ],
        });
        let asked = Asked::of(&object(&metric(&count), &source), None).unwrap();
        assert_eq!(asked.pattern, "p1");
        let body = asked.search(Some("@timestamp"), 5, 9);
        assert_eq!(body["query"]["bool"]["filter"][1], json!({"exists": {"field": "user"}}));
        assert_eq!(body["query"]["bool"]["filter"][2]["range"]["@timestamp"]["gte"], 5);
        assert_eq!(body["query"]["bool"]["must_not"], json!([{"match_phrase": {"host": "b"}}]));
        assert!(body.get("aggs").is_none());

        let plain = json!({"indexRefName": "ref", "query": {"query": "", "language": "kuery"}});
        let sum = json!([
            {"id": "1", "type": "sum", "schema": "metric", "params": {"field": "bytes"}},
            {"id": "2", "type": "cardinality", "schema": "metric", "params": {"field": "user"}},
        ]);
        let two = object(&metric(&sum), &plain);
        let asked = Asked::of(&two, Some("2")).unwrap();
        assert_eq!(
            asked.search(None, 0, 1)["aggs"]["metric"],
            json!({"cardinality": {"field": "user"}})
        );
        for (object, why) in [
            (two, "2 numbers"),
            (object(&json!({"type": "pie"}), &plain), "pie"),
            (
                object(
                    &metric(&count),
                    &json!({"indexRefName": "ref", "query": {"query": "a: b", "language": "kuery"}}),
                ),
                "kuery",
            ),
            (object(&metric(&count), &json!({})), "index pattern"),
            (object(&metric(&json!([{"type": "median", "schema": "metric"}])), &plain), "median"),
            (
                object(
                    &metric(
                        &json!([{"type": "count", "schema": "metric"}, {"type": "terms", "schema": "group"}]),
                    ),
                    &plain,
                ),
                "bucket",
            ),
            (json!({"attributes": {"visState": "{"}}), "read"),
        ] {
            let said = Asked::of(&object, None).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
