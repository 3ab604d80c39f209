//! One file a way to see. A new way is one file and its line in [`kinds!`] below.
//!
//! A confirmer looks and says how far it could see; it never says "lost".

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::Clients;
use crate::client::rules::Place;
use crate::journey::{Look, Run, Stage};
use crate::outcome::Fault;
use crate::probe::{Effect, Entry};
use crate::spec::trace::Trace;
use crate::time::{Now, Wall};

/// Clocks of two machines differ by less: what a round left is looked for so far around it.
const MARGIN: Duration = Duration::from_secs(60);

/// The round that is looked for.
#[derive(Clone, Debug)]
pub struct Sought {
    pub journey: Arc<str>,
    pub run: Run,
    pub stage: Stage,
    /// How many events the round has; sequence numbers are `first_seq..first_seq + count`.
    pub first_seq: u64,
    pub count: u64,
    /// Events that were certainly handed over so far: what a dashboard should show.
    pub sent: u64,
    /// The number that a reading should show (`equals:` of the stage; `equals: sent` is `sent`).
    pub equals: Option<f64>,
    /// Only what names the round is its own: of a benign twin, beside which the round's own events
    /// bring about what may name none.
    pub named: bool,
    /// How far from when they were sent the times may be that its events tell, or are taken to tell.
    pub aged: Duration,
    pub began: Now,
}

pub struct LookContext<'a> {
    pub sought: &'a Sought,
    pub timeout: Duration,
    pub clients: &'a Clients,
    pub trace: &'a Trace,
    pub now: Now,
}

impl LookContext<'_> {
    /// From when to when what the round left may be stamped, its own events included, on the wall clock as it was when the
    /// round began and as it is now: it may have been set in between.
    pub fn span(&self, margin: Duration) -> (Wall, Wall) {
        let (as_it_was, as_it_is) = self.beginnings();
        let took = self.now.mono.since(self.sought.began.mono);
        (
            as_it_was.min(as_it_is).minus(margin).minus(self.sought.aged),
            as_it_was.plus(took).max(self.now.wall).plus(margin),
        )
    }

    /// From when to when a store is asked for the round's events: they may be stamped, or be taken for
    /// a time, on either side.
    pub fn reach(&self, margin: Duration) -> (Wall, Wall) {
        let (from, to) = self.span(margin);
        (from, to.plus(self.sought.aged))
    }

    /// When the round began, by the wall clock of then and by that of now.
    fn beginnings(&self) -> (Wall, Wall) {
        (self.sought.began.wall, self.now.wall_of(self.sought.began.mono))
    }
}

pub trait Confirmer: Sized + Send + Sync + 'static {
    const KIND: &'static str;
    type Spec: DeserializeOwned + Serialize + schemars::JsonSchema + Send;

    fn new(spec: Self::Spec) -> Result<Self, String>;
    /// What one look does to the world.
    fn effects(&self) -> Vec<Effect>;
    /// How what a journey leaves there is deleted, where this sees into something that keeps it; a
    /// command or a statement that can be run as it stands, or what is to be done.
    fn purge(&self) -> Option<String> {
        None
    }
    /// Whether a look of days later can ask for a round's events again: a store that is searched, no
    /// stream that is read on.
    fn keeps(&self) -> bool {
        false
    }
    /// Whether what it sees may be stamped by the stage's own clock without a field of the event.
    fn stamps(&self) -> bool {
        false
    }
    /// Whether it tells whose a thing is, the round's or its twin's: one that reads a number does not.
    fn tells_whose(&self) -> bool {
        true
    }
    /// Whether it shows that a thing has ended: an alert that is resolved.
    fn ends(&self) -> bool {
        false
    }
    /// Where the rule behind an alert tells of itself, where that is known from how it is seen.
    fn rule(&self) -> Option<Place> {
        None
    }
    /// Before the round's first event is sent: what must be known to see it later (a topic's end
    /// offsets, a panel's reading before). The value is stored with the round, so that a restart
    /// goes on looking from there. A fault means that the round does not begin.
    fn begin(&self, _on: LookContext<'_>) -> impl Future<Output = Result<Value, Fault>> + Send {
        std::future::ready(Ok(Value::Null))
    }
    /// Looks once. `mark` is what `begin` returned, or what the last look left there.
    fn look(&self, mark: &mut Value, on: LookContext<'_>) -> impl Future<Output = Look> + Send;
    /// A picture of what the looks judged, where the plan asks for one: made once the round is over, and
    /// no part of any verdict.
    fn draw(
        &self,
        _mark: &Value,
        _on: LookContext<'_>,
    ) -> impl Future<Output = Option<Drawn>> + Send {
        std::future::ready(None)
    }
}

/// What a person was shown.
#[derive(Debug)]
pub struct Drawn {
    /// The text in place of the number; None where nothing was read.
    pub showed: Option<String>,
    /// The PNG with its sides in pixels, or why there is none.
    pub png: Result<(Bytes, u32, u32), String>,
}

pub trait AnyConfirmer: Send + Sync {
    fn kind(&self) -> &'static str;
    fn effects(&self) -> Vec<Effect>;
    fn purge(&self) -> Option<String>;
    fn keeps(&self) -> bool;
    fn stamps(&self) -> bool;
    fn tells_whose(&self) -> bool;
    fn ends(&self) -> bool;
    fn rule(&self) -> Option<Place>;
    fn begin<'a>(
        &'a self,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Fault>> + Send + 'a>>;
    fn look<'a>(
        &'a self,
        mark: &'a mut Value,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Look> + Send + 'a>>;
    fn draw<'a>(
        &'a self,
        mark: &'a Value,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Option<Drawn>> + Send + 'a>>;
}

impl<C: Confirmer> AnyConfirmer for C {
    fn kind(&self) -> &'static str {
        C::KIND
    }
    fn effects(&self) -> Vec<Effect> {
        Confirmer::effects(self)
    }
    fn purge(&self) -> Option<String> {
        Confirmer::purge(self)
    }
    fn keeps(&self) -> bool {
        Confirmer::keeps(self)
    }
    fn stamps(&self) -> bool {
        Confirmer::stamps(self)
    }
    fn tells_whose(&self) -> bool {
        Confirmer::tells_whose(self)
    }
    fn ends(&self) -> bool {
        Confirmer::ends(self)
    }
    fn rule(&self) -> Option<Place> {
        Confirmer::rule(self)
    }
    fn begin<'a>(
        &'a self,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Fault>> + Send + 'a>> {
        Box::pin(Confirmer::begin(self, on))
    }
    fn look<'a>(
        &'a self,
        mark: &'a mut Value,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Look> + Send + 'a>> {
        Box::pin(Confirmer::look(self, mark, on))
    }
    fn draw<'a>(
        &'a self,
        mark: &'a Value,
        on: LookContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Option<Drawn>> + Send + 'a>> {
        Box::pin(Confirmer::draw(self, mark, on))
    }
}

fn entry<C: Confirmer>() -> Entry<dyn AnyConfirmer> {
    Entry {
        kind: C::KIND,
        metrics: &[],
        targets: false,
        // A journey paces its ways.
        every: Duration::ZERO,
        timeout: Duration::ZERO,
        schema: |generator| generator.subschema_for::<C::Spec>(),
        compile: |node, diagnostics| {
            let (made, json) = crate::spec::compile(node, diagnostics, C::new)?;
            Some((Arc::new(made) as Arc<dyn AnyConfirmer>, json))
        },
    }
}

macro_rules! kinds {
    ($($kind:ty,)+) => {
        /// The closed set of ways to see.
        pub fn kinds() -> Vec<Entry<dyn AnyConfirmer>> {
            vec![$(entry::<$kind>()),+]
        }
    };
}

kinds! {
    alertmanager::Alertmanager,
    clickhouse::ClickHouse,
    elastalert::ElastAlert,
    search::Elasticsearch,
    file::File,
    grafana::Grafana,
    imap::Imap,
    json_api::JsonApi,
    kafka::Kafka,
    loki::Loki,
    search::OpenSearch,
    postgres::Postgres,
    promql::Promql,
    saved_visualization::SavedVisualization,
    splunk::Splunk,
    victorialogs::VictoriaLogs,
    webhook::Webhook,
}

mod alert;
pub mod alertmanager;
pub mod clickhouse;
pub mod elastalert;
pub mod file;
pub mod fired;
mod found;
pub mod grafana;
pub mod imap;
pub mod json_api;
pub mod kafka;
pub mod loki;
pub mod monitors;
pub mod postgres;
pub mod promql;
mod purge;
pub mod reading;
mod recognise;
pub mod rule;
pub mod saved_visualization;
pub mod search;
pub mod splunk;
pub mod unseen;
pub mod victorialogs;
pub mod webhook;
