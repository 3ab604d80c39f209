//! Whether what a criterion names can tell what it asks: a gate on what measures something else
//! would be open for ever, or green for nothing.

use serde_json::Value;

use super::Known;
use crate::catalogue::{Metric, journey as metric};
use crate::gate::{Criterion, Function, Subject};
use crate::journey::Stage;
use crate::plan::{Journey, StagePlan};
use crate::series::LabelNames;
use crate::spec::units::Period;
use crate::spec::{Diagnostics, Node, decode, one_of};

/// Whether the check measures the series.
pub(super) fn measures(
    id: &str,
    metric: &Metric,
    at: &Node,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some(check) = known.checks.iter().find(|check| *check.id == *id) else { return true };
    if check.yields(metric) {
        return true;
    }
    let series = metric.series.unwrap_or(metric.name);
    let own: Vec<&str> = check
        .metrics
        .iter()
        .filter_map(|metric| metric.series)
        .chain(["check.success", "check.duration"])
        .collect();
    diagnostics
        .error(at.span, format!("the check `{id}` does not measure `{series}`"))
        .expected(one_of(&own));
    false
}

/// Whether a stage of the journey, the named one where one is, asks what the series is made of.
pub(super) fn asks(
    id: &str,
    stage: Option<&str>,
    series: &'static Metric,
    at: &Node,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> bool {
    if *series == metric::FALSE_ALARMS || *series == metric::ALERT_TO_PERSON {
        return asks_whole(id, stage, series, at, known, diagnostics);
    }
    type Asks = fn(&StagePlan) -> bool;
    let (key, asks): (&str, Asks) = if *series == metric::VANISHED {
        ("recheck", |plan| !plan.recheck.is_empty())
    } else if *series == metric::EXPOSED {
        ("must_not_see", StagePlan::has_hidden)
    } else if *series == metric::FEED_AGE {
        ("expect: { fresh: ... }", |plan| plan.expect.fresh.is_some())
    } else if *series == metric::CLOCK_OFFSET {
        ("expect: { clock: ... }", StagePlan::has_clock)
    } else {
        return true;
    };
    let Some(journey) = journey(known, id) else { return true };
    let of = |plan: &&StagePlan| stage.is_none_or(|stage| plan.stage.word() == stage);
    if journey.stages.iter().filter(of).any(asks) {
        return true;
    }
    let name = series.series.unwrap_or(series.name);
    let stage = stage.and_then(Stage::parse).map_or("a stage", Stage::word);
    diagnostics
        .error(at.span, format!("the journey `{id}` does not measure `{name}`"))
        .hint(format!("write `{key}` at {stage}"));
    false
}

/// Whether the journey as a whole asks what the series is made of.
fn asks_whole(
    id: &str,
    stage: Option<&str>,
    series: &'static Metric,
    at: &Node,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some(journey) = journey(known, id) else { return true };
    let stage = stage.and_then(Stage::parse);
    let (asks, hint) = if *series == metric::FALSE_ALARMS {
        let seen = [Stage::Alerted, Stage::Notified];
        let watches = |own: &Stage| journey.watches_twin(*own) && stage.is_none_or(|at| at == *own);
        (seen.iter().any(watches), "write `must_not_alert` in the journey, and a stage that sees")
    } else {
        let here = stage.is_none_or(|stage| stage == Stage::Notified);
        (
            journey.tells_people() && here,
            "it is told at notified, of a journey that has alerted too",
        )
    };
    if !asks {
        let name = series.series.unwrap_or(series.name);
        diagnostics
            .error(at.span, format!("the journey `{id}` does not measure `{name}`"))
            .hint(hint);
    }
    asks
}

/// Where what fills a window is due more rarely than the window is long, there is nothing in it most of the
/// time: such a gate is judged now and open then.
pub(super) fn window(
    criterion: &Criterion,
    at: &Node,
    known: &Known<'_>,
    diagnostics: &mut Diagnostics,
) {
    let over = criterion.window();
    // Of targets taken together another one may have what this one lacks.
    if criterion.function == Function::Last || criterion.pooled || over.is_zero() {
        return;
    }
    let of = |id: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|own| own == id);
    let journeys = |wanted: &Option<String>| {
        let all = known.journeys.iter().filter(|own| of(&own.id, wanted));
        all.map(|own| (own.every, format!("the journey `{}`", own.id))).max()
    };
    let rarest = match &criterion.subject {
        Subject::Journey { journey, .. } => journeys(&Some(journey.clone())),
        Subject::Series(selection) => match LabelNames::of(selection.metric).check {
            Some("journey") => journeys(&selection.check),
            Some(_) => {
                let all = known.checks.iter().filter(|own| own.yields(selection.metric));
                let all = all.filter(|own| of(&own.id, &selection.check));
                all.map(|own| (own.every, format!("the check `{}`", own.id))).max()
            }
            // The node's own come with each of its seconds.
            None => None,
        },
    };
    let Some((every, what)) = rarest.filter(|(every, _)| *every > over) else { return };
    let (over, every) = (Period(over), Period(every));
    diagnostics
        .warn(
            at.span,
            format!("a window of {over} holds no attempt at times: {what} is due every {every}"),
        )
        .expected(format!("a window of {every} at least, better of several times that"));
}

/// `sent_by:` of a criterion: the ways in, of which the journey's must be one.
pub(super) fn sent_by(at: &Node, id: &str, known: &Known<'_>, diagnostics: &mut Diagnostics) {
    let Some(ways) = words(at, diagnostics) else { return };
    let Some(journey) = journey(known, id) else { return };
    let way = journey.sender.way();
    if !ways.iter().any(|own| own == way) {
        diagnostics
            .error(at.span, format!("the journey `{id}` sends by {way}"))
            .expected(format!("a journey that sends by {}", ways.join(" or ")));
    }
}

/// `of_kind:` of a criterion: what kind its check must be of.
pub(super) fn of_kind(at: &Node, id: &str, known: &Known<'_>, diagnostics: &mut Diagnostics) {
    let Some(kinds) = words(at, diagnostics) else { return };
    let Some(check) = known.checks.iter().find(|check| *check.id == *id) else { return };
    let kind = check.probe.kind();
    if !kinds.iter().any(|own| own == kind) {
        diagnostics
            .error(at.span, format!("the check `{id}` is of kind {kind}"))
            .expected(format!("a check of kind {}", kinds.join(" or ")));
    }
}

fn journey<'a>(known: &'a Known<'_>, id: &str) -> Option<&'a Journey> {
    known.journeys.iter().find(|journey| *journey.id == *id)
}

/// One word, or a list of them.
fn words(at: &Node, diagnostics: &mut Diagnostics) -> Option<Vec<String>> {
    match decode::<Value>(at, diagnostics)? {
        Value::String(word) => Some(vec![word]),
        _ => decode::<Vec<String>>(at, diagnostics),
    }
}
