//! Every signal of the node's frame.
//!
//! Totals and gauges are the kernel's own figures, exported as they stand. What gates judge is
//! derived once a second; such a series has no label, or its instance (device, mount point,
//! interface) as its first, which gates know as the target of the check `node`.

use super::{DEPTH, FREE, LATENCY, PER_CORE, RATE, RATIO, SHARE, YES_NO, metrics};

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

    /// Memory by the names of /proc/meminfo.
    MEMORY_BYTES = Gauge "greenlight_node_memory_bytes" [kind] Bytes;
    /// Share of the memory that new work could get without swapping, once a second.
    MEMORY_AVAILABLE = Histogram(FREE) "greenlight_node_memory_available_ratio" [] Ratio as "node.memory.available";

    /// Major page faults: a page had to be read from a disk.
    MAJOR_FAULTS = Counter "greenlight_node_major_faults_total" [] Count;
    /// Pages swapped in and out.
    SWAP_PAGES = Counter "greenlight_node_swap_pages_total" [direction] Count;
    /// Allocations that had to wait while memory was freed for them (direct reclaim).
    ALLOCATION_STALLS = Counter "greenlight_node_allocation_stalls_total" [] Count;
    /// Tasks that the kernel killed for want of memory, in cgroups or in the whole node.
    OOM_KILLS = Counter "greenlight_node_oom_kills_total" [] Count as "node.oom.kills";
    /// Major page faults in each second.
    MAJOR_FAULT_RATE = Histogram(RATE) "greenlight_node_major_faults_per_second" [] Count as "node.memory.major_faults";
    /// Allocations in each second that had to wait while memory was freed for them.
    STALL_RATE = Histogram(RATE) "greenlight_node_allocation_stalls_per_second" [] Count as "node.memory.stalls";
    /// Pages swapped in, in each second.
    SWAP_IN_RATE = Histogram(RATE) "greenlight_node_swap_in_pages_per_second" [] Count as "node.swap.in";
    /// Pages swapped out, in each second.
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
    /// Nominal speed of an interface in bytes a second; absent where it has none.
    NETWORK_SPEED = Gauge "greenlight_node_network_speed_bytes" [interface] Bytes;
    /// The largest packet that an interface takes.
    NETWORK_MTU = Gauge "greenlight_node_network_mtu_bytes" [interface] Bytes;
    /// Damaged packets, both directions together. Interfaces of single containers and virtual machines are left out.
    LINK_ERRORS = Counter "greenlight_node_link_errors_total" [interface] Count as "node.link.errors";
    /// Packets thrown away, both directions together. Interfaces of single containers and virtual machines are left out.
    LINK_DROPS = Counter "greenlight_node_link_drops_total" [interface] Count as "node.link.drops";
}
