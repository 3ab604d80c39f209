//! The values that a variable has now, asked for as the browser asks when a dashboard is opened.

use serde_json::{Map, Value, json};

use super::frame::{Cell, Frame, Kind};
use super::js::Pattern;
use super::query::{POINTS, Sources, kind};
use super::variables::{Choice, Dialect, Variables, custom, matching};
use super::{Request, Session, Trouble, read_json};

/// A variable has no more values than this.
const LIMIT: usize = 10_000;
/// A search gives out so many values where its query does not say.
const TERMS: u64 = 500;

/// What a variable's query asks, and how its answer is read.
#[derive(Debug)]
pub(super) enum Ask {
    /// Prometheus' own lists, of which those that match are taken.
    List { path: String, query: Vec<(&'static str, String)>, matching: Option<String> },
    /// Any query, whose answer is a table of values.
    Table(Value),
    /// A query of Prometheus, whose series are written out.
    Series(Value),
}

type Options = Result<Option<Vec<Choice>>, String>;

/// The values of a variable. The error within says which can't be computed; none are those of a
/// variable that asks nobody.
pub(super) async fn options(
    session: &Session<'_>,
    variable: &Value,
    variables: &Variables,
    sources: &Sources,
) -> Result<Options, Trouble> {
    let text = |key: &str| variable.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "custom" => {
            if text("valuesFormat") == "json" {
                return Ok(Err("its values are JSON".into()));
            }
            let query = variables.fill_text(text("query"), Dialect::Words);
            let listed = |query: String| Some(custom(&query)).filter(|list| !list.is_empty());
            return Ok(query.map(listed));
        }
        "query" => {}
        _ => return Ok(Ok(None)),
    }
    if variable.get("staticOptions").is_some_and(|options| !options.is_null()) {
        return Ok(Err("it has values of its own beside those of its query".into()));
    }
    let found = match ask(variable, variables, sources) {
        Ok(ask) => answered(session, &ask).await?,
        Err(why) => Err(why),
    };
    let pattern = variables.fill_text(text("regex"), Dialect::Words);
    Ok(found.and_then(|found| matching(found, &pattern?)).map(Some))
}

async fn answered(
    session: &Session<'_>,
    ask: &Ask,
) -> Result<Result<Vec<Choice>, String>, Trouble> {
    let response = match ask {
        Ask::List { path, query, .. } => {
            let query: Vec<(&str, &str)> = query.iter().map(|(k, v)| (*k, v.as_str())).collect();
            session.get(path, &query).await?
        }
        Ask::Table(body) | Ask::Series(body) => {
            session.ask(Request::post_json(session.api.at("api/ds/query", &[]), body)).await?
        }
    };
    if !response.status.is_success() {
        return Ok(Err(format!("its query was answered with {}", response.status)));
    }
    let read = taken(ask, &read_json(&response)?);
    Ok(read.and_then(|values| match values.len() {
        count if count > LIMIT => Err(format!("it has {count} values")),
        _ => Ok(values),
    }))
}

/// The request for a variable's values. The error says what of it can't be computed.
pub(super) fn ask(
    variable: &Value,
    variables: &Variables,
    sources: &Sources,
) -> Result<Ask, String> {
    let (source, known) = sources.of_target(variable, &Value::Null, variables)?;
    let dialect = Dialect::of(kind(&source));
    let asked = match variable.get("query") {
        Some(Value::String(text)) => text.as_str(),
        Some(query) => {
            let text = |key: &str| query.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
            text("query").or_else(|| text("rawSql")).unwrap_or_default()
        }
        None => "",
    };
    let body = |query: Value, to: i64| {
        let mut query = query;
        query["refId"] = "A".into();
        query["datasource"] = source.clone();
        query["intervalMs"] = 60_000.into();
        query["maxDataPoints"] = POINTS.into();
        let from = variables.range.from.to_string();
        json!({"queries": [query], "from": from, "to": to.to_string()})
    };
    let to = variables.range.to;
    match (kind(&source), dialect) {
        ("prometheus", _) => {
            let uid = source.get("uid").and_then(Value::as_str).unwrap_or_default();
            let asked = variables.fill_text(asked, dialect)?;
            of_prometheus(asked.trim(), uid, (variables.range.from, to)).map(|ask| match ask {
                Ok(list) => list,
                // Asked for whole seconds, which are a part of what is written out.
                Err(expr) => {
                    let query = json!({"expr": expr, "instant": true, "range": false});
                    Ask::Series(body(query, rounded_up(to) * 1000))
                }
            })
        }
        (_, Dialect::Sql) => {
            let sql = variables.fill_text(asked, dialect)?;
            Ok(Ask::Table(body(json!({"rawSql": sql, "format": "table"}), to)))
        }
        (_, Dialect::Lucene) => {
            let time = known.and_then(|source| source.time.as_deref());
            let terms = terms(asked, time, variables)?;
            Ok(Ask::Table(body(terms, to)))
        }
        (kind, _) => Err(format!("its query of a data source of the type {kind:?}")),
    }
}

fn rounded_up(millis: i64) -> i64 {
    millis.div_euclid(1000) + i64::from(millis.rem_euclid(1000) > 0)
}

/// One of Prometheus' lists, or the expression whose series are meant.
fn of_prometheus(
    asked: &str,
    uid: &str,
    (from, to): (i64, i64),
) -> Result<Result<Ask, String>, String> {
    let inner = |name: &str| {
        let rest = asked.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(rest.trim())
    };
    let list = |rest: &str, selector: Option<&str>, matching: Option<&str>| {
        let path = format!("api/datasources/uid/{uid}/resources/api/v1/{rest}");
        let seconds = [("start", from.div_euclid(1000)), ("end", rounded_up(to))];
        let mut query: Vec<_> = seconds.map(|(key, at)| (key, at.to_string())).into();
        query.extend(selector.map(|selector| ("match[]", selector.to_owned())));
        Ok(Ok(Ask::List { path, query, matching: matching.map(str::to_owned) }))
    };
    if let Some(inner) = inner("label_values") {
        let (selector, label) = match inner.rsplit_once(',') {
            Some((selector, label)) => (Some(selector.trim()), label.trim()),
            None => (None, inner),
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if label.is_empty() || !label.bytes().all(name) {
            return Err(format!("its query {asked:?} names no label"));
        }
        return list(&format!("label/{label}/values"), selector, None);
    }
    if let Some(pattern) = inner("metrics").filter(|pattern| !pattern.is_empty()) {
        return list("label/__name__/values", None, Some(pattern));
    }
    match (inner("label_names"), inner("query_result")) {
        (Some(""), _) => list("labels", None, None),
        (Some(_), _) => Err("the names of some metrics' labels".into()),
        (_, Some(expr)) if !expr.is_empty() => Ok(Err(expr.to_owned())),
        _ if asked.is_empty() => Err("it has no query".into()),
        _ => list("series", Some(asked), None),
    }
}

/// A search's `{"find": "terms", …}`, as the query that shows the same values.
fn terms(asked: &str, time: Option<&str>, variables: &Variables) -> Result<Value, String> {
    let wanted: Value = serde_json::from_str(asked).unwrap_or_default();
    let text = |key: &str| wanted.get(key).and_then(Value::as_str).unwrap_or_default();
    let fill = |key: &str| variables.fill_text(text(key), Dialect::Lucene);
    if text("find") != "terms" || text("field").is_empty() {
        return Err(format!("its query {asked:?} is not of terms"));
    }
    let by = match text("orderBy") {
        "" | "key" | "term" => "_key",
        "doc_count" => "_count",
        other => return Err(format!("its order by {other:?}")),
    };
    let order = match (text("order"), by) {
        ("", "_count") => "desc",
        ("", _) => "asc",
        (order, _) => order,
    };
    let size = match wanted.get("size") {
        None | Some(Value::Null) => TERMS,
        Some(size) => size.as_u64().filter(|size| *size > 0).ok_or("its size is no number")?,
    };
    Ok(json!({
        "query": fill("query")?,
        "timeField": time.unwrap_or("@timestamp"),
        "metrics": [{"id": "1", "type": "count"}],
        "bucketAggs": [{"id": "2", "type": "terms", "field": fill("field")?, "settings": {
            "min_doc_count": "1", "size": size.to_string(), "order": order, "orderBy": by,
        }}],
    }))
}

/// The values in an answer. The error says what is not as it should be.
pub(super) fn taken(ask: &Ask, answer: &Value) -> Result<Vec<Choice>, String> {
    match ask {
        Ask::List { path, matching, .. } => {
            let list = answer.get("data").and_then(Value::as_array).ok_or("it had no list")?;
            let texts: Vec<String> = if path.ends_with("/series") {
                list.iter().filter_map(Value::as_object).map(series).collect()
            } else {
                list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let pattern = matching.as_deref().map(|text| Pattern::of(&format!("/{text}/")));
            let pattern = pattern.transpose()?;
            let kept = |text: &String| pattern.as_ref().is_none_or(|p| p.regex().is_match(text));
            Ok(texts.into_iter().filter(kept).map(|text| (text.clone(), text)).collect())
        }
        Ask::Table(body) => {
            let mut frames = frames(answer)?;
            let Some(first) = frames.next() else { return Ok(Vec::new()) };
            // What a search finds is shown as a text that its number does not tell.
            let terms = body.pointer("/queries/0/bucketAggs").is_some();
            table(&first?, terms)
        }
        Ask::Series(_) => {
            let written = |frame: Result<Frame, String>| written(&frame?);
            frames(answer)?.map(written).filter_map(Result::transpose).collect()
        }
    }
}

fn frames(answer: &Value) -> Result<impl Iterator<Item = Result<Frame, String>>, String> {
    let results = answer.get("results").and_then(Value::as_object).ok_or("it had no results")?;
    let lists = results.values().filter_map(|result| result.get("frames")?.as_array());
    Ok(lists.flatten().map(Frame::of))
}

/// A table's only column, or `__text` and `__value`; of a search, the column that its terms stand in.
fn table(frame: &Frame, terms: bool) -> Result<Vec<Choice>, String> {
    let column = |name: &str| frame.fields.iter().find(|field| field.name == name);
    let (texts, of) = match (column("__text"), column("__value"), frame.fields.as_slice()) {
        (_, _, []) => return Ok(Vec::new()),
        (_, _, [first, ..]) if terms && first.kind == Kind::String => (first, first),
        _ if terms => return Err("what its search finds are no texts".into()),
        (Some(texts), Some(values), _) => (texts, values),
        (None, None, [only]) => (only, only),
        _ => return Err("its query yields several columns".into()),
    };
    let cell = |cell: &Cell| if cell.none() { String::new() } else { cell.text() };
    let rows = 0..frame.length;
    Ok(rows.map(|row| (cell(texts.at(row)), cell(of.at(row)))).collect())
}

/// A series' name and labels.
fn series(labels: &Map<String, Value>) -> String {
    let own = labels.iter().filter(|(name, _)| *name != "__name__");
    let pairs = own.map(|(name, value)| format!("{name}=\"{}\"", value.as_str().unwrap_or("")));
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or_default();
    format!("{name}{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// A series with its value and the time of that, as `query_result` writes it; a scalar is its value
/// alone.
fn written(frame: &Frame) -> Result<Option<Choice>, String> {
    let (time, value) = match frame.fields.as_slice() {
        [] => return Ok(None),
        [time, value] if time.kind == Kind::Time && value.kind == Kind::Number => (time, value),
        _ => return Err("its query yields no series".into()),
    };
    let (Cell::Number(at), Cell::Number(number)) = (time.at(0), value.at(0)) else {
        return Ok(None);
    };
    let number = match *number {
        number if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        number => number.to_string(),
    };
    let Some(labels) = &value.labels else { return Ok(Some((number.clone(), number))) };
    let labels = labels.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    let text = format!("{} {number} {}", series(&labels.collect()), super::js::text(*at));
    Ok(Some((text.clone(), text)))
}
