//! Topics of our own: made where the plan asks for it and none of that name is there, and deleted
//! when nobody uses them any more. What somebody else made is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::classify::trouble;
use super::session::{Ear, Found, left, metadata};
use super::{Cluster, Kafka, NoAnswer};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::time::Mono;

/// How long one wait is for a new topic's leaders.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a topic is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub partitions: i32,
    pub replication: i32,
    pub retention: Duration,
}

/// Which topics are used by whom, and which of them we made: by cluster and name.
pub(super) type Owned = BTreeMap<(Arc<str>, Arc<str>), Use>;

#[derive(Default)]
pub(super) struct Use {
    users: BTreeSet<u64>,
    made: bool,
}

impl Kafka {
    /// Makes the topic, where none of that name is there. `user` has use for it from here on. Who is
    /// not let in makes nothing: what is sent is refused as well, and says why for each event.
    pub async fn own(
        &self,
        cluster: &Cluster,
        topic: &Arc<str>,
        shape: Shape,
        user: u64,
        timeout: Duration,
    ) -> Result<(), Trouble> {
        let key = (cluster.id.clone(), topic.clone());
        if let Some(known) = self.pool.owned().get_mut(&key) {
            known.users.insert(user);
            return Ok(());
        }
        let name = topic.clone();
        let made = self.ask(cluster, None, timeout, move |session, deadline| {
            match session.find(&name, deadline)? {
                Found::There => Ok(Some(false)),
                Found::NotLetIn => Ok(None),
                Found::Missing => {
                    let made = session.administer(|admin| admin.make(&name, shape, deadline));
                    made.map(Some)
                }
            }
        });
        let made = made.await.map_err(NoAnswer::into_fault)?;
        let Some(made) = made? else { return Ok(()) };
        let mut owned = self.pool.owned();
        let known = owned.entry(key).or_default();
        known.users.insert(user);
        known.made |= made;
        Ok(())
    }

    /// `user` has no more use for the topic; where nobody has and we made it, it is deleted. Whether
    /// it was.
    pub async fn disown(
        &self,
        cluster: &Cluster,
        topic: &Arc<str>,
        user: u64,
        timeout: Duration,
    ) -> Result<bool, Trouble> {
        let key = (cluster.id.clone(), topic.clone());
        {
            let mut owned = self.pool.owned();
            let Some(known) = owned.get_mut(&key) else { return Ok(false) };
            known.users.remove(&user);
            if !known.users.is_empty() {
                return Ok(false);
            }
            let made = known.made;
            owned.remove(&key);
            if !made {
                return Ok(false);
            }
        }
        let name = topic.clone();
        let gone = self.ask(cluster, None, timeout, move |session, deadline| {
            session.administer(|admin| admin.delete(&name, deadline))
        });
        gone.await.map_err(NoAnswer::into_fault)??;
        Ok(true)
    }
}

pub(super) struct Admin<'a> {
    pub(super) client: &'a AdminClient<Ear>,
    pub(super) cluster: &'a Cluster,
}

impl Admin<'_> {
    /// Whether it was made; it was not where somebody else made it meanwhile.
    fn make(&self, topic: &str, shape: Shape, deadline: Mono) -> Result<bool, Trouble> {
        let retention = shape.retention.as_millis().to_string();
        let replication = TopicReplication::Fixed(shape.replication);
        let new = NewTopic::new(topic, shape.partitions, replication)
            .set("cleanup.policy", "delete")
            .set("retention.ms", &retention);
        let options = options(deadline);
        let made = waited(self.client.create_topics([&new], &options))?;
        match self.done(topic, made)? {
            Some(Code::TopicAlreadyExists) => return Ok(false),
            Some(code) => return Err(self.failed(topic, Some(code))),
            None => {}
        }
        // Who asks for its end now must not be told that nobody leads it.
        while self.leaders(topic, deadline) != Ok(true) && left(deadline) > Duration::ZERO {
            std::thread::sleep(ASK_AGAIN.min(left(deadline)));
        }
        Ok(true)
    }

    fn delete(&self, topic: &str, deadline: Mono) -> Result<(), Trouble> {
        let options = options(deadline);
        let deleted = waited(self.client.delete_topics(&[topic], &options))?;
        match self.done(topic, deleted)? {
            None | Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(()),
            code => Err(self.failed(topic, code)),
        }
    }

    /// Whether each partition has one.
    fn leaders(&self, topic: &str, deadline: Mono) -> Result<bool, Option<Code>> {
        let metadata = metadata(self.client.inner(), topic, deadline, || {})?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or(Some(Code::UnknownTopic))?;
        if let Some(error) = found.error() {
            return Err(Some(error.into()));
        }
        let partitions = found.partitions();
        Ok(!partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0))
    }

    /// The error that the one topic came to.
    fn done(
        &self,
        topic: &str,
        answer: Result<Vec<TopicResult>, KafkaError>,
    ) -> Result<Option<Code>, Trouble> {
        match answer {
            Ok(topics) => Ok(topics.into_iter().find_map(Result::err).map(|(_, code)| code)),
            Err(error) => Err(self.failed(topic, error.rdkafka_error_code())),
        }
    }

    fn failed(&self, topic: &str, code: Option<Code>) -> Trouble {
        let what = format!("{}, topic {topic} of our own", self.cluster);
        trouble(&what, code, &self.client.inner().context().heard())
    }
}

fn options(deadline: Mono) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(left(deadline)))
        .operation_timeout(Some(left(deadline)))
}

/// Waits in the lane's thread for what librdkafka's own brings.
fn waited<T>(answer: impl Future<Output = T>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        Trouble::from(Fault::new(FaultCode::Exhausted, format!("nothing to wait with: {error}")))
    })?;
    Ok(runtime.block_on(answer))
}
