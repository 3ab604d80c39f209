//! What the kernel tells by system calls that no crate wraps safely.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// The kernel's own view of its clock, by adjtimex(2). It tells what a daemon on this node has
/// told the kernel, and so never more than that daemon knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockState {
    /// Between the clock and what the daemon takes for the time, in seconds.
    pub offset: f64,
    /// The largest error that is possible, in seconds.
    pub max_error: f64,
    pub estimated_error: f64,
    /// How much faster the clock is made to run than it would by itself: 1e-6 is 1 ppm.
    pub frequency: f64,
    pub synchronised: bool,
}

/// Reads the state of the clock; changes nothing, and needs no privilege.
pub fn clock_state() -> Result<ClockState, Errno> {
    // SAFETY: `timex` is integers only, for which zeros are values; with `modes` 0 nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes into the structure, which lives and is ours alone for the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state == -1 {
        return Err(Errno::last());
    }
    let (offset, max, estimated, frequency) =
        (timex.offset as f64, timex.maxerror as f64, timex.esterror as f64, timex.freq as f64);
    let unit = if timex.status & libc::STA_NANO == 0 { 1e-6 } else { 1e-9 };
    Ok(ClockState {
        offset: offset * unit,
        max_error: max * 1e-6,
        estimated_error: estimated * 1e-6,
        // Parts per million with 16 bits behind the point.
        frequency: frequency / 65536.0 * 1e-6,
        synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_the_state_of_its_clock() {
        let state = clock_state().unwrap();
        // Documentation of adjtimex(2): the kernel limits the error to 16 s, where it also says
        // that it is not synchronised, and the frequency to 500 ppm.
        assert!((0.0..=16.001).contains(&state.max_error), "{state:?}");
        assert!(state.synchronised || state.max_error > 0.0, "{state:?}");
        assert!(state.offset.abs() <= 0.5 && state.frequency.abs() <= 500e-6, "{state:?}");
    }
}
