//! A peer that means harm costs one bounded attempt, and is never believed.

use greenlight::confirm::clickhouse::ClickHouse;
use greenlight::confirm::json_api::JsonApi;
use greenlight::confirm::loki::Loki;
use greenlight::confirm::search::{Elasticsearch, OpenSearch};
use greenlight::confirm::splunk::Splunk;
use greenlight::confirm::victorialogs::VictoriaLogs;

use super::*;

/// The time of one look here.
const SHORT: Duration = Duration::from_millis(1_500);

fn answer(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn harms() -> Vec<(&'static str, Act)> {
    let chunked = "transfer-encoding: chunked\r\n";
    let gzip = {
        use std::io::Write;
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b'['; 16 * 1024 * 1024]).expect("memory");
        bomb.finish().expect("memory")
    };
    let packed = format!("content-encoding: gzip\r\ncontent-length: {}\r\n", gzip.len());
    let deep = vec![b'['; 200_000];
    let length = |body: &[u8]| format!("content-length: {}\r\n", body.len());
    let wide = format!("{{\"hits\":[{}0]}}\n", "0,".repeat(500_000));
    let wrong =
        br#"{"hits":7,"entry":"x","data":[],"rows":{},"sid":3,"timed_out":"no","_shards":[]}"#;
    let binary = [b"{\"sid\":\"\xff\xfe\",\"x\":\"" as &[u8], &[0xc3, 0x28, 0x80], b"\"}"].concat();
    vec![
        ("an endless body", Act::Endless(b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[")),
        ("an endless answer", {
            let mut start = answer(chunked, b"");
            start.extend_from_slice(b"3b9aca00\r\n");
            Act::Stall(start)
        }),
        ("a gigabyte promised", Act::Stall(answer("content-length: 1000000000\r\n", b"{"))),
        ("a bomb", Act::Raw(answer(&packed, &gzip))),
        ("a depth", Act::Raw(answer(&length(&deep), &deep))),
        ("a breadth", Act::Raw(answer(&length(wide.as_bytes()), wide.as_bytes()))),
        ("wrong types", Act::Raw(answer(&length(wrong), wrong))),
        ("no UTF-8", Act::Raw(answer(&length(&binary), &binary))),
        ("a half answer", Act::Raw(answer("content-length: 100\r\n", b"{\"hits\""))),
        ("no HTTP", Act::Raw(vec![0x15, 0x03, 0x03, 0, 2, 2, 40])),
        ("silence", Act::Stall(Vec::new())),
        (
            "a slow drip",
            Act::After(
                Duration::from_millis(300),
                Box::new(Act::Stall(answer(chunked, b"1\r\n{\r\n"))),
            ),
        ),
    ]
}

async fn withstands<C: Confirmer>(more: Value) {
    for (what, act) in harms() {
        let server = scripted(vec![act]).await;
        let mut spec = more.clone();
        spec["url"] = server.url("/").into();
        let mut watch = Watch::<C>::new(spec, round(2));
        watch.timeout = SHORT;
        watch.begin().await.expect("it can begin");
        let began = Instant::now();
        let seen = watch.look().await;
        let took = began.elapsed();
        assert_eq!(saw(&seen), ("blind", 0), "{} and {what}: {:?}", C::KIND, seen.horizon);
        // Generous: the machine may be busy, and what is asserted is that there is an end.
        assert!(took < SHORT * 10, "{} and {what} took {took:?}", C::KIND);
    }
}

#[tokio::test]
async fn search_clusters() {
    withstands::<OpenSearch>(json!({"index": "logs"})).await;
    withstands::<Elasticsearch>(json!({"index": "logs"})).await;
}

#[tokio::test]
async fn log_stores() {
    withstands::<Loki>(json!({"query": "{app=\"web\"}"})).await;
    withstands::<VictoriaLogs>(json!({})).await;
    withstands::<Splunk>(json!({"search": "index=main"})).await;
}

#[tokio::test]
async fn others() {
    withstands::<ClickHouse>(json!({"query": "SELECT * FROM t WHERE run = '{run}'"})).await;
    withstands::<JsonApi>(json!({"items": ".hits.hits[]"})).await;
}
