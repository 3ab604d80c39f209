//! Kafka: one record to each partition of a topic, acknowledged by all replicas in sync and read
//! back.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::Metric;
use crate::catalogue::probe::{KAFKA_PRODUCE, KAFKA_ROUNDTRIP};
use crate::client::kafka::{
    Batch, Cluster, Cut, Delivery, Message, Placement, Record, Security, Wanted, check_brokers,
    check_topic,
};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample, Trouble};
use crate::time::Mono;

/// The header that tells the probe's own records from everything else in the topic.
const HEADER: &str = "greenlight-probe";
/// A topic has this many partitions or fewer; a record to each of more would be a load.
const PARTITIONS_LIMIT: usize = 1_000;
/// What other producers write between our records is read past, up to this much.
const MESSAGES: usize = 100_000;
const BYTES: usize = 64 * 1024 * 1024;

/// Writes one small record to each partition of a topic that exists, and reads it back. The
/// target is the cluster: "host:port", or several with commas between.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A topic for probes: its other readers will see the records.
    pub topic: String,
    /// How the cluster lets us in; without it, plain and without a login.
    #[serde(default)]
    pub security: Security,
}

#[derive(Debug)]
pub struct Kafka {
    topic: String,
    security: Security,
}

impl Probe for Kafka {
    const KIND: &'static str = "kafka";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&KAFKA_PRODUCE, &KAFKA_ROUNDTRIP];

    fn new(spec: Spec) -> Result<Self, String> {
        check_topic(&spec.topic)?;
        // Whatever the target will be, the security must fit.
        Cluster::new("localhost:9092", &spec.security)?;
        Ok(Self { topic: spec.topic, security: spec.security })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        check_brokers(text)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        let topic = &self.topic;
        vec![
            Effect {
                what: format!("writes one record to each partition of topic {topic} of {target}"),
                needs: None,
            },
            Effect {
                what: format!("reads what is new in topic {topic} of {target}, without a group"),
                needs: None,
            },
        ]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let mut samples = Vec::new();
        match self.round(&on, &mut samples).await {
            Ok(()) => Reading::success(samples),
            Err(Trouble::Reason(reason)) => Reading::failure(reason, samples),
            Err(Trouble::Fault(fault)) => fault.into(),
        }
    }
}

impl Kafka {
    async fn round(&self, on: &Attempt<'_>, samples: &mut Vec<Sample>) -> Result<(), Trouble> {
        let began = Mono::now();
        let left = || on.timeout.mul_f64(0.95).saturating_sub(Mono::now().since(began));
        let cluster = Cluster::new(on.target, &self.security)
            .map_err(|text| Trouble::fault(FaultCode::Unsupported, text))?;
        let kafka = on.clients.kafka();
        let topic = self.topic.as_str();

        let ends = kafka.ends(&cluster, topic, left()).await?;
        on.trace.note(format_args!("{cluster}, topic {topic}: {ends:?}"));
        if let Some(trouble) = ends.unseen.into_values().next() {
            return Err(trouble);
        }
        if ends.partitions.len() > PARTITIONS_LIMIT {
            return Err(Trouble::fault(
                FaultCode::Unsupported,
                format!("topic {topic} has more than {PARTITIONS_LIMIT} partitions"),
            ));
        }

        let id = random_id()?;
        let partitions: Vec<i32> = ends.partitions.keys().copied().collect();
        let records = partitions.iter().map(|partition| Record {
            placement: Placement::Partition(*partition),
            key: Some(id.clone()),
            headers: vec![(HEADER.into(), id.clone())],
            payload: Bytes::from(format!("greenlight probe {id}, partition {partition}: a test")),
        });
        let batch = Batch { topic: topic.to_string(), records: records.collect() };
        let handed_over = Mono::now();
        let sent = kafka.produce(&cluster, batch, left()).await?;
        on.trace.note(format_args!("produced: {sent:?}"));
        let (written, first_trouble) = stored(&partitions, sent.deliveries);
        samples.extend(
            written
                .values()
                .map(|(at, _)| Sample::new(&KAFKA_PRODUCE, at.since(handed_over).as_secs_f64())),
        );

        let ranges = written
            .iter()
            .filter_map(|(partition, (_, offset))| {
                let from = ends.partitions.get(partition)?.1;
                Some((*partition, (from.min(*offset), offset.saturating_add(1))))
            })
            .collect();
        let wanted = Wanted { ranges, messages: MESSAGES, bytes: BYTES };
        let take = move |message: &Message<'_>| {
            (message.header(HEADER) == Some(id.as_bytes()))
                .then_some((message.partition(), message.seen))
        };
        let seen = kafka.read(&cluster, topic, wanted, left(), take).await?;
        let back: BTreeMap<i32, Mono> = seen.taken.into_iter().collect();
        on.trace.note(format_args!("read back: {back:?}, cut short: {:?}", seen.cut));
        samples.extend(
            back.values()
                .map(|at| Sample::new(&KAFKA_ROUNDTRIP, at.since(handed_over).as_secs_f64())),
        );

        if let Some(trouble) = first_trouble {
            return Err(trouble);
        }
        let missing: Vec<String> =
            written.keys().filter(|id| !back.contains_key(id)).map(i32::to_string).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let why = match seen.cut {
            None => String::from("they are not there"),
            Some(Cut::Limit) => {
                return Err(Trouble::fault(
                    FaultCode::Blind,
                    format!("topic {topic} has more traffic than a probe reads; use a quiet one"),
                ));
            }
            Some(Cut::Trouble(trouble)) => trouble.to_string(),
        };
        Err(Trouble::reason(
            ReasonCode::NotReadBack,
            format!(
                "{cluster}, topic {topic}: acknowledged by partitions {} and not read back: {why}",
                missing.join(", ")
            ),
        ))
    }
}

/// Where each record was stored, and the first trouble of those that were not.
fn stored(
    partitions: &[i32],
    deliveries: Vec<Delivery>,
) -> (BTreeMap<i32, (Mono, i64)>, Option<Trouble>) {
    let mut written = BTreeMap::new();
    let mut first = None;
    for (partition, delivery) in partitions.iter().zip(deliveries) {
        let trouble: Trouble = match delivery {
            Delivery::Stored { at, offset, .. } => {
                written.insert(*partition, (at, offset));
                continue;
            }
            Delivery::NotSent(reason) | Delivery::Refused(reason) | Delivery::Unknown(reason) => {
                Reason::new(reason.code, format!("partition {partition}: {}", reason.text)).into()
            }
            Delivery::Fault(fault) => fault.into(),
        };
        first.get_or_insert(trouble);
    }
    (written, first)
}

/// Tells this attempt's records from those of any other, also of another agent.
fn random_id() -> Result<String, Fault> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new(FaultCode::Exhausted, format!("no random bytes: {error}")))?;
    Ok(format!("glp{:016x}", u64::from_le_bytes(bytes)))
}
