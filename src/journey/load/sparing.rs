//! When a platform must be spared: it refuses too much, or it asks for a pause.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

/// Of fewer receipts no share is told.
const SHARE_OF: u64 = 50;
/// A platform that takes less than nine of ten is beyond its end; more load proves nothing and
/// harms what is real.
const BAD_SHARE: f64 = 0.1;
/// The share is that of so many newest moments.
const MOMENTS: usize = 10;
/// After a refusal that names no time, nothing is sent for so long, doubled each time up to the
/// second number.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// A platform that asks for longer, or takes nothing between pauses for longer, is left alone.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Pauses that the platform asked for (429, a quota). What is due meanwhile is refused by its word,
/// and never sent: made up for, it would come as a flood.
#[derive(Debug)]
pub struct Sparing {
    until: Option<Mono>,
    pause: Duration,
    /// Since when nothing but refusals came.
    since: Option<Mono>,
    /// How often it asked.
    pub times: u64,
}

impl Default for Sparing {
    fn default() -> Self {
        Self { until: None, pause: PAUSES.0, since: None, times: 0 }
    }
}

impl Sparing {
    /// Whether nothing is to be sent now.
    pub fn holds(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub fn until(&self) -> Option<Mono> {
        self.until
    }

    /// An event that was handed over `handed` was refused, with the wait that was asked for. The
    /// words why to stop, where it would take too long.
    pub fn asked(&mut self, now: Mono, handed: Mono, wait: Option<Duration>) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        if let Some(wait) = wait.filter(|wait| *wait > PATIENCE) {
            return Some(format!("it asked to wait {wait:.0?}, longer than {PATIENCE:?}"));
        }
        if now.since(since) > PATIENCE {
            return Some(format!("it has asked to slow down for {PATIENCE:?} and took nothing"));
        }
        // What was under way when the pause began says nothing new, but may ask for more.
        let new = self.until.is_none_or(|until| handed >= until);
        let pause = wait.unwrap_or(if new { self.pause } else { Duration::ZERO });
        if new {
            self.times += 1;
            self.pause = (self.pause * 2).min(PAUSES.1);
        }
        self.until = self.until.max(Some(now.plus(pause)));
        None
    }

    /// An event that was handed over `handed` was taken.
    pub fn taken(&mut self, handed: Mono) {
        if self.until.is_none_or(|until| handed >= until) {
            self.since = None;
            self.pause = PAUSES.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn pauses_are_as_long_as_was_asked_or_grow_and_end_the_load_when_they_never_end() {
        let at = Mono::from_secs;
        let mut sparing = Sparing::default();
        assert!(!sparing.holds(at(0)));
        assert_eq!(sparing.asked(at(1), at(0), Some(Duration::from_secs(5))), None);
        assert!(sparing.holds(at(5)) && !sparing.holds(at(6)));
        // Others of the same batch change nothing, but a longer wait does.
        assert_eq!(sparing.asked(at(2), at(0), None), None);
        assert_eq!(sparing.until(), Some(at(6)));
        assert_eq!(sparing.asked(at(3), at(0), Some(Duration::from_secs(7))), None);
        assert_eq!((sparing.until(), sparing.times), (Some(at(10)), 1));
        // Taken in between: the next pause is short again.
        sparing.taken(at(11));
        assert_eq!(sparing.asked(at(12), at(11), None), None);
        assert_eq!(sparing.until(), Some(at(12).plus(PAUSES.0)));
        assert_eq!(sparing.asked(at(20), at(19), None), None);
        assert_eq!(sparing.until(), Some(at(20).plus(PAUSES.0 * 2)));
        let why = sparing.asked(at(73), at(72), None).expect("it never takes anything");
        assert!(why.contains("took nothing"), "{why}");
        let why = sparing.asked(at(21), at(20), Some(Duration::from_secs(3_600)));
        assert!(why.is_some_and(|why| why.contains("longer than 60s")));
    }
}
