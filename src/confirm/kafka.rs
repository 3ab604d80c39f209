//! A Kafka topic: every copy of every event, read from where the topic ended before the round.
//!
//! Partitions are assigned and read by offset; no group is joined and nothing is committed. The
//! offsets live in the mark, which is stored with the round: a look that failed, a broker that
//! was away and a restart of the agent all go on from there, and no message is read past.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::found::no_text;
use super::{Confirmer, LookContext, Sought, recognise};
use crate::client::kafka::{Cluster, Cut, Ends, Message, Security, Wanted, check_topic};
use crate::journey::event::{ID_HEADER, Token};
use crate::journey::fields::lookup;
use crate::journey::offset::Stamp;
use crate::journey::{Arrival, Horizon, Look};
use crate::outcome::{Fault, FaultCode};
use crate::probe::Effect;

/// Messages that one look reads of a topic: at 100,000 a second, which one reader manages, about
/// the time that a look has. The next look goes on from there.
const MESSAGES: usize = 100_000;
/// Bytes of payload that one look reads of a topic. What is not of the round is dropped at once,
/// so that this bounds time and traffic rather than memory.
const BYTES: usize = 64 * 1024 * 1024;
/// A broker's time is as fine as this, in nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// Looks into a topic, and into the topic of what was rejected.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where the cluster is found: "host:port", or several with commas between.
    pub brokers: String,
    pub topic: String,
    /// The topic where the pipeline puts what it could not process. An event found there is
    /// dead-lettered, not lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// The field of a JSON message that holds the event's text, with dots between the levels;
    /// without it, the whole message is the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How the cluster lets us in; without it, plain and without a login.
    #[serde(default)]
    pub security: Security,
}

#[derive(Debug)]
pub struct Kafka {
    cluster: Cluster,
    topic: String,
    dead_letter: Option<String>,
    text: Option<Arc<str>>,
}

/// Where to go on: by topic and partition, the next offset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Mark {
    next: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Partitions of which messages were deleted before we saw them ("topic/partition").
    gone: BTreeSet<String>,
}

impl Confirmer for Kafka {
    const KIND: &'static str = "kafka";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        check_topic(&spec.topic)?;
        if let Some(dead_letter) = &spec.dead_letter {
            check_topic(dead_letter)?;
            if *dead_letter == spec.topic {
                return Err(String::from(
                    "`dead_letter` is the topic itself; name another, or leave it out",
                ));
            }
        }
        if spec.text.as_deref().is_some_and(str::is_empty) {
            return Err(String::from("`text` is empty; name a field, or leave it out"));
        }
        Ok(Self {
            cluster: Cluster::new(&spec.brokers, &spec.security)?,
            topic: spec.topic,
            dead_letter: spec.dead_letter,
            text: spec.text.map(Arc::from),
        })
    }

    fn effects(&self) -> Vec<Effect> {
        let topics: Vec<&str> = self.topics().collect();
        vec![Effect {
            what: format!(
                "reads what is new in topic {} of {}, without a group",
                topics.join(" and "),
                self.cluster
            ),
            needs: None,
        }]
    }

    fn purge(&self) -> Option<String> {
        let topics: Vec<&str> = self.topics().collect();
        Some(format!(
            "wait for the retention of topic {} of {} (retention.ms); a topic of synthetic events \
             alone can be emptied with kafka-delete-records",
            topics.join(" and "),
            self.cluster
        ))
    }

    fn stamps(&self) -> bool {
        true
    }

    async fn begin(&self, on: LookContext<'_>) -> Result<Value, Fault> {
        let mut mark = Mark::default();
        for topic in self.topics() {
            let ends = self.ends(topic, &on).await?;
            if let Some((partition, trouble)) = ends.unseen.first_key_value() {
                return Err(Fault::new(
                    FaultCode::Blind,
                    format!("the end of {topic}/{partition} is not known: {trouble}"),
                ));
            }
            let next = ends.partitions.iter().map(|(id, (_, next))| (*id, *next)).collect();
            mark.next.insert(topic.to_string(), next);
        }
        Ok(mark.to_json())
    }

    async fn look(&self, mark: &mut Value, on: LookContext<'_>) -> Look {
        let Ok(mut at) = Mark::deserialize(&*mark) else {
            return Look::blind(Fault::new(
                FaultCode::Garbled,
                format!("{}: the stored offsets make no sense: {mark}", self.cluster),
            ));
        };
        let mut arrivals = Vec::new();
        let mut blind = Vec::new();
        let mut faults = Vec::new();
        let topics = self.topics().count();
        for topic in self.topics() {
            match self.look_into(topic, &mut at, &on).await {
                Ok((found, mut unseen)) => {
                    arrivals.extend(found);
                    faults.append(&mut unseen);
                }
                Err(fault) => blind.push(fault),
            }
        }
        *mark = at.to_json();
        let nothing = blind.len() == topics;
        faults.splice(0..0, blind);
        let horizon = match faults.into_iter().next() {
            None => Horizon::Complete,
            Some(fault) if nothing => Horizon::Blind(fault),
            Some(fault) => Horizon::Partial(fault),
        };
        on.trace.note(format_args!("{} copies of the round, {horizon:?}", arrivals.len()));
        Look { arrivals, horizon }
    }
}

impl Kafka {
    fn topics(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.topic.as_str()).chain(self.dead_letter.as_deref())
    }

    async fn ends(&self, topic: &str, on: &LookContext<'_>) -> Result<Ends, Fault> {
        let timeout = self.share(on);
        let ends = on.clients.kafka().ends(&self.cluster, topic, timeout).await;
        let ends = ends.map_err(|trouble| trouble.blind());
        on.trace.note(format_args!("topic {topic}: {ends:?}"));
        ends
    }

    /// Of a look's time, what one request may take: two for each topic.
    fn share(&self, on: &LookContext<'_>) -> std::time::Duration {
        let requests = u32::try_from(self.topics().count() * 2).unwrap_or(u32::MAX);
        on.timeout / requests
    }

    /// Reads one topic from the mark up to where it ends now, and moves the mark. Returns the
    /// round's copies and what could not be seen.
    async fn look_into(
        &self,
        topic: &str,
        mark: &mut Mark,
        on: &LookContext<'_>,
    ) -> Result<(Vec<Arrival>, Vec<Fault>), Fault> {
        let ends = self.ends(topic, on).await?;
        let (ranges, mut faults) = mark.ranges(topic, &ends);
        let wanted = Wanted { ranges, messages: MESSAGES, bytes: BYTES };
        let take = {
            let sought = on.sought.clone();
            let text = self.text.clone();
            let dead_letter = self.dead_letter.as_deref() == Some(topic);
            move |message: &Message<'_>| arrivals(message, &sought, text.as_deref(), dead_letter)
        };
        let kafka = on.clients.kafka();
        let seen = kafka
            .read(&self.cluster, topic, wanted, self.share(on), take)
            .await
            .map_err(|trouble| trouble.blind())?;
        if let Some(next) = mark.next.get_mut(topic) {
            next.extend(seen.next);
        }
        match seen.cut {
            None => {}
            Some(Cut::Limit) => faults.push(Fault::new(
                FaultCode::Blind,
                format!("{topic} has more than one look reads; the next look goes on"),
            )),
            Some(Cut::Trouble(trouble)) => faults.push(trouble.blind()),
        }
        Ok((seen.taken.into_iter().flatten().collect(), faults))
    }
}

impl Mark {
    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// What is to be read: from the mark to where the topic ends now. A partition that the mark
    /// does not know was added later, so all of it is new.
    fn ranges(&mut self, topic: &str, ends: &Ends) -> (BTreeMap<i32, (i64, i64)>, Vec<Fault>) {
        let mut ranges = BTreeMap::new();
        let mut faults: Vec<Fault> =
            ends.unseen.values().map(|trouble| trouble.clone().blind()).collect();
        let known = self.next.entry(topic.to_string()).or_default();
        for (partition, (first, end)) in &ends.partitions {
            let next = known.entry(*partition).or_insert(0);
            if *next > *end {
                // The topic was made anew or cut back: what we have yet to see may be gone, and
                // what lies at the old offsets may be other messages.
                faults.push(Fault::new(
                    FaultCode::Blind,
                    format!("{topic}/{partition} ends at {end}, before {next} that was read"),
                ));
                continue;
            }
            if *next < *first {
                // Deleted before we looked, by retention or by hand.
                self.gone.insert(format!("{topic}/{partition}"));
                *next = *first;
            }
            ranges.insert(*partition, (*next, *end));
        }
        for partition in known.keys() {
            if !ends.partitions.contains_key(partition) && !ends.unseen.contains_key(partition) {
                faults.push(Fault::new(
                    FaultCode::Blind,
                    format!("{topic}/{partition} was there before and is gone"),
                ));
            }
        }
        let prefix = format!("{topic}/");
        faults.extend(self.gone.iter().filter(|gone| gone.starts_with(&prefix)).map(|gone| {
            Fault::new(
                FaultCode::Blind,
                format!("messages of {gone} were deleted before they were seen"),
            )
        }));
        (ranges, faults)
    }
}

/// The copies of the run's events that a message holds: the one that its header names, else those
/// that its text and its fields do.
fn arrivals(
    message: &Message<'_>,
    sought: &Sought,
    field: Option<&str>,
    dead_letter: bool,
) -> Option<Vec<Arrival>> {
    let payload = message.payload();
    let header = message.header(ID_HEADER).and_then(|id| std::str::from_utf8(id).ok());
    let named = header.and_then(Token::parse).filter(|token| token.run == sought.run);
    if named.is_none() && !contains(payload, sought.run.as_bytes()) {
        return None;
    }
    let whole = String::from_utf8_lossy(payload);
    let fields: Option<Map<String, Value>> = serde_json::from_slice(payload).ok();
    let seqs = match named {
        Some(token) => BTreeSet::from([token.seq]),
        None => recognise::events(&whole, fields.as_ref(), sought),
    };
    let text = match (field, &fields) {
        (Some(path), Some(fields)) => field_text(fields, path),
        _ => Some(whole.into_owned()),
    };
    let wrong = field.filter(|_| text.is_none()).map(no_text);
    let scope = format!("{}/{}", message.topic(), message.partition());
    let offset = message.offset();
    let stamped = message
        .taken_at()
        .map(|at| Stamp { at: at.saturating_mul(MILLISECOND), digit: MILLISECOND });
    let arrivals = seqs.into_iter().map(|seq| Arrival {
        seq: Some(seq),
        copy: format!("{scope}/{offset}"),
        seen: message.seen,
        order: Some((scope.clone(), u64::try_from(offset).unwrap_or(0))),
        text: text.clone(),
        fields: fields.clone(),
        ended: false,
        dead_letter,
        stamped,
        wrong: wrong.clone(),
    });
    Some(arrivals.collect())
}

/// Whether it is worth reading the payload as JSON: most of a busy topic is not of the run.
fn contains(payload: &[u8], run: &[u8]) -> bool {
    !run.is_empty() && payload.windows(run.len()).any(|part| part == run)
}

/// The text of a field; a number or an object as JSON.
fn field_text(fields: &Map<String, Value>, path: &str) -> Option<String> {
    lookup(fields, path).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{ReasonCode, Trouble};

    fn ends(partitions: &[(i32, i64, i64)]) -> Ends {
        Ends {
            partitions: partitions.iter().map(|(id, first, end)| (*id, (*first, *end))).collect(),
            unseen: BTreeMap::new(),
        }
    }

    fn mark(offsets: &[(i32, i64)]) -> Mark {
        let next = BTreeMap::from([("raw".to_string(), offsets.iter().copied().collect())]);
        Mark { next, gone: BTreeSet::new() }
    }

    #[test]
    fn a_look_reads_from_the_mark_to_the_end_and_new_partitions_whole() {
        let mut at = mark(&[(0, 5), (1, 7)]);
        let (ranges, faults) = at.ranges("raw", &ends(&[(0, 0, 9), (1, 0, 7), (2, 0, 4)]));
        assert_eq!(ranges, BTreeMap::from([(0, (5, 9)), (1, (7, 7)), (2, (0, 4))]));
        assert_eq!(faults, []);
    }

    #[test]
    fn what_was_deleted_before_it_was_seen_is_never_complete_again() {
        let mut at = mark(&[(0, 5)]);
        for _ in 0..2 {
            let (ranges, faults) = at.ranges("raw", &ends(&[(0, 8, 9)]));
            assert_eq!(ranges, BTreeMap::from([(0, (8, 9))]));
            assert_eq!(faults.len(), 1, "{faults:?}");
        }
        let stored: Mark = serde_json::from_value(at.to_json()).expect("its own JSON");
        assert_eq!(stored, at, "it survives the store");
    }

    #[test]
    fn a_partition_that_went_back_or_away_is_not_seen() {
        let mut at = mark(&[(0, 5), (1, 7)]);
        let (ranges, faults) = at.ranges("raw", &ends(&[(0, 0, 3)]));
        assert_eq!(ranges, BTreeMap::new());
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_eq!(at.next["raw"][&0], 5, "the mark stays");

        let mut leaderless = ends(&[(0, 0, 6)]);
        let trouble = Trouble::reason(ReasonCode::BrokerError, "partition 1 has no leader");
        leaderless.unseen.insert(1, trouble);
        let (ranges, faults) = at.ranges("raw", &leaderless);
        assert_eq!(ranges, BTreeMap::from([(0, (5, 6))]));
        assert_eq!(faults.len(), 1, "{faults:?}");
    }

    #[test]
    fn only_what_names_the_run_is_read_as_json() {
        assert!(contains(b"a glr b", b"glr") && !contains(b"gl", b"glr") && !contains(b"a", b""));
    }

    #[test]
    fn a_text_is_found_with_and_without_levels() {
        let fields = serde_json::json!({"a": {"b": "deep"}, "a.c": "flat", "n": 3});
        let fields = fields.as_object().expect("an object");
        assert_eq!(field_text(fields, "a.b").as_deref(), Some("deep"));
        assert_eq!(field_text(fields, "a.c").as_deref(), Some("flat"));
        assert_eq!(field_text(fields, "n").as_deref(), Some("3"));
        assert_eq!(field_text(fields, "a.x"), None);
    }
}
