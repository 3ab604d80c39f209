//! What a plan can say of sending, logins by token, quotas, and a broker that is paused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

/// A record as any other client sees it: partition, key, headers.
type Seen = (i32, Option<String>, BTreeMap<String, String>);

fn read(kafka: &Kafka, topic: &str, partitions: i32, count: usize) -> Vec<Seen> {
    let mut config = kafka.config();
    config.set("group.id", "test").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a valid configuration");
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&all).expect("it can be read");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", seen.len());
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let headers =
            headers.map(|h| (h.key.to_string(), text(h.value.unwrap_or_default()))).collect();
        seen.push((message.partition(), message.key().map(text), headers));
    }
    seen
}

#[tokio::test]
async fn kafka_records_carry_the_key_and_the_headers_of_the_plan_to_the_partitions_it_names() {
    let kafka = kafka();
    kafka.topic("placed", 4);
    let round = Round::new(6);
    let to = planned(json!({
        "brokers": kafka.brokers,
        "topic": "placed",
        "partitions": [1, 3],
        "key": "host-{seq}",
        "headers": {"source": "greenlight", "run": "{run}/{token}"},
    }));
    assert!(all_accepted(&round.send(&to, 0..6).await));
    for (partition, key, headers) in read(kafka, "placed", 4, 6) {
        let key = key.expect("a key");
        let seq: usize = key.strip_prefix("host-").expect("by the template").parse().expect("seq");
        assert_eq!(partition, if seq.is_multiple_of(2) { 1 } else { 3 });
        let token = round.events[seq].token.clone();
        let expected = [
            ("greenlight-id", token.clone()),
            ("run", format!("{}/{token}", &*round.run)),
            ("source", "greenlight".to_string()),
        ];
        let expected = expected.map(|(name, value)| (name.to_string(), value));
        assert_eq!(headers, BTreeMap::from(expected));
    }

    kafka.topic("keyless", 4);
    let to = planned(json!({
        "brokers": kafka.brokers, "topic": "keyless", "partitions": "auto", "key": "",
    }));
    assert!(all_accepted(&round.send(&to, 0..6).await));
    for (partition, key, _) in read(kafka, "keyless", 4, 6) {
        assert_eq!((partition, key), (0, None), "the first partition of the only leader");
    }

    let beyond = planned(json!({
        "brokers": kafka.brokers, "topic": "placed", "partitions": [0, 4],
    }));
    let receipts = round.send(&beyond, 0..2).await;
    assert!(matches!(receipts[0], Receipt::Accepted { .. }), "{receipts:?}");
    let Receipt::NotSent(reason) = &receipts[1] else { panic!("{receipts:?}") };
    assert_eq!(reason.code, ReasonCode::NotFound, "{reason}");
    assert!(reason.text.contains("no partition 4"), "{reason}");
}

#[tokio::test]
async fn kafka_takes_each_compression_and_each_kind_of_acknowledgement() {
    let kafka = kafka();
    kafka.topic("ways", 2);
    let round = Round::new(50);
    let at = confirmer(&kafka.brokers, "ways", None);
    let mut mark = round.begin(&at).await.expect("the ends are known");
    let mut sent = 0;
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for (acks, idempotence) in [("all", true), ("all", false), ("leader", false)] {
            let to = planned(json!({
                "brokers": kafka.brokers, "topic": "ways", "compression": compression,
                "acks": acks, "idempotence": idempotence,
            }));
            let receipts = round.send(&to, sent..sent + 3).await;
            assert!(all_accepted(&receipts), "{compression}, {acks}: {receipts:?}");
            sent += 3;
        }
    }
    let arrivals = round.look_until(&at, &mut mark, sent).await;
    assert_eq!(seqs(&arrivals), (0..sent as u64).collect::<Vec<_>>());
}

/// An unsecured JWS (RFC 7515, appendix A.5).
pub(super) fn jws(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.", part(&json!({"alg": "none"})), part(claims))
}

#[tokio::test]
async fn kafka_logs_in_by_a_token_that_is_read_anew() {
    let kafka = kafka();
    kafka.topic("by-token", 1);
    // Until the year 2096.
    let good = jws(&json!({"sub": "alice", "iat": 1_700_000_000, "exp": 4_000_000_000_u64}));
    let reading = probe_once(&kafka.secured, "by-token", by_token(kafka, &good)).await;
    assert_eq!(reading.outcome, Outcome::Success, "{reading:?}");

    let expired = jws(&json!({"sub": "alice", "iat": 1_600_000_000, "exp": 1_600_000_600}));
    let unnamed = jws(&json!({"iat": 1_700_000_000, "exp": 4_000_000_000_u64}));
    for bad in [expired, unnamed, "opaque".to_string()] {
        let mut round = Round::new(2);
        let security = by_token(kafka, &bad);
        let to = secured_sender(&kafka.secured, "by-token", security.clone());
        round.timeout = Duration::from_secs(10);
        for receipt in round.send(&to, 0..1).await {
            let Receipt::NotSent(reason) = receipt else { panic!("{bad}: {receipt:?}") };
            assert_eq!(reason.code, ReasonCode::AuthFailed, "{bad}: {reason}");
            assert!(!reason.text.contains(&bad), "a secret is never told: {reason}");
        }
        // Once a good one lies in the same place, the next batch finds it.
        let secret = security.sasl.and_then(|sasl| sasl.token).expect("a token");
        let place = serde_json::to_value(&secret).expect("it is JSON");
        fs::write(place["file"].as_str().expect("a file"), &good).expect("it can be written");
        round.timeout = Duration::from_secs(20);
        let receipts = round.send(&to, 1..2).await;
        assert!(all_accepted(&receipts), "{receipts:?}");
    }
}

/// Makes events longer without changing what they say.
fn padded(round: &mut Round, bytes: usize) {
    for event in &mut round.events {
        let mut payload = event.payload.to_vec();
        payload.resize(payload.len().max(bytes), b' ');
        event.payload = payload.into();
    }
}

#[tokio::test]
async fn kafka_quota_is_told_while_every_event_is_still_accounted_for() {
    let kafka = own_kafka();
    kafka.topic("quota", 1);
    // A quarter of a megabyte each, so ten of them exceed 100 kB a second over Kafka's window of
    // ten seconds (quota.window.num, quota.window.size.seconds).
    kafka.quota("greenlight", 100_000.0);
    let mut round = Round::new(10);
    padded(&mut round, 250_000);
    let to = sender(&kafka.brokers, "quota");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let trace = Trace::on();
        let timeout = Duration::from_secs(40);
        let on = SendContext { timeout, clients: &round.clients, trace: &trace };
        let receipts = to.send(&round.events, on).await;
        assert_eq!(receipts.len(), 10);
        assert!(all_accepted(&receipts), "held back, and no more than that: {receipts:?}");
        if trace.take().iter().any(|(_, note)| note.starts_with("throttled: ")) {
            assert!(round.clients.kafka().throttled() > Duration::ZERO, "and it is a metric");
            break;
        }
        assert!(Instant::now() < deadline, "no throttling was told");
    }
}

#[tokio::test]
async fn kafka_paused_in_the_middle_of_a_batch_never_claims_what_is_not_known() {
    let kafka = Arc::new(own_kafka());
    kafka.topic("paused", 3);
    let at = confirmer(&kafka.brokers, "paused", None);
    let mut round = Round::new(9_600);
    padded(&mut round, 4_000);
    let to = sender(&kafka.brokers, "paused");
    let mut mark = round.begin(&at).await.expect("the ends are known");
    let mut receipts = round.send(&to, 0..1_000).await;
    assert!(all_accepted(&receipts), "the way is open");
    let pauser = {
        let kafka = kafka.clone();
        thread::spawn(move || {
            let asker: BaseConsumer = kafka.config().create().expect("a valid configuration");
            let deadline = Instant::now() + Duration::from_secs(60);
            let end = |partition| {
                asker.fetch_watermarks("paused", partition, Duration::from_secs(5)).map(|w| w.1)
            };
            while !end(0).is_ok_and(|next| next > 400) {
                assert!(Instant::now() < deadline, "the batch did not begin");
            }
            kafka.pause(true);
        })
    };
    round.timeout = Duration::from_secs(8);
    receipts.extend(round.send(&to, 1_000..9_000).await);
    pauser.join().expect("it was paused");
    // A paused broker can't be asked for its topics: nothing is handed over to it.
    let paused = round.send(&to, 9_000..9_500).await;
    assert!(
        paused.iter().all(|receipt| matches!(receipt, Receipt::NotSent(_) | Receipt::Fault(_))),
        "{:?}",
        paused.first()
    );
    receipts.extend(paused);
    kafka.pause(false);
    round.timeout = Duration::from_secs(20);
    let deadline = Instant::now() + Duration::from_secs(120);
    while round.begin(&at).await.is_err() {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    // Its controller may put it aside for a moment, for the time that it was silent.
    for first in (9_500..9_600).step_by(10) {
        let more = round.send(&to, first..first + 10).await;
        let whole = all_accepted(&more);
        assert!(whole || first < 9_590, "it is not whole again: {:?}", more.first());
        receipts.extend(more);
        if whole {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let which = |wanted: fn(&Receipt) -> bool| -> BTreeSet<u64> {
        (0..).zip(&receipts).filter(|(_, one)| wanted(one)).map(|(seq, _)| seq).collect()
    };
    let accepted = which(|one| matches!(one, Receipt::Accepted { .. }));
    let unknown = which(|one| matches!(one, Receipt::Unknown(_)));
    let never =
        which(|one| matches!(one, Receipt::NotSent(_) | Receipt::Refused(_) | Receipt::Fault(_)));
    assert_eq!(accepted.len() + unknown.len() + never.len(), receipts.len());
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (arrivals, horizon) = round.look(&at, &mut mark).await;
        seen.extend(arrivals.into_iter().filter_map(|one| Some((one.copy, one.seq?))));
        let missing = accepted.iter().filter(|seq| !seen.values().any(|one| one == *seq)).count();
        if missing == 0 && horizon == Horizon::Complete {
            break;
        }
        assert!(Instant::now() < deadline, "{missing} accepted events are missing: {horizon:?}");
    }
    let events: BTreeSet<u64> = seen.values().copied().collect();
    eprintln!(
        "kafka paused: {} accepted, {} unknown of which {} were stored, {} not sent",
        accepted.len(),
        unknown.len(),
        unknown.intersection(&events).count(),
        never.len()
    );
    assert_eq!(events.len(), seen.len(), "no event has two copies");
    assert!(events.is_disjoint(&never), "it was certainly not sent");
    let begun = events.range(1_000..9_000).next().is_some();
    assert!(begun && !unknown.is_empty(), "it was paused in the middle of the batch");

    // Leaders that were asked for a word before the events were due are not asked again, unless a
    // connection told of trouble since: the pause before this one may still echo.
    let trace = Trace::off();
    for left in (0..5).rev() {
        round.timeout = Duration::from_secs(20);
        let on = SendContext { timeout: round.timeout, clients: &round.clients, trace: &trace };
        Sender::prepare(&to, on).await.expect("it is ready");
        kafka.pause(true);
        round.timeout = Duration::from_secs(3);
        let receipts = round.send(&to, 9_599..9_600).await;
        if matches!(receipts[..], [Receipt::Unknown(_)]) {
            break;
        }
        assert!(left > 0, "{receipts:?}");
        kafka.pause(false);
    }
    let receipts = round.send(&to, 9_599..9_600).await;
    assert!(matches!(receipts[..], [Receipt::NotSent(_) | Receipt::Fault(_)]), "{receipts:?}");
}
