//! AMQP against a real RabbitMQ.

use greenlight::journey::event::Format;
use greenlight::send::amqp::Amqp;
use serde_json::{Value, json};

use super::{TIMEOUT, all, events, path, sent, word};
use crate::peers::{folder, free_port, rabbitmq};

#[tokio::test]
async fn senders_amqp_is_confirmed_by_rabbitmq_and_what_has_no_queue_comes_back() {
    let rabbitmq = rabbitmq();
    let secret = |word: &str| {
        let file = folder("amqp").join("password");
        std::fs::write(&file, word).expect("the folder can be written");
        json!({"file": path(&file)})
    };
    let spec = |user: &str, exchange: &str, key: &str| {
        json!({"to": format!("amqp://127.0.0.1:{}", rabbitmq.port), "exchange": exchange,
               "routing_key": key,
               "login": {"username": user, "password": secret(&format!("{user}-secret"))}})
    };
    let many = events(Format::Json, 300, "{token}");
    all(&sent::<Amqp>(spec("alice", "events", "in"), &many, TIMEOUT).await, "accepted");
    let taken = rabbitmq.take("events");
    assert_eq!(taken.len(), many.len());
    for (message, event) in taken.iter().zip(&many) {
        assert_eq!(message["payload"].as_str().map(str::as_bytes), Some(&event.payload[..]));
        let properties = &message["properties"];
        assert_eq!(properties["headers"]["greenlight-id"], Value::from(event.token.as_str()));
        assert_eq!(properties["message_id"], Value::from(event.token.as_str()));
        assert_eq!(properties["delivery_mode"], 2, "persistent");
        assert_eq!(properties["content_type"], "application/json");
    }

    let few = &many[..3];
    // No queue is bound with that key, or at all.
    for (exchange, key) in [("events", "elsewhere"), ("loose", "in"), ("", "no-such-queue")] {
        let receipts = sent::<Amqp>(spec("alice", exchange, key), few, TIMEOUT).await;
        all(&receipts, "refused: rejected");
        assert!(format!("{receipts:?}").contains("312"), "{receipts:?}");
    }
    let receipts = sent::<Amqp>(spec("alice", "missing", "in"), few, TIMEOUT).await;
    all(&receipts, "not sent: not_found");
    // The default exchange routes by the queue's name; it holds two and refuses the next.
    let words: Vec<String> =
        sent::<Amqp>(spec("alice", "", "small"), few, TIMEOUT).await.iter().map(word).collect();
    assert_eq!(words, ["accepted", "accepted", "refused: broker_error"]);

    let receipts = sent::<Amqp>(spec("bob", "events", "in"), few, TIMEOUT).await;
    assert!(
        receipts.iter().all(|receipt| word(receipt).ends_with(": auth_failed")),
        "{receipts:?}"
    );
    let mut wrong = spec("alice", "events", "in");
    wrong["login"]["password"] = secret("wrong");
    let receipts = sent::<Amqp>(wrong, few, TIMEOUT).await;
    all(&receipts, "not sent: auth_failed");
    assert!(!format!("{receipts:?}").contains("wrong"), "{receipts:?}");
    let mut elsewhere = spec("alice", "events", "in");
    elsewhere["vhost"] = json!("/other");
    let receipts = sent::<Amqp>(elsewhere, few, TIMEOUT).await;
    all(&receipts, "not sent: auth_failed");
    assert_eq!(rabbitmq.take("events").len(), 0, "nothing of that was taken");

    // A frame of 128 KiB is the most that it takes: larger bodies go in several.
    let mut large = events(Format::Json, 2, "{token}");
    large[1].payload = vec![b'x'; 1_000_000].into();
    all(&sent::<Amqp>(spec("alice", "events", "in"), &large, TIMEOUT).await, "accepted");
    let taken = rabbitmq.take("events");
    assert_eq!(taken[1]["payload"].as_str().map(str::len), Some(1_000_000));

    let mut nobody = spec("alice", "events", "in");
    nobody["to"] = json!(format!("amqp://127.0.0.1:{}", free_port()));
    all(&sent::<Amqp>(nobody, few, TIMEOUT).await, "not sent: refused");
}
