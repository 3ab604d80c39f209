//! RELP: syslog messages, each acknowledged by the receiver.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{SendContext, Sender};
use crate::client::relp::{self, Answer};
use crate::client::syslog::Address;
use crate::client::tls;
use crate::journey::event::Format;
use crate::journey::{Event, Receipt};
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::spec::Period;

/// Sends over one session a round, and closes it. The receiver acknowledges each message when it
/// has queued it.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// "tcp://host:port" or "tls://host:port".
    pub to: String,
    /// How the receiver's certificate is checked, for tls://.
    #[serde(default)]
    pub tls: tls::Options,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

#[derive(Debug)]
pub struct Relp {
    to: Address,
    tls: tls::Options,
    timeout: Option<Duration>,
}

impl Sender for Relp {
    const KIND: &'static str = "relp";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = true;
    const FORMAT: Format = Format::Rfc5424;

    fn new(spec: Spec) -> Result<Self, String> {
        let to = Address::parse(&spec.to)?;
        spec.tls.validate()?;
        if !to.tls && spec.tls != tls::Options::default() {
            return Err("`tls` has no use with tcp://; write tls://host:port".into());
        }
        Ok(Self { to, tls: spec.tls, timeout: spec.timeout.map(|timeout| timeout.0) })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        vec![Effect {
            what: format!("opens a RELP session to {} and sends {count} syslog messages", self.to),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let messages: Vec<Bytes> = events.iter().map(|event| event.payload.clone()).collect();
        let within = timeout.mul_f64(0.9);
        let (clients, trace) = (on.clients, on.trace);
        let answers = relp::deliver(clients, &self.to, &self.tls, &messages, within, trace).await;
        answers.into_iter().map(receipt).collect()
    }
}

fn receipt(answer: Answer) -> Receipt {
    match answer {
        Answer::Taken { at } => Receipt::Accepted { at },
        Answer::Refused(reason) => Receipt::Refused(reason),
        Answer::Not(Trouble::Reason(reason)) => Receipt::NotSent(reason),
        Answer::Not(Trouble::Fault(fault)) => Receipt::Fault(fault),
        Answer::Perhaps(reason) => Receipt::Unknown(reason),
    }
}
