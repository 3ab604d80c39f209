//! One file a way in. A new way is one file and its line in [`kinds!`] below.
//!
//! A sender yields one receipt an event, never a verdict, and never retries in silence.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Clients;
use crate::journey::event::{Format, Lot, WayIn};
use crate::journey::{Event, Receipt};
use crate::outcome::Fault;
use crate::probe::{Effect, Entry};
use crate::spec::trace::Trace;

pub struct SendContext<'a> {
    /// All of the batch's time.
    pub timeout: Duration,
    pub clients: &'a Clients,
    pub trace: &'a Trace,
}

pub trait Sender: Sized + Send + Sync + 'static {
    const KIND: &'static str;
    type Spec: DeserializeOwned + Serialize + schemars::JsonSchema + Send;
    /// Whether the way in answers for each event: only then has the journey a stage `accepted`.
    const ACKNOWLEDGES: bool;
    /// How events are written down where the plan does not say.
    const FORMAT: Format = Format::Json;

    /// Whether the way in has a format of its own, made of an event's message and fields: then the
    /// plan can't choose one, nor a size.
    const OWN_FORMAT: bool = false;

    /// The same, where one kind has several transports and some of them answer.
    fn acknowledges(&self) -> bool {
        Self::ACKNOWLEDGES
    }

    fn new(spec: Self::Spec) -> Result<Self, String>;
    /// Whether a line feed ends an event, so that none can be inside one.
    fn line_delimited(&self) -> bool {
        false
    }
    /// What a gate knows the way in by: the kind, or, of a kind with several transports, both.
    fn way(&self) -> &'static str {
        Self::KIND
    }
    /// What sending `count` events does to the world.
    fn effects(&self, count: u64) -> Vec<Effect>;
    /// Hands over the events in order. Exactly one receipt an event, in the same order.
    fn send(
        &self,
        events: &[Event],
        on: SendContext<'_>,
    ) -> impl Future<Output = Vec<Receipt>> + Send;
    /// Makes what it needs of its own, before the first event and before anybody looks.
    fn prepare(&self, on: SendContext<'_>) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = on;
        async { Ok(()) }
    }
    /// Deletes what `prepare` made, when nothing more will be sent; what went wrong.
    fn clear_away(&self, on: SendContext<'_>) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = on;
        async { Ok(()) }
    }
    /// How it takes volume.
    fn lots(&self) -> Lots {
        Lots::default()
    }
    /// The same as `send` for a part of a load; one that can renders as it sends.
    fn send_lot(&self, lot: &Lot, on: SendContext<'_>) -> impl Future<Output = SentLot> + Send {
        send_rendered(self, lot, on)
    }
}

/// Renders all of a lot, and sends it as it would a round.
async fn send_rendered(sender: &impl Sender, lot: &Lot, on: SendContext<'_>) -> SentLot {
    let events = lot.events();
    let sizes = events.iter().map(|event| event.payload.len());
    let (bytes, largest) = (sizes.clone().sum(), sizes.max().unwrap_or_default());
    SentLot { receipts: sender.send(&events, on).await, bytes, largest }
}

/// How a way in takes volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lots {
    /// Events that go together, at most.
    pub most: usize,
    /// How long events wait for others that go with them.
    pub linger: Duration,
    /// Lots that are under way at once.
    pub at_once: usize,
    /// Whether lots that are under way at once keep their order in each scope that the transport
    /// orders. Where each goes over a connection of its own, they don't.
    pub in_order: bool,
}

impl Default for Lots {
    fn default() -> Self {
        Self { most: 100, linger: Duration::from_millis(20), at_once: 32, in_order: false }
    }
}

/// What came of a lot.
#[derive(Debug, Default)]
pub struct SentLot {
    /// One an event, in order; fewer where it was cut off.
    pub receipts: Vec<Receipt>,
    /// Of all payloads, and of the largest.
    pub bytes: usize,
    pub largest: usize,
}

pub trait AnySender: Send + Sync {
    fn kind(&self) -> &'static str;
    fn acknowledges(&self) -> bool;
    fn way_in(&self) -> WayIn;
    fn way(&self) -> &'static str;
    fn own_format(&self) -> bool;
    fn effects(&self, count: u64) -> Vec<Effect>;
    fn send<'a>(
        &'a self,
        events: &'a [Event],
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Vec<Receipt>> + Send + 'a>>;
    fn prepare<'a>(
        &'a self,
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;
    fn clear_away<'a>(
        &'a self,
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;
    fn lots(&self) -> Lots;
    fn send_lot<'a>(
        &'a self,
        lot: &'a Lot,
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = SentLot> + Send + 'a>>;
}

impl<S: Sender> AnySender for S {
    fn kind(&self) -> &'static str {
        S::KIND
    }
    fn acknowledges(&self) -> bool {
        Sender::acknowledges(self)
    }
    fn way_in(&self) -> WayIn {
        WayIn { format: S::FORMAT, line_delimited: self.line_delimited() }
    }
    fn way(&self) -> &'static str {
        Sender::way(self)
    }
    fn own_format(&self) -> bool {
        S::OWN_FORMAT
    }
    fn effects(&self, count: u64) -> Vec<Effect> {
        Sender::effects(self, count)
    }
    fn send<'a>(
        &'a self,
        events: &'a [Event],
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Vec<Receipt>> + Send + 'a>> {
        Box::pin(Sender::send(self, events, on))
    }
    fn prepare<'a>(
        &'a self,
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>> {
        Box::pin(Sender::prepare(self, on))
    }
    fn clear_away<'a>(
        &'a self,
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>> {
        Box::pin(Sender::clear_away(self, on))
    }
    fn lots(&self) -> Lots {
        Sender::lots(self)
    }
    fn send_lot<'a>(
        &'a self,
        lot: &'a Lot,
        on: SendContext<'a>,
    ) -> Pin<Box<dyn Future<Output = SentLot> + Send + 'a>> {
        Box::pin(Sender::send_lot(self, lot, on))
    }
}

fn entry<S: Sender>() -> Entry<dyn AnySender> {
    Entry {
        kind: S::KIND,
        metrics: &[],
        targets: false,
        // A journey paces its ways.
        every: Duration::ZERO,
        timeout: Duration::ZERO,
        schema: |generator| generator.subschema_for::<S::Spec>(),
        compile: |node, diagnostics| {
            let (made, json) = crate::spec::compile(node, diagnostics, S::new)?;
            Some((Arc::new(made) as Arc<dyn AnySender>, json))
        },
    }
}

macro_rules! kinds {
    ($($kind:ty,)+) => {
        /// The closed set of ways in.
        pub fn kinds() -> Vec<Entry<dyn AnySender>> {
            vec![$(entry::<$kind>()),+]
        }
    };
}

kinds! {
    amqp::Amqp,
    bulk::Bulk,
    file::File,
    gelf::Gelf,
    http::Http,
    journald::Journald,
    kafka::Kafka,
    loki::Loki,
    otlp::Otlp,
    relp::Relp,
    splunk_hec::SplunkHec,
    syslog::Syslog,
}

pub mod amqp;
pub mod bulk;
pub mod file;
pub mod gelf;
pub mod http;
pub mod journald;
pub mod kafka;
pub mod loki;
pub mod otlp;
mod post;
pub mod relp;
pub mod splunk_hec;
pub mod syslog;
