//! The HTTP server as its clients meet it: over real sockets, with a backend that answers at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use greenlight::catalogue::agent::DECISION;
use greenlight::client::inbox;
use greenlight::metrics::{Format, Registry};
use greenlight::node::sockets::Listing;
use greenlight::outcome::{Fault, FaultCode};
use greenlight::serve::{Backend, Server, Shown, Web, WebConfig, WebhookError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Answers at once, and remembers what it was asked.
#[derive(Default)]
struct Answers {
    log: Mutex<Vec<String>>,
    not_ready: Mutex<Option<String>>,
    /// How long a webhook takes.
    slow: Mutex<Duration>,
}

impl Answers {
    fn note(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }

    fn noted(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| *line == text).count()
    }
}

impl Backend for Answers {
    fn metrics(&self, format: Format) -> BoxFuture<'_, Vec<u8>> {
        let mut registry = Registry::new(|_| Vec::new());
        registry.set(&DECISION, &[], 3.0);
        let mut out = Vec::new();
        registry.write(format, &mut out);
        Box::pin(async { out })
    }
    fn shown(&self) -> BoxFuture<'_, Option<Shown>> {
        Box::pin(async {
            Some(Shown {
                ledger: Arc::new(crate::render::sample()),
                plan: Arc::new(serde_json::json!({ "checks": [] })),
                history: Arc::default(),
                captures: Arc::default(),
            })
        })
    }
    fn listeners(&self) -> BoxFuture<'_, Result<Listing, Fault>> {
        Box::pin(async { Err(Fault::new(FaultCode::Permission, "not here")) })
    }
    fn declare_load(
        &self,
        declaration: greenlight::serve::Declaration,
    ) -> BoxFuture<'_, Result<greenlight::ledger::LoadRow, WebhookError>> {
        self.note(format!("load {} {}", declaration.start, declaration.end));
        let now = greenlight::agent::clock::now();
        let source = declaration.source.unwrap_or_default();
        let window =
            greenlight::gate::load::declare(&declaration.start, &declaration.end, &source, now);
        let row = window.map(|window| greenlight::ledger::LoadRow::of(&window, now));
        Box::pin(async move { row.map_err(WebhookError::Bad) })
    }
    fn banner(&self) -> Option<String> {
        Some(String::from("embedded reference platform"))
    }
    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn healthy(&self) -> bool {
        true
    }
    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        self.note(String::from("reload"));
        Box::pin(async { Err(String::from("plan.yaml:3:1: unknown key")) })
    }
    fn webhook<'a>(
        &'a self,
        kind: inbox::Kind,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), WebhookError>> {
        self.note(format!("{} {}", kind.word(), body.len()));
        let slow = *self.slow.lock().unwrap();
        Box::pin(async move {
            tokio::time::sleep(slow).await;
            match &body[..] {
                b"bad" => Err(WebhookError::Bad(String::from("this is no JSON"))),
                b"full" => Err(WebhookError::Store(String::from("the disk is full"))),
                _ => Ok(()),
            }
        })
    }
    fn count(&self, route: &'static str, class: &'static str) {
        self.note(format!("{route} {class}"));
    }
}

/// A server on a thread of its own, stopped when it is dropped.
struct Running {
    address: SocketAddr,
    url: String,
    answers: Arc<Answers>,
    web: Web,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn with(listen: &str, config: WebConfig) -> Self {
        let server = Server::bind(listen, config).expect("an address");
        let (address, url, web) = (server.address(), server.url(), server.web());
        let answers = Arc::new(Answers::default());
        let stop = CancellationToken::new();
        let (backend, stopped) = (answers.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(server.serve(backend, stopped)).expect("the server ends well");
        });
        Self { address, url, answers, web, stop, thread: Some(thread) }
    }

    fn start() -> Self {
        Self::with("127.0.0.1:0", WebConfig::default())
    }

    /// Sends bytes as they are and reads until the server closes.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let host = self.address;
        let length = body.len();
        Answer::read(&self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        )))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let front = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&front))
    }

    fn json(&self) -> Value {
        assert_eq!(self.field("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code of an error in the one shape that all have.
    fn error(&self) -> String {
        let json = self.json();
        assert!(json["error"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

#[test]
fn serve_answers_every_route_of_the_contract() {
    let server = Running::start();
    let ledger: Value = server.get("/api/v1/ledger").json();
    assert_eq!(ledger["decision"], "no_go");
    for part in ["gates", "checks", "journeys"] {
        assert_eq!(server.get(&format!("/api/v1/{part}")).json(), ledger[part], "{part}");
    }
    assert_eq!(server.get("/api/v1/plan").json()["checks"], serde_json::json!([]));
    assert_eq!(server.get("/-/healthy").status, 200);
    assert_eq!(server.get("/-/ready").status, 200);
    *server.answers.not_ready.lock().unwrap() = Some(String::from("the first frame is missing"));
    let answer = server.get("/-/ready");
    assert_eq!((answer.status, answer.error().as_str()), (503, "not_ready"));

    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.field("content-security-policy").is_some_and(|p| p.starts_with("default-src 'none'"))
    );
    assert!(page.body.contains("NO-GO") && page.body.contains("embedded reference platform"));
    assert_eq!(server.ask("HEAD", "/", "", "").body, "");

    assert!(server.answers.noted("/api/v1/gates 2xx") == 1);
    assert!(server.answers.noted("/-/ready 5xx") == 1);
}

#[test]
fn serve_metrics_in_the_format_and_encoding_that_was_asked_for() {
    let server = Running::start();
    let text = server.get("/metrics");
    assert_eq!(text.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.body.ends_with("greenlight_decision 3\n"), "{}", text.body);
    assert_eq!(text.field("content-encoding"), None);
    let open = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = server.ask("GET", "/metrics", open, "");
    assert_eq!(
        open.field("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.body.ends_with("# EOF\n"));
    // curl unpacks what is packed, and says so where it is not what it claims to be.
    let out = Command::new("curl")
        .args(["-sS", "--fail", "--compressed", "-D", "-", &format!("{}/metrics", server.url)])
        .output()
        .expect("curl");
    let seen = String::from_utf8_lossy(&out.stdout).to_ascii_lowercase();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(seen.contains("content-encoding: gzip"), "{seen}");
    assert!(seen.ends_with("greenlight_decision 3\n"), "{seen}");
}

#[test]
fn serve_errors_have_one_shape_and_the_right_status() {
    let server = Running::start();
    let answer = server.get("/nothing");
    assert_eq!((answer.status, answer.error().as_str()), (404, "not_found"));
    let answer = server.get("/-/reload");
    assert_eq!((answer.status, answer.error().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.field("allow"), Some("post"));
    let answer = server.ask("DELETE", "/metrics", "", "");
    assert_eq!((answer.status, answer.error().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.field("allow"), Some("get,head"));
    let answer = server.ask("POST", "/api/v1/webhook/pager", "", "{}");
    assert_eq!((answer.status, answer.error().as_str()), (404, "not_found"));
    assert!(server.raw("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert_eq!(server.answers.noted("other 4xx"), 1);
}

#[test]
fn serve_takes_notifications_up_to_their_limit() {
    let server = Running::start();
    let post =
        |kind: &str, body: &str| server.ask("POST", &format!("/api/v1/webhook/{kind}"), "", body);
    for kind in ["alertmanager", "grafana", "json"] {
        assert_eq!(post(kind, "{}").status, 200);
        assert_eq!(server.answers.noted(&format!("{kind} 2")), 1);
    }
    let answer = post("json", "bad");
    assert_eq!((answer.status, answer.error().as_str()), (400, "bad_request"));
    let answer = post("json", "full");
    assert_eq!((answer.status, answer.error().as_str()), (503, "not_stored"));
    const LIMIT: usize = 1024 * 1024;
    assert_eq!(post("json", &"x".repeat(LIMIT)).status, 200);
    let answer = post("json", &"x".repeat(LIMIT + 1));
    assert_eq!((answer.status, answer.error().as_str()), (413, "too_large"));
    assert_eq!(server.answers.noted(&format!("json {}", LIMIT + 1)), 0);
    let answer = server.ask("POST", "/api/v1/webhook/json", "Content-Encoding: gzip\r\n", "\u{1f}");
    assert_eq!((answer.status, answer.error().as_str()), (415, "unsupported_encoding"));
}

#[test]
fn serve_reloads_for_this_node_and_for_no_page_in_its_browser() {
    let server = Running::start();
    let answer = server.ask("POST", "/-/reload", "", "");
    assert_eq!((answer.status, answer.error().as_str()), (422, "reload_failed"));
    assert!(answer.json()["error"]["text"].as_str().unwrap().contains("plan.yaml:3:1"));
    assert_eq!(server.answers.noted("reload"), 1);
    for fields in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "X-Forwarded-For: 192.0.2.1\r\n",
    ] {
        let answer = server.ask("POST", "/-/reload", fields, "");
        assert_eq!((answer.status, answer.error().as_str()), (403, "forbidden"), "{fields}");
    }
    let rebound = server.raw(
        "POST /-/reload HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(Answer::read(&rebound).status, 403);
    assert_eq!(server.answers.noted("reload"), 1, "nothing was reloaded");
}

#[test]
fn serve_takes_load_windows_for_this_node_only_and_says_what_is_wrong_with_one() {
    let server = Running::start();
    let good = r#"{"start": "now", "end": "+10m", "source": "lab"}"#;
    let answer = server.ask("POST", "/api/v1/load", "", good);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["source"], "lab");
    assert_eq!(server.answers.noted("load now +10m"), 1);
    for bad in [
        "",
        "{}",
        r#"{"start": "now"}"#,
        r#"{"start": "now", "end": "now"}"#,
        r#"{"start": "now", "end": "+1m", "sauce": "x"}"#,
    ] {
        let answer = server.ask("POST", "/api/v1/load", "", bad);
        assert_eq!((answer.status, answer.error().as_str()), (400, "bad_request"), "{bad}");
    }
    // Not for a page of another site in this node's browser, nor through a proxy.
    let page = server.ask("POST", "/api/v1/load", "Origin: http://evil.example\r\n", good);
    assert_eq!(page.status, 403, "{page:?}");
    let proxied = server.ask("POST", "/api/v1/load", "X-Forwarded-For: 10.0.0.1\r\n", good);
    assert_eq!(proxied.status, 403, "{proxied:?}");
    assert_eq!(server.get("/api/v1/load").json(), serde_json::json!([]));
    assert_eq!(server.get("/api/v1/captures").json(), serde_json::json!([]));
    assert_eq!(server.ask("PUT", "/api/v1/load", "", good).status, 405);
    let refused = server.get("/api/v1/listeners");
    assert_eq!(refused.status, 503, "{refused:?}");
    let error = serde_json::json!({ "error": { "code": "permission", "text": "not here" } });
    assert_eq!(refused.json(), error);
}

#[test]
fn serve_does_not_reload_for_another_node() {
    // This node's own address on its network is not loopback.
    let interfaces = nix::ifaddrs::getifaddrs().unwrap();
    let own = interfaces
        .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .find(|ip| !ip.is_loopback())
        .expect("an IPv4 address beside loopback: `ip address add 192.0.2.1/32 dev lo` gives one");
    let server = Running::with(":0", WebConfig::default());
    let through = |ip: std::net::IpAddr| {
        let mut stream = TcpStream::connect((ip, server.address.port())).unwrap();
        let host = SocketAddr::from((ip, server.address.port()));
        write!(
            stream,
            "POST /-/reload HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Answer::read(&answer)
    };
    assert_eq!(through(own.into()).status, 403);
    assert!(through(own.into()).body.contains("--web.config.file"));
    // All addresses means both families.
    assert_eq!(through([127, 0, 0, 1].into()).status, 422);
    assert_eq!(through(std::net::Ipv6Addr::LOCALHOST.into()).status, 422);
}

#[test]
fn serve_answers_a_scrape_while_others_dawdle() {
    let server = Running::start();
    // More than there are places: some silent, some that send their head byte by byte.
    let mut dawdlers = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
        }
        dawdlers.push(stream);
        if n % 50 == 49 {
            let begun = Instant::now();
            assert_eq!(server.get("/metrics").status, 200);
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }
}

#[test]
fn serve_cuts_who_never_asks() {
    let server = Running::start();
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let begun = Instant::now();
    let mut nothing = Vec::new();
    silent.read_to_end(&mut nothing).expect("the server closes");
    assert!(nothing.is_empty());
    let took = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&took), "{took:?}");
}

#[test]
fn serve_lets_the_requests_under_way_end() {
    let server = Running::start();
    *server.answers.slow.lock().unwrap() = Duration::from_secs(1);
    let mut idle = TcpStream::connect(server.address).unwrap();
    let mut busy = TcpStream::connect(server.address).unwrap();
    busy.write_all(b"POST /api/v1/webhook/json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        .unwrap();
    let begun = Instant::now();
    while server.answers.noted("json 2") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the request did not arrive");
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    let address = server.address;
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert_eq!(Answer::read(&answer).status, 200);
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn serve_says_why_an_address_can_not_be_taken() {
    let server = Running::start();
    let taken = Server::bind(&server.address.to_string(), WebConfig::default());
    let text = taken.expect_err("the address is taken");
    assert!(text.contains("in use") && text.contains("--web.listen-address"), "{text}");
    for wrong in ["nonsense", ":65536", ":x", "127.0.0.1", ""] {
        let text = Server::bind(wrong, WebConfig::default()).expect_err(wrong);
        assert!(text.starts_with(&format!("can't listen on {wrong}: ")), "{text}");
    }
}

/// A key and a certificate for localhost, by openssl: its own authority, or signed by another.
fn certificate(folder: &Path, name: &str, authority: Option<&str>) {
    let mut openssl = Command::new("openssl");
    if let Some(authority) = authority {
        openssl
            .args(["req", "-addext", "basicConstraints=critical,CA:FALSE", "-CA"])
            .arg(folder.join(format!("{authority}.pem")))
            .arg("-CAkey")
            .arg(folder.join(format!("{authority}.key")));
    } else {
        openssl.arg("req");
    }
    let out = openssl
        .args(["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(folder.join(format!("{name}.key")))
        .arg("-out")
        .arg(folder.join(format!("{name}.pem")))
        .output()
        .expect("openssl");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn curl(server: &Running, path: &str, arguments: &[&str]) -> (String, String) {
    let out = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(arguments)
        .arg(format!("{}{path}", server.url))
        .output()
        .expect("curl");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out.stdout), text(&out.stderr))
}

#[test]
fn serve_with_tls_and_users() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "one", None);
    certificate(folder.path(), "two", None);
    let file = folder.path().join("web.yaml");
    let hash = bcrypt::hash("open sesame", 6).unwrap();
    let write = |certificate: &str| {
        let text = format!(
            "tls_server_config:\n  cert_file: {certificate}.pem\n  key_file: {certificate}.key\n  min_version: TLS12\n\
             http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=31536000\n\
             basic_auth_users:\n  scraper: {hash}\n"
        );
        std::fs::write(&file, text).unwrap();
        WebConfig::load(&file).expect("a valid web configuration")
    };
    let config = write("one");
    assert!(!format!("{config:?}").contains(&hash), "hashes are not shown");
    let server = Running::with("127.0.0.1:0", config);
    assert!(server.url.starts_with("https://127.0.0.1:"));
    let trust = |name: &str| folder.path().join(format!("{name}.pem")).display().to_string();
    let (one, two) = (trust("one"), trust("two"));
    let user = ["--cacert", &one, "-u", "scraper:open sesame"];
    assert_eq!(curl(&server, "/metrics", &user).0, "200");
    assert_eq!(curl(&server, "/metrics", &["--cacert", &one]).0, "401");
    for wrong in ["scraper:wrong", "nobody:open sesame", "scraper:"] {
        assert_eq!(curl(&server, "/metrics", &["--cacert", &one, "-u", wrong]).0, "401", "{wrong}");
    }
    assert_eq!(curl(&server, "/-/healthy", &["--cacert", &one]).0, "401");
    // A name in the URL is no loopback name; over TLS with a user it need not be.
    let named =
        ["--cacert", &one, "-u", "scraper:open sesame", "-X", "POST", "-H", "Host: gl.example"];
    assert_eq!(curl(&server, "/-/reload", &named).0, "422");
    assert!(!curl(&server, "/metrics", &["--cacert", &two]).1.is_empty(), "another certificate");
    // A known password costs no bcrypt.
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(curl(&server, "/metrics", &user).0, "200");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    // A renewed certificate is served from the reload on.
    server.web.set(write("two"));
    let user = ["--cacert", &two, "-u", "scraper:open sesame"];
    assert_eq!(curl(&server, "/metrics", &user).0, "200");
}

#[test]
fn serve_speaks_the_suites_and_curves_that_were_chosen() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "server", None);
    let file = folder.path().join("web.yaml");
    std::fs::write(
        &file,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  max_version: TLS12\n  \
         cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n  \
         curve_preferences: [CurveP384]\n  prefer_server_cipher_suites: true\n",
    )
    .unwrap();
    let server = Running::with("127.0.0.1:0", WebConfig::load(&file).unwrap());
    let ca = folder.path().join("server.pem").display().to_string();
    let with = |bits: &str, curve: &str| {
        let suites = format!("ECDHE-RSA-{bits}:ECDHE-ECDSA-{bits}");
        curl(&server, "/metrics", &["--cacert", &ca, "--ciphers", &suites, "--curves", curve]).0
    };
    // The certificate is of the other curve, which the client has to know too.
    assert_eq!(with("AES256-GCM-SHA384", "P-384:P-256"), "200");
    assert_ne!(with("AES128-GCM-SHA256", "P-384:P-256"), "200", "another suite");
    assert_ne!(with("AES256-GCM-SHA384", "P-256"), "200", "another curve");
}

#[test]
fn serve_with_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "server", None);
    certificate(folder.path(), "authority", None);
    certificate(folder.path(), "client", Some("authority"));
    certificate(folder.path(), "stranger", None);
    let file = folder.path().join("web.yaml");
    std::fs::write(
        &file,
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: authority.pem, min_version: TLS13}\n",
    )
    .unwrap();
    let server = Running::with("127.0.0.1:0", WebConfig::load(&file).unwrap());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, cert, key) = (path("server.pem"), path("client.pem"), path("client.key"));
    let with = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    assert_eq!(curl(&server, "/metrics", &with).0, "200");
    assert_ne!(curl(&server, "/metrics", &with[..2]).0, "200");
    let (cert, key) = (path("stranger.pem"), path("stranger.key"));
    let stranger = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    assert_ne!(curl(&server, "/metrics", &stranger).0, "200");
    // Without users the routes that change something stay with loopback and its names.
    let named: Vec<&str> =
        with.into_iter().chain(["-X", "POST", "-H", "Host: gl.example"]).collect();
    assert_eq!(curl(&server, "/-/reload", &named).0, "403");
}

#[test]
fn serve_refuses_a_wrong_web_configuration_with_every_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        WebConfig::load(&file).expect_err(text)
    };
    let text = said(
        "tls_server_config:\n  cert_file: none.pem\n  key_file: none.key\n  client_auth_type: NoClientCert\n\
         http_server_config:\n  headers:\n    X-Custom: 1\n\
         basic_auth_users:\n  ann: plain-password\n",
    );
    for part in ["none.pem", "none.key", "X-Custom", "bcrypt", ":2:", ":3:", ":7:", ":9:"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains("plain-password"), "a password in clear is not repeated:\n{text}");
    for (wrong, part) in [
        ("tls_server_confg: {}\n", "tls_server_config"),
        ("tls_server_config: {cert_file: a}\n", "key_file"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n", "TLS12"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequestClientCert}\n",
            "RequireAndVerifyClientCert",
        ),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n", "go together"),
        (
            "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}\n",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ),
    ] {
        let text = said(wrong);
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let text = WebConfig::load(Path::new("/does/not/exist.yaml")).expect_err("no file");
    assert!(text.starts_with("can't read /does/not/exist.yaml: "), "{text}");
}
