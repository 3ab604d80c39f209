//! The partner's gate of storage over a disk that becomes slow under a declared load.

use super::*;
use crate::load::post;

const GATE: &str = "partner.capacity.storage-performance";

#[test]
fn a_slow_data_path_under_load_turns_the_partners_storage_gate_red_and_green_again() {
    let disk = Disk::faulty().mounted();
    let data = disk.data().display().to_string();
    let text = format!(
        "include: [ 'pack:partner-platform' ]
checks:
  - {{ id: sync, disk_sync: {{ exclusive: true, bytes: 1MB, time: 1s }}, targets: [ '{data}' ], every: 10s, timeout: 9s }}
  - {{ id: io, disk_io: {{ exclusive: true, bytes: 2MiB, time: 2s }}, targets: [ '{data}' ], every: 10s, timeout: 9s }}
vars:
  storage_sync_check: sync
  storage_io_check: io
  storage_window: 30s
  storage_sync_samples: 20
  storage_sync_most: 500ms
  storage_read_iops_least: 20
  storage_write_iops_least: 20
  storage_read_bandwidth_least: 5MB
  storage_write_bandwidth_least: 5MB
"
    );
    let (folder, file) = folder_with(&text);
    let daemon = Daemon::start(&file, &folder.path().join("state"), &[]);
    let row = daemon.until_verdict(GATE, "open", PATIENCE);
    assert_eq!(row["reason"]["code"], "no_load", "{row:#}");
    let (status, row) =
        post(&daemon.address, r#"{"start": "now", "end": "+2h", "source": "test"}"#);
    assert_eq!(status, 200, "{row}");
    daemon.until_verdict(GATE, "pass", PATIENCE);
    // Two megabytes in a second: a request may take longer than any should, but attempts end.
    fs::write(disk.path("rate"), "16M").unwrap();
    let row = daemon.until_verdict(GATE, "fail", PATIENCE);
    assert_eq!(row["worst"]["target"], data, "{row:#}");
    // Without the file the last rate would stay.
    fs::write(disk.path("rate"), "80G").unwrap();
    daemon.until_verdict(GATE, "pass", PATIENCE);
}
