//! A platform that asks to slow down gets fewer rounds, and each is accounted for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::command::{Daemon, folder_with};
use crate::http::server::{Act, Received, Server};

#[tokio::test(flavor = "multi_thread")]
async fn rounds_are_left_out_while_a_platform_asks_to_slow_down() {
    let busy = Arc::new(AtomicBool::new(true));
    let asks = busy.clone();
    let server = Server::start(move |request: &Received| {
        if request.path.starts_with("/search") {
            return Act::json("[]");
        }
        if asks.load(SeqCst) {
            return Act::Answer(429, vec![("retry-after", "60".into())], "slow down".into());
        }
        Act::status(201)
    })
    .await;
    let (folder, plan) = folder_with(&format!(
        "node: {{ name: n1 }}\njourneys:\n  - id: web\n    every: 1s\n    timeout: 500ms\n    \
         send: {{ http: {{ to: '{}' }} }}\n    events: {{ count: 1 }}\n    stages:\n      \
         - stored: {{ json_api: {{ url: '{}', items: '.[]' }}, within: 300ms, give_up: 300ms, poll: 100ms }}\n",
        server.url("/in"),
        server.url("/search")
    ));
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let metric = |name: &str, labels: &[&str]| {
        daemon.metric(&format!("greenlight_journey_{name}"), labels).unwrap_or(0.0)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while metric("rounds_spared_total", &["\"web\""]) < 3.0 {
        assert!(Instant::now() < deadline, "no round was left out");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // It is asked on, so that the windows of gates have no gap, and is heard when it has room again.
    busy.store(false, SeqCst);
    let spared = metric("rounds_spared_total", &["\"web\""]);
    let accepted = ["\"web\"", "\"accepted\"", "\"ok\""];
    while metric("events_total", &accepted) < 3.0 {
        assert!(Instant::now() < deadline, "it was never sent to again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = metric("events_total", &["\"web\"", "\"accepted\"", "\"refused\""]);
    assert!(refused >= 3.0, "{refused} refused");
    assert!(metric("rounds_spared_total", &["\"web\""]) <= spared + 1.0, "it is spared no longer");
}
