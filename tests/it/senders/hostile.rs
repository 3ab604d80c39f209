//! A hostile peer costs every way in over TCP one bounded attempt: its time, and no memory.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use greenlight::journey::event::Format;
use greenlight::journey::{Event, Receipt};
use greenlight::send::amqp::Amqp;
use greenlight::send::bulk::Bulk;
use greenlight::send::gelf::Gelf;
use greenlight::send::http::Http;
use greenlight::send::loki::Loki;
use greenlight::send::otlp::Otlp;
use greenlight::send::relp::Relp;
use greenlight::send::splunk_hec::SplunkHec;
use serde_json::json;

use super::{events, sent, word};

const SHORT: Duration = Duration::from_millis(1_500);

/// What it says, again and again, with a pause between; its head goes before.
struct Hostile {
    name: &'static str,
    head: &'static str,
    body: Vec<u8>,
    times: u64,
    pause: Duration,
}

fn hostile() -> Vec<Hostile> {
    let of = |name, head, body: &[u8], times, pause| Hostile {
        name,
        head,
        body: body.to_vec(),
        times,
        pause: Duration::from_millis(pause),
    };
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b'['; 64 << 20]).expect("into memory");
    let bomb = bomb.finish().expect("into memory");
    let zipped = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let gigabyte = "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
    let many = u64::MAX;
    vec![
        of("an endless body", endless, &[b'['; 65_536], many, 0),
        of(
            "an endless head",
            "HTTP/1.1 200 OK\r\n",
            b"x-filler: aaaaaaaaaaaaaaaaaaaaaaa\r\n",
            many,
            0,
        ),
        of("1 GB of JSON", gigabyte, "{\"items\":".repeat(8_000).as_bytes(), many, 0),
        of("a gzip bomb", zipped, &bomb, 1, 0),
        of("a slow drip", "", b"H", many, 100),
        of("a slow drip of JSON", endless, b" ", many, 100),
        of(
            "wrong types",
            closing,
            br#"{"items":{"create":[]},"code":"0","acks":7,"partialSuccess":[]}"#,
            1,
            0,
        ),
        of("a number", closing, b"1e999999", 1, 0),
        of(
            "invalid UTF-8",
            closing,
            b"{\"items\":[{\"create\":{\"_id\":\"\xff\xfe\",\"status\":201}}]}",
            1,
            0,
        ),
        of("deep JSON", closing, "[".repeat(200_000).as_bytes(), 1, 0),
        of("no HTTP", "", b"\xff\xff\xff\xff\xff\xff\xff\xff not what you think\n", many, 1),
        of("an endless word", "", &[b'1'; 65_536], many, 0),
        of("silence", "", b"", 1, 3_000),
    ]
}

/// Listens until the process ends; counts what it was able to say.
fn serve(peer: Hostile) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let said = Arc::new(AtomicU64::new(0));
    let (peer, counter) = (Arc::new(peer), said.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (peer, counter) = (peer.clone(), counter.clone());
            thread::spawn(move || {
                // It answers when it was asked, as a server does.
                let (mut reader, mut stream) = (stream.try_clone().expect("fd"), stream);
                let _ = std::io::Read::read(&mut reader, &mut [0; 65_536]);
                thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                let _ = stream.write_all(peer.head.as_bytes());
                for _ in 0..peer.times {
                    if stream.write_all(&peer.body).is_err() {
                        return;
                    }
                    counter.fetch_add(peer.body.len() as u64, Ordering::SeqCst);
                    thread::sleep(peer.pause);
                }
            });
        }
    });
    (port, said)
}

/// Every way in over TCP that reads an answer; whether a status alone is an answer to it.
async fn attempt(kind: &str, port: u16, events: &[Event]) -> (Vec<Receipt>, bool) {
    let http = format!("http://127.0.0.1:{port}/");
    let token = json!({"env": "PATH"});
    match kind {
        "http" => (sent::<Http>(json!({"to": http}), events, SHORT).await, true),
        "gelf" => (sent::<Gelf>(json!({"to": http}), events, SHORT).await, true),
        "bulk" => (sent::<Bulk>(json!({"to": http, "index": "i"}), events, SHORT).await, false),
        "loki" => (sent::<Loki>(json!({"to": http}), events, SHORT).await, true),
        "otlp" => (sent::<Otlp>(json!({"to": http}), events, SHORT).await, false),
        "splunk_hec" => {
            (sent::<SplunkHec>(json!({"to": http, "token": token}), events, SHORT).await, false)
        }
        "relp" => {
            let to = format!("tcp://127.0.0.1:{port}");
            (sent::<Relp>(json!({"to": to}), events, SHORT).await, false)
        }
        _ => {
            let spec = json!({"to": format!("amqp://127.0.0.1:{port}"), "routing_key": "q",
                              "login": {"username": "u", "password": token}});
            (sent::<Amqp>(spec, events, SHORT).await, false)
        }
    }
}

/// Of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024
}

#[tokio::test]
async fn senders_survive_hostile_peers_within_their_time_and_without_memory() {
    let events = events(Format::Json, 2, "{token}");
    let before = resident();
    let (mut attempts, mut most) = (0, Duration::ZERO);
    for peer in hostile() {
        let name = peer.name;
        let (port, said) = serve(peer);
        let kinds = ["http", "gelf", "bulk", "loki", "otlp", "splunk_hec", "relp", "amqp"];
        let all = kinds.map(|kind| {
            let events = &events;
            async move {
                let began = Instant::now();
                let (receipts, by_status) = attempt(kind, port, events).await;
                (kind, receipts, by_status, began.elapsed())
            }
        });
        for (kind, receipts, by_status, took) in futures_util::future::join_all(all).await {
            let words: Vec<String> = receipts.iter().map(word).collect();
            assert!(took < SHORT * 4, "{kind}, {name}: {took:?}");
            if !by_status {
                let none = words.iter().all(|word| word != "accepted" && word != "sent");
                assert!(none, "{kind} accepts from {name}: {words:?}");
            }
            attempts += 1;
            most = most.max(took);
        }
        // What one attempt reads is bounded; the rest is in the kernel's buffers.
        let mib = said.load(Ordering::SeqCst) >> 20;
        assert!(mib < 8 * 64, "{name} was able to say {mib} MiB");
    }
    let more = resident().saturating_sub(before);
    eprintln!(
        "hostile peers: {attempts} attempts, the longest {most:.1?}, {more} MiB more resident"
    );
    assert!(more < 300, "{more} MiB");
}
