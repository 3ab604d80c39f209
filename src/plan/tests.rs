use super::load::Inputs;
use super::*;
use crate::journey::Stage;

fn inputs(text: &str) -> Inputs {
    Inputs { texts: vec![("plan.yaml".into(), text.into())], ..Inputs::default() }
}

fn compile(text: &str) -> Result<Plan, String> {
    let facts = Facts { hostname: "node-1".into(), ..Facts::default() };
    Plan::compile(&inputs(text), &facts).map_err(|invalid| invalid.render(false))
}

const CHECK: &str = "checks: [ { id: a, tcp: {}, targets: [ '127.0.0.1:1' ], every: 15s } ]\n";

#[test]
fn nothing_at_all_is_a_plan() {
    let plan = compile("").unwrap();
    assert_eq!((plan.node.name.as_str(), plan.gates.len()), ("node-1", 0));
    assert_eq!(plan.nodes, ["node-1"]);
}

#[test]
fn a_space_before_a_unit_is_one_mistake_and_says_so() {
    let gate = "gates: [ { id: g, require: { p99: tcp.connect, over: 5 m, below: 5 ms } } ]\n";
    let text = compile(&format!("{CHECK}{gate}")).map(|_| ()).unwrap_err();
    for words in ["`5 m` has a space in it; write `5m`", "write `5ms`", "2 mistakes"] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = compile(
        "chekcs: []\n\
         checks:\n\
         - { id: a, tpc: {}, targets: [ 'h:1' ] }\n\
         - { id: b, tcp: {}, targets: [ 'h:1' ], every: 5 }\n\
         gates:\n\
         - { id: g, require: { p99: tcp.conect, over: 15m, below: 5ms } }\n",
    )
    .map(|_| ())
    .unwrap_err();
    for words in [
        "plan.yaml:1:1",
        "did you mean `checks`",
        "plan.yaml:3:",
        "did you mean `tcp`",
        "plan.yaml:4:",
        "has no unit",
        "plan.yaml:6:",
        "did you mean `tcp.connect`",
        "4 mistakes",
    ] {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
}

#[test]
fn one_mistake_hides_no_other_in_the_same_thing() {
    let text = compile(
        "checks:\n\
         - { id: a, tcp: {}, targets: [ 'h:1' ], every: 5 }\n\
         - { id: a, icmp: { cont: 1 }, targets: [ 'h' ] }\n\
         gates:\n\
         - id: g\n  \
           require:\n    \
             p99: tcp.conect\n    \
             over: 0s\n    \
             below: 5 parsecs\n    \
             warn: 4ms\n    \
             where: { check: b }\n\
         - { id: g, require: { max: icmp.rtt } }\n",
    )
    .map(|_| ())
    .unwrap_err();
    for words in [
        "has no unit",
        "did you mean `count`",
        "a check `a` is there already",
        "did you mean `tcp.connect`",
        "a window can't be 0s",
        "is no unit",
        "there is no check `b`",
        "a gate `g` is there already",
        "no threshold",
        "no window",
        "10 mistakes",
    ] {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
}

#[test]
fn the_digest_is_of_what_is_done_and_not_of_who_does_it() {
    let digest = |text: &str| compile(text).unwrap().digest;
    let base = digest(CHECK);
    assert_eq!(base, digest(&format!("node: {{ name: other, labels: {{ zone: b }} }}\n{CHECK}")));
    assert_ne!(base, digest(&CHECK.replace("15s", "16s")));
    assert_ne!(digest("vars: { a: 1 }"), digest("vars: { a: 2 }"));
    // Writing the same in another order says nothing.
    assert_eq!(
        base,
        digest("checks: [ { every: 15s, targets: [ '127.0.0.1:1' ], id: a, tcp: {} } ]")
    );
}

#[test]
fn a_criterion_on_several_journeys_is_one_on_each() {
    let journey = |id: &str| {
        format!(
            "- {{ id: {id}, send: {{ http: {{ to: 'http://h/' }} }}, stages: [ parsed: {{ json_api: {{ url: 'http://h/', items: '.[]' }} }} ] }}\n"
        )
    };
    let plan = |vars: &str, ids: &str| {
        format!(
            "vars: {{ {vars} }}\njourneys:\n{}{}gates:\n- id: g\n  require: {{ complete: {ids}, stage: parsed, over: 1m, above: 100%, needs: a journey }}\n",
            journey("ssh"),
            journey("audit")
        )
    };
    let judged = |vars: &str, ids: &str| {
        let plan = compile(&plan(vars, ids))?;
        let criteria = plan.gates[0].require.criteria().into_iter();
        Ok::<_, String>(
            criteria
                .map(|criterion| match &criterion.subject {
                    Subject::Journey { journey, stage } => (journey.clone(), *stage),
                    Subject::Series(_) => panic!("it is about a journey"),
                })
                .collect::<Vec<_>>(),
        )
    };
    let parsed = Some(crate::journey::Stage::Parsed);
    let (ssh, audit) = (("ssh".to_owned(), parsed), ("audit".to_owned(), parsed));
    for (vars, ids) in
        [("", "[ ssh, audit ]"), ("", "'ssh, audit'"), ("sources: 'ssh,audit'", "'${sources}'")]
    {
        assert_eq!(judged(vars, ids), Ok(vec![ssh.clone(), audit.clone()]), "{vars} {ids}");
    }
    assert_eq!(judged("sources: ssh", "'${sources}'"), Ok(vec![ssh]));
    for (vars, ids) in [("sources: ''", "'${sources}'"), ("", "[]"), ("", "''")] {
        assert_eq!(judged(vars, ids), Ok(vec![]), "a part that nothing measures: {vars} {ids}");
    }
    let mistake = judged("", "'ssh, audti'").unwrap_err();
    assert!(mistake.contains("did you mean `audit`?"), "{mistake}");
    let mistake = judged("", "'ssh,'").unwrap_err();
    assert!(mistake.contains("there is no journey ``"), "{mistake}");
    let mistake = compile(&plan("", "[]").replace(", needs: a journey", "")).map(|_| ());
    assert!(mistake.as_ref().is_err_and(|text| text.contains("names no journey")), "{mistake:?}");
}

#[test]
fn only_a_store_that_is_searched_is_asked_again() {
    let journey = |stages: &str| {
        format!(
            "journeys:\n- {{ id: j, send: {{ http: {{ to: 'http://h/' }} }}, stages: [ {stages} ] }}\n"
        )
    };
    let lake = "json_api: { url: 'http://h/', items: '.[]' }";
    let topic = "kafka: { brokers: 'h:9092', topic: t }";
    let text = journey(&format!("stored: {{ {lake}, recheck: [ 24h, 90m, 24h ] }}"));
    let plan = compile(&text).unwrap();
    let stage = plan.journeys[0].stage(crate::journey::Stage::Stored).unwrap();
    assert_eq!(stage.recheck, [Duration::from_secs(5_400), Duration::from_secs(86_400)]);
    let again = "90m and 1d after each round";
    assert!(plan.journeys[0].effects().iter().any(|(when, _)| when == again), "it is an effect");
    assert_ne!(plan.digest, compile(&text.replace("90m", "91m")).unwrap().digest);
    // What is expected again hangs on the events and on what the stage promises, not on when.
    let promise = |text: &str| {
        compile(text).unwrap().journeys[0].promise(crate::journey::Stage::Stored).unwrap()
    };
    assert_eq!(promise(&text), promise(&text.replace("90m", "91m")));
    let other = text.replace("id: j,", "id: j, events: { message: 'x {token}' },");
    assert_ne!(promise(&text), promise(&other));
    for (stages, words) in [
        (format!("parsed: {{ {topic}, recheck: [ 1h ] }}"), "can't be asked again"),
        (format!("stored: {{ {lake}, recheck: [] }}"), "no list of times"),
        (format!("stored: {{ {lake}, recheck: [ 100ms ] }}"), "no list of times"),
        (format!("stored: {{ {lake}, recheck: [ 5 ] }}"), "has no unit"),
        (String::from("notified: { webhook: {}, recheck: [ 1h ] }"), "keeps no events"),
        (format!("accepted: {{ recheck: [ 1h ] }}, stored: {{ {lake} }}"), "keeps no events"),
    ] {
        let error = compile(&journey(&stages)).map(|_| ()).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
}

#[test]
fn a_way_in_with_a_format_of_its_own_takes_none_from_the_plan() {
    let journey = |send: &str, events: &str| {
        format!(
            "journeys:\n- id: j\n  send: {{ {send} }}\n  events: {{ {events} }}\n  stages: [ stored: {{ json_api: {{ url: 'http://h/', items: '.[]' }} }} ]\n"
        )
    };
    let otlp = "otlp: { to: 'http://h:4318' }";
    for send in [otlp, "journald: {}"] {
        for events in ["format: cef", "sizes: [ 900 ]", "sweep: true"] {
            let error = compile(&journey(send, events)).map(|_| ()).unwrap_err();
            let key = events.split(':').next().unwrap();
            assert!(
                error.contains(&format!("`{key}` has no use here")),
                "{send} {events}:\n{error}"
            );
            assert!(error.contains("plan.yaml:4:"), "{error}");
        }
        compile(&journey(send, "count: 3, message: 'x {pad:900} {token}', fields: { a: b }"))
            .unwrap();
    }
    compile(&journey("loki: { to: 'http://h:3100', labels: { job: x } }", "sizes: [ 900 ]"))
        .unwrap();
}

#[test]
fn variables_come_from_the_plan_then_from_the_environment() {
    let text = "vars: { tick: 20s, twice: '${tick}' }\nchecks: [ { id: a, tcp: {}, targets: [ '127.0.0.1:1' ], every: '${twice}' } ]";
    assert_eq!(compile(text).unwrap().checks[0].every, Duration::from_secs(20));
    let circle = compile("vars: { a: '${b}', b: '${a}' }").map(|_| ()).unwrap_err();
    assert!(circle.contains("made of itself"), "{circle}");
    let unset = compile("nodes: [ '${no_such_thing}' ]").map(|_| ()).unwrap_err();
    assert!(unset.contains("no_such_thing") && unset.contains("not set"), "{unset}");
    let path = compile("nodes: [ '${PATH}' ]").unwrap();
    assert_eq!(path.nodes, [std::env::var("PATH").unwrap()]);
}

#[test]
fn a_conditional_gate_says_what_its_condition_came_to() {
    let gate = |vars: &str| {
        let text = format!(
            "vars: {{ {vars} }}\n{CHECK}gates: [ {{ id: g, when: {{ var: on_premise }}, require: {{ ratio: check.success, where: {{ check: a }}, over: 1m, above: 99% }} }} ]"
        );
        compile(&text).unwrap().gates.remove(0)
    };
    assert!(matches!(gate("on_premise: true").when, Some(crate::gate::When::True(_))));
    assert!(matches!(gate("on_premise: false").when, Some(crate::gate::When::False(_))));
    assert!(matches!(gate("other: 1").when, Some(crate::gate::When::Unset(_))));
    assert_eq!(gate("other: 1").level, crate::gate::Level::Conditional);
}

#[test]
fn what_could_never_be_judged_is_a_mistake() {
    let refused = |require: &str, words: &str| {
        let text = format!("{CHECK}gates: [ {{ id: g, require: {require} }} ]");
        let error = compile(&text).map(|_| ()).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    };
    refused("{ p99: tcp.connect, where: { check: b }, over: 1m, below: 5ms }", "no check `b`");
    refused("{ p99: icmp.rtt, where: { check: a }, over: 1m, below: 5ms }", "does not measure");
    refused("{ p99: tcp.connect, over: 1m, below: 5 }", "no unit");
    refused("{ p99: tcp.connect, over: 1m }", "no threshold");
    refused("{ p99: tcp.connect, below: 5ms }", "no window");
    refused("{ p99: tcp.connect, max: tcp.connect, over: 1m, below: 5ms }", "two functions");
    refused(
        "{ p99: tcp.connect, over: 1m, below: 5ms, warn: 6ms }",
        "beyond the failing threshold",
    );
    refused("{ complete: j, over: 1m, above: 100% }", "no journey `j`");
    refused(
        "{ p99: tcp.connect, where: { device: sda }, over: 1m, below: 5ms }",
        "no label `device`",
    );
}

#[test]
fn a_criterion_holds_a_name_to_what_it_was_meant_for() {
    let journey = "journeys: [ { id: j, send: { syslog: { to: 'tcp://h:601' } }, stages: [ stored: { json_api: { url: 'http://h/', items: '.[]' } } ] } ]\n";
    let judged = |require: &str| {
        let text = format!("{CHECK}{journey}gates: [ {{ id: g, require: {require} }} ]");
        compile(&text).map(|plan| crate::gate::sentence(&plan.gates[0]))
    };
    for right in [
        "{ complete: j, sent_by: syslog_tcp, over: 1m, above: 100% }",
        "{ complete: j, sent_by: [ relp, syslog_tcp ], over: 1m, above: 100% }",
        "{ ratio: check.success, where: { check: a }, of_kind: tcp, over: 1m, above: 99% }",
        "{ all: [ { complete: j, over: 1m, above: 100% }, { distinct: [ j, k, '' ], needs: more } ] }",
    ] {
        judged(right).unwrap_or_else(|error| panic!("{right}:\n{error}"));
    }
    for (wrong, words) in [
        ("{ complete: j, sent_by: http, over: 1m, above: 100% }", "sends by syslog_tcp"),
        (
            "{ ratio: check.success, where: { check: a }, of_kind: refused, over: 1m, above: 99% }",
            "is of kind tcp",
        ),
        ("{ ratio: check.success, of_kind: tcp, over: 1m, above: 99% }", "about one check"),
        ("{ max: journey.vanished, where: { journey: j }, over: 1m, below: 0 }", "write `recheck`"),
        (
            "{ max: journey.exposed, where: { journey: j, stage: stored }, over: 1m, below: 0 }",
            "write `must_not_see` at stored",
        ),
        ("{ max: journey.clock_offset, where: { journey: j }, over: 1m, below: 1s }", "clock"),
        ("{ distinct: [ j, k ], needs: more }", "demands nothing by itself"),
    ] {
        let error = judged(wrong).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
    let twice = "{ all: [ { complete: j, over: 1m, above: 100% }, { distinct: [ j, j ], needs: two journeys } ] }";
    let sentence = judged(twice).unwrap();
    assert!(sentence.contains("two journeys; `j` is named twice"), "{sentence}");
}

#[test]
fn a_part_of_a_group_that_does_not_apply_is_left_out_and_one_that_nobody_knows_is_open() {
    let judged = |psi: Option<&str>, parts: &str| {
        let text = format!("gates: [ {{ id: g, require: {{ all: [ {parts} ] }} }} ]");
        let facts = psi.map(|psi| ("psi".to_owned(), psi.to_owned())).into_iter().collect();
        let facts = Facts { hostname: "node-1".into(), facts };
        let plan = Plan::compile(&inputs(&text), &facts).map_err(|e| e.render(false))?;
        Ok::<_, String>(crate::gate::sentence(&plan.gates[0]))
    };
    let twins = "{ when: { fact: psi }, mean: node.psi.cpu.some, over: 1m, below: 10% }, \
                 { when: { fact: psi, equals: 'false' }, all: [ { mean: node.cpu.wait, over: 1m, below: 1 } ] }";
    let with = judged(Some("true"), twins).unwrap();
    assert!(with.contains("node.psi.cpu.some") && !with.contains("node.cpu.wait"), "{with}");
    let without = judged(Some("false"), twins).unwrap();
    assert!(!without.contains("node.psi.cpu.some") && without.contains("node.cpu.wait"));
    let unknown = judged(None, twins).unwrap();
    assert!(unknown.contains("not measured yet: the fact `psi` of this node is not set"));
    let one = "{ when: { fact: psi }, mean: node.psi.cpu.some, over: 1m, below: 10% }";
    assert!(judged(Some("false"), one).unwrap().contains("no part of the group applies"));
    let wrong = "{ when: { fact: psi, is: 1 }, mean: node.psi.cpu.some, over: 1m, below: 10% }";
    assert!(judged(Some("true"), wrong).is_err());
    // A whole gate has its own `when`.
    let whole =
        "gates: [ { id: g, require: { when: { fact: psi }, last: node.fs.hung, below: 0 } } ]";
    assert!(compile(whole).is_err_and(|text| text.contains("when")));
    // A threshold that only the owner knows.
    let needs = "{ last: node.fs.hung, below: '', needs: set the variable x }";
    assert!(judged(None, needs).unwrap().contains("set the variable x"));
    assert!(judged(None, "{ last: node.fs.hung, below: '' }").is_err());
}

#[test]
fn the_packs_compile_and_partner_platform_has_all_its_lines() {
    for (name, _) in packs::BUILT_IN.iter().filter(|(name, _)| *name != "demo") {
        let plan = compile(&format!("include: [ 'pack:{name}' ]"));
        assert!(plan.is_ok(), "{name}: {}", plan.map(|_| String::new()).unwrap_or_else(|e| e));
    }
    let plan = compile("include: [ 'pack:partner-platform' ]").unwrap();
    let mut refs: Vec<&str> =
        plan.gates.iter().flat_map(|gate| &gate.refs).map(String::as_str).collect();
    refs.sort_unstable();
    let mut lines: Vec<String> = vec!["A0".into(), "A1".into()];
    for (group, count) in [("C", 9), ("S", 6), ("N", 5), ("R", 6), ("G", 4)] {
        lines.extend((1..=count).map(|n| format!("{group}{n}")));
    }
    lines.sort_unstable();
    assert_eq!(refs, lines);
}

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
