//! What the kernel says of its clock, and what a gate makes of it.

use super::*;

/// chrony leaves the kernel's mark as it is where it does not set the hardware's clock.
#[test]
fn a_clock_that_is_right_and_not_marked_so_is_green() {
    let mut node = Recorded::new(true, &SCALED);
    node.settle();
    node.pass(17, |c| c.clock.synchronised = false);
    assert_eq!(node.watched.verdicts()["node.clock.synchronised"], Verdict::Pass);
}
