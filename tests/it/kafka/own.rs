//! Topics of Greenlight's own: made where the plan says so, deleted by who made them, and what is
//! somebody else's never touched.

use greenlight::send::AnySender;

use super::*;
use crate::command::{code, err, folder_with, greenlight};

fn owner(kafka: &Kafka, topic: &str) -> send::kafka::Kafka {
    planned(json!({
        "brokers": kafka.brokers,
        "topic": topic,
        "create": { "partitions": 3, "retention": "10m" },
    }))
}

async fn prepared(to: &send::kafka::Kafka, round: &Round) {
    let trace = Trace::off();
    let on = SendContext { timeout: round.timeout, clients: &round.clients, trace: &trace };
    Sender::prepare(to, on).await.expect("it is ready");
}

async fn cleared(to: &send::kafka::Kafka, round: &Round) {
    let trace = Trace::off();
    let on = SendContext { timeout: round.timeout, clients: &round.clients, trace: &trace };
    Sender::clear_away(to, on).await.expect("it is cleared away");
}

/// By the broker's own words, which are no secret.
fn assert_refused(receipts: &[Receipt], secret: &str) {
    let [Receipt::NotSent(reason)] = receipts else { panic!("{receipts:?}") };
    assert_eq!(reason.code, ReasonCode::AuthFailed, "{reason}");
    assert!(reason.text.contains("SASL"), "it says what was refused: {reason}");
    assert!(!reason.text.contains(secret), "a secret is never told: {reason}");
}

#[tokio::test]
async fn kafka_topic_of_our_own_is_not_made_by_who_has_a_wrong_password() {
    let kafka = kafka();
    let to: send::kafka::Kafka = planned(json!({
        "brokers": kafka.secured,
        "topic": "own-by-nobody",
        "create": {},
        "security": login(kafka, Mechanism::ScramSha256, "no-such-word"),
    }));
    let round = Round::new(1);
    let began = Instant::now();
    prepared(&to, &round).await;
    assert_refused(&round.send(&to, 0..1).await, "no-such-word");
    assert!(began.elapsed() < round.timeout, "a refusal is not waited out");
    assert!(!kafka.topics().iter().any(|name| name == "own-by-nobody"));
}

/// A topic that is deleted is still told for a moment.
async fn until_gone(kafka: &Kafka, topic: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while kafka.topics().iter().any(|name| name == topic) {
        assert!(Instant::now() < deadline, "{topic} is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn kafka_topic_of_our_own_lives_as_long_as_somebody_uses_it() {
    let kafka = kafka();
    let round = Round::new(9);
    let (one, two) = (owner(kafka, "own"), owner(kafka, "own"));
    let at = confirmer(&kafka.brokers, "own", None);
    assert!(round.begin(&at).await.is_err(), "it is not there yet");
    prepared(&one, &round).await;
    prepared(&two, &round).await;
    prepared(&two, &round).await;
    // It is there for who looks first.
    let mut mark = round.begin(&at).await.expect("the ends are known");
    assert!(all_accepted(&round.send(&one, 0..9).await));
    let arrivals = round.look_until(&at, &mut mark, 9).await;
    let scopes: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.order.clone()).collect();
    let partitions: BTreeSet<_> = scopes.iter().flatten().map(|(scope, _)| scope).collect();
    assert_eq!(partitions.len(), 3, "{partitions:?}");

    cleared(&one, &round).await;
    assert!(kafka.topics().iter().any(|name| name == "own"), "the other one uses it");
    cleared(&two, &round).await;
    until_gone(kafka, "own").await;
    // Once more is nothing.
    cleared(&two, &round).await;
    let effects = AnySender::effects(&one, 9);
    assert!(effects[0].what.contains("makes topic own"), "{effects:?}");
}

#[tokio::test]
async fn kafka_topic_of_our_own_is_made_and_deleted_by_who_logs_in_by_a_token() {
    let kafka = kafka();
    let round = Round::new(3);
    let of = |token: &str| {
        planned(json!({
            "brokers": kafka.secured,
            "topic": "own-by-token",
            "create": {},
            "security": by_token(kafka, token),
        }))
    };
    // Who is not let in makes nothing, and each event says why it was not taken.
    let opaque = of("opaque");
    prepared(&opaque, &round).await;
    assert_refused(&round.send(&opaque, 0..1).await, "opaque");
    cleared(&opaque, &round).await;
    let to = of(&sending::jws(&json!({
        "sub": "alice", "iat": 1_700_000_000, "exp": 4_000_000_000_u64,
    })));
    prepared(&to, &round).await;
    assert!(kafka.topics().iter().any(|name| name == "own-by-token"));
    assert!(all_accepted(&round.send(&to, 0..3).await));
    cleared(&to, &round).await;
    until_gone(kafka, "own-by-token").await;
}

#[tokio::test]
async fn kafka_topic_of_others_is_used_and_never_deleted() {
    let kafka = kafka();
    kafka.topic("others", 2);
    let round = Round::new(4);
    let to = owner(kafka, "others");
    prepared(&to, &round).await;
    assert!(all_accepted(&round.send(&to, 0..4).await));
    cleared(&to, &round).await;
    assert!(kafka.topics().iter().any(|name| name == "others"));
    // Nor is what nobody prepared.
    cleared(&owner(kafka, "others"), &round).await;
    assert!(kafka.topics().iter().any(|name| name == "others"));
}

#[tokio::test]
async fn kafka_topic_of_our_own_is_gone_after_one_round() {
    let kafka = kafka();
    let (_folder, plan) = folder_with(&format!(
        "journeys:\n  - id: own\n    send: {{ kafka: {{ brokers: '{0}', topic: own-once, create: {{ }} }} }}\n    \
         stages:\n      - parsed: {{ kafka: {{ brokers: '{0}', topic: own-once, text: message }}, \
         within: 20s, poll: 200ms }}\n",
        kafka.brokers
    ));
    let output =
        tokio::task::spawn_blocking(move || greenlight(&["once", "own", "-c", &plan])).await;
    let output = output.expect("it ends");
    assert_eq!(code(&output), 0, "{}", err(&output));
    until_gone(kafka, "own-once").await;
}
