//! All integration tests in one binary. `tests/run` installs what they need and runs them.

// A test ends by panicking, its helpers too; threads and clocks of its own are no part of the agent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::type_complexity
)]

mod bursts;
mod command;
mod contract;
mod demo;
mod exposition;
mod faults;
mod gate_cases;
mod gate_properties;
mod http;
mod journey_cases;
mod journeys;
mod kafka;
mod load;
mod machine;
mod netns;
mod network;
mod node;
mod partner;
mod peers;
mod pipeline;
mod privileges;
mod processor;
mod prometheus;
mod promql;
mod render;
mod replay;
mod rules;
mod running;
mod safety;
mod senders;
mod serve;
mod sigma;
mod storage;
mod store;
mod stores;
mod support;
mod syslog;
mod tidy;
mod twins;
mod values;
mod vm;
