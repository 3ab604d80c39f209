//! How the browser shapes Prometheus' series, against the package that it does that with.

use serde_json::{Map, Value, json};

use super::super::frame::Field;
use super::super::query::frames;
use super::oracle::{Dice, as_json, frame, hold};

/// Series as Prometheus' data source answers them, of some queries to one server.
fn series(dice: &mut Dice, ref_id: &str) -> Vec<Value> {
    let metric = *dice.one(&["up", "events_total"]);
    let called = if dice.often(50) { metric } else { "Value" };
    (0..dice.roll(4))
        .map(|_| {
            let mut labels = json!({"host": *dice.one(&["a", "b"])});
            if dice.often(60) {
                labels["__name__"] = metric.into();
            }
            if dice.often(40) {
                labels["job"] = (*dice.one(&["x", "y"])).into();
            }
            if dice.often(2) {
                labels["le"] = "0.5".into();
            }
            let columns = [("Time", "time", None), (called, "number", Some(labels))];
            let rough = dice.often(10);
            let columns = if dice.often(4) { &columns[..0] } else { &columns[..] };
            let mut frame = frame(dice, ref_id, columns, None, rough);
            if called == "Value"
                && dice.often(30)
                && let Some(config) = frame.pointer_mut("/schema/fields/1/config")
            {
                config["displayNameFromDS"] = "given".into();
            }
            if dice.often(4) {
                frame["schema"]["meta"] = json!({"custom": {"resultType": "exemplar"}});
            }
            frame
        })
        .collect()
}

#[test]
fn series_of_prometheus_are_shaped_as_its_data_source_shapes_them() {
    let mut dice = Dice(4242);
    let mut asks = Vec::new();
    for _ in 0..1200 {
        let (mut queries, mut shapes) = (Vec::new(), Vec::new());
        let kinds = ["prometheus", "grafana-azureprometheus-datasource"];
        let kind = *dice.one(&kinds);
        for ref_id in ["A", "B", "C"].iter().take(dice.roll(3) + 1) {
            let mut query = json!({
                "refId": ref_id, "format": dice.one(&["table", "table", "time_series"]),
                "datasource": {"type": kind, "uid": "p"},
            });
            if dice.often(50) {
                query["legendFormat"] = "__auto".into();
            }
            shapes.extend(series(&mut dice, ref_id));
            queries.push(query);
        }
        asks.push(json!({"op": "prometheus", "queries": queries, "frames": shapes}));
    }
    let ours = |ask: &Value| {
        let mut results = Map::new();
        for frame in ask["frames"].as_array().unwrap() {
            let result = results.entry(frame["schema"]["refId"].as_str().unwrap());
            let result = result.or_insert_with(|| json!({"frames": []}));
            result["frames"].as_array_mut().unwrap().push(frame.clone());
        }
        let shaped = frames(&json!({"results": results}), ask)?;
        let shaped = shaped.iter().map(|frame| {
            let name = |field: &Field| field.config.get("displayNameFromDS").cloned();
            let mut shaped = as_json(frame);
            shaped["names"] = frame.fields.iter().map(name).collect();
            shaped
        });
        Ok(shaped.collect())
    };
    hold("series of prometheus", &asks, ours, 15);
}
