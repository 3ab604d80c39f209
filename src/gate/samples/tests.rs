use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::window::Coverage;
use super::*;
use crate::catalogue::probe::ICMP_RTT;
use crate::gate::Selection;
use crate::series::{Attempts, Cadence, Demand, TrackKey, Tracks};
use crate::time::{Mono, Now};

fn samples(numbers: &[f64], failed: u64) -> Samples {
    let found = numbers.len() as u64;
    let mut totals = Totals { numbers: found, failed, ..Totals::default() };
    totals.ranks = numbers.to_vec();
    totals.ranks.sort_by(f64::total_cmp);
    let mut samples = Samples::summed(&totals, Keep::Ranks);
    numbers.iter().for_each(|number| totals.sum.add(*number));
    samples.mean = totals.sum.over(found);
    samples.shares = numbers.iter().map(|number| number.clamp(0.0, 1.0)).sum();
    samples
}

#[test]
fn functions_of_numbers_failed_attempts_and_best_cases() {
    use Bound::{Above, Below};
    use Function::{Absent, Max, Mean, Min, Quantile, Ratio};
    let up = f64::INFINITY;
    let down = f64::NEG_INFINITY;
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    for (what, numbers, failed, best, function, bound, expected) in [
        ("mean", &[1.0, 2.0, 6.0][..], 0, 0, Mean, Below(5.0), Some(3.0)),
        ("mean with a failure", &[1.0], 1, 9, Mean, Below(5.0), Some(up)),
        ("mean with a failure, above", &[1.0], 1, 9, Mean, Above(5.0), Some(down)),
        ("mean that may get better", &[9.0], 0, 1, Mean, Below(5.0), Some(down)),
        ("nothing", &[], 0, 0, Mean, Below(5.0), None),
        ("max", &[1.0, 7.0], 0, 3, Max, Below(5.0), Some(7.0)),
        ("max above with a failure", &[1.0, 7.0], 1, 0, Max, Above(5.0), Some(7.0)),
        ("max with a failure", &[1.0, 7.0], 1, 0, Max, Below(9.0), Some(up)),
        ("min", &[1.0, 7.0], 0, 0, Min, Above(0.5), Some(1.0)),
        ("min above with a failure", &[1.0, 7.0], 1, 5, Min, Above(0.5), Some(down)),
        ("p99 of 100", &hundred, 0, 0, Quantile(0.99), Below(5.0), Some(99.0)),
        ("p50 of 100", &hundred, 0, 0, Quantile(0.5), Below(5.0), Some(50.0)),
        ("p100", &hundred, 0, 0, Quantile(1.0), Below(5.0), Some(100.0)),
        ("p0", &hundred, 0, 0, Quantile(0.0), Below(5.0), Some(1.0)),
        ("p99, one of 101 failed", &hundred, 1, 0, Quantile(0.99), Below(5.0), Some(100.0)),
        ("p99, two failed", &hundred, 2, 0, Quantile(0.99), Below(5.0), Some(up)),
        ("p99, two failed, 100 best", &hundred, 2, 100, Quantile(0.99), Below(5.0), Some(100.0)),
        ("p1 above, two failed", &hundred, 2, 0, Quantile(0.01), Above(5.0), Some(down)),
        ("ratio", &[1.0, 1.0, 1.0], 1, 0, Ratio, Above(0.9), Some(0.75)),
        ("ratio, best", &[1.0, 1.0, 1.0], 1, 6, Ratio, Above(0.9), Some(0.9)),
        ("loss ratio, failure is the worst", &[0.0, 0.0, 0.0], 1, 0, Ratio, Below(0.1), Some(0.25)),
        ("absent", &[3.0], 1, 5, Absent, Below(0.0), Some(2.0)),
    ] {
        assert_eq!(samples(numbers, failed).value(function, bound, best), expected, "{what}");
    }
}

/// Something that happens to a track, in whole seconds.
#[derive(Clone, Debug)]
enum Event {
    /// An attempt, so long after the newest.
    Attempt(i64, Value),
    /// One that is told too late, so long before the newest.
    Late(i64, Value),
    /// It is judged, so long after the newest attempt.
    Judged(i64),
}

fn event(several: bool) -> impl Strategy<Value = Event> {
    let number = prop_oneof![
        (0_u32..9).prop_map(|n| Value::Number(f64::from(n) / 10.0)),
        any::<f64>().prop_map(Value::Number),
    ];
    let value = prop_oneof![
        9 => number,
        1 => Just(Value::Failed),
        1 => Just(Value::Inconclusive),
        1 => Just(Value::Nothing),
    ];
    let gap = prop_oneof![20 => Just(1_i64), 2 => 2_i64..9, u32::from(several) => Just(0)];
    prop_oneof![
        20 => (gap, value.clone()).prop_map(|(gap, value)| Event::Attempt(gap, value)),
        1 => (1_i64..9, value).prop_map(|(before, value)| Event::Late(before, value)),
        10 => prop_oneof![9 => 0_i64..3, 1 => -5_i64..60].prop_map(Event::Judged),
    ]
}

/// What is kept as the window moves says bit by bit what a look at every point says, and so does
/// what is known of the attempts.
#[test]
fn a_window_that_moves_is_one_that_is_looked_at_anew() {
    let functions = [
        Function::Mean,
        Function::Ratio,
        Function::Increase,
        Function::Quantile(0.9),
        Function::Absent,
    ];
    let events =
        any::<bool>().prop_flat_map(|several| prop::collection::vec(event(several), 0..300));
    let tried = AtomicUsize::new(0);
    let test = |(events, points): (Vec<Event>, usize)| {
        let selection = Selection::all(&ICMP_RTT);
        let demand = Demand { selection: selection.clone(), window: Duration::from_secs(50) };
        let mut tracks = Tracks::new(vec![demand]).limited(points, 1);
        let (check, target) = ("c".into(), "t".into());
        let key = TrackKey { metric: &ICMP_RTT, check, target, labels: Vec::new() };
        let cadence = Cadence::every(Duration::from_secs(1), Mono::from_secs(100));
        let mut newest = 100;
        for event in events {
            let (at, value, now) = match event {
                Event::Attempt(gap, value) => (newest + gap, value, newest + gap),
                Event::Late(before, value) => (newest - before, value, newest),
                Event::Judged(after) => {
                    let now = Now { mono: Mono::from_secs(newest + after), ..Now::default() };
                    for track in tracks.select(&selection) {
                        for over in [7, 50] {
                            let window = Window::ending(now, Duration::from_secs(over));
                            let coverage = Coverage::by(track, window);
                            let all = track.points().times();
                            let all = all.take_while(|at| *at <= now.mono);
                            let anew = Attempts::of(track.cadence().interval, all);
                            let anew = Coverage::of(window, track.cadence(), &anew);
                            prop_assert_eq!(coverage, anew);
                            for function in functions {
                                let kept = Samples::of(track, window, &coverage, function);
                                let keep = asks(function);
                                let anew = Samples::counted(track, window, &coverage, keep);
                                prop_assert_eq!(&kept, &anew, "{:?} over {}", function, over);
                                tried.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    continue;
                }
            };
            newest = newest.max(at);
            tracks.push(&key, cadence, Mono::from_secs(at), value, Mono::from_secs(now));
        }
        Ok(())
    };
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(256) });
    runner.run(&(events, 20_usize..200), test).unwrap();
    eprintln!("{} windows", tried.load(Ordering::Relaxed));
}

#[test]
fn a_reset_starts_the_growth_anew() {
    assert_eq!(grown(5.0, 7.0), 2.0);
    assert_eq!(grown(5.0, 1.0), 1.0);
}
