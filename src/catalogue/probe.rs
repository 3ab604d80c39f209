//! What the probes measure, kind by kind.

use super::{LATENCY, RATIO, metrics};

/// Boundaries for the size of a packet: each is the largest of some link or tunnel (1420 is
/// WireGuard's, 1450 VXLAN's, 1492 PPPoE's, 8950 and 9000 jumbo frames with and without VXLAN, 9001 AWS's).
const MTU: &[f64] = &[
    68.0, 576.0, 1279.0, 1280.0, 1399.0, 1400.0, 1420.0, 1450.0, 1460.0, 1492.0, 1499.0, 1500.0,
    8949.0, 8950.0, 8999.0, 9000.0, 9001.0, 65535.0,
];

metrics! {
    /// Round-trip time of each echo that was answered.
    ICMP_RTT = Histogram(LATENCY) "greenlight_icmp_rtt_seconds" [check, target] Seconds as "icmp.rtt";
    /// Share of the echoes of an attempt that were not answered.
    ICMP_LOSS = Histogram(RATIO) "greenlight_icmp_loss_ratio" [check, target] Ratio as "icmp.loss";
    /// Mean difference between consecutive round-trip times of an attempt (RFC 3550's idea of jitter).
    ICMP_JITTER = Histogram(LATENCY) "greenlight_icmp_jitter_seconds" [check, target] Seconds as "icmp.jitter";
    /// Time to open a TCP connection.
    TCP_CONNECT = Histogram(LATENCY) "greenlight_tcp_connect_seconds" [check, target] Seconds as "tcp.connect";
    /// The largest IP packet that passed to the target unfragmented: the expected size, or what was found where that is not the limit.
    PATH_MTU = Histogram(MTU) "greenlight_path_mtu_bytes" [check, target] Bytes as "path_mtu.bytes";
    /// Time of a whole HTTP request, redirects included.
    HTTP_DURATION = Histogram(LATENCY) "greenlight_http_duration_seconds" [check, target] Seconds as "http.duration";
    /// Time of each phase of an HTTP request: resolve, connect, tls, request, first_byte, body.
    HTTP_PHASE = Histogram(LATENCY) "greenlight_http_phase_seconds" [check, target, phase] Seconds as "http.phase";
    /// Time until the server's certificate runs out; negative where it has.
    HTTP_TLS_EXPIRY = Gauge "greenlight_http_tls_expiry_seconds" [check, target] Seconds as "http.tls_expiry";
    /// The value of each series that the query yields.
    PROMQL_VALUE = Gauge "greenlight_promql_value" [check, target] Count as "promql.value";
    /// Alerts that match and fire.
    ALERTMANAGER_FIRING = Gauge "greenlight_alertmanager_firing_alerts" [check, target] Count as "alertmanager.firing";
    /// Alerts that match and are silenced, inhibited or muted.
    ALERTMANAGER_SUPPRESSED = Gauge "greenlight_alertmanager_suppressed_alerts" [check, target] Count as "alertmanager.suppressed";
    /// Whether the alert that always fires is there and reaches somebody.
    ALERTMANAGER_WATCHDOG = Gauge "greenlight_alertmanager_watchdog" [check, target] Count as "alertmanager.watchdog";
    /// Rules that a detection engine has loaded.
    RULES_COUNT = Gauge "greenlight_rules" [check, target] Count as "rules.count";
    /// Rules that are switched off.
    RULES_DISABLED = Gauge "greenlight_rules_disabled" [check, target] Count as "rules.disabled";
    /// Rules whose last run failed, or that never ran.
    RULES_FAILING = Gauge "greenlight_rules_failing" [check, target] Count as "rules.failing";
    /// Time since the last run of the rule that has not run for longest.
    RULES_RUN_AGE = Gauge "greenlight_rules_run_age_seconds" [check, target] Seconds as "rules.run_age";
    /// Age of the newest notification that matches.
    WEBHOOK_AGE = Gauge "greenlight_webhook_age_seconds" [check, target] Seconds as "webhook.age";
    /// Time until each record that was produced was acknowledged by all replicas in sync.
    KAFKA_PRODUCE = Histogram(LATENCY) "greenlight_kafka_produce_seconds" [check, target] Seconds as "kafka.produce";
    /// Time from handing over each record until it was read back.
    KAFKA_ROUNDTRIP = Histogram(LATENCY) "greenlight_kafka_roundtrip_seconds" [check, target] Seconds as "kafka.roundtrip";
    /// Time to open a TCP connection to a syslog receiver, its TLS handshake included.
    SYSLOG_CONNECT = Histogram(LATENCY) "greenlight_syslog_connect_seconds" [check, target] Seconds as "syslog.connect";
    /// Time of each fdatasync after a small write.
    DISK_SYNC = Histogram(LATENCY) "greenlight_disk_sync_seconds" [check, target] Seconds as "disk_sync.latency";
    /// Percentiles of the syncs of the newest attempt (probability 1 is the longest), each with the bounds of its 95 % confidence interval: bound is estimate, lower or upper.
    DISK_SYNC_QUANTILE = Gauge "greenlight_disk_sync_quantile_seconds" [check, target, probability, bound] Seconds as "disk_sync.quantile";
    /// Syncs of the newest attempt.
    DISK_SYNC_SAMPLES = Gauge "greenlight_disk_sync_samples" [check, target] Count;
    /// Syncs in a second that the disk took at full speed; only of an attempt that has it for itself.
    DISK_SYNC_RATE = Gauge "greenlight_disk_syncs_per_second" [check, target] Count as "disk_sync.rate";
    /// Percentiles of the requests of the newest attempt (probability 1 is the longest), each with the bounds of its 95 % confidence interval: bound is estimate, lower or upper.
    DISK_IO_LATENCY = Gauge "greenlight_disk_io_quantile_seconds" [check, target, profile, probability, bound] Seconds as "disk_io.latency";
    /// Requests of the newest attempt.
    DISK_IO_SAMPLES = Gauge "greenlight_disk_io_samples" [check, target, profile] Count;
    /// Requests in a second that the disk takes at the profile's depth.
    DISK_IO_IOPS = Gauge "greenlight_disk_io_requests_per_second" [check, target, profile] Count as "disk_io.iops";
    /// Bytes in a second that the disk takes at the profile's depth and block.
    DISK_IO_BANDWIDTH = Gauge "greenlight_disk_io_bytes_per_second" [check, target, profile] Bytes as "disk_io.bandwidth";
    /// How the requests of the newest attempt were made: 1 for the engine that ran.
    DISK_IO_ENGINE = Gauge "greenlight_disk_io_engine" [check, target, engine] Count;
    /// Share of the time in which all tasks at once waited for a disk, in the second before a disk probe and during it.
    DISK_PROBE_PRESSURE = Gauge "greenlight_disk_probe_pressure_ratio" [check, target, phase] Ratio;
    /// Requests in a second at the device of a disk probe, in the second before it and during it, its own among them.
    DISK_PROBE_REQUESTS = Gauge "greenlight_disk_probe_requests_per_second" [check, target, phase] Count;
    /// Share of the agreed rate, or of the agreed volume where that is less, that a load held beyond it.
    LOAD_HEADROOM = Gauge "greenlight_load_headroom_ratio" [check, target] Ratio as "load.headroom";
    /// Events a second that a load held.
    LOAD_RATE = Gauge "greenlight_load_proven_events_per_second" [check, target] Count as "load.rate";
    /// The bound on the loss of a load at 95 % confidence, at the stage where it is largest.
    LOAD_LOSS = Gauge "greenlight_load_loss_bound_ratio" [check, target] Ratio as "load.loss_bound";
    /// How long ago a load ended.
    LOAD_AGE = Gauge "greenlight_load_age_seconds" [check, target] Seconds as "load.age";
    /// Bytes that the agreed volume needs on this node for its retention.
    SIZING_BYTES = Gauge "greenlight_sizing_storage_needed_bytes" [check, target] Bytes as "sizing.storage_needed";
    /// Bytes in a second that the agreed volume brings to this node's disk at its peak.
    SIZING_BANDWIDTH = Gauge "greenlight_sizing_bandwidth_needed_bytes" [check, target] Bytes as "sizing.bandwidth_needed";
    /// Writes in a second that the agreed volume brings to this node's disk at its peak.
    SIZING_IOPS = Gauge "greenlight_sizing_requests_needed_per_second" [check, target] Count as "sizing.iops_needed";
    /// Share of the filesystem that is left beyond what the agreed volume needs; negative where it does not fit.
    SIZING_STORAGE_HEADROOM = Gauge "greenlight_sizing_storage_headroom_ratio" [check, target] Ratio as "sizing.storage_headroom";
    /// Share of the measured sequential write bandwidth that is left beyond what the agreed volume needs; absent until a disk_io check has measured the device.
    SIZING_BANDWIDTH_HEADROOM = Gauge "greenlight_sizing_bandwidth_headroom_ratio" [check, target] Ratio as "sizing.bandwidth_headroom";
    /// Share of the measured random writes a second that is left beyond what the agreed volume needs; absent until a disk_io check has measured the device.
    SIZING_IOPS_HEADROOM = Gauge "greenlight_sizing_requests_headroom_ratio" [check, target] Ratio as "sizing.iops_headroom";
}
