//! Whose a text is: this round's, another round's, or nobody's.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{LookContext, Sought};
use crate::journey::Horizon;
use crate::journey::event::{Token, contains_run, is_run};
use crate::journey::fields::mark;
use crate::outcome::{Fault, FaultCode};
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
            let tokens = strings(fields).into_iter().flat_map(Token::find_all::<str>);
            found.extend(tokens.filter(|t| t.run == sought.run).map(|token| token.seq));
        }
    }
    if found.is_empty() {
        // A field that ends within its token is one of several in what surrounds it.
        let texts = fields.map(strings).unwrap_or_default().into_iter().chain([text]);
        let cut = texts.filter_map(|text| Token::cut_off(text, &sought.run));
        found.extend(cut.filter(|seq| is_of(*seq, sought)));
    }
    found
}

/// The texts in any field, at any depth: a parser may have put the event's anywhere.
fn strings(fields: &Map<String, Value>) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest: Vec<&Value> = fields.values().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => found.push(text.as_str()),
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

/// Whose an alert or a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Anothers,
    /// It names no round, and began after ours only by one of the two wall clocks: the one that
    /// there was when the round began, and the one that was set since.
    Untold,
    /// It names no round, and began after ours: the twin's, or that of the events beside it.
    Unnamed,
}

/// The things that are the round's, and how far that can be told.
pub(super) fn ours<T>(things: impl Iterator<Item = (Whose, T)>) -> (Vec<T>, Horizon) {
    let (mut ours, mut untold, mut unnamed) = (Vec::new(), 0, 0);
    for (whose, thing) in things {
        match whose {
            Whose::Ours => ours.push(thing),
            Whose::Anothers => {}
            Whose::Untold => untold += 1,
            Whose::Unnamed => unnamed += 1,
        }
    }
    let text = match (untold, unnamed) {
        (0, 0) => return (ours, Horizon::Complete),
        (0, _) => format!(
            "{unnamed} name no round, and may be the benign twin's: let the rule's alert carry a \
             text or a field of the event that has its token"
        ),
        _ => format!(
            "the clock was set while the round was under way: whether {untold} that name no round \
             began before or after it can't be told"
        ),
    };
    (ours, Horizon::Partial(Fault::new(FaultCode::Blind, text)))
}

/// An alert or a notification is this round's where it names the round. One that names another
/// round never is. One that names none is where it began after the round: rules that aggregate
/// carry no token.
pub(super) fn whose<'a>(
    texts: impl Iterator<Item = &'a str>,
    began: Option<Wall>,
    on: &LookContext<'_>,
) -> Whose {
    let mut anothers = false;
    for text in texts {
        if contains_run(text, &on.sought.run) {
            return Whose::Ours;
        }
        anothers |= Token::find_all(text).next().is_some()
            || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_run);
    }
    let Some(began) = began.filter(|_| !anothers) else { return Whose::Anothers };
    // The clocks of two machines that are kept in time agree to well under a second.
    let (as_it_was, as_it_is) = on.beginnings();
    let after = |beginning: Wall| began >= beginning.minus(Duration::from_secs(1));
    match (after(as_it_was), after(as_it_is)) {
        (true, true) if on.sought.named => Whose::Unnamed,
        (true, true) => Whose::Ours,
        (false, false) => Whose::Anothers,
        _ => Whose::Untold,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::Clients;
    use crate::journey::{Run, Stage};
    use crate::spec::trace::Trace;
    use crate::time::{Mono, Now};

    pub(in crate::confirm) fn sought(run: &str) -> Sought {
        Sought {
            journey: "j".into(),
            run: Run::from(run),
            stage: Stage::Alerted,
            first_seq: 0,
            count: 3,
            sent: 3,
            equals: None,
            named: false,
            aged: Duration::ZERO,
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
        // A text that was cut in its token ends so in its field, and not in what surrounds it.
        let whole = token(ours, 2);
        let cut = format!("hello {}", &whole[..whole.len() - 2]);
        let fields = json!({"id": 3, "message": cut});
        let around = fields.to_string();
        assert_eq!(events(&cut, None, &sought), BTreeSet::from([2]));
        assert_eq!(events(&around, fields.as_object(), &sought), BTreeSet::from([2]));
        assert!(events(&around, None, &sought).is_empty());
        let fields = json!({"greenlight.run": other, "greenlight.seq": 5});
        assert!(events("gone", fields.as_object(), &sought).is_empty());
    }

    /// Five seconds after the round began, in which the wall clock was set by so many seconds.
    fn set_by(seconds: i64, texts: &[&str], began: Option<i64>) -> Whose {
        let on = LookContext {
            sought: &sought("gl00000001"),
            timeout: Duration::from_secs(1),
            clients: &Clients::default(),
            trace: &Trace::off(),
            now: Now { mono: Mono::from_secs(5), wall: Wall::from_secs(105 + seconds) },
        };
        let from = 100 + seconds.min(0);
        assert_eq!(
            on.span(Duration::from_secs(7)),
            (Wall::from_secs(from - 7), Wall::from_secs(105 + seconds.max(0) + 7))
        );
        whose(texts.iter().copied(), began.map(Wall::from_secs), &on)
    }

    #[test]
    fn a_clock_that_is_set_hides_nothing_and_proves_nothing() {
        for (seconds, before, between, after) in [(50, 98, 120, 149), (-50, 48, 70, 99)] {
            let whose = |began| set_by(seconds, &["SSHBruteForce"], Some(began));
            assert_eq!(whose(before), Whose::Anothers);
            assert_eq!(whose(between), Whose::Untold, "set by {seconds} s");
            assert_eq!(whose(after), Whose::Ours);
            assert_eq!(set_by(seconds, &["gl00000001"], Some(before)), Whose::Ours);
            assert_eq!(set_by(seconds, &["gl00000002"], Some(between)), Whose::Anothers);
        }
        let (ours, horizon) = ours([(Whose::Ours, 1), (Whose::Anothers, 2)].into_iter());
        assert_eq!((ours, horizon), (vec![1], Horizon::Complete));
        let (ours, horizon) = super::ours([(Whose::Untold, 1), (Whose::Ours, 2)].into_iter());
        assert_eq!(ours, [2]);
        assert!(matches!(horizon, Horizon::Partial(fault) if fault.text.contains("clock was set")));
    }

    #[test]
    fn a_thing_is_ours_by_its_run_or_by_its_time() {
        let ours = |texts: &[&str], began: Option<i64>| set_by(0, texts, began) == Whose::Ours;
        assert!(ours(&["x", "run gl00000001 failed"], None));
        assert!(ours(&["gl00000002", "gl00000001"], None), "an alert over several rounds");
        assert!(!ours(&["run=gl00000002"], Some(200)), "another round's");
        let token = Token::new(&Run::from("gl00000002"), "s", 1).render();
        assert!(!ours(&[&token], Some(200)));
        assert!(ours(&["SSHBruteForce"], Some(99)) && ours(&[], Some(200)));
        assert!(!ours(&["SSHBruteForce"], Some(98)) && !ours(&["SSHBruteForce"], None));
    }
    #[test]
    fn a_twins_thing_names_it_and_what_names_nobody_is_not_told() {
        let whose = |texts: &[&str], began| {
            let on = LookContext {
                sought: &Sought { named: true, ..sought("gl00000001") },
                timeout: Duration::from_secs(1),
                clients: &Clients::default(),
                trace: &Trace::off(),
                now: Now { mono: Mono::from_secs(5), wall: Wall::from_secs(105) },
            };
            whose(texts.iter().copied(), Some(Wall::from_secs(began)), &on)
        };
        assert_eq!(whose(&["run gl00000001"], 120), Whose::Ours);
        assert_eq!(whose(&["run gl00000002"], 120), Whose::Anothers, "the round's beside it");
        assert_eq!(whose(&["SSHBruteForce"], 20), Whose::Anothers, "from before");
        assert_eq!(whose(&["SSHBruteForce"], 120), Whose::Unnamed);
        let (ours, horizon) = super::ours([(Whose::Unnamed, 1), (Whose::Ours, 2)].into_iter());
        assert_eq!(ours, [2]);
        assert!(matches!(horizon, Horizon::Partial(fault) if fault.text.contains("twin")));
    }
}
