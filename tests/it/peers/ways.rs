//! An rsyslog with all its ways in, and RabbitMQ.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use super::{Process, Rsyslog, folder, free_port, get, post, require};
use crate::http::server::Authority;

/// rsyslog with UDP and TCP on one port, a local socket, TLS, RELP, and RELP over TLS; both of TLS
/// want a certificate of `ca`.
pub(crate) struct Ways {
    pub(crate) rsyslog: Rsyslog,
    pub(crate) socket: PathBuf,
    pub(crate) tls: u16,
    pub(crate) relp: u16,
    pub(crate) relp_tls: u16,
    /// Holds ca.pem, and client.pem with client.key.
    pub(crate) folder: PathBuf,
}

pub(crate) fn rsyslog_ways() -> Ways {
    for module in ["imrelp.so:rsyslog-relp", "lmnsd_ossl.so:rsyslog-openssl"] {
        let (module, package) = module.split_once(':').expect("written so");
        let found = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
            .iter()
            .any(|libraries| PathBuf::from(libraries).join("rsyslog").join(module).is_file());
        assert!(found, "rsyslog has no {module}: run tests/run, or install {package}");
    }
    let folder = folder("rsyslog-ways");
    Authority::new().write_both_sides(&folder);
    let [port, tls, relp, relp_tls] = [(); 4].map(|()| free_port());
    let text = include_str!("../../peers/rsyslog-ways.conf")
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@TLS@", &tls.to_string())
        .replace("@RELP@", &relp.to_string())
        .replace("@RELPTLS@", &relp_tls.to_string());
    let config = folder.join("rsyslog.conf");
    fs::write(&config, text).expect("the folder can be written");
    let [config, pid] = [&config, &folder.join("pid")].map(|path| path.display().to_string());
    let mut process = Process::start(
        "rsyslogd",
        "rsyslog rsyslog-relp rsyslog-openssl",
        &["-n", "-f", &config, "-i", &pid],
        &folder.join("rsyslog.log"),
    );
    let socket = folder.join("log");
    let open = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    process.wait_until(|| [port, relp].into_iter().all(open) && socket.exists());
    let rsyslog = Rsyslog { port, written: folder.join("messages"), process };
    Ways { rsyslog, socket, tls, relp, relp_tls, folder }
}

/// An rsyslog that ships the lines of one file to another.
pub(crate) struct Shipper {
    pub(crate) file: PathBuf,
    pub(crate) shipped: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
}

impl Shipper {
    pub(crate) fn start() -> Self {
        let folder = folder("shipper");
        let file = folder.join("logs").join("app.log");
        fs::create_dir_all(folder.join("logs")).expect("the folder can be written");
        fs::write(&file, "").expect("the folder can be written");
        let text = include_str!("../../peers/rsyslog-shipper.conf")
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@FILE@", &file.display().to_string());
        fs::write(folder.join("rsyslog.conf"), text).expect("the folder can be written");
        let shipped = folder.join("shipped");
        let mut this = Self { file, shipped, folder, process: None };
        this.begin();
        this
    }

    /// Starts it, or starts it again where it was: it is there once a line has gone through.
    pub(crate) fn begin(&mut self) {
        use std::io::Write as _;
        let mark = format!("shipper is up {:?}", std::time::Instant::now());
        let appended = fs::OpenOptions::new().append(true).create(true).open(&self.file);
        writeln!(appended.expect("it can be opened"), "{mark}").expect("it can be written");
        let [config, pid] =
            ["rsyslog.conf", "pid"].map(|name| self.folder.join(name).display().to_string());
        let _ = fs::remove_file(&pid);
        let mut process = Process::start(
            "rsyslogd",
            "rsyslog",
            &["-n", "-f", &config, "-i", &pid],
            &self.folder.join("rsyslog.log"),
        );
        let shipped = self.shipped.clone();
        process.wait_until(|| fs::read_to_string(&shipped).is_ok_and(|all| all.contains(&mark)));
        self.process = Some(process);
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}

/// A RabbitMQ with user `alice`, password `alice-secret`; exchange `events` bound to queue
/// `events` with key `in`; exchange `loose` bound to nothing; queue `small`, which takes two
/// messages and refuses the next.
pub(crate) struct RabbitMq {
    pub(crate) port: u16,
    management: String,
    /// Its name server, and itself.
    _processes: Mutex<[Process; 2]>,
}

/// The broker that all tests share.
pub(crate) fn rabbitmq() -> &'static RabbitMq {
    static SHARED: OnceLock<RabbitMq> = OnceLock::new();
    SHARED.get_or_init(|| {
        require("epmd", "rabbitmq-server");
        let folder = folder("rabbitmq");
        let [port, management, names, dist] = [(); 4].map(|()| free_port());
        let at = folder.display().to_string();
        for (name, text) in [
            ("plugins", "[rabbitmq_management].\n".to_owned()),
            ("definitions.json", definitions().to_string()),
            (
                "rabbitmq.conf",
                format!(
                    "listeners.tcp.default = 127.0.0.1:{port}\n\
                     management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
                     load_definitions = {at}/definitions.json\n\
                     disk_free_limit.absolute = 1MB\n"
                ),
            ),
        ] {
            fs::write(folder.join(name), text).expect("the folder can be written");
        }
        // It would start one of its own, which stays behind.
        let epmd = Process::start(
            "epmd",
            "rabbitmq-server",
            &["-port", &names.to_string()],
            &folder.join("epmd.log"),
        );
        let variables = [
            "RUNNING_UNDER_SYSTEMD=true".to_owned(),
            format!("RABBITMQ_NODENAME=gl{port}@localhost"),
            format!("RABBITMQ_CONFIG_FILE={at}/rabbitmq"),
            format!("RABBITMQ_MNESIA_BASE={at}/mnesia"),
            format!("RABBITMQ_LOG_BASE={at}/log"),
            format!("RABBITMQ_ENABLED_PLUGINS_FILE={at}/plugins"),
            format!("RABBITMQ_DIST_PORT={dist}"),
            format!("ERL_EPMD_PORT={names}"),
            format!("HOME={at}"),
            // Its stop must not wait for schedulers that spin.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none".to_owned(),
        ];
        let mut arguments: Vec<&str> = variables.iter().map(String::as_str).collect();
        arguments.push("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let mut process =
            Process::start("env", "coreutils", &arguments, &folder.join("rabbitmq.log"));
        let management = format!("http://alice:alice-secret@127.0.0.1:{management}");
        let health = format!("{management}/api/queues/%2F/small");
        // Its listeners come last of all.
        process.wait_until(|| {
            get(&health).is_some_and(|(status, _)| status == 200)
                && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        RabbitMq { port, management, _processes: Mutex::new([process, epmd]) }
    })
}

impl RabbitMq {
    /// Takes what is in a queue, in order.
    pub(crate) fn take(&self, queue: &str) -> Vec<Value> {
        let url = format!("{}/api/queues/%2F/{queue}/get", self.management);
        let asked = json!({"count": 10_000, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let (status, body) =
            post(&url, "application/json", &asked.to_string()).expect("rabbitmq answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("it sends JSON")
    }
}

fn definitions() -> Value {
    let exchange = |name: &str| {
        json!({"name": name, "vhost": "/", "type": "direct", "durable": true,
               "auto_delete": false, "internal": false, "arguments": {}})
    };
    let queue = |name: &str, arguments: Value| {
        json!({"name": name, "vhost": "/", "durable": true, "auto_delete": false,
               "arguments": arguments})
    };
    json!({
        "users": [
            {"name": "alice", "password": "alice-secret", "tags": "administrator"},
            {"name": "bob", "password": "bob-secret", "tags": ""},
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": "alice", "vhost": "/", "configure": "", "write": ".*", "read": ".*"},
            {"user": "bob", "vhost": "/", "configure": "", "write": "", "read": ""},
        ],
        "exchanges": [exchange("events"), exchange("loose")],
        "queues": [
            queue("events", json!({})),
            queue("small", json!({"x-max-length": 2, "x-overflow": "reject-publish"})),
        ],
        "bindings": [{"source": "events", "vhost": "/", "destination": "events",
                      "destination_type": "queue", "routing_key": "in", "arguments": {}}],
    })
}
