//! One file a kind of probe. A new kind is one file and its line in [`kinds!`] below.
//!
//! A probe only tries: the runner owns the deadline, the clock, the loop, cancellation and panics.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::catalogue::Metric;
use crate::client::Clients;
use crate::outcome::{Reading, TargetName};
use crate::spec::trace::Trace;

/// What an attempt is given.
pub struct Attempt<'a> {
    pub target: &'a TargetName,
    /// All of the attempt's time; the runner cuts it off at that, so a probe that wants to tell
    /// what it waited for plans a little less.
    pub timeout: Duration,
    pub clients: &'a Clients,
    /// What `once --debug` shows; free where nobody looks. Never a secret.
    pub trace: &'a Trace,
}

/// A side effect that `plan` shows before it happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// What is done, to the platform or the network: "sends 20 ICMP echo requests of 56 bytes".
    pub what: String,
    /// What the node must grant, and what is lost without it.
    pub needs: Option<String>,
}

pub trait Probe: Sized + Send + Sync + 'static {
    /// The key that names the kind in a check.
    const KIND: &'static str;
    /// What stands under that key.
    type Spec: DeserializeOwned + Serialize + schemars::JsonSchema + Send;
    /// What it measures, besides `check.success` and `check.duration`.
    const METRICS: &'static [&'static Metric] = &[];
    /// Whether a check of this kind names targets; where not, it has the one target `self`.
    const TARGETS: bool = true;
    /// How often it runs where the plan does not say: often enough for a window of minutes, rare
    /// enough for a fleet.
    const EVERY: Duration = Duration::from_secs(30);
    /// The deadline of an attempt where the plan gives none.
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Pure validation of what the types can't say. An error is shown at the kind's key.
    fn new(spec: Self::Spec) -> Result<Self, String>;
    /// Whether this text can be a target of this kind, and what was expected if not.
    fn target(&self, _text: &str) -> Result<(), String> {
        Ok(())
    }
    /// What one attempt on this target does to the world.
    fn effects(&self, target: &str) -> Vec<Effect>;
    fn attempt(&self, on: Attempt<'_>) -> impl Future<Output = Reading> + Send;
}

/// A probe of any kind, boxed at the table so that an attempt costs its own kind's future and not
/// the largest kind's.
pub trait AnyProbe: Send + Sync {
    fn kind(&self) -> &'static str;
    fn target(&self, text: &str) -> Result<(), String>;
    fn effects(&self, target: &str) -> Vec<Effect>;
    fn attempt<'a>(&'a self, on: Attempt<'a>)
    -> Pin<Box<dyn Future<Output = Reading> + Send + 'a>>;
}

impl<P: Probe> AnyProbe for P {
    fn kind(&self) -> &'static str {
        P::KIND
    }
    fn target(&self, text: &str) -> Result<(), String> {
        Probe::target(self, text)
    }
    fn effects(&self, target: &str) -> Vec<Effect> {
        Probe::effects(self, target)
    }
    fn attempt<'a>(
        &'a self,
        on: Attempt<'a>,
    ) -> Pin<Box<dyn Future<Output = Reading> + Send + 'a>> {
        Box::pin(Probe::attempt(self, on))
    }
}

/// A kind's entry in the table: how the plan decodes it, and what documents say of it.
pub struct Entry<T: ?Sized> {
    pub kind: &'static str,
    pub metrics: &'static [&'static Metric],
    pub targets: bool,
    pub every: Duration,
    pub timeout: Duration,
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Decodes what stands under the key; collects its mistakes. The JSON is the canonical spec,
    /// secrets as references.
    pub compile: fn(&crate::spec::Node, &mut crate::spec::Diagnostics) -> Compiled<T>,
}

/// A kind and its canonical spec; None where its mistakes are among the diagnostics.
pub type Compiled<T> = Option<(Arc<T>, serde_json::Value)>;

fn entry<P: Probe>() -> Entry<dyn AnyProbe> {
    Entry {
        kind: P::KIND,
        metrics: P::METRICS,
        targets: P::TARGETS,
        every: P::EVERY,
        timeout: P::TIMEOUT,
        schema: |generator| generator.subschema_for::<P::Spec>(),
        compile: |node, diagnostics| {
            let (made, json) = crate::spec::compile(node, diagnostics, P::new)?;
            Some((Arc::new(made) as Arc<dyn AnyProbe>, json))
        },
    }
}

macro_rules! kinds {
    ($($kind:ty,)+) => {
        /// The closed set of kinds.
        pub fn kinds() -> Vec<Entry<dyn AnyProbe>> {
            vec![$(entry::<$kind>()),+]
        }
    };
}

kinds! {
    alertmanager::Alertmanager,
    disk_io::DiskIo,
    disk_sync::DiskSync,
    http::Http,
    icmp::Icmp,
    kafka::Kafka,
    load::Load,
    path_mtu::PathMtu,
    promql::Promql,
    refused::Refused,
    rules::Rules,
    sizing::Sizing,
    syslog::Syslog,
    tcp::Tcp,
    webhook::Webhook,
}

pub mod alertmanager;
pub mod disk_io;
pub mod disk_sync;
pub mod http;
pub mod icmp;
pub mod kafka;
pub mod load;
pub mod path_mtu;
pub mod promql;
pub mod refused;
pub mod rules;
pub mod sizing;
pub mod syslog;
pub mod tcp;
pub mod webhook;
