//! What a plan says of a journey's events, beside what they are.

use std::time::Duration;

use crate::journey::event::{EventSpec, Events, FIRST_SEQ, RUN_LEN, WayIn};
use crate::spec::units::{Period, Size};
use crate::spec::{Diagnostics, Node};
use crate::time::Wall;

const DAY: Duration = Duration::from_secs(86_400);
/// Events of a round that are rendered to know how large they are.
const SAMPLED: u64 = 64;

/// Events that are written in the plan.
pub(super) fn plain(
    at: &Node,
    spec: &EventSpec,
    way_in: WayIn,
    diagnostics: &mut Diagnostics,
) -> Option<Events> {
    if !spec.vars.is_empty() {
        diagnostics.error(at.span, "`vars` are those of a use case, and none is named").hint(
            "name it by `usecase`; variables of the plan stand under `vars` at its top level",
        );
        return None;
    }
    match Events::over(spec, way_in) {
        Ok(events) => Some(events),
        Err(text) => {
            diagnostics.error(at.span, text);
            None
        }
    }
}

/// A way in that writes events down by itself takes no word on how, nor how long they are then.
pub(super) fn own_format(events: &Node, kind: &str, diagnostics: &mut Diagnostics) -> Option<()> {
    let mut right = true;
    for key in ["format", "header", "sizes", "sweep"] {
        let Some(at) = events.get(key) else { continue };
        right = false;
        diagnostics
            .error(at.span, format!("`{kind}` has a format of its own: `{key}` has no use here"))
            .hint("leave it out; {pad:N} in the message makes an event longer");
    }
    right.then_some(())
}

/// Synthetic traffic is paid for like any other: by the event, by the gigabyte, in disks.
pub(super) fn within_budget(
    all: &[Option<&Events>],
    every: Duration,
    budget: Size,
    node: &Node,
    diagnostics: &mut Diagnostics,
) {
    let run = "a".repeat(RUN_LEN).into();
    let (mut round, mut count) = (0.0, 0);
    for events in all.iter().flatten() {
        let sampled = events.count().min(SAMPLED);
        let bytes = (0..sampled)
            .map(|nth| FIRST_SEQ + nth * events.count() / sampled)
            .map(|seq| events.render(&run, "budget", seq, Wall::default()).payload.len() as f64)
            .sum::<f64>();
        round += bytes / sampled.max(1) as f64 * events.count() as f64;
        count += events.count();
    }
    let day = round * DAY.as_secs_f64() / every.as_secs_f64().max(1e-3);
    if day > budget.0 as f64 {
        diagnostics
            .error(
                node.span,
                format!(
                    "{} events of about {:.0} B every {} are {:.1} MB a day, more than the budget \
                     of {budget}",
                    count,
                    round / count.max(1) as f64,
                    Period(every),
                    day / 1e6,
                ),
            )
            .hint("send fewer, or less often, or raise `budget`; volume is proven by `load`");
    }
}
