//! What must not be counted: readers that are cut off, a store that can't be asked, a broker and an
//! indexer that start anew, Greenlight killed in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::between::{Line, Proxy, Reply};
use super::{
    EVENTS, Fates, Journey, Pipeline, Shape, at_once, repeated, signal, store_port, stored, until,
};
use crate::command::{Daemon, folder_with};
use crate::peers::{Kafka, kafka, own_kafka};

#[test]
fn nothing_is_invented_over_reconnects_outages_and_restarts() {
    at_once(&[
        ("outage", a_read_outage),
        ("blind", a_store_that_can_not_be_asked),
        ("reconnects", a_reader_that_reconnects_and_a_broker_that_restarts),
        ("reread", an_indexer_that_starts_anew),
        ("killed", greenlight_killed_in_the_middle),
    ]);
}

fn before_the_agent(id: &'static str) -> (Pipeline, Proxy) {
    let proxy = Proxy::start(store_port());
    let shape = Shape { stores: [store_port(), proxy.port], ..Shape::default() };
    (Pipeline::start(id, shape), proxy)
}

fn a_read_outage(id: &'static str) {
    let (mut pipeline, proxy) = before_the_agent(id);
    let send = pipeline.by_relp();
    for (reply, already) in [(Reply::Status(429), 0), (Reply::Text(500), 4)] {
        proxy.next(4, reply);
        pipeline.round(&send, &Journey::default(), |_| {}).is_green();
        assert_eq!(proxy.answered(), already + 4, "it was asked and did not answer");
    }
}

/// Nobody knows what became of the events, and nobody says that they were lost.
fn a_store_that_can_not_be_asked(id: &'static str) {
    let (mut pipeline, proxy) = before_the_agent(id);
    proxy.next(u64::MAX, Reply::Status(429));
    let send = pipeline.by_tcp();
    let short = Duration::from_secs(10);
    let journey = Journey { within: short, give_up: short, ..Journey::default() };
    let round = pipeline.round(&send, &journey, |_| {});
    let found = crate::journeys::counts(&round.said["stages"]);
    assert_eq!(found["parsed"], (Fates::from([("ok".to_owned(), EVENTS)]), 0));
    assert_eq!(found["stored"], (Fates::from([("inconclusive".to_owned(), EVENTS)]), 0));
    assert_eq!((round.code, &round.said["first_failing_stage"]), (Some(2), &().into()));
    assert_eq!(stored(id).len() as u64, EVENTS + 1, "they were there all the time");
}

fn a_reader_that_reconnects_and_a_broker_that_restarts(id: &'static str) {
    let kafka = own_kafka();
    kafka.topic(&super::topic(id), 1);
    let line = Arc::new(Line::start(kafka.front, kafka.behind));
    let brokers =
        [kafka.brokers.clone(), kafka.brokers.clone(), format!("127.0.0.1:{}", line.port)];
    let mut pipeline = Pipeline::start_on_topic(id, Shape { brokers, ..Shape::default() });
    let send = pipeline.by_tcp();
    // The reader is cut off again and again, all the round.
    let stop = Arc::new(AtomicBool::new(false));
    let (cutting, stopped) = (line.clone(), stop.clone());
    let cutter = thread::spawn(move || {
        let mut cuts = 0_u64;
        while !stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(700));
            cutting.cut();
            cuts += 1;
        }
        cuts
    });
    signal(&pipeline.indexer, Signal::SIGSTOP);
    let all = i64::try_from(EVENTS).expect("few") + 1;
    let journey = Journey::patient();
    let round = pipeline.round(&send, &journey, |pipeline| {
        // The round is on its way when the broker dies; half of it waits for the indexer.
        until("the round is in the topic", || written(&kafka, id) == all);
        kafka.kill();
        kafka.start();
        signal(&pipeline.indexer, Signal::SIGCONT);
    });
    stop.store(true, Ordering::SeqCst);
    let cuts = cutter.join().expect("it ends");
    assert!(cuts > 3, "{cuts} cuts");
    let all = stored(id);
    assert_eq!((all.len() as u64, repeated(&all)), (EVENTS + 1, 0), "{all:?}");
    round.is_green();
    eprintln!("pipeline: {cuts} cuts of the reader, 1 restart of the broker, nothing invented");
}

fn written(kafka: &Kafka, id: &str) -> i64 {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let asker: BaseConsumer = kafka.config().create().expect("a valid configuration");
    let ends = asker.fetch_watermarks(&super::topic(id), 0, Duration::from_secs(20));
    let (low, high) = ends.expect("kafka answers");
    high - low
}

/// It reads again what it had not committed: those are copies, exactly as many as the index has.
fn an_indexer_that_starts_anew(id: &'static str) {
    let proxy = Proxy::start(store_port());
    let shape = Shape { stores: [proxy.port, store_port()], session: 6_000, ..Shape::default() };
    let mut pipeline = Pipeline::start(id, shape);
    let send = pipeline.by_tcp();
    // Request after request, so that some are stored and others not when it dies.
    proxy.next(u64::MAX, Reply::After(Duration::from_millis(300)));
    let round = pipeline.round(&send, &Journey::patient(), |pipeline| {
        until("the first are stored", || !proxy.taken().is_empty());
        pipeline.restart_indexer();
    });
    let repeats = repeated(&stored(id));
    assert!(repeats > 0, "it read nothing again");
    round.is("", (&[], 0), (&[], repeats));
    eprintln!("pipeline: an indexer started anew, {repeats} copies in the index, as many counted");
}

fn greenlight_killed_in_the_middle(id: &'static str) {
    let pipeline = Pipeline::start(id, Shape::default());
    let send = pipeline.by_relp();
    let plan = |every| pipeline.plan(&send, &Journey { every, ..Journey::patient() });
    let (folder, loaded) = folder_with(&plan("10s"));
    let (_quiet, quiet) = folder_with(&plan("1h"));
    let state = folder.path().join("state");
    signal(&pipeline.indexer, Signal::SIGSTOP);
    let mut daemon = Daemon::start(&loaded, &state, &[]);
    let all = i64::try_from(EVENTS).expect("few") + 1;
    until("a round is in the topic", || written(kafka(), id) >= all);
    for _ in 0..3 {
        // Each time it looks and finds nothing in the store yet.
        thread::sleep(Duration::from_millis(1_500));
        let (code, said) = daemon.end(Signal::SIGKILL);
        assert_eq!(code, None, "{said}");
        daemon = Daemon::start(&quiet, &state, &[]);
    }
    signal(&pipeline.indexer, Signal::SIGCONT);
    let rounds = || daemon.json("/api/v1/journeys")[0]["rounds"].as_u64().expect("a count");
    // All that was ever sent, less the first message.
    let sent = || u64::try_from(written(kafka(), id) - 1).expect("it holds some");
    until("all rounds have ended", || {
        let under_way = daemon.metric("greenlight_journey_events_under_way", &[]);
        rounds() * EVENTS >= sent() && under_way == Some(0.0)
    });
    let rows = daemon.json("/api/v1/journeys");
    let index = stored(id);
    assert_eq!(repeated(&index), 0, "each was sent once at most");
    // A second round may have been killed while it was sent: what the index lacks of it was never
    // known to be sent.
    let ok = index.len() as u64 - 1;
    let unknown = rounds() * EVENTS - ok;
    assert!(ok >= EVENTS, "{index:?}");
    let mut expected = Fates::from([("ok".to_owned(), ok), ("unknown".to_owned(), unknown)]);
    expected.retain(|_, count| *count > 0);
    for (stage, found) in crate::journeys::counts(&rows[0]["stages"]) {
        assert_eq!(found, (expected.clone(), 0), "{stage}: {rows:#}");
    }
    eprintln!("pipeline: greenlight killed 3 times, {ok} ok, {unknown} unknown, nothing invented");
}
