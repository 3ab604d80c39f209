//! How what a journey left in a store is deleted, in words that can be run as they stand. Greenlight
//! itself deletes nothing.

use regex::Regex;
use serde_json::{Value, json};

/// What a run looks like, and a token, in the regular expressions that all stores understand: the
/// letters are those of the token's alphabet.
const DIGIT: &str = "[0-9a-hjkmnp-tv-z]";

pub(super) fn run_pattern() -> String {
    format!("gl{DIGIT}{{8}}")
}

pub(super) fn token_pattern() -> String {
    format!("{}o{DIGIT}{{4}}u{DIGIT}{{9}}i{DIGIT}{{4}}", run_pattern())
}

/// A command for a search cluster: documents that are marked as synthetic and name a run, and
/// those whose message holds a token.
pub(super) fn by_query(base: &str, index: &str, run: &str, message: &str) -> String {
    let marked = json!({"bool": {"filter": [
        {"term": {"user_agent.synthetic.type": "test"}},
        {"regexp": { run: run_pattern() }},
    ]}});
    let named = json!({"regexp": { message: token_pattern() }});
    let query: Value =
        json!({"query": {"bool": {"should": [marked, named], "minimum_should_match": 1}}});
    let url = format!(
        "{}/{index}/_delete_by_query?conflicts=proceed&refresh=true",
        base.trim_end_matches('/')
    );
    format!(
        "curl -X POST {} -H 'Content-Type: application/json' -d {}",
        quoted(&url),
        quoted(&query.to_string())
    )
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A statement made by `delete` from the table and the column that a query compares with the run;
/// where it is no such query, what is to be done.
pub(super) fn by_statement(query: &str, delete: impl Fn(&str, &str) -> String) -> String {
    match table_and_column(query) {
        Some((table, column)) => delete(&table, &column),
        None => format!(
            "delete the rows that this selects for any run, which matches {}: {query}",
            run_pattern()
        ),
    }
}

/// Of a query of one table with one condition.
fn table_and_column(query: &str) -> Option<(String, String)> {
    let simple = Regex::new(
        r#"(?is)^\s*select\s[^()]+?\sfrom\s+([\w."]+)\s+where\s+([\w."]+)\s*=\s*(?:\$1|'?\{run(?::\w+)?\}'?)\s*;?\s*$"#,
    );
    let found = simple.ok()?.captures(query)?;
    let part = |at| found.get(at).map(|part| part.as_str().to_owned());
    // A second table would be left as it is.
    let one = query.to_ascii_lowercase().matches("from").count() == 1;
    part(1).zip(part(2)).filter(|_| one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::Run;
    use crate::journey::event::{Token, run_from};

    #[test]
    fn patterns_are_those_of_runs_and_tokens() {
        let whole = |pattern: String| Regex::new(&format!("^{pattern}$")).unwrap();
        for number in 0..2_000_u64 {
            let bytes = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            let run: Run = run_from(bytes);
            let event = Token::new(&run, "s", number).render();
            assert!(whole(run_pattern()).is_match(&run), "{run}");
            assert!(whole(token_pattern()).is_match(&event), "{event}");
        }
        for other in ["gl0000000", "gl000000000", "glossaries", "gl0000000l"] {
            assert!(!whole(run_pattern()).is_match(other), "{other}");
        }
    }

    #[test]
    fn only_a_query_of_one_table_becomes_a_statement() {
        for (query, expected) in [
            ("SELECT * FROM events WHERE run = $1", Some(("events", "run"))),
            ("select a, b from soc.\"E\" where \"r.u\"=$1;", Some(("soc.\"E\"", "\"r.u\""))),
            ("SELECT * FROM t WHERE run = {run:String}", Some(("t", "run"))),
            ("SELECT * FROM t WHERE run = '{run}'", Some(("t", "run"))),
            ("SELECT * FROM t WHERE run = $1 AND seq > 3", None),
            ("SELECT * FROM a, b WHERE run = $1", None),
            ("SELECT * FROM a WHERE run = $1 UNION SELECT * FROM b WHERE run = $1", None),
            ("SELECT * FROM t WHERE $1 IN (run)", None),
        ] {
            let found = table_and_column(query);
            let found = found.as_ref().map(|(table, column)| (table.as_str(), column.as_str()));
            assert_eq!(found, expected, "{query}");
        }
    }
}
