//! OpenSearch and Elasticsearch.

use greenlight::confirm::search::{Elasticsearch, OpenSearch};

use super::*;
use crate::peers;

#[tokio::test]
async fn opensearch_finds_exactly_the_rounds_documents() {
    let peer = peers::opensearch();
    finds_exactly_the_rounds_documents::<OpenSearch>(&peer.url, |index, documents| {
        peer.index(index, documents);
    })
    .await;
}

#[tokio::test]
async fn elasticsearch_finds_exactly_the_rounds_documents() {
    let peer = peers::elasticsearch();
    finds_exactly_the_rounds_documents::<Elasticsearch>(&peer.url, |index, documents| {
        peer.index(index, documents);
    })
    .await;
}

async fn finds_exactly_the_rounds_documents<C: Confirmer>(
    url: &str,
    store: impl Fn(&str, &[Value]),
) {
    let index = unique("logs");
    let spec = |index: &str| json!({"url": url, "index": index});
    let (ours, others) = (events(RUN, 5), events(OTHER, 3));
    // Event 3 is there twice, event 4 lost its fields, and another round has its own.
    let mut stored: Vec<Value> =
        ours.iter().chain(&others).chain(&ours[3..4]).map(document).collect();
    stored[4] = json!({"message": format!("<134>1 - h a - - - {}", ours[4].message)});
    // A parser that lost the text kept the fields, nested.
    stored[2] = json!({"message": "-", "greenlight": {"run": RUN, "seq": 2, "crc": ours[2].crc}});
    store(&index, &stored);

    let seen = look::<C>(spec(&index), round(5)).await;
    assert_eq!(horizon(&seen), "complete", "{:?}", seen.horizon);
    assert_eq!(seqs(&seen), [0, 1, 2, 3, 3, 4]);
    let first = seen.arrivals.iter().find(|arrival| arrival.seq == Some(0)).expect("it is there");
    assert_eq!(first.text.as_deref(), Some(ours[0].message.as_str()));
    assert_eq!(first.fields, document(&ours[0]).as_object().cloned());
    // The same copies however often it is looked at, also by a pattern.
    let again = look::<C>(spec(&format!("{index}*")), round(5)).await;
    let copies = |look: &Look| {
        let mut copies: Vec<String> = look.arrivals.iter().map(|a| a.copy.clone()).collect();
        copies.sort_unstable();
        copies
    };
    assert_eq!(copies(&seen), copies(&again));

    // An index that is not there holds nothing; a pattern that matches none tells nothing.
    let nowhere = unique("nowhere");
    assert_eq!(saw(&look::<C>(spec(&nowhere), round(5)).await), ("complete", 0));
    assert_eq!(saw(&look::<C>(spec(&format!("{nowhere}*")), round(5)).await), ("blind", 0));
    // What the cluster refuses is not "not there".
    let mut wrong = spec(&index);
    wrong["query"] = json!({"no_such_query": {}});
    assert_eq!(saw(&look::<C>(wrong, round(5)).await), ("blind", 0));

    // More than one answer holds.
    let many = unique("many");
    let all = events(RUN, 2_300);
    let documents: Vec<Value> = all.iter().map(document).collect();
    for part in documents.chunks(500) {
        store(&many, part);
    }
    let seen = look::<C>(spec(&many), round(2_300)).await;
    assert_eq!(horizon(&seen), "complete", "{:?}", seen.horizon);
    assert_eq!(seqs(&seen), (0..2_300).collect::<Vec<_>>());
}

fn page(change: impl Fn(&mut Value)) -> Act {
    let ours = events(RUN, 2);
    let hits: Vec<Value> =
        ours.iter().map(|event| json!({"_id": event.token, "_source": document(event)})).collect();
    let mut answer = json!({
        "timed_out": false,
        "_scroll_id": "s1",
        "_shards": {"total": 2, "successful": 2, "skipped": 0, "failed": 0},
        "hits": {"total": {"value": 2, "relation": "eq"}, "hits": hits},
    });
    change(&mut answer);
    Act::json(answer.to_string())
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_no_absence() {
    let no_index = json!({"error": {"type": "index_not_found_exception"}, "status": 404});
    let other_404 = json!({"error": {"type": "resource_not_found_exception"}, "status": 404});
    let answer = |status, body: &Value| Act::Answer(status, Vec::new(), body.to_string());
    let more = |value: u64| page(move |answer| answer["hits"]["total"]["value"] = value.into());
    let none = || page(|answer| answer["hits"]["hits"] = json!([]));
    for (what, acts, expected) in [
        ("whole", vec![page(|_| {})], ("complete", 2)),
        ("timed out", vec![page(|a| a["timed_out"] = true.into())], ("blind", 0)),
        ("a shard failed", vec![page(|a| a["_shards"]["failed"] = 1.into())], ("blind", 0)),
        ("no shard", vec![page(|a| a["_shards"]["total"] = 0.into())], ("blind", 0)),
        (
            "not counted",
            vec![page(|a| a["hits"]["total"]["relation"] = "gte".into())],
            ("blind", 0),
        ),
        ("no total", vec![page(|a| a["hits"]["total"] = Value::Null)], ("blind", 0)),
        (
            "no source",
            vec![page(|a| a["hits"]["hits"][0]["_source"] = Value::Null)],
            ("partial", 1),
        ),
        ("no index", vec![answer(404, &no_index)], ("complete", 0)),
        ("another 404", vec![answer(404, &other_404)], ("blind", 0)),
        ("a proxy's 404", vec![Act::status(404)], ("blind", 0)),
        ("denied", vec![Act::status(401)], ("denied", 0)),
        ("forbidden", vec![Act::status(403)], ("denied", 0)),
        ("throttled", vec![Act::status(429)], ("blind", 0)),
        ("red", vec![Act::status(503)], ("blind", 0)),
        ("reset", vec![Act::Reset], ("blind", 0)),
        ("scrolled to its end", vec![more(4), more(4), more(4)], ("complete", 4)),
        ("scrolled, and some are missing", vec![more(4), more(4), none()], ("partial", 2)),
        ("the scroll fails", vec![more(4), more(4), Act::status(500)], ("partial", 2)),
        ("the scroll is not offered", vec![more(4), Act::status(400)], ("blind", 0)),
    ] {
        let server = scripted(acts).await;
        let spec = json!({"url": server.url("/"), "index": "logs"});
        let seen = look::<OpenSearch>(spec, round(2)).await;
        assert_eq!(saw(&seen), expected, "{what}: {:?}", seen.horizon);
    }
    let server = scripted(vec![Act::Answer(404, Vec::new(), no_index.to_string())]).await;
    let spec = json!({"url": server.url("/"), "index": "logs-a,logs-b"});
    assert_eq!(saw(&look::<OpenSearch>(spec, round(2)).await), ("blind", 0), "which of the two?");
    let asked = server.seen();
    assert!(asked[0].path.contains("allow_partial_search_results=false"), "{}", asked[0].path);
    assert!(!asked[0].path.contains("refresh"), "it would make the look change what it sees");
}
