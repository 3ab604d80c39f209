//! Syslog over TCP or TLS: nothing answers, so an event is sent or its fate is unknown, never
//! accepted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{SendContext, Sender};
use crate::client::syslog::{Address, Connection, Framing, Handed, frame};
use crate::client::tls;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode, Trouble};
use crate::probe::Effect;
use crate::spec::Period;
use crate::time::Mono;

/// Sends over one connection a round, and closes it.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// "tcp://host:port" or "tls://host:port".
    pub to: String,
    /// How the receiver tells messages apart.
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
    to: Address,
    framing: Framing,
    tls: tls::Options,
    timeout: Option<Duration>,
}

impl Sender for Syslog {
    const KIND: &'static str = "syslog";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = false;

    fn new(spec: Spec) -> Result<Self, String> {
        let to = Address::parse(&spec.to)?;
        spec.tls.validate()?;
        if !to.tls && spec.tls != tls::Options::default() {
            return Err(String::from("`tls` has no use with tcp://; write tls://host:port"));
        }
        Ok(Self {
            to,
            framing: spec.framing,
            tls: spec.tls,
            timeout: spec.timeout.map(|timeout| timeout.0),
        })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        vec![Effect {
            what: format!("opens a connection to {} and sends {count} syslog messages", self.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        // A little less than all, so that it is we who tell what was waited for.
        let within = timeout.mul_f64(0.9);
        let mut messages = Vec::with_capacity(events.len());
        for event in events {
            match frame(self.framing, &event.payload) {
                Ok(message) => messages.push(message),
                // Sending the others would leave a hole that is none of the receiver's.
                Err(text) => {
                    let fault = Fault::new(
                        FaultCode::Unsupported,
                        format!("event {} can't be sent to {}: {text}", event.seq, self.to),
                    );
                    return vec![Receipt::Fault(fault); events.len()];
                }
            }
        }
        let began = Mono::now();
        let opened = Connection::open(on.clients, &self.to, &self.tls, within / 2, on.trace).await;
        let connection = match opened {
            Ok(connection) => connection,
            Err(trouble) => {
                on.trace.note(format_args!("no connection: {trouble}"));
                return vec![receipt(Handed::Not(trouble)); events.len()];
            }
        };
        let left = within.saturating_sub(Mono::now().since(began));
        let known = connection.deliver(&messages, left, on.trace).await;
        known.into_iter().map(receipt).collect()
    }
}

fn receipt(handed: Handed) -> Receipt {
    match handed {
        Handed::Over { at } => Receipt::Sent { at },
        Handed::Not(Trouble::Reason(reason)) => Receipt::NotSent(reason),
        Handed::Not(Trouble::Fault(fault)) => Receipt::Fault(fault),
        Handed::Perhaps(reason) => Receipt::Unknown(reason),
    }
}
