//! Sending: one batch, one answer a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use super::Cluster;
use super::classify::{Fate, fate, trouble};
use super::session::{Answer, Ear, Heard, Told, left, locked, metadata};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};
use crate::time::Mono;

/// How long one wait for answers is; the answers are stamped when they come, not when it ends.
const SLICE: Duration = Duration::from_millis(5);
/// So long a client is listened to for what it has to tell besides answers.
const LISTEN: Duration = Duration::from_millis(1);
/// After the deadline, what is still open is taken back; that takes librdkafka a moment.
pub(super) const TAKING_BACK: Duration = Duration::from_millis(400);

/// Records for one topic.
#[derive(Clone, Debug)]
pub struct Batch {
    pub topic: String,
    pub records: Vec<Record>,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub placement: Placement,
    pub key: Option<String>,
    pub headers: Vec<(Arc<str>, String)>,
    pub payload: Bytes,
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// This one.
    Partition(i32),
    /// The partitions in turn: this number modulo how many there are.
    Turn(u64),
    /// One partition of each leader in turn.
    Leader(u64),
    /// By the key's hash, as Kafka's own producer does.
    Key,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// Stored, by the word of whoever was to acknowledge it.
    Stored { at: Mono, partition: i32, offset: i64 },
    /// Certainly not handed over.
    NotSent(Reason),
    /// Refused by the broker.
    Refused(Reason),
    /// It may or may not be stored.
    Unknown(Reason),
    /// Certainly not handed over, by our own fault.
    Fault(Fault),
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// One a record, in order.
    pub deliveries: Vec<Delivery>,
    /// The longest that a broker held us back for a quota, of what became known with this batch.
    pub throttled: Option<Duration>,
}

impl Sent {
    /// Whether every record was stored.
    pub fn whole(&self) -> bool {
        self.deliveries.iter().all(|one| matches!(one, Delivery::Stored { .. }))
    }
}

pub(super) struct Producer<'a> {
    pub(super) client: &'a BaseProducer<Ear>,
    pub(super) cluster: &'a Cluster,
}

/// A topic's partitions that can be written, and why the others can't.
pub(super) struct Layout {
    count: i32,
    /// The first partition of each leader.
    of_leaders: Vec<i32>,
    unwritable: BTreeMap<i32, Trouble>,
}

impl Layout {
    /// The partition of a record; None where librdkafka chooses. Where it can't be written, that is
    /// the record's final answer.
    pub(super) fn place(&self, placement: Placement) -> Result<Option<i32>, Delivery> {
        let partition = partition_of(placement, self.count, &self.of_leaders);
        // By key, librdkafka chooses: where any leader is away it might be that one, so none goes.
        let barred = match partition {
            Some(partition) => self.unwritable.get(&partition),
            None => self.unwritable.values().next(),
        };
        match barred.cloned() {
            None => Ok(partition),
            Some(Trouble::Reason(reason)) => Err(Delivery::NotSent(reason)),
            Some(Trouble::Fault(fault)) => Err(Delivery::Fault(fault)),
        }
    }
}

impl Producer<'_> {
    /// `told` is what the leaders told before; unless something was heard of the connections since,
    /// they are not asked again.
    pub(super) fn send(
        &self,
        batch: Batch,
        told: Option<Told>,
        deadline: Mono,
    ) -> Result<Sent, Trouble> {
        let ear = self.client.client().context();
        // What piled up since the last batch is no part of this one's times.
        ear.drain(|| self.client.poll(Duration::ZERO));
        let quiet = |told: &Told| ear.heard().iter().all(|heard| heard.at < told.at);
        let layout = match told.filter(quiet) {
            Some(told) => told.layout,
            None => {
                let places: Vec<Placement> =
                    batch.records.iter().map(|record| record.placement).collect();
                self.layout(&batch.topic, Some(&places), deadline)?
            }
        };
        locked(&ear.answers).begin(batch.records.len());
        let early: Vec<Option<Delivery>> = batch
            .records
            .iter()
            .enumerate()
            .map(|(index, record)| self.hand_over(&batch.topic, index, record, &layout).err())
            .collect();
        let expected = early.iter().filter(|early| early.is_none()).count();
        let answered = || locked(&ear.answers).answered() >= expected;
        while !answered() && left(deadline) > Duration::ZERO {
            self.client.poll(SLICE.min(left(deadline)));
        }
        if !answered() {
            self.client.purge(PurgeConfig::default().queue().inflight());
            let deadline = Mono::now().plus(TAKING_BACK);
            while !answered() && left(deadline) > Duration::ZERO {
                self.client.poll(SLICE);
            }
        }
        let heard = ear.heard();
        let throttled = ear.throttled();
        let answers = locked(&ear.answers).take(batch.records.len());
        let delivered = early.into_iter().zip(answers);
        let deliveries = delivered.map(|(early, answer)| {
            early.unwrap_or_else(|| self.delivery(answer, &heard, throttled))
        });
        Ok(Sent { deliveries: deliveries.collect(), throttled })
    }

    /// Asks what partitions there are and each of their leaders for a word, so that a leader that
    /// can't be reached is found before anything is handed over to it. Without `places`, all are
    /// asked.
    pub(super) fn layout(
        &self,
        topic: &str,
        places: Option<&[Placement]>,
        deadline: Mono,
    ) -> Result<Layout, Trouble> {
        self.asked(topic, places, deadline).map_err(|trouble| match trouble {
            Trouble::Reason(reason) => {
                let throttled = self.client.client().context().throttled();
                Trouble::Reason(held_back(self.cluster, reason, throttled))
            }
            fault => fault,
        })
    }

    fn asked(
        &self,
        topic: &str,
        places: Option<&[Placement]>,
        deadline: Mono,
    ) -> Result<Layout, Trouble> {
        let what = format!("{}, topic {topic}", self.cluster);
        let ear = self.client.client().context();
        let failed = |code: Option<Code>| {
            self.client.poll(LISTEN);
            trouble(&what, code, &ear.heard())
        };
        let listen = || self.client.poll(LISTEN);
        let metadata = metadata(self.client.client(), topic, deadline, listen).map_err(failed)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let Some(found) = found else { return Err(failed(Some(Code::UnknownTopic))) };
        if let Some(error) = found.error() {
            return Err(failed(Some(error.into())));
        }
        let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(failed(Some(Code::UnknownTopic)));
        }
        let mut of_leaders = BTreeMap::new();
        for partition in found.partitions().iter().filter(|partition| partition.leader() >= 0) {
            let first = of_leaders.entry(partition.leader()).or_insert(partition.id());
            *first = partition.id().min(*first);
        }
        let of_leaders: Vec<i32> = of_leaders.into_values().collect();
        let placed = |place: &Placement| partition_of(*place, count, &of_leaders);
        let used: BTreeSet<i32> = places.unwrap_or_default().iter().filter_map(placed).collect();
        let all = places.is_none_or(|places| places.contains(&Placement::Key));
        let mut leaders: BTreeMap<i32, Result<(), Trouble>> = BTreeMap::new();
        let mut unwritable = BTreeMap::new();
        for partition in found.partitions() {
            let id = partition.id();
            if !all && !used.contains(&id) {
                continue;
            }
            if partition.leader() < 0 {
                let text = format!("{what}: partition {id} has no leader");
                unwritable.insert(id, Trouble::reason(ReasonCode::BrokerError, text));
                continue;
            }
            let leader = leaders.entry(partition.leader()).or_insert_with(|| {
                let asked = self.client.client().fetch_watermarks(topic, id, left(deadline));
                asked.map(drop).map_err(|error| {
                    self.client.poll(LISTEN);
                    let what = format!("{what}, leader of partition {id}");
                    trouble(&what, error.rdkafka_error_code(), &ear.heard())
                })
            });
            if let Err(trouble) = leader {
                unwritable.insert(id, trouble.clone());
            }
        }
        for id in used {
            if !found.partitions().iter().any(|partition| partition.id() == id) {
                let text = format!("{what}: it has {count} partitions and no partition {id}");
                unwritable.insert(id, Trouble::reason(ReasonCode::NotFound, text));
            }
        }
        Ok(Layout { count, of_leaders, unwritable })
    }

    /// Gives one record to librdkafka; an error is its final answer.
    fn hand_over(
        &self,
        topic: &str,
        index: usize,
        record: &Record,
        layout: &Layout,
    ) -> Result<(), Delivery> {
        let partition = layout.place(record.placement)?;
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let headers = record.headers.iter().fold(headers, |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value) })
        });
        let mut base: BaseRecord<'_, str, [u8], usize> =
            BaseRecord::with_opaque_to(topic, index).payload(&record.payload[..]).headers(headers);
        base.key = record.key.as_deref();
        base.partition = partition;
        self.client.send(base).map_err(|(error, _)| {
            self.not_taken(topic, error.rdkafka_error_code().unwrap_or(Code::Fail))
        })
    }

    /// librdkafka did not take a record.
    pub(super) fn not_taken(&self, topic: &str, code: Code) -> Delivery {
        let text = format!("{}, topic {topic}: {code}", self.cluster);
        match code {
            Code::QueueFull => Delivery::Fault(Fault::new(FaultCode::Exhausted, text)),
            // Nothing left this process, whatever the code says of a broker.
            code => Delivery::NotSent(Reason::new(fate(code, false).1, text)),
        }
    }

    pub(super) fn delivery(
        &self,
        answer: Option<Answer>,
        heard: &[Heard],
        throttled: Option<Duration>,
    ) -> Delivery {
        let (at, result) = match answer {
            Some(answer) => (answer.at, answer.result),
            None => (Mono::now(), Err(Code::OperationTimedOut)),
        };
        let code = match result {
            Ok((partition, offset)) => return Delivery::Stored { at, partition, offset },
            Err(code) => code,
        };
        let shaken = heard.iter().any(|heard| {
            matches!(heard.code, Code::BrokerTransportFailure | Code::OperationTimedOut | Code::SSL)
        });
        let (fate, reason) = fate(code, shaken);
        let text = match heard.last() {
            Some(told) => format!("{}: {code}; {}", self.cluster, told.text),
            None => format!("{}: {code}", self.cluster),
        };
        let reason = held_back(self.cluster, Reason::new(reason, text), throttled);
        match fate {
            Fate::NotSent => Delivery::NotSent(reason),
            Fate::Refused => Delivery::Refused(reason),
            Fate::Unknown => Delivery::Unknown(reason),
        }
    }
}

/// A broker that holds us back for a quota is not late: it answers when it may.
fn held_back(cluster: &Cluster, reason: Reason, throttled: Option<Duration>) -> Reason {
    match throttled {
        Some(held) if reason.code == ReasonCode::Timeout => Reason::new(
            ReasonCode::Throttled,
            format!("{cluster}: a quota holds us back for {held:?}; raise it, or send less"),
        ),
        _ => reason,
    }
}

/// None: librdkafka chooses by the key.
fn partition_of(placement: Placement, count: i32, of_leaders: &[i32]) -> Option<i32> {
    let in_turn = |turn: u64, of: usize| {
        usize::try_from(turn % u64::try_from(of).unwrap_or(1).max(1)).unwrap_or_default()
    };
    match placement {
        Placement::Partition(partition) => Some(partition),
        Placement::Turn(turn) => {
            i32::try_from(in_turn(turn, usize::try_from(count).unwrap_or(1))).ok()
        }
        // Where nobody leads, partition 0 will tell so.
        Placement::Leader(turn) => {
            Some(of_leaders.get(in_turn(turn, of_leaders.len())).copied().unwrap_or_default())
        }
        Placement::Key => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::kafka::Security;

    #[test]
    fn partitions_are_taken_in_turn_and_each_leader_has_its_share() {
        let of = |placement| partition_of(placement, 6, &[0, 2, 5]);
        assert_eq!(of(Placement::Turn(8)), Some(2));
        assert_eq!(of(Placement::Partition(4)), Some(4));
        assert_eq!(of(Placement::Key), None);
        let leaders: Vec<_> = (0..4).map(|turn| of(Placement::Leader(turn))).collect();
        assert_eq!(leaders, [Some(0), Some(2), Some(5), Some(0)]);
        let nobody = partition_of(Placement::Leader(3), 6, &[]);
        assert_eq!(nobody, Some(0), "it will tell that nobody leads it");
    }

    #[test]
    fn only_a_wait_is_explained_by_a_quota() {
        let cluster = Cluster::new("b:9092", &Security::default()).expect("it is whole");
        let held = |code, throttled| {
            held_back(&cluster, Reason::new(code, String::from("why")), throttled).code
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(held(ReasonCode::Timeout, second), ReasonCode::Throttled);
        assert_eq!(held(ReasonCode::Timeout, None), ReasonCode::Timeout);
        assert_eq!(held(ReasonCode::TooLarge, second), ReasonCode::TooLarge);
    }
}
