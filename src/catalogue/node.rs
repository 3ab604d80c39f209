//! Every signal of the node's frame.

use super::metrics;

metrics! {
    /// Seconds that each processor spent in each mode.
    CPU_SECONDS = Counter "greenlight_node_cpu_seconds_total" [cpu, mode] Seconds;
}
