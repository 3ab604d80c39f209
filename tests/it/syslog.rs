//! Syslog over TCP against receivers with faults and against rsyslog: what was certainly handed
//! over, what certainly was not, and what nobody knows.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use greenlight::client::Clients;
use greenlight::client::syslog::Framing;
use greenlight::client::tls;
use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::journey::{Event, Receipt};
use greenlight::outcome::{Outcome, Reading, ReasonCode};
use greenlight::probe::{self, Attempt, Probe};
use greenlight::send::syslog::{Spec, Syslog};
use greenlight::send::{SendContext, Sender};
use greenlight::spec::trace::Trace;
use greenlight::time::Wall;
use socket2::SockRef;

use crate::peers::{Rsyslog, folder, free_port, rsyslog, run};

fn events(count: u64, message: &str) -> Vec<Event> {
    let spec = EventSpec { count, message: message.to_string(), ..EventSpec::default() };
    let events = Events::new(&spec, Format::Rfc5424).expect("a valid spec");
    let run = run_from([5; 8]);
    let at = Wall::from_secs(1_790_000_000);
    (0..count).map(|seq| events.render(&run, "main", seq, at)).collect()
}

const MESSAGE: &str = "login of {user} from {address}, \"quoted\" ] \\ ünïcode {token}";

async fn send(spec: Spec, events: &[Event], timeout: Duration) -> Vec<Receipt> {
    let sender = Syslog::new(spec).expect("a valid spec");
    let (clients, trace) = (Clients::default(), Trace::off());
    let on = SendContext { timeout, clients: &clients, trace: &trace };
    let receipts = sender.send(events, on).await;
    assert_eq!(receipts.len(), events.len(), "one receipt an event");
    receipts
}

fn to(port: u16, framing: Framing) -> Spec {
    Spec {
        to: format!("tcp://127.0.0.1:{port}"),
        framing,
        tls: tls::Options::default(),
        timeout: None,
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);

fn all_sent(receipts: &[Receipt]) -> bool {
    receipts.iter().all(|receipt| matches!(receipt, Receipt::Sent { .. }))
}

fn written(rsyslog: &Rsyslog, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while rsyslog.lines().len() < count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    rsyslog.lines()
}

#[tokio::test]
async fn syslog_reaches_rsyslog_whole_and_in_order_in_both_framings() {
    let rsyslog = rsyslog();
    let mut lines = 0;
    for framing in [Framing::Octet, Framing::Lf] {
        let events = events(200, MESSAGE);
        let receipts = send(to(rsyslog.port, framing), &events, TIMEOUT).await;
        assert!(all_sent(&receipts), "{receipts:?}");
        let all = written(&rsyslog, lines + events.len());
        assert_eq!(all.len(), lines + events.len(), "{framing:?}");
        for (line, event) in all[lines..].iter().zip(&events) {
            // %hostname%|%app-name%|%msgid%|%structured-data%|%msg%
            let parts: Vec<&str> = line.splitn(5, '|').collect();
            assert_eq!(parts[..3], ["greenlight", "greenlight", "greenlight"], "{line}");
            assert!(parts[3].contains(&format!("seq=\"{}\"", event.seq)), "{line}");
            assert_eq!(parts[4].trim_start(), event.message, "{line}");
        }
        lines = all.len();
    }
}

#[tokio::test]
async fn syslog_that_nobody_takes_was_not_sent() {
    let receipts = send(to(free_port(), Framing::Octet), &events(3, MESSAGE), TIMEOUT).await;
    for receipt in receipts {
        let Receipt::NotSent(reason) = receipt else { panic!("{receipt:?}") };
        assert_eq!(reason.code, ReasonCode::Refused, "{reason}");
    }
}

/// A receiver that does `with` its first connection, and hands back what that yields.
fn receiver<T: Send + 'static>(
    with: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, mpsc::Receiver<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let (done, result) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("it connects");
        let _ = done.send(with(stream));
    });
    (port, result)
}

/// Closes with a reset (socket(7), SO_LINGER of zero).
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(stream);
}

#[tokio::test]
async fn syslog_reset_after_reading_leaves_every_event_unknown() {
    let (port, _) = receiver(|mut stream| {
        let mut some = [0; 10];
        stream.read_exact(&mut some).expect("there is some");
        // Even what it read it may not have kept.
        thread::sleep(Duration::from_millis(200));
        reset(stream);
    });
    for receipt in send(to(port, Framing::Octet), &events(5, MESSAGE), TIMEOUT).await {
        let Receipt::Unknown(reason) = receipt else { panic!("{receipt:?}") };
        assert_eq!(reason.code, ReasonCode::ConnectionLost, "{reason}");
    }
}

#[tokio::test]
async fn syslog_reset_in_the_middle_of_a_batch_is_unknown_before_and_not_sent_after() {
    // Large enough that the batch does not fit into the sockets' buffers.
    let padding = "x".repeat(8_000);
    let events = events(2_000, &format!("{padding} {{token}}"));
    let (port, _) = receiver(|mut stream| {
        let mut some = vec![0; 100_000];
        stream.read_exact(&mut some).expect("there is some");
        thread::sleep(Duration::from_millis(100));
        reset(stream);
    });
    let receipts = send(to(port, Framing::Octet), &events, TIMEOUT).await;
    let unknown = receipts.iter().take_while(|r| matches!(r, Receipt::Unknown(_))).count();
    let after = receipts.iter().skip(unknown).all(|r| matches!(r, Receipt::NotSent(_)));
    assert!((12..2_000).contains(&unknown) && after, "{unknown} unknown, then {after}");
}

#[tokio::test]
async fn syslog_that_nobody_reads_is_never_called_lost_nor_waited_for_too_long() {
    let padding = "x".repeat(8_000);
    let events = events(2_000, &format!("{padding} {{token}}"));
    let (end, ended) = mpsc::channel::<()>();
    let (port, _) = receiver(move |stream| {
        let _ = ended.recv();
        drop(stream);
    });
    let began = Instant::now();
    let receipts = send(to(port, Framing::Octet), &events, Duration::from_secs(4)).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(end);
    assert!(!receipts.iter().any(|r| matches!(r, Receipt::Sent { .. })), "nobody read anything");
    let unknown = receipts.iter().take_while(|r| matches!(r, Receipt::Unknown(_))).count();
    let after = receipts.iter().skip(unknown).all(|r| matches!(r, Receipt::NotSent(_)));
    assert!((1..2_000).contains(&unknown) && after, "{unknown} unknown, then {after}");
}

#[tokio::test]
async fn syslog_receiver_that_closed_before_the_events_came_is_unknown_not_sent() {
    let (port, closed) = receiver(drop);
    // The close is there before the first event is written or shortly after: either way, nobody
    // has read it.
    let receipts = send(to(port, Framing::Octet), &events(3, MESSAGE), TIMEOUT).await;
    closed.recv().expect("it closed");
    for receipt in receipts {
        assert!(matches!(receipt, Receipt::Unknown(_) | Receipt::NotSent(_)), "{receipt:?}");
    }
}

#[tokio::test]
async fn syslog_over_tls_is_read_behind_the_handshake() {
    let folder = folder("syslog-tls");
    let [key, certificate] = ["key.pem", "cert.pem"].map(|name| folder.join(name));
    // A certificate of its own that is no authority's.
    let config = folder.join("openssl.cnf");
    let text = "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=ext\n[dn]\nCN=localhost\n\
                [ext]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
    std::fs::write(&config, text).expect("the folder can be written");
    let [config, key_file, file] = [&config, &key, &certificate].map(|p| p.display().to_string());
    let arguments = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -config {config} \
         -keyout {key_file} -out {file}"
    );
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let made = run("openssl", "openssl", &arguments, "");
    assert!(made.status.success(), "{made:?}");
    let rsyslog = crate::peers::rsyslog_tls(&certificate, &key);
    let events = events(20, MESSAGE);
    let spec = Spec {
        to: format!("tls://localhost:{}", rsyslog.port),
        framing: Framing::Octet,
        tls: tls::Options { ca: Some(certificate), ..tls::Options::default() },
        timeout: None,
    };
    let receipts = send(spec.clone(), &events, TIMEOUT).await;
    assert!(all_sent(&receipts), "{receipts:?}");
    let lines = written(&rsyslog, events.len());
    assert_eq!(lines.len(), events.len());
    for (line, event) in lines.iter().zip(&events) {
        assert!(line.ends_with(&event.message), "{line}");
    }

    let distrusted = Spec { tls: tls::Options::default(), ..spec };
    for receipt in send(distrusted, &events[..2], TIMEOUT).await {
        let Receipt::NotSent(reason) = receipt else { panic!("{receipt:?}") };
        assert_eq!(reason.code, ReasonCode::CertificateInvalid, "{reason}");
    }
}

async fn probe_once(port: u16) -> Reading {
    let probe = probe::syslog::Syslog::new(probe::syslog::Spec::default()).expect("a valid spec");
    let (clients, trace) = (Clients::default(), Trace::off());
    let target = format!("tcp://127.0.0.1:{port}").as_str().into();
    Probe::attempt(
        &probe,
        Attempt { target: &target, timeout: TIMEOUT, clients: &clients, trace: &trace },
    )
    .await
}

#[tokio::test]
async fn syslog_probe_sees_a_receiver_a_reset_and_nobody() {
    let rsyslog = rsyslog();
    let reading = probe_once(rsyslog.port).await;
    assert_eq!(reading.outcome, Outcome::Success);
    let [sample] = &reading.samples[..] else { panic!("{reading:?}") };
    assert_eq!(sample.metric.series, Some("syslog.connect"));
    assert!(sample.value > 0.0 && sample.value < 5.0, "{}", sample.value);
    let lines = written(&rsyslog, 1);
    assert!(lines[0].contains("synthetic: this is a test message"), "{lines:?}");

    let (port, _) = receiver(|mut stream| {
        let mut some = [0; 10];
        stream.read_exact(&mut some).expect("there is some");
        reset(stream);
    });
    let reading = probe_once(port).await;
    assert!(
        matches!(&reading.outcome, Outcome::Failure(r) if r.code == ReasonCode::ConnectionLost),
        "{reading:?}"
    );
    assert_eq!(reading.samples.len(), 1, "it was connected all the same");

    let reading = probe_once(free_port()).await;
    assert!(
        matches!(&reading.outcome, Outcome::Failure(r) if r.code == ReasonCode::Refused),
        "{reading:?}"
    );
}
