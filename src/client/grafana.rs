//! Grafana: a dashboard's panel, its queries as the browser would send them, and the number that
//! it would show.
//!
//! Variables, reductions, transformations, units and mappings are the browser's work in Grafana, so
//! they are done here; the tests hold them against the package that the browser runs. What is not
//! done here is told by name, and no number is read then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Clients;
use super::http::{Api, Request, Response, excerpt, expect_success, json as read_json};
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Wall;
pub use display::Display;
pub use picture::{Render, picture};
use query::{Sources, frames, needs_sources, query};
use range::Range;
pub use reduce::Reducer;
use show::{Choice, Shown, shown};
use variables::{Dialect, Variables};

mod display;
mod format;
mod frame;
mod js;
mod matching;
mod picture;
mod prometheus;
mod query;
mod range;
mod reduce;
mod show;
mod transform;
mod values;
mod variables;

/// Panels nest one deep (a collapsed row); a document that nests deeper is none of Grafana's.
const DEPTH: usize = 4;

/// Which panel, and how it is looked at.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub dashboard: &'a str,
    /// Its title or its id.
    pub panel: &'a str,
    /// Values for the dashboard's variables instead of their saved ones.
    pub variables: &'a BTreeMap<String, String>,
    /// How far back, where the dashboard's own range is not meant.
    pub back: Option<Duration>,
    /// How values become one number, where the panel's own way is not meant.
    pub reduce: Option<Reducer>,
    /// Which of several series or columns.
    pub series: Option<&'a str>,
    /// The texts that some columns have in the row that is meant.
    pub row: &'a BTreeMap<String, String>,
    pub now: Wall,
}

/// What came of reading a panel.
#[derive(Clone, Debug, PartialEq)]
pub enum Panel {
    /// What it shows.
    Shows(Display),
    /// Nothing, or nothing under the name that was asked for: then the names that it shows.
    NoData(Vec<String>),
    /// It is not there, or shows an error: a person sees no number either.
    Broken(String),
}

/// What a panel was read from: enough to show a person the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its id in the dashboard.
    panel: u64,
    /// In milliseconds since 1970, as the panel is asked for: it shifts them itself where it does.
    from: i64,
    to: i64,
    /// Names and values; of several values each.
    variables: Vec<(String, String)>,
}

fn unsupported(text: String) -> Trouble {
    Trouble::fault(FaultCode::Unsupported, text)
}

/// One reading of a panel: whom it asks, and until when.
struct Session<'a> {
    api: &'a Api,
    clients: &'a Clients,
    until: tokio::time::Instant,
    trace: &'a Trace,
}

impl Session<'_> {
    async fn ask(&self, request: Request) -> Result<Response, Trouble> {
        let left = self.until.saturating_duration_since(tokio::time::Instant::now());
        self.api.ask(self.clients, request, left, self.trace).await
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Response, Trouble> {
        self.ask(Request::get(self.api.at(path, query))).await
    }
}

/// Reads the number that a panel shows, and what it was read from, where that is known. Trouble is what
/// kept us from seeing.
pub async fn read(
    api: &Api,
    clients: &Clients,
    asked: &Asked<'_>,
    timeout: Duration,
    trace: &Trace,
) -> Result<(Panel, Option<View>), Trouble> {
    let until = tokio::time::Instant::now() + timeout;
    let session = Session { api, clients, until, trace };
    let response = session.get(&format!("api/dashboards/uid/{}", asked.dashboard), &[]).await?;
    if response.status == hyper::StatusCode::NOT_FOUND && says_dashboard(&response.body) {
        let why = format!("there is no dashboard {}", asked.dashboard);
        return Ok((Panel::Broken(why), None));
    }
    expect_success(&response)?;
    let document = read_json(&response)?;
    let dashboard = document.get("dashboard").filter(|d| d.is_object()).ok_or_else(|| {
        Trouble::reason(ReasonCode::ProtocolError, format!("{} sent no dashboard", api.base()))
    })?;
    if dashboard.get("elements").is_some() {
        return Err(unsupported("the dashboard is of the schema v2, which is not computed".into()));
    }
    let Some(panel) = find(dashboard, asked.panel) else {
        let titles = titles(dashboard).join(", ");
        let why = format!(
            "the dashboard {} has no panel {:?}; it has {titles}",
            asked.dashboard, asked.panel
        );
        return Ok((Panel::Broken(why), None));
    };
    let id = panel.get("id").and_then(Value::as_u64);
    let panel = match library(&session, panel).await? {
        Ok(panel) => panel,
        Err(broken) => return Ok((Panel::Broken(broken), None)),
    };
    let kind = panel.get("type").and_then(Value::as_str).unwrap_or_default();
    if !show::PANELS.contains(&kind) {
        return Err(unsupported(format!("a panel of the type {kind:?} is not computed")));
    }
    let range = match asked.back {
        Some(back) => Range::back(asked.now, back),
        None => Range::of(dashboard, &panel, asked.now).map_err(unsupported)?,
    };
    let settings = if needs_sources(&panel, dashboard) {
        let response = session.get("api/frontend/settings", &[]).await?;
        // Behind a proxy that hides it, a panel may still say all that is needed.
        if response.status.is_success() { read_json(&response)? } else { Value::Null }
    } else {
        Value::Null
    };
    let sources = Sources::of(&settings);
    let variables = resolve(&session, dashboard, &panel, asked, range, &sources).await?;
    repeated(dashboard, &panel, &variables).map_err(unsupported)?;
    let view = id.zip(range::shift(&panel).ok()).map(|(panel, shift)| {
        let shift = i64::try_from(shift.as_millis()).unwrap_or(i64::MAX);
        let [from, to] = [range.from, range.to].map(|at| at.saturating_add(shift));
        View { panel, from, to, variables: variables.chosen() }
    });
    let panel = answered(&session, &panel, &sources, variables, asked).await?;
    Ok((panel, view))
}

/// Runs the panel's queries, and computes what it shows.
async fn answered(
    session: &Session<'_>,
    panel: &Value,
    sources: &Sources,
    mut variables: Variables,
    asked: &Asked<'_>,
) -> Result<Panel, Trouble> {
    let Session { api, trace, .. } = session;
    let body = query(panel, sources, &mut variables).map_err(unsupported)?;
    trace.note(format_args!("the panel asks {body}"));
    let response = session.ask(Request::post_json(api.at("api/ds/query", &[]), &body)).await?;
    // 400 and 404 say that a query failed or its data source is gone, and so does 207 of some
    // versions: the panel shows an error then.
    let status = response.status.as_u16();
    if !matches!(status, 200 | 207 | 400 | 404) {
        expect_success(&response)?;
    }
    let answer = read_json(&response)?;
    if let Some(error) = error_of(&answer) {
        return Ok(Panel::Broken(format!("the panel shows an error: {error}")));
    }
    expect_success(&response)?;
    let frames = frames(&answer, &body).map_err(|why| {
        let text = format!("{} did not answer as Grafana does: {why}", api.base());
        Trouble::reason(ReasonCode::ProtocolError, text)
    })?;
    // Names in transformations and options may be variables, too.
    let panel = with_words(panel, &variables).map_err(unsupported)?;
    let choice = Choice { reducer: asked.reduce, series: asked.series, row: Some(asked.row) };
    match shown(&panel, frames, choice).map_err(unsupported)? {
        Shown::Nothing(names) => Ok(Panel::NoData(names)),
        Shown::One(shown) => {
            trace.note(format_args!("the panel shows {:?}", shown.text));
            Ok(Panel::Shows(shown))
        }
        Shown::Several(names) => Err(unsupported(format!(
            "the panel shows {} numbers; name one under `series`: {}",
            names.len(),
            excerpt(names.join(", ").as_bytes())
        ))),
    }
}

fn with_words(panel: &Value, variables: &Variables) -> Result<Value, String> {
    let mut panel = panel.clone();
    if let Some(map) = panel.as_object_mut() {
        for key in ["transformations", "fieldConfig", "options"] {
            if let Some(value) = map.get(key) {
                let filled = variables.fill(value, Dialect::Words)?;
                map.insert(key.into(), filled);
            }
        }
    }
    Ok(panel)
}

/// A panel that comes from the library, as that has it.
async fn library(session: &Session<'_>, panel: &Value) -> Result<Result<Value, String>, Trouble> {
    let from = panel.get("libraryPanel").and_then(|from| from.get("uid")).and_then(Value::as_str);
    let Some(uid) = from.filter(|uid| !uid.is_empty()) else { return Ok(Ok(panel.clone())) };
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !uid.bytes().all(safe) {
        return Err(unsupported(format!("the panel's library element {uid:?}")));
    }
    let response = session.get(&format!("api/library-elements/{uid}"), &[]).await?;
    if response.status == hyper::StatusCode::NOT_FOUND {
        return Ok(Err(format!("the panel comes from the library, which has no element {uid}")));
    }
    expect_success(&response)?;
    let answer = read_json(&response)?;
    let model = answer.get("result").and_then(|result| result.get("model"));
    let Some(model) = model.filter(|model| model.is_object()) else {
        return Err(Trouble::reason(
            ReasonCode::ProtocolError,
            format!("{} sent no library element", session.api.base()),
        ));
    };
    Ok(Ok(model.clone()))
}

/// The values of the variables that the panel speaks of.
async fn resolve(
    session: &Session<'_>,
    dashboard: &Value,
    panel: &Value,
    asked: &Asked<'_>,
    range: Range,
    sources: &Sources,
) -> Result<Variables, Trouble> {
    if let Some(name) = variables::filters(dashboard) {
        return Err(unsupported(format!(
            "the dashboard is saved with filters ({name:?}), which are not computed"
        )));
    }
    let parts = ["targets", "datasource", "transformations", "interval", "repeat", "fieldConfig"];
    let trees: Vec<&Value> = parts.iter().filter_map(|key| panel.get(*key)).collect();
    let repeat = repeats(dashboard, panel).map(|name| Value::from(format!("${name}")));
    let trees: Vec<&Value> = trees.into_iter().chain(&repeat).collect();
    let needed = variables::needed(dashboard, &trees, asked.variables).map_err(unsupported)?;
    let mut variables = Variables::new(range);
    for variable in needed {
        let name = variables::name(variable);
        let given = asked.variables.get(name).map(String::as_str);
        let because = |why: String| {
            unsupported(format!("the variable {name:?}: {why}; give its value under `variables`"))
        };
        let options = match given {
            Some(_) => None,
            None => match values::options(session, variable, &variables, sources).await? {
                Ok(options) => options,
                Err(why) => return Err(because(why)),
            },
        };
        let held = variables::held(variable, given, options.as_deref(), &range).map_err(because)?;
        variables.held.insert(name.to_owned(), held);
    }
    // What is given need not be a variable of the dashboard's.
    for (name, value) in asked.variables {
        if !variables.held.contains_key(name) {
            let held = variables::held(&Value::Null, Some(value), None, &range);
            variables.held.insert(name.clone(), held.map_err(unsupported)?);
        }
    }
    Ok(variables)
}

/// The variable that a panel, or its row, is repeated for.
fn repeats<'a>(dashboard: &'a Value, panel: &'a Value) -> Option<&'a str> {
    let repeat = |owner: &'a Value| owner.get("repeat").and_then(Value::as_str);
    let own = repeat(panel).filter(|name| !name.is_empty());
    let id = panel.get("id");
    let rows = || {
        let top = dashboard.get("panels").and_then(Value::as_array).into_iter().flatten();
        let mut open = None;
        for one in top {
            if one.get("type").and_then(Value::as_str) == Some("row") {
                open = repeat(one).filter(|name| !name.is_empty());
                let inner = one.get("panels").and_then(Value::as_array);
                if inner.into_iter().flatten().any(|inner| inner.get("id") == id) {
                    return open;
                }
            } else if one.get("id") == id {
                return open;
            }
        }
        None
    };
    own.or_else(|| id.and_then(|_| rows()))
}

/// A panel that is repeated shows one value of its variable at a time.
fn repeated(dashboard: &Value, panel: &Value, variables: &Variables) -> Result<(), String> {
    let Some(name) = repeats(dashboard, panel) else { return Ok(()) };
    match variables.held.get(name).map(|held| held.values.len()) {
        Some(1) => Ok(()),
        _ => Err(format!(
            "the panel is repeated for the variable {name:?}; give one value under `variables`"
        )),
    }
}

/// A 404 of Grafana's own speaks of the dashboard; one of a proxy before it says nothing.
fn says_dashboard(body: &[u8]) -> bool {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let said = body.as_ref().and_then(|body| body.get("message")).and_then(Value::as_str);
    said.is_some_and(|said| said.to_ascii_lowercase().contains("dashboard"))
}

fn error_of(answer: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(|text| excerpt(text.as_bytes()));
    let results = answer.get("results").and_then(Value::as_object);
    let inner = results.into_iter().flatten().find_map(|(_, result)| {
        result.get("error").and_then(text).filter(|error| !error.is_empty())
    });
    inner.or_else(|| {
        if results.is_some() {
            return None;
        }
        answer.get("message").and_then(text)
    })
}

/// All panels, those in collapsed rows too.
fn panels<'a>(owner: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
    if depth > DEPTH {
        return;
    }
    for key in ["panels", "rows"] {
        for panel in owner.get(key).and_then(Value::as_array).into_iter().flatten() {
            let library = panel.get("libraryPanel").is_some();
            let kind = panel.get("type").and_then(Value::as_str);
            if library || kind.is_some_and(|kind| kind != "row") {
                found.push(panel);
            }
            panels(panel, depth + 1, found);
        }
    }
}

/// Its title; a panel of the library may have none but the element's name.
fn title(panel: &Value) -> &str {
    let own = panel.get("title").and_then(Value::as_str).filter(|title| !title.is_empty());
    let library = || panel.get("libraryPanel").and_then(|from| from.get("name")?.as_str());
    own.or_else(library).unwrap_or_default()
}

fn find<'a>(dashboard: &'a Value, wanted: &str) -> Option<&'a Value> {
    let mut all = Vec::new();
    panels(dashboard, 0, &mut all);
    let by_title = all.iter().find(|panel| title(panel) == wanted);
    let by_id = || {
        let id = wanted.parse::<u64>().ok();
        all.iter().find(|panel| id.is_some() && panel.get("id").and_then(Value::as_u64) == id)
    };
    by_title.or_else(by_id).copied()
}

fn titles(dashboard: &Value) -> Vec<String> {
    let mut all = Vec::new();
    panels(dashboard, 0, &mut all);
    all.iter().take(20).map(|panel| format!("{:?}", title(panel))).collect()
}

#[cfg(test)]
mod tests;
