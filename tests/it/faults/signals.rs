//! Which signal of a node is measured by what, judged by which gate, and proven by which test:
//! `docs/signals.md` is made of this, of the catalogue, of the packs and of the table of proofs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use greenlight::catalogue;
use greenlight::gate::{Requirement, Subject};

use super::table::{PROOFS, cells, packs};
use crate::tidy::committed;

/// A signal's number, what it is, and the series that tell it: by name, or by what comes before a
/// dot. Which gates judge a series is found in the packs.
type Signal = (u8, &'static str, &'static [&'static str]);

const SIGNALS: &[Signal] = &[
    (1, "How busy the processors are", &["node.cpu.busy"]),
    (2, "Processors that idle while a task waits for a disk", &["node.cpu.iowait"]),
    (3, "Processor time that the hypervisor gave to others", &["node.cpu.steal"]),
    (
        4,
        "One processor alone at its limit, and interrupts of the network on one",
        &["node.cpu.hottest", "node.cpu.softirq_hottest"],
    ),
    (5, "The load average for each processor", &["node.load"]),
    (
        6,
        "Tasks that run or could, and tasks blocked in the kernel",
        &["node.cpu.running_per_core", "node.procs.blocked"],
    ),
    (7, "How long tasks wait in a run queue", &["node.cpu.wait"]),
    (8, "Pressure of the processors", &["node.psi.cpu"]),
    (9, "Services and containers held back by their own quota", &["node.cgroup.throttled"]),
    (10, "Pressure of interrupts", &["node.psi.irq"]),
    (11, "Processors slowed down by heat", &["node.cpu.throttles"]),
    (
        12,
        "Governor, huge pages, swap, and settings of the kernel that products ask for",
        &["node.settings", "node.swap.size"],
    ),
    (13, "Memory that new work can have", &["node.memory.available"]),
    (14, "Pages read from a disk because they were not in memory", &["node.memory.major_faults"]),
    (15, "Pages swapped in and out", &["node.swap.in", "node.swap.out"]),
    (
        16,
        "Allocations that wait for memory, and pages that come back",
        &["node.memory.stalls", "node.memory.refaults"],
    ),
    (17, "Processes killed for want of memory", &["node.oom"]),
    (18, "Pressure of the memory", &["node.psi.memory"]),
    (19, "Memory promised against what may be", &["node.memory.committed"]),
    (20, "Memory that errs", &["node.memory.ecc", "node.memory.corrupted"]),
    (21, "How busy the disks are", &["node.disk.busy"]),
    (22, "Requests that wait at a disk", &["node.disk.queue"]),
    (
        23,
        "How long reads and writes take",
        &["node.disk.await", "node.disk.read_await", "node.disk.write_await"],
    ),
    (24, "How long a disk takes to write its cache through", &["node.disk.flush_await"]),
    (25, "Pressure of the disks", &["node.psi.io"]),
    (
        26,
        "Errors of disks, arrays that lack one, worn devices",
        &["node.disk.errors", "node.md", "node.nvme"],
    ),
    (
        27,
        "Space of filesystems, and when it ends",
        &["node.fs.available", "node.fs.full_in", "node.fs.scarce_full_in"],
    ),
    // The packs for products judge the same series by the product's own figures.
    (WATERMARKS, "Watermarks of products", &["node.fs.available", "node.fs.inodes_available"]),
    (29, "Inodes of filesystems", &["node.fs.inodes_available"]),
    (
        30,
        "Filesystems that turned read-only, err or do not answer",
        &["node.fs.readonly", "node.fs.errors", "node.fs.hung"],
    ),
    (31, "What interfaces carry against their speed", &["node.link.throughput"]),
    (
        32,
        "Packets that interfaces threw away or missed",
        &["node.link.drops", "node.link.lost", "node.link.missed"],
    ),
    (33, "Packets that came damaged", &["node.link.errors"]),
    (34, "Packets that processors took off late or never", &["node.softnet"]),
    (35, "Packets that wait or are lost in an interface's queue", &["node.qdisc"]),
    (36, "Segments sent again", &["node.tcp.retransmits"]),
    (37, "Connections that nobody accepted in time", &["node.listen"]),
    (
        38,
        "Timers of TCP that ran out, openings sent again",
        &["node.tcp.timeouts", "node.tcp.syn_retransmits"],
    ),
    (
        39,
        "Packets too large for their way",
        &["node.ip", "node.tcp.mtu_probe_failures", "node.icmp"],
    ),
    (40, "Datagrams lost for want of buffers", &["node.udp"]),
    (41, "The table of tracked connections", &["node.conntrack"]),
    (42, "Memory of TCP, connections without a process", &["node.tcp.memory", "node.tcp.orphans"]),
    (43, "The tables of neighbours", &["node.neighbours"]),
    (44, "Local ports left for a destination", &["node.ports"]),
    (
        45,
        "Bonds, carriers and duplex",
        &["node.bond", "node.link.carrier_changes", "node.link.half_duplex"],
    ),
    (46, "Open files", &["node.files"]),
    (47, "Processes and threads", &["node.tasks"]),
    (48, "Tasks that hang", &["node.procs.hung"]),
    (
        49,
        "How far the clock is off, and whether it was set",
        &["node.clock.offset", "node.clock.steps"],
    ),
    (
        50,
        "Whether the clock is synchronised",
        &["node.clock.unsynchronised", "node.clock.max_error"],
    ),
    (51, "What Kubernetes says of the node", &[]),
    (52, "Replicas that are wanted and ready", &[]),
];

/// Judged by the packs for products only.
const WATERMARKS: u8 = 28;

fn tells(name: &str, series: &str) -> bool {
    series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The series that a gate looks at.
fn looks_at(require: &Requirement, into: &mut Vec<&'static str>) {
    match require {
        Requirement::Criterion(one) | Requirement::Elsewhere { criterion: one, .. } => {
            if let Subject::Series(selection) = &one.subject {
                into.extend(selection.metric.series);
            }
        }
        Requirement::All(parts) | Requirement::Any(parts) => {
            parts.iter().for_each(|part| looks_at(part, into));
        }
        Requirement::Missing(_) => {}
    }
}

#[test]
fn the_table_of_signals_is_what_the_catalogue_the_packs_and_the_tests_say() {
    let judged: Vec<(&str, &str)> = catalogue::node::ALL
        .iter()
        .filter_map(|metric| Some((metric.series?, metric.name)))
        .collect();
    // By its own pack; the other packs judge the node too, but on behalf of something else.
    let mut gates = Vec::new();
    for (pack, own) in packs() {
        for gate in own.into_iter().filter(|_| pack.ends_with("-node")) {
            let mut series = Vec::new();
            looks_at(&gate.require, &mut series);
            gates.push((pack, gate.id, series));
        }
    }
    let proofs: BTreeMap<&str, _> = PROOFS.iter().copied().collect();
    let mut text = String::from(
        "# Signals of a node\n\n\
         Made by a test from `tests/it/faults/signals.rs`, the catalogue of metrics and the packs; \
         it fails where they disagree. Per signal: the series that gates judge, with the metric \
         that Prometheus sees; the gates of the packs that judge it; the tests in which each of \
         them is red and green again ([gates.md](gates.md) says by what kind of fault).\n\n\
         | | signal | series | gates | tests |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut wrong = Vec::new();
    let mut told = Vec::new();
    for (place, (number, what, names)) in (1..).zip(SIGNALS) {
        assert_eq!(*number, place, "the numbers have a gap");
        let own: Vec<_> = judged
            .iter()
            .filter(|(series, _)| names.iter().any(|name| tells(name, series)))
            .collect();
        told.extend(own.iter().map(|(series, _)| *series));
        let by: Vec<_> = gates
            .iter()
            .filter(|(pack, ..)| *number != WATERMARKS || *pack != "linux-node")
            .filter(|(.., looked)| own.iter().any(|(series, _)| looked.contains(series)))
            .collect();
        let mut tests: Vec<String> = Vec::new();
        for (_, gate, _) in &by {
            match proofs.get(gate.as_str()).map(|proofs| cells(gate, proofs)) {
                Some(Ok((_, names))) => {
                    for name in names.split("<br>").filter(|name| !name.is_empty()) {
                        let name = name.split(' ').next().unwrap_or(name).to_owned();
                        if !tests.contains(&name) {
                            tests.push(name);
                        }
                    }
                }
                Some(Err(what)) => wrong.push(what),
                None => wrong.push(format!("{gate}: no test is listed that turns it red")),
            }
        }
        let lines = |cells: Vec<String>, none: &str| {
            if cells.is_empty() { none.to_owned() } else { cells.join("<br>") }
        };
        let none = if own.is_empty() { "" } else { "no gate judges it" };
        let _ = writeln!(
            text,
            "| {number} | {what} | {} | {} | {} |",
            lines(own.iter().map(|(s, m)| format!("`{s}` ({m})")).collect(), "not there"),
            lines(by.iter().map(|(_, gate, _)| format!("`{gate}`")).collect(), none),
            lines(tests, ""),
        );
    }
    for (series, _) in judged.iter().filter(|(series, _)| !told.contains(series)) {
        wrong.push(format!("{series} tells none of the signals: put it to one"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    committed("docs/signals.md", &text);
}
