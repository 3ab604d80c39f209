//! AMQP 0-9-1 (RabbitMQ): published as mandatory and persistent, and confirmed one by one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::post::is_json;
use super::{SendContext, Sender};
use crate::client::amqp::{self, Address, Answer, Login, Message, Route};
use crate::client::tls;
use crate::journey::event::ID_HEADER;
use crate::journey::{Event, Receipt};
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::spec::Period;

/// Publishes to an exchange that exists; nothing is declared. Each event carries its token as
/// message-id and as header. What no queue takes is refused.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// "amqp://host:port" or "amqps://host:port".
    pub to: String,
    #[serde(default = "root")]
    pub vhost: String,
    /// The exchange; the default exchange where it is not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exchange: String,
    /// The routing key; with the default exchange, the queue's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub routing_key: String,
    /// Log in by name and password; without it, by the certificate under `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// How the broker's certificate is checked, for amqps://.
    #[serde(default)]
    pub tls: tls::Options,
    /// Give up waiting for confirms after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

fn root() -> String {
    "/".into()
}

#[derive(Debug)]
pub struct Amqp {
    to: Address,
    spec: Spec,
    timeout: Option<Duration>,
}

impl Sender for Amqp {
    const KIND: &'static str = "amqp";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        let to = Address::parse(&spec.to)?;
        spec.tls.validate()?;
        if !to.tls && spec.tls != tls::Options::default() {
            return Err("`tls` has no use with amqp://; write amqps://host:port".into());
        }
        if spec.login.is_none() && spec.tls.cert.is_none() {
            return Err("nothing says who we are; give `login`, or `tls: {cert, key}`".into());
        }
        if spec.exchange.is_empty() && spec.routing_key.is_empty() {
            return Err(
                "nothing says where to; give `exchange`, or a queue as `routing_key`".into()
            );
        }
        for (name, value) in [
            ("exchange", &spec.exchange),
            ("routing_key", &spec.routing_key),
            ("vhost", &spec.vhost),
        ] {
            if value.len() > 255 {
                return Err(format!("`{name}` is longer than the 255 bytes that AMQP has for it"));
            }
        }
        Ok(Self { to, timeout: spec.timeout.map(|timeout| timeout.0), spec })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let (exchange, key) = (&self.spec.exchange, &self.spec.routing_key);
        vec![Effect {
            what: format!(
                "publishes {count} messages to exchange {exchange:?} with key {key:?} of {}",
                self.to
            ),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let messages: Vec<Message> = events.iter().map(message).collect();
        let route = Route {
            to: &self.to,
            tls: &self.spec.tls,
            vhost: &self.spec.vhost,
            login: self.spec.login.as_ref(),
            exchange: &self.spec.exchange,
            routing_key: &self.spec.routing_key,
        };
        let within = timeout.mul_f64(0.9);
        let answers = amqp::publish(on.clients, &route, &messages, within, on.trace).await;
        answers.into_iter().map(receipt).collect()
    }
}

fn message(event: &Event) -> Message {
    Message {
        id: event.token.clone(),
        header: ID_HEADER,
        kind: if is_json(&event.payload) { "application/json" } else { "text/plain" },
        body: event.payload.clone(),
    }
}

fn receipt(answer: Answer) -> Receipt {
    match answer {
        Answer::Confirmed { at } => Receipt::Accepted { at },
        Answer::Refused(reason) => Receipt::Refused(reason),
        Answer::Not(Trouble::Reason(reason)) => Receipt::NotSent(reason),
        Answer::Not(Trouble::Fault(fault)) => Receipt::Fault(fault),
        Answer::Perhaps(reason) => Receipt::Unknown(reason),
    }
}
