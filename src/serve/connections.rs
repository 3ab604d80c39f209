//! Connections: how many, for how long, and how they end.
//!
//! A client that dawdles never keeps another one out: where all places are taken, the place of
//! the one that has been waited for longest is given to the next.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::routes::Site;
use super::{Backend, Web};
use crate::lanes::Fill;
use crate::time::Mono;

/// Scrapers, a few people and the platform's notifications: one descriptor each.
const CONNECTIONS_LIMIT: usize = 256;

/// From the connection to the end of the first request's head, TLS handshake included.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// From one request to the next, which covers the usual scrape interval of a minute, and from
/// the answer's start to its last byte.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// How often connections that dawdle are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// After the stop, for the requests under way.
const GRACE: Duration = Duration::from_secs(5);

/// Where accepting fails (no descriptors left), so long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most bytes of a request's head.
const HEAD_LIMIT: usize = 64 * 1024;

/// The most header fields of a request.
const HEADERS_LIMIT: usize = 100;

pub(super) async fn serve(
    listener: TcpListener,
    web: Web,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
) {
    let site = Arc::new(Site::new(backend, web.clone()));
    let places = web.places.clone();
    let draining = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Where nobody is connected nothing wakes up for this.
            _ = sweep.tick(), if !tasks.is_empty() => places.sweep(Mono::now()),
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.take(Mono::now()) {
                    Some(place) => {
                        let connection = Connection {
                            peer,
                            place,
                            site: Arc::clone(&site),
                            draining: draining.clone(),
                        };
                        tasks.spawn(connection.run(stream, web.clone()));
                    }
                    None => tracing::warn!(%peer, "all connections are busy: refused one"),
                },
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    draining.cancel();
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, drained).await.is_err() {
        tracing::info!(open = tasks.len(), "connections cut at the end of the grace period");
    }
    tasks.shutdown().await;
}

struct Connection {
    peer: SocketAddr,
    place: Place,
    site: Arc<Site>,
    draining: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, web: Web) {
        // Answers are written whole: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let Some(tls) = web.get().tls.clone() else {
            return self.speak(stream, false).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let cut = self.place.cut.clone();
        let draining = self.draining.clone();
        tokio::select! {
            () = cut.cancelled() => {}
            () = draining.cancelled() => {}
            result = handshake => match result {
                Ok(stream) => self.speak(stream, true).await,
                Err(error) => tracing::debug!(peer = %self.peer, %error, "TLS handshake failed"),
            }
        }
    }

    async fn speak(self, io: impl AsyncRead + AsyncWrite + Unpin, tls: bool) {
        let Self { peer, place, site, draining } = self;
        let place = &place;
        let service = service_fn(move |request: Request<Incoming>| {
            let site = Arc::clone(&site);
            async move {
                place.serving();
                let answer = site.answer(request, peer, tls).await;
                place.waiting(Mono::now());
                Ok::<_, Infallible>(answer)
            }
        });
        let mut http = http1::Builder::new();
        // The sweep keeps the time instead: it knows when places are scarce.
        http.timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(HEAD_LIMIT)
            .max_headers(HEADERS_LIMIT);
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = place.cut.cancelled() => Ok(()),
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection.as_mut() => result,
                    () = place.cut.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

/// The places of all open connections.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    next: u64,
    places: HashMap<u64, Holder>,
    /// Connections that were refused because all were being answered.
    refused: u64,
}

struct Holder {
    /// Whether a request of it is being answered.
    serving: bool,
    /// Whether one ever was.
    served: bool,
    /// Since when it has been waited for.
    since: Mono,
    cut: CancellationToken,
}

/// One connection's place, given back when it is dropped.
struct Place {
    id: u64,
    cut: CancellationToken,
    places: Places,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if need be that of the connection that has been waited for longest, those first
    /// that never asked for anything. None where all are being answered.
    fn take(&self, now: Mono) -> Option<Place> {
        let mut taken = self.lock();
        if taken.places.len() >= CONNECTIONS_LIMIT {
            let waiting = taken.places.iter().filter(|(_, holder)| !holder.serving);
            let longest = waiting.min_by_key(|(_, holder)| (holder.served, holder.since));
            let Some(longest) = longest.map(|(id, _)| *id) else {
                taken.refused += 1;
                return None;
            };
            if let Some(holder) = taken.places.remove(&longest) {
                holder.cut.cancel();
            }
        }
        let id = taken.next;
        taken.next = taken.next.wrapping_add(1);
        let cut = CancellationToken::new();
        let holder = Holder { serving: false, served: false, since: now, cut: cut.clone() };
        taken.places.insert(id, holder);
        Some(Place { id, cut, places: self.clone() })
    }

    pub(super) fn fill(&self) -> Fill {
        let taken = self.lock();
        let (length, dropped) = (taken.places.len(), taken.refused);
        Fill { queue: "connections", length, limit: CONNECTIONS_LIMIT, dropped }
    }

    /// Cuts the connections that have been waited for too long.
    fn sweep(&self, now: Mono) {
        self.lock().places.retain(|_, holder| {
            let limit = if holder.served { IDLE_LIMIT } else { FIRST_REQUEST_WITHIN };
            let keep = holder.serving || now.since(holder.since) < limit;
            if !keep {
                holder.cut.cancel();
            }
            keep
        });
    }
}

impl Place {
    fn serving(&self) {
        if let Some(holder) = self.places.lock().places.get_mut(&self.id) {
            holder.serving = true;
        }
    }

    fn waiting(&self, now: Mono) {
        if let Some(holder) = self.places.lock().places.get_mut(&self.id) {
            holder.serving = false;
            holder.served = true;
            holder.since = now;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_waited_for_gives_way_and_who_is_served_stays() {
        let places = Places::default();
        let mut held: Vec<Place> = (0..CONNECTIONS_LIMIT)
            .map(|n| places.take(Mono::from_secs(i64::try_from(n).expect("small"))).expect("free"))
            .collect();
        held[0].serving();
        held[1].serving();
        held[1].waiting(Mono::from_secs(1));
        let now = Mono::from_secs(1_000);
        let one_more = places.take(now).expect("one gives way");
        // The oldest of those that never asked for anything.
        assert!(held[2].cut.is_cancelled());
        assert!(!held[0].cut.is_cancelled() && !held[1].cut.is_cancelled());
        assert!(!one_more.cut.is_cancelled());
        for place in &held[3..] {
            place.serving();
        }
        one_more.serving();
        let last = places.take(now).expect("the idle one gives way");
        assert!(held[1].cut.is_cancelled());
        last.serving();
        assert!(places.take(now).is_none(), "all are being answered");
        let fill = places.fill();
        assert_eq!((fill.length, fill.dropped), (CONNECTIONS_LIMIT, 1));
        held.clear();
        assert_eq!(places.lock().places.len(), 2);
    }

    #[test]
    fn who_dawdles_is_cut() {
        let places = Places::default();
        let (fresh, idle, busy) = (
            places.take(Mono(0)).expect("free"),
            places.take(Mono(0)).expect("free"),
            places.take(Mono(0)).expect("free"),
        );
        idle.waiting(Mono(0));
        busy.serving();
        places.sweep(Mono::from_secs(9));
        assert!(!fresh.cut.is_cancelled());
        places.sweep(Mono::from_secs(11));
        assert!(fresh.cut.is_cancelled() && !idle.cut.is_cancelled());
        places.sweep(Mono::from_secs(121));
        assert!(idle.cut.is_cancelled() && !busy.cut.is_cancelled());
    }
}
