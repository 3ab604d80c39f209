//! Whose a text is: this round's, another round's, or nobody's.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Sought;
use crate::journey::event::{Token, contains_run, is_run};
use crate::journey::reconcile::mark;
use crate::time::Wall;

/// The round's events that a text and its fields speak of: by token; or, where a pipeline has lost
/// the text, by the fields of their own; or by a token that was cut, where both are lost.
pub(super) fn events(
    text: &str,
    fields: Option<&Map<String, Value>>,
    sought: &Sought,
) -> BTreeSet<u64> {
    let mut found: BTreeSet<u64> = Token::find_all(text)
        .filter(|token| token.run == sought.run)
        .map(|token| token.seq)
        .collect();
    if found.is_empty()
        && let Some(fields) = fields
    {
        if mark(fields, "run").and_then(Value::as_str) == Some(&*sought.run) {
            found.extend(mark(fields, "seq").and_then(number));
        }
        if found.is_empty() {
            found.extend(in_fields(fields, sought));
        }
    }
    if found.is_empty() {
        let cut = Token::cut_off(text, &sought.run).filter(|seq| is_of(*seq, sought));
        found.extend(cut);
    }
    found
}

/// Tokens in any field, at any depth: a parser may have put the text anywhere.
fn in_fields(fields: &Map<String, Value>, sought: &Sought) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut rest: Vec<&Value> = fields.values().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => found.extend(
                Token::find_all(text).filter(|t| t.run == sought.run).map(|token| token.seq),
            ),
            Value::Array(items) => rest.extend(items),
            Value::Object(inner) => rest.extend(inner.values()),
            _ => {}
        }
    }
    found
}

fn is_of(seq: u64, sought: &Sought) -> bool {
    seq.checked_sub(sought.first_seq).is_some_and(|place| place < sought.count)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// An alert or a notification is this round's where it names the round. One that names another
/// round never is. One that names none is where it began after the round: rules that aggregate
/// carry no token.
pub(super) fn is_ours<'a>(
    texts: impl Iterator<Item = &'a str>,
    began: Option<Wall>,
    sought: &Sought,
) -> bool {
    let mut anothers = false;
    for text in texts {
        if contains_run(text, &sought.run) {
            return true;
        }
        anothers |= Token::find_all(text).next().is_some()
            || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_run);
    }
    // The clocks of two machines that are kept in time agree to well under a second.
    let since = sought.began.wall.minus(std::time::Duration::from_secs(1));
    !anothers && began.is_some_and(|began| began >= since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journey::{Run, Stage};
    use crate::time::{Mono, Now};

    fn sought(run: &str) -> Sought {
        Sought {
            journey: "j".into(),
            run: Run::from(run),
            stage: Stage::Alerted,
            first_seq: 0,
            count: 3,
            sent: 3,
            equals: None,
            began: Now { mono: Mono(0), wall: Wall::from_secs(100) },
        }
    }

    #[test]
    fn events_are_known_by_token_and_else_by_their_fields() {
        let (ours, other) = ("gl00000001", "gl00000002");
        let token = |run: &str, seq| Token::new(&Run::from(run), "s", seq).render();
        let text = format!("a {} b {} c {}", token(ours, 7), token(other, 8), token(ours, 9));
        let sought = sought(ours);
        assert_eq!(events(&text, None, &sought), BTreeSet::from([7, 9]));
        let fields = json!({"greenlight": {"run": ours, "seq": "5"}});
        let fields = fields.as_object().unwrap();
        assert_eq!(events("gone", Some(fields), &sought), BTreeSet::from([5]));
        assert_eq!(events(&token(ours, 7), Some(fields), &sought), BTreeSet::from([7]));
        // As GELF, and CEF and LEEF, have it.
        for (run, seq) in
            [("_greenlight_run", "_greenlight_seq"), ("greenlightRun", "greenlightSeq")]
        {
            let fields = json!({run: ours, seq: 4});
            assert_eq!(events("gone", fields.as_object(), &sought), BTreeSet::from([4]));
        }
        let fields = json!({"greenlight.run": other, "greenlight.seq": 5});
        assert!(events("gone", fields.as_object(), &sought).is_empty());
    }

    #[test]
    fn a_thing_is_ours_by_its_run_or_by_its_time() {
        let sought = sought("gl00000001");
        let ours = |texts: &[&str], began: Option<i64>| {
            is_ours(texts.iter().copied(), began.map(Wall::from_secs), &sought)
        };
        assert!(ours(&["x", "run gl00000001 failed"], None));
        assert!(ours(&["gl00000002", "gl00000001"], None), "an alert over several rounds");
        assert!(!ours(&["run=gl00000002"], Some(200)), "another round's");
        let token = Token::new(&Run::from("gl00000002"), "s", 1).render();
        assert!(!ours(&[&token], Some(200)));
        assert!(ours(&["SSHBruteForce"], Some(99)) && ours(&[], Some(200)));
        assert!(!ours(&["SSHBruteForce"], Some(98)) && !ours(&["SSHBruteForce"], None));
    }
}
