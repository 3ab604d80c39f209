//! Our reading of a panel against the package that the browser computes it with, on generated cases.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::super::display::apply_options;
use super::super::frame::{Cell, Field, Frame, Kind};
use super::super::range::{Range, written};
use super::super::reduce::{Reducer, known as reducers, reduce};
use super::super::show::{Choice, single};
use super::super::transform::transform;
use super::super::{format, range};

/// Numbers that look like chance and are the same in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }

    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    pub(super) fn often(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

/// Asks the package all at once; answers come in the order of the questions.
pub(super) fn answers(asks: &[Value]) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let package = target.join("peers/grafana-data");
    for part in ["data", "prometheus"] {
        assert!(
            package.join("node_modules/@grafana").join(part).is_dir(),
            "@grafana/{part} is not fetched (into {}): run tests/run, or tests/peers/fetch",
            package.display()
        );
    }
    let mut node = Command::new("node")
        .arg(root.join("tests/peers/grafana-data/oracle.js"))
        .arg(&package)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs: it is Debian's package nodejs");
    let mut input = node.stdin.take().unwrap();
    let text: String = asks.iter().map(|ask| format!("{ask}\n")).collect();
    let lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        // Beside reading: neither side then waits for the other's pipe.
        scope.spawn(move || input.write_all(text.as_bytes()).unwrap());
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    });
    assert!(node.wait().unwrap().success());
    assert_eq!(answers.len(), asks.len());
    answers
}

/// Equal, but for the last digits of a number.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        (a, b) => a == b,
    }
}

/// Holds what we make of each case against what the package makes of it. What we refuse is counted,
/// and must be rare.
pub(super) fn hold(
    what: &str,
    asks: &[Value],
    ours: impl Fn(&Value) -> Result<Value, String>,
    refused: usize,
) {
    let mut refusals: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    for (ask, theirs) in asks.iter().zip(answers(asks)) {
        match (ours(ask), theirs.get("ok")) {
            (Ok(ours), Some(theirs)) if same(&ours, theirs) => {}
            (Err(why), _) => refusals.push(why),
            (Ok(ours), _) => wrong.push(format!("{ask}\n   ours {ours}\n theirs {theirs}")),
        }
    }
    let shown: Vec<&str> = wrong.iter().take(5).map(String::as_str).collect();
    assert!(
        wrong.is_empty(),
        "{what}: {} of {} differ:\n{}",
        wrong.len(),
        asks.len(),
        shown.join("\n")
    );
    eprintln!(
        "property grafana {what}: {} inputs against @grafana/data, {} refused",
        asks.len(),
        refusals.len()
    );
    let most = asks.len() * refused / 100;
    assert!(refusals.len() <= most, "{what}: too much is refused: {refusals:#?}");
}

fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!({ "$": super::super::js::text(value) }) }
}

#[test]
fn values_are_written_with_their_units_as_grafana_writes_them() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let own = [
        "events",
        "suffix:ev",
        "prefix:~",
        "si:mV",
        "si:V",
        "si:µg",
        "count:ev",
        "currency:¤",
        "currency:financial:€",
        "currency:financial:kr:suffix",
        "bool:up/down",
        "a:b",
        "time spent",
    ];
    let units: Vec<&str> = format::known().into_iter().chain(own).collect();
    let mut asks = Vec::new();
    for unit in &units {
        for _ in 0..14 {
            let exponent = i32::try_from(dice.roll(28)).unwrap() - 9;
            let digits = [1.0, 2.0, 2.25, 2.5, 5.0, 9.999_999, 9.995, 1.005, 3.3, 7.77];
            let mut value = dice.one(&digits) * 10f64.powi(exponent);
            match dice.roll(12) {
                0 => value = 0.0,
                1 => value = *dice.one(&[f64::INFINITY, f64::NEG_INFINITY]),
                2 => value = f64::from(u32::try_from(dice.roll(100_000)).unwrap()),
                3 => value = f64::from(u32::try_from(dice.roll(100_000)).unwrap()) / 8.0,
                4 => {
                    value =
                        *dice.one(&[60.0, 3600.0, 86_400.0, 604_800.0, 1000.0, 1024.0, 1e6, 1e15])
                }
                _ => {}
            }
            if dice.often(25) {
                value = -value;
            }
            let decimals = match dice.roll(8) {
                at @ 0..=3 => json!(at),
                4 => json!(6),
                _ => Value::Null,
            };
            asks.push(
                json!({"op": "format", "unit": unit, "value": number(value), "decimals": decimals}),
            );
        }
    }
    let ours = |ask: &Value| {
        let value = match &ask["value"] {
            Value::Object(map) if map["$"] == "Infinity" => f64::INFINITY,
            Value::Object(_) => f64::NEG_INFINITY,
            value => value.as_f64().unwrap(),
        };
        let decimals = ask["decimals"].as_i64().map(|d| i32::try_from(d).unwrap());
        format::format(ask["unit"].as_str().unwrap(), value, decimals).map(Value::from)
    };
    hold("units", &asks, ours, 2);
}

#[test]
fn steps_are_those_of_grafana() {
    let mut dice = Dice(7);
    let asks: Vec<Value> = (0..300)
        .map(|_| {
            let range = (dice.roll(9_000) + 1) * 10usize.pow(u32::try_from(dice.roll(9)).unwrap());
            let points = *dice.one(&[1, 30, 100, 500, 1000, 1920]);
            let least = *dice.one(&["1ms", "10s", "15s", "1m", "1d"]);
            json!({"op": "interval", "range": range, "points": points, "least": least})
        })
        .collect();
    let ours = |ask: &Value| {
        let range = Range { from: 0, to: ask["range"].as_i64().unwrap() };
        let least = range::period(ask["least"].as_str().unwrap());
        let step = range.step(ask["points"].as_u64().unwrap(), least);
        Ok(json!({"interval": written(step), "intervalMs": step}))
    };
    hold("steps", &asks, ours, 0);
}

/// A column's values as JSON, and where its NaN and infinities are.
fn column(dice: &mut Dice, kind: &str, rows: usize, rough: bool) -> (Vec<Value>, Value) {
    let mut entities = Map::new();
    let mut values = Vec::new();
    for row in 0..rows {
        values.push(match kind {
            "time" => json!(1_700_000_000_000u64 + 1000 * u64::try_from(row).unwrap()),
            "number" if dice.often(12) => Value::Null,
            "number" if rough && dice.often(4) => {
                let name = *dice.one(&["NaN", "Inf"]);
                let places = entities.entry(name).or_insert_with(|| json!([]));
                places.as_array_mut().unwrap().push(row.into());
                Value::Null
            }
            "number" if dice.often(60) => json!(dice.roll(9)),
            "number" => json!(dice.roll(200_000) as f64 / 64.0 - 900.0),
            "boolean" => json!(dice.often(50)),
            _ if dice.often(6) => Value::Null,
            _ => json!(*dice.one(&["a", "b", "B2", "c 1", "up", "10", ""])),
        });
    }
    (values, entities.into())
}

pub(super) fn frame(
    dice: &mut Dice,
    ref_id: &str,
    kinds: &[(&str, &str, Option<Value>)],
    name: Option<&str>,
    rough: bool,
) -> Value {
    let rows = if dice.often(8) { 0 } else { dice.roll(7) + 1 };
    let (mut fields, mut values, mut entities) = (Vec::new(), Vec::new(), Vec::new());
    for (name, kind, labels) in kinds {
        let (column, places) = column(dice, kind, rows, rough);
        let mut field = json!({"name": name, "type": kind, "config": {}});
        if let Some(labels) = labels {
            field["labels"] = labels.clone();
        }
        fields.push(field);
        values.push(column);
        entities.push(places);
    }
    let mut schema = json!({"refId": ref_id, "fields": fields});
    if let Some(name) = name {
        schema["name"] = name.into();
    }
    json!({"schema": schema, "data": {"values": values, "entities": entities}})
}

/// Frames as Prometheus, a search or a database answers them.
fn frames(dice: &mut Dice, rough: bool) -> Vec<Value> {
    let names = [None, Some("s1"), Some("s2")];
    match dice.roll(4) {
        0 | 1 => (0..dice.roll(3) + 1)
            .map(|at| {
                let mut labels = json!({"host": *dice.one(&["a", "b"])});
                if dice.often(60) {
                    labels["job"] = (*dice.one(&["x", "y"])).into();
                }
                let value = if dice.often(80) { "Value" } else { "other" };
                let name = *dice.one(&names);
                let ref_id = ["A", "B", "C"][at];
                frame(
                    dice,
                    ref_id,
                    &[("Time", "time", None), (value, "number", Some(labels))],
                    name,
                    rough,
                )
            })
            .collect(),
        2 => vec![frame(
            dice,
            "A",
            &[
                ("Time", "time", None),
                ("n", "number", None),
                ("m", "number", None),
                ("ok", "boolean", None),
            ],
            None,
            rough,
        )],
        _ => (0..dice.roll(2) + 1)
            .map(|at| {
                let second = ["n", "m"][at];
                frame(
                    dice,
                    ["A", "B"][at],
                    &[("host", "string", None), (second, "number", None), ("text", "string", None)],
                    None,
                    rough,
                )
            })
            .collect(),
    }
}

#[test]
fn columns_are_reduced_as_grafana_reduces_them() {
    let mut dice = Dice(11);
    let all = reducers();
    let mut asks = Vec::new();
    for case in 0..260 {
        let kind = *dice.one(&["number", "number", "number", "time", "string", "boolean"]);
        let shape = frame(&mut dice, "A", &[("x", kind, None)], None, case % 3 == 0);
        let nulls = *dice.one(&["", "", "connected", "null as zero", "null"]);
        let some: Vec<&String> = if case % 20 == 0 {
            all.iter().collect()
        } else {
            (0..14).map(|_| dice.one(&all)).collect()
        };
        for reducer in some {
            asks.push(
                json!({"op": "reduce", "frame": shape, "reducers": [reducer], "nulls": nulls}),
            );
        }
    }
    let ours = |ask: &Value| {
        let frame = Frame::of(&ask["frame"])?;
        let mut field = frame.fields[0].clone();
        if ask["nulls"] != "" {
            field.config.insert("nullValueMode".into(), ask["nulls"].clone());
        }
        let id = ask["reducers"][0].as_str().unwrap();
        let reduced = plain(&reduce(&field, Reducer::of(id)?)?);
        Ok(json!({ id: reduced }))
    };
    hold("reducers", &asks, ours, 25);
}

fn plain(cell: &Cell) -> Value {
    match cell {
        Cell::Absent => json!({"$": "undefined"}),
        Cell::Null => Value::Null,
        Cell::Number(value) => number(*value),
        Cell::Text(text) => text.clone().into(),
        Cell::Bool(truth) => (*truth).into(),
        Cell::List(items) => items.iter().map(plain).collect(),
    }
}

pub(super) fn as_json(frame: &Frame) -> Value {
    let field = |field: &Field| {
        let kind = match field.kind {
            Kind::Time => "time",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Boolean => "boolean",
            Kind::Other => "other",
        };
        let labels = field.labels.as_ref().map(|labels| {
            labels.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect::<Map<_, _>>()
        });
        json!({
            "name": field.name, "type": kind, "labels": labels,
            "displayName": field.config.get("displayName"),
            "values": field.values.iter().map(plain).collect::<Vec<_>>(),
        })
    };
    json!({
        "name": frame.name, "refId": frame.ref_id, "length": frame.length,
        "fields": frame.fields.iter().map(field).collect::<Vec<_>>(),
    })
}

/// A transformation with options that fit the frames above.
fn step(dice: &mut Dice) -> Value {
    let column =
        *dice.one(&["Value", "n", "m", "host", "Time", "text", "other", "a", "Max", "missing"]);
    let number = *dice.one(&["Value", "n", "m", "a"]);
    let some =
        ["lastNotNull", "sum", "mean", "max", "count", "stdDev", "distinctCount", "first", "p50"];
    let reducer = *dice.one(&some);
    let (id, options) = match dice.roll(20) {
        0 => ("reduce", json!({"reducers": [reducer, "range"]})),
        1 => (
            "reduce",
            json!({"reducers": [reducer], "mode": "reduceFields", "includeTimeField": dice.often(30)}),
        ),
        2 => ("reduce", json!({"reducers": [reducer], "labelsToFields": true})),
        3 => (
            "organize",
            json!({
                "excludeByName": {column: true, "missing": true},
                "indexByName": {"n": 0, "host": 1, "Value": dice.roll(3)},
                "renameByName": {number: "renamed", "host": ""},
            }),
        ),
        4 => ("filterFieldsByName", json!({"include": {"names": ["Time", column, number]}})),
        5 => (
            "filterFieldsByName",
            json!({"include": {"pattern": dice.one(&["/a|n/", "Val.*", "/^T/i"])}}),
        ),
        6 => (
            "filterFieldsByName",
            json!({"exclude": {"names": [column], "pattern": dice.one(&["/^x/", ""])}}),
        ),
        7 => ("filterByRefId", json!({"include": dice.one(&["A", "A|C", "/[BC]/"])})),
        8 => {
            let test = match dice.roll(8) {
                0 => json!({"id": "isNull", "options": {}}),
                1 => json!({"id": "isNotNull", "options": {}}),
                2 => json!({"id": "greater", "options": {"value": 3}}),
                3 => json!({"id": "lowerOrEqual", "options": {"value": "4"}}),
                4 => json!({"id": "equal", "options": {"value": dice.one(&["a", "3", ""])}}),
                5 => json!({"id": "between", "options": {"from": 1, "to": 7}}),
                6 => json!({"id": "regex", "options": {"value": "^[a-b1-3]"}}),
                _ => json!({"id": "substring", "options": {"value": "B"}}),
            };
            let other =
                json!({"fieldName": number, "config": {"id": "notEqual", "options": {"value": 5}}});
            (
                "filterByValue",
                json!({
                    "type": dice.one(&["include", "exclude"]), "match": dice.one(&["all", "any"]),
                    "filters": [{"fieldName": column, "config": test}, other],
                }),
            )
        }
        9 => ("merge", json!({})),
        10 => ("seriesToRows", json!({})),
        11 => (
            "joinByField",
            json!({"mode": dice.one(&["outer", "inner", "outerTabular"]), "byField": dice.one(&["host", "Time", "n"])}),
        ),
        12 => ("seriesToColumns", json!({})),
        13 => {
            let side = |dice: &mut Dice| match dice.roll(3) {
                0 => json!(number),
                1 => json!({"matcher": {"id": "byName", "options": number}}),
                _ => json!({"fixed": "2"}),
            };
            (
                "calculateField",
                json!({
                    "mode": "binary", "replaceFields": dice.often(30), "alias": dice.one(&["", "sum"]),
                    "binary": {"left": side(dice), "operator": dice.one(&["+", "-", "*", "/"]), "right": side(dice)},
                }),
            )
        }
        14 => {
            let mode = *dice.one(&["reduceRow", "unary", "index", "cumulativeFunctions"]);
            (
                "calculateField",
                json!({
                    "mode": mode, "replaceFields": dice.often(30),
                    "reduce": {"reducer": reducer},
                    "unary": {"operator": dice.one(&["abs", "round", "floor", "ceil", "percent"]), "fieldName": number},
                    "index": {"asPercentile": dice.often(40)},
                    "cumulative": {"reducer": dice.one(&["sum", "mean"]), "field": number},
                }),
            )
        }
        15 => {
            let mut fields = Map::new();
            fields.insert(
                (*dice.one(&["host", "text", "Time"])).into(),
                json!({"operation": "groupby", "aggregations": []}),
            );
            fields.insert(
                number.into(),
                json!({"operation": "aggregate", "aggregations": [reducer, "range"]}),
            );
            ("groupBy", json!({"fields": fields}))
        }
        16 => ("sortBy", json!({"sort": [{"field": column, "desc": dice.often(50)}]})),
        17 => (
            "limit",
            json!({"limitField": dice.one(&[json!(1), json!("3"), json!(10), json!(-2)])}),
        ),
        18 => (
            "renameByRegex",
            json!({"regex": dice.one(&["(.)(.*)", "/a/g", "/n$/"]), "renamePattern": dice.one(&["$2$1", "x", "$$&"])}),
        ),
        _ => match dice.roll(4) {
            0 => (
                "convertFieldType",
                json!({"conversions": [{"targetField": column, "destinationType": dice.one(&["number", "string", "boolean"])}]}),
            ),
            1 => ("labelsToFields", json!({"valueLabel": dice.one(&["host", "none"])})),
            2 => ("labelsToFields", json!({"mode": "rows"})),
            _ => ("concatenate", json!({"frameNameMode": dice.one(&["field", "label", "drop"])})),
        },
    };
    let mut step = json!({"id": id, "options": options});
    if dice.often(6) {
        step["filter"] = json!({"id": "byRefId", "options": dice.one(&["A", "B"])});
    }
    if dice.often(3) {
        step["disabled"] = true.into();
    }
    step
}

fn read(ask: &Value) -> Result<Vec<Frame>, String> {
    let frames: Vec<Frame> =
        ask["frames"].as_array().unwrap().iter().map(Frame::of).collect::<Result<_, _>>()?;
    transform(frames, &ask["transformations"])
}

#[test]
fn frames_are_transformed_as_grafana_transforms_them() {
    let mut dice = Dice(1313);
    let asks: Vec<Value> = (0..2600)
        .map(|case| {
            let steps: Vec<Value> = (0..dice.roll(3) + 1).map(|_| step(&mut dice)).collect();
            json!({"op": "transform", "frames": frames(&mut dice, case % 5 == 0), "transformations": steps})
        })
        .collect();
    let ours = |ask: &Value| Ok(read(ask)?.iter().map(as_json).collect());
    hold("transformations", &asks, ours, 5);
}

fn mapping(dice: &mut Dice) -> Value {
    match dice.roll(4) {
        0 => {
            json!({"type": "value", "options": {"3": {"text": "three"}, "a": {"text": "7"}, "true": {"text": "yes"}, "5": {"color": "red"}}})
        }
        1 => {
            json!({"type": "range", "options": {"from": dice.roll(4), "to": dice.one(&[json!(5), Value::Null]), "result": {"text": "in"}}})
        }
        2 => {
            json!({"type": "special", "options": {"match": dice.one(&["null", "nan", "null+nan", "true", "empty"]), "result": {"text": dice.one(&["0", "N/A"])}}})
        }
        _ => {
            json!({"type": "regex", "options": {"pattern": dice.one(&["/(b)/i", "c (.*)"]), "result": {"text": "<$1>"}}})
        }
    }
}

#[test]
fn panels_show_what_grafana_shows() {
    let mut dice = Dice(99);
    let units = [
        "short",
        "bytes",
        "percent",
        "s",
        "none",
        "events",
        "currencyEUR",
        "reqps",
        "locale",
        "string",
    ];
    let asks: Vec<Value> = (0..900)
        .map(|case| {
            let mut defaults = json!({"mappings": []});
            if dice.often(70) {
                defaults["unit"] = (*dice.one(&units)).into();
            }
            if dice.often(30) {
                defaults["decimals"] = dice.roll(4).into();
            }
            if dice.often(20) {
                defaults["noValue"] = (*dice.one(&["-", "0"])).into();
            }
            if dice.often(10) {
                defaults["displayName"] = "given".into();
            }
            if dice.often(30) {
                defaults["mappings"] = json!([mapping(&mut dice), mapping(&mut dice)]);
            }
            let matcher = match dice.roll(7) {
                0 => json!({"id": "byName", "options": dice.one(&["Value", "n", "a"])}),
                1 => json!({"id": "byRegexp", "options": dice.one(&["/a|n/", "m"])}),
                2 => json!({"id": "byType", "options": "number"}),
                3 => json!({"id": "byFrameRefID", "options": "B"}),
                4 => json!({"id": "byNames", "options": {"mode": dice.one(&["include", "exclude"]), "names": ["n", "Value"]}}),
                5 => json!({"id": "byValue", "options": {"reducer": "max", "op": dice.one(&["gte", "lt"]), "value": 5}}),
                _ => json!({"id": "numeric"}),
            };
            let property = match dice.roll(4) {
                0 => json!({"id": "unit", "value": dice.one(&units)}),
                1 => json!({"id": "decimals", "value": dice.roll(3)}),
                2 => json!({"id": "mappings", "value": [mapping(&mut dice)]}),
                _ => json!({"id": "displayName", "value": "other name"}),
            };
            let overrides = if dice.often(40) { json!([{"matcher": matcher, "properties": [property]}]) } else { json!([]) };
            let calcs: Vec<&str> = match dice.roll(5) {
                0 => vec![],
                1 => vec!["mean", "max"],
                _ => vec![*dice.one(&["lastNotNull", "last", "sum", "count", "mean", "range", "diffperc", "uniqueValues"])],
            };
            let steps: Vec<Value> = (0..dice.roll(2)).map(|_| step(&mut dice)).collect();
            json!({
                "op": "show", "frames": frames(&mut dice, case % 4 == 0), "transformations": steps,
                "fieldConfig": {"defaults": defaults, "overrides": overrides},
                "reduceOptions": {
                    "calcs": calcs, "values": dice.often(30), "limit": dice.one(&[0, 2, 25]),
                    "fields": dice.one(&["", "", "", "/.*/", "/^n$/"]),
                },
            })
        })
        .collect();
    let ours = |ask: &Value| {
        let mut frames = read(ask)?;
        apply_options(&mut frames, Some(&ask["fieldConfig"]))?;
        let options = json!({"reduceOptions": ask["reduceOptions"]});
        let values = single(&frames, ask, &options, Choice::default())?;
        if values.is_empty() {
            return Ok(json!([{"title": "No data", "text": "No data"}]));
        }
        Ok(values
            .iter()
            .map(|(title, shown)| json!({"title": title, "text": shown.text}))
            .collect())
    };
    hold("panels", &asks, ours, 20);
}
