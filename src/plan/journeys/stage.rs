//! The stages of a journey: when each is due, who looks, and what it must show.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::usecase::Chosen;
use crate::confirm;
use crate::confirm::AnyConfirmer;
use crate::confirm::rule::{Behind, Spec as RuleSpec};
use crate::confirm::unseen::{Proof, Unseen};
use crate::journey::Stage;
use crate::journey::reconcile::Expectation;
use crate::journey::rule::Within;
use crate::send::AnySender;
use crate::spec::units::Period;
use crate::spec::{Diagnostics, Fields, Node, Span, decode};

/// How long a stage may take where the plan does not say.
const WITHIN: Duration = Duration::from_secs(60);
/// What a run of a rule may take, and the alert until it can be seen, where the plan does not say;
/// and then what is told of it.
const RUN: Duration = Duration::from_secs(30);
const TOLD: Duration = Duration::from_secs(60);
/// A stage is asked again so often at most, and no sooner than that after a round's end.
const RECHECKS_LIMIT: usize = 8;
const SOONEST: Duration = Duration::from_secs(1);
/// Looks are spread over `within`, within these bounds, so that neither a platform is flooded nor
/// a latency blurred.
const POLL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

#[derive(Clone)]
pub struct StagePlan {
    pub stage: Stage,
    pub confirmer: Option<Arc<dyn AnyConfirmer>>,
    /// Where it follows from a rule, as long as `give_up`.
    pub within: Duration,
    pub give_up: Duration,
    /// Where `within` follows from a rule: how much more than the rule says.
    pub by_rule: Option<Duration>,
    /// At `alerted`: that rule.
    pub rule: Option<Behind>,
    pub poll: Duration,
    pub expect: Expectation,
    /// How many things a round brings, at the stages that count things.
    pub exactly: u64,
    /// Within this after a thing came, its end must come.
    pub resolved: Option<Duration>,
    pub equals: Option<Equals>,
    /// How long after a round's end what it showed is asked for again.
    pub recheck: Vec<Duration>,
    spec: Value,
    hidden: Option<Value>,
}

/// The number that a reading should show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Equals {
    /// As many as were certainly sent.
    Sent,
    Number(f64),
}

impl StagePlan {
    /// Whether its clock can be told from what it shows.
    pub fn has_clock(&self) -> bool {
        self.expect.clock.is_some() || self.confirmer.as_ref().is_some_and(|seen| seen.stamps())
    }

    /// By when something is due, as the plan says it.
    pub fn due(&self) -> Within {
        match self.by_rule {
            Some(more) => Within::Rule(Some(Period(more))),
            None => Within::Period(Period(self.within)),
        }
    }

    /// Whether a wrong tenant is asked too.
    pub fn has_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    /// Who looks, and where; who must not see.
    pub(super) fn seen_by(&self) -> Value {
        json!([self.confirmer.as_ref().map(|seen| seen.kind()), self.spec, self.hidden])
    }

    pub(super) fn json(&self) -> Value {
        let mut body = json!({
            "within": self.due().to_string(),
            "give_up": Period(self.give_up).to_string(),
            "poll": Period(self.poll).to_string(),
            "expect": self.expect,
        });
        if let Some(map) = body.as_object_mut() {
            if let Some(confirmer) = &self.confirmer {
                map.insert(confirmer.kind().into(), self.spec.clone());
            }
            if !self.recheck.is_empty() {
                let after: Vec<_> =
                    self.recheck.iter().map(|after| Period(*after).to_string()).collect();
                map.insert("recheck".into(), json!(after));
            }
            if let Some(hidden) = &self.hidden {
                map.insert("must_not_see".into(), hidden.clone());
            }
            if self.stage.counts_things() {
                map.insert("exactly".into(), json!(self.exactly));
            }
            if let Some(resolved) = self.resolved {
                map.insert("resolved".into(), json!(Period(resolved).to_string()));
            }
            if let Some(rule) = &self.rule {
                map.insert("rule".into(), json!(rule.spec()));
            }
            match self.equals {
                Some(Equals::Sent) => drop(map.insert("equals".into(), json!("sent"))),
                Some(Equals::Number(number)) => drop(map.insert("equals".into(), json!(number))),
                None => {}
            }
        }
        json!({ self.stage.word(): body })
    }
}

pub(super) fn stage_list(
    node: &Node,
    usecase: Option<&Chosen>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(Node, StagePlan)>> {
    let Some(list) = node.as_list() else {
        diagnostics
            .error(node.span, "the stages are no list")
            .expected("a list such as `- stored: { opensearch: { ... }, within: 60s }`");
        return None;
    };
    let mut whole = Vec::with_capacity(list.len());
    let mut last: Option<Stage> = None;
    // How long an alert is waited for that is due when its rule says so.
    let mut ruled: Option<Duration> = None;
    let mut good = true;
    for item in list {
        let Some(plan) = stage(item, usecase, ruled, diagnostics) else {
            good = false;
            continue;
        };
        if let Some(last) = last
            && plan.stage <= last
        {
            diagnostics
                .error(item.span, format!("`{}` can't come after `{}`", plan.stage.word(), last.word()))
                .expected("each stage once, in the order sent, accepted, parsed, enriched, stored, alerted, notified, shown");
            good = false;
        }
        last = Some(plan.stage);
        ruled = plan.by_rule.map(|_| plan.give_up).or(ruled);
        whole.push((item.clone(), plan));
    }
    good.then_some(whole)
}

fn stage(
    node: &Node,
    usecase: Option<&Chosen>,
    ruled: Option<Duration>,
    diagnostics: &mut Diagnostics,
) -> Option<StagePlan> {
    let words: Vec<&str> = Stage::ALL.iter().map(|stage| stage.word()).collect();
    let mut outer = Fields::new(node, "a stage", diagnostics)?;
    let named = outer.take_one_of(&words, diagnostics);
    outer.finish(&[], diagnostics);
    let (word, key, mut body) = named?;
    let stage = Stage::parse(&word)?;
    // The alert that a use case expects gives the stages at which it is seen their defaults.
    let usecase = usecase.filter(|_| matches!(stage, Stage::Alerted | Stage::Notified));
    if let Some(usecase) = usecase {
        usecase.name_alert(&mut body);
    }
    let alert = usecase.and_then(|usecase| usecase.case.alert.as_ref());

    let table = confirm::kinds();
    let mut fields = Fields::new(&body, "a stage", diagnostics)?;
    let within = fields.take::<Within>("within", diagnostics);
    let give_up = fields.take::<Period>("give_up", diagnostics).map(|period| period.0);
    let default = alert.and_then(|alert| alert.within);
    let within = within.or(if ruled.is_some() { Some(Within::Rule(None)) } else { default });
    let rule = fields.take_node("rule");
    let Due { within, give_up, by_rule } =
        due(within, give_up, stage, ruled, body.span, diagnostics)?;
    let poll = fields
        .take::<Period>("poll", diagnostics)
        .map_or((within / 20).clamp(POLL.0, POLL.1), |period| period.0);
    let expect = fields.take::<Expectation>("expect", diagnostics).unwrap_or_default();
    if let Err(text) = expect.validate() {
        diagnostics.error(body.span, text);
    }
    let exactly = fields.take::<u64>("exactly", diagnostics);
    let resolved = fields.take::<Period>("resolved", diagnostics).map(|period| period.0);
    let equals = fields.take_node("equals");
    let hidden = fields.take_node("must_not_see");
    let again = fields.take_node("recheck");
    let looks = !matches!(stage, Stage::Sent | Stage::Accepted);
    let names: Vec<&str> = table.iter().map(|entry| entry.kind).collect();
    let kind = if looks { fields.take_one_of(&names, diagnostics) } else { None };
    fields.finish(&[], diagnostics);

    if give_up < within {
        diagnostics.error(
            body.span,
            format!("`give_up`, {}, is before `within`, {}", Period(give_up), Period(within)),
        );
    }
    if within.is_zero() {
        diagnostics.error(body.span, "nothing can arrive within 0s").expected("1ms or more");
    }
    if poll.is_zero() {
        diagnostics.error(body.span, "`poll` can't be 0s");
    }
    if exactly.is_some() && !stage.counts_things() {
        diagnostics
            .error(
                key.span,
                format!("`exactly` says nothing at `{word}`, where each event is counted"),
            )
            .expected("`exactly` at alerted, notified or shown");
    }
    let tells = matches!(stage, Stage::Alerted | Stage::Notified);
    if resolved.is_some() && !tells {
        diagnostics
            .error(key.span, format!("`resolved` says nothing at `{word}`"))
            .expected("`resolved` at alerted or notified");
    }
    let equals = match equals {
        None => None,
        Some(node) => Some(equals_of(&node, diagnostics)?),
    };
    let (confirmer, spec) = if looks {
        let (kind, _, node) = kind?;
        let entry = table.into_iter().find(|entry| entry.kind == kind)?;
        let (confirmer, spec) = (entry.compile)(&node, diagnostics)?;
        (Some(confirmer), spec)
    } else {
        (None, Value::Null)
    };
    if let (Some(_), true, Some(confirmer)) = (resolved, tells, &confirmer)
        && !confirmer.ends()
    {
        diagnostics
            .error(
                body.span,
                format!("`{}` does not show that something is resolved", confirmer.kind()),
            )
            .hint("leave `resolved` out, or see it another way");
    }
    let rule = match (by_rule, &confirmer) {
        (Some(_), Some(confirmer)) if stage == Stage::Alerted => {
            Some(behind(rule.as_ref(), &**confirmer, body.span, diagnostics)?)
        }
        _ => {
            if let Some(rule) = rule {
                diagnostics
                    .error(rule.span, "a rule is asked only for when its alert is due")
                    .expected("`within: rule` at alerted, or no `rule` here");
                return None;
            }
            None
        }
    };
    let recheck = match again {
        Some(node) => rechecks(&node, stage, confirmer.as_deref(), diagnostics)?,
        None => Vec::new(),
    };
    let (confirmer, hidden) = match (confirmer, hidden) {
        (confirmer, None) => (confirmer, None),
        (Some(confirmer), Some(node)) if !stage.counts_things() => {
            let (confirmer, spec) = must_not_see(confirmer, &node, diagnostics)?;
            (Some(confirmer), Some(spec))
        }
        (_, Some(node)) => {
            diagnostics
                .error(node.span, format!("`{word}` is no stage at which events are seen"))
                .expected("`must_not_see` at parsed, enriched or stored");
            return None;
        }
    };
    Some(StagePlan {
        stage,
        confirmer,
        within,
        give_up,
        by_rule,
        rule,
        poll,
        expect,
        exactly: exactly.or(alert.map(|alert| alert.exactly)).unwrap_or(1),
        resolved,
        equals,
        recheck,
        spec,
        hidden,
    })
}

/// When something is due, and when it is given up.
struct Due {
    within: Duration,
    give_up: Duration,
    by_rule: Option<Duration>,
}

/// `ruled` is how long an alert is waited for that is due when its rule says so.
fn due(
    within: Option<Within>,
    give_up: Option<Duration>,
    stage: Stage,
    ruled: Option<Duration>,
    at: Span,
    diagnostics: &mut Diagnostics,
) -> Option<Due> {
    let more = match (within, stage, ruled) {
        (Some(Within::Period(_)), Stage::Notified, Some(_)) => {
            diagnostics
                .error(
                    at,
                    "the alert is due when its rule says so, and what is told of it after that",
                )
                .expected("`within: rule + 60s`");
            return None;
        }
        (Some(Within::Period(Period(within))), ..) => {
            let give_up = give_up.unwrap_or(within * 3);
            return Some(Due { within, give_up, by_rule: None });
        }
        (None, ..) => {
            let give_up = give_up.unwrap_or(WITHIN * 3);
            return Some(Due { within: WITHIN, give_up, by_rule: None });
        }
        (Some(Within::Rule(more)), ..) => more.map(|more| more.0),
    };
    let (more, give_up) = match (stage, ruled, give_up) {
        (Stage::Alerted, _, Some(give_up)) => (more.unwrap_or(RUN), give_up),
        (Stage::Alerted, _, None) => {
            diagnostics
                .error(at, "a rule may say anything: how long a round waits at most is not said")
                .expected("`give_up: 30m` beside `within: rule`");
            return None;
        }
        (Stage::Notified, Some(ruled), give_up) => {
            let more = more.unwrap_or(TOLD);
            (more, give_up.unwrap_or(ruled.saturating_add(more * 3)))
        }
        _ => {
            diagnostics
                .error(at, format!("`{}` is due by no rule", stage.word()))
                .expected("`within: rule` at alerted, and then at notified");
            return None;
        }
    };
    Some(Due { within: give_up, give_up, by_rule: Some(more) })
}

/// The rule behind an alert.
fn behind(
    node: Option<&Node>,
    confirmer: &dyn AnyConfirmer,
    at: Span,
    diagnostics: &mut Diagnostics,
) -> Option<Behind> {
    let spec = match node {
        Some(node) => decode::<RuleSpec>(node, diagnostics)?,
        None => RuleSpec::default(),
    };
    match Behind::new(spec, confirmer) {
        Ok(behind) => Some(behind),
        Err(text) => {
            diagnostics.error(node.map_or(at, |node| node.span), text);
            None
        }
    }
}

/// When what a stage has shown is asked for again: ascending, each once.
fn rechecks(
    node: &Node,
    stage: Stage,
    confirmer: Option<&dyn AnyConfirmer>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Duration>> {
    let mut after: Vec<Duration> = match decode::<Vec<Period>>(node, diagnostics) {
        Some(periods) => periods.into_iter().map(|period| period.0).collect(),
        None => return None,
    };
    let Some(confirmer) = confirmer.filter(|_| !stage.counts_things()) else {
        diagnostics
            .error(node.span, format!("`{}` keeps no events", stage.word()))
            .expected("`recheck` at parsed, enriched or stored");
        return None;
    };
    if !confirmer.keeps() {
        diagnostics
            .error(
                node.span,
                format!("`{}` is read on and on, and can't be asked again", confirmer.kind()),
            )
            .hint("let a stage see by a store that is searched, and write `recheck` there");
        return None;
    }
    after.sort_unstable();
    after.dedup();
    if after.is_empty() || after.len() > RECHECKS_LIMIT || after.iter().any(|one| *one < SOONEST) {
        diagnostics
            .error(node.span, "`recheck` is no list of times after a round's end")
            .expected(format!("1 to {RECHECKS_LIMIT} of 1s or more, such as `[ 1h, 24h ]`"));
        return None;
    }
    Some(after)
}

/// Wraps a stage's way to see with that of a tenant that must see nothing.
fn must_not_see(
    seen: Arc<dyn AnyConfirmer>,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> Option<(Arc<dyn AnyConfirmer>, Value)> {
    let table = confirm::kinds();
    let names: Vec<&str> = table.iter().map(|entry| entry.kind).collect();
    let mut fields = Fields::new(node, "what a wrong tenant must not see", diagnostics)?;
    let proof = fields.take::<Proof>("proof", diagnostics);
    let kind = fields.take_one_of(&names, diagnostics);
    fields.finish(&[], diagnostics);
    let (kind, key, body) = kind?;
    let entry = table.into_iter().find(|entry| entry.kind == kind)?;
    let (hidden, spec) = (entry.compile)(&body, diagnostics)?;
    let mut json = json!({ hidden.kind(): spec });
    if let (Some(map), Some(proof)) = (json.as_object_mut(), &proof) {
        map.insert("proof".into(), json!(proof));
    }
    match Unseen::new(seen, hidden, proof) {
        Ok(unseen) => Some((Arc::new(unseen), json)),
        Err(text) => {
            diagnostics.error(key.span, text);
            None
        }
    }
}

fn equals_of(node: &Node, diagnostics: &mut Diagnostics) -> Option<Equals> {
    if node.as_str() == Some("sent") {
        return Some(Equals::Sent);
    }
    match node.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|n| n.is_finite()) {
        Some(number) => Some(Equals::Number(number)),
        None => {
            diagnostics.error(node.span, "`equals` is neither `sent` nor a number");
            None
        }
    }
}

/// Adds what every journey has without saying so: `sent`, and `accepted` where the way in
/// acknowledges.
pub(super) fn complete(
    declared: Vec<(Node, StagePlan)>,
    sender: &dyn AnySender,
    timeout: Duration,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<StagePlan>> {
    let mut stages = Vec::with_capacity(declared.len() + 2);
    for (item, plan) in declared {
        if plan.stage == Stage::Accepted && !sender.acknowledges() {
            diagnostics
                .error(
                    item.span,
                    format!("`{}` never acknowledges: it has no stage `accepted`", sender.kind()),
                )
                .hint("leave the stage out");
            return None;
        }
        stages.push(plan);
    }
    let implied = |stage| StagePlan {
        stage,
        confirmer: None,
        within: timeout,
        give_up: timeout,
        by_rule: None,
        rule: None,
        poll: POLL.0,
        expect: Expectation::default(),
        exactly: 1,
        resolved: None,
        equals: None,
        recheck: Vec::new(),
        spec: Value::Null,
        hidden: None,
    };
    for stage in [Stage::Sent, Stage::Accepted] {
        let there = stages.iter().any(|plan| plan.stage == stage);
        if !there && (stage == Stage::Sent || sender.acknowledges()) {
            stages.push(implied(stage));
        }
    }
    stages.sort_by_key(|plan| plan.stage);
    if stages.iter().all(|plan| plan.confirmer.is_none()) {
        diagnostics
            .error(node.span, "the journey looks nowhere: it has no stage that sees its events")
            .expected("at least one of parsed, enriched, stored, alerted, notified, shown");
        return None;
    }
    Some(stages)
}
