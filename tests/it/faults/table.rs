//! Which gate of the shipped packs is proven by which test, and by what kind of fault.
//!
//! `docs/gates.md` is made of this and of the packs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use greenlight::gate::{Gate, Requirement};
use greenlight::plan::load::Inputs;
use greenlight::plan::{Facts, Plan};

use crate::tidy::{committed, tests};

/// What made a gate red in a test.
#[derive(Clone, Copy)]
pub(super) enum Proof {
    /// The kernel, or the embedded platform over real sockets; the test's name.
    Real(&'static str),
    /// Files as the kernel writes them, changed second by second; the test's name.
    Recorded(&'static str),
    /// Why there is no real fault; where there are both, none is needed.
    Because(&'static str),
}
use Proof::{Because, Real, Recorded};

const RECORDED: Proof =
    Recorded("every_gate_of_linux_node_turns_red_and_green_again_on_a_recorded_fault");
const NETWORK_RECORDED: Proof =
    Recorded("every_gate_of_the_network_turns_red_and_green_again_on_a_recorded_fault");
const CELL_READ: Proof =
    Recorded("a_link_that_is_half_duplex_and_a_bond_without_its_spare_are_red");
const LOSS: Proof = Real("lost_segments_turn_their_gates_red_and_are_counted_as_nstat_does");
const LISTENER: Proof = Real("a_full_accept_queue_turns_its_gate_red_and_is_counted_exactly");
const DATAGRAMS: Proof = Real("lost_datagrams_turn_their_gates_red_and_are_counted_exactly");
const MACHINE: Proof = Real("faults_of_another_kernel_turn_their_gates_red_and_green_again");
const PROCESSORS: Proof = Real("burnt_processors_turn_their_gates_red");
const MEMORY: Proof = Real("stalls_swapping_and_kills_turn_the_memory_gates_red_and_green_again");
const FILLED: Proof = Real("memory_filled_turns_its_gates_red_and_green_again");
const DISKS: Proof = Real("disks_filesystems_and_processors_turn_their_gates_red_and_green_again");
const SLOW: Proof = Real("a_slow_disk_turns_its_gates_red");
const FILESYSTEMS: Proof = Real("a_full_and_a_read_only_filesystem_are_red_until_they_are_mended");
const PARTNER_NODE: Proof =
    Recorded("each_bottleneck_of_the_partner_is_red_alone_and_green_again_on_a_recorded_node");
const PARTNER_STORAGE: Proof =
    Real("a_slow_data_path_under_load_turns_the_partners_storage_gate_red_and_green_again");
const NVME: Proof = Recorded("a_controller_that_is_not_live_is_red");
const DEMO: Proof = Real("the_demo_is_go_and_each_broken_stage_is_named");
const TWINS: Proof = Real("a_twin_that_alerts_is_red_and_a_sequence_that_is_cut_off_is_no_loss");
const DEMO_NODE: Proof = Real("the_demos_node_gates_turn_red_and_green_again");
const NETWORK: Proof = Real("network_gates_turn_red_on_real_faults_and_green_again");
const KUBERNETES: Proof = Real("a_kubernetes_nodes_own_gates_turn_red_and_green_again");
const PRODUCTS: Proof = Real("a_databases_and_a_logs_own_gates_turn_red_and_green_again");
const SETTING: Proof = Recorded("each_setting_that_differs_turns_its_gate_red_and_green_again");
const WHOLE_MACHINE: Proof = Because("the setting is the whole machine's");

/// Every gate of the packs, but those that say themselves what is not measured yet.
pub(super) const PROOFS: &[(&str, &[Proof])] = &[
    ("node.cpu.busy", &[PROCESSORS, DISKS, RECORDED]),
    ("node.cpu.steal", &[RECORDED, Because("only a hypervisor can steal")]),
    ("node.cpu.pressure", &[PROCESSORS, RECORDED]),
    ("node.cpu.queue", &[MACHINE, DISKS, RECORDED]),
    ("node.load", &[RECORDED, Because("the average of a minute takes minutes to fall again")]),
    ("node.memory.available", &[FILLED, RECORDED]),
    (
        "node.memory.oom",
        &[MACHINE, MEMORY, Real("a_kill_for_want_of_memory_turns_its_gate_red"), RECORDED],
    ),
    ("node.memory.pressure", &[MEMORY, RECORDED]),
    ("node.memory.reclaim", &[MACHINE, RECORDED]),
    ("node.cpu.wait", &[MACHINE, RECORDED]),
    (
        "node.cpu.softirq",
        &[RECORDED, Because("it takes the packets of a fast network to fill a processor")],
    ),
    (
        "node.cpu.interrupts",
        &[RECORDED, Because("only hardware interrupts so much that its time is missed")],
    ),
    ("node.cpu.hot-core", &[MACHINE, RECORDED]),
    (
        "node.cpu.throttled-groups",
        &[MACHINE, Real("a_throttled_group_turns_its_gate_red_and_is_named")],
    ),
    ("node.cpu.heat", &[RECORDED, Because("no processor shall be heated for a test")]),
    (
        "node.memory.committed",
        &[RECORDED, Because("vm.overcommit_memory is one for the whole machine")],
    ),
    ("node.memory.ecc", &[RECORDED, Because("it takes memory that is broken")]),
    ("node.memory.damaged", &[RECORDED, Because("it takes memory that is broken")]),
    ("node.files", &[Real("leaked_files_and_tasks_turn_their_gates_red"), RECORDED]),
    ("node.tasks", &[Real("leaked_files_and_tasks_turn_their_gates_red"), RECORDED]),
    ("node.tasks.hung", &[Real("a_hung_task_turns_its_gate_red"), RECORDED]),
    ("node.clock.synchronised", &[MACHINE, RECORDED]),
    ("node.clock.offset", &[MACHINE, RECORDED]),
    ("node.clock.steps", &[MACHINE, RECORDED]),
    ("node.memory.major-faults", &[MEMORY, RECORDED]),
    ("node.memory.swap", &[MEMORY, RECORDED]),
    ("node.io.pressure", &[SLOW, RECORDED]),
    ("node.io.waiting", &[MACHINE, DISKS, RECORDED]),
    ("node.disk.busy", &[DISKS, RECORDED]),
    ("node.disk.queue", &[MACHINE, DISKS, RECORDED]),
    ("node.disk.latency", &[MACHINE, DISKS, SLOW, RECORDED]),
    ("node.fs.space", &[DISKS, FILESYSTEMS]),
    ("node.fs.inodes", &[DISKS, FILESYSTEMS]),
    ("node.fs.writable", &[DISKS, FILESYSTEMS, RECORDED]),
    ("node.disk.flush", &[RECORDED, Because("no device of the tests delays its flushes alone")]),
    ("node.disk.errors", &[RECORDED, Because("only SCSI and ATA disks count them")]),
    ("node.md.degraded", &[MACHINE, RECORDED]),
    ("node.nvme.live", &[NVME, Because("an NVMe controller is needed")]),
    ("node.nvme.health", &[MACHINE]),
    ("node.fs.filling", &[Real("a_filesystem_that_fills_is_red_before_it_is_full")]),
    ("node.fs.answers", &[Real("a_hung_mount_is_red_and_costs_one_thread")]),
    ("node.fs.errors", &[Real("a_failing_device_turns_the_filesystems_gate_red"), RECORDED]),
    ("node.link.errors", &[NETWORK, Real("damaged_packets_turn_their_gate_red"), RECORDED]),
    (
        "node.link.drops",
        &[NETWORK, Real("dropped_packets_are_counted_exactly_and_turn_their_gate_red"), RECORDED],
    ),
    ("node.link.missed", &[NETWORK_RECORDED, Because("only hardware has a ring that fills")]),
    ("node.link.throughput", &[MACHINE, NETWORK_RECORDED]),
    ("node.link.carrier", &[MACHINE, NETWORK_RECORDED]),
    ("node.link.duplex", &[MACHINE, CELL_READ]),
    ("node.link.bonds", &[MACHINE, CELL_READ]),
    ("node.link.queues", &[Real("a_standing_queue_turns_its_gate_red_and_is_what_tc_says")]),
    ("node.softnet", &[NETWORK_RECORDED, Because("its counters are the whole machine's")]),
    ("node.tcp.retransmits", &[LOSS, NETWORK_RECORDED]),
    ("node.tcp.connects", &[LOSS, NETWORK_RECORDED]),
    ("node.tcp.timeouts", &[NETWORK_RECORDED, Because("those of a test are over in a second")]),
    ("node.tcp.listen", &[LISTENER, NETWORK_RECORDED]),
    (
        "node.tcp.accept-queue",
        &[
            Real("a_full_accept_queue_is_what_ss_says_and_turns_its_gate_red"),
            Real("a_full_accept_queue_is_red_and_names_its_owner"),
        ],
    ),
    (
        "node.tcp.ports",
        &[
            Real("used_up_ports_are_what_ss_counts_and_turn_their_gate_red"),
            Real("used_up_ports_are_red_and_name_the_client_and_its_destination"),
        ],
    ),
    ("node.tcp.memory", &[NETWORK_RECORDED, Because("the memory is the whole machine's")]),
    ("node.tcp.orphans", &[NETWORK_RECORDED, Because("the limit is the whole machine's")]),
    ("node.ip.mtu", &[DATAGRAMS, NETWORK_RECORDED]),
    ("node.udp.buffers", &[DATAGRAMS, NETWORK_RECORDED]),
    ("node.neighbours", &[MACHINE, NETWORK_RECORDED]),
    ("node.conntrack", &[MACHINE, NETWORK_RECORDED]),
    ("kubernetes.kubelet", &[KUBERNETES]),
    ("kubernetes.proxy", &[KUBERNETES]),
    ("kubernetes.disks", &[KUBERNETES]),
    ("kubernetes.swap", &[MACHINE, Recorded("swap_is_red_where_it_is_on_and_used")]),
    ("kubernetes.forwarding", &[MACHINE, SETTING]),
    ("kubernetes.kernel", &[MACHINE, SETTING]),
    ("kubernetes.inotify", &[MACHINE, SETTING]),
    ("kubernetes.map-count", &[MACHINE, SETTING]),
    ("kubernetes.conntrack", &[MACHINE, SETTING]),
    ("database.port", &[PRODUCTS]),
    ("database.sync", &[PRODUCTS]),
    ("database.room", &[PRODUCTS]),
    ("database.governor", &[SETTING, WHOLE_MACHINE]),
    ("database.huge-pages", &[MACHINE, SETTING]),
    ("database.swap", &[MACHINE, SETTING]),
    ("database.zones", &[SETTING, WHOLE_MACHINE]),
    ("log.port", &[PRODUCTS]),
    ("log.sync", &[PRODUCTS]),
    ("log.room", &[PRODUCTS]),
    ("log.map-count", &[MACHINE, SETTING]),
    ("log.swap", &[MACHINE, SETTING]),
    ("log.receive-buffer", &[MACHINE, SETTING]),
    ("log.backlog", &[MACHINE, SETTING]),
    ("log.inotify", &[MACHINE, SETTING]),
    (
        "partner.service-levels",
        &[Real("service_gate_turns_red_for_each_criterion_and_green_again")],
    ),
    (
        "partner.core.collectors",
        &[Real("collectors_gate_turns_red_for_each_protocol_and_green_again")],
    ),
    (
        "partner.acceptance.ingestion",
        &[Real("ingestion_gate_turns_red_for_what_another_tenant_sees_and_green_again")],
    ),
    (
        "partner.core.enrichment",
        &[Real("enrichment_gate_turns_red_for_each_criterion_and_green_again")],
    ),
    (
        "partner.core.detection",
        &[Real("use_case_gate_turns_red_for_each_criterion_and_green_again"), TWINS],
    ),
    (
        "partner.cluster.alerts",
        &[Real("alerts_gate_turns_red_where_alerting_is_not_alive_and_green_again")],
    ),
    ("partner.core.parsers", &[Real("parsers_gate_turns_red_for_each_criterion_and_green_again")]),
    (
        "partner.cluster.cpu",
        &[
            Real("burnt_processors_under_load_turn_the_partners_gate_red_and_green_again"),
            PARTNER_NODE,
        ],
    ),
    ("partner.cluster.memory", &[MEMORY, FILLED, PARTNER_NODE]),
    (
        "partner.cluster.io",
        &[
            PARTNER_NODE,
            Because("it is red for any filesystem that fails, and other tests make some fail"),
        ],
    ),
    ("partner.capacity.storage-performance", &[PARTNER_STORAGE]),
    (
        "partner.acceptance.use-case",
        &[Real("use_case_gate_turns_red_for_each_criterion_and_green_again"), TWINS],
    ),
    ("demo.sent", &[DEMO]),
    ("demo.accepted", &[DEMO]),
    ("demo.parsed", &[DEMO]),
    ("demo.enriched", &[DEMO]),
    ("demo.stored", &[DEMO]),
    ("demo.alerted", &[DEMO]),
    ("demo.notified", &[DEMO]),
    ("demo.shown", &[DEMO]),
    ("demo.node.cpu", &[DEMO_NODE]),
    (
        "demo.node.memory",
        &[
            Recorded("the_demos_node_gates_turn_red_and_green_again"),
            Because("its threshold is no variable, and no test may take nine tenths of a machine"),
        ],
    ),
    ("demo.usecases.alerted", &[DEMO]),
    ("demo.usecases.twins", &[TWINS]),
    ("demo.usecases.heard", &[DEMO]),
];

/// Gates over the network probes, which no pack has: what they measure needs a network of its own.
const NETWORK_GATES: [(&str, &str, Proof); 5] = [
    ("net.loss", "Half of the packets dropped on the way", NETWORK),
    ("net.port.rejected", "A port rejected with a reset", NETWORK),
    ("net.port.prohibited", "A port rejected with an ICMP prohibition", NETWORK),
    ("net.port.dropped", "A port whose packets are dropped", NETWORK),
    ("net.mtu", "A router with a smaller MTU, and one that swallows the ICMP answer", NETWORK),
];

/// The gates of each pack that no pack before it has.
pub(super) fn packs() -> Vec<(&'static str, Vec<Gate>)> {
    // A node that has everything that a criterion may hang on.
    let has = [
        "psi",
        "psi_irq",
        "qdisc",
        "sockets",
        "schedstat",
        "cgroup_quota",
        "ext4",
        "disk_errors",
        "md",
        "nvme",
        "cpufreq",
        "huge_pages",
        "numa",
        "conntrack",
    ];
    let facts = has.map(|fact| (fact.to_owned(), "true".to_owned()));
    let facts = Facts { hostname: "node-1".into(), facts: BTreeMap::from(facts) };
    let mut known = BTreeSet::new();
    let mut packs = Vec::new();
    let names = [
        "linux-node",
        "kubernetes-node",
        "database-node",
        "log-node",
        "partner-platform",
        "demo",
        "demo-usecases",
    ];
    for name in names {
        let inputs = Inputs {
            texts: vec![("plan.yaml".into(), format!("include: [ 'pack:{name}' ]"))],
            // What only a node's owner knows, and a gate of it is nothing without.
            vars: ["database_mount", "log_mount"].map(|name| (name.into(), "/".into())).into(),
            ..Inputs::default()
        };
        let plan = Plan::compile(&inputs, &facts).unwrap_or_else(|e| panic!("{}", e.render(false)));
        let gates = plan.gates.into_iter().filter(|gate| known.insert(gate.id.clone()));
        packs.push((name, gates.collect()));
    }
    let shipped = greenlight::plan::packs::BUILT_IN.len();
    assert_eq!(packs.len(), shipped, "a pack is missing from the table");
    packs
}

/// What a gate says itself is not measured yet. A variable that its user has to set is no such
/// part.
fn missing(require: &Requirement) -> Option<&str> {
    match require {
        Requirement::Missing(what) => {
            Some(what.as_str()).filter(|what| !what.starts_with("set the variable"))
        }
        Requirement::All(parts) | Requirement::Any(parts) => parts.iter().find_map(missing),
        Requirement::Criterion(_) | Requirement::Elsewhere { .. } => None,
    }
}

/// A row's last two cells, or what is wrong with them.
pub(super) fn cells(gate: &str, proofs: &[Proof]) -> Result<(String, String), String> {
    let tests = tests("tests/it");
    // A gate's name, or a part of it where a test goes through all of a kind.
    let (kind, name) = gate.split_once('.').unwrap_or_default();
    let spoken_of = |text: &str| {
        text.contains(&format!("\"{gate}\""))
            || text.contains(&format!("\"{kind}.\"")) && text.contains(&format!("\"{name}\""))
    };
    let (mut kinds, mut names, mut because) = (Vec::new(), Vec::new(), String::new());
    for proof in proofs {
        let (kind, name) = match proof {
            Because(why) => {
                because = format!(" ({why})");
                continue;
            }
            Real(name) => ("real", name),
            Recorded(name) => ("recorded", name),
        };
        let Some((file, text)) = tests.get(*name) else {
            return Err(format!("{gate}: there is no test {name}"));
        };
        if !spoken_of(text) {
            return Err(format!("{gate}: {file}, where {name} is, does not speak of it"));
        }
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        names.push(format!("`{name}` ({file})"));
    }
    if kinds.contains(&"real") != because.is_empty() {
        return Err(format!("{gate}: say why there is no real fault, where there is none"));
    }
    Ok((kinds.join(", ") + &because, names.join("<br>")))
}

#[test]
fn the_table_of_gates_is_what_the_packs_and_the_tests_say() {
    let mut wrong = Vec::new();
    let mut listed: BTreeMap<&str, &[Proof]> = PROOFS.iter().copied().collect();
    assert_eq!(listed.len(), PROOFS.len(), "a gate is listed twice");
    let mut text = String::from(
        "# Gates and the tests that turn them red\n\n\
         Made by a test from the packs and from `tests/it/faults/table.rs`; the test fails where \
         they disagree. In each test named here the gate is red with the fault and green without \
         it.\n\n\
         - **real**: the kernel's or a server's own fault, seen by a running agent or sampler.\n\
         - **recorded**: files as the kernel writes them, changed second by second, where the \
         kernel can't be made to do it, or besides a real fault.\n\
         - **none yet**: a part of it is not measured yet, and so the gate is open and judges nothing.\n",
    );
    for (pack, gates) in packs() {
        let _ = write!(
            text,
            "\n## {pack}\n\n| gate | title | level | refs | fault | tests |\n| --- | --- | --- | --- | --- | --- |\n"
        );
        for gate in gates {
            let proofs = listed.remove(gate.id.as_str());
            let (fault, names) = match (missing(&gate.require), proofs) {
                (Some(what), None) => (format!("none yet: {what}"), String::new()),
                (None, Some(proofs)) => cells(&gate.id, proofs).unwrap_or_else(|what| {
                    wrong.push(what);
                    Default::default()
                }),
                (None, None) => {
                    wrong.push(format!("{}: no test is listed that turns it red", gate.id));
                    continue;
                }
                (Some(_), Some(_)) => {
                    wrong.push(format!("{}: a part is not measured, but it is listed", gate.id));
                    continue;
                }
            };
            let (id, title, level) = (&gate.id, &gate.title, gate.level.word());
            let refs = gate.refs.join(", ");
            let _ = writeln!(text, "| `{id}` | {title} | {level} | {refs} | {fault} | {names} |");
        }
    }
    text.push_str(
        "\n## Network probes\n\nNo pack has gates of these: what they watch is different in each \
         network.\n\n| gate | what is done | fault | tests |\n| --- | --- | --- | --- |\n",
    );
    for (gate, done, proof) in NETWORK_GATES {
        match cells(gate, &[proof]) {
            Ok((fault, names)) => {
                let _ = writeln!(text, "| `{gate}` | {done} | {fault} | {names} |");
            }
            Err(what) => wrong.push(what),
        }
    }
    wrong.extend(listed.keys().map(|gate| format!("{gate}: no pack has it")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    committed("docs/gates.md", &text);
}
