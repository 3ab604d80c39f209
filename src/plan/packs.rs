//! Packs: plans for one purpose, compiled into the binary from `probes/` and overridable from disk.

/// Name and text of each pack that ships with the binary.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("database-node", include_str!("../../probes/database-node.yaml")),
    ("demo", include_str!("../../probes/demo.yaml")),
    ("kubernetes-node", include_str!("../../probes/kubernetes-node.yaml")),
    ("linux-node", include_str!("../../probes/linux-node.yaml")),
    ("log-node", include_str!("../../probes/log-node.yaml")),
    ("partner-platform", include_str!("../../probes/partner-platform.yaml")),
];

pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}
