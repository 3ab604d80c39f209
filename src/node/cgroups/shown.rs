//! Which groups are shown: those that use the most of a resource, and those that lately did.

use std::sync::Arc;
use std::time::Duration;

use super::files::EVENTS;
use crate::outcome::Fault;
use crate::time::Mono;

/// Groups that come to be shown for one resource.
const TOP: usize = 10;

/// One that is shown stays until so many others use more.
const STAYS: usize = TOP + TOP / 2;

/// What a group used between two walks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Processors.
    pub(super) cpu: Option<f64>,
    /// The share of its periods in which it was throttled.
    pub(super) throttled: Option<f64>,
    /// Bytes.
    pub(super) memory: Option<f64>,
    /// Bytes a second.
    pub(super) io: Option<f64>,
}

/// A group by its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) name: Arc<str>,
    pub(super) usage: Usage,
    pub(super) events: [Option<u64>; EVENTS.len()],
}

/// What a set is ordered by.
type Of = fn(&Usage) -> Option<f64>;

pub(super) const SETS: [(&str, Of); 4] = [
    ("cpu", |usage| usage.cpu),
    ("throttled", |usage| usage.throttled),
    ("memory", |usage| usage.memory),
    ("io", |usage| usage.io),
];

/// What one walk saw.
#[derive(Debug)]
pub(super) struct View {
    pub(super) at: Mono,
    pub(super) took: Duration,
    /// Grows where another group is shown than before.
    pub(super) layout: u64,
    /// Groups found, and those left out beyond the limit; of the latter no more is known.
    pub(super) found: usize,
    pub(super) over: usize,
    /// Why the worst is not known: some were not looked at.
    pub(super) partial: Option<Arc<Fault>>,
    /// The worst share of throttled periods of any group.
    pub(super) worst: Option<f64>,
    pub(super) sets: [Vec<Shown>; SETS.len()],
}

impl View {
    pub(super) fn shown(&self, set: &str) -> &[Shown] {
        let index = SETS.iter().position(|(name, _)| *name == set);
        index.and_then(|index| self.sets.get(index)).map_or(&[], Vec::as_slice)
    }
}

/// Those of the groups that are shown, in the order of their names, given those that were.
pub(super) fn choose(groups: &[Shown], of: Of, before: &[Shown]) -> Vec<Shown> {
    let was_shown = |group: &Shown| before.binary_search_by(|b| b.name.cmp(&group.name)).is_ok();
    let mut ranked: Vec<&Shown> = groups.iter().collect();
    ranked.sort_by(|a, b| {
        let [x, y] = [of(&a.usage), of(&b.usage)].map(|value| value.unwrap_or(0.0));
        y.total_cmp(&x).then_with(|| a.name.cmp(&b.name))
    });
    let mut chosen: Vec<Shown> = Vec::with_capacity(STAYS);
    for (rank, group) in ranked.into_iter().enumerate().take(STAYS) {
        let used = of(&group.usage).is_some_and(|value| value > 0.0);
        if used && rank < TOP || was_shown(group) {
            chosen.push(group.clone());
        }
    }
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, cpu: f64) -> Shown {
        let usage = Usage { cpu: Some(cpu), ..Usage::default() };
        Shown { name: Arc::from(name), usage, events: [None; EVENTS.len()] }
    }

    fn names(chosen: &[Shown]) -> Vec<&str> {
        chosen.iter().map(|shown| &*shown.name).collect()
    }

    #[test]
    fn the_busiest_are_shown_and_stay_until_others_have_pushed_them_out() {
        let (_, cpu) = SETS[0];
        let mut groups: Vec<Shown> =
            (0..30).map(|n| group(&format!("g{n:02}"), f64::from(n))).collect();
        let first = choose(&groups, cpu, &[]);
        assert_eq!(first.len(), TOP);
        assert_eq!(names(&first)[0], "g20");
        // Three others become busy: they are shown, and the three that they push back still are.
        for group in &mut groups[..3] {
            group.usage.cpu = Some(100.0);
        }
        let second = choose(&groups, cpu, &first);
        assert_eq!(second.len(), TOP + 3);
        assert!(names(&second).contains(&"g00") && names(&second).contains(&"g20"));
        for group in &mut groups[3..9] {
            group.usage.cpu = Some(100.0);
        }
        let third = choose(&groups, cpu, &second);
        assert!(third.len() <= STAYS);
        assert!(!names(&third).contains(&"g20"));
        // What is idle is not shown, but stays where it was.
        for group in &mut groups {
            group.usage.cpu = Some(0.0);
        }
        assert_eq!(choose(&groups, cpu, &[]).len(), 0);
        assert!(!choose(&groups, cpu, &third).is_empty());
        // What is gone is gone.
        assert_eq!(choose(&[], cpu, &third), []);
    }
}
