//! ElastAlert 2 by what it writes about itself: each alert that it raised, whether it could send
//! it, and, where none is there, what its last run, its silences and its errors say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::alert::{self, Alert};
use super::{Confirmer, LookContext, MARGIN, reading};
use crate::client::http::{Api, Auth, excerpt};
use crate::client::rules::{Engine, Place, writeback_index};
use crate::client::search::{Answer, check_index, search};
use crate::client::tls;
use crate::journey::Look;
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::time::Wall;

/// Runs, silences and errors that are read to say why no alert is there.
const REMARKS: usize = 50;

#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The base URL of the OpenSearch or Elasticsearch that ElastAlert 2 writes to.
    pub url: String,
    /// Its `writeback_index`; `elastalert_status` where nothing is given.
    #[serde(default = "writeback_index")]
    pub index: String,
    /// The rule's name.
    pub rule: String,
    /// Fields of the match, or of ElastAlert's own document, and their values; {run} is the round's
    /// name. An alert counts where it names the round, or names none and was raised after the round
    /// began.
    #[serde(default, rename = "match")]
    pub fields: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

pub struct ElastAlert {
    index: String,
    rule: String,
    fields: BTreeMap<String, String>,
    api: Api,
}

impl Confirmer for ElastAlert {
    const KIND: &'static str = "elastalert";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        check_index(&spec.index)?;
        if spec.index.contains(['*', ',', ':']) {
            return Err("`index` is the one that ElastAlert 2 writes to, not a pattern".into());
        }
        if spec.rule.is_empty() {
            return Err("`rule` is empty".into());
        }
        let api = Api::new(&spec.url, spec.auth, spec.tls)?;
        Ok(Self { index: spec.index, rule: spec.rule, fields: spec.fields, api })
    }

    fn effects(&self) -> Vec<Effect> {
        let what =
            format!("searches {} on {} for alerts of {:?}", self.index, self.api.base(), self.rule);
        vec![Effect { what, needs: None }]
    }

    fn rule(&self) -> Option<Place> {
        let place = Place::new(Engine::Elastalert, self.api.clone(), &self.rule);
        Some(Place { index: self.index.clone(), ..place })
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let until = Instant::now() + on.timeout;
        // A rule's name is a keyword where the index was made by ElastAlert's own tool, and else a
        // text: a phrase finds it in both. The match itself is never indexed.
        let answer = match self.ask("", "alert_time", LIMIT, until, &on).await {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        on.trace.note(format_args!("{} documents of the rule", answer.documents.len()));
        let raised = self.alerts(&answer, &alert::filled(&self.fields, &on));
        let look = alert::look(raised, answer.lacking, &on);
        if look.arrivals.is_empty() {
            let why = if answer.no_index {
                format!("there is no index {}", self.index)
            } else {
                self.why_none(until, &on).await
            };
            reading::remember(mark, &why, on.trace);
        }
        look
    }
}

/// A document's id and its source.
type Match<'a> = (&'a str, &'a Map<String, Value>);

/// As many matches as that may one rule have had in the time of a round.
const LIMIT: usize = 1_000;

impl ElastAlert {
    /// What one of ElastAlert's indices holds of the rule since the round began.
    async fn ask(
        &self,
        suffix: &str,
        time: &str,
        limit: usize,
        until: Instant,
        on: &LookContext<'_>,
    ) -> Result<Answer, Trouble> {
        let (from, _) = on.span(if suffix.is_empty() { MARGIN } else { Duration::ZERO });
        let mut filter = vec![json!({"range": {time: {"gte": from.rfc3339()}}})];
        match suffix {
            // A silence may be of one value of the rule's query key.
            "_silence" => filter.push(json!({"bool": {
                "should": [
                    {"prefix": {"rule_name": self.rule}},
                    {"match_phrase": {"rule_name": self.rule}},
                ],
                "minimum_should_match": 1,
            }})),
            // The rule stands in what is not indexed.
            "_error" => {}
            _ => filter.push(json!({"match_phrase": {"rule_name": self.rule}})),
        }
        let query = json!({"bool": {"filter": filter}});
        let left = until.saturating_duration_since(Instant::now());
        let index = format!("{}{suffix}", self.index);
        search(&self.api, on.clients, &index, &query, limit, left, on.trace).await
    }

    /// One alert for each document and those that it was sent together with.
    fn alerts(&self, answer: &Answer, wanted: &BTreeMap<String, String>) -> Vec<Alert> {
        let mut alerts: BTreeMap<&str, Vec<Match<'_>>> = BTreeMap::new();
        for document in &answer.documents {
            let source = &document.source;
            let is = |name: &str| source.get(name).and_then(Value::as_str);
            if is("rule_name") == Some(self.rule.as_str()) {
                let first = is("aggregate_id").unwrap_or(&document.id);
                alerts.entry(first).or_default().push((&document.id, source));
            }
        }
        let whole = |(first, mut matches): (&str, Vec<Match<'_>>)| {
            matches.sort_by_key(|(id, _)| (*id != first, *id));
            let among = |source: &Map<String, Value>| {
                let body = source.get("match_body").and_then(Value::as_object);
                body.is_some_and(|body| alert::matches(body, wanted))
                    || alert::matches(source, wanted)
            };
            if !matches.iter().any(|(_, source)| among(source)) {
                return None;
            }
            let (_, leader) = matches.first()?;
            let mut fields = (*leader).clone();
            let others: Vec<Value> = matches
                .iter()
                .skip(1)
                .filter_map(|(_, source)| source.get("match_body").cloned())
                .collect();
            if !others.is_empty() {
                fields.insert("aggregated".into(), others.into());
            }
            let began = leader.get("alert_time").and_then(Value::as_str).and_then(Wall::parse);
            let (name, priority) = (leader.get("rule_name"), leader.get("priority"));
            let alert = Alert::new(first.to_owned(), began, fields).named(name, priority);
            Some(Alert { wrong: unsent(leader), ..alert })
        };
        alerts.into_iter().filter_map(whole).collect()
    }

    /// What ElastAlert says of the rule, where no alert of it is there. It only explains; what
    /// can't be read is left out.
    async fn why_none(&self, until: Instant, on: &LookContext<'_>) -> String {
        let name = &self.rule;
        let runs = self.ask("_status", "@timestamp", REMARKS, until, on).await;
        let silences = self.ask("_silence", "until", REMARKS, until, on).await;
        let errors = self.ask("_error", "@timestamp", REMARKS, until, on).await;
        let documents = |asked: &Result<Answer, Trouble>| -> Vec<Map<String, Value>> {
            let found = asked.as_ref().map(|answer| answer.documents.clone()).unwrap_or_default();
            found.into_iter().map(|document| document.source).collect()
        };
        let text = |source: &Map<String, Value>, key: &str| {
            source.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut said = Vec::new();
        let dotted = format!("{name}.");
        let silenced = documents(&silences).into_iter().find(|silence| {
            let of = text(silence, "rule_name");
            of == *name || of.starts_with(&dotted)
        });
        if let Some(silence) = silenced {
            let until = excerpt(text(&silence, "until").as_bytes());
            said.push(format!("the rule is silenced until {until}, by `realert` or by hand"));
        }
        let of_rule = |error: &Map<String, Value>| {
            let data = error.get("data").and_then(Value::as_object);
            let rule = data.and_then(|data| data.get("rule").or_else(|| data.get("rule_name")));
            rule.and_then(Value::as_str) == Some(name.as_str())
        };
        if let Some(error) = documents(&errors).into_iter().find(of_rule) {
            let message = text(&error, "message");
            said.push(format!("ElastAlert says: {}", excerpt(message.as_bytes())));
        }
        let mut ran = documents(&runs);
        ran.retain(|run| text(run, "rule_name") == *name);
        let sum = |key: &str| ran.iter().filter_map(|run| run.get(key)?.as_u64()).sum::<u64>();
        said.push(match (runs.is_ok(), ran.len()) {
            (false, _) => "whether the rule ran can't be told".into(),
            (true, 0) => "the rule did not run since the round began".into(),
            (true, runs) => format!(
                "the rule ran {runs} times, over {} hits with {} matches",
                sum("hits"),
                sum("matches")
            ),
        });
        format!("no alert of {name:?}: {}", said.join("; "))
    }
}

/// Why an alert was raised and not sent.
fn unsent(source: &Map<String, Value>) -> Option<String> {
    if source.get("alert_sent").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let said = source.get("alert_exception").and_then(Value::as_str);
    Some(match said {
        Some(said) => {
            format!("the alert was raised and could not be sent: {}", excerpt(said.as_bytes()))
        }
        None => {
            let at = source.get("alert_time").and_then(Value::as_str).unwrap_or("later");
            let at = excerpt(at.as_bytes());
            format!("the alert was raised and is not sent yet, but with others at {at}")
        }
    })
}
