//! Grafana's own alerting, as it answered once while an alert fired, was silenced and was resolved, and
//! what it sent.

use std::sync::Mutex;

use greenlight::client::http::Api;
use greenlight::client::inbox::{Inbox, Kind};
use greenlight::client::rules::{Engine, rules};
use greenlight::confirm::alertmanager::Alertmanager;
use greenlight::confirm::promql::Promql;
use greenlight::confirm::webhook::Webhook;
use greenlight::spec::trace::Trace;
use greenlight::time::Wall;
use serde_json::{Value, json};

use super::confirm::{Watch, horizon, sought};
use super::server::{Act, Server};

const RUN: &str = "gl00000001";

fn recorded() -> Vec<Value> {
    let file = include_str!("../../fixtures/grafana/alerting.jsonl");
    let mut lines = file.lines();
    assert!(lines.next().unwrap().starts_with("recorded from Grafana 9.3.2"));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Answers as Grafana did while the alert was in a state; what was never asked is refused.
async fn grafana() -> (Server, std::sync::Arc<Mutex<&'static str>>) {
    let all = recorded();
    let state = std::sync::Arc::new(Mutex::new("firing"));
    let now = state.clone();
    let server = Server::start(move |request| {
        let (ask, now) = (format!("{} {}", request.method, request.path), *now.lock().unwrap());
        let found = all.iter().find(|one| one["ask"] == ask && one["when"] == now);
        found.map_or(Act::status(501), |one| Act::json(one["answer"].to_string()))
    });
    (server.await, state)
}

#[tokio::test]
async fn grafanas_alerts_are_seen_as_a_real_one_showed_them() {
    let (server, state) = grafana().await;
    let wanted = json!({"alertname": "Brute force", "greenlight_run": "{run}"});
    let rules_at = server.url("/api/prometheus/grafana");
    let by_rules = |labels: Value| {
        Watch::<Promql>::new(json!({"url": rules_at, "alert": labels}), sought(None))
    };
    let mut raised = by_rules(wanted.clone());
    let look = raised.look().await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1), "{}", raised.saw());
    let fields = look.arrivals[0].fields.as_ref().unwrap();
    assert_eq!((&fields["name"], &fields["severity"]), (&json!("Brute force"), &json!("critical")));
    for (name, why) in [
        ("Waits", "the alert \"Waits\" is Pending; its rule waits 3600s"),
        ("Quiet", "and its condition does not hold"),
        ("Sees nothing", "the alert \"Sees nothing\" is NoData"),
        ("Wrong expression", "fails: failed to execute query A: bad_data"),
        ("Nobody", "no rule is called \"Nobody\""),
    ] {
        let mut watch = by_rules(json!({"alertname": name}));
        let look = watch.look().await;
        assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 0), "{name}");
        assert!(watch.saw().contains(why), "{}", watch.saw());
    }
    let url = server.url("/api/alertmanager/grafana");
    let json = json!({"url": url, "match": wanted});
    let mut held = Watch::<Alertmanager>::new(json, sought(None));
    let look = held.look().await;
    assert_eq!((horizon(&look), look.arrivals.len()), ("complete", 1));
    assert_eq!(look.arrivals[0].wrong, None);
    let fields = look.arrivals[0].fields.as_ref().unwrap();
    assert_eq!(fields["annotations"]["summary"], format!("{RUN}: 11 failed logins"));
    let quiet = json!({"url": url, "match": {"alertname": "Quiet"}});
    assert_eq!(Watch::<Alertmanager>::new(quiet, sought(None)).look().await.arrivals, []);

    *state.lock().unwrap() = "silenced";
    let look = held.look().await;
    let wrong = look.arrivals[0].wrong.as_ref().unwrap().text.clone();
    assert!(wrong.contains("is silenced by "), "{wrong}");

    *state.lock().unwrap() = "resolved";
    for look in [held.look().await, raised.look().await] {
        let ended: Vec<bool> = look.arrivals.iter().map(|arrival| arrival.ended).collect();
        assert_eq!((horizon(&look), ended), ("complete", vec![true]));
    }
}

/// The same answers, cut off or with a byte changed: never more than was there, and never complete where
/// a part is gone.
#[tokio::test]
async fn grafanas_alerts_that_came_damaged_are_never_complete_by_half() {
    let answers: Vec<String> = recorded()
        .iter()
        .filter(|one| one["when"] == "firing" && one["ask"].is_string())
        .map(|one| one["answer"].to_string())
        .collect();
    let (alerts, held) = (answers[1].clone(), answers[2].clone());
    let body = std::sync::Arc::new(Mutex::new(String::new()));
    let served = body.clone();
    let server = Server::start(move |_| Act::json(served.lock().unwrap().clone())).await;
    let wanted = json!({"alertname": "Brute force"});
    let mut raised =
        Watch::<Promql>::new(json!({"url": server.url(""), "alert": wanted}), sought(None));
    let json = json!({"url": server.url(""), "match": wanted});
    let mut known = Watch::<Alertmanager>::new(json, sought(None));
    let mut damaged = 0;
    for (at, with) in (0..held.len().max(alerts.len())).step_by(7).zip("\"{0x,\0".chars().cycle()) {
        for cut in [true, false] {
            let broken = |text: &str| {
                let at = at.min(text.len() - 2);
                let rest = if cut { "" } else { &text[at + 1..] };
                format!("{}{with}{rest}", &text[..at])
            };
            *body.lock().unwrap() = broken(&alerts);
            let by_rules = raised.look().await;
            *body.lock().unwrap() = broken(&held);
            let by_alerts = known.look().await;
            for look in [by_rules, by_alerts] {
                assert!(look.arrivals.iter().filter(|arrival| !arrival.ended).count() <= 1);
                assert!(!cut || horizon(&look) != "complete", "{at} {with:?}");
                damaged += 1;
            }
        }
    }
    eprintln!("property alerts of grafana: {damaged} damaged");
    assert!(damaged >= 700);
}

#[tokio::test]
async fn grafanas_rules_are_read_as_a_real_one_lists_them() {
    let (server, _) = grafana().await;
    let api = Api::new(&server.url("/api/prometheus/grafana"), None, Default::default()).unwrap();
    let (clients, trace) = (Default::default(), Trace::off());
    let limit = std::time::Duration::from_secs(10);
    let found = rules(Engine::Prometheus, "", None, &api, &clients, limit, &trace).await.unwrap();
    let seen: Vec<(&str, &str, u64, bool)> = found
        .rows
        .iter()
        .map(|rule| {
            assert!(rule.enabled && rule.ran > Some(Wall::from_secs(1_700_000_000)), "{rule:?}");
            assert_eq!(rule.every.map(|every| every.as_secs()), Some(10));
            (rule.name.as_str(), rule.state.as_str(), rule.holds.as_secs(), rule.failing.is_some())
        })
        .collect();
    let expected = [
        ("Brute force", "firing", 0, false),
        ("Waits", "pending", 3600, false),
        ("Wrong expression", "inactive", 0, true),
        ("Sees nothing", "inactive", 0, false),
        ("Quiet", "inactive", 0, false),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn grafanas_notifications_are_taken_as_a_real_one_sends_them() {
    let hooks = recorded().into_iter().filter_map(|one| one.get("hook").cloned());
    let hooks: Vec<Value> = hooks.collect();
    let labels = json!({"alertname": "Brute force", "greenlight_run": "{run}"});
    let spec = json!({"from": "grafana", "match": labels});
    let mut watch = Watch::<Webhook>::new(spec, sought(None));
    let began = watch.sought.began;
    let mut damaged = 0;
    for hook in &hooks {
        watch.clients.inbox().put(Kind::Grafana, hook.to_string().as_bytes(), began).unwrap();
        // What is damaged is taken or refused whole.
        let text = hook.to_string();
        let elsewhere = Inbox::default();
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            for with in ["", "\"", "{", "0"] {
                let broken = format!("{}{with}{}", &text[..at], &text[(at + 1).min(text.len())..]);
                let kept = elsewhere.len();
                let taken = elsewhere.put(Kind::Grafana, broken.as_bytes(), began);
                let before = (kept < 4000).then_some(kept);
                let grown = taken.map_or(0, |taken| taken.len());
                assert!(before.is_none_or(|kept| elsewhere.len() == kept + grown), "{broken}");
                damaged += 1;
            }
        }
    }
    eprintln!("property notifications of grafana: {damaged} damaged");
    assert!(hooks.len() >= 4 && damaged >= 5000);
    let look = watch.look().await;
    let seen: Vec<(bool, bool)> =
        look.arrivals.iter().map(|arrival| (arrival.ended, arrival.wrong.is_some())).collect();
    assert_eq!((horizon(&look), seen), ("complete", vec![(false, false), (true, false)]));
    // An evaluation that fails is told under a name of its own, which is not the alert's.
    let failed = json!({"from": "grafana", "match": {"alertname": "Wrong expression"}});
    let mut other = Watch::<Webhook>::new(failed, sought(None));
    other.clients = watch.clients;
    assert_eq!(other.look().await.arrivals, []);
}
