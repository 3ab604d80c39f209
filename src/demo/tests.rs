use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;
use crate::client::Clients;
use crate::client::http::{How, Request, fetch, parse_url};
use crate::client::tls;
use crate::journey::event::{EventSpec, Events, Format, run_from};
use crate::journey::{Event, Run};
use crate::spec::trace::Trace;
use crate::time::Wall;

/// Everything of a test takes place on loopback.
const PATIENCE: Duration = Duration::from_secs(15);

fn address(platform: &Platform, name: &str) -> String {
    let vars = platform.plan_vars();
    vars.into_iter().find(|(own, _)| own == name).expect("a variable").1
}

async fn ask(url: &str, body: Option<&Value>) -> Option<(u16, Value)> {
    let url = parse_url(url).expect("a URL");
    let request = match body {
        Some(body) => Request::post_json(url, body),
        None => Request::get(url),
    };
    let tls = tls::Options::default();
    let how = How::within(Duration::from_secs(5), &tls);
    let answer = fetch(&Clients::default(), request, &how, &Trace::off()).await.ok()?;
    Some((answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default()))
}

/// Asks until the answer is as expected.
async fn until(what: &str, url: &str, body: Option<&Value>, holds: impl Fn(&Value) -> bool) {
    let asked = async {
        loop {
            let answer = ask(url, body).await;
            if answer.as_ref().is_some_and(|(status, body)| *status == 200 && holds(body)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, asked).await.is_err() {
        panic!("{what}: {url} says {:?}", ask(url, body).await);
    }
}

fn round(way_in: &str, run: &Run, format: Format, count: u64) -> Vec<Event> {
    let spec = EventSpec {
        message: "Failed password for {user} from 198.51.100.23 port {port} ssh2 [{token}]".into(),
        host: way_in.to_owned(),
        fields: [("labels.way_in".to_owned(), Value::from(way_in))].into_iter().collect(),
        ..EventSpec::default()
    };
    let events = Events::new(&spec, format).expect("a right spec");
    (0..count).map(|seq| events.render(run, way_in, seq, Wall::from_secs(1_000))).collect()
}

async fn by_http(platform: &Platform, events: &[Event]) {
    let url = address(platform, "demo_http");
    for event in events {
        let body: Value = serde_json::from_slice(&event.payload).expect("JSON");
        assert_eq!(ask(&url, Some(&body)).await.map(|(status, _)| status), Some(200));
    }
}

async fn stored(platform: &Platform, run: &Run, count: usize) {
    let url = format!("{}/search?run={run}", address(platform, "demo_store"));
    until("the store", &url, None, |body| body["hits"]["total"]["value"] == count).await;
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn events_of_syslog_and_http_go_all_the_way() {
    local(async {
        let platform = Platform::start(None).await.expect("a platform");
        let (syslog, http) = (run_from([1; 8]), run_from([2; 8]));
        let to = address(&platform, "demo_syslog");
        let mut stream = TcpStream::connect(to.strip_prefix("tcp://").expect("tcp"))
            .await
            .expect("a connection");
        for (n, event) in round("syslog", &syslog, Format::Rfc5424, 7).iter().enumerate() {
            // Counted octets and lines, mixed on one connection.
            let mut frame = Vec::new();
            if n % 2 == 0 {
                frame.extend(format!("{} ", event.payload.len()).bytes());
                frame.extend(&event.payload);
            } else {
                frame.extend(&event.payload);
                frame.push(b'\n');
            }
            stream.write_all(&frame).await.expect("written");
        }
        by_http(&platform, &round("http", &http, Format::Json, 5)).await;
        stored(&platform, &syslog, 7).await;
        stored(&platform, &http, 5).await;

        let alerts = format!(
            "{}/api/v2/alerts?filter=way_in%3D%22syslog%22",
            address(&platform, "demo_alertmanager")
        );
        until("the alerts", &alerts, None, |body| {
            body.as_array().is_some_and(|all| all.len() == 1)
                && body[0]["labels"]["greenlight_run"] == *syslog
        })
        .await;
        let query = "sum(embedded_failed_logins{way_in=\"http\"})";
        let body = json!({"queries": [{"refId": "A", "expr": query}]});
        let panel = format!("{}/api/ds/query", address(&platform, "demo_grafana"));
        until("the panel", &panel, Some(&body), |body| {
            body["results"]["A"]["frames"][0]["data"]["values"][1][0] == 5
        })
        .await;
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let prometheus =
            format!("{}/api/v1/query?query={query}", address(&platform, "demo_prometheus"));
        until("the query", &prometheus, None, |body| body["data"]["result"][0]["value"][1] == "5")
            .await;

        platform.stop().await;
        assert!(ask(&alerts, None).await.is_none(), "its ports are closed");
    });
}

async fn ask_nobody(platform: &Platform) -> Vec<bool> {
    let mut refused = Vec::new();
    for name in ["demo_kafka_in", "demo_syslog", "demo_http"] {
        let text = address(platform, name);
        let text = text.trim_start_matches("tcp://").trim_start_matches("http://");
        let text = text.split('/').next().expect("an address");
        let error = TcpStream::connect(text).await.err().map(|error| error.kind());
        refused.push(error == Some(std::io::ErrorKind::ConnectionRefused));
    }
    refused
}

#[test]
fn a_broken_way_in_refuses_connections_or_events() {
    local(async {
        let platform = Platform::start(Some(Stage::Sent)).await.expect("a platform");
        assert_eq!(ask_nobody(&platform).await, [true, true, true]);
        platform.stop().await;

        let platform = Platform::start(Some(Stage::Accepted)).await.expect("a platform");
        assert_eq!(ask_nobody(&platform).await, [false, false, false]);
        let status = ask(&address(&platform, "demo_http"), Some(&json!({"message": "m"}))).await;
        assert_eq!(status.map(|(status, _)| status), Some(503));
        assert_ne!(address(&platform, "demo_kafka_in"), address(&platform, "demo_kafka"));
        platform.stop().await;
    });
}

#[test]
fn the_webhook_is_told_once_of_each_alert() {
    local(async {
        for broken in [None, Some(Stage::Notified)] {
            let told: Arc<Mutex<Vec<Value>>> = Arc::default();
            let (listener, address) = listen().await.expect("a port");
            let hook = axum::Router::new().route(
                "/hook",
                axum::routing::post({
                    let told = Arc::clone(&told);
                    move |axum::Json(body): axum::Json<Value>| async move {
                        locked(&told).push(body);
                    }
                }),
            );
            let served = tokio::spawn(async move { axum::serve(listener, hook).await });
            let platform = Platform::start(broken).await.expect("a platform");
            platform.notify(&format!("http://{address}/hook"));
            let run = run_from([3; 8]);
            by_http(&platform, &round("http", &run, Format::Json, 9)).await;
            stored(&platform, &run, 9).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let bodies = locked(&told).clone();
            match broken {
                None => {
                    assert_eq!(bodies.len(), 1, "{bodies:?}");
                    assert_eq!(bodies[0]["alerts"][0]["labels"]["greenlight_run"], *run);
                    assert_eq!(bodies[0]["version"], "4");
                }
                Some(_) => assert!(bodies.is_empty(), "{bodies:?}"),
            }
            platform.stop().await;
            served.abort();
        }
    });
}
