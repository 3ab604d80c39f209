//! Kafka against a real broker: what was sent is what is seen, and what is not known is not
//! claimed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use greenlight::client::Clients;
use greenlight::client::kafka::{Mechanism, Sasl, Security};
use greenlight::client::tls;
use greenlight::confirm::{self, Confirmer, LookContext, Sought};
use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::journey::{Arrival, Event, Horizon, Receipt, Run, Stage};
use greenlight::outcome::{FaultCode, Outcome, Reading, ReasonCode};
use greenlight::probe::{self, Attempt, Probe};
use greenlight::send::{self, SendContext, Sender};
use greenlight::spec::Secret;
use greenlight::spec::trace::Trace;
use greenlight::time::{Mono, Now, Wall};
use serde_json::{Value, json};

use crate::peers::{Kafka, folder, free_port, kafka, own_kafka};
use crate::processor::{Act, Processor, Topics};

mod alone;
mod own;
mod sending;
mod stamps;

/// One run of events and what a test does with them.
struct Round {
    clients: Clients,
    run: Run,
    events: Vec<Event>,
    timeout: Duration,
}

impl Round {
    fn new(count: u64) -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("random bytes");
        let run = run_from(random);
        let events = Events::new(&EventSpec { count, ..EventSpec::default() }, Format::Json)
            .expect("a valid spec");
        let at = Wall::from_secs(1_790_000_000);
        let events = (0..count).map(|seq| events.render(&run, "main", seq, at)).collect();
        Self { clients: Clients::default(), run, events, timeout: Duration::from_secs(20) }
    }

    async fn send(&self, to: &send::kafka::Kafka, range: std::ops::Range<usize>) -> Vec<Receipt> {
        let trace = Trace::off();
        let on = SendContext { timeout: self.timeout, clients: &self.clients, trace: &trace };
        let receipts = to.send(&self.events[range.clone()], on).await;
        assert_eq!(receipts.len(), range.len(), "one receipt an event");
        receipts
    }

    fn sought(&self) -> Sought {
        Sought {
            journey: "j".into(),
            run: self.run.clone(),
            stage: Stage::Parsed,
            first_seq: 0,
            count: self.events.len() as u64,
            sent: self.events.len() as u64,
            equals: None,
            named: false,
            aged: Duration::ZERO,
            began: Now::default(),
        }
    }

    async fn begin(&self, at: &confirm::kafka::Kafka) -> Result<Value, greenlight::outcome::Fault> {
        let (sought, trace) = (self.sought(), Trace::off());
        at.begin(self.context(&sought, &trace)).await
    }

    async fn look(&self, at: &confirm::kafka::Kafka, mark: &mut Value) -> (Vec<Arrival>, Horizon) {
        let (sought, trace) = (self.sought(), Trace::off());
        let look = at.look(mark, self.context(&sought, &trace)).await;
        (look.arrivals, look.horizon)
    }

    fn context<'a>(&'a self, sought: &'a Sought, trace: &'a Trace) -> LookContext<'a> {
        LookContext {
            sought,
            timeout: self.timeout,
            clients: &self.clients,
            trace,
            now: Now::default(),
        }
    }

    /// Looks until so many copies were seen and a look was complete.
    async fn look_until(
        &self,
        at: &confirm::kafka::Kafka,
        mark: &mut Value,
        copies: usize,
    ) -> Vec<Arrival> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut all = Vec::new();
        loop {
            let (arrivals, horizon) = self.look(at, mark).await;
            all.extend(arrivals);
            if all.len() >= copies && horizon == Horizon::Complete {
                return all;
            }
            assert!(Instant::now() < deadline, "{} of {copies} copies, {horizon:?}", all.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn sender(brokers: &str, topic: &str) -> send::kafka::Kafka {
    secured_sender(brokers, topic, Security::default())
}

fn secured_sender(brokers: &str, topic: &str, security: Security) -> send::kafka::Kafka {
    let security = serde_json::to_value(security).expect("it is JSON");
    planned(json!({"brokers": brokers, "topic": topic, "security": security}))
}

/// A sender as a plan would make it.
fn planned(spec: Value) -> send::kafka::Kafka {
    send::kafka::Kafka::new(serde_json::from_value(spec).expect("a valid spec"))
        .expect("it is whole")
}

fn confirmer(brokers: &str, topic: &str, dead_letter: Option<&str>) -> confirm::kafka::Kafka {
    let spec = confirm::kafka::Spec {
        brokers: brokers.to_string(),
        topic: topic.to_string(),
        dead_letter: dead_letter.map(str::to_string),
        text: Some("message".to_string()),
        security: Security::default(),
    };
    confirm::kafka::Kafka::new(spec).expect("a valid spec")
}

fn seqs(arrivals: &[Arrival]) -> Vec<u64> {
    let mut seqs: Vec<u64> = arrivals.iter().filter_map(|arrival| arrival.seq).collect();
    seqs.sort_unstable();
    seqs
}

fn all_accepted(receipts: &[Receipt]) -> bool {
    receipts.iter().all(|receipt| matches!(receipt, Receipt::Accepted { .. }))
}

#[tokio::test]
async fn kafka_shows_exactly_what_was_sent_over_all_partitions() {
    let kafka = kafka();
    kafka.topic("exact", 3);
    let (to, at) = (sender(&kafka.brokers, "exact"), confirmer(&kafka.brokers, "exact", None));
    // Traffic that is none of ours, and another round's.
    let other = Round::new(50);
    assert!(all_accepted(&other.send(&to, 0..50).await));

    let round = Round::new(500);
    let mut mark = round.begin(&at).await.expect("the ends are known");
    let mut begun = mark.clone();
    assert!(all_accepted(&round.send(&to, 0..250).await));
    assert!(all_accepted(&other.send(&to, 0..50).await));
    let mut arrivals = round.look_until(&at, &mut mark, 250).await;
    assert!(all_accepted(&round.send(&to, 250..500).await));
    // As it would after a restart: the mark comes from the store, the clients are new.
    let mut mark: Value = serde_json::from_str(&mark.to_string()).expect("it is JSON");
    let again = Round { clients: Clients::default(), ..round };
    arrivals.extend(again.look_until(&at, &mut mark, 250).await);

    assert_eq!(seqs(&arrivals), (0..500).collect::<Vec<_>>());
    let copies: BTreeSet<&str> = arrivals.iter().map(|arrival| arrival.copy.as_str()).collect();
    assert_eq!(copies.len(), 500, "each copy has an id of its own");
    let mut scopes: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for arrival in &arrivals {
        let event = &again.events[arrival.seq.expect("an event") as usize];
        assert_eq!(arrival.text.as_deref(), Some(event.message.as_str()));
        let fields = arrival.fields.as_ref().expect("a JSON object");
        assert_eq!(fields["greenlight.seq"], json!(event.seq));
        assert!(!arrival.dead_letter && arrival.wrong.is_none());
        let (scope, place) = arrival.order.as_ref().expect("kafka orders");
        scopes.entry(scope).or_default().push((*place, event.seq));
    }
    assert_eq!(scopes.len(), 3, "every partition has its share: {:?}", scopes.keys());
    for places in scopes.values_mut() {
        places.sort_unstable();
        assert!(places.is_sorted_by_key(|(_, seq)| *seq), "in order within a partition");
    }
    let (more, horizon) = again.look(&at, &mut mark).await;
    assert_eq!((more.len(), horizon), (0, Horizon::Complete), "nothing is seen twice");
    // Where the text is not where the plan says, no event is right.
    let elsewhere = json!({"brokers": kafka.brokers, "topic": "exact", "text": "gone"});
    let elsewhere: confirm::kafka::Spec = serde_json::from_value(elsewhere).expect("a spec");
    let elsewhere = confirm::kafka::Kafka::new(elsewhere).expect("a valid spec");
    let arrivals = again.look_until(&elsewhere, &mut begun, 500).await;
    assert!(arrivals.iter().all(|arrival| arrival.text.is_none() && arrival.wrong.is_some()));
}

#[tokio::test]
async fn kafka_shows_what_a_processor_did_to_each_event() {
    let kafka = kafka();
    for topic in ["acts-raw", "acts-done", "acts-dead"] {
        kafka.topic(topic, 2);
    }
    let topics = Topics {
        from: "acts-raw".to_string(),
        to: "acts-done".to_string(),
        dead_letter: Some("acts-dead".to_string()),
    };
    let _processor = Processor::start(kafka, &topics, |seq| match seq {
        3 => Act::Lose,
        4 => Act::Repeat,
        5 => Act::DeadLetter,
        6 => Act::Swap,
        7 => Act::Mangle,
        8 => Act::Truncate,
        9 => Act::Delay(Duration::from_millis(500)),
        10 => Act::Misparse,
        _ => Act::Pass,
    });
    let round = Round::new(20);
    let at = confirmer(&kafka.brokers, "acts-done", Some("acts-dead"));
    let mut mark = round.begin(&at).await.expect("the ends are known");
    assert!(all_accepted(&round.send(&sender(&kafka.brokers, "acts-raw"), 0..20).await));
    // 20 less the lost one, and one twice.
    let arrivals = round.look_until(&at, &mut mark, 20).await;

    let expected: Vec<u64> = (0..20).filter(|seq| *seq != 3).chain([4]).collect();
    let mut expected = expected;
    expected.sort_unstable();
    assert_eq!(seqs(&arrivals), expected);
    let of = |seq: u64| arrivals.iter().filter(move |arrival| arrival.seq == Some(seq));
    assert_eq!(of(4).map(|arrival| &arrival.copy).collect::<BTreeSet<_>>().len(), 2);
    let dead: Vec<u64> = arrivals.iter().filter(|a| a.dead_letter).filter_map(|a| a.seq).collect();
    assert_eq!(dead, [5]);
    let place = |seq| of(seq).next().and_then(|a| a.order.clone()).expect("kafka orders");
    assert!(place(6).0 == place(8).0 && place(6).1 > place(8).1, "swapped with its next");
    let text = |seq| of(seq).next().and_then(|a| a.text.clone()).expect("there is a text");
    let sent = |seq: usize| round.events[seq].message.clone();
    // Its end is gone, the token with it: the fields say which it was.
    assert!(text(8).len() < sent(8).len() && sent(8).starts_with(&text(8)), "{}", text(8));
    assert!(text(7) != sent(7) && text(7).ends_with(&sent(7)[1..]), "{}", text(7));
    assert!(text(11) == sent(11));
    let owner = |seq| {
        of(seq).next().and_then(|a| a.fields.clone()).expect("fields")["enriched"]["asset"]["owner"]
            .clone()
    };
    assert_eq!((owner(10), owner(11)), (json!("nobody"), json!("soc-test")));
}

#[tokio::test]
async fn kafka_that_is_not_there_is_no_loss_and_blinds() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut round = Round::new(3);
    round.timeout = Duration::from_secs(5);
    for receipt in round.send(&sender(&nobody, "any"), 0..3).await {
        let Receipt::NotSent(reason) = receipt else { panic!("{receipt:?}") };
        assert_eq!(reason.code, ReasonCode::Refused, "{reason}");
    }
    let at = confirmer(&nobody, "any", None);
    let fault = round.begin(&at).await.expect_err("nothing can be asked");
    assert_eq!(fault.code, FaultCode::Blind, "{fault}");
    let mut mark = json!({"next": {"any": {"0": 7}}, "gone": []});
    let (arrivals, horizon) = round.look(&at, &mut mark).await;
    assert!(arrivals.is_empty() && matches!(horizon, Horizon::Blind(_)), "{horizon:?}");
    assert_eq!(mark["next"]["any"]["0"], 7, "the mark stays");
    let (_, horizon) = round.look(&at, &mut json!("nonsense")).await;
    assert!(matches!(&horizon, Horizon::Blind(f) if f.code == FaultCode::Garbled), "{horizon:?}");
}

#[tokio::test]
async fn kafka_that_advertises_an_address_where_nobody_listens_takes_nothing() {
    let kafka = kafka();
    kafka.topic("advertised", 2);
    // It answers, and sends its clients to a port where nobody is.
    let behind = format!("127.0.0.1:{}", kafka.behind);
    let mut round = Round::new(4);
    round.timeout = Duration::from_secs(6);
    for receipt in round.send(&sender(&behind, "advertised"), 0..4).await {
        let Receipt::NotSent(reason) = receipt else { panic!("{receipt:?}") };
        assert_eq!(reason.code, ReasonCode::Refused, "{reason}");
        assert!(reason.text.contains("leader of partition"), "{reason}");
        assert!(reason.text.contains(&kafka.front.to_string()), "it names the address: {reason}");
    }
    let fault = round.begin(&confirmer(&behind, "advertised", None)).await;
    assert!(fault.is_err(), "its ends can't be known");
}

#[tokio::test]
async fn kafka_topics_are_never_made() {
    let kafka = kafka();
    let round = Round::new(2);
    for receipt in round.send(&sender(&kafka.brokers, "never-made"), 0..2).await {
        let Receipt::NotSent(reason) = receipt else { panic!("{receipt:?}") };
        assert_eq!(reason.code, ReasonCode::NotFound, "{reason}");
    }
    let at = confirmer(&kafka.brokers, "never-made", None);
    let fault = round.begin(&at).await.expect_err("there is no such topic");
    assert!(fault.text.contains("not_found"), "{fault}");
    let reading = probe_once(&kafka.brokers, "never-made", Security::default()).await;
    assert_eq!(reason_of(&reading), Some(ReasonCode::NotFound), "{reading:?}");
    assert!(!kafka.topics().contains(&"never-made".to_string()));
}

#[tokio::test]
async fn kafka_refuses_what_is_too_large_and_takes_the_rest() {
    let kafka = kafka();
    kafka.topic("sizes", 1);
    let mut round = Round::new(3);
    // Kafka's own default is 1 MiB.
    round.events[1].payload = vec![b'x'; 3_000_000].into();
    let receipts = round.send(&sender(&kafka.brokers, "sizes"), 0..3).await;
    assert!(matches!(receipts[0], Receipt::Accepted { .. }), "{:?}", receipts[0]);
    assert!(
        matches!(&receipts[1], Receipt::Refused(reason) if reason.code == ReasonCode::TooLarge),
        "{:?}",
        receipts[1]
    );
    assert!(matches!(receipts[2], Receipt::Accepted { .. }), "{:?}", receipts[2]);
}

#[tokio::test]
async fn kafka_new_partitions_are_read_whole_and_old_ones_that_went_back_are_not_seen() {
    let kafka = kafka();
    kafka.topic("grown", 2);
    let round = Round::new(10);
    let at = confirmer(&kafka.brokers, "grown", None);
    let mark = round.begin(&at).await.expect("the ends are known");
    assert!(all_accepted(&round.send(&sender(&kafka.brokers, "grown"), 0..10).await));
    // As if partition 1 had been added after the round began.
    let mut grown = mark.clone();
    grown["next"]["grown"].as_object_mut().expect("partitions").remove("1");
    assert_eq!(round.look_until(&at, &mut grown, 10).await.len(), 10);
    // As if the topic had been made anew.
    let mut ahead = mark.clone();
    ahead["next"]["grown"]["0"] = json!(1_000);
    let (arrivals, horizon) = round.look(&at, &mut ahead).await;
    assert_eq!(arrivals.len(), 5, "the other partition is seen");
    assert!(matches!(horizon, Horizon::Partial(_)), "{horizon:?}");
}

/// Stands between a client and the broker. Once armed, it passes on the first request to produce
/// or swallows it, and lets no answer through from then on.
pub(crate) struct Between {
    pub(crate) armed: Arc<AtomicBool>,
    /// Whether the request is passed on.
    pub(crate) passes: Arc<AtomicBool>,
}

impl Between {
    pub(crate) fn start(kafka: &Kafka, pass_produce: bool) -> Self {
        let armed = Arc::new(AtomicBool::new(false));
        let passes = Arc::new(AtomicBool::new(pass_produce));
        let listener = TcpListener::bind(("127.0.0.1", kafka.front)).expect("the port is free");
        let (behind, shared, pass) = (kafka.behind, armed.clone(), passes.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let broker = TcpStream::connect(("127.0.0.1", behind)).expect("kafka is there");
                let cut = Arc::new(AtomicBool::new(false));
                let (armed, cut_too, pass) = (shared.clone(), cut.clone(), pass.clone());
                let (from, to) = (client.try_clone().expect("fd"), broker.try_clone().expect("fd"));
                thread::spawn(move || requests(from, to, &pass, &armed, &cut));
                thread::spawn(move || answers(broker, client, &cut_too));
            }
        });
        Self { armed, passes }
    }
}

fn requests(
    mut from: TcpStream,
    mut to: TcpStream,
    pass: &AtomicBool,
    armed: &AtomicBool,
    cut: &AtomicBool,
) {
    let mut size = [0; 4];
    while from.read_exact(&mut size).is_ok() {
        let mut body = vec![0; u32::from_be_bytes(size) as usize];
        if from.read_exact(&mut body).is_err() {
            break;
        }
        // Kafka protocol: the first two bytes of a request say which; 0 is Produce.
        if armed.load(Ordering::SeqCst) && body[..2] == [0, 0] {
            cut.store(true, Ordering::SeqCst);
        }
        if (!cut.load(Ordering::SeqCst) || pass.load(Ordering::SeqCst))
            && (to.write_all(&size).is_err() || to.write_all(&body).is_err())
        {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn answers(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 65536];
    while let Ok(some) = from.read(&mut buffer) {
        if some == 0 {
            break;
        }
        if !cut.load(Ordering::SeqCst) && to.write_all(&buffer[..some]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[tokio::test]
async fn kafka_acknowledgement_that_is_lost_is_unknown_whether_stored_or_not() {
    let kafka = own_kafka();
    let front = format!("127.0.0.1:{}", kafka.front);
    kafka.topic("unknown", 1);
    let at = confirmer(&kafka.brokers, "unknown", None);
    let between = Between::start(&kafka, true);
    let mut round = Round::new(6);
    round.timeout = Duration::from_secs(5);
    let to = sender(&front, "unknown");
    let mut mark = round.begin(&at).await.expect("the ends are known");
    assert!(all_accepted(&round.send(&to, 0..2).await), "the way through is open");
    between.armed.store(true, Ordering::SeqCst);
    for receipt in round.send(&to, 2..4).await {
        assert!(matches!(receipt, Receipt::Unknown(_)), "{receipt:?}");
    }
    // They were stored all the same, once.
    let arrivals = round.look_until(&at, &mut mark, 4).await;
    assert_eq!(seqs(&arrivals), [0, 1, 2, 3]);
    // The next batch finds its way with a new client, after the old one's fault has passed.
    between.armed.store(false, Ordering::SeqCst);
    assert!(all_accepted(&round.send(&to, 4..6).await));
    assert_eq!(seqs(&round.look_until(&at, &mut mark, 2).await), [4, 5]);
}

#[tokio::test]
async fn kafka_restart_in_the_middle_loses_repeats_and_reorders_nothing() {
    let kafka = Arc::new(own_kafka());
    kafka.topic("raw", 3);
    kafka.topic("done", 3);
    let topics = Topics { from: "raw".to_string(), to: "done".to_string(), dead_letter: None };
    let _processor = Processor::start(&kafka, &topics, |_| Act::Pass);
    let mut round = Round::new(10_000);
    round.timeout = Duration::from_secs(8);
    let to = sender(&kafka.brokers, "raw");
    let places = [confirmer(&kafka.brokers, "raw", None), confirmer(&kafka.brokers, "done", None)];
    let mut marks = Vec::new();
    for at in &places {
        marks.push(round.begin(at).await.expect("the ends are known"));
    }
    let mut seen: [Vec<Arrival>; 2] = [Vec::new(), Vec::new()];
    let mut receipts = Vec::new();
    let mut blind = 0;
    let mut killer: Option<thread::JoinHandle<()>> = None;
    while receipts.len() < 10_000 || killer.is_some() {
        let sent = receipts.len();
        if sent == 1_000 {
            let kafka = kafka.clone();
            killer = Some(thread::spawn(move || {
                thread::sleep(Duration::from_millis(40));
                kafka.kill();
            }));
        }
        // The batch in which it dies is a large one, so that it dies in its middle.
        let until = if sent == 1_000 { 9_000 } else { (sent + 100).min(10_000) };
        receipts.extend(round.send(&to, sent..until).await);
        for ((at, mark), seen) in places.iter().zip(&mut marks).zip(&mut seen) {
            let (arrivals, horizon) = round.look(at, mark).await;
            seen.extend(arrivals);
            blind += u32::from(horizon != Horizon::Complete);
        }
        // One batch more while it is away, then it comes back.
        if sent > 1_000
            && let Some(killer) = killer.take()
        {
            killer.join().expect("it was killed");
            kafka.start();
        }
    }
    let certain: BTreeSet<u64> = receipts
        .iter()
        .enumerate()
        .filter(|(_, receipt)| matches!(receipt, Receipt::Accepted { .. }))
        .map(|(seq, _)| seq as u64)
        .collect();
    let never: BTreeSet<u64> = receipts
        .iter()
        .enumerate()
        .filter(|(_, receipt)| matches!(receipt, Receipt::NotSent(_) | Receipt::Refused(_)))
        .map(|(seq, _)| seq as u64)
        .collect();
    let unknown = receipts.len() - certain.len() - never.len();
    eprintln!(
        "kafka restart: {} certain, {unknown} unknown, {} not sent, {blind} looks that did not see",
        certain.len(),
        never.len()
    );
    assert!(certain.len() >= 1_500 && blind > 0);
    assert!(never.len() >= 100, "while it was away nothing could be handed over");
    for ((at, mark), seen) in places.iter().zip(&mut marks).zip(&mut seen) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let missing = |seen: &[Arrival]| {
            let seen: BTreeSet<u64> = seen.iter().filter_map(|arrival| arrival.seq).collect();
            certain.difference(&seen).count()
        };
        while missing(seen) > 0 {
            assert!(Instant::now() < deadline, "{} events are missing", missing(seen));
            seen.extend(round.look(at, mark).await.0);
        }
        let copies: BTreeMap<&str, u64> = seen
            .iter()
            .map(|arrival| (arrival.copy.as_str(), arrival.seq.expect("an event")))
            .collect();
        let mut events: Vec<u64> = copies.values().copied().collect();
        events.sort_unstable();
        let once = events.windows(2).all(|two| two[0] != two[1]);
        assert!(once, "an event has two copies");
        assert!(events.iter().all(|seq| !never.contains(seq)), "it was certainly not sent");
        let mut scopes: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for arrival in seen.iter() {
            let (scope, place) = arrival.order.as_ref().expect("kafka orders");
            scopes.entry(scope).or_default().push((*place, arrival.seq.expect("an event")));
        }
        for places in scopes.values_mut() {
            places.sort_unstable();
            assert!(places.is_sorted_by_key(|(_, seq)| *seq), "reordered within a partition");
        }
    }
}

fn login(kafka: &Kafka, mechanism: Mechanism, password: &str) -> Security {
    let secret = folder("kafka-login").join("password");
    fs::write(&secret, format!("{password}\n")).expect("the folder can be written");
    Security {
        tls: Some(tls::Options { ca: Some(kafka.certificate.clone()), ..tls::Options::default() }),
        sasl: Some(Sasl {
            mechanism,
            username: Some("alice".to_string()),
            password: Some(Secret::file(secret.display().to_string())),
            token: None,
        }),
    }
}

fn by_token(kafka: &Kafka, token: &str) -> Security {
    let mut security = login(kafka, Mechanism::OauthBearer, token);
    if let Some(sasl) = &mut security.sasl {
        sasl.username = None;
        sasl.token = sasl.password.take();
    }
    security
}

async fn probe_once(brokers: &str, topic: &str, security: Security) -> Reading {
    let spec = probe::kafka::Spec { topic: topic.to_string(), security };
    let probe = probe::kafka::Kafka::new(spec).expect("a valid spec");
    let (clients, trace) = (Clients::default(), Trace::off());
    let target = brokers.into();
    let timeout = Duration::from_secs(10);
    Probe::attempt(&probe, Attempt { target: &target, timeout, clients: &clients, trace: &trace })
        .await
}

fn reason_of(reading: &Reading) -> Option<ReasonCode> {
    match &reading.outcome {
        Outcome::Failure(reason) => Some(reason.code),
        _ => None,
    }
}

#[tokio::test]
async fn kafka_probe_writes_to_each_partition_and_reads_back() {
    let kafka = kafka();
    kafka.topic("probe", 3);
    let began = Mono::now();
    for _ in 0..2 {
        let reading = probe_once(&kafka.brokers, "probe", Security::default()).await;
        assert_eq!(reading.outcome, Outcome::Success);
        for name in ["greenlight_kafka_produce_seconds", "greenlight_kafka_roundtrip_seconds"] {
            let values: Vec<f64> = reading
                .samples
                .iter()
                .filter(|sample| sample.metric.name == name)
                .map(|sample| sample.value)
                .collect();
            let most = Mono::now().since(began).as_secs_f64();
            assert_eq!(values.len(), 3, "one a partition");
            assert!(values.iter().all(|value| *value > 0.0 && *value < most), "{values:?}");
        }
    }
    let nobody = format!("127.0.0.1:{}", free_port());
    let reading = probe_once(&nobody, "probe", Security::default()).await;
    assert_eq!(reason_of(&reading), Some(ReasonCode::Refused), "{reading:?}");
    let reading = probe_once("no.such.name.invalid:9092", "probe", Security::default()).await;
    assert!(!matches!(reading.outcome, Outcome::Success), "{reading:?}");
}

#[tokio::test]
async fn kafka_logs_in_over_tls_and_says_why_where_it_may_not() {
    let kafka = kafka();
    kafka.topic("secured", 1);
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let security = login(kafka, mechanism, "alice-secret");
        let reading = probe_once(&kafka.secured, "secured", security).await;
        assert_eq!(reading.outcome, Outcome::Success, "{mechanism:?}");
        let to = secured_sender(&kafka.secured, "secured", login(kafka, mechanism, "alice-secret"));
        let receipts = Round::new(2).send(&to, 0..2).await;
        assert!(all_accepted(&receipts), "{mechanism:?}: {receipts:?}");
    }
    let reading =
        probe_once(&kafka.secured, "secured", login(kafka, Mechanism::ScramSha512, "wrong")).await;
    assert_eq!(reason_of(&reading), Some(ReasonCode::AuthFailed), "{reading:?}");

    let mut untrusted = login(kafka, Mechanism::Plain, "alice-secret");
    untrusted.tls = Some(tls::Options::default());
    let reading = probe_once(&kafka.secured, "secured", untrusted).await;
    assert_eq!(reason_of(&reading), Some(ReasonCode::CertificateInvalid), "{reading:?}");

    let round = Round::new(1);
    let security = login(kafka, Mechanism::Plain, "wrong");
    let receipts = round.send(&secured_sender(&kafka.secured, "secured", security), 0..1).await;
    assert!(
        matches!(&receipts[0], Receipt::NotSent(reason) if reason.code == ReasonCode::AuthFailed),
        "{receipts:?}"
    );
}
