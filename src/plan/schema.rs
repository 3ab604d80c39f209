//! The JSON Schema of the plan file, from the declarations that decode it.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::gates::{FUNCTIONS, WhenSpec};
use super::peers;
use crate::gate::Level;
use crate::journey::Stage;
use crate::journey::event::EventSpec;
use crate::journey::reconcile::Expectation;
use crate::probe::Entry;
use crate::spec::selector::{Labels, Selector};
use crate::spec::units::{Period, Quantity, Share};
use crate::{confirm, probe, send};

/// A variable may stand wherever a value does.
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_.-]*\}";

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let properties = json!({
        "vars": { "description": "Values that `${name}` stands for.", "type": ["object", "null"],
                  "additionalProperties": { "type": ["string", "number", "boolean", "null"] } },
        "node": object(vec![
            ("name", json!({ "type": "string" })),
            ("labels", typed::<Labels>(&mut generator)),
        ], &[]),
        "nodes": { "description": "The declared fleet.", "type": ["array", "null"], "items": { "type": "string" } },
        "include": { "description": "Packs (`pack:NAME`) and files.", "type": ["array", "null"], "items": { "type": "string" } },
        "peers": typed::<peers::Spec>(&mut generator),
        "checks": list(check(&mut generator)),
        "journeys": list(journey(&mut generator)),
        "gates": list(gate(&mut generator)),
    });
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Greenlight plan",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    let mut defs = generator.take_definitions(true);
    defs.insert("requirement".into(), requirement(&mut generator));
    defs.extend(generator.take_definitions(true));
    if let Some(map) = root.as_object_mut() {
        map.insert("$defs".into(), Value::Object(defs));
    }
    let Ok(mut schema) = Schema::try_from(root) else { return Value::Null };
    RecursiveTransform(closed).transform(&mut schema);
    RecursiveTransform(or_variable).transform(&mut schema);
    schema.to_value()
}

fn typed<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn list(items: Value) -> Value {
    json!({ "type": ["array", "null"], "items": items })
}

fn object(properties: Vec<(&str, Value)>, required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// One of the kinds of a table, as a key beside the common ones.
fn with_kind<T: ?Sized>(
    generator: &mut SchemaGenerator,
    mut common: Vec<(&'static str, Value)>,
    required: &[&str],
    table: Vec<Entry<T>>,
) -> Value {
    let mut choices = Vec::with_capacity(table.len());
    for entry in table {
        // `{}` and nothing at all say the same of a kind whose keys all have defaults.
        let schema = (entry.schema)(generator).to_value();
        common.push((entry.kind, json!({ "anyOf": [schema, { "type": "null" }] })));
        choices.push(json!({ "required": [entry.kind] }));
    }
    let mut schema = object(common, required);
    if let Some(map) = schema.as_object_mut() {
        map.insert("oneOf".into(), Value::Array(choices));
    }
    schema
}

fn check(generator: &mut SchemaGenerator) -> Value {
    let targets = json!({ "anyOf": [
        { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        object(vec![("peers", typed::<Selector>(generator))], &["peers"]),
    ] });
    let common = vec![
        ("id", json!({ "type": "string" })),
        ("targets", targets),
        ("every", typed::<Period>(generator)),
        ("timeout", typed::<Period>(generator)),
    ];
    with_kind(generator, common, &["id"], probe::kinds())
}

fn journey(generator: &mut SchemaGenerator) -> Value {
    let stages: Vec<Value> = Stage::ALL
        .iter()
        .map(|stage| {
            let looks = !matches!(stage, Stage::Sent | Stage::Accepted);
            let mut common = vec![
                ("within", typed::<Period>(generator)),
                ("give_up", typed::<Period>(generator)),
                ("poll", typed::<Period>(generator)),
                ("expect", typed::<Expectation>(generator)),
                ("equals", json!({ "type": ["string", "number"] })),
            ];
            if stage.counts_things() {
                common.push(("exactly", json!({ "type": "integer", "minimum": 0 })));
            }
            let body = if looks {
                with_kind(generator, common, &[], confirm::kinds())
            } else {
                object(common, &[])
            };
            object(vec![(stage.word(), body)], &[stage.word()])
        })
        .collect();
    let way_in = with_kind(generator, Vec::new(), &[], send::kinds());
    object(
        vec![
            ("id", json!({ "type": "string" })),
            ("every", typed::<Period>(generator)),
            ("timeout", typed::<Period>(generator)),
            ("send", way_in),
            ("events", typed::<EventSpec>(generator)),
            ("stages", json!({ "type": "array", "minItems": 1, "items": { "oneOf": stages } })),
        ],
        &["id", "send", "stages"],
    )
}

fn gate(generator: &mut SchemaGenerator) -> Value {
    object(
        vec![
            ("id", json!({ "type": "string" })),
            ("title", json!({ "type": "string" })),
            ("level", typed::<Level>(generator)),
            ("require", json!({ "$ref": "#/$defs/requirement" })),
            ("when", typed::<WhenSpec>(generator)),
            ("refs", json!({ "type": "array", "items": { "type": "string" } })),
            ("why", json!({ "type": "string" })),
            ("fix", json!({ "type": "string" })),
            ("waivable", json!({ "type": "boolean" })),
            ("max_inconclusive", typed::<Share>(generator)),
        ],
        &["id", "require"],
    )
}

fn requirement(generator: &mut SchemaGenerator) -> Value {
    let part = json!({ "$ref": "#/$defs/requirement" });
    let parts = json!({ "type": "array", "minItems": 1, "items": part });
    let common = |generator: &mut SchemaGenerator| {
        vec![
            ("where", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
            ("stage", typed::<Stage>(generator)),
            ("over", typed::<Period>(generator)),
            ("at_least", json!({ "type": "integer", "minimum": 0 })),
            ("below", typed::<Quantity>(generator)),
            ("above", typed::<Quantity>(generator)),
            ("warn", typed::<Quantity>(generator)),
            ("clears", typed::<Quantity>(generator)),
            ("stable_for", typed::<Period>(generator)),
            ("pooled", json!({ "type": "boolean" })),
            ("needs", json!({ "type": "string" })),
        ]
    };
    let mut properties = common(generator);
    let mut choices = Vec::new();
    for function in FUNCTIONS {
        properties.push((function, json!({ "type": "string" })));
        choices.push(json!({ "required": [function] }));
    }
    let mut criterion = object(properties, &[]);
    if let Some(map) = criterion.as_object_mut() {
        // Any other quantile: `p99.9`.
        map.insert(
            "patternProperties".into(),
            json!({ "^p[0-9]{1,2}(\\.[0-9]+)?$": { "type": "string" } }),
        );
        choices.push(
            json!({ "patternProperties": {}, "propertyNames": { "not": { "enum": FUNCTIONS } } }),
        );
        map.insert("oneOf".into(), Value::Array(choices));
    }
    json!({ "oneOf": [
        object(vec![("all", parts.clone())], &["all"]),
        object(vec![("any", parts)], &["any"]),
        object(vec![("missing", json!({ "type": "string" }))], &["missing"]),
        criterion,
    ] })
}

/// Unknown keys are mistakes, so a type's own schema is closed as the decoder is.
fn closed(schema: &mut Schema) {
    let Some(map) = schema.as_object_mut() else { return };
    if map.contains_key("properties") && !map.contains_key("additionalProperties") {
        map.insert("additionalProperties".into(), Value::Bool(false));
    }
}

/// Variables are put in after parsing, so that `${name}` may stand for a number, a switch, a word
/// of a list, or a text of a certain form.
fn or_variable(schema: &mut Schema) {
    let Some(map) = schema.as_object_mut() else { return };
    let is = |word: &str| match map.get("type") {
        Some(Value::String(own)) => own == word,
        Some(Value::Array(own)) => own.iter().any(|own| own == word),
        _ => false,
    };
    let narrow = ["integer", "number", "boolean"].into_iter().any(is)
        || (is("string")
            && (map.contains_key("pattern")
                || map.contains_key("enum")
                || map.contains_key("format")))
        || map.contains_key("const");
    if !narrow {
        return;
    }
    let description = map.remove("description");
    let own = Value::Object(std::mem::take(map));
    map.extend(description.map(|text| ("description".to_owned(), text)));
    map.insert("anyOf".into(), json!([own, { "type": "string", "pattern": VARIABLE }]));
}
