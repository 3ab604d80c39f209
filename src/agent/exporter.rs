//! What the HTTP server serves: the recorder's snapshots, and the few things that change something.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::record::{Ask, Judged, Record};
use super::{Shared, ask_metrics, ask_snapshot, clock};
use crate::client::inbox;
use crate::gate::load;
use crate::ledger::LoadRow;
use crate::metrics::Format;
use crate::node::sockets::{Listing, Sockets};
use crate::outcome::Fault;
use crate::serve::{Backend, Declaration, Shown, WebhookError};
use crate::time::Mono;

/// How long whose sockets they are may take: a scraper's patience.
const LISTENERS_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The recorder judges once a second; older than this, it stands still.
const STALE: std::time::Duration = std::time::Duration::from_secs(15);

pub(super) struct Exporter {
    shared: Shared,
    asks: mpsc::Sender<Ask>,
    judged: watch::Receiver<Judged>,
    sockets: Sockets,
    /// Held by the one that asks for the listeners: who comes meanwhile gets the same answer.
    asking: tokio::sync::Mutex<()>,
    banner: Option<String>,
}

impl Exporter {
    pub(super) fn new(
        shared: Shared,
        asks: mpsc::Sender<Ask>,
        judged: watch::Receiver<Judged>,
        sockets: Sockets,
        banner: Option<String>,
    ) -> Self {
        let asking = tokio::sync::Mutex::default();
        Self { shared, asks, judged, sockets, asking, banner }
    }
}

impl Backend for Exporter {
    fn metrics(&self, format: Format) -> BoxFuture<'_, Vec<u8>> {
        ask_metrics(&self.asks, format).boxed()
    }

    fn shown(&self) -> BoxFuture<'_, Option<Shown>> {
        async {
            let snapshot = ask_snapshot(&self.asks).await?;
            Some(Shown {
                ledger: snapshot.document.clone(),
                plan: snapshot.plan.clone(),
                history: snapshot.history.clone(),
                captures: snapshot.captures.clone(),
            })
        }
        .boxed()
    }

    fn listeners(&self) -> BoxFuture<'_, Result<Listing, Fault>> {
        async move {
            let _asking = self.asking.lock().await;
            let (sockets, now) = (self.sockets.clone(), clock::now());
            let cells = &self.shared.cells;
            let asked =
                cells.run("whose sockets they are", LISTENERS_WITHIN, move || sockets.listing(now));
            asked.await?
        }
        .boxed()
    }

    fn banner(&self) -> Option<String> {
        self.banner.clone()
    }

    fn ready(&self) -> Result<(), String> {
        if self.healthy() { Ok(()) } else { Err("the recorder stands still".to_owned()) }
    }

    fn healthy(&self) -> bool {
        Mono::now().since(self.judged.borrow().at.mono) < STALE
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        self.shared.reload().boxed()
    }

    fn webhook<'a>(
        &'a self,
        kind: inbox::Kind,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), WebhookError>> {
        async move {
            let now = clock::now();
            let taken =
                self.shared.clients.inbox().put(kind, &body, now).map_err(WebhookError::Bad)?;
            // On disk before the answer: what the sender believes delivered survives a kill.
            for notification in taken {
                let json = serde_json::to_value(&notification).unwrap_or_default();
                let kept = self.shared.store.put_notification(now, json).await;
                kept.map_err(|fault| WebhookError::Store(fault.text))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn declare_load(
        &self,
        declaration: Declaration,
    ) -> BoxFuture<'_, Result<LoadRow, WebhookError>> {
        async move {
            let now = clock::now();
            let source = declaration.source.as_deref().unwrap_or("api");
            let window = load::declare(&declaration.start, &declaration.end, source, now)
                .map_err(WebhookError::Bad)?;
            let row = LoadRow::of(&window, now);
            self.shared.declare_load(window).await.map_err(WebhookError::Store)?;
            Ok(row)
        }
        .boxed()
    }

    fn count(&self, route: &'static str, class: &'static str) {
        // A full queue loses a count of requests, never a measurement.
        self.shared.records.offer(Record::Request { route, code: class });
    }
}
