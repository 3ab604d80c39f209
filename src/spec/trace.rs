//! What one attempt saw, line by line, for `once --debug`. Secrets are never noted.

use std::fmt;
use std::sync::Mutex;

use crate::time::Mono;

/// Collects notes only when somebody looks.
#[derive(Debug, Default)]
pub struct Trace {
    notes: Option<Mutex<Vec<Note>>>,
}

/// When it was noted, and what.
pub type Note = (Mono, String);

/// More notes than this are cut, so that a long stream can't fill the memory.
const NOTES_LIMIT: usize = 10_000;

impl Trace {
    pub fn off() -> Self {
        Self { notes: None }
    }

    pub fn on() -> Self {
        Self { notes: Some(Mutex::new(Vec::new())) }
    }

    /// Call as `trace.note(format_args!(...))`: nothing is formatted where nobody looks.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let Some(notes) = &self.notes else { return };
        let Ok(mut notes) = notes.lock() else { return };
        if notes.len() < NOTES_LIMIT {
            notes.push((Mono::now(), what.to_string()));
        }
    }

    /// The notes so far, each with when it was made.
    pub fn take(&self) -> Vec<Note> {
        self.notes
            .as_ref()
            .and_then(|notes| notes.lock().ok().map(|mut notes| std::mem::take(&mut *notes)))
            .unwrap_or_default()
    }
}
