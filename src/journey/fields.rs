//! The fields that a stage shows, however their names are written.

use serde_json::{Map, Value};

use super::event::spellings;

/// The value at a dotted path, whether the dots are in the names or nest.
pub fn lookup<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (front, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        lookup(fields.get(front)?.as_object()?, rest)
    })
}

/// One of Greenlight's own fields, however the format wrote its name.
pub fn mark<'a>(fields: &'a Map<String, Value>, mark: &str) -> Option<&'a Value> {
    spellings(mark).iter().find_map(|name| lookup(fields, name))
}
