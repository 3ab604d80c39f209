//! The same kinds against a real Prometheus and a real Alertmanager.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenlight::client::Clients;
use greenlight::client::http::Api;
use greenlight::client::inbox::Kind;
use greenlight::client::rules::{Engine, Place, rule};
use greenlight::client::tls;
use greenlight::confirm;
use greenlight::journey::rule::{Means, Memory, Terms};
use greenlight::outcome::{Outcome, Reading};
use greenlight::probe::{self, Attempt, Probe};
use greenlight::spec::trace::Trace;
use greenlight::time::{Mono, Now, Wall};
use serde_json::{Value, json};

use super::confirm::{Watch, horizon, sought};
use super::kinds::spec;
use super::server::{Act, Server};
use crate::peers;

const ENOUGH: Duration = Duration::from_secs(10);
const RUN: &str = "gl00000001";

async fn tried<P: Probe>(json: Value, target: &str) -> Reading {
    let probe = P::new(spec(json)).unwrap_or_else(|why| panic!("the spec is refused: {why}"));
    let (clients, trace) = (Clients::default(), Trace::off());
    let target = Arc::from(target);
    let on = Attempt { target: &target, timeout: ENOUGH, clients: &clients, trace: &trace };
    Probe::attempt(&probe, on).await
}

fn code(reading: &Reading) -> &'static str {
    reading.outcome.why().map_or("success", |(code, _)| code)
}

/// What a test asks of a server that needs its own time; a test's own server must go on meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_real_prometheus_answers_probe_and_confirmer() {
    let mut prometheus = blocking(|| peers::prometheus("global: {}\n", &[])).await;
    let url = prometheus.url.clone();
    let reading =
        tried::<probe::promql::Promql>(json!({"query": "vector(7) * 6", "expect": "some"}), &url)
            .await;
    assert_eq!(reading.outcome, Outcome::Success);
    assert_eq!(reading.samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [42.0]);
    for (query, expect, expected, samples) in [
        ("absent(vector(1))", "none", "success", 0),
        ("vector(0) / 0", "some", "success", 0),
        ("scalar(vector(3))", "some", "success", 1),
        ("absent(no_such_metric)", "none", "value_mismatch", 1),
        ("no_such_metric", "some", "no_data", 0),
        ("sum(", "any", "query_refused", 0),
        ("vector(1)[5m:1m]", "any", "blind", 0),
    ] {
        let json = json!({"query": query, "expect": expect});
        let reading = tried::<probe::promql::Promql>(json, &url).await;
        assert_eq!((code(&reading), reading.samples.len()), (expected, samples), "{query}");
    }
    for (query, equals, arrivals) in
        [("vector(3)", Some(3.0), 1), ("vector(2)", Some(3.0), 0), ("vector(1) < 0", None, 0)]
    {
        let json = json!({"url": url, "query": query});
        let mut watch = Watch::<confirm::promql::Promql>::new(json, sought(equals));
        watch.timeout = ENOUGH;
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), ("complete", arrivals), "{query}");
    }
    prometheus.kill();
    let reading = tried::<probe::promql::Promql>(json!({"query": "vector(1)"}), &url).await;
    assert_eq!(code(&reading), "blind");
}

#[tokio::test]
async fn a_real_prometheus_shows_its_alerts_and_its_rules() {
    const CONFIG: &str = "global: { evaluation_interval: 200ms }\nrule_files: [ rules.yml ]\n";
    const FIRES: &str =
        "{ alert: Fires, expr: 'vector(1)', labels: { severity: high, run: gl00000001 } }";
    let rules = |fires: &str| {
        format!(
            "groups:\n- name: g\n  rules:\n  - {fires}\n  \
             - {{ alert: Waits, expr: 'vector(1)', for: 1h }}\n  \
             - {{ alert: Sleeps, expr: 'vector(1) == 2' }}\n  \
             - {{ alert: Fails, expr: 'count_values(\"in-valid\", vector(1))' }}\n"
        )
    };
    let mut round = sought(None);
    round.began.wall = Wall::from_secs(wall_now());
    let files = rules(FIRES);
    let prometheus = blocking(move || peers::prometheus(CONFIG, &[("rules.yml", &files)])).await;
    let url = prometheus.url.clone();
    let watch = |labels: Value| {
        let spec = json!({"url": url, "alert": labels});
        let mut watch = Watch::<confirm::promql::Promql>::new(spec, round.clone());
        watch.timeout = ENOUGH;
        watch
    };
    // Each rule has been looked at once.
    let mut fires = watch(json!({"alertname": "Fires", "run": "{run}"}));
    let mut sleeps = watch(json!({"alertname": "Sleeps"}));
    let raised = tokio::time::timeout(ENOUGH, async {
        loop {
            let look = fires.look().await;
            assert_eq!(sleeps.look().await.arrivals.len(), 0);
            if !look.arrivals.is_empty() && sleeps.saw().contains("ran last") {
                return look;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("prometheus evaluates");
    assert_eq!((horizon(&raised), raised.arrivals.len()), ("complete", 1));
    let fields = raised.arrivals[0].fields.as_ref().unwrap();
    assert_eq!((&fields["name"], &fields["severity"]), (&json!("Fires"), &json!("high")));
    assert_eq!(fires.look().await.arrivals[0].copy, raised.arrivals[0].copy);
    for (labels, expected) in [
        (json!({"alertname": "Waits"}), "is pending; its rule waits 3600s"),
        (json!({"alertname": "Sleeps"}), "its condition does not hold"),
        (json!({"alertname": "Fails"}), "fails: invalid label name"),
        (json!({"alertname": "Nobody"}), "no rule is called"),
    ] {
        let mut watch = watch(labels);
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 0), "{expected}");
        assert!(watch.saw().contains(expected), "{}", watch.saw());
    }
    // What each says of itself, and what follows: by the API that it really has.
    let place = |name: &str| {
        let api = Api::new(&url, None, tls::Options::default()).expect("a URL");
        Place::new(Engine::Prometheus, api, name)
    };
    let follow = async |name: &str| {
        let (place, clients) = (place(name), Clients::default());
        let rule = rule(&place, &clients, ENOUGH, &Trace::off()).await.expect("it is loaded");
        let [arrival, run, at_most] = [1, 30, 60].map(Duration::from_secs);
        let terms = Terms { arrival, run, at_most };
        rule.follow(&terms, &Memory::default(), Wall::from_secs(wall_now()))
    };
    let sleeps_rule = follow("Sleeps").await;
    assert_eq!(
        (sleeps_rule.means, sleeps_rule.within),
        (Means::Due, Duration::from_millis(31_200))
    );
    for (name, words) in [("Fires", "active since"), ("Waits", "1h while its condition must hold")]
    {
        let followed = follow(name).await;
        assert_eq!(followed.means, Means::Unsure, "{followed:?}");
        assert!(followed.text.contains(words), "{followed:?}");
    }
    let nobody = rule(&place("Nobody"), &Clients::default(), ENOUGH, &Trace::off()).await;
    assert!(nobody.expect_err("none").text.contains("no rule is called"));
    let rules_of = || {
        let url = url.clone();
        async move { tried::<probe::rules::Rules>(json!({"engine": "prometheus"}), &url).await }
    };
    let reading = rules_of().await;
    assert_eq!(code(&reading), "blind", "a probe has no clock of its own");
    let sleeps_only = rules("{ alert: Other, expr: 'vector(1) == 2' }");
    let prometheus = blocking(move || {
        prometheus.reload(CONFIG, &[("rules.yml", &sleeps_only)]);
        prometheus
    })
    .await;
    let look = fires.look().await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1));
    assert!(look.arrivals[0].ended, "it is not there any more");
    blocking(move || drop(prometheus)).await;
    assert_eq!(horizon(&fires.look().await), "blind");
}

#[tokio::test]
async fn a_real_alertmanager_is_seen_raising_notifying_and_silencing() {
    let clients = Clients::default();
    let delivered = clients.clone();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let complaints = refused.clone();
    let receiver = Server::start(move |request| {
        let wall = Wall::from_secs(wall_now());
        let now = Now { mono: Mono::now(), wall };
        match delivered.inbox().put(Kind::Alertmanager, request.body.as_bytes(), now) {
            Ok(_) => Act::status(200),
            Err(why) => {
                complaints.lock().unwrap().push(why);
                Act::status(400)
            }
        }
    })
    .await;
    let config = format!(
        "route: {{ receiver: greenlight, group_by: [alertname], group_wait: 0s, group_interval: 1s }}\n\
         receivers:\n- name: greenlight\n  webhook_configs: [ {{ url: '{}' }} ]\n",
        receiver.url("/api/v1/webhook/alertmanager")
    );
    let mut alertmanager = blocking(move || peers::alertmanager(&config)).await;
    let url = alertmanager.url.clone();
    let probe = |name: &str, expect: &str| {
        let json = json!({"match": {"alertname": name}, "expect": expect});
        let url = url.clone();
        async move { tried::<probe::alertmanager::Alertmanager>(json, &url).await }
    };
    assert_eq!(code(&probe("Login", "none").await), "success");
    assert_eq!(code(&probe("Login", "firing").await), "alert_mismatch");

    let mut round = sought(None);
    round.began.wall = Wall::from_secs(wall_now());
    let matching = json!({"alertname": "Login"});
    let mut raised = Watch::<confirm::alertmanager::Alertmanager>::new(
        json!({"url": url, "match": matching}),
        round.clone(),
    );
    let mut notified = Watch::<confirm::webhook::Webhook>::new(json!({"match": matching}), round);
    notified.clients = clients.clone();
    raised.timeout = ENOUGH;
    assert_eq!(raised.look().await.arrivals.len(), 0);

    let post = |path: &'static str, body: Value| {
        let url = format!("{url}{path}");
        blocking(move || {
            let (status, text) = peers::post(&url, "application/json", &body.to_string()).unwrap();
            assert!((200..300).contains(&status), "{url}: {status} {text}");
            text
        })
    };
    post(
        "/api/v2/alerts",
        json!([
            {"labels": {"alertname": "Login", "run": RUN}, "annotations": {"summary": "brute \"force\""}},
            {"labels": {"alertname": "Login", "run": "gl00000002"}},
            {"labels": {"alertname": "Disk \"full\""}},
        ]),
    )
    .await;
    assert_eq!(code(&probe("Login", "firing").await), "success");
    assert_eq!(code(&probe("Disk \"full\"", "none").await), "alert_mismatch", "quotes in a filter");
    let look = raised.look().await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1));
    assert_eq!(look.arrivals[0].wrong, None);
    let fields = look.arrivals[0].fields.as_ref().unwrap();
    assert_eq!(fields["labels"]["run"], RUN);
    assert_eq!(fields["receivers"], json!(["greenlight"]));

    let arrived = tokio::time::timeout(ENOUGH, async {
        loop {
            let look = notified.look().await;
            if !look.arrivals.is_empty() {
                return look;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("alertmanager notifies");
    assert_eq!(arrived.arrivals.len(), 1);
    assert_eq!(
        arrived.arrivals[0].fields.as_ref().unwrap()["annotations"]["summary"],
        "brute \"force\""
    );

    post(
        "/api/v2/silences",
        json!({
            "matchers": [{"name": "run", "value": RUN, "isRegex": false, "isEqual": true}],
            "startsAt": Wall::from_secs(wall_now() - 1).rfc3339(),
            "endsAt": Wall::from_secs(wall_now() + 600).rfc3339(),
            "createdBy": "test", "comment": "test",
        }),
    )
    .await;
    let silenced = raised.look().await;
    let wrong = silenced.arrivals[0].wrong.as_ref().expect("a silenced alert tells nobody");
    assert!(wrong.text.contains("silenced by"), "{wrong}");
    assert_eq!(silenced.arrivals[0].copy, look.arrivals[0].copy, "it is the same alert still");
    assert_eq!(*refused.lock().unwrap(), Vec::<String>::new());

    let reading = probe("Login", "none").await;
    assert!(reading.notes.iter().any(|note| note.contains("silenced by")), "{:?}", reading.notes);
    // And the silence is listed by itself: it may silence what comes next.
    let reading = probe("Another", "none").await;
    let listed = format!("of {{run={RUN:?}}} until ");
    assert!(reading.notes.iter().any(|note| note.contains(&listed)), "{:?}", reading.notes);
    // An alert that ends is there no more, and its notification says so.
    let ends = Wall::from_secs(wall_now() - 1).rfc3339();
    let labels = json!({"alertname": "Login", "run": RUN});
    post("/api/v2/alerts", json!([{"labels": labels, "endsAt": ends}])).await;
    let ended = tokio::time::timeout(ENOUGH, async {
        loop {
            let look = raised.look().await;
            if look.arrivals.iter().any(|arrival| arrival.ended) {
                return look;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("alertmanager lets it go");
    assert_eq!(ended.arrivals.len(), 1);
    assert_eq!(ended.arrivals[0].copy, silenced.arrivals[0].copy);

    alertmanager.kill();
    assert_eq!(code(&probe("Login", "none").await), "blind");
    assert_eq!(horizon(&raised.look().await), "blind");
}

fn wall_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}
