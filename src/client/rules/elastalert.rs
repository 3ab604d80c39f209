//! ElastAlert 2 has no API: what it writes down of its runs and its silences tells how often it runs,
//! how far back it looked and until when it raises nothing.

use std::time::Duration;

use super::*;
use crate::client::http::excerpt;
use crate::client::search::search;
use crate::journey::rule::Held;

/// Runs that are read of one rule, and the fewest that tell how often it runs.
const RUNS: usize = 20;
const RUNS_LEAST: usize = 3;
/// Silences of one rule that are read.
const SILENCES: usize = 100;

impl Asking<'_> {
    /// It has no list of what it loaded: only of what ran.
    pub(super) async fn elastalert(&self, index: &str) -> Result<Answer<Rule>, Trouble> {
        let body = json!({
            "size": 0,
            "query": {"range": {"@timestamp": {"gte": "now-1d"}}},
            "aggs": {"rules": {
                "terms": {"field": "rule_name", "size": LIMIT},
                "aggs": {"ran": {"max": {"field": "@timestamp"}}},
            }},
        });
        let answer = self.status(index, &body).await?;
        let mut found = Answer::default();
        for bucket in self.list(&answer, "/aggregations/rules/buckets")? {
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

    /// One rule, by its last runs and its silences. Whether one that does not run is disabled can't
    /// be told from here.
    pub(super) async fn elastalert_of(
        &self,
        index: &str,
        name: &str,
    ) -> Result<Answer<Rule>, Trouble> {
        let body = json!({
            "size": RUNS,
            "query": {"match_phrase": {"rule_name": name}},
            "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "date"}}],
        });
        let answer = self.status(index, &body).await?;
        let mut runs = Vec::new();
        for hit in self.list(&answer, "/hits/hits")? {
            let source = hit.get("_source").unwrap_or(&Value::Null);
            let at = |key: &str| Wall::parse(text(source, key));
            if let Some(ran) = at("@timestamp").filter(|_| text(source, "rule_name") == name) {
                runs.push((ran, at("starttime").zip(at("endtime"))));
            }
        }
        let mut found = Answer::default();
        let Some((ran, _)) = runs.first().copied() else { return Ok(found) };
        let spans = runs.iter().filter_map(|(_, span)| {
            let (start, end) = (*span)?;
            between(start, end).filter(|span| !span.is_zero())
        });
        let gaps = runs.windows(2).filter_map(|two| match two {
            [later, earlier] => between(earlier.0, later.0),
            _ => None,
        });
        push(
            &mut found,
            Rule {
                name: name.to_owned(),
                enabled: true,
                ran: Some(ran),
                every: gaps.max().filter(|_| runs.len() >= RUNS_LEAST),
                schedule: Some(format!("the longest between its last {} runs", runs.len())),
                look_back: spans.min(),
                held: self.silence(index, name).await?,
                tells_held: true,
                ..Rule::default()
            },
        );
        Ok(found)
    }

    async fn status(&self, index: &str, body: &Value) -> Result<Value, Trouble> {
        let answer = self.post(&format!("{index}_status/_search"), body).await?;
        let failed = answer.pointer("/_shards/failed").and_then(Value::as_u64);
        if failed != Some(0) || answer["timed_out"] != false {
            return Err(self.odd("not every shard answered"));
        }
        Ok(answer)
    }

    /// By `realert` or by hand, until when: of the whole rule, or of one value of its query key.
    async fn silence(&self, index: &str, name: &str) -> Result<Option<Held>, Trouble> {
        let query = json!({"bool": {"filter": [
            {"range": {"until": {"gte": "now"}}},
            {"bool": {
                "should": [
                    {"prefix": {"rule_name": name}},
                    {"match_phrase": {"rule_name": name}},
                ],
                "minimum_should_match": 1,
            }},
        ]}});
        let index = format!("{index}_silence");
        let left = self.left();
        let asked = search(self.api, self.clients, &index, &query, SILENCES, left, self.trace);
        let answer = asked.await?;
        if let Some(why) = answer.lacking {
            return Err(self.odd(&why));
        }
        let (by_hand, dotted) = (format!("{name}._silence"), format!("{name}."));
        let of_rule = answer.documents.iter().filter_map(|document| {
            let of = document.source.get("rule_name")?.as_str()?;
            let whole = of == name || of == by_hand;
            let until = Wall::parse(document.source.get("until")?.as_str()?)?;
            (whole || of.starts_with(&dotted)).then_some((whole, until))
        });
        Ok(of_rule.max().map(|(whole, until)| {
            let of = if whole { "it is" } else { "one value of its query key is" };
            let until_text = excerpt(until.rfc3339().as_bytes());
            let why = format!("{of} silenced until {until_text}, by `realert` or by hand");
            Held { why, until: Some(until), whole }
        }))
    }
}

fn between(from: Wall, to: Wall) -> Option<Duration> {
    u64::try_from(to.0.checked_sub(from.0)?).ok().map(Duration::from_nanos)
}
