//! How records are sent: what a producer asks of the cluster.

use rdkafka::config::ClientConfig;
use serde::{Deserialize, Serialize};

/// Whose word makes a record stored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Acks {
    /// Of all replicas in sync.
    #[default]
    All,
    /// Of the partition's leader alone: a record may be lost with it.
    Leader,
}

/// How batches are compressed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What a producer asks of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    pub acks: Acks,
    pub idempotence: bool,
    pub compression: Compression,
}

impl Default for Sending {
    fn default() -> Self {
        Self { acks: Acks::All, idempotence: true, compression: Compression::None }
    }
}

impl Sending {
    pub fn validate(&self) -> Result<(), String> {
        if self.idempotence && self.acks == Acks::Leader {
            return Err(String::from(
                "an idempotent producer waits for all replicas in sync; with `acks: leader` set \
                 `idempotence: false`",
            ));
        }
        Ok(())
    }

    pub(super) fn configure(self, config: &mut ClientConfig) {
        let acks = match self.acks {
            Acks::All => "all",
            Acks::Leader => "1",
        };
        // An idempotent producer makes no duplicate and no disorder of its own, and so may ride
        // out an election before it hands over the broker's own word (5 s with the default
        // backoff). Without that, a second attempt might store a record twice: there is none.
        let retries = if self.idempotence { "8" } else { "0" };
        config
            .set("enable.idempotence", if self.idempotence { "true" } else { "false" })
            .set("acks", acks)
            .set("compression.codec", self.compression.word())
            .set("message.send.max.retries", retries);
    }
}
