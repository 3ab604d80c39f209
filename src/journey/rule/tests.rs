use proptest::prelude::*;

use super::*;

const NOW: Wall = Wall(1_700_000_000_000_000_000);
const TERMS: Terms = Terms { arrival: secs(20), run: secs(30), at_most: secs(1_800) };

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// It runs every five minutes and looks back six.
fn rule() -> Rule {
    Rule {
        name: "brute force".into(),
        enabled: true,
        ran: Some(NOW.minus(secs(60))),
        every: Some(secs(300)),
        look_back: Some(secs(360)),
        ..Rule::default()
    }
}

/// What follows for a journey that has remembered its alerts for a year and had none.
fn follow(rule: &Rule) -> Followed {
    rule.follow(&TERMS, &Memory::default(), NOW)
}

#[test]
fn the_deadline_is_made_of_what_the_rule_says() {
    let of = |change: fn(&mut Rule)| {
        let mut rule = rule();
        change(&mut rule);
        let followed = follow(&rule);
        (followed.means, followed.within.as_secs(), followed.text)
    };
    let (means, within, text) = of(|_| {});
    assert_eq!((means, within), (Means::Due, 20 + 300 + 30));
    assert_eq!(
        text,
        "the rule \"brute force\" is due within 350s: 20s until the events are there, 5m until it \
         runs, 30s for the run; it looks back 6m"
    );
    for (change, expected) in [
        ((|r: &mut Rule| r.holds = secs(300)) as fn(&mut Rule), 650),
        // Seen by the first run, and still there at the second after the time is over.
        (|r| r.holds = secs(301), 950),
        (|r| r.delay = secs(60), 410),
        (|r| r.every = Some(Duration::ZERO), 50),
        (|r| (r.every, r.holds) = (Some(Duration::ZERO), secs(7)), 57),
        (|r| r.every = Some(secs(1_750)), 1_800),
    ] {
        let (means, within, text) = of(change);
        assert_eq!((means, within), (Means::Due, expected), "{text}");
    }
    let (.., text) = of(|r| r.schedule = Some("*/5 * * * *".into()));
    assert!(text.contains("5m until it runs (*/5 * * * *)"), "{text}");
    let (.., text) = of(|r| r.ran = Some(NOW.minus(secs(901))));
    assert!(text.ends_with("; it ran last at 2023-11-14T21:58:19.000Z"), "{text}");
    let (means, _, text) = of(|r| r.failing = Some("no index".into()));
    assert_eq!(means, Means::Due);
    assert!(text.ends_with("; its last run failed: no index"), "{text}");
    // Arithmetic has an end.
    let (means, within, _) = of(|r| (r.every, r.holds) = (Some(secs(1)), Duration::MAX));
    assert_eq!((means, within), (Means::Unsure, 1_800));
}

#[test]
fn a_rule_that_is_off_held_or_too_slow_is_told_as_such() {
    let of = |change: &dyn Fn(&mut Rule)| {
        let mut rule = rule();
        change(&mut rule);
        let followed = follow(&rule);
        (followed.means, followed.text)
    };
    let held = |until: Option<u64>, whole| {
        let until = until.map(|after| NOW.plus(secs(after)));
        move |r: &mut Rule| r.held = Some(Held { why: "it is silenced".into(), until, whole })
    };
    for (what, (means, text), expected, words) in [
        ("off", of(&|r| r.enabled = false), Means::Off, "is disabled"),
        (
            "off, and silent of the rest",
            of(&|r| (r.enabled, r.every) = (false, None)),
            Means::Off,
            "is disabled",
        ),
        (
            "off goes before held",
            of(&|r| {
                held(None, true)(r);
                r.enabled = false;
            }),
            Means::Off,
            "is disabled",
        ),
        ("when is not said", of(&|r| r.every = None), Means::Untold, "how often it runs"),
        ("held for ever", of(&held(None, true)), Means::Held, "raises no alert: it is silenced"),
        ("held until then", of(&held(Some(350), true)), Means::Held, "raises no alert"),
        ("held not so long", of(&held(Some(349), true)), Means::Unsure, "can't be told"),
        ("held no longer", of(&held(Some(0), true)), Means::Due, "due within"),
        ("one value held", of(&held(None, false)), Means::Unsure, "can't be told: it is silenced"),
        (
            "too slow",
            of(&|r| r.every = Some(secs(3_600))),
            Means::Unsure,
            "due within 3650s: 20s until the events are there, 1h until it runs, 30s for the run; a \
             round waits 30m at most",
        ),
    ] {
        assert_eq!(means, expected, "{what}: {text}");
        assert!(text.contains(words), "{what}: {text}");
    }
    let untold = Followed::untold(secs(9), "denied");
    assert_eq!((untold.means, untold.within), (Means::Untold, secs(9)));
    assert_eq!(untold.text, "when an alert is due can't be told: denied");
}

#[test]
fn a_throttle_holds_after_an_alert_of_ours_and_after_what_is_not_remembered() {
    let throttled = |by: &[&str]| {
        let by = by.iter().map(|field| (*field).to_owned()).collect();
        Rule { throttle: Some(Throttle { lasts: secs(3_600), by }), ..rule() }
    };
    let of = |rule: &Rule, alerted: Option<u64>, since: u64| {
        let ago = |seconds| NOW.minus(secs(seconds));
        let memory = Memory { alerted: alerted.map(ago), since: ago(since) };
        let followed = rule.follow(&TERMS, &memory, NOW);
        (followed.means, followed.text)
    };
    let day = 86_400;
    for (by, alerted, since, expected, words) in [
        (&[][..], None, day, Means::Due, "due within"),
        (&[], Some(3_600), day, Means::Due, "due within"),
        (&[], Some(60), day, Means::Held, "its throttle of 1h holds until 2023-11-14T23:12:20"),
        // It ends before the alert is due: that may come before or after.
        (&[], Some(3_400), day, Means::Unsure, "its throttle of 1h holds until"),
        (&["user"], Some(60), day, Means::Unsure, "its throttle of 1h by user holds until"),
        // What this journey brought about before its agent began is not known.
        (&[], None, 3_599, Means::Unsure, "an alert of before may hold its throttle of 1h"),
        (&[], None, 3_600, Means::Due, "due within"),
    ] {
        let (means, text) = of(&throttled(by), alerted, since);
        assert_eq!(means, expected, "{by:?} {alerted:?} {since}: {text}");
        assert!(text.contains(words), "{text}");
    }
    // An engine that tells what holds a rule is believed.
    let free = Rule { tells_held: true, ..throttled(&[]) };
    assert_eq!(of(&free, Some(60), 0).0, Means::Due);
}

#[test]
fn what_follows_for_a_twin_and_for_who_is_told() {
    for (means, twin, told) in [
        (Means::Due, Means::Due, Means::Due),
        // The silence of a rule that is off says nothing of a twin.
        (Means::Off, Means::Unsure, Means::Due),
        (Means::Unsure, Means::Unsure, Means::Unsure),
        (Means::Held, Means::Unsure, Means::Held),
        (Means::Untold, Means::Unsure, Means::Untold),
    ] {
        let followed = Followed { within: secs(10), means, text: String::new() };
        assert_eq!(followed.clone().for_twin().means, twin);
        let later = followed.told_of(secs(60));
        assert_eq!((later.means, later.within), (told, secs(70)));
    }
}

#[test]
fn copies_at_the_edges_are_as_old_as_every_run_and_as_no_run_sees() {
    // Sent over 4 s, there within 20 s, seen by a run that begins 300 s later and takes 30 s: 354 s.
    let edges = rule().edges(&TERMS, secs(4)).unwrap();
    assert_eq!((edges.inside, edges.outside), (secs(6), secs(360 + 30 + 4)));
    let refused = |change: fn(&mut Rule), words: &str| {
        let mut rule = rule();
        change(&mut rule);
        let why = rule.edges(&TERMS, secs(4)).unwrap_err();
        assert!(why.contains(words), "{why}");
    };
    refused(|r| r.look_back = None, "does not say how far it looks back");
    refused(|r| r.every = None, "does not say how often");
    refused(
        |r| r.look_back = Some(secs(354)),
        "looks back 354s, and sees an event as late as 354s",
    );
    refused(|r| r.delay = secs(6), "nothing older is sure to be seen");
    refused(
        |r| r.throttle = Some(Throttle { lasts: secs(60), by: Vec::new() }),
        "after one alert it would raise no other",
    );
}

proptest! {
    /// No run that may be the first to see the events is without those inside, nor with any outside.
    #[test]
    fn property_edges(
        every in 1_u64..1_000, back in 1_u64..5_000, length in 0_u64..100, arrival in 0_u64..100,
        at in 0.0..1.0_f64, there in 0.0..1.0_f64,
    ) {
        let rule = Rule { every: Some(secs(every)), look_back: Some(secs(back)), ..rule() };
        let terms = Terms { arrival: secs(arrival), ..TERMS };
        let Ok(edges) = rule.edges(&terms, secs(length)) else {
            prop_assert!(back <= every + length + arrival + 30);
            return Ok(());
        };
        // All times after the first event is sent: the last one is there, and a run begins.
        let last_there = length as f64 + there * arrival as f64;
        let run = last_there + at * every as f64;
        let inside = edges.inside.as_secs_f64();
        prop_assert!(-inside >= run - back as f64 - 1e-6, "the first is too old for the run");
        // Any run from the first send on, with the youngest of those outside.
        let youngest = length as f64 - edges.outside.as_secs_f64();
        prop_assert!(youngest < -(back as f64), "the last is young enough for a run");
    }

    #[test]
    fn property_within(text in "rule[ +]{0,4}[0-9a-z]{0,4}|[0-9smh]{1,6}|\\PC{0,12}") {
        if let Ok(within) = text.parse::<Within>() {
            prop_assert_eq!(within.to_string().parse(), Ok(within));
        }
    }

    #[test]
    fn property_cron(text in "[0-9*/,a-zA-Z -]{0,24}|([0-9*/,-]{1,6} ){4}[0-9*/,-]{1,6}") {
        if let Ok(cron) = Cron::parse(&text) {
            let gap = cron.longest_gap(NOW);
            prop_assert!(gap >= secs(60) && gap <= secs(800 * 86_400), "{}: {:?}", text, gap);
        }
    }
}

#[test]
fn within_is_a_time_or_a_rules() {
    for (text, expected) in [
        ("3m", Ok(Within::Period(Period(secs(180))))),
        ("rule", Ok(Within::Rule(None))),
        ("rule + 30s", Ok(Within::Rule(Some(Period(secs(30)))))),
        ("rule+1m", Ok(Within::Rule(Some(Period(secs(60)))))),
    ] {
        assert_eq!(text.parse::<Within>(), expected, "{text}");
    }
    for wrong in ["", "rules", "rule +", "rule - 3s", "rule + 3", "soon"] {
        assert!(wrong.parse::<Within>().is_err(), "{wrong}");
    }
}

#[test]
fn the_longest_gap_of_a_schedule() {
    // 2023-11-14 is a Tuesday.
    let [minute, hour, day] = [60, 3_600, 86_400];
    for (text, expected) in [
        ("* * * * *", minute),
        ("*/5 * * * *", 5 * minute),
        ("2-59/10 * * * *", 10 * minute),
        ("*/25 * * * *", 25 * minute),
        ("0,30 * * * *", 30 * minute),
        ("7 * * * *", hour),
        ("0 */6 * * *", 6 * hour),
        ("0 9-17 * * *", 16 * hour),
        ("0 9-17 * * mon-fri", 64 * hour),
        ("0 9-17 * * 1-5", 64 * hour),
        ("30 2 * * *", day),
        ("0 0 * * 0", 7 * day),
        ("0 0 * * 7", 7 * day),
        ("0 0 * JAN-DEC SUN", 7 * day),
        ("0 0 1 * *", 31 * day),
        // Either is enough.
        ("0 0 1,15 * 3", 7 * day),
        ("0 0 1 1 *", 366 * day),
        ("0 0 31 2 *", 800 * day),
        ("5/20 * * * *", 20 * minute),
    ] {
        let gap = Cron::parse(text).unwrap().longest_gap(NOW);
        assert_eq!(gap, secs(expected), "{text}");
    }
    for wrong in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "a * * * *",
        "1,, * * * *",
        "@daily",
        "-5 * * * *",
    ] {
        assert!(Cron::parse(wrong).is_err(), "{wrong}");
    }
}
