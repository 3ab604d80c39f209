//! Counters that each processor keeps for itself, added up. A processor that is taken off line takes
//! with it what it has counted, and comes back with it, of which none is new.

/// The sum over the processors that are on line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    /// How many there were at the last reading, and their sum.
    last: Option<(usize, u64)>,
    total: u64,
}

impl Total {
    /// What has been counted, with this reading. Where a processor came or went, what the others
    /// counted in that moment is left out; where a counter starts anew, so does the total.
    pub(super) fn take(&mut self, on_line: usize, sum: u64) -> u64 {
        self.total = match self.last {
            None => sum,
            Some((before, _)) if before != on_line => self.total,
            Some((_, before)) => match sum.checked_sub(before) {
                Some(growth) => self.total.saturating_add(growth),
                None => sum,
            },
        };
        self.last = Some((on_line, sum));
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_and_comes_back_counts_nothing_anew() {
        let mut total = Total::default();
        let mut take = |on_line, sum| total.take(on_line, sum);
        assert_eq!(take(2, 57), 57);
        assert_eq!(take(1, 7), 57, "one is gone");
        assert_eq!(take(1, 9), 59, "the other goes on");
        assert_eq!(take(2, 59), 59, "it is back");
        assert_eq!(take(2, 61), 61);
        assert_eq!(take(2, 51), 51, "one wrapped");
    }
}
