//! Labels of nodes, and what selects by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a node is: `role: ingest`.
pub type Labels = BTreeMap<String, String>;

/// Labels and the values they must have; `*` is any value. Nothing selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Selector(pub BTreeMap<String, String>);

impl Selector {
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(name, wanted)| {
            labels.get(name).is_some_and(|value| wanted == "*" || wanted == value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_selector_matches_values_and_any_value() {
        let node = labels(&[("role", "ingest"), ("zone", "a")]);
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[], true),
            (&[("role", "ingest")], true),
            (&[("role", "*"), ("zone", "a")], true),
            (&[("role", "lake")], false),
            (&[("rack", "*")], false),
            (&[("role", "ingest"), ("zone", "b")], false),
        ];
        for (wanted, matches) in cases {
            assert_eq!(Selector(labels(wanted)).matches(&node), matches, "{wanted:?}");
        }
    }
}
