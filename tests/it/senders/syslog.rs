//! Syslog against a real rsyslog and a real syslog-ng, RELP against rsyslog.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use greenlight::journey::Event;
use greenlight::journey::event::Format;
use greenlight::send::relp::Relp;
use greenlight::send::syslog::Syslog;
use serde_json::json;

use super::{TIMEOUT, all, events, path, sent, until, word};
use crate::peers::{SyslogNg, folder, free_port, rsyslog_ways};

/// Each event once, in order, with its structured data and its text.
fn written(lines: &[String], input: &str, events: &[Event], structured: bool) {
    let of: Vec<&String> = lines.iter().filter(|line| line.starts_with(input)).collect();
    assert_eq!(of.len(), events.len(), "{input}");
    for (line, event) in of.iter().zip(events) {
        // %inputname%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%
        let parts: Vec<&str> = line.splitn(6, '|').collect();
        assert!(parts[5].trim_start().ends_with(&event.message), "{line}");
        if structured {
            assert_eq!(parts[1..4], ["greenlight"; 3], "{line}");
            assert!(parts[4].contains(&format!("seq=\"{}\"", event.seq)), "{line}");
        }
    }
}

#[tokio::test]
async fn senders_syslog_reaches_rsyslog_by_every_way_it_has() {
    let ways = rsyslog_ways();
    let events = |count| events(Format::Rfc5424, count, "ünïcode \"quoted\" ] \\ {token}");
    let tls = json!({"ca": path(&ways.folder.join("ca.pem")),
                     "cert": path(&ways.folder.join("client.pem")),
                     "key": path(&ways.folder.join("client.key"))});
    let lines = |more: usize| {
        until("what rsyslog writes", || {
            let lines = ways.rsyslog.lines();
            (lines.len() >= more).then_some(lines)
        })
    };
    let mut count = 0;
    let (udp, local) = (events(50), events(50));
    let port = ways.rsyslog.port;
    let receipts =
        sent::<Syslog>(json!({"to": format!("udp://127.0.0.1:{port}")}), &udp, TIMEOUT).await;
    all(&receipts, "sent");
    count += udp.len();
    written(&lines(count), "imudp|", &udp, true);

    let to = json!({"to": format!("unix://{}", path(&ways.socket))});
    all(&sent::<Syslog>(to, &local, TIMEOUT).await, "sent");
    count += local.len();
    written(&lines(count), "imuxsock|", &local, false);

    let mutual = events(20);
    let to = json!({"to": format!("tls://localhost:{}", ways.tls), "tls": tls});
    all(&sent::<Syslog>(to, &mutual, TIMEOUT).await, "sent");
    count += mutual.len();
    written(&lines(count), "imtcp|", &mutual, true);
    // Without a certificate of ours it takes nothing, and nothing is claimed.
    let nobody = json!({"to": format!("tls://localhost:{}", ways.tls), "tls": {"ca": tls["ca"]}});
    for receipt in sent::<Syslog>(nobody, &mutual[..2], TIMEOUT).await {
        let word = word(&receipt);
        assert!(!word.starts_with("sent"), "{receipt:?}");
    }

    let relp = events(300);
    let to = json!({"to": format!("tcp://127.0.0.1:{}", ways.relp)});
    all(&sent::<Relp>(to, &relp, TIMEOUT).await, "accepted");
    count += relp.len();
    written(&lines(count), "imrelp|", &relp, true);

    let secured = events(20);
    let to = json!({"to": format!("tls://localhost:{}", ways.relp_tls), "tls": tls});
    all(&sent::<Relp>(to, &secured, TIMEOUT).await, "accepted");
    let both: Vec<Event> = relp.into_iter().chain(secured).collect();
    written(&lines(count + 20), "imrelp|", &both, true);
    let distrusted = json!({"to": format!("tls://localhost:{}", ways.relp_tls)});
    let receipts = sent::<Relp>(distrusted, &both[..1], TIMEOUT).await;
    all(&receipts, "not sent: certificate_invalid");
}

#[tokio::test]
async fn senders_syslog_reaches_syslog_ng_by_every_way_it_has() {
    let peer = SyslogNg::start();
    let secured = |name: &str| json!(path(&peer.folder.join(name)));
    let tls = json!({"ca": secured("ca.pem"), "cert": secured("client.pem"), "key": secured("client.key")});
    let ways = [
        ("udp", json!({"to": format!("udp://127.0.0.1:{}", peer.port)})),
        ("tcp", json!({"to": format!("tcp://127.0.0.1:{}", peer.port)})),
        ("lines", json!({"to": format!("tcp://127.0.0.1:{}", peer.lines), "framing": "lf"})),
        ("tls", json!({"to": format!("tls://localhost:{}", peer.tls), "tls": tls})),
    ];
    let mut count = 0;
    for (source, to) in ways {
        let events = events(Format::Rfc5424, 50, "ünïcode \"quoted\" ] \\ {token}");
        all(&sent::<Syslog>(to, &events, TIMEOUT).await, "sent");
        count += events.len();
        let lines = until("what syslog-ng writes", || {
            let lines = peer.lines();
            (lines.len() >= count).then_some(lines)
        });
        written(&lines, &format!("{source}|"), &events, true);
    }
    // Without a certificate of ours it takes nothing, and nothing is claimed.
    let nobody = json!({"to": format!("tls://localhost:{}", peer.tls), "tls": {"ca": tls["ca"]}});
    for receipt in sent::<Syslog>(nobody, &events(Format::Rfc5424, 2, "{token}"), TIMEOUT).await {
        assert!(!word(&receipt).starts_with("sent"), "{receipt:?}");
    }
}

#[tokio::test]
async fn senders_syslog_over_udp_tells_what_does_not_fit_and_that_nobody_listens() {
    let mut events = events(Format::Rfc5424, 3, "{token}");
    events[1].payload = vec![b'x'; 70_000].into();
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let to = format!("udp://{}", receiver.local_addr().expect("it is bound"));
    let receipts = sent::<Syslog>(json!({"to": to}), &events, TIMEOUT).await;
    let words: Vec<String> = receipts.iter().map(word).collect();
    assert_eq!(words, ["sent", "not sent: too_large", "sent"], "{receipts:?}");
    receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket option");
    let mut buffer = [0; 65_536];
    for event in [&events[0], &events[2]] {
        let length = receiver.recv(&mut buffer).expect("it was sent");
        assert_eq!(&buffer[..length], &event.payload[..], "one datagram, nothing added");
    }
    drop(receiver);
    let receipts = sent::<Syslog>(json!({"to": to}), &events[..1], TIMEOUT).await;
    // It left; then the kernel said that nobody is there.
    all(&receipts, "unknown: refused");
}

#[tokio::test]
async fn senders_syslog_to_a_local_socket_that_is_not_there_or_is_a_stream() {
    let folder = folder("local-socket");
    let events = events(Format::Rfc5424, 3, "{token}");
    let to = json!({"to": format!("unix://{}", path(&folder.join("none")))});
    all(&sent::<Syslog>(to, &events, TIMEOUT).await, "not sent: not_found");

    let at = folder.join("stream");
    let listener = UnixListener::bind(&at).expect("the folder can be written");
    let reader = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("it connects");
        std::io::read_to_string(stream).expect("it is text")
    });
    let to = json!({"to": format!("unix://{}", path(&at)), "framing": "lf"});
    all(&sent::<Syslog>(to, &events, TIMEOUT).await, "sent");
    let read = reader.join().expect("it read");
    let lines: Vec<&[u8]> = read.lines().map(str::as_bytes).collect();
    let payloads: Vec<&[u8]> = events.iter().map(|event| &event.payload[..]).collect();
    assert_eq!(lines, payloads);
    // Its socket file is still there, and nobody behind it.
    let to = json!({"to": format!("unix://{}", path(&at))});
    all(&sent::<Syslog>(to, &events, TIMEOUT).await, "not sent: refused");
}

#[tokio::test]
async fn senders_relp_knows_what_was_answered_and_what_was_not() {
    use std::io::{Read, Write};
    let events = events(Format::Rfc5424, 5, "{token}");
    // The frames are of librelp's document "The RELP Protocol".
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let mut read = Vec::new();
        let mut buffer = [0; 65_536];
        while !read.windows(16).any(|part| part == b"commands=syslog\n") {
            let count = stream.read(&mut buffer).expect("it sends");
            read.extend_from_slice(&buffer[..count]);
        }
        let offers = "200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog";
        writeln!(stream, "1 rsp {} {offers}", offers.len()).expect("it reads");
        let mut read = 0;
        while read < 5 {
            let count = stream.read(&mut buffer).expect("it sends");
            read += buffer[..count].iter().filter(|byte| **byte == b'\n').count();
        }
        // The answers need not come in order; two never come.
        write!(stream, "4 rsp 18 500 no more space!\n2 rsp 6 200 OK\n3 rsp 4 fine\n")
            .expect("it reads");
        writeln!(stream, "0 serverclose 0").expect("it reads");
    });
    let to = json!({"to": format!("tcp://127.0.0.1:{port}")});
    let receipts = sent::<Relp>(to, &events, TIMEOUT).await;
    server.join().expect("it had its say");
    let words: Vec<String> = receipts.iter().map(word).collect();
    assert_eq!(
        words,
        [
            "accepted",
            "unknown: protocol_error",
            "refused: rejected",
            "unknown: connection_lost",
            "unknown: connection_lost",
        ],
        "{receipts:?}"
    );
    let nobody = json!({"to": format!("tcp://127.0.0.1:{}", free_port())});
    all(&sent::<Relp>(nobody, &events, TIMEOUT).await, "not sent: refused");
}
