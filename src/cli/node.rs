//! Where the command line says that this node's files are.

use super::Global;
use crate::node::Paths;

pub(super) fn paths(global: &Global) -> Paths {
    Paths {
        procfs: global.procfs.clone(),
        sysfs: global.sysfs.clone(),
        rootfs: global.rootfs.clone(),
    }
}
