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
    /// Age of the newest notification that matches.
    WEBHOOK_AGE = Gauge "greenlight_webhook_age_seconds" [check, target] Seconds as "webhook.age";
    /// Time until each record that was produced was acknowledged by all replicas in sync.
    KAFKA_PRODUCE = Histogram(LATENCY) "greenlight_kafka_produce_seconds" [check, target] Seconds as "kafka.produce";
    /// Time from handing over each record until it was read back.
    KAFKA_ROUNDTRIP = Histogram(LATENCY) "greenlight_kafka_roundtrip_seconds" [check, target] Seconds as "kafka.roundtrip";
    /// Time to open a TCP connection to a syslog receiver, its TLS handshake included.
    SYSLOG_CONNECT = Histogram(LATENCY) "greenlight_syslog_connect_seconds" [check, target] Seconds as "syslog.connect";
}
