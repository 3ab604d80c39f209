//! The document itself, as the contract has it.

use crate::ledger::Document;

pub fn report(document: &Document) -> String {
    match serde_json::to_string_pretty(document) {
        Ok(mut text) => {
            text.push('\n');
            text
        }
        // Plain data with string keys: there is nothing in it that JSON can't say.
        Err(error) => format!("{}\n", serde_json::json!({ "error": error.to_string() })),
    }
}
