//! C1: each protocol by itself, the refusal of a bad token, and the queue.

use std::net::{TcpStream, UdpSocket};

use super::*;
use crate::peers::{Shipper, opensearch, rsyslog_ways};
use crate::pipeline::between::{Proxy, Reply};

pub(super) const GATE: &str = "partner.core.collectors";
pub(super) const VARIABLES: [&str; 8] = [
    "collector_udp_journey",
    "collector_tcp_journey",
    "collector_tls_journey",
    "collector_http_journey",
    "collector_kafka_journey",
    "collector_agent_journey",
    "collector_refused_check",
    "collector_queue_check",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Collector {
    DropsDatagrams,
    DropsStreams,
    ClosesHandshakes,
    AnswersErrors,
    DropsRecords,
    AgentIsDead,
    LetsAnybodyIn,
    QueueIsFull,
}

type Broken = Arc<Mutex<Option<Collector>>>;

fn is(broken: &Broken, what: Collector) -> bool {
    *broken.lock().expect("no panic inside") == Some(what)
}

/// Passes datagrams on, or drops them.
fn datagrams(to: u16, broken: Broken) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let port = socket.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            if !is(&broken, Collector::DropsDatagrams) {
                let _ = socket.send_to(&buffer[..length], ("127.0.0.1", to));
            }
        }
    });
    port
}

/// Passes a client's bytes on and the answers back; broken by `what`, takes the bytes and drops
/// them, or hangs up at once.
fn streams(to: u16, broken: Broken, what: Collector, hangs_up: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let pass_on = |mut from: TcpStream, mut into: Option<TcpStream>| {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let into = into.as_mut();
            if into.is_some_and(|into| into.write_all(&buffer[..length]).is_err()) {
                break;
            }
        }
        into.map(|into| into.shutdown(std::net::Shutdown::Write));
    };
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if is(&broken, what) {
                if !hangs_up {
                    thread::spawn(move || pass_on(client, None));
                }
                continue;
            }
            let server = TcpStream::connect(("127.0.0.1", to)).expect("it listens");
            let (answers, back) =
                (server.try_clone().expect("one"), client.try_clone().expect("one"));
            thread::spawn(move || pass_on(client, Some(server)));
            thread::spawn(move || pass_on(answers, Some(back)));
        }
    });
    port
}

/// A collector's API: who has no token is refused, and its queue's depth is told.
fn api(broken: Broken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let asked = String::from_utf8_lossy(&head[..length]).into_owned();
            let (status, body) = if asked.contains("/api/v1/query") {
                let depth = if is(&broken, Collector::QueueIsFull) { 20_000 } else { 12 };
                let row = format!("{{\"metric\":{{}},\"value\":[1.0,\"{depth}\"]}}");
                (
                    "200 OK",
                    format!(
                        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{row}]}}}}"
                    ),
                )
            } else if is(&broken, Collector::LetsAnybodyIn) {
                ("200 OK", "{}".to_owned())
            } else {
                ("401 Unauthorized", "{}".to_owned())
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn collectors_gate_turns_red_for_each_protocol_and_green_again() {
    let (kafka, store, ways) = (kafka(), opensearch(), rsyslog_ways());
    let broken: Broken = Arc::default();
    let topics = topics(kafka, "partner-collectors");
    let now = broken.clone();
    let _broker = Processor::start(kafka, &topics, move |_| {
        if is(&now, Collector::DropsRecords) { Act::Lose } else { Act::Pass }
    });
    let udp = datagrams(ways.rsyslog.port, broken.clone());
    let tcp = streams(ways.rsyslog.port, broken.clone(), Collector::DropsStreams, false);
    let tls = streams(ways.tls, broken.clone(), Collector::ClosesHandshakes, true);
    let store_port = store.url.rsplit(':').next().and_then(|port| port.parse().ok());
    let proxy = Proxy::start(store_port.expect("it ends with a port"));
    let shipper = Mutex::new(Shipper::start());
    let (file, shipped) = {
        let shipper = shipper.lock().expect("no panic inside");
        (shipper.file.display().to_string(), shipper.shipped.display().to_string())
    };
    let api = api(broken.clone());
    let at = |name: &str| ways.folder.join(name).display().to_string();
    let written = format!("file: {{ path: '{}' }}", ways.rsyslog.written.display());
    let one = |id: &str, send: String, stored: &str| {
        format!(
            "  - id: by-{id}\n    every: 2s\n    timeout: 3s\n    send: {{ {send} }}\n    \
             events: {{ count: 2 }}\n    stages:\n      - stored: {{ {stored}, {TIMES} }}\n"
        )
    };
    let journeys = [
        one("udp", format!("syslog: {{ to: 'udp://127.0.0.1:{udp}' }}"), &written),
        one("tcp", format!("syslog: {{ to: 'tcp://127.0.0.1:{tcp}' }}"), &written),
        one(
            "tls",
            format!(
                "syslog: {{ to: 'tls://localhost:{tls}', tls: {{ ca: '{}', cert: '{}', key: '{}' }} }}",
                at("ca.pem"),
                at("client.pem"),
                at("client.key")
            ),
            &written,
        ),
        one(
            "http",
            format!("bulk: {{ to: 'http://127.0.0.1:{}', index: partner-collectors }}", proxy.port),
            &format!("opensearch: {{ url: '{}', index: partner-collectors }}", store.url),
        ),
        one(
            "kafka",
            format!("kafka: {{ brokers: '{}', topic: {} }}", kafka.brokers, topics.from),
            &format!(
                "kafka: {{ brokers: '{}', topic: {}, text: message }}",
                kafka.brokers, topics.to
            ),
        ),
        one(
            "agent",
            format!("file: {{ path: '{file}' }}"),
            &format!("file: {{ path: '{shipped}' }}"),
        ),
    ];
    let checks = format!(
        "  - {{ id: bad-token, refused: {{ http: {{ auth: {{ bearer: {{ env: PATH }} }} }} }}, targets: [ 'http://{api}/in' ], every: 500ms }}\n  \
         - {{ id: queue, promql: {{ query: 'depth' }}, targets: [ 'http://{api}' ], every: 500ms }}\n"
    );
    let vars = "collector_udp_journey: by-udp, collector_tcp_journey: by-tcp, collector_tls_journey: by-tls, \
                collector_http_journey: by-http, collector_kafka_journey: by-kafka, \
                collector_agent_journey: by-agent, collector_refused_check: bad-token, \
                collector_queue_check: queue";
    {
        // One that is sent otherwise proves nothing of this protocol.
        let vars = vars.replace("udp_journey: by-udp", "udp_journey: by-tcp");
        let (_folder, plan) = folder_with(&format!(
            "include: [ 'pack:partner-platform' ]\nvars: {{ {vars} }}\nchecks:\n{checks}journeys:\n{}",
            journeys.concat()
        ));
        let output = greenlight(&["plan", "-c", &plan]);
        assert_eq!(output.status.code(), Some(78), "{}", out(&output));
        let said = err(&output);
        assert!(said.contains("the journey `by-tcp` sends by syslog_tcp"), "{said}");
    }
    let (_folder, agent) = agent(peers::free_port(), vars, &checks, &journeys.concat());
    let set = |what: Option<Collector>| {
        *broken.lock().expect("no panic inside") = what;
        let refuses = what == Some(Collector::AnswersErrors);
        proxy.next(if refuses { u64::MAX } else { 0 }, Reply::Status(500));
        let mut shipper = shipper.lock().expect("no panic inside");
        match what {
            Some(Collector::AgentIsDead) => shipper.kill(),
            _ => shipper.begin(),
        }
    };
    let lost = |by| Named { by, stage: Some("stored"), says: "are not ok at stage stored" };
    let refused = |by, stage| Named { by, stage: Some(stage), says: "are not ok at stage stored" };
    let check = |by, says| Named { by, stage: None, says };
    red_and_green(
        &agent,
        GATE,
        set,
        &[
            (Collector::DropsDatagrams, lost("by-udp")),
            (Collector::DropsStreams, lost("by-tcp")),
            (Collector::ClosesHandshakes, refused("by-tls", "sent")),
            (Collector::AnswersErrors, refused("by-http", "accepted")),
            (Collector::DropsRecords, lost("by-kafka")),
            (Collector::AgentIsDead, lost("by-agent")),
            (Collector::LetsAnybodyIn, check("bad-token", "")),
            (Collector::QueueIsFull, check("queue", "the largest promql.value")),
        ],
    );
}
