//! What waits to be written: the newest of what replaces itself, and bounded lists of the rest.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::{DoneRecheck, DueRecheck, EndedRound, StoredPoint, VerdictChange};
use crate::gate::Standing;
use crate::journey::Run;
use crate::time::Wall;

/// Points that may wait while the disk is away: about ten minutes of a busy node in 10 MiB.
pub(super) const POINTS: usize = 100_000;
/// Other entries of each list that may wait.
const ENTRIES: usize = 10_000;
/// Reports are large, and only the newest matter.
const REPORTS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) points: VecDeque<(Wall, StoredPoint)>,
    pub(super) standings: BTreeMap<String, Standing>,
    pub(super) changes: VecDeque<VerdictChange>,
    /// Texts for changes that are on disk already.
    pub(super) mended: VecDeque<(String, Wall, String)>,
    pub(super) progress: BTreeMap<Run, Value>,
    pub(super) ended: BTreeMap<Run, EndedRound>,
    pub(super) due: VecDeque<DueRecheck>,
    pub(super) rechecked: VecDeque<DoneRecheck>,
    pub(super) reports: VecDeque<(Wall, String, String)>,
    pub(super) marks: BTreeMap<String, String>,
    /// Entries that found no room, the oldest first.
    pub(super) dropped: u64,
}

impl Pending {
    pub(super) fn point(&mut self, wall: Wall, point: StoredPoint) {
        self.points.push_back((wall, point));
        self.dropped += trim(&mut self.points, POINTS);
    }

    /// One entry a gate, and the plan bounds the gates.
    pub(super) fn standing(&mut self, gate: &str, standing: Standing) {
        self.standings.insert(gate.to_owned(), standing);
    }

    pub(super) fn change(&mut self, change: VerdictChange) {
        self.changes.push_back(change);
        self.dropped += trim(&mut self.changes, ENTRIES);
    }

    pub(super) fn mend(&mut self, gate: &str, at: Wall, text: &str) {
        let waiting = |change: &&mut VerdictChange| change.gate == gate && change.at == at;
        match self.changes.iter_mut().find(waiting) {
            Some(change) => text.clone_into(&mut change.text),
            None => self.mended.push_back((gate.to_owned(), at, text.to_owned())),
        }
        // The change itself is there: what is lost is a name.
        trim(&mut self.mended, ENTRIES);
    }

    pub(super) fn progress(&mut self, run: &Run, progress: Value) {
        if self.ended.contains_key(run) {
            return;
        }
        self.progress.insert(run.clone(), progress);
        self.dropped += trim_map(&mut self.progress);
    }

    pub(super) fn end(&mut self, ended: EndedRound) {
        self.progress.remove(&ended.run);
        self.ended.insert(ended.run.clone(), ended);
        self.dropped += trim_map(&mut self.ended);
    }

    pub(super) fn due(&mut self, recheck: DueRecheck) {
        self.due.push_back(recheck);
        self.dropped += trim(&mut self.due, ENTRIES);
    }

    pub(super) fn rechecked(&mut self, recheck: DoneRecheck) {
        self.rechecked.push_back(recheck);
        self.dropped += trim(&mut self.rechecked, ENTRIES);
    }

    pub(super) fn report(&mut self, at: Wall, digest: String, json: String) {
        self.reports.push_back((at, digest, json));
        // Not counted: the newest says what the older ones did.
        trim(&mut self.reports, REPORTS);
    }

    pub(super) fn mark(&mut self, key: &str, value: &str) {
        self.marks.insert(key.to_owned(), value.to_owned());
        self.dropped += trim_map(&mut self.marks);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
            && self.standings.is_empty()
            && self.changes.is_empty()
            && self.mended.is_empty()
            && self.progress.is_empty()
            && self.ended.is_empty()
            && self.due.is_empty()
            && self.rechecked.is_empty()
            && self.reports.is_empty()
            && self.marks.is_empty()
    }

    /// Puts back what could not be written, before what has come since.
    pub(super) fn put_back(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        self.points.extend(newer.points);
        self.dropped += newer.dropped + trim(&mut self.points, POINTS);
        self.standings.extend(newer.standings);
        self.changes.extend(newer.changes);
        self.dropped += trim(&mut self.changes, ENTRIES);
        self.mended.extend(newer.mended);
        trim(&mut self.mended, ENTRIES);
        for (run, progress) in newer.progress {
            self.progress(&run, progress);
        }
        for (_, ended) in newer.ended {
            self.end(ended);
        }
        self.due.extend(newer.due);
        self.rechecked.extend(newer.rechecked);
        self.dropped += trim(&mut self.due, ENTRIES) + trim(&mut self.rechecked, ENTRIES);
        self.reports.extend(newer.reports);
        trim(&mut self.reports, REPORTS);
        self.marks.extend(newer.marks);
        self.dropped += trim_map(&mut self.marks);
    }
}

fn trim<T>(list: &mut VecDeque<T>, limit: usize) -> u64 {
    let mut dropped = 0;
    while list.len() > limit {
        list.pop_front();
        dropped += 1;
    }
    dropped
}

fn trim_map<K: Ord, V>(map: &mut BTreeMap<K, V>) -> u64 {
    let mut dropped = 0;
    while map.len() > ENTRIES {
        map.pop_first();
        dropped += 1;
    }
    dropped
}
