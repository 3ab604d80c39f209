//! How what journeys left is deleted: what `plan` says is run as it stands, against real stores.

use greenlight::confirm::clickhouse::ClickHouse;
use greenlight::confirm::postgres::Postgres;
use greenlight::confirm::search::OpenSearch;
use serde_json::{Value, json};

use super::postgres::{spec as postgres_spec, table};
use super::*;
use crate::command::{folder_with, greenlight, out};
use crate::peers;

/// What the plan says of its one journey's stage `stored`.
fn said(kind: &str, spec: &Value) -> String {
    let (_folder, plan) = folder_with(&format!(
        "journeys:\n  - {{ id: logins, every: 1m, send: {{ http: {{ to: 'http://127.0.0.1:9/' }} }}, events: {{ count: 1 }}, \
         stages: [ {{ stored: {{ {kind}: {spec} }} }} ] }}\n"
    ));
    let whole: Value =
        serde_json::from_str(&out(&greenlight(&["plan", "-c", &plan, "-o", "json"])))
            .expect("JSON");
    let one = &whole["purge"][0];
    assert_eq!(
        (&one["journey"], &one["stage"], &one["kind"]),
        (&json!("logins"), &json!("stored"), &json!(kind))
    );
    let how = one["how"].as_str().expect("a text").to_owned();
    let text = out(&greenlight(&["plan", "-c", &plan]));
    assert!(text.contains(&format!("logins at stored ({kind}):\n    {how}\n")), "{text}");
    how
}

#[tokio::test]
async fn a_purge_of_opensearch_takes_what_is_synthetic_and_leaves_the_rest() {
    let peer = peers::opensearch();
    let index = unique("purge");
    let mut documents: Vec<Value> = events(RUN, 3).iter().map(document).collect();
    // Stored without its fields, as a broken parser would.
    documents.push(json!({"message": events(OTHER, 1)[0].message}));
    let others = [
        json!({"message": "a real login", "greenlight.run": "gl0000000"}),
        json!({"message": "another's synthetic login", "user_agent.synthetic.type": "test"}),
        json!({"message": "glow", "user_agent.synthetic.type": "test", "greenlight.run": "glossaries"}),
    ];
    documents.extend(others);
    peer.index(&index, &documents);
    let spec = json!({"url": peer.url, "index": index});
    assert_eq!(saw(&look::<OpenSearch>(spec.clone(), round(3)).await), ("complete", 3));
    let command = said("opensearch", &spec);
    let done = peers::run("sh", "dash curl", &["-c", &format!("{command} -sS -f")], "");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    let answer: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&answer["deleted"], &answer["total"]), (&json!(4), &json!(4)), "{answer}");
    assert_eq!(saw(&look::<OpenSearch>(spec, round(3)).await), ("complete", 0));
    let (_, left) = peers::get(&peer.at(&format!("{index}/_count"))).expect("it answers");
    assert!(left.contains("\"count\":3"), "{left}");
}

#[tokio::test]
async fn a_purge_of_postgres_takes_what_is_synthetic_and_leaves_the_rest() {
    let peer = peers::postgres();
    let table = table();
    peer.run(&format!("INSERT INTO {table} (run, message) VALUES ('web', 'a real login'), (NULL, 'another'), ('glossaries', 'x')"));
    let spec = postgres_spec(peer.port, &format!("SELECT * FROM {table} WHERE run = $1"));
    let statement = said("postgres", &spec);
    peer.run(&statement);
    assert_eq!(saw(&look::<Postgres>(spec, round(4)).await), ("complete", 0));
    let left = peer.run(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(left, "3", "{statement}");
}

#[tokio::test]
async fn a_purge_that_no_statement_can_do_is_said_in_words() {
    let both = "SELECT * FROM a, b WHERE run = $1";
    let how = said("postgres", &postgres_spec(5432, both));
    assert!(
        how.starts_with("delete the rows that this selects for any run") && how.ends_with(both),
        "{how}"
    );
    let query = "SELECT * FROM events WHERE run = '{run}'";
    let spec = json!({"url": "http://127.0.0.1:9/", "query": query});
    assert_eq!(
        said(ClickHouse::KIND, &spec),
        "ALTER TABLE events DELETE WHERE match(run, '^gl[0-9a-hjkmnp-tv-z]{8}$')"
    );
}
