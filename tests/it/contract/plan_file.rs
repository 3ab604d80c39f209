//! The plan file: keys, variables, secrets, packs and paths, the digest, the schema.

use std::fs;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{BINARY, closed_port, greenlight_with, open_port, web};
use crate::command::{Daemon, code, err, folder_with, greenlight, out};

fn plan_json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", err(output));
    serde_json::from_str(&out(output)).expect("JSON")
}

fn compiled(plan: &str, environment: &[(&str, &str)]) -> Value {
    let (_folder, file) = folder_with(plan);
    plan_json(&greenlight_with(&["plan", "-c", &file, "-o", "json"], environment))
}

fn mistakes(plan: &str) -> String {
    let (_folder, file) = folder_with(plan);
    let output = greenlight(&["plan", "-c", &file]);
    assert_eq!(code(&output), 78, "{plan}\n{}", out(&output));
    assert_eq!(out(&output), "", "mistakes go to standard error");
    err(&output)
}

#[test]
fn contract_every_top_level_key_is_optional_and_the_node_is_named_after_the_host() {
    let plan = compiled("", &[]);
    let host = nix::unistd::gethostname().expect("a name").into_string().expect("UTF-8");
    assert_eq!(plan["node"]["name"], host.as_str());
    assert_eq!(plan["nodes"], json!([host]), "the fleet is this node");
    for key in ["vars", "node", "nodes", "include", "peers", "checks", "journeys", "gates"] {
        compiled(&format!("{key}:\n"), &[]);
    }
}

#[test]
fn contract_a_variable_is_the_plans_else_the_environments_else_a_mistake() {
    let plan = "vars: { a: of-the-plan }\n\
                nodes: [ '${a}', '${CONTRACT_B}', 'x${a}y', '$${a}' ]\n";
    let environment = [("a", "of-the-environment"), ("CONTRACT_B", "from-outside")];
    let nodes = compiled(plan, &environment)["nodes"].clone();
    assert_eq!(nodes, json!(["of-the-plan", "from-outside", "xof-the-plany", "${a}"]));
    let text = mistakes("vars: { lake: x }\nnodes: [ '${lakes}' ]\n");
    assert!(text.contains("plan.yaml:2:") && text.contains("`lakes`"), "{text}");
    assert!(text.contains("did you mean `lake`"), "{text}");
    // Put in after parsing: a value never becomes structure.
    let hostile = "] }\nchecks: [ { id: evil, tcp: {}, targets: [ 'a:1' ] } ]\n#";
    let plan = compiled("nodes: [ '${CONTRACT_HOSTILE}' ]\n", &[("CONTRACT_HOSTILE", hostile)]);
    assert_eq!(plan["nodes"], json!([hostile]));
    assert_eq!(plan["checks"], json!([]));
    // As it is written: a number that is put into a text keeps its zeros, and so does one that
    // decides whether a gate applies.
    let plan = "vars: { release: 1.10, index: 007, account: 12345678901234567890123, n: 0x10, none: null }\n\
                nodes: [ 'r${release}', 'i-${index}', '${account}' ]\n\
                checks: [ { id: p, icmp: { count: '${n}' }, targets: [ '127.0.0.1' ], every: 30s } ]\n\
                gates: [ { id: g, when: { var: release, equals: 1.10 }, require: { ratio: check.success, over: 5m, above: 99% } } ]\n";
    let (_, report) = super::check(plan, &["--for", "100ms"]);
    assert_eq!(report["gates"][0]["verdict"], "open", "it applies: {report:#}");
    let plan = compiled(plan, &[]);
    assert_eq!(plan["nodes"], json!(["r1.10", "i-007", "12345678901234567890123"]));
    assert_eq!(plan["checks"][0]["icmp"]["count"], 16);
    // One that is null is not set, and so is nothing to be meant.
    let text = mistakes("vars: { none: null }\nnodes: [ '${none}' ]\n");
    assert!(text.contains("`none` is not set") && !text.contains("did you mean"), "{text}");
    // Nor does a key.
    let text = mistakes("vars: { k: checks }\n'${k}': []\n");
    assert!(text.contains("unknown key"), "{text}");
}

const SECRETS: [&str; 3] = ["s3cr3t-from-env-42", "s3cr3t-from-file-43", "s3cr3t-from-command-44"];

#[test]
fn contract_a_secret_is_shown_nowhere() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let all = seen.clone();
    // A server that says back what it was sent, and refuses it.
    let server = web(move |asked| {
        all.lock().expect("nobody panicked").push(asked.head.clone());
        (403, format!("{{\"echo\": {}}}", json!(asked.head)))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    fs::write(&file, format!("{}\n", SECRETS[1])).expect("written");
    let auth = [
        "basic: { user: u, password: { env: CONTRACT_SECRET } }".to_owned(),
        format!("bearer: {{ file: {} }}", file.display()),
        format!("header: {{ command: [ echo, '{}' ] }}", SECRETS[2]),
    ];
    let checks: String = auth
        .iter()
        .enumerate()
        .map(|(n, auth)| {
            format!("  - {{ id: c{n}, http: {{ auth: {{ {auth} }}, json: [ '.x == 1' ] }}, targets: [ 'http://{server}/' ], every: 300ms }}\n")
        })
        .collect();
    let gate = "gates: [ { id: g, require: { ratio: check.success, over: 1s, above: 50% } } ]\n";
    let plan = folder.path().join("plan.yaml");
    // The command's own words are a reference; the secret stands in a file here.
    let script = folder.path().join("tell");
    fs::write(&script, format!("{}\n", SECRETS[2])).expect("written");
    let checks = checks.replace(
        &format!("[ echo, '{}' ]", SECRETS[2]),
        &format!("[ cat, '{}' ]", script.display()),
    );
    fs::write(&plan, format!("checks:\n{checks}{gate}")).expect("written");
    let plan = plan.display().to_string();
    let environment = [("CONTRACT_SECRET", SECRETS[0])];
    let mut said: Vec<(String, String)> = Vec::new();
    let mut tell = |what: &str, output: &Output| {
        said.push((what.to_owned(), format!("{}{}", out(output), err(output))));
    };
    tell("plan", &greenlight_with(&["plan", "-c", &plan, "-o", "json"], &environment));
    tell("plan", &greenlight_with(&["plan", "-c", &plan, "--privileges"], &environment));
    for check in ["c0", "c1", "c2"] {
        let debug = ["--debug", "--log.level", "debug"];
        for format in ["json", "terminal"] {
            let mut arguments = vec!["once", check, "-c", &plan, "-o", format];
            arguments.extend(debug);
            let output = greenlight_with(&arguments, &environment);
            assert_eq!(code(&output), 1, "{}", err(&output));
            tell("once --debug", &output);
        }
    }
    for format in ["json", "terminal", "markdown", "junit", "html"] {
        let arguments = ["check", "-c", &plan, "-o", format, "-v", "--log.level", "debug"];
        let output = greenlight_with(&arguments, &environment);
        assert_eq!(code(&output), 1, "{}", err(&output));
        tell(&format!("check -o {format}"), &output);
    }
    let state = folder.path().join("state");
    let mut child = std::process::Command::new(BINARY)
        .args(["run", "-c", &plan, "--web.listen-address", "127.0.0.1:0", "--log.level", "debug"])
        .arg("--state")
        .arg(&state)
        .env("CONTRACT_SECRET", SECRETS[0])
        .stderr(fs::File::create(folder.path().join("log")).expect("a file"))
        .spawn()
        .expect("it starts");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let address = loop {
        let log = fs::read_to_string(folder.path().join("log")).expect("the log");
        if let Some((_, rest)) = log.split_once("listening on http://") {
            break rest.lines().next().unwrap_or_default().to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "{log}");
        std::thread::sleep(Duration::from_millis(50));
    };
    std::thread::sleep(Duration::from_millis(2500));
    for path in [
        "/metrics",
        "/",
        "/api/v1/plan",
        "/api/v1/checks",
        "/api/v1/gates",
        "/api/v1/ledger",
        "/api/v1/journeys",
    ] {
        let (status, body) = crate::command::fetch("GET", &address, path);
        assert_eq!(status, 200, "{path}");
        said.push((path.to_owned(), body));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    said.push(("log".into(), fs::read_to_string(folder.path().join("log")).expect("the log")));
    for entry in fs::read_dir(&state).expect("the state") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file of the state");
        said.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }

    let used = seen.lock().expect("nobody panicked").join("\n");
    let basic = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("u:{}", SECRETS[0]))
    };
    let hidden = [SECRETS[0], SECRETS[1], SECRETS[2], &basic];
    for secret in &hidden[1..] {
        assert!(used.contains(secret), "the server was shown {secret}");
    }
    for (what, text) in &said {
        for secret in hidden {
            assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
        }
    }
}

#[test]
fn contract_a_secret_stands_only_under_keys_of_its_type() {
    for plan in [
        "nodes: [ { env: HOME } ]",
        "vars: { password: { env: HOME } }",
        "node: { name: { file: /etc/hostname } }",
        "checks: [ { id: { env: HOME }, tcp: {}, targets: [ 'a:1' ] } ]",
        "gates: [ { id: g, title: { command: [ echo ] }, require: { ratio: check.success, over: 1s, above: 50% } } ]",
    ] {
        mistakes(plan);
    }
    // And no plain text stands under those.
    let text = mistakes(
        "checks: [ { id: a, http: { auth: { bearer: tell-nobody } }, targets: [ 'http://a/' ] } ]",
    );
    assert!(!text.contains("tell-nobody"), "{text}");
}

#[test]
fn contract_packs_and_paths_are_included() {
    let (folder, plan) = folder_with("include: [ 'pack:linux-node', parts/more.yaml ]\n");
    fs::create_dir(folder.path().join("parts")).expect("made");
    // Paths are relative to the file that includes; a file named twice is read once.
    fs::write(
        folder.path().join("parts/more.yaml"),
        "include: [ ./deeper.yaml, deeper.yaml ]\nnodes: [ from-more ]\n",
    )
    .expect("written");
    fs::write(folder.path().join("parts/deeper.yaml"), "nodes: [ from-deeper ]\n")
        .expect("written");
    let json = plan_json(&greenlight(&["plan", "-c", &plan, "-o", "json"]));
    assert_eq!(json["nodes"], json!(["from-more", "from-deeper"]));
    assert!(json["gates"].as_array().is_some_and(|gates| gates.len() > 5), "the pack's gates");
    // A pack on disk stands in for the one of the same name.
    fs::create_dir(folder.path().join("packs")).expect("made");
    fs::write(folder.path().join("packs/linux-node.yaml"), "nodes: [ overridden ]\n")
        .expect("written");
    let json = plan_json(&greenlight(&["plan", "-c", &plan, "-o", "json"]));
    assert_eq!(json["gates"], json!([]));
    assert!(json["nodes"].to_string().contains("overridden"));
    let text = mistakes("include: [ 'pack:linux-nod', nowhere.yaml ]\n");
    assert!(text.contains("did you mean `pack:linux-node`") && text.contains("nowhere.yaml"));
    assert!(text.contains("2 mistakes"), "{text}");
}

fn digest(plan: &str) -> String {
    let digest = compiled(plan, &[])["digest"].as_str().expect("a text").to_owned();
    assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
    digest
}

#[test]
fn contract_the_digest_is_of_what_is_done_and_of_nothing_else() {
    let plan = "node: { name: a, labels: { zone: x } }\nvars: { v: '1', unused: '1' }\n\
                checks: [ { id: c, tcp: {}, targets: [ 'h:1' ], every: 60s } ]\n\
                gates: [ { id: g, title: 't${v}', require: { ratio: check.success, over: 1m, above: 50% } } ]\n";
    let own = digest(plan);
    assert_eq!(own, digest(plan), "the same plan, the same digest");
    for (same, why) in [
        (plan.replace("name: a", "name: b"), "the node's name"),
        (plan.replace("zone: x", "zone: y"), "the node's labels"),
        (plan.replace("node: { name: a, labels: { zone: x } }\n", ""), "no name at all"),
        (plan.replace("every: 60s", "every: 1m"), "the same in other words"),
    ] {
        assert_eq!(digest(&same), own, "{why}");
    }
    for (other, why) in [
        (plan.replace("v: '1'", "v: '2'"), "a variable"),
        (plan.replace("unused: '1'", "unused: '2'"), "a variable that nothing uses"),
        (plan.replace("every: 60s", "every: 61s"), "a schedule"),
        (plan.replace("50%", "51%"), "a threshold"),
        (plan.replace("'h:1'", "'h:2'"), "a target that the plan itself lists"),
        (format!("{plan}nodes: [ a, b ]\n"), "the fleet"),
    ] {
        assert_ne!(digest(&other), own, "{why}");
    }
    // A fleet of one name says the same on each node.
    let fleet = |name: &str| format!("node: {{ name: {name} }}\nnodes: [ a ]\n");
    assert_eq!(digest(&fleet("a")), digest(&fleet("b")));

    // Members of selectors, wherever they are written.
    let selected = "checks: [ { id: c, tcp: {}, targets: { peers: { zone: x } } } ]\n";
    let of_static = |address: &str| {
        digest(&format!(
            "{selected}peers: {{ static: [ {{ targets: [ '{address}' ], labels: {{ zone: x }} }} ] }}\n"
        ))
    };
    assert_eq!(of_static("p:1"), of_static("p:2"));
    let folder = tempfile::tempdir().expect("a folder");
    let of_file = |members: &str| {
        fs::write(folder.path().join("peers.yaml"), members).expect("written");
        fs::write(
            folder.path().join("plan.yaml"),
            format!("{selected}peers: {{ file_sd: peers.yaml }}\n"),
        )
        .expect("written");
        let file = folder.path().join("plan.yaml").display().to_string();
        plan_json(&greenlight(&["plan", "-c", &file, "-o", "json"]))["digest"].clone()
    };
    assert_eq!(
        of_file("- { targets: [ 'p:1' ], labels: { zone: x } }\n"),
        of_file("- { targets: [ 'p:1', 'p:2' ], labels: { zone: x } }\n")
    );

    // A rotated secret is the same plan, another reference is another.
    let plan = "checks: [ { id: a, http: { auth: { bearer: { env: CONTRACT_S } } }, targets: [ 'http://a/' ] } ]";
    let with = |value: &str| compiled(plan, &[("CONTRACT_S", value)])["digest"].clone();
    assert_eq!(with("one"), with("two"));
    assert_ne!(
        compiled(plan, &[])["digest"],
        compiled(&plan.replace("CONTRACT_S", "CONTRACT_T"), &[])["digest"]
    );
}

#[test]
fn contract_the_digest_of_plan_report_and_metrics_is_one() {
    let (folder, plan) = folder_with("vars: { a: 1 }\n");
    let digest = plan_json(&greenlight(&["plan", "-c", &plan, "-o", "json"]))["digest"].clone();
    let digest = digest.as_str().expect("a text");
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    assert_eq!(daemon.json("/api/v1/plan")["digest"], digest);
    assert_eq!(daemon.json("/api/v1/ledger")["plan"]["digest"], digest);
    assert_eq!(daemon.metric("greenlight_plan_info", &[digest]), Some(1.0));
}

/// Good plans and bad ones: the schema and the compiler must say the same of each.
#[test]
fn contract_the_schema_is_2020_12_and_agrees_with_the_compiler() {
    let schema: Value = serde_json::from_str(&out(&greenlight(&["schema"]))).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::draft202012::meta::validate(&schema).expect("the schema is a schema");
    let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
    let check =
        |extra: &str| json_of(&format!("{{ \"checks\": [ {{ \"id\": \"a\", {extra} }} ] }}"));
    let gate = |extra: &str| {
        json_of(&format!(
            "{{ \"checks\": [ {{ \"id\": \"a\", \"tcp\": {{}}, \"targets\": [ \"h:1\" ] }} ], \"gates\": [ {{ \"id\": \"g\", {extra} }} ] }}"
        ))
    };
    let journey = json_of(
        &serde_json::to_string(&json!({ "journeys": [ {
            "id": "j", "every": "5m", "send": { "syslog": { "to": "tls://collector:6514", "framing": "octet" } },
            "events": { "count": 3 },
            "stages": [
                { "stored": { "json_api": { "url": "https://lake:9200/{run}", "items": ".hits[]" }, "within": "60s", "expect": { "fields": { "a.b": "c" } } } },
                { "alerted": { "alertmanager": { "url": "http://am:9093", "match": { "alertname": "SSHBruteForce" } }, "within": "3m", "exactly": 1 } },
                { "notified": { "webhook": {}, "within": "4m" } },
                { "shown": { "grafana": { "url": "https://grafana", "dashboard": "siem-overview", "panel": "Failed logins" }, "within": "5m", "equals": "sent" } }
            ] } ] }))
        .expect("JSON"),
    );
    let with = |pointer: &str, value: Value| {
        let mut changed = journey.clone();
        *changed.pointer_mut(pointer).expect("it is there") = value;
        changed
    };
    let good = [
        json!({}),
        json!({ "vars": { "a": 1, "b": "x", "c": true, "d": null }, "nodes": ["a"] }),
        check("\"tcp\": {}, \"targets\": [ \"h:1\" ], \"every\": \"15s\", \"timeout\": \"1s\""),
        check("\"tcp\": null, \"targets\": { \"peers\": { \"zone\": \"*\" } }"),
        check("\"webhook\": { \"from\": \"json\", \"within\": \"5m\" }"),
        check(
            "\"http\": { \"auth\": { \"bearer\": { \"env\": \"X\" } } }, \"targets\": [ \"http://a/\" ]",
        ),
        gate(
            "\"require\": { \"p99\": \"tcp.connect\", \"where\": { \"check\": \"a\" }, \"over\": \"15m\", \"at_least\": 100, \"below\": \"5ms\" }",
        ),
        gate(
            "\"level\": \"optional\", \"require\": { \"p99.9\": \"tcp.connect\", \"over\": \"15m\", \"below\": \"5ms\", \"warn\": \"1ms\" }",
        ),
        gate(
            "\"when\": { \"decision\": \"d\" }, \"require\": { \"all\": [ { \"missing\": \"a part\" } ] }",
        ),
        journey.clone(),
        with("/journeys/0/events", json!({ "usecase": "ssh-bruteforce", "vars": { "user": "x" } })),
    ];
    let bad = [
        json!({ "chekcs": [] }),
        json!({ "vars": { "a": ["x"] } }),
        check("\"targets\": [ \"h:1\" ]"),
        check("\"tcp\": {}, \"icmp\": {}, \"targets\": [ \"h:1\" ]"),
        check("\"tpc\": {}, \"targets\": [ \"h:1\" ]"),
        check("\"tcp\": { \"prot\": 1 }, \"targets\": [ \"h:1\" ]"),
        check("\"tcp\": {}, \"targets\": []"),
        check("\"tcp\": {}"),
        check("\"webhook\": { \"from\": \"json\", \"within\": \"5m\" }, \"targets\": [ \"h:1\" ]"),
        check("\"tcp\": {}, \"targets\": [ \"h:1\" ], \"every\": \"often\""),
        check("\"tcp\": {}, \"targets\": [ \"h:1\" ], \"every\": 15"),
        check("\"http\": { \"auth\": { \"bearer\": \"plain\" } }, \"targets\": [ \"http://a/\" ]"),
        gate(
            "\"level\": \"must\", \"require\": { \"ratio\": \"check.success\", \"over\": \"1m\", \"above\": 0.5 }",
        ),
        gate("\"title\": \"nothing is required\""),
        gate("\"require\": { \"over\": \"1m\", \"above\": 0.5 }"),
        gate(
            "\"require\": { \"ratio\": \"check.success\", \"mean\": \"check.success\", \"over\": \"1m\", \"above\": 0.5 }",
        ),
        gate("\"require\": { \"ratio\": \"check.success\", \"over\": \"1m\", \"abov\": 0.5 }"),
        gate(
            "\"waivable\": \"perhaps\", \"require\": { \"ratio\": \"check.success\", \"over\": \"1m\", \"above\": 0.5 }",
        ),
        with("/journeys/0/stages/0", json!({ "stord": {} })),
        with("/journeys/0/events", json!({ "usecase": "ssh-bruteforce", "var": {} })),
        {
            let mut plan = journey.clone();
            plan["journeys"][0]["must_not_alert"] = json!("often");
            plan
        },
        with("/journeys/0/stages/0", json!({ "stored": { "within": "1s" } })),
        with("/journeys/0/stages/0/stored/within", json!("soon")),
        with("/journeys/0/send", json!({})),
        with("/journeys/0/send", json!({ "syslogg": {} })),
        with("/journeys/0/stages", json!([])),
    ];
    for (plans, fine) in [(&good[..], true), (&bad[..], false)] {
        for plan in plans {
            let text = serde_json::to_string(plan).expect("JSON");
            let errors: Vec<String> =
                validator.iter_errors(plan).map(|error| error.to_string()).collect();
            assert_eq!(errors.is_empty(), fine, "the schema: {text}: {errors:?}");
            // JSON is YAML.
            let (_folder, file) = folder_with(&text);
            let output = greenlight(&["plan", "-c", &file]);
            assert_eq!(code(&output) == 0, fine, "the compiler: {text}: {}", err(&output));
            assert!(fine || code(&output) == 78, "{}", code(&output));
        }
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn contract_all_mistakes_are_told_at_once_and_nothing_was_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = folder.path().join("plan.yaml");
    fs::write(
        &plan,
        format!(
            "checks:\n\
             - {{ id: a, tcp: {{}}, targets: [ '127.0.0.1:{}' ], every: 5 }}\n\
             - {{ id: a, tcp: {{}}, targets: [ 'no port' ] }}\n\
             - {{ id: b, tcp: {{}}, targets: [ 'h:1' ], timeout: 0s }}\n\
             gates:\n\
             - {{ id: g, require: {{ p99: tcp.conect, over: 1m, below: 5ms }} }}\n\
             - {{ id: h, when: {{ var: yes_no }}, require: {{ p99: tcp.connect, over: 1m, below: 5 }} }}\n\
             vars: {{ yes_no: 'yes' }}\n",
            closed_port()
        ),
    )
    .expect("written");
    let state = folder.path().join("state");
    let output = greenlight(&[
        "run",
        "-c",
        &plan.display().to_string(),
        "--state",
        &state.display().to_string(),
        "--web.listen-address",
        &format!("127.0.0.1:{}", open_port()),
    ]);
    assert_eq!(code(&output), 78, "before the address is found to be in use: {}", err(&output));
    let text = err(&output);
    for place in ["plan.yaml:2:", "plan.yaml:3:", "plan.yaml:4:", "plan.yaml:6:", "plan.yaml:7:"] {
        assert!(text.contains(place), "{place}: {text}");
    }
    assert!(text.contains("did you mean `tcp.connect`"), "{text}");
    assert!(text.contains("neither true nor false"), "{text}");
    assert!(!state.exists(), "nothing is written before the plan is valid");

    // Nor is what a report would be written to: one of before stays, and none is begun.
    let [before, none] = ["before.json", "none.html"].map(|name| folder.path().join(name));
    fs::write(&before, "{}").expect("written");
    let output = greenlight(&[
        "check",
        "-c",
        &plan.display().to_string(),
        "-o",
        &format!("json={}", before.display()),
        "-o",
        &format!("html={}", none.display()),
    ]);
    assert_eq!(code(&output), 78, "{}", err(&output));
    assert_eq!(fs::read_to_string(&before).expect("read"), "{}");
    assert!(!none.exists());
    let nowhere = folder.path().join("nowhere/report.json");
    let output = greenlight(&["check", "-o", &format!("json={}", nowhere.display())]);
    assert_eq!(code(&output), 64, "known before anything is measured: {}", err(&output));
}

#[test]
fn contract_nothing_that_is_named_goes_without_a_name() {
    for plan in [
        "node: { name: '' }",
        "nodes: [ a, ' ' ]",
        "nodes: [ '${CONTRACT_EMPTY}' ]\nvars: { CONTRACT_EMPTY: '' }",
        "checks: [ { id: '', tcp: {}, targets: [ 'a:1' ] } ]",
        "gates: [ { id: ' ', require: { missing: a hand } } ]",
    ] {
        assert!(mistakes(plan).contains("is empty"), "{plan}");
    }
}

/// The journey and the gate of the design, word by word: what others write theirs after.
#[test]
fn contract_journeys_and_gates_are_written_as_in_the_example() {
    let plan = compiled(
        r#"node: { name: ingest-1, labels: { role: ingest, zone: a } }
nodes: [ ingest-1, ingest-2, lake-1 ]
include: [ "pack:linux-node", "pack:partner-platform" ]
checks:
  - id: core-latency
    icmp: { count: 20, size: 56 }
    targets: { peers: { zone: "*" } }
    every: 15s
journeys:
  - id: ssh-bruteforce
    every: 5m
    send: { syslog: { to: "tls://collector:6514", framing: octet } }
    events: { usecase: ssh-bruteforce }
    stages:
      - stored:   { opensearch: { url: "https://lake:9200", index: "logs-*" }, within: 60s, expect: { fields: { enriched.asset.owner: soc-test } } }
      - alerted:  { alertmanager: { url: "http://am:9093", match: { alertname: SSHBruteForce } }, within: 3m, exactly: 1 }
      - notified: { webhook: {}, within: 4m }
      - shown:    { grafana: { url: "https://grafana", dashboard: siem-overview, panel: Failed logins }, within: 5m, equals: sent }
    must_not_alert: { usecase: ssh-normal-login }
gates:
  - id: net.latency.core
    title: Latency between nodes is within the agreed threshold
    level: mandatory
    require: { p99: icmp.rtt, where: { check: core-latency }, over: 15m, at_least: 100, below: 5ms }
    refs: [ "N5" ]
    why: Replication stalls above 5 ms.
    fix: Compare the path with `greenlight once core-latency --debug`; look for a detour or a saturated link.
"#,
        &[],
    );
    assert_eq!(plan["journeys"][0]["must_not_alert"]["name"], "ssh-normal-login");
    assert!(plan["gates"].as_array().is_some_and(|gates| {
        gates.iter().any(|gate| gate["id"] == "net.latency.core" && gate["level"] == "mandatory")
    }));
}

#[test]
fn contract_what_can_be_no_plan_is_an_invalid_plan_wherever_it_comes_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("latin1.yaml");
    fs::write(&file, b"nodes: [ caf\xe9 ]\n").expect("written");
    let from = fs::File::open(&file).expect("it is there");
    let piped = std::process::Command::new(BINARY)
        .args(["plan", "-c", "-"])
        .stdin(from)
        .output()
        .expect("the binary starts");
    let named = greenlight(&["plan", "-c", file.to_str().expect("UTF-8")]);
    for (output, name) in [(piped, "standard input"), (named, "latin1.yaml")] {
        assert_eq!(code(&output), 78, "{}", err(&output));
        assert!(err(&output).contains(&format!("{name} is no UTF-8 text")), "{}", err(&output));
    }
    // A pipe among the files is a mistake, and nobody waits for who would write to it.
    fs::write(&file, "").expect("written");
    nix::unistd::mkfifo(&folder.path().join("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU)
        .expect("a pipe is made");
    let output = greenlight(&["plan", "-c", folder.path().to_str().expect("UTF-8")]);
    assert_eq!(code(&output), 78, "{}", out(&output));
    assert!(err(&output).contains("pipe.yaml is no file"), "{}", err(&output));
}
