use super::*;
use crate::journey::event::{EventSpec, Events, WayIn, run_from};
use crate::spec::{Diagnostics, Sources, decode, yaml};
use crate::time::Wall;

/// The use case, and what is told of it.
fn read(text: &str) -> (Option<UseCase>, String) {
    let mut sources = Sources::default();
    let source = sources.add("case.yaml", text);
    let mut diagnostics = Diagnostics::default();
    let case = yaml::parse(source, text, &mut diagnostics).and_then(|node| {
        let case = decode::<UseCase>(&node, &mut diagnostics)?;
        case.check(&node, &mut diagnostics);
        Some(case)
    });
    (case, diagnostics.render(&sources, false))
}

#[test]
fn steps_are_due_one_after_the_other() {
    for (steps, expected) in [
        ("[ { message: a } ]", vec![0]),
        ("[ { message: a, times: 3 } ]", vec![0, 0, 0]),
        ("[ { message: a, times: 3, every: 200ms } ]", vec![0, 200, 400]),
        ("[ { message: a, times: 2, every: 200ms }, { message: b } ]", vec![0, 200, 200]),
        (
            "[ { message: a, times: 2, every: 200ms }, { message: b, after: 1s, times: 2 }, { message: c, after: 1ms } ]",
            vec![0, 200, 1200, 1200, 1201],
        ),
        ("[ { message: a, after: 5s }, { message: b, every: 9s } ]", vec![5000, 5000]),
    ] {
        let (case, told) = read(&format!("title: t\nalert: {{ name: n }}\nevents: {steps}"));
        let case = case.expect("a use case");
        assert!(told.is_empty(), "{told}");
        let due: Vec<u128> = due(&case.events).flatten().map(|due| due.as_millis()).collect();
        assert_eq!(due, expected, "{steps}");
        assert_eq!(length(&case.events).as_millis(), *expected.last().unwrap(), "{steps}");
    }
}

#[test]
fn each_event_is_of_its_step_and_of_its_time() {
    let (case, _) = read(
        "title: t\nalert: { name: n }\nhost: web-1\napp: sshd\nevents:\n\
         - { times: 2, every: 1s, message: 'failed {seq}', fields: { outcome: failure } }\n\
         - { after: 3s, message: 'accepted {token}', app: sudo, host: db-1, fields: { outcome: success } }\n",
    );
    let case = case.expect("a use case");
    let spec = EventSpec::default();
    let events = Events::of_steps(&case, &case.events, &spec, WayIn::default()).unwrap();
    assert_eq!((events.count(), events.length()), (3, Duration::from_secs(4)));
    let run = run_from([7; 8]);
    let all: Vec<_> =
        (1..=3).map(|seq| events.render(&run, "j", seq, Wall::from_secs(100))).collect();
    let times: Vec<Wall> = all.iter().map(|event| event.time).collect();
    assert_eq!(times, [100, 101, 104].map(Wall::from_secs));
    let said = |field: &str| all.iter().map(|e| e.fields[field].clone()).collect::<Vec<_>>();
    assert_eq!(said("outcome"), ["failure", "failure", "success"]);
    assert_eq!(said("host.name"), ["web-1", "web-1", "db-1"]);
    assert_eq!(said("service.name"), ["sshd", "sshd", "sudo"]);
    for (event, text) in all.iter().zip(["failed 1", "failed 2", "accepted"]) {
        assert_eq!(event.message, format!("{text} {}", event.token));
        let payload = String::from_utf8(event.payload.to_vec()).unwrap();
        let host = event.fields["host.name"].as_str().unwrap();
        assert!(payload.contains(&event.message) && payload.contains(host), "{payload}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let (_, told) = read(
        "title: ' '\n\
         attack: [ T1110, T1110.1, t1110 ]\n\
         alert: { name: n, exactly: 0 }\n\
         events:\n\
         - { message: a, times: 0 }\n\
         benign:\n\
         - { message: a, after: 40m }\n\
         - { message: a, after: 40m }\n",
    );
    for words in [
        "case.yaml:1:",
        "the title is empty",
        "`T1110.1` is no technique",
        "`t1110` is no technique",
        "case.yaml:2:",
        "are its twin's",
        "`a` is sent 0 times",
        "case.yaml:5:",
        "the steps take 80m, longer than 1h",
    ] {
        assert!(told.contains(words), "`{words}` is not in:\n{told}");
    }
    assert!(!told.contains("`T1110` is"), "{told}");
    for (text, words) in [
        ("title: t", "without `events` and without `benign`"),
        ("title: t\nevents: [ { message: a } ]", "what must come of the events is not said"),
        ("title: t\nalert: { name: '' }\nevents: [ { message: a } ]", "the alert has no name"),
        ("title: t\nbenign: [ { mesage: a } ]", "did you mean `message`"),
        (
            "title: t\nalert: { name: n, severity: bad }\nevents: [ { message: a, times: 10001 } ]",
            "high",
        ),
        ("title: t\nbenign: [ { message: a, times: 10001 } ]", "have 10001 events"),
    ] {
        let (_, told) = read(text);
        assert!(told.contains(words), "`{words}` is not in:\n{told}");
    }
    assert_eq!(read("title: t\nbenign: [ { message: a } ]").1, "", "a twin alone");
}
