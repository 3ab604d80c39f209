//! The network probes against real faults: ports rejected and dropped, echoes lost, routers with
//! a smaller MTU and routers that don't say so. All of it in network namespaces.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenlight::catalogue::Metric;
use greenlight::catalogue::probe::{ICMP_LOSS, ICMP_RTT, PATH_MTU, TCP_CONNECT};
use greenlight::client::Clients;
use greenlight::outcome::Reading;
use greenlight::probe::icmp::{self, Icmp};
use greenlight::probe::path_mtu::{self, PathMtu};
use greenlight::probe::tcp::{self, Tcp};
use greenlight::probe::{Attempt, Probe};
use greenlight::spec::trace::Trace;
use greenlight::spec::units::{Period, Share};
use greenlight::spec::{Diagnostics, Sources, yaml};

use crate::netns::{FAR, Netns, ROUTER, Routed, WIRE_FAR, at, wire};

/// What one attempt came to: the word or the code, the text, and the values of a series.
#[derive(Debug)]
struct Seen {
    code: &'static str,
    text: String,
    reading: Reading,
    notes: Vec<String>,
}

impl Seen {
    fn values(&self, metric: &'static Metric) -> Vec<f64> {
        self.reading.samples.iter().filter(|s| s.metric == metric).map(|s| s.value).collect()
    }

    /// Fails with everything that is known where the code is another one.
    #[track_caller]
    fn is(&self, code: &str) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        assert!(self.text.contains(words), "no {words:?} in {self:#?}");
        self
    }
}

async fn attempt<P: Probe>(spec: P::Spec, target: &str, timeout: Duration) -> Seen {
    let target: Arc<str> = target.into();
    let (clients, trace) = (Clients::default(), Trace::on());
    let probe = P::new(spec).unwrap();
    probe.target(&target).unwrap();
    let on = Attempt { target: &target, timeout, clients: &clients, trace: &trace };
    // As the runner does it: an attempt that overruns its time is a mistake of the probe.
    let reading = tokio::time::timeout(timeout, probe.attempt(on))
        .await
        .unwrap_or_else(|_| panic!("{} on {target} overran {timeout:?}", P::KIND));
    let (code, text) = reading.outcome.why().unwrap_or((reading.outcome.word(), ""));
    let notes = trace.take().into_iter().map(|(_, note)| note).collect();
    Seen { code, text: text.to_owned(), reading, notes }
}

/// As a plan writes them: the canonical spec, or where and why it is refused.
#[test]
fn network_specs_are_read_as_they_are_written() {
    let read = |kind: &str, text: &str| {
        let mut sources = Sources::default();
        let source = sources.add("plan.yaml", text);
        let mut diagnostics = Diagnostics::new();
        let node = yaml::parse(source, text, &mut diagnostics).expect("valid YAML");
        let entries = greenlight::probe::kinds();
        let entry = entries.iter().find(|entry| entry.kind == kind).expect("a kind");
        match (entry.compile)(&node, &mut diagnostics) {
            Some((_, spec)) if diagnostics.is_empty() => spec.to_string(),
            _ => diagnostics.render(&sources, false),
        }
    };
    let written = [
        ("tcp", "{}", r#"{"expect":"open","source":null}"#),
        ("tcp", "{expect: closed, source: 10.0.0.1}", r#"{"expect":"closed","source":"10.0.0.1"}"#),
        ("icmp", "{}", r#"{"count":5,"interval":"200ms","max_loss":null,"size":56}"#),
        (
            "icmp",
            "{count: 20, size: 1400, interval: 50ms, max_loss: 10%}",
            r#"{"count":20,"interval":"50ms","max_loss":"10%","size":1400}"#,
        ),
        ("path_mtu", "{expect: 9000}", r#"{"exact":false,"expect":9000,"port":null}"#),
        (
            "path_mtu",
            "{expect: 1500, exact: true, port: 7}",
            r#"{"exact":true,"expect":1500,"port":7}"#,
        ),
    ];
    for (kind, text, spec) in written {
        assert_eq!(read(kind, text), spec, "{kind}: {text}");
    }
    let refused = [
        ("tcp", "{expect: opened}", "open"),
        ("tcp", "{source: here}", "source"),
        ("icmp", "{count: 1001}", "count is 1 to 1000, got 1001"),
        ("icmp", "{interval: 5}", "interval"),
        ("icmp", "{cuont: 3}", "count"),
        ("path_mtu", "{}", "expect"),
        ("path_mtu", "{expect: 67}", "expect is the size of an IP packet in bytes, 68 to 65535"),
        ("path_mtu", "{expect: 1500, port: 0}", "port 0"),
    ];
    for (kind, text, words) in refused {
        let said = read(kind, text);
        assert!(said.starts_with("plan.yaml:1:"), "{kind}: {text}: {said}");
        assert!(said.contains(words), "{kind}: {text}: {said}");
    }
}

fn open(from: &Netns, target: String, timeout: Duration) -> Seen {
    from.run(|| async move { attempt::<Tcp>(tcp::Spec::default(), &target, timeout).await })
}

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(5);

#[test]
fn tcp_open_refused_filtered_and_unreachable_are_told_apart() {
    let net = Routed::new(1500, 1500);
    net.far.filter(
        "input",
        "tcp dport 81 reject with tcp reset; tcp dport 82 drop; \
         tcp dport 83 reject with icmpx type admin-prohibited",
    );
    net.router.filter("forward", "tcp dport 84 reject with icmpx type admin-prohibited");
    for (version, far) in FAR.into_iter().enumerate() {
        let listener = net.far.listen(at(far, 80));
        let port = |port| at(far, port).to_string();
        let opened = open(&net.near, port(80), LONG);
        opened.is("success");
        assert_eq!(opened.values(&TCP_CONNECT).len(), 1);
        drop(listener);
        open(&net.near, port(80), LONG).is("refused").says("the peer refused it (reset)");
        open(&net.near, port(81), LONG).is("refused");
        let dropped = open(&net.near, port(82), SHORT);
        dropped.is("filtered").says("no answer within 900");
        assert!(dropped.reading.samples.is_empty(), "what was not measured is no sample");
        open(&net.near, port(83), LONG).is("unreachable").says("prohibited by a filter").says(far);
        open(&net.near, port(84), LONG)
            .is("unreachable")
            .says("prohibited by a filter")
            .says(ROUTER[version]);
    }
    // Green again.
    net.far.flush();
    let listener = net.far.listen(at(FAR[0], 82));
    open(&net.near, format!("{}:82", FAR[0]), LONG).is("success");
    drop(listener);
}

#[test]
fn tcp_expectations_turn_the_verdict() {
    let net = Routed::new(1500, 1500);
    net.far
        .filter("input", "tcp dport 82 drop; tcp dport 83 reject with icmpx type admin-prohibited");
    let listener = net.far.listen(at(FAR[0], 80));
    let expecting = |expect, port| {
        let spec = tcp::Spec { expect, source: None };
        let target = format!("{}:{port}", FAR[0]);
        net.near.run(|| async move { attempt::<Tcp>(spec, &target, SHORT).await })
    };
    use tcp::Expect::{Closed, Filtered, Open};
    let table = [
        (Open, 80, "success"),
        (Open, 79, "refused"),
        (Open, 82, "filtered"),
        (Closed, 80, "value_mismatch"),
        (Closed, 79, "success"),
        (Closed, 82, "filtered"),
        (Filtered, 80, "value_mismatch"),
        (Filtered, 79, "refused"),
        (Filtered, 82, "success"),
        (Filtered, 83, "success"),
    ];
    for (expect, port, code) in table {
        expecting(expect, port).is(code);
    }
    drop(listener);
}

#[test]
fn tcp_to_a_host_that_is_not_there_is_unreachable() {
    let net = Routed::new(1500, 1500);
    // Neighbour discovery gives up after three seconds: by the router, and by this node itself.
    std::thread::scope(|scope| {
        for (target, words) in [
            ("10.80.2.77:80", "icmp 3/1 (host unreachable) from 10.80.1.254"),
            ("[fd80:2::77]:80", "icmpv6 1/3 (host unreachable) from fd80:1::fe"),
            ("10.80.1.77:80", "no host answers for this address on the local link"),
            ("[fd80:1::77]:80", "no host answers for this address on the local link"),
        ] {
            let near = &net.near;
            scope.spawn(move || open(near, target.into(), LONG).is("unreachable").says(words).code);
        }
    });
}

#[test]
fn tcp_to_a_net_without_a_route_is_unreachable() {
    let net = Routed::new(1500, 1500);
    net.router.sh("ip route add unreachable 10.99.0.0/16; ip route add prohibit 10.98.0.0/16");
    open(&net.near, "10.99.0.1:80".into(), LONG).is("unreachable").says("10.80.1.254");
    open(&net.near, "10.98.0.1:80".into(), LONG).is("unreachable").says("prohibited by a filter");
}

#[test]
fn tcp_our_own_faults_are_inconclusive() {
    let alone = Netns::new();
    for target in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        open(&alone, target.into(), LONG).is("local_network").says("no interface of this node");
    }
    let (near, _far) = wire(1500, 1500);
    near.sh("ip route add prohibit 192.0.2.0/24; ip route add unreachable 198.51.100.0/24");
    open(&near, "192.0.2.1:80".into(), LONG).is("permission").says("packet filter");
    open(&near, "198.51.100.1:80".into(), LONG).is("unreachable").says("ip route get");
    open(&near, "203.0.113.1:80".into(), LONG).is("unreachable");
    // No port is left: one port in the range, and it is taken.
    near.sh("echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range");
    let taken = near.listen(at("0.0.0.0", 40_000));
    open(&near, format!("{}:80", WIRE_FAR[0]), LONG).is("exhausted").says("ip_local_port_range");
    drop(taken);
}

/// With one ephemeral port the kernel has to choose the target's own: the socket meets itself.
#[test]
fn tcp_a_socket_that_meets_itself_is_no_open_port() {
    let alone = Netns::new();
    alone.sh("echo '40000 40000' > /proc/sys/net/ipv4/ip_local_port_range");
    open(&alone, "127.0.0.1:40000".into(), LONG).is("refused").says("the socket met itself");
}

fn echoes(count: u32) -> icmp::Spec {
    icmp::Spec { count, interval: Period(Duration::from_millis(5)), ..icmp::Spec::default() }
}

/// Both versions of IP at once, for tests that mostly wait.
fn both_versions(test: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for version in [0, 1] {
            let test = &test;
            scope.spawn(move || test(version));
        }
    });
}

#[test]
fn icmp_loss_is_what_the_filter_drops() {
    both_versions(icmp_loss);
}

fn icmp_loss(version: usize) {
    let net = Routed::new(1500, 1500);
    let ping = |spec, target: &'static str| {
        net.near.run(move || async move { attempt::<Icmp>(spec, target, LONG).await })
    };
    let far = FAR[version];
    let echo = ["icmp type echo-request", "icmpv6 type echo-request"][version];
    let well = ping(echoes(100), far);
    assert_eq!(well.is("success").values(&ICMP_LOSS), [0.0]);
    assert_eq!(well.values(&ICMP_RTT).len(), 100);

    // Every fifth, exactly.
    net.far.filter("input", &format!("{echo} numgen inc mod 5 == 0 drop"));
    let lossy = ping(echoes(100), far);
    assert_eq!(lossy.is("success").values(&ICMP_LOSS), [0.2]);
    assert_eq!(lossy.values(&ICMP_RTT).len(), 80);
    let limited = icmp::Spec { max_loss: Some(Share(0.1)), ..echoes(100) };
    ping(limited, far).is("packet_loss").says("answered 80 of 100");
    let tolerant = icmp::Spec { max_loss: Some(Share(0.2)), ..echoes(100) };
    ping(tolerant, far).is("success");
    net.far.flush();

    // At random: five standard deviations around 20 % of 400.
    net.far.filter("input", &format!("{echo} numgen random mod 100 < 20 drop"));
    let random = ping(echoes(400), far);
    let loss = random.is("success").values(&ICMP_LOSS);
    assert!((0.10..=0.30).contains(&loss[0]), "{loss:?}");
    net.far.flush();

    net.far.filter("input", &format!("{echo} drop"));
    let silent = ping(echoes(10), far);
    silent.is("packet_loss").says("none of 10 echoes");
    assert_eq!(silent.values(&ICMP_LOSS), [1.0]);
    assert!(silent.values(&ICMP_RTT).is_empty());
    net.far.flush();
    ping(echoes(10), far).is("success");
}

#[test]
fn icmp_unreachable_and_our_own_faults() {
    let net = Routed::new(1500, 1500);
    let ping = |from: &Netns, target: &'static str| {
        from.run(move || async move { attempt::<Icmp>(echoes(5), target, Icmp::TIMEOUT).await })
    };
    net.router.sh("ip route add unreachable 10.99.0.0/16; ip -6 route add unreachable fd99::/16");
    ping(&net.near, "10.99.0.1").is("unreachable").says("10.80.1.254");
    ping(&net.near, "fd99::1").is("unreachable").says("fd80:1::fe");
    ping(&net.near, "10.80.2.77").is("unreachable").says("host unreachable");
    net.near.filter("output", "icmp type echo-request drop");
    ping(&net.near, FAR[0]).is("permission").says("packet filter");
    ping(&Netns::new(), "192.0.2.1").is("local_network").says("no interface of this node");
}

/// The raw socket, where the group range is closed and the capability is there.
#[test]
fn icmp_and_path_mtu_fall_back_to_raw_sockets() {
    let net = Routed::new(1500, 1400);
    net.near.sh("echo '1 0' > /proc/sys/net/ipv4/ping_group_range");
    net.router.sh("ip route add unreachable 10.99.0.0/16; ip -6 route add unreachable fd99::/16");
    for (version, far) in FAR.into_iter().enumerate() {
        let pinged = net.near.run(|| attempt::<Icmp>(echoes(20), far, LONG));
        assert_eq!(pinged.is("success").values(&ICMP_LOSS), [0.0]);
        assert!(pinged.notes[0].starts_with("raw socket"), "{:?}", pinged.notes);
        let gone = ["10.99.0.1", "fd99::1"][version];
        net.near.run(|| attempt::<Icmp>(echoes(3), gone, LONG)).is("unreachable");
        mtu(&net.near, far, expecting(1400)).is("success");
        mtu(&net.near, far, expecting(1500)).is("mtu_too_small").says(ROUTER[version]);
    }
}

fn expecting(expect: u32) -> path_mtu::Spec {
    path_mtu::Spec { expect, exact: false, port: None }
}

fn mtu(from: &Netns, target: &'static str, spec: path_mtu::Spec) -> Seen {
    from.run(move || attempt::<PathMtu>(spec, target, PathMtu::TIMEOUT))
}

#[test]
fn path_mtu_a_router_that_says_what_it_takes() {
    let net = Routed::new(9000, 1400);
    for (far, router) in FAR.into_iter().zip(ROUTER) {
        let right = mtu(&net.near, far, expecting(1400));
        assert_eq!(right.is("success").values(&PATH_MTU), [1400.0]);
        mtu(&net.near, far, path_mtu::Spec { exact: true, ..expecting(1400) }).is("success");
        let began = Instant::now();
        let small = mtu(&net.near, far, expecting(9000));
        small.is("mtu_too_small").says("carries 1400 bytes, not the expected 9000");
        small.says(&format!("router {router} says that its next hop takes 1400"));
        assert_eq!(small.values(&PATH_MTU), [1400.0]);
        assert!(began.elapsed() < Duration::from_secs(1), "a router that answers costs no waiting");
        mtu(&net.near, far, expecting(1401)).is("mtu_too_small");
        // Beyond this node's own interface.
        mtu(&net.near, far, expecting(9001)).is("mtu_too_small").says("own interface takes 9000");

        // More than expected is no failure, unless it has to be exact.
        let more = mtu(&net.near, far, expecting(1300));
        assert_eq!(more.is("success").values(&PATH_MTU), [1400.0]);
        let exact = mtu(&net.near, far, path_mtu::Spec { exact: true, ..expecting(1300) });
        exact.is("mtu_too_large").says("carries 1400 bytes, 100 more than the expected 1300");
    }
    // A repaired path is green at once: the route cache is not asked.
    net.router.sh("ip link set right mtu 9000");
    net.far.sh("ip link set e0 mtu 9000");
    for far in FAR {
        mtu(&net.near, far, expecting(9000)).is("success");
    }
}

#[test]
fn path_mtu_a_router_that_swallows_the_answer_is_a_black_hole() {
    both_versions(|version| {
        let net = Routed::new(9000, 1300);
        let far = FAR[version];
        net.router.filter(
            "output",
            "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop",
        );
        for expect in [1500, 9000] {
            let began = Instant::now();
            let hole = mtu(&net.near, far, expecting(expect));
            hole.is("mtu_black_hole").says("1300 bytes pass").says("no router says why");
            assert_eq!(hole.values(&PATH_MTU), [1300.0]);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(6), "{took:?}: tracepath needs 87 s, and is wrong");
        }
        mtu(&net.near, far, expecting(1300)).is("success");
        net.router.flush();
        mtu(&net.near, far, expecting(1500)).is("mtu_too_small");
    });
}

/// A virtual link lets four bytes more through than it is set to (room for a VLAN tag), and drops
/// what is larger without a word.
#[test]
fn path_mtu_slack_of_a_link_passes_unless_exact() {
    both_versions(|version| {
        let (near, _far) = wire(9000, 1400);
        let far = WIRE_FAR[version];
        let began = Instant::now();
        let slack = mtu(&near, far, expecting(1400));
        assert_eq!(slack.is("success").values(&PATH_MTU), [1404.0]);
        assert!(began.elapsed() < Duration::from_secs(2), "slack is no reason to search for long");
        let exact = mtu(&near, far, path_mtu::Spec { exact: true, ..expecting(1400) });
        exact.is("mtu_too_large").says("carries 1404 bytes, 4 more");
        let hole = mtu(&near, far, expecting(1500));
        assert_eq!(hole.is("mtu_black_hole").values(&PATH_MTU), [1404.0]);
    });
}

#[test]
fn path_mtu_a_target_that_is_silent_says_nothing_of_its_mtu() {
    let net = Routed::new(1500, 1500);
    net.router.sh("ip route add unreachable 10.99.0.0/16");
    net.far.filter("input", "icmp type echo-request drop");
    mtu(&net.near, FAR[0], expecting(1500)).is("timeout").says("nothing is known of its MTU");
    mtu(&net.near, FAR[1], expecting(1500)).is("success");
    mtu(&net.near, "10.99.0.1", expecting(1500)).is("unreachable").says(ROUTER[0]);
    mtu(&Netns::new(), "192.0.2.1", expecting(1500)).is("local_network");
}

/// One lost packet is no black hole.
#[test]
fn path_mtu_on_a_lossy_path_stays_green() {
    let net = Routed::new(1500, 1500);
    net.far.filter("input", "icmp type echo-request numgen inc mod 2 == 0 drop");
    mtu(&net.near, FAR[0], expecting(1500)).is("success");
    net.far.flush();
    net.far.filter("input", "icmp type echo-request numgen random mod 100 < 20 drop");
    for _ in 0..5 {
        mtu(&net.near, FAR[0], expecting(1500)).is("success");
    }
}

/// Sends back what comes, until it is dropped.
fn echo_service(socket: UdpSocket) -> impl FnOnce() {
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

#[test]
fn path_mtu_over_udp_needs_no_right() {
    let net = Routed::new(1500, 1400);
    let udp = |expect, port| path_mtu::Spec { expect, exact: false, port: Some(port) };
    net.near.sh("echo '1 0' > /proc/sys/net/ipv4/ping_group_range");
    let nobody = |far: &'static str, spec| {
        net.near.run_as_nobody(move || attempt::<PathMtu>(spec, far, PathMtu::TIMEOUT))
    };
    for (far, router) in FAR.into_iter().zip(ROUTER) {
        // A closed port answers too; the target's "port unreachable" proves that it arrived.
        let closed = nobody(far, udp(1400, 33_434));
        assert_eq!(closed.is("success").values(&PATH_MTU), [1400.0]);
        nobody(far, udp(1500, 33_434)).is("mtu_too_small").says(router).says("takes 1400");
        std::thread::scope(|scope| {
            scope.spawn(echo_service(net.far.udp(at(far, 7))));
            nobody(far, udp(1400, 7)).is("success");
            nobody(far, udp(1500, 7)).is("mtu_too_small").says("carries 1400 bytes");
            net.router.filter(
                "output",
                "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop",
            );
            let hole = nobody(far, udp(1500, 7));
            assert_eq!(hole.is("mtu_black_hole").values(&PATH_MTU), [1400.0]);
            net.router.flush();
        });
        // A filter's answer is not the target's.
        net.router.filter("forward", "udp dport 33434 reject with icmpx type port-unreachable");
        nobody(far, udp(1400, 33_434)).is("unreachable").says("port unreachable");
        net.router.flush();
    }
}

#[test]
fn icmp_and_path_mtu_without_any_right_of_their_own() {
    let net = Routed::new(1500, 1400);
    let ping =
        |far: &'static str| net.near.run_as_nobody(move || attempt::<Icmp>(echoes(10), far, LONG));
    let sized = |far: &'static str, expect| {
        net.near.run_as_nobody(move || attempt::<PathMtu>(expecting(expect), far, PathMtu::TIMEOUT))
    };
    for (far, router) in FAR.into_iter().zip(ROUTER) {
        let pinged = ping(far);
        assert_eq!(pinged.is("success").values(&ICMP_LOSS), [0.0]);
        assert!(pinged.notes[0].starts_with("datagram socket"), "{:?}", pinged.notes);
        sized(far, 1400).is("success");
        sized(far, 1500).is("mtu_too_small").says(router).says("takes 1400");
    }
    // Neither the group nor the capability: not measured, and the way out is named.
    net.near.sh("echo '1 0' > /proc/sys/net/ipv4/ping_group_range");
    for far in FAR {
        for seen in [ping(far), sized(far, 1400)] {
            seen.is("permission").says("net.ipv4.ping_group_range").says("CAP_NET_RAW");
            assert_eq!(seen.reading.outcome.word(), "inconclusive");
        }
    }
    // A port needs neither.
    let listener = net.far.listen(at(FAR[0], 80));
    let target = format!("{}:80", FAR[0]);
    net.near
        .run_as_nobody(|| async { attempt::<Tcp>(tcp::Spec::default(), &target, LONG).await })
        .is("success");
    drop(listener);
}

/// A filter of this node that answers is our own fault, and no verdict on the target.
#[test]
fn what_this_node_itself_prohibits_is_inconclusive() {
    let (near, far) = wire(1500, 1500);
    near.filter(
        "output",
        "tcp dport 80 reject with icmpx type admin-prohibited; \
         icmp type echo-request meta length > 1000 reject with icmpx type admin-prohibited; \
         icmpv6 type echo-request meta length > 1000 reject with icmpx type admin-prohibited",
    );
    for address in WIRE_FAR {
        let listener = far.listen(at(address, 80));
        open(&near, at(address, 80).to_string(), LONG).is("permission").says("own packet filter");
        drop(listener);
        mtu(&near, address, expecting(1500)).is("permission").says("own packet filter");
    }
}
