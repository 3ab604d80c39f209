//! Networks that lose, reject, swallow and damage, watched by an agent inside a namespace.

use serde_json::Value;

use super::Agent;
use crate::machine::until;
use crate::netns::{FAR, Routed, at};

/// Short windows, as long as the slowest attempt: a black hole is known after some seconds.
const PLAN: &str = "
include: [ 'pack:linux-node' ]
checks:
  - { id: echo, icmp: { count: 20, interval: 20ms }, targets: [ '10.80.2.1', 'fd80:2::1' ], every: 1s }
  - { id: rejected, tcp: {}, targets: [ '10.80.2.1:81', '[fd80:2::1]:81' ], every: 500ms }
  - { id: prohibited, tcp: {}, targets: [ '10.80.2.1:82', '[fd80:2::1]:82' ], every: 500ms }
  - { id: dropped, tcp: {}, targets: [ '10.80.2.1:83', '[fd80:2::1]:83' ], every: 1s }
  - { id: path, path_mtu: { expect: 1500 }, targets: [ '10.80.2.1', 'fd80:2::1' ], every: 5s }
gates:
  - { id: net.loss, require: { mean: icmp.loss, where: { check: echo }, over: 5s, at_least: 3, below: 5% } }
  - { id: net.port.rejected, require: { ratio: check.success, where: { check: rejected }, over: 5s, at_least: 3, above: 100% } }
  - { id: net.port.prohibited, require: { ratio: check.success, where: { check: prohibited }, over: 5s, at_least: 3, above: 100% } }
  - { id: net.port.dropped, require: { ratio: check.success, where: { check: dropped }, over: 5s, at_least: 3, above: 100% } }
  - { id: net.mtu, require: { last: check.success, where: { check: path }, above: 1 } }
";

const GATES: [&str; 5] =
    ["net.loss", "net.port.rejected", "net.port.prohibited", "net.port.dropped", "net.mtu"];

/// Waits until the newest attempts on both versions of the far end failed for this reason.
#[track_caller]
fn because(agent: &Agent, check: &str, targets: [String; 2], code: &str, words: &str) {
    for target in targets {
        until(&format!("{check} on {target} says {code}"), || agent.last(check, &target).0 == code);
        let (_, text) = agent.last(check, &target);
        assert!(text.contains(words), "{check} on {target}: no {words:?} in {text:?}");
    }
}

#[test]
fn network_gates_turn_red_on_real_faults_and_green_again() {
    let net = Routed::new(1500, 1500);
    let _open: Vec<_> =
        (81..=83).flat_map(|port| FAR.map(|far| net.far.listen(at(far, port)))).collect();
    // What an overlay does: neighbours that the kernel never forgets, beside those that it learns.
    net.near.sh("for host in $(seq 100 139); do
             echo neigh add 10.80.1.$host lladdr 02:00:00:00:00:02 dev e0 nud permanent
         done | ip -batch -
         ip neigh add 10.80.1.140 lladdr 02:00:00:00:00:02 dev e0 nud permanent extern_learn
         ip neigh add 10.80.1.141 lladdr 02:00:00:00:00:02 dev e0 nud reachable
         ip neigh add fd80:1::7 lladdr 02:00:00:00:00:02 dev e0 nud permanent");
    net.near.run(|| async { watch(&net) });
}

fn watch(net: &Routed) {
    let agent = Agent::start(PLAN, &[], &[]);
    let hosts = FAR.map(str::to_owned);
    let port = |port| FAR.map(|far| at(far, port).to_string());
    agent.green(&GATES);
    for (family, exempt) in [("ipv4", 41.0), ("ipv6", 1.0)] {
        let label = format!("family=\"{family}\"");
        let count = agent.daemon.metric("greenlight_node_neighbours_exempt", &[&label]);
        assert_eq!(count, Some(exempt), "{family}");
    }

    // Half of the echoes are lost on the way (only those of `echo`: 56 bytes and the headers), one
    // port answers with a reset, one with a prohibition, one not at all, and the router's next
    // hop takes less.
    net.router.filter(
        "forward",
        "icmp type echo-request meta length 84 numgen random mod 100 < 50 drop; \
         icmpv6 type echo-request meta length 104 numgen random mod 100 < 50 drop",
    );
    net.far.filter(
        "input",
        "tcp dport 81 reject with tcp reset; \
         tcp dport 82 reject with icmpx type admin-prohibited; \
         tcp dport 83 drop",
    );
    net.router.sh("ip link set right mtu 1300");
    net.far.sh("ip link set e0 mtu 1300");
    let loss = agent.red("net.loss", None);
    assert!(loss["value"].as_f64().is_some_and(|loss| (0.05..0.95).contains(&loss)), "{loss:#}");
    assert_eq!(loss["worst"]["check"], "echo");
    for gate in &GATES[1..] {
        agent.red(gate, None);
    }
    because(&agent, "rejected", port(81), "refused", "");
    because(&agent, "prohibited", port(82), "unreachable", "prohibited by a filter");
    because(&agent, "dropped", port(83), "filtered", "no answer");
    because(&agent, "path", hosts.clone(), "mtu_too_small", "1300");

    // The router swallows the answer too: nobody says any more what takes less.
    net.router.flush();
    net.router.filter(
        "output",
        "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop",
    );
    net.far.flush();
    because(&agent, "path", hosts, "mtu_black_hole", "1300 bytes pass");
    agent.red("net.mtu", None);
    agent.green(&GATES[..4]);

    net.router.flush();
    net.far.sh("ip link set e0 mtu 1500");
    net.router.sh("ip link set right mtu 1500");
    agent.green(&GATES);
    links(net, &agent);
}

/// What the tunnel could not send.
fn near_errors(net: &Routed) -> u64 {
    let count = net.near.sh("cat /sys/class/net/tunnel0/statistics/tx_errors");
    count.trim().parse().expect("a number")
}

/// What the kernel counts for the interfaces themselves.
fn links(net: &Routed, agent: &Agent) {
    agent.green(&["node.link.drops"]);
    // Frames of a protocol that nobody speaks: the receiver drops each, and counts it.
    net.router.sh("python3 -c \"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('left', 0))
frame = b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0\\1' + b'\\x88\\xb5' + b'greenlight' * 5
for _ in range(7000): s.send(frame)
\"");
    let row = agent.red("node.link.drops", Some("e0"));
    assert!(row["value"].as_f64().is_some_and(|drops| drops >= 6900.0), "{row:#}");

    // A tunnel whose other end no route leads to: each packet is an error of its interface, of which
    // no wire is to blame.
    net.near.sh("ip link add tunnel0 type vxlan id 7 remote 192.0.2.1 dstport 4789
         ip link set tunnel0 up
         ip route add unreachable 192.0.2.0/24
         ip addr add 10.98.0.1/24 dev tunnel0
         ip neigh add 10.98.0.2 lladdr 02:00:00:00:00:02 dev tunnel0");
    agent.green(&["node.link.drops", "node.link.errors"]);
    net.near.sh("ping -c 20 -i 0.02 -W 0.1 10.98.0.2 > /dev/null || true");
    let unsent = near_errors(net);
    assert!(unsent >= 5, "{unsent}");
    net.router.send_damaged("10.80.1.1", 9);
    let row: Value = agent.red("node.link.errors", Some("tunnel0"));
    assert_eq!(row["value"], 9.0, "{row:#}");
    net.near.sh("ip link set tunnel0 down");
    agent.green(&["node.link.errors"]);
}
