//! One protocol a file. Knows no check, no journey and no verdict; says of every error whose
//! fault it is.

/// What probes, senders and confirmers share. Each part is made when it is first used, so that a
/// plan pays only for what it names. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clients {}
