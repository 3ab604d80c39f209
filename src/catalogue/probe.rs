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
}
