//! Each link broken in turn: the journey names the stage behind it, with the count of whoever
//! broke it.

use std::sync::atomic::Ordering;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::between::{Act, Datagrams, Line, Proxy, Reply};
use super::{
    EVENTS, HELD, Journey, Pipeline, Shape, at_once, repeated, signal, store_port, stored, until,
};
use crate::peers::kafka;

#[test]
fn each_broken_link_is_named_by_its_stage_with_the_exact_count() {
    at_once(&[
        ("stopped", a_collector_that_is_stopped),
        ("paused", a_collector_that_is_paused),
        ("datagrams", datagrams_on_their_way),
        ("rules", a_collector_that_misparses_and_drops),
        ("size", a_collector_that_truncates),
        ("partition", a_broker_that_is_cut_off),
        ("unread", an_indexer_that_is_stopped),
        ("slow", an_indexer_that_is_paused),
        ("indexer", an_indexer_that_does_everything_wrong),
        ("refused", a_store_that_answers_500),
        ("throttled", a_store_that_answers_429),
        ("items", a_store_that_refuses_single_documents),
        ("again", a_store_that_takes_and_says_500),
        ("repeated", a_store_that_is_written_to_twice),
        ("delayed", a_store_that_is_slow),
    ]);
}

fn a_collector_that_is_stopped(id: &'static str) {
    let mut pipeline = Pipeline::start(id, Shape::default());
    pipeline.collector.kill();
    for send in [pipeline.by_tcp(), pipeline.by_tls(), pipeline.by_relp()] {
        let round = pipeline.round(&send, &Journey::default(), |_| {});
        let all = (&[("refused", EVENTS)][..], 0);
        round.is("sent", all, all);
    }
}

fn a_collector_that_is_paused(id: &'static str) {
    let mut pipeline = Pipeline::start(id, Shape::default());
    let send = pipeline.by_tcp();
    // Its host takes what it does not read: handed over, and then nowhere.
    signal(&pipeline.collector, Signal::SIGSTOP);
    let round = pipeline.round(&send, &Journey::of_losses(), |_| {});
    let all = (&[("lost", EVENTS)][..], 0);
    round.is("parsed", all, all);
    signal(&pipeline.collector, Signal::SIGCONT);
    until("what was held comes", || stored(id).len() as u64 == EVENTS + 1);

    signal(&pipeline.collector, Signal::SIGSTOP);
    let round = pipeline.round(&send, &Journey::default(), |pipeline| {
        thread::sleep(HELD);
        signal(&pipeline.collector, Signal::SIGCONT);
    });
    let all = (&[("late", EVENTS)][..], 0);
    round.is("parsed", all, all);
}

fn datagrams_on_their_way(id: &'static str) {
    const LATER: Act = Act::Hold(HELD);
    let mut pipeline = Pipeline::start(id, Shape::default());
    let relay = Datagrams::start(pipeline.udp, |seq| match seq {
        // Of 200 events 1 %.
        7 | 107 => Act::Lose,
        10 | 20 | 30 => Act::Repeat,
        40 => Act::Swap,
        50..=53 => LATER,
        60 | 70 | 80 | 90 | 100 => Act::Cut,
        61 | 71 | 81 | 91 | 101 | 111 => Act::Mangle,
        _ => Act::Pass,
    });
    let send = format!("syslog: {{ to: 'udp://127.0.0.1:{}' }}", relay.port);
    let round = pipeline.round(&send, &Journey { events: 200, ..Journey::default() }, |_| {});
    assert_eq!(relay.seen(), 200, "what the kernel drops is no doing of the relay's");
    let fates = |reordered: u64| {
        [
            ("lost", relay.count(Act::Lose)),
            ("reordered", reordered),
            ("late", relay.count(LATER)),
            ("truncated", relay.count(Act::Cut)),
            ("corrupted", relay.count(Act::Mangle)),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect::<Vec<_>>()
    };
    // A store has no order: nothing is reordered there.
    let (swapped, repeats) = (relay.count(Act::Swap), relay.count(Act::Repeat));
    round.is("parsed", (&fates(swapped), repeats), (&fates(0), repeats));
    assert_eq!((relay.count(Act::Lose), swapped, repeats), (2, 1, 3));
}

fn a_collector_that_misparses_and_drops(id: &'static str) {
    let shape = Shape {
        collector_rules: "if cnum($!seq) > 0 and cnum($!seq) % 100 == 0 then stop\n    \
                          if cnum($!seq) % 10 == 3 then set $!host = \"nobody\";"
            .into(),
        ..Shape::default()
    };
    let mut pipeline = Pipeline::start(id, shape);
    let send = pipeline.by_tls();
    let journey = Journey { events: 200, ..Journey::of_losses() };
    let round = pipeline.round(&send, &journey, |_| {});
    // What the collector says wrongly is only asked at its own stage.
    round.is("parsed", (&[("lost", 2), ("misparsed", 20)], 0), (&[("lost", 2)], 0));
}

fn a_collector_that_truncates(id: &'static str) {
    let shape = Shape { message_size: "300", ..Shape::default() };
    let mut pipeline = Pipeline::start(id, shape);
    let long = "{token} some two hundred letters of text that nobody should cut: 0123456789 \
                abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 \
                abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghijklmnopqrstuvwxyz the end";
    let all = (&[("truncated", EVENTS)][..], 0);
    for send in [pipeline.by_udp(), pipeline.by_tcp()] {
        let round = pipeline.round(&send, &Journey { message: long, ..Journey::default() }, |_| {});
        round.is("parsed", all, all);
        shown_as_it_was_cut(&round.said["specimen"]);
        // What fits is whole.
        pipeline
            .round(&send, &Journey { message: "{token}", ..Journey::default() }, |_| {})
            .is_green();
    }
}

/// One event side by side: the collector's text ends in the middle of what was sent.
fn shown_as_it_was_cut(specimen: &Value) {
    let sent = specimen["sent"]["text"].as_str().expect("what was sent");
    assert!(sent.starts_with("<134>1 ") && sent.ends_with(" the end"), "{sent}");
    for stage in specimen["stages"].as_array().expect("stages") {
        assert_eq!(stage["fate"], "truncated", "{specimen:#}");
        let text = stage["text"]["text"].as_str().expect("what the stage showed").trim_start();
        assert!(!text.is_empty() && sent.contains(text), "{specimen:#}");
        let parts = stage["difference"].as_array().expect("parts");
        let of = |is: &str| -> String {
            let parts = parts.iter().filter(|part| part["is"] == is);
            parts.filter_map(|part| part["text"].as_str()).collect()
        };
        assert!(of("missing").ends_with(" the end"), "{specimen:#}");
        assert!(text.starts_with(of("same").trim_start()), "{specimen:#}");
    }
}

fn a_broker_that_is_cut_off(id: &'static str) {
    let line = Line::start(kafka().front, kafka().behind);
    let front = format!("127.0.0.1:{}", line.port);
    let direct = kafka().brokers.clone();
    let shape = Shape { brokers: [front, direct.clone(), direct], ..Shape::default() };
    let mut pipeline = Pipeline::start(id, shape);
    let send = pipeline.by_tcp();
    line.held.store(true, Ordering::SeqCst);
    let round = pipeline.round(&send, &Journey::default(), |_| {
        thread::sleep(HELD);
        line.held.store(false, Ordering::SeqCst);
    });
    let all = (&[("late", EVENTS)][..], 0);
    round.is("parsed", all, all);

    line.held.store(true, Ordering::SeqCst);
    let round = pipeline.round(&send, &Journey::of_losses(), |_| {});
    let all = (&[("lost", EVENTS)][..], 0);
    round.is("parsed", all, all);
    line.held.store(false, Ordering::SeqCst);
}

fn an_indexer_that_is_stopped(id: &'static str) {
    let mut pipeline = Pipeline::start(id, Shape::default());
    pipeline.indexer.kill();
    let send = pipeline.by_relp();
    let round = pipeline.round(&send, &Journey::of_losses(), |_| {});
    round.is("stored", (&[], 0), (&[("lost", EVENTS)], 0));
}

fn an_indexer_that_is_paused(id: &'static str) {
    let mut pipeline = Pipeline::start(id, Shape::default());
    signal(&pipeline.indexer, Signal::SIGSTOP);
    let send = pipeline.by_udp();
    let round = pipeline.round(&send, &Journey::default(), |pipeline| {
        thread::sleep(HELD);
        signal(&pipeline.indexer, Signal::SIGCONT);
    });
    round.is("stored", (&[], 0), (&[("late", EVENTS)], 0));
}

fn an_indexer_that_does_everything_wrong(id: &'static str) {
    let shape = Shape {
        indexer_rules: "if $.seq == 7 or $.seq == 77 then stop\n    \
                        if $.seq % 20 == 1 then set $!enriched!asset!owner = \"nobody\";\n    \
                        if $.seq % 20 == 2 then set $!message = substring($!message, 0, strlen($!message) - 4);\n    \
                        if $.seq % 50 == 3 then set $!message = replace($!message, \"login\", \"l0gin\");\n    \
                        if $.seq % 25 == 4 then call store".into(),
        ..Shape::default()
    };
    let mut pipeline = Pipeline::start(id, shape);
    let send = pipeline.by_tcp();
    let round = pipeline.round(&send, &Journey::of_losses(), |_| {});
    let wrong = [("lost", 2), ("misparsed", 5), ("truncated", 5), ("corrupted", 2)];
    round.is("stored", (&[], 0), (&wrong, 4));
}

/// The proxy stands between the indexer and the store, and does this with so many requests.
fn before_the_store(
    id: &'static str,
    count: u64,
    reply: Reply,
    journey: &Journey,
) -> (super::Round, Proxy) {
    let proxy = Proxy::start(store_port());
    let shape = Shape { stores: [proxy.port, store_port()], ..Shape::default() };
    let mut pipeline = Pipeline::start(id, shape);
    proxy.next(count, reply);
    let send = pipeline.by_tcp();
    let round = pipeline.round(&send, journey, |_| {});
    assert!(proxy.answered() > 0, "the proxy had something to do");
    (round, proxy)
}

/// Holds the round against what the proxy saw the store take.
fn is_as_the_proxy_says(id: &str, round: &super::Round, proxy: &Proxy) -> (u64, u64) {
    let taken = proxy.taken();
    let lost = EVENTS - taken.len() as u64;
    let repeats: u64 = taken.values().map(|copies| copies - 1).sum();
    let first_failing = if lost > 0 { "stored" } else { "" };
    let fates: &[(&str, u64)] = if lost > 0 { &[("lost", lost)] } else { &[] };
    round.is(first_failing, (&[], 0), (fates, repeats));
    let found = stored(id);
    assert_eq!((found.len() as u64, repeated(&found)), (EVENTS - lost + 1, repeats));
    eprintln!("pipeline {id}: {lost} lost and {repeats} repeated, as the proxy says");
    (lost, repeats)
}

/// rsyslog drops what a whole request with a JSON error was about.
fn a_store_that_answers_500(id: &'static str) {
    let (round, proxy) = before_the_store(id, 2, Reply::Status(500), &Journey::of_losses());
    assert!(is_as_the_proxy_says(id, &round, &proxy).0 > 0);
}

fn a_store_that_answers_429(id: &'static str) {
    let (round, proxy) = before_the_store(id, 2, Reply::Status(429), &Journey::of_losses());
    assert!(is_as_the_proxy_says(id, &round, &proxy).0 > 0);
}

fn a_store_that_refuses_single_documents(id: &'static str) {
    let every = u64::MAX;
    let refuse = Reply::RefuseItems(|seq| seq % 10 == 3);
    let (round, proxy) = before_the_store(id, every, refuse, &Journey::of_losses());
    assert_eq!(is_as_the_proxy_says(id, &round, &proxy), (10, 0));
}

/// What is no JSON makes rsyslog write the request again.
fn a_store_that_takes_and_says_500(id: &'static str) {
    let (round, proxy) = before_the_store(id, 2, Reply::Text(500), &Journey::default());
    is_as_the_proxy_says(id, &round, &proxy);
}

fn a_store_that_is_written_to_twice(id: &'static str) {
    let (round, proxy) = before_the_store(id, 2, Reply::Twice, &Journey::default());
    assert!(is_as_the_proxy_says(id, &round, &proxy).1 > 0);
}

fn a_store_that_is_slow(id: &'static str) {
    // The requests behind it wait: one worker writes one after the other.
    let (round, _proxy) = before_the_store(id, 1, Reply::After(HELD), &Journey::default());
    round.is("stored", (&[], 0), (&[("late", EVENTS)], 0));
}
