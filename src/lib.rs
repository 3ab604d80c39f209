//! Greenlight proves that a platform is ready to go live, and keeps proving it.
//!
//! The rooms, from the words up; a room imports only from rooms above it (ARCHITECTURE.md,
//! and a test holds it).

// words
pub mod catalogue;
pub mod outcome;
pub mod spec;
pub mod time;
// pure
pub mod gate;
pub mod journey;
pub mod ledger;
pub mod metrics;
pub mod series;
pub mod sigma;
// wires
pub mod client;
pub mod lanes;
// kinds
pub mod confirm;
pub mod node;
pub mod probe;
pub mod send;
// whole
pub mod plan;
pub mod render;
pub mod serve;
pub mod store;
// top
pub mod agent;
pub mod cli;
pub mod demo;
