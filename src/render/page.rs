//! The page at `/`: the report's blocks, with recent values, and a script that renews it in place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::history::History;
use super::html::{body, shell};
use crate::ledger::Document;

const SCRIPT: &str = include_str!("page.js");

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
