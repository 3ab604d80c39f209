//! Apache Kafka, through librdkafka.
//!
//! librdkafka blocks, so each of its clients lives in a lane of its own: one for sending to a
//! cluster, one for reading each topic of it, so that a slow reader never holds up a send and a
//! shared client never colours a latency. A client is made at its first use, thrown away after
//! any error (the next use begins anew, with no backoff and no stale leader), and closed when
//! nobody has used it for a while. No consumer group is joined, no offset is committed, and no
//! topic is made but where the plan says `create`.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tls;
use crate::lanes::{Fill, Lane};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};
use crate::spec::Secret;
use crate::time::Mono;

pub use own::Shape;
pub use produce::{Batch, Delivery, Placement, Record, Sent};
pub use read::{Cut, Ends, Message, Seen, Wanted};
pub use sending::{Acks, Compression, Sending};
use session::{Role, Session};
use stream::{Job as Lot, Stream};
pub use stream::{Piece, Source, Streamed};

mod classify;
mod own;
mod produce;
mod raw;
mod read;
mod sending;
mod session;
mod stream;
mod token;

/// Lanes at once. Each is a thread of ours and a few of librdkafka's; a plan that needs more
/// clusters and topics than this is meant for several agents.
const LANES_LIMIT: usize = 32;
/// Jobs that wait in a lane: looks of the rounds under way, which give up by their own deadlines.
const JOBS_LIMIT: usize = 64;
/// A client that was not used for so long is closed: an idle one keeps connections open and, its
/// broker gone, collects errors that nobody reads.
const IDLE: Duration = Duration::from_secs(120);
/// What a job may take after its deadline: to take back what was not answered.
const WRAP_UP: Duration = Duration::from_millis(600);

/// How a cluster lets us in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// Encrypt, and check the broker's certificate. `{}` trusts the system's authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Options>,
    /// Log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// A login: by name and password, or with OAUTHBEARER by a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    pub mechanism: Mechanism,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The token of OAUTHBEARER. It is read (a command is run) anew for each client: when one
    /// begins, after five minutes, and before a JWT's `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

impl Sasl {
    fn validate(&self) -> Result<(), String> {
        let word = self.mechanism.word();
        let by_name = self.username.is_some() && self.password.is_some();
        match (self.mechanism, &self.token) {
            (Mechanism::OauthBearer, None) => Err(format!("{word} needs a `token`")),
            (Mechanism::OauthBearer, _) if self.username.is_some() || self.password.is_some() => {
                Err(format!("{word} logs in by its token; leave `username` and `password` out"))
            }
            (Mechanism::OauthBearer, _) => Ok(()),
            (_, Some(_)) => {
                Err(format!("{word} takes no `token`; leave it out, or use OAUTHBEARER"))
            }
            (_, None) if by_name => Ok(()),
            (_, None) => Err(format!("{word} needs a `username` and a `password`")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    fn word(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// A cluster: where it is found and how it lets us in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    brokers: Arc<str>,
    security: Arc<Security>,
    sending: Sending,
    /// Names the cluster among the lanes; holds no secret's value.
    id: Arc<str>,
}

impl Cluster {
    /// `brokers` is "host:port" or several of them with commas between.
    pub fn new(brokers: &str, security: &Security) -> Result<Self, String> {
        check_brokers(brokers)?;
        if let Some(tls) = &security.tls {
            tls.validate()?;
            if tls.server_name.is_some() {
                return Err(String::from(
                    "`server_name` can't be set for Kafka: a broker's certificate is checked \
                     against the name it advertises; leave it out",
                ));
            }
        }
        if let Some(sasl) = &security.sasl {
            sasl.validate()?;
        }
        let security_id = serde_json::to_string(security).map_err(|e| e.to_string())?;
        Ok(Self {
            brokers: brokers.into(),
            security: Arc::new(security.clone()),
            sending: Sending::default(),
            id: format!("{brokers} {security_id}").into(),
        })
    }

    /// The same cluster, sent to in this way; each way has a client of its own.
    pub fn sending(self, sending: Sending) -> Result<Self, String> {
        sending.validate()?;
        Ok(Self { id: format!("{} {sending:?}", self.id).into(), sending, ..self })
    }

    /// The secret that OAUTHBEARER logs in by.
    fn token(&self) -> Option<&Secret> {
        self.security.sasl.as_ref().and_then(|sasl| sasl.token.as_ref())
    }

    pub fn brokers(&self) -> &str {
        &self.brokers
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka at {}", self.brokers)
    }
}

/// Whether this is "host:port" or several of them with commas between.
pub fn check_brokers(brokers: &str) -> Result<(), String> {
    for broker in brokers.split(',') {
        let whole = broker.trim() == broker
            && broker
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse() != Ok(0_u16))
            && broker.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !whole {
            return Err(format!(
                "{broker:?} is no broker's address; write host:port, or several with commas \
                 between and no spaces"
            ));
        }
    }
    Ok(())
}

/// Whether a topic can have this name (Kafka's own rule).
pub fn check_topic(topic: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || matches!(topic, "." | "..") {
        return Err(format!("{topic:?} is no topic: a name has 1 to 249 characters"));
    }
    if !topic.chars().all(legal) {
        return Err(format!("{topic:?} is no topic: a name has letters, digits, '.', '_' and '-'"));
    }
    Ok(())
}

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// The clients of all clusters. Cheap to clone; nothing runs before the first use.
#[derive(Clone, Default)]
pub struct Kafka {
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Pool {
    lanes: Mutex<HashMap<Key, Slot>>,
    /// Those that stream, by cluster: of loads alone, and so until the process ends.
    streams: Mutex<HashMap<Arc<str>, Arc<Lane<Lot>>>>,
    owned: Mutex<own::Owned>,
    /// Milliseconds for which quotas held us back.
    throttled: AtomicU64,
    /// Lanes that were not made because there were too many.
    refused: AtomicU64,
    /// Jobs that lanes refused which are closed by now.
    dropped: AtomicU64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    cluster: Arc<str>,
    /// None: the lane that sends.
    topic: Option<Arc<str>>,
}

struct Slot {
    lane: Arc<Lane<Job>>,
    used: Mono,
}

/// Why a job has no answer.
enum NoAnswer {
    /// It was certainly not begun.
    NotBegun(Fault),
    /// It may be done, half done or not begun.
    Unknown(Fault),
}

impl Kafka {
    /// Sends a batch and says of each record what became of it, in order. An error means that
    /// certainly none of it was handed over.
    pub async fn produce(
        &self,
        cluster: &Cluster,
        batch: Batch,
        timeout: Duration,
    ) -> Result<Sent, Trouble> {
        let count = batch.records.len();
        let work = move |session: &mut Session, deadline| session.produce(batch, deadline);
        match self.ask(cluster, None, timeout, work).await {
            Ok(sent) => {
                if let Some(held) = sent.as_ref().ok().and_then(|sent| sent.throttled) {
                    let millis = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
                    self.pool.throttled.fetch_add(millis, Relaxed);
                }
                sent
            }
            Err(NoAnswer::NotBegun(fault)) => Err(fault.into()),
            Err(NoAnswer::Unknown(fault)) => {
                let reason = Reason::new(ReasonCode::Timeout, fault.text);
                Ok(Sent { deliveries: vec![Delivery::Unknown(reason); count], throttled: None })
            }
        }
    }

    /// Connects, and asks the leaders of a topic for a word, so that the next batch to it need not
    /// wait for that. Where they can't be asked, that batch says why.
    pub async fn get_ready(&self, cluster: &Cluster, topic: &Arc<str>, timeout: Duration) {
        let topic = topic.clone();
        let work = move |session: &mut Session, deadline| session.get_ready(&topic, deadline);
        // What comes of it is known to the lane.
        let _ = self.ask(cluster, None, timeout, work).await;
    }

    /// Sends a part of a load while others are under way, and says of each record what became of
    /// it, in order. An error means that certainly none of it was handed over.
    pub async fn stream(
        &self,
        cluster: &Cluster,
        topic: &Arc<str>,
        source: Box<dyn Source>,
        timeout: Duration,
    ) -> Result<Streamed, Trouble> {
        let count = source.count();
        let lane = self.streaming(cluster)?;
        let within = timeout.mul_f64(0.95);
        let deadline = Mono::now().plus(within - WRAP_UP.min(within / 2));
        let lot = |reply| Lot { topic: topic.clone(), source, deadline, reply };
        match lane.ask(within, lot).await {
            Ok(streamed) => streamed,
            Err(fault) if matches!(fault.code, FaultCode::Hung | FaultCode::Panicked) => {
                let reason = Reason::new(ReasonCode::Timeout, fault.text);
                let deliveries = vec![Delivery::Unknown(reason); count];
                Ok(Streamed { deliveries, ..Streamed::default() })
            }
            Err(fault) => Err(fault.into()),
        }
    }

    fn streaming(&self, cluster: &Cluster) -> Result<Arc<Lane<Lot>>, Fault> {
        let mut streams = self.pool.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = streams.get(&cluster.id) {
            return Ok(lane.clone());
        }
        if streams.len() >= LANES_LIMIT {
            let text = format!("{cluster}: {LANES_LIMIT} clusters are streamed to already");
            return Err(Fault::new(FaultCode::Exhausted, text));
        }
        let turn = |stream: &mut Stream, lot| stream.turn(lot);
        let idle = |stream: &mut Stream| (!stream.idle()).then_some(Duration::ZERO);
        let stream = Stream::new(cluster.clone());
        let lane = Lane::start_with("kafka-stream", JOBS_LIMIT, stream, turn, idle);
        let lane = lane.map_err(|error| {
            Fault::new(FaultCode::Exhausted, format!("no thread for {cluster}: {error}"))
        })?;
        let lane = Arc::new(lane);
        streams.insert(cluster.id.clone(), lane.clone());
        Ok(lane)
    }

    /// The first and the next offset of every partition of a topic.
    pub async fn ends(
        &self,
        cluster: &Cluster,
        topic: &str,
        timeout: Duration,
    ) -> Result<Ends, Trouble> {
        let name: Arc<str> = topic.into();
        let work = {
            let name = name.clone();
            move |session: &mut Session, deadline| session.consume(|c| c.ends(&name, deadline))
        };
        self.ask(cluster, Some(name), timeout, work).await.map_err(NoAnswer::into_fault)?
    }

    /// Reads ranges of a topic, and keeps what `take` makes of the messages. It looks at each
    /// message once, inside the lane, so that what nobody wants is never kept.
    pub async fn read<T: Send + 'static>(
        &self,
        cluster: &Cluster,
        topic: &str,
        wanted: Wanted,
        timeout: Duration,
        take: impl Fn(&Message<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Seen<T>, Trouble> {
        let name: Arc<str> = topic.into();
        let work = {
            let name = name.clone();
            move |session: &mut Session, deadline| {
                session.consume(|c| c.read(&name, wanted, deadline, &take))
            }
        };
        self.ask(cluster, Some(name), timeout, work).await.map_err(NoAnswer::into_fault)?
    }

    /// Does `work` in its lane. The work's own deadline is before ours, and ours before the
    /// caller's, so that it is the work that says what it waited for.
    async fn ask<R: Send + 'static>(
        &self,
        cluster: &Cluster,
        topic: Option<Arc<str>>,
        timeout: Duration,
        work: impl FnOnce(&mut Session, Mono) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        let key = Key { cluster: cluster.id.clone(), topic };
        let lane = self.lane(&key, cluster).map_err(NoAnswer::NotBegun)?;
        let within = timeout.mul_f64(0.95);
        let deadline = Mono::now().plus(within - WRAP_UP.min(within / 2));
        let answer = lane.ask(within, |answer| -> Job {
            Box::new(move |session| {
                let late = Mono::now() >= deadline;
                // Nobody may be waiting any more.
                drop(answer.send((!late).then(|| work(session, deadline))));
                session.clean_up();
            })
        });
        let answer = answer.await;
        self.used(&key);
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(NoAnswer::NotBegun(Fault::new(
                FaultCode::Hung,
                format!("{cluster}: earlier requests took all of the {timeout:?}; give it longer"),
            ))),
            Err(fault) => match fault.code {
                FaultCode::Hung | FaultCode::Panicked => Err(NoAnswer::Unknown(fault)),
                _ => Err(NoAnswer::NotBegun(fault)),
            },
        }
    }

    fn lane(&self, key: &Key, cluster: &Cluster) -> Result<Arc<Lane<Job>>, Fault> {
        let now = Mono::now();
        let mut lanes = self.pool.lanes();
        if let Some(slot) = lanes.get_mut(key) {
            slot.used = now;
            return Ok(slot.lane.clone());
        }
        if lanes.len() >= LANES_LIMIT {
            self.pool.refused.fetch_add(1, Relaxed);
            return Err(Fault::new(
                FaultCode::Exhausted,
                format!("{cluster}: {LANES_LIMIT} clusters and topics are in use already"),
            ));
        }
        let (name, role) = match &key.topic {
            None => ("kafka-send", Role::Send),
            Some(_) => ("kafka-read", Role::Read),
        };
        let session = Session::new(cluster.clone(), role);
        let lane = Lane::start(name, JOBS_LIMIT, session, |session, job: Job| job(session))
            .map_err(|error| {
                Fault::new(FaultCode::Exhausted, format!("no thread for {cluster}: {error}"))
            })?;
        let lane = Arc::new(lane);
        lanes.insert(key.clone(), Slot { lane: lane.clone(), used: now });
        tokio::spawn(close_when_idle(Arc::downgrade(&self.pool), key.clone()));
        Ok(lane)
    }

    /// For how long quotas held us back, ever: of each span of statistics the longest.
    pub fn throttled(&self) -> Duration {
        Duration::from_millis(self.pool.throttled.load(Relaxed))
    }

    /// How many lanes there are, and how full the fullest is.
    pub fn fills(&self) -> [Fill; 2] {
        let lanes = self.pool.lanes();
        let fills = || lanes.values().map(|slot| slot.lane.fill());
        let lanes_open = Fill {
            queue: "kafka_lanes",
            length: lanes.len(),
            limit: LANES_LIMIT,
            dropped: self.pool.refused.load(Relaxed),
        };
        let jobs = Fill {
            queue: "kafka",
            length: fills().map(|fill| fill.length).max().unwrap_or_default(),
            limit: JOBS_LIMIT,
            dropped: self.pool.dropped.load(Relaxed)
                + fills().map(|fill| fill.dropped).sum::<u64>(),
        };
        [lanes_open, jobs]
    }

    fn used(&self, key: &Key) {
        if let Some(slot) = self.pool.lanes().get_mut(key) {
            slot.used = Mono::now();
        }
    }
}

impl Pool {
    fn owned(&self) -> MutexGuard<'_, own::Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lane is gone: its thread closes the client and ends.
    fn close_idle(&self, key: &Key, now: Mono) -> bool {
        let mut lanes = self.lanes();
        let idle = lanes
            .get(key)
            .is_none_or(|slot| now.since(slot.used) >= IDLE && slot.lane.busy_for(now).is_none());
        if idle && let Some(slot) = lanes.remove(key) {
            self.dropped.fetch_add(slot.lane.dropped(), Relaxed);
        }
        idle
    }
}

impl NoAnswer {
    fn into_fault(self) -> Trouble {
        match self {
            Self::NotBegun(fault) | Self::Unknown(fault) => fault.into(),
        }
    }
}

/// One a lane; it ends with the lane, or with the pool.
async fn close_when_idle(pool: Weak<Pool>, key: Key) {
    loop {
        tokio::time::sleep(IDLE).await;
        match pool.upgrade() {
            Some(pool) if !pool.close_idle(&key, Mono::now()) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests;
