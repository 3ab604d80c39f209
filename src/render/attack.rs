//! What alerted here, as a layer of the ATT&CK Navigator (layer format 4.5).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::journey::{Fate, Stage};
use crate::ledger::Document;
use crate::spec::Period;

/// What is known of one technique.
#[derive(Default)]
struct Seen<'a> {
    alerted: u64,
    expected: u64,
    false_alarms: u64,
    /// Alerts beyond those that were expected.
    too_many: u64,
    within: Option<Duration>,
    journeys: Vec<&'a str>,
}

/// The layer of a report: each technique with the share of its expected alerts that came in time. A
/// technique that nothing was decided of yet has no score, and says so. `within` is how soon the
/// alerts of a journey are expected.
pub fn layer(document: &Document, within: impl Fn(&str) -> Option<Duration>) -> String {
    let mut techniques: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for row in &document.journeys {
        let Some(usecase) = &row.usecase else { continue };
        let stage = row.stages.iter().find(|stage| stage.name == Stage::Alerted);
        let alerted = stage.and_then(|stage| stage.fates.get(&Fate::Ok)).copied().unwrap_or(0);
        let twin = stage.and_then(|stage| stage.twin.as_ref());
        for technique in &usecase.attack {
            let seen = techniques.entry(technique).or_default();
            seen.alerted = seen.alerted.saturating_add(alerted);
            // What is of no known fate is no proof, and counts as expected.
            seen.expected = seen.expected.saturating_add(stage.map_or(0, |stage| stage.expected));
            seen.false_alarms += twin.map_or(0, |twin| twin.false_alarms);
            seen.too_many += stage.map_or(0, |stage| stage.duplicate);
            seen.within = seen.within.max(within(&row.id));
            seen.journeys.push(&row.id);
        }
    }
    let date = document.finished_at.get(..10).unwrap_or(&document.finished_at);
    let each: Vec<Value> = techniques
        .iter()
        .map(|(technique, seen)| {
            let within = seen.within.map(|span| format!(" within {}", Period(span)));
            let within = within.unwrap_or_default();
            let mut comment = match seen.expected {
                0 => format!("no alert was due yet, on {date}"),
                n => format!("alerted {} of {n}{within}, on {date}", seen.alerted),
            };
            if seen.too_many > 0 {
                comment.push_str(&format!("; {} more than were expected", seen.too_many));
            }
            if seen.false_alarms > 0 {
                comment.push_str(&format!("; {} false alarms of benign twins", seen.false_alarms));
            }
            let score = (seen.expected > 0)
                .then(|| (100.0 * seen.alerted as f64 / seen.expected as f64).floor());
            let mut entry = json!({
                "techniqueID": technique,
                "comment": comment,
                "enabled": true,
                "metadata": seen.journeys.iter().map(|journey| {
                    json!({ "name": "journey", "value": journey })
                }).collect::<Vec<_>>(),
                "showSubtechniques": technique.contains('.'),
            });
            if let (Some(score), Value::Object(entry)) = (score, &mut entry) {
                entry.insert(String::from("score"), json!(score));
            }
            entry
        })
        .collect();
    let layer = json!({
        "name": format!("Greenlight: {}", document.node.name),
        "versions": { "layer": "4.5" },
        "domain": "enterprise-attack",
        "description": format!(
            "Which techniques alerted, by synthetic events from {} to {}; plan {}",
            document.started_at, document.finished_at, document.plan.digest
        ),
        "techniques": each,
        "gradient": {
            "colors": ["#ff6666", "#ffe766", "#8ec843"],
            "minValue": 0,
            "maxValue": 100,
        },
        "legendItems": [
            { "label": "every alert came in time", "color": "#8ec843" },
            { "label": "none did", "color": "#ff6666" },
        ],
        "hideDisabled": false,
    });
    format!("{layer:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(journeys: &Value) -> Document {
        serde_json::from_value(json!({
            "version": 1,
            "tool": { "name": "greenlight", "version": "0" },
            "plan": { "digest": "d", "sources": [] },
            "node": { "name": "n1", "labels": {} },
            "started_at": "2026-03-01T10:00:00Z",
            "finished_at": "2026-03-01T11:00:00Z",
            "decision": "go",
            "counts": {},
            "gates": [],
            "checks": [],
            "journeys": journeys,
        }))
        .expect("it is a document")
    }

    fn journey(id: &str, attack: &[&str], fates: &Value, twin: u64) -> Value {
        let expected: u64 =
            fates.as_object().into_iter().flatten().filter_map(|f| f.1.as_u64()).sum();
        let latency = json!({ "p50": null, "p95": null, "p99": null, "max": null });
        json!({
            "id": id, "rounds": 1, "first_failing_stage": null,
            "usecase": { "name": id, "title": id, "attack": attack },
            "stages": [{
                "name": "alerted", "expected": expected, "fates": fates, "duplicate": 0,
                "latency_seconds": latency, "loss_upper_bound_95": null,
                "twin": { "rounds": 1, "inconclusive": 0, "false_alarms": twin },
            }],
        })
    }

    #[test]
    fn a_technique_is_as_good_as_its_alerts_that_came_in_time() {
        let mut journeys = json!([
            journey("ssh", &["T1110.001"], &json!({ "ok": 8, "late": 1, "lost": 1 }), 0),
            journey("spray", &["T1110.003", "T1078"], &json!({ "ok": 4 }), 2),
            journey("logon", &["T1078"], &json!({ "lost": 4 }), 0),
            journey("new", &["T1136"], &json!({}), 0),
        ]);
        journeys[0]["stages"][0]["duplicate"] = json!(3);
        let text = layer(&document(&journeys), |_| Some(Duration::from_secs(180)));
        let layer: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(layer["versions"]["layer"], "4.5");
        assert_eq!(layer["domain"], "enterprise-attack");
        let of = |id: &str| -> (Value, String) {
            let list = layer["techniques"].as_array().expect("a list");
            let entry = list.iter().find(|entry| entry["techniqueID"] == id).expect("it is there");
            (entry["score"].clone(), entry["comment"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(
            of("T1110.001"),
            (
                json!(80.0),
                String::from("alerted 8 of 10 within 3m, on 2026-03-01; 3 more than were expected")
            )
        );
        assert_eq!(
            of("T1078"),
            (
                json!(50.0),
                String::from(
                    "alerted 4 of 8 within 3m, on 2026-03-01; 2 false alarms of benign twins"
                )
            )
        );
        assert_eq!(
            of("T1136"),
            (Value::Null, String::from("no alert was due yet, on 2026-03-01")),
            "nothing decided is no pass"
        );
    }
}
