//! The network of the made-up node: its counters, and a fault for each gate over them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use greenlight::gate::Verdict;
use greenlight::node::Signal;

use super::{Counters as Node, Recorded};

/// As the kernel counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) missed: u64,
    pub(super) carrier_changes: u64,
    pub(super) half_duplex: bool,
    pub(super) slave_down: bool,
    pub(super) softnet_drops: u64,
    pub(super) squeezes: u64,
    pub(super) segments: u64,
    pub(super) again: u64,
    pub(super) opens: u64,
    pub(super) syn_again: u64,
    pub(super) timeouts: u64,
    /// Overflows, drops, request queues full.
    pub(super) listen: [u64; 3],
    /// Fragments that did not fit, that never came together, failed searches for the MTU.
    pub(super) ip: [u64; 3],
    /// Received and sent.
    pub(super) udp: [u64; 2],
    pub(super) orphans: u64,
    pub(super) pages: u64,
    pub(super) neighbours: u64,
    pub(super) conntrack: u64,
    pub(super) refused: u64,
    /// Drops, early drops, failed insertions.
    pub(super) untracked: [u64; 3],
}

/// A second in which hardly anything is sent, but much comes in, of which one in a thousand is dropped.
pub(super) fn idle(c: &mut Counters) {
    c.bytes += 20_000;
    c.packets += 1_000_000;
    c.segments += 40;
    c.opens += 1;
    c.squeezes += 1;
    (c.half_duplex, c.slave_down) = (false, false);
    (c.orphans, c.pages, c.neighbours, c.conntrack) = (1, 300, 4, 200);
}

type Fault = fn(&mut Node);

/// Each gate of the network, what turns it red, and of a gate with several parts the series that does.
pub(super) const FAULTS: [(&str, &str, Fault); 24] = [
    ("node.link.missed", "", |c| c.network.missed += 200),
    ("node.link.throughput", "", |c| c.network.bytes += 1_200_000_000),
    ("node.link.carrier", "", |c| c.network.carrier_changes += 1),
    ("node.softnet", "node.softnet.drops", |c| c.network.softnet_drops += 1),
    ("node.softnet", "node.softnet.squeezes", |c| c.network.squeezes += 2000),
    ("node.tcp.retransmits", "", |c| {
        c.network.segments += 1000;
        c.network.again += 60;
    }),
    ("node.tcp.connects", "", |c| c.network.syn_again += 3),
    ("node.tcp.timeouts", "", |c| c.network.timeouts += 3),
    ("node.tcp.listen", "node.listen.overflows", |c| c.network.listen[0] += 1),
    ("node.tcp.listen", "node.listen.drops", |c| c.network.listen[1] += 1),
    ("node.tcp.listen", "node.listen.request_queue_full", |c| c.network.listen[2] += 1),
    ("node.tcp.memory", "", |c| c.network.pages = 95_000),
    ("node.tcp.orphans", "", |c| c.network.orphans = 9000),
    ("node.ip.mtu", "node.ip.fragment_failures", |c| c.network.ip[0] += 1),
    ("node.ip.mtu", "node.ip.reassembly_failures", |c| c.network.ip[1] += 1),
    ("node.ip.mtu", "node.tcp.mtu_probe_failures", |c| c.network.ip[2] += 1),
    ("node.udp.buffers", "node.udp.receive_buffer_errors", |c| c.network.udp[0] += 200),
    ("node.udp.buffers", "node.udp.send_buffer_errors", |c| c.network.udp[1] += 200),
    ("node.neighbours", "node.neighbours.fill", |c| c.network.neighbours = 1000),
    ("node.neighbours", "node.neighbours.refused", |c| c.network.refused += 1),
    ("node.conntrack", "node.conntrack.fill", |c| c.network.conntrack = 250_000),
    ("node.conntrack", "node.conntrack.drops", |c| c.network.untracked[0] += 1),
    ("node.conntrack", "node.conntrack.early_drops", |c| c.network.untracked[1] += 1),
    ("node.conntrack", "node.conntrack.insert_failures", |c| c.network.untracked[2] += 200),
];

/// The gates that have tests here.
pub(super) const GATES: [&str; 16] = [
    "node.link.missed",
    "node.link.throughput",
    "node.link.carrier",
    "node.link.duplex",
    "node.link.bonds",
    "node.softnet",
    "node.tcp.retransmits",
    "node.tcp.connects",
    "node.tcp.timeouts",
    "node.tcp.listen",
    "node.tcp.memory",
    "node.tcp.orphans",
    "node.ip.mtu",
    "node.udp.buffers",
    "node.neighbours",
    "node.conntrack",
];

impl Counters {
    pub(super) fn net_dev(&self, errors: u64, drops: u64) -> String {
        let empty = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let (bytes, packets) = (self.bytes, self.packets);
        format!(
            "    lo: {empty}\n  eth0: {bytes} {packets} {errors} {drops} 0 0 0 0 9 9 0 0 0 0 0 0\n bond0: {empty}\n"
        )
    }

    pub(super) fn write(&self, root: &Path) {
        let put = |file: &str, text: String| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let link = |file: &str, text: String| put(&format!("sys/class/net/eth0/{file}"), text);
        link("statistics/rx_missed_errors", format!("{}\n", self.missed));
        link("carrier_changes", format!("{}\n", self.carrier_changes));
        link("duplex", if self.half_duplex { "half\n" } else { "full\n" }.into());
        let status = if self.slave_down { "down\n" } else { "up\n" };
        link("bonding_slave/mii_status", status.into());
        let two = |a, b| format!("00000009 {a:08x} {b:08x} 00000000\n00000009 00000000 00000000\n");
        put("proc/net/softnet_stat", two(self.softnet_drops, self.squeezes));
        let (segments, again, opens) = (self.segments, self.again, self.opens);
        let [fragments, reassembly, probes] = self.ip;
        let mut snmp = format!("Ip: ReasmFails FragFails\nIp: {reassembly} {fragments}\n");
        let _ = writeln!(
            snmp,
            "Tcp: ActiveOpens PassiveOpens OutSegs RetransSegs\nTcp: {opens} 5 {segments} {again}"
        );
        let [received, sent] = self.udp;
        let _ = writeln!(snmp, "Udp: RcvbufErrors SndbufErrors\nUdp: {received} {sent}");
        put("proc/net/snmp", snmp);
        let [overflows, dropped, full] = self.listen;
        put(
            "proc/net/netstat",
            format!(
                "TcpExt: ListenOverflows ListenDrops TCPReqQFullDrop TCPTimeouts TCPSynRetrans TCPMTUPFail\n\
                 TcpExt: {overflows} {dropped} {full} {} {} {probes}\n",
                self.timeouts, self.syn_again
            ),
        );
        let (orphans, pages) = (self.orphans, self.pages);
        put(
            "proc/net/sockstat",
            format!("sockets: used 44\nTCP: inuse 9 orphan {orphans} tw 2 alloc 9 mem {pages}\n"),
        );
        put("proc/sys/net/ipv4/tcp_mem", "48000\t64000\t96000\n".into());
        put("proc/sys/net/ipv4/tcp_max_orphans", "16384\n".into());
        let (neighbours, refused) = (self.neighbours, self.refused);
        let statistics = format!("entries table_fulls\n{neighbours:08x} {refused:08x}\n");
        put("proc/net/stat/arp_cache", statistics);
        put("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024\n".into());
        let (entries, [drops, early, failed]) = (self.conntrack, self.untracked);
        put(
            "proc/net/stat/nf_conntrack",
            format!(
                "entries insert_failed drop early_drop\n{entries:08x} {failed:08x} {drops:08x} {early:08x}\n"
            ),
        );
        put("proc/sys/net/netfilter/nf_conntrack_count", format!("{entries}\n"));
    }
}

/// Lets seconds pass until a cell has read what sysfs says of the links of an idle node.
pub(super) fn wait(node: &mut Recorded) {
    until(node, |_| {}, false);
}

/// Lets seconds pass until duplex and bond are as they should be.
fn until(node: &mut Recorded, fault: Fault, bad: bool) {
    let expected = Signal::Number(f64::from(u8::from(bad)));
    for turn in 0.. {
        node.pass(1, fault);
        let frame = &node.watched.frame;
        let found = ["node.link.half_duplex", "node.bond.missing"]
            .map(|series| frame.iter().find(|(def, _)| def.metric.series == Some(series)));
        if found.iter().all(|found| found.as_ref().is_some_and(|(_, s)| *s == expected)) {
            return;
        }
        assert!(turn < 3000, "sysfs was not read: {found:?}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn every_gate_of_the_network_turns_red_and_green_again_on_a_recorded_fault() {
    let mut node = Recorded::new(true, &super::SCALED);
    for (gate, series, fault) in FAULTS {
        node.settle();
        // What is read every five seconds is so in all of the window.
        node.pass(12, fault);
        let mut findings = node.watched.judge();
        let found = findings.remove(gate).unwrap();
        assert_eq!(found.verdict, Verdict::Fail, "{gate}: {found:?}");
        let text = &found.reason.as_ref().unwrap().text;
        assert!(text.contains(series), "{gate} by {series}: {text}");
        // And the others stay as they were.
        findings.retain(|id, finding| {
            !matches!(finding.verdict, Verdict::Pass | Verdict::NotApplicable)
                && id != "node.fs.filling"
        });
        assert!(findings.is_empty(), "{gate} is not alone: {findings:#?}");
    }
    node.settle();
}

/// What a cell reads, now and then only, so that a fault is not seen in the second it happens.
#[test]
fn a_link_that_is_half_duplex_and_a_bond_without_its_spare_are_red() {
    let mut node = Recorded::new(true, &super::SCALED);
    node.settle();
    let fault: Fault = |c| (c.network.half_duplex, c.network.slave_down) = (true, true);
    until(&mut node, fault, true);
    node.pass(9, fault);
    let verdicts = node.watched.verdicts();
    for gate in ["node.link.duplex", "node.link.bonds"] {
        assert_eq!(verdicts[gate], Verdict::Fail, "{gate}");
    }
    node.settle();
}

/// Without hardware that could fail, and without a packet filter that tracks, nothing is green.
#[test]
fn what_a_node_does_not_have_is_not_applicable() {
    let mut node = Recorded::new(true, &super::SCALED);
    let bare = super::Paths {
        procfs: node.folder.path().join("proc"),
        sysfs: node.folder.path().join("nothing"),
        rootfs: node.folder.path().to_owned(),
    };
    fs::create_dir_all(node.folder.path().join("nothing/class/net")).unwrap();
    fs::remove_dir_all(node.folder.path().join("proc/sys/net/netfilter")).unwrap();
    node.watched = super::Watched::new(&bare, &super::SCALED);
    let verdicts = node.watched.verdicts();
    for gate in ["node.link.throughput", "node.link.duplex", "node.link.bonds", "node.conntrack"] {
        assert_eq!(verdicts[gate], Verdict::NotApplicable, "{gate}");
    }
}
