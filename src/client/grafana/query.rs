//! A panel's queries, as the browser sends them, and the frames of their answers as it takes them.

use serde_json::{Value, json};

use super::frame::{Frame, ref_id};
use super::prometheus;
use super::range::period;
use super::variables::{Dialect, Variables};

/// How many points a panel asks for where it does not say: as many as it is wide, and this is usual.
pub(super) const POINTS: u64 = 1000;

/// The data sources, as Grafana tells them whoever opens a dashboard.
#[derive(Debug, Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    default: Option<String>,
}

#[derive(Debug)]
pub(super) struct Source {
    name: String,
    uid: String,
    kind: String,
    interval: Option<String>,
    /// The field that a search finds its documents' time in.
    pub(super) time: Option<String>,
}

impl Sources {
    pub(super) fn of(settings: &Value) -> Self {
        let all = settings.get("datasources").and_then(Value::as_object).into_iter().flatten();
        let read = |(name, source): (&String, &Value)| {
            let text = |owner: &Value, key: &str| {
                owner.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
            };
            let of = |key: &str| source.get("jsonData").and_then(|data| text(data, key));
            Some(Source {
                name: name.clone(),
                uid: text(source, "uid")?,
                kind: text(source, "type")?,
                interval: of("timeInterval"),
                time: of("timeField"),
            })
        };
        let default = settings.get("defaultDatasource").and_then(Value::as_str);
        Self { list: all.filter_map(read).collect(), default: default.map(str::to_owned) }
    }

    /// By uid; dashboards of old say its name.
    fn find(&self, wanted: &str) -> Option<&Source> {
        let by_uid = self.list.iter().find(|source| source.uid == wanted);
        by_uid.or_else(|| self.list.iter().find(|source| source.name == wanted))
    }

    /// A target's own data source, else the panel's, else the default. The error says why it is not
    /// known.
    pub(super) fn of_target(
        &self,
        target: &Value,
        panel: &Value,
        variables: &Variables,
    ) -> Result<(Value, Option<&Source>), String> {
        let get = |owner: &Value| owner.get("datasource").filter(|s| !s.is_null()).cloned();
        let mixed = |source: &Value| {
            let uid = source.get("uid").or(Some(source)).and_then(Value::as_str);
            uid == Some("-- Mixed --")
        };
        let chosen = get(target).filter(|source| !mixed(source)).or_else(|| get(panel));
        let chosen = match chosen.filter(|source| !mixed(source)) {
            Some(chosen) => Some(variables.fill(&chosen, Dialect::Words)?),
            None => None,
        };
        let uid = match &chosen {
            Some(Value::Object(source)) => source.get("uid").and_then(Value::as_str),
            Some(Value::String(name)) => Some(name.as_str()),
            _ => None,
        };
        let uid = match uid.filter(|uid| !uid.is_empty() && *uid != "default") {
            Some(uid) => uid,
            None => self.default.as_deref().ok_or(
                "the panel uses the default data source, which is not known; choose one in it",
            )?,
        };
        match uid {
            "-- Dashboard --" => {
                return Err("the panel shows another panel's data; name that one".into());
            }
            uid if uid.contains('$') => {
                return Err(format!("the panel's data source {uid:?} is not known"));
            }
            _ => {}
        }
        let known = self.find(uid);
        let reference = match (known, &chosen) {
            (Some(source), _) => json!({"type": source.kind, "uid": source.uid}),
            (None, Some(Value::Object(source))) => Value::Object(source.clone()),
            (None, _) => json!({ "uid": uid }),
        };
        Ok((reference, known))
    }
}

pub(super) fn targets(panel: &Value) -> Vec<&Value> {
    panel.get("targets").and_then(Value::as_array).into_iter().flatten().collect()
}

fn hidden(target: &Value) -> bool {
    target.get("hide").and_then(Value::as_bool) == Some(true)
}

pub(super) fn kind(source: &Value) -> &str {
    source.get("type").or_else(|| source.get("uid")).and_then(Value::as_str).unwrap_or_default()
}

/// Whether Grafana's list of data sources must be read first: where a panel or a variable doesn't say
/// which it uses, or of which kind that is.
pub(super) fn needs_sources<'a>(panel: &'a Value, dashboard: &'a Value) -> bool {
    let plain = |source: Option<&Value>| {
        let text = |key: &str| source.and_then(|s| s.get(key)).and_then(Value::as_str);
        let known = matches!(text("type"), Some("prometheus" | "loki" | "__expr__"));
        known && text("uid").is_some_and(|uid| !uid.contains('$') && uid != "default")
    };
    let own = |owner: &'a Value| owner.get("datasource").filter(|source| !source.is_null());
    let variables = dashboard.get("templating").and_then(|t| t.get("list")?.as_array());
    let mut queries = variables.into_iter().flatten().filter(|one| one["type"] == "query");
    queries.any(|variable| !plain(own(variable)))
        || targets(panel).iter().any(|target| !plain(own(target).or_else(|| own(panel))))
}

/// The body of `/api/ds/query` for a panel. The error says what of the panel can't be computed.
pub(super) fn query(
    panel: &Value,
    sources: &Sources,
    variables: &mut Variables,
) -> Result<Value, String> {
    let targets = targets(panel);
    if targets.is_empty() {
        return Err("the panel has no queries".into());
    }
    let points = panel.get("maxDataPoints").and_then(Value::as_u64).filter(|p| *p > 0);
    let points = points.unwrap_or(POINTS);
    let mut found = Vec::new();
    for target in &targets {
        found.push(sources.of_target(target, panel, variables)?);
    }
    // Expressions work on queries that are hidden.
    let expressions = found.iter().any(|(source, _)| kind(source) == "__expr__");
    let range = variables.range;
    let mut queries = Vec::new();
    for (target, (source, known)) in targets.into_iter().zip(found) {
        if hidden(target) && !expressions {
            continue;
        }
        let own = panel.get("interval").and_then(Value::as_str).filter(|text| !text.is_empty());
        let own = own.map(|own| variables.fill_text(own, Dialect::Words)).transpose()?;
        let least = own.or_else(|| known.and_then(|source| source.interval.clone()));
        let least = match least {
            Some(text) => {
                Some(period(&text).ok_or_else(|| format!("the least step {text:?} is no period"))?)
            }
            None => None,
        };
        let step = range.step(points, least);
        variables.interval = Some(step);
        let Value::Object(mut target) = variables.fill(target, Dialect::of(kind(&source)))? else {
            return Err("a query of the panel is no object".into());
        };
        target.insert("datasource".into(), source);
        target.insert("intervalMs".into(), json!(step));
        target.insert("maxDataPoints".into(), json!(points));
        queries.push(Value::Object(target));
    }
    if queries.is_empty() {
        return Err("all queries of the panel are hidden".into());
    }
    Ok(json!({
        "queries": queries,
        "from": range.from.to_string(),
        "to": range.to.to_string(),
    }))
}

/// The frames of an answer, in the order of the queries, those of one data source together. The error
/// says what is not as Grafana answers.
pub(super) fn frames(answer: &Value, asked: &Value) -> Result<Vec<Frame>, String> {
    let results = answer.get("results").and_then(Value::as_object).ok_or("it has no results")?;
    let queries = asked.get("queries").and_then(Value::as_array).map(Vec::as_slice);
    let mut sources: Vec<(&Value, Vec<&Value>)> = Vec::new();
    for query in queries.unwrap_or_default().iter().filter(|query| !hidden(query)) {
        let source = query.get("datasource").unwrap_or(&Value::Null);
        match sources.iter_mut().find(|(known, _)| known.get("uid") == source.get("uid")) {
            Some((_, queries)) => queries.push(query),
            None => sources.push((source, vec![query])),
        }
    }
    let mut all = Vec::new();
    for (source, queries) in sources {
        let mut frames = Vec::new();
        for query in &queries {
            let ref_id = ref_id(query);
            let result = results.get(ref_id);
            let list = result.and_then(|result| result.get("frames")).and_then(Value::as_array);
            for frame in list.into_iter().flatten() {
                let mut frame = Frame::of(frame)?;
                frame.ref_id.get_or_insert_with(|| ref_id.to_owned());
                frames.push(frame);
            }
        }
        if prometheus::is(kind(source)) {
            frames = prometheus::shaped(frames, &queries)?;
        }
        all.extend(frames);
    }
    Ok(all)
}
