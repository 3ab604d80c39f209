//! Kafka: an idempotent producer, acknowledged by all replicas in sync.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{SendContext, Sender};
use crate::client::kafka::{
    self, Batch, Cluster, Delivery, Placement, Record, Security, check_topic,
};
use crate::journey::event::ID_HEADER;
use crate::journey::{Event, Receipt};
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::spec::Period;

/// Sends to a topic that exists. Each event carries its token as key and as header.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where the cluster is found: "host:port", or several with commas between.
    pub brokers: String,
    pub topic: String,
    /// Which partitions the events go to.
    #[serde(default)]
    pub partitions: Partitions,
    /// How the cluster lets us in; without it, plain and without a login.
    #[serde(default)]
    pub security: Security,
    /// Give up waiting for acknowledgements after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Partitions {
    /// All of them in turn, so that every leader is proved.
    #[default]
    All,
    /// By the hash of the key, as Kafka's own producer does.
    Key,
}

#[derive(Debug)]
pub struct Kafka {
    cluster: Cluster,
    topic: String,
    partitions: Partitions,
    timeout: Option<Duration>,
}

impl Sender for Kafka {
    const KIND: &'static str = "kafka";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        check_topic(&spec.topic)?;
        Ok(Self {
            cluster: Cluster::new(&spec.brokers, &spec.security)?,
            topic: spec.topic,
            partitions: spec.partitions,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let which = match self.partitions {
            Partitions::All => "to all partitions in turn",
            Partitions::Key => "by key",
        };
        vec![Effect {
            what: format!(
                "writes {count} records to topic {} of {}, {which}",
                self.topic, self.cluster
            ),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let records = events.iter().map(|event| Record {
            placement: match self.partitions {
                Partitions::All => Placement::Turn(event.seq),
                Partitions::Key => Placement::Key,
            },
            key: event.token.clone(),
            header: (ID_HEADER, event.token.clone()),
            payload: event.payload.clone(),
        });
        let batch = Batch { topic: self.topic.clone(), records: records.collect() };
        on.trace.note(format_args!(
            "sends {} records to topic {} of {}",
            events.len(),
            self.topic,
            self.cluster
        ));
        match on.clients.kafka().produce(&self.cluster, batch, timeout).await {
            Ok(deliveries) => {
                for (event, delivery) in events.iter().zip(&deliveries) {
                    on.trace.note(format_args!("event {}: {delivery:?}", event.seq));
                }
                deliveries.into_iter().map(receipt).collect()
            }
            Err(trouble) => {
                on.trace.note(format_args!("nothing was sent: {trouble}"));
                let receipt = match trouble {
                    Trouble::Reason(reason) => Receipt::NotSent(reason),
                    Trouble::Fault(fault) => Receipt::Fault(fault),
                };
                vec![receipt; events.len()]
            }
        }
    }
}

fn receipt(delivery: kafka::Delivery) -> Receipt {
    match delivery {
        Delivery::Stored { at, .. } => Receipt::Accepted { at },
        Delivery::NotSent(reason) => Receipt::NotSent(reason),
        Delivery::Refused(reason) => Receipt::Refused(reason),
        Delivery::Unknown(reason) => Receipt::Unknown(reason),
        Delivery::Fault(fault) => Receipt::Fault(fault),
    }
}
