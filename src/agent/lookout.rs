//! Which seconds cross a gate's threshold, found out where the second is taken: only those are of any
//! hurry to the recorder.

use crate::catalogue::Kind;
use crate::gate::{Bound, Function, Gate, Subject};
use crate::node::culprits::Resource;
use crate::node::{Frame, Signal, SlotDef};
use crate::series::TrackKey;
use crate::time::Mono;
use std::time::Duration;

/// Where nothing crossed for so long, what crosses next is a matter of its own.
const CALM: Duration = Duration::from_secs(5);
/// A second so many times as far out as those before it is another matter than they were.
const WORSE: f64 = 1.3;
/// What those before it were like is forgotten by this share with each second.
const FORGETS: f64 = 0.1;

/// A slot of which a single second may cross a gate's threshold.
pub(super) struct Watch {
    slot: usize,
    key: TrackKey,
    resource: Resource,
    crosses: Crossing,
    /// How far out it was lately, in thresholds.
    usual: f64,
}

enum Crossing {
    Beyond(Bound),
    /// Any growth: of a counter of what should never happen.
    Growth {
        last: Option<f64>,
    },
}

/// One slot in a second that crosses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crossed {
    pub(super) slot: usize,
    pub(super) resource: Resource,
    pub(super) value: f64,
    pub(super) threshold: Option<f64>,
    /// The first after a calm, or much farther out than those before it.
    pub(super) fresh: bool,
}

impl Watch {
    /// The narrowest bound that some gate has for the slot, the warning ones included.
    pub(super) fn new(slot: usize, gates: &[Gate], def: &SlotDef, key: &TrackKey) -> Option<Self> {
        let resource = Resource::of(def.metric.series?)?;
        let made = |crosses| Self { slot, key: key.clone(), resource, crosses, usual: 0.0 };
        let mut narrowest: Option<Bound> = None;
        let criteria = gates.iter().flat_map(|gate| gate.require.criteria());
        for criterion in criteria {
            let Subject::Series(selection) = &criterion.subject else { continue };
            if !selection.matches(key) {
                continue;
            }
            match criterion.function {
                Function::Increase if matches!(def.metric.kind, Kind::Counter) => {
                    return Some(made(Crossing::Growth { last: None }));
                }
                Function::Mean
                | Function::Quantile(_)
                | Function::Max
                | Function::Ratio
                | Function::Last => {}
                // One second says nothing of the best of them.
                _ => continue,
            }
            narrowest = match (narrowest, criterion.warn.or(criterion.fails())) {
                (Some(Bound::Below(one)), Some(Bound::Below(other))) => {
                    Some(Bound::Below(one.min(other)))
                }
                (Some(Bound::Above(one)), Some(Bound::Above(other))) => {
                    Some(Bound::Above(one.max(other)))
                }
                (one, other) => one.or(other),
            };
        }
        narrowest.map(|bound| made(Crossing::Beyond(bound)))
    }

    fn look(&mut self, signal: Signal<'_>) -> Option<Crossed> {
        let Signal::Number(value) = signal else { return None };
        let (crosses, out, threshold) = match &mut self.crosses {
            Crossing::Beyond(bound) => {
                let (from, to) = match *bound {
                    Bound::Below(limit) => (value, limit),
                    Bound::Above(limit) => (limit, value),
                };
                // What should be none at all is as far out as there is of it.
                let out = if to > 0.0 { from / to } else { from };
                (!bound.holds(value), out, Some(bound.limit()))
            }
            Crossing::Growth { last } => {
                let grown = last.replace(value).map_or(0.0, |last| value - last);
                (grown > 0.0, grown, None)
            }
        };
        let fresh = out > WORSE * self.usual;
        self.usual = out.max(self.usual * (1.0 - FORGETS));
        crosses.then_some(Crossed {
            slot: self.slot,
            resource: self.resource,
            value,
            threshold,
            fresh,
        })
    }
}

/// All watches over the slots of one layout.
#[derive(Default)]
pub(super) struct Lookout {
    generation: u64,
    watches: Vec<Watch>,
    /// When something of each resource crossed last.
    crossed: [Option<Mono>; Resource::ALL.len()],
}

impl Lookout {
    /// Other slots, in the order of their layout. What is known of those that stay is kept.
    pub(super) fn watch(&mut self, generation: u64, mut watches: Vec<Watch>) {
        for watch in &mut watches {
            let before = self.watches.iter_mut().find(|before| before.key == watch.key);
            let Some(before) = before else { continue };
            watch.usual = before.usual;
            if let (Crossing::Growth { last }, Crossing::Growth { last: known }) =
                (&mut watch.crosses, &before.crosses)
            {
                *last = *known;
            }
        }
        self.generation = generation;
        self.watches = watches;
    }

    /// What crosses in a second. False where its layout is another than the one that is watched.
    pub(super) fn look(&mut self, frame: &Frame, into: &mut Vec<Crossed>) -> bool {
        into.clear();
        if frame.layout.generation != self.generation {
            return false;
        }
        for watch in &mut self.watches {
            into.extend(frame.get(watch.slot).and_then(|signal| watch.look(signal)));
        }
        self.mark(frame.at.mono, into);
        true
    }

    /// What crosses after a calm is new.
    fn mark(&mut self, at: Mono, into: &mut [Crossed]) {
        let calm = self.crossed.map(|last| last.is_none_or(|last| at.since(last) >= CALM));
        for crossed in into {
            let place = crossed.resource.place();
            crossed.fresh |= calm.get(place) == Some(&true);
            if let Some(last) = self.crossed.get_mut(place) {
                *last = Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::node;
    use crate::series::NODE_CHECK;

    fn watch(crosses: Crossing) -> Watch {
        let key = TrackKey {
            metric: &node::CPU_BUSY,
            check: NODE_CHECK.into(),
            target: "here".into(),
            labels: Vec::new(),
        };
        Watch { slot: 0, key, resource: Resource::Cpu, crosses, usual: 0.0 }
    }

    /// Whether each second crosses, and whether that is new.
    fn seconds(watch: &mut Watch, values: &[f64]) -> Vec<Option<bool>> {
        let look = |value: &f64| watch.look(Signal::Number(*value)).map(|crossed| crossed.fresh);
        values.iter().map(look).collect()
    }

    #[test]
    fn what_stays_crossed_is_new_again_where_it_gets_much_worse() {
        let mut runnable = watch(Crossing::Beyond(Bound::Below(1.0)));
        let said = seconds(&mut runnable, &[0.2, 3.0, 3.5, 2.5, 6.0, 5.0]);
        let expected = [None, Some(true), Some(false), Some(false), Some(true), Some(false)];
        assert_eq!(said, expected);
        // After a while of less, as much as before is new.
        seconds(&mut runnable, &[1.5; 20]);
        assert_eq!(seconds(&mut runnable, &[6.0]), [Some(true)]);
        let mut free = watch(Crossing::Beyond(Bound::Above(0.1)));
        assert_eq!(
            seconds(&mut free, &[0.5, 0.09, 0.085, 0.04]),
            [None, Some(true), Some(false), Some(true)]
        );
        let mut none = watch(Crossing::Beyond(Bound::Below(0.0)));
        assert_eq!(seconds(&mut none, &[0.0, 1.0, 1.0]), [None, Some(true), Some(false)]);
        let mut count = watch(Crossing::Growth { last: None });
        assert_eq!(
            seconds(&mut count, &[7.0, 7.0, 9.0, 10.0]),
            [None, None, Some(true), Some(false)]
        );
        assert_eq!(count.look(Signal::Nothing).map(|crossed| crossed.fresh), None);
    }

    #[test]
    fn the_first_after_a_calm_is_new_and_slots_that_stay_keep_what_is_known_of_them() {
        let mut lookout = Lookout::default();
        let mut fresh = |second: i64, resource| {
            let mut all =
                [Crossed { slot: 0, resource, value: 1.0, threshold: None, fresh: false }];
            lookout.mark(Mono::from_secs(second), &mut all);
            all[0].fresh
        };
        assert!(fresh(1, Resource::Cpu) && !fresh(2, Resource::Cpu) && !fresh(6, Resource::Cpu));
        assert!(fresh(6, Resource::Io) && fresh(11, Resource::Cpu));
        let mut before = watch(Crossing::Growth { last: None });
        seconds(&mut before, &[5.0]);
        before.usual = 2.0;
        lookout.watch(1, vec![before]);
        lookout.watch(2, vec![watch(Crossing::Growth { last: None })]);
        let [after] = lookout.watches.as_mut_slice() else { panic!("one") };
        assert_eq!((after.usual, seconds(after, &[6.0])), (2.0, vec![Some(false)]));
    }
}
