use serde_json::json;

use super::*;
use crate::agent::{Inputs, clock};
use crate::journey::rule::Means;
use crate::journey::{Arrival, Fate, Horizon, Look, Receipt};
use crate::plan::{Facts, Plan};

const AT_MOST: i64 = 1_800;

/// A use case with its twin, whose alert must be resolved; `within` is that of the alert.
fn plan(within: &str) -> Plan {
    let text = format!(
        "journeys:\n- id: j\n  every: 2h\n  send: {{ syslog: {{ to: 'tcp://h:514' }} }}\n  \
         events: {{ usecase: ssh-bruteforce }}\n  must_not_alert: true\n  stages:\n  \
         - stored: {{ file: {{ path: /var/log/x }}, within: 10s }}\n  \
         - alerted: {{ alertmanager: {{ url: 'http://a/' }}, {within}, give_up: 30m, resolved: 5m }}\n"
    );
    let inputs = Inputs { texts: vec![("plan.yaml".to_owned(), text)], ..Inputs::default() };
    Plan::compile(&inputs, &Facts::default()).unwrap_or_else(|why| panic!("{}", why.render(false)))
}

fn whole(arrivals: Vec<Arrival>) -> Look {
    Look { arrivals, horizon: Horizon::Complete }
}

/// A walk of one side whose events were all stored, with an alert that came and never ended.
fn alerted(plan: &Plan, side: Side) -> Walk {
    let journey = &plan.journeys[0];
    let mut walk = new_walk(journey, side, &Ruling::default(), Mono(0));
    let run: Run = crate::journey::event::run_from([7; 8]);
    let render = |seq| events(journey, side).render(&run, "j", seq, Wall(0));
    let last = Mono(0).plus(events(journey, side).length());
    walk.next(last);
    let arrival = |seq: Option<u64>, copy: &str, text| Arrival {
        seq,
        copy: copy.into(),
        seen: last,
        order: None,
        text,
        fields: None,
        ended: false,
        dead_letter: false,
        stamped: None,
        wrong: None,
    };
    let mut stored = Vec::new();
    for seq in FIRST_SEQ..FIRST_SEQ + walk.count() {
        walk.receipt(seq, Receipt::Accepted { at: last });
        stored.push(arrival(Some(seq), "c", Some(render(seq).message)));
    }
    walk.look(Stage::Stored, whole(stored), last, render);
    walk.look(Stage::Alerted, whole(vec![arrival(None, "a", None)]), last, render);
    walk
}

/// The end of what must not be there is not waited for: it has come, and that is all.
#[test]
fn an_alert_must_be_resolved_but_for_a_twins() {
    let plan = plan("within: 3m");
    let fate = |walk: &Walk| {
        let tally = walk.tally();
        let alerted = tally.stage(Stage::Alerted).unwrap();
        Fate::ALL.into_iter().find(|fate| alerted.count(*fate) > 0)
    };
    let (mut own, mut twin) = (alerted(&plan, Side::Own), alerted(&plan, Side::Twin));
    assert_eq!((fate(&own), fate(&twin)), (None, Some(Fate::Ok)), "its end is awaited, or is not");
    // Six minutes later both are looked at again, and the alert is there still.
    let later = Mono::from_secs(360);
    let journey = &plan.journeys[0];
    for (side, walk) in [(Side::Own, &mut own), (Side::Twin, &mut twin)] {
        let run: Run = crate::journey::event::run_from([7; 8]);
        let render = |seq| events(journey, side).render(&run, "j", seq, Wall(0));
        walk.look(Stage::Alerted, whole(Vec::new()), later, render);
        walk.tick(later);
    }
    assert_eq!((fate(&own), fate(&twin)), (Some(Fate::Misparsed), Some(Fate::Ok)));
    let (mut round, twin) = (own.tally(), twin.tally());
    crate::journey::twin::judge(&twin, &mut round);
    let alerted = round.stage(Stage::Alerted).unwrap();
    assert_eq!(alerted.false_alarms(), 1);
    assert_eq!(alerted.reason.as_deref(), Some("it came and was not resolved within 300s"));
}

#[test]
fn what_follows_from_a_rule_is_each_sides_own() {
    let plan = plan("within: rule + 5s, rule: { every: 1m }");
    let journey = &plan.journeys[0];
    let stage = journey.stage(Stage::Alerted).unwrap();
    let ruling = |means: &str, seconds: u64| -> Ruling {
        let within = json!({"secs": seconds, "nanos": 0});
        let followed = json!({"within": within, "means": means, "text": "so it says"});
        serde_json::from_value(json!({ "followed": followed, "edges": null })).unwrap()
    };
    for (means, side, expected) in [
        ("due", Side::Own, Means::Due),
        ("due", Side::Twin, Means::Due),
        ("off", Side::Own, Means::Off),
        ("off", Side::Twin, Means::Unsure),
        ("held", Side::Own, Means::Held),
        ("held", Side::Outside, Means::Unsure),
        ("untold", Side::Inside, Means::Untold),
    ] {
        let spec = stage_spec(stage, side, &ruling(means, 75));
        assert_eq!(spec.rule.map(|rule| rule.means), Some(expected), "{means} {side:?}");
        assert_eq!((spec.within.as_secs(), spec.give_up.as_secs()), (75, 225), "{means} {side:?}");
    }
    // It never waits longer than the plan says.
    let spec = stage_spec(stage, Side::Own, &ruling("due", 1_700));
    assert_eq!(i64::try_from(spec.give_up.as_secs()), Ok(AT_MOST));
    // Where no deadline follows from a rule, the plan's stands.
    let stored = stage_spec(journey.stage(Stage::Stored).unwrap(), Side::Own, &ruling("off", 75));
    assert_eq!((stored.rule, stored.within.as_secs()), (None, 10));
}

/// A store that is asked for a time only would never find what tells an old one.
#[test]
fn a_look_reaches_back_to_what_a_date_probe_tells() {
    let plan = |events: &str| {
        let text = format!(
            "journeys:\n- id: j\n  send: {{ http: {{ to: 'http://h/' }} }}\n  events: {{ {events} }}\n  \
             stages: [ stored: {{ loki: {{ url: 'http://h/', query: '{{a=\"b\"}}' }} }} ]\n"
        );
        let inputs = Inputs { texts: vec![("plan.yaml".to_owned(), text)], ..Inputs::default() };
        Plan::compile(&inputs, &Facts::default())
            .unwrap_or_else(|why| panic!("{}", why.render(false)))
    };
    let reaches = |plan: &Plan| {
        let (journey, began) = (&plan.journeys[0], clock::now());
        let stage = journey.stage(Stage::Stored).expect("it is declared");
        let run: Run = crate::journey::event::run_from([7; 8]);
        let sought = sought(journey, Side::Own, &run, stage, 1, began);
        let told = events(journey, Side::Own).render(&run, "j", 1, began.wall).time;
        let (clients, trace) = (crate::client::Clients::default(), Trace::off());
        let timeout = Duration::from_secs(1);
        let on =
            LookContext { sought: &sought, timeout, clients: &clients, trace: &trace, now: began };
        (on.reach(Duration::ZERO).0 <= told, told < began.wall)
    };
    assert_eq!(reaches(&plan("date_probe: true")), (true, true));
    assert_eq!(reaches(&plan("count: 1")), (true, false));
}

#[test]
fn what_is_not_found_is_looked_for_ever_further_away() {
    let seconds = |took| astray(Duration::from_secs(took)).as_secs();
    assert_eq!([0, 30, 180, 3_600, u64::MAX].map(seconds), [0, 600, 3_600, 3_900, 3_900]);
}
