//! Prometheus' query API, and what speaks it (Thanos, Mimir, VictoriaMetrics, Loki's metrics).

use std::time::Duration;

use serde_json::Value;

use super::Clients;
use super::http::{Api, Request, excerpt, expect_success, json};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// An instant vector of more series is no check's answer; it is cut, and says so.
pub const SERIES_LIMIT: usize = 1000;

/// What an instant query yields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// One value a series; NaN and infinities as they came.
    pub series: Vec<Series>,
    /// The server says that it could not read everything.
    pub partial: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As `{name="value", ...}`, for messages.
    pub labels: String,
    pub value: f64,
}

/// Asks for the value of an expression now. A query that the server calls wrong is
/// `query_refused`; whatever else fails is the server's trouble.
pub async fn instant(
    api: &Api,
    clients: &Clients,
    query: &str,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer, Trouble> {
    let request = Request::get(api.at("api/v1/query", &[("query", query)]));
    let response = api.ask(clients, request, timeout, trace).await?;
    let status = response.status.as_u16();
    // 400 is a query that can't be read, 422 one that can't be executed (many-to-many, too many
    // samples): both stay wrong however often they are asked.
    if matches!(status, 400 | 422) {
        let said = serde_json::from_slice::<Value>(&response.body).ok();
        let said = said.as_ref().and_then(|body| body.get("error")).and_then(Value::as_str);
        let said = said.map_or_else(|| excerpt(&response.body), |said| excerpt(said.as_bytes()));
        return Err(Trouble::reason(
            ReasonCode::QueryRefused,
            format!("{} refused the query `{query}`: {said}", api.base()),
        ));
    }
    expect_success(&response)?;
    let body = json(&response)?;
    let answer = read(&body).map_err(|why| {
        Trouble::reason(
            ReasonCode::ProtocolError,
            format!("{} did not answer as Prometheus does: {why}", api.base()),
        )
    })?;
    for series in &answer.series {
        trace.note(format_args!("{} is {}", series.labels, series.value));
    }
    Ok(answer)
}

/// Reads the answer of `/api/v1/query`.
pub fn read(body: &Value) -> Result<Answer, String> {
    if body.get("status").and_then(Value::as_str) != Some("success") {
        return Err("its status is not success".into());
    }
    let data = body.get("data").ok_or("it has no data")?;
    let result = data.get("result").ok_or("it has no result")?;
    let mut series = match data.get("resultType").and_then(Value::as_str) {
        Some("scalar") => vec![Series { labels: "{}".into(), value: sample(result)? }],
        Some("vector") => {
            let items = result.as_array().ok_or("its vector is no array")?;
            let read = |item: &Value| -> Result<Series, String> {
                let value = item.get("value").ok_or("a series has no value")?;
                Ok(Series { labels: labels(item.get("metric")), value: sample(value)? })
            };
            items.iter().take(SERIES_LIMIT + 1).map(read).collect::<Result<_, _>>()?
        }
        other => {
            let other = other.unwrap_or("nothing");
            return Err(format!("it is {other}, and not an instant vector or a scalar"));
        }
    };
    let mut partial = warning(body);
    if series.len() > SERIES_LIMIT {
        series.truncate(SERIES_LIMIT);
        partial = Some(format!("more than {SERIES_LIMIT} series; sum or filter them"));
    }
    Ok(Answer { series, partial })
}

/// What the server could not read. Remarks on the query itself (`PromQL warning: ...`) are none.
fn warning(body: &Value) -> Option<String> {
    // VictoriaMetrics, where a part of its storage did not answer.
    if body.get("isPartial").and_then(Value::as_bool) == Some(true) {
        return Some("a part of its storage did not answer (isPartial)".to_owned());
    }
    let warnings = body.get("warnings")?.as_array()?;
    let mut texts = warnings.iter().filter_map(Value::as_str);
    texts.find(|text| !text.starts_with("PromQL")).map(|text| excerpt(text.as_bytes()))
}

/// `[seconds, "value"]`.
fn sample(pair: &Value) -> Result<f64, String> {
    let text = pair.get(1).and_then(Value::as_str).ok_or("a sample is no pair of time and text")?;
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        _ => text.parse().map_err(|_| format!("{:?} is no number", excerpt(text.as_bytes()))),
    }
}

fn labels(metric: Option<&Value>) -> String {
    let pairs = metric.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> =
        pairs.filter_map(|(name, value)| Some(format!("{name}={:?}", value.as_str()?))).collect();
    excerpt(format!("{{{}}}", pairs.join(", ")).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn vector(items: &Value) -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": items}})
    }

    #[test]
    fn vectors_and_scalars_are_read() {
        let body = vector(&json!([
            {"metric": {"instance": "a", "job": "x"}, "value": [1.5, "0.25"]},
            {"metric": {}, "value": [1.5, "NaN"]},
            {"metric": {}, "value": [1.5, "+Inf"]},
        ]));
        let answer = read(&body).unwrap();
        assert_eq!(answer.series[0].labels, r#"{instance="a", job="x"}"#);
        assert_eq!(answer.series[0].value, 0.25);
        assert!(answer.series[1].value.is_nan() && answer.series[2].value.is_infinite());
        let scalar =
            json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "4"]}});
        assert_eq!(read(&scalar).unwrap().series[0].value, 4.0);
        assert_eq!(read(&vector(&json!([]))).unwrap(), Answer::default());
    }

    #[test]
    fn what_could_not_be_read_is_partial_and_remarks_are_not() {
        let mut body = vector(&json!([]));
        body["warnings"] = json!(["PromQL warning: quantile value should be between 0 and 1"]);
        assert_eq!(read(&body).unwrap().partial, None);
        body["warnings"] = json!(["PromQL info: x", "store lake-1 is unreachable"]);
        assert_eq!(read(&body).unwrap().partial.unwrap(), "store lake-1 is unreachable");
        body = vector(&json!([]));
        for (said, partial) in [(true, true), (false, false)] {
            body["isPartial"] = json!(said);
            assert_eq!(read(&body).unwrap().partial.is_some(), partial, "of VictoriaMetrics");
        }
        let item = json!({"metric": {}, "value": [1, "1"]});
        let many = vector(&Value::Array(vec![item; SERIES_LIMIT + 5]));
        let answer = read(&many).unwrap();
        assert!(answer.partial.is_some() && answer.series.len() == SERIES_LIMIT);
    }

    #[test]
    fn other_answers_say_what_is_wrong() {
        for (body, shown) in [
            (json!({}), "status"),
            (json!({"status": "success"}), "no data"),
            (
                json!({"status": "success", "data": {"resultType": "matrix", "result": []}}),
                "matrix",
            ),
            (vector(&json!({})), "no array"),
            (vector(&json!([{"metric": {}}])), "no value"),
            (vector(&json!([{"value": [1, 2]}])), "pair"),
            (vector(&json!([{"value": [1, "x"]}])), "no number"),
        ] {
            let why = read(&body).unwrap_err();
            assert!(why.contains(shown), "{body}: {why}");
        }
    }

    #[test]
    fn garbage_never_panics() {
        let tried = std::cell::Cell::new(0);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
            prop_oneof![Just("success"), Just("vector"), Just("1e400"), Just("+Inf"), Just("")]
                .prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("status"),
            Just("data"),
            Just("result"),
            Just("resultType"),
            Just("value"),
            Just("metric"),
            Just("warnings"),
        ];
        let tree = leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| {
                    Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
                }),
            ]
        });
        proptest!(ProptestConfig::with_cases(3000), |(tree in tree)| {
            tried.set(tried.get() + 2);
            drop(read(&tree));
            drop(read(&vector(&tree)));
        });
        eprintln!("property promql answers: {} inputs", tried.get());
        assert!(tried.get() >= 6000);
    }
}
