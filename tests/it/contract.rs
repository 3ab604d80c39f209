//! The contract, sentence by sentence, met from outside: the real binary, real sockets, plans as
//! their writers would write them. What the other areas hold already is not asked again here.

mod commands;
mod journeys;
mod judging;
mod metrics;
mod plan_file;
mod report;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::command::{code, err, greenlight, out};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_greenlight");

/// One request as a small HTTP server saw it.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A small HTTP server on a free port of loopback, as long as the test process lives.
pub(crate) fn web(
    answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || converse(stream, &*answer));
        }
    });
    address
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&Asked) -> (u16, String)) {
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        while let Some(end) = find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse::<usize>().expect("a length"));
            if bytes.len() < end + 4 + length {
                break;
            }
            let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
            bytes.drain(..end + 4 + length);
            let asked = Asked {
                path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
                head: head.clone(),
                body,
            };
            let (status, body) = answer(&asked);
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A port that somebody listens on, as long as the test process lives.
pub(crate) fn open_port() -> u16 {
    web(|_| (200, "{}".to_owned())).port()
}

/// A port that nobody listens on.
pub(crate) fn closed_port() -> u16 {
    crate::peers::free_port()
}

/// The binary with variables of the environment.
pub(crate) fn greenlight_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

/// The report of a `check` of this plan, and its exit code.
pub(crate) fn check(plan: &str, more: &[&str]) -> (i32, Value) {
    let (_folder, file) = crate::command::folder_with(plan);
    let mut arguments = vec!["check", "-c", &file, "-o", "json"];
    arguments.extend(more);
    let output = greenlight(&arguments);
    let report = serde_json::from_str(&out(&output))
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(&output), err(&output)));
    (code(&output), report)
}

/// The row of a gate, a check or a journey.
pub(crate) fn row<'a>(list: &'a Value, id: &str) -> &'a Value {
    let rows = list.as_array().expect("an array");
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {list:#}"))
}

/// More than the `give_up` of [`journey`] and the second after which the next round begins.
const HELD: std::time::Duration = std::time::Duration::from_millis(3_500);

/// What a small platform does wrong with the events that it takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flaw {
    None,
    /// The event of this number is taken and never stored.
    Loses(u64),
    /// The event of this number is stored twice.
    Repeats(u64),
    /// The event of this number is refused at the door.
    Refuses(u64),
    /// The first event of this number shows only after it was given up, while the next round is under way.
    Holds(u64),
    /// Nobody can look.
    Blind,
}

/// A way in at `/events`, and a search at `/search?run=...`.
pub(crate) fn platform(flaw: Flaw) -> std::net::SocketAddr {
    let stored = std::sync::Mutex::new(Vec::<Value>::new());
    let held = std::sync::OnceLock::<(Value, std::time::Instant)>::new();
    web(move |asked| match asked.path.split('?').next() {
        Some("/events") => {
            assert!(asked.head.to_ascii_lowercase().contains("greenlight-id:"), "{}", asked.head);
            let event: Value = serde_json::from_str(&asked.body).expect("an event is JSON");
            let seq = event["greenlight.seq"].as_u64().expect("a number");
            for field in ["greenlight.run", "greenlight.stream", "greenlight.crc"] {
                assert!(!event[field].is_null(), "{field} is missing in {event}");
            }
            if flaw == Flaw::Refuses(seq) {
                return (400, "{}".to_owned());
            }
            let mut stored = stored.lock().expect("nobody panicked");
            let first = flaw == Flaw::Holds(seq)
                && held.set((event.clone(), std::time::Instant::now())).is_ok();
            if flaw != Flaw::Loses(seq) && !first {
                stored.push(event.clone());
            }
            if flaw == Flaw::Repeats(seq) {
                stored.push(event);
            }
            (200, "{}".to_owned())
        }
        _ if flaw == Flaw::Blind => (503, "{}".to_owned()),
        _ => {
            let run = asked.path.split("run=").nth(1).unwrap_or_default();
            let stored = stored.lock().expect("nobody panicked");
            let held = held.get().filter(|(_, since)| since.elapsed() > HELD);
            let held = held.map(|(event, _)| (usize::MAX, event));
            let hits: Vec<Value> = stored
                .iter()
                .enumerate()
                .chain(held)
                .filter(|(_, event)| event["greenlight.run"] == run)
                .map(|(id, event)| serde_json::json!({ "id": id.to_string(), "event": event }))
                .collect();
            (200, serde_json::json!({ "hits": hits }).to_string())
        }
    })
}

/// A journey `j` of five events through it, with short deadlines.
pub(crate) fn journey(platform: std::net::SocketAddr) -> String {
    format!(
        "journeys:\n  - id: j\n    every: 1s\n    timeout: 2s\n    \
         send: {{ http: {{ to: 'http://{platform}/events' }} }}\n    \
         events: {{ count: 5 }}\n    stages:\n      - stored:\n          \
         json_api: {{ url: 'http://{platform}/search?run={{run}}', items: '.hits[]', fields: .event, text: .event.message, id: .id }}\n          \
         within: 1s\n          give_up: 2s\n          poll: 100ms\n"
    )
}
