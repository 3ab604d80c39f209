//! Time as plain numbers: a monotonic instant for windows, a wall instant for expiries and
//! documents, and schedules as pure arithmetic.
//!
//! The monotonic clock may be read anywhere, through [`Mono::now`]; the wall clock is read in
//! `agent` only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds since this machine booted, suspend included (CLOCK_BOOTTIME), so that a restart
/// of the daemon continues its windows. Instants of an earlier boot are negative.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Mono(pub i64);

impl Mono {
    pub fn now() -> Self {
        // CLOCK_BOOTTIME exists since Linux 2.6.39; a kernel without it would answer EINVAL,
        // and then the plain monotonic clock is the next best.
        let spec = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
        match spec {
            Ok(t) => Self(t.tv_sec() * 1_000_000_000 + t.tv_nsec()),
            Err(_) => Self(0),
        }
    }

    pub fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }

    /// The same, or less than a microsecond before.
    #[must_use]
    pub fn whole_micros(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(1_000)))
    }

    /// The time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Nanoseconds since 1970-01-01 UTC. It may jump; nothing that is a duration is made of it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Wall(pub i64);

impl Wall {
    pub fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// RFC 3339 in UTC with milliseconds.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => format!("{t:.3}"),
            Err(_) => String::from("1970-01-01T00:00:00.000Z"),
        }
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let t: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(t.as_nanosecond()).ok().map(Self)
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

impl Now {
    /// The wall instant of a monotonic one, by today's offset between the two.
    pub fn wall_of(self, at: Mono) -> Wall {
        Wall(self.wall.0.saturating_add(at.0.saturating_sub(self.mono.0)))
    }

    /// The monotonic instant of a wall one, by today's offset between the two.
    pub fn mono_of(self, at: Wall) -> Mono {
        Mono(self.mono.0.saturating_add(at.0.saturating_sub(self.wall.0)))
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// When a check is due: every `every`, at a phase of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub every: Duration,
    pub phase: Duration,
}

impl Schedule {
    /// The phase comes from a hash of node and check, so that a fleet spreads without talking.
    pub fn new(every: Duration, node: &str, check: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (node, check).hash(&mut hasher);
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { every, phase: Duration::from_nanos(hasher.finish() % every_ns) }
    }

    /// The first tick strictly after `now`.
    pub fn next_after(&self, now: Mono) -> Mono {
        let every = nanos(self.every).max(1);
        let phase = nanos(self.phase);
        let ticks = (now.0.saturating_sub(phase)).div_euclid(every);
        Mono(phase.saturating_add((ticks + 1).saturating_mul(every)))
    }

    /// How many ticks lie in `(from, to]`: with `from` the tick that ran last, all but one of
    /// them were missed. They are counted, never queued.
    pub fn ticks_between(&self, from: Mono, to: Mono) -> u64 {
        let every = nanos(self.every).max(1);
        let phase = nanos(self.phase);
        let index = |at: Mono| (at.0.saturating_sub(phase)).div_euclid(every);
        u64::try_from(index(to) - index(from)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_never_now_and_never_skips() {
        let schedule = Schedule::new(Duration::from_secs(15), "node-1", "core");
        let mut at = Mono(0);
        let first = schedule.next_after(at);
        assert!(first > at && first.since(at) <= Duration::from_secs(15));
        for _ in 0..100 {
            let next = schedule.next_after(at);
            assert!(next > at);
            assert_eq!((next.0 - nanos(schedule.phase)).rem_euclid(15_000_000_000), 0);
            assert_eq!(schedule.ticks_between(at, next), 1);
            at = next;
        }
    }

    #[test]
    fn missed_ticks_are_counted() {
        let schedule = Schedule { every: Duration::from_secs(10), phase: Duration::from_secs(3) };
        assert_eq!(schedule.ticks_between(Mono::from_secs(3), Mono::from_secs(34)), 3);
        assert_eq!(schedule.next_after(Mono::from_secs(34)), Mono::from_secs(43));
        assert_eq!(schedule.next_after(Mono::from_secs(-34)), Mono::from_secs(-27));
    }

    #[test]
    fn a_fleet_spreads() {
        let phases: std::collections::BTreeSet<u128> = (0..100)
            .map(|n| Schedule::new(Duration::from_secs(60), &format!("node-{n}"), "c").phase)
            .map(|phase| phase.as_millis() / 6_000)
            .collect();
        assert!(phases.len() >= 9, "100 nodes fill only {} of 10 slots", phases.len());
    }

    #[test]
    fn wall_instants_read_and_write_rfc3339() {
        let at = Wall::from_secs(1_700_000_000);
        assert_eq!(at.rfc3339(), "2023-11-14T22:13:20.000Z");
        assert_eq!(Wall::parse(&at.rfc3339()), Some(at));
        assert_eq!(Wall::parse("yesterday"), None);
    }
}
