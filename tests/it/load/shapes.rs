//! The shapes of a load, what ends one, and what it spares.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::platform::{Fate, Node, Platform, adds_up, count, fate};

fn codes(report: &Value) -> Vec<&str> {
    let why = report["why"].as_array().expect("an array");
    why.iter().map(|why| why["code"].as_str().expect("a code")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn load_ramps_to_the_knee_and_tells_headroom_against_what_was_agreed() {
    // Forty a second, whoever asks.
    let slow = Platform::start(|_| Fate::Stored, Duration::from_millis(25)).await;
    let quick = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let (knee, free) = tokio::join!(
        slow.load(&[
            "--shape", "ramp", "--rate", "100", "--for", "60s", "--steps", "5", "--agreed", "16",
        ])
        .ended(),
        quick.load(&["--shape", "ramp", "--rate", "90", "--for", "9s", "--steps", "3"]).ended(),
    );
    let (code, report, said) = knee;
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("held")), "{report:#}{said}");
    assert_ne!(report["ended"], "whole", "the steps after it were spared: {report:#}");
    let proven = report["proven_rate"].as_f64().expect("a rate");
    assert!(proven == 20.0 || proven == 40.0, "{report:#}");
    let headroom = report["headroom"]["rate"].as_f64().expect("a share");
    assert!((headroom - (proven / 16.0 - 1.0)).abs() < 1e-9, "{report:#}");
    let steps = report["steps"].as_array().expect("steps");
    assert!((2..=3).contains(&steps.len()), "{report:#}");
    assert_eq!(steps[0]["verdict"], "held");
    assert_ne!(steps.last().expect("steps")["verdict"], "held");
    adds_up(&report);

    let (code, report, _) = free;
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("held")), "{report:#}");
    assert_eq!(report["proven_rate"], 90.0);
    assert_eq!(count(&report, "accepted"), 90 + 180 + 270, "{report:#}");
    assert_eq!(quick.stored(), 540);
    adds_up(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_bursts_and_waits_until_that_has_drained() {
    // A hundred a second: two seconds of 200 and then 20 take about two more.
    let slow = Platform::start(|_| Fate::Stored, Duration::from_millis(10)).await;
    let stuck = Platform::start(|_| Fate::Stored, Duration::from_millis(50)).await;
    let burst = ["--shape", "burst", "--rate", "20", "--peak", "10", "--for", "2s", "--drain"];
    let arguments = |drain| [&burst[..], &[drain]].concat();
    let (drains, never) =
        tokio::join!(slow.load(&arguments("12s")).ended(), stuck.load(&arguments("1s")).ended());
    let (code, report, said) = drains;
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("held")), "{report:#}{said}");
    assert_eq!(count(&report, "accepted"), 400 + 240, "{report:#}");
    let drained = report["drained_seconds"].as_f64().expect("a time");
    assert!((1.0..12.0).contains(&drained), "{report:#}");
    assert_eq!(report["proven_rate"], 20.0);
    adds_up(&report);

    let (code, report, _) = never;
    assert_eq!((code, report["verdict"].as_str()), (Some(1), Some("not_held")), "{report:#}");
    assert!(codes(&report).contains(&"not_drained"), "{report:#}");
    adds_up(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_arrives_at_random_the_same_for_the_same_seed_and_a_smoke_needs_nothing_said() {
    let platform = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let poisson =
        ["--arrivals", "poisson", "--seed", "7", "--rate", "40", "--for", "3s", "--agreed", "30"];
    let (one, two, smoke) = tokio::join!(
        platform.load(&poisson).ended(),
        platform.load(&poisson).ended(),
        platform.load(&["--shape", "smoke"]).ended(),
    );
    let sent = count(&one.1, "accepted");
    // Within six standard deviations of 120, and not by chance the constant number twice.
    assert!((54..=186).contains(&sent), "{:#}", one.1);
    assert_eq!(count(&two.1, "accepted"), sent);
    assert_eq!((one.0, two.0), (Some(0), Some(0)), "{:#}", one.1);
    assert_eq!((one.1["seed"].as_u64(), one.1["arrivals"].as_str()), (Some(7), Some("poisson")));
    let (code, report, _) = smoke;
    assert_eq!((code, count(&report, "accepted")), (Some(0), 10), "{report:#}");
    let latency = &report["stages"].as_array().expect("stages")[1]["latency"];
    assert_eq!(latency["n"], 10, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_not_held_where_events_come_twice_unless_that_is_borne() {
    let twice = |n| if n % 50 == 0 { Fate::Twice } else { Fate::Stored };
    let strict = Platform::start(twice, Duration::ZERO).await;
    let lenient = Platform::start(twice, Duration::ZERO).await;
    // The last event, of which a copy comes when all had been seen.
    let late = |n| if n == 100 { Fate::Again } else { Fate::Stored };
    let late = Platform::start(late, Duration::ZERO).await;
    let (not_held, held, again) = tokio::join!(
        strict.load(&["--rate", "50", "--for", "4s", "--duplicates", "3"]).ended(),
        lenient.load(&["--rate", "50", "--for", "4s", "--duplicates", "4"]).ended(),
        late.load(&["--rate", "50", "--for", "2s"]).ended(),
    );
    let (code, report, _) = again;
    assert_eq!((code, codes(&report)), (Some(1), vec!["duplicate"]), "{report:#}");
    let (code, report, _) = not_held;
    assert_eq!((code, codes(&report)), (Some(1), vec!["duplicate"]), "{report:#}");
    assert_eq!(fate(&report, "stored", "ok"), 200, "{report:#}");
    let (code, report, _) = held;
    assert_eq!((code, codes(&report)), (Some(0), vec![]), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_pauses_when_it_is_asked_to_counts_on_and_gives_up_where_that_never_ends() {
    // Asked once to wait for two seconds; asked for an hour.
    let once = Platform::start(
        |n| if n == 41 { Fate::Throttled(Some(2)) } else { Fate::Stored },
        Duration::ZERO,
    )
    .await;
    let never = Platform::start(
        |n| if n > 40 { Fate::Throttled(Some(3_600)) } else { Fate::Stored },
        Duration::ZERO,
    )
    .await;
    let unsaid = Platform::start(
        |n| if n > 40 { Fate::Throttled(None) } else { Fate::Stored },
        Duration::ZERO,
    )
    .await;
    let (paused, given_up, doubled) = tokio::join!(
        once.load(&["--rate", "20", "--for", "8s"]).ended(),
        never.load(&["--rate", "20", "--for", "600s"]).ended(),
        unsaid.load(&["--rate", "20", "--for", "12s"]).ended(),
    );
    let (code, report, _) = paused;
    assert_eq!((code, report["ended"].as_str()), (Some(1), Some("whole")), "{report:#}");
    assert_eq!(report["pauses"], 1, "{report:#}");
    let (accepted, refused) = (count(&report, "accepted"), count(&report, "refused"));
    assert_eq!((accepted + refused, accepted), (160, once.stored()), "{report:#}");
    let held_back = count(&report, "held_back");
    assert_eq!(count(&report, "throttled"), refused, "{report:#}");
    assert!((20..60).contains(&held_back) && held_back < refused, "{report:#}");
    assert_eq!(once.posts() as u64, 160 - held_back, "what was due in the pause was never sent");
    assert!(codes(&report).contains(&"refused"), "{report:#}");
    adds_up(&report);

    let (code, report, _) = given_up;
    assert_eq!((code, report["ended"].as_str()), (Some(1), Some("aborted")), "{report:#}");
    assert!(report["why"].to_string().contains("it asked to wait"), "{report:#}");
    assert_eq!(count(&report, "accepted"), 40, "{report:#}");
    adds_up(&report);

    // Without a time, pauses double: far fewer posts than the 200 that were due.
    let (code, report, _) = doubled;
    assert_eq!((code, report["ended"].as_str()), (Some(1), Some("whole")), "{report:#}");
    assert!(report["pauses"].as_u64().is_some_and(|pauses| pauses >= 3), "{report:#}");
    assert!(unsaid.posts() < 150, "{} posts: {report:#}", unsaid.posts());
    assert_eq!(count(&report, "accepted"), 40, "{report:#}");
    adds_up(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_on_a_node_without_processors_to_spare_tells_nothing_of_the_platform() {
    let platform = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let (worn, busy) = (Node::stalled(90), Node::stalled(30));
    let began = Instant::now();
    let (ended, went_on) = tokio::join!(
        platform.load_on(&worn, &["--rate", "10", "--for", "600s"]).ended(),
        platform.load_on(&busy, &["--rate", "10", "--for", "5s"]).ended(),
    );
    let (code, report, said) = ended;
    assert!(began.elapsed() < Duration::from_secs(120), "it goes on: {said}");
    assert_eq!(
        (code, report["ended"].as_str(), report["verdict"].as_str()),
        (Some(2), Some("generator_limited"), Some("unclear")),
        "{report:#}"
    );
    assert_eq!(codes(&report), ["generator_limited"], "{report:#}");
    assert!(report["proven_rate"].is_null() && report["headroom"]["rate"].is_null());
    adds_up(&report);
    let (code, report, _) = went_on;
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("held")), "{report:#}");
}
