//! What the probes measure, kind by kind.

use super::{LATENCY, RATIO, metrics};

metrics! {
    /// Round-trip time of each echo that was answered.
    ICMP_RTT = Histogram(LATENCY) "greenlight_icmp_rtt_seconds" [check, target] Seconds as "icmp.rtt";
    /// Share of the echoes of an attempt that were not answered.
    ICMP_LOSS = Histogram(RATIO) "greenlight_icmp_loss_ratio" [check, target] Ratio as "icmp.loss";
    /// Mean difference between consecutive round-trip times of an attempt (RFC 3550's idea of jitter).
    ICMP_JITTER = Histogram(LATENCY) "greenlight_icmp_jitter_seconds" [check, target] Seconds as "icmp.jitter";
    /// Time to open a TCP connection.
    TCP_CONNECT = Histogram(LATENCY) "greenlight_tcp_connect_seconds" [check, target] Seconds as "tcp.connect";
}
