use super::load::Inputs;
use super::*;
use crate::journey::Stage;

mod usecases;

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

/// Such a gate is judged in one moment and open in the next.
#[test]
fn a_window_that_holds_no_attempt_at_times_is_warned_of() {
    let warnings = |require: &str| {
        let text = format!("{CHECK}gates:\n- {{ id: g, require: {{ {require} }} }}\n");
        compile(&text).expect(require).warnings
    };
    for wrong in [
        "p99: tcp.connect, over: 14s, below: 5ms",
        "ratio: check.success, over: 10s, above: 1, where: { check: a }",
        "absent: tcp.connect, over: 10s",
        "fresh: tcp.connect, below: 10s",
        "all: [ { max: tcp.connect, over: 1s, below: 1s } ]",
    ] {
        let text = warnings(wrong);
        for words in [
            "plan.yaml:3:",
            "warning: a window of",
            "the check `a` is due every 15s",
            "a window of 15s at least",
        ] {
            assert!(text.contains(words), "{wrong}: no {words:?} in:\n{text}");
        }
    }
    for right in [
        "p99: tcp.connect, over: 15s, below: 5ms",
        "fresh: tcp.connect, below: 15s",
        "last: tcp.connect, below: 5ms",
        "ratio: check.success, over: 10s, above: 1, pooled: true",
        // Each second of the node is a sample.
        "mean: node.cpu.busy, over: 2s, below: 90%",
    ] {
        assert_eq!(warnings(right), "", "{right}");
    }
}

#[test]
fn a_folder_that_is_included_is_told_to_be_one() {
    let text = compile("include: [ '.' ]\n").map(|_| ()).unwrap_err();
    for words in ["plan.yaml:1:", "it is a folder", "a file, each by its own name", "1 mistake"] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    assert!(!text.contains("no such file"), "{text}");
}

#[test]
fn what_is_included_may_be_named_by_variables_of_what_includes_it() {
    let included = |name: &str| {
        let text = "vars: { which: linux, pack: '${which}-node', late: null }\ninclude: [ '";
        compile(&format!("{text}{name}' ]\n"))
    };
    let plan = included("pack:${pack}").unwrap();
    assert!(plan.gates.iter().any(|gate| gate.id == "node.cpu.busy"));
    for (name, words) in [
        ("pack:${wich}-node", "the variable `wich` is not set"),
        ("${late}.yaml", "the variable `late` is not set"),
        ("${which}.yaml", "linux.yaml: there is no such file"),
    ] {
        let text = included(name).map(|_| ()).unwrap_err();
        assert!(text.contains(words) && text.contains("1 mistake"), "{name}:\n{text}");
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
fn an_id_is_of_a_check_or_of_a_journey() {
    let text = compile(
        "checks: [ { id: a, tcp: {}, targets: [ 'h:1' ] } ]\n\
         journeys:\n\
         - id: a\n  send: { http: { to: 'http://h/' } }\n  \
           stages: [ stored: { json_api: { url: 'http://h/', items: '.[]' } } ]\n",
    );
    let text = text.map(|_| ()).unwrap_err();
    assert!(text.contains(":3:7: `a` is a check already") && text.contains("1 mistake"), "{text}");
}

#[test]
fn one_target_is_a_list_too() {
    let text = compile("checks: [ { id: a, tcp: {}, targets: 'h:1' } ]").map(|_| ()).unwrap_err();
    assert!(
        text.contains("`targets` is no list") && text.contains("a list of targets, or"),
        "{text}"
    );
}

#[test]
fn the_digest_is_of_what_is_done_and_not_of_who_does_it() {
    let digest = |text: &str| compile(text).unwrap().digest;
    let base = digest(CHECK);
    assert_eq!(base, digest(&format!("node: {{ name: other, labels: {{ zone: b }} }}\n{CHECK}")));
    assert_ne!(base, digest(&CHECK.replace("15s", "16s")));
    assert_ne!(digest("vars: { a: 1 }"), digest("vars: { a: 2 }"));
    // As `--var a=1` has it.
    assert_eq!(digest("vars: { a: 1 }"), digest("vars: { a: '1' }"));
    assert_eq!(digest("vars: { a: null }"), digest(""));
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
            "vars: {{ {vars} }}\njourneys:\n{}{}gates:\n- id: g\n  require: {{ complete: {ids}, stage: parsed, over: 5m, above: 100%, needs: a journey }}\n",
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
        "{ complete: j, sent_by: syslog_tcp, over: 5m, above: 100% }",
        "{ complete: j, sent_by: [ relp, syslog_tcp ], over: 5m, above: 100% }",
        "{ ratio: check.success, where: { check: a }, of_kind: tcp, over: 5m, above: 99% }",
        "{ all: [ { complete: j, over: 5m, above: 100% }, { distinct: [ j, k, '' ], needs: more } ] }",
    ] {
        judged(right).unwrap_or_else(|error| panic!("{right}:\n{error}"));
    }
    for (wrong, words) in [
        ("{ complete: j, sent_by: http, over: 5m, above: 100% }", "sends by syslog_tcp"),
        (
            "{ ratio: check.success, where: { check: a }, of_kind: refused, over: 5m, above: 99% }",
            "is of kind tcp",
        ),
        ("{ ratio: check.success, of_kind: tcp, over: 5m, above: 99% }", "about one check"),
        ("{ max: journey.vanished, where: { journey: j }, over: 5m, below: 0 }", "write `recheck`"),
        (
            "{ max: journey.exposed, where: { journey: j, stage: stored }, over: 5m, below: 0 }",
            "write `must_not_see` at stored",
        ),
        ("{ max: journey.clock_offset, where: { journey: j }, over: 5m, below: 1s }", "clock"),
        ("{ distinct: [ j, k ], needs: more }", "demands nothing by itself"),
    ] {
        let error = judged(wrong).unwrap_err();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
    let twice = "{ all: [ { complete: j, over: 5m, above: 100% }, { distinct: [ j, j ], needs: two journeys } ] }";
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
    let twins = "{ when: { fact: psi }, mean: node.psi.cpu.some, over: 5m, below: 10% }, \
                 { when: { fact: psi, equals: 'false' }, all: [ { mean: node.cpu.wait, over: 5m, below: 1 } ] }";
    let with = judged(Some("true"), twins).unwrap();
    assert!(with.contains("node.psi.cpu.some") && !with.contains("node.cpu.wait"), "{with}");
    let without = judged(Some("false"), twins).unwrap();
    assert!(!without.contains("node.psi.cpu.some") && without.contains("node.cpu.wait"));
    let unknown = judged(None, twins).unwrap();
    assert!(unknown.contains("not measured yet: the fact `psi` of this node is not known"));
    let one = "{ when: { fact: psi }, mean: node.psi.cpu.some, over: 5m, below: 10% }";
    assert!(judged(Some("false"), one).unwrap().contains("no part of the group applies"));
    let wrong = "{ when: { fact: psi, is: 1 }, mean: node.psi.cpu.some, over: 5m, below: 10% }";
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

#[test]
fn a_machine_in_several_groups_is_one_target() {
    let plan = compile(
        "peers: { static: [ { targets: ['a:1', 'b:1'], labels: { role: lake } }, { targets: ['a:1'], labels: { role: ingest } } ] }
checks: [ { id: c, tcp: {}, targets: { peers: { role: '*' } } } ]
",
    )
    .unwrap();
    let targets = plan.checks[0].resolve(&plan.peers);
    assert_eq!(targets.iter().map(|name| &**name).collect::<Vec<_>>(), ["a:1", "b:1"]);
}

#[test]
fn a_check_takes_the_window_one_interval_and_give_up_where_it_judges_a_journey() {
    let plan = compile(
        "journeys:
  - id: j
    every: 4s
    timeout: 30s
    send: { http: { to: 'http://127.0.0.1:1/' } }
    stages: [ { stored: { json_api: { url: 'http://127.0.0.1:1/', items: '.[]' }, within: 1s, give_up: 2s } } ]
gates:
  - { id: g, require: { loss: j, over: 12s, below: 0 } }
",
    )
    .unwrap();
    assert_eq!(plan.covering_time(), std::time::Duration::from_secs(12 + 4 + 2));
}
