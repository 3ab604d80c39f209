//! ElastAlert 2 by the documents that it writes, in a real OpenSearch.

use greenlight::confirm::elastalert::ElastAlert;
use greenlight::journey::Horizon;

use super::*;
use crate::peers;

/// Two seconds after the round began.
const AFTER: &str = "2023-11-14T22:13:22.000000Z";
const BEFORE: &str = "2023-11-14T21:13:22.000000Z";
const RULE: &str = "ssh: too many (failures)";

fn raised(run: &str, change: impl Fn(&mut Value)) -> Value {
    let mut document = json!({
        "match_body": {
            "@timestamp": AFTER, "message": format!("Failed password [{}]", events(run, 1)[0].token),
            "source": {"ip": "192.0.2.10"}, "num_hits": 6, "num_matches": 1,
        },
        "rule_name": RULE, "alert_info": {"type": "alertmanager"}, "alert_sent": true,
        "alert_time": AFTER, "match_time": AFTER, "@timestamp": AFTER,
    });
    change(&mut document);
    document
}

async fn seen(index: &str, wanted: Value) -> (Look, String) {
    let url = &peers::opensearch().url;
    let spec = json!({"url": url, "index": index, "rule": RULE, "match": wanted});
    let mut watch = Watch::<ElastAlert>::new(spec, round(3));
    watch.timeout = PATIENCE;
    watch.begin().await.expect("it can begin");
    let look = watch.look().await;
    (look, watch.saw().to_owned())
}

#[tokio::test]
async fn elastalert_shows_its_alerts_and_says_why_there_is_none() {
    let peer = tokio::task::spawn_blocking(peers::opensearch).await.expect("it starts");
    let index = unique("elastalert");
    let (look, saw) = seen(&index, json!({})).await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 0));
    assert!(saw.contains(&format!("there is no index {index}")), "{saw}");

    // Others' alerts, and an older one that names nobody.
    let aggregate = |document: &mut Value| document["aggregate_id"] = "elsewhere".into();
    let nameless = |document: &mut Value| document["match_body"]["message"] = "six failures".into();
    let old = |document: &mut Value| {
        nameless(document);
        document["alert_time"] = BEFORE.into();
    };
    peer.index(
        &index,
        &[
            raised(OTHER, |_| {}),
            raised(OTHER, aggregate),
            raised(RUN, |document| document["rule_name"] = "ssh too many failures".into()),
            raised(RUN, old),
        ],
    );
    let (look, saw) = seen(&index, json!({})).await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 0), "{:?}", look.horizon);
    assert!(saw.contains("whether the rule ran") || saw.contains("did not run"), "{saw}");

    // What explains it: each is of the rule and of the time of the round.
    let run = |at: &str, rule: &str, hits| json!({"rule_name": rule, "@timestamp": at, "hits": hits, "matches": 0});
    let status = format!("{index}_status");
    peer.index(&status, &[run(BEFORE, RULE, 100), run(AFTER, "another", 200)]);
    assert!(seen(&index, json!({})).await.1.contains("did not run since"), "a rule that is off");
    peer.index(&status, &[run(AFTER, RULE, 7), run(AFTER, RULE, 4)]);
    let said = seen(&index, json!({})).await.1;
    assert!(said.contains("ran 2 times, over 11 hits with 0 matches"), "{said}");
    let silence =
        |rule: &str, until: &str| json!({"rule_name": rule, "until": until, "@timestamp": BEFORE});
    peer.index(
        &format!("{index}_silence"),
        &[silence(RULE, BEFORE), silence(&format!("{RULE} also"), AFTER)],
    );
    assert!(!seen(&index, json!({})).await.1.contains("silenced"), "over, or another's");
    peer.index(&format!("{index}_silence"), &[silence(&format!("{RULE}.192.0.2.10"), AFTER)]);
    let error =
        json!({"message": "no mapping for [user]", "data": {"rule": RULE}, "@timestamp": AFTER});
    peer.index(&format!("{index}_error"), &[error]);
    let said = seen(&index, json!({})).await.1;
    assert!(said.contains("is silenced until 2023-11-14T22:13:22"), "{said}");
    assert!(said.contains("ElastAlert says: no mapping for [user]"), "{said}");

    // One that is ours by its token, one by its time, and one that could not be sent.
    peer.index(&index, &[raised(RUN, |_| {})]);
    let (look, _) = seen(&index, json!({})).await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1));
    let fields = look.arrivals[0].fields.as_ref().expect("fields");
    assert_eq!((&fields["name"], &look.arrivals[0].wrong), (&json!(RULE), &None));
    assert_eq!(fields["match_body"]["source"]["ip"], "192.0.2.10");
    let by = |field: &str, value: &str| json!({field: value});
    assert_eq!(seen(&index, by("source.ip", "192.0.2.10")).await.0.arrivals.len(), 1);
    assert_eq!(seen(&index, by("source.ip", "192.0.2.11")).await.0.arrivals.len(), 0);
    assert_eq!(seen(&index, by("alert_info.type", "alertmanager")).await.0.arrivals.len(), 1);
    peer.index(&index, &[raised(RUN, nameless)]);
    assert_eq!(seen(&index, json!({})).await.0.arrivals.len(), 2, "two alerts are two");

    let sent_not = |said: Value| {
        move |document: &mut Value| {
            document["alert_sent"] = false.into();
            document["alert_exception"] = said.clone();
        }
    };
    for (said, shown) in [
        (json!("Error posting to Alertmanager: 500"), "could not be sent: Error posting"),
        (Value::Null, "is not sent yet, but with others at 2023"),
    ] {
        let index = unique("elastalert");
        peer.index(&index, &[raised(RUN, sent_not(said))]);
        let (look, _) = seen(&index, json!({})).await;
        let wrong = look.arrivals[0].wrong.as_ref().expect("nobody hears of it");
        assert!(wrong.text.contains(shown), "{wrong}");
    }

    // Sent together, it is one alert, and ours also where another round's event leads it.
    let index = unique("elastalert");
    peer.index(&index, &[raised(OTHER, |_| {})]);
    let found = peers::get(&peer.at(&format!("{index}/_search"))).expect("it answers").1;
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let leader = found["hits"]["hits"][0]["_id"].clone();
    let follows = |document: &mut Value| document["aggregate_id"] = leader.clone();
    peer.index(&index, &[raised(RUN, follows), raised(RUN, follows)]);
    let (look, _) = seen(&index, json!({})).await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1));
    assert_eq!(look.arrivals[0].copy, leader.as_str().expect("an id"));
    assert_eq!(look.arrivals[0].wrong, None);

    // An index that can't be searched is not an empty one.
    for act in [Act::status(503), Act::status(401), Act::Reset, Act::json("{}")] {
        let server = scripted(vec![act]).await;
        let spec = json!({"url": server.url("/"), "rule": RULE});
        let seen = super::look::<ElastAlert>(spec, round(3)).await;
        assert!(matches!(seen.horizon, Horizon::Blind(_)), "{:?}", seen.horizon);
    }
}
