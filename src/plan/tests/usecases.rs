//! Use cases and their benign twins, and deadlines that follow from a rule.

use super::*;

/// A journey that sends the events, with the stages of an alert; `more` are further keys.
fn journey(events: &str, more: &str) -> String {
    format!(
        "journeys:\n\
         - id: j\n  \
           every: 10m\n  \
           send: {{ syslog: {{ to: 'tcp://h:601' }} }}\n  \
           events: {events}\n  \
           stages:\n  \
           - stored: {{ json_api: {{ url: 'http://h/', items: '.[]' }} }}\n  \
           - alerted: {{ alertmanager: {{ url: 'http://a/', match: {{ alertname: '{{alert}}' }} }}, give_up: 4m }}\n  \
           - notified: {{ webhook: {{ from: json, match: {{ alertname: '{{alert}}' }} }}, give_up: 4m }}\n{more}"
    )
}

#[test]
fn a_use_case_gives_a_journey_its_events_and_what_must_come_of_them() {
    let plan = compile(&journey("{ usecase: ssh-bruteforce, vars: { user: 'r t' } }", ""));
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let own = &plan.journeys[0];
    assert_eq!((own.events.count(), own.events.length()), (63, Duration::from_millis(6600)));
    let event = own.events.render(&"gl00000001".into(), "j", 63, crate::time::Wall::from_secs(0));
    assert!(event.message.contains("Accepted password for r t from 192.0.2.10"), "{event:?}");
    let json = own.json();
    let alerted = &json["stages"][2]["alerted"];
    assert_eq!(alerted["within"], "3m");
    assert_eq!(alerted["exactly"], 1);
    assert_eq!(alerted["alertmanager"]["match"]["alertname"], "SSH brute force");
    assert_eq!(json["stages"][3]["notified"]["webhook"]["match"]["alertname"], "SSH brute force");
    assert_eq!(json["usecase"]["is"]["attack"][0], "T1110.001");
    assert!(plan.sources.contains(&"usecase:ssh-bruteforce".to_owned()), "{:?}", plan.sources);
    let effects = plan.json["effects"].to_string();
    assert!(effects.contains("63 syslog messages") && effects.contains("over 6.6s"), "{effects}");
    let other = compile(&journey("{ usecase: ssh-bruteforce }", "")).unwrap();
    assert_ne!(plan.digest, other.digest);
    let promise = |plan: &Plan| plan.journeys[0].promise(crate::journey::Stage::Stored);
    assert_ne!(promise(&plan), promise(&other));
}

#[test]
fn mistakes_in_and_about_use_cases_have_their_places() {
    for (events, words) in [
        ("{ usecase: ssh-brutforce }", "did you mean `ssh-bruteforce`"),
        ("{ usecase: '../secret' }", "there is no use case `../secret`"),
        ("{ usecase: ssh-bruteforce, count: 3 }", "says itself what its events are"),
        ("{ usecase: ssh-bruteforce, vars: { usr: x } }", "did you mean `user`"),
        ("{ vars: { user: x } }", "`vars` are those of a use case"),
        ("{ usecase: ssh-bruteforce, vars: { user: 'a {lone' } }", "a lone brace"),
    ] {
        let error = compile(&journey(events, "")).map(drop).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
        assert!(error.contains(".yaml:") || error.contains("usecase:"), "{error}");
    }
}

#[test]
fn a_use_case_beside_the_plan_goes_before_one_that_comes_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.yaml");
    std::fs::write(&file, journey("{ usecase: ssh-bruteforce }", "")).unwrap();
    let cases = folder.path().join("usecases");
    std::fs::create_dir(&cases).unwrap();
    let own = cases.join("ssh-bruteforce.yaml");
    let inputs = Inputs { paths: vec![file.display().to_string()], ..Inputs::default() };
    let compile = || {
        let facts = Facts { hostname: "node-1".into(), ..Facts::default() };
        Plan::compile(&inputs, &facts).map_err(|invalid| invalid.render(false))
    };
    std::fs::write(&own, "title: Ours\nalert: { name: x }\nevents: [ { message: a } ]\n").unwrap();
    let plan = compile().unwrap();
    assert_eq!(plan.journeys[0].usecase.as_ref().unwrap().case.title, "Ours");
    std::fs::write(&own, "title: Ours\nalert: { nme: x }\nevents: [ { message: '${y}' } ]\n")
        .unwrap();
    let error = compile().map(drop).unwrap_err();
    assert!(error.contains("usecases/ssh-bruteforce.yaml:3:"), "{error}");
    assert!(error.contains("the variable `y` is not set"), "{error}");
    std::fs::write(&own, "title: Ours\nalert: { nme: x }\nevents: [ { message: a } ]\n").unwrap();
    let error = compile().map(drop).unwrap_err();
    assert!(error.contains("ssh-bruteforce.yaml:2:") && error.contains("`name`"), "{error}");
}

/// Each file is compiled in, is what the schema says, and renders by every kind of way in.
#[test]
fn the_use_cases_that_ship_are_whole() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/probes/usecases");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, packs::USE_CASES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let mut schema = schema::schema();
    let whole = schema["$defs"]["UseCase"].clone();
    schema["type"] = "object".into();
    schema["properties"] = whole["properties"].clone();
    schema["required"] = whole["required"].clone();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for (name, text) in packs::USE_CASES {
        let mut diagnostics = Diagnostics::default();
        let mut sources = Sources::default();
        let source = sources.add(*name, *text);
        let node = crate::spec::yaml::parse(source, text, &mut diagnostics).unwrap();
        let json = decode::<Value>(&node, &mut diagnostics).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&json).map(|e| format!("{e} at {}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        assert!(!validator.is_valid(&json!({ "titel": "x" })));
        let is_twin = !json.as_object().unwrap().contains_key("events");
        if is_twin {
            let twin = format!("  must_not_alert: {{ usecase: {name} }}\n");
            let plan = compile(&journey("{ usecase: ssh-bruteforce }", &twin));
            let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(plan.journeys[0].twin.is_some(), "{name}");
            continue;
        }
        let plan = compile(&journey(&format!("{{ usecase: {name} }}"), ""));
        let plan = plan.unwrap_or_else(|error| panic!("{name}: {error}"));
        let case = &plan.journeys[0].usecase.as_ref().unwrap().case;
        assert!(!case.attack.is_empty() && !case.benign.is_empty(), "{name}");
        assert!(case.alert.is_some() && case.source.is_some(), "{name}");
    }
}

#[test]
fn a_benign_twin_is_sent_beside_each_round() {
    let plan = compile(&journey("{ usecase: ssh-bruteforce }", "  must_not_alert: true\n"));
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let own = &plan.journeys[0];
    let twin = own.twin.as_ref().unwrap();
    assert_eq!((twin.events.count(), twin.events.length()), (2, Duration::from_secs(1)));
    assert_eq!(own.json()["must_not_alert"], true);
    let effects = plan.json["effects"].to_string();
    assert!(effects.contains("2 syslog messages, the benign twin of"), "{effects}");
    let other = "  must_not_alert: { usecase: log-cleared, vars: { user: x } }\n";
    let plan = compile(&journey("{ count: 3 }", other)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.journeys[0].json()["must_not_alert"]["name"], "log-cleared");

    for (events, more, words) in [
        ("{ count: 3 }", "  must_not_alert: true\n", "are of no use case, and have no twin"),
        ("{ usecase: ssh-bruteforce }", "  must_not_alert: false\n", "is not said"),
        ("{ count: 3 }", "  must_not_alert: { usecse: x }\n", "did you mean `usecase`"),
        (
            "{ count: 3 }",
            "  must_not_alert: { usecase: log-claered }\n",
            "did you mean `log-cleared`",
        ),
    ] {
        let error = compile(&journey(events, more)).map(drop).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
    let with = |from: &str, to: &str| {
        let text = journey("{ usecase: ssh-bruteforce }", "  must_not_alert: true\n");
        compile(&text.replace(from, to)).map(drop).unwrap_err()
    };
    // A twin that is watched for longer than the next round is due: fewer rounds, as the plan says.
    let text = journey("{ usecase: ssh-bruteforce }", "  must_not_alert: true\n");
    let plan = compile(&text.replace("every: 10m", "every: 3m"));
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let often = &plan.journeys[0].effects()[0].0;
    assert_eq!(often, "3m, when the round before has ended, which lasts 246600ms");
    let error = with(
        "alertmanager: { url: 'http://a/', match: { alertname: '{alert}' } }",
        "promql: { url: 'http://p/', query: x }",
    );
    assert!(error.contains("can't tell whose an alert is"), "{error}");
}

#[test]
fn a_deadline_may_follow_from_the_rule_behind_the_alert() {
    let of = |alerted: &str, notified: &str, more: &str| {
        let text = format!(
            "journeys:\n- id: j\n  every: 40m\n  send: {{ syslog: {{ to: 'tcp://h:514' }} }}\n  \
             events: {{ usecase: ssh-bruteforce }}\n{more}  stages:\n  - alerted: {{ {alerted} }}\n\
             {notified}"
        );
        compile(&text)
    };
    let monitor = "opensearch: { url: 'http://o/', alerting: { monitor: m } }";
    let ruled = format!("{monitor}, within: rule, give_up: 30m");
    let told = "  - notified: { webhook: { from: alertmanager } }\n";
    let edges = "  edges: true\n";
    let plan = of(&ruled, told, edges).unwrap_or_else(|error| panic!("{error}"));
    let journey = &plan.journeys[0];
    let [alerted, notified] =
        [Stage::Alerted, Stage::Notified].map(|stage| journey.stage(stage).unwrap().clone());
    assert_eq!(
        (alerted.due().to_string().as_str(), alerted.give_up.as_secs()),
        ("rule + 30s", 1_800)
    );
    assert_eq!(
        (notified.due().to_string().as_str(), notified.give_up.as_secs()),
        ("rule + 1m", 1_980)
    );
    assert!(journey.edges && journey.watches_twin(Stage::Alerted));
    assert!(!journey.watches_twin(Stage::Notified));
    let effects = plan.json["effects"].to_string();
    for words in [
        "asks http://o/ what the rule \\\"m\\\" says of itself, and waits for its alert as long as \
         follows from that, with 30s for the run, and 30m at most",
        "a copy stamped just outside of the rule's look-back",
    ] {
        assert!(effects.contains(words), "{effects}");
    }
    for alerted in [
        "promql: { url: 'http://p/', alert: { alertname: A } }, within: rule, give_up: 30m",
        "alertmanager: { url: 'http://g/api/alertmanager/grafana', match: { alertname: A } }, within: rule + 5s, give_up: 30m",
        "elastalert: { url: 'http://o/', rule: R }, within: rule, give_up: 30m",
        "splunk: { url: 'http://s/', search: 'index=notable', alerts: { of: splunk_notable, match: { search_name: R } } }, within: rule, give_up: 30m",
        "splunk: { url: 'http://s/', fired: { search: '{alert}' } }, within: rule, give_up: 30m",
        "alertmanager: { url: 'http://a/' }, within: rule, give_up: 30m, rule: { every: 5m }",
        "alertmanager: { url: 'http://a/' }, within: rule, give_up: 30m, rule: { engine: elastic_security, url: 'http://k/', name: '{alert}' }",
    ] {
        of(alerted, "", "").unwrap_or_else(|error| panic!("{alerted}: {error}"));
    }
    for (alerted, notified, more, words) in [
        (format!("{monitor}, within: rule"), "", "", "at most is not said"),
        (format!("{monitor}, within: rules, give_up: 30m"), "", "", "write `rule` or"),
        (format!("{monitor}, within: 5m, rule: {{ every: 5m }}"), "", "", "a rule is asked only"),
        (
            "alertmanager: { url: 'http://a/' }, within: rule, give_up: 30m".into(),
            "",
            "",
            "does not know of the rule",
        ),
        (
            format!("{ruled}, rule: {{ engine: prometheus }}"),
            "",
            "",
            "`engine` and `url` of a rule go together",
        ),
        (format!("{ruled}, rule: {{ every: 0s }}"), "", "", "0s is none"),
        (
            ruled.clone(),
            "  - notified: { webhook: { from: alertmanager }, within: 5m }\n",
            "",
            "is due when its rule says so",
        ),
        (
            format!("{monitor}, within: 5m"),
            "  - notified: { webhook: { from: alertmanager }, within: rule }\n",
            "",
            "`notified` is due by no rule",
        ),
        (
            "splunk: { url: 'http://s/', search: x, fired: { search: R } }".into(),
            "",
            "",
            "`fired` has no use for a `search`",
        ),
        (
            "imap: { url: 'imaps://m', user: u, password: { env: P }, token: { env: T } }".into(),
            "",
            "",
            "one of `password` and `token`",
        ),
        ("imap: { url: 'imaps://m', user: u }".into(), "", "", "one of `password` and `token`"),
        (
            "splunk: { url: 'http://s/', fired: { search: R } }, resolved: 5m".into(),
            "",
            "",
            "does not show that something is resolved",
        ),
        (format!("{monitor}, within: 5m"), "", edges, "knows of no rule that looks back"),
        (
            "promql: { url: 'http://p/', alert: { alertname: A } }, within: rule, give_up: 30m"
                .into(),
            "",
            edges,
            "Prometheus goes by when it scraped",
        ),
        (format!("{monitor}, within: rule, give_up: 40m"), "", edges, "the next is due every"),
    ] {
        let error = of(&alerted, notified, more).map(drop).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
}

#[test]
fn gates_ask_of_twins_and_of_people_only_where_a_journey_can_tell() {
    let judged = |more: &str, require: &str| {
        let journey = journey("{ usecase: ssh-bruteforce }", more);
        compile(&format!("{journey}gates: [ {{ id: g, require: {require} }} ]")).map(drop)
    };
    let alarms = "{ max: journey.false_alarms, where: { journey: j }, over: 10m, below: 0 }";
    let at =
        "{ max: journey.false_alarms, where: { journey: j, stage: stored }, over: 10m, below: 0 }";
    let person = "{ p95: journey.alert_to_person, where: { journey: j }, over: 10m, below: 30s }";
    let twin = "  must_not_alert: true\n";
    judged(twin, alarms).unwrap_or_else(|error| panic!("{error}"));
    judged(twin, person).unwrap_or_else(|error| panic!("{error}"));
    for (more, require) in [("", alarms), (twin, at)] {
        let error = judged(more, require).unwrap_err();
        assert!(error.contains("write `must_not_alert`"), "{error}");
    }
    // A part that hangs on whether the journey sends a twin, and what stands in where it does not.
    let parts = |of: &str| {
        format!(
            "{{ all: [ {{ when: {{ twin_of: {of} }}, max: journey.false_alarms, where: {{ journey: j }}, \
             over: 10m, below: 0 }}, {{ when: {{ twin_of: {of}, equals: 'false' }}, missing: another }} ] }}"
        )
    };
    let sentence = |more: &str, of: &str| {
        let journey = journey("{ usecase: ssh-bruteforce }", more);
        let plan = compile(&format!("{journey}gates: [ {{ id: g, require: {} }} ]", parts(of)));
        plan.map(|plan| crate::gate::sentence(&plan.gates[0]))
    };
    let with = sentence(twin, "j").unwrap();
    assert!(with.contains("false_alarms") && !with.contains("another"), "{with}");
    let without = sentence("", "j").unwrap();
    assert!(!without.contains("false_alarms") && without.contains("another"), "{without}");
    assert!(sentence("", "k").unwrap_err().contains("there is no journey `k`"));
    assert!(sentence("", "''").unwrap().contains("`twin_of` is not set"));
}
