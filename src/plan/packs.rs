//! Packs, which are plans for one purpose, and use cases: compiled into the binary from `probes/` and
//! overridable from disk.

/// Name and text of each pack that ships with the binary.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("database-node", include_str!("../../probes/database-node.yaml")),
    ("demo", include_str!("../../probes/demo.yaml")),
    ("kubernetes-node", include_str!("../../probes/kubernetes-node.yaml")),
    ("linux-node", include_str!("../../probes/linux-node.yaml")),
    ("log-node", include_str!("../../probes/log-node.yaml")),
    ("partner-platform", include_str!("../../probes/partner-platform.yaml")),
];

/// Name and text of each use case that ships with the binary.
pub const USE_CASES: &[(&str, &str)] = &[
    ("log-cleared", include_str!("../../probes/usecases/log-cleared.yaml")),
    ("new-admin-account", include_str!("../../probes/usecases/new-admin-account.yaml")),
    ("ssh-bruteforce", include_str!("../../probes/usecases/ssh-bruteforce.yaml")),
];

pub fn usecase(name: &str) -> Option<&'static str> {
    USE_CASES.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}

pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}
