//! What listens on a node, by the whole agent: as `ss` lists it, and whose full queue turned a gate
//! red.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Agent;
use crate::machine::{Process, Undo, root, until};
use crate::netns::{Netns, at, wire};

/// Listens in every way, and never accepts.
const SERVER: &str = "
import socket, sys, time
full = socket.socket()
full.bind(('10.80.1.1', 7006)); full.listen(3)
both = socket.create_server(('::', 7007), family=socket.AF_INET6, dualstack_ipv6=True)
only = socket.create_server(('fd80:1::1', 7008), family=socket.AF_INET6)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(('0.0.0.0', 7009))
time.sleep(1000)
";

/// Address, port, whether it is TCP: queue, limit and the processes that hold it.
type Rows = BTreeMap<(String, u16, bool), (u64, u64, Vec<u64>)>;

/// What `ss` says. An address that takes both versions it writes as a star.
fn ss(namespace: &Netns) -> Rows {
    let mut rows = Rows::new();
    for (option, tcp) in [("-t", true), ("-u", false)] {
        for line in namespace.sh(&format!("ss -Hlnp {option}")).lines() {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = columns[3].rsplit_once(':').unwrap();
            let address = address.trim_matches(['[', ']']).replace('*', "::");
            let pids = line
                .split("pid=")
                .skip(1)
                .map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap());
            let [queue, limit] = [columns[1], columns[2]].map(|n| n.parse().unwrap());
            let mut pids: Vec<u64> = pids.collect();
            pids.sort_unstable();
            rows.insert((address, port.parse().unwrap(), tcp), (queue, limit, pids));
        }
    }
    rows
}

fn ours(listing: &Value) -> Rows {
    let rows = listing["listeners"].as_array().unwrap();
    let row = |row: &Value| {
        let tcp = row["protocol"] == "tcp";
        let address = row["address"].as_str().unwrap().to_owned();
        let port = u16::try_from(row["port"].as_u64().unwrap()).unwrap();
        let owners = row["owners"].as_array().unwrap();
        let pids = owners.iter().map(|owner| owner["pid"].as_u64().unwrap()).collect();
        let queue = |key: &str| row[key].as_u64().unwrap_or(0);
        ((address, port, tcp), (queue("queue"), queue("queue_limit"), pids))
    };
    rows.iter().map(row).collect()
}

#[test]
fn a_full_accept_queue_is_red_and_names_its_owner() {
    root();
    let (near, far) = wire(1500, 1500);
    let server = Process::start(Command::new("ip").args([
        "netns",
        "exec",
        near.name(),
        "python3",
        "-c",
        SERVER,
    ]));
    let pid = server.0.id();
    until("the server listens", || near.sh("ss -Hlnu").contains(":7009"));
    // As a service of systemd has its own.
    let hierarchy = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|folder| Path::new(folder).join("cgroup.procs").exists());
    let unit = format!("greenlight-listens-{}.service", std::process::id());
    let folder = Path::new(hierarchy.unwrap()).join(&unit);
    std::fs::create_dir(&folder).unwrap();
    let home = folder.parent().unwrap().join("cgroup.procs");
    let _undo = Undo(|| {
        let _ = std::fs::write(&home, pid.to_string());
        until("the group is gone", || std::fs::remove_dir(&folder).is_ok());
    });
    std::fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();

    near.run(|| async {
        let agent = Agent::start("include: [ 'pack:linux-node' ]", &[], &[]);
        agent.green(&["node.tcp.accept-queue", "node.tcp.ports"]);
        let listing = agent.daemon.json("/api/v1/listeners");
        let theirs = ss(&near);
        assert_eq!(ours(&listing), theirs, "{listing:#}");
        // Who asks at the same time is answered too.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(ours(&agent.daemon.json("/api/v1/listeners")), theirs));
            }
        });
        // Four of the server and that of the agent.
        assert_eq!(theirs.len(), 5);
        assert_eq!(listing["over_limit"], 0);
        let rows = listing["listeners"].as_array().unwrap();
        let of = |port: u16| rows.iter().find(|row| row["port"] == port).unwrap();
        assert_eq!(of(7007)["ipv6_only"], false);
        assert_eq!(of(7008)["ipv6_only"], true);
        assert_eq!(of(7006)["ipv6_only"], Value::Null);
        let owner = &of(7006)["owners"][0];
        assert_eq!((&owner["pid"], &owner["name"]), (&pid.into(), &"python3".into()));
        assert_eq!(owner["unit"], unit.as_str(), "{owner:#}");
        assert_eq!(of(7006)["reason"], Value::Null);
        assert_eq!(of(7009)["queue"], Value::Null);

        let waiting: Vec<_> = (0..4).map(|_| far.connect(at("10.80.1.1", 7006))).collect();
        let named = "python3 on port 7006";
        let row = agent.red("node.tcp.accept-queue", None);
        until("the reason names the owner", || {
            let row = agent.gate("node.tcp.accept-queue");
            row["reason"]["text"].as_str().is_some_and(|text| text.contains(named))
        });
        assert!(row["value"].as_f64().is_some_and(|fill| fill > 0.9), "{row:#}");
        let captures = agent.daemon.json("/api/v1/captures");
        let capture = captures
            .as_array()
            .unwrap()
            .iter()
            .find(|capture| capture["resource"] == "listener")
            .unwrap_or_else(|| panic!("no capture: {captures:#}"));
        let culprit = &capture["culprits"][0];
        assert_eq!(culprit["pid"], pid, "{capture:#}");
        assert_eq!(culprit["amount"], 4.0);
        assert!(culprit["cgroup"].as_str().unwrap().ends_with(&unit), "{capture:#}");
        assert_eq!(ours(&agent.daemon.json("/api/v1/listeners")), ss(&near));

        drop(server);
        drop(waiting);
        agent.green(&["node.tcp.accept-queue"]);
    });
}

/// A client that keeps its connections, and as many that others keep elsewhere.
const CLIENT: &str = "
import socket, time
held = [socket.create_connection(('10.80.1.2', 7010)) for _ in range(45)]
others = [socket.create_connection(('10.80.1.2', 7011)) for _ in range(9)]
time.sleep(1000)
";

#[test]
fn used_up_ports_are_red_and_name_the_client_and_its_destination() {
    root();
    let (near, far) = wire(1500, 1500);
    near.sh("echo 40000 40049 > /proc/sys/net/ipv4/ip_local_port_range");
    let listeners = [7010, 7011].map(|port| far.listen(at("10.80.1.2", port)));
    near.run(|| async {
        let agent = Agent::start("include: [ 'pack:linux-node' ]", &[], &[]);
        agent.green(&["node.tcp.ports"]);
        let arguments = ["netns", "exec", near.name(), "python3", "-c", CLIENT];
        let client = Process::start(Command::new("ip").args(arguments));
        let row = agent.red("node.tcp.ports", None);
        assert_eq!(row["value"], 0.9, "{row:#}");
        until("the reason names the client", || {
            let row = agent.gate("node.tcp.ports");
            let text = row["reason"]["text"].as_str().unwrap_or_default();
            text.contains("python3 to 10.80.1.2:7010") && text.contains("45 local ports in use")
        });
        let captures = agent.daemon.json("/api/v1/captures");
        let rows = captures.as_array().unwrap();
        let of_ports = rows.iter().rfind(|capture| capture["resource"] == "ports").unwrap();
        let culprits = of_ports["culprits"].as_array().unwrap();
        // What asked the agent from this namespace has ended, and its port rests for a while.
        let held = culprits.iter().filter(|culprit| !culprit["pid"].is_null());
        let found: Vec<_> = held.map(|c| (&c["pid"], &c["amount"])).collect();
        let pid = Value::from(client.0.id());
        assert_eq!(found, [(&pid, &Value::from(45.0)), (&pid, &Value::from(9.0))]);
        // What was never accepted is reset, and nothing of it waits.
        drop(client);
        drop(listeners);
        agent.green(&["node.tcp.ports"]);
    });
}
