//! The search API that OpenSearch and Elasticsearch share: all documents that match, or why not
//! all of them could be seen.
//!
//! What does not fit into one answer is read through a scroll: a snapshot that both have offered
//! since their first versions, without a sort. (`search_after` over a point in time needs a field
//! that is unique; OpenSearch 2 has none but `_id`, and to sort by that loads the ids of the whole
//! index into memory.)

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Clients;
use super::http::{Api, Request, Response, expect_success};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// Documents in one answer: of a usual size of 1 KiB they are far below what is read of one.
const PAGE: usize = 1_000;
/// How long the snapshot lives after each page.
const KEEP: &str = "1m";
/// The cluster gives up this much before we do, so that it can still say so.
const SOONER: Duration = Duration::from_millis(500);
/// To end the snapshot may take so long; it ends by itself after [`KEEP`].
const ENDING: Duration = Duration::from_secs(1);

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: String,
    pub source: Map<String, Value>,
}

/// What a search saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub documents: Vec<Document>,
    /// Why these are not all, where they may not be.
    pub lacking: Option<String>,
    /// The index does not exist (and was named without a wildcard).
    pub no_index: bool,
}

/// A name of an index or several with commas between, wildcards included, that can stand in a
/// path. The rule is the cluster's own (letters in lower case, none of `\ / * ? " < > | space , #`
/// within a name), with what selects among names let through.
pub fn check_index(index: &str) -> Result<(), String> {
    let good = |c: char| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || matches!(c, '-' | '_' | '.' | '*' | '+' | ':')
    };
    let whole = |name: &str| !name.is_empty() && !name.starts_with('_') && name.chars().all(good);
    if index.split(',').all(whole) {
        return Ok(());
    }
    Err(format!(
        "{index:?} names no index; write a name in lower case, or a pattern such as `logs-*`"
    ))
}

/// All documents of `index` that match `query`, `limit` of them at most.
pub async fn search(
    api: &Api,
    clients: &Clients,
    index: &str,
    query: &Value,
    limit: usize,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer, Trouble> {
    let asked = Asked { api, clients, trace, deadline: Instant::now() + timeout };
    let within = timeout.saturating_sub(SOONER).max(SOONER).as_millis();
    let body = json!({
        "size": PAGE,
        "track_total_hits": true,
        "timeout": format!("{within}ms"),
        "query": query,
    });
    // A shard that fails is an error of the whole, not a gap in the answer.
    let whole = ("allow_partial_search_results", "false");
    let path = format!("{index}/_search");
    let response = asked.post(api.at(&path, &[whole]), &body).await?;
    if response.status.as_u16() == 404 && !index.contains(['*', ',']) && says_no_index(&response) {
        return Ok(Answer { no_index: true, ..Answer::default() });
    }
    let first = page(&response)?;
    if first._shards.total == 0 {
        // With the security plugins on, a pattern silently leaves out what the user may not see.
        return Err(Trouble::reason(
            ReasonCode::NotFound,
            format!("`{index}` matches no index, or none that we may see"),
        ));
    }
    let mut answer = Answer::default();
    if first.hits.hits.len() as u64 >= first.hits.total.value {
        answer.take(first, limit);
        return Ok(answer);
    }
    let response = asked.post(api.at(&path, &[whole, ("scroll", KEEP)]), &body).await?;
    let mut next = page(&response)?;
    // Of the snapshot: the first page says how many it holds.
    let total = next.hits.total.value;
    loop {
        let scroll = next.scroll_id.take();
        let got = next.hits.hits.len();
        answer.take(next, limit);
        let full = answer.documents.len() >= limit;
        if full && total > answer.documents.len() as u64 {
            answer.lacks(format!("{total} documents match; {limit} of them were read"));
        }
        let Some(scroll) = scroll else {
            answer.lacks("the cluster gave no scroll to read on by");
            return Ok(answer);
        };
        if got == 0 || full || answer.documents.len() as u64 >= total {
            let missing = total.saturating_sub(answer.documents.len() as u64);
            if missing > 0 {
                answer.lacks(format!("{missing} of {total} documents were not given out"));
            }
            asked.end(scroll).await;
            return Ok(answer);
        }
        let body = json!({"scroll": KEEP, "scroll_id": scroll});
        let went_on = match asked.post(api.at("_search/scroll", &[]), &body).await {
            Ok(response) => page(&response),
            Err(trouble) => Err(trouble),
        };
        next = match went_on {
            Ok(page) => page,
            Err(trouble) => {
                answer.lacks(trouble.to_string());
                asked.end(scroll).await;
                return Ok(answer);
            }
        };
    }
}

struct Asked<'a> {
    api: &'a Api,
    clients: &'a Clients,
    trace: &'a Trace,
    deadline: Instant,
}

impl Asked<'_> {
    async fn post(&self, url: url::Url, body: &Value) -> Result<Response, Trouble> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.api.ask(self.clients, Request::post_json(url, body), left, self.trace).await
    }

    async fn end(&self, scroll: String) {
        let body = json!({"scroll_id": [scroll]});
        let mut request = Request::post_json(self.api.at("_search/scroll", &[]), &body);
        request.method = Method::DELETE;
        // Whatever comes of it: the snapshot ends by itself.
        drop(self.api.ask(self.clients, request, ENDING, self.trace).await);
    }
}

impl Answer {
    fn take(&mut self, page: Page, limit: usize) {
        for hit in page.hits.hits {
            if self.documents.len() >= limit {
                return;
            }
            match hit._source {
                Some(source) => self.documents.push(Document { id: hit._id, source }),
                None => self.lacks("the index keeps no `_source`: its documents can't be read"),
            }
        }
    }

    fn lacks(&mut self, why: impl Into<String>) {
        self.lacking.get_or_insert_with(|| why.into());
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "_scroll_id")]
    scroll_id: Option<String>,
    timed_out: bool,
    _shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    total: u64,
    #[serde(default)]
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    total: Total,
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
    relation: String,
}

#[derive(Deserialize)]
struct Hit {
    _id: String,
    #[serde(default)]
    _source: Option<Map<String, Value>>,
}

/// An answer that is one: a search that ran out of time, lost shards or did not count to the end
/// saw nothing that can be relied on.
fn page(response: &Response) -> Result<Page, Trouble> {
    expect_success(response)?;
    let wrong = |text: String| Trouble::reason(ReasonCode::ProtocolError, text);
    if let Some(encoding) = response.encoding() {
        return Err(wrong(format!("{} encodes its answer as {encoding}, unasked", response.url)));
    }
    let page: Page = serde_json::from_slice(&response.body).map_err(|error| {
        wrong(format!(
            "{} gave no answer of a search ({error}): {}",
            response.url,
            response.excerpt()
        ))
    })?;
    if page.timed_out {
        return Err(Trouble::reason(
            ReasonCode::Timeout,
            "the search ran out of time on the cluster",
        ));
    }
    if page._shards.failed > 0 {
        let text = format!("{} of {} shards failed", page._shards.failed, page._shards.total);
        return Err(Trouble::reason(ReasonCode::UnexpectedStatus, text));
    }
    if page.hits.total.relation != "eq" {
        return Err(wrong(format!(
            "the hits were not counted to the end ({})",
            page.hits.total.value
        )));
    }
    Ok(page)
}

/// Whether it is the cluster that says 404, and of the index: a proxy's is none of its answers.
fn says_no_index(response: &Response) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error: Why,
    }
    #[derive(Deserialize)]
    struct Why {
        r#type: String,
    }
    serde_json::from_slice::<Refusal>(&response.body)
        .is_ok_and(|refusal| refusal.error.r#type == "index_not_found_exception")
}
