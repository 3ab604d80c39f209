//! The condition: a text over the names of selections, and the truth that it asks for.

use super::refusal::{Refusal, Why};

/// Deeper than this nobody writes; the walks over the tree recurse this deep.
const DEPTH_LIMIT: usize = 64;
const WORDS_LIMIT: usize = 2_000;

/// A truth over things that are tested one by one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr<T> {
    One(T),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// What a condition names: a selection, by its name.
pub(super) type Named = Expr<String>;

/// What stands behind the `|` of an old condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Aggregate {
    /// count, sum, min, max, avg, near.
    pub(super) function: String,
    pub(super) field: Option<String>,
    pub(super) by: Option<String>,
    pub(super) op: Op,
    pub(super) bound: f64,
    /// The selections that `near` asks for beside.
    pub(super) near: Option<Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Lt,
    Lte,
    Gt,
    Gte,
    Eq,
    Neq,
}

impl Op {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<" | "lt" => Self::Lt,
            "<=" | "lte" => Self::Lte,
            ">" | "gt" => Self::Gt,
            ">=" | "gte" => Self::Gte,
            "=" | "==" | "eq" => Self::Eq,
            "!=" | "neq" => Self::Neq,
            _ => return None,
        })
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Eq => "eq",
            Self::Neq => "neq",
        }
    }

    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Lte => left <= right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Eq => left == right,
            Self::Neq => left != right,
        }
    }
}

/// Reads a condition; `names` are the rule's selections, which `them` and patterns stand for.
pub(super) fn parse(text: &str, names: &[String]) -> Result<(Named, Option<Aggregate>), Refusal> {
    let (logic, rest) = match text.split_once('|') {
        Some((logic, rest)) => (logic, Some(rest)),
        None => (text, None),
    };
    let tree = logic_of(logic, names)?;
    let aggregate = rest.map(|rest| aggregate(rest, names)).transpose()?;
    Ok((tree, aggregate))
}

fn logic_of(text: &str, names: &[String]) -> Result<Named, Refusal> {
    let mut words = Vec::new();
    for part in text.split_whitespace() {
        let mut rest = part;
        while let Some(at) = rest.find(['(', ')']) {
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                words.push(before);
            }
            let (bracket, after) = from.split_at(1);
            words.push(bracket);
            rest = after;
        }
        if !rest.is_empty() {
            words.push(rest);
        }
    }
    if words.len() > WORDS_LIMIT {
        return Err(wrong(format!("it has {} words, at most {WORDS_LIMIT} are read", words.len())));
    }
    let mut reader = Reader { words: &words, at: 0, names, depth: 0 };
    let tree = reader.any()?;
    match reader.next() {
        None => Ok(tree),
        Some(word) => Err(wrong(format!("`{word}` stands where `and`, `or` or the end would be"))),
    }
}

fn wrong(text: impl std::fmt::Display) -> Refusal {
    Refusal::new(Why::Condition, format!("the condition can't be read: {text}"))
}

struct Reader<'a> {
    words: &'a [&'a str],
    at: usize,
    names: &'a [String],
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Named, Refusal> {
        let mut parts = vec![self.all()?];
        while self.takes("or") {
            parts.push(self.all()?);
        }
        Ok(grouped(parts, Expr::Any))
    }

    fn all(&mut self) -> Result<Named, Refusal> {
        let mut parts = vec![self.one()?];
        while self.takes("and") {
            parts.push(self.one()?);
        }
        Ok(grouped(parts, Expr::All))
    }

    fn one(&mut self) -> Result<Named, Refusal> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(wrong(format!("it is more than {DEPTH_LIMIT} levels deep")));
        }
        let read = self.primary();
        self.depth -= 1;
        read
    }

    fn primary(&mut self) -> Result<Named, Refusal> {
        if self.takes("not") {
            return Ok(Expr::Not(Box::new(self.one()?)));
        }
        if self.takes("(") {
            let inner = self.any()?;
            if !self.takes(")") {
                return Err(wrong("a `(` is not closed"));
            }
            return Ok(inner);
        }
        let Some(word) = self.next() else {
            return Err(wrong("it ends where a selection would be"));
        };
        let followed = self.peek().is_some_and(|next| next.eq_ignore_ascii_case("of"));
        let least = match word.to_ascii_lowercase().as_str() {
            "all" if followed => None,
            "any" if followed => Some(1),
            number if followed && number.parse::<usize>().is_ok() => number.parse().ok(),
            _ => return self.named(word),
        };
        self.at += 1;
        let Some(which) = self.next() else {
            return Err(wrong("it ends after `of`"));
        };
        self.quantified(least, which)
    }

    fn named(&self, word: &str) -> Result<Named, Refusal> {
        if self.names.iter().any(|name| name == word) {
            return Ok(Expr::One(word.to_owned()));
        }
        let known = crate::spec::did_you_mean(word, self.names.iter().map(String::as_str));
        let hint = known.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        Err(wrong(format!("there is no selection `{word}`{hint}")))
    }

    /// `least` of those that match; all of them where it is None.
    fn quantified(&self, least: Option<usize>, which: &str) -> Result<Named, Refusal> {
        let pattern = super::pattern::Pattern::parse(which);
        let them = which.eq_ignore_ascii_case("them");
        // Names that begin with `_` are for reference only.
        let meant = |name: &&String| {
            if them { !name.starts_with('_') } else { pattern.matches(name, true) }
        };
        let parts: Vec<Named> = self.names.iter().filter(meant).cloned().map(Expr::One).collect();
        if parts.is_empty() {
            return Err(wrong(format!("no selection matches `{which}`")));
        }
        Ok(match least {
            None => grouped(parts, Expr::All),
            Some(1) => grouped(parts, Expr::Any),
            Some(least) if (2..=parts.len()).contains(&least) => {
                let some = combinations(&parts, least)
                    .ok_or_else(|| wrong(format!("`{least} of {which}` has too many ways")))?;
                grouped(some.into_iter().map(|some| grouped(some, Expr::All)).collect(), Expr::Any)
            }
            Some(least) => {
                let count = parts.len();
                return Err(wrong(format!("`{least} of {which}` can't be: there are {count}")));
            }
        })
    }
}

fn grouped<T>(mut parts: Vec<Expr<T>>, group: impl Fn(Vec<Expr<T>>) -> Expr<T>) -> Expr<T> {
    match parts.len() {
        1 => parts.remove(0),
        _ => group(parts),
    }
}

/// All ways to take so many of them; None where they are too many.
fn combinations(parts: &[Named], least: usize) -> Option<Vec<Vec<Named>>> {
    const MOST: usize = 500;
    let mut ways: Vec<(usize, Vec<Named>)> = vec![(0, Vec::new())];
    for _ in 0..least {
        let mut longer = Vec::new();
        for (from, way) in &ways {
            for (at, part) in parts.iter().enumerate().skip(*from) {
                let mut next = way.clone();
                next.push(part.clone());
                longer.push((at + 1, next));
            }
        }
        if longer.len() > MOST {
            return None;
        }
        ways = longer;
    }
    Some(ways.into_iter().map(|(_, way)| way).collect())
}

/// `count(field) by group > 5`, `near other and not third`.
fn aggregate(text: &str, names: &[String]) -> Result<Aggregate, Refusal> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("near ") {
        let near = Some(logic_of(rest, names)?);
        let function = String::from("near");
        return Ok(Aggregate { function, field: None, by: None, op: Op::Gte, bound: 1.0, near });
    }
    let bad = || wrong(format!("`{text}` is no aggregate such as `count(field) by group > 5`"));
    let (function, rest) = text.split_once('(').ok_or_else(bad)?;
    let (field, rest) = rest.split_once(')').ok_or_else(bad)?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (by, op, bound) = match words.as_slice() {
        ["by", by, op, bound] => (Some((*by).to_owned()), *op, *bound),
        [op, bound] => (None, *op, *bound),
        _ => return Err(bad()),
    };
    Ok(Aggregate {
        function: function.trim().to_ascii_lowercase(),
        field: (!field.trim().is_empty()).then(|| field.trim().to_owned()),
        by,
        op: Op::parse(op).ok_or_else(bad)?,
        bound: bound.parse().ok().filter(|bound: &f64| bound.is_finite()).ok_or_else(bad)?,
        near: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["sel_a", "sel_b", "filter", "_own"].map(String::from).to_vec()
    }

    fn read(text: &str) -> String {
        fn show(tree: &Named) -> String {
            let list = |parts: &[Named], word: &str| {
                let shown: Vec<String> = parts.iter().map(show).collect();
                format!("({})", shown.join(word))
            };
            match tree {
                Expr::One(name) => name.clone(),
                Expr::Not(inner) => format!("!{}", show(inner)),
                Expr::All(parts) => list(parts, "&"),
                Expr::Any(parts) => list(parts, "|"),
            }
        }
        match parse(text, &names()) {
            Ok((tree, _)) => show(&tree),
            Err(refusal) => refusal.text,
        }
    }

    #[test]
    fn every_form_of_a_condition_is_read() {
        for (text, shown) in [
            ("sel_a", "sel_a"),
            ("sel_a and not filter", "(sel_a&!filter)"),
            ("sel_a or sel_b and filter", "(sel_a|(sel_b&filter))"),
            ("(sel_a OR sel_b) AND NOT (filter)", "((sel_a|sel_b)&!filter)"),
            ("not not sel_a", "!!sel_a"),
            ("1 of sel_*", "(sel_a|sel_b)"),
            ("any of sel_*", "(sel_a|sel_b)"),
            ("all of sel_* and not 1 of filter*", "((sel_a&sel_b)&!filter)"),
            ("2 of them", "((sel_a&sel_b)|(sel_a&filter)|(sel_b&filter))"),
            ("all of them", "(sel_a&sel_b&filter)"),
            ("_own", "_own"),
        ] {
            assert_eq!(read(text), shown, "{text}");
        }
        for (text, reason) in [
            ("", "ends where a selection"),
            ("sel_a sel_b", "stands where `and`"),
            ("sel_c", "did you mean `sel_"),
            ("(sel_a", "not closed"),
            ("sel_a)", "`)` stands where"),
            ("1 of x*", "no selection matches"),
            ("9 of sel_*", "there are 2"),
            ("sel_a | sum", "no aggregate"),
        ] {
            assert!(read(text).contains(reason), "{text}: {}", read(text));
        }
        let deep = format!("{}sel_a{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(read(&deep).contains("at most"), "{}", read(&deep));
        let deep = format!("{}sel_a", "not ".repeat(100));
        assert!(read(&deep).contains("levels deep"), "{}", read(&deep));
    }

    #[test]
    fn old_aggregates_are_read() {
        let (_, aggregate) =
            parse("sel_a | count(user) by src > 5", &names()).expect("it is right");
        let aggregate = aggregate.expect("there is one");
        assert_eq!(aggregate.function, "count");
        assert_eq!(aggregate.field.as_deref(), Some("user"));
        assert_eq!(aggregate.by.as_deref(), Some("src"));
        assert_eq!((aggregate.op, aggregate.bound), (Op::Gt, 5.0));
        let (_, near) = parse("sel_a | near sel_b and not filter", &names()).expect("it is right");
        assert!(near.is_some_and(|near| near.near.is_some()));
    }
}
