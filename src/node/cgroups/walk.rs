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

/// Walks closer than this tell no rate.
const STEP_LEAST: Duration = Duration::from_millis(100);

/// What a walk knows of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    counts: Counts,
    leaf: bool,
}

pub(super) struct Walker {
    hierarchies: Vec<Hierarchy>,
    buffer: Vec<u8>,
    before: BTreeMap<String, Group>,
    before_at: Option<Mono>,
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
        for (path, group) in &groups {
            let usage = usage(self.before.get(path), group, seconds);
            worst = worst.map(|worst| worst.max(usage.throttled.unwrap_or(0.0)));
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
