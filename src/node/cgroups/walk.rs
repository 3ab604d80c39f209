//! One walk over the trees, and what was used since the one before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::files::{Counts, Hierarchy};
use super::name;
use super::shown::{SETS, Shown, Usage, View, choose};
use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// Groups read in one walk.
pub(super) const GROUPS_LIMIT: usize = 2048;

/// Groups deeper than this are none of a service or a container.
const DEPTH_LIMIT: usize = 12;

/// A group that had anything to run in fewer periods (of 100 ms, as a rule) is too seldom active
/// for its throttling to be anybody's bottleneck.
const PERIODS_LEAST: u64 = 10;

/// Of hundreds of groups one is throttled at any time, which is nobody's bottleneck: a group counts as
/// throttled as far as it was over the last minutes too, of which this is half (kubernetes-mixin looks
/// at five).
const HALF: Duration = Duration::from_secs(150);

/// Walks closer than this tell no rate.
const STEP_LEAST: Duration = Duration::from_millis(100);

/// What a walk knows of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    counts: Counts,
    leaf: bool,
    /// Periods, and those throttled, at the beginning of the two halves.
    marks: [Option<(u64, u64)>; 2],
}

impl Group {
    fn quota(&self) -> Option<(u64, u64)> {
        self.counts.periods.zip(self.counts.throttled)
    }

    /// Takes over the marks of the walk before; a new half begins where it is time to.
    fn mark(&mut self, before: Option<&Self>, turns: bool) {
        let now = self.quota();
        self.marks = match before.map(|before| before.marks) {
            // One made anew has counted from 0.
            Some([Some(first), second]) if now.is_some_and(|now| now.0 >= first.0) => {
                if turns {
                    [second, now]
                } else {
                    [Some(first), second]
                }
            }
            _ => [now; 2],
        };
    }

    /// The share of its periods in which it was throttled since the first mark.
    fn throttled_lately(&self) -> Option<f64> {
        let ((before, throttled_before), (now, throttled)) = self.marks[0].zip(self.quota())?;
        let periods = now.checked_sub(before).filter(|periods| *periods > 0)?;
        Some(throttled.checked_sub(throttled_before)? as f64 / periods as f64)
    }
}

pub(super) struct Walker {
    hierarchies: Vec<Hierarchy>,
    buffer: Vec<u8>,
    before: BTreeMap<String, Group>,
    before_at: Option<Mono>,
    /// When the second half began.
    marked_at: Mono,
    sets: [Vec<Shown>; SETS.len()],
    layout: u64,
}

impl Walker {
    pub(super) fn new(hierarchies: Vec<Hierarchy>) -> Self {
        Self {
            hierarchies,
            buffer: Vec::new(),
            before: BTreeMap::new(),
            before_at: None,
            marked_at: Mono::default(),
            sets: Default::default(),
            layout: 0,
        }
    }

    pub(super) fn walk(&mut self) -> View {
        let at = Mono::now();
        let mut groups = BTreeMap::new();
        let (mut over, mut unread) = (0, None);
        for hierarchy in &self.hierarchies {
            match walked(hierarchy, &mut self.buffer, &mut groups) {
                Ok(left_out) => over = over.max(left_out),
                Err(error) => unread = Some((hierarchy.root.clone(), error)),
            }
        }
        let took = Mono::now().since(at);
        let seconds = self.before_at.map(|before| at.since(before));
        let seconds = seconds.filter(|span| *span >= STEP_LEAST).map(|span| span.as_secs_f64());

        let mut shown = Vec::with_capacity(groups.len());
        let mut names = BTreeSet::new();
        // Where no group has a quota nothing is throttled, and that is known.
        let mut worst = self.before_at.map(|_| 0.0f64);
        let turns = at.since(self.marked_at) >= HALF;
        if turns {
            self.marked_at = at;
        }
        for (path, group) in &mut groups {
            let before = self.before.get(path);
            group.mark(before, turns);
            let usage = usage(before, group, seconds);
            let lately = group.throttled_lately().unwrap_or(0.0);
            worst = worst.map(|worst| worst.max(usage.throttled.unwrap_or(0.0).min(lately)));
            let Some(mut name) = name::name(path, group.leaf) else { continue };
            if names.contains(&name) {
                name = name::longer(path, &name);
            }
            if names.insert(name.clone()) {
                let events = group.counts.events;
                shown.push(Shown { name: Arc::from(name), usage, events });
            }
        }
        let mut changed = self.layout == 0;
        for (set, (_, of)) in self.sets.iter_mut().zip(SETS) {
            let chosen = choose(&shown, of, set);
            changed |= !chosen.iter().map(|shown| &shown.name).eq(set.iter().map(|s| &s.name));
            *set = chosen;
        }
        self.layout += u64::from(changed);
        let found = groups.len();
        self.before = groups;
        self.before_at = Some(at);
        let sets = self.sets.clone();
        let partial = match (unread, over) {
            (Some((root, error)), _) => {
                let text = format!("{} can't be listed: {error}", root.display());
                Some(Fault::new(FaultCode::Unreadable, text))
            }
            (None, 0) => None,
            (None, over) => {
                let text = format!(
                    "of the control groups {over} are left out, one of which may be throttled"
                );
                Some(Fault::new(FaultCode::Unsupported, text))
            }
        };
        let partial = partial.map(Arc::new);
        View { at, took, layout: self.layout, found, over, partial, worst, sets }
    }
}

/// Reads a tree, what is near its root first, and returns how many groups were left out for the
/// limit; below those nothing is looked for. A tree whose root can't be listed is none without groups.
fn walked(
    hierarchy: &Hierarchy,
    buffer: &mut Vec<u8>,
    groups: &mut BTreeMap<String, Group>,
) -> std::io::Result<usize> {
    let mut left_out = 0;
    let mut queue = VecDeque::from([(String::new(), 0)]);
    while let Some((path, depth)) = queue.pop_front() {
        let folder = hierarchy.root.join(&path);
        let children = match (!is_leaf(&folder)).then(|| std::fs::read_dir(&folder)) {
            Some(Err(error)) if path.is_empty() => return Err(error),
            children => children.into_iter().flatten().flatten().flatten(),
        };
        let children = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // Names that are no text are nobody's service.
        let names = children.filter_map(|entry| entry.file_name().into_string().ok());
        let mut leaf = true;
        for name in names {
            leaf = false;
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            let known = groups.contains_key(&below);
            if depth < DEPTH_LIMIT && (known || groups.len() < GROUPS_LIMIT) {
                groups.entry(below.clone()).or_insert(Group { leaf: true, ..Group::default() });
                queue.push_back((below, depth + 1));
            } else {
                left_out += 1;
            }
        }
        if let Some(group) = groups.get_mut(&path) {
            group.leaf &= leaf;
            hierarchy.read(&folder, buffer, &mut group.counts);
        }
    }
    Ok(left_out)
}

/// Whether no folder is in it, which is cheaper to ask than to list its files: a folder has two links, and
/// one from each folder in it (kernfs_refresh_inode; where a filesystem counts none, it says 1).
fn is_leaf(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|folder| folder.nlink() == 2)
}

/// What was used since the walk before; a group made anew has counted from 0 and is left out.
fn usage(before: Option<&Group>, now: &Group, seconds: Option<f64>) -> Usage {
    let now = &now.counts;
    let before = before.map(|group| &group.counts);
    let grown = |of: fn(&Counts) -> Option<u64>| of(now)?.checked_sub(of(before?)?);
    let rate = |grown: Option<u64>| Some(grown? as f64 / seconds?);
    let periods = grown(|counts| counts.periods).filter(|periods| *periods >= PERIODS_LEAST);
    let throttled = grown(|counts| counts.throttled);
    Usage {
        cpu: rate(grown(|counts| counts.cpu)).map(|rate| rate * 1e-9),
        throttled: periods
            .zip(throttled)
            .map(|(periods, throttled)| (throttled as f64 / periods as f64).min(1.0)),
        memory: now.memory.map(|bytes| bytes as f64),
        io: rate(grown(|counts| counts.io)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(periods: u64, throttled: u64) -> Group {
        let counts =
            Counts { periods: Some(periods), throttled: Some(throttled), ..Counts::default() };
        Group { counts, ..Group::default() }
    }

    /// Walks a quarter of a minute apart, with so many of 150 periods throttled: what each says by itself,
    /// and what counts.
    fn walked(throttled: impl Fn(u64) -> u64) -> Vec<(f64, f64)> {
        let (mut before, mut sum) = (group(0, 0), 0);
        before.mark(None, false);
        let mut said = Vec::new();
        for walk in 1..=60u64 {
            sum += throttled(walk);
            let mut now = group(walk * 150, sum);
            now.mark(Some(&before), walk % 10 == 0);
            let own = usage(Some(&before), &now, Some(15.0)).throttled.unwrap();
            said.push((own, own.min(now.throttled_lately().unwrap())));
            before = now;
        }
        said
    }

    #[test]
    fn a_group_that_is_throttled_now_and_then_is_not_one_that_is_throttled() {
        let now_and_then = walked(|walk| if walk % 20 == 0 { 150 } else { 0 });
        assert!(now_and_then.iter().any(|(own, _)| *own == 1.0));
        assert!(now_and_then.iter().all(|(_, counts)| *counts <= 0.1), "{now_and_then:?}");
        // One that begins to be throttled counts so after five minutes, whatever went before.
        let always = walked(|walk| if walk > 30 { 150 } else { 0 });
        assert!(always.iter().take(30).all(|(_, counts)| *counts == 0.0), "{always:?}");
        assert!(always.iter().skip(50).all(|(_, counts)| *counts == 1.0), "{always:?}");
        // And as soon as it is not any more, it does not.
        let ended = walked(|walk| if walk <= 30 { 150 } else { 0 });
        assert!(ended.iter().take(30).all(|(_, counts)| *counts == 1.0), "{ended:?}");
        assert!(ended.iter().skip(30).all(|(_, counts)| *counts == 0.0), "{ended:?}");
    }

    #[test]
    fn a_group_that_is_made_anew_begins_anew() {
        let mut before = group(1000, 1000);
        before.mark(None, false);
        let mut now = group(20, 1);
        now.mark(Some(&before), false);
        assert_eq!(now.throttled_lately(), None);
        let mut later = group(40, 11);
        later.mark(Some(&now), true);
        assert_eq!(later.throttled_lately(), Some(0.5));
    }
}
