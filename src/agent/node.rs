//! What the plan needs to know of this node.

use crate::node::{self, Paths};
use crate::plan::Facts;

/// Its name, and its facts.
pub fn plan_facts(paths: &Paths) -> Facts {
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned());
    Facts { hostname, facts: node::facts(paths) }
}
