//! Names who did it: what a finding says of those that were seen when a threshold was crossed.
//!
//! Judging itself is not touched: who did it is evidence beside the verdict, never part of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::State;
use crate::agent::captures::Reader;
use crate::gate::{Bound, Finding, Gate, Subject, Verdict, Why};
use crate::node::culprits::{Capture, Cause, Found, Resource};
use crate::time::{Mono, Now, Wall};

/// A verdict that turned before anybody could be named waits so long for a name.
const NAMED_WITHIN: Duration = Duration::from_secs(15);

/// A verdict that is on its way to the store without a name.
pub(super) struct Unnamed {
    gate: String,
    at: Wall,
    since: Mono,
}

impl State {
    /// How the processes are read; without it nobody is named.
    pub(in crate::agent) fn watch_processes(&mut self, reader: Reader) {
        self.captures.attach(reader);
    }

    pub(super) fn culprits(&mut self, found: Vec<Found>, now: Now) {
        self.captures.found(found, now);
    }

    /// A gate that turned is looked into even where no single second crossed its threshold.
    pub(super) fn look_into(&mut self, gate: &Gate, finding: &Finding, now: Now) {
        if !matches!(finding.verdict, Verdict::Warn | Verdict::Fail) {
            return;
        }
        let Some((series, resource, window)) = subject(gate, finding) else { return };
        if self.captures.newest(resource, now.mono.minus(window)).is_none()
            && self.captures.wants(resource, now.mono, true)
        {
            let instance = finding.worst.as_ref().map(|(_, target)| target.clone());
            let (value, threshold) = (finding.value, finding.threshold);
            self.captures.wish(resource, Cause { series, instance, value, threshold }, true);
        }
    }

    /// Adds who did it to the reason of what is red or yellow. True where somebody is named.
    pub(super) fn attribute(&self, gate: &Gate, finding: &mut Finding, now: Now) -> bool {
        if !matches!(finding.verdict, Verdict::Warn | Verdict::Fail) {
            return true;
        }
        let Some((_, resource, window)) = subject(gate, finding) else { return true };
        let Some(capture) = self.captures.newest(resource, now.mono.minus(window)) else {
            return false;
        };
        let text = capture.found.text();
        match &mut finding.reason {
            Some(reason) => {
                reason.text.push_str("; ");
                reason.text.push_str(&text);
            }
            none => *none = Some(Why::new("beyond_threshold", text)),
        }
        true
    }

    pub(super) fn name_later(&mut self, gate: &str, at: Now) {
        self.unnamed.push(Unnamed { gate: gate.to_owned(), at: at.wall, since: at.mono });
    }

    /// Verdicts that turned in the second before anybody could be named get their names in the
    /// store.
    pub(super) fn name_what_turned(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.unnamed);
        for unnamed in waiting {
            let place = self.plan.gates.iter().position(|gate| gate.id == unnamed.gate);
            let found = place.and_then(|at| {
                let (gate, finding) = (self.plan.gates.get(at)?, self.findings.get(at)?);
                let (_, resource, _) = subject(gate, finding)?;
                let window = now.mono.since(unnamed.since).saturating_add(Duration::from_secs(2));
                self.captures.newest(resource, now.mono.minus(window))?;
                finding.reason.as_ref().map(|reason| reason.text.clone())
            });
            match found {
                Some(text) => self.store.mend_verdict(&unnamed.gate, unnamed.at, &text),
                None if now.mono.since(unnamed.since) < NAMED_WITHIN => self.unnamed.push(unnamed),
                None => {}
            }
        }
    }

    /// What the agent saw of those who did it, the newest last.
    pub(super) fn captured(&self) -> Arc<VecDeque<Capture>> {
        self.captures.kept()
    }
}

/// The series of the node that a gate is about, its resource, and how far back it looks.
fn subject(gate: &Gate, finding: &Finding) -> Option<(&'static str, Resource, Duration)> {
    let criteria = gate.require.criteria();
    let of = |criterion: &&crate::gate::Criterion| {
        let Subject::Series(selection) = &criterion.subject else { return None };
        let series = selection.metric.series?;
        // What is judged by its newest sample may have been crossed long ago.
        let window = criterion.window().max(Duration::from_secs(900));
        Some((series, Resource::of(series)?, window))
    };
    // The criterion that decided, as far as its threshold tells.
    let decided = criteria.iter().find(|criterion| {
        let limits = [criterion.fails(), criterion.warn].map(|bound| bound.map(Bound::limit));
        finding.threshold.is_some() && limits.contains(&finding.threshold)
    });
    decided.and_then(of).or_else(|| criteria.iter().find_map(of))
}
