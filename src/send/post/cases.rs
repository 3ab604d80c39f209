//! Recorded and written answers, as they are and mutated.
//!
//! A fixture's first line says where it comes from; each further line is a case: the status, what
//! is expected of each event (one word for all), and the answer's body, where `{0}` is the token of
//! the first event and `{lf}` a line feed.

use std::cell::Cell;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::Posted;
use crate::client::http::{Phases, Response};
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::journey::{Event, Receipt};
use crate::time::Wall;

pub(in crate::send) fn events(count: u64) -> Vec<Event> {
    let events = Events::new(&EventSpec::default(), Format::Json).unwrap();
    let at = Wall(1_790_000_000_123_456_789);
    (0..count).map(|seq| events.render(&run_from([7; 8]), "s", seq, at)).collect()
}

pub(in crate::send) fn answer(status: u16, body: impl Into<bytes::Bytes>) -> Posted {
    Posted::Answered(Box::new(Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.into(),
        url: "http://h/".parse().unwrap(),
        redirects: 0,
        phases: Phases::default(),
        expires_in: None,
    }))
}

pub(in crate::send) fn word(receipt: &Receipt) -> String {
    match receipt {
        Receipt::NotSent(reason) => format!("not_sent:{}", reason.code.word()),
        Receipt::Sent { .. } => "sent".into(),
        Receipt::Accepted { .. } => "accepted".into(),
        Receipt::Refused(reason) => format!("refused:{}", reason.code.word()),
        Receipt::Unknown(reason) => format!("unknown:{}", reason.code.word()),
        Receipt::Fault(fault) => format!("fault:{}", fault.code.word()),
    }
}

/// Judges every case of a fixture, then many answers that are nearly those.
pub(in crate::send) fn hold(
    name: &str,
    fixture: &str,
    count: u64,
    needs_json: bool,
    judge: impl Fn(Posted, &[Event]) -> Vec<Receipt>,
) {
    let events = events(count);
    let mut lines = fixture.lines();
    let from = lines.next().unwrap();
    assert!(from.starts_with("written from ") || from.starts_with("recorded from "), "{from}");
    let mut cases = Vec::new();
    for line in lines {
        let parts: Vec<&str> = line.splitn(3, " | ").collect();
        let [status, expected, body] = parts[..] else { panic!("{name}: no case: {line}") };
        let status: u16 = status.parse().unwrap();
        let mut body = body.replace("{lf}", "\n");
        for (index, event) in events.iter().enumerate() {
            body = body.replace(&format!("{{{index}}}"), &event.token);
        }
        let said: Vec<String> =
            judge(answer(status, body.clone()), &events).iter().map(word).collect();
        let mut expected: Vec<&str> = expected.split(',').collect();
        if expected.len() == 1 {
            expected = vec![expected[0]; events.len()];
        }
        assert_eq!(said, expected, "{name}: {line}");
        cases.push((status, body.into_bytes()));
    }
    let statuses = prop_oneof![Just(200_u16), Just(204), Just(260), Just(400), 200..600_u16];
    let place = any::<prop::sample::Index>;
    let input = (place(), proptest::option::of(statuses), place(), any::<u8>(), 0..4_u8);
    let mut runner =
        TestRunner::new(Config { cases: 4096, failure_persistence: None, ..Config::default() });
    let counted = Cell::new((0_u32, 0_u32));
    runner
        .run(&input, |(case, other, at, byte, how)| {
            let (status, mut body) = case.get(&cases).clone();
            let status = other.unwrap_or(status);
            if !body.is_empty() {
                let at = at.index(body.len());
                match how {
                    0 => body[at] = byte,
                    1 => body.truncate(at),
                    2 => body.insert(at, byte),
                    _ => drop(body.remove(at)),
                }
            }
            let receipts = judge(answer(status, body.clone()), &events);
            prop_assert_eq!(receipts.len(), events.len());
            let taken = receipts.iter().any(|receipt| matches!(receipt, Receipt::Accepted { .. }));
            let (all, accepted) = counted.get();
            counted.set((all + 1, accepted + u32::from(taken)));
            prop_assert!(!taken || (200..300).contains(&status), "{} is no success", status);
            if needs_json {
                let json = serde_json::from_slice::<serde_json::Value>(&body).is_ok();
                prop_assert!(!taken || json, "accepted without an answer that says so");
            }
            Ok(())
        })
        .unwrap();
    let (all, accepted) = counted.get();
    eprintln!("property answers of {name}: {all} inputs, {accepted} with something accepted");
}
