//! The clock: what the kernel says of it (adjtimex), and whether somebody set it.

use std::sync::Arc;

use nix::errno::Errno;

use super::{Sink, Slot, Tick};
use crate::catalogue::node as metric;
use crate::client::kernel::ClockState;
use crate::outcome::{Fault, FaultCode};
use crate::time::Now;

/// Where the state of the clock comes from: the kernel, or a test.
pub type ReadClock = Box<dyn FnMut() -> Result<ClockState, Errno> + Send>;

/// A clock that moves against the monotonic one by more than this was set. Slowed down or sped up,
/// both move alike (clock_gettime(2)); ntpd never slews more than 128 ms either (ntpd(8), step).
const STEP_LEAST: i64 = 128_000_000;

/// The two clocks are read one after the other, and a task may be held up between. Twice in a row
/// that is not by the same time, so a step counts where two readings agree as well as this.
const STEP_AGREES: i64 = 20_000_000;

/// Counts how often the wall clock was set.
#[derive(Debug, Default)]
struct Steps {
    count: u64,
    /// Nanoseconds of the wall clock at the monotonic clock's zero: now, and what they are if the
    /// next reading says so too.
    offset: Option<i64>,
    suspected: Option<i64>,
}

impl Steps {
    fn see(&mut self, now: Now) {
        let offset = now.wall.0.saturating_sub(now.mono.0);
        let far = |from: i64, most: i64| offset.saturating_sub(from).saturating_abs() > most;
        let Some(before) = self.offset else {
            // The first reading may be one of those that were held up: the next decides.
            if self.suspected.is_some_and(|first| !far(first, STEP_AGREES)) {
                self.offset = Some(offset);
                self.suspected = None;
            } else {
                self.suspected = Some(offset);
            }
            return;
        };
        if !far(before, STEP_LEAST) {
            if !far(before, STEP_AGREES) {
                self.offset = Some(offset);
            }
            self.suspected = None;
        } else if self.suspected.is_some_and(|suspected| !far(suspected, STEP_AGREES)) {
            self.count += 1;
            self.offset = Some(offset);
            self.suspected = None;
        } else {
            self.suspected = Some(offset);
        }
    }
}

pub(super) struct Source {
    clock: ReadClock,
    state: ClockState,
    fault: Option<Arc<Fault>>,
    refused: Option<Errno>,
    steps: Steps,
}

impl Source {
    pub(super) fn new(clock: ReadClock) -> Self {
        Self {
            clock,
            state: ClockState::default(),
            fault: None,
            refused: None,
            steps: Steps::default(),
        }
    }
}

fn fault(errno: Errno) -> Fault {
    let code = match errno {
        Errno::EPERM | Errno::EACCES => FaultCode::Permission,
        Errno::ENOSYS => FaultCode::Unsupported,
        _ => FaultCode::Unreadable,
    };
    let help =
        "allow the system calls adjtimex and clock_adjtime, which only read without CAP_SYS_TIME";
    Fault::new(code, format!("the kernel does not tell the state of its clock: {errno}; {help}"))
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.steps.see(tick.now);
        if !tick.all {
            return false;
        }
        match (self.clock)() {
            Ok(state) => {
                self.state = state;
                self.fault = None;
                self.refused = None;
            }
            Err(errno) if self.refused == Some(errno) => {}
            Err(errno) => {
                self.fault = Some(Arc::new(fault(errno)));
                self.refused = Some(errno);
            }
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let state = &self.state;
        // The clocks themselves can always be read.
        sink.under(None);
        sink.put(&metric::CLOCK_STEPS, &[], Slot::Number(self.steps.count as f64));
        sink.under(self.fault.as_ref());
        let unsynchronised = f64::from(u8::from(!state.synchronised));
        sink.put(&metric::CLOCK_OFFSET, &[], Slot::Number(state.offset.abs()));
        sink.put(&metric::CLOCK_MAX_ERROR, &[], Slot::Number(state.max_error));
        sink.put(&metric::CLOCK_UNSYNCHRONISED, &[], Slot::Number(unsynchronised));
        sink.put(&metric::CLOCK_OFFSET_NOW, &[], Slot::Number(state.offset));
        sink.put(&metric::CLOCK_ESTIMATED_ERROR, &[], Slot::Number(state.estimated_error));
        sink.put(&metric::CLOCK_FREQUENCY, &[], Slot::Number(state.frequency));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Mono, Wall};

    /// Counts over readings, a second apart, of a wall clock that is off by these milliseconds.
    fn steps(offsets: &[i64]) -> u64 {
        let mut steps = Steps::default();
        for (second, offset) in offsets.iter().enumerate() {
            let mono = Mono::from_secs(i64::try_from(second).unwrap());
            steps.see(Now {
                mono,
                wall: Wall(1_800_000_000_000_000_000 + mono.0 + offset * 1_000_000),
            });
        }
        steps.count
    }

    #[test]
    fn a_clock_that_is_set_is_counted_once_for_each_time() {
        assert_eq!(steps(&[0; 20]), 0);
        assert_eq!(steps(&[0, 0, 0, 5000, 5000, 5000]), 1);
        assert_eq!(steps(&[0, 0, 0, -5000, -5000, 200, 200, 200]), 2);
        // Forth and back again, seconds apart.
        assert_eq!(steps(&[0, 0, 200, 200, 0, 0]), 2);
        assert_eq!(steps(&[0, 0, 200, 200, 200, 400, 400, 400]), 2);
    }

    #[test]
    fn a_task_that_is_held_up_between_two_clocks_is_no_step() {
        assert_eq!(steps(&[0, 0, 300, 0, 0, -900, 0]), 0);
        assert_eq!(steps(&[0, 0, 300, 700, 0, 0]), 0);
        // In the first reading too.
        assert_eq!(steps(&[400, 0, 0, 0]), 0);
        assert_eq!(steps(&[0, 0, 100, 0, 50, -70]), 0);
        // Slewing at the fastest that chronyd does moves both clocks; what is left is noise.
        assert_eq!(steps(&[0, 0, 1, 2, 3, 4, 5]), 0);
    }

    #[test]
    fn steps_are_never_counted_twice_whatever_the_clocks_say() {
        let mut runner = proptest::test_runner::TestRunner::default();
        let tried = std::cell::Cell::new(0);
        let readings =
            proptest::collection::vec((proptest::num::i64::ANY, proptest::num::i64::ANY), 0..50);
        runner
            .run(&readings, |readings| {
                tried.set(tried.get() + 1);
                let mut steps = Steps::default();
                for (mono, wall) in &readings {
                    steps.see(Now { mono: Mono(*mono), wall: Wall(*wall) });
                }
                proptest::prop_assert!(steps.count <= readings.len() as u64 / 2);
                Ok(())
            })
            .unwrap();
        eprintln!("property node clock: {} inputs", tried.get());
    }
}
