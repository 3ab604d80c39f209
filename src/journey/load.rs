//! Proving volume: when events are due, when a platform must be spared, and whether it held.

use std::collections::VecDeque;
use std::time::Duration;

use super::Fate;
use super::tally::StageTally;
use crate::time::Mono;

/// Of fewer receipts no share is told.
const SHARE_OF: u64 = 50;
/// A platform that takes less than nine of ten is beyond its end; more load proves nothing and
/// harms what is real.
const BAD_SHARE: f64 = 0.1;
/// The share is that of so many newest moments.
const MOMENTS: usize = 10;
/// By p99: one of a hundred may be late.
const LATE_SHARE: f64 = 0.01;
/// What waits at the end of a steady load is noise up to a second's worth of events; a backlog that
/// grew by more over the second half goes on growing.
const GROWTH: Duration = Duration::from_secs(1);
/// Fewer samples than that have no slope.
const SLOPE_OF: usize = 8;
/// Where this process itself was late for more of the time, it is not the platform that is measured.
const STALLED_SHARE: f64 = 0.1;

/// Constant arrivals: event `n` is due `n / rate` seconds after the first, whatever the platform
/// does. What is sent late is late from then on (no coordinated omission).
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    pub rate: f64,
    pub span: Duration,
}

impl Constant {
    pub fn total(&self) -> u64 {
        ((self.rate * self.span.as_secs_f64()).floor() as u64).max(1)
    }

    pub fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64((n as f64 / self.rate).clamp(0.0, 1e9))
    }

    /// How many are due when so much time has passed.
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        let mut count = (elapsed.as_secs_f64() * self.rate).floor() as u64;
        // Both ways of rounding must agree, or an event would be due before its time.
        while count > 0 && self.due(count) > elapsed {
            count -= 1;
        }
        (count + 1).min(self.total())
    }
}

/// The newest receipts, and how many of them say that an event was not taken.
#[derive(Debug, Default)]
pub struct Refusals {
    moments: VecDeque<(u64, u64)>,
}

impl Refusals {
    /// What came since the last call. The words why to stop, where too many were not taken.
    pub fn tell(&mut self, answered: u64, bad: u64) -> Option<String> {
        self.moments.push_back((answered, bad));
        if self.moments.len() > MOMENTS {
            self.moments.pop_front();
        }
        let sum =
            |of: fn(&(u64, u64)) -> u64| self.moments.iter().map(of).fold(0, u64::saturating_add);
        let (answered, bad) = (sum(|moment| moment.0), sum(|moment| moment.1));
        (answered >= SHARE_OF && bad as f64 > answered as f64 * BAD_SHARE)
            .then(|| format!("{bad} of the last {answered} events were not taken"))
    }
}

/// How many events are due and not answered for, as time goes on.
#[derive(Debug, Default)]
pub struct Backlog {
    samples: Vec<(Mono, u64)>,
}

impl Backlog {
    pub fn add(&mut self, at: Mono, waiting: u64) {
        self.samples.push((at, waiting));
        // A long load keeps every other sample: the slope needs no more.
        if self.samples.len() > 4_096 {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Events a second by which it grew over the second half, by least squares.
    pub fn slope(&self) -> Option<f64> {
        let half = self.samples.get(self.samples.len() / 2..)?;
        let (first, _) = *half.first()?;
        if half.len() < SLOPE_OF {
            return None;
        }
        let points = half.iter().map(|(at, n)| (at.since(first).as_secs_f64(), *n as f64));
        let n = half.len() as f64;
        let (mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in points {
            sx += x;
            sy += y;
            sxx += x * x;
            sxy += x * y;
        }
        let width = n * sxx - sx * sx;
        (width > 0.0).then(|| (n * sxy - sx * sy) / width)
    }
}

/// How the sending ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was handed over.
    Whole,
    /// Its time and some more was over, and events were still waiting for their turn.
    Behind,
    /// The budget was used up.
    Budget,
    /// To spare the platform.
    Aborted(String),
    Interrupted,
}

impl Ended {
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Behind => "behind",
            Self::Budget => "budget",
            Self::Aborted(_) => "aborted",
            Self::Interrupted => "interrupted",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Held,
    NotHeld,
    /// It could not be told.
    Unclear,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NotHeld => "not_held",
            Self::Unclear => "unclear",
        }
    }
}

/// What is known when nothing more is to be learnt.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub ended: &'a Ended,
    pub rate: f64,
    pub span: Duration,
    /// Due and never handed over.
    pub waiting: u64,
    pub slope: Option<f64>,
    /// How long this process itself was late.
    pub stalled: Duration,
    pub stages: &'a [StageTally],
}

/// Whether the platform held the rate, and why not. A failure that was seen stands whatever could
/// not be seen; nothing is held of which something is unknown.
pub fn judge(evidence: &Evidence<'_>) -> (Verdict, Vec<String>) {
    let (mut failed, mut unclear) = (Vec::new(), Vec::new());
    let own = evidence.stalled.as_secs_f64() > evidence.span.as_secs_f64() * STALLED_SHARE;
    // What this process did late itself says nothing of the platform.
    let mut slow = |text: String| {
        if own {
            let late = evidence.stalled.as_secs_f64();
            unclear.push(format!(
                "{text}, and this process itself was late for {late:.1} s: it had too little CPU"
            ));
        } else {
            failed.push(text);
        }
    };
    let half = evidence.span.as_secs_f64() / 2.0;
    let grew = |slope: &f64| slope * half > evidence.rate * GROWTH.as_secs_f64();
    if let Some(slope) = evidence.slope.filter(grew) {
        slow(format!("the backlog grew by {slope:.1} events a second"));
    }
    if *evidence.ended == Ended::Behind {
        slow(format!("{} events were due and waited until the end", evidence.waiting));
    }
    for tally in evidence.stages {
        let late = tally.count(Fate::Late);
        if late as f64 > tally.known() as f64 * LATE_SHARE {
            slow(format!("{}: {late} of {} were late", tally.stage.word(), tally.known()));
        }
    }
    match evidence.ended {
        Ended::Aborted(why) => failed.push(why.clone()),
        Ended::Budget => unclear.push("the budget was used up before the end".to_owned()),
        Ended::Interrupted => unclear.push("it was interrupted".to_owned()),
        Ended::Whole | Ended::Behind => {}
    }
    for tally in evidence.stages {
        let stage = tally.stage.word();
        for fate in Fate::ALL {
            let count = tally.count(fate);
            let text = format!("{stage}: {count} of {} are {}", tally.expected, fate.word());
            match fate {
                _ if count == 0 => {}
                Fate::Ok | Fate::Late => {}
                Fate::Unknown | Fate::Inconclusive => unclear.push(text),
                _ => failed.push(text),
            }
        }
    }
    if evidence.stages.iter().all(|tally| tally.known() == 0) {
        unclear.push("no event's fate is known".to_owned());
    }
    let verdict = match (failed.is_empty(), unclear.is_empty()) {
        (false, _) => Verdict::NotHeld,
        (true, false) => Verdict::Unclear,
        (true, true) => Verdict::Held,
    };
    failed.append(&mut unclear);
    (verdict, failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::journey::Stage;

    #[test]
    fn events_are_due_at_their_time_and_all_of_them_at_the_end() {
        proptest!(|(rate in 0.1_f64..1e6, millis in 1_u64..100_000, at in 0.0_f64..1.5)| {
            let arrivals = Constant { rate, span: Duration::from_millis(millis) };
            let elapsed = arrivals.span.mul_f64(at);
            let count = arrivals.due_by(elapsed);
            prop_assert!(count >= 1 && count <= arrivals.total());
            prop_assert!(arrivals.due(count - 1) <= elapsed, "{count} before its time");
            if count < arrivals.total() {
                let next = arrivals.due(count + 1);
                prop_assert!(next > elapsed, "{count} and more were due");
            }
            prop_assert_eq!(arrivals.due_by(arrivals.span), arrivals.total());
        });
    }

    #[test]
    fn a_platform_is_spared_when_it_refuses_and_not_for_a_few() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.tell(SHARE_OF - 1, SHARE_OF - 1), None, "too few to tell");
        assert!(refusals.tell(1, 0).is_some());
        for _ in 0..MOMENTS {
            let _ = refusals.tell(100, 10);
        }
        assert_eq!(refusals.tell(100, 10), None, "a tenth is borne");
        assert!(refusals.tell(100, 11).is_some_and(|why| why.contains("of the last 1000")));
    }

    #[test]
    fn a_backlog_grows_or_does_not() {
        let slope = |of: fn(i64) -> u64| {
            let mut backlog = Backlog::default();
            for second in 0..60 {
                backlog.add(Mono::from_secs(second), of(second));
            }
            backlog.slope().expect("enough samples")
        };
        assert!((slope(|second| second as u64 * 7) - 7.0).abs() < 1e-6);
        assert!(slope(|_| 40).abs() < 1e-6);
        assert!(slope(|second| 100_000 / (second as u64 + 1)) < 0.0);
        let mut long = Backlog::default();
        for second in 0..20_000 {
            long.add(Mono::from_secs(second), 3 * second as u64);
        }
        assert!(long.samples.len() <= 4_097);
        assert!((long.slope().expect("a slope") - 3.0).abs() < 1e-6);
        assert_eq!(Backlog::default().slope(), None);
    }

    fn tally(fates: &[(Fate, u64)]) -> StageTally {
        let mut tally = StageTally::new(Stage::Stored);
        tally.fates = fates.iter().copied().collect::<BTreeMap<_, _>>();
        tally.expected = fates.iter().map(|(_, n)| n).sum();
        tally
    }

    #[test]
    fn what_is_lost_fails_what_is_unknown_is_unclear_and_late_by_p99() {
        let verdict = |ended: Ended, slope: f64, stalled: u64, fates: &[(Fate, u64)]| {
            let stages = [tally(fates)];
            judge(&Evidence {
                ended: &ended,
                rate: 100.0,
                span: Duration::from_secs(10),
                waiting: 0,
                slope: Some(slope),
                stalled: Duration::from_secs(stalled),
                stages: &stages,
            })
            .0
        };
        let good = [(Fate::Ok, 990), (Fate::Late, 10)];
        let late = [(Fate::Ok, 989), (Fate::Late, 11)];
        let lost = [(Fate::Ok, 999), (Fate::Lost, 1), (Fate::Unknown, 1)];
        let unknown = [(Fate::Ok, 999), (Fate::Unknown, 1)];
        for (ended, slope, stalled, fates, expected) in [
            (Ended::Whole, 19.9, 2, &good[..], Verdict::Held),
            (Ended::Whole, 20.1, 0, &good[..], Verdict::NotHeld),
            (Ended::Whole, 20.1, 2, &good[..], Verdict::Unclear),
            (Ended::Whole, 0.0, 0, &late[..], Verdict::NotHeld),
            (Ended::Whole, 0.0, 2, &late[..], Verdict::Unclear),
            (Ended::Whole, 0.0, 2, &lost[..], Verdict::NotHeld),
            (Ended::Whole, 0.0, 0, &unknown[..], Verdict::Unclear),
            (Ended::Whole, 0.0, 0, &[][..], Verdict::Unclear),
            (Ended::Behind, 0.0, 0, &good[..], Verdict::NotHeld),
            (Ended::Budget, 0.0, 0, &good[..], Verdict::Unclear),
            (Ended::Interrupted, 0.0, 0, &good[..], Verdict::Unclear),
            (Ended::Interrupted, 0.0, 0, &lost[..], Verdict::NotHeld),
            (Ended::Aborted("why".into()), 0.0, 0, &good[..], Verdict::NotHeld),
        ] {
            assert_eq!(
                verdict(ended.clone(), slope, stalled, fates),
                expected,
                "{ended:?} {slope}"
            );
        }
    }
}
