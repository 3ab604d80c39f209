//! What the agent says of itself, of its checks and of its gates.

use super::{LATENCY, metrics};

metrics! {
    /// The verdict of each gate: 0 pass, 1 not_applicable, 2 waived, 3 warn, 4 open, 5 error, 6 fail.
    GATE_VERDICT = Gauge "greenlight_gate_verdict" [gate, level] Count;
    /// The value each gate was last judged by, in base units; absent where nobody measured it.
    GATE_VALUE = Gauge "greenlight_gate_value" [gate] Count;
    /// The threshold of each gate by severity (warn, fail), in base units.
    GATE_THRESHOLD = Gauge "greenlight_gate_threshold" [gate, severity] Count;
    /// How many samples each gate was last judged from.
    GATE_SAMPLES = Gauge "greenlight_gate_samples" [gate] Count;
    /// The decision: 0 go, 1 go_with_waivers, 2 incomplete, 3 no_go.
    DECISION = Gauge "greenlight_decision" [] Count;
    /// Whether the last attempt succeeded (1) or failed (0); absent while inconclusive.
    CHECK_SUCCESS = Gauge "greenlight_check_success" [check, target] Ratio as "check.success";
    /// How long the last attempt took.
    CHECK_DURATION = Gauge "greenlight_check_duration_seconds" [check, target] Seconds;
    /// How long each attempt took.
    CHECK_ATTEMPT = Histogram(LATENCY) "greenlight_check_attempt_duration_seconds" [check, target] Seconds as "check.duration";
    /// Attempts made, whatever their outcome.
    CHECK_ATTEMPTS = Counter "greenlight_check_attempts_total" [check, target] Count;
    /// Failed attempts by reason.
    CHECK_FAILURES = Counter "greenlight_check_failures_total" [check, target, reason] Count;
    /// Attempts that could not measure, by fault.
    CHECK_INCONCLUSIVE = Counter "greenlight_check_inconclusive_total" [check, target, fault] Count;
    /// When the last attempt began.
    CHECK_LAST_ATTEMPT = Gauge "greenlight_check_last_attempt_timestamp_seconds" [check, target] Seconds;
    /// The version of this binary; always 1.
    BUILD_INFO = Gauge "greenlight_build_info" [version, revision] Count;
    /// The name of this node; always 1.
    NODE_INFO = Gauge "greenlight_node_info" [node] Count;
    /// The digest of the plan in force; always 1.
    PLAN_INFO = Gauge "greenlight_plan_info" [digest] Count;
    /// Whether the last reload took the new plan (1) or kept the old one (0).
    PLAN_RELOAD_SUCCESS = Gauge "greenlight_plan_reload_success" [] Count;
    /// Ticks that were skipped because the attempt before still ran or too many were in flight.
    SCHEDULER_MISSED = Counter "greenlight_scheduler_missed_ticks_total" [check] Count;
    /// Attempts in flight.
    RUNNER_IN_FLIGHT = Gauge "greenlight_runner_in_flight" [] Count;
    /// The most attempts that may be in flight.
    RUNNER_IN_FLIGHT_LIMIT = Gauge "greenlight_runner_in_flight_limit" [] Count;
    /// Entries in each bounded queue, lane, inbox and pool; of several under one name, in the fullest.
    QUEUE_LENGTH = Gauge "greenlight_queue_length" [queue] Count;
    /// The most entries each of them may hold.
    QUEUE_LIMIT = Gauge "greenlight_queue_limit" [queue] Count;
    /// Entries that were refused, or pushed out by newer ones, because it was full.
    QUEUE_DROPPED = Counter "greenlight_queue_dropped_total" [queue] Count;
    /// Time for which Kafka's quotas held senders back, of each five seconds the longest.
    KAFKA_THROTTLED = Counter "greenlight_kafka_throttled_seconds_total" [] Seconds;
    /// Readings of this node that have outlived their deadline and hold a cell.
    CELLS_HUNG = Gauge "greenlight_cells_hung" [] Count;
    /// Rows of the metric that has the most.
    METRIC_ROWS = Gauge "greenlight_metric_rows" [] Count;
    /// The most rows that one metric may have.
    METRIC_ROWS_LIMIT = Gauge "greenlight_metric_rows_limit" [] Count;
    /// Rows that were not exported because a metric had reached its limit of rows.
    METRIC_ROWS_DROPPED = Counter "greenlight_metric_rows_dropped_total" [metric] Count;
    /// Whether the state directory can be written (1) or the agent lives in memory (0).
    STORE_UP = Gauge "greenlight_store_up" [] Count;
    /// Bytes that the state database takes on disk.
    STORE_BYTES = Gauge "greenlight_store_size_bytes" [] Bytes;
    /// The most bytes that the state database may take.
    STORE_BYTES_LIMIT = Gauge "greenlight_store_size_limit_bytes" [] Bytes;
    /// Writes to the state database that failed.
    STORE_ERRORS = Counter "greenlight_store_errors_total" [] Count;
    /// Points held in memory for gates.
    SERIES_POINTS = Gauge "greenlight_series_points" [] Count;
    /// The most points that may be held in memory for gates.
    SERIES_POINTS_LIMIT = Gauge "greenlight_series_points_limit" [] Count;
    /// Points that were cut off, oldest first, because too many were held.
    SERIES_POINTS_CUT = Counter "greenlight_series_points_cut_total" [] Count;
    /// Series held in memory for gates.
    SERIES_TRACKS = Gauge "greenlight_series_tracks" [] Count;
    /// The most series that may be held in memory for gates.
    SERIES_TRACKS_LIMIT = Gauge "greenlight_series_tracks_limit" [] Count;
    /// Other machines that selectors choose from.
    PEERS = Gauge "greenlight_peers" [] Count;
    /// The most of them.
    PEERS_LIMIT = Gauge "greenlight_peers_limit" [] Count;
    /// Whether the file of peers could be read (1) or the last good members stay (0); absent where the plan names no file.
    PEERS_FILE_SUCCESS = Gauge "greenlight_peers_file_success" [] Count;
    /// Times that a supervised task ended before its time and was started again.
    TASK_RESTARTS = Counter "greenlight_task_restarts_total" [task] Count;
    /// Resident memory of this process.
    PROCESS_RESIDENT = Gauge "greenlight_process_resident_memory_bytes" [] Bytes;
    /// Processor time that this process has used.
    PROCESS_CPU = Counter "greenlight_process_cpu_seconds_total" [] Seconds;
    /// Requests that the HTTP server answered, by route and status class.
    HTTP_REQUESTS = Counter "greenlight_http_requests_total" [route, code] Count;
}
