//! Sending volume: many lots under way in one client, rendered as they are handed over.
//!
//! A batch waits until it is answered before the next one is handed over; at a hundred thousand
//! records a second that wait is most of the time. Here a lot is answered when all of its records
//! are, while later ones are on their way already.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, Producer as _, PurgeConfig};
use tokio::sync::oneshot;

use super::Cluster;
use super::produce::{Delivery, Layout, Placement, Producer, TAKING_BACK};
use super::raw::Outlet;
use super::session::{Ear, Role, left, locked, make};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::time::Mono;

/// How long one wait for answers is, where there is nothing else to do.
const SLICE: Duration = Duration::from_millis(1);
/// Leaders are asked for a word so often: one that is gone is told by the records' answers too.
const LAYOUT_FOR: Duration = Duration::from_secs(10);

/// Records that are made as they are handed over.
pub trait Source: Send {
    fn count(&self) -> usize;
    /// Gives each record in turn.
    fn each(&self, put: &mut dyn FnMut(&Piece<'_>));
}

/// One record of a lot.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub placement: Placement,
    pub key: Option<&'a [u8]>,
    /// Its name and its value.
    pub header: (&'a str, &'a [u8]),
    pub payload: &'a [u8],
}

/// What became of a lot.
#[derive(Clone, Debug, Default)]
pub struct Streamed {
    /// One a record, in order.
    pub deliveries: Vec<Delivery>,
    /// Of all payloads, and of the largest.
    pub bytes: usize,
    pub largest: usize,
}

pub(super) type Reply = oneshot::Sender<Result<Streamed, Trouble>>;

pub(super) struct Job {
    pub(super) topic: Arc<str>,
    pub(super) source: Box<dyn Source>,
    pub(super) deadline: Mono,
    pub(super) reply: Reply,
}

/// A lot under way.
struct Open {
    count: usize,
    /// So many of its first records are answered.
    answered: usize,
    /// What librdkafka did not take, by its place: its final answer.
    early: Vec<(usize, Delivery)>,
    bytes: usize,
    largest: usize,
    deadline: Mono,
    reply: Reply,
}

/// What lives in a lane that streams.
pub(super) struct Stream {
    cluster: Cluster,
    client: Option<Arc<BaseProducer<Ear>>>,
    target: Option<Target>,
    open: VecDeque<Open>,
    /// Whether the client met an error and is to be closed once nothing is under way in it.
    spent: bool,
}

/// A topic, as its leaders told of it.
struct Target {
    topic: Arc<str>,
    outlet: Outlet,
    layout: Layout,
    since: Mono,
}

impl Stream {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, client: None, target: None, open: VecDeque::new(), spent: false }
    }

    /// Hands a lot over.
    pub(super) fn turn(&mut self, job: Job) {
        while self.spent && !self.open.is_empty() {
            self.serve(SLICE);
        }
        if let Err(trouble) = self.ready(&job.topic, job.deadline) {
            // What is under way is answered before the client goes.
            self.spent = true;
            // Nobody may be waiting any more.
            let _ = job.reply.send(Err(trouble));
            return;
        }
        let Some(Target { outlet, layout, .. }) = &self.target else { return };
        let count = job.source.count();
        let ear = outlet.client().client().context();
        let first = locked(&ear.answers).more(count);
        let mut open = Open {
            count,
            answered: 0,
            early: Vec::new(),
            bytes: 0,
            largest: 0,
            deadline: job.deadline,
            reply: job.reply,
        };
        let producer = Producer { client: outlet.client(), cluster: &self.cluster };
        let mut place = 0;
        job.source.each(&mut |piece| {
            open.bytes += piece.payload.len();
            open.largest = open.largest.max(piece.payload.len());
            let number = first + place;
            let put = layout.place(piece.placement).and_then(|partition| {
                hand_over(outlet, number, partition, piece, open.deadline)
                    .map_err(|code| producer.not_taken(&job.topic, code))
            });
            if let Err(delivery) = put {
                open.early.push((place, delivery));
            }
            place += 1;
        });
        self.open.push_back(open);
        self.serve(Duration::ZERO);
    }

    /// Takes what was answered; whether nothing is under way.
    pub(super) fn idle(&mut self) -> bool {
        if !self.open.is_empty() {
            self.serve(SLICE);
        }
        self.open.is_empty()
    }

    /// A client, and the leaders of the topic.
    fn ready(&mut self, topic: &Arc<str>, deadline: Mono) -> Result<(), Trouble> {
        if std::mem::take(&mut self.spent) {
            (self.client, self.target) = (None, None);
        }
        let now = Mono::now();
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                self.target = None;
                none.insert(Arc::new(make(&self.cluster, Role::Stream)?))
            }
        };
        let known =
            |target: &Target| target.topic == *topic && now.since(target.since) < LAYOUT_FOR;
        if !self.target.as_ref().is_some_and(known) {
            let producer = Producer { client, cluster: &self.cluster };
            let layout = producer.layout(topic, None, deadline);
            let layout = layout.map_err(|trouble| client.client().context().or_unread(trouble))?;
            let outlet = Outlet::new(client, topic).ok_or_else(|| {
                let text = format!("{}, topic {topic}: no room for it", self.cluster);
                Trouble::from(Fault::new(FaultCode::Exhausted, text))
            })?;
            self.target = Some(Target { topic: topic.clone(), outlet, layout, since: now });
        }
        Ok(())
    }

    /// Lets the client hand over answers, and answers for the lots that are whole or late.
    fn serve(&mut self, wait: Duration) {
        let Some(Target { outlet, .. }) = &self.target else { return };
        outlet.listen(wait);
        let client = outlet.client();
        let ear = client.client().context();
        let now = Mono::now();
        let late = self.open.front().is_some_and(|open| now >= open.deadline);
        if late {
            // All of them: what is late for one is late because of the broker, and the next ones
            // wait for the same.
            client.purge(PurgeConfig::default().queue().inflight());
            let deadline = now.plus(TAKING_BACK);
            while client.in_flight_count() > 0 && left(deadline) > Duration::ZERO {
                outlet.listen(SLICE);
            }
        }
        while let Some(open) = self.open.front_mut() {
            // What was not taken has no other answer.
            let mut answers = locked(&ear.answers);
            loop {
                open.answered = answers.in_a_row(open.answered, open.count);
                if !open.early.iter().any(|(place, _)| *place == open.answered) {
                    break;
                }
                open.answered += 1;
            }
            if open.answered < open.count && !late {
                return;
            }
            let Some(open) = self.open.pop_front() else { return };
            let answers = answers.take(open.count);
            let producer = Producer { client, cluster: &self.cluster };
            let streamed = streamed(&producer, &open, answers);
            let lost =
                |one: &Delivery| !matches!(one, Delivery::Stored { .. } | Delivery::Refused(_));
            self.spent |= streamed.deliveries.iter().any(lost);
            // Nobody may be waiting any more.
            let _ = open.reply.send(Ok(streamed));
        }
    }
}

fn streamed(
    producer: &Producer<'_>,
    open: &Open,
    answers: Vec<Option<super::session::Answer>>,
) -> Streamed {
    let mut early = open.early.iter().peekable();
    let mut heard = None;
    let deliveries = answers.into_iter().enumerate().map(|(place, answer)| {
        if let Some((_, delivery)) = early.next_if(|(at, _)| *at == place) {
            return delivery.clone();
        }
        if let Some(Ok((partition, offset))) = answer.as_ref().map(|answer| &answer.result)
            && let Some(answer) = &answer
        {
            return Delivery::Stored { at: answer.at, partition: *partition, offset: *offset };
        }
        let ear = producer.client.client().context();
        let heard = heard.get_or_insert_with(|| (ear.heard(), ear.throttled()));
        producer.delivery(answer, &heard.0, heard.1)
    });
    Streamed { deliveries: deliveries.collect(), bytes: open.bytes, largest: open.largest }
}

/// Gives one record to librdkafka; an error is its final answer.
fn hand_over(
    outlet: &Outlet,
    number: usize,
    partition: Option<i32>,
    piece: &Piece<'_>,
    deadline: Mono,
) -> Result<(), Code> {
    loop {
        match outlet.put(number, partition, piece) {
            // It waits for room: what was handed over before makes some when it is answered.
            Err(Code::QueueFull) if left(deadline) > Duration::ZERO => outlet.listen(SLICE),
            other => return other,
        }
    }
}
