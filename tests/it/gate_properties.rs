//! What judging must be on any evidence at all: no panic, finite numbers, never a pass from
//! missing evidence, and never a better verdict from worse samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenlight::catalogue::agent::CHECK_SUCCESS;
use greenlight::catalogue::probe::{ICMP_LOSS, ICMP_RTT};
use greenlight::gate::{
    self, Bound, Criterion, Evidence, Finding, Function, Gate, Level, Requirement, Selection,
    Standing, Subject, Verdict,
};
use greenlight::journey::{Fate, Stage};
use greenlight::series::{Cadence, JourneyRecord, RoundPoint, StageCount, TrackKey, Tracks, Value};
use greenlight::time::{Mono, Now, Wall};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What one track shows, in whole seconds.
#[derive(Clone, Debug)]
struct Seen {
    interval: u64,
    since: i64,
    attempts: Vec<(i64, Vec<Value>)>,
}

#[derive(Clone, Debug)]
struct Input {
    criterion: Criterion,
    max_inconclusive: f64,
    targets: Vec<Seen>,
    now: i64,
}

/// Half of the tracks are well, or nothing would ever pass.
fn value(well: bool) -> BoxedStrategy<Value> {
    let number = (0_u32..20).prop_map(|n| Value::Number(f64::from(n) / 10.0));
    if well {
        return prop_oneof![40 => number, 1 => Just(Value::Inconclusive)].boxed();
    }
    prop_oneof![
        8 => number,
        1 => any::<f64>().prop_map(Value::Number),
        2 => Just(Value::Failed),
        1 => Just(Value::Inconclusive),
        1 => Just(Value::Nothing),
    ]
    .boxed()
}

fn seen() -> impl Strategy<Value = Seen> {
    let track = any::<bool>().prop_flat_map(|well| {
        let gap = if well { 0..2_i64 } else { 0..6 };
        let step = prop_oneof![12 => Just(1_i64), 1 => gap];
        prop::collection::vec((step, prop::collection::vec(value(well), 1..4)), 0..40)
    });
    (1_u64..12, 0_i64..40, track).prop_map(|(interval, since, steps)| {
        let mut at = since;
        let attempts = steps
            .into_iter()
            .map(|(step, values)| {
                at += step * interval as i64;
                (at, values)
            })
            .collect();
        Seen { interval, since, attempts }
    })
}

fn function() -> impl Strategy<Value = Function> {
    prop_oneof![
        Just(Function::Mean),
        Just(Function::Min),
        Just(Function::Max),
        (0.0..=1.0).prop_map(Function::Quantile),
        Just(Function::Ratio),
        Just(Function::Increase),
        Just(Function::Last),
        Just(Function::Absent),
        Just(Function::Fresh),
    ]
}

fn bounds() -> impl Strategy<Value = (Option<Bound>, Option<Bound>, Option<Bound>)> {
    let limit = || (0_u32..20).prop_map(|n| f64::from(n) / 10.0);
    (any::<bool>(), limit(), prop::option::of(limit()), prop::option::of(limit())).prop_map(
        |(below, fail, warn, clears)| {
            let bound = |limit| if below { Bound::Below(limit) } else { Bound::Above(limit) };
            // On the strict side of the failing one, as the plan demands.
            let strict = |other: f64| bound(if below { fail.min(other) } else { fail.max(other) });
            (Some(bound(fail)), warn.map(strict), clears.map(strict))
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    let targets = prop::collection::vec(seen(), 0..3);
    let metric = prop_oneof![Just(&ICMP_RTT), Just(&ICMP_LOSS), Just(&CHECK_SUCCESS)];
    let stable = prop::option::weighted(0.2, 1_u64..100);
    let rest = (1_u64..100, 0_u64..8, stable, any::<bool>());
    let share = prop_oneof![Just(0.05), Just(0.0), Just(1.0), 0.0..1.0];
    (function(), bounds(), metric, rest, share, targets, -5_i64..15).prop_map(
        |(function, (fail, warn, clears), metric, rest, max_inconclusive, targets, after)| {
            // Mostly while the first target is still being tried.
            let first = targets.first().and_then(|seen: &Seen| seen.attempts.last());
            let now = (first.map_or(100, |(at, _)| *at) + after).max(0);
            let (over, at_least, stable, pooled) = rest;
            // An age and an absence have an upper bound only.
            let upper = matches!(function, Function::Fresh | Function::Absent);
            let turned = |bound: Option<Bound>| match bound {
                Some(Bound::Above(limit)) if upper => Some(Bound::Below(2.0 - limit)),
                bound => bound,
            };
            let (fail, warn, clears) = (turned(fail), turned(warn), turned(clears));
            let criterion = Criterion {
                function,
                subject: Subject::Series(Selection::all(metric)),
                over: Duration::from_secs(over),
                at_least,
                fail,
                warn,
                clears,
                stable_for: stable.map(Duration::from_secs),
                pooled,
                during: None,
            };
            Input { criterion, max_inconclusive, targets, now }
        },
    )
}

impl Input {
    fn gate(&self) -> Gate {
        Gate {
            id: "g".to_owned(),
            title: "g".to_owned(),
            level: Level::Mandatory,
            require: Requirement::Criterion(self.criterion.clone()),
            when: None,
            refs: Vec::new(),
            why: None,
            fix: None,
            waivable: true,
            max_inconclusive: self.max_inconclusive,
        }
    }

    fn judge(&self, standing: &Standing) -> (Finding, Standing) {
        let gate = self.gate();
        let Subject::Series(selection) = &self.criterion.subject else { unreachable!() };
        let mut tracks = Tracks::new(gate::demands([&gate]));
        for (number, seen) in self.targets.iter().enumerate() {
            let key = TrackKey {
                metric: selection.metric,
                check: Arc::from("c"),
                target: Arc::from(format!("t{number}")),
                labels: Vec::new(),
            };
            let cadence =
                Cadence::every(Duration::from_secs(seen.interval), Mono::from_secs(seen.since));
            tracks.open(&key, cadence);
            for (at, values) in &seen.attempts {
                for value in values {
                    let at = Mono::from_secs(*at);
                    tracks.push(&key, cadence, at, *value, at);
                }
            }
        }
        let evidence = Evidence { tracks: &tracks, journeys: &[], load: &[] };
        let now = Now { mono: Mono::from_secs(self.now), wall: Wall::from_secs(self.now) };
        gate::judge(&gate, &evidence, standing, now)
    }
}

fn tried(name: &str, cases: u32, property: impl Fn(Input) -> Result<bool, TestCaseError>) {
    let held = AtomicUsize::new(0);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&input(), |input| {
            held.fetch_add(usize::from(property(input)?), Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    let held = held.into_inner();
    eprintln!("property {name}: {cases} inputs, {held} of them to the point");
    assert!(held > 200, "too few inputs were to the point");
}

#[test]
fn judging_never_passes_without_evidence() {
    tried("judging_never_passes_without_evidence", 15_000, |input| {
        let (finding, _) = input.judge(&Standing::default());
        for number in [finding.value, finding.threshold, finding.margin, finding.covered_seconds] {
            prop_assert!(number.is_none_or(f64::is_finite), "{finding:?}");
        }
        let good = matches!(finding.verdict, Verdict::Pass | Verdict::Warn);
        prop_assert_eq!(finding.verdict == Verdict::Pass, finding.reason.is_none());
        if input.targets.is_empty() {
            prop_assert_eq!(finding.verdict, Verdict::Open);
        }
        if !good {
            return Ok(false);
        }
        prop_assert!(finding.value.is_some());
        prop_assert!(finding.samples >= input.criterion.at_least.max(1), "{finding:?}");
        // Each target by itself: attempts all through the window, by a rule written anew here.
        let windowless = matches!(input.criterion.function, Function::Last | Function::Fresh);
        for seen in input.targets.iter().filter(|_| !windowless) {
            let start = input.now - input.criterion.over.as_secs() as i64;
            let longest = 3 * seen.interval as i64;
            prop_assert!(seen.since <= start, "attempts were not due yet: {finding:?}");
            let mut last = seen.since;
            for at in seen.attempts.iter().map(|(at, _)| *at).filter(|at| *at <= input.now) {
                prop_assert!(
                    at <= start || at - last <= longest,
                    "a gap from {last} to {at}: {finding:?}"
                );
                last = at;
            }
            prop_assert!(input.now - last <= longest, "nothing after {last}: {finding:?}");
        }
        Ok(true)
    });
}

#[test]
fn too_little_evidence_is_open() {
    tried("too_little_evidence_is_open", 5_000, |mut input| {
        // More samples than there can be.
        input.criterion.at_least = 1_000;
        let (finding, _) = input.judge(&Standing::default());
        prop_assert!(!matches!(finding.verdict, Verdict::Pass | Verdict::Warn), "{finding:?}");
        // No window was ever seen whole.
        input.criterion.at_least = 1;
        for seen in &mut input.targets {
            seen.since = input.now - input.criterion.over.as_secs() as i64 + 1;
            seen.attempts.retain(|(at, _)| *at >= seen.since);
        }
        let (finding, _) = input.judge(&Standing::default());
        let windowless = matches!(input.criterion.function, Function::Last | Function::Fresh);
        prop_assert!(
            windowless || matches!(finding.verdict, Verdict::Open | Verdict::Fail),
            "{finding:?}"
        );
        Ok(finding.verdict == Verdict::Open)
    });
}

#[test]
fn worse_samples_never_make_a_better_verdict() {
    tried("worse_samples_never_make_a_better_verdict", 4_000, |input| {
        // One number of a counter that falls is a reset, not a worse counter.
        if input.criterion.function == Function::Increase || input.criterion.stable_for.is_some() {
            return Ok(false);
        }
        let (before, _) = input.judge(&Standing::default());
        let below = matches!(input.criterion.fail, Some(Bound::Below(_)));
        let fresh = input.criterion.function == Function::Fresh;
        let mut point = false;
        for target in 0..input.targets.len() {
            for attempt in 0..input.targets[target].attempts.len().min(12) {
                let mut worse = input.clone();
                let values = &mut worse.targets[target].attempts[attempt].1;
                let Value::Number(number) = values[0] else { continue };
                values[0] = match (attempt % 2 == 0, below) {
                    (true, _) => Value::Failed,
                    (false, true) => Value::Number(number + 0.7),
                    (false, false) => Value::Number(number - 0.7),
                };
                // An age knows no better or worse number, and whether a sample is absent neither.
                if fresh && attempt % 2 == 1 {
                    continue;
                }
                // Without any number in the window nobody knows what an attempt yields: one that is not
                // covered yet then waits, where before it was certain. What is older than a window
                // before the newest attempt is not kept.
                let attempts = &worse.targets[target].attempts;
                let newest = attempts.last().map_or(input.now, |(at, _)| input.now.max(*at));
                let kept = newest - input.criterion.over.as_secs() as i64..=input.now;
                let any = attempts.iter().any(|(at, values)| {
                    kept.contains(at) && values.iter().any(|v| matches!(v, Value::Number(_)))
                });
                if !any {
                    continue;
                }
                let (after, _) = worse.judge(&Standing::default());
                prop_assert!(
                    after.verdict >= before.verdict,
                    "target {target}, attempt {attempt}: {before:?} became {after:?}"
                );
                point = true;
            }
        }
        Ok(point)
    });
}

#[test]
fn a_standing_is_bounded_and_changes_only_what_remembers() {
    tried("a_standing_is_bounded_and_changes_only_what_remembers", 5_000, |input| {
        let (first, standing) = input.judge(&Standing::default());
        prop_assert!(standing.parts.len() <= input.targets.len().max(1));
        let (second, again) = input.judge(&standing);
        prop_assert!(again.parts.len() <= input.targets.len().max(1));
        if input.criterion.clears.is_none() && input.criterion.stable_for.is_none() {
            prop_assert_eq!(&first, &second);
            prop_assert!(standing.parts.is_empty());
        }
        // What fails goes on failing until it has cleared, and nothing fails for being stable.
        if input.criterion.stable_for.is_none() {
            prop_assert!(second.verdict >= first.verdict, "{first:?} {second:?}");
        }
        let stored: Standing =
            serde_json::from_str(&serde_json::to_string(&standing).unwrap()).unwrap();
        prop_assert_eq!(stored, standing);
        Ok(!again.parts.is_empty())
    });
}

#[test]
fn more_points_or_series_than_are_kept_are_open_and_never_a_pass() {
    let criterion = Criterion {
        function: Function::Max,
        subject: Subject::Series(Selection::all(&ICMP_RTT)),
        over: Duration::from_secs(100),
        at_least: 1,
        fail: Some(Bound::Below(1.0)),
        warn: None,
        clears: None,
        stable_for: None,
        pooled: false,
        during: None,
    };
    let gate = Input { criterion, max_inconclusive: 0.05, targets: Vec::new(), now: 0 }.gate();
    let cadence = Cadence::every(Duration::from_secs(1), Mono(0));
    let judge = |points: usize, targets: usize| {
        let mut tracks = Tracks::new(gate::demands([&gate])).limited(points, 3);
        for second in 0..=200 {
            for target in 0..targets {
                let key = TrackKey {
                    metric: &ICMP_RTT,
                    check: Arc::from("c"),
                    target: Arc::from(format!("t{target}")),
                    labels: Vec::new(),
                };
                let at = Mono::from_secs(second);
                tracks.push(&key, cadence, at, Value::Number(0.5), at);
            }
        }
        let evidence = Evidence { tracks: &tracks, journeys: &[], load: &[] };
        let now = Now { mono: Mono::from_secs(200), wall: Wall::from_secs(200) };
        let (finding, _) = gate::judge(&gate, &evidence, &Standing::default(), now);
        (finding.verdict, finding.reason.map(|why| why.code).unwrap_or_default())
    };
    assert_eq!(judge(1_000, 3), (Verdict::Pass, String::new()));
    assert_eq!(judge(200, 3), (Verdict::Open, "window_not_covered".to_owned()));
    assert_eq!(judge(1_000, 4), (Verdict::Open, "too_many_series".to_owned()));
}

fn round() -> impl Strategy<Value = (i64, Vec<u64>, u64, bool)> {
    let counts = prop::collection::vec(prop_oneof![3 => Just(0_u64), 1 => 0_u64..20], 11);
    (1_i64..40, counts, prop_oneof![5 => Just(0_u64), 1 => 0_u64..3], prop::bool::weighted(0.05))
}

#[test]
fn counts_of_journeys_are_judged_as_strictly() {
    let cases = 8_000;
    let point = AtomicUsize::new(0);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let functions =
        prop_oneof![Just(Function::Loss), Just(Function::Duplicates), Just(Function::Complete)];
    let input = (
        functions,
        0.0..1.0,
        prop::collection::vec(round(), 0..20),
        (1_u64..200, 0_u64..30, 0_i64..300, 0_u64..20),
    );
    runner
        .run(&input, |(function, limit, rounds, (over, at_least, now, give_up))| {
            let bound = match function {
                Function::Complete => Bound::Above(limit),
                Function::Duplicates => Bound::Below((limit * 3.0).floor()),
                _ => Bound::Below(limit),
            };
            let criterion = Criterion {
                function,
                subject: Subject::Journey { journey: "j".to_owned(), stage: None },
                over: Duration::from_secs(over),
                at_least,
                fail: Some(bound),
                warn: None,
                clears: None,
                stable_for: None,
                pooled: false,
                during: None,
            };
            let input = Input { criterion, max_inconclusive: 0.05, targets: Vec::new(), now };
            let gate = input.gate();
            let judge = |rounds: &[(i64, Vec<u64>, u64, bool)]| {
                let cadence = Cadence {
                    interval: Duration::from_secs(10),
                    since: Mono(0),
                    lag: Duration::from_secs(give_up),
                };
                let mut record = JourneyRecord::new(Arc::from("j"), vec![Stage::Sent], cadence);
                let mut at = 0;
                for (step, counts, duplicate, inconclusive) in rounds {
                    at += step;
                    let fates: Vec<(Fate, u64)> =
                        Fate::ALL.into_iter().zip(counts.iter().copied()).collect();
                    let expected = counts.iter().sum();
                    let count = StageCount { expected, fates, duplicate: *duplicate };
                    let stages =
                        if *inconclusive { Vec::new() } else { vec![(Stage::Sent, count)] };
                    record.push(RoundPoint {
                        at: Mono::from_secs(at),
                        stages,
                        inconclusive: *inconclusive,
                    });
                }
                let tracks = Tracks::default();
                let journeys = [record];
                let evidence = Evidence { tracks: &tracks, journeys: &journeys, load: &[] };
                let now = Now { mono: Mono::from_secs(now), wall: Wall::from_secs(now) };
                gate::judge(&gate, &evidence, &Standing::default(), now).0
            };
            let before = judge(&rounds);
            if before.verdict == Verdict::Pass {
                prop_assert!(before.samples >= at_least.max(1));
                prop_assert!(i64::try_from(over + give_up).unwrap() <= now, "{before:?}");
            }
            for place in 0..rounds.len() {
                // An `ok` becomes `lost`, and a copy appears.
                let mut worse = rounds.clone();
                if worse[place].1[0] == 0 || worse[place].3 {
                    continue;
                }
                worse[place].1[0] -= 1;
                worse[place].1[3] += 1;
                worse[place].2 += 1;
                let after = judge(&worse);
                prop_assert!(after.verdict >= before.verdict, "{before:?} became {after:?}");
                point.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
        .unwrap();
    let point = point.into_inner();
    eprintln!(
        "property counts_of_journeys_are_judged_as_strictly: {cases} inputs, {point} made worse"
    );
    assert!(point > 0);
}
