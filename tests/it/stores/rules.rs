//! What the rules behind alerts say of themselves, engine by engine, by answers that are whole, broken
//! and mutated; and what follows from them.

use std::sync::atomic::{AtomicU64, Ordering};

use greenlight::client::Clients;
use greenlight::client::http::Api;
use greenlight::client::rules::{Engine, Place, rule, rules};
use greenlight::client::tls;
use greenlight::journey::rule::{Followed, Means, Memory, Rule, Terms, Throttle};
use greenlight::spec::trace::Trace;
use greenlight::time::Wall;
use proptest::prelude::*;

use super::answers::recorded;
use super::*;

const RULE: &str = "SSH brute force";
/// As long after the round began as the fixtures' engines ran last.
const NOW: Wall = Wall(1_700_000_005_000_000_000);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn listed(engine: Engine, acts: Vec<Act>) -> Result<(Vec<Rule>, bool), String> {
    let server = scripted(acts).await;
    let api = Api::new(&server.url("/"), None, tls::Options::default()).expect("a URL");
    let (clients, trace) = (Clients::default(), Trace::off());
    clients.keep_time(|| NOW);
    let answer = rules(engine, "elastalert_status", None, &api, &clients, PATIENCE, &trace).await;
    answer.map(|answer| (answer.rows, answer.lacking.is_some())).map_err(|why| why.to_string())
}

/// One rule by its name, and what was asked for.
async fn read(engine: Engine, name: &str, acts: Vec<Act>) -> (Result<Rule, String>, Server) {
    let server = scripted(acts).await;
    let api = Api::new(&server.url("/"), None, tls::Options::default()).expect("a URL");
    let (clients, trace) = (Clients::default(), Trace::off());
    clients.keep_time(|| NOW);
    let place = Place::new(engine, api, name);
    let read = rule(&place, &clients, PATIENCE, &trace).await;
    (read.map_err(|fault| fault.to_string()), server)
}

fn follow(rule: &Rule) -> Followed {
    let terms = Terms { arrival: secs(20), run: secs(30), at_most: secs(7_200) };
    rule.follow(&terms, &Memory::default(), NOW)
}

fn json_of(name: &str) -> Act {
    Act::json(recorded(name))
}

fn none() -> Act {
    Act::json(r#"{"alerts":[]}"#)
}

/// A whole answer of each engine for one rule.
fn whole(engine: Engine) -> Vec<String> {
    let silent = r#"{"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"total":{"value":0,"relation":"eq"},"hits":[]}}"#;
    let none = r#"{"alerts":[]}"#;
    match engine {
        Engine::Prometheus => vec![recorded("prometheus-rules.json")],
        Engine::Grafana => {
            vec![recorded("grafana-alert-rules.json"), recorded("grafana-rules.json")]
        }
        Engine::OpensearchAlerting => vec![
            recorded("opensearch-monitors.json"),
            recorded("opensearch-alerting-stats.json"),
            none.into(),
            none.into(),
        ],
        Engine::ElasticSecurity => vec![recorded("elastic-rules.json")],
        Engine::Splunk => vec![recorded("splunk-saved-searches.json")],
        Engine::Elastalert => vec![recorded("elastalert-status.json"), silent.into()],
    }
}

fn acts(engine: Engine) -> Vec<Act> {
    whole(engine).into_iter().map(Act::json).collect()
}

const fn name_at(engine: Engine) -> &'static str {
    match engine {
        Engine::OpensearchAlerting => "ssh-logins",
        _ => RULE,
    }
}

#[tokio::test]
async fn a_rule_of_each_engine_says_when_its_alert_is_due() {
    for (engine, every, look_back, delay, holds, due) in [
        (Engine::Prometheus, 15, None, 0, 60, 20 + 15 + 60 + 30),
        (Engine::Grafana, 60, Some(660), 60, 300, 20 + 60 + 60 + 300 + 30),
        (Engine::OpensearchAlerting, 60, Some(600), 0, 0, 20 + 60 + 30),
        (Engine::ElasticSecurity, 300, Some(360), 0, 0, 20 + 300 + 30),
        (Engine::Splunk, 420, Some(900), 60, 0, 20 + 60 + 420 + 30),
    ] {
        let (read, _) = read(engine, name_at(engine), acts(engine)).await;
        let mut read = read.unwrap_or_else(|why| panic!("{engine:?}: {why}"));
        let said = (read.every, read.look_back, read.delay, read.holds, read.enabled);
        let expected = (Some(secs(every)), look_back.map(secs), secs(delay), secs(holds), true);
        assert_eq!(said, expected, "{engine:?}");
        // Splunk's is suppressed field by field, and what was before is not known here.
        read.throttle = None;
        let followed = follow(&read);
        assert_eq!((followed.means, followed.within), (Means::Due, secs(due)), "{engine:?}");
    }
    // By its last runs: 65.5 s between two of them, and it never looked back less than 15 min.
    let (read, _) = read(Engine::Elastalert, RULE, acts(Engine::Elastalert)).await;
    let read = read.expect("it ran");
    assert_eq!(
        (read.every, read.look_back),
        (Some(Duration::from_millis(65_500)), Some(secs(900)))
    );
    assert_eq!(follow(&read).means, Means::Due);
}

#[tokio::test]
async fn rules_that_are_off_throttled_or_hold_are_told() {
    let opensearch = |errors: Act, active: Act| {
        vec![
            json_of("opensearch-monitors.json"),
            json_of("opensearch-alerting-stats.json"),
            errors,
            active,
        ]
    };
    let engine = Engine::OpensearchAlerting;
    let monitor = read(engine, "ssh-logins", opensearch(none(), none())).await.0.expect("read");
    assert_eq!(monitor.throttle, Some(Throttle { lasts: secs(1_800), by: Vec::new() }));
    assert!(monitor.tells_held && monitor.held.is_none());
    let active = json_of("opensearch-alerts.json");
    let held = read(engine, "ssh-logins", opensearch(none(), active)).await.0.expect("read");
    let followed = follow(&held);
    assert_eq!(followed.means, Means::Unsure);
    assert!(followed.text.contains("is active since 2023-11-14T22:13:22.000Z"), "{followed:?}");
    let old = read(engine, "old", opensearch(none(), none())).await.0.expect("read");
    assert_eq!((old.every, old.schedule.as_deref()), (Some(secs(7_200)), Some("0 */2 * * *")));
    assert_eq!(follow(&old).means, Means::Off);

    let (elastic, server) =
        read(Engine::ElasticSecurity, "Another", acts(Engine::ElasticSecurity)).await;
    let throttle = Throttle { lasts: secs(18_000), by: vec!["user.name".into()] };
    assert_eq!(elastic.expect("read").throttle, Some(throttle));
    let target = &server.seen()[0].path;
    assert!(target.contains("filter=alert.attributes.name%3A+%22Another%22"), "{target}");

    let splunk = |name: &'static str| read(Engine::Splunk, name, acts(Engine::Splunk));
    let (found, server) = splunk(RULE).await;
    let throttle = Throttle { lasts: secs(3_600), by: vec!["src_ip".into(), "user".into()] };
    assert_eq!(found.expect("read").throttle, Some(throttle));
    let target = &server.seen()[0].path;
    assert!(target.starts_with("/servicesNS/-/-/saved/searches/SSH%20brute%20force?"), "{target}");
    assert_eq!(follow(&splunk("Off").await.0.expect("read")).means, Means::Off);
    let at_once = splunk("Real time").await.0.expect("read");
    assert_eq!((at_once.every, at_once.look_back), (Some(secs(0)), Some(secs(300))));

    let paused = read(Engine::Grafana, "Paused", acts(Engine::Grafana)).await.0.expect("read");
    assert_eq!(follow(&paused).means, Means::Off);

    let firing = recorded("prometheus-rules.json").replace("\"alerts\":[]", r#""alerts":[{"labels":{"alertname":"SSH brute force"},"annotations":{},"state":"firing","activeAt":"2023-11-14T22:00:00Z","value":"1e+00"}]"#);
    let fires = read(Engine::Prometheus, RULE, vec![Act::json(firing)]).await.0.expect("read");
    let followed = follow(&fires);
    assert_eq!(followed.means, Means::Unsure);
    assert!(followed.text.contains("active since 2023-11-14T22:00:00Z"), "{followed:?}");

    // A silence of the rule until after its alert is due, of one value of it, and one that ends.
    let silence = |of: &str, until: &str| {
        json!({"timed_out": false, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0}, "hits": {
            "total": {"value": 1, "relation": "eq"},
            "hits": [{"_index": "s", "_id": "1", "_source": {"exponent": 0, "rule_name": of, "until": until}, "sort": [1]}],
        }})
        .to_string()
    };
    let (late, soon) = ("2023-11-14T23:13:20.000000Z", "2023-11-14T22:14:00.000000Z");
    for (of, until, expected) in [
        (RULE, late, Means::Held),
        ("SSH brute force._silence", late, Means::Held),
        ("SSH brute force.root", late, Means::Unsure),
        ("SSH brute force, slow", late, Means::Due),
        (RULE, soon, Means::Unsure),
    ] {
        let acts = vec![json_of("elastalert-status.json"), Act::json(silence(of, until))];
        let read = read(Engine::Elastalert, RULE, acts).await.0.expect("it ran");
        let followed = follow(&read);
        assert_eq!(followed.means, expected, "{of} until {until}: {followed:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_read_is_no_rule() {
    for engine in Engine::ALL {
        let name = name_at(engine);
        for act in [Act::json("{}"), Act::status(404), Act::status(403), Act::Reset] {
            assert!(read(engine, name, vec![act]).await.0.is_err(), "{engine:?}");
        }
        let why = read(engine, "Nobody", acts(engine)).await.0.expect_err("nobody is called so");
        assert!(why.contains("no rule is called \"Nobody\""), "{engine:?}: {why}");
    }
    let twice = recorded("elastic-rules.json").replace("\"Another\"", "\"SSH brute force\"");
    let why = read(Engine::ElasticSecurity, RULE, vec![Act::json(twice)]).await.0;
    assert!(why.expect_err("which of them").contains("2 rules are called"));
}

#[tokio::test]
async fn rules_of_each_engine_are_listed_with_their_last_run() {
    let monitors = || json_of("opensearch-monitors.json");
    let stats = || json_of("opensearch-alerting-stats.json");
    let (found, cut) = listed(Engine::OpensearchAlerting, vec![monitors(), stats(), none()])
        .await
        .expect("listed");
    let told: Vec<_> = found
        .iter()
        .map(|rule| (rule.name.as_str(), rule.enabled, rule.ran.is_some(), rule.every))
        .collect();
    let [minute, hours] = [60, 7_200].map(|s| Some(secs(s)));
    assert_eq!(told, [("ssh-logins", true, true, minute), ("old", false, false, hours)]);
    assert!(!cut);

    let rules = || recorded("elastic-rules.json");
    let (found, cut) =
        listed(Engine::ElasticSecurity, vec![Act::json(rules())]).await.expect("listed");
    assert_eq!(found[0].failing, None);
    assert_eq!(found[1].failing.as_deref(), Some("failed: index not found"));
    assert_eq!((found[1].every, cut), (Some(secs(3_600)), false));
    let empty = r#"{"page":2,"total":3,"data":[]}"#;
    let more = rules().replace("\"total\":2", "\"total\":3");
    let (found, cut) = listed(Engine::ElasticSecurity, vec![Act::json(more), Act::json(empty)])
        .await
        .expect("listed");
    assert_eq!((found.len(), cut), (2, true));

    let searches = || recorded("splunk-saved-searches.json");
    let (found, cut) = listed(Engine::Splunk, vec![Act::json(searches())]).await.expect("listed");
    assert_eq!((found.iter().filter(|rule| rule.enabled).count(), found.len(), cut), (2, 3, false));
    let empty = r#"{"entry":[],"paging":{"total":4}}"#;
    let more = searches().replace("\"total\":3", "\"total\":4");
    let (found, cut) =
        listed(Engine::Splunk, vec![Act::json(more), Act::json(empty)]).await.expect("listed");
    assert_eq!((found.len(), cut), (3, true));
    let (found, _) = listed(Engine::Grafana, acts(Engine::Grafana)).await.expect("listed");
    assert_eq!((found.len(), found[0].ran.is_some(), found[1].ran), (2, true, None));

    let buckets = json!({"timed_out": false, "_shards": {"total": 1, "failed": 0}, "aggregations": {"rules": {
        "buckets": [{"key": "SSH brute force", "doc_count": 4, "ran": {"value": 1_700_000_000_000.0_f64}}]}}});
    let (found, _) =
        listed(Engine::Elastalert, vec![Act::json(buckets.to_string())]).await.expect("listed");
    assert_eq!(found[0].ran, Some(Wall::from_secs(1_700_000_000)));
    for engine in Engine::ALL {
        for act in [Act::json("{}"), Act::status(404), Act::Reset] {
            assert!(listed(engine, vec![act]).await.is_err(), "{engine:?}");
        }
    }
}

/// What was cut off is no rule; what was mangled brings no panic, and what follows from it is bounded.
#[test]
fn property_answers_with_rules() {
    static TRIED: AtomicU64 = AtomicU64::new(0);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(
        which in 0..Engine::ALL.len(), part: prop::sample::Index, at: prop::sample::Index, byte: u8,
        cut: bool,
    )| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let engine = Engine::ALL[which];
        let mut bodies: Vec<Vec<u8>> = whole(engine).into_iter().map(String::into_bytes).collect();
        let part = part.index(bodies.len());
        let broken = &mut bodies[part];
        let place = at.index(broken.trim_ascii_end().len());
        if cut { broken.truncate(place); } else { broken[place] = byte; }
        let answers = bodies.into_iter().map(|body| {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            Act::Raw([head.as_bytes(), &body].concat())
        });
        let read = runtime.block_on(read(engine, name_at(engine), answers.collect())).0;
        if let Ok(rule) = &read {
            prop_assert!(!cut, "{:?} was cut at {}", engine, place);
            let followed = follow(rule);
            prop_assert!(followed.within <= secs(7_200), "{:?}", followed);
        }
    });
    eprintln!("property answers with rules: {} inputs", TRIED.load(Ordering::Relaxed));
}
