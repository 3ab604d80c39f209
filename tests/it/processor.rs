//! A processor between two Kafka topics that Greenlight did not write: it parses, adds what an
//! enricher would, and does wrong what a test asks for, to exactly chosen events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::peers::Kafka;

/// What it does with one event.
#[allow(dead_code, reason = "each is used by the tests of its own area")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// Drops it.
    Lose,
    /// Writes it twice.
    Repeat,
    /// Writes it after the next one of its partition.
    Swap,
    /// Writes it this much later, without holding up the others.
    Delay(Duration),
    /// Changes a letter of its message, the token left whole.
    Mangle,
    /// Cuts the end of its message off.
    Truncate,
    /// Writes it with a wrong field.
    Misparse,
    /// Adds what a feed of this name knows: a value, and that it was updated so many hours ago.
    Enrich(&'static str, &'static str, u64),
    /// Writes it to the dead-letter topic instead.
    DeadLetter,
}

/// Runs until it is dropped.
pub(crate) struct Processor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The topics between which it stands; they exist already, with as many partitions each.
#[derive(Clone)]
pub(crate) struct Topics {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) dead_letter: Option<String>,
}

impl Processor {
    /// Reads all of `from`. `act` is asked once an event, by its sequence number. Events keep
    /// their partition; headers are not passed on, as few parsers do.
    pub(crate) fn start(
        kafka: &Kafka,
        topics: &Topics,
        act: impl Fn(u64) -> Act + Send + 'static,
    ) -> Self {
        Self::parsing(kafka, topics, move |event| {
            let seq = |event: &Value| event["greenlight.seq"].as_u64().unwrap_or(u64::MAX);
            event.map_or(Act::Lose, |event| act(seq(event)))
        })
    }

    /// The same; `act` is shown each event, or nothing of a message that is no JSON object, which
    /// can only be lost or put into the dead-letter topic as it is.
    pub(crate) fn parsing(
        kafka: &Kafka,
        topics: &Topics,
        act: impl Fn(Option<&Value>) -> Act + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let consumer = consumer(&kafka.config(), &topics.from);
        let producer: BaseProducer = kafka
            .config()
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .create()
            .expect("a valid configuration");
        let work = Work { consumer, producer, topics: topics.clone(), act: Box::new(act) };
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("processor".to_string())
            .spawn(move || work.run(&stopped))
            .expect("a thread is left");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    consumer: BaseConsumer,
    producer: BaseProducer,
    topics: Topics,
    act: Box<dyn Fn(Option<&Value>) -> Act + Send>,
}

impl Work {
    fn run(&self, stop: &AtomicBool) {
        let mut swapped: BTreeMap<i32, Value> = BTreeMap::new();
        let mut delayed: Vec<(Instant, i32, Value)> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            delayed.retain(|(due, partition, event)| {
                let still = *due > now;
                if !still {
                    self.write(&self.topics.to, *partition, event);
                }
                still
            });
            self.producer.poll(Duration::ZERO);
            let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(10)) else { continue };
            let partition = message.partition();
            let payload = message.payload().unwrap_or_default();
            let Some(mut event) = parse(payload) else {
                if (self.act)(None) == Act::DeadLetter {
                    self.put(self.dead_letter(), partition, payload);
                }
                continue;
            };
            let held = swapped.remove(&partition);
            match (self.act)(Some(&event)) {
                Act::Pass => self.write(&self.topics.to, partition, &event),
                Act::Lose => {}
                Act::Repeat => {
                    self.write(&self.topics.to, partition, &event);
                    self.write(&self.topics.to, partition, &event);
                }
                Act::Swap => {
                    swapped.insert(partition, event);
                }
                Act::Delay(by) => delayed.push((Instant::now() + by, partition, event)),
                Act::Mangle => {
                    let text = event["message"].as_str().unwrap_or_default();
                    event["message"] = json!(format!("#{}", text.get(1..).unwrap_or_default()));
                    self.write(&self.topics.to, partition, &event);
                }
                Act::Truncate => {
                    let text = event["message"].as_str().unwrap_or_default();
                    let kept = text.len().saturating_sub(5);
                    event["message"] = json!(text.get(..kept).unwrap_or_default());
                    self.write(&self.topics.to, partition, &event);
                }
                Act::Misparse => {
                    event["enriched"]["asset"]["owner"] = json!("nobody");
                    self.write(&self.topics.to, partition, &event);
                }
                Act::Enrich(feed, value, hours) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                    let updated = now.as_secs().saturating_sub(hours * 3600);
                    event["enriched"][feed] = json!({ "value": value, "updated": updated });
                    self.write(&self.topics.to, partition, &event);
                }
                Act::DeadLetter => {
                    self.write(self.dead_letter(), partition, &event);
                }
            }
            if let Some(held) = held {
                self.write(&self.topics.to, partition, &held);
            }
        }
        let _ = self.producer.flush(Duration::from_secs(5));
    }

    fn write(&self, topic: &str, partition: i32, event: &Value) {
        self.put(topic, partition, event.to_string().as_bytes());
    }

    fn dead_letter(&self) -> &str {
        self.topics.dead_letter.as_deref().expect("there is one")
    }

    fn put(&self, topic: &str, partition: i32, payload: &[u8]) {
        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload);
        self.producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
        self.producer.poll(Duration::ZERO);
    }
}

fn parse(payload: &[u8]) -> Option<Value> {
    let mut event: Value = serde_json::from_slice(payload).ok()?;
    event.is_object().then_some(())?;
    event["enriched"] = json!({ "asset": { "owner": "soc-test" } });
    Some(event)
}

/// Reads all partitions of a topic from the beginning, without a group, and through restarts of
/// the broker.
pub(crate) fn consumer(config: &ClientConfig, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config
        .clone()
        .set("group.id", "processor")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("a valid configuration");
    let metadata =
        consumer.fetch_metadata(Some(topic), Duration::from_secs(20)).expect("kafka answers");
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("it can be assigned");
    consumer
}
