//! What lives in a lane: one librdkafka client, made when it is needed and thrown away after an
//! error.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;

use super::own::Admin;
use super::produce::{Batch, Layout, Producer, Sent};
use super::raw;
use super::read::Consumer;
use super::{Cluster, token};
use crate::outcome::{Fault, FaultCode, ReasonCode, Trouble};
use crate::spec::Secret;
use crate::time::Mono;

/// The last errors that a client told of explain a failure.
const HEARD_LIMIT: usize = 16;
/// librdkafka tells of an error that repeats only once in 30 seconds.
const HEARD_FOR: Duration = Duration::from_secs(31);
/// So often the wait for a first answer is interrupted, to hear whether it is in vain.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A client whose broker is away says so twenty times a second.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// So often a producer tells its statistics; the longest throttling since the last time is among
/// them. They wait for the next batch: no more than a client's idle time holds.
const STATISTICS_MS: &str = "5000";
/// More than pile up while a client is idle.
const DRAIN_LIMIT: usize = 64;
/// So long what the leaders told holds for a batch that they were asked for.
const TOLD_FOR: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Send,
    /// Many batches at once.
    Stream,
    /// Makes and deletes topics.
    Admin,
    Read,
}

pub(super) struct Session {
    cluster: Cluster,
    role: Role,
    producer: Option<BaseProducer<Ear>>,
    consumer: Option<BaseConsumer<Ear>>,
    /// What the leaders of a topic told, for the next batch to it.
    told: Option<Told>,
    /// Whether the client met an error and is to be closed.
    spent: bool,
    made: Mono,
}

/// Of a topic that may be made.
#[derive(Clone, Copy)]
pub(super) enum Found {
    There,
    Missing,
    /// The login, or the certificate, is refused.
    NotLetIn,
}

pub(super) struct Told {
    topic: Arc<str>,
    pub(super) layout: Layout,
    pub(super) at: Mono,
}

impl Session {
    pub(super) fn new(cluster: Cluster, role: Role) -> Self {
        let made = Mono::now();
        Self { cluster, role, producer: None, consumer: None, told: None, spent: false, made }
    }

    /// Closes a client that met an error. That may take its time, so it is done when the answer
    /// is already on its way.
    pub(super) fn clean_up(&mut self) {
        if std::mem::take(&mut self.spent) {
            self.producer = None;
            self.consumer = None;
        }
    }

    /// Closes a client whose token is old.
    fn refresh(&mut self) {
        if self.cluster.token().is_none() {
            return;
        }
        let now = Mono::now();
        if now.since(self.made) >= token::LIFETIME {
            self.producer = None;
            self.consumer = None;
        }
        if self.producer.is_none() && self.consumer.is_none() {
            self.made = now;
        }
    }

    pub(super) fn produce(&mut self, batch: Batch, deadline: Mono) -> Result<Sent, Trouble> {
        let fresh =
            |told: &Told| *told.topic == *batch.topic && Mono::now().since(told.at) < TOLD_FOR;
        let told = self.told.take().filter(fresh);
        self.with_producer(|producer| producer.send(batch, told, deadline), Sent::whole)
    }

    /// Connects, and asks the leaders of a topic for a word before a batch to it is due. What they
    /// don't tell now, that batch will be told.
    pub(super) fn get_ready(&mut self, topic: &Arc<str>, deadline: Mono) {
        let layout = self.with_producer(|one| one.layout(topic, None, deadline), |_| true);
        self.told =
            layout.ok().map(|layout| Told { topic: topic.clone(), layout, at: Mono::now() });
    }

    /// Whether a topic is there, asked as who sends to it: an administrator's client does not tell
    /// why it is not let in.
    pub(super) fn find(&mut self, topic: &str, deadline: Mono) -> Result<Found, Trouble> {
        let asked = self.with_producer(|one| one.layout(topic, Some(&[]), deadline), |_| true);
        match asked {
            Ok(_) => Ok(Found::There),
            Err(Trouble::Reason(reason)) => match reason.code {
                ReasonCode::NotFound => Ok(Found::Missing),
                ReasonCode::AuthFailed | ReasonCode::CertificateInvalid | ReasonCode::TlsFailed => {
                    Ok(Found::NotLetIn)
                }
                _ => Err(reason.into()),
            },
            Err(fault) => Err(fault),
        }
    }

    fn with_producer<R>(
        &mut self,
        work: impl FnOnce(&Producer<'_>) -> Result<R, Trouble>,
        whole: impl FnOnce(&R) -> bool,
    ) -> Result<R, Trouble> {
        self.refresh();
        let client = match &mut self.producer {
            Some(client) => client,
            none => {
                let made = make(&self.cluster, self.role)?;
                none.insert(made)
            }
        };
        let done = work(&Producer { client, cluster: &self.cluster });
        let done = done.map_err(|trouble| client.client().context().or_unread(trouble));
        self.spent = !done.as_ref().is_ok_and(whole);
        done
    }

    /// With a client of its own, which is closed at once: it is wanted once a journey's life.
    pub(super) fn administer<R>(
        &mut self,
        work: impl FnOnce(&Admin<'_>) -> Result<R, Trouble>,
    ) -> Result<R, Trouble> {
        let client: AdminClient<Ear> = make(&self.cluster, Role::Admin)?;
        if self.cluster.token().is_some() {
            raw::log_in(client.inner());
        }
        work(&Admin { client: &client, cluster: &self.cluster })
    }

    pub(super) fn consume<R>(
        &mut self,
        work: impl FnOnce(&Consumer<'_>) -> Result<R, Trouble>,
    ) -> Result<R, Trouble> {
        self.refresh();
        let client = match &mut self.consumer {
            Some(client) => client,
            none => {
                let made = make(&self.cluster, self.role)?;
                none.insert(made)
            }
        };
        let done = work(&Consumer { client, cluster: &self.cluster });
        let done = done.map_err(|trouble| client.client().context().or_unread(trouble));
        self.spent = done.is_err();
        done
    }
}

pub(super) fn make<C: FromClientConfigAndContext<Ear>>(
    cluster: &Cluster,
    role: Role,
) -> Result<C, Trouble> {
    let secret = cluster.token();
    // Read before librdkafka asks, so that what can't be read is ours and no refused login.
    let first = Mutex::new(secret.map(token::read).transpose()?);
    let ear = Ear { token: secret.cloned(), first, ..Ear::default() };
    config(cluster, role)?.create_with_context(ear).map_err(|error| {
        // What librdkafka finds at once is ours: a certificate file that can't be read.
        let text = match error {
            KafkaError::ClientConfig(_, why, key, _) => format!("{key}: {why}"),
            other => other.to_string(),
        };
        Trouble::fault(FaultCode::Unreadable, format!("{}: {text}", cluster))
    })
}

fn config(cluster: &Cluster, role: Role) -> Result<ClientConfig, Fault> {
    let mut config = ClientConfig::new();
    config
        // A connection that was closed in the middle is told of in the log alone.
        .set_log_level(RDKafkaLogLevel::Info)
        .set("log.thread.name", "false")
        .set("bootstrap.servers", cluster.brokers())
        .set("client.id", "greenlight")
        .set("allow.auto.create.topics", "false")
        // A broker that comes back is found at once.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.keepalive.enable", "true");
    let security = &cluster.security;
    let protocol = match (&security.tls, &security.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &security.tls {
        let files = [
            ("ssl.ca.location", &tls.ca),
            ("ssl.certificate.location", &tls.cert),
            ("ssl.key.location", &tls.key),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                config.set(key, file.display().to_string());
            }
        }
        if tls.insecure {
            config.set("enable.ssl.certificate.verification", "false");
        }
    }
    if let Some(sasl) = &security.sasl {
        config.set("sasl.mechanism", sasl.mechanism.word());
        if let (Some(username), Some(password)) = (&sasl.username, &sasl.password) {
            config.set("sasl.username", username).set("sasl.password", password.reveal()?.expose());
        }
    }
    if matches!(role, Role::Send | Role::Stream) {
        cluster.sending.configure(&mut config);
    }
    match role {
        Role::Admin => &mut config,
        Role::Send | Role::Stream => config
            // Volume goes in large batches: librdkafka's own default.
            .set("linger.ms", if role == Role::Stream { "5" } else { "0" })
            // The caller's deadline ends the wait, not a timer of librdkafka's.
            .set("message.timeout.ms", "0")
            .set("statistics.interval.ms", STATISTICS_MS)
            // Large events are for the broker to refuse, not for us.
            .set("message.max.bytes", "20000000")
            .set("partitioner", "murmur2_random"),
        Role::Read => config
            // Needed before librdkafka assigns partitions; the group is never joined.
            .set("group.id", "greenlight")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that is gone is told, never skipped.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "50")
            // What is fetched ahead is held in memory: far less than the default of 64 MiB.
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.max.bytes", "8388608"),
    };
    Ok(config)
}

/// An error that a client told of.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Mono,
    pub(super) code: RDKafkaErrorCode,
    pub(super) text: String,
}

/// What a client tells while it works: errors, log lines, deliveries.
#[derive(Default)]
pub(super) struct Ear {
    heard: Mutex<VecDeque<Heard>>,
    /// One a record under way.
    pub(super) answers: Mutex<Answers>,
    logged: Mutex<Option<Mono>>,
    token: Option<Secret>,
    /// What was read of it when the client was made.
    first: Mutex<Option<OAuthToken>>,
    /// Why it could not be read again.
    unread: Mutex<Option<Fault>>,
    /// The longest throttling that was told and not asked for yet.
    throttled: Mutex<Option<Duration>>,
    /// How often statistics were told.
    told: AtomicU64,
}

/// The fate of one record, as librdkafka reported it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) at: Mono,
    pub(super) result: Result<(i32, i64), RDKafkaErrorCode>,
}

/// The fates of the records under way, by their numbers in the order in which they were handed over.
#[derive(Default)]
pub(super) struct Answers {
    /// The number of the first that is kept.
    first: usize,
    slots: VecDeque<Option<Answer>>,
}

impl Answers {
    /// Only so many records are under way, and are counted from 0.
    pub(super) fn begin(&mut self, count: usize) {
        self.first = 0;
        self.slots.clear();
        self.slots.resize(count, None);
    }

    /// Makes room for so many more; the number of their first.
    pub(super) fn more(&mut self, count: usize) -> usize {
        let first = self.first + self.slots.len();
        self.slots.resize(self.slots.len() + count, None);
        first
    }

    pub(super) fn put(&mut self, number: usize, answer: Answer) {
        let place = number.checked_sub(self.first);
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            *slot = Some(answer);
        }
    }

    pub(super) fn answered(&self) -> usize {
        self.slots.iter().filter(|answer| answer.is_some()).count()
    }

    /// How many of the oldest are answered without a gap, `known` of which are known to be.
    pub(super) fn in_a_row(&self, known: usize, most: usize) -> usize {
        let more = self.slots.iter().take(most).skip(known);
        known + more.take_while(|answer| answer.is_some()).count()
    }

    /// Takes the oldest, answered or not.
    pub(super) fn take(&mut self, count: usize) -> Vec<Option<Answer>> {
        let count = count.min(self.slots.len());
        self.first += count;
        self.slots.drain(..count).collect()
    }
}

impl Ear {
    /// The errors that may still hold, the newest last.
    pub(super) fn heard(&self) -> Vec<Heard> {
        let now = Mono::now();
        let mut heard = locked(&self.heard);
        heard.retain(|heard| now.since(heard.at) <= HEARD_FOR);
        heard.iter().cloned().collect()
    }

    /// The longest that a broker held us back since this was asked last.
    pub(super) fn throttled(&self) -> Option<Duration> {
        locked(&self.throttled).take()
    }

    /// A login that failed because its token could not be read again is our own fault.
    pub(super) fn or_unread(&self, trouble: Trouble) -> Trouble {
        locked(&self.unread).take().map_or(trouble, Trouble::from)
    }

    /// Takes the statistics that wait; `poll` serves one event.
    pub(super) fn drain(&self, poll: impl Fn()) {
        for _ in 0..DRAIN_LIMIT {
            let told = self.told.load(Relaxed);
            poll();
            if self.told.load(Relaxed) == told {
                return;
            }
        }
    }

    fn hear(&self, code: RDKafkaErrorCode, text: &str) {
        // Told again at each attempt to connect, and without saying why.
        if code == RDKafkaErrorCode::AllBrokersDown {
            return;
        }
        let mut heard = locked(&self.heard);
        heard.retain(|heard| heard.code != code || heard.text != text);
        if heard.len() >= HEARD_LIMIT {
            heard.pop_front();
        }
        heard.push_back(Heard { at: Mono::now(), code, text: text.to_string() });
    }

    fn may_log(&self) -> bool {
        let now = Mono::now();
        let mut logged = locked(&self.logged);
        let may = logged.is_none_or(|at| now.since(at) >= LOG_EVERY);
        if may {
            *logged = Some(now);
        }
        may
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Ear {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        if facility == "FAIL" {
            self.hear(RDKafkaErrorCode::BrokerTransportFailure, text);
        }
        if self.may_log() {
            // Debug: what matters of it is in the reason of the attempt that met it.
            tracing::debug!(facility, "librdkafka: {text}");
        }
    }

    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        if let Some(first) = locked(&self.first).take() {
            return Ok(first);
        }
        let secret = self.token.as_ref().ok_or("the plan names no token")?;
        token::read(secret).map_err(|fault| {
            let text = fault.text.clone();
            *locked(&self.unread) = Some(fault);
            text.into()
        })
    }

    fn stats(&self, statistics: Statistics) {
        self.told.fetch_add(1, Relaxed);
        let windows = statistics.brokers.values().filter_map(|broker| broker.throttle.as_ref());
        // In milliseconds (librdkafka's STATISTICS.md, brokers.throttle).
        let longest = windows.filter_map(|window| u64::try_from(window.max).ok()).max();
        if let Some(longest) = longest.filter(|longest| *longest > 0) {
            let mut throttled = locked(&self.throttled);
            *throttled = (*throttled).max(Some(Duration::from_millis(longest)));
        }
    }

    fn error(&self, error: KafkaError, text: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hear(code, text);
        }
    }
}

impl ConsumerContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        locked(&self.answers).put(index, Answer { at: Mono::now(), result });
    }
}

/// What the cluster says of a topic, asked until the deadline: a broker that is being restarted
/// is waited for, a refused login or certificate is not.
pub(super) fn metadata(
    client: &Client<Ear>,
    topic: &str,
    deadline: Mono,
    listen: impl Fn(),
) -> Result<Metadata, Option<RDKafkaErrorCode>> {
    // Nobody is connected to before librdkafka has asked us for a token.
    if client.context().token.is_some() {
        listen();
    }
    loop {
        let error = match client.fetch_metadata(Some(topic), ASK_AGAIN.min(left(deadline))) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        listen();
        let code = error.rdkafka_error_code();
        let away = matches!(
            code,
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::AllBrokersDown
            )
        );
        let in_vain = client.context().heard().iter().any(|heard| {
            matches!(heard.code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
        });
        if !away || in_vain || left(deadline) == Duration::ZERO {
            return Err(code);
        }
    }
}

/// The time that is left.
pub(super) fn left(deadline: Mono) -> Duration {
    deadline.since(Mono::now())
}
