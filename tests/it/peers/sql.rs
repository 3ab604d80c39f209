//! ClickHouse, started once and shared: tests use tables of their own and never stop it.

use std::fs;
use std::sync::OnceLock;

use super::{Process, folder, free_port, get, post};

pub(crate) struct ClickHouse {
    pub(crate) url: String,
    process: Process,
}

/// Debian's, of 2018: old SQL, no query parameters.
pub(crate) fn clickhouse() -> &'static ClickHouse {
    static SHARED: OnceLock<ClickHouse> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = folder("clickhouse");
        let (port, tcp) = (free_port(), free_port());
        let config = include_str!("../../peers/clickhouse.xml")
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@TCP@", &tcp.to_string());
        let users = include_str!("../../peers/clickhouse-users.xml");
        let written = fs::write(folder.join("config.xml"), config)
            .and_then(|()| fs::write(folder.join("users.xml"), users));
        written.expect("the folder can be written");
        let mut process = Process::start(
            "clickhouse-server",
            "clickhouse-server",
            &[&format!("--config-file={}", folder.join("config.xml").display())],
            &folder.join("clickhouse.log"),
        );
        let url = format!("http://127.0.0.1:{port}/");
        process.wait_until(|| get(&url).is_some_and(|(status, _)| status == 200));
        ClickHouse { url, process }
    })
}

impl ClickHouse {
    /// Runs one statement.
    pub(crate) fn run(&self, sql: &str) -> String {
        let (status, body) = post(&self.url, "text/plain", sql).expect("clickhouse answers");
        assert_eq!(status, 200, "{sql}: {body}");
        body
    }
}
