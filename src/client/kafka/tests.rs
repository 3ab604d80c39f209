use super::*;

#[test]
fn addresses_and_topics_are_checked_before_anything_is_asked() {
    for good in ["b:9092", "10.0.0.1:9092,b-2.example:19092", "[::1]:9092"] {
        assert_eq!(check_brokers(good), Ok(()), "{good}");
    }
    for bad in ["", "b", "b:", ":9092", "b:0", "b:99999", "b:9092, c:9092", "b:9092,"] {
        assert!(check_brokers(bad).is_err(), "{bad}");
    }
    for good in ["raw", "a.b_c-D9"] {
        assert_eq!(check_topic(good), Ok(()), "{good}");
    }
    for bad in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
        assert!(check_topic(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_cluster_is_named_without_its_secret() {
    let sasl = Sasl {
        mechanism: Mechanism::ScramSha512,
        username: Some("alice".to_string()),
        password: Some(Secret::env("GREENLIGHT_TEST_PASSWORD")),
        token: None,
    };
    let security = Security { tls: None, sasl: Some(sasl) };
    let cluster = Cluster::new("b:9092", &security).expect("it is whole");
    assert!(cluster.id.contains("GREENLIGHT_TEST_PASSWORD"), "the reference tells it apart");
    assert_ne!(cluster.id, Cluster::new("b:9092", &Security::default()).expect("whole").id);
    assert_eq!(cluster.to_string(), "kafka at b:9092");

    let tls = tls::Options { server_name: Some("other".into()), ..tls::Options::default() };
    let security = Security { tls: Some(tls), sasl: None };
    assert!(Cluster::new("b:9092", &security).is_err_and(|text| text.contains("server_name")));
}

#[tokio::test]
async fn an_unset_secret_is_our_fault_and_is_said_before_anything_is_sent() {
    let by_name = Sasl {
        mechanism: Mechanism::Plain,
        username: Some("alice".to_string()),
        password: Some(Secret::env("GREENLIGHT_TEST_UNSET")),
        token: None,
    };
    let by_token = Sasl {
        mechanism: Mechanism::OauthBearer,
        username: None,
        password: None,
        token: Some(Secret::env("GREENLIGHT_TEST_UNSET")),
    };
    for sasl in [by_name, by_token] {
        let security = Security { tls: None, sasl: Some(sasl) };
        let cluster = Cluster::new("127.0.0.1:9", &security).expect("it is whole");
        let kafka = Kafka::default();
        let batch = Batch { topic: "t".to_string(), records: Vec::new() };
        let sent = kafka.produce(&cluster, batch, Duration::from_secs(5)).await;
        assert!(
            matches!(&sent, Err(Trouble::Fault(fault)) if fault.code == FaultCode::Unreadable),
            "{sent:?}"
        );
    }
}

#[tokio::test]
async fn lanes_are_bounded() {
    let kafka = Kafka::default();
    let cluster = Cluster::new("127.0.0.1:9", &Security::default()).expect("it is whole");
    for n in 0..LANES_LIMIT {
        let topic: Arc<str> = format!("t{n}").into();
        let key = Key { cluster: cluster.id.clone(), topic: Some(topic) };
        assert!(kafka.lane(&key, &cluster).is_ok());
        assert!(kafka.lane(&key, &cluster).is_ok(), "the same again is the same lane");
    }
    let key = Key { cluster: cluster.id.clone(), topic: None };
    let refused = kafka.lane(&key, &cluster).err().map(|fault| fault.code);
    assert_eq!(refused, Some(FaultCode::Exhausted));
}

#[tokio::test]
async fn a_lane_that_nobody_uses_is_closed_and_one_in_use_is_not() {
    let kafka = Kafka::default();
    let cluster = Cluster::new("127.0.0.1:9", &Security::default()).expect("it is whole");
    let key = Key { cluster: cluster.id.clone(), topic: None };
    let lane = Arc::downgrade(&kafka.lane(&key, &cluster).expect("there is room"));
    let now = Mono::now();
    assert!(!kafka.pool.close_idle(&key, now));
    assert!(lane.upgrade().is_some());
    assert!(kafka.pool.close_idle(&key, now.plus(IDLE * 2)));
    assert!(lane.upgrade().is_none());
    assert!(kafka.pool.close_idle(&key, now), "what is gone is gone");
}
