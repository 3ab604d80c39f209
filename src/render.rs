//! (room)

pub mod rules;
