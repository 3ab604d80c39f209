//! ClickHouse and PostgreSQL, started once and shared: tests use tables of their own and never stop
//! them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use super::{Process, folder, free_port, get, post, run};
use crate::http::server::Authority;

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

/// ClickHouse's engine of today, over HTTP; see `tests/peers/chdb/serve.py`.
pub(crate) fn chdb() -> ClickHouse {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/chdb");
    let fetched = fs::read_to_string(home.join("requirements.txt"));
    assert!(
        fetched.is_ok_and(|is| is == include_str!("../../peers/chdb/requirements.txt")),
        "chdb is not fetched (see {}): run tests/run, or tests/peers/fetch",
        home.display()
    );
    let serve = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/chdb/serve.py");
    let port = free_port();
    let mut process = Process::start(
        &home.join("bin/python").display().to_string(),
        "python3-venv",
        &[&serve.display().to_string(), &port.to_string()],
        &folder("chdb").join("chdb.log"),
    );
    let url = format!("http://127.0.0.1:{port}/");
    process.wait_until(|| post(&url, "text/plain", "SELECT 1").is_some_and(|(is, _)| is == 200));
    ClickHouse { url, process }
}

pub(crate) struct Postgres {
    pub(crate) port: u16,
    /// The authority that signed its certificate for `localhost`, as PEM.
    pub(crate) authority: String,
    process: Process,
}

/// Debian's. `postgres` needs no password, `reader` needs one; both over TLS or without.
pub(crate) fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| {
        let log = folder("postgres").join("postgres.log");
        let folder = folder_of_postgres();
        let data = folder.join("data");
        let [at, sockets] = [&data, &folder].map(|path| path.display().to_string());
        let initdb = as_postgres("initdb", &["-A", "trust", "--no-sync", "-E", "UTF8", "-D", &at]);
        let initdb: Vec<&str> = initdb.iter().map(String::as_str).collect();
        let made = run("setpriv", "util-linux", &initdb, "");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["localhost"], 2100);
        let logins =
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        let files = [("pg_hba.conf", logins), ("server.crt", &certificate), ("server.key", &key)];
        let owner = fs::metadata(&data).expect("initdb has made it");
        for (name, text) in files {
            let file = data.join(name);
            fs::write(&file, text).expect("root may");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("root may");
            chown(&file, Some(owner.uid()), Some(owner.gid())).expect("root may");
        }
        let port = free_port();
        let (port_text, sockets) = (port.to_string(), format!("unix_socket_directories={sockets}"));
        let settings = ["-c", &sockets, "-c", "fsync=off", "-c", "ssl=on"];
        let arguments = [&["-D", &at, "-p", &port_text, "-h", "127.0.0.1"][..], &settings].concat();
        let postgres = as_postgres("postgres", &arguments);
        let postgres: Vec<&str> = postgres.iter().map(String::as_str).collect();
        let mut process = Process::start("setpriv", "util-linux", &postgres, &log);
        process.wait_until(|| psql(port, "SELECT 1").status.success());
        let peer = Postgres { port, authority: authority.pem(), process };
        peer.run("CREATE ROLE reader LOGIN PASSWORD 'reader-secret'");
        peer
    })
}

/// Its server does not run as root: as which user, until when (the death signal does not outlive a
/// change of the user), and which of its programs.
fn as_postgres(program: &str, arguments: &[&str]) -> Vec<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin").join(program)).max();
    let newest = newest.expect("postgresql is missing: run tests/run, or as root: apt-get install --no-install-recommends postgresql");
    let user = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"];
    let mut all: Vec<String> = user.iter().map(|word| (*word).to_owned()).collect();
    all.extend(["--pdeathsig", "KILL", "--"].map(str::to_owned));
    all.push(newest.display().to_string());
    all.extend(arguments.iter().map(|word| (*word).to_owned()));
    all
}

/// A folder that its user can reach, wherever the repository lies. What ended runs left is removed.
fn folder_of_postgres() -> PathBuf {
    const NAME: &str = "greenlight-postgres-";
    let all = std::env::temp_dir();
    for old in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = old.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if run.is_some_and(|run| !Path::new("/proc").join(run).exists()) {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let folder = all.join(format!("{NAME}{}", std::process::id()));
    fs::create_dir_all(&folder).expect("it can be written");
    let id = run("id", "coreutils", &["-u", "postgres"], "");
    let user = String::from_utf8_lossy(&id.stdout).trim().parse().expect("postgresql is installed");
    chown(&folder, Some(user), None).expect("root may");
    folder
}

fn psql(port: u16, sql: &str) -> Output {
    let port = port.to_string();
    let how = ["-v", "ON_ERROR_STOP=1", "-X", "-A", "-t", "-q"];
    let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
    run("psql", "postgresql-client", &[&to[..], &how[..]].concat(), sql)
}

impl Postgres {
    /// Runs statements as the superuser.
    pub(crate) fn run(&self, sql: &str) -> String {
        let output = psql(self.port, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}
