//! The probes and the sender that are made on the HTTP client.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenlight::client::Clients;
use greenlight::client::inbox::Kind;
use greenlight::journey::event::{EventSpec, Events, Format, Token};
use greenlight::journey::{Event, Receipt, Run};
use greenlight::outcome::{FaultCode, Outcome, Reading, ReasonCode};
use greenlight::probe::{self, Attempt, Probe};
use greenlight::send;
use greenlight::spec::trace::Trace;
use greenlight::time::{Mono, Now, Wall};
use serde_json::{Value, json};

use super::server::{Act, Authority, Server};
use crate::peers;
use crate::senders::word;

const SHORT: Duration = Duration::from_millis(800);

/// A spec as the plan's decoder would make it.
pub(crate) fn spec<S: serde::de::DeserializeOwned>(json: Value) -> S {
    serde_json::from_value(json).unwrap()
}

async fn attempt<P: Probe>(probe: &P, target: &str, trace: &Trace) -> Reading {
    let on =
        Attempt { target: &Arc::from(target), timeout: SHORT, clients: &Clients::default(), trace };
    Probe::attempt(probe, on).await
}

async fn tried<P: Probe>(json: Value, target: &str) -> Reading {
    let probe = P::new(spec(json)).unwrap_or_else(|why| panic!("the spec is refused: {why}"));
    attempt(&probe, target, &Trace::off()).await
}

fn code(reading: &Reading) -> &'static str {
    reading.outcome.why().map_or("success", |(code, _)| code)
}

fn values(reading: &Reading, series: &str) -> Vec<f64> {
    let of = reading.samples.iter().filter(|sample| sample.metric.series == Some(series));
    of.map(|sample| sample.value).collect()
}

#[tokio::test]
async fn http_probe_judges_status_headers_body_and_json() {
    let server = Server::start(|request| match request.path.as_str() {
        "/ok" => Act::json(r#"{"status": "green", "nodes": 3}"#),
        "/moved" => Act::Answer(301, vec![("location", "/ok".into())], String::new()),
        "/gzip" => Act::Answer(200, vec![("content-encoding", "gzip".into())], "x".into()),
        "/echo" => Act::json(json!({"method": request.method, "sent": request.body}).to_string()),
        _ => Act::status(503),
    })
    .await;
    let ok = server.url("/ok");
    let reading = tried::<probe::http::Http>(
        json!({
            "expect_headers": {"Content-Type": "^application/json"},
            "body": {"contains": ["green"], "regex": ["nodes.: \\d+"], "not": ["red|yellow"]},
            "json": [".status == \"green\"", ".nodes >= 3"],
        }),
        &ok,
    )
    .await;
    assert_eq!(reading.outcome, Outcome::Success);
    let took = values(&reading, "http.duration")[0];
    assert!(took > 0.0 && took < SHORT.as_secs_f64(), "{took}");
    let phases: Vec<&str> = reading
        .samples
        .iter()
        .filter(|sample| sample.metric.series == Some("http.phase"))
        .map(|sample| &*sample.labels[0])
        .collect();
    assert_eq!(phases, ["resolve", "connect", "request", "first_byte", "body"]);
    assert!(reading.samples.iter().all(|s| s.labels.len() + 2 == s.metric.labels.len()));

    for (json, url, expected) in [
        (json!({}), server.url("/down"), "unexpected_status"),
        (json!({"status": 503}), server.url("/down"), "success"),
        (json!({"status": [200, 503]}), ok.clone(), "success"),
        (json!({"status": 204}), ok.clone(), "unexpected_status"),
        (json!({}), server.url("/moved"), "unexpected_status"),
        (json!({"status": 301}), server.url("/moved"), "success"),
        (json!({"follow": true, "json": [".nodes == 3"]}), server.url("/moved"), "success"),
        (json!({"expect_headers": {"etag": "."}}), ok.clone(), "header_mismatch"),
        (json!({"expect_headers": {"content-type": "html"}}), ok.clone(), "header_mismatch"),
        (json!({"body": {"contains": ["red"]}}), ok.clone(), "body_mismatch"),
        (json!({"body": {"regex": ["^green"]}}), ok.clone(), "body_mismatch"),
        (json!({"body": {"not": ["gr..n"]}}), ok.clone(), "body_mismatch"),
        (json!({"json": [".status == \"red\""]}), ok.clone(), "json_mismatch"),
        (json!({"status": 503, "json": ["true"]}), server.url("/down"), "json_mismatch"),
        (json!({"max_body": "10B"}), ok.clone(), "too_large"),
        (json!({}), server.url("/gzip"), "success"),
        (json!({"body": {"contains": ["x"]}}), server.url("/gzip"), "body_mismatch"),
        (
            json!({"method": "PUT", "send": "hello", "json": [".method == \"PUT\" and .sent == \"hello\""]}),
            server.url("/echo"),
            "success",
        ),
        (json!({}), format!("http://127.0.0.1:{}/", peers::free_port()), "refused"),
    ] {
        let reading = tried::<probe::http::Http>(json.clone(), &url).await;
        assert_eq!(code(&reading), expected, "{json} {url}: {:?}", reading.outcome);
        let measured = !values(&reading, "http.duration").is_empty();
        assert_eq!(measured, !matches!(expected, "refused" | "too_large"), "{json}");
    }
}

#[tokio::test]
async fn http_probe_shows_a_certificates_end_and_never_a_secret() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ca, token) = (write("ca.pem", &authority.pem()), write("token", "s3cret-t0ken\n"));
    let old = Server::start_tls(authority.server(&["127.0.0.1"], 2020), |_| Act::json("1")).await;
    let reading = tried::<probe::http::Http>(json!({"tls": {"ca": ca}}), &old.url("/")).await;
    assert_eq!(code(&reading), "certificate_invalid");
    assert!(values(&reading, "http.tls_expiry")[0] < 0.0);

    let good =
        Server::start_tls(authority.server(&["127.0.0.1"], 2100), |_| Act::status(401)).await;
    let json = json!({"tls": {"ca": ca}, "auth": {"bearer": {"file": token}}});
    let probe = probe::http::Http::new(spec(json)).unwrap();
    let trace = Trace::on();
    let reading = attempt(&probe, &good.url("/x"), &trace).await;
    assert_eq!(code(&reading), "unexpected_status");
    assert!(values(&reading, "http.tls_expiry")[0] > 1e9);
    assert_eq!(good.seen()[0].header("authorization"), Some("Bearer s3cret-t0ken"));
    let notes = format!("{:?} {:?}", trace.take(), reading);
    assert!(notes.contains("401") && !notes.contains("s3cret"), "{notes}");

    let missing = json!({"auth": {"bearer": {"file": "/nonexistent/token"}}});
    let reading = tried::<probe::http::Http>(missing, &good.url("/")).await;
    assert_eq!(code(&reading), "unreadable", "a secret of ours that is missing is no failure");
}

fn vector(values: &[&str]) -> String {
    let items: Vec<Value> =
        values.iter().map(|v| json!({"metric": {"i": v}, "value": [1, v]})).collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": items}}).to_string()
}

#[tokio::test]
async fn promql_probe_tells_values_from_silence() {
    let server = Server::start(|request| {
        let path = request.path.as_str();
        if path.contains("query=two") {
            Act::json(vector(&["1.5", "NaN", "-2"]))
        } else if path.contains("query=none") {
            Act::json(vector(&[]))
        } else if path.contains("query=bad") {
            let body =
                json!({"status": "error", "errorType": "bad_data", "error": "parse error at x"});
            Act::Answer(400, Vec::new(), body.to_string())
        } else if path.contains("query=part") {
            let mut body: Value = serde_json::from_str(&vector(&["1"])).unwrap();
            body["warnings"] = json!(["remote store is away"]);
            Act::json(body.to_string())
        } else if path.contains("query=hang") {
            Act::Stall(Vec::new())
        } else if path.contains("query=html") {
            Act::Answer(200, Vec::new(), "<html>login</html>".into())
        } else {
            Act::status(502)
        }
    })
    .await;
    let ask = |query: &str, expect: &str| {
        tried::<probe::promql::Promql>(
            json!({"query": query, "expect": expect}),
            Box::leak(server.url("/prom").into_boxed_str()),
        )
    };
    let reading = ask("two", "some").await;
    assert_eq!((code(&reading), values(&reading, "promql.value")), ("success", vec![1.5, -2.0]));
    let reading = ask("two", "none").await;
    assert_eq!((code(&reading), values(&reading, "promql.value").len()), ("value_mismatch", 2));
    let reading = ask("none", "any").await;
    assert_eq!((code(&reading), reading.samples.len()), ("success", 0));
    assert_eq!(code(&ask("none", "none").await), "success");
    assert_eq!(code(&ask("none", "some").await), "no_data");
    let reading = ask("bad", "any").await;
    assert_eq!(code(&reading), "query_refused");
    assert!(reading.outcome.why().unwrap().1.contains("parse error at x"));
    for query in ["part", "hang", "html", "down"] {
        assert_eq!(code(&ask(query, "none").await), "blind", "{query}");
    }
    assert!(server.seen()[0].path.starts_with("/prom/api/v1/query?query=two"));
    let nobody = format!("http://127.0.0.1:{}", peers::free_port());
    let reading = tried::<probe::promql::Promql>(json!({"query": "up"}), &nobody).await;
    assert_eq!(code(&reading), "blind");
}

fn alert(name: &str, state: &str) -> Value {
    json!({
        "labels": {"alertname": name, "severity": "critical"}, "fingerprint": name,
        "annotations": {}, "startsAt": "2023-11-14T22:13:20Z", "receivers": [{"name": "soc"}],
        "status": {"state": state, "silencedBy": if state == "suppressed" { vec!["s1"] } else { vec![] }},
    })
}

#[tokio::test]
async fn alertmanager_probe_counts_and_trusts_only_a_living_pipeline() {
    let server = Server::start(|request| {
        let all =
            [alert("Disk", "active"), alert("Login", "suppressed"), alert("Watchdog", "active")];
        let silence = |id: &str, state: &str| {
            let matchers =
                json!([{"name": "severity", "value": "crit.*", "isRegex": true, "isEqual": true}]);
            json!({"id": id, "status": {"state": state}, "matchers": matchers, "createdBy": "ops",
                   "endsAt": "2027-01-01T00:00:00.000Z", "comment": "noisy"})
        };
        let all = match request.path.split('/').nth(1).unwrap() {
            "dead" if request.path.ends_with("/silences") => return Act::status(500),
            _ if request.path.ends_with("/silences") => {
                let all = [silence("s1", "active"), silence("s2", "expired")];
                return Act::json(json!(all).to_string());
            }
            "dead" => &all[..2],
            "calm" => &all[1..],
            _ => &all[..],
        };
        Act::json(json!(all).to_string())
    })
    .await;
    let dog = json!({"alertname": "Watchdog"});
    let of = |name: &str| json!({"alertname": name});
    for (path, json, expected, counts) in [
        ("/live", json!({"match": of("Disk"), "expect": "none"}), "alert_mismatch", vec![1.0, 0.0]),
        ("/live", json!({"match": of("Disk"), "expect": "firing"}), "success", vec![1.0, 0.0]),
        (
            "/live",
            json!({"match": of("Other"), "expect": "none", "watchdog": dog}),
            "success",
            vec![0.0, 0.0],
        ),
        (
            "/live",
            json!({"match": of("Other"), "expect": "firing"}),
            "alert_mismatch",
            vec![0.0, 0.0],
        ),
        ("/live", json!({"match": of("Login"), "expect": "none"}), "success", vec![0.0, 1.0]),
        (
            "/live",
            json!({"match": of("Login"), "expect": "firing"}),
            "alert_mismatch",
            vec![0.0, 1.0],
        ),
        (
            "/dead",
            json!({"match": of("Other"), "expect": "none", "watchdog": dog}),
            "alert_mismatch",
            vec![],
        ),
        // The watchdog itself is none of the alerts that should not fire.
        ("/calm", json!({"expect": "none", "watchdog": dog}), "success", vec![0.0, 1.0]),
        ("/live", json!({"expect": "none", "watchdog": dog}), "alert_mismatch", vec![1.0, 1.0]),
        (
            "/calm",
            json!({"match": dog, "expect": "firing", "watchdog": dog}),
            "success",
            vec![1.0, 0.0],
        ),
    ] {
        let reading =
            tried::<probe::alertmanager::Alertmanager>(json.clone(), &server.url(path)).await;
        assert_eq!(code(&reading), expected, "{path} {json}: {:?}", reading.outcome);
        let both = ["alertmanager.firing", "alertmanager.suppressed"];
        let seen: Vec<f64> = both.iter().flatten_values(&reading);
        assert_eq!(seen, counts, "{path} {json}");
    }
    // A silence is listed whether it silences something now or not; one that can't be read is no verdict.
    for (path, note) in [
        (
            "/live",
            "silence s1 of {severity=~\"crit.*\"} until 2027-01-01T00:00:00.000Z, by \"ops\": noisy",
        ),
        ("/dead", "silences can't be read: "),
    ] {
        let json = json!({"match": of("Other"), "expect": "none"});
        let reading = tried::<probe::alertmanager::Alertmanager>(json, &server.url(path)).await;
        assert_eq!((code(&reading), reading.notes.len()), ("success", 1), "{path}");
        assert!(reading.notes[0].starts_with(note), "{:?}", reading.notes);
    }
    let query = &server.seen()[0].path;
    assert!(query.ends_with("/api/v2/alerts?filter=alertname%3D%22Disk%22"), "{query}");
    let down = Server::start(|_| Act::status(503)).await;
    let json = json!({"expect": "none"});
    let reading = tried::<probe::alertmanager::Alertmanager>(json.clone(), &down.url("")).await;
    assert_eq!(code(&reading), "blind");
    let other = Server::start(|_| Act::json("{\"alerts\": []}")).await;
    let reading = tried::<probe::alertmanager::Alertmanager>(json, &other.url("")).await;
    assert_eq!(code(&reading), "blind", "something else answers");
}

trait FlattenValues {
    fn flatten_values(self, reading: &Reading) -> Vec<f64>;
}

impl<'a, I: Iterator<Item = &'a &'a str>> FlattenValues for I {
    fn flatten_values(self, reading: &Reading) -> Vec<f64> {
        self.flat_map(|series| values(reading, series)).collect()
    }
}

#[tokio::test]
async fn webhook_probe_wants_a_new_enough_notification() {
    let clients = Clients::default();
    let probe = probe::webhook::Webhook::new(spec(
        json!({"from": "alertmanager", "match": {"alertname": "Watchdog"}, "within": "5m"}),
    ))
    .unwrap();
    let trace = Trace::off();
    let attempt = async || {
        let on = Attempt {
            target: &Arc::from("self"),
            timeout: SHORT,
            clients: &clients,
            trace: &trace,
        };
        Probe::attempt(&probe, on).await
    };
    let put = |status: &str, ago: Duration| {
        let body = json!({"alerts": [{"status": status, "labels": {"alertname": "Watchdog"}}]});
        let now = Now { mono: Mono::now().minus(ago), wall: Wall::from_secs(1_700_000_000) };
        clients.inbox().put(Kind::Alertmanager, body.to_string().as_bytes(), now).unwrap();
    };
    assert_eq!(code(&attempt().await), "blind", "nobody has listened for 5 m yet");
    put("firing", Duration::from_secs(600));
    assert_eq!(
        code(&attempt().await),
        "blind",
        "the next one may have come while nobody was there"
    );
    put("resolved", Duration::from_secs(5));
    assert_eq!(code(&attempt().await), "blind", "that it has ended proves nothing");
    // Who has listened for as long as it may take misses it.
    let brief = probe::webhook::Webhook::new(spec(
        json!({"from": "alertmanager", "match": {"alertname": "Watchdog"}, "within": "1ms"}),
    ))
    .unwrap();
    let missed = async |clients: &Clients| {
        while clients.inbox().listened(Mono::now()) <= Duration::from_millis(1) {
            tokio::task::yield_now().await;
        }
        let target = &Arc::from("self");
        let on = Attempt { target, timeout: SHORT, clients, trace: &trace };
        Probe::attempt(&brief, on).await
    };
    let reading = missed(&clients).await;
    assert_eq!(code(&reading), "not_arrived");
    assert!((590.0..700.0).contains(&values(&reading, "webhook.age")[0]));
    assert_eq!(code(&missed(&Clients::default()).await), "not_arrived", "none at all");
    put("firing", Duration::from_secs(20));
    let reading = attempt().await;
    assert_eq!(code(&reading), "success");
    assert!((19.0..60.0).contains(&values(&reading, "webhook.age")[0]));

    // Asked for the end of an alert, it takes no beginning for one.
    let closed = probe::webhook::Webhook::new(spec(
        json!({"from": "alertmanager", "status": "resolved", "match": {"alertname": "Watchdog"}, "within": "5m"}),
    ))
    .unwrap();
    let ask = async |timeout| {
        let target = &Arc::from("self");
        let on = Attempt { target, timeout, clients: &clients, trace: &trace };
        Probe::attempt(&closed, on).await
    };
    assert_eq!(code(&ask(SHORT).await), "success", "5 s old");
}

pub(crate) fn events(run: &str, count: u64) -> Vec<Event> {
    let made = Events::new(&EventSpec { count, ..EventSpec::default() }, Format::Json).unwrap();
    let at = Wall::from_secs(1_700_000_000);
    (0..count).map(|seq| made.render(&Run::from(run), "s", seq, at)).collect()
}

async fn sent(json: Value, events: &[Event], timeout: Duration) -> Vec<Receipt> {
    crate::senders::sent::<send::http::Http>(json, events, timeout).await
}

#[tokio::test]
async fn http_sender_has_a_receipt_for_every_way_a_request_can_end() {
    let events = events("gl00000001", 9);
    let server = Server::start(|request| {
        let seq = Token::find_all(&request.body).next().unwrap().seq;
        match seq {
            8 => Act::status(207),
            1 => Act::status(429),
            2 => Act::status(400),
            3 => Act::status(503),
            4 => Act::Reset,
            5 => Act::Raw(b"HTTP/1.1 202 Accepted\r\ncontent-length: 50\r\n\r\ncut".to_vec()),
            6 => Act::Raw(Vec::new()),
            _ => Act::status(201),
        }
    })
    .await;
    let receipts = sent(json!({"to": server.url("/in")}), &events, Duration::from_secs(10)).await;
    let words: Vec<String> = receipts.iter().map(word).collect();
    assert_eq!(
        words,
        [
            "accepted",
            "refused: throttled",
            "refused: rejected",
            "refused: rejected",
            "unknown: connection_lost",
            "accepted",
            "unknown: connection_lost",
            "accepted",
            "unknown: protocol_error",
        ]
    );
    let seen = server.seen();
    assert_eq!(seen.len(), events.len(), "nothing is sent twice");
    for (request, event) in seen.iter().zip(&events) {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("greenlight-id"), Some(event.token.as_str()));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.body.as_bytes(), &event.payload[..]);
    }
    let connections: Vec<usize> = seen.iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 0, 0, 0, 1, 2, 3, 3], "one is kept as long as it lives");

    let nobody = format!("http://127.0.0.1:{}/", peers::free_port());
    let receipts = sent(json!({"to": nobody}), &events[..2], SHORT).await;
    assert!(receipts.iter().all(|r| word(r) == "not sent: refused"), "{receipts:?}");
    let secret = json!({"to": server.url("/"), "auth": {"bearer": {"file": "/nonexistent"}}});
    let receipts = sent(secret, &events[..2], SHORT).await;
    assert!(receipts.iter().all(|r| word(r) == "fault: unreadable"), "{receipts:?}");
}

#[tokio::test]
async fn http_sender_that_hears_nothing_does_not_know() {
    let events = events("gl00000001", 3);
    let server = Server::start(|_| Act::Stall(Vec::new())).await;
    let began = std::time::Instant::now();
    let receipts = sent(json!({"to": server.url("/")}), &events, SHORT).await;
    assert!(began.elapsed() < SHORT * 2);
    let words: Vec<String> = receipts.iter().map(word).collect();
    assert_eq!(words, ["unknown: timeout", "not sent: timeout", "not sent: timeout"]);
}

#[tokio::test]
async fn http_sender_puts_a_batch_into_one_request() {
    let events = events("gl00000001", 3);
    let server =
        Server::start(
            |request| {
                if request.path == "/full" { Act::status(429) } else { Act::status(202) }
            },
        )
        .await;
    let receipts = sent(json!({"to": server.url("/in"), "batch": "array"}), &events, SHORT).await;
    assert!(receipts.iter().all(|r| word(r) == "accepted"));
    let receipts =
        sent(json!({"to": server.url("/full"), "batch": "ndjson"}), &events, SHORT).await;
    assert!(receipts.iter().all(|r| word(r) == "refused: throttled"));
    let seen = server.seen();
    let array: Vec<Value> = serde_json::from_str(&seen[0].body).unwrap();
    let lines: Vec<Value> =
        seen[1].body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<Value> =
        events.iter().map(|event| serde_json::from_slice(&event.payload).unwrap()).collect();
    assert_eq!((&array, &lines), (&expected, &expected));
    assert_eq!(seen[1].header("content-type"), Some("application/x-ndjson"));
    assert_eq!(seen[0].header("greenlight-id"), None);

    let mut broken = events.clone();
    broken[1].payload = "two\nlines".into();
    let receipts = sent(json!({"to": server.url("/in"), "batch": "ndjson"}), &broken, SHORT).await;
    assert!(receipts.iter().all(|r| word(r) == "fault: unsupported"), "{receipts:?}");
    let receipts = sent(json!({"to": server.url("/in"), "batch": "array"}), &broken, SHORT).await;
    assert!(receipts.iter().all(|r| word(r) == "accepted"));
    let array: Vec<Value> = serde_json::from_str(&server.seen().last().unwrap().body).unwrap();
    assert_eq!(array[1], "two\nlines");
}

#[tokio::test]
async fn http_probe_against_nginx() {
    let authority = Authority::new();
    let folder = peers::folder("nginx");
    let (certificate, key) = authority.issue(&["127.0.0.1"], 2100);
    for (name, text) in
        [("ca.pem", &authority.pem()), ("cert.pem", &certificate), ("key.pem", &key)]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("index.html"), "welcome to the lake").unwrap();
    let (plain, secure) = (peers::free_port(), peers::free_port());
    let at = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
           uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
           server {{ listen 127.0.0.1:{plain}; location / {{ return 301 https://127.0.0.1:{secure}$request_uri; }} }}
           server {{ listen 127.0.0.1:{secure} ssl http2; root {at};
                     ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; }}
         }}"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let path = |p: &Path| p.display().to_string();
    let mut nginx = peers::Process::start(
        "nginx",
        "nginx",
        &["-c", &path(&file), "-e", &path(&folder.join("error.log"))],
        &folder.join("nginx.log"),
    );
    let listening = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    nginx.wait_until(|| listening(plain) && listening(secure));

    let tls = json!({"ca": path(&folder.join("ca.pem"))});
    let json = json!({"follow": true, "tls": tls, "body": {"contains": ["the lake"]},
                      "expect_headers": {"server": "^nginx"}});
    let reading = tried::<probe::http::Http>(json, &format!("http://127.0.0.1:{plain}/")).await;
    assert_eq!(reading.outcome, Outcome::Success);
    assert!(values(&reading, "http.tls_expiry")[0] > 1e9);
    assert!(
        reading.samples.iter().any(|sample| sample.labels.first().is_some_and(|l| &**l == "tls"))
    );
    let reading = tried::<probe::http::Http>(
        json!({"tls": tls}),
        &format!("https://127.0.0.1:{secure}/missing"),
    )
    .await;
    assert_eq!(code(&reading), "unexpected_status");
    // Speaking plainly to a port of TLS: nginx says so, with a 400.
    let reading =
        tried::<probe::http::Http>(json!({}), &format!("http://127.0.0.1:{secure}/")).await;
    assert_eq!(code(&reading), "unexpected_status");
    let reading =
        tried::<probe::http::Http>(json!({}), &format!("https://127.0.0.1:{secure}/")).await;
    assert_eq!(code(&reading), "certificate_invalid");
    nginx.kill();
    let reading =
        tried::<probe::http::Http>(json!({}), &format!("http://127.0.0.1:{plain}/")).await;
    assert!(matches!(&reading.outcome, Outcome::Failure(r) if r.code == ReasonCode::Refused));
}

#[tokio::test]
async fn http_a_secret_variable_that_is_missing_is_our_fault() {
    let labels: BTreeMap<&str, Value> = BTreeMap::from([("env", json!("GREENLIGHT_TEST_NO_SUCH"))]);
    let json = json!({"auth": {"basic": {"user": "me", "password": labels}}});
    let reading = tried::<probe::http::Http>(json, "http://127.0.0.1:1/").await;
    assert!(
        matches!(&reading.outcome, Outcome::Inconclusive(f) if f.code == FaultCode::Unreadable)
    );
}

#[test]
fn http_kinds_are_read_from_a_plan() {
    fn compiled<T: ?Sized>(
        entries: Vec<probe::Entry<T>>,
        kind: &str,
        yaml: &str,
    ) -> Result<Value, String> {
        let entry = entries.into_iter().find(|entry| entry.kind == kind).unwrap();
        let (mut sources, mut diagnostics) =
            (greenlight::spec::Sources::default(), greenlight::spec::Diagnostics::default());
        let source = sources.add("plan.yaml", yaml);
        let node = greenlight::spec::yaml::parse(source, yaml, &mut diagnostics).unwrap();
        let made = (entry.compile)(&node, &mut diagnostics);
        made.map(|(_, json)| json).ok_or_else(|| diagnostics.render(&sources, false))
    }
    let secret = "{ bearer: { env: T } }";
    for (kind, yaml) in [
        ("promql", format!("{{ query: 'up == 0', expect: none, auth: {secret} }}")),
        (
            "alertmanager",
            "{ match: { alertname: X }, expect: none, watchdog: { alertname: W } }".into(),
        ),
        ("webhook", "{ from: grafana, match: { rule: x }, within: 5m }".into()),
    ] {
        let json =
            compiled(probe::kinds(), kind, &yaml).unwrap_or_else(|why| panic!("{kind}: {why}"));
        assert!(json.is_object());
    }
    let api = "{ url: 'http://h/{run}', body: { size: 10, q: ['{from}', true] }, items: '.hits[]', limit: 10 }";
    for (kind, yaml) in [
        ("json_api", api),
        ("alertmanager", "{ url: 'http://am:9093', match: { alertname: SSHBruteForce } }"),
        ("promql", "{ url: 'http://p', query: 'sum(x{run=\"{run}\"})', tolerance: 0.5 }"),
        ("webhook", "{}"),
        (
            "grafana",
            "{ url: 'https://grafana', dashboard: siem-overview, panel: Failed logins, reduce: p95, row: { host: a },
               direct: { postgres: { server: db, database: d, user: u, query: 'SELECT count(*) FROM e WHERE run = $1' } } }",
        ),
        (
            "saved_visualization",
            "{ dashboards: 'https://osd/s/siem', visualization: a-b, url: 'http://lake:9200', from: 1h }",
        ),
    ] {
        let json = compiled(greenlight::confirm::kinds(), kind, yaml)
            .unwrap_or_else(|why| panic!("{kind}: {why}"));
        if kind == "json_api" {
            assert_eq!(json["body"], json!({"q": ["{from}", true], "size": 10}));
        }
    }
    let json = compiled(send::kinds(), "http", "{ to: 'https://in/x', batch: ndjson }").unwrap();
    assert_eq!(json["batch"], "ndjson");
    for (kind, yaml, shown) in [
        ("grafana", "{ url: 'http://g', dashboard: 'My board', panel: x }", "uid"),
        ("grafana", "{ url: 'http://g', dashboard: x }", "panel"),
        ("grafana", "{ url: 'http://g', dashboard: x, panel: y, reduce: p100 }", "p100"),
        (
            "grafana",
            "{ url: 'http://g', dashboard: x, panel: y, direct: { promql: { url: 'http://p', query: ' ' } } }",
            "direct",
        ),
        (
            "saved_visualization",
            "{ dashboards: 'http://d', visualization: 'a/b', url: 'http://l', from: 1h }",
            "a/b",
        ),
        ("json_api", "{ url: 'http://h', items: '.[' }", "jq program"),
        ("json_api", "{ url: 'http://h', items: '.', itmes: '.' }", "itmes"),
        ("promql", "{ url: 'http://h', query: x, tolerance: -1 }", "tolerance"),
        ("alertmanager", "{ url: 'http://h', match: { 'a-b': x } }", "label name"),
        ("webhook", "{ from: slack }", "slack"),
    ] {
        let why = compiled(greenlight::confirm::kinds(), kind, yaml).unwrap_err();
        assert!(why.contains(shown), "{kind} {yaml}: {why}");
    }
}
