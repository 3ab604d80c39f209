//! Loki: the entries of the round.

use std::collections::BTreeMap;

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::found::{Found, RECORDS_LIMIT, Record, plain};
use super::{Confirmer, LookContext, MARGIN, purge};
use crate::client::http::{Api, Auth};
use crate::client::loki::{Asked, Entry, query};
use crate::client::tls;
use crate::journey::Look;
use crate::journey::fields::lookup;
use crate::outcome::Trouble;
use crate::probe::Effect;
use crate::probe::http::headers;

/// Loki's own default for the most entries of one answer is 5,000 (`max_entries_limit_per_query`).
const PAGE: u32 = 1_000;
const PAGE_MOST: u32 = 5_000;

/// Asks Loki for the round's entries.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Loki's base URL.
    pub url: String,
    /// A log query such as `{app="web"}`; it is narrowed to the lines that hold the round's name,
    /// or, where it holds {run}, to what it says itself.
    pub query: String,
    /// The field of a JSON line that holds the event's text; without it, the whole line is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The tenant (`X-Scope-OrgID`), where Loki serves several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How many entries one answer may hold; Loki refuses more than it is set to.
    #[serde(default = "page")]
    pub limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    #[serde(default)]
    pub tls: tls::Options,
}

fn page() -> u32 {
    PAGE
}

pub struct Loki {
    query: String,
    text: Option<String>,
    headers: HeaderMap,
    page: u32,
    api: Api,
}

impl Confirmer for Loki {
    const KIND: &'static str = "loki";
    type Spec = Spec;

    fn new(spec: Spec) -> Result<Self, String> {
        if !spec.query.trim_start().starts_with('{') {
            return Err(format!(
                "{:?} is no log query: it begins with a selector such as {{app=\"web\"}}",
                spec.query
            ));
        }
        if !(1..=PAGE_MOST).contains(&spec.limit) {
            return Err(format!("`limit` is {}, and should be 1 to {PAGE_MOST}", spec.limit));
        }
        let tenant = spec.tenant.map(|tenant| ("X-Scope-OrgID".to_owned(), tenant));
        Ok(Self {
            query: spec.query,
            text: spec.text,
            headers: headers(&tenant.into_iter().collect::<BTreeMap<_, _>>())?,
            page: spec.limit,
            api: Api::new(&spec.url, spec.auth, spec.tls)?,
        })
    }

    fn effects(&self) -> Vec<Effect> {
        let what = format!("queries {} for the round's entries of {}", self.api.base(), self.query);
        vec![Effect { what, needs: None }]
    }

    fn purge(&self) -> Option<String> {
        Some(format!(
            "wait for the retention of {}; where its compactor deletes on request, ask \
             /loki/api/v1/delete for {} with |~ `{}`",
            self.api.base(),
            self.query,
            purge::token_pattern()
        ))
    }

    fn keeps(&self) -> bool {
        true
    }

    async fn look(&self, _mark: &mut Value, on: LookContext<'_>) -> Look {
        let sought = on.sought;
        let text = if self.query.contains("{run}") {
            self.query.replace("{run}", &sought.run)
        } else {
            // Right after the selector, where it costs least; a selector holds no brace unquoted.
            match end_of_selector(&self.query).and_then(|end| self.query.split_at_checked(end)) {
                Some((selector, rest)) => format!("{selector} |= \"{}\"{rest}", sought.run),
                None => format!("{} |= \"{}\"", self.query, sought.run),
            }
        };
        let (from, to) = on.reach(MARGIN);
        let asked = Asked {
            query: &text,
            from: from.0,
            to: to.0,
            page: self.page,
            limit: RECORDS_LIMIT,
            headers: &self.headers,
        };
        let answer = query(&self.api, on.clients, asked, on.timeout, on.trace).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(trouble) => return Look::blind(Trouble::blind(trouble)),
        };
        on.trace.note(format_args!("{} entries", answer.rows.len()));
        let mut found = Found::narrowed(sought);
        for entry in answer.rows {
            found.take(self.record(entry));
        }
        if let Some(why) = answer.lacking {
            found.lacks(why);
        }
        found.look()
    }
}

impl Loki {
    /// The labels and, of a JSON line, its fields.
    fn record(&self, entry: Entry) -> Record {
        let mut fields: Map<String, Value> = entry
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let parsed = serde_json::from_str::<Map<String, Value>>(&entry.line);
        let text = match (&parsed, &self.text) {
            (Ok(parsed), Some(path)) => lookup(parsed, path).map(plain),
            _ => None,
        };
        fields.extend(parsed.unwrap_or_default());
        let labels: Vec<String> =
            entry.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let line = crc32fast::hash(entry.line.as_bytes());
        Record {
            fields: Some(fields),
            id: Some(format!("{}/{}/{line:08x}", entry.at, labels.join(","))),
            text: text.or(Some(entry.line)),
        }
    }
}

/// Behind the selector's closing brace, quoted text left out.
fn end_of_selector(query: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in query.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if c == '}' => return Some(at + 1),
            None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_ends_at_its_own_brace() {
        for (query, selector) in [
            (r#"{app="web"} | json"#, r#"{app="web"}"#),
            (r#"{app="a}b", x=~`}`} | logfmt"#, r#"{app="a}b", x=~`}`}"#),
            (r#"{app="a\"}"} != "x""#, r#"{app="a\"}"}"#),
        ] {
            assert_eq!(end_of_selector(query).map(|end| &query[..end]), Some(selector));
        }
        assert_eq!(end_of_selector("{app=\"web"), None);
    }
}
