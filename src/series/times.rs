//! The times of a track's points, oldest first. The seconds of the node are read at whole microseconds, of
//! which those of an hour fit in four bytes each; other times take eight.

use std::collections::VecDeque;

use crate::time::Mono;

#[derive(Clone, Debug)]
pub(super) enum Times {
    /// Microseconds after a time that is no later than the first.
    Near {
        base: Mono,
        after: VecDeque<u32>,
    },
    Far(VecDeque<Mono>),
}

impl Default for Times {
    fn default() -> Self {
        Self::Near { base: Mono::default(), after: VecDeque::new() }
    }
}

const MICROSECOND: i64 = 1_000;

/// None where it is no whole number of microseconds, or too many.
fn between(base: Mono, at: Mono) -> Option<u32> {
    let nanoseconds = at.0.checked_sub(base.0)?;
    if nanoseconds % MICROSECOND != 0 {
        return None;
    }
    u32::try_from(nanoseconds / MICROSECOND).ok()
}

fn behind(base: Mono, after: u32) -> Mono {
    Mono(base.0.saturating_add(i64::from(after) * MICROSECOND))
}

impl Times {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Near { after, .. } => after.len(),
            Self::Far(times) => times.len(),
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<Mono> {
        match self {
            Self::Near { base, after } => after.get(place).map(|after| behind(*base, *after)),
            Self::Far(times) => times.get(place).copied(),
        }
    }

    /// How many come first of which this is true, where it is true of no later one.
    pub(super) fn before(&self, is_before: impl Fn(Mono) -> bool) -> usize {
        match self {
            Self::Near { base, after } => {
                after.partition_point(|after| is_before(behind(*base, *after)))
            }
            Self::Far(times) => times.partition_point(|at| is_before(*at)),
        }
    }

    pub(super) fn insert(&mut self, place: usize, at: Mono) {
        if self.reach(at) {
            if let Self::Near { base, after } = self
                && let Some(span) = between(*base, at)
            {
                after.insert(place, span);
            }
        } else if let Self::Far(times) = self {
            times.insert(place, at);
        }
    }

    /// Whether it can be told near the others, which are counted anew from the first of them where that
    /// helps. Otherwise all of them are far from now on.
    fn reach(&mut self, at: Mono) -> bool {
        let Self::Near { base, after } = self else { return false };
        let first = after.front().map_or(at, |first| behind(*base, *first));
        if between(*base, at).is_some() && !after.is_empty() {
            return true;
        }
        if between(first, at).is_some() {
            let gone = between(*base, first).unwrap_or(0);
            after.iter_mut().for_each(|after| *after = after.saturating_sub(gone));
            *base = first;
            return true;
        }
        let mut far = VecDeque::new();
        far.reserve_exact(after.capacity());
        far.extend(after.iter().map(|after| behind(*base, *after)));
        *self = Self::Far(far);
        false
    }

    pub(super) fn drop_oldest(&mut self, count: usize) {
        let count = count.min(self.len());
        match self {
            Self::Near { after, .. } => drop(after.drain(..count)),
            Self::Far(times) => drop(times.drain(..count)),
        }
    }

    pub(super) fn room(&self) -> usize {
        match self {
            Self::Near { after, .. } => after.capacity(),
            Self::Far(times) => times.capacity(),
        }
    }

    pub(super) fn make_room(&mut self, room: usize) {
        let more = room.saturating_sub(self.len());
        match self {
            Self::Near { after, .. } => after.reserve_exact(more),
            Self::Far(times) => times.reserve_exact(more),
        }
    }

    pub(super) fn shrink_to(&mut self, room: usize) {
        match self {
            Self::Near { after, .. } => after.shrink_to(room),
            Self::Far(times) => times.shrink_to(room),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_of_days_stay_near_while_old_ones_go() {
        let mut times = Times::default();
        let start = 123_456_789_000;
        for second in 0..100_000 {
            times.insert(times.len(), Mono(start + second * 1_000_000_000));
            times.drop_oldest(times.len().saturating_sub(1_800));
        }
        assert!(matches!(times, Times::Near { .. }));
        assert_eq!(times.get(0), Some(Mono(start + 98_200 * 1_000_000_000)));
        // Two hours are too far, and so is half a microsecond.
        let mut far = times.clone();
        far.insert(far.len(), Mono(start + 107_200 * 1_000_000_000));
        assert!(matches!(far, Times::Far(_)) && far.get(0) == times.get(0));
        let mut odd = times.clone();
        odd.insert(odd.len(), Mono(start + 100_000 * 1_000_000_000 + 500));
        assert!(matches!(odd, Times::Far(_)) && odd.get(0) == times.get(0));
        assert_eq!(odd.get(1_800), Some(Mono(start + 100_000 * 1_000_000_000 + 500)));
    }

    proptest! {
        /// Beside a plain list, whatever is done.
        #[test]
        fn it_is_a_list_of_times(
            steps in prop::collection::vec((prop_oneof![
                5 => (0_i64..5_000_000_000).prop_map(|micros| micros * 1_000),
                1 => any::<i64>(),
            ], 0_usize..40), 0..60),
        ) {
            let (mut times, mut list) = (Times::default(), Vec::new());
            for (at, gone) in steps {
                let at = Mono(at);
                let place = times.before(|before| before <= at);
                prop_assert_eq!(place, list.partition_point(|before| *before <= at));
                times.insert(place, at);
                list.insert(place, at);
                if gone < 4 {
                    times.drop_oldest(gone);
                    list.drain(..gone.min(list.len()));
                }
                let seen: Vec<_> = (0..times.len()).filter_map(|place| times.get(place)).collect();
                prop_assert_eq!(&seen, &list);
            }
        }
    }
}
