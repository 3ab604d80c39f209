//! Loki, VictoriaLogs and Splunk by their answers: whole, broken, and mutated.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use greenlight::confirm::loki::Loki;
use greenlight::confirm::splunk::Splunk;
use greenlight::confirm::victorialogs::VictoriaLogs;
use proptest::prelude::*;

use super::*;

/// When the round began, in nanoseconds.
const BEGAN: i64 = 1_700_000_000_000_000_000;

/// The answer of a fixture, behind the line that says where it comes from.
pub(super) fn recorded(name: &str) -> String {
    let path = format!("{}/tests/fixtures/stores/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (head, body) = text.split_once('\n').expect("a head");
    assert!(head.starts_with("recorded from ") || head.starts_with("written from "), "{head}");
    body.to_owned()
}

fn loki(server: &Server, limit: u32) -> Value {
    json!({"url": server.url(""), "query": "{app=\"web\"} | json", "limit": limit})
}

#[tokio::test]
async fn loki_reads_page_by_page() {
    let server = scripted(vec![Act::json(recorded("loki.json"))]).await;
    let mut spec = loki(&server, 100);
    spec["tenant"] = "blue".into();
    let seen = look::<Loki>(spec, round(3)).await;
    assert_eq!((horizon(&seen), seqs(&seen)), ("complete", vec![0, 1, 2]), "{:?}", seen.horizon);
    let text = document(&events(RUN, 1)[0])["message"].as_str().map(str::to_owned);
    let first = seen.arrivals.iter().find(|arrival| arrival.seq == Some(0)).expect("it is there");
    assert_eq!(first.fields.as_ref().expect("fields")["message"].as_str(), text.as_deref());
    let asked = &server.seen()[0];
    assert_eq!(asked.header("x-scope-orgid"), Some("blue"));
    let query = "query=%7Bapp%3D%22web%22%7D+%7C%3D+%22gl00000001%22+%7C+json&";
    assert!(
        asked.path.contains(query) && asked.path.contains("direction=forward"),
        "{}",
        asked.path
    );
}

fn entries(values: &[(i64, u64)]) -> Act {
    let events = events(RUN, 10);
    let values: Vec<Value> = values
        .iter()
        .map(|(at, seq)| {
            json!([(BEGAN + at).to_string(), events[usize::try_from(*seq).unwrap()].message])
        })
        .collect();
    Act::json(
        json!({"status": "success", "data": {"resultType": "streams", "result": [
            {"stream": {"app": "web"}, "values": values}
        ]}})
        .to_string(),
    )
}

#[tokio::test]
async fn loki_pages_overlap_at_one_instant_and_a_full_instant_is_not_complete() {
    for (what, acts, expected, found) in [
        ("an empty answer", vec![entries(&[])], "complete", vec![]),
        (
            "three pages",
            vec![entries(&[(1, 0), (2, 1)]), entries(&[(2, 1), (2, 2)]), entries(&[(2, 1)])],
            "partial",
            vec![0, 1, 2],
        ),
        (
            "pages that end",
            vec![entries(&[(1, 0), (2, 1)]), entries(&[(2, 1), (3, 2)]), entries(&[(3, 2)])],
            "complete",
            vec![0, 1, 2],
        ),
        ("a page fails", vec![entries(&[(1, 0), (2, 1)]), Act::status(500)], "partial", vec![0, 1]),
        ("refused", vec![Act::status(400)], "blind", vec![]),
        ("no tenant", vec![Act::status(401)], "denied", vec![]),
    ] {
        let server = scripted(acts).await;
        let seen = look::<Loki>(loki(&server, 2), round(3)).await;
        assert_eq!((horizon(&seen), seqs(&seen)), (expected, found), "{what}: {:?}", seen.horizon);
    }
    let mut warned: Value = serde_json::from_str(&recorded("loki.json")).expect("JSON");
    warned["warnings"] = json!(["some shards did not answer"]);
    let server = scripted(vec![Act::json(warned.to_string())]).await;
    assert_eq!(saw(&look::<Loki>(loki(&server, 100), round(3)).await), ("partial", 3));
}

#[tokio::test]
async fn victorialogs_reads_lines_to_their_end() {
    let lines = recorded("victorialogs.jsonl");
    let cut = lines.trim_end().to_owned();
    let spec = |server: &Server| json!({"url": server.url(""), "query": "{app=\"web\"}"});
    for (what, act, expected) in [
        ("whole", Act::json(lines.clone()), ("complete", 3)),
        ("nothing", Act::json(""), ("complete", 0)),
        ("no last line feed", Act::json(cut), ("blind", 0)),
        ("an error in the middle", Act::json(format!("{lines}cannot read block\n")), ("blind", 0)),
        ("refused", Act::status(400), ("blind", 0)),
    ] {
        let server = scripted(vec![act]).await;
        let seen = look::<VictoriaLogs>(spec(&server), round(3)).await;
        assert_eq!(saw(&seen), expected, "{what}: {:?}", seen.horizon);
    }
    // A row that is there twice is a second copy.
    let server = scripted(vec![Act::json(format!("{lines}{lines}"))]).await;
    let seen = look::<VictoriaLogs>(spec(&server), round(3)).await;
    assert_eq!(seqs(&seen), [0, 0, 1, 1, 2, 2]);
    // Full pages are counted afterwards.
    let events = events(RUN, 2_100);
    let row = |event: &Event| format!("{}\n", json!({"_msg": event.message, "_time": "t"}));
    let [first, rest]: [String; 2] =
        [&events[..2_000], &events[2_000..]].map(|part| part.iter().map(row).collect());
    for (counted, expected) in [("2100", ("complete", 2_100)), ("2101", ("partial", 2_100))] {
        let count = Act::json(format!("{{\"rows\":\"{counted}\"}}\n"));
        let server = scripted(vec![Act::json(first.clone()), Act::json(rest.clone()), count]).await;
        let seen = look::<VictoriaLogs>(spec(&server), round(2_100)).await;
        assert_eq!(saw(&seen), expected, "{:?}", seen.horizon);
    }
    // A row that two pages show hides one that none does: it is no copy, and nothing is lost for it.
    // Where pages meet, equal rows are copies.
    let [overlap, seam] = [1_000, 1_999].map(|again| {
        let first = events[..2_000].iter().chain([&events[again]]);
        let all: Vec<String> = first.chain(&events[2_000..2_099]).map(row).collect();
        [all[..2_000].concat(), all[2_000..].concat()]
    });
    for ([first, rest], expected) in [(overlap, ("partial", 2_099)), (seam, ("complete", 2_100))] {
        let count = Act::json("{\"rows\":\"2100\"}\n");
        let server = scripted(vec![Act::json(first), Act::json(rest), count]).await;
        let seen = look::<VictoriaLogs>(spec(&server), round(2_100)).await;
        assert_eq!(saw(&seen), expected, "{:?}", seen.horizon);
        let asked = &server.seen()[0].body;
        assert!(asked.contains("_msg") && asked.contains("greenlight.seq"), "{asked}");
    }
}

fn job(state: &str, results: u64, messages: Value) -> Act {
    Act::json(
        json!({"entry": [{"name": "search", "content": {
            "dispatchState": state, "isDone": state == "DONE", "isFailed": state == "FAILED",
            "resultCount": results, "messages": messages,
        }}]})
        .to_string(),
    )
}

#[tokio::test]
async fn splunk_awaits_its_job_and_heeds_its_messages() {
    let made = || Act::Answer(201, Vec::new(), r#"{"sid":"1700000000.5/a b"}"#.into());
    let results = || Act::json(recorded("splunk-results.json"));
    let bare = |change: fn(&mut Value)| {
        let mut answer: Value =
            serde_json::from_str(&recorded("splunk-results.json")).expect("JSON");
        change(&mut answer);
        Act::json(answer.to_string())
    };
    let warn = json!([{"type": "WARN", "text": "peer down, results are incomplete"}]);
    let info = json!([{"type": "INFO", "text": "your timerange was substituted"}]);
    let none = || json!([]);
    for (what, acts, expected) in [
        (
            "done at the third question",
            vec![
                made(),
                job("QUEUED", 0, none()),
                job("RUNNING", 1, none()),
                job("DONE", 3, info),
                results(),
            ],
            ("complete", 3),
        ),
        ("a peer is down", vec![made(), job("DONE", 3, warn), results()], ("partial", 3)),
        (
            "the results complain",
            vec![
                made(),
                job("DONE", 3, none()),
                bare(|a| a["messages"] = json!([{"type": "ERROR", "text": "x"}])),
            ],
            ("partial", 3),
        ),
        (
            "a preview",
            vec![made(), job("DONE", 3, none()), bare(|a| a["preview"] = true.into())],
            ("partial", 3),
        ),
        ("failed", vec![made(), job("FAILED", 0, none())], ("blind", 0)),
        (
            "fewer than counted",
            vec![made(), job("DONE", 5, none()), results(), bare(|a| a["results"] = json!([]))],
            ("partial", 3),
        ),
        (
            "the second page fails",
            vec![made(), job("DONE", 5, none()), results(), Act::status(503)],
            ("partial", 3),
        ),
        (
            "nothing found",
            vec![made(), job("DONE", 0, none()), bare(|a| a["results"] = json!([]))],
            ("complete", 0),
        ),
        ("refused", vec![Act::status(400)], ("blind", 0)),
        ("a bad token", vec![Act::status(401)], ("denied", 0)),
        ("the job is gone", vec![made(), Act::status(404)], ("blind", 0)),
    ] {
        let server = scripted(acts).await;
        let spec = json!({"url": server.url(""), "search": "index=main"});
        let seen = look::<Splunk>(spec, round(3)).await;
        assert_eq!(saw(&seen), expected, "{what}: {:?}", seen.horizon);
    }
    let server = scripted(vec![made(), job("DONE", 3, none()), results()]).await;
    let spec = json!({"url": server.url(""), "search": "index=main"});
    let seen = look::<Splunk>(spec, round(3)).await;
    assert!(seen.arrivals[0].copy.contains('/'), "bucket and address: {}", seen.arrivals[0].copy);
    let asked = server.seen();
    assert!(
        asked[0].body.starts_with("search=search+index%3Dmain+gl00000001*&"),
        "{}",
        asked[0].body
    );
    assert!(
        asked[1].path.starts_with("/services/search/v2/jobs/1700000000.5"),
        "{}",
        asked[1].path
    );
    let last = asked.last().expect("asked");
    assert_eq!(last.method, "DELETE", "the job is not left behind");
}

/// What was cut off is never taken for all there is, and what was mangled brings no panic and no
/// event that is not of the round.
#[test]
fn mutated_answers() {
    static TRIED: AtomicU64 = AtomicU64::new(0);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bodies = ["loki.json", "victorialogs.jsonl", "splunk-results.json"]
        .map(|name| recorded(name).into_bytes());
    let config =
        ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(which in 0..3_usize, at: prop::sample::Index, byte: u8, cut: bool)| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let mut body = bodies[which].clone();
        let place = at.index(body.len());
        if cut { body.truncate(place); } else { body[place] = byte; }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = Act::Raw([head.as_bytes(), &body].concat());
        let seen = runtime.block_on(async {
            match which {
                0 => {
                    let server = scripted(vec![answer]).await;
                    look::<Loki>(loki(&server, 100), round(3)).await
                }
                1 => {
                    let server = scripted(vec![answer]).await;
                    look::<VictoriaLogs>(json!({"url": server.url("")}), round(3)).await
                }
                _ => {
                    let made = Act::Answer(201, Vec::new(), r#"{"sid":"1"}"#.into());
                    let server = scripted(vec![made, job("DONE", 3, json!([])), answer]).await;
                    look::<Splunk>(json!({"url": server.url(""), "search": "index=main"}), round(3)).await
                }
            }
        });
        let distinct: BTreeSet<u64> = seqs(&seen).into_iter().collect();
        prop_assert!(seen.arrivals.len() <= 4, "{:?}", seen.arrivals.len());
        // Lines that end with their line feed are whole lines: HTTP says where the last one is.
        let line_end = which == 1 && (place == 0 || body.last() == Some(&b'\n'));
        if cut && !line_end && distinct.len() < 3 {
            prop_assert_ne!(horizon(&seen), "complete", "cut at {}", place);
        }
    });
    eprintln!("property mutated answers of stores: {} inputs", TRIED.load(Ordering::Relaxed));
}
