//! The broker: librdkafka's mock cluster, and the client of it that the platform's own parts
//! share. Both live in one lane, because librdkafka's calls block.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::oneshot;

use super::{ENRICHED, PARSED, RAW, locked};
use crate::lanes::Lane;
use crate::outcome::{Fault, FaultCode};

/// Two, so that order is per partition here too.
const PARTITIONS: i32 = 2;
/// A turn waits so long for the first record, and takes so many.
const POLL: Duration = Duration::from_millis(20);
const RECORDS_LIMIT: usize = 1_000;
/// Between loopback sockets of one process.
const PRODUCED_WITHIN: Duration = Duration::from_secs(5);
/// Collectors, the pipeline and its next turn.
const QUEUE: usize = 256;
/// Of the mock cluster each produce request takes one error away; more requests than a day has.
const REFUSALS: usize = 100_000;

/// One message of a topic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// The header that carries an event's token, where it came with one.
    pub(super) id: Option<Vec<u8>>,
}

enum Job {
    Produce(Vec<Record>, oneshot::Sender<Result<(), String>>),
    Poll(oneshot::Sender<Vec<Record>>),
}

/// The broker and its lane.
pub(super) struct Broker {
    lane: Lane<Job>,
    address: String,
    front: String,
}

struct Clients {
    producer: BaseProducer<Deliveries>,
    consumer: BaseConsumer,
    /// Another cluster, whose only work is to refuse what is written to it.
    _refusing: Option<BaseProducer<Deliveries>>,
}

/// Hears of each record what became of it, and keeps the first failure.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Option<String>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivered {
            locked(&self.0).get_or_insert(error.to_string());
        }
    }
}

impl Broker {
    /// Starts the cluster. Where it refuses, the address for those outside is that of a second
    /// one, which answers every produce request with an error.
    pub(super) fn start(refuses: bool) -> Result<Self, Fault> {
        let (producer, address) = cluster(&[RAW, PARSED, ENRICHED], 0).map_err(|e| fault(&e))?;
        let refusing = if refuses {
            Some(cluster(&[RAW], REFUSALS).map_err(|error| fault(&error))?)
        } else {
            None
        };
        let front = refusing.as_ref().map_or(&address, |(_, front)| front).clone();
        let consumer = consumer(&address).map_err(|error| fault(&error))?;
        let clients =
            Clients { producer, consumer, _refusing: refusing.map(|(producer, _)| producer) };
        let lane = Lane::start("demo-broker", QUEUE, clients, turn).map_err(|error| {
            Fault::new(FaultCode::Exhausted, format!("no thread for the embedded broker: {error}"))
        })?;
        Ok(Self { lane, address, front })
    }

    /// Where the platform's topics are read.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Where events from outside are written.
    pub(super) fn front_address(&self) -> &str {
        &self.front
    }

    /// Writes records in order; done when all are acknowledged.
    pub(super) async fn produce(&self, records: Vec<Record>) -> Result<(), String> {
        let wait = PRODUCED_WITHIN * 2;
        let answer = self.lane.ask(wait, |answer| Job::Produce(records, answer)).await;
        answer.map_err(|fault| fault.to_string())?
    }

    /// What came since the last call, of all topics.
    pub(super) async fn poll(&self) -> Vec<Record> {
        let wait = PRODUCED_WITHIN * 2;
        match self.lane.ask(wait, Job::Poll).await {
            Ok(records) => records,
            Err(fault) => {
                tracing::warn!(%fault, "the embedded broker is slow");
                Vec::new()
            }
        }
    }

    pub(super) async fn stop(&self, within: Duration) -> Result<(), Fault> {
        self.lane.close(within).await
    }
}

fn fault(error: &KafkaError) -> Fault {
    Fault::new(FaultCode::Exhausted, format!("the embedded broker did not start: {error}"))
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Error).set("client.id", "greenlight-embedded");
    config
}

/// A client that carries a mock cluster of one broker, with these topics.
fn cluster(
    topics: &[&str],
    refusals: usize,
) -> Result<(BaseProducer<Deliveries>, String), KafkaError> {
    let producer: BaseProducer<Deliveries> = config()
        .set("test.mock.num.brokers", "1")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("message.timeout.ms", PRODUCED_WITHIN.as_millis().to_string())
        .create_with_context(Deliveries::default())?;
    let none = KafkaError::MockCluster(rdkafka::types::RDKafkaErrorCode::Fail);
    let address = {
        let cluster = producer.client().mock_cluster().ok_or(none)?;
        for topic in topics {
            cluster.create_topic(topic, PARTITIONS, 1)?;
        }
        if refusals > 0 {
            let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION;
            cluster.request_errors(RDKafkaApiKey::Produce, &vec![error; refusals]);
        }
        cluster.bootstrap_servers()
    };
    Ok((producer, address))
}

fn consumer(address: &str) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = config()
        .set("bootstrap.servers", address)
        // Required by the client; partitions are assigned, and no group is ever joined.
        .set("group.id", "embedded")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.error.backoff.ms", "20")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for topic in [RAW, PARSED, ENRICHED] {
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

fn turn(clients: &mut Clients, job: Job) {
    // Whoever asked may have stopped waiting; then nobody needs the answer.
    match job {
        Job::Produce(records, answer) => drop(answer.send(produce(&clients.producer, &records))),
        Job::Poll(answer) => drop(answer.send(poll(&clients.consumer))),
    }
}

fn produce(producer: &BaseProducer<Deliveries>, records: &[Record]) -> Result<(), String> {
    locked(&producer.context().0).take();
    for record in records {
        let mut message = BaseRecord::to(&record.topic)
            .partition(record.partition)
            .key(&record.key)
            .payload(&record.payload);
        if let Some(id) = &record.id {
            let header = Header { key: crate::journey::event::ID_HEADER, value: Some(id) };
            message = message.headers(OwnedHeaders::new().insert(header));
        }
        producer.send(message).map_err(|(error, _)| error.to_string())?;
    }
    let deadline = Instant::now() + PRODUCED_WITHIN;
    while producer.in_flight_count() > 0 {
        if Instant::now() > deadline {
            return Err(format!("no acknowledgement within {PRODUCED_WITHIN:?}"));
        }
        producer.poll(POLL);
    }
    match locked(&producer.context().0).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn poll(consumer: &BaseConsumer) -> Vec<Record> {
    let mut records = Vec::new();
    let mut wait = POLL;
    while records.len() < RECORDS_LIMIT {
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => {
                let headers = message.headers();
                let id = headers.and_then(|headers| {
                    headers
                        .iter()
                        .find(|header| header.key == crate::journey::event::ID_HEADER)
                        .and_then(|header| header.value.map(<[u8]>::to_vec))
                });
                records.push(Record {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    key: message.key().unwrap_or_default().to_vec(),
                    payload: message.payload().unwrap_or_default().to_vec(),
                    id,
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the embedded broker can't be read");
                break;
            }
        }
        wait = Duration::ZERO;
    }
    records
}
