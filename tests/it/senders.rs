//! The ways in against real servers, against receivers written from documents, and against
//! hostile ones: exactly one receipt an event, and each says only what is known.

use std::path::Path;
use std::time::{Duration, Instant};

use greenlight::client::Clients;
use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::journey::{Event, Receipt};
use greenlight::send::{SendContext, Sender};
use greenlight::spec::trace::Trace;
use greenlight::time::Wall;
use serde_json::Value;

mod answers;
mod broker;
mod hostile;
mod local;
mod shipped;
mod syslog;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Events of a run of their own.
fn events(format: Format, count: u64, message: &str) -> Vec<Event> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("random bytes");
    let spec = EventSpec { count, message: message.to_string(), ..EventSpec::default() };
    let events = Events::new(&spec, format).expect("a valid spec");
    let (run, at) = (run_from(random), Wall::from_secs(1_790_000_000));
    (0..count).map(|seq| events.render(&run, "main", seq, at)).collect()
}

/// A sender as a plan would make it.
fn sender<S: Sender>(spec: Value) -> S {
    let spec = serde_json::from_value(spec.clone()).unwrap_or_else(|e| panic!("{spec}: {e}"));
    S::new(spec).unwrap_or_else(|why| panic!("the spec is refused: {why}"))
}

pub(crate) async fn sent<S: Sender>(
    spec: Value,
    events: &[Event],
    timeout: Duration,
) -> Vec<Receipt> {
    let sender: S = sender(spec);
    let (clients, trace) = (Clients::default(), Trace::off());
    let on = SendContext { timeout, clients: &clients, trace: &trace };
    let receipts = sender.send(events, on).await;
    assert_eq!(receipts.len(), events.len(), "one receipt an event");
    receipts
}

/// What a receipt says, in short.
pub(crate) fn word(receipt: &Receipt) -> String {
    match receipt {
        Receipt::NotSent(reason) => format!("not sent: {}", reason.code.word()),
        Receipt::Sent { .. } => "sent".into(),
        Receipt::Accepted { .. } => "accepted".into(),
        Receipt::Refused(reason) => format!("refused: {}", reason.code.word()),
        Receipt::Unknown(reason) => format!("unknown: {}", reason.code.word()),
        Receipt::Fault(fault) => format!("fault: {}", fault.code.word()),
    }
}

#[track_caller]
fn all(receipts: &[Receipt], expected: &str) {
    assert!(receipts.iter().all(|receipt| word(receipt) == expected), "{expected}: {receipts:?}");
}

/// Asks until `what` yields something.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
