//! Kafka: an idempotent producer, acknowledged by all replicas in sync, where the plan does not
//! say otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Lots, SendContext, Sender, SentLot, send_rendered};
use crate::client::kafka::{
    self, Acks, Batch, Cluster, Compression, Delivery, Piece, Placement, Record, Security, Sending,
    Shape, Source, check_topic,
};
use crate::journey::event::{ID_HEADER, Label, Lot};
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, Trouble};
use crate::probe::Effect;
use crate::spec::Period;

/// More headers than this are no description of an event any more.
const HEADERS_LIMIT: usize = 32;
/// What most events fit into.
const PAYLOAD: usize = 1_024;
/// So long a round that is due waits for the cluster to be connected to.
const READY: Duration = Duration::from_secs(2);
/// More partitions than this in a list are better said as `all`.
const PARTITIONS_LIMIT: usize = 1_000;

/// Sends to a topic that exists. Each event carries its token in the header `greenlight-id`, and as
/// its key where the plan names no other.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where the cluster is found: "host:port", or several with commas between.
    pub brokers: String,
    pub topic: String,
    /// Which partitions the events go to: `all` of them in turn, so that every one is proved;
    /// `auto`, one of each leader in turn; `key`, by the hash of the key, as Kafka's own producer
    /// does; or a list of them in turn.
    #[serde(default)]
    pub partitions: Partitions,
    /// The key of an event, with the same words in braces as its message; empty: none. Its token
    /// where this is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Further headers, with the same words in braces as the event's message.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whose acknowledgement makes an event accepted: `all` replicas in sync, or the `leader` alone
    /// (which an idempotent producer can't do).
    #[serde(default)]
    pub acks: Acks,
    /// Whether the broker tells repeated records apart. Without it nothing is ever sent again.
    #[serde(default = "yes")]
    pub idempotence: bool,
    /// How batches are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// How the cluster lets us in; without it, plain and without a login.
    #[serde(default)]
    pub security: Security,
    /// Make the topic where it is not there, and delete it when this agent has no more use for it. A
    /// topic that is there already is used as it is, and never deleted; nor is one that a killed
    /// agent left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
    /// Give up waiting for acknowledgements after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

fn yes() -> bool {
    true
}

/// A topic of Greenlight's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Create {
    pub partitions: u32,
    /// Copies of each partition.
    pub replication: u32,
    /// How long the broker keeps what is in it.
    pub retention: Period,
}

impl Default for Create {
    fn default() -> Self {
        Self { partitions: 1, replication: 1, retention: Period(Duration::from_secs(3_600)) }
    }
}

impl Create {
    fn shape(&self) -> Result<Shape, String> {
        let number = |what: &str, number: u32, most: u32| {
            let wrong = || format!("`create`: {what} is 1 to {most}, not {number}");
            i32::try_from(number).ok().filter(|_| (1..=most).contains(&number)).ok_or_else(wrong)
        };
        if self.retention.0.is_zero() {
            return Err("`create`: nothing is kept for 0s".into());
        }
        Ok(Shape {
            partitions: number("partitions", self.partitions, 1_000)?,
            replication: number("replication", self.replication, 100)?,
            retention: self.retention.0,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "one of `all`, `auto`, `key`, or a list of partitions like [0, 3]")]
pub enum Partitions {
    By(Choice),
    These(Vec<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// All of them in turn, so that every one is proved.
    All,
    /// One of each leader in turn.
    Auto,
    /// By the hash of the key, as Kafka's own producer does.
    Key,
}

impl Default for Partitions {
    fn default() -> Self {
        Self::By(Choice::All)
    }
}

#[derive(Debug)]
pub struct Kafka {
    cluster: Cluster,
    topic: Arc<str>,
    partitions: Placing,
    key: Key,
    headers: Vec<(Arc<str>, Label)>,
    id_header: Arc<str>,
    create: Option<Shape>,
    /// Tells its use of a topic of our own from that of others.
    user: u64,
    timeout: Option<Duration>,
}

static USERS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Debug)]
enum Placing {
    By(Choice),
    These(Vec<i32>),
}

#[derive(Debug)]
enum Key {
    Token,
    None,
    Text(Label),
}

impl Placing {
    fn new(partitions: Partitions) -> Result<Self, String> {
        let these = match partitions {
            Partitions::By(choice) => return Ok(Self::By(choice)),
            Partitions::These(these) => these,
        };
        if these.is_empty() || these.len() > PARTITIONS_LIMIT {
            return Err(format!(
                "`partitions` lists {} of them; list 1 to {PARTITIONS_LIMIT}, or write `all`",
                these.len()
            ));
        }
        let number = |one: u32| i32::try_from(one).map_err(|_| format!("no partition is {one}"));
        these.into_iter().map(number).collect::<Result<_, _>>().map(Self::These)
    }

    fn of(&self, seq: u64) -> Placement {
        match self {
            Self::By(Choice::All) => Placement::Turn(seq),
            Self::By(Choice::Auto) => Placement::Leader(seq),
            Self::By(Choice::Key) => Placement::Key,
            Self::These(these) => {
                let count = u64::try_from(these.len()).unwrap_or(1).max(1);
                let index = usize::try_from(seq % count).unwrap_or_default();
                Placement::Partition(these.get(index).copied().unwrap_or_default())
            }
        }
    }
}

impl Sender for Kafka {
    const KIND: &'static str = "kafka";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        check_topic(&spec.topic)?;
        let key = match spec.key.as_deref() {
            None => Key::Token,
            Some("") if spec.partitions == Partitions::By(Choice::Key) => {
                return Err(String::from(
                    "`partitions: key` needs a key; give one, or leave it out",
                ));
            }
            Some("") => Key::None,
            Some(text) => Key::Text(Label::parse(text).map_err(|e| format!("key: {e}"))?),
        };
        if spec.headers.len() > HEADERS_LIMIT {
            return Err(format!("more than {HEADERS_LIMIT} headers; leave some out"));
        }
        let mut headers = Vec::with_capacity(spec.headers.len());
        for (name, text) in &spec.headers {
            if name.is_empty() || name.contains('\0') {
                return Err(String::from("a header needs a name of at least one character"));
            }
            if name == ID_HEADER {
                return Err(format!("the header `{ID_HEADER}` carries the token; leave it out"));
            }
            let text = Label::parse(text).map_err(|e| format!("header '{name}': {e}"))?;
            headers.push((Arc::from(name.as_str()), text));
        }
        let sending = Sending {
            acks: spec.acks,
            idempotence: spec.idempotence,
            compression: spec.compression,
        };
        Ok(Self {
            cluster: Cluster::new(&spec.brokers, &spec.security)?.sending(sending)?,
            topic: spec.topic.into(),
            partitions: Placing::new(spec.partitions)?,
            key,
            headers,
            id_header: ID_HEADER.into(),
            create: spec.create.map(|create| create.shape()).transpose()?,
            user: USERS.fetch_add(1, Relaxed),
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let which = match &self.partitions {
            Placing::By(Choice::All) => String::from("to all partitions in turn"),
            Placing::By(Choice::Auto) => String::from("to one partition of each leader in turn"),
            Placing::By(Choice::Key) => String::from("by key"),
            Placing::These(these) => {
                let these: Vec<String> = these.iter().map(i32::to_string).collect();
                format!("to partitions {} in turn", these.join(", "))
            }
        };
        let mut effects = Vec::new();
        if let Some(shape) = self.create {
            effects.push(Effect {
                what: format!(
                    "makes topic {} of {} with {} partitions where it is not there, and deletes it \
                     at the end",
                    self.topic, self.cluster, shape.partitions
                ),
                needs: Some("to make and delete this topic (Create and Delete on it)".into()),
            });
        }
        effects.push(Effect {
            what: format!(
                "writes {count} records to topic {} of {}, {which}",
                self.topic, self.cluster
            ),
            needs: None,
        });
        effects
    }

    async fn prepare(&self, on: SendContext<'_>) -> Result<(), Fault> {
        let kafka = on.clients.kafka();
        if let Some(shape) = self.create {
            let owned = kafka.own(&self.cluster, &self.topic, shape, self.user, on.timeout).await;
            owned.map_err(Trouble::blind)?;
        }
        kafka.get_ready(&self.cluster, &self.topic, READY.min(on.timeout)).await;
        Ok(())
    }

    async fn clear_away(&self, on: SendContext<'_>) -> Result<(), Fault> {
        if self.create.is_none() {
            return Ok(());
        }
        let kafka = on.clients.kafka();
        let gone = kafka.disown(&self.cluster, &self.topic, self.user, on.timeout).await;
        gone.map(drop).map_err(Trouble::blind)
    }

    fn lots(&self) -> Lots {
        if !self.streams() {
            return Lots { in_order: true, ..Lots::default() };
        }
        // librdkafka makes batches of its own.
        Lots { most: 1_000, linger: Duration::from_millis(2), at_once: 48, in_order: true }
    }

    async fn send_lot(&self, lot: &Lot, on: SendContext<'_>) -> SentLot {
        if !self.streams() {
            return send_rendered(self, lot, on).await;
        }
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let source = Rendered {
            lot: lot.clone(),
            partitions: self.partitions.clone(),
            keyed: matches!(self.key, Key::Token),
            header: self.id_header.clone(),
        };
        let source = Box::new(source);
        match on.clients.kafka().stream(&self.cluster, &self.topic, source, timeout).await {
            Ok(streamed) => SentLot {
                receipts: streamed.deliveries.into_iter().map(receipt).collect(),
                bytes: streamed.bytes,
                largest: streamed.largest,
            },
            Err(trouble) => {
                SentLot { receipts: nothing_sent(trouble, lot.len()), ..SentLot::default() }
            }
        }
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let records = events.iter().map(|event| self.record(event));
        let batch = Batch { topic: self.topic.to_string(), records: records.collect() };
        on.trace.note(format_args!(
            "sends {} records to topic {} of {}",
            events.len(),
            self.topic,
            self.cluster
        ));
        match on.clients.kafka().produce(&self.cluster, batch, timeout).await {
            Ok(sent) => {
                if let Some(held) = sent.throttled {
                    on.trace.note(format_args!("throttled: a quota held us back for {held:?}"));
                }
                for (event, delivery) in events.iter().zip(&sent.deliveries) {
                    on.trace.note(format_args!("event {}: {delivery:?}", event.seq));
                }
                sent.deliveries.into_iter().map(receipt).collect()
            }
            Err(trouble) => {
                on.trace.note(format_args!("nothing was sent: {trouble}"));
                nothing_sent(trouble, events.len())
            }
        }
    }
}

fn nothing_sent(trouble: Trouble, count: usize) -> Vec<Receipt> {
    let receipt = match trouble {
        Trouble::Reason(reason) => Receipt::NotSent(reason),
        Trouble::Fault(fault) => Receipt::Fault(fault),
    };
    vec![receipt; count]
}

/// A lot whose events are rendered as they are handed over, into a buffer that is used again.
struct Rendered {
    lot: Lot,
    partitions: Placing,
    /// By its token; without a key where not.
    keyed: bool,
    header: Arc<str>,
}

impl Source for Rendered {
    fn count(&self) -> usize {
        self.lot.len()
    }

    fn each(&self, put: &mut dyn FnMut(&Piece<'_>)) {
        let mut renderer = self.lot.renderer();
        let mut payload = Vec::with_capacity(PAYLOAD);
        for (seq, at) in self.lot.iter() {
            payload.clear();
            renderer.render_into(seq, at, &mut payload);
            let token = renderer.token();
            put(&Piece {
                placement: self.partitions.of(seq),
                key: self.keyed.then_some(token),
                header: (&self.header, token),
                payload: &payload,
            });
        }
    }
}

impl Kafka {
    /// What names words of the event beside it needs all of it.
    fn streams(&self) -> bool {
        self.headers.is_empty() && !matches!(self.key, Key::Text(_))
    }

    fn record(&self, event: &Event) -> Record {
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        headers.push((self.id_header.clone(), event.token.clone()));
        headers.extend(self.headers.iter().map(|(name, text)| (name.clone(), text.of(event))));
        Record {
            placement: self.partitions.of(event.seq),
            key: match &self.key {
                Key::Token => Some(event.token.clone()),
                Key::None => None,
                Key::Text(text) => Some(text.of(event)),
            },
            headers,
            payload: event.payload.clone(),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(more: Value) -> Result<Kafka, String> {
        let mut spec = json!({"brokers": "b:9092", "topic": "t"});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        Kafka::new(serde_json::from_value(spec).map_err(|e| e.to_string())?)
    }

    #[test]
    fn partitions_are_a_word_or_a_list() {
        let turn = |partitions: Value, seq| {
            made(json!({"partitions": partitions})).map(|kafka| kafka.partitions.of(seq))
        };
        assert_eq!(turn(json!("all"), 7), Ok(Placement::Turn(7)));
        assert_eq!(turn(json!("auto"), 7), Ok(Placement::Leader(7)));
        assert_eq!(turn(json!("key"), 7), Ok(Placement::Key));
        assert_eq!(turn(json!([0, 3]), 6), Ok(Placement::Partition(0)));
        assert_eq!(turn(json!([0, 3]), 7), Ok(Placement::Partition(3)));
        for bad in [json!([]), json!("al"), json!([-1]), json!([4_000_000_000_u32]), json!(3)] {
            let why = turn(bad.clone(), 0).expect_err("it is no choice");
            assert!(why.contains("all") || why.contains("partition"), "{bad}: {why}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_what_to_do() {
        let table = [
            (json!({"acks": "leader"}), "`idempotence: false`"),
            (json!({"key": "", "partitions": "key"}), "needs a key"),
            (json!({"key": "{nonsense}"}), "key:"),
            (json!({"headers": {"greenlight-id": "x"}}), "carries the token"),
            (json!({"headers": {"": "x"}}), "needs a name"),
            (json!({"create": {"partitions": 0}}), "1 to 1000"),
            (json!({"create": {"retention": "0s"}}), "0s"),
            (json!({"headers": {"a": "{"}}), "header 'a'"),
            (
                json!({"security": {"sasl": {"mechanism": "OAUTHBEARER", "username": "a"}}}),
                "needs a `token`",
            ),
            (json!({"security": {"sasl": {"mechanism": "PLAIN", "username": "a"}}}), "`password`"),
            (
                json!({"security": {"sasl": {"mechanism": "PLAIN", "token": {"env": "T"}}}}),
                "takes no `token`",
            ),
        ];
        for (spec, expected) in table {
            let why = made(spec.clone()).expect_err("it does not fit");
            assert!(why.contains(expected), "{spec}: {why}");
        }
        assert!(made(json!({"acks": "leader", "idempotence": false})).is_ok());
    }
}
