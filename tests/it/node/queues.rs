//! What waits to be sent, and what went over a wire: real queues and exact counts, by netlink from
//! inside a namespace, against `tc` and `ip`.

use std::process::Command;

use serde_json::Value;

use super::faults::Inside;
use super::*;
use crate::machine::{PATIENCE, Process, root};
use crate::netns::{Netns, wire};

fn json(namespace: &Netns, command: &str) -> Value {
    serde_json::from_str(&namespace.sh(command)).unwrap()
}

const DROPS: &str = "greenlight_node_qdisc_drops_total";
const OVERLIMITS: &str = "greenlight_node_qdisc_overlimits_total";

/// More is sent than the rate that is set takes.
#[test]
fn a_standing_queue_turns_its_gate_red_and_is_what_tc_says() {
    root();
    let (near, _far) = wire(1500, 1500);
    near.sh("tc qdisc add dev e0 root tbf rate 1mbit burst 4k limit 20k");
    let inside = Inside::of(&near);
    near.run(|| async {
        let view = View::new(inside.id());
        assert_eq!(node::facts(&view.paths())["qdisc"], "true");
        let mut watched = Watched::new(&view.paths(), &SCALED);
        watched.until("node.link.queues", Verdict::Pass);
        let script = "import socket, time\n\
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            while True:\n    \
                for _ in range(20): s.sendto(b'x' * 1000, ('10.80.1.2', 9))\n    \
                time.sleep(0.01)";
        let arguments = ["netns", "exec", near.name(), "python3", "-c", script];
        let sender = Process::start(Command::new("ip").args(arguments));
        let finding = watched.until("node.link.queues", Verdict::Fail);
        assert_eq!(finding.worst, Some(("node".into(), "e0".into())));
        let waits = number(&watched.frame, "node.qdisc.backlog", Some("e0"));
        assert!(waits > 1000.0 && waits <= 20_480.0, "{waits} bytes wait");
        let packets = exported(&watched.frame, "greenlight_node_qdisc_backlog_packets", &["e0"]);
        assert!(packets >= 1.0 && packets * 1042.0 <= waits + 1042.0, "{packets} of {waits} bytes");
        drop(sender);

        // Once nothing is sent the counters stand still, and are the same.
        let began = std::time::Instant::now();
        loop {
            watched.sample(real_now());
            let ours = [DROPS, OVERLIMITS].map(|name| exported(&watched.frame, name, &["e0"]));
            let tc = &json(&near, "tc -s -j qdisc show dev e0 root")[0];
            let theirs = ["drops", "overlimits"].map(|name| tc[name].as_f64().unwrap());
            if ours == theirs && number(&watched.frame, "node.qdisc.backlog", Some("e0")) == 0.0 {
                assert_eq!(tc["backlog"], 0, "{tc:#}");
                assert!(ours[0] > 600.0 && ours[1] > ours[0] / 2.0, "{ours:?}");
                break;
            }
            assert!(began.elapsed() < PATIENCE, "ours {ours:?}, tc says {tc:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
        watched.until("node.link.queues", Verdict::Pass);
    });
}

/// Frames of a known length over a wire on which nothing else speaks.
#[test]
fn bytes_over_a_wire_are_counted_exactly_and_as_ip_counts_them() {
    root();
    let (near, far) = wire(9000, 9000);
    for end in [&near, &far] {
        end.sh("for conf in all default e0; do
                echo 1 > /proc/sys/net/ipv6/conf/$conf/disable_ipv6; done");
    }
    let inside = Inside::of(&far);
    far.run(|| async {
        let view = View::new(inside.id());
        let mut watched = Watched::new(&view.paths(), &SCALED);
        watched.sample(real_now());
        let received = |watched: &Watched| {
            ["bytes", "packets"].map(|what| {
                let metric = format!("greenlight_node_network_{what}_total");
                exported(&watched.frame, &metric, &["e0", "receive"])
            })
        };
        let before = received(&watched);
        near.sh(
            "python3 -c \"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('e0', 0))
for n in range(3000): s.send(b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0\\1' + b'\\x88\\xb5' + b'x' * (46 + n))
\"",
        );
        // A frame is 14 bytes of header and 46 to 3045 of content.
        let sent = [(60..3060).sum::<u32>(), 3000].map(f64::from);
        watched.sample(real_now());
        let after = received(&watched);
        assert_eq!([after[0] - before[0], after[1] - before[1]], sent);
        let ip = &json(&far, "ip -s -j link show dev e0")[0]["stats64"]["rx"];
        assert_eq!([&ip["bytes"], &ip["packets"]].map(|n| n.as_f64().unwrap()), after, "{ip:#}");
    });
}
