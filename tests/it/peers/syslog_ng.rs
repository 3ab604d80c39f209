//! A syslog-ng of Debian's, which can't be installed beside rsyslog and runs out of its own folder.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use super::{Process, folder, free_port};
use crate::http::server::Authority;

/// UDP on `port`, TCP with octet counting on `port` and with line feeds on `lines`, and TLS that wants a
/// certificate of `ca`.
pub(crate) struct SyslogNg {
    pub(crate) port: u16,
    pub(crate) lines: u16,
    pub(crate) tls: u16,
    /// Holds ca.pem, client.pem with client.key, and `messages`.
    pub(crate) folder: PathBuf,
    process: Process,
}

impl SyslogNg {
    pub(crate) fn start() -> Self {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/syslog-ng/usr");
        assert!(
            home.join("sbin/syslog-ng").is_file(),
            "syslog-ng is not fetched (see {}): run tests/run, or tests/peers/fetch",
            home.display()
        );
        let folder = folder("syslog-ng");
        Authority::new().write_both_sides(&folder);
        let [port, lines, tls] = [(); 3].map(|()| free_port());
        let config = include_str!("../../peers/syslog-ng.conf")
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@LINES@", &lines.to_string())
            .replace("@TLS@", &tls.to_string());
        fs::write(folder.join("syslog-ng.conf"), config).expect("the folder can be written");
        let at = |path: PathBuf| path.display().to_string();
        let libraries = fs::read_dir(home.join("lib")).expect("it was unpacked").flatten();
        let libraries: Vec<String> =
            libraries.map(|entry| at(entry.path())).chain([at(home.join("lib"))]).collect();
        let mut process = Process::start(
            "env",
            "coreutils",
            &[
                &format!("LD_LIBRARY_PATH={}", libraries.join(":")),
                &at(home.join("sbin/syslog-ng")),
                "--foreground",
                "--no-caps",
                "--cfgfile",
                &at(folder.join("syslog-ng.conf")),
                "--persist-file",
                &at(folder.join("persist")),
                "--pidfile",
                &at(folder.join("pid")),
                "--control",
                &at(folder.join("control")),
                "--module-path",
                &at(home.join("lib/syslog-ng/3.38")),
            ],
            &folder.join("syslog-ng.log"),
        );
        let open = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        process.wait_until(|| [port, lines, tls].into_iter().all(open));
        Self { port, lines, tls, folder, process }
    }

    /// What it has written, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("messages")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
