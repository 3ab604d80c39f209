//! What an operator writes: spans, units, secrets, selectors, and a decoder that collects every
//! mistake instead of stopping at the first.

pub mod trace;

pub use diagnostics::Diagnostics;
pub use yaml::Node;

pub mod diagnostics {
    //! Mistakes in a plan: file, line, column, the offending words, what was expected, a hint.

    #[derive(Debug, Default)]
    pub struct Diagnostics {}
}

pub mod yaml {
    //! The spanned YAML tree.

    #[derive(Clone, Debug)]
    pub struct Node {}
}

/// Decodes a kind's spec and makes the kind of it; what either refuses is a diagnostic at `node`.
/// Returns the kind and its spec as canonical JSON.
pub fn compile<S, K>(
    _node: &Node,
    _diagnostics: &mut Diagnostics,
    _new: impl FnOnce(S) -> Result<K, String>,
) -> Option<(K, serde_json::Value)>
where
    S: serde::de::DeserializeOwned + serde::Serialize,
{
    None
}
