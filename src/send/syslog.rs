//! Syslog over TCP.

use serde::{Deserialize, Serialize};

use super::{SendContext, Sender};
use crate::journey::{Event, Receipt};
use crate::probe::Effect;

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {}

pub struct Syslog;

impl Sender for Syslog {
    const KIND: &'static str = "syslog";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = false;

    fn new(_: Spec) -> Result<Self, String> {
        Ok(Self)
    }
    fn effects(&self, _count: u64) -> Vec<Effect> {
        Vec::new()
    }
    async fn send(&self, _events: &[Event], _on: SendContext<'_>) -> Vec<Receipt> {
        Vec::new()
    }
}
