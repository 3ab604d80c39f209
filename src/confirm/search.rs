//! OpenSearch and Elasticsearch: the documents of the round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::alert::{self, Shape};
use super::found::{Found, RECORDS_LIMIT, Record, plain};
use super::monitors::Monitors;
use super::{Confirmer, LookContext, purge, reading};
use crate::client::http::{Api, Auth};
use crate::client::rules::Place;
use crate::client::search::{check_index, search};
use crate::client::tls;
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;

/// Searches an index for the round's documents. Nothing is refreshed: an event is stored when
/// anybody can find it.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// The cluster's base URL, "https://lake:9200".
    pub url: String,
    /// Where to search: an index, a data stream, or a pattern such as `logs-*`. An index that is
    /// named in full and does not exist holds no event; a pattern that matches nothing tells
    /// nothing, because a cluster leaves out of it what a user may not see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub index: String,
    /// The field that holds the round's name, `greenlight.run` where nothing is given.
    #[serde(default = "run_field")]
    pub run: String,
    /// The field that holds the event's text, `message` where nothing is given. It is searched for
    /// the round's name too, so that an event whose fields were lost is found.
    #[serde(default = "message_field")]
    pub message: String,
    /// What to search for instead, as the cluster's query language has it; {run} is the round's
    /// name.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub query: Value,
    /// The documents are alerts: `{ of: elastic_security }`, `{ of: wazuh }`, or which fields say
    /// what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Shape>,
    /// In place of an index: the alerts of OpenSearch Alerting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerting: Option<Monitors>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

fn run_field() -> String {
    String::from("greenlight.run")
}

fn message_field() -> String {
    String::from("message")
}

/// What both are.
struct Search {
    index: String,
    run: String,
    message: String,
    query: Value,
    alerts: Option<Shape>,
    alerting: Option<Monitors>,
    api: Api,
}

impl Search {
    fn new(spec: Spec) -> Result<Self, String> {
        match (&spec.alerting, spec.index.is_empty()) {
            (Some(_), true) => {}
            (Some(_), false) => return Err("`alerting` has no use for an `index`".into()),
            (None, _) => check_index(&spec.index)?,
        }
        if let Some(alerts) = &spec.alerts {
            alerts.validate()?;
        }
        if spec.run.is_empty() || spec.message.is_empty() {
            return Err("`run` and `message` name fields; leave them out for the usual ones".into());
        }
        Ok(Self {
            index: spec.index,
            run: spec.run,
            message: spec.message,
            query: spec.query,
            alerts: spec.alerts,
            alerting: spec.alerting,
            api: Api::new(&spec.url, spec.auth, spec.tls)?,
        })
    }

    fn effects(&self) -> Vec<Effect> {
        let at = self.api.base();
        let what = match &self.alerting {
            Some(Monitors { monitor, .. }) => format!("asks {at} for alerts of {monitor:?}"),
            None => format!("searches {} on {at} for the round's documents", self.index),
        };
        vec![Effect { what, needs: None }]
    }

    fn query(&self, run: &str) -> Value {
        if !self.query.is_null() {
            return filled(&self.query, run);
        }
        // The run is one term to every analyzer, and each token begins with it.
        json!({"bool": {
            "filter": [{"bool": {
                "should": [{"term": {&self.run: run}}, {"prefix": {&self.message: run}}],
                "minimum_should_match": 1,
            }}],
        }})
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        if let Some(monitors) = &self.alerting {
            return monitors.look(&self.api, mark, on).await;
        }
        let query = match &self.alerts {
            Some(shape) if self.query.is_null() => shape.query(&on),
            _ => self.query(&on.sought.run),
        };
        let answer =
            search(&self.api, on.clients, &self.index, &query, RECORDS_LIMIT, on.timeout, on.trace);
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        if answer.no_index {
            reading::remember(mark, &format!("there is no index {}", self.index), on.trace);
        }
        on.trace.note(format_args!("{} documents", answer.documents.len()));
        if let Some(shape) = &self.alerts {
            let wanted = alert::filled(&shape.fields, &on);
            let read = answer.documents.into_iter().filter_map(|document| {
                let text = lookup(&document.source, &self.message).map(plain);
                shape.read(document.id, text, document.source, &wanted)
            });
            let mut look = alert::look(read.collect::<Vec<_>>(), answer.lacking, &on);
            if shape.ends() {
                alert::closed(&mut look, mark);
            }
            return look;
        }
        let mut found = Found::narrowed(on.sought);
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        for document in answer.documents {
            let text = lookup(&document.source, &self.message).map(plain);
            // Two indices may each have a document of one id: those are two copies.
            let same = ids.entry(document.id.clone()).or_default();
            let id = format!("{}#{same}", document.id);
            *same += 1;
            found.take(Record { text, fields: Some(document.source), id: Some(id) });
        }
        if let Some(why) = answer.lacking {
            found.lacks(why);
        }
        found.look()
    }
}

pub(super) fn filled(tree: &Value, run: &str) -> Value {
    match tree {
        Value::String(text) => text.replace("{run}", run).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, run)).collect(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), filled(value, run))).collect()
        }
        other => other.clone(),
    }
}

macro_rules! confirmer {
    ($name:ident, $kind:literal) => {
        pub struct $name(Search);

        impl Confirmer for $name {
            const KIND: &'static str = $kind;
            type Spec = Spec;

            fn new(spec: Spec) -> Result<Self, String> {
                Search::new(spec).map(Self)
            }

            fn effects(&self) -> Vec<Effect> {
                self.0.effects()
            }

            fn purge(&self) -> Option<String> {
                let Search { api, index, run, message, alerts, alerting, .. } = &self.0;
                // An alert is the platform's own.
                if alerts.is_some() || alerting.is_some() {
                    return None;
                }
                Some(purge::by_query(api.base().as_str(), index, run, message))
            }

            fn keeps(&self) -> bool {
                true
            }

            fn ends(&self) -> bool {
                self.0.alerting.is_some() || self.0.alerts.as_ref().is_some_and(Shape::ends)
            }

            fn rule(&self) -> Option<Place> {
                Some(self.0.alerting.as_ref()?.rule(&self.0.api))
            }

            async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
                self.0.look(mark, on).await
            }
        }
    };
}

confirmer!(OpenSearch, "opensearch");
confirmer!(Elasticsearch, "elasticsearch");
