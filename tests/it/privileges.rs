//! `plan --privileges`, as several users: what it says is missing is missing, and what it says
//! lifts it does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::BINARY;

const PLAN: &str = "include: [ 'pack:linux-node' ]\n\
    checks:\n\
    - { id: ping, icmp: {}, targets: [ 127.0.0.1 ], every: 1m }\n\
    - { id: port, tcp: {}, targets: [ '127.0.0.1:1' ], every: 1m }\n";

/// A place that everybody may read, with the binary and the plan in it.
fn place() -> tempfile::TempDir {
    crate::machine::root();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(BINARY, folder.path().join("greenlight")).unwrap();
    fs::write(folder.path().join("plan.yaml"), PLAN).unwrap();
    folder
}

/// In a network namespace of its own, where no group may open ICMP sockets.
fn privileges(folder: &Path, setpriv: &[&str], more: &[&str]) -> String {
    let output = Command::new("unshare")
        .args(["-n", "setpriv"])
        .args(setpriv)
        .arg(folder.join("greenlight"))
        .args(["plan", "--privileges", "-c"])
        .arg(folder.join("plan.yaml"))
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{setpriv:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, setpriv: &[&str]) -> Value {
    let text = privileges(folder, setpriv, &["-o", "json"]);
    serde_json::from_str::<Value>(&text).unwrap()["privileges"].clone()
}

const NOBODY: [&str; 5] =
    ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];

#[test]
fn nobody_is_told_what_is_missing_and_what_lifts_it() {
    let folder = place();
    let found = json(folder.path(), &NOBODY);
    assert_eq!(found["user"], 65_534);
    assert_eq!(found["held"], serde_json::json!([]));
    let ping = found["checks"].as_array().unwrap();
    assert_eq!(ping.len(), 1, "{found:#}");
    assert_eq!(
        (ping[0]["check"].as_str(), ping[0]["granted"].as_bool()),
        (Some("ping"), Some(false))
    );
    let missing: Vec<&str> =
        found["missing"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(missing.contains(&"CAP_NET_RAW") && missing.contains(&"CAP_SYS_PTRACE"), "{found:#}");
    let who =
        found["node"].as_array().unwrap().iter().find(|unseen| unseen["what"] == "who did it");
    assert!(who.is_some_and(|who| who["needs"] == "CAP_SYS_PTRACE"), "{found:#}");

    let text = privileges(folder.path(), &NOBODY, &[]);
    for part in [
        "MISSING",
        "setcap cap_net_raw,",
        "=ep ",
        "AmbientCapabilities=CAP_NET_RAW ",
        "#65534 ALL=(root) NOPASSWD: /usr/sbin/setcap cap_net_raw\\,",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // What it asks for lifts all that it said a right would lift.
    let caps: Vec<String> =
        missing.iter().map(|name| format!("+{}", name["CAP_".len()..].to_lowercase())).collect();
    let caps = caps.join(",");
    let (inherited, ambient) =
        (format!("--inh-caps=-all,{caps}"), format!("--ambient-caps={caps}"));
    let with = ["--reuid=65534", "--regid=65534", "--clear-groups", &*inherited, &*ambient];
    let lifted = json(folder.path(), &with);
    assert_eq!(lifted["missing"], serde_json::json!([]), "{lifted:#}");
    assert_eq!(lifted["lift"], Value::Null);
    assert_eq!(lifted["checks"][0]["granted"], true);
}

#[test]
fn root_without_capabilities_is_no_root() {
    let folder = place();
    let dropped = ["--inh-caps=-all", "--bounding-set=-net_raw,-sys_ptrace"];
    let found = json(folder.path(), &dropped);
    assert_eq!(found["user"], 0);
    let held: Vec<&str> =
        found["held"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(!held.contains(&"CAP_NET_RAW") && held.contains(&"CAP_NET_ADMIN"), "{held:?}");
    assert_eq!(found["checks"][0]["granted"], false);
    let missing = found["missing"].as_array().unwrap();
    assert!(missing.iter().any(|capability| capability == "CAP_NET_RAW"), "{found:#}");

    let whole = json(folder.path(), &["--inh-caps=-all"]);
    assert_eq!(whole["checks"][0]["granted"], true);
    assert_eq!(whole["missing"], serde_json::json!([]), "{whole:#}");
}

/// In a container the host's files are elsewhere: no source of the node names the usual places.
#[test]
fn no_source_of_the_node_names_procfs_or_sysfs_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/node");
    let mut folders = vec![folder];
    let mut named = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Of itself a process learns at the usual place, in a container too.
            if path.ends_with("tests.rs") || path.ends_with("privileges.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            // A thread's own files are at the usual place too: they say which namespace it is in.
            let code = code.replace("\"/proc/thread-self/", "");
            for line in code.lines().map(|line| line.split("//").next().unwrap()) {
                if ["\"/proc/", "\"/sys/", "\"/etc/"].iter().any(|place| line.contains(place)) {
                    named.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(named.is_empty(), "{named:#?}");
}

/// A container that was not given the host's /sys is told which mount it lacks, and not that the node had
/// no such hardware.
#[test]
fn a_mount_that_is_missing_is_named() {
    let folder = place();
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let text = privileges(folder.path(), &NOBODY, &["--path.sysfs", nothing.to_str().unwrap()]);
    for line in
        ["the fact `thermal`: not known", "node.cpu.throttles: ", "the fact `nvme`: not known"]
    {
        let found = text.lines().find(|own| own.trim_start().starts_with(line));
        assert!(found.is_some_and(|own| own.contains("--path.sysfs")), "{line}: {text}");
    }
    assert!(!text.contains("has no ECC"), "{text}");
}
