//! What the command line says of this node.

use super::Global;
use crate::node::{self, Paths};
use crate::plan::Facts;

pub fn paths(global: &Global) -> Paths {
    Paths {
        procfs: global.procfs.clone(),
        sysfs: global.sysfs.clone(),
        rootfs: global.rootfs.clone(),
    }
}

pub fn facts(paths: &Paths) -> Facts {
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned());
    Facts { hostname, facts: node::facts(paths) }
}
