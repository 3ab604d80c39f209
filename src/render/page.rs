//! The page at `/`: the report's blocks, with recent values, and a script that renews it in place.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::html::{body, shell};
use crate::ledger::Document;

const SCRIPT: &str = include_str!("page.js");

/// Values of one gate that the page shows, the newest last.
const POINTS_LIMIT: usize = 120;

/// The recent values of each gate; None where nobody measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    gates: BTreeMap<String, Vec<Option<f64>>>,
}

impl History {
    /// Adds what every gate of a document was judged by, and forgets gates that are no more.
    pub fn push(&mut self, document: &Document) {
        for gate in &document.gates {
            let points = match self.gates.get_mut(&gate.id) {
                Some(points) => points,
                None => self.gates.entry(gate.id.clone()).or_default(),
            };
            if points.len() >= POINTS_LIMIT {
                points.remove(0);
            }
            points.push(gate.value);
        }
        if self.gates.len() > document.gates.len() {
            self.gates.retain(|id, _| document.gates.iter().any(|gate| gate.id == *id));
        }
    }

    pub(super) fn of(&self, gate: &str) -> &[Option<f64>] {
        self.gates.get(gate).map(Vec::as_slice).unwrap_or_default()
    }
}

pub fn page(document: &Document, history: &History, banner: Option<&str>) -> String {
    let content = html! {
        p.live {
            a href="/metrics" { "metrics" }
            a href="/api/v1/ledger" { "ledger" }
            a href="/api/v1/plan" { "plan" }
            span id="state" {}
        }
        main {
            (body(document, history, banner))
        }
        script { (PreEscaped(SCRIPT)) }
    };
    shell(document, html! {}, &content).into_string()
}

/// What the page may load and run: its own style, this one script, and itself again.
pub fn content_security_policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}
