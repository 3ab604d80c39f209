//! Variables: `${name}` in string values, put in after parsing, so that a value can never change
//! what the file's structure is.

use super::diagnostics::Diagnostics;
use super::did_you_mean;
use super::yaml::{Node, Tree, shortened};

/// A text with its variables put in may not be longer; an environment variable may have 128 KiB.
const TEXT_LIMIT: usize = 64 << 10;

/// Puts the variables into every string value (keys are never touched). `$${` writes `${`.
/// `names` are the variables that are known, for "did you mean".
///
/// A value that is one variable and nothing else is as if it had been written without quotes:
/// between `{ }` YAML asks for quotes (`{ count: "${n}" }`), and it may be a number all the same.
pub fn substitute(
    node: &mut Node,
    lookup: &dyn Fn(&str) -> Option<String>,
    names: &[&str],
    diagnostics: &mut Diagnostics,
) {
    let span = node.span;
    match &mut node.value {
        Tree::Null => {}
        Tree::List(items) => {
            for item in items {
                substitute(item, lookup, names, diagnostics);
            }
        }
        Tree::Map(entries) => {
            for (_, value) in entries {
                substitute(value, lookup, names, diagnostics);
            }
        }
        Tree::Scalar { text, plain } => {
            if !text.contains("${") {
                return;
            }
            match put_in(text, lookup) {
                Ok((put, _)) if put.len() > TEXT_LIMIT => {
                    diagnostics.error(span, "too long with its variables put in");
                }
                Ok((put, whole)) => {
                    *plain |= whole;
                    *text = put;
                }
                Err(Mistake::Open) => {
                    diagnostics
                        .error(span, "`${` without `}`")
                        .hint("a variable is `${name}`; for the characters themselves write `$${`");
                }
                Err(Mistake::Name(name)) => {
                    diagnostics
                        .error(span, format!("`{}` is no name of a variable", shortened(&name)))
                        .expected("letters, digits, `_`, `.` and `-`, as in `${lake_url}`");
                }
                Err(Mistake::Unset(name)) => {
                    let similar = did_you_mean(&name, names.iter().copied());
                    diagnostics
                        .error(span, format!("the variable `{}` is not set", shortened(&name)))
                        .expected("a value under `vars:`, or in the environment")
                        .did_you_mean(similar);
                }
            }
        }
    }
}

enum Mistake {
    Open,
    Name(String),
    Unset(String),
}

/// The text with its variables put in, and whether it is one variable alone.
fn put_in(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), Mistake> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').ok_or(Mistake::Open)?;
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(fine) {
            return Err(Mistake::Name(name.to_owned()));
        }
        let value = lookup(name).ok_or_else(|| Mistake::Unset(name.to_owned()))?;
        if before.is_empty() && after.is_empty() && rest.len() == text.len() {
            return Ok((value, true));
        }
        out.push_str(before);
        out.push_str(&value);
        if out.len() > TEXT_LIMIT {
            return Ok((out, false));
        }
        rest = after;
    }
    out.push_str(rest);
    Ok((out, false))
}

#[cfg(test)]
mod tests;
