//! Reading: ends of partitions, and ranges of messages by assignment.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, Timestamp};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Cluster;
use super::classify::trouble;
use super::session::{Ear, left, metadata};
use crate::outcome::{ReasonCode, Trouble};
use crate::time::Mono;

/// How long one wait for a message is, so that the deadline is kept.
const SLICE: Duration = Duration::from_millis(100);
/// More errors and log lines than a client has to tell between two looks.
const EVENTS: usize = 256;

/// What a topic holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ends {
    /// By partition: the first offset that is still there, and the next one to be written.
    pub partitions: BTreeMap<i32, (i64, i64)>,
    /// Partitions that could not be asked, and why.
    pub unseen: BTreeMap<i32, Trouble>,
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// By partition: from this offset, up to and without that one.
    pub ranges: BTreeMap<i32, (i64, i64)>,
    /// After so many messages the reading stops.
    pub messages: usize,
    /// After so many bytes of payload the reading stops.
    pub bytes: usize,
}

/// What was read.
#[derive(Debug)]
pub struct Seen<T> {
    pub taken: Vec<T>,
    /// By partition: where to go on.
    pub next: BTreeMap<i32, i64>,
    /// Why the reading stopped before the end.
    pub cut: Option<Cut>,
}

/// Why a reading stopped before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Cut {
    /// The limit of messages or bytes.
    Limit,
    /// The deadline, or an error of the cluster.
    Trouble(Trouble),
}

/// One message, where it lies.
pub struct Message<'a> {
    inner: &'a BorrowedMessage<'a>,
    pub seen: Mono,
}

impl Message<'_> {
    pub fn topic(&self) -> &str {
        self.inner.topic()
    }

    pub fn partition(&self) -> i32 {
        self.inner.partition()
    }

    pub fn offset(&self) -> i64 {
        self.inner.offset()
    }

    /// When the broker took it, by its clock, in milliseconds since 1970; None where the topic keeps
    /// the producer's time instead (`message.timestamp.type`).
    pub fn taken_at(&self) -> Option<i64> {
        match self.inner.timestamp() {
            Timestamp::LogAppendTime(at) => Some(at),
            Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
        }
    }

    /// Empty where there is none.
    pub fn payload(&self) -> &[u8] {
        self.inner.payload().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let headers = self.inner.headers()?;
        headers.iter().find(|header| header.key == name).and_then(|header| header.value)
    }
}

pub(super) struct Consumer<'a> {
    pub(super) client: &'a BaseConsumer<Ear>,
    pub(super) cluster: &'a Cluster,
}

impl Consumer<'_> {
    pub(super) fn ends(&self, topic: &str, deadline: Mono) -> Result<Ends, Trouble> {
        let metadata = metadata(self.client.client(), topic, deadline, || self.listen())
            .map_err(|code| self.failed(topic, code))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let Some(found) = found else { return Err(self.failed(topic, Some(Code::UnknownTopic))) };
        if let Some(error) = found.error() {
            return Err(self.failed(topic, Some(error.into())));
        }
        if found.partitions().is_empty() {
            return Err(self.failed(topic, Some(Code::UnknownTopic)));
        }
        let mut ends = Ends::default();
        let mut led = Vec::new();
        for partition in found.partitions() {
            if partition.leader() >= 0 {
                led.push(partition.id());
                continue;
            }
            let text = format!(
                "{}, topic {topic}: partition {} has no leader",
                self.cluster,
                partition.id()
            );
            ends.unseen.insert(partition.id(), Trouble::reason(ReasonCode::BrokerError, text));
        }
        let first = self.offsets(topic, &led, Offset::Beginning, deadline)?;
        let next = self.offsets(topic, &led, Offset::End, deadline)?;
        for partition in led {
            let both = (first.get(&partition), next.get(&partition));
            match both {
                (Some(Ok(first)), Some(Ok(next))) => {
                    ends.partitions.insert(partition, (*first, *next));
                }
                (Some(Err(code)), _) | (_, Some(Err(code))) => {
                    let trouble = self.failed(topic, Some(*code));
                    ends.unseen.insert(partition, trouble);
                }
                _ => {
                    let trouble = self.failed(topic, Some(Code::UnknownPartition));
                    ends.unseen.insert(partition, trouble);
                }
            }
        }
        Ok(ends)
    }

    /// One request a leader, for all of its partitions.
    fn offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        which: Offset,
        deadline: Mono,
    ) -> Result<BTreeMap<i32, Result<i64, Code>>, Trouble> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked
                .add_partition_offset(topic, *partition, which)
                .map_err(|error| self.failed(topic, error.rdkafka_error_code()))?;
        }
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answered = self
            .client
            .offsets_for_times(asked, left(deadline))
            .map_err(|error| self.failed(topic, error.rdkafka_error_code()))?;
        let answers = answered.elements().into_iter().map(|element| {
            let offset = match (element.error(), element.offset()) {
                (Err(error), _) => Err(error.rdkafka_error_code().unwrap_or(Code::Fail)),
                (Ok(()), Offset::Offset(offset)) => Ok(offset),
                (Ok(()), _) => Err(Code::OperationTimedOut),
            };
            (element.partition(), offset)
        });
        Ok(answers.collect())
    }

    pub(super) fn read<T>(
        &self,
        topic: &str,
        wanted: Wanted,
        deadline: Mono,
        take: &dyn Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Seen<T>, Trouble> {
        self.listen();
        let mut open: BTreeMap<i32, i64> = BTreeMap::new();
        let mut next = BTreeMap::new();
        let mut assigned = TopicPartitionList::new();
        for (partition, (from, to)) in wanted.ranges {
            next.insert(partition, from);
            if from < to {
                open.insert(partition, to);
                assigned
                    .add_partition_offset(topic, partition, Offset::Offset(from))
                    .map_err(|error| self.failed(topic, error.rdkafka_error_code()))?;
            }
        }
        let mut seen = Seen { taken: Vec::new(), next, cut: None };
        if open.is_empty() {
            return Ok(seen);
        }
        self.client
            .assign(&assigned)
            .map_err(|error| self.failed(topic, error.rdkafka_error_code()))?;
        let (mut messages, mut bytes) = (0_usize, 0_usize);
        while !open.is_empty() {
            if left(deadline) == Duration::ZERO {
                let partitions: Vec<String> = open.keys().map(i32::to_string).collect();
                let what = format!("{topic}, partitions {}", partitions.join(", "));
                seen.cut = Some(Cut::Trouble(self.failed(&what, Some(Code::OperationTimedOut))));
                break;
            }
            match self.client.poll(SLICE.min(left(deadline))) {
                None => {}
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(next) = seen.next.get_mut(&partition) else { continue };
                    let Some(to) = open.get(&partition).copied() else { continue };
                    if offset < *next || offset >= to {
                        if offset >= to {
                            open.remove(&partition);
                        }
                        continue;
                    }
                    *next = offset.saturating_add(1);
                    if *next >= to {
                        open.remove(&partition);
                    }
                    messages += 1;
                    bytes = bytes.saturating_add(message.payload_len());
                    seen.taken.extend(take(&Message { inner: &message, seen: Mono::now() }));
                    if (messages >= wanted.messages || bytes >= wanted.bytes) && !open.is_empty() {
                        seen.cut = Some(Cut::Limit);
                        break;
                    }
                }
                // The rest up to the end is no message: a transaction's mark, or compacted away.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // A connection is lost: another may come before the deadline.
                    None
                    | Some(
                        Code::BrokerTransportFailure
                        | Code::AllBrokersDown
                        | Code::Resolve
                        | Code::OperationTimedOut,
                    ) => {}
                    code => {
                        seen.cut = Some(Cut::Trouble(self.failed(topic, code)));
                        break;
                    }
                },
            }
        }
        self.client.unassign().map_err(|error| self.failed(topic, error.rdkafka_error_code()))?;
        Ok(seen)
    }

    /// Lets the client hand over what it has to tell: it does so only when it is polled, one
    /// thing a call.
    fn listen(&self) {
        for _ in 0..EVENTS {
            drop(self.client.poll(Duration::ZERO));
        }
    }

    fn failed(&self, topic: &str, code: Option<Code>) -> Trouble {
        self.listen();
        let what = format!("{}, topic {topic}", self.cluster);
        trouble(&what, code, &self.client.client().context().heard())
    }
}
