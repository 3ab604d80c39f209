//! A JSON API that gives out its hits in parts.

use greenlight::confirm::json_api::JsonApi;

use super::*;

/// A part of the round's events, and what else the answer says.
fn part(from: usize, to: usize, more: Value) -> Act {
    let hits: Vec<Value> = events(RUN, 5)[from..to].iter().map(document).collect();
    let mut answer = json!({ "hits": hits });
    if let (Some(answer), Value::Object(more)) = (answer.as_object_mut(), more) {
        answer.extend(more);
    }
    Act::json(answer.to_string())
}

async fn read(acts: Vec<Act>, more: Value) -> (&'static str, Vec<u64>, Vec<String>) {
    let server = scripted(acts).await;
    let mut spec =
        json!({"url": server.url("/s?q={run}"), "items": ".hits[]", "id": ".\"greenlight.seq\""});
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    if let Some(path) = spec["url"].as_str().filter(|url| url.starts_with('/')) {
        spec["url"] = server.url(path).into();
    }
    let seen = look::<JsonApi>(spec, round(5)).await;
    let asked = server.seen().iter().map(|one| format!("{}{}", one.path, one.body)).collect();
    (horizon(&seen), seqs(&seen), asked)
}

#[tokio::test]
async fn json_api_reads_on_by_offset_cursor_and_link() {
    let offset = json!({"url": "/s?at={offset}", "limit": 2});
    let parts = || vec![part(0, 2, json!({})), part(2, 4, json!({})), part(4, 5, json!({}))];
    let (how, found, asked) = read(parts(), offset.clone()).await;
    assert_eq!((how, found), ("complete", vec![0, 1, 2, 3, 4]));
    assert_eq!(asked, ["/s?at=0", "/s?at=2", "/s?at=4"]);
    // A page that fails is a part that was not seen, and what was seen before stays seen.
    let (how, found, _) = read(vec![part(0, 2, json!({})), Act::status(500)], offset.clone()).await;
    assert_eq!((how, found), ("partial", vec![0, 1]));
    // What moved from one page to the next is one copy.
    let moved = vec![part(0, 2, json!({})), part(1, 3, json!({})), part(3, 4, json!({}))];
    let (how, found, _) = read(moved, offset).await;
    assert_eq!((how, found), ("complete", vec![0, 1, 2, 3]));

    let cursor = json!({"body": {"after": "{cursor}"}, "next": ".next"});
    let acts = vec![part(0, 3, json!({"next": "c2"})), part(3, 5, json!({"next": null}))];
    let (how, found, asked) = read(acts, cursor.clone()).await;
    assert_eq!((how, found), ("complete", vec![0, 1, 2, 3, 4]));
    assert_eq!(asked, ["/s?q=gl00000001{\"after\":\"\"}", "/s?q=gl00000001{\"after\":\"c2\"}"]);
    // The same page for ever is an end, and no whole one.
    let again = (0..500).map(|_| part(0, 0, json!({"next": "c1"}))).collect();
    let (how, _, asked) = read(again, cursor.clone()).await;
    assert_eq!((how, asked.len()), ("partial", 2));
    // Nor is one page after the other without an end.
    let endless = (0..500).map(|page| part(0, 1, json!({"next": page.to_string()}))).collect();
    let (how, found, asked) = read(endless, cursor).await;
    assert_eq!((how, found, asked.len()), ("partial", vec![0], 200));

    let link = json!({"next": ".links.next"});
    let acts = vec![part(0, 3, json!({"links": {"next": "/s?page=2"}})), part(3, 5, json!({}))];
    let (how, found, asked) = read(acts, link.clone()).await;
    assert_eq!((how, found, asked[1].as_str()), ("complete", vec![0, 1, 2, 3, 4], "/s?page=2"));
    // Credentials follow no link to another place.
    let elsewhere = vec![part(0, 3, json!({"links": {"next": "http://192.0.2.1/s"}}))];
    let (how, _, asked) = read(elsewhere, link).await;
    assert_eq!((how, asked.len()), ("blind", 1));
}

#[tokio::test]
async fn json_api_that_tells_of_an_error_or_shows_no_text_proves_nothing() {
    let part = |more| vec![part(0, 5, more)];
    let (how, found, _) = read(part(json!({"error": "a shard failed"})), json!({})).await;
    assert_eq!((how, found.len()), ("partial", 5));
    let (how, found, _) = read(part(json!({"error": null})), json!({})).await;
    assert_eq!((how, found.len()), ("complete", 5));

    let wrong = async |text: &str| {
        let server = scripted(part(json!({}))).await;
        let spec = json!({"url": server.url("/s?q={run}"), "items": ".hits[]", "text": text});
        let seen = look::<JsonApi>(spec, round(5)).await;
        let texts = seen.arrivals.iter().map(|a| a.wrong.as_ref().map(|why| why.text.clone()));
        texts.collect::<Vec<_>>()
    };
    assert_eq!(wrong(".message").await, vec![None; 5]);
    assert_eq!(wrong(".gone").await, vec![Some("it shows no text at `.gone`".to_owned()); 5]);
}
