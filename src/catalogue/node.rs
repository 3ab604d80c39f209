//! Every signal of the node's frame.
//!
//! Totals and gauges are the kernel's own figures, exported as they stand. What gates judge is
//! derived once a second, from what is read in each or, as it stands, from what was read in the last five
//! (src/node.rs says which); such a series has no label, or its instance (device, mount point, interface) as
//! its first, which gates know as the target of the check `node`.

use super::{DEPTH, FREE, LATENCY, PER_CORE, RATE, RATIO, SHARE, YES_NO, metrics};

/// Boundaries for how far a clock is off, in seconds: from what a local network allows to where the
/// kernel gives up (16 s).
const CLOCK: &[f64] = &[0.000_1, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 16.0];

/// Boundaries for what is never (0), on request (1) or always (2) so.
const NEVER_ALWAYS: &[f64] = &[0.0, 1.0, 2.0];

/// Boundaries for bytes that wait to be sent: from none over a packet to what no burst explains.
const QUEUED: &[f64] = &[0.0, 1500.0, 15_000.0, 150_000.0, 1_500_000.0, 15_000_000.0];

/// Boundaries for the time until something is full: hours to days.
const FILLING: &[f64] =
    &[3600.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 432_000.0, 1_296_000.0, 2_592_000.0];

metrics! {
    /// Instances (processors, devices, mount points, interfaces) that are left out because a source has more than its limit.
    OVER_LIMIT = Gauge "greenlight_node_instances_over_limit" [source] Count;

    /// Seconds that each processor spent in each mode; user includes guest.
    CPU_SECONDS = Counter "greenlight_node_cpu_seconds_total" [cpu, mode] Seconds;
    /// Processors that are online.
    CPUS = Gauge "greenlight_node_cpus" [] Count;
    /// Share of each second in which the processors did not idle: 1 - idle - iowait, over all of them.
    CPU_BUSY = Histogram(RATIO) "greenlight_node_cpu_busy_ratio" [] Ratio as "node.cpu.busy";
    /// Share of each second that the hypervisor gave to others while a task here wanted to run.
    CPU_STEAL = Histogram(SHARE) "greenlight_node_cpu_steal_ratio" [] Ratio as "node.cpu.steal";
    /// Share of each second that processors idled while a task waited for a disk. The kernel calls it unreliable; pressure says it better.
    CPU_IOWAIT = Histogram(SHARE) "greenlight_node_cpu_iowait_ratio" [] Ratio as "node.cpu.iowait";
    /// Tasks that run or could run besides the sampler, for each processor, once a second.
    RUN_QUEUE = Histogram(PER_CORE) "greenlight_node_running_tasks_per_cpu" [] Count as "node.cpu.running_per_core";
    /// Tasks that wait for a disk and can't be interrupted, once a second.
    BLOCKED = Histogram(DEPTH) "greenlight_node_blocked_tasks" [] Count as "node.procs.blocked";
    /// Share of the last ten seconds in which the busiest processor did not idle; 0 while all of them together were busy for 70 % or more.
    CPU_HOTTEST = Histogram(RATIO) "greenlight_node_cpu_hottest_ratio" [] Ratio as "node.cpu.hottest";
    /// Share of the last ten seconds that the processor most busy with it spent in software interrupts: the network's packets are worked on there.
    CPU_SOFTIRQ_HOTTEST = Histogram(SHARE) "greenlight_node_cpu_softirq_hottest_ratio" [] Ratio as "node.cpu.softirq_hottest";
    /// Seconds that tasks waited for a processor they could run on, by the processor they waited for.
    CPU_WAIT_SECONDS = Counter "greenlight_node_cpu_wait_seconds_total" [cpu] Seconds;
    /// Seconds that tasks waited for a processor in each second, for each processor.
    CPU_WAIT = Histogram(PER_CORE) "greenlight_node_cpu_wait_seconds_per_second" [] Count as "node.cpu.wait";
    /// Times that a processor was slowed down because it was too hot, summed over the processors.
    CPU_THROTTLES = Counter "greenlight_node_cpu_thermal_throttles_total" [] Count as "node.cpu.throttles";
    /// Times that a whole processor package was slowed down because it was too hot, as each of its processors counts it.
    PACKAGE_THROTTLES = Counter "greenlight_node_cpu_package_thermal_throttles_total" [] Count;
    /// Context switches.
    CONTEXT_SWITCHES = Counter "greenlight_node_context_switches_total" [] Count;
    /// Tasks created.
    FORKS = Counter "greenlight_node_forks_total" [] Count;
    /// When the kernel started.
    BOOT_TIME = Gauge "greenlight_node_boot_timestamp_seconds" [] Seconds;

    /// The kernel's load averages over 1, 5 and 15 minutes.
    LOAD = Gauge "greenlight_node_load_average" [period] Count;
    /// The load average over one minute for each processor. It counts tasks that wait for a disk too, so it is no figure of the processors alone.
    LOAD_PER_CORE = Histogram(PER_CORE) "greenlight_node_load_per_cpu" [] Count as "node.load.per_core";
    /// Tasks that exist.
    TASKS = Gauge "greenlight_node_tasks" [] Count;
    /// Tasks that may exist: the smaller of kernel.pid_max and kernel.threads-max.
    TASKS_LIMIT = Gauge "greenlight_node_tasks_limit" [] Count;
    /// Share of the tasks that may exist which do, once a second.
    TASKS_USED = Histogram(RATIO) "greenlight_node_tasks_used_ratio" [] Ratio as "node.tasks.used";
    /// Open files of all processes together.
    OPEN_FILES = Gauge "greenlight_node_open_files" [] Count;
    /// Open files that all processes together may have (fs.file-max).
    OPEN_FILES_LIMIT = Gauge "greenlight_node_open_files_limit" [] Count;
    /// Share of the open files that may exist which do, once a second.
    OPEN_FILES_USED = Histogram(RATIO) "greenlight_node_open_files_used_ratio" [] Ratio as "node.files.used";
    /// Tasks that the kernel found blocked for longer than kernel.hung_task_timeout_secs.
    HUNG_TASKS = Counter "greenlight_node_hung_tasks_total" [] Count as "node.procs.hung";

    /// Memory by the names of /proc/meminfo.
    MEMORY_BYTES = Gauge "greenlight_node_memory_bytes" [kind] Bytes;
    /// Share of the memory that new work could get without swapping, once a second: of what is not set aside as huge pages, and with what ZFS would give back of its cache.
    MEMORY_AVAILABLE = Histogram(FREE) "greenlight_node_memory_available_ratio" [] Ratio as "node.memory.available";
    /// Share of the commit limit that is promised to processes. It limits anything only where vm.overcommit_memory is 2.
    MEMORY_COMMITTED = Histogram(RATIO) "greenlight_node_memory_committed_ratio" [] Ratio as "node.memory.committed";
    /// Memory that the kernel has given up because the hardware damaged it, once a second.
    MEMORY_CORRUPTED = Histogram(YES_NO) "greenlight_node_memory_corrupted_bytes" [] Bytes as "node.memory.corrupted";
    /// Errors of the memory that its checksums (ECC) mended, over all memory controllers.
    ECC_CORRECTED = Counter "greenlight_node_memory_corrected_errors_total" [] Count as "node.memory.ecc.corrected";
    /// Errors of the memory that its checksums (ECC) found and could not mend, over all memory controllers.
    ECC_UNCORRECTED = Counter "greenlight_node_memory_uncorrected_errors_total" [] Count as "node.memory.ecc.uncorrected";
    /// Size of the swap, once a second; 0 where none is on.
    SWAP_SIZE = Histogram(YES_NO) "greenlight_node_swap_size_bytes" [] Bytes as "node.swap.size";

    /// Major page faults: a page had to be read from a disk.
    MAJOR_FAULTS = Counter "greenlight_node_major_faults_total" [] Count;
    /// Pages swapped in and out.
    SWAP_PAGES = Counter "greenlight_node_swap_pages_total" [direction] Count;
    /// Allocations that had to wait while memory was freed for them (direct reclaim).
    ALLOCATION_STALLS = Counter "greenlight_node_allocation_stalls_total" [] Count;
    /// Pages that were read again after they had been taken away: all of them, those in use when they came back, and those in use when they were taken.
    REFAULTS = Counter "greenlight_node_refaults_total" [kind] Count;
    /// Tasks that the kernel killed for want of memory, in cgroups or in the whole node.
    OOM_KILLS = Counter "greenlight_node_oom_kills_total" [] Count as "node.oom.kills";
    /// Major page faults a second; of five seconds together where the kernel tells the pressure of memory.
    MAJOR_FAULT_RATE = Histogram(RATE) "greenlight_node_major_faults_per_second" [] Count as "node.memory.major_faults";
    /// Allocations a second that had to wait while memory was freed for them; of five seconds together where the kernel tells the pressure of memory.
    STALL_RATE = Histogram(RATE) "greenlight_node_allocation_stalls_per_second" [] Count as "node.memory.stalls";
    /// Pages a second that were in use, were taken away for want of memory, and had to be read again; of five seconds together where the kernel tells the pressure of memory.
    REFAULT_RATE = Histogram(RATE) "greenlight_node_refaults_per_second" [] Count as "node.memory.refaults";
    /// Pages swapped in, a second; of five seconds together where the kernel tells the pressure of memory.
    SWAP_IN_RATE = Histogram(RATE) "greenlight_node_swap_in_pages_per_second" [] Count as "node.swap.in";
    /// Pages swapped out, a second; of five seconds together where the kernel tells the pressure of memory.
    SWAP_OUT_RATE = Histogram(RATE) "greenlight_node_swap_out_pages_per_second" [] Count as "node.swap.out";

    /// Seconds in which some or all tasks stalled for want of a resource.
    PRESSURE_SECONDS = Counter "greenlight_node_pressure_seconds_total" [resource, share] Seconds;
    /// Share of each second in which some task waited for a processor.
    PSI_CPU_SOME = Histogram(SHARE) "greenlight_node_pressure_cpu_some_ratio" [] Ratio as "node.psi.cpu.some";
    /// Share of each second in which some task waited for memory.
    PSI_MEMORY_SOME = Histogram(SHARE) "greenlight_node_pressure_memory_some_ratio" [] Ratio as "node.psi.memory.some";
    /// Share of each second in which all tasks at once waited for memory.
    PSI_MEMORY_FULL = Histogram(SHARE) "greenlight_node_pressure_memory_full_ratio" [] Ratio as "node.psi.memory.full";
    /// Share of each second in which some task waited for a disk.
    PSI_IO_SOME = Histogram(SHARE) "greenlight_node_pressure_io_some_ratio" [] Ratio as "node.psi.io.some";
    /// Share of each second in which all tasks at once waited for a disk.
    PSI_IO_FULL = Histogram(SHARE) "greenlight_node_pressure_io_full_ratio" [] Ratio as "node.psi.io.full";
    /// Share of each second in which tasks were held up by interrupts.
    PSI_IRQ_FULL = Histogram(SHARE) "greenlight_node_pressure_irq_full_ratio" [] Ratio as "node.psi.irq.full";

    /// Requests that a block device has completed.
    DISK_REQUESTS = Counter "greenlight_node_disk_requests_total" [device, operation] Count;
    /// Bytes that a block device has transferred.
    DISK_BYTES = Counter "greenlight_node_disk_bytes_total" [device, operation] Bytes;
    /// Seconds that requests took, summed over all of them.
    DISK_REQUEST_SECONDS = Counter "greenlight_node_disk_request_seconds_total" [device, operation] Seconds;
    /// Seconds in which a block device had anything to do.
    DISK_BUSY_SECONDS = Counter "greenlight_node_disk_busy_seconds_total" [device] Seconds;
    /// Requests times the seconds that they were under way.
    DISK_QUEUE_SECONDS = Counter "greenlight_node_disk_queue_seconds_total" [device] Seconds;
    /// Requests under way.
    DISK_IN_FLIGHT = Gauge "greenlight_node_disk_requests_in_flight" [device] Count;
    /// Share of each second in which the device had anything to do. Devices that work in parallel can take more at 1.
    DISK_BUSY = Histogram(RATIO) "greenlight_node_disk_busy_ratio" [device] Ratio as "node.disk.busy";
    /// Mean number of requests under way in each second.
    DISK_QUEUE = Histogram(DEPTH) "greenlight_node_disk_queue_depth" [device] Count as "node.disk.queue";
    /// Mean time of the reads and writes that completed in each second. Where none completed it is 0, or, with requests under way, the time since one did.
    DISK_AWAIT = Histogram(LATENCY) "greenlight_node_disk_await_seconds" [device] Seconds as "node.disk.await";
    /// Mean time of the reads that completed in each second; seconds without any leave no sample.
    DISK_READ_AWAIT = Histogram(LATENCY) "greenlight_node_disk_read_await_seconds" [device] Seconds as "node.disk.read_await";
    /// Mean time of the writes that completed in each second; seconds without any leave no sample.
    DISK_WRITE_AWAIT = Histogram(LATENCY) "greenlight_node_disk_write_await_seconds" [device] Seconds as "node.disk.write_await";

    /// Mean time of the flushes of the write cache that completed in each second. Where none completed it is 0, or, with requests under way, the time since one did. Linux 5.5 and newer.
    DISK_FLUSH_AWAIT = Histogram(LATENCY) "greenlight_node_disk_flush_await_seconds" [device] Seconds as "node.disk.flush_await";
    /// Requests that a SCSI or ATA disk has answered with an error.
    DISK_ERRORS = Counter "greenlight_node_disk_errors_total" [device] Count as "node.disk.errors";

    /// Disks that a software array lacks of those that it should have, once a second; an array that does not run lacks all.
    MD_MISSING = Histogram(DEPTH) "greenlight_node_md_missing_disks" [device] Count as "node.md.missing";
    /// Disks of a software array that are marked as failed, once a second.
    MD_FAILED = Histogram(DEPTH) "greenlight_node_md_failed_disks" [device] Count as "node.md.failed";
    /// What a software array does besides serving: 1 for the action under way.
    MD_ACTION = Gauge "greenlight_node_md_action" [device, action] Count;

    /// Whether an NVMe controller is in another state than live (1) or not (0), once a second.
    NVME_NOT_LIVE = Histogram(YES_NO) "greenlight_node_nvme_not_live" [device] Count as "node.nvme.not_live";
    /// Whether an NVMe controller reports a critical warning of its health (1) or not (0), once a second.
    NVME_WARNING = Histogram(YES_NO) "greenlight_node_nvme_critical_warning" [device] Count as "node.nvme.warning";
    /// Share of the endurance that an NVMe device has used up, by its vendor's estimate; above 1 it has outlived it.
    NVME_USED = Histogram(RATIO) "greenlight_node_nvme_used_ratio" [device] Ratio as "node.nvme.used";
    /// Share of its spare blocks that an NVMe device has left; 1 where it has none and names no threshold, as virtual ones do.
    NVME_SPARE = Histogram(FREE) "greenlight_node_nvme_spare_ratio" [device] Ratio as "node.nvme.spare";
    /// Errors of an NVMe device's media that lost data.
    NVME_MEDIA_ERRORS = Counter "greenlight_node_nvme_media_errors_total" [device] Count as "node.nvme.media_errors";

    /// Size of a filesystem.
    FS_SIZE = Gauge "greenlight_node_filesystem_size_bytes" [mountpoint, device, fstype] Bytes;
    /// Bytes of a filesystem that users other than root may still take.
    FS_AVAILABLE_BYTES = Gauge "greenlight_node_filesystem_available_bytes" [mountpoint, device, fstype] Bytes;
    /// Inodes of a filesystem.
    FS_INODES = Gauge "greenlight_node_filesystem_inodes" [mountpoint, device, fstype] Count;
    /// Inodes of a filesystem that users other than root may still take.
    FS_INODES_FREE = Gauge "greenlight_node_filesystem_inodes_free" [mountpoint, device, fstype] Count;
    /// Share of a filesystem's bytes that is available, once a second.
    FS_AVAILABLE = Histogram(FREE) "greenlight_node_filesystem_available_ratio" [mountpoint] Ratio as "node.fs.available";
    /// Share of a filesystem's inodes that is available, once a second.
    FS_INODES_AVAILABLE = Histogram(FREE) "greenlight_node_filesystem_inodes_available_ratio" [mountpoint] Ratio as "node.fs.inodes_available";
    /// Whether a filesystem that should be writable has turned read-only or dead (1) or not (0), once a second. Mounts that were made read-only don't count.
    FS_READONLY = Histogram(YES_NO) "greenlight_node_filesystem_readonly" [mountpoint] Count as "node.fs.readonly";
    /// Whether a filesystem's statvfs has not answered for too long (1) or has (0), once a second.
    FS_HUNG = Histogram(YES_NO) "greenlight_node_filesystem_hung" [mountpoint] Count as "node.fs.hung";
    /// Time until a filesystem with less than 40 % available is full, if it goes on as in the last six hours; 30 days for longer, for never, and where more is available.
    FS_FULL_IN = Histogram(FILLING) "greenlight_node_filesystem_full_in_seconds" [mountpoint] Seconds as "node.fs.full_in";
    /// The same for filesystems with less than 20 % available.
    FS_SCARCE_FULL_IN = Histogram(FILLING) "greenlight_node_filesystem_scarce_full_in_seconds" [mountpoint] Seconds as "node.fs.scarce_full_in";
    /// Errors that an ext4 filesystem has found in itself, as its superblock counts them.
    FS_ERRORS = Counter "greenlight_node_filesystem_errors_total" [device] Count as "node.fs.errors";

    /// Bytes that an interface has received and transmitted.
    NETWORK_BYTES = Counter "greenlight_node_network_bytes_total" [interface, direction] Bytes;
    /// Packets that an interface has received and transmitted.
    NETWORK_PACKETS = Counter "greenlight_node_network_packets_total" [interface, direction] Count;
    /// Damaged packets by direction.
    NETWORK_ERRORS = Counter "greenlight_node_network_errors_total" [interface, direction] Count;
    /// Packets thrown away by direction; received ones include those that nobody wanted.
    NETWORK_DROPS = Counter "greenlight_node_network_drops_total" [interface, direction] Count;
    /// Whether an interface has a carrier (1) or not (0); absent where it is down.
    NETWORK_CARRIER = Gauge "greenlight_node_network_carrier" [interface] Count;
    /// Whether an interface is up in the sense of RFC 2863 (1) or not (0).
    NETWORK_UP = Gauge "greenlight_node_network_up" [interface] Count;
    /// Nominal speed of an interface in bytes a second; absent where it has none.
    NETWORK_SPEED = Gauge "greenlight_node_network_speed_bytes" [interface] Bytes;
    /// The largest packet that an interface takes.
    NETWORK_MTU = Gauge "greenlight_node_network_mtu_bytes" [interface] Bytes;
    /// Damaged packets by what was wrong: checksum (crc), frame, or a full FIFO of the device.
    NETWORK_ERROR_KINDS = Counter "greenlight_node_network_error_kinds_total" [interface, kind] Count;
    /// Damaged packets, both directions together; of tunnels and bridges those received, for to them a peer that is not there is an error of sending. Interfaces of single containers and virtual machines are left out.
    LINK_ERRORS = Counter "greenlight_node_link_errors_total" [interface] Count as "node.link.errors";
    /// Packets thrown away, both directions together, those missed among them. Interfaces of single containers and virtual machines are left out.
    LINK_DROPS = Counter "greenlight_node_link_drops_total" [interface] Count as "node.link.drops";
    /// Packets thrown away in seconds in which one direction lost at least ten, and half a per cent of what it carried. Interfaces of single containers and virtual machines are left out.
    LINK_LOST = Counter "greenlight_node_link_lost_total" [interface] Count as "node.link.lost";

    /// Between the clock and what this node's time daemon takes for the time; the kernel's own figure (adjtimex).
    CLOCK_OFFSET_NOW = Gauge "greenlight_node_clock_offset_seconds" [] Seconds;
    /// How far the clock is off, whichever way, once a second.
    CLOCK_OFFSET = Histogram(CLOCK) "greenlight_node_clock_offset_absolute_seconds" [] Seconds as "node.clock.offset";
    /// The largest error of the clock that is possible, once a second. It grows by 0.5 ms in a second until the time daemon has asked its servers again.
    CLOCK_MAX_ERROR = Histogram(CLOCK) "greenlight_node_clock_max_error_seconds" [] Seconds as "node.clock.max_error";
    /// The error of the clock as the time daemon estimates it.
    CLOCK_ESTIMATED_ERROR = Gauge "greenlight_node_clock_estimated_error_seconds" [] Seconds;
    /// How much faster the clock is made to run than it would by itself; 0.000001 is one part in a million.
    CLOCK_FREQUENCY = Gauge "greenlight_node_clock_frequency_adjustment_ratio" [] Ratio;
    /// Whether the kernel calls its clock not synchronised (1) or synchronised (0), once a second.
    CLOCK_UNSYNCHRONISED = Histogram(YES_NO) "greenlight_node_clock_unsynchronised" [] Count as "node.clock.unsynchronised";
    /// Times that the wall clock was set, instead of being slowed down or sped up, since the agent began to look.
    CLOCK_STEPS = Counter "greenlight_node_clock_steps_total" [] Count as "node.clock.steps";

    /// Share of the processors whose frequency is governed for performance, once a second.
    GOVERNED_FOR_PERFORMANCE = Histogram(RATIO) "greenlight_node_cpu_performance_governor_ratio" [] Ratio as "node.settings.performance_governor";
    /// Whether memory is given in huge pages never (0), on request (1) or always (2), once a second.
    HUGE_PAGES = Histogram(NEVER_ALWAYS) "greenlight_node_transparent_hugepages" [] Count as "node.settings.transparent_hugepages";
    /// Settings of the kernel that products ask for, by their names in sysctl(8). One that a kernel lacks is not there.
    KERNEL_SETTING = Gauge "greenlight_node_kernel_setting" [setting] Count as "node.settings.kernel";
    /// Kernel, distribution and what the node runs on; always 1.
    SYSTEM_INFO = Gauge "greenlight_node_system_info" [kernel, os, os_version, architecture, virtualisation] Count;
    /// Model of the processors and version of their microcode; always 1.
    CPU_INFO = Gauge "greenlight_node_cpu_info" [model, microcode] Count;
    /// Settings that decide how fast a database is: the processors' governor, transparent huge pages, vm.overcommit_memory; always 1.
    SETTINGS_INFO = Gauge "greenlight_node_settings_info" [governor, transparent_hugepages, overcommit_memory] Count;
    /// Model of a disk, whether it rotates (1) or not (0), its scheduler and its write cache; always 1.
    DISK_INFO = Gauge "greenlight_node_disk_info" [device, model, rotational, scheduler, write_cache] Count;

    /// Control groups found.
    CGROUPS = Gauge "greenlight_node_cgroups" [] Count;
    /// The largest share of its quota's periods in which any control group was throttled between the last two walks, and over the last minutes at least, once a second; 0 where none has a quota.
    CGROUP_THROTTLED_WORST = Histogram(RATIO) "greenlight_node_cgroup_worst_throttled_ratio" [] Ratio as "node.cgroup.throttled";
    /// Processors that the services and containers which use the most used between the last two walks.
    CGROUP_CPU = Gauge "greenlight_node_cgroup_cpus_used" [cgroup] Count;
    /// Share of its quota's periods in which a service or container was throttled between the last two walks, of those throttled the most.
    CGROUP_THROTTLED = Gauge "greenlight_node_cgroup_throttled_ratio" [cgroup] Ratio;
    /// Memory of the services and containers that hold the most, files in the cache included.
    CGROUP_MEMORY = Gauge "greenlight_node_cgroup_memory_bytes" [cgroup] Bytes;
    /// Kills for want of memory, limits met and slow-downs above the soft limit, of the services and containers that hold the most memory.
    CGROUP_MEMORY_EVENTS = Counter "greenlight_node_cgroup_memory_events_total" [cgroup, event] Count;
    /// Bytes a second that the services and containers which read and write the most did between the last two walks.
    CGROUP_IO = Gauge "greenlight_node_cgroup_io_bytes_per_second" [cgroup] Bytes;
    /// Received packets that the device had no buffer for: its ring was full.
    LINK_MISSED = Counter "greenlight_node_link_missed_total" [interface] Count as "node.link.missed";
    /// How often the carrier came or went, of interfaces with a wire.
    LINK_CARRIER_CHANGES = Counter "greenlight_node_link_carrier_changes_total" [interface] Count as "node.link.carrier_changes";
    /// What the busier direction carried in each second, as a share of the speed; only where the speed is known.
    LINK_THROUGHPUT = Histogram(RATIO) "greenlight_node_link_throughput_ratio" [interface] Ratio as "node.link.throughput";
    /// Whether an interface sends and receives by turns only (1) or at once (0), once a second; only where it is known.
    LINK_HALF_DUPLEX = Histogram(YES_NO) "greenlight_node_link_half_duplex" [interface] Count as "node.link.half_duplex";
    /// Interfaces of a bond: those that are configured, and those of them whose link is up.
    BOND_SLAVES = Gauge "greenlight_node_bond_slaves" [interface, state] Count;
    /// Interfaces of a bond whose link is not up, once a second.
    BOND_MISSING = Histogram(DEPTH) "greenlight_node_bond_slaves_missing" [interface] Count as "node.bond.missing";

    /// Packets that an interface's queue (its root queueing discipline) threw away.
    QDISC_DROPS = Counter "greenlight_node_qdisc_drops_total" [interface] Count as "node.qdisc.drops";
    /// Times that a packet had to wait in an interface's queue for the rate that is set there.
    QDISC_OVERLIMITS = Counter "greenlight_node_qdisc_overlimits_total" [interface] Count;
    /// Packets that wait in an interface's queue.
    QDISC_PACKETS = Gauge "greenlight_node_qdisc_backlog_packets" [interface] Count;
    /// Bytes that wait in an interface's queue, once a second, as it was read in the last ten seconds; only where there is one.
    QDISC_BACKLOG = Histogram(QUEUED) "greenlight_node_qdisc_backlog_bytes" [interface] Bytes as "node.qdisc.backlog";

    /// Packets thrown away because a processor had too many waiting (net.core.netdev_max_backlog).
    SOFTNET_DROPS = Counter "greenlight_node_softnet_drops_total" [] Count as "node.softnet.drops";
    /// Times that a processor had to leave received packets for later: its budget (net.core.netdev_budget) was used up.
    SOFTNET_SQUEEZES = Counter "greenlight_node_softnet_squeezes_total" [] Count as "node.softnet.squeezes";

    /// Segments of TCP that were sent, without those sent again.
    TCP_SEGMENTS = Counter "greenlight_node_tcp_sent_segments_total" [] Count;
    /// Segments of TCP that were sent again.
    TCP_RETRANSMITTED = Counter "greenlight_node_tcp_retransmitted_segments_total" [] Count;
    /// Segments sent again as a share of those sent in five seconds, of a hundred where fewer were sent: one lost segment of an idle node is no rate.
    TCP_RETRANSMITS = Histogram(SHARE) "greenlight_node_tcp_retransmits_ratio" [] Ratio as "node.tcp.retransmits";
    /// Connections of TCP that were opened, by direction.
    TCP_OPENS = Counter "greenlight_node_tcp_opens_total" [direction] Count;
    /// Openings (SYN and SYN/ACK) that had to be sent again.
    TCP_SYN_RETRANSMITTED = Counter "greenlight_node_tcp_syn_retransmits_total" [] Count;
    /// Openings sent again as a share of the connections opened in five seconds, of ten where fewer were opened.
    TCP_SYN_RETRANSMITS = Histogram(SHARE) "greenlight_node_tcp_syn_retransmits_ratio" [] Ratio as "node.tcp.syn_retransmits";
    /// Times that TCP's retransmission timer ran out: nothing at all came back meanwhile.
    TCP_TIMEOUTS = Counter "greenlight_node_tcp_timeouts_total" [] Count;
    /// Timeouts as a share of the segments sent in five seconds, of a hundred where fewer were sent.
    TCP_TIMEOUT_RATIO = Histogram(SHARE) "greenlight_node_tcp_timeouts_ratio" [] Ratio as "node.tcp.timeouts";
    /// Connections that were thrown away because a listener's accept queue was full.
    LISTEN_OVERFLOWS = Counter "greenlight_node_listen_overflows_total" [] Count as "node.listen.overflows";
    /// Openings that were thrown away by listeners, for whatever reason.
    LISTEN_DROPS = Counter "greenlight_node_listen_drops_total" [] Count as "node.listen.drops";
    /// Openings that were thrown away because too many were half open (tcp_max_syn_backlog), without SYN cookies.
    REQUEST_QUEUE_FULL = Counter "greenlight_node_listen_request_queue_full_total" [] Count as "node.listen.request_queue_full";
    /// Failed searches of TCP for the path MTU.
    MTU_PROBE_FAILURES = Counter "greenlight_node_tcp_mtu_probe_failures_total" [] Count as "node.tcp.mtu_probe_failures";
    /// Packets that were too large for the next hop and were not to be fragmented, IPv4 and IPv6.
    FRAGMENT_FAILURES = Counter "greenlight_node_ip_fragment_failures_total" [] Count as "node.ip.fragment_failures";
    /// Messages of others that a packet of this node was not delivered: no such host, network or port, forbidden, or too large for the way (ICMP type 3, ICMPv6 types 1 and 2). Ports where nobody listens are among them, so no pack judges it.
    UNDELIVERED = Counter "greenlight_node_icmp_unreachable_total" [] Count as "node.icmp.unreachable";
    /// Packets of which not all fragments came, IPv4 and IPv6.
    REASSEMBLY_FAILURES = Counter "greenlight_node_ip_reassembly_failures_total" [] Count as "node.ip.reassembly_failures";
    /// Datagrams of UDP that were received and thrown away because a socket's buffer was full, IPv4 and IPv6.
    UDP_RECEIVE_LOSS = Counter "greenlight_node_udp_receive_buffer_errors_total" [] Count as "node.udp.receive_buffer_errors";
    /// Datagrams of UDP that could not be sent for want of buffers, IPv4 and IPv6.
    UDP_SEND_LOSS = Counter "greenlight_node_udp_send_buffer_errors_total" [] Count as "node.udp.send_buffer_errors";

    /// Sockets of TCP that listen, in this process's network namespace.
    LISTENERS = Gauge "greenlight_node_listeners" [] Count;
    /// How full the fullest accept queue is, once a second: connections that wait to be accepted as a share of those that may (one more than the listener's backlog). 0 where nobody listens.
    LISTEN_QUEUE = Histogram(RATIO) "greenlight_node_listen_queue_fill_ratio" [] Ratio as "node.listen.queue";
    /// Connections that wait to be accepted, by the address that listens; without the ports that the kernel gives away itself, and of several listeners at one address the fullest.
    LISTENER_QUEUE = Gauge "greenlight_node_listener_queue_connections" [listener] Count;
    /// Connections that may wait to be accepted (the listener's backlog, cut at net.core.somaxconn).
    LISTENER_QUEUE_LIMIT = Gauge "greenlight_node_listener_queue_limit" [listener] Count;
    /// Local ports in use for the destination (from one address, to one address and port) that takes most, connections in TIME_WAIT included.
    PORTS = Gauge "greenlight_node_local_ports_used" [] Count;
    /// Local ports that the kernel has for each destination: net.ipv4.ip_local_port_range without those reserved.
    PORTS_LIMIT = Gauge "greenlight_node_local_ports_limit" [] Count;
    /// Share of the local ports in use for the destination that takes most, once a second, as it was counted in the last thirty seconds, or as much more rarely as there are many connections.
    PORTS_USED = Histogram(RATIO) "greenlight_node_local_ports_used_ratio" [] Ratio as "node.ports.used";

    /// Sockets by what they are, as /proc/net/sockstat counts them.
    SOCKETS = Gauge "greenlight_node_sockets" [kind] Count;
    /// Memory that TCP's buffers take.
    TCP_MEMORY_BYTES = Gauge "greenlight_node_tcp_memory_bytes" [] Bytes;
    /// Memory that TCP's buffers take as a share of what they may (the last of net.ipv4.tcp_mem), once a second.
    TCP_MEMORY = Histogram(RATIO) "greenlight_node_tcp_memory_ratio" [] Ratio as "node.tcp.memory";
    /// Connections that no process holds any more as a share of what may be (net.ipv4.tcp_max_orphans), once a second.
    TCP_ORPHANS = Histogram(RATIO) "greenlight_node_tcp_orphans_ratio" [] Ratio as "node.tcp.orphans";

    /// Neighbours in the table of an address family.
    NEIGHBOURS = Gauge "greenlight_node_neighbours" [family] Count;
    /// The most neighbours that the table of an address family holds (gc_thresh3).
    NEIGHBOURS_LIMIT = Gauge "greenlight_node_neighbours_limit" [family] Count;
    /// Neighbours in the table of an address family that its limit does not count: permanent ones, and those that a routing daemon taught the kernel (Linux 5.0 and newer).
    NEIGHBOURS_EXEMPT = Gauge "greenlight_node_neighbours_exempt" [family] Count;
    /// The fuller of the two tables of neighbours by what their limit counts, once a second.
    NEIGHBOURS_FILL = Histogram(RATIO) "greenlight_node_neighbours_fill_ratio" [] Ratio as "node.neighbours.fill";
    /// Neighbours that found no place in their table, both families together.
    NEIGHBOURS_REFUSED = Counter "greenlight_node_neighbours_table_full_total" [] Count as "node.neighbours.refused";

    /// Connections that the packet filter tracks.
    CONNTRACK_ENTRIES = Gauge "greenlight_node_conntrack_entries" [] Count;
    /// The most connections that the packet filter tracks.
    CONNTRACK_LIMIT = Gauge "greenlight_node_conntrack_limit" [] Count;
    /// Tracked connections as a share of the most, once a second.
    CONNTRACK_FILL = Histogram(RATIO) "greenlight_node_conntrack_fill_ratio" [] Ratio as "node.conntrack.fill";
    /// Packets that were dropped because no connection could be added: the table was full, or there was no memory.
    CONNTRACK_DROPS = Counter "greenlight_node_conntrack_drops_total" [] Count as "node.conntrack.drops";
    /// Connections that were forgotten early to make room for others.
    CONNTRACK_EARLY_DROPS = Counter "greenlight_node_conntrack_early_drops_total" [] Count as "node.conntrack.early_drops";
    /// Connections that could not be added because the same one was there already.
    CONNTRACK_INSERT_FAILED = Counter "greenlight_node_conntrack_insert_failures_total" [] Count as "node.conntrack.insert_failures";
}
