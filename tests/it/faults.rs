//! Every gate that can be judged, red on a fault and green when it is gone, by the whole agent.
//!
//! The faults are the kernel's own: memory filled in a cgroup, swapping, a slow disk, a filled and
//! a read-only filesystem, packets dropped, ports rejected, routers that take less. Time is scaled
//! by the packs' variables. They need root, and fail at once without it. [`table`] says which
//! gate is proven where.

mod bottlenecks;
mod compile;
mod demo;
mod disk;
mod listeners;
mod memory;
mod named;
mod network;
mod signals;
mod table;
mod variants;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{Daemon, folder_with};
use crate::machine::PATIENCE;

/// Every window of `linux-node` and `partner-platform`, and the fewest samples, made small.
pub(crate) const SCALED: [&str; 18] = [
    "node_window=6s",
    "node_oom_window=6s",
    "node_iowait_window=6s",
    "node_blocked_window=6s",
    "node_disk_queue_window=6s",
    "node_errors_window=6s",
    "node_link_window=6s",
    "node_core_window=6s",
    "node_hung_window=6s",
    "node_clock_window=6s",
    "node_clock_steps_window=6s",
    "node_hardware_window=12s",
    "node_bond_window=6s",
    "node_udp_window=6s",
    "node_queue_window=6s",
    "node_samples=3",
    "partner_window=6s",
    "partner_samples=3",
];

/// A running agent, and the folder of its plan and state.
struct Agent {
    daemon: Daemon,
    _folder: tempfile::TempDir,
}

impl Agent {
    /// With the packs' time scaled, and these variables besides.
    fn start(plan: &str, vars: &[&str], more: &[&str]) -> Self {
        let (folder, plan) = folder_with(plan);
        let mut arguments: Vec<&str> = more.to_vec();
        for var in SCALED.iter().chain(vars) {
            arguments.extend(["--var", var]);
        }
        let daemon = Daemon::start(&plan, &folder.path().join("state"), &arguments);
        Self { daemon, _folder: folder }
    }

    fn gate(&self, id: &str) -> Value {
        let gates = self.daemon.json("/api/v1/gates");
        let found = gates.as_array().and_then(|rows| rows.iter().find(|row| row["id"] == id));
        found.unwrap_or_else(|| panic!("the plan has no gate {id}")).clone()
    }

    /// The gate's row once it holds, or the last one.
    fn wait(
        &self,
        id: &str,
        within: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value, Value> {
        let began = Instant::now();
        loop {
            let row = self.gate(id);
            if holds(&row) {
                return Ok(row);
            }
            if began.elapsed() > within {
                return Err(row);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until each of these gates is green: passed, or warning of what other tests do.
    #[track_caller]
    fn green(&self, gates: &[&str]) {
        for gate in gates {
            if let Err(row) = self.wait(gate, PATIENCE, is_green) {
                panic!("{gate} is not green after {PATIENCE:?}: {row:#}");
            }
        }
    }

    /// Waits until the gate fails for this target, or as a whole where it is None.
    #[track_caller]
    fn red(&self, gate: &str, target: Option<&str>) -> Value {
        let holds = |row: &Value| {
            is_red(row) && target.is_none_or(|target| row["worst"]["target"] == target)
        };
        let row = self.wait(gate, PATIENCE, holds).unwrap_or_else(|row| {
            panic!("{gate} is not red for {target:?} after {PATIENCE:?}: {row:#}")
        });
        let [value, threshold] = [&row["value"], &row["threshold"]].map(Value::as_f64);
        assert!(value.is_none() || value != threshold, "{row:#}");
        assert!(row["margin"].as_f64().is_none_or(|margin| margin < 0.0), "{row:#}");
        assert!(row["reason"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{row:#}");
        row
    }

    /// Why the newest attempt of a check on a target failed: the code and the words.
    fn last(&self, check: &str, target: &str) -> (String, String) {
        let checks = self.daemon.json("/api/v1/checks");
        let find = |rows: &Value, key: &str, name: &str| {
            let rows = rows.as_array().unwrap();
            rows.iter().find(|row| row[key] == name).unwrap().clone()
        };
        let row = find(&find(&checks, "id", check)["targets"], "target", target);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&row["last"]["reason"]["code"]), text(&row["last"]["reason"]["text"]))
    }
}

fn is_green(row: &Value) -> bool {
    row["verdict"] == "pass" || row["verdict"] == "warn"
}

fn is_red(row: &Value) -> bool {
    row["verdict"] == "fail"
}

/// Kernel without pressure, as RHEL's is by default: everything else of /proc, as this process
/// sees it.
fn without_pressure(folder: &Path) -> String {
    let proc = folder.join("proc");
    std::fs::create_dir(&proc).unwrap();
    for name in ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "sys", "uptime", "vmstat"] {
        std::os::unix::fs::symlink(Path::new("/proc").join(name), proc.join(name)).unwrap();
    }
    let own = Path::new("/proc").join(std::process::id().to_string());
    std::os::unix::fs::symlink(&own, proc.join("1")).unwrap();
    std::os::unix::fs::symlink(own.join("net"), proc.join("net")).unwrap();
    proc.display().to_string()
}
