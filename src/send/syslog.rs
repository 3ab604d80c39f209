//! Syslog over UDP, TCP, TLS or a local socket: nothing answers, so an event is sent or its fate
//! is unknown, never accepted.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{SendContext, Sender};
use crate::client::address::HostPort;
use crate::client::datagram::{Handed, Socket};
use crate::client::syslog::{Address, Connection, Framing, frame};
use crate::client::tls;
use crate::journey::event::Format;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::probe::Effect;
use crate::spec::Period;
use crate::time::Mono;

/// Sends over one connection a round, and closes it; over UDP and local datagram sockets, one
/// datagram a message.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// "udp://host:port", "tcp://host:port", "tls://host:port", or "unix:///dev/log" for a local
    /// socket, of datagrams or of a stream.
    pub to: String,
    /// How the receiver tells messages apart in a stream.
    #[serde(default)]
    pub framing: Framing,
    /// How the receiver's certificate is checked, for tls://.
    #[serde(default)]
    pub tls: tls::Options,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

#[derive(Debug)]
pub struct Syslog {
    to: To,
    framing: Framing,
    tls: tls::Options,
    timeout: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum To {
    Stream(Address),
    Udp(HostPort),
    Local(PathBuf),
}

impl To {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("udp://") {
            return HostPort::parse(rest).map(Self::Udp);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Local(path.into()))
            } else {
                Err(format!("{text:?} names no socket; write unix:///dev/log"))
            };
        }
        Address::parse(text).map(Self::Stream).map_err(|_| {
            format!(
                "{text:?} is no address; write udp://host:port, tcp://host:port, tls://host:port \
                 or unix:///dev/log"
            )
        })
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(address) => address.fmt(f),
            Self::Udp(to) if to.host.contains(':') => write!(f, "udp://[{}]:{}", to.host, to.port),
            Self::Udp(to) => write!(f, "udp://{}:{}", to.host, to.port),
            Self::Local(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Sender for Syslog {
    const KIND: &'static str = "syslog";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = false;
    const FORMAT: Format = Format::Rfc5424;

    fn new(spec: Spec) -> Result<Self, String> {
        let to = To::parse(&spec.to)?;
        spec.tls.validate()?;
        let secured = matches!(&to, To::Stream(address) if address.tls);
        if !secured && spec.tls != tls::Options::default() {
            return Err(String::from("`tls` has no use here; write tls://host:port"));
        }
        Ok(Self {
            to,
            framing: spec.framing,
            tls: spec.tls,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn way(&self) -> &'static str {
        match &self.to {
            To::Udp(_) => "syslog_udp",
            To::Local(_) => "syslog_local",
            To::Stream(address) if address.tls => "syslog_tls",
            To::Stream(_) => "syslog_tcp",
        }
    }

    fn line_delimited(&self) -> bool {
        self.framing == Framing::Lf
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let how = match self.to {
            To::Stream(_) => "opens a connection to",
            To::Udp(_) | To::Local(_) => "writes to",
        };
        vec![Effect {
            what: format!("{how} {} and sends {count} syslog messages", self.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        // A little less than all, so that it is we who tell what was waited for.
        let within = timeout.mul_f64(0.9);
        let began = Mono::now();
        let socket = match &self.to {
            To::Stream(_) => Ok(None),
            To::Udp(to) => Socket::udp(on.clients, to, within / 2).await.map(Some),
            To::Local(path) => Socket::local(path),
        };
        let known = match socket {
            Ok(Some(socket)) => {
                let messages: Vec<Vec<Bytes>> =
                    events.iter().map(|event| vec![event.payload.clone()]).collect();
                let left = within.saturating_sub(Mono::now().since(began));
                socket.deliver(&messages, left, on.trace).await
            }
            Ok(None) => match framed(self.framing, events, &self.to) {
                Ok(messages) => self.stream(&messages, within, on).await,
                // Sending the others would leave a hole that is none of the receiver's.
                Err(fault) => return vec![Receipt::Fault(fault); events.len()],
            },
            Err(trouble) => {
                on.trace.note(format_args!("no socket: {trouble}"));
                vec![Handed::Not(trouble); events.len()]
            }
        };
        known.into_iter().map(receipt).collect()
    }
}

impl Syslog {
    async fn stream(
        &self,
        messages: &[Bytes],
        within: Duration,
        on: SendContext<'_>,
    ) -> Vec<Handed> {
        let began = Mono::now();
        let opened = match &self.to {
            To::Stream(to) => {
                Connection::open(on.clients, to, &self.tls, within / 2, on.trace).await
            }
            To::Udp(_) => return Vec::new(),
            To::Local(path) => Connection::open_local(path, within / 2, on.trace).await,
        };
        match opened {
            Ok(connection) => {
                let left = within.saturating_sub(Mono::now().since(began));
                connection.deliver(messages, left, on.trace).await
            }
            Err(trouble) => {
                on.trace.note(format_args!("no connection: {trouble}"));
                vec![Handed::Not(trouble); messages.len()]
            }
        }
    }
}

fn framed(framing: Framing, events: &[Event], to: &To) -> Result<Vec<Bytes>, Fault> {
    let one = |event: &Event| {
        frame(framing, &event.payload).map_err(|text| {
            let text = format!("event {} can't be sent to {to}: {text}", event.seq);
            Fault::new(FaultCode::Unsupported, text)
        })
    };
    events.iter().map(one).collect()
}

pub(super) fn receipt(handed: Handed) -> Receipt {
    match handed {
        Handed::Over { at } => Receipt::Sent { at },
        Handed::Not(Trouble::Reason(reason)) => Receipt::NotSent(reason),
        Handed::Not(Trouble::Fault(fault)) => Receipt::Fault(fault),
        Handed::Perhaps(reason) => Receipt::Unknown(reason),
    }
}
