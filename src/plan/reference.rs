//! The reference of the plan file, written from the schema: a key is declared once.

use std::fmt::Write;

use serde_json::Value;

use super::schema;
use crate::spec::units::Period;

const OPENING: &str = "# The plan file

Generated from the declarations that decode it (`greenlight schema -o markdown`). A plan is one YAML
file, a folder of them, or several `-c FILE`. Every mistake is told at once, with its place; unknown
keys are mistakes; nothing starts before the plan is valid.

`${name}` in any value is the variable, else the environment's, else a mistake; `$${` writes the
characters themselves. Variables of included packs are defaults: what the including file sets wins,
`--var NAME=VALUE` wins over all. A secret is `{env: NAME}`, `{file: PATH}` or `{command: [...]}`,
only under keys of that type. Durations and sizes have units (`15s`, `1h30m`, `10GiB`), shares may be
written `5%`.

```yaml
vars: { tick: 15s }
node: { name: ingest-1, labels: { role: ingest } }
include: [ \"pack:linux-node\" ]
checks:
  - id: gateway
    icmp: { count: 5 }
    targets: [ \"192.0.2.1\" ]
    every: ${tick}
gates:
  - id: gateway.reachable
    require: { ratio: check.success, where: { check: gateway }, over: 5m, at_least: 10, above: 99% }
```

";

const GATES: &str = "
A gate's `require` is one criterion, `all: [...]`, `any: [...]`, or `missing: text` for a part that
nothing measures yet (always open). A criterion is one function of one subject, over a window,
against a threshold:

| function | subject | what it is |
| --- | --- | --- |
| `mean` `min` `max` `p50` … `p99.9` | a series | of all samples in the window; a failed attempt is a sample beyond every threshold |
| `ratio` | a series of 0 and 1, such as `check.success` | the share |
| `increase` | a counter series | its growth over the window |
| `last` | a series | the newest sample |
| `absent` | a series | no sample in the window, though attempts looked |
| `fresh` | a series | the age of the newest sample |
| `loss` `duplicates` `complete` | a journey, or several, each of which must hold: `[a, b]`, or `\"a, b\"` as a variable has it | the share that did not arrive, the count of further copies, the share whose fate is `ok`; at `stage:` or at the worst stage |

`below` and `above` are inclusive. `warn:` is a threshold that only warns; `clears:` is hysteresis:
once failing, it fails until that holds. `stable_for:` asks that it has held so long without
interruption. `where:` chooses by check, target, journey, stage, or another label of the series.
`during: load` takes only samples of declared load windows (`check --load START/END`, or
`POST /api/v1/load`): coverage and `at_least` count within them, and where none was declared in the
window the gate is open. It selects samples of the node and of checks, by a function of a window.

A part of a group may have a `when:` of its own, as a gate has: where it does not hold, the part is
left out, and where what it names is not set, the part is open. So a criterion and its twin for
nodes that lack what it looks at stand in one gate, and the report's sentence names the one that
was judged. `{ twin_of: JOURNEY }` asks whether a journey sends a benign twin. `needs:` says what to set while a criterion is about an empty variable, or against one.
`sent_by:` and `of_kind:` hold a criterion to what it was meant for: a journey that is sent otherwise,
or a check of another kind, is a mistake. A part `{ distinct: [a, b], needs: text }` leaves its group
open while two of the names are one.

```yaml
checks:
  - id: api
    http: { status: [ 200 ], json: [ '.status == \"ok\"' ] }
    targets: [ \"http://api:8080/health\" ]
    every: 10s
gates:
  - id: api.fast
    require:
      all:
        - { p99: check.duration, where: { check: api }, over: 15m, at_least: 50, below: 500ms, warn: 300ms, clears: 400ms }
        - { ratio: check.success, where: { check: api }, over: 15m, at_least: 50, above: 99.5% }
```
";

const JOURNEYS: &str = "
```yaml
journeys:
  - id: orders
    every: 5m
    send: { http: { to: \"http://collector:8088/events\" } }
    events: { count: 20, message: \"order {seq} of {user} {token}\" }
    stages:
      - stored:
          json_api: { url: \"http://lake:9200/logs-*/_search?q={run}&size=100\", items: \".hits.hits[]\", text: \"._source.message\", id: \"._id\" }
          within: 60s
      - notified: { webhook: { match: { alertname: OrderAnomaly } }, within: 5m }
```
";

const USE_CASES: &str = "
## Use cases

What a detection must notice, as data: a file of its own, `usecases/NAME.yaml` beside the plan or in
`/etc/greenlight/usecases`, or one that comes with Greenlight. A journey names it by
`events: { usecase: NAME }`. Each step's events are events of the round like any other, sent when they
are due; the latency of an event counts from its own due time, that of an alert, of a notification and
of a reading from the last event's. `${name}` in its texts is a variable under its own `vars`, for
which the journey may give another value. `alert` gives the stages `alerted` and `notified` their
defaults for `within` and `exactly`, and `{alert}` in their values is its name. At these stages a round
looks on until `within` is over, so that a second alert is counted; an alert is not missing unless
every event was certainly sent: after a restart in the middle of a sequence nothing is sent again, and
what was not yet sent, and an alert that does not come, are `unknown`.

`within: rule` (at the stage, or under `alert`) lets the deadline follow from the rule in the platform,
which is read by API before each round and never touched:

```yaml
journeys:
  - id: ssh-logins
    every: 1h
    send: { syslog: { to: \"tcp://collector:6514\" } }
    events: { usecase: ssh-bruteforce }
    stages:
      - stored: { opensearch: { url: \"http://lake:9200\", index: logs }, within: 20s }
      - alerted:
          opensearch: { url: \"http://lake:9200\", alerting: { monitor: ssh-logins } }
          within: rule + 30s   # 20s to arrive, the monitor's interval, 30s for the run
          give_up: 30m         # the longest that a round waits
      - notified: { webhook: { from: alertmanager }, within: rule + 60s }
    edges: true                # and copies just inside and just outside of the look-back
```

| what the rule says | what becomes of the round |
| --- | --- |
| when it runs | the alert is due in the longest time that follows; later it is late |
| that it is off | the alert is lost, and that it is off is said first |
| that it is held: silenced, or by its throttle after an alert of this journey, until after the alert is due | none is expected: neither a loss nor a pass |
| that it may be held: by the throttle of some value, by an alert that is active, by a throttle and an alert of before the agent began | an alert that comes counts; silence is inconclusive |
| nothing, or it can't be read, or two share the name | inconclusive, whatever comes |
| that its alert is due after `give_up` | an alert that comes counts; silence is inconclusive |

Prometheus tells the interval of the group and `for`; Grafana also how far back its queries look;
OpenSearch Alerting its schedule, the range of its query and what is active; Elastic Security interval,
`from` and suppression; Splunk schedule, time range and suppression. ElastAlert 2 has no API: its last
runs and its silences stand in its index, and `rule: { every: ..., look_back: ... }` says the rest. Of a
schedule of cron the longest time between two runs counts. `rule` at the stage takes `engine`, `url`,
`name`, `index`, `auth` and `tls`, where the alert is seen elsewhere than the rule (at an Alertmanager, in
an index), and `every`, `look_back`, `for` and `throttle`, which go before what is read.

`edges: true` is for rules that go by the time which the event tells. The copy inside is as old as every
run that can be the first to see it must still find; its alert is one more that is expected. Of the one
outside, 30 s older than the look-back, none must come: else the rule looks back further than it says,
which is a false alarm. Where a rule is throttled, or looks back no longer than it takes an event to be
seen, no copies are sent, and why is told.

```yaml
title: Brute force over SSH
attack: [ T1110.001 ]
source: { product: linux, service: sshd }
vars: { attacker: 192.0.2.10, user: root }
app: sshd
events:
  - { times: 6, every: 200ms, message: \"Failed password for ${user} from ${attacker} port {port} ssh2 [{token}]\" }
  - { after: 1s, message: \"Accepted password for ${user} from ${attacker} port {port} ssh2 [{token}]\" }
alert: { name: SSH brute force, severity: high, within: 3m, exactly: 1 }
benign:
  - { times: 2, every: 1s, message: \"Failed password for ${user} from ${attacker} port {port} ssh2 [{token}]\" }
```
";

/// The whole reference, as Markdown.
pub fn markdown() -> String {
    let schema = schema::schema();
    let mut text = OPENING.to_owned();
    text.push_str("## Top level\n\n");
    table(&mut text, &schema, &schema, &[]);
    let checks: Vec<_> = crate::probe::kinds().iter().map(|kind| kind.kind).collect();
    let ways: Vec<_> = crate::send::kinds().iter().map(|kind| kind.kind).collect();
    let looks: Vec<_> = crate::confirm::kinds().iter().map(|kind| kind.kind).collect();
    let check = at(&schema, &["properties", "checks", "items"]);
    text.push_str("\n## Checks\n\nA check has one key that names its kind.\n\n");
    table(&mut text, &schema, check, &checks);
    for entry in crate::probe::kinds() {
        let (kind, every, timeout) = (entry.kind, Period(entry.every), Period(entry.timeout));
        let _ = writeln!(text, "\n### Check: `{kind}`\n");
        table(&mut text, &schema, at(check, &["properties", kind]), &[]);
        let _ = writeln!(text, "\nDefault `every: {every}` and `timeout: {timeout}`.");
    }
    let journey = at(&schema, &["properties", "journeys", "items"]);
    text.push_str("\n## Journeys\n\n");
    table(&mut text, &schema, journey, &[]);
    text.push_str(JOURNEYS);
    text.push_str("\n### Events\n\n");
    table(&mut text, &schema, at(journey, &["properties", "events"]), &[]);
    let send = at(journey, &["properties", "send"]);
    for way in &ways {
        let _ = writeln!(text, "\n### Way in: `{way}`\n");
        table(&mut text, &schema, at(send, &["properties", way]), &[]);
    }
    // All stages that are looked at have the same keys; `stored` stands for them.
    let stages = at(journey, &["properties", "stages", "items", "oneOf"]).as_array();
    let stored = stages
        .and_then(|stages| stages.iter().find_map(|stage| stage.get("properties")?.get("stored")))
        .unwrap_or(&Value::Null);
    text.push_str(
        "\n### Stages\n\nEach stage once, in their order; one key names how it is seen.\n\n",
    );
    table(&mut text, &schema, stored, &looks);
    for look in &looks {
        let _ = writeln!(text, "\n### Way to see: `{look}`\n");
        table(&mut text, &schema, at(stored, &["properties", look]), &[]);
    }
    text.push_str(USE_CASES);
    for (title, name) in [
        ("A use case", "UseCase"),
        ("A step", "StepSpec"),
        ("The alert", "Alert"),
        ("The log source", "LogSource"),
        ("The rule", "Rule"),
    ] {
        let _ = writeln!(text, "\n### {title}\n");
        table(&mut text, &schema, at(&schema, &["$defs", name]), &[]);
    }
    text.push_str("\n## Gates\n\n");
    table(&mut text, &schema, at(&schema, &["properties", "gates", "items"]), &[]);
    text.push_str(GATES);
    text
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or(&Value::Null))
}

/// The schema itself, behind references and the alternatives of a variable or nothing.
fn behind<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    // References are few deep; a circle ends here.
    for _ in 0..8 {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            schema = at(root, &["$defs", name.rsplit('/').next().unwrap_or_default()]);
        } else if let Some(first) =
            schema.get("anyOf").and_then(Value::as_array).and_then(|choices| choices.first())
        {
            schema = first;
        } else {
            break;
        }
    }
    schema
}

fn table(text: &mut String, root: &Value, schema: &Value, kinds: &[&str]) {
    let schema = behind(root, schema);
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        text.push_str("It has no keys.\n");
        return;
    };
    let rows: Vec<_> =
        properties.iter().filter(|(key, _)| !kinds.contains(&key.as_str())).collect();
    if rows.is_empty() {
        text.push_str("It has no keys.\n");
        return;
    }
    let required = schema.get("required").and_then(Value::as_array);
    text.push_str("| key | type | meaning |\n| --- | --- | --- |\n");
    for (key, value) in rows {
        let needed = required.is_some_and(|all| all.iter().any(|one| one == key));
        let inner = behind(root, value);
        let describe = |value: &Value| {
            value.get("description").and_then(Value::as_str).map(|text| text.replace('\n', " "))
        };
        let mut meaning = describe(value).or_else(|| describe(inner)).unwrap_or_default();
        if let Some(default) = value.get("default").filter(|default| !default.is_null()) {
            let _ = write!(meaning, " Default `{default}`.");
        }
        if needed {
            meaning.push_str(" Required.");
        }
        let meaning = meaning.trim().replace('|', "\\|");
        let _ = writeln!(text, "| `{key}` | {} | {meaning} |", kind_of(inner));
    }
}

fn kind_of(schema: &Value) -> String {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match schema.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(many)) => {
            let many = many.iter().filter_map(Value::as_str).filter(|one| *one != "null");
            many.collect::<Vec<_>>().join(" or ")
        }
        _ => "one of several".to_owned(),
    }
}
