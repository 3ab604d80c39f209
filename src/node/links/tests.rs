use super::*;
use crate::node::tests::{Copy, fixture, mangled};
use crate::node::{Frame, Sampler, Signal, TICK};
use crate::time::Now;

fn sampler(copy: &Copy) -> Sampler {
    let cells = Cells::new();
    Sampler::with(vec![Box::new(Source::new(&copy.paths(), &cells))], &cells)
}

fn gauge(frame: &Frame, metric: &str, interface: &str) -> Option<f64> {
    frame.iter().find_map(|(def, signal)| match signal {
        Signal::Number(value) if def.metric.name == metric && &*def.labels[0] == interface => {
            Some(value)
        }
        _ => None,
    })
}

fn shown(frame: &Frame) -> Vec<String> {
    let of = |def: &crate::node::SlotDef| def.metric.series == Some("node.link.drops");
    let links = frame.iter().filter(|(def, _)| of(def));
    links.map(|(def, _)| def.instance().unwrap().to_string()).collect()
}

#[test]
fn lines_of_net_dev() {
    let (name, [receive, transmit]) =
        parse(b"  eth0:366063766   13256    1    2    0     0          0         0   737986    7505    3    4    0     0       0          0").unwrap();
    assert_eq!(name, b"eth0");
    let of = |bytes, packets, errors, drops| Direction { bytes, packets, errors, drops };
    assert_eq!(receive, of(366_063_766, 13_256, 1, 2));
    assert_eq!(transmit, of(737_986, 7505, 3, 4));
    for line in ["", "eth0", "eth0:", "eth0: 1 2 3", ":1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"] {
        assert_eq!(parse(line.as_bytes()), None, "{line:?}");
    }
    let text = fixture("idle/proc/net/dev");
    assert_eq!(lines(&text).filter_map(parse).count(), 4, "headings are no interfaces");
    mangled("net/dev", &text, |text| {
        for (name, _) in lines(text).filter_map(parse) {
            assert!(!name.is_empty());
        }
    });
}

#[test]
fn few_drops_and_a_small_share_of_them_are_not_lost() {
    let of = |packets, drops| Direction { packets, drops, ..Direction::default() };
    let within = |seconds, packets: u64, drops: u64| {
        lost(Step { seconds }, &of(700, 70), &of(700 + packets, 70 + drops))
    };
    assert_eq!(within(Some(1.0), 10, 3), 0, "three of ten");
    assert_eq!(within(Some(1.0), 1_000_000, 1_000), 0, "a thousand of a million");
    assert_eq!(within(Some(1.0), 1_000_000, 6_000), 6_000);
    assert_eq!(within(Some(1.0), 1_000, 10), 10);
    assert_eq!(within(Some(2.0), 1_000, 19), 0, "fewer than ten in a second");
    assert_eq!(within(Some(1.0), 0, 50), 50, "no packet found a place");
    assert_eq!(within(None, 0, 50), 0, "nobody knows in how long");
    // The counters began anew.
    assert_eq!(lost(Step { seconds: Some(1.0) }, &of(9, 9), &of(900, 2)), 0);

    // One direction's packets say nothing of the other's; what was lost adds up.
    let folder = Path::new("/nonexistent");
    let mut link = Source::known(folder, b"eth0", None, true);
    for second in 0..4u64 {
        let (busy, broken) = (of(second * 1_000_000, 0), of(second * 100, second * 20));
        link.carry(Mono::from_secs(second.cast_signed()), [busy, broken]);
    }
    assert_eq!(link.lost, 60);
}

#[test]
fn carrier_speed_and_mtu_come_from_sysfs() {
    let copy = Copy::of("idle");
    let mut sampler = sampler(&copy);
    let mut frame = Frame::default();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    // What does not change is read by a cell, in its own time.
    let there = |frame: &Frame| {
        let of = |what: &str, interface| gauge(frame, what, interface).is_some();
        of("greenlight_node_network_mtu_bytes", "eth0")
            && of("greenlight_node_network_speed_bytes", "eth0")
            && of("greenlight_node_network_carrier", "veth1")
    };
    while !there(&frame) {
        assert!(std::time::Instant::now() < until, "sysfs was never read");
        sampler.sample(Now { mono: Mono::now(), ..Now::default() }, &mut frame);
        std::thread::sleep(Duration::from_millis(5));
    }
    let gauge = |metric: &str, interface| gauge(&frame, metric, interface);
    assert_eq!(gauge("greenlight_node_network_mtu_bytes", "eth0"), Some(1500.0));
    assert_eq!(gauge("greenlight_node_network_speed_bytes", "eth0"), Some(1.25e9));
    assert_eq!(gauge("greenlight_node_network_carrier", "veth1"), Some(1.0));
    // -1 is how sysfs says that it does not know.
    assert_eq!(gauge("greenlight_node_network_speed_bytes", "veth1"), None);
    assert_eq!(
        shown(&frame),
        ["eth0", "bond0"],
        "the loopback and a container's end are not judged"
    );
}

#[test]
fn attributes_that_grow_old_are_absent() {
    let copy = Copy::of("idle");
    let mut sampler = sampler(&copy);
    let mut frame = Frame::default();
    let now = Mono::now();
    for tick in 0..5 {
        sampler.sample(Now { mono: now.plus(TICK * tick), ..Now::default() }, &mut frame);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gauge(&frame, "greenlight_node_network_mtu_bytes", "eth0").is_some());
    // A minute later by the tick's clock, with the last answer a minute old.
    let later = now.plus(Duration::from_secs(60));
    sampler.sample(Now { mono: later, ..Now::default() }, &mut frame);
    let (_, mtu) = frame
        .iter()
        .find(|(def, _)| def.metric.name == "greenlight_node_network_mtu_bytes")
        .unwrap();
    assert!(matches!(mtu, Signal::Absent(fault) if fault.code == FaultCode::Hung), "{mtu:?}");
    assert!(matches!(frame.find("node.link.drops", Some("eth0")), Some(Signal::Number(_))));
}

#[test]
fn real_interfaces_come_first_where_there_are_too_many() {
    let copy = Copy::of("idle");
    let line = |name: &str| format!("{name}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
    let mut text: String = (0..200).map(|n| line(&format!("veth{n}"))).collect();
    text.push_str(&line("flannel.1"));
    text.push_str(&line("eth0"));
    text.push_str(&line("lo"));
    copy.write("proc/net/dev", text);
    let mut source = Source::new(&copy.paths(), &Cells::new());
    let mut tick = Tick {
        at: Mono::from_secs(1),
        buffer: Vec::new(),
        cpus: 1,
        mounted: crate::node::filesystems::Mounted::default(),
        ..Tick::default()
    };
    assert!(crate::node::Source::read(&mut source, &mut tick));
    let shown: Vec<_> = source.links.iter().filter(|link| link.shown).collect();
    assert_eq!(shown.len(), LINKS_LIMIT);
    for name in ["eth0", "flannel.1"] {
        assert!(shown.iter().any(|link| &*link.name == name), "{name}");
    }
    assert_eq!(source.over, 200 + 2 - LINKS_LIMIT);

    // A hundred devices are judged each by its name, and of more than are looked at nothing is known.
    let mut frame = Frame::default();
    let mut write = |count: usize| {
        let name = |n| format!("vf{n}");
        for n in 0..count {
            let folder = copy.paths().sysfs.join("class/net").join(name(n)).join("device");
            std::fs::create_dir_all(folder).unwrap();
        }
        let lines: String = (0..count).map(|n| line(&name(n))).collect();
        copy.write("proc/net/dev", lines + &line("lo"));
        sampler(&copy).sample(Now::default(), &mut frame);
        (self::shown(&frame).len(), frame.find("node.link.lost", Some("more")).is_some())
    };
    assert_eq!(write(100), (100, false));
    assert_eq!(write(DEVICES_LIMIT + 1), (DEVICES_LIMIT + 1, true));
    assert!(matches!(frame.find("node.link.lost", Some("more")), Some(Signal::Absent(_))));
}

/// The host's end of a container's wire may be called anything: by OVN-Kubernetes, fifteen digits.
#[test]
fn the_hosts_end_of_a_containers_wire_is_not_judged() {
    let folder = Path::new("/nonexistent");
    let judged = |reaches_out, machine| {
        let told = Told { make: Make::Veth, reaches_out, ..Told::default() };
        Source::known(folder, b"4f0e8c21d7a9b35", Some(&told), machine).judged()
    };
    assert!(!judged(true, true));
    // In a container it is the only wire; and one between two ends of the host is its own.
    assert!(judged(true, false) && judged(false, true));
}

#[test]
fn speed_is_asked_for_anew_once_a_carrier_came_and_else_rarely() {
    let copy = Copy::of("idle");
    let cells = Cells::new();
    let mut source = Source::new(&copy.paths(), &cells);
    assert_eq!(source.every(), ATTRIBUTES_EVERY);
    source.way = Way::Netlink(rtnl::Line::new(&cells));
    assert_eq!(source.every(), SPEED_EVERY);

    let mut link = Source::known(&copy.paths().sysfs.join("class/net"), b"eth0", None, false);
    let detail = |carrier: f64, changes| Detail {
        carrier: Some(carrier),
        carrier_changes: Some(changes),
        up: Some(carrier > 0.0),
        ..Detail::default()
    };
    assert!(!link.learn(detail(1.0, 2)), "nobody wants to know of one that is not shown");
    link.shown = true;
    assert!(!link.learn(Detail { missed: Some(7), ..detail(1.0, 2) }), "it only counts on");
    assert!(link.learn(detail(0.0, 3)), "its carrier is gone");
    assert!(link.learn(detail(1.0, 4)), "and came back");
    assert!(link.learn(detail(1.0, 6)), "both between two answers");
    assert!(!link.learn(detail(1.0, 6)));
}
