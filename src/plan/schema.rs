//! The JSON Schema of the plan file, from the declarations that decode it.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform, transform_subschemas};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::gates::{self, FUNCTIONS, WhenSpec};
use super::peers;
use crate::confirm::rule::Spec as RuleSpec;
use crate::confirm::unseen::Proof;
use crate::gate::{During, Level};
use crate::journey::Stage;
use crate::journey::event::EventSpec;
use crate::journey::reconcile::Expectation;
use crate::journey::rule::Within;
use crate::journey::usecase::UseCase;
use crate::probe::Entry;
use crate::spec::AllowedTimes;
use crate::spec::selector::{Labels, Selector};
use crate::spec::units::{Period, Quantity, Share, Size};
use crate::{confirm, probe, send};

/// A variable may stand wherever a value does.
const VARIABLE: &str = r"\$\{[A-Za-z_][A-Za-z0-9_.-]*\}";

/// A quantile as a key.
const QUANTILE: &str = r"^p[0-9]{1,2}(\.[0-9]+)?$";

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let properties = json!({
        "vars": { "description": "Values that `${name}` stands for: texts, numbers, true or false. Null is not set.", "type": ["object", "null"],
                  "additionalProperties": { "type": ["string", "number", "boolean", "null"] } },
        "node": described("This node: its name (default: the host's) and labels.", object(vec![
            ("name", json!({ "type": "string" })),
            ("labels", typed::<Labels>(&mut generator)),
        ], &[])),
        "nodes": { "description": "The declared fleet.", "type": ["array", "null"], "items": { "type": "string" } },
        "include": { "description": "Packs (`pack:NAME`) and files.", "type": ["array", "null"], "items": { "type": "string" } },
        "peers": typed::<peers::Spec>(&mut generator),
        "checks": described("What is measured, how often.", list(check(&mut generator))),
        "journeys": described("Synthetic events, and the stages they are followed through.", list(journey(&mut generator))),
        "gates": described("What must hold before the platform goes live.", list(gate(&mut generator))),
    });
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Greenlight plan",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    // A use case is a file of its own, and has its keys here: `#/$defs/UseCase`.
    typed::<UseCase>(&mut generator);
    let mut defs = generator.take_definitions(true);
    defs.insert("requirement".into(), requirement(&mut generator, false));
    defs.insert("part".into(), requirement(&mut generator, true));
    defs.extend(generator.take_definitions(true));
    if let Some(map) = root.as_object_mut() {
        map.insert("$defs".into(), Value::Object(defs));
    }
    let Ok(mut schema) = Schema::try_from(root) else { return Value::Null };
    RecursiveTransform(closed).transform(&mut schema);
    or_variable(&mut schema);
    schema.to_value()
}

fn typed<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// With a meaning, where the type does not tell it.
fn described(meaning: &str, mut schema: Value) -> Value {
    if let Some(map) = schema.as_object_mut() {
        map.insert("description".into(), Value::String(meaning.to_owned()));
    }
    schema
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
    let mut needing = Map::new();
    let mut without = Map::new();
    // Only some kinds are pointed at something; of the other tables nothing is.
    let has_targets = common.iter().any(|(name, _)| *name == "targets");
    for entry in table {
        if entry.targets {
            needing.insert(entry.kind.to_owned(), json!(["targets"]));
        } else if has_targets {
            without.insert(entry.kind.to_owned(), json!({ "not": { "required": ["targets"] } }));
        }
        // `{}` and nothing at all say the same of a kind whose keys all have defaults.
        let schema = (entry.schema)(generator).to_value();
        common.push((entry.kind, json!({ "anyOf": [schema, { "type": "null" }] })));
        choices.push(json!({ "required": [entry.kind] }));
    }
    let mut schema = object(common, required);
    if let Some(map) = schema.as_object_mut() {
        map.insert("oneOf".into(), Value::Array(choices));
        if !needing.is_empty() {
            map.insert("dependentRequired".into(), Value::Object(needing));
        }
        if !without.is_empty() {
            map.insert("dependentSchemas".into(), Value::Object(without));
        }
    }
    schema
}

fn check(generator: &mut SchemaGenerator) -> Value {
    let targets = json!({ "anyOf": [
        { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        object(vec![("peers", typed::<Selector>(generator))], &["peers"]),
    ] });
    let mut common = vec![
        (
            "id",
            described("The name that everything else knows it by.", json!({ "type": "string" })),
        ),
        (
            "targets",
            described("What it is pointed at: a list, or `{ peers: { label: value } }`.", targets),
        ),
        ("every", described("How often it is due.", typed::<Period>(generator))),
        ("timeout", described("All of an attempt's time.", typed::<Period>(generator))),
    ];
    common.extend(when_and_where(generator));
    with_kind(generator, common, &["id"], probe::kinds())
}

/// Keys of checks and journeys alike.
fn when_and_where(generator: &mut SchemaGenerator) -> [(&'static str, Value); 2] {
    [
        (
            "allowed_times",
            described(
                "Hours in UTC outside of which it does not run; its gates are open then.",
                typed::<AllowedTimes>(generator),
            ),
        ),
        (
            "shared",
            described(
                "Whether one node, chosen by its name among `nodes`, runs it for the whole fleet; default false.",
                json!({ "type": "boolean" }),
            ),
        ),
    ]
}

fn must_not_alert() -> Value {
    let vars = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let usecase = json!({ "type": "string" });
    json!({
        "description": "The use case whose benign twin is sent beside each round, under a run of its own, and must bring neither alert nor notification until `give_up` is over: `{ usecase: NAME }`, or `true` for the one that the events are of. An alert that names no round can't be told to be the twin's, nor not to be: then it is inconclusive.",
        "anyOf": [
            { "const": true },
            object(vec![("usecase", usecase), ("vars", vars)], &["usecase"]),
        ],
    })
}

fn journey(generator: &mut SchemaGenerator) -> Value {
    let stages: Vec<Value> = Stage::ALL
        .iter()
        .map(|stage| {
            let looks = !matches!(stage, Stage::Sent | Stage::Accepted);
            let mut common = vec![
                ("within", match stage {
                    Stage::Alerted => described("After that an alert is late; default 60s. `rule`: its rule is asked by API before each round, and the deadline follows from what it says: until the events are there (the longest `within` before), the time from one run to the next, what it leaves to the next run, how long its condition must hold, and 30s for the run, or what `rule + 10s` says. Where the rule can't be read the stage is inconclusive; where its throttle, or an alert that is still active, holds it, none is expected; where it is due later than `give_up`, silence is inconclusive. The rule is never touched.", typed::<Within>(generator)),
                    Stage::Notified => described("After that a notification is late; default 60s. `rule + 60s`: so much after the alert is due by its rule; the default where that is due so.", typed::<Within>(generator)),
                    _ => described("After that an event is late; default 60s.", typed::<Period>(generator)),
                }),
                ("give_up", described("After that it is lost; default three times `within`. With `within: rule` the longest that a round waits, which is to be written.", typed::<Period>(generator))),
                ("poll", described("How often to look; default a twentieth of `within`, 200ms to 5s.", typed::<Period>(generator))),
                ("expect", described("What the stage must show of each event.", typed::<Expectation>(generator))),
                ("equals", json!({ "description": "The number that a reading should show: `sent`, or a number.", "type": ["string", "number"] })),
            ];
            if looks && !stage.counts_things() {
                let proof = described(
                    "Where these credentials are known to be good: without it, a platform that refuses them proves nothing.",
                    typed::<Proof>(generator),
                );
                let hidden = with_kind(generator, vec![("proof", proof)], &[], confirm::kinds());
                common.push(("recheck", described("How long after a round's end what it showed here is asked for again, `[ 1h, 24h ]`: a store that loses what it had is found, and what was lost and has come after all is late. Of stores that are searched.", json!({ "type": "array", "minItems": 1, "items": typed::<Period>(generator) }))));
                common.push(("must_not_see", described("How a wrong tenant looks, after the right one saw an event, and must not see it.", hidden)));
            }
            if stage.counts_things() {
                common.push(("exactly", json!({ "type": "integer", "minimum": 0 })));
            }
            if *stage == Stage::Alerted {
                common.push(("rule", described("With `within: rule`: the rule behind the alert, where it is not known from how the alert is seen (at Prometheus, Grafana, OpenSearch Alerting, ElastAlert 2, and at Splunk by `search_name` or `fired`), and what it does not say of itself.", typed::<RuleSpec>(generator))));
            }
            if matches!(stage, Stage::Alerted | Stage::Notified) {
                common.push(("resolved", described("How soon after it came its end must come: an alert that stays for ever is none that is looked at.", typed::<Period>(generator))));
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
    let mut keys = vec![
        (
            "id",
            described("The name that everything else knows it by.", json!({ "type": "string" })),
        ),
        ("every", described("How often it is due.", typed::<Period>(generator))),
        ("timeout", described("All of an attempt's time.", typed::<Period>(generator))),
        (
            "budget",
            described(
                "The most bytes of events that it may send in a day; default 1GB.",
                typed::<Size>(generator),
            ),
        ),
        ("send", described("The way in: one key that names it.", way_in)),
        ("events", described("The events of a round.", typed::<EventSpec>(generator))),
        ("must_not_alert", must_not_alert()),
        (
            "edges",
            described(
                "Whether the events are sent twice more beside each round, each time under a run of its own: stamped just inside the look-back of the rule, so that the first run which can see them must, and an alert is expected of them too; and just outside, of which none must come: else the rule looks back further than it says. For rules that go by the time which the event tells, and with `within: rule`. The alert must name the round. Default false.",
                json!({ "type": "boolean" }),
            ),
        ),
        (
            "stages",
            json!({ "description": "The stages, in their order.", "type": "array", "minItems": 1, "items": { "oneOf": stages } }),
        ),
    ];
    keys.extend(when_and_where(generator));
    object(keys, &["id", "send", "stages"])
}

fn gate(generator: &mut SchemaGenerator) -> Value {
    object(
        vec![
            (
                "id",
                described(
                    "The name that everything else knows it by.",
                    json!({ "type": "string" }),
                ),
            ),
            ("title", described("What must hold, in words.", json!({ "type": "string" }))),
            (
                "level",
                described(
                    "Default mandatory; conditional where `when` is written.",
                    typed::<Level>(generator),
                ),
            ),
            (
                "require",
                json!({ "description": "The criterion, below.", "$ref": "#/$defs/requirement" }),
            ),
            ("when", described("When the gate applies.", typed::<WhenSpec>(generator))),
            (
                "refs",
                described(
                    "Lines of requirement documents.",
                    json!({ "type": "array", "items": { "type": "string" } }),
                ),
            ),
            ("why", described("Why the gate is there.", json!({ "type": "string" }))),
            ("fix", described("What to do when it fails.", json!({ "type": "string" }))),
            (
                "waivable",
                described("Whether a waiver is taken; default true.", json!({ "type": "boolean" })),
            ),
            (
                "max_inconclusive",
                described(
                    "The share of attempts that may be inconclusive; default 5%.",
                    typed::<Share>(generator),
                ),
            ),
        ],
        &["id", "require"],
    )
}

/// What a gate requires, or a part of a group, which may hang on something.
fn requirement(generator: &mut SchemaGenerator, in_group: bool) -> Value {
    let when = |generator: &mut SchemaGenerator| {
        in_group.then(|| {
            let what = "When the part is judged; otherwise it is left out of its group.";
            ("when", described(what, typed::<WhenSpec>(generator)))
        })
    };
    let whole = |key, value, generator: &mut SchemaGenerator| {
        let mut properties = vec![(key, value)];
        properties.extend(when(generator));
        object(properties, &[key])
    };
    let part = json!({ "$ref": "#/$defs/part" });
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
            (
                "during",
                described(
                    "Samples of these times only: declared load.",
                    typed::<During>(generator),
                ),
            ),
            (
                "sent_by",
                json!({
                    "description": "The ways in, of which the journey's must be one: `syslog_udp`, `http`, …",
                    "type": ["string", "array"], "items": { "type": "string" },
                }),
            ),
            (
                "of_kind",
                json!({
                    "description": "The kinds, of which the check must be one.",
                    "type": ["string", "array"], "items": { "type": "string" },
                }),
            ),
            ("needs", json!({ "type": "string" })),
        ]
    };
    let mut properties = common(generator);
    properties.extend(when(generator));
    let mut choices = Vec::new();
    for function in FUNCTIONS {
        let subject = match gates::function(function) {
            Some(function) if function.is_of_journeys() => json!({
                "type": ["string", "array"],
                "items": { "type": "string" },
                "description": "A journey, or several: a list, or ids with commas between. Each must hold.",
            }),
            _ => json!({ "type": "string" }),
        };
        properties.push((function, subject));
        choices.push(json!({ "required": [function] }));
    }
    let mut criterion = object(properties, &[]);
    if let Some(map) = criterion.as_object_mut() {
        // Any other quantile: `p99.9`.
        map.insert("patternProperties".into(), json!({ QUANTILE: { "type": "string" } }));
        // One is there where not every key is something else.
        choices.push(json!({
            "propertyNames": { "not": { "enum": FUNCTIONS } },
            "not": { "propertyNames": { "not": { "pattern": QUANTILE } } },
        }));
        map.insert("oneOf".into(), Value::Array(choices));
    }
    let mut ways = vec![
        whole("all", parts.clone(), generator),
        whole("any", parts, generator),
        whole("missing", json!({ "type": "string" }), generator),
        criterion,
    ];
    if in_group {
        let names = json!({ "type": "array", "items": { "type": "string" } });
        let needs = json!({ "type": "string" });
        ways.push(object(vec![("distinct", names), ("needs", needs)], &["distinct", "needs"]));
    }
    json!({ "oneOf": ways })
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
    // The parts first: what is wrapped here must not be wrapped again.
    transform_subschemas(&mut or_variable, schema);
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
