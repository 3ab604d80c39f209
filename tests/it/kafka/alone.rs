//! Who writes and who reads are two clients: each fails alone, and is not taken for the other.

use super::*;

/// A way to see at the address of those who log in.
fn secured_confirmer(kafka: &Kafka, topic: &str, password: &str) -> confirm::kafka::Kafka {
    let spec = confirm::kafka::Spec {
        brokers: kafka.secured.clone(),
        topic: topic.to_string(),
        dead_letter: None,
        text: Some("message".to_string()),
        security: login(kafka, Mechanism::Plain, password),
    };
    confirm::kafka::Kafka::new(spec).expect("a valid spec")
}

#[tokio::test]
async fn kafka_reader_and_writer_each_fail_alone() {
    let kafka = kafka();
    kafka.topic("alone", 2);
    let writer = |password: &str| {
        secured_sender(&kafka.secured, "alone", login(kafka, Mechanism::Plain, password))
    };
    let (reads, blind) = (
        secured_confirmer(kafka, "alone", "alice-secret"),
        secured_confirmer(kafka, "alone", "wrong"),
    );
    let mut round = Round::new(40);
    let mut mark = round.begin(&reads).await.expect("the ends are known");

    // The reader is locked out: all is accepted, and what it can't see is not called absent.
    assert!(all_accepted(&round.send(&writer("alice-secret"), 0..20).await));
    let mut same = mark.clone();
    let (arrivals, horizon) = round.look(&blind, &mut same).await;
    assert!(arrivals.is_empty() && matches!(horizon, Horizon::Blind(_)), "{horizon:?}");
    assert_eq!(same, mark, "nothing was read");
    let seen = round.look_until(&reads, &mut mark, 20).await;
    assert_eq!(seqs(&seen), (0..20).collect::<Vec<_>>(), "once each");

    // The writer is locked out: nothing is sent, and the reader sees all that there is.
    round.timeout = Duration::from_secs(5);
    for receipt in round.send(&writer("wrong"), 20..40).await {
        assert!(matches!(&receipt, Receipt::NotSent(_)), "{receipt:?}");
    }
    round.timeout = Duration::from_secs(20);
    let (arrivals, horizon) = round.look(&reads, &mut mark).await;
    assert_eq!((arrivals, horizon), (Vec::new(), Horizon::Complete));
    assert!(all_accepted(&round.send(&writer("alice-secret"), 20..40).await));
    let seen = round.look_until(&reads, &mut mark, 20).await;
    assert_eq!(seqs(&seen), (20..40).collect::<Vec<_>>(), "once each");
}
