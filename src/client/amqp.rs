//! AMQP 0-9-1, as RabbitMQ speaks it: a publisher with confirms ("Consumer Acknowledgements and
//! Publisher Confirms" in RabbitMQ's manual) whose unroutable messages come back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::address::HostPort;
use super::http::excerpt;
use super::stream::Stream;
use super::syslog::told;
use super::{Clients, tls};
use crate::outcome::{Reason, ReasonCode, Trouble};
use crate::spec::Secret;
use crate::spec::trace::Trace;
use crate::time::Mono;
use wire::{Arguments, Said, Table};

mod wire;

/// So many messages may wait for their confirm.
const WINDOW: usize = 128;
/// What we offer as the largest frame, RabbitMQ's own default; one that agrees to none has this.
const FRAME: usize = 131_072;
/// The specification's smallest frame that every peer takes.
const FRAME_LEAST: usize = 4096;
const CHANNEL: u16 = 1;
/// What is waited for after the last confirm, so that the connection ends in order.
const GOODBYE: Duration = Duration::from_millis(500);

/// A login by name and password (the mechanism PLAIN).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    pub at: HostPort,
}

impl Address {
    /// Reads "amqp://host:port" or "amqps://host:port".
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text:?} is no address; write amqp://host:port or amqps://host:port");
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let tls = match scheme {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(expected()),
        };
        if rest.contains('@') {
            return Err("an address must not hold credentials; write them under `login:`".into());
        }
        let at = HostPort::parse(rest.trim_end_matches('/')).map_err(|_| expected())?;
        Ok(Self { tls, at })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        if self.at.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.at.host, self.at.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.at.host, self.at.port)
        }
    }
}

/// Where messages go, and who we are there.
pub struct Route<'a> {
    pub to: &'a Address,
    pub tls: &'a tls::Options,
    pub vhost: &'a str,
    /// None: by the certificate (the mechanism EXTERNAL).
    pub login: Option<&'a Login>,
    /// "" is the default exchange, which routes by the queue's name.
    pub exchange: &'a str,
    pub routing_key: &'a str,
}

pub struct Message {
    /// The message-id, and the header named here carries it too.
    pub id: String,
    pub header: &'static str,
    pub kind: &'static str,
    pub body: Bytes,
}

/// What is known of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Confirmed {
        at: Mono,
    },
    Refused(Reason),
    /// Certainly nothing of it was taken.
    Not(Trouble),
    /// It may or may not have been taken.
    Perhaps(Reason),
}

/// Connects, publishes all messages as mandatory and persistent, and closes; what is known of
/// each, in order.
pub async fn publish(
    clients: &Clients,
    route: &Route<'_>,
    messages: &[Message],
    within: Duration,
    trace: &Trace,
) -> Vec<Answer> {
    let deadline = Instant::now() + within;
    let shown = route.to.to_string();
    let secured = route.to.tls.then_some(route.tls);
    let at = (route.to.at.host.as_str(), route.to.at.port);
    let stream = match Stream::open(clients, at, secured, within / 2, &shown, trace).await {
        Ok(stream) => stream,
        Err(not) => return vec![Answer::Not(not); messages.len()],
    };
    let mut session = Session {
        stream,
        read: BytesMut::new(),
        frame_max: FRAME,
        to: shown,
        deadline,
        blocked: None,
    };
    if let Err(not) = session.open(route, trace).await {
        trace.note(format_args!("no channel: {not}"));
        return vec![Answer::Not(not); messages.len()];
    }
    session.publish(route, messages, trace).await
}

struct Session {
    stream: Stream,
    read: BytesMut,
    frame_max: usize,
    to: String,
    deadline: Instant,
    /// Why the broker takes nothing at present.
    blocked: Option<String>,
}

impl Session {
    /// Logs in, opens a channel that confirms, and sees that the exchange is there.
    async fn open(&mut self, route: &Route<'_>, trace: &Trace) -> Result<(), Trouble> {
        self.write(b"AMQP\0\0\x09\x01").await.map_err(|(_, reason)| reason)?;
        let mechanisms = match self.receive().await? {
            Said::Start { mechanisms } => mechanisms,
            other => return Err(self.unexpected("connection.start", &other).into()),
        };
        trace.note(format_args!("{} offers {}", self.to, excerpt(mechanisms.as_bytes())));
        self.log_in(route, &mechanisms).await?;
        let open = Arguments::of(10, 40).short(route.vhost).short("").u8(0).finish();
        self.method(0, &open).await?;
        self.done(10, 41).await?;
        self.method(CHANNEL, &Arguments::of(20, 10).short("").finish()).await?;
        self.done(20, 11).await?;
        if !route.exchange.is_empty() {
            // Passive: nothing is made, and one that is missing is an error.
            let declare = Arguments::of(40, 10).u16(0).short(route.exchange).short("").u8(1);
            self.method(CHANNEL, &declare.long(&[]).finish()).await?;
            self.done(40, 11).await?;
        }
        self.method(CHANNEL, &Arguments::of(85, 10).u8(0).finish()).await?;
        self.done(85, 11).await?;
        Ok(())
    }

    async fn log_in(&mut self, route: &Route<'_>, mechanisms: &str) -> Result<(), Trouble> {
        let (mechanism, response) = match route.login {
            Some(login) => {
                let password = login.password.reveal()?;
                ("PLAIN", format!("\0{}\0{}", login.username, password.expose()))
            }
            None => ("EXTERNAL", String::new()),
        };
        if !mechanisms.split(' ').any(|one| one == mechanism) {
            let text =
                format!("{} does not offer the mechanism {mechanism}: {mechanisms}", self.to);
            return Err(Trouble::reason(ReasonCode::AuthFailed, text));
        }
        let abilities = Table::default()
            .truth("publisher_confirms")
            .truth("basic.nack")
            .truth("connection.blocked")
            .truth("authentication_failure_close");
        let client = Table::default()
            .text("product", "greenlight")
            .text("version", env!("CARGO_PKG_VERSION"))
            .table("capabilities", &abilities);
        let ok = Arguments::of(10, 11)
            .long(client.bytes())
            .short(mechanism)
            .long(response.as_bytes())
            .short("en_US");
        self.method(0, &ok.finish()).await?;
        let (channel_max, frame_max) = match self.receive().await? {
            Said::Tune { channel_max, frame_max } => (channel_max, frame_max),
            other => return Err(self.unexpected("connection.tune", &other).into()),
        };
        // 0 is "no limit".
        let offered = usize::try_from(frame_max).unwrap_or(FRAME);
        self.frame_max = if offered == 0 { FRAME } else { offered.clamp(FRAME_LEAST, FRAME) };
        let agreed = u32::try_from(self.frame_max).unwrap_or(u32::MAX);
        // No heartbeat: the connection lives as long as one batch.
        let ok = Arguments::of(10, 31).u16(channel_max).u32(agreed).u16(0).finish();
        Ok(self.method(0, &ok).await?)
    }

    async fn publish(
        &mut self,
        route: &Route<'_>,
        messages: &[Message],
        trace: &Trace,
    ) -> Vec<Answer> {
        let mut books = Books::new(messages);
        let mut next = messages.iter().enumerate().peekable();
        let ended = loop {
            if books.open.len() < WINDOW
                && let Some((index, message)) = next.next()
            {
                let frames = self.frames(route, message);
                match self.write(&frames).await {
                    // Tags count from 1 (basic.publish after confirm.select).
                    Ok(()) => drop(books.open.insert(index as u64 + 1, index)),
                    Err((0, reason)) => break reason,
                    Err((_, reason)) => {
                        books.set(index, Answer::Perhaps(reason.clone()));
                        break reason;
                    }
                }
                continue;
            }
            if books.open.is_empty() {
                self.close().await;
                return books.finish(&Reason::new(ReasonCode::ConnectionLost, "it was closed"));
            }
            match self.receive().await {
                Ok(Said::ChannelClose { code, text } | Said::ConnectionClose { code, text }) => {
                    break self.closed(code, &text);
                }
                Ok(said) => books.take(&said, &self.to),
                Err(reason) => break reason,
            }
        };
        trace.note(format_args!("the channel broke: {ended}"));
        books.finish(&ended)
    }

    fn frames(&self, route: &Route<'_>, message: &Message) -> BytesMut {
        let mut out = BytesMut::with_capacity(message.body.len() + 256);
        // The first bit is `mandatory`: what can't be routed comes back.
        let publish =
            Arguments::of(60, 40).u16(0).short(route.exchange).short(route.routing_key).u8(1);
        wire::put(&mut out, wire::METHOD, CHANNEL, &publish.finish());
        let headers = Table::default().text(message.header, &message.id);
        let header = wire::content_header(message.body.len(), message.kind, &headers, &message.id);
        wire::put(&mut out, wire::HEADER, CHANNEL, &header);
        for part in message.body.chunks(self.frame_max.saturating_sub(wire::OVERHEAD).max(1)) {
            wire::put(&mut out, wire::BODY, CHANNEL, part);
        }
        out
    }

    async fn method(&mut self, channel: u16, payload: &[u8]) -> Result<(), Reason> {
        let mut out = BytesMut::new();
        wire::put(&mut out, wire::METHOD, channel, payload);
        self.write(&out).await.map_err(|(_, reason)| reason)
    }

    /// On failure, how many bytes may have left.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, Reason)> {
        let least = usize::from(self.stream.is_secured());
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let step = async {
                let step = self.stream.write(rest).await?;
                self.stream.flush().await?;
                Ok(step)
            };
            let (code, text) = match timeout_at(self.deadline, step).await {
                Ok(Ok(step)) if step > 0 => {
                    written += step;
                    continue;
                }
                Ok(Ok(_)) => (ReasonCode::ConnectionLost, "closed".into()),
                Ok(Err(error)) => told(&error),
                Err(_) => (ReasonCode::Timeout, "it takes no more: it does not read".into()),
            };
            return Err((written.max(least), Reason::new(code, format!("{}: {text}", self.to))));
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Said, Reason> {
        loop {
            let limit = self.frame_max.saturating_sub(wire::OVERHEAD);
            let nonsense = |what: &str| {
                let text = format!("{} does not speak AMQP 0-9-1: {what}", self.to);
                Reason::new(ReasonCode::ProtocolError, text)
            };
            match wire::take(&mut self.read, limit) {
                Ok(None) => {}
                Err(what) => return Err(nonsense(what)),
                Ok(Some(frame)) => match wire::read(&frame) {
                    None => return Err(nonsense("a method ends too early")),
                    Some(Said::Blocked { reason }) => {
                        self.blocked = Some(excerpt(reason.as_bytes()))
                    }
                    Some(Said::Unblocked) => self.blocked = None,
                    // A heartbeat.
                    Some(Said::Done { class: 0, .. }) => {}
                    Some(said) => return Ok(said),
                },
            }
            match timeout_at(self.deadline, self.stream.read_buf(&mut self.read)).await {
                Ok(Ok(0)) => {
                    let text = format!("{} closed the connection without a word", self.to);
                    return Err(Reason::new(ReasonCode::ConnectionLost, text));
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    let (code, text) = told(&error);
                    return Err(Reason::new(code, format!("{}: {text}", self.to)));
                }
                Err(_) => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> Reason {
        match &self.blocked {
            Some(why) => {
                Reason::new(ReasonCode::Throttled, format!("{} blocks publishers: {why}", self.to))
            }
            None => Reason::new(ReasonCode::Timeout, format!("{} did not answer in time", self.to)),
        }
    }

    /// Waits for the answer to what was asked.
    async fn done(&mut self, class: u16, method: u16) -> Result<(), Trouble> {
        match self.receive().await? {
            Said::Done { class: c, method: m } if (c, m) == (class, method) => Ok(()),
            Said::ConnectionClose { code, text } | Said::ChannelClose { code, text } => {
                Err(self.closed(code, &text).into())
            }
            other => Err(self.unexpected(&format!("method {class},{method}"), &other).into()),
        }
    }

    /// A reply code of the specification (section 1.2, "constants").
    fn closed(&self, code: u16, text: &str) -> Reason {
        let reason = match code {
            403 | 530 => ReasonCode::AuthFailed,
            404 => ReasonCode::NotFound,
            311 => ReasonCode::TooLarge,
            _ => ReasonCode::BrokerError,
        };
        let said = excerpt(text.as_bytes());
        Reason::new(reason, format!("{} closed with {code}: {said}", self.to))
    }

    fn unexpected(&self, expected: &str, said: &Said) -> Reason {
        match said {
            Said::ConnectionClose { code, text } => self.closed(*code, text),
            other => {
                let text = format!("{} said {other:?} instead of {expected}", self.to);
                Reason::new(ReasonCode::ProtocolError, text)
            }
        }
    }

    /// Everything is answered; a goodbye that gets no answer changes nothing.
    async fn close(&mut self) {
        self.deadline = self.deadline.min(Instant::now() + GOODBYE);
        let close = Arguments::of(10, 50).u16(200).short("done").u16(0).u16(0).finish();
        if self.method(0, &close).await.is_ok() {
            drop(self.receive().await);
        }
    }
}

/// Which message has which answer.
struct Books<'a> {
    answers: Vec<Option<Answer>>,
    by_id: HashMap<&'a str, usize>,
    /// Delivery tags that wait.
    open: BTreeMap<u64, usize>,
    /// Why the message whose content comes next was returned.
    returned: Option<Reason>,
}

impl<'a> Books<'a> {
    fn new(messages: &'a [Message]) -> Self {
        let ids = messages.iter().enumerate();
        Self {
            answers: vec![None; messages.len()],
            by_id: ids.map(|(index, message)| (message.id.as_str(), index)).collect(),
            open: BTreeMap::new(),
            returned: None,
        }
    }

    fn set(&mut self, index: usize, answer: Answer) {
        // A message that came back is confirmed after that: the first word counts.
        if let Some(slot @ None) = self.answers.get_mut(index) {
            *slot = Some(answer);
        }
    }

    fn take(&mut self, said: &Said, to: &str) {
        match said {
            Said::Return { code, text } => {
                let said = excerpt(text.as_bytes());
                // 312 is NO_ROUTE.
                let code = format!("{to} returned it with {code}: {said}; bind a queue");
                self.returned = Some(Reason::new(ReasonCode::Rejected, code));
            }
            Said::Content { id, .. } => {
                let index = id.as_ref().and_then(|id| self.by_id.get(id.as_str()).copied());
                if let (Some(index), Some(reason)) = (index, self.returned.take()) {
                    self.set(index, Answer::Refused(reason));
                }
            }
            Said::Ack { tag, multiple } => {
                let at = Mono::now();
                self.close(*tag, *multiple, &Answer::Confirmed { at });
            }
            Said::Nack { tag, multiple } => {
                let text = format!("{to} could not take it (basic.nack)");
                let reason = Reason::new(ReasonCode::BrokerError, text);
                self.close(*tag, *multiple, &Answer::Refused(reason));
            }
            _ => {}
        }
    }

    fn close(&mut self, tag: u64, multiple: bool, answer: &Answer) {
        let tags: Vec<u64> = if multiple {
            // 0 with `multiple` is all that are open.
            let last = if tag == 0 { u64::MAX } else { tag };
            self.open.range(..=last).map(|(tag, _)| *tag).collect()
        } else {
            vec![tag]
        };
        for tag in tags {
            if let Some(index) = self.open.remove(&tag) {
                self.set(index, answer.clone());
            }
        }
    }

    /// What is open may have been taken, unless the broker refuses all of its kind; what was not
    /// written was not.
    fn finish(mut self, ended: &Reason) -> Vec<Answer> {
        let certain = matches!(ended.code, ReasonCode::AuthFailed | ReasonCode::NotFound);
        for index in std::mem::take(&mut self.open).into_values() {
            let answer = if certain {
                Answer::Refused(ended.clone())
            } else {
                Answer::Perhaps(ended.clone())
            };
            self.set(index, answer);
        }
        let not = || Answer::Not(Trouble::Reason(ended.clone()));
        self.answers.into_iter().map(|answer| answer.unwrap_or_else(not)).collect()
    }
}
