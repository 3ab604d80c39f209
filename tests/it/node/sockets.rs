//! Real faults of TCP and UDP in namespaces, counted exactly and as other tools count them.

use std::net::{TcpStream, UdpSocket};

use super::faults::Inside;
use super::*;
use crate::netns::{at, wire};

fn total(watched: &Watched, metric: &str) -> f64 {
    exported(&watched.frame, metric, &[])
}

/// Lets the gate turn green, then the fault happen, and waits for red.
fn watch(inside: &Inside, gates: &[&str]) -> (View, Watched) {
    let view = View::new(inside.id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    let green: Vec<_> = gates.iter().map(|gate| (*gate, Verdict::Pass)).collect();
    watched.until_all(&green);
    (view, watched)
}

#[test]
fn a_full_accept_queue_turns_its_gate_red_and_is_counted_exactly() {
    let (near, far) = wire(1500, 1500);
    let inside = Inside::of(&far);
    let (_view, mut watched) = watch(&inside, &["node.tcp.listen"]);
    // A queue of one holds two, and nobody accepts.
    let listener = far.listen_with(at("10.80.1.2", 7000), 1);
    let streams: Vec<TcpStream> = (0..2).map(|_| near.connect(at("10.80.1.2", 7000))).collect();
    watched.sample(real_now());
    assert_eq!(total(&watched, "greenlight_node_listen_overflows_total"), 0.0);
    near.sh("timeout 2 python3 -c \"
import socket
s = socket.socket(); s.settimeout(1.5)
try: s.connect(('10.80.1.2', 7000))
except OSError: pass
\" || true");
    let finding = watched.until("node.tcp.listen", Verdict::Fail);
    assert!(finding.value.is_some_and(|value| value >= 1.0), "{finding:?}");
    let nstat = far.sh("nstat -az TcpExtListenOverflows | awk '/Overflows/ { print $2 }'");
    watched.sample(real_now());
    let after = far.sh("nstat -az TcpExtListenOverflows | awk '/Overflows/ { print $2 }'");
    let [before, after] = [nstat, after].map(|text| text.trim().parse::<f64>().unwrap());
    let seen = total(&watched, "greenlight_node_listen_overflows_total");
    assert!((before..=after).contains(&seen), "{before} <= {seen} <= {after}");
    drop((listener, streams));
    watched.until("node.tcp.listen", Verdict::Pass);
}

#[test]
fn lost_datagrams_turn_their_gates_red_and_are_counted_exactly() {
    let (near, far) = wire(1500, 1500);
    let inside = Inside::of(&far);
    let gates = ["node.udp.buffers", "node.ip.mtu"];
    let (_view, mut watched) = watch(&inside, &gates);
    // The smallest buffer, and nobody who reads: what does not fit is lost.
    let receiver: UdpSocket = far.udp(at("10.80.1.2", 7001));
    let sent = 5000;
    near.sh(&format!(
        "python3 -c \"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({sent}): s.sendto(b'x' * 1000, ('10.80.1.2', 7001))
\""
    ));
    receiver.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2000];
    let mut kept = 0;
    while receiver.recv(&mut buffer).is_ok() {
        kept += 1;
    }
    watched.until("node.udp.buffers", Verdict::Fail);
    let lost = total(&watched, "greenlight_node_udp_receive_buffer_errors_total");
    assert_eq!(lost, f64::from(sent - kept), "{kept} of {sent} were kept");

    // A packet that may not be fragmented and does not fit.
    far.sh("ip route add 10.99.0.0/24 via 10.80.1.1 mtu lock 1000
         echo 1 > /proc/sys/net/ipv4/ip_forward");
    near.sh("ip route add 10.99.0.0/24 via 10.80.1.2
         ping -c 3 -i 0.2 -W 1 -M do -s 1400 10.99.0.1 > /dev/null || true");
    watched.until("node.ip.mtu", Verdict::Fail);
    assert!(total(&watched, "greenlight_node_ip_fragment_failures_total") >= 1.0);
    watched.until_all(&gates.map(|gate| (gate, Verdict::Pass)));
}

#[test]
fn lost_segments_turn_their_gates_red_and_are_counted_as_nstat_does() {
    let (near, far) = wire(1500, 1500);
    let inside = Inside::of(&near);
    let gates = ["node.tcp.retransmits", "node.tcp.connects"];
    let (_view, mut watched) = watch(&inside, &gates);
    let _listener = far.listen(at("10.80.1.2", 7002));
    far.filter("input", "tcp dport 7002 numgen random mod 100 < 30 drop; tcp dport 7003 drop");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                near.sh("timeout 20 python3 -c \"
import socket
dead = [socket.socket() for _ in range(40)]
for s in dead:
    s.setblocking(False)
    try: s.connect(('10.80.1.2', 7003))
    except OSError: pass
s = socket.socket(); s.settimeout(5)
s.connect(('10.80.1.2', 7002))
try:
    for _ in range(40): s.sendall(b'x' * 20000)
except OSError: pass
\" || true");
            }
        };
        scope.spawn(busy);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            watched.until_all(&gates.map(|gate| (gate, Verdict::Fail)));
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome.unwrap();
    });
    far.flush();
    let nstat = || {
        let text = near.sh("nstat -az TcpRetransSegs TcpExtTCPSynRetrans TcpOutSegs");
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
        };
        ["TcpRetransSegs", "TcpExtTCPSynRetrans", "TcpOutSegs"].map(of)
    };
    // Read anew every five seconds, and some are sent again for a while.
    let began = std::time::Instant::now();
    loop {
        let before = nstat();
        watched.sample(real_now());
        let after = nstat();
        let seen = ["retransmitted_segments", "syn_retransmits", "sent_segments"]
            .map(|name| total(&watched, &format!("greenlight_node_tcp_{name}_total")));
        if seen.iter().enumerate().all(|(n, seen)| (before[n]..=after[n]).contains(seen)) {
            break;
        }
        let patience = std::time::Duration::from_secs(60);
        assert!(began.elapsed() < patience, "{before:?} <= {seen:?} <= {after:?}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    watched.until_all(&gates.map(|gate| (gate, Verdict::Pass)));
}
