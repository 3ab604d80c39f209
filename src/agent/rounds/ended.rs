//! A round after its end: what comes then mends its tally, a minute later or a day, over a restart
//! too.

use std::sync::Arc;

use serde_json::Value;

use super::sides::Side;
use super::walking::{Round, Seen};
use super::{AFTERWATCH, AFTERWATCH_PACE, Hands, LOOK_TIMEOUT, ROUND_OF, clock, json};
use crate::agent::rechecks::Lacking;
use crate::agent::record::{Record, RoundNews};
use crate::journey::specimen::Specimen;
use crate::journey::tally::Tally;
use crate::journey::{Fate, Look, Stage};
use crate::spec::trace::Trace;
use crate::time::Mono;

impl Round<'_> {
    /// What it came to; `before`, where that had been told of already.
    pub(super) fn news(&self, before: Option<Tally>, specimen: Option<Specimen>) -> RoundNews {
        RoundNews::Ended {
            journey: self.journey.id.clone(),
            evidence: self.journey.evidence.clone(),
            at: self.ended.unwrap_or_else(clock::now),
            tally: self.tally(),
            before: before.map(Box::new),
            specimen: specimen.map(Box::new),
        }
    }

    /// Puts its end on disk with what it is evidence of, and, where a look back may still find more,
    /// what that needs to mend it.
    pub(super) fn keep_end(&mut self, tally: &Tally, hands: &Hands) {
        let at = self.ended.unwrap_or_else(clock::now);
        let asked = self.journey.stages.iter().filter(|plan| !plan.recheck.is_empty());
        let walk = &self.progress.own.walk;
        let mut asked = asked.map(|plan| walk.lacking(plan.stage));
        let mut stored = None;
        if self.kept.is_some() || asked.any(|seqs| !seqs.is_empty()) {
            let progress = json(&self.progress);
            let text: Arc<str> = progress.to_string().into();
            let events = usize::try_from(walk.count()).unwrap_or(usize::MAX);
            let evidence = self.journey.evidence.clone();
            let lacking = Lacking { at, events, evidence, progress: text.clone() };
            if hands.rechecks.keep(&self.run, lacking) {
                (self.kept, stored) = (Some(text), Some(progress));
            }
        }
        let mut tally = json(tally);
        if let Some(fields) = tally.as_object_mut() {
            fields.insert(ROUND_OF.to_owned(), Value::from(&*self.journey.evidence));
        }
        hands.store.end_round(&self.run, &self.journey.id, at, tally, stored);
    }

    /// What was seen of an ended round; a tally that is mended by it is told of. Nothing is awaited
    /// between what is known of the round and what is known then: its own task and a look back may
    /// both find something. None where nothing more is known of it: the last look back is done.
    async fn mend(&mut self, seen: Seen, hands: &Hands, specimen: bool) -> Option<u64> {
        self.tell_blind(&seen, hands).await;
        if let Some(mine) = &self.kept {
            let known = hands.rechecks.lacking(&self.run)?.progress;
            if !Arc::ptr_eq(mine, &known) {
                self.progress = serde_json::from_str(&known).ok()?;
                self.kept = Some(known);
            }
        }
        let before = self.tally();
        self.take_in(seen);
        let after = self.tally();
        let more = came(&after).saturating_sub(came(&before));
        if more > 0 || beside(&after) > beside(&before) {
            self.keep_end(&after, hands);
            let specimen = specimen.then(|| self.specimen(hands));
            let news = self.news(Some(before), specimen);
            let _ = hands.records.send(Record::Round(news)).await;
        }
        Some(more)
    }

    /// What a look back saw of events that had not come. Returns how many came after all.
    pub(super) async fn looked_back(
        &mut self,
        stage: Stage,
        began: Mono,
        mut look: Look,
        hands: &Hands,
    ) -> u64 {
        let lacking = self.progress.own.walk.lacking(stage);
        // What had been seen is no further copy where the store has moved it meanwhile.
        look.arrivals.retain(|arrival| arrival.seq.is_some_and(|seq| lacking.contains(&seq)));
        if look.arrivals.is_empty() {
            return 0;
        }
        let seen = Seen { side: Side::Own, stage, began, look, mark: None };
        self.mend(seen, hands, false).await.unwrap_or(0)
    }

    /// Whether something may still come: an event or thing that did not arrive, or of which
    /// nobody knows.
    pub(super) fn is_wanting(&self) -> bool {
        let absent = [Fate::Lost, Fate::Unknown, Fate::Inconclusive];
        let tally = self.progress.own.walk.tally();
        tally.stages.iter().any(|stage| absent.iter().any(|fate| stage.count(*fate) > 0))
    }

    /// Looks on after the end, and mends the tally when something comes: at a slow pace for what is
    /// wanting, and once more for what comes a second time, or to a wrong tenant, after all had been
    /// seen. `next` is when the next round is due.
    pub(super) async fn watch_on(&mut self, next: Mono, hands: &Hands) {
        let longest =
            self.journey.stages.iter().map(|stage| stage.give_up).max().unwrap_or_default();
        let until = Mono::now().plus(longest * AFTERWATCH);
        let pace = self.journey.stages.iter().map(|stage| stage.poll).max().unwrap_or(LOOK_TIMEOUT)
            * AFTERWATCH_PACE;
        while Mono::now() < until && self.is_wanting() {
            tokio::time::sleep(pace).await;
            for stage in self.journey.stages.iter().map(|plan| plan.stage) {
                if let Some(look) = self.look(Side::Own, stage, hands, &Trace::off()) {
                    let seen = look.await;
                    if self.mend(seen, hands, true).await.is_none() {
                        return;
                    }
                }
            }
        }
        let events = self.journey.stages.iter().filter(|plan| !plan.stage.counts_things());
        let given_up = self.progress.own.walk.began().plus(self.journey.give_up());
        let before = (self.journey.every / 4).min(LOOK_TIMEOUT);
        clock::sleep_until(given_up.min(next.minus(before))).await;
        for stage in events.map(|plan| plan.stage) {
            if let Some(look) = self.look(Side::Own, stage, hands, &Trace::off()) {
                let seen = look.await;
                if self.mend(seen, hands, true).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// How many arrived after they had been given up.
fn came(tally: &Tally) -> u64 {
    tally.stages.iter().map(|stage| stage.resurrected).fold(0, u64::saturating_add)
}

/// Further copies, and events that a wrong tenant saw.
fn beside(tally: &Tally) -> u64 {
    let stages = tally.stages.iter();
    let each = stages.flat_map(|stage| [stage.duplicate, stage.exposed.unwrap_or_default()]);
    each.fold(0, u64::saturating_add)
}
