//! Packs, which are plans for one purpose, and use cases: compiled into the binary from `probes/` and
//! overridable from disk.

/// Name and text of each pack that ships with the binary.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("database-node", include_str!("../../probes/database-node.yaml")),
    ("demo", include_str!("../../probes/demo.yaml")),
    ("demo-usecases", include_str!("../../probes/demo-usecases.yaml")),
    ("kubernetes-node", include_str!("../../probes/kubernetes-node.yaml")),
    ("linux-node", include_str!("../../probes/linux-node.yaml")),
    ("log-node", include_str!("../../probes/log-node.yaml")),
    ("partner-platform", include_str!("../../probes/partner-platform.yaml")),
];

/// Name and text of each use case that ships with the binary.
pub const USE_CASES: &[(&str, &str)] = &[
    ("c2-beaconing", include_str!("../../probes/usecases/c2-beaconing.yaml")),
    ("cloud-root-login", include_str!("../../probes/usecases/cloud-root-login.yaml")),
    ("data-exfiltration", include_str!("../../probes/usecases/data-exfiltration.yaml")),
    ("disabled-security-tool", include_str!("../../probes/usecases/disabled-security-tool.yaml")),
    ("dns-tunnelling", include_str!("../../probes/usecases/dns-tunnelling.yaml")),
    ("impossible-travel", include_str!("../../probes/usecases/impossible-travel.yaml")),
    ("kerberoasting", include_str!("../../probes/usecases/kerberoasting.yaml")),
    ("lateral-movement", include_str!("../../probes/usecases/lateral-movement.yaml")),
    ("log-cleared", include_str!("../../probes/usecases/log-cleared.yaml")),
    ("malware-hash", include_str!("../../probes/usecases/malware-hash.yaml")),
    ("new-admin-account", include_str!("../../probes/usecases/new-admin-account.yaml")),
    ("password-spraying", include_str!("../../probes/usecases/password-spraying.yaml")),
    ("port-scan", include_str!("../../probes/usecases/port-scan.yaml")),
    ("privilege-escalation", include_str!("../../probes/usecases/privilege-escalation.yaml")),
    ("reverse-shell", include_str!("../../probes/usecases/reverse-shell.yaml")),
    ("ssh-bruteforce", include_str!("../../probes/usecases/ssh-bruteforce.yaml")),
    ("ssh-normal-login", include_str!("../../probes/usecases/ssh-normal-login.yaml")),
    ("suspicious-powershell", include_str!("../../probes/usecases/suspicious-powershell.yaml")),
    ("web-attack", include_str!("../../probes/usecases/web-attack.yaml")),
];

pub fn usecase(name: &str) -> Option<&'static str> {
    USE_CASES.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}

pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}
