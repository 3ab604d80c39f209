//! What the ways in over HTTP and GELF put on the wire, and how they take what is answered. The
//! receivers are written from the documents that `tests/fixtures/send` names: no real Splunk,
//! Loki, OpenTelemetry collector or Graylog has seen these requests.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use greenlight::journey::event::Format;
use greenlight::send::bulk::Bulk;
use greenlight::send::gelf::Gelf;
use greenlight::send::http::Http;
use greenlight::send::loki::Loki;
use greenlight::send::otlp::Otlp;
use greenlight::send::splunk_hec::SplunkHec;
use greenlight::send::{self, Sender};
use serde_json::{Value, json};

use super::{TIMEOUT, all, events, path, sender, sent, until, word};
use crate::http::server::{Act, Server};
use crate::peers::{folder, get, opensearch};

const MESSAGE: &str = "login of {user} {token}";

fn secret(text: &str) -> Value {
    let file = folder("secret").join("secret");
    std::fs::write(&file, text).expect("the folder can be written");
    json!({"file": path(&file)})
}

#[tokio::test]
async fn senders_splunk_hec_waits_for_the_indexers_where_it_is_told_to() {
    let events = events(Format::Json, 4, MESSAGE);
    let asked = AtomicU32::new(0);
    let posts = AtomicU32::new(0);
    let server = Server::start(move |request| {
        if request.path.starts_with("/services/collector/ack") {
            // The first request's events come at the second question, the other's never.
            let done = asked.fetch_add(1, Ordering::SeqCst) >= 1;
            return Act::json(json!({"acks": {"0": done, "1": false}}).to_string());
        }
        let id = posts.fetch_add(1, Ordering::SeqCst);
        Act::json(json!({"text": "Success", "code": 0, "ackId": id}).to_string())
    })
    .await;
    let spec = json!({"to": server.url("/"), "token": secret("hec-t0ken"), "ack": true,
                      "per_request": 2, "sourcetype": "gl", "timeout": "4s"});
    let receipts = sent::<SplunkHec>(spec, &events, TIMEOUT).await;
    let words: Vec<String> = receipts.iter().map(word).collect();
    assert_eq!(words, ["accepted", "accepted", "unknown: timeout", "unknown: timeout"]);
    let seen = server.seen();
    let channel = seen[0].header("x-splunk-request-channel").expect("a channel");
    assert!(seen.iter().all(|one| one.header("x-splunk-request-channel") == Some(channel)));
    assert!(seen.iter().all(|one| one.header("authorization") == Some("Splunk hec-t0ken")));
    assert!(seen.len() >= 4, "two posts and the questions: {}", seen.len());
    assert_eq!(seen[0].path, "/services/collector/event");
    assert_eq!(
        serde_json::from_str::<Value>(&seen[2].body).expect("JSON"),
        json!({"acks": [0, 1]})
    );
    let posted = serde_json::Deserializer::from_str(&seen[0].body).into_iter::<Value>();
    let posted: Vec<Value> = posted.map(|one| one.expect("objects, one after the other")).collect();
    assert_eq!(posted.len(), 2);
    assert_eq!(posted[0]["event"]["message"], events[0].message);
    assert_eq!(posted[1]["fields"]["greenlight_id"], events[1].token);
    assert_eq!(
        (&posted[0]["sourcetype"], &posted[0]["time"]),
        (&json!("gl"), &json!("1790000000.000"))
    );
}

#[tokio::test]
async fn senders_bulk_loki_and_otlp_write_what_the_documents_say() {
    let events = events(Format::Json, 3, MESSAGE);
    let server = Server::start(|request| {
        if request.path.starts_with("/_bulk") {
            let ids = request.body.lines().step_by(2).map(|line| {
                let action: Value = serde_json::from_str(line).expect("an action a document");
                json!({"create": {"_id": action["create"]["_id"], "status": 201}})
            });
            return Act::json(
                json!({"errors": false, "items": ids.collect::<Vec<_>>()}).to_string(),
            );
        }
        if request.path == "/v1/logs" {
            Act::json("{}")
        } else {
            Act::Answer(204, vec![], String::new())
        }
    })
    .await;
    let spec = json!({"to": server.url("/"), "index": "logs-synthetic", "pipeline": "p"});
    all(&sent::<Bulk>(spec, &events, TIMEOUT).await, "accepted");
    let spec = json!({"to": server.url(""), "tenant": "soc", "labels": {"app": "x"}});
    all(&sent::<Loki>(spec, &events, TIMEOUT).await, "accepted");
    let spec = json!({"to": server.url(""), "resource": {"deployment.environment": "prod"}});
    all(&sent::<Otlp>(spec, &events, TIMEOUT).await, "accepted");
    let seen = server.seen();
    let [bulk, loki, otlp] = &seen[..] else { panic!("{} requests", seen.len()) };

    assert_eq!(bulk.path, "/_bulk?pipeline=p");
    assert_eq!(bulk.header("content-type"), Some("application/x-ndjson"));
    assert!(bulk.body.ends_with('\n'));
    let lines: Vec<Value> =
        bulk.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[2], json!({"create": {"_index": "logs-synthetic", "_id": events[1].token}}));
    assert_eq!(lines[3]["message"], events[1].message);

    assert_eq!(
        (loki.path.as_str(), loki.header("x-scope-orgid")),
        ("/loki/api/v1/push", Some("soc"))
    );
    let pushed: Value = serde_json::from_str(&loki.body).expect("JSON");
    assert_eq!(pushed["streams"][0]["stream"], json!({"app": "x"}));
    assert_eq!(pushed["streams"][0]["values"].as_array().map(Vec::len), Some(3));

    let exported: Value = serde_json::from_str(&otlp.body).expect("JSON");
    let resource = &exported["resourceLogs"][0];
    let attributes = resource["resource"]["attributes"].as_array().expect("attributes");
    assert!(attributes.iter().any(|a| a["value"]["stringValue"] == "prod"), "{attributes:?}");
    let records = resource["scopeLogs"][0]["logRecords"].as_array().expect("records");
    assert_eq!(records[2]["body"]["stringValue"], events[2].message);
}

#[tokio::test]
async fn senders_http_signs_compresses_and_waits_as_long_as_it_is_asked_to() {
    use base64::Engine as _;
    let events = events(Format::Json, 3, MESSAGE);
    let server = Server::start(|_| Act::status(200)).await;
    let sign = json!({"secret": secret("k3y"), "header": "X-Hub-Signature-256",
                      "prefix": "sha256=", "encoding": "base64"});
    let spec = json!({"to": server.url("/in"), "sign": sign});
    all(&sent::<Http>(spec, &events, TIMEOUT).await, "accepted");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"k3y");
    for (request, event) in server.seen().iter().zip(&events) {
        let header = request.header("x-hub-signature-256").expect("it is signed");
        let tag = header.strip_prefix("sha256=").expect("a prefix");
        let tag = base64::engine::general_purpose::STANDARD.decode(tag).expect("base64");
        ring::hmac::verify(&key, &event.payload, &tag).expect("the signature is over the body");
    }

    // The server reads bodies as text, so this is seen by a listener of its own.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let reader = thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().expect("it connects");
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer).expect("it sends");
            read.extend_from_slice(&buffer[..count]);
            let Some(head) = read.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1).expect("a length");
            let length: usize = length.lines().next().expect("a line").parse().expect("a number");
            if read.len() >= head + 4 + length {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .expect("it reads");
                return (text, read[head + 4..].to_vec());
            }
        }
    });
    let spec = json!({"to": format!("http://127.0.0.1:{port}/"), "gzip": true, "batch": "array"});
    all(&sent::<Http>(spec, &events, TIMEOUT).await, "accepted");
    let (head, body) = reader.join().expect("it read");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let array: Vec<Value> = serde_json::from_reader(GzDecoder::new(&body[..])).expect("JSON");
    assert_eq!(array.len(), 3);

    // Asked to wait for a second, it does; asked to wait for an hour, nothing more is posted.
    for (after, posts, took) in
        [("1", 3, Duration::from_millis(1_900)), ("3600", 1, Duration::ZERO)]
    {
        let server = Server::start(move |_| {
            Act::Answer(429, vec![("retry-after", after.into())], "slow".into())
        })
        .await;
        let began = Instant::now();
        let receipts = sent::<Http>(json!({"to": server.url("/")}), &events, TIMEOUT).await;
        all(&receipts, "refused: throttled");
        assert!(began.elapsed() >= took && began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
        assert_eq!(server.seen().len(), posts, "Retry-After: {after}");
    }
}

#[tokio::test]
async fn senders_gelf_goes_in_datagrams_chunks_streams_and_posts() {
    let mut events = events(Format::Json, 3, MESSAGE);
    events[1].message = format!("{} {}", events[1].token, "x".repeat(3_000));
    let short = |bytes: &[u8]| {
        let gelf: Value = serde_json::from_slice(bytes).expect("JSON");
        gelf["short_message"].as_str().expect("a text").to_owned()
    };
    let expected: Vec<String> = events.iter().map(|event| event.message.clone()).collect();
    for gzip in [false, true] {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
        let to = format!("udp://{}", receiver.local_addr().expect("it is bound"));
        let spec = json!({"to": to, "gzip": gzip, "chunk_size": 500});
        all(&sent::<Gelf>(spec, &events, TIMEOUT).await, "sent");
        let (mut messages, mut parts) = (Vec::new(), Vec::new());
        let mut buffer = [0; 65_536];
        while messages.len() < 3 {
            let count = receiver.recv(&mut buffer).expect("it was sent");
            let datagram = &buffer[..count];
            assert!(count <= 500);
            let mut whole = datagram.to_vec();
            if datagram.starts_with(&[0x1e, 0x0f]) {
                assert_eq!(usize::from(datagram[10]), parts.len(), "in order on loopback");
                parts.push(datagram[12..].to_vec());
                if parts.len() < usize::from(datagram[11]) {
                    continue;
                }
                whole = std::mem::take(&mut parts).concat();
            }
            if gzip {
                let mut text = Vec::new();
                GzDecoder::new(&whole[..]).read_to_end(&mut text).expect("gzip");
                whole = text;
            }
            messages.push(short(&whole));
        }
        assert_eq!(messages, expected, "gzip {gzip}");
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let to = format!("tcp://{}", listener.local_addr().expect("it is bound"));
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let mut read = Vec::new();
        stream.read_to_end(&mut read).expect("it sends");
        read
    });
    all(&sent::<Gelf>(json!({"to": to}), &events, TIMEOUT).await, "sent");
    let read = reader.join().expect("it read");
    let messages: Vec<String> =
        read.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(short).collect();
    assert_eq!((messages, read.last()), (expected.clone(), Some(&0)));

    let server = Server::start(|_| Act::Answer(202, vec![], String::new())).await;
    let over_http: Gelf = sender(json!({"to": server.url("/gelf")}));
    assert!(over_http.acknowledges(), "HTTP answers");
    assert!(!sender::<Gelf>(json!({"to": "udp://h:1"})).acknowledges());
    all(&sent::<Gelf>(json!({"to": server.url("/gelf")}), &events, TIMEOUT).await, "accepted");
    let posted: Vec<String> =
        server.seen().iter().map(|request| short(request.body.as_bytes())).collect();
    assert_eq!(posted, expected);
}

#[test]
fn senders_wrong_specs_say_what_to_do() {
    fn why<S: Sender>(spec: Value) -> String {
        let spec = serde_json::from_value(spec.clone()).unwrap_or_else(|e| panic!("{spec}: {e}"));
        S::new(spec).err().expect("it is refused")
    }
    let http = "http://h";
    for (why, shown) in [
        (why::<Bulk>(json!({"to": http, "index": "a*"})), "index"),
        (why::<Bulk>(json!({"to": http, "index": "a", "per_request": 0})), "per_request"),
        (why::<Gelf>(json!({"to": "tcp://h:1", "gzip": true})), "gzip"),
        (why::<Gelf>(json!({"to": "udp://h:1", "chunk_size": 9_000})), "chunk_size"),
        (why::<Gelf>(json!({"to": "h:1"})), "udp://"),
        (why::<send::file::File>(json!({"path": "x.log"})), "absolute"),
        (why::<send::amqp::Amqp>(json!({"to": "amqp://h:1", "exchange": "e"})), "login"),
        (why::<send::amqp::Amqp>(json!({"to": "amqp://u:p@h:1", "exchange": "e"})), "login"),
        (why::<send::syslog::Syslog>(json!({"to": "unix://dev/log"})), "unix:///dev/log"),
        (why::<send::relp::Relp>(json!({"to": "udp://h:1"})), "UDP"),
        (
            why::<Http>(json!({"to": http, "sign": {"secret": {"env": "X"}, "header": "a b"}})),
            "header",
        ),
    ] {
        assert!(why.contains(shown), "{shown}: {why}");
    }
}

#[tokio::test]
async fn senders_bulk_has_an_answer_of_opensearch_for_each_document() {
    let search = opensearch();
    let mapping = json!({"settings": {"number_of_replicas": 0, "refresh_interval": "100ms"},
        "mappings": {"properties": {"number": {"type": "integer"}}}});
    let put = ureq::put(&format!("{}/senders-bulk", search.url))
        .header("content-type", "application/json")
        .send(mapping.to_string());
    assert_eq!(put.expect("opensearch answers").status(), 200);
    let mut events = events(Format::Json, 120, MESSAGE);
    let spec = json!({"to": search.url, "index": "senders-bulk", "per_request": 50, "gzip": true});
    all(&sent::<Bulk>(spec.clone(), &events, TIMEOUT).await, "accepted");
    // Once more: each is there already, under its own id.
    all(&sent::<Bulk>(spec.clone(), &events[..3], TIMEOUT).await, "accepted");
    let count = until("the documents", || {
        let (_, body) = get(&format!("{}/senders-bulk/_count", search.url))?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        answer["count"].as_u64().filter(|count| *count >= 120)
    });
    assert_eq!(count, 120, "no copy of any");

    // One that the index can't take is refused, by itself.
    for event in &mut events {
        event.token.push('x');
    }
    events[1].payload = json!({"number": "none"}).to_string().into();
    let words: Vec<String> =
        sent::<Bulk>(spec.clone(), &events[..3], TIMEOUT).await.iter().map(word).collect();
    assert_eq!(words, ["accepted", "refused: rejected", "accepted"]);
    // An index that may not be written.
    let block = json!({"index.blocks.write": true}).to_string();
    let put = ureq::put(&format!("{}/senders-bulk/_settings", search.url))
        .header("content-type", "application/json")
        .send(block);
    assert_eq!(put.expect("opensearch answers").status(), 200);
    all(&sent::<Bulk>(spec, &events[4..6], TIMEOUT).await, "refused: auth_failed");
}
