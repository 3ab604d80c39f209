//! Syslog over TCP or TLS: connect, send one message, and see that the connection stays whole.

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::catalogue::Metric;
use crate::catalogue::probe::SYSLOG_CONNECT;
use crate::client::datagram::Handed;
use crate::client::syslog::{Address, Connection, Framing, frame};
use crate::client::tls;
use crate::outcome::{FaultCode, Reading, Sample, Trouble};
use crate::time::Mono;

/// Connects and sends one message (RFC 5424, octet counting), which says that it is a test. The
/// target is "tcp://host:port" or "tls://host:port". No receiver answers, so that success means
/// that the connection was opened and not reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// How messages are told apart.
    pub framing: Framing,
    /// How the receiver's certificate is checked, for tls://.
    pub tls: tls::Options,
}

#[derive(Debug)]
pub struct Syslog {
    framing: Framing,
    tls: tls::Options,
}

/// local0.info, of nobody in particular; the time is left to the receiver.
const MESSAGE: &str = "<134>1 - greenlight greenlight - probe \
                       [origin software=\"greenlight\"] synthetic: this is a test message";

impl Probe for Syslog {
    const KIND: &'static str = "syslog";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&SYSLOG_CONNECT];

    fn new(spec: Spec) -> Result<Self, String> {
        spec.tls.validate()?;
        Ok(Self { framing: spec.framing, tls: spec.tls })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        Address::parse(text).map(drop)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect {
            what: format!("sends one syslog message to {target}, marked as a test"),
            needs: None,
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let began = Mono::now();
        let within = on.timeout.mul_f64(0.9);
        let to = match Address::parse(on.target) {
            Ok(to) => to,
            Err(text) => return Trouble::fault(FaultCode::Unsupported, text).into(),
        };
        let connection =
            match Connection::open(on.clients, &to, &self.tls, within / 2, on.trace).await {
                Ok(connection) => connection,
                Err(trouble) => return trouble.into(),
            };
        let samples = vec![Sample::new(&SYSLOG_CONNECT, connection.took.as_secs_f64())];
        let message = match frame(self.framing, MESSAGE.as_bytes()) {
            Ok(message) => message,
            Err(text) => return Trouble::fault(FaultCode::Unsupported, text).into(),
        };
        let left = within.saturating_sub(Mono::now().since(began));
        let known = connection.deliver(&[message], left, on.trace).await;
        match known.into_iter().next() {
            Some(Handed::Over { .. }) | None => Reading::success(samples),
            Some(Handed::Not(Trouble::Fault(fault))) => fault.into(),
            Some(Handed::Not(Trouble::Reason(reason)) | Handed::Perhaps(reason)) => {
                Reading::failure(reason, samples)
            }
        }
    }
}
