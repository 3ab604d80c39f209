//! Accept queues and local ports in namespaces, by netlink, as `ss` sees them.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::faults::Inside;
use super::*;
use crate::machine::{Process, root, until};
use crate::netns::{Netns, at, wire};

/// The columns of each line that `ss` prints.
fn ss(namespace: &Netns, arguments: &str) -> Vec<Vec<String>> {
    let text = namespace.sh(&format!("ss -H {arguments}"));
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn a_full_accept_queue_is_what_ss_says_and_turns_its_gate_red() {
    root();
    let (near, far) = wire(1500, 1500);
    let inside = Inside::of(&far);
    far.run(|| async {
        let view = View::new(inside.id());
        assert_eq!(node::facts(&view.paths())["sockets"], "true");
        let mut watched = Watched::new(&view.paths(), &SCALED);
        let address = "10.80.1.2:7004";
        let listener = far.listen_with(address.parse().unwrap(), 4);
        let idle = far.listen(at("fd80:1::2", 7005));
        watched.until("node.tcp.accept-queue", Verdict::Pass);
        let streams: Vec<TcpStream> = (0..5).map(|_| near.connect(at("10.80.1.2", 7004))).collect();
        let finding = watched.until("node.tcp.accept-queue", Verdict::Fail);
        assert!(finding.value.is_some_and(|value| value > 0.9), "{finding:?}");
        watched.sample(real_now());
        assert_eq!(number(&watched.frame, "node.listen.queue", None), 1.0);
        let mut rows = 0;
        for row in ss(&far, "-ltn") {
            let [_, waiting, most, address, _] = &row[..] else { panic!("{row:?}") };
            for (metric, theirs) in [("connections", waiting), ("limit", most)] {
                let metric = format!("greenlight_node_listener_queue_{metric}");
                let ours = exported(&watched.frame, &metric, &[address]);
                assert_eq!(ours, theirs.parse::<f64>().unwrap(), "{metric} of {address}");
            }
            rows += 1;
        }
        assert_eq!(exported(&watched.frame, "greenlight_node_listeners", &[]), f64::from(rows));
        assert_eq!(rows, 2, "one that is full and one that is empty");
        let full =
            exported(&watched.frame, "greenlight_node_listener_queue_connections", &[address]);
        assert_eq!(full, 5.0);
        // Once they are accepted it is empty again.
        for _ in 0..5 {
            listener.accept().unwrap();
        }
        watched.until("node.tcp.accept-queue", Verdict::Pass);
        drop((streams, idle));
    });
}

#[test]
fn used_up_ports_are_what_ss_counts_and_turn_their_gate_red() {
    root();
    let (near, far) = wire(1500, 1500);
    // Fifty ports, of which ten are reserved.
    near.sh("echo 40000 40049 > /proc/sys/net/ipv4/ip_local_port_range
         echo 40005-40014 > /proc/sys/net/ipv4/ip_local_reserved_ports");
    let destination = at("10.80.1.2", 7006);
    let listeners = [far.listen(destination), far.listen(at("fd80:1::2", 7006))];
    let inside = Inside::of(&near);
    near.run(|| async {
        let view = View::new(inside.id());
        let connect = |count: usize| -> Vec<TcpStream> {
            (0..count).map(|_| near.connect(destination)).collect()
        };
        let six: Vec<TcpStream> = (0..7).map(|_| near.connect(at("fd80:1::2", 7006))).collect();
        // What is closed here first waits for a minute.
        let closed = connect(4);
        let accepted: Vec<_> = (0..4).map(|_| listeners[0].accept().unwrap()).collect();
        drop(closed);
        drop(accepted);
        let kept = connect(32);
        // They are counted at the first second, and then every thirty.
        let mut watched = Watched::new(&view.paths(), &SCALED);
        let finding = watched.until("node.tcp.ports", Verdict::Fail);
        assert_eq!(finding.value, Some(0.9));
        let counted = ss(&near, &format!("-tan dst {destination}")).len();
        assert_eq!(counted, 36);
        let waiting = ss(&near, &format!("-tn state time-wait dst {destination}")).len();
        assert_eq!(waiting, 4);
        let ours = ["used", "limit"].map(|what| {
            exported(&watched.frame, &format!("greenlight_node_local_ports_{what}"), &[])
        });
        assert_eq!(ours, [36.0, 40.0]);
        // A reset leaves nothing behind.
        for stream in kept.iter().chain(&six) {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop((kept, six));
        watched.until("node.tcp.ports", Verdict::Pass);
    });
}

/// Another user's process may not be looked into without CAP_SYS_PTRACE: then nobody is named.
#[test]
fn an_owner_that_may_not_be_seen_is_not_guessed() {
    root();
    let namespace = Netns::new();
    let script = "import socket, time\n\
        s = socket.create_server(('127.0.0.1', 7007))\n\
        time.sleep(600)";
    let arguments = ["netns", "exec", namespace.name(), "python3", "-c", script];
    let server = Process::start(Command::new("ip").args(arguments));
    until("the server listens", || !ss(&namespace, "-ltn").is_empty());
    let view = View::new(server.0.id());
    // The first process is there always; whatever it holds, it is not this.
    fs::create_dir(view.folder.path().join("1")).unwrap();
    let pid = server.0.id().to_string();
    let link = view.folder.path().join(&pid);
    std::os::unix::fs::symlink(Path::new("/proc").join(&pid), link).unwrap();
    let readable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(view.folder.path(), readable).unwrap();
    let listing = || Sampler::new(&view.paths(), &Cells::new()).sockets().listing(real_now());

    let seen = namespace.run(|| async { listing().unwrap() });
    let [row] = &seen.listeners[..] else { panic!("{seen:?}") };
    let owners: Vec<_> = row.owners.iter().map(|owner| (owner.pid, owner.name.as_str())).collect();
    assert_eq!(owners, [(server.0.id(), "python3")]);
    assert_eq!((row.address.as_str(), row.port, &row.reason), ("127.0.0.1", 7007, &None));

    let blind = namespace.run_as_nobody(|| async { listing().unwrap() });
    let [row] = &blind.listeners[..] else { panic!("{blind:?}") };
    assert!(row.owners.is_empty(), "{row:?}");
    let why = row.reason.as_ref().unwrap();
    assert_eq!(why.code, "permission");
    assert!(why.text.contains("CAP_SYS_PTRACE"), "{why:?}");
    assert_eq!((row.queue, row.queue_limit), (Some(0), seen.listeners[0].queue_limit));
    assert!(row.queue_limit.is_some_and(|limit| limit > 0), "{row:?}");
}

/// From another namespace than the one that is shown, nothing is told, and it is said why.
#[test]
fn sockets_of_another_namespace_are_not_told_as_those_of_the_node() {
    root();
    let namespace = Netns::new();
    let inside = Inside::of(&namespace);
    let view = View::new(inside.id());
    let mut watched = Watched::new(&view.paths(), &SCALED);
    for gate in ["node.tcp.accept-queue", "node.tcp.ports"] {
        watched.until(gate, Verdict::Error);
    }
    let found = watched.frame.find("node.listen.queue", None);
    let Some(Signal::Absent(fault)) = found else { panic!("{found:?}") };
    assert!(fault.text.contains("network namespace"), "{fault}");
    let refused = Sampler::new(&view.paths(), &Cells::new()).sockets().listing(real_now());
    assert_eq!(refused.unwrap_err().code.word(), "unsupported");
    // What a file of /proc/sys/net says is of whoever reads it.
    let found = watched.frame.find("node.settings.kernel", Some("net.ipv4.ip_forward"));
    let Some(Signal::Absent(fault)) = found else { panic!("{found:?}") };
    assert!(fault.text.contains("network namespace"), "{fault}");
}
