//! What an operator writes: spans, units, secrets, selectors, and a decoder that collects every
//! mistake instead of stopping at the first.

pub mod decode;
pub mod diagnostics;
pub mod fields;
pub mod secret;
pub mod selector;
pub mod source;
pub mod times;
pub mod trace;
pub mod units;
pub mod vars;
pub mod yaml;

pub use decode::decode;
pub use diagnostics::{Diagnostic, Diagnostics};
pub use fields::Fields;
pub use secret::{Revealed, Secret};
pub use selector::{Labels, Selector};
pub use source::{Source, SourceId, Sources, Span};
pub use times::AllowedTimes;
pub use units::{Period, Quantity, Share, Size};
pub use yaml::{Key, Node, Tree};

/// Decodes a kind's spec and makes the kind of it; what either refuses is a diagnostic at `node`.
/// Returns the kind and its spec as canonical JSON: keys sorted, secrets as references.
pub fn compile<S, K>(
    node: &Node,
    diagnostics: &mut Diagnostics,
    new: impl FnOnce(S) -> Result<K, String>,
) -> Option<(K, serde_json::Value)>
where
    S: serde::de::DeserializeOwned + serde::Serialize,
{
    let spec: S = decode(node, diagnostics)?;
    let json = match serde_json::to_value(&spec) {
        Ok(json) => canonical(json),
        Err(error) => {
            diagnostics.error(node.span, format!("this can't be written as JSON: {error}"));
            return None;
        }
    };
    match new(spec) {
        Ok(made) => Some((made, json)),
        Err(text) => {
            diagnostics.error(node.span, text);
            None
        }
    }
}

/// The same JSON with the keys of every object sorted, so that equal plans have equal digests.
pub fn canonical(json: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match json {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<String, Value> =
                map.into_iter().map(|(key, value)| (key, canonical(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(canonical).collect()),
        other => other,
    }
}

/// The one of `known` that was probably meant by `word`.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .filter(|candidate| {
            // A third of the letters may be wrong, and at least one: `evry`, `icpm`, `targetss`.
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            distance <= (candidate.chars().count() / 3).max(1) && distance < candidate.len()
        })
        .min_by_key(|candidate| strsim::damerau_levenshtein(&word, &candidate.to_lowercase()))
}

/// "`a`, `b` or `c`".
pub fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::from("nothing"),
        [only] => format!("`{}`", only.as_ref()),
        [front @ .., last] => {
            let front: Vec<String> = front.iter().map(|w| format!("`{}`", w.as_ref())).collect();
            format!("{} or `{}`", front.join(", "), last.as_ref())
        }
    }
}
