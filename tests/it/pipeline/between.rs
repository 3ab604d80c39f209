//! What stands between two programs of a pipeline and does wrong what a test asks for, counting
//! what it did: a relay of datagrams, a line that can be held or cut, an HTTP proxy.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;

use super::{WARM, connect};

/// What the relay does with one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Pass,
    Lose,
    Repeat,
    /// Passes it on behind the next one.
    Swap,
    /// Passes it on so much later.
    Hold(Duration),
    /// Without its last bytes.
    Cut,
    /// With another first letter of its message.
    Mangle,
}

/// Passes datagrams on to a port; `act` is asked by sequence number.
pub(super) struct Datagrams {
    pub(super) port: u16,
    /// How often each thing was done.
    pub(super) done: Arc<Mutex<BTreeMap<Act, u64>>>,
}

impl Datagrams {
    pub(super) fn start(to: u16, act: fn(u64) -> Act) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = socket.local_addr().expect("it is bound").port();
        // A round comes in one burst; the kernel's limit (net.core.rmem_max) may be lower.
        SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("a socket option");
        let done = Arc::new(Mutex::new(BTreeMap::new()));
        let counted = done.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            let mut held: Option<Vec<u8>> = None;
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                let mut datagram = buffer[..length].to_vec();
                let act = act(seq(&datagram));
                *counted.lock().expect("no panic inside").entry(act).or_default() += 1;
                let send = |datagram: &[u8]| {
                    socket.send_to(datagram, (Ipv4Addr::LOCALHOST, to)).expect("it can be sent");
                };
                match act {
                    Act::Pass => send(&datagram),
                    Act::Lose => {}
                    Act::Repeat => (send(&datagram), send(&datagram)).0,
                    Act::Swap => {
                        held = Some(datagram);
                        continue;
                    }
                    Act::Hold(time) => {
                        let socket = socket.try_clone().expect("a descriptor is left");
                        thread::spawn(move || {
                            thread::sleep(time);
                            let to = (Ipv4Addr::LOCALHOST, to);
                            socket.send_to(&datagram, to).expect("it can be sent");
                        });
                    }
                    Act::Cut => send(&datagram[..length - 5]),
                    Act::Mangle => {
                        // Behind the structured data.
                        let at = datagram.windows(2).position(|two| two == b"] ");
                        datagram[at.expect("it has some") + 2] = b'#';
                        send(&datagram);
                    }
                }
                if let Some(held) = held.take() {
                    send(&held);
                }
            }
        });
        Self { port, done }
    }

    /// Datagrams that reached it.
    pub(super) fn seen(&self) -> u64 {
        self.done.lock().expect("no panic inside").values().sum()
    }

    pub(super) fn count(&self, act: Act) -> u64 {
        self.done.lock().expect("no panic inside").get(&act).copied().unwrap_or(0)
    }
}

fn seq(datagram: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(datagram);
    let after = text.split(" seq=\"").nth(1).and_then(|rest| rest.split('"').next());
    after.and_then(|number| number.parse().ok()).expect("it carries a number")
}

/// Passes a stream on, until it is held or cut.
pub(super) struct Line {
    pub(super) port: u16,
    /// Nothing goes through, and nobody is told.
    pub(super) held: Arc<AtomicBool>,
    /// Rises: every connection there is ends.
    cuts: Arc<AtomicU64>,
}

impl Line {
    pub(super) fn start(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let held = Arc::new(AtomicBool::new(false));
        let cuts = Arc::new(AtomicU64::new(0));
        let (holds, cut) = (held.clone(), cuts.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Who is not there is not there for the client either.
                let Ok(server) = connect(to) else { continue };
                let pair = || {
                    (client.try_clone().expect("a descriptor"), server.try_clone().expect("one"))
                };
                let (from, into) = pair();
                let (back, answers) = pair();
                for (from, into) in [(from, into), (answers, back)] {
                    let (holds, cut) = (holds.clone(), cut.clone());
                    thread::spawn(move || pass_on(from, into, &holds, &cut));
                }
            }
        });
        Self { port, held, cuts }
    }

    pub(super) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut into: TcpStream, holds: &AtomicBool, cuts: &AtomicU64) {
    const TICK: Duration = Duration::from_millis(20);
    from.set_read_timeout(Some(TICK)).expect("a socket option");
    let born = cuts.load(Ordering::SeqCst);
    let mut buffer = [0; 65_536];
    while cuts.load(Ordering::SeqCst) == born {
        if holds.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(some) => {
                while holds.load(Ordering::SeqCst) {
                    thread::sleep(TICK);
                }
                if into.write_all(&buffer[..some]).is_err() {
                    break;
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
}

/// What the proxy does with one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Pass,
    /// Answers this instead, with a body of JSON or of plain text.
    Status(u16),
    Text(u16),
    /// Passes it on so much later.
    After(Duration),
    /// Passes it on twice, and gives back the second answer.
    Twice,
    /// Leaves documents of these numbers out and says 429 of them.
    RefuseItems(fn(u64) -> bool),
}

/// An HTTP proxy before a search server. It counts the documents that the server took.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    reply: Mutex<Reply>,
    /// For so many requests yet; then it passes on.
    left: AtomicU64,
    answered: AtomicU64,
    taken: Mutex<BTreeMap<u64, u64>>,
}

impl Proxy {
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            to,
            reply: Mutex::new(Reply::Pass),
            left: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            taken: Mutex::default(),
        });
        let theirs = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = theirs.clone();
                thread::spawn(move || shared.converse(client));
            }
        });
        Self { port, shared }
    }

    /// Does this with the next requests that matter: those to write or to search.
    pub(crate) fn next(&self, count: u64, reply: Reply) {
        *self.shared.reply.lock().expect("no panic inside") = reply;
        self.shared.left.store(count, Ordering::SeqCst);
    }

    /// How many requests it did not simply pass on.
    pub(super) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// How often the server took each event of a round.
    pub(super) fn taken(&self) -> BTreeMap<u64, u64> {
        self.shared.taken.lock().expect("no panic inside").clone()
    }
}

struct Request {
    line: String,
    content_type: String,
    body: Vec<u8>,
}

impl Shared {
    fn converse(&self, client: TcpStream) {
        let mut into = client.try_clone().expect("a descriptor is left");
        let mut from = BufReader::new(client);
        while let Some(request) = read(&mut from) {
            let Some((status, body)) = self.answer(&request) else { return };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if into.write_all(&[head.as_bytes(), &body].concat()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request) -> Option<(u16, Vec<u8>)> {
        let matters = request.line.contains("_bulk") || request.line.contains("_search");
        let takes = |left: u64| left.checked_sub(1).filter(|_| matters);
        let chosen = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes).is_ok();
        if !chosen {
            return self.forward(request);
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        let reply = *self.reply.lock().expect("no panic inside");
        match reply {
            Reply::Pass => self.forward(request),
            Reply::Status(status) => {
                let body =
                    json!({"error": {"type": "rejected_execution_exception"}, "status": status});
                Some((status, body.to_string().into_bytes()))
            }
            Reply::Text(status) => Some((status, b"it does not work now".to_vec())),
            Reply::After(time) => {
                thread::sleep(time);
                self.forward(request)
            }
            Reply::Twice => {
                self.forward(request)?;
                self.forward(request)
            }
            Reply::RefuseItems(refused) => self.refuse_items(request, refused),
        }
    }

    fn refuse_items(&self, request: &Request, refused: fn(u64) -> bool) -> Option<(u16, Vec<u8>)> {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let mut kept = String::new();
        let verdicts: Vec<bool> = lines
            .chunks(2)
            .map(|pair| {
                let refused = event(pair[1]).is_some_and(refused);
                if !refused {
                    kept.push_str(&format!("{}\n{}\n", pair[0], pair[1]));
                }
                refused
            })
            .collect();
        let mut taken = Vec::new();
        if !kept.is_empty() {
            let body = kept.into_bytes();
            let (status, answer) = self.forward(&Request {
                body,
                line: request.line.clone(),
                content_type: request.content_type.clone(),
            })?;
            assert_eq!(status, 200, "it takes the rest");
            let answer: Value = serde_json::from_slice(&answer).expect("it sends JSON");
            taken = answer["items"].as_array().expect("items").clone();
        }
        let mut taken = taken.into_iter();
        let items: Vec<Value> = verdicts
            .iter()
            .map(|refused| match refused {
                true => json!({"index": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "full"}}}),
                false => taken.next().expect("one an item"),
            })
            .collect();
        let answer = json!({"took": 1, "errors": true, "items": items});
        Some((200, answer.to_string().into_bytes()))
    }

    fn forward(&self, request: &Request) -> Option<(u16, Vec<u8>)> {
        let mut server = connect(self.to).ok()?;
        let head = format!(
            "{}\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            request.line,
            request.content_type,
            request.body.len()
        );
        server.write_all(&[head.as_bytes(), &request.body].concat()).ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).ok()?;
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..split]).into_owned();
        let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
        if request.line.contains("_bulk") && status == 200 {
            let mut taken = self.taken.lock().expect("no panic inside");
            for seq in String::from_utf8_lossy(&request.body).lines().filter_map(event) {
                *taken.entry(seq).or_default() += 1;
            }
        }
        Some((status, answer[split + 4..].to_vec()))
    }
}

/// The number of the event that a line of a bulk request is.
fn event(line: &str) -> Option<u64> {
    let document: Value = serde_json::from_str(line).ok()?;
    (document["greenlight.run"].as_str()? != WARM).then_some(())?;
    document["greenlight.seq"].as_u64()
}

fn read(from: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let content_type = header("content-type").unwrap_or_else(|| "application/json".to_owned());
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(Request { line: lines.first()?.clone(), content_type, body })
}
