//! `load` against a platform of the test's own: what it takes, refuses and drops is known exactly.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PLAN;
use super::platform::{Fate, Platform, adds_up, count, fate};
use crate::command::{Daemon, folder_with};

#[tokio::test(flavor = "multi_thread")]
async fn load_counts_exactly_what_a_platform_drops_and_holds_where_nothing_is() {
    let whole = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let leaky =
        Platform::start(|n| if n % 40 == 0 { Fate::Dropped } else { Fate::Stored }, Duration::ZERO)
            .await;
    let (held, lossy) = tokio::join!(
        whole.load(&["--rate", "50", "--for", "4s"]).ended(),
        leaky.load(&["--rate", "50", "--for", "4s"]).ended(),
    );
    let (code, report, said) = held;
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("held")), "{report:#}");
    assert_eq!((count(&report, "accepted"), whole.stored()), (200, 200), "{report:#}");
    assert_eq!(fate(&report, "stored", "ok"), 200, "{report:#}");
    assert!(said.contains("sends 200 events of about "), "{said}");
    assert!(said.contains(" of 50/s "), "{said}");
    let achieved = report["achieved_rate"].as_f64().expect("a rate");
    assert!(achieved > 10.0 && achieved < 51.0, "{report:#}");
    let bytes = count(&report, "bytes") as f64;
    let gb = report["achieved_gb_per_day"].as_f64().expect("a number");
    assert!((gb - bytes / 200.0 * achieved * 86_400.0 / 1e9).abs() < 1e-6, "{report:#}");
    adds_up(&report);

    let (code, report, _) = lossy;
    assert_eq!((code, report["verdict"].as_str()), (Some(1), Some("not_held")), "{report:#}");
    assert_eq!(count(&report, "accepted"), 200, "{report:#}");
    assert_eq!((fate(&report, "stored", "lost"), leaky.stored()), (5, 195), "{report:#}");
    assert!(report["why"].to_string().contains("stored: 5 of 200 are lost"), "{report:#}");
    adds_up(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_beyond_a_platforms_capacity_is_not_held_and_its_rate_is_found() {
    // Fifty a second, whoever asks.
    let slow = Platform::start(|_| Fate::Stored, Duration::from_millis(20)).await;
    let (code, report, _) = slow.load(&["--rate", "200", "--for", "5s"]).ended().await;
    // On a machine that is too busy to send in time, it may have been this one that was slow.
    let limited = report["why"].to_string().contains("generator_limited");
    match report["verdict"].as_str() {
        Some("unclear") if limited => assert_eq!(code, Some(2), "{report:#}"),
        verdict => assert_eq!((code, verdict), (Some(1), Some("not_held")), "{report:#}"),
    }
    assert!(report["proven_rate"].is_null(), "{report:#}");
    let achieved = report["achieved_rate"].as_f64().expect("a rate");
    assert!(achieved <= 55.0, "{achieved}: {report:#}");
    let (accepted, unknown) = (count(&report, "accepted"), count(&report, "unknown"));
    assert!(accepted <= slow.stored() && slow.stored() <= accepted + unknown, "{report:#}");
    adds_up(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_ends_early_to_spare_the_platform_at_its_budget_and_when_interrupted() {
    let refusing =
        Platform::start(|n| if n > 100 { Fate::Refused } else { Fate::Stored }, Duration::ZERO)
            .await;
    let frugal = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let stopped = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let long = ["--rate", "50", "--for", "600s"];
    let aborted = refusing.load(&long);
    let spent = frugal.load(&["--rate", "50", "--for", "600s", "--budget", "20kB"]);
    let interrupted = stopped.load(&long);
    let deadline = Instant::now() + Duration::from_secs(60);
    while stopped.stored() < 20 {
        assert!(Instant::now() < deadline, "nothing was sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = Pid::from_raw(i32::try_from(interrupted.child.id()).expect("a pid"));
    kill(pid, Signal::SIGINT).expect("it is there");
    let (aborted, spent, interrupted) =
        tokio::join!(aborted.ended(), spent.ended(), interrupted.ended());

    let (code, report, _) = aborted;
    assert_eq!((code, report["ended"].as_str()), (Some(1), Some("aborted")), "{report:#}");
    assert!(report["why"].to_string().contains("were not taken"), "{report:#}");
    assert_eq!((count(&report, "accepted"), refusing.stored()), (100, 100), "{report:#}");
    assert!(count(&report, "refused") < 1_000, "it went on: {report:#}");
    assert_eq!(fate(&report, "stored", "ok"), 100, "{report:#}");
    adds_up(&report);

    let (code, report, _) = spent;
    assert_eq!((code, report["ended"].as_str()), (Some(2), Some("budget")), "{report:#}");
    let bytes = count(&report, "bytes");
    assert!(bytes > 19_000 && bytes <= 20_000, "{report:#}");
    assert_eq!(fate(&report, "stored", "ok"), frugal.stored(), "{report:#}");
    adds_up(&report);

    let (code, report, _) = interrupted;
    assert_eq!((code, report["ended"].as_str()), (Some(2), Some("interrupted")), "{report:#}");
    assert_eq!(count(&report, "accepted"), stopped.stored(), "{report:#}");
    assert_eq!(fate(&report, "stored", "ok"), stopped.stored(), "{report:#}");
    adds_up(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_tells_an_agent_when_it_was_on_and_a_gate_is_judged_from_it() {
    let platform = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let (folder, plan) = folder_with(PLAN);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    assert_eq!(daemon.json("/api/v1/load").as_array().map(Vec::len), Some(0));
    let url = format!("http://{}", daemon.address);
    // Where everything is refused there is no load, under which a node could hold.
    let closed = Platform::start(|_| Fate::Refused, Duration::ZERO).await;
    let refused = closed.load(&["--rate", "20", "--for", "1s", "--agent", &url]);
    let (code, report, said) = refused.ended().await;
    assert_eq!(code, Some(1), "{report:#}{said}");
    let told = report["load_window"].as_str().expect("why it is none");
    assert!(told.starts_with("nothing was taken"), "{told}");
    assert_eq!(daemon.json("/api/v1/load").as_array().map(Vec::len), Some(0));

    let sent = platform.load(&["--rate", "20", "--for", "6s", "--agent", &url]);
    let (code, report, said) = sent.ended().await;
    assert_eq!(code, Some(0), "{report:#}{said}");
    assert_eq!(report["load_window"], "declared");
    let rows = daemon.json("/api/v1/load");
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows:#}");
    assert_eq!(rows[0]["source"], "load web");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ledger = daemon.json("/api/v1/ledger");
        let gate = &ledger["gates"][0];
        if gate["verdict"] == "pass" {
            assert!(gate["samples"].as_u64().is_some_and(|n| (2..=10).contains(&n)), "{gate:#}");
            break;
        }
        assert!(Instant::now() < deadline, "{gate:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let _ = daemon.end(Signal::SIGTERM);

    // Nobody hears it: nothing is sent.
    let before = platform.stored();
    let deaf = platform.load(&["--rate", "20", "--for", "6s", "--agent", &url]);
    let output = tokio::task::spawn_blocking(|| deaf.child.wait_with_output())
        .await
        .expect("it is waited for")
        .expect("it ends");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the agent can't be told of the load"), "{said}");
    assert_eq!(platform.stored(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_refuses_what_it_can_not_send() {
    let platform = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    for (arguments, part) in [
        (&["--rate", "0", "--for", "1s"][..], "--rate"),
        (&["--rate", "5", "--for", "soon"], "--for"),
        (&["--rate", "5", "--for", "0s"], "longer than 0s"),
        (&["--rate", "5", "--for", "1s", "--budget", "much"], "--budget"),
        (&["--rate", "5", "--for", "1s", "--agent", "nowhere"], "--agent"),
        (&["--rate", "5"], "a soak needs --for"),
        (&["--shape", "ramp", "--for", "1s"], "a ramp needs --rate"),
        (&["--shape", "wave", "--rate", "5", "--for", "1s"], "smoke, ramp, soak or burst"),
        (&["--arrivals", "bursty", "--rate", "5", "--for", "1s"], "constant or poisson"),
        (&["--steps", "0", "--rate", "5", "--for", "1s"], "--steps"),
        (&["--peak", "0.5", "--rate", "5", "--for", "1s"], "--peak"),
    ] {
        let run = platform.load(arguments);
        let output = tokio::task::spawn_blocking(|| run.child.wait_with_output())
            .await
            .expect("it is waited for")
            .expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert_eq!(platform.stored(), 0);
}
