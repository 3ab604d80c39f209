//! Alertmanager's API v2, as far as it tells which alerts are there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Clients;
use super::http::{Api, Request};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Wall;

/// One alert that Alertmanager holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub generator_url: String,
    pub fingerprint: String,
    pub starts: Option<Wall>,
    /// As it was written, for what tells copies apart.
    pub starts_text: String,
    /// Silenced, inhibited or muted, and by what: raised, but nobody is told.
    pub suppressed: Option<String>,
    pub receivers: Vec<String>,
}

impl Alert {
    /// All its texts: where a token may stand.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let pairs = self.labels.values().chain(self.annotations.values());
        pairs.map(String::as_str).chain([self.generator_url.as_str()])
    }

    /// Whether each of these labels has this value.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Its name and labels in one line.
    pub fn describe(&self) -> String {
        let pairs: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        super::http::excerpt(format!("{{{}}}", pairs.join(", ")).as_bytes())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
    #[serde(default)]
    fingerprint: String,
    #[serde(default)]
    starts_at: String,
    status: WireStatus,
    #[serde(default)]
    receivers: Vec<WireReceiver>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    state: String,
    #[serde(default)]
    silenced_by: Vec<String>,
    #[serde(default)]
    inhibited_by: Vec<String>,
    #[serde(default)]
    muted_by: Vec<String>,
}

#[derive(Deserialize)]
struct WireReceiver {
    name: String,
}

impl From<Wire> for Alert {
    fn from(wire: Wire) -> Self {
        let by = |what: &str, by: &[String]| {
            (!by.is_empty()).then(|| format!("{what} by {}", by.join(", ")))
        };
        let status = &wire.status;
        let suppressed = (status.state == "suppressed").then(|| {
            by("silenced", &status.silenced_by)
                .or_else(|| by("inhibited", &status.inhibited_by))
                .or_else(|| by("muted", &status.muted_by))
                .unwrap_or_else(|| "suppressed".into())
        });
        Self {
            starts: Wall::parse(&wire.starts_at),
            labels: wire.labels,
            annotations: wire.annotations,
            generator_url: wire.generator_url,
            fingerprint: wire.fingerprint,
            starts_text: wire.starts_at,
            suppressed,
            receivers: wire.receivers.into_iter().map(|receiver| receiver.name).collect(),
        }
    }
}

/// Label names that every version takes in a filter without quotes.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    for name in labels.keys() {
        let mut chars = name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("{name:?} is no label name (letters, digits and `_`)"));
        }
    }
    Ok(())
}

/// All alerts with these labels, suppressed ones included.
pub async fn alerts(
    api: &Api,
    clients: &Clients,
    labels: &BTreeMap<String, String>,
    timeout: Duration,
    trace: &Trace,
) -> Result<Vec<Alert>, Trouble> {
    let filters: Vec<String> = labels.iter().map(|(name, value)| filter(name, value)).collect();
    let query: Vec<(&str, &str)> = filters.iter().map(|filter| ("filter", &**filter)).collect();
    let request = Request::get(api.at("api/v2/alerts", &query));
    let answer = api.ask_json(clients, request, timeout, trace).await?;
    let wire: Vec<Wire> = serde_json::from_value(answer).map_err(|error| {
        Trouble::reason(
            ReasonCode::ProtocolError,
            format!("{} did not answer as Alertmanager does: {error}", api.base()),
        )
    })?;
    let alerts: Vec<Alert> = wire
        .into_iter()
        .map(Alert::from)
        // A proxy that drops the filters would make every alert a match.
        .filter(|alert| alert.has(labels))
        .collect();
    for alert in &alerts {
        let state = alert.suppressed.as_deref().unwrap_or("active");
        trace.note(format_args!("alert {} is {state}", alert.describe()));
    }
    Ok(alerts)
}

/// A silence that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    pub id: String,
    /// What it is of, who made it, until when, and why.
    pub told: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSilence {
    #[serde(default)]
    id: String,
    status: WireSilenceStatus,
    #[serde(default)]
    matchers: Vec<WireMatcher>,
    #[serde(default)]
    ends_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
struct WireSilenceStatus {
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMatcher {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    /// Versions before 0.22 know no other.
    is_equal: Option<bool>,
}

impl From<WireSilence> for Silence {
    fn from(wire: WireSilence) -> Self {
        let matcher = |matcher: &WireMatcher| {
            let WireMatcher { name, value, is_regex, is_equal } = matcher;
            let operator = match (is_equal.unwrap_or(true), is_regex) {
                (true, false) => "=",
                (true, true) => "=~",
                (false, false) => "!=",
                (false, true) => "!~",
            };
            format!("{name}{operator}{value:?}")
        };
        let of: Vec<String> = wire.matchers.iter().map(matcher).collect();
        let WireSilence { ends_at, created_by, comment, .. } = &wire;
        let told = format!("{{{}}} until {ends_at}, by {created_by:?}: {comment}", of.join(", "));
        Self { told: super::http::excerpt(told.as_bytes()), id: wire.id }
    }
}

/// The silences that are in force, whether they silence anything now or not.
pub async fn silences(
    api: &Api,
    clients: &Clients,
    timeout: Duration,
    trace: &Trace,
) -> Result<Vec<Silence>, Trouble> {
    let request = Request::get(api.at("api/v2/silences", &[]));
    let answer = api.ask_json(clients, request, timeout, trace).await?;
    let wire: Vec<WireSilence> = serde_json::from_value(answer).map_err(|error| {
        let text = format!("{} did not answer as Alertmanager does: {error}", api.base());
        Trouble::reason(ReasonCode::ProtocolError, text)
    })?;
    Ok(wire.into_iter().filter(|one| one.status.state == "active").map(Silence::from).collect())
}

/// A matcher in the syntax of Alertmanager's filters.
fn filter(name: &str, value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn alerts_are_read_with_what_suppresses_them() {
        let wire: Vec<Wire> = serde_json::from_value(json!([
            {"labels": {"alertname": "A"}, "annotations": {"summary": "s"},
             "startsAt": "2023-11-14T22:13:20.000Z", "endsAt": "x", "fingerprint": "f1",
             "generatorURL": "http://p/g", "receivers": [{"name": "soc"}], "updatedAt": "y",
             "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}},
            {"labels": {}, "status": {"state": "suppressed", "silencedBy": ["id1"]}},
            {"labels": {}, "status": {"state": "suppressed", "inhibitedBy": ["f1"]}},
            {"labels": {}, "status": {"state": "unprocessed"}},
        ]))
        .unwrap();
        let alerts: Vec<Alert> = wire.into_iter().map(Alert::from).collect();
        assert_eq!(alerts[0].starts, Some(Wall::from_secs(1_700_000_000)));
        assert_eq!(alerts[0].texts().collect::<Vec<_>>(), ["A", "s", "http://p/g"]);
        assert_eq!(alerts[0].receivers, ["soc"]);
        let suppressed: Vec<_> = alerts.iter().map(|a| a.suppressed.as_deref()).collect();
        assert_eq!(suppressed, [None, Some("silenced by id1"), Some("inhibited by f1"), None]);
    }

    #[test]
    fn a_silence_tells_what_it_is_of_and_whose_it_is() {
        let matcher = |regex: bool, equal: Value| json!({"name": "a", "value": "x\"", "isRegex": regex, "isEqual": equal});
        let wire: WireSilence = serde_json::from_value(json!({
            "id": "s1", "status": {"state": "active"}, "endsAt": "2027-01-01T00:00:00.000Z",
            "createdBy": "ops", "comment": "noisy\u{1b}[31m",
            "matchers": [matcher(false, Value::Null), matcher(true, json!(true)),
                         matcher(false, json!(false)), matcher(true, json!(false))],
        }))
        .unwrap();
        let silence = Silence::from(wire);
        assert_eq!(silence.id, "s1");
        assert_eq!(
            silence.told,
            "{a=\"x\\\"\", a=~\"x\\\"\", a!=\"x\\\"\", a!~\"x\\\"\"} until \
             2027-01-01T00:00:00.000Z, by \"ops\": noisy [31m"
        );
    }

    #[test]
    fn filters_are_escaped_and_label_names_checked() {
        assert_eq!(filter("a", "x\"y\\z\n"), r#"a="x\"y\\z\n""#);
        let labels = |name: &str| BTreeMap::from([(name.to_owned(), String::new())]);
        for name in ["alertname", "_x", "a1"] {
            assert_eq!(check_labels(&labels(name)), Ok(()));
        }
        for name in ["", "1a", "a-b", "a b", "ä"] {
            assert!(check_labels(&labels(name)).is_err(), "{name}");
        }
    }
}
