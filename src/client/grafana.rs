//! Grafana: a dashboard's panel, its queries as the browser would send them, and the number that
//! it would show.
//!
//! Variables, reductions and transformations are the browser's work in Grafana, so they are done
//! here; `$__interval` and its kin are the data source's, and stay.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Clients;
use super::http::{Api, Request, excerpt, expect_success, json as read_json};
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Wall;
use reduce::numbers;
pub use reduce::{Reduce, Shown};
use variables::Variables;

mod reduce;
mod variables;

/// What Grafana sends where a panel names no other number of points.
const POINTS: u64 = 1000;
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
    /// How series become one number, where the panel's own way is not meant.
    pub reduce: Option<Reduce>,
    /// Which of several series.
    pub series: Option<&'a str>,
    pub now: Wall,
}

/// What came of reading a panel.
#[derive(Clone, Debug, PartialEq)]
pub enum Panel {
    /// The number it shows; None is "No data".
    Number(Option<f64>),
    /// It is not there, or shows an error: a person sees no number either.
    Broken(String),
}

/// Reads the number that a panel shows. Trouble is what kept us from seeing.
pub async fn read(
    api: &Api,
    clients: &Clients,
    asked: &Asked<'_>,
    timeout: Duration,
    trace: &Trace,
) -> Result<Panel, Trouble> {
    let until = tokio::time::Instant::now() + timeout;
    let request = Request::get(api.at(&format!("api/dashboards/uid/{}", asked.dashboard), &[]));
    let response = api.ask(clients, request, timeout, trace).await?;
    if response.status == hyper::StatusCode::NOT_FOUND && says_dashboard(&response.body) {
        return Ok(Panel::Broken(format!("there is no dashboard {}", asked.dashboard)));
    }
    expect_success(&response)?;
    let document = read_json(&response)?;
    let dashboard = document.get("dashboard").filter(|d| d.is_object()).ok_or_else(|| {
        Trouble::reason(ReasonCode::ProtocolError, format!("{} sent no dashboard", api.base()))
    })?;
    let Some(panel) = find(dashboard, asked.panel) else {
        let titles = titles(dashboard).join(", ");
        return Ok(Panel::Broken(format!(
            "the dashboard {} has no panel {:?}; it has {titles}",
            asked.dashboard, asked.panel
        )));
    };
    let unsupported = |text: String| Trouble::fault(FaultCode::Unsupported, text);
    let query = query(dashboard, panel, asked).map_err(unsupported)?;
    trace.note(format_args!("the panel asks {query}"));
    let left = until.saturating_duration_since(tokio::time::Instant::now());
    let request = Request::post_json(api.at("api/ds/query", &[]), &query);
    let response = api.ask(clients, request, left, trace).await?;
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
    let hidden = hidden(panel);
    let reduce = match asked.reduce {
        Some(reduce) => reduce,
        None => Reduce::of_panel(panel).map_err(unsupported)?,
    };
    match numbers(&answer, &hidden, reduce, asked.series) {
        Ok(Shown::Nothing) => Ok(Panel::Number(None)),
        Ok(Shown::One(value)) => Ok(Panel::Number(Some(value))),
        Ok(Shown::Several(names)) => Err(unsupported(format!(
            "the panel shows {} numbers; name one under `series`: {}",
            names.len(),
            excerpt(names.join(", ").as_bytes())
        ))),
        Err(why) => Err(Trouble::reason(
            ReasonCode::ProtocolError,
            format!("{} did not answer as Grafana does: {why}", api.base()),
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
            if panel.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "row") {
                found.push(panel);
            }
            panels(panel, depth + 1, found);
        }
    }
}

fn title(panel: &Value) -> &str {
    panel.get("title").and_then(Value::as_str).unwrap_or_default()
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

fn hidden(panel: &Value) -> Vec<String> {
    let targets = panel.get("targets").and_then(Value::as_array).into_iter().flatten();
    targets
        .filter(|target| target.get("hide").and_then(Value::as_bool) == Some(true))
        .filter_map(|target| target.get("refId").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

/// The body of `/api/ds/query` for a panel. The error says what of the panel only a browser can.
fn query(dashboard: &Value, panel: &Value, asked: &Asked<'_>) -> Result<Value, String> {
    let some = |key: &str| panel.get(key).and_then(Value::as_array).is_some_and(|a| !a.is_empty());
    if some("transformations") {
        return Err("the panel has transformations, which only a browser carries out".into());
    }
    if panel.get("libraryPanel").is_some() && !some("targets") {
        return Err(
            "the panel comes from the library, whose queries are not in the dashboard".into()
        );
    }
    if !some("targets") {
        return Err("the panel has no queries".into());
    }
    let variables = Variables::of(dashboard, asked.variables);
    let back = match asked.back {
        Some(back) => back,
        None => range(dashboard, panel)?,
    };
    let points = panel.get("maxDataPoints").and_then(Value::as_u64).filter(|p| *p > 0);
    let points = points.unwrap_or(POINTS);
    let smallest = panel.get("interval").and_then(Value::as_str).and_then(period);
    let even = back / u32::try_from(points).unwrap_or(u32::MAX).max(1);
    let interval = even.max(smallest.unwrap_or(Duration::from_secs(1)));
    let targets = panel.get("targets").and_then(Value::as_array).into_iter().flatten();
    let mut queries = Vec::new();
    for target in targets {
        let Value::Object(mut target) = variables.fill(target) else { continue };
        let source = source(&target, panel, &variables)?;
        target.insert("datasource".into(), source);
        target.insert("intervalMs".into(), json!(u64::try_from(interval.as_millis()).unwrap_or(1)));
        target.insert("maxDataPoints".into(), json!(points));
        queries.push(Value::Object(target));
    }
    let millis = |at: Wall| at.0.div_euclid(1_000_000).to_string();
    Ok(json!({
        "queries": queries,
        "from": millis(asked.now.minus(back)),
        "to": millis(asked.now),
    }))
}

/// A query's own data source, else the panel's.
fn source(
    target: &Map<String, Value>,
    panel: &Value,
    variables: &Variables,
) -> Result<Value, String> {
    let own = target.get("datasource").filter(|source| !source.is_null());
    let source = own.or_else(|| panel.get("datasource")).map(|source| variables.fill(source));
    match source {
        Some(Value::Object(source)) => match source.get("uid").and_then(Value::as_str) {
            Some("-- Dashboard --") => {
                Err("the panel shows another panel's data; name that one".into())
            }
            Some(uid) if !uid.is_empty() && !uid.contains('$') => Ok(Value::Object(source)),
            _ => Err(format!("the panel's data source is not known: {}", Value::Object(source))),
        },
        // Dashboards of old name it in a text, by its name; newer Grafana takes that for a uid.
        Some(Value::String(name)) if !name.is_empty() && !name.contains('$') => {
            Ok(json!({"uid": name}))
        }
        _ => Err("the panel uses the default data source; choose one in the panel".into()),
    }
}

/// The range that the panel shows: its own, else the dashboard's; both up to now.
fn range(dashboard: &Value, panel: &Value) -> Result<Duration, String> {
    if panel.get("timeShift").and_then(Value::as_str).is_some_and(|shift| !shift.is_empty()) {
        return Err("the panel is shifted in time, so it never shows what is now".into());
    }
    let own = panel.get("timeFrom").and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = own.or_else(|| dashboard.get("time")?.get("from")?.as_str()).unwrap_or("now-6h");
    let bare = text.strip_prefix("now-").unwrap_or(text);
    period(bare).ok_or_else(|| format!("the range {text:?} is not relative to now; give `from`"))
}

/// A period as Grafana writes them: one number, one unit; `>` before it means "at least".
fn period(text: &str) -> Option<Duration> {
    let text = text.trim_start_matches(">=").trim_start_matches('>');
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        "M" => 2_592_000_000,
        "y" => 31_536_000_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?)).filter(|period| !period.is_zero())
}

#[cfg(test)]
mod tests;
