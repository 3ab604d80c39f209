//! What the packs for products ask of a running node besides its settings: that the product
//! answers, that its disk writes through quickly, and that its data has room.

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::Agent;
use crate::contract::web;
use crate::machine::{Disk, Tmpfs};

/// A port that is listened on until it is closed, and then again.
struct Port(u16, Option<TcpListener>);

impl Port {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self(listener.local_addr().unwrap().port(), Some(listener))
    }

    fn close(&mut self) {
        self.1 = None;
    }

    fn open(&mut self) {
        self.1 = Some(TcpListener::bind(("127.0.0.1", self.0)).unwrap());
    }
}

/// Fills a small filesystem until the gate is red, and empties it again.
fn filled(agent: &Agent, gate: &str, tmpfs: &Tmpfs) {
    agent.green(&[gate]);
    let _ = fs::write(tmpfs.path().join("full"), vec![1; 8 << 20]);
    agent.red(gate, Some(&tmpfs.name()));
    fs::remove_file(tmpfs.path().join("full")).unwrap();
    agent.green(&[gate]);
}

#[test]
fn a_kubernetes_nodes_own_gates_turn_red_and_green_again() {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let health = web(move |_| (told.load(Ordering::Relaxed), "ok".into()));
    let mut port = Port::new();
    let tmpfs = Tmpfs::new("size=8m,nr_inodes=200");
    let agent = Agent::start(
        "include: [ 'pack:kubernetes-node' ]",
        &[
            "kubernetes_every=200ms",
            "kubernetes_window=3s",
            &format!("kubernetes_kubelet=127.0.0.1:{}", port.0),
            &format!("kubernetes_kubelet_health=http://{health}/kubelet"),
            &format!("kubernetes_proxy_health=http://{health}/proxy"),
            &format!("kubernetes_nodefs={}", tmpfs.name()),
            &format!("kubernetes_imagefs={}", tmpfs.name()),
        ],
        &[],
    );
    let gates = ["kubernetes.kubelet", "kubernetes.proxy"];
    agent.green(&gates);
    port.close();
    agent.red("kubernetes.kubelet", Some(&format!("127.0.0.1:{}", port.0)));
    port.open();
    agent.green(&gates);
    status.store(500, Ordering::Relaxed);
    agent.red("kubernetes.kubelet", Some(&format!("http://{health}/kubelet")));
    agent.red("kubernetes.proxy", None);
    status.store(200, Ordering::Relaxed);
    agent.green(&gates);

    filled(&agent, "kubernetes.disks", &tmpfs);
    for n in 0..200 {
        let _ = fs::write(tmpfs.path().join(n.to_string()), "");
    }
    agent.red("kubernetes.disks", Some(&tmpfs.name()));
}

#[test]
fn a_databases_and_a_logs_own_gates_turn_red_and_green_again() {
    let disks = [Disk::faulty().mounted(), Disk::faulty().mounted()];
    let tmpfs = Tmpfs::new("size=8m");
    let mut port = Port::new();
    let mut vars = Vec::new();
    for (own, disk) in ["database", "log"].iter().zip(&disks) {
        vars.extend([
            format!("{own}_address=127.0.0.1:{}", port.0),
            format!("{own}_every=200ms"),
            format!("{own}_window=3s"),
            format!("{own}_mount={}", tmpfs.name()),
            format!("{own}_data={}", disk.data().display()),
            format!("{own}_sync_exclusive=true"),
            format!("{own}_sync_every=10s"),
            format!("{own}_sync_window=30s"),
            format!("{own}_sync_samples=3"),
            // Other tests keep the machine busy, and a disk of processes with it.
            format!("{own}_sync_most=300ms"),
        ]);
    }
    let vars: Vec<&str> = vars.iter().map(String::as_str).collect();
    let agent = Agent::start("include: [ 'pack:database-node', 'pack:log-node' ]", &vars, &[]);

    let ports = ["database.port", "log.port"];
    agent.green(&ports);
    port.close();
    for gate in ports {
        agent.red(gate, Some(&format!("127.0.0.1:{}", port.0)));
    }
    port.open();
    agent.green(&ports);

    for gate in ["database.room", "log.room"] {
        filled(&agent, gate, &tmpfs);
    }

    let syncs = ["database.sync", "log.sync"];
    agent.green(&syncs);
    for (gate, disk) in syncs.iter().zip(&disks) {
        // Bits a second: a block of 4 KiB takes half a second.
        fs::write(disk.path("rate"), "64k").unwrap();
        agent.red(gate, Some(&disk.data().display().to_string()));
        // Without the file the last rate would stay.
        fs::write(disk.path("rate"), "80G").unwrap();
    }
    agent.green(&syncs);
}
