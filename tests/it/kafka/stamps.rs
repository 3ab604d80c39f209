//! What a broker stamps by its own clock, and what its clock is off by then.

use std::time::{SystemTime, UNIX_EPOCH};

use greenlight::journey::offset::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::*;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

#[tokio::test]
async fn kafka_brokers_clock_is_bounded_where_it_stamps() {
    let kafka = kafka();
    let admin: AdminClient<DefaultClientContext> =
        kafka.config().create().expect("a valid configuration");
    for (name, kind) in [("stamped", "LogAppendTime"), ("unstamped", "CreateTime")] {
        let topic =
            NewTopic::new(name, 2, TopicReplication::Fixed(1)).set("message.timestamp.type", kind);
        let made = admin.create_topics([&topic], &AdminOptions::new()).await;
        assert!(made.expect("kafka answers").iter().all(Result::is_ok), "{name}");
    }
    for (name, stamps) in [("stamped", true), ("unstamped", false)] {
        let (to, at) = (sender(&kafka.brokers, name), confirmer(&kafka.brokers, name, None));
        let round = Round::new(50);
        // A topic that was just made has no leader yet.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut mark = loop {
            match round.begin(&at).await {
                Ok(mark) => break mark,
                Err(fault) => assert!(Instant::now() < deadline, "{fault}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let (sent, began) = (now(), Mono::now());
        assert!(all_accepted(&round.send(&to, 0..50).await), "{name}");
        let seen = round.look_until(&at, &mut mark, 50).await;
        let bounds = seen.iter().filter_map(|arrival| {
            let after = arrival.seen.0 - began.0;
            Some(Offset::of(arrival.stamped?, sent, sent + after))
        });
        let bounds = bounds.reduce(Offset::and);
        assert_eq!(bounds.map(|bounds| bounds.events), stamps.then_some(50), "{name}");
        let Some(bounds) = bounds else { continue };
        // It is this machine's clock: it is not off.
        assert!(bounds.fits() && bounds.lower <= 0 && 0 <= bounds.upper, "{bounds:?}");
        eprintln!(
            "a broker's clock is off by {} to {} ms",
            bounds.lower / 1_000_000,
            bounds.upper / 1_000_000
        );
    }
}
